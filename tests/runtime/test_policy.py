"""Laws of a policy on the robot: opened only if intact, computing what was trained, forgetting on reset."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from robotrl.errors import PolicyError
from robotrl.runtime.policy import Policy, channels_of
from robotrl.spec.contract import PolicyContract
from robotrl.spec.seal import seal
from robotrl.spec.state import RobotState
from tests.blocking import TRAIN, run_without
from tests.export import sample

TICKS = 300


@pytest.fixture(scope="module")
def data() -> bytes:
    return sample.exported()[0].read_bytes()


@pytest.fixture
def policy() -> Policy:
    return Policy.load(sample.exported()[0])


def tick(t: int) -> dict[str, NDArray[np.float32]]:
    """One recorded tick."""
    return {name: values[t] for name, values in sample.recorded().items()}


def sample_graph() -> onnx.ModelProto:
    """The sample's ONNX model without its contract."""
    model = onnx.load(str(sample.exported()[0]))
    del model.metadata_props[:]
    return model


def sealed(tmp_path: Path, model: onnx.ModelProto, contract: PolicyContract) -> Path:
    """A policy file of these parts, properly sealed."""
    file = tmp_path / "policy.onnx"
    file.write_bytes(seal(model.SerializeToString(), contract.to_json()))
    return file


def test_the_robot_computes_what_was_trained_with_memory_carried(policy: Policy) -> None:
    trained = sample.run().outputs["joint_target"]
    targets = np.stack([policy.step(tick(t)) for t in range(TICKS)])
    np.testing.assert_allclose(targets, trained[:TICKS], atol=1e-5)


def test_memory_matters_and_reset_forgets_it(policy: Policy) -> None:
    first = policy.step(tick(0))
    again = policy.step(tick(0))
    assert np.abs(again - first).max() > 1e-3
    policy.reset()
    np.testing.assert_array_equal(policy.step(tick(0)), first)


def test_a_new_policy_starts_as_a_reset_one(policy: Policy) -> None:
    first = policy.step(tick(0))
    np.testing.assert_allclose(first, sample.run().outputs["joint_target"][0], atol=1e-5)


def test_answers_are_arrays_of_their_own(policy: Policy) -> None:
    first = policy.step(tick(0))
    kept = first.copy()
    policy.step(tick(50))
    np.testing.assert_array_equal(first, kept)
    assert first.dtype == np.float64
    assert first.shape == (12,)


def test_inputs_are_read_at_once_and_never_written(policy: Policy) -> None:
    inputs = {name: values.copy() for name, values in tick(5).items()}
    policy.step(inputs)
    for name, values in tick(5).items():
        np.testing.assert_array_equal(inputs[name], values)


def test_two_policies_share_nothing(policy: Policy) -> None:
    other = Policy.load(sample.exported()[0])
    expected = policy.step(tick(0))
    other.step(tick(100))
    policy.reset()
    np.testing.assert_array_equal(policy.step(tick(0)), expected)


def test_doubles_and_further_channels_are_accepted(policy: Policy) -> None:
    expected = policy.step(tick(3))
    policy.reset()
    doubles = {name: values.astype(np.float64) for name, values in tick(3).items()}
    np.testing.assert_array_equal(policy.step({**doubles, "imu_accel": np.zeros(3)}), expected)


@pytest.mark.parametrize("shape", [None, (11,), (1,), (), (12, 1)])
def test_a_missing_or_misshapen_channel_is_named(policy: Policy, shape: tuple[int, ...] | None) -> None:
    channels = {name: values for name, values in tick(0).items() if name != "joint_pos"}
    if shape is not None:
        channels["joint_pos"] = np.zeros(shape, np.float32)
    with pytest.raises(PolicyError, match=r"joint_pos: is missing or misshapen.*allowed: \(12,\)"):
        policy.step(channels)


def test_what_is_not_finite_shows_until_reset(policy: Policy) -> None:
    """The gate refuses such targets; a policy must not hide them."""
    broken = tick(0) | {"imu_gyro": np.full(3, np.nan, np.float32)}
    assert np.isnan(policy.step(broken)).any()
    assert np.isnan(policy.step(tick(1))).any()
    policy.reset()
    assert np.isfinite(policy.step(tick(1))).all()


