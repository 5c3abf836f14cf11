"""Tab 4 of the explorer: edits and their effect on the explained image and the test set."""

from dataclasses import replace

import numpy as np
import pytest
from explorer import shown
from explorer.shown import TWINS

from insightr_nb.analysis import editing, metrics
from insightr_nb.analysis.loaded_run import load_run
from insightr_nb.explorer.edit_tab import EditTab
from insightr_nb.explorer.exploration import Exploration
from insightr_nb.explorer.fixed import plain
from insightr_nb.explorer.subject import Selection, Subject, View
from insightr_nb.explorer.widgets import Status
from insightr_nb.runs import Run


@pytest.fixture
def tab(explored, selection, went) -> EditTab:
    made = EditTab(explored, selection, went.append, lambda: went.append("saved"), [])
    made.show()
    return made


def cells(tab, row: str) -> list[str]:
    """Numbers as trained and edited in the row of the table that begins so."""
    rows = shown.blocks(tab.viewer, "text")[0]["html"].split("<tr>")
    (found,) = [one.partition("</tr>")[0] for one in rows if plain(one).startswith(row)]
    return [plain(cell) for cell in found.split("<td class='right'>")[1:]]


def by_hand(run: Run, off=(), labels=None) -> tuple[np.ndarray, float]:
    """Predictions and MAE with prototypes switched off or relabelled."""
    weights = run.array("weights.npy").astype(float)
    weights[:, list(off)] = 0
    labels = run.table("prototypes.csv")["label"].to_numpy() if labels is None else labels
    predictions = weights @ labels / weights.sum(1)
    return predictions, metrics.mean_absolute_error(predictions, run.table("predictions.csv")["target"])


def test_an_edit_changes_prediction_metrics_chart_and_thumbnails(tab, twinned, selection):
    trained = f"{selection.explanation.prediction:.2f}"
    assert cells(tab, "image") == [trained, trained]
    for j in (7, 1):
        tab.viewer.handle({"event": "go", "to": f"switch:{j}"})
    predictions, mae = by_hand(twinned, off=(7, 1))
    assert cells(tab, "image") == [trained, f"{predictions[5]:.2f}"]
    assert cells(tab, "MAE, test set") == [f"{twinned.metrics['mae']:.3f}", f"{mae:.3f}"]
    chart = shown.blocks(tab.viewer, "chart")[0]["html"]
    assert f"edited {predictions[5]:.2f}" in chart
    assert f"this run {trained}" in chart
    assert {j for j, bar in shown.bars(chart).items() if float(bar.get("height")) == 0} == {7, 1}
    thumbs = {t["go"]: t for t in shown.blocks(tab.viewer, "thumbs")[0]["thumbs"]}
    assert {go for go, t in thumbs.items() if t["pressed"] == "false"} == {"switch:7", "switch:1"}
    assert thumbs["switch:1"]["state"] == "chosen off"
    assert "off: 1, 7" in shown.text(tab.viewer)
    numbered = {int(t["alt"].split()[1]) for t in thumbs.values() if "iv-number" in t["caption"]}
    assert numbered == {j for js in tab._explanation().reasons(3) for j in js}
    assert not numbered & {7, 1}
    tab.toggle(7)
    assert cells(tab, "image")[1] == f"{by_hand(twinned, off=(1,))[0][5]:.2f}"


def test_a_label_is_changed_and_one_out_of_range_is_refused(tab, twinned):
    tab.choose(3)
    labels = twinned.table("prototypes.csv")["label"].to_numpy(copy=True)
    assert tab.label.value == round(labels[3], 2)
    tab.label.value = 4.0
    tab.set_label.click()
    old, labels[3] = labels[3], 4
    predictions, mae = by_hand(twinned, labels=labels)
    assert cells(tab, "image")[1] == f"{predictions[5]:.2f}"
    assert cells(tab, "MAE, test set")[1] == f"{mae:.3f}"
    assert f"labels: 3: {old:.2f} → 4.00" in shown.text(tab.viewer)
    assert (tab.prototype.value, tab.prototype.label, tab.label.value) == (3, "3: label 4.00", 4)
    before = tab.edit
    tab.label.value = 99.0
    tab.set_label.click()
    assert "label = 99.0: must be from -0.9 to 4.9" in tab.message.value
    assert tab.edit is before


def test_an_edit_outlives_its_tab_and_one_that_changes_nothing_is_no_step(explored, selection, tab):
    tab.merge.click()
    tab.toggle(TWINS[1])
    assert "stays off" in tab.message.value
    assert len(tab.history) == 2
    again = EditTab(explored, selection, print, print, tab.history)  # as after another run was opened meanwhile
    again.show()
    assert f"{TWINS[0]} = {TWINS[1]}" in shown.text(again.viewer)
    again.undo.click()
    assert not again.edit.changed


