"""Tab 2 of the explorer: a prototype, compared with the files of the run."""

import numpy as np
import pytest
from explorer import shown
from explorer.shown import TWINS

from insightr_nb.analysis import metrics
from insightr_nb.data import display
from insightr_nb.explorer.browse_tab import BrowseTab
from insightr_nb.explorer.fixed import plain
from insightr_nb.explorer.subject import Subject, View


@pytest.fixture
def tab(explored, selection, went) -> BrowseTab:
    return BrowseTab(explored, selection, went.append)


def test_prototypes_are_browsed_in_the_order_of_their_labels(tab, explored, twinned):
    table = twinned.table("prototypes.csv")
    labels = explored.loaded.store.table.set_index("image_id")["label"]
    order = table.sort_values("label", kind="stable")["prototype"].tolist()
    tab.show()
    for j in order[:3]:
        p = table.iloc[j]
        assert tab.chosen == j
        assert plain(tab.headline.value).startswith(
            f"prototype {j}, label {p['label']:.2f} \xa0·\xa0 from {p['image_id']} (label {labels[p['image_id']]:g}), "
            f"row {p['row']}, column {p['col']} \xa0·\xa0 importance r {explored.loaded.importance[j]:.2f}"
        )
        pane = shown.pane(tab.viewer)
        assert pane["boxes"][0]["box"] == (p[["x0", "y0", "x1", "y1"]] / 64).tolist()
        assert tab.viewer.content.images[pane["image"]] == Subject(p["image_id"]).picture(explored)
        tab.viewer.handle({"event": "step", "by": 1})
    tab.choose(3)
    assert tab.chosen == 3  # not in this place by its label
    tab.choose(order[-1])
    tab.step(1)
    assert tab.chosen == order[-1]


def test_nearest_patches_and_usage_are_those_of_the_files(tab, twinned):
    tab.choose(7)
    distances = twinned.array("distances.npy")[:, 7].reshape(40, -1).min(1)
    nearest = np.argsort(distances, kind="stable")[:9]
    table = twinned.table("predictions.csv")
    thumbs = shown.blocks(tab.viewer, "thumbs")[0]["thumbs"]
    assert [plain(t["caption"]).splitlines() for t in thumbs] == [
        [table["image_id"][n], f"label {table['target'][n]:g}, squared distance {distances[n]:.3f}"] for n in nearest
    ]
    assert [t["go"] for t in thumbs] == [f"image:{table['image_id'][n]}" for n in nearest]
    used = (metrics.top_prototypes(twinned.array("weights.npy").astype(float)) == 7).any(1)
    of_two = used[table["target"] == 2].mean()
    chart = shown.blocks(tab.viewer, "chart")[0]["html"]
    assert f">{100 * used.mean():.0f} %</text>" in chart.split("all")[0]
    assert f">{100 * of_two:.0f} %</text>" in chart.split(">2</text>")[0].split(">1</text>")[1]


def test_links_lead_to_the_photograph_the_edit_and_the_twin(tab, explored, went):
    first, second = TWINS
    tab.choose(second)
    assert f"twin of {first}" in plain(tab.headline.value)
    links = shown.blocks(tab.viewer, "text")[0]["html"]
    source = explored.loaded.prototypes["image_id"][second]
    for to in (f"image:{source}", f"edit:{second}", f"prototype:{first}"):
        assert f'data-go="{to}"' in links
        tab.viewer.handle({"event": "go", "to": to})
        assert went.pop() == to
    tab.choose(7)
    assert "twin" not in tab.headline.value


def test_layers_are_those_that_are_selected_and_detail_is_at_the_resolution_of_the_source(tab, selection, explored):
    tab.show()
    assert shown.pane(tab.viewer)["reasons"][0]["layers"] == {}
    selection.view = View(layers=("trace", "cells"))
    tab.show()
    assert tab.viewer.shown == ["trace", "cells"]
    assert shown.pane(tab.viewer)["reasons"][0]["layers"] == {
        "trace": f"trace:of:{tab.chosen}",
        "cells": f"cells:of:{tab.chosen}",
    }
    detail = tab.viewer.handle({"event": "detail", "key": shown.pane(tab.viewer)["detail"]})
    store, source = explored.loaded.store, explored.loaded.prototypes["image_id"][tab.chosen]
    expect = display.detail_image(store, store.row(source))
    assert np.abs(shown.decoded(detail).astype(int) - expect).mean() < 4


def test_a_missing_source_is_reported_and_the_normalised_picture_is_shown(tab, selection, explored, sources_gone):
    selection.view = View(layers=("boxes",), original=True)
    tab.show()
    assert "eye.png: cannot be read" in tab.message.value
    pane, source = shown.pane(tab.viewer), explored.loaded.prototypes["image_id"][tab.chosen]
    assert tab.viewer.content.images[pane["image"]] == Subject(source).picture(explored)
    selection.view = View(layers=("boxes",))
    tab.show()
    assert tab.message.value == ""
