"""Summaries of agreement with lesions, by rows made by hand."""

import numpy as np
import pandas as pd
import pytest

from insightr_nb.analysis import lesion_tables
from insightr_nb.analysis.inference import HOLDS, NOT, UNKNOWN, judged, over_patients, ratio_over_patients
from insightr_nb.analysis.lesions import BASELINE, CELLS, CONTRAST, TRACED, WHOLE

# method -> hits of the trained network and of the random ones in each of four images, the first two mild
HITS = {
    CELLS: ([0, 1, 0, 0], [0, 1, 0, 0]),
    TRACED: ([1, 1, 1, 0], [0, 1 / 3, 0, 0]),
    WHOLE: ([1, 1, 1, 1], [0, 0, 0, 0]),
    BASELINE: ([1, 0, 1, 0], [0, 0, 0, 0]),
    CONTRAST: ([1, 0, 0, 0], None),
}


def rows(repeat: int = 1) -> pd.DataFrame:
    """Four images of two patients each, `repeat` times with new patients."""
    made = []
    for method, (trained, random) in HITS.items():
        for network, hits in (("trained", trained), ("random", random)):
            for n, hit in enumerate(hits * repeat if hits else ()):
                image = n % 4
                measures = {"pointing": hit, "pooled": 1 - hit / 2, "mass": [0.1, 0.2, 0.3, np.nan][image]}
                measures |= {"chance": 0.05, "ceiling": float(image > 0), "pooled_chance": 0.4}
                measures["area"] = 0.1 * (image + 1)
                about = {"image_id": str(n), "patient_id": f"p{n // 2}", "target": [0, 2, 3, 4][image], "lesion": "any"}
                made.append({"method": method, "network": network} | about | measures)
    return pd.DataFrame(made)


def test_a_table_has_means_intervals_and_gains():
    table = lesion_tables.lesion_table(rows())
    assert table.index.names == ["group", "method"]
    assert table.index.unique("group").tolist() == ["all", "mild (label up to 2)"]
    one = table.loc[("all", TRACED)]
    assert (one["images"], one["chance"], one["ceiling"], one["pooled_chance"]) == (4, 0.05, 0.75, 0.4)
    gains = [1, 2 / 3, 1, 0]
    patients = ["p0", "p0", "p1", "p1"]
    expect = over_patients(gains, patients)
    assert (one["pointing"], one["pointing random"]) == (0.75, pytest.approx(1 / 12))
    assert one["pointing gain"] == pytest.approx(2 / 3)
    assert (one["pointing gain low"], one["pointing gain high"]) == pytest.approx((expect.low, expect.high))
    assert one["pooled"] == 0.625
    mild = table.loc[("mild (label up to 2)", TRACED)]
    assert (mild["images"], mild["pointing"], mild["ceiling"]) == (2, 1, 0.5)


def test_a_mass_ratio_is_a_ratio_of_sums():
    """Shares on lesions 0.1, 0.2, 0.3 and none; shares of the disc 0.1, 0.2, 0.3, 0.4."""
    one = lesion_tables.lesion_table(rows()).loc[("all", TRACED)]
    assert one["mass_ratio"] == pytest.approx(1)  # a map of zeros counts neither above nor below
    changed = rows().assign(mass=lambda frame: frame["mass"].where(frame["network"] == "random", 0.3))
    one = lesion_tables.lesion_table(changed).loc[("all", TRACED)]
    assert one["mass_ratio"] == pytest.approx(1.2)  # 4 x 0.3 / 1.0
    assert one["mass_ratio gain"] == pytest.approx((0.2 + 0.1 + 0) / 0.6)  # of the images in which both have a map
    expect = ratio_over_patients([0.3] * 4, [0.1, 0.2, 0.3, 0.4], ["p0", "p0", "p1", "p1"])
    assert (one["mass_ratio low"], one["mass_ratio high"]) == pytest.approx((expect.low, expect.high))


def test_controls_have_no_random_backbone():
    one = lesion_tables.lesion_table(rows()).loc[("all", CONTRAST)]
    assert one["pointing"] == 0.25
    assert one[["pointing random", "pointing gain", "mass_ratio gain"]].isna().all()


