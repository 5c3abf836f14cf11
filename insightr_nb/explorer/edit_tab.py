"""Tab 4 of the explorer: switch off, relabel, merge and refit prototypes, and save the result as a run."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from html import escape
from typing import Any

import ipywidgets as w
import numpy as np

from insightr_nb import files
from insightr_nb.analysis import editing
from insightr_nb.analysis.editing import Edit
from insightr_nb.analysis.explanation import Explanation
from insightr_nb.errors import InsightrError
from insightr_nb.explorer import pictures, widgets
from insightr_nb.explorer.exploration import Exploration
from insightr_nb.explorer.scene import Scene, marked, number, photograph_block
from insightr_nb.explorer.subject import Selection
from insightr_nb.explorer.viewer import viewer

_SIDE = 96  # pixels of the thumbnails
_METRICS = {  # name and digits
    "mae": ("MAE", 3),
    "mae_clamped": ("MAE, clamped", 3),
    "accuracy": ("accuracy", 3),
    "kappa": ("quadratic kappa", 3),
    "sparsity": ("sparsity", 1),
    "diversity": ("diversity", 0),
    "top_label_gap": ("label of the largest contribution off by", 2),
    "label_spread": ("uncertainty, mean", 2),
    "ground_share": ("share on the background", 3),
}

_CAUTION = (
    "<p>Choose edits by the validation set: chosen by the test set, they look better than they are. The other tabs "
    "show the run without them, until they are saved as a run of their own.</p>"
)


class EditTab(w.VBox):
    """Tab 4: an edit of the last layer beside the explained image, with the metrics before and after."""

    def __init__(
        self,
        e: Exploration,
        selection: Selection,
        go: Callable[[str], None],
        saved: Callable[[], None],
        history: list[Edit],
    ) -> None:
        """Build the tab.

        Args:
            e: The run.
            selection: The explained image.
            go: Opens what a link names.
            saved: Called when a run was written.
            history: Edits of this run, the present one last; filled by the tab, and kept when another run is opened.
        """
        self.e, self.selection, self.saved, self.history = e, selection, saved, history
        start = Edit.of(e.loaded)
        if not history or not np.array_equal(history[-1].start, start.start):  # the run has been trained again
            history[:] = [start]
        self._filling = False  # set while the list of prototypes is filled, to ignore its events
        self._controls()
        self.message, self.warnings = widgets.text(""), widgets.text("")
        self.viewer = viewer(
            selection.status,
            go=lambda event: self._toggle(event["to"], go),
            detail=lambda _: selection.subject.picture(e, self.viewer.content.original, detail=True),
        )
        super().__init__(
            [
                widgets.wrapped(self.prototype, self.label, self.set_label, self.switch, self.switch_top),
                widgets.wrapped(self.merge, self.refit, self.all_off, self.undo, self.reset),
                widgets.wrapped(self.tag, self.by, self.why, self.save),
                self.message,
                self.warnings,
                self.viewer,
            ]
        )
        self._show_label()

    @property
    def edit(self) -> Edit:
        """The present edit."""
        return self.history[-1]

    @cached_property
    def original(self) -> dict[str, Any]:
        """Metrics of the run as it is, and its MAE on the validation and the training set."""
        start = self.history[0]
        errors = {part: editing.mae_of(self.e.loaded, start, part) for part in ("validation", "training")}
        return editing.summary(self.e.loaded, start) | errors

    def _controls(self) -> None:
        guard, (low, high) = self.selection.status.guard, self.edit.limits
        self.prototype = w.Dropdown(options=self._options(), description="prototype", layout=w.Layout(width="260px"))
        self.label = w.FloatText(step=0.1, description="label", layout=w.Layout(width="180px"))
        self.label.tooltip = f"from {low:g} to {high:g}"
        self.set_label = widgets.button("set its label", "its contributions stay, only its label moves")
        self.switch = widgets.button("switch off")
        self.switch_top = widgets.button("", "switch off the prototypes that are numbered in the photograph")
        self.merge = widgets.button("merge twins", "join prototypes of one patch; predictions stay")
        self.refit = widgets.button("refit the last layer", "fit the importances to the training set", icon="wrench")
        self.all_off = widgets.button("all off")
        self.undo = widgets.button("undo", icon="undo")
        self.reset = widgets.button("reset", "the run as it is")
        self.tag = w.Text("edited", description="save with tag", layout=w.Layout(width="280px"))
        self.tag.style.description_width = "initial"
        self.by = w.Text(placeholder="your name (optional)", description="by", layout=w.Layout(width="260px"))
        self.why = w.Text(placeholder="reason (optional)", description="why", layout=w.Layout(width="320px"))
        self.save = widgets.button("save as a run", "a finished run of its own, for every notebook", icon="save")

        self.prototype.observe(guard(lambda _: self._chosen()), "value")
        for control, act in (
            (self.set_label, self._relabel),
            (self.switch, lambda: self.toggle(self.prototype.value)),
            (self.switch_top, lambda: self._do(lambda edit: edit.switched(self._top(), on=False))),
            (self.merge, lambda: self._do(lambda edit: edit.merged(*self.e.loaded.twins))),
            (self.refit, self._refit),
            (self.all_off, lambda: self._do(lambda edit: edit.switched(range(len(edit.labels)), on=False))),
            (self.undo, self._undo),
            (self.reset, lambda: self._do(lambda _: self.history[0])),
            (self.save, self._save),
        ):
            control.on_click(guard(lambda _, act=act: act()))

    def _options(self) -> list[tuple[str, int]]:
        order = np.argsort(self.edit.labels, kind="stable")
        return [(f"{j}: label {self.edit.labels[j]:.2f}{'' if self.edit.on[j] else ' (off)'}", int(j)) for j in order]

    # -- edits

    def choose(self, prototype: int) -> None:
        """Select a prototype by its number, and show it."""
        if self.prototype.value == prototype:
            self.show()
        self.prototype.value = prototype

    def _chosen(self) -> None:
        if not self._filling:
            self._show_label()
            self.show()

    def _show_label(self) -> None:
        self.label.value = round(float(self.edit.labels[self.prototype.value]), 2)

    def _toggle(self, to: str, go: Callable[[str], None]) -> None:
        kind, _, what = to.partition(":")
        if kind == "switch":
            self.toggle(int(what))
        else:
            go(to)

    def toggle(self, prototype: int) -> None:
        """Switch a prototype off, or on again, and select it."""
        self._filling = True
        self.prototype.value = prototype
        self._filling = False
        before = self.edit
        self._do(lambda edit: edit.switched([prototype], on=not edit.on[prototype]))
        if self.edit is before:
            why = "This prototype stays off: it was merged into its twin, or is off in the run."
            self.message.value = widgets.message(why)

    def _do(self, change: Callable[[Edit], Edit], what: str = "computing") -> None:
        """Apply a change; one that cannot be made is reported, and the edit stays."""
        try:
            with self.selection.status.busy(what):
                changed = change(self.edit)
        except InsightrError as error:
            self.message.value = widgets.message(str(error), widgets.ERROR)
            return
        if not changed.same(self.edit) or changed.refitted != self.edit.refitted:
            self.history.append(changed)
        self._edited()

    def _relabel(self) -> None:
        j = self.prototype.value
        if self.label.value != round(float(self.edit.labels[j]), 2):  # else it is the label, as it is displayed
            self._do(lambda edit: edit.relabelled(j, self.label.value))

    def _refit(self) -> None:
        self._do(lambda edit: editing.refit(self.e.loaded, edit), "refitting")
        if (fit := self.edit.refitted) and fit["selected"] == 0 and not self.message.value:
            why = "No iteration of the refit lowers the error on the validation set: the importances stay."
            self.message.value = widgets.message(why)

    def _undo(self) -> None:
        if len(self.history) > 1:
            self.history.pop()
            self._edited()

    def _edited(self) -> None:
        self._filling = True
        widgets.refill(self.prototype, self._options())  # the same prototype, under its present label
        self._filling = False
        self._show_label()
        self.show()

    def _save(self) -> None:
        try:
            with self.selection.status.busy("saving"):
                given = (control.value.strip() for control in (self.tag, self.by, self.why))
                run = editing.save(self.e.loaded, self.edit, *given)
        except InsightrError as error:
            self.message.value = widgets.message(str(error), widgets.ERROR)
            return
        self.saved()
        self.message.value = widgets.message(f"saved as {files.display_path(run.path)}, now in the list of runs")

    # -- what is shown

    def _top(self) -> list[int]:
        return [j for js in self._explanation().reasons(self.selection.view.count) for j in js]

    def _explanation(self) -> Explanation:
        """The explanation of the selected image by the edited run."""
        x, edit = self.selection.explanation, self.edit
        weights = editing.weights(edit, x.similarities[None])[0]
        prediction = float(weights @ edit.labels / weights.sum())
        return replace(x, weights=weights, prediction=prediction, prototype_labels=edit.labels)

    def show(self) -> None:
        """Update the tab for the selected image and the edit."""
        e, edit, view, subject = self.e, self.edit, self.selection.view, self.selection.subject
        self.undo.disabled, self.save.disabled = len(self.history) < 2, not edit.changed
        self.switch.description = "switch off" if edit.on[self.prototype.value] else "switch on"
        self.merge.disabled = all(group in edit.merges for group in e.loaded.twins)
        scene, top = Scene(f"{e.loaded.path}:edit:{subject}", view.original), {}
        self.message.value, self.warnings.value = "", ""
        try:
            x = self._explanation()
        except InsightrError as error:
            self.message.value = widgets.message(str(error), widgets.ERROR)
        else:
            top = marked(x.reasons(view.count))
            table = {"kind": "text", "html": self._table(x) + self._changes()}
            before = self.selection.explanation.prediction
            lines = {
                f"edited {x.prediction:.2f}": (x.prediction, ""),
                f"this run {before:.2f}": (before, "6 3"),
            }
            chart = {"kind": "chart", "html": pictures.contributions(edit.labels, x.shares, top, lines)}
            scene.blocks += [photograph_block(scene, e, subject, x, view), table, chart]
            self.message.value = widgets.message("\n".join(scene.problems))
            self.warnings.value = widgets.message("\n".join(x.warnings), widgets.ERROR)
        self.switch_top.description, self.switch_top.disabled = f"switch off the {len(top)} of this image", not top
        title = "all prototypes by their labels: a click switches one off or on"
        scene.blocks.append({"kind": "thumbs", "title": title, "thumbs": self._thumbs(scene, top)})
        self.viewer.layers(view.layers, self.selection.opacity)
        self.viewer.show(scene)

    def _table(self, x: Explanation) -> str:
        run, before = self.e.loaded, self.selection.explanation
        label = "" if x.target is None else f" (label {x.target:g})"
        rows = [_row(f"image {escape(x.name)}{label}", [before.prediction, x.prediction], 2)]
        for part in ("validation", "training"):
            if self.original[part] is not None:
                rows.append(_row(f"MAE, {part} set", [self.original[part], editing.mae_of(run, self.edit, part)], 3))
        changed = editing.summary(run, self.edit)
        for key, (name, digits) in _METRICS.items():
            if changed[key] is not None and self.original[key] is not None:
                rows.append(_row(f"{name}, test set", [self.original[key], changed[key]], digits))
        head = "<tr><th></th><th class='right'>this run</th><th class='right'>edited</th></tr>"
        return f"<table class='insightr-whatif'>{head}{''.join(rows)}</table>{_CAUTION}"

    def _changes(self) -> str:
        made = self.edit.provenance
        texts = [f"{j}: {old:.2f} → {new:.2f}" for j, (old, new) in made["relabelled"].items()]
        groups = [" = ".join(map(str, group)) for group in made["merged"]]
        changes = [f"off: {', '.join(map(str, made['switched_off']))}"] if made["switched_off"] else []
        changes += [f"labels: {', '.join(texts)}"] if texts else []
        changes += [f"merged: {', '.join(groups)}"] if groups else []
        changes += ["refitted"] if made["refitted"] else []
        return f"<p class='insightr-changes'>{widgets.DOT.join(changes)}</p>"

    def _thumbs(self, scene: Scene, top: dict[int, int]) -> list[dict]:
        edit, thumbs = self.edit, []
        for j in self.e.prototypes["prototype"]:
            off = not edit.on[j]
            place = number(top[j]) + " " if j in top else ""
            state = "chosen" if j == self.prototype.value else "changed" if edit.new_labels[j] else ""
            thumbs.append(
                {
                    "image": scene.picture(f"thumb:{j}", self.e.thumbnail(int(j), _SIDE)),
                    "alt": f"prototype {j}",
                    "caption": f"{place}{j}: {edit.labels[j]:.2f}",
                    "go": f"switch:{j}",
                    "state": f"{state} off" if off else state,
                    "pressed": str(not off).lower(),
                }
            )
        return thumbs


def _row(name: str, values: list[float], digits: int) -> str:
    before, after = (f"{v:.{digits}f}" for v in values)
    after = after if before == after else f"<b>{after}</b>"
    return f"<tr><td>{name}</td><td class='right'>{before}</td><td class='right'>{after}</td></tr>"
