"""A port that only records, for driving the manufacturers' own SDKs."""

from __future__ import annotations


class RecordingPort:
    """As much of an SDK's PortHandler as its packet handler calls."""

    is_using = False

    def __init__(self, reply: bytes = b"") -> None:
        self.sent = b""
        self._reply = reply

    def clearPort(self) -> None:  # noqa: N802
        """Nothing is pending."""

    def writePort(self, packet: list[int]) -> int:  # noqa: N802
        """Keep the bytes."""
        self.sent += bytes(packet)
        return len(packet)

    def readPort(self, length: int) -> bytes:  # noqa: N802
        """Hand out the prepared reply."""
        data, self._reply = self._reply[:length], self._reply[length:]
        return data

    def setPacketTimeout(self, length: int) -> None:  # noqa: N802
        """Time stands still."""

    def isPacketTimeout(self) -> bool:  # noqa: N802
        """Only when there is nothing more to read."""
        return not self._reply
