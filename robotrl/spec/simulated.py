"""A simulated task in the place of a robot: what its policies are exported for and compared with."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from robotrl.spec.channels import OBSERVED, Source


@dataclass(frozen=True)
class Control:
    """One control of the model, in the unit of the task."""

    name: str
    """Of its actuator."""
    low: float
    high: float


@dataclass(frozen=True)
class SimulatedTask:
    """A task that no robot does.

    Attributes:
        name: as Gymnasium calls it.
        options: keyword arguments of `gymnasium.make`.
        rate_hz: control steps a second.
        observation_size: numbers in an observation.
        controls: in the order of the model's actuators.
    """

    name: str
    options: Mapping[str, object]
    rate_hz: float
    observation_size: int
    controls: tuple[Control, ...]

    @property
    def sources(self) -> frozenset[Source]:
        """The channel sources that a simulation has."""
        return frozenset({Source.SIMULATION})

    @property
    def sizes(self) -> Mapping[str, int]:
        """What the letters in the channels' shapes stand for."""
        return {OBSERVED: self.observation_size}

    @cached_property
    def policy_hash(self) -> str:
        """SHA-256 over all of it."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()
