"""Tab 1 of the explorer: explain the prediction for one image."""

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import ipywidgets as w

from insightr_nb.analysis import metrics
from insightr_nb.analysis.explanation import Explanation
from insightr_nb.errors import InsightrError
from insightr_nb.explorer import pictures, saving, widgets
from insightr_nb.explorer.exploration import Exploration
from insightr_nb.explorer.scene import Scene, explained, marked
from insightr_nb.explorer.subject import LAYERS, Selection, Subject, View
from insightr_nb.explorer.viewer import viewer
from insightr_nb.files import given_path

_LISTED = 2000  # ids that the field of ids suggests
_ORDERS = {
    "in their order": "table",
    "largest error first": "error",
    "most uncertain first": "uncertainty",
    "least familiar first": "familiarity",
}


class ExplainTab(w.VBox):
    """Tab 1: an image with its matches, the prototypes in their photographs, and all contributions."""

    def __init__(self, e: Exploration, selection: Selection, go: Callable[[str], None]) -> None:
        """Build the tab; `go` opens what a link names."""
        self.e, self.selection = e, selection
        self.order = e.order("table")  # indices of the test images on the slider
        self._moving = False  # set while controls are changed together, to ignore their events
        self._controls()
        self.message, self.warnings, self.headline = widgets.text(""), widgets.text(""), widgets.text("")
        self.warnings.add_class("insightr-warnings")
        self.headline.add_class("insightr-headline")
        self.viewer = viewer(
            selection.status,
            go=lambda event: go(event["to"]),
            step=lambda event: self.step(event["by"]),
            detail=lambda event: self._detail(event["key"]),
        )
        super().__init__(
            [
                widgets.wrapped(self.previous, self.index, self.next, self.goto, self.by, self.label),
                widgets.wrapped(self.count, self.opacity, *self.switches.values(), self.save),
                widgets.wrapped(self.path, self.explain_file, self.upload, self.back),
                self.message,
                self.warnings,
                self.headline,
                self.viewer,
            ]
        )

    # -- controls

    def _controls(self) -> None:
        self._controls_of_the_image()
        self._controls_of_the_view()
        self._controls_of_files()

    def _controls_of_the_image(self) -> None:
        e, guard = self.e, self.selection.status.guard
        orders = [(text, by) for text, by in _ORDERS.items() if by != "familiarity" or e.loaded.reference is not None]
        self.by = w.Dropdown(options=orders, description="images", layout=w.Layout(width="auto", min_width="200px"))
        grades = [g for g in sorted(e.predictions["target"].unique()) if len(e.order("table", g))]
        labels = [("all", "all")] + ([(f"{g:g}", g) for g in grades] if len(grades) <= 11 else [])
        self.label = w.Dropdown(options=labels, description="label", layout=w.Layout(width="160px"))
        self.index = widgets.choice(max(len(self.order), 1), "image")
        self.previous, self.next = (
            w.Button(icon=f"arrow-{side}", tooltip=f"image {name} (arrow key)", layout=w.Layout(width="36px"))
            for side, name in (("left", "before"), ("right", "after"))
        )
        self.goto = w.Combobox(
            placeholder="id of an image",
            description="go to",
            options=[str(i) for i in e.loaded.store.table["image_id"][:_LISTED]],
            continuous_update=False,
            layout=w.Layout(width="260px"),
        )
        for control in (self.by, self.label):
            control.observe(guard(lambda _: self._reorder()), "value")
        self.index.observe(guard(lambda _: self._to_slider()), "value")
        self.goto.observe(guard(lambda change: self.find(change["new"])), "value")
        self.previous.on_click(guard(lambda _: self.step(-1)))
        self.next.on_click(guard(lambda _: self.step(1)))

    def _controls_of_the_view(self) -> None:
        e, view, guard = self.e, self.selection.view, self.selection.status.guard
        most = min(len(pictures.COLOURS), len(e.labels))
        small = {"continuous_update": False, "layout": w.Layout(width="250px")}
        self.count = w.IntSlider(view.count, min=1, max=most, description="matches", **small)
        self.opacity = w.FloatSlider(self.selection.opacity, min=0, max=1, step=0.05, description="opacity", **small)
        self.switches = {
            name: widgets.switch(text, name in view.layers, tooltip) for name, (text, tooltip) in LAYERS.items()
        }
        if not e.has_masks(view.masks):
            self.switches["lesions"].disabled = True
            self.switches["lesions"].tooltip = "this data set has no lesion masks"
        self.switches["original"] = widgets.switch("original colours", view.original, "the photograph, not normalised")
        self.save = widgets.button("save view", "write what is seen as PNG and JSON", icon="save")
        for control in (self.count, *self.switches.values()):
            control.observe(guard(lambda _: self._changed()), "value")
        self.opacity.observe(guard(lambda _: self._layers()), "value")
        self.save.on_click(guard(lambda _: self._save()))

    def _controls_of_files(self) -> None:
        guard = self.selection.status.guard
        self.path = w.Text(
            description="your file",
            placeholder="path of an image",
            layout=w.Layout(flex="1 1 260px", max_width="460px"),
            continuous_update=False,
        )
        self.explain_file = widgets.button("explain it")
        self.upload = w.FileUpload(accept="image/*", description="upload", tooltip="at most 10 MB; in make lab 100 MB")
        self.back = widgets.button("back to the test set", disabled=True)
        self.explain_file.on_click(guard(lambda _: self.explain_own(self.path.value)))
        self.upload.observe(guard(lambda change: self._uploaded(change["new"])), "value")
        self.back.on_click(guard(lambda _: self._to_slider()))

    # -- which image

    def _reorder(self) -> None:
        with self.selection.status.busy("sorting the images"):
            self.order = self.e.order(self.by.value, None if self.label.value == "all" else self.label.value)
        self._moving = True
        self.index.value, self.index.max = 0, max(len(self.order) - 1, 0)
        self._moving = False
        self._to_slider()

    def _on_slider(self) -> str | None:
        """Id of the image that the slider names; None if there is none."""
        return str(self.e.predictions["image_id"].iloc[self.order[self.index.value]]) if len(self.order) else None

    def _to_slider(self) -> None:
        name = self._on_slider()
        if name is not None and not self._moving:
            self.explain(Subject.of(self.e, name))

    def step(self, by: int) -> None:
        """Go to the image before (-1) or after (1) on the slider."""
        self.index.value = min(max(self.index.value + by, 0), self.index.max)

    def move_slider(self, name: str) -> None:
        """Move the slider to an image without explaining it; it stays where the image is not on the slider."""
        ids = self.e.predictions["image_id"].iloc[self.order].tolist()
        if name in ids:
            self._moving = True
            self.index.value = ids.index(name)
            self._moving = False

    def find(self, image_id: str) -> None:
        """Show an image of the data set by its id; an unknown id is reported."""
        image_id, self.goto.value = image_id.strip(), ""
        if not image_id:
            return
        if not (self.e.loaded.store.table["image_id"] == image_id).any():
            example = self.e.loaded.store.table["image_id"].iloc[0]
            why = f"no image {image_id!r} in {self.e.loaded.store.path.name}; its ids look like {example!r}"
            self.message.value = widgets.message(why, widgets.ERROR)
            return
        self.move_slider(image_id)
        self.explain(Subject.of(self.e, image_id))

    def explain_own(self, path: str | Path, name: str = "") -> None:
        """Prepare a file like the data set and explain it; problems with the file are shown as a message."""
        path = str(path).strip().strip("'\"")
        if path:
            self.explain(Subject(name or Path(path).name, given_path(path)))

    def _uploaded(self, files: tuple[dict, ...]) -> None:
        for file in files:
            name, folder = Path(file["name"]).name, self.selection.uploads
            path = folder / f"{len(list(folder.iterdir()))}{Path(name).suffix}"
            path.write_bytes(bytes(file["content"]))
            self.explain_own(path, name)
        if files:
            self.upload.value = ()  # allows uploading the same file again

    def explain(self, subject: Subject) -> None:
        """Explain an image and show it; an image that cannot be used is reported, and the one before stays."""
        with self.selection.status.busy(f"explaining {subject.name}"):
            try:
                explanation = subject.explanation(self.e)
            except InsightrError as error:
                why = str(error) if subject.path is None else str(error).replace(str(subject.path), subject.name)
                self.message.value = widgets.message(why, widgets.ERROR)
                return
            self.selection.subject, self.selection.explanation = subject, explanation
            self.show()

    # -- what is shown

    def _changed(self) -> None:
        layers = tuple(name for name in LAYERS if self.switches[name].value)
        view = View(self.count.value, layers, self.switches["original"].value, self.selection.view.masks)
        if view != self.selection.view and not self._moving:
            self.selection.layers_chosen |= view.layers != self.selection.view.layers
            self.selection.view = view
            with self.selection.status.busy("drawing"):
                self.show()

    def _layers(self) -> None:
        self.selection.opacity = self.opacity.value
        self.viewer.layers(self.selection.view.layers, self.opacity.value)

    def show(self) -> None:
        """Update the tab for the selected image."""
        x, e, subject, view = self.selection.explanation, self.e, self.selection.subject, self.selection.view
        scene = Scene(f"{e.loaded.path}:{subject}", view.original)
        scene.blocks = explained(scene, e, subject, x, view)
        scene.blocks.append(chart_block(e, subject, x, view.count))
        self.back.disabled = subject.path is None and subject.name == self._on_slider()
        self.message.value = widgets.message("\n".join(dict.fromkeys(scene.problems)))
        self.warnings.value = widgets.message("\n".join(x.warnings), widgets.ERROR)
        self.headline.value = widgets.line(headline(e, subject, x))
        self._layers()
        self.viewer.show(scene)

    def _detail(self, key: str) -> bytes:
        subject = self.selection.subject if key == "image" else Subject.of(self.e, key.removeprefix("source:"))
        return subject.picture(self.e, self.viewer.content.original, detail=True)

    def _save(self) -> None:
        written = saving.save(self.e, self.selection, self.viewer)
        self.message.value = widgets.message(f"saved to {written}")


