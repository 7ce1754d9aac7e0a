"""The loop of `robotrl.bench.stall`, with servos that may take their time to answer the handshake."""

from __future__ import annotations

from unittest.mock import patch

from robotrl.bench import stall
from robotrl.drivers import dynamixel_bus, feetech_bus, servo_bus

PATIENCE_S = 60.0

if __name__ == "__main__":
    for module in (servo_bus, dynamixel_bus, feetech_bus):
        patch.object(module, "PATIENCE_S", PATIENCE_S).start()
    stall.main()
