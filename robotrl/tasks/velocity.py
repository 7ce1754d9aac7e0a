"""Velocity-commanded walking for a legged robot whose legs each end in one foot.

The policy reads only what the robot measures: gravity and turn rate from the IMU, joint positions
and velocities, the command, its own last action and a gait clock that it carries itself. The
clock gives each foot its swing and stance (a trot: diagonal feet together), which also breaks the
mirror symmetry that would let an exactly symmetric policy stand still for ever.

Reward terms follow the legged-gym family (Rudin et al. 2022, "Learning to Walk in Minutes") with
clocked feet after Siekmann et al. 2021 ("Sim-to-Real Learning of All Common Bipedal Gaits").

On a terrain, heights are above the ground below, and the critic sees the ground around the robot; the
actor stays blind, so that a policy needs no more than the robot has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor

from robotrl.errors import ConfigError
from robotrl.spec.records import Between
from robotrl.spec.robot import RobotSpec
from robotrl.tasks.task import (
    MemorySpec,
    Mirror,
    PolicyInterface,
    RewardTerm,
    Symmetry,
    Task,
    Value,
    WorldView,
)
from robotrl.tasks.terrain import Terrain

Positive = Annotated[float, Between(1e-9)]

LEGS = ("FL", "FR", "RL", "RR")
JOINTS_PER_LEG = 3
PHASE_OFFSET = (0.0, 0.5, 0.5, 0.0)
"""Cycles by which each leg's clock is ahead: diagonal legs together."""
FOOT_SENSORS = tuple(f"{leg}_foot_{what}" for what in ("pos", "vel") for leg in LEGS)
TOUCH_SENSORS = (*(f"{leg}_{part}_touch" for part in ("foot", "knee") for leg in LEGS), "trunk_touch")
DOWN = (0.0, 0.0, -1.0)
"""Direction of gravity in the world."""
CHANNELS = ("joint_pos", "joint_vel", "imu_quat", "imu_gyro", "velocity_command")
SCAN_X_M, SCAN_Y_M = (-0.2, -0.1, 0.0, 0.1, 0.2), (-0.12, 0.0, 0.12)
"""Where the critic sees the ground: ahead and to the left of the base. Left and right must be alike."""


@dataclass(frozen=True)
class VelocityParams:
    """The `[velocity]` table of a run."""

    episode_s: Positive
    command_vx_m_s: Positive
    """Commands are uniform within +- this."""
    command_vy_m_s: Positive
    command_wz_rad_s: Positive
    command_every_s: tuple[float, float]
    stand_share: Annotated[float, Between(0, 1)]
    """Share of commands that are exactly zero."""
    turn_share: Annotated[float, Between(0, 1)]
    """Share of commands that only turn."""
    moving_threshold: Positive
    """Command norm (m/s, m/s, rad/s) above which the gait clock runs."""
    gait_hz: Positive
    swing_height_m: Positive
    height_m: Positive
    """Trunk height to keep."""
    action_scale_rad: Positive
    torque_share: Annotated[float, Between(0.1, 1)]
    """Targets stay within this share of the gate's torque bound, so that the gate has nothing to do."""
    velocity_width: tuple[Positive, Positive]
    """Widths of the linear tracking reward in x and y, (m/s)^2."""
    turn_width: Positive
    """Width of the turning reward, (rad/s)^2."""
    reward_floor: float
    failure_reward: float
    reward: dict[str, float]
    """Weight of every reward term by name."""


