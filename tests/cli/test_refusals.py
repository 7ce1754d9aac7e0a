"""Broken policies and robots: `check` and `run` refuse each alike, in a sentence that says what and why."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from robotrl.cli.check import Check
from robotrl.cli.run import Run
from robotrl.errors import BadInputError
from robotrl.spec.contract import MAX_BYTES
from robotrl.spec.protobuf import bytes_field
from robotrl.spec.records import load_toml
from robotrl.spec.seal import seal, unseal
from robotrl.spec.shipped import find_shipped
from tests.spec.toml_text import to_toml

HUGE = 1 << 40


@cache
def shipped() -> tuple[onnx.ModelProto, dict[str, Any], dict[str, Any]]:
    """Graph and contract of the shipped walk, and its robot."""
    file = find_shipped("policies", "quad12_walk")
    data = file.read_bytes()
    model = onnx.load_from_string(data)
    del model.metadata_props[:]
    return model, json.loads(unseal(data, file)[0]), load_toml(find_shipped("hardware", "quad12"))


def _graph() -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.CopyFrom(shipped()[0])
    return model


@dataclass
class Parts:
    """What policy and robot consist of, to be broken; properly sealed afterwards."""

    model: onnx.ModelProto = field(default_factory=_graph)
    contract: dict[str, Any] = field(default_factory=lambda: copy.deepcopy(shipped()[1]))
    robot: dict[str, Any] = field(default_factory=lambda: copy.deepcopy(shipped()[2]))

    @property
    def channel(self) -> dict[str, Any]:
        """The first channel of the contract."""
        found: dict[str, Any] = self.contract["channels"][0]
        return found

    @property
    def golden(self) -> dict[str, Any]:
        """One golden tick of the contract."""
        found: dict[str, Any] = self.contract["golden"][3]
        return found

    @property
    def servo(self) -> dict[str, Any]:
        """The robot's only servo type."""
        found: dict[str, Any] = self.robot["servo"]["xc430_w240"]
        return found

    @property
    def weights(self) -> onnx.TensorProto:
        """The largest tensor of the graph."""
        found: onnx.TensorProto = max(self.model.graph.initializer, key=lambda t: len(t.raw_data))
        return found

    def policy(self) -> bytes:
        """The policy file."""
        return seal(self.model.SerializeToString(), json.dumps(self.contract))

    def rename(self, old: str, new: str) -> None:
        """Give a channel another name in graph, contract and golden ticks."""
        for node in self.model.graph.node:
            node.input[:] = [new if name == old else name for name in node.input]
        for value in self.model.graph.input:
            value.name = new if value.name == old else value.name
        for channel in self.contract["channels"]:
            channel["name"] = new if channel["name"] == old else channel["name"]
        for tick in self.contract["golden"]:
            tick["channels"] = {(new if k == old else k): v for k, v in tick["channels"].items()}

    def forget(self, kind: str, name: str) -> None:
        """Leave a channel or memory out of the contract and its golden ticks."""
        self.contract[kind] = [entry for entry in self.contract[kind] if entry["name"] != name]
        for tick in self.contract["golden"]:
            for part in ("channels", "memory", "next_memory"):
                tick[part].pop(name, None)

    def external(self, location: str) -> None:
        """Say that the weights lie in another file."""
        self.weights.data_location = TensorProto.EXTERNAL
        self.weights.external_data.add(key="location", value=location)

    def weigh(self, change: Callable[[Any], Any]) -> None:
        """Change the weights."""
        values = numpy_helper.to_array(self.weights).copy()
        self.weights.CopyFrom(numpy_helper.from_array(change(values), self.weights.name))


def nan_first(values: Any) -> Any:
    values.flat[0] = float("nan")
    return values


def double_input(parts: Parts) -> None:
    (value,) = [v for v in parts.model.graph.input if v.name == "velocity_command"]
    value.type.tensor_type.elem_type = TensorProto.DOUBLE