def test_undo_and_reset(tab, selection):
    assert tab.undo.disabled
    assert tab.save.disabled
    tab.toggle(7)
    changed = shown.text(tab.viewer)
    tab.toggle(4)
    tab.undo.click()
    assert shown.text(tab.viewer) == changed
    tab.reset.click()
    assert not tab.edit.changed
    assert tab.save.disabled
    assert cells(tab, "image")[0] == cells(tab, "image")[1]
    tab.undo.click()  # a reset can be undone, too
    assert shown.text(tab.viewer) == changed
    tab.undo.click()
    assert tab.undo.disabled


def test_all_off_is_reported_until_one_is_on_again(tab, twinned):
    tab.all_off.click()
    assert "all prototypes are switched off" in tab.message.value
    assert shown.blocks(tab.viewer, "chart") == []
    assert len(shown.blocks(tab.viewer, "thumbs")[0]["thumbs"]) == 10
    tab.toggle(3)
    assert tab.message.value == ""
    label = twinned.table("prototypes.csv")["label"][3]
    assert cells(tab, "image")[1] == f"{label:.2f}"


def test_merged_twins_keep_the_prediction(tab):
    tab.merge.click()
    trained, edited = cells(tab, "image")
    assert trained == edited
    assert f"{TWINS[0]} = {TWINS[1]}" in shown.text(tab.viewer)
    assert not tab.edit.on[TWINS[1]]


def test_the_numbered_prototypes_are_switched_off_with_their_twins(tab, selection):
    similarities = selection.explanation.similarities.copy()
    similarities[list(TWINS)] *= 100
    selection.explanation = replace(selection.explanation, similarities=similarities)
    selection.view = replace(selection.view, count=1)
    tab.switch_top.click()
    assert np.flatnonzero(~tab.edit.on).tolist() == list(TWINS)


def test_a_refit_shows_its_errors_or_why_nothing_changed(tab, explored, twinned, monkeypatch):
    fit = editing.refit(explored.loaded, tab.edit)
    tab.refit.click()
    for part in ("training", "validation"):
        assert cells(tab, f"MAE, {part}") == [f"{v:.3f}" for v in fit.refitted[f"{part}_mae"]]
    expect = editing.predict(fit, explored.loaded.similarities)[5]
    assert cells(tab, "image")[1] == f"{expect:.2f}"
    assert ("No iteration" in tab.message.value) == (fit.refitted["selected"] == 0)
    nothing = {"iterations": 9, "selected": 0, "training_mae": [1, 1], "validation_mae": [1, 1]}
    monkeypatch.setattr(editing, "refit", lambda run, edit: replace(edit, refitted=nothing))
    tab.refit.click()
    assert "No iteration of the refit lowers the error" in tab.message.value
    tab.toggle(3)
    assert tab.message.value == ""


def test_an_edit_is_saved_as_a_run_and_a_failure_keeps_it(copied, went):
    e = Exploration(load_run(copied))
    subject = Subject(e.predictions["image_id"][0])
    selection = Selection(subject, subject.explanation(e), View(layers=()), Status())
    tab = EditTab(e, selection, went.append, lambda: went.append("saved"), [])
    tab.toggle(7)
    before = tab.edit
    tab.tag.value = "no/tag"
    tab.save.click()
    assert "no/tag" in tab.message.value
    assert (tab.edit, went) == (before, [])
    tab.tag.value, tab.by.value, tab.why.value = " mine ", "A. Reader", "an artefact "
    tab.save.click()
    assert went == ["saved"]
    saved = Run(copied.path.with_name("fold0-mine"))
    assert saved.path.name in tab.message.value
    assert saved.manifest["edited"]["switched_off"] == [7]
    assert saved.manifest["edited"]["by"] == "A. Reader"
    assert saved.manifest["edited"]["why"] == "an artefact"
    assert saved.table("predictions.csv")["prediction"].to_numpy() == pytest.approx(by_hand(copied, off=(7,))[0])
    tab.save.click()
    assert "exists already" in tab.message.value
    assert tab.edit is before


def test_links_lead_elsewhere_and_details_are_of_the_explained_image(tab, selection, explored, went):
    tab.viewer.handle({"event": "go", "to": "prototype:3"})
    assert went == ["prototype:3"]
    detail = tab.viewer.handle({"event": "detail", "key": "image"})
    assert detail == selection.subject.picture(explored, detail=True)


def test_a_missing_source_is_reported_and_the_normalised_picture_is_shown(tab, selection, explored, sources_gone):
    selection.view = View(layers=("boxes",), original=True)
    tab.show()
    assert "eye.png: cannot be read" in tab.message.value
    assert tab.viewer.content.images["image"] == selection.subject.picture(explored)
    assert len(shown.blocks(tab.viewer, "chart")) == 1
