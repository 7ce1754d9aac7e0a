"""Small Markov decision processes with exact answers, in float64: what learning targets must equal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor


@dataclass(frozen=True)
class Mdp:
    """S states, A actions; an action may end the episode, after which nothing more is earned."""

    transition: Tensor
    """(S, A, S) probability of the next state, given that the episode goes on."""
    ends: Tensor
    """(S, A) probability that the episode ends with this action."""
    reward: Tensor
    """(S, A)"""
    gamma: float

    @property
    def states(self) -> int:
        """Number of states."""
        return self.reward.shape[0]

    @property
    def actions(self) -> int:
        """Number of actions."""
        return self.reward.shape[1]


def random_mdp(seed: int, states: int, actions: int, gamma: float, ends: float = 0.0) -> Mdp:
    """Draw transitions and rewards; every action ends the episode with probability up to `ends`."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=g, dtype=torch.float64)

    transition = draw(states, actions, states) ** 3
    return Mdp(
        transition / transition.sum(-1, keepdim=True),
        ends * draw(states, actions),
        2 * draw(states, actions) - 1,
        gamma,
    )


def deterministic_mdp(seed: int, states: int, actions: int, gamma: float) -> Mdp:
    """Draw an endless process in which every action leads to one state for certain."""
    g = torch.Generator().manual_seed(seed)
    target = torch.randint(states, (states, actions), generator=g)
    transition = torch.nn.functional.one_hot(target, states).double()
    reward = torch.randn(states, actions, generator=g, dtype=torch.float64)
    return Mdp(transition, torch.zeros(states, actions, dtype=torch.float64), reward, gamma)


def action_values(mdp: Mdp, value: Tensor) -> Tensor:
    """Q (S, A) of acting once and then being worth `value` (S,): one Bellman backup."""
    return mdp.reward + mdp.gamma * (1 - mdp.ends) * (mdp.transition @ value)


def policy_value(mdp: Mdp, policy: Tensor) -> Tensor:
    """V (S,) of a policy (S, A), by solving V = r + gamma P V."""
    go_on = torch.einsum("sa,sa,sat->st", policy, 1 - mdp.ends, mdp.transition)
    reward = (policy * mdp.reward).sum(-1)
    solved: Tensor = torch.linalg.solve(torch.eye(mdp.states).double() - mdp.gamma * go_on, reward)
    return solved


def value_iteration(mdp: Mdp) -> Tensor:
    """Optimal V (S,): Bellman's optimality backup until it changes nothing."""
    value = torch.zeros(mdp.states, dtype=torch.float64)
    while True:
        better = action_values(mdp, value).max(-1).values
        if torch.allclose(better, value, rtol=0, atol=1e-14):
            return better
        value = better


def policy_iteration(mdp: Mdp) -> tuple[Tensor, Tensor]:
    """Optimal deterministic policy (S, A) and its V (S,): evaluate, be greedy, until stable (Howard 1960)."""
    policy = greedy(torch.zeros(mdp.states, mdp.actions, dtype=torch.float64))
    while True:
        value = policy_value(mdp, policy)
        better = greedy(action_values(mdp, value))
        if torch.equal(better, policy):
            return policy, value
        policy = better


def greedy(q: Tensor) -> Tensor:
    """Policy (S, A) that takes the best action of Q (S, A)."""
    return torch.nn.functional.one_hot(q.argmax(-1), q.shape[1]).double()


def soft_value_iteration(mdp: Mdp, temperature: float) -> tuple[Tensor, Tensor]:
    """Optimal maximum-entropy policy (S, A) and its soft V (S,) (Haarnoja et al. 2017, theorem 1).

    V(s) = temperature * log sum_a exp(Q(s, a) / temperature), policy = exp((Q - V) / temperature).
    """
    value = torch.zeros(mdp.states, dtype=torch.float64)
    while True:
        q = action_values(mdp, value)
        better = temperature * (q / temperature).logsumexp(-1)
        if torch.allclose(better, value, rtol=0, atol=1e-14):
            return ((q - better[:, None]) / temperature).exp(), better
        value = better


def soft_policy_value(mdp: Mdp, policy: Tensor, temperature: float) -> Tensor:
    """Soft V (S,) of a policy (S, A): its entropy is earned too, times the temperature."""
    entropy = -(policy * policy.clamp_min(1e-300).log()).sum(-1, keepdim=True)
    earns = Mdp(mdp.transition, mdp.ends, mdp.reward + temperature * entropy, mdp.gamma)
    return policy_value(earns, policy)


@dataclass(frozen=True)
class Path:
    """One possible course of T steps, and how likely it is."""

    probability: float
    states: tuple[int, ...]
    """(T + 1,)"""
    actions: tuple[int, ...]
    """(T,)"""
    ended: tuple[bool, ...]
    """(T,) whether the episode ended with the action; the next one starts in the state that follows."""


def paths(
    mdp: Mdp, policy: Tensor, start: int, steps: int, first_action: int | None = None
) -> Iterator[Path]:
    """Every course of T steps from a state, whose probabilities sum to one.

    An episode that ends is followed by a new one, in the state that the action would have led to.
    """
    choices = product(range(mdp.actions), range(mdp.states), (False, True))
    for course in product(tuple(choices), repeat=steps):
        probability, state = 1.0, start
        for t, (action, then, ended) in enumerate(course):
            given = t == 0 and first_action is not None
            chosen = float(action == first_action) if given else float(policy[state, action])
            ends = float(mdp.ends[state, action])
            probability *= chosen * float(mdp.transition[state, action, then]) * (ends if ended else 1 - ends)
            if probability == 0.0:
                break
            state = then
        if probability > 0.0:
            actions, states, ended_all = zip(*course, strict=True)
            yield Path(probability, (start, *states), actions, ended_all)
