"""On-policy learners against exact answers: advantages, gradients, natural gradients and their bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence

from robotrl.learn import actor_critic, networks
from robotrl.learn.a2c import A2c, A2cParams, Batch
from robotrl.learn.actor_critic import ActorCritic, OnPolicyParams
from robotrl.learn.baseline import Baseline
from robotrl.learn.by_hand import can_go_by_hand
from robotrl.learn.group import Group
from robotrl.learn.natural import (
    Fisher,
    PolicyBatch,
    conjugate_gradient,
    divergence,
    flatten,
    natural_gradient,
    policy_parameters,
    surrogate,
)
from robotrl.learn.networks import Unmirrored
from robotrl.learn.normalize import RewardScale
from robotrl.learn.npg import Npg, NpgParams
from robotrl.learn.ppo import Minibatch, Ppo, PpoParams
from robotrl.learn.recurrent import MemoryParams
from robotrl.learn.rollout import Past, Rollout, Timeouts, gae
from robotrl.learn.trpo import Trpo, TrpoParams
from robotrl.learn.vpg import Vpg, VpgParams
from tests.exact.mdp import Mdp, Path, action_values, deterministic_mdp, paths, policy_value, random_mdp
from tests.learn.test_networks import Reflection

OBS, ACTIONS, N = 3, 2, 12
close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# ---------------------------------------------------------------- advantages on exactly solved processes


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


# ---------------------------------------------------------------- densities


def test_densities_and_divergences_equal_torchs() -> None:
    action, mean, other = torch.randn(3, N, ACTIONS)
    std, other_std = torch.rand(2, ACTIONS) + 0.2
    p, q = (Independent(Normal(m, s), 1) for m, s in ((mean, std), (other, other_std)))
    close(actor_critic.log_density(action, mean, std), p.log_prob(action))  # type: ignore[no-untyped-call]
    ours = actor_critic.kl_divergence(mean, std, other, other_std)
    close(ours, kl_divergence(p, q).mean())


# ---------------------------------------------------------------- gradients

COMMON: dict[str, Any] = {
    "steps": N,
    "gamma": 0.9,
    "gae_lambda": 0.9,
    "init_std": 0.5,
    "hidden": (5, 4),
    "activation": "tanh",
    "actor_gain": 1.0,
}
PARTS = Unmirrored(OBS), Unmirrored(0), Unmirrored(ACTIONS)
MIRRORED = Reflection((1, 0, 2), (1.0, 1.0, -1.0)), Unmirrored(0), Reflection((1, 0), (1.0, 1.0))
PPO = PpoParams(
    **COMMON,
    epochs=1,
    minibatches=1,
    lr=1e-3,
    value_weight=0.7,
    grad_norm=1.0,
    entropy=0.1,
    beta=0.6,
)


def a_model() -> ActorCritic:
    return ActorCritic(OnPolicyParams(**COMMON), *PARTS)


def a_minibatch(model: ActorCritic) -> tuple[Minibatch, Tensor]:
    """Samples of a policy that is near the model's, so that some ratios are clipped and some are not."""
    x, std_old = torch.randn(N, OBS), torch.full((ACTIONS,), 0.45)
    mean = model.mean(x).detach() + 0.1 * torch.randn(N, ACTIONS)
    action = mean + std_old * torch.randn(N, ACTIONS)
    log_prob = actor_critic.log_density(action, mean, std_old)[:, None]
    return Minibatch(x, action, mean, log_prob, torch.randn(N, 1), torch.randn(N, 1)), std_old


def check_gradient(loss: Callable[[], Tensor], parameters: list[nn.Parameter]) -> None:
    """Autograd's gradient equals central differences in every component."""
    got = flatten(torch.autograd.grad(loss(), parameters))
    expected, h = [], 1e-6
    with torch.no_grad():
        for component in (p.view(-1)[i : i + 1] for p in parameters for i in range(p.numel())):
            component.add_(h)
            above = float(loss())
            component.sub_(2 * h)
            expected.append((above - float(loss())) / (2 * h))
            component.add_(h)
    torch.testing.assert_close(got, torch.tensor(expected), rtol=1e-5, atol=1e-7)
    assert got.abs().max() > 1e-3, "a loss that never changes must not pass"


