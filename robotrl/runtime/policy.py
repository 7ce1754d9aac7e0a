"""A policy file on the robot: opened only if intact, compared with the robot, replayed, then run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import ArrayLike, NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from robotrl.errors import PolicyError
from robotrl.spec.channels import OPERATOR_CHANNELS
from robotrl.spec.contract import PolicyContract, read_policy_file
from robotrl.spec.contract_parts import ContractChannel, GoldenTick
from robotrl.spec.fit import incompatibilities
from robotrl.spec.hardware import Hardware
from robotrl.spec.state import Floats, RobotState

Array32 = NDArray[np.float32]

GOLDEN_TOLERANCE = 1e-4
"""Largest difference from the recorded answers: commands and memory, each in its own unit."""

NARROWEST = 0.1
"""In a channel's unit: what training hardly moved at all counts as a range of at least this width."""

_REFUSALS = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)


def channels_of(state: RobotState, commands: Mapping[str, ArrayLike]) -> dict[str, Array32]:
    """Return every channel that robot and operator deliver, ready for `Policy.step`.

    Args:
        state: what the robot measured.
        commands: what the operator asks for, by channel.
    """
    given = {**state.estimate, **commands}
    return {
        "joint_pos": state.joint_pos_rad.astype(np.float32),
        "joint_vel": state.joint_vel_rad_s.astype(np.float32),
        "imu_quat": state.imu_quat.astype(np.float32),
        "imu_gyro": state.imu_gyro_rad_s.astype(np.float32),
        "imu_accel": state.imu_accel_m_s2.astype(np.float32),
        **{name: np.asarray(values, np.float32) for name, values in given.items()},
    }


