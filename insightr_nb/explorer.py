"""The explorer of notebook 07: why this grade, what does a prototype stand for, and what if it were not there.

`Explorer()` lists the finished runs under `outputs/` and shows one; put it at the end of a cell. Everything is answered
from the stored files of the run; only an own image goes through the network.
"""

import os
import tempfile
from html import escape
from pathlib import Path

import ipywidgets as w
import numpy as np
from matplotlib.colors import Normalize

from insightr_nb import files
from insightr_nb.analysis import exploration, pictures
from insightr_nb.analysis.explanation import Explanation, explain, load
from insightr_nb.analysis.exploration import Exploration
from insightr_nb.analysis.figures import heat, heat_scale
from insightr_nb.analysis.latent import LatentMap
from insightr_nb.data import graham
from insightr_nb.data.images import read_image
from insightr_nb.data.prepare import photograph
from insightr_nb.errors import InsightrError, RunError
from insightr_nb.runs import Run

NOTE = "Research software, no medical device: nothing here may be used for a diagnosis."
_DOT = " &nbsp;·&nbsp; "
MAKE = "papermill notebooks/03_train.ipynb out.ipynb"
PARAMETERS = ("run", "static")  # of notebook 07
_NO_DISC = (
    "No disc found: no circle fits what is bright in the image, so it may be no fundus photograph, or one that was "
    "cropped inside the fundus. Do not trust this prediction."
)
_NEEDED = (
    "model.safetensors", "prototypes.csv", "prototype_maps.npy", "prototypes_before_projection.npy", "predictions.csv",
    "weights.npy", "distances.npy", "nearest_latents.npy", "metrics.json",
)  # fmt: skip
_MOST = 10  # prototypes that tab 1 can show


def headless() -> bool:
    """Whether no browser can be there: only Jupyter's server gives its kernels the name of a session."""
    return "JPY_SESSION_NAME" not in os.environ


def finished_runs() -> tuple[list[Run], list[str]]:
    """Every finished run with prototypes under outputs/, those that were loaded from a zip last; and what is wrong
    with the runs whose manifest cannot be read."""
    root, pattern = files.outputs_root(), "runs/*/*/*/*/*/prototypes.csv"
    found, problems = [], []
    for path in (*sorted(root.glob(pattern)), *sorted(root.glob(f"imported/*/{pattern}"))):
        try:
            if Run(path.parent).state == "finished":
                found.append(Run(path.parent))
        except RunError as error:
            problems.append(str(error))
    return found, problems


def _text(content: str, **layout) -> w.HTML:
    return w.HTML(content, layout=w.Layout(**layout))


def _message(text: str, colour: str = "#8a4b00") -> str:
    return (
        f'<div class="insightr-message" style="color:{colour};max-width:900px;line-height:1.4">{escape(text)}</div>'
        if text
        else ""
    )


def _image(side: int) -> w.Image:
    return w.Image(format="jpeg", layout=w.Layout(width=f"{side}px", flex="0 0 auto"))


def _column(width: int, *children: w.Widget) -> w.VBox:
    return w.VBox(children, layout=w.Layout(width=f"{width}px", flex="0 0 auto"))


