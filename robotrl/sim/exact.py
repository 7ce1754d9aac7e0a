"""Contact forces on bodies as `mj_rnePostConstraint` gives them after a step, at native speed.

`mj_step` fills `cfrc_ext` only for sensors that need it, and then in the first stage of a
Runge-Kutta step, while Ant, Humanoid and HumanoidStandup observe what `mj_rnePostConstraint` finds
in the data that the last stage left. The engine calls a plugin's `advance` at the end of every step
(MuJoCo, "Engine plugins"), so a plugin whose `advance` *is* `mj_rnePostConstraint` puts these forces
where `mujoco.batch` copies them from: in C, on the batch's threads, bit for bit the original's. The
plugin owns nothing and changes nothing else.

Cost measured on one core, 64 Ants: 1 to 2 % of the physics; the other exact way, a persistent batch
with one `get_data` and `mj_rnePostConstraint` per world and step from Python, takes 6 to 13 %.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import mujoco

from robotrl.errors import SimulationError

PLUGIN = "robotrl.contact_forces"


class _Plugin(ctypes.Structure):
    """`mjpPlugin` of mjplugin.h (MuJoCo 3.17); what follows `advance` is left as it is."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("nattribute", ctypes.c_int),
        ("attributes", ctypes.c_void_p),
        ("capabilityflags", ctypes.c_int),
        ("needstage", ctypes.c_int),
        ("nstate", ctypes.c_void_p),
        ("nsensordata", ctypes.c_void_p),
        ("init", ctypes.c_void_p),
        ("destroy", ctypes.c_void_p),
        ("copy", ctypes.c_void_p),
        ("reset", ctypes.c_void_p),
        ("compute", ctypes.c_void_p),
        ("advance", ctypes.c_void_p),
        ("others", ctypes.c_void_p * 16),
    )


_NO_STATE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)(lambda _model, _instance: 0)
"""Size of the plugin's state, called when a model is compiled; kept as long as MuJoCo may call it."""


@functools.cache
def register_contact_forces() -> None:
    """Make the plugin known to MuJoCo in this process, which models that use it need to load.

    Raises:
        SimulationError: MuJoCo's library is not where its Python package is.
    """
    library = _library()
    plugin = _Plugin()
    library.mjp_defaultPlugin(ctypes.byref(plugin))
    plugin.name = PLUGIN.encode()
    plugin.nstate = ctypes.cast(_NO_STATE, ctypes.c_void_p)
    # Called with (model, data, instance): C functions ignore an argument too many.
    plugin.advance = ctypes.cast(library.mj_rnePostConstraint, ctypes.c_void_p)
    library.mjp_registerPlugin(ctypes.byref(plugin))


def add_contact_forces(spec: mujoco.MjSpec) -> None:
    """Let a model's steps on the CPU leave their contact forces in `cfrc_ext`."""
    register_contact_forces()
    spec.activate_plugin(PLUGIN)
    spec.add_plugin(name=PLUGIN, plugin_name=PLUGIN)


def has_contact_forces(model: mujoco.MjModel) -> bool:
    """Whether `add_contact_forces` was applied to the model's specification."""
    return bool(mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_PLUGIN, PLUGIN) >= 0)


def _library() -> ctypes.CDLL:
    """Open the library that the bindings have loaded."""
    folder = Path(mujoco.__file__).parent
    for pattern in ("libmujoco.so*", "libmujoco*.dylib", "mujoco.dll"):
        for file in sorted(folder.glob(pattern)):
            return ctypes.CDLL(str(file))
    raise SimulationError(f"no MuJoCo library lies in {folder}")
