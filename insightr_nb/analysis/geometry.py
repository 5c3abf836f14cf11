"""Which pixels a latent cell stands for: the one place that maps between the two, for any backbone and image size.

Along one axis, cell i of the latent grid is centred at pixel `offset + stride * i` and its box is the `stride` pixels
around that centre; what the cell depends on, its receptive field, is larger, usually most of the image. For preset
`paper` the centre is 64 i - 16 and the box [64 i - 48, 64 i + 16). The numbers are those of `model.receptive_field`.
Pictures are drawn at display size: `Grid.scaled` and `scaled_box` go from the network's pixels to those.
"""

from dataclasses import dataclass

import numpy as np
import torch

from insightr_nb.model.network import INSightRNet
from insightr_nb.model.receptive_field import follow


@dataclass(frozen=True)
class Grid:
    """The latent cells of an image of `size` pixels a side, the same along both axes.

    stride, offset, receptive_field in pixels; cells: how many along an axis. A pixel's own centre is its index.
    """

    size: int
    cells: int
    stride: float
    offset: float
    receptive_field: float

    def centre(self, cell):
        """Pixel coordinate of the centre of a cell, or of an array of cells. It can lie just outside the image."""
        return self.offset + self.stride * np.asarray(cell)

    def box(self, row: int, col: int) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 of the pixels nearest to the cell's centre, clipped to the image; x1 and y1 are not inside."""
        (x0, x1), (y0, y1) = self._interval(col), self._interval(row)
        return x0, y0, x1, y1

    def _interval(self, cell: int) -> tuple[int, int]:
        begin, end = (int(np.ceil(self.centre(cell) + side * self.stride / 2)) for side in (-1, 1))
        if end <= 0 or begin >= self.size:  # all padding: what it sees is the border's nearest pixels
            begin = int(np.clip(self.centre(cell), 0, self.size)) - int(self.stride // 2)
            end = begin + int(self.stride)
        return max(begin, 0), min(end, self.size)

    def scaled(self, size: int) -> "Grid":
        """The same cells on the same image at `size` pixels a side."""
        factor = size / self.size
        offset = (self.offset + 0.5) * factor - 0.5  # a pixel's centre is half a pixel from its edge at any size
        return Grid(size, self.cells, self.stride * factor, offset, self.receptive_field * factor)

    def upsample(self, values: np.ndarray, smooth: bool = True) -> np.ndarray:
        """A map over cells, (H, W), as (size, size) float32, every cell's value at the cell's centre.

        smooth: linear between the centres, where a cell that is centred outside the image has its value in the middle
        of its box, so that a match at the border is seen in full; otherwise every pixel takes that of its nearest cell.
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
        return (weights @ values @ weights.T).astype(np.float32)  # (size, cells) on either side


def scaled_box(box, size: int, to: int) -> tuple[int, int, int, int]:
    """A box x0, y0, x1, y1 in the pixels of an image of `size` a side, in those of the same image at `to` a side."""
    x0, y0, x1, y1 = (round(float(edge) * to / size) for edge in box)
    return x0, y0, x1, y1


def grid(network: INSightRNet, size: int) -> Grid:
    """The latent grid of a network for images of `size` pixels a side.

    Raises ModelError for a backbone with a layer whose geometry is not known.
    """
    device = next(network.parameters()).device
    with torch.no_grad():
        shape = network.latent(torch.zeros(1, 3, size, size, device=device)).shape
    return Grid(size, shape[2], *follow(network.backbone, network.block))
