"""Lesion masks are prepared with the geometry of their photographs."""

import cv2
import numpy as np
import pytest

from insightr_nb.data import graham
from insightr_nb.data.masks import lesion_masks, masked
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


def test_masks_of_synthetic_images_need_no_folder():
    store = prepare(DataSettings(size=64, train_images=120, test_images=40, folds=3))
    ill = store.table.index[store.table["label"] == 4][0]
    masks = lesion_masks(store, store.table["image_id"][ill])
    assert any(m.any() for m in masks.values())
    assert all(m.shape == (64, 64) and m.dtype == bool for m in masks.values())
    assert not np.any([m & ~graham.mask(64) for m in masks.values()])


def test_missing_and_odd_masks_are_named(folders):
    store = prepare(DataSettings(dataset="csv", name="spots", folder=str(folders / "images"), size=64))
    with pytest.raises(DataError, match="spots has no lesion masks; pass a folder"):
        lesion_masks(store, "e0")
    (folders / "masks/e1_haemorrhage.png").unlink()
    with pytest.raises(DataError, match=r"no mask e1_<lesion>\.png"):
        lesion_masks(store, "e1", folders / "masks")
    assert masked(store, ["e0", "e1", "e2"], folders / "masks") == ["e0", "e2"]
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
