"""GPU worlds on `mujoco_warp`: torch views of its arrays, every piece of work one captured graph."""

from __future__ import annotations

import copy
import dataclasses
import gc
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import mujoco
import numpy as np
import torch
from torch import Tensor

from robotrl.errors import SimulationError
from robotrl.sim.fields import owner, place_mocap, with_values
from robotrl.sim.sensors import SensorColumns
from robotrl.sim.sizes import check_memory, probe_sizes

try:
    import mujoco_warp as mjw
    import warp as wp
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"warp worlds need {error.name}: pip install 'robotrl[gpu]'", name=error.name
    ) from error

from robotrl.sim.warp_rows import as_words, gather, mark, repeated_rows, scatter, zeros

wp.config.log_level = wp.LOG_WARNING  # not a line for every kernel that is loaded
wp.init()

_DERIVED = (
    "body_subtreemass", "geom_size", "geom_aabb", "geom_rbound", "tendon_length0", "eq_data",
    "dof_invweight0", "body_invweight0", "tendon_invweight0", "cam_pos0", "cam_poscom0", "cam_mat0",
    "light_pos0", "light_poscom0", "light_dir0", "actuator_acc0",
)  # fmt: skip
"""Everything `mujoco_warp.set_const` writes. Shared rows would take one world's values for all."""

_SWITCHES = {
    "opt.density": "has_fluid",
    "opt.viscosity": "has_fluid",
    "opt.wind": "has_fluid",
    "tendon_stiffness": "has_tendon_stiffness",
    "tendon_damping": "has_tendon_damping",
    "geom_adhesion": "flg_adhesion",
}
"""Effects that `put_model` leaves out for good where the nominal value is zero."""

_FOLDED = ("dof_damping", "dof_dampingpoly", "tendon_damping", "tendon_dampingpoly")
"""Fields to which `put_model` adds the damping of actuators."""

_AFTER_SOLVER = ("cacc", "cfrc_int", "cfrc_ext")
"""Derived by `rne_postconstraint`, which a step leaves out where no sensor needs it."""

_STATE = ("time", "qpos", "qvel", "act", "qacc_warmstart", "ctrl", "mocap_pos", "mocap_quat")
"""What decides how a world goes on, besides its model."""

_OVERFLOWS = {
    f"overflow_{kind.name.lower()}": int(kind)
    for kind in mjw.OverflowType
    if kind.name not in ("ITERATIONS", "LS_ITERATIONS")  # a solver that stopped early loses nothing
}


