"""A simulated task's policy file in the original environment and in the worlds of training."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from robotrl.bench.controls import ControlDriver, score_file
from robotrl.bench.episodes import score_actor, trained_job
from robotrl.bench.in_original import (
    RATIO,
    NetworkController,
    evaluate_beside_training,
    evaluate_original,
    original_episode,
)
from robotrl.bench.opening import open_player
from robotrl.bench.originals import make_classic, make_original
from robotrl.bench.steering import tour
from robotrl.cli.gymfile import GymJob
from robotrl.errors import BadInputError, PolicyError
from robotrl.export.graph import ACTOR_MEMORY
from robotrl.runtime.policy import Policy
from robotrl.sim.direct import DirectEnv
from robotrl.spec.contract import read_policy_file
from robotrl.spec.seal import seal
from robotrl.spec.shipped import find_shipped
from tests.simulated_policies import CONFIGS, untrained

HOPPER = find_shipped("policies", "hopper")


def hopper_job() -> GymJob:
    job = trained_job(HOPPER)
    assert isinstance(job, GymJob)
    return job


@pytest.mark.parametrize("kind", CONFIGS)
def test_file_and_network_do_the_same_in_gymnasiums_environment(kind: str) -> None:
    made = untrained(kind)
    make = make_original if made.job.goals else make_classic
    original, network = make(made.task.name), NetworkController(made.actor, made.env.box)
    policy = Policy.load(made.file)
    by_file = [original_episode(original, policy, seed) for seed in (1, 2, 3)]
    by_network = [original_episode(original, network, seed) for seed in (1, 2, 3)]
    assert [one[1:] for one in by_file] == [one[1:] for one in by_network]
    np.testing.assert_allclose([one.total for one in by_file], [one.total for one in by_network], rtol=1e-3)
    assert len({one.total for one in by_file}) == 3, "the episodes differ"
    assert original_episode(original, policy, 1) == by_file[0], "nothing is left of the last one"


def test_an_episode_there_is_one_in_the_worlds_of_training() -> None:
    """From the same state; 60 steps, because hopping is too chaotic for more."""
    job, seeds, original = hopper_job(), (5, 6), make_classic("Hopper-v5", max_episode_steps=60)
    env = job.evaluation_env(2, seed=1, threads=1)
    inner: Any = original.unwrapped
    starts, theirs, policy = [], [], Policy.load(HOPPER)
    for seed in seeds:
        original.reset(seed=seed)
        starts.append([torch.tensor(x) for x in (inner.data.qpos, inner.data.qvel)])
        theirs.append(original_episode(original, policy, seed).total)
    assert isinstance(env.inner, DirectEnv)
    env.inner.place(torch.arange(2), *(torch.stack(parts) for parts in zip(*starts, strict=True)))
    driver, ours = ControlDriver(job, env, HOPPER), torch.zeros(2)
    for _ in range(60):
        ours += driver.tick().reward
    assert ours.tolist() == pytest.approx(theirs, rel=1e-3)
    assert theirs[0] != pytest.approx(theirs[1], abs=1e-3), "the episodes differ"


def test_a_file_is_scored_as_the_network_it_was_made_of() -> None:
    made = untrained("gru")
    by_file, by_network = score_file(made.job, made.file, 1), score_actor(made.job, made.actor, 1)
    assert by_file == pytest.approx(by_network, rel=1e-6)
    assert by_file["episodes"] == 32


def test_the_driver_remembers_nothing_of_the_last_episode() -> None:
    made, ends = untrained("gru"), 0
    driver = ControlDriver(made.job, made.job.evaluation_env(2, seed=9, threads=1), made.file)
    for _ in range(100):
        ended = driver.tick().final_ids.tolist()
        remembers = [bool(policy.memory[ACTOR_MEMORY].any()) for policy in driver._policies]
        assert remembers == [world not in ended for world in range(2)]
        ends += len(ended)
    assert ends >= 4


def test_the_shipped_policy_is_as_good_in_gymnasiums_environment() -> None:
    """Two episodes of the 200 of its card; what it scores in training stands in the file."""
    policy, original = Policy.load(HOPPER), make_classic("Hopper-v5")
    trained = policy.contract.provenance.scores["return_mean"]
    for seed in (1, 2):
        episode = original_episode(original, policy, seed)
        assert episode.length == 1000
        assert episode.total / trained > 0.95


def test_figures_are_told_with_their_ratio_where_returns_are_positive() -> None:
    made = untrained("gru")
    scores = evaluate_beside_training(made.file, episodes=20, threads=1)
    assert scores["episodes"] == 20
    assert scores["training_return_mean"] == score_file(made.job, made.file, 1)["return_mean"]
    assert scores[RATIO] == scores["return_mean"] / scores["training_return_mean"]
    assert scores[RATIO] == pytest.approx(1.0, abs=0.5)


def test_with_goals_it_is_successes_that_are_told() -> None:
    made = untrained("goals")
    scores, trained = (
        evaluate_beside_training(made.file, episodes=5, threads=2),
        score_file(made.job, made.file),
    )
    assert scores["episodes"] == 5
    assert scores["training_success_last"] == trained["success_last"]
    assert trained == pytest.approx(score_actor(made.job, made.actor, 2), rel=1e-4)
    assert trained["episodes"] == 200
    assert scores["success_last_low"] <= scores["success_last"] <= scores["success_last_high"]
    ratio = scores["success_last"] / trained["success_last"] if scores["success_last"] else None
    assert scores.get(RATIO) == ratio


@pytest.mark.parametrize("name", ["fetch_reach", "fetch_push", "fetch_pick_and_place"])
def test_shipped_policies_succeed_there_by_network_and_by_file(name: str) -> None:
    """Two episodes of the 200 of their cards; with no luck, since starts come from seeds."""
    scores = evaluate_original(find_shipped("policies", name), episodes=2)
    assert (scores["success_last"], scores["success_any"], scores["length_mean"]) == (1.0, 1.0, 50.0)


def test_what_has_no_original_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"quad12_walk.*: has no original environment"):
        evaluate_original(find_shipped("policies", "quad12_walk"), episodes=2)


def test_the_task_must_be_the_one_that_the_file_was_trained_on(tmp_path: Path) -> None:
    data, contract, _ = read_policy_file(HOPPER)
    model = onnx.load_from_string(data)
    del model.metadata_props[:]
    other = contract.provenance.config + "\n[options]\nhealthy_reward = 2.0\n"
    told = dataclasses.replace(contract, provenance=dataclasses.replace(contract.provenance, config=other))
    file = tmp_path / "policy.onnx"
    file.write_bytes(seal(model.SerializeToString(), told.to_json()))
    job = trained_job(file)
    assert isinstance(job, GymJob)
    with pytest.raises(PolicyError, match=r"does not fit Hopper-v5: policy_hash is"):
        ControlDriver(job, job.evaluation_env(1, 1, threads=1), file)


@pytest.mark.parametrize("kind", ["hopper", "gru"])
def test_a_playback_shows_what_the_file_does(kind: str) -> None:
    """Of a network that remembers too, which no file can be read back into."""
    place = "hopper" if kind == "hopper" else str(untrained(kind).file)
    shown = open_player(place, None, 3, tour).frames()
    next(shown)  # the start
    job = trained_job(find_shipped("policies", place))
    assert isinstance(job, GymJob)
    env = job.evaluation_env(1, 3, threads=1)
    assert isinstance(env.inner, DirectEnv)
    driver = ControlDriver(job, env, find_shipped("policies", place))
    for _ in range(4):
        driver.tick()
        np.testing.assert_array_equal(next(shown).qpos, env.inner.worlds.qpos[0].numpy())
