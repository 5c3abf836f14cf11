"""Figures of the notebooks, as matplotlib figures; `save` writes them to figures/. Labels are in the user's units."""

import re
from itertools import pairwise, zip_longest
from pathlib import Path
from urllib.parse import quote

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib import colormaps
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.ticker import MaxNLocator

from insightr_nb import files
from insightr_nb.analysis.explanation import Explanation, FoldsExplanation, LoadedRun
from insightr_nb.analysis.latent import LatentMap
from insightr_nb.data.graham import GROUND
from insightr_nb.data.label_table import image_id
from insightr_nb.data.photograph import DISC, thumbnail
from insightr_nb.model.prototypes import similarity
from insightr_nb.settings import LabelScale, ModelSettings

LABEL_COLOURS = "RdYlBu_r"  # low labels blue, high labels red
HEAT = "inferno"
_NO_FILE_NAME = re.compile(r'[/\\:*?"<>|%\x00-\x1f]')  # characters not allowed in file names on some system
_STAGE_COLOURS = {"regression": "0.93", "warm-up": "#fdf1d8", "joint": "#e8f0fa", "last layer": "#e7f5e9"}


def save(figure: Figure, path: Path) -> Path:
    """Save a figure as PNG at 130 dpi, creating folders as needed. Returns the path."""
    with files.atomic(path) as temporary:
        figure.savefig(temporary, dpi=130, bbox_inches="tight", format="png", pil_kwargs={"compress_level": 2})
    return path


def image_grid(images: list[list[np.ndarray]], columns: list[str], rows: list[str], title: str = "") -> Figure:
    """Plot a grid of pictures with column and row headings.

    Args:
        images: rows of pictures, (H, W, 3) uint8 each.
        columns: column headings.
        rows: row headings.
        title: title of the figure.
    """
    shape = len(images), len(images[0])
    figure, axes = plt.subplots(*shape, figsize=(2.3 * shape[1], 2.4 * shape[0]), squeeze=False, layout="constrained")
    for r, row in enumerate(images):
        for c, image in enumerate(row):
            _picture(axes[r, c], image, columns[c] if r == 0 else "")
        axes[r, 0].set_ylabel(rows[r], fontsize=10)
    figure.suptitle(title, parse_math=False)
    return figure


def photographs(listed: pd.DataFrame, title: str) -> Figure | None:
    """Plot the first ten of these raw photographs (image_id, source); None if none can be decoded.

    If a column `doubt` mentions the disc, the detected circle is drawn.
    """
    found = {row.image_id: thumbnail(row.source, outline=DISC in getattr(row, "doubt", ""))
             for row in listed[:20].itertuples()}  # fmt: skip
    found = {name: picture for name, picture in found.items() if picture is not None}
    if not found:
        return None
    rows = -(-min(10, len(found)) // 5)
    figure, axes = plt.subplots(rows, 5, figsize=(11.5, 2.5 * rows), squeeze=False, layout="constrained")
    for place, name in zip_longest(axes.flat, list(found)[:10]):
        if name is None:
            place.set_axis_off()
        else:
            _picture(place, found[name], name)
    figure.suptitle(title, parse_math=False)
    return figure


def _picture(axes, image: np.ndarray, title: str = "", colour: str = "black") -> None:
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
        history: content of history.csv.
        selected_epoch: epoch of the final model.
        title: title of the figure.
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
        axes.legend(frameon=False, fontsize=9)
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


def predictions_by_label(predictions: pd.DataFrame, scale: LabelScale, title: str = "") -> Figure:
    """Plot prediction against label for every test image; the dashed line marks perfect predictions.

    Args:
        predictions: content of predictions.csv.
        scale: label range.
        title: title of the figure.
    """
    figure, axes = plt.subplots(figsize=(5, 4.2), layout="constrained")
    spread = np.random.default_rng(0).uniform(-0.12, 0.12, len(predictions)) * scale.unit
    axes.scatter(predictions["target"] + spread, predictions["prediction"], s=9, alpha=0.5, edgecolors="none")
    ends = [scale.minimum, scale.maximum]
    axes.plot(ends, ends, color="black", linestyle="--", linewidth=1)
    axes.set(xlabel="label (spread sideways a little)", ylabel="prediction", title=title)
    axes.grid(alpha=0.3)
    return figure


# -- notebook 04 ------------------------------------------------------------------------------------------------------


def overlay(image: np.ndarray, heat: np.ndarray, opacity: float = 0.6) -> np.ndarray:
    """Blend a heat map over a picture; the picture is unchanged where the map is 0.

    Args:
        image: (H, W, 3) uint8.
        heat: (H, W) from 0 to 1.
        opacity: opacity where the map is 1.

    Returns:
        (H, W, 3) uint8.
    """
    heat = np.clip(heat, 0, 1)[..., None]
    colours = colormaps[HEAT](heat[..., 0])[..., :3] * 255
    return ((1 - opacity * heat) * image + opacity * heat * colours).astype(np.uint8)


def heat_scale(similarities: np.ndarray) -> Normalize:
    """Common scale for all maps of a figure, on the logarithm of the similarity, from its median to its maximum.

    The logarithm keeps weak matches dark.
    """
    logs = np.log(similarities)
    return Normalize(float(np.quantile(logs, 0.5)), float(logs.max()))


def heat(run: LoadedRun, similarities: np.ndarray, scale: Normalize) -> np.ndarray:
    """Convert similarities of the cells to a heat map at display size.

    Args:
        run: the run.
        similarities: (H, W).
        scale: result of `heat_scale`.

    Returns:
        (S, S) from 0 to 1.
    """
    return run.display_grid.upsample(np.clip(scale(np.log(similarities)), 0, 1))


def _box(axes, box, colour: str) -> None:
    x0, y0, x1, y1 = box
    axes.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=1.6))


