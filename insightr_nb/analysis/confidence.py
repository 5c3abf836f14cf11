"""Scores of uncertainty against the error: correlation, correlation given the prediction, and referral to a human.

A score is needed only if it says more than the prediction itself, so trivial scores, which are functions of the
prediction, are measured beside the others. In all scores, larger means less certain.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from insightr_nb.analysis.inference import Claim, effect, over_patients
from insightr_nb.analysis.loaded_run import LoadedRun
from insightr_nb.analysis.metrics import uncertainty
from insightr_nb.runs import Run

SPREAD, FOLDS, DISTANCE = "spread of the labels", "spread over the folds", "distance to the nearest prototype"
MIDDLE, GRADE = "nearness to the middle", "distance to the nearest grade"
TRIVIAL = (MIDDLE, GRADE)  # functions of the prediction
SCORES = (SPREAD, FOLDS, DISTANCE, *TRIVIAL)
CHANCE, BEST = "chance", "best possible"
REFERRED = 0.2  # share of the images referred to a human, in the table and the claims
_FEWEST = 3  # finished folds for a spread over the folds

# -- one run ----------------------------------------------------------------------------------------------------------


def certainty(run: LoadedRun) -> pd.DataFrame:
    """Scores of uncertainty of every test image, from the files of the run.

    The spread over the folds is the standard deviation of the predictions of all finished folds, so it is the same for
    each of them.

    Args:
        run: The run.

    Returns:
        Columns image_id, patient_id, target, prediction, error (absolute), and one per score of `SCORES`: standard
        deviation of the prototype labels weighted by the contributions; standard deviation of the predictions over the
        folds, NaN with fewer than three finished folds; squared distance to the nearest prototype that contributes;
        minus the distance of the prediction to the middle of the label range; and its distance to the nearest grade,
        NaN for labels that are not grades.
    """
    table, scale = run.predictions, run.store.scale
    predictions = table["prediction"].to_numpy(float)
    nearest = np.min(run.distances, axis=(2, 3))[:, run.importance > 0]  # (N, m)
    return pd.DataFrame(
        {
            "image_id": table["image_id"],
            "patient_id": run.patients,
            "target": table["target"],
            "prediction": predictions,
            "error": np.abs(predictions - table["target"]),
            SPREAD: uncertainty(run.weights, run.labels),
            FOLDS: spread_over_folds(run.run.folds(), table["image_id"]),
            DISTANCE: nearest.min(1),
            MIDDLE: -np.abs(predictions - (scale.minimum + scale.maximum) / 2),
            GRADE: np.abs(predictions - np.rint(predictions)) if run.store.grades else np.nan,
        }
    )


def spread_over_folds(folds: Sequence[Run], image_ids: Sequence[str]) -> np.ndarray:
    """Standard deviation (n - 1) of the folds' predictions of each image: (N,); NaN for fewer than three folds.

    Args:
        folds: Finished runs, such as `Run.folds`.
        image_ids: (N,). An image that a fold did not predict is NaN.
    """
    if len(folds) < _FEWEST:
        return np.full(len(image_ids), np.nan)
    tables = [fold.table("predictions.csv").set_index("image_id")["prediction"] for fold in folds]
    return np.std([table.reindex(image_ids).to_numpy(float) for table in tables], axis=0, ddof=1)


# -- measures of a score ----------------------------------------------------------------------------------------------


def risk(errors: np.ndarray, scores: np.ndarray, kept: np.ndarray | float) -> np.ndarray | float:
    """Risk-coverage curve: MAE of the most certain images (Geifman and El-Yaniv, NeurIPS 2017).

    Args:
        errors: (N,) absolute errors.
        scores: (N,) uncertainties. Ties are kept in the order of the images.
        kept: Shares of the images, above 0. A share between two images takes a part of the less certain one.

    Returns:
        MAE, in the shape of `kept`.

    Example:
        >>> risk(np.array([1.0, 0, 3, 0]), np.array([0.2, 0.1, 0.9, 0.3]), np.array([0.5, 0.75, 1])).round(3).tolist()
        [0.5, 0.333, 1.0]
    """
    sums = np.concatenate([[0], np.asarray(errors, float)[np.argsort(scores, kind="stable")].cumsum()])
    count = np.asarray(kept) * len(errors)
    return np.interp(count, np.arange(len(sums)), sums) / count


def area(errors: np.ndarray, scores: np.ndarray) -> float:
    """Area under the risk-coverage curve (AURC; Geifman et al., ICLR 2019), the mean over all numbers of kept images.

    errors, scores: (N,). By chance it is the MAE.

    Example:
        >>> round(area(np.array([3.0, 0, 0]), np.array([0.9, 0.1, 0.2])), 3)
        0.333
    """
    return float(risk(errors, scores, np.arange(1, len(errors) + 1) / len(errors)).mean())


def partial_correlation(scores: np.ndarray, errors: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Spearman's correlation of each score and the error after the ranks are regressed on other columns.

    Args:
        scores: (N, s).
        errors: (N,).
        given: (N, g) columns to control for; g = 0 gives the plain correlation.

    Returns:
        (s,); NaN for a score that has no variance left.
    """
    ranks = rankdata(np.column_stack([scores, errors]), axis=0)
    design = np.column_stack([np.ones(len(errors)), given])
    left = ranks - design @ np.linalg.lstsq(design, ranks)[0]
    size = np.sqrt(np.square(left).sum(0))
    left = left / np.where(size > 1e-6 * len(errors), size, np.nan)
    return left[:, :-1].T @ left[:, -1]


