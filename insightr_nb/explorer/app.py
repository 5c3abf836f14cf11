"""The explorer of notebook 07: explain and compare images, browse prototypes, edit them, and view the latent map.

`Explorer()` lists the finished runs under `outputs/` and opens one; make it the last expression of a cell. Each tab is
in a module of its own. They share a `Selection`, the explained image, and show pictures in a `viewer`.
"""

import contextlib
import os
import threading
import time
from dataclasses import replace
from html import escape
from pathlib import Path

import ipywidgets as w

from insightr_nb import files
from insightr_nb.analysis.editing import Edit
from insightr_nb.analysis.explanation import DISCLAIMER
from insightr_nb.analysis.loaded_run import load_run
from insightr_nb.data import display
from insightr_nb.errors import DataError, InsightrError, RunError
from insightr_nb.explorer import exploration, widgets
from insightr_nb.explorer.browse_tab import BrowseTab
from insightr_nb.explorer.compare_tab import CompareTab
from insightr_nb.explorer.edit_tab import EditTab
from insightr_nb.explorer.explain_tab import ExplainTab
from insightr_nb.explorer.exploration import Exploration
from insightr_nb.explorer.map_tab import MapTab
from insightr_nb.explorer.subject import Selection, Subject, View
from insightr_nb.runs import Run

_AHEAD = 1000  # pictures rendered in advance, 50 kB each
_QUICK = 0.3  # seconds in which three matches are traced where the trace is shown from the start
_OPEN = 4  # runs that stay open, for comparison
_TITLES = ("Explain an image", "Browse prototypes", "Compare", "What if", "Latent map")
MAKE = "papermill notebooks/03_train.ipynb out.ipynb"
_NEEDED = (
    "model.safetensors",
    "prototypes.csv",
    "prototype_maps.npy",
    "prototypes_before_projection.npy",
    "predictions.csv",
    "weights.npy",
    "distances.npy",
    "nearest_latents.npy",
    "metrics.json",
)


def headless() -> bool:
    """Whether no browser is attached: only Jupyter's server sets JPY_SESSION_NAME for its kernels."""
    return "JPY_SESSION_NAME" not in os.environ


def finished_runs() -> tuple[list[Run], list[str]]:
    """Finished runs with prototypes under outputs/, imported ones last, and the errors of unreadable manifests."""
    root, pattern = files.outputs_root(), "runs/*/*/*/*/*/prototypes.csv"
    found, problems = [], []
    for path in (*sorted(root.glob(pattern)), *sorted(root.glob(f"imported/*/{pattern}"))):
        try:
            if Run(path.parent).state == "finished":
                found.append(Run(path.parent))
        except RunError as error:
            problems.append(str(error))
    return found, problems


