"""Preparation of one photograph: what a worker process returns, also for a file that cannot be prepared."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from data.drawn import fundus

from insightr_nb.data import graham, photograph, prepare, synthetic
from insightr_nb.data.disc import Disc, find_disc
from insightr_nb.data.images import read_image
from insightr_nb.settings import DataSettings

CODE = """
from insightr_nb.data import prepare
from insightr_nb.settings import DataSettings
prepare._BLOCK = 8
if __name__ == "__main__":
    prepare.prepare(DataSettings(size=32, train_images=2000, test_images=40, folds=2), workers=1)
"""


def test_workers_exit_when_their_parent_is_killed(tmp_path):
    script = tmp_path / "prepare_it.py"
    script.write_text(CODE)
    environment = os.environ | {"INSIGHTR_OUTPUTS": str(tmp_path / "out"), "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, script], env=environment, stderr=subprocess.DEVNULL)
    progress = tmp_path / "out" / "data" / "synthetic-32.partial" / "progress.csv"
    until = time.monotonic() + 60
    while not progress.exists() and time.monotonic() < until:
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="utf-8").split()
    assert children
    process.kill()
    process.wait()
    until = time.monotonic() + 15
    while any(Path(f"/proc/{pid}/cmdline").exists() for pid in children) and time.monotonic() < until:
        time.sleep(0.1)
    assert not [pid for pid in children if Path(f"/proc/{pid}/cmdline").exists()]


def test_a_file_that_cannot_be_prepared_is_rejected_with_the_reason(csv_settings, own_outputs, in_process, tmp_path):
    colours = {f"{i}.png": (200, 10 * i, 5) for i in range(10)}
    table = "image,label\n" + "".join(f"{name},{i % 2}\n" for i, name in enumerate(colours))
    dot = cv2.imencode(".png", np.full((1, 1, 3), 200, np.uint8))[1].tobytes()
    settings = csv_settings(table, colours | {"2.png": dot})
    store = prepare.prepare(settings, max_rejected=0.2)
    assert store.rejected["image_id"].tolist() == ["2"]
    assert "an image of 1 x 1 px is too small" in store.rejected["reason"][0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(photograph, "prepared_and_disc", lambda *_: np.zeros(2).reshape(3))
        result = photograph.prepare_one((str(tmp_path / "raw/2.png"), settings))
        assert "cannot be prepared (ValueError" in result.reason


def test_reduced_decoding_gives_nearly_the_same_image(tmp_path):
    """At most two grey levels from the recipe that decodes the whole file, with the same circle."""
    image = synthetic.photograph(4, 0, 1400).image
    cv2.imwrite(str(tmp_path / "x.jpg"), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
    settings = DataSettings(size=256, preparation="graham", centre="disc")
    reduced, disc = photograph.fundus(tmp_path / "x.jpg", 150)
    assert reduced.shape == (350, 350, 3)
    whole = read_image(tmp_path / "x.jpg")
    circle = Disc(4 * disc.x, 4 * disc.y, 4 * disc.radius)
    expect = graham.normalise(whole, 256, 512, circle)
    got = photograph.view(tmp_path / "x.jpg", settings)
    assert np.abs(got.astype(int) - expect)[graham.mask(256)].mean() < 2
    found = find_disc(whole)
    assert (circle.x, circle.y, circle.radius) == pytest.approx((found.x, found.y, found.radius), abs=0.01 * 650)


KINDS = [{"preparation": "resize"}, {"preparation": "graham", "centre": "image"}, {"preparation": "graham"}]


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """A JPEG of 900 x 640 px with an even fundus of radius 300 around (455, 325) and five bright dots."""
    image = fundus(640, 900, 455, 325, 300)
    for x, y in ((455, 280), (330, 240), (560, 250), (350, 440), (540, 430)):
        image[y - 4 : y + 5, x - 4 : x + 5] = 255
    path = tmp_path_factory.mktemp("large") / "large.jpg"
    cv2.imwrite(str(path), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
    return path


def dots(image: np.ndarray, least: int) -> np.ndarray:
    """Centres (n, 2) x, y of the bright dots within 0.4 of the middle."""
    middle = np.hypot(*(np.indices(image.shape[:2]) - len(image) / 2)) < 0.4 * len(image)
    return cv2.connectedComponentsWithStats(((image.min(axis=2) > least) & middle).astype(np.uint8))[3][1:]


@pytest.mark.parametrize("as_array", [False, True], ids=["file", "array"])
@pytest.mark.parametrize("size", [200, 512, 700])
@pytest.mark.parametrize("changes", KINDS, ids=["resize", "image", "disc"])
def test_the_original_view_has_the_dots_of_the_normalised_one_and_the_photographs_colours(
    changes, size, as_array, large
):
    settings = DataSettings(**{"size": size, "centre": "disc"} | changes)
    image = read_image(large) if as_array else large
    normalised, original = (photograph.view(image, settings, colours) for colours in (False, True))
    if not as_array:
        assert np.array_equal(normalised, photograph.prepared_and_disc(str(large), settings)[0])
    assert original.shape == (size, size, 3)
    if changes["preparation"] == "resize":
        assert np.array_equal(normalised, original)
    else:
        expect = dots(normalised, 230)
        assert expect.shape == (5, 2)
        assert np.abs(dots(original, 150) - expect).max() < 0.6
    assert np.median(original[size // 2 - 20 : size // 2 + 20, size // 2 + 5 :: 5], axis=(0, 1)) == pytest.approx(
        [150, 80, 40], abs=6
    )


@pytest.mark.parametrize("original", [False, True])
@pytest.mark.parametrize("changes", KINDS, ids=["resize", "image", "disc"])
def test_a_synthetic_source_has_views(changes, original):
    settings = DataSettings(**{"size": 96, "centre": "disc"} | changes)
    got = photograph.view("synthetic:3/7", settings, original)
    assert np.array_equal(got, photograph.view(synthetic.photograph(7, 3, 115).image, settings, original))
    assert got.shape == (96, 96, 3)


def test_native_size_is_that_of_one_pixel_per_pixel_of_the_photograph(large):
    """A fundus of radius 300 has that radius at 512 px; `find_disc` takes one with a hard edge for 1 % larger."""
    found = DataSettings(size=64, preparation="graham", centre="disc")
    assert photograph.native_size(large, found) == pytest.approx(512, rel=0.015)
    assert photograph.native_size(read_image(large), found) == pytest.approx(512, rel=0.015)
    assert photograph.native_size(str(large), replace(found, recipe_size=540)) == pytest.approx(540, rel=0.015)
    assert photograph.native_size(large, replace(found, size=600)) == 600
    script = replace(found, centre="image")
    assert photograph.native_size(large, script) == pytest.approx(512, rel=0.015)
    resize = replace(found, preparation="resize")
    assert photograph.native_size(large, resize) == 900
    assert photograph.native_size(np.zeros((5000, 20, 3), np.uint8), resize) == 4096


def test_at_native_size_distances_are_those_of_the_photograph(large):
    for centre in ("disc", "image"):
        settings = DataSettings(size=64, preparation="graham", centre=centre)
        settings = replace(settings, size=photograph.native_size(large, settings))
        first, *_, last = dots(photograph.view(large, settings, original=True), 150)
        assert last - first == pytest.approx([350 - 330, 440 - 240], abs=1)  # the highest and the lowest dot


@pytest.mark.parametrize("settings", [{}, {"preparation": "resize"}])
def test_native_size_of_a_synthetic_source(settings):
    assert photograph.native_size("synthetic:0/1", DataSettings(size=64, **settings)) == 1024
    assert photograph.native_size("synthetic:0/1", DataSettings(size=2000, **settings)) == 2000


def test_native_size_is_measured_on_a_reduced_file(tmp_path):
    """Fundus radius 1500 of 4000 x 3200 px: 1500 / 300 * 512 = 2560."""
    cv2.imwrite(str(tmp_path / "x.jpg"), fundus(3200, 4000, 2000, 1600, 1500)[..., ::-1])
    for centre in ("disc", "image"):
        settings = DataSettings(size=64, preparation="graham", centre=centre)
        assert photograph.native_size(tmp_path / "x.jpg", settings) == pytest.approx(2560, rel=0.015)
    assert photograph.native_size(tmp_path / "x.jpg", replace(settings, preparation="resize")) == 4000


@pytest.mark.parametrize(("name", "size"), [("x.jpg", 100), ("x.jpg", 512), ("x.png", 512)])
def test_a_photograph_is_decoded_once(name, size, large, tmp_path, monkeypatch):
    """At its native size, too, where no reduced file is large enough."""
    cv2.imwrite(str(tmp_path / name), cv2.imread(str(large)))
    decoded = []
    monkeypatch.setattr(photograph, "read_image", lambda *given, **how: decoded.append(1) or read_image(*given, **how))
    photograph.view(tmp_path / name, DataSettings(size=size, preparation="graham", centre="disc"))
    assert len(decoded) == 1


def test_a_small_fundus_in_a_large_file_is_decoded_again(tmp_path):
    """Of 2400 px, a quarter is enough for a fundus that fills the image, but not for one of radius 400."""
    cv2.imwrite(str(tmp_path / "x.jpg"), fundus(2400, 2400, 1200, 1200, 500)[..., ::-1])
    image, disc = photograph.fundus(tmp_path / "x.jpg", 250)
    assert image.shape == (2400, 2400, 3)
    assert disc.radius == pytest.approx(500, rel=0.02)


def test_a_synthetic_source_is_rendered_larger_than_the_prepared_image():
    assert photograph.render_size(100) == 120
    got = photograph.photograph("synthetic:3/7", 100)
    assert np.array_equal(got, synthetic.photograph(7, 3, 120).image)


@pytest.mark.parametrize(
    ("settings", "expect"),
    [
        ({"preparation": "resize"}, lambda image: graham.resize(image, 64)),
        ({"preparation": "graham", "centre": "image"}, lambda image: graham.published(image, 64, 512)),
        ({"preparation": "graham", "centre": "disc"}, lambda image: graham.normalise(image, 64, 512)),
    ],
    ids=["resize", "image", "disc"],
)
def test_the_preparation_is_that_of_the_settings(settings, expect):
    image = synthetic.photograph(1, 0, 120).image
    got = photograph.prepared(image, DataSettings(size=64, **settings))
    assert np.array_equal(got, expect(image))
    others = [make(image) for make in (lambda i: graham.resize(i, 64), lambda i: graham.normalise(i, 64, 512))]
    assert sum(np.array_equal(got, other) for other in others) <= 1


def test_a_thumbnail_is_padded_with_grey_and_can_outline_the_disc(tmp_path):
    image = cv2.circle(np.zeros((200, 400, 3), np.uint8), (200, 100), 90, (40, 80, 150), -1)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    plain, outlined = (photograph.thumbnail(str(tmp_path / "a.png"), 100, outline) for outline in (False, True))
    assert plain.shape == (100, 100, 3)
    assert (plain[:25] == 128).all()
    assert (plain[75:] == 128).all()
    green = np.argwhere((outlined[..., 1] > 200) & (outlined[..., 0] < 100))
    assert np.hypot(*(green - 50).T) == pytest.approx(22.5, abs=2)
    assert len(green) > 20
    assert not ((plain[..., 1] > 200) & (plain[..., 0] < 100)).any()


def test_no_thumbnail_of_what_cannot_be_decoded_or_has_no_disc_to_outline(tmp_path):
    (tmp_path / "a.png").write_text("text")
    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((50, 50, 3), np.uint8))
    assert photograph.thumbnail(str(tmp_path / "a.png")) is None
    assert photograph.thumbnail(str(tmp_path / "nowhere.png")) is None
    assert photograph.thumbnail(str(tmp_path / "black.png"), outline=True) is None
    assert photograph.thumbnail(str(tmp_path / "black.png"), 20).shape == (20, 20, 3)


def test_a_missing_file_is_a_result_with_a_reason():
    got = photograph.prepare_one(("nowhere.png", DataSettings(size=32, dataset="csv", name="mine", folder=".")))
    assert (got.image, got.source) == (None, None)
    assert got.reason.startswith("nowhere.png: cannot be read")