def test_golden_ticks_are_reproduced_and_leave_no_memory(policy: Policy) -> None:
    assert policy.replay_golden() < 1e-5
    np.testing.assert_allclose(policy.step(tick(0)), sample.run().outputs["joint_target"][0], atol=1e-5)


@pytest.mark.parametrize(("part", "moved"), [("joint_target", 2e-4), ("next_memory", 2e-4)])
@pytest.mark.parametrize("which", [0, 15])
def test_a_golden_tick_that_is_not_reproduced_is_refused(
    tmp_path: Path, part: str, moved: float, which: int
) -> None:
    contract = sample.contract()
    old = contract.golden[which]
    if part == "joint_target":
        new = dataclasses.replace(old, joint_target=(*old.joint_target[:-1], old.joint_target[-1] + moved))
    else:
        new = dataclasses.replace(
            old, next_memory=old.next_memory | {"clock": (old.next_memory["clock"][0] + moved,)}
        )
    golden = (*contract.golden[:which], new, *contract.golden[which + 1 :])
    policy = Policy.load(sealed(tmp_path, sample_graph(), dataclasses.replace(contract, golden=golden)))
    with pytest.raises(PolicyError, match=r"contract\.golden: does not reproduce .* allowed: up to 0\.0001"):
        policy.replay_golden()


def with_constant(old: float, new: float) -> onnx.ModelProto:
    """The sample's model with one of its constants replaced."""
    model = sample_graph()
    (found,) = [i for i in model.graph.initializer if (numpy_helper.to_array(i) == np.float32(old)).all()]
    found.CopyFrom(numpy_helper.from_array(np.array(new, np.float32), found.name))
    return model


@pytest.mark.parametrize("constant", [0.3, 0.03], ids=["action scale", "clock step"])
def test_what_is_no_number_is_refused_before_it_is_run(tmp_path: Path, constant: float) -> None:
    file = sealed(tmp_path, with_constant(constant, np.nan), sample.contract())
    with pytest.raises(PolicyError, match=r"tensor .*: holds what is no number, got '1 NaN'; allowed: none"):
        Policy.load(file)


def test_golden_answers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    """Infinitely large clock steps make nothing but the last memory NaN."""
    policy = Policy.load(sealed(tmp_path, with_constant(0.03, np.inf), sample.contract()))
    with pytest.raises(PolicyError, match=r"does not reproduce .* got nan"):
        policy.replay_golden()


def test_what_training_never_saw_is_said_afterwards(policy: Policy) -> None:
    assert policy.unfamiliar() == []
    for t in range(100):
        policy.step(tick(t))
    assert policy.unfamiliar() == [], "a recording is familiar to its own policy"
    wild = {name: values.copy() for name, values in tick(100).items()}
    wild["joint_vel"][3], wild["imu_gyro"][1] = 250.0, -40.0
    wild["imu_quat"][:] = np.nan
    wild["velocity_command"][:] = 99.0
    policy.step(wild)
    policy.step(tick(101))
    speed, turn = (
        next(c for c in policy.contract.channels if c.name == n) for n in ("joint_vel", "imu_gyro")
    )
    assert policy.unfamiliar() == [
        f"joint_vel[3] reached 250 rad/s; training saw {speed.low[3]:.4g} to {speed.high[3]:.4g}",
        f"imu_gyro[1] reached -40 rad/s; training saw {turn.low[1]:.4g} to {turn.high[1]:.4g}",
    ]


@pytest.mark.parametrize(("share", "far"), [(0.99, False), (1.01, True)])
def test_far_is_further_outside_than_the_range_is_wide(policy: Policy, share: float, far: bool) -> None:
    gyro = next(c for c in policy.contract.channels if c.name == "imu_gyro")
    strange = {name: values.copy() for name, values in tick(0).items()}
    strange["imu_gyro"][2] = gyro.high[2] + share * (gyro.high[2] - gyro.low[2])
    policy.step(strange)
    assert bool(policy.unfamiliar()) is far


def test_the_check_lists_what_the_contract_lists(policy: Policy) -> None:
    robot = sample.quad12()
    assert policy.check(robot) == []
    assert policy.check(dataclasses.replace(robot, name="hexa")) == [
        "robot is quad12 in the policy and hexa on hexa"
    ]


def refusal(tmp_path: Path, content: bytes) -> str:
    file = tmp_path / "policy.onnx"
    file.write_bytes(content)
    with pytest.raises(PolicyError) as refused:
        Policy.load(file)
    sentence = str(refused.value)
    assert sentence.startswith(f"{file}: ")
    assert "\n" not in sentence
    return sentence


