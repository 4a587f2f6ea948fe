"""The narrow door to a device: a Session holds the buffers of one network and runs the program.

"cpu" opens the CPU's program, "cuda" its twin on an NVIDIA GPU.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.gpuarrays import OnDevice, lies_on_gpu
from ..kernels import codes
from ..network.layout import arena
from .parallel import WINDOW, Team, region

if TYPE_CHECKING:
    from ..types import Array, Doubles, Floats
    from .gpu import GpuSession
    from .plan import Plan

COPIED = 1 << 12  # numbers of an input up to which copying them costs less than binding it
SHARED_ROWS = 32  # rows up to which threads share columns, if their numbers are COPIED * 16 at most
# of few rows' prediction, about, to decide on threads: a weight read from memory; a multiply-add
WEIGHT_SECONDS, PRODUCT_SECONDS = 1e-10, 1.7e-11
ALONE = 2e-4  # seconds below which one thread is as fast: others may be asleep, or on a busy core


def gpu_info() -> dict[str, str]:
    """{"gpu": ..., "driver": ..., "toolkit": ...}, where there is one."""
    from ..kernels.cuda.device import describe

    return describe()


def adopt(name: str, X: Any) -> Any:
    """X, where it lies on the GPU that device ``name`` is: read there, without a copy."""
    return OnDevice.of(X) if name == "cuda" and lies_on_gpu(X) else X


def open_session(
    name: str, params: Floats, slots: Floats, plan: Plan, hyper: Doubles, threads: int, fixed: bool, work: int
) -> Session | GpuSession:
    """The session of device ``name`` ("cpu" or "cuda")."""
    if name == "cpu":
        return Session(params, slots, plan, hyper, threads, fixed=fixed, work=work)
    from ..kernels.cuda import program
    from .gpu import GpuSession

    return GpuSession(program, params, slots, plan, hyper)


_seconds: dict[np.dtype[Any], float] = {}  # dtype -> seconds that compiling or loading its program took


def compile_seconds() -> float:
    """Seconds that this process spent compiling programs or loading them from the disk cache."""
    return sum(_seconds.values())


def ready(name: str, dtype: np.dtype[Any], tell: bool) -> None:
    """Have the program of device ``name`` there: nothing is compiled later. tell : say that it is now."""
    if name == "cpu" and dtype not in _seconds:
        load(dtype, tell)


def load(dtype: np.dtype[Any], tell: bool = True) -> tuple[Any, int]:
    """The compiled program for a dtype and its K_WORKER; compiled or loaded on first use.

    tell : say on stderr that it is compiled, where it is, before that.
    """
    from numba import config

    if config.DISABLE_JIT:  # type: ignore[attr-defined]  # numba sets its options when it starts
        raise RuntimeError(
            "NUMBA_DISABLE_JIT: got 1, takes 0 or nothing: the kernels are compiled and do not run as Python "
            "(formulas do: python -m fastbp.dev formula gelu 0.5)"
        )
    start = time.perf_counter()
    from ..kernels import jit
    from ..kernels.cpu import program

    if tell and dtype not in _seconds and not (there := program.compiled(dtype)):
        often = "in each process, as no folder for machine code can be written" if there is None else "once"
        what = f"compiling for this machine, {often}"
        if there is False and jit.busy(program.worker):
            what = "waiting for another process, which compiles for this machine"
        print(f"fastbp: {what}: some 10 to 20 s ...", file=sys.stderr, flush=True)
    found = program.load(dtype)
    _seconds.setdefault(dtype, time.perf_counter() - start)
    return found


def load_many(dtype: np.dtype[Any]) -> tuple[Any, int]:
    """The compiled program for many networks of a dtype and its worker; compiled or loaded on first use."""
    load(dtype)
    start = time.perf_counter()
    from ..kernels.cpu import many

    found = many.load(dtype)
    _seconds[dtype] += time.perf_counter() - start
    return found


def cache_place() -> str | None:
    """Folder where the machine code is kept, or None where none can be written. Compiles nothing."""
    from ..kernels import jit
    from ..kernels.cpu import program

    return jit.cache_path(program.run)


def peak_loop(dtype: np.dtype[Any]) -> tuple[Callable[[int, Array], int], int]:
    """(run(passes, numbers) -> lanes, sums at once): the loop of measure.py, compiled."""
    load(dtype)
    from ..kernels.cpu import measure, program

    return program.peak, measure.CHAINS


def tile(dtype: np.dtype[Any]) -> str:
    """The shape of the register tile on this machine, in words."""
    from ..kernels.cpu.dense import HEIGHTS
    from ..kernels.cpu.simd import host_target

    target = host_target()
    heights = HEIGHTS[target.registers]
    widest = max(heights)
    lanes = target.bytes // dtype.itemsize
    return f"{heights[widest]} rows x {widest} vectors of {lanes} {dtype.name}"


def kernel_names() -> list[str]:
    """Every function of the CPU's program that ``listing`` shows."""
    from ..kernels.cpu import listing

    return listing.names()


