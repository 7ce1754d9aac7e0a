"""A direct task: actions are the actuators' controls, and one function scores a control step.

This is the form of the classic Gymnasium tasks. As with `robotrl.tasks.task`, everything is batched
torch over a `WorldView`; B is the number of worlds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from robotrl.tasks.task import WorldView


@dataclass(frozen=True)
class ModelFacts:
    """What the rules of a direct task may know of the compiled model.

    Attributes:
        nv: degrees of freedom.
        timestep_s: one physics step.
        qpos0: the model's reference position (nq).
        body_mass: kg (nbody).
        body_id: index of each body by its name.
        dtype: of the worlds' tensors.
    """

    nv: int
    timestep_s: float
    qpos0: tuple[float, ...]
    body_mass: tuple[float, ...]
    body_id: Mapping[str, int]
    dtype: torch.dtype


@dataclass(frozen=True)
class Rules:
    """A direct task's functions for one model; their constants lie on the device they were built under.

    Attributes:
        terms: names of the reward's terms.
        mark: view -> (B,), what progress is measured of; taken before a step and handed to `score`.
        observe: view after a step -> observation (B, obs).
        first: view after a reset -> observation (B, obs).
        score: (view after the step, mark before it, action (B, nu)) -> the reward's terms, each (B,),
            whose sum is the reward, and whether the episode ends by itself (B,) bool.
        start: (count, generator) -> qpos (count, nq), qvel (count, nv) of new episodes.
    """

    terms: tuple[str, ...]
    mark: Callable[[WorldView], Tensor]
    observe: Callable[[WorldView], Tensor]
    first: Callable[[WorldView], Tensor]
    score: Callable[[WorldView, Tensor, Tensor], tuple[tuple[Tensor, ...], Tensor]]
    start: Callable[[int, torch.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class DirectTask:
    """Everything that defines a direct task.

    Attributes:
        name: as Gymnasium calls it.
        model_file: MJCF.
        frame_skip: physics steps per action.
        episode_steps: actions until the time-out.
        contact_forces: whether `data("cfrc_ext")` is read after a step, which backends must then
            provide as `mj_rnePostConstraint` gives it *after* the step.
        rules: builds the functions for the compiled model.
    """

    name: str
    model_file: Path
    frame_skip: int
    episode_steps: int
    contact_forces: bool
    rules: Callable[[ModelFacts], Rules]
