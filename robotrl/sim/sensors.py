"""Finds named sensors in `sensordata`, for every backend alike."""

from __future__ import annotations

import mujoco
import torch
from torch import Tensor

from robotrl.errors import SimulationError


class SensorColumns:
    """Remembers which columns of a model's `sensordata` belong to which names."""

    def __init__(self, model: mujoco.MjModel, device: torch.device) -> None:
        self._model, self._device = model, device
        self._columns: dict[tuple[str, ...], Tensor | slice] = {}

    def read(self, sensordata: Tensor, names: tuple[str, ...]) -> Tensor:
        """Values (B, len(names), size) of equally sized sensors from sensordata (B, nsensordata).

        Raises:
            SimulationError: the model has no such sensor, or their sizes differ.
        """
        columns = self._columns.get(names)
        if columns is None:
            columns = self._columns[names] = self._find(names)
        if isinstance(columns, slice):  # neighbours in the model: a view costs nothing
            return sensordata[:, columns].view(len(sensordata), len(names), -1)
        return sensordata[:, columns]

    def _find(self, names: tuple[str, ...]) -> Tensor | slice:
        ids = [mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_SENSOR, name) for name in names]
        missing = [name for name, i in zip(names, ids, strict=True) if i < 0]
        if missing:
            raise SimulationError(f"the model has no sensor {', '.join(missing)}")
        sizes = {int(self._model.sensor_dim[i]) for i in ids}
        if len(sizes) != 1:
            raise SimulationError(f"sensors {', '.join(names)} differ in size: {sorted(sizes)}")
        size = sizes.pop()
        first = [int(self._model.sensor_adr[i]) for i in ids]
        if first == list(range(first[0], first[0] + size * len(ids), size)):
            return slice(first[0], first[-1] + size)
        columns = [[start + k for k in range(size)] for start in first]
        return torch.tensor(columns, device=self._device)
