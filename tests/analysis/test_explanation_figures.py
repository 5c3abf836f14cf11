"""Explanations as files: overlay of a map, file names, content of the JSON file."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from insightr_nb.analysis import explanation_figures
from insightr_nb.analysis.explanation import explain, explain_folds
from insightr_nb.analysis.latent import LatentMap
from insightr_nb.data import synthetic
from insightr_nb.errors import RunError
from insightr_nb.files import write_json

GREY = np.full((64, 64, 3), 90, np.uint8)


def test_overlay_is_transparent_at_zero_and_opaque_at_the_maximum():
    assert np.array_equal(explanation_figures.overlay(GREY, np.zeros((64, 64)), 1.0), GREY)
    hot = explanation_figures.overlay(GREY, np.ones((64, 64)), 1.0)
    assert (hot == np.array([252, 254, 164])).all()  # the brightest of inferno
    assert np.array_equal(explanation_figures.overlay(GREY, np.ones((64, 64)), 0.0), GREY)


def test_maps_show_the_similarity_itself_from_0_to_the_largest():
    scale = explanation_figures.heat_scale(np.array([[[50.0, 200]], [[100, 10]]]))
    assert scale(np.array([0.0, 50, 100, 200])).tolist() == [0, 0.25, 0.5, 1]


def test_the_scale_of_fig_2_is_that_of_the_similarities_that_enter_the_prediction(loaded, closing):
    e = explain(loaded, loaded.predictions["image_id"][0])
    figure = explanation_figures.explanation(loaded, e)
    (bar,) = [axes for axes in figure.axes[0].child_axes if axes.get_xlabel().startswith("similarity")]
    assert bar.get_xlim() == pytest.approx((0, e.similarities[e.top(3)].max()))
    assert bar.get_xscale() == "linear"


def test_write_explanation_saves_picture_and_json_for_one_run_and_for_folds(loaded, tmp_path):
    name = loaded.predictions["image_id"][0]
    e = explain(loaded, name)
    squares = (e.prototype_labels - e.prediction) ** 2
    assert e.uncertainty == pytest.approx(np.sqrt(np.average(squares, weights=e.weights)))
    picture, text = explanation_figures.write_explanation(loaded.path, e, str(tmp_path))
    assert picture.stat().st_size > 10_000
    content = json.loads(text.read_text())
    assert content["prediction"] == pytest.approx(e.prediction)
    assert [p["prototype"] for p in content["prototypes"]] == e.top(5).tolist()
    assert content["prototypes"][0]["source_image"] == e.prototype_sources["image_id"][e.top(1)[0]]
    folds = explain_folds([loaded, loaded], name)
    explanation_figures.write_explanation(loaded, e, tmp_path, folds=folds)
    assert json.loads(text.read_text())["folds"]["predictions"] == [e.prediction] * 2
    assert folds.prediction == pytest.approx(e.prediction)
    assert folds.spread == pytest.approx(0)
    with pytest.raises(RunError, match="no run was given"):
        explain_folds([], name)


@pytest.mark.parametrize(
    ("given", "file"),
    [("p00001_left", "p00001_left"), ("left/020", "left%2F020"), ("IMG.000", "IMG.000"), ("Müller$1$", "Müller$1$")],
)
def test_special_characters_of_an_image_id_in_the_file_name(loaded, tmp_path, given, file):
    row = 3
    table = loaded.store.table.copy()
    table.loc[row, "image_id"] = given
    renamed = replace(loaded, store=replace(loaded.store, table=table))
    picture, text = explanation_figures.write_explanation(renamed, explain(renamed, given), tmp_path, count=1)
    assert (picture.name, text.name) == (f"explanation_{file}.png", f"explanation_{file}.json")
    assert json.loads(text.read_text())["image"] == given


def test_the_content_of_an_explanation_is_that_of_the_files(loaded, smoke_run):
    name = loaded.predictions["image_id"][4]
    content = explanation_figures.explanation_content(loaded, explain(loaded, name), 10)
    row, table = loaded.predictions.iloc[4], smoke_run.table("prototypes.csv").set_index("prototype")
    weights = smoke_run.array("weights.npy")[4]
    distances = smoke_run.array("distances.npy")[4].reshape(10, -1)
    assert (content["image"], content["target"]) == (name, row["target"])
    assert content["prediction"] == pytest.approx(row["prediction"], abs=1e-5)
    assert content["note"].startswith("For research use only")
    assert content["warnings"] == list(explain(loaded, name).warnings)
    assert [p["prototype"] for p in content["prototypes"]] == np.argsort(-weights, kind="stable").tolist()
    for p in content["prototypes"]:
        j = p["prototype"]
        assert p["share"] == pytest.approx(weights[j] / weights.sum(), rel=1e-4)
        assert p["squared_distance"] == pytest.approx(distances[j].min(), abs=1e-4)
        assert p["cell"] == list(divmod(distances[j].argmin(), 3))
        assert p["label"] == table["label"][j]
        assert (p["source_image"], p["source_box"]) == (table["image_id"][j], table.loc[j, "x0":"y1"].tolist())
    json.dumps(content)
    assert len(explanation_figures.explanation_content(loaded, explain(loaded, name), 2)["prototypes"]) == 2


@pytest.mark.parametrize(("name", "file"), [("a b.png", "a b.png"), ("a/b:c", "a%2Fb%3Ac"), ("50%\n", "50%25%0A")])
def test_names_of_images_as_file_names(name, file):
    assert explanation_figures.file_name(name) == file


@pytest.mark.parametrize("name", [200 * "a", 201 * "a", 240 * "1", 80 * "眼", 40 * "a/b"])
def test_long_names_of_images_as_file_names(tmp_path, name):
    file, other = (explanation_figures.file_name(each) for each in (name, name + "b"))
    assert (file == name) == (len(name) == 200)
    assert file != other
    assert len(file.encode()) <= 200
    for path in (tmp_path / f"explanation_{file}.json", tmp_path / f"{file}-99.json"):
        write_json(path, {})  # by way of a temporary file with a longer name


def test_explanation_of_a_user_file_is_named_after_the_file(loaded, tmp_path):
    cv2.imwrite(str(tmp_path / "IMG.001.jpg"), synthetic.photograph(3, 5, 200).image[..., ::-1])
    e = explain(loaded, str(tmp_path / "IMG.001.jpg"))
    picture, _ = explanation_figures.write_explanation(loaded, e, tmp_path / "new", count=1)
    assert picture.name == "explanation_IMG.001.png"


def test_gallery_has_the_prototypes_by_label_with_their_box_in_the_middle(loaded, closing):
    axes = explanation_figures.prototype_gallery(loaded, columns=4).axes
    table = loaded.prototypes.sort_values("label")
    labels = loaded.store.table.set_index("image_id")["label"]
    titles = [f"#{p.prototype} label {p.label:.1f}\nimage of {labels[p.image_id]:g}" for p in table.itertuples()]
    assert [a.get_title() for a in axes] == titles + [""] * 2
    reach = int(1.5 * loaded.display_grid.stride)
    for place in axes[:10]:
        assert place.images[0].get_array().shape == (2 * reach, 2 * reach, 3)
        (box,) = place.patches
        assert box.get_x() + box.get_width() / 2 == pytest.approx(reach - 0.5, abs=0.5)
        assert box.get_y() + box.get_height() / 2 == pytest.approx(reach - 0.5, abs=0.5)


def test_latent_space_is_shown_before_and_after_projection(loaded, closing):
    before, after, _ = explanation_figures.latent_space(loaded).axes
    space = LatentMap.of(loaded)
    for axes, points, name in ((before, space.before, "before"), (after, space.prototypes, "after")):
        stars, circles = axes.collections
        np.testing.assert_allclose(stars.get_offsets(), space.patches)
        np.testing.assert_allclose(circles.get_offsets(), points)
        assert circles.get_array().tolist() == loaded.labels.tolist()
        assert axes.get_title() == f"{name} the projection"
