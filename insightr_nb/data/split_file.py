"""Split files in the format published by the paper's authors: JSON with the rows of every fold.

{"Fold 0": {"train": {"files": [...], "labels": [...], "fussed_labels": [...]}, "val": {...}}, "Fold 1": ...}; the test
part is a separate file: {"files": [...], "labels": [...]}. Names have no suffix; labels are 1 to 5. Files of rare
grades are repeated with different continuous labels ("fussed"), so the unit is the row, not the image.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from insightr_nb import files
from insightr_nb.data import image_files
from insightr_nb.data.splits import Split
from insightr_nb.errors import DataError
from insightr_nb.settings import DataSettings, LabelScale


@dataclass(frozen=True)
class PublishedSplit:
    """A split file matched to the images of a data set.

    Attributes:
        rows: The images in the file, with its labels in the user's units and split "train" or "test".
        folds: For each fold and part ("train", "val"), the image ids in the file's order, and their continuous labels
            if given.
        notes: Notes for the user.
    """

    rows: pd.DataFrame
    folds: list[dict[str, dict[str, list]]]
    notes: list[str]


def read(settings: DataSettings, rows: pd.DataFrame, scale: LabelScale) -> PublishedSplit:
    """Read the split of `settings.split_file` and `settings.test_split_file`.

    Args:
        settings: Settings that name the files. Without `test_split_file`, the data set's own test part is used.
        rows: Images of the data set: image_id, label, and split if known.
        scale: Range of the user's labels.

    Returns:
        The split.

    Raises:
        DataError: If an entry is invalid. The message names the file, fold, part and position.
    """
    path = files.given_path(settings.split_file)
    content = _json(path)
    names = sorted((k for k in content if k.startswith("Fold ")), key=lambda k: int(k[5:]) if k[5:].isdigit() else -1)
    if names != [f"Fold {i}" for i in range(len(names))] or not names:
        raise DataError(f"split_file {path}: expected 'Fold 0', 'Fold 1', ..., found {', '.join(content) or 'nothing'}")
    folds, label_of = [], {}
    for name in names:
        fold = {}
        for part in ("train", "val"):
            ids, labels = _part(content[name], part, f"split_file {path}, {name}", scale, label_of)
            fold[part] = {"image_ids": ids, **labels}
        if ("continuous" in fold["train"]) != ("continuous" in fold["val"]):
            raise DataError(f"split_file {path}, {name}: 'fussed_labels' must be in both train and val, or in neither")
        folds.append(fold)
    trained = dict(label_of)
    if settings.test_split_file:
        test_path = files.given_path(settings.test_split_file)
        tested, _ = _part({"test": _json(test_path)}, "test", f"test_split_file {test_path}", scale, label_of)
    else:
        if "split" not in rows:
            raise DataError(f"split_file {path}: this data set has no test set; set test_split_file as well")
        tested = list(rows.loc[rows["split"] == "test", "image_id"])
    shared = set(tested) & set(trained)
    if shared:
        raise DataError(
            f"split_file {path}: {len(shared)} images are in both training and test set: "
            f"{', '.join(sorted(shared)[:5])}"
        )
    known = set(rows["image_id"])
    missing = [name for name in label_of if name not in known]
    if missing:
        raise DataError(
            f"split_file {path}: {len(missing)} of its images are not in the data set: "
            f"{', '.join(missing[:5])}" + (" ..." if len(missing) > 5 else "")
        )
    side = dict.fromkeys(trained, "train") | dict.fromkeys(tested, "test")
    used = rows[rows["image_id"].isin(side)]
    label = used["image_id"].map(label_of).fillna(used["label"])
    changed = int((label != used["label"]).sum())
    notes = [
        f"split file: {len(used)} images in {len(folds)} folds, with the labels of the file"
        + (f", which differ from the data set's for {changed} images" if changed else "")
    ]
    used = used.assign(label=label, split=used["image_id"].map(side)).reset_index(drop=True)
    return PublishedSplit(used, folds, notes)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"split_file = {str(path)!r}: cannot be read ({error.strerror})") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"split_file = {str(path)!r}: not valid JSON ({error})") from None
    if not isinstance(content, dict):
        raise DataError(f"split_file = {str(path)!r}: expected a JSON object, not {type(content).__name__}")
    return content


def _part(
    content: Any, part: str, where: str, scale: LabelScale, label_of: dict[str, float]
) -> tuple[list[str], dict[str, list[float]]]:
    """Return the image ids and continuous labels (user's units) of a part, and add its labels to `label_of`."""
    entry = content.get(part) if isinstance(content, dict) else None
    if not isinstance(entry, dict) or not isinstance(entry.get("files"), list):
        raise DataError(f"{where}: expected {part!r} with the lists 'files' and 'labels'")
    names, values = entry["files"], {}
    for key in ("labels", "fussed_labels"):
        if key == "fussed_labels" and key not in entry:
            continue
        listed = entry.get(key)
        if not isinstance(listed, list) or len(listed) != len(names):
            count = len(listed) if isinstance(listed, list) else "no"
            raise DataError(f"{where}, {part}: {len(names)} files but {count} {key}")
        numbers = pd.to_numeric(pd.Series(listed, dtype=object), errors="coerce").to_numpy(float)
        low, high = (1, 5) if key == "labels" else (0.5, 5.5)
        bad = ~((numbers >= low) & (numbers <= high) & ((key != "labels") | (numbers == np.round(numbers))))
        if bad.any():
            i = int(np.flatnonzero(bad)[0])
            kind = "an integer grade from 1 to 5" if key == "labels" else "a number from 0.5 to 5.5"
            raise DataError(f"{where}, {part}: {key}[{i}] = {listed[i]!r} of file {names[i]!r} must be {kind}")
        values[key] = scale.to_user(numbers)
    for i, (name, label) in enumerate(zip(names, values["labels"], strict=True)):
        if not isinstance(name, str):
            raise DataError(f"{where}, {part}: files[{i}] = {name!r} must be a string")
        image_files.refuse_path(name, f"{where}, {part}: files[{i}] =", "the data set's folder")
        if label_of.setdefault(name, label) != label:
            raise DataError(
                f"{where}, {part}: {name!r} has label {scale.to_model(label):g} here and "
                f"{scale.to_model(label_of[name]):g} elsewhere"
            )
    return list(names), {"continuous": list(values["fussed_labels"])} if "fussed_labels" in values else {}


def write(path: Path, split: PublishedSplit) -> None:
    files.write_json(path, split.folds, indent=None)


def split(path: Path, table: pd.DataFrame, fold: int) -> Split:
    """Read one fold of a split file written by `write`. Images rejected in preparation are left out.

    Args:
        path: File in the store.
        table: Table of the store.
        fold: Fold to validate on, counted from 0.

    Raises:
        DataError: If the fold does not exist or one of its parts is empty.
    """
    folds = files.read_json(path)
    if fold >= len(folds):
        raise DataError(f"fold = {fold}: the split file has folds 0 to {len(folds) - 1}")
    row_of = dict(zip(table["image_id"], range(len(table)), strict=True))
    rows, labels = {}, {}
    for part, listed in folds[fold].items():
        usable = [i for i, name in enumerate(listed["image_ids"]) if name in row_of]
        rows[part] = np.array([row_of[listed["image_ids"][i]] for i in usable], dtype=int)
        if "continuous" in listed:
            labels[part] = np.array([listed["continuous"][i] for i in usable])
    test = np.flatnonzero(table["split"] == "test")
    for part, chosen in (*rows.items(), ("test", test)):
        if not len(chosen):
            raise DataError(f"split file, fold {fold}: part {part!r} has no usable image in the prepared store")
    continuous = (labels["train"], labels["val"]) if len(labels) == 2 else None
    return Split(rows["train"], rows["val"], test, continuous)


def shared_patients(table: pd.DataFrame, split: Split) -> int:
    """Count the validation images whose patient also has an image in the training part."""
    patients = table["patient_id"].to_numpy()
    return int(np.isin(patients[np.unique(split.validation)], patients[split.training]).sum())
