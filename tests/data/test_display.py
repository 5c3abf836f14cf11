"""Images at display size: more detail, the same alignment, and a fallback if the source is missing."""

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from insightr_nb.data import display
from insightr_nb.data.photograph import photograph, view
from insightr_nb.data.prepare import prepare
from insightr_nb.errors import DataError, RunError
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
    monkeypatch.setattr(display, "view", None)
    assert np.array_equal(display.display_image(store, 4), first)


def forget():
    display._read.cache_clear()
    display._small.cache_clear()
    display._large.cache_clear()


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


def row_of(store, name) -> int:
    return int(np.flatnonzero(store.table["source"].str.endswith(f"/{name}"))[0])


def test_detail_and_original_of_a_file_that_is_missing_or_changed(tmp_path):
    """At 600 px, its native size; without it, the display image remains and the original is an error."""
    store = prepare(photographs(tmp_path), overwrite=True)
    row, source = row_of(store, "2.png"), tmp_path / "2.png"
    shown = display.display_image(store, row)  # in the cache of the store from here on
    detail, original = display.detail_image(store, row), display.original_image(store, row, detail=True)
    assert np.array_equal(detail, cv2.imread(str(source))[..., ::-1])
    assert np.array_equal(original, detail)  # preparation "resize": the original is the prepared image
    assert display.original_image(store, row).shape == (512, 512, 3)
    source.rename(tmp_path / "away.png")
    assert np.array_equal(display.detail_image(store, row), shown)
    for size in (False, True):
        with pytest.raises(
            DataError, match=r"2\.png: cannot be read \(No such file.*image '2'.*picture is still there"
        ):
            display.original_image(store, row, size)
    for other in ("3.png", "labels.csv"):
        shutil.copy(tmp_path / other, source)
        assert np.array_equal(display.detail_image(store, row), shown)
        for size in (False, True):
            with pytest.raises(
                DataError, match=r"2\.png: has changed since it was prepared, so image '2'.*still there"
            ):
                display.original_image(store, row, size)
    (tmp_path / "away.png").replace(source)
    assert np.array_equal(display.detail_image(store, row), detail)


@pytest.mark.parametrize("changes", [{}, {"centre": "image"}, {"preparation": "resize"}])
def test_detail_and_original_are_the_views_of_the_source(changes, monkeypatch, tmp_path):
    monkeypatch.setenv("INSIGHTR_OUTPUTS", str(tmp_path))
    store = prepare(DataSettings(size=64, train_images=10, test_images=5, **changes))
    source, settings = store.table["source"].iloc[1], store.settings
    expect = {size: replace(settings, size=size) for size in (512, 1024)}
    assert np.array_equal(display.detail_image(store, 1), view(source, expect[1024]))
    assert np.array_equal(display.original_image(store, 1), view(source, expect[512], original=True))
    detailed = display.original_image(store, 1, detail=True)
    assert np.array_equal(detailed, view(source, expect[1024], original=True))
    raw, corner = photograph(source, 1024), slice(487, 537)  # colours in the middle, of the raw photograph
    height, width = (length // 2 for length in raw.shape[:2])
    centre = raw[height - 30 : height + 30, width - 30 : width + 30].mean(axis=(0, 1))
    assert detailed[corner, corner].mean(axis=(0, 1)) == pytest.approx(centre, abs=12)


def test_detail_and_original_are_cached_and_read_only(store, monkeypatch):
    makes = [
        lambda: display.detail_image(store, 9),
        lambda: display.original_image(store, 9),
        lambda: display.original_image(store, 9, detail=True),
    ]
    first = [make() for make in makes]
    monkeypatch.setattr(display, "view", None)
    for image, make in zip(first, makes, strict=True):
        assert make() is image
        with pytest.raises(ValueError, match="read-only"):
            image[0, 0] = 0
    assert display._large.cache_info().maxsize <= 8


def test_the_display_jpeg_is_the_cached_file(store, monkeypatch):
    assert not kept(store, 10).exists()
    jpeg = display.display_jpeg(store, 10)
    assert jpeg == kept(store, 10).read_bytes()
    monkeypatch.setattr(cv2, "imencode", None)
    assert display.display_jpeg(store, 10) == jpeg


def decoded(jpeg: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def test_the_display_jpeg_is_encoded_without_a_file(store, monkeypatch, tmp_path):
    """If the source is missing, or the store is not writable or large."""
    files = prepare(photographs(tmp_path), overwrite=True)
    row = row_of(files, "4.png")
    (tmp_path / "4.png").unlink()

    def refuse(path, image):
        raise RunError(f"{path} could not be written: Read-only file system")

    monkeypatch.setattr(display, "_write", refuse)
    large = replace(store, images=np.repeat(np.repeat(store.images, 8, axis=1), 8, axis=2))
    monkeypatch.setattr(type(store), "image", lambda self, row: np.array(self.images[row]))
    for some, n in ((files, row), (store, 11), (large, 11)):
        image = display.display_image(some, n)
        jpeg = display.display_jpeg(some, n)
        assert not kept(some, n).exists()
        assert jpeg == cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
        assert np.abs(decoded(jpeg).astype(int) - image).mean() < 8


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
    large = view(path, display.display_settings(small))
    shrunk = cv2.resize(large, (128, 128), interpolation=cv2.INTER_AREA)
    moved = cv2.phaseCorrelate(view(path, small)[..., 1].astype(float), shrunk[..., 1].astype(float))[0]
    assert np.abs(moved).max() < 1  # pixels of 128: the crop is of whole pixels at either size
