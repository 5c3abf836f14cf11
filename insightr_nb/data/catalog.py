"""Which data sets exist, and how their images, labels and patients are found."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from insightr_nb.data import splits, synthetic
from insightr_nb.errors import DataError
from insightr_nb.settings import DataSettings, LabelScale

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")
_IMAGE_COLUMNS = ("image", "image_id", "id_code", "file", "filename")
_LABEL_COLUMNS = ("label", "level", "grade", "diagnosis")


@dataclass(frozen=True)
class ImageTable:
    """The images of a data set, before they are read.

    rows: image_id, patient_id, label, split ("train" or "test"), source (a path, or "synthetic:<seed>/<index>").
    scale: the range of the labels. grades: whether they are integer grades, so that accuracy and kappa have a meaning.
    """

    rows: pd.DataFrame
    scale: LabelScale
    grades: bool


def find(settings: DataSettings) -> ImageTable:
    """The table of the data set that the settings name, capped to what the splits can use.

    Raises DataError that names the file, row or value that cannot be used, and what would be right.
    """
    table = _synthetic(settings) if settings.dataset == "synthetic" else _csv(settings)
    return ImageTable(splits.cap(table.rows, settings, table.grades), table.scale, table.grades)


def _synthetic(settings: DataSettings) -> ImageTable:
    rows = synthetic.table(settings.train_images + settings.test_images, settings.seed)
    rows["source"] = [f"synthetic:{settings.seed}/{index}" for index in range(len(rows))]
    # whole patients, so an odd number of training images gives the odd eye to the training part
    patients = rows["patient_id"].to_numpy()
    first_test = settings.train_images + settings.train_images % 2
    rows["split"] = np.where(pd.factorize(patients)[0] < first_test // 2, "train", "test")
    return ImageTable(rows[["image_id", "patient_id", "label", "split", "source"]], LabelScale(0, 4), True)


def _csv(settings: DataSettings) -> ImageTable:
    folder = _folder(settings)
    path = _table_path(folder, settings.table)
    frame = _read(path)
    frame.columns = [str(c).strip() for c in frame.columns]
    if frame.empty:
        raise DataError(f"{path}: the table has no rows")

    image_column = _column(frame, settings.image_column, _IMAGE_COLUMNS, "image_column", path)
    label_column = _column(frame, settings.label_column, _LABEL_COLUMNS, "label_column", path)
    labels = _labels(frame[label_column], settings, path)
    scale = LabelScale(
        float(labels.min()) if settings.label_min is None else settings.label_min,
        float(labels.max()) if settings.label_max is None else settings.label_max,
    )
    if (
        settings.label_min is None
        and settings.label_max is None
        and set(labels) <= {0, 1, 2, 3, 4}
        and labels.max() >= 3
    ):
        scale = LabelScale(0, 4)  # grades of diabetic retinopathy, even where one is not in the table
    if not scale.minimum < scale.maximum:
        raise DataError(f"{path}: every label is {scale.minimum:g}; a regression needs at least two different ones")

    rows = pd.DataFrame({"source": _sources(frame[image_column], folder, path), "label": labels})
    rows["image_id"] = [str(PurePosixPath(name).with_suffix("")) if _is_image(name) else name for name in
                        frame[image_column].str.strip()]  # fmt: skip
    repeated = rows["image_id"][rows["image_id"].duplicated()]
    if len(repeated):
        line = repeated.index[0] + 2
        raise DataError(f"{path}: image {repeated.iloc[0]!r} is listed twice (again in line {line}); one row an image")
    for line, (source, again) in enumerate(zip(rows["source"], rows["source"].duplicated(), strict=True), start=2):
        if again:
            raise DataError(
                f"{path}: file {source} is listed twice, by two names (again in line {line}); one row an image"
            )
    patient = settings.patient_column and _column(frame, settings.patient_column, (), "patient_column", path)
    rows["patient_id"] = frame[patient].str.strip() if patient else rows["image_id"]
    if (rows["patient_id"] == "").any():
        line = int(np.flatnonzero(rows["patient_id"] == "")[0]) + 2
        raise DataError(f"{path}, line {line}: the patient in column {patient!r} is empty; every image needs one")
    grades = bool((labels == labels.round()).all() and scale.maximum - scale.minimum <= 10)
    if settings.split_column:
        rows["split"] = _splits(frame[_column(frame, settings.split_column, (), "split_column", path)], path)
        splits.assert_no_shared_patient(rows)
    else:
        rows["split"] = splits.split_off_test(rows, grades, settings.seed)
    return ImageTable(rows[["image_id", "patient_id", "label", "split", "source"]], scale, grades)


def _folder(settings: DataSettings) -> Path:
    if not settings.folder:
        raise DataError(
            f"data_folder: needed to prepare {settings.store_name!r}; the folder with its images and label table"
        )
    folder = Path(settings.folder).expanduser()
    if not folder.is_dir():
        raise DataError(f"data_folder = {settings.folder!r}: no such folder (looked for {folder.resolve()})")
    return folder.resolve()


def _table_path(folder: Path, given: str | None) -> Path:
    if given:
        path = folder / given
        if not path.is_file():
            found = sorted(p.name for p in folder.glob("*.csv"))
            raise DataError(f"table = {given!r}: no such file in {folder}; tables there: {found or 'none'}")
        return path
    found = sorted(folder.glob("*.csv"))
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise DataError(f"{folder}: one label table (*.csv) is expected, found {names}; give the parameter table")
    return found[0]


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a table (CSV in UTF-8, first line the columns' names): {error}") from None


def _column(frame: pd.DataFrame, given: str | None, usual: tuple[str, ...], parameter: str, path: Path) -> str:
    if given is not None:
        if given not in frame:
            raise DataError(f"{parameter} = {given!r}: {path} has no such column; its columns: {', '.join(frame)}")
        return given
    found = [name for name in usual if name in frame]
    if not found:
        raise DataError(f"{path}: which column? None is called {' or '.join(usual)}; give {parameter}, "
                        f"one of: {', '.join(frame)}")  # fmt: skip
    return found[0]


def _labels(texts: pd.Series, settings: DataSettings, path: Path) -> pd.Series:
    labels = pd.to_numeric(texts.str.strip(), errors="coerce").astype(float)
    for bad, why in (
        (~np.isfinite(labels), "not a number"),
        (labels < (-np.inf if settings.label_min is None else settings.label_min), f"below {settings.label_min}"),
        (labels > (np.inf if settings.label_max is None else settings.label_max), f"above {settings.label_max}"),
    ):
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise DataError(f"{path}, line {row + 2}: label {texts.iloc[row]!r} is {why} ({int(bad.sum())} such rows)")
    return labels


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def _sources(names: pd.Series, folder: Path, path: Path) -> list[str]:
    """The file of every row: below the folder, with or without its suffix or its subfolder in the table."""
    files = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in IMAGE_SUFFIXES]
    exact = set(files)  # a path from the folder on is never ambiguous
    known: dict[str, list[Path]] = {}
    for file in files:
        inside = file.relative_to(folder)
        for key in {str(inside), str(inside.with_suffix("")), file.name, file.stem}:
            known.setdefault(key, []).append(file)
    sources, missing = [], []
    for row, name in enumerate(names.str.strip()):
        if ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute() or "\\" in name or not name:
            raise DataError(f"{path}, line {row + 2}: image {name!r} must be the name of a file below {folder}")
        matches = [folder / name] if folder / name in exact else known.get(name, [])
        if len(matches) > 1:
            raise DataError(
                f"{path}, line {row + 2}: image {name!r} could be any of {', '.join(map(str, matches[:3]))}"
            )
        if not matches:
            missing.append((row + 2, name))
        sources.append(str(matches[0]) if matches else "")
    if missing:
        listed = ", ".join(f"{name!r} (line {line})" for line, name in missing[:5])
        raise DataError(f"{path}: {len(missing)} images have no file below {folder}: {listed}"
                        + (" ..." if len(missing) > 5 else ""))  # fmt: skip
    return sources


def _splits(texts: pd.Series, path: Path) -> pd.Series:
    values = texts.str.strip().str.lower()
    bad = ~values.isin(["train", "test"])
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise DataError(f"{path}, line {row + 2}: split {texts.iloc[row]!r} must be train or test")
    for part in ("train", "test"):
        if not (values == part).any():
            raise DataError(f"{path}: the split column has no row with {part!r}")
    return values
