"""Verdicts on the paper's findings, on runs made by hand."""

import json

import numpy as np
import pandas as pd
import pytest
from analysis.handmade import SETTINGS, TARGETS, all_runs, make

from insightr_nb import files, runs
from insightr_nb.analysis import findings, statistics, tables
from insightr_nb.analysis.results import collect
from insightr_nb.parameters import TableSettings
from insightr_nb.runs import Run

pytestmark = pytest.mark.usefixtures("handmade_runs")


def test_findings_are_open_without_finished_runs():
    results = collect(SETTINGS.grid(["baseline"]))
    assert set(findings.findings(results)["verdict"]) == {findings.OPEN}
    assert statistics.sparsity_tests(results).empty
    assert results.missing["state"].tolist() == ["missing"] * 3
    assert tables.table1(results, ["baseline"]).iloc[0, 0] == "missing (3 of 3 folds)"


def test_sparsity_by_contributions_and_by_similarities_can_disagree():
    """In one fold the importance spreads the contributions, so that only the similarities are sparser there."""
    all_runs()
    run = Run(runs.run_directory(SETTINGS.run("insightr", 2)))
    files.write_array(run / "weights.npy", np.ones((len(TARGETS), 10), np.float32))
    run.record()
    results = collect(SETTINGS.grid(SETTINGS.listed("variants")))
    tests = statistics.sparsity_tests(results)
    assert (tests["p"] < 0.001).tolist() == [True, True, False]
    assert (tests["p_paper"] < 0.001).all()
    assert results.of("insightr")["sparsity_paper"].tolist() == [2, 2, 2]  # three, counted from 0
    found = findings.findings(results).set_index("finding")
    verdicts = found[found.index.str.contains("sparser")]["verdict"]
    assert verdicts.tolist() == [findings.NOT, findings.HOLDS]
    assert "as the paper counts" in verdicts.index[1]


def test_verdicts_follow_the_metrics():
    found = findings.findings(all_runs()).set_index("finding")
    assert found["verdict"].tolist()[:3] == [findings.HOLDS] * 3
    assert "0.230 against 0.210; difference +0.020 (+0.020 to +0.020)" in found["figures"].iloc[0]
    assert "3.0 against 7.0" in found["figures"].iloc[1]
    assert "2.0 against 6.0" in found["figures"].iloc[2]
    assert set(found["verdict"].iloc[3:]) == {findings.OPEN}
    for settings in SETTINGS.grid(["log_similarity", "insightr"]):
        make(settings, 0.4, used=3, split=f"fold {settings.fold}")
    found = findings.findings(collect(SETTINGS.grid(SETTINGS.listed("variants"))))
    assert found["verdict"].tolist()[:3] == [findings.NOT] * 3


def test_a_removed_loss_needs_the_papers_sign_in_all_folds_but_one():
    settings = TableSettings(preset="smoke", folds=3, variants="baseline,insightr,no_psd,no_min_k")
    for s in settings.grid(["insightr", "no_psd", "no_min_k"]):
        used = {"insightr": 5, "no_psd": 10, "no_min_k": 2 if s.fold == 0 else 10}[s.variant]
        make(s, used=used, split=f"fold {s.fold}")
    found = findings.findings(collect(settings.grid(settings.listed("variants")))).set_index("finding")
    assert found.loc["Removing the PSD loss raises sparsity", "verdict"] == findings.HOLDS
    min_k = found.loc["Removing the min-k average of the cluster loss lowers sparsity"]
    assert min_k["verdict"] == findings.NOT
    assert min_k["figures"] == "4.0 with it, 6.0 without; 1 of 3 folds agree"


def test_statistics_of_missing_runs_are_null_in_json():
    results = all_runs()
    Run(runs.run_directory(SETTINGS.run("insightr", 1))).update(state="failed", error="x")
    results = collect(SETTINGS.grid(SETTINGS.listed("variants")))
    differences = statistics.against_baseline(results, ["insightr"])
    text = json.dumps(findings.statistics(statistics.sparsity_tests(results), differences), allow_nan=False)
    assert json.loads(text)["sparsity_wilcoxon"][1]["p"] is None


def test_the_verdicts_are_counted():
    found = findings.findings(all_runs())
    assert findings.describe_findings(found) == "Of the 8 findings, 3 hold, 0 do not, and 5 are open."


def recorded(monkeypatch) -> list:
    """Replaces `records.record`, which needs whole manifests; the records asked for."""
    asked = []

    def record(what, settings, made_from, **content):
        asked.append((what, len(list(made_from))))
        return {"what": what}

    monkeypatch.setattr(findings.records, "record", record)
    return asked


def test_the_files_of_notebook_05(monkeypatch):
    asked, results = recorded(monkeypatch), all_runs()
    differences = statistics.against_baseline(results, ["insightr"])
    written = findings.write_statistics(SETTINGS, results, None, differences)
    assert [path.relative_to(SETTINGS.folder).as_posix() for path in written] == [
        "statistics.json",
        "results/table1.json",
    ]
    assert files.read_json(written[0])["sparsity_wilcoxon"] == []
    assert asked == [("table1", 9)]
    Run(runs.run_directory(SETTINGS.run("insightr", 1))).update(state="failed", error="x")
    results = collect(SETTINGS.grid(SETTINGS.listed("variants")))
    assert len(findings.write_statistics(SETTINGS, results, None, differences)) == 1  # no record without all runs


def test_the_files_of_notebook_06(monkeypatch):
    asked, results = recorded(monkeypatch), all_runs()
    make(SETTINGS.run("insightr", 0, overrides={"losses.k": 2}, tag="k-2"), split="fold 0")
    found, swept = findings.findings(results), findings.sweeps(SETTINGS)
    written = findings.write_ablations(SETTINGS, results, found, swept, pd.DataFrame())
    names = [path.relative_to(SETTINGS.folder).as_posix() for path in written]
    assert names == ["findings.csv", "sweeps.csv", "findings.md", "results/findings.json", "results/sweeps.json"]
    assert asked == [("findings", 9), ("sweeps", 2)]  # k = 2, and the preset's own k
    assert len(pd.read_csv(written[0])) == 8
    assert "**holds**" in written[2].read_text()


def test_findings_as_text_have_verdict_and_figures():
    found = pd.DataFrame({"finding": ["A", "B"], "verdict": ["holds", "open"], "figures": ["1 against 2", ""]})
    lines = findings.as_text(found, SETTINGS).splitlines()
    assert lines[0].endswith(", 3 folds")
    assert lines[2:] == ["- A: **holds**. 1 against 2.", "- B: **open**."]


def test_no_sweep_runs_are_an_empty_table():
    assert findings.sweeps(SETTINGS).columns.tolist()[:4] == ["parameter", "value", "fold", "tag"]
    assert findings.sweeps(SETTINGS).empty
