"""Weights of a backbone from a file: safetensors, a state dict or a Lightning checkpoint, without running its code."""

import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from insightr_nb import files
from insightr_nb.errors import ModelError

# Harmless globals that a checkpoint may reference besides its tensors; an inert stand-in replaces them.
_HARMLESS = (
    "pytorch_lightning.",
    "lightning.",
    "lightning_fabric.",
    "torchmetrics.",
    "define_parameters.",
    "argparse.",
    "pathlib.",
    "numpy.",
)
_TRAINED = (".weight", ".bias", ".layer_scale")  # parameters, not buffers left by profiling or pruning
_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|conv))\.([12]\.)")  # tensor names in torchvision's files


def load_weights(backbone: nn.Module, path: Path, whole: Iterable[str] = ()) -> None:
    """Load a state dict into the backbone, stripping any common prefix ("ppnet.features."); other keys are ignored.

    Of several prefixes, the one with the most tensors of the backbone is used. Warns if the file contains the network
    more than once, such as MoCo's two encoders.

    Args:
        backbone: The module to load into.
        path: A file that `read_state_dict` accepts.
        whole: Tensor names of the complete network when the backbone is only its first part. A file with further
            tensors in the same modules then belongs to a different network and is rejected.

    Raises:
        ModelError: Names the file and its missing, mismatched, surplus or non-finite tensors.
    """
    state = {_OLD_DENSENET.sub(r"\1\2", key): value for key, value in read_state_dict(path).items()}
    expected = backbone.state_dict()
    first = next(iter(expected))
    prefixes = sorted(key[: -len(first)] for key in state if key.endswith(first))
    if not prefixes:
        raise ModelError(f"{path}: no tensor named {first!r} under any prefix; it has {', '.join(list(state)[:4])} ...")
    fits = {prefix: _fit(state, prefix, expected) for prefix in prefixes}
    best = [prefix for prefix in prefixes if fits[prefix] == max(fits.values())]
    if len(best) > 1:
        warnings.warn(
            f"{path}: contains the network {len(best)} times, under {', '.join(map(repr, best))}; using {best[0]!r}. "
            "Save the one you need to its own file if it is another",
            stacklevel=2,
        )
    state = {key.removeprefix(best[0]): value for key, value in state.items() if key.startswith(best[0])}
    shapes = {k: (tuple(state[k].shape), tuple(v.shape)) for k, v in expected.items() if k in state}
    wrong = [f"{k} is {given} instead of {needed}" for k, (given, needed) in shapes.items() if given != needed]
    wrong += [f"{k} is missing" for k in expected if k not in state and not k.endswith("num_batches_tracked")]
    parts = {k.partition(".")[0] for k in whole}
    wrong += [
        f"{k} is unexpected"
        for k in state
        if k.partition(".")[0] in parts and k.endswith(_TRAINED) and k not in whole and k not in expected
    ]
    if wrong:
        raise ModelError(
            f"{path}: {len(wrong)} tensors do not fit the backbone: {'; '.join(wrong[:5])}. "
            "Are the weights those of another network than model.backbone?"
        )
    if not_finite := [k for k in expected if k in state and not state[k].float().isfinite().all()]:
        raise ModelError(f"{path}: {len(not_finite)} tensors contain non-finite values, such as {not_finite[0]}")
    backbone.load_state_dict({k: state.get(k, expected[k]) for k in expected})


def _fit(state: dict[str, torch.Tensor], prefix: str, expected: dict[str, torch.Tensor]) -> tuple[int, int]:
    """How well the tensors under a prefix fit: the number of equal name and shape, and minus that of the others."""
    below = {key.removeprefix(prefix): value.shape for key, value in state.items() if key.startswith(prefix)}
    same = sum(below.get(key) == value.shape for key, value in expected.items())
    return same, same - len(below)


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a .safetensors file, a state dict or a Lightning checkpoint without executing pickled code.

    Raises ModelError that names the file and the reason for refusing it.
    """
    if not path.is_file():
        raise ModelError(
            f"model.weights = {str(path)!r}: no such file; use 'random', 'imagenet' or the path of a weights file"
        )
    try:
        with open(path, "rb") as file:
            head = file.read(200)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    if instead := files.stand_in(head):
        raise ModelError(f"{path}: cannot be read as weights{instead}")
    if path.suffix == ".safetensors":
        try:
            return safetensors.torch.load_file(path)
        except safetensors.SafetensorError as error:
            raise ModelError(f"{path}: not a safetensors file ({error})") from error
    try:
        foreign = []
        if zipfile.is_zipfile(path):
            files.check_zip(path)
            foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        refused = [name for name in foreign if not name.startswith(_HARMLESS)]
        if refused:
            raise ModelError(
                f"{path}: refers to {', '.join(refused[:5])}, which weights never need; it was not loaded. Save the "
                "plain state dict instead"
            )
        with torch.serialization.safe_globals([(_StandIn, name) for name in foreign]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except ModelError:
        raise
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        OSError,
        LookupError,
        zipfile.BadZipFile,
    ) as error:
        reason = f" ({error})" if isinstance(error, zipfile.BadZipFile) else ""
        raise ModelError(
            f"{path}: cannot be read as weights{reason}; it is damaged, or contains objects other than tensors and "
            "plain values, which are never executed. Save the plain state dict instead"
        ) from error
    return _state_dict(content, path)


def _state_dict(content: object, path: Path) -> dict[str, torch.Tensor]:
    """Extract the state dict from the content of a file, which may hold it among other training state."""
    if isinstance(content, dict):
        tensors = _tensors(content)
        if any("." in name for name in tensors):  # parameter names are prefixed by their module's
            return tensors
        inner = {key: value for key, value in content.items() if _tensors(value)}
        for name in ("state_dict", "model"):  # Lightning and MMPretrain; timm, RETFound and torchvision's references
            if name in inner:
                return _tensors(inner[name])
        if len(inner) == 1:
            return _tensors(*inner.values())
        if inner:
            raise ModelError(
                f"{path}: contains several state dicts ({', '.join(map(repr, inner))}); "
                "save the one you need to its own file"
            )
        if tensors:
            return tensors
    raise ModelError(f"{path}: contains no state dict, but {type(content).__name__}")


def _tensors(content: object) -> dict[str, torch.Tensor]:
    named = content.items() if isinstance(content, dict) else ()
    return {k: v for k, v in named if isinstance(k, str) and isinstance(v, torch.Tensor)}


class _StandIn:
    """Inert replacement for every non-tensor object that a checkpoint references; stores nothing and does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __hash__(self) -> int:
        return id(self)