@pytest.mark.parametrize("surrogate", ["clip", "adaptive_kl", "fixed_kl", "none"])
def test_ppos_gradient_equals_finite_differences(surrogate: str) -> None:
    ppo = Ppo(replace(PPO, surrogate=surrogate), *PARTS)  # type: ignore[arg-type]  # a Literal's values
    batch, std_old = a_minibatch(ppo.model)
    check_gradient(lambda: ppo.loss(batch, std_old).total, list(ppo.model.parameters()))


@pytest.mark.parametrize("surrogate", ["clip", "adaptive_kl", "none"])
@pytest.mark.parametrize("hidden", [(5,), (5, 4), (6, 5, 4)])
def test_the_gradient_by_hand_equals_the_automatic_one(surrogate: str, hidden: tuple[int, ...]) -> None:
    """On plain tanh networks on a CPU; also where a deviation is at its floor."""
    params = replace(PPO, surrogate=surrogate, hidden=hidden, min_std=0.4)  # type: ignore[arg-type]
    ppo = Ppo(params, *PARTS)
    assert can_go_by_hand(ppo.model)
    with torch.no_grad():
        ppo.model.log_std[1] = -2.0
    batch, std_old = a_minibatch(ppo.model)
    loss = ppo.loss(batch, std_old)
    expected = flatten(torch.autograd.grad(loss.total, ppo.parameters))
    assert expected.norm() > 0.1
    figures = ppo.differentiate(torch.cat([getattr(batch, f.name) for f in fields(batch)], -1), std_old)
    close(ppo.gradient, expected)
    kl = actor_critic.kl_divergence(batch.mean, std_old, loss.mean, ppo.model.std().detach())
    assert figures == pytest.approx(
        {"kl": float(kl), "surrogate": float(loss.surrogate), "value_error": float(loss.value_error)}
    )


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("apart", [False, True])
def test_long_gradients_are_shortened_to_the_limit(activation: str, apart: bool) -> None:
    ppo = Ppo(replace(PPO, activation=activation, clip_apart=apart, grad_norm=0.1), *PARTS)  # type: ignore[arg-type]
    actor = sum(p.numel() for p in ppo.actor.net.parameters())
    given = torch.randn(len(ppo.gradient))
    given[actor:-ACTIONS] *= 1e-5
    ppo.gradient.copy_(given)
    ppo.clip()
    free = torch.cat((given[:actor], given[-ACTIONS:]))
    if apart:
        assert torch.equal(ppo.gradient[actor:-ACTIONS], given[actor:-ACTIONS]), "short enough by itself"
    rest = torch.cat((ppo.gradient[:actor], ppo.gradient[-ACTIONS:]))
    torch.testing.assert_close(rest, free / free.norm() * 0.1, rtol=1e-5, atol=0)


def test_ppo_holds_back_only_samples_that_went_too_far_the_good_way() -> None:
    """The clipped surrogate is the smaller of both, sample by sample (paper, figure 1)."""
    ppo = Ppo(replace(PPO, entropy=0.0, value_weight=1e-12), *PARTS)
    batch, std_old = a_minibatch(ppo.model)
    now = actor_critic.log_density(batch.action, ppo.model.mean(batch.critic_x), ppo.model.std())
    ratio, advantage = (now - batch.log_prob[:, 0]).exp(), batch.advantage[:, 0]
    held = ((ratio > 1.2) & (advantage > 0)) | ((ratio < 0.8) & (advantage < 0))
    assert held.any()
    assert not held.all()
    gain = torch.where(held, torch.where(advantage > 0, 1.2, 0.8), ratio) * advantage
    close(ppo.loss(batch, std_old).surrogate, gain.mean().detach())


