"""`robotrl replay`: feed a recording through gate and policy again and compare bit for bit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

if TYPE_CHECKING:
    from robotrl.runtime.recording import Recording
    from robotrl.spec.robot import RobotSpec


@dataclass(frozen=True)
class Replay:
    """Feed a recording through the gate, and the policy if given, and show the first difference.

    Example: robotrl replay run.mcap --policy quad12_walk
    """

    recording: tyro.conf.Positional[Path]
    """Recording (MCAP), with or without its end."""
    policy: str = ""
    """Policy file or its folder, or the name of a shipped policy: compare its targets too."""
    robot: str = ""
    """Another robot.toml than the recorded one: what would its limits have changed?"""
    json: bool = False
    """Print the result as JSON."""

    def run(self) -> int:
        """Replay; 1 where something differs."""
        import dataclasses
        import json

        from robotrl.runtime.policy import Policy
        from robotrl.runtime.recording import read_recording
        from robotrl.runtime.replay import replay
        from robotrl.spec.gate import GateLimits
        from robotrl.spec.shipped import find_shipped

        recording = read_recording(self.recording)
        robot = self._robot(recording)
        policy = Policy.load(find_shipped("policies", self.policy)) if self.policy else None
        difference = replay(recording, GateLimits.of(robot), policy)
        if self.json:
            found = dataclasses.asdict(difference) if difference else None
            print(json.dumps({"ticks": recording.ticks, "complete": recording.complete, "difference": found}))
        else:
            end = "" if recording.complete else ", recording breaks off"
            result = str(difference) if difference else "every answer is the recorded one, bit for bit"
            print(f"{recording.ticks} ticks{end}: {result}")
        return 1 if difference else 0

    def _robot(self, recording: Recording) -> RobotSpec:
        """The robot that was asked for, or the one inside the recording."""
        import tempfile

        from robotrl.errors import RecordingError
        from robotrl.runtime.recording import ROBOT_NAME
        from robotrl.spec.robot import load_robot
        from robotrl.spec.shipped import find_shipped

        if self.robot:
            return load_robot(find_shipped("hardware", self.robot))
        if ROBOT_NAME not in recording.attachments:
            raise RecordingError(f"holds no {ROBOT_NAME}; name one with --robot", file=self.recording)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / ROBOT_NAME
            file.write_bytes(recording.attachments[ROBOT_NAME])
            return load_robot(file)
