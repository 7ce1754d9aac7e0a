"""Policy files that give a simulated task's controls, at work in the worlds of training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from robotrl.bench.episodes import score_actor, score_episodes, trained_actor
from robotrl.cli.gymfile import GymJob
from robotrl.cli.simulated import OBSERVATION, simulated_name, simulated_task
from robotrl.errors import PolicyError
from robotrl.runtime.policy import Policy
from robotrl.sim.boxed import BoxTransition, UnitActions
from robotrl.spec.fit import incompatibilities

if TYPE_CHECKING:
    from robotrl.sim.build import Backend


class ControlDriver:
    """Drives every world of a simulated task with a policy file of its own: observations to controls."""

    def __init__(self, job: GymJob, env: UnitActions, file: Path) -> None:
        """Open the file once for each world.

        Args:
            job: trained it, as the file says.
            env: worlds of the job's task.
            file: the policy.

        Raises:
            PolicyError: it is not intact, or the task here is another one than it was trained on.
        """
        self._env, self._policies = env, [Policy.load(file) for _ in range(env.num)]
        task = simulated_task(job, env)
        if problems := incompatibilities(self._policies[0].contract, task):
            raise PolicyError(f"does not fit {task.name}: {'; '.join(problems)}", file=file)

    def tick(self) -> BoxTransition:
        """Move every world on by one control step."""
        observed = self._env.observation.numpy()
        controls = [p.step({OBSERVATION: row}) for p, row in zip(self._policies, observed, strict=True)]
        stepped = self._env.inner.step(torch.from_numpy(np.stack(controls)))
        for i in stepped.final_ids.tolist():
            self._policies[i].reset()
        return stepped


def score_file(job: GymJob, file: Path, threads: int = 2, backend: Backend = "native") -> dict[str, float]:
    """Score a policy file in the worlds of training; as `robotrl.bench.episodes.evaluate_episodes`.

    What the file says is done where it gives the task's controls; one that drives a robot has its network
    read out of it.

    Args:
        job: trained it.
        file: the policy.
        threads: of the physics.
        backend: as `robotrl.bench.episodes.evaluate_episodes`.

    Raises:
        PolicyError: as `ControlDriver`.
    """
    if simulated_name(job):
        return score_episodes(job, lambda env: ControlDriver(job, env, file).tick, threads, backend)
    return score_actor(job, trained_actor(job, file), threads, backend)
