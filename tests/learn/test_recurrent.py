"""Actor and critic with a memory: cells, sequences, resets, bootstraps, and a task that needs one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from robotrl.errors import ConfigError
from robotrl.learn.a2c import A2c, A2cParams
from robotrl.learn.collect import OnPolicy, collect
from robotrl.learn.group import Group
from robotrl.learn.loop import train
from robotrl.learn.natural import PolicyBatch, divergence, surrogate
from robotrl.learn.networks import Unmirrored
from robotrl.learn.npg import Npg, NpgParams
from robotrl.learn.playing import Playing, play
from robotrl.learn.ppo import Ppo, PpoParams
from robotrl.learn.recurrent import MemoryParams, Recurrent, mirror_recurrent, plain_recurrent
from robotrl.learn.rollout import Rollout
from robotrl.learn.trpo import Trpo, TrpoParams
from robotrl.learn.vpg import Vpg, VpgParams
from tests.learn.test_networks import OUT_SIGN, OUT_SOURCE, SIGN, SOURCE, Reflection, reflect
from tests.learn.test_rollout import CountingEnv

Kind = Literal["gru", "lstm"]
KINDS: tuple[Kind, ...] = ("gru", "lstm")
GRU, LSTM = (MemoryParams(kind=kind, width=16) for kind in KINDS)
LONG = 3
"""Steps of an episode of `RecallEnv`."""


class RecallEnv:
    """Shows a sign in an episode's first step and pays for it in the last; worlds are out of step.

    The observation is the sign, or 0 later, and the time; the reward is -(action - sign)^2 at the end,
    so that no action that does not remember earns more than -1 on average.
    """

    num = 24

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._age = torch.arange(self.num) % LONG
        self._sign = self._signs()

    def _signs(self) -> Tensor:
        return 2.0 * torch.randint(0, 2, (self.num,), generator=self._generator) - 1.0

    @property
    def observation(self) -> Tensor:
        return torch.stack((self._sign * (self._age == 0), self._age / LONG), dim=-1)

    @property
    def privileged(self) -> Tensor:
        return torch.zeros(self.num, 0)

    def step(self, action: Tensor) -> CountingEnv.Stepped:
        self._age += 1
        ended = self._age == LONG
        reward = -(action[:, 0] - self._sign).square() * ended
        final = self.observation[ended]
        self._sign = torch.where(ended, self._signs(), self._sign)
        self._age = self._age.masked_fill(ended, 0)
        ids = ended.nonzero()[:, 0]
        return CountingEnv.Stepped(reward, ended, ~ended & False, ids, final, final[:, :0])

    def take_statistics(self) -> dict[str, float]:
        return {}


def ppo_params(memory: MemoryParams | None, **changes: float | bool | str) -> PpoParams:
    params = PpoParams(
        steps=6,
        epochs=4,
        minibatches=2,
        gamma=0.9,
        gae_lambda=0.95,
        lr=1e-2,
        schedule="fixed",
        value_weight=0.5,
        grad_norm=1.0,
        init_std=0.5,
        hidden=(16,),
        activation="tanh",
        memory=memory,
    )
    return replace(params, **changes)  # type: ignore[arg-type]


def recall_ppo(memory: MemoryParams | None, **changes: float | bool | str) -> Ppo:
    return Ppo(ppo_params(memory, **changes), Unmirrored(2), Unmirrored(0), Unmirrored(1))


def paid(learner: OnPolicy) -> float:
    """Mean reward of whole episodes of the mean actions."""
    env = RecallEnv(seed=99)
    advance = play(env, learner.actor)
    for _ in range(LONG):  # worlds begin in the middle of episodes
        advance()
    steps = [advance() for _ in range(4 * LONG)]
    return float(sum(s.reward.sum() for s in steps) / sum(s.terminated.sum() for s in steps))


def trained(learner: OnPolicy, iterations: int) -> OnPolicy:
    work = train(RecallEnv(seed=0), learner, 0, 0)
    for _ in range(iterations):
        next(work)
    return learner


def recalling(kind: Kind) -> Recurrent:
    """A plain network in float64 with every parameter drawn."""
    return drawn(plain_recurrent(MemoryParams(kind=kind, width=6), 4, (8,), 3, 1.0))


def mirrored(kind: Kind) -> Recurrent:
    """A mirrored one."""
    ends = (SOURCE, SIGN), (8,), (OUT_SOURCE, OUT_SIGN)
    return drawn(mirror_recurrent(MemoryParams(kind=kind, width=6), *ends, 1.0))


def drawn(net: Recurrent) -> Recurrent:
    torch.manual_seed(0)
    for parameter in net.double().parameters():
        nn.init.normal_(parameter)
    return net


# ---------------------------------------------------------------- cells and sequences


@pytest.mark.parametrize(("kind", "torchs"), [("gru", nn.GRUCell), ("lstm", nn.LSTMCell)])
def test_the_cells_are_those_of_torch(kind: Kind, torchs: type[nn.GRUCell | nn.LSTMCell]) -> None:
    net, reference = recalling(kind), torchs(4, 6).double()
    for name, layer in (("ih", net.enter), ("hh", net.recall)):
        reference.get_parameter(f"weight_{name}").data = layer.weight.data
        reference.get_parameter(f"bias_{name}").data = layer.bias.data
    x, memory = torch.randn(5, 4).double(), torch.randn(5, net.memory_size).double()
    parts = torch.split(memory, 6, dim=-1)
    following = reference(x, parts if kind == "lstm" else parts[0])
    expected = torch.cat(following, dim=-1) if kind == "lstm" else following
    torch.testing.assert_close(net.step(x, memory)[1], expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("build", [recalling, mirrored])
def test_a_sequence_is_its_steps_with_the_memory_emptied_where_an_episode_begins(
    build: Callable[[Kind], Recurrent], kind: Kind
) -> None:
    net = build(kind)
    x, memory = torch.randn(3, 7, 4).double(), torch.randn(3, net.memory_size).double()
    fresh = torch.zeros(3, 7, 1, dtype=torch.bool)
    fresh[0, 2] = fresh[0, 3] = fresh[2, 6] = True
    output, after = net(x, memory, fresh)
    for t in range(7):
        memory = torch.where(fresh[:, t], 0.0, memory)
        now, memory = net.step(x[:, t], memory)
        torch.testing.assert_close(output[:, t], now)
        torch.testing.assert_close(after[:, t], memory)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mirrored_history_gives_mirrored_outputs(kind: Kind) -> None:
    net, x = mirrored(kind), torch.randn(5, 9, 4).double()
    start = torch.zeros(5, net.memory_size).double(), torch.zeros(5, 9, 1, dtype=torch.bool)
    output, after = net(x, *start)
    other, swapped = net(reflect(x, SOURCE, SIGN), *start)
    torch.testing.assert_close(other, reflect(output, OUT_SOURCE, OUT_SIGN))
    halves = after.unflatten(-1, (-1, 2, 3)).flip(-2).flatten(-3)
    torch.testing.assert_close(swapped, halves)
    assert (other - output).abs().max() > 0.1, "or nothing was mirrored"


# ---------------------------------------------------------------- rollouts


@pytest.mark.parametrize("memory", [GRU, LSTM])
def test_what_was_collected_is_what_the_sequences_give(memory: MemoryParams) -> None:
    """Over rollouts that begin and end within episodes, or the first step of an update is off-policy."""
    torch.manual_seed(0)
    learner = trained(recall_ppo(memory, lr=1e-9), 3)
    env, rollout = RecallEnv(seed=1), Rollout.empty(6, 24, 2, 0, 1)
    rollout.memory = learner.model.forgotten(24)
    for _ in range(3):
        collect(env, learner.model, rollout)
        with torch.no_grad():
            mean = learner.model.mean(rollout.batch(learner.model.normalized(rollout)), rollout.past)
        torch.testing.assert_close(mean, rollout.batch(rollout.mean), rtol=1e-4, atol=1e-5)
        rollout.memory = learner.model.remembered(rollout)
        assert rollout.memory is not None
        assert (rollout.memory == 0).all(1).equal(rollout.ended[-1] == 1), "forgotten at the end, or not"


@pytest.mark.parametrize("memory", [GRU, LSTM])
def test_an_episode_cut_off_by_time_is_worth_what_its_memory_expects(memory: MemoryParams) -> None:
    """With the critic's own values, one long episode and the same one cut in the middle earn the same."""
    torch.manual_seed(0)
    model = recall_ppo(memory).model
    whole = Rollout.empty(6, 3, 2, 0, 1)
    whole.observation.normal_()
    whole.reward.normal_()
    whole.last = torch.randn(3, 2), torch.zeros(3, 0)
    blank = model.forgotten(3)
    assert blank is not None
    whole.memory = torch.randn_like(blank)
    cut = replace(whole, ended=whole.ended.clone())
    cut.ended[2, 1] = cut.ended[5, 2] = 1.0
    after = torch.stack((whole.observation[3, 1], whole.last[0][2]))
    cut.timeouts = replace(
        whole.timeouts, place=torch.tensor([2 * 3 + 1, 5 * 3 + 2]), observation=after, privileged=after[:, :0]
    )
    of_whole, of_cut = (model.estimate(r, 0.9, 0.0)[1] for r in (whole, cut))
    torch.testing.assert_close(of_cut[:3], of_whole[:3])
    torch.testing.assert_close(of_cut[3:, [0, 2]], of_whole[3:, [0, 2]])
    assert (of_cut[3:, 1] - of_whole[3:, 1]).abs().min() > 1e-6, "a new episode remembers nothing"


