"""Deletion curves and their controls on runs and tables made by hand, and on the smoke run."""

import numpy as np
import pandas as pd
import pytest
from analysis.handmade import HandMade, grey, watching

from insightr_nb.analysis import deletion
from insightr_nb.analysis.inference import HOLDS, NOT, UNKNOWN, judged

LEVEL = (128 - 50) / 255  # change of a watched cell of level 50 that becomes grey


def test_evidence_adds_contributions_at_their_nearest_patches():
    distances = np.ones((2, 2, 2))
    distances[0, 1, 0] = distances[1, 1, 0] = 0
    np.testing.assert_array_equal(deletion.evidence(np.array([2.0, 3]), distances), [[0, 0], [5, 0]])


def test_removals_replace_one_box_more_at_each_step_and_leave_the_image():
    image = np.zeros((4, 4, 3), np.uint8)
    first, second = deletion.removals(image, [(1, 0, 3, 2), (0, 3, 1, 4)], np.full_like(image, 7))
    assert first[..., 0].tolist() == [[0, 7, 7, 0], [0, 7, 7, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert second[..., 2].tolist() == [[0, 7, 7, 0], [0, 7, 7, 0], [0, 0, 0, 0], [7, 0, 0, 0]]
    assert image.sum() == 0


def test_fills_of_an_image():
    image = np.full((64, 64, 3), 50, np.uint8)
    assert (deletion.filling(image, "grey") == 128).all()
    assert (deletion.filling(image, "blurred") == 50).all()
    image[32, 32] = 255  # one pixel hardly shows through a Gaussian of 8 px
    assert deletion.filling(image, "blurred").max() <= 51


def hand_made(**changes) -> HandMade:
    """Both contributions lie in cell (1, 2), the highest contrast in cell (2, 2), and cell (0, 0) is all ground."""
    distances = np.ones((1, 2, 3, 3))
    distances[0, :, 1, 2] = 0
    image = grey()
    image[:2, :2] = 128
    image[4:, 4:] = 0
    options = {"predictions": {"image_id": ["a"]}, "weights": [[1.0, 2]], "distances": distances}
    return HandMade({"a": image}, **options | changes)


def curve(curves: pd.DataFrame, order: str, fill: str = "grey") -> list[float]:
    return curves[(curves["order"] == order) & (curves["fill"] == fill)].sort_values("removed")["change"].tolist()


@pytest.mark.parametrize(("box", "change"), [((4, 2, 6, 4), LEVEL), ((0, 4, 2, 6), 0)], ids=["right", "wrong"])
def test_the_largest_contribution_is_removed_first(box, change):
    curves = deletion.measure(hand_made(network=watching(*box)), [0], steps=20)
    own = curve(curves, "contribution")
    assert len(own) == 9  # eight cells show more image than ground
    assert own[:2] == pytest.approx([0, change])
    assert own[8] == pytest.approx(LEVEL)
    assert (curves["removable"] == 1).all()
    assert set(curves["patient_id"]) == {"patient of a"}


def test_the_controls_remove_the_same_cells_in_their_own_order():
    curves = deletion.measure(hand_made(network=watching(4, 4, 6, 6)), [0], steps=20, randoms=3)
    assert curve(curves, "contrast")[1] == pytest.approx(128 / 255)
    random = curve(curves, "random")
    assert random[8] == pytest.approx(128 / 255)
    assert random[1] * 255 / 128 * 3 == pytest.approx(round(random[1] * 255 / 128 * 3))  # mean of three orders
    assert random == sorted(random)


def test_a_uniform_image_changes_where_it_becomes_grey_and_not_where_it_is_blurred():
    image = grey(50)
    curves = deletion.measure(HandMade({"a": image}, network=watching(4, 2, 6, 4), **two_matches(0)), [0], steps=9)
    assert curve(curves, "contribution", "blurred") == [0] * 10
    assert curve(curves, "contribution", "grey") == pytest.approx([0] + [LEVEL] * 9)


def two_matches(cell: int) -> dict:
    """The first contribution, of 3 in 4, lies in cell (1, 2) or, for 1, in cell (0, 0); the second in (1, 2)."""
    distances = np.ones((1, 2, 3, 3))
    distances[0, 0].flat[[5, 0][cell]] = distances[0, 1, 1, 2] = 0
    return {"predictions": {"image_id": ["a"]}, "weights": [[3.0, 1]], "distances": distances}


def test_cells_on_the_ground_are_not_removed():
    curves = deletion.measure(hand_made(network=watching(0, 0, 2, 2), **two_matches(1)), [0])
    assert (curves["removable"] == 0.25).all()
    assert (curves["change"] == 0).all()


def test_an_image_without_removable_cells_is_left_out():
    run = hand_made(network=watching(0, 0, 2, 2))
    run.store.image = lambda row: grey(128)
    assert deletion.measure(run, [0]).empty


def test_curves_are_averaged_over_the_steps_of_an_image():
    rows = [
        (n, order, removed, change)
        for n, order, removed, change in (
            ("a", "contribution", 0, 0.0),
            ("a", "contribution", 1, 0.2),
            ("a", "contribution", 2, 0.4),
            ("a", "random", 0, 0.0),
            ("a", "random", 1, 0.1),
            ("a", "random", 2, 0.3),
        )
    ]
    curves = pd.DataFrame(rows, columns=["image_id", "order", "removed", "change"])
    found = deletion.per_image(curves.assign(patient_id="p", fill="grey", removable=0.8))
    assert found["order"].tolist() == ["contribution", "random"]
    assert found["change"].tolist() == pytest.approx([0.3, 0.2])
    assert found["removable"].tolist() == [0.8, 0.8]


def rows(contribution: float, random: float, contrast: float, fill: str = "grey", noise: float = 0.0) -> pd.DataFrame:
    """24 images of twelve patients, in whose second halves contributions change the prediction by `noise` more."""
    changes = {"contribution": contribution, "random": random, "contrast": contrast}
    return pd.DataFrame(
        [
            {
                "image_id": f"{n}",
                "patient_id": f"{n // 2}",
                "fill": fill,
                "order": order,
                "change": change + noise * (order == "contribution") * (1 if n >= 12 else -1),
                "removable": 0.9,
            }
            for n in range(24)
            for order, change in changes.items()
        ]
    )


@pytest.mark.parametrize(
    ("changes", "noise", "verdict"),
    [
        ((0.5, 0.1, 0.2), 0.0, HOLDS),
        ((0.5, 0.1, 0.7), 0.0, NOT),
        ((0.05, 0.1, 0.01), 0.0, NOT),
        ((0.5, 0.1, 0.45), 0.3, UNKNOWN),
    ],
    ids=["above both", "below contrast", "below random", "noisy"],
)
def test_removal_by_contribution_must_beat_both_controls(changes, noise, verdict):
    both = pd.concat([rows(*changes, noise=noise), rows(0.5, 0.1, 0.2, "blurred")])
    found = judged(deletion.claims(both))
    assert found["verdict"].tolist() == [verdict, HOLDS]
    assert "(blurred fill)" in found["claim"][1]
    assert found["figures"][1] == "+0.400 against random; +0.300 against contrast"


def test_a_claim_over_folds_must_hold_over_patients_and_over_folds():
    """The gap to random orders is 0.4, -0.1 and 0.9: over folds 0.4 +- 1.24, over the patients 0.4 +- 0."""
    folds = [rows(change, 0.1, 0.0).assign(fold=fold) for fold, change in enumerate((0.5, 0.0, 1.0))]
    both = pd.concat([*folds, *(each.assign(fill="blurred") for each in folds)])
    first = deletion.claims(both, held_out_ratio=0.25)[0]
    patients, over_folds = first.effects[0]
    assert (patients.mean, over_folds.mean) == (pytest.approx(0.4), pytest.approx(0.4))
    assert over_folds.high - over_folds.mean == pytest.approx(4.302653 * 0.5 * (1 / 3 + 0.25) ** 0.5, rel=1e-4)
    assert judged([first])["verdict"].tolist() == [UNKNOWN]


def test_the_summary_has_the_gap_to_each_control():
    table = deletion.summary(pd.concat([rows(0.5, 0.1, 0.2), rows(0.3, 0.1, 0.4, "blurred")]))
    assert table[["fill", "order"]].to_numpy().tolist() == [
        [fill, order] for fill in ("grey", "blurred") for order in ("contribution", "random", "contrast")
    ]
    assert table["change"].tolist() == pytest.approx([0.5, 0.1, 0.2, 0.3, 0.1, 0.4])
    assert table["gap"].tolist() == pytest.approx([np.nan, 0.4, 0.3, np.nan, 0.2, -0.1], nan_ok=True)
    assert table["gap low"].isna().all()  # all patients are alike
    noisy = deletion.summary(rows(0.5, 0.1, 0.2, noise=0.1))
    assert 0.3 < noisy["gap low"][1] < noisy["gap"][1] < noisy["gap high"][1] < 0.5
    assert table["images"].tolist() == [24] * 6
    folds = pd.concat([rows(0.5, 0.1, 0.2).assign(fold=0), rows(0.9, 0.1, 0.2).assign(fold=1)])
    assert deletion.summary(folds)["gap"].tolist() == pytest.approx([np.nan, 0.6, 0.5], nan_ok=True)


def test_predictions_of_a_run_are_those_of_its_file(loaded):
    images = np.stack([loaded.store.image(loaded.store.row(i)) for i in loaded.predictions["image_id"][:5]])
    predictions = deletion.predict(loaded.network, images, loaded.store.scale, batch=2)
    np.testing.assert_allclose(predictions, loaded.predictions["prediction"][:5], atol=1e-4)


def test_contributions_of_a_run_add_up_to_its_predictions(loaded):
    assert deletion.completeness(loaded) < 1e-5


def test_deletion_on_a_run(loaded):
    curves = deletion.measure(loaded, [0, 5], steps=3)
    assert len(curves) == 2 * 2 * 3 * 4  # images, fills, orders, numbers of patches
    assert (curves[curves["removed"] == 0]["change"] == 0).all()
    assert (curves[curves["removed"] == 3]["change"] > 0).any()
    assert curves["patient_id"].unique().tolist() == loaded.patients[[0, 5]].tolist()
