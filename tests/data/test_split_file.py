"""Split files in the format of the paper's authors."""

import json
from copy import deepcopy

import numpy as np
import pytest

from insightr_nb.data import catalog, split_file
from insightr_nb.data.folds import fold_split
from insightr_nb.data.prepare import prepare
from insightr_nb.errors import DataError, SettingsError
from insightr_nb.settings import DataSettings

NAMES = [f"{p}_{eye}" for p in range(10) for eye in ("left", "right")]  # grades of the data set: 0 0 1 1 2 2 ...


def part(names, repeat=1) -> dict:
    files = [n for n in names for _ in range(repeat)]
    labels = [str(int(n[0]) % 5 + 1) for n in files]  # the published file holds texts
    return {"files": files, "labels": labels, "fussed_labels": [float(v) + 0.01 * i for i, v in enumerate(labels)]}


FOLDS = {
    "Fold 0": {"train": part(NAMES[:9], 2), "val": part(NAMES[9:16])},  # both eyes of patient 4 are on two sides
    "Fold 1": {"train": part(NAMES[8:16]), "val": part(NAMES[:8])},
}
TEST = {"files": NAMES[16:], "labels": [int(n[0]) % 5 + 1 for n in NAMES[16:]]}


@pytest.fixture
def given(csv_settings, tmp_path):
    """A csv data set of NAMES with a split file and a test file, each changed by a function."""

    def make(change=lambda folds: None, change_test=lambda test: None, **settings) -> DataSettings:
        folds, test = deepcopy(FOLDS), deepcopy(TEST)
        change(folds)
        change_test(test)
        (tmp_path / "cv.json").write_text(folds if isinstance(folds, str) else json.dumps(folds))
        (tmp_path / "test.json").write_text(json.dumps(test))
        table = "image,label\n" + "".join(f"{n}.png,{int(n[0]) % 5}\n" for n in NAMES)
        images = {f"{n}.png": (200, 10 * i, 5) for i, n in enumerate(NAMES)}
        files = {"split_file": str(tmp_path / "cv.json"), "test_split_file": str(tmp_path / "test.json")}
        return csv_settings(table, images, **(files | {"preparation": "resize"} | settings))

    return make


def test_repeated_rows_of_a_split_file_are_kept(given, own_outputs, in_process):
    store = prepare(given())
    split = fold_split(store, store.settings, 0)
    ids = store.table["image_id"].to_numpy()
    assert ids[split.training].tolist() == FOLDS["Fold 0"]["train"]["files"]
    assert ids[split.validation].tolist() == FOLDS["Fold 0"]["val"]["files"]
    assert sorted(ids[split.test]) == TEST["files"]
    expect = np.array(FOLDS["Fold 0"]["train"]["fussed_labels"]) - 1  # 1..5 becomes 0..4
    assert split.continuous[0] == pytest.approx(expect)
    assert split_file.shared_patients(store.table.assign(patient_id=store.table["image_id"].str[0]), split) == 1
    assert fold_split(store, store.settings, 1).fingerprint != split.fingerprint
    with pytest.raises(DataError, match="fold = 2: the split file has folds 0 to 1"):
        fold_split(store, store.settings, 2)


def test_store_keeps_its_split_file_and_ignores_caps(given, own_outputs, in_process, tmp_path):
    made = prepare(given(max_train_per_grade=1))
    (tmp_path / "cv.json").unlink()
    again = prepare(DataSettings(dataset="csv", name="mine", size=32))
    assert len(again.images) == 20
    assert fold_split(again, again.settings, 0).fingerprint == fold_split(made, made.settings, 0).fingerprint


def test_another_split_file_is_not_taken_for_the_stores(given, own_outputs, in_process, tmp_path):
    prepare(given())
    assert len(prepare(given()).images) == 20
    other = given(lambda f: f["Fold 1"]["val"]["fussed_labels"].__setitem__(0, 1.3))
    with pytest.raises(DataError, match="split_file = .* was prepared with 'different content'.*overwrite=True"):
        prepare(other)
    (tmp_path / "cv.json").unlink()
    with pytest.raises(DataError, match="split_file = .* cannot be read"):
        prepare(other)


def test_other_rows_of_the_split_file_make_another_store(given, own_outputs, in_process):
    first = prepare(given()).fingerprint
    changed = prepare(given(lambda f: f["Fold 1"]["val"]["fussed_labels"].__setitem__(0, 1.3)), overwrite=True)
    assert changed.fingerprint != first


