"""`robotrl check`: what a policy file is, and everything that keeps it from driving a robot."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tyro

if TYPE_CHECKING:
    from robotrl.runtime.policy import Policy

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
    """robot.toml or its folder, or the name of a shipped robot; by default the policy's own, if any."""
    json: bool = False
    """Print the contract and the findings as JSON."""

    def run(self) -> int:
        """Print the card and the findings; 1 where there are any."""
        from robotrl.runtime.inference import time_inference, too_slow
        from robotrl.runtime.policy import Policy
        from robotrl.spec.fit import drives_no_robot
        from robotrl.spec.hardware import load_hardware
        from robotrl.spec.shipped import find_shipped

        policy = Policy.load(find_shipped("policies", self.policy))
        golden, time = _golden(policy), time_inference(policy)
        robot_file, unfit, slow = "", [], []
        if self.robot or not drives_no_robot(policy.contract):
            robot = load_hardware(find_shipped("hardware", self.robot or policy.contract.robot))
            robot_file, unfit, slow = robot.file, policy.check(robot), too_slow(time, robot)
        findings = Findings(robot_file, *golden, unfit, time.median_us, time.p99_us, slow)
        if self.json:
            _print_json(policy, findings)
        else:
            _print_tables(policy, findings)
        return 1 if findings.problems else 0


@dataclass(frozen=True)
class Findings:
    """What the check found on this computer."""

    robot_file: str
    """Empty where none was named and the policy drives none."""
    golden_error: float | None
    """Largest difference from the recorded answers, in the command's unit; None if above the tolerance."""
    golden_problem: str
    incompatibilities: list[str]
    inference_median_us: float
    inference_p99_us: float
    too_slow: list[str]

    @property
    def problems(self) -> list[str]:
        """Every reason not to run this policy on this robot and computer."""
        return self.incompatibilities + [self.golden_problem] * bool(self.golden_problem) + self.too_slow


def _golden(policy: Policy) -> tuple[float | None, str]:
    from robotrl.errors import PolicyError

    try:
        return policy.replay_golden(), ""
    except PolicyError as error:
        return None, str(error)


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
    from robotrl.spec.fit import drives_no_robot

    console = Console()
    for content in card_tables(policy.contract, policy.sha256):
        table = Table(title=content.title, title_justify="left", box=box.SIMPLE)
        for i, (head, *cells) in enumerate(zip(content.header, *content.rows, strict=True)):
            narrow = i == 0 or max(map(len, cells), default=0) <= NARROW
            table.add_column(head, overflow="fold", no_wrap=narrow)
        for row in content.rows:
            table.add_row(*row)
        console.print(table)
    median_us, p99_us = findings.inference_median_us, findings.inference_p99_us
    print(f"processor time of a step: {median_us:.0f} us median, {p99_us:.0f} us p99")
    if findings.golden_error is not None:
        unit = policy.contract.command_unit
        print(f"golden ticks: reproduced within {findings.golden_error:.1e} {unit}")
    for problem in findings.problems:
        print(f"problem: {problem}")
    verdict = f"{'must not' if findings.problems else 'may'} drive {findings.robot_file}"
    print(f"this policy {verdict if findings.robot_file else drives_no_robot(policy.contract)}")
