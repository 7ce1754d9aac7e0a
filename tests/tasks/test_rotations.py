"""Rotations against Gymnasium-Robotics' own, sign by sign."""

from __future__ import annotations

import math

import numpy as np
import torch
from gymnasium_robotics.utils import rotations as original  # type: ignore[import-untyped, unused-ignore]
from torch import Tensor

from robotrl.tasks import rotations

F64 = torch.float64


def quats(*shape: int) -> Tensor:
    return rotations.normalised(
        torch.randn((*shape, 4), generator=torch.Generator().manual_seed(1), dtype=F64)
    )


def close(got: Tensor, expected: object) -> None:
    np.testing.assert_allclose(got.numpy(), np.asarray(expected), rtol=0, atol=1e-12)


def test_products_are_the_originals() -> None:
    p, q = quats(2, 50)
    close(rotations.product(p, q), original.quat_mul(p.numpy(), q.numpy()))


def test_angles_are_those_of_the_originals_difference_up_to_a_full_turn() -> None:
    p, q = quats(2, 50)
    difference = original.quat_mul(p.numpy(), original.quat_conjugate(q.numpy()))
    angle = rotations.angle_between(p, q)
    close(angle, 2 * np.arccos(difference[:, 0]))
    assert float(angle.max()) > math.pi
    opposite = rotations.angle_between(p, -p)
    torch.testing.assert_close(opposite, torch.full_like(angle, 2 * math.pi), rtol=0, atol=1e-7)


def test_euler_angles_go_both_ways_as_in_the_original() -> None:
    euler = 2 * torch.randn((4, 30, 3), generator=torch.Generator().manual_seed(2), dtype=F64)
    close(rotations.quat_of_euler(euler), original.euler2quat(euler.numpy()))
    q = 3 * quats(4, 30)
    close(rotations.euler_of_quat(q), original.quat2euler(q.numpy()))
    upright = torch.tensor([[math.cos(0.3), 0, math.sin(0.3), 0], [0.5, 0.5, 0.5, 0.5]], dtype=F64)
    close(rotations.euler_of_quat(upright), original.quat2euler(upright.numpy()))


def test_a_rotation_about_an_axis_leaves_it_and_turns_by_the_angle() -> None:
    axis = torch.tensor([[0.0, 0.0, 2.0], [1.0, 1.0, 0.0]], dtype=F64)
    q = rotations.quat_about(axis, torch.tensor([0.4, -3.0], dtype=F64))
    close(q[0], [math.cos(0.2), 0, 0, math.sin(0.2)])
    close(q[1], [math.cos(1.5), *(-math.sin(1.5) * math.sqrt(0.5) * np.array([1, 1, 0]))])


def test_parallel_orientations_are_the_originals_with_their_signs() -> None:
    expected = [original.euler2quat(euler) for euler in original.get_parallel_rotations()]
    close(rotations.parallel_quats(), expected)
