"""Images at display size: more detail, the same alignment, and a fallback if the source is missing."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from insightr_nb.data import display
from insightr_nb.data.photograph import prepared_source
from insightr_nb.data.prepare import prepare
from insightr_nb.errors import RunError
from insightr_nb.settings import DataSettings


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INSIGHTR_OUTPUTS", str(tmp_path_factory.mktemp("display")))
        return prepare(DataSettings(size=64, train_images=10, test_images=5))


def test_display_image_shows_the_same_image_in_more_detail(store):
    image = display.display_image(store, 3)
    assert image.shape == (512, 512, 3)
    small = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA)
    own, other = (np.corrcoef(small.ravel(), store.image(row).ravel())[0, 1] for row in (3, 5))
    assert own > 0.7
    assert other < 0.3
    enlarged = cv2.resize(store.image(3), (512, 512), interpolation=cv2.INTER_CUBIC)
    assert detail(image) > 3 * detail(enlarged)


def detail(image) -> float:
    return float(np.abs(cv2.Laplacian(image[..., 1], cv2.CV_32F)).mean())


def kept(store, row) -> Path:
    return store.path / "display" / f"{store.table['digest'].iloc[row]}.jpg"


def test_display_image_is_cached(store, monkeypatch):
    first = display.display_image(store, 4)
    assert kept(store, 4).exists()
    forget()
    monkeypatch.setattr(display, "prepared_source", None)
    assert np.array_equal(display.display_image(store, 4), first)


def forget():
    display._read.cache_clear()
    display._drawn.cache_clear()


def test_damaged_cache_file_is_replaced(store):
    first = display.display_image(store, 6)
    kept(store, 6).write_bytes(kept(store, 6).read_bytes()[:50])
    forget()
    assert np.array_equal(display.display_image(store, 6), first)


def photographs(folder):
    rng = np.random.default_rng(0)
    rows = ["image,label"]
    for n in range(30):
        picture = rng.integers(0, 255, (600, 600, 3), np.uint8)
        cv2.imwrite(str(folder / f"{n}.png"), cv2.GaussianBlur(picture, (0, 0), 3))
        rows.append(f"{n}.png,{n % 5}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return DataSettings(dataset="csv", name="display", folder=str(folder), size=64, preparation="resize")


def test_store_image_is_enlarged_if_the_source_is_missing_or_changed(tmp_path):
    store = prepare(photographs(tmp_path), overwrite=True)
    row = int(np.flatnonzero(store.table["source"].str.endswith("/0.png"))[0])
    expect = display.enlarged(store.image(row), 512)
    source = tmp_path / "0.png"
    source.rename(tmp_path / "away.png")
    assert np.array_equal(display.display_image(store, row), expect)
    for other in (tmp_path / "1.png", tmp_path / "labels.csv"):  # another photograph, or none, under the same name
        shutil.copy(other, source)
        forget()
        assert np.array_equal(display.display_image(store, row), expect)
    assert not kept(store, row).exists()
    (tmp_path / "away.png").replace(source)
    forget()
    assert not np.array_equal(display.display_image(store, row), expect)


def test_display_image_needs_no_write_access(store, monkeypatch, tmp_path):
    def refuse(path, image):
        raise RunError(f"{path} could not be written: Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(display, "_write", refuse)
        image = display.display_image(store, 7)
        assert detail(image) > 3 * detail(display.enlarged(store.image(7), 512))
        assert not kept(store, 7).exists()
    display.write_pictures(store, np.array([7, 8]), tmp_path)  # an export takes them along all the same
    assert {p.name for p in tmp_path.iterdir()} == {kept(store, row).name for row in (7, 8)}


@pytest.mark.parametrize("changes", [{}, {"centre": "image"}, {"preparation": "resize"}])
def test_display_image_is_aligned_with_the_store_image(changes, monkeypatch, tmp_path):
    monkeypatch.setenv("INSIGHTR_OUTPUTS", str(tmp_path))
    store = prepare(DataSettings(size=128, train_images=10, test_images=5, **changes))
    for row in range(3):
        shrunk = cv2.resize(display.display_image(store, row), (128, 128), interpolation=cv2.INTER_AREA)
        pair = (image[..., 1].astype(float) for image in (store.image(row), shrunk))
        assert np.abs(cv2.phaseCorrelate(*pair)[0]).max() < 1  # pixels of 128: the crop is of whole pixels


def test_store_of_512_px_is_displayed_without_a_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INSIGHTR_OUTPUTS", str(tmp_path))
    store = prepare(DataSettings(size=512, train_images=10, test_images=5))
    assert np.array_equal(display.display_image(store, 2), store.image(2))
    assert not kept(store, 2).exists()


def test_real_photographs_are_aligned_at_both_sizes(idrid):
    path = idrid / "images" / "train_001.jpg"
    small = DataSettings(dataset="csv", name="x", folder=str(idrid), size=128, preparation="graham", centre="disc")
    large = prepared_source(path, display.display_settings(small))
    shrunk = cv2.resize(large, (128, 128), interpolation=cv2.INTER_AREA)
    moved = cv2.phaseCorrelate(prepared_source(path, small)[..., 1].astype(float), shrunk[..., 1].astype(float))[0]
    assert np.abs(moved).max() < 1  # pixels of 128: the crop is of whole pixels at either size
