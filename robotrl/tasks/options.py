"""Builds a task from a table of builders: its name and its options come from a user."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TypeVar

from robotrl.errors import BadInputError

T = TypeVar("T")


def build_task(table: Mapping[str, Callable[..., T]], name: str, options: Mapping[str, object]) -> T:
    """Call the named builder with options that it knows.

    Args:
        table: builders, whose keyword arguments with their defaults are the options.
        name: a key of the table.
        options: a value of the default's kind for each; a range may be any sequence of two numbers.

    Raises:
        BadInputError: no such task, no such option, or a value of the wrong kind.
    """
    if name not in table:
        raise BadInputError("there is no such task", key="env", value=name, allowed=table)
    make = table[name]
    known = inspect.signature(make).parameters
    for key in options:
        if key not in known:
            raise BadInputError(f"{name} has no such option", key=key, allowed=known)
    return make(**{key: _checked(key, value, known[key].default) for key, value in options.items()})


def _checked(key: str, value: object, default: object) -> object:
    """Return the value in its default's kind."""
    if key == "main_body" and isinstance(value, (int, str)):
        return value
    if isinstance(default, tuple):
        return _range(key, value)
    if isinstance(default, (bool, str)):
        if not isinstance(value, type(default)):
            raise BadInputError("is of the wrong kind", key=key, value=value, allowed=type(default).__name__)
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadInputError("is not a number", key=key, value=value)
    if isinstance(default, int) and (not isinstance(value, int) or value < 1):
        raise BadInputError("is not a count", key=key, value=value, allowed="whole numbers from 1")
    return value


def _range(key: str, value: object) -> tuple[float, float]:
    numbers = list(value) if isinstance(value, (list, tuple)) else []
    match numbers:
        case [int() | float() as low, int() | float() as high] if low < high:
            return float(low), float(high)
    raise BadInputError("is not a range", key=key, value=value, allowed="two numbers, the lower one first")
