"""Widgets shared by the tabs of the explorer."""

import contextlib
from collections.abc import Callable, Iterator
from html import escape
from typing import Any

import ipywidgets as w

from insightr_nb.errors import InsightrError

DOT = " &nbsp;·&nbsp; "
WARNING, ERROR = "warn", "error"  # names of JupyterLab's colours, which are legible on its light and dark theme


def text(content: str, **layout: Any) -> w.HTML:
    """Create an HTML widget."""
    return w.HTML(content, layout=w.Layout(**layout))


def small(content: str, **layout: Any) -> w.HTML:
    """Create an HTML widget with small text, 12 px."""
    return text(smaller(content), **layout)


def line(content: str) -> str:
    """Format HTML as a line that may wrap."""
    return f'<div style="line-height:1.5">{content}</div>'


def smaller(content: str) -> str:
    """Format HTML as small text, 12 px."""
    return f'<div style="font-size:12px;line-height:1.4">{content}</div>'


def message(content: str, kind: str = WARNING) -> str:
    """Format a message as HTML, escaped, a line of HTML per line; empty if it has no content."""
    colour = f"var(--jp-{kind}-color1, {'#a00000' if kind == ERROR else '#8a4b00'})"
    lines = "<br>".join(escape(line) for line in content.splitlines())
    style = f"border-left:4px solid {colour};padding-left:8px;max-width:1000px;line-height:1.4"
    return f'<div class="insightr-message" role="status" style="{style}">{lines}</div>' if content else ""


def choice(count: int, description: str) -> w.IntSlider:
    """Create a slider that chooses one of `count` things, from 0; it acts when it is released."""
    layout = w.Layout(flex="1 1 300px", max_width="460px")
    return w.IntSlider(min=0, max=count - 1, description=description, continuous_update=False, layout=layout)


def button(description: str, tooltip: str = "", **more: Any) -> w.Button:
    """Create a button as wide as its text."""
    return w.Button(description=description, tooltip=tooltip, layout=w.Layout(width="auto"), **more)


def refill(chooser: w.Dropdown, options: list) -> None:
    """Offer other options, and keep the chosen value, which must be among them. The chooser fires its events."""
    chosen = chooser.value
    chooser.options = options
    chooser.value = chosen


def switch(description: str, value: bool, tooltip: str) -> w.ToggleButton:
    """Create a switch as wide as its text."""
    layout = w.Layout(width="auto", margin="2px 0")
    return w.ToggleButton(value, description=description, tooltip=tooltip, layout=layout)


def wrapped(*children: w.Widget) -> w.HBox:
    """Create a row whose children wrap where it is too narrow."""
    return w.HBox(children, layout=w.Layout(flex_flow="row wrap", align_items="center", overflow="visible"))


def close(widget: w.Widget) -> None:
    """Close a widget and all inside it, which ipywidgets keeps alive otherwise."""
    for child in getattr(widget, "children", ()):
        close(child)
    for part in (getattr(widget, "layout", None), getattr(widget, "style", None), widget):
        if isinstance(part, w.Widget):
            part.close()


class Status(w.HTML):
    """A sign of what the kernel is busy with."""

    def say(self, problem: str) -> None:
        """Show a problem until something else is shown."""
        self.value = message(problem, ERROR)

    def guard(self, act: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a callback so that its errors are shown: ipywidgets writes them to a log that nobody sees."""

        def guarded(*args: Any) -> Any:
            try:
                return act(*args)
            except InsightrError as error:
                self.say(str(error))
            except Exception as error:
                self.say(f"{type(error).__name__}: {error}")
                raise

        return guarded

    @contextlib.contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Show what is being done until the block ends."""
        shown = f'<span class="insightr-busy" role="status" style="font-size:12px">⏳ {escape(what)} …</span>'
        self.value = shown
        try:
            yield
        finally:
            if self.value == shown:  # else a problem came up
                self.value = ""
