"""Model files: safetensors with the settings as metadata. Resume files: tensors and plain values, no pickled code."""

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from insightr_nb import files
from insightr_nb.errors import ModelError, RunError
from insightr_nb.model.network import INSightRNet, Regressor, ResNetRegressor
from insightr_nb.settings import GROUPS, RunSettings


def build_network(settings: RunSettings, weights: str | None = None) -> Regressor:
    """Build the network of a variant. `weights` overrides the backbone weights of the settings."""
    kind = INSightRNet if settings.explains else ResNetRegressor
    return kind(settings.model, weights)


def save_model(path: Path, network: nn.Module, settings: dict[str, Any]) -> None:
    """Save a network to safetensors, with its settings as metadata so that `load_model` needs no other file.

    Args:
        path: File to write, atomically.
        network: The network.
        settings: `RunSettings.as_dict()`.
    """
    state = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    content = safetensors.torch.save(state, {"insightr_nb": json.dumps(settings)})
    with files.atomic(path) as temporary:
        temporary.write_bytes(content)


def load_model(path: Path, device: torch.device | str = "cpu") -> Regressor:
    """Load a network from model.safetensors, in `eval()` mode and channels_last.

    Raises RunError for a missing or damaged file, ModelError for one that does not fit; both name the file.
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        state = safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise RunError(f"{files.display_path(path)} is missing") from None
    except (safetensors.SafetensorError, OSError) as error:
        raise RunError(f"{files.display_path(path)} is damaged: {error}") from error
    if "insightr_nb" not in metadata:
        raise ModelError(f"{files.display_path(path)} was not written by this package: no settings in its metadata")
    network = build_network(settings_of(json.loads(metadata["insightr_nb"])), "random")
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    given = {name: tensor.shape for name, tensor in state.items()}
    wrong = sorted(name for name in expected.keys() | given.keys() if expected.get(name) != given.get(name))
    if wrong:
        raise ModelError(
            f"{files.display_path(path)}: {len(wrong)} tensors differ from the network: {', '.join(wrong[:5])}"
        )
    network.load_state_dict(state)
    return network.to(device, memory_format=torch.channels_last).eval()


def settings_of(values: dict[str, Any]) -> RunSettings:
    """Rebuild RunSettings from the dictionary of `as_dict`, as stored in a manifest or a model file.

    A setting that an older version did not store has its default, as in `manifests.with_defaults`.
    """
    groups = {name: kind(**values[name]) for name, kind in GROUPS.items()}
    return RunSettings(**{k: v for k, v in values.items() if k not in GROUPS}, **groups)


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Save the state of an interrupted training, atomically."""
    content = io.BytesIO()  # serialise first: a full disk then raises OSError
    torch.save(state, content)
    with files.atomic(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def load_state(path: Path) -> dict[str, Any]:
    """Load the state written by `save_state` without executing pickled code. Raises RunError naming a damaged file."""
    try:
        files.check_zip(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError, zipfile.BadZipFile, KeyError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise RunError(
            f"{files.display_path(path)} is damaged ({reason}). Use overwrite=True to restart the run"
        ) from error
