"""The explorer of notebook 07: explain an image, browse prototypes, switch them off, and view the latent map.

`Explorer()` lists the finished runs under `outputs/` and opens one; make it the last expression of a cell. Everything
is computed from the stored files of the run; only a user's own image passes through the network. The tabs are in
`explain_tab` and `tabs`.
"""

import contextlib
import os
import threading
import time
from pathlib import Path

import ipywidgets as w

from insightr_nb import files
from insightr_nb.analysis.explanation import DISCLAIMER
from insightr_nb.analysis.loaded_run import load_run
from insightr_nb.data import display
from insightr_nb.errors import InsightrError, RunError
from insightr_nb.explorer import exploration, widgets
from insightr_nb.explorer.explain_tab import ExplainTab
from insightr_nb.explorer.exploration import Exploration, Selection
from insightr_nb.explorer.tabs import BrowseTab, MapTab, WhatIfTab
from insightr_nb.runs import Run

_AHEAD = 1000  # pictures rendered in advance, 50 kB each
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
    """The application: a run chooser above four tabs."""

    def __init__(self, run: Run | str | Path | None = None):
        self._listing = False  # set while filling the chooser, to ignore its events
        self.message, self.notice = widgets.text(""), ""
        self.chooser = w.Dropdown(description="run", layout=w.Layout(width="620px"))
        self.again = w.Button(description="refresh list", tooltip="list the finished runs again", icon="refresh")
        self.tabs = w.Tab()
        note = widgets.small(DISCLAIMER)
        super().__init__([note, w.HBox([self.chooser, self.again]), self.message, self.tabs])
        self.add_class("insightr-explorer")
        self.chooser.observe(lambda change: self._open(change["new"]), "value")
        self.again.on_click(lambda _: self.list_runs())
        self.tabs.observe(lambda _: self._show_tab(), "selected_index")
        self.list_runs(run)

    def list_runs(self, first: Run | str | Path | None = None) -> None:
        """Fill the chooser and open `first`; by default keep the open run, or open the first of the list."""
        found, problems = finished_runs()
        paths = [str(run.path.resolve()) for run in found]
        now = self.chooser.value
        self._listing = True
        self.chooser.options = [(files.display_path(run.path), path) for run, path in zip(found, paths, strict=True)]
        self.chooser.value = now if first is None and now in paths else None
        self._listing = False
        if first is not None:
            run = first if isinstance(first, Run) else Run(files.given_path(first))
            if str(run.path.resolve()) not in paths:
                self._refuse(run, problems)
                return
            self.chooser.value = str(run.path.resolve())
        elif found and now not in paths:
            self.chooser.value = paths[0]
        elif not found:
            self.tabs.children = ()
            problems.insert(
                0,
                f"No finished run with prototypes under {files.display_path(files.outputs_root())} yet. "
                f"Create one with: {MAKE}",
            )
        if problems:
            self._say(". ".join(problems))

    def _refuse(self, run: Run, problems: list[str]) -> None:
        """Report why a requested run cannot be shown."""
        self.tabs.children = ()
        try:
            run.require_finished()
            root = files.display_path(files.outputs_root())
            why = f"{files.display_path(run.path)} has no prototypes, or is not under {root}"
        except RunError as error:
            why = str(error)
        self._say(". ".join([why, *(p for p in problems if p != why)]), widgets.ERROR)

    def _say(self, text: str, colour: str = widgets.WARNING) -> None:
        self.notice = text  # plain text, for notebooks without a browser
        self.message.value = widgets.message(text, colour)

    def _open(self, path: str | None) -> None:
        if path is None or self._listing:
            return
        try:
            run = Run(Path(path))
            missing = [name for name in _NEEDED if not (run / name).exists()]
            if missing:
                raise RunError(f"{', '.join(missing)} missing. Recreate it with: {run.command()} -p overwrite True")
            self.exploration = Exploration(load_run(run), exploration.baseline_predictions(run))
            self.selection, self.browse_tab = Selection(), BrowseTab(self.exploration)
            tabs = [
                ExplainTab(self.exploration, self.selection),
                self.browse_tab,
                WhatIfTab(self.exploration, self.selection),
                MapTab(self.exploration, self.browse),
            ]
        except (InsightrError, OSError, ValueError, KeyError) as error:
            self.tabs.children = ()
            self._say(f"{files.display_path(Path(path))} cannot be opened: {error}", widgets.ERROR)
            return
        self._say("")
        if not headless():
            threading.Thread(target=self._draw_ahead, args=[self.exploration], daemon=True).start()
        self.tabs.children = tabs
        self.tabs.titles = ("Explain an image", "Browse prototypes", "What if", "Latent map")
        self.tabs.selected_index = 0
        self._show_tab()

    def _draw_ahead(self, e: Exploration) -> None:
        """Render images at display size in the background while the run stays open; one takes 0.1 s."""
        names = [*e.prototypes["image_id"].unique(), *e.predictions.loc[e.available, "image_id"]]
        for name in names[:_AHEAD]:
            if self.exploration is not e:
                return
            with contextlib.suppress(InsightrError):  # a damaged image is reported when viewed
                if display.draw(e.loaded.store, e.loaded.store.row(name)):
                    time.sleep(0.1)  # leaves half of the time to the interface

    def _show_tab(self) -> None:
        if self.tabs.children and self.tabs.selected_index is not None:
            self.tabs.children[self.tabs.selected_index].show()

    def browse(self, prototype: int) -> None:
        """Open tab 2 on a prototype."""
        self.browse_tab.choose(prototype)
        self.tabs.selected_index = self.tabs.children.index(self.browse_tab)
