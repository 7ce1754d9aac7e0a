"""Laws of what a recorder may cost: parts of the recording, but never the loop and never more memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from robotrl.runtime import recorder, recording
from robotrl.runtime.recorder import McapRecorder, Recorders
from robotrl.runtime.recording import read_recording
from robotrl.runtime.tally import Tick
from tests.runtime.fakes import Rig
from tests.runtime.test_recorder import flight, written


def test_the_loop_only_queues_and_the_recorders_thread_converts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = set()

    def messages_of(tick: Tick) -> list[tuple[str, dict[str, Any]]]:
        threads.add(threading.current_thread().name)
        return recording.messages_of(tick)

    monkeypatch.setattr(recorder, "messages_of", messages_of)
    written(tmp_path / "run.mcap")
    assert threads == {"recorder"}


def test_a_full_disk_stops_the_recording_and_not_the_loop() -> None:
    with Recorders() as recorders:
        recorders.add(McapRecorder(Path("/dev/full"), {}))
        rig = Rig(recorder=recorders)
        report = rig.loop.run()
    assert rig.body.ended_limp
    given = report.ticks + len(report.events)
    assert recorders.notes == [
        f"/dev/full: {given} of {given} ticks and events are not in the recording: No space left on device"
    ]


FULL = """
import resource, sys
from pathlib import Path
from robotrl.runtime.recorder import McapRecorder
from tests.runtime.fakes import Rig

recorder = McapRecorder(Path(sys.argv[1]), {})
resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))
rig = Rig(recorder=recorder)
report = rig.loop.run()
print(report.ticks, len(report.events), rig.body.ended_limp, *recorder.close(), sep="|")
"""


def test_a_disk_that_fills_up_in_mid_flight_keeps_what_it_had(tmp_path: Path) -> None:
    file = tmp_path / "run.mcap"
    child = subprocess.run(
        [sys.executable, "-c", FULL, str(file)], capture_output=True, text=True, check=True
    )
    ticks, events, ended_limp, note = child.stdout.strip().split("|")
    assert ended_limp == "True"
    found = read_recording(file)
    assert not found.complete
    assert found.ticks < int(ticks)
    given = int(ticks) + int(events)
    assert re.search(rf"(\d+) of {given} ticks and events are not in the recording: File too large$", note)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_thread_costs_the_recording_and_not_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks, _ = flight()
    monkeypatch.setattr(recorder, "messages_of", lambda tick: 1 / 0)
    dying = McapRecorder(tmp_path / "run.mcap", {})
    dying.tick(ticks[0])
    dying._thread.join()
    for tick in ticks[1:]:
        dying.tick(tick)
    assert dying._waiting.qsize() == 0
    [note] = dying.close()
    count = len(ticks)
    assert note.endswith(f"{count} of {count} ticks and events are not in the recording: its thread died")


def test_a_disk_that_is_too_slow_costs_ticks_and_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks, _ = flight()
    slow, asked, most = threading.Event(), threading.Event(), 10

    def fsync(descriptor: int) -> None:
        asked.set()
        slow.wait()

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(recorder, "MOST_WAITING", most)
    file = tmp_path / "run.mcap"
    slowed = McapRecorder(file, {})
    asked.wait()
    for tick in ticks[:50]:
        slowed.tick(tick)
    assert slowed._waiting.qsize() == most
    slow.set()
    while slowed._waiting.qsize():
        time.sleep(0.001)
    slowed.tick(ticks[50])
    [note] = slowed.close()
    assert note.endswith("40 of 51 ticks and events are not in the recording: the disk was too slow")
    found = read_recording(file)
    assert found.topics["/timing"]["tick"].tolist() == [*range(most), 50]
    assert (found.ticks, found.missing, found.complete) == (most + 1, 40, True)


def test_several_recorders_get_the_same_and_each_tells_what_it_lost(tmp_path: Path) -> None:
    ticks, events = flight()
    with Recorders() as recorders:
        for name in ("a.mcap", "b.mcap"):
            recorders.add(McapRecorder(tmp_path / name, {}))
        recorders.add(McapRecorder(Path("/dev/full"), {}))
        recorders.event(events[0])
        for tick in ticks:
            recorders.tick(tick)
    found = [read_recording(tmp_path / name) for name in ("a.mcap", "b.mcap")]
    assert [r.ticks for r in found] == [len(ticks)] * 2
    assert [r.events for r in found] == [events[:1]] * 2
    assert [note.partition(":")[0] for note in recorders.notes] == ["/dev/full"]
