"""RobotSpec, read from robot.toml by the only reader there is: it refuses, never repairs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from robotrl.errors import ConfigError
from robotrl.spec.buses import BusSpec, Refuse, check_bus
from robotrl.spec.channels import CHANNELS, JOINTS, PASSIVE, POINTS, Source
from robotrl.spec.control import ControlSpec, check_rates
from robotrl.spec.limits import SafetyLimits, check_limits
from robotrl.spec.lines import (
    ESTIMATE_OVERHEAD_BYTES,
    ESTIMATE_VALUE_BYTES,
    IMU_SAMPLE_BYTES,
    check_ports,
    check_stream,
)
from robotrl.spec.records import Between, load_toml, read_record
from robotrl.spec.servos import ServoType, SupplySpec, check_servos, check_supply, written
from robotrl.spec.state import Floats, frozen

T = TypeVar("T")

SCHEMA = 1
"""Version of robot.toml that this reader understands."""

IMU_LINE, ESTIMATOR_LINE = "imu", "estimator"
"""Names of the serial lines beside the servo buses, which are named by themselves."""

GX5_BASE_RATE_HZ = 500
"""Samples a second of a 3DM-GX5, of which every so-many-th is sent."""


@dataclass(frozen=True)
class ImuSpec:
    """One IMU behind a serial port of its own."""

    model: Literal["wt901", "bno08x", "vn100", "gx5"]
    """WitMotion WT901; BNO08x in UART-RVC mode, of whose orientations the driver makes the angular velocity;
    VectorNav VN-100; MicroStrain 3DM-GX5, which sends no orientation: the driver filters it."""
    port: str
    baud_bd: Literal[9600, 115200, 230400, 460800, 921600]
    rate_hz: Literal[10, 20, 50, 100, 200]
    mount_quat: tuple[float, float, float, float]
    """w x y z rotation body <- sensor, so that v_body = R v_sensor."""


@dataclass(frozen=True)
class EstimatorSpec:
    """A device behind a serial port of its own that streams what no servo or IMU measures.

    Its protocol is in `robotrl.drivers.estimator`. It sends `passive_joint_pos` and `passive_joint_vel`
    of `joints`, where there are any, then `point_pos` of `points`.
    """

    port: str
    baud_bd: Literal[115200, 230400, 460800, 921600, 1000000]
    rate_hz: Annotated[int, Between(10, 1000)]
    joints: tuple[str, ...] = ()
    """Joints of the model that have no servo, in its order."""
    points: tuple[str, ...] = ()
    """Sites of the model whose world position is told."""

    @property
    def channels(self) -> dict[str, tuple[int, ...]]:
        """Shape of every channel that it sends, in the order of their values in a packet."""
        sizes = {PASSIVE: len(self.joints), POINTS: len(self.points)}
        shapes = {c.name: c.shape_on(sizes) for c in CHANNELS.values() if sizes.keys() & c.shape}
        return {name: shape for name, shape in shapes.items() if shape[0]}


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
class RobotSpec:
    """Everything robotrl knows about a robot. Per-joint arrays are in the order of `[[joint]]`."""

    schema: int
    name: str
    model: str
    """MJCF file, relative to robot.toml: bodies, joints, geoms, sites, sensors, no actuators. Or
    `PACKAGE:FILE`, a file of an installed package, whose own actuators give way to the servos."""
    control: ControlSpec
    bus: dict[str, BusSpec]
    servo: dict[str, ServoType]
    supply: SupplySpec
    joint: tuple[JointSpec, ...]
    limits: SafetyLimits
    imu: ImuSpec | None = None
    estimator: EstimatorSpec | None = None
    file: str = dataclasses.field(default="", repr=False)
    """Path it was read from; set by `load_robot`, not a key."""

    @property
    def model_file(self) -> Path:
        """The MJCF file.

        Raises:
            ConfigError: it is that of a package which is not installed, or lacks the file.
        """
        return find_model(self.model, Path(self.file))

    @property
    def has_foreign_model(self) -> bool:
        """Whether the model is that of an installed package."""
        return ":" in self.model

    @property
    def lines(self) -> dict[str, tuple[str, int]]:
        """Port and baud rate of every serial line: the buses, then IMU and estimator."""
        lines: dict[str, tuple[str, int]] = {n: (bus.port, bus.baud_bd) for n, bus in self.bus.items()}
        if self.imu:
            lines[IMU_LINE] = self.imu.port, self.imu.baud_bd
        if self.estimator:
            lines[ESTIMATOR_LINE] = self.estimator.port, self.estimator.baud_bd
        return lines

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Names in spec order."""
        return tuple(j.name for j in self.joint)

    @property
    def sources(self) -> frozenset[Source]:
        """The channel sources that this robot has."""
        senses = {Source.IMU: self.imu, Source.ESTIMATOR: self.estimator}
        return frozenset({Source.JOINTS, Source.OPERATOR, *(s for s, spec in senses.items() if spec)})

    @property
    def sizes(self) -> dict[str, int]:
        """What the letters in the channels' shapes stand for on this robot."""
        passive, points = (self.estimator.joints, self.estimator.points) if self.estimator else ((), ())
        return {JOINTS: len(self.joint), PASSIVE: len(passive), POINTS: len(points)}

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
        facts: dict[str, object] = {
            "rate_hz": self.control.rate_hz,
            "joints": [[j.name, j.default_rad, j.position_min_rad, j.position_max_rad] for j in self.joint],
            "servos": [dataclasses.asdict(self.servo_of(j), dict_factory=written) for j in self.joint],
        }
        if self.estimator:
            facts["estimator"] = [self.estimator.joints, self.estimator.points]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def find_model(model: str, toml: Path) -> Path:
    """Return the MJCF file that a robot.toml names.

    Args:
        model: as `RobotSpec.model`.
        toml: the robot.toml.

    Raises:
        ConfigError: it is that of a package which is not installed, or lacks the file.
    """
    package, colon, inner = model.partition(":")
    if not colon:
        return toml.parent / model
    spec = find_spec(package) if package.isidentifier() else None  # locating it does not import it
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("is of a package that is not installed", file=toml, key="model", value=model,
            allowed=f"pip install {package.replace('_', '-')}")  # fmt: skip
    path = Path(spec.submodule_search_locations[0]) / inner
    if not path.is_file():
        raise ConfigError(
            "is no file of the installed package", file=toml, key="model", value=model, allowed=str(path)
        )
    return path


