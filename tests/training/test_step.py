"""One training step, and the trial before a training."""

import pytest

from insightr_nb.data.folds import fold_data
from insightr_nb.errors import ModelError, RunError
from insightr_nb.settings import RunSettings
from insightr_nb.training import step
from insightr_nb.training.step import try_out


def settings(tag: str, **parameters) -> RunSettings:
    return RunSettings.from_parameters(preset="smoke", tag=tag, **parameters)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model.block_kernel": 9}, r"64 px are too small for resnet18.* kernel size 9.*block_kernel"),
        ({"model.backbone": "inception_v3", "model.backbone_until": None}, r"64 px are too small for inception_v3"),
    ],
)
def test_what_does_not_fit_fails_before_anything_is_trained(overrides, message):
    wrong = settings("wrong", overrides=overrides)
    with pytest.raises(ModelError, match=message):
        try_out(wrong, fold_data(wrong))


def test_a_lack_of_memory_is_not_taken_for_a_size_that_does_not_fit(monkeypatch, smoke_settings):
    def full(*args):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(step, "training_loss", full)
    with pytest.raises(RunError, match="out of memory"):
        try_out(smoke_settings, fold_data(smoke_settings))


def test_what_fits_is_tried_out_without_a_word(capsys, smoke_settings):
    for each in smoke_settings.steps():
        try_out(each, fold_data(each))
    assert capsys.readouterr().out == ""
