"""`robotrl emulate`: the simulated robot behind pseudo-terminals, speaking the real bytes."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from robotrl.errors import BadInputError, ConfigError

if TYPE_CHECKING:
    from robotrl.emulator.fetch import FetchWorld
    from robotrl.emulator.plant import Plant
    from robotrl.spec.arm import ArmSpec

FRAME_S = 1 / 60
"""Between two pictures of the viewer."""


@dataclass(frozen=True)
class Emulate:
    """Run a simulated robot whose servos and IMU answer on pseudo-terminals like the real ones.

    The first line of output is JSON with the ports. Then commands are read from the input, one a line:
    `unplug LINE`, `plug LINE`, `eject LINE`, `insert LINE`, `push VX VY`, `stop`; each is acknowledged by a
    JSON line. The end of the input stops it as well. An arm's controller knows `unplug controller`,
    `plug controller` and `stop`.

    Example: `robotrl emulate hardware/quad12 --truth truth.npz`
    """

    robot: tyro.conf.Positional[str] = "quad12"
    """Name of a shipped robot, or path of a robot.toml or its folder."""
    clock: Literal["wall", "bus"] = "wall"
    """`wall`: real time. `bus`: time advances only with the traffic, so that runs repeat exactly."""
    truth: Path | None = None
    """Write what the robot really did to this .npz at the end, 100 samples a second."""
    faults: Path | None = None
    """Fault script: a TOML file with tables such as [[cut]], [[noise]], [[brown_out]] or [[imu_freeze]]; all
    of them are in `robotrl.emulator.faults`. [[eject]] needs the wall clock."""
    seed: int = 0
    """Of the start posture, the IMU's noise and the damage on the wires."""
    view: bool = False
    """Show the robot in MuJoCo's viewer; needs a screen."""

    def run(self) -> int:
        """Serve until `stop`, the end of the input or an interrupt."""
        from robotrl.bench.opengl import check_screen
        from robotrl.emulator.faults import FaultScript, load_faults
        from robotrl.emulator.machine import Machine
        from robotrl.emulator.process import Emulator
        from robotrl.spec.arm import ArmSpec
        from robotrl.spec.hardware import load_hardware
        from robotrl.spec.shipped import find_shipped

        if self.seed < 0:
            raise BadInputError("is negative", key="--seed", value=self.seed, allowed="0 or more")
        robot = load_hardware(find_shipped("hardware", self.robot))
        if isinstance(robot, ArmSpec):
            return self._emulate_arm(robot)
        script = FaultScript() if self.faults is None else load_faults(self.faults, robot)
        if self.truth is not None and not self.truth.resolve().parent.is_dir():
            raise ConfigError("is in a folder that does not exist", key="truth", value=str(self.truth))
        if self.clock == "bus" and script.eject:
            raise ConfigError(
                "holds [[eject]], and the bus clock stands still while a port is gone",
                key="faults",
                value=str(self.faults),
                allowed="such a script with --clock wall",
            )
        if self.view:
            check_screen()
        machine = Machine(robot, script, self.seed, log=self.truth is not None)
        emulator = Emulator(machine, self.clock, sys.stdin.fileno(), sys.stdout)
        self._serve(partial(emulator.run, self.truth), machine.plant)
        return 0

    def _emulate_arm(self, arm: ArmSpec) -> int:
        """Serve as the arm's controller.

        Raises:
            BadInputError: something is asked for that is kept of robots with servos only.
        """
        from robotrl.bench.opengl import check_screen
        from robotrl.emulator.arm import ArmMachine
        from robotrl.emulator.arm_process import ArmEmulator

        for key, given in {"--truth": self.truth, "--faults": self.faults, "--seed": self.seed}.items():
            if given:
                raise BadInputError("is not an option for an arm", key=key, value=str(given))
        if self.view:
            check_screen()
        machine = ArmMachine(arm)
        emulator = ArmEmulator(machine, self.clock, sys.stdin.fileno(), sys.stdout)
        self._serve(emulator.run, machine.world)
        return 0

    def _serve(self, run: Callable[[Callable[[], None] | None], None], shown: Plant | FetchWorld) -> None:
        """Run an emulator until it ends or is interrupted."""
        with contextlib.ExitStack() as stack:
            meanwhile = self._shown(stack, shown) if self.view else None
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            stack.enter_context(contextlib.suppress(KeyboardInterrupt))
            run(meanwhile)

    def _shown(self, stack: contextlib.ExitStack, world: Plant | FetchWorld) -> Callable[[], None]:
        """Open the viewer; return what keeps it up to date until somebody closes it."""
        from robotrl.bench.window import open_window

        window = stack.enter_context(open_window(world.model, world.data, lambda _: None))
        shown_s = time.monotonic()

        def show() -> None:
            nonlocal shown_s
            if time.monotonic() - shown_s >= FRAME_S and window.is_running():
                window.sync()
                shown_s = time.monotonic()

        return show
