"""Label tables as programs write them: cells, columns, names of images, and what is wrong with a table."""

import re
from pathlib import Path

import pandas as pd
import pytest
from data.tables import LABELS, PLAIN, TEN, listing

from insightr_nb.data import catalog, label_table
from insightr_nb.errors import DataError
from insightr_nb.settings import DataSettings


def test_usual_column_names_are_found_after_a_byte_order_mark(csv_settings):
    table = b"\xef\xbb\xbfid_code , diagnosis\n" + "".join(f"{i:03d},{i % 2}\n" for i in range(10)).encode()
    found = catalog.find(csv_settings(table, TEN))
    assert found.rows["image_id"].tolist() == [f"{i:03d}" for i in range(10)]
    assert found.rows["label"].tolist() == [0, 1] * 5


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
def test_separator_is_detected(csv_settings, text, column):
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
def test_encodings_separators_and_decimal_commas(csv_settings, text, labels):
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
def test_errors_suggest_the_likely_cause(csv_settings, text, message):
    with pytest.raises(DataError, match=message):
        catalog.find(csv_settings(text, TEN))


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
def test_temporary_files_are_not_taken_for_tables(csv_settings, name):
    settings = csv_settings(listing(TEN, [0, 1] * 5), [*TEN, "._labels.csv", "~$labels.csv", "._000.jpg"])
    folder = Path(settings.folder)
    (folder / "labels.csv").rename(folder / name)
    found = catalog.find(settings)
    assert len(found.rows) == 10
    assert not any("have no row" in note for note in found.notes)


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


def test_two_columns_of_one_name_are_refused(csv_settings):
    with pytest.raises(DataError, match="two columns are named 'label'"):
        catalog.find(csv_settings("image,label, label\na.png,1,2\n", ["a.png"]))


def test_blank_lines_do_not_shift_the_lines_in_errors(csv_settings):
    table = "image,label\n\na.png,1\n\n\nb.png,oops\n"
    with pytest.raises(DataError, match=r"labels.csv, line 6: label 'oops' is not a number"):
        catalog.find(csv_settings(table, ["a.png", "b.png"]))


@pytest.mark.parametrize(
    ("cells", "expect"),
    [
        (["1", "2.5", "-3"], [1, 2.5, -3]),
        (["1,5", "2"], [1.5, 2]),
        (["1,250", "2,5"], [1.25, 2.5]),  # a thousands separator is not followed by one digit
        (["1e1", " 4"], [10, 4]),
    ],
)
def test_labels_are_numbers_with_points_or_commas(cells, expect):
    assert label_table.labels(pd.Series(cells), Path("labels.csv")).tolist() == expect


def test_usual_columns_are_found_in_their_order_of_preference():
    frame = pd.DataFrame(columns=["Level", "label", "grade"])
    assert label_table.column(frame, None, ["level", "label"], "label_column", Path("a")) == "label"
    assert label_table.column(frame[["Level", "grade"]], None, ["level", "label"], "label_column", Path("a")) == "Level"
    assert label_table.column(frame, "grade", ["level", "label"], "label_column", Path("a")) == "grade"
