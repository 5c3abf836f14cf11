"""Run a command on an otherwise unused GPU: python -m insightr_nb.training.gpu COMMAND ...

For parallel local jobs, for example of Snakemake, which does not assign GPUs. Lock files in the temporary folder mark
the GPUs in use; a command waits until one is free. If CUDA_VISIBLE_DEVICES lists several GPUs, only those are assigned.
Without a GPU, or with a single one listed (as by SLURM), the command replaces this process (exec), so that PyTorch's
half a gigabyte is not held twice.

INSIGHTR_JOBS_PER_CARD is the number of commands that share a GPU, by default 1.
"""

import contextlib
import getpass
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from insightr_nb.errors import SettingsError


def visible_cards() -> list[str]:
    """Names of the GPUs that CUDA shows this process: indices, or UUIDs as listed in CUDA_VISIBLE_DEVICES.

    Like CUDA, ignores the list from its first negative or empty entry on, and the whole list if it repeats an entry.
    """
    count = torch.cuda.device_count()
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return [str(card) for card in range(count)]
    names: list[str] = []
    for name in (word.strip() for word in listed.split(",")):
        if not name or name.startswith("-"):
            break
        names.append(name)
    if len(set(names)) < len(names):
        return []
    # A process sees at most one MIG instance, however many are listed. Of other lists, CUDA drops unknown GPUs.
    return names if count and names[:1] and names[0].startswith("MIG-") else names[:count]


def jobs_per_card() -> int:
    """Number of commands that share a GPU, from $INSIGHTR_JOBS_PER_CARD. Raises SettingsError if it is below 1."""
    given = os.environ.get("INSIGHTR_JOBS_PER_CARD") or "1"
    if not given.isdecimal() or int(given) < 1:
        raise SettingsError(f"INSIGHTR_JOBS_PER_CARD = {given!r}: must be a whole number, 1 or more")
    return int(given)


def capacity() -> int:
    """Number of commands that run at once: visible GPUs times jobs per GPU; 0 without a GPU."""
    return len(visible_cards()) * jobs_per_card()


def main(command: list[str]) -> int:
    """Run the command and return its exit code; does not return if there is nothing to assign (see the module).

    Raises SettingsError if $INSIGHTR_JOBS_PER_CARD is invalid.
    """
    cards, jobs = visible_cards(), jobs_per_card()
    if not cards or (len(cards) == 1 and "CUDA_VISIBLE_DEVICES" in os.environ):
        os.execvp(command[0], command)
    with _free_card(cards, jobs) as card:
        return subprocess.run(command, check=False, env=os.environ | {"CUDA_VISIBLE_DEVICES": card}).returncode


@contextlib.contextmanager
def _free_card(cards: list[str], jobs: int) -> Iterator[str]:
    """Wait for a GPU with fewer than `jobs` commands and hold one of its locks.

    If no lock file can be created, prints why and yields a GPU without a lock: a shared GPU is slow, but works.
    """
    # The first slot of every GPU comes before the second of any, so that few commands spread over the GPUs.
    paths = {_lock_path(card, slot): card for slot in range(jobs) for card in cards}
    while True:
        refusals: list[OSError] = []
        for path, card in paths.items():
            lock = FileLock(path)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            except OSError as error:
                refusals.append(error)
                continue
            try:
                yield card
            finally:
                lock.release()
            return
        if len(refusals) == len(paths):
            card = cards[os.getpid() % len(cards)]
            print(
                f"{path} cannot be created: {refusals[-1].strerror or refusals[-1]}. Running on GPU {card} without a "
                "lock, perhaps beside other jobs; set TMPDIR to a folder that can be written",
                file=sys.stderr,
                flush=True,
            )
            yield card
            return
        time.sleep(1)


def _lock_path(card: str, slot: int) -> Path:
    """Lock file of one slot of a GPU, by user: another user's file could not be opened.

    The name is the GPU's own, not its place in a list, so that jobs with overlapping lists exclude each other.
    """
    user = getattr(os, "getuid", getpass.getuser)()
    name = re.sub(r"[^\w.-]", "_", f"insightr_nb-{user}-card-{card}-{slot}.lock")
    return Path(tempfile.gettempdir()) / name


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except SettingsError as problem:
        sys.exit(str(problem))
