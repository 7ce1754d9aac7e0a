"""The emulator as a process: its ports, its two clocks, its commands and its truth log, by raw bytes."""

from __future__ import annotations

import os
import select
import signal
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from robotrl.cli.main import main
from robotrl.drivers import dynamixel as dxl
from robotrl.drivers import imu as imu_codec
from robotrl.drivers import xseries as x
from robotrl.drivers.port import Port, ReopeningPort, SerialPort
from robotrl.errors import PortError
from tests.emulator.host import quad12
from tests.emulator.process import PATIENCE_S, emulator

IDS = [joint.id for joint in quad12().joint]
READ = dxl.sync_read(126, 21, IDS, fast=True)
READ_REPLY = 8 + 12 * (4 + 21)
STATUS = dxl.STATUS_OVERHEAD


@contextmanager
def opened(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        tty.setraw(fd)
        yield fd
    finally:
        os.close(fd)


def ask(fd: int, packet: bytes, reply_size: int) -> bytes:
    """Write a packet and wait for so many bytes."""
    os.write(fd, packet)
    data = b""
    while len(data) < reply_size:
        assert select.select([fd], [], [], PATIENCE_S)[0], "no reply"
        data += os.read(fd, 4096)
    return data


def waiting(fd: int) -> bytes:
    """What can be read now."""
    try:
        return os.read(fd, 65536)
    except BlockingIOError:
        return b""


def test_raw_bytes_on_the_bus_clock(tmp_path: Path) -> None:
    truth = tmp_path / "truth.npz"
    with emulator("--clock", "bus", "--truth", str(truth)) as robot:
        assert set(robot.ports) == {"legs", "imu"}
        with opened(robot.ports["legs"]) as legs, opened(robot.ports["imu"]) as imu:
            pong = ask(legs, dxl.ping(11), STATUS + 3)
            assert pong == dxl.StatusPacket(11, 0, bytes([0x38, 0x04, 45])).encode()
            for _ in range(5):
                blocks = dxl.decode_fast_reply(ask(legs, READ, READ_REPLY), 12, 21)
                assert [b.id for b in blocks] == IDS
            frames = imu_codec.FrameParser().feed(waiting(imu))
        assert robot.stop() == 0
    kinds = [kind for kind, _ in frames]
    assert kinds.count(imu_codec.Kind.QUATERNION) == pytest.approx(0.1 * 200, abs=2)
    with np.load(truth, allow_pickle=False) as log:
        # Five ticks of 20 ms, whatever the wall clock did meanwhile.
        assert 0.1 <= log["stamp_s"][-1] <= 0.11
        assert len(log["stamp_s"]) in (11, 12)


def conversation(seed: str) -> list[bytes]:
    """Torque on, a goal, a cable out and in, and everything that came back on both lines."""
    heard = []
    with emulator("--clock", "bus", "--seed", seed) as robot:
        with opened(robot.ports["legs"]) as legs, opened(robot.ports["imu"]) as imu:

            def tick(packet: bytes) -> None:
                heard.append(ask(legs, READ, READ_REPLY))
                heard.append(waiting(imu))
                heard.append(ask(legs, packet, STATUS))

            tick(dxl.write(12, x.TORQUE_ENABLE.address, b"\x01"))
            for count in range(2400, 2700, 20):
                tick(dxl.write(12, x.GOAL_POSITION.address, x.GOAL_POSITION.encode(count)))
            robot.tell("push 0.3 0.1")
            robot.tell("unplug imu")
            tick(dxl.write(12, x.LED.address, b"\x01"))
            robot.tell("plug imu")
            for _ in range(10):
                tick(dxl.write(12, x.LED.address, b"\x00"))
        assert robot.stop() == 0
    return heard


def test_two_runs_with_the_same_bytes_and_seed_are_identical_byte_for_byte() -> None:
    first = conversation("3")
    assert conversation("3") == first
    imu_of_each_tick = [len(data) for data in first[1::3]]
    assert imu_of_each_tick.count(0) == 1  # the tick with the IMU's cable out
    assert imu_of_each_tick[2:10] == [132] * 8


def test_the_wall_clock_answers_without_traffic_moving_time(tmp_path: Path) -> None:
    truth = tmp_path / "truth.npz"
    with emulator("--truth", str(truth)) as robot:
        with opened(robot.ports["legs"]) as legs, opened(robot.ports["imu"]) as imu:
            ask(imu, b"", 10 * imu_codec.FRAME_SIZE)
            ask(legs, dxl.write(11, x.BUS_WATCHDOG.address, b"\x01"), STATUS)
            ask(legs, dxl.write(11, x.TORQUE_ENABLE.address, b"\x01"), STATUS)
            tripped = robot.line()
            pulled = robot.tell("unplug legs")
            pushed = robot.tell("push 0.1 0")
            robot.tell("plug legs")
            reply = ask(legs, dxl.read(11, x.BUS_WATCHDOG.address, 1), STATUS + 1)
        robot.process.communicate(timeout=PATIENCE_S)  # closes its input, which also means stop
        assert robot.process.returncode == 0
    assert (tripped["event"], tripped["id"]) == ("watchdog", 11)
    assert tripped["stamp_s"] < pulled["stamp_s"] <= pushed["stamp_s"]
    assert reply == dxl.StatusPacket(11, 0, b"\xff").encode()
    with np.load(truth, allow_pickle=False) as log:
        assert np.diff(log["stamp_s"]) == pytest.approx(0.01)
        after = log["stamp_s"] > tripped["stamp_s"] - 1e-6  # a sample in the step of the trip shows it
        assert (log["watchdog_tripped"][:, 0] == after).all()
        assert not log["watchdog_tripped"][:, 1:].any()


def pinged(port: Port, *ids: int) -> list[int]:
    """Ping servos one after the other without waiting; return who answers, up to the last one."""
    for id_ in ids:
        port.write(dxl.ping(id_))
    parser, heard = dxl.PacketParser(), list[int]()
    deadline_s = time.monotonic() + PATIENCE_S
    while ids[-1] not in heard and (data := port.read(deadline_s)):
        heard += [packet.id for packet in parser.feed(data) if isinstance(packet, dxl.StatusPacket)]
    return heard


def test_an_adapter_that_is_out_takes_its_port_away_and_brings_it_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("robotrl.drivers.port._REOPEN_INTERVAL_S", 0.0)
    with emulator("--clock", "bus") as robot:
        path = robot.ports["legs"]
        port = ReopeningPort(lambda: SerialPort(path, 1000000))
        assert pinged(port, 11) == [11]
        robot.tell("eject legs")
        assert not Path(path).exists()
        for reason in ("gone away", "does not exist"):
            with pytest.raises(PortError, match=reason):
                port.read(time.monotonic() + PATIENCE_S)
        robot.tell("insert legs")
        assert pinged(port, 12) == [12]
        port.close()
        assert robot.stop() == 0
    assert not Path(path).parent.exists()


def test_only_servos_at_the_speed_of_the_hosts_port_hear_it() -> None:
    with emulator("--clock", "bus") as robot:
        fast = SerialPort(robot.ports["legs"], 1000000)
        fast.write(dxl.write(12, x.BAUD_RATE.address, b"\x01"))
        assert pinged(fast, 12, 11) == [12, 11]  # the first is the answer to the write
        fast.close()
        slow = SerialPort(robot.ports["legs"], 57600)
        assert pinged(slow, 11, 13, 12) == [12]
        slow.close()
        assert robot.stop() == 0


def test_a_termination_signal_stops_it_and_the_truth_is_written(tmp_path: Path) -> None:
    truth = tmp_path / "truth.npz"
    with emulator("--clock", "bus", "--truth", str(truth)) as robot:
        assert robot.tell("unplug arms")["event"] == "not understood: unplug arms"
        assert robot.tell("push 1")["event"] == "not understood: push 1"
        assert robot.tell("unplug legs")["event"] == "unplug legs"
        robot.process.send_signal(signal.SIGTERM)
        assert robot.process.wait(PATIENCE_S) == 0
    assert truth.is_file()


def test_the_bus_clock_is_refused_where_a_port_would_take_it_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "faults.toml"
    script.write_text('[[eject]]\nline = "legs"\nfrom_s = 0\nuntil_s = 1\n', encoding="utf-8")
    assert main(["emulate", "--clock", "bus", "--faults", str(script)]) == 2
    assert "[[eject]]" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", ["robot", "--faults", "--truth"])
def test_wrong_use_is_one_sentence_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    script = tmp_path / "faults.toml"
    script.write_text('[[cut]]\nline = "arms"\nfrom_s = 0\nuntil_s = 1\n', encoding="utf-8")
    arguments = {
        "robot": ["nobody"],
        "--faults": ["--faults", str(script)],
        "--truth": ["--truth", str(tmp_path / "no" / "truth.npz")],
    }
    assert main(["emulate", *arguments[wrong]]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