def test_worlds_are_played_with_a_memory_each_that_ends_with_the_episode() -> None:
    torch.manual_seed(0)
    actor, x = recall_ppo(GRU).actor, torch.randn(4, 3, 2)
    playing = Playing(actor, torch.zeros(3, actor.memory_size))
    for now in x[:3]:
        playing(now)
    playing.forget(torch.tensor([1]))
    after = playing(x[3])
    alone = Playing(actor, torch.zeros(3, actor.memory_size))(x[3])
    torch.testing.assert_close(after[1], alone[1])
    assert (after - alone).abs().amax(1)[[0, 2]].min() > 1e-4


def test_an_actor_with_a_memory_cannot_be_asked_without_it() -> None:
    with pytest.raises(TypeError):
        recall_ppo(GRU).actor(torch.zeros(1, 2))


# ---------------------------------------------------------------- learning


def on_policy(kind: type[OnPolicy], memory: MemoryParams) -> OnPolicy:
    """Any other learner of the recall task."""
    common = {"gamma": 0.9, "gae_lambda": 0.95, "init_std": 0.5, "hidden": (16,), "memory": memory}
    params: A2cParams | TrpoParams | NpgParams | VpgParams
    if kind is A2c:
        params = A2cParams(steps=6, lr=1e-2, activation="tanh", **common)  # type: ignore[arg-type]
    elif kind is Trpo:
        params = TrpoParams(steps=6, kl_limit=0.05, critic_epochs=5, **common)  # type: ignore[arg-type]
    elif kind is Npg:
        params = NpgParams(steps=6, step_size=0.3, critic_epochs=5, **common)  # type: ignore[arg-type]
    else:
        params = VpgParams(steps=6, lr=2e-2, critic_epochs=5, **common)  # type: ignore[arg-type]
    return kind(params, Unmirrored(2), Unmirrored(0), Unmirrored(1))


