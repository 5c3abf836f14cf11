"""The exceptions: one base class to catch them all, and the built-in class that fits."""

import inspect

import pytest

from insightr_nb import errors

KINDS = {"SettingsError": ValueError, "DataError": ValueError, "ModelError": ValueError, "RunError": RuntimeError}


def test_there_are_no_others():
    found = {name for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)}
    assert found == {*KINDS, "InsightrError"}


@pytest.mark.parametrize(("name", "builtin"), KINDS.items())
def test_each_can_be_caught_as_the_packages_and_as_a_builtin(name, builtin):
    kind = getattr(errors, name)
    for caught in (errors.InsightrError, builtin):
        with pytest.raises(caught):
            raise kind("text")
    assert not any(issubclass(kind, getattr(errors, other)) for other in KINDS if other != name)