class Explorer(w.VBox):
    """The application: a run chooser over four tabs."""

    def __init__(self, run: Run | str | Path | None = None):
        self._listing = False  # the chooser is being filled: nothing to open
        self.message, self.notice = _text(""), ""
        self.chooser = w.Dropdown(description="run", layout=w.Layout(width="620px"))
        self.again = w.Button(description="look again", tooltip="list the finished runs again", icon="refresh")
        self.tabs = w.Tab()
        super().__init__([_text(f"<small>{NOTE}</small>"), w.HBox([self.chooser, self.again]), self.message, self.tabs])
        self.add_class("insightr-explorer")
        self.chooser.observe(lambda change: self._open(change["new"]), "value")
        self.again.on_click(lambda _: self.list_runs())
        self.tabs.observe(lambda _: self._show_tab(), "selected_index")
        self.list_runs(run)

    def list_runs(self, first: Run | str | Path | None = None) -> None:
        """Fill the chooser; open `first`, else stay at the run that is open, else open the first of the list."""
        found, problems = finished_runs()
        paths = [str(run.path.resolve()) for run in found]
        now = self.chooser.value
        self._listing = True
        self.chooser.options = [(files.shown(run.path), path) for run, path in zip(found, paths, strict=True)]
        self.chooser.value = now if first is None and now in paths else None
        self._listing = False
        if first is not None:
            run = first if isinstance(first, Run) else Run(Path(first))
            if str(run.path.resolve()) not in paths:
                self._refuse(run, problems)
                return
            self.chooser.value = str(run.path.resolve())
        elif found and now not in paths:
            self.chooser.value = paths[0]
        elif not found:
            self.tabs.children = ()
            problems.insert(0, f"No finished run with prototypes under {files.shown(files.outputs_root())} yet. "
                               f"Make one with: {MAKE}")  # fmt: skip
        if problems:
            self._say(". ".join(problems))

    def _refuse(self, run: Run, problems: list[str]) -> None:
        """Say why a run that was asked for is not among those that can be shown."""
        self.tabs.children = ()
        try:
            run.require_finished()
            why = f"{files.shown(run.path)} has no prototypes, or is not under {files.shown(files.outputs_root())}"
        except RunError as error:
            why = str(error)
        self._say(". ".join([why, *(p for p in problems if p != why)]), "#a00000")

    def _say(self, text: str, colour: str = "#8a4b00") -> None:
        self.notice = text  # as plain text, for a notebook without a browser
        self.message.value = _message(text, colour)

    def _open(self, path: str | None) -> None:
        if path is None or self._listing:
            return
        try:
            run = Run(Path(path))
            missing = [name for name in _NEEDED if not (run / name).exists()]
            if missing:
                raise RunError(f"{', '.join(missing)} missing. Make it again with: {run.command()} -p overwrite True")
            self.exploration = Exploration(load(run), exploration.baseline_predictions(run))
            tabs = [ExplainTab(self.exploration), BrowseTab(self.exploration), WhatIfTab(self.exploration, self),
                    MapTab(self.exploration, self)]  # fmt: skip
        except (InsightrError, OSError, ValueError, KeyError) as error:
            self.tabs.children = ()
            self._say(f"{files.shown(Path(path))} cannot be opened: {error}", "#a00000")
            return
        self._say("")
        self.tabs.children = tabs
        self.tabs.titles = ("Explain an image", "Browse prototypes", "What if", "Latent map")
        self.tabs.selected_index = 0
        self._show_tab()

    def _show_tab(self) -> None:
        if self.tabs.children and self.tabs.selected_index is not None:
            self.tabs.children[self.tabs.selected_index].show()

    def browse(self, prototype: int) -> None:
        """Open tab 2 on a prototype."""
        self.tabs.children[1].choose(prototype)
        self.tabs.selected_index = 1


