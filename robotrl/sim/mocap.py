"""Models of goal tasks as the originals' constructors leave them: welds released, robot settled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import mujoco
import numpy as np

from robotrl.errors import BadInputError
from robotrl.spec.mocap import MocapSettling

_UNWELDED = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
"""Of a weld's data the anchor, the relative position and the first number of the relative orientation."""


def load_model(file: Path, settling: MocapSettling | None) -> mujoco.MjModel:
    """Compile a model; where there is something to settle, release its welds.

    Raises:
        BadInputError: MuJoCo cannot load it: a part that it includes or a mesh is missing, for one.
    """
    try:
        model = mujoco.MjModel.from_xml_path(str(file))
    except ValueError as error:
        raise BadInputError(f"cannot be loaded ({error})", file=file) from error
    if settling is not None:
        model.eq_data[model.eq_type == mujoco.mjtEq.mjEQ_WELD, : len(_UNWELDED)] = _UNWELDED
    return model


def prepare(
    model: mujoco.MjModel, initial_qpos: Mapping[str, tuple[float, ...]], settling: MocapSettling | None
) -> mujoco.MjData:
    """Bring one world to where episodes start.

    Args:
        model: from `load_model`.
        initial_qpos: joint positions, the others as the model has them.
        settling: moves the robot on from there.
    """
    data = mujoco.MjData(model)
    for name, qpos in initial_qpos.items():
        first = model.joint(name).qposadr[0]
        data.qpos[first : first + len(qpos)] = qpos
    mujoco.mj_forward(model, data)
    if settling is not None:
        _settle(settling, model, data)
    return data


def _settle(settling: MocapSettling, model: mujoco.MjModel, data: mujoco.MjData) -> None:
    mocap = model.body(settling.body).mocapid[0]
    data.mocap_pos[mocap] = np.add(settling.offset_m, data.site(settling.site).xpos)
    data.mocap_quat[mocap] = settling.quat
    mujoco.mj_step(model, data, nstep=settling.steps)
