"""Tables of README.md and docs/, made from the records in docs/results/.

    python docs/render.py              write the tables into the texts
    python docs/render.py --collect    first copy the records written by `make tables`, `make sweeps` and notebook 08

The lines between `<!-- results: NAME -->` and `<!-- end -->` are replaced. A test fails if a record was created with
other settings than the current presets, or if a text differs from the output of this script.
"""

import argparse
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from PIL import Image

from insightr_nb import files
from insightr_nb.analysis import findings as findings_of_runs
from insightr_nb.analysis import lesion_tables, seeds, tables, trust_report
from insightr_nb.analysis import verdicts as trust_verdicts
from insightr_nb.analysis.inference import HOLDS
from insightr_nb.analysis.results import METRICS, Results
from insightr_nb.analysis.statistics import describe_sparsity
from insightr_nb.analysis.sweeps import TITLES
from insightr_nb.analysis.tables import NAMES
from insightr_nb.analysis.wording import interval_of

DOCS = Path(__file__).resolve().parent
RESULTS = DOCS / "results"
TEXTS = (DOCS.parent / "README.md", DOCS / "results.md", DOCS / "trust.md", DOCS / "differences.md")
_BLOCK = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def read(name: str) -> dict:
    return files.read_json(RESULTS / f"{name}.json")


def markdown(frame: pd.DataFrame) -> str:
    """Format a table as Markdown: numbers with three significant digits, missing values as a dash."""

    def text(value: str | float | None) -> str:
        if value is None or value != value:
            return "-"
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    return frame.astype(object).map(text).to_markdown(index=False, disable_numparse=True)


def provenance(record: dict) -> str:
    """Describe the runs behind a record: preset, seeds, number of trainings, time and hardware."""
    count = record["runs"] + record["backbones"]
    seeds, machines = (", ".join(map(str, record[name])) for name in ("seed", "hardware"))
    return (
        f"*Preset `{record['preset']}`, seed {seeds}; {count} trainings (backbone pre-training included), "
        f"{record['minutes_of_all_runs']:.0f} minutes in total; {machines}; {record['made']}.*"
    )


def _results(record: dict) -> Results:
    frame = pd.DataFrame(record["rows"]).assign(state="finished", tag=None, command="")
    return Results(frame, {})


def _table1(labels: str, paper: bool) -> str:
    record = read("table1")
    results = _results(record)
    finished = set(results.frame.loc[results.frame["labels"] == labels, "variant"])
    rows = [variant for variant in NAMES if variant in finished]
    folds = results.frame["fold"].nunique()
    table, note = tables.table1(results, rows, labels, paper), ""
    if not results.frame["ground_share"].any():
        table = table.drop(columns=" ".join(METRICS["ground_share"]))
        note = " No prototype lies on the background."
    text = tables.markdown(tables.parts(table))
    return f"{text}\n\nMean ± standard deviation over {folds} folds.{note} {provenance(record)}"


def short_table1() -> str:
    """Render the most important metrics and variants of Table 1."""
    numbers = tables.summary(_results(read("table1")), ("baseline", "insightr", "log_similarity"))
    names = ("mae", "mae_clamped", "accuracy", "sparsity", "sparsity_paper", "diversity", "top_label_gap")
    rows = [
        {"": NAMES[variant]} | {" ".join(METRICS[name]): tables.formatted(numbers, variant, name) for name in names}
        for variant in numbers.index
    ]
    return f"{markdown(pd.DataFrame(rows))}\n\n{provenance(read('table1'))}"


def statistics() -> str:
    record = read("table1")
    differences = tables.readable_differences(pd.DataFrame(record["mae_minus_baseline"])).reset_index()
    return (
        "MAE minus that of the baseline. 95 % intervals: over folds by the corrected t (Nadeau and Bengio), over "
        f"patients by a bootstrap.\n\n{markdown(differences)}\n\nSparsity against the log similarity, with the paper's "
        f"one-sided Wilcoxon test in each fold. {describe_sparsity(pd.DataFrame(record['sparsity_wilcoxon']))}"
    )


