"""Shared by the tests of backbones and their weights."""

import pytest
import torch
import torchvision


@pytest.fixture(scope="module")
def trained():
    """A ResNet-18 with recognisable weights, whole, as torchvision saves it."""
    torch.manual_seed(7)
    return torchvision.models.resnet18(weights=None).state_dict()
