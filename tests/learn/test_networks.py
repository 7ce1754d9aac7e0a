"""Mirror-equivariant networks: f(M x) = M' f(x) for every input and every weight."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robotrl.learn.actor_critic import ActorCritic, OnPolicyParams, kl_divergence, log_density
from robotrl.learn.group import Group
from robotrl.learn.networks import HIDDEN_GAIN, Actor, Unmirrored, mirror_mlp
from robotrl.learn.normalize import RunningNorm
from robotrl.learn.ppo import Ppo, PpoParams
from robotrl.learn.recurrent import MemoryParams
from robotrl.learn.rollout import Rollout
from robotrl.tasks.task import Mirror

SOURCE, SIGN = (1, 0, 2, 3), (1.0, 1.0, -1.0, 1.0)
OUT_SOURCE, OUT_SIGN = (2, 1, 0), (1.0, -1.0, 1.0)


def reflect(x: Tensor, source: tuple[int, ...], sign: tuple[float, ...]) -> Tensor:
    return x[..., list(source)] * torch.tensor(sign, dtype=x.dtype)


@pytest.mark.parametrize("hidden", [(8,), (16, 16), (32, 8, 16)])
def test_reflected_input_gives_reflected_output(hidden: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    net = mirror_mlp((SOURCE, SIGN), hidden, (OUT_SOURCE, OUT_SIGN), 1.0).double()
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(50, 4, dtype=torch.float64)
    torch.testing.assert_close(net(reflect(x, SOURCE, SIGN)), reflect(net(x), OUT_SOURCE, OUT_SIGN))


def test_output_depends_on_every_input() -> None:
    torch.manual_seed(0)
    net = mirror_mlp((SOURCE, SIGN), (32, 32), (OUT_SOURCE, OUT_SIGN), 1.0)
    jacobian = torch.func.vmap(torch.func.jacrev(net))(torch.randn(200, 4))
    assert (jacobian.abs().mean(0) > 1e-3).all()


def test_statistics_are_those_of_the_data_and_its_reflection_together() -> None:
    torch.manual_seed(0)
    batches = [torch.randn(n, 4) * 3 + torch.tensor([1.0, 2.0, 3.0, 4.0]) for n in (10, 500, 33)]
    norm = RunningNorm(4)
    for batch in batches:
        norm.update(batch, torch.tensor(SOURCE), torch.tensor(SIGN), Group())
    data = torch.cat(batches)
    both = torch.cat((data, reflect(data, SOURCE, SIGN)))
    torch.testing.assert_close(norm.mean, both.mean(0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(norm.var, both.var(0, unbiased=False), rtol=1e-4, atol=1e-4)
    assert norm.count == len(data)


def test_what_does_not_vary_is_normalised_to_zero() -> None:
    """In float32 the mean square less the squared mean of such a component can be below zero."""
    norm, identity = RunningNorm(200), torch.arange(200)
    x = torch.linspace(0.4, 1.4, 200).expand(64, -1)
    for _ in range(3):
        norm.update(x, identity, torch.ones(200), Group())
    assert (norm.var >= 0).all()
    torch.testing.assert_close(norm(x), torch.zeros_like(x), rtol=0, atol=1e-4)


def test_normalised_actor_stays_equivariant() -> None:
    torch.manual_seed(0)
    norm = RunningNorm(4)
    norm.update(torch.randn(100, 4) + 1.0, torch.tensor(SOURCE), torch.tensor(SIGN), Group())
    actor = Actor(norm, mirror_mlp((SOURCE, SIGN), (16,), (OUT_SOURCE, OUT_SIGN), 1.0))
    x = torch.randn(20, 4)
    torch.testing.assert_close(actor(reflect(x, SOURCE, SIGN)), reflect(actor(x), OUT_SOURCE, OUT_SIGN))


def test_kl_divergence_equals_torch() -> None:
    torch.manual_seed(0)
    mean_p, mean_q = torch.randn(2, 9, 3)
    std_p, std_q = torch.rand(2, 3) + 0.2
    p = torch.distributions.Normal(mean_p, std_p.expand(9, 3))
    q = torch.distributions.Normal(mean_q, std_q.expand(9, 3))
    expected = torch.distributions.kl_divergence(p, q).sum(-1).mean()
    torch.testing.assert_close(kl_divergence(mean_p, std_p, mean_q, std_q), expected)


class Reflection:
    """A reflection as the learner takes it."""

    def __init__(self, source: tuple[int, ...], sign: tuple[float, ...]) -> None:
        self.source, self.sign = source, sign


SMALL = PpoParams(
    steps=8,
    epochs=4,
    minibatches=2,
    gamma=0.9,
    gae_lambda=0.95,
    lr=1e-3,
    value_weight=0.5,
    grad_norm=1.0,
    init_std=0.5,
    min_std=0.05,
    hidden=(16, 16),
)


def small_ppo() -> Ppo:
    return Ppo(SMALL, Reflection(SOURCE, SIGN), Reflection((0,), (1.0,)), Reflection(OUT_SOURCE, OUT_SIGN))


def test_actions_are_drawn_from_the_density_that_the_update_assumes() -> None:
    torch.manual_seed(0)
    ppo = small_ppo()
    observation = torch.randn(1, 4).expand(20_000, 4)
    action, mean = ppo.model.act(observation)
    torch.testing.assert_close(mean, ppo.actor(observation).detach())
    torch.testing.assert_close(action.mean(0), mean[0], atol=0.02, rtol=0)
    torch.testing.assert_close(action.std(0), torch.full((3,), 0.5), atol=0.02, rtol=0)


def test_log_density_equals_its_formula() -> None:
    torch.manual_seed(0)
    action, mean, std = torch.randn(7, 3), torch.randn(7, 3), torch.rand(3) + 0.2
    density = torch.exp(-((action - mean) / std).square() / 2) / (std * (2 * torch.pi) ** 0.5)
    torch.testing.assert_close(log_density(action, mean, std), density.prod(-1).log())


def test_exchanged_actions_share_their_deviation() -> None:
    ppo = small_ppo()
    with torch.no_grad():
        ppo.model.log_std.copy_(torch.tensor([-1.0, -2.0, 5.0]))
    samples = torch.stack([ppo.model.act(torch.zeros(1, 4))[0][0] for _ in range(400)])
    spread = samples.std(0)
    assert abs(float(spread[0] / spread[2]) - 1) < 0.2
    assert float(spread[1]) < 0.6 * float(spread[0])


def test_state_restores_the_learner_exactly() -> None:
    def rollout() -> Rollout:
        torch.manual_seed(3)
        r = Rollout.empty(8, 6, 4, 1, 3)
        for name in ("observation", "privileged", "action", "mean", "reward"):
            getattr(r, name).normal_()
        return r

    torch.manual_seed(0)
    first = small_ppo()
    first.update(rollout())
    saved = {name: value.clone() for name, value in first.state().items()}
    second = small_ppo()
    second.load_state(saved)
    for ppo in (first, second):
        data = rollout()
        torch.manual_seed(4)
        ppo.update(data)
    for name, value in first.state().items():
        assert torch.equal(value, second.state()[name]), name


def plain_ppo() -> Ppo:
    return Ppo(SMALL, Unmirrored(4), Unmirrored(0), Unmirrored(3))


def test_without_a_reflection_every_weight_is_free() -> None:
    torch.manual_seed(0)
    ppo = plain_ppo()
    plain, mirrored = (
        sum(p.numel() for p in learner.actor.net.parameters()) for learner in (ppo, small_ppo())
    )
    assert plain == 4 * 16 + 16 + 16 * 16 + 16 + 16 * 3 + 3
    assert mirrored < 0.7 * plain
    with torch.no_grad():
        ppo.model.log_std.copy_(torch.tensor([-1.0, -2.0, 0.0]))
    action, mean = ppo.model.act(torch.zeros(20_000, 4))
    torch.testing.assert_close((action - mean).std(0), ppo.model.log_std.exp(), rtol=0.05, atol=0)


def test_without_a_reflection_statistics_are_those_of_the_data() -> None:
    torch.manual_seed(0)
    ppo, rollout = plain_ppo(), Rollout.empty(8, 6, 4, 0, 3)
    rollout.observation.normal_(mean=2.0)
    rollout.reward.normal_()
    ppo.update(rollout)
    ppo.model.merge_statistics(rollout, Group())
    torch.testing.assert_close(ppo.actor.norm.mean, rollout.observation.mean((0, 1)))


@pytest.mark.parametrize("memory", [None, MemoryParams(kind="gru", width=8)])
@pytest.mark.parametrize("mirrored", [False, True])
def test_hidden_layers_begin_at_the_gain_that_is_asked_for(
    mirrored: bool, memory: MemoryParams | None
) -> None:
    """Of actor and critic; last layers and what remembers begin as ever."""
    ends = (Mirror(SOURCE, SIGN), Mirror((), ()), Mirror(OUT_SOURCE, OUT_SIGN))
    plain = (Unmirrored(4), Unmirrored(0), Unmirrored(3))
    found = []
    for gain in (HIDDEN_GAIN, 1.0):
        torch.manual_seed(0)
        params = OnPolicyParams(
            steps=8,
            gamma=0.99,
            gae_lambda=0.95,
            init_std=0.5,
            hidden=(16, 8),
            hidden_gain=gain,
            memory=memory,
        )
        found.append(ActorCritic(params, *(ends if mirrored else plain)))
    for part in ("actor.net", "critic"):
        usual, small = (dict(model.get_submodule(part).named_parameters()) for model in found)
        weights = [name for name in usual if name.endswith("weight")]
        for name in weights:
            inside = name != weights[-1] and not name.startswith(("enter", "recall"))
            factor = HIDDEN_GAIN if inside else 1.0
            torch.testing.assert_close(usual[name], factor * small[name])
