"""Exploration: each world has its own noise and random actions, as much as it is said; large actions cost."""

from __future__ import annotations

import pytest
import torch

from robotrl.learn.ddpg import Ddpg, DdpgParams
from robotrl.learn.exploration import Exploration, Spread
from robotrl.learn.td3 import Td3, Td3Params

WORLDS, STEPS = 8, 6000
PARAMS = Exploration(greedy_share=0.25, noise=(0.5, 1.0), random_share=(0.1, 0.6), random_steps=5)


def spread(seed: int = 0, params: Exploration = PARAMS) -> Spread:
    return Spread(params, torch.Generator().manual_seed(seed))


def test_noise_rises_over_the_worlds_that_explore() -> None:
    scaled = spread().scaled(torch.ones(WORLDS, 2))
    assert scaled[:, 0].tolist() == pytest.approx([0, 0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    assert torch.equal(scaled[:, 0], scaled[:, 1])


def test_each_world_has_its_share_of_random_actions_and_holds_them() -> None:
    acting = spread()
    own = torch.full((WORLDS, 2), 9.0)
    actions = torch.stack([acting.replaced(own) for _ in range(STEPS)])
    random = (actions != 9.0).all(-1)
    shares = random.float().mean(0)
    assert shares.tolist() == pytest.approx([0, 0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6], abs=0.04)
    drawn = actions[random]
    assert -1 <= float(drawn.min()) < -0.99
    assert 0.99 < float(drawn.max()) <= 1
    same = (actions[1:] == actions[:-1]).all(-1) & random[1:]
    begins = random[1:] & ~same
    lengths = random[1:].sum() / begins.sum()
    assert float(lengths) == pytest.approx(3.0, abs=0.15), "1 to 5 steps, each as likely"


def test_a_restored_spread_goes_on_alike() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = (Spread(PARAMS, generator) for _ in range(2))
    own = torch.zeros(WORLDS, 2)
    for _ in range(30):
        one.replaced(own)
    other.load_state({name: value.clone() for name, value in one.state().items()})
    before = generator.get_state()
    now = one.replaced(own)
    generator.set_state(before)
    assert torch.equal(now, other.replaced(own))


@pytest.mark.parametrize("action_l2", [0.0, 0.7])
@pytest.mark.parametrize("kind", [(Td3, Td3Params), (Ddpg, DdpgParams)])
def test_large_actions_cost_the_same_by_hand_as_with_automatic_gradients(
    kind: tuple[type[Td3] | type[Ddpg], type[Td3Params | DdpgParams]], action_l2: float
) -> None:
    torch.manual_seed(0)
    learner = kind[0](kind[1](hidden=(16, 16), action_l2=action_l2), 5, 0, [-1.0] * 3, [1.0] * 3)  # type: ignore[arg-type]
    x, adam = torch.randn(32, 5), learner.policy.adam
    loss = learner.actor_loss(x)
    adam.differentiate(loss)
    expected = adam.flat.gradient.clone()
    plain = -learner.critics.online.value(x, learner.policy.net(x), only_first=True).mean()
    cost = action_l2 * learner.policy.net(x).square().mean()
    torch.testing.assert_close(loss, plain + cost)
    assert learner._hand is not None
    torch.testing.assert_close(learner._hand.deterministic(x, action_l2), loss.detach())
    torch.testing.assert_close(adam.flat.gradient, expected, rtol=1e-4, atol=1e-7)
