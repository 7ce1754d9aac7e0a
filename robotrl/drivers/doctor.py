"""What is wrong with a serial port, its adapter and the servos behind it, and the command that repairs it."""

from __future__ import annotations

import grp
import os
import shlex
import stat
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from robotrl.drivers.scan import Found
from robotrl.drivers.servo import Line, Servo
from robotrl.errors import DeviceError
from robotrl.spec.robot import JointSpec

_MOST_LATENCY_MS = 1
_FAST_FIRMWARE = 45
"""The first X-series firmware that knows fast sync read: WIRING.md."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        problem: a sentence.
        fix: the command that repairs it, or what to do where no command does.
        harmless: whether the port can be used all the same.
    """

    problem: str
    fix: str
    harmless: bool = False


NOBODY = Finding("no servo answers at any speed", "check power, cable and the direction of the adapter")


def examine_port(path: str, root: Path = Path("/")) -> list[Finding]:
    """Look at a device file without opening it.

    Args:
        path: device file, or a link to it.
        root: where /dev, /proc and /sys are.
    """
    device = _resolved(path, root)
    if not device.exists():
        here = ", ".join(_ports_here(root)) or "none"
        return [Finding(f"{path} does not exist; serial ports here: {here}", "plug the adapter in; lsusb")]
    mode = device.stat().st_mode
    if root == Path("/") and not stat.S_ISCHR(mode):
        return [Finding(f"{path} is no serial port", "name a device file, such as /dev/ttyUSB0")]
    return [*_permission(path, device), *_holders(path, device, root), *_latency(path, device, root)]


def latency_ms(path: str, root: Path = Path("/")) -> int | None:
    """Return for how long an adapter holds received bytes back; None where it does not say."""
    file = _latency_file(_resolved(path, root), root)
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def examine_servos(servos: Sequence[Servo]) -> list[Finding]:
    """Read what slows a bus down or makes it fail, from servos on one line that answer pings.

    Raises:
        PortError: the port has gone.
    """
    alike: dict[_Ailment, list[Servo]] = defaultdict(list)
    for servo in servos:
        for ailment in _ailments(servo):
            alike[ailment].append(servo)
    # What does not acknowledge writes comes first: no other register can be repaired before.
    order = sorted(alike, key=lambda ailment: not ailment.mute)
    return [Finding(f"servo {_named(alike[one])}: {one.problem}", _cure(one, alike[one])) for one in order]


def examine_firmware(found: Sequence[Found]) -> list[Finding]:
    """Find servos of one model with different firmware."""
    versions: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for servo in found:
        versions[servo.model or f"model {servo.model_number}"][servo.firmware].append(servo.id)
    tool = "update them with DYNAMIXEL Wizard 2.0 (Feetech: FD software) to the newest version"
    return [
        Finding(f"{model} servos have mixed firmware: {_listed(ids_by_version)}", tool)
        for model, ids_by_version in versions.items()
        if len(ids_by_version) > 1
    ]


def examine_crew(joints: Sequence[JointSpec], found: Sequence[Found], line: Line) -> list[Finding]:
    """Compare who answers with who ought to: the joints of one bus of a robot.

    Args:
        joints: those of the bus.
        found: the servos of a scan, at any speed.
        line: the bus as robot.toml has it.
    """
    right = {servo.id for servo in found if servo.baud_bd == line.baud_bd}
    wrong = {servo.id: servo for servo in found if servo.baud_bd != line.baud_bd}
    findings = []
    for joint in joints:
        if joint.id in wrong and joint.id not in right:
            at = Line(line.path, line.protocol, wrong[joint.id].baud_bd)
            fix = f"robotrl bus set-baud {_where(at)} --id {joint.id} --to {line.baud_bd}"
            findings.append(Finding(f"servo {joint.id} ({joint.name}) is at {at.baud_bd} baud", fix))
        elif joint.id not in right:
            fix = "check its cable and power; a new servo has id 1: robotrl bus set-id"
            findings.append(Finding(f"servo {joint.id} ({joint.name}) does not answer", fix))
    return findings


def examine_fast_sync_read(found: Sequence[Found]) -> list[Finding]:
    """Find Dynamixel servos whose firmware is too old for fast sync read."""
    old = [servo for servo in found if servo.firmware.isdigit() and int(servo.firmware) < _FAST_FIRMWARE]
    fix = "set fast_sync_read = false in robot.toml, or update them with DYNAMIXEL Wizard 2.0"
    return [
        Finding(f"servo {servo.id} has firmware {servo.firmware} and does not know fast sync read", fix)
        for servo in old
    ]


