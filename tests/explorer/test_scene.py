"""The blocks of an explanation: boxes, numbers, colours, captions and layers, compared with `explain` and by hand."""

from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from explorer import shown
from explorer.shown import TWINS

from insightr_nb.analysis import tracing
from insightr_nb.analysis.explanation import explain
from insightr_nb.analysis.geometry import Grid
from insightr_nb.data.masks import lesion_masks
from insightr_nb.explorer import pictures, scene
from insightr_nb.explorer.exploration import Exploration
from insightr_nb.explorer.fixed import plain
from insightr_nb.explorer.scene import Scene, explained, prototype_pane
from insightr_nb.explorer.subject import Subject, View


def scene_of(explored, selection, x=None, **view) -> Scene:
    made = Scene("a")
    view = replace(selection.view, **view)
    made.blocks = explained(made, explored, selection.subject, x or selection.explanation, view, "a:")
    return made


def test_boxes_lie_in_shares_of_the_side_with_the_same_number_and_colour_everywhere(explored, selection):
    """Boxes and contributions by hand: the three largest are prototypes 7, 0 and 4."""
    x = selection.explanation
    weights, boxes = np.zeros(10), x.boxes.copy()
    weights[[7, 0, 4]] = 9, 8, 7
    boxes[[7, 0, 4]] = [[16, 0, 48, 32], [0, 32, 16, 64], [48, 16, 64, 48]]
    x = replace(x, weights=weights, boxes=boxes)
    made = scene_of(explored, selection, x)
    photograph, pairs = made.blocks[0]["panes"][0], made.blocks[1]["pairs"]
    assert [b["box"] for b in photograph["boxes"]] == [[0.25, 0, 0.75, 0.5], [0, 0.5, 0.25, 1], [0.75, 0.25, 1, 0.75]]
    assert [r["anchor"] for r in photograph["reasons"]] == [[0.5, 0.25], [0.125, 0.75], [0.875, 0.5]]
    assert [b["number"] for b in photograph["boxes"]] == ["1", "2", "3"]
    assert [b["reason"] for b in photograph["boxes"]] == [0, 1, 2]
    bars = shown.bars(pictures.contributions(x.prototype_labels, x.shares, scene.marked(x.reasons(3)), {"p": (1, "")}))
    table = explored.loaded.prototypes
    for box, pair, j in zip(photograph["boxes"], pairs, (7, 0, 4), strict=True):
        here, there = pair["panes"]
        assert here["boxes"] == [box | {"reason": None}]
        assert (there["boxes"][0]["number"], there["boxes"][0]["colour"]) == (box["number"], box["colour"])
        assert there["boxes"][0]["box"] == (table.loc[j, ["x0", "y0", "x1", "y1"]] / 64).tolist()
        assert there["image"] == f"a:source:{table['image_id'][j]}"
        assert bars[j].get("stroke") == box["colour"]
        assert f"background:{box['colour']}" in pair["caption"]
        assert pair["caption"].startswith(scene.number(int(box["number"]) - 1))
    assert len({b["colour"] for b in photograph["boxes"]}) == 3


def test_captions_hold_the_numbers_of_explain(explored, selection):
    x = explain(explored.loaded, selection.subject.name)
    labels = explored.loaded.store.table.set_index("image_id")["label"]
    single = [js for js in x.reasons(8) if len(js) == 1]  # as many as there are colours
    pairs = scene_of(explored, selection, count=8).blocks[1]["pairs"]
    for js, pair in zip(x.reasons(8), pairs, strict=True):
        if js in single:
            (j,), source = js, x.prototype_sources["image_id"][js[0]]
            similarity = f"{x.similarities[j]:.0f}" if x.similarities[j] >= 100 else f"{x.similarities[j]:.3g}"
            assert plain(pair["caption"]).splitlines()[0].split(" ", 1)[1] == (
                f"prototype {j}, label {x.prototype_labels[j]:.2f}, contribution {100 * x.shares[j]:.1f}\xa0%"
            )
            assert plain(pair["caption"]).splitlines()[1:] == [
                f"similarity {similarity}, squared distance {x.min_distances[j]:.3g}",
                f"from {source}, a photograph of label {labels[source]:g}",
            ]
            assert f'data-go="a:prototype:{j}"' in pair["caption"]
            assert f'data-go="a:image:{source}"' in pair["caption"]
    assert len(single) > 3


def test_twins_are_one_match_with_their_joint_contribution(explored, selection):
    x = selection.explanation
    weights = np.ones(10)
    weights[list(TWINS)] = 1, 3
    x = replace(x, weights=weights)
    first = scene_of(explored, selection, x, count=1).blocks[1]["pairs"][0]["caption"]
    a, b = x.prototype_labels[list(TWINS)]
    assert f"prototypes 6 and 2, label {(a + 3 * b) / 4:.2f}, contribution {100 * 4 / 12:.1f}\xa0%" in plain(first)
    assert "twins: prototypes of one patch, joined" in first
    assert scene.marked(x.reasons(1)) == {2: 0, 6: 0}