@dataclass(frozen=True)
class VelocityStep:
    """One control step of B worlds. Body frame unless said otherwise."""

    command: Tensor
    """(B, 3) m/s, m/s, rad/s."""
    moving: Tensor
    """(B,) 1 where the command asks to move."""
    height_m: Tensor
    """(B,) of the base above the ground below it."""
    lin_vel: Tensor
    """(B, 3) m/s."""
    gyro: Tensor
    """(B, 3) rad/s."""
    gravity: Tensor
    """(B, 3) unit vector."""
    joint_offset: Tensor
    """(B, n) rad from the default posture."""
    joint_vel: Tensor
    torque: Tensor
    """(B, n) N m of the motors, back-EMF included."""
    action: Tensor
    last_action: Tensor
    foot_height: Tensor
    """(B, 4) m, of the foot's lowest point above the ground below the foot's centre."""
    foot_speed: Tensor
    """(B, 4) m/s, horizontal."""
    foot_contact: Tensor
    """(B, 4) 1 in contact."""
    knee_contact: Tensor
    """(B, 4) 1 in contact."""
    trunk_contact: Tensor
    """(B,) 1 in contact."""
    swing: Tensor
    """(B, 4) sine of the leg's clock where it should swing, else 0."""
    stance: Tensor
    """(B, 4) 1 where the leg's clock asks for ground contact."""
    scan: Tensor
    """(B, s) m, ground at the points of the scan above the ground below the base; s is 0 without terrain."""


def rotate_into_body(quat: Tensor, vector: Tensor) -> Tensor:
    """World vectors (..., 3) expressed in body frames with wxyz quaternions world <- body (..., 4)."""
    w, xyz = quat[..., :1], quat[..., 1:]
    twice_cross = 2 * torch.linalg.cross(vector, xyz)
    return torch.addcmul(vector, w, twice_cross).add(torch.linalg.cross(twice_cross, xyz))


def heading(quat: Tensor) -> Tensor:
    """Horizontal unit vector (B, 2), world frame, along which bodies with quaternions (B, 4) wxyz point."""
    w, x, y, z = quat.unbind(-1)
    ahead = torch.stack((1 - 2 * (y * y + z * z), 2 * (x * y + w * z)), dim=-1)
    return torch.nn.functional.normalize(ahead, dim=-1)


def scan_points(qpos: Tensor, scan: Tensor) -> Tensor:
    """World points (B, s, 2) m of offsets (s, 2) m ahead and to the left of bases (B, nq)."""
    ahead = heading(qpos[:, 3:7])
    axes = torch.stack((ahead, torch.stack((-ahead[:, 1], ahead[:, 0]), dim=-1)), dim=1)
    return qpos[:, None, :2] + scan.to(qpos.dtype) @ axes


def velocity_task(
    robot: RobotSpec,
    params: VelocityParams,
    foot_radius_m: float,
    terrain: Terrain | None = None,
    file: Path | None = None,
) -> Task[VelocityStep]:
    """Build the task for a robot whose joints are abduction, hip, knee of FL, FR, RL, RR.

    Args:
        robot: the robot.
        params: the run's `[velocity]` table.
        foot_radius_m: radius of the spherical feet.
        terrain: what the robot walks on; None is flat ground at height 0.
        file: where the table stands, for the error.

    Raises:
        ConfigError: the robot has other legs, or `reward` does not name every term.
    """
    terms = reward_terms(params)
    _check_task(robot, params, terms, file)
    default = torch.tensor(robot.default_rad, dtype=torch.float32)
    return Task(
        name="velocity",
        policy=policy_interface(robot, params),
        episode_s=params.episode_s,
        command_low=(-params.command_vx_m_s, -params.command_vy_m_s, -params.command_wz_rad_s),
        command_high=(params.command_vx_m_s, params.command_vy_m_s, params.command_wz_rad_s),
        command_every_s=params.command_every_s,
        sample_command=lambda count, generator: sample_command(params, count, generator),
        initial_memory=lambda count, generator: {
            "last_action": torch.zeros((count, len(robot.joint)), device=generator.device),
            "gait_phase": torch.rand((count, 1), generator=generator, device=generator.device),
        },
        reset=lambda count, generator: reset_pose(default, params.height_m, count, generator),
        measure=measurement(robot, params, foot_radius_m, terrain),
        privileged=privileged,
        rewards=terms,
        reward_floor=params.reward_floor,
        failure_reward=params.failure_reward,
        failed=has_failed,
        metrics=metrics,
        symmetry=symmetry(scanned=terrain is not None),
    )


