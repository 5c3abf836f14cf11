"""Lesion masks are prepared with the geometry of their photographs."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from insightr_nb.data import display, graham, synthetic
from insightr_nb.data.masks import has_masks_of, lesion_masks, masked, outlines
from insightr_nb.data.photograph import view
from insightr_nb.data.prepare import prepare
from insightr_nb.errors import DataError
from insightr_nb.settings import DataSettings


def photograph(width=640, height=480, centre=(330, 235), radius=200, spot=(400, 180), reach=20) -> np.ndarray:
    """A grey fundus on black with one dark round spot."""
    image = np.zeros((height, width, 3), np.uint8)
    cv2.circle(image, centre, radius, (150, 110, 70), -1)
    cv2.circle(image, spot, reach, (40, 20, 20), -1)
    return image


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """A csv data set of such photographs, and a folder of masks of the spots."""
    monkeypatch.setenv("INSIGHTR_OUTPUTS", str(tmp_path / "out"))
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    rng = np.random.default_rng(0)
    lines = ["image,label"]
    for n in range(30):
        spot = (330 + int(rng.integers(-90, 90)), 235 + int(rng.integers(-90, 90)))
        centre = (330 + int(rng.integers(-30, 30)), 235 + int(rng.integers(-20, 20)))
        cv2.imwrite(str(tmp_path / f"images/e{n}.png"), photograph(spot=spot, centre=centre)[..., ::-1])
        mask = np.zeros((480, 640), np.uint8)
        cv2.circle(mask, spot, 20, 255, -1)
        cv2.imwrite(str(tmp_path / f"masks/e{n}_haemorrhage.png"), mask)
        lines.append(f"e{n}.png,{n % 5}")
    (tmp_path / "images/labels.csv").write_text("\n".join(lines))
    return tmp_path


@pytest.mark.parametrize(("preparation", "centre"), [("graham", "disc"), ("graham", "image"), ("resize", "disc")])
def test_a_mask_lies_where_the_lesion_is_in_the_prepared_image(folders, preparation, centre):
    store = prepare(
        DataSettings(
            dataset="csv",
            name="spots",
            folder=str(folders / "images"),
            size=128,
            preparation=preparation,
            centre=centre,
        )
    )
    for n in (0, 7, 13):
        masks = lesion_masks(store, f"e{n}", folders / "masks")
        assert list(masks) == ["haemorrhage"]
        mask, image = masks["haemorrhage"], store.image(store.row(f"e{n}"))
        if preparation == "graham":  # contrast is at the rim of the spot only, away from the edge of the fundus
            spot = (np.abs(image.astype(int) - 128) > 60).any(axis=2)
            spot &= np.hypot(*(np.indices((128, 128)) - 63.5)) < 46
        else:
            spot = np.abs(image.astype(int) - [40, 20, 20]).max(axis=2) < 30
            spot = cv2.morphologyEx(spot.astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)) > 0
        rows, columns = np.nonzero(mask)
        found = np.argwhere(spot).mean(axis=0)
        assert np.hypot(*(found - [rows.mean(), columns.mean()])) < 1.5, (preparation, centre, n)


@pytest.mark.parametrize("size", [display.SIZE, 333])
@pytest.mark.parametrize(("preparation", "centre"), [("graham", "disc"), ("graham", "image"), ("resize", "disc")])
def test_masks_at_another_size_lie_on_the_lesions_of_pictures_of_that_size(folders, preparation, centre, size):
    given = {"preparation": preparation, "centre": centre}
    store = prepare(DataSettings(dataset="csv", name="spots", folder=str(folders / "images"), size=64, **given))
    settings = replace(store.settings, size=size)
    for n in (0, 7):
        mask = lesion_masks(store, f"e{n}", folders / "masks", size)["haemorrhage"]
        assert mask.shape == (size, size)
        picture = view(folders / f"images/e{n}.png", settings, original=True).astype(int)
        dark = (np.abs(picture - [40, 20, 20]).max(axis=2) < 60).astype(np.uint8)  # half way to the fundus
        labels = cv2.connectedComponents(dark)[1]
        dark = labels == labels[tuple(np.argwhere(mask).mean(axis=0).astype(int))]
        assert (mask & dark).sum() / (mask | dark).sum() > 0.93
        centres = (np.argwhere(pixels).mean(axis=0) for pixels in (mask, dark))
        assert np.abs(np.subtract(*centres)).max() < 0.3
        small, own = (
            lesion_masks(store, f"e{n}", folders / "masks"),
            lesion_masks(store, f"e{n}", folders / "masks", 64),
        )
        assert np.array_equal(small["haemorrhage"], own["haemorrhage"])
        assert small["haemorrhage"].shape == (64, 64)


@pytest.mark.parametrize("changes", [{}, {"centre": "image"}])
def test_masks_of_synthetic_images_at_another_size_lie_on_the_lesions(changes, tmp_path, monkeypatch):
    """Exudates are brighter than their surroundings in the picture of the same size."""
    monkeypatch.setenv("INSIGHTR_OUTPUTS", str(tmp_path))
    store = prepare(DataSettings(size=64, train_images=20, test_images=10, **changes))
    contrast = []
    for row in range(len(store.table)):
        mask = lesion_masks(store, store.table["image_id"][row], size=512)["hard_exudate"]
        if mask.sum() > 200:
            picture = display.display_image(store, row).astype(float)[..., 1]
            ring = cv2.dilate(mask.astype(np.uint8), np.ones((15, 15))) > cv2.dilate(
                mask.astype(np.uint8), np.ones((5, 5))
            )
            contrast.append(picture[mask].mean() - picture[ring].mean())
    assert len(contrast) >= 3
    assert np.min(contrast) > 20


# -- outlines ---------------------------------------------------------------------------------------------------------


def area(polygon: np.ndarray) -> float:
    return cv2.contourArea(polygon.astype(np.float32))


def test_the_outline_of_one_pixel_is_its_edge():
    mask = np.zeros((8, 9), bool)
    mask[3, 5] = True
    (polygon,) = outlines(mask)
    assert sorted(polygon.tolist()) == [[5, 3], [5, 4], [6, 3], [6, 4]]
    assert area(polygon) == 1


def test_the_outline_of_a_rectangle_at_the_border_is_on_the_border():
    mask = np.zeros((8, 9), bool)
    mask[:2, 4:] = True
    (polygon,) = outlines(mask)
    assert sorted(polygon.tolist()) == [[4, 0], [4, 2], [9, 0], [9, 2]]


def test_every_region_and_hole_has_an_outline_and_an_empty_mask_has_none():
    mask = np.zeros((20, 30), bool)
    mask[2:9, 3:10] = True
    mask[4:7, 5:8] = False  # a hole of 9 pixels
    mask[12, 20:22] = True
    polygons = sorted(outlines(mask), key=area)
    assert [area(polygon) for polygon in polygons] == pytest.approx([2, 9, 49], abs=0.6)
    assert (polygons[1].min(axis=0).tolist(), polygons[1].max(axis=0).tolist()) == ([5, 4], [8, 7])
    assert outlines(np.zeros((20, 30), bool)) == []


def test_pixels_apart_have_outlines_of_their_own_and_pixels_that_touch_share_one():
    mask = np.zeros((6, 12), bool)
    mask[1, 1] = mask[1, 3] = True
    assert len(outlines(mask)) == 2
    mask[4, 6] = mask[5, 7] = True
    assert len(outlines(mask)) == 3


def test_filled_outlines_give_the_mask_back():
    """Also of a lesion of a synthetic photograph; drawn at ten times the size, as a zooming viewer does."""
    masks = synthetic.photograph(8, 0, 200).masks
    mask = max(masks.values(), key=np.sum)
    assert mask.sum() > 100
    canvas = np.zeros((2000, 2000), np.uint8)
    cv2.fillPoly(canvas, [np.rint(10 * p - 0.5).astype(np.int32) for p in outlines(mask)], 1)  # even-odd: holes stay
    back = cv2.resize(canvas.astype(np.float32), (200, 200), interpolation=cv2.INTER_AREA) > 0.5
    assert np.array_equal(back, mask)


# -- masks and their files --------------------------------------------------------------------------------------------


def test_masks_of_synthetic_images_need_no_folder():
    store = prepare(DataSettings(size=64, train_images=120, test_images=40, folds=3))
    ill = store.table.index[store.table["label"] == 4][0]
    masks = lesion_masks(store, store.table["image_id"][ill])
    assert any(m.any() for m in masks.values())
    assert all(m.shape == (64, 64) and m.dtype == bool for m in masks.values())
    assert not np.any([m & ~graham.mask(64) for m in masks.values()])
    assert has_masks_of(store, store.table["image_id"][0], None)
    assert has_masks_of(store, store.table["image_id"][0], store.path)  # it is drawn, whatever the folder holds


def test_missing_and_odd_masks_are_named(folders):
    store = prepare(DataSettings(dataset="csv", name="spots", folder=str(folders / "images"), size=64))
    with pytest.raises(DataError, match="spots has no lesion masks; pass a folder"):
        lesion_masks(store, "e0")
    (folders / "masks/e1_haemorrhage.png").unlink()
    with pytest.raises(DataError, match=r"no mask e1_<lesion>\.png"):
        lesion_masks(store, "e1", folders / "masks")
    assert masked(store, ["e0", "e1", "e2"], folders / "masks") == ["e0", "e2"]
    assert [has_masks_of(store, f"e{n}", folders / "masks") for n in range(3)] == [True, False, True]
    assert not has_masks_of(store, "e0", None)
    with pytest.raises(DataError, match=r"for any of 1 images; their ids look like 'e1'"):
        masked(store, ["e1"], folders / "masks")
    cv2.imwrite(str(folders / "masks/e2_haemorrhage.png"), np.zeros((480, 480), np.uint8))
    with pytest.raises(
        DataError, match=r"e2_haemorrhage\.png is 480 x 480 px, not of the aspect ratio of its photograph"
    ):
        lesion_masks(store, "e2", folders / "masks")


def test_masks_of_an_image_whose_id_begins_another(folders):
    """e1 and e1_left; and ids with a subfolder, as the catalogue makes them."""
    lines = ["image,label"]
    for n, name in enumerate(["e1", "e1_left", "e2", "sub/e3", "sub/e4", *(f"other{i}" for i in range(7))]):
        (folders / "more/sub").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folders / f"more/{name}.png"), photograph(spot=(300 + 10 * n, 180))[..., ::-1])
        lines.append(f"{name}.png,{n % 2}")
    (folders / "more/labels.csv").write_text("\n".join(lines))
    store = prepare(DataSettings(dataset="csv", name="more", folder=str(folders / "more"), size=64, label_max=4))
    (folders / "marks/sub").mkdir(parents=True)
    for name in ("e1_MA", "e1_left_MA", "e1_left_HE", "sub/e3_MA"):
        cv2.imwrite(str(folders / f"marks/{name}.png"), np.zeros((480, 640), np.uint8))
    expect = {"e1": ["MA"], "e1_left": ["HE", "MA"], "sub/e3": ["MA"]}
    assert {i: list(lesion_masks(store, i, folders / "marks")) for i in expect} == expect
    assert masked(store, [*expect, "e2", "sub/e4"], folders / "marks") == list(expect)
