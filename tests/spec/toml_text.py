"""Writes parsed TOML back as text, and names and changes every entry of it."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from typing import Any

Path = tuple[str | int, ...]


def to_toml(table: dict[str, Any]) -> str:
    """TOML text with every nested table inline."""
    return "".join(f"{key} = {_value(value)}\n" for key, value in table.items())


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "inf", -math.inf: "-inf"}.get(value, "nan")
    return json.dumps(value)


def entries(table: dict[str, Any] | list[Any], at: Path = ()) -> Iterator[tuple[Path, object]]:
    """Every key of every table with its value, tables themselves included."""
    items = table.items() if isinstance(table, dict) else enumerate(table)
    for key, value in items:
        here = (*at, key)
        if isinstance(key, str):
            yield here, value
        if isinstance(value, dict) or (isinstance(value, list) and value and isinstance(value[0], dict)):
            yield from entries(value, here)


def dotted(path: Path) -> str:
    """`joint[3].name`: how errors name an entry."""
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).removeprefix(".")


def changed(table: dict[str, Any], path: Path, value: object) -> dict[str, Any]:
    """A copy with one entry replaced or added."""
    result = copy.deepcopy(table)
    _parent(result, path)[path[-1]] = value
    return result


def without(table: dict[str, Any], path: Path) -> dict[str, Any]:
    """A copy with one entry deleted."""
    result = copy.deepcopy(table)
    del _parent(result, path)[path[-1]]
    return result


def _parent(table: Any, path: Path) -> Any:
    for part in path[:-1]:
        table = table[part]
    return table
