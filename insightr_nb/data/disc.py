"""Where the fundus is in a photograph: a circle, whatever the ground around it and however the frame cuts it off."""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from insightr_nb.errors import DataError

_SMALLEST = 16  # px a side
_BRIGHT = 40  # grey levels: a ground or a frame that is brighter is no black one
_ALIKE = 12  # grey levels between two pixels of one even ground, as a JPEG leaves it


@dataclass(frozen=True)
class Disc:
    """The fundus in a photograph: centre and radius in pixels of the photograph."""

    x: float
    y: float
    radius: float
    cropped: bool = False  # no edge was found: the photograph is bright into its corners
    doubtful: bool = False  # the photograph shows an edge along less than half of the circle
    frame: tuple[int, int, int, int] = (0, 0, 0, 0)  # px at the top, bottom, left, right that are no photograph

    def scaled(self, factor: float) -> "Disc":
        """The same disc in the photograph at another size."""
        frame = tuple(round(side * factor) for side in self.frame)
        return replace(self, x=self.x * factor, y=self.y * factor, radius=self.radius * factor, frame=frame)

    def without_frame(self, image: np.ndarray) -> tuple[np.ndarray, "Disc"]:
        """The photograph (H, W, ...) inside its frame, and the disc in that."""
        top, bottom, left, right = self.frame
        image = image[top : len(image) - bottom, left : image.shape[1] - right]
        return image, replace(self, x=self.x - left, y=self.y - top, frame=(0, 0, 0, 0))


def find_disc(image: np.ndarray) -> Disc:
    """The circle of the fundus, also where the frame cuts it off, the photograph is dark, or its edge glows.

    image: (H, W, 3) uint8. An even bright frame is left away. The ground is black; where no circle can be seen on it,
    an even ground of another colour is tried. Where neither shows a circle, that of the black ground is given, as
    `doubtful`: it may be no fundus photograph, or one that was cropped inside the fundus.

    Raises DataError when nothing bright enough is there.
    """
    height, width = image.shape[:2]
    if min(height, width) < _SMALLEST:
        raise DataError(f"no fundus found: an image of {width} x {height} px is too small")
    frame = _frame(image)
    top, bottom, left, right = frame
    inside = image[top : height - bottom, left : width - right]
    ground = _ground(inside)
    found, why = [], None
    for view in (inside,) if ground is None else (inside, _off(inside, ground)):
        try:
            disc, shown = _circle(view)
        except DataError as error:
            why = why or error
            continue
        found.append(replace(disc, x=left + disc.x, y=top + disc.y, frame=frame))
        if not disc.doubtful and shown > 0.3:  # of a circle that can hardly be seen, the next view may know better
            return found[-1]
    if not found:
        raise why
    return min(found, key=lambda disc: disc.doubtful)  # the first of equals


def _frame(image: np.ndarray) -> tuple[int, int, int, int]:
    """How deep an even bright frame is, with writing in it or not, at the top, bottom, left and right."""
    top, bottom = _deep(image), _deep(image[::-1])
    columns = image[top : len(image) - bottom].swapaxes(0, 1)
    left, right = _deep(columns), _deep(columns[::-1])
    within = min(len(image) - top - bottom, image.shape[1] - left - right)
    return (top, bottom, left, right) if within >= _SMALLEST else (0, 0, 0, 0)


