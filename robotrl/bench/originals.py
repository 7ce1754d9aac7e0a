"""The original environments of Gymnasium and Gymnasium-Robotics, on the MuJoCo that is installed."""

from __future__ import annotations

import contextlib
import io
import types
import warnings
from functools import cache
from typing import Any

import gymnasium
import mujoco

from robotrl.errors import BadInputError

Original = gymnasium.Env[Any, Any]


class _IntegerJoints(types.ModuleType):
    """MuJoCo, its joint types as integers: since 3.12 a NumPy integer is no member of a tuple of enums."""

    mjtJoint = types.SimpleNamespace(  # noqa: N815 - MuJoCo's name
        **{name: int(kind) for name, kind in mujoco.mjtJoint.__members__.items()}
    )

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever MuJoCo has
        return getattr(mujoco, name)


def make_original(name: str, **options: Any) -> Original:  # noqa: ANN401 - whatever it takes
    """Build one original environment, with its time limit.

    Args:
        name: such as `FetchPush-v4`.
        options: its keyword arguments.

    Raises:
        BadInputError: gymnasium-robotics is not installed, or has no such environment.
    """
    _register()
    try:
        env: Original = gymnasium.make(name, disable_env_checker=True, **options)
    except gymnasium.error.UnregisteredEnv as error:
        raise BadInputError("the installed gymnasium-robotics lacks it", key="env", value=name) from error
    if options.get("relative_control"):
        _give_names(env.unwrapped)
    return env


def make_classic(name: str, **options: Any) -> Original:  # noqa: ANN401 - whatever it takes
    """Build Gymnasium's own environment of a classic task, with its time limit.

    Args:
        name: such as `Hopper-v5`.
        options: its keyword arguments.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that Ant-v4 is out of date
        env: Original = gymnasium.make(name, disable_env_checker=True, **options)
    return env


@cache
def _register() -> None:
    """Make the environments known to Gymnasium and mend what they use; once in a process."""
    try:
        # What it warns of and prints is about tasks that nobody asks for here.
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            import gymnasium_robotics
            from gymnasium_robotics.utils import mujoco_utils
    except ModuleNotFoundError as error:
        raise BadInputError(f"original environments need {error.name}, which is not installed") from error
    gymnasium.register_envs(gymnasium_robotics)
    mujoco_utils.mujoco = _IntegerJoints("mujoco")


def _give_names(env: Any) -> None:  # noqa: ANN401 - untyped
    """Let relative control, which was written for mujoco-py's names, find what it asks for."""
    set_action = env._set_action

    def named(action: Any) -> None:  # noqa: ANN401 - untyped
        data, model = env.data, env.model
        env.data = types.SimpleNamespace(ctrl=data.ctrl, get_joint_qpos=lambda name: data.joint(name).qpos[0])
        env.model = types.SimpleNamespace(
            actuator_ctrlrange=model.actuator_ctrlrange,
            actuator_names=[model.actuator(i).name for i in range(model.nu)],
            actuator_name2id=lambda name: model.actuator(name).id,
        )
        set_action(action)
        env.data, env.model = data, model

    env._set_action = named
