"""What a HandReach policy reads and moves on the robot is what it saw and moved in training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from robotrl.cli.deployed import channels_of_world, check_robot
from robotrl.errors import ConfigError
from robotrl.spec.channels import CHANNELS, GOAL
from robotrl.spec.robot import load_robot
from robotrl.tasks.robotics import ROBOTICS, goal_task
from tests.shadow_hand import deployment, reach_env, shadow_hand


def test_the_policy_observes_bit_for_bit_what_training_observed() -> None:
    env = reach_env(8, seed=5)
    channels, interface = channels_of_world(deployment(), env), deployment().policy(env.facts)
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        found = {name: values.float() for name, values in channels(env.worlds, env.goal).items()}
        assert torch.equal(interface.observe(found, {}), env.observation)
        env.step(2 * torch.rand((8, 20), generator=generator) - 1)


def test_its_targets_are_the_controls_of_training_within_single_precision() -> None:
    env = reach_env(64, seed=5)
    interface = deployment().policy(env.facts)
    action = 3 * torch.rand((64, 20), generator=torch.Generator().manual_seed(0)) - 1.5
    control = env._rules.command(env.worlds, action.clamp(-1.0, 1.0)).control
    torch.testing.assert_close(interface.target({}, action).double(), control, rtol=0.0, atol=3e-7)
    assert (action.abs() > 1).any()


def test_it_reads_what_the_robot_delivers_in_the_robots_shapes() -> None:
    env, robot = reach_env(1, seed=5), shadow_hand()
    found = channels_of_world(deployment(), env)(env.worlds, env.goal)
    interface = deployment().policy(env.facts)
    assert found.keys() == set(interface.channels)
    sizes = robot.sizes | {GOAL: interface.goal_size}
    assert {name: values.shape[1:] for name, values in found.items()} == {
        name: CHANNELS[name].shape_on(sizes) for name in interface.channels
    }
    assert interface.memory == ()
    assert interface.action_scale_rad == pytest.approx(0.209)  # of the thumb's second joint


def test_the_shipped_robot_is_the_tasks() -> None:
    check_robot(shadow_hand(), reach_env(1, seed=0).facts)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("rate_hz = 25.0", "rate_hz = 50.0", "control.rate_hz"),
        ("position_max_rad = 1.222", "position_max_rad = 1.2", r"joint\[16\] limits"),
        ('"robot0:FFJ0", "robot0:MFJ0"', '"robot0:MFJ0", "robot0:FFJ0"', r"estimator\.joints"),
    ],
)
def test_another_robot_is_refused(
    old: str,
    new: str,
    key: str,
    tmp_path: Path,
) -> None:
    text = Path(shadow_hand().file).read_text(encoding="utf-8")
    assert old in text
    file = tmp_path / "robot.toml"
    file.write_text(
        text.replace(old, new).replace("watchdog_s = 0.1 ", "watchdog_s = 0.2 "), encoding="utf-8"
    )
    with pytest.raises(ConfigError, match=rf"robot\.toml: {key}: .*; allowed: "):
        check_robot(load_robot(file), reach_env(1, seed=0).facts)


@pytest.mark.parametrize("name", ROBOTICS)
def test_only_tasks_of_robots_that_exist_say_so(name: str) -> None:
    found = goal_task(name).deployment
    robots = {"HandReach": "shadow_hand_sim", "FetchReach": "fetch_sim"}
    assert (found and found.robot) == robots.get(name.partition("-")[0].removesuffix("Dense"))


def test_relative_control_is_not_deployed() -> None:
    assert goal_task("HandReach-v3", relative_control=True).deployment is None
