"""Rows of the README's table of figures that tell how quickly and how well is learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from robotrl.bench.finetune import STARTS

Row = tuple[str, str, str]
"""What, measured, printed by which command."""
MINUTE_S = 60


def training_rows(f: dict[str, float]) -> list[Row]:
    """Of `robotrl bench train`."""
    rates = f"{thousands(f['train_steps_per_s'])} of {thousands(f['raw_steps_per_s'])} steps/s"
    what = "PPO end to end against raw `Batch.step`, same model, states, substeps, threads"
    return [(what, f"{f['ratio']:.2f} ({rates})", "robotrl bench train")]


def learning_rows(f: dict[str, float]) -> list[Row]:
    """Of `robotrl bench learn`."""
    seeds = sorted({name.partition("_")[0] for name in f})

    def worst(name: str) -> float:
        return max(f[f"{seed}_{name}"] for seed in seeds)

    what = f"from zero in {worst('train_wall_s'):.0f} s, worst of {len(seeds)} seeds, randomised robots"
    survived = min(f[f"{seed}_survived_share"] for seed in seeds)
    speed = f"{worst('error_vx_m_s'):.3f} / {worst('error_vy_m_s'):.3f} m/s"
    measured = f"{speed}, {worst('error_wz_rad_s'):.2f} rad/s, {survived:.1%} survived"
    return [(what, measured, "robotrl bench learn")]


def time_rows(f: dict[str, Any]) -> list[Row]:
    """Of `robotrl bench learn --time`."""

    def row(goal: dict[str, Any]) -> Row:
        what = f"PPO on two cores until {goal['task']} returns {goal['at_least']:,.0f}"
        median = "never" if goal["median_s"] is None else f"{goal['median_s']:.0f} s"
        reached = f"{goal['reached']} of {goal['runs']} seeds get there"
        physics = f"physics is {goal['share_physics']:.0%} of the time"
        return f"{what}, median", f"{median}; {reached}; {physics}", "robotrl bench learn --time"

    return [row(goal) for goal in f["goals"]]


def speed_rows(f: dict[str, float]) -> list[Row]:
    """Of `robotrl bench learn --speed`."""

    def row(what: str, name: str, unit: str) -> Row:
        rates = f"{thousands(f[f'{name}_per_s'])} against {thousands(f[f'{name}_per_s_stable_baselines3'])}"
        return what, f"{f[f'{name}_ratio']:.2f} times ({rates} {unit})", "robotrl bench learn --speed"

    return [
        row(
            "PPO end to end against Stable-Baselines3, HalfCheetah-v5, same network and batch",
            "ppo",
            "steps/s",
        ),
        row("SAC updates against Stable-Baselines3, 256-256, batch 256", "sac_update", "updates/s"),
        row("TD3 updates against Stable-Baselines3, 256-256, batch 256", "td3_update", "updates/s"),
    ]


def ablation_rows(f: dict[str, Any]) -> list[Row]:
    """Of `robotrl bench learn --ablation`."""
    arms = sorted(f["arms"], key=lambda arm: -arm["score"])
    scores = "; ".join(f"{arm['label']}: {arm['score']:.2f} ({arm['paper']:.2f})" for arm in arms)
    what = f"PPO's surrogates on {len(f['tasks'])} tasks, random policy 0, best run 1 (the paper's scores)"
    return [(what, scores, "robotrl bench learn --ablation")]


def finetune_rows(f: dict[str, Any]) -> list[Row]:
    """Of `robotrl bench finetune`: the hardest ground that both starts reach, or else the easiest."""
    levels = [one for one in f["reached"] if one["figure"] == "level"]
    both = [one for one in levels if not any(isinstance(one[start], str) for start in STARTS)]
    mark = (both or levels[:1])[-1]
    counts = " against ".join(f"{_million(mark[start])} {start}" for start in reversed([*STARTS]))
    what = f"rough ground until level {mark['mark']:.0f} of the curriculum, million steps, median seed"
    return [(what, counts, "robotrl bench finetune")]


def _million(steps: float | str) -> str:
    return steps if isinstance(steps, str) else f"{steps / 1e6:.1f}"


def hindsight_rows(f: dict[str, list[dict[str, Any]]]) -> list[Row]:
    """Of `robotrl bench hindsight`."""
    each = ", ".join(f"{one['share']:.1%} ({one['config']})" for one in f["hindsight"])
    batch = f["hindsight"][0]["batch"]
    what = f"drawing and relabelling {batch:,} steps for hindsight, share of the update's CPU time"
    return [(what, each, "robotrl bench hindsight")]


def thousands(value: float) -> str:
    """Count whole things, of many the thousands."""
    return f"{value:,.0f}" if value < 10_000 else f"{value / 1000:,.0f}k"  # noqa: PLR2004


def wanted(entry: Mapping[str, Any]) -> str:
    """What a task's runs should reach, in words."""
    seconds = entry["within_s"]
    if seconds is None:
        return f"{entry['target']:.0%}"
    time = f"{seconds / MINUTE_S:.0f} min" if seconds >= MINUTE_S else f"{seconds:.0f} s"
    return f"{entry['target']:.0%} in {time}"
