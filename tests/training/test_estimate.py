"""How long a training takes: the sum by hand, and the word on an epoch that is much slower."""

import dataclasses

import pytest

from insightr_nb.data.folds import fold_data
from insightr_nb.settings import RunSettings
from insightr_nb.training import estimate
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


def test_an_epoch_much_slower_than_announced_is_said_once(settings, capsys, monkeypatch):
    monkeypatch.setattr(estimate, "_SLOW", -1.0)
    monkeypatch.setattr(Pace, "epoch", lambda *_: 1e-6)
    for step in settings.steps():
        train(step)
    assert "announced" not in capsys.readouterr().out
    again = dataclasses.replace(settings, overwrite=True)
    data = fold_data(settings)
    note = PACE.slower(8.0, protocol(settings)[0], settings, data)
    assert "OMP_NUM_THREADS=1" in note
    assert "times as long as announced" in note
    monkeypatch.setattr(Pace, "slower", lambda *_: "This epoch took long.")
    train(again, PACE)
    assert capsys.readouterr().out.count("This epoch took long.") == 1


def test_an_epoch_as_announced_is_no_news(settings):
    data, stage = fold_data(settings), protocol(settings)[0]
    seconds = PACE.epoch(stage, settings, data)
    assert PACE.slower(1.9 * seconds, stage, settings, data) == ""
    slow = Pace(3.0, 1.0)
    assert slow.slower(2.5 * slow.epoch(stage, settings, data), stage, settings, data).startswith(
        "This epoch took 2.5 times as long as announced."
    )
