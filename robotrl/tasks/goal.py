"""A goal task: bring what an action moves, the achieved goal, to a desired goal drawn for the episode.

This is the form of the Gymnasium-Robotics tasks. As with `robotrl.tasks.task`, everything is batched
torch over a `WorldView`; B is the number of worlds, g the size of a goal. Reward and success are
functions of the two goals alone, so that hindsight can judge any step by any goal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from robotrl.errors import BadInputError
from robotrl.spec.mocap import MocapSettling
from robotrl.tasks.task import PolicyInterface, WorldView

Judge = Callable[[Tensor, Tensor], Tensor]
"""(achieved (..., g), desired (..., g)) -> (...)."""


@dataclass(frozen=True)
class Site:
    """A named point of the model.

    Attributes:
        index: among the sites.
        root: index of the topmost body of its kinematic tree.
        dofs: degrees of freedom that move it.
        start_m: world position in `GoalFacts.qpos`.
    """

    index: int
    root: int
    dofs: tuple[int, ...]
    start_m: tuple[float, ...]


@dataclass(frozen=True)
class GoalFacts:
    """What the rules of a goal task may know of the prepared model.

    Attributes:
        period_s: one control step.
        qpos: generalised positions (nq) in which the model was prepared.
        qvel: generalised velocities (nv) there.
        joint_qpos: first position address of each joint by its name.
        joint_dof: first degree of freedom of each joint by its name.
        body: index of each body by its name.
        body_start_m: world position of each body in `qpos` by its name.
        site: each site by its name.
        sensor: address of each sensor's first number by its name.
        actuators: names of the actuators (nu).
        control_low: smallest control of each actuator (nu).
        control_high: largest control of each actuator (nu).
        dtype: of the worlds' tensors.
    """

    period_s: float
    qpos: tuple[float, ...]
    qvel: tuple[float, ...]
    joint_qpos: Mapping[str, int]
    joint_dof: Mapping[str, int]
    body: Mapping[str, int]
    body_start_m: Mapping[str, tuple[float, ...]]
    site: Mapping[str, Site]
    sensor: Mapping[str, int]
    actuators: tuple[str, ...]
    control_low: tuple[float, ...]
    control_high: tuple[float, ...]
    dtype: torch.dtype


@dataclass(frozen=True)
class Command:
    """What an action asks of the worlds for one control step.

    Attributes:
        control: of the actuators (B, nu).
        mocap: positions (B, nmocap, 3) m and quaternions wxyz (B, nmocap, 4), which need not be
            normalised, of the bodies that are moved from outside; None where there are none.
    """

    control: Tensor
    mocap: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class Trial:
    """What a drawn start state must pass, or another one is drawn.

    Attributes:
        steps: actions of zero, after which the episode begins.
        passed: view after them -> (B,) bool.
    """

    steps: int
    passed: Callable[[WorldView], Tensor]


@dataclass(frozen=True)
class GoalRules:
    """A goal task's functions for one model; their constants lie on the device they were built under.

    Attributes:
        observe: view -> observation (B, obs), achieved goal (B, g).
        command: (view before the step, action (B, n) float32 within +-1) -> what it asks for.
        start: (count, generator) -> qpos (count, nq), qvel (count, nv) of new episodes.
        draw_goal: (view after the start, worlds (k,), generator) -> desired goals (k, g).
        trial: of start states; None: every one counts.
    """

    observe: Callable[[WorldView], tuple[Tensor, Tensor]]
    command: Callable[[WorldView, Tensor], Command]
    start: Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
    draw_goal: Callable[[WorldView, Tensor, torch.Generator], Tensor]
    trial: Trial | None = None


@dataclass(frozen=True)
class Deployment:
    """How policies of a goal task drive a robot; the functions are built as `GoalTask.rules` are.

    Attributes:
        robot: name of the shipped robot.
        channels: what the robot's sensors would say: view -> channels (B, ...), without the goal.
        policy: what a policy reads and moves there. It observes what `GoalRules.observe` makes of the same
            worlds, in a row as `goal_row` builds it.
    """

    robot: str
    channels: Callable[[GoalFacts], Callable[[WorldView], dict[str, Tensor]]]
    policy: Callable[[GoalFacts], PolicyInterface]


def goal_row(observation: Tensor, achieved: Tensor, desired: Tensor) -> Tensor:
    """Return what a policy of a goal task observes: (B, obs), (B, g), (B, g) -> (B, obs + 2 g)."""
    return torch.cat((observation, achieved, desired), dim=-1)


@dataclass(frozen=True)
class GoalTask:
    """Everything that defines a goal task; actions are `action_size` numbers within +-1.

    Attributes:
        name: as Gymnasium calls it.
        model_file: MJCF.
        substeps: physics steps per action.
        episode_steps: actions until the time-out, the only end of an episode.
        action_size: n.
        goal_size: g.
        initial_qpos: joint positions in which the model is prepared, the others as the model has them.
        settling: moves the robot from there to where episodes start; None: they start there.
        pinned: joints that are put to 0 after each step. Where there are any, what is derived from
            positions and velocities is current after a step; else it stays as the step's last
            substep found it, and velocities are one substep newer.
        reward: of goals, without a look at their shape.
        success: of goals, bool, likewise.
        rules: builds the functions for the prepared model.
        deployment: on a robot; None where there is none.
        axes: names of an action's numbers where these are not the model's actuators.
    """

    name: str
    model_file: Path
    substeps: int
    episode_steps: int
    action_size: int
    goal_size: int
    initial_qpos: Mapping[str, tuple[float, ...]]
    settling: MocapSettling | None
    pinned: tuple[str, ...]
    reward: Judge
    success: Judge
    rules: Callable[[GoalFacts], GoalRules]
    deployment: Deployment | None = None
    axes: tuple[str, ...] = ()

    @property
    def sparse(self) -> bool:
        """Whether rewards are -1 or 0, and nothing else; Gymnasium names the others so."""
        return "Dense" not in self.name

    def compute_reward(self, achieved: Tensor, desired: Tensor) -> Tensor:
        """Reward (...) of goals (..., g) over any leading shape.

        Raises:
            BadInputError: a goal has the wrong shape, or the two differ in theirs.
        """
        self.check_goals(achieved, desired)
        return self.reward(achieved, desired)

    def is_success(self, achieved: Tensor, desired: Tensor) -> Tensor:
        """Whether goals (..., g) count as achieved: (...) bool.

        Raises:
            BadInputError: as `compute_reward`.
        """
        self.check_goals(achieved, desired)
        return self.success(achieved, desired)

    def check_goals(self, achieved: Tensor, desired: Tensor) -> None:
        """Refuse goals of the wrong shape.

        Raises:
            BadInputError: the last dimension is not g, or the shapes differ.
        """
        for key, goal in (("achieved_goal", achieved), ("desired_goal", desired)):
            if goal.shape[-1:] != (self.goal_size,):
                wanted = f"(..., {self.goal_size})"
                raise BadInputError(
                    f"is no goal of {self.name}", key=key, value=tuple(goal.shape), allowed=wanted
                )
        if achieved.shape != desired.shape:
            allowed = str(tuple(achieved.shape))
            raise BadInputError(
                "is not shaped like achieved_goal",
                key="desired_goal",
                value=tuple(desired.shape),
                allowed=allowed,
            )


@dataclass(frozen=True)
class Near:
    """Goals that are achieved within a distance, as those of FetchPush and HandReach."""

    limit_m: float

    def reached(self, achieved: Tensor, desired: Tensor) -> Tensor:
        """Whether goals (..., g) are achieved: (...) bool."""
        return _distance_m(achieved, desired) < self.limit_m

    def sparse(self, achieved: Tensor, desired: Tensor) -> Tensor:
        """Reward (...): -1 farther away, 0 otherwise."""
        return -(_distance_m(achieved, desired) > self.limit_m).to(achieved.dtype)

    def dense(self, achieved: Tensor, desired: Tensor) -> Tensor:
        """Reward (...): minus the distance."""
        return -_distance_m(achieved, desired)

    @property
    def judges(self) -> tuple[tuple[str, Judge], ...]:
        """Both rewards, each with what it adds to a task's name."""
        return ("", self.sparse), ("Dense", self.dense)


