"""Collecting the runs of a table: what is read, and which runs are refused."""

import numpy as np
import pytest
from analysis.handmade import SETTINGS, all_runs, make, store

from insightr_nb import files
from insightr_nb.analysis import results as results_of_runs
from insightr_nb.analysis.results import collect
from insightr_nb.errors import RunError

pytestmark = pytest.mark.usefixtures("handmade_runs")


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


def test_collect_has_a_row_a_run_and_the_finished_ones_by_variant_and_fold():
    first, other = make(SETTINGS.run("insightr", 0), error=0.25, used=3), make(SETTINGS.run("insightr", 2), error=0.5)
    results = collect(SETTINGS.grid(["insightr"]))
    assert results.frame["state"].tolist() == ["finished", "missing", "finished"]
    assert results.frame["mae"].tolist() == pytest.approx([0.25, np.nan, 0.5], nan_ok=True)
    assert results.frame["sparsity_paper"].tolist() == pytest.approx([2, np.nan, 1], nan_ok=True)  # counted from 0
    assert [results.run("insightr", fold) for fold in range(3)] == [first, None, other]
    assert results.finished("insightr") is None
    assert results.finished("baseline") is None
    assert results.missing["fold"].tolist() == [1]
    make(SETTINGS.run("insightr", 1))
    assert len(collect(SETTINGS.grid(["insightr"])).finished("insightr")) == 3


def test_predictions_with_the_grades_of_the_sources_as_labels():
    """Three equal contributions of prototypes from images of grade 0, 0 and 1: 1 / 3 for every image.

    Errors are 1/3, 2/3, 5/3, 8/3 and 11/3 for the grades 0 to 4, on average 27 / 15. Labels 0, 0.5, ..., 4.5 against
    sources of grade 0, 0, 1, 1, ..., 4, 4: gaps of 0 and 0.5.
    """
    found = all_runs().of("insightr")
    assert found["mae_source_labels"].tolist() == pytest.approx([1.8] * 3)
    assert found["source_label_gap"].tolist() == pytest.approx([0.25] * 3)
    assert all_runs().of("baseline")[["mae_source_labels", "source_label_gap"]].isna().all(axis=None)


def test_contributions_weigh_the_grades_of_the_sources():
    """Weights 3 and 1 of prototypes 1 and 2, with sources of grade 0 and 1: 0.25 for every image."""
    store()
    run = make(SETTINGS.run("insightr", 0))
    weights = np.zeros((40, 10), np.float32)
    weights[:, 1:3] = [3, 1]
    files.write_array(run / "weights.npy", weights)
    assert results_of_runs.source_labels(run)["mae_source_labels"] == pytest.approx(
        (0.25 + 0.75 + 1.75 + 2.75 + 3.75) / 5
    )


def test_labels_of_sources_are_unknown_without_the_store_of_the_run_or_with_a_part_of_it():
    run = make(SETTINGS.run("insightr", 0))
    unknown = {"mae_source_labels": None, "source_label_gap": None}
    assert results_of_runs.source_labels(run) == unknown
    store()
    assert None not in results_of_runs.source_labels(run).values()
    other = make(SETTINGS.run("insightr", 1), store="other")
    assert results_of_runs.source_labels(other) == unknown
    with pytest.raises(RunError, match="has other data than the runs"):
        _ = collect([SETTINGS.run("insightr", 1)]).store
    table = run.table("prototypes.csv").assign(image_id=["elsewhere", *(f"t{j}" for j in range(1, 10))])
    files.write_csv(run / "prototypes.csv", table.to_dict("records"))
    assert results_of_runs.source_labels(run) == unknown
