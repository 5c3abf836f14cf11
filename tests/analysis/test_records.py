"""Records in docs/results: how they were made, plain JSON, and whether they are stale."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from insightr_nb import files, runs
from insightr_nb.analysis import records
from insightr_nb.errors import RunError
from insightr_nb.presets import PRESETS, VARIANTS
from insightr_nb.runs import Run


def test_record_has_rows_settings_runs_and_hardware(smoke_run, smoke_settings, tmp_path):
    frame = pd.DataFrame({"mae": [1 / 3, np.nan], "fold": [0, 1], "tag": [None, "a"]})
    content = records.record("trial", smoke_settings, [smoke_run], rows=frame, one={"n": np.int64(3), "ok": np.True_})
    written = json.loads(records.write(tmp_path / "trial.json", content).read_text())
    assert written["rows"] == [{"mae": 0.333333, "fold": 0, "tag": None}, {"mae": None, "fold": 1, "tag": "a"}]
    assert written["one"] == {"n": 3, "ok": True}
    assert (written["what"], written["preset"], written["seed"], written["runs"]) == ("trial", "smoke", [0], 1)
    assert written["store"] == [smoke_run.manifest["data"]["store"]]
    backbone = Run(runs.run_directory(smoke_settings.backbone_run()))
    seconds = smoke_run.manifest["seconds"] + backbone.manifest["seconds"]
    assert (written["runs"], written["backbones"]) == (1, 1)
    assert written["minutes_of_all_runs"] == pytest.approx(seconds / 60, abs=0.06)
    assert smoke_run.manifest["hardware"]["processor"] in written["hardware"][0]
    assert written["settings"]["insightr"]["data.size"] == 64
    assert records.stale(written) == []


def test_record_counts_a_run_once_and_is_stale_with_a_run_of_other_settings(smoke_run, smoke_settings, tmp_path):
    old = Run(tmp_path / "fold0")
    shutil.copytree(smoke_run.path, old.path)
    manifest = old.manifest
    manifest["settings"]["losses"]["cluster"] = 0.7
    files.write_json(old / "manifest.json", manifest)
    content = records.record("trial", smoke_settings, [smoke_run, smoke_run, old])
    assert content["runs"] == 2
    assert records.stale(content) == ["losses.cluster was 0.7, is now 1.0"]


def test_json_has_one_row_per_line(tmp_path):
    path = records.write(tmp_path / "x.json", {"rows": [{"a": 1}, {"a": 2}], "settings": {"i": {"b": 1}, "j": {}}})
    assert '  {"a": 1},\n  {"a": 2}\n' in path.read_text()
    assert '  "i": {"b": 1},\n  "j": {}\n' in path.read_text()


def test_an_index_with_a_name_is_kept(smoke_run, smoke_settings):
    index = pd.MultiIndex.from_tuples([("all", "x")], names=["group", "method"])
    content = records.record("t", smoke_settings, [smoke_run], rows=pd.DataFrame({"hit": [0.5]}, index=index))
    assert content["rows"] == [{"group": "all", "method": "x", "hit": 0.5}]


def test_nothing_is_no_record(smoke_settings):
    with pytest.raises(RunError, match="record 'table1': no finished run"):
        records.record("table1", smoke_settings, [])


def test_another_preset_makes_a_record_stale(monkeypatch):
    content = {"preset": "smoke", "dataset": "synthetic", "settings": records.settings_of("smoke", ["no_psd"])}
    assert content["settings"]["no_psd"] == {"losses.psd": 0.0}
    assert content["settings"]["insightr"]["losses.cluster"] == 1.0
    assert records.stale(content) == []
    monkeypatch.setitem(PRESETS["smoke"], "losses.cluster", 0.5)
    assert records.stale(content) == ["insightr: losses.cluster was 1.0 and is 0.5"]
    monkeypatch.setitem(VARIANTS, "no_psd", {"losses.psd": 0.1})
    assert records.stale(content)[1] == "no_psd: losses.psd was 0.0 and is 0.1"


def test_a_setting_added_since_a_record_has_its_default(monkeypatch):
    """So a record is stale only if its preset now chooses another value than the default."""
    content = {"preset": "smoke", "dataset": "synthetic", "settings": records.settings_of("smoke", ["no_psd"])}
    for name in ("losses.delta_inclusive", "training.persistent_optimizers"):
        assert content["settings"]["insightr"].pop(name) is False
    assert records.stale(content) == []
    monkeypatch.setitem(PRESETS["smoke"], "losses.delta_inclusive", True)
    assert records.stale(content) == ["insightr: losses.delta_inclusive was False and is True"]
