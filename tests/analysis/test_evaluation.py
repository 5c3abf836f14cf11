"""Evaluation of a run: contributions from the ground, metrics of the validation images, files added to older runs."""

import numpy as np
import pytest

from insightr_nb.analysis import metrics
from insightr_nb.analysis.evaluation import NEAREST, evaluate, nearest_distances, validation_metrics
from insightr_nb.analysis.explanation import explain
from insightr_nb.analysis.loaded_run import load_run
from insightr_nb.data.folds import fold_data
from insightr_nb.data.graham import GROUND
from insightr_nb.data.loading import Subset


def test_ground_share_counts_boxes_that_are_more_than_half_grey(smoke_run):
    run = load_run(smoke_run)
    weights, distances = smoke_run.array("weights.npy"), smoke_run.array("distances.npy")
    shares = []
    for n, image_id in enumerate(smoke_run.table("predictions.csv")["image_id"]):
        grey = (run.store.image(run.store.row(image_id)) == GROUND).all(axis=2)
        padded = np.pad(grey, run.grid.stride, constant_values=True)  # what lies beyond the image is ground
        on_ground = 0.0
        for j, w in enumerate(weights[n]):
            row, col = np.unravel_index(distances[n, j].argmin(), distances.shape[2:])
            top, left = (int(np.ceil(run.grid.centre(i) - run.grid.stride / 2)) + run.grid.stride for i in (row, col))
            on_ground += w * (padded[top : top + run.grid.stride, left : left + run.grid.stride].mean() > 0.5)
        shares.append(on_ground / weights[n].sum())
    assert np.mean(shares) == pytest.approx(smoke_run.metrics["ground_share"], abs=1e-5)
    assert 0 < np.mean(shares) <= 1


def test_validation_metrics_agree_with_the_explanations_of_the_images(smoke_run, smoke_settings):
    found = validation_metrics(smoke_run, smoke_settings)
    data = fold_data(smoke_settings)
    ids = data.store.table["image_id"].to_numpy()[data.validation.rows]
    explained = [explain(smoke_run, image_id) for image_id in ids]
    assert found["n_test"] == len(explained)
    assert found["mae"] == pytest.approx(np.mean([abs(e.prediction - e.target) for e in explained]), abs=1e-5)
    gaps = [abs(e.prototype_labels[e.top(1)[0]] - e.prediction) for e in explained]
    assert found["top_label_gap"] == pytest.approx(np.mean(gaps), abs=1e-4)
    assert found["label_spread"] == pytest.approx(np.mean([e.uncertainty for e in explained]), abs=1e-4)
    assert found["sparsity"] == metrics.sparsity(np.stack([e.weights for e in explained])).mean()


def test_distances_are_added_to_a_finished_run_of_an_older_version(copied, smoke_settings):
    expect = {name: copied.array(name).copy() for name in NEAREST}
    kept = {p.name: p.stat().st_mtime_ns for p in copied.path.iterdir() if p.name not in (*NEAREST, "manifest.json")}
    for name in NEAREST:
        (copied / name).unlink()
    copied.update(files={k: v for k, v in copied.manifest["files"].items() if k not in NEAREST})
    assert load_run(copied).nearest_of("training") is None
    evaluate(copied, smoke_settings)
    assert copied.damage() == []
    for name in NEAREST:
        assert np.array_equal(copied.array(name), expect[name])
        assert name in copied.manifest["files"]
    assert {name: (copied / name).stat().st_mtime_ns for name in kept} == kept  # the others are not written again


def test_repeated_images_have_one_row_and_every_prototype_finds_its_source(smoke_run, smoke_settings):
    run, training = load_run(smoke_run, "cpu"), fold_data(smoke_settings).training
    distances, _ = run.nearest_of("training")
    ids = run.store.table["image_id"].to_numpy()[training.once().rows]
    for j, image_id in enumerate(run.prototypes["image_id"]):
        assert distances[ids == image_id, j] <= 1e-6
    twice = Subset(training.images, np.repeat(training.rows[:3], 2), training.targets[:6], training.strata[:6])
    got = nearest_distances(run.network, twice.once(), batch_size=2)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, distances[:3], rtol=1e-4, atol=1e-6)
