"""Generalised advantage estimation against its definition, and time-outs against failures."""

from __future__ import annotations

import torch
from torch import Tensor

from robotrl.learn.collect import collect
from robotrl.learn.loop import train
from robotrl.learn.rollout import Rollout, gae
from tests.learn.test_networks import small_ppo


def test_gae_equals_the_double_sum_of_its_definition() -> None:
    torch.manual_seed(0)
    gamma, lam, steps = 0.9, 0.8, 7
    reward, value, last = torch.randn(steps, 3), torch.randn(steps, 3), torch.randn(3)
    ended = torch.zeros(steps, 3)
    ended[2, 0] = ended[6, 1] = 1.0
    got = gae(reward, ended, value, last, gamma, lam)
    values = torch.cat((value, last[None]))
    for b in range(3):
        for t in range(steps):
            expected, factor = 0.0, 1.0
            for k in range(t, steps):
                alive = 1.0 - float(ended[k, b])
                delta = reward[k, b] + gamma * alive * values[k + 1, b] - values[k, b]
                expected += factor * float(delta)
                factor *= gamma * lam * alive
            assert abs(float(got[t, b]) - expected) < 1e-5


class CountingEnv:
    """Two worlds whose observations encode world and step; world 0 times out, world 1 fails, at step 3."""

    num = 2

    def __init__(self) -> None:
        self.t = 0
        self._set()

    def _set(self) -> None:
        self.observation = torch.tensor([[100.0 * w + self.t] * 4 for w in range(2)])
        self.privileged = self.observation[:, :1]

    def step(self, action: Tensor) -> CountingEnv.Stepped:
        self.t += 1
        self._set()
        ended = self.t == 3
        both = torch.tensor([ended, ended])
        ids = torch.tensor([0, 1]) if ended else torch.tensor([], dtype=torch.long)
        return self.Stepped(
            torch.tensor([1.0 * self.t, 10.0 * self.t]),
            both & torch.tensor([False, True]),
            both & torch.tensor([True, False]),
            ids,
            -self.observation[ids],
            -self.privileged[ids],
        )

    def take_statistics(self) -> dict[str, float]:
        return {}

    class Stepped:
        """One step's outcome."""

        def __init__(
            self,
            reward: Tensor,
            terminated: Tensor,
            truncated: Tensor,
            ids: Tensor,
            obs: Tensor,
            private: Tensor,
        ) -> None:
            self.reward, self.terminated, self.truncated = reward, terminated, truncated
            self.final_ids, self.final_observation = ids, obs
            self.final_privileged = private


def test_collect_stores_each_step_in_its_place_and_bootstraps_only_the_timeout() -> None:
    torch.manual_seed(0)
    ppo, env = small_ppo(), CountingEnv()
    rollout = Rollout.empty(4, 2, 4, 1, 3)
    collect(env, ppo.model, rollout)
    assert rollout.observation[:, :, 0].tolist() == [[t, 100.0 + t] for t in range(4)]
    assert rollout.ended.tolist() == [[0, 0], [0, 0], [1, 1], [0, 0]]
    assert rollout.reward.tolist() == [[t, 10.0 * t] for t in range(1, 5)]
    assert [x.tolist() for x in rollout.last] == [[[w] * 4 for w in (4, 104)], [[4], [104]]]
    late = rollout.timeouts
    assert late.place.tolist() == [2 * 2 + 0], "world 0 in step 2; world 1 failed"
    assert (late.observation.tolist(), late.privileged.tolist()) == ([[-3.0] * 4], [[-3.0]])
    terminal = ppo.model.value(late.observation, late.privileged)
    value, advantage = ppo.estimate(rollout)
    torch.testing.assert_close(advantage[2, 0], 3.0 + 0.9 * terminal[0] - value[2, 0])
    torch.testing.assert_close(advantage[2, 1], 30.0 - value[2, 1])


def test_steps_are_counted_from_where_a_run_resumed() -> None:
    iterations = train(CountingEnv(), small_ppo(), first=5, steps_done=1000)
    first, second = next(iterations), next(iterations)
    assert (first.index, first.steps, second.index, second.steps) == (5, 1016, 6, 1032)
