"""How many threads a window of steps gets, and the right to open a parallel region."""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..network.mlp import MLP
    from .anytrainer import AnyTrainer

_one_region = threading.Lock()  # held while a region runs on a layer that takes one at a time
_forked_from: str | None = None  # threading layer that this process's parent had used before the fork


def _after_fork():
    """In a forked child: a lock that another thread of the parent held would never be released."""
    global _one_region, _forked_from
    _one_region = threading.Lock()
    if "numba" in sys.modules:
        _forked_from = _layer()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def usable_cores() -> int:
    """Cores that this process may use: affinity and the CPU quota of its cgroup count."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup v2, or no limit ("max")
        pass
    return cores


def max_threads() -> int:
    """Threads that numba's parallel regions can have."""
    from numba import config

    return config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]  # numba sets its options when it starts


WINDOW = 0.05  # seconds of steps between two looks at the clock, the progress bar and Ctrl-C
LONE_WORK = 5_000_000  # multiply-adds: 0.1 ms of one core; SciPy's L-BFGS takes about as long between steps
PARALLEL_WORK = 100_000  # multiply-adds of a step below which a second thread never paid


def most_threads(net: MLP, batch: int, threads: int | None = None) -> int:
    """Threads that steps of ``batch`` rows could use: what the user asked for, or by cores and work."""
    if threads is not None:
        return threads
    return max(1, min(usable_cores(), max_threads(), step_work(net, batch) // PARALLEL_WORK))


def lone_threads(trainer: AnyTrainer, rows: int) -> int | None:
    """Threads of steps of all rows with Python between them (L-BFGS): 1 where it takes longer than they
    do, None for what the trainer takes. Then two gain little, and on a busy machine lose much.
    """
    return 1 if trainer.threads is None and step_work(trainer.net, rows) < LONE_WORK else None


def step_work(net: MLP, batch: int) -> int:
    """Multiply-adds of a training step, about."""
    return 3 * batch * sum(i * o for i, o, _, _ in net.layers)


class Team:
    """How many threads the next window of steps gets: measured, because no rule survives a busy core.

    All threads or one: the bits are the same, so it may change at any time. It tries the other choice
    for a few short windows after 0.02, 0.08, 0.3, 0.6, ... 8 seconds, and at once when the present one has
    become much slower than it was; the fastest of a few windows counts, so a single slow one does not.
    work: multiply-adds of a step; where they are many, only a clear loss makes it leave all cores.
    """

    FIRST, LAST = 0.02, 8.0  # seconds between two trials
    OFTEN = 0.3  # up to here they are four times as far apart each time, then twice
    WINDOWS = 3  # of a trial, and remembered of each choice
    GAIN, SURE_GAIN = 0.97, 0.8  # another choice must take at most this share of the time
    SURE = 10_000_000  # multiply-adds of a step from which all cores win on any free machine
    SOON = 0.5  # seconds that a trial's result stands, however slow it has become
    WORSE = 1.3  # slower than at its best by this factor: something else wants a core

    def __init__(self, most: int, fixed: bool, work: int = 0) -> None:
        self.most, self.threads, self.fixed = most, most, fixed or most == 1
        self.sure = work >= self.SURE
        self.recent: dict[int, deque[float]] = {
            n: deque(maxlen=self.WINDOWS) for n in {1, most}
        }  # seconds a step
        self.best: dict[int, float] = {}
        self.warm, self.trial = 2, 0
        self.interval, self.due = self.FIRST, np.inf

    def choose(self, clock: float) -> tuple[int, bool]:
        """(threads, whether this is a trial) for the window that starts now."""
        if self.fixed:
            return self.most, False
        mine = self.recent[self.threads]
        if not self.trial and len(mine) == self.WINDOWS:
            self.due = min(self.due, clock + self.interval)
            since = clock - self.due + self.interval  # the last trial
            worse = min(mine) > self.WORSE * self.best[self.threads]
            slow = worse and since > min(0.5 * self.interval, self.SOON)
            if clock >= self.due or slow:
                self.trial = self.WINDOWS
                self.recent[self.other].clear()
        return (self.other, True) if self.trial else (self.threads, False)

    @property
    def other(self) -> int:
        return 1 if self.threads > 1 else self.most

    def record(self, threads: int, trial: bool, seconds: float, clock: float) -> None:
        """A window with ``threads`` took ``seconds`` a step."""
        if self.fixed:
            return
        if self.warm:  # cold caches, sleeping threads: tells nothing
            self.warm -= 1
            return
        self.recent[threads].append(seconds)
        self.best[threads] = min(seconds, self.best.get(threads, seconds))
        if not trial:
            return
        mine = min(self.recent[self.threads])
        hopeless = seconds > self.WORSE * mine  # one window of a wide network is many milliseconds
        self.trial = 0 if hopeless else self.trial - 1
        if not self.trial:
            gain = self.SURE_GAIN if self.sure and threads == 1 else self.GAIN
            if min(self.recent[threads]) < gain * mine:
                self.threads, self.interval = threads, max(self.FIRST, min(self.interval, self.OFTEN))
            else:
                often = self.interval < self.OFTEN or self.sure
                self.interval = min((4 if often else 2) * self.interval, self.LAST)
                self.best[self.threads] = min(self.recent[self.threads])  # the new normal
            self.due = clock + self.interval


class region:
    """The right to open a parallel region of ``threads``: a context, which says how many it may have.

    All, or one where more would abort or kill the process: GNU OpenMP kills a child that was forked after its
    parent's first region; workqueue aborts when two threads open regions at once, so who comes second goes
    on with one thread. The bits are the same.
    """

    __slots__ = ("alone", "before", "threads")

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def __enter__(self) -> int:
        self.before = 0
        if self.threads <= 1 or _forked_from == "omp":
            return 1
        self.alone = _layer() in (None, "workqueue")
        if self.alone and not _one_region.acquire(blocking=False):
            return 1
        self.before = _numba("get_num_threads")()
        if self.before != self.threads:
            _numba("set_num_threads")(self.threads)
        return self.threads

    def __exit__(self, *error: object) -> None:
        if not self.before:
            return
        if self.before != self.threads:
            _numba("set_num_threads")(self.before)
        if self.alone:
            _one_region.release()


@functools.cache
def _numba(name):
    """A function of numba, which is imported when the first is asked for."""
    import numba

    return getattr(numba, name)


def _layer():
    """The threading layer that numba runs on; None before its first region."""
    try:
        return _numba("threading_layer")()
    except ValueError:
        return None
