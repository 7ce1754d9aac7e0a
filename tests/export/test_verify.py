"""Laws of verification: it passes what equals the network, and catches everything that does not."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import onnxruntime
import pytest
import torch

from robotrl.errors import VerificationError
from robotrl.export.graph import PolicyGraph, Trace, evaluate, rounding, trace
from robotrl.export.verify import (
    CARRIED_TICKS,
    PARITY_TOLERANCE,
    TRACE_TICKS,
    _tolerance,
    carried_error,
    verify,
)
from robotrl.spec.contract import PolicyContract
from tests.export import sample


@pytest.fixture(scope="module")
def data() -> bytes:
    return sample.exported()[0].read_bytes()


@pytest.fixture(scope="module")
def contract() -> PolicyContract:
    return sample.contract()


def with_weight(delta: float) -> PolicyGraph:
    """The sample with one weight of its middle layer changed."""
    actor = copy.deepcopy(sample.actor())
    with torch.no_grad():
        list(actor.net.parameters())[2][5, 7] += delta
    return PolicyGraph(sample.interface(), actor, sample.SIZES)


def answers_of(graph: PolicyGraph) -> Trace:
    """What another network answers to the inputs of the sample's trace."""
    return Trace(sample.run().inputs, evaluate(graph, sample.run().inputs))


def test_the_report_says_how_well_the_file_equals_the_network() -> None:
    report = sample.exported()[1]
    assert report.inputs == 10_000
    assert 0 < report.parity_error < PARITY_TOLERANCE
    assert report.carried_error < 1e-4
    assert report.golden_error < 1e-5
    assert 0 < report.inference_median_us <= report.inference_p99_us
    assert report.size_bytes == sample.exported()[0].stat().st_size


def test_the_batch_equals_the_single_tick() -> None:
    """Verification computes many ticks at once; the exported graph computes one."""
    run = sample.run()
    together = evaluate(sample.graph(), run.inputs)
    for name, values in together.items():
        np.testing.assert_allclose(values, run.outputs[name], atol=1e-5)


def test_the_trace_carries_memory_from_its_initial_value() -> None:
    run = sample.run()
    np.testing.assert_array_equal(run.inputs["last_action"][0], np.zeros(12))
    assert run.inputs["clock"][0] == 0.25
    for name in ("last_action", "clock"):
        np.testing.assert_array_equal(run.inputs[name][1:], run.outputs[f"next_{name}"][:-1])


@pytest.mark.parametrize("delta", [-1e-2, 1e-3])
def test_one_wrong_weight_is_caught(data: bytes, contract: PolicyContract, delta: float) -> None:
    wrong = with_weight(delta)
    with pytest.raises(VerificationError, match=r"file and network differ by .* units of action"):
        verify(data, wrong, contract, answers_of(wrong))


def steep(factor: float) -> PolicyGraph:
    """The sample with a first layer so many times as large."""
    actor = copy.deepcopy(sample.actor())
    with torch.no_grad():
        next(iter(actor.net.parameters())).mul_(factor)
    return PolicyGraph(sample.interface(), actor, sample.SIZES)


def test_a_network_that_float32_itself_rounds_more_may_differ_by_more() -> None:
    inputs = sample.run().inputs
    plain, rough = sample.graph(), steep(100)
    assert 4 * rounding(plain, inputs) < 1e-5
    assert _tolerance(plain, inputs, error=1.0) == 1e-5
    assert 1e-5 < 4 * rounding(rough, inputs) < 1e-3
    assert _tolerance(rough, inputs, error=1.0) == 4 * rounding(rough, inputs)
    assert _tolerance(rough, inputs, error=9e-6) == 1e-5
    assert _tolerance(steep(1e4), inputs, error=1.0) == 1e-3, "but not by whatever it likes"


def test_a_normaliser_that_went_on_learning_is_caught(data: bytes, contract: PolicyContract) -> None:
    actor = copy.deepcopy(sample.actor())
    actor.norm.mean += 0.01
    later = PolicyGraph(sample.interface(), actor, sample.SIZES)
    with pytest.raises(VerificationError):
        verify(data, later, contract, answers_of(later))


def test_a_wrong_memory_update_is_caught(data: bytes, contract: PolicyContract) -> None:
    right = sample.interface()
    frozen = dataclasses.replace(
        right, advance=lambda c, m, a: {**right.advance(c, m, a), "clock": m["clock"]}
    )
    wrong = PolicyGraph(frozen, sample.actor(), sample.SIZES)
    with pytest.raises(VerificationError):
        verify(data, wrong, contract, answers_of(wrong))


def test_carrying_other_memory_shows_in_the_carried_ticks(data: bytes) -> None:
    """Tick by tick the file is right; only a memory that is fed back wrongly differs."""
    session = onnxruntime.InferenceSession(data)
    run = sample.run()
    assert carried_error(session, run, 0.3) < 1e-4
    shifted = {name: values.copy() for name, values in run.inputs.items()}
    shifted["clock"][0] += 0.5
    assert carried_error(session, Trace(shifted, run.outputs), 0.3) > 1e-2
    assert len(run) >= CARRIED_TICKS


def test_a_wrong_golden_tick_is_caught(data: bytes, contract: PolicyContract) -> None:
    tick = contract.golden[9]
    moved = dataclasses.replace(tick, joint_target=(tick.joint_target[0] + 2e-4, *tick.joint_target[1:]))
    wrong = dataclasses.replace(contract, golden=(*contract.golden[:9], moved, *contract.golden[10:]))
    with pytest.raises(
        VerificationError, match=r"golden ticks differ by 0\.0002 rad; allowed: up to 0\.0001"
    ):
        verify(data, sample.graph(), wrong, sample.run())


def test_another_interface_is_caught(data: bytes, contract: PolicyContract) -> None:
    fewer = dataclasses.replace(contract, memory=contract.memory[:1])
    with pytest.raises(VerificationError, match="the graph's inputs are"):
        verify(data, sample.graph(), fewer, sample.run())


def test_answers_that_are_not_finite_are_caught(data: bytes, contract: PolicyContract) -> None:
    run = sample.run()
    broken = {name: values.copy() for name, values in run.outputs.items()}
    broken["joint_target"][77, 3] = np.nan
    with pytest.raises(VerificationError, match="differ by nan"):
        verify(data, sample.graph(), contract, Trace(run.inputs, broken))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"imu_gyro": None}, "the recording has no channel imu_gyro; it has imu_quat, "),
        ({"imu_gyro": np.zeros((TRACE_TICKS - 1, 3))}, r"recorded channel imu_gyro is \(1999, 3\); needed"),
        ({"imu_gyro": np.zeros((TRACE_TICKS, 4))}, r"recorded channel imu_gyro is \(2000, 4\); needed"),
        ({"imu_gyro": np.full((TRACE_TICKS, 3), np.inf)}, "recorded channel imu_gyro is not finite"),
    ],
)
def test_a_recording_that_does_not_serve_is_refused(change: dict[str, object], sentence: str) -> None:
    merged = {**sample.recorded(), **change}
    recording = {name: values for name, values in merged.items() if values is not None}
    with pytest.raises(VerificationError, match=sentence):
        trace(sample.graph(), recording, TRACE_TICKS)  # type: ignore[arg-type]
