"""A network that is evaluated in numpy is the network that torch evaluates."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from robotrl.learn.flat import Flat
from robotrl.learn.networks import mirror_mlp, plain_mlp
from robotrl.learn.plain import Evaluated, is_plain


def close(evaluated: Evaluated, net: nn.Module, x: Tensor) -> None:
    before = x.clone()
    with torch.no_grad():
        torch.testing.assert_close(evaluated(x), net(x), rtol=1e-5, atol=1e-6)
    assert torch.equal(x, before)


@pytest.mark.parametrize("hidden", [(), (8,), (8, 6)])
@pytest.mark.parametrize("shape", [(5, 4), (3, 5, 4), (0, 4)])
def test_the_same_comes_out(hidden: tuple[int, ...], shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    net = plain_mlp(4, hidden, 3, 1.0, "tanh") if hidden else nn.Sequential(nn.Linear(4, 3))
    assert is_plain(net)
    close(Evaluated(net), net, torch.randn(shape))


def test_parameters_are_followed_wherever_they_go() -> None:
    net = plain_mlp(4, (8,), 3, 1.0, "tanh")
    evaluated, x = Evaluated(net), torch.randn(5, 4)
    close(evaluated, net, x)
    flat = Flat(net.parameters())
    flat.vector.mul_(2.0)
    close(evaluated, net, x)
    flat.vector.mul_(0.5)
    close(evaluated, net, x)


def test_other_networks_are_left_to_torch() -> None:
    relu = plain_mlp(4, (8,), 3, 1.0, "relu")
    mirrored = mirror_mlp((range(4), (1.0,) * 4), (8,), (range(3), (1.0,) * 3), 1.0, "tanh")
    for net in (relu, mirrored):
        assert not is_plain(net)
        close(Evaluated(net), net, torch.randn(5, 4))