def test_rows_of_several_folds_are_pooled():
    both = pd.concat([rows().assign(fold=0), rows().assign(fold=1, pointing=1.0)], ignore_index=True)
    one = lesion_tables.lesion_table(both).loc[("all", TRACED)]
    assert (one["images"], one["pointing"]) == (4, pytest.approx((0.75 + 1) / 2))
    assert one["pointing gain"] == pytest.approx(1 / 3)  # the network of the same fold is subtracted


def test_kinds_of_lesions():
    kinds = pd.concat([rows(), rows().query("image_id != '3'").assign(lesion="exudate")], ignore_index=True)
    table = lesion_tables.by_kind(kinds)
    assert table.index.tolist() == [("exudate", CELLS), ("exudate", TRACED)]
    one = table.loc[("exudate", TRACED)]
    assert (one["images"], one["pointing"], one["pointing random"]) == (3, 1, pytest.approx(1 / 9))
    assert np.isnan([one["pointing low"], one["pointing high"]]).all()  # no interval without width


def test_claims_are_about_what_exceeds_a_control():
    claims = lesion_tables.claims(rows(30))
    assert [round(claim.effects[0][0].mean, 3) for claim in claims] == [0.667, 0.5, 0, 0.5]
    assert judged(claims)["verdict"].tolist() == [HOLDS, HOLDS, UNKNOWN, HOLDS]
    assert claims[0].figures == f"75% of the images, random backbone 8%: {claims[0].effects[0][0]}"
    assert "baseline" in claims[3].text
    worse = rows(30)
    swapped = worse["network"].map({"trained": "random", "random": "trained"}).where(worse["method"] == TRACED)
    worse["network"] = swapped.fillna(worse["network"])
    assert judged(lesion_tables.claims(worse))["verdict"].tolist()[0] == NOT


def test_claims_over_folds_have_both_sources_of_variation():
    both = pd.concat([rows(5).assign(fold=fold) for fold in (0, 1)], ignore_index=True)
    claims = lesion_tables.claims(both, held_out_ratio=0.25)
    assert [len(claim.effects[0]) for claim in claims] == [2, 2, 2, 2]
    without = both[~both["method"].isin([BASELINE])]
    assert len(lesion_tables.claims(without)) == 3


def test_a_readable_table_fits_a_page():
    own, one = lesion_tables.readable(lesion_tables.lesion_table(rows(10))).values()
    assert len(own.columns) == 4
    assert len(one.columns) == 5
    assert own.loc[("all", WHOLE)].tolist() == ["100%", "+100%", "5%", "75%"]
    assert own.loc[("all", TRACED), "peak on a lesion"].startswith("75% (")
    assert own.loc[("all", CONTRAST), "minus random backbone"] == "-"
    assert one.loc[("all", WHOLE), ["pooled", "chance"]].tolist() == ["50%", "40%"]


def test_prototypes_on_lesions_of_their_sources_beside_a_random_backbone():
    """Four prototypes from photographs of two patients."""
    about = {"prototype": range(4), "patient_id": list("aabb"), "chance": 0.05, "area": [0.1, 0.1, 0.2, 0.2]}
    trained = pd.DataFrame(about | {"network": "trained", "pointing": [1, 1, 0, 0], "box": 0.3, "mass": 0.4})
    random = pd.DataFrame(about | {"network": "random", "pointing": [0, 1, 0, 0], "box": 0.1, "mass": 0.4})
    table = lesion_tables.source_table(pd.concat([trained, random]))
    assert table.index.tolist() == ["pointing", "box", "mass"]
    assert table["prototypes"].tolist() == [4, 4, 4]
    assert table["value"].tolist() == pytest.approx([0.5, 0.3, 0.4])
    assert table["random"].tolist() == pytest.approx([0.25, 0.1, 0.4])
    assert table["gain"].tolist() == pytest.approx([0.25, 0.2, 0])
    assert table["chance"].tolist() == pytest.approx([0.05, 0.15, 0.15])
    assert table.loc["pointing", ["value low", "value high", "gain low", "gain high"]].tolist() == [0, 1, 0, 0.5]
    shown = lesion_tables.readable_sources(table)
    assert shown.iloc[0].tolist() == ["50.0% (0.0% to 100.0%)", "25.0%", "+25.0% (+0.0% to +50.0%)", "5.0%"]
    folds = pd.concat([trained.assign(fold=0), random.assign(fold=0), trained.assign(fold=1), random.assign(fold=1)])
    assert lesion_tables.source_table(folds)["prototypes"].tolist() == [8, 8, 8]