def functions_of_prediction(predictions: np.ndarray, trivial: np.ndarray, pieces: int = 8) -> np.ndarray:
    """Columns whose linear combinations are the functions of the prediction that `measures` controls for.

    Piecewise linear functions of its rank and of the ranks of the trivial scores. A single straight line is not enough:
    the error rises and falls between each two grades.

    Args:
        predictions: (N,).
        trivial: (N, t) trivial scores.
        pieces: Number of pieces, with as many images each.

    Returns:
        (N, pieces + t).
    """
    ranks = rankdata(predictions)[:, None]
    hinges = np.maximum(ranks - np.arange(pieces) * len(ranks) / pieces, 0)  # the first is the rank itself
    return np.column_stack([hinges, rankdata(trivial, axis=0)])


def measures(rows: pd.DataFrame) -> pd.Series:
    """Measure every known score on the test images of one run.

    Args:
        rows: Result of `certainty`.

    Returns:
        Values with index (score, measure), NaN where a measure does not apply. `CHANCE` and `BEST` only have "gain" and
        "rest". The measures:

        - "correlation" with the error (Spearman);
        - "partial": the same given the prediction, see `functions_of_prediction`;
        - "wrong": area under the ROC curve for errors above half a grade;
        - "gain": what the score takes off the area under the risk-coverage curve, as a share of what is possible: 0 by
          chance, 1 is best;
        - "rest": MAE of the rest when the least certain fifth is referred;
        - "below middle" and "below grade": by how much "rest" is lower than by the trivial scores.
    """
    known = known_scores(rows)
    errors, scores = rows["error"].to_numpy(float), rows[known].to_numpy(float)
    trivial = [known.index(name) for name in TRIVIAL if name in known]
    given = functions_of_prediction(rows["prediction"].to_numpy(float), scores[:, trivial])
    partial = partial_correlation(scores, errors, given)
    partial[trivial] = np.nan  # nothing is left of them
    mae, possible = errors.mean(), errors.mean() - area(errors, errors)
    rest = {name: float(risk(errors, score, 1 - REFERRED)) for name, score in zip(known, scores.T, strict=True)}
    by_measure = {
        "correlation": partial_correlation(scores, errors, given[:, :0]),
        "partial": partial,
        "wrong": auc(scores, errors > 0.5) if GRADE in known else np.full(len(known), np.nan),
        "gain": [(mae - area(errors, score)) / possible if possible else np.nan for score in scores.T],
        "rest": rest.values(),
        "below middle": [np.nan if name == MIDDLE else rest[MIDDLE] - rest[name] for name in known],
        "below grade": [np.nan if name == GRADE else rest.get(GRADE, np.nan) - rest[name] for name in known],
    }
    found = {(name, m): v for m, values in by_measure.items() for name, v in zip(known, values, strict=True)}
    found |= {(CHANCE, "gain"): 0.0, (CHANCE, "rest"): mae, (BEST, "gain"): 1.0}
    return pd.Series(found | {(BEST, "rest"): risk(errors, errors, 1 - REFERRED)}, dtype=float)


