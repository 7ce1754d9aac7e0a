"""The README's table of figures, from the JSON files in `benchmarks/` and the shipped policy's scores."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from robotrl.bench.safe_table import safe_columns, safe_rows, stalled_rows
from robotrl.bench.table_learning import (
    Row,
    ablation_rows,
    finetune_rows,
    hindsight_rows,
    learning_rows,
    speed_rows,
    thousands,
    time_rows,
    training_rows,
    wanted,
)
from robotrl.errors import BadInputError
from robotrl.runtime.policy import Policy

BEGIN, END = "<!-- figures: `robotrl bench table` -->", "<!-- end of figures -->"
"""Lines of the README between which the table stands."""

BEGIN_RETURNS, END_RETURNS = "<!-- returns: `robotrl bench table` -->", "<!-- end of returns -->"
"""The same of the returns on classic tasks."""

BEGIN_GOALS, END_GOALS = "<!-- goals: `robotrl bench table` -->", "<!-- end of goals -->"
"""The same of success on tasks with goals."""

BEGIN_SAFE, END_SAFE = "<!-- safe: `robotrl bench table` -->", "<!-- end of safe -->"
"""The same of the time from a fault to a safe robot."""


def figures_table(benchmarks: Path, policy: Path) -> str:
    """Build the Markdown table.

    Args:
        benchmarks: folder of `sim.json`, `train.json`, `learn.json`, `finetune.json`, `time.json`,
            `ablation.json`, `speed.json`, `hindsight.json`, `bus.json`, `soak.json`, `fuzz.json`,
            `gate.json`, `loop.json`, `deploy.json`, `demo.json`.
        policy: the shipped policy.

    Raises:
        BadInputError: a file is missing or is not what its command prints.
    """
    rows = [
        *_simulation(_load(benchmarks / "sim.json")),
        *training_rows(_load(benchmarks / "train.json")),
        *learning_rows(_load(benchmarks / "learn.json")),
        *finetune_rows(_load(benchmarks / "finetune.json")),
        *time_rows(_load(benchmarks / "time.json")),
        *ablation_rows(_load(benchmarks / "ablation.json")),
        *speed_rows(_load(benchmarks / "speed.json")),
        *hindsight_rows(_load(benchmarks / "hindsight.json")),
        *_scores(Policy.load(policy).contract.provenance.scores),
        *_buses(_load(benchmarks / "bus.json")),
        *_soaked(_load(benchmarks / "soak.json")),
        *_parsers(_load(benchmarks / "fuzz.json")),
        *_gate(_load(benchmarks / "gate.json")),
        *_control_loop(_load(benchmarks / "loop.json")),
        *_deployment(_load(benchmarks / "deploy.json")),
        *_demo(_load(benchmarks / "demo.json")),
    ]
    cells = [(what, measured, f"`{command}`") for what, measured, command in rows]
    return markdown(("what", "measured", "printed by"), cells)


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay cells out as a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def returns_table(benchmarks: Path) -> str:
    """Build the Markdown table of `robotrl bench learn --returns`.

    Args:
        benchmarks: folder of `returns.json`.

    Raises:
        BadInputError: the file is missing or is not what its command prints.
    """
    columns = (
        "algorithm, task",
        "steps",
        "mean ± std over seeds",
        "IQM, 95 % interval",
        "lowest",
        "published",
    )
    rows = [
        (f"{one['algorithm']}, {one['task']}", f"{one['steps']:,}", *_ours(one), _published(one))
        for one in _load(benchmarks / "returns.json")["entries"]
    ]
    return markdown(columns, rows)


def goals_table(benchmarks: Path) -> str:
    """Build the Markdown table of `robotrl bench learn --goals`, a row for each task.

    Args:
        benchmarks: folder of `goals.json`.

    Raises:
        BadInputError: the file is missing or is not what its command prints.
    """
    columns = ("task", "steps", "minutes", "success, each seed", "in the original environment", "wanted")
    return markdown(columns, [_goal(one) for one in _load(benchmarks / "goals.json")["entries"]])


def safe_table(benchmarks: Path) -> str:
    """Build the Markdown table of `robotrl bench safe` and `robotrl bench stall`, a row for each fault.

    Args:
        benchmarks: folder of `safe.json` and `stall.json`.

    Raises:
        BadInputError: a file is missing or is not what its command prints.
    """
    rows = safe_rows(_load(benchmarks / "safe.json")) + stalled_rows(_load(benchmarks / "stall.json"))
    return markdown(safe_columns(), rows)


def _goal(one: dict[str, Any]) -> tuple[str, ...]:
    runs = [run for run in one["runs"] if "failure" not in run]
    return (
        one["task"],
        f"{max((run['steps'] for run in runs), default=0):,}",
        ", ".join(f"{run['seconds'] / 60:.1f}" for run in runs),
        _shares([run["success"] for run in runs]),
        _shares([run["original"] for run in runs]),
        wanted(one),
    )


def _shares(scores: list[dict[str, float]]) -> str:
    return ", ".join(f"{own['success_last']:.1%}" for own in scores) or "diverged"


def table_in(readme: str, begin: str = BEGIN, end: str = END) -> str:
    """Cut a table out of the README's text.

    Args:
        readme: the text.
        begin: line before the table.
        end: line after it.

    Raises:
        BadInputError: the README has no place for it.
    """
    _, opened, rest = readme.partition(begin + "\n")
    table, closed, _ = rest.partition("\n" + end)
    if not (opened and closed):
        raise BadInputError("has no place for the table", key="README.md", allowed=f"{begin} ... {end}")
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
        each = ", ".join(f"{s['ratio']:.3f} at {s['worlds']:,}" for s in speeds)
        best = max(speeds, key=lambda s: s["env_steps_per_s"])
        what = f"{name}: whole environment step against raw `Batch.step`, by worlds"
        size = f"{best['bytes_per_world'] / 1024:.0f} KiB a world"
        measured = f"{each}; best {thousands(best['env_steps_per_s'])} steps/s, {size}"
        rows.append((what, measured, command))
    for c in figures["gymnasium"]:
        what = f"{c['model']}: {c['worlds']} worlds on {c['threads']} threads against `AsyncVectorEnv`"
        rates = f"{thousands(c['env_steps_per_s'])} against {thousands(c['gymnasium_steps_per_s'])} steps/s"
        rows.append((what, f"{c['ratio']:.1f} times ({rates})", command))
    return rows


def _mean_and_std(mean: float, std: float | None) -> str:
    return f"{mean:,.0f}" + ("" if std is None else f" ± {std:,.0f}")


def _ours(one: dict[str, Any]) -> tuple[str, str, str]:
    """Mean and deviation, interquartile mean if two seeds or more say something of it, and lowest seed."""
    if one["mean"] is None:
        return f"{one['seeds']} diverged", "-", "-"
    interval = f"{one['iqm']:,.0f}, {one['iqm_low']:,.0f} to {one['iqm_high']:,.0f}"
    several = one["seeds"] - one["diverged"] > 1
    mean = f"{_mean_and_std(one['mean'], one['std'])} ({one['seeds']})"
    return mean, interval if several else "-", f"{one['min']:,.0f}"


def _published(one: dict[str, Any]) -> str:
    if one["published_mean"] is None:
        return "-"
    source = f"{one['published_source']}, {one['published_seeds']} seeds"
    return f"{_mean_and_std(one['published_mean'], one['published_std'])} ({source})"


def _scores(f: dict[str, float]) -> list[Row]:
    def row(what: str, prefix: str) -> Row:
        measured = (
            f"{f[prefix + 'error_vx_m_s']:.3f} / {f[prefix + 'error_vy_m_s']:.3f} m/s, "
            f"{f[prefix + 'error_wz_rad_s']:.2f} rad/s, {f[prefix + 'survived_share']:.1%} survived, "
            f"knee torque {f[prefix + 'knee_torque_rms_nm']:.2f} N m rms"
        )
        return what, measured, "robotrl eval quad12_walk"

    return [row("shipped policy, randomised robots", ""), row("shipped policy, nominal robot", "nominal_")]


def _buses(f: dict[str, Any]) -> list[Row]:
    command = "robotrl bench bus"
    rows = []
    for bus in f["buses"]:
        computed = f"{bus['wire_ms'] + bus['pauses_ms']:.2f} ms of wire, {bus['usb_ms']:.0f} ms of USB"
        what = f"{bus['bus']}: cycle against wire time and USB latency"
        rows.append((what, f"{bus['ratio']:.2f} ({bus['cycle_ms']:.2f} ms; {computed})", command))
    rates = f"{thousands(f['sdk_our_cycles_per_s'])} against {thousands(f['sdk_cycles_per_s'])}"
    return [
        *rows,
        ("encoding and decoding 12 servos", f"{f['codec_us']:.0f} us", command),
        (
            "bus cycles against `dynamixel-sdk`, wire without latency in the process; through a pty",
            f"{f['sdk_ratio']:.1f} times ({rates} a second); {f['sdk_pty_ratio']:.1f} times",
            command,
        ),
    ]


def _parsers(f: dict[str, Any]) -> list[Row]:
    intact = sum(protocol["intact"] for protocol in f["protocols"])
    what = f"{f['streams']:,} random and damaged byte streams through {len(f['protocols'])} parsers"
    return [(what, f"no failure, {intact:,} intact packets found", "robotrl bench fuzz")]


def _soaked(f: dict[str, float]) -> list[Row]:
    memory = f"memory grown by {f['resident_end_mib'] - f['resident_start_mib']:.1f} MiB"
    files = f"{f['files_end'] - f['files_start']:.0f} files left open"
    what = f"{f['ticks']:,} ticks at 200 Hz with 1 % of the packets damaged"
    stalls = (
        f"{f['missed_deadlines']:,.0f} missed, {f['stalls_over_2_periods']:.0f} stalls over two periods, "
        f"longest tick {f['tick_max_ms']:.1f} ms"
    )
    return [(what, f"{stalls}; {memory}, {files}", "robotrl bench soak")]


def _gate(f: dict[str, Any]) -> list[Row]:
    command = "robotrl bench gate"
    robots = ", ".join(one["robot"] for one in f["robots"])
    laws = f"{f['violations']} laws broken; {f['ticks_per_s']:,.0f} ticks a second"
    return [
        (f"{f['ticks']:,} random ticks through the gates of {robots}", laws, command),
        (
            "a call of the gate for 12 joints, median; for 30",
            f"{f['guard_us_12']:.0f} us; {f['guard_ratio']:.2f} times",
            command,
        ),
    ]


def _control_loop(f: dict[str, Any]) -> list[Row]:
    command, fast = "robotrl bench loop", f["at_500_hz"]

    def tick(one: dict[str, Any]) -> str:
        late, software = one["lateness_us"], one["software_us"]
        return (
            f"{one['missed']:,} of {one['ticks']:,} missed, drift {1e3 * one['drift_s']:.2f} ms, "
            f"woken {late['p99']:.0f} us late (p99), "
            f"software {software['p50']:.0f} us (p50), {software['p99']:.0f} us (p99)"
        )

    relative = f"drift {1e3 * f['relative_sleep']['drift_s']:,.0f} ms"
    return [
        ("control loop at 200 Hz, SCHED_FIFO, emulated quad12", tick(f), command),
        ("the same at 500 Hz", tick(fast), command),
        ("200 Hz with the relative sleep that others use", relative, command),
        (
            "tick p99 with recorder and live page against without",
            f"{f['observed_tick_p99_ratio']:.2f}",
            command,
        ),
    ]


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
