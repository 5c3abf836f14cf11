"""Measures of place: whether an explanation map points at lesions, on its own grid and on one shared by all maps."""

import numpy as np

from insightr_nb.analysis.geometry import Grid


def at_centres(centres: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Sample a (size, size) picture at the cell centres: (H, W). A centre outside takes the nearest pixel."""
    nearest = np.clip(np.rint(centres).astype(int), 0, len(picture) - 1)
    return picture[nearest[:, None], nearest]


def pointing(values: np.ndarray, centres: np.ndarray, lesion: np.ndarray) -> float:
    """Pointing game without tolerance: 1 if the centre of the cell with the largest value lies on a lesion, else 0.

    If several cells share the maximum, the result is the share of them that hit. After Zhang et al., "Top-down neural
    attention by excitation backprop", 2018, without their tolerance of 15 px.

    Args:
        values: (H, W) map over cells.
        centres: (H,) pixel coordinates of the cells along either axis.
        lesion: (size, size) bool.

    Returns:
        Value from 0 to 1.
    """
    return _hits(values, at_centres(centres, lesion))


def chance(centres: np.ndarray, lesion: np.ndarray, disc: np.ndarray) -> float:
    """Expected `pointing` of a random cell: the share of the cells centred in the disc that are centred on a lesion.

    centres: (H,). lesion, disc: (size, size) bool. NaN if no cell is centred in the disc.
    """
    within = at_centres(centres, disc)
    return float(at_centres(centres, lesion)[within].mean()) if within.any() else float("nan")


def ceiling(centres: np.ndarray, lesion: np.ndarray) -> float:
    """`pointing` of the best possible map: 1 if some cell centred in the image is centred on a lesion, else 0.

    centres: (H,). lesion: (size, size) bool.
    """
    inside = (centres >= 0) & (centres <= len(lesion) - 1)
    return float(at_centres(centres[inside], lesion).any())


def mass_share(heat: np.ndarray, lesion: np.ndarray) -> float:
    """Share of a map that lies on lesions, of the whole image with what is outside the disc.

    heat: (size, size), non-negative. lesion: (size, size) bool. NaN for a map of zeros.
    """
    total = heat.sum(dtype=float)
    return float(heat[lesion].sum(dtype=float) / total) if total else float("nan")


def pooled(heat: np.ndarray, grid: Grid) -> np.ndarray:
    """Sum a map over the boxes of a latent grid, so that maps of any resolution compare on the same cells.

    Args:
        heat: (size, size).
        grid: The latent grid. Every pixel belongs to the box of its nearest cell.

    Returns:
        (H, W).
    """
    cells = np.floor((np.arange(grid.size) - grid.offset) / grid.stride + 0.5).astype(int).clip(0, grid.cells - 1)
    belongs = np.eye(grid.cells)[cells]  # (size, H)
    return belongs.T @ np.asarray(heat, float) @ belongs


def dense_boxes(lesion: np.ndarray, disc: np.ndarray, grid: Grid) -> np.ndarray:
    """Boxes of a latent grid where lesions cover at least as large a share of the disc as in the whole disc.

    There is always one, so the best possible map hits in every image with lesions.

    Args:
        lesion: (size, size) bool.
        disc: (size, size) bool.
        grid: The latent grid.

    Returns:
        (H, W): 1 for such a box, 0 for another one, NaN for a box outside the disc.
    """
    shown = pooled(disc, grid)
    with np.errstate(invalid="ignore"):
        density = pooled(lesion & disc, grid) / shown
    return np.where(shown > 0, density >= lesion[disc].mean(), np.nan)


def pooled_pointing(heat: np.ndarray, dense: np.ndarray, grid: Grid) -> float:
    """Pointing game over the boxes of a latent grid: 1 if the box with the largest sum is one of the `dense_boxes`.

    If several boxes share the maximum, the result is the share of them that hit.

    Args:
        heat: (size, size).
        dense: (H, W), result of `dense_boxes`.
        grid: The latent grid.
    """
    return _hits(pooled(heat, grid), np.nan_to_num(dense))


def _hits(values: np.ndarray, hit: np.ndarray) -> float:
    return float(hit[values == values.max()].mean())
