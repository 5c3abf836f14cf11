import numpy as np
import pytest

from insightr_nb.analysis import metrics
from insightr_nb.settings import LabelScale

GRADES = LabelScale(0, 4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [1.0, 0.02, 1e4, 0.1])
def test_fifty_equal_weights_need_forty(value, dtype):
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


def test_of_equal_contributions_the_first_prototype_counts():
    assert metrics.top_prototypes(np.array([[1.0, 2.0, 2.0, 1.0]]), 3).tolist() == [[1, 2, 0]]


def test_mae_and_accuracy_by_hand():
    predictions, targets = np.array([-0.9, 0.4, 1.6, 4.9]), np.array([0, 1, 2, 4])
    assert metrics.mean_absolute_error(predictions, targets) == pytest.approx((0.9 + 0.6 + 0.4 + 0.9) / 4)
    assert metrics.rounded_grades(predictions, GRADES).tolist() == [0, 0, 2, 4]  # clamped to the range
    assert metrics.accuracy(predictions, targets, GRADES) == 0.75


def test_kappa():
    assert metrics.quadratic_kappa(np.array([0.1, 1.2, 3.8]), np.array([0, 1, 4]), GRADES) == 1.0
    assert metrics.quadratic_kappa(np.array([4, 0]), np.array([0, 4]), GRADES) == -1.0
    assert metrics.quadratic_kappa(np.array([2.0, 2.0]), np.array([2, 2]), GRADES) is None


def test_what_has_no_meaning_is_none():
    baseline = metrics.summary(np.array([1.0]), np.array([1.0]), GRADES, True, None)
    assert (baseline["sparsity"], baseline["diversity"], baseline["n_test"]) == (None, None, 1)
    age = metrics.summary(np.array([33.0]), np.array([30.5]), LabelScale(18, 90), False, np.ones((1, 5)))
    assert age == {"mae": 2.5, "accuracy": None, "kappa": None, "sparsity": 4.0, "diversity": 5, "n_test": 1}
