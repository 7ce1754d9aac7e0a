"""MuJoCo behind the servos: the robot's body, stepped one millisecond at a time."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from robotrl.errors import SimulationError
from robotrl.sim.model import torque_model
from robotrl.spec.robot import RobotSpec

Floats = NDArray[np.float64]

STEP_S = 0.001
"""Physics and firmware step. The servo's own rate is not published; 1 kHz is an assumption."""

_STILL_RAD_S = 0.005
_LIE_DOWN_LIMIT_S = 30.0
_START_JITTER_RAD = 0.01


@dataclass(frozen=True)
class ImuTruth:
    """What a perfect IMU at the `imu` site would measure: world <- body quaternion w x y z, SI."""

    quat: Floats
    gyro_rad_s: Floats
    accel_m_s2: Floats


class Plant:
    """The body: joint torques in, joint angles and what sensors see out. Joint arrays in spec order.

    It starts at rest: dropped limp from the default posture (each joint off by up to 0.01 rad, by seed)
    and left until nothing moves, onto the floor if it has a free joint; without one its base is fixed.

    Args:
        robot: the robot; with an IMU, its model needs a free joint and the sensors `imu_quat`,
            `imu_gyro` and `imu_accel`.
        seed: of the start posture.

    Raises:
        ConfigError: its joints, points or IMU sensors are not robot.toml's.
        SimulationError: it has an IMU and no free joint.
    """

    def __init__(self, robot: RobotSpec, seed: int) -> None:
        self.model = torque_model(robot, STEP_S)
        # A diverged state must end the emulation, not silently restart the robot in its first pose.
        self.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        self.data = mujoco.MjData(self.model)
        self._base = self._free_joint()
        joints = [self.model.joint(name) for name in robot.joint_names]
        self._qpos = np.array([j.qposadr[0] for j in joints])
        self._dof = np.array([j.dofadr[0] for j in joints])
        self._ctrl = np.array([self.model.actuator(name).id for name in robot.joint_names])
        if robot.imu and not self._base:
            raise SimulationError("the emulated robot has an IMU, but its model has no free joint")
        parts = ("quat", "gyro", "accel") if robot.imu else ()
        self._imu = tuple(self.sensor_slice(f"imu_{part}") for part in parts)
        passive = [self.model.joint(n) for n in (robot.estimator.joints if robot.estimator else ())]
        self._passive_qpos = np.array([j.qposadr[0] for j in passive], dtype=int)
        self._passive_dof = np.array([j.dofadr[0] for j in passive], dtype=int)
        points = robot.estimator.points if robot.estimator else ()
        self._points = np.array([self.model.site(name).id for name in points], dtype=int)
        self._lie_down(robot, seed)

    def _free_joint(self) -> tuple[int, int] | None:
        """Addresses of the base's position and velocity."""
        for i in range(self.model.njnt):
            if self.model.jnt_type[i] == mujoco.mjtJoint.mjJNT_FREE:
                return int(self.model.jnt_qposadr[i]), int(self.model.jnt_dofadr[i])
        return None

    def sensor_slice(self, name: str) -> slice:
        """Return where a named sensor's values lie in `data.sensordata`.

        Raises:
            SimulationError: the model has no such sensor.
        """
        index = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_SENSOR, name)
        if index < 0:
            raise SimulationError(f"the emulated robot's model has no sensor {name!r}")
        start = int(self.model.sensor_adr[index])
        return slice(start, start + int(self.model.sensor_dim[index]))

    def _lie_down(self, robot: RobotSpec, seed: int) -> None:
        jitter = np.random.default_rng(seed).uniform(-_START_JITTER_RAD, _START_JITTER_RAD, len(self._qpos))
        self.data.qpos[self._qpos] = robot.default_rad + jitter
        limp = np.zeros(len(self._qpos))
        for step in range(round(_LIE_DOWN_LIMIT_S / STEP_S)):
            self.step(limp)
            fallen = step * STEP_S > 1.0
            if fallen and float(np.abs(self.data.qvel).max()) < _STILL_RAD_S:
                break
        self.data.time = 0.0

    def joint_pos_rad(self) -> Floats:
        """Return the joint angles, (n,) rad."""
        return self.data.qpos[self._qpos]  # type: ignore[no-any-return]

    def joint_vel_rad_s(self) -> Floats:
        """Return the joint speeds, (n,) rad/s."""
        return self.data.qvel[self._dof]  # type: ignore[no-any-return]

    def step(self, torque_nm: Floats) -> None:
        """Apply motor torques, (n,) N m, for one step.

        Afterwards `sensor` and `imu` describe the state at the *beginning* of the step, which is
        also what the encoders saw when the torque was computed.
        """
        self.data.ctrl[self._ctrl] = torque_nm
        mujoco.mj_step(self.model, self.data)

    def check_finite(self) -> None:
        """Raise if the simulated world has diverged.

        Raises:
            SimulationError: a position or velocity is not finite.
        """
        if not (np.isfinite(self.data.qpos).all() and np.isfinite(self.data.qvel).all()):
            raise SimulationError(f"the emulated robot diverged at {self.data.time:.3f} s")

    def imu(self) -> ImuTruth:
        """Return what a perfect IMU measures."""
        quat, gyro, accel = (self.data.sensordata[part].copy() for part in self._imu)
        return ImuTruth(quat, gyro, accel)

    def estimate(self) -> dict[str, Floats]:
        """Return what a perfect estimator would tell now, by channel."""
        mujoco.mj_kinematics(self.model, self.data)  # places are else those of the last step's beginning
        return {
            "passive_joint_pos": self.data.qpos[self._passive_qpos],
            "passive_joint_vel": self.data.qvel[self._passive_dof],
            "point_pos": self.data.site_xpos[self._points],
        }

    def push(self, velocity_m_s: tuple[float, float]) -> None:
        """Add a world-frame horizontal velocity, (x, y) m/s, to the trunk; a fixed one stays where it is."""
        if self._base:
            _, dof = self._base
            self.data.qvel[dof : dof + 2] += velocity_m_s

    def base_velocity_b(self) -> tuple[Floats, Floats]:
        """Return the trunk's linear (m/s) and angular (rad/s) velocity in its own frame, (3,) each."""
        if not self._base:
            return np.zeros(3), np.zeros(3)
        qpos, dof = self._base
        quat = self.data.qpos[qpos + 3 : qpos + 7]
        rotation = np.empty(9)
        mujoco.mju_quat2Mat(rotation, quat)
        velocity = self.data.qvel[dof : dof + 6]
        return rotation.reshape(3, 3).T @ velocity[:3], velocity[3:].copy()
