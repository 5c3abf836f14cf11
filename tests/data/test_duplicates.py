"""Copies of a photograph: identical files are found, kept on one side of the split, or left out."""

import numpy as np
import pandas as pd
import pytest

from insightr_nb.data import duplicates
from insightr_nb.data.duplicates import CONFLICT, IN_TEST, KEPT
from insightr_nb.errors import DataError


def test_files_with_the_same_bytes(tmp_path):
    contents = {"a": b"one", "b": b"two", "c": b"one", "d": b"longer", "e": b"two", "f": b"six", "g": b"", "h": b""}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    found = duplicates.identical_files([str(tmp_path / name) for name in contents])
    assert found.tolist() == [0, 1, 0, -1, 1, -1, -1, -1]


def test_only_files_of_equal_size_are_read(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(duplicates, "_digest", lambda path: read.append(path) or "x")
    for name, length in (("a", 1), ("b", 2), ("c", 3), ("d", 2)):
        (tmp_path / name).write_bytes(b"x" * length)
    duplicates.identical_files([str(tmp_path / name) for name in "abcd"])
    assert read == [str(tmp_path / "b"), str(tmp_path / "d")]


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere.jpg: cannot be read"):
        duplicates.identical_files([str(tmp_path / "nowhere.jpg")])


def table(patients, labels, splits=None) -> pd.DataFrame:
    rows = pd.DataFrame({"image_id": [f"i{n}" for n in range(len(labels))], "patient_id": list(patients)})
    rows["label"] = labels
    return rows if splits is None else rows.assign(split=splits)


@pytest.mark.parametrize(
    ("patients", "labels", "splits", "group", "kept", "merged", "happened"),
    [
        pytest.param("abcd", [0, 1, 2, 3], None, [-1] * 4, [0, 1, 2, 3], "abcd", {}, id="no copies"),
        pytest.param(
            "abcd", [0, 1, 0, 3], None, [0, -1, 0, -1], [0, 1, 2, 3], "abad", {"i0": KEPT, "i2": KEPT}, id="one pair"
        ),
        pytest.param(
            "abca",
            [0, 1, 1, 3],
            None,
            [-1, 0, 0, -1],
            [0, 1, 2, 3],
            "abba",
            {"i1": KEPT, "i2": KEPT},
            id="a pair of others",
        ),
        pytest.param(
            "abbc",
            [0, 0, 1, 1],
            None,
            [0, 0, 1, 1],
            [0, 1, 2, 3],
            "aaaa",
            dict.fromkeys(["i0", "i1", "i2", "i3"], KEPT),
            id="a chain of patients",
        ),
        pytest.param(
            "abcd",
            [0, 1, 0, 3],
            None,
            [0, 0, 0, -1],
            [3],
            "d",
            dict.fromkeys(["i0", "i1", "i2"], CONFLICT),
            id="conflict",
        ),
        pytest.param(
            "abcd",
            [0, 0, 0, 3],
            ["train", "train", "test", "test"],
            [0, 0, 0, -1],
            [2, 3],
            "ad",
            {"i0": IN_TEST, "i1": IN_TEST, "i2": KEPT},
            id="both parts",
        ),
        pytest.param(
            "abcd",
            [0, 0, 1, 3],
            ["train", "train", "test", "test"],
            [0, 0, 0, -1],
            [3],
            "d",
            dict.fromkeys(["i0", "i1", "i2"], CONFLICT),
            id="conflict in both parts",
        ),
    ],
)
def test_resolve_keeps_merges_or_leaves_out_copies(patients, labels, splits, group, kept, merged, happened):
    rows, report = duplicates.resolve(table(patients, labels, splits), np.array(group))
    assert rows["image_id"].tolist() == [f"i{n}" for n in kept]
    assert "".join(rows["patient_id"]) == merged
    assert report.set_index("image_id")["happened"].to_dict() == happened
    assert report["group"].is_monotonic_increasing
