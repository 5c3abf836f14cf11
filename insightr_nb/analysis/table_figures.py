"""Figures of notebooks 05 and 06, which compare many runs. Labels are in the user's units."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix

from insightr_nb.analysis.figures import LABEL_COLOURS
from insightr_nb.analysis.latent import LatentMap
from insightr_nb.analysis.loaded_run import load_run
from insightr_nb.analysis.metrics import rounded_grades, top_prototypes
from insightr_nb.runs import Run
from insightr_nb.settings import LabelScale


def confusion(fold_runs: list[Run], scale: LabelScale, title: str) -> Figure:
    """Plot the confusion matrix of grade and rounded prediction, pooled over folds and normalised by grade.

    Args:
        fold_runs: runs of the folds.
        scale: label range.
        title: title of the figure.
    """
    tables = [run.table("predictions.csv") for run in fold_runs]
    grades = np.concatenate([t["target"] for t in tables]).round().astype(int)
    predicted = np.concatenate([rounded_grades(t["prediction"].to_numpy(), scale) for t in tables])
    labels = np.arange(int(scale.minimum), int(scale.maximum) + 1)
    shares = confusion_matrix(grades, predicted, labels=labels, normalize="true")
    figure, axes = plt.subplots(figsize=(5, 4.2), layout="constrained")
    sns.heatmap(
        shares,
        annot=True,
        fmt=".2f",
        cmap="Blues",
        vmin=0,
        vmax=1,
        ax=axes,
        xticklabels=labels,
        yticklabels=labels,
        cbar_kws={"label": "share of the images of a grade"},
    )
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


def latent_and_usage(by_name: Mapping[str, Run]) -> Figure:
    """Plot Fig. 3 of the paper, one column per run.

    Top: PCA of the five latent patches of each test image nearest to a prototype (stars, by grade) and of the
    prototypes (circles, by label). Bottom: share of the test images with the prototype among the five largest
    contributions.
    """
    figure, panels = plt.subplots(
        2, len(by_name), figsize=(4.6 * len(by_name), 7.6), squeeze=False, layout="constrained", sharey="row"
    )
    highest = 0.0
    for (name, run), (above, below) in zip(by_name.items(), panels.T, strict=True):
        space = LatentMap.of(load_run(run))
        labels = run.table("prototypes.csv")["label"].to_numpy()
        colours = {"cmap": LABEL_COLOURS, "vmin": labels.min(), "vmax": labels.max()}
        above.scatter(*space.patches.T, c=space.targets, marker="*", s=22, alpha=0.5, linewidths=0, **colours)
        shown = above.scatter(*space.prototypes.T, c=labels, s=60, edgecolors="black", linewidths=0.8, **colours)
        above.set(title=name, xlabel=f"PC 1 ({space.variance[0]:.0%})", ylabel=f"PC 2 ({space.variance[1]:.0%})")
        weights = run.array("weights.npy")
        count = np.bincount(top_prototypes(weights).ravel(), minlength=weights.shape[1]) / len(weights)
        below.bar(
            labels,
            count,
            0.8 * (labels[1] - labels[0]),
            color=plt.get_cmap(LABEL_COLOURS)((labels - labels.min()) / np.ptp(labels)),
            edgecolor="0.4",
            linewidth=0.4,
        )
        below.set_xlabel("label of the prototype")
        highest = max(highest, count.max())
    panels[1, 0].set(ylim=(0, 1.05 * highest), ylabel="share of images with it in the top 5")
    figure.colorbar(shown, ax=panels[0], label="grade (star), label of the prototype (circle)")
    figure.suptitle("Latent space (top) and how often a prototype is among the five largest contributions (bottom)")
    return figure


def sweep_curves(part: pd.DataFrame, parameter: str) -> Figure:
    """Plot MAE, sparsity and diversity against one setting.

    part: one row per run, with columns value, fold and the metrics.
    """
    figure, panels = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    for axes, metric in zip(panels, ("mae", "sparsity", "diversity"), strict=True):
        sns.lineplot(data=part, x="value", y=metric, errorbar="sd", err_style="bars", marker="o", ax=axes)
        axes.set(xlabel=parameter, ylabel=metric if metric != "mae" else "MAE")
        if part["value"].max() > 20 * part["value"].min() > 0:
            axes.set_xscale("log")
    figure.suptitle(f"Sweep over {parameter}: mean and standard deviation over {part['fold'].nunique()} folds")
    return figure
