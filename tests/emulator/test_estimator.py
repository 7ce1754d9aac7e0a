"""The emulated estimator tells the truth, at its rate, behind the fixed base of the emulated hand."""

from __future__ import annotations

import dataclasses
import functools

import mujoco
import numpy as np
import pytest

from robotrl.drivers.estimator import Packet, PacketParser
from robotrl.emulator.estimator import Estimator
from robotrl.emulator.faults import FaultScript
from robotrl.emulator.machine import Machine
from robotrl.emulator.plant import STEP_S, Plant
from robotrl.errors import ConfigError
from robotrl.spec.robot import ESTIMATOR_LINE
from tests.emulator.host import quad12
from tests.shadow_hand import shadow_hand

ROBOT = shadow_hand()


@functools.cache
def machine() -> Machine:
    """One hand for all tests, which only goes on."""
    return Machine(ROBOT, FaultScript(), seed=0, log=True)


def packets(hand: Machine, duration_s: float) -> list[tuple[float, Packet]]:
    """When each packet is across the line, and what it says."""
    end_s = hand._step * STEP_S + duration_s
    hand.run_until(end_s)
    parser = PacketParser()
    return [
        (d.time_s, packet)
        for d in hand.released(end_s)
        if d.line == ESTIMATOR_LINE
        for packet in parser.feed(d.data)
    ]


def test_packets_come_at_their_rate_and_are_numbered() -> None:
    found = packets(machine(), 0.5)
    times, numbers = [time_s for time_s, _ in found], [packet.sequence for _, packet in found]
    np.testing.assert_allclose(np.diff(times), 1 / 250, atol=1e-9)
    assert len(found) == pytest.approx(125, abs=1)
    assert np.all(np.diff(numbers) % 256 == 1)


@pytest.mark.parametrize(("rate_hz", "baud_bd"), [(120, 1000000), (300, 1000000), (800, 921600)])
def test_a_rate_that_does_not_divide_the_steps_is_kept(rate_hz: int, baud_bd: int) -> None:
    """Also where a line is nearly full: packets that are late by a part of a step do not get lost."""
    assert ROBOT.estimator is not None
    sensor = dataclasses.replace(ROBOT.estimator, rate_hz=rate_hz, baud_bd=baud_bd)  # type: ignore[arg-type]
    hand = Machine(dataclasses.replace(ROBOT, estimator=sensor), FaultScript(), seed=0, log=False)
    found = packets(hand, 10.0)
    assert len(found) == pytest.approx(10 * rate_hz, abs=1)
    assert np.all(np.diff([packet.sequence for _, packet in found]) % 256 == 1)
    assert np.diff([time_s for time_s, _ in found]).max() < 1 / rate_hz + STEP_S


def test_samples_that_were_left_out_are_not_made_up_for() -> None:
    assert ROBOT.estimator is not None
    device = Estimator(dataclasses.replace(ROBOT.estimator, rate_hz=120))
    for late_s in (0.0, 0.0087, 7.0034):
        device.sample(late_s, machine().plant.estimate())
        assert late_s < device.next_sample_s <= late_s + 1 / 120
        assert device.next_sample_s * 120 == pytest.approx(round(device.next_sample_s * 120))


def test_a_packet_holds_the_angles_speeds_and_places_of_its_moment() -> None:
    hand = machine()
    assert hand._estimator is not None
    hand.plant.data.qvel[:] = 0.3  # so that a moment later everything is elsewhere
    while hand.outbox or hand._estimator.next_sample_s > hand._step * STEP_S:
        hand.run_until(hand._step * STEP_S)
        hand.released(hand._step * STEP_S)
    model, data = hand.plant.model, mujoco.MjData(hand.plant.model)
    data.qpos[:], data.qvel[:] = hand.plant.data.qpos, hand.plant.data.qvel
    mujoco.mj_forward(model, data)
    [(_, packet)] = packets(hand, 0.003)
    fingers = [data.joint(f"robot0:{finger}J0") for finger in ("FF", "MF", "RF", "LF")]
    tips = [data.site(f"robot0:S_{finger}tip").xpos for finger in ("ff", "mf", "rf", "lf", "th")]
    wanted = [j.qpos[0] for j in fingers] + [j.qvel[0] for j in fingers] + np.concatenate(tips).tolist()
    np.testing.assert_allclose(packet.values, wanted, rtol=1e-6, atol=1e-7)


def test_a_hand_on_its_mount_is_not_pushed_over() -> None:
    plant = Plant(ROBOT, seed=0)
    before = plant.data.qvel.copy()
    plant.push((5.0, 5.0))
    np.testing.assert_array_equal(plant.data.qvel, before)
    for velocity in plant.base_velocity_b():
        np.testing.assert_array_equal(velocity, np.zeros(3))


def test_it_starts_at_rest_within_its_joints_limits() -> None:
    plant = Plant(ROBOT, seed=0)
    assert abs(plant.data.qvel).max() < 0.1
    margin = ROBOT.limits.position_margin_rad
    assert (plant.joint_pos_rad() > ROBOT.position_min_rad - margin).all()
    assert (plant.joint_pos_rad() < ROBOT.position_max_rad + margin).all()


def test_the_truth_log_has_no_feet_to_tell_of() -> None:
    truth = machine().truth
    assert truth is not None
    assert len(truth) > 10


def test_an_imu_needs_a_model_that_has_one() -> None:
    with pytest.raises(ConfigError, match=r"sensor: are not what the \[imu\] of .* measures"):
        Plant(dataclasses.replace(ROBOT, imu=quad12().imu), seed=0)
