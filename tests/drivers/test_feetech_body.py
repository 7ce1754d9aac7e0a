"""A body of Feetech servos over a fake line: configured, armed, measured, and refused without a guardian."""

from __future__ import annotations

import numpy as np
import pytest

from robotrl.drivers import scs, sts
from robotrl.drivers.body import SerialBody
from robotrl.drivers.feetech import Code, HardwareError
from robotrl.drivers.handshake import configuration
from robotrl.drivers.models import MODELS
from robotrl.drivers.registers import Area, Register
from robotrl.drivers.series import SERIES
from robotrl.errors import DeviceError, PortError
from robotrl.spec.buses import ServoProtocol
from robotrl.spec.state import CommandKind, JointCommand
from tests.drivers.fake_bus import FakeImu
from tests.drivers.fake_feetech import FakeFeetechBus
from tests.feetech_robot import feetech_robot

PROTOCOLS: tuple[ServoProtocol, ...] = ("feetech_sts", "feetech_scs")
LOCKS = {"feetech_sts": sts.LOCK, "feetech_scs": scs.LOCK}


class Rig:
    """A body, the servos and the IMU behind it, and whether the servos' port exists."""

    def __init__(self, protocol: ServoProtocol, *, guarded: bool = True) -> None:
        self.robot = feetech_robot(protocol)
        self.series = SERIES[protocol]
        table = MODELS[self.robot.servo["feetech"].model_number]
        ids = [joint.id for joint in self.robot.joint]
        self.bus = FakeFeetechBus(table, ids, has_sync_read=protocol == "feetech_sts")
        self.imu = FakeImu()
        self.present = True
        self.lock = LOCKS[protocol]
        ports = {"legs": "servo port", "imu": "imu port"}
        self.body = SerialBody(self.robot, ports, self._open, guarded=guarded)
        for joint, angle in zip(self.robot.joint, self.robot.default_rad, strict=True):
            count = joint.zero_count + joint.sign * angle * self.robot.servo_of(joint).counts_per_rad
            self.bus.servos[joint.id][self.series.measured.position] = round(count)

    def _open(self, path: str, baud_bd: int) -> FakeFeetechBus | FakeImu:
        assert baud_bd in (1000000, 115200)
        if path != "servo port":
            return self.imu
        if not self.present:
            raise PortError(f"port {path} does not exist")
        return self.bus

    def servos(self, register: Register) -> list[int]:
        """One register of every servo, in spec order."""
        return [self.bus.servos[joint.id][register] for joint in self.robot.joint]

    def command(self, kind: CommandKind) -> None:
        """One command; TRACK to the default posture."""
        self.body.write(JointCommand(kind, self.robot.default_rad))


