"""Figures of explanations and prototypes: notebooks 04, 07 and 08. Labels are in the user's units."""

import os
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from insightr_nb import files
from insightr_nb.analysis.explanation import DISCLAIMER, Explanation, FoldsExplanation
from insightr_nb.analysis.figures import LABEL_COLOURS, draw_box, picture, save
from insightr_nb.analysis.latent import LatentMap
from insightr_nb.analysis.loaded_run import LoadedRun, load_run
from insightr_nb.data.graham import GROUND
from insightr_nb.files import given_path
from insightr_nb.runs import Run

HEAT = "inferno"
_HEAT_COLOURS = (colormaps[HEAT](np.arange(256))[:, :3] * 255).astype(np.uint8)  # (256, 3)
_NO_FILE_NAME = re.compile(r'[/\\:*?"<>|%\x00-\x1f]')  # characters not allowed in file names on some system
_LONGEST = 200  # bytes of an image's name in a file name


def overlay(image: np.ndarray, heat: np.ndarray, opacity: float = 0.6) -> np.ndarray:
    """Blend a heat map over a picture; the picture is unchanged where the map is 0.

    Args:
        image: (H, W, 3) uint8.
        heat: (H, W) from 0 to 1.
        opacity: Opacity where the map is 1.

    Returns:
        (H, W, 3) uint8.
    """
    heat = np.clip(heat, 0, 1).astype(np.float32)
    share = (opacity * heat)[..., None]
    return (image * (1 - share) + _HEAT_COLOURS[(heat * 255).astype(np.uint8)] * share).astype(np.uint8)


def heat_scale(similarities: np.ndarray) -> Normalize:
    """Common scale for all maps of a figure: the similarity that enters the prediction, from 0 to the largest.

    A weak match stays dark. The cell of a prototype in its own source has the largest possible similarity, 1 / epsilon
    for Eq. 1: leave the sources out and let them saturate, or the maps of other images are dark throughout.

    Args:
        similarities: Similarities over the cells of the explained image, of any shape.
    """
    return Normalize(0.0, float(similarities.max()))


def heat(run: LoadedRun, similarities: np.ndarray, scale: Normalize) -> np.ndarray:
    """Convert similarities of the cells to a heat map at display size.

    Args:
        run: The run.
        similarities: (H, W).
        scale: Result of `heat_scale`.

    Returns:
        (S, S) from 0 to 1.
    """
    return run.display_grid.upsample(np.clip(scale(similarities), 0, 1))


def prototype_gallery(run: LoadedRun, columns: int = 10) -> Figure:
    """Plot the prototypes by label: the source patch (box) centred in a window of three cells' width."""
    table = run.prototypes.sort_values("label")
    rows = int(np.ceil(len(table) / columns))
    figure, axes = plt.subplots(rows, columns, figsize=(1.4 * columns, 1.9 * rows), squeeze=False, layout="constrained")
    reach = int(1.5 * run.display_grid.stride)
    for place, (_, p), image in zip(axes.flat, table.iterrows(), run.display_images(table["image_id"]), strict=False):
        row = run.store.row(p["image_id"])
        image = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), constant_values=GROUND)
        x0, y0, x1, y1 = run.display_box(p[["x0", "y0", "x1", "y1"]])
        x, y = (x0 + x1) // 2, (y0 + y1) // 2  # centre of the box and the window
        title = f"#{p['prototype']} label {p['label']:.1f}\nimage of {run.store.table['label'][row]:g}"
        picture(place, image[y : y + 2 * reach, x : x + 2 * reach], title)
        draw_box(place, np.array([x0, y0, x1, y1]) + np.array([reach - x, reach - y] * 2))
    for place in axes.flat[len(table) :]:
        place.axis("off")
    figure.suptitle("Learned prototypes: patches of training images (box) and their surroundings, by label")
    return figure


