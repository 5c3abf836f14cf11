"""Graham's normalisation: the fundus found and scaled, the local average removed, mid-grey outside the mask."""

import cv2
import numpy as np
import pytest
from places import IDRID

from insightr_nb.data import graham, synthetic
from insightr_nb.data import photograph as one_photograph
from insightr_nb.data.graham import Disc
from insightr_nb.data.images import read_image
from insightr_nb.errors import DataError
from insightr_nb.settings import DataSettings


def fundus(height: int, width: int, x: float, y: float, radius: float, colour=(150, 80, 40)) -> np.ndarray:
    """An evenly coloured fundus on black; x and y count from the outer corner of the first pixel."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    image = np.zeros((height, width, 3), np.uint8)
    image[(columns - x) ** 2 + (rows - y) ** 2 <= radius**2] = colour
    return image


def textured(height: int, width: int) -> np.ndarray:
    """Bright noise, so that what Graham's normalisation makes of it is rarely 128."""
    return np.random.default_rng(5).integers(60, 250, (height, width, 3), dtype=np.uint8)


# -- find_disc --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "x", "y", "radius"),
    [
        pytest.param(200, 300, 150, 100, 90, id="whole"),
        pytest.param(200, 300, 120, 95, 70, id="off centre"),
        pytest.param(150, 300, 140, 75, 100, id="top and bottom cut off"),
        pytest.param(150, 300, 140, 90, 100, id="bottom cut off more"),
        pytest.param(300, 200, 100, 150, 95, id="upright"),
        pytest.param(1600, 2400, 1180, 810, 760, id="large"),
    ],
)
def test_the_disc_is_found(height, width, x, y, radius):
    found = graham.find_disc(fundus(height, width, x, y, radius))
    assert (found.x, found.y) == pytest.approx((x, y), abs=0.02 * radius)
    assert found.radius == pytest.approx(radius, rel=0.03)


def test_writing_in_a_corner_does_not_move_the_disc():
    image = fundus(200, 300, 150, 100, 90)
    image[5:15, 5:35] = 255
    found = graham.find_disc(image)
    assert (found.x, found.y, found.radius) == pytest.approx((150, 100, 90), abs=3)


def test_a_photograph_cropped_inside_the_fundus_touches_the_circle_with_its_longer_sides():
    assert graham.find_disc(textured(200, 300)) == Disc(150, 100, 150, cropped=True)
    assert graham.find_disc(textured(300, 200)) == Disc(100, 150, 150, cropped=True)


def photograph(side: int = 300) -> tuple[np.ndarray, Disc]:
    """A synthetic photograph on a wider black frame, and where its disc is."""
    image = cv2.copyMakeBorder(synthetic.photograph(3, 0, side).image, 0, 0, 80, 40, cv2.BORDER_CONSTANT)
    return image, graham.find_disc(image)


def with_glow(image: np.ndarray, disc: Disc) -> np.ndarray:
    bright = np.clip(image * 2.2, 0, 255)
    return np.maximum(bright, 0.5 * cv2.GaussianBlur(bright, (0, 0), 12)).astype(np.uint8)


def with_shadow(image: np.ndarray, disc: Disc) -> np.ndarray:
    columns = np.arange(image.shape[1])
    light = np.clip((columns - (disc.x - 0.9 * disc.radius)) / (0.5 * disc.radius), 0.03, 1)
    return (image * light[:, None]).astype(np.uint8)


def with_vignette(image: np.ndarray, disc: Disc) -> np.ndarray:
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    distance = np.hypot(columns - disc.x, rows - disc.y) / disc.radius
    return (image * np.clip(1.15 - distance**2, 0.06, 1)[..., None]).astype(np.uint8)


def with_notch(image: np.ndarray, disc: Disc) -> np.ndarray:
    place = round(disc.x + 0.77 * disc.radius), round(disc.y - 0.64 * disc.radius)
    return cv2.circle(image.copy(), place, round(0.06 * disc.radius), (200, 120, 60), -1)


