"""Table 1 of the paper, as formatted text, in words and as files. Missing runs are marked, never dropped."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from insightr_nb import files
from insightr_nb.analysis.results import METRICS, Results
from insightr_nb.analysis.statistics import CLAMPED
from insightr_nb.analysis.wording import counted
from insightr_nb.parameters import TableSettings

DIGITS = {  # default 3
    **dict.fromkeys(("sparsity", "sparsity_paper", "diversity"), 1),
    **dict.fromkeys(("source_label_gap", "top_label_gap", "label_spread"), 2),
}

# Parts of Table 1, each narrow enough for a page: titles and metrics
PARTS = {
    "Accuracy": ("mae", "mae_clamped", "accuracy", "kappa"),
    "Explanations": ("sparsity", "sparsity_paper", "diversity"),
    "Labels of the prototypes": (
        "mae_source_labels",
        "source_label_gap",
        "top_label_gap",
        "label_spread",
        "ground_share",
    ),
}

NAMES = {
    "baseline": "ResNet-18 baseline",
    "log_similarity": "(1a) with log similarity",
    "no_psd": "(1b) w/o PSD loss",
    "no_cluster": "(1c) w/o cluster loss",
    "no_cluster_no_psd": "(1d) w/o cluster and PSD loss",
    "no_min_k": "(1e) w/o min-k in the cluster loss",
    "insightr": "(1) INSightR-Net",
}

# Table 1 of the paper: EyePACS, mean and standard deviation over five folds. Its sparsity counts from 0 and uses
# similarities instead of contributions; compare it with `sparsity_paper`.
PAPER = pd.DataFrame(
    {
        "baseline": ["0.59 ± 0.004", "0.52 ± 0.003", "-", "-"],
        "log_similarity": ["0.61 ± 0.003", "0.51 ± 0.003", "19.2 ± 1.15", "35.0 ± 4.24"],
        "no_psd": ["0.60 ± 0.004", "0.51 ± 0.005", "15.2 ± 0.82", "31.2 ± 1.47"],
        "no_cluster": ["0.60 ± 0.001", "0.52 ± 0.003", "14.8 ± 1.37", "40.8 ± 6.18"],
        "no_cluster_no_psd": ["0.60 ± 0.003", "0.51 ± 0.012", "18.7 ± 0.93", "37.6 ± 4.45"],
        "no_min_k": ["0.60 ± 0.004", "0.52 ± 0.008", "9.9 ± 1.10", "32.0 ± 1.67"],
        "insightr": ["0.59 ± 0.004", "0.52 ± 0.005", "14.6 ± 0.73", "35.8 ± 2.64"],
    },
    index=["mae", "accuracy", "sparsity_paper", "diversity"],
).T


# Headings and formats of the columns of tables of statistics
HEADINGS = NAMES | {
    "fewer": "fewer prototypes",
    "low": "95 % interval, from",
    "high": "to",
    "share": "sparser in",
    "fewer_paper": "fewer, as the paper counts",
    "p_paper": "p, as the paper counts",
}
_FORMATS = {"share": ".0%", "p": ".1g", "p_paper": ".1g"} | dict.fromkeys(NAMES, ".1f")  # default +.1f


def readable(tests: pd.DataFrame) -> pd.DataFrame:
    """Copy of a table of `statistics.sparsity_tests` as text with spelt-out headings; the fold becomes the index.

    Rows of missing runs are left out.
    """
    known = tests.dropna(subset="p")
    texts = known.astype(object)
    for name in tests.columns[1:]:
        form = _FORMATS.get(name, "+.1f")
        texts[name] = ["-" if np.isnan(value) else format(value, form) for value in known[name]]
    return texts.set_index("fold").rename(columns=HEADINGS)


def readable_differences(differences: pd.DataFrame) -> pd.DataFrame:
    """Format a table of `statistics.against_baseline` as text: one row per variant and kind of predictions.

    Clamped predictions come first. Rows of missing runs are left out. An interval over the folds needs two of them.
    """
    rows: dict[tuple[str, str], dict[str, str]] = {}
    known = differences.dropna(subset="difference").sort_values(
        "predictions", key=lambda p: p != CLAMPED, kind="stable"
    )
    for row in known.to_dict("records"):
        texts = {"MAE - baseline's": f"{row['difference']:+.3f}"}
        for source in ("folds", "patients"):
            low, high = row[f"low_{source}"], row[f"high_{source}"]
            texts[f"95 % over {source}"] = "-" if low is None or np.isnan(low) else f"{low:+.3f} to {high:+.3f}"
        rows[row["predictions"], NAMES[row["variant"]]] = texts
    index = pd.MultiIndex.from_tuples(rows, names=["predictions", ""]) if rows else None
    return pd.DataFrame(list(rows.values()), index)


def of_run(metrics: Mapping[str, Any], name: str) -> pd.DataFrame:
    """Metrics of one run with their titles: one row per metric, one column `name`."""
    values = {
        f"{title} {arrow}": "-" if metrics.get(key) is None else f"{metrics[key]:.{DIGITS.get(key, 3)}f}"
        for key, (title, arrow) in METRICS.items()
        if key in metrics
    }
    return pd.DataFrame({name: values | {"Test images": f"{metrics['n_test']}"}})


def describe_missing(results: Results) -> str:
    """List the unfinished runs by state, with the commands that finish them: one line per variant."""
    if not len(results.missing):
        return f"All {len(results.frame)} runs are finished."
    lines = [f"{len(results.runs)} of {len(results.frame)} runs are finished. These commands finish the others:"]
    for state, unfinished in results.missing.groupby("state", sort=False):
        lines.append(f"{counted(len(unfinished), 'run')} {state}:")
        for _, part in unfinished.groupby(["labels", "variant"], sort=False):
            command, folds = part["command"].iloc[0], part["fold"].tolist()
            if len(folds) > 1:
                command = command.replace(f"-p fold {folds[0]}", "-p fold $fold")
                command = f"for fold in {' '.join(map(str, folds))}; do {command}; done"
            lines.append(command)
    return "\n".join(lines)


def describe_table1(results: Results, variants: Iterable[str], labels: str = "categorical") -> str:
    """Name the variants with the lowest MAE and the smallest sparsity, and what the sources' grades would predict.

    Args:
        results: The runs.
        variants: Rows of the table.
        labels: Kind of labels, "categorical" or "continuous".
    """
    means = summary(results, variants, labels).xs("mean", axis=1, level=1)
    mae, sparsity = means["mae"].dropna(), means["sparsity"].dropna()
    if mae.empty:
        return "No variant has all its folds yet."
    others = [f"{NAMES[v]}: {mae[v]:.3f}" for v in ("insightr", "baseline") if v in mae and v != mae.idxmin()]
    text = f"{NAMES[mae.idxmin()]} has the lowest MAE, {mae.min():.3f}" + "".join(f"; {other}" for other in others)
    if len(sparsity):
        text += (
            f". {NAMES[sparsity.idxmin()]} has the shortest explanations: {sparsity.min():.1f} prototypes make 80 % of "
            "a prediction"
        )
    if "insightr" in means.index and not np.isnan(known := means.loc["insightr", "mae_source_labels"]):
        text += (
            f". With the grades of the sources as labels, the MAE of {NAMES['insightr']} would be {known:.3f} instead "
            f"of {means.loc['insightr', 'mae']:.3f}"
        )
    return text + "."


def caption(settings: TableSettings, labels: str = "categorical") -> str:
    """Caption of a table of `table1`: data set, preset, folds, and what the paper's columns count."""
    if labels == "continuous":
        return f"{settings.title}, continuous labels: mean ± standard deviation over {settings.folds} folds."
    return (
        f"{settings.title}: mean ± standard deviation over {settings.folds} folds. 'paper (EyePACS)' is Table 1 of "
        "Hesse and Namburete, MICCAI 2022, whose sparsity was counted from 0 and on similarities, as is our column "
        "'as the paper counts'; 'Sparsity' counts contributions, from 1."
    )


