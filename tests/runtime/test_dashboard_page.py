"""The dashboard's page in a real browser, whose buttons are clicked and drive a loop."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from robotrl.cli.dashboard import LINK_S
from robotrl.runtime.clock import RealClock
from robotrl.runtime.dashboard.encode import subject_of
from robotrl.runtime.dashboard.feed import Dashboard
from robotrl.runtime.loop import Loop
from robotrl.runtime.tally import LoopReport
from robotrl.runtime.udp import UdpOperator
from tests.runtime.browser import BINARIES, PATIENCE_S, Browser, find_browser
from tests.runtime.fakes import QUICK, RANGES, FakeBody, FakePolicy

FOUND = find_browser()
pytestmark = pytest.mark.skipif(
    FOUND is None, reason=f"the page is not clicked: no browser in PATH ({', '.join(BINARIES)})"
)

SUBJECT = subject_of(QUICK, "quad12_walk", RANGES, armed=True)

BUSY_S = 30.0
"""A busy computer is no lost link."""

BEATS = 60
"""A page that has sent so many after it was left goes on for ever."""


class Flight:
    """A loop in a thread of its own that only the page commands."""

    def __init__(self) -> None:
        self.operator = _Operator(("127.0.0.1", 0), RANGES, token="its own", timeout_s=BUSY_S)
        self.dashboard = Dashboard(SUBJECT, "127.0.0.1:0", self.operator.address, "its own")
        self.body = FakeBody()
        parts = (self.body, FakePolicy(), self.operator, RealClock())
        self._loop = Loop(QUICK, *parts, armed=True, recorder=self.dashboard)
        self._thread = threading.Thread(target=self._fly)
        self.report: LoopReport | None = None
        self._thread.start()

    def await_velocity(self, wanted: Callable[[list[float]], bool]) -> None:
        """Wait until the loop's operator has heard of it."""
        give_up_s = time.monotonic() + PATIENCE_S
        while not wanted(self.operator.commands["velocity_command"].tolist()):
            assert time.monotonic() < give_up_s
            time.sleep(0.01)

    def end(self) -> None:
        """End the loop, then the page."""
        self.operator.done = True
        self._thread.join(PATIENCE_S)
        self.dashboard.close()
        self.operator.close()

    def _fly(self) -> None:
        self.report = self._loop.run()


@contextlib.contextmanager
def flying() -> Iterator[Flight]:
    """A flight that ends."""
    flight = Flight()
    try:
        yield flight
    finally:
        flight.end()


@contextlib.contextmanager
def opened(browser: Browser, url: str) -> Iterator[None]:
    """A page that shows a loop, to be closed; its scripts may not complain."""
    browser.complaints.clear()
    browser.open(url)
    browser.await_true(says("link", "live"))
    try:
        yield
        assert browser.complaints == []
    finally:
        browser.open("about:blank")


class _Operator(UdpOperator):
    done = False

    def finished(self) -> bool:
        """Return whether the test is over."""
        return self.done


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all pages."""
    assert FOUND is not None
    with Browser(FOUND, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def flight() -> Iterator[Flight]:
    """One flight for the tests that leave the robot limp and armed."""
    with flying() as flight:
        yield flight


@pytest.fixture
def page(browser: Browser, flight: Flight) -> Iterator[Browser]:
    """Its page, just opened; its scripts may not complain."""
    with opened(browser, flight.dashboard.url):
        yield browser


def says(element: str, text: str) -> str:
    """A script that tells whether an element's text is or holds a text."""
    return f"document.getElementById({element!r}).textContent.includes({text!r})"


def test_the_buttons_drive_the_robot_and_the_emergency_stop_stops_it(
    browser: Browser,
) -> None:
    """Stand up, set a speed, walk, stop, be refused until re-armed, stand again, lie down."""
    with flying() as own, opened(browser, own.dashboard.url):
        browser.click("#stand")
        browser.await_true(says("mode", "stand"))
        browser.click("#run")
        browser.await_true(says("mode", "policy"))
        browser.click("#velocity0", at=0.75)
        own.await_velocity(lambda velocity: velocity[0] > 0.0)
        forward, left, turn = own.operator.commands["velocity_command"].tolist()
        assert 0.1 < forward < 0.3
        assert (left, turn) == (0.0, 0.0)

        browser.click("#estop")
        browser.await_true(says("mode", "limp"))
        browser.await_true(says("causes", "estop"))
        browser.await_true(says("level", "LIMP"))
        browser.click("#stand")
        browser.await_true(says("events", "needs a re-arm first"))

        browser.click("#rearm")
        browser.await_true(says("verdict", "nothing limited"))
        browser.click("#stand")
        browser.await_true(says("mode", "stand"))
        browser.click("#limp")
        browser.await_true(says("mode", "limp"))
        own.end()
        browser.await_true(says("notice", "The run has ended."))
        assert own.report is not None
        assert [event.text for event in own.report.events if event.name == "mode"] == [
            "limp -> rise",
            "rise -> stand",
            "stand -> policy",
            "policy -> limp",
            "limp -> rise",
            "rise -> stand",
            "stand -> park",
            "park -> limp",
        ]


