"""RobotSpec + MJCF -> MjModel: the servos of robot.toml become actuators of the model."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from robotrl.errors import ConfigError
from robotrl.spec.robot import JointSpec, RobotSpec
from robotrl.spec.servos import ServoType

IMU_SENSORS = ("imu_quat", "imu_gyro", "imu_accel")
"""What the IMU of robot.toml measures, by the names of the model's sensors."""

_STANDING_A, _LEAST_V, _MOST_V = "supply_standing_a", "supply_least_v", "supply_most_v"


@dataclass(frozen=True)
class Supply:
    """What the servos of a model draw, and from which voltages; n actuators in the model's order."""

    nominal_v: NDArray[np.float64]
    """(n,) at which the model's gains and force limits hold."""
    stall_torque_nm: NDArray[np.float64]
    """(n,) at full drive and nominal voltage."""
    stall_current_a: NDArray[np.float64]
    """(n,) at that torque."""
    standing_a: float
    """Current of everything but the motors."""
    least_v: float
    """Below this some servo switches off."""
    most_v: float
    """Above this some servo is destroyed."""


def position_model(robot: RobotSpec, timestep_s: float) -> mujoco.MjModel:
    """Compile `position_spec` as it is, on its flat floor.

    Raises:
        ConfigError: as `position_spec`.
    """
    return position_spec(robot, timestep_s).compile()


def position_spec(robot: RobotSpec, timestep_s: float) -> mujoco.MjSpec:
    """Build the robot with its servos as position actuators: ctrl is the target in rad.

    At nominal voltage the actuator's force is ``clip(kp * (target - q), +-limit)``, the share of
    drive that the servo's firmware applies. Its numbers, all from robot.toml, by the e-Manual's
    control table and specifications of the servo (here of the XC430-W240-T at 12 V):

    - ``kp = stall_torque * (P / 128) * (counts_per_rev / 2 pi) / pwm_full``: register 84 over its
      divisor is the drive per count of position error (1.9 * 700/128 * 651.9 / 885 = 7.65 N m/rad);
    - ``kd = 0``, as register 80 is written (see `ServoType`);
    - ``limit = stall_torque * pwm_limit / pwm_full`` (1.9 * 708/885 = 1.52 N m);
    - joint damping is the model's own and the back-EMF, ``stall_torque / no_load_speed`` (1.9 / 7.33 =
      0.259 N m s/rad): at full drive the torque falls along a straight line and vanishes at that speed;
    - frictionloss is the gear's friction, armature the rotor's inertia times the gear ratio squared.

    Together they are the motor law in `ServoType`. Another voltage scales kp and limit, not the
    damping (`robotrl.sim.battery`). What the battery model needs travels in the model: `read_supply`.

    Args:
        robot: the robot.
        timestep_s: physics step.

    Raises:
        ConfigError: the MJCF has actuators, or joints or IMU sensors other than robot.toml's.
    """
    spec = _robot_spec(robot, timestep_s)
    spec.nuser_actuator = 3
    for joint in robot.joint:
        servo = robot.servo_of(joint)
        actuator = _actuator(spec, joint)
        actuator.set_to_position(kp=servo.stiffness_nm_rad)
        actuator.forcelimited = mujoco.mjtLimited.mjLIMITED_TRUE
        actuator.forcerange = [-servo.torque_limit_nm, servo.torque_limit_nm]
        current_a = robot.supply.stall_current_a[joint.servo]
        actuator.userdata = [servo.nominal_voltage_v, servo.stall_torque_nm, current_a]
        spec.joint(joint.name).damping[0] += servo.back_emf_nm_s_rad
    servos = robot.servo.values()
    spec.add_numeric(name=_STANDING_A, data=[robot.supply.standing_a])
    spec.add_numeric(name=_LEAST_V, data=[max(s.voltage_min_v for s in servos)])
    spec.add_numeric(name=_MOST_V, data=[min(s.voltage_max_v for s in servos)])
    return spec


