"""Shared by the tests of the explorer."""

import shutil

import pytest

from insightr_nb import files
from insightr_nb.runs import Run


@pytest.fixture
def copied(smoke_run, tmp_path, monkeypatch):
    """A copy of the outputs with one run, to damage."""
    source = files.outputs_root()
    for part in ("data/synthetic-64", smoke_run.path.relative_to(source)):
        shutil.copytree(source / part, tmp_path / part)
    monkeypatch.setenv("INSIGHTR_OUTPUTS", str(tmp_path))
    return Run(tmp_path / smoke_run.path.relative_to(source))