def test_projection_sees_a_repeated_image_once():
    from insightr_nb.data.loading import Subset

    images = np.arange(5 * 3, dtype=np.uint8).reshape(5, 1, 1, 3)
    repeated = Subset(images, np.array([3, 1, 3, 4]), np.array([2, 1, 2.2, 5], np.float32), np.array([1, 0, 1, 4]))
    once = repeated.once()
    assert (once.rows.tolist(), once.targets.tolist(), once.strata.tolist()) == ([1, 3, 4], [1, 2, 5], [0, 1, 4])


def test_without_a_test_file_the_data_sets_own_test_part_is_used(given):
    with pytest.raises(DataError, match="this data set has no test set; set test_split_file"):
        catalog.find(given(test_split_file=None))
    with pytest.raises(SettingsError, match="test_split_file = .* requires split_file"):
        given(split_file=None)


@pytest.mark.parametrize(
    ("change", "fragments"),
    [
        (lambda f: f.clear(), ["'Fold 0'", "found nothing"]),
        (lambda f: f.update({"Fold 3": f.pop("Fold 1")}), ["'Fold 0', 'Fold 1'", "found Fold 0, Fold 3"]),
        (lambda f: f["Fold 1"].pop("val"), ["Fold 1", "'val' with the lists"]),
        (lambda f: f["Fold 1"]["val"]["labels"].pop(), ["Fold 1, val", "8 files but 7 labels"]),
        (lambda f: f["Fold 1"]["val"].pop("labels"), ["Fold 1, val", "8 files but no labels"]),
        (lambda f: f["Fold 0"]["val"].pop("fussed_labels"), ["Fold 0", "'fussed_labels' must be in both"]),
        (lambda f: f["Fold 0"]["train"]["fussed_labels"].pop(), ["Fold 0, train", "18 files but 17 fussed_labels"]),
        (lambda f: f["Fold 0"]["val"]["labels"].__setitem__(2, "0"), ["Fold 0, val: labels[2] = '0'", "1 to 5"]),
        (lambda f: f["Fold 0"]["val"]["labels"].__setitem__(2, "mild"), ["labels[2] = 'mild'", "'5_right'"]),
        (lambda f: f["Fold 0"]["val"]["labels"].__setitem__(2, 2.5), ["labels[2] = 2.5", "integer grade"]),
        (lambda f: f["Fold 0"]["val"]["labels"].__setitem__(2, None), ["labels[2] = None"]),
        (lambda f: f["Fold 0"]["val"]["fussed_labels"].__setitem__(0, 7), ["fussed_labels[0] = 7", "0.5 to 5.5"]),
        (lambda f: f["Fold 0"]["val"]["labels"].__setitem__(0, 3), ["'4_right' has label 5 here and 3 elsewhere"]),
        (lambda f: f["Fold 0"]["val"]["files"].__setitem__(0, "../x"), ["files[0] = '../x'", "below"]),
        (lambda f: f["Fold 0"]["val"]["files"].__setitem__(0, "/etc/x"), ["files[0] = '/etc/x'", "below"]),
        (lambda f: f["Fold 0"]["val"]["files"].__setitem__(0, 7), ["files[0] = 7", "must be a string"]),
        (lambda f: f["Fold 0"]["val"]["files"].__setitem__(0, "99_left"), ["1 of its images", "99_left"]),
        (
            lambda f: f["Fold 0"]["val"]["files"].__setitem__(0, "9_right"),
            ["1 images are in both training and test set"],
        ),
    ],
)
def test_a_split_file_that_cannot_be_used(given, change, fragments):
    with pytest.raises(DataError) as error:
        catalog.find(given(change))
    for fragment in fragments:
        assert fragment in str(error.value), str(error.value)


def test_an_empty_part_is_named_before_anything_is_trained(given, own_outputs, in_process):
    store = prepare(given(lambda f: f["Fold 1"].update(val=part([]))))
    assert len(fold_split(store, store.settings, 0).validation) == 7
    with pytest.raises(DataError, match="fold 1: part 'val' has no usable image"):
        fold_split(store, store.settings, 1)


@pytest.mark.parametrize("content", ["{", "[]", None])
def test_a_split_file_that_is_no_json_object(given, tmp_path, content):
    settings = given()
    (tmp_path / "cv.json").unlink() if content is None else (tmp_path / "cv.json").write_text(content)
    with pytest.raises(DataError, match="cv.json.*(not valid JSON|JSON object|cannot be read)"):
        catalog.find(settings)