@cache
def without_memory() -> float:
    torch.manual_seed(0)
    return paid(trained(recall_ppo(None), 20))


@pytest.mark.parametrize("memory", [GRU, LSTM])
def test_ppo_with_a_memory_learns_what_it_cannot_learn_without(memory: MemoryParams) -> None:
    torch.manual_seed(0)
    assert paid(trained(recall_ppo(memory), 20)) > -0.1
    assert -1.3 < without_memory() < -0.9, "no action that does not remember earns more than -1"


@pytest.mark.parametrize(
    "changes",
    [
        {"recompute_advantages": True, "schedule": "adaptive"},
        {"surrogate": "adaptive_kl", "clip_apart": True},
        {"scale_reward": True, "minibatches": 0, "minibatch": 72},
    ],
)
def test_every_variant_of_ppo_takes_a_memory(changes: dict[str, float | bool | str]) -> None:
    torch.manual_seed(0)
    assert paid(trained(recall_ppo(GRU, **changes), 20)) > -0.1


@pytest.mark.parametrize("kind", [A2c, Trpo, Npg, Vpg])
def test_every_on_policy_learner_takes_a_memory(kind: type[OnPolicy]) -> None:
    torch.manual_seed(0)
    assert paid(trained(on_policy(kind, GRU), 20)) > -0.2


