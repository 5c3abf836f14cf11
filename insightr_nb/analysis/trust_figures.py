"""Figures of notebook 08."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from insightr_nb.analysis import deletion, tracing
from insightr_nb.analysis.confidence import BEST, CHANCE, GRADE, MIDDLE
from insightr_nb.analysis.explanation import Explanation
from insightr_nb.analysis.figures import draw_box
from insightr_nb.analysis.lesions import CONTROLS
from insightr_nb.analysis.loaded_run import LoadedRun
from insightr_nb.data import display


def receptive_field(run: LoadedRun, e: Explanation) -> Figure:
    """Draw the box of a cell and its receptive field on one image."""
    figure, axes = plt.subplots(figsize=(5, 5.4), layout="constrained")
    axes.imshow(e.picture)
    j, cells = e.top(1)[0], run.display_grid
    row, col = cells.centre(e.cells[j])
    side = cells.receptive_field
    axes.add_patch(Rectangle((col - side / 2, row - side / 2), side, side, fill=False, ec="orange", ls="--", lw=2))
    draw_box(axes, run.display_box(e.boxes[j]), 2)
    reach = max(side - cells.size, 0) / 2 + 4
    axes.set(xlim=(-reach, cells.size + reach), ylim=(cells.size + reach, -reach), xticks=[], yticks=[])
    axes.set_facecolor("white")
    axes.set_title(
        f"cyan: the box of a cell, {run.grid.stride} px\norange: all that it can depend on, "
        f"{run.grid.receptive_field} px of {run.grid.size}",
        fontsize=10,
    )
    return figure


def lesion_bars(table: pd.DataFrame, measure: str = "pointing") -> Figure:
    """Plot a measure of a `lesion_table` as bars with 95 % intervals, beside a random backbone, chance and ceiling.

    Args:
        table: Result of `lesion_table`.
        measure: "pointing", "pooled" or "mass_ratio".
    """
    groups = table.index.unique("group")
    titles = {
        "pointing": "share of the images with the peak on a lesion",
        "pooled": "share of the images with the largest box dense in lesions",
        "mass_ratio": "mass ratio: share of the map on lesions / share of the disc",
    }
    limits = {"pointing": ("chance", "ceiling"), "pooled": ("pooled_chance", None), "mass_ratio": (None, None)}[measure]
    figure, every = plt.subplots(
        1, len(groups), figsize=(5.8 * len(groups), 3.8), layout="constrained", sharex=True, squeeze=False
    )
    for axes, group in zip(every[0], groups, strict=True):
        part = table.loc[group]
        place = np.arange(len(part))
        colours = ["#7d7d7d" if name in CONTROLS else "#2a6f97" for name in part.index]
        spread = [part[measure] - part[f"{measure} low"], part[f"{measure} high"] - part[measure]]
        axes.barh(place - 0.2, part[measure], 0.4, xerr=spread, color=colours, capsize=3, label="trained")
        axes.barh(place + 0.2, part[f"{measure} random"], 0.4, color="#e9a15b", label="random backbone")
        for column, style in zip(limits, (":", "-"), strict=True):
            if column:
                name = column.removeprefix("pooled_")
                axes.vlines(part[column], place - 0.45, place + 0.45, colors="black", linestyles=style, label=name)
        if measure == "mass_ratio":
            axes.axvline(1, color="black", linestyle=":", linewidth=1, label="chance")
        axes.set_yticks(place, part.index)
        axes.invert_yaxis()
        axes.set(title=f"{group}: {part['images'].iloc[0]} images with lesions", xlabel=titles[measure])
    every[0, 1 % len(groups)].tick_params(labelleft=len(groups) == 1)
    figure.legend(*every[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    sns.despine(figure)
    return figure


def traced_matches(run: LoadedRun, explanations: list[Explanation], lesions: list[np.ndarray]) -> Figure:
    """Plot each image's match with its largest contribution, over cells and traced to pixels.

    Args:
        run: The run that made the explanations.
        explanations: One explanation per image.
        lesions: (size, size) bool mask per image; outlines are drawn.
    """
    figure, every = plt.subplots(
        2, len(explanations), figsize=(2.4 * len(explanations), 5.4), squeeze=False, layout="constrained"
    )
    highest = max(e.similarities[e.top(1)[0]] for e in explanations)
    for (top, bottom), e, lesion in zip(every.T, explanations, lesions, strict=True):
        j = e.top(1)[0]
        cells = run.display_grid
        heat = cells.upsample(run.similarity(e.maps[j]))
        traced = display.enlarged(tracing.match(run.network, e.image, int(j)), cells.size)
        for axes, values, scale in ((top, heat, highest), (bottom, traced, traced.max() or 1)):
            axes.imshow(e.picture)
            axes.imshow(values, cmap="inferno", alpha=np.clip(values / scale, 0, 1) ** 0.5, vmin=0, vmax=scale)
            axes.contour(
                display.enlarged(lesion.astype(np.float32), cells.size), [0.5], colors="#7CFC00", linewidths=0.7
            )
            axes.set(xticks=[], yticks=[])
        draw_box(top, run.display_box(e.boxes[j]))
        top.set(xlim=(-0.5, cells.size - 0.5), ylim=(cells.size - 0.5, -0.5))  # a box can extend beyond the edge
        top.set_title(f"label {e.target:g}, prototype {e.prototype_labels[j]:.1f}", fontsize=9)
    every[0, 0].set_ylabel("similarity over cells")
    every[1, 0].set_ylabel("traced to pixels")
    figure.suptitle(
        "The largest contribution of each image, over cells (cyan: its box) and traced. Green: outlines of lesions"
    )
    return figure


def deletion_curves(curves: pd.DataFrame) -> Figure:
    """Plot the result of `deletion.measure`: a panel per fill, with means over patients and their 95 % intervals."""
    fills = list(curves["fill"].unique())
    colours = dict(zip(deletion.ORDERS, ("#2a6f97", "#b8b8b8", "#e09f3e"), strict=True))
    patients = curves.groupby(["patient_id", "fill", "order", "removed"], as_index=False)["change"].mean()
    figure, every = plt.subplots(
        1, len(fills), figsize=(4.6 * len(fills), 3.6), layout="constrained", sharey=True, squeeze=False
    )
    for axes, fill in zip(every[0], fills, strict=True):
        sns.lineplot(
            patients[patients["fill"] == fill],
            x="removed",
            y="change",
            hue="order",
            hue_order=deletion.ORDERS,
            palette=colours,
            errorbar=("ci", 95),
            n_boot=500,
            seed=0,
            legend=axes is every[0, 0],
            ax=axes,
        )
        axes.set(
            xlabel="removed patches",
            ylabel="|change of the prediction|\n(units of the labels)",
            title=f"fill: {fill}",
        )
    every[0, 0].legend(frameon=False, title="order by")
    sns.despine(figure)
    return figure


def stability_bars(rows: pd.DataFrame) -> Figure:
    """Plot the result of `stability.measure`, with means over patients and their 95 % intervals."""
    networks = {"moved": "INSightR-Net", "baseline_moved": "baseline"}
    patients = rows.groupby(["change", "patient_id"], sort=False, as_index=False)[["overlap", *networks]].mean()
    moved = patients.rename(columns=networks).melt(
        "change", list(networks.values()), var_name="network", value_name="moved"
    )
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained", sharey=True)
    style = {"y": "change", "errorbar": ("ci", 95), "n_boot": 500, "seed": 0}
    sns.barplot(patients, x="overlap", ax=left, color="#2a6f97", **style)
    left.set(xlim=(0, 1), xlabel="share of the five largest contributions that stay", ylabel="")
    colours = ["#2a6f97", "#b8b8b8"]
    sns.barplot(
        moved.dropna(),
        x="moved",
        hue="network",
        palette=dict(zip(networks.values(), colours, strict=True)),
        ax=right,
        **style,
    )
    right.set(xlabel="|change of the prediction| (units of the labels)", ylabel="")
    right.legend(frameon=False)
    figure.get_layout_engine().set(wspace=0.06)
    sns.despine(figure)
    return figure


def audit_gallery(run: LoadedRun, audit: pd.DataFrame, count: int = 12) -> Figure:
    """Plot the most questionable prototypes of an audit: background, twins, and label far from the source's label.

    Args:
        run: The run.
        audit: Result of `trust.audit`.
        count: Number of prototypes shown.
    """
    doubt = audit.assign(score=audit["background"] + (audit["twins"] > 0) + audit["gap"] / max(audit["gap"].max(), 1))
    chosen = doubt.sort_values("score", ascending=False, kind="stable").head(count)
    boxes = run.prototypes.set_index("prototype")
    figure, every = plt.subplots(2, -(-len(chosen) // 2), figsize=(1.9 * -(-len(chosen) // 2), 5), layout="constrained")
    for axes in every.flat:
        axes.axis("off")
    for axes, p in zip(every.flat, chosen.itertuples(), strict=False):
        axes.imshow(run.display_image(p.image_id))
        draw_box(axes, run.display_box(boxes.loc[p.prototype, ["x0", "y0", "x1", "y1"]]))
        axes.set_title(
            f"#{p.prototype} label {p.label:.1f}\nimage of {p.source_label:g}, twins {p.twins}\n"
            f"background {p.background:.0%}",
            fontsize=9,
        )
    figure.suptitle("The most questionable prototypes")
    return figure


def referral_curve(curves: pd.DataFrame, title: str = "") -> Figure:
    """Plot risk-coverage curves: scores in colour, trivial scores in grey. curves: result of `confidence.referral`."""
    figure, axes = plt.subplots(figsize=(7.5, 3.8), layout="constrained")
    styles = {CHANCE: ":k", BEST: "--k", MIDDLE: "o-", GRADE: "s-"}
    for name in curves.columns.drop("referred"):
        grey = {"color": "#9a9a9a"} if name in (MIDDLE, GRADE) else {}
        axes.plot(curves["referred"], curves[name], styles.get(name, "-"), label=name, markevery=10, ms=3, **grey)
    axes.set(xlabel="share referred to a human", ylabel="MAE of the rest (units of the labels)", title=title)
    axes.set(xlim=(0, 1), ylim=(0, None))
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    sns.despine(figure)
    return figure


def prototype_drift(moving: list[float], frozen: list[float]) -> Figure:
    """Plot the results of `trust.drift_of_prototypes` with moving and frozen BatchNorm."""
    figure, axes = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
    axes.plot(moving, "o-", label="BatchNorm moves (published code)", color="#c1121f")
    axes.plot(frozen, "o-", label="frozen (here)", color="#2a6f97")
    axes.set(
        xlabel="last-layer epochs after the projection",
        ylabel="mean squared distance",
        title="Distance of the prototypes to their own patches",
    )
    axes.legend(frameon=False)
    sns.despine(figure)
    return figure
