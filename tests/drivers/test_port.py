"""Serial ports against real pseudo-terminals: deadlines, exclusiveness, and what errors say."""

from __future__ import annotations

import errno
import os
import select
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from robotrl.drivers.port import ReopeningPort, SerialPort
from robotrl.errors import PortError
from tests.drivers.fake_bus import FakeImu


@pytest.fixture
def pty() -> Iterator[tuple[int, str]]:
    """The device's end of a serial line, and the path of the host's end."""
    master, slave = os.openpty()
    path = os.ttyname(slave)
    yield master, path
    for fd in (master, slave):
        try:
            os.close(fd)
        except OSError:
            continue


def test_bytes_go_both_ways_unchanged(pty: tuple[int, str]) -> None:
    master, path = pty
    port = SerialPort(path, 1000000)
    every = bytes(range(256))
    port.write(every)
    assert gather(lambda: os.read(master, 999), 256) == every
    os.write(master, every)
    assert gather(lambda: port.read(time.monotonic() + 5), 256) == every
    port.close()


def gather(read: Callable[[], bytes], count: int) -> bytes:
    """Read until so many bytes are in; a terminal may hand them over in parts."""
    data = b""
    while len(data) < count:
        chunk = read()
        assert chunk
        data += chunk
    return data


def test_drain_takes_all_and_does_not_wait(pty: tuple[int, str]) -> None:
    master, path = pty
    port = SerialPort(path, 115200)
    assert port.drain() == b""
    os.write(master, b"abc")
    os.write(master, b"def")
    assert select.select([port._fd], [], [], 5)[0]
    received = port.drain()
    received += gather(lambda: port.read(time.monotonic() + 5), 6 - len(received))
    assert received == b"abcdef"
    assert port.drain() == b""
    port.close()


def test_drain_goes_on_behind_a_read_that_is_not_full(
    pty: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal hands out 4095 bytes and keeps the rest, which would be taken for new on the next tick."""
    port = SerialPort(pty[1], 115200)
    parts = iter([b"a" * 4095, b"b" * 4095, b"c", b""])
    monkeypatch.setattr(port, "read", lambda deadline_s: next(parts))
    assert port.drain() == b"a" * 4095 + b"b" * 4095 + b"c"
    port.close()


def test_drain_ends_on_a_line_that_never_falls_silent(
    pty: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = SerialPort(pty[1], 115200)
    monkeypatch.setattr(port, "read", lambda deadline_s: b"x" * 4095)
    assert 4095 <= len(port.drain()) <= 1 << 16
    port.close()


def test_a_read_ends_at_its_deadline(pty: tuple[int, str]) -> None:
    port = SerialPort(pty[1], 115200)
    start_s = time.monotonic()
    assert port.read(start_s + 0.02) == b""
    assert time.monotonic() >= start_s + 0.02
    assert port.read(start_s - 1) == b""
    port.close()


def test_a_second_user_is_refused(pty: tuple[int, str]) -> None:
    port = SerialPort(pty[1], 115200)
    with pytest.raises(PortError, match=f"port {pty[1]} is in use by another program"):
        SerialPort(pty[1], 115200)
    port.close()
    SerialPort(pty[1], 115200).close()


def test_a_port_that_does_not_exist_is_named() -> None:
    with pytest.raises(PortError, match=r"port /dev/nothing does not exist; serial ports here: "):
        SerialPort("/dev/nothing", 115200)


def test_a_file_is_no_port(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(PortError, match="is not a usable serial port"):
        SerialPort(str(file), 115200)


@pytest.mark.parametrize(
    "error", [termios.error(errno.EIO, "Input/output error"), OSError(errno.EPROTO, "Protocol error")]
)
def test_an_adapter_that_vanishes_while_it_is_opened_is_a_port_error(
    pty: tuple[int, str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def flush(fd: int, queue: int) -> None:
        raise error

    monkeypatch.setattr(termios, "tcflush", flush)
    with pytest.raises(PortError, match=f"port {pty[1]} (has no device behind it|is not a usable serial)"):
        SerialPort(pty[1], 115200)
    monkeypatch.undo()
    SerialPort(pty[1], 115200).close()


def test_bytes_that_wait_for_the_owner_stay_when_another_opens_the_port(pty: tuple[int, str]) -> None:
    master, path = pty
    owner = SerialPort(path, 115200)
    os.write(master, b"an answer")
    assert select.select([owner._fd], [], [], 5)[0]
    guest = SerialPort(path, 115200, shared=True)
    assert gather(lambda: owner.read(time.monotonic() + 5), 9) == b"an answer"
    guest.close()
    owner.close()


def test_a_port_that_vanishes_raises_port_error_only(pty: tuple[int, str]) -> None:
    port = SerialPort(pty[1], 115200)
    os.close(pty[0])
    with pytest.raises(PortError, match="gone away"):
        port.read(time.monotonic() + 5)
    with pytest.raises(PortError, match="gone away"):
        port.write(b"x")
    port.close()
    port.close()


def test_a_closed_port_stays_closed(pty: tuple[int, str]) -> None:
    port = SerialPort(pty[1], 115200)
    port.close()
    for use in (lambda: port.write(b"x"), port.drain):
        with pytest.raises(PortError):
            use()


def test_a_port_that_takes_no_bytes_is_an_error_not_a_stall(pty: tuple[int, str]) -> None:
    port = SerialPort(pty[1], 115200)
    with pytest.raises(PortError, match="takes no bytes"):
        port.write(bytes(1 << 20))
    port.close()


class Adapter:
    """A USB adapter that can be pulled and plugged; `opened` counts successful openings."""

    def __init__(self) -> None:
        self.present = True
        self.opened = 0
        self.port = FakeImu()

    def open(self) -> FakeImu:
        """Open the port if the adapter is there."""
        if not self.present:
            raise PortError("port fake does not exist")
        self.opened += 1
        self.port = FakeImu()
        return self.port

    def pull(self) -> None:
        """Take the adapter out."""
        self.present = False
        self.port.gone = True


def test_a_port_that_comes_back_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr("robotrl.drivers.port.time.monotonic", lambda: now_s[0])
    adapter = Adapter()
    port = ReopeningPort(adapter.open)
    assert port.drain()
    adapter.pull()
    for _ in range(3):
        with pytest.raises(PortError):
            port.drain()
    assert adapter.port.closed
    adapter.present = True
    with pytest.raises(PortError, match="not back yet"):  # the next try is not due
        port.drain()
    now_s[0] += 1.0
    assert port.drain()
    assert adapter.opened == 2


def test_a_port_that_is_missing_at_the_start_is_told_at_once() -> None:
    adapter = Adapter()
    adapter.pull()
    with pytest.raises(PortError, match="does not exist"):
        ReopeningPort(adapter.open)


def test_closing_is_for_good() -> None:
    adapter = Adapter()
    port = ReopeningPort(adapter.open)
    port.close()
    with pytest.raises(PortError):
        port.drain()
    assert adapter.opened == 1


def test_a_speed_that_cannot_be_made_is_one_sentence() -> None:
    host, device = os.openpty()
    try:
        with pytest.raises(PortError, match=f"port {os.ttyname(device)} does not work at -5 baud"):
            SerialPort(os.ttyname(device), -5)
    finally:
        os.close(host)
        os.close(device)
