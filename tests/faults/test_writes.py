"""Every write of a run fails once: no file is damaged, no finished epoch is lost, the next attempt finishes."""

import errno
import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
import safetensors.torch

from insightr_nb import files
from insightr_nb.analysis.evaluation import evaluate
from insightr_nb.data.prepare import prepare
from insightr_nb.errors import RunError
from insightr_nb.runs import Run, run_directory
from insightr_nb.settings import RunSettings
from insightr_nb.training import checkpoint
from insightr_nb.training.trainer import train

SHORT = {  # two epochs and one projection, so that every write can be tried
    "training.pretrain_epochs": 0,
    "training.cycles": 1,
    "training.joint_epochs": 1,
    "training.warm_up_epochs": 0,
    "training.last_layer_epochs": 1,
}
SETTINGS = RunSettings.from_parameters(preset="smoke", overrides=SHORT, tag="short")
KINDS = ("no space", "permission", "interrupted rename")


class Disk:
    """Counts the files that get their name, and lets one of them fail."""

    def __init__(self, patch, kind: str | None = None, number: int = 0):
        self.kind, self.number, self.names, self.armed = kind, number, [], True
        self.replace, self.fsync = os.replace, os.fsync
        patch.setattr(files.os, "replace", self._replace)
        patch.setattr(files.os, "fsync", self._fsync)

    def _now(self, kind: str) -> bool:
        return self.armed and self.kind == kind and len(self.names) == self.number

    def _fsync(self, descriptor):
        if self._now("no space"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self._now("permission"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        self.fsync(descriptor)

    def _replace(self, source, target):
        if self._now("interrupted rename"):
            self.armed = False
            raise KeyboardInterrupt
        self.replace(source, target)
        self.names.append(Path(target).name)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """An undisturbed run, and the names of its files in the order of writing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INSIGHTR_OUTPUTS", str(tmp_path_factory.mktemp("reference")))
        prepare(SETTINGS.data)
        disk = Disk(patch)
        evaluate(train(SETTINGS), SETTINGS)
        run = Run(run_directory(SETTINGS))
        return run, list(disk.names)


def assert_whole(run: Run) -> int:
    """Every file that has its name can be read; returns the epochs that are kept."""
    if not run.path.exists():
        return 0
    for path in run.path.iterdir():
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".csv":
            pd.read_csv(path)
        elif path.suffix == ".npy":
            run.array(path.name)
        elif path.suffix == ".safetensors":
            safetensors.torch.load_file(path)
        elif path.suffix == ".ckpt":
            return len(checkpoint.load_state(path)["history"])
    return 2 if (run / "model.safetensors").exists() else 0


def test_some_writes_fail_once(reference, tmp_path):
    names = reference[1]
    fail_once(reference, KINDS[0], [names.index("model.safetensors"), names.index("metrics.json")], tmp_path)


@pytest.mark.faults
@pytest.mark.parametrize("kind", KINDS)
def test_every_write_fails_once(reference, kind, tmp_path):
    names = reference[1]
    fail_once(reference, kind, range(len(names)), tmp_path)
    print(f"{kind}: each of {len(names)} writes failed once, 0 damaged files, 0 lost epochs")


def fail_once(reference, kind: str, numbers, tmp_path: Path) -> None:
    whole, names = reference
    for number in numbers:
        outputs = tmp_path / str(number)
        shutil.copytree(whole.root / "data", outputs / "data")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("INSIGHTR_OUTPUTS", str(outputs))
            disk = Disk(patch, kind, number)
            run = Run(run_directory(SETTINGS))
            with pytest.raises(KeyboardInterrupt if kind == KINDS[2] else RunError) as failure:
                evaluate(train(SETTINGS), SETTINGS)
            if kind != KINDS[2]:
                assert "could not be written" in str(failure.value)
            epochs = disk.names.count("history.csv")  # saved before the failure
            assert assert_whole(run) >= epochs, (number, names[number])
            assert run.state != "finished"
            patch.undo()
            patch.setenv("INSIGHTR_OUTPUTS", str(outputs))
            evaluate(train(SETTINGS), SETTINGS)
            ours, theirs = run.manifest["files"], whole.manifest["files"]
            assert [n for n in theirs if n != "history.csv" and ours.get(n) != theirs[n]] == [], (number, names[number])
            assert not list(run.path.glob(".*.tmp"))
        shutil.rmtree(outputs)
