"""Attribution to pixels, on networks whose dependence on the image is known."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from insightr_nb.analysis import places, tracing
from insightr_nb.model.network import Regressor
from insightr_nb.model.prototypes import PrototypeLayer, WeightedMean

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
    bgr = explains = False

    def __init__(self, mean: float = 0.0, deviation: float = 1.0):
        super().__init__()
        self.mean, self.deviation = torch.tensor(mean), torch.tensor(deviation)


class Displaced(Plain):
    """Cells of 8 px, each of the mean brightness 24 px to its right. Prototypes: brightness 0.55 and 0.45."""

    explains = True

    def __init__(self):
        super().__init__()
        self.prototype_layer = PrototypeLayer(2, 1, "inverse", 1e-4)
        self.prototype_layer.vectors.data = torch.tensor([[0.55], [0.45]])
        self.last_layer = WeightedMean(torch.tensor([5.0, 1.0]))

    def latent(self, pixels):
        moved = nn.functional.pad(pixels, (0, 24, 0, 0), value=128 / 255)[..., 24:]
        return nn.functional.avg_pool2d(moved.mean(1, keepdim=True), 8)  # (B, 1, 8, 8)

    def forward(self, pixels):
        latent = self.latent(pixels)
        distances, _, similarities = self.prototype_layer(latent)
        prediction, weights = self.last_layer(similarities)
        return SimpleNamespace(latent=latent, distances=distances, weights=weights, prediction=prediction)


def test_match_is_traced_to_the_pixels_that_cause_it_and_not_to_its_cell():
    network, picture, lesion = Displaced(), image((16, 40)), spot(16, 40)
    cell = int(tracing.matched_cells(network, picture)[0])
    assert divmod(cell, 8) == (2, 2)  # rows 16 to 23, columns 16 to 23
    traced = tracing.match(network, picture, 0)
    assert places.pointing(traced, SIDE, lesion) == 1
    assert traced[~lesion].max() < traced[lesion].min()
    assert places.mass_share(traced, lesion) > 0.7  # smoothing moves some beyond the edges of the spot


def test_similarities_are_those_of_given_cells():
    """In an image with the spot elsewhere, the cells that matched it are of the ground."""
    network = Displaced().eval()
    cells = tracing.matched_cells(network, image((16, 40)))
    output = network(network.inputs(torch.from_numpy(image((40, 40)))[None]))
    got = tracing.similarities_at(network, output, cells)
    ground = 128 / 255
    expect = [1 / ((ground - v) ** 2 + 1e-4) for v in (0.55, 0.45)]
    assert got.tolist() == pytest.approx(expect, rel=1e-3)
    assert network.prototype_layer.similarity(output.distances[0, 0].min()) > 1.2 * got[0]


def test_what_lowers_a_similarity_is_not_in_its_trace():
    """A spot that is darker than the ground moves its cell away from the prototype of a brighter one."""
    network, picture = Displaced(), image((16, 40))
    picture[20:24, 40:44] = 100  # in the same cell
    traced = tracing.match(network, picture, 0)
    assert traced[17, 41] > 0
    assert traced[22, 42] == pytest.approx(0, abs=1e-6)


def test_matches_are_those_of_each_prototype(loaded):
    network = loaded.network
    picture = next(image for image in loaded.store.images if tracing.match(network, image, 7).any())
    together = tracing.matches(network, picture, [7, 0, 4])
    assert together.shape == (3, *picture.shape[:2])
    for j, traced in zip((7, 0, 4), together, strict=True):
        assert traced == pytest.approx(tracing.match(network, picture, j), rel=1e-5, abs=1e-9)
    assert not np.allclose(together[0], together[2])


def test_the_source_of_a_prototype_has_a_trace(loaded):
    """Its distance is 0, so at the image itself the similarity has no gradient."""
    sources = [loaded.store.image(loaded.store.row(i)) for i in loaded.prototypes["image_id"]]
    traced = [tracing.match(loaded.network, picture, j).any() for j, picture in enumerate(sources)]
    assert np.mean(traced) > 0.5  # units can be dead at this size


def test_the_prediction_is_traced_to_what_raises_it():
    """Label 5 is near the spot and label 1 far; the baseline's prediction is the sum of the pixels."""
    picture, lesion = image((16, 40)), spot(16, 40)
    assert places.pointing(tracing.prediction(Displaced(), picture), SIDE, lesion) == 1
    assert places.pointing(tracing.prediction(Plain(), picture), SIDE, lesion) == 1
    dark = np.where(lesion[..., None], 30, picture).astype(np.uint8)
    assert not tracing.prediction(Plain(), dark).any()


def test_the_prediction_of_the_matched_cells_is_that_of_the_network(loaded):
    network, picture = loaded.network, loaded.store.image(0)
    cells = tracing.matched_cells(network, picture)
    output = network(network.inputs(torch.tensor(picture[None])))
    again = network.last_layer(tracing.similarities_at(network, output, cells)[None])[0]
    assert again.item() == pytest.approx(output.prediction.item(), rel=1e-4)


@pytest.mark.parametrize(("seen", "expected"), [((30, 30), 1), ((6, 50), 0)], ids=["right", "wrong"])
def test_trace_points_only_at_pixels_that_the_network_uses(seen, expected):
    row, col = seen
    picture = image((30, 30), (6, 50))
    traced = tracing.trace(Plain(), picture, lambda x: x[0, :, row : row + 4, col : col + 4].sum())
    assert places.pointing(traced, SIDE, spot(30, 30)) == expected


def test_trace_of_a_grey_image_is_zero():
    assert not tracing.trace(Plain(), image(), lambda x: x.square().sum()).any()
    assert not tracing.contrast(image()).any()


def test_trace_is_per_contrast_and_independent_of_the_input_scale():
    picture = image((10, 10), (40, 40))
    picture[40:44, 40:44] = 140  # of less contrast
    for network in (Plain(), Plain(0.45, 0.22)):
        traced = tracing.trace(network, picture, torch.sum)
        assert traced[12, 12] == pytest.approx(traced[42, 42], rel=1e-4)
        assert places.pointing(np.round(traced, 4), SIDE, spot(10, 10)) == pytest.approx(0.5)  # a tie


def test_trace_is_of_an_image_halfway_to_the_ground():
    """The unit is dead for a spot of 220, and alive for one of 174 (0.68)."""
    picture, lesion = image((10, 10)), spot(10, 10)
    assert places.pointing(tracing.trace(Plain(), picture, lambda x: x.clamp(max=0.7).sum()), SIDE, lesion) == 1
    assert not tracing.trace(Plain(), picture, lambda x: torch.relu(x - 0.7).sum()).any()


def test_trace_of_a_constant_network_is_zero():
    """A dead unit has no gradient: the map is zero, pointing is at chance, and the share of mass is NaN."""
    traced = tracing.trace(Plain(), image((10, 10)), lambda x: torch.relu(x - 2).sum())
    lesion = spot(10, 10)
    assert not traced.any()
    assert places.pointing(traced, SIDE, lesion) == lesion.mean()
    assert np.isnan(places.mass_share(traced, lesion))
