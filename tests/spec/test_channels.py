"""Laws of the channel table."""

from __future__ import annotations

import pytest

from robotrl.spec.channels import CHANNELS, GOAL, JOINTS, OBSERVED, PASSIVE, POINTS, Channel, Source


@pytest.mark.parametrize("name", CHANNELS)
def test_every_channel_is_found_by_its_own_name_and_says_unit_and_frame(name: str) -> None:
    channel = CHANNELS[name]
    assert channel.name == name
    assert channel.unit
    assert channel.frame


@pytest.mark.parametrize("name", CHANNELS)
def test_only_joint_channels_grow_with_the_robot(name: str) -> None:
    channel = CHANNELS[name]
    others = {PASSIVE: 4, POINTS: 5, GOAL: 15, OBSERVED: 11}
    grows = channel.shape_on(others | {JOINTS: 24}) != channel.shape_on(others | {JOINTS: 12})
    assert grows == (channel.source is Source.JOINTS)


def test_the_letters_of_a_shape_become_numbers() -> None:
    history = Channel("history", (5, JOINTS, PASSIVE), "rad", "joint", Source.JOINTS)
    assert history.shape_on({JOINTS: 12, PASSIVE: 4, POINTS: 3}) == (5, 12, 4)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("goal", (15,)), ("passive_joint_pos", (4,)), ("passive_joint_vel", (4,)), ("point_pos", (5, 3))],
)
def test_the_channels_of_goals_and_estimators_have_their_sizes(name: str, shape: tuple[int, ...]) -> None:
    assert CHANNELS[name].shape_on({JOINTS: 20, PASSIVE: 4, POINTS: 5, GOAL: 15}) == shape


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        CHANNELS["joint_pos"] = CHANNELS["imu_quat"]  # type: ignore[index]
