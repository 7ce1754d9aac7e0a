"""Starting from what another run has learned: what is taken over, held, slowed down or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robotrl.cli.main import WRONG_USE, main
from robotrl.cli.train import Train
from robotrl.learn.checkpoint import newest_checkpoint
from robotrl.learn.flat import Adam
from tests.cli.test_resume import ROWS, WALK, config

FLAT = {
    "worlds = 1024": WALK["worlds = 1024"],
    "steps = 16\n": WALK["steps = 16\n"],
    "hidden = [64, 64]": "hidden = [8, 8]",
}


def learned(folder: Path) -> dict[str, Tensor]:
    return newest_checkpoint(folder).tensors(0, "learner")


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """A run on flat ground, whose critic does not look at the terrain."""
    file = config(tmp_path, "quad12_walk_ppo", FLAT, 1)
    Train(config=file, out=tmp_path / "flat", steps=2 * ROWS).train(quiet=True)
    return tmp_path / "flat"


def test_a_walker_goes_on_on_rough_ground_with_a_frozen_first_layer(
    flat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder = config(tmp_path, "quad12_rough_ppo", WALK, 1), tmp_path / "rough"
    with Path(file).open("a") as text:
        text.write('\n[init]\nfreeze = ["actor.net.0"]\nlr_scale = { critic = 0.5 }\n')
    Train(config=file, out=folder, init_from=flat, steps=ROWS).train(quiet=False)
    said = " ".join(capsys.readouterr().out.split())
    assert f"tensors from {newest_checkpoint(flat).folder}" in said.replace(" ", "").replace(
        "tensorsfrom", "tensors from "
    )
    before, after = learned(flat), learned(folder)
    assert torch.equal(before["actor.net.0.weight"], after["actor.net.0.weight"])
    assert not torch.equal(before["actor.net.2.weight"], after["actor.net.2.weight"])
    assert (before["actor.net.2.weight"] - after["actor.net.2.weight"]).abs().max() < 0.05, "not from nothing"
    assert after["actor.norm.count"] > before["actor.norm.count"] == 2 * ROWS

    Train(resume=folder, steps=2 * ROWS).train(quiet=True)
    assert torch.equal(before["actor.net.0.weight"], learned(folder)["actor.net.0.weight"]), "still frozen"


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ('freeze = ["leg"]', "init: is no part of the learner, got 'leg'; allowed: actor, critic, log_std"),
        ("freze = []", "init.freze: unknown key"),
    ],
)
def test_parts_that_do_not_exist_are_refused(
    table: str, named: str, flat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = config(tmp_path, "quad12_rough_ppo", WALK, 1)
    with Path(file).open("a") as text:
        text.write(f"\n[init]\n{table}\n")
    assert main(["train", file, "--out", str(tmp_path / "rough"), "--init-from", str(flat)]) == WRONG_USE
    assert named in capsys.readouterr().err


def test_an_actor_of_another_size_is_refused(
    flat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = config(tmp_path, "quad12_rough_ppo", WALK | {"hidden = [128, 64]": "hidden = [16, 8]"}, 1)
    assert main(["train", file, "--out", str(tmp_path / "rough"), "--init-from", str(flat)]) == WRONG_USE
    assert "actor.net.0.weight: is the checkpoint of another network" in capsys.readouterr().err


def test_a_scaled_rate_is_adam_at_that_rate() -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(2, 3), torch.randn(5, 2, 3)

    def moved(lr: float, factor: float) -> Tensor:
        parameter = nn.Parameter(start.clone())
        adam = Adam([parameter], lr)
        adam.scale_rates(lambda _: factor)
        for gradient in gradients:
            adam.flat.gradient.copy_(gradient.flatten())
            adam.step()
        return parameter.detach()

    torch.testing.assert_close(moved(1e-2, 0.25), moved(0.25e-2, 1.0))
    assert torch.equal(moved(1e-2, 0.0), start)
