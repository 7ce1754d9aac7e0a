"""RobotSpec, read from robot.toml by the only reader there is: it refuses, never repairs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from robotrl.errors import ConfigError
from robotrl.spec.buses import BusSpec, Refuse, ServoProtocol, check_bus, check_gains
from robotrl.spec.channels import Source
from robotrl.spec.records import Between, load_toml, read_record
from robotrl.spec.state import Floats, frozen

SCHEMA = 1
"""Version of robot.toml that this reader understands."""

Reaction = Literal["hold", "damp", "limp"]
"""What the gate asks for when a check fails: freeze the targets, remove stiffness, torque off."""

Positive = Annotated[float, Between(1e-9)]


@dataclass(frozen=True)
class ImuSpec:
    """One IMU behind a serial port of its own."""

    model: Literal["wt901"]
    port: str
    baud_bd: Literal[9600, 115200, 230400, 460800, 921600]
    rate_hz: Literal[10, 20, 50, 100, 200]
    mount_quat: tuple[float, float, float, float]
    """w x y z rotation body <- sensor, so that v_body = R v_sensor."""


@dataclass(frozen=True)
class ServoType:
    """A servo model: register scales, the limits written into it, and its motor's physics.

    The firmware's position controller drives the motor with
    ``u = clip(P / p_gain_divisor * error_counts, +-pwm_limit) / pwm_full`` (share of supply
    voltage); a brushed motor at share u of `voltage` gives
    ``torque = stall_torque * (u * voltage / nominal_voltage) - back_emf * speed`` less friction:
    the straight torque-speed line from the stall torque to the no-load speed, both of which scale
    with the present voltage. On Feetech servos the PWM registers are Max Torque (16), 1000 counts full drive.
    I and D gains are written as 0: the e-Manual gives K_D = D / 16, but
    neither the sampling time nor the filter of its difference, so a D gain could not be the same
    number of N m s/rad in training and on the robot; the damping by the motor's own back-EMF is, as
    it follows from the data sheet.
    """

    protocol: ServoProtocol
    model_number: Annotated[int, Between(1, 65535)]
    counts_per_rev: Annotated[int, Between(256, 65536)]
    velocity_unit_rad_s: Positive
    """Speed of one count of the velocity register."""
    pwm_full: Annotated[int, Between(1, 32767)]
    """PWM register value for full supply voltage."""
    pwm_limit: Annotated[int, Between(1, 32767)]
    """PWM Limit (36) written into the servo: bounds its drive and so its torque."""
    position_p_gain: Annotated[int, Between(1, 16383)]
    p_gain_divisor: Positive
    stall_torque_nm: Positive
    """At `nominal_voltage_v` and full drive."""
    no_load_speed_rad_s: Positive
    nominal_voltage_v: Positive
    armature_kg_m2: Positive
    """Rotor inertia seen at the output shaft."""
    friction_nm: Annotated[float, Between(0.0)]
    temperature_limit_c: Annotated[int, Between(0, 100)]
    voltage_min_v: Positive
    voltage_max_v: Positive

    @property
    def counts_per_rad(self) -> float:
        """Encoder counts per radian at the output shaft."""
        return self.counts_per_rev / (2 * math.pi)

    @property
    def stiffness_nm_rad(self) -> float:
        """Torque per radian of position error at nominal voltage, below saturation."""
        pwm_per_rad = self.position_p_gain / self.p_gain_divisor * self.counts_per_rad
        return self.stall_torque_nm * pwm_per_rad / self.pwm_full

    @property
    def torque_limit_nm(self) -> float:
        """Stall torque that is left under the PWM limit, at nominal voltage."""
        return self.stall_torque_nm * self.pwm_limit / self.pwm_full

    @property
    def back_emf_nm_s_rad(self) -> float:
        """Damping by the motor's own back-EMF: stall torque over no-load speed."""
        return self.stall_torque_nm / self.no_load_speed_rad_s


