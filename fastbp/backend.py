"""The narrow door to a device: a Session holds the buffers of one network and runs the program.

"auto" and "cpu" open the CPU's program; the CUDA one is a twin behind the same door (not yet here).
"""

import os
import threading
import time

import numpy as np

from .errors import unknown
from .kernels import codes
from .layout import arena
from .machine import usable_cores

DEVICES = ("auto", "cpu", "cuda")
_one_region = threading.Lock()  # held while a region runs on a layer that takes one at a time
_parallel_pid = None  # process that opened the first parallel region


def device(name):
    """The device that ``name`` stands for. Raises ValueError, RuntimeError for "cuda" without one."""
    if name not in DEVICES:
        raise unknown("device", name, DEVICES)
    if name == "cuda":
        raise RuntimeError('device: got "cuda", but this version trains on the CPU: takes "auto" or "cpu"')
    return "cpu"


def max_threads():
    """Threads that numba's parallel regions can have."""
    from numba import config

    return config.NUMBA_NUM_THREADS


_seconds = {}  # dtype -> seconds that compiling or loading its program took


def compile_seconds():
    """Seconds that this process spent compiling programs or loading them from the disk cache."""
    return sum(_seconds.values())


def load(dtype):
    """The compiled program for a dtype; compiled or loaded on first use."""
    start = time.perf_counter()
    from .kernels.cpu import program

    run = program.load(dtype)
    _seconds.setdefault(dtype, time.perf_counter() - start)
    return run


def peak_loop(dtype):
    """(run(passes, numbers) -> lanes, sums at once): the loop of measure.py, compiled."""
    load(dtype)
    from .kernels.cpu import measure, program

    return program.peak, measure.CHAINS


def tile(dtype):
    """The shape of the register tile on this machine, in words."""
    from .kernels.cpu.dense import HEIGHTS
    from .kernels.cpu.simd import host_target

    target = host_target()
    heights = HEIGHTS[target.registers]
    widest = max(heights)
    lanes = target.bytes // dtype.itemsize
    return f"{heights[widest]} rows x {widest} vectors of {lanes} {dtype.name}"


PARALLEL_WORK = 100_000  # multiply-adds of a step below which a second thread never paid


