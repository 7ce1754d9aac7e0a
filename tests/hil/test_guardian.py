"""A real loop is killed or stopped while it drives an emulated robot: what the servos' registers hold then.

Emulated time passes with the traffic and the loop may be silent for long, so that a busy computer changes
nothing; `robotrl bench stall` measures the times.
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from robotrl.bench.stall import Stall, strike
from robotrl.drivers import servo_bus
from robotrl.drivers.port import SerialPort
from robotrl.drivers.series import SERIES
from robotrl.runtime.modes import Mode
from robotrl.spec.records import load_toml
from robotrl.spec.robot import RobotSpec, load_robot
from robotrl.spec.shipped import find_shipped
from tests.emulator.process import PATIENCE_S, Emulator
from tests.feetech_robot import table
from tests.spec.toml_text import to_toml

PATIENT_LOOP = str(Path(__file__).with_name("patient_loop.py"))
WATCHDOG_S = 2.0
DIED = "robotrl guardian: the control loop has died; every servo's torque is off\n"
SILENT = f"robotrl guardian: the control loop was silent for {WATCHDOG_S} s; every servo's torque is off\n"
GIVES_WAY = "the guardian has turned the torque off, because the control loop was silent too long"


def quad12() -> dict[str, Any]:
    """robot.toml of the shipped robot, whose servos hold where they are when their own watchdog trips."""
    file = find_shipped("hardware", "quad12")
    robot = load_toml(file)
    return robot | {"model": str(file.parent / robot["model"])}


def torque_after(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    robot: dict[str, Any],
    kind: Stall,
    *,
    guardian: bool = True,
) -> tuple[set[int], str]:
    """Stall the loop of a robot; return what is found in its Torque Enable registers, and what was said."""
    robot["bus"]["legs"] |= {"watchdog_s": WATCHDOG_S, "reply_timeout_s": 0.1}
    robot["limits"] |= {"joint_stale_s": 60.0, "imu_stale_s": 60.0}
    file = folder / "robot.toml"
    file.write_text(to_toml(robot), encoding="utf-8")
    command = [sys.executable, "-m", "robotrl", "emulate", str(file), "--clock", "bus"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        emulated = Emulator(process)
        _, said = strike(
            kind,
            Mode.RISE,
            emulated.ports,
            robot=str(file),
            guardian=guardian,
            send=emulated.tell,
            loop_program=(PATIENT_LOOP,),
        )
        monkeypatch.setattr(servo_bus, "PATIENCE_S", PATIENCE_S)
        found = torque(load_robot(file), emulated.ports["legs"])
        assert emulated.stop() == 0
    return found, said


def torque(robot: RobotSpec, path: str) -> set[int]:
    """What the torque registers of all servos hold."""
    spec = dataclasses.replace(robot.bus["legs"], port=path)
    series = SERIES[spec.protocol]
    port = SerialPort(path, spec.baud_bd)
    replies = series.bus(port, spec, [joint.id for joint in robot.joint]).read_patiently(series.torque)
    port.close()
    assert replies.fresh.all()
    return set(replies.values(series.torque).tolist())


def test_a_killed_loop_leaves_a_limp_robot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one whose servos have no watchdog."""
    found, said = torque_after(monkeypatch, tmp_path, table("feetech_sts"), Stall.KILL)
    assert found == {0}
    assert said.endswith(DIED)


def test_a_stopped_loop_that_goes_on_ends_and_its_robot_stays_limp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, said = torque_after(monkeypatch, tmp_path, quad12(), Stall.STOP)
    assert found == {0}
    assert said.startswith(SILENT)
    assert GIVES_WAY in said


def test_without_a_guardian_its_servos_hold_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is the guardian that makes them limp, not their own watchdog."""
    found, said = torque_after(monkeypatch, tmp_path, quad12(), Stall.KILL, guardian=False)
    assert found == {1}
    assert said == ""
