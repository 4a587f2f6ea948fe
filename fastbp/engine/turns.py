"""Whose turn it is on a trainer: one trains at a time, and nobody reads weights that an epoch changes."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

_all: weakref.WeakSet[Turns] = weakref.WeakSet()
here = threading.local()  # .pause: of a thread that trains in turns with others
NESTED = ("train_on_batch", "partial_fit")  # what a callback may call of the fit that calls it


class Ended(KeyboardInterrupt):
    """Ends one fit of many; who raises it says why."""


def others_go_on() -> None:
    """Where this thread waits for a device: those that train in turns with it use it, too. Raises Ended."""
    pause = getattr(here, "pause", None)
    if pause is not None:
        pause()


class Turns:
    """The locks of one trainer, and what of the user's is being called while it trains.

    training : held from a training's first step to its last. state : held while weights, slots or sessions
    are read or written; a fit lets go of it between epochs and around what it calls of the user's, so
    that callbacks, hooks and the makers of streams may ask other threads for predictions. Locks of threads
    are their own kind in C: what interrupts a ``with`` of them leaves none behind. method, place : the
    training that is under way and what it calls; owner, maker : the thread that trains, the one that
    makes a stream's batches for it.
    """

    def __init__(self) -> None:
        self.training, self.state = threading.RLock(), threading.RLock()
        self.method = self.place = ""
        self.owner = self.maker = 0
        _all.add(self)

    def to_train(self, method: str) -> AbstractContextManager[object]:
        """The lock to hold while training: others wait. Raises RuntimeError where waiting would never end."""
        me, place = threading.get_ident(), self.place
        if me == self.maker:
            place = "a stream of batches"
        elif me != self.owner or not place or (method in NESTED and place.startswith("on_")):
            return self.training
        raise RuntimeError(
            f"{method}: called from {place} inside {self.method}, which has not ended; takes a call after it"
        )

    def begin(self, method: str) -> tuple[int, str, str]:
        """Say that this thread, which has the lock, trains; returns (owner, method, place) as they were."""
        outer = self.owner, self.method, self.place
        self.owner, self.method, self.place = threading.get_ident(), method, ""
        return outer

    @contextmanager
    def calling(self, place: str) -> Iterator[None]:
        """While something of the user's is called from a training: its place, for to_train."""
        self.place, outer = place, self.place
        try:
            yield
        finally:
            self.place = outer


def _after_fork():
    """In a forked child: locks that other threads of the parent held would never be released."""
    for turns in list(_all):
        Turns.__init__(turns)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
