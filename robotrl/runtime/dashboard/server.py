"""The page's process: shows browsers what the loop tells, and hands their orders to the loop."""

from __future__ import annotations

import hmac
import ipaddress
import json
import os
import select
import socket
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from robotrl.runtime.dashboard.hub import Hub

PATIENCE_S = 1.0
"""A stream without news says at least this often that it is alive."""

GRACE_S = 2.0
"""After the loop has ended, browsers get this long to be told so."""

MAX_ORDER_BYTES = 1024
MAX_DATAGRAM_BYTES = 1 << 16

PAGE = Path(__file__).with_name("page.html")
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class PageServer(ThreadingHTTPServer):
    """Serves the page on a socket that listens already.

    Args:
        listener: the socket.
        settings: `subject`, `host`, `token`, `operator` and `operator_token`, as the loop's side wrote them.
        hub: what the loop tells.
    """

    daemon_threads = True

    def __init__(self, listener: socket.socket, settings: dict[str, Any], hub: Hub) -> None:
        super().__init__(listener.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.hub = hub
        self.subject = settings["subject"]
        self.token = settings["token"]
        own = socket.gethostname()
        self.names = {"localhost", settings["host"].lower(), own.lower(), f"{own.lower()}.local"}
        host, port = settings["operator"]
        self._operator_token = settings["operator_token"]
        self._loop = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._loop.connect((host, port))

    def knows(self, host: str) -> bool:
        """Return whether a Host header names this server: by an address, or by a name that is its own.

        A page of somebody else whose name was made to point here (DNS rebinding) carries that name.
        """
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return name in self.names or bool(ipaddress.ip_address(name))
        except ValueError:
            return False

    def forward(self, order: dict[str, Any]) -> None:
        """Send an order to the loop, whose `UdpOperator` judges what is in it.

        Raises:
            OSError: the loop does not listen any more.
        """
        self._loop.send(json.dumps({**order, "token": self._operator_token}).encode())

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Let a browser that has gone away go; report anything else."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One connection: the page, what it needs to know once, the stream, and orders."""

    server: PageServer
    protocol_version = "HTTP/1.1"
    timeout = 10.0  # a connection without a request, or a browser that takes nothing, is dropped
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Serve what may be seen without the token."""
        if not self._is_for_us():
            return
        if self.path == "/":
            self._answer(HTTPStatus.OK, "text/html; charset=utf-8", PAGE.read_bytes())
        elif self.path == "/subject":
            self._answer(HTTPStatus.OK, "application/json", json.dumps(self.server.subject).encode())
        elif self.path == "/stream":
            self._stream()
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "no such page")

    def do_POST(self) -> None:
        """Hand an order to the loop, if it comes with the token."""
        body = self._body()
        if body is None or not self._is_for_us():
            return
        if self.path != "/order":
            self._refuse(HTTPStatus.NOT_FOUND, "no such page")
        elif not self._has_token():
            self._refuse(HTTPStatus.FORBIDDEN, "wrong token: open the address that `robotrl run` has printed")
        else:
            self._order(body)

    def _order(self, body: bytes) -> None:
        try:
            order = json.loads(body)
        except (ValueError, RecursionError):
            order = None
        if not isinstance(order, dict):
            self._refuse(HTTPStatus.BAD_REQUEST, "an order is a JSON object")
            return
        try:
            self.server.forward(order)
        except OSError:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "the loop does not listen any more")
        else:
            self._answer(HTTPStatus.NO_CONTENT)

    def _stream(self) -> None:
        self.close_connection = True
        with self.server.hub.watched():
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self._end_headers()
            for text in self.server.hub.stream(PATIENCE_S):
                self.wfile.write(text)

    def _body(self) -> bytes | None:
        """The request's body; None if there is none to be had, which is then answered."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit() and int(length) <= MAX_ORDER_BYTES):
            self.close_connection = True
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"an order has up to {MAX_ORDER_BYTES} bytes")
            return None
        return self.rfile.read(int(length))

    def _is_for_us(self) -> bool:
        """Whether the request names this server and comes from its own page, or from no page; or refuse."""
        host = self.headers.get("Host", "")
        origin = self.headers.get("Origin", f"http://{host}")
        if self.server.knows(host) and origin == f"http://{host}":
            return True
        self._refuse(HTTPStatus.FORBIDDEN, "this name is not that of this server")
        return False

    def _has_token(self) -> bool:
        given = self.headers.get("Authorization", "").encode("utf-8", "replace")
        return hmac.compare_digest(given, f"Bearer {self.server.token}".encode())

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self._answer(status, "text/plain; charset=utf-8", why.encode())

    def _answer(self, status: HTTPStatus, kind: str = "", body: bytes = b"") -> None:
        self.send_response(status)
        if kind:
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
        self._end_headers()
        self.wfile.write(body)

    def _end_headers(self) -> None:
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: the terminal is the loop's."""


def main() -> None:
    """Serve until standard input ends, as it does when the loop's process ends in whatever way."""
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))  # started by a loop of real-time priority
    settings = json.loads(sys.stdin.buffer.readline())
    hub = Hub(settings["subject"])
    server = PageServer(socket.socket(fileno=settings["listener"]), settings, hub)
    feed = socket.socket(fileno=settings["feed"])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while feed in select.select([feed, sys.stdin], [], [])[0]:  # input alone: it has ended, all is taken
        hub.take(feed.recv(MAX_DATAGRAM_BYTES))
    hub.end(GRACE_S)


if __name__ == "__main__":
    main()
