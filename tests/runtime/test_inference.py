"""What counts as too slow: processor time of a step against a share of the loop's period."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from robotrl.runtime import inference
from robotrl.runtime.inference import SHARE, TICKS, InferenceTime, time_inference, too_slow
from robotrl.runtime.policy import Policy
from robotrl.spec.hardware import Hardware, load_hardware
from robotrl.spec.robot import RobotSpec
from robotrl.spec.shipped import find_shipped, shipped_names
from robotrl.spec.state import Floats
from tests.export import sample


class Slow(Policy):
    """A policy each of whose steps takes as long as it is told, on a clock of its own."""

    now_ns = 0.0
    steps = 0
    costs_us: Iterator[float] = itertools.repeat(1.0)

    def step(self, channels: Mapping[str, NDArray[np.floating]]) -> Floats:
        self.now_ns += 1e3 * next(self.costs_us)
        self.steps += 1
        return super().step(channels)


def timed(monkeypatch: pytest.MonkeyPatch, costs_us: Iterable[float]) -> tuple[Slow, InferenceTime]:
    """A policy with these costs, and what timing it says."""
    policy = Slow.load(sample.exported()[0])
    assert isinstance(policy, Slow)
    policy.costs_us = iter(costs_us)
    monkeypatch.setattr(inference, "thread_time_ns", lambda: policy.now_ns)
    return policy, time_inference(policy)


def robot(bus_rate_hz: float | None = None) -> RobotSpec:
    quad12 = sample.quad12()
    return dataclasses.replace(quad12, control=dataclasses.replace(quad12.control, bus_rate_hz=bus_rate_hz))


def test_median_and_p99_are_those_of_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    costs_us = np.random.default_rng(0).permutation(np.arange(1.0, TICKS + 1)) / 4
    policy, found = timed(monkeypatch, costs_us)
    assert policy.steps == TICKS
    assert found.median_us == pytest.approx(np.median(costs_us))
    assert found.p99_us == pytest.approx(np.percentile(costs_us, 99))


@pytest.mark.parametrize(("late", "refused"), [(9, False), (12, True)])
def test_one_late_step_in_a_hundred_is_too_many(
    monkeypatch: pytest.MonkeyPatch, late: int, refused: bool
) -> None:
    _, found = timed(monkeypatch, [30.0] * (TICKS - late) + [6000.0] * late)
    assert bool(too_slow(found, robot())) is refused


def test_a_hopeless_one_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, found = timed(monkeypatch, itertools.repeat(2e5))
    assert policy.steps == 3
    assert found.p99_us == pytest.approx(2e5)


def test_timing_leaves_the_memory_as_at_the_first_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, _ = timed(monkeypatch, itertools.repeat(1.0))
    fresh = Policy.load(sample.exported()[0])
    assert policy.memory.keys() == fresh.memory.keys() != set()
    for name, values in fresh.memory.items():
        np.testing.assert_array_equal(policy.memory[name], values)


def test_who_else_wants_the_processor_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that waits for 20 ms uses next to no processor time."""
    policy, step = Policy.load(sample.exported()[0]), Policy.step

    def waiting(self: Policy, channels: Mapping[str, NDArray[np.floating]]) -> Floats:
        time.sleep(0.02)
        return step(self, channels)

    monkeypatch.setattr(Policy, "step", waiting)
    monkeypatch.setattr(inference, "TICKS", 5)
    assert time_inference(policy).median_us < 15_000


@pytest.mark.parametrize(
    ("driven", "allowed_us"),
    [
        (robot(), 5000),
        (robot(bus_rate_hz=200.0), 1250),
        (load_hardware(find_shipped("hardware", "fetch_sim")), 10_000),
    ],
    ids=["50 Hz", "50 Hz in a loop of 200 Hz", "arm of 25 Hz"],
)
def test_the_limit_is_a_quarter_of_the_loops_period_and_is_itself_allowed(
    driven: Hardware, allowed_us: float
) -> None:
    assert SHARE == 0.25
    assert too_slow(InferenceTime(1.0, allowed_us), driven) == []
    assert too_slow(InferenceTime(1.0, allowed_us + 1), driven) == [
        f"inference takes {allowed_us + 1:.0f} us on this computer (99th percentile); "
        f"up to {allowed_us:.0f} us is allowed, 0.25 of the loop's period on {driven.name}"
    ]


@pytest.mark.parametrize("name", shipped_names("policies"))
def test_no_shipped_policy_comes_near(name: str) -> None:
    """With a tenth of the limit at hand: processor time does not depend on how busy this computer is."""
    policy = Policy.load(find_shipped("policies", name))
    policy.replay_golden()
    assert time_inference(policy).median_us < 0.1 * SHARE * 1e6 / policy.contract.rate_hz
