"""README and docs: links and pictures exist, commands and parameters are valid, README is short."""

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest
from places import NOTEBOOKS, ROOT
from texts import FENCE, commands, text_of

TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
SNAKEFILE = (ROOT / "Snakefile").read_text(encoding="utf-8")
TARGETS = set(re.search(r"^\.PHONY: (.+)", MAKEFILE, re.MULTILINE)[1].split())
VARIABLES = set(re.findall(r"^(\w+) *[:?]?=", MAKEFILE, re.MULTILINE))
CONFIG = set(re.findall(r'"(\w+)"', re.search(r"^KNOWN = \(.*?\)", SNAKEFILE, re.MULTILINE | re.DOTALL)[0]))
RULES = set(re.findall(r"^rule (\w+):", SNAKEFILE, re.MULTILINE))


def prose(path: Path) -> str:
    return FENCE.sub("", text_of(path))


def anchors(path: Path) -> set[str]:
    """Anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def problems(words: list[str]) -> list[str]:
    """What is wrong with a command of papermill, make, snakemake or Python."""
    program, *rest = words
    if program == "papermill":
        return _papermill(rest)
    if program == "make":
        given = dict(word.split("=", 1) for word in rest if "=" in word)
        targets = {word for word in rest if "=" not in word and not word.startswith("-")}
        unknown = (targets - TARGETS) | (set(given) - VARIABLES)
        return [f"make has no {name}" for name in unknown] + _config(shlex.split(given.get("SNAKEMAKE", "")))
    if program == "snakemake":
        return _config(rest)
    if program == "python" and not (ROOT / rest[0]).is_file():
        return [f"{rest[0]} does not exist"]
    return []


def _papermill(words: list[str]) -> list[str]:
    path = Path(words[0])
    if not (ROOT / path).is_file():
        return [f"{path} does not exist"]
    kind = NOTEBOOKS[path.stem]
    triples = zip(words, words[1:], words[2:], strict=False)
    given = {name: value for flag, name, value in triples if flag in ("-p", "-r")}
    unknown = [f"{path.stem} has no parameter {name}" for name in given if name not in kind.names()]
    if not unknown:
        kind(**{name: value for name, value in given.items() if not value.startswith("$")})  # raises for a bad value
    return unknown


def _config(words: list[str]) -> list[str]:
    keys = [word.partition("=")[0] for word in words if "=" in word]
    found = [f"--config has no {key}" for key in keys if key not in CONFIG]
    if "--profile" in words and not (ROOT / words[words.index("--profile") + 1]).is_dir():
        found.append("no such profile")
    plain = [w for before, w in zip(["", *words], words, strict=False) if w.isidentifier() and before != "--profile"]
    return found + [f"Snakefile has no rule {word}" for word in plain if word not in RULES]


def test_readme_is_short():
    assert len(text_of(ROOT / "README.md").splitlines()) <= 170


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_links_and_pictures_exist(path):
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", prose(path)) if "://" not in link]
    for link in links:
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), f"{path.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{path.name}: {link} names no heading"


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_commands_name_what_there_is(path):
    found = {" ".join(words): problems(words) for words in commands(text_of(path))}
    assert not {command: wrong for command, wrong in found.items() if wrong}
    inline = re.findall(r"`make ([a-z][\w-]*)", prose(path))
    assert set(inline) <= TARGETS


def test_the_readme_has_commands():
    found = [words[0] for words in commands(text_of(ROOT / "README.md"))]
    assert found.count("papermill") >= 5
    assert found.count("make") >= 3


@pytest.mark.parametrize(
    ("command", "expect"),
    [
        ("papermill notebooks/03_train.ipynb out.ipynb -p fodl 2", "03_train has no parameter fodl"),
        ("papermill notebooks/03_trian.ipynb out.ipynb", "notebooks/03_trian.ipynb does not exist"),
        ("for k in 0; do papermill notebooks/02_model.ipynb o -p fold $k; done", "02_model has no parameter fold"),
        ("make tabels", "make has no tabels"),
        ("make tables SNAKEMAKE='--config preset=demo flods=2'", "--config has no flods"),
        ("snakemake --profile profiles/moon", "no such profile"),
    ],
)
def test_a_wrong_command_is_found(command, expect):
    found = [wrong for words in commands(f"```\n{command}\n```\n") for wrong in problems(words)]
    assert found == [expect]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_python_examples_import_what_there_is(path):
    for language, block in FENCE.findall(text_of(path)):
        for node in ast.walk(ast.parse(block)) if language == "python" else ():
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name) or importlib.import_module(f"{node.module}.{alias.name}")
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    importlib.import_module(alias.name)


def test_every_notebook_is_in_the_tour():
    assert {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")} == set(NOTEBOOKS)
    for name in NOTEBOOKS:
        assert f"[{name}](notebooks/{name}.ipynb)" in text_of(ROOT / "README.md")
