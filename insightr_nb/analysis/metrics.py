"""Metrics of predictions and of explanations, in float64 (a float32 sum makes 41 of 40 prototypes).

Predictions and targets are in the user's units. Sparsity and diversity are section 4 of the paper.
"""

import numpy as np
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from insightr_nb.settings import LabelScale


def mean_absolute_error(predictions: np.ndarray, targets: np.ndarray) -> float:
    """predictions, targets: (N,)."""
    return float(np.abs(np.asarray(predictions, float) - np.asarray(targets, float)).mean())


def clamped(predictions: np.ndarray, scale: LabelScale) -> np.ndarray:
    """(N,) predictions clamped to the label range: a weighted mean of labels can hardly leave it, a regression can."""
    return np.clip(np.asarray(predictions, float), scale.minimum, scale.maximum)


def rounded_grades(predictions: np.ndarray, scale: LabelScale) -> np.ndarray:
    """(N,) int: rounded to the nearest grade, then clamped to the range, since predictions can reach 4.9."""
    return clamped(np.rint(np.asarray(predictions, float)), scale).astype(int)


def accuracy(predictions: np.ndarray, targets: np.ndarray, scale: LabelScale) -> float:
    """Share of images whose rounded prediction is the grade."""
    return float((rounded_grades(predictions, scale) == np.rint(np.asarray(targets, float))).mean())


def quadratic_kappa(predictions: np.ndarray, targets: np.ndarray, scale: LabelScale) -> float | None:
    """Cohen's kappa with quadratic weights, predictions rounded; None where both are one and the same grade only."""
    rounded, grades = rounded_grades(predictions, scale), np.rint(np.asarray(targets, float)).astype(int)
    every = np.arange(int(scale.minimum), int(scale.maximum) + 1)
    if len(set(rounded) | set(grades)) < 2:
        return None
    return float(cohen_kappa_score(rounded, grades, labels=every, weights="quadratic"))


def sparsity(weights: np.ndarray, level: float = 0.8) -> np.ndarray:
    """s_spars: the smallest number of prototypes, largest contributions first, that reach `level` of their sum.

    weights: (N, m), not negative. Returns (N,) int. 50 equal contributions give 40, a single one gives 1.
    """
    ordered = -np.sort(-np.asarray(weights, float), axis=1)  # (N, m), falling
    reached = ordered.cumsum(1) >= level * ordered.sum(1, keepdims=True) * (1 - 1e-12)  # rounding of the sum itself
    return reached.argmax(1) + 1


def top_prototypes(weights: np.ndarray, top: int = 5) -> np.ndarray:
    """(N, top) int: the prototypes with the largest contributions, largest first; of equals, the first prototype."""
    return np.argsort(-np.asarray(weights, float), axis=1, kind="stable")[:, :top]


def diversity(weights: np.ndarray, top: int = 5, share: float = 0.01) -> int:
    """How many prototypes are among the `top` contributions of at least `share` of the images. weights: (N, m)."""
    weights = np.asarray(weights, float)
    best = top_prototypes(weights, top)  # (N, top)
    contributes = np.take_along_axis(weights, best, axis=1) > 0  # with few switched on, others fill the top
    count = np.bincount(best[contributes], minlength=weights.shape[1])
    return int((count >= share * len(weights) * (1 - 1e-12)).sum())


def uncertainty(weights: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N,) standard deviation of the prototype labels (m,) under the contributions (N, m), in the labels' units."""
    shares = np.asarray(weights, float) / np.asarray(weights, float).sum(1, keepdims=True)
    mean = shares @ labels
    return np.sqrt(np.maximum(shares @ np.square(labels) - np.square(mean), 0))


def top_label_gap(weights: np.ndarray, labels: np.ndarray, predictions: np.ndarray) -> float:
    """Mean |label of the largest contribution - prediction|: does the first reason say what the prediction says?

    weights: (N, m); labels: (m,); predictions: (N,), in the units of the labels. 0 is fully coherent.
    """
    first = np.asarray(labels, float)[top_prototypes(weights, 1)[:, 0]]  # (N,)
    return float(np.abs(first - np.asarray(predictions, float)).mean())


def label_spread(weights: np.ndarray, labels: np.ndarray) -> float:
    """Mean over images of the standard deviation of the labels (m,) under the contributions (N, m)."""
    return float(uncertainty(weights, labels).mean())


def ground_share(weights: np.ndarray, on_ground: np.ndarray) -> float:
    """Mean over images of the share of the contributions (N, m) whose match is a cell that lies mostly on the ground.

    on_ground: (N, m) bool.
    """
    weights = np.asarray(weights, float)
    return float(((weights * on_ground).sum(1) / weights.sum(1)).mean())


def summary(
    predictions: np.ndarray,
    targets: np.ndarray,
    scale: LabelScale,
    grades: bool,
    weights: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    on_ground: np.ndarray | None = None,
) -> dict[str, float | int | None]:
    """The content of metrics.json; None where a metric has no meaning.

    predictions, targets: (N,). grades: whether the targets are integer grades. Of a network with prototypes: weights
    (N, m), labels (m,) of the prototypes, on_ground (N, m) bool, whether the match lies mostly on the ground.
    """
    return {
        "mae": mean_absolute_error(predictions, targets),
        "mae_clamped": mean_absolute_error(clamped(predictions, scale), targets),
        "accuracy": accuracy(predictions, targets, scale) if grades else None,
        "kappa": quadratic_kappa(predictions, targets, scale) if grades else None,
        "sparsity": None if weights is None else float(sparsity(weights).mean()),
        "diversity": None if weights is None else diversity(weights),
        "top_label_gap": None if labels is None else top_label_gap(weights, labels, predictions),
        "label_spread": None if labels is None else label_spread(weights, labels),
        "ground_share": None if on_ground is None else ground_share(weights, on_ground),
        "n_test": len(predictions),
    }


def interval(values: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Mean and its 95 % bootstrap interval over images (percentiles of 2000 resamples); NaN is left out.

    A single value has no interval: NaN.
    """
    values = np.asarray(values, float)
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return float(values.mean()) if len(values) else float("nan"), float("nan"), float("nan")
    if np.ptp(values) == 0:
        return (float(values.mean()),) * 3
    found = stats.bootstrap((values,), np.mean, n_resamples=2000, method="percentile", rng=seed).confidence_interval
    return float(values.mean()), float(found.low), float(found.high)