def read_supply(model: mujoco.MjModel) -> Supply | None:
    """Return what `position_model` wrote about the servos' supply; None for any other model."""
    if mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_NUMERIC, _STANDING_A) < 0:
        return None
    nominal_v, torque_nm, current_a = model.actuator_user.T.copy()
    totals = (float(model.numeric(name).data[0]) for name in (_STANDING_A, _LEAST_V, _MOST_V))
    return Supply(nominal_v, torque_nm, current_a, *totals)


def torque_model(robot: RobotSpec, timestep_s: float) -> mujoco.MjModel:
    """Compile the robot with plain torque actuators: ctrl is the motor torque in N m.

    The emulator computes drive and back-EMF itself, since torque off opens the motor's circuit.

    Raises:
        ConfigError: as `position_model`.
    """
    spec = _robot_spec(robot, timestep_s)
    for joint in robot.joint:
        _actuator(spec, joint).set_to_motor()
    return spec.compile()


def _robot_spec(robot: RobotSpec, timestep_s: float) -> mujoco.MjSpec:
    """The MJCF with step, joint ranges, armature and friction from robot.toml."""
    spec = _read_model(robot)
    if robot.has_foreign_model:
        for actuator in list(spec.actuators):
            spec.delete(actuator)
    _check_names(spec, robot)
    spec.option.timestep = timestep_s
    for joint in robot.joint:
        element = spec.joint(joint.name)
        servo: ServoType = robot.servo_of(joint)
        element.armature = servo.armature_kg_m2
        element.frictionloss = servo.friction_nm
        element.range = [joint.position_min_rad, joint.position_max_rad]
    return spec


def _read_model(robot: RobotSpec) -> mujoco.MjSpec:
    try:
        return mujoco.MjSpec.from_file(str(robot.model_file))
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"cannot be read by MuJoCo: {reason}", file=robot.file, key="model", value=str(robot.model_file)
        ) from None


def _check_names(spec: mujoco.MjSpec, robot: RobotSpec) -> None:
    """Refuse a model and a robot.toml that do not name the same joints, actuators, points and IMU sensors."""
    file, toml = robot.model_file, robot.file
    for actuator in spec.actuators:
        raise ConfigError(
            "the model has an actuator", file=file, key="actuator", value=actuator.name,
            allowed=f"none; they come from {toml}",
        )  # fmt: skip
    passive, points = (robot.estimator.joints, robot.estimator.points) if robot.estimator else ((), ())
    joints = [j.name for j in spec.joints if j.type != mujoco.mjtJoint.mjJNT_FREE]
    names = (*robot.joint_names, *passive)
    keys = [f"joint[{i}].name" for i in range(len(robot.joint))]
    keys += [f"estimator.joints[{i}]" for i in range(len(passive))]
    for key, name in zip(keys, names, strict=True):
        if name not in joints:
            raise ConfigError(f"is no joint of {file}", file=toml, key=key, value=name, allowed=joints)
    for name in joints:
        if name not in names:
            raise ConfigError(f"is no joint of {toml}", file=file, key="joint", value=name, allowed=names)
    for key, some in (("joint", robot.joint_names), ("estimator.joints", passive)):
        wanted = [name for name in joints if name in some]
        if wanted != list(some):
            raise ConfigError("are in another order than the model's", file=toml, key=key,
                value=list(some), allowed=wanted)  # fmt: skip
    sites = [site.name for site in spec.sites]
    for i, name in enumerate(points):
        if name not in sites:
            raise ConfigError(f"is no site of {file}", file=toml, key=f"estimator.points[{i}]",
                value=name, allowed=sites)  # fmt: skip
    sensors = [s.name for s in spec.sensors if s.name.startswith("imu_")]
    if robot.imu and sorted(sensors) != sorted(IMU_SENSORS):
        raise ConfigError(f"are not what the [imu] of {toml} measures", file=file, key="sensor",
            value=sensors, allowed=IMU_SENSORS)  # fmt: skip


def _actuator(spec: mujoco.MjSpec, joint: JointSpec) -> mujoco.MjsActuator:
    actuator = spec.add_actuator(name=joint.name, target=joint.name)
    actuator.trntype = mujoco.mjtTrn.mjTRN_JOINT
    return actuator
