"""Starting from what another run has learned: what is taken over, held, slowed down or refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robotrl.cli.algorithms import Init
from robotrl.cli.finetune import REMEMBERED, take_over
from robotrl.cli.gymfile import read_training
from robotrl.cli.main import WRONG_USE, main
from robotrl.cli.runfile import Job, read_job
from robotrl.cli.train import Train
from robotrl.export.graph import PolicyGraph, evaluate
from robotrl.export.onnx import model_bytes
from robotrl.export.verify import PARITY_TOLERANCE
from robotrl.learn.checkpoint import newest_checkpoint
from robotrl.learn.flat import Adam
from robotrl.learn.networks import Actor
from robotrl.learn.ppo import Ppo
from robotrl.learn.td3 import Td3
from robotrl.spec.contract import read_policy_file
from robotrl.spec.seal import seal
from robotrl.spec.shipped import find_shipped
from tests.cli.test_resume import ROWS, TABLES, WALK, config

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
        (
            'freeze = ["leg"]',
            "init: is no part that the learner moves, got 'leg'; allowed: actor, critic, log_std",
        ),
        ('freeze = ["actor.norm"]', "init: is no part that the learner moves, got 'actor.norm'"),
        ("lr_scale = { critic = -1 }", "init.lr_scale.critic: is out of range, got -1; allowed: 0 or more"),
        (
            'freeze = ["critic"]\nlr_scale = { critic = 0.5 }',
            "init: is frozen and has a learning rate, got 'critic'; allowed: one of both",
        ),
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
    assert not (tmp_path / "rough").exists()


def test_an_actor_of_another_size_is_refused(
    flat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = config(tmp_path, "quad12_rough_ppo", WALK | {"hidden = [128, 64]": "hidden = [16, 8]"}, 1)
    assert main(["train", file, "--out", str(tmp_path / "rough"), "--init-from", str(flat)]) == WRONG_USE
    assert "actor.net.0.weight: is the checkpoint of another network" in capsys.readouterr().err
    assert not (tmp_path / "rough").exists()


ROUGH64 = WALK | {"hidden = [128, 64]": "hidden = [64, 64]"}
"""Small, but with the networks of the shipped policy."""


def test_a_shipped_policy_goes_on_with_a_new_critic(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder = config(tmp_path, "quad12_rough_ppo", ROUGH64, 1), tmp_path / "rough"
    job = read_job(Path(file))
    with Path(file).open("a") as text:
        text.write('\n[init]\nfreeze = ["actor"]\n')
    Train(config=file, out=folder, init_from=Path("quad12_walk"), steps=ROWS).train(quiet=False)
    said = " ".join(capsys.readouterr().out.split())
    assert "starts from the actor and its statistics in" in said
    assert "the critic is new" in said
    assert 'run = "quad12_walk"' in (folder / "config.toml").read_text()
    _, contract, _ = read_policy_file(find_shipped("policies", "quad12_walk"))
    learned_here = learned(folder)
    assert learned_here["actor.norm.count"] == REMEMBERED + ROWS, "what only the critic sees must catch up"

    learner = job.learner()
    assert isinstance(learner, Ppo)
    critic = learner.model.critic.get_parameter("0.weight").clone()
    take_over(learner, Init("quad12_walk"), job)
    for name, value in learner.actor.net.state_dict().items():
        assert torch.equal(value, learned_here[f"actor.net.{name}"]), "frozen"
    assert torch.equal(learner.model.critic.get_parameter("0.weight"), critic)
    assert learner.model.log_std.exp().allclose(torch.tensor(0.8)), "as the TOML says"
    assert learner.actor.norm.count == contract.normaliser_count
    assert torch.equal(learner.model.critic_norm.mean[:47], learner.actor.norm.mean)


def replaced(file: Path, *pairs: tuple[str, str]) -> str:
    text = file.read_text()
    for old, new in pairs:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    file.write_text(text)
    return str(file)


@pytest.mark.parametrize(
    ("pairs", "named"),
    [
        (
            [("hidden = [64, 64]", "hidden = [64, 32]")],
            "actor.net.2.weight: is the policy of another network, got [64, 64]; allowed: [32, 64]",
        ),
        (
            [("hidden = [64, 64]", 'hidden = [64, 64]\nactivation = "tanh"')],
            "contract.golden: gives other joint targets here than where it was trained, got",
        ),
        (
            [("action_scale_rad = 0.35", "action_scale_rad = 0.4")],
            "contract.action_scale_rad: is another one than this run's, got 0.35; allowed: 0.4",
        ),
    ],
)
def test_a_policy_that_does_not_fit_is_refused(
    pairs: list[tuple[str, str]], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = replaced(Path(config(tmp_path, "quad12_rough_ppo", ROUGH64, 1)), *pairs)
    out = tmp_path / "out"
    assert main(["train", file, "--out", str(out), "--init-from", "quad12_walk"]) == WRONG_USE
    [sentence] = capsys.readouterr().err.splitlines()
    assert f"{find_shipped('policies', 'quad12_walk')}: {named}" in sentence
    assert not out.exists()


def test_a_policy_for_another_robot_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = find_shipped("hardware", "quad12").parent
    shutil.copytree(home, tmp_path / "cat12")
    replaced(tmp_path / "cat12" / "robot.toml", ('name = "quad12"', 'name = "cat12"'))
    file = config(tmp_path, "quad12_rough_ppo", ROUGH64, 1)
    replaced(Path(file), ('robot = "quad12"', f'robot = "{tmp_path / "cat12"}"'))
    out = tmp_path / "out"
    assert main(["train", file, "--out", str(out), "--init-from", "quad12_walk"]) == WRONG_USE
    assert "policy.onnx: robot: is another one than this run's, got 'quad12'; allowed: 'cat12'" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("start", "named"),
    [
        ("quad12_walk", "policy.onnx: env: is another one than this run's, got 'none'; allowed: 'Hopper-v5'"),
        ("RUN", "env: is another one than this run's, got 'InvertedPendulum-v5'; allowed: 'Hopper-v5'"),
        ("nothing", "init.run: is neither the folder of a run nor a policy, got 'nothing'"),
    ],
)
def test_what_was_learned_elsewhere_is_refused(
    start: str, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, run = config(tmp_path, "classic", {}, 1), tmp_path / "run"
    if start == "RUN":
        Train(config=file, env="robotrl/InvertedPendulum-v5", out=run, steps=ROWS).train(quiet=True)
    arguments = ["train", file, "--out", str(tmp_path / "out"), "--init-from", start.replace("RUN", str(run))]
    assert main(arguments) == WRONG_USE
    assert named in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


TD3 = f"""algorithm = "td3"