def _check_task(
    robot: RobotSpec, params: VelocityParams, terms: Mapping[str, object], file: Path | None
) -> None:
    expected = tuple(f"{leg}_{joint}" for leg in LEGS for joint in ("abduction", "hip", "knee"))
    if robot.joint_names != expected:
        raise ConfigError(
            "velocity walking needs other joints", file=robot.file, key="joint", allowed=expected
        )
    if set(params.reward) != set(terms):
        wrong = sorted(set(params.reward) ^ set(terms))
        raise ConfigError(
            "must weigh every reward term",
            file=file,
            key="velocity.reward",
            value=wrong,
            allowed=sorted(terms),
        )


def measurement(
    robot: RobotSpec, params: VelocityParams, foot_radius_m: float, terrain: Terrain | None
) -> Callable[[WorldView, Tensor, Tensor, Tensor, Mapping[str, Tensor]], VelocityStep]:
    """Build what turns worlds after a control step into its record, as `Task.measure` says."""
    default = torch.tensor(robot.default_rad, dtype=torch.float32)
    phase_offset, down = torch.tensor(PHASE_OFFSET), torch.tensor(DOWN)
    back_emf = robot.servo_of(robot.joint[0]).back_emf_nm_s_rad
    offsets = torch.cartesian_prod(torch.tensor(SCAN_X_M), torch.tensor(SCAN_Y_M))

    def measure(
        view: WorldView, command: Tensor, action: Tensor, last_action: Tensor, memory: Mapping[str, Tensor]
    ) -> VelocityStep:
        qpos, qvel = view.qpos, view.qvel
        moving = is_moving(command, params.moving_threshold)
        clock = torch.sin(2 * math.pi * (memory["gait_phase"] + phase_offset))
        swing = clock.clamp_min(0.0) * moving[:, None]
        feet = view.sensor(*FOOT_SENSORS)
        foot_pos, foot_vel = feet[:, : len(LEGS)], feet[:, len(LEGS) :]
        touch = (view.sensor(*TOUCH_SENSORS)[..., 0] > 0).to(qpos.dtype)
        height, foot_height, scan = qpos[:, 2], foot_pos[..., 2] - foot_radius_m, qpos[:, :0]
        if terrain is not None:
            points = (qpos[:, None, :2], foot_pos[..., :2], scan_points(qpos, offsets))
            ground = terrain.height_at(torch.cat(points, dim=1))
            height, foot_height = height - ground[:, 0], foot_height - ground[:, 1 : 1 + len(LEGS)]
            scan = ground[:, 1 + len(LEGS) :] - ground[:, :1]
        in_world = torch.stack((qvel[:, :3], down.expand(len(qvel), 3)), dim=1)
        lin_vel, gravity = rotate_into_body(qpos[:, None, 3:7], in_world).unbind(1)
        return VelocityStep(
            command=command,
            moving=moving,
            height_m=height,
            lin_vel=lin_vel,
            gyro=qvel[:, 3:6],
            gravity=gravity,
            joint_offset=qpos[:, 7:] - default,
            joint_vel=qvel[:, 6:],
            torque=torch.sub(view.actuator_force, qvel[:, 6:], alpha=back_emf),
            action=action,
            last_action=last_action,
            foot_height=foot_height,
            foot_speed=torch.linalg.vector_norm(foot_vel[..., :2], dim=-1),
            foot_contact=touch[:, : len(LEGS)],
            knee_contact=touch[:, len(LEGS) : -1],
            trunk_contact=touch[:, -1],
            swing=swing,
            stance=(swing <= 0).to(qpos.dtype),
            scan=scan,
        )

    return measure


def is_moving(command: Tensor, threshold: float) -> Tensor:
    """(B, 3) -> (B,) 1 where the command is more than `threshold`."""
    length: Tensor = torch.linalg.vector_norm(command, dim=-1)
    return (length > threshold).to(command.dtype)


