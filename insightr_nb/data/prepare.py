"""Raw photographs to a prepared store: every image read, normalised and written once, in parallel and in order.

A store is `outputs/data/<dataset>-<size>/` with `images.npy` (uint8, N x size x size x 3, RGB), `table.csv`, one row an
image, `rejected.csv` (image_id, reason) and `meta.json`. Training reads it memory-mapped.
"""

import dataclasses
import hashlib
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from filelock import FileLock
from tqdm.auto import tqdm

from insightr_nb import runs
from insightr_nb.data import catalog, graham, synthetic
from insightr_nb.errors import DataError
from insightr_nb.settings import DataSettings, LabelScale

_BLOCK = 256  # images between two saves of the progress
_RENDER = 1.2  # synthetic photographs are drawn this much larger than the prepared image
_FORMAT = 1  # of the store; a change starts a new one


@dataclass(frozen=True)
class Store:
    """A prepared store, opened for reading; `images` is memory-mapped."""

    path: Path
    images: np.ndarray  # (N, size, size, 3) uint8 RGB
    table: pd.DataFrame  # image_id, patient_id, label, split, source, digest
    meta: dict

    @property
    def scale(self) -> LabelScale:
        return LabelScale(*self.meta["label_range"])

    @property
    def grades(self) -> bool:
        return self.meta["grades"]

    @property
    def fingerprint(self) -> str:
        return self.meta["fingerprint"]

    @property
    def settings(self) -> DataSettings:
        return DataSettings(**self.meta["settings"])

    def row(self, image_id: str) -> int:
        """The row of an image. Raises DataError for an id that the store does not have."""
        rows = np.flatnonzero(self.table["image_id"] == image_id)
        if not len(rows):
            example = self.table["image_id"].iloc[0]
            raise DataError(f"image {image_id!r} is not in {runs.shown(self.path)}; its ids look like {example!r}")
        return int(rows[0])


def store_path(settings: DataSettings) -> Path:
    return runs.outputs_root() / "data" / f"{settings.store_name}-{settings.size}"