class Explorer(w.VBox):
    """The application: a run chooser above five tabs."""

    _latest: "Explorer | None" = None  # the one whose pictures are rendered ahead

    def __init__(self, run: Run | str | Path | None = None, masks: str | None = None) -> None:
        """List the finished runs and open one.

        Args:
            run: The run to open first; by default the first of the list.
            masks: Folder of lesion masks `<image_id>_<lesion>.png`; not needed for synthetic data.

        Raises:
            DataError: If there is no such folder.
        """
        if masks is not None and not files.given_path(masks).is_dir():
            raise DataError(f"masks = {masks!r}: there is no such folder")
        self.masks = None if masks is None else str(files.given_path(masks))
        self._listing = False  # set while filling the chooser or the tabs, to ignore their events
        self.message, self.notice = widgets.text(""), ""
        self.status, self.about = widgets.Status(), widgets.text("")
        self.selection: Selection | None = None
        self.explorations: dict[str, Exploration] = {}
        self.edits: dict[str, list[Edit]] = {}  # of each run that was open, the last one present
        layout = w.Layout(flex="1 1 400px", max_width="700px")
        self.chooser = w.Dropdown(description="run", layout=layout)
        self.again = widgets.button("refresh list", "list the finished runs again", icon="refresh")
        self.tabs = w.Tab()
        top = widgets.wrapped(self.chooser, self.again, self.status)
        super().__init__([widgets.small(DISCLAIMER), top, self.about, self.message, self.tabs])
        self.add_class("insightr-explorer")
        Explorer._latest = self
        self.chooser.observe(self.status.guard(lambda change: self._open(change["new"])), "value")
        self.again.on_click(self.status.guard(lambda _: self.list_runs()))
        self.tabs.observe(self.status.guard(lambda _: self._show_tab()), "selected_index")
        self.list_runs(run)

    def list_runs(self, first: Run | str | Path | None = None) -> None:
        """Fill the chooser and open `first`; by default keep the open run, or open the first of the list."""
        found, problems = finished_runs()
        paths = [str(run.path.resolve()) for run in found]
        now = self.chooser.value
        self._say("")
        self._listing = True
        self.chooser.options = [(files.display_path(run.path), path) for run, path in zip(found, paths, strict=True)]
        self.chooser.value = now if first is None and now in paths else None
        self._listing = False
        if self.chooser.value is not None and self.tabs.children:
            self.compare_tab.list_runs(list(self.chooser.options))
        elif self.chooser.value is not None:  # it could not be opened before
            self._open(self.chooser.value)
        if first is not None:
            run = first if isinstance(first, Run) else Run(files.given_path(first))
            if str(run.path.resolve()) not in paths:
                self._refuse(run, problems)
                return
            self.chooser.value = str(run.path.resolve())
        elif found and now not in paths:
            self.chooser.value = paths[0]
        elif not found:
            self._fill(())
            problems.insert(
                0,
                f"No finished run with prototypes under {files.display_path(files.outputs_root())} yet. "
                f"Create one with: {MAKE}",
            )
        if problems:
            self._say("\n".join([*filter(None, [self.notice]), *problems]))

    def _refuse(self, run: Run, problems: list[str]) -> None:
        """Report why a requested run cannot be shown."""
        self._fill(())
        try:
            run.require_finished()
            root = files.display_path(files.outputs_root())
            why = f"{files.display_path(run.path)} has no prototypes, or is not under {root}"
        except RunError as error:
            why = str(error)
        self._say("\n".join([why, *(p for p in problems if p != why)]), widgets.ERROR)

    def _say(self, text: str, kind: str = widgets.WARNING) -> None:
        self.notice = text  # plain text, for notebooks without a browser
        self.message.value = widgets.message(text, kind)

    def opened(self, path: str) -> Exploration:
        """Open a run by its path, or return it if it is among the last that were opened.

        Raises RunError if it is not finished or not whole.
        """
        if path not in self.explorations:
            run = Run(Path(path))
            missing = [name for name in _NEEDED if not (run / name).exists()]
            if missing:
                raise RunError(f"{', '.join(missing)} missing. {run.remedy('Recreate', overwrite=True)}")
            self.explorations[path] = Exploration(load_run(run), *exploration.baseline_predictions(run))
            while len(self.explorations) > _OPEN:
                self.explorations.pop(next(p for p in self.explorations if p not in (path, self.chooser.value)))
        return self.explorations[path]

    def _open(self, path: str | None) -> None:
        if path is None or self._listing:
            return
        with self.status.busy("opening the run"):
            try:
                self.explorations.pop(path, None)  # its files may have changed
                e = self.opened(path)
                problem = self._select(e)
                explain = ExplainTab(e, self.selection, self.go)
                runs = list(self.chooser.options)
                tabs = (
                    explain,
                    BrowseTab(e, self.selection, self.go),
                    CompareTab(path, runs, self.selection, self.opened, self.go, explain.step),
                    EditTab(e, self.selection, self.go, self.list_runs, self.edits.setdefault(path, [])),
                    MapTab(e, self.selection, self.go),
                )
            except (InsightrError, OSError, ValueError, KeyError) as error:
                self._fill(())
                self._say(f"{files.display_path(Path(path))} cannot be opened: {error}", widgets.ERROR)
                return
            self.exploration = e
            self._say("\n".join(filter(None, [problem, e.baseline_problem])))
            self.about.value = widgets.smaller(_about(e))
            if not headless():
                threading.Thread(target=self._draw_ahead, args=[e], daemon=True).start()
            explain.move_slider(self.selection.subject.name)
            self._fill(tabs)
            self._show_tab()

    def _fill(self, tabs: tuple[w.Widget, ...]) -> None:
        """Replace the tabs, keeping the chosen one; without tabs, the line about the run goes as well."""
        before, shown = self.tabs.children, self.tabs.selected_index or 0
        self._listing = True
        if tabs:
            self.explain_tab, self.browse_tab, self.compare_tab, self.edit_tab, _ = tabs
            self.tabs.children, self.tabs.titles, self.tabs.selected_index = tabs, _TITLES, shown
        else:
            self.tabs.children, self.about.value = (), ""
        self._listing = False
        for tab in before:
            widgets.close(tab)

    def _select(self, e: Exploration) -> str:
        """Keep the explained image in another run, or select its first image; says why if it is not kept."""
        order = e.order("table")
        table = e.predictions.iloc[order] if len(order) else e.prototypes
        first, problem = Subject.of(e, str(table["image_id"].iloc[0])), ""
        if self.selection is None:
            view = View(masks=self.masks)
            self.selection = Selection(first, first.explanation(e), view, self.status)
        else:
            try:
                self.selection.explanation = self.selection.subject.explanation(e)
            except InsightrError as error:
                problem = f"{self.selection.subject.name} cannot be explained by this run: {error}"
                self.selection.subject, self.selection.explanation = first, first.explanation(e)
        if not self.selection.layers_chosen:
            layers = ("trace" if e.fastest[1] < _QUICK else "cells", "boxes")
            self.selection.view = replace(self.selection.view, layers=layers)
        return problem

    def _draw_ahead(self, e: Exploration) -> None:
        """Trace prototypes and render images in the background while the run stays open; one takes up to 0.1 s."""
        if "trace" in self.selection.view.layers:
            for j in range(len(e.labels)):
                if self._ended(e):
                    return
                with contextlib.suppress(InsightrError):  # a damaged image is reported when viewed
                    e.source_trace(j)
        names = [*e.prototypes["image_id"].unique(), *e.predictions.loc[e.available, "image_id"]]
        for name in names[:_AHEAD]:
            if self._ended(e):
                return
            with contextlib.suppress(InsightrError):
                if display.draw(e.loaded.store, e.loaded.store.row(name)):
                    time.sleep(0.1)  # leaves half of the time to the interface

    def _ended(self, e: Exploration) -> bool:
        """Whether another run or another explorer was opened."""
        return self.exploration is not e or Explorer._latest is not self

    def _show_tab(self) -> None:
        if self.tabs.children and self.tabs.selected_index is not None and not self._listing:
            with self.status.busy("drawing"):
                self.tabs.children[self.tabs.selected_index].show()

    def go(self, to: str) -> None:
        """Open what a link names: "image:<image_id>", "prototype:<number>", or "edit:<number>" in tab 4."""
        kind, _, what = to.partition(":")
        tab = {"image": self.explain_tab, "prototype": self.browse_tab, "edit": self.edit_tab}[kind]
        self._listing = True  # the tab shows itself
        self.tabs.selected_index = self.tabs.children.index(tab)
        self._listing = False
        if kind == "image":
            tab.find(what)
        else:
            tab.choose(int(what))


def _about(e: Exploration) -> str:
    """Accuracy and coherence of a run in one line."""
    m, names = e.loaded.metrics, {"mae": "MAE", "kappa": "kappa", "sparsity": "sparsity"}
    known = [f"{name} {m[key]:.3g}" for key, name in names.items() if m.get(key) is not None]
    if m.get("top_label_gap") is not None:
        known.append(f"the label of the largest contribution is {m['top_label_gap']:.2f} off the prediction on average")
    about = f"trained on {escape(e.loaded.store.settings.store_name)}; test set: {', '.join(known)}"
    edited = e.loaded.run.edited
    return about + (f"; <b>edited</b> by {escape(edited.get('by') or 'unknown')}" if edited else "")
