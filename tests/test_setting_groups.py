"""Groups of settings: the scale of the labels."""

import numpy as np
import pytest

from insightr_nb.settings import LabelScale


@pytest.mark.parametrize(("minimum", "maximum"), [(0, 4), (-2.5, 7.5), (18, 90)])
def test_labels_map_onto_1_to_5_and_back(minimum, maximum):
    scale = LabelScale(minimum, maximum)
    assert scale.to_model(minimum) == 1
    assert scale.to_model(maximum) == 5
    assert scale.to_user(scale.to_model((minimum + maximum) / 3)) == pytest.approx((minimum + maximum) / 3)


def test_grades_shift_by_one():
    assert LabelScale(0, 4).to_model(2) == 3
    assert LabelScale(0, 4).unit == 1


def test_prototype_labels_go_below_the_range_in_the_users_units():
    assert LabelScale(0, 4).to_user(0.1) == pytest.approx(-0.9)
    assert LabelScale(0, 4).to_user(5.9) == pytest.approx(4.9)


@pytest.mark.parametrize(
    ("scale", "user", "model"),
    [
        (LabelScale(0, 4), [0, 1, 4, -0.9, 4.9], [1, 2, 5, 0.1, 5.9]),
        (LabelScale(1, 5), [1, 3, 5], [1, 3, 5]),
        (LabelScale(-10, 30), [-10, 0, 10, 30, 35], [1, 2, 3, 5, 5.5]),
    ],
)
def test_the_range_becomes_1_to_5_inside_and_comes_back(scale, user, model):
    assert scale.to_model(np.array(user, float)) == pytest.approx(model)
    assert scale.to_user(np.array(model, float)) == pytest.approx(user)
