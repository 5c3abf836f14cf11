"""Verdicts on the paper's findings, on runs made by hand."""

import json

import numpy as np
import pandas as pd
import pytest
from analysis.handmade import SETTINGS, all_runs, make, store
from scipy.stats import t

from insightr_nb import files, runs
from insightr_nb.analysis import findings, seeds, statistics, tables
from insightr_nb.analysis.inference import HOLDS, NOT, UNKNOWN
from insightr_nb.analysis.results import collect
from insightr_nb.parameters import TableSettings
from insightr_nb.runs import Run

pytestmark = pytest.mark.usefixtures("handmade_runs")


def test_findings_are_open_without_finished_runs():
    results = collect(SETTINGS.grid(["baseline"]))
    found = findings.findings(results)
    assert set(found["verdict"]) == {findings.OPEN}
    assert found.columns.tolist() == ["finding", "verdict", "p", "figures"]
    assert found["p"].isna().all()
    assert statistics.sparsity_tests(results).empty
    assert results.missing["state"].tolist() == ["missing"] * 3
    assert tables.table1(results, ["baseline"]).iloc[0, 0] == "missing (3 of 3 folds)"


def test_verdicts_follow_the_metrics():
    """Three folds, 20 patients. Accuracy and diversity are the same in each fold, which says nothing of other folds."""
    found = findings.findings(all_runs())
    assert found["verdict"].tolist()[:6] == [HOLDS, UNKNOWN, HOLDS, HOLDS, UNKNOWN, HOLDS]
    assert set(found["verdict"].iloc[6:]) == {findings.OPEN}
    mean, error = 0.05 - 0.8 * 0.022, 0.8 * 0.002 * (1 / 3 + 0.5) ** 0.5  # the margin, and four in five are not grade 4
    assert found["p"].iloc[0] == pytest.approx(3 * 2 * t.sf(mean / error, 2))  # of six, two have none
    assert found["figures"].iloc[1] == "1.000 against 1.000: +0.000; margin 0.05"
    sparser = found["figures"].iloc[2]
    assert sparser.startswith("3.0 against 7.0 prototypes: -4.0 (95 % interval over folds -4.1 to -3.9, over patients")
    assert found["figures"].iloc[3].startswith("2.0 against 6.0 prototypes")
    assert found["figures"].iloc[4] == "3.0 against 5.0 prototypes: -2.0; margin 0.5"


def test_parity_is_judged_by_clamped_predictions():
    """0.051 above the baseline, more than the margin; clamped, 8 of 40 images (grade 4) are right: 0.041."""
    store()
    for s in SETTINGS.grid(["baseline", "insightr"]):
        make(s, error={"baseline": 0.1, "insightr": 0.15 + 0.001 * s.fold}[s.variant], split=f"fold {s.fold}")
    found = findings.findings(collect(SETTINGS.grid(["baseline", "insightr"])))
    assert found["figures"][0].startswith(
        "0.121 against 0.080: +0.041 (95 % interval over folds +0.038 to +0.044, over"
    )
    assert "not clamped, 0.151 against 0.100: +0.051 (95 %" in found["figures"][0]
    assert found["p"][0] < 0.06  # one of two; no patient has grade 4 in 1 % of the samples: 2 * 2 * 0.8 ** 20
    for s in SETTINGS.grid(["insightr"]):
        make(s, error=0.25 + 0.001 * s.fold, split=f"fold {s.fold}")
    assert findings.findings(collect(SETTINGS.grid(["baseline", "insightr"])))["verdict"][0] == NOT


def test_the_margin_is_in_the_units_of_the_labels():
    """On a scale of 0 to 40 a grade is 10 units, so 0.3 more are within 0.5."""
    for maximum, verdict in ((40.0, HOLDS), (4.0, NOT)):
        store(maximum)
        for s in SETTINGS.grid(["baseline", "insightr"]):
            error = {"baseline": 0.1, "insightr": 0.4 + 0.001 * s.fold}[s.variant]
            make(s, error, split=f"fold {s.fold}")
        found = findings.findings(collect(SETTINGS.grid(["baseline", "insightr"])))
        assert found["verdict"][0] == verdict
        assert found["figures"][0].endswith(f"margin {0.05 * maximum / 4:.3g}")


def test_a_finding_needs_all_folds_to_agree_and_one_fold_is_not_enough():
    """Sparsity without min-k is about 2 smaller in every fold; then not in one of three; then there is one fold."""
    settings = TableSettings(preset="smoke", folds=3, variants="insightr,no_min_k")
    name = "Removing the min-k average of the cluster loss lowers sparsity"
    store()
    for uneven, verdict in ((6, HOLDS), (10, UNKNOWN)):
        for s in settings.grid(["insightr", "no_min_k"]):
            used = 8 if s.variant == "insightr" else uneven if s.fold == 0 else 6
            make(s, used=used, more=s.fold if used == 8 else 0, split=f"fold {s.fold}")
        found = findings.findings(collect(settings.grid(["insightr", "no_min_k"]))).set_index("finding")
        assert found.loc[name, "verdict"] == verdict
    assert found.loc[name, "figures"].startswith("6.0 against 7.0 prototypes: -1.0 (95 % interval over folds ")
    assert "; as the paper counts, 5.0 against 6.0 prototypes: -1.0 (" in found.loc[name, "figures"]
    alone = TableSettings(preset="smoke", folds=1, variants="insightr,no_min_k")
    make(alone.run("no_min_k", 0), used=2, split="fold 0")
    found = findings.findings(collect(alone.grid(["insightr", "no_min_k"]))).set_index("finding")
    assert found.loc[name, "verdict"] == UNKNOWN
    assert np.isnan(found.loc[name, "p"])
    assert found.loc[name, "figures"].startswith("2.0 against 7.0 prototypes: -5.0; as the paper counts, 1.0 against")


