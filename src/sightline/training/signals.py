"""Ctrl-C and `kill`: the first one asks the loop to finish its step and save, a second Ctrl-C stops at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


class Interrupted(BaseException):
    """Leaves a long validation early; never gets out of `fit`."""


@dataclass
class Stop:
    """Whether the loop was asked to stop, and whether it may be interrupted right now."""

    asked: str = ""  # name of the signal
    interruptible: bool = False  # inside a validation: nothing is lost by leaving it

    @contextmanager
    def leaving_early(self, allowed: bool = True) -> Iterator[None]:
        """Inside the block a first signal raises `Interrupted` instead of waiting for the end of the step."""
        if self.asked and allowed:
            raise Interrupted
        self.interruptible = allowed
        try:
            yield
        finally:
            self.interruptible = False


@contextmanager
def interruptible() -> Iterator[Stop]:
    """Catch SIGINT and SIGTERM while the block runs (in the main thread; elsewhere Python allows no handlers)."""
    stop = Stop()

    def handle(number: int, frame: FrameType | None) -> None:
        again = stop.asked == "SIGINT" and number == signal.SIGINT
        stop.asked = stop.asked or signal.Signals(number).name
        if again:
            raise KeyboardInterrupt
        if stop.interruptible:
            stop.interruptible = False
            raise Interrupted

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
