"""Result records: small JSON files with results and their provenance; `docs/render.py` renders README and docs tables.

A record stores the settings, data, hardware and versions of its runs. A test compares committed records with the
current presets, to detect results of a preset that has changed.
"""

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from insightr_nb import files, runs
from insightr_nb.errors import RunError
from insightr_nb.manifests import differences, flat, settings_today, with_defaults
from insightr_nb.runs import Run
from insightr_nb.settings import RunSettings

_OF_A_RUN = ("preset", "variant", "labels", "fold", "seed", "tag")  # stored per row or in the head of a record


def settings_of(preset: str, variants: Iterable[str], **data: Any) -> dict[str, dict[str, Any]]:
    """Current settings of a preset, in dotted names: complete for "insightr", differences from it for other variants.

    Args:
        preset: The preset.
        variants: Variants beside "insightr".
        **data: Dataset and name, as in `RunSettings.from_parameters`.
    """
    own = {v: _plain(RunSettings.from_parameters(preset=preset, variant=v, **data)) for v in ("insightr", *variants)}
    base = own.pop("insightr")
    differing = {v: {k: value for k, value in one.items() if value != base[k]} for v, one in own.items()}
    return {"insightr": base} | {v: differing[v] for v in sorted(differing)}


def _plain(settings: RunSettings) -> dict[str, Any]:
    return {k: v for k, v in flat(settings.as_dict()).items() if k not in _OF_A_RUN}


def record(what: str, settings: RunSettings, made_from: Iterable[Run], **content: Any) -> dict[str, Any]:
    """Build a record of finished runs of one preset and data set.

    Times include the pre-trainings of the runs' backbones. `differs` lists the settings in which a run differs from the
    current preset. Numbers are rounded to six digits; NaN becomes null.

    Args:
        what: Name of the record.
        settings: Settings of any of the runs.
        made_from: The runs; duplicates are ignored.
        **content: Rows and figures to store.

    Returns:
        The record, ready for `write`.

    Raises:
        RunError: Without a run.
    """
    own = list({run.path: run for run in made_from}.values())
    if not own:
        raise RunError(f"record {what!r}: no finished runs")
    backbones = {runs.run_directory(b) for run in own if (b := settings_today(run.manifest).backbone_run())}
    manifests = [run.manifest for run in (*own, *map(Run, sorted(backbones))) if (run / "manifest.json").exists()]
    differing = [line for run in own for line in differences(run.manifest, settings_today(run.manifest).as_dict(), {})]
    data = {"dataset": settings.data.dataset} | ({"name": settings.data.name} if settings.data.name else {})
    begun = [datetime.fromisoformat(m["started"]) for m in manifests]
    ended = [start + timedelta(seconds=m["seconds"]) for start, m in zip(begun, manifests, strict=True)]
    head = {
        "what": what,
        "preset": settings.preset,
        **data,
        "seed": sorted({m["settings"]["seed"] for m in manifests}),
        "store": sorted({m["data"]["store"] for m in manifests}),
        "hardware": sorted({_hardware(m["hardware"]) for m in manifests}),
        "versions": manifests[0]["versions"],
        "commit": sorted({_commit(m["git"]) for m in manifests}),
        "made": max(ended).date().isoformat(),
        "runs": len(own),
        "backbones": len(manifests) - len(own),
        "minutes_of_all_runs": round(sum(m["seconds"] for m in manifests) / 60, 1),
        "minutes_from_first_to_last": round((max(ended) - min(begun)).total_seconds() / 60, 1),
        "settings": settings_of(settings.preset, {m["settings"]["variant"] for m in manifests}, **data),
        "differs": sorted(set(differing)),
    }
    return head | {name: _rounded(value) for name, value in content.items()}


def _commit(git: dict[str, Any]) -> str:
    return "unknown" if git["commit"] is None else git["commit"][:7] + " with changes" * bool(git["changed"])


def _hardware(about: dict[str, Any]) -> str:
    precision = "bfloat16" if about["bfloat16"] else "float32"
    return f"{about['processor']}, {about['cores']} cores, device {about['device']}, {precision}"


def _rounded(value: Any) -> Any:
    """Convert to plain JSON values; a DataFrame becomes a list of rows, including named index levels."""
    if isinstance(value, pd.DataFrame):
        named = [name for name in value.index.names if name]
        value = (value.reset_index() if named else value).to_dict("records")
    if isinstance(value, dict):
        return {str(k): _rounded(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(v) for v in value]
    if isinstance(value, float):  # includes numpy.float64
        return None if value != value else float(f"{value:.6g}")
    return value.item() if hasattr(value, "item") else value


def stale(content: dict[str, Any]) -> list[str]:
    """Settings in which the current preset differs from a record, one sentence each; empty if none.

    A setting that did not exist when the record was written has its default. Raises SettingsError for a preset or
    variant that no longer exists.
    """
    data = {name: content[name] for name in ("dataset", "name") if name in content}
    made = content["settings"] | {"insightr": with_defaults(content["settings"]["insightr"])}
    today = settings_of(content["preset"], set(made) - {"insightr"}, **data)
    return content.get("differs", []) + [
        f"{variant}: {name} was {made[variant].get(name)!r} and is {today[variant].get(name)!r}"
        for variant in made
        for name in sorted(made[variant].keys() | today[variant].keys())
        if made[variant].get(name) != today[variant].get(name)
    ]


def write(path: Path, content: dict[str, Any]) -> Path:
    """Write JSON with one line per row, which keeps diffs small. Returns the path."""

    def line(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    parts = []
    for name, value in content.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            text = "[\n  " + ",\n  ".join(map(line, value)) + "\n ]"
        elif isinstance(value, dict) and any(isinstance(v, dict) for v in value.values()):
            text = "{\n  " + ",\n  ".join(f"{line(k)}: {line(v)}" for k, v in value.items()) + "\n }"
        else:
            text = line(value)
        parts.append(f" {line(name)}: {text}")
    with files.atomic(path) as temporary:
        temporary.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")
    return path
