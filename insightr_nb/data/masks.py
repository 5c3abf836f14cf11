"""Lesion masks in the geometry of the prepared images, from the synthetic data or from a user's folder."""

import dataclasses
import glob
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from insightr_nb.data import graham, synthetic
from insightr_nb.data.disc import find_disc, published_disc
from insightr_nb.data.images import read_image
from insightr_nb.data.photograph import fundus, render_size
from insightr_nb.data.store import Store
from insightr_nb.errors import DataError
from insightr_nb.files import given_path


def has_masks(store: Store, folder: str | Path | None) -> bool:
    """Return whether lesion masks are available: a folder is given, or the data are synthetic."""
    return folder is not None or store.settings.dataset == "synthetic"


def has_masks_of(store: Store, image_id: str, folder: str | Path | None) -> bool:
    """Return whether `lesion_masks` of an image are available: it is synthetic, or the folder has a file of it."""
    drawn = store.table["source"].iloc[store.row(image_id)].startswith("synthetic:")
    return drawn or (folder is not None and bool(_paths(store, given_path(folder), image_id)))


def masked(store: Store, image_ids: Iterable[str], folder: str | Path | None = None) -> list[str]:
    """Select the images that have masks.

    Args:
        store: The prepared store.
        image_ids: Images to choose from.
        folder: Folder of the masks; None for synthetic data, where every image has masks.

    Returns:
        The ids of the images with masks, without repetitions.

    Raises:
        DataError: If no image has a mask.
    """
    image_ids = list(dict.fromkeys(image_ids))
    selected = image_ids if folder is None else [i for i in image_ids if _paths(store, given_path(folder), i)]
    if not selected:
        raise DataError(
            f"{folder}: no mask <image_id>_<lesion>.png for any of {len(image_ids)} images; their ids look like "
            f"{image_ids[0]!r}"
        )
    return selected


def lesion_masks(
    store: Store, image_id: str, folder: str | Path | None = None, size: int | None = None
) -> dict[str, np.ndarray]:
    """Return all lesion masks of an image, in the pixels of the prepared image.

    Args:
        store: The prepared store.
        image_id: The image.
        folder: Folder of the files `<image_id>_<lesion>.png`, in the pixels of the original photograph; not needed
            for synthetic images.
        size: Side of the masks in pixels, for a picture of another size than the store's, such as `display.SIZE`.

    Returns:
        {lesion: (size, size) bool}.

    Raises:
        DataError: If the data set or the image has no masks, or a mask's aspect ratio is not the photograph's.
    """
    settings, source = store.settings, store.table["source"].iloc[store.row(image_id)]
    settings = dataclasses.replace(settings, size=size or settings.size)
    if not has_masks(store, folder):
        raise DataError(f"{settings.store_name} has no lesion masks; pass a folder of <image_id>_<lesion>.png")
    if source.startswith("synthetic:"):
        seed, index = source.removeprefix("synthetic:").split("/")
        drawn = synthetic.photograph(int(index), int(seed), render_size(settings.size))
        image, masks = drawn.image, drawn.masks
    else:
        image, masks = None, _read(store, given_path(folder), image_id)
    if settings.preparation == "resize":
        return {name: graham.resize(mask.astype(np.float32), settings.size, 0) >= 0.5 for name, mask in masks.items()}
    place = graham.place
    if settings.centre == "image":
        image = read_image(source) if image is None else image  # at full size, as it was prepared
        disc, place = published_disc(image), graham.published_place
    elif image is None:
        image, disc = fundus(source, graham.FUNDUS_RADIUS * settings.size / settings.recipe_size)
    else:
        disc = find_disc(image)
    placed = {}
    for name, mask in masks.items():
        factor = mask.shape[0] / image.shape[0]  # the photograph may be decoded at reduced size
        if abs(mask.shape[1] / image.shape[1] / factor - 1) > 0.01:
            raise DataError(
                f"{folder}: the mask {image_id}_{name}.png is {mask.shape[1]} x {mask.shape[0]} px, not of the aspect "
                f"ratio of its photograph {source}"
            )
        placed[name] = place(mask, disc.scaled(factor), settings.size, settings.recipe_size)
    return placed


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """Trace a mask along the edges of its pixels, for drawing.

    Args:
        mask: (H, W) bool; pixel (row, column) covers x from column to column + 1 and y from row to row + 1.

    Returns:
        Closed polygons (k, 2) x, y in pixels: the outer boundary of each region and of each hole. Where a boundary
        bends inwards, the polygon may cut the corner by half a pixel. Regions that touch at a corner are one.
    """
    height, width = mask.shape
    nodes = np.zeros((2 * height + 1, 2 * width + 1), np.uint8)  # in steps of half a pixel
    nodes[1::2, 1::2] = mask
    nodes = cv2.dilate(nodes, np.ones((3, 3), np.uint8))  # up to and including the edges of the pixels
    contours, _ = cv2.findContours(nodes, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    return [contour[:, 0] / 2 for contour in contours]


def _paths(store: Store, folder: Path, image_id: str) -> dict[str, Path]:
    """Return {lesion: file} of an image, excluding files of other images whose id starts with `<image_id>_`."""
    ids = store.table["image_id"]
    longer = [f"{Path(i).name}_" for i in ids[ids.str.startswith(f"{image_id}_")]]
    paths = (folder / image_id).parent.glob(f"{glob.escape(Path(image_id).name)}_*.png")
    paths = [p for p in sorted(paths) if not p.name.startswith(tuple(longer))]
    return {p.stem.removeprefix(f"{Path(image_id).name}_"): p for p in paths}


def _read(store: Store, folder: Path, image_id: str) -> dict[str, np.ndarray]:
    paths = _paths(store, folder, image_id)
    if not paths:
        raise DataError(f"{folder}: no mask {image_id}_<lesion>.png; for an image without lesions, save an empty mask")
    return {lesion: read_image(path).any(axis=2) for lesion, path in paths.items()}
