"""Guess patients from image names, for label tables without a patient column."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

_UNKNOWN = "patients are not known"  # also the start of the note in stores of older versions
FROM_NAMES = "from_names"  # value of patient_column
GUESSED = "guessed from the names"  # in the note of a store whose patients are
UNKNOWN = f"{_UNKNOWN}: every image counts as a separate patient"
_EYE = re.compile(r"(?:(?:^|[-_ ./])(?:left|right|l|r|od|os)|(?<=\d)[lr])(?=[-_ ./]|$)", re.IGNORECASE)


def by_name(image_ids: pd.Series) -> pd.Series | None:
    """Return the patient of each image, guessed from names such as 12_left and 12_right, left/12 and right/12, or 12L
    and 12R. None if no names pair up.
    """
    patients = image_ids.map(_without_eye)
    named = patients.ne("")
    if not patients[named].duplicated().any():
        return None
    return patients.where(named, image_ids)


def _without_eye(name: str) -> str:
    """Name up to the eye if that has a digit, since the rest may count a patient's images (12_left_1), else the name
    without the eyes; "" if it names none.
    """
    before, *others = _EYE.split(name)
    if not others:
        return ""
    patient = before if re.search(r"\d", before) else before + "".join(others)
    return patient.strip("-_ ./")


def suggestion(image_ids: pd.Series) -> list[str]:
    """Return a note on the patients that the image names suggest, or an empty list."""
    patients = by_name(image_ids)
    if patients is None:
        return []
    pair = image_ids[patients == patients[patients.duplicated(keep=False)].iloc[0]]
    return [
        f"names such as {' and '.join(pair[:2])} suggest {patients.nunique()} patients for {len(image_ids)} images: "
        f"add the patients to the table and set patient_column, or use these with -p patient_column {FROM_NAMES}"
    ]


def on_two_sides(notes: Sequence[str], image_ids: pd.Series, parts: Sequence[np.ndarray]) -> str:
    """Report whether any patient has images in more than one part of a split.

    Args:
        notes: Notes of the prepared store, which say if patients are unknown.
        image_ids: Image ids of the store.
        parts: Rows of each part of the split.

    Returns:
        A sentence for the user.
    """
    if not any(_UNKNOWN in note for note in notes):
        condition = ", if those guessed from the names are right" if any(GUESSED in note for note in notes) else ""
        return f"No patient is in more than one part of any split{condition}."
    unknown = "Patients are not known, so whether the parts of a split share any cannot be checked."
    patients = by_name(image_ids)
    if patients is None:
        return unknown
    part = pd.concat([pd.Series(number, index=np.unique(rows)) for number, rows in enumerate(parts)])
    shared = int((part.groupby(patients[part.index]).nunique() > 1).sum())
    count = patients.nunique()
    return f"{unknown} The image names suggest {count} patients, {shared} of them in more than one part."