def most_threads(net, batch, threads=None):
    """Threads that steps of ``batch`` rows could use: what the user asked for, or by cores and work."""
    if threads is not None:
        return threads
    work = 3 * batch * sum(i * o for i, o, _, _ in net.layers)
    return max(1, min(usable_cores(), max_threads(), work // PARALLEL_WORK))


class Team:
    """How many threads the next window of steps gets: measured, because no rule survives a busy core.

    All threads or one: the bits are the same, so it may change at any time. Tries the other choice
    for a short window after 0.5, 1, 2, ... 8 seconds, and at once when the present one has become
    much slower than it was.
    """

    FIRST, LAST = 0.5, 8.0  # seconds between two trials
    GAIN = 0.97  # another choice must take at most this share of the time
    WORSE = 1.3  # slower than at its best by this factor: something else wants a core

    def __init__(self, most, fixed):
        self.most, self.threads, self.fixed = most, most, fixed or most == 1
        self.now, self.best = {}, {}  # seconds a step: smoothed, and the least so far
        self.windows, self.interval, self.trial_at = 0, self.FIRST, 0.0

    def choose(self, clock):
        """(threads, whether this is a trial) for the window that starts now."""
        if self.fixed:
            return self.most, False
        self.windows += 1
        if self.windows <= 2:  # cold caches, sleeping threads: tells nothing
            return self.threads, False
        mine = self.now.get(self.threads)
        if mine is None:
            return self.threads, False
        slow = mine > self.WORSE * self.best[self.threads] and clock > self.trial_at - 0.9 * self.interval
        if clock >= self.trial_at or slow:
            return self.other, True
        return self.threads, False

    @property
    def other(self):
        return 1 if self.threads > 1 else self.most

    def record(self, threads, trial, seconds, clock):
        """A window with ``threads`` took ``seconds`` a step."""
        if self.fixed or self.windows <= 2:
            return
        before = self.now.get(threads)
        self.now[threads] = seconds if before is None or trial else 0.7 * before + 0.3 * seconds
        self.best[threads] = min(seconds, self.best.get(threads, seconds))
        if trial:
            if seconds < self.GAIN * self.now[self.threads]:
                self.threads, self.interval = threads, self.FIRST
            else:
                self.interval = min(2 * self.interval, self.LAST)
            self.trial_at = clock + self.interval


class Session:
    """Buffers and tables of one network with one plan; each call runs a window of steps.

    params, slots : arenas (slots may be an empty array); plan : fastbp.plan.Plan.
    """

    def __init__(self, params, slots, plan, hyper, threads, fixed=True, groups=1):
        self.run = load(params.dtype)
        self.params, self.slots, self.hyper = params, slots, hyper
        self.table, self.team = plan.table, Team(threads, fixed)
        self.work = arena(plan.work_size, params.dtype)
        self.call = np.zeros(codes.CALL, np.int64)
        self.call[codes.K_COLUMNS] = groups
        self.results = np.zeros(codes.RESULTS + threads)
        layers = int(plan.table[codes.P_LAYERS])
        self.sync = arena(codes.SYNC + threads * codes.trace_size(layers), np.int64)
        self.order = np.empty(0, np.int32)
        self._kept = ()
        self.lock = threading.Lock()  # for who binds and runs: two threads may use one trainer

    def set_loss(self, code):
        """Change the loss between labels and probabilities; the plan has room for either."""
        self.table[codes.P_LOSS] = code
        self.table[codes.P_TARGETS] = self._targets(code)

    def _targets(self, code):
        return 1 if code == codes.CROSS_ENTROPY else self.table[codes.P_OUTPUTS]

    @property
    def batch(self):
        return int(self.table[codes.P_BATCH])

    def bind(self, x, y=None, weight=None, out=None):
        """Point the program at data: x (N, inputs), y (N, targets) or None, weight (N,), out (N, O)."""
        numbers = [len(x), 0, 0, *_place(x), *_place(y), _address(weight), _address(out)]
        self.call[codes.K_SAMPLES : codes.K_OUT + 1] = numbers
        if out is not None:
            self.call[codes.K_OUT_ROW] = out.strides[0]
        self._kept = (x, y, weight, out)  # addresses are only good while these live

    def shuffle(self, seed, epoch):
        """Draw the order of an epoch: a function of (seed, epoch, number of samples) alone."""
        count = int(self.call[codes.K_SAMPLES])
        if len(self.order) != count:
            self.order = np.empty(count, np.int32)
        self.call[codes.K_SEED], self.call[codes.K_STREAM] = seed, epoch
        self._go(codes.SHUFFLE, 1)
        self.call[codes.K_ORDER] = 1

    def steps(self, mode, first, last, number=0):
        """Run steps [first, last) of the bound data; ``number`` updates were made before.

        Returns (weighted loss sum, weight sum, right answers, steps done).
        """
        self.call[codes.K_FIRST], self.call[codes.K_LAST] = first, last
        self.call[codes.K_STEP] = number
        if self.team.most == 1:
            self._go(mode, 1)
        else:
            start = time.perf_counter()
            threads, trial = self.team.choose(start)
            self._go(mode, threads)
            end = time.perf_counter()
            self.team.record(threads, trial, (end - start) / (last - first), end)
        if mode in (codes.PREDICT, codes.FORWARD):
            return 0.0, 0.0, 0, last - first
        loss, weight, done, threads = self.results[: codes.RESULTS]
        hits = self.results[codes.RESULTS : codes.RESULTS + int(threads)].sum()
        return loss, weight, int(hits), int(done)

    def _go(self, mode, threads):
        self.call[codes.K_MODE] = mode
        right = _claim_parallel() if threads > 1 else ALONE
        self.call[codes.K_THREADS] = 1 if right == ALONE else threads
        if right == ALONE:
            self._run()
            return
        from numba import get_num_threads, set_num_threads

        before = get_num_threads()
        set_num_threads(threads)
        try:
            self._run()
        finally:
            set_num_threads(before)
            if right == LOCKED:
                _one_region.release()

    def _run(self):
        self.run(self.params, self.slots, self.work, self.table, self.call, self.hyper, self.results,
                 self.order, self.sync)  # fmt: skip


def _address(array):
    return 0 if array is None else array.__array_interface__["data"][0]


def _place(array):
    """(address, dtype code, strides): how the gather finds a 2-D array's numbers."""
    if array is None:
        return 0, 0, 0, 0
    return _address(array), codes.DTYPES[array.dtype.kind, array.dtype.itemsize], *array.strides


ALONE, FREE, LOCKED = range(3)


def _layer():
    from numba import threading_layer

    try:
        return threading_layer()
    except ValueError:  # no region has run yet
        return None


def _claim_parallel():
    """The right to open a parallel region: ALONE where that would abort or kill the process.

    GNU OpenMP kills a child that was forked after its parent's first region; workqueue aborts when
    two threads open regions at once, so there the right is a lock to be released (LOCKED), and who
    does not get it goes on with one thread: the bits are the same.
    """
    global _parallel_pid
    layer = _layer()
    if layer == "omp" and _parallel_pid not in (None, os.getpid()):
        return ALONE
    locks = layer in (None, "workqueue")
    if locks and not _one_region.acquire(blocking=False):
        return ALONE
    if _parallel_pid is None:
        _parallel_pid = os.getpid()
    return LOCKED if locks else FREE