def summary(results: Results, variants: Iterable[str], labels: str = "categorical") -> pd.DataFrame:
    """Mean and standard deviation over folds (n - 1): one row per variant, columns (metric, "mean" | "sd").

    Columns ("folds", "done") and ("folds", "asked") count the finished and requested folds.

    Args:
        results: The runs.
        variants: Rows of the table.
        labels: Kind of labels, "categorical" or "continuous".

    Returns:
        The table. Mean and standard deviation are NaN if a fold is missing or lacks the metric (a run of an older
        version).
    """
    rows = {}
    for variant in variants:
        part = results.of(variant, labels)
        whole = len(part) > 0 and (part["state"] == "finished").all()
        row = {("folds", "done"): (part["state"] == "finished").sum(), ("folds", "asked"): len(part)}
        for name in METRICS:
            known = whole and part[name].notna().all()
            row[name, "mean"] = part[name].mean() if known else np.nan
            row[name, "sd"] = part[name].std(ddof=1) if known and len(part) > 1 else np.nan
        rows[variant] = row
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame.columns = pd.MultiIndex.from_tuples(frame.columns)
    return frame


def table1(results: Results, variants: Iterable[str], labels: str = "categorical", paper: bool = True) -> pd.DataFrame:
    """Format the table as text, "0.59 ± 0.004" per metric and variant, in the order of `PARTS`.

    Args:
        results: The runs.
        variants: Rows of the table.
        labels: Kind of labels, "categorical" or "continuous".
        paper: Add the paper's values on EyePACS, each beside the metric that it is to be compared with.
    """
    numbers = summary(results, variants, labels)
    rows = {}
    for variant in numbers.index:
        done, asked = int(numbers.loc[variant, ("folds", "done")]), int(numbers.loc[variant, ("folds", "asked")])
        missing = f"missing ({asked - done} of {asked} folds)" if done < asked or not asked else None
        row = {}
        for names in PARTS.values():
            for name in names:
                stated = missing if name == names[0] else ""  # once in each part
                row[_heading(name)] = formatted(numbers, variant, name) if missing is None else stated
                if paper and name in PAPER.columns:
                    row[_paper_heading(name)] = PAPER.loc[variant, name] if variant in PAPER.index else "-"
        rows[NAMES[variant]] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("")


