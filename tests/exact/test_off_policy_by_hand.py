"""Gradients by hand equal automatic ones of the losses that the algorithms' files define."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from robotrl.learn.ddpg import Ddpg, DdpgParams
from robotrl.learn.off_policy_by_hand import HandCritics, climb, regress
from robotrl.learn.replay import Batch
from robotrl.learn.sac import Sac, SacParams
from robotrl.learn.td3 import Td3, Td3Params

SAMPLES, SEEN, PRIVILEGED, SIZES = 20, 3, 2, ((-1.0, -2.0), (1.0, 2.0))
HIDDEN = [(5,), (5, 4), (6, 5, 4)]


def learners(hidden: tuple[int, ...]) -> list[Sac | Td3 | Ddpg]:
    sizes = (SEEN, PRIVILEGED, *SIZES)
    return [
        Sac(SacParams(hidden=hidden, temperature=0.4), *sizes),
        Td3(Td3Params(hidden=hidden), *sizes),
        Ddpg(DdpgParams(hidden=hidden), *sizes),
    ]


def states() -> Tensor:
    return torch.randn(SAMPLES, SEEN + PRIVILEGED)


def assert_left(parameters: Sequence[nn.Parameter], expected: Sequence[Tensor]) -> None:
    """The gradient by hand replaced whatever was there."""
    for parameter, gradient in zip(parameters, expected, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("weighted", [False, True])
def test_critics(hidden: tuple[int, ...], weighted: bool) -> None:
    for learner in learners(hidden):
        critics, x, action = learner.critics, states(), torch.rand(SAMPLES, 2) * 2 - 1
        target, weight = torch.randn(SAMPLES), torch.rand(SAMPLES) if weighted else None
        out = critics.online(x, action)
        loss = critics.online.returns.loss(out, target, weight)
        parameters = list(critics.online.parameters())
        expected = torch.autograd.grad(loss, parameters)
        critics.adam.flat.gradient.fill_(7.0)
        assert critics.hand is not None
        mine, values = regress(critics.hand, x, action, target, weight)
        assert_left(parameters, expected)
        torch.testing.assert_close(mine, loss.detach())
        torch.testing.assert_close(values, out.detach())


@pytest.mark.parametrize("hidden", HIDDEN)
def test_deterministic_actors(hidden: tuple[int, ...]) -> None:
    for learner in learners(hidden):
        if isinstance(learner, Sac):
            continue
        trunk, x = learner.policy.net[0], states()
        loss, parameters = learner.actor_loss(x), list(trunk.parameters())
        expected = torch.autograd.grad(loss, parameters)
        learner.policy.adam.flat.gradient.fill_(7.0)
        mine = climb(trunk, learner.critics.hand, SEEN)
        assert mine is not None
        torch.testing.assert_close(mine.deterministic(x), loss.detach())
        assert_left(parameters, expected)


@pytest.mark.parametrize("hidden", HIDDEN)
def test_the_soft_actor_and_its_temperature(hidden: tuple[int, ...]) -> None:
    learner = learners(hidden)[0]
    assert isinstance(learner, Sac)
    x, noise, trunk = states(), torch.randn(SAMPLES, 2), learner.policy.trunk
    with torch.no_grad():
        for parameter in (*trunk.parameters(), *learner.critics.online.parameters()):
            parameter.copy_(torch.randn_like(parameter))
        bias = list(trunk.parameters())[-1]
        bias[2] += 2 - trunk(x[:, :SEEN])[:, 2].mean()  # some of the first deviation are beyond its limit
    loss, log_prob = learner.actor_loss(x, noise)
    with torch.no_grad():
        raw = trunk(x[:, :SEEN])[:, 2]
        values = learner.critics.online.value(x, learner.policy.sample(x[:, :SEEN], noise)[0])
    assert set((raw > 2).tolist()) == {False, True}
    parameters = [*trunk.parameters(), learner.log_temperature]
    expected = torch.autograd.grad(loss, parameters)
    assert set(values.argmin(0).tolist()) == {0, 1}, "both critics are climbed"
    for parameter in parameters:
        assert parameter.grad is not None
        parameter.grad.fill_(7.0)
    mine = climb(trunk, learner.critics.hand, SEEN)
    assert mine is not None
    found, density = mine.soft(x, noise, learner.log_temperature, target_entropy=-2.0)
    assert_left(parameters, expected)
    torch.testing.assert_close(found, loss.detach())
    torch.testing.assert_close(density, log_prob)


def apart(found: Tensor, exact: Tensor) -> float:
    """Length of the difference, as a share of the exact one's."""
    return float((found - exact).norm() / exact.norm())