def test_trpos_bound_holds_with_a_memory() -> None:
    torch.manual_seed(0)
    learner = on_policy(Trpo, LSTM)
    env, rollout = RecallEnv(seed=1), Rollout.empty(6, 24, 2, 0, 1)
    rollout.memory = learner.model.forgotten(24)
    collect(env, learner.model, rollout)
    batch = PolicyBatch.of(learner.model, rollout, learner.estimate(rollout)[1], Group(), center=True)
    before = float(surrogate(learner.model, batch).detach())
    figures = learner.update(rollout)
    with torch.no_grad():
        gained = float(surrogate(learner.model, batch)) - before
        kl = float(divergence(learner.model, batch))
    assert gained == pytest.approx(figures["surrogate"], abs=1e-6)
    assert gained > 0.01
    assert 0.01 < kl <= 0.05


@pytest.mark.parametrize("memory", [GRU, LSTM])
def test_a_resumed_learner_goes_on_bit_for_bit(memory: MemoryParams) -> None:
    torch.manual_seed(0)
    env, learner = RecallEnv(seed=0), recall_ppo(memory)
    work = train(env, learner, 0, 0)
    next(work)
    other = recall_ppo(memory)
    saved = {name: value.clone() for name, value in learner.state().items()}
    assert (saved["memory"] != 0).any(1).sum() == 16, "the worlds that are in the middle of an episode"
    state, ages = torch.get_rng_state(), (env._age.clone(), env._sign.clone())
    noise = env._generator.get_state()
    next(work)
    other.load_state(saved)
    torch.set_rng_state(state)
    again = RecallEnv(seed=5)
    again._age, again._sign = ages
    again._generator.set_state(noise)
    next(train(again, other, 1, 0))
    after = other.state()
    for name, value in learner.state().items():
        assert torch.equal(after[name], value), name


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("params", "key"),
    [
        (ppo_params(GRU, minibatches=5), "ppo.minibatches"),
        (ppo_params(GRU, minibatches=0, minibatch=5), "ppo.minibatch"),
        (
            VpgParams(
                steps=6,
                gamma=0.9,
                gae_lambda=1.0,
                init_std=1.0,
                hidden=(8,),
                lr=1e-3,
                critic_minibatches=5,
                memory=LSTM,
            ),
            "vpg.critic_minibatches",
        ),
    ],
)
def test_minibatches_that_split_worlds_are_refused(params: PpoParams | VpgParams, key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}: splits worlds.*got 5.*at most 4 minibatches"):
        params.check(4, Path("run.toml"))
    replace(params, memory=None).check(4, Path("run.toml"))
    ppo_params(GRU, minibatches=4).check(4, Path("run.toml"))


def test_an_odd_memory_is_refused_where_there_is_a_reflection() -> None:
    ends = Reflection(SOURCE, SIGN), Unmirrored(0), Reflection(OUT_SOURCE, OUT_SIGN)
    with pytest.raises(ConfigError, match=r"ppo\.memory\.width: must be even.*got 7"):
        Ppo(ppo_params(MemoryParams(kind="gru", width=7)), *ends)
