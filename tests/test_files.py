"""Writing and reading files: atomic writes, locks, checksums, and errors that name the file."""

import os
import subprocess
import sys

import pytest

from insightr_nb import files
from insightr_nb.errors import RunError


def test_failed_write_keeps_the_old_file_and_leaves_no_temporary_one(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        files.write_json(path, {"a": object()})
    assert files.read_json(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_fingerprints_depend_on_where_parts_end():
    assert files.fingerprint("ab", "c") != files.fingerprint("a", "bc")
    assert files.fingerprint("ab", b"c") == "629c2f14f654f026"


def test_exclusive_lock_names_the_process_that_holds_it(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(files, "WAIT", 0.3)
    code = (
        "import sys, pathlib; from insightr_nb import files\n"
        "with files.exclusive_lock(pathlib.Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "fold0")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "in\n"
    with (
        pytest.raises(RunError, match=rf"fold0 is in use by process {other.pid} on .* since 20"),
        files.exclusive_lock(tmp_path / "fold0"),
    ):
        pytest.fail("both are in")
    assert "waiting 0.3 s" in capfd.readouterr().out
    other.kill()
    other.communicate()
    with files.exclusive_lock(tmp_path / "fold0"):  # whoever held it has died
        pass


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "outputs").write_text("a file where a folder should be")
    with (
        pytest.raises(RunError, match=r"outputs/runs/fold0 cannot be written to: .*INSIGHTR_OUTPUTS"),
        files.exclusive_lock(tmp_path / "outputs/runs/fold0"),
    ):
        pytest.fail("it can")
