"""Laws of `robotrl bus`: text and JSON say the same, one sentence on failure, and nothing moves."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from robotrl.cli import main as cli
from robotrl.cli.bus_place import Place, parse_ids
from robotrl.cli.bus_register import Reboot, Write
from robotrl.cli.run import Run as Deploy
from robotrl.drivers import xseries as x
from robotrl.drivers.registers import Register
from robotrl.spec.buses import ServoProtocol
from robotrl.spec.robot import RobotSpec, load_robot
from robotrl.spec.shipped import find_shipped
from robotrl.spec.unit import load_unit
from tests.drivers.fake_bus import FakeBus
from tests.drivers.workbench import PROTOCOLS, Workbench

Run = Callable[..., tuple[int, str, str]]
AT = ("--port", "bench", "--baud", "1000000")
ACTIONS = ("scan", "ping", "read", "write", "set-id", "set-baud", "reboot", "monitor", "calibrate", "doctor")
NEED_ID = {"ping": [], "read": [], "write": ["goal position", "1"], "set-id": ["--to", "9"]}
NEED_ID |= {"set-baud": ["--to", "115200"], "reboot": [], "monitor": ["--samples", "1"]}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run_bus(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(["bus", *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run_bus


def bench_of(protocol: ServoProtocol, monkeypatch: pytest.MonkeyPatch) -> Workbench:
    bench = Workbench(protocol)
    monkeypatch.setattr("robotrl.drivers.port.SerialPort", bench.open)
    monkeypatch.setattr("robotrl.drivers.doctor.examine_port", lambda path: [])
    return bench


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Workbench:
    return bench_of("dynamixel2", monkeypatch)


@pytest.mark.parametrize("action", ACTIONS)
def test_help_of_every_action_shows_an_example_of_it(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["bus", action, "--help"])
    assert ended.value.code == 0
    assert f"robotrl bus {action}" in capsys.readouterr().out.partition("Example:")[2]


@pytest.mark.parametrize("action", ACTIONS)
def test_a_port_that_does_not_exist_is_one_sentence(action: str, run: Run) -> None:
    more = ["--id", "11", *NEED_ID[action]] if action in NEED_ID else []
    at = ["--port", "/dev/no-such-port"]
    if action == "calibrate":
        at = ["--robot", "quad12", "--serial", "none-such", "--port", "legs=/dev/no-such-port"]
    code, out, err = run(action, *at, *more)
    assert code in (cli.PROBLEM, cli.WRONG_USE)
    assert "/dev/no-such-port does not exist" in out + err
    assert err.count("\n") == (action != "doctor")


@pytest.mark.parametrize("action", NEED_ID)
def test_a_servo_that_is_not_there_is_exit_code_1(action: str, bench: Workbench, run: Run) -> None:
    code, out, err = run(action, *AT, "--id", "40", *NEED_ID[action])
    if action == "monitor":
        assert (code, "never" in out) == (0, True)
    else:
        assert (code, out) == (cli.PROBLEM, "")
        assert err.startswith("robotrl: servo 40 does not answer on bench at 1000000 baud")
    assert bench.sent_writes() == 0


@pytest.mark.parametrize(
    ("text", "ids"), [("11", (11,)), ("11,12", (11, 12)), ("21-23,11", (21, 22, 23, 11))]
)
def test_ids_are_a_list_with_ranges(text: str, ids: tuple[int, ...]) -> None:
    assert parse_ids(text) == ids


@pytest.mark.parametrize("action", [["write", "goal position", "1"], ["reboot"]])
@pytest.mark.parametrize("ids", ["23-21", "11,23-21", ""])
def test_ids_that_name_none_are_wrong_use_and_not_the_whole_robot(
    action: list[str], ids: str, bench: Workbench, run: Run
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(*action, "--robot", "quad12", "--port", "bench", "--id", ids)
    assert ended.value.code == cli.WRONG_USE
    assert bench.sent_writes() == 0


def test_no_ids_are_no_servos(bench: Workbench) -> None:
    place = Place("bench", robot="quad12")
    assert Reboot(place, ()).run() == 0
    assert Write(place, (), "goal position", 1.0).run() == 0
    assert bench.sent_writes() == 0


@pytest.mark.parametrize("text", ["", "x", "1,", "1-", "-3", "1.5", "1 2"])
def test_what_is_no_list_of_ids_is_wrong_use(text: str) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["bus", "ping", "--port", "bench", f"--id={text}"])
    assert ended.value.code == cli.WRONG_USE


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_scan_tells_id_model_firmware_and_baud(
    protocol: ServoProtocol, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = bench_of(protocol, monkeypatch)
    code, out, _ = run("scan", "--port", "bench", "--protocol", protocol)
    assert code == 0
    model = bench.find().table.model
    for id_ in (11, 12, 13):
        assert any({str(id_), model, "1000000"} <= set(line.split()) for line in out.splitlines())
    code, out, _ = run("scan", "--port", "bench", "--protocol", protocol, "--json")
    servos = [servo for heard in json.loads(out)["heard"] for servo in heard["servos"]]
    assert [(s["id"], s["model"], s["baud_bd"]) for s in servos] == [
        (i, model, 1000000) for i in (11, 12, 13)
    ]


def test_scan_of_an_empty_line_is_exit_code_1(bench: Workbench, run: Run) -> None:
    bench.port.servos.clear()
    code, out, err = run("scan", "--port", "bench")
    assert (code, out) == (cli.PROBLEM, "")
    assert err.startswith("robotrl: no servo answers on bench")


def test_read_by_name_gives_si_units_and_counts(bench: Workbench, run: Run) -> None:
    bench.servo(11)[x.PRESENT_POSITION] = 1024
    assert run("read", *AT, "--id", "11", "present position")[1] == (
        "Present Position (132) = 1.5708 rad (1024 counts)\n"
    )
    record = json.loads(run("read", *AT, "--id", "11", "present position", "--json")[1])["registers"][0]
    assert (record["counts"], record["value"], record["unit"]) == (1024, pytest.approx(1.570796327), "rad")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_read_without_a_name_lists_every_register(
    protocol: ServoProtocol, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = bench_of(protocol, monkeypatch)
    table = bench.find().table
    where = ("--port", "bench", "--baud", "1000000", "--protocol", protocol, "--id", "11")
    out = run("read", *where)[1]
    assert all(register.name in out for register in table.registers.values())
    assert len(json.loads(run("read", *where, "--json")[1])["registers"]) == len(table.registers)


def test_write_takes_si_units_or_counts(bench: Workbench, run: Run) -> None:
    run("write", *AT, "--id", "11", "min voltage limit", "7.5")
    assert bench.servo(11)[x.MIN_VOLTAGE_LIMIT] == 75
    code, out, _ = run("write", *AT, "--id", "11", "min voltage limit", "80", "--counts")
    assert (code, out) == (0, "servo 11: Min Voltage Limit (34) = 8 V (80 counts)\n")
    out = run("write", *AT, "--id", "11", "goal pwm", "-0.5", "--json")[1]
    assert json.loads(out)[0]["counts"] == bench.servo(11)[x.GOAL_PWM] == -442


@pytest.mark.parametrize(
    ("register", "value", "more", "said"),
    [
        ("present position", "1", [], "Present Position: is read only"),
        ("goal position", "7", [], "is out of range, got 7.0; allowed: 0 to 4095 counts"),
        ("goal position", "1.5", ["--counts"], "is no whole number of counts, got 1.5"),
        ("goal position", "nan", [], "is no number"),
        ("goal position", "inf", ["--counts"], "is no whole number of counts"),
        ("gaol position", "1", [], "is no register of XC430-W240-T, got 'gaol position'; allowed: Goal"),
        ("torque enable", "1", [], "turns torque on"),
        ("id", "4", [], "robotrl bus set-id"),
        ("baud rate", "1", [], "robotrl bus set-baud"),
    ],
)
def test_a_write_that_is_refused_sends_nothing(
    register: str, value: str, more: list[str], said: str, bench: Workbench, run: Run
) -> None:
    code, out, err = run("write", *AT, "--id", "11", register, value, *more)
    assert (code, out, err.count("\n")) == (cli.WRONG_USE, "", 1)
    assert said in err
    assert bench.sent_writes() == 0


def test_nothing_in_eeprom_changes_under_torque(bench: Workbench, run: Run) -> None:
    bench.servo(11)[x.TORQUE_ENABLE] = 1
    for action in (
        ["write", "shutdown", "0"],
        ["set-id", "--to", "9"],
        ["set-baud", "--to", "115200"],
        ["reboot"],
    ):
        code, out, err = run(*action, *AT, "--id", "11")
        assert (code, out, err.count("\n")) == (cli.PROBLEM, "", 1)
        assert "holds torque" in err
    assert bench.sent_writes() == 0


def test_set_id_and_set_baud_are_verified(bench: Workbench, run: Run) -> None:
    assert run("set-id", *AT, "--id", "11", "--to", "40")[:2] == (0, "servo 11 is now 40\n")
    assert run("set-baud", *AT, "--id", "40", "--to", "115200")[:2] == (
        0,
        "servo 40 answers at 115200 baud\n",
    )
    assert (
        json.loads(run("ping", "--port", "bench", "--baud", "115200", "--id", "40", "--json")[1])[0]["id"]
        == 40
    )


def test_a_reboot_tells_of_errors_that_are_left(bench: Workbench, run: Run) -> None:
    assert run("reboot", *AT, "--id", "11")[:2] == (0, "servo 11 is back\n")
    bench.servo(11)[x.HARDWARE_ERROR_STATUS] = 0x20
    code, out, _ = run("reboot", *AT, "--id", "11")
    assert (code, out) == (1, "servo 11 is back; Hardware Error Status is still 32\n")


def test_monitor_shows_every_servo_and_writes_nothing(bench: Workbench, run: Run) -> None:
    bench.servo(12)[x.PRESENT_POSITION] = 3072
    bench.servo(13)[x.HARDWARE_ERROR_STATUS] = 0x24
    where = (*AT, "--id", "11-13", "--samples", "3", "--rate-hz", "1000")
    code, out, _ = run("monitor", *where)
    assert code == 0
    assert "+4.712" in out
    assert "overheating" in out
    lines = [json.loads(line)["servos"] for line in run("monitor", *where, "--json")[1].splitlines()]
    assert len(lines) == 3
    assert [servo["errors"] for servo in lines[-1]] == ["", "", "overheating, overload"]
    assert lines[-1][1]["position_rad"] == pytest.approx(4.71238898)
    assert bench.sent_writes() == 0


def test_monitor_of_a_robot_shows_angles_of_joints(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    robot = load_robot(find_shipped("hardware", "quad12"))
    line = FakeBus(joint.id for joint in robot.joint)
    monkeypatch.setattr("robotrl.drivers.port.SerialPort", lambda path, baud_bd: line)
    for joint in robot.joint:
        counts = joint.zero_count + joint.sign * joint.default_rad * robot.servo_of(joint).counts_per_rad
        line.servos[joint.id][x.PRESENT_POSITION] = round(counts)
    out = run("monitor", "--robot", "quad12", "--port", "bench", "--samples", "1", "--json")[1]
    shown = json.loads(out)["servos"]
    assert [servo["joint"] for servo in shown] == list(robot.joint_names)
    assert [servo["position_rad"] for servo in shown] == pytest.approx(robot.default_rad.tolist(), abs=1e-3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "--port or --robot"),
        (["--port", "bench", "--bus", "legs"], "--bus: needs --robot"),
        (["--robot", "quad12", "--baud", "57600"], "come from robot.toml"),
        (["--robot", "quad12", "--bus", "arms"], "--bus: names no [bus], got 'arms'; allowed: legs"),
        (["--robot", "no-such-robot"], "no such file or shipped name"),
    ],
)
def test_a_place_that_contradicts_itself_is_wrong_use(
    options: list[str], said: str, bench: Workbench, run: Run
) -> None:
    for action in ("scan", "ping", "doctor", "monitor"):
        code, out, err = run(action, *options)
        assert (code, out, err.count("\n")) == (cli.WRONG_USE, "", 1)
        assert said in err
    assert bench.opened == []


def test_the_doctor_finds_nothing_wrong_with_a_sound_bus(bench: Workbench, run: Run) -> None:
    for id_ in (11, 12, 13):
        bench.servo(id_)[x.RETURN_DELAY_TIME] = 0
    assert run("doctor", "--port", "bench")[:2] == (0, "bench: 3 servos answer, nothing to repair\n")


def test_the_doctor_says_the_fix_as_a_command_that_works(bench: Workbench, run: Run) -> None:
    bench.servo(12)[x.STATUS_RETURN_LEVEL] = 1
    code, out, _ = run("doctor", "--port", "bench", "--json")
    findings: list[dict[str, Any]] = json.loads(out)["findings"]
    assert code == 1
    assert len(findings) == 2  # the return delays of all, and the level of one
    for finding in findings:
        command = finding["fix"].removeprefix("robotrl bus ").replace('"', "")
        words = command.split(" --port ")[0].split()
        name, value = " ".join(words[1:-1]), words[-1]
        assert run(words[0], name, value, *("--port " + command.split(" --port ")[1]).split())[0] == 0
    assert run("doctor", "--port", "bench")[0] == 0


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], None]]:
    """Lets a test press keys; the input ends after them."""
    read, write = os.pipe()
    with os.fdopen(read) as stdin, os.fdopen(write, "wb", buffering=0) as keys:
        monkeypatch.setattr(sys, "stdin", stdin)

        def press(data: bytes) -> None:
            keys.write(data)
            keys.close()

        yield press


@pytest.fixture
def own_robot(tmp_path: Path) -> Path:
    """A robot.toml that may get units."""
    shipped = find_shipped("hardware", "quad12")
    text = shipped.read_text(encoding="utf-8").replace('"model.xml"', f'"{shipped.parent / "model.xml"}"')
    (tmp_path / "robot.toml").write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def guided(own_robot: Path, monkeypatch: pytest.MonkeyPatch) -> FakeBus:
    """Servos whose joints stand at 20 counts beside zero and then are moved through their whole range."""
    robot = load_robot(own_robot / "robot.toml")
    line = FakeBus(joint.id for joint in robot.joint)
    monkeypatch.setattr("robotrl.drivers.port.SerialPort", lambda path, baud_bd: line)
    monkeypatch.setattr("robotrl.cli.bus_calibrate._LOOK_S", 0.0)

    def reach(prompt: str, look: Callable[[], None]) -> None:
        move(2068)
        for count in range(2068, 4000, 400) if "end to end" in prompt else ():
            move(count)
            look()
        for count in range(3900, 100, -400) if "end to end" in prompt else ():
            move(count)
            look()

    def move(count: int) -> None:
        for servo in line.servos.values():
            servo[x.PRESENT_POSITION] = count

    monkeypatch.setattr("robotrl.cli.bus_calibrate._wait_for_enter", reach)
    return line


def test_calibrate_writes_a_unit_that_loads(own_robot: Path, guided: FakeBus, run: Run) -> None:
    code, out, _ = run("calibrate", "--robot", str(own_robot), "--serial", "A7")
    assert code == 0
    assert "A7.toml" in out
    robot = load_robot(own_robot / "robot.toml")
    unit = load_unit(robot, "A7")
    assert {of.zero_count for of in unit.joint.values()} == {2068}
    assert {(of.count_min, of.count_max) for of in unit.joint.values()} == {(300, 3900)}
    assert not [packet for packet in guided.sent if packet.code in (0x03, 0x83)]
    code, out, err = run("calibrate", "--robot", str(own_robot), "--serial", "A7")
    assert (code, out) == (cli.WRONG_USE, "")
    assert "exists already" in err
    code, out, _ = run("calibrate", "--robot", str(own_robot), "--serial", "A7", "--replace", "--json")
    assert set(json.loads(out)["moved_counts"].values()) == {20}


def test_run_takes_the_zeros_of_a_unit(own_robot: Path, guided: FakeBus, run: Run) -> None:
    run("calibrate", "--robot", str(own_robot), "--serial", "A7")
    assert guided.sent
    _, robot = Deploy("quad12_walk", robot=str(own_robot), unit="A7")._load()
    assert isinstance(robot, RobotSpec)
    assert {joint.zero_count for joint in robot.joint} == {2068}
    _, robot = Deploy("quad12_walk", robot=str(own_robot))._load()
    assert isinstance(robot, RobotSpec)
    assert {joint.zero_count for joint in robot.joint} == {2048}


def test_run_refuses_a_unit_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "quad12_walk", "--unit", "no-such-unit"]) == cli.WRONG_USE
    assert "--unit: is no unit of quad12, got 'no-such-unit'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("register", "value", "said"),
    [(x.TORQUE_ENABLE, 1, "holds torque"), (x.HOMING_OFFSET, 300, "Homing Offset (20) is 300")],
    ids=["torque", "an offset that run would undo"],
)
def test_calibrate_refuses_servos_that_are_not_as_they_will_be(
    own_robot: Path, guided: FakeBus, run: Run, register: Register, value: int, said: str
) -> None:
    guided.servos[23][register] = value
    code, out, err = run("calibrate", "--robot", str(own_robot), "--serial", "A7")
    assert (code, out) == (cli.PROBLEM, "")
    assert "servo 23" in err
    assert said in err
    assert not (own_robot / "units").exists()


def test_monitor_takes_the_zeros_of_a_unit(own_robot: Path, guided: FakeBus, run: Run) -> None:
    run("calibrate", "--robot", str(own_robot), "--serial", "A7")
    for servo in guided.servos.values():
        servo[x.PRESENT_POSITION] = 2068
    where = ("--robot", str(own_robot), "--port", "bench", "--samples", "1", "--json")
    shown = json.loads(run("monitor", *where, "--unit", "A7")[1])["servos"]
    assert [servo["position_rad"] for servo in shown] == [0.0] * 12
    code, _, err = run("monitor", *AT, "--id", "11", "--unit", "A7")
    assert code == cli.WRONG_USE
    assert "--unit: needs --robot" in err


def test_an_input_that_ends_early_writes_nothing(
    own_robot: Path, run: Run, typed: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = FakeBus(joint.id for joint in load_robot(own_robot / "robot.toml").joint)
    monkeypatch.setattr("robotrl.drivers.port.SerialPort", lambda path, baud_bd: line)
    typed(b"\n")
    code, out, err = run("calibrate", "--robot", str(own_robot), "--serial", "A7")
    assert (code, out) == (cli.WRONG_USE, "")
    assert "ended before Enter was pressed" in err
    assert not (own_robot / "units").exists()
