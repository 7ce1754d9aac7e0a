"""Finds out what can be drawn on: OpenGL libraries that need no screen, and the screen itself.

Run as a program it draws one small picture with the library that the environment variable MUJOCO_GL names:
mujoco reads that once, when it is imported, and a library that does not work may end the process.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import warnings

import mujoco

from robotrl.errors import ScreenError

REMEDY = (
    "install EGL (Debian and Ubuntu: apt install libegl1 libgl1 libgl1-mesa-dri; a graphics card's driver "
    "brings its own) or OSMesa (libosmesa6), or name another library in MUJOCO_GL"
)


def drawing_environment() -> dict[str, str]:
    """Return this process's environment with MUJOCO_GL set to a library that works.

    MUJOCO_GL is kept where it is set. Otherwise EGL, OSMesa and, where there is a screen, GLFW are tried
    in this order on Linux; other systems have one library only.

    Raises:
        ScreenError: none works; says what each answered and what to install.
    """
    given = os.environ.get("MUJOCO_GL")
    candidates = _candidates() if given is None else (given,)
    library = _first_working(candidates)
    return os.environ | ({"MUJOCO_GL": library} if library else {})


def check_screen() -> None:
    """Make sure that a window can be opened: MuJoCo's viewer would end the process.

    Raises:
        ScreenError: no screen, or one without OpenGL.
    """
    import glfw

    if sys.platform == "darwin":
        return  # has a screen, and a window may be opened by the main thread only
    with warnings.catch_warnings(record=True) as answers:
        warnings.simplefilter("always")
        glfw.init()
        glfw.window_hint(glfw.VISIBLE, glfw.FALSE)
        window: object = glfw.create_window(64, 64, "robotrl", None, None)  # a null pointer is false
        glfw.terminate()
    if not window:
        reason = str(answers[0].message) if answers else "no window can be opened"
        raise ScreenError(f"the viewer needs a screen ({reason}); `robotrl video` draws without one")


def _candidates() -> tuple[str, ...]:
    """MUJOCO_GL values to try; empty text is the system's own."""
    if not sys.platform.startswith("linux"):
        return ("",)
    return ("egl", "osmesa", "glfw") if "DISPLAY" in os.environ else ("egl", "osmesa")


@functools.cache
def _first_working(candidates: tuple[str, ...]) -> str:
    answers = []
    for library in candidates:
        problem = _try(library)
        if not problem:
            return library
        answers.append(f"{library or 'the system'}: {problem}")
    raise ScreenError(f"no OpenGL library works here ({'; '.join(answers)}); {REMEDY}")


def _try(library: str) -> str:
    """What went wrong with one library; empty where it draws."""
    done = subprocess.run(
        [sys.executable, "-m", "robotrl.bench.opengl"],
        env=os.environ | ({"MUJOCO_GL": library} if library else {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return ""
    return (done.stderr.strip().splitlines() or [f"ends with code {done.returncode}"])[-1]


def _draw_something() -> None:
    model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><geom size='1'/></worldbody></mujoco>")
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    with mujoco.Renderer(model, 16, 16) as renderer:
        renderer.update_scene(data)
        renderer.render()


if __name__ == "__main__":
    _draw_something()
