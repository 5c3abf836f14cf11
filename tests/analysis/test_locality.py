"""Results of the sweep over the last layer of the backbone, and their figure."""

import numpy as np
import pytest

from insightr_nb import runs
from insightr_nb.analysis import lesions, locality, sweeps, table_figures
from insightr_nb.analysis.evaluation import evaluate
from insightr_nb.analysis.loaded_run import load_run
from insightr_nb.parameters import TableSettings
from insightr_nb.runs import Run
from insightr_nb.training.trainer import train


@pytest.fixture(scope="module")
def swept(smoke_run):
    settings = TableSettings(preset="smoke", folds=1, variants="insightr")
    for step in sweeps.sweep(settings, "locality", ["layer2"], [0])[0].steps():
        evaluate(train(step), step)
    return settings


@pytest.fixture(scope="module")
def frame(swept):
    return locality.locality(swept)


def test_locality_has_the_measures_of_each_run(swept, frame, smoke_run):
    assert frame["backbone_until"].tolist()[0] == "layer2"
    assert frame["receptive_field"].tolist() == [
        load_run(run).grid.receptive_field
        for run in (Run(runs.run_directory(sweeps.sweep(swept, "locality", ["layer2"], [0])[0])), smoke_run)
    ]
    assert frame["mae"].iloc[1] == smoke_run.metrics["mae"]
    report = lesions.lesion_report(load_run(smoke_run), limit=locality.IMAGES)
    report = report[report["lesion"] == "any"].groupby(["network", "method"])
    places = {
        "pointing_cells": ("trained", lesions.CELLS),
        "pointing_traced": ("trained", lesions.TRACED),
        "pointing_traced_random": ("random", lesions.TRACED),
    }
    for column, key in places.items():
        assert frame[column].iloc[1] == pytest.approx(report["pointing"].mean()[key])
    assert 0 < frame["pointing_chance"].iloc[1] < 0.2
    assert np.isfinite(frame.select_dtypes("number").to_numpy()).all()


def test_figure_has_the_receptive_field_on_its_x_axis(frame):
    figure = locality.figure(frame)
    assert [axes.get_title() for axes in figure.axes] == [
        "Accuracy",
        "Coherence",
        "Length and variety",
        "Peak on a lesion",
    ]
    ticks = [t.get_text() for t in figure.axes[0].get_xticklabels()]
    assert ticks[0].endswith("\nlayer2")
    table_figures.plt.close(figure)


def test_locality_is_empty_without_finished_runs(monkeypatch, tmp_path):
    monkeypatch.setenv("INSIGHTR_OUTPUTS", str(tmp_path))
    assert locality.locality(TableSettings()).empty


def test_small_and_large_receptive_fields_in_words(frame):
    small, large = frame["mae"]
    fields = frame["receptive_field"].tolist()
    text = locality.describe(frame)
    assert text.startswith(
        f"From a receptive field of {fields[0]} px to one of {fields[1]} px, the MAE goes from {small:.3f}"
    )
    assert "on a lesion" in text
    assert "on a lesion" not in locality.describe(frame.drop(columns="pointing_traced"))
    table = locality.readable(frame)
    assert table["MAE"].tolist() == [round(small, 3), round(large, 3)]
    assert table.index.get_level_values("receptive field (px)").tolist() == fields
