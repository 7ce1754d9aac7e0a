"""Two backends against each other: one step from equal states, and the distribution of a long run."""

from __future__ import annotations

import math

import numpy as np
import torch

from robotrl.sim.worlds import Worlds
from tests.sim.conformance import READ, Scene, run, told


def one_step_difference(a: Worlds, b: Worlds, scene: Scene, seed: int = 0) -> dict[str, float]:
    """Largest difference after one step of `SUBSTEPS` substeps from equal states, for everything in `READ`.

    Relative to the largest value of its field. The states lie a few steps of `a` into a drop, in
    contact with the floor.
    """
    scene.start(a, seed)
    run(a, scene.goals(a, 20))
    qpos, qvel = a.qpos, a.qvel
    for worlds in (a, b):
        told(worlds)
        everyone = torch.arange(worlds.num, device=worlds.device)
        worlds.reset(everyone, qpos.to(worlds.qpos), qvel.to(worlds.qvel))
        worlds.step(scene.goals(worlds, 1, seed=seed + 1)[0])
    result = {}
    for name in READ:
        x, y = a.data(name).double().cpu(), b.data(name).double().cpu()
        result[name] = float((x - y).abs().max() / x.abs().max().clamp_min(1.0))
    return result


def assert_one_step_agrees(a: Worlds, b: Worlds, scene: Scene, tolerance: float) -> None:
    """From equal states, one step leads both backends to the same place, within a relative tolerance."""
    difference = one_step_difference(a, b, scene)
    assert max(difference.values()) <= tolerance, difference


def distribution_gap(a: Worlds, b: Worlds, scene: Scene, steps: int = 200) -> dict[str, float]:
    """How far apart two backends' worlds are as random samples, after a contact-rich run.

    Both start in the same states and get the same goals. Single trajectories part, as contact is
    chaotic; what a learner sees must not. Compared are the time averages of each world, for each
    coordinate of qpos, qvel and actuator force and for the squares of the latter two: by Kolmogorov
    and Smirnov's statistic, and, as worlds come in pairs, by the mean difference of a pair over its
    standard error (which tells apart much smaller changes of the physics).

    Returns:
        The largest of either statistics over its limit, which one of as many features of equal
        distributions exceeds with a probability of 1e-3 (Bonferroni's bound): more than 1 is
        different physics.
    """
    x, y = (_averages(worlds, scene, steps) for worlds in (a, b))
    num, features = x.shape
    chance = 1e-3 / features
    distance = max(_kolmogorov_smirnov(p, q) for p, q in zip(x.T, y.T, strict=True))
    # A floor of 1e-4 of a feature's size: backends of different precision may differ by so much.
    error = (y - x).std(0, ddof=1) / math.sqrt(num) + 1e-4 * np.abs(x).max(0) + 1e-12
    return {
        # Kolmogorov's asymptotic law for two samples of equal size.
        "kolmogorov_smirnov": distance / math.sqrt(-math.log(chance / 2) / num),
        "paired_mean": float(np.abs((y - x).mean(0) / error).max()) / _PAIRED_LIMIT,
    }


_PAIRED_LIMIT = 5.0
"""Quantile of Student's t for 63 degrees of freedom and a two-sided chance of 1e-3 / 200."""


def assert_same_distribution(a: Worlds, b: Worlds, scene: Scene, steps: int = 200) -> None:
    """Over a contact-rich run, both backends' worlds are samples of one distribution."""
    gap = distribution_gap(a, b, scene, steps)
    assert max(gap.values()) <= 1.0, gap


def _averages(worlds: Worlds, scene: Scene, steps: int) -> np.ndarray:
    """Time averages of a run from the scene's start (B, features)."""
    scene.start(worlds)
    total = torch.zeros((), dtype=torch.float64, device=worlds.device)
    for targets in scene.goals(worlds, steps):
        worlds.step(targets)
        qpos, qvel, force = worlds.qpos.double(), worlds.qvel.double(), worlds.actuator_force.double()
        total = total + torch.cat((qpos, qvel, force, qvel.square(), force.square()), dim=1)
    assert not worlds.broken().any()
    return np.asarray((total / steps).cpu())


def _kolmogorov_smirnov(x: np.ndarray, y: np.ndarray) -> float:
    """Largest distance between the distribution functions of two samples."""
    everything = np.concatenate((x, y))
    below = [np.searchsorted(np.sort(z), everything, side="right") / len(z) for z in (x, y)]
    return float(np.abs(below[0] - below[1]).max())
