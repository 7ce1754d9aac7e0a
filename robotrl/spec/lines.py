"""Serial lines: every device has a port of its own, and none sends more than its line carries."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from robotrl.spec.buses import Refuse

IMU_SAMPLE_BYTES: Mapping[str, int] = MappingProxyType({"wt901": 33, "bno08x": 19, "vn100": 46, "gx5": 34})
"""What a sample of each model has on the wire, as its driver configures it."""
ESTIMATE_OVERHEAD_BYTES, ESTIMATE_VALUE_BYTES = 6, 4
"""What a packet of the estimator has, and each value in it."""

_BITS_PER_BYTE = 10
"""8N1."""


def check_ports(ports: Mapping[str, str], refuse: Refuse) -> None:
    """Refuse a port that two devices would share, by `ports`: key of the table of each -> its port."""
    owners: dict[str, str] = {}
    for key, port in ports.items():
        if port in owners:
            refuse(f"{key}.port", f"is the port of {owners[port]} already", port, "a port of its own")
        owners[port] = key


def check_stream(key: str, rate_hz: int, packet_bytes: int, baud_bd: int, refuse: Refuse) -> None:
    """Refuse a rate at which a device would send more than its line carries."""
    most_hz = baud_bd / (_BITS_PER_BYTE * packet_bytes)
    if rate_hz > most_hz:
        refuse(
            f"{key}.rate_hz",
            f"is more than {baud_bd} baud carry at {packet_bytes} bytes a time",
            rate_hz,
            f"up to {int(most_hz)}",
        )
