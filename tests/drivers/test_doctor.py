"""Laws of the doctor: each thing that is wrong with a bus is found, with what repairs it, and no more."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from robotrl.drivers.doctor import (
    examine_crew,
    examine_fast_sync_read,
    examine_firmware,
    examine_port,
    examine_servos,
    latency_ms,
)
from robotrl.drivers.scan import Found
from robotrl.drivers.servo import Line
from robotrl.spec.buses import ServoProtocol
from robotrl.spec.robot import load_robot
from robotrl.spec.shipped import find_shipped
from tests.drivers.workbench import IDS, PROTOCOLS, Workbench

PORT = "/dev/ttyUSB0"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A computer with one FTDI adapter whose timer is right."""
    for folder in ("dev", "proc/4242/fd", "sys/bus/usb-serial/devices/ttyUSB0"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "dev/ttyUSB0").touch()
    set_timer(tmp_path, "1\n")
    return tmp_path


def set_timer(root: Path, text: str) -> None:
    (root / "sys/bus/usb-serial/devices/ttyUSB0/latency_timer").write_text(text)


def hold(root: Path, name: str) -> None:
    (root / "proc/4242/comm").write_text(f"{name}\n")
    (root / "proc/4242/fd/7").symlink_to(root / "dev/ttyUSB0")


def found(id_: int, model: str = "XC430-W240-T", firmware: str = "45", baud_bd: int = 1000000) -> Found:
    return Found(id_, 1080, model, firmware, "dynamixel2", baud_bd)


def test_a_sound_port_has_no_findings(root: Path) -> None:
    assert examine_port(PORT, root) == []


def test_an_adapter_without_a_timer_has_no_findings(root: Path) -> None:
    (root / "sys/bus/usb-serial/devices/ttyUSB0/latency_timer").unlink()
    assert examine_port(PORT, root) == []
    assert latency_ms(PORT, root) is None


@pytest.mark.parametrize(("timer", "count"), [("0", 0), ("1", 0), ("2", 1), ("no number", 0)])
def test_more_than_a_millisecond_of_latency_is_too_much(timer: str, count: int, root: Path) -> None:
    set_timer(root, timer)
    assert len(examine_port(PORT, root)) == count


def test_the_16_ms_latency_timer_is_found_and_the_port_still_used(root: Path) -> None:
    set_timer(root, "16\n")
    (finding,) = examine_port(PORT, root)
    assert finding.problem == "the adapter of /dev/ttyUSB0 holds received bytes back for 16 ms"
    assert finding.fix == "echo 1 | sudo tee /sys/bus/usb-serial/devices/ttyUSB0/latency_timer"
    assert finding.harmless
    assert latency_ms(PORT, root) == 16


def test_a_missing_port_is_found_and_those_that_exist_are_named(root: Path) -> None:
    (finding,) = examine_port("/dev/ttyUSB7", root)
    assert "/dev/ttyUSB7 does not exist; serial ports here: /dev/ttyUSB0" in finding.problem
    assert not finding.harmless


