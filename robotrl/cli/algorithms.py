"""What every run's TOML says about learning, and the table of algorithms that it can name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import torch
from torch import Tensor

from robotrl.errors import ConfigError
from robotrl.learn.a2c import A2c, A2cParams
from robotrl.learn.checkpoint import Progress
from robotrl.learn.collect import OnPolicy
from robotrl.learn.ddpg import Ddpg, DdpgParams
from robotrl.learn.group import Group
from robotrl.learn.hindsight import Goals
from robotrl.learn.loop import Learner
from robotrl.learn.networks import Reflection
from robotrl.learn.npg import Npg, NpgParams
from robotrl.learn.off_policy import OffPolicy, OffPolicyParams
from robotrl.learn.ppo import Ppo, PpoParams
from robotrl.learn.sac import Sac, SacParams
from robotrl.learn.td3 import Td3, Td3Params
from robotrl.learn.trpo import Trpo, TrpoParams
from robotrl.learn.vpg import Vpg, VpgParams
from robotrl.spec.records import Between

MAX_SEED = 10**15
"""Each process of a run has seeds of its own, near a thousand times the run's, and PyTorch's have 64 bits."""
EVALUATION = "eval/"
"""Prefix of the deterministic policy's figures in a run's metrics."""


@dataclass(frozen=True)
class Budget:
    """How long to train; of both, exactly one is not zero."""

    seconds: float
    """Wall clock."""
    steps: int
    """Environment steps."""

    def share(self, progress: Progress) -> float:
        """How much of it is used up; 1 or more is all."""
        return progress.seconds / self.seconds if self.seconds else progress.steps / self.steps


@dataclass(frozen=True)
class Target:
    """The `[target]` table: training stops early once an evaluation is as good as this."""

    figure: str
    """Of the evaluation, as `robotrl eval` calls it."""
    at_least: float | None = None
    """Good are this and more; this or `at_most`."""
    at_most: float | None = None

    def reached(self, figures: Mapping[str, float]) -> bool:
        """Whether an iteration was evaluated and is good enough."""
        value = figures.get(EVALUATION + self.figure)
        if value is None:
            return False
        return value <= self.at_most if self.at_least is None else value >= self.at_least  # type: ignore[operator]


@dataclass(frozen=True)
class Init:
    """The `[init]` table: start from a trained run or policy instead of from nothing."""

    run: str
    """The run's folder, or a policy file or shipped policy, which has no critic."""
    freeze: tuple[str, ...] = ()
    """Parts of the learner that stay as they are: the starts of its tensors' dotted names."""
    lr_scale: dict[str, Annotated[float, Between(0)]] | None = None
    """Factors on the learning rate of parts, named in the same way."""


