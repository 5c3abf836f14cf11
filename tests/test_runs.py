"""Runs: folder, manifest, state, command that makes them, and the baseline to compare with."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from insightr_nb import files, runs
from insightr_nb.errors import RunError
from insightr_nb.runs import Run
from insightr_nb.settings import RunSettings


def test_the_folder_of_a_run_follows_from_its_settings(outputs):
    plain = RunSettings.from_parameters(fold=2)
    assert runs.run_directory(plain) == outputs / "runs/synthetic/demo/categorical/insightr/fold2"
    tagged = RunSettings.from_parameters(
        dataset="csv", name="eyes", seed=1, tag="s1", labels="continuous", variant="baseline"
    )
    assert runs.run_directory(tagged) == outputs / "runs/eyes/demo/continuous/baseline/fold0-s1"


def test_damaged_and_missing_files_are_named(tmp_path):
    (tmp_path / "metrics.json").write_text('{"mae": 0.')
    with pytest.raises(RunError, match=r"metrics\.json is damaged"):
        _ = Run(tmp_path).metrics
    with pytest.raises(RunError, match=r"manifest\.json is missing"):
        _ = Run(tmp_path).manifest


def test_the_states_of_a_run(trial_run, tmp_path):
    run = trial_run
    assert run.state == "running"
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    mine = run.manifest
    run.update(pid=int(ended.stdout))
    assert run.state == "interrupted"
    run.update(pid=mine["pid"], process_started=mine["process_started"] - 100)  # another process got the number
    assert run.state == "interrupted"
    assert Run(tmp_path).state == "missing"


def test_working_records_an_error_and_raises_it(trial_run):
    run = trial_run
    with pytest.raises(ValueError, match="boom"), run.working():
        raise ValueError("boom")
    assert run.state == "failed"
    message = "failed: ValueError: boom.*-p fold 3 -p tag trial -p overrides '{.losses.k.: 1}'"
    with pytest.raises(RunError, match=message):
        run.require_finished()


HERE = {"device": "cpu", "processor": "Xeon", "threads": 2, "bfloat16": False}
ELSEWHERE = HERE | {"device": "NVIDIA H100", "bfloat16": True}


def test_every_session_is_recorded_and_other_hardware_is_warned_of(trial_run):
    run, given = trial_run, (RunSettings.from_parameters(fold=3, tag="trial"), {"store": "a"})
    run.start(*given, HERE, resumed=False)
    begun = run.manifest["started"]
    (run / "last.ckpt").touch()
    run.start(*given, HERE, resumed=True)  # no warning, which would be an error here
    with pytest.warns(UserWarning, match="resumes on other hardware") as caught:
        run.start(*given, ELSEWHERE, resumed=True)
    assert str(caught[0].message) == (
        f"{files.display_path(run.path)} resumes on other hardware: device was 'cpu', is now 'NVIDIA H100'; bfloat16 "
        "was False, is now True. Its results will differ in rounding from those of an uninterrupted run"
    )
    manifest = run.manifest
    assert [session["hardware"] for session in manifest["sessions"]] == [HERE, HERE, ELSEWHERE]
    assert manifest["sessions"][0]["started"] == manifest["started"] == begun
    assert manifest["hardware"] == ELSEWHERE
    run.start(*given, HERE, resumed=False)
    assert [session["hardware"] for session in run.manifest["sessions"]] == [HERE]


def test_the_hardware_of_the_session_that_saved_an_epoch_is_compared(trial_run):
    """A session that was killed before its first epoch does not count."""
    run, given = trial_run, (RunSettings.from_parameters(fold=3, tag="trial"), {"store": "a"})
    run.start(*given, HERE, resumed=False)
    (run / "last.ckpt").touch()
    before = run.manifest["sessions"][:1]
    later = {"started": "2999-01-01T00:00:00+00:00", "hardware": ELSEWHERE}
    run.update(sessions=[*before, later])
    run.start(*given, HERE, resumed=True)  # no warning
    run.update(sessions=[*before, later])
    with pytest.warns(UserWarning, match="resumes on other hardware"):
        run.start(*given, ELSEWHERE, resumed=True)


def test_without_a_trained_epoch_other_hardware_changes_nothing(trial_run):
    given = (RunSettings.from_parameters(fold=3, tag="trial"), {"store": "a"})
    trial_run.start(*given, HERE, resumed=False)
    trial_run.start(*given, ELSEWHERE, resumed=True)
    assert len(trial_run.manifest["sessions"]) == 2


def test_a_run_of_an_older_version_resumes_with_its_hardware_as_the_first_session(trial_run):
    old = {name: value for name, value in trial_run.manifest.items() if name != "sessions"} | {"hardware": HERE}
    files.write_json(trial_run / "manifest.json", old)
    (trial_run / "last.ckpt").touch()
    with pytest.warns(UserWarning, match="device was 'cpu', is now 'NVIDIA H100'"):
        trial_run.start(RunSettings.from_parameters(fold=3), {"store": "a"}, ELSEWHERE, resumed=True)
    first, second = trial_run.manifest["sessions"]
    assert first == {"started": old["started"], "hardware": HERE}
    assert second["hardware"] == ELSEWHERE


def test_the_command_names_the_data_set():
    run = Run(files.outputs_root() / "runs/eyes/demo/categorical/baseline/fold0")
    assert run.command() == (
        "papermill notebooks/03_train.ipynb out.ipynb -p dataset csv -p name eyes -p variant baseline -p fold 0"
    )


def test_the_command_for_a_data_set_of_the_catalogue_and_for_a_store_by_another_name(tmp_path, monkeypatch):
    monkeypatch.setenv("INSIGHTR_OUTPUTS", str(tmp_path))
    folder = "demo/categorical/insightr/fold1"
    assert Run(tmp_path / "runs/idrid" / folder).command().endswith("out.ipynb -p dataset idrid -p fold 1")
    files.write_json(tmp_path / "data/clinic-256/meta.json", {"settings": {"dataset": "eyepacs"}})
    assert Run(tmp_path / "runs/clinic" / folder).command().endswith("-p dataset eyepacs -p name clinic -p fold 1")


@pytest.mark.parametrize(("tag", "option"), [("1e5", "-r"), ("2024_01_15", "-r"), ("None", "-r"), ("trial-2", "-p")])
def test_the_command_hands_over_a_tag_that_looks_like_a_number_as_text(tmp_path, tag, option):
    run = Run(tmp_path / f"synthetic/demo/categorical/insightr/fold0-{tag}")
    assert run.command().endswith(f"-p fold 0 {option} tag {tag}")


def test_an_edited_run_has_no_command_and_only_edited_folds(trial_run):
    other = Run(trial_run.path.with_name("fold2-trial"))
    for run in (trial_run, other):
        files.write_json(run / "metrics.json", {})
        files.write_json(run / "manifest.json", trial_run.manifest | {"state": "finished"})
    assert trial_run.edited is None
    assert trial_run.folds() == [other, trial_run]
    trial_run.update(edited={"from": "outputs/runs/synthetic/demo/categorical/insightr/fold3"})
    assert trial_run.folds() == [trial_run]
    assert other.folds() == [other]
    how = "editing outputs/runs/synthetic/demo/categorical/insightr/fold3 and saving it with tag 'trial'"
    assert trial_run.command() == f"{how} (docs/run_files.md)"
    assert trial_run.remedy("Create") == f"Create it by {how} (docs/run_files.md)"
    with pytest.raises(RunError, match=f"Recreate it by {how} .*, after deleting this folder$"):
        trial_run.require_whole()
    settings = RunSettings.from_parameters(fold=3, overrides={"losses.k": 1}, tag="trial")
    with pytest.raises(RunError, match="fold3-trial was made by editing outputs/.*fold3, not by training"):
        runs.check_same(trial_run, settings.as_dict(), {"store": "a"})
    assert other.remedy("Recreate", overwrite=True).endswith("-p overwrite True")


def test_arrays_are_read_memory_mapped(tmp_path):
    files.write_array(tmp_path / "weights.npy", np.arange(6, dtype=np.float32).reshape(2, 3))
    array = Run(tmp_path).array("weights.npy")
    assert isinstance(array, np.memmap)
    assert array.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_run_on_another_host_is_running_while_its_folder_is_held(trial_run):
    run = trial_run
    run.update(host="elsewhere", pid=1)
    with files.exclusive_lock(run.path):
        child = (
            "from pathlib import Path; import sys; from insightr_nb.runs import Run; "
            "print(Run(Path(sys.argv[1])).state)"
        )
        asked = subprocess.run([sys.executable, "-c", child, str(run.path)], capture_output=True, text=True, check=True)
        assert asked.stdout.strip() == "running"
    assert run.state == "interrupted"


@pytest.mark.parametrize("path", ["fold0", "/tmp/fold0", "a/b/c/d/fold0", "/"])
def test_what_is_no_runs_folder_is_said_plainly(path):
    with pytest.raises(RunError, match=r"is missing\. Create it with: papermill notebooks/03_train\.ipynb out\.ipynb$"):
        Run(Path(path)).require_finished()
