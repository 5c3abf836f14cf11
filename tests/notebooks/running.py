"""Notebooks run by papermill in a process of their own, as a user runs them."""

import os
import subprocess
import sys

import nbformat
from places import ROOT


def run(name: str, folder, /, **parameters) -> subprocess.CompletedProcess:
    """`papermill notebooks/<name>.ipynb out.ipynb -p ...` with everything written below `folder`."""
    options = [word for key, value in parameters.items() for word in ("-p", key, str(value))]
    command = [
        sys.executable,
        "-m",
        "papermill",
        "--no-progress-bar",
        f"notebooks/{name}.ipynb",
        f"{folder}/{name}.ipynb",
    ]
    environment = os.environ | {"INSIGHTR_OUTPUTS": str(folder)}
    return subprocess.run(command + options, cwd=ROOT, env=environment, capture_output=True, text=True)


def succeed(name: str, folder, /, **parameters) -> str:
    """Run a notebook that must succeed, and return the text that it printed."""
    done = run(name, folder, **parameters)
    assert done.returncode == 0, done.stderr[-3000:]
    cells = nbformat.read(folder / f"{name}.ipynb", as_version=4).cells
    return "".join(o.get("text", "") for c in cells if c.cell_type == "code" for o in c.outputs)
