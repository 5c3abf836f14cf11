"""Test part, folds, balance and continuous labels: stratified, by patient, and drawn from the seed only."""

import numpy as np
import pandas as pd
import pytest

from insightr_nb.data import splits
from insightr_nb.errors import DataError
from insightr_nb.settings import DataSettings


def table(labels, patients=None, split="train") -> pd.DataFrame:
    labels = list(labels)
    patients = [f"p{i:03d}" for i in range(len(labels))] if patients is None else list(patients)
    return pd.DataFrame(
        {
            "image_id": [f"i{i:03d}" for i in range(len(labels))],
            "patient_id": patients,
            "label": np.array(labels, float),
            "split": split,
        }
    )


@pytest.fixture
def eyes() -> pd.DataFrame:
    """60 patients with two eyes, grades that often differ between them; the last 10 patients are the test part."""
    rng = np.random.default_rng(2)
    first = np.arange(60) % 5
    second = np.clip(first + rng.integers(-1, 2, 60), 0, 4)
    rows = table(np.stack([first, second], 1).ravel(), np.repeat([f"p{i:03d}" for i in range(60)], 2))
    rows.loc[100:, "split"] = "test"
    return rows


# -- strata -----------------------------------------------------------------------------------------------------------


def test_grades_are_their_own_strata():
    assert splits.strata([0.0, 4.0, 2.0, 2.0], grades=True).tolist() == [0, 4, 2, 2]


def test_other_labels_are_put_into_quintiles():
    labels = [0.5, 9.0, 7.0, 1.0, 3.5, 4.0, 8.0, 2.0, 6.0, 5.0]  # in order: .5 1 | 2 3.5 | 4 5 | 6 7 | 8 9
    assert splits.strata(labels, grades=False).tolist() == [0, 4, 3, 0, 1, 2, 4, 1, 3, 2]


# -- folds ------------------------------------------------------------------------------------------------------------


def test_folds_of_hand_made_grades_hold_one_image_of_each():
    number = splits.folds(table([0, 1, 2, 3, 4] * 5), True, DataSettings())
    for fold in range(5):
        assert sorted(i % 5 for i in np.flatnonzero(number == fold)) == [0, 1, 2, 3, 4]


def test_folds_of_labels_that_are_no_grades_hold_every_quintile():
    number = splits.folds(table(np.arange(50) / 7), False, DataSettings())
    for fold in range(5):
        assert np.bincount(np.flatnonzero(number == fold) // 10).tolist() == [2, 2, 2, 2, 2]


def test_every_training_image_is_validated_in_one_fold_and_no_test_image_in_any(eyes):
    number = splits.folds(eyes, True, DataSettings())
    assert (number[100:] == -1).all()
    assert set(number[:100]) == {0, 1, 2, 3, 4}
    assert np.bincount(number[:100]).tolist() == pytest.approx([20] * 5, abs=2)


@pytest.mark.parametrize("fold", range(5))
def test_no_patient_is_on_two_sides(eyes, fold):
    parts = splits.split(eyes, True, DataSettings(), fold)
    sides = [set(eyes["patient_id"].iloc[rows]) for rows in (parts.training, parts.validation, parts.test)]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]
    assert sorted([*parts.training, *parts.validation, *parts.test]) == list(range(120))
    assert parts.test.tolist() == list(range(100, 120))
    assert len(parts.validation) == pytest.approx(20, abs=2)
    for rows in (parts.training, parts.validation):
        assert set(eyes["label"].iloc[rows]) == {0, 1, 2, 3, 4}


def test_folds_depend_on_the_seed_of_the_data_only(eyes):
    first = splits.split(eyes, True, DataSettings(), 2)
    np.random.seed(99)  # noqa: NPY002  (the global state must not matter)
    again = splits.split(eyes, True, DataSettings(size=64, max_train_per_grade=5), 2)
    assert first.fingerprint == again.fingerprint
    fingerprints = {splits.split(eyes, True, DataSettings(seed=s), f).fingerprint for s in (0, 1) for f in range(5)}
    assert len(fingerprints) == 10


