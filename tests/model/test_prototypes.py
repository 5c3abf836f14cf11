"""Distances, similarities and weighted mean, with numbers computed by hand."""

import pytest
import torch

from insightr_nb.model.prototypes import PrototypeLayer, WeightedMean, similarity, squared_distances, weighted_mean


def test_squared_distances_of_a_hand_made_case():
    latent = torch.tensor([[[[0.0, 1.0]], [[0.0, 1.0]]]])  # two patches: (0, 0) and (1, 1)
    got = squared_distances(latent, torch.tensor([[0.0, 0.0], [1.0, 0.5]]))
    assert got.shape == (1, 2, 1, 2)
    torch.testing.assert_close(got[0, :, 0], torch.tensor([[0.0, 2.0], [1.25, 0.25]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_distance_to_an_equal_patch_is_zero_with_a_finite_gradient(dtype):
    torch.manual_seed(0)
    latent = torch.rand(4, 128, 9, 9).to(dtype).requires_grad_()
    prototypes = latent.detach()[2, :, 3, 5][None].float().repeat(3, 1).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        d = squared_distances(latent, prototypes)
    assert d.dtype == torch.float32
    assert (d >= 0).all()
    assert d[2, :, 3, 5].abs().max() < 1e-6
    d.sum().backward()
    assert latent.grad.isfinite().all()
    assert prototypes.grad.isfinite().all()


def test_squared_distances_agree_with_float64():
    torch.manual_seed(1)
    latent, prototypes = torch.rand(2, 16, 3, 4), torch.rand(5, 16)
    expect = (latent.double()[:, None] - prototypes.double()[None, :, :, None, None]).square().sum(2)
    torch.testing.assert_close(squared_distances(latent, prototypes).double(), expect, rtol=1e-5, atol=1e-6)
    p = prototypes.clone().requires_grad_()
    squared_distances(latent, p).sum().backward()
    expect = (2 * (prototypes[None, :, :, None, None] - latent[:, None])).sum((0, 3, 4))
    torch.testing.assert_close(p.grad, expect, rtol=1e-4, atol=1e-3)


def test_inverse_similarity_by_hand():
    d = torch.tensor([0.0, 1.28, 128.0])
    torch.testing.assert_close(similarity(d, 128.0), torch.tensor([1e4, 1 / 0.0101, 1 / 1.0001]))


def test_log_similarity_is_on_the_plain_distance():
    d = torch.tensor([0.0, 1.0])
    expect = torch.tensor([10_001.0, 2 / 1.0001]).log()
    torch.testing.assert_close(similarity(d, 128.0, "log"), expect, rtol=1e-4, atol=1e-4)
    assert torch.equal(similarity(d, 128.0, "log"), similarity(d, 5.0, "log"))


def test_an_unknown_similarity_is_refused():
    with pytest.raises(ValueError, match="'linear'"):
        similarity(torch.zeros(1), 1.0, "linear")


def test_weighted_mean_by_hand():
    labels = torch.tensor([1.0, 2.0, 5.0])
    prediction, weights = weighted_mean(torch.tensor([[6.0, 3.0, 1.0]]), labels.sqrt(), labels)
    torch.testing.assert_close(prediction, torch.tensor([1.7]))  # (6 * 1 + 3 * 2 + 1 * 5) / 10
    torch.testing.assert_close(weights, torch.tensor([[6.0, 3.0, 1.0]]))  # r = 1


def test_weighted_mean_equals_eq_2_of_the_paper():
    torch.manual_seed(2)
    s, theta, labels = torch.rand(7, 4) + 0.1, torch.randn(4), torch.tensor([0.1, 1.0, 3.0, 5.9])
    prediction, weights = weighted_mean(s, theta, labels)
    expect = (s * theta**2).sum(1) / (s * theta**2 / labels).sum(1)
    torch.testing.assert_close(prediction, expect)
    assert (weights >= 0).all()
    assert ((prediction >= 0.1) & (prediction <= 5.9)).all()


def test_importance_starts_at_one():
    layer = WeightedMean(torch.linspace(0.1, 5.9, 50))
    similarities = torch.rand(3, 50)
    _, weights = layer(similarities)
    torch.testing.assert_close(weights, similarities)
    assert [name for name, _ in layer.named_parameters()] == ["theta"]  # labels do not train


def test_the_layer_takes_the_nearest_patch():
    layer = PrototypeLayer(2, 4, "inverse", 1e-4).eval()
    assert ((layer.vectors >= 0) & (layer.vectors <= 1)).all()
    latent = torch.rand(1, 4, 3, 3)
    latent[0, :, 1, 2] = layer.vectors[1].detach()
    distances, min_distances, similarities = layer(latent)
    assert distances[0, 1].argmin() == 5  # row 1, column 2
    assert min_distances[0, 1] < 1e-6
    assert similarities[0, 1].item() == pytest.approx(1e4, rel=1e-3)
    assert layer.max_distance == 4


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_the_gradient_through_the_nearest_patches_is_that_of_the_minimum(masked, training):
    """Without ties. An image all of whose cells are outside has no gradient."""
    torch.manual_seed(0)
    layer = PrototypeLayer(5, 4, "inverse", 1e-4).train(training)
    outside = torch.rand(3, 2, 2) < 0.4
    outside[0], outside[1] = True, False
    outside = outside if masked else None
    latent = torch.rand(3, 4, 2, 2, requires_grad=True)
    weights = torch.rand(3, 5)

    def gradients(min_distances: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad((min_distances * weights).sum(), (latent, layer.vectors), retain_graph=True)

    distances, min_distances, _ = layer(latent, outside)
    assert distances is None if training else not distances.requires_grad
    expect = layer.distances(latent, layer.vectors, outside).flatten(2).amin(2)
    torch.testing.assert_close(min_distances, expect)
    for ours, theirs in zip(gradients(min_distances), gradients(expect), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert bool(torch.autograd.grad(min_distances.sum(), latent)[0][0].any()) != masked


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_training_step_finds_the_nearest_cells(dtype):
    """Of latents as different as a network's, in which patches are far apart compared with the rounding."""
    torch.manual_seed(0)
    layer = PrototypeLayer(250, 128, "inverse", 1e-4)
    latent = torch.rand(4, 128, 9, 9).to(dtype).to(memory_format=torch.channels_last)
    with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        cells = layer._nearest_cells(latent, None)
        exact = layer.distances(latent, layer.vectors, None).flatten(2).argmin(2)
    assert torch.equal(cells, exact)


def test_without_gradients_the_minimum_is_that_of_the_distances():
    layer = PrototypeLayer(5, 4, "inverse", 1e-4)
    with torch.no_grad():
        distances, min_distances, _ = layer(torch.rand(3, 4, 2, 2))
    assert torch.equal(min_distances, distances.flatten(2).amin(2))
