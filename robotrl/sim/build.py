"""Puts the parts of a run's TOML together: backend, randomisation, sensing and task become an environment."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import mujoco
import torch

from robotrl.errors import ConfigError
from robotrl.sim.curriculum import Curriculum
from robotrl.sim.env import Env
from robotrl.sim.model import position_spec, read_supply
from robotrl.sim.native import NativeWorlds
from robotrl.sim.quarantine import Quarantine
from robotrl.sim.randomize import RandomizeParams, Randomizer, check_battery, nominal_params
from robotrl.sim.sensing import EXACT, Sensing, SensingParams
from robotrl.sim.terrain_model import add_terrain
from robotrl.sim.worlds import Worlds
from robotrl.spec.records import Between, parse_toml, read_record, read_text
from robotrl.spec.robot import RobotSpec, load_robot
from robotrl.spec.shipped import find_shipped
from robotrl.tasks.task import Task
from robotrl.tasks.terrain import Terrain, TerrainParams
from robotrl.tasks.velocity import VelocityParams, VelocityStep, velocity_task

Backend = Literal["native", "warp"]
WHOLE = 1e-4
"""Share of a control period that its physics steps may be off together, as written decimals are rounded."""


@dataclass(frozen=True, kw_only=True)
class WorldsParams:
    """What the `[sim]` table of every run says."""

    worlds: Annotated[int, Between(1)]
    """Over all processes together."""
    processes: Annotated[int, Between(1, 256)]
    """Each steps its share of the worlds on `threads` threads and averages gradients with the others."""
    threads: Annotated[int, Between(1, 256)] = 1
    """Of the physics in each process; results do not depend on it."""
    backend: Backend = "native"
    """CPU threads, or MuJoCo Warp."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where worlds and learner live; native is always on the CPU."""
    deterministic: bool = False
    """Make warp reproducible bit by bit, at some cost in speed; native always is."""

    def check(self, file: Path) -> None:
        """Refuse what cannot go together.

        Raises:
            ConfigError: native worlds on a GPU, warp in several processes or threads, or worlds that
                do not divide among the processes.
        """
        if self.backend == "native" and self.device != "cpu":
            raise ConfigError(
                "native worlds live on the CPU", file=file, key="sim.device", value=self.device, allowed="cpu"
            )
        if self.backend == "warp" and self.processes > 1:
            raise ConfigError(
                "warp runs in one process", file=file, key="sim.processes", value=self.processes, allowed="1"
            )
        if self.backend == "warp" and self.threads > 1:
            raise ConfigError(
                "warp has no threads", file=file, key="sim.threads", value=self.threads, allowed="1"
            )
        if self.worlds < self.processes:
            allowed = f"1 to {self.worlds}, the number of worlds"
            raise ConfigError(
                "is too many", file=file, key="sim.processes", value=self.processes, allowed=allowed
            )
        if self.worlds % self.processes:
            raise ConfigError(
                "does not divide among the processes",
                file=file,
                key="sim.worlds",
                value=self.worlds,
                allowed=f"a multiple of {self.processes}",
            )

    def check_machine(self, file: Path) -> None:
        """Refuse what this machine lacks, which matters to training but not to a run trained elsewhere.

        Raises:
            ConfigError: a GPU is asked for where there is none.
        """
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("is not here", file=file, key="sim.device", value=self.device, allowed="cpu")


@dataclass(frozen=True, kw_only=True)
class SimParams(WorldsParams):
    """The `[sim]` table of a run of a robot."""

    timestep_s: Annotated[float, Between(1e-4, 0.05)]
    """Of the physics: the robot's control period, or a whole fraction of it."""


@dataclass(frozen=True, kw_only=True)
class SceneParams:
    """What a run's TOML says about robot, task and simulation."""

    robot: str
    task: Literal["velocity"]
    sim: SimParams
    velocity: VelocityParams
    sensing: SensingParams
    randomize: RandomizeParams
    terrain: TerrainParams | None = None
    """Without this table the ground is flat."""


