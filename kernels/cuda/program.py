"""A step on the GPU: its launches, over one arena and one table in device memory.

    gather -> forward, layer by layer -> loss and delta -> the sum of the loss, the update's constants
    -> delta back, layer by layer -> all weight tiles at once, the update in their epilogue

Every number that changes from step to step lies in the table (codes.G_...) or in ``numbers``, and the
kernels move it on themselves, so that all steps launch the same and a run of them is one CUDA graph.
The arena: parameters, slots, the work arena of the plan, then gradients of parts of a batch.
"""

import functools
import warnings
from contextlib import contextmanager

import numpy as np
from numba import from_dtype

from .. import codes, formulas, loss_formulas
from ..codes import DEVICE
from ..jit import program
from ..random import shuffle
from . import data, dense, losses
from .device import SIMULATED, cuda, kernel, load1, load2, load4, store1, store2, store4
from .graph import record
from .scalar import functions

# A grid of fewer blocks leaves processors idle: then smaller tiles, then parts of the batch. Not the
# card's own number of processors: the same bits on every card.
ENOUGH = 4 if SIMULATED else 96
PART = 8 if SIMULATED else 256  # rows of a part of the batch at least
REPLAYED = 16  # steps of a graph
COLUMNS = 4 if SIMULATED else 128  # threads of a gathering block

# columns of the plan that are places in the work arena
PLACES = (codes.P_X, codes.P_TARGET, codes.P_ROWLOSS, codes.P_ROWSCALE, codes.P_SCRATCH, codes.P_GRADIENT,
          codes.P_PARTIALS, codes.P_ZERO, codes.P_NUMBERS)  # fmt: skip
LAYER_PLACES = (codes.L_X, codes.L_A, codes.L_DELTA, codes.L_SLOPE)
# What this program understands; a table with anything else in it is refused, not half obeyed.
KNOWN = {
    "P": "LAYERS BATCH INPUTS OUTPUTS LOSS OPTIMIZER SIZE X LDX TARGET LDT TARGETS ROWLOSS ROWSCALE SCRATCH "
    "SCRATCH_SIZE PANEL GRADIENT PARTIALS ZERO SLOTS LOWEST NUMBERS",
    "L": "IN OUT ACTIVATION W LDW X LDX A LDA DELTA FROZEN ROWS SLOPE DERIVE",
    "H": "LR WEIGHT_DECAY MOMENTUM DAMPENING NESTEROV BETA2 EPS DECOUPLED LR_DECAY MOMENTUM_DECAY START "
    "CLIP_NORM CLIP_VALUE L1",
}
# columns as who set them calls them
NAMES = {
    "P_DROPOUT": "input_dropout", "P_MEETS": "norm", "P_EMBEDDINGS": "embeddings", "L_NORM": "norm",
    "L_DROPOUT": "dropout", "L_SKIP": "residual", "L_LOW": "prelu",
    "H_CLIP_LAYER": "clip_layer_norm", "H_MAX_NORM": "max_norm",
    "H_ACCUMULATE": "accumulate", "H_EMA": "ema", "H_PER_LAYER": "lr_factors or decay_bias",
}  # fmt: skip
# set together with others that say more
BESIDE = ("P_DX", "P_LDDX", "P_CODES", "P_RUNS", "L_SPECIAL", "L_LATE", "L_HAT", "L_STAT", "L_RUNNING",
          "L_TOTAL", "H_BARE_BIAS")  # fmt: skip


def unknown(prefix, table):
    """Columns of a table (..., columns) that are set and that this program does not know, by name."""
    known = {f"{prefix}_{name}" for name in KNOWN[prefix].split()}
    columns = {name: at for name, at in vars(codes).items() if name.startswith(f"{prefix}_")}
    return [name for name, at in columns.items() if name not in known and np.any(table[..., at])]


def refuse(plan, hyper):
    """Raises NotImplementedError for a plan or an optimizer that asks for what only the CPU does."""
    layers = layer_rows(plan)
    hyper = np.array(hyper[: codes.HYPER])
    hyper[codes.H_ACCUMULATE] *= hyper[codes.H_ACCUMULATE] > 1
    found = unknown("P", plan) + unknown("L", layers) + unknown("H", hyper)
    found = [name for name in found if name not in BESIDE] or found
    found = [NAMES.get(name, name[2:].lower()) for name in found]
    if int(plan[codes.P_LOSS]) not in loss_formulas.LOSS:
        found.append("your own loss")
    used = set(map(int, layers[:, codes.L_ACTIVATION])) | set(map(int, layers[:, codes.L_LATE]))
    used -= set(codes.LEARNED.values())
    if not used <= formulas.ACTIVATION.keys() | formulas.ACTIVATION_AND_SLOPE.keys():
        found.append("your own activation")
    if found:
        what = ", ".join(dict.fromkeys(found))
        raise NotImplementedError(f'device: got "cuda", which does not do this yet ({what}); takes "cpu"')