def _distance_m(achieved: Tensor, desired: Tensor) -> Tensor:
    distance: Tensor = torch.linalg.vector_norm(achieved - desired, dim=-1)
    return distance


def velocity_of(sites: Sequence[Site], model: GoalFacts) -> Callable[[WorldView], tuple[Tensor, Tensor]]:
    """View -> linear (B, s, 3) m/s and angular (B, s, 3) rad/s velocities of s sites in the world frame.

    The sites' Jacobians times the velocities (MuJoCo, `mj_jacSite`), without forming the Jacobians:
    motion of the dofs about the tree's centre of mass (`cdof`), moved to the sites. Where the derived
    values are one substep old, so is the Jacobian, and the velocities are those of now.
    """
    index, root = (torch.tensor([getattr(site, name) for site in sites]) for name in ("index", "root"))
    moves = torch.zeros((len(sites), len(model.qvel)), dtype=model.dtype)
    for row, site in zip(moves, sites, strict=True):
        row[list(site.dofs)] = 1.0

    def velocity(view: WorldView) -> tuple[Tensor, Tensor]:
        motion = (moves * view.qvel[:, None]) @ view.data("cdof")
        angular, linear = motion[..., :3], motion[..., 3:]
        arm = view.data("site_xpos")[:, index] - view.data("subtree_com")[:, root]
        return linear + torch.linalg.cross(angular, arm), angular

    return velocity


def euler_angles(matrix: Tensor) -> Tensor:
    """Euler angles (..., 3) rad of rotation matrices (..., 9), as the Gymnasium-Robotics tasks observe them.

    Source: `gymnasium_robotics.utils.rotations.mat2euler`.
    """
    xx, xy, xz, yx, yy, yz, _, _, zz = matrix.unbind(-1)
    cos_y = torch.sqrt(zz.square() + yz.square())
    regular = cos_y > 4 * torch.finfo(torch.float64).eps
    x = torch.where(regular, -torch.atan2(yz, zz), 0.0)
    y = -torch.atan2(-xz, cos_y)
    z = torch.where(regular, -torch.atan2(xy, xx), -torch.atan2(-yx, yy))
    return torch.stack((x, y, z), dim=-1)


def uniform(
    size: tuple[int, ...], low: float, high: float, generator: torch.Generator, dtype: torch.dtype
) -> Tensor:
    """Draw from [low, high)."""
    draw = torch.rand(size, generator=generator, device=generator.device, dtype=dtype)
    return draw.mul_(high - low).add_(low)
