"""Verification of runs, and their export to and import from a zip: verify, export, load."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from insightr_nb import archive, files
from insightr_nb.analysis.evaluation import evaluate
from insightr_nb.analysis.explanation import explain
from insightr_nb.analysis.loaded_run import load_run
from insightr_nb.data import display
from insightr_nb.errors import DataError, RunError
from insightr_nb.explorer.app import finished_runs
from insightr_nb.explorer.exploration import Exploration
from insightr_nb.training.trainer import train


def flip(path: Path, at: float = 0.5) -> None:
    """Flip one bit in the middle of the file; its size stays."""
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_verify_accepts_a_finished_run(smoke_run):
    assert archive.verify(smoke_run.path) == []
    assert archive.verify(smoke_run) == []
    recorded = smoke_run.manifest["files"]
    assert recorded.keys() == {p.name for p in smoke_run.path.iterdir() if p.is_file()} - {"manifest.json"}


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink], ids=["flipped", "truncated", "missing"])
@pytest.mark.parametrize("name", ["model.safetensors", "metrics.json", "distances.npy", "prototypes.csv"])
def test_a_damaged_file_is_named_and_never_used(copied, name, damage):
    damage(copied / name)
    assert [p for p in archive.verify(copied) if p.startswith(name)]
    for use in (load_run, lambda run: archive.export(run, run.root / "out.zip")):
        with pytest.raises(RunError, match=rf"is damaged: {name}.*overwrite True"):
            use(copied)
    assert not (copied.root / "out.zip").exists()


@pytest.mark.parametrize("damage", [flip, cut])
def test_a_damaged_model_is_not_evaluated_and_a_damaged_backbone_not_trained_from(copied, smoke_settings, damage):
    copied.update(state="running")
    damage(copied / "model.safetensors")
    with pytest.raises(RunError, match=r"damaged: model\.safetensors"):
        evaluate(copied, smoke_settings)
    with pytest.raises(RunError, match=r"damaged: model\.safetensors"):
        train(smoke_settings)
    shutil.rmtree(copied.path)
    damage(copied.root / "runs/synthetic/smoke/categorical/backbone/fold0/model.safetensors")
    with pytest.raises(RunError, match=r"backbone/fold0 is damaged: model\.safetensors.*-p variant backbone"):
        train(smoke_settings)


def test_a_damaged_image_is_named_and_not_trained_on(copied, smoke_settings):
    flip(copied.root / "data/synthetic-64/images.npy")
    assert "images.npy is damaged: image 'p" in archive.verify(copied)[0]
    shutil.rmtree(copied.path)
    with pytest.raises(DataError, match=r"images\.npy is damaged: image 'p\d+_(left|right)'"):
        train(smoke_settings)


def test_a_changed_label_is_noticed(copied, smoke_settings):
    table = copied.root / "data/synthetic-64/table.csv"
    table.write_text(table.read_text().replace(",0,train,", ",4,train,", 1))
    assert "table.csv has changed since it was written" in archive.verify(copied)[0]
    shutil.rmtree(copied.path)
    with pytest.raises(DataError, match=r"table\.csv has changed since it was written.*overwrite=True"):
        train(smoke_settings)


def test_what_the_current_settings_data_and_split_differ_in_is_named(copied):
    manifest = copied.manifest
    manifest["settings"]["losses"]["k"] = 9
    manifest["data"] |= {"split": "other"}
    files.write_json(copied / "manifest.json", manifest)
    assert archive.verify(copied) == [
        "losses.k was 9, is now 3",
        f"fingerprint.split was 'other', is now {_split()!r}",
    ]
    manifest["overrides"], manifest["settings"]["tag"] = {"losses.k": 9}, "k9"  # then it is what was asked for
    files.write_json(copied / "manifest.json", manifest | {"data": manifest["data"] | {"split": _split()}})
    assert archive.verify(copied) == []


def _split() -> str:
    from insightr_nb.data.folds import fold_data
    from insightr_nb.settings import RunSettings

    return fold_data(RunSettings.from_parameters(preset="smoke")).split.fingerprint


def test_verify_and_export_refuse_an_unfinished_run(copied, tmp_path):
    copied.update(state="failed", error="x")
    assert archive.verify(copied) == ["the run is failed"]
    assert archive.verify(tmp_path / "a/b/c/d/e/f") == ["the run is missing"]
    with pytest.raises(RunError, match="has failed: x"):
        archive.export(copied, tmp_path / "run.zip")


# -- the zip ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def zipped(copied, tmp_path) -> Path:
    return archive.export(copied, tmp_path / "colleague.zip", test_images=12)


def test_loaded_run_is_intact_and_explains_images(zipped, smoke_run, tmp_path, monkeypatch):
    monkeypatch.setenv("INSIGHTR_OUTPUTS", str(tmp_path / "elsewhere"))
    run = archive.load(zipped)
    assert run.path.is_relative_to(tmp_path / "elsewhere/imported/colleague")
    assert archive.verify(run) == []
    assert run.manifest["files"] == smoke_run.manifest["files"]
    assert [r.path for r in finished_runs()[0]] == [run.path]
    loaded = load_run(run)
    sources = set(run.table("prototypes.csv")["image_id"])
    tested = set(run.table("predictions.csv")["image_id"]) & set(loaded.store.table["image_id"])
    assert len(tested) == 12
    assert sources <= set(loaded.store.table["image_id"])
    name = sorted(tested)[0]
    here, there = explain(loaded, name), explain(smoke_run, name)
    np.testing.assert_array_equal(here.weights, there.weights)
    exploration = Exploration(loaded)
    assert len(exploration.order("error")) == 12
    assert set(exploration.nearest_patches(0)["image_id"]) <= tested
    assert archive.load(zipped) == run  # found, not unpacked again


def test_zip_contains_images_at_display_size(zipped, copied, tmp_path, monkeypatch):
    monkeypatch.setenv("INSIGHTR_OUTPUTS", str(tmp_path / "elsewhere"))
    loaded = load_run(archive.load(zipped))
    monkeypatch.setattr(display, "view", lambda *_: pytest.fail("drawn anew"))
    for image_id in loaded.store.table["image_id"]:
        shown = loaded.display_image(image_id)
        assert shown.shape == (512, 512, 3)
        assert np.array_equal(shown, load_run(copied).display_image(image_id))


def test_a_zip_is_refused_when_it_is_not_whole_or_none_of_ours(zipped, tmp_path):
    for name, damage in (("cut", cut), ("flipped", flip)):
        other = shutil.copy(zipped, tmp_path / f"{name}.zip")
        damage(Path(other))
        with pytest.raises(RunError, match=f"{name}.zip"):
            archive.load(other)
        assert not (tmp_path / f"imported/{name}").exists()
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(RunError, match=r"text\.zip is not a complete zip"):
        archive.load(tmp_path / "text.zip")
    with pytest.raises(RunError, match=r"nowhere\.zip is missing"):
        archive.load(tmp_path / "nowhere.zip")


@pytest.mark.parametrize(
    "name",
    ["../evil.txt", "/tmp/evil.txt", "runs/../../evil.txt", "runs\\..\\evil.txt", "C:/evil.txt", "data//evil.txt"],
)
def test_paths_in_a_zip_cannot_leave_its_folder(zipped, tmp_path, name):
    evil = tmp_path / "evil.zip"
    with zipfile.ZipFile(zipped) as old, zipfile.ZipFile(evil, "w") as new:
        about = json.loads(old.read("contents.json"))
        about["files"][name] = {"bytes": 4, "sha256": "0" * 64}
        for entry in old.namelist():
            new.writestr(entry, json.dumps(about) if entry == "contents.json" else old.read(entry))
        new.writestr(name, "evil")
    with pytest.raises(RunError, match="lies outside the folder; nothing was unpacked"):
        archive.load(evil)
    assert not list(tmp_path.rglob("evil.txt"))


def test_a_zip_with_more_or_other_than_it_lists_is_refused(zipped, tmp_path):
    more = Path(shutil.copy(zipped, tmp_path / "more.zip"))
    with zipfile.ZipFile(more, "a") as bundle:
        bundle.writestr("runs/extra.pkl", "x")
    with pytest.raises(RunError, match=r"does not contain the files that it lists: \[\('runs/extra.pkl', 1\)\]"):
        archive.load(more)
    (tmp_path / "imported/busy").mkdir(parents=True)
    (tmp_path / "imported/busy/mine.txt").write_text("x")
    with pytest.raises(RunError, match="already contains other files"):
        archive.load(Path(shutil.copy(zipped, tmp_path / "busy.zip")))
    assert (tmp_path / "imported/busy/mine.txt").read_text() == "x"
