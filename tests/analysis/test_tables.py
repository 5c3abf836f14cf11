"""Tables over runs: by hand-made runs, so that every number is known."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from insightr_nb import files, runs
from insightr_nb.analysis import findings, metrics, statistics, sweeps, tables
from insightr_nb.analysis.results import Results, collect
from insightr_nb.errors import RunError, SettingsError
from insightr_nb.parameters import Ablations, TableSettings
from insightr_nb.runs import Run
from insightr_nb.settings import LabelScale

TARGETS = np.repeat([0.0, 1, 2, 3, 4], 8)
SETTINGS = TableSettings(preset="smoke", folds=3, variants="baseline,insightr,log_similarity")


@pytest.fixture(autouse=True)
def own_outputs(tmp_path, monkeypatch):
    monkeypatch.setenv("INSIGHTR_OUTPUTS", str(tmp_path))
    loaded = SimpleNamespace(similarity=lambda distance: 1 / distance)
    monkeypatch.setattr("insightr_nb.analysis.results.load_run", lambda run: loaded)


def make(settings, error: float = 0.25, used: int = 2, store: str = "a", split: str = "b") -> Run:
    """A finished run whose every prediction is `error` off and made by `used` equal contributions of 10."""
    run = Run(runs.run_directory(settings))
    run.start(settings, {"store": store, "split": split}, {}, resumed=False)
    predictions = TARGETS + error
    weights = None
    if settings.variant != "baseline":
        weights = np.zeros((len(TARGETS), 10), np.float32)
        weights[:, :used] = 1
        files.write_array(run / "weights.npy", weights)
        files.write_array(run / "distances.npy", np.where(weights > 0, 1, 1e6)[:, :, None, None])  # N x m x H x W
    rows = [
        {"image_id": str(i), "target": t, "prediction": p}
        for i, (t, p) in enumerate(zip(TARGETS, predictions, strict=True))
    ]
    files.write_csv(run / "predictions.csv", rows)
    files.write_json(run / "metrics.json", metrics.summary(predictions, TARGETS, LabelScale(), True, weights))
    run.record()
    run.update(state="finished")
    return run


def all_runs(**changes) -> Results:
    for settings in SETTINGS.grid(SETTINGS.listed("variants")):
        error = {"baseline": 0.2, "insightr": 0.22, "log_similarity": 0.3}[settings.variant] + 0.01 * settings.fold
        make(settings, error, used={"log_similarity": 8}.get(settings.variant, 3), split=f"fold {settings.fold}")
    return collect(SETTINGS.grid(SETTINGS.listed("variants")))


def test_mean_and_standard_deviation_over_folds():
    """0.22, 0.23, 0.24: mean 0.23, standard deviation 0.01 (n - 1)."""
    numbers = tables.summary(all_runs(), ["insightr", "baseline"])
    assert numbers.loc["insightr", ("mae", "mean")] == pytest.approx(0.23)
    assert numbers.loc["insightr", ("mae", "sd")] == pytest.approx(0.01)
    assert numbers.loc["insightr", ("sparsity", "mean")] == 3
    assert np.isnan(numbers.loc["baseline", ("sparsity", "mean")])
    text = tables.table1(all_runs(), ["insightr", "baseline"])
    assert text.loc["(1) INSightR-Net", "MAE ↓"] == "0.230 ± 0.010"
    assert text.loc["(1) INSightR-Net", "Diversity ↑"] == "3.0 ± 0.0"  # of ten, three contribute
    assert text.loc["ResNet-18 baseline", "Sparsity ↓"] == "-"
    assert text.loc["(1) INSightR-Net", "MAE, paper (EyePACS)"] == "0.59 ± 0.004"


def test_a_missing_run_is_shown_with_its_command_and_never_left_out_of_a_mean():
    all_runs()
    Run(runs.run_directory(SETTINGS.run("insightr", 1))).update(state="failed", error="x")
    results = collect(SETTINGS.grid(SETTINGS.listed("variants")))
    assert results.missing[["variant", "fold", "state"]].values.tolist() == [["insightr", 1, "failed"]]
    assert results.missing["command"].iloc[0].endswith("-p preset smoke -p fold 1")
    table = tables.table1(results, ["baseline", "insightr"])
    assert table.loc["(1) INSightR-Net", "MAE ↓"] == "missing (1 of 3 folds)"
    assert table.loc["ResNet-18 baseline", "MAE ↓"] == "0.210 ± 0.010"
    assert results.finished("insightr") is None
    assert statistics.sparsity_tests(results)["p"].isna().tolist() == [False, True, False]
    assert statistics.against_baseline(results, ["insightr"])["difference"].isna().all()
    assert set(findings.findings(results)["verdict"]) == {findings.OPEN}


def test_nothing_made_yet():
    results = collect(SETTINGS.grid(["baseline"]))
    assert set(findings.findings(results)["verdict"]) == {findings.OPEN}
    assert statistics.sparsity_tests(results).empty
    assert results.missing["state"].tolist() == ["missing"] * 3
    assert tables.table1(results, ["baseline"]).iloc[0, 0] == "missing (3 of 3 folds)"


def test_a_run_with_other_settings_is_refused_with_the_field():
    run = make(SETTINGS.run("insightr", 0))
    manifest = run.manifest
    manifest["settings"]["losses"]["k"] = 7
    files.write_json(run / "manifest.json", manifest)
    with pytest.raises(RunError, match=r"insightr/fold0 was created with different settings: losses.k was 7, is now 3"):
        collect(SETTINGS.grid(["insightr"]))


@pytest.mark.parametrize(
    ("second", "fragments"),
    [
        (
            {"store": "other"},
            ["different data (fingerprint of the store)", "a: insightr categorical fold 0", "other: bas"],
        ),
        ({"split": "other"}, ["fingerprint of the split", "b: insightr categorical fold 0", "other: baseline"]),
    ],
)
def test_runs_of_different_data_are_refused_and_listed(second, fragments):
    make(SETTINGS.run("insightr", 0))
    make(SETTINGS.run("baseline", 0), **second)
    with pytest.raises(RunError) as error:
        collect(SETTINGS.grid(["insightr", "baseline"]))
    for fragment in fragments:
        assert fragment in str(error.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.write_text(p.read_text()[:20]), r"metrics.json has 20 bytes instead of .*overwrite True"),
        (
            lambda p: p.write_text(p.read_text().replace("0.25", "0.24", 1)),
            r"metrics.json has changed since it was written",
        ),
        (lambda p: p.unlink(), r"metrics.json is missing"),
    ],
)
def test_a_damaged_metrics_file_is_named_and_not_averaged(damage, message):
    run = make(SETTINGS.run("baseline", 1))
    assert '"mae": 0.25,' in (run / "metrics.json").read_text()
    damage(run / "metrics.json")
    with pytest.raises(RunError, match=message):
        collect(SETTINGS.grid(["baseline"]))


def test_the_wilcoxon_test_of_sparsity():
    """All 40 images smaller by 4: with n equal differences the p value is that of the normal approximation."""
    tests = statistics.sparsity_tests(all_runs())
    assert tests["insightr"].tolist() == [3, 3, 3]
    assert tests["log_similarity"].tolist() == [7, 7, 7]  # 80 % of 8 equal ones
    assert (tests["p"] < binom.pmf(0, 40, 0.5) * 1e7).all()
    assert (tests["p"] < 0.001).all()
    assert tests["p_paper"].tolist() == tests["p"].tolist()  # without importances the two agree
    turned = statistics.sparsity_tests(all_runs(), "log_similarity", "insightr")
    assert (turned["p"] > 0.999).all()


def test_the_two_ways_to_count_sparsity_need_not_agree():
    """An importance that spreads the contributions of one fold: by contributions it is no longer sparser there."""
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


def test_the_interval_of_a_difference_counts_images_and_folds():
    rng = np.random.default_rng(0)
    base = rng.uniform(0, 1, (5, 400))
    difference, low, high = statistics.paired_difference(base + 0.1, base)
    assert (difference, low, high) == pytest.approx((0.1, 0.1, 0.1))
    shifted = base + np.array([-0.2, -0.1, 0, 0.1, 0.2])[:, None]  # folds differ, images do not
    difference, low, high = statistics.paired_difference(shifted, base)
    assert difference == pytest.approx(0, abs=1e-12)
    assert -0.16 < low < -0.08
    assert 0.08 < high < 0.16
    noise = base + rng.normal(0.05, 0.5, (1, 400))  # images differ, folds do not: sd of the mean is 0.5 / 20
    difference, low, high = statistics.paired_difference(noise, base)
    assert (high - low) / 2 == pytest.approx(1.96 * 0.025, rel=0.15)


def test_findings_hold_or_do_not():
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


def test_findings_on_removed_losses_need_the_papers_sign_in_all_folds_but_one():
    settings = TableSettings(preset="smoke", folds=3, variants="baseline,insightr,no_psd,no_min_k")
    for s in settings.grid(["insightr", "no_psd", "no_min_k"]):
        used = {"insightr": 5, "no_psd": 10, "no_min_k": 2 if s.fold == 0 else 10}[s.variant]
        make(s, used=used, split=f"fold {s.fold}")
    found = findings.findings(collect(settings.grid(settings.listed("variants")))).set_index("finding")
    assert found.loc["Removing the PSD loss raises sparsity", "verdict"] == findings.HOLDS
    min_k = found.loc["Removing the min-k average of the cluster loss lowers sparsity"]
    assert min_k["verdict"] == findings.NOT
    assert min_k["figures"] == "4.0 with it, 6.0 without; 1 of 3 folds agree"


def test_tables_are_written_as_csv_markdown_and_latex(tmp_path):
    table = tables.table1(all_runs(), ["baseline", "insightr"])
    written = tables.write(table, tmp_path / "table1", "A caption.")
    assert [p.suffix for p in written] == [".csv", ".md", ".tex"]
    assert pd.read_csv(written[0])["MAE ↓"].tolist() == ["0.210 ± 0.010", "0.230 ± 0.010"]
    assert "| (1) INSightR-Net" in written[1].read_text()
    assert written[1].read_text().endswith("A caption.\n")
    latex = written[2].read_text()
    for fragment in (r"\toprule", r"\bottomrule", r"0.230 $\pm$ 0.010", r"MAE $\downarrow$", r"\caption{A caption.}"):
        assert fragment in latex


@pytest.mark.parametrize(
    ("given", "fragments"),
    [
        ({"variants": "insight"}, ["variants = 'insight'", "did you mean 'insightr'"]),
        ({"shown": "no_kluster"}, ["shown", "'no_kluster'", "'no_cluster'"]),
        ({"preset": "dmo"}, ["'dmo'", "'demo'"]),
        ({"variants": "insightr,baseline,insightr"}, ["at most once"]),
        ({"variants": "none"}, ["at least one"]),
        ({"folds": 0}, ["folds = 0", "at least 1"]),
        ({"dataset": "csv"}, ["name"]),
    ],
)
def test_bad_parameters_of_a_table(given, fragments):
    with pytest.raises(SettingsError) as error:
        Ablations(**given)
    for fragment in fragments:
        assert fragment in str(error.value)


def test_a_fold_that_the_data_do_not_have():
    with pytest.raises(SettingsError, match="fold = 3: must be from 0 to 2"):
        TableSettings(preset="smoke", folds=4).grid(["baseline"])


def test_sweeps_are_overrides_with_tags_and_found_again():
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
    assert len(findings.sweeps(SETTINGS)) == 6  # two overrides are no sweep
    make(SETTINGS.run("insightr", 0), error=0.5, split="fold 0")  # the preset's own values: a point of every curve
    frame = findings.sweeps(SETTINGS)
    own = frame[frame["mae"] == 0.5][["parameter", "value", "fold"]].values.tolist()
    settings = SETTINGS.run("insightr", 0)
    assert own == [["epsilon", settings.model.epsilon, 0], ["k", settings.losses.k, 0], ["prototypes", same, 0]]
    with pytest.raises(SettingsError, match="sweep over 'prototype': did you mean 'prototypes'"):
        sweeps.sweep(SETTINGS, "prototype", [5], [0])


def test_statistics_are_plain_json():
    results = all_runs()
    Run(runs.run_directory(SETTINGS.run("insightr", 1))).update(state="failed", error="x")
    results = collect(SETTINGS.grid(SETTINGS.listed("variants")))
    differences = statistics.against_baseline(results, ["insightr"])
    text = json.dumps(findings.statistics(statistics.sparsity_tests(results), differences), allow_nan=False)
    assert json.loads(text)["sparsity_wilcoxon"][1]["p"] is None
