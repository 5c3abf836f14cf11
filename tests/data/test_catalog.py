"""The catalogue: images, labels, patients and parts of a data set, and its notes for the user."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data.tables import LABELS, PLAIN, TEN, listing

from insightr_nb.data import catalog
from insightr_nb.errors import DataError
from insightr_nb.settings import DataSettings, LabelScale


def graded(n: int) -> tuple[list[str], str]:
    """n images, graded 0 1 2 3 4 0 1 ..."""
    names = [f"{i:03d}.png" for i in range(n)]
    return names, listing(names, [i % 5 for i in range(n)])


# -- a table that can be used -----------------------------------------------------------------------------------------


def test_rows_of_a_table(csv_settings, tmp_path):
    table = (
        "file,quality,patient,part\n"
        "left/007.jpg,2.5,NA,train\n"
        " right/007 ,-1,NA,Train\n"
        "b.PNG,3,p 2,TEST \n"
        "deep,0,007,test\n"
    )
    files = ["left/007.jpg", "right/007.jpg", "b.PNG", "x/y/deep.tiff", "x/notes.txt"]
    columns = {"label_column": "quality", "patient_column": "patient", "split_column": "part"}
    found = catalog.find(csv_settings(table, files, **columns))
    raw = (tmp_path / "raw").resolve()
    expect = pd.DataFrame(
        {
            "image_id": ["left/007", "right/007", "b", "deep"],
            "patient_id": ["NA", "NA", "p 2", "007"],
            "label": [2.5, -1.0, 3.0, 0.0],
            "split": ["train", "train", "test", "test"],
            "source": [str(raw / name) for name in ("left/007.jpg", "right/007.jpg", "b.PNG", "x/y/deep.tiff")],
        }
    )
    pd.testing.assert_frame_equal(found.rows, expect, check_dtype=False)
    assert found.scale == LabelScale(-1.0, 3.0)
    assert not found.grades


def test_without_a_patient_column_every_image_is_a_patient(csv_settings):
    found = catalog.find(csv_settings(listing(TEN, [0, 1] * 5), TEN))
    assert found.rows["patient_id"].tolist() == found.rows["image_id"].tolist() == [f"{i:03d}" for i in range(10)]
    assert "patients are not known: every image counts as a separate patient; set patient_column" in found.notes[0]


@pytest.mark.parametrize(
    ("labels", "limits", "scale", "grades"),
    [
        ([0, 1] * 5, {}, (0, 1), True),
        ([0, 1, 2, 3, 4] * 2, {}, (0, 4), True),
        ([1, 2, 3, 4, 5] * 2, {}, (1, 5), True),
        ([-2, -1, 0, 1, 2] * 2, {}, (-2, 2), True),
        ([0, 1, 2, 3, 4] * 2, {"label_max": 8}, (0, 8), True),
        ([2.5, 20] * 5, {}, (2.5, 20), False),
        ([20, 30] * 5, {}, (20, 30), True),
        ([20, 31] * 5, {}, (20, 31), False),
        ([20, 30] * 5, {"label_min": 0, "label_max": 100}, (0, 100), False),
        ([0.5] + [0, 1] * 4 + [1], {"label_min": 0}, (0, 1), False),
    ],
)
def test_range_of_the_labels(csv_settings, labels, limits, scale, grades):
    names = [f"{i:02d}.jpg" for i in range(30)]
    found = catalog.find(csv_settings(listing(names, labels * 3), names, **limits))
    assert (found.scale.minimum, found.scale.maximum) == scale
    assert found.grades is grades


# -- the test part ----------------------------------------------------------------------------------------------------


def test_without_a_split_column_20_percent_of_the_patients_of_every_grade_are_the_test_part(csv_settings):
    """25 patients with two images of one grade each, five a grade: one patient of each grade is tested."""
    names = [f"{p:02d}_{eye}.jpg" for p in range(25) for eye in "lr"]
    table = "image,level,patient\n" + "".join(f"{n},{int(n[:2]) % 5},{n[:2]}\n" for n in names)
    found = catalog.find(csv_settings(table, names, patient_column="patient")).rows
    test = found[found["split"] == "test"]
    assert test["label"].value_counts().to_dict() == {0: 2, 1: 2, 2: 2, 3: 2, 4: 2}
    assert test["patient_id"].nunique() == 5
    assert not set(test["patient_id"]) & set(found.loc[found["split"] == "train", "patient_id"])


def test_labels_that_are_no_grades_are_split_by_quintile(csv_settings):
    """50 labels in order: ten of each quintile, so two of each are tested."""
    names = [f"{i:02d}.jpg" for i in range(50)]
    found = catalog.find(csv_settings(listing(names, [i / 7 for i in range(50)]), names)).rows
    test = np.flatnonzero(found["split"] == "test")
    assert np.bincount(test // 10).tolist() == [2, 2, 2, 2, 2]


def test_the_test_part_depends_on_the_seed_only(csv_settings):
    names, table = graded(50)

    def tested(**settings) -> list[str]:
        rows = catalog.find(csv_settings(table, names, **settings)).rows
        return rows.loc[rows["split"] == "test", "image_id"].tolist()

    assert tested() == tested(folds=3, folder="another") == tested(size=64)
    assert tested() != tested(seed=1)


def test_caps_limit_the_images_of_each_grade(csv_settings):
    names = [f"{i:02d}.jpg" for i in range(40)]
    rows = zip(names, [0] * 20 + [1] * 20, (["train"] * 3 + ["test"]) * 10, strict=True)
    table = "image,label,part\n" + "".join(f"{n},{g},{part}\n" for n, g, part in rows)
    settings = csv_settings(table, names, split_column="part", max_train_per_grade=7, max_test_per_grade=2)
    rows = catalog.find(settings).rows
    assert rows.groupby(["split", "label"]).size().to_dict() == {
        ("test", 0): 2,
        ("test", 1): 2,
        ("train", 0): 7,
        ("train", 1): 7,
    }
    assert rows["image_id"].is_monotonic_increasing
    assert rows.index.tolist() == list(range(18))


# -- synthetic photographs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("train", "test", "expect"), [(20, 10, (20, 10)), (21, 10, (22, 9)), (21, 9, (22, 8))])
def test_synthetic_parts_hold_whole_patients(train, test, expect):
    found = catalog.find(DataSettings(train_images=train, test_images=test, seed=3))
    counts = found.rows["split"].value_counts()
    assert (counts["train"], counts["test"]) == expect
    assert (found.rows.groupby("patient_id")["split"].nunique() == 1).all()
    assert found.rows["source"].tolist()[:2] == ["synthetic:3/0", "synthetic:3/1"]
    assert list(found.rows.columns) == ["image_id", "patient_id", "label", "split", "source"]
    assert (found.scale, found.grades) == (LabelScale(0, 4), True)


# -- tables and names as they come ------------------------------------------------------------------------------------


def test_a_table_in_another_format_is_named(csv_settings):
    settings = csv_settings(PLAIN, TEN)
    (Path(settings.folder) / "labels.csv").rename(Path(settings.folder) / "labels.xlsx")
    with pytest.raises(DataError, match=r"found none; set the parameter table\. Found labels\.xlsx"):
        catalog.find(settings)


@pytest.mark.parametrize("others", [[], ["b.csv", "labels.csv"]])
def test_a_folder_needs_one_table_or_the_name_of_one(csv_settings, tmp_path, others):
    settings = csv_settings(listing(TEN, LABELS), TEN)
    (tmp_path / "raw" / "labels.csv").unlink()
    for name in others:
        (tmp_path / "raw" / name).write_text(listing(TEN, LABELS))
    with pytest.raises(
        DataError, match=rf"raw: expected one label table .* found {', '.join(others) or 'none'}; .* table"
    ):
        catalog.find(settings)
    if others:
        assert len(catalog.find(csv_settings(listing(TEN, LABELS), TEN, table="b.csv")).rows) == 10


def test_a_table_in_the_home_folder(csv_settings, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = csv_settings("", TEN, table="~/tables/mine.csv")
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/mine.csv").write_text(PLAIN)
    assert len(catalog.find(settings).rows) == 10


# -- real photographs -------------------------------------------------------------------------------------------------


def test_catalog_of_real_photographs(idrid):
    found = catalog.find(DataSettings(dataset="csv", name="idrid", folder=str(idrid)))
    raw = pd.read_csv(idrid / "labels.csv")
    assert (len(raw), len(found.rows)) == (413, 409)  # two pairs of copies with different grades are left out
    labels = raw.set_index(raw["image"].str.removesuffix(".jpg"))["level"]
    assert found.rows["label"].tolist() == labels[found.rows["image_id"]].tolist()
    assert found.rows["image_id"].iloc[0] == "train_001"
    assert found.rows["source"].iloc[0].endswith("idrid/images/train_001.jpg")
    assert (found.scale, found.grades) == (LabelScale(0, 4), True)
    tested = found.rows["split"] == "test"
    assert tested.groupby(found.rows["label"]).mean().tolist() == pytest.approx([0.2] * 5, abs=0.02)


# -- what a user should know ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "noted"),
    [
        ([0, 1, 2, 3, 4, 5], "label 5 (5 rows) stands apart from the others, 0 to 4, but is used"),
        ([0, 1, 2, 3, 4, -1], "label -1 (5 rows) stands apart from the others, 0 to 4"),
        ([0, 1, 2, 3, 4, 255], "label 255 (5 rows) stands apart from the others, 0 to 4"),
        ([0, 1, 2, 3, -1, 9], "label -1 (5 rows) stands apart from the others, 0 to 3"),
        ([0, 1, 2, 3, -1, 9], "label 9 (5 rows) stands apart from the others, 0 to 3"),
        ([0, 1, 0, 1, 0, 99], "label 99 (5 rows) stands apart from the others, 0 to 1"),
        ([18.5, 20, 31, 44, 60, -1], "label -1 (5 rows) stands apart from the others, 18.5 to 60"),
    ],
)
def test_note_on_labels_that_may_mean_ungradable(csv_settings, labels, noted):
    names, _ = graded(30)
    notes = catalog.find(csv_settings(listing(names, labels * 5), names)).notes
    assert any(noted in note and "remove its rows from the table" in note for note in notes)


@pytest.mark.parametrize(
    ("labels", "limits"),
    [
        ([0, 1, 2, 3, 4] * 2, {}),
        ([0, 9] * 5, {}),
        ([-1, 0] * 5, {}),
        ([1, 2, 3, 4, 5] * 2, {}),
        ([0, 1, 2, 3, 5] * 2, {"label_max": 5}),
        ([-2, -1, 0, 1, 2] * 2, {}),
        ([-0.2, 0, 0.1, 0.5, 1] * 2, {}),
        ([20, 21, 22, 30, 62] * 2, {}),
        ([0, 0.5, 1, 1.5, 9] * 2, {}),
    ],
)
def test_no_note_on_ungradable_for_labels_of_another_scale(csv_settings, labels, limits):
    labels, names = labels * 3, [f"{i:03d}.jpg" for i in range(30)]
    notes = catalog.find(csv_settings(listing(names, labels), names, **limits)).notes
    assert not any("cannot be graded" in note for note in notes)


@pytest.mark.parametrize(
    ("shared", "more", "said"),
    [
        (20, {}, "has 20 byte-identical copies, for 0_right, 1_right and others.*so 1 of 20 patients remain, too few"),
        (12, {}, "has 12 byte-identical copies, .* so 9 of 20 patients remain. If it is a placeholder"),
        (20, {"split_column": "part"}, "has 15 byte-identical copies, .* so 0 of 15 patients remain, too few"),
        (13, {"split_column": "part"}, "has 13 byte-identical copies, .* so 3 of 15 patients remain. If"),
        (2, {}, None),
    ],
)
def test_a_placeholder_photograph_is_named(csv_settings, shared, more, said):
    rows = [(f"{i}_{eye}.jpg", i % 2, i, "test" if i > 14 else "train") for i in range(20) for eye in ("left", "right")]
    table = "image,label,who,part\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)
    files = {n: b"no photograph" if "right" in n and who < shared else n.encode() for n, _, who, _ in rows}
    try:
        text = "\n".join(catalog.find(csv_settings(table, files, patient_column="who", **more)).notes)
    except DataError as error:
        text = str(error)
        assert "too few" in text
    assert ("placeholder" in text) == (said is not None)
    assert re.search(said or "", text, re.DOTALL)
