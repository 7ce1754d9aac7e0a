"""The truth log: what the emulated robot really did, 100 times a second, as plain arrays."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robotrl.emulator.plant import STEP_S, Plant

RATE_HZ = 100
STEPS_PER_SAMPLE = round(1 / (RATE_HZ * STEP_S))


class TruthLog:
    """Collects samples and writes them as one .npz.

    Arrays, T samples: `stamp_s` (T,), `qpos` (T, nq), `qvel` (T, nv) in the model's order;
    `base_lin_vel_b`, `base_ang_vel_b` (T, 3) in the trunk's frame; `foot_height_m` (T, feet) from
    floor to the foot's lowest point; `foot_touch_n`, `knee_touch_n` (T, feet), `trunk_touch_n`
    (T, 1); and per joint in spec order `joint_torque_nm`, `goal_rad`, `watchdog_tripped`,
    `torque_enabled`, `voltage_v`, `temperature_c` (T, n). Heights and touches are one step
    (1 ms) older than the rest.

    Args:
        plant: the body; feet are its `<leg>_foot_pos` sensors, at the centre of a sphere geom
            `<leg>_foot`.
    """

    def __init__(self, plant: Plant) -> None:
        self._plant = plant
        names = [plant.model.sensor(i).name for i in range(plant.model.nsensor)]
        self._feet = [plant.sensor_slice(n) for n in names if n.endswith("_foot_pos")]
        self._foot_radius_m = [
            float(plant.model.geom(n.removesuffix("_pos")).size[0]) for n in names if n.endswith("_foot_pos")
        ]
        self._touch = {
            f"{part}_touch_n": [plant.sensor_slice(n) for n in names if n.endswith(f"{part}_touch")]
            for part in ("foot", "knee", "trunk")
        }
        self._samples: dict[str, list[NDArray[np.generic]]] = defaultdict(list)

    def sample(self, stamp_s: float, joints: Mapping[str, NDArray[np.generic]]) -> None:
        """Take one sample.

        Args:
            stamp_s: its time, on the clock of the emulation.
            joints: the per-joint arrays by name, (n,) each.
        """
        data = self._plant.data
        linear, angular = self._plant.base_velocity_b()
        heights = [data.sensordata[part][2] for part in self._feet]
        row: dict[str, NDArray[np.generic]] = {
            "stamp_s": np.array(stamp_s),
            "qpos": data.qpos.copy(),
            "qvel": data.qvel.copy(),
            "base_lin_vel_b": linear,
            "base_ang_vel_b": angular,
            "foot_height_m": np.array(heights) - self._foot_radius_m,
            **{name: np.array([data.sensordata[p][0] for p in parts]) for name, parts in self._touch.items()},
            **joints,
        }
        for name, value in row.items():
            self._samples[name].append(value)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._samples["stamp_s"])

    def save(self, file: Path, origin_s: float) -> None:
        """Write all samples; the file appears under its name only when it is complete.

        Args:
            file: the .npz.
            origin_s: added to every stamp.
        """
        arrays = {name: np.array(rows) for name, rows in self._samples.items()}
        arrays["stamp_s"] = arrays.get("stamp_s", np.empty(0)) + origin_s
        part = file.with_name(file.name + ".part")
        with part.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **arrays)
        part.replace(file)
