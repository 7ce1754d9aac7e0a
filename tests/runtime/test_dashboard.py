"""Laws of the dashboard: it shows what the loop did, obeys whoever has the token, and nobody else."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from robotrl.errors import BadInputError
from robotrl.runtime.clock import Wake
from robotrl.runtime.dashboard import server
from robotrl.runtime.dashboard.encode import Encoder
from robotrl.runtime.dashboard.feed import FRAME_S, Dashboard
from robotrl.runtime.dashboard.frames import EVENT, FRAME, decode_frame, layout
from robotrl.runtime.dashboard.hub import KEPT_EVENTS, Hub
from robotrl.runtime.modes import OPERATOR_EVENTS
from robotrl.runtime.tally import Happening
from robotrl.spec.gate import Level, Verdict
from tests.runtime.fakes import QUICK
from tests.runtime.shown import OPERATOR_TOKEN, RUN_ENDS, SUBJECT, WALKED, Shown, chunks, shown


@pytest.fixture(scope="module")
def page() -> Iterator[Shown]:
    """One process for the tests that leave it as it is."""
    with shown() as page:
        yield page


# What is told.


def decoded(datagram: bytes) -> dict[str, Any]:
    """A frame as the browser gets it."""
    assert datagram.startswith(FRAME)
    fields = decode_frame(layout(SUBJECT), datagram)
    return dict(json.loads(json.dumps(fields, allow_nan=False)))


def test_a_frame_tells_the_tick() -> None:
    tick = WALKED[-1]
    encoder = Encoder(SUBJECT)
    encoder.note(tick)
    frame = decoded(encoder.frame(tick, 7))
    for name in ("joint_pos_rad", "joint_age_s", "joint_load", "temperature_c", "voltage_v", "imu_quat"):
        assert frame[name] == getattr(tick.state, name).tolist()
    assert frame["joint_target_rad"] == [None] * 12  # the last tick is limp: there is none
    assert frame["velocity_command"] == tick.commands["velocity_command"].tolist()
    assert frame["now_s"] == tick.now_s
    assert frame["tick"] == tick.index
    assert frame["imu_age_s"] == tick.state.imu_age_s
    assert frame["phases_s"] == list(tick.phases_s)
    assert frame["mode"] == tick.mode.value
    assert frame["dropped"] == 7


def test_what_is_no_number_is_none() -> None:
    tick = WALKED[20]
    state = dataclasses.replace(tick.state, imu_age_s=math.inf, imu_quat=tick.state.imu_quat * math.nan)
    frame = decoded(Encoder(SUBJECT).frame(dataclasses.replace(tick, state=state), 0))
    assert frame["imu_age_s"] is None
    assert frame["imu_quat"] == [None] * 4
    assert frame["joint_target_rad"] == tick.command.joint_target_rad.tolist()


def test_a_frame_tells_the_worst_since_the_one_before() -> None:
    fine = dataclasses.replace(WALKED[20], verdict=Verdict(), phases_s=(0.1,) * 5, wake=Wake(0.1, False, 0))
    limited = Verdict(Level.LIMITING, frozenset({"limits.torque_nm"}), frozenset({"FL_hip"}))
    held = Verdict(Level.HOLD, frozenset({"now_s"}))
    encoder = Encoder(SUBJECT)
    for changes in (
        {"verdict": held, "wake": Wake(0.3, True, 2)},
        {"verdict": limited, "phases_s": (0.1, 0.4, 0.1, 0.1, 0.1)},
        {"phases_s": (0.2, 0.1, 0.1, 0.1, 0.1)},
    ):
        encoder.note(dataclasses.replace(fine, **changes))
    frame = decoded(encoder.frame(fine, 0))
    assert (frame["level"], frame["causes"], frame["joints"]) == (
        "HOLD", ["limits.torque_nm", "now_s"], ["FL_hip"],
    )  # fmt: skip
    assert frame["phases_s"] == [0.2, 0.4, 0.1, 0.1, 0.1]
    assert frame["work_s"] == pytest.approx(0.8)
    assert (frame["late_s"], frame["overruns"], frame["skipped"]) == (0.3, 1, 2)
    encoder.note(fine)
    after = decoded(encoder.frame(fine, 0))
    assert (after["level"], after["causes"], after["joints"]) == ("NONE", [], [])
    assert (after["phases_s"], after["late_s"]) == ([0.1] * 5, 0.1)
    assert (after["overruns"], after["skipped"]) == (1, 2)  # these count from the start


def test_frames_are_due_in_the_loops_time() -> None:
    with shown() as page:
        for tick in WALKED:
            page.dashboard.tick(tick)
        lasted_s = WALKED[-1].now_s - WALKED[0].now_s
        told = page.dashboard.sent + page.dashboard.dropped
        assert lasted_s / FRAME_S * 0.6 <= told <= lasted_s / FRAME_S + 1
        assert told < len(WALKED)


# What a browser is told.


def test_the_stream_tells_events_frames_and_the_end() -> None:
    with shown() as page:
        page.dashboard.event(Happening(1.0, "mode", "limp -> rise"))
        page.dashboard.tick(WALKED[0])
        connection = page.connect()
        connection.request("GET", "/stream")
        answer = connection.getresponse()
        assert answer.headers["Content-Type"] == "text/event-stream"
        stream = chunks(answer)
        happened, (name, frame) = next(stream), next(stream)
        assert happened == ("happening", {"stamp_s": 1.0, "name": "mode", "text": "limp -> rise"})
        assert (name, frame["tick"]) == ("frame", 0)
        page.dashboard.event(Happening(2.0, "gate", "LIMP: now_s"))
        assert next(stream) == ("happening", {"stamp_s": 2.0, "name": "gate", "text": "LIMP: now_s"})
        page.dashboard.event(RUN_ENDS)
        assert page.dashboard.close() == []
        assert [name for name, _ in stream] == ["happening", "end"]


def test_a_late_or_slow_browser_gets_the_newest_frame_and_the_last_events() -> None:
    hub, encoder = Hub(SUBJECT), Encoder(SUBJECT)
    stream = hub.stream(0.0)
    assert next(stream) == b":\n\n"  # nothing yet: a sign of life
    for i in range(KEPT_EVENTS + 5):
        hub.take(EVENT + json.dumps({"stamp_s": i}).encode())
        hub.take(encoder.frame(WALKED[i % 40], 0))
    text = next(stream).decode()
    assert text.count("event: happening") == KEPT_EVENTS
    assert 'data: {"stamp_s": 4}' not in text
    assert 'data: {"stamp_s": 5}' in text
    assert text.count("event: frame") == 1
    assert f'"tick": {(KEPT_EVENTS + 4) % 40}.0' in text
    assert next(stream) == b":\n\n"  # nothing twice
    hub.take(EVENT + b"{}")
    assert next(stream) == b"event: happening\ndata: {}\n\n"
    hub.end(0.0)
    assert list(stream) == [b"event: end\ndata: {}\n\n"]


def test_the_page_comes_whole_and_may_load_nothing_else(page: Shown) -> None:
    answer = page.ask("GET", "/")
    text = answer.text  # type: ignore[attr-defined]
    assert answer.status == 200
    assert text == server.PAGE.read_text(encoding="utf-8")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert not any(word in text for word in ("http://", "https://", " src=", "<link", "@import", page.token))


def test_the_subject_is_the_robot_and_tells_no_secret(page: Shown) -> None:
    text = page.ask("GET", "/subject").text  # type: ignore[attr-defined]
    subject = json.loads(text)
    assert [joint["name"] for joint in subject["joints"]] == list(QUICK.joint_names)
    assert [joint["min_rad"] for joint in subject["joints"]] == QUICK.position_min_rad.tolist()
    assert [joint["max_rad"] for joint in subject["joints"]] == QUICK.position_max_rad.tolist()
    assert subject["commands"]["velocity_command"] == {"low": [-0.4, -0.2, -1.0], "high": [0.4, 0.2, 1.0]}
    assert page.token not in text
    assert OPERATOR_TOKEN not in text


# Who is obeyed.


@pytest.mark.parametrize("event", sorted(event.value for event in OPERATOR_EVENTS))
def test_every_event_reaches_the_loops_operator(page: Shown, event: str) -> None:
    assert page.order(json.dumps({"event": event})) == 204
    assert page.events() == [event]


def test_a_velocity_reaches_the_loops_operator_and_is_clipped_there(page: Shown) -> None:
    assert page.order('{"velocity": [0.1, 9, 0], "event": "stand"}') == 204
    assert page.events() == ["stand"]
    assert page.operator.commands["velocity_command"].tolist() == [0.1, 0.2, 0.0]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: "",
        lambda token: "Bearer ",
        lambda token: token,
        lambda token: f"Bearer {token[:-1]}",
        lambda token: f"Bearer {token}x",
        lambda token: f"bearer {token}",
        lambda token: f"Bearer {token.swapcase()}",
        lambda token: f"Bearer {token}\xff",
    ],
)
def test_without_the_token_nothing_is_commanded(page: Shown, spoil: Callable[[str], str]) -> None:
    assert page.order('{"event": "policy"}', Authorization=spoil(page.token)) == 403
    assert page.order('{"event": "limp"}') == 204
    assert page.events() == ["limp"]  # and nothing before it


def test_a_browser_cannot_choose_the_loops_token(page: Shown) -> None:
    assert page.order('{"event": "limp", "token": "another"}') == 204
    assert page.events() == ["limp"]


def port_of(page: Shown) -> str:
    """The page's port."""
    return page.place.rpartition(":")[2]


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]", "192.168.7.3", socket.gethostname()]
)
def test_addresses_and_own_names_are_served(page: Shown, host: str) -> None:
    assert page.ask("GET", "/subject", Host=f"{host}:{port_of(page)}").status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "", "[", "localhost.evil.example"]
)
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("GET", "/subject"), ("GET", "/stream"), ("POST", "/order")]
)
def test_a_foreign_name_is_refused(page: Shown, host: str, method: str, path: str) -> None:
    headers = {"Host": f"{host}:{port_of(page)}", "Authorization": f"Bearer {page.token}"}
    assert page.ask(method, path, "{}" * (method == "POST"), **headers).status == 403


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://{place}", "http://{place}.evil.example"]
)
def test_another_sites_script_is_refused_even_with_the_token(page: Shown, origin: str) -> None:
    assert page.order("{}", Origin=origin.format(place=page.place)) == 403
    assert page.order("{}", Origin=f"http://{page.place}") == 204