def with_noise(image: np.ndarray, disc: Disc) -> np.ndarray:
    return np.maximum(image, np.random.default_rng(0).integers(0, 9, image.shape, np.uint8))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda i, d: (i * 0.2).astype(np.uint8), id="dark"),
        pytest.param(with_glow, id="over-exposed, the frame glows"),
        pytest.param(with_shadow, id="one side in shadow"),
        pytest.param(with_vignette, id="dark towards the edge"),
        pytest.param(with_notch, id="a notch"),
        pytest.param(lambda i, d: np.maximum(i, 25), id="a grey frame"),
        pytest.param(with_noise, id="noise"),
    ],
)
def test_the_disc_is_found_in_a_bad_photograph(change):
    image, disc = photograph()
    found = graham.find_disc(change(image, disc))
    assert (found.x, found.y, found.radius) == pytest.approx((disc.x, disc.y, disc.radius), abs=0.02 * disc.radius)


@pytest.mark.parametrize(
    "frame",
    [(0, 300, 0, 420), (40, 260, 0, 420), (0, 220, 0, 420), (0, 300, 110, 420), (0, 300, 0, 350), (0, 300, 80, 380)],
    ids=["whole", "top and bottom", "bottom", "left", "right", "tight"],
)
def test_the_disc_is_found_where_the_frame_cuts_it(frame):
    image, disc = photograph()
    top, bottom, left, right = frame
    found = graham.find_disc(image[top:bottom, left:right])
    assert (found.x + left, found.y + top, found.radius) == pytest.approx(
        (disc.x, disc.y, disc.radius), abs=0.02 * disc.radius
    )


@pytest.mark.parametrize("width", [0, 30, 300])
def test_black_frames_of_any_width(width):
    image, disc = photograph()
    found = graham.find_disc(cv2.copyMakeBorder(image, width, 0, 2 * width, width, cv2.BORDER_CONSTANT))
    assert (found.x, found.y, found.radius) == pytest.approx(
        (disc.x + 2 * width, disc.y + width, disc.radius), abs=0.02 * disc.radius
    )


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((100, 100, 3), np.uint8), "nearly black image: 95 % of its pixels are at most 0 of 255"),
        (np.full((100, 100, 3), 9, np.uint8), "nearly black image: 95 % of its pixels are at most 9 of 255"),
        (fundus(200, 300, 150, 100, 30), r"no fundus found: the largest bright region has a radius of 3\d px only"),
        (np.tile(np.uint8([200] + 11 * [0])[None, :, None], (120, 10, 3)), "no fundus found: no bright region"),
    ],
    ids=["black", "nearly black", "spot", "thin lines"],
)
def test_an_image_without_a_fundus_is_refused(image, message):
    with pytest.raises(DataError, match=message):
        graham.find_disc(image)


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
        disc = graham.find_disc(image)
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


# -- reduced decoding -------------------------------------------------------------------------------------------------


def test_a_reduced_jpeg_gives_nearly_the_same_image(tmp_path):
    """At most two grey levels from the recipe that decodes the whole file, with the same circle."""
    image = synthetic.photograph(4, 0, 1400).image
    cv2.imwrite(str(tmp_path / "x.jpg"), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
    settings = DataSettings(size=256, preparation="graham", centre="disc")
    reduced, disc = one_photograph.fundus(tmp_path / "x.jpg", 150)
    assert reduced.shape == (350, 350, 3)
    whole = read_image(tmp_path / "x.jpg")
    circle = Disc(4 * disc.x, 4 * disc.y, 4 * disc.radius)
    expect = graham.normalise(whole, 256, 512, circle)
    got = one_photograph.prepared_file(tmp_path / "x.jpg", settings)
    assert np.abs(got.astype(int) - expect)[graham.mask(256)].mean() < 2
    found = graham.find_disc(whole)
    assert (circle.x, circle.y, circle.radius) == pytest.approx((found.x, found.y, found.radius), abs=0.01 * 650)


@pytest.mark.parametrize(("box", "ground"),
                         [((60, 120, 20, 280), 0), ((60, 240, 60, 240), 0), ((80, 200, 100, 270), 60)],
                         ids=["a band", "a square", "a rectangle on grey"])  # fmt: skip
def test_what_is_no_circle_is_said_to_be_none(box, ground):
    image = np.full((300, 300, 3), ground, np.uint8)
    y0, y1, x0, x1 = box
    image[y0:y1, x0:x1] = 180
    assert not graham.shows_disc(image)


def test_real_and_synthetic_discs_are_circles():
    assert all(graham.shows_disc(synthetic.photograph(i, 0, 200).image) for i in range(10))
    for path in sorted((IDRID / "images").glob("*.jpg"))[::20]:  # none without the shared data
        assert graham.shows_disc(read_image(path)), path