def test_a2cs_gradient_equals_finite_differences() -> None:
    a2c = A2c(A2cParams(**COMMON, lr=1e-3, entropy=0.1), *PARTS)
    batch = Batch(torch.randn(N, OBS), torch.randn(N, ACTIONS), torch.randn(N), torch.randn(N))
    check_gradient(lambda: a2c.loss(batch), list(a2c.model.parameters()))


def test_vpgs_gradient_equals_finite_differences() -> None:
    vpg = Vpg(VpgParams(**COMMON, lr=1e-3), *PARTS)
    x, action, weight = torch.randn(N, OBS), torch.randn(N, ACTIONS), torch.randn(N)
    check_gradient(lambda: vpg.loss(x, action, weight), policy_parameters(vpg.model))


def a_past(model: ActorCritic) -> Past:
    """Three worlds of four steps, with episodes that begin at the second, third and last one."""
    blank, fresh = model.forgotten(3), torch.zeros(3, 4, 1, dtype=torch.bool)
    assert blank is not None
    fresh[0, 1] = fresh[1, 2] = fresh[1, 3] = True
    return Past(torch.randn_like(blank), fresh)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
@pytest.mark.parametrize("parts", [PARTS, MIRRORED])
def test_gradients_through_a_memory_equal_finite_differences(
    kind: Any,
    parts: tuple[networks.Reflection, networks.Reflection, networks.Reflection],
) -> None:
    common = {**COMMON, "hidden": (4,), "memory": MemoryParams(kind=kind, width=4)}
    ppo = Ppo(replace(PPO, **{k: common[k] for k in ("hidden", "memory")}), *parts)
    past, std_old = a_past(ppo.model), torch.full((ACTIONS,), 0.45)
    x, weight = torch.randn(3, 4, OBS), torch.randn(3, 4)
    mean = ppo.model.mean(x, past).detach() + 0.1 * torch.randn(3, 4, ACTIONS)
    action = mean + std_old * torch.randn(3, 4, ACTIONS)
    log_prob = actor_critic.log_density(action, mean, std_old)[..., None]
    batch = Minibatch(x, action, mean, log_prob, weight[..., None], torch.randn(3, 4, 1))
    check_gradient(lambda: ppo.loss(batch, std_old, past).total, list(ppo.model.parameters()))
    rows = torch.cat([getattr(batch, f.name) for f in fields(batch)], -1)
    ppo.differentiate(rows, std_old, past)
    close(ppo.gradient, flatten(torch.autograd.grad(ppo.loss(batch, std_old, past).total, ppo.parameters)))
    vpg = Vpg(VpgParams(**common, lr=1e-3), *parts)
    check_gradient(lambda: vpg.loss(x, action, weight, past), policy_parameters(vpg.model))
    baseline = Baseline(VpgParams(**common, lr=1e-3), vpg.model, Group())
    check_gradient(lambda: baseline.error(x, weight, past), list(vpg.model.critic.parameters()))
    a2c = A2c(A2cParams(**common, lr=1e-3), *parts)
    check_gradient(lambda: a2c.loss(Batch(x, action, weight, weight, past)), list(a2c.model.parameters()))


def test_the_baselines_gradient_equals_finite_differences() -> None:
    model = a_model()
    baseline = Baseline(VpgParams(**COMMON, lr=1e-3), model, Group())
    x, target = torch.randn(N, OBS), torch.randn(N)
    check_gradient(lambda: baseline.error(x, target), list(model.critic.parameters()))


# ---------------------------------------------------------------- natural gradients


def a_rollout(model: ActorCritic) -> Rollout:
    rollout = Rollout.empty(N, 4, OBS, 0, ACTIONS)
    rollout.observation.normal_()
    rollout.mean = model.actor(rollout.observation).detach()
    rollout.action = rollout.mean + model.std().detach() * torch.randn(N, 4, ACTIONS)
    rollout.reward = -(rollout.action - 0.5).square().sum(-1)
    return rollout


