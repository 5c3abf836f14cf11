"""Agreement with lesions: by hand, and on the smoke run."""

import numpy as np
import pytest
import torch

from insightr_nb.analysis import lesions
from insightr_nb.analysis.explanation import explain
from insightr_nb.data.masks import lesion_masks
from insightr_nb.model.network import ResNetRegressor

CENTRES = np.array([1.0, 3.0, 5.0])  # three cells of two pixels in an image of 6 px, at 1, 3, 5


LESION = np.zeros((6, 6), bool)
LESION[3, 5] = True  # under the centre of cell (1, 2)


def heat(*cells) -> np.ndarray:
    values = np.zeros((3, 3))
    for cell in cells:
        values[cell] = 1
    return values


@pytest.mark.parametrize(
    ("values", "lesion", "expect"),
    [
        (heat((1, 2)), LESION, 1),  # right
        (heat((2, 1)), LESION, 0),  # wrong, though rows and columns exchanged it would be right
        (heat((1, 2), (0, 0)), LESION, 0.5),  # a tie
        (heat(), LESION, 1 / 9),  # nine-fold tie: as a random cell
        (heat((1, 2)), np.zeros((6, 6), bool), 0),  # empty mask
        (heat((1, 2)), np.roll(LESION, 1, axis=0), 0),  # no tolerance: one pixel beside
    ],
    ids=["right", "wrong", "tie", "flat", "no lesion", "one pixel off"],
)
def test_pointing_by_hand(values, lesion, expect):
    assert lesions.pointing(values, CENTRES, lesion) == pytest.approx(expect)


def test_a_centre_outside_the_image_takes_the_nearest_pixel():
    lesion = np.zeros((6, 6), bool)
    lesion[0, 0] = True
    assert lesions.pointing(heat((0, 0)), np.array([-4.0, 2, 8]), lesion) == 1


def test_mass_ratio_by_hand():
    disc = np.ones((4, 4), bool)
    lesion = np.zeros((4, 4), bool)
    lesion[0] = True  # a quarter of the disc
    assert lesions.mass_ratio(np.ones((4, 4)), lesion, disc) == pytest.approx(1)  # flat: chance
    assert lesions.mass_ratio(lesion.astype(float), lesion, disc) == pytest.approx(4)  # all of it: 1 / (1 / 4)
    assert lesions.mass_ratio((~lesion).astype(float), lesion, disc) == 0
    assert np.isnan(lesions.mass_ratio(np.ones((4, 4)), np.zeros((4, 4), bool), disc))
    assert np.isnan(lesions.mass_ratio(np.zeros((4, 4)), lesion, disc))
    half = disc.copy()
    half[2:] = False  # what lies outside the disc does not count
    assert lesions.mass_ratio(np.ones((4, 4)), lesion, half) == pytest.approx(1)


def test_the_lesion_report_of_a_run(loaded):
    report = lesions.lesion_report(loaded, limit=12)
    assert set(report["method"]) == {
        "INSightR-Net, top 1",
        "INSightR-Net, top 1, traced",
        "INSightR-Net, top 3",
        "contrast of the image",
        "random map",
    }
    table = loaded.predictions.set_index("image_id")
    one = report[(report["lesion"] == "any") & (report["method"] == "INSightR-Net, top 1")].iloc[0]
    e = explain(loaded, one["image_id"])
    masks = lesion_masks(loaded.store, one["image_id"])
    lesion = np.any(list(masks.values()), axis=0)
    row, col = np.clip(np.rint(loaded.grid.centre(e.cells[e.top(1)[0]])).astype(int), 0, 63)
    assert one["pointing"] == lesion[row, col]
    assert one["target"] == table.loc[one["image_id"], "target"]
    assert "any" not in masks
    summary = lesions.lesion_table(report)
    assert ("all", "chance") in summary.index
    assert (summary["pointing low"] <= summary["pointing"]).all()
    kinds = lesions.by_kind(report)
    assert set(kinds.index.get_level_values("method")) == set(report["method"])
    assert (kinds["images"] <= 12).all()
    sources = lesions.source_report(loaded)
    assert len(sources) == 10
    p = loaded.prototypes.iloc[sources["pointing"].first_valid_index()]
    mask = np.any(list(lesion_masks(loaded.store, p["image_id"]).values()), axis=0)
    row, col = np.clip(np.rint(loaded.grid.centre(np.array([p["row"], p["col"]]))).astype(int), 0, 63)
    assert sources["pointing"][p["prototype"]] == mask[row, col]


def test_a_baseline_adds_grad_cam_and_its_traced_map(loaded):
    torch.manual_seed(0)
    baseline = ResNetRegressor(loaded.settings.model, "random").eval()
    report = lesions.lesion_report(loaded, baseline=baseline, limit=4)
    methods = report["method"].drop_duplicates().tolist()
    assert methods[3:5] == ["Grad-CAM of the baseline", "baseline, traced"]
    assert len(methods) == 7
    assert report["pointing"].between(0, 1).all()
