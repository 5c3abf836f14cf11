"""The sweep over where the backbone ends: its settings, and what is measured of its runs."""

import numpy as np
import pytest
import torch

from insightr_nb import runs
from insightr_nb.analysis import lesions, locality, sweeps, table_figures
from insightr_nb.analysis.evaluation import evaluate
from insightr_nb.analysis.geometry import grid
from insightr_nb.analysis.loaded_run import load_run
from insightr_nb.errors import SettingsError
from insightr_nb.model.network import INSightRNet
from insightr_nb.parameters import TableSettings
from insightr_nb.runs import Run
from insightr_nb.training.trainer import train


@pytest.mark.parametrize(("value", "stride", "sees"), [("layer1", 4, 55), ("layer2", 2, 107), ("layer3", 1, 227)])
def test_the_cells_stay_the_same_and_see_less(value, stride, sees):
    (run,) = sweeps.sweep(TableSettings(), "locality", [value], [0])
    assert run.model.block_stride == stride
    torch.manual_seed(0)
    cells = grid(INSightRNet(run.model), run.data.size)
    assert (cells.cells, cells.stride, cells.receptive_field) == (9, 16, sees)
    assert run.tag == (None if value == "layer2" else f"locality-{value}")  # the preset's own is the run of the tables
    assert run.backbone_run().tag == run.tag


@pytest.mark.parametrize(
    ("preset", "layers"),
    [("demo", [1, 2, 3]), ("photo", [1, 2, 3, 4]), ("smoke", [1, 2]), ("paper", [2, 3, 4]), ("released", [])],
)
def test_the_layers_that_make_9_x_9_cells(preset, layers):
    settings = TableSettings(preset=preset)
    assert sweeps.localities(settings) == [f"layer{n}" for n in layers]
    for layer in sweeps.localities(settings):
        (run,) = sweeps.sweep(settings, "locality", [layer], [0])
        side = run.data.size // {"layer1": 4, "layer2": 8, "layer3": 16, "layer4": 32}[layer]
        cells = (side + 2 * run.model.block_padding - run.model.block_kernel) // run.model.block_stride + 1
        assert cells == 9


def test_the_values_are_layers():
    with pytest.raises(SettingsError, match="sweep over locality: did you mean 'layer2'"):
        sweeps.sweep(TableSettings(), "locality", ["layer22"], [0])
    with pytest.raises(SettingsError, match="images of 128 px have no 9 x 9 cells at layer4"):
        sweeps.sweep(TableSettings(), "locality", ["layer4"], [0])
    with pytest.raises(SettingsError, match="sweep over k: 'two' must be a number"):
        sweeps.sweep(TableSettings(), "k", ["two"], [0])


@pytest.fixture(scope="module")
def swept(smoke_run):
    settings = TableSettings(preset="smoke", folds=1, variants="insightr")
    for step in sweeps.sweep(settings, "locality", ["layer2"], [0])[0].steps():
        evaluate(train(step), step)
    return settings


def test_each_run_is_measured(swept, smoke_run):
    frame = locality.locality(swept)
    assert frame["backbone_until"].tolist()[0] == "layer2"
    assert frame["receptive_field"].tolist() == [
        load_run(run).grid.receptive_field
        for run in (Run(runs.run_directory(sweeps.sweep(swept, "locality", ["layer2"], [0])[0])), smoke_run)
    ]
    assert frame["mae"].iloc[1] == smoke_run.metrics["mae"]
    report = lesions.lesion_report(load_run(smoke_run))
    report = report[report["lesion"] == "any"].groupby("method")
    names = {"INSightR-Net, top 1": "pointing_cells", "INSightR-Net, top 1, traced": "pointing_traced"}
    for method, column in names.items():
        assert frame[column].iloc[1] == pytest.approx(report["pointing"].mean()[method])
    assert 0 < frame["pointing_chance"].iloc[1] < 0.2
    assert np.isfinite(frame.select_dtypes("number").to_numpy()).all()


def test_it_is_drawn_with_the_receptive_field_along_the_axis(swept):
    figure = locality.figure(locality.locality(swept))
    assert [axes.get_title() for axes in figure.axes] == [
        "Accuracy",
        "Coherence",
        "Length and variety",
        "Peak on a lesion",
    ]
    ticks = [t.get_text() for t in figure.axes[0].get_xticklabels()]
    assert ticks[0].endswith("\nlayer2")
    table_figures.plt.close(figure)


def test_small_and_large_receptive_fields_in_words(swept):
    frame = locality.locality(swept)
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


def test_without_such_runs_there_is_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("INSIGHTR_OUTPUTS", str(tmp_path))
    assert locality.locality(TableSettings()).empty
