"""Results as files: what they say of how they were made, and that they are plain JSON."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from insightr_nb import files, runs
from insightr_nb.analysis import records
from insightr_nb.errors import RunError
from insightr_nb.runs import Run


def test_a_record_says_how_it_was_made(smoke_run, smoke_settings, tmp_path):
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


def test_a_run_counts_once_and_an_old_one_makes_the_record_stale(smoke_run, smoke_settings, tmp_path):
    old = Run(tmp_path / "fold0")
    shutil.copytree(smoke_run.path, old.path)
    manifest = old.manifest
    manifest["settings"]["losses"]["cluster"] = 0.7
    files.write_json(old / "manifest.json", manifest)
    content = records.record("trial", smoke_settings, [smoke_run, smoke_run, old])
    assert content["runs"] == 2
    assert records.stale(content) == ["losses.cluster was 0.7, is now 1.0"]


def test_a_row_is_a_line(tmp_path):
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
