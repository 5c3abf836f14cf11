"""Shared by all tests: a temporary outputs folder, and a finished run of preset `smoke`."""

import shutil
from pathlib import Path

import pytest
from places import IDRID
from visible_cards import hide_cards

from insightr_nb.runs import Run
from insightr_nb.settings import RunSettings


def pytest_collection_modifyitems(items) -> None:
    """The slow files first, so that no worker is left alone with one at the end."""
    slow = (
        "test_notebooks.py",
        "test_readme_commands.py",
        "test_trainer.py",
        "test_snakefile.py",
        "test_photographs.py",
        "test_kill.py",
        "test_archive.py",
        "test_store_writer.py",
        "test_locality.py",
        "test_app.py",
        "test_trust.py",
        "test_writes.py",
    )
    items.sort(key=lambda item: slow.index(item.path.name) if item.path.name in slow else len(slow))


def pytest_collection_finish(session) -> None:
    hide_cards(session.items)


@pytest.fixture(scope="session")
def idrid() -> Path:
    """413 real photographs, 640 x 425, and labels.csv (image, level, dme)."""
    if not IDRID.is_dir():
        pytest.skip(f"{IDRID} is not there")
    return IDRID


@pytest.fixture(scope="session", autouse=True)
def outputs(tmp_path_factory):
    """Everything that the tests write, kernels of notebooks included, goes here."""
    folder = tmp_path_factory.mktemp("outputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INSIGHTR_OUTPUTS", str(folder))
        yield folder


@pytest.fixture(scope="session")
def smoke_settings() -> RunSettings:
    return RunSettings.from_parameters(preset="smoke", variant="insightr")


@pytest.fixture(scope="session")
def smoke_run(outputs, smoke_settings) -> Run:
    """A finished run of `insightr` at preset `smoke`."""
    from insightr_nb.analysis.evaluation import evaluate
    from insightr_nb.training.trainer import train

    for step in smoke_settings.steps():
        run = train(step)
        evaluate(run, step)
    return run


@pytest.fixture
def copied(smoke_run, tmp_path, monkeypatch) -> Run:
    """A copy of the outputs with a finished run to damage or edit."""
    for part in (
        "data/synthetic-64",
        "runs/synthetic/smoke/categorical/backbone/fold0",
        smoke_run.path.relative_to(smoke_run.root),
    ):
        shutil.copytree(smoke_run.root / part, tmp_path / part)
    monkeypatch.setenv("INSIGHTR_OUTPUTS", str(tmp_path))
    return Run(tmp_path / smoke_run.path.relative_to(smoke_run.root))


@pytest.fixture
def trial_run(tmp_path) -> Run:
    """A run that has just started: fold 3 with an override and the tag `trial`."""
    run = Run(tmp_path / "synthetic" / "demo" / "categorical" / "insightr" / "fold3-trial")
    run.path.mkdir(parents=True)
    settings = RunSettings.from_parameters(fold=3, overrides={"losses.k": 1}, tag="trial")
    run.start(settings, {"store": "a"}, {}, resumed=False)
    return run
