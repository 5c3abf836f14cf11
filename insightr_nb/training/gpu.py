"""Run a command on an otherwise unused GPU: python -m insightr_nb.training.gpu COMMAND ...

For parallel local jobs, for example of Snakemake, which does not assign GPUs. A lock file in the temporary directory
marks each GPU in use; a command waits until one is free. Without a GPU, or with CUDA_VISIBLE_DEVICES set (SLURM), the
command replaces this process (exec), so that PyTorch's half a gigabyte is not held twice.
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
    """Run the command and return its exit code; does not return if there are no GPUs to assign."""
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
