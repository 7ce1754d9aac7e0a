"""What off-policy learners share: exploration, replay, critics with targets, and updates per step."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
from torch import Tensor, nn

from robotrl.errors import ConfigError
from robotrl.learn.critics import Modern
from robotrl.learn.exploration import Exploration, HeldNoise, Spread
from robotrl.learn.flat import Adam, under
from robotrl.learn.group import Group
from robotrl.learn.hindsight import Goals, Hindsight, HindsightReplay
from robotrl.learn.networks import Actor
from robotrl.learn.normalize import RunningNorm
from robotrl.learn.priorities import Priorities
from robotrl.learn.replay import Batch, Replay
from robotrl.learn.reward_bound import RewardBound
from robotrl.learn.squashed import Span
from robotrl.learn.target_critics import TargetCritics
from robotrl.spec.records import Between

if TYPE_CHECKING:
    from robotrl.learn.loop import VectorEnv

Positive = Annotated[float, Between(1e-12)]
Count = Annotated[int, Between(1)]

MOST_AT_ONCE = 32
"""Updates whose samples are drawn together."""


@dataclass(frozen=True, kw_only=True)
class OffPolicyParams:
    """What the tables of all off-policy algorithms hold; counts are of all processes together."""

    steps: Count = 64
    """Control steps per world and iteration."""
    start: Count = 10_000
    """Environment steps with random actions, before the first update."""
    updates_per_step: Positive = 1.0
    """Gradient updates per environment step."""
    replay: Count = 1_000_000
    """Environment steps that are remembered."""
    batch: Count = 256
    n_step: Count = 1
    """Rewards that are summed before the critic is asked."""
    priority: Annotated[float, Between(0, 1)] = 0.0
    """Steps are drawn like the critics' error at them to this power; 0 draws all alike."""
    importance: Annotated[float, Between(0, 1)] = 0.4
    """How far weights in the critics' loss undo the bias of drawing so; 1 is fully."""
    gamma: Annotated[float, Between(1e-12, 1)] = 0.99
    tau: Annotated[float, Between(0, 1)] = 0.005
    """How far the target networks move with each update."""
    lr: Positive = 3e-4
    """Of the actor."""
    critic_lr: Positive = 3e-4
    falling: Annotated[float, Between(0, 1)] = 0.0
    """Last share of the budget, over which both fall to zero; 0 keeps them."""
    hidden: tuple[Count, ...] = (256, 256)
    """Widths of the hidden layers of the actor, and of a critic that is not modern."""
    bfloat16: bool = False
    """Multiply hidden layers in bfloat16 while updating, but for SAC's policy in targets; on x86 processors
    with AVX-512 BF16 or AMX, in float32 on others."""
    modern: Modern | None = None
    """Replaces the critics, scales rewards and holds exploration noise."""
    exploration: Exploration | None = None
    """Lets worlds explore differently; without it all do so alike."""
    hindsight: Hindsight | None = None
    """Relabels goals; only for tasks that have some."""

    def check(self, key: str, worlds: int, processes: int, file: Path) -> None:
        """Refuse a memory that could never be sampled, and what does not divide among processes.

        Args:
            key: name of the table.
            worlds: of all processes together.
            processes: that train together.
            file: where the table stands, for the error.

        Raises:
            ConfigError: one of these.
        """
        if not self.hidden:
            raise ConfigError("needs a hidden layer", file=file, key=f"{key}.hidden", value=[])
        if self.bfloat16 and self.modern:
            raise ConfigError(
                "is for plain critics", file=file, key=f"{key}.bfloat16", value=True, allowed="false"
            )
        if self.replay < self.n_step * worlds:
            raise ConfigError(
                "remembers less than n_step steps of every world",
                file=file,
                key=f"{key}.replay",
                value=self.replay,
                allowed=f"{self.n_step * worlds} or more",
            )
        if self.batch > self.replay:
            raise ConfigError(
                "is more than is remembered",
                file=file,
                key=f"{key}.batch",
                value=self.batch,
                allowed=f"up to {self.replay}",
            )
        if self.batch % processes:
            raise ConfigError(
                "does not divide among the processes",
                file=file,
                key=f"{key}.batch",
                value=self.batch,
                allowed=f"a multiple of {processes}",
            )
        if self.hindsight:
            self._check_hindsight(self.hindsight, key, file)

    def _check_hindsight(self, hindsight: Hindsight, key: str, file: Path) -> None:
        """Refuse what relabelling cannot be combined with: other goals make other rewards and errors."""
        for name, value, allowed in (("n_step", self.n_step, 1), ("priority", self.priority, 0.0)):
            if value != allowed:
                raise ConfigError(
                    "does not go together with hindsight",
                    file=file,
                    key=f"{key}.{name}",
                    value=value,
                    allowed=str(allowed),
                )
        if hindsight.clip_targets and self.gamma == 1:
            raise ConfigError(
                "leaves no bound to clip targets to",
                file=file,
                key=f"{key}.gamma",
                value=1,
                allowed="below 1",
            )


