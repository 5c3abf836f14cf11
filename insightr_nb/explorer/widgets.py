"""Widgets shared by the tabs of the explorer."""

from html import escape
from typing import Any

import ipywidgets as w

DOT = " &nbsp;·&nbsp; "
WARNING, ERROR = "#8a4b00", "#a00000"


def text(content: str, **layout: Any) -> w.HTML:
    """Create an HTML widget."""
    return w.HTML(content, layout=w.Layout(**layout))


def small(content: str, **layout: Any) -> w.HTML:
    """Create an HTML widget with small text."""
    return text(f"<small>{content}</small>", **layout)


def message(content: str, colour: str = WARNING) -> str:
    """Format a message as HTML, escaped; empty if it has no content."""
    return (
        f'<div class="insightr-message" style="color:{colour};max-width:900px;line-height:1.4">{escape(content)}</div>'
        if content
        else ""
    )


def image(side: int) -> w.Image:
    """Create a JPEG image widget of `side` pixels."""
    return w.Image(format="jpeg", layout=w.Layout(width=f"{side}px", flex="0 0 auto"))


def choice(count: int, description: str) -> w.IntSlider:
    """Create a slider that chooses one of `count` things, from 0; it acts when it is released."""
    return w.IntSlider(
        min=0, max=count - 1, description=description, continuous_update=False, layout=w.Layout(width="420px")
    )


def column(width: int, *children: w.Widget) -> w.VBox:
    """Create a vertical box of fixed width."""
    return w.VBox(children, layout=w.Layout(width=f"{width}px", flex="0 0 auto"))
