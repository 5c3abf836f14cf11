"""Figures of notebooks 05 and 06: what they show, read back from matplotlib."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from insightr_nb import files
from insightr_nb.analysis import table_figures
from insightr_nb.analysis.latent import LatentMap
from insightr_nb.runs import Run
from insightr_nb.settings import LabelScale

pytestmark = pytest.mark.usefixtures("closing")


def run(targets, predictions) -> SimpleNamespace:
    table = pd.DataFrame({"target": np.array(targets, float), "prediction": predictions})
    return SimpleNamespace(table=lambda name: {"predictions.csv": table}[name])


def test_the_confusion_matrix_pools_folds_and_has_shares_of_each_grade():
    """Grade 0: one of two is taken for 1; grade 1: right; grade 2: 4.9 is clamped to 2, 0.4 rounds to 0."""
    runs = [run([0, 0, 1], [0.2, 0.8, 1.4]), run([2, 2, 1], [4.9, 0.4, 0.6])]
    axes, bar = table_figures.confusion(table_figures.confusion_shares(runs, LabelScale(0, 2)), "title").axes
    numbers = np.array([text.get_text() for text in axes.texts]).reshape(3, 3)
    assert numbers.tolist() == [["0.50", "0.50", "0.00"], ["0.00", "1.00", "0.00"], ["0.50", "0.00", "0.50"]]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0", "1", "2"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("prediction, rounded", "grade")
    assert bar.get_ylabel() == "share of the images of a grade"


def test_calibration_has_a_panel_a_variant_with_the_mean_prediction_of_each_label():
    by_name = {"ours": [run([0, 0, 0], [0.0, 1.0, 0.2]), run([2], [3.0])], "baseline": [run([0, 2], [0.5, 2.5])]}
    figure = table_figures.calibration(by_name)
    assert [axes.get_title() for axes in figure.axes] == ["ours", "baseline"]
    for axes, (low, high) in zip(figure.axes, [(0.4, 3.0), (0.5, 2.5)], strict=True):
        diagonal, means = axes.lines[:2]
        assert diagonal.get_xydata().tolist() == [[0, 0], [2, 2]]
        assert means.get_xydata() == pytest.approx(np.array([[0, low], [2, high]]))
    assert [len(axes.collections[0].get_offsets()) for axes in figure.axes] == [4, 2]  # a point an image


def test_usage_is_the_share_of_images_with_a_prototype_in_the_top_5(monkeypatch):
    """Six prototypes; the last contributes least to three of four images, the first to the other."""
    weights = np.tile([6.0, 5, 4, 3, 2, 1], (4, 1))
    weights[3] = weights[3, ::-1]
    labels = np.linspace(-0.9, 4.9, 6)
    points = np.arange(12.0).reshape(6, 2)
    space = LatentMap(points[:4], np.arange(4.0), points, points, np.array([0.6, 0.25]))
    monkeypatch.setattr(table_figures, "load_run", lambda run: run)
    monkeypatch.setattr(table_figures.LatentMap, "of", lambda run: space)
    one = SimpleNamespace(table=lambda _: pd.DataFrame({"label": labels}), array=lambda _: weights)
    figure = table_figures.latent_and_usage({"ours": one})
    above, below, *_ = figure.axes
    assert [bar.get_height() for bar in below.patches] == [0.75, 1, 1, 1, 1, 0.25]
    figure.draw_without_rendering()  # sets the limits of the axis on the right
    (right,) = below.child_axes
    heights = right.get_ylim()[1] / below.get_ylim()[1] * np.array([0.75, 1, 1, 1, 1, 0.25])
    assert (heights * (labels[1] - labels[0])).sum() == pytest.approx(1)  # a density has area 1
    assert right.get_ylabel() == "probability density of the label in the top 5"
    assert [bar.get_x() + bar.get_width() / 2 for bar in below.patches] == pytest.approx(labels)
    stars, circles = above.collections
    assert stars.get_offsets().tolist() == points[:4].tolist()
    assert circles.get_offsets().tolist() == points.tolist()
    assert circles.get_array().tolist() == pytest.approx(labels.tolist())
    assert (above.get_title(), above.get_xlabel(), above.get_ylabel()) == ("ours", "PC 1 (60%)", "PC 2 (25%)")


@pytest.mark.parametrize(
    ("values", "scale"), [([5, 20], "linear"), ([1e-5, 1e-2], "log"), ([0, 50], "linear"), ([0, 0.03, 1], "symlog")]
)
def test_sweep_curves_are_means_over_folds(values, scale):
    count = len(values)
    mae, diversity = [0.2, 0.4, 0.5, 0.7, 0.8, 0.8][: 2 * count], [1, 2, 3, 4, 5, 5][: 2 * count]
    part = pd.DataFrame({"value": np.repeat(values, 2), "fold": [0, 1] * count, "mae": mae, "diversity": diversity})
    figure = table_figures.sweep_curves(part.assign(sparsity=3.0, top_label_gap=0.5), "prototypes")
    titles = [axes.get_ylabel().split(" ")[0] for axes in figure.axes]
    assert titles == ["MAE", "sparsity", "diversity", "top-prototype"]
    assert {axes.get_xlabel() for axes in figure.axes} == {"prototypes"}
    assert {axes.get_xscale() for axes in figure.axes} == {scale}
    x, y = figure.axes[0].lines[0].get_data()
    assert x.tolist() == values
    assert y.tolist() == pytest.approx([0.3, 0.6, 0.8][:count])
    assert figure.axes[2].lines[0].get_ydata().tolist() == [1.5, 3.5, 5][:count]
    assert figure.get_suptitle().endswith("over 2 folds")


def stored(folder, rows: list[tuple[float, float]], weights=None) -> Run:
    """A run with these (target, prediction) and contributions."""
    table = [{"image_id": str(n), "target": t, "prediction": p} for n, (t, p) in enumerate(rows)]
    files.write_csv(folder / "predictions.csv", table)
    if weights is not None:
        files.write_array(folder / "weights.npy", np.array(weights, np.float32))
    return Run(folder)


def test_the_most_confused_grade_in_words(tmp_path):
    made = stored(tmp_path, [(0, 0.1), (1, 1.2), (1, 0.4), (1, 1.9), (1, 1.8), (2, 2.0)])
    shares = table_figures.confusion_shares([made], LabelScale(0, 2))
    assert shares.loc[1].tolist() == [0.25, 0.25, 0.5]
    assert table_figures.describe_confusion(shares) == (
        "Grade 1 is recognised least often, in 25% of its images; 50% of them are taken for grade 2."
    )
    figure = table_figures.confusion(shares, "all")
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["0", "1", "2"]
    table_figures.plt.close(figure)


def test_the_largest_bias_in_words(tmp_path):
    made = {"A": [stored(tmp_path / "a", [(0, 0.5), (1, 1.1)])], "B": [stored(tmp_path / "b", [(0, 0.1), (1, 0.7)])]}
    text = table_figures.describe_calibration(made)
    assert text == "The mean prediction is farthest from the label here: A: +0.50 at label 0; B: -0.30 at label 1."


def test_how_often_prototypes_are_used_in_words(tmp_path):
    weights = np.zeros((4, 7))
    weights[:, :5] = 2  # the top 5 of three images
    weights[3] = [0, 1, 1, 1, 1, 1, 0]
    made = stored(tmp_path, [(0, 0)] * 4, weights)
    assert table_figures.usage(made).tolist() == [0.75, 1, 1, 1, 1, 0.25, 0]
    text = table_figures.describe_usage({"A": made})
    assert text.startswith("A: 1 of 7 prototypes are in the top 5 of less than 1 % of the images")
    assert text.endswith("in that of 100%")


def test_how_the_cells_of_figure_3_differ_from_the_published_ones_in_words(tmp_path):
    """Six prototypes, all nearest to the first of six cells: the published code takes it five times."""
    distances = np.full((2, 6, 6), 9.0)
    distances[:, :, 0] = 1
    files.write_array(tmp_path / "distances.npy", distances[..., None])
    text = table_figures.describe_cells({"A": Run(tmp_path)})
    assert text.endswith(" A: 100% of its five cells per image are among these; 1.0 are distinct.")


def test_a_sweep_in_words():
    part = pd.DataFrame({"value": [10, 10, 50], "mae": [0.2, 0.4, 0.25], "sparsity": [3, 5, 15], "fold": [0, 1, 0]})
    assert table_figures.describe_sweep(part.assign(top_label_gap=[0.5, 0.7, 0.9]), "prototypes") == (
        "With prototypes from 10 to 50, the MAE goes from 0.300 to 0.250, the sparsity from 4.0 to 15.0 and the "
        "top-prototype label gap from 0.60 to 0.90; the lowest MAE is at 50 (0.250)."
    )
