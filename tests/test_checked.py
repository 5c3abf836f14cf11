"""Values from papermill and YAML become the type of their field, or the error names the field."""

import dataclasses
from pathlib import Path

import pytest

from insightr_nb.checked import Checked, choice, coerce, limits, suggest
from insightr_nb.errors import SettingsError


@pytest.mark.parametrize(
    ("value", "kind", "expect"),
    [
        ("1e-5", float, 1e-5),
        (3, float, 3.0),
        ("3.0", int, 3),
        (3.0, int | None, 3),
        (None, int | None, None),
        (None, str | None, None),
        ("True", bool, True),
        ("false", bool, False),
        (False, bool | None, False),
        (Path("a/b"), str, "a/b"),
    ],
)
def test_a_value_becomes_the_type_of_its_field(value, kind, expect):
    got = coerce(value, kind, "x")
    assert (got, type(got)) == (expect, type(expect))


@pytest.mark.parametrize(
    ("value", "kind", "name"),
    [
        (True, int, "fold"),
        ("two", int, "fold"),
        ([1], float, "rate"),
        (1.5, int, "fold"),
        ("inf", float, "rate"),
        (10**400, float, "rate"),
        (None, int, "fold"),
        (1, bool, "overwrite"),
        ("yes", bool, "overwrite"),
        ("", str | None, "tag"),
        (1e5, str | None, "tag"),
        (["a"], str, "name"),
    ],
)
def test_a_value_of_another_type_is_refused_with_name_and_value(value, kind, name):
    with pytest.raises(SettingsError) as caught:
        coerce(value, kind, name)
    assert str(caught.value).startswith(f"{name} = {value!r}: must be ")


@dataclasses.dataclass(frozen=True)
class Trial(Checked):
    group = "trial."

    count: int = limits(3, 1, 5)
    rate: float | None = limits(None, low=0)
    kind: str = choice("a", "a", "b")


def test_fields_are_converted_and_their_limits_are_inclusive():
    assert Trial(count="5", rate="0") == Trial(5, 0.0, "a")
    assert Trial(count=1).rate is None


@pytest.mark.parametrize(
    ("given", "fragments"),
    [
        ({"count": 0}, ["trial.count = 0: ", "from 1 to 5"]),
        ({"count": 6}, ["trial.count = 6: ", "from 1 to 5"]),
        ({"rate": -0.1}, ["trial.rate = -0.1: ", "at least 0"]),
        ({"kind": "c"}, ["trial.kind = 'c': ", "a, b"]),
    ],
)
def test_a_field_out_of_its_limits_is_refused_with_them(given, fragments):
    with pytest.raises(SettingsError) as caught:
        Trial(**given)
    for fragment in fragments:
        assert fragment in str(caught.value)


def test_suggest_names_the_closest_and_lists_all():
    assert suggest("lr_blok", ["lr_block", "seed"]) == "did you mean 'lr_block'? Known: lr_block, seed."
    assert suggest("k", ["losses.k", "losses.psd"]) == "did you mean 'losses.k'? Known: losses.k, losses.psd."
    assert suggest("xyz", ["a", 1]) == "Known: a, 1."