@pytest.fixture(params=PROTOCOLS)
def rig(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setattr("robotrl.drivers.body._LISTEN_S", 0.0)
    monkeypatch.setattr("robotrl.drivers.port._REOPEN_INTERVAL_S", 0.0)
    return Rig(request.param)


@pytest.fixture
def ready(rig: Rig) -> Rig:
    """An open body, read once; what was sent so far is forgotten."""
    rig.body.open()
    rig.body.read(0.0)
    rig.bus.sent.clear()
    return rig


def test_opening_configures_every_servo_locks_the_eeprom_and_moves_nothing(rig: Rig) -> None:
    rig.body.open()
    for register, values in configuration(rig.robot, rig.robot.joint):
        assert rig.servos(register) == values.tolist(), register.name
    assert rig.servos(rig.lock) == [1] * 12
    assert rig.servos(rig.series.torque) == [0] * 12
    assert "Goal Position" not in rig.bus.writes()


def test_eeprom_is_written_only_between_unlocking_and_locking(rig: Rig) -> None:
    rig.body.open()
    eeprom = {r.name for r in rig.bus.servos[11].table.registers.values() if r.area is Area.EEPROM}
    names = rig.bus.writes()
    written = [at for at, name in enumerate(names) if name in eeprom - {"Response Status Level"}]
    locks = [at for at, name in enumerate(names) if name == "Lock"]
    assert locks[0] < min(written)
    assert max(written) < locks[-1]


def test_a_servo_that_holds_the_configuration_is_not_written_again(rig: Rig) -> None:
    rig.body.open()
    rig.body.close()
    rig.bus.sent.clear()
    rig.body.open()
    assert {p.params[0] for p in rig.bus.sent if p.code == Code.WRITE} == {rig.lock.address}


def test_a_servo_that_does_not_hold_what_was_written_is_refused(rig: Rig) -> None:
    limit = {"feetech_sts": sts, "feetech_scs": scs}[rig.robot.bus["legs"].protocol].MAX_TORQUE
    rig.bus.servos[31].stuck[limit] = 999
    rig.bus.servos[31][limit] = 999
    sentence = r"31 \(RL_abduction\): Max Torque \(16\) was written as 800 but reads 999"
    with pytest.raises(DeviceError, match=sentence):
        rig.body.open()
    assert rig.bus.closed


def test_another_model_is_refused(rig: Rig) -> None:
    register = {"feetech_sts": sts, "feetech_scs": scs}[rig.robot.bus["legs"].protocol].MODEL_NUMBER
    rig.bus.servos[22][register] = 1060
    sentence = r"servo 22 \(FR_hip\) has model number 1060; servo.feetech.model_number"
    with pytest.raises(DeviceError, match=sentence):
        rig.body.open()


def test_a_servo_that_counts_velocity_in_coarser_units_is_refused_and_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Limits on speed would be looked for at a fiftieth of it."""
    monkeypatch.setattr("robotrl.drivers.body._LISTEN_S", 0.0)
    rig = Rig("feetech_sts")
    joint = rig.robot.joint[4]
    rig.bus.servos[joint.id][sts.PHASE] = 8
    fix = f'robotrl bus write "Phase" 12 --id {joint.id}'
    with pytest.raises(DeviceError, match=rf"servo {joint.id} .*Phase \(18\) is 8, without bits 4, .*{fix}"):
        rig.body.open()
    assert rig.servos(sts.PHASE) == [12] * 4 + [8] + [12] * 7
    assert rig.servos(sts.TORQUE_ENABLE) == [0] * 12


def test_a_servo_in_trouble_is_refused_by_name_of_the_trouble(rig: Rig) -> None:
    rig.bus.servos[12][rig.series.health] = int(HardwareError.OVERLOAD | HardwareError.VOLTAGE)
    with pytest.raises(DeviceError, match=r"12 \(FL_hip\) reports hardware error voltage, overload"):
        rig.body.open()


def test_measurements_are_si_units_in_the_joints_direction(ready: Rig) -> None:
    measured = ready.series.measured
    for servo in ready.bus.servos.values():
        servo[measured.velocity], servo[measured.load] = -200, -500
        servo[measured.voltage], servo[measured.temperature] = 74, 41
    state = ready.body.read(1.0)
    sign = np.array([joint.sign for joint in ready.robot.joint])
    servo_type = ready.robot.servo["feetech"]
    np.testing.assert_allclose(
        state.joint_pos_rad, ready.robot.default_rad, atol=0.6 / servo_type.counts_per_rad
    )
    np.testing.assert_allclose(state.joint_vel_rad_s, -200 * servo_type.velocity_unit_rad_s * sign)
    np.testing.assert_allclose(state.joint_load, -0.5 * sign)
    np.testing.assert_allclose(state.voltage_v, 7.4)
    assert set(state.temperature_c) == {41.0}


def test_the_error_byte_is_the_hardware_error_as_long_as_it_lasts(ready: Rig) -> None:
    ready.bus.servos[13].error = int(HardwareError.OVERHEATING)
    assert ready.body.read(1.0).hardware_error[2] == HardwareError.OVERHEATING
    assert np.count_nonzero(ready.body.read(1.1).hardware_error) == 1
    ready.bus.servos[13].error = 0
    assert not ready.body.read(1.2).hardware_error.any()


def test_arming_sets_the_goal_where_the_joint_is_before_torque(ready: Rig) -> None:
    ready.command(CommandKind.TRACK)
    names = [name for name in ready.bus.writes() if not name.startswith("?")]
    assert names[0] == "Goal Position"
    assert names.index("Torque Enable") > 0
    assert names[-1] == "Goal Position"
    assert ready.servos(ready.series.torque) == [1] * 12
    assert ready.servos(ready.series.goal) == ready.servos(ready.series.measured.position)


def test_no_torque_if_one_goal_is_not_confirmed(ready: Rig) -> None:
    ready.bus.servos[22].stuck[ready.series.goal] = 7
    ready.command(CommandKind.TRACK)
    assert ready.servos(ready.series.torque) == [0] * 12


@pytest.mark.parametrize("kind", [CommandKind.DAMP, CommandKind.LIMP])
def test_damp_and_limp_take_the_stiffness_and_track_gives_it_back(ready: Rig, kind: CommandKind) -> None:
    ready.command(CommandKind.TRACK)
    ready.command(kind)
    register, value = (
        (ready.series.torque, 0)
        if kind is CommandKind.LIMP
        else (ready.series.stiffness, ready.series.damped)
    )
    assert ready.servos(register) == [value] * 12
    ready.body.read(1.0)
    ready.command(CommandKind.TRACK)
    assert ready.servos(ready.series.torque) == [1] * 12
    stiff = ready.series.stiff(ready.robot.servo["feetech"])
    assert ready.servos(ready.series.stiffness) == [stiff] * 12


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_without_a_guardian_nothing_moves(protocol: ServoProtocol) -> None:
    rig = Rig(protocol, guarded=False)
    rig.body.open()
    rig.body.read(0.0)
    rig.bus.sent.clear()
    with pytest.raises(DeviceError, match="bus legs: its servos have no watchdog, and no guardian"):
        rig.command(CommandKind.TRACK)
    assert rig.bus.sent == []
    rig.command(CommandKind.LIMP)
    assert rig.servos(rig.series.torque) == [0] * 12


def test_a_pulled_adapter_only_ages_and_is_used_again_when_it_is_back(ready: Rig) -> None:
    ready.command(CommandKind.TRACK)
    ready.bus.gone, ready.present = True, False
    for tick in range(1, 5):
        assert ready.body.read(0.1 * tick).joint_age_s.min() == pytest.approx(0.1 * tick)
        ready.command(CommandKind.TRACK)
    ready.bus.gone, ready.present = False, True
    assert ready.body.read(0.5).joint_age_s.max() == 0.0


def test_one_silent_servo_ages_alone(ready: Rig) -> None:
    del ready.bus.servos[21]
    ready.body.read(0.1)
    state = ready.body.read(0.2)
    assert state.joint_age_s[3] == pytest.approx(0.2)
    assert np.delete(state.joint_age_s, 3).max() == 0.0
