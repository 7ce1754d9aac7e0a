"""The README's table of figures, from the JSON files in `benchmarks/` and the shipped policy's scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from robotrl.errors import BadInputError
from robotrl.runtime.policy import Policy

BEGIN, END = "<!-- figures: `robotrl bench table` -->", "<!-- end of figures -->"
"""Lines of the README between which the table stands."""

Row = tuple[str, str, str]
"""What, measured, printed by which command."""


def figures_table(benchmarks: Path, policy: Path) -> str:
    """Build the Markdown table.

    Args:
        benchmarks: folder of `train.json`, `learn.json`, `deploy.json`, `sim.json`, `demo.json`.
        policy: the shipped policy.

    Raises:
        BadInputError: a file is missing or is not what its command prints.
    """
    rows = [
        *_simulation(_load(benchmarks / "sim.json")),
        *_training(_load(benchmarks / "train.json")),
        *_learning(_load(benchmarks / "learn.json")),
        *_scores(Policy.load(policy).contract.provenance.scores),
        *_deployment(_load(benchmarks / "deploy.json")),
        *_demo(_load(benchmarks / "demo.json")),
    ]
    lines = ["| what | measured | printed by |", "| --- | --- | --- |"]
    lines += [f"| {what} | {measured} | `{command}` |" for what, measured, command in rows]
    return "\n".join(lines)


def table_in(readme: str) -> str:
    """Cut the table out of the README's text.

    Raises:
        BadInputError: the README has no place for it.
    """
    _, begin, rest = readme.partition(BEGIN + "\n")
    table, end, _ = rest.partition("\n" + END)
    if not (begin and end):
        raise BadInputError("has no place for the table", key="README.md", allowed=f"{BEGIN} ... {END}")
    return table


def _load(file: Path) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(file.read_text(encoding="utf-8"))["figures"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadInputError(f"is not the output of a bench ({error!r})", file=file) from error


def _simulation(figures: dict[str, list[dict[str, Any]]]) -> list[Row]:
    command, rows = "robotrl bench sim", []
    for name in dict.fromkeys(speed["model"] for speed in figures["native"]):
        speeds = [speed for speed in figures["native"] if speed["model"] == name]
        each = ", ".join(f"{s['ratio']:.2f} at {s['worlds']:,}" for s in speeds)
        best = max(speeds, key=lambda s: s["env_steps_per_s"])
        what = f"{name}: whole environment step against raw `Batch.step`, by worlds"
        size = f"{best['bytes_per_world'] / 1024:.0f} KiB a world"
        measured = f"{each}; best {_thousands(best['env_steps_per_s'])} steps/s, {size}"
        rows.append((what, measured, command))
    for c in figures["gymnasium"]:
        what = f"{c['model']}: {c['worlds']} worlds on {c['threads']} threads against `AsyncVectorEnv`"
        rates = f"{_thousands(c['env_steps_per_s'])} against {_thousands(c['gymnasium_steps_per_s'])} steps/s"
        rows.append((what, f"{c['ratio']:.1f} times ({rates})", command))
    return rows


def _training(f: dict[str, float]) -> list[Row]:
    rates = f"{_thousands(f['train_steps_per_s'])} of {_thousands(f['raw_steps_per_s'])} steps/s"
    what = "PPO end to end against raw `Batch.step`, same model, states, substeps, threads"
    return [(what, f"{f['ratio']:.2f} ({rates})", "robotrl bench train")]


def _learning(f: dict[str, float]) -> list[Row]:
    seeds = sorted({name.partition("_")[0] for name in f})

    def worst(name: str) -> float:
        return max(f[f"{seed}_{name}"] for seed in seeds)

    what = f"from zero in {worst('train_wall_s'):.0f} s, worst of {len(seeds)} seeds, randomised robots"
    survived = min(f[f"{seed}_survived_share"] for seed in seeds)
    speed = f"{worst('error_vx_m_s'):.3f} / {worst('error_vy_m_s'):.3f} m/s"
    measured = f"{speed}, {worst('error_wz_rad_s'):.2f} rad/s, {survived:.1%} survived"
    return [(what, measured, "robotrl bench learn")]


def _scores(f: dict[str, float]) -> list[Row]:
    def row(what: str, prefix: str) -> Row:
        measured = (
            f"{f[prefix + 'error_vx_m_s']:.3f} / {f[prefix + 'error_vy_m_s']:.3f} m/s, "
            f"{f[prefix + 'error_wz_rad_s']:.2f} rad/s, {f[prefix + 'survived_share']:.1%} survived, "
            f"knee torque {f[prefix + 'knee_torque_rms_nm']:.2f} N m rms"
        )
        return what, measured, "robotrl eval quad12_walk"

    return [row("shipped policy, randomised robots", ""), row("shipped policy, nominal robot", "nominal_")]


def _deployment(f: dict[str, float]) -> list[Row]:
    errors = (
        f"{f['error_vx_m_s']:.3f} / {f['error_vy_m_s']:.3f} m/s, {f['error_wz_rad_s']:.2f} rad/s, "
        f"gate limiting {f['gate_limiting_share']:.1%}, swing {1e3 * f['swing_height_m']:.0f} mm"
    )
    loop = (
        f"{f['missed_deadlines']:.0f} of {f['ticks']:.0f}; "
        f"{f['starts_from_rest']:.0f} of {f['start_tries']:.0f}"
    )
    return [
        ("through runtime, gate, driver and emulator on the wall clock", errors, "robotrl bench deploy"),
        ("missed 20 ms deadlines; starts from rest", loop, "robotrl bench deploy"),
    ]


def _demo(promises: list[dict[str, Any]]) -> list[Row]:
    cable = [p for p in promises if p["what"].startswith(("cable", "plugged"))]
    measured = "; ".join(f"{p['what'].partition(': ')[2]}: {p['measured']}" for p in cable)
    return [("bus cable pulled in mid-walk and plugged in again", measured, "robotrl demo --quick --json")]


def _thousands(value: float) -> str:
    return f"{value:,.0f}" if value < 10_000 else f"{value / 1000:,.0f}k"  # noqa: PLR2004
