"""Attribution of a match to pixels, on networks whose dependence on the image is known."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from insightr_nb.analysis import lesions, tracing
from insightr_nb.model.network import Regressor

SIDE = np.arange(64)


def image(*spots: tuple[int, int]) -> np.ndarray:
    """Ground with bright spots of 4 px at (row, column)."""
    made = np.full((64, 64, 3), 128, np.uint8)
    for row, col in spots:
        made[row : row + 4, col : col + 4] = 220
    return made


def spot(row: int, col: int) -> np.ndarray:
    return (image((row, col)) != 128).any(axis=2)


class Plain(nn.Identity):
    """The identity, with the normalisation of the input that the networks of the package have."""

    inputs = Regressor.inputs
    bgr = False

    def __init__(self, mean: float = 0.0, deviation: float = 1.0):
        super().__init__()
        self.mean, self.deviation = torch.tensor(mean), torch.tensor(deviation)


class Displaced(Plain):
    """One prototype, cells of 8 px; each cell measures the mean brightness 24 px to its right."""

    def forward(self, pixels):
        moved = nn.functional.pad(pixels, (0, 24, 0, 0))[..., 24:]
        cells = nn.functional.avg_pool2d(moved.mean(1, keepdim=True), 8)  # (B, 1, 8, 8)
        distances = (0.55 - cells).square()
        return SimpleNamespace(similarities=1 / (distances.flatten(2).amin(2) + 1e-4), distances=distances)


def test_match_is_traced_to_the_pixels_that_cause_it_and_not_to_its_cell():
    run = SimpleNamespace(network=Displaced())
    picture = image((16, 40))
    lesion = spot(16, 40)
    with torch.no_grad():
        cells = -Displaced()(torch.from_numpy(picture / 255.0).permute(2, 0, 1)[None].float()).distances[0, 0].numpy()
    assert np.unravel_index(cells.argmax(), cells.shape) == (2, 2)
    assert lesions.pointing(cells, 3.5 + 8 * np.arange(8), lesion) == 0
    traced = tracing.match(run, picture, 0)
    assert lesions.pointing(traced, SIDE, lesion) == 1
    assert traced[~spot(16, 40)].max() < traced[lesion].min()
    assert lesions.mass_ratio(traced, lesion, np.ones((64, 64), bool)) > 50


def test_matches_are_those_of_each_prototype(loaded):
    picture = next(image for image in loaded.store.images if tracing.match(loaded, image, 7).any())
    together = tracing.matches(loaded, picture, [7, 0, 4])
    assert together.shape == (3, *picture.shape[:2])
    for j, traced in zip((7, 0, 4), together, strict=True):
        assert traced == pytest.approx(tracing.match(loaded, picture, j), rel=1e-5, abs=1e-9)
        alone = tracing.trace(loaded.network, picture, lambda output, j=j: output.similarities[0, j].log())
        assert traced == pytest.approx(alone, rel=1e-5, abs=1e-9)
    assert not np.allclose(together[0], together[2])


class Cells(Plain):
    """Latent patches: the mean colours of cells of 8 px."""

    def latent(self, pixels):
        return nn.functional.avg_pool2d(pixels, 8)  # (B, 3, 8, 8)

    def forward(self, pixels):
        return SimpleNamespace(latent=self.latent(pixels))


def test_a_patch_is_traced_to_the_pixels_that_it_encodes():
    picture = image((18, 42), (50, 10))
    traced = tracing.patch(SimpleNamespace(network=Cells()), picture, 2, 5)
    assert lesions.pointing(traced, SIDE, spot(18, 42)) == 1
    assert traced[40:].max() == 0  # the other spot lies in another cell
    assert not tracing.patch(SimpleNamespace(network=Cells()), picture, 0, 0).any()  # a grey cell


def test_a_patch_is_traced_also_where_its_match_has_no_gradient(loaded):
    """The source of a prototype is at distance 0 of it."""
    found = []
    for j in range(len(loaded.labels)):
        p = loaded.prototypes.iloc[j]
        picture = loaded.store.image(loaded.store.row(p["image_id"]))
        found.append(
            [tracing.patch(loaded, picture, p["row"], p["col"]).max(), tracing.match(loaded, picture, j).max()]
        )
    of_patch, of_match = np.array(found).T
    assert (of_patch > 0).mean() > 0.5
    assert of_match.max() < 0.05 * of_patch.max()


@pytest.mark.parametrize(("seen", "expected"), [((30, 30), 1), ((6, 50), 0)], ids=["right", "wrong"])
def test_trace_points_only_at_pixels_that_the_network_uses(seen, expected):
    row, col = seen
    picture = image((30, 30), (6, 50))
    traced = tracing.trace(Plain(), picture, lambda x: x[0, :, row : row + 4, col : col + 4].sum())
    assert lesions.pointing(traced, SIDE, spot(30, 30)) == expected


def test_trace_of_a_grey_image_is_zero():
    assert not tracing.trace(Plain(), image(), lambda x: x.square().sum()).any()
    assert not tracing.contrast(image()).any()


def test_trace_is_unsigned_and_independent_of_the_input_scale():
    picture = image((10, 10), (40, 40))
    picture[40:44, 40:44] = 128 - (220 - 128)  # as dark as the other is bright
    for network in (Plain(), Plain(0.45, 0.22)):
        traced = tracing.trace(network, picture, torch.sum)
        assert traced[11, 11] == pytest.approx(traced[41, 41], rel=1e-4)
        assert lesions.pointing(np.round(traced, 4), SIDE, spot(10, 10)) == pytest.approx(0.5)  # a tie


def test_trace_of_a_constant_network_is_zero():
    """A dead unit has no gradient: the map is zero, pointing is at chance, and the mass ratio is NaN."""
    traced = tracing.trace(Plain(), image((10, 10)), lambda x: torch.relu(x - 2).sum())
    lesion = spot(10, 10)
    assert not traced.any()
    assert lesions.pointing(traced, SIDE, lesion) == lesion.mean()
    assert np.isnan(lesions.mass_ratio(traced, lesion, np.ones((64, 64), bool)))