def findings() -> str:
    rows = read("findings")["rows"]
    return "\n".join([*map(findings_of_runs.line, rows), "", findings_of_runs.describe_findings(pd.DataFrame(rows))])


def _over_folds(frame: pd.DataFrame, by: list[str], columns: dict[str, tuple[str, int]]) -> pd.DataFrame:
    """Format mean ± standard deviation over folds. columns: name in the record -> heading, digits."""
    grouped = frame.groupby(by, sort=False, dropna=False)
    mean, sd, count = grouped.mean(numeric_only=True), grouped.std(numeric_only=True), grouped["fold"].nunique()
    shown = {}
    for name, (heading, digits) in columns.items():
        if name in mean:
            pairs = zip(mean[name], sd[name], strict=True)
            shown[heading] = [f"{m:.{digits}f}" + (f" ± {s:.{digits}f}" if s == s else "") for m, s in pairs]
    return pd.DataFrame(shown, index=mean.index).assign(folds=count).reset_index()


_CURVES = {
    "mae": ("MAE ↓", 3),
    "sparsity": ("sparsity ↓", 1),
    "diversity": ("diversity ↑", 1),
    "top_label_gap": ("top-prototype label gap ↓", 2),
    "label_spread": ("spread of the labels ↓", 2),
}


def sweeps() -> str:
    record = read("sweeps")
    frame = pd.DataFrame(record["rows"])
    frame = frame[frame["parameter"] != "locality"]
    frame = frame.assign(value=frame["value"].map("{:g}".format), parameter=frame["parameter"].replace(TITLES))
    table = _over_folds(frame, ["parameter", "value"], _CURVES)
    return f"{markdown(table)}\n\n{provenance(record)} With the sweep over locality."


def seed_spread() -> str:
    record = read("seeds")
    frame = pd.DataFrame(record["rows"])
    shown = {}
    for metric, digits in (("mae", 3), ("mae_clamped", 3), ("sparsity", 1), ("diversity", 1), ("top_label_gap", 2)):
        table = seeds.spread(frame, metric)
        texts = table[["mean", "sd over seeds", "sd over folds"]].map(
            lambda v, d=digits: "-" if v != v else f"{v:.{d}f}"
        )
        shown[" ".join(METRICS[metric])] = texts.agg(" / ".join, axis=1)
    table = pd.DataFrame(shown).rename(index=NAMES).rename_axis("").reset_index()
    return f"{markdown(table)}\n\n{seeds.describe_seeds(frame)} {provenance(record)}"


def locality() -> str:
    record = read("locality")
    place = {
        "pointing_traced": ("peak on a lesion, traced ↑", 2),
        "pointing_traced_random": ("random backbone", 2),
        "pointing_cells": ("over cells ↑", 2),
        "pointing_cells_random": ("over cells, random backbone", 2),
        "pointing_chance": ("chance", 2),
    }
    names = {"backbone_until": "backbone ends at", "receptive_field": "a cell sees (px)"}
    parts = [_over_folds(pd.DataFrame(record["rows"]), list(names), columns) for columns in (_CURVES, place)]
    text = "\n\n".join(markdown(part.rename(columns=names)) for part in parts)
    return f"{text}\n\n{provenance(record)}"


def _trust(name: str, index: list[str] | None = None) -> pd.DataFrame:
    """A summary table of the record of notebook 08, with missing numbers as NaN."""
    frame = pd.DataFrame(read("trust")[name])
    frame = frame.set_index(index) if index else frame
    return frame.apply(lambda column: column if column.notna().all() else column.astype(float))


def _interval(frame: pd.DataFrame, name: str, form: str = ".2f") -> list[str]:
    """Format a column with its interval."""
    return [interval_of(row, name, form) for row in frame.to_dict("records")]


