"""Timing as ratios of two alternatives that are run in turn, because the speed of a machine varies."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Row:
    """One line of the table: `value` is the median over the pairs, low and high its quartiles."""

    what: str
    against: str
    value: float
    low: float
    high: float
    unit: str  # "x" for a ratio of speeds
    detail: str = ""

    def as_dict(self) -> dict:
        return asdict(self)


def compare(what: str, against: str, ours: Callable, theirs: Callable, items: int, pairs: int = 7) -> Row:
    """Compare the throughput of `ours` with that of `theirs`, from alternating runs after a warm-up of each."""
    ours(), theirs()
    taken: dict[Callable, list[float]] = {ours: [], theirs: []}
    for pair in range(pairs):
        for function in (ours, theirs) if pair % 2 else (theirs, ours):
            taken[function].append(seconds(function))
    ratios = np.array(taken[theirs]) / np.array(taken[ours])
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    rates = [items / np.median(taken[f]) for f in (ours, theirs)]
    detail = f"{rates[0]:.1f} against {rates[1]:.1f} a second, {pairs} pairs"
    return Row(what, against, float(middle), float(low), float(high), "x", detail)


def seconds(function: Callable) -> float:
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def value(what: str, numbers: Iterable[float], unit: str, against: str = "", detail: str = "") -> Row:
    """Return a row for measurements other than ratios: their median and quartiles."""
    low, middle, high = np.quantile(np.fromiter(numbers, float), [0.25, 0.5, 0.75])
    return Row(what, against, float(middle), float(low), float(high), unit, detail)


def in_process(script: str, raw: Path) -> dict[str, Any]:
    """Run a script with the folder `raw` as its argument in a process of its own, and parse its last line as JSON.

    The script is stored beside `raw`, and its outputs go to `out` there.
    """
    path = raw.with_name("script.py")
    path.write_text(script, encoding="utf-8")
    places = {"INSIGHTR_OUTPUTS": str(raw.with_name("out")), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, str(path), str(raw)], capture_output=True, text=True, check=True, env=os.environ | places
    )
    return json.loads(done.stdout.splitlines()[-1])


def markdown(rows: list[Row], about: str) -> str:
    lines = [about, "", "| what | against | median | quartiles | |", "|---|---|---|---|---|"]
    for r in rows:
        lines.append(f"| {r.what} | {r.against} | {r.value:.2f} {r.unit} | {r.low:.2f} to {r.high:.2f} | {r.detail} |")
    return "\n".join(lines) + "\n"
