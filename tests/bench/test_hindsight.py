"""The cost of hindsight is measured on a full memory of whole episodes, with a learner as it was built."""

from __future__ import annotations

import torch

from robotrl.bench.hindsight import full_learner


def test_a_learner_is_measured_with_a_full_memory_and_no_updates() -> None:
    learner = full_learner("fetch_push", batch=512, remembered=64 * 50 * 4)
    assert learner._replay is not None
    assert (len(learner._replay), learner.updates_done) == (64 * 50 * 4, 0)
    batches = learner.sample(2)
    assert [len(batch.reward) for batch in batches] == [512, 512]
    rewards = torch.cat([batch.reward for batch in batches])
    assert set(rewards.tolist()) == {-1.0, 0.0}, "some goals are reached once steps are relabelled"
    assert all(batch.lowest is not None for batch in batches), "as the run's table says"
