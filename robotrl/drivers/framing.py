"""Finds the frames of a serial protocol in a stream of bytes, whatever surrounds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Framing:
    """How the frames of one protocol are told from other bytes.

    Attributes:
        start: what every frame begins with.
        measure: given bytes that begin with `start`: how many the frame has in all; while that is not
            known yet, a number larger than those given; 0 when no frame begins so.
        intact: whether the checksum of a whole frame is right.
        conclusive: whether chance does not pass that checksum: an intact frame behind the start of one that
            is still incomplete then shows that the latter's size is damaged, and nobody waits for the rest.
    """

    start: bytes
    measure: Callable[[bytes | bytearray], int]
    intact: Callable[[bytes], bool]
    conclusive: bool = False


class FrameFinder:
    """Turns a stream into intact frames, in order and without overlap.

    Noise, echoes, broken frames and frames inside broken frames are dealt with the same way: a
    candidate whose size or checksum is wrong costs one byte, and the search goes on after it. So every
    intact frame is found, unless it begins inside other bytes that pass for one. Every turn of a loop
    here drops at least one byte or ends it: no bytes can make it hang, and no more are kept than
    the longest frame has.
    """

    def __init__(self, framing: Framing) -> None:
        self._framing = framing
        self._buffer = bytearray()

    def reset(self) -> None:
        """Forget a started frame, as a device does when the line has been idle."""
        self._buffer.clear()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the frames completed by `data`."""
        self._buffer += data
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def flush(self) -> list[bytes]:
        """Return the frames behind candidates that stay incomplete, as nothing more is coming.

        A damaged length may announce bytes that nobody sent; frames behind it would wait for them.
        """
        frames = []
        while self._buffer:
            del self._buffer[0]
            frames += self.feed(b"")
        return frames

    def _next(self) -> bytes | None:
        """Cut the next intact frame off the buffer; None when more bytes are needed."""
        buffer, framing = self._buffer, self._framing
        while (at := buffer.find(framing.start)) >= 0:
            del buffer[:at]
            size = framing.measure(buffer)
            if size > len(buffer):
                if not (behind := self._whole_behind()):
                    return None
                del buffer[:behind]
                continue
            if size and framing.intact(frame := bytes(buffer[:size])):
                del buffer[:size]
                return frame
            del buffer[0]
        del buffer[: max(0, len(buffer) - len(framing.start) + 1)]  # may end in the start of a frame
        return None

    def _whole_behind(self) -> int:
        """Where an intact frame begins behind an incomplete one that it refutes; 0 if there is none."""
        buffer, framing, at = self._buffer, self._framing, 0
        while framing.conclusive and (at := buffer.find(framing.start, at + 1)) > 0:
            size = framing.measure(buffer[at:])
            if 0 < size <= len(buffer) - at and framing.intact(bytes(buffer[at : at + size])):
                return at
        return 0
