"""`robotrl demo`: the whole line once, from training to a pulled cable, with a report at the end."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from robotrl.cli.figures import machine
from robotrl.errors import BadInputError

if TYPE_CHECKING:
    from robotrl.bench.emulated import EmulatedRobot
    from robotrl.bench.promises import Promise

ROBOT, CONFIG, POLICY = "quad12", "quad12_walk_ppo", "quad12_walk"

SUMMARY = "summary.json"
"""Marks a folder as a demo's, which the next demo may overwrite."""

SCRIPT = """\
# What the demo asks of the robot: stand, forward, sideways, turn, stop, forward; then the cable is pulled.
step = [
  { at_s = 0.0, mode = "stand" },
  { at_s = 2.5, mode = "policy" },
  { at_s = 3.0, velocity = [0.3, 0.0, 0.0] },
  { at_s = 6.5, velocity = [0.0, 0.15, 0.0] },
  { at_s = 10.0, velocity = [0.0, 0.0, 0.8] },
  { at_s = 13.5, velocity = [0.0, 0.0, 0.0] },
  { at_s = 15.0, velocity = [0.3, 0.0, 0.0] },
  { at_s = 22.0, velocity = [0.0, 0.0, 0.0], rearm = true, mode = "stand" },
  { at_s = 24.5, mode = "limp" },
]
"""

PULL_AT_S, PLUG_AT_S = 17.5, 19.5
"""After the recording has begun: in the middle of walking, and well before the script re-arms."""

AFTERWARDS_S = 0.3
"""The emulator lives on for so long after the run, so that its record covers the run's end."""

POLL_S = 0.005

GATE_STOPPED = 1
"""Exit code of `robotrl run` where the gate has stopped the robot, as it must here."""


@dataclass(frozen=True)
class Demo:
    """Train, export, check and run a walking robot; pull its cable; write a report.

    The robot is an emulated one: a process of its own behind two serial ports. Everything is done with
    commands that you can type yourself; the demo prints each before running it.

    Example: robotrl demo --quick
    """

    quick: bool = False
    """Use the policy that ships with robotrl instead of training one."""
    out: Path = Path("demo")
    """Folder for the recording, the report and, unless quick, the training run."""
    json: bool = False
    """Print the figures as JSON; everything else goes to the error output."""

    def run(self) -> int:
        """Run the whole line; 1 where something did not behave as promised."""
        with contextlib.redirect_stdout(sys.stderr if self.json else sys.stdout):
            promises = self._promises()
        if self.json:
            figures = [dataclasses.asdict(promise) for promise in promises]
            print(json.dumps({"demo": ROBOT, "machine": machine(), "figures": figures}, indent=2))
        return 0 if all(promise.kept for promise in promises) else 1

    def _promises(self) -> list[Promise]:
        from robotrl.bench.facts import facts_of
        from robotrl.bench.folder import read_run
        from robotrl.bench.promises import demo_promises

        _need("mujoco", "matplotlib", *(() if self.quick else ("torch", "onnx")))
        folder = _fresh(self.out)
        policy = POLICY if self.quick else _train(folder)
        _robotrl("check", policy, "--robot", ROBOT, "--json", quiet=True)
        _walk(folder, policy)
        _robotrl("report", str(folder))
        run = read_run(folder)
        promises = demo_promises(facts_of(run), run.robot)
        _print_table(promises)
        print(f"\nthe whole story: {folder / 'report.html'}")
        return promises


def _need(*packages: str) -> None:
    """See now, before anything is written, whether the commands will find what they import.

    Raises:
        ModuleNotFoundError: with the name of what is missing.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise ModuleNotFoundError(name=package)


def _fresh(folder: Path) -> Path:
    """Make the folder, or empty one that an earlier demo made.

    Raises:
        BadInputError: the folder holds something else.
    """
    if folder.exists() and (
        not folder.is_dir() or (any(folder.iterdir()) and not (folder / SUMMARY).is_file())
    ):
        raise BadInputError("is not the folder of an earlier demo", file=folder, allowed="a new --out")
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / SUMMARY).write_text("{}\n", encoding="utf-8")
    return folder


def _train(folder: Path) -> str:
    training, policy = folder / "training", folder / "policy.onnx"
    _robotrl("train", CONFIG, "--out", str(training))
    _robotrl("export", str(training), "-o", str(policy))
    return str(policy)


def _walk(folder: Path, policy: str) -> None:
    """Drive the emulated robot through the script; pull its bus cable on the way and plug it in again."""
    from robotrl.bench.emulated import EmulatedRobot

    script, record = folder / "walk.toml", folder / "run.mcap"
    script.write_text(SCRIPT, encoding="utf-8")
    _show("emulate", ROBOT, "--truth", str(folder / "truth.npz"))
    with EmulatedRobot(ROBOT, folder / "truth.npz") as emulated:
        ports = [word for line, port in emulated.ports.items() for word in ("--port", f"{line}={port}")]
        command = _show(
            "run", policy, *ports, "--script", str(script), "--record", str(record), "--arm", "--realtime"
        )
        with subprocess.Popen(command, stdout=sys.stdout) as running:
            _pull_cable(emulated, record, running)
            code = running.wait()
        time.sleep(AFTERWARDS_S)
    events = [{"stamp_s": event.stamp_s, "name": event.name} for event in emulated.events]
    (folder / SUMMARY).write_text(
        json.dumps({"policy": policy, "events": events}, indent=2), encoding="utf-8"
    )
    if code != GATE_STOPPED:
        raise SystemExit(code or 1)


def _pull_cable(emulated: EmulatedRobot, record: Path, running: subprocess.Popen[bytes]) -> None:
    """Wait for the recording to begin, then pull and plug at fixed times; give up if the run ends."""
    while not record.exists() and running.poll() is None:
        time.sleep(POLL_S)
    began_s = time.monotonic()
    for at_s, command in ((PULL_AT_S, "unplug legs"), (PLUG_AT_S, "plug legs")):
        while time.monotonic() < began_s + at_s:
            if running.poll() is not None:
                return
            time.sleep(POLL_S)
        print(f"{at_s:4.1f} s: {command}", flush=True)
        emulated.send(command)


def _robotrl(*arguments: str, quiet: bool = False) -> None:
    """Run one command as the user would; quiet leaves out what it prints.

    Raises:
        SystemExit: with the command's own exit code; it has said why.
    """
    stdout = subprocess.DEVNULL if quiet else sys.stdout
    if code := subprocess.run(_show(*arguments), stdout=stdout, check=False).returncode:
        raise SystemExit(code)


def _show(*arguments: str) -> list[str]:
    """Print a command as the user would type it; return it as a process is started with."""
    print(f"\n$ robotrl {' '.join(arguments)}", flush=True)
    return [sys.executable, "-m", "robotrl", *arguments]


def _print_table(promises: list[Promise]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", "measured", "at most", "", title="what happened", title_justify="left")
    for promise in promises:
        verdict = "[red]broken[/]" if not promise.kept else "[green]kept[/]" if promise.bound else ""
        table.add_row(promise.what, promise.measured, promise.bound, verdict)
    Console().print(table)