def policy_interface(robot: RobotSpec, params: VelocityParams) -> PolicyInterface:
    """Build the functions that training runs and export writes."""
    default = torch.tensor(robot.default_rad, dtype=torch.float32)
    low = torch.tensor(robot.position_min_rad, dtype=torch.float32)
    high = torch.tensor(robot.position_max_rad, dtype=torch.float32)
    stiffness = torch.tensor(robot.stiffness_nm_rad, dtype=torch.float32)
    reach = params.torque_share * robot.limits.torque_nm / stiffness
    down = torch.tensor([DOWN])
    cycles_per_tick = params.gait_hz / robot.control.rate_hz

    def observe(channels: Mapping[str, Tensor], memory: Mapping[str, Tensor]) -> Tensor:
        command = channels["velocity_command"]
        moving = is_moving(command, params.moving_threshold)[:, None]
        angle = 2 * math.pi * memory["gait_phase"]
        return torch.cat(
            (
                rotate_into_body(channels["imu_quat"], down),
                channels["imu_gyro"],
                command,
                channels["joint_pos"] - default,
                channels["joint_vel"],
                memory["last_action"],
                torch.sin(angle) * moving,
                torch.cos(angle) * moving,
            ),
            dim=-1,
        )

    def advance(
        channels: Mapping[str, Tensor], memory: Mapping[str, Tensor], action: Tensor
    ) -> dict[str, Tensor]:
        moving = is_moving(channels["velocity_command"], params.moving_threshold)[:, None]
        phase = memory["gait_phase"] + cycles_per_tick * moving
        return {"last_action": action, "gait_phase": phase - torch.floor(phase)}

    def target(channels: Mapping[str, Tensor], action: Tensor) -> Tensor:
        # A target further away than `reach` would only saturate the servo.
        wanted, measured = default + params.action_scale_rad * action, channels["joint_pos"]
        return wanted.clamp(measured - reach, measured + reach).clamp(low, high)

    memory = (MemorySpec("last_action", (0.0,) * len(robot.joint)), MemorySpec("gait_phase", (0.0,)))
    return PolicyInterface(CHANNELS, memory, observe, advance, target, params.action_scale_rad)


def sample_command(params: VelocityParams, count: int, generator: torch.Generator) -> Tensor:
    """Draw commands (count, 3): uniform, but some zero and some that only turn."""
    device = generator.device
    span = torch.tensor(
        (params.command_vx_m_s, params.command_vy_m_s, params.command_wz_rad_s), device=device
    )
    command = (2 * torch.rand((count, 3), generator=generator, device=device) - 1) * span
    kind = torch.rand((count, 1), generator=generator, device=device)
    command[:, :2].masked_fill_(kind < params.stand_share + params.turn_share, 0.0)
    return command.masked_fill_(kind < params.stand_share, 0.0)


