"""The natural gradient by conjugate gradients on Fisher-vector products (Schulman et al. 2015, app. C)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robotrl.learn.actor_critic import ActorCritic, kl_divergence, log_density, standardized
from robotrl.learn.group import Group
from robotrl.learn.rollout import Past, Rollout


@dataclass(frozen=True)
class PolicyBatch:
    """N samples and the policy that drew them; with a memory (B, T) instead of (N,)."""

    x: Tensor
    """(N, obs + p) normalised."""
    action: Tensor
    advantage: Tensor
    """(N,)"""
    mean: Tensor
    std: Tensor
    log_prob: Tensor
    """(N,)"""
    past: Past | None
    """What sequences begin with."""

    @staticmethod
    @torch.no_grad()
    def of(
        model: ActorCritic, rollout: Rollout, advantage: Tensor, group: Group, center: bool
    ) -> PolicyBatch:
        """Build it of a rollout with its advantages (T, B), before the policy changes."""
        x, action = rollout.batch(model.normalized(rollout)), rollout.batch(rollout.action)
        mean, std, past = model.mean(x, rollout.past), model.std(), rollout.past
        scaled = rollout.batch(standardized(advantage, group, center))
        return PolicyBatch(x, action, scaled, mean, std, log_density(action, mean, std), past)


def surrogate(model: ActorCritic, batch: PolicyBatch) -> Tensor:
    """Advantage that the present policy is expected to have (TRPO, eq. 14)."""
    ratio = (log_density(batch.action, model.mean(batch.x, batch.past), model.std()) - batch.log_prob).exp()
    return (ratio * batch.advantage).mean()


def divergence(model: ActorCritic, batch: PolicyBatch) -> Tensor:
    """Mean KL divergence of the present policy from the one that drew the batch."""
    return kl_divergence(batch.mean, batch.std, model.mean(batch.x, batch.past), model.std())


class Fisher:
    """Products with the Fisher matrix, which is the Hessian of the KL divergence where that is zero."""

    def __init__(self, kl: Tensor, parameters: Sequence[nn.Parameter], damping: float, group: Group) -> None:
        self._parameters, self._damping, self._group = parameters, damping, group
        self._slope = flatten(torch.autograd.grad(kl, parameters, create_graph=True))

    def __call__(self, vector: Tensor) -> Tensor:
        """(F + damping) vector, F averaged over all ranks."""
        product = torch.autograd.grad(self._slope @ vector, self._parameters, retain_graph=True)
        return self._group.mean_(flatten(product)) + self._damping * vector


def conjugate_gradient(matrix: Callable[[Tensor], Tensor], b: Tensor, iterations: int) -> Tensor:
    """Solve matrix x = b for a symmetric positive definite matrix, given by its products."""
    x, residual = torch.zeros_like(b), b.clone()
    direction, squared = residual.clone(), residual @ residual
    for _ in range(iterations):
        if float(squared) < 1e-10 * float(b @ b):
            break
        product = matrix(direction)
        length = squared / (direction @ product)
        x += length * direction
        residual -= length * product
        before, squared = squared, residual @ residual
        direction = residual + squared / before * direction
    return x


def natural_gradient(
    model: ActorCritic, batch: PolicyBatch, damping: float, iterations: int, group: Group
) -> tuple[Tensor, Fisher]:
    """Direction F^-1 g in the space of the actor's parameters, and the Fisher matrix."""
    parameters = policy_parameters(model)
    slope = torch.autograd.grad(surrogate(model, batch), parameters)
    gradient = group.mean_(flatten(slope))
    fisher = Fisher(divergence(model, batch), parameters, damping, group)
    return conjugate_gradient(fisher, gradient, iterations), fisher


def policy_parameters(model: ActorCritic) -> list[nn.Parameter]:
    """What the policy consists of."""
    return [*model.actor.net.parameters(), model.log_std]


def flatten(parts: Sequence[Tensor]) -> Tensor:
    """One vector of all parts."""
    return torch.cat([part.reshape(-1) for part in parts])
