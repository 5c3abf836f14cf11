"""Editing a finished run: metrics, refit, and the edit saved as a run of its own."""

import time
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from insightr_nb import archive, files
from insightr_nb.analysis import (
    confidence,
    conformal,
    deletion,
    editing,
    findings,
    lesions,
    stability,
    trust,
    trust_figures,
    trust_report,
)
from insightr_nb.analysis.edit import Edit
from insightr_nb.analysis.editing import predict, refit, save, summary, weights
from insightr_nb.analysis.evaluation import evaluate, validation_metrics
from insightr_nb.analysis.explanation import explain, explain_folds
from insightr_nb.analysis.loaded_run import LoadedRun, load_run
from insightr_nb.analysis.results import collect
from insightr_nb.data.folds import fold_data
from insightr_nb.errors import DataError, RunError, SettingsError
from insightr_nb.parameters import TableSettings
from insightr_nb.runs import Run
from insightr_nb.setting_groups import LabelScale
from insightr_nb.settings import RunSettings
from insightr_nb.training.trainer import train


def by_hand(labels: list[float], scores: list[float]) -> Edit:
    start = np.array(labels, float), np.array(scores, float)
    return Edit(*start, start[1] > 0, start, (-0.9, 4.9))


@pytest.fixture
def opened(copied) -> LoadedRun:
    return load_run(copied)


@pytest.fixture
def edit(opened) -> Edit:
    """Two prototypes off, one relabelled, the others refitted."""
    return refit(opened, Edit.of(opened).switched([2, 7], on=False).relabelled(4, 2.5))


def names(folder: Path) -> set[str]:
    """Files and folders, temporary ones included; those of a lock are left out."""
    return {path.name for path in folder.iterdir() if not path.name.endswith((".lock", ".holder.json"))}


# -- predictions and metrics ------------------------------------------------------------------------------------------


def test_predictions_are_the_mean_of_the_labels_weighted_by_contributions():
    edit, similarities = by_hand([0, 2, 4], [1, 2, 0.5]), np.array([[1.0, 1, 2], [2, 0.5, 0]])
    assert weights(edit, similarities).tolist() == [[1, 2, 1], [2, 1, 0]]
    assert predict(edit, similarities).tolist() == [2, pytest.approx(2 / 3)]
    assert predict(edit.switched([1], on=False), similarities).tolist() == [2, 0]


def test_without_a_prototype_there_is_no_prediction(loaded):
    edit = by_hand([0, 1], [1, 1]).switched([0, 1], on=False)
    with pytest.raises(DataError, match=r"all prototypes are switched off.*Switch at least one on"):
        predict(edit, np.ones((1, 2)))
    everything = Edit.of(loaded).switched(range(10), on=False)
    for use in (summary, refit, lambda run, edit: save(run, edit, "none")):
        with pytest.raises(DataError, match="all prototypes are switched off"):
            use(loaded, everything)


def test_the_metrics_of_an_unchanged_edit_are_those_of_the_run(loaded):
    got = summary(loaded, Edit.of(loaded))
    assert got == pytest.approx(loaded.metrics, abs=1e-5)
    assert list(got) == list(loaded.metrics)
    assert 0 < got["ground_share"] <= 1


def test_metrics_are_fast_enough_for_a_slider():
    rng = np.random.default_rng(0)
    run = SimpleNamespace(
        similarities=rng.uniform(1, 100, (250, 50)).astype(np.float32),
        predictions={"target": SimpleNamespace(to_numpy=lambda kind: np.repeat(np.arange(5.0), 50))},
        store=SimpleNamespace(scale=LabelScale(), grades=True),
        on_ground=rng.random((250, 50)) < 0.1,
    )
    edit = by_hand(np.linspace(-0.9, 4.9, 50), np.ones(50))
    begin = time.process_time()
    for j in range(10):
        summary(run, edit.switched([j], on=False))
    assert (time.process_time() - begin) / 10 < 0.05


# -- refit ------------------------------------------------------------------------------------------------------------


