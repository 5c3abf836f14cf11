"""Sentences of notebook 04, by tables made by hand."""

from types import SimpleNamespace

import numpy as np
import pandas as pd

from insightr_nb.analysis import projection_report
from insightr_nb.analysis.geometry import Grid

GRID = Grid(size=128, cells=9, stride=16, offset=-4, receptive_field=107)


def prototypes(rows: list[int]) -> pd.DataFrame:
    count = len(rows)
    return pd.DataFrame(
        {
            "prototype": range(count),
            "label": np.arange(count, dtype=float),
            "image_id": "a",
            "row": rows,
            "col": 0,
            "distance_before_projection": np.linspace(0.1, 0.3, count),
        }
    )


def test_different_patches_are_counted_and_a_collapse_is_a_warning():
    text = projection_report.describe_prototypes(prototypes([0, 1, 2]), np.array([0.0, 1, 5]), GRID)
    assert text.startswith("3 prototypes from 3 different patches of 1 images. ")
    assert "by 1.00 on average" in text
    assert "107 px of 128" in text
    assert "Warning" not in text
    assert "they have collapsed" in projection_report.describe_prototypes(prototypes([0, 0, 0]), np.zeros(3), GRID)


def test_exactness():
    text = projection_report.describe_exactness([0.0, 2e-7], [9999.5, 10000.0], 10000.0)
    assert text == (
        "Largest squared distance of a prototype to its patch: 2.0e-07. Smallest similarity: 9999.5 of at most 10000.0."
    )


def test_the_farthest_projection():
    text = projection_report.describe_projection(prototypes([0, 1, 2]))
    assert "0.200 in the median; prototype 2 (label 2.0) moved farthest, by 0.300." in text


def test_an_explanation_with_and_without_folds():
    e = SimpleNamespace(
        name="x",
        warnings=(),
        prediction=1.25,
        target=1.0,
        uncertainty=0.5,
        prototype_labels=np.array([0.0, 1, 2]),
        shares=np.array([0.2, 0.5, 0.3]),
        top=lambda count: np.array([1, 2])[:count],
    )
    one = SimpleNamespace(explanations=[e], prediction=1.25, spread=0.0)
    text = projection_report.describe_explanation(e, one)
    assert text == (
        "x: prediction 1.25, label 1. The 2 largest contributions make 80% of it and carry the labels 1.0, 2.0; the "
        "spread of all labels is 0.50."
    )
    two = SimpleNamespace(explanations=[e, e], prediction=1.5, spread=0.1)
    assert projection_report.describe_explanation(e, two).endswith("Mean of 2 folds: 1.50, spread 0.10.")


def test_the_images_of_a_folder_in_words():
    table = pd.DataFrame(
        {"prediction": [1.25, np.nan, 3.0], "warnings": ["", np.nan, "unlike"], "error": ["", "no image", ""]}
    )
    assert projection_report.describe_folder(table) == (
        "3 images, of which 1 could not be used and 1 have a warning. Predictions from 1.25 to 3.00."
    )
    assert projection_report.describe_folder(table[1:2]) == "1 image, of which 1 could not be used."
