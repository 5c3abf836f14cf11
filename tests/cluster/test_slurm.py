"""The profile `slurm` on a one-node SLURM on loopback, with everything of its own in a temporary folder.

`make test-cluster` installs Debian's slurm-wlm and munge where it can. Two folds of preset smoke; one job and its
retry are ended by scancel, and the same command finishes it.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from places import ROOT

pytestmark = pytest.mark.cluster
SMALL = ["--config", "preset=smoke", "folds=2", "variants=baseline", "continuous=none"]

CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
MpiDefault=none
ReturnToService=2
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=16000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The environment of a running cluster of one node."""
    for program in ("munged", "slurmctld", "slurmd", "sinfo"):
        if not (shutil.which(program) or Path(f"/usr/sbin/{program}").exists()):
            pytest.fail(f"{program} is not here: apt-get install slurm-wlm munge")
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host = socket.gethostname().split(".")[0]
    (folder / "slurm.conf").write_text(CONF.format(host=host, folder=folder, cores=os.cpu_count()))
    usual = Path("/etc/slurm/slurm.conf")  # where srun looks within a job, which does not get SLURM_CONF
    if usual.exists():
        pytest.fail(f"{usual} is there: this test would take a real cluster's place")
    usual.parent.mkdir(parents=True, exist_ok=True)
    usual.symlink_to(folder / "slurm.conf")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"])
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}
    Path("/run/munge").mkdir(exist_ok=True)
    if subprocess.run(["pgrep", "-x", "munged"], capture_output=True).returncode:
        subprocess.run(["munged", "--force"], env=environment, check=True)
    for daemon in ("slurmctld", "slurmd"):
        subprocess.run([daemon, "-f", folder / "slurm.conf"], env=environment, check=True)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if "idle" in subprocess.run(["sinfo", "-h"], env=environment, capture_output=True, text=True).stdout:
            break
        time.sleep(0.5)
    else:
        logs = "".join((folder / f"{d}.log").read_text()[-1500:] for d in ("slurmctld", "slurmd"))
        pytest.fail(f"the node is not idle after 60 s: {logs}")
    yield environment
    for daemon in ("slurmd", "slurmctld"):  # by their own ids
        os.kill(int((folder / f"{daemon}.pid").read_text()), signal.SIGTERM)
    usual.unlink()


def snakemake(slurm: dict, outputs: Path, *words: str) -> subprocess.Popen:
    environment = slurm | {"INSIGHTR_OUTPUTS": str(outputs), "XDG_CACHE_HOME": str(outputs / "cache")}
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--profile",
        "profiles/slurm",
        "--nolock",
        "--latency-wait",
        "10",
        "--slurm-status-command",
        "squeue",
        "--slurm-init-seconds-before-status-checks",
        "5",
        "--slurm-logdir",
        str(outputs / "slurm"),
        *words,
    ]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def test_two_folds_with_one_job_ended_by_scancel(slurm, tmp_path):
    process = snakemake(slurm, tmp_path, *SMALL)
    runs = tmp_path / "runs/synthetic/smoke/categorical"
    until = time.monotonic() + 300
    while not list(runs.glob("backbone/fold1/last.ckpt")) and time.monotonic() < until:
        assert process.poll() is None, process.communicate()[0][-3000:]
        time.sleep(0.2)
    ended: set[str] = set()
    while len(ended) < 2 and time.monotonic() < until:  # the job and its automatic retry
        assert process.poll() is None, process.communicate()[0][-3000:]
        queue = subprocess.run(["squeue", "-h", "-o", "%A %k"], env=slurm, capture_output=True, text=True).stdout
        for job in set(re.findall(r"^(\d+) .*backbone.*_1$", queue, re.MULTILINE)) - ended:
            subprocess.run(["scancel", job], env=slurm, check=True)
            ended.add(job)
        time.sleep(0.2)
    assert len(ended) == 2
    text = process.communicate(timeout=900)[0]
    assert process.returncode != 0, text[-3000:]
    assert not (runs / "backbone/fold1/metrics.json").exists()
    assert (runs / "baseline/fold0/metrics.json").exists(), text[-3000:]

    process = snakemake(slurm, tmp_path, *SMALL)
    text = process.communicate(timeout=900)[0]
    assert process.returncode == 0, text[-3000:]
    assert (tmp_path / "tables/synthetic/smoke/table1.md").exists()
    assert (runs / "baseline/fold1/metrics.json").exists()
    manifest = json.loads((runs / "baseline/fold1/manifest.json").read_text())
    assert manifest["hardware"]["threads"] == 2  # as the profile asks for; Snakemake's own default is one
