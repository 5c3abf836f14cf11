"""Tests of sparsity, differences and their intervals, on numbers and runs made by hand."""

import numpy as np
import pytest
from analysis.handmade import SETTINGS, all_runs, make, store
from scipy.stats import binom

from insightr_nb import files
from insightr_nb.analysis import statistics, tables
from insightr_nb.analysis.results import collect
from insightr_nb.analysis.statistics import CLAMPED, PLAIN, Difference

pytestmark = pytest.mark.usefixtures("handmade_runs")


def test_the_wilcoxon_test_of_sparsity_has_the_size_of_the_effect_beside_it():
    """All 40 images smaller by 4, some by 5: n nearly equal differences have a p value of about 2 ** -n."""
    tests = statistics.sparsity_tests(all_runs())
    assert tests["insightr"].tolist() == [3, 3, 3]
    assert tests["log_similarity"].tolist() == pytest.approx([7, 7.025, 7.05])  # 80 % of 8 equal ones, and of 9
    assert (tests["p"] < binom.pmf(0, 40, 0.5) * 1e7).all()
    assert (tests["p"] < 0.001).all()
    assert tests["p_paper"].tolist() == tests["p"].tolist()  # without importances the two agree
    for name in ("fewer", "fewer_paper"):
        assert tests[name].tolist() == pytest.approx([4, 4.025, 4.05])
    assert tests.loc[0, ["low", "high"]].isna().all()  # all patients are alike
    assert 4 <= tests["low"][2] < 4.05 < tests["high"][2] < 4.2
    assert tests["share"].tolist() == [1, 1, 1]
    turned = statistics.sparsity_tests(all_runs(), "log_similarity", "insightr")
    assert (turned["p"] > 0.999).all()
    assert turned["fewer"].tolist() == pytest.approx([-4, -4.025, -4.05])
    assert turned["share"].tolist() == [0, 0, 0]


def test_the_interval_of_the_effect_is_over_patients():
    """In 10 of 20 patients both eyes need two prototypes fewer: 1 on average, standard error 1 / sqrt(20)."""
    store()
    for variant in ("insightr", "log_similarity"):
        run = make(SETTINGS.run(variant, 0), used=5)
    weights = np.repeat(np.where(np.arange(10) < 5, 1, 0)[None], 40, axis=0)
    weights[20:, 5:7] = 1  # 80 % of 7 are 6, of 5 are 4
    files.write_array(run / "weights.npy", weights)
    run.record()
    test = statistics.sparsity_tests(collect(SETTINGS.grid(["insightr", "log_similarity"]))).iloc[0]
    assert (test["fewer"], test["share"]) == (1, 0.5)
    assert test["high"] - test["low"] == pytest.approx(2 * 1.96 * 0.2236, rel=0.12)


def test_a_difference_is_estimated_over_folds_and_over_patients():
    """Folds differ by 1 to 5: half width t(4) sqrt(2.5 (1 / 5 + 0.25)). Images of patient a differ by 2, of b by 5."""
    second = np.zeros((5, 3))
    first = np.array([1.0, 2, 3, 4, 5])[:, None] + np.array([-1, -1, 2])
    found = Difference(first, second, np.array(["a", "a", "b"]), 0.25).estimates()
    half = 2.776445 * np.sqrt(2.5 * 0.45)
    assert (found["folds"].low, found["folds"].high) == (pytest.approx(3 - half, 1e-5), pytest.approx(3 + half, 1e-5))
    assert (found["patients"].mean, found["patients"].low, found["patients"].high) == (3, 2, 5)
    turned = Difference(first, second, np.array(["a", "a", "b"]), 0.25).estimates(null=-3, turned=True)
    assert turned["folds"].mean == -3
    assert turned["folds"].p == pytest.approx(1)
    assert list(Difference(first[:, 0], second[:, 0], np.array(["a", "a", "b"]), 0.25).estimates()) == ["folds"]
    single = Difference(first[:1], second[:1], np.array(["a", "a", "b"]), 0.25).estimates()["folds"]
    assert single.mean == 1
    assert np.isnan([single.low, single.high, single.p]).all()


def test_a_fold_trains_on_80_images_and_tests_40():
    results = all_runs()
    assert results.held_out_ratio == 0.5
    assert statistics.compare(results, "insightr", "baseline", "mae").held_out_ratio == 0.5
    assert results.patients.tolist() == [f"p{n // 2}" for n in range(40)]


