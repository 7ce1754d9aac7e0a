"""`robotrl bench`: the measurements behind the README's numbers."""

from __future__ import annotations

import json
import platform
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import tyro


@dataclass(frozen=True)
class Bench:
    """Measure a part of robotrl against its ceiling on this machine.

    Example: robotrl bench train --json
    """

    what: tyro.conf.Positional[Literal["train"]]
    """train: PPO end to end against raw physics stepping of the same model."""
    config: str = "quad12_walk_ppo"
    """A run's TOML, for `train`."""
    json: bool = False
    """Print the figures as JSON."""

    def run(self) -> int:
        """Measure and print."""
        from robotrl.bench.train import bench_training
        from robotrl.cli.train import Train

        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "run"
            Train(config=self.config, out=folder, seconds=20.0).train(quiet=self.json)
            figures = bench_training(folder)
        report = {"bench": self.what, "config": self.config, "machine": machine(), "figures": figures}
        if self.json:
            print(json.dumps(report, indent=2))
        else:
            from rich.console import Console
            from rich.table import Table

            table = Table("figure", "value", title=f"bench {self.what}", title_justify="left")
            for name, value in figures.items():
                table.add_row(name, f"{value:,.3f}" if value < 100 else f"{value:,.0f}")  # noqa: PLR2004
            Console().print(table)
        return 0


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