def chart_block(e: Exploration, subject: Subject, x: Explanation, count: int, prefix: str = "") -> dict[str, Any]:
    """Block of the chart of all contributions.

    Args:
        e: The run.
        subject: The image.
        x: Its explanation by the run.
        count: Number of numbered matches.
        prefix: Prefix of the links to prototypes.
    """
    baseline, lines = subject.baseline(e), {f"prediction {x.prediction:.2f}": (x.prediction, "")}
    if x.target is not None:
        lines[f"label {x.target:g}"] = (x.target, "6 3")
    if baseline is not None:
        lines[f"baseline {baseline:.2f}"] = (baseline, "2 3")
    top = marked(x.reasons(count))
    return {"kind": "chart", "html": pictures.contributions(x.prototype_labels, x.shares, top, lines, prefix)}


def headline(e: Exploration, subject: Subject, x: Explanation) -> str:
    """HTML of the numbers of an explanation, each with a title that says what it is."""
    baseline, part = subject.baseline(e), "" if subject.path else e.part(subject.name)
    scale = e.loaded.store.scale
    grade = f" (grade {metrics.rounded_grades(x.prediction, scale)})" if e.loaded.store.grades else ""
    known = [
        f"image <b>{escape(x.name)}</b>",
        f'prediction <b class="insightr-prediction">{x.prediction:.2f}</b>{grade}',
        _titled(f"uncertainty <b>{x.uncertainty:.2f}</b>", "spread of the prototype labels under the contributions"),
    ]
    known += [f"label <b>{x.target:g}</b>"] if x.target is not None else []
    if baseline is not None:
        known.append(_titled(f"baseline {baseline:.2f}", "prediction of a plain regression without prototypes"))
    if x.familiarity is not None:
        why = "share of the validation images that are as unlike the training images"
        known.append(_titled(f"familiarity {x.familiarity:.0%}", why))
    known += [f"<b>from the {part} set of this run</b>"] if part in ("training", "validation") else []
    return widgets.DOT.join(known)


def _titled(html: str, title: str) -> str:
    return f'<span title="{title}">{html}</span>'
