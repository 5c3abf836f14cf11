"""Names of images in a label table, and the files that they mean."""

import errno
import os
import re
import unicodedata
from pathlib import Path

import pytest
from data.tables import PLAIN, TEN, listing

from insightr_nb.data import catalog, image_files
from insightr_nb.errors import DataError


def test_path_relative_to_the_folder_is_not_ambiguous(csv_settings, tmp_path):
    names = ["a.jpg", "sub/a.jpg"] + TEN[:8]
    found = catalog.find(csv_settings(listing(names, [0, 1] * 5), names))
    assert found.rows["source"].tolist() == [str((tmp_path / "raw" / name).resolve()) for name in names]


@pytest.mark.parametrize("folder", [".Trash-1000/files", "@eaDir", "__MACOSX", "images/.thumbnails"])
def test_hidden_and_system_folders_are_skipped(csv_settings, folder):
    files = [f"images/{name}" for name in TEN]
    found = catalog.find(csv_settings(PLAIN, [*files, *(f"{folder}/{name}" for name in TEN)]))
    assert all(Path(source).parent.name == "images" for source in found.rows["source"])
    assert not any("have no row" in note for note in found.notes)
    hidden = csv_settings(PLAIN, [f"{folder}/{name}" for name in TEN], folder="hidden")  # still read where it is meant
    assert len(catalog.find(hidden).rows) == 10


@pytest.mark.parametrize(("link", "target"), [("images/back", "."), ("all", "images"), ("images/self", "images")])
def test_a_photograph_that_a_link_shows_twice_is_one(csv_settings, tmp_path, link, target):
    settings = csv_settings(PLAIN, [f"images/{name}" for name in TEN])
    (tmp_path / "raw" / link).symlink_to(tmp_path / "raw" / target, target_is_directory=True)
    table = catalog.find(settings)
    assert len(set(table.rows["source"])) == 10
    assert not any("ignored" in note for note in table.notes)
    assert len(image_files.images_below(tmp_path / "raw")) == (20 if link == "all" else 10)


@pytest.mark.parametrize(
    ("folder", "skipped"),
    [("lost+found", True), ("System Volume Information", True), (".Trash-0/files", True), ("left", False)],
)
def test_a_folder_that_cannot_be_read_is_skipped_if_it_is_the_systems(csv_settings, monkeypatch, folder, skipped):
    settings, scan = csv_settings(PLAIN, [*TEN, f"{folder}/x.jpg"]), os.scandir

    def closed(path):
        if str(path).endswith(folder):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    if skipped:
        assert len(catalog.find(settings).rows) == 10
    else:
        with pytest.raises(DataError, match=r"raw/left: cannot be read \(Permission denied\)"):
            catalog.find(settings)


@pytest.mark.parametrize("given", ["./{}", ".//{}", "x/../{}", "{folder}/{}", "{folder}//{}"])
def test_equivalent_spellings_of_a_path(csv_settings, tmp_path, given):
    names = [f"left/{i:03d}.jpg" for i in range(10)]
    written = [given.replace("{folder}", str(tmp_path / "raw")).replace("{}", name) for name in names]
    found = catalog.find(csv_settings(listing(written, [0, 1] * 5), names))
    assert found.rows["image_id"].tolist() == [f"left/{i:03d}" for i in range(10)]


def test_backslashes_of_a_table_made_on_windows(csv_settings):
    names = [f"left/{i:03d}.jpg" for i in range(10)]
    found = catalog.find(csv_settings(listing([n.replace("/", "\\") for n in names], [0, 1] * 5), names))
    assert found.rows["image_id"].tolist() == [f"left/{i:03d}" for i in range(10)]


def test_names_match_in_any_unicode_form_and_case(csv_settings):
    files = [f"Müller_{i}.JPG" for i in range(10)]
    names = [unicodedata.normalize("NFD", f"müller_{i}.jpg") for i in range(10)]
    found = catalog.find(csv_settings(listing(names, [0, 1] * 5), files))
    assert [Path(source).name for source in found.rows["source"]] == files


def test_files_that_differ_only_in_unicode_form(csv_settings):
    files = [unicodedata.normalize(form, f"Müller_{i}.jpg") for i in range(5) for form in ("NFC", "NFD")]
    found = catalog.find(csv_settings(listing(files, [0, 1] * 5), files))
    assert [Path(source).name for source in found.rows["source"]] == files


def test_exact_name_is_preferred_to_another_case(csv_settings):
    files = [*TEN, *(name.upper() for name in TEN)]
    found = catalog.find(csv_settings(listing(TEN, [0, 1] * 5), files))
    assert [Path(source).name for source in found.rows["source"]] == TEN


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ("000.png", "'000.png' (line 2; found 000.jpg)"),
        ("eye.jpg", "found eye.ppm, but .ppm is not supported, only .jpg"),
        ("scan", "found scan, but a name without suffix is not supported, only .jpg"),
        ("none.jpg", "'none.jpg' (line 2)"),
        (".", "'.' (line 2)"),
    ],
)
def test_a_near_miss_is_named(csv_settings, listed, said):
    with pytest.raises(DataError, match=re.escape(said)):
        catalog.find(csv_settings(listing([listed, *TEN[1:]], [0, 1] * 5), [*TEN, "eye.ppm", "scan"]))


def test_a_folder_whose_name_is_not_utf8_is_said_before_the_work(csv_settings, tmp_path):
    names = [f"{i:03d}.jpg" for i in range(10)]
    settings = csv_settings("image,label\n" + "".join(f"{n},{i % 2}\n" for i, n in enumerate(names)), names)
    odd = os.fsencode(tmp_path / "raw") + b"/caf\xe9"
    os.mkdir(odd)
    os.rename(tmp_path / "raw/004.jpg", odd + b"/004.jpg")
    with pytest.raises(
        DataError, match=r"caf\\udce9/004.jpg: the name of the file or its folder is not UTF-8 \(1 such"
    ):
        catalog.find(settings)


def test_a_table_whose_name_is_not_utf8_is_said_before_the_work(csv_settings, tmp_path):
    settings = csv_settings(PLAIN, TEN)
    os.rename(tmp_path / "raw/labels.csv", os.fsencode(tmp_path / "raw") + b"/caf\xe9.csv")
    with pytest.raises(DataError, match=r"caf\\udce9.csv: the name of the file or its folder is not UTF-8 \(1 such"):
        catalog.find(settings)


@pytest.mark.parametrize(
    ("name", "expect"),
    [("a.png", "a"), ("left/IMG.001.JPG", "left/IMG.001"), ("IMG.000", "IMG.000"), ("a.csv", "a.csv"), ("a", "a")],
)
def test_image_id_is_the_name_without_the_suffix_of_an_image(name, expect):
    assert image_files.image_id(name) == expect
