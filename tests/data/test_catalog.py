"""The catalogue: which images, labels, patients and parts a data set has, and what is wrong with a table."""

import re
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from insightr_nb.data import catalog, patients
from insightr_nb.errors import DataError
from insightr_nb.settings import DataSettings, LabelScale

TEN = [f"{i:03d}.jpg" for i in range(10)]


def listing(images, labels, column: str = "label") -> str:
    return f"image,{column}\n" + "".join(f"{i},{v}\n" for i, v in zip(images, labels, strict=True))


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


def test_columns_are_found_by_their_usual_names_and_a_byte_order_mark_is_no_part_of_them(csv_settings):
    table = b"\xef\xbb\xbfid_code , diagnosis\n" + "".join(f"{i:03d},{i % 2}\n" for i in range(10)).encode()
    found = catalog.find(csv_settings(table, TEN))
    assert found.rows["image_id"].tolist() == [f"{i:03d}" for i in range(10)]
    assert found.rows["label"].tolist() == [0, 1] * 5


def test_without_a_patient_column_every_image_is_a_patient(csv_settings):
    found = catalog.find(csv_settings(listing(TEN, [0, 1] * 5), TEN))
    assert found.rows["patient_id"].tolist() == found.rows["image_id"].tolist() == [f"{i:03d}" for i in range(10)]
    assert "patients are not known: every image counts as a separate patient; set patient_column" in found.notes[0]


def test_a_path_from_the_folder_on_is_not_ambiguous(csv_settings, tmp_path):
    names = ["a.jpg", "sub/a.jpg"] + TEN[:8]
    found = catalog.find(csv_settings(listing(names, [0, 1] * 5), names))
    assert found.rows["source"].tolist() == [str((tmp_path / "raw" / name).resolve()) for name in names]


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


@pytest.mark.parametrize(
    ("scale", "user", "model"),
    [
        (LabelScale(0, 4), [0, 1, 4, -0.9, 4.9], [1, 2, 5, 0.1, 5.9]),
        (LabelScale(1, 5), [1, 3, 5], [1, 3, 5]),
        (LabelScale(-10, 30), [-10, 0, 10, 30, 35], [1, 2, 3, 5, 5.5]),
    ],
)
def test_the_range_becomes_1_to_5_inside_and_comes_back(scale, user, model):
    assert scale.to_model(np.array(user, float)) == pytest.approx(model)
    assert scale.to_user(np.array(model, float)) == pytest.approx(user)


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


def test_at_most_so_many_images_a_grade(csv_settings):
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


PLAIN = listing(TEN, [0, 1] * 5)


@pytest.mark.parametrize(
    ("text", "column"),
    [
        (PLAIN, "label"),
        ("sep=,\n" + PLAIN, "label"),
        (PLAIN.replace(",", ";"), "label"),
        ("sep=;\n" + PLAIN.replace(",", ";"), "label"),
        ("\ufeffsep=;\r\n" + PLAIN.replace(",", ";").replace("\n", "\r\n"), "label"),
        (PLAIN.replace(",", "\t"), "label"),
        (PLAIN.replace(",", ";").replace("label", "grade, of the first reader"), "grade, of the first reader"),
        (PLAIN.replace("label", "grade (0;1;2)"), "grade (0;1;2)"),
        (
            PLAIN.replace("label", 'label,"notes; free text"')
            .replace(",0\n", ',0,"x, y; z"\n')
            .replace(",1\n", ",1,\n"),
            "label",
        ),
    ],
)
def test_what_separates_the_cells_is_found(csv_settings, text, column):
    found = catalog.find(csv_settings(text, TEN, label_column=column))
    assert found.rows["label"].tolist() == [0, 1] * 5


