"""Fit of the last layer: the loss by hand, its gradient by differences, and importance that is found again."""

import numpy as np
import pytest

from insightr_nb.analysis import refitting


def test_the_loss_and_its_gradient_by_hand():
    # r = theta^2 / l = (1, 1); p = (1 * 1 + 3 * 4) / 4 = 3.25; error 0.25
    labels = np.array([1.0, 4.0])
    value, gradient = refitting.loss(np.sqrt(labels), np.array([[1.0, 3.0]]), labels, np.array([3.0]))
    assert value == 0.0625
    # dp / dr = (1 * (1 - 3.25) / 4, 3 * (4 - 3.25) / 4); dr / dtheta = 2 theta / l = (2, 1)
    assert gradient.tolist() == pytest.approx([2 * 0.25 * -0.5625 * 2, 2 * 0.25 * 0.5625 * 1])


def test_the_gradient_agrees_with_differences():
    rng = np.random.default_rng(0)
    theta, labels = rng.uniform(0.5, 2, 6), np.linspace(0.1, 5.9, 6)
    data = rng.uniform(1, 100, (20, 6)), labels, rng.uniform(1, 5, 20)
    _, gradient = refitting.loss(theta, *data)
    for j in range(6):
        step = 1e-6 * np.eye(6)[j]
        slope = (refitting.loss(theta + step, *data)[0] - refitting.loss(theta - step, *data)[0]) / 2e-6
        assert gradient[j] == pytest.approx(slope, rel=1e-5, abs=1e-9)


def test_the_importance_that_made_the_targets_is_found():
    rng = np.random.default_rng(1)
    labels, importance = np.array([1.0, 2, 4, 5]), np.array([1.0, 3, 0.5, 2])
    similarities = rng.uniform(1, 1e4, (200, 4))
    targets = (similarities * importance) @ labels / (similarities @ importance)
    start = np.sqrt(labels)
    found = refitting.steps(start, similarities, labels, targets)
    assert np.array_equal(found[0], start)
    got = found[-1] ** 2 / labels
    np.testing.assert_allclose(got / got[0], importance, rtol=1e-2)
    assert refitting.loss(found[-1], similarities, labels, targets)[0] < 1e-6
