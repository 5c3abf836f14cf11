"""Tables over runs that are made by hand, so that every number is known."""

import numpy as np
import pandas as pd
import pytest
from analysis.handmade import SETTINGS, all_runs, make

from insightr_nb import runs
from insightr_nb.analysis import findings, statistics, tables
from insightr_nb.analysis.results import collect
from insightr_nb.runs import Run

pytestmark = pytest.mark.usefixtures("handmade_runs")


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
    assert text.loc["(1) INSightR-Net", "MAE with the grades of the sources ↓"] == "1.800 ± 0.000"
    assert text.loc["ResNet-18 baseline", "MAE with the grades of the sources ↓"] == "-"


def test_the_papers_columns_stand_beside_those_that_they_are_compared_with():
    columns = list(tables.table1(all_runs(), ["insightr"]).columns)
    after = {name: columns[columns.index(name) + 1] for name in columns[:-1]}
    assert after["MAE ↓"] == "MAE, paper (EyePACS)"
    assert after["Accuracy ↑"] == "Accuracy, paper (EyePACS)"
    assert after["Sparsity as the paper counts ↓"] == "Sparsity, paper (EyePACS)"
    assert after["Diversity ↑"] == "Diversity, paper (EyePACS)"
    assert len(columns) == 16
    assert not any("paper (" in c for c in tables.table1(all_runs(), ["insightr"], paper=False).columns)


def test_the_parts_of_the_table_are_narrow_and_have_every_column_once():
    table = tables.table1(all_runs(), ["baseline", "insightr"])
    divided = tables.parts(table)
    assert [part.shape[1] for part in divided.values()] == [6, 5, 5]
    assert [c for part in divided.values() for c in part.columns] == list(table.columns)
    assert divided["Explanations"].loc["(1) INSightR-Net", "Sparsity, paper (EyePACS)"] == "14.6 ± 0.73"


def test_a_mean_needs_every_fold_and_a_missing_run_has_its_command():
    all_runs()
    Run(runs.run_directory(SETTINGS.run("insightr", 1))).update(state="failed", error="x")
    results = collect(SETTINGS.grid(SETTINGS.listed("variants")))
    assert results.missing[["variant", "fold", "state"]].values.tolist() == [["insightr", 1, "failed"]]
    assert results.missing["command"].iloc[0].endswith("-p preset smoke -p fold 1")
    table = tables.table1(results, ["baseline", "insightr"])
    assert table.loc["(1) INSightR-Net", "MAE ↓"] == "missing (1 of 3 folds)"
    for part in tables.parts(table).values():  # stated once in each
        assert part.loc["(1) INSightR-Net"].tolist().count("missing (1 of 3 folds)") == 1
    assert (table.loc["(1) INSightR-Net"] == "").sum() == 9
    assert table.loc["ResNet-18 baseline", "MAE ↓"] == "0.208 ± 0.008"
    assert results.finished("insightr") is None
    assert statistics.sparsity_tests(results)["p"].isna().tolist() == [False, True, False]
    assert statistics.against_baseline(results, ["insightr"])["difference"].isna().all()
    assert set(findings.findings(results)["verdict"]) == {findings.OPEN}


def test_tables_are_written_as_csv_markdown_and_latex(tmp_path):
    table = tables.table1(all_runs(), ["baseline", "insightr"])
    written = tables.write(table, tmp_path / "table1", "A 95 % caption ± 1.")
    assert [p.suffix for p in written] == [".csv", ".md", ".tex"]
    assert pd.read_csv(written[0])["MAE ↓"].tolist() == ["0.208 ± 0.008", "0.230 ± 0.010"]
    assert pd.read_csv(written[0]).shape == (2, 17)
    text = written[1].read_text()
    assert text.count("| (1) INSightR-Net") == 3
    assert text.startswith("**Accuracy**\n\n|")
    assert text.endswith("A 95 % caption ± 1.\n")
    latex = written[2].read_text()
    assert latex.count(r"\begin{table}") == latex.count(r"\end{table}") == 3
    assert latex.count(r"\begin{tabular}{l") == latex.count(r"\end{tabular}}") == 3
    for fragment in (
        r"\toprule",
        r"\bottomrule",
        r"0.230 $\pm$ 0.010",
        r"MAE $\downarrow$",
        r"\caption{Accuracy. A 95 \% caption $\pm$ 1.}",
        r"\resizebox{\ifdim\width>\linewidth",
    ):
        assert fragment in latex


def test_missing_runs_in_words():
    results = collect(SETTINGS.grid(["baseline", "insightr"]))
    lines = tables.describe_missing(results).splitlines()
    assert lines[0] == "0 of 6 runs are finished. These commands finish the others:"
    assert lines[1] == "6 runs missing:"  # stated once
    assert lines[2] == (
        "for fold in 0 1 2; do papermill notebooks/03_train.ipynb out.ipynb -p preset smoke "
        "-p variant baseline -p fold $fold; done"
    )
    assert len(lines) == 4
    all_runs()
    assert tables.describe_missing(collect(SETTINGS.grid(["baseline"]))) == "All 3 runs are finished."
    Run(runs.run_directory(SETTINGS.run("baseline", 1))).update(state="failed", error="x")
    text = tables.describe_missing(collect(SETTINGS.grid(["baseline"])))
    assert text.splitlines()[1] == "1 run failed:"
    assert text.splitlines()[2].endswith("-p variant baseline -p fold 1")


def test_table_1_in_words():
    results = all_runs()
    text = tables.describe_table1(results, ["baseline", "log_similarity", "insightr"])
    assert text == (
        "ResNet-18 baseline has the lowest MAE, 0.208; (1) INSightR-Net: 0.230. (1) INSightR-Net has the shortest "
        "explanations: 3.0 prototypes make 80 % of a prediction. With the grades of the sources as labels, the MAE of "
        "(1) INSightR-Net would be 1.800 instead of 0.230."
    )
    text = tables.describe_table1(results, ["log_similarity"])
    assert text.startswith("(1a) with log similarity has the lowest MAE, 0.312. ")
    assert tables.describe_table1(results, ["no_psd"]) == "No variant has all its folds yet."
    assert "MICCAI" in tables.caption(SETTINGS)
    assert "continuous labels" in tables.caption(SETTINGS, "continuous")


def test_the_metrics_of_one_run():
    run = make(SETTINGS.run("baseline", 0))
    table = tables.of_run(run.metrics, "baseline")
    assert table.loc["MAE ↓", "baseline"] == "0.250"
    assert table.loc["Sparsity ↓", "baseline"] == "-"
    assert table.loc["Test images", "baseline"] == "40"
