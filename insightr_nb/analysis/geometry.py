"""Which pixels a latent cell stands for: the one place that maps between the two, for any backbone and image size.

Along one axis, cell i of the latent grid is centred at pixel `offset + stride * i` and its box is the `stride` pixels
around that centre; what the cell depends on, its receptive field, is larger, usually most of the image. For preset
`paper` the centre is 64 i - 16 and the box [64 i - 48, 64 i + 16). Numbers follow from the kernels, strides and
paddings of the layers (Araujo et al., "Computing receptive fields of convolutional neural networks", Distill 2019).
"""

import operator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional as F

from insightr_nb.errors import ModelError
from insightr_nb.model.network import INSightRNet


@dataclass(frozen=True)
class Grid:
    """The latent cells of an image of `size` pixels a side, the same along both axes.

    stride, offset, receptive_field in pixels; cells: how many along an axis. A pixel's own centre is its index.
    """

    size: int
    cells: int
    stride: int
    offset: float
    receptive_field: int

    def centre(self, cell):
        """Pixel coordinate of the centre of a cell, or of an array of cells. It can lie just outside the image."""
        return self.offset + self.stride * np.asarray(cell)

    def box(self, row: int, col: int) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 of the pixels nearest to the cell's centre, clipped to the image; x1 and y1 are not inside."""
        (x0, x1), (y0, y1) = self._interval(col), self._interval(row)
        return x0, y0, x1, y1

    def _interval(self, cell: int) -> tuple[int, int]:
        begin = int(np.ceil(self.centre(cell) - self.stride / 2))
        if begin + self.stride <= 0 or begin >= self.size:  # all padding: what it sees is the border's nearest pixels
            begin = int(np.clip(self.centre(cell), 0, self.size)) - self.stride // 2
        return max(begin, 0), min(begin + self.stride, self.size)

    def upsample(self, values: np.ndarray, smooth: bool = True) -> np.ndarray:
        """A map over cells, (H, W), as (size, size) float32, every cell's value at the cell's centre.

        smooth: linear between the centres; otherwise every pixel takes the value of its nearest cell.
        """
        values = np.ascontiguousarray(values, np.float32)
        if not smooth:
            nearest = np.floor((np.arange(self.size) - self.offset) / self.stride + 0.5).astype(int)
            nearest = nearest.clip(0, self.cells - 1)
            return values[nearest[:, None], nearest]
        scale = 1 / self.stride
        shift = -self.offset * scale
        matrix = np.array([[scale, 0, shift], [0, scale, shift]], np.float64)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(values, matrix, (self.size, self.size), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def grid(network: INSightRNet, size: int) -> Grid:
    """The latent grid of a network for images of `size` pixels a side.

    Raises ModelError for a backbone with a layer whose geometry is not known.
    """
    device = next(network.parameters()).device
    with torch.no_grad():
        shape = network.latent(torch.zeros(1, 3, size, size, device=device)).shape
    stride, offset, field = _follow(fx.symbolic_trace(nn.Sequential(network.backbone, network.block)))
    return Grid(size, shape[2], stride, offset, field)


_POINTWISE = (nn.Identity, nn.Dropout, nn.Linear, nn.Sigmoid, nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Hardswish,
              nn.Hardsigmoid, nn.modules.batchnorm._BatchNorm, nn.LayerNorm)  # fmt: skip


def _follow(graph: fx.GraphModule) -> tuple[int, float, int]:
    """Stride, offset of cell 0 and receptive field of the output; those of every node follow from its inputs."""
    modules = dict(graph.named_modules())
    known: dict[fx.Node, tuple[int, float, int]] = {}
    for node in graph.graph.nodes:
        inputs = [known[n] for n in node.all_input_nodes if n in known]
        if node.op == "placeholder":
            known[node] = (1, 0.0, 1)
        elif node.op == "output":
            return inputs[0]
        elif inputs:
            window = _window(node, modules)
            if window is None:  # element by element, or joining branches: the widest field, the first branch's centres
                known[node] = (inputs[0][0], inputs[0][1], max(i[2] for i in inputs))
            else:
                kernel, step, padding = window
                stride, offset, field = inputs[0]
                known[node] = (
                    stride * step,
                    offset + ((kernel - 1) / 2 - padding) * stride,
                    field + (kernel - 1) * stride,
                )
    raise ModelError("the network has no output")


def _window(node: fx.Node, modules: dict[str, nn.Module]) -> tuple[int, int, float] | None:
    """Kernel (dilation included), stride and padding of a node; None if it works element by element."""
    layer = modules.get(node.target) if node.op == "call_module" else None
    if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        kernel, step, padding = (_one(getattr(layer, n), layer) for n in ("kernel_size", "stride", "padding"))
        dilation = _one(getattr(layer, "dilation", 1), layer)
        return dilation * (kernel - 1) + 1, step, padding
    if isinstance(layer, nn.AdaptiveAvgPool2d) and layer.output_size in (1, (1, 1)):
        return None  # squeeze and excitation: a scale for each channel, no place
    if node.target in (F.max_pool2d, F.avg_pool2d):
        named = dict(zip(("kernel_size", "stride", "padding"), node.args[1:], strict=False)) | node.kwargs
        kernel = _one(named["kernel_size"], node)
        return kernel, _one(named.get("stride") or kernel, node), _one(named.get("padding", 0), node)
    pointwise = layer is not None and (
        isinstance(layer, _POINTWISE) or type(layer).__name__ in ("StochasticDepth", "Permute")
    )
    if pointwise or node.op == "call_method" or node.op == "get_attr":
        return None
    if node.op == "call_function" and (
        node.target in (operator.add, operator.mul, operator.getitem, torch.cat, torch.add, torch.flatten, getattr)
        or node.target in (F.relu, F.pad)
        or node.target.__name__ in ("stochastic_depth", "dropout", "layer_norm", "floordiv", "transpose", "permute")
    ):
        return None
    raise ModelError(f"geometry of layer {node.target!r} ({type(layer).__name__}) is not known")


def _one(value, where) -> int:
    """The same number along both axes (1 x 7 convolutions of Inception come in symmetric pairs and keep the centre)."""
    if isinstance(value, tuple):
        return max(value)
    if isinstance(value, str):
        raise ModelError(f"geometry of padding {value!r} in {where} is not known")
    return int(value)
