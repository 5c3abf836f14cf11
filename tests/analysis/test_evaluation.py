"""Evaluation of a run: the share of contributions from the ground, and metrics of the validation images."""

import numpy as np
import pytest

from insightr_nb.analysis import metrics
from insightr_nb.analysis.evaluation import validation_metrics
from insightr_nb.analysis.explanation import explain
from insightr_nb.analysis.loaded_run import load_run
from insightr_nb.data.folds import fold_data
from insightr_nb.data.graham import GROUND


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
