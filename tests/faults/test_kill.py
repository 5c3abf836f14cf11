"""A training killed with `kill -9` at any point resumes to bitwise equal results."""

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from faults.child import POINTS
from places import ROOT

from insightr_nb.runs import Run

CHILD = Path(__file__).with_name("child.py")
SHORT = (
    "between the last state and its history",
    "between the projection and its saving",
    "between two files of the evaluation",
)
MOMENTS = 20


@pytest.fixture
def own_outputs(smoke_run, tmp_path) -> Path:
    """Prepared data and a backbone, and no run."""
    for part in ("data/synthetic-64", "runs/synthetic/smoke/categorical/backbone/fold0"):
        shutil.copytree(smoke_run.root / part, tmp_path / part)
    return tmp_path


def child(outputs: Path, *point: str) -> subprocess.Popen:
    environment = os.environ | {"INSIGHTR_OUTPUTS": str(outputs), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, CHILD, *point],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def assert_goes_on_to_the_same(outputs: Path, whole: Run) -> int:
    """Runs it again and compares every file; returns the epochs that were kept."""
    run = Run(outputs / whole.path.relative_to(whole.root))
    assert run.state in ("interrupted", "missing"), run.state
    kept = len(pd.read_csv(run / "history.csv")) if (run / "history.csv").exists() else 0
    again = child(outputs)
    out, problems = again.communicate(timeout=300)
    assert again.returncode == 0, problems[-3000:]
    assert run.state == "finished"
    recorded, expected = run.manifest["files"], whole.manifest["files"]
    assert recorded.keys() == expected.keys()
    assert not run.damage()
    different = [name for name in expected if name != "history.csv" and recorded[name] != expected[name]]
    assert different == []
    ours, theirs = (r.table("history.csv").drop(columns="seconds") for r in (run, whole))
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)
    left = {p.name for p in run.path.parent.rglob("*.tmp")}
    assert not left, left
    return kept


@pytest.mark.parametrize(
    "point", [pytest.param(p, marks=() if p in SHORT else pytest.mark.faults) for p in POINTS], ids=str
)
def test_killed_at_a_named_point(own_outputs, smoke_run, point):
    process = child(own_outputs, point)
    out, problems = process.communicate(timeout=300)
    assert process.returncode == -9, (out, problems[-3000:])
    assert_goes_on_to_the_same(own_outputs, smoke_run)


@pytest.fixture(scope="module")
def duration(smoke_run, tmp_path_factory) -> float:
    """Seconds of an undisturbed run, from the moment that everything is imported."""
    outputs = tmp_path_factory.mktemp("undisturbed")
    for part in ("data/synthetic-64", "runs/synthetic/smoke/categorical/backbone/fold0"):
        shutil.copytree(smoke_run.root / part, outputs / part)
    process = child(outputs)
    assert process.stdout.readline() == "ready\n"
    begin = time.monotonic()
    process.communicate(timeout=300)
    return time.monotonic() - begin


@pytest.mark.faults
@pytest.mark.parametrize("moment", range(MOMENTS))
def test_killed_at_a_random_moment(own_outputs, smoke_run, duration, moment):
    process = child(own_outputs)
    assert process.stdout.readline() == "ready\n"
    time.sleep(duration * random.Random(moment).uniform(0, 0.9))
    process.kill()
    process.communicate()
    finished = Run(own_outputs / smoke_run.path.relative_to(smoke_run.root)).state == "finished"
    if finished:
        pytest.fail("the kill came too late to be one; run it again on a quieter machine")
    kept = assert_goes_on_to_the_same(own_outputs, smoke_run)
    print(f"moment {moment}: {kept} epochs were kept")


def test_a_kernel_that_dies_under_papermill_fails_and_the_same_command_goes_on(own_outputs, smoke_run, tmp_path):
    environment = os.environ | {"INSIGHTR_OUTPUTS": str(own_outputs), "PYTHONPATH": str(ROOT)}
    papermill = [
        sys.executable,
        "-m",
        "papermill",
        "--no-progress-bar",
        "notebooks/03_train.ipynb",
        str(tmp_path / "out.ipynb"),
        "-p",
        "preset",
        "smoke",
    ]
    process = subprocess.Popen(papermill, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    run = Run(own_outputs / smoke_run.path.relative_to(smoke_run.root))
    until = time.monotonic() + 300
    while not (run / "last.ckpt").exists():
        assert process.poll() is None, process.communicate()[0].decode()[-3000:]
        assert time.monotonic() < until
        time.sleep(0.02)
    os.kill(run.manifest["pid"], 9)
    output = process.communicate(timeout=300)[0].decode()
    assert process.returncode != 0, output[-3000:]
    assert "Kernel died" in output
    assert run.state == "interrupted"
    assert_goes_on_to_the_same(own_outputs, smoke_run)
