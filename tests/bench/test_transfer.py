"""Laws of the transfer report: a delay that is put in is found, and what is the simulation is near it."""

from __future__ import annotations

import collections
import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from robotrl.bench import transfer_report
from robotrl.bench.flight import Truth
from robotrl.bench.lockstep import LockstepRobot, WitnessedBody
from robotrl.bench.resimulate import Resimulation, Rollout, find_training, start_state, training_env
from robotrl.bench.stretch import Stretch, longest_stretch
from robotrl.bench.transfer import (
    ALIKE,
    channel_figures,
    delay,
    measured_terms,
    ranges,
    recorded_trace,
    simulated_trace,
)
from robotrl.bench.transfer_report import Transfer, compare, write_transfer_report
from robotrl.cli.report import Report
from robotrl.cli.runfile import CONFIG, parse_job
from robotrl.errors import CheckpointError, ConfigError, RecordingError
from robotrl.export.weights import read_actor
from robotrl.learn.checkpoint import Progress, save_checkpoint
from robotrl.learn.group import Group
from robotrl.runtime.clock import FakeClock
from robotrl.runtime.loop import Loop
from robotrl.runtime.operator import Script, Step
from robotrl.runtime.policy import Policy
from robotrl.runtime.recorder import McapRecorder
from robotrl.runtime.recording import Recording, read_recording
from robotrl.spec.contract import read_policy_file
from robotrl.spec.shipped import find_shipped
from robotrl.spec.state import Floats, JointCommand, RobotState
from robotrl.tasks.velocity import VelocityStep
from tests.laws.rig import QUAD12
from tests.runtime.fakes import QUICK, WALK, Rig

POLICY = "quad12_walk"
PERIOD_S = 0.02
STEPS = (
    Step(0.0, mode="stand"),
    Step(1.5, mode="policy"),
    Step(1.7, velocity=(0.3, 0.0, 0.0)),
    Step(3.2, velocity=(0.1, 0.1, 0.5)),
    Step(4.5, mode="limp"),
)


class LateBody:
    """A robot whose servos get every command some ticks later."""

    def __init__(self, body: WitnessedBody, ticks: int) -> None:
        self._body, self._late = body, collections.deque[JointCommand]()
        self._ticks = ticks

    def open(self) -> None:
        """See `Body`."""
        self._body.open()

    def read(self, now_s: float) -> RobotState:
        """See `Body`."""
        return self._body.read(now_s)

    def write(self, command: JointCommand) -> None:
        """Send the command of `ticks` ago."""
        self._late.append(command)
        self._body.write(self._late.popleft() if len(self._late) > self._ticks else self._late[0])

    def rearm(self) -> None:
        """See `Body`."""
        self._body.rearm()

    def close(self) -> None:
        """See `Body`."""
        self._body.close()


def walked(file: Path, late_ticks: int) -> Path:
    """Record an emulated walk."""
    control = dataclasses.replace(QUAD12.control, stand_s=1.2, park_s=0.1)
    robot = dataclasses.replace(QUAD12, control=control)
    policy = Policy.load(find_shipped("policies", POLICY))
    attachments = {
        "robot.toml": Path(QUAD12.file).read_bytes(),
        "contract.json": policy.contract.to_json().encode(),
    }
    script = Script(STEPS, policy.contract.operator_ranges)
    with LockstepRobot(robot) as emulated, McapRecorder(file, attachments) as recorder:
        body = LateBody(WitnessedBody(robot, emulated), late_ticks)
        Loop(robot, body, policy, script, FakeClock(), armed=True, recorder=recorder).run()
    return file


