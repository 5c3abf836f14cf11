"""Guess patients from image names, for label tables without a patient column."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

UNKNOWN = "patients are not known: every image counts as one of its own"
_EYE_AT_END = re.compile(r"^(.+)[-_ .](?:left|right|l|r|od|os)$", re.IGNORECASE)


def by_name(image_ids: pd.Series) -> pd.Series | None:
    """Return the patient of each image, guessed from names such as 12_left and 12_right; None if no names pair up."""
    patients = image_ids.str.extract(_EYE_AT_END)[0]
    if not patients.duplicated(keep=False)[patients.notna()].any():
        return None
    return patients.fillna(image_ids)


def suggestion(image_ids: pd.Series) -> list[str]:
    """Return a note on the patients that the image names suggest, or an empty list."""
    patients = by_name(image_ids)
    if patients is None:
        return []
    pair = image_ids[patients == patients[patients.duplicated(keep=False)].iloc[0]]
    return [
        f"names such as {' and '.join(pair[:2])} suggest {patients.nunique()} patients of {len(image_ids)} images: "
        "put them into a column of the table and give patient_column"
    ]


def on_two_sides(notes: Sequence[str], image_ids: pd.Series, parts: Sequence[np.ndarray]) -> str:
    """Report whether any patient is on two sides of a split.

    Args:
        notes: Notes of the prepared store, which say if patients are unknown.
        image_ids: Image ids of the store.
        parts: Rows of each side of the split.

    Returns:
        A sentence for the user.
    """
    if not any(UNKNOWN in note for note in notes):
        return "No patient is on two sides of any split."
    unknown = "Patients are not known: whether one is on two sides of a split cannot be said."
    patients = by_name(image_ids)
    if patients is None:
        return unknown
    sides = pd.concat([pd.Series(number, index=np.unique(rows)) for number, rows in enumerate(parts)])
    shared = int((sides.groupby(patients[sides.index]).nunique() > 1).sum())
    count = patients.nunique()
    return f"{unknown} By the names of the images there are {count}, and {shared} of them are on two sides."
