"""A dashboard with an operator of its own, as the tests of its page and of its process need one."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from robotrl.runtime.dashboard.encode import subject_of
from robotrl.runtime.dashboard.feed import Dashboard
from robotrl.runtime.tally import Happening, Tick
from robotrl.runtime.udp import UdpOperator
from tests.runtime.fakes import QUICK, RANGES, Rig

PATIENCE_S = 60.0
"""How long a busy computer may take for what takes a moment."""

SUBJECT = subject_of(QUICK, "quad12_walk", RANGES, armed=True)
OPERATOR_TOKEN = "the loop's own"
RUN_ENDS = Happening(3.0, "mode", "park -> limp")


@dataclass
class Shown:
    """A dashboard whose buttons command an operator that nobody else does."""

    dashboard: Dashboard
    operator: UdpOperator

    @property
    def token(self) -> str:
        """What the page's address holds."""
        return self.dashboard.url.partition("#")[2]

    @property
    def place(self) -> str:
        """Host and port of the page."""
        return self.dashboard.url.removeprefix("http://").partition("/")[0]

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection of one's own."""
        return http.client.HTTPConnection(self.place, timeout=PATIENCE_S)

    def ask(self, method: str, path: str, body: str = "", **headers: str) -> http.client.HTTPResponse:
        """Send one request; return the answer, read."""
        connection = self.connect()
        with contextlib.closing(connection):
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            answer.text = answer.read().decode()  # type: ignore[attr-defined]
            return answer

    def order(self, body: str, **headers: str) -> int:
        """Post an order with the token; return the status."""
        return self.ask("POST", "/order", body, **{"Authorization": f"Bearer {self.token}", **headers}).status

    def events(self) -> list[str]:
        """Wait for the operator's next events."""
        give_up_s = time.monotonic() + PATIENCE_S
        while not (events := self.operator.poll(0.0)):
            assert time.monotonic() < give_up_s
            time.sleep(0.001)
        return [event.value for event in events]


@contextlib.contextmanager
def shown() -> Iterator[Shown]:
    """A dashboard at a free port."""
    with UdpOperator(("127.0.0.1", 0), RANGES, token=OPERATOR_TOKEN) as operator:
        dashboard = Dashboard(SUBJECT, "127.0.0.1:0", operator.address, OPERATOR_TOKEN)
        try:
            yield Shown(dashboard, operator)
        finally:
            dashboard.close()


def chunks(answer: http.client.HTTPResponse) -> Iterator[tuple[str, dict[str, Any]]]:
    """Server-sent events as (name, data), to the end of the stream."""
    name = ""
    for line in answer:
        key, _, value = line.decode().strip().partition(": ")
        if key == "event":
            name = value
        elif key == "data":
            yield name, json.loads(value)


def ticks() -> list[Tick]:
    """The ticks of a walk."""
    rig = Rig()
    rig.loop.run()
    return rig.recorder.ticks


WALKED = ticks()