@pytest.mark.parametrize("body", ["", "{", "[]", "null", '"limp"', "[" * 1000])
def test_what_is_no_order_is_refused(page: Shown, body: str) -> None:
    assert page.order(body, **({} if body else {"Content-Length": "0"})) == 400


@pytest.mark.parametrize("length", ["-1", "1e3", "", "1025", "99999999999", "²"])
def test_an_order_of_an_impossible_length_is_refused_unread(page: Shown, length: str) -> None:
    headers = {"Authorization": f"Bearer {page.token}".encode(), "Content-Length": length.encode("latin-1")}
    connection = page.connect()
    with contextlib.closing(connection):
        connection.putrequest("POST", "/order")
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        assert connection.getresponse().status == 413


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/order"), ("GET", "/../feed.py"), ("POST", "/"), ("POST", "/stream")]
)
def test_there_are_no_other_pages(page: Shown, method: str, path: str) -> None:
    headers = {"Authorization": f"Bearer {page.token}"}
    assert page.ask(method, path, "{}" * (method == "POST"), **headers).status == 404


def test_an_order_that_no_loop_hears_is_said_not_to_be_taken() -> None:
    with shown() as page:
        page.operator.close()
        statuses = [page.order('{"event": "estop"}') for _ in range(2)]  # the first finds out
        assert statuses[-1] == 503


def test_a_connection_serves_many_orders(page: Shown) -> None:
    """As a browser's heartbeat does."""
    connection = page.connect()
    with contextlib.closing(connection):
        for _ in range(20):
            connection.request("POST", "/order", "{}", {"Authorization": f"Bearer {page.token}"})
            answer = connection.getresponse()
            assert answer.read() == b""
            assert not answer.will_close


# What becomes of the process.


def test_a_place_that_is_taken_is_told_before_anything_starts(page: Shown) -> None:
    with pytest.raises(BadInputError, match=r"^--dashboard: cannot be served at: .*in use.*, got '127"):
        Dashboard(SUBJECT, page.place, page.operator.address, OPERATOR_TOKEN)
