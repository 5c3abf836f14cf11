"""Finding what makes the host wait for a GPU, without one."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Waits(TorchDispatchMode):
    """Names of the operations that make the host wait for a card: values read, copies in either direction."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name, to = str(function), (kwargs or {}).get("device")
        tensors = [arg for arg in args if isinstance(arg, torch.Tensor)]
        between = to is not None and any(t.device.type != to.type for t in tensors)
        copied = "copy_" in name and len({t.device.type for t in tensors[:2]}) == 2
        if between or copied or any(word in name for word in ("_local_scalar_dense", "nonzero", "masked_select")):
            self.found.append(name)
        return function(*args, **(kwargs or {}))
