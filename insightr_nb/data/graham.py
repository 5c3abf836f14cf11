"""Ben Graham's normalisation of fundus photographs (Kaggle 2015), as in the paper, section 3, "Dataset".

The photograph is scaled so that the fundus has a radius of 300 px, its local average colour is subtracted, a circular
mask of 270 px radius removes the boundary effects, and the centre is cropped to 512 x 512. At another size S all
radii scale with S / 512 (`recipe_size`). Everything outside the mask is mid-grey, 128.
"""

from dataclasses import dataclass

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


def find_disc(image: np.ndarray) -> Disc:
    """The circle around the fundus, also where its top and bottom are cut off by the frame.

    image: (H, W, 3) uint8. The smallest circle that encloses the largest bright region; its left and right ends lie
    on the fundus' edge even when the frame cuts the rest. A photograph that is bright into its corners has been
    cropped inside the fundus: then the circle is the one that touches the longer sides.

    Raises DataError when nothing bright enough is there.
    """
    height, width = image.shape[:2]
    step = max(1, max(height, width) // 512)
    grey = cv2.blur(image[::step, ::step].max(axis=2), (3, 3))
    bright = np.percentile(grey, 95)
    if bright < 16:
        raise DataError(f"nearly black image: 95 % of its pixels are at most {bright:.0f} of 255")
    foreground = (grey > max(8.0, 0.12 * bright)).astype(np.uint8)
    foreground = cv2.morphologyEx(foreground, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    count, regions, stats, _ = cv2.connectedComponentsWithStats(foreground)
    if count < 2:
        raise DataError("no fundus found: no bright region")
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    outline = cv2.findNonZero((regions == largest).astype(np.uint8))
    (x, y), radius = cv2.minEnclosingCircle(cv2.convexHull(outline))
    x, y, radius = (x + 0.5) * step, (y + 0.5) * step, (radius + 0.5) * step
    if radius < 0.2 * min(height, width):
        raise DataError(f"no fundus found: the largest bright region has a radius of {radius:.0f} px only")
    if radius > 0.55 * max(height, width):  # bright corners: already cropped
        x, y, radius = width / 2, height / 2, max(height, width) / 2
    return Disc(x, y, radius)


def scale_to(image: np.ndarray, disc: Disc, size: int, recipe_size: int = 512, margin: int = 0):
    """The square of `size` + 2 `margin` pixels around the disc, the fundus scaled to 300 * size / recipe_size pixels.

    Returns the square (uint8, RGB as given, mirrored where the photograph ends) and a bool mask of the pixels that the
    photograph covers. Crops before it resamples; shrinks by area so that fine detail does not alias.
    """
    scale = FUNDUS_RADIUS * size / recipe_size / disc.radius
    half = (size / 2 + margin) / scale
    x0, x1 = round(disc.x - half), round(disc.x + half)
    y0, y1 = round(disc.y - half), round(disc.y + half)
    height, width = image.shape[:2]
    inside = image[max(y0, 0) : min(y1, height), max(x0, 0) : min(x1, width)]
    border = (max(-y0, 0), max(y1 - height, 0), max(-x0, 0), max(x1 - width, 0))
    covered = cv2.copyMakeBorder(np.ones(inside.shape[:2], np.uint8), *border, cv2.BORDER_CONSTANT, value=0)
    square = cv2.copyMakeBorder(inside, *border, cv2.BORDER_REFLECT_101)
    side = size + 2 * margin
    square = cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    covered = cv2.resize(covered, (side, side), interpolation=cv2.INTER_NEAREST)
    return square, covered.astype(bool)


def normalise(image: np.ndarray, size: int = 512, recipe_size: int = 512, disc: Disc | None = None) -> np.ndarray:
    """Graham's normalisation: (H, W, 3) uint8 RGB to (size, size, 3) uint8 RGB, 128 outside the mask.

    The result is 4 (image - local average) + 128 inside the mask. Raises DataError where no fundus is found.
    """
    disc = disc or find_disc(image)
    sigma = BLUR_SIGMA * size / recipe_size
    margin = int(np.ceil(4 * sigma))  # what the blur looks at beyond the crop
    square, covered = scale_to(image, disc, size, recipe_size, margin)
    result = cv2.addWeighted(square, 4, cv2.GaussianBlur(square, (0, 0), sigma), -4, GROUND)
    result, covered = (array[margin : margin + size, margin : margin + size] for array in (result, covered))
    return np.where((mask(size, recipe_size) & covered)[..., None], result, np.uint8(GROUND))


def mask(size: int, recipe_size: int = 512) -> np.ndarray:
    """(size, size) bool: the circle of 270 px (at the recipe's size) around the centre."""
    offsets = np.arange(size) - (size - 1) / 2
    return offsets[:, None] ** 2 + offsets**2 <= (MASK_RADIUS * size / recipe_size) ** 2


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """For images that are no fundus photographs: the whole image fitted into a grey square, (size, size, 3) uint8."""
    height, width = image.shape[:2]
    scale = size / max(height, width)
    shape = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(image, shape, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    square = np.full((size, size, 3), GROUND, np.uint8)
    top, left = (size - small.shape[0]) // 2, (size - small.shape[1]) // 2
    square[top : top + small.shape[0], left : left + small.shape[1]] = small
    return square
