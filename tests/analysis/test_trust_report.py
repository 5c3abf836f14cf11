"""Sentences and files of notebook 08, by tables made by hand, and on the smoke run."""

from types import SimpleNamespace

import numpy as np
import pandas as pd

from insightr_nb.analysis import trust_report
from insightr_nb.analysis.geometry import Grid

CELLS, TRACED = "INSightR-Net, top 1", "INSightR-Net, top 1, traced"


def test_a_box_and_its_receptive_field():
    text = trust_report.describe_grid(Grid(size=100, cells=9, stride=10, offset=0, receptive_field=75))
    assert text == "A box of 10 px stands for a receptive field of 75 px, which is 75% of the image's side (100 px)."


def test_the_pointing_game_in_words():
    rows = {  # trained, random, interval of the difference
        CELLS: (0.1, 0.08, -0.05, 0.09),
        TRACED: (0.8, 0.2, 0.5, 0.7),
        "contrast of the image": (0.6, np.nan, np.nan, np.nan),
        "baseline, prediction, traced": (0.3, 0.5, -0.3, -0.1),
    }
    names = ["pointing", "pointing random", "pointing gain low", "pointing gain high"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=names)
    table["pointing gain"] = table["pointing"] - table["pointing random"]
    table = pd.concat({"all": table.assign(images=20, chance=0.05, ceiling=0.66)})
    assert trust_report.describe_lesions(table) == (
        "In 20 images with lesions, the trace of the largest match peaks on a lesion in 80% (random backbone: 20%; "
        "difference +0.60, +0.50 to +0.70); contrast alone does in 60%. Over cells, the same match peaks on one in 10% "
        "(random backbone: 8%; difference +0.02, -0.05 to +0.09); chance is 5%, the best possible 66%. The baseline's "
        "trace: 30% (random backbone: 50%; difference -0.20, -0.30 to -0.10)."
    )


def report() -> pd.DataFrame:
    rows = [
        (method, network, name, target, lesion, hit if network == "trained" else 0.25)
        for name, target in (("c", 4), ("a", 1), ("b", 2))
        for method, hit in ((CELLS, float(name == "a")), (TRACED, float(name != "b")))
        for network in ("trained", "random")
        for lesion in ("any", "new_vessel")
    ]
    return pd.DataFrame(rows, columns=["method", "network", "image_id", "target", "lesion", "pointing"])


def test_examples_with_lesions_are_ordered_and_their_hits_counted():
    shown = trust_report.examples_with_lesions(report(), 2)
    assert shown.tolist() == ["a", "c"]
    assert trust_report.describe_traced(report(), shown) == (
        "Of these 2 images, the peak is on a lesion in 1 over cells and in 2 traced to pixels; with a random backbone, "
        "in 0.5 and 0.5 on average."
    )


def test_kinds_of_lesions_as_a_table():
    index = pd.MultiIndex.from_tuples([("new_vessel", CELLS), ("new_vessel", TRACED)], names=["lesion", "method"])
    row = {"images": 7, "chance": 0.04, "pointing low": 0.0, "pointing high": 0.5, "pointing random": 0.2}
    table = pd.DataFrame([row | {"pointing": 0.1}, row | {"pointing": 0.3}], index=index)
    assert trust_report.readable_kinds(table).loc["new vessel"].to_dict() == {
        "images": "7",
        "over cells": "10% (0% to 50%)",
        "over cells: random backbone": "20%",
        "traced": "30% (0% to 50%)",
        "traced: random backbone": "20%",
        "chance": "4%",
    }


def test_prototypes_on_lesions_in_words():
    columns = {"prototypes": 8, "value": [0.5, 0.3], "random": [0.25, 0.1], "chance": [0.05, 0.15]}
    assert trust_report.describe_sources(pd.DataFrame(columns, ["pointing", "box"])) == (
        "Of 8 prototypes from images with lesions, 50% have one under the centre of their cell (random backbone: 25%, "
        "chance: 5%). Lesions cover 30.0% of their boxes (random backbone: 10.0%) and 15.0% of the discs."
    )


def test_the_identity_of_contributions_and_predictions_in_words():
    text = trust_report.describe_completeness(2.4e-7)
    assert "their largest difference is 2.4e-07" in text
    assert "not a test of the explanation" in text


def test_deletion_in_words():
    table = pd.DataFrame(
        [(np.nan,) * 3, (0.2, 0.1, 0.3), (-0.1, -0.2, -0.05)], columns=["gap", "gap low", "gap high"]
    ).assign(fill="blurred", order=["contribution", "random", "contrast"], images=2, change=0.3, removable=0.9)
    assert trust_report.describe_deletion(table) == (
        "Fill blurred: removing the largest contributions changes the prediction by 0.300, averaged over the steps; "
        "+0.200 (+0.100 to +0.300) against random and -0.100 (-0.200 to -0.050) against contrast. A faithful order is "
        "above 0 against both.\n2 images; 95 % intervals over patients. The patches that can be removed carry 90% of "
        "the contributions."
    )


