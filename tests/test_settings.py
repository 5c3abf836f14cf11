"""Settings of a run: conversion, checks, the backbone run, and the scale of labels."""

import pytest

from insightr_nb.errors import SettingsError
from insightr_nb.settings import VARIANTS, RunSettings


def test_papermill_hands_over_text_for_numbers():
    s = RunSettings.from_parameters(
        fold="2", overrides='{"training.lr_block": "1e-5", "losses.k": 1.0}', tag="a", overwrite="true"
    )
    assert (s.fold, s.training.lr_block, s.losses.k, s.overwrite) == (2, 1e-5, 1, True)


@pytest.mark.parametrize(
    ("parameters", "fragments"),
    [
        ({"fodl": 2}, ["'fodl'", "did you mean 'fold'"]),
        ({"fold": 5}, ["fold = 5", "0 to 4"]),
        ({"fold": -1}, ["fold = -1", "at least 0"]),
        ({"fold": 1.5}, ["fold = 1.5", "integer"]),
        ({"fold": "two"}, ["fold = 'two'", "number"]),
        ({"fold": True}, ["fold = True", "number"]),
        ({"preset": "papr"}, ["'papr'", "'paper'"]),
        ({"variant": "insight"}, ["'insight'", "'insightr'"]),
        ({"labels": "categoric"}, ["'categoric'", "'categorical'"]),
        ({"dataset": "eypacs"}, ["dataset = 'eypacs'", "synthetic"]),
        ({"dataset": "csv"}, ["name"]),
        ({"dataset": "csv", "name": "../x"}, ["'../x'", "letters"]),
        ({"seed": 1}, ["tag", "seed = 1"]),
        ({"batch_size": 8}, ["tag", "batch_size"]),
        ({"batch_size": 0, "tag": "a"}, ["batch_size = 0", "at least 1"]),
        ({"overrides": {"k": 1}, "tag": "a"}, ["'k'", "did you mean 'losses.k'"]),
        ({"overrides": {"losses.k": 0}, "tag": "a"}, ["losses.k = 0", "at least 1"]),
        ({"overrides": {"losses.delta": "nan"}, "tag": "a"}, ["losses.delta", "finite"]),
        ({"overrides": "{losses", "tag": "a"}, ["JSON"]),
        ({"overrides": [1], "tag": "a"}, ["mapping"]),
        ({"overrides": {"training.warm_up_epochs": 7}, "tag": "a"}, ["warm_up_epochs = 7", "joint_epochs = 6"]),
        ({"tag": "a/b"}, ["'a/b'"]),
        ({"overwrite": "yes"}, ["overwrite = 'yes'", "true or false"]),
        ({"tag": ""}, ["tag = ''"]),
        ({"tag": ".."}, ["tag = '..'"]),
        ({"tag": 20240115}, ["tag = 20240115", "use -r tag to pass"]),  # what papermill makes of 2024_01_15
        ({"tag": 1e5}, ["tag = 100000.0", "-r tag"]),
        ({"dataset": "csv", "name": 2019}, ["name = 2019", "-r name"]),
        ({"name": "mine"}, ["name = 'mine'", "only valid for dataset = 'csv'"]),
        ({"data_folder": "some/where"}, ["data_folder = 'some/where'", "only valid for dataset = 'csv'"]),
        ({"overrides": {"data.name": "x"}, "tag": "a"}, ["'data.name'", "parameter name"]),
        ({"variant": "backbone", "overrides": {"training.pretrain_epochs": 0}, "tag": "a"}, ["nothing to train"]),
    ],
)
def test_a_bad_parameter_is_named(parameters, fragments):
    parameters = {"preset": "paper" if "warm_up" in str(parameters) else "demo"} | parameters
    if "warm_up" in str(parameters):
        parameters["overrides"] = {"training.warm_up_epochs": 7, "training.joint_epochs": 6}
    with pytest.raises(SettingsError) as caught:
        RunSettings.from_parameters(**parameters)
    for fragment in fragments:
        assert fragment in str(caught.value)


def test_variants_share_the_backbone_of_their_fold():
    backbones = {RunSettings.from_parameters(variant=v, fold=1).backbone_run() for v in VARIANTS if v != "backbone"}
    assert len(backbones) == 1
    (backbone,) = backbones
    assert (backbone.variant, backbone.fold, backbone.tag) == ("backbone", 1, None)
    sweep = RunSettings.from_parameters(fold=1, overrides={"losses.k": 1}, tag="k1")
    assert sweep.backbone_run() == backbone
    assert [s.variant for s in sweep.steps()] == ["backbone", "insightr"]


def test_a_run_that_changes_the_pretraining_has_a_backbone_of_its_own():
    other = RunSettings.from_parameters(overrides={"training.pretrain_lr": 1e-4, "losses.k": 1}, tag="slow")
    backbone = other.backbone_run()
    assert backbone.tag == "slow"
    assert backbone.training.pretrain_lr == 1e-4
    assert backbone.losses.k == 3  # of the preset: it has no part in the pre-training
    until = RunSettings.from_parameters(overrides={"model.backbone_until": "layer1"}, tag="locality-layer1")
    assert (until.backbone_run().tag, until.backbone_run().model.backbone_until) == ("locality-layer1", "layer1")
    assert RunSettings.from_parameters(seed=3, tag="s3").backbone_run().tag == "s3"
    small = RunSettings.from_parameters(overrides={"data.size": 96}, tag="small")
    assert (small.backbone_run().tag, small.backbone_run().data.size) == ("small", 96)
    assert RunSettings.from_parameters(dataset="csv", name="eyes", data_folder="x").backbone_run().tag is None
    assert RunSettings.from_parameters(overrides={"training.pretrain_epochs": 0}, tag="t").backbone_run() is None


def test_as_dict_leaves_out_device_and_overwrite():
    a = RunSettings.from_parameters(device="cpu").as_dict()
    assert a == RunSettings.from_parameters(device="auto", overwrite=True).as_dict()
