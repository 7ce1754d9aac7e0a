"""The real driver on emulated Feetech servos with physics behind: stands, loses its cable, hears noise."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from robotrl.drivers import sts
from robotrl.drivers.body import SerialBody
from robotrl.drivers.port import ReopeningPort, SerialPort
from robotrl.drivers.series import SERIES
from robotrl.drivers.servo_bus import ServoBus
from robotrl.emulator.faults import FaultScript, Noise
from robotrl.emulator.feetech_servos import FeetechServos
from robotrl.emulator.machine import Machine
from robotrl.errors import PortError
from robotrl.spec.buses import ServoProtocol
from robotrl.spec.state import CommandKind, Floats, JointCommand, RobotState
from tests.drivers.machine_line import MachineLines
from tests.emulator.served import ServedServos
from tests.feetech_robot import feetech_robot

PERIOD_S = 0.02


class Robot:
    """An opened body and the machine behind it."""

    def __init__(self, protocol: ServoProtocol, script: FaultScript) -> None:
        self.spec = feetech_robot(protocol)
        self.machine = Machine(self.spec, script, seed=0, log=False)
        self.lines = MachineLines(self.machine)
        ports = {"legs": "legs", "imu": "imu"}
        self.body = SerialBody(self.spec, ports, lambda path, _: self.lines.port(path), guarded=True)
        self.body.open()
        self._tick_s = self.lines.now_s

    def tick(self, target_rad: Floats | None = None) -> RobotState:
        """Wait for the next period, read, and follow the target if there is one."""
        self._tick_s += PERIOD_S
        self.lines.live_until(self._tick_s)
        state = self.body.read(self._tick_s)
        if target_rad is not None:
            self.body.write(JointCommand(CommandKind.TRACK, target_rad))
        return state

    def stand_up(self) -> RobotState:
        """Follow a ramp from the measured posture to the default one, and wait a moment."""
        spec = self.spec
        state = self.tick()
        start = np.clip(state.joint_pos_rad, spec.position_min_rad, spec.position_max_rad)
        for step in range(75):
            share = min(1.0, step / 50)
            state = self.tick((1 - share) * start + share * spec.default_rad)
        return state


@pytest.mark.parametrize("protocol", ["feetech_sts", "feetech_scs"])
def test_the_robot_stands_up_on_feetech_servos(protocol: ServoProtocol) -> None:
    robot = Robot(protocol, FaultScript())
    state = robot.stand_up()
    assert np.abs(state.joint_pos_rad - robot.spec.default_rad).max() < 0.2
    assert state.joint_age_s.max() == 0.0
    assert not state.hardware_error.any()
    assert robot.machine.buses["legs"].torque_enabled.all()
    truth = robot.machine.plant.joint_pos_rad()
    assert np.abs(state.joint_pos_rad - truth).max() < 0.01


def test_a_pulled_cable_ages_every_joint_and_the_servos_hold_their_goal() -> None:
    robot = Robot("feetech_sts", FaultScript())
    robot.stand_up()
    goal = robot.machine.buses["legs"].goal_rad.copy()
    robot.machine.cables["legs"].unplug()
    ages = [robot.tick(robot.spec.park_rad).joint_age_s for _ in range(5)]
    np.testing.assert_allclose([age.min() for age in ages], PERIOD_S * np.arange(1, 6), atol=1e-9)
    np.testing.assert_array_equal(robot.machine.buses["legs"].goal_rad, goal)
    assert robot.machine.buses["legs"].torque_enabled.all()  # no watchdog: why a guardian is needed
    robot.machine.cables["legs"].plug()
    assert robot.tick().joint_age_s.max() == 0.0


def test_servos_behind_a_missing_one_are_heard_after_one_tick() -> None:
    robot = Robot("feetech_sts", FaultScript())
    firmware = robot.machine.buses["legs"]
    assert isinstance(firmware, FeetechServos)
    robot.tick()
    firmware.tables.put(4, sts.ID, 99)
    robot.tick()
    for ticks in range(2, 6):
        age_s = robot.tick().joint_age_s
        assert age_s[4] == pytest.approx(ticks * PERIOD_S)
        assert np.delete(age_s, 4).max() == 0.0


def test_noise_on_the_wire_never_becomes_a_value() -> None:
    noise = Noise("legs", 0.5, 1e9, drop=0.05, damage=0.1)
    robot = Robot("feetech_sts", FaultScript(noise=(noise,)))
    robot.stand_up()
    missed = 0
    for _ in range(150):
        state = robot.tick(robot.spec.default_rad)
        missed += int((state.joint_age_s > 0).sum())
        truth = robot.machine.plant.joint_pos_rad()
        fresh = state.joint_age_s == 0
        assert np.abs(state.joint_pos_rad - truth)[fresh].max(initial=0.0) < 0.02
        assert set(state.temperature_c) <= set(np.arange(20.0, 60.0))
    assert missed < 0.2 * 150 * 12


# Through a pseudo-terminal -------------------------------------------------------------------


def served_bus(path: str) -> tuple[ServoBus, list[str]]:
    """A driver on a device file, and the list from which it takes the file when it has to open it anew."""
    paths = [path]
    spec = dataclasses.replace(feetech_robot().bus["legs"], reply_timeout_s=0.1)
    port = ReopeningPort(lambda: SerialPort(paths[0], spec.baud_bd))
    ids = [joint.id for joint in feetech_robot().joint]
    return SERIES["feetech_sts"].bus(port, spec, ids), paths


def test_an_adapter_that_echoes_changes_nothing() -> None:
    with ServedServos() as served:
        served.echo = True
        bus, _ = served_bus(served.path)
        assert [bus.ping(id_) for id_ in bus.ids] == [777] * 12
        assert bus.ping(99) is None
        bus.sync_write(sts.GOAL_POSITION, np.arange(1000, 1012))
        for _ in range(5):
            replies = bus.read_register(sts.GOAL_POSITION)
            assert replies.fresh.all()
            assert replies.values(sts.GOAL_POSITION).tolist() == list(range(1000, 1012))
        bus.write(13, sts.P_GAIN, 17)
        assert served.bus.tables.of(sts.P_GAIN, 2) == 17


def test_an_adapter_that_is_pulled_and_comes_back_under_another_name_is_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("robotrl.drivers.port._REOPEN_INTERVAL_S", 0.0)
    with ServedServos() as served:
        bus, paths = served_bus(served.path)
        assert bus.read_register(sts.PRESENT_POSITION).fresh.all()
    for _ in range(3):
        with pytest.raises(PortError):
            bus.read_register(sts.PRESENT_POSITION)
    with ServedServos() as again:
        paths[0] = again.path
        assert bus.read_register(sts.PRESENT_POSITION).fresh.all()
