"""Sweeps: their runs, tags and settings."""

import pytest
import torch
from analysis.handmade import SETTINGS, make

from insightr_nb.analysis import findings, sweeps
from insightr_nb.analysis.geometry import grid
from insightr_nb.errors import SettingsError
from insightr_nb.model.network import INSightRNet
from insightr_nb.parameters import TableSettings


@pytest.mark.usefixtures("handmade_runs")
def test_sweep_runs_are_tagged_overrides_and_found_by_their_tags():
    wanted = sweeps.sweep(SETTINGS, "prototypes", [5, 20], [0, 1])
    assert [(s.tag, s.fold, s.model.prototypes) for s in wanted] == [
        ("prototypes-5", 0, 5),
        ("prototypes-5", 1, 5),
        ("prototypes-20", 0, 20),
        ("prototypes-20", 1, 20),
    ]
    (small,) = sweeps.sweep(SETTINGS, "epsilon", [1e-5], [0])
    assert (small.tag, small.model.epsilon) == ("epsilon-1e-05", 1e-5)
    same = SETTINGS.run("insightr", 0).model.prototypes
    assert sweeps.sweep(SETTINGS, "prototypes", [same], [0]) == [SETTINGS.run("insightr", 0)]  # not trained twice
    for settings in (*wanted, small):
        make(settings, split=f"fold {settings.fold}")
    frame = findings.sweeps(SETTINGS)
    assert frame[["parameter", "value", "fold"]].values.tolist() == [
        ["epsilon", 1e-5, 0],
        ["prototypes", 5, 0],
        ["prototypes", 5, 1],
        ["prototypes", 20, 0],
        ["prototypes", 20, 1],
    ]
    assert frame["mae"].tolist() == [0.25] * 5
    make(SETTINGS.run("insightr", 0, overrides={"losses.k": 2}, tag="k-trial"), split="fold 0")  # a tag of one's own
    make(SETTINGS.run("insightr", 0, overrides={"losses.k": 2, "losses.psd": 0}, tag="k-two"), split="fold 0")
    assert findings.sweeps(SETTINGS)[["parameter", "value"]].values.tolist()[1] == ["k", 2.0]
    edited = make(SETTINGS.run("insightr", 1, overrides={"losses.k": 2}, tag="k-edited"), split="fold 1")
    edited.update(edited={"from": "outputs/runs/fold1-k-2"})
    assert len(findings.sweeps(SETTINGS)) == 6  # neither two overrides nor an edited run are a sweep
    make(SETTINGS.run("insightr", 0), error=0.5, split="fold 0")  # the preset's own values: a point of every curve
    frame = findings.sweeps(SETTINGS)
    own = frame[frame["mae"] == 0.5][["parameter", "value", "fold"]].values.tolist()
    settings = SETTINGS.run("insightr", 0)
    assert own == [["epsilon", settings.model.epsilon, 0], ["k", settings.losses.k, 0], ["prototypes", same, 0]]
    with pytest.raises(SettingsError, match="sweep over 'prototype': did you mean 'prototypes'"):
        sweeps.sweep(SETTINGS, "prototype", [5], [0])


@pytest.mark.usefixtures("handmade_runs")
def test_the_value_of_a_variant_is_not_trained_twice():
    """Weight 0 of the cluster loss is the variant no_cluster, in the runs to make and in the finished ones."""
    own = SETTINGS.run("insightr", 0).losses.cluster
    none, other, same = sweeps.sweep(SETTINGS, "cluster", [0, 7, own], [0])
    assert none == SETTINGS.run("no_cluster", 0)
    assert (other.variant, other.tag) == ("insightr", "cluster-7")
    assert same == SETTINGS.run("insightr", 0)
    make(other, error=0.1, split="fold 0")
    assert findings.sweeps(SETTINGS)["value"].tolist() == [7]
    make(none, error=0.2, split="fold 0")
    make(SETTINGS.run("no_cluster_no_psd", 0), error=0.3, split="fold 0")  # changes two settings
    make(SETTINGS.run("no_cluster", 1), error=0.4, split="fold 1")  # a fold without the sweep
    frame = findings.sweeps(SETTINGS)
    assert frame[["value", "fold"]].values.tolist() == [[0, 0], [7, 0]]
    assert frame["mae"].tolist() == pytest.approx([0.2, 0.1])


@pytest.mark.parametrize(("value", "stride", "sees"), [("layer1", 4, 55), ("layer2", 2, 107), ("layer3", 1, 227)])
def test_locality_sweep_keeps_the_grid_and_shrinks_the_receptive_field(value, stride, sees):
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
def test_localities_are_the_layers_with_9_x_9_cells(preset, layers):
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
