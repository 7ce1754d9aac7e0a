"""Who commands the robot of `robotrl run`: a script, a keyboard, a gamepad, datagrams, or several of them."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robotrl.runtime.operator import Ranges, Source, Step, Together

LOOPBACK, LAST_PORT = "127.0.0.1", 0xFFFF


@dataclass(frozen=True)
class Operators:
    """Who commands. Where there are several, the last word counts, and an emergency stop of any stops."""

    script: Path | None = None
    """TOML file of [[step]] tables: at_s and any of rearm, mode, velocity, goal."""
    velocity: tuple[float, float, float] | None = None
    """Without any other operator: forward m/s, left m/s, yaw rate rad/s; by default none."""
    goal: tuple[float, ...] = ()
    """Without a script, for a policy that reads one."""
    keyboard: bool = False
    """Command with the keys of this terminal, which are told at the start; space is the emergency stop."""
    gamepad: Path | None = None
    """Command with the gamepad of this joystick device, such as /dev/input/js0, its left shoulder held."""
    udp: str = ""
    """Obey datagrams at this [HOST:]PORT, of this computer alone unless HOST is given."""
    udp_token: str = ""
    """What every datagram must carry; beyond this computer it is needed."""
    link_timeout_s: float = 0.5
    """An operator by UDP who has commanded and is silent for longer is an emergency stop."""

    def join(
        self, stack: contextlib.ExitStack, ranges: Ranges, stand_s: float, further: Sequence[Source] = ()
    ) -> Together:
        """Open all that are asked for, until the stack unwinds; without any, one constant command.

        Args:
            stack: what closes them.
            ranges: what the policy reads.
            stand_s: time that standing up takes.
            further: others to join.

        Raises:
            BadInputError: one of them cannot be had, or something is given that nobody would read.
        """
        from robotrl.runtime.operator import Script, Together

        self._refuse_unread()
        live = [*self._live(stack, ranges), *further]
        script = Script(self._steps(stand_s, alone=not live), ranges, file=self.script)
        return Together([script, *live], ranges)

    def check_finite(self) -> None:
        """Refuse commands that no robot can follow.

        Raises:
            BadInputError: a velocity or goal holds NaN or an infinity.
        """
        from robotrl.errors import BadInputError

        for key, given in {"--velocity": self.velocity or (), "--goal": self.goal}.items():
            if not all(map(math.isfinite, given)):
                raise BadInputError("is no command", key=key, value=given, allowed="finite numbers")

    def _refuse_unread(self) -> None:
        from robotrl.errors import BadInputError

        if self.script is not None:
            for key, given in {"--velocity": self.velocity, "--goal": self.goal or None}.items():
                if given is not None:
                    raise BadInputError("is for a run without a script", key=key, value=given)
        if self.udp_token and not self.udp:
            raise BadInputError("is for a run with --udp", key="--udp-token")

    def _live(self, stack: contextlib.ExitStack, ranges: Ranges) -> list[Source]:
        from robotrl.errors import BadInputError
        from robotrl.runtime.gamepad import Gamepad
        from robotrl.runtime.keyboard import HELP, Keyboard
        from robotrl.runtime.udp import UdpOperator

        if not self.link_timeout_s > 0.0:
            value = self.link_timeout_s
            raise BadInputError("is no time", key="--link-timeout-s", value=value, allowed="above 0")
        sources: list[Source] = []
        if self.udp:
            token, bind = self.udp_token or None, _address(self.udp)
            udp = UdpOperator(bind, ranges, token=token, timeout_s=self.link_timeout_s)
            sources.append(stack.enter_context(udp))
        if self.gamepad is not None:
            sources.append(stack.enter_context(Gamepad.open(self.gamepad, ranges)))
        if self.keyboard:
            sources.append(stack.enter_context(Keyboard(ranges)))
            print(HELP, file=sys.stderr)
        return sources

    def _steps(self, stand_s: float, *, alone: bool) -> tuple[Step, ...]:
        """What the script says; where others command, at most a goal to begin with."""
        from robotrl.errors import BadInputError
        from robotrl.runtime.operator import Step, constant_steps, load_steps

        if self.script is not None:
            return load_steps(self.script)
        if alone:
            return constant_steps(stand_s, self.velocity or (), self.goal)
        if self.velocity is not None:
            raise BadInputError(
                "is for a run without another operator", key="--velocity", value=self.velocity
            )
        return (Step(0.0, goal=self.goal),)


def ask_to_arm(robot: str) -> bool:
    """Ask at the terminal whether a robot may move; without a terminal it may not."""
    from robotrl.runtime.keyboard import in_background

    if not os.isatty(0) or in_background(0):
        return False
    question = f"Type arm to let {robot} move, or Enter to run it without motion: "
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip() == "arm"


def _address(text: str) -> tuple[str, int]:
    """Host and port of `[HOST:]PORT`."""
    from robotrl.errors import BadInputError

    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port) <= LAST_PORT):
        raise BadInputError("is no address", key="--udp", value=text, allowed="[HOST:]PORT, PORT 1 to 65535")
    return host or LOOPBACK, int(port)