def foreign_operator(parts: Parts) -> None:
    parts.model.opset_import.append(helper.make_opsetid("com.example", 1))
    parts.model.graph.node[0].domain = "com.example"


def sparse(parts: Parts) -> None:
    values = helper.make_tensor("few", TensorProto.FLOAT, [1], [1.0])
    where = helper.make_tensor("where", TensorProto.INT64, [1], [0])
    parts.model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, where, [HUGE]))


def swapped(entries: list[Any]) -> list[Any]:
    return [entries[1], entries[0], *entries[2:]]


Change = Callable[[Parts], object]
ROWS: dict[str, tuple[Change, tuple[str, ...]]] = {
    # What is broken -> how, and what the sentence says: the field, what was found, what was expected.
    "future schema": (lambda p: p.contract.update(schema=2), ("contract.schema", "got 2", "allowed: 1")),
    "no schema": (lambda p: p.contract.pop("schema"), ("contract.schema", "allowed: 1")),
    "unknown entry": (
        lambda p: p.contract.update(later=1),
        ("contract.later", "unknown key", "allowed: action"),
    ),
    "missing entry": (
        lambda p: p.contract.pop("rate_hz"),
        ("contract.rate_hz", "missing", "allowed: a finite"),
    ),
    "rate as text": (
        lambda p: p.contract.update(rate_hz="50"),
        ("contract.rate_hz", "'50'", "a finite number"),
    ),
    "rate NaN": (lambda p: p.contract.update(rate_hz=float("nan")), ("contract.rate_hz", "nan", "a finite")),
    "rate infinite": (
        lambda p: p.contract.update(rate_hz=float("inf")),
        ("contract.rate_hz", "inf", "finite"),
    ),
    "a number beyond floats": (
        lambda p: p.contract.update(rate_hz=10**400),
        ("contract.rate_hz", "got 1000", "a finite number"),
    ),
    "negative experience": (
        lambda p: p.contract["provenance"].update(steps=-1),
        ("contract.provenance.steps", "got -1", "0 or more"),
    ),
    "other rate": (
        lambda p: p.contract.update(rate_hz=100.0),
        ("control.rate_hz", "100.0 in the policy", "50.0 on quad12"),
    ),
    "other robot": (
        lambda p: p.contract.update(robot="hexa"),
        ("robot is", "hexa in the policy", "quad12 on quad12"),
    ),
    "permuted joints": (
        lambda p: p.contract.update(joints=swapped(p.contract["joints"])),
        ("joint order", "FL_hip, FL_abduction", "FL_abduction, FL_hip"),
    ),
    "unknown joint": (
        lambda p: p.contract["joints"][0].update(name="tail"),
        ("list of joints", "tail, FL_hip", "FL_abduction, FL_hip"),
    ),
    "other default posture": (
        lambda p: p.contract["joints"][1].update(default_rad=0.7),
        ("default_rad of FL_hip", "0.7 in the policy", "0.6 on quad12"),
    ),
    "other joint limit": (
        lambda p: p.contract["joints"][2].update(position_max_rad=0.5),
        ("position_max_rad of FL_knee", "0.5 in the policy", "-0.1 on quad12"),
    ),
    "other gain": (
        lambda p: p.contract["servo"]["xc430_w240"].update(position_p_gain=800),
        ("servo position_p_gain", "800 in the policy", "700 on quad12"),
    ),
    "gain that no servo has": (
        lambda p: p.contract["servo"]["xc430_w240"].update(position_p_gain=20000),
        ("position_p_gain", "got 20000", "1 to 16383"),
    ),
    "joint without its servo": (
        lambda p: p.contract["joints"][4].update(servo="other"),
        ("contract.joints[4].servo", "'other'", "allowed: xc430_w240"),
    ),
    "tampered robot hash": (
        lambda p: p.contract.update(policy_hash="0" * 64),
        ("policy_hash", f"{'0' * 64} in the policy", "on quad12"),
    ),
    "missing channel": (
        lambda p: p.forget("channels", "joint_vel"),
        ("inputs", "'joint_vel': (12,)", "allowed: {'joint_pos'"),
    ),
    "unknown channel": (
        lambda p: p.rename("imu_gyro", "smell"),
        ("channel smell", "is unknown", "known are"),
    ),
    "channel without a source": (
        lambda p: p.rename("imu_gyro", "base_lin_vel"),
        ("channel base_lin_vel", "no source on quad12", "joints, imu, operator"),
    ),
    "channel twice": (
        lambda p: p.contract["channels"].append(p.channel),
        ("channels and memory", "'joint_pos', 'joint_pos'", "allowed: ["),
    ),
    "wrong shape": (
        lambda p: p.channel.update(shape=[13]),
        ("contract.channels[0].low", "got 12", "allowed: 13"),
    ),
    "shape without end": (
        lambda p: p.channel.update(shape=[HUGE, HUGE]),
        ("contract.channels[0].low", "got 12", f"allowed: {HUGE**2}"),
    ),
    "shape of nothing": (
        lambda p: p.channel.update(shape=[0]),
        ("contract.channels[0].shape[0]", "got 0", "1 or more"),
    ),
    "channel in degrees": (
        lambda p: p.channel.update(unit="deg"),
        ("channel joint_pos has unit", "'deg' in the policy", "'rad' here"),
    ),
    "channel in another frame": (
        lambda p: p.contract["channels"][3].update(frame="world"),
        ("channel imu_gyro has frame", "'world' in the policy", "'body' here"),
    ),
    "channel of another source": (
        lambda p: p.channel.update(source="imu"),
        ("channel joint_pos has source", "'imu' in the policy", "'joints' here"),
    ),
    "channel from nowhere": (
        lambda p: p.channel.update(source="guess"),
        ("contract.channels[0].source", "'guess'", "joints, imu"),
    ),
    "memory without initial value": (
        lambda p: p.contract["memory"][0].pop("initial"),
        ("contract.memory[0].initial", "is missing", "a list"),
    ),
    "memory of no length": (
        lambda p: p.contract["memory"][0].update(initial=[]),
        ("contract.golden[0] inputs", "'last_action': 12", "'last_action': 0"),
    ),
    "memory that the contract forgot": (
        lambda p: p.forget("memory", "gait_phase"),
        ("inputs", "'gait_phase': (1,)", "allowed: {'joint_pos'"),
    ),
    "command range cut short": (
        lambda p: p.contract.update(command_high=[0.4]),
        ("contract.command_high", "got 1", "allowed: 3"),
    ),
    "too few golden ticks": (
        lambda p: p.contract["golden"].pop(),
        ("contract.golden", "got 15", "allowed: 16"),
    ),
    "golden tick of another length": (
        lambda p: p.golden["joint_target"].pop(),
        ("contract.golden[3] outputs", "'joint_target': 11", "'joint_target': 12"),
    ),
    "golden target off by 1e-3": (
        lambda p: p.golden["joint_target"].__setitem__(5, p.golden["joint_target"][5] + 1e-3),
        ("contract.golden", "got 0.00", "up to 0.0001"),
    ),
    "golden memory off by 1e-3": (
        lambda p: p.golden["next_memory"]["gait_phase"].__setitem__(0, 1e-3),
        ("contract.golden", "got 0.", "up to 0.0001"),
    ),
    "NaN weights": (lambda p: p.weigh(nan_first), ("tensor ", "1 NaN", "allowed: none")),
    "infinite weights": (
        lambda p: p.weigh(lambda values: values * float("inf")),
        ("contract.golden", "got nan", "up to 0.0001"),
    ),
    "other weights": (
        lambda p: p.weigh(lambda values: values * 1.01),
        ("contract.golden", "got 0.", "up to 0.0001"),
    ),
    "oversized tensor": (
        lambda p: p.weights.dims.append(HUGE),
        ("tensor ", f"{HUGE}]", "allowed: what fits into"),
    ),
    "tensor of negative size": (
        lambda p: p.weights.dims.append(-1),
        ("tensor ", f"{(1 << 64) - 1}]", "allowed: what fits into"),
    ),
    "sparse tensor": (sparse, ("holds a graph that no policy has", "sparse tensor")),
    "weights outside the folder": (
        lambda p: p.external("../../secret"),
        ("tensor ", "'../../secret'", "data in the policy file"),
    ),
    "weights at an absolute path": (
        lambda p: p.external("/dev/zero"),
        ("tensor ", "'/dev/zero'", "data in the policy file"),
    ),
    "weights beside the file": (
        lambda p: p.external("weights.bin"),
        ("tensor ", "'weights.bin'", "data in the policy file"),
    ),
    "weights said to lie elsewhere": (
        lambda p: setattr(p.weights, "data_location", TensorProto.EXTERNAL),
        ("tensor ", "got ''", "data in the policy file"),
    ),
    "output of another name": (
        lambda p: setattr(p.model.graph.output[0], "name", "actions"),
        ("holds a graph that onnxruntime refuses", "actions"),
    ),
    "input in float64": (double_input, ("onnxruntime refuses", "tensor(double)")),
    "operator of someone else's": (foreign_operator, ("onnxruntime refuses", "com.example")),
    "no graph": (lambda p: p.model.Clear(), ("holds a graph that onnxruntime refuses",)),
    "robot of a later schema": (lambda p: p.robot.update(schema=2), ("schema", "got 2", "allowed: 1")),
    "robot without a limit": (
        lambda p: p.robot["limits"].pop("torque_nm"),
        ("limits.torque_nm", "is missing", "a finite number"),
    ),
    "robot with an unknown key": (
        lambda p: p.robot["limits"].update(torque=1.0),
        ("limits.torque", "unknown key", "torque_nm"),
    ),
    "gains beyond the servo's range": (
        lambda p: p.servo.update(position_p_gain=20000),
        ("position_p_gain", "got 20000", "1 to 16383"),
    ),
    "PWM limit beyond full drive": (
        lambda p: p.servo.update(pwm_limit=900),
        ("pwm_limit", "got 900", "1 to 885"),
    ),
    "torque limit beyond the servo's": (
        lambda p: p.robot["limits"].update(torque_nm=3.0),
        ("limits.torque_nm", "got 3.0", "up to 1.9"),
    ),
    "temperature beyond the servo's": (
        lambda p: p.robot["limits"].update(temperature_c=90.0),
        ("limits.temperature_c", "got 90.0", "up to 80"),
    ),
    "joint limits upside down": (
        lambda p: p.robot["joint"][0].update(position_min_rad=0.7),
        ("joint[0].position_min_rad", "got 0.7", "below 0.6"),
    ),
    "default posture outside the limits": (
        lambda p: p.robot["joint"][1].update(default_rad=2.5),
        ("joint[1].default_rad", "got 2.5", "-0.7 to 1.9"),
    ),
    "two joints with one id": (
        lambda p: p.robot["joint"][1].update(id=11),
        ("joint[1].id", "got 11", "an id of its own"),
    ),
    "joint beyond the encoder's turn": (
        lambda p: p.robot["joint"][0].update(position_max_rad=7.0),
        ("joint[0].position_max_rad", "got 7.0", "-3.1416 to"),
    ),
    "joint on no bus": (
        lambda p: p.robot["joint"][0].update(bus="arms"),
        ("joint[0].bus", "'arms'", "allowed: legs"),
    ),
    "robot with permuted joints": (
        lambda p: p.robot.update(joint=swapped(p.robot["joint"])),
        ("joint order", "FL_abduction, FL_hip", "FL_hip, FL_abduction"),
    ),
}


