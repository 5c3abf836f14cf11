"""Record of the label table and photographs of a prepared store, and detection of later changes.

`sources.csv` of a store has one line per row of the label table, including rows that are not in the store: image_id,
patient_id, label, split (if the table has one), and, for photographs that were read, size in bytes, modification time
in nanoseconds, and digest of the content.
"""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from insightr_nb import files
from insightr_nb.data.store import Store
from insightr_nb.errors import DataError

_NAMED = 3  # number of changes of each kind that an error lists
_LISTED = ("label", "patient_id", "split")


@dataclass(frozen=True)
class SourceFile:
    """File of a photograph when it was read: size (bytes), modification time (ns), and digest of its content."""

    size: int
    modified: int
    digest: str

    @classmethod
    def read(cls, path: str) -> "SourceFile":
        """Read size, modification time and digest of a file. Raises OSError."""
        status = os.stat(path)
        return cls(status.st_size, status.st_mtime_ns, _digest(path, status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=200_000)
def _digest(path: str, _size: int, _modified: int) -> str:
    return files.digest(Path(path))["sha256"][:16]


def write(path: Path, listed: pd.DataFrame, read: Iterable[tuple[str, SourceFile]]) -> None:
    """Write sources.csv.

    Args:
        path: Folder of the store.
        listed: The label table: image_id, patient_id, label, and split if known.
        read: Image id and file of every photograph that was read.
    """
    known = {image_id: (file.size, file.modified, file.digest) for image_id, file in read}
    columns = ["image_id", *(c for c in _LISTED if c in listed)]
    table = listed[columns].reset_index(drop=True)
    table[["size", "modified", "digest"]] = [known.get(image_id, ("", "", "")) for image_id in table["image_id"]]
    table.to_csv(path / "sources.csv", index=False)


def check(store: Store, listed: pd.DataFrame, folder: str) -> None:
    """Raise DataError that lists the changes in a data folder since the store was prepared, if there are any.

    Photographs of unchanged size and modification time are not read; those of unchanged size but another time are
    compared by digest.

    Args:
        store: The prepared store.
        listed: The current label table: image_id, patient_id, label, source, and split if known.
        folder: Data folder, as named in the error.
    """
    known = pd.read_csv(store.path / "sources.csv", dtype=str, keep_default_na=False)
    known = known.astype({"label": float}).set_index("image_id")
    today = listed.set_index("image_id")
    changes = _change("new", list(today.index.difference(known.index, sort=False)))
    changes += _change("removed", list(known.index.difference(today.index, sort=False)))
    common = known.index.intersection(today.index, sort=False)
    known, today = known.loc[common], today.loc[common]
    for column in _LISTED:
        if column in known and column in today:
            differ = common[(known[column] != today[column]).to_numpy()]
            name = column.removesuffix("_id")
            changes += _change(
                f"with a different {name}",
                [f"{i}: {_text(today[column][i])}, was {_text(known[column][i])}" for i in differ[:_NAMED]],
                len(differ),
            )
    changes += _change("with a different file", other_files(known, today["source"]))
    if changes:
        raise DataError(
            f"data_folder = {folder!r} has changed since {files.display_path(store.path)} was prepared: "
            + "; ".join(changes)
            + ". Prepare it again with notebook 01 and -p overwrite True (runs trained on the old store then report "
            "the difference), use another name for this data set, or omit data_folder to use the store as it is"
        )


def other_files(known: pd.DataFrame, source: pd.Series) -> list[str]:
    """List the photographs that are not the files that they were.

    Args:
        known: size, modified and digest of each file by image id, as text; without a digest, a file is not compared.
        source: Path of each file today, by image id.
    """
    known = known[known["digest"] != ""]

    def differs(line: Any) -> bool:  # a named tuple of pandas
        status = os.stat(source[line.Index])
        if status.st_size != int(line.size):
            return True
        return status.st_mtime_ns != int(line.modified) and SourceFile.read(source[line.Index]).digest != line.digest

    try:
        with ThreadPoolExecutor() as pool:
            changed = list(pool.map(differs, known[["size", "modified", "digest"]].itertuples()))
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from None
    return [files.display_path(Path(source[i])) for i in known.index[changed]]


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _change(kind: str, names: list[str], count: int | None = None) -> list[str]:
    count = len(names) if count is None else count
    if not count:
        return []
    more = ", ..." if count > _NAMED else ""
    return [f"{count} image{'s' * (count > 1)} {kind} ({', '.join(names[:_NAMED])}{more})"]
