"""The graph of notebook runs: its jobs, and resuming after `kill -9`."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from places import ROOT

from insightr_nb.data.prepare import prepare
from insightr_nb.settings import DataSettings

PROFILE = ["--profile", "profiles/local"]
SMALL = ["--config", "preset=smoke", "folds=1", "variants=baseline", "continuous=none"]


def snakemake(outputs: Path, *words: str, **more) -> subprocess.Popen:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"INSIGHTR_OUTPUTS": str(outputs), "PATH": path, "XDG_CACHE_HOME": f"{outputs}/cache"}
    return subprocess.Popen(
        [sys.executable, "-m", "snakemake", *PROFILE, *words],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **more,
    )


def jobs(text: str) -> dict[str, int]:
    """The table of jobs that a dry run ends with."""
    return {name: int(count) for name, count in re.findall(r"^([a-z_]+) +(\d+)$", text, re.MULTILINE)}


@pytest.mark.parametrize(
    ("words", "expect"),
    [
        ([], {"prepare": 1, "backbone": 10, "train": 45, "tables": 1, "ablations": 1, "all": 1}),
        (
            ["sweeps", "--config", "sweep=epsilon:1e-5,1e-3", "sweep_folds=1"],
            {"prepare": 1, "backbone": 1, "sweep": 2, "curves": 1, "sweeps": 1},
        ),
        (  # weight 0 of the cluster loss is the variant no_cluster, 0.3 that of the preset; two more seeds on two folds
            ["sweeps"],
            {"prepare": 1, "backbone": 3, "seeded_backbone": 4, "train": 10, "sweep": 36, "curves": 1, "sweeps": 1},
        ),
        (
            ["sweeps", "--config", "sweep=epsilon:1e-5", "sweep_folds=1", "seeds=1", "seed_folds=1"],
            {"prepare": 1, "backbone": 1, "seeded_backbone": 1, "sweep": 4, "curves": 1, "sweeps": 1},
        ),
        (
            ["sweeps", "--config", "sweep=none", "seeds=1", "seed_folds=1"],
            {"prepare": 1, "seeded_backbone": 1, "sweep": 3, "curves": 1, "sweeps": 1},
        ),
        (
            ["sweeps", "--config", "sweep=locality:layer1 k:2,3", "sweep_folds=1"],  # k = 3 and layer2 are the preset's
            {"prepare": 1, "backbone": 1, "train": 1, "sweep": 2, "curves": 1, "sweeps": 1},
        ),
        (
            ["--config", "preset=smoke"],
            {"prepare": 1, "backbone": 6, "train": 27, "tables": 1, "ablations": 1, "all": 1},
        ),
        (SMALL, {"prepare": 1, "backbone": 1, "train": 1, "tables": 1, "ablations": 1, "all": 1}),
        (["trust"], {"prepare": 1, "backbone": 5, "train": 10, "measure_trust": 5, "trust": 1}),
    ],
    ids=["tables", "another sweep", "sweeps", "a sweep and seeds", "seeds", "two sweeps", "smoke", "one run", "trust"],
)
def test_what_it_makes(tmp_path, words, expect):
    text = snakemake(tmp_path, "--dry-run", *words).communicate()[0]
    assert {k: v for k, v in jobs(text).items() if k != "total"} == expect, text[-2000:]


@pytest.mark.parametrize(("given", "threads"), [("threads=1", set()), ("threads=4", {"4"})])
def test_the_threads_of_a_training_are_those_of_its_job(tmp_path, given, threads):
    """Snakemake names a job's threads where it is not one, and gives every job the environment for as many."""
    text = snakemake(tmp_path, "--dry-run", "--cores", "8", *SMALL, given).communicate()[0]
    assert set(re.findall(r"^ +threads: (\d+)$", text, re.MULTILINE)) == threads, text[-2000:]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("variants=insight", "variant = 'insight': did you mean 'insightr'"),
        ("varients=insightr", "--config varients: did you mean 'variants'"),
        ("folds=5", "fold = 4: must be from 0 to 2"),
        ("sweep=foo:1,2", "sweep over 'foo': .*Known: prototypes"),
    ],
)
def test_what_is_unknown_is_named(tmp_path, given, message):
    process = snakemake(tmp_path, "--dry-run", "--config", "preset=smoke", given)
    text = process.communicate()[0]
    assert process.returncode != 0
    assert re.search(message, text), text[-2000:]


