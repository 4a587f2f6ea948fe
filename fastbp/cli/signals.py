"""SIGTERM and SIGHUP as Ctrl-C, and what comes while a model is being saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType


class Signals:
    """SIGTERM and SIGHUP end a command as Ctrl-C does: by a KeyboardInterrupt.

    After the first one others wait until what was learned is saved. number: of the first one, or None.
    last: the process ends with the command, and none of them is to disturb that.
    """

    def __init__(self, last: bool) -> None:
        self.last = last
        self.number: int | None = None
        self.said = "interrupted"  # of a command that one of them ends
        self.holding = self.waiting = False
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():  # where alone Python handles them
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)  # Windows has no SIGHUP
                if number is not None and signal.getsignal(number) != signal.SIG_IGN:  # as nohup sets it
                    self.before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self.before.items():  # Python's end would set a handler back, not this
            signal.signal(number, signal.SIG_IGN if self.last else handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.number = self.number or number
        if self.holding:
            self.waiting = True
        else:
            self.holding = True
            raise KeyboardInterrupt("" if number == signal.SIGINT else signal.Signals(number).name)

    @contextmanager
    def held(self) -> Iterator[None]:
        """What comes meanwhile interrupts afterwards."""
        self.holding = True
        try:
            yield
        finally:
            self.holding = False
        if self.waiting:
            self.waiting = False
            raise KeyboardInterrupt

    @property
    def code(self) -> int:
        """The exit code of a command that one of them ended."""
        return 128 + (self.number or signal.SIGINT)
