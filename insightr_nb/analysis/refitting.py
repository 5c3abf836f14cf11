"""Fit of the last layer to stored similarities: mean squared error of Eq. 2, its gradient, and the steps of L-BFGS."""

import numpy as np
from scipy.optimize import minimize

_MOST = 300  # iterations


def loss(
    theta: np.ndarray, similarities: np.ndarray, labels: np.ndarray, targets: np.ndarray
) -> tuple[float, np.ndarray]:
    """Mean squared error of the weighted mean (Eq. 2) and its gradient with respect to theta.

    With r = theta^2 / l, prediction p = sum(s r l) / sum(s r) and dp / dr_j = s_j (l_j - p) / sum(s r).

    Args:
        theta: (m,).
        similarities: (n, m), s.
        labels: (m,), l, positive.
        targets: (n,), in the units of the labels.

    Returns:
        The error and its gradient (m,).
    """
    weights = similarities * (theta**2 / labels)  # (n, m)
    total = weights.sum(1)  # (n,)
    predictions = weights @ labels / total
    error = predictions - targets
    slope = 2 * error / (len(targets) * total)  # (n,)
    of_importance = labels * (slope @ similarities) - (slope * predictions) @ similarities  # (m,)
    return float(np.mean(error**2)), of_importance * 2 * theta / labels


def steps(theta: np.ndarray, similarities: np.ndarray, labels: np.ndarray, targets: np.ndarray) -> list[np.ndarray]:
    """Minimise `loss` with L-BFGS-B from `theta`, at most 300 iterations.

    Arguments as for `loss`. Returns theta (m,) after every iteration, `theta` itself first.
    """
    scaled = similarities / similarities.max(1, keepdims=True)  # a prediction does not depend on the scale of its row
    found = [theta]
    minimize(
        loss,
        theta,
        args=(scaled, labels, targets),
        jac=True,
        method="L-BFGS-B",
        callback=lambda theta: found.append(theta.copy()),
        options={"maxiter": _MOST},
    )
    return found
