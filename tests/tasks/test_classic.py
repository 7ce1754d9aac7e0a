"""Options of the classic tasks: the originals', and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from robotrl.errors import BadInputError
from robotrl.tasks.classic import CLASSIC, classic_task
from robotrl.tasks.direct import ModelFacts

ANT = ModelFacts(14, 0.01, (0.0,) * 15, (0.0, 1.0), {"world": 0, "torso": 1}, torch.float32)


@pytest.mark.parametrize("name", CLASSIC)
def test_a_task_has_gymnasiums_name_and_model_file(name: str) -> None:
    task = classic_task(name)
    assert task.name == name
    assert task.model_file.is_file()
    assert "gymnasium" in task.model_file.parts


def test_only_tasks_that_observe_or_pay_for_contact_forces_need_them() -> None:
    assert {n for n in CLASSIC if classic_task(n).contact_forces} == {
        "Ant-v5",
        "Humanoid-v5",
        "HumanoidStandup-v5",
    }
    assert classic_task("Ant-v4", use_contact_forces=True).contact_forces
    assert classic_task("Ant-v5", include_cfrc_ext_in_observation=False).contact_forces
    free = classic_task("Ant-v5", include_cfrc_ext_in_observation=False, contact_cost_weight=0.0)
    assert not free.contact_forces


def test_a_range_may_be_a_list_as_in_toml() -> None:
    classic_task("Hopper-v5", healthy_z_range=[0.7, float("inf")])


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("Ant-v3", {}, "env: there is no such task, got 'Ant-v3'; allowed: HalfCheetah-v5"),
        ("Swimmer-v5", {"healthy_reward": 1.0}, "healthy_reward: Swimmer-v5 has no such option; allowed"),
        ("Ant-v4", {"frame_skip": 2}, "frame_skip: Ant-v4 has no such option"),
        ("Ant-v5", {"frame_skip": 0}, "frame_skip: is not a count, got 0"),
        ("Ant-v5", {"frame_skip": 2.5}, "frame_skip: is not a count, got 2.5"),
        ("Ant-v5", {"healthy_reward": "much"}, "healthy_reward: is not a number, got 'much'"),
        ("Ant-v5", {"healthy_reward": True}, "healthy_reward: is not a number, got True"),
        ("Ant-v5", {"terminate_when_unhealthy": 1}, "is of the wrong kind, got 1; allowed: bool"),
        ("Ant-v5", {"healthy_z_range": (1.0, 0.2)}, "healthy_z_range: is not a range"),
        ("Ant-v5", {"healthy_z_range": 0.2}, "healthy_z_range: is not a range, got 0.2"),
        ("Ant-v5", {"healthy_z_range": [0.1, 0.2, 0.3]}, "healthy_z_range: is not a range"),
        ("Ant-v5", {"main_body": 1.5}, "main_body: is not a count"),
        ("Ant-v5", {"xml_file": "cat.xml"}, "xml_file: there is no such model file"),
    ],
)
def test_a_wrong_option_is_one_clear_sentence(name: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadInputError) as caught:
        classic_task(name, **options)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("body", ["head", 2])
def test_a_body_that_the_model_lacks_is_refused(body: str | int) -> None:
    with pytest.raises(BadInputError, match=r"the model has no such body, got .*; allowed: world, torso"):
        classic_task("Ant-v5", main_body=body).rules(ANT)