@dataclass(frozen=True)
class Scene:
    """A robot and its task with everything needed to simulate them."""

    params: SceneParams
    robot: RobotSpec
    task: Task[VelocityStep]
    """On the CPU."""

    def env(
        self, worlds: int, seed: int, threads: int, quarantine: Quarantine | None = None
    ) -> Env[VelocityStep]:
        """Build randomised training worlds on the backend of `[sim]`."""
        p = self.params
        simulated = build_worlds(_model(self.robot, p, p.sim.timestep_s), worlds, threads, p.sim)
        return self._join(simulated, p.randomize, p.sensing, seed, quarantine)

    def evaluation_env(
        self, worlds: int, seed: int, threads: int, timestep_s: float, randomized: bool
    ) -> Env[VelocityStep]:
        """Build CPU worlds with the full physics, of randomised or of nominal robots with exact sensors.

        Their physics step is the largest whole fraction of the control period that is not above `timestep_s`.
        On a terrain they are spread over all its tiles and stay there.
        """
        period_s = 1.0 / self.robot.control.rate_hz
        own_s = period_s / math.ceil(period_s / timestep_s * (1.0 - WHOLE))
        simulated = NativeWorlds(_model(self.robot, self.params, own_s), worlds, threads)
        if randomized:
            p = self.params
            return self._join(simulated, p.randomize, p.sensing, seed, fixed_tiles=True)
        return self._join(simulated, nominal_params(simulated.model), EXACT, seed, fixed_tiles=True)

    def _join(
        self,
        worlds: Worlds,
        ranges: RandomizeParams,
        sensing: SensingParams,
        seed: int,
        quarantine: Quarantine | None = None,
        fixed_tiles: bool = False,
    ) -> Env[VelocityStep]:
        with torch.device(worlds.device):
            terrain = _terrain(self.params)
            task = _task(self.robot, self.params.velocity, worlds.model, terrain)
        curriculum = Curriculum(terrain, worlds.num, worlds.device, fixed_tiles) if terrain else None
        randomizer = Randomizer(worlds, ranges)
        return Env(
            task,
            worlds,
            randomizer,
            Sensing(self.robot, sensing, worlds.num, worlds.device, randomizer.vertical),
            self.robot.control.rate_hz,
            seed,
            curriculum=curriculum,
            quarantine=quarantine,
        )


def build_scene(params: SceneParams, file: Path) -> Scene:
    """Load the robot that the parameters name and build its task; `file` is where they came from.

    Raises:
        ConfigError: the robot is not one for this task, or an impossible combination.
        BadInputError: no such robot.
    """
    params.sim.check(file)
    robot = load_robot(find_shipped("hardware", params.robot, file=file, key="robot"))
    _check_timestep(params.sim.timestep_s, 1.0 / robot.control.rate_hz, file)
    terrain = _terrain(params, file)
    model = _model(robot, params, params.sim.timestep_s)
    check_battery(params.randomize, read_supply(model), file)
    return Scene(params, robot, _task(robot, params.velocity, model, terrain, file))


def read_scene(file: Path) -> Scene:
    """Read the scene out of a run's TOML, whatever the TOML says about learning.

    Raises:
        ConfigError: anything of the scene is unknown, missing, ill-typed, out of range or impossible.
        BadInputError: no such robot.
    """
    table: dict[str, Any] = parse_toml(read_text(file), file)
    scene = {name: value for name, value in table.items() if name in SceneParams.__dataclass_fields__}
    return build_scene(read_record(SceneParams, scene, file=file), file)


def build_worlds(model: mujoco.MjModel, num: int, threads: int, params: WorldsParams) -> Worlds:
    """Build worlds on the backend that a `[sim]` table names; warp has no use for `threads`."""
    if params.backend == "native":
        return NativeWorlds(model, num, threads)
    from robotrl.sim.warp import WarpWorlds

    return WarpWorlds(model, num, device=params.device, deterministic=params.deterministic)


def _check_timestep(timestep_s: float, period_s: float, file: Path) -> None:
    """Refuse physics steps that do not make up a control period."""
    steps = round(period_s / timestep_s)
    if steps < 1 or abs(steps * timestep_s - period_s) > WHOLE * period_s:
        raise ConfigError(
            "does not divide the control period of the robot",
            file=file,
            key="sim.timestep_s",
            value=timestep_s,
            allowed=f"{period_s:.6g}, or a whole fraction of it",
        )


def _terrain(params: SceneParams, file: Path | None = None) -> Terrain | None:
    return Terrain(params.terrain, file) if params.terrain else None


def _model(robot: RobotSpec, params: SceneParams, timestep_s: float) -> mujoco.MjModel:
    """The robot on the ground that the parameters say."""
    spec, terrain = position_spec(robot, timestep_s), _terrain(params)
    if terrain:
        add_terrain(spec, terrain)
    return spec.compile()


def _task(
    robot: RobotSpec,
    params: VelocityParams,
    model: mujoco.MjModel,
    terrain: Terrain | None,
    file: Path | None = None,
) -> Task[VelocityStep]:
    return velocity_task(robot, params, float(model.geom("FL_foot").size[0]), terrain, file)
