"""Scores of uncertainty: runs and rows made by hand, and the smoke run."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from insightr_nb.analysis import confidence
from insightr_nb.analysis.confidence import BEST, CHANCE, DISTANCE, FOLDS, GRADE, MIDDLE, SPREAD
from insightr_nb.settings import LabelScale


def fold(**predictions: float) -> SimpleNamespace:
    """A finished run with these predictions by image."""
    table = pd.DataFrame({"image_id": list(predictions), "prediction": list(predictions.values())})
    return SimpleNamespace(table=lambda name: table)


def handmade(folds=(), grades: bool = True) -> SimpleNamespace:
    """Two images and three prototypes with the labels 0, 4 and 2, of which the last is switched off."""
    return SimpleNamespace(
        predictions=pd.DataFrame({"image_id": ["a", "b"], "target": [1.0, 4], "prediction": [1.0, 3.4]}),
        patients=np.array(["p", "q"]),
        weights=np.array([[3.0, 1, 0], [0, 2, 0]]),
        labels=np.array([0.0, 4, 2]),
        importance=np.array([1.0, 1, 0]),
        distances=np.array([[[[9.0, 2]], [[5, 3]], [[0, 0]]], [[[8, 7]], [[4, 6]], [[0, 0]]]]),  # (2, 3, 1, 2)
        store=SimpleNamespace(scale=LabelScale(0, 4), grades=grades),
        run=SimpleNamespace(folds=lambda: list(folds)),
    )


def rows(patients: int = 40, spread=None, seed: int = 0) -> pd.DataFrame:
    """Two images of each patient; the error rises from grade to half grade, plus a part that only `spread` can know."""
    rng = np.random.default_rng(seed)
    predictions, hidden = rng.uniform(0, 4, 2 * patients), rng.uniform(0, 1, 2 * patients)
    noise = rng.uniform(size=2 * patients)
    between = np.abs(predictions - np.rint(predictions))
    spreads = {None: noise, "hidden": hidden, "noisy": hidden + noise, "prediction": between * predictions}
    return pd.DataFrame(
        {
            "image_id": np.arange(2 * patients).astype(str),
            "patient_id": np.repeat(np.arange(patients), 2).astype(str),
            "prediction": predictions,
            "error": between + 0.5 * hidden,
            SPREAD: spreads[spread],
            FOLDS: np.nan,
            DISTANCE: rng.uniform(size=2 * patients),
            MIDDLE: -np.abs(predictions - 2),
            GRADE: between,
        }
    )


# -- scores -----------------------------------------------------------------------------------------------------------


def test_scores_of_two_images_by_hand():
    folds = [fold(a=1, b=3.4), fold(b=3.4, a=2), fold(a=3, b=3.4)]
    table = confidence.certainty(handmade(folds))
    assert table[["image_id", "patient_id"]].to_numpy().tolist() == [["a", "p"], ["b", "q"]]
    assert table["error"].tolist() == pytest.approx([0, 0.6])
    assert table[SPREAD].tolist() == pytest.approx([np.sqrt(3), 0])  # labels 0 and 4 with shares 3/4 and 1/4; one label
    assert table[FOLDS].tolist() == pytest.approx([1, 0])  # of 1, 2 and 3, n - 1
    assert table[DISTANCE].tolist() == [2, 4]  # without the prototype that is off
    assert table[MIDDLE].tolist() == pytest.approx([-1, -1.4])
    assert table[GRADE].tolist() == pytest.approx([0, 0.4])


def test_scores_that_do_not_apply_are_unknown():
    table = confidence.certainty(handmade([fold(a=1, b=3.4), fold(a=2, b=3)], grades=False))
    assert table[[FOLDS, GRADE]].isna().all(axis=None)
    assert confidence.known_scores(table) == [SPREAD, DISTANCE, MIDDLE]
    lacking = confidence.spread_over_folds([fold(a=1), fold(a=1, b=2), fold(a=1, b=2)], ["a", "b"])
    assert lacking[0] == 0
    assert np.isnan(lacking[1])


# -- measures ---------------------------------------------------------------------------------------------------------


def test_risk_by_hand():
    """In the order of the scores the errors are 0, 1, 0, 3."""
    errors, scores = np.array([1.0, 0, 3, 0]), np.array([0.2, 0.1, 0.9, 0.3])
    found = confidence.risk(errors, scores, np.array([1, 0.75, 0.5, 0.25, 0.375]))
    assert found.tolist() == pytest.approx([1, 1 / 3, 1 / 2, 0, 1 / 3])  # the last: 1.5 images with errors 0 and 1/2
    assert confidence.area(errors, scores) == pytest.approx((1 + 1 / 3 + 1 / 2 + 0) / 4)


def test_partial_correlation_by_hand():
    """Ranks 1 to 4. The score is 2 1 4 3; given the columns 1 2 3 4, score and error leave multiples of each other."""
    errors, score = np.array([2.0, 1, 4, 3]), np.array([20.0, 10, 40, 30])
    none, line = np.empty((4, 0)), np.array([[1.0], [2], [3], [4]])
    plain = confidence.partial_correlation(np.column_stack([score, -score, line]), errors, none)
    assert plain.tolist() == pytest.approx([1, -1, 0.6])
    given = confidence.partial_correlation(np.column_stack([score, -score, line]), errors, line)
    assert given[:2].tolist() == pytest.approx([1, -1])
    assert np.isnan(given[2])


def test_auc_by_hand():
    """Of the four pairs of a wrong and a right image, three are in order by the first score, none by the second."""
    scores, wrong = np.array([[4.0, 1], [2, 2], [3, 3], [1, 4]]), np.array([True, True, False, False])
    assert confidence.auc(scores, wrong).tolist() == [0.75, 0]
    assert np.isnan(confidence.auc(scores, np.zeros(4, bool))).all()


def test_a_function_of_the_prediction_says_nothing_given_the_prediction():
    plain = confidence.measures(rows(400, "prediction"))
    assert plain[SPREAD, "correlation"] > 0.4
    assert abs(plain[SPREAD, "partial"]) < 0.1
    assert np.isnan(plain[GRADE, "partial"])
    hidden = confidence.measures(rows(400, "hidden"))
    assert hidden[SPREAD, "partial"] > 0.8


def test_measures_of_perfect_and_useless_scores():
    table = rows(50).assign(**{SPREAD: lambda t: t["error"], DISTANCE: lambda t: -t["error"]})
    found = confidence.measures(table)
    assert found[SPREAD, "gain"] == pytest.approx(1)
    assert found[DISTANCE, "gain"] < -0.5
    assert (found[CHANCE, "gain"], found[BEST, "gain"]) == (0, 1)
    assert found[CHANCE, "rest"] == pytest.approx(table["error"].mean())
    assert found[SPREAD, "rest"] == found[BEST, "rest"] == pytest.approx(np.sort(table["error"])[:80].mean())
    assert found[SPREAD, "below middle"] == pytest.approx(found[MIDDLE, "rest"] - found[SPREAD, "rest"])
    assert found[SPREAD, "wrong"] == 1
    assert np.isnan([found[MIDDLE, "below middle"], found[GRADE, "below grade"]]).all()


def test_pseudo_values_are_those_of_a_mean_and_have_the_mean_of_the_measures():
    """The MAE by chance is a mean, so its pseudo-value for a patient is the mean error of the patient."""
    table = rows(30)
    values = confidence.pseudo_values(table)
    of_patient = table.groupby("patient_id")["error"].transform("mean")
    np.testing.assert_allclose(values[CHANCE, "rest"], of_patient)
    np.testing.assert_allclose(values.mean(), confidence.measures(table))
    folds = pd.concat([table.assign(fold=0), rows(30, seed=1).assign(fold=1)], ignore_index=True)
    first = confidence.pseudo_values(folds)[folds["fold"] == 0]
    np.testing.assert_allclose(first, values)


def test_intervals_agree_with_those_of_resampled_patients():
    table = rows(60, "noisy")
    groups = list(table.groupby("patient_id").indices.values())
    rng = np.random.default_rng(0)
    drawn = [np.concatenate([groups[g] for g in rng.integers(60, size=60)]) for _ in range(150)]
    found = pd.DataFrame([confidence.measures(table.iloc[chosen]) for chosen in drawn])
    summary = confidence.certainty_table(table).loc[SPREAD]
    for measure in ("correlation", "partial", "gain", "rest"):
        low, high = np.quantile(found[SPREAD, measure], [0.025, 0.975])
        assert summary[f"{measure} high"] - summary[f"{measure} low"] == pytest.approx(high - low, rel=0.35)


# -- tables and claims ------------------------------------------------------------------------------------------------


def test_the_table_has_intervals_of_every_score():
    table = confidence.certainty_table(rows(20))
    assert table.index.tolist() == [SPREAD, DISTANCE, MIDDLE, GRADE, CHANCE, BEST]
    known = table.loc[[SPREAD, DISTANCE, MIDDLE, GRADE]]
    assert (known["gain low"] < known["gain"]).all()
    assert (known["gain"] < known["gain high"]).all()
    assert table.columns.tolist()[:3] == ["correlation", "correlation low", "correlation high"]


def test_claims_about_a_score_that_knows_more_and_one_that_does_not():
    beyond, referral = confidence.certainty_claims(rows(60, "hidden"))
    assert beyond.text == "The spread of the labels says more about the error than the prediction does"
    assert beyond.above
    assert beyond.p < 0.01
    assert len(referral.effects) == 2
    assert "than by the distance to the nearest grade" in referral.figures
    beyond, referral = confidence.certainty_claims(rows(60))
    assert beyond.p > 0.05
    assert not referral.above


def test_claims_of_several_folds_have_both_sources():
    folds = pd.concat(
        [rows(20, "hidden", seed).assign(fold=seed, **{FOLDS: np.arange(40.0)}) for seed in range(3)], ignore_index=True
    )
    spread, over_folds, referral = confidence.certainty_claims(folds, held_out_ratio=0.4)
    assert "spread over the folds" in over_folds.text
    assert {len(sources) for claim in (spread, over_folds, referral) for sources in claim.effects} == {2}
    expected = [confidence.measures(part)[SPREAD, "partial"] for _, part in folds.groupby("fold")]
    assert spread.effects[0][1].mean == pytest.approx(np.mean(expected))


def test_curves_are_means_over_folds():
    first = rows(2).assign(error=[1.0, 0, 3, 0], **{SPREAD: [0.2, 0.1, 0.9, 0.3]})
    curve = confidence.referral(first)
    assert FOLDS not in curve
    at = curve.set_index("referred").loc[[0, 0.25, 0.5, 0.75]]
    assert at[SPREAD].tolist() == pytest.approx([1, 1 / 3, 1 / 2, 0])
    assert at[BEST].tolist() == pytest.approx([1, 1 / 3, 0, 0])
    assert at[CHANCE].tolist() == [1] * 4
    both = pd.concat([first.assign(fold=0), first.assign(fold=1, error=[2.0, 0, 6, 0])])
    np.testing.assert_allclose(confidence.referral(both)[SPREAD], 1.5 * curve[SPREAD])


def test_certainty_of_a_run(loaded):
    table = confidence.certainty(loaded)
    assert table[FOLDS].isna().all()  # a single fold is finished
    np.testing.assert_allclose(table["error"], (loaded.predictions["prediction"] - table["target"]).abs())
    assert table[DISTANCE].tolist() == np.min(loaded.distances, axis=(1, 2, 3)).tolist()
    assert set(confidence.certainty_table(table).index) == {SPREAD, DISTANCE, MIDDLE, GRADE, CHANCE, BEST}
