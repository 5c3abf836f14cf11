"""Choice of typical images. tests/training tests the explanations of the smoke run."""

from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

from insightr_nb.analysis.explanation import Explanation, explain, typical
from insightr_nb.analysis.geometry import Grid
from insightr_nb.data import synthetic
from insightr_nb.errors import DataError


@pytest.mark.parametrize(
    ("targets", "predictions", "expect"),
    [
        ([0], [1], ["0"]),
        ([1, 0], [1, 1], ["1", "0"]),
        ([4, 0, 0, 2, 2, 0, 4, 2, 4], [3, 0, 1, 2, 4, 3, 4, 3, 2], ["2", "7", "0"]),
    ],
)
def test_typical_selects_the_median_error_in_each_third_of_the_labels(targets, predictions, expect):
    names = [str(n) for n in range(len(targets))]
    table = pd.DataFrame({"image_id": names, "target": targets, "prediction": predictions})
    assert typical(table) == expect


def test_an_explanation_is_made_of_contributions_and_distances():
    run = SimpleNamespace(
        similarity=lambda distances: 1 / (distances + 0.5),
        grid=Grid(8, 2, 4, 1.5, 8),  # two by two cells of 4 px
        labels=np.array([0.0, 2.0, 4.0]),
        prototypes=pd.DataFrame({"prototype": [0, 1, 2]}),
    )
    maps = np.array([[[3.0, 1.0], [2.0, 2.0]], [[0.5, 0.5], [0.5, 9.0]], [[4.0, 4.0], [4.0, 0.0]]])
    blank = np.zeros((8, 8, 3), np.uint8)
    got = Explanation.of(run, 2.4, np.array([2.0, 4.0, 4.0]), maps, image=blank, picture=blank, target=2.0, name="eye")
    assert got.min_distances.tolist() == [1, 0.5, 0]
    assert got.similarities.tolist() == [1 / 1.5, 1, 2]
    assert got.cells.tolist() == [[0, 1], [0, 0], [1, 1]]  # the first of equal patches
    assert got.boxes.tolist() == [[4, 0, 8, 4], [0, 0, 4, 4], [4, 4, 8, 8]]
    assert got.shares.tolist() == [0.2, 0.4, 0.4]
    assert got.top(2).tolist() == [1, 2]
    assert str(got) == (
        "Explanation(eye: prediction 2.40, label 2, uncertainty 1.50; largest contributions of 3 prototypes: "
        "#1 (label 2.00) 40%, #2 (label 4.00) 40%, #0 (label 0.00) 20%)"
    )


def test_an_array_and_its_file_have_the_same_explanation(loaded, tmp_path):
    photograph = synthetic.photograph(3, 5, 200).image
    cv2.imwrite(str(tmp_path / "a.png"), photograph[..., ::-1])
    by_array, by_file = explain(loaded, photograph), explain(loaded, tmp_path / "a.png")
    assert by_array.prediction == by_file.prediction
    assert by_array.target is None
    assert by_file.target is None
    assert by_array.picture.shape == (512, 512, 3)
    assert by_array.prediction == pytest.approx((by_array.weights @ by_array.prototype_labels) / by_array.weights.sum())


@pytest.mark.parametrize(
    ("image", "fragment"),
    [
        (np.zeros((4, 4), np.uint8), "(4, 4) uint8"),
        (np.zeros((4, 4, 3), np.float32), "(4, 4, 3) float32"),
        (7, "image = 7"),
        ("nobody", "'nobody'"),
    ],
)
def test_what_is_no_image_is_refused_by_its_value(loaded, image, fragment):
    with pytest.raises(DataError) as caught:
        explain(loaded, image)
    assert fragment in str(caught.value)
