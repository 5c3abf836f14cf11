"""Graham's normalisation: the fundus found and scaled, the local average removed, mid-grey outside the mask."""

import cv2
import numpy as np
import pytest
from data.drawn import fundus, textured

from insightr_nb.data import graham
from insightr_nb.data.disc import Disc, find_disc, published_disc
from insightr_nb.data.images import read_image
from insightr_nb.errors import DataError

# -- normalise --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "recipe_size", "inside", "outside"),
    [
        # the centre lies between two pixels; radius 270 at 512: corners of the square are cut, the sides are not
        (512, 512, [(0, 256), (256, 0), (66, 66)], [(0, 0), (64, 64), (511, 0), (447, 447)]),
        (256, 512, [(0, 128), (33, 33)], [(0, 0), (31, 31), (255, 255)]),  # radius 135
        (540, 540, [(0, 270), (80, 80)], [(0, 0), (78, 78), (0, 200)]),  # the mask just fits
    ],
)
def test_the_mask_has_a_radius_of_270_px_at_the_recipes_size(size, recipe_size, inside, outside):
    mask = graham.mask(size, recipe_size)
    assert mask.shape == (size, size)
    assert [bool(mask[cell]) for cell in inside] == [True] * len(inside)
    assert [bool(mask[cell]) for cell in outside] == [False] * len(outside)
    assert np.array_equal(mask, mask.T)
    assert np.array_equal(mask, mask[::-1, ::-1])


