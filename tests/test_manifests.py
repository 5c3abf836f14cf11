"""Manifests of runs: what they record, and whether two runs can be compared."""

import subprocess
import sys

import pytest

from insightr_nb import files, manifests, runs
from insightr_nb.errors import RunError
from insightr_nb.runs import Run
from insightr_nb.settings import RunSettings
from insightr_nb.training.checkpoint import settings_of


@pytest.mark.parametrize(
    ("variant", "name", "decides"),
    [
        ("insightr", "losses.cluster", True),
        ("insightr", "training.baseline_lr", False),
        ("baseline", "losses.cluster", False),
        ("baseline", "training.baseline_lr", True),
        ("backbone", "losses.cluster", False),
        ("backbone", "training.baseline_lr", False),
        ("backbone", "training.pretrain_lr", True),
    ],
)
def test_differences_ignore_settings_that_do_not_affect_the_variant(tmp_path, variant, name, decides):
    plain = RunSettings.from_parameters(variant=variant)
    changed = RunSettings.from_parameters(variant=variant, overrides={name: 0.125}, tag="x").as_dict() | {"tag": None}
    run = Run(tmp_path)
    run.start(plain, {"store": "a"}, {}, resumed=False)
    different = manifests.differences(run.manifest, changed, {"store": "a"})
    assert [text.split(" was ")[0] for text in different] == ([name] if decides else [])


def test_the_sessions_of_a_manifest():
    """Older manifests have the hardware of the last session only, the oldest and those of tests none."""
    sessions = [{"started": "a", "hardware": {"device": "cpu"}}, {"started": "b", "hardware": {"device": "H100"}}]
    assert manifests.sessions({"hardware": {"device": "H100"}, "started": "a", "sessions": sessions}) == sessions
    old = {"hardware": {"device": "cpu", "threads": 2}, "started": "a"}
    assert manifests.sessions(old) == [{"started": "a", "hardware": {"device": "cpu", "threads": 2}}]
    assert manifests.sessions({"state": "running"}) == [{"started": None, "hardware": {}}]
    assert manifests.sessions({}) == []


@pytest.mark.parametrize(
    ("name", "value", "expect"),
    [
        ("device", "NVIDIA H100", ["device was 'cpu', is now 'NVIDIA H100'"]),
        ("processor", "EPYC", ["processor was 'Xeon', is now 'EPYC'"]),
        ("bfloat16", True, ["bfloat16 was False, is now True"]),
        ("threads", 8, []),  # a resumed run keeps them where it can
        ("driver", "580.65.06", []),  # which older manifests do not have
    ],
)
def test_hardware_changes(name, value, expect):
    before = {"device": "cpu", "processor": "Xeon", "cores": 2, "threads": 2, "bfloat16": False}
    assert manifests.hardware_changes(before, before) == []
    assert manifests.hardware_changes(before, before | {name: value}) == expect
    assert manifests.hardware_changes({}, before) == []


ADDED = ("losses.delta_inclusive", "training.persistent_optimizers")  # since the first runs


def older(manifest: dict, *names: str) -> dict:
    """The manifest as it was before these settings existed."""
    settings = {name: dict(v) if isinstance(v, dict) else v for name, v in manifest["settings"].items()}
    for name in names:
        group, field = name.split(".")
        del settings[group][field]
    return manifest | {"settings": settings}


@pytest.mark.parametrize("name", ADDED)
def test_a_setting_that_an_older_manifest_lacks_has_its_default(tmp_path, name):
    settings = RunSettings.from_parameters()
    run = Run(tmp_path)
    run.start(settings, {"store": "a"}, {}, resumed=False)
    manifest = older(run.manifest, name)
    assert name not in manifests.flat(manifest["settings"])
    assert manifests.differences(manifest, settings.as_dict(), {"store": "a"}) == []
    changed = RunSettings.from_parameters(overrides={name: True}, tag="x").as_dict() | {"tag": None}
    assert manifests.differences(manifest, changed, {"store": "a"}) == [f"{name} was False, is now True"]
    assert settings_of(manifest["settings"]) == settings
    files.write_json(run / "manifest.json", manifest)
    runs.check_same(run, settings.as_dict(), {"store": "a"})
    with pytest.raises(RunError, match=f"{name} was False, is now True"):
        runs.check_same(run, changed, {"store": "a"})


