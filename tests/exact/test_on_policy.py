"""On-policy losses against finite differences and definitions; and the learners learn, and resume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence

from robotrl.learn import actor_critic, networks
from robotrl.learn.a2c import A2c, A2cParams, Batch
from robotrl.learn.actor_critic import ActorCritic
from robotrl.learn.baseline import Baseline
from robotrl.learn.by_hand import can_go_by_hand
from robotrl.learn.group import Group
from robotrl.learn.natural import flatten, policy_parameters
from robotrl.learn.networks import Unmirrored
from robotrl.learn.npg import Npg, NpgParams
from robotrl.learn.ppo import Minibatch, Ppo, PpoParams
from robotrl.learn.recurrent import MemoryParams
from robotrl.learn.rollout import Past
from robotrl.learn.trpo import Trpo, TrpoParams
from robotrl.learn.vpg import Vpg, VpgParams
from tests.exact.on_policy import ACTIONS, COMMON, OBS, PARTS, N, a_model, close
from tests.learn.test_networks import Reflection

# ---------------------------------------------------------------- densities


def test_densities_and_divergences_equal_torchs() -> None:
    action, mean, other = torch.randn(3, N, ACTIONS)
    std, other_std = torch.rand(2, ACTIONS) + 0.2
    p, q = (Independent(Normal(m, s), 1) for m, s in ((mean, std), (other, other_std)))
    close(actor_critic.log_density(action, mean, std), p.log_prob(action))  # type: ignore[no-untyped-call]
    ours = actor_critic.kl_divergence(mean, std, other, other_std)
    close(ours, kl_divergence(p, q).mean())


# ---------------------------------------------------------------- gradients

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