def verdicts() -> str:
    record = read("trust")
    table = pd.DataFrame(record["verdicts"])
    several = any(name.endswith(" folds") for name in table)
    text = trust_verdicts.readable(table.drop(columns="this fold") if several else table)
    return f"{text}\n\n{trust_verdicts.describe(table)} {provenance(record)}"


def repetition() -> str:
    """Verdicts of the same protocol on another processor, where they differ, and both times the provenance."""
    now, before = read("trust"), read("trust_repetition")
    column = f"{len(now['folds'])} folds"
    table = pd.DataFrame(now["verdicts"]).merge(pd.DataFrame(before["verdicts"]), on="claim", suffixes=("", ", before"))
    shown = table[table[column] != table[f"{column}, before"]]
    rows = [
        {
            "claim": row["claim"],
            "here": f"{row[column]} (p = {row['p']:.2g})",
            "there": f"{row[f'{column}, before']} (p = {row['p, before']:.2g})",
        }
        for row in shown.to_dict("records")
    ]
    same = table.drop(shown.index)
    text = f"The other {len(same)} verdicts are the same, {(same[column] == HOLDS).sum()} of them *{HOLDS}*."
    return f"{markdown(pd.DataFrame(rows))}\n\n{text} {provenance(before)}"


def unfamiliar() -> str:
    record = read("unfamiliar")
    rows = {}
    for row in record["rows"]:
        values = rows.setdefault(row["data"], {"": f"{row['data']} ({row['images']})", "flagged": [], "nearest": []})
        values["flagged"].append(f"{row['flagged']:.1%}")
        values["nearest"].append(f"{row['nearest']:.2g}")
    table = pd.DataFrame(
        [{k: v if isinstance(v, str) else ", ".join(v) for k, v in row.items()} for row in rows.values()]
    )
    table = table.rename(columns={"flagged": "flagged, by fold", "nearest": "median of the smallest squared distance"})
    return f"{markdown(table)}\n\n{provenance(record)}"


def places() -> str:
    shown = lesion_tables.readable(_trust("lesions", ["group", "method"]))
    return "\n\n".join(markdown(table.loc["all"].rename_axis("").reset_index()) for table in shown.values())


def sources() -> str:
    table = _trust("sources", ["measure"])
    shown = markdown(lesion_tables.readable_sources(table).reset_index())
    return f"{shown}\n\n{trust_report.describe_sources(table)}"


def deletion() -> str:
    frame = _trust("deletion")
    return markdown(
        frame[["fill", "order"]].assign(
            **{
                "change of the prediction": _interval(frame, "change"),
                "by contribution - by this order ↑": _interval(frame, "gap", "+.3f"),
            }
        )
    )


def stability() -> str:
    frame = _trust("stability")
    return markdown(
        frame[["change"]].assign(
            **{
                "the top five that stay ↑": _interval(frame, "overlap"),
                "move of their labels ↓": _interval(frame, "moved_labels"),
                "move of the prediction ↓": _interval(frame, "moved"),
                "of the baseline's": _interval(frame, "baseline_moved"),
                "ratio": frame["ratio"].map("{:.1f}".format),
            }
        )
    )


def certainty() -> str:
    shown = trust_report.readable_certainty(_trust("certainty", ["score"]))
    return "\n\n".join(markdown(table.rename_axis("").reset_index()) for table in shown.values())


def coverage() -> str:
    return markdown(trust_report.readable_coverage(_trust("coverage", ["group", "method"])).reset_index())


def _trials(name: str) -> str:
    """Trials of a choice, one table for each variant and part of the data, without columns that say nothing."""
    record = read(name)
    frame = pd.DataFrame(record["rows"]).replace("-", None)
    frame = frame[[c for c in frame if frame[c].nunique() > 1]]
    texts = []
    for key, part in frame.groupby([c for c in ("variant", "images") if c in frame], sort=False):
        shown = part.drop(columns=["variant", "images"], errors="ignore").dropna(axis="columns", how="all")
        texts.append(f"**{', '.join(key)}**\n\n{markdown(shown)}")
    return "\n\n".join([*texts, provenance(record)])