def auc(scores: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Area under the ROC curve (Mann and Whitney) of scores (N, s) for images that are `wrong` (N,): (s,).

    NaN if all or none are wrong.
    """
    count = wrong.sum(), (~wrong).sum()
    if not all(count):
        return np.full(scores.shape[1], np.nan)
    return (rankdata(scores, axis=0)[wrong].mean(0) - (count[0] + 1) / 2) / count[1]


def known_scores(rows: pd.DataFrame) -> list[str]:
    """The scores of `SCORES` that are known for every image. rows: result of `certainty`."""
    return [name for name in SCORES if rows[name].notna().all()]


def pseudo_values(rows: pd.DataFrame) -> pd.DataFrame:
    """Values per row whose mean over a fold is that fold's `measures`, for intervals over patients.

    Tukey's pseudo-values of the jackknife that leaves out one patient at a time (Efron and Tibshirani, "An Introduction
    to the Bootstrap", 1993, section 11.5), shifted to the exact mean. To first order, the spread of their mean over
    patients is that of the measure.

    Args:
        rows: Result of `certainty`, of one fold or of several with a column fold.

    Returns:
        One row per row, one column per (score, measure).
    """
    folds = rows["fold"].to_numpy() if "fold" in rows else np.zeros(len(rows))
    parts = []
    for fold in np.unique(folds):
        part = rows[folds == fold]
        whole, patients = measures(part), part["patient_id"].to_numpy(str)
        moved = np.zeros((len(part), len(whole)))
        for patient in np.unique(patients):
            own = patients == patient
            if not own.all():
                moved[own] = (whole - measures(part[~own])) * (~own).sum() / own.sum()
        frame = pd.DataFrame(moved, np.flatnonzero(folds == fold), whole.index)
        parts.append(whole + frame - frame.mean())
    return pd.concat(parts).sort_index()


# -- tables and claims ------------------------------------------------------------------------------------------------


def certainty_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Summarise the scores: `measures` with their 95 % intervals over patients; of several folds, the mean.

    Args:
        rows: Result of `certainty`, of one fold or of several with a column fold.

    Returns:
        One row per score, and chance and best possible; columns measure, "measure low" and "measure high".
    """
    values = pseudo_values(rows)
    table = {}
    for score, measure in values.columns:
        found = over_patients(values[score, measure], rows["patient_id"])
        table.setdefault(score, {}).update(
            {measure: found.mean, f"{measure} low": found.low, f"{measure} high": found.high}
        )
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("score")


def certainty_claims(rows: pd.DataFrame, held_out_ratio: float = 0.0) -> list[Claim]:
    """Claims about the spreads: more than the prediction says, and a better referral than by trivial scores.

    Args:
        rows: Result of `certainty`, of one fold or of several with a column fold.
        held_out_ratio: n_validation / n_training of the folds.
    """
    values = pseudo_values(rows)
    known = values.columns[values.notna().all()]

    def effects(score: str, *chosen: str) -> tuple:
        return tuple(effect(values[score, m], rows, 0.0, held_out_ratio) for m in chosen if (score, m) in known)

    claims = []
    for score in (SPREAD, FOLDS):
        if beyond := effects(score, "partial"):
            plain = values[score, "correlation"].mean()
            figures = f"rank correlation given the prediction {beyond[0][0]}, without that {plain:+.3f}"
            claims.append(Claim(f"The {score} says more about the error than the prediction does", beyond, figures))
    lower = effects(SPREAD, "below middle", "below grade")
    text = f"Referring the least certain {REFERRED:.0%} by the {SPREAD} leaves a lower MAE than by the prediction alone"
    others = (f"than by the {name}" for name in (MIDDLE, GRADE))
    figures = "; ".join(f"lower by {found[0]} {other}" for found, other in zip(lower, others, strict=False))
    return [*claims, Claim(text, lower, figures)]


def referral(rows: pd.DataFrame) -> pd.DataFrame:
    """Risk-coverage curves of all known scores: `risk` of the retained images, a mean over folds.

    Args:
        rows: Result of `certainty`, of one fold or of several with a column fold.

    Returns:
        Columns referred (share, 0 to 0.98 in steps of 0.01), one per score, chance and best possible.
    """
    referred = np.arange(99) / 100
    known = {name: name for name in known_scores(rows)} | {BEST: "error"}
    parts = [part for _, part in rows.groupby("fold")] if "fold" in rows else [rows]
    curves = {
        name: np.mean([risk(part["error"].to_numpy(), part[by].to_numpy(), 1 - referred) for part in parts], axis=0)
        for name, by in known.items()
    }
    return pd.DataFrame({"referred": referred, **curves, CHANCE: curves[BEST][0]})
