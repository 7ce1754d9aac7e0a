"""An operator at the other end of the network: one JSON object a datagram, silence is an emergency stop.

Any of `{"event": "stand" | "policy" | "limp" | "rearm" | "estop", "velocity": [vx, vy, wz], "goal": [...],
"token": "...", "sender": "..."}`; an object without event and values is a heartbeat, which counts only from
who has commanded last: the `sender`, or without one the address that the datagram came from. A datagram with
anything else in it is refused as a whole, except that an `estop` is obeyed whatever else there is.
"""

from __future__ import annotations

import hmac
import json
import math
import socket
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any

from robotrl.errors import BadInputError, ProtocolError
from robotrl.runtime.link import Link
from robotrl.runtime.modes import OPERATOR_EVENTS, Event
from robotrl.runtime.operator import GOAL, VELOCITY, Ranges, Setpoint
from robotrl.spec.state import Floats

LONGEST = 2048
"""Bytes of a datagram; a longer one is refused."""

PER_TICK = 32
"""Datagrams read in one tick, so that a flood does not delay it."""

BACKLOG = 4096
"""Datagrams forgotten at most when the loop is ready: more than a socket keeps, so that a flood ends."""

CHANNELS: Mapping[str, str] = MappingProxyType({"velocity": VELOCITY, "goal": GOAL})
"""Key of a datagram -> the operator channel that it sets."""

EVENTS: Mapping[str, Event] = MappingProxyType({event.value: event for event in OPERATOR_EVENTS})
"""What `event` may be."""


@dataclass(frozen=True)
class Order:
    """What one datagram asks for.

    Attributes:
        event: None where there is none.
        asked: channel -> values, finite and of the right number.
        sender: who asks, as they say; empty where they do not.
    """

    event: Event | None
    asked: Mapping[str, tuple[float, ...]]
    sender: str = ""


def parse_order(data: bytes, sizes: Mapping[str, int], token: str | None = None) -> Order:
    """Read one datagram.

    Args:
        data: its bytes.
        sizes: number of values of each operator channel that the policy reads.
        token: what its `token` must be; None where none is needed.

    Raises:
        ProtocolError: it is not what this module describes, or its token is another one.
    """
    table = _object(data)
    given = table.pop("token", None)
    if token is not None and not (isinstance(given, str) and _equal(given, token)):
        raise ProtocolError("has not the token")
    name = table.pop("event", None)
    if name == Event.ESTOP.value:
        return Order(Event.ESTOP, {})
    if name is not None and not (isinstance(name, str) and name in EVENTS):
        raise ProtocolError(f"has the event {name!r}; allowed: {', '.join(sorted(EVENTS))}")
    sender = table.pop("sender", "")
    if not isinstance(sender, str):
        raise ProtocolError(f"has the sender {sender!r}; allowed: a text")
    asked = {CHANNELS.get(key, key): _values(key, values, sizes) for key, values in table.items()}
    return Order(None if name is None else EVENTS[name], asked, sender)


def _object(data: bytes) -> dict[str, Any]:
    if len(data) > LONGEST:
        raise ProtocolError(f"is longer than {LONGEST} bytes")
    try:
        table = json.loads(data, parse_int=float)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("is not JSON") from error
    if not isinstance(table, dict):
        raise ProtocolError("is not a JSON object")
    return table


def _equal(given: str, token: str) -> bool:
    """Compare in a time that does not tell how much was right."""
    return hmac.compare_digest(given.encode(errors="replace"), token.encode())


def _values(key: str, values: object, sizes: Mapping[str, int]) -> tuple[float, ...]:
    size = sizes.get(CHANNELS.get(key, ""))
    if size is None:
        raise ProtocolError(f"has the key {key!r}, which this policy does not read")
    if not (isinstance(values, list) and len(values) == size and all(map(_is_number, values))):
        raise ProtocolError(f"has {key} {values!r}; allowed: {size} finite numbers")
    return tuple(values)


