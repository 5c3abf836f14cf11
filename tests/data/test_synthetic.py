"""Synthetic photographs: reproducible, of any size, with the lesions of their grade."""

import cv2
import numpy as np
import pandas as pd
import pytest

from insightr_nb.data.synthetic import LESIONS, Photograph, photograph, table

SEED = 7
N = 60


@pytest.fixture(scope="module")
def photographs() -> list[Photograph]:
    return [photograph(i, SEED) for i in range(N)]


def of_grade(photographs: list[Photograph], grade: int) -> list[Photograph]:
    found = [p for p in photographs if p.grade == grade]
    assert len(found) >= 5, f"too few photographs of grade {grade} to test anything"
    return found


def kinds(p: Photograph) -> set[str]:
    return {name for name, mask in p.masks.items() if mask.any()}


def spots(mask: np.ndarray) -> int:
    return cv2.connectedComponents(mask.astype(np.uint8))[0] - 1


def same(a: Photograph, b: Photograph) -> bool:
    return np.array_equal(a.image, b.image) and all(np.array_equal(a.masks[name], b.masks[name]) for name in LESIONS)


def test_form(photographs):
    for i, p in enumerate(photographs):
        assert p.image.shape == (256, 256, 3)
        assert p.image.dtype == np.uint8
        assert tuple(p.masks) == LESIONS
        assert all(mask.shape == (256, 256) and mask.dtype == bool for mask in p.masks.values())
        assert p.grade in range(5)
        assert p.grade - 0.5 <= p.severity < p.grade + 0.5
        assert (p.patient, p.eye) == (i // 2, ("left", "right")[i % 2])


def test_photographs_do_not_depend_on_the_order_of_calls(photographs):
    for i in (41, 3, 16):
        assert same(photograph(i, SEED), photographs[i])


def test_another_index_or_seed_is_another_photograph(photographs):
    images = [p.image for p in photographs[:10]] + [photograph(0, SEED + 1).image]
    assert len({image.tobytes() for image in images}) == len(images)


@pytest.mark.parametrize("grade", [2, 3, 4])
def test_another_size_shows_the_same_eye(photographs, grade):
    i = next(i for i, p in enumerate(photographs) if p.grade == grade)
    other = next(j for j, p in enumerate(photographs) if p.grade == grade and j // 2 != i // 2)
    small = photograph(i, SEED, size=128)
    assert (small.grade, small.severity) == (photographs[i].grade, photographs[i].severity)
    for name in ("haemorrhage", "preretinal_haemorrhage"):
        mask = photographs[i].masks[name].astype(np.float32)
        large = cv2.resize(mask, (128, 128), interpolation=cv2.INTER_AREA) > 0.5
        union = (large | small.masks[name]).sum()
        assert union == 0 or (large & small.masks[name]).sum() > 0.7 * union

    def difference(p: Photograph) -> float:
        shrunk = cv2.resize(p.image, (128, 128), interpolation=cv2.INTER_AREA)
        return float(np.abs(shrunk.astype(float) - small.image).mean())

    assert difference(photographs[i]) < 4
    assert difference(photographs[other]) > 2 * difference(photographs[i])


def test_lesions_follow_the_grading_scale(photographs):
    proliferative = {"new_vessel", "preretinal_haemorrhage"}
    for p in of_grade(photographs, 0):
        assert kinds(p) == set()
    for p in of_grade(photographs, 1):
        assert kinds(p) == {"microaneurysm"}
    for p in of_grade(photographs, 2):
        assert {"microaneurysm", "haemorrhage"} <= kinds(p)
        assert not kinds(p) & proliferative
    for p in of_grade(photographs, 3):
        assert {"microaneurysm", "haemorrhage"} <= kinds(p)
        assert not kinds(p) & proliferative
    for p in of_grade(photographs, 4):
        assert kinds(p) & proliferative
    assert any("hard_exudate" in kinds(p) for p in of_grade(photographs, 2))
    assert any("cotton_wool_spot" in kinds(p) for p in of_grade(photographs, 3))
    assert {name for p in of_grade(photographs, 4) for name in kinds(p)} == set(LESIONS)


def test_grade_3_has_haemorrhages_in_all_quadrants():
    labels = table(300, SEED)["label"]
    for i in labels.index[labels == 3][:40]:
        mask = photograph(int(i), SEED, size=128).masks["haemorrhage"]
        assert all(q.any() for half in np.array_split(mask, 2) for q in np.array_split(half, 2, axis=1)), i


def test_more_severe_means_more_lesions_but_grades_overlap(photographs):
    counts = [[spots(p.masks["microaneurysm"]) for p in of_grade(photographs, grade)] for grade in (1, 2, 3)]
    assert np.mean(counts[0]) < np.mean(counts[1]) < np.mean(counts[2])
    assert max(counts[0]) >= min(counts[1])
    assert max(counts[1]) >= min(counts[2])


def test_the_picture_is_a_disc_on_black_and_the_masks_lie_inside(photographs):
    rows, columns = np.mgrid[:256, :256] + 0.5
    from_centre = np.hypot(rows - 128, columns - 128)
    for p in photographs:
        lit = p.image.max(axis=2) > 20
        assert 0.91 < lit.any(axis=0).mean() < 0.97
        assert not lit[from_centre > 128].any()
        assert lit[from_centre < 110].mean() > 0.99
        # Only the blood of a pre-retinal haemorrhage is nearly as dark as the frame.
        disc = cv2.morphologyEx(lit.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8)).astype(bool)
        assert not any((mask & ~disc).any() for mask in p.masks.values())


def test_masks_show_where_the_image_is_changed(photographs):
    # Against the median around it, blood is darker and an exudate is brighter, in the green channel.
    signs = {"microaneurysm": -1, "haemorrhage": -1, "hard_exudate": 1}
    for p in of_grade(photographs, 2):
        green = p.image[..., 1]
        contrast = green.astype(int) - cv2.medianBlur(green, 31)
        for name, sign in signs.items():
            if p.masks[name].any():
                assert sign * np.median(contrast[p.masks[name]]) > 5, name


def test_optic_disc_is_on_the_nasal_side(photographs):
    for p in of_grade(photographs, 0) + of_grade(photographs, 1):  # where nothing else is as bright
        column = cv2.GaussianBlur(p.image[..., 1].astype(np.float32), (0, 0), 6)[90:166].max(axis=0).argmax()
        assert column < 100 if p.eye == "left" else column > 156


def test_table_agrees_with_the_photographs(photographs):
    frame = table(N, SEED)
    assert list(frame.columns) == ["image_id", "patient_id", "label", "severity", "eye"]
    assert frame["label"].tolist() == [p.grade for p in photographs]
    assert frame["severity"].tolist() == [p.severity for p in photographs]
    assert frame["eye"].tolist() == [p.eye for p in photographs]
    assert frame["patient_id"].tolist() == [f"p{p.patient:05d}" for p in photographs]
    assert frame["image_id"].tolist() == [f"p{p.patient:05d}_{p.eye}" for p in photographs]


def test_table_does_not_depend_on_its_length():
    pd.testing.assert_frame_equal(table(101, SEED), table(300, SEED).head(101))
    assert not table(50, SEED)["severity"].equals(table(50, SEED + 1)["severity"])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_grades_are_about_equally_frequent(seed):
    counts = table(750, seed)["label"].value_counts()
    assert sorted(counts.index) == [0, 1, 2, 3, 4]
    assert counts.between(115, 185).all()


def test_the_eyes_of_a_patient_are_alike_but_not_always_of_one_grade():
    frame = table(4000, SEED)
    severity = frame.pivot(index="patient_id", columns="eye", values="severity")
    assert severity["left"].corr(severity["right"]) == pytest.approx(0.85, abs=0.03)
    label = frame.pivot(index="patient_id", columns="eye", values="label")
    assert 0.3 < (label["left"] == label["right"]).mean() < 0.8


def test_the_eyes_of_a_patient_share_their_colour(photographs):
    def colour(p: Photograph) -> np.ndarray:
        return np.median(p.image[100:156, 100:156], axis=(0, 1))

    pairs = list(zip(photographs[::2], photographs[1::2], strict=True))
    within = np.mean([np.abs(colour(a) - colour(b)) for a, b in pairs])
    between = np.mean([np.abs(colour(a) - colour(b)) for (a, _), (_, b) in zip(pairs, pairs[1:], strict=False)])
    assert within < 0.4 * between


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: photograph(-1), "index must be 0 or more, got -1"),
        (lambda: photograph(0, size=31), "size must be at least 32 pixels, got 31"),
        (lambda: photograph(0, seed=-3), "seed must be 0 or more, got -3"),
        (lambda: table(0), "n must be at least 1, got 0"),
        (lambda: table(5, seed=-1), "seed must be 0 or more, got -1"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("size", [32, 33, 300])
def test_any_size_can_be_drawn(size):
    for i in range(6):
        assert photograph(i, SEED, size).image.shape == (size, size, 3)