class Policy:
    """One loaded policy with its memory. Every buffer is bound once; a step allocates its answer only.

    Attributes:
        contract: what the policy expects and promises.
        sha256: digest of the file, hexadecimal.
    """

    def __init__(self, data: bytes, contract: PolicyContract, sha256: str, file: Path) -> None:
        self.contract = contract
        self.sha256 = sha256
        self._file = file
        self._session = _open(data, file)
        _check_interface(self._session, contract, file)
        self._seen = np.zeros(sum(c.size for c in contract.channels), np.float32)
        self._lowest, self._highest = np.full_like(self._seen, np.inf), np.full_like(self._seen, -np.inf)
        self._inputs = _views(self._seen, contract)
        self._inputs |= {m.name: np.zeros(len(m.initial), np.float32) for m in contract.memory}
        self._outputs = {n: np.zeros(shape, np.float32) for n, shape in contract.output_sizes.items()}
        self._channels = {c.name: self._inputs[c.name] for c in contract.channels}
        self._memory = {m.name: np.array(m.initial, np.float32) for m in contract.memory}
        self._binding = self._bind()
        self.reset()

    @classmethod
    def load(cls, file: Path) -> Policy:
        """Open a policy file.

        Args:
            file: written by `robotrl export`.

        Raises:
            PolicyError: missing, damaged, cut short, foreign, of another schema version, or with a
                graph that its contract does not describe.
        """
        return cls(*read_policy_file(file), file)

    def check(self, robot: Hardware) -> list[str]:
        """List everything that keeps this policy from driving `robot`; empty when it may."""
        return incompatibilities(self.contract, robot)

    def reset(self) -> None:
        """Set the memory to its initial value, as at the first tick of an episode."""
        for name, initial in self._memory.items():
            np.copyto(self._inputs[name], initial)

    def step(self, channels: Mapping[str, NDArray[np.floating]]) -> Floats:
        """Compute one tick and move the memory on.

        Args:
            channels: at least the contract's channels, each of its shape, in its unit. Values that
                are not finite give targets that are not finite, and stay in the memory until
                `reset`; the gate refuses such targets.

        Returns:
            (n,) the command, of the contract's type: joint targets in spec order, rad, a gripper's
            displacement and opening, m, or the controls of a simulated model; a new array.

        Raises:
            PolicyError: a channel is missing or of another shape.
        """
        for name, buffer in self._channels.items():
            value = channels.get(name)
            if value is None or value.shape != buffer.shape:
                found = None if value is None else value.shape
                raise PolicyError("is missing or misshapen", key=name, value=found, allowed=f"{buffer.shape}")
            np.copyto(buffer, value, casting="same_kind")
        np.fmin(self._lowest, self._seen, out=self._lowest)
        np.fmax(self._highest, self._seen, out=self._highest)
        self._session.run_with_iobinding(self._binding)
        for name in self._memory:
            np.copyto(self._inputs[name], self._outputs[f"next_{name}"])
        return self._outputs[self.contract.command_output].astype(np.float64)

    @property
    def memory(self) -> dict[str, Array32]:
        """What it remembers for the next step, by name; copies."""
        return {name: self._inputs[name].copy() for name in self._memory}

    def unfamiliar(self) -> list[str]:
        """Say for each measured channel whether a tick so far was far from anything that training saw.

        Far is further beyond the recorded range than that is wide, as `ContractChannel` has it. What an
        operator asks for is clipped elsewhere.
        """
        lowest, highest = (_views(ends, self.contract) for ends in (self._lowest, self._highest))
        lines = (
            _strangest(c, lowest[c.name].ravel(), highest[c.name].ravel())
            for c in self.contract.channels
            if c.name not in OPERATOR_CHANNELS
        )
        return [line for line in lines if line]

    def replay_golden(self) -> float:
        """Run the contract's recorded ticks and leave the memory initial.

        Returns:
            Largest difference from the recorded answers: commands and memory, each in its own unit.

        Raises:
            PolicyError: above `GOLDEN_TOLERANCE`: this computer does not compute what was trained.
        """
        try:
            # np.max, because Python's max passes over NaN.
            worst = float(np.max([self._golden_error(tick) for tick in self.contract.golden]))
        finally:
            self.reset()
        if not worst <= GOLDEN_TOLERANCE:  # so that NaN is refused
            raise PolicyError(
                "does not reproduce its recorded ticks on this computer, largest difference",
                file=self._file,
                key="contract.golden",
                value=worst,
                allowed=f"up to {GOLDEN_TOLERANCE}",
            )
        return worst

    def _golden_error(self, tick: GoldenTick) -> float:
        for name in self._memory:
            self._inputs[name].ravel()[:] = tick.memory[name]
        target = self.step({n: _shaped(v, self._inputs[n]) for n, v in tick.channels.items()})
        memory = [self._outputs[f"next_{n}"] - values for n, values in tick.next_memory.items()]
        return float(np.abs(np.concatenate((target - tick.command, *memory))).max())

    def _bind(self) -> onnxruntime.IOBinding:
        """Bind the numpy buffers themselves: on a CPU an OrtValue shares their memory."""
        binding = self._session.io_binding()
        for name, array in self._inputs.items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        for name, array in self._outputs.items():
            binding.bind_ortvalue_output(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        return binding


def _views(flat: Array32, contract: PolicyContract) -> dict[str, Array32]:
    """Cut an array of all channels, one after the other, into views of their shapes."""
    views, start = {}, 0
    for channel in contract.channels:
        views[channel.name] = flat[start : start + channel.size].reshape(channel.shape)
        start += channel.size
    return views


def _strangest(channel: ContractChannel, lowest: Array32, highest: Array32) -> str:
    """What to say of a channel's element that went furthest beyond its range; nothing if none went far."""
    low, high = np.array(channel.low), np.array(channel.high)
    width = np.maximum(high - low, NARROWEST)
    below, above = (low - lowest) / width, (highest - high) / width
    i = int(np.argmax(np.maximum(below, above)))
    if not max(below[i], above[i]) > 1.0:
        return ""
    reached = lowest[i] if below[i] > above[i] else highest[i]
    range_of_training = f"{low[i]:.4g} to {high[i]:.4g}"
    return f"{channel.name}[{i}] reached {reached:.4g} {channel.unit}; training saw {range_of_training}"


def _shaped(values: tuple[float, ...], like: Array32) -> Array32:
    return np.array(values, np.float32).reshape(like.shape)


def _open(data: bytes, file: Path) -> onnxruntime.InferenceSession:
    """Open the graph on one thread that sleeps, not spins, between ticks."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except _REFUSALS as error:
        why = " ".join(str(error).split())  # one line, however many onnxruntime writes
        raise PolicyError(f"holds a graph that onnxruntime refuses: {why}", file=file) from error


def _check_interface(session: onnxruntime.InferenceSession, contract: PolicyContract, file: Path) -> None:
    """Refuse a graph whose inputs or outputs are not those of its contract."""
    for key, actual, wanted in (
        ("inputs", session.get_inputs(), contract.input_sizes),
        ("outputs", session.get_outputs(), contract.output_sizes),
    ):
        found = {value.name: tuple(value.shape) for value in actual if value.type == "tensor(float)"}
        if found != wanted or len(found) != len(actual):
            raise PolicyError(
                "differ from the contract", file=file, key=key, value=found, allowed=f"{wanted} float32"
            )
