"""Projection: nearest patches, ties, and independence of the batch size."""

import dataclasses

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from waits import Waits

from insightr_nb.data.loading import Subset
from insightr_nb.model.network import INSightRNet
from insightr_nb.settings import RunSettings
from insightr_nb.training import projection
from insightr_nb.training.projection import project

MODEL = RunSettings.from_parameters(preset="smoke").model


@pytest.fixture
def network():
    torch.manual_seed(3)
    return INSightRNet(MODEL).eval()


@pytest.fixture
def subset():
    """23 images, the last three equal to the first three."""
    images = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), dtype=np.uint8)
    images = np.concatenate([images, images[:3]])
    return Subset(images, np.arange(23), np.zeros(23, np.float32), np.zeros(23, int))


@torch.no_grad()
def every_patch(network, subset):
    latent = network.latent(network.inputs(torch.from_numpy(subset.images[subset.rows])))
    return latent.permute(0, 2, 3, 1)  # (N, H, W, C)


def test_every_prototype_becomes_the_nearest_patch_of_all(network, subset):
    before = network.prototype_layer.vectors.detach().clone()
    patches = every_patch(network, subset)
    result = project(network, subset, batch_size=8)
    distances = (patches[None].double() - before[:, None, None, None].double()).square().sum(-1)  # (m, N, H, W)
    for j, distance in enumerate(distances):
        place = result.positions[j], result.rows[j], result.columns[j]
        assert distance[place] == pytest.approx(distance.min().item(), rel=1e-4)
        assert result.distances[j] == pytest.approx(distance.min().item(), rel=1e-4)
        torch.testing.assert_close(network.prototype_layer.vectors[j].detach(), patches[place], rtol=0, atol=1e-5)
        source = (patches[result.positions[j]] - network.prototype_layer.vectors[j].detach()).square().sum(-1)
        np.testing.assert_allclose(result.maps[j], source.numpy(), atol=1e-5)
        assert result.maps[j].min() == 0
    np.testing.assert_array_equal(result.before, before.numpy())


def test_the_result_does_not_depend_on_the_batch_size(network, subset):
    start = network.prototype_layer.vectors.detach().clone()
    results = []
    for batch_size in (1, 5, 23, 64):
        with torch.no_grad():
            network.prototype_layer.vectors.copy_(start)
        result = project(network, subset, batch_size)
        results.append((result.positions.tolist(), result.rows.tolist(), result.columns.tolist()))
    assert all(r == results[0] for r in results)


def test_ties_go_to_the_first_image_row_and_column(network, subset, monkeypatch):
    """All patches are equal: the first cell of the first image wins, wherever the batches are cut."""
    monkeypatch.setattr(network, "latent", lambda x: torch.full((len(x), 16, 3, 3), 0.5))
    result = project(network, subset, batch_size=4)
    assert set(result.positions) == set(result.rows) == set(result.columns) == {0}


def test_projection_uses_only_the_images_of_the_subset(network, subset):
    rows = np.array([7, 4, 11])
    few = Subset(subset.images, rows, np.zeros(3, np.float32), np.zeros(3, int))
    result = project(network, few)
    assert set(result.positions) <= {0, 1, 2}
    latent = every_patch(network, few)
    for j in range(len(result.positions)):
        d = (
            latent[result.positions[j], result.rows[j], result.columns[j]] - network.prototype_layer.vectors[j]
        ).square()
        assert d.sum() <= 1e-6


def test_projection_changes_only_the_prototypes(network, subset):
    before = {k: v.clone() for k, v in network.state_dict().items()}
    project(network, subset)
    moved = [k for k, v in network.state_dict().items() if not torch.equal(v, before[k])]
    assert moved == ["prototype_layer.vectors"]


def test_the_host_never_waits_for_a_card_between_the_batches(subset, monkeypatch):
    """On imitated tensors of a card, which hold no values, so that the results at the end cannot be read."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
        network = INSightRNet(dataclasses.replace(MODEL, skip_ground=True)).eval()
        images = torch.zeros(4, 64, 64, 3, dtype=torch.uint8)
        before_end = []

        def batches(*_):
            for _ in range(3):
                yield images, None
            before_end.append(list(waits.found))

        monkeypatch.setattr(projection, "batches", batches)
        with Waits() as waits, pytest.raises(RuntimeError, match="numpy"):
            project(network, subset)
        assert before_end == [[]]
        assert waits.found  # the copies of the results
