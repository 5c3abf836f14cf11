"""What a prepared store was made from, label table and files, and whether they still are that.

`sources.csv` of a store has a line for every photograph that was read, the rejected ones too: image_id, file (below the
data folder), size in bytes, time of change in nanoseconds, and digest of its bytes.
"""

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from insightr_nb import files
from insightr_nb.data.store import Store
from insightr_nb.errors import DataError

_NAMED = 3  # changes that an error lists
_SEEN: set[tuple] = set()  # stores and folders that this process has compared


@dataclass(frozen=True)
class SourceFile:
    """A file as it was read: bytes, time of change (ns), and digest of its content."""

    size: int
    modified: int
    digest: str

    @classmethod
    def read(cls, path: str) -> "SourceFile":
        """Raises OSError."""
        with open(path, "rb") as file:
            about = os.fstat(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        return cls(about.st_size, about.st_mtime_ns, digest)


def write(path: Path, rows: pd.DataFrame, folder: str, read: Iterable[tuple[int, SourceFile]]) -> None:
    """sources.csv of a store. rows: image_id, source; read: number of a row and its file."""
    files.write_csv(
        path / "sources.csv",
        [
            {
                "image_id": rows["image_id"].iloc[row],
                "file": os.path.relpath(rows["source"].iloc[row], files.given_path(folder).resolve()),
                "size": about.size,
                "modified": about.modified,
                "digest": about.digest,
            }
            for row, about in read
        ],
    )


def check(store: Store, rows: pd.DataFrame, same_table: bool, folder: str) -> None:
    """Raises DataError that says in what a data folder is not what the store was made from.

    rows: image_id, patient_id, label, split, source, as the folder's table has them today. same_table: whether that
    table is the one of the store. Files with the size and time of the store's are not read, others compared by digest.
    """
    path = store.path / "sources.csv"
    known = pd.read_csv(path, dtype={"image_id": str, "file": str, "digest": str}, keep_default_na=False) if (
        path.exists()) else None  # fmt: skip
    changes = _of_table(store, rows, known) if not same_table else []
    if known is not None:
        seen = (store.path, path.stat().st_mtime_ns, files.given_path(folder).resolve(), store.fingerprint)
        if seen not in _SEEN:
            changes += _of_files(rows, known)
            if not changes:
                _SEEN.add(seen)
    if changes:
        raise DataError(
            f"data_folder = {folder!r} is not what {files.shown(store.path)} was made from any more: "
            + "; ".join(changes)
            + ". Prepare it again with notebook 01 and -p overwrite True (runs that were trained on the old one then "
            "say so), or give this data set another name"
        )


def _of_table(store: Store, rows: pd.DataFrame, known: pd.DataFrame | None) -> list[str]:
    before, today = store.table.set_index("image_id"), rows.set_index("image_id")
    once = set(before.index) | set(store.rejected["image_id"])
    both = [i for i in today.index if i in before.index]
    changes = _listed("new", [i for i in today.index if i not in once])
    changes += _listed("gone", [i for i in before.index if i not in today.index])
    for column in ("label", "patient_id", "split"):
        differ = [i for i in both if today.loc[i, column] != before.loc[i, column]]
        changes += _listed(
            f"with another {column.removesuffix('_id')}",
            [f"{i}: {_text(today.loc[i, column])}, was {_text(before.loc[i, column])}" for i in differ],
        )
    return changes or ["its label table is another"]


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _of_files(rows: pd.DataFrame, known: pd.DataFrame) -> list[str]:
    source = rows.set_index("image_id")["source"]
    there = known[known["image_id"].isin(source.index)]

    def differs(line) -> bool:
        path = source[line.image_id]
        about = os.stat(path)
        if about.st_size != line.size:
            return True
        return about.st_mtime_ns != line.modified and SourceFile.read(path).digest != line.digest

    try:
        with ThreadPoolExecutor() as pool:
            changed = list(pool.map(differs, there.itertuples()))
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from None
    return _listed("with another file", [files.shown(Path(source[i])) for i in there.loc[changed, "image_id"]])


def _listed(what: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = ", ..." if len(names) > _NAMED else ""
    return [f"{len(names)} image{'s' * (len(names) > 1)} {what} ({', '.join(names[:_NAMED])}{more})"]
