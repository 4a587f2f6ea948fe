"""Where the time of a training step goes: phases, rates, shares of the peak, and why."""

import time
from dataclasses import dataclass

import numpy as np

from . import backend, parallel
from .kernels import codes
from .layout import arena
from .machine import Peak, copy_bandwidth
from .options import Options

__all__ = ["Explanation", "Row"]

STEPS, NUMBERS = 32, 1 << 24  # of one run: steps, and inputs at most
PHASES = {
    codes.T_GATHER: ("gather", "rows copied and converted into the batch"),
    codes.T_LOSS: ("loss", "loss, its gradient, sample weights"),
    codes.T_WAIT: ("wait", "barriers: waiting for the other threads"),
    codes.T_CONSTANTS: ("constants", "bias corrections, running statistics"),
    codes.T_CLIP: ("clip", "norms and the update from the gradient arena"),
    codes.T_EMBED: ("embeddings", "gradient and update of their tables"),
    codes.T_CONSTRAIN: ("constrain", "norms of the weights into each unit"),
}
PARTS = {codes.T_FORWARD: "forward", codes.T_BACKWARD: "dX", codes.T_UPDATE: "dW + update"}


@dataclass
class Row:
    """One phase of one layer (or of the step), means over the threads; flops and bytes of a step."""

    name: str
    seconds: float
    flops: float = 0.0
    bytes: float = 0.0


@dataclass
class Explanation:
    """Where a step's time goes; print it.

    net, batch, threads, tile : what was measured; why : as many threads; rows : a Row for each phase;
    seconds : of a step; peak : GFLOP/s of as many threads; bandwidth : GB/s, read and written.

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
    rows: list

    @property
    def flops(self):
        """Of a step: two for each multiply-add of the three products."""
        return sum(r.flops for r in self.rows)

    def __str__(self):
        lines = [
            f"{self.net}, batch {self.batch}: {1e6 * self.seconds:.1f} us a step, "
            f"{self.flops / self.seconds / 1e9:.0f} GFLOP/s, "
            f"{self.flops / self.seconds / 1e7 / self.peak:.0f} % of {self.peak:.0f} GFLOP/s",
            f"threads: {self.threads} ({self.why}); tile: {self.tile}; "
            f"memory: {self.bandwidth:.0f} GB/s copied",
            "",
            f"{'phase':<22}{'us':>10}{'share':>8}{'GFLOP/s':>10}{'of peak':>9}{'MB':>9}",
        ]
        for r in self.rows:
            rate = r.flops / r.seconds / 1e9 if r.flops and r.seconds else 0
            lines.append(
                f"{r.name:<22}{1e6 * r.seconds:>10.2f}{100 * r.seconds / self.seconds:>7.1f}%"
                + (f"{rate:>10.0f}{100 * rate / self.peak:>8.0f}%" if rate else " " * 19)
                + (f"{r.bytes / 1e6:>9.3f}" if r.bytes else "")
            )
        return "\n".join(lines)


def explain(trainer, seconds=0.5):
    """Run training steps on random data with copies of the weights; returns an Explanation.

    The trainer is not changed. ``seconds``: about how long to measure.
    """
    if trainer.device != "cpu":
        raise ValueError(f'device: got "{trainer.device}", explain measures the CPU: takes "cpu"')
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
    fixed, most = trainer.threads is not None, parallel.most_threads(net, batch, trainer.threads)
    timings = {n: _run(trainer, code, X, y, n, steps, seconds / 2) for n in ([most] if fixed else {1, most})}
    threads = min(timings, key=lambda n: timings[n][0])
    step, ticks = timings[threads]
    why = "as asked"
    if not fixed:
        others = ", ".join(f"{n}: {1e6 * t:.1f} us" for n, (t, _) in sorted(timings.items()))
        why = f"fastest of {others}" if len(timings) > 1 else "too little work for more"
    rows = _rows(net, batch, code, ticks, step, trainer.slots.size // net.params.size)
    return Explanation(
        "-".join(map(str, net.sizes)), batch, threads, why, backend.tile(net.dtype), step,
        Peak(threads, net.dtype).gflops(), copy_bandwidth(threads), rows,
    )  # fmt: skip


def _run(trainer, code, X, y, threads, steps, seconds):
    """(seconds a step, mean ticks per trace place) of the fastest run."""
    net = trainer.net
    params, slots = arena(net.params.size, net.dtype), arena(trainer.slots.size, net.dtype)
    params[:] = net.params
    second = Options.of(trainer).stores
    session = trainer._open(trainer.batch_size, code, slots, second, net.frozen, params, threads)
    session.hyper[codes.H_LR] = 1e-12  # stay where it is
    session.bind(X, y)
    session.shuffle(0, 0)

    def run(number):
        session.window = steps  # in one call
        for _ in session.windows(codes.TRAIN, steps, number):
            pass

    size = codes.trace_size(len(net.layers))
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


def _rows(net, batch, code, ticks, step, slots):
    last = codes.T_LAYERS + 3 * len(net.layers)
    scale = step / ticks[codes.T_GATHER : last].sum()
    item = net.dtype.itemsize
    lowest = min(set(range(len(net.layers))) - set(net.frozen), default=len(net.layers))
    rows = [Row("gather", ticks[codes.T_GATHER] * scale, bytes=batch * net.sizes[0] * item)]
    embedded = sum(width for _, _, width in net.embedded)
    for k, (i, o, _, _) in enumerate(net.layers):
        work, weights, a, z = 2.0 * batch * i * o, (i + 1) * o * item, batch * i * item, batch * o * item
        moved = {
            codes.T_FORWARD: weights + a + z,
            codes.T_BACKWARD: weights + z + 2 * a,
            codes.T_UPDATE: 2 * (1 + slots) * weights + a + z,
        }
        for part, name in PARTS.items():
            spent = ticks[codes.T_LAYERS + 3 * k + part] * scale
            if part == codes.T_BACKWARD and k == 0 and embedded and 0 not in net.frozen:
                rows.append(Row(f"layer 0 {name}", spent, work * embedded / i))
            if part == codes.T_BACKWARD and k <= lowest or part == codes.T_UPDATE and k in net.frozen:
                continue  # nobody needs the gradient of the inputs, nor those of frozen layers
            rows.append(Row(f"layer {k} {name}", spent, work, moved[part]))
    for place, (name, _) in PHASES.items():
        if place != codes.T_GATHER and ticks[place]:
            rows.append(Row(name, ticks[place] * scale))
    return rows