def listing(name: str, dtype: str, assembly: bool = True) -> str:
    """The machine code, or the optimized IR, of one function of the CPU's program."""
    load(np.dtype(dtype))
    from ..kernels.cpu import listing

    return listing.listing(name, dtype, assembly)


def few_rows(inputs: int) -> int:
    """Rows that are predicted through arrays that stay bound."""
    return max(COPIED // inputs, min(SHARED_ROWS, 16 * COPIED // inputs))


class Session:
    """Buffers and tables of one network with one plan; each call runs a window of steps.

    params, slots : arenas (slots may be an empty array); plan : fastbp.engine.plan.Plan. updates : the
    Updates of the next training steps (rates.py).
    """

    def __init__(
        self,
        params: Floats,
        slots: Floats,
        plan: Plan,
        hyper: Doubles,
        threads: int,
        fixed: bool = True,
        groups: int = 1,
        work: int = 0,
    ) -> None:
        if threads % groups:
            raise ValueError(f"groups: got {groups}, takes a divisor of {threads} threads")
        self.run, worker = load(params.dtype)
        self.params, self.slots, self.hyper = params, slots, hyper
        self.table, self.team = plan.table, Team(threads, fixed, work)
        self.work = arena(plan.work_size, params.dtype)
        name_functions(plan, params.dtype)
        place = int(plan.table[codes.P_NUMBERS])
        self.work[place : place + len(plan.numbers)] = plan.numbers
        self.call = np.zeros(codes.CALL, np.int64)
        self.call[codes.K_COLUMNS], self.call[codes.K_WORKER] = groups, worker
        self.results = np.zeros(codes.RESULTS + threads)
        layers = int(plan.table[codes.P_LAYERS])
        self.sync = arena(codes.SYNC + threads * codes.trace_size(layers), np.int64)
        self.order = np.empty(0, np.int32)
        self.batch = int(plan.table[codes.P_BATCH])
        self._kept: tuple[Any, ...] = ()
        self._few: tuple[Any, ...] | None = None
        self._few_team = Team(threads, fixed)
        self.updates: Any = None  # Updates, while it trains
        self._constants: Doubles | None = None
        self.window, self.done = 1, 0  # steps of the next window; steps done since step 0

    def set_loss(self, code: int) -> None:
        """Change the loss's code, between labels and probabilities; the plan has room for either."""
        self.table[codes.P_LOSS] = _native(code, self.params.dtype)

    def bind(
        self,
        x: Any,
        y: Array | None = None,
        weight: Array | None = None,
        out: Array | None = None,
        offsets: int = 0,
    ) -> None:
        """Point the program at data: x (N, inputs), y (N, targets) or None, weight (N,), out (N, O).

        offsets : of y the last so many columns, which are added to the outputs: none, or all O.
        """
        self.call[codes.K_SAMPLES : codes.K_OUT + 1] = data_fields(x, y, weight, out)
        self.table[codes.P_OFFSETS] = offsets
        if y is not None:
            self.table[codes.P_TARGETS] = y.shape[1] - offsets
        if out is not None:
            self.call[codes.K_OUT_ROW] = out.strides[0] // out.itemsize
        self._kept = (x, y, weight, out)  # addresses are only good while these live

    def seed(self, number: int) -> None:
        """The seed of what training steps drop."""
        self.call[codes.K_SEED] = number

    def infer(self, mode: int, x: Any, offset: Floats | None = None) -> tuple[Floats, int]:
        """(outputs (N, O), rows of x that are not finite) in PREDICT or FORWARD mode; x (N, inputs).

        offset : (N, O) or None, added to the outputs, before the link.
        """
        few = isinstance(x, np.ndarray) and len(x) <= few_rows(x.shape[1]) and x.dtype == self.params.dtype
        if few and offset is None:
            return self._infer_few(mode, x)
        out = np.empty((len(x), self.table[codes.P_OUTPUTS]), self.params.dtype)
        return out, self._infer(mode, x, offset, out)

    def infer_samples(
        self, mode: int, x: Any, samples: int, offset: Floats | None = None
    ) -> tuple[Floats, int]:
        """As ``infer``, with dropout, so many times: (outputs (samples, N, O), rows that are not finite)."""
        out = np.empty((samples, len(x), self.table[codes.P_OUTPUTS]), self.params.dtype)
        bad = [self._infer(mode, x, offset, one, (k + 1) * codes.SAMPLE) for k, one in enumerate(out)]
        return out, bad[0]

    def _infer(self, mode, x, offset, out, number=0):
        self.bind(x, offset, out=out, offsets=0 if offset is None else offset.shape[1])
        *_, (_, _, _, bad) = self.windows(mode, -(-len(x) // self.batch), number)
        self.release()
        return bad

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
            call[codes.K_FIRST] = call[codes.K_STEP] = 0
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
            allowed = self._timed(call, self._few_team, expected, count <= SHARED_ROWS)
        bad = self.results[codes.RESULTS]
        if allowed > 1:
            bad = self.results[codes.RESULTS : codes.RESULTS + int(self.results[codes.RESULT_THREADS])].sum()
        return outputs[:count].copy(), int(bad)

    def again(self, call: Array) -> None:
        """Run a call that was made before."""
        if call[codes.K_SAMPLES] == 1:  # a row is one thread's; it says nothing of batches
            call[codes.K_THREADS] = 1
            self._run(call, self.slots)
        else:
            self._timed(call, self.team)

    def _timed(self, call, team, expected=1.0, columns=False):
        """Run a call by as many threads as the team chooses; returns how many it had."""
        start = time.perf_counter()
        threads, trial = team.choose(start)
        with region(threads) as allowed:
            call[codes.K_THREADS] = allowed
            call[codes.K_COLUMNS] = allowed if columns else 1
            self._run(call, self.slots)
        end = time.perf_counter()
        team.record(threads, trial, (end - start) / expected, end)
        return allowed

    def release(self) -> None:
        """Let go of the data that was bound."""
        self._kept = ()

    def limit(self, rows: int) -> None:
        """Let the passes to come end after so many of the samples, in the order that they have."""
        self.call[codes.K_SAMPLES] = rows

    def shuffle(self, seed: int, epoch: int) -> None:
        """Draw the order of an epoch: a function of (seed, epoch, number of samples) alone."""
        count = len(self._kept[0])
        if len(self.order) != count:
            self.order = np.empty(count, np.int32)
        self.call[codes.K_SEED], self.call[codes.K_STREAM] = seed, epoch
        self._go(codes.SHUFFLE, 1)
        self.call[codes.K_ORDER] = 1

    def windows(self, mode: int, steps: int, number: int = 0) -> Iterator[tuple[int, Any, Any, int]]:
        """Run steps [0, steps) of the bound data in windows of about WINDOW seconds.

        number : updates made before step 0, or what predictions drop by. Yields (steps done, loss sum, weight
        sum, right answers) so far after each window, and ends early, with fewer steps done, when a loss or
        its gradient is not finite, or what an update has made of them (``lost``). ``done`` is kept up to
        date, so that who is interrupted knows.
        """
        call, team, results = self.call, self.team, self.results
        self.done = hits = 0
        call[codes.K_STEP] = number
        while self.done < steps:
            start = time.perf_counter()
            single = call[codes.K_SAMPLES] == 1  # a row is one thread's; it says nothing of batches
            threads, trial = (1, False) if single else team.choose(start)
            count = min(max(1, self.window // 8) if trial else self.window, steps - self.done)
            self._tell(mode, self.done, self.done + count)
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

    def each(self, mode: int, steps: int) -> Iterator[int]:
        """Run the steps one at a time; yields the number of each, when layer_rows has its results."""
        self.call[codes.K_STEP] = 0
        for step in range(steps):
            self._tell(mode, step, step + 1)
            self._go(mode, self.team.threads)
            yield step

    def combined(
        self, steps: int, number: int, combine: Callable[[], object]
    ) -> Iterator[tuple[int, Any, Any, int]]:
        """As windows(TRAIN, ...), one step at a time: ``combine`` is called between the gradients, which
        lie in ``gradient``, and the update. The plan has a gradient arena."""
        call, results, threads = self.call, self.results, self.team.threads
        self.done = hits = 0
        call[codes.K_STEP] = number
        while self.done < steps:
            self._tell(codes.APPLY, self.done, self.done + 1)
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
    def lost(self) -> bool:
        """Whether the last update has left parameters or slots that are not finite."""
        return bool(self.results[codes.RESULT_LOST])

    @property
    def gradient(self) -> Floats:
        """The gradient arena, laid out as the parameters; for plans that have one."""
        start = int(self.table[codes.P_GRADIENT])
        return self.work[start : start + self.params.size]

    def layer_rows(self, layer: int, rows: int) -> tuple[Floats, ...]:
        """(outputs, deltas) of a layer, each (rows, width), as the last step left them: views."""
        row = self.table[codes.HEADER + layer * codes.LAYER_COLUMNS :][: codes.LAYER_COLUMNS]
        width, ld = int(row[codes.L_FAN_OUT]), int(row[codes.L_LDA])
        return tuple(
            self.work[row[at] : row[at] + rows * ld].reshape(rows, ld)[:, :width]
            for at in (codes.L_A, codes.L_DELTA)
        )

    def input_rows(self, rows: int) -> Floats:
        """The gradient of the inputs, (rows, their number), as the last step left it: a view."""
        start, ld = int(self.table[codes.P_DX]), int(self.table[codes.P_LDDX])
        width = int(self.table[codes.HEADER + codes.L_FAN_IN] - self.table[codes.P_SOUGHT])
        return self.work[start : start + rows * ld].reshape(rows, ld)[:, :width]

    def _tell(self, mode: int, begin: int, end: int) -> None:
        """Let the call be about steps [begin, end), and have the constants of their updates at hand."""
        call = self.call
        call[codes.K_FIRST], call[codes.K_LAST] = begin, end
        if mode in (codes.TRAIN, codes.APPLY):
            _, self._constants = self.updates.window(int(call[codes.K_STEP]), begin, end)
            call[codes.K_CONSTANTS] = address(self._constants)

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


def name_functions(plan: Plan, dtype: np.dtype[Any]) -> None:
    """Put addresses where a plan's table has codes of the user's own functions."""
    plan.table[plan.coded] = [_native(int(c), dtype) for c in plan.table[plan.coded]]


def _native(code, dtype):
    """A code as the program takes it: for the user's own functions the address of the compiled one."""
    if code < codes.USER:
        return code
    from ..custom.functions import definition
    from ..kernels.cpu import custom

    start = time.perf_counter()
    address = custom.address(definition(code), dtype)
    _seconds[dtype] = _seconds.get(dtype, 0.0) + time.perf_counter() - start
    return address


def address(array: Array | None) -> int:
    """Address of an array's first number; 0: there is none."""
    return 0 if array is None else array.__array_interface__["data"][0]


def data_fields(x: Any, y: Array | None, weight: Array | None, out: Array | None) -> list[int]:
    """The call's fields K_SAMPLES to K_OUT for these data."""
    return [len(x), 0, 0, *_rows(x), *_rows(y), address(weight), address(out)]


def _rows(array):
    """(address, dtype code, strides): how the gather finds the numbers of a 2-D array, or of what else
    data.py makes of X (sparse rows, shards)."""
    if array is None:
        return 0, 0, 0, 0
    if not isinstance(array, np.ndarray):
        return array.place()
    return address(array), codes.DTYPES[array.dtype.kind, array.dtype.itemsize], *array.strides
