"""Detection of the fundus in a photograph as a circle, for any even background and for discs cut off by the image."""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from insightr_nb.errors import DataError

_SMALLEST = 16  # px; minimum side of an image
_BRIGHT = 40  # grey levels; a brighter background or border is not black
_ALIKE = 12  # grey levels; maximum difference of two pixels of an even background, allowing for JPEG noise


@dataclass(frozen=True)
class Disc:
    """The fundus in a photograph: centre and radius of its circle in pixels of the photograph."""

    x: float
    y: float
    radius: float
    cropped: bool = False  # no edge was found: the photograph is bright up to its corners
    doubtful: bool = False  # an edge is visible along less than half of the circle
    frame: tuple[int, int, int, int] = (0, 0, 0, 0)  # px of border at the top, bottom, left and right

    def scaled(self, factor: float) -> "Disc":
        """Return the disc in the photograph resized by `factor`."""
        frame = tuple(round(side * factor) for side in self.frame)
        return replace(self, x=self.x * factor, y=self.y * factor, radius=self.radius * factor, frame=frame)

    def without_frame(self, image: np.ndarray) -> tuple[np.ndarray, "Disc"]:
        """Crop the border off the photograph (H, W, ...); return the crop and the disc in its pixels."""
        top, bottom, left, right = self.frame
        image = image[top : len(image) - bottom, left : image.shape[1] - right]
        return image, replace(self, x=self.x - left, y=self.y - top, frame=(0, 0, 0, 0))


def find_disc(image: np.ndarray) -> Disc:
    """Find the circle of the fundus in an (H, W, 3) uint8 photograph.

    The image may cut off the circle, the photograph may be dark, and its edge may glow. An even bright border is
    ignored. The background is assumed to be black; if no clear circle is found, an even background of another colour
    is tried. If neither gives a circle, the result for a black background is returned as `doubtful`: the image may not
    be a fundus photograph, or was cropped inside the fundus.

    Raises DataError if the image is too small, or has no bright region that is large enough.
    """
    height, width = image.shape[:2]
    if min(height, width) < _SMALLEST:
        raise DataError(
            f"no fundus found: an image of {width} x {height} px is too small; both sides need at least {_SMALLEST}"
        )
    frame = _frame(image)
    top, bottom, left, right = frame
    inside = image[top : height - bottom, left : width - right]
    ground = _ground(inside)
    discs, first_error = [], None
    for view in (inside,) if ground is None else (inside, _off(inside, ground)):
        try:
            disc, visible = _circle(view)
        except DataError as error:
            first_error = first_error or error
            continue
        discs.append(replace(disc, x=left + disc.x, y=top + disc.y, frame=frame))
        if not disc.doubtful and visible > 0.3:  # if little of the circle is visible, the next view may be better
            return discs[-1]
    if not discs:
        raise first_error
    return min(discs, key=lambda disc: disc.doubtful)  # ties: the first


def _frame(image: np.ndarray) -> tuple[int, int, int, int]:
    """Width in px of an even bright border, with or without text, at the top, bottom, left and right."""
    top, bottom = _deep(image), _deep(image[::-1])
    columns = image[top : len(image) - bottom].swapaxes(0, 1)
    left, right = _deep(columns), _deep(columns[::-1])
    within = min(len(image) - top - bottom, image.shape[1] - left - right)
    return (top, bottom, left, right) if within >= _SMALLEST else (0, 0, 0, 0)


