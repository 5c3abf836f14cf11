"""Local jobs on different GPUs; without GPUs a command just runs."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from insightr_nb.errors import SettingsError
from insightr_nb.training import gpu

SHOW = "import os, pathlib, sys; pathlib.Path(sys.argv[1]).write_text(os.environ.get('CUDA_VISIBLE_DEVICES', 'all'))"


@pytest.fixture(autouse=True)
def own_place(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("INSIGHTR_JOBS_PER_CARD", raising=False)


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


@pytest.mark.parametrize("given", ["5", "GPU-8932f937", "", "-1", "0,0"])
def test_one_listed_gpu_or_none_is_kept(tmp_path, monkeypatch, given):
    """SLURM gives a job one; an empty list, -1 and a repeated entry hide all."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    visible = 0 if given in ("", "-1", "0,0") else 1
    assert alone(visible, [sys.executable, "-c", SHOW, str(tmp_path / "seen")]) == 0
    assert (tmp_path / "seen").read_text() == given
    assert list(tmp_path.glob("*.lock")) == []


@pytest.mark.parametrize(
    ("listed", "count", "expect"),
    [
        (None, 2, ["0", "1"]),
        (None, 0, []),
        ("1,3", 2, ["1", "3"]),
        (" 1 , 3 ", 2, ["1", "3"]),
        ("0,1,-1,2", 3, ["0", "1"]),
        ("0,7", 1, ["0"]),  # there is no GPU 7
        ("0,0", 2, []),
        ("", 0, []),
        ("GPU-8932f937,GPU-1b2c3d4e", 2, ["GPU-8932f937", "GPU-1b2c3d4e"]),
        ("MIG-6f5e,MIG-7a8b", 1, ["MIG-6f5e", "MIG-7a8b"]),  # CUDA shows a process the first only
        ("MIG-6f5e", 0, []),
    ],
)
def test_visible_cards_follow_cudas_rules(monkeypatch, listed, count, expect):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    if listed is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    assert gpu.visible_cards() == expect
    assert gpu.capacity() == len(expect)
    monkeypatch.setenv("INSIGHTR_JOBS_PER_CARD", "4")
    assert gpu.capacity() == 4 * len(expect)


@pytest.mark.parametrize("given", ["0", "-2", "two", "1.5"])
def test_a_wrong_number_of_jobs_per_card_is_named(monkeypatch, given):
    monkeypatch.setenv("INSIGHTR_JOBS_PER_CARD", given)
    message = f"INSIGHTR_JOBS_PER_CARD = '{given}': must be a whole number, 1 or more"
    with pytest.raises(SettingsError, match=message):
        gpu.jobs_per_card()
    done = subprocess.run(
        [sys.executable, "-m", "insightr_nb.training.gpu", sys.executable, "-c", ""], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == message + "\n"


def written(path: Path) -> bool:
    """Whether a job has said which card it sees; its file is there before its text is."""
    return path.exists() and bool(path.read_text(encoding="utf-8"))


def start(tmp_path: Path, number: int) -> threading.Thread:
    """A job that writes the card it sees to seen<number> and ends when go<number> is there."""
    wait = SHOW + "; import time\nwhile not pathlib.Path(sys.argv[2]).exists(): time.sleep(0.01)"
    command = [sys.executable, "-c", wait, str(tmp_path / f"seen{number}"), str(tmp_path / f"go{number}")]
    job = threading.Thread(target=gpu.main, args=(command,))
    job.start()
    return job


def seen(tmp_path: Path, number: int) -> str:
    until = time.monotonic() + 20
    while not written(tmp_path / f"seen{number}") and time.monotonic() < until:
        time.sleep(0.01)
    return (tmp_path / f"seen{number}").read_text(encoding="utf-8")


def end(tmp_path: Path, jobs: dict[int, threading.Thread]) -> None:
    for number, job in jobs.items():
        (tmp_path / f"go{number}").touch()
        job.join(20)


@pytest.mark.parametrize(("listed", "cards"), [(None, {"0", "1"}), ("5,GPU-7f", {"5", "GPU-7f"})])
def test_three_jobs_on_two_gpus(tmp_path, monkeypatch, listed, cards):
    """Two run side by side on different cards, of those listed; the third waits for one of them."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    if listed:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    jobs = {}
    for number in range(2):
        jobs[number] = start(tmp_path, number)
        seen(tmp_path, number)
    assert {seen(tmp_path, number) for number in range(2)} == cards
    jobs[2] = start(tmp_path, 2)
    time.sleep(0.5)
    assert not (tmp_path / "seen2").exists()
    (tmp_path / "go0").touch()
    assert seen(tmp_path, 2) == seen(tmp_path, 0)
    end(tmp_path, jobs)


def test_several_jobs_share_a_card_when_every_card_has_one(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("INSIGHTR_JOBS_PER_CARD", "2")
    jobs, cards = {}, []
    for number in range(4):
        jobs[number] = start(tmp_path, number)
        cards.append(seen(tmp_path, number))
    assert sorted(cards[:2]) == sorted(cards[2:]) == ["0", "1"]
    jobs[4] = start(tmp_path, 4)
    time.sleep(0.5)
    assert not (tmp_path / "seen4").exists()
    end(tmp_path, jobs)


def test_jobs_with_overlapping_lists_exclude_each_other(tmp_path, monkeypatch):
    """Card 1 is the second of one list and the first of the other."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    lock = FileLock(gpu._lock_path("1", 0))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,2")
    with lock:
        assert gpu.main([sys.executable, "-c", SHOW, str(tmp_path / "seen")]) == 0
    assert (tmp_path / "seen").read_text() == "2"


def test_every_user_has_lock_files_of_their_own(tmp_path, monkeypatch):
    for user in (1000, 1001):
        monkeypatch.setattr(os, "getuid", lambda user=user: user)
        expect = tmp_path / f"insightr_nb-{user}-card-MIG-GPU-7f_1_0-2.lock"
        assert gpu._lock_path("MIG-GPU-7f/1/0", 2) == expect


def test_without_lock_files_the_command_runs_all_the_same(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    (tmp_path / "file").touch()  # not a folder: nothing can be created in it, not even by root
    monkeypatch.setattr(gpu.tempfile, "gettempdir", lambda: str(tmp_path / "file"))
    assert gpu.main([sys.executable, "-c", SHOW, str(tmp_path / "seen")]) == 0
    assert (tmp_path / "seen").read_text() in ("0", "1")
    assert "without a lock" in capsys.readouterr().err


def test_a_lock_file_that_cannot_be_created_leaves_the_other_cards(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    gpu._lock_path("0", 0).mkdir()  # in place of the file
    assert gpu.main([sys.executable, "-c", SHOW, str(tmp_path / "seen")]) == 0
    assert (tmp_path / "seen").read_text() == "1"
    assert capsys.readouterr().err == ""


def test_as_a_command(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # on a machine with a card, leave it alone
    done = subprocess.run(
        [sys.executable, "-m", "insightr_nb.training.gpu", sys.executable, "-c", "exit(3)"], check=False
    )
    assert done.returncode == 3
