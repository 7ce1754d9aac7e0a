"""Laws of datagrams: read strictly, obeyed in order, refused as a whole; silence stops."""

from __future__ import annotations

import json
import random
import socket

import numpy as np
import pytest

from robotrl.errors import BadInputError, ProtocolError
from robotrl.runtime.modes import OPERATOR_EVENTS, Event
from robotrl.runtime.udp import LONGEST, PER_TICK, Order, UdpOperator, parse_order
from tests.runtime.devices import Remote

RANGES = {
    "velocity_command": ((-0.4, -0.2, -1.0), (0.4, 0.2, 1.0)),
    "goal": ((-1.0, 0.0), (1.0, 0.5)),
}
SIZES = {"velocity_command": 3, "goal": 2}


@pytest.mark.parametrize("event", [event for event in Event if event in OPERATOR_EVENTS])
def test_every_event_has_its_name(event: Event) -> None:
    assert parse_order(json.dumps({"event": event.value}).encode(), SIZES) == Order(event, {})


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("{}", Order(None, {})),
        ('{"velocity": [1, 2.5, -3e0]}', Order(None, {"velocity_command": (1.0, 2.5, -3.0)})),
        ('{"goal": [0, 9], "event": "policy"}', Order(Event.POLICY, {"goal": (0.0, 9.0)})),
        ('{"event": "estop", "velocity": "fast", "colour": 1}', Order(Event.ESTOP, {})),
        ('{"token": "not needed"}', Order(None, {})),
        ('{"sender": "telephone", "event": "limp"}', Order(Event.LIMP, {}, "telephone")),
        ('{"event": "estop", "sender": 1}', Order(Event.ESTOP, {})),
    ],
)
def test_an_order_is_what_it_says(text: str, order: Order) -> None:
    assert parse_order(text.encode(), SIZES) == order


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b'{"event": "stand"', "is not JSON"),
        (b"[" * LONGEST, "is not JSON"),
        (b'{"goal": ' + b"[" * 1500, "is not JSON"),
        (b" " * (LONGEST + 1), "is longer than 2048 bytes"),
        (b"[]", "is not a JSON object"),
        (b'"stand"', "is not a JSON object"),
        (b"null", "is not a JSON object"),
        (b'{"event": "fly"}', "has the event 'fly'; allowed: estop, limp, policy, rearm, stand"),
        (b'{"event": "gate limp"}', "has the event"),
        (b'{"event": ["stand"]}', "has the event"),
        (b'{"event": 1}', "has the event"),
        (b'{"sender": 1}', "has the sender 1.0; allowed: a text"),
        (b'{"sender": null}', "has the sender None"),
        (b'{"speed": 1}', "has the key 'speed', which this policy does not read"),
        (b'{"velocity_command": [0, 0, 0]}', "has the key"),
        (b'{"velocity": [0, 0]}', "has velocity [0.0, 0.0]; allowed: 3 finite numbers"),
        (b'{"velocity": [0, 0, NaN]}', "3 finite numbers"),
        (b'{"velocity": [0, 0, Infinity]}', "3 finite numbers"),
        (b'{"velocity": [0, 0, 1e999]}', "3 finite numbers"),
        (b'{"velocity": [0, 0, ' + b"9" * 400 + b"]}", "3 finite numbers"),
        (b'{"velocity": [0, 0, true]}', "3 finite numbers"),
        (b'{"velocity": [0, 0, "1"]}', "3 finite numbers"),
        (b'{"velocity": {"0": 1}}', "3 finite numbers"),
        (b'{"velocity": null}', "3 finite numbers"),
        (b'{"goal": 0.5}', "2 finite numbers"),
    ],
)
def test_what_is_no_order_is_refused_with_a_reason(data: bytes, said: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_order(data, SIZES)
    assert said in str(caught.value)


def test_a_channel_that_the_policy_does_not_read_is_refused() -> None:
    with pytest.raises(ProtocolError, match="'goal', which this policy does not read"):
        parse_order(b'{"goal": [0, 0]}', {"velocity_command": 3})


@pytest.mark.parametrize("token", ['"wrong"', '""', "null", "1", '"sesam\\ud800"', '["sesame"]', None])
def test_without_the_token_nothing_is_obeyed(token: str | None) -> None:
    given = "" if token is None else f', "token": {token}'
    with pytest.raises(ProtocolError, match="has not the token"):
        parse_order(f'{{"event": "estop"{given}}}'.encode(), SIZES, "sesame")


def test_with_the_token_it_is() -> None:
    order = parse_order('{"event": "stand", "token": "ğsesame"}'.encode(), SIZES, "ğsesame")
    assert order == Order(Event.STAND, {})


def test_damaged_datagrams_raise_nothing_else() -> None:
    """Bits flipped, cut and joined; whatever is still an order is a finite one."""
    whole = b'{"event": "policy", "velocity": [0.25, -1e3, 7], "goal": [1, 2], "token": "sesame"}'
    random_numbers = random.Random(7)
    obeyed = 0
    for _ in range(4000):
        data = bytearray(
            whole[: random_numbers.randint(1, len(whole)) if random_numbers.random() < 0.2 else None]
        )
        for _ in range(random_numbers.randint(0, 3)):
            data[random_numbers.randrange(len(data))] = random_numbers.randrange(256)
        try:
            order = parse_order(bytes(data), SIZES, "sesame")
        except ProtocolError:
            continue
        obeyed += 1
        assert all(np.isfinite(values).all() for values in order.asked.values())
    assert 0 < obeyed < 3000


def gather(remote: Remote, count: int) -> list[Event]:
    """Poll until so many events have come: the kernel may still be handing them on."""
    events: list[Event] = []
    while len(events) < count:
        events += remote.source.poll(0.0)
    return events


def test_orders_are_obeyed_in_order_and_clipped() -> None:
    with Remote(RANGES) as remote:
        assert remote.source.poll(0.0) == []
        assert np.isnan(remote.source.commands["goal"]).all()
        remote.send(
            {"event": "stand"}, {"event": "policy"}, {"velocity": [9, -0.1, -9], "goal": [0.5, 9]}, {}
        )
        assert gather(remote, 2) == [Event.STAND, Event.POLICY]
        assert remote.source.commands["velocity_command"].tolist() == [0.4, -0.1, -1.0]
        assert remote.source.commands["goal"].tolist() == [0.5, 0.5]
        assert not remote.source.finished()
        assert remote.source.notes == []


def test_a_refused_datagram_changes_nothing_and_is_told() -> None:
    with Remote(RANGES, token="sesame") as remote:
        remote.send({"velocity": [0.1, 0, 0], "token": "sesame"})
        remote.source.poll(0.0)
        before = remote.source.commands
        remote.send({"velocity": [0.3, 0, 0]}, {"event": "stand", "velocity": [1], "token": "sesame"})
        assert remote.source.poll(0.1) == []
        assert remote.source.commands is before
        remote.send({"event": "limp", "token": "sesame"})
        assert gather(remote, 1) == [Event.LIMP]
        [note] = remote.source.notes
        assert "2 datagrams of UDP were refused; the last one has velocity [1.0]" in note


def test_a_refused_datagram_is_no_sign_of_life() -> None:
    with Remote(RANGES, token="sesame", timeout_s=0.5) as remote:
        remote.send({"event": "stand", "token": "sesame"})
        assert remote.source.poll(1.0) == [Event.STAND]
        remote.send({})
        assert remote.source.poll(1.4) == []
        assert remote.source.poll(1.6) == [Event.ESTOP]


def test_a_lost_link_leaves_no_velocity_behind() -> None:
    with Remote(RANGES, timeout_s=0.5) as remote:
        remote.send({"velocity": [0.3, 0, 0], "goal": [0.5, 0.5]})
        assert remote.source.poll(1.0) == []
        assert remote.source.poll(1.6) == [Event.ESTOP]
        assert not remote.source.commands["velocity_command"].any()
        assert remote.source.commands["goal"].tolist() == [0.5, 0.5]
        assert remote.source.poll(9.0) == []


@pytest.mark.parametrize("event", sorted(event.value for event in OPERATOR_EVENTS))
def test_no_walk_goes_on_where_it_was_left(event: str) -> None:
    """After whatever has come between, only what is asked for with it or after it counts."""
    with Remote(RANGES) as remote:
        remote.send({"event": "policy", "velocity": [0.3, 0, 0], "goal": [0.5, 0.5]})
        remote.source.poll(0.0)
        assert remote.source.commands["velocity_command"].tolist() == [0.3, 0.0, 0.0]
        remote.send({"event": event})
        assert remote.source.poll(0.1) == [Event(event)]
        assert remote.source.commands["velocity_command"].tolist() == [0.0, 0.0, 0.0]
        assert remote.source.commands["goal"].tolist() == [0.5, 0.5]


def test_a_silent_link_asks_for_no_velocity_even_at_rest_and_says_so_once() -> None:
    """Else it would take the word from another operator in every tick."""
    with Remote(RANGES, timeout_s=0.5) as remote:
        remote.send({"event": "limp", "velocity": [0.3, 0, 0]})
        assert remote.source.poll(1.0) == [Event.LIMP]
        assert remote.source.poll(1.5) == []
        assert remote.source.commands["velocity_command"].tolist() == [0.3, 0.0, 0.0]
        assert remote.source.poll(1.6) == []
        after = remote.source.commands
        assert after["velocity_command"].tolist() == [0.0, 0.0, 0.0]
        assert remote.source.poll(1.7) == []
        assert remote.source.commands is after


@pytest.mark.parametrize("named", [False, True])
def test_of_two_senders_only_who_commanded_last_holds_the_switch(named: bool) -> None:
    """They are told apart by their names, as pages of one server, or by where their datagrams come from."""
    with Remote(RANGES, timeout_s=0.5) as remote, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.connect(remote.source.address)
        laptop: dict[str, object] = {"sender": "laptop"} if named else {}
        remote.send(laptop | {"event": "stand"})
        assert remote.source.poll(1.0) == [Event.STAND]
        if named:
            remote.send({"sender": "telephone", "velocity": [0.3, 0, 0]})
        else:
            other.send(b'{"velocity": [0.3, 0, 0]}')
        while not remote.source.commands["velocity_command"].any():
            assert remote.source.poll(1.1) == []
        for at_s in (1.2, 1.4, 1.6):
            remote.send(laptop)
            assert remote.source.poll(at_s) == []
        remote.send(laptop)
        assert remote.source.poll(1.7) == [Event.ESTOP]
        assert not remote.source.commands["velocity_command"].any()


def test_a_name_holds_the_switch_from_any_address() -> None:
    """As where every datagram has a socket of its own."""
    with Remote(RANGES, timeout_s=0.5) as remote, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        remote.send({"sender": "telephone", "event": "stand"})
        assert remote.source.poll(1.0) == [Event.STAND]
        other.sendto(b'{"sender": "telephone", "goal": [0.5, 0.5]}', remote.source.address)
        while np.isnan(remote.source.commands["goal"]).any():
            assert remote.source.poll(1.4) == []
        remote.send({"sender": "telephone"})
        assert remote.source.poll(1.8) == []
        assert remote.source.poll(2.2) == []
        assert remote.source.poll(2.4) == [Event.ESTOP]


class Waiting(socket.socket):
    """A socket at which so many datagrams wait."""

    def __init__(self, *orders: object) -> None:
        super().__init__(socket.AF_INET, socket.SOCK_DGRAM)
        self.left = [json.dumps(order).encode() for order in orders]

    def recvfrom(self, bufsize: int, flags: int = 0) -> tuple[bytes, tuple[str, int]]:
        """Return the next one."""
        if not self.left:
            raise BlockingIOError
        return self.left.pop(0), ("127.0.0.1", 9)


@pytest.mark.parametrize("stopped", [False, True])
def test_what_arrived_before_the_loop_was_ready_is_forgotten_but_for_an_emergency_stop(stopped: bool) -> None:
    order = {"event": "policy", "velocity": [0.3, 0, 0], "goal": [0.5, 0.5]}
    with UdpOperator(("127.0.0.1", 0), RANGES, timeout_s=0.5) as source:
        source._socket.close()
        source._socket = Waiting(*[order] * PER_TICK, *[{"event": "estop"}] * stopped, *[order] * PER_TICK)
        source.heed(orders=True)
        assert source.poll(0.0) == [Event.ESTOP] * stopped
        assert not source.commands["velocity_command"].any()
        assert np.isnan(source.commands["goal"]).all()
        assert source.poll(9.0) == []


def test_a_stalled_loop_reads_what_has_come_before_it_judges_the_silence() -> None:
    with Remote(RANGES, timeout_s=0.5) as remote:
        remote.send({"event": "stand"})
        remote.source.poll(1.0)
        remote.send({})
        assert remote.source.poll(5.0) == []


def test_a_flood_is_read_in_parts() -> None:
    with Remote(RANGES) as remote:
        remote.send(*[{"event": "stand"}] * (PER_TICK + 8))
        first = remote.source.poll(0.0)
        assert len(first) <= PER_TICK
        assert len(first + gather(remote, PER_TICK + 8 - len(first))) == PER_TICK + 8


def test_an_address_is_refused_that_is_taken_is_nobodys_or_is_open_to_others() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(BadInputError, match="cannot be bound"):
            UdpOperator(taken.getsockname(), RANGES)
    with pytest.raises(BadInputError, match="cannot be bound"):
        UdpOperator(("203.0.113.1", 0), RANGES)
    with pytest.raises(
        BadInputError, match=r"can be reached by others and needs a token, got '0\.0\.0\.0:0'"
    ):
        UdpOperator(("0.0.0.0", 0), RANGES)
    UdpOperator(("0.0.0.0", 0), RANGES, token="sesame").close()
