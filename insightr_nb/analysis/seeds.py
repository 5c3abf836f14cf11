"""Repeated trainings with other seeds: the spread over seeds beside the spread over folds."""

from collections.abc import Iterable

import pandas as pd

from insightr_nb import runs
from insightr_nb.analysis.results import METRICS, collect
from insightr_nb.analysis.tables import NAMES
from insightr_nb.parameters import TABLE_VARIANTS, TableSettings
from insightr_nb.runs import Run
from insightr_nb.settings import RunSettings

SEEDED = ("baseline", "insightr", "log_similarity")  # variants that `make sweeps` trains with other seeds


def seed_runs(
    settings: TableSettings, seeds: Iterable[int], folds: Iterable[int], variants: Iterable[str] = SEEDED
) -> list[RunSettings]:
    """Runs with other seeds, tagged `seed-<seed>`; their backbone has the seed as well. Seed 0 is the untagged run.

    Args:
        settings: Preset and data set.
        seeds: Seeds of each variant and fold.
        folds: Folds of each variant.
        variants: Variants to train.
    """
    folds, variants = list(folds), list(variants)
    return [
        settings.run(variant, fold, **({"seed": seed, "tag": f"seed-{seed}"} if seed else {}))
        for seed in seeds
        for fold in folds
        for variant in variants
    ]


def finished_seeds(settings: TableSettings) -> list[RunSettings]:
    """Finished runs of `seed_runs`, with the untagged run of each of their variants and folds."""
    found = []
    for variant in TABLE_VARIANTS:
        folder = runs.run_directory(settings.run(variant, 0)).parent
        for path in sorted(folder.glob("fold*-seed-*")):
            fold, _, seed = path.name.removeprefix("fold").partition("-seed-")
            run = Run(path)
            named = fold.isdigit() and seed.isdigit()
            if named and run.state == "finished" and not run.edited and not run.manifest["overrides"]:
                found += seed_runs(settings, [int(seed)], [int(fold)], [variant])
    for variant, fold in sorted({(run.variant, run.fold) for run in found}):
        plain = settings.run(variant, fold)
        if Run(runs.run_directory(plain)).state == "finished":
            found.append(plain)
    return found


def seeds(settings: TableSettings) -> pd.DataFrame:
    """Results of the finished runs with other seeds: variant, fold, seed, tag and the metrics."""
    found = finished_seeds(settings)
    columns = ["variant", "fold", "seed", "tag", *METRICS]
    if not found:
        return pd.DataFrame(columns=columns)
    frame = collect(found).frame.assign(seed=[run.seed for run in found])
    return frame[columns].sort_values(["variant", "fold", "seed"], ignore_index=True)


def spread(frame: pd.DataFrame, metric: str = "mae") -> pd.DataFrame:
    """Spread of a metric over seeds and over folds.

    Only folds with all seeds count. Both standard deviations are the root of a mean variance (n - 1): over the seeds of
    each fold, and over the folds of each seed.

    Args:
        frame: Result of `seeds`.
        metric: Column to compare.

    Returns:
        One row per variant: mean, "sd over seeds", "sd over folds", seeds, folds.
    """
    rows = {}
    for variant, part in frame.groupby("variant", sort=False):
        grid = part.pivot(index="fold", columns="seed", values=metric).dropna()  # (folds, seeds)
        rows[variant] = {
            "mean": grid.stack().mean(),
            "sd over seeds": grid.var(axis=1, ddof=1).mean() ** 0.5,
            "sd over folds": grid.var(axis=0, ddof=1).mean() ** 0.5,
            "seeds": grid.shape[1],
            "folds": grid.shape[0],
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("variant")


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Format a result of `spread` with spelt-out variants and three decimals."""
    texts = table[["mean", "sd over seeds", "sd over folds"]].map("{:.3f}".format)
    return texts.join(table[["seeds", "folds"]]).rename(index=NAMES)


def describe_seeds(frame: pd.DataFrame) -> str:
    """Compare the spreads of the clamped MAE, and count the pairs where INSightR-Net is better. frame: of `seeds`."""
    table = spread(frame, "mae_clamped")
    text = "; ".join(
        f"{NAMES[variant]}: {row['sd over seeds']:.3f} over seeds, {row['sd over folds']:.3f} over folds"
        for variant, row in table.iterrows()
    )
    text = f"Standard deviation of the clamped MAE: {text}."
    pairs = frame.pivot(index=["fold", "seed"], columns="variant", values="mae_clamped")
    if {"insightr", "baseline"} <= set(pairs):
        pairs = (pairs["insightr"] - pairs["baseline"]).dropna()
        text += (
            f" INSightR-Net's clamped MAE is below the baseline's in {(pairs < 0).sum()} of {len(pairs)} pairs of "
            f"fold and seed (difference {pairs.min():+.3f} to {pairs.max():+.3f})."
        )
    return text
