"""Natural gradients against the explicit Hessian of the divergence, and TRPO's steps against their bound."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from robotrl.learn import actor_critic
from robotrl.learn.actor_critic import ActorCritic
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
from robotrl.learn.rollout import Rollout
from robotrl.learn.trpo import Trpo, TrpoParams
from tests.exact.on_policy import ACTIONS, COMMON, OBS, PARTS, N, a_model


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
