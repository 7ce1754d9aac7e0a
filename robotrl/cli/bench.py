"""`robotrl bench`: the measurements behind the README's numbers."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from robotrl.cli.figures import machine, print_figures
from robotrl.errors import BadInputError

WARM_UP_S = 20.0
"""Training before `bench train` measures, so that it measures walking robots."""

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Bench:
    """Measure a part of robotrl against its ceiling on this machine.

    Example: robotrl bench train --json
    """

    what: tyro.conf.Positional[
        Literal[
            "sim",
            "train",
            "learn",
            "deploy",
            "finetune",
            "fuzz",
            "bus",
            "soak",
            "loop",
            "safe",
            "stall",
            "gate",
            "hindsight",
            "table",
        ]
    ]
    """sim: whole environment steps against raw physics stepping, and against Gymnasium; 15 minutes.
    train: PPO end to end against raw physics stepping of the same model.
    learn: the run from zero with three seeds, each evaluated; about six minutes. Or, with one of its
    flags, hours of training runs, which are kept: the same command goes on where it was stopped.
    deploy: a policy through runtime, gate and emulated robot on the wall clock, for 2.5 minutes.
    finetune: rough ground from the flat policy and from nothing, three seeds, kept in
    runs/finetune; about 40 minutes.
    fuzz: every parser of the drivers under a million random and damaged byte streams; two minutes.
    bus: the servo driver against emulated buses: time on the wire, and ROBOTIS's own SDK; half a minute.
    soak: the servo driver at 200 Hz on a bus that damages 1 % of the packets: stalls, leaks; an hour.
    loop: the control loop at 200 and 500 Hz on the wall clock, and one that sleeps relatively; five minutes.
    safe: every fault of the emulator in every mode, until the servos' registers are safe; two minutes.
    stall: the control loop killed, stopped or hung on the wall clock, until the servos are limp; two minutes.
    gate: every robot's safety gate under ten million random ticks, and what a call costs; forty minutes.
    hindsight: drawing and relabelling a batch as a share of the update it is for; one minute.
    table: nothing is measured; prints the README's tables from the kept results."""
    config: str = "quad12_walk_ppo"
    """A run's TOML, for `train` and `learn`."""
    policy: str = "quad12_walk"
    """A policy, for `deploy` and `safe`."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where `sim` and `learn --goals` run: CPU threads, or a GPU with MuJoCo Warp."""
    threads: int = 2
    """Physics threads, for `sim`; cores of either side, for `learn --speed`."""
    returns: bool = False
    """`learn`: final returns of every algorithm on the classic tasks, next to the published ones."""
    ablation: bool = False
    """`learn`: PPO's surrogates on seven tasks, as in the paper's table 1."""
    goals: bool = False
    """`learn`: success on Fetch and Shadow Hand with hindsight, judged in the original environments too."""
    speed: bool = False
    """`learn`: steps and updates per second of PPO, SAC and TD3 next to Stable-Baselines3's; six minutes."""
    time: bool = False
    """`learn`: seconds of PPO on two cores until a return is reached; for an otherwise idle machine."""
    folder: Path | None = None
    """Where the runs of such a flag, or of `finetune`, are kept; by default runs/<flag>, of a GPU
    runs/<flag>_cuda."""
    minutes: float = 60.0
    """How long `soak` takes."""
    seconds: float = 60.0
    """How long each of the loops of `loop` walks."""
    ticks: int = 10_000_000
    """How many `gate` draws."""
    jobs: int | None = None
    """Runs of such a flag at once, by default 2, on a GPU 1, always one for --time; 0 trains nothing and
    tells of what is there. Processes of `gate`, by default 1."""
    seeds: int | None = None
    """Of each run of such a flag, or of `finetune`, instead of its own number."""
    only: tuple[str, ...] = ()
    """--returns and --goals: train only what begins so, as ppo/HalfCheetah-v5; tell of all that is there."""
    plot: Path | None = None
    """--returns, --ablation, --goals and `safe`: draw the figures into this PNG too."""
    json: bool = False
    """Print the figures as JSON."""

    def run(self) -> int:
        """Measure and print."""
        if part := self._part():
            return self._run_part(part)
        if self.what == "table":
            print(_readme_tables())
            return 0
        if self.what == "safe":
            return self._run_safe()
        with tempfile.TemporaryDirectory() as scratch:
            measure: dict[str, Callable[[Path], dict[str, Any]]] = {
                "sim": self._sim,
                "train": self._train,
                "learn": self._learn,
                "deploy": self._deploy,
                "finetune": self._finetune,
                "fuzz": self._fuzz,
                "bus": self._bus,
                "soak": self._soak,
                "loop": self._loop,
                "stall": self._stall,
                "hindsight": self._hindsight,
                "gate": self._gate,
            }
            figures = measure[self.what](Path(scratch))
        subject = {
            "deploy": self.policy,
            "fuzz": "parsers",
            "bus": "servo driver",
            "soak": "servo driver",
            "loop": "quad12_walk",
            "stall": "quad12_walk",
            "hindsight": "replay",
            "gate": "every robot",
        }.get(self.what, self.config)
        if self.speed:
            subject = "HalfCheetah-v5 against stable-baselines3"
        report = {"bench": self.what, "of": subject, "machine": machine(), "figures": figures}
        if self.json:
            print(json.dumps(report, indent=2))
        else:
            print_figures(f"bench {self.what} {subject}", figures)
        return 0

    def _part(self) -> str | None:
        """The flag of `learn` that is set, if one is.

        Raises:
            BadInputError: flags or options that do not go together.
        """
        flags = [name for name in ("returns", "ablation", "goals", "time", "speed") if getattr(self, name)]
        if flags and self.what != "learn":
            raise BadInputError(f"is a flag of `learn`, not of `{self.what}`", key=f"--{flags[0]}")
        if len(flags) > 1:
            raise BadInputError("are given together", key=" ".join(f"--{f}" for f in flags), allowed="one")
        part = flags[0] if flags and not self.speed else None  # which keeps no runs
        wanted = {
            "only": ("returns", "goals"),
            "plot": ("returns", "ablation", "goals", "safe"),
            "seeds": ("returns", "ablation", "goals", "time", "finetune"),
            "folder": ("returns", "ablation", "goals", "time", "finetune"),
        }
        for option, fitting in wanted.items():
            if getattr(self, option) and (part or self.what) not in fitting:
                allowed = ", ".join(name if name in ("safe", "finetune") else f"--{name}" for name in fitting)
                raise BadInputError("is not an option of this", key=f"--{option}", allowed=f"with {allowed}")
        if self.device != "cpu" and (part or self.what) not in ("goals", "sim"):
            raise BadInputError(
                "is not for this", key="--device", value=self.device, allowed="with sim and --goals"
            )
        for option, least in (("jobs", 1 if self.what == "gate" else 0), ("seeds", 1), ("ticks", 1)):
            if (value := getattr(self, option)) is not None and value < least:
                raise BadInputError("is too few", key=f"--{option}", value=value, allowed=f"{least} or more")
        return part

    def _run_part(self, name: str) -> int:
        """Train what is missing of a part of `learn`; print and draw what its folder holds."""
        from rich.console import Console

        from robotrl.bench.parts import PARTS, Ask
        from robotrl.bench.progress import progress

        part = PARTS[name]
        on_gpu = self.device == "cuda"
        folder = self.folder or part.folder.with_name(part.folder.name + "_cuda" * on_gpu)
        jobs = (1 if on_gpu else 2) if self.jobs is None else self.jobs
        ask = Ask(folder, jobs, self.seeds, self.only, self.device)
        try:
            with progress() as tell:
                figures = part.measure(ask, tell)
        except KeyboardInterrupt:
            print("the same command goes on; with --jobs 0 it tells of what is there", file=sys.stderr)
            raise
        if self.plot and part.draw:
            part.draw(figures, self.plot)
        if self.json:
            report = {"bench": f"learn --{name}", "machine": machine(), "figures": figures}
            print(json.dumps(report, indent=2))
        else:
            for table in part.tables(figures):
                Console().print(table)
        return 0

    def _run_safe(self) -> int:
        """Measure, print and draw; 1 where something was late."""
        from rich.console import Console

        from robotrl.bench.safe import bench_safe
        from robotrl.bench.safe_table import draw_safe, safe_tables
        from robotrl.spec.shipped import find_shipped

        figures = bench_safe(find_shipped("policies", self.policy), Console(stderr=True).print)
        if self.plot:
            draw_safe(figures, self.plot)
        if self.json:
            report = {"bench": "safe", "of": self.policy, "machine": machine(), "figures": figures}
            print(json.dumps(report, indent=2))
        else:
            for table in safe_tables(figures):
                Console().print(table)
        return 1 if figures["late"] else 0

    def _sim(self, _scratch: Path) -> dict[str, Any]:
        from rich.console import Console

        report = Console(stderr=True).print
        if self.device == "cuda":
            from robotrl.bench.sim_warp import WORLDS, bench_warp

            return bench_warp(self.device, WORLDS, report)
        from robotrl.bench.sim import bench_native

        return bench_native(self.threads, report)

    def _train(self, scratch: Path) -> dict[str, float]:
        from robotrl.bench.train import bench_training
        from robotrl.cli.train import Train

        folder = scratch / "run"
        Train(config=self.config, out=folder, seconds=WARM_UP_S).train(quiet=self.json)
        return bench_training(folder)

    def _learn(self, scratch: Path) -> dict[str, float]:
        """Train and evaluate each seed; `train_wall_s` is the whole command less the evaluation."""
        if self.speed:
            return self._learn_speed(scratch)
        from robotrl.bench.evaluate import evaluate_run
        from robotrl.cli.runfile import load_run
        from robotrl.cli.train import Train

        figures = {}
        for seed in SEEDS:
            folder = scratch / f"seed{seed}"
            started = time.perf_counter()
            Train(config=self.config, out=folder, seed=seed).train(quiet=self.json)
            figures[f"seed{seed}_train_wall_s"] = time.perf_counter() - started
            figures[f"seed{seed}_steps"] = float(load_run(folder).steps)
            figures |= {f"seed{seed}_{name}": value for name, value in evaluate_run(folder).items()}
        return figures

    def _finetune(self, _scratch: Path) -> dict[str, Any]:
        from robotrl.bench.finetune import STEPS, bench_finetune

        seeds, folder = range(self.seeds or len(SEEDS)), self.folder or Path("runs/finetune")
        return bench_finetune(STEPS, seeds, folder, lambda line: print(line, file=sys.stderr))

    def _learn_speed(self, scratch: Path) -> dict[str, float]:
        from rich.console import Console

        from robotrl.bench.learn_speed import bench_learn_speed

        return bench_learn_speed(self.threads, scratch, Console(stderr=True).print)

    def _deploy(self, scratch: Path) -> dict[str, float]:
        from robotrl.bench.deploy import bench_deploy
        from robotrl.spec.shipped import find_shipped

        return bench_deploy(find_shipped("policies", self.policy), scratch, seed=0)

    def _fuzz(self, _scratch: Path) -> dict[str, Any]:
        from rich.console import Console

        from robotrl.bench.fuzz import SEED, STREAMS_BY_COMMAND, fuzz

        return fuzz(STREAMS_BY_COMMAND, SEED, Console(stderr=True).print)

    def _hindsight(self, _scratch: Path) -> dict[str, Any]:
        from rich.console import Console

        from robotrl.bench.hindsight import bench_hindsight

        return bench_hindsight(Console(stderr=True).print)

    def _gate(self, _scratch: Path) -> dict[str, Any]:
        from robotrl.bench.gate import SEED, bench_gate

        return bench_gate(self.ticks, SEED, self.jobs or 1)

    def _soak(self, _scratch: Path) -> dict[str, Any]:
        from rich.console import Console

        from robotrl.bench.soak import bench_soak

        return bench_soak(self.minutes, Console(stderr=True).print)

    def _stall(self, _scratch: Path) -> dict[str, Any]:
        from rich.console import Console

        from robotrl.bench.stall import bench_stall

        return bench_stall(Console(stderr=True).print)

    def _loop(self, _scratch: Path) -> dict[str, Any]:
        from rich.console import Console

        from robotrl.bench.loop import bench_loop

        return bench_loop(self.seconds, Console(stderr=True).print)

    def _bus(self, _scratch: Path) -> dict[str, Any]:
        from robotrl.bench.bus import codec_us
        from robotrl.bench.bus_cycle import sdk_figures, wire_figures

        wire = wire_figures()
        ratio = {"wire_ratio": wire.pop("wire_ratio"), "codec_us": codec_us()}
        return ratio | sdk_figures() | wire


def _readme_tables() -> str:
    from robotrl.bench.policy_table import policies_table
    from robotrl.bench.table import figures_table, goals_table, returns_table, safe_table
    from robotrl.spec.shipped import find_shipped

    kept = Path("benchmarks")
    tables = (
        figures_table(kept, find_shipped("policies", "quad12_walk")),
        returns_table(kept),
        goals_table(kept),
        safe_table(kept),
        policies_table(Path("policies")),
    )
    return "\n\n".join(tables)
