"""What the loop has told last, for any number of browsers, of which a slow one misses frames."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from robotrl.runtime.dashboard.frames import EVENT, Subject, decode_frame, layout

KEPT_EVENTS = 100
"""A browser that comes late is told this many."""


class Hub:
    """Joins the thread that listens to the loop and those that serve browsers."""

    def __init__(self, subject: Subject) -> None:
        self._places = layout(subject)
        self._news = threading.Condition()
        self._frame, self._frames = b"", 0
        self._happened: deque[bytes] = deque(maxlen=KEPT_EVENTS)
        self._events = 0
        self._watchers = 0
        self._ended = False

    def take(self, datagram: bytes) -> None:
        """Take what the loop tells."""
        with self._news:
            if datagram.startswith(EVENT):
                self._happened.append(datagram[1:])
                self._events += 1
            else:
                self._frame = datagram
                self._frames += 1
            self._news.notify_all()

    def end(self, grace_s: float) -> None:
        """Tell every browser that the loop has ended; return when all are told, or after `grace_s`."""
        with self._news:
            self._ended = True
            self._news.notify_all()
            self._news.wait_for(lambda: not self._watchers, grace_s)

    def stream(self, patience_s: float) -> Iterator[bytes]:
        """Yield server-sent events for one browser as they come: `happening`, `frame` and at last `end`.

        Args:
            patience_s: after this long without news an empty comment is due, so that a browser that is
                gone is noticed.
        """
        seen, ended = (0, 0), False
        while not ended:
            text, seen, ended = self._await_news(seen, patience_s)
            yield text

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Have one browser more that the end is told to, for as long as this lasts."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def _await_news(self, seen: tuple[int, int], patience_s: float) -> tuple[bytes, tuple[int, int], bool]:
        """What is new since so many frames and events, the new numbers, and whether that was all."""
        with self._news:
            self._news.wait_for(lambda: self._ended or (self._frames, self._events) != seen, patience_s)
            missed = min(self._events - seen[1], len(self._happened))
            happened = list(self._happened)[len(self._happened) - missed :]
            frame = self._frame if self._frames > seen[0] else b""
            seen, ended = (self._frames, self._events), self._ended
        return self._text(happened, frame, ended=ended), seen, ended

    def _text(self, happened: list[bytes], frame: bytes, *, ended: bool) -> bytes:
        parts = [b"event: happening\ndata: " + event + b"\n\n" for event in happened]
        if frame:
            words = json.dumps(decode_frame(self._places, frame)).encode()
            parts.append(b"event: frame\ndata: " + words + b"\n\n")
        if ended:
            parts.append(b"event: end\ndata: {}\n\n")
        return b"".join(parts) or b":\n\n"

    def _count(self, change: int) -> None:
        with self._news:
            self._watchers += change
            self._news.notify_all()
