"""Prove that a policy file computes what the trained network computed, before anyone may run it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from robotrl.errors import VerificationError
from robotrl.export.graph import Arrays, PolicyGraph, Trace, evaluate, rounding
from robotrl.spec.commands import OUTPUTS
from robotrl.spec.contract import PolicyContract

TRACE_TICKS = 2000
"""Recorded ticks that an export needs."""

PARITY_INPUTS = 10_000
CARRIED_TICKS = 500

PARITY_TOLERANCE = 1e-5
"""Largest allowed difference, in units of action and of memory; relative to the tick's largest value
where that is above 1."""

ROUNDINGS, LOOSEST_TOLERANCE = 4.0, 1e-3
"""A steep network is allowed so many times what float32 itself makes of it, and so much at most."""

CARRIED_TOLERANCE = 1e-4
"""The same where each side has fed its own memory back to itself `CARRIED_TICKS` times."""

GOLDEN_TOLERANCE = 1e-4
"""What a robot's replay of the golden ticks allows, in the unit of the command."""


@dataclass(frozen=True)
class ExportReport:
    """What verification measured on the machine that exported."""

    sha256: str
    size_bytes: int
    inputs: int
    """Independent ticks compared, recorded and random."""
    parity_error: float
    """Largest difference between file and network, in units of action."""
    carried_error: float
    """The same at the worst of `CARRIED_TICKS` ticks with the memory fed back."""
    golden_error: float
    """In the unit of the command: rad, m, or that of the simulated task."""
    inference_median_us: float
    """One tick on one thread."""
    inference_p99_us: float


def verify(data: bytes, graph: PolicyGraph, contract: PolicyContract, run: Trace) -> ExportReport:
    """Compare a sealed policy file with the network that it was made from.

    Args:
        data: the whole policy file.
        graph: the trained policy in torch.
        contract: the contract inside the file.
        run: the trained policy along recorded channels, at least `CARRIED_TICKS` long.

    Raises:
        VerificationError: a different interface, or a difference above the tolerances.
    """
    session = _open(data)
    _check_interface(session, contract)
    scale = contract.action_scale
    noise = _random_inputs(run, PARITY_INPUTS - len(run))
    errors = []
    for inputs, expected in ((run.inputs, run.outputs), (noise, evaluate(graph, noise))):
        errors.append(worst_error(session, inputs, expected, scale))
        _demand("file and network", errors[-1], _tolerance(graph, inputs, errors[-1]), "units of action")
    carried = carried_error(session, run, scale)
    _demand(f"{CARRIED_TICKS} ticks of carried memory", carried, CARRIED_TOLERANCE, "units of action")
    golden = golden_error(session, contract)
    _demand("golden ticks", golden, GOLDEN_TOLERANCE, contract.command_unit)
    median_us, p99_us = _time_us(session, run)
    return ExportReport(
        sha256=data[-64:].decode(),
        size_bytes=len(data),
        inputs=PARITY_INPUTS,
        parity_error=max(errors),
        carried_error=carried,
        golden_error=golden,
        inference_median_us=median_us,
        inference_p99_us=p99_us,
    )


def _tolerance(graph: PolicyGraph, inputs: Arrays, error: float) -> float:
    """What file and network may differ by; the rounding is asked for only where it matters."""
    if error <= PARITY_TOLERANCE:
        return PARITY_TOLERANCE
    return min(max(PARITY_TOLERANCE, ROUNDINGS * rounding(graph, inputs)), LOOSEST_TOLERANCE)


def worst_error(
    session: onnxruntime.InferenceSession, inputs: Arrays, expected: Arrays, scale: float
) -> float:
    """Return the largest difference over independent ticks, in units of action.

    Args:
        session: the file.
        inputs: channels and memory, one row per tick.
        expected: the network's answers, one row per tick.
        scale: what one unit of action stands for, in the unit of the command.
    """
    names = list(expected)
    answers = [session.run(names, _row(inputs, t)) for t in range(len(expected[names[0]]))]
    return _worst(
        _difference(name, np.stack([a[i] for a in answers]), expected[name], scale)
        for i, name in enumerate(names)
    )