def test_the_held_out_ratio_counts_every_image_once():
    split = splits.Split(np.array([0, 1, 1, 2, 3, 3]), np.array([4, 4]), np.array([5, 6]))
    assert split.held_out_ratio == 0.25


def test_the_fingerprint_tells_the_parts_apart():
    a, b, c = np.array([0, 1]), np.array([2]), np.array([3])
    assert splits.Split(a, b, c).fingerprint == splits.Split(a.astype(np.int32), b, c).fingerprint
    assert splits.Split(a, b, c).fingerprint != splits.Split(a, c, b).fingerprint
    assert splits.Split(a, b, c).fingerprint != splits.Split(np.array([0]), np.array([1, 2]), c).fingerprint


@pytest.mark.parametrize(
    ("labels", "patients", "grades", "message"),
    [
        ([0] * 9 + [3] * 4, None, True, "grade 3 has 4 training images, too few for 5 folds"),
        ([0, 0.1, 0.2, 7] * 4, None, False, r"label quintile \d has \d training images, too few for 5 folds"),
        ([0, 1] * 10, ["a"] * 10 + ["b"] * 10, True, "2 training patients are too few for 5 folds"),
        (
            [0] * 20 + [1] * 5,
            [*"abcdefghijklmnopqrst", *"vvvvv"],
            True,
            r"fold \d: no validation image of grade 1; use fewer folds or add images",
        ),
    ],
)
def test_a_grade_that_a_fold_would_lack_is_named(labels, patients, grades, message):
    with pytest.raises(DataError, match=message):
        splits.folds(table(labels, patients), grades, DataSettings())


def test_a_grade_that_training_would_lack_is_named():
    """Five images of grade 1 from one patient: one fold validates without the grade, the other trains without."""
    rows = table([1] * 5 + [0] * 20, ["v"] * 5 + list("abcdefghijklmnopqrst"))
    with pytest.raises(DataError, match=r"fold 0: no (validation|training) image of grade 1"):
        splits.folds(rows, True, DataSettings(folds=2))


def test_a_shared_patient_is_named():
    rows = table([0, 1, 2, 3], ["a", "b", "a", "c"], ["train", "train", "test", "test"])
    with pytest.raises(DataError, match="1 patients have images in more than one part of the split: a$"):
        splits.assert_no_shared_patient(rows)
    rows["patient_id"] = list("abcd")
    splits.assert_no_shared_patient(rows)


def test_a_split_that_shares_a_patient_is_refused(eyes):
    eyes.loc[0, "patient_id"] = eyes.loc[119, "patient_id"]
    with pytest.raises(DataError, match="1 patients have images in more than one part of the split: p059"):
        splits.split(eyes, True, DataSettings(), 0)


# -- test part --------------------------------------------------------------------------------------------------------


def test_the_test_part_is_a_fifth_of_the_patients_with_both_their_eyes(eyes):
    eyes["split"] = splits.split_off_test(eyes, True, seed=0)
    splits.assert_no_shared_patient(eyes)
    test = eyes[eyes["split"] == "test"]
    assert test["patient_id"].nunique() in (12, 13)  # strata come before the last patient
    assert (test["label"].value_counts() / eyes["label"].value_counts()).tolist() == pytest.approx([0.2] * 5, abs=0.07)


@pytest.mark.parametrize(
    ("labels", "grades", "message"),
    [
        ([0, 0, 1, 1], True, "4 patients cannot be split into training and test set; at least 5"),
        ([0, 1, 2, 3, 4, 4], True, "6 images cannot be split.* most frequent grade has 2 images, and at least 5"),
        (
            np.arange(20) / 7,
            False,
            "20 images cannot be split.* most frequent label quintile has 4 images, and at least 5",
        ),
    ],
)
def test_too_few_images_for_a_test_part(labels, grades, message):
    with pytest.raises(DataError, match=message):
        splits.split_off_test(table(labels), grades, seed=0)


# -- cap --------------------------------------------------------------------------------------------------------------


