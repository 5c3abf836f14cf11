"""Raw photographs to a prepared store: every image read, normalised and written once, in parallel and in order.

A store is `outputs/data/<dataset>-<size>/` with `images.npy` (uint8, N x size x size x 3, RGB), `table.csv`, one row an
image, `rejected.csv` (image_id, reason, source), `doubtful.csv` (image_id, source, doubt: prepared, but the disc that
was found may be wrong), `duplicates.csv`, `meta.json`, `sources.csv` (the files that were read, see `sources`; not for
synthetic ones), and `split.json` with a split file. Until it is whole it is called `<dataset>-<size>.partial`. Images
are appended to their file, each block of them before its lines in `progress.csv`, so whatever is listed there is on the
disk, and a killed preparation goes on after it.
"""

import contextlib
import csv
import dataclasses
import errno
import hashlib
import io
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from insightr_nb import files
from insightr_nb.data import catalog, published, sources
from insightr_nb.data.photograph import end_with_parent, prepare_one
from insightr_nb.data.sources import SourceFile
from insightr_nb.data.store import Store, check_same, open_store, split_files, store_path
from insightr_nb.errors import DataError
from insightr_nb.settings import DataSettings

_BLOCK = 128  # images between two savings of the progress
_FORMAT = 3  # of the store; a change starts a new one
_DEFAULTS = {"preparation": "graham", "centre": "disc", "all_images": False}
_CAPS = {"max_train_per_grade": 2443, "max_test_per_grade": 1206}  # paper, section 3, "Dataset"


def prepare(
    settings: DataSettings, workers: int | None = None, overwrite: bool = False, max_rejected: float = 0.01
) -> Store:
    """The prepared store of the settings: opened if it is there, finished if it was interrupted, else made.

    workers: processes; by default one a core. max_rejected: the share of unusable images above which preparing is an
    error. A setting left None is taken from a store that is there, so a data set can be used again by its name.

    Raises DataError if a store of the same name and size was made with other settings, its data folder, if given, has
    changed since (see `sources`), too many images are unusable, or the disk is full; what is prepared by then is kept,
    and the same call goes on after it.
    """
    path = store_path(settings)
    if overwrite or not (path / "meta.json").exists():
        with files.alone(path):
            if overwrite or not (path / "meta.json").exists():  # another may have made it meanwhile
                _make(path, _complete(settings), workers, max_rejected, overwrite)
                return open_store(path)
    store = open_store(path)
    check_same(settings, store)
    if settings.folder:
        _check_folder(settings, store)
    return store


def _check_folder(settings: DataSettings, store: Store) -> None:
    """That the data folder still is what the store was made from, where both can tell."""
    if settings.dataset in ("synthetic", "retinamnist") or not (store.path / "sources.csv").exists():
        return
    if not files.given_path(settings.folder).is_dir():
        print(f"data_folder = {settings.folder!r} is not there; {files.shown(store.path)} is used as it was prepared")
        return
    made = dataclasses.replace(store.settings, folder=settings.folder, table=store.meta.get("label_table"))
    try:
        listed = catalog.table_rows(made)
    except DataError as error:
        raise DataError(f"{error}. So data_folder = {settings.folder!r} is not what {files.shown(store.path)} was made "
                        "from any more; without data_folder the store is used as it is") from None  # fmt: skip
    sources.check(store, listed, settings.folder)


def _complete(settings: DataSettings) -> DataSettings:
    """The settings with nothing of what decides the content left open."""
    left = {name: value for name, value in (_DEFAULTS | _CAPS).items() if getattr(settings, name) is None}
    return dataclasses.replace(settings, **left)


def _make(path: Path, settings: DataSettings, workers: int | None, max_rejected: float, overwrite: bool) -> None:
    table = catalog.find(settings)
    for note in table.notes:
        print(note)
    rows = table.rows
    recipe = _recipe(settings, table)
    partial = path.with_name(path.name + ".partial")
    with _disk_full_is_clear(partial, len(rows)):
        done = _resume(partial, recipe, settings.size, overwrite)
        if (partial / "meta.json").exists():  # killed after its last file, before it got its name
            _publish(partial, path)
            return
        _work(partial, rows, settings, done, workers)
        done = _progress(partial)
        rejected = done[done["reason"] != ""].drop_duplicates("row", keep="last")
        rejected = rejected[~rejected["row"].isin(done.loc[done["reason"] == "", "row"])].sort_values("row")
        if len(rejected) > max_rejected * len(rows):
            listed = _rejected(rows, rejected)
            listed.to_csv(partial / "rejected.csv", index=False)
            raise DataError(
                f"{len(rejected)} of {len(rows)} images cannot be used, more than {max_rejected:.0%}: "
                + "; ".join(f"{r.image_id}: {r.reason}" for r in listed[:5].itertuples())
                + f". All of them: {files.shown(partial / 'rejected.csv')}. Mend them, or raise max_rejected, and call "
                "again: the others are kept"
            )
        _finish(partial, table, done[done["reason"] == ""], rejected, settings, recipe)
        _publish(partial, path)


