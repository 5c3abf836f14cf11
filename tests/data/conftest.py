"""Shared by the tests of the data side: outputs of one test, small data sets and stores, preparation in one process."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from data.stores import SETTINGS

from insightr_nb.data import prepare
from insightr_nb.settings import DataSettings


@pytest.fixture
def own_outputs(tmp_path, monkeypatch) -> Path:
    """An outputs folder for one test."""
    folder = tmp_path / "outputs"
    monkeypatch.setenv("INSIGHTR_OUTPUTS", str(folder))
    return folder


@pytest.fixture
def csv_settings(tmp_path):
    """Makes a csv data set: the text of its table, and its files; returns DataSettings for it.

    files: names (the files then hold their name), or a dict of names to solid RGB colours or bytes.
    """

    def make(text: str | bytes, files=(), /, *, folder: str = "raw", **settings) -> DataSettings:
        root = tmp_path / folder
        root.mkdir(exist_ok=True)
        for name in files:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            content = files[name] if isinstance(files, dict) else name.encode()
            if isinstance(content, tuple):
                content = cv2.imencode(".png", np.full((20, 20, 3), content[::-1], np.uint8))[1].tobytes()
            path.write_bytes(content)
        (root / "labels.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
        return DataSettings(**{"dataset": "csv", "name": "mine", "folder": str(root), "size": 32} | settings)

    return make


@pytest.fixture
def in_process(monkeypatch) -> list[str]:
    """`prepare` without worker processes; the list has the source of every image that was worked on, in order."""
    worked: list[str] = []

    class Pool:
        def __init__(self, *_, **__):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return False

        def map(self, function, jobs, chunksize=1):
            for job in jobs:
                worked.append(job[0])
                yield function(job)

    monkeypatch.setattr(prepare, "ProcessPoolExecutor", Pool)
    return worked


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> prepare.Store:
    """24 synthetic photographs, prepared by two worker processes; opened to read only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INSIGHTR_OUTPUTS", str(tmp_path_factory.mktemp("store")))
        return prepare.prepare(SETTINGS, workers=2)


@pytest.fixture
def copy(store, own_outputs) -> Path:
    """A store of SETTINGS to damage."""
    path = prepare.store_path(SETTINGS)
    shutil.copytree(store.path, path)
    return path