def test_an_older_run_of_preset_released_had_the_defaults_of_its_time(tmp_path):
    run = Run(tmp_path)
    released = RunSettings.from_parameters(preset="released")
    run.start(released, {}, {}, resumed=False)
    assert manifests.differences(older(run.manifest, *ADDED), released.as_dict(), {}) == [
        "losses.delta_inclusive was False, is now True",
        "training.persistent_optimizers was False, is now True",
    ]
    backbone = released.backbone_run()
    run.start(backbone, {}, {}, resumed=False)
    assert manifests.differences(older(run.manifest, *ADDED), backbone.as_dict(), {}) == []


def test_older_and_new_runs_are_comparable_unless_the_added_setting_is_changed(tmp_path):
    manifest = {"settings": RunSettings.from_parameters().as_dict(), "data": {}}
    changed = RunSettings.from_parameters(overrides=dict.fromkeys(ADDED, True), tag="x").as_dict()
    before = older(manifest, *ADDED)
    assert manifests.comparable(before, manifest)
    assert manifests.comparable(manifest, before)
    assert not manifests.comparable(before, manifest | {"settings": changed})
    baseline = {"settings": RunSettings.from_parameters(variant="baseline").as_dict(), "data": {}}
    assert manifests.comparable(manifest | {"settings": changed}, baseline)  # decides nothing of a baseline


def test_manifest_has_settings_data_versions_and_commit(trial_run):
    manifest = trial_run.manifest
    settings = RunSettings.from_parameters(fold=3, overrides={"losses.k": 1}, tag="trial")
    assert manifest["settings"] == settings.as_dict()
    assert manifest["overrides"] == {"losses.k": 1}
    assert manifest["data"] == {"store": "a"}
    assert manifest["versions"].keys() >= {"torch", "numpy", "python", "insightr_nb"}
    assert manifest["git"].keys() == {"commit", "changed"}
    assert manifest["started"].endswith("+00:00")


def _finished(settings: RunSettings, store: str = "s") -> Run:
    run = Run(runs.run_directory(settings))
    manifest = {"state": "finished", "settings": settings.as_dict(), "data": {"store": store, "split": "t"}}
    files.write_json(run / "manifest.json", manifest)
    return run


@pytest.mark.parametrize(
    ("overrides", "baseline", "found"),
    [
        ({}, {}, True),
        ({"losses.k": 1}, {}, True),  # decides nothing of a baseline
        ({"model.prototypes": 10, "training.joint_epochs": 3}, {}, True),
        ({"training.batch_size": 7}, {}, False),
        ({"training.batch_size": 7}, {"overrides": {"training.batch_size": 7}, "tag": "x"}, True),
        ({"losses.k": 1}, {"overrides": {"training.batch_size": 7}, "tag": "x"}, False),  # tagged alike, but another
        ({}, {"fold": 1}, False),
    ],
)
def test_the_baseline_that_a_run_can_be_compared_with(tmp_path, monkeypatch, overrides, baseline, found):
    monkeypatch.setenv("INSIGHTR_OUTPUTS", str(tmp_path))
    tag = "x" if overrides else None
    run = _finished(RunSettings.from_parameters(preset="smoke", overrides=overrides, tag=tag))
    other = _finished(RunSettings.from_parameters(preset="smoke", variant="baseline", **baseline))
    assert run.sibling("baseline") == (other if found else None)
    assert run.beside("baseline").path.name == run.path.name


def test_a_baseline_on_other_data_or_not_finished_is_no_sibling(tmp_path, monkeypatch):
    monkeypatch.setenv("INSIGHTR_OUTPUTS", str(tmp_path))
    run = _finished(RunSettings.from_parameters(preset="smoke"))
    other = _finished(RunSettings.from_parameters(preset="smoke", variant="baseline"), store="another")
    assert run.sibling("baseline") is None
    files.write_json(other / "manifest.json", other.manifest | {"data": run.manifest["data"]})
    assert run.sibling("baseline") == other
    files.write_json(other / "manifest.json", other.manifest | {"state": "failed"})
    assert run.sibling("baseline") is None
    assert run.sibling("no_psd") is None
    ablation = _finished(RunSettings.from_parameters(preset="smoke", variant="no_psd"))
    assert run.sibling("no_psd") == ablation


def test_nested_settings_are_flattened_to_dotted_names():
    assert manifests.flat({"a": {"b": 1, "c": {"d": None}}, "e": [2]}) == {"a.b": 1, "a.c.d": None, "e": [2]}


def test_a_process_is_alive_unless_it_has_ended_or_its_number_was_reused():
    mine = manifests.this_process()
    assert manifests.is_alive(mine)
    assert not manifests.is_alive(mine | {"process_started": mine["process_started"] - 100})
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    assert not manifests.is_alive(mine | {"pid": int(ended.stdout)})