def _deep(lines: np.ndarray) -> int:
    """Of (n, k, 3) pixels, how many of the first lines are a frame."""
    colour = np.median(lines[0], axis=0)
    if colour.max() <= _BRIGHT or _share(lines[:1], colour) <= 0.6:
        return 0
    share = _share(lines[: len(lines) // 3], colour)
    deep = int((share > 0.6).argmin())
    beyond = deep + max(2, len(lines) // 100)  # what blends into it goes as well
    ends = deep > 0 and beyond < len(share) and share[beyond] < 0.3  # at once: a ground ends bit by bit
    return beyond if ends else 0


def _share(lines: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Of (n, k, 3) pixels the share (n,) in every line that has about this colour."""
    return (np.abs(lines.astype(np.int16) - colour.astype(np.int16)).max(axis=2) <= _ALIKE).mean(axis=1)


def _ground(image: np.ndarray) -> np.ndarray | None:
    """The colour (3,) that two or more corners share, each of them even, if it is no black; else None."""
    height, width = image.shape[:2]
    side = max(3, min(height, width) // 40)
    corners = [image[rows, columns].reshape(-1, 3)
               for rows in (slice(side), slice(height - side, None))
               for columns in (slice(side), slice(width - side, None))]  # fmt: skip
    colours = np.array([np.median(corner, axis=0) for corner in corners])
    even = np.array([np.mean(np.abs(c - m).max(axis=1) <= _ALIKE) > 0.8 for c, m in zip(corners, colours, strict=True)])
    alike = (np.abs(colours[:, None] - colours).max(axis=2) <= _ALIKE) & even & even[:, None]  # (4, 4)
    best = int(alike.sum(axis=1).argmax())
    if alike[best].sum() < 2 or colours[best].max() <= _BRIGHT:
        return None
    return np.median(colours[alike[best]], axis=0)


def _off(image: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """How far every pixel is from the colour of the ground, (H, W, 3) uint8, small gaps in the fundus closed."""
    off = cv2.absdiff(image, np.broadcast_to(ground.astype(np.uint8), image.shape))
    off = cv2.max(cv2.max(off[..., 0], off[..., 1]), off[..., 2])
    side = 2 * (max(image.shape[:2]) // 160) + 3
    off = cv2.morphologyEx(off, cv2.MORPH_CLOSE, np.ones((side, side), np.uint8))
    return np.repeat(off[..., None], 3, axis=2)


def _circle(image: np.ndarray) -> tuple[Disc, float]:
    """The disc on a black ground, and how much of its circle the photograph shows, 0 to 1.

    Takes the largest bright region and fits a circle to those points of its outline that do not lie on the frame, then
    to where brightness falls most steeply near that circle; points that no circle explains (a notch, a shadow, a
    flare, writing) do not count. Where too few agree, it stays at what it has, at first the smallest circle that
    encloses the region. A photograph that is bright into its corners has been cropped inside the fundus: then the
    circle is the one that touches the longer sides.
    """
    height, width = image.shape[:2]
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
        return Disc(width / 2, height / 2, max(height, width) / 2, cropped=True, doubtful=True), 0.0
    x, y, radius = _fit_circle(outline[inside], x, y, radius)
    x, y, radius = _fit_circle(_steepest(grey, x, y, radius), x, y, radius)
    coarse = radius < 70 and step > 1
    x, y, radius = (x + 0.5) * step, (y + 0.5) * step, (radius + 0.5) * step
    if radius < 0.2 * min(height, width):
        raise DataError(f"no fundus found: the largest bright region has a radius of {radius:.0f} px only")
    if coarse:  # a small fundus in a wide frame: look again, more closely
        left, top = max(0, int(x - 1.3 * radius)), max(0, int(y - 1.3 * radius))
        closer, shown = _circle(image[top : int(y + 1.3 * radius) + 1, left : int(x + 1.3 * radius) + 1])
        return replace(closer, x=left + closer.x, y=top + closer.y), shown
    edge, shown = _edge(grey, x / step - 0.5, y / step - 0.5, radius / step - 0.5)
    return Disc(x, y, radius, doubtful=edge < 0.5), shown


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


def _edge(grey: np.ndarray, x: float, y: float, radius: float) -> tuple[float, float]:
    """Along how much of what the photograph shows of a circle brightness falls, and how much that is; both 0 to 1."""
    points = _steepest(grey, x, y, radius)
    near = np.abs(np.hypot(points[:, 0] - x, points[:, 1] - y) - radius) < 0.02 * radius + 1
    angles = np.linspace(0, 2 * np.pi, 256, endpoint=False)
    rows, columns = y + radius * np.sin(angles), x + radius * np.cos(angles)
    shown = (columns > 3) & (rows > 3) & (columns < grey.shape[1] - 4) & (rows < grey.shape[0] - 4)
    return float(near.sum() / max(1, shown.sum())), float(shown.mean())


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


def published_disc(image: np.ndarray) -> Disc:
    """What the published script takes for the fundus: centred on the image, its radius read off the middle row."""
    step = max(1, round(max(image.shape[:2]) / 320))
    _brightness(image[::step, ::step].max(axis=2))
    row = image[image.shape[0] // 2].sum(axis=1)
    half = (row > row.mean() / 10).sum() / 2
    if half < 0.1 * min(image.shape[:2]):
        raise DataError(f"no fundus found: {2 * half:.0f} px of the middle row of the photograph are not black")
    return Disc(image.shape[1] / 2, image.shape[0] / 2, half)