def test_lines_are_counted_from_the_first_also_after_sep(csv_settings):
    with pytest.raises(DataError, match="labels.csv, line 5: label 'mild'"):
        catalog.find(csv_settings("sep=;\n" + PLAIN.replace(",", ";").replace("002.jpg;0", "002.jpg;mild"), TEN))


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        (PLAIN.encode("utf-16"), [0, 1] * 5),  # Excel's "Unicode text" has tabs as well
        (PLAIN.replace(",", "\t").encode("utf-16"), [0, 1] * 5),
        (PLAIN.replace(",", "|"), [0, 1] * 5),
        (PLAIN.replace("image,label", "Image,LABEL"), [0, 1] * 5),
        (re.sub(r"(\d)$", r"\1,5", PLAIN.replace(",", ";"), flags=re.MULTILINE), [0.5, 1.5] * 5),
        (PLAIN.replace("image,label", "image,label,a.png").replace("0\n", "0,x\n").replace("1\n", "1,x\n"), [0, 1] * 5),
        (PLAIN.replace("label\n", "label,tags|more,c\n").replace("0\n", "0,a|b\n"), [0, 1] * 5),
        (PLAIN.replace("label\n", 'label,"no|te",x\n').replace("000.jpg,0", '000.jpg,0,"two\nlines",'), [0, 1] * 5),
        (PLAIN.replace("image,label\n", "").replace("\n", ",\n"), [0, 1] * 5),
    ],
    ids=[
        "UTF-16",
        "UTF-16 with tabs",
        "bars",
        "names of columns in capitals",
        "decimal commas",
        "a column like a file",
        "a bar in a name",
        "a bar and a line break in quotes",
        "no names, a separator at the end",
    ],
)
def test_tables_as_programs_write_them(csv_settings, text, labels):
    found = catalog.find(csv_settings(text, TEN))
    assert found.rows["label"].tolist() == labels
    assert found.rows["image_id"].tolist() == [f"{i:03d}" for i in range(10)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (listing(["é.jpg"], [0]).encode("latin-1"), r"not a table.*Save it as UTF-8 \(Excel: CSV UTF-8\)"),
        (listing(["1", "2"], [0, 1]), r"'1' \(line 2; found 001\.jpg\)"),
        (listing(["1.0", "2.0"], [0, 1]), r"'1\.0' \(line 2; found 001\.jpg\)"),
        (listing(["001.gif", "2"], [0, 1]), r"'001\.gif' \(line 2; found 001\.jpg\)"),
        (PLAIN.replace(",0", ";980").replace(",1", ";1,250").replace(",", ";", 1), "label '1,250' is not a number"),
        (PLAIN.replace(",0", ",980").replace(",1", ',"1,250"'), "label '1,250' is not a number"),
    ],
)
def test_what_comes_near_is_named(csv_settings, text, message):
    with pytest.raises(DataError, match=message):
        catalog.find(csv_settings(text, TEN))


def test_a_table_in_another_format_is_named(csv_settings):
    settings = csv_settings(PLAIN, TEN)
    (Path(settings.folder) / "labels.csv").rename(Path(settings.folder) / "labels.xlsx")
    with pytest.raises(DataError, match=r"found none; set the parameter table\. Found labels\.xlsx"):
        catalog.find(settings)


@pytest.mark.parametrize("folder", [".Trash-1000/files", "@eaDir", "__MACOSX", "images/.thumbnails"])
def test_copies_that_a_system_keeps_are_not_meant(csv_settings, folder):
    files = [f"images/{name}" for name in TEN]
    found = catalog.find(csv_settings(PLAIN, [*files, *(f"{folder}/{name}" for name in TEN)]))
    assert all(Path(source).parent.name == "images" for source in found.rows["source"])
    assert not any("have no row" in note for note in found.notes)
    hidden = csv_settings(PLAIN, [f"{folder}/{name}" for name in TEN], folder="hidden")  # still read where it is meant
    assert len(catalog.find(hidden).rows) == 10


@pytest.mark.parametrize(
    "text", [PLAIN, "sep=;\n" + PLAIN.replace(",", ";"), "\ufeff" + PLAIN], ids=["plain", "sep", "byte order mark"]
)
@pytest.mark.parametrize("turned", [False, True])
def test_a_table_without_the_names_of_its_columns(csv_settings, text, turned):
    text = text.replace("image,label\n", "").replace("image;label\n", "")
    if turned:
        text = re.sub(r"(\d+\.jpg)([,;])(\d)", r"\3\2\1", text)
    found = catalog.find(csv_settings(text, TEN))
    assert found.rows["label"].tolist() == [0, 1] * 5
    assert found.rows["image_id"].tolist() == [f"{i:03d}" for i in range(10)]
    assert any("no header line; its columns are assumed to be" in note for note in found.notes)
    bad = re.sub(r"1([,;])003", r"mild\g<1>003", text).replace("003.jpg,1", "003.jpg,mild")
    bad = bad.replace("003.jpg;1", "003.jpg;mild")
    with pytest.raises(DataError, match=rf"line {5 if text.startswith('sep') else 4}: label 'mild'"):
        catalog.find(csv_settings(bad, TEN))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("000.jpg,0,12\n001.jpg,1,13\n", r"the first line \(000\.jpg, 0, 12\) is data.*image,label,patient"),
        ("000,0\n001,1\n", "no column is named.*is the header line missing"),
    ],
)
def test_a_table_without_names_that_cannot_be_guessed(csv_settings, text, message):
    with pytest.raises(DataError, match=message):
        catalog.find(csv_settings(text, TEN))


