"""Commands of `make`, in folders whose names need quoting."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT


@pytest.mark.parametrize("name", ["plain", "two  words", "an editor's", "$HOME"])
def test_outputs_go_where_they_are_asked_for(tmp_path, name):
    """The recipe of notebook 02 with a papermill that notes what it was given."""
    folder = tmp_path / name
    bin_folder = folder / ".venv/bin"
    bin_folder.mkdir(parents=True)
    for file in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / file, folder)
    (folder / ".venv/.ready").touch()
    note = folder / "given.txt"
    (bin_folder / "papermill").write_text('#!/bin/sh\nprintf "%s\\n" "$@" > given.txt\n')
    (bin_folder / "papermill").chmod(0o755)
    home = [("~", tmp_path), ("~/x", tmp_path / "x")]
    for given, out in [(str(folder / "out"), folder / "out"), *home, (None, Path("outputs"))]:
        environment = {k: v for k, v in os.environ.items() if k != "INSIGHTR_OUTPUTS"}
        environment |= {"HOME": str(tmp_path)} | ({"INSIGHTR_OUTPUTS": given} if given else {})
        done = subprocess.run(["make", "demo-model"], cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert str(out / "notebooks/02_model.ipynb") in note.read_text().splitlines()


@pytest.mark.parametrize("given", ["my outputs", "~/x", "/absolute/it's", None])
def test_jupyterlab_writes_where_make_would(tmp_path, given):
    """Kernels of JupyterLab start in the folder of their notebook, so relative paths must become absolute."""
    bin_folder = tmp_path / ".venv/bin"
    bin_folder.mkdir(parents=True)
    for file in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / file, tmp_path)
    (tmp_path / ".venv/.ready").touch()
    scripts = {
        "python": f'#!/bin/sh\nexec "{sys.executable}" "$@"\n',
        "jupyter": '#!/bin/sh\nprintf "%s\\n" "$INSIGHTR_OUTPUTS" "$@" > given.txt\n',
    }
    for name, text in scripts.items():
        (bin_folder / name).write_text(text)
        (bin_folder / name).chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if k != "INSIGHTR_OUTPUTS"}
    environment |= {"HOME": str(tmp_path)} | ({"INSIGHTR_OUTPUTS": given} if given else {})
    done = subprocess.run(
        ["make", "lab", "LAB=--no-browser"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    outputs, *words = (tmp_path / "given.txt").read_text().splitlines()
    expect = {"my outputs": tmp_path / "my outputs", "~/x": tmp_path / "x", None: ROOT / "outputs"}
    assert Path(outputs) == expect.get(given, Path(given or ""))
    assert words[:2] == ["lab", "--ServerApp.root_dir=."]  # outputs/ opens as well as notebooks/
    assert any('"websocket_max_message_size": 104857600' in word for word in words)  # uploads of 10 MB without it
    assert words[-1] == "--no-browser"
    assert ("--allow-root" in words) == (os.getuid() == 0)  # Jupyter does not start as root without it