@pytest.fixture(scope="module")
def walks(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Recordings of the robot as it is, and with a tick's delay on the way to its servos."""
    folder = tmp_path_factory.mktemp("walks")
    return [walked(folder / f"late{ticks}.mcap", ticks) for ticks in (0, 1)]


def compared(file: Path, against: str) -> Transfer:
    """A comparison with a few randomised robots only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transfer_report, "RANDOMISED_WORLDS", 4)
        return compare(file, against)


@pytest.fixture(scope="module")
def transfers(walks: list[Path]) -> list[Transfer]:
    """Both beside the policy that walked them."""
    return [compared(file, POLICY) for file in walks]


def run_folder(folder: Path, stronger: float = 1.0) -> str:
    """The run that the shipped policy could be of, with its last layer so many times as strong."""
    file = find_shipped("policies", POLICY)
    data, contract, _ = read_policy_file(file)
    job = parse_job(contract.provenance.config, file)
    actor = job.learner().actor
    tensors = read_actor(actor, data, 1e6, file)
    actor.load_state_dict(tensors, strict=False)  # where a mirrored layer's parts stand is in no file
    last = list(tensors)[-1].rpartition(".")[0]
    for parameter in actor.get_submodule(last).parameters():
        parameter.data *= stronger
    saved = {f"actor.{name}": value for name, value in actor.state_dict().items()}
    folder.mkdir()
    (folder / CONFIG).write_text(contract.provenance.config, encoding="utf-8")
    save_checkpoint(folder, saved, Progress(1, 1, 1.0), {**job.owner, "processes": 1}, Group())
    return str(folder)


@pytest.mark.parametrize("shift_s", [-0.11, -0.02, 0.0, 0.007, 0.013, 0.04, 0.155])
def test_a_delay_is_found_between_samples_too(shift_s: float) -> None:
    stamp_s = PERIOD_S * np.arange(300)

    def course(late_s: float) -> np.ndarray:
        phase = 2 * np.pi * 2.2 * (stamp_s - late_s)
        return np.stack((np.sin(phase), 3 + 0.2 * np.cos(phase) + 0.02 * np.sin(2 * phase)), axis=1)

    found_s, correlation = delay(course(shift_s), course(0.0), PERIOD_S)
    assert found_s == pytest.approx(shift_s, abs=0.001)
    assert correlation > 0.98
    assert np.isnan(delay(np.ones((300, 2)), course(0.0), PERIOD_S)).all()


def test_the_emulated_robot_is_near_its_training(transfers: list[Transfer]) -> None:
    facts = transfers[0].facts
    assert facts.seconds == pytest.approx(3.0, abs=0.05)
    assert not facts.simulation_fell
    assert facts.answers_differ_rad == 0.0
    angles = facts.channels["joint_pos"]
    assert angles.rmse < 0.3 * angles.spread
    assert abs(angles.delay_ms) < 10
    assert angles.correlation > 0.96
    assert facts.simulation.error_wz_rad_s < 0.1
    assert facts.robot.torque_rms_nm == pytest.approx(facts.simulation.torque_rms_nm, rel=0.25)


def test_a_delay_in_the_robot_shows_as_this_delay(transfers: list[Transfer]) -> None:
    plain, late = (transfer.facts for transfer in transfers)
    more_ms = late.robot.response_ms - plain.robot.response_ms
    assert more_ms == pytest.approx(1e3 * PERIOD_S, abs=5)
    assert late.simulation.response_ms == pytest.approx(plain.simulation.response_ms, abs=1)
    for name in ("joint_pos", "joint_vel"):
        more_ms = late.channels[name].delay_ms - plain.channels[name].delay_ms
        assert more_ms == pytest.approx(1e3 * PERIOD_S, abs=5)
        assert late.channels[name].rmse > 1.5 * plain.channels[name].rmse


def test_the_folder_of_a_run_is_as_good_as_the_policy_file_that_was_exported_from_it(
    tmp_path: Path, walks: list[Path], transfers: list[Transfer]
) -> None:
    """The network from the checkpoint in torch, beside the file in onnxruntime."""
    folder = run_folder(tmp_path / "run")
    network, exported = compared(walks[0], folder), transfers[0]
    assert dict(network.about)["compared with"] == folder
    assert dict(network.about)["training configuration"] == "the same as the recorded policy's"
    assert 0.0 < network.facts.answers_differ_rad < 1e-5
    assert network.facts.same_policy
    assert network.facts.robot.reward_per_s == pytest.approx(exported.facts.robot.reward_per_s, rel=1e-3)
    for name, figures in network.facts.channels.items():
        wanted = exported.facts.channels[name]
        assert figures.rmse == pytest.approx(wanted.rmse, rel=0.05)
        assert figures.delay_ms == pytest.approx(wanted.delay_ms, abs=1)


def test_a_run_whose_robots_all_fall_is_compared_until_then(tmp_path: Path, walks: list[Path]) -> None:
    transfer = compared(walks[0], run_folder(tmp_path / "run", stronger=8.0))
    facts = transfer.facts
    assert facts.simulation_fell
    assert facts.seconds < 2.5
    assert not facts.same_policy
    assert np.isnan(facts.channels["joint_pos"].delay_ms)
    assert facts.channels["joint_pos"].correlation < ALIKE
    write_transfer_report(transfer, tmp_path / "transfer.html")
    page = (tmp_path / "transfer.html").read_text(encoding="utf-8")
    for said in ("beside another policy under", "none found", "(then the simulation fell)"):
        assert said in page
    assert "nan" not in re.sub("<svg.*?</svg>", "", page, flags=re.DOTALL)


def test_nothing_is_in_range_where_every_randomised_robot_has_fallen() -> None:
    quat = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(3, 2, 4)
    angle = torch.tensor([[1.0, 3.0], [2.0, 9.0], [9.0, 9.0]])[..., None]
    upright = torch.tensor([[True, True], [True, False], [False, False]])
    low, high = ranges(Rollout({"imu_quat": quat, "joint_pos": angle}, torch.zeros(3, 2, 1), (), upright), 5)
    np.testing.assert_array_equal(low["joint_pos"].ravel(), [1, 2, np.inf, np.inf, np.inf])
    np.testing.assert_array_equal(high["joint_pos"].ravel(), [3, 2, -np.inf, -np.inf, -np.inf])
    assert low["gravity"].shape == (5, 3)


def test_only_what_was_measured_is_rewarded(transfers: list[Transfer]) -> None:
    transfer = transfers[0]
    measured = measured_terms(transfer.robot)
    assert set(measured) == {
        "stand_still", "roll_pitch_rate", "level", "torque", "action_change", "posture", "abduction",
        "joint_speed", "track_turn",
    }  # fmt: skip
    robot, simulation = transfer.facts.robot, transfer.facts.simulation
    assert set(transfer.facts.unmeasured_terms) == set(simulation.terms_per_s) - set(measured)
    assert np.isfinite(list(simulation.terms_per_s.values())).all()
    for name in ("posture", "action_change", "track_turn"):
        assert robot.terms_per_s[name] == pytest.approx(simulation.terms_per_s[name], rel=0.25)
    assert np.isnan([robot.error_vx_m_s, robot.error_vy_m_s]).all()
    assert simulation.error_vx_m_s < 0.1


def test_a_robot_that_is_the_simulation_differs_by_its_counts() -> None:
    training = find_training(POLICY, QUAD12)
    env = training_env(training, 1, randomized=False)
    rollout = Resimulation(env, standing(100)).run(training.driver(1))
    nominal = simulated_trace(rollout, env.task)
    again = {name: values[:, 0].numpy() for name, values in rollout.channels.items()}
    targets, health = rollout.target_rad[:, 0].double().numpy(), np.zeros((100, 12))
    stretch = Stretch(PERIOD_S, STAMP_S, again, targets, targets, health, health + 12.0, health + 25.0)
    recomputed = recorded_trace(stretch, QUAD12, env, training.driver(1), truth_of(rollout))
    assert recomputed.answers_differ_rad == 0.0
    replayed = simulated_trace(Resimulation(env, stretch).run(training.driver(1)), env.task)
    low, high = ranges(rollout, 100)
    found = channel_figures(recomputed.trace, replayed, low, high, PERIOD_S)
    assert found["joint_pos"].rmse < 0.1 * found["joint_pos"].spread
    assert abs(found["joint_pos"].delay_ms) < 1
    assert all(figures.inside == 1.0 for figures in found.values())
    np.testing.assert_allclose(recomputed.trace.velocity, nominal.velocity[:-1], atol=0.01)
    measured = measured_terms(recomputed.trace)
    assert set(nominal.terms) - set(measured) == {"stance_slip"}
    for name in set(measured) - {"torque"}:  # this robot reports no drive
        # The recorded state is rounded to the servos' counts.
        np.testing.assert_allclose(recomputed.trace.terms[name], nominal.terms[name][:-1], atol=0.02)


STAMP_S: Floats = PERIOD_S * np.arange(100, dtype=np.float64)


def truth_of(rollout: Rollout) -> Truth:
    """What an emulator would have noted of a rollout, at the end of its steps."""

    def row(part: Callable[[VelocityStep], torch.Tensor]) -> Floats:
        return np.asarray(torch.stack([part(step)[0] for step in rollout.steps]).double().numpy())

    position = np.zeros((100, 19))
    position[:, 2] = row(lambda s: s.height_m)
    return Truth(
        stamp_s=STAMP_S + PERIOD_S,
        qpos=position,
        base_lin_vel_b=row(lambda s: s.lin_vel),
        base_ang_vel_b=row(lambda s: s.gyro),
        foot_height_m=row(lambda s: s.foot_height),
        foot_touch_n=row(lambda s: s.foot_contact),
        knee_touch_n=row(lambda s: s.knee_contact),
        trunk_touch_n=row(lambda s: s.trunk_contact[:, None]),
        joint_torque_nm=row(lambda s: s.torque),
    )


def standing(count: int) -> Stretch:
    """Commands to walk, from the default posture."""
    rest = {"joint_vel": np.zeros((count, 12)), "imu_gyro": np.zeros((count, 3))}
    pose = {
        "joint_pos": np.tile(QUAD12.default_rad, (count, 1)),
        "imu_quat": np.tile(np.eye(4)[0], (count, 1)),
    }
    command = {"velocity_command": np.tile([0.3, 0.0, 0.0], (count, 1))}
    channels = {name: values.astype(np.float32) for name, values in {**rest, **pose, **command}.items()}
    joints = np.zeros((count, 12))
    return Stretch(PERIOD_S, STAMP_S[:count], channels, joints, joints, joints, joints, joints)


def test_the_simulation_starts_as_measured_with_a_foot_on_the_ground() -> None:
    training = find_training(POLICY, QUAD12)
    model = training_env(training, 1, randomized=False).worlds.world_model(0)
    stretch = standing(1)
    stretch.channels["imu_quat"][0] = np.array([0.98, 0.1, 0.1, 0.0]) / np.linalg.norm([0.98, 0.1, 0.1])
    stretch.channels["imu_gyro"][0] = (0.1, 0.2, 0.3)
    qpos, qvel = start_state(model, stretch)
    np.testing.assert_allclose(qpos[3:7], stretch.channels["imu_quat"][0], atol=1e-6)
    np.testing.assert_allclose(qpos[7:], QUAD12.default_rad, atol=1e-6)
    np.testing.assert_allclose(qvel[3:6], (0.1, 0.2, 0.3), atol=1e-6)
    assert 0.1 < qpos[2] < 0.25


def recorded(tmp_path: Path, rig: Rig) -> Recording:
    """What a rig's run leaves behind."""
    rig.loop.run(duration_s=4.0)
    with McapRecorder(tmp_path / "run.mcap", {"robot.toml": Path(QUAD12.file).read_bytes()}) as recorder:
        for tick in rig.recorder.ticks:
            recorder.tick(tick)
    return read_recording(tmp_path / "run.mcap")


def test_the_longest_time_in_charge_is_taken_from_the_policys_reset_on(tmp_path: Path) -> None:
    steps = (*WALK[:3], Step(1.0, mode="stand"), Step(1.5, mode="policy"), Step(2.9, mode="limp"))
    recording = recorded(tmp_path, Rig(steps))
    stretch = longest_stretch(recording, QUICK)
    asked = recording.topics["/request"]
    begins = np.flatnonzero(asked["policy_reset"])[1]
    assert stretch.stamp_s[0] == asked["now_s"][begins]
    assert len(stretch.stamp_s) == pytest.approx(1.4 / PERIOD_S, abs=2)
    assert set(asked["mode"][begins : begins + len(stretch.stamp_s)]) == {"POLICY"}
    assert asked["mode"][begins + len(stretch.stamp_s)] != "POLICY"


def test_a_robot_with_a_faster_bus_is_compared_at_its_policys_steps(tmp_path: Path) -> None:
    control = dataclasses.replace(QUICK.control, bus_rate_hz=100.0)
    fast = dataclasses.replace(QUICK, control=control)
    recording = recorded(tmp_path, Rig((*WALK[:2], Step(1.8, mode="limp")), robot=fast))
    stretch = longest_stretch(recording, fast)
    np.testing.assert_allclose(np.diff(stretch.stamp_s), PERIOD_S, atol=1e-9)
    answers = recording.topics["/policy"]["joint_target_rad"]
    np.testing.assert_array_equal(stretch.answer_rad, answers[: len(stretch.answer_rad)])


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="never in charge for long enough"):
        longest_stretch(recorded(tmp_path, Rig()), QUICK)
    with pytest.raises(ConfigError, match="there is no robot"):
        find_training("fetch_reach", QUAD12)
    unfinished = tmp_path / "run"
    unfinished.mkdir()
    (unfinished / CONFIG).write_bytes(find_shipped("configs", "quad12_walk_ppo").read_bytes())
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        find_training(str(unfinished), QUAD12)
    renamed = dataclasses.replace(QUAD12, joint=QUAD12.joint[::-1])
    with pytest.raises(ConfigError, match="joint: is not that of the recording"):
        find_training(POLICY, renamed)