@pytest.mark.parametrize("name", ["LABELS.CSV", "Labels.Csv"])
def test_a_table_is_found_beside_what_systems_leave(csv_settings, name):
    settings = csv_settings(listing(TEN, [0, 1] * 5), [*TEN, "._labels.csv", "~$labels.csv", "._000.jpg"])
    folder = Path(settings.folder)
    (folder / "labels.csv").rename(folder / name)
    found = catalog.find(settings)
    assert len(found.rows) == 10
    assert not any("have no row" in note for note in found.notes)


@pytest.mark.parametrize("given", ["./{}", ".//{}", "x/../{}", "{folder}/{}", "{folder}//{}"])
def test_forms_of_a_path_below_the_folder(csv_settings, tmp_path, given):
    names = [f"left/{i:03d}.jpg" for i in range(10)]
    written = [given.replace("{folder}", str(tmp_path / "raw")).replace("{}", name) for name in names]
    found = catalog.find(csv_settings(listing(written, [0, 1] * 5), names))
    assert found.rows["image_id"].tolist() == [f"left/{i:03d}" for i in range(10)]


def test_backslashes_of_a_table_made_on_windows(csv_settings):
    names = [f"left/{i:03d}.jpg" for i in range(10)]
    found = catalog.find(csv_settings(listing([n.replace("/", "\\") for n in names], [0, 1] * 5), names))
    assert found.rows["image_id"].tolist() == [f"left/{i:03d}" for i in range(10)]


def test_accents_and_the_case_of_letters(csv_settings):
    files = [f"Müller_{i}.JPG" for i in range(10)]
    names = [unicodedata.normalize("NFD", f"müller_{i}.jpg") for i in range(10)]
    found = catalog.find(csv_settings(listing(names, [0, 1] * 5), files))
    assert [Path(source).name for source in found.rows["source"]] == files


def test_both_forms_of_an_accent_in_one_folder(csv_settings):
    files = [unicodedata.normalize(form, f"Müller_{i}.jpg") for i in range(5) for form in ("NFC", "NFD")]
    found = catalog.find(csv_settings(listing(files, [0, 1] * 5), files))
    assert [Path(source).name for source in found.rows["source"]] == files


def test_a_name_as_it_is_goes_before_one_in_another_case(csv_settings):
    files = [*TEN, *(name.upper() for name in TEN)]
    found = catalog.find(csv_settings(listing(TEN, [0, 1] * 5), files))
    assert [Path(source).name for source in found.rows["source"]] == TEN


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ("000.png", "'000.png' (line 2; found 000.jpg)"),
        ("eye.jpg", "found eye.ppm, but .ppm is not supported, only .jpg"),
        ("none.jpg", "'none.jpg' (line 2)"),
        (".", "'.' (line 2)"),
    ],
)
def test_a_near_miss_is_named(csv_settings, listed, said):
    with pytest.raises(DataError, match=re.escape(said)):
        catalog.find(csv_settings(listing([listed, *TEN[1:]], [0, 1] * 5), [*TEN, "eye.ppm"]))


# -- tables that cannot be used ---------------------------------------------------------------------------------------

LABELS = [0, 1] * 5


