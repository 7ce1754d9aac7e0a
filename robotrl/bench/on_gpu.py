"""A shipped run with hindsight as a GPU takes it: many worlds, large batches, until four in five succeed."""

from __future__ import annotations

import tomllib

from robotrl.bench.runs import with_keys

WORLDS, BATCH = 512, 2048
AT_LEAST, MOST_ITERATIONS = 0.8, 100
"""Success at the last step that ends a run, and where it gives up: iterations, or the run's own steps."""


def on_gpu(text: str) -> str:
    """Return the TOML of a run on MuJoCo Warp with as many samples for each environment step.

    Args:
        text: of a run of an off-policy algorithm with an iteration of one episode.
    """
    run = tomllib.loads(text)
    name = run["algorithm"]
    table = run[name]
    iteration = WORLDS * table["steps"]
    values = {
        "steps": str(max(run["steps"], MOST_ITERATIONS * iteration)),
        "evaluate_every": str(iteration),
        "sim.worlds": str(WORLDS),
        "sim.backend": '"warp"',
        "sim.device": '"cuda"',
        "sim.threads": "1",
        f"{name}.start": str(iteration),
        f"{name}.batch": str(BATCH),
        f"{name}.bfloat16": "false",
        f"{name}.updates_per_step": repr(table["updates_per_step"] * table["batch"] / BATCH),
    }
    target = f'[target]\nfigure = "success_last"\nat_least = {AT_LEAST}'
    return f"{with_keys(text, values).rstrip()}\n\n{target}\n"