class OffPolicy(ABC):
    """An off-policy learner: acting, remembering, and the frame around its `update`.

    Actions inside are in [-1, 1], and so are those that are remembered; the environment's are
    spanned from them. Observations are remembered raw and normalised when sampled, since the
    statistics drift.
    """

    actor: Actor
    """Observation (B, obs) -> action of the environment (B, n) without noise; evaluated, exported."""
    critics: TargetCritics

    def __init__(
        self,
        params: OffPolicyParams,
        observation: int,
        privileged: int,
        low: Sequence[float],
        high: Sequence[float],
        group: Group | None = None,
        goals: Goals | None = None,
    ) -> None:
        """Build what all have, on torch's default device.

        Args:
            params: of any off-policy algorithm.
            observation: width of what the actor sees.
            privileged: width of what only the critics see besides.
            low: (n,) smallest action of the environment, which -1 stands for.
            high: (n,) largest action.
            group: the processes that train together.
            goals: of the task, which hindsight needs.
        """
        self.params, self.group, self._goals = params, group or Group(), goals
        self.norm, self.actor_norm = RunningNorm(observation + privileged), RunningNorm(observation)
        self.span = Span(torch.tensor(low, dtype=torch.float32), torch.tensor(high, dtype=torch.float32))
        self.observation_size, self.action_size = observation, len(low)
        device = self.norm.mean.device
        seed = int(torch.randint(2**62, ()).item()) + self.group.rank
        self.generator = torch.Generator(device).manual_seed(seed)
        self._identity = torch.arange(len(self.norm.mean)), torch.ones(len(self.norm.mean))
        self._bound = RewardBound(params.gamma, params.modern.value_max) if params.modern else None
        self._noise = HeldNoise(params.modern.noise_repeat if params.modern else 1, self.generator)
        self._spread = Spread(params.exploration, self.generator) if params.exploration else None
        self._replay: Replay | None = None
        self._priorities: Priorities | None = None
        self._steps_done, self.updates_done, self._owed, self._ready = 0, 0, 0.0, False

    @abstractmethod
    def explore(self, x: Tensor, noise: Tensor) -> Tensor:
        """Actions (B, n) in [-1, 1] to try, from normalised observations and normal noise (B, n)."""

    @abstractmethod
    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Improve on one batch of normalised observations; returns figures, not yet read."""

    @abstractmethod
    def parts(self) -> dict[str, nn.Module]:
        """Every network, by name."""

    @abstractmethod
    def optimizers(self) -> dict[str, Adam]:
        """Every optimiser, by name."""

    def iterate(self, env: VectorEnv) -> tuple[int, dict[str, float]]:
        """Step every world and update, in turns; returns this process's environment steps and figures."""
        started, updating, updates = time.perf_counter(), 0.0, 0
        rows: list[dict[str, Tensor]] = []
        for _ in range(self.params.steps):
            self._step(env)
            before, due = time.perf_counter(), self._due(env.num * self.group.size)
            rows += self.improve(due)
            updates += due
            updating += time.perf_counter() - before
        seconds = time.perf_counter() - started
        figures = {"updates_per_s": updates / seconds, "update_share": updating / seconds}
        return self.params.steps * env.num, figures | means(rows)

    def anneal(self, share: float) -> None:
        """Let the learning rates fall to zero over the last part of the budget, as the table says."""
        if self.params.falling:
            left = min(max(1.0 - share, 0.0) / self.params.falling, 1.0)
            rates = {"actor_adam": self.params.lr, "critic_adam": self.params.critic_lr}
            for name, optimizer in self.optimizers().items():
                optimizer.lr = left * rates[name]

    def improve(self, updates: int) -> list[dict[str, Tensor]]:
        """Update so many times; returns figures, of some updates only."""
        rows = []
        for begin in range(0, updates, MOST_AT_ONCE):
            for batch in self.sample(min(MOST_AT_ONCE, updates - begin)):
                self.updates_done += 1
                row = self.update(batch)
                if self._priorities and batch.row is not None:
                    self._priorities.update(batch.row, self.critics.surprise)
            rows.append(row)
        return rows

    def sample(self, count: int) -> list[Batch]:
        """Draw the batches of so many updates, normalised and scaled as the networks want them."""
        assert self._replay is not None, "a step comes first"
        size = self.params.batch // self.group.size
        p = self.params
        if self._priorities:
            row, weight = self._priorities.draw(count * size)
            drawn = replace(self._replay.read(row, p.n_step, p.gamma), row=row, weight=weight)
        else:
            drawn = self._replay.sample(count * size, p.n_step, p.gamma)
        ready = replace(
            drawn,
            observation=self.norm(drawn.observation),
            following=self.norm(drawn.following),
        )
        if self._bound:
            lowest = None if ready.lowest is None else self._bound.scale(ready.lowest)
            ready = replace(ready, reward=self._bound.scale(ready.reward), lowest=lowest)
        return list(ready.parts(count))

    def noise(self, count: int) -> Tensor:
        """Standard normal noise (count, n)."""
        return torch.randn((count, self.action_size), generator=self.generator, device=self.generator.device)

    def state(self) -> dict[str, Tensor]:
        """Every tensor that defines the learner, for a checkpoint; memory and noise are this rank's."""
        tensors = {
            f"{name}.{key}": value for name, part in self._stateful().items() for key, value in part.items()
        }
        tensors["counts"] = self._counts()
        tensors["generator"] = self.generator.get_state()
        return tensors

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        for name, module in self.parts().items():
            module.load_state_dict(under(tensors, name))
        for name, optimizer in self.optimizers().items():
            optimizer.load_state(under(tensors, name))
        if self._bound:
            self._bound.load_state(under(tensors, "reward_bound"))
        self._noise.load_state(under(tensors, "noise"))
        if self._spread:
            self._spread.load_state(under(tensors, "spread"))
        if "replay.added" in tensors:
            self._replay = self._remember(worlds=int(tensors["replay.added"][1]))
            self._replay.load_state(under(tensors, "replay"))
        if self._priorities:
            self._priorities.load_state(under(tensors, "priorities"))
        steps, updates, self._owed = tensors["counts"].tolist()
        self._steps_done, self.updates_done = int(steps), int(updates)
        self.generator.set_state(tensors["generator"].cpu())

    def scales(self) -> dict[str, Tensor]:
        """Live statistics of what rewards are divided by, named as `state` does."""
        bound = self._bound.state_dict() if self._bound else {}
        return {f"reward_bound.{name}": value for name, value in bound.items() if name != "running"}

    def begin_anew(self) -> None:
        """Cut the remembered episodes that do not go on, and forget what was earned in them."""
        if self._replay:
            self._replay.begin_anew()
        if self._bound:
            self._bound.begin_anew()

    def _stateful(self) -> dict[str, dict[str, Tensor]]:
        parts: dict[str, dict[str, Tensor]] = {k: m.state_dict() for k, m in self.parts().items()}
        parts |= {name: optimizer.state() for name, optimizer in self.optimizers().items()}
        parts["noise"] = self._noise.state()
        if self._spread:
            parts["spread"] = self._spread.state()
        if self._bound:
            parts["reward_bound"] = self._bound.state_dict()
        if self._replay:
            parts["replay"] = self._replay.state()
        if self._priorities:
            parts["priorities"] = self._priorities.state()
        return parts

    def _counts(self) -> Tensor:
        return torch.tensor([self._steps_done, self.updates_done, self._owed], dtype=torch.float64)

    def _remember(self, worlds: int) -> Replay:
        p, widths = self.params, (len(self.norm.mean), self.action_size)
        sizes = p.replay // self.group.size, worlds, *widths
        if p.hindsight:
            assert self._goals is not None, "hindsight is for tasks with goals"
            return HindsightReplay(*sizes, self.generator, p.hindsight, self._goals)
        memory = Replay(*sizes, self.generator)
        if p.priority:
            exponents = p.priority, p.importance
            self._priorities = Priorities(memory.rows, worlds, p.n_step, *exponents, self.generator)
        return memory

    @torch.no_grad()
    def _step(self, env: VectorEnv) -> None:
        """One step of every world, remembered, its observations merged into the statistics."""
        self._replay = self._replay or self._remember(env.num)
        observed = torch.cat((env.observation, env.privileged), dim=-1)
        self.norm.update(observed, *self._identity, self.group)
        self.actor_norm.copy_from(self.norm)
        unit = self._unit_action(self.norm(observed)[:, : self.observation_size])
        stepped = env.step(self.span(unit))
        self._replay.add(observed, unit, stepped, torch.cat((env.observation, env.privileged), dim=-1))
        if self._priorities:
            self._priorities.added(self._replay.added)
        if self._bound:
            self._bound.update(stepped.reward, stepped.terminated | stepped.truncated, self.group)
        self._steps_done += env.num * self.group.size

    def _unit_action(self, x: Tensor) -> Tensor:
        if self._steps_done < self.params.start:
            shape, device = (len(x), self.action_size), self.generator.device
            return 2 * torch.rand(shape, generator=self.generator, device=device) - 1
        noise = self._noise.draw(len(x), self.action_size)
        if self._spread is None:
            return self.explore(x, noise)
        return self._spread.replaced(self.explore(x, self._spread.scaled(noise)))

    def _due(self, steps: int) -> int:
        """Whole updates that so many environment steps have earned by now."""
        assert self._replay is not None, "a step comes first"
        if self._steps_done < self.params.start or not self._all_ready(self._replay):
            return 0
        self._owed += steps * self.params.updates_per_step
        due = int(self._owed)
        self._owed -= due
        return due

    def _all_ready(self, replay: Replay) -> bool:
        """Whether every process can sample, so that all update: they wait for each other then."""
        if not self._ready:
            missing = torch.tensor(float(not replay.ready(self.params.n_step)), device=self.norm.mean.device)
            self._ready = not bool(self.group.max_(missing))
        return self._ready


def means(rows: list[dict[str, Tensor]]) -> dict[str, float]:
    """Mean of each figure, read from the device at once."""
    if not rows:
        return {}
    table = torch.stack([torch.stack([row[name] for name in rows[0]]) for row in rows]).mean(0)
    return dict(zip(rows[0], table.tolist(), strict=True))
