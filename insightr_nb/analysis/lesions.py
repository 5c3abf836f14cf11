"""Agreement of explanation maps with lesion masks, of a trained network and of the same with a random backbone."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from captum.attr import LayerGradCam
from tqdm.auto import tqdm

from insightr_nb.analysis import places, sanity, tracing
from insightr_nb.analysis.geometry import Grid
from insightr_nb.analysis.loaded_run import LoadedRun
from insightr_nb.data import splits
from insightr_nb.data.graham import GROUND
from insightr_nb.data.masks import lesion_masks, masked
from insightr_nb.errors import DataError
from insightr_nb.model.network import INSightRNet, Regressor, ResNetRegressor
from insightr_nb.model.receptive_field import receptive_field

CELLS, TRACED, WHOLE = "INSightR-Net, top 1", "INSightR-Net, top 1, traced", "INSightR-Net, prediction, traced"
GRAD_CAM, BASELINE = "Grad-CAM of the baseline", "baseline, prediction, traced"
CONTRAST, NOISE = "contrast of the image", "random map"
CONTROLS = (CONTRAST, NOISE)


def maps_of_prototypes(network: INSightRNet, image: np.ndarray, whole: bool = True) -> dict[str, np.ndarray]:
    """Maps of INSightR-Net for one image.

    Args:
        network: The network.
        image: Prepared image, (size, size, 3) uint8.
        whole: Include the map of the whole prediction.

    Returns:
        The largest contribution over cells (H, W) and traced to pixels (size, size), and the whole prediction, traced.
    """
    with torch.no_grad():
        output = network(network.inputs(torch.tensor(image[None])))
    top = int(output.weights[0].argmax())
    cells = network.prototype_layer.similarity(output.distances[0, top]).cpu().numpy()
    found = {CELLS: cells, TRACED: tracing.match(network, image, top)}
    return found | ({WHOLE: tracing.prediction(network, image)} if whole else {})


def maps_of_baseline(network: ResNetRegressor, image: np.ndarray) -> dict[str, np.ndarray]:
    """Maps of the baseline for one image (size, size, 3): Grad-CAM over cells (h, w), and its prediction, traced."""
    layer = LayerGradCam(lambda x: network(x), network.backbone)
    inputs = network.inputs(torch.tensor(image[None]))
    cam = layer.attribute(inputs, relu_attributions=True).detach().cpu().numpy()[0, 0]
    return {GRAD_CAM: cam, BASELINE: tracing.prediction(network, image)}


def lesion_report(
    run: LoadedRun,
    baseline: ResNetRegressor | None = None,
    folder: str | None = None,
    limit: int | None = None,
    whole: bool = True,
) -> pd.DataFrame:
    """Agreement of maps with lesions: one row per image with lesions, method, network and kind of lesion.

    Methods are the maps of INSightR-Net and of the baseline, and two controls: image contrast, which needs no network,
    and a random map. Each of the networks' maps is also that of three networks with a random backbone (`sanity`), whose
    values are averaged.

    Args:
        run: A run with prototypes.
        baseline: Network of the baseline; None omits its methods.
        folder: Folder of masks. Test images without masks are excluded.
        limit: Maximum number of test images with masks, evenly spaced over the table.
        whole: Include the trace of INSightR-Net's whole prediction.

    Returns:
        Columns method, network ("trained" or "random"; "trained" for controls), image_id, patient_id, target, lesion
        ("any" for all kinds together), and:
        - pointing, chance, ceiling: the pointing game on the method's own grid (`places`);
        - pooled, pooled_chance: the same over the boxes of INSightR-Net's cells;
        - mass, area: the shares of the map and of the disc that are on lesions. mass is NaN for a map of zeros.

    Raises:
        DataError: If no test image has masks, or none has a lesion.
    """
    table, size = run.predictions, run.grid.size
    chosen = np.flatnonzero(table["image_id"].isin(masked(run.store, table["image_id"], folder)))
    if limit is not None:
        chosen = chosen[splits.evenly_spaced(len(chosen), limit)]
    images = sanity.training_images(run)
    ours = {"trained": [run.network], "random": sanity.random_backbones(run.network, images)}
    plain = {"trained": [baseline], "random": sanity.random_backbones(baseline, images)} if baseline else {}
    pixels = Grid(size, size, 1, 0.0, 1)
    grids = {CELLS: run.grid, NOISE: run.grid} | ({GRAD_CAM: feature_grid(baseline, size)} if baseline else {})

    def maps(n: int, image: np.ndarray) -> Iterator[tuple[str, str, list[np.ndarray]]]:
        for kind in ours:
            of = [maps_of_prototypes(network, image, whole) for network in ours[kind]]
            of_baseline = [maps_of_baseline(network, image) for network in plain.get(kind, ())]
            for several in (of, of_baseline):
                yield from ((method, kind, [one[method] for one in several]) for method in (several or [{}])[0])
        yield CONTRAST, "trained", [tracing.contrast(image)]
        yield NOISE, "trained", [np.random.default_rng([7, n]).random((run.grid.cells, run.grid.cells))]

    rows = []
    for n in tqdm(chosen, desc="lesions", leave=False, mininterval=1):
        about = {"image_id": table["image_id"][n], "patient_id": run.patients[n], "target": table["target"][n]}
        masks = lesion_masks(run.store, about["image_id"], folder)
        kinds = {"any": np.any(list(masks.values()), axis=0)} | masks
        kinds = {kind: lesion for kind, lesion in kinds.items() if lesion.any()}
        if not kinds:
            continue
        image = run.store.image(run.store.row(about["image_id"]))
        for method, network, several in maps(n, image):
            measured = measure(several, grids.get(method, pixels), run.grid, kinds, disc_of(image))
            rows += [{"method": method, "network": network} | about | row for row in measured]
    if not rows:
        raise DataError("no test image has a lesion in its masks, so agreement with lesions is undefined")
    return pd.DataFrame(rows)


def measure(
    maps: list[np.ndarray], grid: Grid, shared: Grid, kinds: dict[str, np.ndarray], disc: np.ndarray
) -> list[dict[str, str | float]]:
    """Measure the agreement of the maps of one method with each kind of lesion in one image.

    Args:
        maps: Non-negative maps (H, W), whose values are averaged.
        grid: Their grid.
        shared: Grid over which maps are pooled.
        kinds: {kind of lesion: (size, size) bool}.
        disc: (size, size) bool.

    Returns:
        A row per kind: lesion, and the measures of `lesion_report`.
    """
    centres = grid.centre(np.arange(grid.cells))
    heats = [grid.upsample(values) if grid.cells < grid.size else values for values in maps]
    rows = []
    for kind, lesion in kinds.items():
        dense = places.dense_boxes(lesion, disc, shared)
        rows.append(
            {
                "lesion": kind,
                "pointing": np.mean([places.pointing(values, centres, lesion) for values in maps]),
                "chance": places.chance(centres, lesion, disc),
                "ceiling": places.ceiling(centres, lesion),
                "pooled": np.mean([places.pooled_pointing(heat, dense, shared) for heat in heats]),
                "pooled_chance": np.nanmean(dense),
                "mass": np.mean([places.mass_share(heat, lesion & disc) for heat in heats]),
                "area": lesion[disc].mean(),
            }
        )
    return rows


def feature_grid(network: Regressor, size: int) -> Grid:
    """Grid of the last feature map of a network's backbone, for images of `size` pixels a side."""
    stride, offset, field = receptive_field(network.backbone)
    with torch.no_grad():
        cells = network.backbone(network.inputs(torch.zeros(1, size, size, 3, dtype=torch.uint8))).shape[-1]
    return Grid(size, cells, stride, offset, field)


