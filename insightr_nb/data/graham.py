"""Ben Graham's normalisation of fundus photographs (Kaggle 2015), as in the paper, section 3, "Dataset".

The photograph is scaled so that the fundus has a radius of 300 px, its local average colour is subtracted, a circular
mask of 270 px radius removes the boundary effects, and the centre is cropped to 512 x 512. At another size S all
radii scale with S / 512 (`recipe_size`). Everything outside the mask is mid-grey, 128.
"""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from insightr_nb.errors import DataError

GROUND = 128  # grey of the mask and of every padding
FUNDUS_RADIUS, MASK_RADIUS, BLUR_SIGMA = 300.0, 270.0, 10.0  # px at the recipe's size; sigma is radius / 30


@dataclass(frozen=True)
class Disc:
    """The fundus in a photograph: centre and radius in pixels of the photograph."""

    x: float
    y: float
    radius: float
    cropped: bool = False  # no edge was found: the photograph is bright into its corners


def find_disc(image: np.ndarray) -> Disc:
    """The circle of the fundus, also where the frame cuts it off, the photograph is dark, or its edge glows.

    image: (H, W, 3) uint8. Takes the largest bright region and fits a circle to those points of its outline that do
    not lie on the frame, then to where brightness falls most steeply near that circle; points that no circle explains
    (a notch, a shadow, a flare, writing) do not count. Where too few agree, it stays at what it has, at first the
    smallest circle that encloses the region. A photograph that is bright into its corners has
    been cropped inside the fundus: then the circle is the one that touches the longer sides.

    Raises DataError when nothing bright enough is there.
    """
    height, width = image.shape[:2]
    if min(height, width) < 16:
        raise DataError(f"no fundus found: an image of {width} x {height} px is too small")
    grey, step = _small_grey(image)
    bright = _brightness(grey)
    rows, columns = grey.shape
    corners = grey[:: rows - 1, :: columns - 1]
    ground = min(float(corners.min()), 0.3 * bright)  # of the frame; not always black
    foreground = (grey > max(8.0, ground + 0.12 * (bright - ground))).astype(np.uint8)
    foreground = cv2.morphologyEx(foreground, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    count, regions, stats, _ = cv2.connectedComponentsWithStats(foreground)
    if count < 2:
        raise DataError("no fundus found: no bright region")
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    outlines, _ = cv2.findContours((regions == largest).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(outlines, key=len)[:, 0].astype(float)  # (n, 2) x, y
    (x, y), radius = cv2.minEnclosingCircle(outline.astype(np.float32))
    inside = ((outline > 2) & (outline < [columns - 3, rows - 3])).all(axis=1)
    if radius > 0.55 * max(rows, columns) and inside.mean() < 0.5:  # bright corners: already cropped
        return Disc(width / 2, height / 2, max(height, width) / 2, cropped=True)
    x, y, radius = _fit_circle(outline[inside], x, y, radius)
    x, y, radius = _fit_circle(_steepest(grey, x, y, radius), x, y, radius)
    coarse = radius < 70 and step > 1
    x, y, radius = (x + 0.5) * step, (y + 0.5) * step, (radius + 0.5) * step
    if radius < 0.2 * min(height, width):
        raise DataError(f"no fundus found: the largest bright region has a radius of {radius:.0f} px only")
    if coarse:  # a small fundus in a wide frame: look again, more closely
        left, top = max(0, int(x - 1.3 * radius)), max(0, int(y - 1.3 * radius))
        closer = find_disc(image[top : int(y + 1.3 * radius) + 1, left : int(x + 1.3 * radius) + 1])
        return Disc(left + closer.x, top + closer.y, closer.radius, closer.cropped)
    return Disc(x, y, radius)


def _brightness(grey: np.ndarray) -> float:
    """How bright the bright parts are. Raises DataError for a photograph that is nearly black."""
    bright = np.percentile(grey, 95)
    if bright < 16:
        raise DataError(f"nearly black image: 95 % of its pixels are at most {bright:.0f} of 255")
    return float(bright)


def _steepest(grey: np.ndarray, x: float, y: float, radius: float) -> np.ndarray:
    """(n, 2) x, y: on 256 rays from the centre, where brightness falls by the largest factor near the circle."""
    angles = np.linspace(0, 2 * np.pi, 256, endpoint=False)[:, None]
    distances = np.arange(0.75 * radius, 1.2 * radius, 0.5)
    columns, rows = (x + distances * np.cos(angles)), (y + distances * np.sin(angles))  # (256, distances)
    ray = cv2.remap(grey, columns.astype(np.float32), rows.astype(np.float32), cv2.INTER_LINEAR)
    fall = np.log(ray[:, :-4] + 8.0) - np.log(ray[:, 4:] + 8.0)
    within = (columns > 2) & (rows > 2) & (columns < grey.shape[1] - 3) & (rows < grey.shape[0] - 3)
    fall[~within[:, 4:]] = 0
    steepest = fall.argmax(axis=1)
    ray = np.flatnonzero(fall.max(axis=1) > 0.15)
    steepest = steepest[ray]
    return np.c_[columns[ray, steepest + 2], rows[ray, steepest + 2]]


def _small_grey(image: np.ndarray) -> tuple[np.ndarray, int]:
    """The brightest channel, smoothed, of every n-th pixel, about 320 along the longer side; and n."""
    step = max(1, round(max(image.shape[:2]) / 320))
    red, green, blue = cv2.split(np.ascontiguousarray(image[::step, ::step]))
    return cv2.blur(cv2.max(cv2.max(red, green), blue), (3, 3)), step


def shows_disc(image: np.ndarray) -> bool:
    """Whether brightness falls along half of the circle that `find_disc` finds, as far as the frame shows it.

    Else it may be no fundus photograph, or one that was cropped inside the fundus. Raises DataError as `find_disc`.
    """
    disc = find_disc(image)
    grey, step = _small_grey(image)
    x, y, radius = disc.x / step - 0.5, disc.y / step - 0.5, disc.radius / step - 0.5
    points = _steepest(grey, x, y, radius)
    near = np.abs(np.hypot(points[:, 0] - x, points[:, 1] - y) - radius) < 0.02 * radius + 1
    angles = np.linspace(0, 2 * np.pi, 256, endpoint=False)
    rows, columns = y + radius * np.sin(angles), x + radius * np.cos(angles)
    seen = (columns > 3) & (rows > 3) & (columns < grey.shape[1] - 4) & (rows < grey.shape[0] - 4)
    return not disc.cropped and near.sum() >= 0.5 * seen.sum()


def _fit_circle(points: np.ndarray, *start: float) -> tuple[float, float, float]:
    """x, y, radius of the circle that most points (n, 2) lie on (RANSAC), if half of them do; else those given."""
    if len(points) < 30:
        return start
    rng = np.random.default_rng(0)
    points = points[:: len(points) // 200 + 1]
    a, b, c = (points[rng.integers(0, len(points), 100)] for _ in range(3))  # 100 circles through three points each
    with np.errstate(divide="ignore", invalid="ignore"):
        d = 2 * (a[:, 0] * (b - c)[:, 1] + b[:, 0] * (c - a)[:, 1] + c[:, 0] * (a - b)[:, 1])
        squares = [(p**2).sum(axis=1) for p in (a, b, c)]
        x = (squares[0] * (b - c)[:, 1] + squares[1] * (c - a)[:, 1] + squares[2] * (a - b)[:, 1]) / d
        y = (squares[0] * (c - b)[:, 0] + squares[1] * (a - c)[:, 0] + squares[2] * (b - a)[:, 0]) / d
    radius = np.hypot(a[:, 0] - x, a[:, 1] - y)
    possible = np.isfinite(radius) & (radius > 0.5 * start[2]) & (radius < 1.6 * start[2])
    if not possible.any():
        return start
    x, y, radius = x[possible], y[possible], radius[possible]
    off = np.abs(np.hypot(points[:, 0] - x[:, None], points[:, 1] - y[:, None]) - radius[:, None])  # (circles, n)
    near = off < 0.015 * radius[:, None] + 0.5
    best = near[near.sum(axis=1).argmax()]
    if best.mean() < 0.5:
        return start
    chosen = points[best]
    solution, *_ = np.linalg.lstsq(np.c_[2 * chosen, np.ones(len(chosen))], (chosen**2).sum(axis=1), rcond=None)
    x, y = solution[:2]
    return float(x), float(y), float(np.sqrt(solution[2] + x**2 + y**2))


def normalise(
    image: np.ndarray, size: int = 512, recipe_size: int = 512, disc: Disc | None = None, shrink: int = cv2.INTER_AREA
) -> np.ndarray:
    """Graham's normalisation: (H, W, 3) uint8 RGB to (size, size, 3) uint8 RGB, 128 outside the mask.

    The result is 4 (image - local average) + 128 inside the mask. Shrinks by area, so that fine detail does not alias
    (or by `shrink`), and blurs only what the crop needs; else it is the published recipe around the disc instead of the
    image's middle. Where the photograph ends inside the mask, it is grey. Raises DataError where no fundus is found.
    """
    disc = disc or find_disc(image)
    sigma = BLUR_SIGMA * size / recipe_size
    margin = int(np.ceil(3 * sigma)) + 1  # as far as OpenCV's kernel reaches
    square, kept = _around(image, disc, size, recipe_size, margin, cv2.BORDER_REFLECT_101, shrink)
    result = cv2.addWeighted(square, 4, _blur(square, sigma), -4, GROUND)
    result = result[margin : margin + size, margin : margin + size]
    return cv2.copyTo(np.ascontiguousarray(result), kept, np.full((size, size, 3), GROUND, np.uint8))


def place(drawn: np.ndarray, disc: Disc, size: int = 512, recipe_size: int = 512) -> np.ndarray:
    """A mask in the pixels of a photograph, (H, W) bool, through the geometry of `normalise`: (size, size) bool.

    True where at least half of a pixel is. disc: of the photograph, in its pixels.
    """
    square, kept = _around(drawn.astype(np.float32), disc, size, recipe_size, 0, cv2.BORDER_CONSTANT)
    return (square >= 0.5) & (kept == 1)


def _around(
    image: np.ndarray, disc: Disc, size: int, recipe_size: int, margin: int, border: int, shrink: int = cv2.INTER_AREA
) -> tuple[np.ndarray, np.ndarray]:
    """The scaled square around the disc, `margin` px larger on each side; and (size, size) uint8, 1 where it counts."""
    scale = FUNDUS_RADIUS * size / recipe_size / disc.radius
    side = size + 2 * margin
    x, y = (round(centre * scale) - size // 2 - margin for centre in (disc.x, disc.y))  # in the scaled photograph
    height, width = (round(length * scale) for length in image.shape[:2])
    (left, left_scaled), (top, top_scaled) = _meet(x, scale), _meet(y, scale)
    needed = image[top : int((y + side) / scale) + 2, left : int((x + side) / scale) + 2]
    small = cv2.resize(needed, (0, 0), fx=scale, fy=scale, interpolation=shrink if scale < 1 else cv2.INTER_CUBIC)
    beyond = max(-y, 0), max(y + side - height, 0), max(-x, 0), max(x + side - width, 0)
    rows, columns = (slice(max(s, 0) - at, min(s + side, n) - at) for s, at, n in
                     ((y, top_scaled, height), (x, left_scaled, width)))  # fmt: skip
    kept = mask(size, recipe_size).astype(np.uint8)
    in_rows, in_columns = np.arange(size) + y + margin, np.arange(size) + x + margin
    kept[(in_rows < 0) | (in_rows >= height)] = 0
    kept[:, (in_columns < 0) | (in_columns >= width)] = 0
    return cv2.copyMakeBorder(small[rows, columns], *beyond, border), kept


def _meet(start: int, scale: float) -> tuple[int, int]:
    """A pixel before `start` of the scaled photograph at which the grids of both meet: (in the photograph, scaled)."""
    last = max(0, int(start / scale))
    pixels = np.arange(max(0, last - 100), last + 1)
    scaled = np.rint(pixels * scale)
    best = np.abs(pixels * scale - scaled).argmin()
    return int(pixels[best]), int(scaled[best])


def _blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of (H, W, 3) uint8; a wide one at a quarter of the size: ten times faster, 0.05 levels off."""
    if sigma < 5:
        return cv2.GaussianBlur(image, (0, 0), sigma)
    height, width = image.shape[:2]
    padded = cv2.copyMakeBorder(image, 0, -height % 4, 0, -width % 4, cv2.BORDER_REFLECT_101)
    small = cv2.resize(padded, None, fx=1 / 4, fy=1 / 4, interpolation=cv2.INTER_AREA).astype(np.float32)
    already = (4**2 - 1) / 12 + 4**2 / 6  # variance that the means and the interpolation add
    small = cv2.GaussianBlur(small, (0, 0), np.sqrt(sigma**2 - already) / 4)
    whole = cv2.resize(small, (padded.shape[1], padded.shape[0]), interpolation=cv2.INTER_LINEAR)
    return cv2.convertScaleAbs(whole[:height, :width])


def published(image: np.ndarray, size: int = 540, recipe_size: int = 540, shrink: int = cv2.INTER_LINEAR) -> np.ndarray:
    """The authors' published script, port for port: centred on the image, its radius read off the middle row.

    (H, W, 3) uint8 RGB to (size, size, 3). Blurs the whole scaled photograph; shrinks with plain bilinear
    interpolation, which aliases (`shrink` gives another). Not repeated: the black padding beside a grey ground, and
    channels in the order of OpenCV. Raises DataError where the middle row is dark.
    """
    radius = FUNDUS_RADIUS * size / recipe_size
    half = published_disc(image).radius
    scaled = cv2.resize(image, (0, 0), fx=radius / half, fy=radius / half, interpolation=shrink)
    blurred = cv2.GaussianBlur(scaled, (0, 0), radius * BLUR_SIGMA / FUNDUS_RADIUS)
    result = cv2.addWeighted(scaled, 4, blurred, -4, GROUND)
    height, width = result.shape[:2]
    inside = np.zeros((height, width), np.uint8)
    cv2.circle(inside, (width // 2, height // 2), int(radius * MASK_RADIUS / FUNDUS_RADIUS), 1, -1, 8, 0)
    result[inside == 0] = GROUND
    for axis in (0, 1):
        length = result.shape[axis]
        if length >= size:
            start = length // 2 - size // 2
            result = result.take(range(start, start + size), axis)
        else:
            widths = [(0, 0)] * 3
            widths[axis] = ((size - length) // 2, size - length - (size - length) // 2)
            result = np.pad(result, widths, constant_values=GROUND)
    return result


def published_disc(image: np.ndarray) -> Disc:
    """What the published script takes for the fundus: centred on the image, its radius read off the middle row."""
    step = max(1, round(max(image.shape[:2]) / 320))
    _brightness(image[::step, ::step].max(axis=2))
    row = image[image.shape[0] // 2].sum(axis=1)
    half = (row > row.mean() / 10).sum() / 2
    if half < 0.1 * min(image.shape[:2]):
        raise DataError(f"no fundus found: {2 * half:.0f} px of the middle row of the photograph are not black")
    return Disc(image.shape[1] / 2, image.shape[0] / 2, half)


@lru_cache
def mask(size: int, recipe_size: int = 512) -> np.ndarray:
    """(size, size) bool: the circle of 270 px (at the recipe's size) around the centre."""
    offsets = np.arange(size) - (size - 1) / 2
    return offsets[:, None] ** 2 + offsets**2 <= (MASK_RADIUS * size / recipe_size) ** 2


def resize(image: np.ndarray, size: int, ground: int = GROUND) -> np.ndarray:
    """For images that are no fundus photographs: the whole image, (H, W, ...), fitted into a square of grey."""
    height, width = image.shape[:2]
    scale = size / max(height, width)
    shape = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(image, shape, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    square = np.full((size, size, *image.shape[2:]), ground, image.dtype)
    top, left = (size - small.shape[0]) // 2, (size - small.shape[1]) // 2
    square[top : top + small.shape[0], left : left + small.shape[1]] = small
    return square
