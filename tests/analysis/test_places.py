"""Measures of place, by hand."""

import numpy as np
import pytest

from insightr_nb.analysis import places
from insightr_nb.analysis.geometry import Grid

GRID = Grid(size=6, cells=3, stride=2, offset=1.0, receptive_field=3)  # three cells of two pixels, at 1, 3, 5
CENTRES = np.array([1.0, 3.0, 5.0])
FLAT = np.ones((6, 6))
DISC = np.ones((6, 6), bool)

LESION = np.zeros((6, 6), bool)
LESION[3, 5] = True  # under the centre of cell (1, 2)


def heat(*cells) -> np.ndarray:
    values = np.zeros((3, 3))
    for cell in cells:
        values[cell] = 1
    return values


@pytest.mark.parametrize(
    ("values", "lesion", "expect"),
    [
        (heat((1, 2)), LESION, 1),  # right
        (heat((2, 1)), LESION, 0),  # wrong, though rows and columns exchanged it would be right
        (heat((1, 2), (0, 0)), LESION, 0.5),  # a tie
        (heat(), LESION, 1 / 9),  # nine-fold tie: as a random cell
        (heat((1, 2)), np.zeros((6, 6), bool), 0),  # empty mask
        (heat((1, 2)), np.roll(LESION, 1, axis=0), 0),  # no tolerance: one pixel beside
    ],
    ids=["right", "wrong", "tie", "flat", "no lesion", "one pixel off"],
)
def test_pointing_by_hand(values, lesion, expect):
    assert places.pointing(values, CENTRES, lesion) == pytest.approx(expect)


def test_a_centre_outside_the_image_takes_the_nearest_pixel():
    lesion = np.zeros((6, 6), bool)
    lesion[0, 0] = True
    assert places.pointing(heat((0, 0)), np.array([-4.0, 2, 8]), lesion) == 1


def test_chance_counts_the_cells_of_the_disc():
    assert places.chance(CENTRES, LESION, DISC) == pytest.approx(1 / 9)
    right = DISC.copy()
    right[:, :4] = False  # of the centres, only those of the last column are left
    assert places.chance(CENTRES, LESION, right) == pytest.approx(1 / 3)
    assert np.isnan(places.chance(CENTRES, LESION, ~DISC))


def test_the_ceiling_is_0_if_every_lesion_lies_between_the_centres():
    assert places.ceiling(CENTRES, LESION) == 1
    assert places.ceiling(CENTRES, np.roll(LESION, 1, axis=0)) == 0
    corner = np.zeros((6, 6), bool)
    corner[0, 0] = True
    assert places.ceiling(np.array([-4.0, 2, 8]), corner) == 0  # no cell centred outside the image counts
    assert places.ceiling(np.arange(6.0), corner) == 1


def test_mass_share_counts_what_lies_anywhere():
    lesion = np.zeros((6, 6), bool)
    lesion[0] = True
    assert places.mass_share(FLAT, lesion) == pytest.approx(1 / 6)
    assert places.mass_share(lesion.astype(float), lesion) == 1
    assert places.mass_share((~lesion).astype(float), lesion) == 0
    assert np.isnan(places.mass_share(0 * FLAT, lesion))


def test_pooled_maps_are_sums_over_boxes():
    """Box i holds pixels 2 i and 2 i + 1."""
    values = np.zeros((6, 6))
    values[0, 2:4] = 3, 4
    values[5, 5] = 2
    assert places.pooled(values, GRID).tolist() == [[0, 7, 0], [0, 0, 0], [0, 0, 2]]
    assert places.pooled(FLAT, Grid(6, 3, 3, 0.0, 3)).tolist() == [[4, 6, 2], [6, 9, 3], [2, 3, 1]]  # centres 0, 3, 6


def test_boxes_are_dense_where_lesions_cover_as_much_as_in_the_disc():
    """Lesions cover 5 of the 24 px of the disc, its two upper rows of boxes: in one box 4 of 4, in another 1 of 4."""
    disc = DISC.copy()
    disc[4:] = False
    lesion = np.zeros((6, 6), bool)
    lesion[:2, 2:4] = True
    lesion[3, 0] = True
    lesion[5, 5] = True  # outside the disc
    dense = places.dense_boxes(lesion, disc, GRID)
    assert dense[:2].tolist() == [[0, 1, 0], [1, 0, 0]]  # 1 / 4 > 5 / 24
    assert np.isnan(dense[2]).all()
    lesion[:2, :2] = True  # now 9 of 24: 1 / 4 is less
    assert places.dense_boxes(lesion, disc, GRID)[:2].tolist() == [[1, 1, 0], [0, 0, 0]]


def test_there_is_always_a_dense_box():
    assert np.nansum(places.dense_boxes(DISC, DISC, GRID)) == 9
    for seed in range(20):
        lesion = np.random.default_rng(seed).random((6, 6)) < 0.3
        assert np.nansum(places.dense_boxes(lesion, DISC, GRID)) >= 1


def test_pooled_pointing_by_hand():
    dense = np.array([[np.nan, 1, 0], [0, 0, 0], [0, 0, 0.0]])
    values = np.zeros((6, 6))
    values[0:2, 2:4] = 1
    values[5, 5] = 3  # the largest pixel, in a box of a smaller sum
    assert places.pooled_pointing(values, dense, GRID) == 1
    values[5, 5] = 5
    assert places.pooled_pointing(values, dense, GRID) == 0
    values[5, 5] = 4
    assert places.pooled_pointing(values, dense, GRID) == 0.5
    assert places.pooled_pointing(0 * FLAT, dense, GRID) == pytest.approx(1 / 9)
