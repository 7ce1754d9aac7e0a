"""What a backend allocates ahead: contacts and constraint rows measured on plain MuJoCo, and memory."""

from __future__ import annotations

import os
from dataclasses import dataclass

import mujoco
import numpy as np
import torch
from numpy.typing import NDArray

from robotrl.errors import ConfigError

Array = NDArray[np.float64]

MARGIN, SPARE = 1.5, 2
"""Allocated is what was measured times MARGIN, and SPARE contacts more: other motion differs."""


@dataclass(frozen=True)
class Sizes:
    """Rows to allocate for each world.

    Attributes:
        nconmax: contacts, and pairs of geoms close enough to be looked at; pooled over all worlds.
        njmax: constraint rows; no world can borrow from another.
    """

    nconmax: int
    njmax: int


def probe_sizes(
    model: mujoco.MjModel,
    qpos: Array | None = None,
    qvel: Array | None = None,
    worlds: int = 8,
    steps: int = 500,
    seed: int = 0,
) -> Sizes:
    """Measure the constraints of random and given motion, and add a margin.

    Half of the random worlds start in `qpos0`, the others thrown: turned at random, joints anywhere
    in their range. All get random controls, held for 20 steps. Rows of equality, friction and limits
    are counted in full, whether active or not, for a randomised field can switch them on; contacts
    are what was seen times `MARGIN`.

    Args:
        model: the model.
        qpos: further states to start from (k, nq), for example those of a trained gait.
        qvel: their velocities (k, nv).
        worlds: how many random starts.
        steps: physics steps from each start.
        seed: of the random motion.
    """
    random, data = np.random.default_rng(seed), mujoco.MjData(model)
    starts = [(_thrown(model, random) if i % 2 else model.qpos0, np.zeros(model.nv)) for i in range(worlds)]
    if qpos is not None and qvel is not None:
        starts += list(zip(qpos, qvel, strict=True))
    pairs = _pairs(model)
    contacts, rows = 0, 0
    for position, velocity in starts:
        mujoco.mj_resetData(model, data)
        data.qpos[:], data.qvel[:] = position, velocity
        for step in range(steps):
            if step % 20 == 0:
                data.ctrl[:] = _controls(model, random)
            mujoco.mj_step(model, data)
            contacts = max(contacts, data.ncon, _close(model, data, pairs))
            rows = max(rows, data.nefc - data.ne - data.nf - data.nl)
    contact_rows = int(np.ceil(MARGIN * rows)) + SPARE * 2 * (_largest_condim(model) - 1)
    return Sizes(int(np.ceil(MARGIN * contacts)) + SPARE, contact_rows + _standing_rows(model, data))


def check_memory(num: int, bytes_per_world: int, device: torch.device) -> None:
    """Refuse more worlds than fit into a device's free memory (on the CPU: all memory), or none.

    Raises:
        ConfigError: the number is not one that fits.
    """
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if num < 1 or num * bytes_per_world > free:
        raise ConfigError(
            f"a world takes {bytes_per_world / 1e3:.0f} kB of the {free / 1e9:.1f} GB on {device}",
            key="sim.worlds",
            value=num,
            allowed=f"1 to {free // bytes_per_world}",
        )


def _standing_rows(model: mujoco.MjModel, data: mujoco.MjData) -> int:
    """Rows that do not depend on contacts: equality, and every friction and limit there can be."""
    limits = int(model.jnt_limited.sum() + model.tendon_limited.sum())
    return int(data.ne) + int(model.nv) + int(model.ntendon) + limits


def _largest_condim(model: mujoco.MjModel) -> int:
    return int(max((3, *model.geom_condim, *model.pair_dim)))


def _thrown(model: mujoco.MjModel, random: np.random.Generator) -> Array:
    """A state with random orientations and joint positions (nq,)."""
    qpos: Array = model.qpos0.copy()
    for joint in range(model.njnt):
        first, kind = int(model.jnt_qposadr[joint]), model.jnt_type[joint]
        if kind == mujoco.mjtJoint.mjJNT_FREE:
            qpos[first + 3 : first + 7] = _turned(random)
        elif kind == mujoco.mjtJoint.mjJNT_BALL:
            qpos[first : first + 4] = _turned(random)
        elif model.jnt_limited[joint]:
            qpos[first] = random.uniform(*model.jnt_range[joint])
    return qpos


def _turned(random: np.random.Generator) -> Array:
    quat: Array = random.standard_normal(4)
    unit: Array = quat / np.linalg.norm(quat)
    return unit


def _controls(model: mujoco.MjModel, random: np.random.Generator) -> Array:
    """Controls within their range, or within +-1 where there is none (nu,)."""
    limited = model.actuator_ctrllimited[:, None].astype(bool)
    low, high = np.where(limited, model.actuator_ctrlrange, [-1.0, 1.0]).T
    drawn: Array = random.uniform(low, high)
    return drawn


def _pairs(model: mujoco.MjModel) -> NDArray[np.intp]:
    """Pairs of geoms (2, k) that may touch by their masks and do not share a body."""
    first, second = np.triu_indices(model.ngeom, 1)
    kind, affinity = model.geom_contype, model.geom_conaffinity
    meet = (kind[first] & affinity[second]) | (kind[second] & affinity[first])
    body = model.body_weldid[model.geom_bodyid]
    return np.stack((first, second))[:, (meet != 0) & (body[first] != body[second])]


def _close(model: mujoco.MjModel, data: mujoco.MjData, pairs: NDArray[np.intp]) -> int:
    """How many pairs pass the test of bounding spheres; planes, which have none, by their distance."""
    first, second = pairs
    reach = model.geom_rbound[pairs].sum(0) + model.geom_margin[pairs].sum(0)
    apart = data.geom_xpos[second] - data.geom_xpos[first]
    distance = np.linalg.norm(apart, axis=1)
    for plane, sign in ((first, 1.0), (second, -1.0)):
        flat = model.geom_type[plane] == mujoco.mjtGeom.mjGEOM_PLANE
        normal = data.geom_xmat[plane].reshape(-1, 3, 3)[:, :, 2]
        distance = np.where(flat, sign * (normal * apart).sum(1), distance)
    return int((distance < reach).sum())
