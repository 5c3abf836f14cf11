"""Runs with other seeds: their settings, and the spread over seeds and folds."""

import numpy as np
import pandas as pd
import pytest
from analysis.handmade import SETTINGS, make

from insightr_nb.analysis import seeds


def test_runs_with_other_seeds_have_a_tag_and_a_backbone_of_their_own():
    first, second, third = seeds.seed_runs(SETTINGS, [0, 1, 2], [1], ["insightr"])
    assert first == SETTINGS.run("insightr", 1)
    assert [(run.seed, run.fold, run.tag) for run in (second, third)] == [(1, 1, "seed-1"), (2, 1, "seed-2")]
    assert len(seeds.seed_runs(SETTINGS, [1, 2], [0, 1])) == 12
    assert {run.tag for run in seeds.seed_runs(SETTINGS, [1], [0])} == {"seed-1"}


@pytest.mark.usefixtures("handmade_runs")
def test_finished_runs_are_found_with_their_untagged_run():
    assert seeds.seeds(SETTINGS).empty
    make(SETTINGS.run("insightr", 1), error=0.9, split="fold 1")  # a fold without another seed
    make(SETTINGS.run("insightr", 0), error=0.1, split="fold 0")
    for run in seeds.seed_runs(SETTINGS, [1, 2], [0], ["insightr", "baseline"]):
        make(run, error=0.2 * run.seed, split="fold 0")
    make(SETTINGS.run("insightr", 0, overrides={"losses.k": 2}, tag="seed-3"), split="fold 0")  # not only its seed
    frame = seeds.seeds(SETTINGS)
    assert frame[["variant", "fold", "seed"]].values.tolist() == [
        ["baseline", 0, 1],
        ["baseline", 0, 2],
        ["insightr", 0, 0],
        ["insightr", 0, 1],
        ["insightr", 0, 2],
    ]
    assert frame["mae"].tolist() == pytest.approx([0.2, 0.4, 0.1, 0.2, 0.4])


ROWS = pd.DataFrame(
    [
        ("insightr", fold, seed, mae, mae)
        for fold, maes in enumerate([(0.1, 0.2, 0.3), (0.5, 0.6, 0.7)])
        for seed, mae in enumerate(maes)
    ]
    + [("baseline", 0, seed, mae, mae) for seed, mae in enumerate((0.2, 0.2, 0.2))],
    columns=["variant", "fold", "seed", "mae", "mae_clamped"],
)


def test_the_spread_over_seeds_and_over_folds_by_hand():
    table = seeds.spread(ROWS)
    own = table.loc["insightr"]
    assert own["mean"] == pytest.approx(0.4)
    assert own["sd over seeds"] == pytest.approx(0.1)  # 0.1, 0.2, 0.3 and 0.5, 0.6, 0.7
    assert own["sd over folds"] == pytest.approx(0.4 / np.sqrt(2))  # 0.1, 0.5 and so on
    assert (own["seeds"], own["folds"]) == (3, 2)
    assert np.isnan(table.loc["baseline", "sd over folds"])
    unfinished = pd.concat([ROWS, pd.DataFrame([("insightr", 2, 0, 9.0, 9.0)], columns=ROWS.columns)])
    assert seeds.spread(unfinished).loc["insightr", "mean"] == pytest.approx(0.4)  # fold 2 lacks two seeds


def test_the_sentence_counts_the_pairs():
    text = seeds.describe_seeds(ROWS)
    assert "(1) INSightR-Net: 0.100 over seeds, 0.283 over folds" in text
    assert "below the baseline's in 1 of 3 pairs of fold and seed (difference -0.100 to +0.100)" in text