@pytest.mark.parametrize(("size", "recipe_size", "radius"), [(512, 512, 300), (256, 512, 150), (540, 540, 300)])
def test_a_step_keeps_four_times_its_distance_to_the_local_average(size, recipe_size, radius):
    """100 beside 110: the average at the edge is 105, so 4 (100 - 105) + 128 = 108 and 4 (110 - 105) + 128 = 148."""
    image = np.full((700, 700, 3), 100, np.uint8)
    image[:, 350:] = 110
    got = graham.normalise(image, size, recipe_size, Disc(350, 350, radius))
    middle = size // 2
    assert got[middle, middle - 1].tolist() == [108, 108, 108]
    assert got[middle, middle].tolist() == [148, 148, 148]
    assert got[middle, middle - size // 4].tolist() == [128, 128, 128]
    assert got[middle, middle + size // 4].tolist() == [128, 128, 128]


def test_the_blur_is_a_thirtieth_of_the_radius():
    """10 px beside an edge of 20 grey levels the average is Phi(1) = 84 % of the way: 4 (120 - 117) + 128 = 140."""
    image = np.full((700, 700, 3), 100, np.uint8)
    image[:, 350:] = 120
    got = graham.normalise(image, 512, disc=Disc(350, 350, 300))
    assert got[256, 256 + 10, 0] == 140
    half = graham.normalise(image, 256, disc=Disc(350, 350, 150))
    assert half[128, 128 + 5, 0] == pytest.approx(140, abs=4)  # a level of the blur is four of the result


@pytest.mark.parametrize("radius", [75, 150, 600])
def test_the_fundus_is_scaled_to_300_px_neither_transposed_nor_with_swapped_colours(radius):
    """A red dot half a radius right of the centre and a quarter above lies at column 256 + 150, row 256 - 75."""
    height, width = 3 * radius, 4 * radius
    image = np.full((height, width, 3), 80, np.uint8)
    x, y = width // 2 + radius // 2, height // 2 - radius // 4
    dot = radius // 30
    image[y - dot : y + dot, x - dot : x + dot] = (220, 80, 80)
    got = graham.normalise(image, 512, disc=Disc(width / 2, height / 2, radius))
    rows, columns = np.nonzero(got[..., 0] > 180)
    assert (rows.mean() + 0.5, columns.mean() + 0.5) == pytest.approx((256 - 75, 256 + 150), abs=3)
    assert got[..., 1:].max() < 140


def test_outside_the_mask_and_outside_the_photograph_is_mid_grey():
    """The frame cuts the fundus: 75 of its 100 px above and below the centre are there, 225 of 300 px after scaling."""
    got = graham.normalise(textured(150, 300), 512, disc=Disc(150, 75, 100))
    assert got.dtype == np.uint8
    assert (got[~graham.mask(512)] == 128).all()
    assert (got[: 256 - 226] == 128).all()
    assert (got[256 + 226 :] == 128).all()
    photographed = got[256 - 224 : 256 + 224, 256 - 100 : 256 + 100]
    assert (photographed != 128).mean() > 0.9
    assert (photographed[0] != 128).mean() > 0.9
    assert (photographed[-1] != 128).mean() > 0.9


def test_the_frame_of_the_photograph_leaves_no_rim():
    """Blurring against black would brighten the first rows by up to 4 * 150 / 2."""
    image = np.full((150, 300, 3), 150, np.uint8)
    assert (graham.normalise(image, 512, disc=Disc(150, 75, 100)) == 128).all()


@pytest.mark.parametrize("size", [32, 64, 257])
def test_any_size(size):
    assert graham.normalise(textured(120, 160), size).shape == (size, size, 3)


def test_the_photograph_is_left_as_it_is():
    image = textured(120, 160)
    before = image.copy()
    graham.normalise(image, 64)
    assert np.array_equal(image, before)


# -- the same crop in the original colours, and of a mask ------------------------------------------------------------


def dotted(side: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """An even fundus of radius 290 on black with 5 bright dots of 7 px, away from the middle row; and their mask."""
    image = fundus(700, 900, 430.3, 356.8, 290)
    mask = np.zeros(image.shape[:2], bool)
    for x, y in ((430, 300), (300, 250), (560, 280), (350, 480), (540, 470)):
        mask[y - 3 : y + 4, x - 3 : x + 4] = True
    image[mask] = 255
    return cv2.copyMakeBorder(image, *[side] * 4, cv2.BORDER_CONSTANT, value=(250, 250, 250)), np.pad(mask, side)


def centres(mask: np.ndarray) -> np.ndarray:
    """Centres (n, 2) x, y of the connected regions of a mask, from top to bottom."""
    return cv2.connectedComponentsWithStats(mask.astype(np.uint8))[3][1:]


@pytest.mark.parametrize("size", [256, 512, 551, 1200])
@pytest.mark.parametrize("centre", ["disc", "image"])
def test_a_bright_dot_lies_at_the_same_pixel_in_normalised_cropped_and_mask(centre, size):
    image, mask = dotted()
    if centre == "disc":
        disc = Disc(430.3, 356.8, 290)
        normalised, cropped = (make(image, size, 512, disc) for make in (graham.normalise, graham.cropped))
        placed = graham.place(mask, disc, size, 512)
    else:
        normalised, cropped = (make(image, size, 512) for make in (graham.published, graham.published_cropped))
        placed = graham.published_place(mask, published_disc(image), size, 512)
    inside = np.hypot(*(np.indices((size, size)) - size / 2)) < 0.45 * size
    expect = centres(placed)
    assert len(expect) == 5
    for bright in (normalised.min(axis=2) > 230, cropped.min(axis=2) > 150):  # the fundus has 40 in blue
        found = centres(bright & inside)
        assert found.shape == expect.shape
        assert np.abs(found - expect).max() < 0.6


@pytest.mark.parametrize("shrink", [cv2.INTER_AREA, cv2.INTER_CUBIC])
@pytest.mark.parametrize("size", [200, 512])
def test_the_cropped_photograph_is_the_one_that_is_normalised(size, shrink):
    """Graham's filter of the crop gives the normalised image, away from the borders that the crop lacks."""
    image = cv2.GaussianBlur(textured(700, 900), (0, 0), 1.5)
    disc = Disc(437.3, 356.8, 311.4)
    cropped = graham.cropped(image, size, 512, disc, shrink)
    blurred = graham._blur(cropped, 10 * size / 512)
    expect = cv2.addWeighted(cropped, 4, blurred, -4, 128).astype(int)
    middle = slice(size // 4, -size // 4)
    got = graham.normalise(image, size, 512, disc, shrink)
    assert np.abs(got - expect)[middle, middle].max() <= 4  # 1 grey level of the blur; a shift gives 40
    moved = np.roll(expect, 1, axis=1)
    assert np.abs(got - moved)[middle, middle].max() > 40


def test_the_crop_keeps_the_colours_and_the_corners_and_is_grey_beyond_the_photograph():
    image = np.full((300, 500, 3), (120, 70, 30), np.uint8)
    got = graham.cropped(image, 512, 512, Disc(250, 150, 200))  # 1.5 times: 450 of 512 rows are there
    assert got.dtype == np.uint8
    assert got.shape == (512, 512, 3)
    assert (got[31:481] == (120, 70, 30)).all()  # the corners, too
    assert (got[:31] == 128).all()
    assert (got[481:] == 128).all()
    got = graham.published_cropped(image, 512, 512)  # the radius is half the width: 600 x 360
    assert (got[76:436] == (120, 70, 30)).all()
    assert (got[:76] == 128).all()
    assert (got[436:] == 128).all()


def test_the_crop_is_grey_in_place_of_a_bright_border():
    framed, plain = (graham.cropped(dotted(side)[0], 512) for side in (60, 0))
    assert np.abs(framed.astype(int) - plain).mean() < 1
    assert (framed.min(axis=2) > 240).sum() < 5 * 12**2  # the dots only


# -- resize -----------------------------------------------------------------------------------------------------------


def test_resize_fits_the_whole_image_into_a_grey_square():
    image = np.full((50, 100, 3), (255, 0, 0), np.uint8)
    image[:, 50:] = (0, 0, 255)
    got = graham.resize(image, 64)
    assert got.shape == (64, 64, 3)
    assert (got[:16] == 128).all()
    assert (got[48:] == 128).all()
    assert (got[16:48, :32] == (255, 0, 0)).all()
    assert (got[16:48, 32:] == (0, 0, 255)).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 1000), (1000, 1), (64, 64), (7, 5)])
def test_resize_takes_any_shape(height, width):
    got = graham.resize(np.full((height, width, 3), 200, np.uint8), 64)
    assert got.shape == (64, 64, 3)
    assert (got[31:33, 31:33] == 200).any()
    assert set(np.unique(got)) <= {128, 200}


def test_resize_averages_fine_detail():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 200
    assert (graham.resize(stripes, 64) == 100).all()


# -- real photographs -------------------------------------------------------------------------------------------------


def test_real_photographs(idrid):
    """IDRiD's camera: the fundus fills the height and is cut off above and below; its radius is 260 of 640 x 425."""
    mask = graham.mask(256)
    for path in sorted((idrid / "images").glob("*.jpg"))[::34]:
        image = read_image(path)
        height, width = image.shape[:2]
        disc = find_disc(image)
        lit = np.flatnonzero((cv2.GaussianBlur(image.max(axis=2), (0, 0), 2) > 30).mean(axis=0) > 0.05)
        assert disc.radius == pytest.approx((lit[-1] - lit[0]) / 2, rel=0.04), path.name
        assert disc.x == pytest.approx((lit[0] + lit[-1]) / 2, abs=0.01 * width), path.name
        assert disc.y == pytest.approx(height / 2, abs=0.03 * height), path.name
        got = graham.normalise(image, 256)
        assert (got[~mask] == 128).all(), path.name
        assert np.abs(got[mask].mean(axis=0) - 128).max() < 2, path.name
        assert got[mask].std() > 5, path.name


# -- the published script ---------------------------------------------------------------------------------------------


def test_the_published_recipe_is_centred_on_the_image():
    """A spot in the middle of a disc that lies left of the image's middle: ours moves it to the centre."""
    image = fundus(400, 600, 250, 200, 150)
    cv2.circle(image, (250, 200), 6, (255, 255, 255), -1)
    for prepared, column in (
        (graham.normalise(image, 512), 256),
        (graham.published(image, 512, 512), 256 - 50 * 300 / 150),
    ):
        spot = prepared[236:276, :].min(axis=2) > 200
        spot[:, 350:] = False  # the far edge of a disc that is not in the middle
        spot[:, :40] = False
        assert np.nonzero(spot)[1].mean() == pytest.approx(column, abs=3)


def test_the_published_recipe_step_by_step():
    """Half the bright pixels of the middle row become 300 px; 4 (x - blur) + 128 inside 270 px; grey around."""
    image = np.zeros((500, 700, 3), np.uint8)
    image[:, 100:600] = np.random.default_rng(0).integers(60, 200, (500, 500, 3), dtype=np.uint8)
    got = graham.published(image, 540, 540)
    scaled = cv2.resize(image, (0, 0), fx=300 / 250, fy=300 / 250)  # 500 bright pixels in the middle row
    blended = cv2.addWeighted(scaled, 4, cv2.GaussianBlur(scaled, (0, 0), 10), -4, 128)
    y, x = blended.shape[0] // 2, blended.shape[1] // 2
    expect = blended[y - 270 : y + 270, x - 270 : x + 270]
    centre = slice(150, 390)
    assert np.array_equal(got[centre, centre], expect[centre, centre])
    assert (got[0, 0] == 128).all()
    assert (got[269, 4] == expect[269, 4]).all()
    assert (got[10, 60] == 128).all()


def test_the_published_recipe_blurs_faster_at_a_large_size():
    """Above twice its size; rounding the blur differently, by a grey level, counts four times."""
    image = cv2.GaussianBlur(textured(700, 700), (0, 0), 3)
    got = graham.published(image, 1200, 540).astype(int)
    scale = 300 * 1200 / 540 / 350
    scaled = cv2.resize(image, (0, 0), fx=scale, fy=scale)
    blurred = cv2.GaussianBlur(scaled, (0, 0), 10 * 1200 / 540)
    expect = cv2.addWeighted(scaled, 4, blurred, -4, 128)
    y, x = expect.shape[0] // 2, expect.shape[1] // 2
    difference = np.abs(got[400:800, 400:800] - expect[y - 200 : y + 200, x - 200 : x + 200])
    assert difference.max() <= 4
    assert difference.mean() < 0.2


def test_the_published_recipe_pads_with_the_grey_of_the_ground():
    got = graham.published(fundus(200, 600, 300, 100, 290), 540, 540)
    assert got.shape == (540, 540, 3)
    assert (got[:100] == 128).all()


def test_the_published_recipe_refuses_a_black_middle():
    with pytest.raises(DataError, match="nearly black image"):
        graham.published(np.zeros((50, 50, 3), np.uint8))
    image = fundus(400, 600, 300, 80, 70)
    image[200, :5] = 255
    with pytest.raises(DataError, match="5 px of the middle row of the photograph are not black"):
        graham.published(image)
