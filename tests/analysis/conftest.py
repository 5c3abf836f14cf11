"""Shared by the tests of analysis: the smoke run opened once, and a folder for runs made by hand."""

import matplotlib.pyplot as plt
import pytest


@pytest.fixture(scope="session")
def loaded(smoke_run):
    from insightr_nb.analysis.loaded_run import load_run

    return load_run(smoke_run)


@pytest.fixture
def handmade_runs(tmp_path, monkeypatch):
    """An empty outputs folder for the runs of `analysis.handmade`."""
    monkeypatch.setenv("INSIGHTR_OUTPUTS", str(tmp_path))


@pytest.fixture
def closing():
    """Close the figures of a test, since pyplot keeps them open."""
    yield
    plt.close("all")
