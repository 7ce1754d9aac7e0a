"""The Fetch arm behind its controller: MuJoCo, and the mocap body on which the gripper hangs."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np

from robotrl.errors import SimulationError
from robotrl.sim.mocap import load_model, prepare
from robotrl.spec.fetch import (
    DOWNWARD,
    FINGERS,
    GRIP,
    GRIPPER_BODY,
    MOCAP,
    REACH_BASE_M,
    REACH_HEIGHT_M,
    SUBSTEPS,
    base_qpos,
    settling,
)
from robotrl.spec.state import Floats


class FetchWorld:
    """The arm of FetchReach, moved and stepped as `robotrl.tasks.fetch` and its simulation do.

    Args:
        file: the model of FetchReach.

    Attributes:
        data: the world; it starts where the task's episodes do.

    Raises:
        BadInputError: MuJoCo cannot load the model.
    """

    def __init__(self, file: Path) -> None:
        home = settling(REACH_HEIGHT_M)
        self.model = load_model(file, home)
        # A diverged state must end the emulation, not silently restart the arm in its first pose.
        self.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        self.data = prepare(self.model, base_qpos(REACH_BASE_M), home)
        self.step_s = float(self.model.opt.timestep)
        self._mocap = int(self.model.body(MOCAP).mocapid[0])
        self._gripper, self._grip = self.model.body(GRIPPER_BODY).id, self.model.site(GRIP).id
        joints = [self.model.joint(name) for name in FINGERS]
        self._finger_qpos = [int(joint.qposadr[0]) for joint in joints]
        self._finger_dofs = [int(joint.dofadr[0]) for joint in joints]
        self._steps = 0
        self.place(self.data.qpos.copy(), self.data.qvel.copy())

    def place(self, qpos: Floats, qvel: Floats) -> None:
        """Put the arm into a state (nq,), (nv,) and let it stay there."""
        self.data.qpos[:], self.data.qvel[:] = qpos, qvel
        mujoco.mj_forward(self.model, self.data)
        self.move(np.zeros(3))

    def move(self, displacement_m: Floats) -> None:
        """Send the gripper (3,) m away from where it is, to look downward there."""
        self.data.mocap_pos[self._mocap] = self.data.xpos[self._gripper] + displacement_m
        self.data.mocap_quat[self._mocap] = self.data.xquat[self._gripper] + DOWNWARD

    def step(self) -> None:
        """Live on for `step_s`; at the end of each control step the blocked fingers are shut.

        Raises:
            SimulationError: the world has diverged.
        """
        mujoco.mj_step(self.model, self.data)
        self._steps += 1
        if self._steps % SUBSTEPS == 0:
            self.data.qpos[self._finger_qpos] = 0.0
            mujoco.mj_fwdPosition(self.model, self.data)
            mujoco.mj_fwdVelocity(self.model, self.data)
            if not (np.isfinite(self.data.qpos).all() and np.isfinite(self.data.qvel).all()):
                raise SimulationError(f"the emulated arm diverged at {self.data.time:.3f} s")

    def measured(self) -> Floats:
        """Return (10,) what a STATE tells, as of the last step."""
        twist = np.empty(6)
        site = mujoco.mjtObj.mjOBJ_SITE
        mujoco.mj_objectVelocity(self.model, self.data, site, self._grip, twist, 0)
        fingers = self.data.qpos[self._finger_qpos], self.data.qvel[self._finger_dofs]
        return np.concatenate((self.data.site_xpos[self._grip], twist[3:], *fingers))
