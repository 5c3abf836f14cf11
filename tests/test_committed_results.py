"""The committed results: of the current presets, and equal to the numbers in README and docs."""

import importlib.util
import json
from itertools import pairwise

import pytest
from places import ROOT

from insightr_nb.analysis import records, tables

RECORDS = sorted((ROOT / "docs" / "results").glob("*.json"))


@pytest.fixture(scope="module")
def render():
    spec = importlib.util.spec_from_file_location("render", ROOT / "docs" / "render.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_are_results():
    assert {p.stem for p in RECORDS} >= {"table1", "findings", "demo_choice"}


@pytest.mark.parametrize("path", RECORDS, ids=lambda p: p.stem)
def test_records_are_of_the_current_presets(path):
    assert records.stale(json.loads(path.read_text())) == []


@pytest.mark.parametrize("name", ["README.md", "docs/results.md", "docs/trust.md", "docs/differences.md"])
def test_texts_agree_with_the_records(render, name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "<!-- results: " in text
    assert render.rendered(text) == text, "give: python docs/render.py"


def test_tables_fit_a_page(render):
    """GitHub's page shows about 135 characters of a table; headings and the claims of the verdicts wrap."""
    for name, render_block in render.BLOCKS.items():
        lines = render_block().splitlines()
        rows = [line for line, below in pairwise([*lines, ""]) if line.startswith("| ") and not below.startswith("|:")]
        widths = [sum(len(cell.strip()) + 1 for cell in row.split("|")[1:-1]) for row in rows]
        assert name in ("verdicts", "repetition") or max(widths, default=0) <= 135, name


def test_every_record_is_used_in_a_text(render):
    texts = "".join(path.read_text(encoding="utf-8") for path in render.TEXTS)
    told = {name for name in render.BLOCKS if f"<!-- results: {name} -->" in texts}
    assert {p.stem.removeprefix("trust_") for p in RECORDS} <= told | {"trust"}
    assert {"verdicts", "repetition"} <= told  # of the records trust and trust_repetition
    assert {"short_table1", "table1_continuous", "statistics"} <= told  # of the record table1 as well


def test_a_changed_number_changes_the_text(render, tmp_path, monkeypatch):
    record = json.loads((ROOT / "docs/results/table1.json").read_text())
    first = next(row for row in record["rows"] if row["variant"] == "insightr" and row["labels"] == "categorical")
    first["mae"] += 0.1
    (tmp_path / "table1.json").write_text(json.dumps(record))
    before = render.short_table1()
    monkeypatch.setattr(render, "RESULTS", tmp_path)
    assert render.short_table1() != before


def test_table_1_has_every_variant_and_fold_once():
    record = json.loads((ROOT / "docs/results/table1.json").read_text())
    runs = [(row["variant"], row["labels"], row["fold"]) for row in record["rows"]]
    wanted = {(v, "categorical", f) for v in tables.NAMES for f in range(5)}
    wanted |= {(v, "continuous", f) for v in ("baseline", "insightr") for f in range(5)}
    assert len(runs) == len(set(runs)) == record["runs"] == 45
    assert set(runs) == wanted
