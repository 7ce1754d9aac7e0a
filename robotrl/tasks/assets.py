"""Model files that goal tasks take from the installed Gymnasium-Robotics."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from robotrl.errors import BadInputError


def robotics_asset(folder: str, file: str) -> Path:
    """Find one of the model files of Gymnasium-Robotics.

    Raises:
        BadInputError: it is not installed, or has no such file.
    """
    spec = find_spec("gymnasium_robotics")  # locating it does not import it
    if spec is None or not spec.submodule_search_locations:
        raise BadInputError("goal tasks use the model files of gymnasium-robotics, which is not installed")
    path = Path(spec.submodule_search_locations[0]) / "envs" / "assets" / folder / file
    if not path.is_file():
        raise BadInputError("the installed gymnasium-robotics lacks a model file", file=path)
    return path