@pytest.mark.parametrize(
    ("measure", "first", "second"),
    [
        ("mae", [0.22, 0.23, 0.24], [0.3, 0.312, 0.324]),
        ("mae_clamped", [0.176, 0.184, 0.192], [0.24, 0.2496, 0.2592]),  # the 8 images of grade 4 are right
        ("accuracy", [1, 1, 1], [1, 1, 1]),
        ("sparsity", [3, 3, 3], [7, 7.025, 7.05]),
        ("sparsity_paper", [2, 2, 2], [6, 6.025, 6.05]),
        ("diversity", [3, 3, 3], [5, 5, 5]),  # ties go to the lower prototype
        ("hardly_used", [7, 7, 7], [5, 5, 5]),
        ("scatter", [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
    ],
)
def test_measures_of_two_variants(measure, first, second):
    found = statistics.compare(all_runs(), "insightr", "log_similarity", measure)
    for values, expected in ((found.first, first), (found.second, second)):
        assert values.reshape(3, -1).mean(1) == pytest.approx(np.array(expected))
        assert values.shape == ((3, 40) if measure in statistics.PER_IMAGE else (3,))


def test_accuracy_is_that_of_rounded_and_clamped_predictions():
    """0.6 too high: only those of grade 4 are clamped to their grade."""
    store()
    make(SETTINGS.run("insightr", 0), error=0.6)
    run, scale = collect(SETTINGS.grid(["insightr"])).run("insightr", 0), collect(SETTINGS.grid(["insightr"])).scale
    assert statistics.PER_IMAGE["accuracy"](run, scale).tolist() == [0] * 32 + [1] * 8


def test_difference_of_each_variant_to_the_baseline():
    """0.02 to 0.024, and the same in every image, so over patients there is no interval; clamped, in 32 of 40."""
    found = statistics.against_baseline(all_runs(), ["baseline", "insightr", "log_similarity", "no_psd"])
    assert found["variant"].unique().tolist() == ["insightr", "log_similarity", "no_psd"]
    found = found.set_index(["variant", "predictions"])
    half = 4.302653 * 0.002 * (1 / 3 + 0.5) ** 0.5
    plain = [0.022, 0.022 - half, 0.022 + half, np.nan, np.nan]
    assert found.loc["insightr", PLAIN].tolist() == pytest.approx(plain, nan_ok=True)
    assert found.loc["insightr", CLAMPED].tolist()[:3] == pytest.approx([0.8 * value for value in plain[:3]])
    low, high = found.loc["insightr", CLAMPED].tolist()[3:]
    assert 0.013 <= low < 0.0176 < high <= 0.022
    assert found.loc[("log_similarity", PLAIN), "difference"] == pytest.approx(0.104)
    assert found.loc["no_psd"].isna().all(axis=None)
    make(SETTINGS.run("insightr", 0), error=0.22, used=3, split="fold 0")
    one = collect([SETTINGS.run(v, 0) for v in ("baseline", "insightr")])
    row = statistics.against_baseline(one, ["insightr"]).iloc[0]
    assert row["difference"] == pytest.approx(0.016)
    assert np.isnan([row["low_folds"], row["high_folds"]]).all()
    assert row["low_patients"] < 0.016 < row["high_patients"]


def test_statistics_in_words_and_as_readable_tables():
    results = all_runs()
    tests = statistics.sparsity_tests(results)
    assert statistics.describe_sparsity(tests).startswith(
        "By contributions, INSightR-Net needs 4.0 prototypes fewer than the logarithm (4.0 to 4.0 in single folds); "
        "p < 0.001 in 3 of 3 folds"
    )
    assert "it is sparser in 100% of the images" in statistics.describe_sparsity(tests)
    assert "in 0 of 3 folds" in statistics.describe_sparsity(tests.assign(p=0.5))
    worse = statistics.describe_sparsity(tests.assign(fewer=[-1.0, -3.0, 1.0]))
    assert "needs 1.0 prototypes more than the logarithm (-1.0 to 3.0 in single folds)" in worse
    assert "No fold" in statistics.describe_sparsity(tests.assign(p=np.nan))
    text = statistics.describe_sparsity(tests.assign(p=[0, 0, np.nan]))
    assert "in 2 of 2 folds" in text
    assert text.endswith("Runs of 1 other fold are missing.")
    shown = tables.readable(tests)
    assert list(shown.columns) == [
        "(1) INSightR-Net",
        "(1a) with log similarity",
        "fewer prototypes",
        "95 % interval, from",
        "to",
        "sparser in",
        "p",
        "fewer, as the paper counts",
        "p, as the paper counts",
    ]
    assert shown.iloc[0].tolist()[:6] == ["3.0", "7.0", "+4.0", "-", "-", "100%"]
    assert shown.iloc[2].tolist()[:6] == ["3.0", "7.0", "+4.0", "+4.0", "+4.2", "100%"]
    assert shown.loc[1, "p"] == format(tests["p"][1], ".1g")


def test_differences_in_words_and_as_a_readable_table():
    differences = statistics.against_baseline(all_runs(), ["insightr", "log_similarity", "no_psd"])
    text = statistics.describe_differences(differences)
    assert text.startswith(
        "By clamped predictions, of 2 variants 0 have a lower MAE than the baseline over folds and over"
    )
    assert "2 a higher one, and 0 cannot be told apart" in text
    assert text.endswith("Runs of 1 other variant are missing.")
    for source in ("folds", "patients"):  # both have to exclude 0
        doubtful = differences.assign(**{f"low_{source}": -0.1})
        assert "0 a higher one, and 2 cannot" in statistics.describe_differences(doubtful)
    assert "missing" in statistics.describe_differences(differences[4:])
    shown = tables.readable_differences(differences)
    assert shown.columns.tolist() == ["MAE - baseline's", "95 % over folds", "95 % over patients"]
    both = ["(1) INSightR-Net", "(1a) with log similarity"]
    assert shown.index.tolist() == [(CLAMPED, both[0]), (CLAMPED, both[1]), (PLAIN, both[0]), (PLAIN, both[1])]
    assert shown.iloc[0].tolist()[:2] == ["+0.018", "+0.011 to +0.024"]
    assert shown.iloc[2].tolist() == ["+0.022", "+0.014 to +0.030", "-"]
    assert tables.readable_differences(differences[4:]).empty  # no variant is there to compare
    one_fold = tables.readable_differences(differences.assign(low_folds=np.nan))
    assert one_fold.iloc[0, 1] == "-"


def test_prototypes_that_are_hardly_used():
    """Of 7 prototypes, the sixth is never among the five largest, until it is in one of the images."""
    weights = np.tile([6.0, 5, 4, 3, 2, 1, 0], (4, 1))
    assert statistics.hardly_used(weights) == 2
    weights[0, 5] = 9
    assert statistics.hardly_used(weights) == 1