def test_cap_draws_from_each_part_and_grade_and_keeps_the_order():
    rows = table([0] * 6 + [1] * 3 + [0] * 6 + [1] * 3, split=["train"] * 9 + ["test"] * 9)
    settings = DataSettings(max_train_per_grade=4, max_test_per_grade=2)
    capped = splits.cap(rows, settings, grades=True)
    counts = capped.groupby(["split", "label"]).size().to_dict()
    assert counts == {("test", 0): 2, ("test", 1): 2, ("train", 0): 4, ("train", 1): 3}
    assert capped["image_id"].is_monotonic_increasing
    assert capped.index.tolist() == list(range(11))
    pd.testing.assert_frame_equal(capped, splits.cap(rows, settings, grades=True))
    chosen = {tuple(splits.cap(rows, DataSettings(max_train_per_grade=4, seed=s), True)["image_id"]) for s in range(5)}
    assert len(chosen) > 1


def test_cap_takes_negative_grades():
    capped = splits.cap(table([-2] * 5 + [0] * 5), DataSettings(max_train_per_grade=3), grades=True)
    assert capped["label"].tolist() == [-2] * 3 + [0] * 3


def test_labels_that_are_no_grades_are_not_capped():
    rows = table([0.5] * 6)
    assert len(splits.cap(rows, DataSettings(max_train_per_grade=2), grades=False)) == 6


# -- balance ----------------------------------------------------------------------------------------------------------


def test_minority_grades_are_over_sampled_evenly():
    """7 of grade 0, 4 of grade 1, 1 of grade 4: seven of each; of the four, three occur twice, and the one 7 times."""
    classes = np.array([0, 1, 0, 4, 0, 1, 0, 1, 0, 0, 1, 0])
    for seed in range(5):
        order = splits.balanced(classes, np.random.default_rng(seed))
        counts = np.bincount(order, minlength=12)
        assert len(order) == 21
        assert counts[classes == 0].tolist() == [1] * 7
        assert sorted(counts[classes == 1]) == [1, 2, 2, 2]
        assert counts[classes == 4].tolist() == [7]


def test_the_order_is_shuffled_and_repeats_with_the_generator():
    classes = np.arange(100) % 5
    first = splits.balanced(classes, np.random.default_rng(1))
    assert sorted(first) == list(range(100))
    assert first.tolist() == splits.balanced(classes, np.random.default_rng(1)).tolist()
    assert first.tolist() != splits.balanced(classes, np.random.default_rng(2)).tolist()
    assert np.abs(np.diff(first)).mean() > 20  # about 33 for a random order, 1 for none


# -- continuous labels ------------------------------------------------------------------------------------------------


def test_continuous_labels_lie_evenly_around_their_grade():
    ids = [f"image{i}" for i in range(4000)]
    offsets = splits.continuous_labels(np.full(4000, 2.0), ids, seed=0) - 2
    assert offsets.min() >= -0.5
    assert offsets.max() < 0.5
    assert np.histogram(offsets, 5, (-0.5, 0.5))[0].tolist() == pytest.approx([800] * 5, abs=100)
    assert offsets.mean() == pytest.approx(0, abs=0.02)


def test_a_continuous_label_depends_on_seed_and_image_id_only():
    got = splits.continuous_labels([0, 3, 1], ["a", "b", "c"], seed=4)
    alone = splits.continuous_labels([1], ["c"], seed=4)
    assert got[2] == alone[0]
    assert splits.continuous_labels([2], ["c"], seed=4)[0] == pytest.approx(alone[0] + 1)
    assert splits.continuous_labels([1], ["c"], seed=5)[0] != alone[0]
    assert splits.continuous_labels([1], ["d"], seed=4)[0] != alone[0]


def test_continuous_labels_stay_the_same_in_later_versions():
    """SHA-256 of "0/p00000_left" begins acfd17bb0f7c930e: 0.67573688809305765 of the way from -0.5 to 0.5."""
    assert splits.continuous_labels([0], ["p00000_left"], 0)[0] == pytest.approx(0.17573688809305765, abs=1e-12)


def test_evenly_spaced_rows():
    assert splits.evenly_spaced(10, 4).tolist() == [0, 3, 6, 9]
    assert splits.evenly_spaced(2, 4).tolist() == [0, 1]
