"""What becomes of the dashboard's process, and that nothing of it makes the loop wait or fail."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from robotrl.errors import BadInputError
from robotrl.runtime.dashboard.feed import Dashboard, split_place
from tests.blocking import run_without
from tests.runtime.shown import PATIENCE_S, RUN_ENDS, SUBJECT, WALKED, chunks, shown

ROOT = Path(__file__).resolve().parents[2]


def test_a_killed_process_is_counted_and_told_and_nothing_else() -> None:
    with shown() as page:
        os.kill(page.dashboard.pid, signal.SIGKILL)
        os.waitid(os.P_PID, page.dashboard.pid, os.WEXITED | os.WNOWAIT)
        for tick in WALKED:
            page.dashboard.tick(tick)
        page.dashboard.event(RUN_ENDS)
        assert page.dashboard.sent == 0
        dropped = page.dashboard.dropped
        assert dropped > 10
        assert page.dashboard.close() == [
            "the dashboard's process ended early, with status -9",
            f"the dashboard dropped {dropped} of {dropped} messages",
        ]


def test_a_stopped_process_fills_its_socket_and_is_counted() -> None:
    """The calls return although nobody reads; when somebody reads again the messages arrive again."""
    with shown() as page:
        assert page.ask("GET", "/subject").status == 200  # it has started
        os.kill(page.dashboard.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, page.dashboard.pid, os.WSTOPPED)
        while not page.dashboard.dropped:
            page.dashboard.event(RUN_ENDS)
        sent = page.dashboard.sent
        for _ in range(1000):
            page.dashboard.event(RUN_ENDS)
        assert (page.dashboard.sent, page.dashboard.dropped) == (sent, 1001)
        os.kill(page.dashboard.pid, signal.SIGCONT)
        give_up_s = time.monotonic() + PATIENCE_S
        while page.dashboard.sent == sent:
            assert time.monotonic() < give_up_s
            page.dashboard.event(RUN_ENDS)
        assert page.dashboard.close() == [
            f"the dashboard dropped {page.dashboard.dropped} of {sent + 1 + page.dashboard.dropped} messages"
        ]


def test_a_stopped_process_is_ended_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robotrl.runtime.dashboard.feed.END_S", 0.01)
    with shown() as page:
        os.kill(page.dashboard.pid, signal.SIGSTOP)
        assert page.dashboard.close() == []
        with pytest.raises(ProcessLookupError):
            os.kill(page.dashboard.pid, 0)


STARTER = """
import json, sys
from robotrl.runtime.dashboard.feed import Dashboard
dashboard = Dashboard(json.loads(sys.argv[1]), "127.0.0.1:0", ("127.0.0.1", 9), "")
print(dashboard.url, flush=True)
sys.stdin.read()
"""


def listens(place: str) -> bool:
    """Whether anybody serves there."""
    host, _, port = place.rpartition(":")
    with socket.socket() as caller:
        return caller.connect_ex((host, int(port))) == 0


def test_when_the_loops_process_is_killed_the_page_goes() -> None:
    command = [sys.executable, "-c", STARTER, json.dumps(SUBJECT)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as loop:
        assert loop.stdout is not None
        place = loop.stdout.readline().removeprefix("http://").partition("/")[0]
        connection = http.client.HTTPConnection(place, timeout=PATIENCE_S)
        connection.request("GET", "/stream")
        answer = connection.getresponse()
        loop.kill()
        assert [name for name, _ in chunks(answer)] == ["end"]
    give_up_s = time.monotonic() + PATIENCE_S
    while listens(place):
        assert time.monotonic() < give_up_s
        time.sleep(0.01)


def test_the_process_is_ordinary_whatever_the_loop_is() -> None:
    """In a session of its own, where Ctrl-C does not reach it, and at no other priority than others."""
    before = os.sched_getscheduler(0)
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        with shown() as page:
            assert page.ask("GET", "/subject").status == 200  # it has started
            assert os.sched_getscheduler(page.dashboard.pid) == os.SCHED_OTHER
            assert os.getsid(page.dashboard.pid) == page.dashboard.pid != os.getsid(0)
    finally:
        os.sched_setscheduler(0, before, os.sched_param(0))


def test_the_process_starts_light() -> None:
    code = "import robotrl.runtime.dashboard.server"
    done = run_without(("numpy", "onnxruntime", "mcap", "serial", "tyro", "rich"), code)
    assert done.returncode == 0, done.stderr


# Where it is served.


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("robot.local:0", ("robot.local", 0)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_places(text: str, place: tuple[str, int]) -> None:
    assert split_place(text) == place


@pytest.mark.parametrize("text", ["", "8080", "localhost", ":80", "a:", "a:-1", "a:65536", "a:http", "a:²"])
def test_no_places(text: str) -> None:
    with pytest.raises(
        BadInputError, match=r"^--dashboard: is no place for a page, got .*allowed: HOST:PORT"
    ):
        split_place(text)


def test_the_address_of_a_page_for_everybody_names_this_computer() -> None:
    dashboard = Dashboard(SUBJECT, "0.0.0.0:0", ("127.0.0.1", 9), "")
    try:
        assert dashboard.url.startswith(f"http://{socket.gethostname()}:")
    finally:
        dashboard.close()
