"""A deterministic actor with its slowly following target, which DDPG and TD3 share."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from robotrl.learn.flat import Adam, Flat
from robotrl.learn.group import Group
from robotrl.learn.networks import plain_mlp
from robotrl.learn.off_policy import OffPolicyParams
from robotrl.learn.off_policy_by_hand import HandActor, quick_bfloat16
from robotrl.learn.target_critics import ADAM_EPS
from robotrl.spec.records import Between


@dataclass(frozen=True, kw_only=True)
class DeterministicParams(OffPolicyParams):
    """What the tables of both hold."""

    exploration_std: Annotated[float, Between(0)] = 0.1
    """Of the Gaussian noise on actions in [-1, 1]; the noise of DDPG's paper is correlated in time."""
    action_l2: Annotated[float, Between(0)] = 0.0
    """Weight of the mean square of such actions in the loss (Andrychowicz et al. 2017, appendix A)."""


class DeterministicActor:
    """Observation (B, obs) -> action (B, n) in [-1, 1], with target and optimiser.

    Attributes:
        net: the actor.
        target: follows it.
        adam: moves it.
    """

    def __init__(self, params: OffPolicyParams, observation: int, action: int) -> None:
        trunk = plain_mlp(observation, params.hidden, action, gain=0.1)
        self.net = nn.Sequential(trunk, nn.Tanh())
        self.target = copy.deepcopy(self.net).requires_grad_(False)
        self.adam = Adam(trunk.parameters(), params.lr, ADAM_EPS)
        self._target_flat, self._tau = Flat(self.target.parameters()), params.tau
        dtype = quick_bfloat16(params.bfloat16, self._target_flat.vector.device)
        self._target_hand = HandActor(self.target[0], dtype) if dtype else None

    def noisy(self, x: Tensor, noise: Tensor, std: float) -> Tensor:
        """Actions (B, n) with Gaussian noise (B, n) of deviation `std`."""
        return torch.add(self.net(x), noise, alpha=std).clamp(-1, 1)

    def following(self, x: Tensor) -> Tensor:
        """Actions (B, n) of the target."""
        if self._target_hand:
            return self._target_hand.forward(x)[0].tanh()
        action: Tensor = self.target(x)
        return action

    def step(self, group: Group) -> None:
        """Move the actor by its gradient, averaged over the group."""
        group.mean_(self.adam.flat.gradient)
        self.adam.step()

    def follow(self) -> None:
        """Let the target follow by the share tau."""
        self._target_flat.vector.lerp_(self.adam.flat.vector, self._tau)