def a_policy_batch(model: ActorCritic) -> PolicyBatch:
    return PolicyBatch.of(model, a_rollout(model), torch.randn(N, 4), Group(), True)


def explicit_hessian(model: ActorCritic, batch: PolicyBatch) -> Tensor:
    """Of the KL divergence, by torch's own second derivatives over one vector of all parameters."""
    names = [f"actor.net.{name}" for name, _ in model.actor.net.named_parameters()] + ["log_std"]
    parameters = dict(model.named_parameters())
    sizes = [parameters[name].numel() for name in names]

    def kl(vector: Tensor) -> Tensor:
        parts = zip(names, torch.split(vector, sizes), strict=True)
        moved = {name: part.view_as(parameters[name]) for name, part in parts}
        mean: Tensor = torch.func.functional_call(
            model.actor.net,
            {k.removeprefix("actor.net."): v for k, v in moved.items() if k != "log_std"},
            batch.x,
        )
        return actor_critic.kl_divergence(batch.mean, batch.std, mean, moved["log_std"].exp())

    start = flatten([parameters[name].detach() for name in names])
    hessian: Tensor = torch.autograd.functional.hessian(kl, start)  # type: ignore[no-untyped-call]
    return hessian


def test_fisher_vector_products_equal_the_explicit_hessian() -> None:
    model = a_model()
    batch = a_policy_batch(model)
    fisher = Fisher(divergence(model, batch), policy_parameters(model), 0.0, Group())
    hessian = explicit_hessian(model, batch)
    products = torch.stack([fisher(unit) for unit in torch.eye(len(hessian))])
    torch.testing.assert_close(products, hessian, rtol=1e-8, atol=1e-10)
    assert torch.linalg.eigvalsh(hessian).min() > -1e-10, "a Fisher matrix is never negative"


def test_the_natural_gradient_solves_its_equation() -> None:
    model = a_model()
    batch = a_policy_batch(model)
    direction, _ = natural_gradient(model, batch, 0.1, 200, Group())
    gradient = flatten(torch.autograd.grad(surrogate(model, batch), policy_parameters(model)))
    matrix = explicit_hessian(model, batch) + 0.1 * torch.eye(len(gradient))
    exact = torch.linalg.solve(matrix, gradient)
    assert (direction - exact).norm() < 1e-4 * exact.norm()


