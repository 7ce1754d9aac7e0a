"""`robotrl bench`: the measurements behind the README's numbers."""

from __future__ import annotations

import json
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import tyro

WARM_UP_S = 20.0
"""Training before `bench train` measures, so that it measures walking robots."""

SEEDS = (0, 1, 2)

MANY = 1000
"""Figures from here on are shown without decimals."""


@dataclass(frozen=True)
class Bench:
    """Measure a part of robotrl against its ceiling on this machine.

    Example: robotrl bench train --json
    """

    what: tyro.conf.Positional[Literal["sim", "train", "learn", "deploy", "table"]]
    """sim: whole environment steps against raw physics stepping, and against Gymnasium; ten minutes.
    train: PPO end to end against raw physics stepping of the same model.
    learn: the run from zero with three seeds, each evaluated; about six minutes.
    deploy: a policy through runtime, gate and emulated robot on the wall clock, for 2.5 minutes.
    table: nothing is measured; prints the README's table from the kept results."""
    config: str = "quad12_walk_ppo"
    """A run's TOML, for `train` and `learn`."""
    policy: str = "quad12_walk"
    """A policy, for `deploy`."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where `sim` runs: CPU threads, or a GPU with MuJoCo Warp."""
    threads: int = 2
    """Physics threads, for `sim`."""
    json: bool = False
    """Print the figures as JSON."""

    def run(self) -> int:
        """Measure and print."""
        if self.what == "table":
            print(_readme_table())
            return 0
        with tempfile.TemporaryDirectory() as scratch:
            measure: dict[str, Callable[[Path], dict[str, Any]]] = {
                "sim": self._sim,
                "train": self._train,
                "learn": self._learn,
                "deploy": self._deploy,
            }
            figures = measure[self.what](Path(scratch))
        subject = self.policy if self.what == "deploy" else self.config
        report = {"bench": self.what, "of": subject, "machine": machine(), "figures": figures}
        if self.json:
            print(json.dumps(report, indent=2))
        else:
            _print_table(f"bench {self.what} {subject}", figures)
        return 0

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

    def _deploy(self, scratch: Path) -> dict[str, float]:
        from robotrl.bench.deploy import bench_deploy
        from robotrl.spec.shipped import find_shipped

        return bench_deploy(find_shipped("policies", self.policy), scratch, seed=0)


def _readme_table() -> str:
    from robotrl.bench.table import figures_table
    from robotrl.spec.shipped import find_shipped

    return figures_table(Path("benchmarks"), find_shipped("policies", "quad12_walk"))


def _print_table(title: str, figures: dict[str, Any]) -> None:
    """Print single figures as one table, and each list of records as one of its own."""
    from rich.console import Console
    from rich.table import Table

    single = Table("figure", "value", title=title, title_justify="left")
    for name, value in figures.items():
        if isinstance(value, list):
            table = Table(*value[0], title=f"{title}: {name}", title_justify="left")
            for record in value:
                table.add_row(*(_shown(entry) for entry in record.values()))
            Console().print(table)
        else:
            single.add_row(name, _shown(value))
    if single.row_count:
        Console().print(single)


def _shown(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.4g}" if value < MANY else f"{value:,.0f}"


def machine() -> dict[str, str]:
    """Name the hardware and the versions that a figure belongs to."""
    import os

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [
            line.partition(":")[2].strip()
            for line in cpuinfo.read_text().splitlines()
            if "model name" in line
        ]
        model = names[0] if names else model
    packages = {name: version(name) for name in ("mujoco", "torch", "numpy")}
    return {"cpu": model, "cores": str(os.cpu_count()), "python": platform.python_version(), **packages}
