"""What the loop needs of a body, a policy and a recorder; anything of this shape will do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robotrl.runtime.tally import Happening, Tick
from robotrl.spec.state import Floats, JointCommand, RobotState


class Body(Protocol):
    """The robot, as `robotrl.drivers.body.SerialBody` reaches it."""

    def open(self) -> None:
        """Reach every device; torque stays off."""
        ...

    def read(self, now_s: float) -> RobotState:
        """Measure; what did not answer keeps its values and ages."""
        ...

    def write(self, command: JointCommand) -> None:
        """Send one command to every servo."""
        ...

    def rearm(self) -> None:
        """Clear tripped servo watchdogs without moving."""
        ...

    def close(self) -> None:
        """Let go of the ports."""
        ...


class Policy(Protocol):
    """Channels in, command out, as `robotrl.runtime.policy.Policy`."""

    def reset(self) -> None:
        """Set the memory to its initial value."""
        ...

    def step(self, channels: Mapping[str, NDArray[np.float32]]) -> Floats:
        """Return (n,) joint targets in spec order, rad; of a gripper (4,) m as `GRIPPER_AXES`."""
        ...


class Recorder(Protocol):
    """What keeps the flight, as `robotrl.runtime.recorder.McapRecorder`."""

    def tick(self, tick: Tick) -> None:
        """Keep one tick."""
        ...

    def event(self, happening: Happening) -> None:
        """Keep one event."""
        ...
