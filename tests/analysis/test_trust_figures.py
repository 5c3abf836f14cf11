"""Figures of notebook 08: what they show, read back from matplotlib."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib import colors
from matplotlib.patches import Rectangle

from insightr_nb.analysis import trust_figures
from insightr_nb.analysis.geometry import Grid

pytestmark = pytest.mark.usefixtures("closing")

SMALL = Grid(size=64, cells=4, stride=16, offset=8.0, receptive_field=43)


@pytest.fixture
def run() -> SimpleNamespace:
    """Images of 64 px shown at 128 px; image n is of grey n."""
    return SimpleNamespace(
        grid=SMALL,
        display_grid=SMALL.scaled(128),
        display_box=lambda box: tuple(2 * int(side) for side in box),
        display_image=lambda image_id: np.full((128, 128, 3), int(image_id), np.uint8),
        similarity=lambda distances: 1 / (distances + 0.5),
        prototypes=pd.DataFrame({"prototype": range(4), "x0": [0, 16, 32, 48], "y0": 16, "x1": 64, "y1": 32}),
    )


@pytest.fixture
def explanation() -> SimpleNamespace:
    """Prototype 1 contributes most; its match is cell (1, 2)."""
    maps = np.ones((3, 4, 4))
    maps[1, 1, 2] = 0
    return SimpleNamespace(
        picture=np.full((128, 128, 3), 90, np.uint8),
        image=np.full((64, 64, 3), 90, np.uint8),
        top=lambda count: np.array([1, 0, 2])[:count],
        cells=np.array([[0, 0], [1, 2], [3, 3]]),
        boxes=np.array([[0, 0, 16, 16], [32, 16, 48, 32], [48, 48, 64, 64]]),
        maps=maps,
        similarities=np.array([1.0, 2, 1]),
        prototype_labels=np.array([0.0, 3.14, 4]),
        target=2.0,
    )


def rectangles(axes) -> list[tuple[float, float, float, float]]:
    """(left, top, width, height) of each."""
    return [(*p.get_xy(), p.get_width(), p.get_height()) for p in axes.patches if isinstance(p, Rectangle)]


def test_the_receptive_field_is_drawn_around_the_box_of_the_cell(run, explanation):
    (axes,) = trust_figures.receptive_field(run, explanation).axes
    field, box = rectangles(axes)
    assert box == (63.5, 31.5, 32, 32)
    assert field[2:] == (86, 86)
    row, col = SMALL.scaled(128).centre(1), SMALL.scaled(128).centre(2)
    assert (field[0] + 43, field[1] + 43) == (col, row)
    assert "16 px" in axes.get_title()
    assert "43 px of 64" in axes.get_title()


def table_of_lesions() -> pd.DataFrame:
    keys = [("all", "top 1"), ("all", "random map"), ("mild", "top 1")]
    numbers = {
        "pointing": [0.6, 0.1, 0.4],
        "pointing low": [0.5, 0.1, 0.3],
        "pointing high": [0.8, 0.1, 0.45],
        "pointing random": [0.3, np.nan, 0.2],
        "mass_ratio": [4.0, 1, 3],
        "mass_ratio low": [3.0, 1, 2],
        "mass_ratio high": [5.0, 1, 4],
        "mass_ratio random": [2.0, np.nan, 2],
        "chance": [0.05, 0.05, 0.01],
        "ceiling": [0.7, 0.7, 0.5],
    }
    return pd.DataFrame(numbers, index=pd.MultiIndex.from_tuples(keys, names=["group", "method"])).assign(images=7)


def test_bars_of_lesions_stand_beside_those_of_a_random_backbone():
    figure = trust_figures.lesion_bars(table_of_lesions())
    all_images, mild = figure.axes
    assert all_images.get_title() == "all: 7 images with lesions"
    assert [bar.get_width() for bar in mild.patches] == [0.4, 0.2]
    trained, controls, random, nothing = all_images.patches
    assert [trained.get_width(), controls.get_width(), random.get_width()] == [0.6, 0.1, 0.3]
    assert np.isnan(nothing.get_width())
    assert [t.get_text() for t in all_images.get_yticklabels()] == ["top 1", "random map"]
    assert colors.same_color(controls.get_facecolor(), "#7d7d7d")
    assert not colors.same_color(trained.get_facecolor(), controls.get_facecolor())
    places = [c.get_segments()[0][:, 0].tolist() for c in all_images.collections]
    assert places == [pytest.approx([0.5, 0.8]), [0.05, 0.05], [0.7, 0.7]]  # interval, chance, ceiling
    assert "peak on a lesion" in all_images.get_xlabel()
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["chance", "ceiling", "trained", "random backbone"]


def test_the_chance_of_a_mass_ratio_is_1():
    figure = trust_figures.lesion_bars(table_of_lesions(), "mass_ratio")
    (line,) = (line for line in figure.axes[0].lines if line.get_label() == "chance")
    assert set(line.get_xdata()) == {1}
    assert [bar.get_width() for bar in figure.axes[1].patches] == [3, 2]


def test_matches_are_shown_over_cells_and_traced_with_the_outline_of_the_lesion(run, explanation, monkeypatch):
    traced = np.zeros((64, 64), np.float32)
    traced[20:24, 36:40] = 2
    run.network = object()
    monkeypatch.setattr(trust_figures.tracing, "match", lambda network, image, j: traced * (j == 1))
    lesion = np.zeros((64, 64), bool)
    lesion[16:32, 32:48] = True
    above, below = trust_figures.traced_matches(run, [explanation], [lesion]).axes
    assert above.get_title() == "label 2, prototype 3.1"
    assert rectangles(above) == [(63.5, 31.5, 32, 32)]
    heat, small = (np.asarray(axes.images[1].get_array()) for axes in (above, below))
    assert np.unravel_index(heat.argmax(), heat.shape) == pytest.approx((48, 80), abs=1)  # centre of cell (1, 2)
    assert (np.argwhere(small > 1).min(axis=0), np.argwhere(small > 1).max(axis=0)) == (
        pytest.approx([40, 72], abs=1),
        pytest.approx([47, 79], abs=1),
    )
    for axes in (above, below):
        outline = np.concatenate([path.vertices for path in axes.collections[0].get_paths()])
        assert outline.min(axis=0) == pytest.approx([64, 32], abs=1)
        assert outline.max(axis=0) == pytest.approx([95, 63], abs=1)


def test_deletion_curves_are_means_over_patients_in_a_panel_per_fill():
    """Patient p has two images, with 1 and 3 after a patch; patient q has one, with 6: their mean is 4."""
    images = (("p", 1.0), ("p", 3.0), ("q", 6.0))
    rows = [
        (patient, fill, order, removed, factor * removed * change)
        for patient, change in images
        for fill, factor in (("grey", 1), ("blurred", 0.5))
        for order in ("contribution", "random", "contrast")
        for removed in (0, 1)
    ]
    curves = pd.DataFrame(rows, columns=["patient_id", "fill", "order", "removed", "change"])
    curves.loc[curves["order"] == "random", "change"] = 0.5
    grey, blurred = trust_figures.deletion_curves(curves).axes
    assert [grey.get_title(), blurred.get_title()] == ["fill: grey", "fill: blurred"]
    assert grey.lines[0].get_xydata().tolist() == [[0, 0], [1, 4]]
    assert grey.lines[1].get_ydata().tolist() == [0.5, 0.5]
    assert blurred.lines[0].get_ydata().tolist() == [0, 2]
    assert [text.get_text() for text in grey.get_legend().get_texts()] == ["contribution", "random", "contrast"]
    assert blurred.get_legend() is None


def test_stability_has_mean_overlap_and_moves_of_each_change_next_to_the_baseline():
    rows = pd.DataFrame(
        {
            "change": ["shift", "shift", "JPEG", "JPEG"],
            "patient_id": ["p", "q"] * 2,
            "overlap": [0.4, 0.8, 1, 1],
            "moved": [0.1, 0.3, 0, 0],
            "baseline_moved": [0.0, 0.2, 0.5, 0.5],
        }
    )
    left, right = trust_figures.stability_bars(rows).axes
    assert [t.get_text() for t in left.get_yticklabels()] == ["shift", "JPEG"]
    assert [bar.get_width() for bar in left.patches] == pytest.approx([0.6, 1])
    assert [bar.get_width() for bar in right.patches[:4]] == pytest.approx([0.2, 0, 0.1, 0.5])
    assert [t.get_text() for t in right.get_legend().get_texts()] == ["INSightR-Net", "baseline"]
    assert left.get_xlim() == (0, 1)
    _, alone = trust_figures.stability_bars(rows.assign(baseline_moved=np.nan)).axes
    assert [t.get_text() for t in alone.get_legend().get_texts()] == ["INSightR-Net"]


def test_the_gallery_begins_with_the_prototypes_to_doubt_most(run):
    """Scores: 0 + 0 + 0.5, 0.9 + 0 + 0, 0 + 1 + 1, 0.2 + 0 + 0."""
    audit = pd.DataFrame(
        {
            "prototype": [0, 1, 2, 3],
            "label": [0.0, 1, 2, 3],
            "image_id": ["10", "11", "12", "13"],
            "source_label": [1.0, 1, 4, 3],
            "twins": [0, 0, 2, 0],
            "background": [0, 0.9, 0, 0.2],
            "gap": [1.0, 0, 2, 0],
        }
    )
    axes = trust_figures.audit_gallery(run, audit, count=3).axes
    titles = [a.get_title() for a in axes]
    assert [title.split(" ")[0] for title in titles[:3]] == ["#2", "#1", "#0"]
    assert titles[0] == "#2 label 2.0\nimage of 4, twins 2\nbackground 0%"
    assert titles[3] == ""
    assert [np.asarray(a.images[0].get_array())[0, 0, 0] for a in axes[:3]] == [12, 11, 10]
    assert rectangles(axes[0]) == [(63.5, 31.5, 64, 32)]


def test_risk_coverage_curves_are_grey_for_trivial_scores():
    names = ["spread of the labels", "nearness to the middle", "best possible", "chance"]
    curves = pd.DataFrame({"referred": [0, 0.5]} | {name: [1, 0.1 * n] for n, name in enumerate(names)})
    (axes,) = trust_figures.referral_curve(curves, "title").axes
    lines = {line.get_label(): line for line in axes.lines}
    assert {name: line.get_xydata().tolist() for name, line in lines.items()} == {
        name: [[0, 1], [0.5, 0.1 * n]] for n, name in enumerate(names)
    }
    assert colors.same_color(lines["nearness to the middle"].get_color(), "#9a9a9a")
    assert not colors.same_color(lines["spread of the labels"].get_color(), "#9a9a9a")
    assert axes.get_ylim()[0] == 0
    assert axes.get_title() == "title"


def test_drift_has_both_ways_of_batchnorm():
    (axes,) = trust_figures.prototype_drift([0.0, 0.2, 0.3], [0.0, 0.0, 0.0]).axes
    moving, frozen = axes.lines
    assert moving.get_ydata().tolist() == [0.0, 0.2, 0.3]
    assert "moves" in moving.get_label()
    assert frozen.get_ydata().tolist() == [0.0, 0.0, 0.0]
    assert "frozen" in frozen.get_label()
