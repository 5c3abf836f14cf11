"""Preparation of a store: deterministic, resumed after an interruption, refused for other settings."""

import errno
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from data.stores import COLOURS, SETTINGS, colours_table, files
from filelock import FileLock

from insightr_nb.data import photograph, prepare, store_writer, synthetic
from insightr_nb.errors import DataError
from insightr_nb.files import write_json
from insightr_nb.settings import DataSettings

# -- a store ----------------------------------------------------------------------------------------------------------


def test_store_does_not_depend_on_the_number_of_processes(store, own_outputs, in_process):
    again = prepare.prepare(SETTINGS)
    assert len(in_process) == 24
    assert again.path.is_relative_to(own_outputs)
    assert files(again.path) == files(store.path)


def test_existing_store_is_opened_without_preparing(copy, in_process):
    before = {file.name: file.stat().st_mtime_ns for file in copy.iterdir()}
    opened = prepare.prepare(replace(SETTINGS, folds=5))
    assert in_process == []
    assert {file.name: file.stat().st_mtime_ns for file in copy.iterdir()} == before
    assert len(opened.images) == 24


def test_the_fingerprint_follows_the_content(store, own_outputs, in_process):
    other = prepare.prepare(replace(SETTINGS, seed=1))
    assert other.fingerprint != store.fingerprint


# -- interruptions ----------------------------------------------------------------------------------------------------


def at_image(monkeypatch, count: int, error: BaseException) -> None:
    """The preparation of image number `count` fails."""
    original, calls = photograph.prepared, []

    def failing(*arguments):
        calls.append(1)
        if len(calls) == count:
            raise error
        return original(*arguments)

    monkeypatch.setattr(photograph, "prepared", failing)


def at_progress(monkeypatch, count: int, error: BaseException) -> None:
    """The images of the `count`-th block are written, but not its lines of progress."""
    original, calls = store_writer.append, []

    def failing(partial, size, slots, pixels, lines):
        calls.append(1)
        if len(calls) == count:
            original(partial, size, slots, pixels, [])
            raise error
        return original(partial, size, slots, pixels, lines)

    monkeypatch.setattr(store_writer, "append", failing)


def at_writing(monkeypatch, name: str, count: int, error: BaseException) -> None:
    """Writing a file of that name fails the `count`-th time."""
    original, calls = write_json, []

    def failing(path, content):
        calls.extend([1] * (Path(path).name == name))
        if Path(path).name == name and len(calls) == count:
            raise error
        original(path, content)

    monkeypatch.setattr("insightr_nb.files.write_json", failing)


