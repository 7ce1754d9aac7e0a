"""Laws of a playback, which needs no OpenGL, and of the window that shows it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal

import mujoco
import numpy as np
import pytest
import torch

from robotrl.bench.camera import View
from robotrl.bench.opening import open_player
from robotrl.bench.playback import Frame, Player
from robotrl.bench.postmortem import HOLD_FRAMES, DumpPlayer, component_names
from robotrl.bench.steering import KEYS, STOP_KEY, KeySteering, scripted, tour
from robotrl.bench.window import show
from robotrl.cli.main import WRONG_USE, main
from robotrl.errors import BadInputError
from robotrl.runtime.clock import FakeClock
from robotrl.runtime.operator import Step
from robotrl.sim.model import position_model
from robotrl.sim.native import NativeWorlds
from robotrl.sim.quarantine import Quarantine, load_dump
from robotrl.spec.robot import load_robot
from robotrl.spec.shipped import find_shipped
from robotrl.spec.state import Floats

LOW, HIGH = np.array([-0.4, -0.2, -1.0]), np.array([0.4, 0.2, 1.0])
UP, DOWN, LEFT, COMMA = 265, 264, 263, 44

MODEL = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><body><joint type='slide'/><geom size='1'/></body></worldbody></mujoco>"
)

CHEETAH = """\
env = "robotrl/HalfCheetah-v5"
algorithm = "ppo"
seed = 0
steps = 1000
[sim]
worlds = 1
processes = 1
"""


def _forward(elapsed_s: float, low: Floats, high: Floats) -> Floats:
    return np.array([0.3, 0.0, 0.0])


def _motion(
    what: str, actions: Literal["zero", "random", "trained"] | None = None, seed: int = 1, ticks: int = 100
) -> Floats:
    frames = islice(open_player(what, actions, seed, _forward).frames(), ticks)
    return np.array([frame.qpos for frame in frames])


def test_the_same_seed_moves_the_same_and_another_seed_does_not() -> None:
    first, again, other = (_motion("quad12_walk", seed=seed, ticks=25) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_trained_policy_walks_as_commanded_and_zero_actions_stand() -> None:
    walked, stood = (
        float(np.linalg.norm(motion[-1, :2] - motion[0, :2]))
        for motion in (_motion("quad12_walk", ticks=200), _motion("quad12_walk", "zero", ticks=200))
    )
    assert walked == pytest.approx(0.3 * 4, rel=0.3)
    assert stood < 0.25 * walked


def test_a_configuration_has_zero_actions_unless_random_ones_are_asked_for() -> None:
    default, zero, random = (
        _motion("quad12_walk_ppo", actions, ticks=10) for actions in (None, "zero", "random")
    )
    np.testing.assert_array_equal(default, zero)
    assert np.abs(random[-1, 7:] - zero[-1, 7:]).max() > 0.05


def test_the_figures_beside_the_picture_are_command_and_true_velocity() -> None:
    frames = list(islice(open_player("quad12_walk", None, 1, _forward).frames(), 150))
    command, true = (row[1:] for row in frames[-1].table[1:])
    assert command == ("+0.30", "+0.00", "+0.00")
    assert float(true[0]) == pytest.approx(0.3, abs=0.1)


def test_a_classic_task_is_played_in_its_own_time(tmp_path: Path) -> None:
    file = _cheetah(tmp_path)
    player = open_player(str(file), "random", 1, tour)
    assert player.frame_s == pytest.approx(0.05)
    frames = list(islice(player.frames(), 20))
    assert all(frame.qpos.shape == (player.model.nq,) for frame in frames)
    assert np.abs(frames[-1].qpos - frames[0].qpos).max() > 0.1
    np.testing.assert_array_equal(frames[-1].qpos, _motion(str(file), "random", ticks=20)[-1])


def test_keys_move_the_command_inside_the_trained_range() -> None:
    keys = KeySteering()
    for key in (UP, UP, LEFT, COMMA, 65):
        keys.press(key)
    np.testing.assert_allclose(keys(0.0, LOW, HIGH), [0.2, 0.05, 0.25])
    for _ in range(20):
        keys.press(DOWN)
    np.testing.assert_allclose(keys(0.0, LOW, HIGH), [-0.4, 0.05, 0.25])
    keys.press(STOP_KEY)
    np.testing.assert_allclose(keys(0.0, LOW, HIGH), 0.0)


def test_every_component_of_the_command_has_a_key_for_either_direction() -> None:
    assert sorted(KEYS.values()) == [(axis, way) for axis in range(3) for way in (-1, 1)]


def test_the_tour_shows_every_direction_and_ends_standing() -> None:
    commands = np.array([tour(t, LOW, HIGH) for t in np.arange(0.0, 14.5, 0.1)])
    assert (commands.max(0) > 0.5 * HIGH).all()
    assert (commands <= HIGH).all()
    np.testing.assert_array_equal(commands[-1], 0.0)


def test_a_script_keeps_its_last_velocity_and_stays_in_the_trained_range() -> None:
    steer = scripted([Step(1.0, velocity=(0.1, 0.0, 0.0)), Step(2.0, velocity=(9.0, 0.0, 0.0)), Step(3.0)])
    commands = [steer(t, LOW, HIGH)[0] for t in (0.0, 1.5, 2.5, 9.0)]
    np.testing.assert_allclose(commands, [0.0, 0.1, 0.4, 0.4])


# ---------------------------------------------------------------- dumps


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    """World 2 of 3, set aside after a step from a state in which a joint turns at an absurd speed."""
    model = position_model(load_robot(find_shipped("hardware", "quad12")), 0.005)
    worlds = NativeWorlds(model, 3, 1)
    qpos, qvel = worlds.qpos, torch.zeros((3, model.nv))
    qvel[2, int(model.joint("FL_knee").dofadr[0])] = 1e30
    targets = torch.zeros((4, 3, model.nu))
    Quarantine(tmp_path).keep(worlds, torch.tensor([2]), qpos, qvel, targets)
    return next(tmp_path.glob("*.npz"))


def test_a_dump_starts_before_the_failure_and_is_drawn_while_it_can_be(dump: Path) -> None:
    player = open_player(str(dump), None, 1, tour)
    frames = list(player.frames())
    np.testing.assert_array_equal(frames[0].qpos, load_dump(dump).qpos)
    assert all(np.isfinite(frame.qpos).all() for frame in frames)
    assert len(frames) < 5 * HOLD_FRAMES
    assert frames[0].table[0][0] == "before the failing step"
    assert len(list(player.frames())) == len(frames)  # it can be played again


def test_the_findings_name_the_world_and_what_became_impossible(dump: Path) -> None:
    findings = open_player(str(dump), None, 1, tour).findings
    assert findings[0].startswith("world 2: ")
    assert findings[1] == "before the failing step: qvel[FL_knee] = 1e+30"
    assert any(sentence.startswith("substep 1 of 4: MuJoCo: Nan, Inf or huge") for sentence in findings)
    assert "qpos[FL_knee] = " in findings[-1]


def test_replaying_a_dump_leaves_no_log_in_the_present_folder(
    dump: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    open_player(str(dump), None, 1, tour)
    assert list(Path.cwd().iterdir()) == []


def test_a_dump_that_does_not_fail_again_says_so(dump: Path) -> None:
    kept = load_dump(dump)
    healthy = dataclasses.replace(kept, qvel=np.zeros_like(kept.qvel))
    assert "does not fail" in DumpPlayer(healthy).findings[-1]


def test_a_dump_without_any_possible_position_is_refused(dump: Path) -> None:
    kept = load_dump(dump)
    qpos = kept.qpos.copy()
    qpos[2] = np.nan
    with pytest.raises(BadInputError, match=r"world 2.*qpos\[root\.z\] = nan"):
        DumpPlayer(dataclasses.replace(kept, qpos=qpos))


def test_every_component_of_a_state_has_a_name_of_its_own() -> None:
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><body><freejoint name='root'/><geom size='1'/><body><joint name='hinge'/>"
        "<geom size='1'/><body><joint type='ball'/><geom size='1'/></body></body></body></worldbody></mujoco>"
    )
    positions, velocities = component_names(model)
    assert (len(positions), len(velocities)) == (model.nq, model.nv)
    assert (len(set(positions)), len(set(velocities))) == (model.nq, model.nv)
    assert (positions[2], positions[7], velocities[6], velocities[-1]) == (
        "root.z", "hinge", "hinge", "joint 2.wz",
    )  # fmt: skip


# ---------------------------------------------------------------- the window


class _Window:
    """Open for a number of pictures; keeps what it was shown and when."""

    def __init__(self, data: mujoco.MjData, clock: FakeClock, pictures: int) -> None:
        self._data, self._clock, self._left = data, clock, pictures
        self.shown: list[Floats] = []
        self.at_s: list[float] = []
        self.texts: list[tuple[str, str]] = []
        self.user_scn = mujoco.MjvScene(MODEL, maxgeom=10)

    def is_running(self) -> bool:
        return self._left > 0

    def lock(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext()

    def sync(self) -> None:
        self._left -= 1
        self.shown.append(self._data.qpos.copy())
        self.at_s.append(self._clock.now_s())

    def set_texts(self, texts: tuple[int | None, int | None, str, str]) -> None:
        self.texts.append(texts[2:])


class _Three:
    """A playback of three frames with a goal that moves."""

    model, frame_s = MODEL, 0.25
    findings: Sequence[str] = ()
    view: View | None = None

    def frames(self) -> Iterator[Frame]:
        for number in range(3):
            table = (("frame", str(number)), ("of", "3"))
            yield Frame(np.array([float(number)]), table, restarted=False, markers_m=np.full((1, 3), number))


def test_the_window_shows_each_frame_in_its_time_and_repeats_a_playback_that_ends() -> None:
    player: Player = _Three()
    data, clock = mujoco.MjData(player.model), FakeClock()
    window = _Window(data, clock, pictures=7)
    show(player, data, window, clock)
    np.testing.assert_array_equal(np.concatenate(window.shown), [0, 1, 2, 0, 1, 2, 0])
    np.testing.assert_allclose(window.at_s, 0.25 * np.arange(7))
    assert window.texts[1] == ("frame\nof", "1\n3")
    assert window.user_scn.ngeom == 1, "the goal's marker, and not one for each frame"
    np.testing.assert_array_equal(window.user_scn.geoms[0].pos, [0, 0, 0])


def _frames(config: str, ticks: int) -> tuple[Player, list[Frame]]:
    player = open_player(config, "random", 1, _forward)
    return player, list(islice(player.frames(), ticks))


def test_goals_that_are_places_are_marked_and_the_models_own_mark_is_hidden() -> None:
    player, frames = _frames("fetch_push", 51)
    goal_z_m = {float(frame.markers_m[0, 2]) for frame in frames[:50]}
    assert len(goal_z_m) == 1, "an episode has one goal"
    assert 0.4 < goal_z_m.pop() < 0.5, "on the table"
    assert frames[50].restarted
    assert (frames[50].markers_m != frames[49].markers_m).any()
    assert frames[7].table == (("time", "0.28 s"), ("goal", "reached")), "it starts near this one"
    assert player.model.site("target0").rgba[3] == 0.0
    hand = _frames("hand_reach", 1)[1][0]
    assert hand.markers_m.shape == (5, 3), "a place for each fingertip"
    assert hand.table[1] == ("goal", "-")


def test_an_objects_goal_is_shown_by_the_body_that_is_there_for_it() -> None:
    player, frames = _frames("hand_block_rotate_z", 3)
    start = player.model.joint("target:joint").qposadr[0]
    poses = np.array([frame.qpos[start : start + 7] for frame in frames])
    np.testing.assert_array_equal(poses[0], poses[2])
    assert np.linalg.norm(poses[0, 3:]) == pytest.approx(1.0, abs=1e-5)
    assert (poses[0] != player.model.qpos0[start : start + 7]).any()
    assert frames[0].markers_m.shape == (0, 3)


def test_without_a_screen_view_says_so_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert main(["view", "quad12_walk"]) == WRONG_USE
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "needs a screen" in error
    assert "robotrl video" in error


def _cheetah(folder: Path) -> Path:
    file = folder / "cheetah.toml"
    learner = find_shipped("configs", "quad12_walk_ppo").read_text(encoding="utf-8").partition("[ppo]")
    file.write_text(CHEETAH + "[ppo]" + learner[2], encoding="utf-8")
    return file
