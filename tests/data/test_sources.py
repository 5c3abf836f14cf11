"""A raw folder that has changed since its store was prepared is refused, with the changes."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from insightr_nb.data import duplicates, photograph, prepare, sources
from insightr_nb.errors import DataError

NAMES = [f"{i:03d}.png" for i in range(12)]
TABLE = "image,label\n" + "".join(f"{name},{i % 2}\n" for i, name in enumerate(NAMES))


def colours() -> dict:
    return {name: (200, 15 * i, 5) for i, name in enumerate(NAMES)}


@pytest.fixture
def settings(csv_settings, own_outputs, in_process):
    made = csv_settings(TABLE, colours(), preparation="resize")
    prepare.prepare(made)
    return made


def folder(settings):
    return Path(settings.folder)


def png(colour) -> bytes:
    return cv2.imencode(".png", np.full((20, 20, 3), colour, np.uint8))[1].tobytes()


def interrupt():
    raise KeyboardInterrupt


def refused(settings) -> str:
    with pytest.raises(DataError) as error:
        prepare.prepare(settings)
    assert "-p overwrite True" in str(error.value)
    return str(error.value)


def test_the_same_folder_is_opened_without_reading_a_photograph(settings, monkeypatch):
    monkeypatch.setattr(sources, "_digest", lambda *_: pytest.fail("read again"))
    monkeypatch.setattr(duplicates, "_digest", lambda *_: pytest.fail("read again"))
    assert len(prepare.prepare(settings).images) == 12


def test_a_changed_label(settings):
    text = TABLE.replace("004.png,0", "004.png,1")
    (folder(settings) / "labels.csv").write_text(text)
    assert "1 image with a different label (004: 1, was 0)" in refused(settings)


def test_a_new_row_and_one_that_is_gone(settings):
    (folder(settings) / "012.png").write_bytes(png((1, 2, 3)))
    text = TABLE.replace("003.png,1\n", "") + "012.png,1\n"
    (folder(settings) / "labels.csv").write_text(text)
    said = refused(settings)
    assert "1 image new (012)" in said
    assert "1 image removed (003)" in said


@pytest.mark.parametrize("same_size", [True, False])
def test_a_replaced_photograph(settings, same_size):
    path = folder(settings) / "007.png"
    before = path.read_bytes()
    path.write_bytes(before[:-20] + bytes(20) if same_size else png((9, 8, 7)) + b"more")
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 10**9))
    assert "1 image with a different file (" in refused(settings)
    assert "007.png" in refused(settings)


def test_a_photograph_with_a_new_time_and_the_same_bytes_is_the_same(settings):
    os.utime(folder(settings) / "007.png", ns=(1, 1))
    assert len(prepare.prepare(settings).images) == 12


def test_a_copy_of_the_folder_is_the_same_and_another_folder_of_this_name_is_not(settings, csv_settings, tmp_path):
    shutil.copytree(folder(settings), tmp_path / "copy")
    assert len(prepare.prepare(replace(settings, folder=str(tmp_path / "copy"))).images) == 12
    other = csv_settings(TABLE, {name: (5, 200, 15 * i) for i, name in enumerate(NAMES)}, folder="other")
    assert "12 images with a different file" in refused(replace(settings, folder=other.folder))


def test_missing_raw_folder_is_no_error_for_a_complete_store(settings, tmp_path, capsys):
    folder(settings).rename(tmp_path / "moved")
    assert len(prepare.prepare(settings).images) == 12
    assert "does not exist" in capsys.readouterr().out


def test_rejected_photograph_that_was_replaced(csv_settings, own_outputs, in_process):
    made = csv_settings(TABLE, colours() | {"002.png": b"no image"}, preparation="resize")
    prepare.prepare(made, max_rejected=0.2)
    (folder(made) / "002.png").write_bytes(png((200, 30, 5)))
    assert "002.png" in refused(made)


def test_overwriting_reads_the_changed_folder(settings):
    (folder(settings) / "labels.csv").write_text(TABLE.replace("004.png,0", "004.png,1"))
    store = prepare.prepare(settings, overwrite=True)
    assert store.table["label"].tolist()[4] == 1
    assert len(prepare.prepare(settings).images) == 12


def test_only_what_changed_is_named_though_the_caps_choose_others(csv_settings, own_outputs, in_process):
    names = [f"{i:03d}.png" for i in range(60)]
    table = "image,label\n" + "".join(f"{name},{i % 2}\n" for i, name in enumerate(names))
    files = {name: (200, 4 * i, 5) for i, name in enumerate(names)}
    made = csv_settings(table, files, preparation="resize", max_train_per_grade=8, max_test_per_grade=3)
    prepare.prepare(made)
    (folder(made) / "labels.csv").write_text(table.replace("004.png,0", "004.png,1"))
    said = refused(made)
    assert "1 image with a different label (004: 1, was 0)" in said
    assert "new" not in said
    assert "removed" not in said


@pytest.mark.parametrize("folder_again", ["raw", "other"])
@pytest.mark.parametrize("changed", [True, False])
def test_photographs_that_changed_during_an_interruption_are_all_prepared_again(
    csv_settings, own_outputs, in_process, monkeypatch, capsys, folder_again, changed
):
    """Otherwise the store would have old photographs beside new ones. Copies of the same files are the same."""
    made = csv_settings(TABLE, colours(), preparation="resize")
    monkeypatch.setattr(prepare, "_BLOCK", 4)
    with monkeypatch.context() as patch:
        patch.setattr(
            prepare, "prepare_one", lambda job: interrupt() if "009" in job[0] else photograph.prepare_one(job)
        )
        with pytest.raises(KeyboardInterrupt):
            prepare.prepare(made)
    pictures = colours() | ({"002.png": (5, 5, 200)} if changed else {})
    again = csv_settings(TABLE, pictures, preparation="resize", folder=folder_again)
    before = len(in_process)
    store = prepare.prepare(again)
    assert len(in_process) - before == (12 if changed else 4)
    assert (store.images[2, 16, 16].tolist() == [5, 5, 200]) == changed
    assert ("1 photographs changed during the interruption, such as " in capsys.readouterr().out) == changed
    assert len(prepare.prepare(again).images) == 12


def test_a_table_in_another_order_is_the_same(settings):
    lines = TABLE.splitlines()
    (folder(settings) / "labels.csv").write_text("\n".join([lines[0], *lines[:0:-1]]) + "\n")
    assert len(prepare.prepare(settings).images) == 12


def test_table_added_later_is_ignored(settings):
    (folder(settings) / "predictions.csv").write_text("image,prediction\n")
    assert len(prepare.prepare(settings).images) == 12
    assert len(prepare.prepare(replace(settings, table="labels.csv")).images) == 12


def test_a_table_in_a_subfolder(csv_settings, own_outputs, in_process):
    made = csv_settings(
        TABLE, colours() | {"tables/labels.csv": TABLE.encode()}, preparation="resize", table="tables/labels.csv"
    )
    prepare.prepare(made)
    assert len(prepare.prepare(made).images) == 12
    assert len(prepare.prepare(replace(made, table=None)).images) == 12


def test_a_folder_that_was_emptied_says_how_to_go_on(settings):
    for name in NAMES[:3]:
        (folder(settings) / name).unlink()
    with pytest.raises(DataError, match="3 images have no file.*omit data_folder to use the store as it is"):
        prepare.prepare(settings)
    assert len(prepare.prepare(replace(settings, folder=None)).images) == 12


def test_a_split_file_need_not_be_given_again(csv_settings, own_outputs, in_process, tmp_path):
    names = [f"{i:03d}.png" for i in range(20)]
    table = "image,label,part\n" + "".join(
        f"{n},{i % 2},{'test' if i > 15 else 'train'}\n" for i, n in enumerate(names)
    )
    files = {name: (200, 10 * i, 5) for i, name in enumerate(names)}

    def part(numbers) -> dict:
        return {"files": [f"{i:03d}" for i in numbers], "labels": [i % 2 + 1 for i in numbers]}

    folds = {
        f"Fold {k}": {"train": part(range(8 * k, 8 * k + 8)), "val": part(range(8 - 8 * k, 16 - 8 * k))} for k in (0, 1)
    }
    (tmp_path / "split.json").write_text(json.dumps(folds))
    more = {"preparation": "resize", "split_column": "part", "label_min": 0, "label_max": 4}
    made = csv_settings(table, files, split_file=str(tmp_path / "split.json"), **more)
    count = len(prepare.prepare(made).images)
    assert len(prepare.prepare(replace(made, split_file=None)).images) == count


def test_a_store_of_an_older_version_is_opened(settings, capsys):
    store = prepare.prepare(settings)
    (store.path / "sources.csv").unlink()
    assert len(prepare.prepare(settings).images) == 12
    assert "without comparing it with data_folder: it has no record of its photographs" in capsys.readouterr().out
