"""Laws of the channel table."""

from __future__ import annotations

import pytest

from robotrl.spec.channels import CHANNELS, JOINTS, Channel, Source


@pytest.mark.parametrize("name", CHANNELS)
def test_every_channel_is_found_by_its_own_name_and_says_unit_and_frame(name: str) -> None:
    channel = CHANNELS[name]
    assert channel.name == name
    assert channel.unit
    assert channel.frame


@pytest.mark.parametrize("name", CHANNELS)
def test_only_joint_channels_grow_with_the_robot(name: str) -> None:
    channel = CHANNELS[name]
    grows = channel.size(24) > channel.size(12)
    assert grows == (channel.source is Source.JOINTS)


def test_size_is_the_product_of_the_shape() -> None:
    assert Channel("history", (5, JOINTS), "rad", "joint", Source.JOINTS).size(12) == 60


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        CHANNELS["joint_pos"] = CHANNELS["imu_quat"]  # type: ignore[index]