@dataclass(frozen=True)
class SupplySpec:
    """The battery that feeds the servos, and what draws from it."""

    open_v: Positive
    """Voltage without load."""
    ohm: Annotated[float, Between(0.0)]
    """Resistance of pack, switch and wiring together."""
    standing_a: Annotated[float, Between(0.0)]
    """Current of everything but the motors: computer, the servos' own electronics."""
    stall_current_a: dict[str, Positive]
    """Motor current of each servo model at its stall torque."""

    def voltage_v(self, motor_a: float) -> float:
        """Return the voltage at the servos while the motors draw a current; braking charges nothing."""
        return self.open_v - self.ohm * (self.standing_a + max(0.0, motor_a))


@dataclass(frozen=True)
class JointSpec:
    """One joint: its name in the model, its servo and its limits."""

    name: str
    bus: str
    id: Annotated[int, Between(0, 252)]
    servo: str
    sign: Literal[-1, 1]
    """Model angle = sign * (count - zero_count) / counts_per_rad."""
    zero_count: Annotated[int, Between(0, 65535)]
    default_rad: float
    """Standing posture."""
    park_rad: float
    """Low posture that is taken before torque off."""
    position_min_rad: float
    position_max_rad: float


@dataclass(frozen=True)
class SafetyLimits:
    """The gate's numbers; every one is mandatory. See `robotrl.safety` for the order of checks."""

    command_speed_rad_s: Positive
    """Rate clamp: how fast a target may move."""
    torque_nm: Positive
    """Bound on stiffness * (target - measured position), kept by moving the target."""
    sustained_limiting_s: Positive
    """Limiting on every tick for this long is a fault."""
    blend_in_s: Positive
    """A new source of targets takes over within this time."""
    position_margin_rad: Positive
    """A joint measured this far outside its own limits is a fault."""
    speed_rad_s: Positive
    """A joint measured faster than this is a fault."""
    tracking_error_rad: Positive
    """A joint this far from its target is a fault."""
    tilt_rad: Annotated[float, Between(0.01, math.pi)]
    """Angle between body up and world up beyond which the robot counts as fallen."""
    joint_stale_s: Positive
    imu_stale_s: Positive
    temperature_c: Positive
    voltage_min_v: Positive
    voltage_max_v: Positive
    fault_ticks: Annotated[int, Between(1, 100)]
    """Health and tracking faults need this many ticks in a row."""
    on_lost_sensing: Reaction
    on_fall: Reaction
    on_fault: Reaction
    """Measured limits, health, tracking error, sustained limiting."""


@dataclass(frozen=True)
class ControlSpec:
    """The control loop's timing and the ramps between modes."""

    rate_hz: Positive
    stand_s: Positive
    """Time to ramp from the measured posture to the default one."""
    park_s: Positive
    """Time to lower the robot before torque off."""


