"""Strict reading of TOML tables into frozen dataclasses: unknown, missing or ill-typed is an error.

A field's annotation is its schema. Supported: `bool`, `int`, `float` (an integer is accepted and
converted), `str`, `Literal[...]`, `tuple[T, ...]`, `dict[str, T]`, nested dataclasses, `T | None` (TOML has
no null: the key is left out), and
`Annotated[T, Between(low, high)]` or `Within(low, high)` for what a number or a pair may be, and `object`
for what is checked elsewhere.
Defaults are the dataclass's own.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import tomllib
import types
import typing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from robotrl.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True)
class Between:
    """Marks a number's allowed range, both ends included."""

    low: float
    high: float = math.inf

    def accepts(self, number: float) -> bool:
        """Whether the number lies in the range; NaN does not."""
        return self.low <= number <= self.high

    def __str__(self) -> str:
        """Read as the allowed set in an error.

        Integers and floats look alike: `typing` may replace `Between(0.0)` by an equal `Between(0)`.
        """
        return (
            f"{self.low:.12g} to {self.high:.12g}" if math.isfinite(self.high) else f"{self.low:.12g} or more"
        )


@dataclass(frozen=True)
class Within:
    """Marks a [low, high] pair that is in order and lies within these ends, both included."""

    low: float
    high: float

    def accepts(self, pair: tuple[float, float]) -> bool:
        """Whether the pair is in order and within the ends."""
        return self.low <= pair[0] <= pair[1] <= self.high

    def __str__(self) -> str:
        """Read as the allowed set in an error."""
        return f"[low, high] with {self.low:.12g} <= low <= high <= {self.high:.12g}"


def load_toml(file: Path) -> dict[str, Any]:
    """Read and parse a TOML file.

    Raises:
        ConfigError: the file is missing or is not TOML.
    """
    return parse_toml(read_text(file), file)


def read_text(file: Path) -> str:
    """Read a UTF-8 text file.

    Raises:
        ConfigError: the file is missing or is not text.
    """
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror})", file=file) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"is not text: {error}", file=file) from error


def parse_toml(text: str, file: Path) -> dict[str, Any]:
    """Parse TOML that came from `file`.

    Raises:
        ConfigError: it is not TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"is not valid TOML: {error}", file=file) from error


def read_record(cls: type[T], table: object, *, file: Path, key: str = "") -> T:
    """Build the dataclass `cls` from one TOML table.

    Args:
        cls: a dataclass whose annotations are the schema.
        table: the parsed table.
        file: where it came from, for the error.
        key: dotted path of the table inside the file.

    Raises:
        ConfigError: an unknown, missing, ill-typed or out-of-range entry; names file, key, value
            and the allowed set.
    """
    fields = _schema(cls)  # type: ignore[arg-type]  # a class is hashable, mypy thinks not
    if not isinstance(table, dict):
        allowed = f"a table of {', '.join(sorted(fields))}"
        raise ConfigError("must be a table", file=file, key=key or None, value=table, allowed=allowed)
    for name in table:
        if name not in fields:
            raise ConfigError("unknown key", file=file, key=_join(key, name), allowed=sorted(fields))
    values = {}
    for name, (annotation, required) in fields.items():
        if name in table:
            values[name] = _convert(annotation, table[name], file, _join(key, name))
        elif required:
            raise ConfigError("is missing", file=file, key=_join(key, name), allowed=_describe(annotation))
    return cls(**values)


@cache
def _schema(cls: type[Any]) -> dict[str, tuple[Any, bool]]:
    """Field name -> (annotation, whether it must be given)."""
    hints = typing.get_type_hints(cls, include_extras=True)
    missing = dataclasses.MISSING
    return {
        f.name: (hints[f.name], f.default is missing and f.default_factory is missing)
        for f in dataclasses.fields(cls)
    }


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _convert(annotation: Any, value: object, file: Path, key: str) -> Any:  # noqa: ANN401, PLR0911
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (types.UnionType, typing.Union):  # `Annotated[...] | None` is of the older kind
        return _convert(args[0], value, file, key)
    if origin is Annotated:
        number = _convert(args[0], value, file, key)
        _check_bounds(args[1:], number, file, key, value)
        return number
    if origin is Literal:
        # Python counts True and 1.0 as equal to 1; a file that says one does not mean the other.
        if not any(value == choice and type(value) is type(choice) for choice in args):
            raise ConfigError("is not one of the choices", file=file, key=key, value=value, allowed=args)
        return value
    if origin is tuple and isinstance(value, list):
        return _convert_sequence(args, value, file, key)
    if origin is dict and isinstance(value, dict):
        return {k: _convert(args[1], v, file, _join(key, k)) for k, v in value.items()}
    if dataclasses.is_dataclass(annotation):
        return read_record(typing.cast("type[Any]", annotation), value, file=file, key=key)
    if annotation is float and type(value) in (int, float) and abs(value) <= sys.float_info.max:  # type: ignore[arg-type]
        return float(value)  # type: ignore[arg-type]
    if annotation is object or (annotation in (bool, int, str) and type(value) is annotation):
        return value
    raise ConfigError("has the wrong type", file=file, key=key, value=value, allowed=_describe(annotation))


def check_bounds(record: object, key: str) -> None:
    """Check what a program put into a record as `read_record` checks what a file says.

    Args:
        record: an instance of a dataclass that `read_record` could have made.
        key: dotted path of its table, for the error.

    Raises:
        ConfigError: a value outside its range; names key, value and the allowed set.
    """
    fields = _schema(type(record))  # type: ignore[arg-type]  # as in `read_record`
    for name, (annotation, _) in fields.items():
        if get_origin(annotation) is Annotated:
            value = getattr(record, name)
            _check_bounds(get_args(annotation)[1:], value, None, _join(key, name), value)


def _check_bounds(
    bounds: tuple[Between | Within, ...],
    value: Any,  # noqa: ANN401
    file: Path | None,
    key: str,
    written: object,
) -> None:
    for bound in bounds:
        if not bound.accepts(value):
            raise ConfigError("is out of range", file=file, key=key, value=written, allowed=str(bound))


def _convert_sequence(args: tuple[Any, ...], value: list[object], file: Path, key: str) -> tuple[Any, ...]:
    if len(args) == 2 and args[1] is Ellipsis:  # noqa: PLR2004 - the shape of tuple[T, ...]
        kinds = [args[0]] * len(value)
    elif len(args) == len(value):
        kinds = list(args)
    else:
        raise ConfigError(
            "has the wrong length", file=file, key=key, value=value, allowed=f"{len(args)} values"
        )
    return tuple(
        _convert(kind, v, file, f"{key}[{i}]") for i, (kind, v) in enumerate(zip(kinds, value, strict=True))
    )


def _describe(annotation: Any) -> str:  # noqa: ANN401
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return f"{_describe(args[0])} in {', '.join(str(a) for a in args[1:])}"
    if origin is Literal:
        return ", ".join(repr(a) for a in args)
    if origin is tuple:
        if args[-1] is Ellipsis:
            return f"a list of {_describe(args[0])}"
        return f"a list of {len(args)} of {_describe(args[0])}"
    if origin is dict or dataclasses.is_dataclass(annotation):
        return "a table"
    return {bool: "true or false", int: "an integer", float: "a finite number", str: "a string"}[annotation]
