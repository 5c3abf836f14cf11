"""From latent cells to pixels: centres, boxes, receptive fields and upsampled maps."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from insightr_nb.analysis.geometry import Grid, grid, scaled_box
from insightr_nb.model.network import INSightRNet
from insightr_nb.settings import ModelSettings, RunSettings


def linear(network: INSightRNet) -> INSightRNet:
    """Set all weights equal and replace maxima by means, so that gradients depend on the geometry only."""
    for parent in list(network.backbone.modules()):
        for name, module in parent.named_children():
            if isinstance(module, nn.MaxPool2d):
                setattr(parent, name, nn.AvgPool2d(module.kernel_size, module.stride, module.padding))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    return network.eval()


def gradient(network: INSightRNet, size: int, row: int, col: int) -> np.ndarray:
    """(size, size): how much a latent cell depends on each pixel."""
    image = torch.full((1, 3, size, size), 0.5, requires_grad=True)
    network.block(network.backbone(image))[0, 0, row, col].backward()
    return image.grad[0].abs().sum(0).numpy()


def test_cell_i_of_preset_paper_is_centred_at_64_i_minus_16():
    cells = Grid(512, 9, 64, -16.0, 467)
    assert [cells.centre(i) for i in (0, 1, 8)] == [-16, 48, 496]
    assert cells.box(0, 0) == (0, 0, 16, 16)
    assert cells.box(1, 2) == (80, 16, 144, 80)
    assert cells.box(8, 8) == (464, 464, 512, 512)
    settings = RunSettings.from_parameters(preset="paper")
    network = INSightRNet(dataclasses.replace(settings.model, weights="random")).eval()
    assert grid(network, 512) == cells


@pytest.mark.parametrize(
    ("model", "size", "cell"),
    [
        (ModelSettings(weights="random"), 1024, 8),  # paper's block on an image large enough to hold the whole field
        (ModelSettings(weights="random", block_stride=1), 1024, 16),
        (ModelSettings(weights="random", backbone_until="layer2"), 512, 8),  # demo
        (ModelSettings(weights="random", backbone_until="layer3"), 512, 8),
        (ModelSettings(weights="random", block_kernel=1, block_padding=0), 1024, 8),  # released
        (ModelSettings(backbone="vgg11", weights="random", block_stride=1), 512, 8),
        (ModelSettings(backbone="resnet50", weights="random"), 1024, 8),
    ],
)
def test_a_cell_depends_on_the_pixels_around_its_centre(model, size, cell):
    network = linear(INSightRNet(model))
    cells = grid(network, size)
    weight = gradient(network, size, cell, cell)
    pixels = np.arange(size)
    assert (weight.sum(0) * pixels).sum() / weight.sum() == pytest.approx(cells.centre(cell), abs=0.01)
    assert np.ptp(np.flatnonzero(weight.sum(1))) + 1 == cells.receptive_field


def test_no_box_is_empty_and_inner_boxes_touch():
    cells = Grid(256, 9, 32, -8.0, 227)  # cell 0 is centred outside the image
    for i in range(9):
        x0, y0, x1, y1 = cells.box(i, i)
        assert 0 <= x0 < x1 <= 256
        assert (x0, x1) == (y0, y1)
    assert [cells.box(0, i)[0] for i in range(2, 9)] == [cells.box(0, i)[2] for i in range(1, 8)]


@pytest.mark.parametrize("smooth", [True, False])
def test_a_map_is_upsampled_onto_the_centres(smooth):
    cells = Grid(512, 9, 64, -16.0, 467)
    values = np.zeros((9, 9))
    values[3, 5] = 1
    heat = cells.upsample(values, smooth)
    assert heat.shape == (512, 512)
    assert heat[176, 304] == 1  # 64 * 3 - 16, 64 * 5 - 16
    inside = np.argwhere(heat > 0.5)
    x0, y0, x1, y1 = cells.box(3, 5)
    assert inside.mean(0) == pytest.approx([(y0 + y1 - 1) / 2, (x0 + x1 - 1) / 2], abs=1)
    if not smooth:
        assert (heat > 0).sum() == 64 * 64


def test_upsample_extends_border_cells_to_the_edge():
    cells = Grid(256, 9, 32, -16.0, 467)
    values = np.arange(81, dtype=float).reshape(9, 9)
    assert cells.upsample(values)[255, 255] == 80
    corner = np.zeros((9, 9))
    corner[0, 0] = 1
    first = cells.upsample(corner)[:16, :16]  # cell (0, 0) is centred at -16; its box is the first 16 pixels
    assert first[:8, :8].min() == 1
    assert first[16 - 1, 16 - 1] < 0.2


def test_scaled_grid_has_the_same_centres_in_other_pixels():
    """Cell 3 of 128 px is centred at pixel 44, whose middle is 44.5 px from the edge: 178 of 512 px, pixel 177.5."""
    small = Grid(128, 9, 16, -4.0, 107)
    large = small.scaled(512)
    assert (large.size, large.stride, large.receptive_field) == (512, 64, 428)
    assert large.centre(3) == 177.5
    assert large.scaled(128) == small
    values = np.random.default_rng(0).random((9, 9))
    by_cells, by_pixels = large.upsample(values), cv2.resize(small.upsample(values), (512, 512))
    assert np.abs(by_cells - by_pixels)[48:-48, 48:-48].max() < 0.1  # both are linear between the same centres
    assert Grid(224, 9, 28, -7.0, 200).scaled(512).box(4, 4) == (209, 209, 273, 273)  # centred at 240.6


def test_a_scaled_box_covers_the_same_part_of_the_image():
    assert scaled_box((20, 36, 36, 52), 128, 512) == (80, 144, 144, 208)
    assert scaled_box(scaled_box((7, 0, 224, 31), 224, 512), 512, 224) == (7, 0, 224, 31)
