"""The image files that the rows of a label table refer to. Errors name the file, the line and the value."""

import os
import posixpath
import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath

import pandas as pd

from insightr_nb.errors import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")
_CLOSED = ("lost+found", "System Volume Information")  # at the root of a disk; not readable for users


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
        if len(matches) > 1 and len({os.path.realpath(folder / files[n]) for n in matches}) == 1:  # links to one file
            matches = matches[:1]
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
    refuse_undecodable(paths)
    unlisted = [file for n, file in enumerate(files) if n not in listed and not _of_the_system(file)]
    if unlisted:  # not links to listed files, nor what listed links lead to
        real = set(map(os.path.realpath, paths))
        unlisted = [file for file in unlisted if os.path.realpath(folder / file) not in real]
    return paths, list(map(printable, unlisted)), loosely


def _of_the_system(file: str) -> bool:
    """Whether a file is in a hidden folder or one created by an operating system, such as thumbnails or a trash."""
    folders = PurePosixPath(file).parts[:-1]
    return any(name.startswith(".") or name in ("@eaDir", "__MACOSX", "$RECYCLE.BIN") for name in folders)


def printable(name: str) -> str:
    """Return a name of a file with escapes in place of bytes that are not UTF-8, which cannot be written as text."""
    return name.encode("utf-8", "backslashreplace").decode()


def refuse_undecodable(paths: list[str]) -> None:
    """Raise DataError if a path is not UTF-8, because no table or JSON file can refer to it."""
    undecodable = [path for path in paths if printable(path) != path]
    if undecodable:
        raise DataError(
            f"{printable(undecodable[0])}: the name of the file or its folder is not UTF-8 ({len(undecodable)} such "
            "files), so a table cannot refer to it; rename it, for example with convmv"
        )


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
            suffix = PurePosixPath(file).suffix or "a name without suffix"
            return f"; found {file}, but {suffix} is not supported, only {', '.join(IMAGE_SUFFIXES)}"
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


def images_below(folder: Path) -> list[Path]:
    """List the image files below a folder, without those in hidden or system folders.

    Raises DataError if the folder is missing, unreadable or without images.
    """
    if not folder.is_dir():
        raise DataError(f"folder = {str(folder)!r}: no such folder")
    names = [name for name in _files(folder)[0] if not _of_the_system(name)]
    if not names:
        raise DataError(f"folder = {str(folder)!r}: no image files; supported are {', '.join(sorted(IMAGE_SUFFIXES))}")
    return [folder / name for name in names]


def _files(folder: Path) -> tuple[list[str], list[str]]:
    """List the image files and all other files below a folder, as paths relative to it with `/`.

    Links are followed, except one to a folder that contains it. Folders of the system that cannot be read are skipped.
    Raises DataError that names any other unreadable folder.
    """

    def closed(error: OSError) -> None:
        inside = Path(os.path.relpath(error.filename, folder)).as_posix()
        if not (_of_the_system(f"{inside}/file") or PurePosixPath(inside).name in _CLOSED):
            raise DataError(f"{error.filename}: cannot be read ({error.strerror}); grant permission to list it")

    paths = []
    for root, folders, names in os.walk(folder, followlinks=True, onerror=closed):
        here = Path(os.path.realpath(root))
        folders[:] = [name for name in folders if not here.is_relative_to(os.path.realpath(os.path.join(root, name)))]
        paths += [Path(os.path.relpath(os.path.join(root, n), folder)).as_posix() for n in names if n[:2] != "._"]
    paths.sort()
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
