"""Laws of a policy inside a faster loop: asked on every k-th tick, between two answers on a line."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from robotrl.runtime.interpolation import InterpolatedPolicy
from robotrl.spec.state import Floats
from tests.laws.rig import QUAD12, calm

COMMANDS = {"velocity_command": np.array([0.1, 0.0, 0.0])}
STATES = [calm(QUAD12, float(tick), joint_pos_rad=np.full(12, 0.01 * tick)) for tick in range(40)]


class Squares:
    """Answers 1, 4, 9 ...; remembers what it was given."""

    def __init__(self) -> None:
        self.seen: list[float] = []
        self.resets = 0

    def reset(self) -> None:
        """Begin at 1 again."""
        self.resets += 1
        self.seen.clear()

    def step(self, channels: Mapping[str, NDArray[np.float32]]) -> Floats:
        """Answer."""
        self.seen.append(float(channels["joint_pos"][0]))
        return np.full(12, float(len(self.seen) ** 2))


@pytest.mark.parametrize("ticks_per_step", [1, 2, 4, 5, 10])
def test_targets_are_on_the_line_from_answer_to_answer_and_end_on_it(ticks_per_step: int) -> None:
    policy = Squares()
    interpolated = InterpolatedPolicy(policy, ticks_per_step)
    interpolated.reset()
    targets = [interpolated.step(state, COMMANDS)[0][0] for state in STATES]
    steps = len(STATES) // ticks_per_step
    answers = np.arange(1, steps + 1) ** 2.0
    at_end = np.arange(1, steps + 1) * ticks_per_step
    expected = np.interp(np.arange(1, len(STATES) + 1), at_end, answers)  # before the first: constant
    np.testing.assert_allclose(targets, expected, rtol=1e-12)
    np.testing.assert_array_equal(np.array(targets)[at_end - 1], answers)  # to the last bit


def test_the_policy_is_asked_on_the_first_tick_of_each_step_and_told_of_then() -> None:
    policy = Squares()
    interpolated = InterpolatedPolicy(policy, 4)
    interpolated.reset()
    inferences = [interpolated.step(state, COMMANDS)[1] for state in STATES]
    assert [tick for tick, inference in enumerate(inferences) if inference] == list(range(0, 40, 4))
    np.testing.assert_allclose(policy.seen, 0.01 * np.arange(0, 40, 4), rtol=1e-6)
    third = inferences[8]
    assert third is not None
    assert third.command[0] == 9.0
    assert third.channels["velocity_command"][0] == np.float32(0.1)
    assert third.channels["joint_pos"][0] == np.float32(0.08)


def test_after_a_reset_nothing_is_left_of_the_last_answer() -> None:
    policy = Squares()
    interpolated = InterpolatedPolicy(policy, 4)
    interpolated.reset()
    for state in STATES[:6]:
        interpolated.step(state, COMMANDS)
    interpolated.reset()
    assert policy.resets == 2
    again = [interpolated.step(state, COMMANDS) for state in STATES[:5]]
    assert [target[0] for target, _ in again] == [1.0, 1.0, 1.0, 1.0, 1.75]
    assert [inference is not None for _, inference in again] == [True, False, False, False, True]


def test_an_answer_that_is_no_number_stays_none_on_every_tick_of_its_step() -> None:
    policy = Squares()
    interpolated = InterpolatedPolicy(policy, 2)
    interpolated.reset()
    interpolated.step(STATES[0], COMMANDS)
    interpolated.step(STATES[1], COMMANDS)
    policy.step = lambda channels: np.full(12, np.nan)  # type: ignore[method-assign]
    for state in STATES[2:4]:
        assert np.isnan(interpolated.step(state, COMMANDS)[0]).all()


def test_targets_once_given_are_not_written_to_later() -> None:
    interpolated = InterpolatedPolicy(Squares(), 4)
    interpolated.reset()
    given = [interpolated.step(state, COMMANDS)[0] for state in STATES]
    kept = [target.copy() for target in given]
    for state in STATES:
        interpolated.step(state, COMMANDS)
    np.testing.assert_array_equal(given, kept)
