"""Learning speed against Stable-Baselines3: same task, network, batch and threads, in alternating rounds."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable

import gymnasium
import stable_baselines3
import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from robotrl.cli.gymfile import read_gym_job
from robotrl.learn.loop import train
from robotrl.learn.off_policy import OffPolicy
from robotrl.learn.sac import Sac, SacParams
from robotrl.learn.td3 import Td3, Td3Params
from robotrl.sim.boxed import UnitActions
from robotrl.sim.direct import DirectEnv, native_worlds
from robotrl.spec.shipped import find_shipped
from robotrl.tasks.classic import classic_task

TASK, OBSERVATION, ACTION = "HalfCheetah-v5", 17, 6
HIDDEN, BATCH, START, WORLDS = (256, 256), 256, 2048, 32
ROUNDS, ROUND_S = 9, 3.0
THEIR_ENVS, THEIR_STEPS, THEIR_MINIBATCH = 8, 256, 1024
"""The vectorised setting in which Stable-Baselines3's PPO was quickest."""

Turn = Callable[[], int]
"""Does some work; returns how much."""


def bench_learn_speed(threads: int, report: Callable[[str], None]) -> dict[str, float]:
    """Measure gradient updates of SAC and TD3, and PPO end to end.

    Args:
        threads: of torch, for both sides.
        report: told about each part.

    Returns:
        Medians over rounds: rates of both sides, their ratios `sac_update_ratio`,
        `td3_update_ratio` and `ppo_ratio`, and the lowest and highest ratio of any round.
    """
    torch.set_num_threads(threads)
    figures: dict[str, float] = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "compiler attribute 'settotalmass'")
        for name, ours, theirs in (
            ("sac_update", _ours(_sac()), _theirs(stable_baselines3.SAC)),
            ("td3_update", _ours(_td3()), _theirs(stable_baselines3.TD3)),
            ("ppo", _our_ppo(threads), _their_ppo()),
        ):
            figures |= _compare(name, ours, theirs)
            report(f"{name}: {figures[f'{name}_ratio']:.2f} times Stable-Baselines3")
    return figures


def _compare(name: str, ours: Turn, theirs: Turn) -> dict[str, float]:
    for turn in (ours, theirs):  # the first one allocates
        turn()
    rounds = [(_rate(ours), _rate(theirs)) for _ in range(ROUNDS)]
    ratios = [mine / other for mine, other in rounds]
    return {
        f"{name}_per_s": statistics.median(mine for mine, _ in rounds),
        f"{name}_per_s_stable_baselines3": statistics.median(other for _, other in rounds),
        f"{name}_ratio": statistics.median(ratios),
        f"{name}_ratio_lowest": min(ratios),
        f"{name}_ratio_highest": max(ratios),
    }


def _rate(turn: Turn) -> float:
    """Work per second."""
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < ROUND_S:
        done += turn()
    return done / (time.perf_counter() - started)


def _sac() -> OffPolicy:
    ends = (-1.0,) * ACTION, (1.0,) * ACTION
    return Sac(SacParams(hidden=HIDDEN, batch=BATCH, start=START, steps=1), OBSERVATION, 0, *ends)


def _td3() -> OffPolicy:
    ends = (-1.0,) * ACTION, (1.0,) * ACTION
    return Td3(Td3Params(hidden=HIDDEN, batch=BATCH, start=START, steps=1), OBSERVATION, 0, *ends)


def _ours(learner: OffPolicy) -> Turn:
    """Fill the memory with random actions; a turn is updates alone."""
    task = classic_task(TASK)
    env = UnitActions(DirectEnv(task, native_worlds(task, WORLDS, 1), seed=0))
    for _ in range(START // WORLDS):
        learner.iterate(env)

    def turn() -> int:
        learner.improve(64)
        return 64

    return turn


def _theirs(kind: type[OffPolicyAlgorithm]) -> Turn:
    model = kind(
        "MlpPolicy",
        gymnasium.make(TASK),
        batch_size=BATCH,
        buffer_size=10 * START,
        learning_starts=START,
        policy_kwargs={"net_arch": list(HIDDEN)},
        device="cpu",
        seed=0,
    )
    model.learn(START)

    def turn() -> int:
        model.train(gradient_steps=64, batch_size=BATCH)
        return 64

    return turn


def _our_ppo(threads: int) -> Turn:
    """Train as the shipped configuration says, in this process."""
    job = read_gym_job(find_shipped("configs", "halfcheetah_ppo"))
    env = job.env(job.config.sim.worlds, seed=0, threads=threads)
    iterations, before = train(env, job.learner(), 0, 0), [0]

    def turn() -> int:
        steps = next(iterations).steps
        done, before[0] = steps - before[0], steps
        return done

    return turn


def _their_ppo() -> Turn:
    model = stable_baselines3.PPO(
        "MlpPolicy",
        make_vec_env(TASK, THEIR_ENVS, seed=0),
        n_steps=THEIR_STEPS,
        batch_size=THEIR_MINIBATCH,
        device="cpu",
        seed=0,
    )

    def turn() -> int:
        model.learn(THEIR_ENVS * THEIR_STEPS, reset_num_timesteps=False)
        return THEIR_ENVS * THEIR_STEPS  # one rollout and its updates

    return turn