def opened_by_hand(importance: list[float]) -> tuple[SimpleNamespace, Edit]:
    """A run whose targets are predicted without error by another importance than 1."""
    rng = np.random.default_rng(0)
    true = by_hand(np.linspace(0, 4, len(importance)), importance)
    parts = {}
    for part, count in (("training", 200), ("validation", 50)):
        similarities = rng.uniform(1, 100, (count, len(importance)))
        parts[part] = (similarities, predict(true, similarities))
    run = SimpleNamespace(nearest_of=parts.get, similarity=lambda x: x, store=SimpleNamespace(scale=LabelScale()))
    return run, by_hand(true.labels, np.ones(len(importance)))


def test_refit_finds_the_importance_that_made_the_targets():
    run, edit = opened_by_hand([1, 3, 0.5, 2, 1])
    fit = refit(run, edit)
    np.testing.assert_allclose(fit.importance, np.array([1, 3, 0.5, 2, 1]) * 5 / 7.5, rtol=0.05)  # the sum stays
    assert fit.importance.sum() == pytest.approx(5)
    assert fit.labels.tolist() == edit.labels.tolist()
    before, after = fit.refitted["validation_mae"]
    similarities, targets = run.nearest_of("validation")
    assert before == pytest.approx(np.abs(predict(edit, similarities) - targets).mean())
    assert after < 0.01 < before
    assert fit.refitted["training_mae"][1] < 0.01
    assert 0 < fit.refitted["selected"] <= fit.refitted["iterations"]


def test_refit_leaves_off_what_is_off():
    run, edit = opened_by_hand([1, 0, 2, 1])
    fit = refit(run, edit.switched([1], on=False))
    assert fit.importance[1] == 0
    assert fit.switched([1], on=True).importance[1] == 1
    assert fit.refitted["validation_mae"][1] < 0.01


def test_refit_is_never_worse_on_the_validation_images(loaded):
    rng = np.random.default_rng(0)
    for _ in range(5):
        edit = Edit.of(loaded).switched(rng.choice(10, 4, replace=False), on=False)
        before, after = refit(loaded, edit).refitted["validation_mae"]
        assert after <= before


def test_refit_takes_the_images_of_the_fold(opened, smoke_settings):
    begin = time.process_time()
    found = refit(opened, Edit.of(opened)).refitted
    assert time.process_time() - begin < 5
    assert found["validation_mae"][0] == pytest.approx(validation_metrics(opened.run, smoke_settings)["mae"], abs=1e-5)
    training = fold_data(smoke_settings).training
    predictions = deletion.predict(opened.network, np.array(training.images[training.rows]), opened.store.scale)
    expect = np.abs(predictions - opened.store.scale.to_user(training.targets)).mean()
    assert found["training_mae"][0] == pytest.approx(expect, abs=1e-5)


def test_refit_of_an_older_run_says_how_to_add_its_distances(opened):
    (opened / "targets_validation.npy").unlink()
    with pytest.raises(RunError, match=r"no distances of its validation images.*03 on it again: papermill .*smoke"):
        refit(opened, Edit.of(opened))


# -- save -------------------------------------------------------------------------------------------------------------


def test_a_saved_edit_is_a_run_with_its_provenance(opened, edit):
    run = save(opened, edit, "mended", by="A. Reader")
    assert run.path == opened.path.with_name("fold0-mended")
    assert archive.verify(run) == []
    assert names(run.path) == names(opened.path)
    manifest, original = run.manifest, opened.run.manifest
    assert manifest["settings"] == original["settings"] | {"tag": "mended"}
    edited = manifest["edited"]
    assert edited["from"].endswith("insightr/fold0")
    assert edited["model"] == original["files"]["model.safetensors"]["sha256"]
    assert edited["switched_off"] == [2, 7]
    assert edited["relabelled"] == {"4": [pytest.approx(opened.labels[4]), 2.5]}
    assert edited["merged"] == []
    assert edited["refitted"] == edit.refitted
    assert (edited["by"], edited["previous"]) == ("A. Reader", None)
    assert edited["why"] is None
    assert edited["when"].endswith("+00:00")
    assert run.edited == edited
    assert opened.run.edited is None
    again = Edit.of(load_run(run))
    np.testing.assert_allclose(again.importance, edit.importance, rtol=1e-6)
    np.testing.assert_allclose(again.labels, edit.labels, atol=1e-6)
    assert not again.switched([2], on=True).on[2]


