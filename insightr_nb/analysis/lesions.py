"""Agreement of explanation maps with lesion masks, (size, size) bool."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from captum.attr import LayerGradCam

from insightr_nb.analysis import tracing
from insightr_nb.analysis.geometry import Grid
from insightr_nb.analysis.loaded_run import LoadedRun
from insightr_nb.analysis.metrics import interval, top_prototypes
from insightr_nb.data import splits
from insightr_nb.data.graham import GROUND
from insightr_nb.data.masks import lesion_masks, masked
from insightr_nb.errors import DataError
from insightr_nb.model.network import ResNetRegressor
from insightr_nb.model.receptive_field import receptive_field


def pointing(values: np.ndarray, centres: np.ndarray, lesion: np.ndarray) -> float:
    """Pointing game without tolerance: 1 if the centre of the cell with the largest value lies on a lesion, else 0.

    If several cells share the maximum, the result is the share of them that hit. After Zhang et al., "Top-down neural
    attention by excitation backprop", 2018, without their tolerance of 15 px.

    Args:
        values: (H, W) map over cells.
        centres: (H,) pixel coordinates of the cells along either axis.
        lesion: (size, size) bool.

    Returns:
        Value from 0 to 1.
    """
    hits = at_centres(centres, lesion)
    return float(hits[values == values.max()].mean())


def at_centres(centres: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """Sample a (size, size) picture at the cell centres: (H, W). A centre outside takes the nearest pixel."""
    nearest = np.clip(np.rint(centres).astype(int), 0, len(picture) - 1)
    return picture[nearest[:, None], nearest]


def mass_ratio(heat: np.ndarray, lesion: np.ndarray, disc: np.ndarray) -> float:
    """Share of the activation mass on lesions, divided by the lesions' share of the disc; 1 is chance.

    Args:
        heat: (size, size), non-negative.
        lesion: (size, size) bool.
        disc: (size, size) bool.

    Returns:
        The ratio; NaN without a lesion or without activation.
    """
    area = lesion[disc].mean()
    total = heat[disc].sum(dtype=float)
    if not area or not total:
        return float("nan")
    return float(heat[lesion & disc].sum(dtype=float) / total / area)


@dataclass(frozen=True)
class Method:
    """A method that maps each image: values (n, H, W) over cells, non-negative, and the grid of those cells."""

    name: str
    maps: Callable[[int], np.ndarray]  # row of predictions.csv -> (n, H, W)
    grid: Grid


def methods(run: LoadedRun, baseline: ResNetRegressor | None, top: int = 3) -> list[Method]:
    """Methods to compare: INSightR-Net's largest contributions, the baseline, and two controls.

    INSightR-Net's largest contribution is used over cells and traced to pixels, and its `top` largest over cells. The
    baseline is explained by Grad-CAM and by a trace of its prediction to pixels. The controls are image contrast, which
    is what `tracing.trace` would show for an uninformative network, and a random map.

    Args:
        run: A run with prototypes.
        baseline: Network of the baseline; None omits its methods.
        top: Number of largest contributions.
    """
    weights, distances = run.weights, run.distances
    ordered = top_prototypes(weights, top)
    ids = run.predictions["image_id"]

    def similar(n: int, count: int) -> np.ndarray:
        return run.similarity(distances[n, ordered[n, :count]])

    def image(n: int) -> np.ndarray:
        return run.store.image(run.store.row(ids[n]))

    def noise(n: int) -> np.ndarray:
        return np.random.default_rng([7, n]).random((1, run.grid.cells, run.grid.cells))

    size = run.grid.size
    pixels = Grid(size, size, 1, 0.0, 1)
    found = [
        Method("INSightR-Net, top 1", lambda n: similar(n, 1), run.grid),
        Method("INSightR-Net, top 1, traced", lambda n: tracing.match(run, image(n), ordered[n, 0])[None], pixels),
        Method(f"INSightR-Net, top {top}", lambda n: similar(n, top), run.grid),
        Method("contrast of the image", lambda n: tracing.contrast(image(n))[None], pixels),
        Method("random map", noise, run.grid),
    ]
    if baseline is not None:
        stride, offset, field = receptive_field(baseline.backbone)
        layer = LayerGradCam(lambda x: baseline(x), baseline.backbone)

        def grad_cam(n: int) -> np.ndarray:
            inputs = baseline.inputs(torch.from_numpy(image(n))[None])
            return layer.attribute(inputs, relu_attributions=True).detach().cpu().numpy()[0]  # (1, h, w)

        def traced(n: int) -> np.ndarray:
            return tracing.trace(baseline, image(n), torch.sum)[None]

        with torch.no_grad():
            blank = torch.zeros(1, size, size, 3, dtype=torch.uint8)
            cells = baseline.backbone(baseline.inputs(blank)).shape[-1]
        found[3:3] = [
            Method("Grad-CAM of the baseline", grad_cam, Grid(size, cells, stride, offset, field)),
            Method("baseline, traced", traced, pixels),
        ]
    return found


def lesion_report(
    run: LoadedRun, baseline: ResNetRegressor | None = None, folder: str | None = None, limit: int | None = None
) -> pd.DataFrame:
    """`report_of` for all `methods`.

    Args:
        run: A run with prototypes.
        baseline: Network of the baseline; None omits its methods.
        folder: Folder of masks, as in `report_of`.
        limit: Maximum number of images, as in `report_of`.
    """
    return report_of(run, methods(run, baseline), folder, limit)


def report_of(run: LoadedRun, every: list[Method], folder: str | None = None, limit: int | None = None) -> pd.DataFrame:
    """Agreement of maps with lesions: one row per image with lesions, method and kind of lesion ("any" for all).

    Args:
        run: A run with prototypes.
        every: Methods to compare.
        folder: Folder of masks. Test images without masks are excluded.
        limit: Maximum number of test images with masks, evenly spaced over the table.

    Returns:
        Columns method, image_id, target, lesion, pointing, mass_ratio and chance, the share of the cells inside the
        disc whose centre is on a lesion, which is the expected hit rate of a random cell.

    Raises:
        DataError: If no test image has masks, or none has a lesion.
    """
    table = run.predictions
    chosen = np.flatnonzero(table["image_id"].isin(masked(run.store, table["image_id"], folder)))
    if limit is not None:
        chosen = chosen[splits.evenly_spaced(len(chosen), limit)]
    rows = []
    for n in np.unique(chosen):
        image_id, target = table["image_id"][n], table["target"][n]
        masks = lesion_masks(run.store, image_id, folder)
        disc = (run.store.image(run.store.row(image_id)) != GROUND).any(axis=2)
        kinds = {"any": np.any(list(masks.values()), axis=0)} | masks
        for method in every:
            maps = method.maps(n)
            centres = method.grid.centre(np.arange(method.grid.cells))
            within = at_centres(centres, disc)
            heats = [method.grid.upsample(m) for m in maps]
            for kind, lesion in kinds.items():
                if not lesion.any():
                    continue
                rows.append(
                    {
                        "method": method.name,
                        "image_id": image_id,
                        "target": target,
                        "lesion": kind,
                        "pointing": np.mean([pointing(m, centres, lesion) for m in maps]),
                        "mass_ratio": np.mean([mass_ratio(h, lesion, disc) for h in heats]),
                        "chance": at_centres(centres, lesion)[within].mean() if within.any() else np.nan,
                    }
                )
    if not rows:
        raise DataError("no test image has a lesion in its masks, so agreement with lesions is undefined")
    return pd.DataFrame(rows)


def lesion_table(report: pd.DataFrame, mild: float = 2.0) -> pd.DataFrame:
    """Summarise a `lesion_report` by means with 95 % intervals: one row per method and chance, for all and mild images.

    mild: largest label of a mild image. Only images with at least one lesion count; chance is low in mild ones.
    """
    rows = {}
    for group, part in (("all", report), (f"mild (label up to {mild:g})", report[report["target"] <= mild])):
        part = part[part["lesion"] == "any"]
        for name, own in part.groupby("method", sort=False):
            for measure in ("pointing", "mass_ratio"):
                rows.setdefault((group, name), {})[measure] = interval(own[measure])
            rows[group, name]["images"] = len(own)
        own = part[part["method"] == part["method"].iloc[0]] if len(part) else part
        if len(own):
            rows[group, "chance"] = {
                "pointing": interval(own["chance"]),
                "mass_ratio": (1.0, 1.0, 1.0),
                "images": len(own),
            }
    flat = {
        key: {"images": row["images"]}
        | {
            f"{m}{end}": v
            for m in ("pointing", "mass_ratio")
            for end, v in zip(("", " low", " high"), row[m], strict=True)
        }
        for key, row in rows.items()
    }
    return pd.DataFrame(flat).T.astype({"images": int})


def source_report(run: LoadedRun, folder: str | None = None) -> pd.DataFrame:
    """Agreement of prototypes with lesions on those of their source images that have masks.

    Columns: prototype, label, pointing (whether the centre of its cell is on a lesion), chance, mass_ratio of its map,
    and the shares of lesions in its box and in the disc. pointing, chance and mass_ratio are NaN if the source image
    has no lesion.
    """
    rows, maps = [], run.similarity(run.prototype_maps)  # (m, H, W)
    table = run.prototypes
    centres = run.grid.centre(np.arange(run.grid.cells))
    for p in table[table["image_id"].isin(masked(run.store, table["image_id"], folder))].itertuples():
        lesion = np.any(list(lesion_masks(run.store, p.image_id, folder).values()), axis=0)
        disc = (run.store.image(run.store.row(p.image_id)) != GROUND).any(axis=2)
        hits, within = at_centres(centres, lesion), at_centres(centres, disc)
        some = bool(lesion.any())
        rows.append(
            {
                "prototype": p.prototype,
                "label": p.label,
                "pointing": float(hits[p.row, p.col]) if some else np.nan,
                "chance": hits[within].mean() if some and within.any() else np.nan,
                "mass_ratio": mass_ratio(run.grid.upsample(maps[p.prototype]), lesion, disc),
                "lesions in its box": lesion[p.y0 : p.y1, p.x0 : p.x1].mean(),
                "lesions in the disc": lesion[disc].mean(),
            }
        )
    return pd.DataFrame(rows)


def by_kind(report: pd.DataFrame) -> pd.DataFrame:
    """Summarise a `lesion_report` by kind of lesion and method: number of images, and means with 95 % intervals."""
    rows = {}
    for key, own in report[report["lesion"] != "any"].groupby(["lesion", "method"], sort=False):
        measures = {m: interval(own[m]) for m in ("pointing", "mass_ratio")}
        rows[key] = {"images": len(own), "chance": own["chance"].mean()} | {
            f"{m}{end}": v for m, found in measures.items() for end, v in zip(("", " low", " high"), found, strict=True)
        }
    return pd.DataFrame(rows).T.astype({"images": int}).rename_axis(["lesion", "method"])
