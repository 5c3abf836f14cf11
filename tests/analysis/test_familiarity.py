"""Familiarity of images: statistics by hand, and real photographs on a run trained on drawings."""

import numpy as np
import pytest
import torch
from torch import nn

from insightr_nb.analysis import familiarity
from insightr_nb.analysis.evaluation import evaluate
from insightr_nb.analysis.explanation import explain
from insightr_nb.analysis.familiarity import Reference
from insightr_nb.analysis.loaded_run import load_run
from insightr_nb.model.network import INSightRNet
from insightr_nb.settings import RunSettings


@pytest.fixture
def network() -> INSightRNet:
    """A network whose first convolution passes on red and twice green."""
    network = INSightRNet(RunSettings.from_parameters(preset="smoke").model).eval()
    first = nn.Conv2d(3, 2, 1, bias=False)
    first.weight.data = torch.tensor([[1.0, 0, 0], [0, 2, 0]])[..., None, None]
    network.backbone.conv1 = first
    network.mean.zero_()
    network.deviation.fill_(1.0)
    network.ground.fill_(128 / 255)
    return network


def test_statistics_are_means_and_deviations_outside_the_background(network):
    image = np.full((64, 64, 3), 128, np.uint8)
    image[:32] = [0, 51, 255]
    image[32:48] = [255, 51, 0]  # the other quarter is background
    got = familiarity.channel_statistics(network, torch.from_numpy(image)[None])[0]
    # red: 2/3 of the pixels 0, 1/3 of them 1: mean 1/3, variance 2/9; green: 0.2 everywhere, doubled
    assert got.tolist() == pytest.approx([1 / 3, 0.4, (2 / 9) ** 0.5, 0], abs=1e-6)


def test_an_image_of_background_only_has_statistics(network):
    image = np.full((64, 64, 3), 128, np.uint8)
    assert familiarity.channel_statistics(network, torch.from_numpy(image)[None]).tolist() == [[0, 0, 0, 0]]


def test_familiarity_is_the_share_of_validation_images_that_are_as_far():
    reference = Reference(np.array([1.0, 1]), np.array([2.0, 1]), np.eye(2), np.array([0.5, 1, 2, 4]))
    values = np.array([[1.0, 1], [3, 1], [3, 2], [1, 4]])
    assert reference.distance(values).tolist() == [0, 1, 2, 9]
    assert reference.familiarity(values).tolist() == [1, 0.75, 0.5, 0]


def test_correlated_statistics_are_decorrelated():
    """Along the diagonal, where the training images vary, the same step is less unusual than across it."""
    rng = np.random.default_rng(0)
    along = rng.normal(size=(500, 1)) * [[1.0, 1.0]] + 0.1 * rng.normal(size=(500, 2))
    reference = Reference.of(along, along[:50])
    diagonal, across = reference.distance(np.array([[1.0, 1], [1, -1]]))
    assert across > 20 * diagonal
    assert reference.usual.shape == (50,)


@pytest.mark.parametrize(("share", "text"), [(0.0, "none of its validation"), (0.02, "2% of its validation")])
def test_only_rare_images_have_a_warning(share, text):
    assert f"unlike the images of 'synthetic' that the run was trained on: {text}" in familiarity.warning(
        share, "synthetic"
    )
    assert familiarity.warning(familiarity.LEAST, "synthetic") is None


def test_real_photographs_are_less_familiar_than_drawings_to_a_run_trained_on_drawings(smoke_run, idrid):
    """Of 80 training images at 64 px; docs/trust.md has the figures of preset demo."""
    run = load_run(smoke_run)
    drawings = [run.familiarity(run.store.image(run.store.row(i))) for i in run.predictions["image_id"]]
    assert np.mean(np.array(drawings) < familiarity.LEAST) <= 0.1
    explanations = [explain(run, path) for path in sorted((idrid / "images").glob("*.jpg"))[::20]]
    photographs = [e.familiarity for e in explanations]
    assert np.mean(np.subtract.outer(photographs, drawings) < 0) > 0.8
    flagged = [e for e in explanations if e.familiarity < familiarity.LEAST]
    assert flagged
    for e in explanations:
        text = familiarity.warning(e.familiarity, "synthetic")
        warned = any(warning.startswith(str(text)) for warning in e.warnings)
        assert warned == (text is not None) == (f"\nWarning: {text}" in str(e))


def test_an_older_run_has_no_familiarity_until_it_is_evaluated_again(smoke_run, smoke_settings):
    expect = {name: smoke_run.array(name).copy() for name in familiarity.FILES}
    for name in familiarity.FILES:
        (smoke_run / name).unlink()
    smoke_run.update(files={k: v for k, v in smoke_run.manifest["files"].items() if k not in familiarity.FILES})
    older = load_run(smoke_run)
    assert older.reference is None
    e = explain(older, older.predictions["image_id"][0])
    assert (e.familiarity, e.warnings) == (None, ())
    assert "familiarity" not in str(e)
    evaluate(smoke_run, smoke_settings)
    for name in familiarity.FILES:
        assert np.array_equal(smoke_run.array(name), expect[name])
        assert name in smoke_run.manifest["files"]
    assert load_run(smoke_run).reference is not None
