"""Laws of finding frames, with a protocol of its own: ``A5 | SIZE | bytes | sum``."""

from __future__ import annotations

import random
from dataclasses import replace

from robotrl.bench.fuzz import scan
from robotrl.drivers.framing import FrameFinder, Framing

START = b"\xa5"


def measure(buffer: bytes | bytearray) -> int:
    if len(buffer) < 2:
        return 2
    return 0 if buffer[1] > 40 else 3 + buffer[1]


def intact(frame: bytes) -> bool:
    return sum(frame[:-1]) & 0xFF == frame[-1]


FRAMING = Framing(START, measure, intact)


def framed(payload: bytes) -> bytes:
    body = START + bytes((len(payload),)) + payload
    return body + bytes((sum(body) & 0xFF,))


def test_any_cutting_finds_what_a_scan_of_the_whole_finds() -> None:
    rng = random.Random(1)
    for _ in range(300):
        data = b"".join(
            rng.choice((framed(rng.randbytes(rng.randrange(9))), START + rng.randbytes(3), rng.randbytes(5)))
            for _ in range(6)
        )
        finder, found = FrameFinder(FRAMING), []
        for at in range(0, len(data), step := rng.randrange(1, 12)):
            found += finder.feed(data[at : at + step])
        assert found + finder.flush() == [data[start:end] for start, end in scan(FRAMING, data)]


def test_flush_finds_what_waits_behind_a_size_that_was_not_sent() -> None:
    finder = FrameFinder(FRAMING)
    hidden = framed(b"abc")
    assert finder.feed(START + b"\x28" + hidden) == []
    assert finder.flush() == [hidden]
    assert finder.feed(hidden) == [hidden]


def test_an_intact_frame_refutes_an_incomplete_one_around_it_where_checksums_are_conclusive() -> None:
    finder, hidden = FrameFinder(replace(FRAMING, conclusive=True)), framed(b"abc")
    assert finder.feed(START + b"\x28" + hidden[:-1]) == []
    assert finder.feed(hidden[-1:]) == [hidden]
    assert finder.feed(hidden + START + b"\x28" + START + hidden) == [hidden, hidden]


def test_a_frame_that_comes_in_parts_is_waited_for_also_where_checksums_are_conclusive() -> None:
    finder, whole = FrameFinder(replace(FRAMING, conclusive=True)), framed(START + b"\x03ab" + START)
    assert [finder.feed(bytes((byte,))) for byte in whole] == [[]] * (len(whole) - 1) + [[whole]]


def test_no_more_is_kept_than_the_longest_frame_has() -> None:
    finder = FrameFinder(FRAMING)
    for _ in range(50):
        finder.feed(START + b"\x28" + bytes(30))
        assert len(finder._buffer) <= 43
    for _ in range(50):
        finder.feed(bytes(100))
        assert len(finder._buffer) == 0 or finder._buffer.startswith(START)


def test_reset_forgets_a_started_frame() -> None:
    finder = FrameFinder(FRAMING)
    finder.feed(framed(b"abc")[:4])
    finder.reset()
    assert finder.feed(framed(b"xy")) == [framed(b"xy")]
