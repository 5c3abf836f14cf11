"""Equal versions in all lists of dependencies, and the system libraries of OpenCV."""

import re
import subprocess
import sys
import tomllib

from places import ROOT


def _pins(lines) -> dict[str, str]:
    found = (re.match(r"^[\s\"'-]*([A-Za-z0-9_.-]+)==([^\s;\"',]+)", line) for line in lines)
    return {m[1].lower().replace("_", "-"): m[2] for m in found if m}


def test_environment_yml_pyproject_and_lock_have_the_same_versions():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = _pins(project["dependencies"])
    assert len(direct) == len(project["dependencies"]), "every direct dependency has an exact version"
    fixed = {
        "jupyterlab",
        "papermill",
        "torch",
        "torchvision",
        "ipywidgets",
        "matplotlib",
        "seaborn",
        "scikit-learn",
        "pandas",
        "opencv-python",
    }
    assert fixed <= direct.keys()
    assert _pins((ROOT / "environment.yml").read_text().splitlines()) == direct
    lock = _pins((ROOT / "requirements.lock").read_text().splitlines())
    development = _pins(project["optional-dependencies"]["dev"])
    assert {name: lock.get(name) for name in direct | development} == direct | development


def test_opencv_finds_its_system_libraries():
    """`make` says which packages to install when it does not."""
    done = subprocess.run([sys.executable, "-c", "import cv2; print(cv2.__version__)"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_importing_the_package_needs_no_torch():
    """Preparation starts processes; they should not each load torch."""
    code = "import sys, insightr_nb.data.prepare; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
