"""The exact answers themselves: value iteration, policy iteration and linear solves agree."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from tests.exact.mdp import (
    Mdp,
    action_values,
    deterministic_mdp,
    greedy,
    paths,
    policy_iteration,
    policy_value,
    random_mdp,
    soft_policy_value,
    soft_value_iteration,
    value_iteration,
)

close = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-10)
MDPS = [random_mdp(0, 5, 3, 0.9), random_mdp(1, 4, 2, 0.95, ends=0.3), deterministic_mdp(2, 6, 2, 0.8)]


@pytest.mark.parametrize("mdp", MDPS)
def test_value_iteration_equals_policy_iteration_and_no_policy_is_better(mdp: Mdp) -> None:
    best = value_iteration(mdp)
    policy, value = policy_iteration(mdp)
    close(value, best)
    assert torch.equal(greedy(action_values(mdp, best)), policy)
    for seed in range(20):
        torch.manual_seed(seed)
        other = torch.rand(mdp.states, mdp.actions, dtype=torch.float64)
        assert (policy_value(mdp, other / other.sum(-1, keepdim=True)) <= best + 1e-10).all()


@pytest.mark.parametrize("mdp", MDPS)
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_soft_value_iteration_is_the_best_of_all_policies_with_entropy(mdp: Mdp, temperature: float) -> None:
    policy, best = soft_value_iteration(mdp, temperature)
    close(policy.sum(-1), torch.ones(mdp.states).double())
    close(soft_policy_value(mdp, policy, temperature), best)
    for seed in range(20):
        torch.manual_seed(seed)
        other = torch.rand(mdp.states, mdp.actions, dtype=torch.float64)
        other /= other.sum(-1, keepdim=True)
        assert (soft_policy_value(mdp, other, temperature) <= best + 1e-10).all()


def test_soft_values_become_hard_ones_without_temperature() -> None:
    mdp = MDPS[0]
    torch.testing.assert_close(soft_value_iteration(mdp, 1e-4)[1], value_iteration(mdp), rtol=0, atol=1e-2)


def test_paths_are_all_there_are() -> None:
    mdp = MDPS[1]
    policy = torch.full((mdp.states, mdp.actions), 0.5, dtype=torch.float64)
    assert sum(path.probability for path in paths(mdp, policy, 0, 2)) == pytest.approx(1.0, abs=1e-12)
