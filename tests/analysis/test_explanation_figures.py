"""What the figures are made of."""

import numpy as np

from insightr_nb.analysis import explanation_figures

GREY = np.full((64, 64, 3), 90, np.uint8)


def test_a_cold_map_leaves_the_picture_and_a_hot_one_covers_it():
    assert np.array_equal(explanation_figures.overlay(GREY, np.zeros((64, 64)), 1.0), GREY)
    hot = explanation_figures.overlay(GREY, np.ones((64, 64)), 1.0)
    assert (hot == np.array([252, 254, 164])).all()  # the brightest of inferno
    assert np.array_equal(explanation_figures.overlay(GREY, np.ones((64, 64)), 0.0), GREY)
