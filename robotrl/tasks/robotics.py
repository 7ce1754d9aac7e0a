"""The goal tasks of Gymnasium-Robotics by their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from robotrl.tasks.fetch import FETCH
from robotrl.tasks.goal import GoalTask
from robotrl.tasks.hand import HAND_REACH
from robotrl.tasks.manipulate import MANIPULATE
from robotrl.tasks.options import build_task

ROBOTICS: Mapping[str, Callable[..., GoalTask]] = {**FETCH, **HAND_REACH, **MANIPULATE}
"""Every goal task by Gymnasium's name; the keyword arguments are its options."""


def goal_task(name: str, **options: object) -> GoalTask:
    """Build a goal task.

    Args:
        name: one of `ROBOTICS`.
        options: the original's keyword arguments, such as `max_episode_steps`.

    Raises:
        BadInputError: no such task, no such option, a value of the wrong kind, or a model file that
            the installed Gymnasium-Robotics lacks.
    """
    return build_task(ROBOTICS, name, options)
