"""The contract as a JSON Schema, for other languages: `python -m robotrl.spec.schema` prints its file."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import types
import typing
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from robotrl.spec.contract import GOLDEN_TICKS, SCHEMA, PolicyContract
from robotrl.spec.records import Between

FILE = Path(__file__).with_name("contract.schema.json")

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_PLAIN: dict[Any, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}


def contract_schema() -> dict[str, Any]:
    """Return the JSON Schema of a contract, from the annotations that the reader itself goes by."""
    schema = _record(PolicyContract)
    schema["properties"]["schema"] = {"const": SCHEMA}
    schema["properties"]["golden"] |= {"minItems": GOLDEN_TICKS, "maxItems": GOLDEN_TICKS}
    return {"$schema": DIALECT, "title": f"robotrl policy contract, version {SCHEMA}", **schema}


def schema_text() -> str:
    """Return the text of the shipped file."""
    return json.dumps(contract_schema(), indent=2) + "\n"


def _record(cls: type[Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(cls, include_extras=True)
    missing = dataclasses.MISSING
    required = [
        f.name for f in dataclasses.fields(cls) if f.default is missing and f.default_factory is missing
    ]
    properties = {f.name: _of(hints[f.name]) for f in dataclasses.fields(cls)}
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


def _of(annotation: Any) -> dict[str, Any]:  # noqa: ANN401
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _of(args[0]) | _bounds(args[1:])
    if origin is Literal:
        return {"enum": list(args)}
    if origin is tuple:
        return {"type": "array", "items": _of(args[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of(args[1])}
    if origin in (types.UnionType, typing.Union):
        return _of(args[0])
    return {"type": _PLAIN[annotation]} if annotation in _PLAIN else _record(annotation)


def _bounds(bounds: tuple[Between, ...]) -> dict[str, Any]:
    """Ends of a number's range."""
    found: dict[str, Any] = {}
    for bound in bounds:
        for key, end in (("minimum", bound.low), ("maximum", bound.high)):
            if math.isfinite(end):
                # `typing` may hand out an equal annotation that was made first, with 0.0 where this has 0.
                found[key] = int(end) if end == int(end) else end
    return found


if __name__ == "__main__":
    sys.stdout.write(schema_text())
