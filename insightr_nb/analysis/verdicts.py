"""What can and cannot be trusted: the claims of notebook 08, judged for one run and pooled over its folds.

Each measure of trust is a table of rows, one per image, or per prototype. The tables of a run are kept in its folder,
so that the folds can be pooled once each of them has been measured.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from insightr_nb import files
from insightr_nb.analysis import confidence, conformal, deletion, lesion_tables, records, stability
from insightr_nb.analysis.inference import HOLDS, NOT, UNKNOWN, Claim, judged
from insightr_nb.analysis.loaded_run import LoadedRun
from insightr_nb.runs import Run

# Measure -> its summary table and its claims (or None), both of rows per image, or per prototype for "sources"
_MEASURES = {
    "lesions": (lesion_tables.lesion_table, lesion_tables.claims),
    "sources": (lesion_tables.source_table, None),
    "deletion": (deletion.summary, deletion.claims),
    "stability": (stability.summary, stability.claims),
    "certainty": (confidence.certainty_table, confidence.certainty_claims),
    "coverage": (conformal.coverage_table, conformal.coverage_claims),
}

# Columns of text that identify a row; of deletion, "change" is the measured change of the prediction.
_UNITS = ("image_id", "method", "network", "lesion", "fill", "order", "change")


def summaries(rows: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Summary table of each measure. rows: rows per image by measure, of one fold or of several as `pool` returns."""
    return {name: summary(rows[name]) for name, (summary, _) in _MEASURES.items() if name in rows}


def claims(rows: Mapping[str, pd.DataFrame], held_out_ratio: float = 0.0) -> list[Claim]:
    """Claims about the measures that exist.

    Args:
        rows: Rows per image by measure, of one fold, or of several with a column fold.
        held_out_ratio: n_validation / n_training of the folds.
    """
    known = [(name, make) for name, (_, make) in _MEASURES.items() if name in rows and make is not None]
    return [claim for name, make in known for claim in make(rows[name], held_out_ratio)]


def verdicts(
    rows: Mapping[str, pd.DataFrame], pooled: Mapping[str, pd.DataFrame], held_out_ratio: float
) -> pd.DataFrame:
    """Judge all claims, corrected for their number, for one run and over its folds.

    Args:
        rows: Rows per image of one run, by measure.
        pooled: Rows of all measured folds, as `pool` returns them.
        held_out_ratio: n_validation / n_training of the folds.

    Returns:
        Columns claim, "this fold", with several folds "<n> folds", p (adjusted) and figures; the last two are those of
        the folds, if there are several, with the interval of each effect over the folds. What holds comes first, what
        does not last.
    """
    one = judged(claims(rows))
    table = one[["claim"]].assign(**{"this fold": one["verdict"]})
    folds = number_of_folds(pooled)
    deciding = one
    if folds > 1:
        over_folds = claims(pooled, held_out_ratio)
        deciding = judged(over_folds).set_index("claim").reindex(one["claim"]).reset_index()
        intervals = {claim.text: _intervals_over_folds(claim) for claim in over_folds}
        deciding["figures"] += deciding["claim"].map(intervals)
        table[f"{folds} folds"] = deciding["verdict"]
    table = table.assign(p=deciding["p"], figures=deciding["figures"])
    order = deciding["verdict"].map({HOLDS: 0, UNKNOWN: 1, NOT: 2})
    return table.iloc[np.argsort(order, kind="stable")].reset_index(drop=True)


def _intervals_over_folds(claim: Claim) -> str:
    """State the interval over the folds of each effect, whose second source of variation they are."""
    over_folds = [sources[1] for sources in claim.effects]
    texts = ["no interval" if e.low != e.low else f"{e.low:+.3f} to {e.high:+.3f}" for e in over_folds]
    return f"; over folds {', '.join(texts)}"


def readable(table: pd.DataFrame) -> str:
    """Format the result of `verdicts` as a table in Markdown, which wraps long sentences."""
    shown = table.assign(p=["-" if p != p else "< 0.001" if p < 0.001 else f"{p:.2g}" for p in table["p"]])
    return shown.to_markdown(index=False, disable_numparse=True)


def describe(table: pd.DataFrame) -> str:
    """Count the verdicts of a result of `verdicts`, those over the folds if there are several."""
    column = next((name for name in table if name.endswith(" folds")), "this fold")
    counts = "; ".join(f"{verdict}: {(table[column] == verdict).sum()}" for verdict in (HOLDS, NOT, UNKNOWN))
    return f"Verdicts on {len(table)} claims ({column}): {counts}. Rely only on what holds."


