"""The explained image: its explanation from files and computed, and its pictures at every size and in both colours."""

import cv2
import numpy as np
import pytest
from explorer import shown

from insightr_nb.analysis.explanation import explain
from insightr_nb.data import display, photograph, synthetic
from insightr_nb.errors import DataError
from insightr_nb.explorer.subject import Subject


@pytest.fixture
def own(tmp_path) -> Subject:
    """A file of the user, under another name."""
    cv2.imwrite(str(tmp_path / "0.png"), synthetic.photograph(3, 5, 700).image[..., ::-1])
    return Subject("left eye.png", tmp_path / "0.png")


def test_the_explanation_of_a_test_image_is_read_and_equals_the_computed_one(explored):
    name = explored.predictions["image_id"][5]
    read, computed = Subject(name).explanation(explored), explain(explored.loaded, name)
    assert (read.name, read.target, read.warnings) == (computed.name, computed.target, computed.warnings)
    assert read.prediction == pytest.approx(computed.prediction, abs=1e-5)
    assert read.familiarity == computed.familiarity
    assert np.array_equal(read.picture, computed.picture)
    assert np.array_equal(read.image, computed.image)
    assert np.array_equal(read.boxes, computed.boxes)
    assert np.asarray(read.maps) == pytest.approx(computed.maps, abs=1e-4)
    assert read.weights == pytest.approx(computed.weights, rel=1e-3)


def test_a_training_image_and_a_file_are_explained_under_their_names(explored, own):
    source = explored.loaded.prototypes["image_id"][4]
    training = Subject(source).explanation(explored)
    assert (training.name, training.target) == (source, explain(explored.loaded, source).target)
    assert training.min_distances[4] == pytest.approx(0, abs=1e-4)  # the patch itself
    x = own.explanation(explored)
    assert (x.name, x.target) == ("left eye.png", None)
    assert x.prediction == explain(explored.loaded, own.path).prediction
    with pytest.raises(DataError, match="nobody"):
        Subject("nobody").explanation(explored)


def test_pictures_of_an_image_of_the_data_set(explored):
    store, name = explored.loaded.store, explored.predictions["image_id"][5]
    row, subject = store.row(name), Subject(name)
    assert subject.picture(explored) == display.display_jpeg(store, row)
    for how, expect in (
        ({"original": True}, display.original_image(store, row)),
        ({"detail": True}, display.detail_image(store, row)),
        ({"original": True, "detail": True}, display.original_image(store, row, detail=True)),
    ):
        got = shown.decoded(subject.picture(explored, **how)).astype(int)
        assert np.abs(got - expect).mean() < 4  # JPEG
        assert len(got) == (1024 if "detail" in how else 512)


def test_pictures_of_a_file_in_both_colours_and_at_its_own_resolution(explored, own):
    settings = explored.loaded.store.settings
    sizes = {detail: len(shown.decoded(own.picture(explored, detail=detail))) for detail in (False, True)}
    assert sizes == {False: 512, True: photograph.native_size(own.path, display.display_settings(settings))}
    assert sizes[True] > 512
    normalised, original = (shown.decoded(own.picture(explored, o)).astype(int) for o in (False, True))
    expect = photograph.view(own.path, display.display_settings(settings), original=True)
    assert np.abs(original - expect).mean() < 2
    assert np.abs(normalised - original).mean() > 20


def test_outlines_are_known_for_synthetic_images_only(explored, own):
    labels = explored.loaded.store.table.set_index("image_id")["label"]
    assert Subject(labels.idxmax()).outlines(explored)
    with pytest.raises(DataError, match=r"no lesion masks of left eye\.png"):
        own.outlines(explored)


def test_another_image_of_the_same_name_is_refused(explored, smoke):
    """An id says nothing in another data set; source or digest do."""
    name = explored.predictions["image_id"][5]
    subject = Subject.of(explored, name)
    assert subject.explanation(smoke).name == name
    for known in (("elsewhere.jpg", subject.origin[1]), (subject.origin[0], "another preparation")):
        assert Subject(name, origin=known).explanation(smoke).name == name
    with pytest.raises(DataError, match="is another image in synthetic-64"):
        Subject(name, origin=("elsewhere.jpg", "other pixels")).explanation(smoke)
