"""Tab 3 of the explorer: two images by one run, or one image by two runs, side by side."""

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path

import ipywidgets as w

from insightr_nb.analysis.explanation import Explanation
from insightr_nb.errors import InsightrError
from insightr_nb.explorer import widgets
from insightr_nb.explorer.explain_tab import chart_block, headline
from insightr_nb.explorer.exploration import Exploration
from insightr_nb.explorer.scene import Scene, explained
from insightr_nb.explorer.subject import Selection, Subject
from insightr_nb.explorer.viewer import viewer

_SAME = "the explained image"
_LISTED = 2000  # ids that a field of ids suggests


@dataclass
class Side:
    """One side of the comparison: its controls, and the prefix of its pictures and links."""

    run: w.Dropdown
    image: w.Combobox
    prefix: str


class CompareTab(w.VBox):
    """Tab 3: two explanations side by side, each of any run and any image; zoomed in step."""

    def __init__(
        self,
        path: str,
        runs: list[tuple[str, str]],
        selection: Selection,
        opened: Callable[[str], Exploration],
        go: Callable[[str], None],
        step: Callable[[int], None],
    ) -> None:
        """Build the tab.

        Args:
            path: The open run.
            runs: Text and path of the runs to choose from.
            selection: The explained image.
            opened: Opens a run by its path.
            go: Opens what a link names, in the open run.
            step: Goes to the image before or after the explained one.
        """
        self.path, self.selection, self.opened, self.go, self.step = path, selection, opened, go, step
        self._filling = False  # set while the controls are filled, to ignore their events
        near = [p for _, p in runs if p != path and Path(p).parent == Path(path).parent]
        other = next(
            (p for p in near if _tag(p) == _tag(path)), next(iter(near), path)
        )  # another fold, if there is one
        self.sides = [self._side(runs, chosen, prefix) for chosen, prefix in ((path, "a:"), (other, "b:"))]
        self.swap = widgets.button("exchange sides", icon="exchange")
        self.message, self.warnings = widgets.text(""), widgets.text("")
        self.viewer = viewer(
            selection.status,
            go=lambda event: self._go(event["to"]),
            step=lambda event: self._step(event["by"]),
            detail=lambda event: self._detail(event["key"]),
        )
        rows = [widgets.wrapped(side.run, side.image) for side in self.sides]
        super().__init__([*rows, widgets.wrapped(self.swap), self.message, self.warnings, self.viewer])
        self.swap.on_click(selection.status.guard(lambda _: self._swap()))
        self.shown: dict[str, tuple[Exploration, Subject, Explanation]] = {}

    def list_runs(self, runs: list[tuple[str, str]]) -> None:
        """Offer other runs, and keep those that are shown as long as they are there."""
        self._filling = True
        for side in self.sides:
            kept = side.run.value if side.run.value in [path for _, path in runs] else self.path
            side.run.options = runs
            side.run.value = kept
        self._filling = False

    def _side(self, runs: list[tuple[str, str]], path: str, prefix: str) -> Side:
        name = "left" if prefix == "a:" else "right"
        layout = w.Layout(flex="1 1 300px", max_width="620px")
        run = w.Dropdown(options=runs, value=path, description=name, layout=layout)
        image = w.Combobox(
            placeholder=_SAME, description="image", continuous_update=False, layout=w.Layout(width="300px")
        )
        for control in (run, image):
            control.observe(self.selection.status.guard(lambda _: self._filling or self.show()), "value")
        return Side(run, image, prefix)

    def _swap(self) -> None:
        left, right = self.sides
        before = left.run.value, left.image.value
        self._filling = True
        left.run.value, left.image.value = right.run.value, right.image.value
        right.run.value, right.image.value = before
        self._filling = False
        self.show()

    def _go(self, to: str) -> None:
        """Follow a link: an image is shown on the same side, a prototype of the open run in its tab."""
        prefix, to = to[:2], to[2:]
        side = next(side for side in self.sides if side.prefix == prefix)
        if to.startswith("image:"):
            side.image.value = to.removeprefix("image:")
        elif side.run.value == self.path:
            self.go(to)
        else:
            self.selection.status.say(f"{to.replace(':', ' ')} is one of another run: choose that run to browse it.")

    def _step(self, by: int) -> None:
        self.step(by)
        self.show()

    def show(self) -> None:
        """Explain both sides; what cannot be explained is reported."""
        view, problems, warnings, columns = self.selection.view, [], [], []
        scene, self.shown = Scene("", view.original), {}
        with self.selection.status.busy("comparing"):
            for side in self.sides:
                try:
                    e = self.opened(side.run.value)
                    side.image.options = [str(i) for i in e.predictions["image_id"][e.available][:_LISTED]]
                    name = side.image.value.strip()
                    subject = Subject.of(e, name) if name else self.selection.subject
                    x = subject.explanation(e)
                    columns.append(self._column(scene, side, e, subject, x))
                except InsightrError as error:
                    problems.append(f"{side.run.description}: {error}")
                    continue
                warnings += [f"{side.run.description}: {text}" for text in x.warnings]
                self.shown[side.prefix] = e, subject, x
        scene.id = "compare:" + "|".join(f"{e.loaded.path}:{subject}" for e, subject, _ in self.shown.values())
        scene.blocks = columns
        if len(columns) == 2:
            scene.blocks.append({"kind": "text", "style": "flex: 1 1 100%", "html": self._difference()})
        self.message.value = widgets.message("\n".join([*problems, *dict.fromkeys(scene.problems)]), widgets.ERROR)
        self.warnings.value = widgets.message("\n".join(warnings), widgets.ERROR)
        self.viewer.layers(view.layers, self.selection.opacity)
        self.viewer.show(scene)

    def _column(self, scene: Scene, side: Side, e: Exploration, subject: Subject, x: Explanation) -> dict:
        view = self.selection.view
        blocks = explained(scene, e, subject, x, view, side.prefix)
        run = escape("/".join(e.loaded.path.parts[-2:]))
        title = f'<span class="insightr-side"><b>{run}</b>{widgets.DOT}{headline(e, subject, x)}</span>'
        chart = chart_block(e, subject, x, view.count, side.prefix)
        return {"kind": "column", "title": title, "blocks": [*blocks, chart]}

    def _difference(self) -> str:
        (left, one, a), (right, other, b) = self.shown.values()
        same_run = left.loaded.path == right.loaded.path
        if same_run and one == other:
            return "Both sides show the same image and run: choose another run or image for one of them."
        difference = abs(round(a.prediction, 2) - round(b.prediction, 2))  # of the numbers that are shown
        texts = [f"The predictions differ by <b>{difference:.2f}</b>."]
        if same_run:
            shared = sorted(set(a.reasons(5)) & set(b.reasons(5)))
            names = ", ".join(" = ".join(map(str, js)) for js in shared)
            texts.append(f"Their five largest contributions share {len(shared)} prototypes{': ' * bool(names)}{names}.")
        else:
            shared = len(_sources(left, a) & _sources(right, b))
            texts.append(f"Their five largest contributions share {shared} training photograph{'s' * (shared != 1)}.")
        return " ".join(texts)

    def _detail(self, key: str) -> bytes:
        e, subject, _ = self.shown[key[:2]]
        shown = subject if key[2:] == "image" else Subject.of(e, key[2:].removeprefix("source:"))
        return shown.picture(e, self.viewer.content.original, detail=True)


def _tag(path: str) -> str:
    return Path(path).name.partition("-")[2]


def _sources(e: Exploration, x: Explanation) -> set[tuple[str, str]]:
    """Photographs of the prototypes with the five largest contributions."""
    return {Subject.of(e, str(x.prototype_sources["image_id"].iloc[js[0]])).origin for js in x.reasons(5)}
