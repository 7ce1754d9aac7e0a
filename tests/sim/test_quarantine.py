"""Quarantine: a broken world's file is enough to see it break again."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch

from robotrl.errors import BadInputError
from robotrl.sim.exact import add_contact_forces
from robotrl.sim.native import NativeWorlds
from robotrl.sim.quarantine import Dump, Quarantine, load_dump
from tests.sim.conformance import Scene, ant, ids, quad12

SCENES = pytest.mark.parametrize("scene", [quad12(), ant()], ids=["quad12", "ant"])
ABSURD = 1e12


@pytest.fixture(autouse=True)
def _aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MuJoCo logs its warnings into a file of the working directory."""
    monkeypatch.chdir(tmp_path)


def break_worlds(scene: Scene, quarantine: Quarantine, *broken: int) -> NativeWorlds:
    """Drive some of eight worlds to NaN, each with a body mass of its own, and hand them over."""
    worlds = NativeWorlds(scene.model, 8, 1)
    worlds.field("body_mass")[:, 1] = torch.arange(1.0, 9.0).double()
    scene.start(worlds)
    worlds.set_velocity(ids(worlds, *broken), torch.full_like(worlds.qvel[list(broken)], ABSURD))
    qpos, qvel, targets = worlds.qpos, worlds.qvel, scene.goals(worlds, 1)[0].clone()
    targets[2] += 0.01
    worlds.step(targets)
    quarantine.keep(worlds, worlds.broken().nonzero()[:, 0], qpos, qvel, targets)
    return worlds


def replay(dump: Dump) -> mujoco.MjData:
    data = mujoco.MjData(dump.model)
    data.qpos[:], data.qvel[:] = dump.qpos, dump.qvel
    for controls in dump.targets:
        data.ctrl[:] = controls
        mujoco.mj_step(dump.model, data)
    return data


@SCENES
def test_a_dump_breaks_again_in_plain_mujoco(scene: Scene, tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "broken")
    break_worlds(scene, quarantine, 2, 5)
    files = sorted((tmp_path / "broken").iterdir())
    assert [file.name for file in files] == ["broken_0000.npz", "broken_0001.npz"]
    assert quarantine.count == 2
    for file, world in zip(files, (2, 5), strict=True):
        dump = load_dump(file)
        assert dump.world == world
        assert dump.model.body_mass[1] == world + 1.0
        assert dump.reason == "qpos[0] is nan after the step"
        assert dump.targets.shape == (4, scene.model.nu)
        assert not np.array_equal(dump.targets[1], dump.targets[2])
        assert (dump.qvel == np.float32(ABSURD)).all()
        assert not np.isfinite(replay(dump).qpos).all()


def test_the_state_is_the_one_before_the_step(tmp_path: Path) -> None:
    scene = quad12()
    worlds = NativeWorlds(scene.model, 3, 1)
    scene.start(worlds)
    qpos, qvel, targets = worlds.qpos, worlds.qvel, scene.goals(worlds, 1)[0]
    worlds.step(targets)
    Quarantine(tmp_path).keep(worlds, ids(worlds, 1), qpos, qvel, targets)
    dump = load_dump(tmp_path / "broken_0000.npz")
    np.testing.assert_array_equal(dump.qpos, qpos[1])
    np.testing.assert_allclose(replay(dump).qpos, worlds.qpos[1], atol=1e-6)
    assert "the state after it is finite" in dump.reason


def test_controls_that_are_not_numbers_are_named_as_the_reason(tmp_path: Path) -> None:
    scene = quad12()
    worlds = NativeWorlds(scene.model, 3, 1)
    targets = scene.goals(worlds, 1)[0].clone()
    targets[1, 2, 0] = float("nan")
    qpos, qvel = scene.start(worlds)
    worlds.step(targets)
    Quarantine(tmp_path).keep(worlds, ids(worlds, 2), qpos, qvel, targets)
    assert load_dump(tmp_path / "broken_0000.npz").reason == "a control of the step is not finite"


def test_all_are_counted_but_few_are_written(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path, most=3)
    for _ in range(2):
        break_worlds(quad12(), quarantine, 0, 3)
    assert quarantine.count == 4
    assert len(list(tmp_path.glob("broken_*.npz"))) == 3


