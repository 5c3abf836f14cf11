"""Tests of sparsity and intervals of differences, on runs made by hand."""

import numpy as np
import pytest
from analysis.handmade import all_runs
from scipy.stats import binom

from insightr_nb.analysis import statistics, tables

pytestmark = pytest.mark.usefixtures("handmade_runs")


def test_the_wilcoxon_test_of_sparsity():
    """All 40 images smaller by 4: with n equal differences the p value is that of the normal approximation."""
    tests = statistics.sparsity_tests(all_runs())
    assert tests["insightr"].tolist() == [3, 3, 3]
    assert tests["log_similarity"].tolist() == [7, 7, 7]  # 80 % of 8 equal ones
    assert (tests["p"] < binom.pmf(0, 40, 0.5) * 1e7).all()
    assert (tests["p"] < 0.001).all()
    assert tests["p_paper"].tolist() == tests["p"].tolist()  # without importances the two agree
    turned = statistics.sparsity_tests(all_runs(), "log_similarity", "insightr")
    assert (turned["p"] > 0.999).all()


def test_the_interval_of_a_difference_counts_images_and_folds():
    rng = np.random.default_rng(0)
    base = rng.uniform(0, 1, (5, 400))
    difference, low, high = statistics.paired_difference(base + 0.1, base)
    assert (difference, low, high) == pytest.approx((0.1, 0.1, 0.1))
    shifted = base + np.array([-0.2, -0.1, 0, 0.1, 0.2])[:, None]  # folds differ, images do not
    difference, low, high = statistics.paired_difference(shifted, base)
    assert difference == pytest.approx(0, abs=1e-12)
    assert -0.16 < low < -0.08
    assert 0.08 < high < 0.16
    noise = base + rng.normal(0.05, 0.5, (1, 400))  # images differ, folds do not: sd of the mean is 0.5 / 20
    difference, low, high = statistics.paired_difference(noise, base)
    assert (high - low) / 2 == pytest.approx(1.96 * 0.025, rel=0.15)


def test_difference_of_each_variant_to_the_baseline():
    """Errors of 0.22 to 0.24 against 0.20 to 0.22: 0.02 in every fold and image, so the interval has no width."""
    found = statistics.against_baseline(all_runs(), ["baseline", "insightr", "log_similarity"]).set_index("variant")
    assert found.loc["insightr"].tolist() == pytest.approx([0.02] * 3)
    assert found.loc["log_similarity"].tolist() == pytest.approx([0.1] * 3)
    assert "baseline" not in found.index


def test_statistics_in_words_and_as_readable_tables():
    results = all_runs()
    tests = statistics.sparsity_tests(results)
    text = statistics.describe_sparsity(tests)
    assert "by contributions in 3 of 3 folds" in text
    assert "in 0 of 3 folds" in statistics.describe_sparsity(tests.assign(p=0.5))
    assert "No fold" in statistics.describe_sparsity(tests.assign(p=np.nan))
    text = statistics.describe_sparsity(tests.assign(p=[0, 0, np.nan]))
    assert "in 2 of 2 folds" in text
    assert text.endswith("Runs of 1 other fold are missing.")
    shown = tables.readable(tests)
    assert list(shown.columns) == [
        "(1) INSightR-Net",
        "(1a) with log similarity",
        "p, by contributions",
        "p, as the paper counts",
    ]
    assert shown["(1) INSightR-Net"].tolist() == ["3.0"] * 3
    differences = statistics.against_baseline(results, ["insightr", "log_similarity", "no_psd"])
    text = statistics.describe_differences(differences)
    assert text.startswith("Of 2 variants, 0 have a lower MAE than the baseline, 2 a higher one, and 0 cannot")
    assert text.endswith("Runs of 1 other variant are missing.")
    assert "missing" in statistics.describe_differences(differences[2:])
    shown = tables.readable(differences)
    assert shown.loc["(1) INSightR-Net", "MAE - baseline's MAE"] == "+0.020"
    assert "(1b) w/o PSD loss" not in shown.index
