"""Laws of a wrapped policy: it answers what the foreign network answers, on the robot's own channels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from robotrl.cli.import_ import Import
from robotrl.cli.main import main
from robotrl.errors import BadInputError
from robotrl.export.card import card_of
from robotrl.export.foreign import read_foreign
from robotrl.export.graph import PolicyGraph, trace
from robotrl.export.network import ForeignNetwork, read_model
from robotrl.export.terms import interface_of
from robotrl.runtime.policy import Policy
from robotrl.spec.contract import read_policy_file
from tests.emulator.process import emulator
from tests.export import foreign_policy as foreign
from tests.export import sample

TOLERANCE = 1e-5


def wrapped(folder: Path, model: Path, **changes: Any) -> Path:
    """The policy file that the command makes of a foreign one."""
    out = folder / "out" / "policy.onnx"
    assert Import(model, foreign.description(folder, **changes), out, json=True).run() == 0
    return out


@pytest.fixture(scope="module")
def recurrent(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A foreign file and the policy file made of it."""
    folder = tmp_path_factory.mktemp("recurrent")
    model = foreign.recurrent(folder)
    return model, wrapped(folder, model, network={"memory": foreign.MEMORY})


def test_the_wrapped_network_answers_what_the_foreign_one_answers(recurrent: tuple[Path, Path]) -> None:
    """Joints in another order, a history, clips, a scale for each joint, two memories, an older ONNX."""
    model, file = recurrent
    assert foreign.worst_difference(file, foreign.by_hand(model, foreign.MEMORY)) < TOLERANCE
    policy, row = Policy.load(file), {name: values[0] for name, values in sample.recorded().items()}
    first = policy.step(row)
    assert np.abs(policy.step(row) - first).max() > 1e-3, "it remembers"
    policy.reset()
    np.testing.assert_array_equal(policy.step(row), first)


def test_a_clock_runs_at_its_own_period(tmp_path: Path) -> None:
    """Sine and cosine of a period that is no multiple of the tick's, over more than a cycle."""
    model = foreign.mlp(tmp_path, foreign.OBSERVATION + 2)
    file = wrapped(tmp_path, model, term=[*foreign.WALK["term"], foreign.CLOCK])
    assert foreign.worst_difference(file, foreign.by_hand(model, {})) < TOLERANCE
    policy = Policy.load(file)
    assert policy.memory["phase_6"] == 0.0


def test_verification_compares_with_the_foreign_network(tmp_path: Path) -> None:
    """What it takes for the truth is the file itself, run on the terms, not what is written."""
    model, toml = foreign.mlp(tmp_path), foreign.description(tmp_path)
    spec, robot = read_foreign(toml.read_text(encoding="utf-8"), toml), sample.quad12()
    network = ForeignNetwork(read_model(model), spec.network, model)
    run = trace(
        PolicyGraph(interface_of(spec, robot), network, robot.sizes), sample.recorded(), foreign.TICKS
    )
    tick = foreign.by_hand(model, {})
    for t, target in enumerate(run.command):
        wanted = tick({name: values[t] for name, values in sample.recorded().items()})
        np.testing.assert_allclose(target, wanted, atol=TOLERANCE)


def test_the_contract_says_what_it_is_and_where_it_comes_from(recurrent: tuple[Path, Path]) -> None:
    file = recurrent[1]
    data, contract, sha256 = read_policy_file(file)
    channels = ("joint_pos", "joint_vel", "imu_quat", "imu_gyro", "velocity_command")
    assert tuple(c.name for c in contract.channels) == channels
    assert contract.joint_names == sample.quad12().joint_names
    assert (contract.command_low, contract.command_high) == sample.COMMAND_RANGE
    assert contract.action_scale_rad == 0.125
    assert {m.name: len(m.initial) for m in contract.memory} == {
        "last_action": 12,
        "started": 1,
        "history_3_joint_pos": 24,
        "actor_memory": 16,
    }
    assert contract.provenance.origin.startswith("foreign.onnx, SHA-256 ")
    assert contract.provenance.versions["elsewhere (origin)"] == "1.2"
    assert "projected_gravity" in contract.provenance.config
    card = file.with_name("card.md").read_text(encoding="utf-8")
    assert card == card_of(file)
    assert "| wrapped around | foreign.onnx, SHA-256 " in card
    assert sha256 in card
    assert [(o.domain, o.version) for o in onnx.load_from_string(data).opset_import] == [("", 18)]