def test_products_in_bfloat16_come_near_the_exact_ones() -> None:
    """Outputs are rounded by 2^-9 of themselves; gradients also lose units that end on zero's other side."""
    learner = Td3(Td3Params(hidden=(64, 64)), SEEN, PRIVILEGED, *SIZES)
    critics, trunk, x = learner.critics, learner.policy.net[0], torch.randn(1000, SEEN + PRIVILEGED)
    action, target = torch.rand(1000, 2) * 2 - 1, torch.randn(1000)
    half = HandCritics(critics.online, torch.bfloat16)

    regress(HandCritics(critics.online), x, action, target)
    exact = critics.adam.flat.gradient.clone()
    out = regress(half, x, action, target)[1]
    assert 0 < apart(critics.adam.flat.gradient, exact) < 0.05
    assert 0 < apart(out, critics.online(x, action).detach()) < 0.01
    assert out.dtype == torch.float64

    loss = learner.actor_loss(x)
    learner.policy.adam.differentiate(loss)
    exact = learner.policy.adam.flat.gradient.clone()
    mine = climb(trunk, half, SEEN)
    assert mine is not None
    torch.testing.assert_close(mine.deterministic(x), loss.detach(), rtol=0.05, atol=0)
    assert 0 < apart(learner.policy.adam.flat.gradient, exact) < 0.05


def test_a_soft_actor_climbs_critics_in_bfloat16_near_the_exact_way() -> None:
    learner = Sac(SacParams(hidden=(64, 64), temperature=0.4), SEEN, PRIVILEGED, *SIZES)
    x, noise, trunk = torch.randn(1000, SEEN + PRIVILEGED), torch.randn(1000, 2), learner.policy.trunk
    with torch.no_grad():
        for parameter in learner.critics.online.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
    values = learner.critics.online.value(x, learner.policy.sample(x[:, :SEEN], noise)[0])
    assert set(values.argmin(0).tolist()) == {0, 1}, "each critic is climbed on some samples alone"
    loss = learner.actor_loss(x, noise)[0]
    parameters = list(trunk.parameters())
    exact = torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, parameters)])
    mine = climb(trunk, HandCritics(learner.critics.online, torch.bfloat16), SEEN)
    assert mine is not None
    mine.soft(x, noise, learner.log_temperature, target_entropy=-2.0)
    found = torch.cat([parameter.grad.flatten() for parameter in parameters if parameter.grad is not None])
    assert 0 < apart(found, exact) < 0.05


def test_targets_by_hand_are_those_of_the_target_networks() -> None:
    for learner in learners((5, 4)):
        critics, x, action = learner.critics, states(), torch.rand(SAMPLES, 2) * 2 - 1
        with torch.no_grad():
            for parameter in critics.target.parameters():
                parameter.add_(torch.randn_like(parameter))
        reward, discount = torch.randn(SAMPLES), torch.rand(SAMPLES)
        found = critics.backup(Batch(x, action, reward, discount, x), action, bonus=0.3)
        lowest = critics.target.value(x, action).amin(0)
        torch.testing.assert_close(found, reward + discount * (lowest + 0.3))