def figure_3() -> str:
    cells = pd.DataFrame(read("figure_3")["rows"])
    ends = {name: f"{cells[name].min():.1f} to {cells[name].max():.1f}" for name in ("distinct", "shared")}
    return (
        f"In the {len(cells)} folds of `demo`, the published code's 5 patches of an image are {ends['distinct']} "
        f"distinct ones on average, and {ends['shared']} of the 5 are among ours."
    )


def attribution_choice() -> str:
    record = read("attribution_choice")
    first, chosen = record["rows"][0], record["chosen"]
    rows = [
        {
            "what is traced": row["attributed"],
            "by": row["attribution"],
            "peak on a lesion ↑": f"{row['trained']:.2f}",
            "random backbone": f"{row['random']:.2f}",
            "difference ↑": interval_of(row, "gain", "+.2f"),
            "mass ratio ↑": f"{row['mass ratio, trained']:.1f}",
            "random": f"{row['mass ratio, random']:.1f}",
            "ms": f"{row['milliseconds']:.0f}",
        }
        for row in record["rows"]
        if row["attributed"] == first["attributed"] or row["attribution"] in (first["attribution"], chosen)
    ]
    occluded = min(row["images"] for row in record["rows"])
    return (
        f"Attributions to pixels, compared on {first['images']} validation images with lesions ({occluded} for "
        f"occlusion); chosen for its difference: *{chosen}*. *Per contrast*: divided by how much each pixel differs "
        f"from the background.\n\n{markdown(pd.DataFrame(rows))}\n\n{provenance(record)}"
    )


BLOCKS: dict[str, Callable[[], str]] = {
    "short_table1": short_table1,
    "table1": lambda: _table1("categorical", True),
    "table1_continuous": lambda: _table1("continuous", False),
    "statistics": statistics,
    "findings": findings,
    "sweeps": sweeps,
    "seeds": seed_spread,
    "locality": locality,
    "verdicts": verdicts,
    "trust": places,
    "deletion": deletion,
    "stability": stability,
    "certainty": certainty,
    "coverage": coverage,
    "attribution_choice": attribution_choice,
    "sources": sources,
    "repetition": repetition,
    "unfamiliar": unfamiliar,
    "figure_3": figure_3,
    "demo_choice": lambda: _trials("demo_choice"),
    "photo": lambda: _trials("photo"),
}


def rendered(text: str) -> str:
    """Return the text with every block replaced. Raises KeyError for an unknown block."""
    return _BLOCK.sub(lambda match: f"{match[1]}{BLOCKS[match[2]]()}\n{match[3]}", text)


def collect() -> None:
    """Copy the records and the figures of docs/ from outputs/."""
    root = files.outputs_root()
    tables_of, trust_of = root / "tables/synthetic/demo", root / "runs/synthetic/demo/categorical/insightr/fold0/trust"
    for path in (*sorted((tables_of / "results").glob("*.json")), trust_of / "trust.json"):
        if path.exists():
            print(files.display_path(shutil.copy(path, RESULTS / path.name)))
    for path in (tables_of / "figures/locality.png", trust_of / "traced.png"):
        if path.exists():
            with Image.open(path) as picture:  # photographs as JPEG, drawings as they are
                suffix = ".jpg" if path.stem == "traced" else ".png"
                picture.convert("RGB").save(DOCS / (path.stem + suffix), quality=88)
            print(files.display_path(DOCS / (path.stem + suffix)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collect", action="store_true", help="copy the records out of outputs/ first")
    if parser.parse_args().collect:
        collect()
    for path in TEXTS:
        path.write_text(rendered(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
