"""Collecting the runs of a table: what is read, and which runs are refused."""

import pytest
from analysis.handmade import SETTINGS, make

from insightr_nb import files
from insightr_nb.analysis.results import collect
from insightr_nb.errors import RunError

pytestmark = pytest.mark.usefixtures("handmade_runs")


def test_a_run_with_other_settings_is_refused_with_the_field():
    run = make(SETTINGS.run("insightr", 0))
    manifest = run.manifest
    manifest["settings"]["losses"]["k"] = 7
    files.write_json(run / "manifest.json", manifest)
    with pytest.raises(RunError, match=r"insightr/fold0 was made with other settings: losses.k is 7 there, 3 now"):
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
        (lambda p: p.write_text(p.read_text().replace("0.25", "0.24", 1)), r"metrics.json has other content"),
        (lambda p: p.unlink(), r"metrics.json is missing"),
    ],
)
def test_a_damaged_metrics_file_is_named_and_not_averaged(damage, message):
    run = make(SETTINGS.run("baseline", 1))
    assert '"mae": 0.25,' in (run / "metrics.json").read_text()
    damage(run / "metrics.json")
    with pytest.raises(RunError, match=message):
        collect(SETTINGS.grid(["baseline"]))
