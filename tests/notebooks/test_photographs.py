"""Real photographs, and wrong parameters, through the notebooks. A file of its own: a worker runs whole files."""

import pytest
from notebooks.running import run, succeed
from places import IDRID


@pytest.mark.skipif(not IDRID.is_dir(), reason="the real photographs are not here")
def test_real_photographs_through_all_notebooks(tmp_path):
    text = succeed("01_prepare_data", tmp_path, preset="smoke", dataset="csv", name="idrid", data_folder=IDRID)
    assert "409 images of 64 x 64 px, 0 rejected; labels from 0 to 4" in text
    succeed("03_train", tmp_path, preset="smoke", dataset="csv", name="idrid")  # found by its name
    text = succeed("04_projection", tmp_path, preset="smoke", dataset="csv", name="idrid")
    assert "10 prototypes from" in text


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
