"""Byte-identical copies of photographs: they share one patient, one side of every split, and one label."""

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from insightr_nb.errors import DataError

KEPT = "kept, one patient"
CONFLICT = "left out, grades conflict"
IN_TEST = "left out, the patient is in the test part"


def identical_files(paths: list[str]) -> np.ndarray:
    """Group byte-identical files: (N,) int, equal for identical files, -1 for a file without a copy.

    Only files of equal size are read. Empty files do not count as copies. Raises DataError that names an unreadable
    file.
    """
    try:
        sizes = [Path(path).stat().st_size for path in paths]
        often = {size for size, count in Counter(sizes).items() if count > 1 and size}
        keys = [_digest(path) if size in often else path for path, size in zip(paths, sizes, strict=True)]
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from None
    numbers, _, counts = _unique(keys)
    group = np.where(counts[numbers] > 1, numbers, -1)
    copies = {old: new for new, old in enumerate(dict.fromkeys(group[group >= 0]))}
    return np.array([copies.get(g, -1) for g in group], dtype=int)


def resolve(rows: pd.DataFrame, group: np.ndarray) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Merge patients that share a photograph, and drop rows whose copies conflict.

    A group of copies with different labels is dropped. If merging puts a patient in both training and test set, the
    patient's training rows are dropped.

    Args:
        rows: image_id, patient_id, label, and split if known.
        group: (N,) int, as returned by `identical_files`.

    Returns:
        The remaining rows, and a report of all copies and dropped rows with the columns group (-1: not itself a
        copy), image_id, patient_id, label and happened.
    """
    patients = _one_patient(rows["patient_id"], group)
    happened = np.where(group >= 0, KEPT, "").astype(object)
    if "split" in rows:
        given = rows.groupby("patient_id")["split"].transform("nunique")  # above 1: the table itself is inconsistent
        merged = rows.groupby(patients)["split"].transform("nunique")
        happened[(merged > 1) & (given == 1) & (rows["split"] == "train")] = IN_TEST
    if (group >= 0).any():
        labels = rows["label"].groupby(group).transform("nunique")
        happened[(group >= 0) & (labels > 1)] = CONFLICT
    report = rows[["image_id", "patient_id", "label"]].assign(happened=happened)
    report.insert(0, "group", group)
    report = report[happened != ""].sort_values("group", kind="stable").reset_index(drop=True)
    kept = rows.assign(patient_id=patients)[(happened == "") | (happened == KEPT)]
    return kept.reset_index(drop=True), report


def placeholder(rows: pd.DataFrame, group: np.ndarray, left: int, needed: int) -> list[str]:
    """Note on a photograph that at least a tenth of the patients, and three, share, such as a placeholder.

    Args:
        rows: As for `resolve`, with source. With a given split, only the training rows.
        group: As for `resolve`, of these rows.
        left: Number of patients after `resolve`.
        needed: Number of patients needed for a split.

    Returns:
        The note, or an empty list.

    Raises:
        DataError: If too few patients are left, although there were enough. The message is the note.
    """
    if not (group >= 0).any():
        return []
    same = rows[group == np.bincount(group[group >= 0]).argmax()]
    patients, sharing = rows["patient_id"].nunique(), same["patient_id"].nunique()
    if sharing < max(3, patients / 10):
        return []
    too_few = left < needed <= patients
    note = (
        f"{same['source'].iloc[0]} has {len(same)} byte-identical copies, for {', '.join(same['image_id'][:2])} and "
        f"others. Patients who share a photograph count as one, so {left} of {patients} patients remain"
        + ", too few to split" * too_few
        + ". If it is a placeholder for missing photographs, remove its rows from the table"
    )
    if too_few:
        raise DataError(note)
    return [note]


def _one_patient(patients: pd.Series, group: np.ndarray) -> np.ndarray:
    """Give all patients that share a photograph the id of the first of them."""
    number, names, _ = _unique(list(patients))
    shared = group >= 0
    if not shared.any():
        return patients.to_numpy()
    size = len(names) + group.max() + 1
    links = coo_array((np.ones(shared.sum()), (number[shared], len(names) + group[shared])), shape=(size, size))
    _, component = connected_components(links, directed=False)
    first: dict[int, str] = {}
    return np.array([first.setdefault(component[n], name) for n, name in zip(number, patients, strict=True)], object)


def _unique(keys: list) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (N,) numbers in order of first appearance, the distinct keys, and their counts."""
    numbers, names = pd.factorize(np.array(keys, dtype=object))
    return numbers, names, np.bincount(numbers, minlength=len(names))


def _digest(path: str) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
