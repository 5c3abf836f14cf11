"""Stride, centre of cell 0 and receptive field of a chain of layers, by hand."""

import pytest
from torch import nn
from torch.nn import functional as F

from insightr_nb.errors import ModelError
from insightr_nb.model.receptive_field import receptive_field


@pytest.mark.parametrize(
    ("layers", "expect"),
    [
        ([nn.Conv2d(1, 1, 3)], (1, 1.0, 3)),  # without padding, cell 0 is centred on pixel 1
        ([nn.Conv2d(1, 1, 3, padding=1)], (1, 0.0, 3)),
        ([nn.Conv2d(1, 1, 2, stride=2, padding=1)], (2, -0.5, 2)),  # the block of preset paper
        ([nn.Conv2d(1, 1, 3, padding=2, dilation=2)], (1, 0.0, 5)),
        ([nn.MaxPool2d(2)], (2, 0.5, 2)),
        ([nn.AvgPool2d(3, stride=1, padding=1)], (1, 0.0, 3)),
        ([nn.Conv2d(1, 1, 7, 2, 3), nn.BatchNorm2d(1), nn.ReLU(), nn.MaxPool2d(3, 2, 1)], (4, 0.0, 11)),  # 7 + 2 * 2
        ([nn.MaxPool2d(2), nn.MaxPool2d(2), nn.Conv2d(1, 1, 3)], (4, 5.5, 12)),  # 0.5 + 0.5 * 2 + 1 * 4; 4 + 2 * 4
        ([nn.Conv2d(1, 1, (1, 7), padding=(0, 3)), nn.Conv2d(1, 1, (7, 1), padding=(3, 0))], (1, 0.0, 13)),
    ],
)
def test_layers_by_hand(layers, expect):
    assert receptive_field(*layers) == expect


class Branches(nn.Module):
    """A residual connection around two 3 x 3 convolutions."""

    def __init__(self):
        super().__init__()
        self.first, self.second = (nn.Conv2d(1, 1, 3, padding=1) for _ in range(2))

    def forward(self, x):
        return x + self.second(F.relu(self.first(x)))


class Functional(nn.Module):
    def forward(self, x):
        return F.avg_pool2d(F.max_pool2d(x, 3, stride=2, padding=1), kernel_size=2)


def test_where_branches_join_the_wider_field_counts():
    assert receptive_field(Branches()) == (1, 0.0, 5)
    assert receptive_field(nn.MaxPool2d(2), Branches()) == (2, 0.5, 10)


def test_pooling_as_a_function():
    assert receptive_field(Functional()) == (4, 1.0, 5)  # 0 + 0.5 * 2; 3 + 1 * 2


def test_the_parts_of_a_network_are_a_chain():
    parts = nn.Sequential(nn.Conv2d(1, 1, 3)), nn.Sequential(nn.MaxPool2d(2), nn.Sigmoid())
    assert receptive_field(*parts) == (2, 1.5, 4)


@pytest.mark.parametrize("layer", [nn.Upsample(scale_factor=2), nn.ConvTranspose2d(1, 1, 2), nn.AdaptiveAvgPool2d(4)])
def test_a_layer_of_unknown_geometry_is_refused(layer):
    with pytest.raises(ModelError) as caught:
        receptive_field(nn.Conv2d(1, 1, 3), layer)
    assert type(layer).__name__ in str(caught.value)


def test_padding_by_name_is_refused():
    with pytest.raises(ModelError) as caught:
        receptive_field(nn.Conv2d(1, 1, 3, padding="same"))
    assert "'same'" in str(caught.value)
