"""Choice of typical images. tests/training tests the explanations of the smoke run."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

from insightr_nb.analysis.explanation import Explanation, explain, explain_folder, typical
from insightr_nb.analysis.explanation_figures import write_explanation
from insightr_nb.analysis.geometry import Grid
from insightr_nb.data import synthetic
from insightr_nb.errors import DataError


@pytest.mark.parametrize(
    ("targets", "predictions", "expect"),
    [
        ([0], [1], ["0"]),
        ([1, 0], [1, 1], ["1", "0"]),
        ([4, 0, 0, 2, 2, 0, 4, 2, 4], [3, 0, 1, 2, 4, 3, 4, 3, 2], ["2", "7", "0"]),
    ],
)
def test_typical_selects_the_median_error_in_each_third_of_the_labels(targets, predictions, expect):
    names = [str(n) for n in range(len(targets))]
    table = pd.DataFrame({"image_id": names, "target": targets, "prediction": predictions})
    assert typical(table) == expect


def test_an_explanation_is_made_of_contributions_and_distances():
    run = SimpleNamespace(
        similarity=lambda distances: 1 / (distances + 0.5),
        grid=Grid(8, 2, 4, 1.5, 8),  # two by two cells of 4 px
        labels=np.array([0.0, 2.0, 4.0]),
        prototypes=pd.DataFrame({"prototype": [0, 1, 2]}),
        familiarity=lambda image: 0.01,
        store=SimpleNamespace(settings=SimpleNamespace(store_name="eyes")),
    )
    maps = np.array([[[3.0, 1.0], [2.0, 2.0]], [[0.5, 0.5], [0.5, 9.0]], [[4.0, 4.0], [4.0, 0.0]]])
    blank = np.zeros((8, 8, 3), np.uint8)
    got = Explanation.of(run, 2.4, np.array([2.0, 4.0, 4.0]), maps, image=blank, picture=blank, target=2.0, name="eye")
    assert got.min_distances.tolist() == [1, 0.5, 0]
    assert got.similarities.tolist() == [1 / 1.5, 1, 2]
    assert got.cells.tolist() == [[0, 1], [0, 0], [1, 1]]  # the first of equal patches
    assert got.boxes.tolist() == [[4, 0, 8, 4], [0, 0, 4, 4], [4, 4, 8, 8]]
    assert got.shares.tolist() == [0.2, 0.4, 0.4]
    assert got.top(2).tolist() == [1, 2]
    assert str(got) == (
        "Explanation(eye: prediction 2.40, label 2, uncertainty 1.50, familiarity 1%; largest contributions of 3 "
        "prototypes: #1 (label 2.00) 40%, #2 (label 4.00) 40%, #0 (label 0.00) 20%)\n"
        "Warning: This image is unlike the images of 'eyes' that the run was trained on: 1% of its validation images "
        "differ as much. Do not trust the prediction."
    )


def handmade(weights: list[float], sources: list[tuple], familiarity: float | None = None, **about) -> Explanation:
    """An explanation with the labels 0, 1, 2, ... and these source patches: image_id, row, column."""
    count, blank = len(weights), np.zeros((8, 8, 3), np.uint8)
    run = SimpleNamespace(
        similarity=lambda distances: 1 / (distances + 0.5),
        grid=Grid(8, 2, 4, 1.5, 8),
        labels=np.arange(count, dtype=float),
        prototypes=pd.DataFrame(sources, columns=["image_id", "row", "col"]).assign(prototype=range(count)),
        familiarity=lambda image: familiarity,
        store=SimpleNamespace(settings=SimpleNamespace(store_name="eyes")),
    )
    return Explanation.of(run, 1.0, np.array(weights), np.ones((count, 2, 2)), image=blank, picture=blank, **about)


def test_reasons_join_the_prototypes_of_one_patch_in_the_order_of_their_joint_contribution():
    sources = [("a", 0, 0), ("a", 0, 1), ("b", 0, 0), ("a", 0, 0), ("c", 1, 1), ("a", 0, 0)]
    x = handmade([2, 4, 3, 2.5, 0, 0], sources)
    assert x.reasons() == [(3, 0), (1,), (2,)]  # 4.5, 4, 3; prototypes 4 and 5 contribute nothing
    assert x.reasons(2) == [(3, 0), (1,)]
    alone = handmade([2, 4, 3], [("a", 0, 0), ("a", 1, 0), ("b", 0, 0)])
    assert [j for (j,) in alone.reasons(3)] == alone.top(3).tolist()


def test_an_explanation_under_another_name_is_otherwise_the_same():
    x = handmade([1, 2], [("a", 0, 0), ("b", 0, 0)], name="0.png")
    named = x.named("left eye.png")
    assert (named.name, x.name) == ("left eye.png", "0.png")
    assert named.weights is x.weights
    assert repr(named).startswith("Explanation(left eye.png: ")


@pytest.mark.parametrize(
    ("familiarity", "given", "expect"),
    [
        (0.5, (), []),
        (0.5, ("No disc.",), ["No disc. Do not trust the prediction."]),
        (
            0.0,
            (),
            ["This image is unlike", "none of its validation images differ as much. Do not trust the prediction."],
        ),
        (0.0, ("No disc.",), ["This image is unlike", "differ as much.", "No disc. Do not trust the prediction."]),
    ],
)
def test_warnings_end_with_one_advice(familiarity, given, expect):
    x = handmade([1, 2], [("a", 0, 0), ("b", 0, 0)], familiarity=familiarity, warnings=given)
    text = "\n".join(x.warnings)
    assert len(x.warnings) == len(given) + (familiarity == 0)
    assert all(part in text for part in expect)
    assert text.count("Do not trust the prediction.") == bool(expect)
    assert text == "" or text.endswith("Do not trust the prediction.")


def test_an_array_and_its_file_have_the_same_explanation(loaded, tmp_path):
    photograph = synthetic.photograph(3, 5, 200).image
    cv2.imwrite(str(tmp_path / "a.png"), photograph[..., ::-1])
    by_array, by_file = explain(loaded, photograph), explain(loaded, tmp_path / "a.png")
    assert by_array.prediction == by_file.prediction
    assert by_array.target is None
    assert by_file.target is None
    assert by_array.picture.shape == (512, 512, 3)
    assert by_array.prediction == pytest.approx((by_array.weights @ by_array.prototype_labels) / by_array.weights.sum())


@pytest.mark.parametrize(
    ("image", "fragment"),
    [
        (np.zeros((4, 4), np.uint8), "(4, 4) uint8"),
        (np.zeros((4, 4, 3), np.float32), "(4, 4, 3) float32"),
        (7, "image = 7"),
        ("nobody", "'nobody'"),
    ],
)
def test_what_is_no_image_is_refused_by_its_value(loaded, image, fragment):
    with pytest.raises(DataError) as caught:
        explain(loaded, image)
    assert fragment in str(caught.value)


def test_a_folder_of_images_becomes_a_table(loaded, tmp_path):
    folder = tmp_path / "eyes"
    (folder / "left").mkdir(parents=True)
    (folder / ".thumbnails").mkdir()
    photograph = synthetic.photograph(3, 5, 200).image
    for name in ("left/a.png", ".thumbnails/a.png"):
        cv2.imwrite(str(folder / name), photograph[..., ::-1])
    rectangle = np.zeros((200, 300, 3), np.uint8)
    rectangle[60:120, 20:280] = 180
    cv2.imwrite(str(folder / "b.png"), rectangle)
    (folder / "c.jpg").write_text("no image")
    (folder / "notes.txt").write_text("no image either")
    got = explain_folder(loaded, str(folder), str(tmp_path / "new" / "predictions.csv"))
    assert got["image"].tolist() == ["b.png", "c.jpg", "left/a.png"]
    expect = explain(loaded, photograph)
    row = got.iloc[2]
    assert row["prediction"] == pytest.approx(expect.prediction, abs=1e-5)
    assert row["uncertainty"] == pytest.approx(expect.uncertainty, abs=1e-5)
    assert (row["prototype"], row["label"]) == (expect.top(1)[0], expect.prototype_labels[expect.top(1)[0]])
    assert "No clear fundus outline" in got["warnings"][0]
    assert "cannot be decoded as an image" in got["error"][1]
    assert np.isnan(got["prediction"][1])
    written = pd.read_csv(tmp_path / "new" / "predictions.csv")
    assert written.columns.tolist() == got.columns.tolist()
    assert written["prediction"].tolist() == pytest.approx(got["prediction"].tolist(), nan_ok=True)


def test_a_file_whose_name_is_not_utf8_is_explained_and_written(loaded, tmp_path):
    folder = os.fsencode(tmp_path / "eyes")
    os.mkdir(folder)
    photograph = cv2.imencode(".png", synthetic.photograph(0, 7, 200).image[..., ::-1])[1].tobytes()
    for name, content in ((b"caf\xe9.png", photograph), (b"r\xe9sum\xe9.png", b"no image")):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(content)
    explain_folder(loaded, tmp_path / "eyes", tmp_path / "predictions.csv")
    written = pd.read_csv(tmp_path / "predictions.csv")
    assert written["image"].tolist() == ["caf\\udce9.png", "r\\udce9sum\\udce9.png"]
    assert written["error"].notna().tolist() == [False, True]
    e = explain(loaded, Path(os.fsdecode(os.path.join(folder, b"caf\xe9.png"))))
    _, text = write_explanation(loaded, e, tmp_path, count=1)
    assert json.loads(text.read_text(encoding="utf-8"))["image"] == "caf\\udce9"


@pytest.mark.parametrize(("folder", "why"), [("nowhere", "no such folder"), ("empty", "no image files")])
def test_a_folder_without_images_is_refused(loaded, tmp_path, folder, why):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=f"{folder}'?: {why}"):
        explain_folder(loaded, tmp_path / folder, tmp_path / "predictions.csv")
    assert not (tmp_path / "predictions.csv").exists()
