"""How long a policy's step keeps this computer busy, and whether the control loop has that much time."""

from __future__ import annotations

from dataclasses import dataclass
from time import thread_time_ns

import numpy as np

from robotrl.runtime.policy import Policy
from robotrl.spec.hardware import Driven, rate_hz
from robotrl.spec.robot import RobotSpec

SHARE = 0.25
"""Of the loop's period: what inference may take. The rest is for the wire, the gate and the recorder, which
take longer than any policy of a few hundred units, and for what a computer does besides."""

TICKS = 1000

ENOUGH_S = 0.5
"""A policy that has taken this long is timed well enough: one that is too slow is refused soon, too."""


@dataclass(frozen=True)
class InferenceTime:
    """Processor time of one step, in the calling thread, which does all the work.

    Not the time on the wall: on a busy computer that measures who else wanted the processor in this half
    second. A loop with FIFO priority does not wait for them, and where it has to, it counts its overruns.
    """

    median_us: float
    p99_us: float


def time_inference(policy: Policy) -> InferenceTime:
    """Step through a recorded tick again and again, and leave the memory initial.

    Args:
        policy: has run before, so that nothing is measured that happens only once.
    """
    golden, shapes = policy.contract.golden[0].channels, {c.name: c.shape for c in policy.contract.channels}
    channels = {name: np.array(golden[name]).reshape(shape) for name, shape in shapes.items()}
    spent_ns, end_ns = list[int](), thread_time_ns() + 1e9 * ENOUGH_S
    while len(spent_ns) < TICKS and (start_ns := thread_time_ns()) < end_ns:
        policy.step(channels)
        spent_ns.append(thread_time_ns() - start_ns)
    policy.reset()
    median_us, p99_us = np.percentile(spent_ns, (50, 99)) / 1e3
    return InferenceTime(float(median_us), float(p99_us))


def allowed_us(robot: Driven) -> float:
    """Return what one step may take on `robot`, whose loop may tick faster than the policy steps."""
    period_s = robot.control.period_s if isinstance(robot, RobotSpec) else 1.0 / rate_hz(robot)
    return SHARE * period_s * 1e6


def too_slow(time: InferenceTime, robot: Driven) -> list[str]:
    """Say that inference leaves the loop of `robot` too little of its period; nothing where it does not.

    The 99th percentile counts, because every hundredth tick late is a robot that stumbles.
    """
    if time.p99_us <= allowed_us(robot):
        return []
    limit = f"up to {allowed_us(robot):.0f} us is allowed, {SHARE:g} of the loop's period on {robot.name}"
    return [f"inference takes {time.p99_us:.0f} us on this computer (99th percentile); {limit}"]