def with_row(line: int, text: str) -> str:
    """The table of TEN with the given line (the header is line 1) in place of its own."""
    lines = listing(TEN, LABELS).splitlines()
    lines[line - 1] = text
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("table", "settings", "fragments"),
    [
        (with_row(4, "002.jpg,5"), {"label_min": 0, "label_max": 4}, ["labels.csv, line 4", "'5'", "above 4"]),
        (with_row(4, "002.jpg,-0.5"), {"label_min": 0}, ["labels.csv, line 4", "'-0.5'", "below 0"]),
        (with_row(7, "005.jpg,mild"), {}, ["labels.csv, line 7", "'mild'", "not a number", "1 such row"]),
        (with_row(7, "005.jpg,"), {}, ["labels.csv, line 7", "''", "not a number"]),
        (with_row(7, "005.jpg,nan"), {}, ["labels.csv, line 7", "'nan'", "not a number"]),
        (with_row(7, "005.jpg,inf"), {}, ["labels.csv, line 7", "'inf'", "not a number"]),
        (listing(TEN, [7] * 10), {}, ["raw", "all labels are 7", "at least two distinct"]),
        (with_row(3, "nowhere.jpg,1"), {}, ["labels.csv", "1 images", "raw", "'nowhere.jpg' (line 3)"]),
        (with_row(3, ",1"), {}, ["labels.csv, line 3", "image ''", "name of a file below"]),
        (with_row(3, "../x.jpg,1"), {}, ["labels.csv, line 3", "'../x.jpg'", "name of a file below"]),
        (with_row(3, "/etc/x.jpg,1"), {}, ["labels.csv, line 3", "'/etc/x.jpg'", "name of a file below"]),
        (with_row(3, "twice,1"), {}, ["labels.csv, line 3", "'twice'", "a/twice.jpg", "b/twice.jpg"]),
        (with_row(3, "000.jpg,1"), {}, ["labels.csv, line 3", "'000.jpg'", "already in line 2", "one row"]),
        (with_row(3, "only,1") + "c/only.jpg,1\n", {}, ["c/only.jpg", "line 12", "is already in line"]),
        ("image,label\n", {}, ["labels.csv", "no rows"]),
        ("", {}, ["labels.csv", "not a table"]),
        ("image,label\n000.jpg,1\n001.jpg,2,3\n", {}, ["labels.csv", "not a table", "line 3"]),
        ("image,label\n" + "".join(f"{n},1,\n" for n in TEN), {}, ["labels.csv", "more cells than the header line"]),
        (b"image,label\n000.jpg,\xe9\n", {}, ["labels.csv", "not a table", "UTF-8"]),
        (listing(TEN, LABELS, "severity"), {}, ["labels.csv", "level", "label_column", "one of: image, severity"]),
        (
            listing(TEN, LABELS).replace("image", "photo"),
            {},
            ["labels.csv", "filename", "image_column", "one of: photo, label"],
        ),
        (listing(TEN, LABELS), {"label_column": "grade"}, ["label_column = 'grade'", "no such column", "image, label"]),
        (listing(TEN, LABELS), {"image_column": "id"}, ["image_column = 'id'", "no such column", "image, label"]),
        (listing(TEN, LABELS), {"patient_column": "who"}, ["patient_column = 'who'", "no such column", "image, label"]),
        (listing(TEN, LABELS), {"split_column": "part"}, ["split_column = 'part'", "no such column", "image, label"]),
        (listing(TEN, LABELS), {"table": "train.csv"}, ["table = 'train.csv'", "no such file", "labels.csv"]),
        (listing(TEN, LABELS), {"folder": None}, ["data_folder", "required to prepare 'mine'"]),
        (listing(TEN, LABELS), {"folder": "/no/where"}, ["data_folder = '/no/where'", "no such folder"]),
        (listing(TEN[:4], LABELS[:4]), {}, ["4 patients", "at least 5"]),
        (listing(TEN, [i / 9 for i in range(10)]), {}, ["10 images", "quintile has 2", "at least 5", "split_column"]),
        (
            "image,label,who\n" + "".join(f"{n},{w < 'd':d},{w}\n" for n, w in zip(TEN, "abcd fghi", strict=False)),
            {"patient_column": "who"},
            ["labels.csv, line 6", "'who'", "empty"],
        ),
    ],
)
def test_a_bad_table_is_refused_with_value_place_and_remedy(csv_settings, table, settings, fragments):
    files = [*TEN, "a/twice.jpg", "b/twice.jpg", "c/only.jpg"]
    settings = dict(settings)
    made = csv_settings(table, files, **{k: v for k, v in settings.items() if k != "folder"})
    if "folder" in settings:
        made = DataSettings(dataset="csv", name="mine", folder=settings["folder"])
    with pytest.raises(DataError) as error:
        catalog.find(made)
    for fragment in fragments:
        assert fragment in str(error.value)


