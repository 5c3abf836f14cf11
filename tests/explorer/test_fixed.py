"""A pane drawn as a fixed picture: every mark at its pixels, also at a zoom."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from insightr_nb.explorer import fixed, pictures
from insightr_nb.explorer.scene import Scene

SIDE = 200
BOX = {"box": [0.2, 0.4, 0.4, 0.7], "number": "", "colour": "#ff0000", "reason": 0}


def scene(**pane) -> tuple[Scene, dict]:
    """A grey photograph of 100 px with a white square in [0.2, 0.4] x [0.4, 0.7], and a pane of it."""
    image = np.full((100, 100, 3), 90, np.uint8)
    image[40:70, 20:40] = 250
    made = Scene("a")
    key = made.picture("image", pictures.encode(image))
    return made, {"image": key, "reasons": [{}]} | pane


def extent(mask: np.ndarray) -> list[int]:
    """x0, y0, x1, y1 of the pixels of a mask."""
    rows, columns = np.nonzero(mask)
    return [int(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]


@pytest.mark.parametrize(
    ("zoom", "centre", "expect"),
    [
        (1, (0.5, 0.5), [40, 80, 80, 140]),
        (2, (0.3, 0.5), [60, 60, 140, 180]),
        (0.5, (0.5, 0.5), [70, 90, 90, 120]),
        (4, (0.25, 0.5), [60, 20, 200, 200]),  # continues beyond the picture
    ],
)
def test_photograph_and_box_lie_in_the_same_place_at_every_zoom(zoom, centre, expect):
    made, pane = scene(boxes=[BOX])
    bare = fixed.pane(made, pane, (), 1, SIDE, zoom, centre)
    assert bare.shape == (SIDE, SIDE, 3)
    assert np.abs(np.subtract(extent((bare > 170).all(axis=2)), expect)).max() <= 1
    marked = fixed.pane(made, pane, ("boxes",), 1, SIDE, zoom, centre)
    red = extent((marked == (255, 0, 0)).all(axis=2))
    assert np.abs(np.subtract(red, expect)).max() <= 1
    if zoom < 1:
        assert (bare[10, 10] == 128).all()  # beyond the photograph


def test_a_number_stands_above_its_box_in_its_colour():
    made, pane = scene(boxes=[BOX | {"number": "3", "colour": pictures.COLOURS[2]}])
    drawn = fixed.pane(made, pane, ("boxes",), 1, SIDE)
    colour = np.round(255 * np.array(to_rgb(pictures.COLOURS[2]))).astype(int)
    above = (drawn[64:79, 40:54] == colour).all(axis=2)
    assert 0.5 < above.mean() < 0.95  # the rest is the number
    assert not (drawn[:60] == colour).all(axis=2).any()


def test_a_layer_covers_its_share_with_its_opacity_and_only_the_chosen_match_is_drawn():
    heat = np.zeros((8, 8))
    heat[:4] = 1  # the upper half
    made, pane = scene()
    up, down = (made.picture(name, pictures.heat_png(values)) for name, values in (("up", heat), ("down", heat[::-1])))
    pane["reasons"] = [{"layers": {"trace": up, "cells": down}}, {"layers": {"trace": down}}]
    brightest, grey = np.array([0, 229, 255]), 90
    drawn = fixed.pane(made, pane, ("trace",), 0.6, SIDE)
    assert drawn[0, 199] == pytest.approx(0.4 * grey + 0.6 * brightest, abs=2)  # up to the rim
    assert drawn[30, 150] == pytest.approx(0.4 * grey + 0.6 * brightest, abs=2)
    assert drawn[180, 150] == pytest.approx([grey] * 3, abs=2)
    for shown, chosen in ((("cells",), 0), (("trace",), 1)):
        drawn = fixed.pane(made, pane, shown, 1, SIDE, chosen=chosen)
        assert drawn[30, 150] == pytest.approx([grey] * 3, abs=2)
        assert drawn[180, 150] == pytest.approx(brightest, abs=2)
    zoomed = fixed.pane(made, pane, ("trace",), 1, SIDE, 2, (0.5, 0.5))
    assert zoomed[60, 150] == pytest.approx(brightest, abs=2)  # 0.4 of the photograph's height
    assert zoomed[140, 150] == pytest.approx([grey] * 3, abs=2)


def test_outlines_and_the_receptive_field_at_a_zoom():
    made, pane = scene(outlines=["0.5,0.5 0.6,0.5 0.6,0.6 0.5,0.6"], reasons=[{"field": [0.45, 0.4, 0.7, 0.65]}])
    for name, expect in (("lesions", [100, 100, 141, 141]), ("field", [80, 60, 180, 160])):
        drawn = fixed.pane(made, pane, (name,), 1, SIDE, 2, (0.5, 0.5))
        bare = fixed.pane(made, pane, (), 1, SIDE, 2, (0.5, 0.5))
        assert np.abs(np.subtract(extent((drawn != bare).any(axis=2)), expect)).max() <= 1
        assert (drawn[expect[1] + 20, expect[0]] > 200).all()


def test_a_figure_has_all_panes_at_their_zoom_with_captions_and_the_contributions(selection):
    made, pane = scene(boxes=[BOX], reasons=[{"anchor": [0.3, 0.55]}])
    whole, match, prototype = pane, dict(pane), dict(pane)
    made.blocks = [
        {"kind": "photograph", "panes": [whole]},
        {"kind": "pairs", "pairs": [{"panes": [match, prototype], "caption": "one &amp; two<br>$3$"}]},
        {"kind": "text", "html": "not drawn"},
    ]
    x, reasons = selection.explanation, selection.explanation.reasons(2)
    prototype["reasons"] = [{"anchor": [0.6, 0.2]}]
    view, centres = {"zoom": 2.0, "chosen": 0, "offset": [0.1, 0]}, [(0.4, 0.55), (0.4, 0.55), (0.7, 0.2)]
    first, second, chart = fixed.figure(made, x, reasons, ("boxes",), 0.6, view).axes
    drawn = [fixed.pane(made, pane, ("boxes",), 0.6, 520, 2.0, centre) for centre in centres]
    assert np.array_equal(first.images[0].get_array(), drawn[0])
    assert np.array_equal(second.images[0].get_array()[:, :520], drawn[1])
    assert np.array_equal(second.images[0].get_array()[:, 532:], drawn[2])
    assert [axes.texts[0].get_text() for axes in (first, second)] == ["", "one & two\n$3$"]
    assert [bar.get_height() for bar in chart.patches] == pytest.approx(100 * x.shares)
    nearer = fixed.figure(made, x, reasons, (), 0.6, view | {"zoom": 1.5}).axes[0].images[0].get_array()
    assert np.array_equal(nearer, fixed.pane(made, pane, (), 0.6, 520, 1.5, (0.45, 0.525)))  # half way to the match
    whole = fixed.figure(made, x, reasons, (), 0.6, {}).axes[0].images[0].get_array()
    assert np.array_equal(whole, fixed.pane(made, pane, (), 0.6, 520))