def test_a_name_and_a_folder_stay_as_they_are_written(tmp_path):
    """Snakemake takes them for the numbers 20240115 and 7."""
    given = ["dataset=csv", "name=2024_01_15", "data_folder=007", "preset=smoke", "folds=1"]
    text = snakemake(tmp_path, "--dry-run", "--printshellcmds", "prepare", "--config", *given).communicate()[0]
    assert f"output: {tmp_path}/data/2024_01_15-64/meta.json" in text, text[-2000:]
    assert "-r name 2024_01_15 -r data_folder 007" in text


def test_a_given_folder_is_compared_with_a_store_that_is_there(tmp_path, monkeypatch):
    """The store is not prepared again, so nothing else would say that the folder is another."""
    folder, outputs = tmp_path / "raw", tmp_path / "outputs"
    folder.mkdir()
    for i in range(20):
        (folder / f"{i:02d}.png").write_bytes(cv2.imencode(".png", np.full((32, 32, 3), 9 * i, np.uint8))[1].tobytes())
    table = "image,label\n" + "".join(f"{i:02d}.png,{i % 2}\n" for i in range(20))
    (folder / "labels.csv").write_text(table)
    monkeypatch.setenv("INSIGHTR_OUTPUTS", str(outputs))
    prepare(DataSettings(dataset="csv", name="mine", folder=str(folder), size=64, preparation="resize"), workers=1)
    (folder / "labels.csv").write_text(table.replace("04.png,0", "04.png,1"))
    process = snakemake(outputs, "--dry-run", *SMALL, "dataset=csv", "name=mine", f"data_folder={folder}")
    text = process.communicate()[0]
    assert process.returncode != 0
    assert "1 image with a different label (04: 1, was 0)" in text, text[-2000:]


def test_the_lines_for_gpus_in_the_slurm_profile_give_every_training_cores_and_memory():
    text = (ROOT / "profiles/slurm/config.yaml").read_text(encoding="utf-8")
    head, _, tail = text.partition("# set-resources:")
    uncommented = head + re.sub("^# ", "", "# set-resources:" + tail, flags=re.MULTILINE)
    plain, with_gpus = yaml.safe_load(text), yaml.safe_load(uncommented)
    rules = re.split(r"^rule (\w+):", (ROOT / "Snakefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    trainings = {name for name, body in zip(rules[1::2], rules[2::2], strict=True) if "03_train.ipynb" in body}
    assert plain.keys() == with_gpus.keys() - {"set-resources"}
    assert plain["set-threads"].keys() == with_gpus["set-resources"].keys() == trainings
    for resources in with_gpus["set-resources"].values():
        assert resources["gpu"] == 1
        assert 6 <= resources["cpus_per_task"] <= 8
        assert 24_000 <= resources["mem_mb"] <= 32_000


def test_after_a_kill_the_same_command_finishes_what_is_missing(tmp_path):
    """Killed, with all its children, in the training of the backbone; then it finishes; then there is nothing to do."""
    tmp_path = tmp_path / "a space, and an editor's"  # in a path that a shell must not take apart
    tmp_path.mkdir()
    process = snakemake(tmp_path, *SMALL, start_new_session=True)
    run = tmp_path / "runs/synthetic/smoke/categorical"
    until = time.monotonic() + 120
    while not (run / "backbone/fold0/last.ckpt").exists() and time.monotonic() < until:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (run / "backbone/fold0/metrics.json").exists()
    begun = (tmp_path / "data/synthetic-64/meta.json").stat().st_mtime_ns

    process = snakemake(tmp_path, *SMALL)
    text = process.communicate()[0]
    assert process.returncode == 0, text[-3000:]
    assert "rule prepare:" not in text
    assert (tmp_path / "data/synthetic-64/meta.json").stat().st_mtime_ns == begun
    table = (tmp_path / "tables/synthetic/smoke/table1.md").read_text()
    assert re.search(r"ResNet-18 baseline +\| \d\.\d{3} ", table)
    assert "open: runs are missing" in (tmp_path / "tables/synthetic/smoke/findings.md").read_text()

    text = snakemake(tmp_path, *SMALL).communicate()[0]
    assert "Nothing to be done" in text
