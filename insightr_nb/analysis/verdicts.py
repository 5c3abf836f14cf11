"""What can and cannot be trusted: the claims of notebook 08, judged for one run and pooled over its folds.

Each measure of trust is a table with one row per image. The tables of a run are kept in its folder, so that the folds
can be pooled once each of them has been measured.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from insightr_nb import files
from insightr_nb.analysis import confidence, conformal, deletion, lesions, stability
from insightr_nb.analysis.inference import Claim, judged
from insightr_nb.analysis.loaded_run import LoadedRun
from insightr_nb.data.folds import fold_split
from insightr_nb.runs import Run

CLAIMS = {  # measure -> its claims
    "lesions": lesions.claims,
    "deletion": deletion.claims,
    "stability": stability.claims,
    "certainty": confidence.certainty_claims,
    "coverage": conformal.coverage_claims,
}


def claims(rows: Mapping[str, pd.DataFrame], test_per_training: float = 0.0) -> list[Claim]:
    """Claims about the measures that exist.

    Args:
        rows: Rows per image by measure, of one fold, or of several with a column fold.
        test_per_training: n_test / n_training of the folds.
    """
    return [claim for name, make in CLAIMS.items() if name in rows for claim in make(rows[name], test_per_training)]


def verdicts(rows: Mapping[str, pd.DataFrame], pooled: Mapping[str, pd.DataFrame], ratio: float) -> pd.DataFrame:
    """Judge all claims, corrected for their number, for one run and over its folds.

    Args:
        rows: Rows per image of one run, by measure.
        pooled: Rows of all measured folds, as `pool` returns them.
        ratio: n_test / n_training of the folds.

    Returns:
        Columns claim, "this fold", and with several folds "<n> folds", then figures: those of the folds, if there are
        several.
    """
    one = judged(claims(rows))
    table = one[["claim"]].assign(**{"this fold": one["verdict"]})
    folds = number_of_folds(pooled)
    if folds > 1:
        every = judged(claims(pooled, ratio)).set_index("claim").reindex(one["claim"])
        table[f"{folds} folds"] = every["verdict"].to_numpy()
        return table.assign(figures=every["figures"].to_numpy())
    return table.assign(figures=one["figures"])


def number_of_folds(pooled: Mapping[str, pd.DataFrame]) -> int:
    """Number of folds in the rows of `pool`."""
    return max((rows["fold"].nunique() for rows in pooled.values()), default=0)


def test_per_training(run: LoadedRun) -> float:
    """Number of test images per training image of the run's fold, each counted once."""
    split = fold_split(run.store, run.settings.data, run.settings.fold)
    return len(split.test) / len(np.unique(split.training))


# -- files ------------------------------------------------------------------------------------------------------------


def save(run: Run, rows: Mapping[str, pd.DataFrame]) -> None:
    """Write the rows per image to `trust/rows_<measure>.csv` in the folder of the run; those of other measures go."""
    for path in (run / "trust").glob("rows_*.csv"):
        path.unlink()
    for name, table in rows.items():
        files.write_csv(run / "trust" / f"rows_{name}.csv", table.to_dict("records"))


def pool(run: Run, rows: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Rows of this run and of every other fold that was measured on the same images, with a column fold.

    Args:
        run: The run.
        rows: Its rows per image, by measure.

    Returns:
        Rows by measure. A measure that a fold lacks, or that it made on other images, is left out of that fold.
    """
    parts = {name: [table.assign(fold=run.path.name)] for name, table in rows.items()}
    for other in run.folds():
        if other.path == run.path:
            continue
        for name, table in rows.items():
            if (other / "trust" / f"rows_{name}.csv").exists():
                found = read(other, name)
                if set(found["image_id"]) == set(table["image_id"]) and set(found) == set(table):
                    parts[name].append(found.assign(fold=other.path.name))
    return {name: pd.concat(tables, ignore_index=True) for name, tables in parts.items()}


def read(run: Run, name: str) -> pd.DataFrame:
    """Read the rows per image of a measure that `save` wrote."""
    return pd.read_csv(
        run / "trust" / f"rows_{name}.csv",
        dtype={"image_id": str, "patient_id": str},
        keep_default_na=False,
        na_values=[""],
    )
