"""Finding what makes the host wait for a GPU, without one."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Waits(TorchDispatchMode):
    """Names of the operations that make the host wait for a card: values read from it, and copies from the host."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name, to = str(function), (kwargs or {}).get("device")
        tensors = [arg for arg in args if isinstance(arg, torch.Tensor)]
        from_host = to is not None and to.type == "cuda" and any(t.device.type == "cpu" for t in tensors)
        copied = "copy_" in name and len({t.device.type for t in tensors[:2]}) == 2
        if from_host or copied or any(word in name for word in ("_local_scalar_dense", "nonzero", "masked_select")):
            self.found.append(name)
        return function(*args, **(kwargs or {}))
