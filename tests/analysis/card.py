"""A stand-in for a CUDA device: tensors that, as on a card, neither become arrays nor meet tensors of the CPU."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

CUDA = torch.device("cuda")


class OnCard(torch.Tensor):
    """A tensor on the stand-in. Results of operations on it are on it as well."""


def tensors(values: Any) -> Iterator[torch.Tensor]:
    """The tensors among arguments, also inside lists and dictionaries."""
    if isinstance(values, torch.Tensor):
        yield values
    elif isinstance(values, list | tuple | dict):
        for value in values.values() if isinstance(values, dict) else values:
            yield from tensors(value)


class Card(TorchFunctionMode):
    """Within this context `OnCard` tensors behave as on a CUDA device. Their values are computed by the CPU."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        first = args[0] if args else None
        if func == torch.Tensor.device.__get__ and isinstance(first, OnCard):
            return CUDA
        if kwargs.get("device") == CUDA:  # made there
            return func(*args, **kwargs | {"device": "cpu"}).as_subclass(OnCard)
        if func is torch.Tensor.to and CUDA in args[1:]:
            return first.as_subclass(OnCard)
        if func is torch.Tensor.cpu:
            return first.as_subclass(torch.Tensor)
        if func is torch.Tensor.__deepcopy__:
            values = first.detach().clone()
            args[1][id(first)] = copied = nn.Parameter(values) if isinstance(first, nn.Parameter) else values
            return copied
        if func in (torch.Tensor.numpy, torch.Tensor.__array__) and isinstance(first, OnCard):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        met = [t for t in tensors([args, kwargs]) if t.dim()]  # a tensor without dimensions may come from anywhere
        if len({isinstance(t, OnCard) for t in met}) == 2 and func is not torch.Tensor.__getitem__:  # indices may
            raise RuntimeError(f"{func.__name__}: expected all tensors to be on the same device")
        return func(*args, **kwargs)


def put(network: nn.Module) -> nn.Module:
    """Move the parameters and buffers of a network to the stand-in, in place."""
    for module in network.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(parameter.data.as_subclass(OnCard))
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer.as_subclass(OnCard)
    return network
