"""The servo buses of a robot: what robot.toml says of each, and what the protocols allow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal, Protocol

from robotrl.spec.records import Between

ServoProtocol = Literal["dynamixel2", "feetech_sts", "feetech_scs"]
"""DYNAMIXEL Protocol 2.0 of the X series; Feetech's FT-SCS of STS and of SCS servos."""


@dataclass(frozen=True)
class BusSpec:
    """One half-duplex servo bus behind a serial port; all its servos speak one protocol."""

    protocol: ServoProtocol
    port: str
    baud_bd: Literal[57600, 115200, 128000, 250000, 500000, 1000000, 2000000, 3000000, 4000000]
    fast_sync_read: bool
    """One reply frame for all servos instead of one each; Dynamixel only."""
    reply_timeout_s: Annotated[float, Between(0.001, 0.1)]
    """How long one read waits for its replies beyond their time on the wire."""
    retries_per_tick: Annotated[int, Between(0, 3)]
    watchdog_s: Annotated[float, Between(0.02, 2.54)]
    """The servos are stopped after this long without an instruction: by their own watchdog if they have one,
    and by the guardian process of `robotrl run`, which turns their torque off."""
    watchdog: Literal["servo", "guardian"] = "servo"
    """Who stops them: they themselves, by their Bus Watchdog (98), or a guardian process on the host that
    turns their torque off. Feetech servos have no watchdog: without a guardian they hold their last goal
    for ever after the host has died, so robot.toml has to say `guardian`."""


BAUD_RATES: Mapping[ServoProtocol, tuple[int, ...]] = MappingProxyType(
    {
        "dynamixel2": (57600, 115200, 1000000, 2000000, 3000000, 4000000),
        "feetech_sts": (1000000, 500000, 250000, 128000, 115200),
        "feetech_scs": (1000000, 500000, 250000, 128000, 115200),
    }
)
"""Those of each protocol; Feetech's in order of their code in Baud Rate (6), without the slower ones, whose
codes its own documents give differently."""

_HIGHEST_P_GAIN: Mapping[ServoProtocol, int] = MappingProxyType(
    {"dynamixel2": 16383, "feetech_sts": 254, "feetech_scs": 254}
)
_HIGHEST_DRIVE: Mapping[ServoProtocol, int] = MappingProxyType(
    {"dynamixel2": 32767, "feetech_sts": 1000, "feetech_scs": 1000}
)
_HAS_WATCHDOG: Mapping[ServoProtocol, bool] = MappingProxyType(
    {"dynamixel2": True, "feetech_sts": False, "feetech_scs": False}
)


class Refuse(Protocol):
    """Raises a `ConfigError` of the file being read."""

    def __call__(self, key: str, problem: str, value: object, allowed: str | Iterable[object], /) -> None:
        """Say what is wrong with a key's value, and what would be accepted."""


def check_bus(name: str, bus: BusSpec, tick_s: float, refuse: Refuse) -> None:
    """Refuse what the bus's protocol or the control period, `tick_s`, does not allow."""
    key = f"bus.{name}"
    rates = BAUD_RATES[bus.protocol]
    if bus.baud_bd not in rates:
        refuse(f"{key}.baud_bd", f"is no baud rate of {bus.protocol}", bus.baud_bd, sorted(rates))
    if bus.fast_sync_read and bus.protocol != "dynamixel2":
        refuse(f"{key}.fast_sync_read", f"does not exist in {bus.protocol}", True, "false")
    if bus.watchdog == "servo" and not _HAS_WATCHDOG[bus.protocol]:
        refuse(
            f"{key}.watchdog",
            f"servos of {bus.protocol} have none; a guardian process must turn their torque off when the "
            "control loop stalls",
            bus.watchdog,
            "guardian",
        )
    if bus.watchdog_s < 2 * tick_s:
        refuse(
            f"{key}.watchdog_s",
            "is shorter than two control periods",
            bus.watchdog_s,
            f"{2 * tick_s} or more",
        )
    tries, patience_s = 1 + bus.retries_per_tick, bus.watchdog_s - tick_s
    if tries * bus.reply_timeout_s > patience_s:
        refuse(
            f"{key}.reply_timeout_s",
            f"lets one silent servo take {tries * bus.reply_timeout_s:.6g} s of a tick: the watchdog stops "
            "all the others",
            bus.reply_timeout_s,
            f"up to {patience_s / tries:.6g} with {bus.retries_per_tick} retries_per_tick",
        )


def check_gains(name: str, protocol: ServoProtocol, p_gain: int, pwm_full: int, refuse: Refuse) -> None:
    """Refuse what the registers of the protocol's servos cannot hold."""
    for key, value, highest in (
        ("position_p_gain", p_gain, _HIGHEST_P_GAIN[protocol]),
        ("pwm_full", pwm_full, _HIGHEST_DRIVE[protocol]),
    ):
        if value > highest:
            refuse(f"servo.{name}.{key}", f"is above what {protocol} can hold", value, f"1 to {highest}")
