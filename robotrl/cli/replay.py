"""`robotrl replay`: feed a recording through gate and policy again and compare bit for bit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

if TYPE_CHECKING:
    from robotrl.runtime.interpolation import InterpolatedPolicy
    from robotrl.runtime.recording import Recording
    from robotrl.runtime.replay import Comparison
    from robotrl.spec.robot import RobotSpec


@dataclass(frozen=True)
class Replay:
    """Feed a recording through the gate, and the policy if given, and show what comes out otherwise.

    With the recorded policy and limits nothing does. Other limits or another policy show what they would
    have changed in what the robot then measured and was asked.

    Example: robotrl replay run.mcap --policy quad12_walk
    """

    recording: tyro.conf.Positional[Path]
    """Recording (MCAP), with or without its end."""
    policy: str = ""
    """Policy file or its folder, or the name of a shipped policy: ask it again, and let the gate judge its
    answers."""
    limits: str = ""
    """robot.toml or its folder, or the name of a shipped robot: its limits instead of the recorded ones."""
    json: bool = False
    """Print the result as JSON."""

    def run(self) -> int:
        """Replay; 1 where something differs, or a policy is given and was never asked."""
        from robotrl.errors import RecordingError
        from robotrl.runtime.recording import attached_robot, read_recording
        from robotrl.runtime.replay import replay
        from robotrl.spec.gate import GateLimits

        recording = read_recording(self.recording)
        recorded = attached_robot(recording, self.recording)
        limits = GateLimits.of(self._limiting(recorded))
        policy = self._policy(recorded)
        try:
            comparison = replay(recording, limits, policy)
        except RecordingError as error:
            raise RecordingError(str(error), file=self.recording) from error
        if self.json:
            _print_json(recording, comparison)
        else:
            _print_tables(recording, comparison, self.policy)
        unasked = bool(self.policy) and not comparison.asked
        return 1 if comparison.first or unasked else 0

    def _limiting(self, recorded: RobotSpec) -> RobotSpec:
        """The robot whose limits hold: the recorded one, or the same with others."""
        from robotrl.errors import ConfigError
        from robotrl.spec.robot import load_robot
        from robotrl.spec.shipped import find_shipped

        if not self.limits:
            return recorded
        robot = load_robot(find_shipped("hardware", self.limits))
        if robot.joint_names != recorded.joint_names:
            raise ConfigError(
                "are not those of the recording",
                file=robot.file,
                key="joint",
                value=list(robot.joint_names),
                allowed=recorded.joint_names,
            )
        return robot

    def _policy(self, recorded: RobotSpec) -> InterpolatedPolicy | None:
        """The policy that is asked again, at the rate at which the recorded one was."""
        from robotrl.errors import PolicyError
        from robotrl.runtime.interpolation import InterpolatedPolicy
        from robotrl.runtime.policy import Policy
        from robotrl.spec.shipped import find_shipped

        if not self.policy:
            return None
        file = find_shipped("policies", self.policy)
        policy = Policy.load(file)
        if problems := policy.check(recorded):
            raise PolicyError(f"does not fit the recorded robot: {'; '.join(problems)}", file=file)
        return InterpolatedPolicy(policy, recorded.control.ticks_per_step)


def _print_json(recording: Recording, comparison: Comparison) -> None:
    import dataclasses
    import json

    print(json.dumps({"complete": recording.complete, **dataclasses.asdict(comparison)}))


def _print_tables(recording: Recording, comparison: Comparison, policy: str) -> None:
    """Say in one line whether anything differs; where it does, print how much of what."""
    end = "" if recording.complete else ", recording breaks off"
    whose = "every answer" if comparison.asked or not policy else "every answer of the gate"
    if comparison.first is None:
        print(f"{comparison.ticks} ticks{end}: {whose} is the recorded one, bit for bit")
    else:
        print(f"{comparison.ticks} ticks{end}: {comparison.differing} differ")
        print(f"first: {comparison.first}\nlast: {comparison.last}")
        _print_counts(comparison)
    if policy:
        why = "" if comparison.asked else ": none was in charge in the recording"
        print(f"{policy} was asked {comparison.asked} times{why}")


def _print_counts(comparison: Comparison) -> None:
    from rich.console import Console
    from rich.table import Table

    kinds = Table("what differs", "ticks", title="answers", title_justify="left")
    for what, ticks in comparison.kinds.items():
        kinds.add_row(what, str(ticks))
    causes = Table("cause", "recorded alone", "replayed alone", title="why, in ticks", title_justify="left")
    for cause, counts in sorted(comparison.causes.items()):
        causes.add_row(cause, *map(str, counts))
    levels = Table("recorded", "replayed", "ticks", title="the gate's verdicts", title_justify="left")
    for recorded, row in comparison.levels.items():
        for replayed, ticks in row.items():
            levels.add_row(recorded, replayed, str(ticks))
    console = Console()
    for table in (kinds, causes, levels):
        if table.row_count:
            console.print(table)
