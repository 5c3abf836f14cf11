"""Measures of trust on runs made by hand, and on the smoke run."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from insightr_nb.analysis import trust
from insightr_nb.analysis.geometry import Grid
from insightr_nb.errors import DataError
from insightr_nb.settings import LabelScale


def test_evidence_adds_contributions_at_their_nearest_patches():
    distances = np.ones((2, 2, 2))
    distances[0, 1, 0] = distances[1, 1, 0] = 0
    np.testing.assert_array_equal(trust.evidence(np.array([2.0, 3]), distances), [[0, 0], [5, 0]])


def test_removed_fills_boxes_with_grey_in_a_copy():
    image = np.zeros((4, 4, 3), np.uint8)
    changed = trust.removed(image, [(1, 0, 3, 2)])
    assert (changed[:2, 1:3] == 128).all()
    assert changed.sum() == 4 * 3 * 128
    assert image.sum() == 0


def test_uncertainty_is_the_weighted_standard_deviation_of_labels():
    """Labels 0 and 4 with equal shares: mean 2, standard deviation 2; one alone: 0."""
    labels = np.array([0.0, 4])
    assert trust.uncertainty(np.array([[1, 1], [5, 0], [3, 1]]), labels) == pytest.approx([2, 0, np.sqrt(3)])


def test_referral_by_hand():
    curve = trust.referral(np.array([1.0, 0, 3, 0]), np.array([0.2, 0.1, 0.9, 0.3]))
    assert curve["referred"].tolist() == [0, 0.25, 0.5, 0.75]
    assert curve["by uncertainty"].tolist() == pytest.approx([1, 1 / 3, 0.5, 0])  # 3 leaves, then 0, then 1
    assert curve["best possible"].tolist() == pytest.approx([1, 1 / 3, 0, 0])
    assert curve["chance"].tolist() == [1] * 4


def test_area_between_deletion_curves():
    rows = [
        ("a", "contribution", 1, 0.5),
        ("a", "random", 1, 0.1),
        ("a", "contribution", 0, 9),
        ("a", "random", 0, 0),
        ("b", "contribution", 1, 0.3),
        ("b", "random", 1, 0.1),
    ]
    curves = pd.DataFrame(rows, columns=["image_id", "order", "removed", "change"])
    mean, low, high = trust.area_between(curves)
    assert mean == pytest.approx(0.3)
    assert low >= 0.2 - 1e-9
    assert high <= 0.4 + 1e-9


def test_warnings_count_and_list_prototypes():
    table = pd.DataFrame(
        {"prototype": [0, 1, 2], "gap": [0, 2, 0], "twins": [1, 1, 0], "background": [0, 0, 0.9], "used": [0.1, 0, 0.2]}
    )
    found = trust.warnings(table)
    assert [w.split(":")[0] for w in found] == [
        "2 of 3 prototypes have a twin",
        "1 of 3 prototypes carry a label more than 1.5 grades away from their source image",
        "1 of 3 prototypes lie mostly outside the disc",
        "1 of 3 prototypes are never among the top 5 of a test image",
    ]
    assert found[2].endswith("#2")
    assert trust.warnings(table.iloc[:0]) == []


# -- a run made by hand -----------------------------------------------------------------------------------------------


class HandMade:
    """The part of LoadedRun that `trust` uses: 6 px images of nine cells, and tables, arrays and a network as given."""

    grid = Grid(size=6, cells=3, stride=2, offset=0.5, receptive_field=2)

    def __init__(self, images: dict[str, np.ndarray], labels=(0.0,), network=None, **files):
        names = list(images)
        table = pd.DataFrame({"image_id": names, "label": labels, "source": names})
        self.network = network
        if network is not None:
            network.inputs = lambda images: images.permute(0, 3, 1, 2).float() / 255
        self.store = SimpleNamespace(
            table=table,
            row=names.index,
            image=lambda row: images[names[row]],
            scale=LabelScale(1, 5),
            settings=SimpleNamespace(size=6),
        )
        for name in ("predictions", "prototypes"):
            setattr(self, name, pd.DataFrame(files.get(name, {})))
        self.labels = self.prototypes["label"].to_numpy(float) if "label" in self.prototypes else None
        for name in ("weights", "distances", "prototype_maps"):
            setattr(self, name, np.array(files[name]) if name in files else None)


def grey(level: int = 50) -> np.ndarray:
    return np.full((6, 6, 3), level, np.uint8)


def watching(*box: int):
    """A network whose prediction is the mean of these pixels, 0 to 1, and whose weights are even."""
    x0, y0, x1, y1 = box

    def network(images):
        prediction = images[:, :, y0:y1, x0:x1].mean((1, 2, 3))
        return SimpleNamespace(prediction=prediction, weights=torch.ones(len(images), 2))

    return network


@pytest.mark.parametrize(("box", "faithful"), [((4, 2, 6, 4), True), ((0, 4, 2, 6), False)], ids=["right", "wrong"])
def test_deletion_removes_the_largest_contribution_first(box, faithful):
    """Both contributions lie in cell (1, 2); the network watches that cell, or another."""
    distances = np.ones((1, 2, 3, 3))
    distances[0, :, 1, 2] = 0
    image = grey()
    image[:2, :2] = 128  # a cell that is all ground cannot be removed
    run = HandMade(
        {"a": image},
        network=watching(*box),
        predictions={"image_id": ["a"], "target": [0.0]},
        weights=[[1.0, 2]],
        distances=distances,
    )
    curves = trust.deletion(run, np.array([0]), steps=20)
    own = curves[curves["order"] == "contribution"].set_index("removed")["change"]
    assert own.index.tolist() == list(range(9))  # eight cells show more image than ground
    assert own[1] == pytest.approx((128 - 50) / 255 if faithful else 0)
    assert own[8] == pytest.approx((128 - 50) / 255)
    assert (curves["removable"] == 1).all()
    mean, *_ = trust.area_between(curves)
    assert (mean > 0) == faithful


def test_deletion_does_not_remove_cells_on_the_ground():
    distances = np.ones((1, 2, 3, 3))
    distances[0, 0, 0, 0] = distances[0, 1, 1, 1] = 0
    image = grey()
    image[:2, :2] = 128
    run = HandMade(
        {"a": image},
        network=watching(0, 0, 2, 2),
        predictions={"image_id": ["a"], "target": [0.0]},
        weights=[[3.0, 1]],
        distances=distances,
    )
    curves = trust.deletion(run, np.array([0]), steps=8)
    assert (curves["removable"] == 0.25).all()
    assert (curves["change"] == 0).all()


def test_stability_of_changes_with_and_without_effect(monkeypatch):
    """Shift, rotation and JPEG do not change a grey image; a brighter one reverses the order of the prototypes."""

    def network(images):
        level = images.mean((1, 2, 3))
        return SimpleNamespace(
            prediction=level, weights=torch.where(level[:, None] > 0.53, torch.arange(10.0), torch.arange(10.0).flip(0))
        )

    monkeypatch.setattr(trust, "photograph", lambda source, size: grey(128))
    monkeypatch.setattr(trust, "prepared", lambda image, settings: image)
    run = HandMade({"a": grey(128)}, network=network, predictions={"image_id": ["a"]})
    found = trust.stability(run, np.array([0])).set_index("change")
    for name in trust.CHANGES:
        assert found["overlap"][name] == 1
        assert found["moved"][name] == pytest.approx(0, abs=1e-6)
    assert found["overlap"]["15 % brighter"] == 0
    assert found["moved"]["15 % brighter"] == pytest.approx((147 - 128) / 255)


def test_stability_without_the_photograph_leaves_brightness_out(monkeypatch):
    def gone(source, size):
        raise DataError(f"{source}: cannot be read")

    monkeypatch.setattr(trust, "photograph", gone)
    run = HandMade({"a": grey(128)}, network=watching(2, 2, 4, 4), predictions={"image_id": ["a"]})
    assert trust.stability(run, np.array([0]))["change"].tolist() == list(trust.CHANGES)


def test_predict_follows_a_shifted_spot():
    image = grey(128)
    image[2:4, 2:4] = 250
    run = HandMade({"a": image}, network=watching(2, 2, 4, 4))
    predictions = trust.predict(run, np.stack([image, trust._shift(image, 1 / 3)]))
    assert predictions == pytest.approx([250 / 255, 128 / 255])


def test_audit_of_four_prototypes_by_hand():
    """0 and 1 are twins; 2 lies on the ground; 3 carries a label two grades off; 2 is never in the top 1 of five."""
    half = grey()
    half[:, :3] = 128
    vectors = torch.tensor([[0.0, 0], [0, 0.001], [1, 1], [1, 0]])
    table = {
        "prototype": [0, 1, 2, 3],
        "label": [0.0, 0.1, 2, 4],
        "image_id": ["a", "a", "b", "b"],
        "x0": [0, 0, 0, 4],
        "y0": [0, 0, 2, 2],
        "x1": [2, 2, 2, 6],
        "y1": [2, 2, 4, 4],
    }
    weights = np.zeros((2, 8))
    weights[:, [0, 1, 3, 4, 5, 6, 7]] = 1, 1, 1, 0.5, 0.5, 0.5, 0.5
    weights[1, 3] = 0
    run = HandMade(
        {"a": grey(), "b": half},
        labels=[0.0, 2.0],
        prototypes=table,
        weights=weights,
        network=SimpleNamespace(prototype_layer=SimpleNamespace(vectors=vectors)),
    )
    audit = trust.audit(run)
    assert audit["twins"].tolist() == [1, 1, 0, 0]
    assert audit["gap"].tolist() == pytest.approx([0, 0.1, 0, 2])
    assert audit["background"].tolist() == [0, 0, 1, 0]
    assert audit["used"].tolist() == [1, 1, 0, 0.5]


def test_certainty_of_five_images_by_hand():
    """The spread of the labels rises with the error, so the two correlate; the fifth left out has the largest error."""
    shares = np.array([0, 0.1, 0.2, 0.3, 0.5])
    errors = np.array([0.0, 0.1, 0.2, 0.3, 1.4])
    run = HandMade(
        {"a": grey()},
        predictions={"prediction": errors, "target": np.zeros(5)},
        weights=np.c_[1 - shares, shares],
        prototypes={"label": [0.0, 4]},
    )
    found = trust.certainty(run)
    assert found["correlation"] == pytest.approx(1)
    assert found["MAE of all"] == pytest.approx(0.4)
    assert found["MAE without the least certain fifth"] == pytest.approx(0.15)
    run = HandMade(
        {"a": grey()},
        predictions={"prediction": errors[::-1].copy(), "target": np.zeros(5)},
        weights=np.c_[1 - shares, shares],
        prototypes={"label": [0.0, 4]},
    )
    assert trust.certainty(run)["correlation"] == pytest.approx(-1)
    assert trust.certainty(run)["MAE without the least certain fifth"] == pytest.approx(0.5)


# -- on a run ---------------------------------------------------------------------------------------------------------


def test_contributions_of_a_run_add_up_to_its_predictions(loaded):
    assert trust.completeness(loaded) < 1e-5


def test_deletion_stability_audit_and_certainty(loaded):
    curves = trust.deletion(loaded, np.array([0, 5]), steps=3)
    whole = curves[curves["removed"] == 0]
    assert (whole["change"] == 0).all()
    assert set(curves["order"]) == {"contribution", "random"}
    moved = trust.stability(loaded, np.array([0, 5]))
    assert set(moved["change"]) == {*trust.CHANGES, "15 % brighter"}
    assert moved["overlap"].between(0, 1).all()
    audit = trust.audit(loaded)
    assert audit["gap"].tolist() == pytest.approx((audit["label"] - audit["source_label"]).abs().tolist())
    same = loaded.prototypes[["image_id", "row", "col"]].duplicated(keep=False)
    assert (audit.loc[same.to_numpy(), "twins"] > 0).all()
    assert set(trust.certainty(loaded)) >= {"correlation", "p", "MAE of all"}


def test_prototypes_drift_only_where_batchnorm_moves(loaded):
    """The first fault of the published code (design.md, section 4)."""
    images = np.stack([loaded.store.image(row) for row in range(60)])
    before = {k: v.clone() for k, v in loaded.network.state_dict().items()}
    moving = trust.drift_of_prototypes(loaded, images, epochs=2, moving=True)
    frozen = trust.drift_of_prototypes(loaded, images, epochs=2, moving=False)
    assert max(frozen) <= 1e-6
    assert moving[0] <= 1e-6
    assert moving[2] > 1e-4
    assert all((before[k] == v).all() for k, v in loaded.network.state_dict().items())
