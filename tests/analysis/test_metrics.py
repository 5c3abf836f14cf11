"""Metrics of predictions and contributions, with numbers computed by hand."""

import numpy as np
import pytest

from insightr_nb.analysis import metrics
from insightr_nb.settings import LabelScale

GRADES = LabelScale(0, 4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [1.0, 0.02, 1e4, 0.1])
def test_sparsity_of_50_equal_weights_is_40(value, dtype):
    assert metrics.sparsity(np.full((2, 50), value, dtype)).tolist() == [40, 40]


def test_sparsity_by_hand():
    weights = [[0, 0, 7, 0, 0], [5, 3, 1, 1, 0], [1, 1, 1, 1, 1], [4.1, 0, 3.9, 1, 1]]
    assert metrics.sparsity(np.array(weights)).tolist() == [1, 2, 4, 2]
    assert metrics.sparsity(np.array(weights), level=0.5).tolist() == [1, 1, 3, 2]


def test_diversity_by_hand():
    weights = np.zeros((200, 10))
    weights[:, :4] = [9, 8, 7, 6]  # the top 4 of every image
    weights[:, 4] = 1  # fifth of most
    weights[:2, 4], weights[:2, 5] = 0, 1  # fifth of two images: 1 %
    weights[2, 4], weights[2, 6] = 0, 1  # fifth of one image: 0.5 %
    assert metrics.diversity(weights) == 6
    assert metrics.diversity(weights, share=0.005) == 7
    assert metrics.diversity(weights, top=4) == 4


def test_top_prototypes_breaks_ties_by_the_lowest_index():
    assert metrics.top_prototypes(np.array([[1.0, 2.0, 2.0, 1.0]]), 3).tolist() == [[1, 2, 0]]


def test_mae_and_accuracy_by_hand():
    predictions, targets = np.array([-0.9, 0.4, 1.6, 4.9]), np.array([0, 1, 2, 4])
    assert metrics.mean_absolute_error(predictions, targets) == pytest.approx((0.9 + 0.6 + 0.4 + 0.9) / 4)
    assert metrics.rounded_grades(predictions, GRADES).tolist() == [0, 0, 2, 4]  # clamped to the range
    assert metrics.accuracy(predictions, targets, GRADES) == 0.75


def test_kappa_by_hand():
    assert metrics.quadratic_kappa(np.array([0.1, 1.2, 3.8]), np.array([0, 1, 4]), GRADES) == 1.0
    assert metrics.quadratic_kappa(np.array([4, 0]), np.array([0, 4]), GRADES) == -1.0
    assert metrics.quadratic_kappa(np.array([2.0, 2.0]), np.array([2, 2]), GRADES) is None


def test_the_clamped_error_by_hand():
    predictions, targets = np.array([-0.9, 0.4, 4.9, 4.0]), np.array([0, 1, 4, 2])
    assert metrics.clamped(predictions, GRADES).tolist() == [0, 0.4, 4, 4]
    result = metrics.summary(predictions, targets, GRADES, True)
    assert result["mae"] == pytest.approx((0.9 + 0.6 + 0.9 + 2) / 4)
    assert result["mae_clamped"] == pytest.approx((0 + 0.6 + 0 + 2) / 4)


def test_coherence_by_hand():
    labels = np.array([0.0, 1.0, 4.0])
    weights = np.array([[2, 1, 1], [0, 1, 0], [1, 0, 1]])  # shares 0.5 0.25 0.25; all of label 1; half 0, half 4
    predictions = weights @ labels / weights.sum(1)
    assert predictions.tolist() == [1.25, 1, 2]
    # the largest contribution is of label 0, 1 and (the first of equals) 0
    assert metrics.top_label_gap(weights, labels, predictions) == pytest.approx((1.25 + 0 + 2) / 3)
    variance = 0.25 * 1 + 0.25 * 16 - 1.25**2
    assert metrics.label_spread(weights, labels) == pytest.approx((np.sqrt(variance) + 0 + 2) / 3)
    on_ground = np.array([[True, False, True], [True, False, True], [False, True, True]])
    assert metrics.ground_share(weights, on_ground) == pytest.approx((0.75 + 0 + 0.5) / 3)
    result = metrics.summary(predictions, predictions, LabelScale(0, 4), False, weights, labels, on_ground)
    assert (result["top_label_gap"], result["ground_share"]) == pytest.approx((3.25 / 3, 1.25 / 3))


def test_undefined_metrics_are_none():
    nothing = dict.fromkeys(("sparsity", "diversity", "top_label_gap", "label_spread", "ground_share"))
    baseline = metrics.summary(np.array([1.0]), np.array([1.0]), GRADES, True)
    assert baseline == nothing | {"mae": 0, "mae_clamped": 0, "accuracy": 1, "kappa": None, "n_test": 1}
    age = metrics.summary(np.array([33.0]), np.array([30.5]), LabelScale(18, 90), False, np.ones((1, 5)))
    assert age == nothing | {
        "mae": 2.5,
        "mae_clamped": 2.5,
        "accuracy": None,
        "kappa": None,
        "sparsity": 4.0,
        "diversity": 5,
        "n_test": 1,
    }
