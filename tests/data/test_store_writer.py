"""Writing a store: kills at any moment, and a full disk."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from insightr_nb import files
from insightr_nb.data import prepare, store_writer
from insightr_nb.errors import DataError
from insightr_nb.settings import DataSettings

CODE = """
import sys
from insightr_nb.data import prepare
from insightr_nb.settings import DataSettings
prepare._BLOCK = 8
if __name__ == "__main__":
    prepare.prepare(DataSettings(size=32, train_images=160, test_images=40, folds=2), workers=1)
"""


def store_files(outputs: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in sorted((outputs / "data" / "synthetic-32").iterdir())}


def test_a_killed_preparation_makes_the_same_store(tmp_path):
    """Killed repeatedly, each time a little later, until it finishes."""
    script = tmp_path / "prepare_it.py"
    script.write_text(CODE)

    def start(outputs: Path) -> subprocess.Popen:
        environment = os.environ | {"INSIGHTR_OUTPUTS": str(outputs), "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.Popen(
            [sys.executable, script], env=environment, start_new_session=True, stderr=subprocess.DEVNULL
        )

    def lines() -> int:  # the folder gets its final name at the end, also between two of these steps
        try:
            return len(progress.read_text().splitlines())
        except FileNotFoundError:
            return 0

    assert start(tmp_path / "whole").wait() == 0
    killed = 0
    progress = tmp_path / "killed" / "data" / "synthetic-32.partial" / "progress.csv"
    for attempt in range(20):
        process = start(tmp_path / "killed")
        before = lines()
        while process.poll() is None:  # until it has added some blocks, then a moment more
            time.sleep(0.005)
            if lines() >= before + 40:
                time.sleep(0.013 * attempt)
                break
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            killed += 1
        if process.wait() == 0:
            break
    assert killed >= 2
    assert store_files(tmp_path / "killed") == store_files(tmp_path / "whole")


def test_full_disk_raises_data_error_and_preparation_resumes(own_outputs, in_process, monkeypatch):
    settings = DataSettings(size=32, train_images=16, test_images=8, folds=2)
    monkeypatch.setattr(prepare, "_BLOCK", 10)
    with pytest.MonkeyPatch.context() as patch:
        original = store_writer.append

        def full(partial, size, slots, pixels, lines):
            if slots:
                raise OSError(errno.ENOSPC, "No space left on device")
            return original(partial, size, slots, pixels, lines)

        patch.setattr(store_writer, "append", full)
        with pytest.raises(DataError, match=r"no space left .*synthetic-32.partial: 10 of 24 images .* resumes"):
            prepare.prepare(settings)
    in_process.clear()
    assert len(prepare.prepare(settings).images) == 24
    assert len(in_process) == 14


def test_too_little_space_is_refused_before_preparing(own_outputs, in_process, monkeypatch):
    usage = shutil.disk_usage(own_outputs.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(DataError, match=r"24 images of 32 x 32 px need 0.0 GB, but .* has 0.0 GB free"):
        prepare.prepare(DataSettings(size=32, train_images=16, test_images=8, folds=2))
    assert in_process == []


def test_incomplete_last_line_of_progress_is_dropped(own_outputs, in_process, monkeypatch):
    settings = DataSettings(size=32, train_images=16, test_images=8, folds=2)
    whole = prepare.prepare(settings)
    before = {f.name: f.read_bytes() for f in whole.path.iterdir()}
    shutil.rmtree(whole.path)
    monkeypatch.setattr(prepare, "_BLOCK", 10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_writer, "finish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare.prepare(settings)
    partial = whole.path.with_name("synthetic-32.partial")
    text = (partial / "progress.csv").read_text()
    (partial / "progress.csv").write_text(text[: text.rindex("\t") - 6])  # in the middle of the last line
    with open(partial / "images.npy", "ab") as file:
        file.write(np.full(1000, 7, np.uint8).tobytes())
    in_process.clear()
    again = prepare.prepare(settings)
    assert in_process == ["synthetic:0/23"]
    assert {f.name: f.read_bytes() for f in again.path.iterdir()} == before


def mended(csv_settings, tmp_path):
    """A preparation in which image 3 was unreadable and has been replaced: it is appended last."""
    colours = {f"{i}.png": (200, 10 * i, 5) for i in range(10)}
    table = "image,label\n" + "".join(f"{name},{i % 2}\n" for i, name in enumerate(colours))
    settings = csv_settings(table, colours | {"3.png": b"not a picture"}, preparation="resize")
    with pytest.raises(DataError, match="more than 1%"):
        prepare.prepare(settings)
    cv2.imwrite(str(tmp_path / "raw" / "3.png"), np.full((20, 20, 3), (5, 30, 200), np.uint8))
    return settings


KILLS = {
    "before the images are in order": (store_writer, "_in_order"),
    "before meta.json": (files, "write_json"),
    "before it gets its name": (store_writer, "publish"),
    "while the images change places": (os, "replace"),
    "while the folder changes its name": (Path, "rename"),
}


@pytest.mark.parametrize("kill", KILLS)
def test_kill_while_finishing_loses_and_damages_nothing(csv_settings, own_outputs, in_process, tmp_path, kill):
    settings = mended(csv_settings, tmp_path)
    module, name = KILLS[kill]
    with pytest.MonkeyPatch.context() as patch:
        original = getattr(module, name)

        def killed(*arguments, **more):
            if name == "replace" and not str(arguments[0]).endswith("images-sorted.npy"):
                return original(*arguments, **more)
            if name == "write_json" and Path(arguments[0]).name != "meta.json":
                return original(*arguments, **more)
            raise KeyboardInterrupt

        patch.setattr(module, name, killed)
        with pytest.raises(KeyboardInterrupt):
            prepare.prepare(settings)
    store = prepare.prepare(settings)
    assert store.images[:, 16, 16, 1].tolist() == [10 * i for i in range(10)]
    assert sorted(f.name for f in store.path.iterdir()) == [
        "doubtful.csv",
        "duplicates.csv",
        "images.npy",
        "meta.json",
        "rejected.csv",
        "sources.csv",
        "table.csv",
    ]
    assert [p.name for p in store.path.parent.iterdir() if not p.name.startswith(".")] == ["mine-32"]


def test_progress_without_images_is_discarded(own_outputs, in_process, monkeypatch):
    """This state is left by a kill while the folder is being deleted."""
    settings = DataSettings(size=32, train_images=16, test_images=8, folds=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_writer, "finish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare.prepare(settings)
    (prepare.store_path(settings).with_name("synthetic-32.partial") / "images.npy").unlink()
    in_process.clear()
    store = prepare.prepare(settings)
    assert len(in_process) == 24
    assert (np.asarray(store.images).reshape(24, -1).max(axis=1) > 0).all()


def test_files_that_changed_are_read_again_when_a_store_is_overwritten(csv_settings, own_outputs, in_process, tmp_path):
    settings = mended(csv_settings, tmp_path)
    in_process.clear()
    prepare.prepare(settings, overwrite=True)
    assert len(in_process) == 10
