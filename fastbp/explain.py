"""Where the time of a training step goes: phases, rates, shares of the peak, and why."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .engine import backend, parallel
from .engine.options import Options
from .engine.rates import Updates
from .engine.sessions import frozen, open_session
from .kernels import codes
from .machine import Peak, copy_bandwidth
from .network.layout import arena
from .printing import html_table, text_table

if TYPE_CHECKING:
    from .engine.anytrainer import AnyTrainer

__all__ = ["Explanation", "Row"]

STEPS, NUMBERS = 32, 1 << 24  # of one run: steps, and inputs at most
PHASES = {
    codes.T_GATHER: ("gather", "rows copied and converted into the batch"),
    codes.T_LOSS: ("loss", "loss, its gradient, sample weights"),
    codes.T_WAIT: ("wait", "barriers: waiting for the other threads"),
    codes.T_CONSTANTS: ("constants", "constants of the update, running statistics"),
    codes.T_CLIP: ("clip", "norms and the update from the gradient arena"),
    codes.T_EMBED: ("embeddings", "gradient and update of their tables"),
    codes.T_CONSTRAIN: ("constrain", "norms of the weights into each unit"),
}
LAYER_PHASES = {codes.PHASE_FORWARD: "forward", codes.PHASE_BACKWARD: "dX", codes.PHASE_UPDATE: "dW + update"}


@dataclass
class Row:
    """One phase of one layer (or of the step), means over the threads; flops and bytes of a step.

    On a GPU one launch, the median of its times: kernel, grid (blocks), threads of a block, and why its tile.
    """

    name: str
    seconds: float
    flops: float = 0.0
    bytes: float = 0.0
    kernel: str = ""
    grid: tuple[int, ...] = ()
    threads: int = 0
    why: str = ""


@dataclass
class Explanation:
    """Where a step's time goes: a table, where it is shown.

    net, batch, threads, tile : what was measured; why : as many threads; rows : a Row for each phase;
    seconds : of a step; peak : GFLOP/s of as many threads; bandwidth : GB/s, read and written. On a GPU
    threads are the host's, peak and bandwidth the card's.

    >>> explained = trainer.explain(seconds=0.01)
    >>> explained.net, explained.batch, explained.flops == sum(row.flops for row in explained.rows)
    ('4-16-4', 2, True)
    """

    net: str
    batch: int
    threads: int
    why: str
    tile: str
    seconds: float
    peak: float
    bandwidth: float
    rows: list[Row]

    @property
    def flops(self) -> float:
        """Of a step: two for each multiply-add of the three products."""
        return sum(r.flops for r in self.rows)

    def _lines(self) -> list[str]:
        return [
            f"{self.net}, batch {self.batch}: {1e6 * self.seconds:.1f} us a step, "
            f"{self.flops / self.seconds / 1e9:.0f} GFLOP/s, "
            f"{self.flops / self.seconds / 1e7 / self.peak:.0f} % of {self.peak:.0f} GFLOP/s",
            f"threads: {self.threads} ({self.why}); tile: {self.tile}; "
            f"memory: {self.bandwidth:.0f} GB/s copied",
        ]

    def table(self) -> list[list[str]]:
        """A row of text for each phase, under a head."""
        gpu = any(r.kernel for r in self.rows)
        launched = ["kernel", "blocks", "threads", "tile"] if gpu else []
        rows = [["phase", "us", "share", "GFLOP/s", "of peak", "MB", *launched]]
        for r in self.rows:
            rate = r.flops / r.seconds / 1e9 if r.flops and r.seconds else 0
            cells = [r.name, f"{1e6 * r.seconds:.2f}", f"{r.seconds / self.seconds:.1%}"]
            cells += [f"{rate:.0f}", f"{rate / self.peak:.0%}"] if rate else ["", ""]
            cells.append(f"{r.bytes / 1e6:.3f}" if r.bytes else "")
            if gpu:
                cells += [r.kernel, " x ".join(map(str, r.grid)), str(r.threads or ""), r.why]
            rows.append(cells)
        return rows

    def __repr__(self) -> str:
        return "\n".join([*self._lines(), "", text_table(self.table(), left=(0, 6, 9))])

    def _repr_html_(self) -> str:
        return html_table(self.table(), caption="; ".join(self._lines()))


def explain(trainer: AnyTrainer, seconds: float = 0.5) -> Explanation:
    """Run training steps on random data with copies of the weights; returns an Explanation.

    The trainer is not changed. ``seconds``: about how long to measure.
    """
    net, batch = trainer.net, trainer.batch_size
    rng = np.random.default_rng(0)
    inputs, outputs = net.sizes[0], net.sizes[-1]
    code = trainer.loss.code(outputs)
    steps = max(1, min(STEPS, NUMBERS // (batch * inputs)))
    X = rng.standard_normal((steps * batch, inputs), np.float32)
    for column, categories, _ in net.embedded:
        X[:, column] = rng.integers(0, categories, len(X))
    if code in codes.LABELS:
        y = rng.integers(0, outputs, (len(X), 1))
    else:
        y = rng.uniform(0, 1, (len(X), outputs)).astype(np.float32)
    if trainer.device == "cuda":
        return _explain_gpu(trainer, _opened(trainer, code, X, y), steps, seconds)
    fixed, most = trainer.threads is not None, parallel.most_threads(net, batch, trainer.threads)
    timings = {n: _run(trainer, code, X, y, n, steps, seconds / 2) for n in ([most] if fixed else {1, most})}
    threads = min(timings, key=lambda n: timings[n][0])
    step, ticks = timings[threads]
    why = "as asked"
    if not fixed:
        others = ", ".join(f"{n}: {1e6 * t:.1f} us" for n, (t, _) in sorted(timings.items()))
        why = f"fastest of {others}" if len(timings) > 1 else "too little work for more"
    rows = _rows(trainer, batch, code, ticks, step, trainer.slots.size // net.params.size)
    return Explanation(
        "-".join(map(str, net.sizes)), batch, threads, why, backend.tile(net.dtype), step,
        Peak(threads, net.dtype).gflops(), copy_bandwidth(threads), rows,
    )  # fmt: skip


def _opened(trainer, code, X, y, threads=None):
    """A session of its own, on copies of the weights that it will not move, its data bound."""
    net = trainer.net
    params, slots = arena(net.params.size, net.dtype), arena(trainer.slots.size, net.dtype)
    params[:] = net.params
    second = Options.of(trainer).stores
    session = open_session(trainer, trainer.batch_size, code, slots, second, frozen(trainer), params, threads)
    session.updates = Updates.of(trainer, lr=1e-12)  # stay where it is
    session.bind(X, y)
    session.shuffle(0, 0)
    return session


def _run(trainer, code, X, y, threads, steps, seconds):
    """(seconds a step, mean ticks per trace place) of the fastest run."""
    session = _opened(trainer, code, X, y, threads)

    def run(number):
        session.window = steps  # in one call
        for _ in session.windows(codes.TRAIN, steps, number):
            pass

    size = codes.trace_size(len(trainer.net.layers))
    best, ticks, stop = np.inf, None, time.perf_counter() + seconds
    run(0)
    session.call[codes.K_TRACE] = 1
    while ticks is None or time.perf_counter() < stop:
        session.sync[codes.SYNC :] = 0
        start = time.perf_counter()
        run(steps)
        spent = (time.perf_counter() - start) / steps
        if spent < best:
            best = spent
            ticks = session.sync[codes.SYNC :].reshape(threads, size).mean(axis=0)
    return best, ticks


def _bytes(net, batch, k, slots):
    """{part: bytes that the product of layer k reads and writes}."""
    item, (i, o, _, _) = net.dtype.itemsize, net.layers[k]
    weights, a, z = (i + 1) * o * item, batch * i * item, batch * o * item
    return {
        codes.PHASE_FORWARD: weights + a + z,
        codes.PHASE_BACKWARD: weights + z + 2 * a,
        codes.PHASE_UPDATE: 2 * (1 + slots) * weights + a + z,
    }


def _rows(trainer, batch, code, ticks, step, slots):
    net, still = trainer.net, frozen(trainer)
    last = codes.TRACE + codes.PHASES * len(net.layers)
    scale = step / ticks[codes.T_GATHER : last].sum()
    item = net.dtype.itemsize
    lowest = min(set(range(len(net.layers))) - set(still), default=len(net.layers))
    rows = [Row("gather", ticks[codes.T_GATHER] * scale, bytes=batch * net.sizes[0] * item)]
    embedded = sum(width for _, _, width in net.embedded)
    for k, (i, o, _, _) in enumerate(net.layers):
        work, moved = 2.0 * batch * i * o, _bytes(net, batch, k, slots)
        for part, name in LAYER_PHASES.items():
            spent = ticks[codes.TRACE + codes.PHASES * k + part] * scale
            if part == codes.PHASE_BACKWARD and k == 0 and embedded and 0 not in still:
                rows.append(Row(f"layer 0 {name}", spent, work * embedded / i))
            if part == codes.PHASE_BACKWARD and k <= lowest or part == codes.PHASE_UPDATE and k in still:
                continue  # nobody needs the gradient of the inputs, nor those of frozen layers
            rows.append(Row(f"layer {k} {name}", spent, work, moved[part]))
    for place, (name, _) in PHASES.items():
        if place != codes.T_GATHER and ticks[place]:
            rows.append(Row(name, ticks[place] * scale))
    return rows


# kernels of the GPU whose names say less than the phases of the CPU; the rest keep theirs
LAUNCHES = {
    "gather_mixed": "gather",
    "dense_forward": "forward",
    "dense_backward": "dX",
    "dense_update": "dW + update",
    "embedding_update": "embeddings",
}


def _explain_gpu(trainer, session, steps, seconds):
    """The Explanation of a GPU's steps: each launch between two events, outside of any graph."""
    net, program, stop = trainer.net, session.program, time.perf_counter() + seconds
    session.timed(steps, 0)  # compiles, and records the graph
    paces, found = [], []
    while not paces or time.perf_counter() < stop:
        pace, launches = session.timed(steps, steps)
        paces.append(pace)
        found.append(launches)
    slots, step, rows = trainer.slots.size // net.params.size, float(np.median(paces)), []
    for same in zip(*found, strict=True):
        median = np.median([span for _, spans in same for span in spans])
        rows.append(_launched(trainer, trainer.batch_size, same[0][0], float(median), slots, program))
    between = step - sum(row.seconds for row in rows)
    if between > 0:
        rows.append(Row("between launches", between))
    peak, bandwidth = program.ceilings(net.dtype)
    return Explanation(
        "-".join(map(str, net.sizes)), trainer.batch_size, 1, f"of the host; {backend.gpu_info()['gpu']}",
        program.tiles(net.dtype), step, peak, bandwidth, rows,
    )  # fmt: skip


