"""Trade-off of locality: accuracy and localisation against the size of the receptive field.

Truncating the backbone earlier reduces the receptive field of a latent cell; the grid stays 9 x 9 (`SWEEPS`).
"""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from insightr_nb import runs
from insightr_nb.analysis import lesions
from insightr_nb.analysis.lesion_tables import lesion_table
from insightr_nb.analysis.loaded_run import load_run
from insightr_nb.analysis.sweeps import finished_sweeps
from insightr_nb.data.masks import has_masks
from insightr_nb.parameters import TableSettings
from insightr_nb.runs import Run

CELLS, TRACED, CHANCE = "pointing_cells", "pointing_traced", "pointing_chance"
CELLS_RANDOM, TRACED_RANDOM = "pointing_cells_random", "pointing_traced_random"
IMAGES = 60  # test images of each run for the measures of place


def locality(settings: TableSettings) -> pd.DataFrame:
    """Results of the finished runs of the sweep `locality`, including the preset's own; one row per run.

    Columns: backbone_until, fold, receptive_field (px), share_of_side (its share of the image's side) and the metrics.
    If lesion masks are available, also the share of `IMAGES` test images whose largest match peaks on a lesion, over
    cells and traced to pixels, each also with a random backbone, and the hit rate of a random cell. Empty without such
    runs.
    """
    rows = []
    for parameter, wanted in finished_sweeps(settings):
        if parameter != "locality":
            continue
        run = load_run(Run(runs.run_directory(wanted)))
        row = {
            "backbone_until": wanted.model.backbone_until,
            "fold": wanted.fold,
            "receptive_field": run.grid.receptive_field,
            "share_of_side": run.grid.receptive_field / run.grid.size,
        } | run.metrics
        if has_masks(run.store, None):
            table = lesion_table(lesions.lesion_report(run, limit=IMAGES, whole=False)).loc["all"]
            cells, traced = table.loc[lesions.CELLS], table.loc[lesions.TRACED]
            row |= {TRACED: traced["pointing"], TRACED_RANDOM: traced["pointing random"]}
            row |= {CELLS: cells["pointing"], CELLS_RANDOM: cells["pointing random"], CHANCE: cells["chance"]}
        rows.append(row)
    frame = pd.DataFrame(rows)
    return frame.sort_values(["receptive_field", "fold"], ignore_index=True) if rows else frame


def figure(frame: pd.DataFrame) -> Figure:
    """Plot `locality` against the receptive field: accuracy, coherence, sparsity and diversity, and localisation.

    Points are means over folds, bars standard deviations.
    """
    unit = "in the unit of the labels"
    gap = {
        "top_label_gap": "label of the largest contribution\noff the prediction",
        "label_spread": "spread of the labels",
    }
    panels = [
        ("Accuracy", f"error, {unit}", {"mae": "MAE"}),
        ("Coherence", unit, gap),
        ("Length and variety", "prototypes", {"sparsity": "sparsity", "diversity": "diversity"}),
    ]
    if TRACED in frame:
        panels.append(
            (
                "Peak on a lesion",
                "share of the images with lesions",
                {
                    TRACED: "traced to pixels",
                    TRACED_RANDOM: "traced, random backbone",
                    CELLS: "over cells",
                    CELLS_RANDOM: "over cells, random backbone",
                    CHANCE: "chance",
                },
            )
        )
    drawn, axes = plt.subplots(1, len(panels), figsize=(3.1 * len(panels), 3.6), layout="constrained")
    for place, (title, unit, lines) in zip(axes, panels, strict=True):
        for column, name in lines.items():
            sns.lineplot(
                frame,
                x="receptive_field",
                y=column,
                errorbar="sd",
                err_style="bars",
                marker="o",
                ax=place,
                label=name,
                linestyle=":" if column in (CHANCE, CELLS_RANDOM, TRACED_RANDOM) else "-",
            )
        place.set(title=title, xlabel="a cell sees (px)", ylabel=unit, ylim=(0, None))
        places = frame.drop_duplicates("receptive_field")
        labels = [f"{r.receptive_field:g}\n{r.backbone_until}" for r in places.itertuples()]
        place.set_xticks(places["receptive_field"], labels)
        place.legend(frameon=False, fontsize=8)
    sns.despine(drawn)
    drawn.suptitle(f"The price of locality: mean and standard deviation over {frame['fold'].nunique()} folds")
    return drawn


def describe(frame: pd.DataFrame) -> str:
    """Compare the smallest and the largest receptive field of `locality`."""
    means = frame.groupby("receptive_field").mean(numeric_only=True)
    small, large = means.iloc[0], means.iloc[-1]
    text = (
        f"From a receptive field of {means.index[0]} px to one of {means.index[-1]} px, the MAE goes from "
        f"{small['mae']:.3f} to {large['mae']:.3f}"
    )
    if TRACED in frame:
        text += (
            f", the share of images with the peak over cells on a lesion from {small[CELLS]:.0%} to {large[CELLS]:.0%}"
            f" (random backbone: {small[CELLS_RANDOM]:.0%} and {large[CELLS_RANDOM]:.0%})"
        )
    return text + "."


def readable(frame: pd.DataFrame) -> pd.DataFrame:
    """Means over folds of `locality`, by receptive field, with spelt-out headings."""
    ends = frame["backbone_until"].fillna("its last layer")
    keys = ["backbone_until", "receptive_field", "share_of_side"]
    means = (
        frame.assign(backbone_until=ends, share_of_side=frame["share_of_side"].map("{:.0%}".format))
        .groupby(keys)
        .mean(numeric_only=True)
    )
    shown = {
        "mae": "MAE",
        "sparsity": "Sparsity",
        "diversity": "Diversity",
        "top_label_gap": "Top-prototype label gap",
        "label_spread": "Spread of the labels",
        TRACED: "Peak on a lesion, traced",
        TRACED_RANDOM: "traced, random backbone",
        CELLS: "over cells",
        CELLS_RANDOM: "over cells, random backbone",
        CHANCE: "chance",
    }
    table = means[[name for name in shown if name in means]].rename(columns=shown).round(3)
    names = ["backbone ends at", "receptive field (px)", "share of the image's side"]
    return table.rename_axis(names).sort_index(level=1)
