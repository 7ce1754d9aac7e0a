"""Laws of the orientation filter: it finds the vertical from anywhere, follows turns, and is not fooled."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from robotrl.drivers.imu import conjugate, multiply, rotate
from robotrl.drivers.orientation import STANDARD_GRAVITY_M_S2, Attitude, Gains, advance, at_rest
from robotrl.spec.state import Floats

UP = np.array([0.0, 0.0, 1.0])
STILL = np.zeros(3)
DT_S = 0.01
NO_BIAS = Gains(integral_hz2=0.0)


def turn(axis: Floats, angle_rad: float) -> Floats:
    """Quaternion of a turn."""
    unit = axis / np.linalg.norm(axis)
    return np.array([math.cos(angle_rad / 2), *(math.sin(angle_rad / 2) * unit)])


def gravity(quat: Floats) -> Floats:
    """What a resting sensor in this orientation measures."""
    return STANDARD_GRAVITY_M_S2 * rotate(conjugate(quat), UP)


def tilt_rad(a: Floats, b: Floats) -> float:
    """Angle between the verticals of two orientations."""
    cosine = rotate(conjugate(a), UP) @ rotate(conjugate(b), UP)
    return math.acos(min(1.0, max(-1.0, float(cosine))))


def angle_rad(a: Floats, b: Floats) -> float:
    """Angle of the turn between two orientations."""
    between = multiply(conjugate(a), b)
    return 2 * math.atan2(float(np.linalg.norm(between[1:])), abs(float(between[0])))


def random_quat(rng: np.random.Generator) -> Floats:
    quat = rng.standard_normal(4)
    unit: Floats = quat / np.linalg.norm(quat)
    return unit


def settled(start: Attitude, truth: Floats, time_s: float, gains: Gains = NO_BIAS) -> Attitude:
    """The estimate after a sensor has rested for so long."""
    for _ in range(round(time_s / DT_S)):
        start = advance(start, STILL, gravity(truth), DT_S, gains)
    return start


@pytest.mark.parametrize("seed", range(8))
def test_the_first_sample_gives_the_tilt_exactly_and_heading_zero(seed: int) -> None:
    truth = random_quat(np.random.default_rng(seed))
    quat = at_rest(gravity(truth)).quat
    assert at_rest(gravity(truth)).bias_rad_s.tolist() == [0.0, 0.0, 0.0]
    assert tilt_rad(quat, truth) == pytest.approx(0.0, abs=1e-7)
    assert np.linalg.norm(quat) == pytest.approx(1.0)
    assert quat[3] == 0.0  # turned about a horizontal axis only


@pytest.mark.parametrize(("accel", "quat"), [((0, 0, 9.8), (1, 0, 0, 0)), ((0, 0, -9.8), (0, 1, 0, 0))])
def test_level_and_upside_down_are_no_special_cases(
    accel: tuple[float, ...], quat: tuple[float, ...]
) -> None:
    assert at_rest(np.array(accel)).quat.tolist() == list(quat)
    assert at_rest(np.array(accel)).bias_rad_s.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("start_deg", [10.0, 90.0, 170.0, 179.0])
def test_the_tilt_falls_as_the_paper_solves_it(start_deg: float) -> None:
    start = turn(np.array([1.0, -2.0, 0.0]), math.radians(start_deg))
    attitude = Attitude(start, STILL)
    level = np.array([1.0, 0.0, 0.0, 0.0])
    for time_s in (1.0, 2.0, 4.0):
        attitude = settled(Attitude(start, STILL), level, time_s)
        exact = 2 * math.atan(math.tan(math.radians(start_deg) / 2) * math.exp(-time_s))
        assert tilt_rad(attitude.quat, level) == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_from_any_start_the_tilt_is_within_a_degree_after_ten_seconds(seed: int) -> None:
    """ln(tan(89.5 deg) / tan(0.5 deg)) = 9.5 time constants of a second, from within a degree of opposite."""
    rng = np.random.default_rng(seed)
    truth, start = random_quat(rng), random_quat(rng)
    assert tilt_rad(settled(Attitude(start, STILL), truth, 10.0).quat, truth) < math.radians(1.0)


@pytest.mark.parametrize("axis", np.vstack([np.eye(3), -np.eye(3), [[1.0, 1.0, 1.0]]]))
def test_an_estimate_that_is_exactly_opposite_does_not_stay_so(axis: Floats) -> None:
    truth = at_rest(axis * STANDARD_GRAVITY_M_S2 / np.linalg.norm(axis)).quat
    opposite = at_rest(-gravity(truth)).quat
    assert tilt_rad(opposite, truth) == pytest.approx(math.pi)
    assert tilt_rad(settled(Attitude(opposite, STILL), truth, 12.0).quat, truth) < math.radians(1.0)


def followed(gains: Gains, bias_rad_s: Floats, time_s: float, seed: int = 0) -> tuple[float, float, Attitude]:
    """Worst angle and worst tilt against exact integration of a turning, rocking motion."""
    rng = np.random.default_rng(seed)
    rates, phases = rng.uniform(0.3, 2.0, (2, 3)), rng.uniform(0, 2 * np.pi, 3)
    truth = np.array([1.0, 0.0, 0.0, 0.0])
    attitude = Attitude(truth, STILL)
    angle = tilt = 0.0
    for k in range(round(time_s / DT_S)):
        rate = rates[0] * np.sin(rates[1] * k * DT_S + phases)
        truth = multiply(truth, turn(rate, float(np.linalg.norm(rate)) * DT_S))
        attitude = advance(attitude, rate + bias_rad_s, gravity(truth), DT_S, gains)
        angle, tilt = max(angle, angle_rad(attitude.quat, truth)), max(tilt, tilt_rad(attitude.quat, truth))
    return angle, tilt, attitude


@pytest.mark.parametrize("seed", range(3))
def test_a_known_motion_is_followed_exactly_without_noise(seed: int) -> None:
    angle, _, _ = followed(Gains(), STILL, 10.0, seed)
    assert angle < 1e-6


def test_a_bias_is_found_where_gravity_shows_it() -> None:
    bias = np.array([0.03, -0.02, 0.0])
    _, tilt, attitude = followed(Gains(), bias, 60.0)
    assert tilt < math.radians(2.5)
    assert attitude.bias_rad_s[:2] == pytest.approx(bias[:2], abs=0.003)


def test_the_estimated_bias_is_bounded_whatever_is_measured() -> None:
    rng = np.random.default_rng(0)
    gains = Gains(integral_hz2=10.0)
    attitude = Attitude(random_quat(rng), STILL)
    for _ in range(500):
        attitude = advance(attitude, 20 * rng.standard_normal(3), gravity(random_quat(rng)), DT_S, gains)
        assert abs(attitude.bias_rad_s).max() <= gains.bias_limit_rad_s
        assert np.linalg.norm(attitude.quat) == pytest.approx(1.0)


@pytest.mark.parametrize("size", [0.0, 0.5, 0.89, 1.11, 2.0, math.nan, math.inf])
def test_accelerations_that_are_not_gravity_change_nothing(size: float) -> None:
    attitude = Attitude(turn(np.array([1.0, 0.0, 0.0]), 0.4), np.array([0.01, 0.0, 0.0]))
    rate = np.array([0.2, -0.1, 0.3])
    push = np.array([0.6 * size, 0.0 if math.isfinite(size) else size, 0.8 * size]) * STANDARD_GRAVITY_M_S2
    true_rate = rate - attitude.bias_rad_s
    alone = multiply(attitude.quat, turn(true_rate, DT_S * float(np.linalg.norm(true_rate))))
    after = advance(attitude, rate, push, DT_S)
    assert after.quat == pytest.approx(alone)
    assert np.array_equal(after.bias_rad_s, attitude.bias_rad_s)


@pytest.mark.parametrize("size", [0.91, 1.0, 1.09])
def test_accelerations_near_gravity_are_believed(size: float) -> None:
    attitude = Attitude(np.array([1.0, 0.0, 0.0, 0.0]), STILL)
    truth = turn(np.array([1.0, 0.0, 0.0]), 0.3)
    after = advance(attitude, STILL, size * gravity(truth), DT_S)
    assert tilt_rad(after.quat, truth) < 0.3


def test_the_heading_is_the_gyroscopes_alone() -> None:
    """Gravity says nothing of it: resting, it stays; and turning about the vertical it turns as far."""
    start = Attitude(turn(UP, 1.0), STILL)
    assert settled(start, start.quat, 5.0, Gains()).quat == pytest.approx(start.quat)
    for _ in range(100):
        start = advance(start, 0.5 * UP, gravity(start.quat), DT_S)
    assert angle_rad(start.quat, turn(UP, 1.5)) < 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_gains_are_those_of_the_paper(seed: int) -> None:
    """A step by hand: omega = v x v_hat; b' = -k_I omega; R' = R (gyro - b + k_P omega)."""
    rng = np.random.default_rng(seed)
    attitude = Attitude(random_quat(rng), 0.01 * rng.standard_normal(3))
    gyro, accel = rng.standard_normal(3), gravity(random_quat(rng))
    gains = Gains(proportional_hz=0.7, integral_hz2=0.2)
    omega = np.cross(accel / np.linalg.norm(accel), rotate(conjugate(attitude.quat), UP))
    after = advance(attitude, gyro, accel, 1e-5, gains)  # short, so that before and after the turn are one
    assert (after.bias_rad_s - attitude.bias_rad_s) / 1e-5 == pytest.approx(-0.2 * omega, abs=1e-5)
    rate = 2 * multiply(conjugate(attitude.quat), (after.quat - attitude.quat) / 1e-5)[1:]
    assert rate == pytest.approx(gyro - after.bias_rad_s + 0.7 * omega, abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_parity_with_the_ahrs_package(seed: int) -> None:
    """Its Mahony integrates by Euler's rule, so that the two agree to the order of the step."""
    filters = pytest.importorskip("ahrs.filters")
    rng = np.random.default_rng(seed)
    quat = random_quat(rng)
    theirs = filters.Mahony(k_P=1.0, k_I=0.1)
    theirs.b = np.zeros(3)
    ours = Attitude(quat, STILL)
    steps, dt_s = 2000, 1e-3
    rates, phases = rng.uniform(0.2, 1.0, (2, 3)), rng.uniform(0, 6, 3)
    unbounded = dataclasses.replace(Gains(), bias_limit_rad_s=math.inf)
    their_quat = quat
    for k in range(steps):
        gyro = rates[0] * np.sin(rates[1] * k * dt_s + phases)
        accel = gravity(turn(np.array([1.0, 0.3, 0.0]), 0.4 * math.sin(k * dt_s)))
        ours = advance(ours, gyro, accel, dt_s, unbounded)
        their_quat = np.asarray(theirs.updateIMU(their_quat, gyr=gyro, acc=accel, dt=dt_s))
    assert angle_rad(ours.quat, their_quat) < 1e-3
    assert ours.bias_rad_s == pytest.approx(theirs.b, abs=1e-4)