@pytest.mark.parametrize(("code", "key"), [("Space", " "), ("Escape", "Escape")])
def test_a_key_is_an_emergency_stop(page: Browser, code: str, key: str) -> None:
    """Also with another button in focus, which it does not press."""
    page.click("#stand")
    page.await_true(says("mode", "stand"))
    page.press(code, key)
    page.await_true(says("mode", "limp"))
    page.await_true(says("said", "E-STOP sent"))
    page.click("#rearm")
    page.await_true(says("verdict", "nothing limited"))


def test_zero_velocity_is_a_button(page: Browser, flight: Flight) -> None:
    page.click("#velocity2", at=0.9)
    flight.await_velocity(lambda velocity: velocity[2] > 0.5)
    page.click("#zero")
    flight.await_velocity(lambda velocity: velocity == [0.0, 0.0, 0.0])


def test_every_joint_is_shown_where_it_is_between_its_limits(page: Browser, flight: Flight) -> None:
    names = "[...document.querySelectorAll('.joint .name')].map(e => e.textContent)"
    assert page.value(names) == list(QUICK.joint_names)
    spans = QUICK.position_max_rad - QUICK.position_min_rad
    shares = (flight.body.pos_rad - QUICK.position_min_rad) / spans
    for i, share in enumerate(shares):
        row = f"document.querySelectorAll('.joint:not(.head)')[{i}]"
        page.await_true(
            f"Math.abs(parseFloat({row}.querySelector('.here').style.left) - {100 * share}) < 1e-3"
        )
        assert page.value(f"{row}.querySelector('.want').hidden")  # limp: no target
        assert page.value(f"{row}.children[2].textContent") == f"{flight.body.pos_rad[i] + 0.0:.2f}"


def test_without_the_token_the_page_only_shows(browser: Browser, flight: Flight) -> None:
    with opened(browser, flight.dashboard.url.partition("#")[0]):
        assert browser.value("[...document.querySelectorAll('button, input')].every(e => e.disabled)")
        browser.click("#stand")
        browser.press("Escape", "Escape")
        browser.await_true(says("said", "view only"))


def test_a_wrong_token_is_said(browser: Browser, flight: Flight) -> None:
    with opened(browser, flight.dashboard.url + "x"):
        for button, said in {"#stand": "wrong token", "#estop": "E-STOP NOT TAKEN"}.items():
            browser.click(button)
            browser.await_true(says("said", said))
        assert all("403" in complaint for complaint in browser.complaints)
        browser.complaints.clear()


def test_a_page_that_has_commanded_keeps_the_link_alive_until_it_is_closed(browser: Browser) -> None:
    """It is one sender, also when it is loaded again; a copy of its tab would be another one."""
    shown = "document.querySelectorAll('.joint').length > 1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as loop:
        loop.bind(("127.0.0.1", 0))
        loop.settimeout(PATIENCE_S)
        dashboard = Dashboard(SUBJECT, "127.0.0.1:0", loop.getsockname(), "its own")
        try:
            browser.open(dashboard.url)
            browser.await_true(shown)
            browser.click("#stand")
            order = json.loads(loop.recv(2048))  # before it: silence
            beat = {"token": "its own", "sender": order["sender"]}
            assert order == beat | {"event": "stand"}
            assert len(order["sender"]) > 20
            assert [json.loads(loop.recv(2048)) for _ in range(3)] == [beat] * 3
            browser.value("location.reload()")
            browser.await_true(shown)
            assert json.loads(loop.recv(2048)) == beat
            browser.await_true("sessionStorage.length === 0")
            browser.open("about:blank")
            loop.settimeout(LINK_S)
            left = 0
            with contextlib.suppress(TimeoutError):
                while left < BEATS:
                    assert json.loads(loop.recv(2048)) == beat
                    left += 1
            assert left < BEATS
        finally:
            dashboard.close()


def test_every_page_that_has_not_commanded_is_a_sender_of_its_own(browser: Browser, flight: Flight) -> None:
    senders = set()
    for _ in range(2):
        with opened(browser, flight.dashboard.url):
            senders.add(browser.value("sender"))
            browser.value("commands = false")
    assert len(senders) == 2


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844), (844, 390)])
def test_every_control_is_in_reach_on_every_screen(
    page: Browser, width: int, height: int, dark: bool
) -> None:
    page.resize(width, height, dark=dark)
    assert page.value("document.documentElement.scrollWidth <= innerWidth")
    for button in ("#estop", "#stand", "#run", "#limp", "#rearm"):
        inside = (
            f"(() => {{ const r = document.querySelector({button!r}).getBoundingClientRect();"
            "return r.top >= 0 && r.left >= 0 && r.bottom <= innerHeight && r.right <= innerWidth"
            "&& r.height >= 44; })()"
        )
        assert page.value(inside), button
    brightness = (
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((a, b) => a + Number(b), 0)"
    )
    assert (page.value(brightness) < 200) is dark
