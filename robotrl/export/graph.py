"""PolicyGraph: sensor channels and memory in, command and next memory out, as one torch module."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robotrl.errors import VerificationError
from robotrl.export.network import ForeignNetwork
from robotrl.learn.networks import Actor
from robotrl.spec.channels import CHANNELS, GOAL
from robotrl.spec.commands import OUTPUTS
from robotrl.tasks.task import MemorySpec, PolicyInterface

ACTOR_MEMORY = "actor_memory"
"""Name of what a recurrent network carries from tick to tick, zero at first."""

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Trace:
    """The trained policy along recorded channels, memory carried from tick to tick.

    Every array is float32 with one row per tick: `inputs` has the channels and the memory before
    the tick, `outputs` has the command, named as in `OUTPUTS`, then `next_<memory>`.
    """

    inputs: Arrays
    outputs: Arrays

    def __len__(self) -> int:
        """Return the number of ticks."""
        return len(self.command)

    @property
    def command(self) -> NDArray[np.float32]:
        """The commands (T, n): the first output."""
        return next(iter(self.outputs.values()))


class PolicyGraph(nn.Module):
    """One tick of a policy, built from the very functions and network that training ran.

    Inputs are the channels, then the memory, each float32 without a batch dimension; outputs are
    the command as `OUTPUTS` names it, `joint_target` (n,) rad for one, then each memory's next value.

    Attributes:
        memory: the task's, then that of a recurrent network.
    """

    def __init__(
        self, interface: PolicyInterface, actor: Actor | ForeignNetwork, sizes: Mapping[str, int]
    ) -> None:
        """Build the module.

        Args:
            interface: the task's channels, memory and functions.
            actor: the trained network, normaliser included, or a foreign one.
            sizes: of the robot, as `RobotSpec.sizes`, or of the simulated task.
        """
        super().__init__()
        self.interface = interface
        self.actor = copy.deepcopy(actor).to("cpu").eval().requires_grad_(requires_grad=False)
        self.input_shapes: dict[str, tuple[int, ...]] = {
            name: CHANNELS[name].shape_on({**sizes, GOAL: interface.goal_size}) for name in interface.channels
        }
        own = (MemorySpec(ACTOR_MEMORY, (0.0,) * actor.memory_size),) if actor.memory_size else ()
        self.memory = interface.memory + own
        self.input_shapes |= {m.name: (len(m.initial),) for m in self.memory}
        self.output_names = (OUTPUTS[interface.command], *(f"next_{m.name}" for m in self.memory))

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """One tick: inputs and outputs in the order of the class docstring."""
        return tuple(out.squeeze(0) for out in self.batched(*(value.unsqueeze(0) for value in inputs)))

    def batched(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Many independent ticks: the same with a leading batch dimension (B, ...)."""
        values = dict(zip(self.input_shapes, inputs, strict=True))
        channels = {name: values[name] for name in self.interface.channels}
        memory = {m.name: values[m.name] for m in self.interface.memory}
        observation = self.interface.observe(channels, memory)
        if self.actor.memory_size:
            action, known = self.actor.step(observation, values[ACTOR_MEMORY])
        else:
            action, known = self.actor(observation), None
        following = self.interface.advance(channels, memory, action)
        target = self.interface.target(channels, action)
        answers = (target, *(following[m.name] for m in self.interface.memory))
        return answers if known is None else (*answers, known)

    def initial_memory(self) -> Arrays:
        """Memory at the first tick."""
        return {m.name: np.array(m.initial, np.float32) for m in self.memory}


@torch.no_grad()
def trace(graph: PolicyGraph, recorded: Mapping[str, NDArray[np.float32]], ticks: int) -> Trace:
    """Run the trained policy over recorded channels, tick by tick.

    Args:
        graph: the policy.
        recorded: channel name -> (T, ...) in the channel's unit.
        ticks: how many to run.

    Raises:
        VerificationError: a channel is missing, too short, of another shape or not finite.
    """
    channels = {
        name: _first(name, recorded, graph.input_shapes[name], ticks) for name in graph.interface.channels
    }
    memory = graph.initial_memory()
    inputs: list[Arrays] = []
    outputs: list[Arrays] = []
    for t in range(ticks):
        tick = {name: values[t] for name, values in channels.items()} | memory
        answers = graph(*(torch.from_numpy(value) for value in tick.values()))
        inputs.append(tick)
        outputs.append({n: v.numpy() for n, v in zip(graph.output_names, answers, strict=True)})
        memory = {name: outputs[-1][f"next_{name}"] for name in memory}
    return Trace(_stack(inputs), _stack(outputs))


@torch.no_grad()
def rounding(graph: PolicyGraph, inputs: Mapping[str, NDArray[np.float32]]) -> float:
    """Return the largest difference, in units of action, that computing in float32 makes to the network.

    Args:
        graph: the policy; a foreign network has no other precision, and nothing to tell.
        inputs: channels and memory, one row per independent tick.
    """
    if isinstance(graph.actor, ForeignNetwork):
        return 0.0
    values = {name: torch.from_numpy(inputs[name]) for name in graph.input_shapes}
    observation = graph.interface.observe(values, values)
    carried = values.get(ACTOR_MEMORY, observation[:, :0])
    rounded = graph.actor.step(observation, carried)[0]
    exact = copy.deepcopy(graph.actor).double().step(observation.double(), carried.double())[0]
    return float((rounded - exact).abs().max())


@torch.no_grad()
def evaluate(graph: PolicyGraph, inputs: Mapping[str, NDArray[np.float32]]) -> Arrays:
    """Run independent ticks, given as one row each, through the trained policy in one batch."""
    answers = graph.batched(*(torch.from_numpy(inputs[name]) for name in graph.input_shapes))
    return {name: value.numpy() for name, value in zip(graph.output_names, answers, strict=True)}


def _first(
    name: str, recorded: Mapping[str, NDArray[np.float32]], shape: tuple[int, ...], ticks: int
) -> NDArray[np.float32]:
    if name not in recorded:
        raise VerificationError(f"the recording has no channel {name}; it has {', '.join(sorted(recorded))}")
    values = np.ascontiguousarray(recorded[name][:ticks], dtype=np.float32)
    if values.shape != (ticks, *shape):
        raise VerificationError(f"recorded channel {name} is {values.shape}; needed {(ticks, *shape)}")
    if not np.isfinite(values).all():
        raise VerificationError(f"recorded channel {name} is not finite")
    return values


def _stack(rows: list[Arrays]) -> Arrays:
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