def number_of_folds(pooled: Mapping[str, pd.DataFrame]) -> int:
    """Number of folds in the rows of `pool`, which is the same in each measure."""
    return next((rows["fold"].nunique() for rows in pooled.values()), 0)


# -- files ------------------------------------------------------------------------------------------------------------


def save(run: Run, rows: Mapping[str, pd.DataFrame]) -> None:
    """Write the rows per image to `trust/rows_<measure>.csv` in the folder of the run; those of other measures go."""
    for path in (run / "trust").glob("rows_*.csv"):
        path.unlink()
    for name, table in rows.items():
        known = table.astype(object).where(table.notna(), None)  # an empty cell, not "nan", which may be an image_id
        files.write_csv(run / "trust" / f"rows_{name}.csv", known.to_dict("records"))


def pool(run: Run, rows: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Rows of this run and of every other fold with the same measures on the same images, with a column fold.

    Args:
        run: The run.
        rows: Its rows per image, by measure.

    Returns:
        Rows by measure, all of the same folds.
    """
    parts = {run.path.name: rows}
    for other in run.folds():
        measured = {path.stem.removeprefix("rows_") for path in (other / "trust").glob("rows_*.csv")}
        if other.path == run.path or measured != set(rows):
            continue
        others = {name: read(other, name) for name in rows}
        if all(_units(others[name]) == _units(rows[name]) for name in rows):
            parts[other.path.name] = others
    return {
        name: pd.concat([tables[name].assign(fold=fold) for fold, tables in parts.items()], ignore_index=True)
        for name in rows
    }


def _units(rows: pd.DataFrame) -> tuple[set[str], set[tuple]]:
    """Columns, and the images with what was done to them: the same for the same measure on the same images."""
    units = [name for name in _UNITS if name in rows and not pd.api.types.is_numeric_dtype(rows[name])]
    return set(rows), set(rows[units].itertuples(index=False, name=None))


def read(run: Run, name: str) -> pd.DataFrame:
    """Read the rows per image of a measure that `save` wrote."""
    return pd.read_csv(
        run / "trust" / f"rows_{name}.csv",
        dtype={"image_id": str, "patient_id": str},
        keep_default_na=False,
        na_values=[""],
    )


def write(
    run: LoadedRun,
    tables: Mapping[str, pd.DataFrame],
    judged_claims: pd.DataFrame,
    pooled: Mapping[str, pd.DataFrame],
    **figures: Any,
) -> list[Path]:
    """Write the tables of a run as CSV, and trust.json with the verdicts and summaries of all measured folds.

    Args:
        run: The run.
        tables: Tables of this run by name, for the CSV files.
        judged_claims: Result of `verdicts`.
        pooled: Result of `pool`.
        **figures: Single results of this run for trust.json.

    Returns:
        Paths of the files, in the folder `trust` of the run.
    """
    folder, settings = run / "trust", run.settings
    written = []
    for name, frame in (tables | {"verdicts": judged_claims}).items():
        rows = frame.reset_index() if frame.index.names[0] else frame
        files.write_csv(folder / f"{name}.csv", rows.to_dict("records"))
        written.append(folder / f"{name}.csv")
    folds = sorted({fold for rows in pooled.values() for fold in rows["fold"]})
    measured = [Run(run.run.path.with_name(fold)) for fold in folds]
    baselines = [base for each in measured if (base := each.sibling("baseline"))]
    content = records.record(
        "trust",
        settings,
        [*measured, *baselines],
        run={"variant": settings.variant, "labels": settings.labels, "fold": settings.fold, "tag": settings.tag},
        folds=folds,
        metrics=run.metrics,
        errors=[_errors(each) for each in (*measured, *baselines)],
        figures=figures,
        verdicts=judged_claims,
        **summaries(pooled),
    )
    written.append(records.write(folder / "trust.json", content))
    return written


def _errors(run: Run) -> dict[str, Any]:
    """MAE of a run, of plain and of clamped predictions, with its variant and fold."""
    about = run.manifest["settings"]
    return {name: about[name] for name in ("variant", "fold")} | {
        name: run.metrics.get(name) for name in ("mae", "mae_clamped")
    }
