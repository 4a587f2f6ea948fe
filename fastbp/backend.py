"""The narrow door to a device: a Session holds the buffers of one network and runs the program.

"cpu" opens the CPU's program, "cuda" its twin on an NVIDIA GPU, "auto" the twin where there is a GPU.
"""

import functools
import os
import sys
import threading
import time
import warnings
import weakref
from collections import deque

import numpy as np

from .errors import unknown
from .kernels import codes
from .layout import arena
from .machine import usable_cores

WINDOW = 0.05  # seconds of steps between two looks at the clock, the progress bar and Ctrl-C
FEW = 1 << 12  # numbers of an input up to which copying them costs less than binding it
DEVICES = ("auto", "cpu", "cuda")
_one_region = threading.Lock()  # held while a region runs on a layer that takes one at a time
_sessions = weakref.WeakSet()
_forked_from = None  # threading layer that this process's parent had used before the fork


def _after_fork():
    """In a forked child: locks that other threads of the parent held would never be released."""
    global _one_region, _forked_from
    _one_region = threading.Lock()
    for session in _sessions:
        session.lock = threading.Lock()
    if "numba" in sys.modules:
        _forked_from = _layer()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def device(name):
    """The device that ``name`` stands for: "cpu" or "cuda".

    Raises ValueError for another name, RuntimeError for "cuda" where it cannot be had. "auto" takes a GPU
    if there is one; where there is but it cannot be used, it warns and takes the CPU.
    """
    if name not in DEVICES:
        raise unknown("device", name, DEVICES)
    if name == "cpu" or (name == "auto" and not _gpu_in_sight()):
        return "cpu"
    reason = no_gpu()
    if reason is None:
        return "cuda"
    if name == "cuda":
        raise RuntimeError(f'device: got "cuda", but {reason}')
    _warn_once(f'device: "auto" takes the CPU: {reason}')
    return "cpu"


INSTALL = "pip install 'fastbp[cuda12]', or 'fastbp[cuda13]' for a driver of CUDA 13"


def _gpu_in_sight():
    """Whether the system shows an NVIDIA driver: a look at its files, not the second that asking it takes."""
    return any(os.path.exists(path) for path in ("/dev/nvidiactl", "/dev/dxg"))


@functools.cache
def no_gpu():
    """Why no GPU can be used, and what to do about it; None where one can."""
    try:
        import numba_cuda  # noqa: F401
        from numba import cuda
    except ImportError:
        return f"numba-cuda is not installed: takes {INSTALL}"
    try:
        if cuda.is_available():
            return None
        error = cuda.cuda_error() if hasattr(cuda, "cuda_error") else None
    except Exception as failure:  # a driver that is broken tells so in many ways
        error = failure
    told = f" ({' '.join(str(error).split())})" if error else ""
    return f"no NVIDIA GPU with a driver was found{told}: takes both, and {INSTALL}"


@functools.cache
def _warn_once(text):
    warnings.warn(text, RuntimeWarning, stacklevel=4)


def gpu_info():
    """{"gpu": ..., "driver": ..., "toolkit": ...}, where there is one."""
    from .kernels.cuda.device import describe

    return describe()


def open_session(name, params, slots, plan, hyper, threads, fixed, work):
    """The session of device ``name`` ("cpu" or "cuda")."""
    if name == "cpu":
        return Session(params, slots, plan, hyper, threads, fixed=fixed, work=work)
    from .gpu import GpuSession
    from .kernels.cuda import program

    return GpuSession(program, params, slots, plan, hyper)


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


