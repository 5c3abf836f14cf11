"""The layout that CONTRIBUTING.md documents: a test file for every module, and imports in one direction."""

import ast
from pathlib import Path

import pytest
from places import ROOT

PACKAGE = ROOT / "insightr_nb"
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
UNTESTED = {Path("__init__.py"): "tests/test_public_names.py"}  # the other __init__.py hold a docstring only

# A part may import from itself and from parts of smaller rank. CONTRIBUTING.md gives the order; what it leaves out:
RANK = {"errors": -2, "files": -1, "checked": -1, "presets": -1, "setting_groups": -0.5, "manifests": 0.5, "demo": 100}
ORDER = next(
    line.split(" -> ")
    for line in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("settings -> ")
)
RANK |= {part: rank for rank, parts in enumerate(ORDER) for part in parts.split(", ")}


def only_a_docstring(path: Path) -> bool:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return len(body) == 1 and isinstance(body[0], ast.Expr)


def test_every_module_has_its_test_file():
    expect = {
        module: Path("tests") / module.parent / f"test_{module.name}"
        for module in MODULES
        if module not in UNTESTED and not only_a_docstring(PACKAGE / module)
    }
    missing = [str(path) for path in expect.values() if not (ROOT / path).is_file()]
    assert missing == []
    assert all((ROOT / path).is_file() for path in UNTESTED.values())


def imported(source: str) -> set[str]:
    """Parts of the package that a module imports, also inside its functions; "" for the package itself."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    parts = (name.split(".") for name in names)
    return {part[1] if len(part) > 1 else "" for part in parts if part[0] == "insightr_nb"}


def test_imports_are_found_in_every_form():
    source = (
        "import numpy, insightr_nb.files\nfrom insightr_nb import runs\nfrom insightr_nb.data.store import Store\n"
        "def later():\n    from insightr_nb.explorer import app\n"
    )
    assert imported(source) == {"files", "runs", "data", "explorer"}


@pytest.mark.parametrize("module", [m for m in MODULES if m != Path("__init__.py")], ids=str)
def test_imports_go_one_way(module):
    part = module.parts[0].removesuffix(".py")
    others = imported((PACKAGE / module).read_text(encoding="utf-8")) - {part}
    assert {other: RANK[other] for other in others if RANK[other] >= RANK[part]} == {}
