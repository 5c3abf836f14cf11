"""Split conformal intervals of predictions, calibrated on the validation images, and their coverage of test images.

Vovk et al., "Algorithmic Learning in a Random World", 2005; Lei et al., "Distribution-free predictive inference for
regression", 2018. An interval of level 0.9 covers at least 90 % of new images if they are like the validation images.
Here it is slightly optimistic, because the validation images also selected the epoch of the model, and it varies more
than their number suggests, because images of one patient are alike. It promises nothing for a single grade or for
changed images, so both are measured.
"""

import math

import numpy as np
import pandas as pd

from insightr_nb.analysis.evaluation import nearest_distances
from insightr_nb.analysis.inference import Claim, effect, over_patients
from insightr_nb.analysis.loaded_run import LoadedRun
from insightr_nb.analysis.metrics import rounded_grades, uncertainty
from insightr_nb.data.folds import fold_split
from insightr_nb.data.loading import Subset
from insightr_nb.errors import RunError
from insightr_nb.files import display_path

LEVEL = 0.9  # of the intervals
TOLERATED = 0.85  # the claims say that more than this share is covered: `LEVEL` itself is missed half of the time
SAME, SCALED, BY_GRADE = "the same width", "scaled by the spread", "by predicted grade"
UNCHANGED = "unchanged"
BEFORE = "before a change"  # the images that are changed, unchanged

# -- calibration ------------------------------------------------------------------------------------------------------


def calibration(run: LoadedRun) -> pd.DataFrame:
    """Predictions of the validation images of the run's fold, every image once.

    Uses the stored distances of the run, or runs the network where an older version evaluated it.

    Args:
        run: The run.

    Returns:
        Columns target (the original label, also where continuous ones were drawn for the training), prediction and
        spread (of the labels).

    Raises:
        RunError: For a run imported from a zip without the stored distances.
    """
    stored, grades = run.nearest_of("validation"), run.store.grades
    if stored is not None:
        distances, targets = stored
        targets = np.rint(targets) if grades else targets  # labels are drawn from c - 0.5 to c + 0.5
    elif run.store.partial:
        raise RunError(
            f"run {display_path(run.path)} has neither its validation images nor their distances, because an older "
            "version exported it. Run notebook 03 on the original run again, where it was trained, and export that"
        )
    else:
        rows = np.unique(fold_split(run.store, run.settings.data, run.settings.fold).validation)
        targets = run.store.table["label"].to_numpy(float)[rows]
        distances = nearest_distances(run.network, Subset(run.store.images, rows, targets, rows))
    predictions, spreads = _predicted(run, distances)
    return pd.DataFrame({"target": np.array(targets, float), "prediction": predictions, "spread": spreads})


