"""The networks: shapes, value ranges and normalisation of the input."""

import dataclasses

import pytest
import torch

from insightr_nb.analysis.geometry import grid
from insightr_nb.errors import ModelError
from insightr_nb.model.network import INSightRNet, ResNetRegressor
from insightr_nb.settings import ModelSettings, RunSettings


def build(preset: str) -> INSightRNet:
    torch.manual_seed(0)
    return INSightRNet(dataclasses.replace(RunSettings.from_parameters(preset=preset).model, weights="random")).eval()


@pytest.mark.parametrize(("preset", "size"), [("paper", 512), ("released", 540), ("demo", 128), ("photo", 256)])
def test_the_latent_grid_is_9_x_9_x_128(preset, size):
    settings = RunSettings.from_parameters(preset=preset)
    assert settings.data.size == size
    network = build(preset)
    with torch.no_grad():
        output = network(torch.zeros(1, 3, size, size))
    assert output.latent.shape == (1, 128, 9, 9)
    assert output.distances.shape == (1, 50, 9, 9)
    assert output.prediction.shape == (1,)
    assert grid(network, size).cells == 9


def test_the_latent_space_is_the_unit_cube_and_float32_under_autocast():
    network = build("smoke")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        output = network(torch.randn(3, 3, 64, 64))
    assert output.latent.dtype == torch.float32
    assert ((output.latent >= 0) & (output.latent <= 1)).all()
    assert output.prediction.dtype == torch.float32
    labels = network.prototype_labels
    assert ((output.prediction >= labels.min()) & (output.prediction <= labels.max())).all()


def test_a_constant_image_does_not_mark_the_border():
    """With zero padding in the block, border cells would differ from the others in a constant feature map."""
    network = build("paper")
    features = torch.ones(1, 512, 16, 16)
    with torch.no_grad():
        latent = network.block(features)
    torch.testing.assert_close(latent, latent[:, :, 4:5, 4:5].expand_as(latent))


def test_prototype_labels_are_evenly_spaced_from_0_1_to_5_9():
    labels = build("demo").prototype_labels
    assert labels[0] == pytest.approx(0.1)
    assert labels[-1] == pytest.approx(5.9)
    torch.testing.assert_close(labels.diff(), torch.full((49,), 5.8 / 49))


def test_the_baseline_gives_one_number_an_image():
    network = ResNetRegressor(RunSettings.from_parameters(preset="smoke").model).eval()
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2,)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert network(torch.zeros(2, 3, 64, 64)).dtype == torch.float32  # as INSightR-Net's, or it would be rounded


def test_a_backbone_of_unknown_geometry_is_refused_before_it_trains():
    settings = RunSettings.from_parameters(preset="smoke", overrides={"model.backbone": "swin_t"}, tag="swin").model
    with pytest.raises(ModelError, match="geometry of"):
        INSightRNet(settings)


def test_every_part_of_the_network_belongs_to_the_protocol():
    assert [name for name, _ in build("smoke").named_children()] == [
        "backbone",
        "block",
        "prototype_layer",
        "last_layer",
    ]


# -- the input --------------------------------------------------------------------------------------------------------


def test_the_input_is_normalised_as_imagenet():
    """(255 / 255 - 0.485) / 0.229, (0 - 0.456) / 0.224, (51 / 255 - 0.406) / 0.225."""
    images = torch.tensor([255, 0, 51], dtype=torch.uint8).expand(2, 4, 5, 3)
    got = ResNetRegressor(ModelSettings(weights="random")).inputs(images)
    assert (got.dtype, tuple(got.shape)) == (torch.float32, (2, 3, 4, 5))
    assert got[1, :, 2, 3].tolist() == pytest.approx([2.248908, -2.035714, -0.915556], abs=1e-5)


@pytest.mark.parametrize(
    ("values", "channels", "expect"),
    [
        ("unit", "rgb", [1.0, 0.0, 0.2]),
        ("unit", "bgr", [0.2, 0.0, 1.0]),
        ("imagenet", "bgr", [-0.915556, -2.035714, 2.248908]),
    ],
)
def test_the_input_of_other_settings(values, channels, expect):
    images = torch.tensor([255, 0, 51], dtype=torch.uint8).expand(2, 4, 5, 3)
    got = ResNetRegressor(ModelSettings(weights="random", input_values=values, channels=channels)).inputs(images)
    assert got[0, :, 0, 0].tolist() == pytest.approx(expect, abs=1e-5)


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
def test_the_input_is_not_transposed_and_is_channels_last(channels):
    images = torch.zeros(2, 4, 5, 3, dtype=torch.uint8)
    images[1, 3, 2] = 255
    got = ResNetRegressor(ModelSettings(weights="random", input_values="unit", channels=channels)).inputs(images)
    assert got.nonzero()[:, [0, 2, 3]].tolist() == [[1, 3, 2]] * 3
    assert got.is_contiguous(memory_format=torch.channels_last)
