"""The latent space in two dimensions, of a run with hand-made vectors."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from insightr_nb.analysis.latent import LatentMap, published_cells, scatter

# Two images of five patches and two prototypes. Together they lie at (+-1, +-4, 7), three at each place, so that the
# principal components are the second axis (variance 16) and the first (variance 1).
A, B, C, D = [1, 4, 7], [1, -4, 7], [-1, 4, 7], [-1, -4, 7]
PATCHES = np.array([[A, B, C, D, B], [A, B, C, D, C]], np.float32)
VECTORS = torch.tensor([A, D], dtype=torch.float32)
BEFORE = np.array([[1, 0, 7], [0, 4, 9]], np.float32)


@pytest.fixture
def found() -> LatentMap:
    arrays = {"nearest_latents.npy": PATCHES, "prototypes_before_projection.npy": BEFORE}
    run = SimpleNamespace(array=arrays.get)
    network = SimpleNamespace(prototype_layer=SimpleNamespace(vectors=torch.nn.Parameter(VECTORS)))
    return LatentMap.of(SimpleNamespace(run=run, network=network, predictions=pd.DataFrame({"target": [0.0, 3.0]})))


def test_the_axes_are_those_of_largest_variance(found):
    assert np.abs(found.patches) == pytest.approx(np.abs(PATCHES.reshape(10, 3)[:, [1, 0]]), abs=1e-5)
    assert found.variance == pytest.approx([16 / 17, 1 / 17])


def test_prototypes_lie_on_their_patches(found):
    assert found.prototypes == pytest.approx(found.patches[[0, 3]], abs=1e-5)


def test_prototypes_before_projection_are_in_the_same_plane(found):
    assert np.abs(found.before) == pytest.approx(np.array([[0, 1], [4, 0]]), abs=1e-5)


def test_every_patch_has_the_label_of_its_image(found):
    assert found.targets.tolist() == [0] * 5 + [3] * 5


def test_the_scatter_is_the_distance_to_the_nearest_prototype_as_a_share_of_the_variance():
    """Two patches of each of two images at +-2 around their mean, variance 4. Nearest distances: 1, 3 and 2, 2."""
    patches = np.array([[[7.0, 2], [7, -2]], [[7, 2], [7, -2]]])
    distances = np.array([[[9.0, 3, 8], [1, 9, 9]], [[2, 5, 9], [9, 2, 9]]])[..., None]  # two prototypes, three cells
    run = SimpleNamespace(array={"nearest_latents.npy": patches, "distances.npy": distances}.get)
    assert scatter(run) == (1 + 3 + 2 + 2) / 4 / 4


def test_the_published_code_takes_the_cell_nearest_to_each_of_the_nearest_prototypes():
    """Distances of three prototypes (rows) to four cells. Distinct cells nearest to any prototype: 0 and 1.

    The two nearest prototypes are 0 and 1 (0.1 and 0.3); both are nearest to cell 0 in the first image. In the second
    they are nearest to cells 0 and 3, of which 3 is only the third nearest cell.
    """
    first = [[0.1, 0.2, 5, 5], [0.3, 5, 5, 5], [5, 5, 5, 0.9]]
    second = [[0.1, 0.2, 5, 5], [5, 5, 5, 0.3], [5, 5, 5, 0.9]]
    distances = np.array([first, second]).reshape(2, 3, 2, 2)
    assert published_cells(distances, count=2) == (0.75, 1.5)
    assert published_cells(distances[:1], count=2) == (1.0, 1.0)