class ExplainTab(w.VBox):
    """Tab 1: an image, its top prototypes as pairs of matching place and source, all contributions."""

    def __init__(self, e: Exploration):
        self.e, self.run = e, e.loaded
        self.own: Explanation | None = None  # of an own image; then own_name, own_warning and raw are there as well
        self.order = e.order("table")  # numbers of the test images that the slider goes through
        self.by = w.Dropdown(
            options=[("in their order", "table"), ("largest error first", "error")], description="images"
        )
        grades = sorted(e.predictions["target"].unique())
        grades = [g for g in grades if len(e.order("table", g))]
        labels = [("all", "all")] + ([(f"{g:g}", g) for g in grades] if len(grades) <= 11 else [])
        self.label = w.Dropdown(options=labels, description="label")
        self.index = w.IntSlider(min=0, max=len(self.order) - 1, description="image", continuous_update=False,
                                 layout=w.Layout(width="420px"))  # fmt: skip
        self.count = w.IntSlider(
            3, min=1, max=min(_MOST, len(e.labels)), description="prototypes", continuous_update=False
        )
        self.opacity = w.FloatSlider(0.6, min=0, max=1, step=0.05, description="map", continuous_update=False)
        self.view = w.ToggleButtons(options=["normalised", "original"], style={"button_width": "100px"})
        self.path = w.Text(description="own file", placeholder="path of an image", layout=w.Layout(width="420px"),
                           continuous_update=False)  # fmt: skip
        self.explain_file = w.Button(description="explain it")
        self.upload = w.FileUpload(accept="image/*", description="upload")
        self.back = w.Button(description="back to the test set", disabled=True)
        self.message, self.headline, self.chart = _text(""), _text(""), _text("")
        self.headline.add_class("insightr-headline")
        self.chart.add_class("insightr-chart")
        self.picture = _image(400)
        self.picture.add_class("insightr-picture")
        self.pairs = [(_image(400), _text("", width="240px")) for _ in range(self.count.max)]
        for pair, _ in self.pairs:
            pair.add_class("insightr-pair")
        rows = [w.HBox(pair, layout=w.Layout(display="none", align_items="center")) for pair in self.pairs]
        legend = _text(
            "<small>each pair: where the image looks like the prototype, and the prototype in the training photograph "
            "it was taken from; one colour scale for all maps</small>",
            width="620px",
        )
        super().__init__([
            w.HBox([self.index, self.by, self.label]),
            w.HBox([self.count, self.opacity, self.view]),
            w.HBox([self.path, self.explain_file, self.upload, self.back]),
            self.message, self.headline,
            w.HBox([_column(416, self.picture), _column(680, legend, *rows)]),
            self.chart,
        ])  # fmt: skip
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

    @property
    def n(self) -> int:
        """Number of the chosen test image."""
        return int(self.order[self.index.value])

    def _reorder(self) -> None:
        self.order = self.e.order(self.by.value, None if self.label.value == "all" else self.label.value)
        self.index.max = len(self.order) - 1
        self.own = None
        if self.index.value == 0:
            self.show()
        self.index.value = 0

    def _to_test_set(self) -> None:
        self.own = None
        self.show()

    def explain_own(self, path: str | Path, name: str = "") -> None:
        """Prepare the file as the data set was, and explain it; a message says what is wrong with it."""
        path = Path(str(path).strip().strip("'\"")).expanduser()
        try:
            raw = read_image(path)
            own = explain(self.run, path)
        except InsightrError as error:
            self.message.value = _message(str(error).replace(str(path), name or str(path)), "#a00000")
            return
        self.raw, self.own, self.own_name = raw, own, name or path.name
        graham_used = self.run.store.settings.preparation != "resize"
        self.own_warning = _NO_DISC if graham_used and not graham.find_disc(raw).fitted else ""
        self.show()

    def _uploaded(self, files) -> None:
        for file in files:
            name = Path(file["name"]).name
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / ("upload" + Path(name).suffix)
                path.write_bytes(bytes(file["content"]))
                self.explain_own(path, name)
        if files:
            self.upload.value = ()  # so that the same file can be given again

    def shown(self) -> tuple[str, np.ndarray, float, float | None]:
        """Of the image that is shown: its name, contributions (m,), prediction, and label if known."""
        if self.own is not None:
            return self.own_name, self.own.weights.astype(float), self.own.prediction, None
        row = self.e.predictions.iloc[self.n]
        return row["image_id"], self.e.weights[self.n], float(row["prediction"]), float(row["target"])

    def show(self) -> None:
        self.message.value = _message(self.own_warning if self.own is not None else "")
        self.back.disabled = self.own is None
        e, n = self.e, self.n
        name, weights, prediction, target = self.shown()
        if self.own is not None:
            similarities, distances, baseline = self.own.similarities, self.own.min_distances, None
            self.maps, cells, self.pixels = self.own.maps, self.own.cells, self.own.image
        else:
            nearest, every = e.nearest
            distances, cells = nearest[n], every[n]
            similarities = self.run.similarity(distances)
            self.maps = e.distances[n]
            baseline = None if e.baseline is None else e.baseline.get(name)
            self.pixels = self.run.store.image(self.run.store.row(name))
        self.top = np.argsort(-weights, kind="stable")[: self.count.value]
        shares = weights / weights.sum()
        self.boxes = [self.run.grid.box(*cells[j]) for j in self.top]
        known = [f"image <b>{escape(str(name))}</b>", f'prediction <b class="insightr-prediction">{prediction:.2f}</b>']
        lines = {f"prediction {prediction:.2f}": (prediction, "black")}
        if target is not None:
            known.append(f"label <b>{target:g}</b>")
            lines[f"label {target:g}"] = (target, "#2a7d2a")
        if baseline is not None:
            known.append(f"baseline {baseline:.2f}")
            lines[f"baseline {baseline:.2f}"] = (float(baseline), "#8a5a00")
        self.headline.value = _DOT.join(known)
        for place, (_, caption) in enumerate(self.pairs):
            self.rows[place].layout.display = "flex" if place < len(self.top) else "none"
            if place < len(self.top):
                j = self.top[place]
                source = e.prototypes.loc[e.prototypes["prototype"] == j].iloc[0]
                caption.value = (f"<div style='line-height:1.5'>prototype {j}, label <b>{e.labels[j]:.2f}</b><br>"
                                 f"contribution <b>{100 * shares[j]:.1f} %</b>"
                                 f"<br>similarity {similarities[j]:.0f}<br>squared distance {distances[j]:.3f}<br>"
                                 f"<small>from {escape(source['image_id'])}</small>")  # fmt: skip
        self.chart.value = pictures.contributions(e.labels, shares, set(self.top), lines)
        self._show_pictures()
        self._show_photograph()

    def _show_photograph(self) -> None:
        if self.view.value == "normalised":
            self.picture.value = pictures.encode(pictures.boxed(self.pixels, self.boxes, 400))
            return
        raw = self.raw if self.own is not None else self._raw()
        self.picture.value = pictures.encode(pictures.fit(raw, 400))

    def _raw(self) -> np.ndarray:
        name = self.e.predictions["image_id"].iloc[self.n]
        store = self.run.store
        try:
            return photograph(store.table["source"][store.row(name)], store.settings.size)
        except InsightrError as error:
            self.message.value = _message(f"the original photograph is not there any more: {error}")
            return np.array(self.pixels)

    def _show_pictures(self) -> None:
        e = self.e
        similar = self.run.similarity(np.asarray(self.maps)[self.top])  # (k, H, W)
        sources = self.run.similarity(self.run.run.array("prototype_maps.npy")[self.top])
        scale: Normalize = heat_scale(np.concatenate([similar, sources]))
        table = e.prototypes.set_index("prototype")
        for (pair, _), j, box, here, there in zip(self.pairs, self.top, self.boxes, similar, sources, strict=False):
            source = self.run.store.image(self.run.store.row(table.loc[j, "image_id"]))
            own = table.loc[j, ["x0", "y0", "x1", "y1"]].to_numpy(int)
            left = pictures.overlay(self.pixels, heat(self.run, here, scale), self.opacity.value)
            right = pictures.overlay(source, heat(self.run, there, scale), self.opacity.value)
            pair.value = pictures.encode(
                pictures.row([pictures.boxed(left, [box], 197), pictures.boxed(right, [own], 197)])
            )


