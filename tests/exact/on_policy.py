"""The small actor and critic whose estimates, gradients and steps are compared with exact answers."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from robotrl.learn.actor_critic import ActorCritic, OnPolicyParams
from robotrl.learn.networks import Unmirrored

OBS, ACTIONS, N = 3, 2, 12
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
close = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)


def a_model() -> ActorCritic:
    return ActorCritic(OnPolicyParams(**COMMON), *PARTS)
