"""Off-policy targets and losses against closed forms: tabular processes, finite differences, definitions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from robotrl.learn.critics import BatchedLinear, CategoricalReturns, Critics, MeanReturns, Modern
from robotrl.learn.ddpg import Ddpg, DdpgParams
from robotrl.learn.replay import Batch, Replay
from robotrl.learn.reward_bound import RewardBound
from robotrl.learn.sac import Sac, SacParams
from robotrl.learn.squashed import squash
from robotrl.learn.td3 import Td3, Td3Params
from tests.exact.mdp import (
    Mdp,
    action_values,
    policy_value,
    random_mdp,
    soft_value_iteration,
    value_iteration,
)
from tests.learn.test_replay import Stepped

MDP = random_mdp(seed=1, states=4, actions=3, gamma=0.8, ends=0.3)


def expected_target(mdp: Mdp, value_of_next: Tensor, backup: Callable[[Batch, Tensor], Tensor]) -> Tensor:
    """Mean over next states and ends of what `backup` makes of every (s, a, s', end) of a process."""
    found = torch.zeros_like(mdp.reward)
    for ended in (False, True):
        share = mdp.ends if ended else 1 - mdp.ends
        for then in range(mdp.states):
            reward = mdp.reward.flatten()
            discount = torch.full_like(reward, 0.0 if ended else mdp.gamma)
            nothing = reward.new_zeros((len(reward), 1))
            batch = Batch(nothing, nothing, reward, discount, nothing)
            target = backup(batch, value_of_next[then].expand_as(reward))
            found += share * mdp.transition[..., then] * target.view_as(found)
    return found


def test_the_best_next_action_gives_the_optimal_action_values() -> None:
    returns, value = MeanReturns(), value_iteration(MDP)

    def backup(batch: Batch, after: Tensor) -> Tensor:
        return returns.target(torch.stack((after, after + 1))[..., None], batch.reward, batch.discount, 0.0)

    torch.testing.assert_close(expected_target(MDP, value, backup), action_values(MDP, value))


def test_the_entropy_bonus_gives_the_soft_optimal_action_values() -> None:
    """E over the soft optimal policy of Q(s', a') - temperature log pi is its soft value."""
    returns, temperature = MeanReturns(), 0.3
    policy, value = soft_value_iteration(MDP, temperature)
    q = action_values(MDP, value)
    found = torch.zeros_like(q)
    for action in range(MDP.actions):

        def backup(batch: Batch, after: Tensor, action: int = action) -> Tensor:
            state = int((value == after[0]).nonzero())
            bonus = (-temperature * policy[state, action].log()).expand_as(after)
            out = q[state, action].expand(2, len(after), 1)
            return policy[state, action] * (returns.target(out, batch.reward, batch.discount, bonus))

        found += expected_target(MDP, value, backup)
    torch.testing.assert_close(found, q)


def test_categorical_targets_have_the_mean_of_the_exact_ones() -> None:
    returns = CategoricalReturns(bins=51, value_max=8.0)
    value = value_iteration(MDP)
    assert value.abs().max() < 5

    def backup(batch: Batch, after: Tensor) -> Tensor:
        certain = returns.project(torch.ones(len(after), 1), after[:, None].clone())
        logits = (certain + 1e-300).log().expand(2, -1, -1)
        return returns.target(logits, batch.reward, batch.discount, 0.0) @ returns.atoms

    torch.testing.assert_close(expected_target(MDP, value, backup), action_values(MDP, value))


def test_projection_keeps_probability_and_mean_and_stays_on_the_support() -> None:
    returns = CategoricalReturns(bins=11, value_max=1.0)
    probability = torch.rand(20, 11).softmax(-1)
    inside = torch.rand(20, 11) * 2 - 1
    projected = returns.project(probability, inside)
    torch.testing.assert_close(projected.sum(-1), torch.ones(20))
    torch.testing.assert_close(projected @ returns.atoms, (probability * inside).sum(-1))
    outside = returns.project(probability, inside + 3.0)
    torch.testing.assert_close(outside[:, -1], torch.ones(20))


def test_the_lowest_critic_is_chosen_sample_by_sample() -> None:
    returns = CategoricalReturns(bins=3, value_max=1.0)
    logits = torch.log(torch.tensor([[[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]], [[0.1, 0.1, 0.8], [0.8, 0.1, 0.1]]]))
    target = returns.target(logits, torch.zeros(2), torch.ones(2), 0.0)
    torch.testing.assert_close(target, torch.tensor([[0.8, 0.1, 0.1], [0.8, 0.1, 0.1]]))


@pytest.mark.parametrize("n_step", [1, 2, 4])
def test_n_step_returns_have_the_exact_value_as_mean(n_step: int) -> None:
    """Bootstrapped with the true value, returns of any length are unbiased, whatever ends an episode."""
    policy = torch.full((MDP.states, MDP.actions), 1 / MDP.actions)
    value = policy_value(MDP, policy)
    worlds, time_out = 500, 5
    replay = Replay(200 * worlds, worlds, 1, 1, torch.Generator().manual_seed(0))
    state, age = torch.randint(MDP.states, (worlds,)), torch.arange(worlds) % time_out
    for _ in range(200):
        action = torch.randint(MDP.actions, (worlds,))
        then = torch.multinomial(MDP.transition[state, action], 1)[:, 0]
        terminated = torch.rand(worlds) < MDP.ends[state, action]
        age = age + 1
        truncated = (age >= time_out) & ~terminated
        ids = (terminated | truncated).nonzero()[:, 0]
        stepped = Stepped(
            MDP.reward[state, action],
            terminated,
            truncated,
            ids,
            then[ids, None].double(),
            torch.zeros(len(ids), 0),
        )
        observed = state[:, None].double()
        state, age = then.clone(), age.clone()
        state[ids], age[ids] = torch.randint(MDP.states, (len(ids),)), 0
        replay.add(observed, action[:, None].double(), stepped, state[:, None].double())
    batch = replay.sample(200_000, n_step, MDP.gamma)
    found = batch.reward + batch.discount * value[batch.following[:, 0].long()]
    for s in range(MDP.states):
        mine = found[batch.observation[:, 0] == s]
        error = float(mine.std()) / len(mine) ** 0.5
        # Drawn steps repeat and overlap, so five standard errors of as many independent ones are doubled.
        assert abs(float(mine.mean() - value[s])) < 10 * error


def test_squashed_log_densities_are_those_of_the_transformed_distribution() -> None:
    mean, log_std, noise = torch.randn(50, 3), torch.randn(50, 3) - 1, torch.randn(50, 3)
    action, log_density = squash(mean, log_std, noise)
    base = Independent(Normal(mean, log_std.exp()), 1)
    reference = TransformedDistribution(base, [TanhTransform(cache_size=1)])
    expected = reference.log_prob(action)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(action, torch.tanh(mean + log_std.exp() * noise))
    torch.testing.assert_close(log_density, expected, rtol=1e-6, atol=1e-6)


def test_log_densities_stay_finite_where_the_tanh_rounds_to_one() -> None:
    mean = torch.tensor([[60.0], [-60.0]], requires_grad=True)
    log_density = squash(mean, torch.zeros(2, 1), torch.zeros(2, 1))[1]
    (gradient,) = torch.autograd.grad(log_density.sum(), mean)
    # Far out log(1 - tanh(u)^2) is 2 log 2 - 2 |u|.
    torch.testing.assert_close(
        log_density, torch.full((2,), 120 - 2 * math.log(2) - 0.5 * math.log(2 * math.pi))
    )
    torch.testing.assert_close(gradient[:, 0], torch.tensor([2.0, -2.0]))


@pytest.mark.parametrize("count", [1, 2])
def test_batched_critics_equal_separate_networks(count: int) -> None:
    critics = Critics(count, 5, 2, (8, 6), None)
    x, action = torch.randn(7, 5), torch.rand(7, 2)
    for i in range(count):
        h = torch.cat((x, action), dim=-1)
        linear = [layer for layer in critics.net if isinstance(layer, BatchedLinear)]
        for k, layer in enumerate(linear):
            h = h @ layer.weight[i] + layer.bias[i, 0]
            h = h.relu() if k < len(linear) - 1 else h
        torch.testing.assert_close(critics.value(x, action)[i], h[:, 0])
        if i == 0:
            torch.testing.assert_close(critics.value(x, action, only_first=True)[0], h[:, 0])


def small_batch(observation: int = 3, action: int = 2, size: int = 6) -> Batch:
    return Batch(
        torch.randn(size, observation),
        torch.rand(size, action) * 2 - 1,
        torch.randn(size),
        torch.rand(size),
        torch.randn(size, observation),
    )


SHARED = {"hidden": (5, 4), "batch": 6}
MODERN = Modern(width=4, bins=7, value_max=3.0)


def learners() -> Iterator[Sac | Td3 | Ddpg]:
    sizes = (3, 0, (-1.0, -2.0), (1.0, 2.0))
    for modern in (None, MODERN):
        yield Sac(SacParams(**SHARED, modern=modern, temperature=0.4), *sizes)  # type: ignore[arg-type]
        yield Td3(Td3Params(**SHARED, modern=modern), *sizes)  # type: ignore[arg-type]
        yield Ddpg(DdpgParams(**SHARED, modern=modern), *sizes)  # type: ignore[arg-type]


def assert_gradient(loss: Callable[[], Tensor], parameters: list[nn.Parameter]) -> None:
    """Compare autograd with central differences of every parameter."""
    gradients = torch.autograd.grad(loss(), parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        values = parameter.data.view(-1)
        for i in range(len(values)):
            before, step = float(values[i]), 1e-6
            values[i] = before + step
            above = float(loss().detach())
            values[i] = before - step
            slope = (above - float(loss().detach())) / (2 * step)
            values[i] = before
            assert slope == pytest.approx(float(gradient.reshape(-1)[i]), rel=1e-4, abs=1e-7)


def test_critic_losses_have_the_gradients_of_finite_differences() -> None:
    for learner in learners():
        batch, online = small_batch(), learner.critics.online
        noise = torch.randn(6, 2)
        target = learner.target(batch) if isinstance(learner, Ddpg) else learner.target(batch, noise)

        def loss(online: Critics = online, batch: Batch = batch, target: Tensor = target) -> Tensor:
            return online.returns.loss(online(batch.observation, batch.action), target)

        assert_gradient(loss, list(online.parameters()))


def test_actor_losses_have_the_gradients_of_finite_differences() -> None:
    for learner in learners():
        x, noise = torch.randn(6, 3), torch.randn(6, 2)

        def loss(learner: Sac | Td3 | Ddpg = learner, x: Tensor = x, noise: Tensor = noise) -> Tensor:
            if not isinstance(learner, Sac):
                return learner.actor_loss(x)
            whole, log_prob = learner.actor_loss(x, noise)
            return whole - learner.log_temperature * (2.0 - log_prob.mean())  # the temperature's own part

        policy = learner.policy if isinstance(learner, Sac) else learner.policy.net
        assert_gradient(loss, list(policy.parameters()))


def test_the_temperature_rises_exactly_when_the_entropy_is_too_low() -> None:
    sac = next(learners())
    assert isinstance(sac, Sac)
    loss, log_prob = sac.actor_loss(torch.randn(6, 3), torch.randn(6, 2))
    (slope,) = torch.autograd.grad(loss, sac.log_temperature)
    torch.testing.assert_close(slope, -log_prob.mean() - (-2.0))


def test_targets_follow_by_exactly_tau() -> None:
    for learner in learners():
        critics = learner.critics
        with torch.no_grad():
            for parameter in critics.online.parameters():
                parameter.add_(torch.randn_like(parameter))
        before = [p.detach().clone() for p in critics.target.parameters()]
        critics.follow()
        for old, new, online in zip(
            before, critics.target.parameters(), critics.online.parameters(), strict=True
        ):
            torch.testing.assert_close(new.detach(), 0.995 * old + 0.005 * online.detach())


def test_scaled_returns_never_leave_the_support() -> None:
    bound, running = RewardBound(0.9, 5.0), torch.zeros(4)
    largest = 0.0
    for t in range(200):
        reward, ended = 100 * torch.randn(4), torch.arange(4) == t % 9
        bound.update(reward, ended, next(learners()).group)
        running = reward + 0.9 * running
        largest = max(largest, float(running.abs().max()))
        running = running * ~ended
    scaled = float(bound.scale(torch.tensor([largest])))
    assert scaled <= 5.0 + 1e-9
    assert scaled == pytest.approx(
        largest / max(largest / 5, float((bound.moments[1] - bound.moments[0] ** 2) ** 0.5))
    )
