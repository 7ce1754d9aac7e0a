"""A policy through runtime, gate, driver and emulator on the wall clock: errors, starts, deadlines."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from robotrl.bench.emulated import EmulatedRobot
from robotrl.bench.facts import facts_of
from robotrl.bench.flight import Flight, Truth
from robotrl.bench.folder import RECORDING, SUMMARY, TRUTH, Run, read_run
from robotrl.errors import RobotrlError
from robotrl.runtime.policy import Policy

WALK_S, TRIES = 60.0, 20
STAND_S, REST_S, TRY_S = 3.0, 1.5, 2.5
"""Time to stand up, then of each try: at rest, and walking."""

STARTED_SHARE = 0.5
"""A try counts as started when its second half reaches this share of the commanded velocity."""


def bench_deploy(policy: Path, folder: Path, seed: int) -> dict[str, float]:
    """Walk for a minute with random commands, then start from rest again and again.

    Args:
        policy: policy file.
        folder: where script, recording and truth go.
        seed: of the commands.

    Returns:
        Velocity errors, gate and deadline figures of the minute, and the tries that started.

    Raises:
        RobotrlError: the run ended early.
    """
    contract = Policy.load(policy).contract
    low, high = np.array(contract.command_low), np.array(contract.command_high)
    steps, tries = _steps(low, high, np.random.default_rng(seed))
    script = folder / "script.toml"
    script.write_text("\n".join(["step = [", *steps, "]", ""]))
    _drive(policy, contract.robot, script, folder)
    run = read_run(folder)
    if run.truth is None:
        raise RobotrlError("the emulator left no truth")
    facts = facts_of(run)
    started = sum(_started(run.flight, run.truth, at_s, velocity) for at_s, velocity in tries)
    if facts.walk is None:
        raise RobotrlError("the robot never walked")
    return {
        "error_vx_m_s": facts.walk.error_vx_m_s,
        "error_vy_m_s": facts.walk.error_vy_m_s,
        "error_wz_rad_s": facts.walk.error_wz_rad_s,
        "swing_height_m": facts.walk.swing_clearance_mm / 1e3,
        "knee_contact_s": facts.walk.knee_contact_s,
        "trunk_contact_s": facts.walk.trunk_contact_s,
        "gate_limiting_share": facts.loop.limiting_percent / 100,
        "stale_ticks": float(np.count_nonzero(run.flight.joint_age_s > 0)),
        "ticks": float(facts.loop.ticks),
        "missed_deadlines": float(facts.loop.missed_deadlines),
        "tick_p50_ms": facts.loop.tick_p50_ms,
        "tick_p99_ms": facts.loop.tick_p99_ms,
        "tick_max_ms": facts.loop.tick_max_ms,
        "starts_from_rest": float(started),
        "start_tries": float(len(tries)),
        "completed": float(_completed(run)),
    }


def _steps(
    low: np.ndarray, high: np.ndarray, random: np.random.Generator
) -> tuple[list[str], list[tuple[float, np.ndarray]]]:
    """Lines of the script, and when each try starts with which velocity."""
    lines = ['  { at_s = 0.0, mode = "stand" },', f'  {{ at_s = {STAND_S - 0.5}, mode = "policy" }},']

    def command(at_s: float, velocity: np.ndarray) -> None:
        lines.append(f"  {{ at_s = {at_s:.3f}, velocity = {[round(float(v), 4) for v in velocity]} }},")

    at_s = STAND_S
    while at_s < STAND_S + WALK_S:
        command(at_s, random.uniform(low, high))
        at_s += random.uniform(3.0, 6.0)
    tries = []
    for _ in range(TRIES):
        velocity = random.uniform(0.5, 1.0) * np.array([high[0], 0.0, 0.0]) * random.choice((-1.0, 1.0))
        command(at_s, np.zeros(3))
        command(at_s + REST_S, velocity)
        tries.append((at_s + REST_S, velocity))
        at_s += REST_S + TRY_S
    command(at_s, np.zeros(3))
    lines.append(f'  {{ at_s = {at_s + 1:.3f}, mode = "limp" }},')
    return lines, tries


def _drive(policy: Path, robot: str, script: Path, folder: Path) -> None:
    """Let `robotrl run` drive an emulated robot of its own through the script."""
    with EmulatedRobot(robot, folder / TRUTH) as emulated:
        ports = [word for line, port in emulated.ports.items() for word in ("--port", f"{line}={port}")]
        files = ("--script", str(script), "--record", str(folder / RECORDING))
        subprocess.run(
            [
                sys.executable,
                "-m",
                "robotrl",
                "run",
                str(policy),
                *ports,
                *files,
                "--arm",
                "--realtime",
                "--json",
            ],
            stdout=subprocess.DEVNULL,
            check=False,  # 1 says that the gate stopped the robot, which `completed` reports
        )
        time.sleep(0.1)  # lets the emulator log the run's last moment
    (folder / SUMMARY).write_text(json.dumps({"policy": str(policy)}))


def _started(flight: Flight, truth: Truth, at_s: float, velocity: np.ndarray) -> bool:
    start_s = flight.start_s + at_s
    late = truth.between(start_s + TRY_S / 2, start_s + TRY_S)
    return bool(late.any()) and bool(truth.base_lin_vel_b[late, 0].mean() / velocity[0] > STARTED_SHARE)


def _completed(run: Run) -> bool:
    """Whether the gate let the robot go on to the end of the script."""
    return not {"HOLD", "DAMP", "LIMP"} & set(run.flight.level)
