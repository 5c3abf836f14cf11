"""Images that the tests of the disc and of the normalisation draw."""

import numpy as np


def fundus(height: int, width: int, x: float, y: float, radius: float, colour=(150, 80, 40)) -> np.ndarray:
    """An evenly coloured fundus on black; x and y count from the outer corner of the first pixel."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    image = np.zeros((height, width, 3), np.uint8)
    image[(columns - x) ** 2 + (rows - y) ** 2 <= radius**2] = colour
    return image


def textured(height: int, width: int) -> np.ndarray:
    """Bright noise, which Graham's normalisation rarely maps to 128."""
    return np.random.default_rng(5).integers(60, 250, (height, width, 3), dtype=np.uint8)