def test_the_command_prints_the_figures_and_leaves_a_page_that_needs_no_other_file(
    tmp_path: Path,
    transfers: list[Transfer],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def found(file: Path, against: str) -> Transfer:
        assert (file, against) == (tmp_path / "run.mcap", POLICY)
        return transfers[1]

    monkeypatch.setattr(transfer_report, "compare", found)
    assert Report(tmp_path, against=POLICY, json=True).run() == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["robot"]["error_vx_m_s"] is None
    assert printed["channels"]["joint_pos"]["delay_ms"] == transfers[1].facts.channels["joint_pos"].delay_ms
    page = (tmp_path / "transfer.html").read_text(encoding="utf-8")
    addresses = re.findall(r'(?:src|href)="([^"#]+)', page) + re.findall(r"url\(([^)#]+)\)", page)
    assert [address for address in addresses if not address.startswith("data:")] == []
    assert "<script" not in page
    assert re.findall("<h2>(.*?)</h2>", page) == [
        "Channels", "Joint angles", "Attitude", "Velocity", "Torque and temperature", "Reward",
        "Where it comes from",
    ]  # fmt: skip
    assert "the same as the recorded policy" in page
    assert "beside the same policy under" in page
    assert "cannot be computed: swing_contact, stance_contact, stance_slip" in page
