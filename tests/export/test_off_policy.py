"""The tanh actors of SAC and TD3 as policy graphs: the file answers the mean action of the network."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from robotrl.export.graph import PolicyGraph, evaluate
from robotrl.export.onnx import model_bytes
from robotrl.learn.off_policy import OffPolicy
from robotrl.learn.sac import Sac, SacParams
from robotrl.learn.td3 import Td3, Td3Params
from tests.export import sample
from tests.learn.test_off_policy import COMMON

ROWS = 50


def learner(kind: str) -> OffPolicy:
    """An untrained one for the sample's observation and actions within -1 to 1, its actions not small."""
    sizes = sample.OBSERVATION, 0, [-1.0] * 12, [1.0] * 12
    torch.manual_seed(1)
    made = Sac(SacParams(**COMMON), *sizes) if kind == "sac" else Td3(Td3Params(**COMMON), *sizes)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in made.actor.parameters():
            parameter.mul_(2.0)
    return made


@pytest.mark.parametrize("kind", ["sac", "td3"])
def test_the_file_answers_the_mean_action(kind: str) -> None:
    actor = learner(kind).actor
    graph = PolicyGraph(sample.interface(), actor, sample.SIZES)
    session = onnxruntime.InferenceSession(model_bytes(graph))
    inputs = {name: values[:ROWS] for name, values in sample.run().inputs.items()}
    wanted = evaluate(graph, inputs)
    rows = [session.run(None, {name: values[t] for name, values in inputs.items()}) for t in range(ROWS)]
    for i, (name, values) in enumerate(wanted.items()):
        np.testing.assert_allclose([row[i] for row in rows], values, atol=1e-5, err_msg=name)
    actions = wanted["next_last_action"]
    assert np.abs(actions).max() <= 1.0
    assert np.ptp(actions, axis=0).max() > 0.1
    observed = graph.interface.observe(
        *(
            {n: torch.from_numpy(inputs[n]) for n in names}
            for names in (graph.interface.channels, [m.name for m in graph.interface.memory])
        )
    )
    with torch.no_grad():
        np.testing.assert_allclose(actor(observed).numpy(), actions, atol=1e-6)
