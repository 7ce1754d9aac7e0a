"""Laws of the emulated arm: it lives as FetchReach does, obeys its protocol, and keeps its clock."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from robotrl.drivers.arm import Kind, PacketParser, encode
from robotrl.emulator.arm import ArmMachine, Controller
from robotrl.emulator.arm_process import BusClock
from robotrl.emulator.fetch import FetchWorld
from robotrl.errors import SimulationError
from robotrl.spec.fetch import SUBSTEPS
from tests.fetch_arm import fetch_arm, reach_env

ARM = fetch_arm()
TICK_S = 0.04


@pytest.fixture
def world() -> FetchWorld:
    return FetchWorld(ARM.model_file)


def live(world: FetchWorld, ticks: int = 1) -> None:
    for _ in range(ticks * SUBSTEPS):
        world.step()


def test_moved_alike_it_goes_where_the_task_goes(world: FetchWorld) -> None:
    """Positions, velocities and what is observed, over an episode of random actions."""
    env = reach_env(1, seed=0)
    world.place(env.worlds.qpos[0].numpy(), env.worlds.qvel[0].numpy())
    rng, dt = np.random.default_rng(0), TICK_S
    for _ in range(49):
        action = torch.from_numpy(rng.uniform(-1, 1, (1, 4)).astype(np.float32))
        env.step(action)
        world.move((action[0, :3] * 0.05).double().numpy())
        live(world)
        np.testing.assert_allclose(world.data.qpos, env.worlds.qpos[0], rtol=0, atol=1e-9)
        np.testing.assert_allclose(world.data.qvel, env.worlds.qvel[0], rtol=0, atol=1e-9)
        position, velocity, finger_pos, finger_vel = np.split(world.measured(), (3, 6, 8))
        told = np.concatenate((position, finger_pos, velocity * dt, finger_vel * dt))
        np.testing.assert_allclose(told.astype(np.float32), env.observation[0, :10], rtol=0, atol=1e-7)


def test_it_starts_where_episodes_do(world: FetchWorld) -> None:
    env = reach_env(1, seed=0)
    np.testing.assert_allclose(world.data.qpos, env.worlds.qpos[0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(world.measured()[:3], env.observation[0, :3], atol=1e-6)


def test_a_world_that_diverges_ends_the_emulation(world: FetchWorld) -> None:
    world.data.qvel[:] = np.nan
    with pytest.raises(SimulationError, match="the emulated arm diverged at"):
        live(world)


def test_a_read_is_answered_with_its_number_and_the_truth(world: FetchWorld) -> None:
    live(world)
    [answer] = Controller(world).receive(encode(Kind.READ, 77))
    [packet] = PacketParser().feed(answer)
    assert (packet.kind, packet.sequence) == (Kind.STATE, 77)
    np.testing.assert_array_equal(packet.values, world.measured().astype(np.float32))


def test_a_move_counts_from_where_the_gripper_is_and_once(world: FetchWorld) -> None:
    controller = Controller(world)
    live(world, 5)
    before = world.data.xpos[world.model.body("robot0:gripper_link").id].copy()
    assert controller.receive(encode(Kind.MOVE, 0, np.array([0.05, 0.0, -0.05, 0.0]))) == []
    np.testing.assert_allclose(world.data.mocap_pos[0] - before, [0.05, 0.0, -0.05], atol=1e-7)
    live(world, 40)
    after = world.data.xpos[world.model.body("robot0:gripper_link").id]
    np.testing.assert_allclose(after - before, [0.05, 0.0, -0.05], atol=0.01)
    assert np.abs(world.measured()[3:6]).max() < 0.01


def test_a_stop_holds_where_the_gripper_is_and_does_not_let_it_creep(world: FetchWorld) -> None:
    controller = Controller(world)
    controller.receive(encode(Kind.MOVE, 0, np.array([0.05, 0.0, 0.0, 0.0])))
    live(world, 1)
    controller.receive(encode(Kind.STOP, 1))
    held = world.data.mocap_pos.copy()
    np.testing.assert_array_equal(held[0], world.data.xpos[world.model.body("robot0:gripper_link").id])
    for _ in range(5):
        live(world, 1)
        controller.receive(encode(Kind.STOP, 2))
        np.testing.assert_array_equal(world.data.mocap_pos, held)


@pytest.mark.parametrize(
    "damage",
    [
        lambda packet: packet[:-1] + bytes([packet[-1] ^ 1]),
        lambda packet: packet[:9],
        lambda _: encode(Kind.MOVE, 0, np.array([np.nan, 0.0, 0.0, 0.0])),
        lambda _: encode(Kind.STATE, 0, np.zeros(10)),
    ],
    ids=["damaged", "cut short", "no number", "not a host's"],
)
def test_what_is_no_command_moves_nothing(world: FetchWorld, damage: Callable[[bytes], bytes]) -> None:
    controller, before = Controller(world), world.data.mocap_pos.copy()
    packet = encode(Kind.MOVE, 0, np.full(4, 0.05))
    assert controller.receive(damage(packet)) == []
    np.testing.assert_array_equal(world.data.mocap_pos, before)
    assert controller.receive(bytes(60) + encode(Kind.READ, 3)) != []


def test_reads_begin_ticks_and_a_command_counts_in_the_one_that_it_is_of() -> None:
    """Twenty physics steps lie between two reads, and all of them see the command between."""
    machine = ArmMachine(ARM)
    clock = BusClock(machine)
    steps = []
    machine.world.step = lambda: steps.append(clock.now_s())  # type: ignore[method-assign]
    for k in range(1, 6):
        clock.host_sent(encode(Kind.READ, k))
        assert len(steps) == SUBSTEPS * k
        clock.host_sent(encode(Kind.MOVE, k, np.zeros(4)))
        assert len(steps) == SUBSTEPS * k
        assert k * TICK_S < clock.now_s() < k * TICK_S + 0.002
    assert len(clock.advance()) == 5 * 46
    assert clock.advance() == b""


def test_without_its_cable_the_arm_hears_and_says_nothing_while_ticks_go_on() -> None:
    machine = ArmMachine(ARM)
    clock = BusClock(machine)
    machine.cable.unplug()
    before = machine.world.data.mocap_pos.copy()
    for k in range(3):
        clock.host_sent(encode(Kind.READ, k))
        clock.host_sent(encode(Kind.MOVE, k, np.full(4, 0.05)))
    assert clock.advance() == b""
    assert clock.now_s() > 3 * TICK_S
    np.testing.assert_array_equal(machine.world.data.mocap_pos, before)
    machine.cable.plug()
    clock.host_sent(encode(Kind.READ, 9))
    assert [p.sequence for p in PacketParser().feed(clock.advance())] == [9]
