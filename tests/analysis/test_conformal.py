"""Conformal intervals: calibration and rows made by hand, and the smoke run."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from insightr_nb.analysis import conformal, stability
from insightr_nb.analysis.conformal import BEFORE, BY_GRADE, SAME, SCALED, UNCHANGED
from insightr_nb.data.folds import fold_split
from insightr_nb.errors import DataError, RunError
from insightr_nb.settings import LabelScale


def test_the_quantile_is_the_kth_residual_of_n_plus_one():
    residuals = np.arange(1, 20)[::-1]
    assert conformal.quantile(residuals, 0.9) == 18  # ceil(20 * 0.9)
    assert conformal.quantile(residuals, 0.5) == 10
    assert conformal.quantile(np.arange(9), 0.9) == 8  # ceil(10 * 0.9) = 9, of nine
    assert conformal.quantile(np.arange(8), 0.9) == np.inf


def test_intervals_cover_new_values_as_often_as_promised():
    """Vovk: on average over calibrations the coverage is k / (n + 1), here 18 / 20."""
    rng = np.random.default_rng(0)
    covered = [
        (rng.exponential(size=200) <= conformal.quantile(rng.exponential(size=19), 0.9)).mean() for _ in range(500)
    ]
    assert np.mean(covered) == pytest.approx(0.9, abs=0.01)


def test_half_widths_by_hand():
    """19 validation images: ten of predicted grade 1 with residual 0.1, nine of grade 3 with residuals 0.2 to 1.0."""
    residuals = np.concatenate([np.full(10, 0.1), np.arange(2, 11) / 10])
    known = pd.DataFrame({"prediction": np.repeat([1.0, 3], [10, 9]), "spread": np.repeat([0.1, 0.5], [10, 9])})
    known["target"] = known["prediction"] + residuals
    run = SimpleNamespace(store=SimpleNamespace(grades=True, scale=LabelScale(0, 4)))
    found = conformal.half_widths(known, np.array([1.2, 2.9, 0]), np.array([0.2, 1, 0]), run)
    assert found[SAME].tolist() == pytest.approx([0.9] * 3)  # the 18th
    assert found[SCALED].tolist() == pytest.approx([0.36, 1.8, 0], abs=1e-5)  # the 18th ratio is 0.9 / 0.5
    assert found[BY_GRADE].tolist() == pytest.approx([0.1, 1, np.inf])  # no validation image of grade 0
    run.store.grades = False
    assert set(conformal.half_widths(known, np.zeros(1), np.ones(1), run)) == {SAME, SCALED}
    few = conformal.half_widths(known[:8], np.zeros(1), np.zeros(1), run)  # also for an image without spread
    assert few[SAME] == few[SCALED] == np.inf


def rows(**covered: list[float]) -> pd.DataFrame:
    """Images 0, 1, ... by change with their coverage; image n has grade n % 2, and patient n // 2."""
    parts = [
        pd.DataFrame(
            {
                "image_id": np.arange(len(values)).astype(str),
                "patient_id": (np.arange(len(values)) // 2).astype(str),
                "change": change,
                "method": method,
                "grade": np.arange(len(values)) % 2.0,
                "covered": np.array(values, float),
                "width": width,
                "also_changed": np.arange(len(values)) < 2,
            }
        )
        for change, values in covered.items()
        for method, width in ((SAME, 1.0), (SCALED, 0.5))
    ]
    return pd.concat(parts, ignore_index=True)


def test_the_table_counts_all_grades_and_changes():
    table = conformal.coverage_table(rows(unchanged=[1, 0, 1, 0, 1, 1], shift=[0, 0]))
    expected = {"all": (6, 4 / 6), "grade 0": (3, 1), "grade 1": (3, 1 / 3), BEFORE: (2, 0.5), "shift": (2, 0)}
    for group, (images, coverage) in expected.items():
        assert table.loc[(group, SAME), "images"] == images
        assert table.loc[(group, SAME), "coverage"] == pytest.approx(coverage)
    assert table.loc[("all", SCALED), "width"] == 0.5
    assert table.loc[("all", SAME), "coverage low"] == 0.5  # the patients' shares are 1/2, 1/2 and 1
    assert BEFORE not in conformal.coverage_table(rows(unchanged=[1, 0])).index.get_level_values("group")


def test_claims_are_about_the_same_width_and_hold_where_enough_is_covered():
    good = np.tile([1.0] * 19 + [0], 20)
    table = rows(unchanged=good, shift=good, JPEG=np.tile([1.0, 0, 0, 1], 100))
    whole, grades, changes = conformal.coverage_claims(table)
    assert whole.text == "The conformal 90% interval covers more than 85% of the test images"
    assert whole.above
    assert whole.p < 0.01
    assert whole.figures.startswith("mean width 1.00: 95.0% (")
    assert len(grades.effects) == len(changes.effects) == 2
    assert not changes.above
    assert changes.p < 0.01
    assert "JPEG: 50.0%" in changes.figures
    several = pd.concat([rows(unchanged=good).assign(fold=k) for k in range(3)], ignore_index=True)
    (first, *_) = conformal.coverage_claims(several, held_out_ratio=0.4)
    assert [estimate.mean for estimate in first.effects[0]] == pytest.approx([0.95, 0.95])


# -- on a run ---------------------------------------------------------------------------------------------------------


def without_distances(run):
    """The same run as an older version evaluated it."""
    fields = ("run", "store", "settings", "network", "labels", "importance", "similarity", "path")
    return SimpleNamespace(nearest_of=lambda part: None, **{name: getattr(run, name) for name in fields})


def test_calibration_is_the_same_from_stored_distances_and_from_the_images(loaded):
    known = conformal.calibration(loaded)
    validation = fold_split(loaded.store, loaded.settings.data, loaded.settings.fold).validation
    assert known["target"].tolist() == loaded.store.table["label"].to_numpy()[np.sort(validation)].tolist()
    again = conformal.calibration(without_distances(loaded))
    np.testing.assert_allclose(again, known, atol=1e-4)


def test_calibration_takes_the_original_of_drawn_labels(loaded):
    distances, targets = loaded.nearest_of("validation")
    older = without_distances(loaded)
    older.nearest_of = lambda part: (distances, np.clip(targets + 0.4, 0, 4.4))
    assert conformal.calibration(older)["target"].tolist() == conformal.calibration(loaded)["target"].tolist()


def test_calibration_needs_images_or_distances(loaded):
    older = without_distances(loaded)
    older.store = SimpleNamespace(grades=True, partial=True)
    with pytest.raises(RunError, match="neither its validation images nor their distances"):
        conformal.calibration(older)


def test_intervals_of_a_run(loaded):
    found = conformal.coverage(loaded, stability.measure(loaded, [0, 5]))
    plain = found[(found["change"] == UNCHANGED) & (found["method"] == SAME)]
    assert plain["image_id"].tolist() == loaded.predictions["image_id"].tolist()
    np.testing.assert_allclose(plain["prediction"], loaded.predictions["prediction"], atol=1e-4)
    known = conformal.calibration(loaded)
    half = conformal.quantile((known["prediction"] - known["target"]).abs())
    np.testing.assert_allclose(plain["low"], np.clip(plain["prediction"] - half, 0, 4))
    np.testing.assert_allclose(plain["width"], plain["high"] - plain["low"])
    assert plain["covered"].tolist() == plain["target"].between(plain["low"], plain["high"]).astype(float).tolist()
    assert plain["also_changed"].sum() == 2
    changed = found[found["change"] != UNCHANGED]
    assert set(changed["change"]) == {*stability.CHANGES, stability.BRIGHTER}
    assert set(changed["image_id"]) == set(loaded.predictions["image_id"][[0, 5]])
    image = loaded.store.image(loaded.store.row(loaded.predictions["image_id"][5]))
    name, change = next(iter(stability.CHANGES.items()))
    with torch.no_grad():
        output = loaded.network(loaded.network.inputs(torch.from_numpy(np.stack([change(image)]))))
    prediction = loaded.store.scale.to_user(float(output.prediction))
    own = changed[(changed["change"] == name) & (changed["image_id"] == loaded.predictions["image_id"][5])]
    np.testing.assert_allclose(own["prediction"], prediction, atol=1e-4)


def test_a_photograph_that_is_gone_is_not_made_brighter(loaded, monkeypatch):
    def gone(source, size):
        raise DataError(f"{source}: cannot be read")

    monkeypatch.setattr(stability, "photograph", gone)
    changed = stability.measure(loaded, [0])
    assert set(conformal.coverage(loaded, changed)["change"]) == {UNCHANGED, *stability.CHANGES}
