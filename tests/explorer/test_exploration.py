"""Predictions and metrics of the explorer, compared with the files of a run and computed by hand."""

import numpy as np
import pytest

from insightr_nb.analysis import metrics
from insightr_nb.analysis.loaded_run import load_run
from insightr_nb.errors import DataError
from insightr_nb.explorer.exploration import Exploration, baseline_predictions, check_any


@pytest.fixture(scope="module")
def explored(smoke_run) -> Exploration:
    return Exploration(load_run(smoke_run))


def test_unchanged_predictions_and_metrics_are_the_stored_ones(explored, smoke_run):
    active = np.ones(len(explored.labels), bool)
    stored = smoke_run.table("predictions.csv")["prediction"].to_numpy()
    assert explored.predict(active, explored.labels) == pytest.approx(stored, abs=1e-5)
    found, stored = explored.summary(active, explored.labels), smoke_run.metrics
    assert stored.pop("ground_share") > 0  # of the images, which a change of prototypes does not look at
    assert found.pop("ground_share") is None
    assert found == pytest.approx(stored, abs=1e-5)


def test_stored_contributions_follow_from_stored_distances(explored):
    distances, cells = explored.nearest
    similarities = explored.loaded.similarity(distances)
    assert similarities * explored.importance == pytest.approx(explored.weights, rel=1e-4)
    n, j = 3, 4
    assert explored.distances[n, j][tuple(cells[n, j])] == distances[n, j] == explored.distances[n, j].min()


def test_switching_off_and_moving_labels_by_hand(explored):
    """With all but two off, the prediction is the mean of their labels by their contributions."""
    active = np.zeros(len(explored.labels), bool)
    active[[2, 7]] = True
    labels = explored.labels.copy()
    labels[7] = 1.5
    a, b = explored.weights[0, 2], explored.weights[0, 7]
    expect = (a * labels[2] + b * 1.5) / (a + b)
    assert explored.predict(active, labels)[0] == pytest.approx(expect)
    assert explored.summary(active, labels)["sparsity"] <= 2
    assert explored.summary(active, labels)["diversity"] == 2  # what is off is in no top 5
    assert explored.labels[7] != 1.5


def test_all_prototypes_off_is_refused(explored):
    off = np.zeros(len(explored.labels), bool)
    for act in (
        lambda: explored.predict(off, explored.labels),
        lambda: explored.summary(off, explored.labels),
        lambda: check_any(off),
    ):
        with pytest.raises(DataError, match="all prototypes are switched off"):
            act()


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


def test_order_by_table_and_by_error(explored):
    assert explored.order("table").tolist() == list(range(len(explored.predictions)))
    error = (explored.predictions["prediction"] - explored.predictions["target"]).abs().to_numpy()
    assert (np.diff(error[explored.order("error")]) <= 0).all()
    of_one = explored.order("error", 1.0)
    assert set(explored.predictions["target"].iloc[of_one]) == {1.0}


def test_without_a_finished_baseline_there_are_no_predictions_of_it(smoke_run):
    assert baseline_predictions(smoke_run) is None
