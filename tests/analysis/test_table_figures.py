"""Sentences about the figures of notebooks 05 and 06, by tables made by hand."""

import numpy as np
import pandas as pd

from insightr_nb import files
from insightr_nb.analysis import table_figures
from insightr_nb.runs import Run
from insightr_nb.settings import LabelScale


def run(folder, rows: list[tuple[float, float]], weights=None) -> Run:
    """A run with these (target, prediction) and contributions."""
    table = [{"image_id": str(n), "target": t, "prediction": p} for n, (t, p) in enumerate(rows)]
    files.write_csv(folder / "predictions.csv", table)
    if weights is not None:
        files.write_array(folder / "weights.npy", np.array(weights, np.float32))
    return Run(folder)


def test_the_most_confused_grade_in_words(tmp_path):
    made = run(tmp_path, [(0, 0.1), (1, 1.2), (1, 0.4), (1, 1.9), (1, 1.8), (2, 2.0)])
    shares = table_figures.confusion_shares([made], LabelScale(0, 2))
    assert shares.loc[1].tolist() == [0.25, 0.25, 0.5]
    assert table_figures.describe_confusion(shares) == (
        "Grade 1 is recognised least often, in 25% of its images; 50% of them are taken for grade 2."
    )
    figure = table_figures.confusion(shares, "all")
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["0", "1", "2"]
    table_figures.plt.close(figure)


def test_the_largest_bias_in_words(tmp_path):
    made = {"A": [run(tmp_path / "a", [(0, 0.5), (1, 1.1)])], "B": [run(tmp_path / "b", [(0, 0.1), (1, 0.7)])]}
    text = table_figures.describe_calibration(made)
    assert text == "The mean prediction is farthest from the label here: A: +0.50 at label 0; B: -0.30 at label 1."


def test_how_often_prototypes_are_used_in_words(tmp_path):
    weights = np.zeros((4, 7))
    weights[:, :5] = 2  # the top 5 of three images
    weights[3] = [0, 1, 1, 1, 1, 1, 0]
    made = run(tmp_path, [(0, 0)] * 4, weights)
    assert table_figures.usage(made).tolist() == [0.75, 1, 1, 1, 1, 0.25, 0]
    text = table_figures.describe_usage({"A": made})
    assert text.startswith("A: 1 of 7 prototypes are in the top 5 of less than 1 % of the images")
    assert text.endswith("in that of 100%")


def test_a_sweep_in_words():
    part = pd.DataFrame({"value": [10, 10, 50], "mae": [0.2, 0.4, 0.25], "sparsity": [3, 5, 15], "fold": [0, 1, 0]})
    assert table_figures.describe_sweep(part, "prototypes") == (
        "From 10 to 50 prototypes, the MAE goes from 0.300 to 0.250 and the sparsity from 4.0 to 15.0; the lowest MAE "
        "is at 50 (0.250)."
    )