def reset_pose(
    default: Tensor, height_m: float, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Standing near the default posture, any heading, slightly disturbed."""
    joints, device = len(default), generator.device

    def disturbance(*shape: int) -> Tensor:
        return 2 * torch.rand((count, *shape), generator=generator, device=device) - 1

    qpos = torch.zeros((count, 7 + joints), device=device)
    qpos[:, 2] = height_m + 0.005
    yaw = disturbance() * math.pi
    qpos[:, 3], qpos[:, 6] = torch.cos(yaw / 2), torch.sin(yaw / 2)
    qpos[:, 7:] = default + 0.1 * disturbance(joints)
    qvel = torch.zeros((count, 6 + joints), device=device)
    qvel[:, :6] = 0.2 * disturbance(6)
    return qpos, qvel


def privileged(step: VelocityStep) -> Tensor:
    """What only the simulator knows (B, 12 + s): true velocity, height, foot contacts and heights, scan."""
    height = step.height_m[:, None]
    return torch.cat((step.lin_vel, height, step.foot_contact, step.foot_height, step.scan), dim=-1)


def has_failed(step: VelocityStep) -> Tensor:
    """Tilted beyond 60 degrees, trunk on the ground or too low."""
    return (step.gravity[:, 2] > -0.5) | (step.trunk_contact > 0) | (step.height_m < 0.06)  # noqa: PLR2004


def reward_terms(params: VelocityParams) -> dict[str, RewardTerm[VelocityStep]]:
    """Build the named terms with the run's weights."""
    per_width = torch.tensor(params.velocity_width).rsqrt()
    per_turn_width = params.turn_width**-0.5

    def swing_miss(s: VelocityStep) -> Tensor:
        """Share of the wanted clearance that each swing foot lacks."""
        return (s.swing - s.foot_height / params.swing_height_m).clamp_min(0.0)

    sums: dict[str, Value[VelocityStep]] = {
        "stand_still": lambda s: s.joint_offset.abs() * (1 - s.moving[:, None]),
        "swing_contact": lambda s: s.foot_contact * s.swing,
        "stance_contact": lambda s: (1 - s.foot_contact) * s.stance,
        "stance_slip": lambda s: s.foot_contact * s.foot_speed.clamp_max(1.0),
        "knee_contact": lambda s: s.knee_contact,
    }
    squares: dict[str, Value[VelocityStep]] = {
        "vertical_velocity": lambda s: s.lin_vel[:, 2:],
        "roll_pitch_rate": lambda s: s.gyro[:, :2],
        "level": lambda s: s.gravity[:, :2],
        "height": lambda s: (s.height_m - params.height_m)[:, None],
        "torque": lambda s: s.torque,
        "action_change": lambda s: s.action - s.last_action,
        "posture": lambda s: s.joint_offset,
        "abduction": lambda s: s.joint_offset[:, ::JOINTS_PER_LEG],
        "joint_speed": lambda s: s.joint_vel,
        "swing_height": swing_miss,
    }
    gaussians: dict[str, Value[VelocityStep]] = {
        "track_velocity": lambda s: (s.command[:, :2] - s.lin_vel[:, :2]) * per_width,
        "track_turn": lambda s: (s.command[:, 2:] - s.gyro[:, 2:]) * per_turn_width,
    }
    weight = params.reward  # incomplete ones are refused by the caller
    return {
        **{name: RewardTerm(weight.get(name, 0.0), value, "sum") for name, value in sums.items()},
        **{name: RewardTerm(weight.get(name, 0.0), value, "squares") for name, value in squares.items()},
        **{name: RewardTerm(weight.get(name, 0.0), value, "gaussian") for name, value in gaussians.items()},
    }


def metrics(step: VelocityStep) -> dict[str, Tensor]:
    """Figures of one step for evaluation, each (B,)."""
    error = (step.command - torch.cat((step.lin_vel[:, :2], step.gyro[:, 2:]), dim=-1)).abs()
    knee = step.torque[:, 2::JOINTS_PER_LEG]
    return {
        "error_vx_m_s": error[:, 0],
        "error_vy_m_s": error[:, 1],
        "error_wz_rad_s": error[:, 2],
        "knee_torque_sq_nm2": knee.square().mean(-1),
        "knee_contact": step.knee_contact.amax(-1),
        "trunk_contact": step.trunk_contact,
        "tilt_rad": torch.acos((-step.gravity[:, 2]).clamp(-1, 1)),
    }


def symmetry(scanned: bool) -> Symmetry:
    """Reflections left to right: legs and, where `scanned`, the scan swap sides; y, roll, yaw change sign."""
    leg_swap = (1, 0, 3, 2)
    joints = Mirror(
        tuple(leg_swap[leg] * JOINTS_PER_LEG + j for leg in range(4) for j in range(JOINTS_PER_LEG)),
        (-1.0, 1.0, 1.0) * 4,
    )
    polar, axial = Mirror((0, 1, 2), (1.0, -1.0, 1.0)), Mirror((0, 1, 2), (-1.0, 1.0, -1.0))
    command = Mirror((0, 1, 2), (1.0, -1.0, -1.0))
    clock = Mirror((0, 1), (-1.0, -1.0))  # the other side is half a cycle away
    legs = Mirror(leg_swap, (1.0,) * 4)
    observation = polar + axial + command + joints + joints + joints + clock
    private = polar + Mirror((0,), (1.0,)) + legs + legs
    if scanned:
        rows, columns = len(SCAN_X_M), len(SCAN_Y_M)
        across = tuple(row * columns + column for row in range(rows) for column in reversed(range(columns)))
        private += Mirror(across, (1.0,) * len(across))
    return Symmetry(observation, private, joints)