def cache_place():
    """Folder where the machine code is kept, or None where none can be written. Compiles nothing."""
    from .kernels import jit
    from .kernels.cpu import program

    return jit.cache_path(program.run)


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
    return max(1, min(usable_cores(), max_threads(), step_work(net, batch) // PARALLEL_WORK))


def step_work(net, batch):
    """Multiply-adds of a training step, about."""
    return 3 * batch * sum(i * o for i, o, _, _ in net.layers)


class Team:
    """How many threads the next window of steps gets: measured, because no rule survives a busy core.

    All threads or one: the bits are the same, so it may change at any time. It tries the other choice
    for a few short windows after 0.5, 1, 2, ... 8 seconds, and at once when the present one has
    become much slower than it was; the fastest of a few windows counts, so a single slow one does not.
    work: multiply-adds of a step; where they are many, only a clear loss makes it leave all cores.
    """

    FIRST, LAST = 0.5, 8.0  # seconds between two trials
    WINDOWS = 3  # of a trial, and remembered of each choice
    GAIN, SURE_GAIN = 0.97, 0.8  # another choice must take at most this share of the time
    SURE = 10_000_000  # multiply-adds of a step from which all cores win on any free machine
    WORSE = 1.3  # slower than at its best by this factor: something else wants a core

    def __init__(self, most, fixed, work=0):
        self.most, self.threads, self.fixed = most, most, fixed or most == 1
        self.sure = work >= self.SURE
        self.recent = {n: deque(maxlen=self.WINDOWS) for n in {1, most}}  # seconds a step
        self.best = {}
        self.warm, self.trial = 2, 0
        self.interval, self.due = (self.LAST, np.inf) if self.sure else (self.FIRST, 0.0)

    def choose(self, clock):
        """(threads, whether this is a trial) for the window that starts now."""
        if self.fixed:
            return self.most, False
        mine = self.recent[self.threads]
        if not self.trial and len(mine) == self.WINDOWS:
            self.due = min(self.due, clock + self.interval)
            slow = min(mine) > self.WORSE * self.best[self.threads] and clock > self.due - 0.5 * self.interval
            if clock >= self.due or slow:
                self.trial = self.WINDOWS
                self.recent[self.other].clear()
        return (self.other, True) if self.trial else (self.threads, False)

    @property
    def other(self):
        return 1 if self.threads > 1 else self.most

    def record(self, threads, trial, seconds, clock):
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
                self.threads, self.interval = threads, self.FIRST
            else:
                self.interval = min(2 * self.interval, self.LAST)
                self.best[self.threads] = min(self.recent[self.threads])  # the new normal
            self.due = clock + self.interval


class Session:
    """Buffers and tables of one network with one plan; each call runs a window of steps.

    params, slots : arenas (slots may be an empty array); plan : fastbp.plan.Plan.
    """

    def __init__(self, params, slots, plan, hyper, threads, fixed=True, groups=1, work=0):
        if threads % groups:
            raise ValueError(f"groups: got {groups}, takes a divisor of {threads} threads")
        self.run = load(params.dtype)
        self.params, self.slots, self.hyper = params, slots, hyper
        self.table, self.team = plan.table, Team(threads, fixed, work)
        self.work = arena(plan.work_size, params.dtype)
        self.table[plan.coded] = [_native(int(c), params.dtype) for c in self.table[plan.coded]]
        place = int(plan.table[codes.P_NUMBERS])
        self.work[place : place + len(plan.numbers)] = plan.numbers
        self.call = np.zeros(codes.CALL, np.int64)
        self.call[codes.K_COLUMNS] = groups
        self.results = np.zeros(codes.RESULTS + threads)
        layers = int(plan.table[codes.P_LAYERS])
        self.sync = arena(codes.SYNC + threads * codes.trace_size(layers), np.int64)
        self.order = np.empty(0, np.int32)
        self._kept, self._few, self.batch = (), None, int(plan.table[codes.P_BATCH])
        self._rates = None
        self.window, self.done = 1, 0  # steps of the next window; steps done since step 0
        self.lock = threading.Lock()  # for who binds and runs: two threads may use one trainer
        _sessions.add(self)

    def set_loss(self, code):
        """Change the loss's code, between labels and probabilities; the plan has room for either."""
        self.table[codes.P_LOSS] = _native(code, self.params.dtype)

    def bind(self, x, y=None, weight=None, out=None):
        """Point the program at data: x (N, inputs), y (N, targets) or None, weight (N,), out (N, O)."""
        numbers = [len(x), 0, 0, *_place(x), *_place(y), _address(weight), _address(out)]
        self.call[codes.K_SAMPLES : codes.K_OUT + 1] = numbers
        if y is not None:
            self.table[codes.P_TARGETS] = y.shape[1]
        if out is not None:
            self.call[codes.K_OUT_ROW] = out.strides[0] // out.itemsize
        self._kept = (x, y, weight, out)  # addresses are only good while these live

    def seed(self, number):
        """The seed of what training steps drop."""
        self.call[codes.K_SEED] = number

    def infer(self, mode, x):
        """(outputs (N, O), rows of x that are not finite) in PREDICT or FORWARD mode; x (N, inputs)."""
        if isinstance(x, np.ndarray) and x.size <= FEW and x.dtype == self.params.dtype:
            return self._infer_few(mode, x)
        out = np.empty((len(x), self.table[codes.P_OUTPUTS]), self.params.dtype)
        self.bind(x, out=out)
        *_, (_, _, _, bad) = self.windows(mode, -(-len(x) // self.batch))
        self.release()
        return out, bad

    def _infer_few(self, mode, x):
        """Through arrays that stay bound: for single rows, binding costs more than the kernels."""
        if self._few is None:
            rows = FEW // x.shape[1]
            inputs = np.empty((rows, x.shape[1]), x.dtype)
            outputs = np.empty((rows, self.table[codes.P_OUTPUTS]), x.dtype)
            self.bind(inputs, out=outputs)
            call = self.call.copy()
            call[codes.K_THREADS], call[codes.K_FIRST] = 1, 0
            self._few = inputs, outputs, call
        inputs, outputs, call = self._few
        count = len(x)
        inputs[:count] = x
        call[codes.K_MODE], call[codes.K_SAMPLES] = mode, count
        call[codes.K_LAST] = -(-count // self.batch)
        self._run(call, self.slots)
        return outputs[:count].copy(), int(self.results[codes.RESULTS])

    def set_rates(self, table=None):
        """Learning rate, momentum, ... of each update of the epoch; None: those of hyper for all."""
        self._rates = table
        self.call[codes.K_RATES] = _address(table)

    def release(self):
        """Let go of the data that was bound."""
        self._kept = ()

    def shuffle(self, seed, epoch):
        """Draw the order of an epoch: a function of (seed, epoch, number of samples) alone."""
        count = int(self.call[codes.K_SAMPLES])
        if len(self.order) != count:
            self.order = np.empty(count, np.int32)
        self.call[codes.K_SEED], self.call[codes.K_STREAM] = seed, epoch
        self._go(codes.SHUFFLE, 1)
        self.call[codes.K_ORDER] = 1

    def windows(self, mode, steps, number=0):
        """Run steps [0, steps) of the bound data in windows of about WINDOW seconds.

        number : updates made before step 0. Yields (steps done, loss sum, weight sum, right answers) so far
        after each window, and ends early, with fewer steps done, when a loss is not finite. ``done``
        is kept up to date, so that who is interrupted knows.
        """
        call, team, results = self.call, self.team, self.results
        self.done = hits = 0
        call[codes.K_STEP] = number
        while self.done < steps:
            start = time.perf_counter()
            single = call[codes.K_SAMPLES] == 1  # a row is one thread's; it says nothing of batches
            threads, trial = (1, False) if single else team.choose(start)
            count = min(max(1, self.window // 4) if trial else self.window, steps - self.done)
            call[codes.K_FIRST], call[codes.K_LAST] = self.done, self.done + count
            results[codes.R_STEPS] = 0
            try:
                self._go(mode, threads)
            finally:  # Ctrl-C shows up here, after steps that were made
                ran = int(results[codes.R_STEPS])
                self.done += ran
            hits += int(results[codes.RESULTS : codes.RESULTS + int(results[codes.R_THREADS])].sum())
            end = time.perf_counter()
            if not single:
                team.record(threads, trial, (end - start) / count, end)
            if count == self.window:  # at most doubling: one slow step is no rule
                self.window = max(1, min(2 * count, int(count * WINDOW / (end - start))))
            yield self.done, results[codes.R_LOSS], results[codes.R_WEIGHT], hits
            if ran < count:
                return

    def each(self, mode, steps):
        """Run the steps one at a time; yields the number of each, when layer_rows has its results."""
        for step in range(steps):
            self.call[codes.K_FIRST], self.call[codes.K_LAST] = step, step + 1
            self._go(mode, self.team.threads)
            yield step

    def combined(self, steps, number, combine):
        """As windows(TRAIN, ...), one step at a time: ``combine`` is called between the gradients, which
        lie in ``gradient``, and the update. The plan has a gradient arena."""
        call, results, threads = self.call, self.results, self.team.threads
        self.done = hits = 0
        call[codes.K_STEP] = number
        while self.done < steps:
            call[codes.K_FIRST], call[codes.K_LAST] = self.done, self.done + 1
            self._go(codes.COLLECT, threads, self.gradient)
            sums = results[[codes.R_LOSS, codes.R_WEIGHT]]
            hits += int(results[codes.RESULTS : codes.RESULTS + int(results[codes.R_THREADS])].sum())
            ran = 0
            if np.isfinite(sums[0]):
                combine()
                results[codes.R_STEPS] = 0
                try:
                    self._go(codes.APPLY, threads)
                finally:
                    ran = int(results[codes.R_STEPS])
                    self.done += ran
                results[[codes.R_LOSS, codes.R_WEIGHT]] = sums
            yield self.done, sums[0] if ran else np.nan, sums[1], hits
            if not ran:
                return

    @property
    def gradient(self):
        """The gradient arena, laid out as the parameters; for plans that have one."""
        start = int(self.table[codes.P_GRADIENT])
        return self.work[start : start + self.params.size]

    def layer_rows(self, layer, rows):
        """(outputs, deltas) of a layer, each (rows, width), as the last step left them: views."""
        row = self.table[codes.HEADER + layer * codes.LAYER_COLUMNS :][: codes.LAYER_COLUMNS]
        width, ld = int(row[codes.L_OUT]), int(row[codes.L_LDA])
        return tuple(
            self.work[row[at] : row[at] + rows * ld].reshape(rows, ld)[:, :width]
            for at in (codes.L_A, codes.L_DELTA)
        )

    def _go(self, mode, threads, slots=None):
        if mode in (codes.TRAIN, codes.APPLY) and self.table[codes.P_OPTIMIZER] == codes.STORE:
            raise ValueError("optimizer: got LBFGS, which only fit takes")
        self.call[codes.K_MODE] = mode
        right = _claim_parallel() if threads > 1 else ALONE
        self.call[codes.K_THREADS] = 1 if right == ALONE else threads
        slots = self.slots if slots is None else slots
        if right == ALONE:
            self._run(self.call, slots)
            return
        from numba import get_num_threads, set_num_threads

        before = get_num_threads()
        set_num_threads(threads)
        try:
            self._run(self.call, slots)
        finally:
            set_num_threads(before)
            if right == LOCKED:
                _one_region.release()

    def _run(self, call, slots):
        self.run(self.params, slots, self.work, self.table, call, self.hyper, self.results,
                 self.order, self.sync)  # fmt: skip


def _native(code, dtype):
    """A code as the program takes it: for the user's own functions the address of the compiled one."""
    if code < codes.USER:
        return code
    from .functions import definition
    from .kernels.cpu import custom

    start = time.perf_counter()
    address = custom.address(definition(code), dtype)
    _seconds[dtype] = _seconds.get(dtype, 0.0) + time.perf_counter() - start
    return address


def _address(array):
    return 0 if array is None else array.__array_interface__["data"][0]


def _place(array):
    """(address, dtype code, strides): how the gather finds the numbers of a 2-D array, or of what else
    data.py makes of X (sparse rows, shards)."""
    if array is None:
        return 0, 0, 0, 0
    if not isinstance(array, np.ndarray):
        return array.place()
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
    if _forked_from == "omp":
        return ALONE
    layer = _layer()
    locks = layer in (None, "workqueue")
    if locks and not _one_region.acquire(blocking=False):
        return ALONE
    return LOCKED if locks else FREE
