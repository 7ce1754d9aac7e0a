"""A policy file read back: the same actor, or one clear refusal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from robotrl.errors import PolicyError
from robotrl.export.graph import PolicyGraph
from robotrl.export.onnx import model_bytes
from robotrl.export.verify import PARITY_TOLERANCE, verify
from robotrl.export.weights import read_actor
from robotrl.learn.networks import Actor, mirror_mlp, plain_mlp
from robotrl.learn.normalize import RunningNorm
from robotrl.learn.squashed import Span, SquashedPolicy
from robotrl.spec.contract import read_policy_file
from tests.export import sample

FILE = Path("policy.onnx")
SEEN = (range(sample.OBSERVATION)[::-1], [1.0] * sample.OBSERVATION)
MOVED = (range(12)[::-1], [-1.0] * 12)


def span() -> Span:
    return Span(torch.linspace(-3.0, -1.0, 12), torch.linspace(1.0, 2.0, 12))


def plain(outputs: int = 12) -> nn.Sequential:
    return plain_mlp(sample.OBSERVATION, (32, 16, 8), outputs, 0.5, "tanh")


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mirrored": lambda: mirror_mlp(SEEN, (32, 16, 8), MOVED, 0.5),
    "plain": plain,
    "squashed": lambda: SquashedPolicy(plain(24), span()),
    "bounded": lambda: nn.Sequential(nn.Sequential(plain(), nn.Tanh()), span()),
}


def used(net: nn.Module) -> Actor:
    """An actor whose every tensor is another one than at the start, one variance below the floor."""
    norm = RunningNorm(sample.OBSERVATION)
    norm.mean.copy_(torch.linspace(-1.0, 1.0, sample.OBSERVATION))
    norm.var.copy_(torch.linspace(1e-6, 9.0, sample.OBSERVATION))
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    return Actor(norm, net)


def written(actor: Actor) -> bytes:
    return model_bytes(PolicyGraph(sample.interface(), actor, sample.SIZES))


def blank(net: nn.Module) -> Actor:
    return Actor(RunningNorm(sample.OBSERVATION), net)


@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS.keys())
def test_an_actor_comes_back(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(1)
    actor, other = used(build()), blank(build())
    seen = 3 * torch.randn(500, sample.OBSERVATION)
    assert (other(seen) - actor(seen)).abs().max() > 0.1
    tensors = read_actor(other, written(actor), 4096.0, FILE)
    missing, strange = other.load_state_dict(tensors, strict=False)
    torch.testing.assert_close(other(seen), actor(seen), rtol=0, atol=PARITY_TOLERANCE)
    other.norm = actor.norm
    assert torch.equal(other(seen), actor(seen)), "weights come back bit for bit"
    assert not strange
    assert not set(missing) & {name for name, _ in other.named_parameters()}
    assert tensors["norm.count"] == 4096


def test_what_comes_back_equals_the_file_itself() -> None:
    file, _ = sample.exported()
    data, contract, _ = read_policy_file(file)
    actor = sample.actor(seed=1)
    actor.load_state_dict(read_actor(actor, data, contract.normaliser_count, file), strict=False)
    verify(data, PolicyGraph(sample.interface(), actor, sample.SIZES), contract, sample.run())
    assert actor.norm.count == sample.actor().norm.count


class Recurrent(nn.Module):
    """A layer that remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(sample.OBSERVATION, 12)


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "wider": (
        lambda: plain_mlp(sample.OBSERVATION, (64, 16, 8), 12, 0.5),
        r"actor\.net\.0\.weight: is the policy of another network, got \[32, 48\]; allowed: \[64, 48\]",
    ),
    "deeper": (
        lambda: plain_mlp(sample.OBSERVATION, (32, 16, 8, 8), 12, 0.5),
        "actor.net: is the policy of another network, got '4 layers'; allowed: 5",
    ),
    "mirrored": (NETWORKS["mirrored"], r"actor\.net\.0: is not mirrored as the task's reflection says"),
    "recurrent": (Recurrent, r"actor\.net\.cell: cannot be read back from a policy file, got 'GRUCell'"),
}


@pytest.mark.parametrize(("build", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_another_network_is_refused(build: Callable[[], nn.Module], sentence: str) -> None:
    with pytest.raises(PolicyError, match=rf"^policy\.onnx: {sentence}"):
        read_actor(blank(build()), written(used(plain())), 1.0, FILE)


def test_another_observation_is_refused() -> None:
    narrow = Actor(RunningNorm(47), plain_mlp(47, (32, 16, 8), 12, 0.5))
    with pytest.raises(PolicyError, match=r"actor\.norm\.mean: .* got \[48\]; allowed: \[47\]"):
        read_actor(narrow, written(used(plain())), 1.0, FILE)