def test_only_the_layers_that_are_switched_on_are_computed(explored, selection, monkeypatch):
    for name in ("traces", "source_trace", "lesions"):
        monkeypatch.setattr(Exploration, name, lambda *_: pytest.fail("computed"))
    made = scene_of(explored, selection)
    assert all(key == "a:image" or key.startswith("a:source:") for key in made.images)
    panes = [made.blocks[0]["panes"][0], *(pane for pair in made.blocks[1]["pairs"] for pane in pair["panes"])]
    assert all(pane["outlines"] == [] and pane["reasons"][0]["layers"] == {} for pane in panes)


def test_traces_are_those_of_the_matches_in_both_images(explored, selection):
    store = explored.loaded.store
    found = (explored.explanation(n) for n in range(len(explored.predictions)))  # a cell may be dead at this size
    x = next(
        x
        for x in found
        if tracing.matches(explored.loaded.network, x.image, [js[0] for js in x.reasons(3)]).any((1, 2)).all()
    )
    made = scene_of(explored, selection, x, layers=("trace",))
    for n, js in enumerate(x.reasons(3)):
        here, there = made.blocks[1]["pairs"][n]["panes"]
        p = x.prototype_sources.iloc[js[0]]
        source = store.image(store.row(p["image_id"]))
        expect = {
            here["reasons"][0]["layers"]["trace"]: tracing.match(explored.loaded.network, x.image, js[0]),
            there["reasons"][0]["layers"]["trace"]: tracing.match(explored.loaded.network, source, js[0]),
        }
        for key, values in expect.items():
            opacity = shown.decoded(made.images[key])[..., 3] / 255
            highest = np.quantile(values, 0.995) or 1
            assert opacity == pytest.approx(np.sqrt(np.clip(values / highest, 0, 1)), abs=0.005)
        assert made.blocks[0]["panes"][0]["reasons"][n]["layers"] == here["reasons"][0]["layers"]


def test_cells_have_one_scale_for_all_maps_and_are_brightest_at_the_match(explored, selection):
    """Distances by hand: the match of the largest contribution is in the middle cell, all others are farther.

    The scale ends at the similarity of that match, which a prototype on its own patch exceeds.
    """
    x = selection.explanation
    j, other = (js[0] for js in x.reasons(2))
    maps = np.full((10, 3, 3), 5.0)
    maps[j, 1, 1], maps[other, 1, 1] = 0.05, 0.1
    made = scene_of(explored, selection, replace(x, maps=maps), layers=("cells",))
    opacity = {key: shown.decoded(made.images[key])[..., 3] for key in made.images if ":cells:" in key}
    first = [js[0] for js in selection.explanation.reasons(3)]
    assert set(opacity) == {*(f"a:cells:{n}" for n in range(3)), *(f"a:cells:of:{k}" for k in first)}
    own, source = opacity["a:cells:0"], opacity[f"a:cells:of:{j}"]
    middle = explored.loaded.grid.scaled(160).centre(1).round().astype(int)
    assert own[middle, middle] == own.max() > own[0, 0] + 30
    assert source.max() >= 254
    assert own.max() > 250
    assert 100 < opacity["a:cells:1"].max() < 155  # half the similarity, but for epsilon


def test_the_receptive_field_is_around_the_centre_of_the_cell_and_ends_at_the_border():
    e = SimpleNamespace(loaded=SimpleNamespace(grid=Grid(100, 5, 20, 9.5, 30)))  # centres at 10, 30, ... of the edges
    assert scene._field(e, np.array([2, 1])) == [0.15, 0.35, 0.45, 0.65]
    assert scene._field(e, np.array([0, 4])) == [0.75, 0, 1, 0.25]


def test_lesions_of_image_and_source_lie_where_their_masks_are(explored):
    store = explored.loaded.store
    j = max(range(10), key=lambda j: store.table["label"][store.row(explored.loaded.prototypes["image_id"][j])])
    pane = prototype_pane(Scene("a"), explored, j, View(layers=("lesions",)))
    mask = np.any(list(lesion_masks(store, explored.loaded.prototypes["image_id"][j], size=512).values()), axis=0)
    drawn = np.zeros((512, 512), np.uint8)
    for outline in pane["outlines"]:
        points = np.array([[float(v) for v in point.split(",")] for point in outline.split()])
        cv2.fillPoly(drawn, [np.rint(512 * points).astype(int)], 1)
    assert mask.sum() > 300
    assert (mask & (drawn > 0)).sum() / (mask | (drawn > 0)).sum() > 0.5  # lesions of a few pixels
    edges = np.argwhere(mask)[[0, -1]] - np.argwhere(drawn)[[0, -1]]
    assert np.abs(edges[:, 0]).max() <= 1


def test_a_prototype_by_itself_has_no_number(explored):
    made = Scene("a")
    pane = prototype_pane(made, explored, 4, View(layers=("boxes", "cells", "trace")))
    assert [b["number"] for b in pane["boxes"]] == [""]
    assert made.images.keys() == {pane["image"], "cells:of:4", "trace:of:4"}
    assert Subject(explored.loaded.prototypes["image_id"][4]).picture(explored) == made.images[pane["image"]]


def test_links_are_escaped_and_points_are_shares():
    assert scene.link("<a>", 'image:"b"') == '<button class="link" data-go="image:&quot;b&quot;">&lt;a&gt;</button>'
    assert scene.share([16, 0, 64, 21], 64) == [0.25, 0, 1, 0.32812]
    assert [scene._short(v) for v in (0.01234, 12.34, 1234.5)] == ["0.0123", "12.3", "1234"]
