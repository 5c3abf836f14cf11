"""Helpers for the sentences that the notebooks print."""

import textwrap


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: "1 image", "2 images"."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def say(*sentences: str) -> None:
    """Print sentences, with lines of at most 100 characters that break between words."""
    for line in "\n".join(sentences).splitlines():
        print(textwrap.fill(line, 100, break_long_words=False, break_on_hyphens=False))
