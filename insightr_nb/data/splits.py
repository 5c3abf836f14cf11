"""Test set, folds, balancing and continuous labels (paper, section 3, "Dataset"). Splits never divide a patient."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from insightr_nb.errors import DataError
from insightr_nb.files import fingerprint
from insightr_nb.settings import DataSettings

TEST_PARTS = 5  # the test set is one part of five, 20 % of the patients


@dataclass(frozen=True)
class Split:
    """One fold: for each part, the row numbers in the prepared table.

    `continuous` holds the continuous labels of the training and validation rows if a split file gives them.
    """

    training: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    continuous: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def held_out_ratio(self) -> float:
        """Number of validation images per training image, each counted once."""
        return len(np.unique(self.validation)) / len(np.unique(self.training))

    @property
    def fingerprint(self) -> str:
        labels = [part.astype("<f8").tobytes() for part in self.continuous or ()]
        parts = (self.training, self.validation, self.test)
        return fingerprint(*(part.astype("<i8").tobytes() for part in parts), *labels)


def strata(labels: np.ndarray, grades: bool) -> np.ndarray:
    """Return the class of each label for stratification, (N,) int: the grade, or the quintile of other labels."""
    labels = np.asarray(labels, dtype=float)
    if grades:
        return labels.round().astype(int)
    edges = np.quantile(labels, [0.2, 0.4, 0.6, 0.8])
    return np.searchsorted(edges, labels, side="right")


def split_off_test(rows: pd.DataFrame, grades: bool, seed: int) -> np.ndarray:
    """Assign 'train' or 'test' to every row: 20 % of the patients, stratified by label, form the test set.

    Args:
        rows: patient_id and label of every image.
        grades: Whether the labels are integer grades.
        seed: Seed of the split.

    Returns:
        (N,) array of 'train' and 'test'.

    Raises:
        DataError: If there are too few patients, or too few images in every class.
    """
    groups = rows["patient_id"].to_numpy()
    if len(set(groups)) < TEST_PARTS:
        raise DataError(
            f"{len(set(groups))} patients cannot be split into training and test set; at least {TEST_PARTS} are needed"
        )
    classes = strata(rows["label"], grades)
    most = np.unique(classes, return_counts=True)[1].max()
    if most < TEST_PARTS:
        raise DataError(
            f"{len(rows)} images cannot be split into training and test set: the most frequent {_class(grades)} has "
            f"{most} images, and at least {TEST_PARTS} are needed; add images or set split_column"
        )
    parts = StratifiedGroupKFold(TEST_PARTS, shuffle=True, random_state=seed)
    _, test = next(_quietly(parts, classes, groups))
    split = np.full(len(rows), "train", dtype=object)
    split[test] = "test"
    return split


def cap(rows: pd.DataFrame, settings: DataSettings, grades: bool) -> pd.DataFrame:
    """Limit the images per grade in the training and test set by random selection; the order is kept.

    Args:
        rows: Label and split of every image.
        settings: `max_train_per_grade`, `max_test_per_grade` and the seed. With `all_images`, the surplus images
            are kept with split "extra".
        grades: Whether the labels are integer grades; other labels are not capped.

    Returns:
        The remaining rows.
    """
    if not grades:
        return rows.reset_index(drop=True)
    keep = np.zeros(len(rows), bool)
    for part, most in (("train", settings.max_train_per_grade), ("test", settings.max_test_per_grade)):
        for grade in np.unique(rows["label"]):
            members = np.flatnonzero((rows["split"] == part) & (rows["label"] == grade))
            if most is not None and len(members) > most:
                rng = np.random.default_rng([settings.seed, int(grade) % 2**32, part == "test"])
                members = rng.choice(members, most, replace=False)
            keep[members] = True
    if settings.all_images:
        return rows.assign(split=rows["split"].where(keep, "extra")).reset_index(drop=True)
    return rows[keep].reset_index(drop=True)


def assert_no_shared_patient(rows: pd.DataFrame, column: str = "split") -> None:
    """Raise DataError that names the patients with images in more than one part of `column`, if there are any."""
    parts = rows.groupby("patient_id")[column].nunique()
    shared = sorted(parts.index[parts > 1])
    if shared:
        raise DataError(
            f"{len(shared)} patients have images in more than one part of the split: {', '.join(shared[:5])}"
            + (" ..." if len(shared) > 5 else "")
        )


def evenly_spaced(count: int, most: int) -> np.ndarray:
    """Return at most `most` row numbers below `count`, evenly spaced and without repetition."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(int))


