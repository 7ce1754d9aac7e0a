"""The rates of policy and loop, and the times of the ramps between modes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from robotrl.spec.buses import Refuse
from robotrl.spec.limits import Positive


@dataclass(frozen=True)
class ControlSpec:
    """The control loop's timing and the ramps between modes."""

    rate_hz: Positive
    """Steps of the policy a second."""
    stand_s: Positive
    """Time to ramp from the measured posture to the default one."""
    park_s: Positive
    """Time to lower the robot before torque off."""
    bus_rate_hz: Positive | None = None
    """Ticks of the loop a second, each with a read, a gate and a write: a multiple of `rate_hz`, by default
    the same. Targets are interpolated between two steps of the policy."""

    @property
    def period_s(self) -> float:
        """Time between two ticks of the loop."""
        return 1.0 / (self.bus_rate_hz or self.rate_hz)

    @property
    def ticks_per_step(self) -> int:
        """Ticks of the loop for one step of the policy."""
        return round((self.bus_rate_hz or self.rate_hz) / self.rate_hz)


def check_rates(control: ControlSpec, refuse: Refuse) -> None:
    """Refuse a loop that is no multiple as fast as the policy."""
    rate_hz, bus_rate_hz = control.rate_hz, control.bus_rate_hz
    if bus_rate_hz is not None and not math.isclose(bus_rate_hz, control.ticks_per_step * rate_hz):
        allowed = f"1, 2, 3 ... times {rate_hz:g}"
        refuse("control.bus_rate_hz", "is no multiple of rate_hz", bus_rate_hz, allowed)