def carried_error(session: onnxruntime.InferenceSession, run: Trace, scale: float) -> float:
    """Return the largest difference with the file's memory fed back into itself.

    Args:
        session: the file.
        run: the network along the same channels with its own memory.
        scale: what one unit of action stands for, in the unit of the command.
    """
    names = list(run.outputs)
    memory = {n.removeprefix("next_"): run.inputs[n.removeprefix("next_")][0] for n in names[1:]}
    errors: list[float] = []
    for t in range(CARRIED_TICKS):
        answers = dict(zip(names, session.run(names, _row(run.inputs, t) | memory), strict=True))
        memory = {name: answers[f"next_{name}"] for name in memory}
        errors += (_difference(n, answers[n], run.outputs[n][t], scale) for n in names)
    return _worst(errors)


def golden_error(session: onnxruntime.InferenceSession, contract: PolicyContract) -> float:
    """Return the largest difference of commands over the contract's golden ticks."""
    errors = []
    for tick in contract.golden:
        flat = {**tick.channels, **tick.memory}
        feeds = {
            name: np.array(flat[name], np.float32).reshape(s) for name, s in contract.input_sizes.items()
        }
        (command,) = session.run([contract.command_output], feeds)
        errors.append(float(np.abs(command - np.array(tick.command)).max()))
    return _worst(errors)


def _open(data: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _check_interface(session: onnxruntime.InferenceSession, contract: PolicyContract) -> None:
    """Compare names, shapes and types of the file's inputs and outputs with the contract."""
    for kind, actual, wanted in (
        ("inputs", session.get_inputs(), contract.input_sizes),
        ("outputs", session.get_outputs(), contract.output_sizes),
    ):
        found = {value.name: (tuple(value.shape), value.type) for value in actual}
        expected = {name: (shape, "tensor(float)") for name, shape in wanted.items()}
        if found != expected:
            raise VerificationError(f"the graph's {kind} are {found}; the contract's are {expected}")


def _random_inputs(run: Trace, count: int) -> Arrays:
    """Draw inputs uniformly from twice the recorded range of every element, fixed seed."""
    rng = np.random.default_rng(0)
    drawn = {}
    for name, values in run.inputs.items():
        low, high = values.min(0), values.max(0)
        reach = (high - low) / 2
        drawn[name] = rng.uniform(low - reach, high + reach, (count, *values.shape[1:])).astype(np.float32)
    return drawn


def _difference(name: str, actual: NDArray[np.float32], expected: NDArray[np.float32], scale: float) -> float:
    """Largest difference in units of action, or relative to a tick's largest value where that is above 1.

    float32 rounds relative to the size of the numbers, and sizes far above one unit only occur on
    inputs far outside of training.
    """
    unit = scale if name in OUTPUTS.values() else 1.0
    size = np.maximum(np.abs(expected).max(-1, keepdims=True) / unit, 1.0)
    return float((np.abs(actual.astype(np.float64) - expected) / unit / size).max())


def _worst(errors: Iterable[float]) -> float:
    """Return the largest; NaN where there is one, which Python's `max` would pass over."""
    return float(np.max(list(errors)))


def _row(inputs: Mapping[str, NDArray[np.float32]], t: int) -> Arrays:
    return {name: values[t] for name, values in inputs.items()}


def _demand(what: str, error: float, tolerance: float, unit: str) -> None:
    # Written so that NaN fails.
    if not error <= tolerance:
        raise VerificationError(f"{what} differ by {error:.3g} {unit}; allowed: up to {tolerance:g}")


def _time_us(session: onnxruntime.InferenceSession, run: Trace) -> tuple[float, float]:
    """Median and 99th percentile of one tick over the trace, after a warm-up."""
    names = list(run.outputs)
    spent_ns = []
    for t in range(len(run)):
        feeds = _row(run.inputs, t)
        start_ns = time.perf_counter_ns()
        session.run(names, feeds)
        spent_ns.append(time.perf_counter_ns() - start_ns)
    median, p99 = np.percentile(spent_ns[len(run) // 10 :], (50, 99)) / 1e3
    return float(median), float(p99)
