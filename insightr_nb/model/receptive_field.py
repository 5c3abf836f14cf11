"""Geometry of a latent cell: stride, centre and receptive field, derived from kernels, strides and paddings.

After Araujo et al., "Computing receptive fields of convolutional neural networks", Distill 2019.
"""

import operator

import torch
from torch import fx, nn
from torch.nn import functional as F

from insightr_nb.errors import ModelError

_POINTWISE = (
    nn.Identity,
    nn.Dropout,
    nn.Linear,
    nn.Sigmoid,
    nn.ReLU,
    nn.ReLU6,
    nn.SiLU,
    nn.GELU,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.modules.batchnorm._BatchNorm,
    nn.LayerNorm,
)


def receptive_field(*parts: nn.Module) -> tuple[int, float, int]:
    """Compute stride, centre of cell 0 and receptive field of a chain of modules, in pixels of the input.

    Propagates the three values through the traced graph, layer by layer. Raises ModelError for a layer of unknown
    geometry.
    """
    graph = fx.symbolic_trace(nn.Sequential(*parts))
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
            if window is None:  # elementwise or joins branches: widest field, first branch's centres
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
    """Kernel size (dilation included), stride and padding of a node; None if it works elementwise."""
    layer = modules.get(node.target) if node.op == "call_module" else None
    if isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        kernel, step, padding = (_one(getattr(layer, n), layer) for n in ("kernel_size", "stride", "padding"))
        dilation = _one(getattr(layer, "dilation", 1), layer)
        return dilation * (kernel - 1) + 1, step, padding
    if isinstance(layer, nn.AdaptiveAvgPool2d) and layer.output_size in (1, (1, 1)):
        return None  # squeeze-and-excitation: scales channels, not positions
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
    raise ModelError(
        f"geometry of layer {node.target!r} ({type(layer).__name__}) is unknown; use another model.backbone"
    )


def _one(value: int | str | tuple[int, int], where: nn.Module | fx.Node) -> int:
    """Size along either axis; the maximum of a pair.

    Inception's 1 x 7 convolutions come in symmetric pairs, so the maximum preserves the centre.
    """
    if isinstance(value, tuple):
        return max(value)
    if isinstance(value, str):
        raise ModelError(f"geometry of padding {value!r} in {where} is unknown; use another model.backbone")
    return int(value)
