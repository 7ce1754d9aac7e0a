"""Firmware of the estimator: packets at its rate that say exactly what is true, as float32 carries it.

An exact one is an assumption: what a camera system or a joint's own sensor gets wrong is not modelled.
Time is always an argument.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from robotrl.drivers import estimator as codec
from robotrl.emulator.sampling import next_sample_s
from robotrl.spec.robot import EstimatorSpec
from robotrl.spec.state import Floats


class Estimator:
    """One estimator, set up as robot.toml says; it takes no commands.

    Args:
        spec: its rate and channels.
    """

    def __init__(self, spec: EstimatorSpec) -> None:
        self._names, self._rate_hz = tuple(spec.channels), spec.rate_hz
        self._sequence = 0
        self.next_sample_s = 0.0
        """When the next packet is due."""

    def sample(self, time_s: float, truth: Mapping[str, Floats]) -> bytes:
        """Return the packet of the present truth, by channel."""
        self.next_sample_s = next_sample_s(time_s, self._rate_hz)
        packet = codec.encode(self._sequence, np.concatenate([truth[name].ravel() for name in self._names]))
        self._sequence = (self._sequence + 1) % 256
        return packet