def disc_of(image: np.ndarray) -> np.ndarray:
    """Disc of a prepared image (size, size, 3), all that is not background: (size, size) bool."""
    return (image != GROUND).any(axis=2)


def source_report(run: LoadedRun, folder: str | None = None, limit: int | None = None) -> pd.DataFrame:
    """Agreement of each prototype with the lesions of its source image, where that has masks and a lesion.

    Also that of the same prototypes in networks with a random backbone (`sanity`), whose values are averaged: their
    nearest patch of the source image is then another one.

    Args:
        run: A run with prototypes.
        folder: Folder of masks.
        limit: Maximum number of prototypes whose source images have masks, evenly spaced over their labels.

    Returns:
        One row per prototype and network ("trained" or "random"). Columns prototype, network, label, patient_id (of the
        source image); pointing (whether the centre of the nearest cell is on a lesion), chance, mass and area as in
        `lesion_report`; and box, the share of the box of the nearest cell that lesions cover.
    """
    table, grid = run.prototypes.assign(patient_id=run.store.patients(run.prototypes["image_id"])), run.grid
    centres = grid.centre(np.arange(grid.cells))
    networks = {"trained": [run.network], "random": sanity.random_backbones(run.network, sanity.training_images(run))}
    table = table[table["image_id"].isin(masked(run.store, table["image_id"], folder))]
    if limit is not None:
        table = table.iloc[splits.evenly_spaced(len(table), limit)]
    rows = []
    for p in tqdm(table.itertuples(), total=len(table), desc="prototypes", leave=False, mininterval=1):
        lesion = np.any(list(lesion_masks(run.store, p.image_id, folder).values()), axis=0)
        if not lesion.any():
            continue
        image = run.store.image(run.store.row(p.image_id))
        disc = disc_of(image)
        for network, several in networks.items():
            maps = [similarity_maps(each, image)[p.prototype] for each in several]
            rows.append(
                {
                    "prototype": p.prototype,
                    "network": network,
                    "label": p.label,
                    "patient_id": p.patient_id,
                    "pointing": np.mean([places.pointing(values, centres, lesion) for values in maps]),
                    "chance": places.chance(centres, lesion, disc),
                    "mass": np.mean([places.mass_share(grid.upsample(values), lesion & disc) for values in maps]),
                    "area": lesion[disc].mean(),
                    "box": np.mean([share_of_box(values, lesion, grid) for values in maps]),
                }
            )
    columns = ["prototype", "network", "label", "patient_id", "pointing", "chance", "mass", "area", "box"]
    return pd.DataFrame(rows, columns=columns)


def share_of_box(values: np.ndarray, lesion: np.ndarray, grid: Grid) -> float:
    """Share of the box of the cell with the largest value that lesions cover.

    values: (H, W) map over the cells of `grid`. lesion: (size, size) bool.
    """
    row, col = np.unravel_index(values.argmax(), values.shape)
    x0, y0, x1, y1 = grid.box(row, col)
    return float(lesion[y0:y1, x0:x1].mean())


@torch.no_grad()
def similarity_maps(network: INSightRNet, image: np.ndarray) -> np.ndarray:
    """Similarities of the patches of one image (size, size, 3) uint8 to each prototype: (m, H, W)."""
    output = network(network.inputs(torch.tensor(image[None])))
    return network.prototype_layer.similarity(output.distances[0]).cpu().numpy()