def explanation(
    run: LoadedRun, e: Explanation, count: int = 3, title: str = "", folds: FoldsExplanation | None = None
) -> Figure:
    """Fig. 2 of the paper: an image, its top prototypes with activation maps on both, and all contributions.

    Args:
        run: The run that made the explanation.
        e: The explanation.
        count: Number of prototypes with maps, at least 3.
        title: Title of the figure.
        folds: Explanations of the same image by several runs; adds their mean and spread.
    """
    top = e.top(count)
    maps = run.similarity(e.maps[top])  # (count, H, W)
    sources = run.similarity(run.prototype_maps[top])
    scale = heat_scale(maps)
    figure = plt.figure(figsize=(12.5, 2.7 * count + 3.4), layout="constrained")
    grid = figure.add_gridspec(count + 1, 4, height_ratios=[2.7] * count + [3.0], width_ratios=[1.8, 1, 1, 0.95])
    target = "" if e.target is None else f"\nlabel {e.target:g}"
    axes = figure.add_subplot(grid[:count, 0])
    picture(axes, e.picture, f"prediction {e.prediction:.2f}{target}")
    colours = plt.cm.ScalarMappable(scale, HEAT)
    axes.set_anchor("N")
    words = axes.text(0, -0.05, _in_words(e, folds), va="top", fontsize=11, linespacing=1.6, transform=axes.transAxes)
    bar = axes.inset_axes((0.05, -0.42, 0.9, 0.03))
    label = "similarity, one scale for all maps; a prototype's own patch exceeds it"
    figure.colorbar(colours, cax=bar, orientation="horizontal", extend="max", label=label)
    words.set_in_layout(False)
    bar.set_in_layout(False)
    for r, j in enumerate(top):
        p = e.prototype_sources.iloc[j]
        axes = figure.add_subplot(grid[r, 1])
        picture(axes, overlay(e.picture, heat(run, maps[r], scale)), "where the image looks like it" if r == 0 else "")
        draw_box(axes, run.display_box(e.boxes[j]))
        axes = figure.add_subplot(grid[r, 2])
        source = run.display_image(p["image_id"])
        picture(
            axes,
            overlay(source, heat(run, sources[r], scale)),
            f"prototype {j} in its source" if r == 0 else f"prototype {j}",
        )
        draw_box(axes, run.display_box(p[["x0", "y0", "x1", "y1"]]))
        axes = figure.add_subplot(grid[r, 3])
        axes.axis("off")
        lines = [
            f"prototype {j}, label {p['label']:.2f}",
            f"source {p['image_id']}",
            f"squared distance {e.min_distances[j]:.3f}",
            f"similarity {e.similarities[j]:.0f}",
            f"contribution {100 * e.shares[j]:.1f} %",
        ]
        axes.text(
            0,
            0.5,
            "\n".join(lines),
            va="center",
            fontsize=10,
            transform=axes.transAxes,
            linespacing=1.5,
            parse_math=False,
        )
    axes = figure.add_subplot(grid[count, :])
    contributions(axes, e, top)
    figure.suptitle(
        "\n".join([title, *(textwrap.fill(text, 120) for text in e.warnings)]),
        color="#a00000" if e.warnings else "black",
        parse_math=False,
    )
    return figure


def write_explanation(
    run: LoadedRun | Run | str | Path,
    e: Explanation,
    folder: str | Path,
    count: int = 5,
    folds: FoldsExplanation | None = None,
) -> tuple[Path, Path]:
    """Write an explanation to `explanation_<name>.png` and `.json`; numbers are in the labels' units and in pixels.

    The name is that of the explained image. Characters not allowed in file names are percent-encoded: "left/020"
    becomes left%2F020.

    Args:
        run: The run that made the explanation: result of `load_run`, a `Run`, or the path of its folder.
        e: The explanation.
        folder: Target folder; made if it is missing.
        count: Number of top prototypes in the JSON file.
        folds: Explanations of the same image by several runs; adds mean and spread of their predictions.

    Returns:
        Paths of the PNG and the JSON file.
    """
    run = run if isinstance(run, LoadedRun) else load_run(run)
    content = explanation_content(run, e, count)
    if folds is not None:
        predictions = [other.prediction for other in folds.explanations]
        content["folds"] = {"prediction": folds.prediction, "spread": folds.spread, "predictions": predictions}
    path = given_path(folder) / f"explanation_{file_name(e.name)}.png"
    files.write_json(path.with_suffix(".json"), content)
    title = f"Why {e.prediction:.2f}? {e.name}"
    return save(explanation(run, e, title=title, folds=folds), path), path.with_suffix(".json")