def load_robot(file: Path) -> RobotSpec:
    """Read and check a robot.toml.

    Raises:
        ConfigError: anything unknown, missing, ill-typed, out of range or impossible.
    """
    robot = read_hardware(RobotSpec, load_toml(file), file)
    _check_possible(robot, file)
    return robot


def read_hardware(cls: type[T], table: Mapping[str, Any], file: Path) -> T:
    """Build a specification from the table of a robot.toml, whose version it checks.

    Args:
        cls: with a field `file`, which no robot.toml sets: it names this one.
        table: what the file holds.
        file: where it came from.

    Raises:
        ConfigError: anything unknown, missing, ill-typed or out of range.
    """
    if table.get("schema") != SCHEMA:
        raise ConfigError(
            "is not this version", file=file, key="schema", value=table.get("schema"), allowed=f"{SCHEMA}"
        )
    if "file" in table:
        raise ConfigError("unknown key", file=file, key="file", allowed=sorted(table.keys() - {"file"}))
    return read_record(cls, {**table, "file": str(file)}, file=file)


def _check_possible(robot: RobotSpec, file: Path) -> None:
    """Refuse what parses but cannot be: dangling names, duplicates, inverted or unreachable limits."""

    def refuse(key: str, problem: str, value: object, allowed: str | Iterable[object]) -> None:
        raise ConfigError(problem, file=file, key=key, value=value, allowed=allowed)

    check_rates(robot.control, refuse)
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
        if name in (IMU_LINE, ESTIMATOR_LINE):
            refuse(f"bus.{name}", "is no name of a servo bus", None, "any other name")
        check_bus(name, bus, robot.control.period_s, refuse)
    check_servos(robot.servo, robot.limits, refuse)
    _check_senses(robot, refuse)
    _check_lines(robot, refuse)
    check_supply(robot.supply, robot.servo, refuse)