def _is_number(value: object) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _bound(bind: tuple[str, int], token: str | None) -> socket.socket:
    """Return a socket of an address that others cannot reach without a token."""
    name = f"{bind[0]}:{bind[1]}"
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.setblocking(False)
    try:
        bound.bind(bind)
    except (OSError, TypeError) as error:  # TypeError: a name that idna cannot encode
        bound.close()
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadInputError(f"cannot be bound ({reason})", key="--udp", value=name) from error
    if token is None and not ip_address(bound.getsockname()[0]).is_loopback:
        bound.close()
        raise BadInputError("can be reached by others and needs a token", key="--udp", value=name)
    return bound


class UdpOperator:
    """Obeys the datagrams that arrive at one address.

    Every event asks for no velocity but that of its own datagram, so that no walk goes on where it was left.
    A link that is silent for longer than the time-out asks for none either, and is an emergency stop if it
    has commanded.
    """

    def __init__(
        self,
        bind: tuple[str, int],
        ranges: Ranges,
        *,
        token: str | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Bind the address; nothing is read before the first `poll`.

        Args:
            bind: host (an IPv4 address or a name of one) and port; port 0 takes a free one.
            ranges: what the policy reads.
            token: what every datagram must carry; None where none is needed.
            timeout_s: longest silence of a link that has commanded; None for any.

        Raises:
            BadInputError: the address cannot be bound, or others can reach it and there is no token.
        """
        self._setpoint = Setpoint(ranges)
        self._sizes = {name: len(low) for name, (low, _) in self._setpoint.ranges.items()}
        self._token = token
        self._link = Link(math.inf if timeout_s is None else timeout_s)
        self._refused, self._why = 0, ""
        self._kept: list[Event] = []
        self._socket = _bound(bind, token)

    def __enter__(self) -> UdpOperator:
        """Nothing to do."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the socket."""
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that are bound."""
        host, port = self._socket.getsockname()
        return host, port

    @property
    def commands(self) -> Mapping[str, Floats]:
        """What is asked for now."""
        return self._setpoint.values

    @property
    def notes(self) -> list[str]:
        """A sentence where datagrams were refused."""
        sentence = f"{self._refused} datagrams of UDP were refused; the last one {self._why}"
        return [sentence] * (self._refused > 0)

    def poll(self, elapsed_s: float) -> list[Event]:
        """Obey what has arrived, in order; then judge the silence."""
        events, self._kept = self._kept, []
        for order, sender in self._orders(PER_TICK):
            events += self._obey(order, sender, elapsed_s)
        events += self._link.silent(elapsed_s)
        if Event.ESTOP in events or (self._setpoint.walks and self._link.is_silent(elapsed_s)):
            self._setpoint.stop()
        return events

    def heed(self, *, orders: bool) -> None:
        """Forget what has arrived, but for an emergency stop; or miss nobody any more."""
        if orders:
            stopped = Event.ESTOP in [order.event for order, _ in self._orders(BACKLOG)]
            self._kept = [Event.ESTOP] * stopped
        else:
            self._link.end()

    def finished(self) -> bool:
        """Return False: there may always be a next one."""
        return False

    def _orders(self, most: int) -> Iterator[tuple[Order, Hashable]]:
        """What has arrived and from whom, of up to so many datagrams; count what is refused."""
        for _ in range(most):
            try:
                data, address = self._socket.recvfrom(LONGEST + 1)
                order = parse_order(data, self._sizes, self._token)
                yield order, order.sender or address
            except BlockingIOError:
                return
            except ProtocolError as error:
                self._refused += 1
                self._why = str(error)

    def _obey(self, order: Order, sender: Hashable, elapsed_s: float) -> list[Event]:
        events = [] if order.event is None else [order.event]
        if events or order.asked:
            self._link.commanded(events, sender)
        self._link.heard(elapsed_s, sender)
        if events:
            self._setpoint.stop()
        for name, values in order.asked.items():
            self._setpoint.set(name, values)
        return events
