"""Hindsight: every number names its world, episode and step, so that no mix-up can hide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from robotrl.errors import ConfigError
from robotrl.learn.critics import Modern
from robotrl.learn.ddpg import Ddpg, DdpgParams
from robotrl.learn.hindsight import Goals, Hindsight, HindsightReplay, Strategy
from robotrl.learn.off_policy import OffPolicy, OffPolicyParams
from robotrl.learn.replay import Batch
from robotrl.learn.sac import Sac, SacParams
from robotrl.learn.td3 import Td3, Td3Params
from tests.learn.test_replay import Stepped

WORLDS, SLOTS, GAMMA = 3, 40, 0.75
LENGTHS = (4, 5, 7)
"""Actions of a whole episode, by world; of each world every third episode is one action shorter."""
UNTIL = 10_000


def schedule(world: int) -> list[tuple[int, int]]:
    """First and last step of the episodes of a world, in order."""
    found: list[tuple[int, int]] = []
    first = 0
    while first < UNTIL:
        length = LENGTHS[world] - (len(found) % 3 == 2)
        found.append((first, first + length - 1))
        first += length
    return found


SCHEDULES = [schedule(world) for world in range(WORLDS)]


def place(world: int, step: int) -> tuple[int, int]:
    """Episode that a step belongs to, and how many actions it has had before."""
    for episode, (first, last) in enumerate(SCHEDULES[world]):
        if step <= last:
            return episode, step - first
    raise AssertionError


def code(world: int, episode: int, actions: int) -> float:
    """What a world achieved in an episode after so many actions."""
    return 100_000.0 * (world + 1) + 100 * episode + actions


def wanted(world: int, episode: int) -> float:
    return -code(world, episode, 0)


def sight(world: int, episode: int, actions: int) -> list[float]:
    """Observation, achieved goal (2), desired goal (2), privileged."""
    achieved, desired = code(world, episode, actions), wanted(world, episode)
    return [achieved + 0.25, achieved, achieved, desired, desired, achieved + 0.5]


def reward(achieved: Tensor, desired: Tensor) -> Tensor:
    """Tells of which two goals it is."""
    return achieved[:, 0] * 3 + desired[:, 1]


EARNED = -7.0
"""Reward of every step when it happened."""
GOALS = Goals(slice(1, 3), slice(3, 5), reward, max(LENGTHS))


def step_of(t: int, terminates: bool) -> tuple[Tensor, Tensor, Stepped, Tensor]:
    """What step `t` of the worlds gives: observed, action, stepped, following."""
    places = [place(w, t) for w in range(WORLDS)]
    observed = torch.tensor([sight(w, *places[w]) for w in range(WORLDS)])
    following = torch.tensor([sight(w, *place(w, t + 1)) for w in range(WORLDS)])
    done = torch.tensor([t == SCHEDULES[w][e][1] for w, (e, _) in enumerate(places)])
    ids = done.nonzero()[:, 0]
    last = torch.tensor([sight(w, places[w][0], places[w][1] + 1) for w in ids.tolist()]).reshape(-1, 6)
    nothing = torch.zeros_like(done)
    ends = (done, nothing) if terminates else (nothing, done)
    stepped = Stepped(torch.full((WORLDS,), EARNED), *ends, ids, last[:, :5], last[:, 5:])
    return observed, observed[:, :1] + 1.0, stepped, following


def memory(params: Hindsight, seed: int = 0) -> HindsightReplay:
    generator = torch.Generator().manual_seed(seed)
    return HindsightReplay(SLOTS * WORLDS, WORLDS, 6, 1, generator, params, GOALS)


def filled(count: int, params: Hindsight, terminates: bool = False) -> HindsightReplay:
    replay = memory(params)
    for t in range(count):
        replay.add(*step_of(t, terminates))
    return replay


def decoded(number: float) -> tuple[int, int, int]:
    """World, episode and actions that a code names."""
    rest = round(number)
    return rest // 100_000 - 1, rest % 100_000 // 100, rest % 100


def drawn(batch: Batch) -> list[tuple[int, int, int, int | None]]:
    """World, episode, step in it, and actions that led to the goal; None for the episode's own goal.

    All parts of a sample must name the same world and episode, and its reward must be of its goals.
    """
    found: list[tuple[int, int, int, int | None]] = []
    for i in range(len(batch.reward)):
        world, episode, actions = decoded(float(batch.observation[i, 1]))
        goal, own = float(batch.observation[i, 3]), wanted(world, episode)
        before, after = sight(world, episode, actions), sight(world, episode, actions + 1)
        before[3:5] = after[3:5] = [goal, goal]
        assert batch.observation[i].tolist() == before
        assert batch.following[i].tolist() == after
        assert batch.action[i].tolist() == [before[0] + 1.0]
        assert float(batch.discount[i]) == GAMMA, "neither success nor the end of an episode ends the task"
        if goal == own:
            assert float(batch.reward[i]) == EARNED
            found.append((world, episode, actions, None))
            continue
        assert decoded(goal)[:2] == (world, episode), "a goal of another world or episode"
        assert float(batch.reward[i]) == after[1] * 3 + goal, "judged by the goal achieved after the step"
        found.append((world, episode, actions, decoded(goal)[2]))
    return found


def length(world: int, episode: int) -> int:
    first, last = SCHEDULES[world][episode]
    return last + 1 - first


def reachable(strategy: Strategy, step: int, actions: int) -> range:
    """Actions after which the achieved goal may replace that of a step, in an episode of `actions`."""
    return {
        "future": range(step + 1, actions + 1),
        "final": range(actions, actions + 1),
        "episode": range(1, actions + 1),
    }[strategy]


@pytest.mark.parametrize("strategy", ["future", "final", "episode"])
@pytest.mark.parametrize("count", [9, 43, 200])
@pytest.mark.parametrize("terminates", [False, True])
def test_goals_come_from_where_the_strategy_says(strategy: Strategy, count: int, terminates: bool) -> None:
    params = Hindsight(strategy=strategy, k=1e9)
    samples = drawn(filled(count, params, terminates).sample(6000, 1, GAMMA))
    oldest = max(0, count - SLOTS)
    whole = {
        (w, e, i, goal)
        for w in range(WORLDS)
        for e, (first, last) in enumerate(SCHEDULES[w])
        if first >= oldest and last < count
        for i in range(last + 1 - first)
        for goal in reachable(strategy, i, last + 1 - first)
    }
    assert set(samples) == whole, "every step of an episode that is over and whole, with every goal, no other"


def test_future_goals_of_a_step_and_steps_are_all_as_likely() -> None:
    samples = drawn(filled(40, Hindsight(k=1e9)).sample(60_000, 1, GAMMA))
    steps = sum(length(w, e) for w, e in {s[:2] for s in samples})
    for one in [(2, 0, 0), (0, 1, 3), (1, 2, 1)]:
        goals = [s[3] for s in samples if s[:3] == one]
        assert len(goals) == pytest.approx(60_000 / steps, rel=0.25)
        left = length(*one[:2]) - one[2]
        for goal in range(one[2] + 1, one[2] + 1 + left):
            assert goals.count(goal) == pytest.approx(len(goals) / left, rel=0.4)


@pytest.mark.parametrize("k", [0.0, 1.0, 4.0])
def test_k_goals_are_relabelled_for_each_that_is_not(k: float) -> None:
    samples = drawn(filled(40, Hindsight(k=k)).sample(10_000, 1, GAMMA))
    relabelled = sum(s[3] is not None for s in samples) / len(samples)
    assert relabelled == pytest.approx(k / (k + 1), abs=0.02)


def test_a_share_is_drawn_from_episodes_that_led_somewhere() -> None:
    # A goal of two numbers moves by sqrt(2) an action: between these ends lie episodes of 5 actions.
    params = Hindsight(moved=(4.5 * 2**0.5, 5.5 * 2**0.5), moved_share=0.6)
    samples = drawn(filled(60, params).sample(20_000, 1, GAMMA))
    chosen = [length(*s[:2]) == 5 for s in samples]
    held = {s[:2] for s in samples}
    share = sum(length(*e) for e in held if length(*e) == 5) / sum(length(*e) for e in held)
    assert sum(chosen) / len(chosen) == pytest.approx(0.6 + 0.4 * share, abs=0.02)
    assert {length(*e) for e in held} == {3, 4, 5, 6, 7}
    nowhere = replace(params, moved=(100.0, 200.0))
    assert {length(*s[:2]) for s in drawn(filled(60, nowhere).sample(2000, 1, GAMMA))} == {3, 4, 5, 6, 7}


def test_nothing_is_drawn_before_an_episode_is_over() -> None:
    assert not filled(3, Hindsight()).ready(1)
    assert filled(4, Hindsight()).ready(1)


def test_worlds_that_start_anew_in_the_midst_of_an_episode_begin_another() -> None:
    """As those on a GPU do after a resume: no episode is put together from two."""
    replay = filled(46, Hindsight(k=1e9))
    replay.begin_anew()
    for t in range(60, 75):
        replay.add(*step_of(t, terminates=False))
    drawn(replay.sample(5000, 1, GAMMA))


def test_a_restored_memory_goes_on_alike() -> None:
    params = Hindsight(moved=(6.0, 8.0), moved_share=0.5)
    whole, half, restored = filled(61, params), filled(47, params), memory(params)
    restored.load_state({name: value.clone() for name, value in half.state().items()})
    for t in range(47, 61):
        restored.add(*step_of(t, terminates=False))
    assert whole.state().keys() == restored.state().keys()
    for name in ("rows", "added", "episodes", "chosen", "begun"):
        assert torch.equal(whole.state()[name], restored.state()[name]), name
    one, other = whole.sample(500, 1, GAMMA), restored.sample(500, 1, GAMMA)
    assert torch.equal(one.observation, other.observation)
    assert torch.equal(one.following, other.following)
    assert torch.equal(one.reward, other.reward)


class Corridor:
    """16 worlds that walk a line in both directions from 0 to a goal far off; a reward of 0 is rare."""

    num, length, near = 16, 20, 0.15
    layout = Goals(slice(1, 2), slice(2, 3), lambda a, d: -((a - d).abs()[:, 0] > 0.15).float(), 20)

    def __init__(self) -> None:
        self._draws = torch.Generator().manual_seed(0)
        self._time, self.privileged = 0, torch.zeros(self.num, 0)
        self._start()

    def _start(self) -> None:
        sign = torch.randint(0, 2, (self.num, 1), generator=self._draws) * 2.0 - 1
        goal = sign * (2.5 + torch.rand((self.num, 1), generator=self._draws))
        self.observation = torch.cat((torch.zeros(self.num, 2), goal), dim=-1)

    def step(self, action: Tensor) -> Stepped:
        at = self.observation[:, :1] + 0.3 * action.clamp(-1, 1)
        reached = torch.cat((at, at, self.observation[:, 2:]), dim=-1)
        self._time += 1
        over = torch.full((self.num,), self._time % self.length == 0)
        ids, judged = over.nonzero()[:, 0], self.layout.reward(at, reached[:, 2:])
        self.observation = reached
        if len(ids):
            self._start()
        return Stepped(judged, torch.zeros_like(over), over, ids, reached[ids], self.privileged[ids])

    def take_statistics(self) -> dict[str, float]:
        return {}


COMMON = {
    "hidden": (64, 64),
    "batch": 256,
    "start": 640,
    "steps": 20,
    "lr": 2e-3,
    "critic_lr": 2e-3,
    "gamma": 0.9,
    "tau": 0.05,
    "updates_per_step": 0.15,
    "replay": 20_000,
}
CLIPPED = Hindsight(clip_targets=True)


def sac(hindsight: Hindsight | None = CLIPPED, **more: object) -> OffPolicy:
    kept = replace(hindsight, clip_targets=False) if hindsight else None
    params = SacParams(**(COMMON | {"temperature": 0.05} | more), hindsight=kept)  # type: ignore[arg-type]
    return Sac(params, 3, 0, [-1.0], [1.0], goals=Corridor.layout)


def td3(hindsight: Hindsight | None = CLIPPED, **more: object) -> OffPolicy:
    params = Td3Params(**(COMMON | {"exploration_std": 0.3} | more), hindsight=hindsight)  # type: ignore[arg-type]
    return Td3(params, 3, 0, [-1.0], [1.0], goals=Corridor.layout)


def ddpg(hindsight: Hindsight | None = CLIPPED, **more: object) -> OffPolicy:
    params = DdpgParams(**(COMMON | {"exploration_std": 0.3} | more), hindsight=hindsight)  # type: ignore[arg-type]
    return Ddpg(params, 3, 0, [-1.0], [1.0], goals=Corridor.layout)


def modern(hindsight: Hindsight | None = CLIPPED) -> OffPolicy:
    return td3(hindsight, modern=Modern(width=32, bins=41, noise_repeat=4))


def successes(learner: OffPolicy) -> float:
    """Share of worlds at their goals at the last step of an episode."""
    env = Corridor()
    with torch.no_grad():
        for _ in range(env.length - 1):
            env.step(learner.actor(env.observation))
        return float((env.step(learner.actor(env.observation)).reward == 0).float().mean())


def trained(build: Callable[..., OffPolicy], hindsight: Hindsight | None) -> float:
    torch.manual_seed(0)
    env, learner = Corridor(), build(hindsight)
    for _ in range(12):
        learner.iterate(env)
    return successes(learner)


@pytest.mark.parametrize("build", [sac, td3, ddpg, modern])
def test_goals_that_chance_never_reaches_are_learned_with_hindsight(build: Callable[..., OffPolicy]) -> None:
    assert trained(build, CLIPPED) >= 0.9


def test_they_are_not_learned_without() -> None:
    assert trained(td3, None) <= 0.6


@pytest.mark.parametrize("build", [td3, ddpg, modern])
def test_targets_stay_where_returns_can_be(build: Callable[..., OffPolicy]) -> None:
    torch.manual_seed(0)
    learner, env = build(), Corridor()
    for _ in range(3):
        learner.iterate(env)
    [batch] = learner.sample(1)
    assert batch.lowest is not None
    bound = learner._bound
    scale = float(bound.scale(torch.ones(()))) if bound else 1.0
    assert torch.allclose(batch.lowest, torch.full((256,), -10.0 * scale))
    returns = learner.critics.online.returns
    for reward, inside in ((-1e3, float(batch.lowest[0])), (1e3, 0.0)):
        odd = replace(batch, reward=torch.full((256,), reward))
        target = learner.critics.backup(odd, batch.action)
        mean = target @ returns.atoms if bound else target  # type: ignore[attr-defined]
        assert torch.allclose(mean, torch.full((256,), max(inside, -5.0) if bound else inside), atol=1e-4)


def test_relabelled_samples_are_normalised_as_what_is_observed() -> None:
    learner, env = td3(Hindsight(k=1e9)), Corridor()
    for _ in range(3):
        learner.iterate(env)
    [batch] = learner.sample(1)
    raw = batch.observation * learner.norm.var.sqrt() + learner.norm.mean
    steps = (raw[:, 2:] - raw[:, 1:2]).abs()
    assert float(steps.max()) <= 0.3 * 20 + 1e-3, "what is wanted is what was reached, in the same units"
    assert torch.allclose(raw[:, 0], raw[:, 1], atol=1e-4)


@pytest.mark.parametrize("build", [sac, td3])
def test_a_restored_learner_goes_on_bit_for_bit(build: Callable[..., OffPolicy]) -> None:
    torch.manual_seed(0)
    env, learner = Corridor(), build()
    for _ in range(4):
        learner.iterate(env)
    saved = {name: value.detach().clone() for name, value in learner.state().items()}
    torch.manual_seed(99)
    restored, twin = build(), Corridor()
    restored.load_state(saved)
    for _ in range(4):
        twin.step(torch.zeros(16, 1))
    twin.__dict__.update({k: v.clone() if isinstance(v, Tensor) else v for k, v in env.__dict__.items()})
    twin._draws = torch.Generator()
    twin._draws.set_state(env._draws.get_state())
    for _ in range(2):
        assert learner.iterate(env)[1]["critic_loss"] == restored.iterate(twin)[1]["critic_loss"]
    for name, value in learner.state().items():
        assert torch.equal(value, restored.state()[name]), name


@pytest.mark.parametrize(
    ("params", "key"),
    [
        (Td3Params(hindsight=CLIPPED, n_step=2), "td3.n_step: does not go together with hindsight, got 2"),
        (Td3Params(hindsight=CLIPPED, priority=0.5), "td3.priority: does not go together with hindsight"),
        (Td3Params(hindsight=CLIPPED, gamma=1.0), "td3.gamma: leaves no bound to clip targets to"),
        (SacParams(hindsight=CLIPPED), "td3.hindsight.clip_targets: .* entropy.* allowed: false"),
    ],
)
def test_what_does_not_go_together_is_refused(params: OffPolicyParams, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"a\.toml: {key}"):
        params.check("td3", worlds=16, processes=1, file=Path("a.toml"))
