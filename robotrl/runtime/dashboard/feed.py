"""The loop's side of the dashboard: frames are handed over without waiting; what is not taken is counted."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import math
import os
import secrets
import socket
import subprocess
import sys
from typing import Any

from robotrl.errors import BadInputError
from robotrl.runtime.dashboard.encode import Encoder
from robotrl.runtime.dashboard.frames import EVENT, Subject
from robotrl.runtime.tally import Happening, Tick

DEFAULT_PLACE = "127.0.0.1:8321"
"""Where the page is served unless told otherwise."""

FRAME_S = 0.04
"""Time between frames."""

END_S = 5.0
"""How long the process may take to end."""

_SERVER = "robotrl.runtime.dashboard.server"


class Dashboard:
    """A recorder that shows instead of keeping. Use as a context manager, around the loop.

    A process of its own serves the page, at ordinary priority. It is told by datagrams, of which each is
    taken at once or dropped and counted: whatever becomes of the process, the loop goes on. When the loop's
    process is gone, it ends.

    Attributes:
        url: the page, with the token that its buttons need.
        pid: the process.
        sent: datagrams that were taken.
        dropped: datagrams that were not.
    """

    def __init__(self, subject: Subject, place: str, operator: tuple[str, int], operator_token: str) -> None:
        """Start the process.

        Args:
            subject: as `subject_of` returned it.
            place: `HOST:PORT` to serve at; port 0 takes a free one.
            operator: address of the `UdpOperator` that the buttons command.
            operator_token: what it wants to be shown.

        Raises:
            BadInputError: not such a place, or none to serve at.
        """
        self.sent = self.dropped = 0
        self._encoder = Encoder(subject)
        self._next_s = -math.inf
        token = secrets.token_urlsafe(16)
        host, port = split_place(place)
        settings = {
            "subject": subject,
            "host": host,
            "token": token,
            "operator": operator,
            "operator_token": operator_token,
        }
        with _listen(host, port, place) as listener:
            self.url = _url(host, listener.getsockname()[1], token)
            self._feed, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._feed.setblocking(False)
            with theirs:
                self._process = _start(settings, listener, theirs)
        self.pid = self._process.pid

    def tick(self, tick: Tick) -> None:
        """Take note of one tick, and hand over a frame when one is due."""
        self._encoder.note(tick)
        if tick.now_s >= self._next_s:
            self._next_s = tick.now_s + FRAME_S
            self._send(self._encoder.frame(tick, self.dropped))

    def event(self, happening: Happening) -> None:
        """Hand over one event."""
        words = {"stamp_s": happening.stamp_s, "name": happening.name, "text": happening.text}
        self._send(EVENT + json.dumps(words).encode())

    def close(self) -> list[str]:
        """End the process; return a sentence for each thing that went wrong."""
        died = self._process.poll()
        self._feed.close()
        try:
            self._process.communicate(timeout=END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        every = self.sent + self.dropped
        notes = [f"the dashboard's process ended early, with status {died}"] if died is not None else []
        return notes + [f"the dashboard dropped {self.dropped} of {every} messages"] * bool(self.dropped)

    def _send(self, datagram: bytes) -> None:
        try:
            self._feed.send(datagram)
            self.sent += 1
        except OSError:  # full, or nobody there any more
            self.dropped += 1


def split_place(text: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`; an IPv6 address is in brackets.

    Raises:
        BadInputError: it is not of this form.
    """
    host, _, port = text.rpartition(":")
    if not (host and port.isascii() and port.isdigit() and int(port) < 2**16):
        raise BadInputError("is no place for a page", key="--dashboard", value=text, allowed="HOST:PORT")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _listen(host: str, port: int, place: str) -> socket.socket:
    """Return the socket of the page: bound here, so that a port that is taken is told at once."""
    try:
        [(family, _, _, _, address), *_] = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        return socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError) as error:  # the latter of a host with an empty or too long label
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        raise BadInputError(f"cannot be served at: {reason}", key="--dashboard", value=place) from error


def _url(host: str, port: int, token: str) -> str:
    """The page's address as a browser takes it; the token comes after #, so that it is sent to no server."""
    try:
        everywhere = ipaddress.ip_address(host).is_unspecified
    except ValueError:
        everywhere = False
    name = socket.gethostname() if everywhere else host
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/#{token}"


def _start(settings: dict[str, Any], listener: socket.socket, feed: socket.socket) -> subprocess.Popen[bytes]:
    """Start the page's process, in a session of its own so that Ctrl-C is the loop's alone."""
    fds = {"listener": listener.fileno(), "feed": feed.fileno()}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", _SERVER],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        pass_fds=tuple(fds.values()),
        start_new_session=True,
    )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # `close` tells of a process that has ended
        process.stdin.write(json.dumps(settings | fds).encode() + b"\n")
        process.stdin.flush()
    return process
