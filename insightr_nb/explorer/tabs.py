"""Tabs 2 to 4 of the explorer: browse prototypes, switch off or relabel them, and view the latent space."""

from collections.abc import Callable
from html import escape

import ipywidgets as w
import numpy as np

from insightr_nb.analysis.latent import LatentMap
from insightr_nb.analysis.metrics import top_prototypes
from insightr_nb.errors import InsightrError
from insightr_nb.explorer import pictures, widgets
from insightr_nb.explorer.exploration import Exploration, Selection


class BrowseTab(w.VBox):
    """Tab 2: a prototype, its source, the nearest patches of the test set, and its usage."""

    def __init__(self, e: Exploration):
        self.e, self.run, self.shown = e, e.loaded, None
        self.slider = widgets.choice(len(e.labels), "prototype")
        self.headline, self.usage, self.captions = widgets.text(""), widgets.text(""), widgets.text("")
        self.headline.add_class("insightr-prototype")
        self.source, self.nearest = widgets.image(380), widgets.image(560)
        legend = widgets.small("prototypes in the order of their labels")
        super().__init__(
            [
                w.HBox([self.slider, legend]),
                self.headline,
                w.HBox(
                    [
                        widgets.column(400, widgets.small("source photograph"), self.source, self.usage),
                        widgets.column(
                            580, widgets.small("nine nearest patches of the test set"), self.nearest, self.captions
                        ),
                    ]
                ),
            ]
        )
        self.slider.observe(lambda _: self.show(), "value")

    def choose(self, prototype: int) -> None:
        """Select a prototype by its number."""
        self.slider.value = int(np.flatnonzero(self.e.prototypes["prototype"] == prototype)[0])

    def show(self) -> None:
        if self.shown == self.slider.value:
            return
        self.shown = self.slider.value
        e, p, store = self.e, self.e.prototypes.iloc[self.slider.value], self.run.store
        j, row = int(p["prototype"]), store.row(p["image_id"])
        box = self.run.display_box(p[["x0", "y0", "x1", "y1"]])
        self.source.value = pictures.encode(pictures.boxed(self.run.display_image(p["image_id"]), [box], 380))
        near = e.nearest_patches(j)
        reach = int(1.5 * self.run.display_grid.stride)
        patches = [
            pictures.patch(self.run.display_image(r.image_id), self.run.display_box(r.box), reach, 182)
            for r in near.itertuples()
        ]
        empty = np.full((182, 182, 3), 255, np.uint8)
        patches += [empty] * (9 - len(patches))
        self.nearest.value = pictures.encode(np.vstack([pictures.row(patches[i : i + 3]) for i in (0, 3, 6)]))
        listed = [f"{escape(r.image_id)} (label {r.target:g}, distance {r.distance:.3f})" for r in near.itertuples()]
        self.captions.value = f"<small>{'; '.join(listed)}</small>"
        self.headline.value = (
            f"prototype <b>{j}</b>, label <b>{p['label']:.2f}</b>{widgets.DOT}"
            f"from <b>{escape(p['image_id'])}</b> (label {store.table['label'][row]:g}), "
            f"row {p['row']}, column {p['col']}{widgets.DOT}importance r {e.importance[j]:.2f}"
        )
        self.usage.value = "<small>in the top 5 of the test images, by label</small><br>" + pictures.shares_chart(
            e.usage(j), 380
        )


