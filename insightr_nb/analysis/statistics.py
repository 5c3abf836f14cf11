"""Statistics over folds and images: the paper's test of sparsity, and intervals of paired error differences."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon

from insightr_nb.analysis import metrics
from insightr_nb.analysis.results import Results, paper_sparsity
from insightr_nb.analysis.wording import counted


def sparsity_tests(results: Results, first: str = "insightr", second: str = "log_similarity") -> pd.DataFrame:
    """One-sided Wilcoxon signed-rank test per fold that the sparsity of `first` is smaller, paired by image.

    Paper, section 4: "p < 0.001 for all folds".

    Args:
        results: The runs.
        first: Variant expected to be sparser.
        second: Variant to compare with.

    Returns:
        One row per fold: fold, mean sparsity of both variants, `p` by contributions, and `p_paper` by the paper's
        count. NaN in folds that are not finished for both variants.
    """
    rows = []
    for fold in sorted(results.of(first)["fold"]):
        pair = [results.run(variant, fold) for variant in (first, second)]
        row = {"fold": fold, first: np.nan, second: np.nan, "p": np.nan, "p_paper": np.nan}
        if all(pair):
            own, other = (metrics.sparsity(run.array("weights.npy")) for run in pair)
            row |= {first: own.mean(), second: other.mean(), "p": _p_less(own, other)}
            row["p_paper"] = _p_less(*(paper_sparsity(run) for run in pair))
        rows.append(row)
    return pd.DataFrame(rows, columns=["fold", first, second, "p", "p_paper"])


def _p_less(own: np.ndarray, other: np.ndarray) -> float:
    return float(wilcoxon(own, other, alternative="less").pvalue) if (own != other).any() else 1.0


def errors(results: Results, variant: str, labels: str = "categorical") -> np.ndarray | None:
    """Absolute errors of a variant, (folds, N_test); None if a fold is missing.

    Args:
        results: The runs.
        variant: Variant of the runs.
        labels: Kind of labels, "categorical" or "continuous".
    """
    found = results.finished(variant, labels)
    if found is None:
        return None
    tables = [run.table("predictions.csv") for run in found]
    return np.stack([(table["prediction"] - table["target"]).abs().to_numpy() for table in tables])


def paired_difference(
    first: np.ndarray, second: np.ndarray, level: float = 0.95, samples: int = 5000, seed: int = 0
) -> tuple[float, float, float]:
    """Mean of `first` - `second` with a bootstrap confidence interval over images and folds.

    Each sample draws both folds and images with replacement, so the interval covers the choice of training data and
    of test images.

    Args:
        first: (folds, N) errors.
        second: (folds, N) errors on the same images.
        level: Confidence level.
        samples: Number of bootstrap samples.
        seed: Seed of the bootstrap.

    Returns:
        (difference, low, high).
    """
    difference = first - second
    folds, images = difference.shape
    rng = np.random.default_rng(seed)
    means = np.empty(samples)
    for i in range(samples):
        weight = np.bincount(rng.integers(folds, size=folds), minlength=folds) @ difference
        means[i] = weight[rng.integers(images, size=images)].mean() / folds
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(difference.mean()), float(low), float(high)


def against_baseline(results: Results, variants: Iterable[str], labels: str = "categorical") -> pd.DataFrame:
    """MAE of each variant minus that of the baseline, with a 95 % interval.

    Args:
        results: The runs.
        variants: Variants to compare; "baseline" is skipped.
        labels: Kind of labels, "categorical" or "continuous".

    Returns:
        Columns variant, difference, low and high; NaN where a fold of either is missing.
    """
    base = errors(results, "baseline", labels)
    rows = []
    for variant in variants:
        if variant == "baseline":
            continue
        own = errors(results, variant, labels)
        values = (np.nan,) * 3 if base is None or own is None else paired_difference(own, base)
        rows.append({"variant": variant, **dict(zip(("difference", "low", "high"), values, strict=True))})
    return pd.DataFrame(rows, columns=["variant", "difference", "low", "high"])


def describe_sparsity(tests: pd.DataFrame, level: float = 0.001) -> str:
    """Count the folds with p < `level`, for both ways of counting. tests: result of `sparsity_tests`."""
    known = tests.dropna()
    if known.empty:
        return "No fold has finished runs of both INSightR-Net and the logarithm."
    parts = [
        f"{how} in {(known[p] < level).sum()} of {len(known)} folds (largest p {known[p].max():.1g})"
        for p, how in (("p", "by contributions"), ("p_paper", "as the paper counts"))
    ]
    text = f"INSightR-Net is sparser with p < {level:g} {' and '.join(parts)}."
    missing = len(tests) - len(known)
    return text + (f" Runs of {counted(missing, 'other fold')} are missing." if missing else "")


def describe_differences(differences: pd.DataFrame) -> str:
    """Count the variants that are more or less accurate than the baseline. differences: of `against_baseline`."""
    known = differences.dropna()
    if known.empty:
        return "No variant can be compared with the baseline yet: runs are missing."
    below, above = int((known["high"] < 0).sum()), int((known["low"] > 0).sum())
    text = (
        f"Of {len(known)} variants, {below} have a lower MAE than the baseline, {above} a higher one, and "
        f"{len(known) - below - above} cannot be told apart from it."
    )
    missing = len(differences) - len(known)
    return text + (f" Runs of {counted(missing, 'other variant')} are missing." if missing else "")