def test_conjugate_gradients_need_as_many_steps_as_there_are_dimensions() -> None:
    root, b = torch.randn(6, 6), torch.randn(6)
    matrix = root @ root.T + torch.eye(6)
    torch.testing.assert_close(
        conjugate_gradient(lambda v: matrix @ v, b, 6), torch.linalg.solve(matrix, b), rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize("limit", [1e-4, 1e-2, 0.5])
def test_every_step_of_trpo_improves_within_its_bound(limit: float) -> None:
    trpo = Trpo(TrpoParams(**COMMON, kl_limit=limit), *PARTS)
    accepted = 0
    for _ in range(5):
        rollout = a_rollout(trpo.model)
        batch = PolicyBatch.of(trpo.model, rollout, trpo.estimate(rollout)[1], Group(), True)
        before = flatten([p.detach() for p in policy_parameters(trpo.model)])
        figures = trpo.update(rollout)
        kl = float(divergence(trpo.model, batch).detach())
        assert kl <= limit
        assert kl == pytest.approx(figures["kl"], abs=1e-12)
        if figures["step_share"] == 0:
            assert torch.equal(before, flatten([p.detach() for p in policy_parameters(trpo.model)]))
        else:
            accepted += 1
            assert float(surrogate(trpo.model, batch).detach()) > float(batch.advantage.mean()) - 1e-12
    assert accepted >= 3


def test_the_longest_step_of_trpo_is_at_the_bound_to_second_order() -> None:
    trpo = Trpo(TrpoParams(**COMMON, kl_limit=1e-8, damping=0.0, backtracks=1), *PARTS)
    rollout = a_rollout(trpo.model)
    batch = PolicyBatch.of(trpo.model, rollout, trpo.estimate(rollout)[1], Group(), True)
    direction, fisher = natural_gradient(trpo.model, batch, 0.0, 20, Group())
    step = trpo.longest(direction, fisher)
    assert float(step @ explicit_hessian(trpo.model, batch) @ step) / 2 == pytest.approx(1e-8, rel=1e-6)


# ---------------------------------------------------------------- they learn, and they resume

LEARNERS: list[Callable[[], Any]] = [
    lambda: Ppo(replace(PPO, lr=1e-2, minibatches=0, minibatch=24, scale_reward=True), *PARTS),
    lambda: Ppo(
        replace(PPO, lr=1e-2, surrogate="adaptive_kl", schedule="fixed", epochs=3, recompute_advantages=True),
        *PARTS,
    ),
    lambda: Ppo(
        replace(PPO, lr=1e-2, clip_apart=True, schedule="linear", center_advantages=False, epochs=3), *PARTS
    ),
    lambda: A2c(A2cParams(**COMMON, lr=1e-2, standardize=True), *PARTS),
    lambda: Vpg(VpgParams(**COMMON, lr=1e-2), *PARTS),
    lambda: Npg(NpgParams(**COMMON), *PARTS),
    lambda: Trpo(TrpoParams(**COMMON), *PARTS),
]


class Bandit:
    """One-step episodes with reward -|action - 0.5|^2."""

    num = 32

    def __init__(self) -> None:
        self.observation, self.privileged = torch.zeros(self.num, OBS), torch.zeros(self.num, 0)
        self.terminated = torch.ones(self.num, dtype=torch.bool)
        self.truncated = ~self.terminated
        self.final_ids = torch.arange(self.num)
        self.final_observation, self.final_privileged = self.observation, self.privileged

    def step(self, action: Tensor) -> Bandit:
        self.reward = -(action - 0.5).square().sum(-1)
        return self

    def take_statistics(self) -> dict[str, float]:
        return {}


@pytest.mark.parametrize("build", LEARNERS)
def test_they_find_the_best_action_and_a_loaded_state_goes_on_alike(build: Callable[[], Any]) -> None:
    learner, env = build(), Bandit()
    before = (learner.actor(env.observation[:1]) - 0.5).abs().max()
    for i in range(60):
        learner.anneal(i / 120)
        steps, figures = learner.iterate(env)
        assert steps == N * Bandit.num
        assert all(isinstance(value, float) for value in figures.values())
    after = (learner.actor(env.observation[:1]) - 0.5).abs().max()
    assert before > 0.3
    assert after < 0.15

    saved = {name: value.clone() for name, value in learner.state().items()}
    other = build()
    other.load_state(saved)
    for one in (learner, other):
        torch.manual_seed(5)
        one.iterate(env)
    for name, value in learner.state().items():
        assert torch.equal(value, other.state()[name]), name


def test_the_linear_schedule_ends_at_zero() -> None:
    ppo = Ppo(replace(PPO, schedule="linear"), *PARTS)
    rates = []
    for share in (0.0, 0.25, 1.0, 1.5):
        ppo.anneal(share)
        rates.append(ppo.state()["adam.lr"].item())
    assert rates == pytest.approx([1e-3, 0.75e-3, 0.0, 0.0])


@pytest.mark.parametrize(("kl", "beta"), [(0.016, 2.0), (0.014, 1.0), (0.007, 1.0), (0.006, 0.5)])
def test_the_penalty_follows_the_divergence(kl: float, beta: float) -> None:
    ppo = Ppo(replace(PPO, surrogate="adaptive_kl", kl_target=0.01, beta=1.0), *PARTS)
    ppo.adapt_beta(kl)
    assert ppo.beta == beta
