"""What the loop tells the page's process: datagrams of numbers in an order that both sides know.

Standard library only, so that the process starts light. A datagram begins with its kind: `FRAME`, then
float64 numbers as `layout` orders them, then words as JSON; or `EVENT`, then JSON.
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Mapping
from typing import Any

FRAME, EVENT = b"F", b"E"
"""Kinds of datagrams."""

Subject = Mapping[str, Any]
"""What does not change during a run, in plain JSON values: see `robotrl.runtime.dashboard.encode`."""

_SINGLE = ("now_s", "tick", "work_s", "late_s", "overruns", "skipped", "dropped", "imu_age_s")
_JOINT = ("joint_pos_rad", "joint_target_rad", "joint_age_s", "joint_load", "temperature_c", "voltage_v")


def layout(subject: Subject) -> dict[str, slice]:
    """Return where each field lies among a frame's numbers."""
    widths = dict.fromkeys(_SINGLE, 1) | {"phases_s": len(subject["phases"]), "imu_quat": 4}
    widths |= dict.fromkeys(_JOINT, len(subject["joints"]))
    widths |= {name: len(limits["low"]) for name, limits in subject["commands"].items()}
    places, start = {}, 0
    for name, width in widths.items():
        places[name] = slice(start, start + width)
        start += width
    return places


def decode_frame(places: Mapping[str, slice], datagram: bytes) -> dict[str, Any]:
    """Return a frame's fields and words as JSON values; what is no finite number is None.

    Args:
        places: as `layout` returned them.
        datagram: of kind `FRAME`.
    """
    end = 1 + 8 * max(place.stop for place in places.values())
    numbers = [number if math.isfinite(number) else None for number in array("d", datagram[1:end])]
    fields: dict[str, Any] = {name: numbers[place] for name, place in places.items()}
    fields |= {name: fields[name][0] for name in _SINGLE}
    return {**fields, **json.loads(datagram[end:])}
