"""Laws of the written file: complete or absent, reproducible, and free of the machine that wrote it."""

from __future__ import annotations

import dataclasses
import getpass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import robotrl
from robotrl.errors import PolicyError, VerificationError
from robotrl.export.graph import PolicyGraph
from robotrl.export.onnx import export_policy, model_bytes
from robotrl.spec.contract import GOLDEN_TICKS
from tests.export import sample


def test_the_graph_has_the_contracts_inputs_and_outputs_in_float32_without_a_batch() -> None:
    model = onnx.load(str(sample.exported()[0]))
    for values, sizes in (
        (model.graph.input, sample.contract().input_sizes),
        (model.graph.output, sample.contract().output_sizes),
    ):
        found = {
            v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim)
            for v in values
            if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        }
        assert found == sizes
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]


def test_the_file_says_nothing_about_the_machine() -> None:
    data = sample.exported()[0].read_bytes()
    here = Path(robotrl.__file__).parent
    for trace_of_it in (str(here.parent), "site-packages", ".py", "stack_trace", str(Path.home())):
        assert trace_of_it.encode() not in data
    assert f"/{getpass.getuser()}/".encode() not in data


def test_the_same_network_gives_the_same_graph() -> None:
    data = sample.exported()[0].read_bytes()
    assert data.startswith(model_bytes(PolicyGraph(sample.interface(), sample.actor(), sample.SIZES)))


def test_the_contract_describes_what_was_exported() -> None:
    contract, run, robot = sample.contract(), sample.run(), sample.quad12()
    assert (contract.robot, contract.policy_hash) == ("quad12", robot.policy_hash)
    assert contract.joint_names == robot.joint_names
    assert contract.rate_hz == robot.control.rate_hz
    assert [j.stiffness_nm_rad for j in contract.joints] == list(robot.stiffness_nm_rad)
    assert contract.action_scale_rad == 0.3
    assert (contract.command_low, contract.command_high) == sample.COMMAND_RANGE
    assert contract.normaliser_count == 4096
    assert contract.provenance == sample.PROVENANCE
    assert [(m.name, m.initial) for m in contract.memory] == [
        ("last_action", (0.0,) * 12),
        ("clock", (0.25,)),
    ]
    pos = run.inputs["joint_pos"]
    np.testing.assert_allclose(contract.channels[0].low, np.quantile(pos, 0.001, axis=0), rtol=1e-6)
    np.testing.assert_allclose(contract.channels[0].median, np.median(pos, axis=0), rtol=1e-6)
    np.testing.assert_allclose(contract.channels[0].high, np.quantile(pos, 0.999, axis=0), rtol=1e-6)
    assert [j.target_max_rad for j in contract.joints] == list(run.outputs["joint_target"].max(0))


def test_golden_ticks_are_recorded_ticks_from_first_to_last() -> None:
    golden, run = sample.contract().golden, sample.run()
    assert len(golden) == GOLDEN_TICKS
    for tick, t in ((golden[0], 0), (golden[-1], len(run) - 1)):
        for name, values in {**tick.channels, **tick.memory}.items():
            np.testing.assert_array_equal(np.array(values, np.float32), run.inputs[name][t].ravel())
        np.testing.assert_array_equal(tick.joint_target, run.outputs["joint_target"][t])
    assert len({tick.joint_target for tick in golden}) == GOLDEN_TICKS


def test_a_channel_without_a_source_is_refused_before_any_work(tmp_path: Path) -> None:
    file = tmp_path / "policy.onnx"
    wants = dataclasses.replace(sample.interface(), channels=("joint_pos", "base_lin_vel"))
    with pytest.raises(PolicyError, match="channel base_lin_vel has no source on quad12; sources are joints"):
        export_policy(
            file, wants, sample.actor(), sample.quad12(), {}, sample.PROVENANCE, sample.COMMAND_RANGE
        )
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_fails_verification_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "policy.onnx"
    file.write_bytes(b"the old policy")
    model = onnx.load(str(sample.exported()[0]))
    del model.metadata_props[:]
    (weights,) = [i for i in model.graph.initializer if tuple(i.dims) == (64, 64)]
    wrong = numpy_helper.to_array(weights).copy()
    wrong[5, 7] += 0.01
    weights.CopyFrom(numpy_helper.from_array(wrong, weights.name))
    monkeypatch.setattr("robotrl.export.onnx.trace", lambda *_: sample.run())
    monkeypatch.setattr("robotrl.export.onnx.model_bytes", lambda _: model.SerializeToString())
    with pytest.raises(VerificationError):
        sample.export(file)
    assert [p.name for p in tmp_path.iterdir()] == ["policy.onnx"]
    assert file.read_bytes() == b"the old policy"


def test_a_place_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robotrl.export.onnx.trace", lambda *_: sample.run())
    monkeypatch.setattr("robotrl.export.onnx.model_bytes", lambda _: b"")
    monkeypatch.setattr("robotrl.export.onnx.verify", lambda *_: sample.exported()[1])
    with pytest.raises(PolicyError, match="cannot be written"):
        sample.export(tmp_path / "no such folder" / "policy.onnx")
    (tmp_path / "policy.onnx").mkdir()
    with pytest.raises(PolicyError, match="cannot be written"):
        sample.export(tmp_path / "policy.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["policy.onnx"]


def test_exporting_leaves_the_network_as_it_was() -> None:
    actor = sample.actor().train()
    before = {name: value.clone() for name, value in actor.state_dict().items()}
    PolicyGraph(sample.interface(), actor, sample.SIZES)
    assert actor.training
    assert all(p.requires_grad for p in actor.parameters())
    assert all(torch.equal(value, before[name]) for name, value in actor.state_dict().items())
