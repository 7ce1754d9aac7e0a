"""A policy that rsl_rl itself exports answers the same when it is wrapped; rsl_rl is an optional extra."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch

from robotrl.cli.import_ import Import
from robotrl.runtime.policy import Policy
from tests.export import foreign_policy as foreign

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    models = pytest.importorskip("rsl_rl.models")
    tensordict = pytest.importorskip("tensordict")

TOLERANCE = 1e-5
MEMORY = {"h_in": "h_out", "c_in": "c_out"}


def exported(folder: Path) -> Path:
    """What rsl_rl's runner writes for an untrained LSTM with its normaliser in use; weights lie beside it."""
    torch.manual_seed(3)
    seen = tensordict.TensorDict({"policy": torch.zeros(1, foreign.OBSERVATION)}, batch_size=[1])
    model = models.RNNModel(
        seen,
        {"actor": ["policy"]},
        "actor",
        12,
        hidden_dims=[64, 32],
        activation="elu",
        obs_normalization=True,
        distribution_cfg={"class_name": "GaussianDistribution", "init_std": 1.0},
        rnn_type="lstm",
        rnn_hidden_dim=16,
    )
    rows = 2.0 * torch.randn(256, foreign.OBSERVATION) + 0.5
    model.update_normalization(tensordict.TensorDict({"policy": rows}, batch_size=[256]))
    made = model.as_onnx(verbose=False).to("cpu").eval()
    file = folder / "policy.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            made,
            made.get_dummy_inputs(),
            str(file),
            export_params=True,
            opset_version=18,
            verbose=False,
            input_names=made.input_names,
            output_names=made.output_names,
        )
    return file


def test_a_policy_of_rsl_rl_answers_the_same_when_wrapped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = exported(tmp_path)
    beside = model.with_name("policy.onnx.data")
    assert beside.is_file()
    out = tmp_path / "out" / "policy.onnx"
    assert Import(model, foreign.description(tmp_path, network={"memory": MEMORY}), out, json=True).run() == 0
    assert json.loads(capsys.readouterr().out)["parity_error"] < TOLERANCE
    tick = foreign.by_hand(model, MEMORY)
    beside.unlink()  # the wrapped file is whole
    assert foreign.worst_difference(out, tick) < TOLERANCE
    policy = Policy.load(out)
    assert policy.contract.provenance.versions["pytorch (origin)"] == torch.__version__
    assert policy.replay_golden() < TOLERANCE