def test_a_flipped_bit_anywhere_is_refused(tmp_path: Path, data: bytes) -> None:
    rng = np.random.default_rng(0)
    places = {*range(40), *range(len(data) - 120, len(data)), *rng.integers(0, len(data), 400).tolist()}
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        refusal(tmp_path, bytes(damaged))


def test_a_file_cut_anywhere_is_refused(tmp_path: Path, data: bytes) -> None:
    rng = np.random.default_rng(1)
    ends = {0, 1, len(data) // 2, *rng.integers(0, len(data), 100).tolist()}
    for end in ends | {len(data) - i for i in range(1, 120)}:
        refusal(tmp_path, data[:end])


def test_a_foreign_onnx_file_is_refused(tmp_path: Path) -> None:
    assert "carries no robotrl contract" in refusal(tmp_path, sample_graph().SerializeToString())


def test_a_sealed_file_without_a_graph_is_refused(tmp_path: Path) -> None:
    for graph, why in (
        (b"", "onnxruntime refuses"),
        (b"\x08\x0a", "onnxruntime refuses"),
        (b"none", "no policy has"),
    ):
        content = seal(graph, sample.contract().to_json())
        assert f"holds a graph that {why}" in refusal(tmp_path, content)


@pytest.mark.parametrize("kind", ["channel", "memory"])
def test_a_graph_that_is_not_its_contracts_is_refused(tmp_path: Path, kind: str) -> None:
    contract = sample.contract()
    if kind == "channel":
        renamed = dataclasses.replace(contract.channels[3], name="imu_accel")
        golden = tuple(
            dataclasses.replace(
                g, channels={("imu_accel" if n == "imu_gyro" else n): v for n, v in g.channels.items()}
            )
            for g in contract.golden
        )
        other = dataclasses.replace(
            contract, channels=(*contract.channels[:3], renamed, contract.channels[4]), golden=golden
        )
    else:
        golden = tuple(
            dataclasses.replace(
                g,
                memory={"last_action": g.memory["last_action"]},
                next_memory={"last_action": g.next_memory["last_action"]},
            )
            for g in contract.golden
        )
        other = dataclasses.replace(contract, memory=contract.memory[:1], golden=golden)
    file = sealed(tmp_path, sample_graph(), other)
    with pytest.raises(PolicyError, match="inputs: differ from the contract"):
        Policy.load(file)


def test_channels_of_a_state_are_named_shaped_and_in_order() -> None:
    n = 12
    state = RobotState(
        stamp_s=1.0,
        joint_pos_rad=np.arange(100.0, 112.0),
        joint_vel_rad_s=np.arange(200.0, 212.0),
        joint_load=np.zeros(n),
        voltage_v=np.zeros(n),
        temperature_c=np.zeros(n),
        hardware_error=np.zeros(n, np.int64),
        joint_age_s=np.zeros(n),
        imu_quat=np.arange(300.0, 304.0),
        imu_gyro_rad_s=np.arange(400.0, 403.0),
        imu_accel_m_s2=np.arange(500.0, 503.0),
        imu_age_s=0.0,
        estimate={"point_pos": np.arange(600.0, 606.0).reshape(2, 3)},
        estimate_age_s=0.0,
    )
    found = channels_of(state, {"velocity_command": (0.1, 0.2, 0.3), "goal": np.array([0.7, 0.8])})
    assert {name: float(values.flat[0]) for name, values in found.items()} == {
        "joint_pos": 100.0,
        "joint_vel": 200.0,
        "imu_quat": 300.0,
        "imu_gyro": 400.0,
        "imu_accel": 500.0,
        "point_pos": 600.0,
        "velocity_command": pytest.approx(0.1),
        "goal": pytest.approx(0.7),
    }
    assert {values.dtype for values in found.values()} == {np.dtype(np.float32)}
    assert [v.shape for v in found.values()] == [(12,), (12,), (4,), (3,), (3,), (2, 3), (3,), (2,)]


def test_a_robot_needs_neither_torch_nor_onnx() -> None:
    code = f"""
from pathlib import Path
from robotrl.runtime.policy import Policy
policy = Policy.load(Path({str(sample.exported()[0])!r}))
print(policy.replay_golden() < 1e-4)
"""
    done = run_without(TRAIN, code)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
