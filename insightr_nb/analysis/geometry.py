"""Mapping between latent cells and pixels, for any backbone and image size.

Along one axis, cell i of the latent grid is centred at pixel `offset + stride * i`, and its box is the `stride` pixels
around that centre. Its receptive field, the region it depends on, is larger, usually most of the image. For preset
`paper` the centre is 64 i - 16 and the box [64 i - 48, 64 i + 16). The values come from `model.receptive_field`.
Figures are drawn at display size; `Grid.scaled` and `scaled_box` convert from network pixels.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike

from insightr_nb.model.network import INSightRNet


@dataclass(frozen=True)
class Grid:
    """Latent cells of a square image, the same along both axes. The centre of a pixel is its index.

    Attributes:
        size: Side of the image in pixels.
        cells: Number of cells along an axis.
        stride: Distance between cell centres in pixels.
        offset: Centre of cell 0 in pixels.
        receptive_field: Side of the receptive field in pixels.
    """

    size: int
    cells: int
    stride: float
    offset: float
    receptive_field: float

    def centre(self, cell: ArrayLike) -> np.ndarray:
        """Pixel coordinate of the centre of a cell or an array of cells; can lie just outside the image."""
        return self.offset + self.stride * np.asarray(cell)

    def box(self, row: int, col: int) -> tuple[int, int, int, int]:
        """Box x0, y0, x1, y1 of the pixels nearest to a cell's centre, clipped to the image; x1 and y1 exclusive."""
        (x0, x1), (y0, y1) = self._interval(col), self._interval(row)
        return x0, y0, x1, y1

    def _interval(self, cell: int) -> tuple[int, int]:
        begin, end = (int(np.ceil(self.centre(cell) + side * self.stride / 2)) for side in (-1, 1))
        if end <= 0 or begin >= self.size:  # entirely in the padding: use the nearest pixels at the border
            begin = int(np.clip(self.centre(cell), 0, self.size)) - int(self.stride // 2)
            end = begin + int(self.stride)
        return max(begin, 0), min(end, self.size)

    def scaled(self, size: int) -> "Grid":
        """Grid of the same cells for the image resized to `size` pixels a side."""
        factor = size / self.size
        offset = (self.offset + 0.5) * factor - 0.5  # pixel centres lie half a pixel inside the edge
        return Grid(size, self.cells, self.stride * factor, offset, self.receptive_field * factor)

    def upsample(self, values: np.ndarray, smooth: bool = True) -> np.ndarray:
        """Upsample a map over cells, (H, W), to (size, size) float32.

        smooth: interpolate linearly between the cell centres. A cell centred outside the image then has its value in
        the middle of its box, so that a match at the border stays visible. Otherwise each pixel takes the value of its
        nearest cell.
        """
        values = np.ascontiguousarray(values, np.float32)
        if not smooth:
            nearest = np.floor((np.arange(self.size) - self.offset) / self.stride + 0.5).astype(int)
            nearest = nearest.clip(0, self.cells - 1)
            return values[nearest[:, None], nearest]
        centres = self.centre(np.arange(self.cells))
        middles = np.array([(sum(self._interval(cell)) - 1) / 2 for cell in range(self.cells)])
        centres = np.where((centres < 0) | (centres > self.size - 1), middles, centres)
        weights = np.stack([np.interp(np.arange(self.size), centres, one) for one in np.eye(self.cells)], axis=1)
        return (weights @ values @ weights.T).astype(np.float32)  # weights: (size, cells)


def scaled_box(box: Iterable[float], size: int, to: int) -> tuple[int, int, int, int]:
    """Scale a box x0, y0, x1, y1 from an image of `size` pixels a side to the same image at `to` pixels a side.

    Args:
        box: x0, y0, x1, y1.
        size: Side of the image in which `box` is given.
        to: Side of the target image.

    Returns:
        The box, rounded to whole pixels.
    """
    x0, y0, x1, y1 = (round(float(edge) * to / size) for edge in box)
    return x0, y0, x1, y1


def grid(network: INSightRNet, size: int) -> Grid:
    """Latent grid of a network for images of `size` pixels a side.

    Raises ModelError if the geometry of a layer of the backbone is unknown.
    """
    device = next(network.parameters()).device
    with torch.no_grad():
        shape = network.latent(torch.zeros(1, 3, size, size, device=device)).shape
    return Grid(size, shape[2], *network.window)