class WhatIfTab(w.VBox):
    """Tab 3: switch off or relabel prototypes; predictions and metrics are computed from the stored contributions."""

    def __init__(self, e: Exploration, selection: Selection):
        self.e, self.selection = e, selection
        options = [(f"{p.prototype}: label {p.label:.2f}", int(p.prototype)) for p in e.prototypes.itertuples()]
        self.off = w.SelectMultiple(options=options, rows=14, layout=w.Layout(width="200px"))
        self.prototype = w.Dropdown(options=options, description="prototype")
        low, high = e.labels.min(), e.labels.max()
        self.label = w.FloatText(step=0.1, description="label")
        self.set_label = w.Button(description="set its label")
        self.all_off, self.reset = w.Button(description="all off"), w.Button(description="reset", icon="undo")
        self.message, self.table, self.chart, self.changes = (widgets.text("") for _ in range(4))
        self.table.add_class("insightr-whatif")
        legend = widgets.small(f"Its contribution stays, only its label moves; from {low:.2f} to {high:.2f}.")
        super().__init__(
            [
                w.HBox(
                    [
                        w.VBox(
                            [
                                widgets.small("switched off (Ctrl or Shift for several)"),
                                self.off,
                                w.HBox([self.all_off, self.reset]),
                            ]
                        ),
                        w.VBox([self.prototype, self.label, self.set_label, legend, self.changes]),
                        w.VBox([self.message, self.table]),
                    ]
                ),
                self.chart,
            ]
        )
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
            self.message.value = widgets.message(why, widgets.ERROR)
            return
        if self.label.value != round(float(self.labels[self.prototype.value]), 2):  # as displayed
            self.labels[self.prototype.value] = np.clip(self.label.value, low, high)
        self.show()

    def _reset(self) -> None:
        self.labels = self.e.labels.copy()
        self._show_label()
        self.off.value = ()
        self.show()

    def show(self) -> None:
        e, image = self.e, self.selection.explanation
        active = np.ones(len(self.labels), bool)
        active[list(self.off.value)] = False
        moved = np.flatnonzero(self.labels != e.labels)
        self.changes.value = "<br>".join(
            f"<small>prototype {j}: {e.labels[j]:.2f} → {self.labels[j]:.2f}</small>" for j in moved
        )
        try:
            changed = e.summary(active, self.labels)
        except InsightrError as error:
            self.message.value, self.table.value, self.chart.value = widgets.message(str(error), widgets.ERROR), "", ""
            return
        self.message.value = ""
        weights = image.weights.astype(float) * active
        shares = weights / weights.sum()
        prediction = float(shares @ self.labels)
        label = "" if image.target is None else f" (label {image.target:g})"
        lines = [(f"image {escape(image.name)}{label}", image.prediction, prediction, 2)]
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
        marks = {
            f"what if {prediction:.2f}": (prediction, "#b00020"),
            f"as trained {image.prediction:.2f}": (image.prediction, "black"),
        }
        top = set(top_prototypes(weights[None], 3)[0])
        self.chart.value = pictures.contributions(self.labels, shares, top, marks)


class MapTab(w.VBox):
    """Tab 4: the latent space in two dimensions, with a link to tab 2."""

    def __init__(self, e: Exploration, browse: Callable[[int], None]):
        """Build the tab; `browse` opens a prototype in tab 2."""
        self.e, self.map = e, None
        self.slider = widgets.choice(len(e.labels), "prototype")
        self.look = w.Button(description="browse it", icon="search")
        self.headline, self.picture = widgets.text(""), widgets.image(560)
        self.picture.add_class("insightr-map")
        legend = widgets.text(
            "<small>Principal components. Stars: of every test image the five patches nearest to a prototype, by the "
            "image's label. Circles: prototypes, by their label. Blue is low, red is high.</small>",
            width="560px",
        )
        super().__init__([w.HBox([self.slider, self.look]), self.headline, self.picture, legend])
        self.slider.observe(lambda _: self.show(), "value")
        self.look.on_click(lambda _: browse(self.chosen))

    @property
    def chosen(self) -> int:
        return int(self.e.prototypes["prototype"].iloc[self.slider.value])

    def show(self) -> None:
        self.map = self.map or LatentMap.of(self.e.loaded)
        m, low, high = self.map, self.e.labels.min(), self.e.labels.max()
        picture = pictures.scatter(m.prototypes, self.e.labels, m.patches, m.targets, low, high, self.chosen)
        self.picture.value = pictures.encode(picture)
        label = self.e.labels[self.chosen]
        self.headline.value = (
            f"prototype <b>{self.chosen}</b>, label <b>{label:.2f}</b> (ring){widgets.DOT}"
            f"the plane holds {m.variance.sum():.0%} of the variance"
        )
