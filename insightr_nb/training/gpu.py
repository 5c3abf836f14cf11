"""Runs a command on a graphics card that no other such command uses: python -m insightr_nb.training.gpu COMMAND ...

For local jobs side by side, say of Snakemake, which hands out no cards. A lock file in the temporary folder says
who has a card; a command waits for a free one. Without cards, or with CUDA_VISIBLE_DEVICES set (SLURM), it just runs,
in the place of this process, so that PyTorch's half a gigabyte is not there twice.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from filelock import FileLock, Timeout


def main(command: list[str]) -> int:
    """The exit code of the command; does not return where there are no cards to hand out."""
    cards = torch.cuda.device_count()
    if not cards or "CUDA_VISIBLE_DEVICES" in os.environ:
        os.execvp(command[0], command)
    while True:
        for card in range(cards):
            lock = FileLock(Path(tempfile.gettempdir()) / f"insightr_nb-card{card}.lock")
            try:
                with lock.acquire(timeout=0):
                    environment = os.environ | {"CUDA_VISIBLE_DEVICES": str(card)}
                    return subprocess.run(command, check=False, env=environment).returncode
            except Timeout:
                continue
        time.sleep(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
