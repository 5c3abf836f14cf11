"""One training step, and the trial before a training."""

import dataclasses

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from waits import Waits

from insightr_nb.data.folds import fold_data
from insightr_nb.errors import ModelError, RunError
from insightr_nb.model.network import INSightRNet, ResNetRegressor
from insightr_nb.settings import RunSettings
from insightr_nb.training import step
from insightr_nb.training.step import training_loss, try_out


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


def test_batches_of_one_fail_before_anything_is_trained_where_each_channel_has_one_value(smoke_settings):
    data, small = fold_data(smoke_settings), settings("single", batch_size=1, overrides={"model.backbone_until": None})
    try_out(small, data)  # 2 x 2 values per channel
    subset = dataclasses.replace(data.training, images=np.ascontiguousarray(data.training.images[:, ::2, ::2]))
    with pytest.raises(ModelError, match=r"32 px are too small for resnet18.*more than one image per batch"):
        try_out(small, dataclasses.replace(data, training=subset))


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


@pytest.mark.parametrize("network", [INSightRNet, ResNetRegressor])
def test_forward_pass_and_losses_never_wait_for_a_card(smoke_settings, network, monkeypatch):
    """On imitated tensors of a card, which hold no values."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))  # without bfloat16
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
        made = network(smoke_settings.model, "random").train()
        images, targets = torch.zeros(4, 64, 64, 3, dtype=torch.uint8), torch.ones(4)
        with Waits() as waits:
            terms, _ = training_loss(made, images, targets, smoke_settings)
        assert terms["total"].device.type == "cuda"
        assert waits.found == []
        with Waits() as waits, pytest.raises(RuntimeError):  # the value is not there to read
            terms["total"].item()
        assert waits.found == ["aten._local_scalar_dense.default"]
        with Waits() as waits:
            torch.ones(4, device="cpu").to("cuda")
        assert len(waits.found) == 1
