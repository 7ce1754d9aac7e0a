"""What the classic tasks have in common: model files, start states, small sums."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from robotrl.errors import BadInputError
from robotrl.tasks.direct import ModelFacts
from robotrl.tasks.task import WorldView

Range = tuple[float, float]
Start = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]


def model_file(xml_file: str) -> Path:
    """Find a model: a path when it starts with `.`, `/` or `~`, else one of Gymnasium's own files.

    Raises:
        BadInputError: Gymnasium is not installed, or there is no such file.
    """
    own = xml_file.startswith((".", "/", "~"))
    file = Path(xml_file).expanduser() if own else _assets() / xml_file
    if not file.is_file():
        raise BadInputError("there is no such model file", key="xml_file", value=str(file))
    return file


def _assets() -> Path:
    spec = find_spec("gymnasium")  # locating it does not import it
    if spec is None or not spec.submodule_search_locations:
        raise BadInputError("the classic tasks use the model files of gymnasium, which is not installed")
    return Path(spec.submodule_search_locations[0]) / "envs" / "mujoco" / "assets"


def uniform(shape: tuple[int, ...], scale: float, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Draw from [-scale, scale)."""
    draw = torch.rand(shape, generator=generator, device=generator.device, dtype=dtype)
    return draw.mul_(2 * scale).sub_(scale)


def normal(shape: tuple[int, ...], scale: float, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Draw from a Gaussian of standard deviation `scale`."""
    return torch.randn(shape, generator=generator, device=generator.device, dtype=dtype).mul_(scale)


def start_near(
    model: ModelFacts,
    scale: float,
    velocity: Callable[[tuple[int, ...], float, torch.Generator, torch.dtype], Tensor],
) -> Start:
    """Start around the reference position: uniform offsets, and velocities drawn by `velocity`."""
    qpos0 = torch.tensor(model.qpos0, dtype=model.dtype)

    def start(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        offset = uniform((count, len(qpos0)), scale, generator, model.dtype)
        return qpos0 + offset, velocity((count, model.nv), scale, generator, model.dtype)

    return start


def effort(action: Tensor) -> Tensor:
    """Sum of squared controls (B,)."""
    return action.square().sum(-1)


def no_mark(view: WorldView) -> Tensor:
    """For tasks that measure no progress."""
    return view.qpos[:, 0]


def inside(value: Tensor, limits: Range) -> Tensor:
    """Whether it lies strictly between the limits; never true for NaN."""
    return (value > limits[0]) & (value < limits[1])


def paid(where: Tensor, reward: float, like: Tensor) -> Tensor:
    """Return the reward where the condition holds, else 0."""
    return where.to(like.dtype) * reward


def body_index(model: ModelFacts, body: str) -> int:
    """Index of a named body.

    Raises:
        BadInputError: the model has no such body.
    """
    if body not in model.body_id:
        raise BadInputError("the model has no such body", key="xml_file", value=body, allowed=model.body_id)
    return model.body_id[body]


def never(view: WorldView) -> Tensor:
    """(B,) False: an episode that only a time-out ends."""
    return torch.zeros_like(view.qpos[:, 0], dtype=torch.bool)
