"""What the tables of on-policy algorithms refuse, naming the place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from robotrl.errors import ConfigError
from robotrl.learn.actor_critic import OnPolicyParams
from robotrl.learn.ppo import Ppo
from robotrl.learn.trpo import TrpoParams
from tests.learn.test_networks import OUT_SIGN, OUT_SOURCE, SIGN, SMALL, SOURCE, Reflection

FILE, WORLDS = Path("run.toml"), 6
TRPO = TrpoParams(steps=8, gamma=0.9, gae_lambda=0.9, init_std=0.5, hidden=(16,))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (replace(SMALL, minibatches=49), r"run\.toml: ppo\.minibatches: .*got 49; allowed: up to 48"),
        (replace(SMALL, minibatches=0, minibatch=49), r"ppo\.minibatch: is more than .*up to 48"),
        (replace(SMALL, minibatch=2), r"ppo\.minibatches: both of minibatches and minibatch"),
        (replace(SMALL, minibatches=0), r"ppo\.minibatches: neither of minibatches and minibatch"),
        (replace(SMALL, hidden=()), r"ppo\.hidden: has no layer"),
        (replace(TRPO, critic_minibatches=49), r"trpo\.critic_minibatches: is more than"),
        (replace(TRPO, hidden=()), r"trpo\.hidden: has no layer"),
    ],
)
def test_what_does_not_fit_the_rollout_is_refused(params: OnPolicyParams, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        params.check(WORLDS, FILE)


@pytest.mark.parametrize("params", [SMALL, replace(SMALL, minibatches=48), TRPO])
def test_what_fits_is_accepted(params: OnPolicyParams) -> None:
    params.check(WORLDS, FILE)


def test_odd_widths_are_refused_where_the_task_has_a_reflection() -> None:
    parts = Reflection(SOURCE, SIGN), Reflection((0,), (1.0,)), Reflection(OUT_SOURCE, OUT_SIGN)
    with pytest.raises(ConfigError, match=r"ppo\.hidden: must be even"):
        Ppo(replace(SMALL, hidden=(16, 15)), *parts)
