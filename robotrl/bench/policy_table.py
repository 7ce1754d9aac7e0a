"""The README's table of the shipped policies: what each does in training, and when it is deployed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from robotrl.bench.in_original import RATIO, TRAINING
from robotrl.bench.table import markdown
from robotrl.errors import BadInputError
from robotrl.export.measured import read_measured
from robotrl.spec.contract import read_policy_file

BEGIN_POLICIES, END_POLICIES = "<!-- policies: `robotrl bench table` -->", "<!-- end of policies -->"
"""Lines of the README between which the table stands."""

COLUMNS = ("policy", "drives", "figure", "in training", "deployed", "ratio", "printed by")


def policies_table(folder: Path) -> str:
    """Build the Markdown table, a row for each policy.

    Args:
        folder: of the policies, each in a folder of its own.

    Raises:
        BadInputError: a policy was not measured where it is deployed.
    """
    return markdown(COLUMNS, [_row(file) for file in sorted(folder.glob("*/policy.onnx"))])


def _row(file: Path) -> tuple[str, ...]:
    _, contract, sha256 = read_policy_file(file)
    measured, name = read_measured(file, sha256), file.parent.name
    if figures := measured.through_runtime:
        option = "--through runtime"
    elif figures := measured.in_original:
        option = "--original"
    else:
        raise BadInputError("was not measured", file=file, allowed="`robotrl eval` with --card")
    return (
        f"`{name}`",
        f"{contract.robot} at {contract.rate_hz:g} Hz",
        *_figures(figures),
        f"{figures[RATIO]:.3f}",
        f"`robotrl eval {name} {option}`",
    )


def _figures(figures: Mapping[str, float]) -> tuple[str, str, str]:
    """What counts, in training and deployed."""
    if "success_last" in figures:
        shares = (figures[f"{prefix}success_last"] for prefix in (TRAINING, ""))
        trained, deployed = (f"{share:.1%}" for share in shares)
        return f"success, {figures['episodes']:.0f} episodes", trained, deployed
    trained, deployed = (f"{figures[f'{prefix}return_mean']:,.1f}" for prefix in (TRAINING, ""))
    return f"return, {figures['episodes']:.0f} episodes", trained, deployed