def _check_encoder_range(joint: JointSpec, servo: ServoType, key: str, refuse: Refuse) -> None:
    for name in ("position_min_rad", "position_max_rad"):
        angle = getattr(joint, name)
        count = joint.zero_count + joint.sign * angle * servo.counts_per_rad
        if not 0 <= round(count) < servo.counts_per_rev:
            span = sorted(
                (c - joint.zero_count) * joint.sign / servo.counts_per_rad
                for c in (0, servo.counts_per_rev - 1)
            )
            refuse(f"{key}.{name}", "is outside the encoder's turn", angle, f"{span[0]:.4f} to {span[1]:.4f}")


def _check_senses(robot: RobotSpec, refuse: Refuse) -> None:
    """Refuse what cannot be of IMU and estimator, and limits that do not go with them."""
    imu, estimator = robot.imu, robot.estimator
    if imu and abs(math.hypot(*imu.mount_quat) - 1.0) > 1e-3:  # noqa: PLR2004 - written by hand
        refuse("imu.mount_quat", "is not a unit quaternion", imu.mount_quat, "length 1")
    if imu and imu.model == "gx5" and GX5_BASE_RATE_HZ % imu.rate_hz:
        rates = "10, 20, 50, 100"
        refuse("imu.rate_hz", f"does not divide the {GX5_BASE_RATE_HZ} Hz of a gx5", imu.rate_hz, rates)
    if imu and imu.model == "bno08x":
        for key, value, only in (("baud_bd", imu.baud_bd, 115200), ("rate_hz", imu.rate_hz, 100)):
            if value != only:
                refuse(f"imu.{key}", "is not that of a bno08x, which has no other", value, str(only))
    if estimator:
        _check_estimator(robot, estimator, refuse)
    senses = {IMU_LINE: imu is not None, ESTIMATOR_LINE: estimator is not None}
    check_limits(robot.limits, senses, robot.control.period_s, refuse)


def _check_lines(robot: RobotSpec, refuse: Refuse) -> None:
    check_ports({f"bus.{n}" if n in robot.bus else n: port for n, (port, _) in robot.lines.items()}, refuse)
    for name in robot.bus.keys() - {joint.bus for joint in robot.joint}:
        refuse(f"bus.{name}", "has no joint", None, "a [[joint]] with this bus")
    if imu := robot.imu:
        check_stream("imu", imu.rate_hz, IMU_SAMPLE_BYTES[imu.model], imu.baud_bd, refuse)
    if estimator := robot.estimator:
        values = sum(math.prod(shape) for shape in estimator.channels.values())
        size = ESTIMATE_OVERHEAD_BYTES + ESTIMATE_VALUE_BYTES * values
        check_stream("estimator", estimator.rate_hz, size, estimator.baud_bd, refuse)


def _check_estimator(robot: RobotSpec, estimator: EstimatorSpec, refuse: Refuse) -> None:
    if not (estimator.joints or estimator.points):
        refuse("estimator", "estimates nothing", None, "names in joints or points")
    for key, names in (("joints", estimator.joints), ("points", estimator.points)):
        for i, name in enumerate(names):
            if name in names[:i]:
                refuse(f"estimator.{key}[{i}]", "is named twice", name, "every name once")
    for i, name in enumerate(estimator.joints):
        if name in robot.joint_names:
            refuse(f"estimator.joints[{i}]", "has a servo", name, "joints without one")