def _predicted(run: LoadedRun, distances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Prediction and spread of the labels, (n,) each, from squared distances of the nearest patches (n, m)."""
    weights = run.similarity(distances).astype(float) * run.importance
    return weights @ run.labels / weights.sum(1), uncertainty(weights, run.labels)


def quantile(residuals: np.ndarray, level: float = LEVEL) -> float:
    """Conformal quantile: the k-th smallest of n residuals, k = ceil((n + 1) * level); infinite if k > n.

    Example:
        >>> quantile(np.arange(1, 20), level=0.9)
        18.0
        >>> quantile(np.arange(1, 9), level=0.9)
        inf
    """
    k = math.ceil(round((len(residuals) + 1) * level, 9))  # 0.9 has no exact binary fraction
    return float(np.sort(residuals)[k - 1]) if k <= len(residuals) else math.inf


def half_widths(
    known: pd.DataFrame, predictions: np.ndarray, spreads: np.ndarray, run: LoadedRun
) -> dict[str, np.ndarray]:
    """Half the width of the interval of each image, by method.

    Args:
        known: Result of `calibration`.
        predictions: (N,).
        spreads: (N,), spreads of the labels.
        run: The run, for the scale of its labels.

    Returns:
        (N,) for each of `SAME`: quantile of the absolute residuals; `SCALED`: of the residuals divided by the spread,
        times the spread of the image; and, if the labels are grades, `BY_GRADE`: of the residuals of the validation
        images with the same rounded prediction (Mondrian), infinite with fewer than nine of them.
    """
    residuals = np.abs(known["prediction"] - known["target"]).to_numpy()
    of_known, of_these = (np.maximum(values, 1e-6) for values in (known["spread"].to_numpy(), spreads))
    found = {
        SAME: np.full(len(predictions), quantile(residuals)),
        SCALED: of_these * quantile(residuals / of_known),
    }
    if run.store.grades:
        grades, grades_of_known = (rounded_grades(p, run.store.scale) for p in (predictions, known["prediction"]))
        by_grade = {grade: quantile(residuals[grades_of_known == grade]) for grade in np.unique(grades)}
        found[BY_GRADE] = np.array([by_grade[grade] for grade in grades])
    return found


# -- coverage ---------------------------------------------------------------------------------------------------------


def coverage(run: LoadedRun, changed: pd.DataFrame) -> pd.DataFrame:
    """Intervals of all test images, and of some under small changes of the image.

    Args:
        run: The run.
        changed: Result of `stability.measure`, for the predictions of changed images.

    Returns:
        One row per image, change (`UNCHANGED` or a change of `stability`) and method: image_id, patient_id,
        change, method, target, grade (NaN if labels are not grades), prediction, low and high (both clipped to the
        label range), covered (0 or 1), width, and also_changed (whether the image is among the changed ones).

    Raises:
        RunError: As for `calibration`.
    """
    known, scale = calibration(run), run.store.scale
    tested = run.predictions.assign(patient_id=run.patients)
    plain = _predicted(run, np.min(run.distances, axis=(2, 3)))
    by_change = {UNCHANGED: pd.DataFrame(dict(zip(("prediction", "spread"), plain, strict=True)), tested["image_id"])}
    by_change |= {change: part.set_index("image_id") for change, part in changed.groupby("change", sort=False)}
    parts = []
    for change, predicted in by_change.items():
        table = tested.set_index("image_id").loc[predicted.index]
        predictions, spreads = predicted["prediction"].to_numpy(float), predicted["spread"].to_numpy(float)
        for method, half in half_widths(known, predictions, spreads, run).items():
            low, high = (np.clip(predictions + side * half, scale.minimum, scale.maximum) for side in (-1, 1))
            target = table["target"].to_numpy(float)
            columns = {
                "image_id": table.index.to_numpy(),
                "patient_id": table["patient_id"].to_numpy(),
                "change": change,
                "method": method,
                "target": target,
                "grade": target if run.store.grades else np.nan,
                "prediction": predictions,
                "low": low,
                "high": high,
                "covered": ((low <= target) & (target <= high)).astype(float),
                "width": high - low,
                "also_changed": table.index.isin(changed["image_id"]),
            }
            parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def groups(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Rows of `coverage` by group: all unchanged images, each grade, the images to be changed, and each change."""
    plain = rows[rows["change"] == UNCHANGED]
    grades = {f"grade {grade:g}": part for grade, part in plain.groupby("grade")}
    changes = {change: part for change, part in rows.groupby("change", sort=False) if change != UNCHANGED}
    before = {BEFORE: plain[plain["also_changed"]]} if changes else {}
    return {"all": plain, **grades, **before, **changes}


def coverage_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Summarise the coverage, with 95 % intervals over patients.

    Args:
        rows: Result of `coverage`, of one fold or of several with a column fold.

    Returns:
        Index (group, method), see `groups`; columns images (of each fold, added up), coverage, coverage low, coverage
        high and width (mean, in the units of the labels).
    """
    table = {}
    for group, own in groups(rows).items():
        for method, part in own.groupby("method", sort=False):
            found = over_patients(part["covered"], part["patient_id"])
            interval = {"coverage": found.mean, "coverage low": found.low, "coverage high": found.high}
            table[group, method] = {"images": len(part), **interval, "width": part["width"].mean()}
    frame = pd.DataFrame.from_dict(table, orient="index").astype({"images": int})
    return frame.rename_axis(["group", "method"])


def coverage_claims(rows: pd.DataFrame, held_out_ratio: float = 0.0) -> list[Claim]:
    """Claims that the interval of `SAME` width covers enough: of all images, of every grade, and of changed images.

    "Enough" is above `TOLERATED`.

    Args:
        rows: Result of `coverage`, of one fold or of several with a column fold.
        held_out_ratio: n_validation / n_training of the folds.
    """
    parts = groups(rows[rows["method"] == SAME])
    plain = parts.pop("all")
    parts.pop(BEFORE, None)
    grades = {name: part for name, part in parts.items() if name.startswith("grade ")}
    changes = {name: part for name, part in parts.items() if name not in grades}
    claims = []
    for what, chosen in (
        ("the test images", {f"mean width {plain['width'].mean():.2f}": plain}),
        ("the test images of every grade", grades),
        ("the test images after every small change", changes),
    ):
        if chosen:
            effects = tuple(effect(p["covered"], p, TOLERATED, held_out_ratio) for p in chosen.values())
            shares = (f"{name}: {e[0].text('.1%')}" for name, e in zip(chosen, effects, strict=True))
            text = f"The conformal {LEVEL:.0%} interval covers more than {TOLERATED:.0%} of {what}"
            claims.append(Claim(text, effects, "; ".join(shares)))
    return claims
