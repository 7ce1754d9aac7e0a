"""Off-policy learners: they learn, and go on exactly where they were saved."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import Tensor

from robotrl.errors import ConfigError
from robotrl.learn.critics import Modern
from robotrl.learn.ddpg import Ddpg, DdpgParams
from robotrl.learn.exploration import HeldNoise
from robotrl.learn.off_policy import OffPolicy
from robotrl.learn.off_policy_by_hand import quick_bfloat16
from robotrl.learn.sac import Sac, SacParams
from robotrl.learn.td3 import Td3, Td3Params
from robotrl.spec.records import read_record
from tests.learn.test_replay import Stepped

LOW, HIGH = (-2.0, -1.0), (2.0, 3.0)


class Drift:
    """16 worlds at a place x in the plane; moving costs nothing, being away from zero does.

    The best action of [-2, 2] x [-1, 3] is -x where that is in reach. Episodes time out after 8 steps.
    """

    num = 16

    def __init__(self, privileged: int = 0) -> None:
        self._draws = torch.Generator().manual_seed(0)
        self._time, self.privileged = 0, torch.zeros(self.num, privileged)
        self.observation = self._fresh()

    def _fresh(self) -> Tensor:
        return torch.rand((self.num, 2), generator=self._draws) * 2 - torch.tensor([1.0, 2.0])

    def step(self, action: Tensor) -> Stepped:
        assert (action >= torch.tensor(LOW)).all()
        assert (action <= torch.tensor(HIGH)).all()
        reached = (self.observation + action).clamp(-2, 2)
        self._time += 1
        over = torch.full((self.num,), self._time % 8 == 0)
        ids = over.nonzero()[:, 0]
        self.observation = self._fresh() if len(ids) else reached
        return Stepped(
            -reached.square().sum(-1), torch.zeros_like(over), over, ids, reached[ids], self.privileged[ids]
        )

    def take_statistics(self) -> dict[str, float]:
        return {}


COMMON = {
    "hidden": (32, 32),
    "batch": 64,
    "start": 256,
    "steps": 8,
    "lr": 3e-3,
    "critic_lr": 3e-3,
    "gamma": 0.5,
}
COMMON |= {"tau": 0.05, "updates_per_step": 0.5, "replay": 4000, "n_step": 2}


def sac(**more: object) -> OffPolicy:
    return Sac(SacParams(**(COMMON | more)), 2, 0, LOW, HIGH)  # type: ignore[arg-type]


def td3(**more: object) -> OffPolicy:
    return Td3(Td3Params(**(COMMON | more)), 2, 0, LOW, HIGH)  # type: ignore[arg-type]


def ddpg(**more: object) -> OffPolicy:
    return Ddpg(DdpgParams(**(COMMON | more)), 2, 0, LOW, HIGH)  # type: ignore[arg-type]


def modern_sac() -> OffPolicy:
    return sac(modern=Modern(width=16, bins=21, noise_repeat=4))


def modern_td3() -> OffPolicy:
    return td3(modern=Modern(width=16, bins=21, noise_repeat=4))


def prioritised_sac() -> OffPolicy:
    return sac(priority=0.6)


def prioritised_modern_td3() -> OffPolicy:
    return td3(priority=0.6, importance=1.0, modern=Modern(width=16, bins=21, noise_repeat=4))


def with_instructions(*names: str) -> AbstractContextManager[object]:
    """A processor with these of the instructions that torch knows."""
    own = {"avx2": True, "avx512_bf16": False, "amx_bf16": False} | dict.fromkeys(names, True)
    return mock.patch.object(torch.cpu, "get_capabilities", create=True, return_value=own)


def bfloat16_sac() -> OffPolicy:
    with with_instructions("avx512_bf16"):
        return sac(bfloat16=True)


def bfloat16_td3() -> OffPolicy:
    with with_instructions("avx512_bf16"):
        return td3(bfloat16=True)


def bfloat16_ddpg() -> OffPolicy:
    with with_instructions("amx_bf16"):
        return ddpg(bfloat16=True)


EVERY = [sac, td3, ddpg, modern_sac, modern_td3, prioritised_sac, prioritised_modern_td3]
EVERY += [bfloat16_sac, bfloat16_td3, bfloat16_ddpg]


@pytest.mark.parametrize("build", EVERY)
def test_every_learner_finds_the_way_home(build: Callable[[], OffPolicy]) -> None:
    torch.manual_seed(0)
    env, learner = Drift(), build()
    for _ in range(20):
        learner.iterate(env)
    x = env._fresh()
    with torch.no_grad():
        missed = (x + learner.actor(x)).abs().mean()
    assert missed < 0.3
    assert x.abs().mean() > 0.5, "staying away must not pass"


@pytest.mark.parametrize("build", EVERY)
def test_a_restored_learner_goes_on_bit_for_bit(build: Callable[[], OffPolicy]) -> None:
    torch.manual_seed(0)
    env, learner = Drift(), build()
    for _ in range(4):
        learner.iterate(env)
    saved = {name: value.detach().clone() for name, value in learner.state().items()}
    torch.manual_seed(99)
    restored = build()
    restored.load_state(saved)
    assert {name: tuple(value.shape) for name, value in saved.items()} == {
        name: tuple(value.shape) for name, value in restored.state().items()
    }
    twin = Drift()
    twin.__dict__.update({k: v.clone() if isinstance(v, Tensor) else v for k, v in env.__dict__.items()})
    twin._draws = torch.Generator()
    twin._draws.set_state(env._draws.get_state())
    for _ in range(2):
        one, other = learner.iterate(env)[1], restored.iterate(twin)[1]
        assert one["critic_loss"] == other["critic_loss"]
    for name, value in learner.state().items():
        assert torch.equal(value, restored.state()[name]), name


def test_bfloat16_is_for_processors_that_multiply_it() -> None:
    def types(learner: OffPolicy) -> set[torch.dtype]:
        assert isinstance(learner, Sac | Td3 | Ddpg)
        assert learner._hand is not None
        assert learner.critics._target_hand is not None
        seen = learner._hand.actor.forward(torch.zeros(3, 2))[1][-1].dtype
        return {learner._hand.critics.dtype, learner.critics._target_hand.dtype, seen}

    for build in (bfloat16_sac, bfloat16_td3, bfloat16_ddpg):
        assert types(build()) == {torch.bfloat16}
    with with_instructions("avx512_bf16"):
        assert types(td3()) == {torch.float32}, "nobody wants it"
    with with_instructions():
        assert types(td3(bfloat16=True)) == {torch.float32}
    with mock.patch.object(torch, "cpu", object()):  # an older torch
        assert types(td3(bfloat16=True)) == {torch.float32}
    with with_instructions("avx512_bf16"):
        assert quick_bfloat16(True, torch.device("cuda")) is None


@pytest.mark.parametrize("build", [bfloat16_td3, bfloat16_ddpg])
def test_targets_in_bfloat16_are_the_target_networks_own(build: Callable[[], OffPolicy]) -> None:
    torch.manual_seed(0)
    learner = build()
    assert isinstance(learner, Td3 | Ddpg)
    with torch.no_grad():
        for parameter in learner.policy.target.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
        x = torch.randn(200, 2)
        exact, found = learner.policy.target(x), learner.policy.following(x)
    assert 0 < float((found - exact).norm() / exact.norm()) < 0.05


def test_bfloat16_changes_what_is_multiplied_and_nothing_that_is_kept() -> None:
    torch.manual_seed(0)
    learner, env = bfloat16_td3(), Drift()
    for _ in range(3):
        learner.iterate(env)
    kept = {value.dtype for name, value in learner.state().items() if "net." in name or "exp_avg" in name}
    assert kept == {torch.float32}


@pytest.mark.parametrize("ratio", [0.3, 1.0, 2.5])
def test_updates_follow_the_ratio_from_the_end_of_the_random_start_on(ratio: float) -> None:
    learner, env = sac(updates_per_step=ratio, start=64, steps=4, batch=8), Drift()
    for _ in range(5):
        assert learner.iterate(env)[0] == 4 * 16
    acted = 5 * 4 * 16 - 64 + 16  # the step that completes the start earns its updates
    assert learner.updates_done == int(acted * ratio + 1e-9)


def test_nobody_updates_before_every_process_can() -> None:
    """One that did would wait for the gradients of the others for ever."""
    learner, env = sac(updates_per_step=1.0, start=16, steps=1, batch=8), Drift()
    others_miss = [True, True, False]
    with mock.patch.object(learner.group, "max_", lambda own: own.fill_(float(own) or others_miss.pop(0))):
        done = []
        for _ in range(6):
            learner.iterate(env)
            done.append(learner.updates_done)
    # Two steps are needed for a return of two; two more are what the others need.
    assert done == [0, 0, 0, 16, 32, 48]


@pytest.mark.parametrize("build", [sac, td3, ddpg])
def test_both_learning_rates_fall_to_zero_over_the_last_part_of_the_budget(
    build: Callable[..., OffPolicy],
) -> None:
    learner = build(falling=0.25, lr=1e-3, critic_lr=4e-3)
    rates = []
    for share in (0.0, 0.75, 0.9, 1.0, 1.5):
        learner.anneal(share)
        rates.append((learner.state()["actor_adam.lr"].item(), learner.state()["critic_adam.lr"].item()))
    expected = [(1e-3, 4e-3), (1e-3, 4e-3), (4e-4, 1.6e-3), (0.0, 0.0), (0.0, 0.0)]
    assert rates == [pytest.approx(pair) for pair in expected]

    steady = build(lr=1e-3)
    steady.anneal(0.9)
    assert steady.state()["actor_adam.lr"].item() == 1e-3


def test_critics_see_more_than_the_actor() -> None:
    learner, env = Sac(SacParams(**COMMON), 2, 3, LOW, HIGH), Drift(privileged=3)  # type: ignore[arg-type]
    for _ in range(3):
        learner.iterate(env)
    assert learner.actor(env.observation).shape == (16, 2)
    assert torch.equal(learner.actor.norm.mean, learner.norm.mean[:2])


def test_held_noise_lasts_as_often_as_its_distribution_says() -> None:
    noise = HeldNoise(4, torch.Generator().manual_seed(0))
    drawn = torch.stack([noise.draw(2000, 1).clone() for _ in range(60)])[:, :, 0]
    changed = (drawn[1:] != drawn[:-1]).float().mean()
    weights = [1 / k**2 for k in range(1, 5)]
    mean_length = sum(k * w for k, w in enumerate(weights, 1)) / sum(weights)
    assert float(changed) == pytest.approx(1 / mean_length, abs=0.01)
    assert abs(float(drawn.std()) - 1) < 0.02


@pytest.mark.parametrize("key", ["priority", "importance"])
@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_impossible_exponents_are_refused(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"a\.toml: sac\.{key}: .*{value}.*1"):
        read_record(SacParams, {key: value}, file=Path("a.toml"), key="sac")


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"replay": 20}, "sac.replay"),
        ({"hidden": ()}, "sac.hidden"),
        ({"bfloat16": True, "modern": Modern()}, r"sac\.bfloat16: is for plain critics, got True; .* false"),
    ],
)
def test_impossible_tables_are_refused(wrong: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        SacParams(**wrong, n_step=3).check("sac", worlds=16, processes=1, file=Path("a.toml"))  # type: ignore[arg-type]