def _deep(lines: np.ndarray) -> int:
    """Number of leading lines of (n, k, 3) pixels that belong to a border."""
    colour = np.median(lines[0], axis=0)
    if colour.max() <= _BRIGHT or _share(lines[:1], colour) <= 0.6:
        return 0
    share = _share(lines[: len(lines) // 3], colour)
    deep = int((share > 0.6).argmin())
    beyond = deep + max(2, len(lines) // 100)  # include the transition to the photograph
    ends = deep > 0 and beyond < len(share) and share[beyond] < 0.3  # a border ends abruptly, a background gradually
    return beyond if ends else 0


def _share(lines: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Share (n,) of the pixels in each line of (n, k, 3) that have this colour, within `_ALIKE`."""
    return (np.abs(lines.astype(np.int16) - colour.astype(np.int16)).max(axis=2) <= _ALIKE).mean(axis=1)


def _ground(image: np.ndarray) -> np.ndarray | None:
    """Colour (3,) shared by at least two even corners of the image; None if there is none or it is black."""
    height, width = image.shape[:2]
    side = max(3, min(height, width) // 40)
    corners = [
        image[rows, columns].reshape(-1, 3)
        for rows in (slice(side), slice(height - side, None))
        for columns in (slice(side), slice(width - side, None))
    ]
    colours = np.array([np.median(corner, axis=0) for corner in corners])
    even = np.array([np.mean(np.abs(c - m).max(axis=1) <= _ALIKE) > 0.8 for c, m in zip(corners, colours, strict=True)])
    alike = (np.abs(colours[:, None] - colours).max(axis=2) <= _ALIKE) & even & even[:, None]  # (4, 4)
    best = int(alike.sum(axis=1).argmax())
    if alike[best].sum() < 2 or colours[best].max() <= _BRIGHT:
        return None
    return np.median(colours[alike[best]], axis=0)


def _off(image: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """Distance of each pixel from the background colour, (H, W, 3) uint8, with small gaps in the fundus closed."""
    off = cv2.absdiff(image, np.broadcast_to(ground.astype(np.uint8), image.shape))
    off = cv2.max(cv2.max(off[..., 0], off[..., 1]), off[..., 2])
    side = 2 * (max(image.shape[:2]) // 160) + 3
    off = cv2.morphologyEx(off, cv2.MORPH_CLOSE, np.ones((side, side), np.uint8))
    return np.repeat(off[..., None], 3, axis=2)


def _circle(image: np.ndarray) -> tuple[Disc, float]:
    """Find the disc on a black background; also return the visible share of its circle, 0 to 1.

    Starts from the minimum enclosing circle of the largest bright region. Fits a circle to the points of the region's
    outline that are not at the image edge, then to the points of steepest brightness fall near that circle. Outliers
    (a notch, a shadow, a flare, text) are ignored. A fit on which too few points agree is discarded. A photograph that
    is bright up to its corners was cropped inside the fundus; its circle has the longer side as its diameter.
    """
    height, width = image.shape[:2]
    grey, step = _small_grey(image)
    bright = _brightness(grey)
    rows, columns = grey.shape
    corners = grey[:: rows - 1, :: columns - 1]
    ground = min(float(corners.min()), 0.3 * bright)  # background level; not always 0
    foreground = (grey > max(8.0, ground + 0.12 * (bright - ground))).astype(np.uint8)
    foreground = cv2.morphologyEx(foreground, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    count, regions, stats, _ = cv2.connectedComponentsWithStats(foreground)
    if count < 2:
        raise DataError("no fundus found: the image has no bright region")
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    outlines, _ = cv2.findContours((regions == largest).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(outlines, key=len)[:, 0].astype(float)  # (n, 2) x, y
    (x, y), radius = cv2.minEnclosingCircle(outline.astype(np.float32))
    inside = ((outline > 2) & (outline < [columns - 3, rows - 3])).all(axis=1)
    if radius > 0.55 * max(rows, columns) and inside.mean() < 0.5:  # bright corners: cropped inside the fundus
        return Disc(width / 2, height / 2, max(height, width) / 2, cropped=True, doubtful=True), 0.0
    x, y, radius = _fit_circle(outline[inside], x, y, radius)
    x, y, radius = _fit_circle(_steepest(grey, x, y, radius), x, y, radius)
    coarse = radius < 70 and step > 1
    x, y, radius = (x + 0.5) * step, (y + 0.5) * step, (radius + 0.5) * step
    if radius < 0.2 * min(height, width):
        raise DataError(f"no fundus found: the largest bright region has a radius of {radius:.0f} px only")
    if coarse:  # a small fundus in a large image: repeat on a crop at higher resolution
        left, top = max(0, int(x - 1.3 * radius)), max(0, int(y - 1.3 * radius))
        closer, visible = _circle(image[top : int(y + 1.3 * radius) + 1, left : int(x + 1.3 * radius) + 1])
        return replace(closer, x=left + closer.x, y=top + closer.y), visible
    edge, visible = _edge(grey, x / step - 0.5, y / step - 0.5, radius / step - 0.5)
    return Disc(x, y, radius, doubtful=edge < 0.5), visible


def _brightness(grey: np.ndarray) -> float:
    """95th percentile of the grey levels. Raises DataError if the photograph is nearly black."""
    bright = np.percentile(grey, 95)
    if bright < 16:
        raise DataError(f"nearly black image: 95 % of its pixels are at most {bright:.0f} of 255")
    return float(bright)


def _steepest(grey: np.ndarray, x: float, y: float, radius: float) -> np.ndarray:
    """Points (n, 2) x, y of the largest relative brightness fall near the circle, on 256 rays from its centre."""
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
    """Maximum of the channels of every n-th pixel, smoothed, with about 320 px on the longer side; and n."""
    step = max(1, round(max(image.shape[:2]) / 320))
    red, green, blue = cv2.split(np.ascontiguousarray(image[::step, ::step]))
    return cv2.blur(cv2.max(cv2.max(red, green), blue), (3, 3)), step


def _edge(grey: np.ndarray, x: float, y: float, radius: float) -> tuple[float, float]:
    """Share of the visible circle along which brightness falls, and the visible share of the circle; both 0 to 1."""
    points = _steepest(grey, x, y, radius)
    near = np.abs(np.hypot(points[:, 0] - x, points[:, 1] - y) - radius) < 0.02 * radius + 1
    angles = np.linspace(0, 2 * np.pi, 256, endpoint=False)
    rows, columns = y + radius * np.sin(angles), x + radius * np.cos(angles)
    visible = (columns > 3) & (rows > 3) & (columns < grey.shape[1] - 4) & (rows < grey.shape[0] - 4)
    return float(near.sum() / max(1, visible.sum())), float(visible.mean())


def _fit_circle(points: np.ndarray, *start: float) -> tuple[float, float, float]:
    """Fit a circle to points (n, 2) by RANSAC and least squares.

    Returns x, y and radius, or `start` if there are too few points or less than half of them lie on the circle.
    """
    if len(points) < 30:
        return start
    rng = np.random.default_rng(0)
    points = points[:: len(points) // 200 + 1]
    a, b, c = (points[rng.integers(0, len(points), 100)] for _ in range(3))  # 100 candidate circles
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


def published_disc(image: np.ndarray) -> Disc:
    """Fundus as in the published script: centred on the image, with the radius measured on the middle row.

    Raises DataError if the image is nearly black or its middle row is dark.
    """
    step = max(1, round(max(image.shape[:2]) / 320))
    _brightness(image[::step, ::step].max(axis=2))
    row = image[image.shape[0] // 2].sum(axis=1)
    half = (row > row.mean() / 10).sum() / 2
    if half < 0.1 * min(image.shape[:2]):
        raise DataError(f"no fundus found: {2 * half:.0f} px of the middle row of the photograph are not black")
    return Disc(image.shape[1] / 2, image.shape[0] / 2, half)