class BrowseTab(w.VBox):
    """Tab 2: a prototype, where it comes from, the nearest patches of the test set, how often it is used."""

    def __init__(self, e: Exploration):
        self.e, self.run, self.shown = e, e.loaded, None
        self.slider = w.IntSlider(min=0, max=len(e.labels) - 1, description="prototype", continuous_update=False,
                                  layout=w.Layout(width="420px"))  # fmt: skip
        self.headline, self.usage, self.captions = _text(""), _text(""), _text("")
        self.headline.add_class("insightr-prototype")
        self.source, self.nearest = _image(380), _image(560)
        legend = _text("<small>prototypes in the order of their labels</small>")
        super().__init__([
            w.HBox([self.slider, legend]), self.headline,
            w.HBox([
                _column(400, _text("<small>source photograph</small>"), self.source, self.usage),
                _column(580, _text("<small>nine nearest patches of the test set</small>"), self.nearest, self.captions),
            ]),
        ])  # fmt: skip
        self.slider.observe(lambda _: self.show(), "value")

    def choose(self, prototype: int) -> None:
        self.slider.value = int(np.flatnonzero(self.e.prototypes["prototype"] == prototype)[0])

    def show(self) -> None:
        if self.shown == self.slider.value:
            return
        self.shown = self.slider.value
        e, p, store = self.e, self.e.prototypes.iloc[self.slider.value], self.run.store
        j, row = int(p["prototype"]), store.row(p["image_id"])
        box = p[["x0", "y0", "x1", "y1"]].to_numpy(int)
        self.source.value = pictures.encode(pictures.boxed(store.image(row), [box], 380))
        near = e.nearest_patches(j)
        reach = int(1.5 * self.run.grid.stride)
        patches = [pictures.patch(store.image(store.row(r.image_id)), r.box, reach, 182) for r in near.itertuples()]
        empty = np.full((182, 182, 3), 255, np.uint8)
        patches += [empty] * (9 - len(patches))
        self.nearest.value = pictures.encode(np.vstack([pictures.row(patches[i : i + 3]) for i in (0, 3, 6)]))
        listed = [f"{escape(r.image_id)} (label {r.target:g}, distance {r.distance:.3f})" for r in near.itertuples()]
        self.captions.value = f"<small>{'; '.join(listed)}</small>"
        self.headline.value = (f"prototype <b>{j}</b>, label <b>{p['label']:.2f}</b>{_DOT}"
                               f"from <b>{escape(p['image_id'])}</b> (label {store.table['label'][row]:g}), "
                               f"row {p['row']}, column {p['col']}{_DOT}importance r {e.importance[j]:.2f}"
                               )  # fmt: skip
        self.usage.value = "<small>in the top 5 of the test images, by label</small><br>" + pictures.shares_chart(
            e.usage(j), 380
        )


