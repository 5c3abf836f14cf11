"""Real photographs, and wrong parameters, through the notebooks. A file of its own: a worker runs whole files."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from notebooks.running import run, succeed

from insightr_nb.data import synthetic
from insightr_nb.data.prepare import prepare
from insightr_nb.settings import DataSettings


def test_real_photographs_through_all_notebooks(tmp_path, idrid):
    text = succeed("01_prepare_data", tmp_path, preset="smoke", dataset="csv", name="idrid", data_folder=idrid)
    assert "409 images of 64 x 64 px, 0 rejected; labels from 0 to 4" in text
    succeed("03_train", tmp_path, preset="smoke", dataset="csv", name="idrid")  # found by its name
    text = succeed("04_projection", tmp_path, preset="smoke", dataset="csv", name="idrid")
    assert "10 prototypes from" in text


def test_odd_photographs_are_shown_and_may_be_gone_once_they_are_prepared(tmp_path, monkeypatch):
    """One too large to decode is rejected, one without a disc and one damaged inside are prepared and shown."""
    monkeypatch.setenv("INSIGHTR_OUTPUTS", str(tmp_path))
    folder = tmp_path / "it's here"
    folder.mkdir()
    for n in range(20):
        cv2.imwrite(str(folder / f"{n:02d}.jpg"), synthetic.photograph(n, 0, 120).image[..., ::-1])
    noise = np.random.default_rng(0).integers(60, 250, (90, 120, 3), np.uint8)
    cv2.imwrite(str(folder / "wall.png"), noise)
    content = bytearray((folder / "07.jpg").read_bytes())
    middle = len(content) // 2
    (folder / "07.jpg").write_bytes(content[:middle] + bytes(100) + content[middle + 100 :])
    huge = cv2.imencode(".png", np.zeros((1, 1), np.uint8))[1].tobytes()
    header = huge[12:16] + struct.pack(">II", 40_000, 40_000) + huge[24:29]
    huge = huge[:12] + header + struct.pack(">I", zlib.crc32(header)) + huge[33:]
    (folder / "huge.png").write_bytes(huge)
    rows = [f"{path.name},{n % 2}" for n, path in enumerate(sorted(folder.iterdir()))]
    (folder / "labels.csv").write_text("image,label\n" + "\n".join(rows), encoding="utf-8")
    prepare(DataSettings(dataset="csv", name="odd", folder=str(folder), size=64), max_rejected=0.1)
    (folder / "00.jpg").unlink()
    text = succeed("01_prepare_data", tmp_path, preset="smoke", dataset="csv", name="odd")
    assert "21 images of 64 x 64 px, 1 rejected" in text
    assert "1 images cannot be used:" in text
    assert "2 images were prepared, but may be wrong or damaged" in text
    assert "Some of these photographs are no longer at their source. The prepared images are intact." in text
    pictures = [path.stem for path in sorted((tmp_path / "data/odd-64/figures").iterdir())]
    assert pictures == ["before_and_after", "doubtful", "five_grades", "folds"]  # nobody can decode the rejected one


@pytest.mark.parametrize(
    ("name", "parameters", "fragments"),
    [
        ("03_train", {"fodl": 2}, ["fodl", "did you mean 'fold'"]),
        ("03_train", {"fold": 9}, ["fold = 9", "0 to 4"]),
        ("01_prepare_data", {"dataset": "csv", "name": "x", "data_folder": "no/where"}, ["no/where", "no such folder"]),
        (
            "04_projection",
            {"variant": "log_similarity", "fold": 4},
            ["is missing", "-p variant log_similarity -p fold 4"],
        ),
    ],
)
def test_bad_input_fails_with_a_message_that_helps(tmp_path, name, parameters, fragments):
    done = run(name, tmp_path, **parameters)
    assert done.returncode != 0
    for fragment in fragments:
        assert fragment in done.stderr