def test_the_saved_network_evaluates_to_the_saved_files(opened, edit):
    run = save(opened, edit, "mended")
    tables = {name: run.table(name) for name in ("predictions.csv", "prototypes.csv")}
    arrays = {p.name: np.array(run.array(p.name)) for p in run.path.glob("*.npy")}
    scored, settings = run.metrics, load_run(run).settings
    (run / "metrics.json").unlink()
    evaluate(run, settings)  # with the network, on the images
    assert run.metrics == pytest.approx(scored, abs=1e-5)
    assert list(run.metrics) == list(scored)
    for name, expect in arrays.items():
        np.testing.assert_allclose(run.array(name), expect, rtol=1e-4, atol=1e-5)
    got, expect = run.table("predictions.csv"), tables["predictions.csv"]
    assert got["image_id"].tolist() == expect["image_id"].tolist()
    assert got["prototype_1"].tolist() == expect["prototype_1"].tolist()
    np.testing.assert_allclose(got["prediction"], expect["prediction"], atol=1e-5)
    assert run.table("prototypes.csv").equals(tables["prototypes.csv"])


def test_only_the_last_layer_differs(opened, edit):
    network, expect = load_run(save(opened, edit, "mended")).network.state_dict(), opened.network.state_dict()
    different = {name for name in expect if not torch.equal(network[name], expect[name])}
    assert different == {"last_layer.labels", "last_layer.theta"}
    off = save(opened, Edit.of(opened).switched([3], on=False), "off")
    theta = load_run(off).network.last_layer.theta
    assert torch.equal(theta != opened.network.last_layer.theta, torch.arange(10) == 3)  # the others keep their bits


def test_an_edit_of_an_edited_run_keeps_the_chain(opened, edit):
    first = save(opened, edit, "first")
    loaded = load_run(first)
    second = save(loaded, Edit.of(loaded).switched([0], on=False), "second")
    assert second.edited["from"].endswith("fold0-first")
    assert second.edited["switched_off"] == [0]
    assert second.edited["previous"] == first.edited
    assert archive.verify(second) == []


@pytest.mark.parametrize(
    ("tag", "error", "message"),
    [
        ("a/b", SettingsError, "tag = 'a/b': must consist of letters"),
        ("..", SettingsError, "tag = '..'"),
        ("", SettingsError, "tag = ''"),
        (None, SettingsError, "tag = None"),
        ("taken", RunError, r"fold0-taken exists already\. Choose another tag than 'taken'"),
    ],
)
def test_a_tag_that_cannot_be_used_is_refused(opened, edit, tag, error, message):
    opened.path.with_name("fold0-taken").mkdir()
    with pytest.raises(error, match=message):
        save(opened, edit, tag)
    assert names(opened.path.parent) == {"fold0", "fold0-taken"}


def test_an_edit_without_changes_or_of_another_run_is_refused(opened):
    for edit in (Edit.of(opened), Edit.of(opened).switched([1], on=False).switched([1], on=True)):
        with pytest.raises(RunError, match="the edit changes nothing"):
            save(opened, edit, "same")
    with pytest.raises(RunError, match=r"does not belong to run .*fold0\. Start from Edit\.of\(run\)"):
        save(opened, by_hand(np.linspace(0, 4, 10), np.ones(10)).switched([1], on=False), "other")
    assert names(opened.path.parent) == {"fold0"}


def test_a_save_that_fails_leaves_nothing(opened, edit, monkeypatch):
    def full(*_, **__) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(editing, "write_predictions", full)
    with pytest.raises(RunError, match=r"fold0-mended could not be written: No space left"):
        save(opened, edit, "mended")
    assert names(opened.path.parent) == {"fold0"}
    assert archive.verify(opened.run) == []


def test_a_damaged_run_is_not_saved(opened, edit):
    (opened / "distances.npy").write_bytes(b"")
    with pytest.raises(RunError, match=r"fold0 is damaged: distances.npy"):
        save(opened, edit, "mended")
    assert names(opened.path.parent) == {"fold0"}


# -- the saved run in use ---------------------------------------------------------------------------------------------


