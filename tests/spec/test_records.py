"""Laws of the strict reader, on a record that has every supported kind of field."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from robotrl.errors import ConfigError
from robotrl.spec.records import Between, read_record

FILE = Path("robot.toml")


@dataclass(frozen=True)
class Leg:
    """A range, and a choice with a default."""

    length_m: Annotated[float, Between(0.0, 1.0)]
    foot: Literal["ball", "plate"] = "ball"


@dataclass(frozen=True)
class Everything:
    """One field of every kind."""

    on: bool
    count: int
    ratio: float
    name: str
    pair: tuple[float, int]
    many: tuple[int, ...]
    by_name: dict[str, Leg]
    leg: Leg


GOOD: dict[str, Any] = {
    "on": True,
    "count": 3,
    "ratio": 2,
    "name": "x",
    "pair": [1, 2],
    "many": [1, 2, 3],
    "by_name": {"left": {"length_m": 0.1, "foot": "plate"}},
    "leg": {"length_m": 1},
}


def test_every_kind_is_read_and_numbers_become_the_declared_type() -> None:
    record = read_record(Everything, GOOD, file=FILE)
    assert record == Everything(
        True, 3, 2.0, "x", (1.0, 2), (1, 2, 3), {"left": Leg(0.1, "plate")}, Leg(1.0, "ball")
    )
    assert type(record.ratio) is float
    assert type(record.leg.length_m) is float


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("on", 1, "robot.toml: run.on: has the wrong type, got 1; allowed: true or false"),
        ("count", 3.0, "robot.toml: run.count: has the wrong type, got 3.0; allowed: an integer"),
        ("ratio", "2", "robot.toml: run.ratio: has the wrong type, got '2'; allowed: a finite number"),
        (
            "ratio",
            float("nan"),
            "robot.toml: run.ratio: has the wrong type, got nan; allowed: a finite number",
        ),
        ("pair", [1], "robot.toml: run.pair: has the wrong length, got [1]; allowed: 2 values"),
        ("many", [1, "2"], "robot.toml: run.many[1]: has the wrong type, got '2'; allowed: an integer"),
        ("many", 1, "robot.toml: run.many: has the wrong type, got 1; allowed: a list of an integer"),
        (
            "leg",
            1,
            "robot.toml: run.leg: must be a table, got 1; allowed: a table of foot, length_m",
        ),
        (
            "leg",
            {"length_m": 1.01},
            "robot.toml: run.leg.length_m: is out of range, got 1.01; allowed: 0 to 1",
        ),
        (
            "leg",
            {},
            "robot.toml: run.leg.length_m: is missing; allowed: a finite number in 0 to 1",
        ),
        (
            "by_name",
            {"left": {"length_m": 0.1, "foot": "claw"}},
            "robot.toml: run.by_name.left.foot: is not one of the choices, got 'claw'; allowed: ball, plate",
        ),
        ("by_name", [], "robot.toml: run.by_name: has the wrong type, got []; allowed: a table"),
    ],
)
def test_the_sentence_names_file_key_value_and_allowed(key: str, value: object, sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_record(Everything, GOOD | {key: value}, file=FILE, key="run")
    assert str(refused.value) == sentence


def test_an_unknown_key_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError) as refused:
        read_record(Leg, {"length_m": 0.5, "fot": "ball"}, file=FILE)
    assert str(refused.value) == "robot.toml: fot: unknown key; allowed: foot, length_m"


def test_a_number_without_a_range_has_no_upper_end() -> None:
    assert str(Between(0.5)) == "0.5 or more"
    assert str(Between(0.5, 1.0)) == str(Between(0.5, 1)) == "0.5 to 1"


@dataclass(frozen=True)
class Robot:
    """A table that may be left out."""

    leg: Leg | None = None


def test_an_optional_table_is_none_or_as_strict_as_any_other() -> None:
    assert read_record(Robot, {}, file=FILE).leg is None
    assert read_record(Robot, {"leg": {"length_m": 0.5}}, file=FILE).leg == Leg(0.5)
    with pytest.raises(ConfigError, match=r"robot\.toml: leg\.length_m: is out of range, got 2"):
        read_record(Robot, {"leg": {"length_m": 2}}, file=FILE)