@dataclass(frozen=True)
class RobotSpec:
    """Everything robotrl knows about a robot. Per-joint arrays are in the order of `[[joint]]`."""

    schema: int
    name: str
    model: str
    """MJCF file, relative to robot.toml: bodies, joints, geoms, sites, sensors, no actuators."""
    control: ControlSpec
    bus: dict[str, BusSpec]
    imu: ImuSpec
    servo: dict[str, ServoType]
    supply: SupplySpec
    joint: tuple[JointSpec, ...]
    limits: SafetyLimits
    file: str = dataclasses.field(default="", repr=False)
    """Path it was read from; set by `load_robot`, not a key."""

    @property
    def model_file(self) -> Path:
        """The MJCF file."""
        return Path(self.file).parent / self.model

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Names in spec order."""
        return tuple(j.name for j in self.joint)

    @property
    def sources(self) -> frozenset[Source]:
        """The channel sources that this robot has."""
        return frozenset({Source.JOINTS, Source.IMU, Source.OPERATOR})

    def servo_of(self, joint: JointSpec) -> ServoType:
        """Return the servo model that drives `joint`."""
        return self.servo[joint.servo]

    @cached_property
    def default_rad(self) -> Floats:
        """(n,) standing posture."""
        return frozen([j.default_rad for j in self.joint])

    @cached_property
    def park_rad(self) -> Floats:
        """(n,) low posture before torque off."""
        return frozen([j.park_rad for j in self.joint])

    @cached_property
    def position_min_rad(self) -> Floats:
        """(n,) lower position limits."""
        return frozen([j.position_min_rad for j in self.joint])

    @cached_property
    def position_max_rad(self) -> Floats:
        """(n,) upper position limits."""
        return frozen([j.position_max_rad for j in self.joint])

    @cached_property
    def stiffness_nm_rad(self) -> Floats:
        """(n,) servo stiffness at nominal voltage."""
        return frozen([self.servo_of(j).stiffness_nm_rad for j in self.joint])

    @cached_property
    def policy_hash(self) -> str:
        """SHA-256 over the parts of the robot that a trained policy depends on."""
        facts = {
            "rate_hz": self.control.rate_hz,
            "joints": [[j.name, j.default_rad, j.position_min_rad, j.position_max_rad] for j in self.joint],
            "servos": [dataclasses.asdict(self.servo_of(j)) for j in self.joint],
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def load_robot(file: Path) -> RobotSpec:
    """Read and check a robot.toml.

    Raises:
        ConfigError: anything unknown, missing, ill-typed, out of range or impossible.
    """
    table = load_toml(file)
    if table.get("schema") != SCHEMA:
        raise ConfigError(
            "is not this version", file=file, key="schema", value=table.get("schema"), allowed=f"{SCHEMA}"
        )
    if "file" in table:
        raise ConfigError("unknown key", file=file, key="file", allowed=sorted(table.keys() - {"file"}))
    robot = dataclasses.replace(read_record(RobotSpec, table, file=file), file=str(file))
    _check_possible(robot, file)
    return robot


def _check_possible(robot: RobotSpec, file: Path) -> None:
    """Refuse what parses but cannot be: dangling names, duplicates, inverted or unreachable limits."""

    def refuse(key: str, problem: str, value: object, allowed: str | Iterable[object]) -> None:
        raise ConfigError(problem, file=file, key=key, value=value, allowed=allowed)

    if not robot.joint:
        refuse("joint", "needs at least one entry", [], "[[joint]] tables")
    seen_names: set[str] = set()
    seen_ids: set[tuple[str, int]] = set()
    for i, joint in enumerate(robot.joint):
        key = f"joint[{i}]"
        if joint.bus not in robot.bus:
            refuse(f"{key}.bus", "names no [bus]", joint.bus, sorted(robot.bus))
        if joint.servo not in robot.servo:
            refuse(f"{key}.servo", "names no [servo]", joint.servo, sorted(robot.servo))
        if joint.name in seen_names:
            refuse(f"{key}.name", "is used twice", joint.name, "a name of its own")
        if (joint.bus, joint.id) in seen_ids:
            refuse(f"{key}.id", f"is used twice on bus {joint.bus}", joint.id, "an id of its own")
        seen_names.add(joint.name)
        seen_ids.add((joint.bus, joint.id))
        if not joint.position_min_rad < joint.position_max_rad:
            refuse(
                f"{key}.position_min_rad",
                "is not below position_max_rad",
                joint.position_min_rad,
                f"below {joint.position_max_rad}",
            )
        for posture in ("default_rad", "park_rad"):
            if not joint.position_min_rad <= getattr(joint, posture) <= joint.position_max_rad:
                refuse(
                    f"{key}.{posture}",
                    "lies outside the joint's limits",
                    getattr(joint, posture),
                    f"{joint.position_min_rad} to {joint.position_max_rad}",
                )
        if robot.servo_of(joint).protocol != robot.bus[joint.bus].protocol:
            protocol = robot.bus[joint.bus].protocol
            allowed = sorted(name for name, servo in robot.servo.items() if servo.protocol == protocol)
            refuse(f"{key}.servo", f"does not speak {protocol} as bus {joint.bus} does", joint.servo, allowed)
        _check_encoder_range(joint, robot.servo_of(joint), key, refuse)
    for name, bus in robot.bus.items():
        check_bus(name, bus, robot.control.rate_hz, refuse)
    for name, servo in robot.servo.items():
        check_gains(name, servo.protocol, servo.position_p_gain, servo.pwm_full, refuse)
    _check_limits(robot, refuse)
    _check_supply(robot, refuse)


def _check_supply(robot: RobotSpec, refuse: Refuse) -> None:
    supply = robot.supply
    for name, current_a in supply.stall_current_a.items():
        if name not in robot.servo:
            refuse(f"supply.stall_current_a.{name}", "names no [servo]", current_a, sorted(robot.servo))
    for name, servo in robot.servo.items():
        if name not in supply.stall_current_a:
            refuse(f"supply.stall_current_a.{name}", "is missing", None, "a finite number in 1e-09 or more")
        low, high = servo.voltage_min_v, servo.voltage_max_v
        if not low <= supply.open_v <= high:
            refuse("supply.open_v", f"is no voltage for servo {name}", supply.open_v, f"{low} to {high}")


def _check_encoder_range(joint: JointSpec, servo: ServoType, key: str, refuse: Refuse) -> None:
    for name in ("position_min_rad", "position_max_rad"):
        angle = getattr(joint, name)
        count = joint.zero_count + joint.sign * angle * servo.counts_per_rad
        if not 0 <= count < servo.counts_per_rev:
            span = sorted(
                (c - joint.zero_count) * joint.sign / servo.counts_per_rad
                for c in (0, servo.counts_per_rev - 1)
            )
            refuse(f"{key}.{name}", "is outside the encoder's turn", angle, f"{span[0]:.4f} to {span[1]:.4f}")


def _check_limits(robot: RobotSpec, refuse: Refuse) -> None:
    limits = robot.limits
    for name, servo in robot.servo.items():
        if servo.pwm_limit > servo.pwm_full:
            refuse(
                f"servo.{name}.pwm_limit", "is above full drive", servo.pwm_limit, f"1 to {servo.pwm_full}"
            )
        if not servo.voltage_min_v < servo.voltage_max_v:
            refuse(
                f"servo.{name}.voltage_min_v",
                "is not below voltage_max_v",
                servo.voltage_min_v,
                f"below {servo.voltage_max_v}",
            )
        if limits.temperature_c > servo.temperature_limit_c:
            refuse(
                "limits.temperature_c",
                f"is above the shutdown temperature of servo {name}",
                limits.temperature_c,
                f"up to {servo.temperature_limit_c}",
            )
        if limits.torque_nm > servo.stall_torque_nm:
            refuse(
                "limits.torque_nm",
                f"is above the stall torque of servo {name}",
                limits.torque_nm,
                f"up to {servo.stall_torque_nm}",
            )
    if not limits.voltage_min_v < limits.voltage_max_v:
        refuse(
            "limits.voltage_min_v",
            "is not below voltage_max_v",
            limits.voltage_min_v,
            f"below {limits.voltage_max_v}",
        )
    tick_s = 1.0 / robot.control.rate_hz
    for name in ("joint_stale_s", "imu_stale_s", "sustained_limiting_s"):
        if getattr(limits, name) < tick_s:
            refuse(
                f"limits.{name}",
                "is shorter than one control period",
                getattr(limits, name),
                f"{tick_s} or more",
            )
    norm = math.sqrt(sum(q * q for q in robot.imu.mount_quat))
    if abs(norm - 1.0) > 1e-3:  # noqa: PLR2004 - written by hand, so to three digits
        refuse("imu.mount_quat", "is not a unit quaternion", robot.imu.mount_quat, "length 1")
