"""The public names of the package; importing it loads no large library."""

import subprocess
import sys

import pytest

import insightr_nb


@pytest.mark.parametrize("name", insightr_nb.__all__)
def test_a_public_name_is_there(name):
    assert callable(getattr(insightr_nb, name))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'explian'"):
        insightr_nb.explian  # noqa: B018


def test_importing_the_package_imports_no_library():
    code = "import sys, insightr_nb; print([m for m in ('torch', 'numpy', 'pandas', 'cv2') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