class WarpWorlds:
    """See `robotrl.sim.worlds.Worlds`; always float32.

    A step, with all its substeps, is one graph, and so is a reset; a graph is captured when its work
    is asked for the second time, since the first run compiles the kernels. Graphs hold addresses, so
    no array is replaced without forgetting them. Warp's CPU device runs the same graphs.

    Worlds that are reset, or whose constants change, are worked out in a second, small batch `few`
    and copied back: the others keep their values bit for bit, and cost nothing.

    Args:
        model: the model; shared, never written.
        num: B.
        device: "cuda", "cuda:1" or "cpu" (Warp's own, for tests).
        deterministic: the same seed gives the same bits, at some cost in speed.
        nconmax: contacts to allocate for each world, pooled; None probes the model.
        njmax: constraint rows to allocate for each world; None probes the model.

    Raises:
        SimulationError: no such device, or a model that `mujoco_warp` cannot simulate.
        ConfigError: so many worlds do not fit in the device's memory.
    """

    dtype = torch.float32

    def __init__(
        self,
        model: mujoco.MjModel,
        num: int,
        device: str | torch.device = "cuda",
        deterministic: bool = False,
        nconmax: int | None = None,
        njmax: int | None = None,
    ) -> None:
        self.device = _usable(torch.device(device))
        self._warp_device = wp.device_from_torch(self.device)
        self.num, self.model = num, copy.copy(model)
        # mujoco_warp never resets on its own and refuses the flag; `model` has it for who replays a world.
        self.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        accepted = copy.copy(model)
        accepted.opt.disableflags &= ~int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
        if nconmax is None or njmax is None:
            probed = probe_sizes(self.model)
            nconmax, njmax = nconmax or probed.nconmax, njmax or probed.njmax
        self._bytes_per_world = _bytes_per_world(accepted, nconmax, njmax)
        check_memory(num, self._bytes_per_world, self.device)
        few = max(1, min(num, max(64, num // 16)))
        with wp.ScopedDevice(self._warp_device):
            self._all = _Batch(_put_model(accepted, deterministic), accepted, num, nconmax, njmax)
            # Another record on the same arrays, of which single ones can be replaced.
            sharing = dataclasses.replace(self._all.model, opt=dataclasses.replace(self._all.model.opt))
            self._few = _Batch(sharing, accepted, few, nconmax, njmax)
            self._allocate(few)
            wp.synchronize_device()
        self._columns = SensorColumns(self.model, self.device)
        self._graphs: dict[Hashable, wp.Graph | None] = {}
        self._goals: dict[tuple[int, int], tuple[wp.array, Tensor]] = {}
        self._fields: dict[str, Tensor] = {}
        self._field_words: dict[str, tuple[wp.array, wp.array]] = {}
        self._data_words: dict[str, tuple[wp.array, wp.array]] = {}
        self._views: dict[str, Tensor] = {}
        self._snapshots: dict[str, Tensor] = {}
        self._current: list[Tensor] = []
        """Worlds whose derived values are those of their present state, in parts that `few` can hold."""
        for name in ("qpos", "qvel", "sensordata", "actuator_force"):
            self._make_readable(name)
        self.reset(torch.arange(num, device=self.device), self.qpos, self.qvel)

    @property
    def raw(self) -> tuple[mjw.Model, mjw.Data]:
        """The `mujoco_warp` Model and Data, for benchmarks; their arrays must not be replaced."""
        return self._all.model, self._all.data

    @property
    def qpos(self) -> Tensor:
        """Generalised positions (B, nq)."""
        return self._snapshot("qpos")

    @property
    def qvel(self) -> Tensor:
        """Generalised velocities (B, nv)."""
        return self._snapshot("qvel")

    @property
    def actuator_force(self) -> Tensor:
        """Actuator forces of the last substep (B, nu)."""
        return self._snapshot("actuator_force")

    def sensor(self, *names: str) -> Tensor:
        """Values of equally sized sensors (B, len(names), size), one substep behind the state.

        Raises:
            SimulationError: the model has no such sensor, or their sizes differ.
        """
        return self._columns.read(self._snapshot("sensordata"), names)

    def data(self, name: str) -> Tensor:
        """A derived `MjData` field by its MuJoCo name (B, ...), as the last substep found it.

        `cacc`, `cfrc_int` and `cfrc_ext` are computed from the first request on, also where MuJoCo,
        without a sensor that needs them, leaves zeros.

        Raises:
            SimulationError: `mujoco_warp` has no such field, or in another layout.
        """
        if name not in self._views:
            self._make_readable(name)
            for ids in self._current:
                self._choose(ids)
                self._run("derive chosen", lambda: self._settle_chosen(None))
        return self._snapshot(name)

    def step(self, targets: Tensor) -> None:
        """Advance one substep for each row of `targets` (substeps, B, nu)."""
        goals, view = self._goal_buffer(len(targets), self.num)
        view.copy_(targets)
        self._run(("step", len(targets)), lambda: self._substeps(self._all, goals))
        self._snapshots.clear()
        self._current.clear()

    def settle(self, ids: Tensor, targets: Tensor) -> None:
        """Advance the worlds `ids` (k,) alone, a substep for each row of `targets` (substeps, k, nu).

        See `robotrl.sim.worlds.Worlds`. All of them are quicker stepped where they are than in `few`.
        """
        substeps, parts = len(targets), list(self._parts(ids))
        if len(ids) == self.num:
            every = torch.empty_like(targets)
            every[:, ids] = targets
            self.step(every)
            self._run("forward", lambda: mjw.forward(self._all.model, self._all.data))
        else:
            goals, view = self._goal_buffer(substeps, self._few.num)
            for part in parts:
                self._choose(ids[part])
                view[:, : len(ids[part])] = targets[:, part]
                self._run(("settle", substeps), lambda: self._settle_chosen(goals))
        self._snapshots.clear()
        self._current += [ids[part] for part in parts]

    def reset(self, ids: Tensor, qpos: Tensor, qvel: Tensor) -> None:
        """Put the worlds `ids` (k,) into a state at rest of all memory, and update what is derived."""
        for part in self._parts(ids):
            self._begin(ids[part], qpos[part], qvel[part])
            self._current.append(ids[part])

    def set_velocity(self, ids: Tensor, qvel: Tensor) -> None:
        """Overwrite the velocities (k, nv) of the worlds `ids`."""
        self._views["qvel"][ids] = qvel
        self._snapshots.pop("qvel", None)

    def set_mocap(self, pos: Tensor, quat: Tensor) -> None:
        """Move the bodies that are moved from outside to (B, nmocap, 3) m and (B, nmocap, 4) wxyz."""
        for view, value in zip(self._mocap, (pos, quat), strict=True):
            view.copy_(value)

    def set_positions(self, columns: Tensor, qpos: Tensor) -> None:
        """Overwrite the positions (B, k) at addresses (k,), and derive anew what depends on them."""
        view = self._views["qpos"]
        view[:, columns] = torch.where(self.broken()[:, None], view[:, columns], qpos)
        self._run("derive", self._derive)
        self._snapshots.clear()

    def field(self, name: str) -> Tensor:
        """Live per-world values (B, ...) of a model field; writes take effect at the next step.

        Raises:
            SimulationError: `mujoco_warp` has no such field per world.
        """
        if name not in self._fields:
            self._expand(name)
        return self._fields[name]

    def update_constants(self, ids: Tensor) -> None:
        """Recompute what the model derives from masses and inertias for the worlds `ids`."""
        for name in _DERIVED:
            if np.size(getattr(self.model, name)):
                self.field(name)
        for part in self._parts(ids):
            self._choose(ids[part])
            self._run("constants", self._work_out_constants)

    def broken(self) -> Tensor:
        """(B,) bool: worlds whose state is not finite or beyond what MuJoCo calls bad (1e10)."""
        largest = [torch.linalg.vector_norm(self._views[n], torch.inf, dim=1) for n in ("qpos", "qvel")]
        fine: Tensor = (largest[0] <= mujoco.mjMAXVAL) & (largest[1] <= mujoco.mjMAXVAL)
        return ~fine

    def world_model(self, world: int) -> mujoco.MjModel:
        """Return one world's own model, its per-world fields and moved bodies filled in."""
        values = {name: field[world].cpu().numpy() for name, field in self._fields.items()}
        model = with_values(self.model, values)
        if self.model.nmocap:
            place_mocap(model, *(view[world].cpu().numpy() for view in self._mocap))
        return model

    def bytes_per_world(self) -> int:
        """Estimate the device memory of one world before any model field is its own."""
        return self._bytes_per_world

    def take_metrics(self) -> dict[str, float]:
        """Worlds that ran out of contacts, constraint rows and the like since the last call.

        A count that is not zero means physics was lost: allocate more, or probe with wilder motion.
        One host synchronisation.
        """
        seen = (self._seen | self._overflow).tolist()
        self._seen.zero_()
        self._overflow.zero_()
        counts = {name: float(sum(bool(world & bit) for world in seen)) for name, bit in _OVERFLOWS.items()}
        return {name: count for name, count in counts.items() if count}

    def _substeps(self, batch: _Batch, goals: wp.array) -> None:
        for row in range(goals.shape[0]):
            if self.model.nu:  # Warp has no empty slices
                wp.copy(batch.data.ctrl, goals[row])
            mjw.step(batch.model, batch.data)

    def _derive(self) -> None:
        mjw.fwd_position(self._all.model, self._all.data)
        mjw.fwd_velocity(self._all.model, self._all.data)

    def _begin_chosen(self) -> None:
        """Reset the chosen worlds, and derive their values in `few`."""
        every, few = self._all, self._few
        self._mask_array.zero_()
        marks = [self._mask_array, self._seen_array]
        wp.launch(mark, few.num, [self._ids_array, every.data.overflow], marks)
        mjw.reset_data(every.model, every.data, self._mask_array)
        mjw.reset_data(few.model, few.data, self._everyone)
        wp.copy(few.data.qpos, self._start_qpos_array)
        wp.copy(few.data.qvel, self._start_qvel_array)
        self._gather_fields()
        mjw.forward(few.model, few.data)
        for target, source in self._data_words.values():
            wp.launch(scatter, source.shape, [self._ids_array, source], [target])

    def _settle_chosen(self, goals: wp.array | None) -> None:
        """Take the chosen worlds' substeps in `few`, if any, and derive their values there."""
        self._gather_fields()
        for every, few in self._state_words:
            wp.launch(gather, few.shape, [self._ids_array, every], [few])
        if goals is not None:
            self._substeps(self._few, goals)
        mjw.forward(self._few.model, self._few.data)
        for every, few in (*self._state_words, *self._data_words.values()):
            wp.launch(scatter, few.shape, [self._ids_array, few], [every])

    def _work_out_constants(self) -> None:
        self._gather_fields()
        mjw.set_const(self._few.model, self._few.data, restore=False)
        for name in _DERIVED:
            if name in self._field_words:
                target, source = self._field_words[name]
                wp.launch(scatter, source.shape, [self._ids_array, source], [target])

    def _gather_fields(self) -> None:
        for source, target in self._field_words.values():
            wp.launch(gather, target.shape, [self._ids_array, source], [target])

    def _run(self, name: Hashable, work: Callable[[], None]) -> None:
        """Do a piece of work on torch's stream: plainly at first, from then on as a graph."""
        stream = None
        if self.device.type == "cuda":
            stream = wp.stream_from_torch(torch.cuda.current_stream(self.device))
        if name in self._graphs:
            graph = self._graphs[name] = self._graphs[name] or _capture(self._warp_device, work)
            wp.capture_launch(graph, stream=stream)
        else:
            with wp.ScopedDevice(self._warp_device), wp.ScopedStream(stream, sync_enter=False):
                work()
            self._graphs[name] = None

    def _begin(self, ids: Tensor, qpos: Tensor, qvel: Tensor) -> None:
        self._choose(ids)
        self._start_qpos[: len(ids)] = qpos
        self._start_qvel[: len(ids)] = qvel
        self._run("begin", self._begin_chosen)
        self._snapshots.clear()

    def _parts(self, ids: Tensor) -> Iterator[slice]:
        """Portions of `ids` that `few` can hold."""
        return (slice(first, first + self._few.num) for first in range(0, len(ids), self._few.num))

    def _choose(self, ids: Tensor) -> None:
        self._ids.fill_(-1)
        self._ids[: len(ids)] = ids

    def _snapshot(self, name: str) -> Tensor:
        if name not in self._snapshots:
            self._snapshots[name] = self._views[name].clone()
        return self._snapshots[name]

    def _allocate(self, few: int) -> None:
        """Make the buffers that graphs read, each with its torch view."""
        self._ids_array, self._ids = zeros((few,), wp.int32)
        self._start_qpos_array, self._start_qpos = zeros((few, self.model.nq), wp.float32)
        self._start_qvel_array, self._start_qvel = zeros((few, self.model.nv), wp.float32)
        self._seen_array, self._seen = zeros((self.num,), wp.int32)
        self._mask_array, self._everyone = wp.zeros(self.num, dtype=bool), wp.ones(few, dtype=bool)
        self._overflow = wp.to_torch(self._all.data.overflow)
        pairs = [(getattr(self._all.data, name), getattr(self._few.data, name)) for name in _STATE]
        self._state_words = [(as_words(every), as_words(few)) for every, few in pairs if every.size]
        self._mocap = [wp.to_torch(a) for a in (self._all.data.mocap_pos, self._all.data.mocap_quat)]

    def _goal_buffer(self, substeps: int, worlds: int) -> tuple[wp.array, Tensor]:
        key = substeps, worlds
        if key not in self._goals:
            with wp.ScopedDevice(self._warp_device):
                self._goals[key] = zeros((*key, self.model.nu), wp.float32)
                wp.synchronize_device()
        return self._goals[key]

    def _make_readable(self, name: str) -> None:
        every, few = getattr(self._all.data, name, None), getattr(self._few.data, name, None)
        shape = np.shape(getattr(mujoco.MjData(self.model), name, 0.0))
        if not shape or not isinstance(every, wp.array) or every.shape[:2] != (self.num, shape[0]):
            raise SimulationError(f"mujoco_warp has no MjData field {name!r} in MuJoCo's own layout")
        self._graphs.clear()
        if name in _AFTER_SOLVER:
            self._all.model.opt.run_rne_postconstraint = self._few.model.opt.run_rne_postconstraint = True
            self._run(name, lambda: mjw.rne_postconstraint(self._all.model, self._all.data))
        self._views[name] = wp.to_torch(every).view(self.num, *shape)
        self._data_words[name] = as_words(every), as_words(few)

    def _expand(self, name: str) -> None:
        """Give a model field a row for each world, in both batches."""
        record, attribute = owner(self._all.model, name)
        few_record, _ = owner(self._few.model, name)
        if attribute not in _batched(type(record)):
            raise SimulationError(f"mujoco_warp has no model field {name!r} that can differ between worlds")
        if name in _FOLDED and self.model.actuator_damping.any():
            raise SimulationError(f"{name} cannot differ between worlds on warp: actuators have damping too")
        shared = getattr(record, attribute)
        every, few = repeated_rows(shared, self.num), repeated_rows(shared, self._few.num)
        wp.synchronize_device(shared.device)  # nothing still reads what is replaced here
        setattr(record, attribute, every)
        setattr(few_record, attribute, few)
        if name in _SWITCHES:
            for batch in (self._all, self._few):
                setattr(batch.model, _SWITCHES[name], True)
        shape = np.shape(getattr(*owner(self.model, name)))
        self._fields[name] = wp.to_torch(every).view(self.num, *shape)
        self._field_words[name] = as_words(every), as_words(few)
        self._graphs.clear()


class _Batch:
    """A Model and the Data of some worlds."""

    def __init__(self, model: mjw.Model, host: mujoco.MjModel, num: int, nconmax: int, njmax: int) -> None:
        self.model, self.num = model, num
        self.data = mjw.make_data(host, nworld=num, nconmax=nconmax, njmax=njmax)


def _capture(device: wp.Device, work: Callable[[], None]) -> wp.Graph:
    """Record launches; a garbage collection meanwhile could free arrays of other graphs into this one."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        # Warp's own stream is current here: torch's default stream cannot be captured.
        with wp.ScopedDevice(device), wp.ScopedCapture() as capture:
            work()
    finally:
        if collecting:
            gc.enable()
    return capture.graph


def _usable(device: torch.device) -> torch.device:
    if device.type == "cpu":
        return device
    count = torch.cuda.device_count() if wp.is_cuda_available() else 0
    if device.type != "cuda" or (device.index or 0) >= count:
        raise SimulationError(f"warp worlds were asked for on {device}, but there is no such device here")
    return torch.zeros((), device=device).device  # with its number


def _put_model(model: mujoco.MjModel, deterministic: bool) -> mjw.Model:
    try:
        placed = mjw.put_model(model)
    except (NotImplementedError, ValueError) as error:
        raise SimulationError(f"mujoco_warp cannot simulate this model: {error}") from error
    placed.opt.warn_overflow = 0  # counted by `take_metrics`, not printed by every thread
    if deterministic:
        placed.opt.deterministic = int(mjw.DeterminismType.ALL)
    if wp.get_device().is_cuda and not wp.is_conditional_graph_supported():
        placed.opt.graph_conditional = False
    return placed


def _bytes_per_world(model: mujoco.MjModel, nconmax: int, njmax: int) -> int:
    """Memory of one world's Data, and as much again for `few` and what a step allocates meanwhile."""
    with wp.ScopedDevice("cpu"):
        data = mjw.make_data(model, nworld=1, nconmax=nconmax, njmax=njmax)
    arrays = [value for record in (data, data.contact, data.efc) for value in vars(record).values()]
    return 2 * sum(int(array.capacity) for array in arrays if isinstance(array, wp.array))


def _batched(record: type) -> set[str]:
    """The fields of a `mujoco_warp` record with an optional row for each world, of whole 32-bit words."""
    arrays: list[tuple[str, Any]] = [(f.name, f.type) for f in dataclasses.fields(record)]
    batched = {name: spec.dtype for name, spec in arrays if getattr(spec, "shape", ())[:1] == ("*",)}
    return {name for name, dtype in batched.items() if wp.types.type_size_in_bytes(dtype) % 4 == 0}
