"""The data sets of the catalogue, each on a small imitation of its official folder."""

import os
import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from insightr_nb.data import catalog, duplicates, layouts
from insightr_nb.data.images import read_image
from insightr_nb.errors import DataError
from insightr_nb.settings import DataSettings


def write(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def images(folder: str, names, suffix: str) -> dict[str, str]:
    return {f"{folder}/{name}{suffix}": f"{folder} {name}" for name in names}


def listing(header: str, names, labels) -> str:
    return header + "\n" + "".join(f"{n},{v}\n" for n, v in zip(names, labels, strict=True))


EYES = [f"{patient}_{eye}" for patient in range(10, 35) for eye in ("left", "right")]  # grades 0 0 1 1 2 2 ...
TESTED = [f"{patient}_{eye}" for patient in (1, 2) for eye in ("left", "right")]


def eyepacs(root: Path) -> None:
    write(root, images("train", EYES, ".jpeg") | images("test", TESTED, ".jpeg"))
    solution = "image,level,Usage\n" + "".join(f"{n},{i},Public\n" for i, n in enumerate(TESTED))
    labels = listing("image,level", EYES, [i // 2 % 5 for i in range(50)])
    write(root, {"trainLabels.csv": labels, "retinopathy_solution.csv": solution})


def aptos2019(root: Path) -> None:
    names = [f"{i:012x}" for i in range(30)]
    write(root, images("train_images", names, ".png"))
    write(root, {"train.csv": listing("id_code,diagnosis", names, [0, 1, 2, 3, 4] * 6), "test.csv": "id_code\nx\n"})


def idrid_official(root: Path) -> None:
    base = root / "B. Disease Grading"
    for letter, part, count in (("a", "Training", 10), ("b", "Testing", 5)):
        names = [f"IDRiD_{i:03d}" for i in range(1, count + 1)]
        write(base, images(f"1. Original Images/{letter}. {part} Set", names, ".jpg"))
        header = "Image name,Retinopathy grade,Risk of macular edema ,,,,,,"
        rows = "".join(f"{n},{i % 5},0,,,,,,\n" for i, n in enumerate(names)) + ",,,,,,,,\n"
        write(base, {f"2. Groundtruths/{letter}. IDRiD_Disease Grading_{part} Labels.csv": header + "\n" + rows})


MAKE = {"eyepacs": eyepacs, "aptos2019": aptos2019, "idrid": idrid_official}


def find(root: Path, dataset: str, **settings) -> catalog.ImageTable:
    return catalog.find(DataSettings(dataset=dataset, folder=str(root), **settings))


def test_eyepacs(tmp_path):
    eyepacs(tmp_path)
    found = find(tmp_path, "eyepacs")
    rows = found.rows.set_index("image_id")
    assert len(rows) == 54
    assert rows.loc["13_right"].tolist() == ["13", 3, "train", str((tmp_path / "train/13_right.jpeg").resolve())]
    assert rows.loc["2_left"].tolist() == ["2", 2, "test", str((tmp_path / "test/2_left.jpeg").resolve())]
    assert found.grades
    assert found.notes == ()


def test_eyepacs_without_its_test_folder_splits_off_patients(tmp_path):
    eyepacs(tmp_path)
    shutil.rmtree(tmp_path / "test")
    found = find(tmp_path, "eyepacs")
    tested = found.rows[found.rows["split"] == "test"]
    assert (len(found.rows), tested["patient_id"].nunique(), len(tested)) == (50, 5, 10)
    assert "no folder test/" in found.notes[0]


@pytest.mark.parametrize(
    ("change", "fragments"),
    [
        (lambda r: shutil.rmtree(r / "train"), ["folder train/ is missing", "photographs"]),
        (
            lambda r: (shutil.rmtree(r / "train"), write(r, {"train.zip.001": "", "train.zip.002": ""})),
            ["train/ is missing", "still zipped (train.zip.001, train.zip.002)", "cat train.zip.* >", "unzip"],
        ),
        (lambda r: (shutil.rmtree(r / "test"), write(r, {"test.zip.001": ""})), ["test/ is missing", "still zipped"]),
        (lambda r: (shutil.rmtree(r / "train"), write(r, {"train.zip": ""})), ["train/ is missing", "unzip train.zip"]),
        (lambda r: (r / "retinopathy_solution.csv").unlink(), ["retinopathy_solution.csv is missing", "test/"]),
        (
            lambda r: (r / "trainLabels.csv").rename(r / "trainLabels.csv.zip"),
            ["trainLabels.csv is still zipped", "unzip trainLabels.csv.zip"],
        ),
        (lambda r: (r / "train" / "13_left.jpeg").unlink(), ["1 images have no file", "'13_left' (line 8)"]),
        (
            lambda r: (r / "trainLabels.csv").write_text("image,level\n10_left,5\n"),
            ["trainLabels.csv, line 2", "'5'", "above 4"],
        ),
        (
            lambda r: write(r, {"train/x.jpeg": "x", "trainLabels.csv": "image,level\nx,1\n"}),
            ["trainLabels.csv, line 2", "'x'", "<patient>_<left|right>"],
        ),
        (
            lambda r: write(r, {"trainLabels.csv": "image,grade\n10_left,1\n"}),
            ["trainLabels.csv", "level", "image, grade"],
        ),
        (
            lambda r: write(
                r, {"test/10_left.jpeg": "other", "retinopathy_solution.csv": "image,level,Usage\n10_left,1,Public\n"}
            ),
            ["1 patients have images in more than one part", "10"],
        ),
    ],
)
def test_a_folder_of_eyepacs_that_is_not_whole(tmp_path, change, fragments):
    eyepacs(tmp_path)
    change(tmp_path)
    with pytest.raises(DataError) as error:
        find(tmp_path, "eyepacs")
    for fragment in fragments:
        assert fragment in str(error.value)


def test_aptos2019_copies_are_reported_kept_together_and_left_out_where_grades_conflict(tmp_path):
    """Images 0, 5, 10 are one photograph of grade 0; 1 and 2 are one with two grades."""
    aptos2019(tmp_path)
    path = tmp_path / "train_images"
    for copy, of in ((5, 0), (10, 0), (2, 1)):
        shutil.copy(path / f"{of:012x}.png", path / f"{copy:012x}.png")
    found = find(tmp_path, "aptos2019", max_train_per_grade=100)
    ids = [f"{i:012x}" for i in range(30)]
    assert sorted(found.rows["image_id"]) == [i for n, i in enumerate(ids) if n not in (1, 2)]
    together = found.rows[found.rows["image_id"].isin([ids[0], ids[5], ids[10]])]
    assert set(together["patient_id"]) == {ids[0]}
    assert together["split"].nunique() == 1
    happened = found.duplicates.set_index("image_id")["happened"].to_dict()
    assert happened == {
        **dict.fromkeys((ids[0], ids[5], ids[10]), "kept, one patient"),
        **dict.fromkeys((ids[1], ids[2]), "left out, grades conflict"),
    }


def test_idrid_keeps_its_official_parts_though_both_count_from_1(tmp_path):
    idrid_official(tmp_path)
    rows = find(tmp_path, "idrid").rows
    assert rows["split"].value_counts().to_dict() == {"train": 10, "test": 5}
    assert rows["image_id"].is_unique
    assert rows.set_index("image_id").loc["test_IDRiD_002", ["label", "split"]].tolist() == [1, "test"]
    assert rows["label"].tolist() == [0, 1, 2, 3, 4] * 3
    pd_inner = find(tmp_path / "B. Disease Grading", "idrid").rows
    assert pd_inner["image_id"].tolist() == rows["image_id"].tolist()


def test_a_copy_in_the_official_test_part_leaves_the_training_part(tmp_path):
    idrid_official(tmp_path)
    base = tmp_path / "B. Disease Grading" / "1. Original Images"
    shutil.copy(base / "b. Testing Set" / "IDRiD_003.jpg", base / "a. Training Set" / "IDRiD_008.jpg")  # both grade 2
    found = find(tmp_path, "idrid")
    assert "train_IDRiD_008" not in set(found.rows["image_id"])
    assert "test_IDRiD_003" in set(found.rows["image_id"])
    assert found.duplicates["happened"].tolist() == ["left out, the patient is in the test part", "kept, one patient"]


def imitated_retinamnist(root: Path, side: int) -> dict[str, np.ndarray]:
    """The archive as medmnist has it, with noise for photographs."""
    rng, arrays = np.random.default_rng(0), {}
    for part, count in (("train", 1080), ("val", 120), ("test", 400)):
        arrays[f"{part}_images"] = rng.integers(0, 255, (count, side, side, 3), dtype=np.uint8)
        arrays[f"{part}_labels"] = (np.arange(count) % 5).astype(np.uint8)[:, None]
    np.savez(root / f"retinamnist_{side}.npz", **arrays)
    return arrays


def test_retinamnist_uses_the_smallest_sufficient_size(tmp_path):
    arrays = imitated_retinamnist(tmp_path, 64)
    found = find(tmp_path, "retinamnist", size=32)
    assert found.rows["split"].value_counts().to_dict() == {"train": 1200, "test": 400}
    assert found.rows["label"].tolist() == [0, 1, 2, 3, 4] * 320
    assert np.array_equal(read_image(found.rows["source"][1]), arrays["train_images"][1])
    assert np.array_equal(read_image(found.rows["source"].iloc[-1]), arrays["test_images"][-1])
    (tmp_path / "retinamnist_128.npz").write_bytes(b"half a download")
    with pytest.raises(DataError, match="retinamnist_128.npz cannot be read or downloaded.*medmnist.com"):
        find(tmp_path, "retinamnist", size=65)


def test_a_copy_in_the_test_part_leaves_out_both_eyes_of_the_patient(tmp_path):
    """12_left of the training part is 1_left of the test part, so patients 12 and 1 are one."""
    eyepacs(tmp_path)
    (tmp_path / "trainLabels.csv").write_text(listing("image,level", EYES, [0] * 50))
    shutil.copy(tmp_path / "test/1_left.jpeg", tmp_path / "train/12_left.jpeg")
    found = find(tmp_path, "eyepacs")
    left = found.duplicates.set_index("image_id")["happened"].to_dict()
    assert left == {"12_left": duplicates.IN_TEST, "12_right": duplicates.IN_TEST, "1_left": duplicates.KEPT}
    assert not set(found.rows["image_id"]) & {"12_left", "12_right"}
    assert len(found.rows) == 52


def test_conflicting_copies_still_merge_their_patients(tmp_path):
    eyepacs(tmp_path)
    shutil.copy(tmp_path / "train/10_left.jpeg", tmp_path / "train/14_left.jpeg")  # grades 0 and 4
    rows = find(tmp_path, "eyepacs").rows.set_index("image_id")
    assert not {"10_left", "14_left"} & set(rows.index)
    assert rows.loc["10_right", "patient_id"] == rows.loc["14_right", "patient_id"]


def test_a_label_between_grades_is_refused_for_known_data_sets(tmp_path):
    eyepacs(tmp_path)
    text = (tmp_path / "trainLabels.csv").read_text().replace("10_right,0", "10_right,2.5")
    (tmp_path / "trainLabels.csv").write_text(text)
    with pytest.raises(DataError, match=r"trainLabels.csv, line 3: label '2.5' is not a grade"):
        find(tmp_path, "eyepacs")


def test_a_known_folder_given_as_csv_or_as_retinamnist(tmp_path):
    idrid_official(tmp_path)
    with pytest.raises(DataError, match="looks like idrid: -p dataset idrid"):
        find(tmp_path, "csv", name="mine")
    with pytest.raises(DataError, match="is not retinamnist. It looks like idrid"):
        find(tmp_path, "retinamnist")


def test_two_files_with_one_id_are_refused(csv_settings):
    names = ["a.png", "a.jpg", *(f"{i}.png" for i in range(8))]
    table = "image,label\n" + "".join(f"{n},{i % 2}\n" for i, n in enumerate(names))
    with pytest.raises(DataError, match=r"line 3: image 'a.jpg' has the same id 'a' as line 2"):
        catalog.find(csv_settings(table, names))


def test_symbolic_links_are_followed_beside_undecodable_names(tmp_path):
    (tmp_path / "disk").mkdir()
    names = [f"{i}.png" for i in range(10)]
    write(tmp_path / "disk", {name: name for name in names})
    (tmp_path / "disk" / b"caf\xe9.png".decode(errors="surrogateescape")).write_text("x")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "sub").symlink_to(tmp_path / "disk")
    (tmp_path / "raw" / "labels.csv").write_text(listing("image,label", names, [0, 1] * 5))
    found = find(tmp_path / "raw", "csv", name="mine")
    assert len(found.rows) == 10
    "".join(found.notes).encode("utf-8")


@pytest.mark.parametrize("named", ["eyepacs", "aptos2019", "idrid"])
@pytest.mark.parametrize("there", ["eyepacs", "aptos2019", "idrid"])
def test_a_folder_of_another_data_set_is_recognised(tmp_path, named, there):
    MAKE[there](tmp_path)
    if named == there:
        assert len(find(tmp_path, named).rows)
        return
    with pytest.raises(DataError, match=f"is not {named}. It looks like {there}: use -p dataset {there}"):
        find(tmp_path, named)


def test_unknown_folder_is_refused(tmp_path):
    (tmp_path / "holiday.jpg").write_text("x")
    with pytest.raises(DataError, match="is not eyepacs. eyepacs is recognised by trainLabels.csv .* -p dataset csv"):
        find(tmp_path, "eyepacs")
    with pytest.raises(DataError, match="data_folder: required to prepare 'idrid'; ieee-dataport.org"):
        catalog.find(DataSettings(dataset="idrid"))


@pytest.mark.parametrize("closed", ["", "train_images"])
def test_a_folder_that_may_not_be_read(tmp_path, monkeypatch, closed):
    aptos2019(tmp_path)
    listed, scanned = os.listdir, os.scandir

    def refuse(real, path="."):
        if str(path) == str(tmp_path / closed):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "listdir", partial(refuse, listed))
    monkeypatch.setattr(os, "scandir", partial(refuse, scanned))
    with pytest.raises(DataError, match=f"{closed}.*cannot be read .Permission denied"):
        find(tmp_path, "aptos2019")


def test_files_without_a_row_are_mentioned(tmp_path):
    aptos2019(tmp_path)
    write(tmp_path, {"train_images/extra.png": "e", "train_images/more.png": "m"})
    note = "2 image files have no row in train.csv and are ignored: extra.png, more.png"
    assert note in find(tmp_path, "aptos2019").notes


def test_all_images_beyond_the_caps_are_prepared_but_used_by_no_part(tmp_path):
    aptos2019(tmp_path)
    some = find(tmp_path, "aptos2019", max_train_per_grade=2)
    every = find(tmp_path, "aptos2019", max_train_per_grade=2, all_images=True)
    assert (len(some.rows), len(every.rows)) == (10 + 6, 30)
    assert every.rows["split"].value_counts().to_dict() == {"extra": 14, "train": 10, "test": 6}
    used = every.rows[every.rows["split"] != "extra"]
    assert used["image_id"].tolist() == some.rows["image_id"].tolist()
    assert sum(some.before["train"].values()) == 24
    assert sorted(some.before["train"].values()) == [4, 5, 5, 5, 5]


def test_real_copies(idrid):
    """Five pairs of identical files; conflicting grades leave, the others are one patient."""
    found = catalog.find(DataSettings(dataset="csv", name="idrid", folder=str(idrid)))
    assert found.duplicates["group"].nunique() == 5
    assert len(found.duplicates) == 10
    out = found.duplicates["happened"].str.startswith("left out")
    assert len(found.rows) == 413 - out.sum()
    kept = found.rows.groupby("patient_id")["split"].nunique()
    assert (kept == 1).all()


@pytest.mark.parametrize(
    "part", ["1. Original Images/b. Testing Set", "2. Groundtruths/b. IDRiD_Disease Grading_Testing Labels.csv"]
)
def test_a_missing_part_of_idrid_is_named_with_where_to_obtain_it(tmp_path, part):
    idrid_official(tmp_path)
    path = tmp_path / "B. Disease Grading" / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(DataError) as caught:
        find(tmp_path, "idrid")
    assert str(path) in str(caught.value)
    assert layouts.DATA_SETS["idrid"].obtain in str(caught.value)


def test_retinamnist_without_its_package_says_how_to_install_it(tmp_path, monkeypatch):
    imitated_retinamnist(tmp_path, 28)
    monkeypatch.setitem(sys.modules, "medmnist", None)
    with pytest.raises(DataError) as caught:
        find(tmp_path, "retinamnist", size=32)
    assert "pip install medmnist" in str(caught.value)