def ablated(groups: int, **changes) -> pd.DataFrame:
    """Findings with runs of INSightR-Net, of three ablations with `changes` of `make` by fold, and nothing else."""
    variants = ("insightr", "no_psd", "no_cluster", "no_min_k")
    store()
    for s in SETTINGS.grid(variants):
        own = {name: each[s.fold] for name, each in changes.get(s.variant, {}).items()}
        make(s, **({"used": 4} | own), groups=groups, split=f"fold {s.fold}")
    found = findings.findings(collect(SETTINGS.grid(variants)))
    return found[found["verdict"] != findings.OPEN].set_index("finding")["verdict"]


def test_the_findings_of_the_ablations_can_hold():
    """Each image uses 4 prototypes, sparsity 4; 5 and 4; 3 and 3; diversity is 20 times that. The margin is 10."""
    fewer = {"used": [3, 3, 3], "more": [1, 2, 3]}
    spread = {"used": [5, 5, 5], "more": [1, 2, 3], "scatter": [0.8, 0.81, 0.79]}
    found = ablated(20, insightr={"more": [1, 3, 2]}, no_psd=fewer, no_cluster=spread, no_min_k=fewer)
    assert found.tolist() == [
        NOT,  # removing the PSD loss raises sparsity
        HOLDS,  # ... lowers diversity
        HOLDS,  # removing the cluster loss raises diversity
        HOLDS,  # ... keeps sparsity similar
        HOLDS,  # ... spreads the samples out
        HOLDS,  # removing min-k lowers sparsity
        HOLDS,  # ... lowers diversity
        HOLDS,  # ... leaves more prototypes hardly used, than with it and than without the cluster loss
    ]


def test_a_finding_on_two_variants_fails_by_either():
    """Without min-k about 120 of 200 are hardly used, INSightR-Net about 100, without the cluster loss about 140."""
    tight = {"used": [3, 3, 3], "more": [1, 3, 2], "scatter": [0.2, 0.21, 0.22]}
    found = ablated(20, insightr={"used": [5, 5, 5]}, no_cluster=tight, no_min_k={"more": [1, 2, 4]}).tolist()
    assert found[-1] == NOT
    assert found[4] == NOT  # spreads the samples out


def test_sparsity_is_not_similar_beyond_the_margin():
    """3 against 4 of 10, margin 0.5."""
    found = ablated(1, no_cluster={"used": [3, 3, 3], "more": [0, 1, 2]})
    assert found.tolist()[3] == NOT


def test_statistics_of_missing_runs_are_null_in_json():
    results = all_runs()
    Run(runs.run_directory(SETTINGS.run("insightr", 1))).update(state="failed", error="x")
    results = collect(SETTINGS.grid(SETTINGS.listed("variants")))
    differences = statistics.against_baseline(results, ["insightr"])
    text = json.dumps(findings.statistics(statistics.sparsity_tests(results), differences), allow_nan=False)
    assert json.loads(text)["sparsity_wilcoxon"][1]["p"] is None


def test_the_verdicts_are_counted():
    found = pd.DataFrame({"verdict": [HOLDS, HOLDS, NOT, UNKNOWN]})
    text = "Of the 4 findings, 2 hold and 1 do not; for 1, these data cannot tell"
    assert findings.describe_findings(found) == f"{text}."
    open_too = pd.DataFrame({"verdict": [*found["verdict"], findings.OPEN]})
    expected = f"{text.replace('4', '5')}, and 1 are open, because runs are missing."
    assert findings.describe_findings(open_too) == expected


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
    make(SETTINGS.run("insightr", 1, seed=1, tag="seed-1"), split="fold 1")
    found, swept, seeded = findings.findings(results), findings.sweeps(SETTINGS), seeds.seeds(SETTINGS)
    written = findings.write_ablations(SETTINGS, results, found, swept, pd.DataFrame(), seeded)
    names = [path.relative_to(SETTINGS.folder).as_posix() for path in written]
    measures = ["findings", "sweeps", "seeds", "figure_3"]
    assert names[:5] == [*(f"{name}.csv" for name in measures), "findings.md"]
    assert names[5:] == [f"results/{name}.json" for name in measures]
    # k = 2, and the preset's own k; another seed of fold 1, and its untagged run
    assert asked == [("findings", 9), ("sweeps", 2), ("seeds", 2), ("figure_3", 3)]
    assert len(pd.read_csv(written[0])) == 14
    assert "**holds**" in written[4].read_text()
    cells = pd.read_csv(written[3])  # the five cells of every image are the same single one
    assert cells.to_dict("list") == {"fold": [0, 1, 2], "shared": [5.0] * 3, "distinct": [1.0] * 3}


def test_findings_as_text_have_verdict_p_and_figures():
    found = pd.DataFrame(
        {
            "finding": ["A", "B", "C"],
            "verdict": ["holds", "open", "does not hold"],
            "p": [0.0312, np.nan, 0.0004],
            "figures": ["1 against 2", "", "3"],
        }
    )
    lines = findings.as_text(found, SETTINGS).splitlines()
    assert lines[0].endswith(", 3 folds")
    assert lines[2:] == [
        "- A: **holds** (p = 0.03). 1 against 2.",
        "- B: **open**.",
        "- C: **does not hold** (p < 0.001). 3.",
    ]
    assert findings.line({"finding": "D", "verdict": "open", "p": None, "figures": ""}) == "- D: **open**."


def test_no_sweep_runs_are_an_empty_table():
    assert findings.sweeps(SETTINGS).columns.tolist()[:4] == ["parameter", "value", "fold", "tag"]
    assert findings.sweeps(SETTINGS).empty
