"""Writing and reading files: atomic writes, locks, checksums, and errors that name the file."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from places import ROOT

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
    assert "waiting up to 0.3 s" in capfd.readouterr().out
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


@pytest.mark.parametrize(
    ("given", "expect"),
    [("~/x", "{home}/x"), ("~nobody-of-this-name/x", "~nobody-of-this-name/x"), ("a b/~", "a b/~"), (Path("c"), "c")],
)
def test_home_folder_of_a_given_path_is_expanded(tmp_path, monkeypatch, given, expect):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.given_path(given) == Path(expect.replace("{home}", str(tmp_path)))


def test_outputs_go_to_the_folder_of_the_environment_or_of_the_project(tmp_path, monkeypatch):
    assert files.outputs_root() == Path(os.environ["INSIGHTR_OUTPUTS"])
    monkeypatch.delenv("INSIGHTR_OUTPUTS")
    monkeypatch.chdir(tmp_path)
    assert files.outputs_root() == ROOT / "outputs"
    monkeypatch.setattr(files, "PROJECT", tmp_path / "site-packages")  # installed, so without notebooks
    assert files.outputs_root() == tmp_path / "outputs"


def test_paths_are_displayed_relative_to_the_working_folder_or_the_outputs(tmp_path, monkeypatch):
    monkeypatch.setenv("INSIGHTR_OUTPUTS", str(tmp_path / "project" / "outputs"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert files.display_path(tmp_path / "here" / "a" / "b") == "a/b"
    assert files.display_path(tmp_path / "project" / "outputs" / "runs") == "outputs/runs"
    assert files.display_path(tmp_path / "elsewhere") == str(tmp_path / "elsewhere")


def test_csv_json_and_arrays_are_read_back(tmp_path):
    files.write_csv(tmp_path / "new" / "a.csv", [{"x": 1, "name": "a,b"}, {"x": 2.5, "name": "é"}])
    assert (tmp_path / "new" / "a.csv").read_bytes() == 'x,name\n1,"a,b"\n2.5,é\n'.encode()
    files.write_json(tmp_path / "a.json", {"é": [1, None]})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "é": [\n    1,\n    null\n  ]\n}\n'
    assert files.read_json(tmp_path / "a.json") == {"é": [1, None]}
    files.write_array(tmp_path / "a.npy", np.arange(3))
    assert np.load(tmp_path / "a.npy").tolist() == [0, 1, 2]


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b""])
def test_damaged_json_is_refused_with_its_file(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(RunError) as caught:
        files.read_json(tmp_path / "a.json")
    assert "a.json" in str(caught.value)
    with pytest.raises(RunError) as caught:  # a folder has no content
        files.read_json(tmp_path)
    assert str(tmp_path.name) in str(caught.value)


def test_a_folder_appears_complete_or_not_at_all(tmp_path):
    with files.atomic_folder(tmp_path / "a") as temporary:
        (temporary / "x").write_text("1")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a" / "x").read_text() == "1"
    with pytest.raises(ZeroDivisionError), files.atomic_folder(tmp_path / "b") as temporary:
        (temporary / "x").write_text(str(1 / 0))
    with pytest.raises(RunError) as caught, files.atomic_folder(tmp_path / "a"):
        pass  # a is not empty
    assert "a could not be written" in str(caught.value)
    assert os.listdir(tmp_path) == ["a"]


def test_a_lock_is_seen_by_other_processes_and_ends_with_its_block(tmp_path):
    code = "import sys, pathlib; from insightr_nb import files; print(files.is_locked(pathlib.Path(sys.argv[1])))"

    def seen() -> str:
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], capture_output=True, text=True)
        return done.stdout.strip()

    assert not files.is_locked(tmp_path / "a")  # nobody has ever locked it
    with files.exclusive_lock(tmp_path / "a"):
        assert seen() == "True"
        assert files.read_json(tmp_path / ".a.holder.json")["pid"] == os.getpid()
    assert not files.is_locked(tmp_path / "a")
    assert not (tmp_path / ".a.holder.json").exists()


def test_checksums_of_a_zip_are_verified(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as content:
        content.writestr("x", b"abcdef" * 1000)
    files.check_zip(tmp_path / "a.zip")
    damaged = (tmp_path / "a.zip").read_bytes().replace(b"abcdef", b"abcdeg", 1)
    (tmp_path / "a.zip").write_bytes(damaged)
    with pytest.raises(zipfile.BadZipFile):
        files.check_zip(tmp_path / "a.zip")


def test_digest_is_size_and_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    expect = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert files.digest(tmp_path / "a") == {"bytes": 3, "sha256": expect}


def test_a_listing_has_a_line_per_file_and_one_for_a_large_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.csv", ".lock", "few/b.png", "many/c.jpg", "many/d.jpg", "many/deep/e.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(500_000))
    assert files.listing(tmp_path, most=2).splitlines() == [
        "    0.500 MB  a.csv",
        "    0.500 MB  few/b.png",
        "    1.500 MB  many/ (3 files)",
    ]
