"""The prepared store: its files, opening it, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data.stores import COLOURS, SETTINGS, files

from insightr_nb.data import graham, prepare, synthetic
from insightr_nb.data.store import open_store
from insightr_nb.errors import DataError, RunError
from insightr_nb.files import read_json


def test_files_of_a_store(store):
    assert sorted(files(store.path)) == [
        "doubtful.csv",
        "duplicates.csv",
        "images.npy",
        "meta.json",
        "rejected.csv",
        "table.csv",
    ]
    assert not len(store.doubtful)
    assert store.path.name == "synthetic-32"
    assert (store.images.dtype, store.images.shape) == (np.uint8, (24, 32, 32, 3))
    assert isinstance(store.images, np.memmap)
    assert not store.images.flags.writeable
    assert list(store.table.columns) == ["image_id", "patient_id", "label", "split", "source", "digest"]
    assert pd.read_csv(store.path / "rejected.csv").columns.tolist() == ["image_id", "reason", "source"]
    meta = read_json(store.path / "meta.json")
    assert (meta["images"], meta["rejected"], meta["counts"]) == (24, 0, {"train": 16, "test": 8})
    assert (meta["label_range"], meta["grades"]) == ([0, 4], True)
    given = {"preparation": "graham", "centre": "disc", "all_images": False}
    assert store.settings == replace(SETTINGS, **given, max_train_per_grade=2443, max_test_per_grade=1206)


def test_rows_are_the_prepared_photographs_in_order(store):
    for i, source in enumerate(store.table["source"]):
        assert source == f"synthetic:0/{i}"
        photograph = synthetic.photograph(i, 0, 38).image  # 1.2 * 32, rounded
        assert np.array_equal(store.images[i], graham.normalise(photograph, 32)), i
    assert len({image.tobytes() for image in store.images}) == 24


def test_an_image_is_found_by_its_id(store):
    assert store.row("p00003_right") == 7
    with pytest.raises(DataError, match="image 'nobody' is not in .*synthetic-32; its ids look like 'p00000_left'"):
        store.row("nobody")


@pytest.mark.parametrize(
    ("change", "fragments"),
    [
        ({"seed": 3}, ["seed = 3", "synthetic-32", "prepared with 0", "overwrite=True"]),
        ({"train_images": 18}, ["train_images = 18", "prepared with 16", "another name"]),
        ({"preparation": "resize"}, ["preparation = 'resize'", "prepared with 'graham'"]),
        ({"recipe_size": 540}, ["recipe_size = 540", "prepared with 512"]),
        ({"max_train_per_grade": 5}, ["max_train_per_grade = 5", "prepared with 2443"]),
    ],
)
def test_other_settings_than_the_stores_are_refused(copy, change, fragments):
    with pytest.raises(DataError) as error:
        prepare.prepare(replace(SETTINGS, **change))
    for fragment in fragments:
        assert fragment in str(error.value)


def test_ids_that_look_like_numbers_or_nothing_stay_text(csv_settings, own_outputs, in_process):
    ids = ["007", "1e5", "NA", "nan", "null", "None", "0x1F", "3.0", "true", "-"]
    table = "image,label,who\n" + "".join(f"{name}.png,{i % 2},{name}\n" for i, name in enumerate(ids))
    images = dict(zip([f"{name}.png" for name in ids], COLOURS.values(), strict=True))
    made = prepare.prepare(csv_settings(table, images, preparation="resize", patient_column="who"))
    opened = prepare.open_store(made.path)
    assert opened.table["image_id"].tolist() == ids
    assert opened.table["patient_id"].tolist() == ids
    assert opened.row("NA") == 2
    assert opened.table["label"].dtype == float


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def drop_row(path: Path) -> None:
    path.write_text("".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:-1]), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "fragments"),
    [
        (lambda path: shorten(path / "images.npy"), ["synthetic-32 is damaged", "delete the folder"]),
        (lambda path: (path / "images.npy").unlink(), ["synthetic-32 is damaged", "images.npy", "delete the folder"]),
        (lambda path: (path / "table.csv").unlink(), ["synthetic-32 is damaged", "table.csv", "delete the folder"]),
        (lambda path: drop_row(path / "table.csv"), ["24 images, 23 rows, 24 in meta.json", "delete the folder"]),
        (lambda path: (path / "meta.json").write_text("{"), ["meta.json is damaged"]),
        (lambda path: (path / "meta.json").unlink(), ["meta.json is missing"]),
    ],
)
def test_a_damaged_store_is_refused(copy, damage, fragments):
    assert json.loads((copy / "meta.json").read_text())["images"] == 24
    damage(copy)
    with pytest.raises((DataError, RunError)) as error:
        prepare.open_store(copy)
    for fragment in fragments:
        assert fragment in str(error.value)


def test_part_is_a_store_of_some_rows(store):
    with store.part(np.array([5, 2])) as path:
        part = open_store(path)
        assert part.partial
        assert not store.partial
        assert part.table["image_id"].tolist() == store.table["image_id"].iloc[[5, 2]].tolist()
        assert np.array_equal(part.images, store.images[[5, 2]])
        assert part.fingerprint == store.fingerprint
    assert not path.exists()


def test_check_finds_an_image_that_has_changed(copy):
    open_store(copy).check()
    content = bytearray((copy / "images.npy").read_bytes())
    content[-1] ^= 1  # in the last image
    (copy / "images.npy").write_bytes(content)
    damaged = open_store(copy)
    assert damaged.image(0).shape == (32, 32, 3)
    with pytest.raises(DataError) as caught:
        damaged.check()
    assert repr(damaged.table["image_id"].iloc[-1]) in str(caught.value)


def test_tables_of_a_store_have_their_columns_and_keep_ids_as_text(copy):
    made = open_store(copy)
    assert made.duplicates.columns.tolist() == ["group", "image_id", "patient_id", "label", "happened"]
    (copy / "duplicates.csv").write_text("group,image_id,patient_id,label,happened\n0,007,NA,1,kept\n")
    assert made.duplicates[["image_id", "patient_id"]].values.tolist() == [["007", "NA"]]
    (copy / "rejected.csv").write_text("image_id,reason,source\n1e5,too small,a.png\n")
    assert made.rejected.values.tolist() == [["1e5", "too small", "a.png"]]


def test_patients_of_images(store):
    """An image that the store lacks, as in an exported run, is a patient of its own."""
    first = store.table.iloc[0]
    found = store.patients(pd.Series([first["image_id"], "elsewhere"]))
    assert found.tolist() == [first["patient_id"], "elsewhere"]
