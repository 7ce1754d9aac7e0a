"""When a sensor samples: on a grid of its own clock, whatever the steps of the emulation."""

from __future__ import annotations

import math

_ROUNDING = 1e-6
"""Of a sample: a time that is this little before its sample's is that sample's."""


def next_sample_s(time_s: float, rate_hz: float) -> float:
    """Return when the sample after `time_s` is due: the next whole multiple of the period.

    So one that is taken late, in the next step, delays none after it, and one that was left out is not made
    up for.
    """
    return (math.floor(time_s * rate_hz + _ROUNDING) + 1) / rate_hz