@pytest.mark.parametrize(
    ("parts", "patients", "fragments"),
    [
        (["train"] * 9 + ["val"], range(10), ["labels.csv, line 11", "'val'", "train or test"]),
        (["train"] * 10, range(10), ["labels.csv", "no row with 'test'"]),
        (["test"] * 10, range(10), ["labels.csv", "no row with 'train'"]),
        (["train"] * 5 + ["test"] * 5, [0, 1, 2, 3, 77, 77, 6, 7, 8, 9], ["1 patients", "more than one part", "77"]),
    ],
)
def test_a_bad_split_column_is_refused(csv_settings, parts, patients, fragments):
    rows = zip(TEN, LABELS, parts, patients, strict=True)
    table = "image,label,part,who\n" + "".join(f"{i},{v},{p},{w}\n" for i, v, p, w in rows)
    with pytest.raises(DataError) as error:
        catalog.find(csv_settings(table, TEN, split_column="part", patient_column="who"))
    for fragment in fragments:
        assert fragment in str(error.value)


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


# -- real photographs -------------------------------------------------------------------------------------------------


def test_real_table(idrid):
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


@pytest.mark.parametrize(("placeholder", "noted"), [(5, True), (-1, True), (255, True), (4, False)])
def test_a_label_that_may_mean_ungradable_is_said(csv_settings, placeholder, noted):
    names, _ = graded(30)
    labels = [*(i % 5 for i in range(29)), placeholder]
    notes = " ".join(catalog.find(csv_settings(listing(names, labels), names)).notes)
    assert (f"label {placeholder} (1 rows) is outside the grades 0 to 4" in notes) == noted


@pytest.mark.parametrize(
    ("labels", "limits"), [([0, 9] * 5, {}), ([1, 2, 3, 4, 5] * 2, {}), ([0, 1, 2, 3, 5] * 2, {"label_max": 5})]
)
def test_labels_of_another_scale_are_not_taken_for_grades(csv_settings, labels, limits):
    labels, names = labels * 3, [f"{i:03d}.jpg" for i in range(30)]
    notes = catalog.find(csv_settings(listing(names, labels), names, **limits)).notes
    assert not any("cannot be graded" in note for note in notes)


@pytest.mark.parametrize("eyes", [("left", "right"), ("L", "R"), ("OD", "OS")])
def test_patients_that_the_names_suggest_are_offered(csv_settings, eyes):
    names = [f"{i}_{eye}.jpg" for i in range(20) for eye in eyes]
    found = catalog.find(csv_settings(listing(names, [i % 5 for i in range(40)]), names))
    assert any(f"names such as 0_{eyes[0]} and 0_{eyes[1]} suggest 20 patients for 40 images" in n for n in found.notes)
    rows = np.arange(40)
    said = patients.on_two_sides(list(found.notes), found.rows["image_id"], (rows[:21], rows[21:31], rows[31:]))
    assert "Patients are not known" in said
    assert "suggest 20 patients, 2 of them in more than one part" in said


def test_where_patients_are_known_or_the_names_suggest_none(csv_settings):
    found = catalog.find(csv_settings(listing(TEN, [0, 1] * 5), TEN))
    assert not any("suggest" in note for note in found.notes)
    ids = found.rows["image_id"]
    assert patients.on_two_sides(list(found.notes), ids, (np.arange(10),)).endswith("cannot be checked.")
    assert patients.on_two_sides([], ids, (np.arange(10),)) == "No patient is in more than one part of any split."


def test_a_placeholder_photograph_is_named(csv_settings):
    names = [f"{i}_{eye}.jpg" for i in range(20) for eye in ("left", "right")]
    table = "image,label,who\n" + "".join(f"{n},{i % 2},{n.split('_')[0]}\n" for i, n in enumerate(names))
    files = {n: f"{n}".encode() if "left" in n else b"no photograph" for n in names}
    with pytest.raises(
        DataError,
        match=r"0_right.jpg has 20 byte-identical copies.*so 1 of 20 patients remain, too few.*remove its rows",
    ):
        catalog.find(csv_settings(table, files, patient_column="who"))
