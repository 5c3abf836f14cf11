"""Patients guessed from the names of images."""

import numpy as np
import pandas as pd
import pytest
from data.tables import TEN, listing

from insightr_nb.data import catalog, patients
from insightr_nb.errors import DataError


@pytest.mark.parametrize("eyes", [("left", "right"), ("L", "R"), ("OD", "OS")])
def test_patients_are_suggested_from_image_names(csv_settings, eyes):
    names = [f"{i}_{eye}.jpg" for i in range(20) for eye in eyes]
    found = catalog.find(csv_settings(listing(names, [i % 5 for i in range(40)]), names))
    assert any(f"names such as 0_{eyes[0]} and 0_{eyes[1]} suggest 20 patients for 40 images" in n for n in found.notes)
    rows = np.arange(40)
    said = patients.on_two_sides(list(found.notes), found.rows["image_id"], (rows[:21], rows[21:31], rows[31:]))
    assert "Patients are not known" in said
    assert "suggest 20 patients, 2 of them in more than one part" in said


def test_suggested_patients_can_be_used(csv_settings):
    names = [f"{i}_{eye}.jpg" for i in range(20) for eye in ("left", "right")]
    table = listing(names, [i % 5 for i in range(40)])
    found = catalog.find(csv_settings(table, names, patient_column="from_names"))
    assert found.rows["patient_id"].tolist() == [str(i) for i in range(20) for _ in range(2)]
    assert found.notes == ("20 patients for 40 images, guessed from the names",)
    assert (found.rows.groupby("patient_id")["split"].nunique() == 1).all()
    said = patients.on_two_sides(found.notes, found.rows["image_id"], (np.arange(20), np.arange(20, 40)))
    assert said.endswith("of any split, if those guessed from the names are right.")
    with pytest.raises(DataError, match="no names in .*labels.csv pair up like 12_left and 12_right"):
        catalog.find(csv_settings(listing(TEN, [0, 1] * 5), TEN, folder="other", patient_column="from_names"))


def test_no_suggestion_for_unpaired_names_or_known_patients(csv_settings):
    found = catalog.find(csv_settings(listing(TEN, [0, 1] * 5), TEN))
    assert not any("suggest" in note for note in found.notes)
    ids = found.rows["image_id"]
    assert patients.on_two_sides(list(found.notes), ids, (np.arange(10),)).endswith("cannot be checked.")
    assert patients.on_two_sides([], ids, (np.arange(10),)) == "No patient is in more than one part of any split."


def test_patients_are_what_the_names_of_two_eyes_have_in_common():
    ids = pd.Series(["12_left", "12_right", "7-OD", "7-os", "lonely_L", "plain"])
    assert patients.by_name(ids).tolist() == ["12", "12", "7", "7", "lonely", "plain"]
    assert patients.by_name(pd.Series(["1_left", "2_right", "bright"])) is None
    ids = pd.Series(["R_1_right", "L_1_left", "left/2_left", "right/2_right", "3_left_1", "3_left_2", "3_right_1"])
    assert patients.by_name(ids).tolist() == ["1", "1", "2", "2", "3", "3", "3"]
    ids = pd.Series(["left/020", "right/020", "Image_01L", "Image_01R", "a_left_2", "a_right_2", "leftover", "left"])
    assert patients.by_name(ids).tolist() == [*["020"] * 2, *["Image_01"] * 2, *["a_2"] * 2, "leftover", "left"]
