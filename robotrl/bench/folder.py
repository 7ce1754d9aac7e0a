"""A run's folder: the recording, and where there are any, the truth, the training log and the summary."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robotrl.bench.flight import Event, Flight, Truth, flight_of, read_truth
from robotrl.errors import RecordingError
from robotrl.runtime.recording import CONTRACT_NAME, ROBOT_NAME, Recording, read_recording
from robotrl.spec.robot import RobotSpec, load_robot
from robotrl.spec.shipped import find_shipped

RECORDING, TRUTH, SUMMARY, METRICS = "run.mcap", "truth.npz", "summary.json", "metrics.jsonl"
TRAINING = "training"
"""Folder of the training run inside a demo's."""


@dataclass(frozen=True)
class Run:
    """Everything that a run's folder holds."""

    flight: Flight
    robot: RobotSpec
    truth: Truth | None
    training: tuple[dict[str, float], ...]
    """Lines of metrics.jsonl."""
    events: tuple[Event, ...]
    """Of the loop and of the emulator, in order of time."""
    about: tuple[tuple[str, str], ...]
    """Where robot and policy come from, as rows of a table."""


def recording_in(place: Path) -> Path:
    """Return the recording that is meant by a run's folder, or by itself."""
    return place / RECORDING if place.is_dir() else place


def read_run(place: Path, robot: str = "") -> Run:
    """Read a run's folder.

    Args:
        place: holds at least run.mcap; or a recording, with the other files beside it.
        robot: name or path of the robot; by default the shipped one whose name the recording bears.

    Raises:
        RecordingError: a file is missing, damaged, or of another robot.
        BadInputError: no such robot.
    """
    file = recording_in(place)
    recording, folder = read_recording(file), file.parent
    spec = load_robot(find_shipped("hardware", robot or _robot_name(recording, file)))
    flight = flight_of(recording, spec)
    summary = _json(folder / SUMMARY)
    reported = [Event(**event) for event in summary.get("events", [])]
    contract = json.loads(recording.attachments.get(CONTRACT_NAME, b"{}"))
    return Run(
        flight,
        spec,
        read_truth(folder / TRUTH) if (folder / TRUTH).is_file() else None,
        tuple(_metrics(folder, summary)),
        tuple(sorted([*flight.events, *reported], key=lambda event: event.stamp_s)),
        tuple(_about(spec, contract, summary)),
    )


def _robot_name(recording: Recording, file: Path) -> str:
    try:
        return str(tomllib.loads(recording.attachments[ROBOT_NAME].decode())["name"])
    except (KeyError, ValueError) as error:
        raise RecordingError("does not say which robot it is of", file=file, allowed="--robot") from error


def _json(file: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is no file."""
    if not file.is_file():
        return {}
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RecordingError(f"is not valid JSON ({error})", file=file) from error
    return content


def _metrics(folder: Path, summary: dict[str, Any]) -> Iterator[dict[str, float]]:
    """The training log of this run, or the one that lies beside its policy."""
    candidates = [folder / TRAINING / METRICS, folder / METRICS]
    if policy := summary.get("policy"):
        candidates.append(find_shipped("policies", policy).parent / METRICS)
    for file in candidates:
        if file.is_file():
            yield from (json.loads(line) for line in file.read_text(encoding="utf-8").splitlines())
            return


def _about(robot: RobotSpec, contract: dict[str, Any], summary: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "robot", f"{robot.name}: {len(robot.joint)} joints at {robot.control.rate_hz:g} Hz"
    if policy := summary.get("policy"):
        yield "policy", str(policy)
    provenance = contract.get("provenance", {})
    if "steps" in provenance:
        yield "trained", f"{provenance['steps'] / 1e6:.2f} million control steps, seed {provenance['seed']}"
    if commit := provenance.get("git_commit"):
        yield "code", str(commit)
    for name, score in provenance.get("scores", {}).items():
        yield f"score {name}", f"{score:.4g}"
    if versions := provenance.get("versions"):
        yield "versions", ", ".join(f"{name} {version}" for name, version in versions.items())
