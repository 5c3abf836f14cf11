"""Estimated training time, computed by hand, and the note on a slow epoch."""

import dataclasses
import itertools

import pytest
import torch

from insightr_nb import files, runs
from insightr_nb.data.folds import fold_data
from insightr_nb.runs import Run
from insightr_nb.settings import RunSettings
from insightr_nb.training import estimate, trainer
from insightr_nb.training.estimate import Pace
from insightr_nb.training.stages import protocol
from insightr_nb.training.trainer import train

PACE = Pace(training=0.03, inference=0.01)


@pytest.fixture(scope="module")
def settings():
    return RunSettings.from_parameters(preset="smoke", fold=1, overrides={"training.joint_epochs": 1}, tag="estimate")


def test_the_seconds_of_an_epoch_by_hand(settings):
    data = fold_data(settings)
    images = 5 * max((data.training.strata == grade).sum() for grade in range(5))  # every grade as often as the most
    warm_up, last_layer = protocol(settings)[0], protocol(settings)[1]
    assert (warm_up.name, last_layer.name) == ("warm-up", "last layer")
    for stage in (warm_up, last_layer):
        assert PACE.epoch(stage, settings, data) == pytest.approx(0.01 * (images + len(data.validation)))
    joint = next(s for s in protocol(settings) if s.name == "joint")
    estimated = 0.03 * images + 0.01 * (len(data.validation) + 30)  # and 30 images for BatchNorm
    assert PACE.epoch(joint, settings, data) == pytest.approx(estimated)


def test_the_minutes_of_a_run_are_those_of_its_stages(settings):
    data = fold_data(settings)
    run = dataclasses.replace(settings, tag="never_trained")
    by_hand = sum(stage.epochs * PACE.epoch(stage, run, data) for stage in protocol(run))
    by_hand += 0.01 * (2 * 2 * len(data.training) + 2 * len(data.test))  # two projections and the test, in float32
    assert estimate.expected_minutes([run], data, PACE) == pytest.approx(by_hand / 60)
    measured = estimate.measure(run, data)
    assert 0 < measured.inference < measured.training < 10


def joint(settings):
    return next(stage for stage in protocol(settings) if stage.name == "joint")


def test_slow_epoch_is_reported_once(settings, capsys, monkeypatch):
    monkeypatch.setattr(Pace, "epoch", lambda self, *_: self.training)  # seconds of the epoch, as announced
    monkeypatch.setattr(estimate, "_SLOW", 0.0)  # every epoch of 2 s is too slow
    monkeypatch.setattr(trainer.time, "monotonic", itertools.count(0, 3).__next__)  # and takes 3 s or more
    for step in settings.steps():
        train(step, PACE)
        lines = capsys.readouterr().out.splitlines()
        said = [n for n, line in enumerate(lines) if "times as long as estimated" in line]
        assert len(said) == 1
        assert lines[said[0] - 1].startswith("epoch ")
        assert sum(line.startswith("epoch ") for line in lines) > 1


def test_what_helps_against_other_processes(settings, monkeypatch):
    data, stage = fold_data(settings), joint(settings)
    pace = Pace(3.0, 1.0)
    announced = pace.epoch(stage, settings, data)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    note = pace.slower(2.5 * announced, stage, settings, data)
    assert note.startswith("This epoch took 2.5 times as long as estimated")
    assert "Fewer than 2 threads are then faster" in note
    assert "OMP_NUM_THREADS=1" in note
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert "OMP_NUM_THREADS" not in pace.slower(2.5 * announced, stage, settings, data)  # fewer cannot be


def test_epoch_as_fast_as_estimated_has_no_note(settings):
    data, pace = fold_data(settings), Pace(3.0, 1.0)
    stage, frozen = joint(settings), protocol(settings)[0]
    assert pace.slower(1.9 * pace.epoch(stage, settings, data), stage, settings, data) == ""
    assert pace.slower(9 * pace.epoch(frozen, settings, data), frozen, settings, data) == ""  # it was not measured


def test_a_finished_run_is_not_measured_again(settings):
    for step in settings.steps():
        train(step)
    assert estimate.untrained(settings.steps()) == []
    again = dataclasses.replace(settings, overwrite=True)
    assert estimate.untrained(again.steps()) == [again]
    assert estimate.interrupted(settings.steps()) is None


def test_an_interrupted_run_says_on_what_it_was_trained(settings):
    run = Run(runs.run_directory(dataclasses.replace(settings, tag="interrupted")))
    run.path.mkdir(parents=True)
    (run / "last.ckpt").touch()
    files.write_json(run / "manifest.json", {"hardware": {"threads": 2}})
    steps = [dataclasses.replace(settings, tag="interrupted")]
    assert estimate.interrupted(steps) == {"threads": 2}
    assert estimate.interrupted([dataclasses.replace(steps[0], overwrite=True)]) is None