@dataclass(frozen=True, kw_only=True)
class LearnParams:
    """What every run's TOML says about learning; of the tables, the algorithm's own must be there."""

    algorithm: str
    seed: Annotated[int, Between(0, MAX_SEED)]
    seconds: Annotated[float, Between(0.1)] = 0.0
    """Wall clock to train for; this or `steps`."""
    steps: Annotated[int, Between(1)] = 0
    """Environment steps to train for; only such a run can be repeated bit for bit."""
    evaluate_every: Annotated[int, Between(0)] = 0
    """Environment steps between evaluations of the deterministic policy; 0 is never."""
    checkpoint_every: Annotated[int, Between(0)] = 0
    """Environment steps between checkpoints; 0 saves one every 30 seconds."""
    target: Target | None = None
    init: Init | None = None
    ppo: PpoParams | None = None
    trpo: TrpoParams | None = None
    npg: NpgParams | None = None
    a2c: A2cParams | None = None
    vpg: VpgParams | None = None
    sac: SacParams | None = None
    td3: Td3Params | None = None
    ddpg: DdpgParams | None = None

    @property
    def budget(self) -> Budget:
        """How long to train."""
        return Budget(self.seconds, self.steps)

    @property
    def algorithm_params(self) -> Any:  # noqa: ANN401 - the record of whichever algorithm
        """The algorithm's own table."""
        return getattr(self, self.algorithm)

    def check(
        self, worlds: int, processes: int, file: Path, goal_steps: int = 0, sparse: bool = True
    ) -> None:
        """Refuse what cannot go together.

        Args:
            worlds: of all processes together.
            processes: that train together.
            file: where it stands.
            goal_steps: length of an episode of a task with goals; 0 if the task has none.
            sparse: whether rewards are -1 or 0.

        Raises:
            ConfigError: an unknown algorithm, its table is missing or one of another is there, not
                exactly one budget, an impossible target, or whatever the algorithm refuses.
        """
        self._check_tables(file)
        if bool(self.seconds) == bool(self.steps):
            given = "both" if self.seconds else "neither"
            raise ConfigError(
                f"{given} of seconds and steps is given",
                file=file,
                key="seconds",
                allowed="exactly one of both",
            )
        if self.target:
            self._check_target(self.target, file)
        ALGORITHMS[self.algorithm].check(self.algorithm_params, worlds, processes, file)
        self._check_hindsight(worlds, goal_steps, sparse, file)

    def _check_tables(self, file: Path) -> None:
        if self.algorithm not in ALGORITHMS:
            raise ConfigError(
                "is not one of the choices",
                file=file,
                key="algorithm",
                value=self.algorithm,
                allowed=ALGORITHMS,
            )
        for name in ALGORITHMS:
            present = getattr(self, name) is not None
            if name == self.algorithm and not present:
                raise ConfigError("is missing", file=file, key=name, allowed="a table")
            if name != self.algorithm and present:
                raise ConfigError(
                    "is not the table of this algorithm", file=file, key=name, allowed=self.algorithm
                )

    def _check_hindsight(self, worlds: int, goal_steps: int, sparse: bool, file: Path) -> None:
        params = self.algorithm_params
        if not isinstance(params, OffPolicyParams) or params.hindsight is None:
            return
        if not goal_steps:
            raise ConfigError(
                "the task has no goals",
                file=file,
                key=f"{self.algorithm}.hindsight",
                allowed="a task of Gymnasium-Robotics",
            )
        if params.hindsight.clip_targets and not sparse:
            raise ConfigError(
                "bounds returns of rewards that are -1 or 0, and those of this task are others",
                file=file,
                key=f"{self.algorithm}.hindsight.clip_targets",
                value=True,
                allowed="false",
            )
        if params.replay < 2 * goal_steps * worlds:
            raise ConfigError(
                "does not hold two episodes of every world, which hindsight draws from",
                file=file,
                key=f"{self.algorithm}.replay",
                value=params.replay,
                allowed=f"{2 * goal_steps * worlds} or more",
            )

    def _check_target(self, target: Target, file: Path) -> None:
        if (target.at_least is None) == (target.at_most is None):
            raise ConfigError(
                "needs a bound", file=file, key="target", allowed="exactly one of at_least and at_most"
            )
        if not self.evaluate_every:
            raise ConfigError(
                "needs evaluations", file=file, key="target", allowed="a run with evaluate_every above 0"
            )


@dataclass(frozen=True)
class Spaces:
    """What an environment's vectors look like: their sizes, and how the task's reflection moves them."""

    observation: Reflection
    privileged: Reflection
    action: Reflection
    action_low: Tensor
    """(n,) smallest action that makes sense."""
    action_high: Tensor
    """(n,) largest one."""
    goals: Goals | None = None
    """Where observations hold goals, and what judges them; None where there are none."""


@dataclass(frozen=True)
class Algorithm:
    """How a run's algorithm is checked and built."""

    check: Callable[[Any, int, int, Path], None]
    """(its table, worlds, processes, file) -> nothing, or raises `ConfigError`."""
    build: Callable[[Any, Spaces, Group], Learner]
    """(its table, spaces, group) -> an untrained learner on torch's default device."""


def _on_policy(kind: type[OnPolicy]) -> Algorithm:
    def build(params: Any, spaces: Spaces, group: Group) -> Learner:  # noqa: ANN401
        return kind(params, spaces.observation, spaces.privileged, spaces.action, group)

    return Algorithm(lambda params, worlds, _processes, file: params.check(worlds, file), build)


def _off_policy(name: str, kind: type[OffPolicy]) -> Algorithm:
    def build(params: Any, spaces: Spaces, group: Group) -> Learner:  # noqa: ANN401
        widths = len(spaces.observation.source), len(spaces.privileged.source)
        ends = spaces.action_low.tolist(), spaces.action_high.tolist()
        return kind(params, *widths, *ends, group, goals=spaces.goals)

    def check(params: OffPolicyParams, worlds: int, processes: int, file: Path) -> None:
        params.check(name, worlds, processes, file)

    return Algorithm(check, build)


ALGORITHMS: Mapping[str, Algorithm] = MappingProxyType(
    {
        "ppo": _on_policy(Ppo),
        "trpo": _on_policy(Trpo),
        "npg": _on_policy(Npg),
        "a2c": _on_policy(A2c),
        "vpg": _on_policy(Vpg),
        "sac": _off_policy("sac", Sac),
        "td3": _off_policy("td3", Td3),
        "ddpg": _off_policy("ddpg", Ddpg),
    }
)
"""Every algorithm by the name of its table, a field of `LearnParams`."""


def build_learner(config: LearnParams, spaces: Spaces, group: Group | None, device: str) -> Learner:
    """Build the untrained learner that a run's TOML says; torch's seed decides its weights."""
    with torch.device(device):
        return ALGORITHMS[config.algorithm].build(config.algorithm_params, spaces, group or Group())