@pytest.mark.parametrize(
    ("interrupt", "redone"),
    [
        pytest.param(lambda p: at_image(p, 3, KeyboardInterrupt()), 24, id="in the first block"),
        pytest.param(lambda p: at_image(p, 13, RuntimeError()), 14, id="in the second block"),
        pytest.param(lambda p: at_progress(p, 2, OSError("bad disk")), 14, id="saving progress"),
        pytest.param(lambda p: at_writing(p, "meta.json", 1, OSError("disk full")), 0, id="at the very end"),
    ],
)
def test_interrupted_preparation_resumes_after_the_last_block(store, own_outputs, in_process, interrupt, redone):
    """Blocks of 10 of 24 images: images of complete blocks are not prepared again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "_BLOCK", 10)
        interrupt(patch)
        with pytest.raises((KeyboardInterrupt, RuntimeError, OSError)):
            prepare.prepare(SETTINGS)
    assert not prepare.store_path(SETTINGS).exists()
    in_process.clear()
    finished = prepare.prepare(SETTINGS)
    assert in_process == [f"synthetic:0/{i}" for i in range(24 - redone, 24)]
    assert files(finished.path) == files(store.path)
    assert not list(own_outputs.glob("data/*.partial"))


def test_rejected_images_survive_an_interruption(csv_settings, own_outputs, in_process, monkeypatch):
    settings = csv_settings(colours_table(), COLOURS | {"1.png": b"no", "6.png": b""}, preparation="resize")
    whole = files(prepare.prepare(settings, max_rejected=0.5).path)
    shutil.rmtree(own_outputs)
    monkeypatch.setattr(prepare, "_BLOCK", 4)
    with pytest.MonkeyPatch.context() as patch:
        at_image(patch, 6, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            prepare.prepare(settings, max_rejected=0.5)
    in_process.clear()
    finished = prepare.prepare(settings, max_rejected=0.5)
    assert [Path(source).name for source in in_process] == ["1.png", *(f"{i}.png" for i in range(4, 10))]
    assert files(finished.path) == whole


def test_an_interrupted_preparation_with_other_settings_starts_again(store, own_outputs, in_process, monkeypatch):
    monkeypatch.setattr(prepare, "_BLOCK", 10)
    with pytest.MonkeyPatch.context() as patch:
        at_image(patch, 13, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            prepare.prepare(replace(SETTINGS, seed=1))
    in_process.clear()
    assert files(prepare.prepare(SETTINGS).path) == files(store.path)
    assert len(in_process) == 24


def test_concurrent_preparations_make_one_store(store, own_outputs, in_process):
    with ThreadPoolExecutor(2) as pool:
        paths = {job.result().path for job in [pool.submit(prepare.prepare, SETTINGS) for _ in range(2)]}
    assert len(in_process) == 24
    assert files(paths.pop()) == files(store.path)


def test_a_preparation_waits_for_another(own_outputs, in_process):
    path = prepare.store_path(SETTINGS)
    path.parent.mkdir(parents=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        waiting = threading.Thread(target=prepare.prepare, args=(SETTINGS,))
        waiting.start()
        waiting.join(0.3)
        assert in_process == []
    waiting.join(30)
    assert len(in_process) == 24


# -- overwriting ------------------------------------------------------------------------------------------------------


def test_overwrite_makes_the_store_again(copy, in_process):
    again = prepare.prepare(replace(SETTINGS, seed=1), overwrite=True)
    assert len(in_process) == 24
    assert again.settings.seed == 1
    assert again.table["source"].iloc[0] == "synthetic:1/0"


def test_a_store_stays_when_overwriting_it_fails(copy, in_process, monkeypatch):
    before = files(copy)
    at_image(monkeypatch, 5, RuntimeError())
    with pytest.raises(RuntimeError):
        prepare.prepare(replace(SETTINGS, seed=1), overwrite=True)
    assert files(copy) == before
    assert len(prepare.prepare(SETTINGS).images) == 24


def test_a_folder_without_meta_is_made_again(copy, store, in_process):
    (copy / "meta.json").unlink()
    assert files(prepare.prepare(SETTINGS).path) == files(store.path)


# -- settings against a store that is there ---------------------------------------------------------------------------


def test_a_csv_store_is_used_again_by_its_name(csv_settings, own_outputs, in_process):
    columns = {"image_column": "image", "label_column": "label", "label_min": 0, "label_max": 1, "table": "labels.csv"}
    made = prepare.prepare(csv_settings(colours_table(), COLOURS, preparation="resize", **columns))
    in_process.clear()
    named = DataSettings(dataset="csv", name="mine", size=32)
    assert prepare.prepare(named).settings.preparation == "resize"
    assert prepare.prepare(named).fingerprint == made.fingerprint
    assert in_process == []
    with pytest.raises(DataError, match="data_folder: required to prepare 'yours'"):
        prepare.prepare(replace(named, name="yours"))


def test_fingerprint_does_not_depend_on_the_raw_folder(csv_settings, own_outputs, in_process):
    settings = csv_settings(colours_table(), COLOURS, preparation="resize")
    elsewhere = csv_settings(colours_table(), COLOURS, preparation="resize", folder="elsewhere")
    first = prepare.prepare(settings)
    second = prepare.prepare(elsewhere, overwrite=True)
    assert second.meta["settings"]["folder"] != first.meta["settings"]["folder"]
    assert (second.fingerprint, second.meta["recipe"]) == (first.fingerprint, first.meta["recipe"])


# -- csv images and what is wrong with them ---------------------------------------------------------------------------


def test_csv_images_keep_order_and_colours(csv_settings, own_outputs, in_process):
    made = prepare.prepare(csv_settings(colours_table((0.5, 7)), COLOURS, preparation="resize"))
    assert made.images[:, 16, 16].tolist() == [[200, 10 * i, 5] for i in range(10)]
    assert made.table["label"].tolist() == [0.5, 7] * 5
    assert (made.scale.minimum, made.scale.maximum, made.grades) == (0.5, 7, False)


def test_too_many_unusable_images_are_named_and_can_be_mended(csv_settings, own_outputs, in_process, tmp_path):
    settings = csv_settings(colours_table(), COLOURS | {"3.png": b"not a picture"}, preparation="resize")
    with pytest.raises(DataError) as error:
        prepare.prepare(settings)
    for fragment in ("1 of 10 images", "more than 1%", "3: ", "raw/3.png", "an image (13 bytes", "max_rejected"):
        assert fragment in str(error.value)
    listed = pd.read_csv(prepare.store_path(settings).with_name("mine-32.partial") / "rejected.csv", dtype=str)
    assert listed["image_id"].tolist() == ["3"]
    cv2.imwrite(str(tmp_path / "raw" / "3.png"), np.full((20, 20, 3), (5, 30, 200), np.uint8))
    in_process.clear()
    mended = prepare.prepare(settings)
    assert [Path(source).name for source in in_process] == ["3.png"]
    assert mended.images[:, 16, 16, 1].tolist() == [10 * i for i in range(10)]
    assert mended.table["image_id"].tolist() == [str(i) for i in range(10)]
    whole = files(mended.path)
    shutil.rmtree(mended.path)
    assert files(prepare.prepare(settings).path) == whole


def test_a_higher_limit_uses_what_is_prepared(csv_settings, own_outputs, in_process):
    settings = csv_settings(colours_table(), COLOURS | {"3.png": b"not a picture"}, preparation="resize")
    with pytest.raises(DataError, match="more than 1%"):
        prepare.prepare(settings)
    in_process.clear()
    assert len(prepare.prepare(settings, max_rejected=0.1).images) == 9
    assert [Path(source).name for source in in_process] == ["3.png"]


def test_a_few_unusable_images_are_left_out_and_listed(csv_settings, own_outputs, in_process):
    colours = COLOURS | {"0.png": b"", "4.png": b"not a picture", "9.png": (0, 0, 0)}
    made = prepare.prepare(csv_settings(colours_table(), colours, preparation="resize"), max_rejected=0.2)
    assert made.images.shape == (8, 32, 32, 3)
    assert made.table["image_id"].tolist() == ["1", "2", "3", "5", "6", "7", "8", "9"]
    assert made.images[:, 16, 16, 1].tolist() == [10, 20, 30, 50, 60, 70, 80, 0]
    rejected = pd.read_csv(made.path / "rejected.csv", dtype=str)
    assert rejected["image_id"].tolist() == ["0", "4"]
    assert rejected["reason"].str.contains(r"/[04]\.png: cannot be decoded as an image \(\d+ bytes").all()
    assert made.meta["rejected"] == 2
    assert sum(made.meta["counts"].values()) == 8


def test_a_photograph_without_a_fundus_is_rejected_with_its_reason(csv_settings, own_outputs, in_process):
    made = prepare.prepare(csv_settings(colours_table(), COLOURS | {"5.png": (3, 2, 1)}), max_rejected=0.1)
    rejected = pd.read_csv(made.path / "rejected.csv", dtype=str)
    assert rejected["image_id"].tolist() == ["5"]
    assert "nearly black image" in rejected["reason"][0]


def test_a_doubtful_disc_and_a_file_damaged_inside_are_prepared_and_listed(csv_settings, own_outputs, in_process):
    """libjpeg fills what it cannot read with grey and says so on the error stream only."""
    fundus = cv2.imencode(".jpg", synthetic.photograph(3, 0, 200).image[..., ::-1])[1].tobytes()
    noise = np.random.default_rng(0).integers(60, 250, (60, 90, 3), np.uint8)
    silent = cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_QUALITY, 99])[1].tobytes()
    middle = len(fundus) // 2
    with_comment = fundus[:2] + b"\xff\xfe\x00\x04ab" + fundus[2:-2] + b"abc" + fundus[-2:]  # bytes that mean nothing
    content = {
        **{f"good{i}.jpg": (with_comment if i else fundus) + bytes(i) for i in range(8)},
        "wall.png": cv2.imencode(".png", noise)[1].tobytes(),
        "hole.jpg": fundus[:middle] + bytes(300) + fundus[middle + 300 :],
        "silent.jpg": silent[:middle] + bytes(64) + silent[middle + 64 :],
    }
    table = "image,label\n" + "".join(f"{name},{i % 2}\n" for i, name in enumerate(content))
    store = prepare.prepare(csv_settings(table, content), workers=1)
    assert len(store.images) == 11
    assert store.doubtful["image_id"].tolist() == ["wall", "hole", "silent"]
    wall, hole, silent = store.doubtful["doubt"]
    assert wall.startswith("disc: bright up to the corners")
    assert "damaged file: Corrupt JPEG data" in hole
    assert f"damaged file: at least 64 zero bytes in a row at byte {middle}" in silent
    (store.path / "doubtful.csv").unlink()  # a store of an older version
    assert not len(store.doubtful)


def test_without_shared_memory_images_are_prepared_one_by_one(store, own_outputs, monkeypatch, capsys):
    """Worker processes need /dev/shm for their locks, which a container may lack."""

    def missing(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(prepare, "ProcessPoolExecutor", missing)
    assert prepare.prepare(SETTINGS).fingerprint == store.fingerprint
    assert "Read-only file system" in capsys.readouterr().out


def test_a_killed_worker_is_reported_with_what_is_kept(own_outputs, in_process, monkeypatch):
    """The second block breaks the pool: ten images are kept, and the next call prepares the other 14."""
    monkeypatch.setattr(prepare, "_BLOCK", 10)
    with pytest.MonkeyPatch.context() as patch:
        at_image(patch, 13, BrokenProcessPool())
        with pytest.raises(DataError) as caught:
            prepare.prepare(SETTINGS)
    assert "10 images are kept" in str(caught.value)
    in_process.clear()
    assert len(prepare.prepare(SETTINGS).images) == 24
    assert len(in_process) == 14
