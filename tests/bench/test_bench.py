"""The measurements of `make bench`, on preset `smoke` and with few images: what is measured exists and runs."""

from functools import partial

import numpy as np
import pytest
import torch

from bench import card, measure, network, runs
from insightr_nb.settings import RunSettings

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def outputs_of_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("INSIGHTR_OUTPUTS", str(tmp_path))


def assert_measured(*rows: measure.Row) -> None:
    for row in rows:
        assert np.isfinite([row.value, row.low, row.high]).all(), row


def test_a_ratio_is_of_speeds_so_that_above_one_is_faster(monkeypatch):
    monkeypatch.setattr(measure, "seconds", lambda function: function())
    row = measure.compare("fast", "slow", lambda: 2.0, lambda: 3.0, items=6)
    assert (row.value, row.detail) == (1.5, "3.0 against 2.0 a second, 7 pairs")


def test_explanations_and_what_if():
    explained, changed = runs.explanations({"smoke": 10})
    assert_measured(explained, changed)
    assert changed.what == "what-if on 10 test images"


def test_a_fold():
    assert_measured(runs.fold({"train_images": 40, "test_images": 10, "folds": 2}, "smoke", pairs=1))


def test_memory_and_time_against_the_number_of_images(monkeypatch):
    monkeypatch.setattr(runs, "in_process", lambda script, raw: runs.grown(str(raw)))
    for row in runs.growth((30,)):
        assert_measured(row)
        assert " MB of its own memory" in row.detail


def test_steps_of_a_preset_beside_its_baseline():
    assert_measured(*network.of_preset("smoke", CPU, pairs=1, batches_in_all=2))


def test_steps_passes_and_the_prototype_layer_of_the_whole_network(monkeypatch):
    monkeypatch.setattr(network, "BATCH", 2)
    monkeypatch.setattr(network, "compare", partial(measure.compare, pairs=1))
    assert_measured(*network.steps_and_passes(256, CPU), *network.prototype_layer(256, CPU, (10,)))


def test_waiting_for_data():
    assert network.waiting(RunSettings.from_parameters(preset="smoke"), CPU, count=60, pairs=1).value < 100


@pytest.mark.gpu
def test_trainings_side_by_side():
    row = card.side_by_side("smoke", count=2)
    assert_measured(row)
    assert 0.3 < row.value < 2.5, "two at once are at most twice as fast as one after the other"


def test_a_fold_is_extrapolated_from_its_stages():
    row = card.paper_fold(CPU, "smoke", images=60, training=600, validation=100)
    assert_measured(row)
    settings = RunSettings.from_parameters(preset="smoke").training
    assert f"{settings.pretrain_epochs} epochs regression of " in row.detail
    assert f"{settings.cycles} projections of " in row.detail
