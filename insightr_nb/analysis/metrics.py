"""Metrics of predictions and explanations, in float64: float32 sums can count 41 of 40 prototypes.

Predictions and targets are in the user's units. Sparsity and diversity are defined in section 4 of the paper.
"""

import numpy as np
from sklearn.metrics import cohen_kappa_score

from insightr_nb.settings import LabelScale


def mean_absolute_error(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Mean absolute error. predictions, targets: (N,).

    Example:
        >>> mean_absolute_error(np.array([2.5, 3.0]), np.array([2.0, 3.0]))
        0.25
    """
    return float(np.abs(np.asarray(predictions, float) - np.asarray(targets, float)).mean())


def clamped(predictions: np.ndarray, scale: LabelScale) -> np.ndarray:
    """Clamp predictions (N,) to the label range, which regression can leave and a weighted mean of labels hardly can.

    Example:
        >>> clamped(np.array([-0.5, 2.4, 4.9]), LabelScale(0, 4)).tolist()
        [0.0, 2.4, 4.0]
    """
    return np.clip(np.asarray(predictions, float), scale.minimum, scale.maximum)


def rounded_grades(predictions: np.ndarray, scale: LabelScale) -> np.ndarray:
    """Round predictions to the nearest grade and clamp to the label range: (N,) int. Predictions can reach 4.9.

    Example:
        >>> rounded_grades(np.array([0.4, 2.6, 4.9]), LabelScale(0, 4)).tolist()
        [0, 3, 4]
    """
    return clamped(np.rint(np.asarray(predictions, float)), scale).astype(int)


def accuracy(predictions: np.ndarray, targets: np.ndarray, scale: LabelScale) -> float:
    """Share of images whose rounded prediction equals the grade.

    Args:
        predictions: (N,).
        targets: (N,) grades.
        scale: Label range.

    Returns:
        Value from 0 to 1.

    Example:
        >>> accuracy(np.array([0.4, 1.6, 2.6, 4.9]), np.array([0, 2, 2, 4]), LabelScale(0, 4))
        0.75
    """
    return float((rounded_grades(predictions, scale) == np.rint(np.asarray(targets, float))).mean())


def quadratic_kappa(predictions: np.ndarray, targets: np.ndarray, scale: LabelScale) -> float | None:
    """Cohen's kappa with quadratic weights of the rounded predictions.

    Args:
        predictions: (N,).
        targets: (N,) grades.
        scale: Label range.

    Returns:
        Kappa, or None if predictions and targets are all the same grade.

    Example:
        >>> round(quadratic_kappa(np.array([0.1, 1.2, 2.3, 3.6]), np.array([0, 1, 2, 3]), LabelScale(0, 4)), 4)
        0.9286
    """
    rounded, grades = rounded_grades(predictions, scale), np.rint(np.asarray(targets, float)).astype(int)
    every = np.arange(int(scale.minimum), int(scale.maximum) + 1)
    if len(set(rounded) | set(grades)) < 2:
        return None
    return float(cohen_kappa_score(rounded, grades, labels=every, weights="quadratic"))


def sparsity(weights: np.ndarray, level: float = 0.8) -> np.ndarray:
    """s_spars: smallest number of prototypes, largest contributions first, that reaches `level` of their sum.

    weights: (N, m), non-negative. Returns (N,) int.

    Example:
        >>> sparsity(np.array([[6.0, 3.0, 1.0], [9.0, 1.0, 0.0]])).tolist()
        [2, 1]
        >>> sparsity(np.ones((1, 50))).tolist()
        [40]
    """
    ordered = -np.sort(-np.asarray(weights, float), axis=1)  # (N, m), descending
    reached = ordered.cumsum(1) >= level * ordered.sum(1, keepdims=True) * (1 - 1e-12)  # tolerates rounding of the sum
    return reached.argmax(1) + 1


def top_prototypes(weights: np.ndarray, top: int = 5) -> np.ndarray:
    """Indices of the `top` largest contributions, in descending order: (N, top) int. Ties go to the lower index.

    Example:
        >>> top_prototypes(np.array([[1.0, 3.0, 3.0]]), top=2).tolist()
        [[1, 2]]
    """
    return np.argsort(-np.asarray(weights, float), axis=1, kind="stable")[:, :top]


def diversity(weights: np.ndarray, top: int = 5, share: float = 0.01) -> int:
    """Number of prototypes that are among the `top` contributions of at least a share `share` of the images.

    Args:
        weights: (N, m) contributions.
        top: Number of largest contributions considered for each image.
        share: Minimum share of the images.

    Returns:
        Number of prototypes, at most m.

    Example:
        >>> diversity(np.array([[3.0, 1.0, 0.0], [1.0, 2.0, 0.0]]), top=1)
        2
    """
    weights = np.asarray(weights, float)
    best = top_prototypes(weights, top)  # (N, top)
    contributes = np.take_along_axis(weights, best, axis=1) > 0  # prototypes switched off can fill up the top
    count = np.bincount(best[contributes], minlength=weights.shape[1])
    return int((count >= share * len(weights) * (1 - 1e-12)).sum())


def uncertainty(weights: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Standard deviation of the prototype labels (m,) weighted by contributions (N, m): (N,), in the labels' units.

    Example:
        >>> uncertainty(np.array([[1.0, 1.0], [0.0, 5.0]]), np.array([1.0, 3.0])).tolist()
        [1.0, 0.0]
    """
    shares = np.asarray(weights, float) / np.asarray(weights, float).sum(1, keepdims=True)
    mean = shares @ labels
    return np.sqrt(np.maximum(shares @ np.square(labels) - np.square(mean), 0))


def top_label_gap(weights: np.ndarray, labels: np.ndarray, predictions: np.ndarray) -> float:
    """Mean |label of the largest contribution - prediction|; 0 means that the top prototype agrees with the prediction.

    Args:
        weights: (N, m) contributions.
        labels: (m,) of the prototypes.
        predictions: (N,), in the units of the labels.

    Returns:
        Gap in the units of the labels.

    Example:
        >>> top_label_gap(np.array([[1.0, 3.0]]), np.array([1.0, 3.0]), predictions=np.array([2.5]))
        0.5
    """
    first = np.asarray(labels, float)[top_prototypes(weights, 1)[:, 0]]  # (N,)
    return float(np.abs(first - np.asarray(predictions, float)).mean())


def label_spread(weights: np.ndarray, labels: np.ndarray) -> float:
    """Mean over images of `uncertainty`, for contributions (N, m) and prototype labels (m,).

    Example:
        >>> label_spread(np.array([[1.0, 1.0], [0.0, 5.0]]), np.array([1.0, 3.0]))
        0.5
    """
    return float(uncertainty(weights, labels).mean())


def ground_share(weights: np.ndarray, on_ground: np.ndarray) -> float:
    """Mean over images of the share of contributions (N, m) whose match is a cell of mostly grey background.

    on_ground: (N, m) bool.

    Example:
        >>> ground_share(np.array([[1.0, 3.0]]), np.array([[True, False]]))
        0.25
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
    """Compute the content of metrics.json; metrics that do not apply are None.

    Args:
        predictions: (N,).
        targets: (N,).
        scale: Label range.
        grades: Whether the targets are integer grades.
        weights: (N, m) contributions, for a network with prototypes.
        labels: (m,) labels of the prototypes.
        on_ground: (N, m) bool, whether the match is a cell of mostly grey background.

    Returns:
        Metrics by name.
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
