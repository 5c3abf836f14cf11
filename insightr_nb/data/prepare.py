"""Preparation of a store from raw photographs: images are read and normalised in parallel, and written in order."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from insightr_nb import files
from insightr_nb.data import catalog, sources, store_writer
from insightr_nb.data.photograph import end_with_parent, prepare_one
from insightr_nb.data.store import Store, check_same, image_digest, open_store, store_path
from insightr_nb.errors import DataError
from insightr_nb.settings import DataSettings

_BLOCK = 128  # images between two saves of the progress
_DEFAULTS = {"preparation": "graham", "centre": "disc", "all_images": False}
_CAPS = {"max_train_per_grade": 2443, "max_test_per_grade": 1206}  # paper, section 3, "Dataset"


def prepare(
    settings: DataSettings, workers: int | None = None, overwrite: bool = False, max_rejected: float = 0.01
) -> Store:
    """Open the prepared store of the settings, after creating it or resuming an interrupted preparation if needed.

    Args:
        settings: Settings of the data. One left None is taken from an existing store, so that a data set can be
            reused by its name.
        workers: Number of processes; one per core by default.
        overwrite: Prepare again even if the store exists.
        max_rejected: Largest accepted share of unusable images.

    Returns:
        The store.

    Raises:
        DataError: If a store of the same name and size was made with other settings, its data folder (if given) has
            changed since (see `sources`), too many images are unusable, or the disk is full. Images prepared so far
            are kept, and the same call resumes after them, unless photographs have changed.
    """
    path = store_path(settings)
    if overwrite or not (path / "meta.json").exists():
        with files.exclusive_lock(path):
            if overwrite or not (path / "meta.json").exists():  # another process may have created it
                _create(path, _complete(settings), workers, max_rejected, overwrite)
                return open_store(path)
    store = open_store(path)
    check_same(settings, store)
    if settings.folder:
        _check_folder(settings, store)
    return store


def _check_folder(settings: DataSettings, store: Store) -> None:
    """Raise DataError if the data folder has changed since preparation; print so if this cannot be checked."""
    if settings.dataset == "retinamnist":  # published data; reading it may download
        return
    if not (store.path / "sources.csv").exists():
        place = files.display_path(store.path)
        print(f"using {place} without comparing it with data_folder: it has no record of its photographs")
        return
    if not files.given_path(settings.folder).is_dir():
        print(f"data_folder = {settings.folder!r} does not exist; using {files.display_path(store.path)} unchanged")
        return
    prepared = dataclasses.replace(store.settings, folder=settings.folder, table=store.meta.get("label_table"))
    try:
        listed = catalog.table_rows(prepared)
    except DataError as error:
        raise DataError(
            f"{error}. data_folder = {settings.folder!r} has changed since {files.display_path(store.path)} was "
            "prepared; omit data_folder to use the store as it is"
        ) from None
    sources.check(store, listed, settings.folder)


def _complete(settings: DataSettings) -> DataSettings:
    """Fill in the defaults of the settings left None that affect the content of the store."""
    left = {name: value for name, value in (_DEFAULTS | _CAPS).items() if getattr(settings, name) is None}
    return dataclasses.replace(settings, **left)


def _create(path: Path, settings: DataSettings, workers: int | None, max_rejected: float, overwrite: bool) -> None:
    table = catalog.find(settings)
    for note in table.notes:
        print(note)
    rows = table.rows
    recipe = store_writer.recipe(settings, table)
    partial = path.with_name(path.name + ".partial")
    with store_writer.disk_full_errors(partial, len(rows)):
        done = store_writer.resume(partial, recipe, settings.size, overwrite, rows)
        if (partial / "meta.json").exists():  # killed after the last file, before the final rename
            store_writer.publish(partial, path)
            return
        _work(partial, rows, settings, done, workers)
        done = store_writer.progress(partial)
        rejected = done[done["reason"] != ""].drop_duplicates("row", keep="last")
        rejected = rejected[~rejected["row"].isin(done.loc[done["reason"] == "", "row"])].sort_values("row")
        if len(rejected) > max_rejected * len(rows):
            listed = store_writer.rejected_rows(rows, rejected)
            listed.to_csv(partial / "rejected.csv", index=False)
            raise DataError(
                f"{len(rejected)} of {len(rows)} images cannot be used, more than {max_rejected:.0%}: "
                + "; ".join(f"{r.image_id}: {r.reason}" for r in listed[:5].itertuples())
                + f". Full list: {files.display_path(partial / 'rejected.csv')}. Fix them or raise max_rejected, then "
                "prepare again; the other images are kept"
            )
        store_writer.finish(partial, table, done[done["reason"] == ""], rejected, settings, recipe)
        store_writer.publish(partial, path)


def _work(partial: Path, rows: pd.DataFrame, settings: DataSettings, done: pd.DataFrame, workers: int | None) -> None:
    """Prepare the remaining images block by block; rejected images are tried again."""
    todo = np.setdiff1d(np.arange(len(rows)), done.loc[done["reason"] == "", "row"].to_numpy())
    store_writer.check_space(partial, len(todo), settings.size)
    slots = int((done["reason"] == "").sum())
    workers = min(workers or os.cpu_count() or 1, max(1, len(todo)))
    progress = tqdm(total=len(rows), initial=slots, unit="image", desc="preparing", leave=False, mininterval=1)
    with _parallel_map(workers) as parallel, progress as bar:
        for start in range(0, len(todo), _BLOCK):
            pixels, lines = [], []
            block = todo[start : start + _BLOCK]
            jobs = [(source, settings) for source in rows["source"].iloc[block]]
            try:
                for row, result in zip(block, parallel(prepare_one, jobs), strict=True):
                    bar.update()
                    digest = "" if result.image is None else image_digest(result.image)
                    lines.append((row, digest, result))
                    if result.image is not None:
                        pixels.append(result.image)
            except BrokenProcessPool:
                raise DataError(
                    f"a worker process was killed near {jobs[0][0]}, probably because memory ran out. {slots} images "
                    f"are kept; prepare again with fewer workers (now {workers}). In your own script, call this under "
                    '`if __name__ == "__main__":`, because every worker imports the script'
                ) from None
            slots = store_writer.append(partial, settings.size, slots, pixels, lines)


@contextlib.contextmanager
def _parallel_map(workers: int) -> Iterator[Callable[[Callable, list], Iterable]]:
    """Yield a `map` over worker processes, or over this process where there is no shared memory for their locks."""
    try:
        pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=end_with_parent)
    except OSError as error:  # /dev/shm is missing, full or read-only, as in some containers
        print(
            f"worker processes, which need shared memory, cannot start ({error}); preparing one image after the other"
        )
        yield map
        return
    with pool:
        yield lambda function, jobs: pool.map(function, jobs, chunksize=2)
