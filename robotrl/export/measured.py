"""What was measured of a policy file after its export: figures that lie beside it, for its card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from robotrl.errors import PolicyError
from robotrl.spec.records import read_record

NAME = "measured.json"
How = Literal["through_runtime", "in_original", "on_warp"]
"""By loop, gate, driver and emulated robot; in the environment that the task was taken from; in training's
worlds, simulated by MuJoCo Warp."""

Figures = Mapping[str, float]


@dataclass(frozen=True)
class Measured:
    """The file beside a policy."""

    sha256: str
    """Of the policy file, hexadecimal."""
    through_runtime: dict[str, float] = field(default_factory=dict)
    in_original: dict[str, float] = field(default_factory=dict)
    on_warp: dict[str, float] = field(default_factory=dict)


def read_measured(policy: Path, sha256: str) -> Measured:
    """Return what was measured of a policy file; nothing where no such file lies beside it.

    Args:
        policy: the policy file.
        sha256: its digest.

    Raises:
        PolicyError: the figures are of another policy, or unreadable.
        ConfigError: an unknown or ill-typed entry.
    """
    file = policy.with_name(NAME)
    found = _read(file) if file.exists() else Measured(sha256)
    if found.sha256 != sha256:
        raise PolicyError(
            "is of another policy", file=file, key="sha256", value=found.sha256, allowed=f"{sha256}"
        )
    return found


def _read(file: Path) -> Measured:
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PolicyError(f"cannot be read as figures: {error}", file=file) from error
    return read_record(Measured, table, file=file)


def forget_measured(policy: Path) -> None:
    """Remove the figures beside a policy file: they are of the policy that lay there before."""
    policy.with_name(NAME).unlink(missing_ok=True)


def keep_measured(policy: Path, sha256: str, how: How, figures: Figures) -> None:
    """Write figures beside a policy file, for older ones got in the same way and for those of another policy.

    Raises:
        PolicyError: what lies there cannot be read.
        ConfigError: it has an unknown or ill-typed entry.
    """
    file = policy.with_name(NAME)
    before = _read(file) if file.exists() else Measured(sha256)
    if before.sha256 != sha256:
        before = Measured(sha256)
    table = asdict(before) | {how: {name: float(f"{value:.6g}") for name, value in figures.items()}}
    file.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