def test_dumps_of_an_earlier_run_stay_and_count(tmp_path: Path) -> None:
    break_worlds(quad12(), Quarantine(tmp_path, most=2), 4)
    first = (tmp_path / "broken_0000.npz").read_bytes()
    resumed = Quarantine(tmp_path, most=2)
    break_worlds(quad12(), resumed, 1, 6)
    assert resumed.count == 2
    assert (tmp_path / "broken_0000.npz").read_bytes() == first
    assert load_dump(tmp_path / "broken_0001.npz").world == 1
    assert not (tmp_path / "broken_0002.npz").exists()


def test_without_a_folder_worlds_are_only_counted(tmp_path: Path) -> None:
    quarantine = Quarantine(None)
    break_worlds(quad12(), quarantine, 7)
    assert quarantine.count == 1
    assert not list(tmp_path.glob("**/*.npz"))


def test_a_model_with_our_plugin_loads_again(tmp_path: Path) -> None:
    spec = mujoco.MjSpec.from_string(
        "<mujoco><worldbody><body><freejoint/><geom size='.1'/></body></worldbody></mujoco>"
    )
    add_contact_forces(spec)
    worlds = NativeWorlds(spec.compile(), 1, 1)
    state = worlds.qpos, worlds.qvel, torch.zeros((1, 1, 0))
    Quarantine(tmp_path).keep(worlds, ids(worlds, 0), *state)
    assert load_dump(tmp_path / "broken_0000.npz").model.nplugin == 1


# Files that are no dumps.


@pytest.fixture
def dump_file(tmp_path: Path) -> Path:
    break_worlds(quad12(), Quarantine(tmp_path), 3)
    return tmp_path / "broken_0000.npz"


def altered(file: Path, **changes: np.ndarray | None) -> Path:
    """The same dump with some arrays replaced or, for None, left out."""
    with np.load(file) as arrays:
        content = {name: arrays[name] for name in arrays.files} | changes
    np.savez(file, **{name: value for name, value in content.items() if value is not None})
    return file


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"nowhere\.npz: cannot be read .*allowed: a dump"):
        load_dump(tmp_path / "nowhere.npz")


@pytest.mark.parametrize("content", [b"", b"what?", b"PK\x03\x04", b"\x80\x04."], ids=repr)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "other.npz"
    file.write_bytes(content)
    with pytest.raises(BadInputError, match=r"other\.npz: cannot be read"):
        load_dump(file)


def test_a_lone_array_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "lone.npy", np.zeros(3))
    with pytest.raises(BadInputError, match="cannot be read"):
        load_dump(tmp_path / "lone.npy")


def test_a_cut_dump_is_refused(dump_file: Path) -> None:
    whole = dump_file.read_bytes()
    for length in (100, len(whole) // 2, len(whole) - 10):
        dump_file.write_bytes(whole[:length])
        with pytest.raises(BadInputError, match="cannot be read"):
            load_dump(dump_file)


def test_a_damaged_dump_is_refused(dump_file: Path) -> None:
    whole = bytearray(dump_file.read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    dump_file.write_bytes(whole)
    with pytest.raises(BadInputError, match="cannot be read"):
        load_dump(dump_file)


@pytest.mark.parametrize("name", ["model", "qpos", "qvel", "targets", "world", "reason"])
def test_a_dump_without_a_part_is_refused(dump_file: Path, name: str) -> None:
    with pytest.raises(BadInputError, match=name):
        load_dump(altered(dump_file, **{name: None}))


def test_a_model_of_another_kind_is_refused(dump_file: Path) -> None:
    for model in (np.zeros(50, np.uint8), np.arange(5000, dtype=np.uint8)):
        with pytest.raises(BadInputError, match="cannot be read"):
            load_dump(altered(dump_file, model=model))


def test_a_state_of_another_model_is_refused(dump_file: Path) -> None:
    with pytest.raises(BadInputError, match=r"qvel: does not fit its model, got \(7,\); allowed: \(18,\)"):
        load_dump(altered(dump_file, qvel=np.zeros(7)))
    with pytest.raises(BadInputError, match="targets"):
        load_dump(altered(dump_file, qvel=np.zeros(18), targets=np.zeros(12)))


def test_pickled_objects_are_not_unpacked(dump_file: Path) -> None:
    with pytest.raises(BadInputError, match="cannot be read"):
        load_dump(altered(dump_file, reason=np.array({"code": 1}, dtype=object)))
