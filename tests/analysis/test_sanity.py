"""Networks with a random backbone."""

import numpy as np
import pytest
import torch
from torch import nn

from insightr_nb.analysis import sanity
from insightr_nb.model.network import ResNetRegressor


@pytest.fixture(scope="module")
def networks(loaded):
    return sanity.random_backbones(loaded.network, sanity.training_images(loaded), seeds=(1, 2))


def test_only_the_backbone_is_random(loaded, networks):
    kept = {name: value for name, value in loaded.network.state_dict().items() if not name.startswith("backbone")}
    first, second = networks
    for name, value in kept.items():
        assert torch.equal(first.state_dict()[name], value)
    trained = loaded.network.backbone.conv1.weight
    assert not torch.isclose(first.backbone.conv1.weight, trained).any()
    assert not torch.isclose(first.backbone.conv1.weight, second.backbone.conv1.weight).any()
    assert not first.training


def test_the_random_weights_depend_on_the_seed_only(loaded, networks):
    torch.manual_seed(7)
    drawn = torch.rand(1)
    torch.manual_seed(7)
    again = sanity.random_backbones(loaded.network, sanity.training_images(loaded, 2), seeds=(2,))[0]
    assert torch.equal(torch.rand(1), drawn)
    assert torch.equal(again.backbone.conv1.weight, networks[1].backbone.conv1.weight)


def test_batchnorm_is_estimated_on_the_images():
    """A backbone of one 1 x 1 convolution and BatchNorm: its features have mean 0 and variance 1."""
    network = ResNetRegressor.__new__(ResNetRegressor)
    nn.Module.__init__(network)
    network.backbone = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    network.mean, network.deviation, network.bgr = torch.zeros(3, 1, 1), torch.ones(3, 1, 1), False
    images = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 3), dtype=np.uint8)
    (changed,) = sanity.random_backbones(network, images, seeds=(1,))
    features = changed.backbone(network.inputs(torch.from_numpy(images)))
    assert features.mean((0, 2, 3)).tolist() == pytest.approx([0] * 4, abs=0.02)
    assert features.var((0, 2, 3)).tolist() == pytest.approx([1] * 4, abs=0.05)


def test_no_test_image_is_used(loaded):
    table = loaded.store.table
    stored = list(loaded.store.images)
    rows = [next(n for n, one in enumerate(stored) if (one == i).all()) for i in sanity.training_images(loaded)]
    assert len(rows) == 100
    assert (table["split"].iloc[rows] == "train").all()
    assert len(sanity.training_images(loaded, 7)) == 7
