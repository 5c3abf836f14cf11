"""Ben Graham's normalisation of fundus photographs (Kaggle 2015), as in the paper, section 3, "Dataset".

The photograph is scaled to a fundus radius of 300 px, its local average colour is subtracted, a circular mask of
270 px radius removes boundary effects, and the centre is cropped to 512 x 512. At another size S, all radii scale
with S / 512 (`recipe_size`). Everything outside the mask is mid-grey, 128.
"""

from functools import lru_cache

import cv2
import numpy as np

from insightr_nb.data.disc import Disc, find_disc, published_disc

GROUND = 128  # grey level outside the mask and of all padding
FUNDUS_RADIUS, MASK_RADIUS, BLUR_SIGMA = 300.0, 270.0, 10.0  # px at the recipe size; sigma = radius / 30
_SLOW = 2 * BLUR_SIGMA  # px; a blur with more is made at a quarter of the size also in `published`


def normalise(
    image: np.ndarray, size: int = 512, recipe_size: int = 512, disc: Disc | None = None, shrink: int = cv2.INTER_AREA
) -> np.ndarray:
    """Apply Graham's normalisation: 4 (image - local average) + 128 inside the mask, 128 outside.

    Differs from the published recipe in three ways: it is centred on the disc instead of the image, shrinks by area
    to avoid aliasing, and blurs only the region that the crop needs. Parts of the mask beyond the photograph are grey.

    Args:
        image: Photograph, (H, W, 3) uint8 RGB.
        size: Side of the result in pixels.
        recipe_size: Size at which the radii apply, 512 or 540.
        disc: Disc of the fundus; found in the image if None.
        shrink: OpenCV interpolation for shrinking.

    Returns:
        (size, size, 3) uint8 RGB.

    Raises:
        DataError: If no fundus is found.
    """
    image, disc = (disc or find_disc(image)).without_frame(image)
    sigma, margin = _reach(size, recipe_size)
    square, kept = _around(image, disc, size, recipe_size, margin, cv2.BORDER_REFLECT_101, shrink)
    result = cv2.addWeighted(square, 4, _blur(square, sigma), -4, GROUND)
    result = result[margin : margin + size, margin : margin + size]
    return cv2.copyTo(np.ascontiguousarray(result), kept, np.full((size, size, 3), GROUND, np.uint8))


def cropped(
    image: np.ndarray, size: int = 512, recipe_size: int = 512, disc: Disc | None = None, shrink: int = cv2.INTER_AREA
) -> np.ndarray:
    """Crop and scale a photograph exactly as `normalise` does, but keep its colours, also outside the circular mask.

    Arguments and errors are those of `normalise`. Returns (size, size, 3) uint8 RGB, mid-grey beyond the photograph
    and in place of an even bright border.
    """
    image, disc = (disc or find_disc(image)).without_frame(image)
    margin = _reach(size, recipe_size)[1]  # as in `normalise`, so that the pixels are resampled at the same points
    square, _ = _around(image, disc, size, recipe_size, margin, cv2.BORDER_CONSTANT, shrink, GROUND)
    return np.ascontiguousarray(square[margin : margin + size, margin : margin + size])


def place(drawn: np.ndarray, disc: Disc, size: int = 512, recipe_size: int = 512) -> np.ndarray:
    """Transform a mask from the pixels of a photograph to those of the image that `normalise` makes of it.

    Args:
        drawn: Mask, (H, W) bool.
        disc: Disc of the photograph, in its pixels.
        size: Side of the result in pixels.
        recipe_size: Size at which the radii apply.

    Returns:
        (size, size) bool, True where the mask covers at least half of a pixel.
    """
    drawn, disc = disc.without_frame(drawn)
    square, kept = _around(drawn.astype(np.float32), disc, size, recipe_size, 0, cv2.BORDER_CONSTANT)
    return (square >= 0.5) & (kept == 1)


def _reach(size: int, recipe_size: int) -> tuple[float, int]:
    """Sigma of the blur, and the margin in px that it needs around the image."""
    sigma = BLUR_SIGMA * size / recipe_size
    return sigma, int(np.ceil(3 * sigma)) + 1  # radius of OpenCV's kernel