def test_the_network_stays_what_it_was_node_for_node(recurrent: tuple[Path, Path]) -> None:
    model, file = (onnx.load(str(path)) for path in recurrent)
    within = [n.op_type for n in file.graph.node if any(name.startswith("network/") for name in n.output)]
    inside = [n.op_type for n in model.graph.node]
    assert any(within[i : i + len(inside)] == inside for i in range(len(within)))
    held = {i.name: i.raw_data for i in file.graph.initializer}
    assert all(held[f"network/{i.name}"] == i.raw_data for i in model.graph.initializer)


def test_it_stands_on_the_emulated_robot(
    recurrent: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with emulator("--clock", "bus") as robot:
        ports = [part for name, port in robot.ports.items() for part in ("--port", f"{name}={port}")]
        options = ["--clock", "bus", "--duration-s", "3", "--arm", "--json"]
        assert main(["run", str(recurrent[1]), *ports, *options]) == 0
    report = json.loads(capsys.readouterr().out)
    assert any(event["text"].lower().endswith("-> policy") for event in report["events"])
    assert not {"HOLD", "DAMP", "LIMP"} & report["verdicts"].keys()


CHANGES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    # What is wrong in the description -> its entries, and what the sentence says.
    "joint unknown": (
        {"joints": ["tail", *foreign.JOINTS[1:]]},
        ("joints", "'tail'", "FL_abduction, FL_hip"),
    ),
    "joint missing": ({"joints": list(foreign.JOINTS[1:])}, ("joints", "FR_hip", "FL_abduction, FL_hip")),
    "other rate": ({"rate_hz": 100.0}, ("rate_hz", "got 100.0", "allowed: 50.0")),
    "stiffer": ({"stiffness_nm_rad": [20.0]}, ("stiffness_nm_rad", "got 20.0", "7.65")),
    "more damped": ({"damping_nm_s_rad": [0.5]}, ("damping_nm_s_rad", "got 0.5", "0.2592 within 10%")),
    "gains of some": ({"stiffness_nm_rad": [7.65] * 3}, ("stiffness_nm_rad", "12 numbers or one for all")),
    "unknown robot": ({"robot": "hexapod"}, ("no such file or shipped name", "'hexapod'", "quad12")),
    "an arm": ({"robot": "fetch_sim"}, ("robot", "'fetch_sim'", "robot of joints")),
    "no terms": ({"term": []}, ("term", "[[term]] tables")),
    "clock without a period": (
        {"term": [{"name": "gait_phase"}]},
        ("term[0].period_s", "got 0.0", "above 0 for gait_phase"),
    ),
    "period of no clock": (
        {"term": [{"name": "imu_gyro", "period_s": 0.5}]},
        ("term[0].period_s", "got 0.5", "for no other term"),
    ),
    "unknown term": ({"term": [{"name": "smell"}]}, ("term[0].name", "'smell'", "projected_gravity")),
    "term without a source": (
        {"term": [{"name": "base_lin_vel"}], "command_low": [], "command_high": []},
        ("channel base_lin_vel", "no source on quad12"),
    ),
    "term of another robot's": (
        {"term": [{"name": "point_pos"}]},
        ("term[0].name", "'point_pos'", "joint_pos"),
    ),
    "scales of another term": (
        {"term": [{"name": "imu_gyro", "scale": [1.0, 2.0]}]},
        ("term[0].scale", "[1.0, 2.0]", "3 numbers or one for all"),
    ),
    "history of none": (
        {"term": [{"name": "imu_gyro", "history": 0}]},
        ("term[0].history", "got 0", "1 to 1000"),
    ),
    "too short an observation": (
        {"term": [{"name": "imu_gyro"}], "command_low": [], "command_high": []},
        ("obs", "got 69", "allowed: 3"),
    ),
    "no command range": ({"command_low": []}, ("command_low", "got []", "3 numbers")),
    "an action that moves nothing": (
        {"action": {"scale_rad": [0.0], "offset_rad": [0.0]}},
        ("action.scale_rad", "other than 0"),
    ),
    "other output": ({"network": {"action": "mean"}}, ("outputs", "'actions'", "mean in float32")),
    "other input": ({"network": {"observation": "x"}}, ("inputs", "'obs'", "x in float32")),
    "memory that is not there": (
        {"network": {"memory": {"h": "h"}}},
        ("inputs", "'obs'", "obs, h in float32"),
    ),
    "unknown key": ({"gait_hz": 2.0}, ("gait_hz", "unknown key", "rate_hz")),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_description_that_does_not_fit_is_refused(name: str, tmp_path: Path) -> None:
    changes, says = CHANGES[name]
    sentence = refusal(tmp_path, foreign.mlp(tmp_path), **changes)
    assert all(part in sentence for part in says), sentence


def refusal(folder: Path, model: Path, **changes: Any) -> str:
    with pytest.raises(BadInputError) as refused:
        Import(model, foreign.description(folder, **changes), folder / "out" / "policy.onnx").run()
    assert not [p for p in folder.rglob("*") if p.parent.name == "out"], "nothing is written"
    sentence = str(refused.value)
    assert "\n" not in sentence
    return sentence


def test_weights_may_lie_beside_the_model_and_nowhere_else(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(1 << 16))
    folder = tmp_path / "logs"
    folder.mkdir()
    model = foreign.mlp(folder)
    for location in ("../secret", str(secret), "nowhere", "link"):
        if location == "link":
            (folder / "link").symlink_to(secret)
        held = onnx.load(str(model))
        tensor = held.graph.initializer[2]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        broken = folder / "broken.onnx"
        broken.write_bytes(held.SerializeToString())
        sentence = refusal(folder, broken)
        assert "tensor first: lies outside of the model's folder, or nowhere" in sentence
        assert repr(location) in sentence


def test_what_is_no_network_is_refused(tmp_path: Path) -> None:
    model = foreign.mlp(tmp_path)
    held = onnx.load(str(model))
    held.opset_import.append(helper.make_opsetid("com.example", 1))
    strange = tmp_path / "strange.onnx"
    strange.write_bytes(held.SerializeToString())
    assert "opset_import: has operators that not every runtime has, got 'com.example'" in refusal(
        tmp_path, strange
    )
    strange.write_bytes(b"no model")
    assert "is no ONNX model" in refusal(tmp_path, strange)
    strange.write_bytes(model.read_bytes()[:-200])
    assert "is no ONNX model" in refusal(tmp_path, strange)
    strange.unlink()
    assert "cannot be read" in refusal(tmp_path, strange)
    assert "is not as long as the joints together, got 11; allowed: 12" in refusal(
        tmp_path, foreign.mlp(tmp_path, action=11)
    )


def test_the_foreign_file_is_not_overwritten(tmp_path: Path) -> None:
    model = foreign.mlp(tmp_path)
    before = model.read_bytes()
    with pytest.raises(BadInputError, match="would overwrite the foreign policy"):
        Import(model, foreign.description(tmp_path), model).run()
    assert model.read_bytes() == before


def test_the_description_is_not_overwritten(tmp_path: Path) -> None:
    model, terms = foreign.mlp(tmp_path), foreign.description(tmp_path)
    before = terms.read_bytes()
    with pytest.raises(BadInputError, match="--out: would overwrite its description"):
        Import(model, terms, terms).run()
    with pytest.raises(BadInputError, match="--out: is no policy file"):
        Import(model, terms, tmp_path / "other.toml").run()
    assert terms.read_bytes() == before