[td3]
steps = 8
start = {ROWS}
batch = 8
replay = 1_000
hidden = [16, 8]
"""


@pytest.fixture
def bounded(tmp_path: Path) -> str:
    """A run of the robot with TD3."""
    file = Path(config(tmp_path, "quad12_walk_ppo", FLAT | {"hidden = [64, 64]": "hidden = [8, 8]"}, 1))
    text = file.read_text()
    head, table = TD3.split("\n\n")
    text = text[: text.index("[ppo]")].replace('algorithm = "ppo"', head) + table
    file.write_text(text)
    return str(file)


def exported(actor: Actor, job: Job, file: Path) -> None:
    """Write an actor as `robotrl export` does, with the shipped policy's recorded ticks."""
    _, contract, _ = read_policy_file(find_shipped("policies", "quad12_walk"))
    graph = PolicyGraph(job.task.policy, actor, job.robot.sizes)
    inputs = {
        name: np.array([(tick.channels | tick.memory)[name] for tick in contract.golden], np.float32)
        for name in graph.input_shapes
    }
    targets = evaluate(graph, inputs)["joint_target"].tolist()
    golden = tuple(
        replace(tick, joint_target=tuple(target))
        for tick, target in zip(contract.golden, targets, strict=True)
    )
    file.write_bytes(seal(model_bytes(graph), replace(contract, golden=golden).to_json()))


