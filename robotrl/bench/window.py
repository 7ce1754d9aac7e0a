"""MuJoCo's viewer as a window for playbacks."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

import mujoco

from robotrl.bench.camera import Follower, View
from robotrl.bench.markers import add_markers
from robotrl.errors import ScreenError
from robotrl.runtime.clock import Clock, Pacer

if TYPE_CHECKING:
    from collections.abc import Callable

    import mujoco.viewer

    from robotrl.bench.playback import Player, Table


class Window(Protocol):
    """What a playback needs of `mujoco.viewer.Handle`."""

    @property
    def user_scn(self) -> mujoco.MjvScene:
        """What is drawn besides the model."""
        ...

    def is_running(self) -> bool:
        """Return whether it is still open."""
        ...

    def lock(self) -> AbstractContextManager[object]:
        """Keep it from reading the state."""
        ...

    def sync(self) -> None:
        """Show the state."""
        ...

    def set_texts(self, texts: tuple[int | None, int | None, str, str]) -> None:
        """Write two columns, given as font, corner, left and right, over the picture."""
        ...


def open_window(
    model: mujoco.MjModel, data: mujoco.MjData, on_key: Callable[[int], None], view: View | None = None
) -> mujoco.viewer.Handle:
    """Open MuJoCo's viewer with its camera on the moving body, or where it is told to stand.

    Args:
        model: what to show.
        data: its state, which the window shows at every `sync`.
        on_key: takes GLFW key codes, in the window's own thread.
        view: where to stand.

    Raises:
        ScreenError: on a Mac, where only `mjpython` can open it.
    """
    import mujoco.viewer

    mujoco.mj_forward(model, data)
    follower = Follower(model, data, view)
    try:
        window: mujoco.viewer.Handle = mujoco.viewer.launch_passive(
            model, data, key_callback=on_key, show_left_ui=False, show_right_ui=False
        )
    except RuntimeError as error:
        raise ScreenError("on a Mac the viewer needs mjpython: mjpython -m robotrl view ...") from error
    with window.lock():
        window.cam.lookat[:] = follower.camera.lookat
        if view is None:
            window.cam.type = mujoco.mjtCamera.mjCAMERA_TRACKING
            window.cam.trackbodyid = follower.root
        window.cam.distance = follower.camera.distance
        window.cam.elevation = follower.camera.elevation
        window.cam.azimuth = follower.camera.azimuth
    return window


def show(player: Player, data: mujoco.MjData, window: Window, clock: Clock) -> None:
    """Show a playback in real time until the window is closed; one that ends is repeated."""
    pacer = Pacer(clock, player.frame_s)
    while window.is_running():
        for frame in player.frames():
            if not window.is_running():
                return
            with window.lock():
                data.qpos[:] = frame.qpos
                mujoco.mj_forward(player.model, data)
                if len(frame.markers_m):
                    window.user_scn.ngeom = 0
                    add_markers(window.user_scn, frame.markers_m, player.model.stat.extent)
            window.set_texts((None, int(mujoco.mjtGridPos.mjGRID_BOTTOMLEFT), *_columns(frame.table)))
            window.sync()
            pacer.wait()


def _columns(table: Table) -> tuple[str, str]:
    """The names, and the figures beside them."""
    return "\n".join(row[0] for row in table), "\n".join("   ".join(row[1:]) for row in table)
