"""Signals: how Ctrl-C and SIGTERM end a run."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Interrupted(BaseException):  # like KeyboardInterrupt: no `except Exception` on its way swallows it
    """A signal ended the run, which goes on later from its last checkpoint."""


class Stop:
    """Turns Ctrl-C and SIGTERM into Interrupted.

    While `deferred`, which a training stage sets, the first signal is but `requested`: the stage raises after its next
    checkpoint.
    """

    def __init__(self) -> None:
        self.deferred = False
        self.requested = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():  # no other may set handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self.requested or not self.deferred:
            raise Interrupted
        self.requested = True
