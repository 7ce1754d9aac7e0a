"""RobotSpec + MJCF -> MjModel: the servos of robot.toml become actuators of the model."""

from __future__ import annotations

import mujoco

from robotrl.errors import SimulationError
from robotrl.spec.robot import JointSpec, RobotSpec, ServoType


def position_model(robot: RobotSpec, timestep_s: float) -> mujoco.MjModel:
    """Compile the robot with its servos as position actuators: ctrl is the target in rad.

    The actuator's force is ``clip(stiffness * (target - q), +-torque_limit)``, the share of drive
    that the servo's firmware applies; back-EMF is the joint's damping and gear friction its
    frictionloss, so together they are the motor law in `ServoType`.

    Args:
        robot: the robot.
        timestep_s: physics step.

    Raises:
        SimulationError: the MJCF lacks a joint of the spec or has actuators of its own.
    """
    spec = _robot_spec(robot, timestep_s)
    for joint in robot.joint:
        servo = robot.servo_of(joint)
        actuator = _actuator(spec, joint)
        actuator.set_to_position(kp=servo.stiffness_nm_rad)
        actuator.forcelimited = mujoco.mjtLimited.mjLIMITED_TRUE
        actuator.forcerange = [-servo.torque_limit_nm, servo.torque_limit_nm]
        spec.joint(joint.name).damping[0] = servo.back_emf_nm_s_rad
    return spec.compile()


def torque_model(robot: RobotSpec, timestep_s: float) -> mujoco.MjModel:
    """Compile the robot with plain torque actuators: ctrl is the motor torque in N m.

    The emulator computes drive and back-EMF itself, since torque off opens the motor's circuit.

    Raises:
        SimulationError: as `position_model`.
    """
    spec = _robot_spec(robot, timestep_s)
    for joint in robot.joint:
        _actuator(spec, joint).set_to_motor()
    return spec.compile()


def _robot_spec(robot: RobotSpec, timestep_s: float) -> mujoco.MjSpec:
    """The MJCF with step, joint ranges, armature and friction from robot.toml."""
    spec = mujoco.MjSpec.from_file(str(robot.model_file))
    if spec.actuators:
        raise SimulationError(f"{robot.model_file}: has actuators; they come from {robot.file}")
    spec.option.timestep = timestep_s
    for joint in robot.joint:
        element = spec.joint(joint.name)
        if element is None:
            raise SimulationError(f"{robot.model_file}: has no joint {joint.name!r} of {robot.file}")
        servo: ServoType = robot.servo_of(joint)
        element.armature = servo.armature_kg_m2
        element.frictionloss = servo.friction_nm
        element.range = [joint.position_min_rad, joint.position_max_rad]
    return spec


def _actuator(spec: mujoco.MjSpec, joint: JointSpec) -> mujoco.MjsActuator:
    actuator = spec.add_actuator(name=joint.name, target=joint.name)
    actuator.trntype = mujoco.mjtTrn.mjTRN_JOINT
    return actuator
