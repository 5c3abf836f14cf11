"""Verdicts of notebook 08: pooling of folds, order of the claims, and the files of rows."""

import json

import numpy as np
import pandas as pd
import pytest
from analysis.handmade import SETTINGS, make

from insightr_nb.analysis import verdicts
from insightr_nb.analysis.inference import HOLDS, NOT, UNKNOWN, Claim, effect, over_folds
from insightr_nb.analysis.loaded_run import load_run
from insightr_nb.runs import Run


def rows(shift: float, images: int = 40) -> dict[str, pd.DataFrame]:
    """A measure with two effects per image: `a` is `shift` above 0 and `b` as far below."""
    noise = np.linspace(-0.1, 0.1, images)
    ids = ["nan", *(f"0{i}" for i in range(1, images))]  # read back as text
    return {
        "hand": pd.DataFrame(
            {"image_id": ids, "patient_id": ids, "a": shift + noise, "b": -shift - noise, "c": 10 * noise}
        ).assign(d=[np.nan, *noise[1:]])
    }


def claims(table: pd.DataFrame, held_out_ratio: float = 0.0) -> list[Claim]:
    return [
        Claim(
            name,
            (effect(table[name], table, held_out_ratio=held_out_ratio),),
            f"{name}: {len(table)}",
        )
        for name in ("c", "b", "a")
    ]


@pytest.fixture(autouse=True)
def hand_made(monkeypatch):
    monkeypatch.setattr(verdicts, "_MEASURES", {"hand": (lambda table: table[["a"]].mean().to_frame(), claims)})


def test_verdicts_of_one_fold_are_sorted():
    table = verdicts.verdicts(rows(1), {}, 0.4)
    assert table.columns.tolist() == ["claim", "this fold", "p", "figures"]
    assert table["claim"].tolist() == ["a", "c", "b"]
    assert table["this fold"].tolist() == [HOLDS, UNKNOWN, NOT]
    assert verdicts.describe(table) == (
        "Verdicts on 3 claims (this fold): holds: 1; does not hold: 1; these data cannot tell: 1. Rely only on what "
        "holds."
    )
    text = verdicts.readable(table)
    assert "| a       | holds" in text
    assert "a: 40" in text


@pytest.mark.usefixtures("handmade_runs")
def test_folds_measured_on_the_same_images_are_pooled():
    runs = [make(SETTINGS.run("insightr", fold), split=f"fold {fold}") for fold in range(3)]
    assert verdicts.number_of_folds(verdicts.pool(runs[0], rows(1))) == 1
    for run, shift in zip(runs, (1.0, 1.1, 1.2), strict=True):
        verdicts.save(run, rows(shift))
    pooled = verdicts.pool(runs[0], rows(1))
    assert pooled["hand"].groupby("fold")["a"].mean().tolist() == pytest.approx([1, 1.1, 1.2])
    assert set(pooled["hand"]["patient_id"]) == set(rows(1)["hand"]["patient_id"])
    assert pooled["hand"]["d"].isna().sum() == 3
    assert pooled["hand"]["d"].dtype == float
    table = verdicts.verdicts(rows(1), pooled, 0.4)
    assert table.columns.tolist() == ["claim", "this fold", "3 folds", "p", "figures"]
    assert table["3 folds"].tolist() == [HOLDS, UNKNOWN, NOT]
    assert table["figures"].iloc[0] == f"a: 120; over folds {over_folds([1, 1.1, 1.2], 0.4).text('+.3f')[8:-1]}"
    assert table["figures"].iloc[1] == "c: 120; over folds no interval"  # the same in each fold
    assert "(3 folds)" in verdicts.describe(table)
    assert verdicts.summaries(pooled)["hand"].loc["a", 0] == pytest.approx(1.1)

    verdicts.save(runs[2], rows(1.2, images=30))  # measured on other images
    assert verdicts.number_of_folds(verdicts.pool(runs[0], rows(1))) == 2
    changed = rows(1)["hand"].assign(change=["shift"] * 39 + ["mirror"])
    verdicts.save(runs[2], {"hand": changed.assign(change="shift")})  # other changes of the same images
    assert verdicts.number_of_folds(verdicts.pool(runs[0], {"hand": changed})) == 1
    moved = {"hand": rows(1)["hand"].assign(change=0.1)}
    verdicts.save(runs[2], {"hand": moved["hand"].assign(change=0.2)})  # a measured change may differ
    assert verdicts.number_of_folds(verdicts.pool(runs[0], moved)) == 2
    verdicts.save(runs[2], {**rows(1.2), "other": rows(1)["hand"]})  # one more measure
    assert verdicts.number_of_folds(verdicts.pool(runs[0], rows(1))) == 2
    verdicts.save(runs[1], {})  # measured again, without the measure
    assert not list((runs[1] / "trust").glob("rows_*.csv"))
    assert verdicts.number_of_folds(verdicts.pool(runs[0], rows(1))) == 1


def test_the_files_of_the_notebook(smoke_run):
    run = load_run(smoke_run)
    own = rows(1)
    pooled = verdicts.pool(run.run, own)
    table = pd.DataFrame({"pointing": [0.5]}, pd.MultiIndex.from_tuples([("all", "A, b")], names=["group", "method"]))
    written = verdicts.write(run, {"lesions": table}, verdicts.verdicts(own, pooled, 0.4), pooled, completeness=0.0)
    assert [path.name for path in written] == ["lesions.csv", "verdicts.csv", "trust.json"]
    assert written[0].read_text().splitlines() == ["group,method,pointing", 'all,"A, b",0.5']
    content = json.loads(written[2].read_text())
    assert content["run"] == {"variant": "insightr", "labels": "categorical", "fold": 0, "tag": None}
    assert content["verdicts"][0]["claim"] == "a"
    assert content["hand"][0] == {"0": pytest.approx(1)}
    assert (content["folds"], content["figures"], content["runs"]) == ([smoke_run.path.name], {"completeness": 0.0}, 1)
    (errors,) = content["errors"]
    assert (errors["variant"], errors["fold"]) == ("insightr", 0)
    assert errors["mae_clamped"] == pytest.approx(run.metrics["mae_clamped"], rel=1e-5)
    assert Run(smoke_run.path).damage() == []