def file_name(name: str) -> str:
    """Name of an image as a file name: characters not allowed in file names are percent-encoded.

    A long name is cut and ends with its fingerprint; file systems allow 255 bytes, temporary files included.
    """
    encoded = os.fsencode(_NO_FILE_NAME.sub(lambda found: quote(found[0], safe=""), name))
    if len(encoded) > _LONGEST:
        return f"{encoded[: _LONGEST - 17].decode(errors='ignore')}-{files.fingerprint(encoded)}"
    return os.fsdecode(encoded)


def explanation_content(run: LoadedRun, e: Explanation, count: int = 5) -> dict[str, Any]:
    """Content of the JSON file of an explanation.

    Args:
        run: The run that made the explanation.
        e: The explanation.
        count: Number of top prototypes.
    """
    sources = e.prototype_sources.set_index("prototype")
    return {
        "note": DISCLAIMER,
        "run": files.display_path(run.path),
        "image": e.name,
        "prediction": e.prediction,
        "uncertainty": e.uncertainty,
        "familiarity": e.familiarity,
        "warnings": list(e.warnings),
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


def _in_words(e: Explanation, folds: FoldsExplanation | None) -> str:
    lines = [
        "The prediction is the mean of the labels of all",
        "prototypes, weighted by their contributions.",
        f"Spread of these labels: {e.uncertainty:.2f} (standard deviation)",
    ]
    if e.familiarity is not None:
        lines.append(f"Familiarity: {e.familiarity:.0%} of the validation images are as unusual")
    if folds is not None and len(folds.explanations) > 1:
        count = len(folds.explanations)
        lines.append(f"Mean of {count} folds: {folds.prediction:.2f} (their spread: {folds.spread:.2f})")
    return "\n".join(lines)


def contributions(axes: Axes, e: Explanation, top: Sequence[int]) -> None:
    """Plot all contributions by the labels of their prototypes, those of `top` outlined."""
    labels = e.prototype_labels
    width = 0.8 * np.ptp(labels) / max(len(labels) - 1, 1)
    colours = colormaps[LABEL_COLOURS]((labels - labels.min()) / np.ptp(labels))
    edges = ["black" if j in top else "0.6" for j in range(len(labels))]  # pale colours end somewhere
    axes.bar(labels, 100 * e.shares, width, color=colours, edgecolor=edges)
    axes.axvline(e.prediction, color="black", label=f"prediction {e.prediction:.2f} = weighted mean of the labels")
    if e.target is not None:
        axes.axvline(e.target, color="tab:green", linestyle="--", label=f"label {e.target:g}")
    share = 100 * e.shares[list(top)].sum()
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
        axes.scatter(*space.patches.T, c=space.targets, marker="*", s=30, edgecolors="0.5", linewidths=0.2, **colours)
        shown = axes.scatter(*points.T, c=labels, s=60, edgecolors="black", linewidths=0.8, **colours)
        axes.set(title=f"{name} the projection", xlabel=f"PC 1 ({space.variance[0]:.0%} of variance)")
    panels[0].set_ylabel(f"PC 2 ({space.variance[1]:.0%})")
    figure.colorbar(shown, ax=panels, label="label of the prototype, or grade of the test image")
    figure.suptitle("Latent space: prototypes (circles) and the five patches of each test image nearest to one (stars)")
    return figure
