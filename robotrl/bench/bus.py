"""What a tick of bus traffic costs in software: encoding the goals, decoding what the servos measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import numpy as np

from robotrl.drivers import dynamixel as dxl
from robotrl.drivers import feetech as ft
from robotrl.drivers import sts
from robotrl.drivers import xseries as x
from robotrl.drivers.dynamixel_group import decode_fast_sync_reply, decode_sync_reply
from robotrl.drivers.registers import Block, Bytes2D, Floats

SERVOS = tuple(range(11, 23))
ROUNDS, TICKS = 200, 20
"""Each round times so many ticks of every kind in turn; the kinds alternate."""

Tick = Callable[[], Floats]
"""Encodes goals and the request, decodes the answer: (servos, registers) SI values."""


def codec_us() -> float:
    """Measure one tick of twelve servos: write request, read request, answer to SI values.

    Returns:
        Median CPU time of a tick in microseconds, of the slowest kind in `codec_medians_us`.
    """
    return max(codec_medians_us().values())


def codec_medians_us(rounds: int = ROUNDS) -> Mapping[str, float]:
    """Measure `codec_us` for each kind of bus: XC430 by fast and plain sync read, STS3215.

    CPU time of this process, so that other work on the machine counts little.
    """
    kinds = ticks()
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, tick in kinds.items():
            started = time.process_time_ns()
            for _ in range(TICKS):
                tick()
            times[name].append((time.process_time_ns() - started) / TICKS / 1e3)
    return {name: statistics.median(of) for name, of in times.items()}


def ticks() -> dict[str, Tick]:
    """Return one tick of each kind of bus; what it decodes is 0, 1, 2 ... by rows of bytes, modulo 253."""
    return {"dynamixel_fast": _dynamixel(fast=True), "dynamixel": _dynamixel(fast=False), "sts": _sts()}


def _dynamixel(*, fast: bool) -> Tick:
    """A tick as `drivers.servos` has it: Goal Position, then registers 126 to 146."""
    goal = Block((x.GOAL_POSITION,))
    measured = Block(
        (
            x.PRESENT_LOAD,
            x.PRESENT_VELOCITY,
            x.PRESENT_POSITION,
            x.PRESENT_INPUT_VOLTAGE,
            x.PRESENT_TEMPERATURE,
        )
    )
    values = _values(measured)
    replies = [dxl.StatusPacket(id_, 0, row.tobytes()) for id_, row in zip(SERVOS, values, strict=True)]
    answer = dxl.encode_fast_reply(replies) if fast else b"".join(reply.encode() for reply in replies)
    decode = decode_fast_sync_reply if fast else decode_sync_reply
    goals = np.linspace(100, 4000, len(SERVOS)).astype(np.int64)[:, np.newaxis]

    def tick() -> Floats:
        dxl.sync_write(goal.address, SERVOS, goal.encode(goals))
        dxl.sync_read(measured.address, measured.size, SERVOS, fast=fast)
        return measured.decode(decode(answer, SERVOS, measured.size).data) * measured.scale

    return tick


def _sts() -> Tick:
    """A tick of STS servos: Goal Position, then registers 56 to 70."""
    goal = Block((sts.GOAL_POSITION,))
    measured = Block(
        (
            sts.PRESENT_POSITION,
            sts.PRESENT_VELOCITY,
            sts.PRESENT_LOAD,
            sts.PRESENT_VOLTAGE,
            sts.PRESENT_TEMPERATURE,
            sts.STATUS,
            sts.PRESENT_CURRENT,
        )
    )
    values = _values(measured)
    answer = b"".join(
        ft.StatusPacket(id_, 0, row.tobytes()).encode() for id_, row in zip(SERVOS, values, strict=True)
    )
    goals = np.linspace(100, 4000, len(SERVOS)).astype(np.int64)[:, np.newaxis]

    def tick() -> Floats:
        ft.sync_write(goal.address, SERVOS, goal.encode(goals))
        ft.sync_read(measured.address, measured.size, SERVOS)
        replies = ft.decode_sync_reply(answer, SERVOS, measured.size)
        return measured.decode(replies.data) * measured.scale

    return tick


def _values(block: Block) -> Bytes2D:
    """(servos, bytes) of an answer without 0xFF, so that no packet needs stuffing."""
    return np.arange(len(SERVOS) * block.size, dtype=np.uint8).reshape(len(SERVOS), block.size) % 0xFD
