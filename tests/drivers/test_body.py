"""The body over fake ports: SI units and order, handshake, arming, and every way a cable can fail."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest

from robotrl.drivers import xseries as x
from robotrl.drivers.body import SerialBody
from robotrl.drivers.handshake import configuration
from robotrl.errors import BadInputError, DeviceError, PortError
from robotrl.spec.robot import RobotSpec, load_robot
from robotrl.spec.shipped import find_shipped
from robotrl.spec.state import CommandKind, JointCommand
from tests.drivers.fake_bus import FakeBus, FakeImu

ROBOT = load_robot(find_shipped("hardware", "quad12"))
IDS = [joint.id for joint in ROBOT.joint]
NAMES = ROBOT.joint_names


class Rig:
    """A body, the servos and the IMU behind it, and whether its ports exist."""

    def __init__(self, robot: RobotSpec = ROBOT) -> None:
        self.bus = FakeBus(joint.id for joint in robot.joint)
        self.imu = FakeImu()
        self.present = True
        self.opened: list[tuple[str, int]] = []
        self.body = SerialBody(robot, {"legs": "servo port", "imu": "imu port"}, self._open)
        for servo in self.bus.servos.values():
            servo[x.PRESENT_INPUT_VOLTAGE] = 121
            servo[x.PRESENT_TEMPERATURE] = 33

    def _open(self, path: str, baud_bd: int) -> FakeBus | FakeImu:
        if not self.present:
            raise PortError(f"port {path} does not exist")
        self.opened.append((path, baud_bd))
        return self.bus if path == "servo port" else self.imu

    def servos(self, register: x.Register) -> list[int]:
        """One register of every servo, in spec order."""
        return [self.bus.servos[id_][register] for id_ in IDS]

    def place(self, angle_rad: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
        """Turn the joints to these angles, through the definition in robot.toml."""
        for joint, angle in zip(ROBOT.joint, angle_rad, strict=True):
            count = joint.zero_count + joint.sign * angle * 4096 / (2 * math.pi)
            self.bus.servos[joint.id][x.PRESENT_POSITION] = round(count)

    def track(self, target_rad: object = None) -> None:
        """One TRACK command; the default posture if no target is given."""
        target = ROBOT.default_rad if target_rad is None else np.asarray(target_rad)
        self.body.write(JointCommand(CommandKind.TRACK, target))

    def command(self, kind: CommandKind) -> None:
        """One command without targets."""
        self.body.write(JointCommand(kind, np.full(len(IDS), np.nan)))


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    """A rig that is not open; it does not wait for an IMU that never comes."""
    monkeypatch.setattr("robotrl.drivers.body._LISTEN_S", 0.0)
    monkeypatch.setattr("robotrl.drivers.imu._COMMAND_GAP_S", 0.0)
    return Rig()


@pytest.fixture
def ready(rig: Rig) -> Rig:
    """An open rig in the default posture, read once; what was sent so far is forgotten."""
    rig.body.open()
    rig.place(ROBOT.default_rad)
    rig.body.read(0.0)
    rig.bus.sent.clear()
    return rig


# Opening ------------------------------------------------------------------------------------


def test_opening_configures_every_servo_and_moves_nothing(rig: Rig) -> None:
    rig.body.open()
    assert rig.opened == [("servo port", 1000000), ("imu port", 115200)]
    for register, values in configuration(ROBOT, ROBOT.joint):
        assert rig.servos(register) == values.tolist(), register.name
    assert rig.servos(x.TORQUE_ENABLE) == [0] * 12
    assert rig.servos(x.BUS_WATCHDOG) == [0] * 12
    assert "Goal Position" not in rig.bus.writes()


def test_the_configuration_is_that_of_robot_toml() -> None:
    written = {register.name: values for register, values in configuration(ROBOT, ROBOT.joint)}
    assert set(written["PWM Limit"]) == {708}
    assert set(written["Position P Gain"]) == {700}
    assert set(written["Temperature Limit"]) == {80}
    assert set(written["Max Voltage Limit"]) == {148}
    assert set(written["Min Voltage Limit"]) == {65}
    fl_hip, fr_hip = NAMES.index("FL_hip"), NAMES.index("FR_hip")  # -0.7 to 1.9 rad, signs + and -
    limits = list(zip(written["Min Position Limit"], written["Max Position Limit"], strict=True))
    assert limits[fl_hip] == (1592, 3287)
    assert limits[fr_hip] == (809, 2504)


def test_a_servo_that_holds_the_configuration_is_not_written_again(rig: Rig) -> None:
    rig.body.open()
    rig.body.close()
    rig.bus.sent.clear()
    rig.body.open()
    eeprom = {r.name for r in x.REGISTERS.values() if r.area is x.Area.EEPROM}
    assert not eeprom & {name for name in rig.bus.writes() if not name.startswith("?")}
    assert all(packet.code != 0x03 for packet in rig.bus.sent)


def test_a_servo_left_with_torque_on_and_a_tripped_watchdog_is_taken_over(rig: Rig) -> None:
    for servo in rig.bus.servos.values():
        servo[x.TORQUE_ENABLE], servo[x.BUS_WATCHDOG] = 1, x.WATCHDOG_TRIPPED
        servo[x.STATUS_RETURN_LEVEL] = 1
    rig.body.open()
    assert rig.servos(x.TORQUE_ENABLE) == [0] * 12
    assert rig.servos(x.STATUS_RETURN_LEVEL) == [2] * 12


Spoil = Callable[[Rig], None]


def wrong_model(rig: Rig) -> None:
    rig.bus.servos[22][x.MODEL_NUMBER] = 1060


def missing_servo(rig: Rig) -> None:
    del rig.bus.servos[13], rig.bus.servos[41]


def no_servo(rig: Rig) -> None:
    rig.bus.servos.clear()


def wrong_read_back(rig: Rig) -> None:
    rig.bus.servos[31].stuck[x.PWM_LIMIT] = 885


def stuck_torque(rig: Rig) -> None:
    rig.bus.servos[31][x.TORQUE_ENABLE] = rig.bus.servos[31].stuck[x.TORQUE_ENABLE] = 1


def overload(rig: Rig) -> None:
    rig.bus.servos[12][x.HARDWARE_ERROR_STATUS] = 0x21


def deaf_imu(rig: Rig) -> None:
    rig.imu.sending = rig.imu.obeys = False


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (wrong_model, r"servo 22 \(FR_hip\) has model number 1060; servo.xc430_w240.model_number is 1080"),
        (
            missing_servo,
            r"bus legs on servo port: no answer from servo 13 \(FL_knee\), servo 41 \(RR_abduction",
        ),
        (no_servo, "bus legs on servo port: no servo answers; check power, cable, baud rate and ids"),
        (wrong_read_back, r"31 \(RL_abduction\): PWM Limit \(36\) was written as 708 but reads 885"),
        (stuck_torque, r"31 \(RL_abduction\): Torque Enable \(64\) was written as 0 but reads 1"),
        (overload, r"12 \(FL_hip\) reports hardware error input voltage, overload"),
        (deaf_imu, "imu on imu port: acceleration.* do not arrive at 115200 baud"),
    ],
)
def test_opening_refuses_a_body_that_is_not_the_robot(rig: Rig, spoil: Spoil, sentence: str) -> None:
    spoil(rig)
    with pytest.raises(DeviceError, match=sentence):
        rig.body.open()
    assert rig.bus.closed


def test_a_missing_port_is_told_and_leaves_none_open(rig: Rig) -> None:
    rig.present = False
    with pytest.raises(PortError, match="port servo port does not exist"):
        rig.body.open()


def test_an_imu_with_factory_settings_is_configured(rig: Rig) -> None:
    rig.imu.sending = False
    rig.body.open()
    assert rig.imu.written.startswith(bytes.fromhex("FF AA 69 88 B5"))
    assert rig.imu.written.endswith(bytes.fromhex("FF AA 00 00 00"))


def test_an_imu_that_sends_everything_is_left_alone(rig: Rig) -> None:
    rig.body.open()
    assert rig.imu.written == b""


def test_opening_survives_lost_packets(rig: Rig) -> None:
    rig.bus.faults = ([lambda reply: reply] * 4 + [lambda _: b""]) * 12
    rig.body.open()
    assert rig.bus.faults == []
    assert rig.servos(x.PWM_LIMIT) == [708] * 12


def test_ports_that_the_robot_does_not_have_are_refused() -> None:
    with pytest.raises(BadInputError, match="no such port, got 'arms'; allowed: legs, imu"):
        SerialBody(ROBOT, {"arms": "x"})


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
    np.testing.assert_allclose(state.imu_accel_m_s2, [0, 0, 9.80665], atol=1e-3)


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


def test_joints_of_several_buses_come_in_spec_order() -> None:
    """Every second joint on a second bus: values and targets still go where they belong."""
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
    for k, joint in enumerate(joints):
        buses[joint.bus].servos[joint.id][x.PRESENT_TEMPERATURE] = 30 + k
    assert body.read(0.0).temperature_c.tolist() == list(range(30, 42))
    body.write(JointCommand(CommandKind.TRACK, robot.default_rad))
    for joint in joints:
        goal = buses[joint.bus].servos[joint.id][x.GOAL_POSITION]
        assert goal == round(2048 + joint.sign * joint.default_rad * 4096 / (2 * math.pi))
    buses["odd"].silence(9)
    assert body.read(0.1).joint_age_s.tolist() == [0.0, 0.1] * 6
