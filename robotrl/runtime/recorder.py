"""The flight recorder: its own thread writes MCAP, so that the loop never waits for a disk."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from mcap.writer import CompressionType, Writer

from robotrl.errors import RecordingError
from robotrl.runtime.recording import (
    EVENT_FIELDS,
    EVENT_TOPIC,
    TICK_TOPICS,
    json_schema,
    messages_of,
    to_json,
)
from robotrl.runtime.tally import Happening, Tick

FLUSH_S = 0.2
"""After a crash or a power cut at most about this much of the flight is missing."""

_MEDIA_TYPES = {".json": "application/json", ".toml": "application/toml"}


class McapRecorder:
    """Writes one file. Use as a context manager, around the loop.

    A disk that fails stops the recording and not the robot: `close` says so.
    """

    def __init__(self, file: Path, attachments: Mapping[str, bytes]) -> None:
        """Create the file.

        Args:
            file: where to write; an existing file is replaced.
            attachments: name -> content, written first.

        Raises:
            RecordingError: the file cannot be created.
        """
        self._file = file
        self._failure: OSError | None = None
        self._messages: queue.SimpleQueue[tuple[str, float, dict[str, Any]] | None] = queue.SimpleQueue()
        try:
            stream = file.open("wb")
        except OSError as error:
            raise RecordingError(f"cannot be written ({error.strerror})", file=file) from error
        arguments = (stream, dict(attachments))
        self._thread = threading.Thread(target=self._write, args=arguments, name="recorder", daemon=True)
        self._thread.start()

    def tick(self, tick: Tick) -> None:
        """Queue one tick; its arrays may be reused afterwards."""
        for topic, message in messages_of(tick):
            self._messages.put((topic, tick.now_s, message))

    def event(self, happening: Happening) -> None:
        """Queue one event."""
        message = {"stamp_s": happening.stamp_s, "name": happening.name, "text": happening.text}
        self._messages.put((EVENT_TOPIC, happening.stamp_s, message))

    def close(self) -> None:
        """Write what is queued and end the file.

        Raises:
            RecordingError: the disk failed at some time; the file ends there.
        """
        self._messages.put(None)
        self._thread.join()
        if self._failure is not None:
            raise RecordingError(
                f"could not be written to its end ({self._failure.strerror})", file=self._file
            )

    def __enter__(self) -> McapRecorder:
        """Return the recorder."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the file."""
        self.close()

    def _write(self, stream: BinaryIO, attachments: Mapping[str, bytes]) -> None:
        try:
            with stream:
                self._write_messages(stream, attachments)
        except OSError as error:
            self._failure = error

    def _write_messages(self, stream: BinaryIO, attachments: Mapping[str, bytes]) -> None:
        writer = Writer(stream, compression=CompressionType.LZ4)
        writer.start(profile="robotrl")
        channels = _register(writer)
        for name, data in attachments.items():
            media_type = _MEDIA_TYPES.get(Path(name).suffix, "application/octet-stream")
            writer.add_attachment(time.time_ns(), time.time_ns(), name, media_type, data)
        flushed_s = 0.0
        while True:
            if time.monotonic() - flushed_s >= FLUSH_S:
                writer.flush()  # type: ignore[no-untyped-call]  # mcap annotates all but these two
                os.fsync(stream.fileno())
                flushed_s = time.monotonic()
            try:
                item = self._messages.get(timeout=FLUSH_S)
            except queue.Empty:
                continue
            if item is None:
                writer.finish()  # type: ignore[no-untyped-call]
                return
            topic, stamp_s, message = item
            stamp_ns = round(stamp_s * 1e9)
            writer.add_message(channels[topic], stamp_ns, to_json(message), stamp_ns)


def _register(writer: Writer) -> dict[str, int]:
    """Announce every topic; return topic -> channel."""
    channels = {}
    for topic, fields in {**TICK_TOPICS, EVENT_TOPIC: EVENT_FIELDS}.items():
        schema = writer.register_schema(
            f"robotrl{topic.replace('/', '.')}", "jsonschema", json_schema(fields)
        )
        channels[topic] = writer.register_channel(topic, "json", schema)
    return channels
