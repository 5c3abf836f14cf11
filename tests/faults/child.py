"""Trains and evaluates one run of preset `smoke` in a process of its own that kills itself at a named point.

python child.py [point]: every point is a function of the package and the call of it at which `kill -9` comes.
"""

import os
import signal
import sys
from pathlib import Path

from insightr_nb import files
from insightr_nb.analysis import evaluation
from insightr_nb.model import losses
from insightr_nb.runs import Run
from insightr_nb.settings import RunSettings
from insightr_nb.training import checkpoint, projection, trainer


def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)


def at(owner, name: str, call: int = 1, only=lambda *args: True) -> None:
    """Kill this process at the n-th call of owner.name whose arguments `only` accepts, before it does anything."""
    original, calls = getattr(owner, name), []

    def counted(*args, **kwargs):
        calls.extend([1] * bool(only(*args)))
        if len(calls) == call and only(*args):
            die()
        return original(*args, **kwargs)

    setattr(owner, name, counted)


def in_loop(module, number: int) -> None:
    """Kill this process when the loop over the batches in this module reaches the n-th."""
    original = module.batches

    def counted(*args):
        for n, batch in enumerate(original(*args), start=1):
            if n == number:
                die()
            yield batch

    module.batches = counted


def to(name: str):
    """Whether a file goes to its place under this name."""
    return lambda source, target: Path(target).name == name


POINTS = {
    "in the first epoch": lambda: at(losses, "total_loss", 2),
    "in the second joint epoch": lambda: at(losses, "total_loss", 26),
    "before the state is saved": lambda: at(checkpoint, "save_state", 3),
    "between the state's bytes and its name": lambda: at(files.os, "replace", 4, to("last.ckpt")),
    "between state and history": lambda: at(files.os, "replace", 2, to("history.csv")),
    "between the last state and its history": lambda: at(files.os, "replace", 6, to("history.csv")),
    "in the projection": lambda: in_loop(projection, 2),
    "between the projection and its saving": lambda: at(trainer._Trainer, "_save", 4),
    "before the prototypes are written": lambda: at(files.os, "replace", 1, to("prototypes.csv")),
    "between the model and its record": lambda: at(Run, "record", 1),
    "before the state is removed": lambda: at(Path, "unlink", 1, lambda path, *a, **k: path.name == "last.ckpt"),
    "in the evaluation": lambda: in_loop(evaluation, 2),
    "between two files of the evaluation": lambda: at(files.os, "replace", 1, to("distances.npy")),
    "before the run is called finished": lambda: at(Run, "record", 2),
}


if __name__ == "__main__":
    settings = RunSettings.from_parameters(preset="smoke")
    if len(sys.argv) > 1:
        POINTS[sys.argv[1]]()
    print("ready", flush=True)
    evaluation.evaluate(trainer.train(settings), settings)
    print("done", flush=True)