def test_stability_in_words():
    table = pd.DataFrame(
        {
            "change": ["JPEG quality 50", "rotation by 5°", "15 % brighter"],
            "seen": [False, True, False],
            "images": [3, 3, 2],
            "overlap": [0.4, 0.8, 0.9],
            "moved_labels": [0.5, 0.1, 0.1],
            "moved": [0.1, 0.1, 0.2],
            "baseline_moved": [0.1, 0.05, 0.1],
            "ratio": [1.0, 2.1, 2.0],
        }
    )
    assert trust_report.describe_stability(table).splitlines() == [
        "JPEG quality 50 replaces 60% of the five largest contributions and moves their labels by 0.50 on average. The "
        "prediction moves most under the change '15 % brighter': by 0.20.",
        "It moves 1.0 (JPEG quality 50) to 2.1 times (rotation by 5°) as far as the baseline's prediction.",
        "Training made the change 'rotation by 5°' too: it is a reference, not a test.",
        "1 of these 3 photographs are no longer at their source; their brightness is not changed.",
    ]
    alone = table.assign(seen=False, images=3, baseline_moved=np.nan, ratio=np.nan)
    assert trust_report.describe_stability(alone).splitlines()[1:] == ["There is no finished baseline to compare with."]
    assert "3 of these 3 photographs" in trust_report.describe_stability(alone[:2])


def scores() -> pd.DataFrame:
    index = ["spread of the labels", "distance to the nearest grade", "chance", "best possible"]
    table = pd.DataFrame({"correlation": [0.5, 0.9, np.nan, np.nan]}, index)
    for measure, values in {
        "partial": [0.2, np.nan, np.nan, np.nan],
        "wrong": [0.7, 0.8, np.nan, np.nan],
        "gain": [0.6, 0.8, 0, 1],
        "rest": [0.2, 0.15, 0.3, 0.1],
        "below middle": [0.01, 0.06, np.nan, np.nan],
        "below grade": [-0.05, np.nan, np.nan, np.nan],
    }.items():
        table[measure] = values
    for measure in table.columns.tolist():
        width = np.nan if measure == "gain" else 0.1
        table[f"{measure} low"], table[f"{measure} high"] = table[measure] - width, table[measure] + width
    return table


def test_certainty_as_a_table():
    error, referral = trust_report.readable_certainty(scores()).values()
    assert error.shape == (2, 3)
    assert error.loc["spread of the labels"].tolist() == [
        "0.50 (0.40 to 0.60)",
        "0.20 (0.10 to 0.30)",
        "0.70 (0.60 to 0.80)",
    ]
    assert referral.shape == (4, 4)
    assert referral.loc["spread of the labels"].tolist() == [
        "0.60",
        "0.200 (0.100 to 0.300)",
        "+0.010 (-0.090 to +0.110)",
        "-0.050 (-0.150 to +0.050)",
    ]
    assert referral.loc["chance"].tolist() == ["0.00", "0.300 (0.200 to 0.400)", "-", "-"]


def test_certainty_in_words():
    table = scores()
    assert trust_report.describe_certainty(table) == (
        "The spread of the labels and the error have a rank correlation of 0.50; given the prediction, 0.20 (0.10 to "
        "0.30).\nReferring the least certain 20% by it changes the MAE of the rest from "
        "0.300 to 0.200. The lowest, 0.150, is that of 'distance to the nearest grade', a function of the prediction."
    )
    table.loc["spread of the labels", ["partial low", "rest"]] = -0.1, 0.12
    text = trust_report.describe_certainty(table)
    assert "given the prediction, 0.20 (-0.10 to 0.30)." in text
    assert text.endswith("The lowest, 0.120, is that of 'spread of the labels'.")


def coverages() -> pd.DataFrame:
    shares = {"all": 0.9, "grade 0": 1.0, "grade 1": 0.6, "before a change": 0.5, "shift": 0.8, "JPEG": 0.7}
    found = {
        (group, method): {"images": 20, "coverage": share, "coverage low": 0.5, "coverage high": 1, "width": width}
        for group, share in shares.items()
        for method, width in (("the same width", 1.25), ("by predicted grade", 1.5))
    }
    return pd.DataFrame.from_dict(found, orient="index").rename_axis(["group", "method"])


def test_coverage_as_a_table_and_in_words():
    shown = trust_report.readable_coverage(coverages())
    assert shown.loc["JPEG"].tolist() == ["20", "70% (50% to 100%); 1.25", "70% (50% to 100%); 1.50"]
    assert trust_report.describe_coverage(coverages()) == (
        "The 90% interval covers 90.0% with a mean width of 1.25 (the same width), 90.0% with a mean width of 1.50 (by "
        "predicted grade). With the same width, it covers least: 60.0% of 'grade 1' and 70.0% under 'JPEG'."
    )
    assert trust_report.describe_coverage(coverages().loc[["all"]]).endswith("(by predicted grade).")


def test_drift_and_audit_in_words():
    assert "After 2 epochs" in trust_report.describe_drift([0, 0.1, 0.25], [0, 0, 1e-9])
    assert "0.2500 from their patches if the statistics move, and of 1.0e-09" in trust_report.describe_drift(
        [0, 0.1, 0.25], [0, 0, 1e-9]
    )
    audit = pd.DataFrame({"prototype": [0], "gap": [0], "twins": [0], "background": [0.9], "used": [0.1]})
    assert trust_report.describe_audit(audit).startswith("Warning: 1 of 1 prototypes lie mostly outside the disc")
    assert trust_report.describe_audit(audit.assign(background=0)) == "None of the 1 prototypes is in doubt."


def test_flagged_test_images_in_words():
    table = pd.DataFrame({"image_id": ["a", "b", "c"]})
    store = SimpleNamespace(table=table[:2], row=lambda i: i, image=lambda i: i)
    run = SimpleNamespace(predictions=table, store=store, reference=True, familiarity={"a": 0.01, "b": 0.5}.get)
    assert trust_report.describe_familiarity(run, [0, 1, 2]) == (
        "1 of 2 test images (50.0%) is flagged as unfamiliar; of images like the training images, about 3% are."
    )
    run.reference = None
    assert trust_report.describe_familiarity(run, [0]).startswith("Unknown")