def folds(rows: pd.DataFrame, grades: bool, settings: DataSettings) -> np.ndarray:
    """Assign rows to folds, stratified by grade and grouped by patient.

    Args:
        rows: patient_id, label and split of every image.
        grades: Whether the labels are integer grades.
        settings: Number of folds and seed.

    Returns:
        (N,) int: the fold in which a row is validated, -1 for the test set, -2 for unused images.

    Raises:
        DataError: If there are too few patients, or some fold has no training or validation image of a grade.
    """
    part = np.flatnonzero(rows["split"] == "train")
    classes = strata(rows["label"].to_numpy()[part], grades)
    groups = rows["patient_id"].to_numpy()[part]
    for value, count in zip(*np.unique(classes, return_counts=True), strict=True):
        if count < settings.folds:
            raise DataError(f"{_class(grades)} {value} has {count} training images, too few for {settings.folds} folds")
    if len(set(groups)) < settings.folds:
        raise DataError(f"{len(set(groups))} training patients are too few for {settings.folds} folds")
    number = np.where(rows["split"] == "test", -1, -2)
    kfold = StratifiedGroupKFold(settings.folds, shuffle=True, random_state=settings.seed)
    for fold, (_, validation) in enumerate(_quietly(kfold, classes, groups)):
        number[part[validation]] = fold
        for value in np.unique(classes):
            for name, members in (
                ("validation", validation),
                ("training", np.setdiff1d(np.arange(len(part)), validation)),
            ):
                if not (classes[members] == value).any():
                    raise DataError(
                        f"fold {fold}: no {name} image of {_class(grades)} {value}; use fewer folds or add images"
                    )
    return number


def split(rows: pd.DataFrame, grades: bool, settings: DataSettings, fold: int) -> Split:
    """Return the training, validation and test rows of one fold.

    Args:
        rows: patient_id, label and split of every image.
        grades: Whether the labels are integer grades.
        settings: Number of folds and seed.
        fold: Fold to validate on, counted from 0.

    Raises:
        DataError: If some fold lacks a grade, or a patient is in more than one part.
    """
    number = folds(rows, grades, settings)
    training, validation, test = (number >= 0) & (number != fold), number == fold, number == -1
    side = np.select([test, validation, training], ["test", "validation", "training"], "none")
    assert_no_shared_patient(rows.assign(side=side)[side != "none"], "side")
    return Split(*(np.flatnonzero(part) for part in (training, validation, test)))


def balanced(classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return shuffled positions 0..N-1, with minority classes oversampled to the size of the largest class.

    Within a class, the numbers of repetitions of any two images differ by at most one.
    """
    values, counts = np.unique(classes, return_counts=True)
    chosen = []
    for value in values:
        members = np.flatnonzero(classes == value)
        whole, rest = divmod(counts.max(), len(members))
        chosen += [np.tile(members, whole), rng.choice(members, rest, replace=False)]
    return rng.permutation(np.concatenate(chosen))


def continuous_labels(labels: np.ndarray, image_ids: list[str], seed: int) -> np.ndarray:
    """Replace each grade c by a draw from U(c - 0.5, c + 0.5) (paper, "Continuous Labels").

    Args:
        labels: (N,) grades.
        image_ids: N image ids. A draw depends only on the seed and the image id.
        seed: Seed of the draws.

    Returns:
        (N,) float.
    """
    draws = [hashlib.sha256(f"{seed}/{image_id}".encode()).digest()[:8] for image_id in image_ids]
    return np.asarray(labels, float) - 0.5 + np.array([int.from_bytes(d, "big") / 2.0**64 for d in draws])


def _class(grades: bool) -> str:
    """Name of a class in errors; quintiles are numbered from 0."""
    return "grade" if grades else "label quintile"


def _quietly(
    kfold: StratifiedGroupKFold, classes: np.ndarray, groups: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Run the split without scikit-learn's warnings on small classes; `folds` makes its own checks."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield from kfold.split(np.zeros(len(classes)), classes, groups)