def _work(partial: Path, rows: pd.DataFrame, settings: DataSettings, done: pd.DataFrame, workers: int | None) -> None:
    """Prepare what is not done yet, block by block; rejected images are tried again."""
    todo = np.setdiff1d(np.arange(len(rows)), done.loc[done["reason"] == "", "row"].to_numpy())
    _check_space(partial, len(todo), settings.size)
    slots = int((done["reason"] == "").sum())
    workers = min(workers or os.cpu_count() or 1, max(1, len(todo)))
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=end_with_parent)
    with pool, tqdm(total=len(rows), initial=slots, unit="image", desc="preparing", leave=False, mininterval=1) as bar:
        for start in range(0, len(todo), _BLOCK):
            pixels, lines = [], []
            block = todo[start : start + _BLOCK]
            jobs = [(source, settings) for source in rows["source"].iloc[block]]
            try:
                for row, result in zip(block, pool.map(prepare_one, jobs, chunksize=2), strict=True):
                    bar.update()
                    digest = "" if result.image is None else hashlib.sha256(result.image.tobytes()).hexdigest()[:16]
                    lines.append((row, digest, result))
                    if result.image is not None:
                        pixels.append(result.image)
            except BrokenProcessPool:
                raise DataError(
                    f"a worker process was killed, most likely for lack of memory, near {jobs[0][0]}. "
                    f"{slots} images are kept; call again with fewer workers (now {workers}). In a script of your own, "
                    'work below `if __name__ == "__main__":`, since every worker imports it'
                ) from None
            slots = _append(partial, settings.size, slots, pixels, lines)


# -- the files of a store ---------------------------------------------------------------------------------------------


def _recipe(settings: DataSettings, table: catalog.ImageTable) -> str:
    """What decides the content of a store: settings, table and split, not where the folders are."""
    values = dataclasses.asdict(
        dataclasses.replace(settings, folder=None, split_file=None, test_split_file=None, folds=2)
    )
    listed = table.rows if settings.dataset == "synthetic" else table.rows.drop(columns="source")
    folds = repr(table.split_file.folds if table.split_file else None)
    return files.fingerprint(str(_FORMAT), repr(sorted(values.items())), listed.to_csv(index=False), folds)


def _resume(partial: Path, recipe: str, size: int, overwrite: bool) -> pd.DataFrame:
    """What an interrupted preparation with the same recipe has done; otherwise a new, empty one.

    One that is made to overwrite a store goes on only from one that was, too: files may have changed since.
    """
    known = partial / "recipe.json"
    before = files.read_json(known) if known.exists() else {"recipe": None}
    if before["recipe"] == recipe and (before["overwrite"] or not overwrite):
        path = partial / "progress.csv"
        if path.exists():  # a line that a kill cut off does not count
            os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
        done = _progress(partial)
        images = partial / "images.npy"
        slots = int((done["reason"] == "").sum())
        if not slots or (images.exists() and images.stat().st_size >= len(_header(size, 0)) + slots * size * size * 3):
            return done
    if partial.exists():
        known.unlink(missing_ok=True)  # first, so that half a folder is never taken for a whole one
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    files.write_json(known, {"recipe": recipe, "overwrite": overwrite})
    return _progress(partial)


def _progress(partial: Path) -> pd.DataFrame:
    """row, digest, reason, of the file that was read size, modified, source (its digest), doubt; in order of work."""
    columns = {"row": int} | dict.fromkeys(("digest", "reason", "size", "modified", "source", "doubt"), str)
    path = partial / "progress.csv"
    if not path.exists() or not path.stat().st_size:
        return pd.DataFrame(columns=list(columns)).astype(columns)
    text = {"keep_default_na": False, "quoting": csv.QUOTE_NONE}
    return pd.read_csv(path, sep="\t", names=list(columns), dtype=columns, **text).fillna("")


