"""Edits by hand: four prototypes, of which 1, 2 and 3 show the same patch."""

import numpy as np
import pytest

from insightr_nb.analysis import editing
from insightr_nb.analysis.edit import Edit
from insightr_nb.errors import DataError

SIMILARITIES = np.array([[1.0, 2, 2, 2], [4, 1, 1, 1]])  # of two images: those of twins are equal


@pytest.fixture
def edit() -> Edit:
    labels, scores = np.array([0.0, 1, 2, 4]), np.array([1.0, 3, 1, 0.5])
    return Edit(labels, scores, scores > 0, (labels, scores), (-0.9, 4.9), ((1, 2, 3),))


def test_an_unchanged_edit_is_the_last_layer_of_the_run(loaded):
    edit = Edit.of(loaded)
    last = loaded.network.last_layer
    np.testing.assert_allclose(edit.importance, (last.theta**2 / last.labels).detach(), rtol=1e-6)
    assert edit.labels.tolist() == loaded.labels.tolist()
    assert edit.limits == pytest.approx((-0.9, 4.9))
    assert edit.twins == tuple(loaded.twins)
    assert not edit.changed
    assert edit.provenance == {"switched_off": [], "relabelled": {}, "merged": [], "refitted": None}


def test_prototypes_are_switched_off_and_on_again(edit):
    off = edit.switched([0, 2], on=False)
    assert off.importance.tolist() == [0, 3, 0, 0.5]
    assert edit.importance.tolist() == [1, 3, 1, 0.5]  # an edit is not changed in place
    assert off.changed
    assert off.provenance["switched_off"] == [0, 2]
    again = off.switched([0, 2], on=True)
    assert again.importance.tolist() == [1, 3, 1, 0.5]
    assert not again.changed


def test_a_prototype_that_was_off_in_the_run_stays_off(edit):
    run = Edit(edit.labels, np.array([1.0, 0, 1, 1]), np.array([1, 0, 1, 1]) > 0, edit.start, edit.limits)
    assert run.switched([1], on=True).importance.tolist() == [1, 0, 1, 1]


def test_a_relabelled_prototype_keeps_its_contributions(edit):
    changed = edit.relabelled(3, 4.5)
    assert changed.labels.tolist() == [0, 1, 2, 4.5]
    assert np.array_equal(editing.weights(changed, SIMILARITIES), editing.weights(edit, SIMILARITIES))
    assert changed.provenance["relabelled"] == {"3": [4, 4.5]}
    assert not changed.relabelled(3, 4).changed


@pytest.mark.parametrize("label", [-1, 5, float("nan")])
def test_a_label_outside_the_range_is_refused(edit, label):
    with pytest.raises(DataError, match=r"must be from -0.9 to 4.9"):
        edit.relabelled(0, label)


def test_unknown_prototypes_are_refused(edit):
    for use in (lambda: edit.switched([1, 4], on=False), lambda: edit.relabelled(-1, 0), lambda: edit.merged([1, 4])):
        with pytest.raises(DataError, match=r"prototype (4|-1): must be from 0 to 3"):
            use()


def test_merged_twins_add_up_and_predictions_stay(edit):
    merged = edit.merged([1, 2])
    assert merged.importance.tolist() == [1, 4, 0, 0.5]
    assert merged.labels.tolist() == [0, 1.25, 2, 4]  # (3 * 1 + 1 * 2) / 4
    assert merged.provenance["merged"] == [[1, 2]]
    assert merged.provenance["relabelled"] == {"1": [1, 1.25]}
    assert merged.provenance["switched_off"] == []
    expect = editing.predict(edit, SIMILARITIES)
    np.testing.assert_allclose(editing.predict(merged, SIMILARITIES), expect, rtol=1e-12)
    off = merged.switched([1, 2], on=False)
    assert off.provenance["switched_off"] == [1]
    assert off.switched([1, 2], on=True).importance.tolist() == [1, 4, 0, 0.5]  # the importance of 2 is in 1


def same(edit: Edit) -> Edit:
    return edit


@pytest.mark.parametrize(
    "before",
    [
        same,
        lambda e: e.switched([1], on=False),
        lambda e: e.switched([2, 3], on=False),
        lambda e: e.switched([1, 2, 3], on=False),
        lambda e: e.relabelled(2, 4.9),
        lambda e: e.merged([2, 3]),
        lambda e: e.merged([1, 2]).switched([1], on=False),
        lambda e: e.relabelled(1, 0.3).merged([1, 3]).relabelled(1, 2.2),
    ],
)
def test_merging_keeps_the_predictions_of_twins_that_are_off_or_relabelled(edit, before):
    edit = before(edit)
    merged = edit.merged(*edit.twins)
    expect = editing.predict(edit, SIMILARITIES)
    np.testing.assert_allclose(editing.predict(merged, SIMILARITIES), expect, rtol=1e-12)
    assert merged.importance[2:].tolist() == [0, 0]
    assert merged.merges == ((1, 2, 3),)
    assert merged.on[1] == edit.on[1:].any()


def test_twins_that_are_all_off_have_their_common_importance_when_switched_on(edit):
    merged = edit.switched([1, 2, 3], on=False).merged([1, 2, 3])
    assert merged.importance.tolist() == [1, 0, 0, 0]
    assert merged.switched([1], on=True).importance.tolist() == [1, 4.5, 0, 0]


def test_merging_step_by_step_is_recorded_as_one_group(edit):
    assert edit.merged([2, 3]).merged([1, 2]).merges == ((1, 2, 3),)
    assert edit.merged((1, 2), (2, 3)).merges == ((1, 2, 3),)


@pytest.mark.parametrize("group", [[0, 1], [1], [1, 1], [0, 1, 2]])
def test_only_twins_can_be_merged(edit, group):
    with pytest.raises(DataError, match=r"only twins can be merged.*Twins of this run: 1 = 2 = 3"):
        edit.merged(group)
