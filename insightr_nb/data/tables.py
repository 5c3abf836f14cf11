"""Label tables (CSV) and the files that their rows mean; errors name the file, the line and the value."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from insightr_nb.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")


def read(path: Path) -> pd.DataFrame:
    """The table as text, names of columns stripped, without empty columns and rows; index: line numbers of the file."""
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, skip_blank_lines=False)
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a table (CSV in UTF-8, first line the columns' names): {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes the first column for an index
        raise DataError(f"{path}: its rows have more cells than the first line names; is a comma too many in them?")
    frame = frame.fillna("").apply(lambda column: column.str.strip())
    frame.columns = [str(c).strip() for c in frame.columns]
    repeated = [c for c in frame.columns[frame.columns.duplicated()] if c]
    if repeated:
        raise DataError(f"{path}: two columns are called {repeated[0]!r}; give each a name of its own")
    unnamed = [c.startswith("Unnamed: ") or not c for c in frame.columns]
    frame = frame.loc[:, ~(np.array(unnamed) & (frame == "").all().to_numpy())]
    frame.index = np.arange(len(frame)) + 2
    frame = frame[(frame != "").any(axis=1)]
    if frame.empty:
        raise DataError(f"{path}: the table has no rows")
    return frame


def column(frame: pd.DataFrame, given: str | None, usual: Sequence[str], parameter: str, path: Path) -> str:
    """The name of a column: as given, or the first of the usual ones. Raises DataError that lists the columns."""
    if given is not None:
        if given not in frame:
            raise DataError(f"{parameter} = {given!r}: {path} has no such column; its columns: {', '.join(frame)}")
        return given
    found = [name for name in usual if name in frame]
    if not found:
        raise DataError(f"{path}: which column? None is called {' or '.join(usual)}; give {parameter}, "
                        f"one of: {', '.join(frame)}")  # fmt: skip
    return found[0]


def labels(texts: pd.Series, path: Path, low: float | None = None, high: float | None = None) -> pd.Series:
    """Texts to finite numbers from `low` to `high`. Raises DataError with the first line that has none."""
    numbers = pd.to_numeric(texts, errors="coerce").astype(float)
    for bad, why in (
        (~np.isfinite(numbers), "not a number"),
        (numbers < (-np.inf if low is None else low), f"below {low}"),
        (numbers > (np.inf if high is None else high), f"above {high}"),
    ):
        if bad.any():
            line = bad.index[bad][0]
            raise DataError(f"{path}, line {line}: label {texts[line]!r} is {why} ({int(bad.sum())} such rows)")
    return numbers


def splits(texts: pd.Series, path: Path) -> pd.Series:
    """A column of "train" and "test", in any case of letters."""
    values = texts.str.lower()
    bad = ~values.isin(["train", "test"])
    if bad.any():
        line = bad.index[bad][0]
        raise DataError(f"{path}, line {line}: split {texts[line]!r} must be train or test")
    for part in ("train", "test"):
        if not (values == part).any():
            raise DataError(f"{path}: the split column has no row with {part!r}")
    return values


def image_id(name: str) -> str:
    """The name without the suffix of an image file, with its subfolder."""
    return str(PurePosixPath(name).with_suffix("")) if is_image(name) else name


def is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def sources(names: pd.Series, folder: Path, path: Path) -> tuple[list[str], list[str]]:
    """The file of every row, below the folder, and the image files that no row means.

    names: with or without suffix or subfolder; index: line numbers of `path`. A name never leaves the folder.
    Raises DataError for a name that is no file below the folder, that means several, or that is repeated.
    """
    files = _image_files(folder)
    wanted, known = set(names), {}
    for number, file in enumerate(files):
        inside = PurePosixPath(file)
        for key in {file, str(inside.with_suffix("")), inside.name, inside.stem} & wanted:
            known[key] = (*known.get(key, ()), number)
    listed: dict[int, int] = {}  # number of the file -> line
    missing: list[str] = []
    for line, name in names.items():
        refuse_path(name, f"{path}, line {line}: image", folder)
        matches = known.get(name, ())
        if len(matches) > 1:  # a path from the folder on is never ambiguous
            matches = [n for n in matches if files[n] == name] or matches
        if len(matches) > 1:
            could = ", ".join(str(folder / files[n]) for n in matches[:3])
            raise DataError(f"{path}, line {line}: image {name!r} could be any of {could}")
        if not matches:
            missing.append(f"{name!r} (line {line})")
        elif matches[0] in listed:
            raise DataError(f"{path}, line {line}: image {name!r} is listed twice, first in line {listed[matches[0]]}; "
                            f"both mean {folder / files[matches[0]]}. One row an image")  # fmt: skip
        else:
            listed[matches[0]] = line
    if missing:
        raise DataError(f"{path}: {len(missing)} images have no file below {folder}: {', '.join(missing[:5])}"
                        + (" ..." if len(missing) > 5 else ""))  # fmt: skip
    unlisted = [file.encode("utf-8", "backslashreplace").decode() for n, file in enumerate(files) if n not in listed]
    return [os.path.join(folder, files[n]) for n in listed], unlisted


def _image_files(folder: Path) -> list[str]:
    """Paths of the image files below a folder, from it on. Raises DataError that names a folder that is closed."""

    def closed(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror}); give it permission to be listed")

    below = os.walk(folder, followlinks=True, onerror=closed)
    return sorted(os.path.relpath(os.path.join(root, name), folder) for root, _, names in below for name in names
                  if is_image(name))  # fmt: skip


def refuse_path(name: str, what: str, folder: Path | str) -> None:
    """Raises DataError for a name that could lead out of the folder, or none."""
    if ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute() or "\\" in name or not name:
        raise DataError(f"{what} {name!r} must be the name of a file below {folder}")
