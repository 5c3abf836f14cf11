"""Content of manifest.json: what wrote it, what would make the run again, and comparison of settings and data.

Functions on manifests as dictionaries; `runs` reads and writes the files.
"""

import contextlib
import dataclasses
import json
import os
import platform
import shlex
import subprocess
from pathlib import Path
from typing import Any

import psutil

from insightr_nb.files import PROJECT, outputs_root, read_json
from insightr_nb.presets import PRESETS, REGRESSIONS, VARIANTS
from insightr_nb.settings import CATALOGUED, GROUPS, RunSettings


def this_process() -> dict[str, Any]:
    return {"host": platform.node(), "pid": os.getpid(), "process_started": psutil.Process().create_time()}


def is_alive(manifest: dict[str, Any]) -> bool:
    """Return whether the process that wrote the manifest is still running; a reused pid does not count."""
    try:
        return psutil.Process(manifest["pid"]).create_time() == manifest.get("process_started")
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def git_state() -> dict[str, Any]:
    def ask(*words: str) -> str | None:
        done = subprocess.run(["git", "-C", str(PROJECT), *words], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        commit = ask("rev-parse", "HEAD")
        return {"commit": commit, "changed": bool(ask("status", "--porcelain")) if commit else None}
    except FileNotFoundError:  # git is not installed
        return {"commit": None, "changed": None}


def sessions(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """List the sessions of a training, oldest first, each with "started" and "hardware"; empty without a manifest.

    Older versions recorded the hardware of the last session only, which counts as the only session here.
    """
    only = {"started": manifest.get("started"), "hardware": manifest.get("hardware") or {}}
    return manifest.get("sessions") or ([only] if manifest else [])


def hardware_changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """List the differences of two descriptions of hardware that change the rounding of a training.

    Compares device, processor, bfloat16 and the versions of torch, CUDA and cuDNN, where both descriptions have them.
    Returns one message per difference.
    """
    compared = ("device", "processor", "bfloat16", "torch", "cuda", "cudnn")
    names = [name for name in compared if name in before and name in now]
    return [f"{name} was {before[name]!r}, is now {now[name]!r}" for name in names if before[name] != now[name]]


def differences(manifest: dict[str, Any], settings: dict[str, Any], data: dict[str, str]) -> list[str]:
    """List the settings and fingerprints in which a manifest differs from the requested ones.

    Settings that do not affect a variant are ignored: the baseline's schedule for all other variants; the losses and
    persistent optimizers for the baseline and the backbone, which have one stage and the mean squared error alone. A
    setting that did not exist when the manifest was written has its default (`with_defaults`).

    Args:
        manifest: Manifest of an existing run.
        settings: Requested settings, as returned by `RunSettings.as_dict`.
        data: Requested fingerprints of the store and the split.

    Returns:
        One message per difference; empty if there is none.
    """
    recorded = with_defaults(flat(manifest["settings"])) | flat({"fingerprint": manifest["data"]})
    requested = flat(settings) | flat({"fingerprint": data})
    ignored = ["losses.", "training.persistent_optimizers"] if recorded.get("variant") in REGRESSIONS else []
    ignored += ["training.baseline_"] if recorded.get("variant") != "baseline" else []
    return [
        f"{name} was {recorded.get(name)!r}, is now {value!r}"
        for name, value in requested.items()
        if not name.startswith(tuple(ignored)) and recorded.get(name) != value
    ]


# Prefixes of the settings that do not affect a regression without prototypes.
_OF_PROTOTYPES = (
    "losses.",
    "model.block_",
    "model.latent_channels",
    "model.skip_ground",
    "model.prototype",
    "model.similarity",
    "model.epsilon",
    "training.cycles",
    "training.warm_up",
    "training.joint_",
    "training.persistent_optimizers",
    "training.last_layer",
    "training.lr_",
    "training.block_",
    "training.batchnorm_frozen",
)


def comparable(manifest: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two runs share their data and all settings that affect `other`, except those of the variants."""
    settings, others = (with_defaults(flat(each["settings"])) for each in (manifest, other))
    ignored = {"variant", "tag", *VARIANTS[settings["variant"]], *VARIANTS[others["variant"]]}
    prefixes = _OF_PROTOTYPES if others["variant"] in REGRESSIONS else ()
    prefixes += ("training.baseline_",) if others["variant"] != "baseline" else ()
    relevant = [name for name in others if name not in ignored and not name.startswith(prefixes)]
    same_data = manifest["data"] == other["data"]
    return same_data and all(settings.get(name) == others[name] for name in relevant)


def settings_today(manifest: dict[str, Any]) -> RunSettings:
    """Rebuild the settings from the preset, variant and overrides in a manifest, using the current presets."""
    recorded = manifest["settings"]
    return RunSettings.from_parameters(
        **{name: recorded[name] for name in ("preset", "labels", "variant", "fold", "seed", "tag")},
        dataset=recorded["data"]["dataset"],
        name=recorded["data"]["name"],
        overrides=manifest["overrides"],
    )


def training_command(folder: Path, manifest: dict[str, Any] | None) -> str:
    """Return the papermill command that creates a run.

    Args:
        folder: Folder of the run; its names give the parameters.
        manifest: Its manifest, for seed and overrides; None if there is none.
    """
    parts = folder.resolve().parts[-5:]
    if len(parts) < 5 or parts[1] not in PRESETS or parts[3] not in VARIANTS or not parts[4].startswith("fold"):
        return "papermill notebooks/03_train.ipynb out.ipynb"  # not the folder of a run
    dataset, preset, labels, variant, fold = parts
    number, _, tag = fold.removeprefix("fold").partition("-")
    given = {"dataset": dataset, "preset": preset, "labels": labels, "variant": variant, "fold": number, "tag": tag}
    usual = {"dataset": "synthetic", "preset": "demo", "labels": "categorical", "variant": "insightr", "tag": ""}
    stores = sorted(outputs_root().glob(f"data/{dataset}-*/meta.json"))  # meta.json maps the name to its data set
    catalogued = dataset in ("synthetic", *CATALOGUED)
    kind = read_json(stores[0])["settings"]["dataset"] if stores else dataset if catalogued else "csv"
    if kind != dataset:
        given = {"dataset": kind, "name": dataset} | {k: v for k, v in given.items() if k != "dataset"}
    with contextlib.suppress(KeyError, TypeError):  # without a manifest, or with a damaged one
        given |= {"seed": manifest["settings"]["seed"]} if manifest["settings"]["seed"] else {}
        given |= {"overrides": shlex.quote(json.dumps(manifest["overrides"]))} if manifest["overrides"] else {}
    options = " ".join(f"{_option(k, v)} {k} {v}" for k, v in given.items() if usual.get(k) != v)
    return f"papermill notebooks/03_train.ipynb out.ipynb {options}"


def _option(name: str, value: Any) -> str:
    """Return papermill's `-p`, or `-r` for a name or tag that `-p` would convert to a number, a bool or None."""
    if name not in ("name", "tag"):
        return "-p"
    try:
        float(value)
    except ValueError:
        return "-r" if value in ("True", "False", "None") else "-p"
    return "-r"


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings into one mapping with dotted names."""
    named: dict[str, Any] = {}
    for key, value in values.items():
        named |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return named


def with_defaults(settings: dict[str, Any]) -> dict[str, Any]:
    """Complete recorded settings, by dotted name, with the defaults of the settings that were added since.

    The default of a setting is the behaviour before the setting existed, whatever the current presets choose. So an
    older run or record is still valid if the default is requested, and differs if another value is.
    `checkpoint.settings_of` follows the same rule.
    """
    return flat({group: dataclasses.asdict(kind()) for group, kind in GROUPS.items()}) | settings
