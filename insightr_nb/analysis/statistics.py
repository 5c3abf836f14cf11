"""Differences between variants, with intervals over folds and over patients, and the paper's test of sparsity."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon

from insightr_nb.analysis import latent, metrics
from insightr_nb.analysis.inference import Estimate, over_folds, over_patients
from insightr_nb.analysis.results import Results, paper_sparsity
from insightr_nb.analysis.wording import counted
from insightr_nb.runs import Run
from insightr_nb.settings import LabelScale

CLAMPED, PLAIN = "clamped", "as they are"  # predictions


def _predictions(run: Run) -> tuple[np.ndarray, np.ndarray]:
    table = run.table("predictions.csv")
    return table["prediction"].to_numpy(float), table["target"].to_numpy(float)


def _errors(run: Run, _: LabelScale) -> np.ndarray:
    predictions, targets = _predictions(run)
    return np.abs(predictions - targets)


def _errors_clamped(run: Run, scale: LabelScale) -> np.ndarray:
    predictions, targets = _predictions(run)
    return np.abs(metrics.clamped(predictions, scale) - targets)


def _right(run: Run, scale: LabelScale) -> np.ndarray:
    predictions, targets = _predictions(run)
    return (metrics.rounded_grades(predictions, scale) == np.rint(targets)).astype(float)


# One value per test image
PER_IMAGE: dict[str, Callable[[Run, LabelScale], np.ndarray]] = {
    "mae": _errors,
    "mae_clamped": _errors_clamped,
    "accuracy": _right,
    "sparsity": lambda run, _: metrics.sparsity(run.array("weights.npy")),
    "sparsity_paper": lambda run, _: paper_sparsity(run),
}
# One value per run
PER_RUN: dict[str, Callable[[Run], float]] = {
    "diversity": lambda run: metrics.diversity(run.array("weights.npy")),
    "hardly_used": lambda run: hardly_used(run.array("weights.npy")),
    "scatter": latent.scatter,
}


def hardly_used(weights: np.ndarray) -> int:
    """Number of prototypes that are among the five largest contributions of less than 1 % of the images.

    These are the prototypes that `metrics.diversity` does not count. weights: (N, m).
    """
    return weights.shape[1] - metrics.diversity(weights)


@dataclass(frozen=True)
class Difference:
    """One measure of two variants on the same folds.

    Attributes:
        first: (folds, N_test), or (folds,) for a measure per run.
        second: The same of the other variant.
        patients: (N_test,) patient of each test image.
        held_out_ratio: n_validation / n_training of the folds.
    """

    first: np.ndarray
    second: np.ndarray
    patients: np.ndarray
    held_out_ratio: float

    def estimates(self, null: float = 0.0, turned: bool = False) -> dict[str, Estimate]:
        """Estimate the mean of first - second by each source of variation.

        Args:
            null: Value that the p values refer to.
            turned: Estimate second - first instead.

        Returns:
            "folds": the corrected t interval; for a measure per image also "patients": the bootstrap over patients,
            of the mean over the folds of each image.
        """
        values = (self.second - self.first if turned else self.first - self.second).astype(float)
        by_fold = values.reshape(len(values), -1).mean(1)
        found = {"folds": over_folds(by_fold, self.held_out_ratio, null)}
        if values.ndim == 2:
            found["patients"] = over_patients(values.mean(0), self.patients, null)
        return found


def compare(results: Results, first: str, second: str, measure: str, labels: str = "categorical") -> Difference | None:
    """Measure two variants on every fold; None if a run of either is missing.

    Args:
        results: The runs.
        first: A variant.
        second: The variant to compare it with.
        measure: Name in `PER_IMAGE` or `PER_RUN`.
        labels: Kind of labels, "categorical" or "continuous".
    """
    pair = [results.finished(variant, labels) for variant in (first, second)]
    if not all(pair):
        return None
    if measure in PER_RUN:
        values = [np.array([PER_RUN[measure](run) for run in folds], float) for folds in pair]
    else:
        values = [np.stack([PER_IMAGE[measure](run, results.scale) for run in folds]) for folds in pair]
    return Difference(*values, results.patients, results.held_out_ratio)


def against_baseline(results: Results, variants: Iterable[str], labels: str = "categorical") -> pd.DataFrame:
    """MAE of each variant minus that of the baseline, of clamped and of plain predictions, with 95 % intervals.

    Args:
        results: The runs.
        variants: Variants to compare; "baseline" is skipped.
        labels: Kind of labels, "categorical" or "continuous".

    Returns:
        Columns variant, predictions (`CLAMPED` or `PLAIN`), difference, low_folds and high_folds (corrected t),
        low_patients and high_patients (bootstrap); NaN where a fold of either is missing. Intervals over folds need
        two of them.
    """
    rows = []
    for variant in variants:
        if variant == "baseline":
            continue
        for predictions, measure in ((CLAMPED, "mae_clamped"), (PLAIN, "mae")):
            row = {"variant": variant, "predictions": predictions, "difference": np.nan}
            row |= dict.fromkeys(("low_folds", "high_folds", "low_patients", "high_patients"), np.nan)
            if (found := compare(results, variant, "baseline", measure, labels)) is not None:
                for source, estimate in found.estimates().items():
                    row |= {"difference": estimate.mean}
                    row |= {f"low_{source}": estimate.low, f"high_{source}": estimate.high}
            rows.append(row)
    names = ["variant", "predictions", "difference", "low_folds", "high_folds", "low_patients", "high_patients"]
    return pd.DataFrame(rows, columns=names)


def describe_differences(differences: pd.DataFrame) -> str:
    """Count the variants that are more or less accurate than the baseline by both intervals.

    differences: result of `against_baseline`; clamped predictions are counted.
    """
    clamped = differences[differences["predictions"] == CLAMPED]
    known = clamped.dropna(subset="difference")
    if known.empty:
        return "No variant can be compared with the baseline yet: runs are missing."
    below = int(((known["high_folds"] < 0) & (known["high_patients"] < 0)).sum())
    above = int(((known["low_folds"] > 0) & (known["low_patients"] > 0)).sum())
    text = (
        f"By clamped predictions, of {counted(len(known), 'variant')} {below} have a lower MAE than the baseline over "
        f"folds and over patients, {above} a higher one, and {len(known) - below - above} cannot be told apart from it."
    )
    missing = len(clamped) - len(known)
    return text + (f" Runs of {counted(missing, 'other variant')} are missing." if missing else "")


# -- the paper's test -------------------------------------------------------------------------------------------------


def sparsity_tests(results: Results, first: str = "insightr", second: str = "log_similarity") -> pd.DataFrame:
    """One-sided Wilcoxon signed-rank test per fold that the sparsity of `first` is smaller, paired by image.

    Paper, section 4: "p < 0.001 for all folds". With hundreds of images a difference of a fraction of a prototype
    reaches that too, so the size of the effect stands beside it.

    Args:
        results: The runs.
        first: Variant expected to be sparser.
        second: Variant to compare with.

    Returns:
        One row per fold: fold, mean sparsity of both variants, `fewer`: by how many prototypes `first` is sparser, with
        a 95 % interval `low`, `high` over patients, `share`: of the images in which it is, `p`, and `fewer_paper` and
        `p_paper` by the paper's count. NaN in folds that are not finished for both variants.
    """
    names = ["fold", first, second, "fewer", "low", "high", "share", "p", "fewer_paper", "p_paper"]
    rows = []
    for fold in sorted(results.of(first)["fold"]):
        pair = [results.run(variant, fold) for variant in (first, second)]
        row = dict.fromkeys(names, np.nan) | {"fold": fold}
        if all(pair):
            own, other = (metrics.sparsity(run.array("weights.npy")) for run in pair)
            fewer = over_patients(other - own, results.patients)
            row |= {first: own.mean(), second: other.mean(), "fewer": fewer.mean, "low": fewer.low, "high": fewer.high}
            row |= {"share": (own < other).mean(), "p": _p_less(own, other)}
            own, other = (paper_sparsity(run) for run in pair)
            row |= {"fewer_paper": (other - own).mean(), "p_paper": _p_less(own, other)}
        rows.append(row)
    return pd.DataFrame(rows, columns=names)


def _p_less(own: np.ndarray, other: np.ndarray) -> float:
    return float(wilcoxon(own, other, alternative="less").pvalue) if (own != other).any() else 1.0


def describe_sparsity(tests: pd.DataFrame, level: float = 0.001) -> str:
    """State by how much INSightR-Net is sparser, and in how many folds p < `level`. tests: of `sparsity_tests`."""
    known = tests.dropna(subset="p")
    if known.empty:
        return "No fold has finished runs of both INSightR-Net and the logarithm."
    parts = [
        f"{how}, INSightR-Net needs {_fewer(known[fewer])}; p < {level:g} in {(known[p] < level).sum()} of "
        f"{len(known)} folds (largest p {known[p].max():.1g})."
        for fewer, p, how in (("fewer", "p", "By contributions"), ("fewer_paper", "p_paper", "As the paper counts"))
    ]
    text = f"{' '.join(parts)} By contributions, it is sparser in {known['share'].mean():.0%} of the images."
    missing = len(tests) - len(known)
    return text + (f" Runs of {counted(missing, 'other fold')} are missing." if missing else "")


def _fewer(values: pd.Series) -> str:
    word, values = ("fewer", values) if values.mean() >= 0 else ("more", -values)
    return (
        f"{values.mean():.1f} prototypes {word} than the logarithm ({values.min():.1f} to {values.max():.1f} in single "
        "folds)"
    )
