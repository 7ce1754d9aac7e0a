"""The classic Gymnasium tasks on MuJoCo, written in batched torch from the originals' definitions.

Source: `gymnasium.envs.mujoco` (v5 of all eleven, and Ant-v4); their model files are used where
Gymnasium is installed. Options have the originals' names, meanings and defaults;
`max_episode_steps` is `gymnasium.make`'s. Controls are handed on unclipped, as the originals do
(MuJoCo clamps them itself, the effort is that of the unclipped action).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from robotrl.tasks.classic.arms import pusher, reacher
from robotrl.tasks.classic.legged import ant, ant_v4, humanoid, humanoid_standup
from robotrl.tasks.classic.pendulums import inverted_double_pendulum, inverted_pendulum
from robotrl.tasks.classic.runners import half_cheetah, hopper, swimmer, walker2d
from robotrl.tasks.direct import DirectTask
from robotrl.tasks.options import build_task

CLASSIC: Mapping[str, Callable[..., DirectTask]] = {
    "HalfCheetah-v5": half_cheetah,
    "Hopper-v5": hopper,
    "Walker2d-v5": walker2d,
    "Ant-v4": ant_v4,
    "Ant-v5": ant,
    "Humanoid-v5": humanoid,
    "HumanoidStandup-v5": humanoid_standup,
    "Swimmer-v5": swimmer,
    "Reacher-v5": reacher,
    "Pusher-v5": pusher,
    "InvertedPendulum-v5": inverted_pendulum,
    "InvertedDoublePendulum-v5": inverted_double_pendulum,
}
"""Every classic task by Gymnasium's name; the keyword arguments are its options."""


def classic_task(name: str, **options: object) -> DirectTask:
    """Build a classic task.

    Args:
        name: one of `CLASSIC`.
        options: keyword arguments of the original; a range may be any sequence of two numbers.

    Raises:
        BadInputError: no such task, no such option, or a value of the wrong kind.
    """
    return build_task(CLASSIC, name, options)
