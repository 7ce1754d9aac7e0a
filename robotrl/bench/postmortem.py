"""A quarantined world: the state before its failure, and the failing step once more in slow motion."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import mujoco
import numpy as np
from numpy.typing import NDArray

from robotrl.bench.camera import View
from robotrl.bench.playback import Frame
from robotrl.errors import BadInputError
from robotrl.sim.quarantine import Dump
from robotrl.spec.state import Floats

FRAME_S = 0.04
HOLD_FRAMES = 15
"""Each substep stands still for so many frames."""

_FREE_QPOS, _FREE_QVEL = ("x", "y", "z", "qw", "qx", "qy", "qz"), ("vx", "vy", "vz", "wx", "wy", "wz")
_COMPONENTS = {
    mujoco.mjtJoint.mjJNT_FREE: (_FREE_QPOS, _FREE_QVEL),
    mujoco.mjtJoint.mjJNT_BALL: (_FREE_QPOS[3:], _FREE_QVEL[3:]),
}
"""Names of the parts of joints that have several."""


@dataclasses.dataclass(frozen=True)
class State:
    """A world before the failing period (substep 0) or after one of its substeps."""

    substep: int
    qpos: Floats
    qvel: Floats
    warnings: tuple[str, ...]
    """What MuJoCo said about the substep."""

    @property
    def drawable(self) -> bool:
        """Whether its position is one."""
        return not _bad(self.qpos).any()


class DumpPlayer:
    """Plays a dump.

    Attributes:
        model: the failed world's own model.
        findings: sentences: why it was set aside, and what became of it this time.

    Raises:
        BadInputError: even the position before the failing step is impossible, so that nothing can be drawn.
    """

    def __init__(self, dump: Dump) -> None:
        if _bad(dump.qpos).any():
            wrong = impossible(dump.model, dump.qpos, dump.qvel)
            raise BadInputError(f"world {dump.world}, before its last step: cannot be drawn", value=wrong)
        self.model, self.frame_s = dump.model, FRAME_S
        self._substeps = len(dump.targets)
        states = list(_replay(dump))
        self._drawable = [state for state in states if state.drawable]
        self.view: View | None = None
        self.findings: Sequence[str] = [f"world {dump.world}: {dump.reason}", *self._found(states)]

    def frames(self) -> Iterator[Frame]:
        """Yield every state that can be drawn, each held for a while."""
        for state in self._drawable:
            speed = f"{np.abs(state.qvel).max(initial=0.0):.3g}"
            table = ((self._moment(state), ""), ("largest velocity", speed))
            yield from itertools.repeat(Frame(state.qpos, table, restarted=False), HOLD_FRAMES)

    def _moment(self, state: State) -> str:
        return f"substep {state.substep} of {self._substeps}" if state.substep else "before the failing step"

    def _found(self, states: list[State]) -> Iterator[str]:
        for state in states:
            for warning in state.warnings:
                yield f"{self._moment(state)}: MuJoCo: {warning}"
            if wrong := impossible(self.model, state.qpos, state.qvel):
                yield f"{self._moment(state)}: {', '.join(wrong)}"
        if not any(state.warnings or _bad(state.qpos).any() or _bad(state.qvel).any() for state in states):
            yield "replayed it does not fail: a dump does not keep the forces that its solver started from"


def impossible(model: mujoco.MjModel, qpos: Floats, qvel: Floats) -> list[str]:
    """Name what is not finite or beyond MuJoCo's bounds, such as ``qpos[root.z] = nan``."""
    positions, velocities = component_names(model)
    wrong = [f"qpos[{positions[i]}] = {qpos[i]:g}" for i in np.flatnonzero(_bad(qpos))]
    return wrong + [f"qvel[{velocities[i]}] = {qvel[i]:g}" for i in np.flatnonzero(_bad(qvel))]


def component_names(model: mujoco.MjModel) -> tuple[list[str], list[str]]:
    """Return a name for every entry of qpos and of qvel."""
    positions: list[str] = []
    velocities: list[str] = []
    for number in range(model.njnt):
        joint = model.joint(number)
        name = joint.name or f"joint {number}"
        parts = _COMPONENTS.get(mujoco.mjtJoint(int(joint.type[0])))
        positions += [f"{name}.{part}" for part in parts[0]] if parts else [name]
        velocities += [f"{name}.{part}" for part in parts[1]] if parts else [name]
    return positions, velocities


def _bad(values: Floats) -> NDArray[np.bool_]:
    bad: NDArray[np.bool_] = ~(np.abs(values) <= mujoco.mjMAXVAL)  # so that nan is bad
    return bad


def _replay(dump: Dump) -> Iterator[State]:
    """The state before, then after each substep up to the first that is impossible."""
    data = mujoco.MjData(dump.model)
    data.qpos[:], data.qvel[:] = dump.qpos, dump.qvel
    state = State(0, data.qpos.copy(), data.qvel.copy(), ())
    yield state
    for number, target in enumerate(dump.targets, start=1):
        if _bad(state.qpos).any() or not np.isfinite(state.qvel).all():
            return
        data.ctrl[:] = target
        with _warnings() as heard:
            try:
                mujoco.mj_step(dump.model, data)
            except mujoco.FatalError as error:
                heard.append(str(error))
        state = State(number, data.qpos.copy(), data.qvel.copy(), tuple(dict.fromkeys(heard)))
        yield state


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collect MuJoCo's warnings, which it would otherwise write into a file in the present folder."""
    heard: list[str] = []
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(heard.append)
    try:
        yield heard
    finally:
        mujoco.set_mju_user_warning(before)
