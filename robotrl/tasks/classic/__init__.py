"""The classic Gymnasium tasks on MuJoCo, written in batched torch from the originals' definitions.

Source: `gymnasium.envs.mujoco` (v5 of all eleven, and Ant-v4); their model files are used where
Gymnasium is installed. Options have the originals' names, meanings and defaults;
`max_episode_steps` is `gymnasium.make`'s. Controls are handed on unclipped, as the originals do
(MuJoCo clamps them itself, the effort is that of the unclipped action).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping

from robotrl.errors import BadInputError
from robotrl.tasks.classic.arms import pusher, reacher
from robotrl.tasks.classic.legged import ant, ant_v4, humanoid, humanoid_standup
from robotrl.tasks.classic.pendulums import inverted_double_pendulum, inverted_pendulum
from robotrl.tasks.classic.runners import half_cheetah, hopper, swimmer, walker2d
from robotrl.tasks.direct import DirectTask

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
    if name not in CLASSIC:
        raise BadInputError("there is no such task", key="env", value=name, allowed=CLASSIC)
    make = CLASSIC[name]
    known = inspect.signature(make).parameters
    for key in options:
        if key not in known:
            raise BadInputError(f"{name} has no such option", key=key, allowed=known)
    return make(**{key: _checked(key, value, known[key].default) for key, value in options.items()})


def _checked(key: str, value: object, default: object) -> object:
    """Return the value in its default's kind."""
    if key == "main_body" and isinstance(value, (int, str)):
        return value
    if isinstance(default, tuple):
        return _range(key, value)
    if isinstance(default, (bool, str)):
        if not isinstance(value, type(default)):
            raise BadInputError("is of the wrong kind", key=key, value=value, allowed=type(default).__name__)
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadInputError("is not a number", key=key, value=value)
    if isinstance(default, int) and (not isinstance(value, int) or value < 1):
        raise BadInputError("is not a count", key=key, value=value, allowed="whole numbers from 1")
    return value


def _range(key: str, value: object) -> tuple[float, float]:
    numbers = list(value) if isinstance(value, (list, tuple)) else []
    match numbers:
        case [int() | float() as low, int() | float() as high] if low < high:
            return float(low), float(high)
    raise BadInputError("is not a range", key=key, value=value, allowed="two numbers, the lower one first")
