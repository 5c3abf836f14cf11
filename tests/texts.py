"""Code blocks and commands of README and docs."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def commands(text: str) -> Iterator[list[str]]:
    """The commands in the code blocks without a language, as words; of a shell's loop those inside."""
    for language, block in FENCE.findall(text):
        if language:
            continue
        for line in block.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
            lexer.whitespace_split = True
            words: list[str] = []
            for word in [*lexer, ";"]:
                if not set(word) <= set(";&|"):
                    words += [word] if words or word not in ("do", "then") else []
                elif words:
                    yield words
                    words = []
