"""Laws of calibration by hand: zeros come out where they were put, and bad guidance is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from robotrl.drivers import xseries as x
from robotrl.drivers.calibration import STILL_COUNTS, GuidedJoints, calibrated, joint_units, short_of_limits
from robotrl.drivers.registers import Ints
from robotrl.drivers.series import SERIES
from robotrl.drivers.servo import Line
from robotrl.errors import ConfigError, DeviceError
from robotrl.spec.buses import ServoProtocol
from robotrl.spec.state import Floats
from robotrl.spec.unit import of_unit
from tests.drivers.fake_bus import FakeBus
from tests.drivers.rig import ROBOT
from tests.drivers.workbench import IDS, Workbench
from tests.feetech_robot import feetech_robot

LINE = Line("bench", "dynamixel2", 1000000)
N = len(ROBOT.joint)
SIGN = np.array([joint.sign for joint in ROBOT.joint])
PER_RAD = 4096 / (2 * np.pi)
FILE = Path("units/A7.toml")
TRUE_ZERO = 2048 + 7 * np.arange(N) - 40


class Hand:
    """Moves the joints of a robot whose encoders are zero at `TRUE_ZERO`."""

    def __init__(self) -> None:
        self.line = FakeBus(joint.id for joint in ROBOT.joint)
        self.guided = GuidedJoints(self.line, LINE, ROBOT.joint, ROBOT)

    def hold(self, angle_rad: Floats) -> None:
        """Turn every joint to an angle."""
        counts = np.rint(TRUE_ZERO + SIGN * angle_rad * PER_RAD).astype(int)
        for joint, count in zip(ROBOT.joint, counts.tolist(), strict=True):
            self.line.servos[joint.id][x.PRESENT_POSITION] = count

    def sweep(self) -> None:
        """Move every joint from end to end of what robot.toml allows."""
        for share in np.linspace(0.0, 1.0, 20):
            self.hold(ROBOT.position_min_rad + share * (ROBOT.position_max_rad - ROBOT.position_min_rad))
            self.guided.look()

    def zeros(self, posture_rad: Floats) -> Ints:
        """Zeros as found in a posture."""
        posture = dict(zip(ROBOT.joint_names, posture_rad.tolist(), strict=True))
        return self.guided.zero_counts(self.guided.hold_still(5), posture)


@pytest.mark.parametrize("posture_rad", [np.zeros(N), ROBOT.default_rad, ROBOT.park_rad])
def test_zeros_are_found_from_any_known_posture(posture_rad: Floats) -> None:
    hand = Hand()
    hand.hold(posture_rad)
    assert abs(hand.zeros(posture_rad) - TRUE_ZERO).max() <= 1
    assert hand.guided.angles_rad(hand.guided.look(), TRUE_ZERO) == pytest.approx(posture_rad, abs=1e-3)


def test_a_calibrated_robot_measures_the_angles_that_the_hand_made() -> None:
    hand = Hand()
    hand.hold(np.zeros(N))
    zeros = hand.zeros(np.zeros(N))
    hand.sweep()
    unit = calibrated(ROBOT, "A7", joint_units(hand.guided, zeros), FILE)
    assert short_of_limits(ROBOT, unit) == []
    robot = of_unit(ROBOT, unit)
    assert [joint.zero_count for joint in robot.joint] == TRUE_ZERO.tolist()
    assert robot.policy_hash == ROBOT.policy_hash


def test_a_limit_that_the_hand_did_not_reach_is_told_by_joint() -> None:
    hand = Hand()
    hand.hold(np.zeros(N))
    zeros = hand.zeros(np.zeros(N))
    for posture in (ROBOT.default_rad, ROBOT.park_rad):
        for nearby_rad in (-0.05, 0.05):
            hand.hold(posture + nearby_rad)
            hand.guided.look()
    units = joint_units(hand.guided, zeros)
    assert len(short_of_limits(ROBOT, calibrated(ROBOT, "A7", units, FILE))) == N


def test_a_joint_that_was_not_moved_is_named() -> None:
    hand = Hand()
    hand.hold(np.zeros(N))
    zeros = hand.zeros(np.zeros(N))
    with pytest.raises(DeviceError, match=f"{ROBOT.joint[0].name} was not moved"):
        calibrated(ROBOT, "A7", joint_units(hand.guided, zeros), FILE)


def test_a_posture_that_the_hand_did_not_reach_is_refused() -> None:
    hand = Hand()
    hand.hold(np.zeros(N))
    zeros = hand.zeros(np.zeros(N))
    hand.hold(np.full(N, -0.01))
    hand.guided.look()
    with pytest.raises(ConfigError, match="out of reach"):
        calibrated(ROBOT, "A7", joint_units(hand.guided, zeros), FILE)


@pytest.mark.parametrize("count", [-5, 10])
def test_a_zero_that_puts_limits_off_the_encoder_is_refused(count: int) -> None:
    hand = Hand()
    hand.hold(np.zeros(N))
    zeros = hand.zeros(np.zeros(N))
    hand.sweep()
    zeros[4] = count
    with pytest.raises(ConfigError, match=f"{ROBOT.joint[4].name}.zero_count"):
        calibrated(ROBOT, "A7", joint_units(hand.guided, zeros), FILE)


@pytest.mark.parametrize(("moved", "still"), [(STILL_COUNTS, True), (STILL_COUNTS + 1, False)])
def test_held_still_is_within_a_third_of_a_degree(moved: int, still: bool) -> None:
    assert STILL_COUNTS * 360 / 4096 < 0.36
    hand = Hand()
    hand.hold(np.zeros(N))
    hand.guided.look()
    servo = hand.line.servos[ROBOT.joint[3].id]
    first, whole = servo[x.PRESENT_POSITION], hand.line.read
    places = iter([first, first + moved])

    def moving(deadline_s: float) -> bytes:
        servo[x.PRESENT_POSITION] = next(places)
        return whole(deadline_s)

    hand.line.drain = lambda: moving(0.0)  # type: ignore[method-assign]
    if still:
        hand.guided.hold_still(2)
    else:
        with pytest.raises(DeviceError, match=f"moved by {moved} counts"):
            hand.guided.hold_still(2)


def test_a_joint_that_moves_while_it_is_to_be_held_is_refused() -> None:
    hand = Hand()
    hand.hold(np.zeros(N))
    whole = hand.line.read

    def shaking(deadline_s: float) -> bytes:
        servo = hand.line.servos[ROBOT.joint[3].id]
        servo[x.PRESENT_POSITION] = servo[x.PRESENT_POSITION] + 3
        return whole(deadline_s)

    hand.line.read = shaking  # type: ignore[method-assign]
    with pytest.raises(DeviceError, match=rf"servo {ROBOT.joint[3].id} \({ROBOT.joint[3].name}\) moved"):
        hand.zeros(np.zeros(N))


def test_an_encoder_that_goes_through_its_end_is_refused() -> None:
    hand = Hand()
    hand.guided.look()
    hand.line.servos[23][x.PRESENT_POSITION] = 4090
    hand.guided.look()
    hand.line.servos[23][x.PRESENT_POSITION] = 10
    with pytest.raises(DeviceError, match=r"servo 23 .* went through the end of its encoder"):
        hand.guided.look()


def test_a_servo_that_falls_silent_is_named() -> None:
    hand = Hand()
    del hand.line.servos[33]
    with pytest.raises(DeviceError, match=r"servo 33 .* does not answer"):
        hand.guided.look()


@pytest.mark.parametrize("protocol", SERIES)
def test_a_servo_with_a_scale_of_its_own_is_not_measured_with_it(protocol: ServoProtocol) -> None:
    """`robotrl run` sets it to that of robot.toml, so zeros that were found with it would be wrong."""
    robot = ROBOT if protocol == "dynamixel2" else feetech_robot(protocol)
    joints = [replace(joint, id=id_) for joint, id_ in zip(robot.joint, IDS, strict=False)]
    settings = dict(SERIES[protocol].settings(robot.servo_of(joints[0])))
    for register in (None, *SERIES[protocol].counting):
        bench = Workbench(protocol)
        for id_ in IDS:
            for own in SERIES[protocol].counting:
                bench.servo(id_)[own] = settings[own]
        guided = GuidedJoints(bench.port, bench.line, joints, robot)
        if register is None:
            guided.require_counting()
            continue
        bench.servo(12)[register] = settings[register] + 1
        fix = f'robotrl bus write "{register.name}" {settings[register]} --id 12, then calibrate'
        with pytest.raises(DeviceError, match=rf"servo 12 .*{register.name} .* sets to \d; {fix}"):
            guided.require_counting()
        assert bench.sent_writes() == 0


def test_guiding_writes_nothing() -> None:
    hand = Hand()
    hand.guided.require_limp()
    hand.sweep()
    assert not [packet for packet in hand.line.sent if packet.code in (0x03, 0x83)]
    hand.line.servos[41][x.TORQUE_ENABLE] = 1
    with pytest.raises(DeviceError, match=r"servo 41 .* holds torque"):
        hand.guided.require_limp()