def _launched(trainer, batch, one, seconds, slots, program):
    """The Row of a launch."""
    net = trainer.net
    kernel = one.name.removesuffix("_wide").removesuffix("_middle").removesuffix("_small")
    if kernel.startswith("user_"):
        kernel = "loss" if one.layer is None else "finish_layer"
    name, item, grid = LAUNCHES.get(kernel, kernel), net.dtype.itemsize, one.grid
    grid = grid if isinstance(grid, tuple) else (grid,)
    row = Row(name if one.layer is None else f"layer {one.layer} {name}", seconds, kernel=one.name, grid=grid,
              threads=one.threads, why=program.why(item, one))  # fmt: skip
    if name == "gather":
        row.bytes = batch * net.sizes[0] * item
    elif name == "apply":  # a sum of parts, kept or used
        *_, parts, kept = one.arguments
        row.bytes = net.params.size * item * (parts + (1 if kept else 2 * (1 + slots)))
    elif one.products:
        part = next(part for part, text in LAYER_PHASES.items() if text == name)
        trained = [k for k in range(len(net.layers)) if k not in frozen(trainer)]
        for k in trained if one.layer is None else [one.layer]:
            fan_in, fan_out = net.layers[k][:2]
            if part == codes.PHASE_BACKWARD and k == 0:  # of the embedded columns alone
                row.flops += 2.0 * batch * one.products[0][1] * fan_out
                continue
            row.flops += 2.0 * batch * fan_in * fan_out
            row.bytes += _bytes(net, batch, k, slots)[part]
    return row
