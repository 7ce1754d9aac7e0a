"""The open body: SI units and order, arming, and every way a cable can fail."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from robotrl.drivers import xseries as x
from robotrl.drivers.body import SerialBody
from robotrl.errors import DeviceError
from robotrl.spec.robot import RobotSpec
from robotrl.spec.state import CommandKind, JointCommand
from tests.drivers.fake_bus import FakeBus, FakeImu
from tests.drivers.rig import IDS, ROBOT, Rig

# Reading ------------------------------------------------------------------------------------


def test_a_state_is_in_spec_order_and_si_units(ready: Rig) -> None:
    angle_rad = np.linspace(-0.5, 0.6, 12)
    ready.place(angle_rad)
    for k, id_ in enumerate(IDS):
        servo = ready.bus.servos[id_]
        servo[x.PRESENT_VELOCITY], servo[x.PRESENT_LOAD] = 10 + k, 100 * k
        servo[x.PRESENT_INPUT_VOLTAGE], servo[x.PRESENT_TEMPERATURE] = 110 + k, 30 + k
    state = ready.body.read(7.0)
    sign = np.array([joint.sign for joint in ROBOT.joint])
    step = np.arange(12)
    np.testing.assert_allclose(state.joint_pos_rad, angle_rad, atol=math.pi / 4096)
    np.testing.assert_allclose(state.joint_vel_rad_s, sign * (10 + step) * 0.229 * 2 * math.pi / 60)
    np.testing.assert_allclose(state.joint_load, sign * step * 0.1)
    np.testing.assert_allclose(state.voltage_v, 11.0 + 0.1 * step)
    np.testing.assert_allclose(state.temperature_c, 30 + step)
    assert state.stamp_s == 7.0
    assert state.joint_age_s.tolist() == [0.0] * 12
    assert state.imu_age_s == 0.0
    np.testing.assert_allclose(state.imu_quat, [1, 0, 0, 0], atol=1e-4)
    np.testing.assert_allclose(state.imu_accel_m_s2, [0, 0, 9.80665], atol=5e-3)


def test_one_read_is_one_instruction(ready: Rig) -> None:
    ready.body.read(1.0)
    (packet,) = ready.bus.sent
    assert packet.params == bytes((126, 0, 21, 0, *IDS))


def test_a_state_shares_nothing_with_the_next(ready: Rig) -> None:
    first = ready.body.read(1.0)
    kept = first.joint_pos_rad.copy()
    first.imu_quat[:] = 9.0
    ready.place(ROBOT.default_rad + 0.1)
    second = ready.body.read(2.0)
    np.testing.assert_array_equal(first.joint_pos_rad, kept)
    assert second.imu_quat[0] == pytest.approx(1.0, abs=1e-4)
    second.joint_pos_rad[:] = 9.0
    assert ready.body.read(3.0).joint_pos_rad[0] != 9.0


def test_what_never_came_is_nan_and_infinitely_old(rig: Rig) -> None:
    rig.body.open()
    rig.imu.sending = False
    rig.bus.silence(99)
    state = rig.body.read(5.0)
    assert np.isinf(state.joint_age_s).all()
    assert math.isinf(state.imu_age_s)


def test_lost_replies_keep_their_values_and_age(ready: Rig) -> None:
    before = ready.body.read(1.0)
    ready.place(ROBOT.default_rad + 0.2)
    ready.bus.faults = [lambda reply: reply[:-50]] + [lambda _: b""] * 9  # the last two servos, no retry
    ages = [ready.body.read(1.0 + 0.02 * k).joint_age_s for k in (1, 2)]
    np.testing.assert_allclose(ages[0], [0.0] * 10 + [0.02] * 2)
    np.testing.assert_allclose(ages[1], [0.02] * 10 + [0.04] * 2)
    ready.bus.silence(9)
    state = ready.body.read(1.06)
    np.testing.assert_allclose(state.joint_pos_rad[10:], before.joint_pos_rad[10:])
    np.testing.assert_allclose(state.joint_pos_rad[:10] - before.joint_pos_rad[:10], 0.2, atol=1e-3)


def test_a_silent_imu_ages_alone(ready: Rig) -> None:
    ready.imu.sending = False
    state = ready.body.read(0.5)
    assert state.imu_age_s == 0.5
    assert state.joint_age_s.max() == 0.0


def test_an_alert_is_looked_up_once_and_clears_with_it(ready: Rig) -> None:
    servo = ready.bus.servos[IDS[4]]
    servo[x.HARDWARE_ERROR_STATUS] = 0x20
    assert ready.body.read(1.0).hardware_error.tolist() == [0] * 4 + [0x20] + [0] * 7
    assert ready.bus.writes() == ["?Present Load", "?Hardware Error Status"]
    assert ready.body.read(1.1).hardware_error[4] == 0x20
    assert ready.bus.writes() == ["?Present Load"]
    servo[x.HARDWARE_ERROR_STATUS] = 0
    assert not ready.body.read(1.2).hardware_error.any()


def test_an_alert_whose_reason_is_lost_is_still_an_error(ready: Rig) -> None:
    ready.bus.servos[IDS[4]][x.HARDWARE_ERROR_STATUS] = 0x20
    ready.bus.faults = [lambda reply: reply, lambda _: b"", lambda _: b""]
    assert ready.body.read(1.0).hardware_error[4] == 0x80
    assert ready.body.read(1.1).hardware_error[4] == 0x20


# Writing ------------------------------------------------------------------------------------

ARMING = [
    "?Bus Watchdog",
    "Goal Position",
    "?Goal Position",
    "Position P Gain",
    "Bus Watchdog",
    "?Bus Watchdog",
    "Torque Enable",
]


def test_the_first_target_arms_with_goals_at_the_measured_position(ready: Rig) -> None:
    here = ROBOT.default_rad + 0.1
    ready.place(here)
    ready.body.read(1.0)
    ready.bus.sent.clear()
    ready.track()
    (goals,) = (p for p in ready.bus.sent[:2] if p.code == 0x83)
    values = np.frombuffer(goals.params[4:], np.uint8).reshape(12, 5)[:, 1:].copy().view("<i4")[:, 0]
    assert values.tolist() == ready.servos(x.PRESENT_POSITION)
    assert ready.bus.writes() == [*ARMING, "Goal Position"]
    assert ready.servos(x.TORQUE_ENABLE) == [1] * 12
    assert ready.servos(x.BUS_WATCHDOG) == [5] * 12
    assert ready.servos(x.POSITION_P_GAIN) == [700] * 12


def test_every_further_target_is_one_sync_write(ready: Rig) -> None:
    ready.track()
    ready.bus.sent.clear()
    target = np.clip(ROBOT.default_rad + 0.05, ROBOT.position_min_rad, ROBOT.position_max_rad)
    ready.track(target)
    assert ready.bus.writes() == ["Goal Position"]
    for servo in ready.bus.servos.values():
        servo[x.PRESENT_POSITION] = servo[x.GOAL_POSITION]
    np.testing.assert_allclose(ready.body.read(1.0).joint_pos_rad, target, atol=math.pi / 4096)


def test_goals_at_the_limits_are_accepted_by_the_servos(ready: Rig) -> None:
    ready.track()
    forward = np.array([joint.sign for joint in ROBOT.joint]) > 0
    low, high = ready.servos(x.MIN_POSITION_LIMIT), ready.servos(x.MAX_POSITION_LIMIT)
    ready.track(ROBOT.position_max_rad)
    assert ready.servos(x.GOAL_POSITION) == np.where(forward, high, low).tolist()
    ready.track(ROBOT.position_min_rad)
    assert ready.servos(x.GOAL_POSITION) == np.where(forward, low, high).tolist()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e300, 0.7, -0.61])
def test_a_target_that_must_not_be_never_becomes_bytes(ready: Rig, bad: float) -> None:
    target = ROBOT.default_rad.copy()
    target[0] = bad  # abduction: -0.6 to 0.6
    with pytest.raises(DeviceError, match=r"target of FL_abduction cannot be .* rad; allowed: -0.6 to 0.6"):
        ready.track(target)
    assert ready.bus.sent == []


def test_damping_is_no_stiffness_and_is_repeated(ready: Rig) -> None:
    ready.track()
    ready.bus.sent.clear()
    ready.command(CommandKind.DAMP)
    ready.command(CommandKind.DAMP)
    assert ready.bus.writes() == ["Position P Gain"] * 2
    assert ready.servos(x.POSITION_P_GAIN) == [0] * 12
    assert ready.servos(x.TORQUE_ENABLE) == [1] * 12


def test_limp_is_torque_off_and_is_repeated(ready: Rig) -> None:
    ready.track()
    ready.bus.sent.clear()
    ready.command(CommandKind.LIMP)
    ready.command(CommandKind.LIMP)
    assert ready.bus.writes() == ["Torque Enable"] * 2
    assert ready.servos(x.TORQUE_ENABLE) == [0] * 12


@pytest.mark.parametrize("kind", [CommandKind.DAMP, CommandKind.LIMP])
def test_targets_after_letting_go_arm_anew_where_the_joints_are(ready: Rig, kind: CommandKind) -> None:
    ready.track()
    ready.command(kind)
    ready.place(ROBOT.default_rad - 0.3)
    ready.body.read(1.0)
    ready.bus.sent.clear()
    ready.track()
    assert ready.bus.writes() == [*ARMING, "Goal Position"]


def test_a_joint_outside_its_limits_is_armed_at_the_limit(ready: Rig) -> None:
    ready.bus.servos[11][x.PRESENT_POSITION] = 3000
    ready.body.read(1.0)
    ready.track()
    assert ready.servos(x.TORQUE_ENABLE) == [1] * 12


# What must not arm --------------------------------------------------------------------------


def test_no_torque_before_every_joint_is_measured(ready: Rig) -> None:
    ready.bus.faults = [lambda reply: reply[:-1], lambda _: b""]
    ready.body.read(1.0)
    ready.track()
    assert ready.servos(x.TORQUE_ENABLE) == [0] * 12
    ready.body.read(1.1)
    ready.track()
    assert ready.servos(x.TORQUE_ENABLE) == [1] * 12


def test_no_torque_while_a_goal_is_not_where_the_joint_is(ready: Rig) -> None:
    ready.bus.servos[22].stuck[x.GOAL_POSITION] = 900
    ready.track()
    assert ready.servos(x.TORQUE_ENABLE) == [0] * 12
    assert ready.servos(x.POSITION_P_GAIN) == [700] * 12


def test_no_torque_without_a_watchdog(ready: Rig) -> None:
    ready.bus.servos[22].stuck[x.BUS_WATCHDOG] = 0
    ready.track()
    assert ready.servos(x.TORQUE_ENABLE) == [0] * 12


def test_a_lost_packet_while_arming_delays_it_by_a_tick(ready: Rig) -> None:
    for instruction in (0, 1, 2):  # the three read-backs
        ready.command(CommandKind.LIMP)
        ready.bus.faults = [lambda reply: reply] * instruction + [lambda _: b""] * 2
        ready.track()
        assert ready.servos(x.TORQUE_ENABLE) == [0] * 12
        ready.bus.faults.clear()
        ready.track()
        assert ready.servos(x.TORQUE_ENABLE) == [1] * 12


# The cable ----------------------------------------------------------------------------------


def test_after_a_trip_nothing_moves_before_an_explicit_rearm(ready: Rig) -> None:
    ready.track()
    goals = ready.servos(x.GOAL_POSITION)
    ready.bus.trip()
    ready.place(ROBOT.default_rad + 0.1)
    ready.body.read(1.0)
    ready.track(ROBOT.default_rad - 0.1)
    ready.command(CommandKind.LIMP)
    ready.track(ROBOT.default_rad - 0.1)
    assert ready.servos(x.GOAL_POSITION) == goals
    assert ready.servos(x.TORQUE_ENABLE) == [0] * 12
    assert ready.servos(x.BUS_WATCHDOG) == [x.WATCHDOG_TRIPPED] * 12


def test_rearm_takes_the_stiffness_away_before_goals_count_again(ready: Rig) -> None:
    ready.track()
    ready.bus.trip()
    ready.bus.sent.clear()
    ready.body.rearm()
    assert ready.bus.writes() == ["Position P Gain", "Bus Watchdog"]
    assert ready.servos(x.POSITION_P_GAIN) == [0] * 12
    assert ready.servos(x.BUS_WATCHDOG) == [0] * 12
    ready.body.read(1.0)
    ready.bus.sent.clear()
    ready.track()
    assert ready.bus.writes() == [*ARMING, "Goal Position"]
    assert ready.servos(x.BUS_WATCHDOG) == [5] * 12


def test_a_pulled_cable_only_ages(ready: Rig) -> None:
    ready.track()
    ready.bus.silence(99)
    for tick in range(1, 4):
        state = ready.body.read(0.02 * tick)
        assert state.joint_age_s.max() == pytest.approx(0.02 * tick)
        ready.track()
        ready.command(CommandKind.DAMP)
    ready.bus.faults.clear()
    assert ready.body.read(1.0).joint_age_s.max() == 0.0


def test_a_vanished_port_only_ages_and_is_opened_when_it_is_back(
    ready: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robotrl.drivers.port._REOPEN_INTERVAL_S", 0.0)
    ready.track()
    ready.bus.gone, ready.present = True, False
    state = ready.body.read(0.5)
    assert state.joint_age_s.min() == 0.5
    assert state.imu_age_s == 0.0
    for kind in (CommandKind.DAMP, CommandKind.LIMP):
        ready.command(kind)
    ready.track()
    ready.body.rearm()
    ready.bus.gone, ready.present = False, True
    assert ready.body.read(1.0).joint_age_s.max() == 0.0
    assert ready.opened.count(("servo port", 1000000)) == 2


def test_arming_waits_for_a_port_that_has_vanished(ready: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robotrl.drivers.port._REOPEN_INTERVAL_S", 0.0)
    ready.bus.gone = True
    ready.body.read(1.0)
    ready.bus.gone = False
    ready.track()  # the last read brought nothing: where the joints are is not known
    assert ready.servos(x.TORQUE_ENABLE) == [0] * 12


def test_close_sends_nothing_and_releases_the_ports(ready: Rig) -> None:
    ready.body.close()
    ready.body.close()
    assert ready.bus.sent == []
    assert ready.bus.closed
    assert ready.imu.closed
    with pytest.raises(DeviceError, match="not open"):
        ready.body.read(1.0)


# Two buses ----------------------------------------------------------------------------------


@pytest.fixture
def two() -> tuple[RobotSpec, dict[str, FakeBus], SerialBody]:
    """Every second joint on a second bus: the robot, its buses, and its body, opened."""
    joints = tuple(
        dataclasses.replace(joint, bus="odd" if k % 2 else "even") for k, joint in enumerate(ROBOT.joint)
    )
    legs = ROBOT.bus["legs"]
    robot = dataclasses.replace(ROBOT, joint=joints, bus={"even": legs, "odd": legs})
    buses = {name: FakeBus(j.id for j in joints if j.bus == name) for name in robot.bus}
    ports = {name: name for name in (*robot.bus, "imu")}
    imu = FakeImu()
    body = SerialBody(robot, ports, lambda path, _: buses.get(path, imu))
    body.open()
    return robot, buses, body


@pytest.mark.parametrize("kind", [CommandKind.DAMP, CommandKind.LIMP])
def test_no_error_of_one_bus_leaves_another_one_stiff(
    two: tuple[RobotSpec, dict[str, FakeBus], SerialBody], kind: CommandKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    robot, buses, body = two
    body.read(0.0)
    body.write(JointCommand(CommandKind.TRACK, robot.default_rad))
    register = x.POSITION_P_GAIN if kind is CommandKind.DAMP else x.TORQUE_ENABLE
    assert all(servo[register] for servo in buses["odd"].servos.values())

    def fail(data: bytes) -> None:
        raise OSError("Protocol error")  # what no port of ours lets through

    monkeypatch.setattr(buses["even"], "write", fail)
    with pytest.raises(OSError, match="Protocol error"):
        body.write(JointCommand(kind, np.full(12, np.nan)))
    assert not any(servo[register] for servo in buses["odd"].servos.values())


def test_joints_of_several_buses_come_in_spec_order(
    two: tuple[RobotSpec, dict[str, FakeBus], SerialBody],
) -> None:
    """Values and targets still go where they belong."""
    robot, buses, body = two
    joints = robot.joint
    for k, joint in enumerate(joints):
        buses[joint.bus].servos[joint.id][x.PRESENT_TEMPERATURE] = 30 + k
    assert body.read(0.0).temperature_c.tolist() == list(range(30, 42))
    body.write(JointCommand(CommandKind.TRACK, robot.default_rad))
    for joint in joints:
        goal = buses[joint.bus].servos[joint.id][x.GOAL_POSITION]
        assert goal == round(2048 + joint.sign * joint.default_rad * 4096 / (2 * math.pi))
    buses["odd"].silence(9)
    assert body.read(0.1).joint_age_s.tolist() == [0.0, 0.1] * 6
