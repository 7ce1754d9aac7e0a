"""The demo's table: a promise is broken where a bound is exceeded or a part of the run is missing."""

from __future__ import annotations

import dataclasses
import math

import pytest

from robotrl.bench.facts import CableFacts, Facts, cable_facts, loop_facts, walk_facts
from robotrl.bench.promises import demo_promises
from robotrl.spec.robot import load_robot
from robotrl.spec.shipped import find_shipped
from tests.bench.recorded import EVENTS, flight, truth

QUAD12 = load_robot(find_shipped("hardware", "quad12"))


def _facts() -> Facts:
    return Facts(loop_facts(flight()), walk_facts(flight(), truth()), cable_facts(flight(), truth(), EVENTS))


def _broken(facts: Facts) -> list[str]:
    return [promise.what for promise in demo_promises(facts, QUAD12) if not promise.kept]


def test_a_good_run_keeps_every_promise() -> None:
    assert _broken(_facts()) == []


@pytest.mark.parametrize(
    ("cable", "what"),
    [
        (CableFacts(40.1, "hold", 50.0, 100.0, 0.0), "the loop knows"),
        (CableFacts(math.nan, "hold", 50.0, 100.0, 0.0), "the loop knows"),
        (CableFacts(30.0, "hold", 70.1, 100.0, 0.0), "the gate has gone to hold"),
        (CableFacts(30.0, "nothing", math.nan, 100.0, 0.0), "the gate has gone to nothing"),
        (CableFacts(30.0, "hold", 50.0, 120.1, 0.0), "all servos stop"),
        (CableFacts(30.0, "hold", 50.0, math.nan, 0.0), "all servos stop"),
        (CableFacts(30.0, "hold", 50.0, 100.0, 0.021), "motion before re-arm"),
    ],
)
def test_a_bound_that_is_exceeded_or_not_measured_is_broken(cable: CableFacts, what: str) -> None:
    [broken] = _broken(dataclasses.replace(_facts(), cable=cable))
    assert what in broken


def test_a_run_without_walking_or_pulled_cable_is_no_good_run() -> None:
    assert len(_broken(dataclasses.replace(_facts(), walk=None, cable=None))) == 2


def test_a_robot_that_never_walked_steadily_is_no_good_run() -> None:
    facts = _facts()
    idle = dataclasses.replace(facts, loop=dataclasses.replace(facts.loop, limiting_percent=math.nan))
    assert _broken(idle) == ["gate limiting in steady walking"]


def test_a_fall_is_a_broken_promise() -> None:
    facts = _facts()
    assert facts.walk is not None
    fallen = dataclasses.replace(facts, walk=dataclasses.replace(facts.walk, trunk_contact_s=0.5))
    assert _broken(fallen) == ["trunk on the ground while walking"]