class WhatIfTab(w.VBox):
    """Tab 3: prototypes switched off or relabelled; predictions and metrics follow from the stored distances."""

    def __init__(self, e: Exploration, app: Explorer):
        self.e, self.app = e, app
        options = [(f"{p.prototype}: label {p.label:.2f}", int(p.prototype)) for p in e.prototypes.itertuples()]
        self.off = w.SelectMultiple(options=options, rows=14, layout=w.Layout(width="200px"))
        self.prototype = w.Dropdown(options=options, description="prototype")
        low, high = e.labels.min(), e.labels.max()
        self.label = w.FloatText(step=0.1, description="label")
        self.set_label = w.Button(description="set its label")
        self.all_off, self.reset = w.Button(description="all off"), w.Button(description="reset", icon="undo")
        self.message, self.table, self.chart, self.changes = _text(""), _text(""), _text(""), _text("")
        self.table.add_class("insightr-whatif")
        legend = _text(f"<small>Its contribution stays, only its label moves; from {low:.2f} to {high:.2f}.</small>")
        super().__init__([
            w.HBox([
                w.VBox([_text("<small>switched off (Ctrl or Shift for several)</small>"), self.off,
                        w.HBox([self.all_off, self.reset])]),
                w.VBox([self.prototype, self.label, self.set_label, legend, self.changes]),
                w.VBox([self.message, self.table]),
            ]),
            self.chart,
        ])  # fmt: skip
        self.labels = e.labels.copy()
        self.original = e.summary(np.ones(len(e.labels), bool), e.labels)
        self.off.observe(lambda _: self.show(), "value")
        self.prototype.observe(lambda _: self._show_label(), "value")
        self.set_label.on_click(lambda _: self._set())
        self.all_off.on_click(lambda _: setattr(self.off, "value", [v for _, v in self.off.options]))
        self.reset.on_click(lambda _: self._reset())
        self._show_label()

    def _show_label(self) -> None:
        self.label.value = round(float(self.labels[self.prototype.value]), 2)

    def _set(self) -> None:
        low, high = self.e.labels.min(), self.e.labels.max()
        if not low - 0.005 <= self.label.value <= high + 0.005:
            why = f"label {self.label.value:g}: must be from {low:.2f} to {high:.2f}"
            self.message.value = _message(why, "#a00000")
            return
        if self.label.value != round(float(self.labels[self.prototype.value]), 2):  # as it is shown
            self.labels[self.prototype.value] = np.clip(self.label.value, low, high)
        self.show()

    def _reset(self) -> None:
        self.labels = self.e.labels.copy()
        self._show_label()
        self.off.value = ()
        self.show()

    def show(self) -> None:
        e = self.e
        name, weights, trained, target = self.app.tabs.children[0].shown()
        active = np.ones(len(self.labels), bool)
        active[list(self.off.value)] = False
        moved = np.flatnonzero(self.labels != e.labels)
        self.changes.value = "<br>".join(
            f"<small>prototype {j}: {e.labels[j]:.2f} → {self.labels[j]:.2f}</small>" for j in moved
        )
        try:
            changed = e.summary(active, self.labels)
        except InsightrError as error:
            self.message.value, self.table.value, self.chart.value = _message(str(error), "#a00000"), "", ""
            return
        self.message.value = ""
        weights = weights * active
        shares = weights / weights.sum()
        prediction = float(shares @ self.labels)
        label = "" if target is None else f" (label {target:g})"
        lines = [(f"image {escape(str(name))}{label}", trained, prediction, 2)]
        names = {
            "mae": ("MAE", 3),
            "accuracy": ("accuracy", 3),
            "sparsity": ("sparsity", 1),
            "diversity": ("diversity", 0),
        }
        for key, (name, digits) in names.items():
            if changed[key] is not None:
                lines.append((f"{name}, test set", self.original[key], changed[key], digits))
        right = "style='text-align:right'"
        cells = "".join(
            f"<tr><td>{text}</td><td {right}>{a:.{d}f}</td><td {right}><b>{b:.{d}f}</b></td></tr>"
            for text, a, b, d in lines
        )
        self.table.value = f"<table cellpadding=6><tr><th></th><th>as trained</th><th>what if</th></tr>{cells}</table>"
        shown = {
            f"what if {prediction:.2f}": (prediction, "#b00020"),
            f"as trained {trained:.2f}": (trained, "black"),
        }
        self.chart.value = pictures.contributions(self.labels, shares, set(np.argsort(-shares)[:3]), shown)


