"""The flight recorder: its own thread writes MCAP, so that the loop never waits for a disk."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Protocol

from mcap.writer import CompressionType, Writer

from robotrl.errors import RecordingError
from robotrl.runtime.parts import Recorder
from robotrl.runtime.recording import (
    EVENT_FIELDS,
    EVENT_TOPIC,
    POLICY_FIELDS,
    POLICY_TOPIC,
    PROFILE,
    SCHEMA,
    SCHEMA_KEY,
    TICK_TOPICS,
    json_schema,
    messages_of,
    to_json,
)
from robotrl.runtime.tally import Happening, Tick

FLUSH_S = 0.2
"""After a crash or a power cut at most about this much of the flight is missing."""
MOST_WAITING = 4096
"""Ticks and events that wait for the disk, about 12 MB; more are dropped and counted."""
CLOSE_S = 10.0
"""How long the end of the file may take."""

_MEDIA_TYPES = {".json": "application/json", ".toml": "application/toml"}


class ClosingRecorder(Recorder, Protocol):
    """A recorder that neither raises nor waits, and that tells at the end what it could not do."""

    def close(self) -> list[str]:
        """Let go of everything; return a sentence for each thing that went wrong."""
        ...


class McapRecorder:
    """Writes one file. Use as a context manager, around the loop.

    Whatever happens to disk or thread costs the recording and never the loop; `close` says what is missing.
    A file that it has created goes again when nothing was given: a start that fails stands in no other's way.
    """

    def __init__(self, file: Path, attachments: Mapping[str, bytes]) -> None:
        """Create the file.

        Args:
            file: where to write.
            attachments: name -> content, written first.

        Raises:
            RecordingError: the file cannot be created, or exists: it may be all that is left of a crash.
        """
        self._file = file
        self._created = False
        self._given = self._kept = 0
        self._problem = ""
        self._waiting: queue.SimpleQueue[Tick | Happening | None] = queue.SimpleQueue()
        try:
            stream = self._open()
        except OSError as error:
            raise RecordingError(f"cannot be written ({error.strerror})", file=file) from error
        arguments = (stream, dict(attachments))
        self._thread = threading.Thread(target=self._write, args=arguments, name="recorder", daemon=True)
        self._thread.start()

    def tick(self, tick: Tick) -> None:
        """Queue one tick."""
        self._put(tick)

    def event(self, happening: Happening) -> None:
        """Queue one event."""
        self._put(happening)

    def close(self) -> list[str]:
        """Write what is queued and end the file; return a sentence if something is missing."""
        self._waiting.put(None)
        self._thread.join(CLOSE_S)
        if self._created and not self._given:
            with contextlib.suppress(OSError):
                self._file.unlink()
        if self._given == self._kept and not self._problem:
            return []
        why = self._problem or ("it is still being written" if self._thread.is_alive() else "its thread died")
        missing = f"{self._given - self._kept} of {self._given} ticks and events are not in the recording"
        return [f"{self._file}: {missing}: {why}"]

    def __enter__(self) -> McapRecorder:
        """Return the recorder."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the file."""
        self.close()

    def _open(self) -> BinaryIO:
        """Create the file, or open what is there and is no file, such as a pipe."""
        try:
            stream = self._file.open("xb")
        except FileExistsError as error:
            if self._file.is_file():
                raise RecordingError(
                    "exists already; nothing is recorded over it", file=self._file
                ) from error
            return self._file.open("wb")
        self._created = True
        return stream

    def _put(self, item: Tick | Happening) -> None:
        self._given += 1
        if not self._thread.is_alive():
            return
        if self._waiting.qsize() < MOST_WAITING:
            self._waiting.put(item)
        else:
            self._problem = "the disk was too slow"

    def _write(self, stream: BinaryIO, attachments: Mapping[str, bytes]) -> None:
        try:
            with stream:
                self._write_items(stream, attachments)
        except OSError as error:
            self._problem = error.strerror or str(error)

    def _write_items(self, stream: BinaryIO, attachments: Mapping[str, bytes]) -> None:
        writer = Writer(stream, compression=CompressionType.LZ4)
        channels = _begin(writer, attachments)
        taken, flushed_s = 0, 0.0
        while True:
            if time.monotonic() - flushed_s >= FLUSH_S:
                writer.flush()  # type: ignore[no-untyped-call]  # mcap annotates all but these two
                os.fsync(stream.fileno())
                self._kept, flushed_s = taken, time.monotonic()
            try:
                item = self._waiting.get(timeout=FLUSH_S)
            except queue.Empty:
                continue
            if item is None:
                writer.finish()  # type: ignore[no-untyped-call]
                stream.flush()
                self._kept = taken
                return
            _add(writer, channels, item)
            taken += 1


class Recorders:
    """Several recorders as one. Use as a context manager, around the loop.

    Attributes:
        notes: from the end on, a sentence for each thing that a part could not keep or show.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._parts: list[ClosingRecorder] = []

    def add(self, part: ClosingRecorder) -> None:
        """Let `part` have every tick and event from now on; it is closed at the end."""
        self._parts.append(part)

    def tick(self, tick: Tick) -> None:
        """Give one tick to each."""
        for part in self._parts:
            part.tick(tick)

    def event(self, happening: Happening) -> None:
        """Give one event to each."""
        for part in self._parts:
            part.event(happening)

    def __enter__(self) -> Recorders:
        """Return the recorders."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close every part."""
        self.notes += [note for part in self._parts for note in part.close()]


def _begin(writer: Writer, attachments: Mapping[str, bytes]) -> dict[str, int]:
    """Write what comes before the first message and announce every topic; return topic -> channel."""
    writer.start(profile=PROFILE)
    writer.add_metadata(PROFILE, {SCHEMA_KEY: str(SCHEMA)})
    channels = {}
    for topic, fields in {**TICK_TOPICS, POLICY_TOPIC: POLICY_FIELDS, EVENT_TOPIC: EVENT_FIELDS}.items():
        name = f"{PROFILE}{topic.replace('/', '.')}"
        schema = writer.register_schema(name, "jsonschema", json_schema(fields))
        channels[topic] = writer.register_channel(topic, "json", schema)
    for name, data in attachments.items():
        media_type = _MEDIA_TYPES.get(Path(name).suffix, "application/octet-stream")
        writer.add_attachment(time.time_ns(), time.time_ns(), name, media_type, data)
    return channels


def _add(writer: Writer, channels: Mapping[str, int], item: Tick | Happening) -> None:
    if isinstance(item, Happening):
        stamp_s = item.stamp_s
        messages = [(EVENT_TOPIC, {"stamp_s": stamp_s, "name": item.name, "text": item.text})]
    else:
        stamp_s, messages = item.now_s, messages_of(item)
    stamp_ns = round(stamp_s * 1e9)
    for topic, message in messages:
        writer.add_message(channels[topic], stamp_ns, to_json(message), stamp_ns)
