"""Tab 1 of the explorer: explain the prediction for one image."""

import tempfile
from dataclasses import replace
from html import escape
from pathlib import Path

import ipywidgets as w
import numpy as np
from matplotlib.colors import Normalize

from insightr_nb.analysis.explanation import explain
from insightr_nb.analysis.explanation_figures import heat, heat_scale, overlay
from insightr_nb.data import display, graham
from insightr_nb.data.images import read_image
from insightr_nb.data.photograph import photograph
from insightr_nb.errors import InsightrError
from insightr_nb.explorer import pictures, widgets
from insightr_nb.explorer.exploration import Exploration, Selection
from insightr_nb.files import given_path

_LIMITS = "at most 10 MB, in make lab 100 MB"  # limit of Jupyter's connection; larger messages close it
_MOST = 10  # maximum number of prototypes shown


class ExplainTab(w.VBox):
    """Tab 1: an image, pairs of its matches and their prototypes' sources, and all contributions."""

    def __init__(self, e: Exploration, selection: Selection):
        self.e, self.run, self.selection = e, e.loaded, selection
        self.own: np.ndarray | None = None  # photograph of the user; None for a test image
        self.order = e.order("table")  # indices of the test images on the slider
        self.by = w.Dropdown(
            options=[("in their order", "table"), ("largest error first", "error")], description="images"
        )
        grades = sorted(e.predictions["target"].unique())
        grades = [g for g in grades if len(e.order("table", g))]
        labels = [("all", "all")] + ([(f"{g:g}", g) for g in grades] if len(grades) <= 11 else [])
        self.label = w.Dropdown(options=labels, description="label")
        self.index = widgets.choice(len(self.order), "image")
        self.count = w.IntSlider(
            3, min=1, max=min(_MOST, len(e.labels)), description="prototypes", continuous_update=False
        )
        self.opacity = w.FloatSlider(0.6, min=0, max=1, step=0.05, description="map", continuous_update=False)
        self.view = w.ToggleButtons(options=["normalised", "original"], style={"button_width": "100px"})
        self.path = w.Text(
            description="your file",
            placeholder="path of an image",
            layout=w.Layout(width="340px"),
            continuous_update=False,
        )
        self.explain_file = w.Button(description="explain it")
        self.upload = w.FileUpload(accept="image/*", description="upload", tooltip="a larger file: give its path")
        self.back = w.Button(description="back to the test set", disabled=True)
        self.message, self.headline, self.chart = widgets.text(""), widgets.text(""), widgets.text("")
        self.headline.add_class("insightr-headline")
        self.chart.add_class("insightr-chart")
        self.picture = widgets.image(400)
        self.picture.add_class("insightr-picture")
        self.pairs = [(widgets.image(400), widgets.text("", width="240px")) for _ in range(self.count.max)]
        for pair, _ in self.pairs:
            pair.add_class("insightr-pair")
        rows = [w.HBox(pair, layout=w.Layout(display="none", align_items="center")) for pair in self.pairs]
        legend = widgets.text(
            "<small>each pair: where the image looks like the prototype, and the prototype in the training photograph "
            "it was taken from; one colour scale for all maps</small>",
            width="620px",
        )
        super().__init__(
            [
                w.HBox([self.index, self.by, self.label]),
                w.HBox([self.count, self.opacity, self.view]),
                w.HBox([self.path, self.explain_file, self.upload, self.back, widgets.small(_LIMITS, flex="0 0 auto")]),
                self.message,
                self.headline,
                w.HBox([widgets.column(416, self.picture), widgets.column(680, legend, *rows)]),
                self.chart,
            ]
        )
        self.rows = rows
        for control in (self.by, self.label):
            control.observe(lambda _: self._reorder(), "value")
        self.index.observe(lambda _: self._to_test_set(), "value")
        self.count.observe(lambda _: self.show(), "value")
        self.opacity.observe(lambda _: self._show_pictures(), "value")
        self.view.observe(lambda _: self._show_photograph(), "value")
        self.explain_file.on_click(lambda _: self.explain_own(self.path.value))
        self.upload.observe(lambda change: self._uploaded(change["new"]), "value")
        self.back.on_click(lambda _: self._to_test_set())
        selection.explanation = e.explanation(self.n)

    @property
    def n(self) -> int:
        """Index of the selected test image."""
        return int(self.order[self.index.value])

    def _reorder(self) -> None:
        self.order = self.e.order(self.by.value, None if self.label.value == "all" else self.label.value)
        self.index.max = len(self.order) - 1
        if self.index.value == 0:
            self._to_test_set()
        self.index.value = 0

    def _to_test_set(self) -> None:
        self.selection.explanation = self.e.explanation(self.n)
        self.own = None
        self.show()

    def explain_own(self, path: str | Path, name: str = "") -> None:
        """Prepare a file like the data set and explain it; problems with the file are shown as a message."""
        path = given_path(str(path).strip().strip("'\""))
        try:
            raw = read_image(path)
            explained = explain(self.run, path)
        except InsightrError as error:
            self.message.value = widgets.message(str(error).replace(str(path), name or str(path)), widgets.ERROR)
            return
        self.selection.explanation = replace(explained, name=name or path.name)
        self.own = raw
        self.show()

    def _uploaded(self, files: tuple[dict, ...]) -> None:
        for file in files:
            name = Path(file["name"]).name
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / ("upload" + Path(name).suffix)
                path.write_bytes(bytes(file["content"]))
                self.explain_own(path, name)
        if files:
            self.upload.value = ()  # allows uploading the same file again

    def show(self) -> None:
        """Update the tab for the selected image."""
        e = self.selection.explanation
        self.message.value = widgets.message(" ".join(e.warnings), widgets.ERROR)
        self.back.disabled = self.own is None
        self.top = e.top(self.count.value)
        self.boxes = [self.run.display_box(e.boxes[j]) for j in self.top]
        known = [
            f"image <b>{escape(e.name)}</b>",
            f'prediction <b class="insightr-prediction">{e.prediction:.2f}</b>',
            f"uncertainty <b>{e.uncertainty:.2f}</b>",
        ]
        lines = {f"prediction {e.prediction:.2f}": (e.prediction, "black")}
        if e.target is not None:
            known.append(f"label <b>{e.target:g}</b>")
            lines[f"label {e.target:g}"] = (e.target, "#2a7d2a")
        baseline = None if self.own is not None or self.e.baseline is None else self.e.baseline.get(e.name)
        if baseline is not None:
            known.append(f"baseline {baseline:.2f}")
            lines[f"baseline {baseline:.2f}"] = (float(baseline), "#8a5a00")
        self.headline.value = widgets.DOT.join(known)
        for place, (_, caption) in enumerate(self.pairs):
            self.rows[place].layout.display = "flex" if place < len(self.top) else "none"
            if place < len(self.top):
                j = self.top[place]
                caption.value = (
                    f"<div style='line-height:1.5'>prototype {j}, label <b>{e.prototype_labels[j]:.2f}</b><br>"
                    f"contribution <b>{100 * e.shares[j]:.1f} %</b>"
                    f"<br>similarity {e.similarities[j]:.0f}<br>squared distance {e.min_distances[j]:.3f}<br>"
                    f"<small>from {escape(e.prototype_sources['image_id'][j])}</small>"
                )
        self.chart.value = pictures.contributions(e.prototype_labels, e.shares, set(self.top), lines)
        self._show_pictures()
        self._show_photograph()

    def _show_photograph(self) -> None:
        picture = self.selection.explanation.picture
        if self.view.value == "normalised":
            self.picture.value = pictures.encode(pictures.boxed(picture, self.boxes, 400))
            return
        raw = self._raw() if self.own is None else self.own
        self.picture.value = pictures.encode(graham.resize(raw, 400))

    def _raw(self) -> np.ndarray:
        e, store = self.selection.explanation, self.run.store
        try:
            size = display.display_settings(store.settings).size
            return photograph(store.table["source"][store.row(e.name)], size)
        except InsightrError as error:
            self.message.value = widgets.message(f"the original photograph is no longer at its source: {error}")
            return np.array(e.picture)

    def _show_pictures(self) -> None:
        e = self.selection.explanation
        similar = self.run.similarity(e.maps[self.top])  # (k, H, W)
        sources = self.run.similarity(self.run.prototype_maps[self.top])
        scale: Normalize = heat_scale(np.concatenate([similar, sources]))
        for (pair, _), j, box, here, there in zip(self.pairs, self.top, self.boxes, similar, sources, strict=False):
            p = e.prototype_sources.iloc[j]
            source, source_box = (
                self.run.display_image(p["image_id"]),
                self.run.display_box(p[["x0", "y0", "x1", "y1"]]),
            )
            left = overlay(e.picture, heat(self.run, here, scale), self.opacity.value)
            right = overlay(source, heat(self.run, there, scale), self.opacity.value)
            pair.value = pictures.encode(
                pictures.row([pictures.boxed(left, [box], 197), pictures.boxed(right, [source_box], 197)])
            )
