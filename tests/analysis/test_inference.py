"""Tests of `analysis.inference`."""

import numpy as np
import pandas as pd
import pytest

from insightr_nb.analysis.inference import (
    HOLDS,
    NOT,
    UNKNOWN,
    Claim,
    Estimate,
    effect,
    holm,
    judged,
    over_folds,
    over_patients,
    ratio_over_patients,
)


def test_an_interval_over_patients_is_wider_than_over_their_images():
    rng = np.random.default_rng(0)
    of_patient = rng.normal(size=40)
    values, patients = np.repeat(of_patient, 5), np.repeat(np.arange(40), 5)
    together, apart = over_patients(values, patients), over_patients(values, np.arange(200))
    assert together.mean == pytest.approx(values.mean()) == pytest.approx(apart.mean)
    assert together.high - together.low > 1.8 * (apart.high - apart.low)  # sqrt(5) in theory


def test_an_interval_over_patients_covers_the_truth():
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(200):
        values = np.repeat(rng.normal(size=30), 2) + 0.3 * rng.normal(size=60)
        found = over_patients(values, np.repeat(np.arange(30), 2), samples=400, seed=seed)
        covered += found.low <= 0 <= found.high
    assert 0.88 <= covered / 200 <= 0.98


def test_p_over_patients_is_small_only_away_from_the_null():
    values, patients = np.random.default_rng(2).normal(1, 1, size=100), np.arange(100)
    assert over_patients(values, patients).p < 0.001
    assert over_patients(values, patients, null=values.mean()).p > 0.9


def test_missing_values_and_single_patients():
    assert over_patients([1.0, np.nan, 3.0], ["a", "b", "c"]).mean == 2
    alone = over_patients([1.0, 3.0], ["a", "a"])
    assert alone.mean == 2
    assert np.isnan([alone.low, alone.high, alone.p]).all()
    few, enough = (over_patients(np.arange(1.0, n), np.arange(1, n)) for n in (10, 11))
    assert (np.isnan(few.p), few.low > 0) == (True, True)
    assert enough.p < 0.001
    alike = over_patients(np.full(12, 0.1), np.arange(12))  # no interval without width
    assert np.isnan([alike.low, alike.high]).all()
    assert (alike.mean, alike.p) == (pytest.approx(0.1), pytest.approx(2 / 5001))
    assert str(alike) == "+0.100"


def test_a_ratio_of_sums_is_not_the_mean_of_ratios():
    found = ratio_over_patients([1.0, 6.0, np.nan], [1.0, 2.0, 9.0], ["a", "b", "c"], null=1)
    assert found.mean == pytest.approx(7 / 3)  # the ratios are 1 and 3; the incomplete pair is left out
    assert (found.low, found.high) == (1, 3)  # all of a, all of b
    values, names = np.arange(12.0), [f"patient {n}" for n in range(12)]
    assert ratio_over_patients(values, np.ones(12), names) == over_patients(values, names)


def test_the_corrected_t_is_that_of_nadeau_and_bengio():
    found = over_folds([1.0, 2.0, 3.0, 4.0, 5.0], held_out_ratio=0.25)
    half = 2.776445 * np.sqrt(2.5 * (1 / 5 + 0.25))  # t(4) at 0.975, variance 2.5
    assert (found.low, found.high) == (pytest.approx(3 - half, 1e-5), pytest.approx(3 + half, 1e-5))
    assert over_folds([1.0, 2.0, 3.0, 4.0, 5.0], 0.25, null=found.low).p == pytest.approx(0.05)
    equal = over_folds([2.0, 2.0], 0.25)  # equal folds do not say how far others would lie
    assert np.isnan([equal.low, equal.high, equal.p]).all()
    assert np.isnan(over_folds([2.0], 0.25).p)


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == pytest.approx([1, 1])
    adjusted = holm([0.02, np.nan, 0.01])
    assert adjusted[[0, 2]] == pytest.approx([0.04, 0.03])  # as one of three
    assert np.isnan(adjusted[1])


def estimate(mean: float, p: float) -> tuple[Estimate]:
    return (Estimate(mean, mean - 1, mean + 1, p),)


def test_verdicts():
    claims = [
        Claim("clearly above", (estimate(1, 0.001),)),
        Claim("clearly below", (estimate(-1, 0.001),)),
        Claim("below one of two controls", (estimate(1, 0.001), estimate(-1, 0.001))),
        Claim("not clear against one control", (estimate(1, 0.001), estimate(1, 0.2))),
        Claim("clear before the correction", (estimate(1, 0.03),)),
        Claim("unknown", (estimate(1, float("nan")),)),
    ]
    table = judged(claims)
    assert table["verdict"].tolist() == [HOLDS, NOT, NOT, UNKNOWN, UNKNOWN, UNKNOWN]
    assert table["p"].iloc[4] == pytest.approx(0.09)  # the fourth smallest of six


def test_a_claim_holds_only_over_folds_and_patients():
    both = Claim("", ((Estimate(1, 0, 2, 0.001), Estimate(1, 0, 2, 0.3)),))
    assert judged([both])["verdict"].tolist() == [UNKNOWN]


def test_a_claim_with_an_unknown_source_is_unknown():
    known, unknown = estimate(1, 0.001), estimate(1, float("nan"))
    for sources in (known + unknown, unknown + known):
        assert np.isnan(Claim("", (sources,)).p)
        assert judged([Claim("", (sources,))])["verdict"].tolist() == [UNKNOWN]


def test_a_claim_fails_by_one_effect_whatever_the_unknown_others_are():
    """An unknown effect cannot make a claim hold, and cannot save it."""
    unknown, below = estimate(1, float("nan")), estimate(-1, 0.001)
    assert np.isnan(Claim("", (unknown, estimate(1, 0.001))).p)
    assert Claim("", (unknown, below)).p == pytest.approx(0.002)
    assert judged([Claim("", (unknown, below))])["verdict"].tolist() == [NOT]
    assert np.isnan(Claim("", (estimate(1, 0.001), estimate(-1, float("nan")))).p)


def test_an_effect_is_estimated_over_patients_and_folds():
    names = [f"patient {n}" for n in range(10)]
    rows = pd.DataFrame({"patient_id": names * 2, "fold": np.repeat([0, 1], 10)})
    values = np.arange(20.0)
    patients, folds = effect(values, rows, null=2, held_out_ratio=0.25)
    assert patients == over_patients(values, names * 2, null=2)
    assert folds == over_folds([4.5, 14.5], 0.25, null=2)
    assert len(effect(values[:10], rows[:10])) == 1
