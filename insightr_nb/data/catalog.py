"""Image table of a data set: labels, patients and split, with conflicting copies removed and the caps applied."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from insightr_nb.data import duplicates, split_file, splits, synthetic
from insightr_nb.data.layouts import DATA_SETS, DataSet, signs, table_path
from insightr_nb.data.split_file import PublishedSplit
from insightr_nb.errors import DataError
from insightr_nb.files import given_path
from insightr_nb.settings import DataSettings, LabelScale

COLUMNS = ["image_id", "patient_id", "label", "split", "source"]
_GRADES = LabelScale(0, 4)


@dataclass(frozen=True)
class ImageTable:
    """The images of a data set, before their files are read.

    Attributes:
        rows: image_id, patient_id, label, split ("train", "test", or "extra": prepared, but beyond the caps), and
            source (a path, or "synthetic:<seed>/<index>").
        scale: Range of the labels.
        grades: Whether the labels are integer grades, for which accuracy and kappa are defined.
        duplicates: Report of `duplicates.resolve`.
        before: Number of images per split and label before the caps.
        notes: Further notes for the user.
        split_file: The published folds, if a split file was given.
        listed: The label table before copies are removed and caps applied; None for synthetic images.
    """

    rows: pd.DataFrame
    scale: LabelScale
    grades: bool
    duplicates: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["group", "image_id", "happened"]))
    before: dict[str, dict[str, int]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    split_file: PublishedSplit | None = None
    listed: pd.DataFrame | None = None


def find(settings: DataSettings) -> ImageTable:
    """Build the image table of a data set, with conflicting copies removed and the caps per grade applied.

    Raises DataError that names the invalid file, row or value, and what is expected.
    """
    if settings.dataset == "synthetic":
        rows, scale, grades, notes = _synthetic(settings), _GRADES, True, []
    else:
        data_set = DATA_SETS[settings.dataset]
        folder = _folder(settings, data_set)
        rows, notes = data_set.read(folder, settings)
        scale = _scale(rows["label"], settings) if settings.dataset == "csv" else _GRADES
        grades = _are_grades(rows["label"], scale)
    split, listed = None, None
    copies = np.full(len(rows), -1)
    if settings.dataset != "synthetic":
        listed = rows.copy()
        copies = duplicates.identical_files(list(rows["source"]))
    if settings.split_file:  # the published split is used unchanged; copies are only reported
        split = split_file.read(settings, rows, scale)
        rows, report = split.rows, duplicates.resolve(rows, copies)[1].assign(happened="kept, as the split file has it")
        notes += split.notes
    else:
        before, given = rows, "split" in rows
        rows, report = duplicates.resolve(before, copies)
        training = before["split"] == "train" if given else np.full(len(before), True)
        kept = rows[rows["split"] == "train"] if given else rows
        needed = 2 if given else splits.TEST_PARTS  # 2: the fewest folds
        notes += duplicates.placeholder(before[training], copies[training], kept["patient_id"].nunique(), needed)
        if not given:
            rows["split"] = splits.split_off_test(rows, grades, settings.seed)
        splits.assert_no_shared_patient(rows)
    uncapped = {part: _counts(rows[rows["split"] == part]) for part in ("train", "test")}
    if split is None:
        rows = splits.cap(rows, settings, grades)
    rows = rows[COLUMNS].reset_index(drop=True)
    return ImageTable(rows, scale, grades, report, uncapped, tuple(notes), split, listed)


def table_rows(settings: DataSettings) -> pd.DataFrame:
    """Read the label table of a data folder: image_id, patient_id, label, split (if present) and source."""
    data_set = DATA_SETS[settings.dataset]
    return data_set.read(_folder(settings, data_set), settings)[0]


def table_name(settings: DataSettings) -> str | None:
    """Return the label table's name relative to the data folder for a csv data set, else None."""
    if settings.dataset != "csv":
        return None
    return settings.table or table_path(_folder(settings, DATA_SETS["csv"]), None).name


def _counts(rows: pd.DataFrame) -> dict[str, int]:
    return {f"{label:g}": int(count) for label, count in rows["label"].value_counts().sort_index().items()}


def _folder(settings: DataSettings, data_set: DataSet) -> Path:
    if not settings.folder:
        what = "the folder with its images and label table" if settings.dataset == "csv" else data_set.obtain
        raise DataError(f"data_folder: required to prepare {settings.store_name!r}; {what}")
    folder = given_path(settings.folder)
    try:
        if not folder.is_dir():
            raise DataError(f"data_folder = {settings.folder!r}: no such folder (looked for {folder.resolve()})")
        os.listdir(folder)
    except OSError as error:
        raise DataError(f"data_folder = {settings.folder!r}: cannot be read ({error.strerror})") from None
    others = [name for name, other in DATA_SETS.items() if signs(folder, other) and other is not data_set]
    if settings.dataset != "csv" and not signs(folder, data_set) and (data_set.signs or others):
        hint = (
            f"It looks like {others[0]}: use -p dataset {others[0]}"
            if others
            else (
                f"{settings.dataset} is recognised by {' or '.join(data_set.signs)}. {data_set.obtain}; "
                "for any other folder use -p dataset csv"
            )
        )
        raise DataError(f"data_folder = {settings.folder!r} is not {settings.dataset}. {hint}")
    return folder.resolve()


def _are_grades(labels: pd.Series, scale: LabelScale) -> bool:
    return bool((labels == labels.round()).all() and scale.maximum - scale.minimum <= 10)


def _synthetic(settings: DataSettings) -> pd.DataFrame:
    rows = synthetic.table(settings.train_images + settings.test_images, settings.seed)
    rows["source"] = [f"synthetic:{settings.seed}/{index}" for index in range(len(rows))]
    # Patients are not split, so an odd number of training images is rounded up to the next even one.
    patients = rows["patient_id"].to_numpy()
    first_test = settings.train_images + settings.train_images % 2
    rows["split"] = np.where(pd.factorize(patients)[0] < first_test // 2, "train", "test")
    return rows


def _scale(labels: pd.Series, settings: DataSettings) -> LabelScale:
    """Return the label range: from the settings, 0 to 4 for retinopathy grades, else the range of the labels."""
    low = float(labels.min()) if settings.label_min is None else settings.label_min
    high = float(labels.max()) if settings.label_max is None else settings.label_max
    given = settings.label_min is not None or settings.label_max is not None
    if not given and set(labels) <= {0, 1, 2, 3, 4} and labels.max() >= 3:
        return _GRADES
    if not low < high:
        raise DataError(f"{settings.folder}: all labels are {low:g}; a regression needs at least two distinct labels")
    return LabelScale(low, high)
