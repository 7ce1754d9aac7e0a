"""`robotrl check`: what a policy file is, and everything that keeps it from driving a robot."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tyro

if TYPE_CHECKING:
    from robotrl.runtime.policy import Policy

TIMED_TICKS = 1000

NARROW = 14
"""Characters up to which a column of the card is never wrapped; the first one never is."""


@dataclass(frozen=True)
class Check:
    """Check a policy file against a robot: intact, compatible, computing what was trained.

    Example: robotrl check quad12_walk --robot quad12
    """

    policy: tyro.conf.Positional[str]
    """Policy file or its folder, or the name of a shipped policy."""
    robot: str = ""
    """robot.toml or its folder, or the name of a shipped robot; by default the one it was trained for."""
    json: bool = False
    """Print the contract and the findings as JSON."""

    def run(self) -> int:
        """Print the card and the findings; 1 where there are any."""
        from robotrl.runtime.policy import Policy
        from robotrl.spec.hardware import load_hardware
        from robotrl.spec.shipped import find_shipped

        policy = Policy.load(find_shipped("policies", self.policy))
        named = self.robot or policy.contract.robot
        robot = load_hardware(find_shipped("hardware", named))
        findings = Findings(robot.file, *_golden(policy), policy.check(robot), *_time_us(policy))
        if self.json:
            _print_json(policy, findings)
        else:
            _print_tables(policy, findings)
        return 1 if findings.problems else 0


@dataclass(frozen=True)
class Findings:
    """What the check found on this computer."""

    robot_file: str
    golden_error: float | None
    """Largest difference from the recorded answers, rad or m; None where it is above the tolerance."""
    golden_problem: str
    incompatibilities: list[str]
    inference_median_us: float
    inference_p99_us: float

    @property
    def problems(self) -> list[str]:
        """Every reason not to run this policy on this robot and computer."""
        return self.incompatibilities + ([self.golden_problem] if self.golden_problem else [])


def _golden(policy: Policy) -> tuple[float | None, str]:
    from robotrl.errors import PolicyError

    try:
        return policy.replay_golden(), ""
    except PolicyError as error:
        return None, str(error)


def _time_us(policy: Policy) -> tuple[float, float]:
    """Median and 99th percentile of one tick."""
    import numpy as np

    contract = policy.contract
    channels = {
        c.name: np.array(contract.golden[0].channels[c.name]).reshape(c.shape) for c in contract.channels
    }
    spent_ns = []
    for _ in range(TIMED_TICKS):
        start_ns = time.perf_counter_ns()
        policy.step(channels)
        spent_ns.append(time.perf_counter_ns() - start_ns)
    median, p99 = np.percentile(spent_ns, (50, 99)) / 1e3
    return float(median), float(p99)


def _print_json(policy: Policy, findings: Findings) -> None:
    import json

    contract = dataclasses.asdict(dataclasses.replace(policy.contract, golden=()))
    del contract["golden"]
    found = dataclasses.asdict(findings) | {"problems": findings.problems, "sha256": policy.sha256}
    print(json.dumps(found | {"contract": contract}, indent=2))


def _print_tables(policy: Policy, findings: Findings) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from robotrl.export.card import card_tables

    console = Console()
    for content in card_tables(policy.contract, policy.sha256):
        table = Table(title=content.title, title_justify="left", box=box.SIMPLE)
        for i, (head, *cells) in enumerate(zip(content.header, *content.rows, strict=True)):
            narrow = i == 0 or max(map(len, cells), default=0) <= NARROW
            table.add_column(head, overflow="fold", no_wrap=narrow)
        for row in content.rows:
            table.add_row(*row)
        console.print(table)
    print(f"one tick: {findings.inference_median_us:.0f} us median, {findings.inference_p99_us:.0f} us p99")
    if findings.golden_error is not None:
        unit = policy.contract.command_unit
        print(f"golden ticks: reproduced within {findings.golden_error:.1e} {unit}")
    for problem in findings.problems:
        print(f"problem: {problem}")
    verdict = "must not drive" if findings.problems else "may drive"
    print(f"this policy {verdict} {findings.robot_file}")
