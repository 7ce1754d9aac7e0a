"""Generalised advantages on exactly solved processes, and what scales and ends a rollout."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from robotrl.learn.group import Group
from robotrl.learn.normalize import RewardScale
from robotrl.learn.rollout import Rollout, Timeouts, gae
from tests.exact.mdp import Mdp, Path, action_values, deterministic_mdp, paths, policy_value, random_mdp
from tests.exact.on_policy import ACTIONS, OBS, a_model, close


def some_policy(mdp: Mdp) -> Tensor:
    weights = torch.rand(mdp.states, mdp.actions)
    return weights / weights.sum(-1, keepdim=True)


def advantage_of(mdp: Mdp, path: Path, value: Tensor, lam: float) -> Tensor:
    """Our GAE (T,) along one path."""
    states, actions = torch.tensor(path.states), torch.tensor(path.actions)
    reward, ended = mdp.reward[states[:-1], actions], torch.tensor(path.ended).double()
    worth = value[states]
    return gae(reward[:, None], ended[:, None], worth[:-1, None], worth[-1:], mdp.gamma, lam)[:, 0]


def expected_gae(mdp: Mdp, policy: Tensor, value: Tensor, lam: float, state: int, action: int) -> float:
    """Over all that can happen in three steps."""
    possible = paths(mdp, policy, state, 3, first_action=action)
    return sum(path.probability * float(advantage_of(mdp, path, value, lam)[0]) for path in possible)


@pytest.mark.parametrize("lam", [0.0, 0.7, 1.0])
def test_with_the_true_values_gae_is_the_true_advantage_on_average(lam: float) -> None:
    mdp = random_mdp(3, 2, 2, 0.9, ends=0.4)
    policy = some_policy(mdp)
    value = policy_value(mdp, policy)
    true = action_values(mdp, value) - value[:, None]
    for state in range(mdp.states):
        for action in range(mdp.actions):
            got = expected_gae(mdp, policy, value, lam, state, action)
            assert got == pytest.approx(float(true[state, action]), abs=1e-10)


@pytest.mark.parametrize("lam", [0.0, 0.7, 1.0])
def test_with_wrong_values_gae_is_the_sum_of_expected_errors(lam: float) -> None:
    """E[A_0] = sum_l (gamma lambda)^l (P^l delta)(s), delta = r + gamma P V - V, from the second step on."""
    mdp = random_mdp(4, 2, 2, 0.8, ends=0.3)
    policy, value = some_policy(mdp), torch.randn(2)
    error = action_values(mdp, value) - value[:, None]
    stays = (1 - mdp.ends)[..., None] * mdp.transition
    go_on = torch.einsum("sa,sat->st", policy, stays)
    mean_error = (policy * error).sum(-1)
    for state in range(mdp.states):
        for action in range(mdp.actions):
            later = mean_error + 0.8 * lam * go_on @ mean_error
            expected = error[state, action] + 0.8 * lam * stays[state, action] @ later
            got = expected_gae(mdp, policy, value, lam, state, action)
            assert got == pytest.approx(float(expected), abs=1e-10)


def test_where_nothing_is_random_gae_sums_the_true_advantages_of_what_is_done() -> None:
    mdp = deterministic_mdp(5, 4, 2, 0.9)
    policy = some_policy(mdp)
    value = policy_value(mdp, policy)
    true = action_values(mdp, value) - value[:, None]
    for path in paths(mdp, policy, 0, 3):
        done = [float(true[s, a]) for s, a in zip(path.states[:-1], path.actions, strict=True)]
        expected = done[0] + 0.9 * 0.8 * (done[1] + 0.9 * 0.8 * done[2])
        assert float(advantage_of(mdp, path, value, 0.8)[0]) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("horizon", [1, 2, 3])
def test_lambda_one_gives_n_step_returns(horizon: int) -> None:
    mdp = random_mdp(6, 3, 2, 0.9)
    value = torch.randn(3)
    for path in list(paths(mdp, some_policy(mdp), 1, horizon))[:40]:
        rewards = [float(mdp.reward[s, a]) for s, a in zip(path.states, path.actions, strict=False)]
        n_step = sum(0.9**t * r for t, r in enumerate(rewards)) + 0.9**horizon * float(value[path.states[-1]])
        got = float(advantage_of(mdp, path, value, 1.0)[0]) + float(value[1])
        assert got == pytest.approx(n_step, abs=1e-10)


def test_an_episode_cut_off_by_time_is_worth_what_would_have_followed() -> None:
    """With the critic's own values, one long episode and the same one cut in the middle earn the same."""
    model = a_model()
    whole = Rollout.empty(6, 1, OBS, 0, ACTIONS)
    whole.observation.normal_()
    whole.reward.normal_()
    whole = replace(whole, last=(torch.randn(1, OBS), torch.zeros(1, 0)))
    cut = replace(whole, ended=whole.ended.clone())
    cut.ended[2] = 1.0
    after = whole.observation[3], whole.privileged[3]
    cut.timeouts = Timeouts(torch.tensor([2]), *after)
    failed = replace(cut, timeouts=Rollout.empty(6, 1, OBS, 0, ACTIONS).timeouts)
    of_whole, of_cut, of_failed = (model.estimate(r, 0.9, 0.0)[1] for r in (whole, cut, failed))
    close(of_cut, of_whole)
    close(of_whole[2] - of_failed[2], 0.9 * model.value(*after))


def test_rewards_are_divided_by_the_deviation_of_each_worlds_own_return() -> None:
    scale, rewards, ended = RewardScale(0.9), torch.randn(2, 5, 3), (torch.rand(2, 5, 3) < 0.3).double()
    scaled = [scale(r, e, Group()) for r, e in zip(rewards, ended, strict=True)]
    returns = []
    for world in range(3):
        running = 0.0
        for earned, end in zip(rewards.flatten(0, 1)[:, world], ended.flatten(0, 1)[:, world], strict=True):
            running = float(earned) + 0.9 * running
            returns.append(running)
            running *= 1.0 - float(end)
    deviation = torch.tensor(returns).std(correction=0)
    torch.testing.assert_close(scaled[1], rewards[1] / deviation, rtol=1e-6, atol=0)
