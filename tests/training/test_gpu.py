"""Local jobs on different GPUs; without GPUs a command just runs."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from insightr_nb.training import gpu

SHOW = "import os, pathlib, sys; pathlib.Path(sys.argv[1]).write_text(os.environ.get('CUDA_VISIBLE_DEVICES', 'all'))"


@pytest.fixture(autouse=True)
def own_place(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def alone(cards: int, command: list[str]) -> int:
    """The exit code of `main` in a process of its own, which the command takes the place of."""
    script = f"import sys, torch; torch.cuda.device_count = lambda: {cards}; " + (
        f"from insightr_nb.training import gpu; sys.exit(gpu.main({command!r}))"
    )
    return subprocess.run([sys.executable, "-c", script], check=False).returncode


def test_without_gpus_the_command_runs_and_returns_its_exit_code(tmp_path):
    assert alone(0, [sys.executable, "-c", SHOW, str(tmp_path / "seen")]) == 0
    assert (tmp_path / "seen").read_text() == "all"
    assert alone(0, [sys.executable, "-c", "raise SystemExit(7)"]) == 7


def test_given_cuda_visible_devices_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    assert alone(2, [sys.executable, "-c", SHOW, str(tmp_path / "seen")]) == 0
    assert (tmp_path / "seen").read_text() == "5"


def written(path: Path) -> bool:
    """Whether a job has said which card it sees; its file is there before its text is."""
    return path.exists() and bool(path.read_text(encoding="utf-8"))


def test_three_jobs_on_two_gpus(tmp_path, monkeypatch):
    """Two run side by side on different cards; the third waits for one of them."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    wait = SHOW + "; import time\nwhile not pathlib.Path(sys.argv[2]).exists(): time.sleep(0.01)"
    jobs = []
    for i in range(3):
        command = [sys.executable, "-c", wait, str(tmp_path / f"seen{i}"), str(tmp_path / f"go{i}")]
        jobs.append(threading.Thread(target=gpu.main, args=(command,)))
        jobs[-1].start()
        until = time.monotonic() + 20
        while i < 2 and not written(tmp_path / f"seen{i}") and time.monotonic() < until:
            time.sleep(0.01)
    assert {(tmp_path / f"seen{i}").read_text() for i in range(2)} == {"0", "1"}
    time.sleep(0.5)
    assert not (tmp_path / "seen2").exists()
    first = (tmp_path / "seen0").read_text()
    (tmp_path / "go0").touch()
    (tmp_path / "go2").touch()
    jobs[2].join(20)
    assert (tmp_path / "seen2").read_text() == first
    (tmp_path / "go1").touch()
    for job in jobs:
        job.join(20)


def test_as_a_command():
    done = subprocess.run(
        [sys.executable, "-m", "insightr_nb.training.gpu", sys.executable, "-c", "exit(3)"], check=False
    )
    assert done.returncode == 3