def _resolved(path: str, root: Path) -> Path:
    inside = root / path.lstrip("/")
    return inside.resolve() if root == Path("/") else inside


def _ports_here(root: Path) -> list[str]:
    patterns = ("ttyUSB*", "ttyACM*", "ttyAMA*", "ttyS*")
    return [f"/dev/{file.name}" for pattern in patterns for file in sorted((root / "dev").glob(pattern))]


def _permission(path: str, device: Path) -> list[Finding]:
    if os.access(device, os.R_OK | os.W_OK):
        return []
    try:
        group = grp.getgrgid(device.stat().st_gid).gr_name
    except KeyError:
        group = "dialout"
    fix = f"sudo usermod -aG {group} $USER, then log out and in"
    return [Finding(f"{path} may not be opened by this user; its group is {group}", fix)]


def _holders(path: str, device: Path, root: Path) -> list[Finding]:
    """Processes that have the port open; those of other users stay hidden."""
    findings: list[Finding] = []
    if device.parent.name == "pts":  # a pseudo-terminal is open at its other end, too
        return findings
    for folder in sorted((root / "proc").glob("[0-9]*")):
        if folder.name != str(os.getpid()) and _holds(folder / "fd", device):
            name = _text(folder / "comm") or "a process"
            fix = f"kill {folder.name}"
            if name == "ModemManager":
                fix = "sudo systemctl disable --now ModemManager"
            findings.append(Finding(f"{path} is in use by {name} (process {folder.name})", fix))
    return findings


def _holds(descriptors: Path, device: Path) -> bool:
    try:
        return any(entry.is_symlink() and entry.readlink() == device for entry in descriptors.iterdir())
    except OSError:
        return False


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def _latency_file(device: Path, root: Path) -> Path:
    return root / "sys/bus/usb-serial/devices" / device.name / "latency_timer"


def _latency(path: str, device: Path, root: Path) -> list[Finding]:
    timer = latency_ms(path, root)
    if timer is None or timer <= _MOST_LATENCY_MS:
        return []
    fix = f"echo 1 | sudo tee /sys/bus/usb-serial/devices/{device.name}/latency_timer"
    return [Finding(f"the adapter of {path} holds received bytes back for {timer} ms", fix, harmless=True)]


@dataclass(frozen=True)
class _Ailment:
    """What several servos may have: a sentence's end, and the register that would hold another value."""

    problem: str
    register: str = ""
    value: int = 0
    mute: bool = False


def _ailments(servo: Servo) -> list[_Ailment]:
    series, service = servo.line.series, servo.line.series.service
    level, delay = service.status_level, service.return_delay
    found = []
    try:
        if (now := servo.read(level)) != service.answers_all:
            problem = f"does not acknowledge writes: {level.name} is {now}"
            found.append(_Ailment(problem, level.name, service.answers_all, mute=True))
        if delay is not None and (pause := servo.read(delay)):
            problem = f"waits {pause * delay.unit.scale * 1e6:.0f} us before each answer"
            found.append(_Ailment(problem, delay.name, 0))
        if error := servo.read(series.health):
            names = [bit.name for bit in series.health_bits if error & bit and bit.name]
            found.append(_Ailment(f"reports {', '.join(names).lower().replace('_', ' ') or error}"))
    except DeviceError:
        found.append(_Ailment("answers pings but no reads", level.name, service.answers_all, mute=True))
    return found


def _cure(ailment: _Ailment, servos: Sequence[Servo]) -> str:
    line = servos[0].line
    where = f"{_where(line)} --id {','.join(str(servo.id) for servo in servos)}"
    if ailment.register:
        return f'robotrl bus write "{ailment.register}" {ailment.value} {where}'
    if line.protocol == "dynamixel2":
        return f"remove the cause, then robotrl bus reboot {where}"
    return "remove the cause, then cycle its power"


def _named(servos: Sequence[Servo]) -> str:
    return ", ".join(str(servo.id) for servo in servos)


def _where(line: Line) -> str:
    return f"--port {shlex.quote(line.path)} --protocol {line.protocol} --baud {line.baud_bd}"


def _listed(ids_by_version: dict[str, list[int]]) -> str:
    return "; ".join(
        f"{version or 'unknown'} in {', '.join(map(str, ids))}" for version, ids in ids_by_version.items()
    )
