"""Writing the files of a prepared store so that a kill at any moment neither loses nor damages saved images.

A store is `outputs/data/<dataset>-<size>/` with `images.npy` (uint8, N x size x size x 3, RGB), `table.csv` (one row
per image), `rejected.csv` (image_id, reason, source), `doubtful.csv` (image_id, source, doubt: prepared, but possibly
wrong, for example because of a doubtful disc), `duplicates.csv`, `meta.json`, `sources.csv` (see `sources`; not for
synthetic images), and `split.json` if there is a split file. An incomplete store is `<dataset>-<size>.partial`. Each
block of images is appended to `images.npy` before its lines are appended to `progress.csv`. Every image listed there
is therefore on disk, and a killed preparation resumes after the last one.
"""

import contextlib
import csv
import dataclasses
import errno
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from insightr_nb import files
from insightr_nb.data import catalog, sources, split_file
from insightr_nb.data.sources import SourceFile
from insightr_nb.data.store import split_files
from insightr_nb.errors import DataError
from insightr_nb.settings import DataSettings

_FORMAT = 3  # version of the store format; increment it to discard partial stores


def recipe(settings: DataSettings, table: catalog.ImageTable) -> str:
    """Return a fingerprint of what determines the content of a store: settings, table and split, but not paths."""
    values = dataclasses.asdict(
        dataclasses.replace(settings, folder=None, split_file=None, test_split_file=None, folds=2)
    )
    listed = table.rows if settings.dataset == "synthetic" else table.rows.drop(columns="source")
    folds = repr(table.split_file.folds if table.split_file else None)
    return files.fingerprint(str(_FORMAT), repr(sorted(values.items())), listed.to_csv(index=False), folds)


def resume(partial: Path, recipe: str, size: int, overwrite: bool, rows: pd.DataFrame) -> pd.DataFrame:
    """Resume an interrupted preparation with the same recipe and photographs, or start an empty one.

    An overwriting preparation resumes only another overwriting one, because files may have changed since.

    Args:
        partial: Folder of the partial store.
        recipe: Fingerprint from `recipe`.
        size: Side of the prepared images in pixels.
        overwrite: Whether the preparation overwrites a store.
        rows: image_id and source of every image.

    Returns:
        The `progress` so far.
    """
    known = partial / "recipe.json"
    previous = files.read_json(known) if known.exists() else {"recipe": None}
    if previous["recipe"] == recipe and (previous["overwrite"] or not overwrite):
        path = partial / "progress.csv"
        if path.exists():  # drop a line cut off by a kill
            os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
        done = progress(partial)
        images = partial / "images.npy"
        slots = int((done["reason"] == "").sum())
        if not slots or (images.exists() and images.stat().st_size >= len(_header(size, 0)) + slots * size * size * 3):
            changed = _changed(done, rows)
            if not changed:
                return done
            print(f"{len(changed)} photographs changed during the interruption, such as {changed[0]}: starting again")
    if partial.exists():
        known.unlink(missing_ok=True)  # first, so that a half-deleted folder is never resumed
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    files.write_json(known, {"recipe": recipe, "overwrite": overwrite})
    return progress(partial)


def _changed(done: pd.DataFrame, rows: pd.DataFrame) -> list[str]:
    """Photographs that are no longer the files that were prepared, according to `progress`."""
    prepared = done[(done["reason"] == "") & (done["source"] != "")]
    today = rows.iloc[prepared["row"]].set_index("image_id")["source"]
    known = pd.DataFrame(
        {"size": prepared["size"], "modified": prepared["modified"], "digest": prepared["source"]}
    ).set_index(today.index)
    return sources.other_files(known, today)


def progress(partial: Path) -> pd.DataFrame:
    """Read progress.csv, in the order of processing.

    Columns: row, digest, reason; size, modified and source (digest) of the file that was read; doubt.
    """
    columns = {"row": int} | dict.fromkeys(("digest", "reason", "size", "modified", "source", "doubt"), str)
    path = partial / "progress.csv"
    if not path.exists() or not path.stat().st_size:
        return pd.DataFrame(columns=list(columns)).astype(columns)
    text = {"keep_default_na": False, "quoting": csv.QUOTE_NONE}
    return pd.read_csv(path, sep="\t", names=list(columns), dtype=columns, **text).fillna("")


