"""`robotrl emulate`: the simulated robot behind pseudo-terminals, speaking the real bytes."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from robotrl.errors import ConfigError


@dataclass(frozen=True)
class Emulate:
    """Run a simulated robot whose servos and IMU answer on pseudo-terminals like the real ones.

    The first line of output is JSON with the ports. Then commands are read from the input, one a line:
    `unplug LINE`, `plug LINE`, `push VX VY`, `stop`; each is acknowledged by a JSON line.

    Example: `robotrl emulate --robot quad12 --truth truth.npz`
    """

    robot: str = "quad12"
    """Name of a shipped robot, or path of a robot.toml."""
    clock: Literal["wall", "bus"] = "wall"
    """`wall`: real time. `bus`: time advances only with the traffic, so that runs repeat exactly."""
    truth: Path | None = None
    """Write what the robot really did to this .npz at the end, 100 samples a second."""
    faults: Path | None = None
    """Fault script: a TOML file with [[cut]], [[noise]], [[imu_silence]] and [[push]] tables."""
    seed: int = 0
    """Of the start posture, the IMU's noise and the damage on the wires."""

    def run(self) -> int:
        """Serve until `stop`, the end of the input or an interrupt."""
        from robotrl.emulator.faults import FaultScript, load_faults
        from robotrl.emulator.machine import Machine
        from robotrl.emulator.process import Emulator
        from robotrl.spec.robot import load_robot
        from robotrl.spec.shipped import find_shipped

        robot = load_robot(find_shipped("hardware", self.robot))
        script = FaultScript() if self.faults is None else load_faults(self.faults, robot)
        if self.truth is not None and not self.truth.resolve().parent.is_dir():
            raise ConfigError("is in a folder that does not exist", key="truth", value=str(self.truth))
        machine = Machine(robot, script, self.seed, log=self.truth is not None)
        emulator = Emulator(machine, self.clock, sys.stdin.fileno(), sys.stdout)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            emulator.run(self.truth)
        except KeyboardInterrupt:
            return 0
        return 0
