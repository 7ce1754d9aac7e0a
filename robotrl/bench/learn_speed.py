"""Learning speed against Stable-Baselines3: same task, network, batch and cores, in alternating rounds.

PPO is measured end to end through `robotrl.learn.loop.train`: both sides collect 2,048 samples with
two 64-64 tanh networks, then take ten epochs of minibatches of 1,024. Each side steps as many worlds
at once, and uses the cores, as suits it best.
"""

from __future__ import annotations

import contextlib
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import gymnasium
import stable_baselines3
import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from robotrl.cli.runfile import CONFIG
from robotrl.cli.train import Ranks
from robotrl.cli.training import Worker
from robotrl.learn.off_policy import OffPolicy
from robotrl.learn.sac import Sac, SacParams
from robotrl.learn.td3 import Td3, Td3Params
from robotrl.sim.boxed import UnitActions
from robotrl.sim.direct import DirectEnv, native_worlds
from robotrl.tasks.classic import classic_task

TASK, OBSERVATION, ACTION = "HalfCheetah-v5", 17, 6
HIDDEN, BATCH, START, WORLDS = (256, 256), 256, 2048, 32
ROUNDS, ROUND_S = 9, 3.0
MINIBATCH, EPOCHS, PPO_HIDDEN = 1024, 10, (64, 64)
OUR_WORLDS, OUR_STEPS = 128, 16
THEIR_ENVS, THEIR_STEPS = 8, 256
"""The vectorised setting in which Stable-Baselines3's PPO was quickest."""

OUR_PPO = f"""
env = "robotrl/{TASK}"
algorithm = "ppo"
seed = 0
steps = 1_000_000_000

[sim]
worlds = {OUR_WORLDS}
processes = {{processes}}
threads = {{threads}}

[ppo]
steps = {OUR_STEPS}
epochs = {EPOCHS}
minibatch = {MINIBATCH}
scale_reward = true
gamma = 0.99
gae_lambda = 0.95
clip = 0.2
schedule = "fixed"
lr = 3e-4
value_weight = 0.5
grad_norm = 0.5
init_std = 1.0
activation = "tanh"
hidden = {list(PPO_HIDDEN)}
"""

Turn = Callable[[], int]
"""Does some work; returns how much."""


def bench_learn_speed(cores: int, scratch: Path, report: Callable[[str], None]) -> dict[str, float]:
    """Measure gradient updates of SAC and TD3, and PPO end to end.

    Args:
        cores: for both sides: threads of torch, or for PPO whatever is quicker in a round: one thread
            or `cores` of Stable-Baselines3, `cores` processes or threads of physics of ours.
        scratch: an empty folder.
        report: told about each part.

    Returns:
        Medians over rounds: rates of both sides, their ratios `sac_update_ratio`,
        `td3_update_ratio` and `ppo_ratio`, and the lowest and highest ratio of any round.
    """
    figures: dict[str, float] = {}
    with contextlib.ExitStack() as open_runs:
        open_runs.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", "compiler attribute 'settotalmass'")
        splits = sorted({(cores, 1), (1, cores)} if OUR_WORLDS % cores == 0 else {(1, cores)})
        ppo = [open_runs.enter_context(_our_ppo(*split, scratch)) for split in splits]
        their_ppo = _their_ppo()
        for name, mine, others in (
            ("sac_update", [_on(cores, _ours(_sac()))], [_on(cores, _theirs(stable_baselines3.SAC))]),
            ("td3_update", [_on(cores, _ours(_td3()))], [_on(cores, _theirs(stable_baselines3.TD3))]),
            ("ppo", [_on(1, turn) for turn in ppo], [_on(n, their_ppo) for n in sorted({1, cores})]),
        ):
            figures |= _compare(name, mine, others)
            report(f"{name}: {figures[f'{name}_ratio']:.2f} times Stable-Baselines3")
    return figures


def _on(threads: int, turn: Turn) -> Turn:
    """Give torch so many threads in each turn."""

    def threaded() -> int:
        torch.set_num_threads(threads)
        return turn()

    return threaded


def _compare(name: str, ours: list[Turn], theirs: list[Turn]) -> dict[str, float]:
    """Alternate; in each round the quickest turn of either side counts."""
    for turn in (*ours, *theirs):  # the first one allocates
        turn()
    rounds = [(max(map(_rate, ours)), max(map(_rate, theirs))) for _ in range(ROUNDS)]
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


@contextlib.contextmanager
def _our_ppo(processes: int, threads: int, scratch: Path) -> Iterator[Turn]:
    """Train as `robotrl train` does, less what it logs; a turn is an iteration."""
    folder = scratch / f"{processes}x{threads}"
    folder.mkdir()
    (folder / CONFIG).write_text(OUR_PPO.format(processes=processes, threads=threads), encoding="utf-8")
    with Ranks(folder, resume=False) as group:
        worker = Worker(folder, group, resume=False)

        def turn() -> int:
            before = worker.progress.steps
            return worker.iterate(0.0).steps - before

        yield turn
        worker.stop()


def _their_ppo() -> Turn:
    model = stable_baselines3.PPO(
        "MlpPolicy",
        make_vec_env(TASK, THEIR_ENVS, seed=0),
        n_steps=THEIR_STEPS,
        batch_size=MINIBATCH,
        n_epochs=EPOCHS,
        policy_kwargs={"net_arch": list(PPO_HIDDEN)},
        device="cpu",
        seed=0,
    )

    def turn() -> int:
        model.learn(THEIR_ENVS * THEIR_STEPS, reset_num_timesteps=False)
        return THEIR_ENVS * THEIR_STEPS  # one rollout and its updates

    return turn