def layer_rows(plan):
    """The layers' columns of a plan, (layers, columns): a view."""
    rows = plan[codes.HEADER :][: int(plan[codes.P_LAYERS]) * codes.LAYER_COLUMNS]
    return rows.reshape(-1, codes.LAYER_COLUMNS)


@functools.cache
def load(dtype):
    """{name: kernel} for networks of one numpy dtype; each is compiled when it is first launched."""
    names = functions(dtype)
    names |= {"cuda": cuda, "number_type": from_dtype(dtype), "zero": dtype.type(0), "dtype": dtype,
              "load1": load1, "load2": load2, "load4": load4,
              "store1": store1, "store2": store2, "store4": store4}  # fmt: skip

    @kernel
    def clear(mem):
        """mem = 0."""
        at = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        while at < mem.size:
            mem[at] = 0
            at += cuda.gridDim.x * cuda.blockDim.x

    return {"clear": clear, **data.build(names), **losses.build(names), **dense.build(names)}


@program(parallel=False)
def draw_order(order, seed, stream):
    """The CPU's order of an epoch, drawn on the host: 1 ms for 100,000 samples, one after the other."""
    shuffle(order, seed, stream)


def over(count, size):
    """Blocks of ``size`` that ``count`` takes."""
    return -(-count // size)


def shape_for(itemsize, products):
    """The name of the largest tile that makes ENOUGH blocks of all (rows, columns) together."""
    for name in ("wide", "middle"):
        one = dense.TILES[itemsize][name]
        if sum(over(r, one.rows) * over(c, one.columns) for r, c in products) >= ENOUGH:
            return name
    return "small"


@contextmanager
def quiet():
    """Without numba's advice on the size of grids."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Grid size.*")
        yield


class Run:
    """One network on the GPU: its buffers, and its steps.

    params, slots: host arenas; plan: the host's table; work_size: elements of the plan's work arena;
    loss_numbers: the loss's own, for P_NUMBERS.
    """

    def __init__(self, params, slots, plan, work_size, loss_numbers):
        self.params, self.slots, self.plan = params, slots, plan
        self.kernels = load(params.dtype)
        size, item = params.size, params.dtype.itemsize
        layers = layer_rows(plan)
        self.layers = [(int(row[codes.L_IN]), int(row[codes.L_OUT])) for row in layers]
        frozen = layers[:, codes.L_FROZEN]
        self.trained = [shape for shape, out in zip(self.layers, frozen, strict=True) if not out]
        self.lowest = int(plan[codes.P_LOWEST])
        batch = self.batch = int(plan[codes.P_BATCH])
        self.forward = [shape_for(item, [(batch, o)]) for _, o in self.layers]
        self.backward = [shape_for(item, [(batch, i)]) for i, _ in self.layers]
        self.update = shape_for(item, self.trained)
        one = dense.TILES[item][self.update]
        self.tiles = sum(over(i, one.rows) * over(o, one.columns) for i, o in self.trained)
        self.parts = 1
        if self.update == "small" and self.tiles:
            self.parts = max(1, min(batch // PART, ENOUGH // self.tiles))
        self.work = size + slots.size
        self.spare = self.work + work_size
        total = self.spare + (self.parts * size if self.parts > 1 else 0)
        self.stream = cuda.stream()
        self.mem = data.allocate(total, params.dtype, "the network, its optimizer and a batch")
        self.kernels["clear"][min(over(total, 256), 1024) if not SIMULATED else 1, 256 if not SIMULATED
                              else 2, self.stream](self.mem)  # fmt: skip
        place = self.work + int(plan[codes.P_NUMBERS])
        given = np.array(loss_numbers, params.dtype)
        if given.size:
            self.mem[place : place + given.size].copy_to_device(given, stream=self.stream)
            self.stream.synchronize()
        self.table = data.allocate(DEVICE + plan.size, np.int64, "the plan")
        self.rates = np.empty(0)
        self.numbers = data.allocate(codes.NUMBERS, np.float64, "the sums")
        self.state, self.sums = np.zeros(DEVICE, np.int64), np.zeros(codes.NUMBERS)
        self.feed = None
        self.graphs = {}

    def bind(self, x, y, weight, out):
        """The data of the next passes; see data.Feed."""
        self.release()
        self.feed = data.feed(x, y, weight, out, self.params.dtype, self.batch, self.stream)

    def release(self):
        """Let go of the data, and of the graphs that hold its addresses."""
        self.feed, self.graphs = None, {}

    def upload(self, mode, hyper, number, stored=False):
        """Before a pass over the data: parameters, slots, plan and state, from the host.

        stored: gradients are to be had before the update, whether they are clipped or not.
        """
        refuse(self.plan, hyper)
        size = self.params.size
        self.mem[:size].copy_to_device(self.params, stream=self.stream)
        if self.slots.size and mode == codes.TRAIN:
            self.mem[size : self.work].copy_to_device(self.slots, stream=self.stream)
        plan = self.plan.copy()
        plan[list(PLACES)] += self.work
        layer_rows(plan)[:, list(LAYER_PLACES)] += self.work
        state = self.state
        self.feed.describe(state)
        state[codes.G_MODE], state[codes.G_NUMBER] = mode, number
        state[[codes.G_STEP, codes.G_HITS, codes.G_STOPPED]] = 0
        self.clips = mode == codes.TRAIN and hyper[codes.H_CLIP_NORM] > 0
        # where the gradient goes that is not used at once
        second = self.clips or stored
        self.aim = int(plan[codes.P_GRADIENT]) if second else size if mode == codes.GRADIENTS else 0
        state[codes.G_PARTS] = self.parts
        state[codes.G_STORE] = self.spare if self.parts > 1 else self.aim
        state[codes.G_RATED] = self.rates.size > 0
        self.table.copy_to_device(np.concatenate([state, plan]), stream=self.stream)
        self.sums[:] = 0
        self.hyper = np.array(hyper[: codes.HYPER])
        self.sums[: codes.HYPER], self.sums[codes.U_FACTOR] = self.hyper, 1.0
        self._send_numbers()
        self.stream.synchronize()  # the copies are from memory that may change now

    def _send_numbers(self):
        """hyper, sums and rates; in a larger array where there are more rates: graphs know the old one."""
        needed = codes.NUMBERS + self.rates.size
        if self.numbers.size < needed:
            self.graphs = {}
            self.numbers = data.allocate(needed, np.float64, "the rates of an epoch")
        self.numbers[:needed].copy_to_device(np.concatenate([self.sums, self.rates]), stream=self.stream)

    def set_hyper(self, hyper):
        """The optimizer's numbers for the steps that follow."""
        hyper = hyper[: codes.HYPER]
        if not np.array_equal(hyper, self.hyper):
            self.hyper[:] = hyper
            self.numbers[: codes.HYPER].copy_to_device(self.hyper, stream=self.stream)
            self.stream.synchronize()

    def exchange(self, gradient, change):
        """The gradient arena onto the host, ``change`` called, and back."""
        there = self.mem[self.aim : self.aim + gradient.size]
        there.copy_to_host(gradient, stream=self.stream)
        self.stream.synchronize()
        change()
        there.copy_to_device(gradient, stream=self.stream)
        self.stream.synchronize()

    def layer_rows(self, layer, rows):
        """(outputs, deltas) of a layer, each (rows, width), as the last step left them."""
        row = layer_rows(self.plan)[layer]
        width, ld = int(row[codes.L_OUT]), int(row[codes.L_LDA])
        found = []
        for place in (codes.L_A, codes.L_DELTA):
            start = self.work + int(row[place])
            block = self.mem[start : start + rows * ld].copy_to_host(stream=self.stream)
            self.stream.synchronize()
            found.append(block.reshape(rows, ld)[:, :width])
        return tuple(found)

    def download(self, mode):
        """After it: what a pass has changed, back on the host."""
        size = self.params.size
        self.feed.fetch(self.stream)
        if mode == codes.TRAIN:
            self.mem[:size].copy_to_host(self.params, stream=self.stream)
        if self.slots.size and mode in (codes.TRAIN, codes.GRADIENTS):
            self.mem[size : self.work].copy_to_host(self.slots, stream=self.stream)
        self.stream.synchronize()

    def read(self):
        """(steps done, loss sum, weight sum, right answers) since the pass began; waits for the GPU."""
        self.table[:DEVICE].copy_to_host(self.state, stream=self.stream)
        self.numbers[: codes.NUMBERS].copy_to_host(self.sums, stream=self.stream)
        self.stream.synchronize()
        sums = self.sums
        return int(self.state[codes.G_STEP]), sums[codes.U_LOSS], sums[codes.U_WEIGHT], int(
            self.state[codes.G_HITS]
        )  # fmt: skip

    def launches(self, mode):
        """[(kernel, grid, threads, arguments)] of a step."""
        k, mem, table, numbers, feed = self.kernels, self.mem, self.table, self.numbers, self.feed
        tiles, outputs = dense.TILES[self.params.dtype.itemsize], self.layers[-1][1]
        batch = min(self.batch, feed.samples)
        width = max(self.layers[0][0], int(self.state[codes.G_TARGETED]))
        found = [("gather", (batch, over(width, COLUMNS)), COLUMNS,
                  (feed.x, mem, table, feed.order, feed.y, feed.weight))]  # fmt: skip
        for i, (_, o) in enumerate(self.layers):
            one = tiles[self.forward[i]]
            grid = over(batch, one.rows), over(o, one.columns)  # y ends at 65,535, x does not
            found.append((f"dense_forward_{self.forward[i]}", grid, one.threads, (mem, table, i)))
        rows = over(batch, losses.THREADS // losses.lanes(outputs))
        if mode in (codes.PREDICT, codes.FORWARD):
            found.append(("link", rows, losses.THREADS, (feed.out, mem, table)))
            found.append(("next_step", 1, 1, (table,)))
        else:
            found.append(("loss", rows, losses.THREADS, (mem, table)))
            found.append(("close_loss", 1, losses.THREADS, (mem, table, numbers)))
        if mode in (codes.TRAIN, codes.GRADIENTS):
            for i in range(len(self.layers) - 1, self.lowest, -1):
                one = tiles[self.backward[i]]
                grid = over(batch, one.rows), over(self.layers[i][0], one.columns)
                found.append((f"dense_backward_{self.backward[i]}", grid, one.threads, (mem, table, i)))
            grid = self.tiles, self.parts
            found.append((f"dense_update_{self.update}", grid, tiles[self.update].threads, (mem, table)))
            size = self.params.size
            grid = min(over(size, dense.THREADS), 1024 if not SIMULATED else 2)
            if self.parts > 1:
                arguments = (mem, table, numbers, self.spare, self.parts, self.aim)
                found.append(("apply", grid, dense.THREADS, arguments))
        return [(k[name], grid, threads, arguments) for name, grid, threads, arguments in found]

    def second(self):
        """[(kernel, grid, threads, arguments)] of the second path: clip, and update, from the gradients."""
        if self.aim <= self.params.size:  # none, or only wanted
            return []
        k, mem, table, numbers, size = self.kernels, self.mem, self.table, self.numbers, self.params.size
        found = []
        if self.clips:
            found.append((k["square_norm"], over(size, codes.BLOCK), dense.THREADS, (mem, table)))
            found.append((k["clip"], 1, 1, (mem, table, numbers)))
        grid = min(over(size, dense.THREADS), 1024 if not SIMULATED else 2)
        return [*found, (k["apply"], grid, dense.THREADS, (mem, table, numbers, self.aim, 1, 0))]

    FIRST, SECOND = 1, 2  # up to the gradients, and from them on

    def launch(self, mode, first, count, path=FIRST + SECOND):
        """Launch steps [first, first + count), or one half of each; returns before they are done."""
        if path == self.SECOND:
            with quiet():
                self._launch(mode, count, path)
            return
        with quiet():  # a grid of few blocks is what a small network takes
            for piece in self.feed.pieces(first, count, self):
                self._launch(mode, piece, path)

    def _launch(self, mode, count, path):
        launches = (self.launches(mode) if path & self.FIRST else []) + (
            self.second() if path & self.SECOND else []
        )

        def step(stream):
            for function, grid, threads, arguments in launches:
                function[grid, threads, stream](*arguments)

        key = mode, self.aim, self.clips, path, self.feed.key
        if key not in self.graphs:  # the first step compiles what is new, which no graph may
            step(self.stream)
            self.stream.synchronize()
            count -= 1
            self.graphs[key] = record(lambda s: [step(s) for _ in range(REPLAYED)]) if count else None
            if not count:
                del self.graphs[key]  # a graph for a single step would not pay
        replay = self.graphs.get(key)
        while replay is not None and count >= REPLAYED:
            replay(self.stream)
            count -= REPLAYED
        for _ in range(count):
            step(self.stream)
