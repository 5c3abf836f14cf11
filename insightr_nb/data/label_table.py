"""Label tables (CSV) and the image files of their rows. Errors name the file, the line and the value."""

import codecs
import csv
import os
import posixpath
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pandas as pd

from insightr_nb.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")


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


def image_id(name: str) -> str:
    """Return the name of an image without the suffix of an image file, keeping its subfolder."""
    return str(PurePosixPath(name).with_suffix("")) if is_image(name) else name


def is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def sources(names: pd.Series, folder: Path, path: Path) -> tuple[list[str], list[str], list[str]]:
    """Find the image file of every row of a label table.

    Composed and decomposed accents are equivalent. If no file matches exactly, the case of letters is ignored.

    Args:
        names: Image names with or without suffix or subfolder, indexed by line number.
        folder: Folder that contains the images, possibly in subfolders.
        path: File of the table, for errors.

    Returns:
        The file of every row, the image files without a row, and the matches that differ in case.

    Raises:
        DataError: If a name leads out of the folder, matches no file or several, or is repeated.
    """
    files, others = _files(folder)
    known: dict[str, tuple[int, ...]] = {}
    loose: dict[str, tuple[int, ...]] = {}
    wanted = {_composed(name) for name in names}
    wanted_loose = {name.lower() for name in wanted}
    for number, file in enumerate(files):
        inside = PurePosixPath(_composed(file))
        keys = {str(inside), str(inside.with_suffix("")), inside.name, inside.stem}
        for key in keys & wanted:
            known[key] = (*known.get(key, ()), number)
        for key in {key.lower() for key in keys} & wanted_loose:
            loose[key] = (*loose.get(key, ()), number)
    listed: dict[int, int] = {}  # file number -> line
    missing: list[tuple[str, int]] = []
    loosely: list[str] = []
    for line, name in names.items():
        refuse_path(name, f"{path}, line {line}: image", folder)
        same = _composed(name)
        matches = known.get(same) or loose.get(same.lower(), ())
        if len(matches) > 1:  # a full path relative to the folder is never ambiguous
            matches = [n for n in matches if files[n] == name] or matches
        if len(matches) > 1:
            matches = [n for n in matches if _composed(files[n]) == same] or matches
        if len(matches) > 1:
            matches = [n for n in matches if not _of_the_system(files[n])] or matches
        if len(matches) > 1:
            ambiguous = ", ".join(str(folder / files[n]) for n in matches[:3])
            raise DataError(f"{path}, line {line}: image {name!r} matches several files, name one of: {ambiguous}")
        if not matches:
            missing.append((name, line))
        elif matches[0] in listed:
            raise DataError(
                f"{path}, line {line}: image {name!r} is already in line {listed[matches[0]]}; both refer to "
                f"{folder / files[matches[0]]}. Keep one row per image"
            )
        else:
            listed[matches[0]] = line
            if same not in known:
                loosely.append(f"{name} and {files[matches[0]]}")
    if missing:
        named = ", ".join(f"{name!r} (line {line}{_near(name, files, others)})" for name, line in missing[:5])
        raise DataError(
            f"{path}: {len(missing)} images have no file below {folder}: {named}" + (" ..." if len(missing) > 5 else "")
        )
    paths = [os.path.join(folder, files[n]) for n in listed]
    undecodable = [source for source in paths if _printable(source) != source]
    if undecodable:
        raise DataError(
            f"{_printable(undecodable[0])}: the name of the file or its folder is not UTF-8 ({len(undecodable)} such "
            "images), so a table cannot refer to it; rename it, for example with convmv"
        )
    unlisted = [_printable(file) for n, file in enumerate(files) if n not in listed and not _of_the_system(file)]
    return paths, unlisted, loosely


def _of_the_system(file: str) -> bool:
    """Whether a file is in a hidden folder or one created by an operating system, such as thumbnails or a trash."""
    folders = PurePosixPath(file).parts[:-1]
    return any(name.startswith(".") or name in ("@eaDir", "__MACOSX", "$RECYCLE.BIN") for name in folders)


def _printable(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _composed(name: str) -> str:
    """Normalise to composed accents (NFC), because macOS stores them decomposed and other systems do not."""
    return unicodedata.normalize("NFC", name)


def _near(name: str, files: list[str], others: list[str]) -> str:
    """Hint on a file similar to a missing one: another suffix, leading zeros, or an unsupported format."""
    for file in files:
        if _stem(file) == _stem(name):
            return f"; found {file}"
    for file in others:
        if _stem(file) == _stem(name):
            suffixes = ", ".join(IMAGE_SUFFIXES)
            return f"; found {file}, but {PurePosixPath(file).suffix} is not supported, only {suffixes}"
    number = (_stem(name) if is_image(name) else name).removesuffix(".0").lstrip("0")
    return next((f"; found {file}" for file in files if _stem(file).lstrip("0") == number), "")


def _stem(file: str) -> str:
    return PurePosixPath(_composed(file)).stem.lower()


def plain(name: str, folder: Path) -> str:
    """Normalise a name to a path relative to the folder: without `./` and `//`, and with `/` instead of backslashes.

    A name that leads out of the folder is returned unchanged; `refuse_path` rejects it later.
    """
    given = name.replace("\\", "/")
    if given.startswith("/") or PureWindowsPath(given).drive:
        real = Path(given) if Path(given).is_relative_to(folder) else Path(given).resolve()  # may be a link
        given = Path(os.path.relpath(real, folder)).as_posix() if real.is_relative_to(folder) else name
    changed = posixpath.normpath(given) if given else given
    return name if changed.startswith("..") or changed == "." else changed


def _files(folder: Path) -> tuple[list[str], list[str]]:
    """List the image files and all other files below a folder, as paths relative to it with `/`.

    Raises DataError that names an unreadable folder.
    """

    def closed(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror}); grant permission to list it")

    below = os.walk(folder, followlinks=True, onerror=closed)
    paths = sorted(
        Path(os.path.relpath(os.path.join(root, name), folder)).as_posix()
        for root, _, names in below
        for name in names
        if not name.startswith("._")
    )
    return [p for p in paths if is_image(p)], [p for p in paths if not is_image(p)]


def refuse_path(name: str, what: str, folder: Path | str) -> None:
    """Raise DataError if a name is empty or could lead out of the folder.

    Args:
        name: Name to check.
        what: Subject of the error message.
        folder: Folder named in the error message.
    """
    if ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute() or "\\" in name or not name:
        raise DataError(f"{what} {name!r} must be the name of a file below {folder}")