def _append(partial: Path, size: int, slots: int, pixels: list[np.ndarray], lines: list[tuple]) -> int:
    """Write a block behind the first `slots` images, then its lines; the number of images that there are now."""
    with open(partial / "images.npy", "ab") as file:
        file.truncate(len(_header(size, 0)) + slots * size * size * 3)  # what was written without its lines
        for image in pixels:
            file.write(image.tobytes())
        file.flush()
        os.fsync(file.fileno())
    with open(partial / "progress.csv", "a", encoding="utf-8") as file:
        for row, digest, result in lines:
            about = dataclasses.astuple(result.source) if result.source else ("", "", "")
            reason, doubt = (" ".join(text.split()) for text in (result.reason, result.doubt))
            file.write("\t".join(map(str, (row, digest, reason, *about, doubt))) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return slots + len(pixels)


def _header(size: int, count: int) -> bytes:
    """The head of a .npy file; its length does not depend on the count, so it is written when the count is known."""
    head = io.BytesIO()
    shape = (count, size, size, 3)
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return head.getvalue()


def _finish(partial: Path, table, done: pd.DataFrame, rejected: pd.DataFrame, settings: DataSettings, recipe) -> None:
    _in_order(partial, done, settings.size)
    done = done.sort_values("row")
    rows = table.rows.iloc[done["row"]].assign(digest=done["digest"].to_numpy())
    rows.to_csv(partial / "table.csv", index=False)
    doubtful = rows[["image_id", "source"]].assign(doubt=done["doubt"].to_numpy()).query("doubt != ''")
    doubtful.to_csv(partial / "doubtful.csv", index=False)
    if len(doubtful):
        print(f"{len(doubtful)} images may have been prepared wrongly, such as {doubtful['image_id'].iloc[0]} "
              f"({doubtful['doubt'].iloc[0]}); notebook 01 shows them")  # fmt: skip
    out = _rejected(table.rows, rejected)
    out.to_csv(partial / "rejected.csv", index=False)
    table.duplicates.to_csv(partial / "duplicates.csv", index=False)
    read = pd.concat([done, rejected]).query("source != ''")
    if table.listed is not None:
        about = [SourceFile(int(r.size), int(r.modified), r.source) for r in read.itertuples()]
        sources.write(partial, table.listed, zip(table.rows["image_id"].iloc[read["row"]], about, strict=True))
    if table.split_file:
        published.write(partial / "split.json", table.split_file)
    content = rows[["image_id", "patient_id", "label", "split", "digest"]].to_csv(index=False)
    files.write_json(
        partial / "meta.json",
        {
            "settings": dataclasses.asdict(settings),
            "recipe": recipe,
            "label_table": catalog.label_table(settings),
            "images": len(rows),
            "rejected": len(out),
            "label_range": [table.scale.minimum, table.scale.maximum],
            "grades": table.grades,
            "split_files": split_files(settings),
            "before": table.before,
            "counts": {
                s: int((rows["split"] == s).sum()) for s in ("train", "test", "extra") if s in set(rows["split"])
            },
            "notes": list(table.notes),
            "table": files.digest(partial / "table.csv"),
            "fingerprint": files.fingerprint(content, repr(table.split_file.folds) if table.split_file else ""),
        },
    )


def _rejected(rows: pd.DataFrame, rejected: pd.DataFrame) -> pd.DataFrame:
    return rows.iloc[rejected["row"]].assign(reason=rejected["reason"].to_numpy())[["image_id", "reason", "source"]]


def _in_order(partial: Path, done: pd.DataFrame, size: int) -> None:
    """The true header; where mended images were added later, all in the order of their rows, as images-sorted.npy."""
    head, rows, images = _header(size, len(done)), done["row"].to_numpy(), partial / "images.npy"
    if (np.diff(rows) < 0).any():
        each = size * size * 3
        ordered = partial / "images-sorted.npy"
        with files.atomic(ordered) as temporary, open(images, "rb") as old, open(temporary, "wb") as new:
            new.write(head)
            for slot in np.argsort(rows):
                old.seek(len(head) + slot * each)
                new.write(old.read(each))
        return
    with open(images, "r+b") as file:
        file.write(head)
        file.flush()
        os.fsync(file.fileno())


def _publish(partial: Path, path: Path) -> None:
    """Give a whole store its name. It is whole once it has meta.json; every step can be done again after a kill."""
    if (partial / "images-sorted.npy").exists():
        os.replace(partial / "images-sorted.npy", partial / "images.npy")
    (partial / "progress.csv").unlink(missing_ok=True)
    before = path.with_name(path.name + ".old")
    if path.exists():
        shutil.rmtree(before, ignore_errors=True)
        path.rename(before)
    partial.rename(path)
    (path / "recipe.json").unlink(missing_ok=True)
    shutil.rmtree(before, ignore_errors=True)


def _check_space(partial: Path, images: int, size: int) -> None:
    needed, free = images * size * size * 3, shutil.disk_usage(partial).free
    if needed > free:
        raise DataError(
            f"{images} images of {size} x {size} px need {needed / 1e9:.1f} GB, but {files.shown(partial)} has "
            f"{free / 1e9:.1f} GB free. Free some, or set INSIGHTR_OUTPUTS to a folder on another disk"
        )


@contextlib.contextmanager
def _disk_full_is_clear(partial: Path, images: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        kept = int((_progress(partial)["reason"] == "").sum())
        raise DataError(
            f"no space left for {files.shown(partial)}: {kept} of {images} images are prepared and kept. "
            "Free some space and call again; it goes on from there"
        ) from error
