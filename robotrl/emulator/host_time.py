"""The host's clock since an emulator started."""

from __future__ import annotations

import time


class HostTime:
    """Emulated time that is `time.monotonic`.

    Attributes:
        origin_s: what `time.monotonic` was at the start.
    """

    def __init__(self) -> None:
        self.origin_s = time.monotonic()

    def now_s(self) -> float:
        """Seconds since start."""
        return time.monotonic() - self.origin_s
