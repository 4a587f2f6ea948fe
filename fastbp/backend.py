"""The narrow door to a device: a Session holds the buffers of one network and runs the program.

"cpu" opens the CPU's program, "cuda" its twin on an NVIDIA GPU.
"""

import os
import threading
import time
import weakref

import numpy as np

from .gpuarrays import OnDevice, lies_on_gpu
from .kernels import codes
from .layout import arena
from .parallel import Team, region

WINDOW = 0.05  # seconds of steps between two looks at the clock, the progress bar and Ctrl-C
FEW = 1 << 12  # numbers of an input up to which copying them costs less than binding it
FEW_ROWS = 32  # rows up to which threads share columns, if their numbers are FEW * 16 at most
# of few rows' prediction, about, to decide on threads: a weight read from memory; a multiply-add
WEIGHT_SECONDS, PRODUCT_SECONDS = 1e-10, 1.7e-11
ALONE = 2e-4  # seconds below which one thread is as fast: others may be asleep, or on a busy core
_sessions = weakref.WeakSet()


def _after_fork():
    """In a forked child: locks that other threads of the parent held would never be released."""
    for session in _sessions:
        session.lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def gpu_info():
    """{"gpu": ..., "driver": ..., "toolkit": ...}, where there is one."""
    from .kernels.cuda.device import describe

    return describe()


def adopt(name, X):
    """X, where it lies on the GPU that device ``name`` is: read there, without a copy."""
    return OnDevice.of(X) if name == "cuda" and lies_on_gpu(X) else X


def gpu_numbers(array):
    """The memory that an OnDevice array spans, copied to the host: (span,) of its dtype."""
    from .kernels.cuda.data import view

    return view(array).numbers.copy_to_host().view(array.dtype)


def first_bad_on_gpu(array, dtype):
    """Place (row by row) of the first number of an OnDevice array that is not finite in dtype, or None."""
    from .kernels.cuda.program import first_bad

    return first_bad(array, dtype)


def open_session(name, params, slots, plan, hyper, threads, fixed, work):
    """The session of device ``name`` ("cpu" or "cuda")."""
    if name == "cpu":
        session = Session(params, slots, plan, hyper, threads, fixed=fixed, work=work)
    else:
        from .gpu import GpuSession
        from .kernels.cuda import program

        session = GpuSession(program, params, slots, plan, hyper)
    _sessions.add(session)
    return session


_seconds = {}  # dtype -> seconds that compiling or loading its program took


def compile_seconds():
    """Seconds that this process spent compiling programs or loading them from the disk cache."""
    return sum(_seconds.values())


def load(dtype):
    """The compiled program for a dtype and its K_WORKER; compiled or loaded on first use."""
    start = time.perf_counter()
    from .kernels.cpu import program

    found = program.load(dtype)
    _seconds.setdefault(dtype, time.perf_counter() - start)
    return found


def cache_place():
    """Folder where the machine code is kept, or None where none can be written. Compiles nothing."""
    from .kernels import jit
    from .kernels.cpu import program

    return jit.cache_path(program.run)


def compiled():
    """Whether there is machine code of these kernels on disk: a first run makes it."""
    place = cache_place()
    return place is not None and any(name.endswith(".nbi") for name in os.listdir(place))


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


