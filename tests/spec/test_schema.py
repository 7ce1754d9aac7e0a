"""Laws of the contract's JSON Schema: it is what the code says, and it holds for what is shipped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from robotrl.spec.contract import _ADDED, PolicyContract, read_policy_file
from robotrl.spec.contract_parts import Provenance
from robotrl.spec.schema import FILE, contract_schema, schema_text
from robotrl.spec.shipped import find_shipped, shipped_names
from tests.spec.toml_text import changed, without

ROOT = Path(__file__).resolve().parents[2]


def shipped(name: str) -> dict[str, Any]:
    """The contract of a shipped policy as it stands in its file."""
    table: dict[str, Any] = json.loads(read_policy_file(find_shipped("policies", name))[1].to_json())
    return table


def test_the_shipped_schema_is_generated_from_the_code() -> None:
    assert FILE.read_text(encoding="utf-8") == schema_text()


def test_every_record_of_the_contract_is_closed_and_complete() -> None:
    schema = contract_schema()
    assert set(schema["properties"]) == set(PolicyContract.__dataclass_fields__)
    assert schema["properties"]["schema"] == {"const": 1}
    provenance = schema["properties"]["provenance"]
    assert set(provenance["properties"]) == set(Provenance.__dataclass_fields__)
    assert set(provenance["properties"]) - set(provenance["required"]) == {"origin"}
    assert provenance["properties"]["steps"] == {"type": "integer", "minimum": 0}
    open_records = [
        r for r in _records(schema) if "properties" in r and r["additionalProperties"] is not False
    ]
    assert open_records == []


def _records(schema: Any) -> list[dict[str, Any]]:
    if isinstance(schema, list):
        return [record for part in schema for record in _records(part)]
    if not isinstance(schema, dict):
        return []
    return [schema] + [record for part in schema.values() for record in _records(part)]


def test_what_older_files_lack_is_what_the_schema_does_not_require() -> None:
    """The rule of migration: an addition under the same version has a default and is in `_ADDED`."""
    optional = {
        name
        for record in _records(contract_schema())
        if "properties" in record
        for name in set(record["properties"]) - set(record["required"])
    }
    assert optional - {"backlash_rad"} == set(_ADDED)


@pytest.mark.parametrize("name", shipped_names("policies"))
def test_a_validator_that_others_wrote_accepts_what_is_shipped_and_refuses_what_the_reader_refuses(
    name: str,
) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(contract_schema())
    validator, table = jsonschema.Draft202012Validator(contract_schema()), shipped(name)
    assert validator.is_valid(table)
    for broken in (
        changed(table, ("schema",), 2),
        changed(table, ("later",), 1),
        changed(table, ("rate_hz",), "50"),
        changed(table, ("provenance", "steps"), -1),
        changed(table, ("channels", 0, "source"), "guess"),
        changed(table, ("channels", 0, "shape"), [0]),
        without(table, ("memory",)),
        changed(table, ("golden",), table["golden"][1:]),
    ):
        assert not validator.is_valid(broken)
