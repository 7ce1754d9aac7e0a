"""`robotrl run --dashboard`: the page and the operator behind its buttons."""

from __future__ import annotations

import contextlib
import secrets
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robotrl.runtime.operator import Ranges
    from robotrl.runtime.recorder import Recorders
    from robotrl.runtime.udp import UdpOperator
    from robotrl.spec.robot import RobotSpec

LINK_S = 1.5
"""A page that has made the robot move and is silent for longer is an emergency stop. Browsers let a page
that nobody sees speak once a second."""


def place_of(given: tuple[str, ...]) -> str:
    """Return where to serve: what was given after `--dashboard`, or a port of this computer alone.

    Raises:
        BadInputError: more than one place.
    """
    from robotrl.errors import BadInputError
    from robotrl.runtime.dashboard.feed import DEFAULT_PLACE

    if len(given) > 1:
        raise BadInputError("is one place", key="--dashboard", value=" ".join(given), allowed="HOST:PORT")
    return given[0] if given else DEFAULT_PLACE


def open_dashboard(
    stack: contextlib.ExitStack,
    recorders: Recorders,
    place: str,
    robot: RobotSpec,
    policy: str,
    ranges: Ranges,
    *,
    armed: bool,
    real_time: bool,
) -> UdpOperator:
    """Serve the page, say where, and return the operator that its buttons are.

    Args:
        stack: what closes the operator.
        recorders: what feeds the page and ends its process.
        place: `HOST:PORT`.
        robot: what is shown.
        policy: its name.
        ranges: what the policy reads.
        armed: whether motion is allowed.
        real_time: whether the loop's clock is that of people, so that a silent page can be told.

    Raises:
        BadInputError: no such place, or none to serve at.
    """
    from robotrl.runtime.dashboard.encode import subject_of
    from robotrl.runtime.dashboard.feed import Dashboard
    from robotrl.runtime.udp import UdpOperator

    token = secrets.token_urlsafe(16)
    timeout_s = LINK_S if real_time else None
    operator = stack.enter_context(UdpOperator(("127.0.0.1", 0), ranges, token=token, timeout_s=timeout_s))
    subject = subject_of(robot, policy, ranges, armed=armed)
    dashboard = Dashboard(subject, place, operator.address, token)
    recorders.add(dashboard)
    print(f"dashboard: {dashboard.url}", file=sys.stderr, flush=True)
    return operator