def test_an_off_policy_learner_goes_on_from_its_own_policy_file(bounded: str, tmp_path: Path) -> None:
    job, file = read_job(Path(bounded)), tmp_path / "policy.onnx"
    trained, learner = job.learner(), job.learner()
    trained.actor.norm.mean.fill_(0.5)
    assert isinstance(learner, Td3)
    exported(trained.actor, job, file)
    take_over(learner, Init(str(file)), job)
    seen = torch.randn(100, 47)
    torch.testing.assert_close(learner.actor(seen), trained.actor(seen), rtol=0, atol=PARITY_TOLERANCE)
    assert torch.equal(learner.policy.target(seen), learner.policy.net(seen)), "the target starts with it"
    assert (learner.norm.mean[:47] == 0.5).all()


def test_parts_of_an_off_policy_learner_are_frozen_and_slowed(bounded: str, tmp_path: Path) -> None:
    run, later = tmp_path / "run", tmp_path / "later"
    Train(config=bounded, out=run, steps=3 * ROWS).train(quiet=True)
    with Path(bounded).open("a") as text:
        text.write('\n[init]\nfreeze = ["critics"]\nlr_scale = { "actor.net.0.0.0" = 0 }\n')
    Train(config=bounded, out=later, init_from=run, steps=3 * ROWS).train(quiet=True)
    before, after = learned(run), learned(later)
    still = {name for name, value in after.items() if name in before and torch.equal(value, before[name])}
    assert {name for name in after if name.startswith("critics.")} <= still
    assert {"actor.net.0.0.0.weight", "actor.net.0.0.0.bias"} <= still
    assert not {"actor.net.0.0.2.weight", "actor.net.0.0.4.weight"} & still


def test_the_targets_of_an_off_policy_learner_are_no_part_to_freeze(
    bounded: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    Train(config=bounded, out=run, steps=ROWS).train(quiet=True)
    with Path(bounded).open("a") as text:
        text.write('\n[init]\nfreeze = ["targets"]\n')
    assert main(["train", bounded, "--out", str(tmp_path / "out"), "--init-from", str(run)]) == WRONG_USE
    assert "got 'targets'; allowed: actor, critics" in capsys.readouterr().err


def scaled(folder: Path, name: str) -> Path:
    """A run whose critic judges scaled rewards."""
    file, run = Path(config(folder, "classic", {}, 1)), folder / "run"
    if name == "modern sac":
        top = file.read_text().partition("[ppo]")[0].replace('"ppo"', '"sac"')
        file.write_text(f"{top}[sac]\n{TABLES[name]}")
    Train(config=str(file), out=run, steps=3 * ROWS).train(quiet=True)
    return run


@pytest.mark.parametrize(("name", "part"), [("ppo", "reward_scale"), ("modern sac", "reward_bound")])
def test_a_critic_is_taken_over_with_the_scale_of_its_rewards(name: str, part: str, tmp_path: Path) -> None:
    run = scaled(tmp_path, name)
    job, saved = read_training(run / "config.toml"), learned(run)
    learner = job.learner()
    take_over(learner, Init(str(run)), job)
    mine = learner.state()
    own = {key for key in saved if key.startswith(part)}
    assert len(own) == 4
    for key in own - {f"{part}.running"}:
        assert torch.equal(mine[key], saved[key]), key
        assert saved[key].any(), "it says something"
    assert len(saved[f"{part}.running"]) > len(mine[f"{part}.running"]) == 0, "what those worlds were earning"


def test_a_critic_that_starts_anew_begins_with_a_scale_of_its_own(tmp_path: Path) -> None:
    run = scaled(tmp_path, "modern sac")
    wider = tmp_path / "wider.toml"
    wider.write_text((run / "config.toml").read_text().replace("width = 8", "width = 16"))
    job = read_training(wider)
    learner = job.learner()
    assert "so they start anew: critics." in take_over(learner, Init(str(run)), job)
    assert learner.state()["reward_bound.count"] == 0 < learned(run)["reward_bound.count"]


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
