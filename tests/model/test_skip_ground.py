"""Latent cells on the grey ground match no prototype if `skip_ground` is set."""

import numpy as np
import pytest
import torch

from insightr_nb.data import graham
from insightr_nb.data.loading import Subset
from insightr_nb.model.network import INSightRNet
from insightr_nb.settings import RunSettings
from insightr_nb.training.projection import project


def photograph(size: int, seed: int = 0) -> np.ndarray:
    """Noise inside the mask, grey ground outside it."""
    image = np.full((size, size, 3), 128, np.uint8)
    inside = graham.mask(size)
    image[inside] = np.random.default_rng(seed).integers(0, 255, (int(inside.sum()), 3))
    return image


def network(preset: str, **overrides) -> tuple[INSightRNet, RunSettings]:
    changes = {"model.weights": "random", "model.skip_ground": True} | overrides
    settings = RunSettings.from_parameters(preset=preset, overrides=changes, tag="t")
    torch.manual_seed(0)
    return INSightRNet(settings.model).eval(), settings


@pytest.mark.parametrize("preset", ["demo", "photo", "paper", "released"])
def test_cells_that_show_mostly_ground_are_outside(preset):
    net, settings = network(preset)
    size = settings.data.size
    images = net.inputs(torch.from_numpy(photograph(size))[None])
    outside = net.outside(images, 9)[0]
    stride, offset, _ = net.window
    inside = graham.mask(size)
    for row in range(9):
        for col in range(9):
            begin = [int(np.ceil(offset + stride * i - stride / 2)) for i in (row, col)]
            box = inside[max(begin[0], 0) : begin[0] + stride, max(begin[1], 0) : begin[1] + stride]
            assert bool(outside[row, col]) == (box.sum() < stride**2 / 2), (row, col)
    assert not outside[4, 4]
    assert outside[0, 0]


def test_no_prototype_is_projected_to_or_matched_on_the_ground():
    net, _ = network("smoke", **{"model.prototypes": 10})
    images = np.stack([photograph(64, seed) for seed in range(6)])
    part = Subset(images, np.arange(6), np.ones(6, np.float32), np.zeros(6, int))
    result = project(net, part, batch_size=4)
    outside = net.outside(net.inputs(torch.from_numpy(images[:1])), 3)[0]
    assert outside.any()
    assert not outside[result.rows, result.columns].any()
    with torch.no_grad():
        output = net(net.inputs(torch.from_numpy(images)))
    assert (output.distances[:, :, outside] == 16).all()  # d_max of 16 channels
    assert not outside.flatten()[output.distances.flatten(2).argmin(2)].any()
    assert (result.maps[:, outside] == 16).all()


def test_no_cell_is_outside_without_skip_ground():
    net, _ = network("smoke", **{"model.skip_ground": False})
    images = net.inputs(torch.from_numpy(photograph(64))[None])
    assert net.outside(images, 3) is None


def test_ground_cells_do_not_depend_on_skip_ground():
    plain, _ = network("smoke", **{"model.skip_ground": False})
    without, _ = network("smoke")
    images = plain.inputs(torch.from_numpy(photograph(64))[None])
    assert torch.equal(plain.ground_cells(images, 3), without.outside(images, 3))
    assert plain.ground_cells(images, 3).any()


def test_grey_image_has_a_finite_prediction():
    net, _ = network("smoke")
    grey = torch.full((1, 64, 64, 3), 128, dtype=torch.uint8)
    with torch.no_grad():
        prediction = net(net.inputs(grey)).prediction
    assert prediction.isfinite().all()
    assert 0 < prediction.item() < 6