def refusals(policy: Path, robot: Path, capsys: pytest.CaptureFixture[str]) -> tuple[list[str], str]:
    """What `check` prints or raises, line by line, and what `run` raises."""
    with pytest.raises(BadInputError) as at_run:
        Run(str(policy), robot=str(robot)).run()
    try:
        assert Check(str(policy), robot=str(robot)).run() == 1
    except BadInputError as error:
        return [str(error)], str(at_run.value)
    printed = capsys.readouterr().out.splitlines()
    return [line.removeprefix("problem: ") for line in printed if line.startswith("problem: ")], str(
        at_run.value
    )


@pytest.mark.parametrize("name", ROWS)
def test_what_is_broken_is_refused_at_both_doors(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, says = ROWS[name]
    parts = Parts()
    change(parts)
    policy, robot = tmp_path / "policy.onnx", tmp_path / "robot.toml"
    policy.write_bytes(parts.policy())
    robot.write_text(to_toml(parts.robot), encoding="utf-8")
    lines, sentence = refusals(policy, robot, capsys)
    assert any(all(part in line for part in says) for line in lines), lines
    assert all(part in sentence for part in says), sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("cut short", lambda d: d[:-10], "is damaged or cut short"),
        ("cut to its graph", lambda d: d[:1000], "carries no robotrl contract"),
        ("a flipped bit", lambda d: d[:900] + bytes([d[900] ^ 1]) + d[901:], "its SHA-256 is not the one"),
        ("another digit in the contract", lambda d: d.replace(b'"rate_hz":50', b'"rate_hz":60'), "SHA-256"),
        ("another seal", lambda d: d[:-64] + b"0" * 64, "its SHA-256 is not the one"),
        ("empty", lambda d: b"", "carries no robotrl contract"),
        ("text", lambda d: b"[control]\nrate_hz = 50.0\n", "carries no robotrl contract"),
        ("no JSON", lambda d: seal(_graph().SerializeToString(), "{"), "a contract that is not JSON"),
        ("no table", lambda d: seal(_graph().SerializeToString(), "[1]"), "contract.schema"),
        ("too deep", lambda d: seal(b"", "[" * 100_000), "a contract that is not JSON"),
        ("too long a number", lambda d: seal(b"", "1" * 5000), "a contract that is not JSON"),
        ("no protobuf", lambda d: seal(b"no protobuf", json.dumps(shipped()[1])), "no policy has"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_damaged_file_is_refused_at_both_doors(
    name: str,
    content: Callable[[bytes], bytes],
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    policy = tmp_path / f"{name}.onnx"
    policy.write_bytes(content(find_shipped("policies", "quad12_walk").read_bytes()))
    lines, sentence = refusals(policy, find_shipped("hardware", "quad12"), capsys)
    for line in (*lines, sentence):
        assert line.startswith(f"{policy}: ")
        assert says in line
        assert "\n" not in line


def test_a_file_larger_than_any_policy_is_not_even_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = tmp_path / "policy.onnx"
    with policy.open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    lines, sentence = refusals(policy, find_shipped("hardware", "quad12"), capsys)
    assert lines == [sentence]
    assert f"is too large, got '{MAX_BYTES + 1} bytes'; allowed: up to {MAX_BYTES}" in sentence


def test_a_graph_within_a_graph_within_is_not_followed_for_ever(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = b""
    for _ in range(40):
        graph = bytes_field(1, bytes_field(5, bytes_field(6, graph)))  # node, attribute, graph
    policy = tmp_path / "policy.onnx"
    policy.write_bytes(seal(bytes_field(7, graph), json.dumps(shipped()[1])))
    _, sentence = refusals(policy, find_shipped("hardware", "quad12"), capsys)
    assert "holds a graph that no policy has: messages more than 50 deep" in sentence


def test_there_are_enough_of_them_and_none_is_broken_before_it_is_broken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(ROWS) >= 40
    policy, robot, parts = tmp_path / "policy.onnx", tmp_path / "robot.toml", Parts()
    policy.write_bytes(parts.policy())
    robot.write_text(to_toml(parts.robot), encoding="utf-8")
    assert Check(str(policy), robot=str(robot)).run() == 0
    assert "this policy may drive" in capsys.readouterr().out
