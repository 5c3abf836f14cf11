"""Dataclasses that coerce and validate their fields; errors name the field, its value and what is allowed."""

import dataclasses
import difflib
import math
from collections.abc import Iterable
from dataclasses import field, fields
from pathlib import Path
from typing import Any

from insightr_nb.errors import SettingsError


def limits(default: Any, low: float | None = None, high: float | None = None) -> Any:
    """Declare a dataclass field with limits.

    Args:
        default: Default value.
        low: Smallest allowed value; None for no limit.
        high: Largest allowed value; None for no limit.

    Returns:
        The field; `Checked` checks its values.
    """
    return field(default=default, metadata={"low": low, "high": high})


def choice(default: Any, *options: Any) -> Any:
    """Return a dataclass field with a default and the allowed values."""
    return field(default=default, metadata={"options": options})


def coerce(value: Any, kind: Any, name: str) -> Any:
    """Convert a value from papermill or YAML (the string '1e-5', the float 3.0) to the type of its field.

    Args:
        value: Value to convert.
        kind: Type of the field: int, float, bool or str, optionally `| None`.
        name: Name of the field, for errors.

    Returns:
        The converted value.

    Raises:
        SettingsError: If the value cannot be converted.
    """
    optional = "None" in str(kind)
    if value is None and optional:
        return None
    if kind in (int, float) or kind in (int | None, float | None):
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise SettingsError(f"{name} = {value!r}: must be a number, not {type(value).__name__}")
        try:
            number = float(value)
        except (ValueError, OverflowError):
            raise SettingsError(f"{name} = {value!r}: must be a number") from None
        if not math.isfinite(number):
            raise SettingsError(f"{name} = {value!r}: must be a finite number")
        if kind in (float, float | None):
            return number
        if number != int(number):
            raise SettingsError(f"{name} = {value!r}: must be an integer")
        return int(number)
    if kind in (bool, bool | None):
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if not isinstance(value, bool):
            raise SettingsError(f"{name} = {value!r}: must be true or false")
        return value
    if isinstance(value, Path):
        value = str(value)
    group, _, parameter = name.rpartition(".")
    if isinstance(value, bool | int | float) and group in ("", "data"):
        parameter = "data_folder" if name == "data.folder" else parameter
        raise SettingsError(
            f"{name} = {value!r}: must be a string. papermill's -p converts what looks like a number (1e5, 1.10, "
            f"2024_01_15); use -r {parameter} to pass the value unchanged"
        )
    if not isinstance(value, str) or not value:
        raise SettingsError(f"{name} = {value!r}: must be a non-empty string" + (", or omitted" if optional else ""))
    return value


class Checked:
    """Base that coerces every plain field to its type and checks its limits or options.

    `group` is the prefix of the field's name in errors.
    """

    group = ""

    def __post_init__(self) -> None:
        for f in fields(self):
            if dataclasses.is_dataclass(f.type):
                continue
            name = f"{self.group}{f.name}"
            value = coerce(getattr(self, f.name), f.type, name)
            low, high, options = (f.metadata.get(k) for k in ("low", "high", "options"))
            if value is not None:
                if (low is not None and not value >= low) or (high is not None and not value <= high):
                    limits = f"at least {low}" if high is None else f"from {low} to {high}"
                    raise SettingsError(f"{name} = {value!r}: must be {limits}")
                if options and value not in options:
                    raise SettingsError(f"{name} = {value!r}: {suggest(value, options)}")
            object.__setattr__(self, f.name, value)


def suggest(name: str, known: Iterable[Any]) -> str:
    """Return a sentence for errors that suggests the closest known name and lists all of them."""
    known = [str(k) for k in known]
    close = difflib.get_close_matches(str(name), known, n=1)
    close = close or [k for k in known if k.split(".")[-1] == str(name)]
    return (f"did you mean {close[0]!r}? " if close else "") + f"Known: {', '.join(known)}."