def prototype_gallery(run: LoadedRun, columns: int = 10) -> Figure:
    """Plot the prototypes by label: the source patch (box) centred in a window of three cells' width."""
    table = run.prototypes.sort_values("label")
    rows = int(np.ceil(len(table) / columns))
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.4 * columns, 1.75 * rows), squeeze=False, layout="constrained"
    )
    reach = int(1.5 * run.display_grid.stride)
    for place, (_, p), image in zip(axes.flat, table.iterrows(), run.display_images(table["image_id"]), strict=False):
        row = run.store.row(p["image_id"])
        image = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), constant_values=GROUND)
        x0, y0, x1, y1 = run.display_box(p[["x0", "y0", "x1", "y1"]])
        x, y = (x0 + x1) // 2, (y0 + y1) // 2  # centre of the box and the window
        _picture(place, image[y : y + 2 * reach, x : x + 2 * reach], f"#{p['prototype']}  label {p['label']:.1f}")
        place.set_xlabel(f"image of {run.store.table['label'][row]:g}", fontsize=8)
        _box(place, np.array([x0, y0, x1, y1]) + np.array([reach - x, reach - y] * 2), "cyan")
    for place in axes.flat[len(table) :]:
        place.axis("off")
    figure.suptitle("Learned prototypes: patches of training images (box) and their surroundings, by label")
    return figure


def explanation(
    run: LoadedRun, e: Explanation, count: int = 3, title: str = "", folds: FoldsExplanation | None = None
) -> Figure:
    """Fig. 2 of the paper: an image, its top prototypes with activation maps on both, how they make the prediction."""
    top = e.top(count)
    maps = run.similarity(e.maps[top])  # (count, H, W)
    sources = run.similarity(run.prototype_maps[top])
    scale = heat_scale(np.concatenate([maps, sources]))
    figure = plt.figure(figsize=(12.5, 2.7 * count + 3.4), layout="constrained")
    grid = figure.add_gridspec(count + 1, 4, height_ratios=[2.7] * count + [3.0], width_ratios=[1.35, 1, 1, 1.1])
    target = "" if e.target is None else f"\nlabel {e.target:g}"
    axes = figure.add_subplot(grid[:count, 0])
    _picture(axes, e.picture, f"prediction {e.prediction:.2f}{target}")
    colours = plt.cm.ScalarMappable(LogNorm(np.exp(scale.vmin), np.exp(scale.vmax)), HEAT)
    figure.colorbar(colours, ax=axes, location="bottom", shrink=0.8, label="similarity, one scale for all maps")
    axes.set_anchor("N")  # the colour bar has moved it down
    words = axes.text(0, -0.06, _in_words(e, folds), va="top", fontsize=10, linespacing=1.6, transform=axes.transAxes)
    words.set_in_layout(False)
    for r, j in enumerate(top):
        p = e.prototype_sources.iloc[j]
        axes = figure.add_subplot(grid[r, 1])
        _picture(axes, overlay(e.picture, heat(run, maps[r], scale)), "where the image looks like it" if r == 0 else "")
        _box(axes, run.display_box(e.boxes[j]), "cyan")
        axes = figure.add_subplot(grid[r, 2])
        source = run.display_image(p["image_id"])
        _picture(
            axes,
            overlay(source, heat(run, sources[r], scale)),
            f"prototype {j} in its source" if r == 0 else f"prototype {j}",
        )
        _box(axes, run.display_box(p[["x0", "y0", "x1", "y1"]]), "cyan")
        axes = figure.add_subplot(grid[r, 3])
        axes.axis("off")
        lines = [
            f"prototype {j}, label {p['label']:.2f}",
            f"source {p['image_id']}",
            f"squared distance {e.min_distances[j]:.3f}",
            f"similarity {e.similarities[j]:.0f}",
            f"contribution {100 * e.shares[j]:.1f} %",
        ]
        axes.text(0, 0.5, "\n".join(lines), va="center", fontsize=10, transform=axes.transAxes, linespacing=1.5,
                  parse_math=False)  # fmt: skip
    axes = figure.add_subplot(grid[count, :])
    _contributions(axes, e, top)
    figure.suptitle(title, parse_math=False)
    return figure


