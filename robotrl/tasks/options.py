"""Builds a task from a table of builders: its name and its options come from a user."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from robotrl.errors import BadInputError

T = TypeVar("T")


def build_task(
    table: Mapping[str, Callable[..., T]],
    name: str,
    options: Mapping[str, object],
    file: object = None,
    key: str = "",
) -> T:
    """Call the named builder with options that it knows.

    Args:
        table: builders, whose keyword arguments with their defaults are the options.
        name: a key of the table.
        options: a value of the default's kind for each; a range may be any sequence of two numbers.
        file: where they stand, for the error.
        key: dotted path of their table inside the file.

    Raises:
        BadInputError: no such task, no such option, or a value of the wrong kind.
    """
    if name not in table:
        raise BadInputError("there is no such task", file=file, key="env", value=name, allowed=table)
    make = table[name]
    known = inspect.signature(make).parameters
    checked = {}
    for option, value in options.items():
        place = f"{key}.{option}" if key else option
        if option not in known:
            raise BadInputError(f"{name} has no such option", file=file, key=place, allowed=known)
        checked[option] = _Option(file, place, value).like(known[option].default)
    return make(**checked)


@dataclass(frozen=True)
class _Option:
    """What a user gave for an option, and where."""

    file: object
    key: str
    value: object

    def like(self, default: object) -> object:
        """Return the value in its default's kind."""
        value = self.value
        if self.key.endswith("main_body") and isinstance(value, (int, str)):
            return value
        if isinstance(default, tuple):
            return self._range()
        if isinstance(default, (bool, str)):
            if not isinstance(value, type(default)):
                raise self._refused("is of the wrong kind", type(default).__name__)
            return value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._refused("is not a number")
        if isinstance(default, int) and (not isinstance(value, int) or value < 1):
            raise self._refused("is not a count", "whole numbers from 1")
        return value

    def _range(self) -> tuple[float, float]:
        numbers = list(self.value) if isinstance(self.value, (list, tuple)) else []
        match numbers:
            case [int() | float() as low, int() | float() as high] if low < high:
                return float(low), float(high)
        raise self._refused("is not a range", "two numbers, the lower one first")

    def _refused(self, problem: str, allowed: str | None = None) -> BadInputError:
        return BadInputError(problem, file=self.file, key=self.key, value=self.value, allowed=allowed)