def test_an_edited_run_is_explained_and_measured_like_any_other(opened, edit):
    run = load_run(save(opened, edit, "mended"))
    image_id = run.predictions["image_id"][0]
    e = explain(run, image_id)
    assert e.prediction == pytest.approx(run.predictions["prediction"][0], abs=1e-5)
    assert e.weights[[2, 7]].tolist() == [0, 0]
    np.testing.assert_allclose(e.weights, run.weights[0], rtol=1e-4)
    assert [r.path.name for r in run.run.folds()] == ["fold0-mended"]
    assert [r.path.name for r in opened.run.folds()] == ["fold0"]
    assert len(explain_folds(run.run.folds(), image_id).explanations) == 1
    some = np.arange(2)
    assert deletion.completeness(run) < 1e-4
    assert trust_report.describe_deletion(deletion.summary(deletion.per_image(deletion.measure(run, some))))
    moved = stability.measure(run, some)
    assert trust_report.describe_stability(stability.summary(moved))
    audit = trust.audit(run)
    assert audit.set_index("prototype").loc[[2, 7], "used"].tolist() == [0, 0]
    trust_figures.audit_gallery(run, audit)
    assert trust_report.describe_certainty(confidence.certainty_table(confidence.certainty(run)))
    assert trust_report.describe_coverage(conformal.coverage_table(conformal.coverage(run, moved)))
    assert trust_report.describe_familiarity(run, some)
    assert len(lesions.lesion_report(run, limit=2)) > 0
    plt.close("all")


def test_an_imported_run_is_edited_and_exported_again(opened, tmp_path, monkeypatch):
    zipped = archive.export(opened.run, tmp_path / "small.zip", test_images=5)
    monkeypatch.setenv("INSIGHTR_OUTPUTS", str(tmp_path / "elsewhere"))
    imported = load_run(archive.load(zipped))
    unchanged = summary(imported, Edit.of(imported))
    assert unchanged == pytest.approx(opened.metrics | {"ground_share": None}, abs=1e-5)
    here = refit(imported, Edit.of(imported).switched([2, 7], on=False))
    there = refit(opened, Edit.of(opened).switched([2, 7], on=False))
    np.testing.assert_allclose(here.importance, there.importance)
    run = save(imported, here, "mended")
    assert archive.verify(run) == []
    assert run.metrics["ground_share"] is None
    again = archive.load(archive.export(run, tmp_path / "again.zip", test_images=5))
    assert archive.verify(again) == []
    assert load_run(again).run.edited == run.edited
    assert archive.load(zipped).path == imported.path


def test_an_edited_run_is_no_training_result(opened, edit):
    table = TableSettings(preset="smoke", folds=1, variants="insightr")
    expect = collect(table.grid(["insightr"])).frame
    swept = save(opened, edit, "k-2")
    manifest = swept.manifest
    files.write_json(swept / "manifest.json", manifest | {"overrides": {"losses.k": 2}})  # as an edit of a sweep's run
    assert collect(table.grid(["insightr"])).frame.equals(expect)
    assert len(findings.sweeps(table)) == 0
    files.write_json(swept / "manifest.json", manifest)
    settings = RunSettings.from_parameters(preset="smoke", tag="k-2")
    message = r"fold0-k-2 was made by editing .*fold0, not by training\. Use another tag, or overwrite=True"
    for use in (lambda: collect([settings]), lambda: train(settings)):
        with pytest.raises(RunError, match=message):
            use()


def test_messages_about_an_edited_run_do_not_name_a_training_command(opened, edit):
    run = save(opened, edit, "mended")
    assert run.command().startswith("editing ")
    assert run.command().endswith("insightr/fold0 and saving it with tag 'mended' (docs/run_files.md)")
    (run / "weights.npy").unlink()
    with pytest.raises(
        RunError, match=r"weights.npy is missing\. Recreate it by editing .*after deleting this folder$"
    ):
        run.require_whole()
    run.update(state="failed", error="x")
    with pytest.raises(RunError, match=r"has failed: x\. Create it by editing .*fold0 and saving it with tag"):
        run.require_finished()
    with pytest.raises(RunError, match=r"Create it with: papermill"):
        Run(run.path.with_name("fold1-mended")).require_finished()