def open_store(path: Path) -> Store:
    """Raises DataError that says what is missing or damaged."""
    meta = runs.read_json(path / "meta.json")
    try:
        images = np.load(path / "images.npy", mmap_mode="r")
        texts = dict.fromkeys(("image_id", "patient_id", "source", "digest"), str)  # "NA" and "007" are ids like others
        table = pd.read_csv(path / "table.csv", dtype=texts, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(f"prepared store {runs.shown(path)} is damaged: {error}; delete the folder") from error
    if not len(images) == len(table) == meta["images"]:
        raise DataError(
            f"prepared store {runs.shown(path)} is damaged: {len(images)} images, {len(table)} rows, "
            f"{meta['images']} in meta.json; delete the folder"
        )
    return Store(path, images, table, meta)


def prepare(
    settings: DataSettings, workers: int | None = None, overwrite: bool = False, max_rejected: float = 0.01
) -> Store:
    """The prepared store of the settings: opened if it is there, finished if it was interrupted, else made.

    workers: processes; by default one a core. max_rejected: the share of unusable images above which preparing is an
    error. A setting left None is taken from a store that is there, so a csv data set can be used again by its name.

    Raises DataError if a store of the same name and size was made with other settings, or too many images are unusable.
    """
    path = store_path(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):  # two trainings may start at the same time
        if overwrite:  # a store that is there stays until the new one is whole
            shutil.rmtree(_partial(path), ignore_errors=True)
        elif (path / "meta.json").exists():
            store = open_store(path)
            _check_same(settings, store)
            return store
        _make(path, settings, workers, max_rejected)
    return open_store(path)


def _make(path: Path, settings: DataSettings, workers: int | None, max_rejected: float) -> None:
    settings = dataclasses.replace(settings, preparation=settings.preparation or "graham")
    table = catalog.find(settings)
    recipe = _recipe(settings, table.rows)
    partial = _partial(path)
    progress = _resume(partial, recipe)
    rows = table.rows
    images = _open_images(partial, len(rows), settings.size, new=progress["done"] == 0)
    jobs = list(zip(rows["source"], [settings] * len(rows), strict=True))
    workers = workers or os.cpu_count() or 1
    begin = progress["done"]
    with (
        ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool,
        tqdm(total=len(rows), initial=begin, unit="image", desc="preparing", leave=False, mininterval=1) as bar,
    ):
        for start in range(begin, len(rows), _BLOCK):
            block = jobs[start : start + _BLOCK]
            for offset, result in enumerate(pool.map(_prepare_one, block, chunksize=4)):
                bar.update()
                if isinstance(result, str):
                    progress["rejected"].append({"image_id": rows["image_id"][start + offset], "reason": result})
                    continue
                images[len(progress["kept"])] = result
                progress["digests"].append(hashlib.sha256(result.tobytes()).hexdigest()[:16])
                progress["kept"].append(start + offset)
            images.flush()
            progress["done"] = start + len(block)
            runs.write_json(partial / "progress.json", progress)

    rejected = progress["rejected"]
    if len(rejected) > max_rejected * len(rows):
        listed = "; ".join(f"{r['image_id']}: {r['reason']}" for r in rejected[:5])
        shutil.rmtree(partial)  # so that the next attempt looks at the mended files
        raise DataError(
            f"{len(rejected)} of {len(rows)} images cannot be used, more than {max_rejected:.0%}: {listed}. "
            "Mend or remove them, or raise max_rejected"
        )
    _finish(partial, images, table, progress, settings, recipe)
    shutil.rmtree(path, ignore_errors=True)
    partial.rename(path)


def read_image(path: str | Path) -> np.ndarray:
    """An image file as (H, W, 3) uint8 RGB. Raises DataError that names a file that cannot be decoded."""
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    image = cv2.imdecode(content, cv2.IMREAD_COLOR_RGB) if content.size else None
    if image is None:
        raise DataError(f"{path}: not an image that can be decoded ({content.size} bytes)")
    return image


def photograph(source: str, size: int) -> np.ndarray:
    """The raw photograph of a row's `source`, (H, W, 3) uint8 RGB; synthetic ones are drawn for prepared `size`."""
    if source.startswith("synthetic:"):
        seed, index = source.removeprefix("synthetic:").split("/")
        return synthetic.photograph(int(index), int(seed), round(size * _RENDER)).image
    return read_image(source)


def prepared(image: np.ndarray, settings: DataSettings) -> np.ndarray:
    """A raw photograph as the store holds it, (size, size, 3) uint8 RGB."""
    if settings.preparation == "resize":
        return graham.resize(image, settings.size)
    return graham.normalise(image, settings.size, settings.recipe_size)


def _prepare_one(job: tuple[str, DataSettings]) -> np.ndarray | str:
    """The prepared image, or the reason why there is none."""
    cv2.setNumThreads(1)
    source, settings = job
    try:
        return prepared(photograph(source, settings.size), settings)
    except DataError as error:
        return str(error)


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _recipe(settings: DataSettings, rows: pd.DataFrame) -> str:
    """What decides the content of a store: settings and table, not where the folder is."""
    values = dataclasses.asdict(dataclasses.replace(settings, folder=None))
    listed = rows.drop(columns="source") if settings.dataset == "csv" else rows
    return runs.fingerprint(str(_FORMAT), repr(sorted(values.items())), listed.to_csv(index=False))


def _resume(partial: Path, recipe: str) -> dict:
    """The progress of an interrupted preparation with the same recipe, or that of a new one."""
    if (partial / "progress.json").exists():
        progress = runs.read_json(partial / "progress.json")
        if progress["recipe"] == recipe:
            return progress
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    return {"recipe": recipe, "done": 0, "kept": [], "digests": [], "rejected": []}


def _open_images(partial: Path, count: int, size: int, new: bool) -> np.ndarray:
    shape = (count, size, size, 3)
    if new:
        return np.lib.format.open_memmap(partial / "images.npy", mode="w+", dtype=np.uint8, shape=shape)
    return np.lib.format.open_memmap(partial / "images.npy", mode="r+")


def _finish(partial, images, table, progress, settings, recipe) -> None:
    if progress["rejected"]:  # the file was sized for every image: write it again at its true length
        whole = partial / "whole.npy"
        target = np.lib.format.open_memmap(
            whole, mode="w+", dtype=np.uint8, shape=(len(progress["kept"]), *images.shape[1:])
        )
        for start in range(0, len(target), _BLOCK):
            target[start : start + _BLOCK] = images[start : min(start + _BLOCK, len(target))]
        target.flush()
        os.replace(whole, partial / "images.npy")
    rows = table.rows.iloc[progress["kept"]].assign(digest=progress["digests"])
    rows.to_csv(partial / "table.csv", index=False)
    rejected = pd.DataFrame(progress["rejected"], columns=["image_id", "reason"])
    rejected.to_csv(partial / "rejected.csv", index=False)
    content = rows[["image_id", "patient_id", "label", "split", "digest"]].to_csv(index=False)
    runs.write_json(
        partial / "meta.json",
        {
            "settings": dataclasses.asdict(settings),
            "recipe": recipe,
            "images": len(rows),
            "rejected": len(rejected),
            "label_range": [table.scale.minimum, table.scale.maximum],
            "grades": table.grades,
            "counts": {s: int((rows["split"] == s).sum()) for s in ("train", "test")},
            "fingerprint": runs.fingerprint(content),
        },
    )
    (partial / "progress.json").unlink()


def _check_same(settings: DataSettings, store: Store) -> None:
    asked, made = dataclasses.asdict(settings), store.meta["settings"]
    free = {"folder", "folds"} | ({"train_images", "test_images"} if settings.dataset != "synthetic" else set())
    for name, value in asked.items():
        if name not in free and value is not None and value != made[name]:
            raise DataError(
                f"{name} = {value!r}: the prepared store {runs.shown(store.path)} was made with {made[name]!r}. "
                "Use overwrite=True in notebook 01 to make it again, or another name"
            )
