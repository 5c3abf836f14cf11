"""Figures of the notebooks, as matplotlib figures; `save` writes them to figures/. Labels are in the user's units."""

from collections.abc import Iterable, Mapping
from itertools import pairwise, zip_longest
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.ticker import MaxNLocator

from insightr_nb import files
from insightr_nb.data.photograph import DISC, thumbnail
from insightr_nb.model.network import Output
from insightr_nb.model.prototypes import similarity
from insightr_nb.settings import LabelScale, ModelSettings

LABEL_COLOURS = "RdYlBu_r"  # low labels blue, high labels red
_STAGE_COLOURS = {"regression": "0.93", "warm-up": "#fdf1d8", "joint": "#e8f0fa", "last layer": "#e7f5e9"}


def save(figure: Figure, path: Path) -> Path:
    """Save a figure as PNG at 130 dpi, creating folders as needed. Returns the path."""
    with files.atomic(path) as temporary:
        figure.savefig(temporary, dpi=130, bbox_inches="tight", format="png", pil_kwargs={"compress_level": 2})
    return path


def save_all(drawn: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Save figures as `<name>.png` in a folder. Returns the paths."""
    return [save(figure, folder / f"{name}.png") for name, figure in drawn.items()]


def image_grid(images: list[list[np.ndarray]], columns: list[str], rows: list[str], title: str = "") -> Figure:
    """Plot a grid of pictures with column and row headings.

    Args:
        images: Rows of pictures, (H, W, 3) uint8 each.
        columns: Column headings.
        rows: Row headings.
        title: Title of the figure.
    """
    shape = len(images), len(images[0])
    figure, axes = plt.subplots(*shape, figsize=(2.3 * shape[1], 2.4 * shape[0]), squeeze=False, layout="constrained")
    for r, row in enumerate(images):
        for c, image in enumerate(row):
            picture(axes[r, c], image, columns[c] if r == 0 else "")
        axes[r, 0].set_ylabel(rows[r], fontsize=10)
    figure.suptitle(title, parse_math=False)
    return figure


def photographs(listed: pd.DataFrame, title: str) -> Figure | None:
    """Plot the first ten of these raw photographs (image_id, source); None if none can be decoded.

    If a column `doubt` mentions the disc, the detected circle is drawn.
    """
    found = {
        row.image_id: thumbnail(row.source, outline=DISC in getattr(row, "doubt", ""))
        for row in listed[:20].itertuples()
    }
    found = {name: image for name, image in found.items() if image is not None}
    if not found:
        return None
    rows = -(-min(10, len(found)) // 5)
    figure, axes = plt.subplots(rows, 5, figsize=(11.5, 2.5 * rows), squeeze=False, layout="constrained")
    for place, name in zip_longest(axes.flat, list(found)[:10]):
        if name is None:
            place.set_axis_off()
        else:
            picture(place, found[name], name)
    figure.suptitle(title, parse_math=False)
    return figure


def draw_box(axes: Axes, box: Iterable[float], width: float = 1.6) -> None:
    """Draw a box along the edges of its pixels.

    Args:
        axes: Axes that show the picture.
        box: x0, y0, x1, y1 in pixels of the picture; x1 and y1 exclusive.
        width: Width of the line in points.
    """
    x0, y0, x1, y1 = box
    axes.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, edgecolor="cyan", linewidth=width))


def picture(axes: Axes, image: np.ndarray, title: str = "", colour: str = "black") -> None:
    """Show a picture without ticks or frame.

    Args:
        axes: Axes to fill.
        image: (H, W, 3) uint8.
        title: Plain text, not mathtext.
        colour: Colour of the title.
    """
    axes.imshow(image)
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=10, color=colour, parse_math=False)  # a $ in an image_id is literal
    axes.spines[:].set_visible(False)


# -- notebook 02 ------------------------------------------------------------------------------------------------------


def similarity_curves(settings: ModelSettings) -> Figure:
    """Plot Eq. 1 and the logarithmic similarity, absolute and divided by the value at distance 0."""
    distance = torch.logspace(-5, np.log10(settings.latent_channels), 400)
    figure, panels = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for kind, name in (("inverse", "Eq. 1: 1 / (d / d_max + ε)"), ("log", "ProtoPNet: log((d + 1) / (d + ε))")):
        values = similarity(distance, settings.latent_channels, kind, settings.epsilon)
        best = similarity(torch.zeros(1), settings.latent_channels, kind, settings.epsilon)
        panels[0].plot(distance, values, label=f"{name}, {best.item():.4g} at d = 0")
        panels[1].plot(distance, values / best, label=name)
    panels[0].set(xscale="log", yscale="log", ylabel="similarity", title="similarity")
    panels[1].set(xscale="log", ylabel="share of the largest similarity", title="how fast a weaker match falls behind")
    for axes in panels:
        axes.set_xlabel("squared distance d of the nearest patch")
        axes.legend(frameon=False, fontsize=9)
        axes.grid(alpha=0.3)
    return figure


def describe_similarity(settings: ModelSettings, share: float = 0.001) -> str:
    """Compare what is left of both similarities at a distance of `share` of d_max."""
    distance = torch.tensor([0.0, share * settings.latent_channels])
    left = {}
    for kind in ("inverse", "log"):
        best, weaker = similarity(distance, settings.latent_channels, kind, settings.epsilon).tolist()
        left[kind] = weaker / best
    return (
        f"At a distance of {distance[1]:.3g} ({share:.1%} of d_max), Eq. 1 keeps {left['inverse']:.0%} of its largest "
        f"value, and the logarithm {left['log']:.0%}."
    )


def network_steps(
    settings: ModelSettings, images: torch.Tensor, features: torch.Tensor, output: Output
) -> list[tuple[str, str, str]]:
    """Steps of the network for `architecture`: name, equation or layers, shape for one image.

    Args:
        settings: Settings of the network.
        images: (B, 3, size, size) input.
        features: Output of the backbone.
        output: Output of the network.
    """

    def shape(tensor: torch.Tensor) -> str:
        return "x".join(map(str, tensor.shape[1:])) or "1"

    return [
        ("image", "X", shape(images)),
        ("backbone", settings.backbone, shape(features)),
        ("block", "Conv ReLU Conv\nSigmoid:  Z", shape(output.latent)),
        ("prototype layer", f"squared distances\nto {settings.prototypes} prototypes", shape(output.distances)),
        ("minimum", "over patches: d", shape(output.min_distances)),
        ("similarity", "Eq. 1:  s = φ(d)", shape(output.similarities)),
        ("contribution", "w = s r", shape(output.weights)),
        ("weighted mean", "Eq. 2:  ŷ", shape(output.prediction)),
    ]


def architecture(shapes: list[tuple[str, str, str]], title: str) -> Figure:
    """Boxes from left to right. shapes: (name, equation or layers, shape of the result) of each step."""
    columns = 4
    rows = -(-len(shapes) // columns)
    figure, axes = plt.subplots(figsize=(11, 2.1 * rows), layout="constrained")
    for i, (name, detail, shape) in enumerate(shapes):
        x, y = 2 * (i % columns), -1.9 * (i // columns)
        colour = colormaps["Blues"](0.12 + 0.5 * i / len(shapes))
        box = FancyBboxPatch((x, y + 0.5), 1.5, 1.1, boxstyle="round,pad=0.05", facecolor=colour, edgecolor="0.4")
        axes.add_patch(box)
        axes.text(x + 0.75, y + 1.35, name, ha="center", va="center", weight="bold", fontsize=12)
        axes.text(x + 0.75, y + 0.85, detail, ha="center", va="center", fontsize=11)
        axes.text(x + 0.75, y + 0.24, shape, ha="center", va="center", fontsize=11, family="monospace")
        start = x - 0.43 if i % columns else -0.45  # a row begins where the one above ends
        ends = (start, y + 1.05), (x - 0.07, y + 1.05)
        if i:
            axes.add_patch(FancyArrowPatch(*ends, arrowstyle="-|>", mutation_scale=14, color="0.2"))
    axes.set(xlim=(-0.5, 2 * columns - 0.3), ylim=(-1.9 * (rows - 1), 1.9), title=title)
    axes.axis("off")
    return figure


# -- notebook 03 ------------------------------------------------------------------------------------------------------


def training_curves(history: pd.DataFrame, selected_epoch: int, title: str = "") -> Figure:
    """Plot losses and MAE per epoch, with stages as coloured bands, and projections and the selected epoch as lines.

    Args:
        history: Content of history.csv.
        selected_epoch: Epoch of the final model.
        title: Title of the figure.
    """
    names = [n for n in ("mse", "cluster", "psd") if f"train_{n}" in history]
    epochs = history["epoch"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.4), layout="constrained")
    for name in names:
        left.plot(epochs, history[f"train_{name}"], marker=".", label=f"training, {name}")
    left.plot(epochs, history["validation_mse"], marker=".", color="black", label="validation, mse (mean over grades)")
    left.set(yscale="log", ylabel="loss, labels on 1 to 5", title="losses")
    right.plot(epochs, history["train_mae"], marker=".", label="training (augmented)")
    right.plot(epochs, history["validation_mae"], marker=".", color="black", label="validation")
    highest = history[["train_mae", "validation_mae"]].max().max()
    right.set(ylabel="mean absolute error", title="MAE, in the units of the labels", ylim=(0, 1.08 * highest))
    changes = (history["stage"] != history["stage"].shift()) | (history["cycle"] != history["cycle"].shift())
    starts = [*np.flatnonzero(changes), len(history)]
    for axes in (left, right):
        axes.legend(framealpha=0.9, edgecolor="none", fontsize=9)
        marks = {}
        for begin, end in pairwise(starts):
            stage = history["stage"][begin]
            marks[stage] = axes.axvspan(begin + 0.5, end + 0.5, color=_STAGE_COLOURS[stage], zorder=0)
            if stage == "last layer":
                marks["projection"] = axes.axvline(begin + 0.5, color="tab:red", linestyle="--", linewidth=1)
        marks[f"selected: epoch {selected_epoch}"] = axes.axvline(selected_epoch, color="tab:green", linestyle=":")
        axes.set(xlabel="epoch", xlim=(0.5, len(history) + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    figure.legend(marks.values(), marks, loc="outside lower center", ncols=len(marks), frameon=False, fontsize=9)
    figure.suptitle(title, parse_math=False)
    return figure


def describe_training(history: pd.DataFrame, selected_epoch: int) -> str:
    """Compare the selected epoch with the lowest validation loss of its stage, and with the training loss.

    They differ where a run selects by the total loss. history: content of history.csv.
    """
    epoch = history.set_index("epoch").loc[selected_epoch]
    loss = epoch["validation_mse"]
    lowest = history.loc[history["stage"] == epoch["stage"], "validation_mse"].min()
    gap = loss - epoch["train_mse"]
    return (
        f"Epoch {selected_epoch} of {len(history)} was selected; its validation loss (mse) is {loss:.3f}, the lowest "
        f"of the {epoch['stage'].replace(' ', '-')} epochs is {lowest:.3f}. It lies {abs(gap):.3f} "
        f"{'above' if gap > 0 else 'below'} the training loss."
    )


def predictions_by_label(predictions: pd.DataFrame, scale: LabelScale, title: str = "") -> Figure:
    """Plot prediction against label for every test image; the dashed line marks perfect predictions.

    Args:
        predictions: Content of predictions.csv.
        scale: Label range.
        title: Title of the figure.
    """
    figure, axes = plt.subplots(figsize=(5, 4.2), layout="constrained")
    spread = np.random.default_rng(0).uniform(-0.12, 0.12, len(predictions)) * scale.unit
    axes.scatter(predictions["target"] + spread, predictions["prediction"], s=9, alpha=0.5, edgecolors="none")
    ends = [scale.minimum, scale.maximum]
    axes.plot(ends, ends, color="black", linestyle="--", linewidth=1)
    axes.set(xlabel="label (jittered)", ylabel="prediction", title=title)
    axes.grid(alpha=0.3)
    return figure


def describe_predictions(predictions: pd.DataFrame) -> str:
    """State the bias of the predictions at low and at high labels. predictions: content of predictions.csv."""
    test = predictions.sort_values("target", kind="stable")
    error = (test["prediction"] - test["target"]).to_numpy()
    low, _, high = (part.mean() if len(part) else 0.0 for part in np.array_split(error, 3))
    return (
        f"In the third of the images with the lowest labels the mean error (prediction - label) is {low:+.2f}, "
        f"in the third with the highest {high:+.2f}."
    )