def test_a_forbidden_port_is_found_with_the_group_that_is_missing(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    (finding,) = examine_port(PORT, root)
    group = (root / "dev/ttyUSB0").group()
    assert finding.fix == f"sudo usermod -aG {group} $USER, then log out and in"
    assert not finding.harmless


@pytest.mark.parametrize(
    ("name", "fix"),
    [("minicom", "kill 4242"), ("ModemManager", "sudo systemctl disable --now ModemManager")],
)
def test_who_holds_the_port_is_found(name: str, fix: str, root: Path) -> None:
    hold(root, name)
    (finding,) = examine_port(PORT, root)
    assert finding.problem == f"/dev/ttyUSB0 is in use by {name} (process 4242)"
    assert finding.fix == fix
    assert not finding.harmless


def test_a_file_that_is_no_port_is_found(tmp_path: Path) -> None:
    (tmp_path / "notes").touch()
    (finding,) = examine_port(str(tmp_path / "notes"))
    assert "is no serial port" in finding.problem


def test_a_pseudo_terminal_is_a_port() -> None:
    host, device = os.openpty()
    try:
        assert examine_port(os.ttyname(device)) == []
    finally:
        os.close(host)
        os.close(device)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_setting_that_slows_or_silences_a_servo_is_found_alone(protocol: ServoProtocol) -> None:
    bench = Workbench(protocol)
    series = bench.line.series
    service = series.service
    servos = [bench.find(id_) for id_ in IDS]
    if service.return_delay is not None:
        for id_ in IDS:
            bench.servo(id_)[service.return_delay] = 0
    assert examine_servos(servos) == []
    wrong = [(service.status_level, 0, "does not acknowledge"), (series.health, 0x20, "overload")]
    if service.return_delay is not None:
        wrong.append((service.return_delay, 250, "waits 500 us"))
    for register, value, said in wrong:
        sound = bench.servo(12)[register]
        bench.servo(12)[register] = value
        (finding,) = examine_servos(servos)
        assert "servo 12" in finding.problem
        assert said in finding.problem
        bench.servo(12)[register] = sound


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_hardware_errors_are_named_with_what_clears_them(protocol: ServoProtocol) -> None:
    bench = Workbench(protocol)
    series = bench.line.series
    if series.service.return_delay is not None:
        bench.servo(12)[series.service.return_delay] = 0
    bench.servo(12)[series.health] = 0x24
    (finding,) = examine_servos([bench.find(12)])
    assert finding.problem == "servo 12: reports overheating, overload"
    place = "--port bench --protocol dynamixel2 --baud 1000000 --id 12"
    clears = f"robotrl bus reboot {place}" if protocol == "dynamixel2" else "cycle its power"
    assert finding.fix == f"remove the cause, then {clears}"


def test_a_servo_that_answers_pings_only_is_found() -> None:
    bench = Workbench("dynamixel2")
    servo = bench.find(12)
    bench.port.silence(100)
    (finding,) = examine_servos([servo])
    assert "servo 12: answers pings but no reads" in finding.problem
    assert finding.fix.startswith('robotrl bus write "Status Return Level" 2 --port bench')


def test_what_several_servos_have_is_one_finding_with_one_command() -> None:
    bench = Workbench("dynamixel2")
    (finding,) = examine_servos([bench.find(id_) for id_ in IDS])
    assert finding.problem == "servo 11, 12, 13: waits 500 us before each answer"
    assert finding.fix.endswith("--id 11,12,13")


def test_mixed_firmware_is_found_within_a_model_only() -> None:
    same = [found(1), found(2), found(3, "XL330-M288-T", "50")]
    assert examine_firmware(same) == []
    (finding,) = examine_firmware([*same, found(4, firmware="43")])
    assert finding.problem == "XC430-W240-T servos have mixed firmware: 45 in 1, 2; 43 in 4"


def test_firmware_too_old_for_fast_sync_read_is_found() -> None:
    (finding,) = examine_fast_sync_read(
        [found(1, firmware="44"), found(2, firmware="45"), found(3, firmware="")]
    )
    assert "servo 1 has firmware 44" in finding.problem


def test_missing_servos_and_those_at_another_speed_are_found_by_joint() -> None:
    robot = load_robot(find_shipped("hardware", "quad12"))
    line = Line(PORT, "dynamixel2", 1000000)
    crew = [found(joint.id) for joint in robot.joint]
    assert examine_crew(robot.joint, crew, line) == []
    other = [found(13, baud_bd=57600), *crew[1:2], *crew[3:]]
    missing, slow = examine_crew(robot.joint, other, line)
    assert f"servo 11 ({robot.joint[0].name}) does not answer" in missing.problem
    assert f"servo 13 ({robot.joint[2].name}) is at 57600 baud" in slow.problem
    place = "--port /dev/ttyUSB0 --protocol dynamixel2 --baud 57600"
    assert slow.fix == f"robotrl bus set-baud {place} --id 13 --to 1000000"
