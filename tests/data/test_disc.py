"""Detection of the fundus: on any background, in frames, in bad light, and when it is doubtful."""

import cv2
import numpy as np
import pytest
from data.drawn import fundus, textured

from insightr_nb.data import graham, synthetic
from insightr_nb.data.disc import Disc, find_disc
from insightr_nb.data.images import read_image
from insightr_nb.errors import DataError


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
    found = find_disc(fundus(height, width, x, y, radius))
    assert (found.x, found.y) == pytest.approx((x, y), abs=0.02 * radius)
    assert found.radius == pytest.approx(radius, rel=0.03)


def test_writing_in_a_corner_does_not_move_the_disc():
    image = fundus(200, 300, 150, 100, 90)
    image[5:15, 5:35] = 255
    found = find_disc(image)
    assert (found.x, found.y, found.radius) == pytest.approx((150, 100, 90), abs=3)


def test_a_photograph_cropped_inside_the_fundus_touches_the_circle_with_its_longer_sides():
    assert find_disc(textured(200, 300)) == Disc(150, 100, 150, cropped=True, doubtful=True)
    assert find_disc(textured(300, 200)) == Disc(100, 150, 150, cropped=True, doubtful=True)


def photograph(side: int = 300) -> tuple[np.ndarray, Disc]:
    """A synthetic photograph on a wider black frame, and where its disc is."""
    image = cv2.copyMakeBorder(synthetic.photograph(3, 0, side).image, 0, 0, 80, 40, cv2.BORDER_CONSTANT)
    return image, find_disc(image)


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
    found = find_disc(change(image, disc))
    assert (found.x, found.y, found.radius) == pytest.approx((disc.x, disc.y, disc.radius), abs=0.02 * disc.radius)


@pytest.mark.parametrize(
    "frame",
    [(0, 300, 0, 420), (40, 260, 0, 420), (0, 220, 0, 420), (0, 300, 110, 420), (0, 300, 0, 350), (0, 300, 80, 380)],
    ids=["whole", "top and bottom", "bottom", "left", "right", "tight"],
)
def test_the_disc_is_found_where_the_frame_cuts_it(frame):
    image, disc = photograph()
    top, bottom, left, right = frame
    found = find_disc(image[top:bottom, left:right])
    assert (found.x + left, found.y + top, found.radius) == pytest.approx(
        (disc.x, disc.y, disc.radius), abs=0.02 * disc.radius
    )


@pytest.mark.parametrize("width", [0, 30, 300])
def test_black_frames_of_any_width(width):
    image, disc = photograph()
    found = find_disc(cv2.copyMakeBorder(image, width, 0, 2 * width, width, cv2.BORDER_CONSTANT))
    assert (found.x, found.y, found.radius) == pytest.approx(
        (disc.x + 2 * width, disc.y + width, disc.radius), abs=0.02 * disc.radius
    )


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((100, 100, 3), np.uint8), "nearly black image: 95 % of its pixels are at most 0 of 255"),
        (np.full((100, 100, 3), 9, np.uint8), "nearly black image: 95 % of its pixels are at most 9 of 255"),
        (fundus(200, 300, 150, 100, 30), r"no fundus found: the largest bright region has a radius of 3\d px only"),
        (
            np.tile(np.uint8([200] + 11 * [0])[None, :, None], (120, 10, 3)),
            "no fundus found: the image has no bright region",
        ),
    ],
    ids=["black", "nearly black", "spot", "thin lines"],
)
def test_an_image_without_a_fundus_is_refused(image, message):
    with pytest.raises(DataError, match=message):
        find_disc(image)


@pytest.mark.parametrize(
    ("box", "ground"),
    [((60, 120, 20, 280), 0), ((60, 240, 60, 240), 0), ((80, 200, 100, 270), 60)],
    ids=["a band", "a square", "a rectangle on grey"],
)
def test_bright_rectangles_are_doubtful_discs(box, ground):
    image = np.full((300, 300, 3), ground, np.uint8)
    y0, y1, x0, x1 = box
    image[y0:y1, x0:x1] = 180
    assert find_disc(image).doubtful


def test_synthetic_discs_are_circles():
    assert not any(find_disc(synthetic.photograph(i, 0, 200).image).doubtful for i in range(10))


def test_real_discs_are_circles(idrid):
    for path in sorted((idrid / "images").glob("*.jpg"))[::20]:
        assert not find_disc(read_image(path)).doubtful, path


# -- grounds and frames -----------------------------------------------------------------------------------------------

WHITE = (255, 255, 255)


def on_ground(image: np.ndarray, disc: Disc, colour) -> np.ndarray:
    """The fundus cut out along its circle, on an even ground."""
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    image = image.copy()
    image[np.hypot(columns - disc.x, rows - disc.y) > 0.99 * disc.radius] = colour
    return image


def framed(image: np.ndarray, width: int, colour=WHITE) -> np.ndarray:
    return cv2.copyMakeBorder(image, width, width, width, width, cv2.BORDER_CONSTANT, value=colour)


def as_jpeg(image: np.ndarray, quality: int = 85) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def written_on(image: np.ndarray) -> np.ndarray:
    ink = (0, 0, 0) if image[2, 2].max() > 100 else WHITE
    for place in ((1, 9), (4, image.shape[0] - 2)):  # into two corners
        cv2.putText(image, "OD 2019", place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, ink, 2)
    return image


def captioned(image: np.ndarray) -> np.ndarray:
    image = cv2.copyMakeBorder(image, 0, 40, 0, 0, cv2.BORDER_CONSTANT, value=WHITE)
    text = "Patient 0012, right eye"
    return cv2.putText(image, text, (10, image.shape[0] - 14), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1)


