"""Content of manifest.json: the process and code that wrote it, and comparison of the recorded settings and data.

Functions on manifests as dictionaries; `runs` reads and writes the files.
"""

import os
import platform
import subprocess
from typing import Any

import psutil

from insightr_nb.files import PROJECT
from insightr_nb.presets import REGRESSIONS, VARIANTS
from insightr_nb.settings import RunSettings


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


def differences(manifest: dict[str, Any], settings: dict[str, Any], data: dict[str, str]) -> list[str]:
    """List the settings and fingerprints in which a manifest differs from the requested ones.

    Settings that do not affect a variant are ignored: the baseline's schedule for all other variants, and the loss
    weights for the baseline and the backbone, which are trained with the mean squared error alone.

    Args:
        manifest: Manifest of an existing run.
        settings: Requested settings, as returned by `RunSettings.as_dict`.
        data: Requested fingerprints of the store and the split.

    Returns:
        One message per difference; empty if there is none.
    """
    recorded = flat(manifest["settings"]) | flat({"fingerprint": manifest["data"]})
    requested = flat(settings) | flat({"fingerprint": data})
    ignored = ["losses."] if recorded.get("variant") in REGRESSIONS else []
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
    "training.last_layer",
    "training.lr_",
    "training.block_",
    "training.batchnorm_frozen",
)


def comparable(manifest: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two runs share their data and all settings that affect `other`, except those of the variants."""
    settings, others = flat(manifest["settings"]), flat(other["settings"])
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


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings into one mapping with dotted names."""
    named: dict[str, Any] = {}
    for key, value in values.items():
        named |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return named
