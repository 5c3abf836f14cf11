"""Layouts of the supported data sets: how to recognise each, and where its images, labels and patients are."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from insightr_nb.data import image_files, label_table, patients
from insightr_nb.errors import DataError
from insightr_nb.files import atomic, given_path
from insightr_nb.settings import DataSettings

_IMAGE_COLUMNS = ("image", "image_id", "id_code", "file", "filename")  # usual names of the image column
_EYE = re.compile(r"(?P<patient>.+)_(?P<eye>left|right)")


@dataclass(frozen=True)
class DataSet:
    """A supported data set.

    Attributes:
        title: Full name.
        read: Function from folder and settings to rows (image_id, patient_id, label, split if known, source) and
            notes for the user.
        signs: Glob patterns; any match identifies this data set.
        licence: Licence.
        citation: Reference to cite.
        obtain: Where to get the data set, for errors.
    """

    title: str
    read: Callable[[Path, DataSettings], tuple[pd.DataFrame, list[str]]]
    signs: tuple[str, ...] = ()
    licence: str = ""
    citation: str = ""
    obtain: str = ""


def signs(folder: Path, data_set: DataSet) -> list[str]:
    """Return the glob patterns of a data set that match in a folder."""
    return [sign for sign in data_set.signs if next(folder.glob(sign), None)]


def _csv(folder: Path, settings: DataSettings) -> tuple[pd.DataFrame, list[str]]:
    path = table_path(folder, settings.table)
    frame, nameless = label_table.read(path), None
    if not (settings.image_column or settings.label_column or {c.lower() for c in frame} & set(_IMAGE_COLUMNS)):
        nameless = label_table.read_nameless(path)
        frame = frame if nameless is None else nameless
    image = label_table.column(frame, settings.image_column, _IMAGE_COLUMNS, "image_column", path)
    label = label_table.column(
        frame, settings.label_column, ("label", "level", "grade", "diagnosis"), "label_column", path
    )
    rows, notes = _rows(frame, image, label, folder, path, settings.label_min, settings.label_max, grades=False)
    if nameless is not None:
        notes = [f"{path.name} has no header line; its columns are assumed to be {', '.join(frame)}", *notes]
    if settings.label_min is None and settings.label_max is None:
        notes += _placeholder_labels(rows["label"], path)
    if settings.patient_column == patients.FROM_NAMES and patients.FROM_NAMES not in frame:
        guessed = patients.by_name(rows["image_id"])
        if guessed is None:
            raise DataError(
                f"patient_column = {patients.FROM_NAMES!r}: no names in {path} pair up like 12_left and 12_right; add "
                "the patients to the table and name their column"
            )
        rows["patient_id"] = guessed
        notes = [*notes, f"{guessed.nunique()} patients for {len(rows)} images, {patients.GUESSED}"]
    elif settings.patient_column:
        patient = label_table.column(frame, settings.patient_column, (), "patient_column", path)
        if (frame[patient] == "").any():
            line = frame.index[frame[patient] == ""][0]
            raise DataError(f"{path}, line {line}: column {patient!r} is empty; every image needs a patient")
        rows["patient_id"] = frame[patient]
    else:
        notes = [*notes, patients.UNKNOWN + "; set patient_column if the table has one"]
        notes += patients.suggestion(rows["image_id"])
    if settings.split_column:
        split = frame[label_table.column(frame, settings.split_column, (), "split_column", path)]
        rows["split"] = label_table.splits(split, path)
    return rows.reset_index(drop=True), notes


def _rows(
    frame: pd.DataFrame,
    image: str,
    label: str,
    folder: Path,
    path: Path,
    low: float | None = 0,
    high: float | None = 4,
    grades: bool = True,
) -> tuple[pd.DataFrame, list[str]]:
    """Read image_id, patient_id (one per image), label and source, indexed by line number; also return notes."""
    labels = label_table.labels(frame[label], path, low, high)
    if grades and (labels != labels.round()).any():
        line = labels.index[labels != labels.round()][0]
        raise DataError(f"{path}, line {line}: label {frame[label][line]!r} is not a grade; use an integer")
    names = frame[image].map(lambda name: image_files.plain(name, folder))
    sources, unlisted, loosely = image_files.sources(names, folder, path)
    ids = names.map(image_files.image_id)
    repeated = ids.duplicated()
    if repeated.any():
        line = ids.index[repeated][0]
        raise DataError(
            f"{path}, line {line}: image {frame[image][line]!r} has the same id {ids[line]!r} as line "
            f"{ids.index[ids == ids[line]][0]}; rename it, names must differ before the suffix"
        )
    rows = pd.DataFrame({"image_id": ids, "patient_id": ids, "label": labels, "source": sources}, index=frame.index)
    examples = ", ".join(unlisted[:3]) + (" ..." if len(unlisted) > 3 else "")
    notes = [f"{len(unlisted)} image files have no row in {path.name} and are ignored: {examples}"] * bool(unlisted)
    if loosely:
        notes.append(
            f"{len(loosely)} names in {path.name} differ from their files in letter case, such as {loosely[0]}"
        )
    return rows, notes


_OTHER_TABLES = (".tsv", ".txt", ".xlsx", ".xls", ".ods")


def table_path(folder: Path, given: str | None) -> Path:
    """Return the label table of a folder: the given one, else the only one. Raises DataError if there is none."""
    if given:
        path = folder / given_path(given)
        if not path.is_file():
            names = ", ".join(p.name for p in label_table.candidates(folder)) or "none"
            raise DataError(f"table = {given!r}: no such file in {folder}; tables in it: {names}")
        return path
    tables = label_table.candidates(folder)
    if len(tables) != 1:
        names = ", ".join(p.name for p in tables) or "none"
        others = [name for name, other in DATA_SETS.items() if signs(folder, other)]
        hint = f". The folder looks like {others[0]}: -p dataset {others[0]}" if others else ""
        if not tables:
            other = [p.name for p in sorted(folder.iterdir()) if p.suffix.lower() in _OTHER_TABLES]
            hint += f". Found {other[0]}: set table to a text file, or save an Excel file as CSV UTF-8" if other else ""
        raise DataError(f"{folder}: expected one label table (*.csv), found {names}; set the parameter table{hint}")
    image_files.refuse_undecodable([str(tables[0])])
    return tables[0]


def _placeholder_labels(labels: pd.Series, path: Path) -> list[str]:
    """Notes on labels such as -1, 5 or 99, which stand apart from the others and may mean "cannot be graded"."""
    values = np.unique(labels)
    rest = values[values >= 0]
    placeholders = list(values[:1]) if len(values) == len(rest) + 1 and values[0] == round(values[0]) else []
    if len(rest) > 2 and _is_placeholder(rest[-1], rest[:-1]):
        placeholders, rest = [*placeholders, rest[-1]], rest[:-1]
    return [
        f"{path.name}: label {value:g} ({(labels == value).sum()} rows) stands apart from the others, {rest[0]:g} to "
        f'{rest[-1]:g}, but is used. If it means "cannot be graded", remove its rows from the table'
        for value in placeholders
        if len(rest) > 1
    ]


def _is_placeholder(value: float, others: np.ndarray) -> bool:
    """Whether a label above all others, sorted, is beyond grades up to 3 or 4, or a code such as 9 or 99."""
    low, high = others[0], others[-1]
    if (others != others.round()).any() or value <= 4:
        return False
    consecutive = low <= 1 and high - low == len(others) - 1 and high <= 10
    return (low == 0 and 3 <= high <= 4) or (consecutive and value >= 9 and value > high + 1)


def _eyepacs(folder: Path, settings: DataSettings) -> tuple[pd.DataFrame, list[str]]:
    parts = [_eyepacs_part(folder, "train", "trainLabels.csv")]
    notes = parts[0][1]
    if (folder / "test").is_dir() or next(folder.glob("test.zip*"), None):
        parts.append(_eyepacs_part(folder, "test", "retinopathy_solution.csv"))
        notes = notes + parts[1][1]
    else:
        notes = notes + ["no folder test/: 20 % of the patients of train/ form the test set"]
    rows = pd.concat([part for part, _ in parts], ignore_index=True)
    return (rows if len(parts) > 1 else rows.drop(columns="split")), notes


def _eyepacs_part(folder: Path, part: str, table: str) -> tuple[pd.DataFrame, list[str]]:
    if not (folder / part).is_dir():
        zipped = sorted(p.name for p in folder.glob(f"{part}.zip*"))
        if not zipped:
            fix = "it contains the photographs"
        elif zipped == [f"{part}.zip"]:
            fix = f"unzip {zipped[0]} in {folder}"
        else:
            fix = (
                f"its parts are still zipped ({', '.join(zipped[:3])}{' ...' if len(zipped) > 3 else ''}). Join and "
                f"unpack them in {folder}: cat {part}.zip.* > {part}_all.zip && unzip {part}_all.zip"
            )
        raise DataError(f"{folder}: the folder {part}/ is missing; {fix}")
    path = folder / table
    if not path.is_file():
        if (folder / f"{table}.zip").is_file():
            raise DataError(f"{path} is still zipped: unzip {table}.zip in {folder}")
        raise DataError(
            f"{path} is missing: the labels of {part}/ (columns image, level); download it from the competition's page"
        )
    frame = label_table.read(path)
    columns = [label_table.column(frame, None, (name,), "column", path) for name in ("image", "level")]
    rows, notes = _rows(frame, *columns, folder / part, path)
    eyes = rows["image_id"].str.fullmatch(_EYE)
    if not eyes.all():
        line = eyes.index[~eyes][0]
        raise DataError(f"{path}, line {line}: image {rows['image_id'][line]!r} is not named <patient>_<left|right>")
    rows["patient_id"] = rows["image_id"].str.extract(_EYE)["patient"]
    return rows.assign(split=part), notes


def _aptos2019(folder: Path, settings: DataSettings) -> tuple[pd.DataFrame, list[str]]:
    path, images = folder / "train.csv", folder / "train_images"
    for required in (path, images):
        if not required.exists():
            raise DataError(f"{required} is missing; {DATA_SETS['aptos2019'].obtain}")
    frame = label_table.read(path)
    columns = [label_table.column(frame, None, (name,), "column", path) for name in ("id_code", "diagnosis")]
    rows, notes = _rows(frame, *columns, images, path)
    return rows.reset_index(drop=True), [*notes, patients.UNKNOWN]


def _idrid(folder: Path, settings: DataSettings) -> tuple[pd.DataFrame, list[str]]:
    inner = folder / "B. Disease Grading"
    folder = inner if inner.is_dir() else folder
    parts, notes = [], [patients.UNKNOWN]
    for letter, part, name in (("a", "train", "Training"), ("b", "test", "Testing")):
        images = folder / "1. Original Images" / f"{letter}. {name} Set"
        path = folder / "2. Groundtruths" / f"{letter}. IDRiD_Disease Grading_{name} Labels.csv"
        for required in (images, path):
            if not required.exists():
                raise DataError(f"{required} is missing; {DATA_SETS['idrid'].obtain}")
        frame = label_table.read(path)
        columns = [label_table.column(frame, None, (c,), "column", path) for c in ("Image name", "Retinopathy grade")]
        rows, more = _rows(frame, *columns, images, path)
        rows["image_id"] = rows["patient_id"] = f"{part}_" + rows["image_id"]  # both parts start at IDRiD_001
        parts.append(rows.assign(split=part))
        notes += more
    return pd.concat(parts, ignore_index=True), notes


def _retinamnist(folder: Path, settings: DataSettings) -> tuple[pd.DataFrame, list[str]]:
    """Unpack medmnist's arrays to PNG files in a subfolder. Its training and validation sets form our training part."""
    try:
        import medmnist
    except ImportError:
        raise DataError("dataset = 'retinamnist' needs the package medmnist: pip install medmnist") from None
    sides = {28: "retinamnist.npz"} | {s: f"retinamnist_{s}.npz" for s in (64, 128, 224)}
    available = [s for s, name in sides.items() if (folder / name).is_file()] or list(sides)
    side = next((s for s in available if s >= settings.size), available[-1])  # smallest sufficient, else the largest
    enlarged = f"the largest available images have {side} px and are enlarged to {settings.size} px"
    notes = [enlarged] * (side < settings.size)
    archive = folder / sides[side]
    unpacked, parts = folder / f"retinamnist_{side}_png", []
    for part in ("train", "val", "test"):
        try:
            data = medmnist.RetinaMNIST(split=part, root=str(folder), size=side, download=not archive.is_file())
        except Exception as error:
            raise DataError(
                f"{archive} cannot be read or downloaded: {error}. {DATA_SETS['retinamnist'].obtain}"
            ) from error
        names = [f"{part}_{i:04d}" for i in range(len(data.labels))]
        files = [unpacked / f"{name}.png" for name in names]
        try:
            unpacked.mkdir(exist_ok=True)
            for file, image in zip(files, data.imgs, strict=True):
                if not file.exists():
                    with atomic(file) as temporary:
                        temporary.write_bytes(cv2.imencode(".png", image[..., ::-1])[1])
        except OSError as error:
            raise DataError(f"{unpacked}: the images of {archive.name} cannot be written ({error.strerror})") from error
        rows = {"image_id": names, "patient_id": names, "label": data.labels[:, 0].astype(float)}
        sources = [str(file) for file in files]
        parts.append(pd.DataFrame(rows).assign(split="test" if part == "test" else "train", source=sources))
    return pd.concat(parts, ignore_index=True), [*notes, patients.UNKNOWN]


