"""Every parser under 20,000 random and damaged streams, and that the fuzzer sees broken parsers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest

from robotrl.bench import fuzz as fuzzer
from robotrl.bench.fuzz import SUBJECTS, Subject, fuzz
from robotrl.drivers.framing import FrameFinder
from robotrl.errors import VerificationError

STREAMS = 20_000


def silent(_line: object) -> None:
    """Tell nobody."""


def records(figures: Mapping[str, object]) -> list[dict[str, float]]:
    found = figures["protocols"]
    assert isinstance(found, list)
    return found


def test_no_parser_fails_hangs_or_loses_an_intact_packet() -> None:
    figures = fuzz(STREAMS, 2026, silent)
    assert figures["streams"] == STREAMS
    for record in records(figures):
        assert record["streams"] >= STREAMS // len(SUBJECTS)
        assert record["frames"] > record["streams"]
        assert record["hidden"] <= record["intact"] / 100  # 8-bit checksums take some noise for packets


def test_a_stream_is_drawn_from_its_own_seed() -> None:
    once, twice = fuzz(70, 5, silent), fuzz(70, 5, silent)
    assert records(once) == records(twice)
    assert records(once) != records(fuzz(70, 6, silent))


def test_progress_is_told() -> None:
    lines: list[str] = []
    fuzz(40, 1, lines.append)
    assert lines[-1] == "40 of 40 streams"


class Forgetful(FrameFinder):
    """Drops everything it holds whenever a candidate is incomplete."""

    def feed(self, data: bytes) -> list[bytes]:
        """Find, then forget."""
        frames = super().feed(data)
        self.reset()
        return frames


def test_a_parser_that_forgets_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzzer, "FrameFinder", Forgetful)
    with pytest.raises(VerificationError, match=r"stream of seed \d+: the parser does not find"):
        fuzz(200, 1, silent)


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda s: s.name)
def test_a_checksum_that_refuses_an_intact_packet_is_caught(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = dataclasses.replace(
        subject.framing, intact=lambda frame: frame[-1] != 0x5A and subject.framing.intact(frame)
    )
    monkeypatch.setattr(fuzzer, "SUBJECTS", (dataclasses.replace(subject, framing=broken),))
    with pytest.raises(VerificationError, match="is lost"):
        fuzz(2000, 1, silent)