def few_rows(inputs):
    """Rows that are predicted through arrays that stay bound."""
    return max(FEW // inputs, min(FEW_ROWS, 16 * FEW // inputs))


class Session:
    """Buffers and tables of one network with one plan; each call runs a window of steps.

    params, slots : arenas (slots may be an empty array); plan : fastbp.plan.Plan.
    """

    def __init__(self, params, slots, plan, hyper, threads, fixed=True, groups=1, work=0):
        if threads % groups:
            raise ValueError(f"groups: got {groups}, takes a divisor of {threads} threads")
        self.run, worker = load(params.dtype)
        self.params, self.slots, self.hyper = params, slots, hyper
        self.table, self.team = plan.table, Team(threads, fixed, work)
        self.work = arena(plan.work_size, params.dtype)
        self.table[plan.coded] = [_native(int(c), params.dtype) for c in self.table[plan.coded]]
        place = int(plan.table[codes.P_NUMBERS])
        self.work[place : place + len(plan.numbers)] = plan.numbers
        self.call = np.zeros(codes.CALL, np.int64)
        self.call[codes.K_COLUMNS], self.call[codes.K_WORKER] = groups, worker
        self.results = np.zeros(codes.RESULTS + threads)
        layers = int(plan.table[codes.P_LAYERS])
        self.sync = arena(codes.SYNC + threads * codes.trace_size(layers), np.int64)
        self.order = np.empty(0, np.int32)
        self._kept, self._few, self.batch = (), None, int(plan.table[codes.P_BATCH])
        self._few_team = Team(threads, fixed)
        self._rates = None
        self.window, self.done = 1, 0  # steps of the next window; steps done since step 0
        self.lock = threading.Lock()  # for who binds and runs: two threads may use one trainer

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
        if isinstance(x, np.ndarray) and len(x) <= few_rows(x.shape[1]) and x.dtype == self.params.dtype:
            return self._infer_few(mode, x)
        out = np.empty((len(x), self.table[codes.P_OUTPUTS]), self.params.dtype)
        self.bind(x, out=out)
        *_, (_, _, _, bad) = self.windows(mode, -(-len(x) // self.batch))
        self.release()
        return out, bad

    def _infer_few(self, mode, x):
        """Through arrays that stay bound: for single rows, binding costs more than the kernels.

        Where these take long, all threads may share each layer's columns: few rows wait for the weights.
        """
        if self._few is None:
            rows = few_rows(x.shape[1])
            inputs = np.empty((rows, x.shape[1]), x.dtype)
            outputs = np.empty((rows, self.table[codes.P_OUTPUTS]), x.dtype)
            self.bind(inputs, out=outputs)
            call = self.call.copy()
            call[codes.K_FIRST] = 0
            self._few = inputs, outputs, call
        inputs, outputs, call = self._few
        count = len(x)
        inputs[:count] = x
        call[codes.K_MODE], call[codes.K_SAMPLES] = mode, count
        call[codes.K_LAST] = -(-count // self.batch)
        expected = self.params.size * (WEIGHT_SECONDS + count * PRODUCT_SECONDS)
        if expected < ALONE or self.team.most == 1:
            allowed = call[codes.K_THREADS] = 1
            self._run(call, self.slots)
        else:
            start = time.perf_counter()
            threads, trial = self._few_team.choose(start)
            with region(threads) as allowed:
                call[codes.K_THREADS] = allowed
                call[codes.K_COLUMNS] = allowed if count <= FEW_ROWS else 1
                self._run(call, self.slots)
            end = time.perf_counter()
            self._few_team.record(threads, trial, (end - start) / expected, end)
        bad = self.results[codes.RESULTS]
        if allowed > 1:
            bad = self.results[codes.RESULTS : codes.RESULTS + int(self.results[codes.RESULT_THREADS])].sum()
        return outputs[:count].copy(), int(bad)

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
            results[codes.RESULT_STEPS] = 0
            try:
                self._go(mode, threads)
            finally:  # Ctrl-C shows up here, after steps that were made
                ran = int(results[codes.RESULT_STEPS])
                self.done += ran
            hits += int(results[codes.RESULTS : codes.RESULTS + int(results[codes.RESULT_THREADS])].sum())
            end = time.perf_counter()
            if not single:
                team.record(threads, trial, (end - start) / count, end)
            if count == self.window:  # at most doubling: one slow step is no rule
                self.window = max(1, min(2 * count, int(count * WINDOW / (end - start))))
            yield self.done, results[codes.RESULT_LOSS], results[codes.RESULT_WEIGHT], hits
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
            sums = results[[codes.RESULT_LOSS, codes.RESULT_WEIGHT]]
            hits += int(results[codes.RESULTS : codes.RESULTS + int(results[codes.RESULT_THREADS])].sum())
            ran = 0
            if np.isfinite(sums[0]):
                combine()
                results[codes.RESULT_STEPS] = 0
                try:
                    self._go(codes.APPLY, threads)
                finally:
                    ran = int(results[codes.RESULT_STEPS])
                    self.done += ran
                results[[codes.RESULT_LOSS, codes.RESULT_WEIGHT]] = sums
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
        width, ld = int(row[codes.L_FAN_OUT]), int(row[codes.L_LDA])
        return tuple(
            self.work[row[at] : row[at] + rows * ld].reshape(rows, ld)[:, :width]
            for at in (codes.L_A, codes.L_DELTA)
        )

    def _go(self, mode, threads, slots=None):
        if mode in (codes.TRAIN, codes.APPLY) and self.table[codes.P_OPTIMIZER] == codes.STORE:
            raise ValueError("optimizer: got LBFGS, which only fit takes")
        self.call[codes.K_MODE] = mode
        with region(threads) as allowed:
            self.call[codes.K_THREADS] = allowed
            self._run(self.call, self.slots if slots is None else slots)

    def _run(self, call, slots):
        tables = self.table, call, self.hyper
        self.run((self.params, slots, self.work), tables, self.results, self.order, self.sync)


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
