"""One line's cable: what of a packet arrives at the other end, how it looks then, and when."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from robotrl.emulator.faults import FaultScript, Noise, open_at


class Way(Enum):
    """Which way a packet goes."""

    TO_DEVICES = "to devices"
    TO_HOST = "to host"


@dataclass(frozen=True)
class Piece:
    """Bytes that have arrived at `time_s`."""

    time_s: float
    data: bytes


_NOTHING = (b"", b"")


class Cable:
    """One line's cable, with the faults of the script on it; time is an argument.

    Args:
        line: its name: a bus of robot.toml or `imu`.
        script: the faults; those of other lines are ignored.
        rng: drawn from only while a noise window or a short is open, so that a quiet line costs no numbers.
    """

    def __init__(self, line: str, script: FaultScript, rng: np.random.Generator) -> None:
        self._line = line
        self.follow(script)
        self._rng = rng
        self._pulled = False
        self._ejected = False
        self._held: dict[Way, tuple[bytes, bytes]] = dict.fromkeys(Way, _NOTHING)
        """What arrives in front of, or behind, the next packet of each direction; one packet at most."""

    def follow(self, script: FaultScript) -> None:
        """Suffer the faults of this script from now on."""
        self._cuts = tuple(c for c in script.cut if c.line == self._line)
        self._ejects = tuple(e for e in script.eject if e.line == self._line)
        self._shorts = tuple(s for s in script.short if s.line == self._line)
        self._noise = tuple(n for n in script.noise if n.line == self._line)

    def unplug(self) -> None:
        """Pull the cable until `plug`."""
        self._pulled = True

    def plug(self) -> None:
        """Put the cable back in; a scripted cut still holds."""
        self._pulled = False

    def eject(self) -> None:
        """Take the serial adapter out of the computer until `insert`."""
        self._ejected = True

    def insert(self) -> None:
        """Put the adapter back in; a scripted one still holds."""
        self._ejected = False

    def port_exists(self, time_s: float) -> bool:
        """Return whether the adapter is in the computer."""
        return not (self._ejected or open_at(self._ejects, time_s))

    def shorted(self, time_s: float) -> bool:
        """Return whether the line is shorted while the host is connected to it."""
        out = self._pulled or open_at(self._cuts, time_s) or not self.port_exists(time_s)
        return bool(open_at(self._shorts, time_s)) and not out

    def connected(self, time_s: float) -> bool:
        """Return whether bytes can pass."""
        out = self._pulled or open_at(self._cuts, time_s) or open_at(self._shorts, time_s)
        return not out and self.port_exists(time_s)

    def garbage(self, count: int) -> bytes:
        """Return so many bytes that mean nothing."""
        return self._rng.bytes(count)

    def carry(self, packet: bytes, time_s: float, way: Way) -> list[Piece]:
        """Return what arrives at the other end of a packet that would be there at `time_s`.

        Returns:
            The packet itself, or something damaged, in pieces, late, more than once, with what was held
            back before, or nothing.
        """
        if not self.connected(time_s):
            self._held[way] = _NOTHING
            return []
        pieces = [Piece(time_s, packet)]
        for noise in open_at(self._noise, time_s):
            pieces = [late for piece in pieces for late in self._disturbed(piece, noise, way)]
        return self._with_held(pieces, way)

    def _with_held(self, pieces: list[Piece], way: Way) -> list[Piece]:
        """Let what was held back arrive with the first piece, its neighbour."""
        if not pieces or self._held[way] == _NOTHING:
            return pieces
        before, after = self._held[way]
        self._held[way] = _NOTHING
        first = pieces[0]
        return [Piece(first.time_s, before + first.data + after), *pieces[1:]]

    def _disturbed(self, piece: Piece, noise: Noise, way: Way) -> list[Piece]:
        """Return what one noise makes of one piece."""
        luck = self._rng.random(2)
        if luck[0] < noise.drop:
            return []
        packet = _damaged(piece.data, self._rng) if luck[1] < noise.damage else piece.data
        packet = self._bytes_disturbed(packet, noise)
        if self._strikes(noise.truncate):
            packet = packet[: self._cut_at(packet)]
        merges, swaps = self._strikes(noise.merge), self._strikes(noise.reorder)
        if (merges or swaps) and self._held[way] == _NOTHING:
            self._held[way] = (packet, b"") if merges else (b"", packet)
            return []
        return self._timed(packet, piece.time_s, noise)

    def _timed(self, packet: bytes, time_s: float, noise: Noise) -> list[Piece]:
        """Return when and how often a packet arrives."""
        if self._strikes(noise.delay):
            time_s += noise.delay_s
        pieces = [Piece(time_s, packet)]
        if self._strikes(noise.split):
            at = self._cut_at(packet)
            pieces = [Piece(time_s, packet[:at]), Piece(time_s + noise.delay_s, packet[at:])]
        if self._strikes(noise.duplicate):
            pieces.append(Piece(pieces[-1].time_s, packet))
        return [piece for piece in pieces if piece.data]

    def _strikes(self, share: float) -> bool:
        return share > 0 and float(self._rng.random()) < share

    def _cut_at(self, packet: bytes) -> int:
        """Somewhere inside, so that a beginning and an end are left where there is room for both."""
        return int(self._rng.integers(1, max(2, len(packet))))

    def _bytes_disturbed(self, packet: bytes, noise: Noise) -> bytes:
        """Return the packet after the faults of single bytes."""
        data = np.frombuffer(packet, np.uint8).copy()
        if noise.byte_flip:
            hit = self._rng.random(data.size) < noise.byte_flip
            data[hit] ^= np.uint8(1) << self._rng.integers(0, 8, int(hit.sum()), dtype=np.uint8)
        if noise.byte_swap:
            for at in np.flatnonzero(self._rng.random(max(0, data.size - 1)) < noise.byte_swap).tolist():
                data[at : at + 2] = data[at : at + 2][::-1].copy()
        if noise.byte_drop or noise.byte_duplicate:
            copies = 1 + (self._rng.random(data.size) < noise.byte_duplicate)
            copies[self._rng.random(data.size) < noise.byte_drop] = 0
            data = np.repeat(data, copies)
        return data.tobytes()


def _damaged(packet: bytes, rng: np.random.Generator) -> bytes:
    """Flip a bit, lose a byte or gain one, each as likely, anywhere."""
    if not packet:
        return packet
    at = int(rng.integers(len(packet)))
    kind = int(rng.integers(3))
    if kind == 0:
        flipped = packet[at] ^ (1 << int(rng.integers(8)))
        return packet[:at] + bytes([flipped]) + packet[at + 1 :]
    if kind == 1:
        return packet[:at] + packet[at + 1 :]
    return packet[:at] + bytes([int(rng.integers(256))]) + packet[at:]
