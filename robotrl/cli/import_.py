"""`robotrl import`: a policy of another library becomes one verified policy file with its card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Import:
    """Wrap an ONNX policy from observation to action, as rsl_rl and mjlab write it, into a policy file.

    The TOML file names the robot, the order of the joints, the terms of the observation with their scales
    and offsets, and how an action becomes joint targets. The network itself stays as it is.

    Example: robotrl import logs/policy.onnx walk.toml -o policies/walk/policy.onnx
    """

    onnx: tyro.conf.Positional[Path]
    """The foreign policy."""
    terms: tyro.conf.Positional[Path]
    """TOML file that says what it reads and moves."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("policy.onnx")
    """Policy file to write; card.md goes beside it."""
    json: bool = False
    """Print what verification measured as JSON."""

    def run(self) -> int:
        """Wrap, then write the card from the file itself."""
        from robotrl.cli.export import print_report, versions
        from robotrl.cli.outputs import check_policy_file
        from robotrl.errors import BadInputError
        from robotrl.export.card import card_of
        from robotrl.export.foreign import read_foreign
        from robotrl.export.importing import import_policy
        from robotrl.export.measured import forget_measured
        from robotrl.spec.hardware import load_hardware
        from robotrl.spec.records import read_text
        from robotrl.spec.shipped import find_shipped

        if self.out.resolve() == self.onnx.resolve():
            raise BadInputError("would overwrite the foreign policy", key="--out", value=str(self.out))
        if self.out.resolve() == self.terms.resolve():
            raise BadInputError("would overwrite its description", key="--out", value=str(self.out))
        check_policy_file(self.out)
        spec = read_foreign(read_text(self.terms), self.terms)
        robot = load_hardware(find_shipped("hardware", spec.robot))
        self.out.parent.mkdir(parents=True, exist_ok=True)
        report = import_policy(self.out, self.onnx, spec, self.terms, robot, versions())
        forget_measured(self.out)
        self.out.with_name("card.md").write_text(card_of(self.out), encoding="utf-8")
        print_report(self.out, report, as_json=self.json)
        return 0
