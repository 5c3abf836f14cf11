"""Figures of notebooks 05 and 06, which compare many runs. Labels are in the user's units."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix

from insightr_nb.analysis.figures import LABEL_COLOURS
from insightr_nb.analysis.latent import LatentMap, published_cells
from insightr_nb.analysis.loaded_run import load_run
from insightr_nb.analysis.metrics import rounded_grades, top_prototypes
from insightr_nb.analysis.statistics import hardly_used
from insightr_nb.analysis.sweeps import TITLES
from insightr_nb.runs import Run
from insightr_nb.settings import LabelScale

_AXES = {
    "mae": "MAE (units of the labels)",
    "sparsity": "sparsity (prototypes)",
    "diversity": "diversity (prototypes)",
    "top_label_gap": "top-prototype label gap\n(units of the labels)",
}


def confusion_shares(fold_runs: list[Run], scale: LabelScale) -> pd.DataFrame:
    """Share of the images of each grade (rows) by rounded prediction (columns), pooled over folds.

    Args:
        fold_runs: Runs of the folds.
        scale: Label range.
    """
    tables = [run.table("predictions.csv") for run in fold_runs]
    grades = np.concatenate([t["target"] for t in tables]).round().astype(int)
    predicted = np.concatenate([rounded_grades(t["prediction"].to_numpy(), scale) for t in tables])
    labels = np.arange(int(scale.minimum), int(scale.maximum) + 1)
    return pd.DataFrame(confusion_matrix(grades, predicted, labels=labels, normalize="true"), labels, labels)


def describe_confusion(shares: pd.DataFrame) -> str:
    """Name the grade that is recognised least often, and what it is mistaken for. shares: of `confusion_shares`."""
    right = pd.Series(np.diag(shares), shares.index)
    grade = right.idxmin()
    wrong = shares.loc[grade].drop(grade)
    return (
        f"Grade {grade} is recognised least often, in {right[grade]:.0%} of its images; {wrong.max():.0%} of them are "
        f"taken for grade {wrong.idxmax()}."
    )


def confusion(shares: pd.DataFrame, title: str) -> Figure:
    """Plot the confusion matrix of grade and rounded prediction, normalised by grade.

    Args:
        shares: Result of `confusion_shares`.
        title: Title of the figure.
    """
    figure, axes = plt.subplots(figsize=(5, 4.2), layout="constrained")
    sns.heatmap(
        shares,
        annot=True,
        fmt=".2f",
        cmap="Blues",
        vmin=0,
        vmax=1,
        ax=axes,
        cbar_kws={"label": "share of the images of a grade"},
    )
    axes.tick_params(axis="y", rotation=0)
    axes.set(xlabel="prediction, rounded", ylabel="grade", title=title)
    return figure


def calibration(by_name: Mapping[str, list[Run]]) -> Figure:
    """Plot prediction against label for every test image of every fold, with the mean prediction of each label."""
    parts = [
        run.table("predictions.csv").assign(variant=name, fold=i)
        for name, fold_runs in by_name.items()
        for i, run in enumerate(fold_runs)
    ]
    data = pd.concat(parts, ignore_index=True)
    grid = sns.relplot(data=data, x="target", y="prediction", col="variant", alpha=0.15, s=14, height=4, linewidth=0)
    for name, axes in grid.axes_dict.items():
        part = data[data["variant"] == name]
        ends = [part["target"].min(), part["target"].max()]
        axes.plot(ends, ends, color="0.4", linestyle="--", linewidth=1)
        by_label = part.groupby("target")["prediction"].agg(["mean", "std"])
        axes.errorbar(by_label.index, by_label["mean"], by_label["std"], color="black", fmt="o-", capsize=3)
    grid.set_titles("{col_name}").set_axis_labels("label", "prediction")
    grid.figure.suptitle("Calibration: mean and standard deviation of the predictions of each label", y=1.03)
    return grid.figure


def describe_calibration(by_name: Mapping[str, list[Run]]) -> str:
    """State for each variant where the mean prediction of a label is farthest from it.

    Labels that are no grades are rounded first.
    """
    parts = []
    for name, fold_runs in by_name.items():
        data = pd.concat([run.table("predictions.csv") for run in fold_runs])
        bias = (data["prediction"] - data["target"]).groupby(data["target"].round()).mean()
        worst = bias.abs().idxmax()
        parts.append(f"{name}: {bias[worst]:+.2f} at label {worst:g}")
    return f"The mean prediction is farthest from the label here: {'; '.join(parts)}."


def latent_and_usage(by_name: Mapping[str, Run]) -> Figure:
    """Plot Fig. 3 of the paper, one column per run.

    Top: PCA of the five latent patches of each test image nearest to a prototype (stars, by grade) and of the
    prototypes (circles, by label). Bottom: share of the test images with the prototype among the five largest
    contributions, and on the right the same histogram as a probability density over the label, as in the paper.
    """
    figure, panels = plt.subplots(
        2, len(by_name), figsize=(max(6.4, 4.6 * len(by_name)), 7.6), squeeze=False, layout="constrained", sharey="row"
    )
    highest = 0.0
    for (name, run), (above, below) in zip(by_name.items(), panels.T, strict=True):
        space = LatentMap.of(load_run(run))
        labels = run.table("prototypes.csv")["label"].to_numpy()
        colours = {"cmap": LABEL_COLOURS, "vmin": labels.min(), "vmax": labels.max()}
        above.scatter(*space.patches.T, c=space.targets, marker="*", s=30, edgecolors="0.5", linewidths=0.2, **colours)
        shown = above.scatter(*space.prototypes.T, c=labels, s=60, edgecolors="black", linewidths=0.8, **colours)
        above.set(title=name, xlabel=f"PC 1 ({space.variance[0]:.0%})", ylabel=f"PC 2 ({space.variance[1]:.0%})")
        shares, spacing = usage(run), labels[1] - labels[0]
        below.bar(
            labels,
            shares,
            0.8 * spacing,
            color=plt.get_cmap(LABEL_COLOURS)((labels - labels.min()) / np.ptp(labels)),
            edgecolor="0.4",
            linewidth=0.4,
        )
        below.set_xlabel("label of the prototype")
        density = shares.sum() * spacing  # a bar of this share has density 1
        right = below.secondary_yaxis("right", (lambda s, d=density: s / d, lambda p, d=density: p * d))
        highest = max(highest, shares.max())
    panels[1, 0].set(ylim=(0, 1.05 * highest), ylabel="share of images with it in the top 5")
    right.set_ylabel("probability density of the label in the top 5")
    figure.colorbar(shown, ax=panels[0], label="grade (star), label of the prototype (circle)")
    figure.suptitle("Latent space (top); how often a prototype is in the top 5 (bottom)")
    return figure


def usage(run: Run) -> np.ndarray:
    """Share of the test images in which each prototype is among the five largest contributions: (m,)."""
    weights = run.array("weights.npy")
    return np.bincount(top_prototypes(weights).ravel(), minlength=weights.shape[1]) / len(weights)


def describe_usage(by_name: Mapping[str, Run]) -> str:
    """State for each variant how many prototypes are hardly used, and how often the most used one is."""
    parts = []
    for name, run in by_name.items():
        used, unused = usage(run), hardly_used(run.array("weights.npy"))
        parts.append(
            f"{name}: {unused} of {len(used)} prototypes are in the top 5 of less than 1 % of the images, the most "
            f"used one in that of {used.max():.0%}"
        )
    return "\n".join(parts)


def describe_cells(by_name: Mapping[str, Run]) -> str:
    """State how the cells of Fig. 3 differ from those of the published code, by `latent.published_cells`."""
    parts = []
    for name, run in by_name.items():
        shared, distinct = published_cells(run.array("distances.npy"))
        parts.append(f"{name}: {shared:.0%} of its five cells per image are among these; {distinct:.1f} are distinct")
    return "By the published code's choice of cells: " + "; ".join(parts) + "."


def sweep_curves(part: pd.DataFrame, parameter: str) -> Figure:
    """Plot MAE, sparsity, diversity and coherence against one setting.

    part: one row per run, with columns value, fold and the metrics.
    """
    figure, panels = plt.subplots(1, len(_AXES), figsize=(4 * len(_AXES), 3.4), layout="constrained")
    values, name = np.unique(part["value"]), TITLES.get(parameter, parameter)
    positive = values[values > 0]
    for axes, (metric, title) in zip(panels, _AXES.items(), strict=True):
        sns.lineplot(data=part, x="value", y=metric, errorbar="sd", err_style="bars", marker="o", ax=axes)
        axes.set(xlabel=name, ylabel=title)
        if len(positive) and positive[-1] > 20 * positive[0]:
            if 0 in values:
                axes.set_xscale("symlog", linthresh=positive[0])
                axes.set_xlim(-positive[0] / 2, 1.4 * positive[-1])  # symlog would show as much below 0 as above
            else:
                axes.set_xscale("log")
            axes.set_xticks(values, [f"{value:g}" for value in values])
            axes.minorticks_off()
    figure.suptitle(f"Sweep over {name}: mean and standard deviation over {part['fold'].nunique()} folds")
    return figure


def describe_sweep(part: pd.DataFrame, parameter: str) -> str:
    """State how the mean MAE, sparsity and label gap change from the smallest to the largest value of a sweep.

    part: one row per run, with columns value, mae, sparsity and top_label_gap.
    """
    means = part.groupby("value")[["mae", "sparsity", "top_label_gap"]].mean()
    lowest = means["mae"].idxmin()
    ends = {name: (means[name].iloc[0], means[name].iloc[-1]) for name in means}
    return (
        f"With {TITLES.get(parameter, parameter)} from {means.index[0]:g} to {means.index[-1]:g}, the MAE goes from "
        "{:.3f} to {:.3f}, ".format(*ends["mae"])
        + "the sparsity from {:.1f} to {:.1f} ".format(*ends["sparsity"])
        + "and the top-prototype label gap from {:.2f} to {:.2f}; ".format(*ends["top_label_gap"])
        + f"the lowest MAE is at {lowest:g} ({means.loc[lowest, 'mae']:.3f})."
    )
