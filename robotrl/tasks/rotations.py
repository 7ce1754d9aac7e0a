"""Quaternions (wxyz) and Euler angles in the conventions of the Gymnasium-Robotics tasks, batched torch.

Products and angles keep the originals' signs: a quaternion and its negative are one orientation, but
two goals. Source: `gymnasium_robotics.utils.rotations`.
"""

from __future__ import annotations

import functools
import itertools
import math

import torch
from torch import Tensor

from robotrl.tasks.goal import euler_angles


def product(p: Tensor, q: Tensor) -> Tensor:
    """Hamilton product (..., 4) of quaternions (..., 4)."""
    pw, px, py, pz = p.unbind(-1)
    qw, qx, qy, qz = q.unbind(-1)
    w = pw * qw - px * qx - py * qy - pz * qz
    x = pw * qx + px * qw + py * qz - pz * qy
    y = pw * qy + py * qw + pz * qx - px * qz
    z = pw * qz + pz * qw + px * qy - py * qx
    return torch.stack((w, x, y, z), dim=-1)


def angle_between(p: Tensor, q: Tensor) -> Tensor:
    """Angle (...) rad from 0 to 2 pi of the rotation between quaternions (..., 4), not the shorter one."""
    # The real part of p times the conjugate of q, in the order in which the product sums.
    real = p[..., 0] * q[..., 0] + p[..., 1] * q[..., 1] + p[..., 2] * q[..., 2] + p[..., 3] * q[..., 3]
    angle: Tensor = 2 * torch.acos(real.clamp(-1.0, 1.0))
    return angle


def normalised(quat: Tensor) -> Tensor:
    """Quaternions (..., 4) of length 1."""
    unit: Tensor = quat / torch.linalg.vector_norm(quat, dim=-1, keepdim=True)
    return unit


def quat_about(axis: Tensor, angle_rad: Tensor) -> Tensor:
    """Quaternions (..., 4) of rotations about axes (..., 3) of any length by angles (...)."""
    direction = axis / torch.linalg.vector_norm(axis, dim=-1, keepdim=True)
    half = angle_rad[..., None] / 2
    return torch.cat((torch.cos(half), torch.sin(half) * direction), dim=-1)


def quat_of_euler(euler_rad: Tensor) -> Tensor:
    """Quaternions (..., 4) of Euler angles (..., 3)."""
    half = euler_rad / 2
    (sx, sy, sz), (cx, cy, cz) = torch.sin(half).unbind(-1), torch.cos(half).unbind(-1)
    w = cy * cz * cx - sy * sz * sx
    x = cy * cz * sx + sy * sz * cx
    y = sy * cz * cx - cy * sz * sx
    z = cy * sz * cx + sy * cz * sx
    return torch.stack((w, x, y, z), dim=-1)


def euler_of_quat(quat: Tensor) -> Tensor:
    """Euler angles (..., 3) rad of quaternions (..., 4), which need not be normalised."""
    return euler_angles(matrix_of_quat(quat))


def matrix_of_quat(quat: Tensor) -> Tensor:
    """Rotation matrices (..., 9) of quaternions (..., 4), which need not be normalised."""
    w, x, y, z = quat.unbind(-1)
    scale = 2.0 / quat.square().sum(-1)
    sx, sy, sz = x * scale, y * scale, z * scale
    entries = (
        1.0 - (y * sy + z * sz), x * sy - w * sz, x * sz + w * sy,
        x * sy + w * sz, 1.0 - (x * sx + z * sz), y * sz - w * sx,
        x * sz - w * sy, y * sz + w * sx, 1.0 - (x * sx + y * sy),
    )  # fmt: skip
    return torch.stack(entries, dim=-1)


@functools.cache
def parallel_quats() -> Tensor:
    """The 24 orientations (24, 4), float64, of a cube whose faces lie along the axes.

    Each is the first of the triples of quarter turns that lead to it, in canonical Euler angles.
    """
    quarter = torch.tensor(list(itertools.product((0.0, 1.0, -1.0, 2.0), repeat=3)), dtype=torch.float64)
    turns = torch.round(euler_of_quat(quat_of_euler(quarter * (math.pi / 2))) / (math.pi / 2))
    half_turn = torch.tensor(2.0)  # the same either way about x and z; y never turns so far
    canonical = torch.where(turns == -half_turn, half_turn, turns)
    first = list(dict.fromkeys(map(tuple, canonical.int().tolist())))
    return quat_of_euler(torch.tensor(first, dtype=torch.float64) * (math.pi / 2))
