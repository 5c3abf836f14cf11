"""Label tables (CSV): reading, columns, labels and splits. Errors name the file, the line and the value."""

import codecs
import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from insightr_nb.data.image_files import is_image
from insightr_nb.errors import DataError


def read(path: Path, names: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a table as strings, without empty rows and unnamed empty columns; the index is the line number in the file.

    Cells may be separated by commas, semicolons, tabs or vertical bars. Excel's first line `sep=;` and its UTF-16
    encoding are supported. `names` are the column names of a file without a header line. Raises DataError if the file
    cannot be read or is not a table.
    """
    try:
        encoding = _encoding(path)
        separator, skipped = _separator(path, encoding)
        text = {"dtype": str, "keep_default_na": False, "skip_blank_lines": False}
        text |= {"header": 0 if names is None else None}
        frame = pd.read_csv(path, sep=separator, skiprows=skipped, encoding=encoding, **text)
    except (pd.errors.EmptyDataError, pd.errors.ParserError, csv.Error, UnicodeError) as error:
        hint = ". Save it as UTF-8 (Excel: CSV UTF-8)" if isinstance(error, UnicodeError) else ""
        raise DataError(f"{path}: not a table (CSV in UTF-8 with a header line): {error}{hint}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if not isinstance(frame.index, pd.RangeIndex):  # pandas used the first column as the index
        raise DataError(f"{path}: the rows have more cells than the header line; remove the surplus separators")
    frame = frame.fillna("").apply(lambda column: column.str.strip())
    if names is not None:  # further columns come only from separators at the ends of lines
        frame.columns = [*names, *(f"Unnamed: {i}" for i in range(len(names), frame.shape[1]))]
    frame.columns = [str(c).strip() for c in frame.columns]
    repeated = [c for c in frame.columns[frame.columns.duplicated()] if c]
    if repeated:
        raise DataError(f"{path}: two columns are named {repeated[0]!r}; rename one of them")
    unnamed = [c.startswith("Unnamed: ") or not c for c in frame.columns]
    frame = frame.loc[:, ~(np.array(unnamed) & (frame == "").all().to_numpy())]
    frame.index = np.arange(len(frame)) + skipped + (2 if names is None else 1)
    frame = frame[(frame != "").any(axis=1)]
    if frame.empty:
        raise DataError(f"{path}: the table has no rows")
    return frame


def read_nameless(path: Path) -> pd.DataFrame | None:
    """Read a table without a header line as columns "image" and "label"; None if the first line is a header.

    Raises DataError if such a table does not have exactly two columns, because their meaning is then unknown.
    """
    first = list(read(path).columns)
    if not any(is_image(name) for name in first):
        return None
    if len(first) != 2:
        raise DataError(
            f"{path}: the first line ({', '.join(first)}) is data. Insert a header line with the column names before "
            "it, such as image,label,patient"
        )
    return read(path, ["image", "label"] if is_image(first[0]) else ["label", "image"])


def _encoding(path: Path) -> str:
    with open(path, "rb") as file:
        return "utf-16" if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def _separator(path: Path, encoding: str) -> tuple[str, int]:
    """Return the separator of the cells, and the number of lines before the header."""
    with open(path, encoding=encoding) as file:
        first, second = (file.readline().rstrip("\r\n") for _ in range(2))
    if first.lower().startswith("sep=") and len(first) == 5:
        return first[4], 1
    counts = {mark: [len(next(csv.reader([line], delimiter=mark), [])) for line in (first, second)] for mark in ",;\t|"}
    present = [mark for mark, (cells, _) in counts.items() if cells > 1] or [","]
    present = [mark for mark in present if mark != "|"] or present
    return next((mark for mark in present if counts[mark][0] == counts[mark][1]), present[0]), 0


def candidates(folder: Path) -> list[Path]:
    """List the label tables of a folder: *.csv, else files with another case of the suffix or a leading dot.

    Temporary files of macOS (`._*`) and Office (`~$*`) are skipped.
    """
    tables = sorted(p for p in folder.iterdir() if p.suffix.lower() == ".csv" and not p.name.startswith(("._", "~$")))
    usual = [p for p in tables if p.suffix == ".csv" and not p.name.startswith(".")]
    return usual or tables


def column(frame: pd.DataFrame, given: str | None, usual: Sequence[str], parameter: str, path: Path) -> str:
    """Return the name of a column.

    Args:
        frame: The label table.
        given: Name given by the user, or None.
        usual: Usual names, in order of preference; used if `given` is None, also in another case.
        parameter: Parameter that names the column, for errors.
        path: File of the table, for errors.

    Raises:
        DataError: If there is no such column. The message lists the columns.
    """
    if given is not None:
        if given not in frame:
            raise DataError(f"{parameter} = {given!r}: {path} has no such column; use one of: {', '.join(frame)}")
        return given
    names = [name for name in usual if name in frame]
    names = names or [c for name in usual for c in frame if c.lower() == name.lower()]
    if not names:
        hint = ". The first line looks like data: is the header line missing?"
        raise DataError(
            f"{path}: no column is named {' or '.join(usual)}; set {parameter} to "
            f"one of: {', '.join(frame)}{hint if any(map(_is_number, frame)) else ''}"
        )
    return names[0]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def labels(texts: pd.Series, path: Path, low: float | None = None, high: float | None = None) -> pd.Series:
    """Convert labels to finite numbers. Decimal commas are supported unless they may be thousands separators.

    Args:
        texts: Cells of the label column, indexed by line number.
        path: File of the table, for errors.
        low: Minimum, or None.
        high: Maximum, or None.

    Raises:
        DataError: If a label is not a number or out of range. The message names the first such line.
    """
    numbers = pd.to_numeric(_with_points(texts), errors="coerce").astype(float)
    for bad, why in (
        (~np.isfinite(numbers), "not a number"),
        (numbers < (-np.inf if low is None else low), f"below {low}"),
        (numbers > (np.inf if high is None else high), f"above {high}"),
    ):
        if bad.any():
            line = bad.index[bad][0]
            raise DataError(f"{path}, line {line}: label {texts[line]!r} is {why} ({int(bad.sum())} such rows)")
    return numbers


def _with_points(texts: pd.Series) -> pd.Series:
    """Replace decimal commas (1,5) by points, unless every comma is followed by three digits or there is none."""
    matches = [re.fullmatch(r"[-+]?\d+(?:,(\d+))?", text) for text in texts]
    decimals = [match[1] for match in matches if match and match[1]]
    unambiguous = all(matches) and any(len(digits) != 3 for digits in decimals)
    return texts.str.replace(",", ".") if unambiguous else texts


def splits(texts: pd.Series, path: Path) -> pd.Series:
    """Convert a split column to lower-case "train" and "test". Raises DataError for other values or a missing part."""
    values = texts.str.lower()
    bad = ~values.isin(["train", "test"])
    if bad.any():
        line = bad.index[bad][0]
        raise DataError(f"{path}, line {line}: split {texts[line]!r} must be train or test")
    for part in ("train", "test"):
        if not (values == part).any():
            raise DataError(f"{path}: the split column has no row with {part!r}")
    return values
