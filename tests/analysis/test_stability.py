"""Effect of image changes on runs and tables made by hand, and on the smoke run."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from analysis.handmade import HandMade, grey, watching

from insightr_nb.analysis import stability
from insightr_nb.analysis.deletion import predict
from insightr_nb.analysis.inference import HOLDS, NOT, judged
from insightr_nb.errors import DataError
from insightr_nb.model.network import ResNetRegressor
from insightr_nb.settings import TrainingSettings


@pytest.fixture
def raw(monkeypatch):
    """The raw photograph is grey, and its preparation changes nothing."""
    monkeypatch.setattr(stability, "photograph", lambda source, size: grey(128))
    monkeypatch.setattr(stability, "prepared", lambda image, settings: image)


def level(images: torch.Tensor) -> SimpleNamespace:
    """Predicts the mean level of an image; above 0.53, the order of its ten contributions is reversed."""
    mean, ten = images.mean((1, 2, 3)), torch.arange(10.0)
    return SimpleNamespace(prediction=mean, weights=torch.where(mean[:, None] > 0.53, ten, ten.flip(0)))


def test_changes_with_and_without_effect(raw):
    """Only brightness changes a grey image: the largest contributions, of labels 0 to 4, become those of 5 to 9."""
    run = HandMade(
        {"a": grey(128)}, network=level, predictions={"image_id": ["a"]}, prototypes={"label": np.arange(10.0)}
    )
    found = stability.measure(run, [0]).set_index("change")
    assert found.index.tolist() == [*stability.CHANGES, "15 % brighter"]
    for name in stability.CHANGES:
        assert found.loc[name, ["overlap", "moved_labels"]].tolist() == [1, 0]
        assert found["moved"][name] == pytest.approx(0, abs=1e-6)
    assert found.loc["15 % brighter", ["overlap", "moved_labels"]].tolist() == [0, 5]
    assert found["moved"]["15 % brighter"] == pytest.approx((147 - 128) / 255)
    assert found["baseline_moved"].isna().all()
    assert set(found["patient_id"]) == {"patient of a"}


def test_the_baseline_is_measured_under_the_same_changes(raw):
    half = watching(0, 0, 6, 6)

    def baseline(images):
        return SimpleNamespace(prediction=0.5 * half(images).prediction)

    baseline.inputs, baseline.prediction = None, lambda output: output.prediction
    run = HandMade({"a": grey(128)}, network=level, predictions={"image_id": ["a"]}, prototypes={"label": range(10)})
    baseline.inputs = run.network.inputs
    found = stability.measure(run, [0], baseline).set_index("change")
    assert found["baseline_moved"]["15 % brighter"] == pytest.approx((147 - 128) / 255 / 2)
    assert found["baseline_moved"]["mirror image"] == pytest.approx(0, abs=1e-6)


def test_without_the_photograph_brightness_is_left_out(monkeypatch):
    def gone(source, size):
        raise DataError(f"{source}: cannot be read")

    monkeypatch.setattr(stability, "photograph", gone)
    run = HandMade({"a": grey()}, network=level, predictions={"image_id": ["a"]}, prototypes={"label": range(10)})
    assert stability.measure(run, [0])["change"].tolist() == list(stability.CHANGES)


def test_a_shifted_spot():
    image = grey(128)
    image[2:4, 2:4] = 250
    run = HandMade({"a": image}, network=watching(2, 2, 4, 4))
    images = np.stack([image, stability._shift(image, 1 / 3)])
    assert predict(run.network, images, run.store.scale) == pytest.approx([250 / 255, 128 / 255])


def test_mirror_image_and_shear_of_a_column():
    """Half a pixel to the side for each row from the middle; a mirror image exchanges the columns 1 and 3."""
    image = np.full((5, 5, 3), 128, np.uint8)
    image[:, 1] = 250
    assert stability._mirror(image)[..., 0].tolist() == [[128, 128, 128, 250, 128]] * 5
    sheared = stability._shear(image, 0.5)[..., 0]
    assert sheared[[0, 2, 4]].argmax(axis=1).tolist() == [0, 1, 2]


def test_rotations_are_seen_if_the_range_of_training_reaches_them():
    assert stability.seen(TrainingSettings(rotation=360)) == {"rotation by 5°"}
    assert stability.seen(TrainingSettings(rotation=4)) == set()


def rows(moved: float, baseline: float = np.nan, overlap: float = 0.8) -> pd.DataFrame:
    """24 images of twelve patients under three changes; the rotation moves the prediction by 9."""
    columns = {"overlap": overlap, "moved_labels": 0.25, "moved": moved, "baseline_moved": baseline}
    changes = [("JPEG quality 50", False), ("mirror image", False), ("rotation by 5°", True)]
    table = pd.DataFrame(
        [
            {"change": change, "seen": seen, "image_id": f"{n}", "patient_id": f"{n // 2}"} | columns
            for n in range(24)
            for change, seen in changes
        ]
    )
    table.loc[table["seen"], "moved"] = 9
    return table


@pytest.mark.parametrize(("moved", "overlap", "verdicts"), [(0.1, 0.6, [HOLDS, HOLDS]), (0.3, 0.4, [NOT, NOT])])
def test_claims_compare_with_the_baseline_and_with_one_half(moved, overlap, verdicts):
    found = judged(stability.claims(rows(moved, 0.2, overlap)))
    assert found["verdict"].tolist() == verdicts
    assert found["figures"][0] == (
        "by 0.100, the baseline's by 0.200: +0.100 less"
        if moved == 0.1
        else "by 0.300, the baseline's by 0.200: -0.100 less"
    )
    assert found["figures"][1] == f"{overlap:.0%} stay"


def test_claims_without_a_baseline_and_over_folds():
    assert [claim.text[:8] for claim in stability.claims(rows(0.1))] == ["At least"]
    folds = pd.concat([rows(0.1, 0.2, overlap).assign(fold=fold) for fold, overlap in enumerate((0.4, 0.6, 0.8))])
    less, stay = stability.claims(folds, held_out_ratio=0.25)
    assert len(less.effects[0]) == len(stay.effects[0]) == 2
    assert stay.effects[0][1].mean == pytest.approx(0.6)
    assert stay.effects[0][1].low == pytest.approx(0.6 - 4.302653 * 0.2 * (1 / 3 + 0.25) ** 0.5, rel=1e-4)


def test_the_summary_has_a_row_per_change():
    table = stability.summary(rows(0.3, 0.2))
    assert table["change"].tolist() == ["JPEG quality 50", "mirror image", "rotation by 5°"]
    assert table["seen"].tolist() == [False, False, True]
    assert table["ratio"].tolist() == pytest.approx([1.5, 1.5, 45])
    means = table[["images", "overlap", "overlap low", "overlap high", "moved_labels"]].iloc[0].tolist()
    assert means == pytest.approx([24, 0.8, np.nan, np.nan, 0.25], nan_ok=True)  # all patients are alike
    assert stability.summary(rows(0.3))["ratio"].isna().tolist() == [True, True, True]


def test_stability_of_a_run_and_of_a_baseline(loaded):
    torch.manual_seed(0)
    baseline = ResNetRegressor(loaded.settings.model, "random").eval()
    moved = stability.measure(loaded, [0, 5], baseline)
    assert set(moved["change"]) == {*stability.CHANGES, "15 % brighter"}
    assert moved["overlap"].between(0, 1).all()
    assert (moved["baseline_moved"] > 0).all()
    assert moved["moved"].between(0, 4.1).all()
    assert moved["moved"].max() > 0
    assert moved["patient_id"].unique().tolist() == loaded.patients[[0, 5]].tolist()
