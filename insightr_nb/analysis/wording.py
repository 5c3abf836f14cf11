"""Helpers for the sentences and tables that the notebooks print."""

import textwrap
from collections.abc import Mapping


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: "1 image", "2 images"."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def with_interval(value: float, low: float, high: float, form: str = ".3f") -> str:
    """Format a value with its interval; without one if that is unknown (NaN), and a dash if the value is.

    Example:
        >>> with_interval(0.5, 0.25, 0.75, ".0%")
        '50% (25% to 75%)'
    """
    if value != value:
        return "-"
    return f"{value:{form}}" + ("" if low != low else f" ({low:{form}} to {high:{form}})")


def interval_of(row: Mapping[str, float], name: str, form: str = ".3f") -> str:
    """`with_interval` of an entry of a row, whose interval is in the entries "<name> low" and "<name> high"."""
    return with_interval(row[name], row[f"{name} low"], row[f"{name} high"], form)


def say(*sentences: str) -> None:
    """Print sentences, with lines of at most 100 characters that break between words."""
    for line in "\n".join(sentences).splitlines():
        print(textwrap.fill(line, 100, break_long_words=False, break_on_hyphens=False))
