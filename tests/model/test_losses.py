"""The losses of Eq. 3 and 4, with numbers computed by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from insightr_nb.model.losses import cluster_loss, prototype_sample_distance_loss, total_loss
from insightr_nb.settings import LossSettings


def test_cluster_loss_by_hand():
    d = torch.tensor([[0.4, 0.2, 0.9, 7.0], [3.0, 3.0, 3.0, 0.5]])
    labels = torch.tensor([0.8, 1.0, 1.2, 4.0])
    # image 1: the two smallest of 0.4, 0.2, 0.9; image 2: only 0.5 is in range
    got = cluster_loss(d, labels, torch.tensor([1.0, 4.0]), delta=0.5, k=2)
    assert got.item() == pytest.approx((0.3 + 0.5) / 2)


def test_cluster_loss_averages_over_fewer_than_k_prototypes_in_range():
    """The published code filled up with the largest distance."""
    d = torch.tensor([[0.5, 100.0, 100.0]])
    got = cluster_loss(d, torch.tensor([1.0, 4.0, 5.0]), torch.tensor([1.0]), k=3)
    assert got.item() == pytest.approx(0.5)


def test_cluster_loss_leaves_out_samples_without_a_prototype_in_range():
    d = torch.tensor([[0.5, 0.7], [0.1, 0.1]])
    got = cluster_loss(d, torch.tensor([1.0, 1.1]), torch.tensor([1.0, 5.0]), k=2)
    assert got.item() == pytest.approx(0.6)
    none = cluster_loss(d.requires_grad_(), torch.tensor([1.0, 1.1]), torch.tensor([4.0, 5.0]))
    none.backward()
    assert none.item() == 0
    assert torch.equal(d.grad, torch.zeros(2, 2))


def test_cluster_loss_excludes_labels_exactly_delta_away():
    d = torch.tensor([[1.0, 2.0]])
    assert cluster_loss(d, torch.tensor([1.0, 1.5]), torch.tensor([1.0]), delta=0.5, k=2).item() == 1.0


def test_cluster_loss_can_include_labels_exactly_delta_away():
    """As in the published code: of the labels 1, 1.5, 0.5 and 0.25, all but the last are in range of 1."""
    d = torch.tensor([[1.0, 2.0, 6.0, 0.5]])
    labels = torch.tensor([1.0, 1.5, 0.5, 0.25])
    got = cluster_loss(d, labels, torch.tensor([1.0]), delta=0.5, k=3, inclusive=True)
    assert got.item() == 3.0  # (1 + 2 + 6) / 3
    assert cluster_loss(d, labels, torch.tensor([1.0]), delta=0.5, k=3).item() == 1.0


def test_the_total_takes_the_comparison_from_the_settings():
    d, y = torch.tensor([[1.0, 2.0]]), torch.tensor([1.0])
    labels = torch.tensor([1.0, 1.5])
    values = [
        total_loss(torch.tensor([1.0]), d, y, labels, 128.0, LossSettings(delta_inclusive=inclusive))["cluster"].item()
        for inclusive in (False, True)
    ]
    assert values == [1.0, 1.5]


def test_no_prototype_label_of_the_presets_is_exactly_delta_from_a_grade():
    """So there the comparison of the published code and that of the text count the same 8 or 9 prototypes."""
    labels = torch.linspace(0.1, 5.9, 50)
    gap = (labels - torch.tensor([[1.0], [2.0], [3.0], [4.0], [5.0]])).abs()  # (5, 50)
    assert (gap - 0.5).abs().min() > 0.02
    assert (gap < 0.5).sum(1).tolist() == (gap <= 0.5).sum(1).tolist() == [8, 9, 8, 9, 8]


def test_cluster_loss_with_k_1_is_the_minimum():
    torch.manual_seed(0)
    d = torch.rand(6, 10)
    got = cluster_loss(d, torch.linspace(0.9, 1.1, 10), torch.ones(6), k=1)
    torch.testing.assert_close(got, d.amin(1).mean())


def test_psd_loss_by_hand():
    d = torch.tensor([[64.0, 0.0], [96.0, 128.0]])
    expect = -(math.log(0.5) + math.log(1.0)) / 2
    assert prototype_sample_distance_loss(d, 128.0).item() == pytest.approx(expect)


def test_psd_loss_is_finite_at_the_largest_distance():
    d = torch.full((2, 3), 128.0, requires_grad=True)
    loss = prototype_sample_distance_loss(d, 128.0)
    loss.backward()
    assert loss.isfinite()
    assert d.grad.isfinite().all()


def test_the_total_is_the_weighted_sum():
    d, y = torch.tensor([[0.2, 0.4]]), torch.tensor([1.0])
    values = total_loss(torch.tensor([3.0]), d, y, torch.tensor([1.0, 5.0]), 128.0, LossSettings(2.0, 3.0, 5.0, 1, 0.5))
    psd = -(math.log(1 - 0.2 / 128) + math.log(1 - 0.4 / 128)) / 2
    assert values["mse"].item() == 4
    assert values["total"].item() == pytest.approx(2 * 4 + 3 * 0.2 + 5 * psd)


def test_nan_distance_gives_nan_loss():
    d = torch.tensor([[math.nan, 0.3]])
    assert cluster_loss(d, torch.tensor([1.0, 1.0]), torch.tensor([1.0]), k=2).isnan()


@given(
    st.integers(1, 8),
    st.integers(2, 12),
    st.integers(1, 5),
    st.floats(0.05, 3),
    st.integers(0, 10_000),
    st.sampled_from([0.0, 1e-6, 1.0, 128.0]),
)
def test_losses_are_finite_and_never_negative(batch, m, k, delta, seed, scale):
    generator = torch.Generator().manual_seed(seed)
    d = torch.rand(batch, m, generator=generator) * scale
    targets = torch.rand(batch, generator=generator) * 4 + 1
    cluster = cluster_loss(d, torch.linspace(0.1, 5.9, m), targets, delta, k)
    psd = prototype_sample_distance_loss(d, 128.0)
    for loss in (cluster, psd):
        assert loss.isfinite()
        assert loss >= 0
    assert cluster <= d.max()
