"""PPO learns: on a task whose optimum is known, the policy reaches it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from robotrl.learn.loop import train
from robotrl.learn.ppo import Ppo
from tests.learn.test_networks import plain_ppo, small_ppo
from tests.learn.test_rollout import CountingEnv


class MatchEnv:
    """Reward -|action - wanted(observation)|^2 with an equivariant linear `wanted`; one-step episodes."""

    num = 64

    def __init__(self, privileged_size: int) -> None:
        self._privileged_size = privileged_size
        self._draw()

    def _draw(self) -> None:
        self.observation = torch.randn(self.num, 4)
        self.privileged = torch.zeros(self.num, self._privileged_size)

    def wanted(self) -> Tensor:
        x = self.observation
        return 0.5 * torch.stack((x[:, 0], x[:, 2], x[:, 1]), dim=-1)

    def step(self, action: Tensor) -> CountingEnv.Stepped:
        reward = -(action - self.wanted()).square().sum(-1)
        self._draw()
        every = torch.ones(self.num, dtype=torch.bool)
        ids = torch.arange(self.num)
        return CountingEnv.Stepped(reward, every, ~every, ids, self.observation, self.privileged)

    def take_statistics(self) -> dict[str, float]:
        return {}


@pytest.mark.parametrize(("learner", "privileged_size"), [(small_ppo, 1), (plain_ppo, 0)])
def test_ppo_finds_the_wanted_action(learner: Callable[[], Ppo], privileged_size: int) -> None:
    torch.manual_seed(0)
    env, ppo = MatchEnv(privileged_size), learner()
    iterations = train(env, ppo, 0, 0)
    for _ in range(100):
        next(iterations)
    with torch.no_grad():
        error = (ppo.actor(env.observation) - env.wanted()).abs().mean()
    assert error < 0.1
    assert env.wanted().abs().mean() > 0.3, "doing nothing must not pass"
