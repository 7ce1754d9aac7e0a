"""Noise of every kind on a moving robot's bus: what is fresh is true, nothing stalls, and it passes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from robotrl.emulator.faults import FaultScript, Noise
from robotrl.spec.buses import ServoProtocol
from robotrl.spec.gate import Level
from tests.emulator.host import quad12
from tests.feetech_robot import feetech_robot
from tests.hil.on_emulated_time import Robot, emulated_robot
from tests.hil.timelines import follows

COUNT_RAD = 2 * np.pi / 1024
FROM_S, UNTIL_S = 0.2, 1.2
SWING_RAD, SWING_HZ = 0.25, 1.5


@dataclass(frozen=True)
class Hail:
    """A kind of noise, and how many of the measurements it may cost."""

    noise: str
    share: float
    lost: float
    delay_s: float = 0.0
    kind: ServoProtocol = "dynamixel2"


HAILS = [
    Hail("drop", 0.2, 0.2),
    Hail("damage", 0.2, 0.2),
    Hail("truncate", 0.2, 0.25),
    Hail("merge", 0.3, 0.1),
    Hail("reorder", 0.3, 0.1),
    Hail("duplicate", 0.3, 0.0),
    Hail("delay", 0.3, 0.0, 0.003),
    Hail("delay", 0.3, 0.1, 0.012),
    Hail("delay", 0.3, 0.3, 0.021),  # into the next read, whose first try it meets
    Hail("delay", 0.3, 0.3, 0.041),  # and into the one after
    Hail("split", 0.3, 0.25, 0.003),
    Hail("byte_drop", 0.003, 0.1),
    Hail("byte_flip", 0.003, 0.15),
    Hail("byte_duplicate", 0.003, 0.15),
    Hail("byte_swap", 0.003, 0.15),
    # A one-byte sum lets one in 256 of these through.
    Hail("truncate", 0.3, 0.35, kind="feetech_sts"),
    Hail("split", 0.3, 0.35, 0.012, kind="feetech_sts"),
    # Read one by one, twelve answers that are each a little late must not add up to a stall.
    Hail("delay", 0.3, 0.6, 0.003, kind="feetech_scs"),
    Hail("byte_flip", 0.003, 0.2, kind="feetech_scs"),
]


def swing(robot: Robot, tick: int) -> None:
    """Let all joints follow a sine around the posture in which they lie."""
    if tick == 0:
        robot.machine.plant.model.opt.gravity[:] = 0.0  # lying on its legs it could not move them
    phase = 2 * np.pi * SWING_HZ * tick * robot.period_s
    wave_rad = SWING_RAD * 2 * np.pi * SWING_HZ * robot.period_s * np.cos(phase)
    robot.target_rad = np.clip(
        robot.target_rad + wave_rad, robot.spec.position_min_rad, robot.spec.position_max_rad
    )


def test_swapped_bytes_that_a_sum_cannot_tell_make_no_impossible_value() -> None:
    """Feetech's checksum is the same after them: what is believed is at least what the motor could do."""
    spec = feetech_robot()
    (servo,) = spec.servo.values()
    noise = Noise("legs", FROM_S, UNTIL_S, byte_swap=0.003)
    with emulated_robot(spec, FaultScript(noise=(noise,))) as robot:
        lost = 0
        while robot.time.elapsed_s < UNTIL_S:
            state, _ = robot.tick()
            fresh = state.joint_age_s == 0
            low_rad, high_rad = robot.truth_rad[:, fresh]
            reach_rad = 0.1 + 4 * servo.no_load_speed_rad_s * robot.period_s
            assert (state.joint_pos_rad[fresh] > low_rad - reach_rad).all()
            assert (state.joint_pos_rad[fresh] < high_rad + reach_rad).all()
            assert (np.abs(state.joint_vel_rad_s[fresh]) <= 2 * servo.no_load_speed_rad_s).all()
            lost += int((~fresh).sum())
            robot.rearm()
        assert lost > 0


@pytest.mark.parametrize("hail", HAILS, ids=lambda h: f"{h.noise} {h.delay_s} {h.kind}")
def test_what_is_fresh_is_true_and_no_read_takes_two_periods(hail: Hail) -> None:
    spec = quad12() if hail.kind == "dynamixel2" else feetech_robot(hail.kind)
    noise = Noise("legs", FROM_S, UNTIL_S, delay_s=hail.delay_s, **{hail.noise: hail.share})
    with emulated_robot(spec, FaultScript(noise=(noise,))) as robot:
        lost = ticks = 0
        while robot.time.elapsed_s < UNTIL_S:
            swing(robot, ticks)
            state, verdict = robot.tick()
            fresh = state.joint_age_s == 0
            low_rad, high_rad = robot.truth_rad[:, fresh]
            assert (state.joint_pos_rad[fresh] > low_rad - COUNT_RAD).all()
            assert (state.joint_pos_rad[fresh] < high_rad + COUNT_RAD).all()
            assert (state.temperature_c[fresh] < 40).all()
            assert not state.hardware_error.any()
            lost += int((~fresh).sum())
            ticks += 1
            if verdict.level >= Level.HOLD:
                # A servo that could not be armed stands still.
                assert verdict.causes <= {"limits.joint_stale_s", "limits.stuck_nm"}
                robot.rearm()
        assert lost <= hail.lost * ticks * len(spec.joint)
        assert lost > 0 or hail.lost == 0
        assert robot.longest_read_s < 1.5 * robot.period_s
        assert robot.longest_tick_s < 2 * robot.period_s  # also one that arms, and asks four times more
        robot.rearm()
        assert follows(robot)