class MapTab(w.VBox):
    """Tab 4: the latent space in two dimensions; from a prototype to tab 2."""

    def __init__(self, e: Exploration, app: Explorer):
        self.e, self.app, self.map = e, app, None
        self.slider = w.IntSlider(min=0, max=len(e.labels) - 1, description="prototype", continuous_update=False,
                                  layout=w.Layout(width="420px"))  # fmt: skip
        self.look = w.Button(description="browse it", icon="search")
        self.headline, self.picture = _text(""), _image(560)
        self.picture.add_class("insightr-map")
        legend = _text(
            "<small>Principal components. Stars: of every test image the five patches nearest to a prototype, by the "
            "image's label. Circles: prototypes, by their label. Blue is low, red is high.</small>",
            width="560px",
        )
        super().__init__([w.HBox([self.slider, self.look]), self.headline, self.picture, legend])
        self.slider.observe(lambda _: self.show(), "value")
        self.look.on_click(lambda _: app.browse(self.chosen))

    @property
    def chosen(self) -> int:
        return int(self.e.prototypes["prototype"].iloc[self.slider.value])

    def show(self) -> None:
        self.map = self.map or LatentMap.of(self.e.loaded)
        m, low, high = self.map, self.e.labels.min(), self.e.labels.max()
        picture = pictures.scatter(m.prototypes, self.e.labels, m.patches, m.targets, low, high, self.chosen)
        self.picture.value = pictures.encode(picture)
        label = self.e.labels[self.chosen]
        self.headline.value = (f"prototype <b>{self.chosen}</b>, label <b>{label:.2f}</b> (ring){_DOT}"
                               f"the plane holds {m.variance.sum():.0%} of the variance")  # fmt: skip