def formatted(numbers: pd.DataFrame, variant: str, name: str) -> str:
    """Format one metric of a `summary`: "0.59 ± 0.004", or a dash."""
    mean, sd = numbers.loc[variant, (name, "mean")], numbers.loc[variant, (name, "sd")]
    digits = DIGITS.get(name, 3)
    return "-" if np.isnan(mean) else f"{mean:.{digits}f}" + ("" if np.isnan(sd) else f" ± {sd:.{digits}f}")


def _heading(name: str) -> str:
    return " ".join(METRICS[name])


def _paper_heading(name: str) -> str:
    return f"{METRICS[name.removesuffix('_paper')][0]}, paper (EyePACS)"


def parts(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Split a `table1` by columns into the `PARTS`, each narrow enough for a page."""
    divided = {}
    for title, names in PARTS.items():
        headings = {_heading(n) for n in names} | {_paper_heading(n) for n in names if n in PAPER.columns}
        divided[title] = frame[[c for c in frame.columns if c in headings]]
    return divided


def write(frame: pd.DataFrame, path: Path, caption: str) -> list[Path]:
    """Write a `table1` as one CSV file, and its `parts` as Markdown and LaTeX (booktabs, graphicx).

    Args:
        frame: The table.
        path: Path of the files without suffix.
        caption: Caption in Markdown and LaTeX.

    Returns:
        Paths of the three files.
    """
    divided = parts(frame)
    texts = {
        ".csv": frame.reset_index().to_csv(index=False),
        ".md": f"{markdown(divided)}\n\n{caption}\n",
        ".tex": "% needs \\usepackage{booktabs,graphicx}\n"
        + "\n".join(_latex_table(part, f"{title}. {caption}") for title, part in divided.items()),
    }
    written = []
    for suffix, text in texts.items():
        with files.atomic(path.with_suffix(suffix)) as temporary:
            temporary.write_text(text, encoding="utf-8")
        written.append(path.with_suffix(suffix))
    return written


def markdown(divided: Mapping[str, pd.DataFrame]) -> str:
    """Format the `parts` of a table in Markdown, each below its title."""
    texts = [
        f"**{title}**\n\n{part.reset_index().to_markdown(index=False, disable_numparse=True)}"
        for title, part in divided.items()
    ]
    return "\n\n".join(texts)


def _latex_table(part: pd.DataFrame, caption: str) -> str:
    """A table that is scaled down to the width of the line if it is wider."""
    plain = part.reset_index().map(_latex)
    plain.columns = [_latex(str(c)) for c in plain.columns]
    tabular = plain.style.hide(axis="index").format(escape=None).to_latex(hrules=True)
    fit = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{_latex(caption)}}}", fit, tabular.strip() + "}"]
    return "\n".join([*lines, r"\end{table}", ""])


def _latex(text: str) -> str:
    for sign in "_%&#":
        text = text.replace(sign, "\\" + sign)
    for sign, command in (("±", r"$\pm$"), ("↓", r"$\downarrow$"), ("↑", r"$\uparrow$")):
        text = text.replace(sign, command)
    return text