def _around(
    image: np.ndarray,
    disc: Disc,
    size: int,
    recipe_size: int,
    margin: int,
    border: int,
    shrink: int = cv2.INTER_AREA,
    ground: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Scaled square around the disc, `margin` px larger on each side, and its valid area, (size, size) uint8 0 or 1.

    Beyond the photograph, the square has OpenCV's `border`, of grey level `ground` if that is constant.
    """
    scale = FUNDUS_RADIUS * size / recipe_size / disc.radius
    side = size + 2 * margin
    x, y = (round(centre * scale) - size // 2 - margin for centre in (disc.x, disc.y))  # in the scaled photograph
    height, width = (round(length * scale) for length in image.shape[:2])
    (left, left_scaled), (top, top_scaled) = _meet(x, scale), _meet(y, scale)
    needed = image[top : int((y + side) / scale) + 2, left : int((x + side) / scale) + 2]
    small = cv2.resize(needed, (0, 0), fx=scale, fy=scale, interpolation=shrink if scale < 1 else cv2.INTER_CUBIC)
    beyond = max(-y, 0), max(y + side - height, 0), max(-x, 0), max(x + side - width, 0)
    rows, columns = (
        slice(max(s, 0) - at, min(s + side, n) - at) for s, at, n in ((y, top_scaled, height), (x, left_scaled, width))
    )
    kept = mask(size, recipe_size).astype(np.uint8)
    in_rows, in_columns = np.arange(size) + y + margin, np.arange(size) + x + margin
    kept[(in_rows < 0) | (in_rows >= height)] = 0
    kept[:, (in_columns < 0) | (in_columns >= width)] = 0
    return cv2.copyMakeBorder(small[rows, columns], *beyond, border, value=(ground,) * 3), kept


def _meet(start: int, scale: float) -> tuple[int, int]:
    """Find a pixel at or before `start` where the grids of photograph and scaled photograph coincide.

    Returns its position in the photograph and in the scaled photograph.
    """
    last = max(0, int(start / scale))
    pixels = np.arange(max(0, last - 100), last + 1)
    scaled = np.rint(pixels * scale)
    best = np.abs(pixels * scale - scaled).argmin()
    return int(pixels[best]), int(scaled[best])


def _blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of (H, W, 3) uint8.

    For sigma of 5 or more, blurs at a quarter of the size: ten times faster, with an error of 0.05 grey levels.
    """
    if sigma < 5:
        return cv2.GaussianBlur(image, (0, 0), sigma)
    height, width = image.shape[:2]
    padded = cv2.copyMakeBorder(image, 0, -height % 4, 0, -width % 4, cv2.BORDER_REFLECT_101)
    small = cv2.resize(padded, None, fx=1 / 4, fy=1 / 4, interpolation=cv2.INTER_AREA).astype(np.float32)
    already = (4**2 - 1) / 12 + 4**2 / 6  # variance added by area averaging and interpolation
    small = cv2.GaussianBlur(small, (0, 0), np.sqrt(sigma**2 - already) / 4)
    blurred = cv2.resize(small, (padded.shape[1], padded.shape[0]), interpolation=cv2.INTER_LINEAR)
    return cv2.convertScaleAbs(blurred[:height, :width])


def published(image: np.ndarray, size: int = 540, recipe_size: int = 540, shrink: int = cv2.INTER_LINEAR) -> np.ndarray:
    """Apply the authors' published script line by line: centred on the image, radius measured on the middle row.

    Blurs the whole scaled photograph and shrinks with plain bilinear interpolation, which aliases. Three details are
    not reproduced: padding is grey instead of black, channels are RGB instead of OpenCV's BGR, and above twice the size
    of the recipe, where it would take seconds, the blur is made at a quarter of the size (`_blur`).

    Args:
        image: Photograph, (H, W, 3) uint8 RGB.
        size: Side of the result in pixels.
        recipe_size: Size at which the radii apply.
        shrink: OpenCV interpolation for resizing.

    Returns:
        (size, size, 3) uint8 RGB.

    Raises:
        DataError: If the image is nearly black or its middle row is dark.
    """
    scaled = _published_scale(image, published_disc(image), size, recipe_size, shrink)
    sigma = BLUR_SIGMA * size / recipe_size
    blurred = cv2.GaussianBlur(scaled, (0, 0), sigma) if sigma <= _SLOW else _blur(scaled, sigma)
    result = cv2.addWeighted(scaled, 4, blurred, -4, GROUND)
    result[_published_mask(*result.shape[:2], size, recipe_size) == 0] = GROUND
    return _middle(result, size, GROUND)


def published_cropped(
    image: np.ndarray, size: int = 540, recipe_size: int = 540, shrink: int = cv2.INTER_LINEAR
) -> np.ndarray:
    """Crop and scale a photograph exactly as `published` does, but keep its colours, also outside the circular mask.

    Arguments, errors and result are those of `published`.
    """
    return _middle(_published_scale(image, published_disc(image), size, recipe_size, shrink), size, GROUND)


def published_place(drawn: np.ndarray, disc: Disc, size: int = 540, recipe_size: int = 540) -> np.ndarray:
    """Transform a mask from the pixels of a photograph to those of the image that `published` makes of it.

    Args:
        drawn: Mask, (H, W) bool.
        disc: `published_disc` of the photograph, in the pixels of the mask.
        size: Side of the result in pixels.
        recipe_size: Size at which the radii apply.

    Returns:
        (size, size) bool, True where the mask covers at least half of a pixel.
    """
    scaled = _published_scale(drawn.astype(np.float32), disc, size, recipe_size, cv2.INTER_AREA)
    return _middle((scaled >= 0.5) & (_published_mask(*scaled.shape, size, recipe_size) == 1), size, 0)


def _published_scale(image: np.ndarray, disc: Disc, size: int, recipe_size: int, shrink: int) -> np.ndarray:
    """Whole photograph (H, W, ...) scaled to the fundus radius of the recipe."""
    scale = FUNDUS_RADIUS * size / recipe_size / disc.radius
    return cv2.resize(image, (0, 0), fx=scale, fy=scale, interpolation=shrink)


def _published_mask(height: int, width: int, size: int, recipe_size: int) -> np.ndarray:
    """Circular mask in the middle of a scaled photograph, (height, width) uint8, 0 or 1."""
    radius = int(FUNDUS_RADIUS * size / recipe_size * MASK_RADIUS / FUNDUS_RADIUS)
    return cv2.circle(np.zeros((height, width), np.uint8), (width // 2, height // 2), radius, 1, -1, 8, 0)


def _middle(image: np.ndarray, size: int, ground: int) -> np.ndarray:
    """Middle of an image (H, W, ...) as (size, size, ...), padded with a grey level where the image is smaller."""
    for axis in (0, 1):
        length = image.shape[axis]
        if length >= size:
            start = length // 2 - size // 2
            image = image.take(range(start, start + size), axis)
        else:
            widths = [(0, 0)] * image.ndim
            widths[axis] = ((size - length) // 2, size - length - (size - length) // 2)
            image = np.pad(image, widths, constant_values=ground)
    return image


@lru_cache
def mask(size: int, recipe_size: int = 512) -> np.ndarray:
    """Return the circular mask, (size, size) bool, with a radius of 270 px at the recipe size."""
    offsets = np.arange(size) - (size - 1) / 2
    return offsets[:, None] ** 2 + offsets**2 <= (MASK_RADIUS * size / recipe_size) ** 2


def resize(image: np.ndarray, size: int, ground: int = GROUND) -> np.ndarray:
    """Fit a whole image into a square, padded with a grey level; for images other than fundus photographs.

    Args:
        image: (H, W, ...).
        size: Side of the square in pixels.
        ground: Grey level of the padding.

    Returns:
        (size, size, ...), same dtype as the image.
    """
    height, width = image.shape[:2]
    scale = size / max(height, width)
    shape = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(image, shape, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    square = np.full((size, size, *image.shape[2:]), ground, image.dtype)
    top, left = (size - small.shape[0]) // 2, (size - small.shape[1]) // 2
    square[top : top + small.shape[0], left : left + small.shape[1]] = small
    return square
