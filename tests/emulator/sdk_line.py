"""The port under ROBOTIS's own SDK: emulated servos in this very process, which answer at once."""

from __future__ import annotations

from robotrl.emulator.plant import STEP_S
from tests.emulator.host import Host


class SdkLine:
    """As much of the SDK's PortHandler as its packet handler calls; every packet takes one firmware step.

    Args:
        host: the servos.
    """

    is_using = False

    def __init__(self, host: Host) -> None:
        self._host = host
        self._answer = b""

    def clearPort(self) -> None:  # noqa: N802
        """Forget what has not been read."""
        self._answer = b""

    def writePort(self, packet: list[int]) -> int:  # noqa: N802
        """Let a packet arrive at the servos."""
        self._host.live(STEP_S)
        replies = self._host.bus.receive(bytes(packet), self._host.now_s)
        self._answer += b"".join(reply.data for reply in replies)
        return len(packet)

    def readPort(self, length: int) -> bytes:  # noqa: N802
        """Hand out what the servos have sent."""
        data, self._answer = self._answer[:length], self._answer[length:]
        return data

    def setPacketTimeout(self, length: int) -> None:  # noqa: N802
        """Time stands still."""

    def isPacketTimeout(self) -> bool:  # noqa: N802
        """Only when there is nothing more to read."""
        return not self._answer