DATA_SETS: dict[str, DataSet] = {
    "csv": DataSet("Any folder of images with a label table", _csv),
    "eyepacs": DataSet(
        "EyePACS: Kaggle, Diabetic Retinopathy Detection (2015)",
        _eyepacs,
        ("trainLabels.csv", "trainLabels.csv.zip", "train.zip.0*", "retinopathy_solution.csv"),
        licence="the competition's rules; provided by EyePACS for research",
        citation="Cuadros and Bresnick, EyePACS: An Adaptable Telemedicine System for Diabetic Retinopathy Screening, "
        "J Diabetes Sci Technol 2009, 3(3)",
        obtain="kaggle.com/c/diabetic-retinopathy-detection: the folder with train/, test/, trainLabels.csv and "
        "retinopathy_solution.csv",
    ),
    "aptos2019": DataSet(
        "APTOS 2019 Blindness Detection (Kaggle)",
        _aptos2019,
        ("train_images",),
        licence="the competition's rules",
        citation="Karthik, Maggie, Dane: APTOS 2019 Blindness Detection, Kaggle 2019",
        obtain="kaggle.com/c/aptos2019-blindness-detection: the folder with train.csv and train_images/",
    ),
    "idrid": DataSet(
        "IDRiD, part B: disease grading",
        _idrid,
        ("B. Disease Grading", "1. Original Images"),
        licence="CC BY 4.0",
        citation="Porwal et al., Indian Diabetic Retinopathy Image Dataset (IDRiD), Data 2018, 3(3), 25",
        obtain="ieee-dataport.org, doi 10.21227/H25W98: the folder with '1. Original Images' and '2. Groundtruths' of "
        "'B. Disease Grading'",
    ),
    "retinamnist": DataSet(
        "RetinaMNIST (MedMNIST v2, from DeepDRiD)",
        _retinamnist,
        licence="CC BY 4.0",
        citation="Yang et al., MedMNIST v2, Scientific Data 2023, 10, 41; Liu et al., DeepDRiD, Patterns 2022",
        obtain="set data_folder to any folder: medmnist downloads into it; or put retinamnist_<size>.npz of "
        "medmnist.com there",
    ),
}