def write_explanation(
    run: LoadedRun, e: Explanation, folder: Path, name: str, count: int = 5, folds: FoldsExplanation | None = None
) -> tuple[Path, Path]:
    """Write an explanation to `explanation_<name>.png` and `.json`; numbers are in the labels' units and in pixels.

    Args:
        run: the run that made the explanation.
        e: the explanation.
        folder: target folder.
        name: an image_id, the path of an image, or any other name. Characters not allowed in file names are
            percent-encoded: "left/020" becomes left%2F020.
        count: number of top prototypes in the JSON file.
        folds: explanations of the same image by several runs; adds mean and spread of their predictions.

    Returns:
        Paths of the PNG and the JSON file.
    """
    if not (run.store.table["image_id"] == name).any():
        name = image_id(Path(name).name)
    sources = e.prototype_sources.set_index("prototype")
    content = {
        "note": "Research software, no medical device: nothing here may be used for a diagnosis.",
        "run": files.shown(run.path),
        "image": name,
        "prediction": e.prediction,
        "uncertainty": e.uncertainty,
        "target": e.target,
        "prototypes": [
            {
                "prototype": int(j),
                "label": float(e.prototype_labels[j]),
                "share": float(e.shares[j]),
                "similarity": float(e.similarities[j]),
                "squared_distance": float(e.min_distances[j]),
                "cell": e.cells[j].tolist(),
                "box": e.boxes[j].tolist(),
                "source_image": sources.loc[j, "image_id"],
                "source_box": [int(v) for v in sources.loc[j, ["x0", "y0", "x1", "y1"]]],
            }
            for j in e.top(count)
        ],
    }
    if folds is not None:
        predictions = [other.prediction for other in folds.explanations]
        content["folds"] = {"prediction": folds.prediction, "spread": folds.spread, "predictions": predictions}
    picture = folder / f"explanation_{_NO_FILE_NAME.sub(lambda found: quote(found[0], safe=''), name)}.png"
    files.write_json(picture.with_suffix(".json"), content)
    title = f"Why {e.prediction:.2f}? {name}"
    return save(explanation(run, e, title=title, folds=folds), picture), picture.with_suffix(".json")


def _in_words(e: Explanation, folds: FoldsExplanation | None) -> str:
    lines = [
        "The prediction is the mean of the labels of all",
        "prototypes, weighted by their contributions.",
        f"Spread of these labels: {e.uncertainty:.2f} (standard deviation)",
    ]
    if folds is not None and len(folds.explanations) > 1:
        count = len(folds.explanations)
        lines.append(f"Mean of {count} folds: {folds.prediction:.2f} (their spread: {folds.spread:.2f})")
    return "\n".join(lines)


def _contributions(axes, e: Explanation, top: np.ndarray) -> None:
    labels = e.prototype_labels
    width = 0.8 * (labels[1] - labels[0])
    colours = colormaps[LABEL_COLOURS]((labels - labels.min()) / np.ptp(labels))
    edges = ["black" if j in top else "0.6" for j in range(len(labels))]  # pale colours end somewhere
    axes.bar(labels, 100 * e.shares, width, color=colours, edgecolor=edges)
    axes.axvline(e.prediction, color="black", label=f"prediction {e.prediction:.2f} = weighted mean of the labels")
    if e.target is not None:
        axes.axvline(e.target, color="tab:green", linestyle="--", label=f"label {e.target:g}")
    share = 100 * e.shares[top].sum()
    axes.set(xlabel="label of the prototype", ylabel="contribution (%)")
    axes.set_title(
        f"all {len(labels)} prototypes; the {len(top)} above (outlined) make {share:.0f} % of the prediction"
    )
    axes.legend(frameon=False, fontsize=9)


def latent_space(run: LoadedRun) -> Figure:
    """Plot the PCA of prototypes (circles), before and after projection, and of test patches nearest to one (stars)."""
    space = LatentMap.of(run)
    labels = run.labels
    colours = {"cmap": LABEL_COLOURS, "vmin": labels.min(), "vmax": labels.max()}
    figure, panels = plt.subplots(1, 2, figsize=(12, 5), sharex=True, sharey=True, layout="constrained")
    for axes, points, name in ((panels[0], space.before, "before"), (panels[1], space.prototypes, "after")):
        axes.scatter(*space.patches.T, c=space.targets, marker="*", s=22, alpha=0.35, linewidths=0, **colours)
        shown = axes.scatter(*points.T, c=labels, s=60, edgecolors="black", linewidths=0.8, **colours)
        axes.set(title=f"{name} the projection", xlabel=f"PC 1 ({space.variance[0]:.0%} of variance)")
    panels[0].set_ylabel(f"PC 2 ({space.variance[1]:.0%})")
    figure.colorbar(shown, ax=panels, label="label of the prototype, or grade of the test image")
    figure.suptitle("Latent space: prototypes (circles) and the five patches of each test image nearest to one (stars)")
    return figure