GROUNDS = {
    "white": lambda i, d: on_ground(i, d, WHITE),
    "grey 200": lambda i, d: on_ground(i, d, (200, 200, 200)),
    "grey 128": lambda i, d: on_ground(i, d, (128, 128, 128)),
    "grey 70": lambda i, d: on_ground(i, d, (70, 70, 70)),
    "blue, as JPEG": lambda i, d: as_jpeg(on_ground(i, d, (40, 60, 200))),
    "white with writing, as JPEG": lambda i, d: as_jpeg(written_on(on_ground(i, d, WHITE))),
    "black with writing": lambda i, d: written_on(i.copy()),
    "a caption below": lambda i, d: captioned(i),
    "already normalised": lambda i, d: on_ground(graham.normalise(i, 300, 300, d), Disc(150, 150, 158 / 0.99), 128),
}
FRAMES = {
    "3 px white": (lambda i: framed(i, 3), 3),
    "6 px white, as JPEG": (lambda i: as_jpeg(framed(i, 6)), 6),
    "6 px grey": (lambda i: framed(i, 6, (128, 128, 128)), 6),
    "60 px white": (lambda i: framed(i, 60), 60),
}


@pytest.mark.parametrize("change", GROUNDS.values(), ids=GROUNDS)
def test_disc_is_found_on_any_background(change):
    image, disc = photograph()
    found = find_disc(change(image, disc))
    expect = Disc(150, 150, 158) if change is GROUNDS["already normalised"] else disc
    assert (found.x, found.y, found.radius) == pytest.approx(
        (expect.x, expect.y, expect.radius), abs=0.03 * disc.radius
    )
    assert not found.doubtful
    if change is not GROUNDS["a caption below"]:
        assert found.frame == (0, 0, 0, 0)  # a bright ground is none


def test_narrow_band_of_a_disc_is_not_doubtful():
    image, disc = photograph()
    band = image[round(disc.y - 0.2 * disc.radius) : round(disc.y + 0.2 * disc.radius)]
    found = find_disc(band)
    assert (found.x, found.radius) == pytest.approx((disc.x, disc.radius), abs=0.03 * disc.radius)
    assert not found.doubtful


@pytest.mark.parametrize("ground", [0, 190], ids=["on black", "on grey"])
@pytest.mark.parametrize(("change", "width"), FRAMES.values(), ids=FRAMES)
def test_frames_are_removed(change, width, ground):
    """Also where the fundus reaches it, above and below."""
    image, disc = photograph()
    image = on_ground(image, disc, ground)[40:260]
    found = find_disc(change(image))
    assert (found.x, found.y + 40, found.radius) == pytest.approx(
        (disc.x + width, disc.y + width, disc.radius), abs=0.03 * disc.radius
    )
    assert not found.doubtful
    assert all(width <= side <= width + 5 for side in found.frame)
    saturated = [(graham.normalise(i, 256).min(axis=2) > 250).mean() for i in (image, change(image))]
    assert saturated[1] <= saturated[0] + 0.003  # a white line beside the fundus would be drawn out


def test_the_frame_scales_with_the_disc():
    disc = Disc(100, 80, 60, frame=(6, 6, 3, 4)).scaled(2)
    assert disc == Disc(200, 160, 120, frame=(12, 12, 6, 8))
    image, inside = disc.without_frame(np.zeros((400, 500, 3)))
    assert image.shape == (376, 486, 3)
    assert inside == Disc(194, 148, 120)


@pytest.mark.parametrize("under", [0, 120, 255])
def test_a_transparent_ground_is_black(tmp_path, under):
    image, disc = photograph()
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    alpha = np.where(np.hypot(columns - disc.x, rows - disc.y) > disc.radius, 0, 255).astype(np.uint8)
    image[alpha == 0] = under
    cv2.imwrite(str(tmp_path / "x.png"), np.dstack([image[..., ::-1], alpha]))
    read = read_image(tmp_path / "x.png")
    assert (read[alpha == 0] == 0).all()
    assert np.array_equal(read[alpha == 255], image[alpha == 255])
    found = find_disc(read)
    assert (found.x, found.y, found.radius) == pytest.approx((disc.x, disc.y, disc.radius), abs=0.02 * disc.radius)
    assert not found.doubtful


def test_fully_transparent_file_keeps_its_colours(tmp_path):
    image, _ = photograph()
    cv2.imwrite(str(tmp_path / "x.png"), np.dstack([image[..., ::-1], np.zeros(image.shape[:2], np.uint8)]))
    assert np.array_equal(read_image(tmp_path / "x.png"), image)


def test_photograph_without_a_circle_is_doubtful():
    for image in (textured(200, 300), np.full((200, 300, 3), 180, np.uint8)):
        assert find_disc(image).doubtful


@pytest.mark.parametrize("change", ["white", "grey 128", "grey 200"])
def test_real_photographs_on_another_ground_or_in_a_frame(idrid, change):
    for path in sorted((idrid / "images").glob("*.jpg"))[::40]:
        image = read_image(path)
        disc = find_disc(image)
        for changed, off in ((GROUNDS[change](image, disc), 0), (framed(image, 3), 3), (framed(image, 6), 6)):
            found = find_disc(changed)
            assert (found.x - off, found.y - off, found.radius) == pytest.approx(
                (disc.x, disc.y, disc.radius), abs=0.03 * disc.radius
            ), path.name
            assert not found.doubtful, path.name
