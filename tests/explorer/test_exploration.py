"""Queries of the explorer, compared with the files of a run and with `explain`."""

import numpy as np
import pandas as pd
import pytest
from explorer import shown

from insightr_nb.analysis import metrics, tracing
from insightr_nb.analysis.explanation import explain
from insightr_nb.data.folds import fold_split
from insightr_nb.explorer.exploration import Exploration, baseline_predictions


def test_stored_contributions_follow_from_stored_distances(explored):
    distances, cells = explored.nearest
    similarities = explored.loaded.similarity(distances)
    assert similarities * explored.loaded.importance == pytest.approx(explored.weights, rel=1e-4)
    n, j = 3, 4
    assert explored.distances[n, j][tuple(cells[n, j])] == distances[n, j] == explored.distances[n, j].min()


def test_nearest_patches_are_the_smallest_distances(explored):
    near = explored.nearest_patches(3, 5)
    smallest = np.sort(np.asarray(explored.distances[:, 3]).reshape(len(explored.predictions), -1).min(1))[:5]
    assert near["distance"].tolist() == pytest.approx(smallest.tolist())
    assert near["image_id"].tolist() == explored.predictions["image_id"].iloc[near["n"]].tolist()
    x0, y0, x1, y1 = near["box"][0]
    assert 0 <= x0 < x1 <= 64
    assert 0 <= y0 < y1 <= 64


def test_usage_counts_images_with_the_prototype_in_the_top_5(explored):
    top = metrics.top_prototypes(explored.weights)
    total = sum(explored.usage(j)["all"] for j in range(len(explored.labels)))
    assert total == pytest.approx(top.shape[1])
    of_grade = explored.predictions["target"].to_numpy() == 2
    assert explored.usage(5)[2.0] == pytest.approx((top[of_grade] == 5).any(1).mean())


def test_images_are_ordered_by_error_uncertainty_and_familiarity(explored):
    table = explored.predictions
    assert explored.order("table").tolist() == list(range(len(table)))
    error = (table["prediction"] - table["target"]).abs().to_numpy()
    assert (np.diff(error[explored.order("error")]) <= 0).all()
    of_one = explored.order("error", 1.0)
    assert set(table["target"].iloc[of_one]) == {1.0}
    assert (np.diff(error[of_one]) <= 0).all()
    order = explored.order("uncertainty")
    for n in order[[0, -1]]:
        x = explain(explored.loaded, table["image_id"][n])
        assert explored.uncertainties[n] == pytest.approx(x.uncertainty, abs=1e-3)
    assert (np.diff(explored.uncertainties[order]) <= 0).all()
    order = explored.order("familiarity")
    for n in order[[0, -1]]:
        assert explored.familiarities[n] == explain(explored.loaded, table["image_id"][n]).familiarity
    assert (np.diff(explored.familiarities[order]) >= 0).all()
    assert explored.familiarities[order[0]] < explored.familiarities[order[-1]]


def test_every_image_is_of_one_part_of_the_split(explored, smoke_settings):
    store = explored.loaded.store
    split = fold_split(store, smoke_settings.data, 0)
    ids = store.table["image_id"].to_numpy()
    for part in ("training", "validation", "test"):
        assert {explored.part(i) for i in ids[getattr(split, part)]} == {part}
    assert explored.part("nobody") == ""
    assert set(explored.prototypes["image_id"]) <= set(ids[split.training])


def test_traces_are_those_of_the_matches_and_a_source_is_traced_once(explored, monkeypatch):
    p, store = explored.loaded.prototypes.iloc[4], explored.loaded.store
    image = store.image(store.row(p["image_id"]))
    expect = tracing.match(explored.loaded.network, image, 4)
    got = explored.traces(image, [3, 5])
    assert np.array_equal(got[1], tracing.match(explored.loaded.network, image, 5))
    assert np.array_equal(explored.source_trace(4), expect)
    monkeypatch.setattr(tracing, "match", lambda *_: pytest.fail("computed again"))
    assert np.array_equal(explored.source_trace(4), expect)


def test_a_thumbnail_has_the_patch_in_its_middle(explored):
    run, p = explored.loaded, explored.loaded.prototypes.iloc[3]
    x0, y0, x1, y1 = run.display_box(p[["x0", "y0", "x1", "y1"]])
    got = shown.decoded(explored.thumbnail(3, 96)).astype(float)
    assert got.shape == (96, 96, 3)
    inner = run.display_image(p["image_id"])[y0:y1, x0:x1].mean(axis=(0, 1))
    high, wide = (round(48 * side / run.display_grid.stride) for side in (y1 - y0, x1 - x0))
    middle = got[48 - high // 2 : 48 + high // 2, 48 - wide // 2 : 48 + wide // 2]
    assert middle.mean(axis=(0, 1)) == pytest.approx(inner, abs=4)


def test_without_a_finished_baseline_there_are_no_predictions_of_it(smoke_run):
    assert baseline_predictions(smoke_run) == (None, "")


def test_the_baseline_of_an_image(explored):
    with_baseline = Exploration(explored.loaded, pd.Series({"a": 2.5}))
    assert (with_baseline.baseline_of("a"), with_baseline.baseline_of("b")) == (2.5, None)
    assert explored.baseline_of("a") is None