def append(partial: Path, size: int, slots: int, pixels: list[np.ndarray], lines: list[tuple]) -> int:
    """Append a block of images, then its lines in progress.csv.

    Args:
        partial: Folder of the partial store.
        size: Side of the images in pixels.
        slots: Number of images already saved; anything after them is discarded.
        pixels: Images of the block, (size, size, 3) uint8 each.
        lines: (row, digest, result) of every photograph of the block, including rejected ones.

    Returns:
        The number of images saved now.
    """
    with open(partial / "images.npy", "ab") as file:
        file.truncate(len(_header(size, 0)) + slots * size * size * 3)  # drop images without lines
        for image in pixels:
            file.write(image.tobytes())
        file.flush()
        os.fsync(file.fileno())
    with open(partial / "progress.csv", "a", encoding="utf-8") as file:
        for row, digest, result in lines:
            file_columns = dataclasses.astuple(result.source) if result.source else ("", "", "")
            reason, doubt = (" ".join(text.split()) for text in (result.reason, result.doubt))
            file.write("\t".join(map(str, (row, digest, reason, *file_columns, doubt))) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return slots + len(pixels)


def _header(size: int, count: int) -> bytes:
    """Header of the .npy file. Its length does not depend on the count, so the final one is written at the end."""
    head = io.BytesIO()
    shape = (count, size, size, 3)
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return head.getvalue()


def finish(
    partial: Path,
    table: catalog.ImageTable,
    done: pd.DataFrame,
    rejected: pd.DataFrame,
    settings: DataSettings,
    recipe: str,
) -> None:
    """Write the tables and meta.json that complete a partial store, and put its images in row order.

    Args:
        partial: Folder of the partial store.
        table: The image table that was prepared.
        done: Lines of `progress` for the prepared images.
        rejected: Lines of `progress` for the rejected images.
        settings: Settings of the data.
        recipe: Fingerprint from `recipe`.
    """
    _in_order(partial, done, settings.size)
    done = done.sort_values("row")
    rows = table.rows.iloc[done["row"]].assign(digest=done["digest"].to_numpy())
    rows.to_csv(partial / "table.csv", index=False)
    doubtful = rows[["image_id", "source"]].assign(doubt=done["doubt"].to_numpy()).query("doubt != ''")
    doubtful.to_csv(partial / "doubtful.csv", index=False)
    if len(doubtful):
        print(
            f"{len(doubtful)} images may have been prepared wrongly, such as {doubtful['image_id'].iloc[0]} "
            f"({doubtful['doubt'].iloc[0]}); notebook 01 shows them"
        )
    out = rejected_rows(table.rows, rejected)
    out.to_csv(partial / "rejected.csv", index=False)
    table.duplicates.to_csv(partial / "duplicates.csv", index=False)
    read = pd.concat([done, rejected]).query("source != ''")
    if table.listed is not None:
        files_read = [SourceFile(int(r.size), int(r.modified), r.source) for r in read.itertuples()]
        sources.write(partial, table.listed, zip(table.rows["image_id"].iloc[read["row"]], files_read, strict=True))
    if table.split_file:
        split_file.write(partial / "split.json", table.split_file)
    content = rows[["image_id", "patient_id", "label", "split", "digest"]].to_csv(index=False)
    files.write_json(
        partial / "meta.json",
        {
            "settings": dataclasses.asdict(settings),
            "recipe": recipe,
            "label_table": catalog.table_name(settings),
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


def rejected_rows(rows: pd.DataFrame, rejected: pd.DataFrame) -> pd.DataFrame:
    return rows.iloc[rejected["row"]].assign(reason=rejected["reason"].to_numpy())[["image_id", "reason", "source"]]


def _in_order(partial: Path, done: pd.DataFrame, size: int) -> None:
    """Write the final header. If images are out of row order (added after a fix), sort them into images-sorted.npy."""
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


def publish(partial: Path, path: Path) -> None:
    """Rename a complete store (one with meta.json) to its final name. Every step can be repeated after a kill."""
    if (partial / "images-sorted.npy").exists():
        os.replace(partial / "images-sorted.npy", partial / "images.npy")
    (partial / "progress.csv").unlink(missing_ok=True)
    old = path.with_name(path.name + ".old")
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
    partial.rename(path)
    (path / "recipe.json").unlink(missing_ok=True)
    shutil.rmtree(old, ignore_errors=True)


def check_space(partial: Path, images: int, size: int) -> None:
    """Check the free disk space before a preparation.

    Args:
        partial: Folder of the partial store.
        images: Number of images.
        size: Side of an image in pixels.

    Raises:
        DataError: If the images do not fit.
    """
    needed, free = images * size * size * 3, shutil.disk_usage(partial).free
    if needed > free:
        raise DataError(
            f"{images} images of {size} x {size} px need {needed / 1e9:.1f} GB, but {files.display_path(partial)} has "
            f"{free / 1e9:.1f} GB free. Free some space, or set INSIGHTR_OUTPUTS to a folder on another disk"
        )


@contextlib.contextmanager
def disk_full_errors(partial: Path, images: int) -> Iterator[None]:
    """Convert the OSError of a full disk into a DataError that says how many images are kept."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        kept = int((progress(partial)["reason"] == "").sum())
        raise DataError(
            f"no space left for {files.display_path(partial)}: {kept} of {images} images are prepared and kept. "
            "Free some space and prepare again; it resumes after them"
        ) from error
