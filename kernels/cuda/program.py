"""A step on the GPU: its launches, over one arena and one table in device memory.

    gather -> forward, layer by layer -> loss and delta -> the sum of the loss, the update's constants
    -> delta back, layer by layer -> all weight tiles at once, the update in their epilogue

Layers with a norm, dropout or a skip, embeddings, and updates that are limited, accumulated or averaged
have launches of their own (layers.py, norms.py, embeddings.py, updates.py); others have none of these.

Every number that changes from step to step lies in the table (codes.G_...) or in ``numbers``, and the
kernels move it on themselves, so that all steps launch the same and a run of them is one CUDA graph.
The arena: parameters, slots, the work arena of the plan, then what plan.Layout adds.
"""

import functools
import signal
import threading
import warnings
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from numba import from_dtype

from .. import codes
from ..codes import DEVICE
from ..jit import program
from ..random import shuffle
from . import custom, data, dense, embeddings, folds, layers, losses, measure, norms, updates
from .device import SIMULATED, cuda, kernel, load1, load2, load4, store1, store2, store4
from .graph import record
from .plan import Layout, embedding_rows, layer_rows, refuse
from .scalar import functions

# A grid of fewer blocks leaves processors idle: then smaller tiles, then parts of the batch. Not the
# card's own number of processors: the same bits on every card.
ENOUGH = 4 if SIMULATED else 96
PART = 8 if SIMULATED else 256  # rows of a part of the batch at least
LONGEST = 40 if SIMULATED else 4096  # and at most: a thread adds them up one by one
REPLAYED = 16  # steps of a graph; what is left of a window goes by graphs of one step
KNOWN_UPDATES = 4096  # updates whose constants have room on the device at first
FEWEST_RECORDED = 4  # steps that are worth recording such a one
GATHER_THREADS = 4 if SIMULATED else 128  # threads of a gathering block
LAYER_THREADS = 4 if SIMULATED else 128  # of a block that goes once over layers or columns
PASS_BLOCKS = 2 if SIMULATED else 1024  # at most, of a pass over everything


@functools.cache
def namespace(dtype):
    """Everything that the kernels of one numpy dtype call."""
    names = functions(dtype)
    names |= {"cuda": cuda, "number_type": from_dtype(dtype), "zero": dtype.type(0), "dtype": dtype,
              "load1": load1, "load2": load2, "load4": load4,
              "store1": store1, "store2": store2, "store4": store4}  # fmt: skip

    updates.constants(names)
    return names


@functools.cache
def load(dtype):
    """{name: kernel} for networks of one numpy dtype; each is compiled when it is first launched."""
    names = namespace(dtype)

    @kernel
    def clear(mem):
        """mem = 0."""
        at = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        while at < mem.size:
            mem[at] = 0
            at += cuda.gridDim.x * cuda.blockDim.x

    kernels = {"clear": clear}
    for part in (data, losses, dense, updates, layers, norms, embeddings, measure):
        kernels |= part.build(names)
    return kernels


@program(parallel=False)
def draw_order(order, seed, stream):
    """The CPU's order of an epoch, drawn on the host: 1 ms for 100,000 samples, one after the other."""
    shuffle(order, seed, stream)


def first_bad(array, dtype):
    """Place, row by row, of the first number of an array on the device that is not finite in dtype, or None.

    array: (N, n), see data.view.
    """
    x, (rows, columns) = data.view(array), array.shape
    found = cuda.to_device(np.full(1, np.iinfo(np.int64).max))
    with quiet():
        find = load(np.dtype(dtype))["find_bad"][passes(rows * columns)]
        find(x.numbers, found, rows, columns, *x.strides)
    place = int(found.copy_to_host()[0])
    return None if place == np.iinfo(np.int64).max else place


def over(count, size):
    """Blocks of ``size`` that ``count`` takes."""
    return -(-count // size)


def passes(count):
    """(blocks, threads) of a pass over ``count`` numbers."""
    return min(over(count, updates.PASS_THREADS), PASS_BLOCKS), updates.PASS_THREADS


def blocks_of(itemsize, name, products):
    """Blocks that tiles of this name make of all (rows, columns) together."""
    one = dense.TILES[itemsize][name]
    return sum(over(r, one.rows) * over(c, one.columns) for r, c in products)


def shape_for(itemsize, products):
    """The name of the largest tile that makes ENOUGH blocks of all (rows, columns) together."""
    for name in ("wide", "middle"):
        if blocks_of(itemsize, name, products) >= ENOUGH:
            return name
    return "small"


def why(itemsize, launch):
    """Why a launch has the tile that ``shape_for`` takes, in words; of one without a tile nothing."""
    products = launch.products
    if not products:
        return ""
    taken, parts = shape_for(itemsize, products), launch.grid[1] if launch.layer is None else 1
    tile = dense.TILES[itemsize][taken]
    counts = {name: blocks_of(itemsize, name, products) for name in ("wide", "middle", "small")}
    text = f"{taken} {tile.rows} x {tile.columns}: {counts[taken]} blocks"
    if taken != "small":
        return f"{text}, {ENOUGH} or more"
    text += f"; middle would make {counts['middle']}, below {ENOUGH}"
    return text if parts == 1 else f"{text}, so the batch is in {parts} parts"


def tiles(dtype):
    """The tiles of a dtype, in words."""
    shapes = dense.TILES[dtype.itemsize].items()
    return ", ".join(f"{name} {one.rows} x {one.columns}" for name, one in shapes) + f" {dtype.name}"


def ceilings(dtype):
    """(GFLOP/s of multiply-adds, GB/s of a copy) that this card reaches."""
    with quiet():
        return measure.ceilings(load(dtype), dtype, data.allocate)


class PassOptions(NamedTuple):
    """What a pass asks for beside the plain step: each launches something, so a graph knows it."""

    mode: int
    drops: bool
    clips: bool
    per_layer: bool
    limits: bool
    averages: bool


class Launch(NamedTuple):
    """A launch of a step. layer: whose, or None; products: (rows, columns) that its tile was chosen by."""

    name: str
    grid: object
    threads: int
    arguments: tuple
    layer: int = None
    products: tuple = ()


@contextmanager
def quiet():
    """Without numba's advice on the size of grids."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Grid size.*")
        yield


@contextmanager
def whole_steps():
    """Ctrl-C waits until all is launched: half a step would be counted, its update missing.

    A second one does not wait, should a compiler be at work.
    """
    before, pressed = signal.getsignal(signal.SIGINT), []
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield  # nobody hears it
        return

    def note(*signal_and_frame):
        pressed.append(signal_and_frame)
        if len(pressed) > 1:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        before(*pressed[0])


class Run:
    """One network on the GPU: its buffers, and its steps.

    params, slots: host arenas; plan: the host's table; work_size: elements of the plan's work arena;
    loss_numbers: the loss's own, for P_NUMBERS; users: {code: definition} of the user's own functions.
    """

    def __init__(self, params, slots, plan, work_size, loss_numbers, users):
        self.params, self.slots, self.plan = params, slots, plan
        self.kernels = dict(load(params.dtype))
        for code, text in users.items():
            self.kernels[f"user_{code}"] = custom.kernel_of(text, params.dtype, namespace)
        size, item = params.size, params.dtype.itemsize
        rows = layer_rows(plan)
        self.layers = [(int(row[codes.L_FAN_IN]), int(row[codes.L_FAN_OUT])) for row in rows]
        self.late_codes = np.maximum(rows[:, codes.L_ACTIVATION], rows[:, codes.L_LATE]).tolist()
        self.normed = [int(norm) for norm in rows[:, codes.L_NORM]]
        self.trains = [not frozen for frozen in rows[:, codes.L_FROZEN]]
        trained = [shape for shape, trains in zip(self.layers, self.trains, strict=True) if trains]
        self.trained = trained
        self.embedded = [(int(e[codes.E_CATEGORIES]), int(e[codes.E_WIDTH])) for e in embedding_rows(plan)]
        self.lowest = int(plan[codes.P_LOWEST])
        batch = self.batch = int(plan[codes.P_BATCH])
        self.forward = [shape_for(item, [(batch, o)]) for _, o in self.layers]
        self.backward = [shape_for(item, [(batch, i)]) for i, _ in self.layers]
        self.update = shape_for(item, trained)
        one = dense.TILES[item][self.update]
        self.tiles = sum(over(i, one.rows) * over(o, one.columns) for i, o in trained)
        self.parts = 1
        if self.tiles:
            few = min(batch // PART, ENOUGH // self.tiles) if self.update == "small" else 1
            self.parts = min(max(few, over(batch, LONGEST)), 65535)  # where y ends
        # an int, as all that follows from it: a launch takes no number of numpy's
        self.layout = Layout(plan, size, slots.size, int(work_size))
        self.work, self.spare = self.layout.work, self.layout.spare
        total = self.spare + (self.parts * size if self.parts > 1 else 0)
        self.stream = cuda.stream()
        self.mem = data.allocate(total, params.dtype, "the network, its optimizer and a batch")
        with quiet():
            self.kernels["clear"][(*passes(total), self.stream)](self.mem)
        place = self.work + int(plan[codes.P_NUMBERS])
        given = np.array(loss_numbers, params.dtype)
        if given.size:
            self.mem[place : place + given.size].copy_to_device(given, stream=self.stream)
            self.stream.synchronize()
        self.table = data.allocate(DEVICE + self.layout.table(plan).size, np.int64, "the plan")
        self.seed = 0
        self.numbers = self._numbers(KNOWN_UPDATES)
        self.state, self.sums = np.zeros(DEVICE, np.int64), np.zeros(codes.NUMBERS)
        self.feed = None
        self.graphs = {}  # {what a step launches, all of it compiled: {steps: a graph of so many}}

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
        size, trains = self.params.size, mode == codes.TRAIN
        self.mem[:size].copy_to_device(self.params, stream=self.stream)
        if self.slots.size and trains:
            self.mem[size : self.work].copy_to_device(self.slots, stream=self.stream)
        plan, state = self.layout.table(self.plan), self.state
        self.feed.describe(state)
        state[codes.G_MODE], state[codes.G_NUMBER], state[codes.G_SEED] = mode, number, self.seed
        state[[codes.G_STEP, codes.G_HITS, codes.G_STOPPED, codes.G_BROKEN, codes.G_PART]] = 0
        every = max(1, int(hyper[codes.H_ACCUMULATE])) if trains else 1
        state[codes.G_EVERY], state[codes.G_UPDATES], state[codes.G_KEEPS] = every, 1, codes.STORE
        asks = [codes.H_CLIP_NORM, codes.H_CLIP_LAYER, codes.H_PER_LAYER, codes.H_MAX_NORM]
        norm, layer, *rest = ((hyper[asks] > 0) & trains).tolist()
        average = plan[codes.P_SLOTS] > codes.SLOTS[int(plan[codes.P_OPTIMIZER])]
        drops = trains or (mode in (codes.PREDICT, codes.FORWARD) and number > 0)
        self.options = PassOptions(mode, drops, norm or layer, *rest, bool(average) and trains)
        state[codes.G_APART] = codes.CONSTANTS * self.options.per_layer
        # where a gradient is kept that is not used at once
        second = self.options.clips or stored or every > 1
        self.kept_at = int(plan[codes.P_GRADIENT]) if second else size if mode == codes.GRADIENTS else 0
        state[codes.G_PARTS] = self.parts
        state[codes.G_STORE] = self.spare if self.parts > 1 else self.kept_at
        whole = np.concatenate([state, plan])
        self.table.copy_to_device(whole, stream=self.stream)
        self.sums[:], self.sums[codes.U_FACTOR], self.hyper = 0, 1.0, None
        self.numbers[: codes.NUMBERS].copy_to_device(self.sums, stream=self.stream)
        self.tell(hyper)

    def _numbers(self, updates):
        """Room on the device for hyper, sums, factors and the constants of so many updates."""
        size = codes.NUMBERS + len(self.layers) + codes.CONSTANTS * updates
        return data.allocate(size, np.float64, "the constants of updates")

    def tell(self, hyper, window=None):
        """Send what the next steps read: the options' numbers, and, as Updates.window has them, the first
        update and the constants. Waits for all copies under way: their memory may change or go then.
        """
        if self.hyper is None or not np.array_equal(hyper, self.hyper):
            self.hyper = np.array(hyper)
            self._send(0, self.hyper[: codes.HYPER])
        factors = self.hyper[codes.HYPER :]
        if window is not None:
            first, table = window
            start = codes.NUMBERS + len(self.layers)
            if self.numbers.size < start + table.size:  # a larger array: graphs know the old one
                self.graphs, old = {}, self.numbers[:start].copy_to_host(stream=self.stream)
                self.stream.synchronize()
                self.numbers = self._numbers(2 * len(table))
                self._send(0, old)
            content = np.concatenate([np.zeros(start - codes.U_FIRST), table.ravel()])
            content[0], content[codes.NUMBERS - codes.U_FIRST :][: len(self.layers)] = first, factors
            self._send(codes.U_FIRST, content)
        self.stream.synchronize()

    def _send(self, place, content):
        self.numbers[place : place + content.size].copy_to_device(content, stream=self.stream)

    def exchange(self, gradient, change):
        """The gradient arena and the parameters onto the host, ``change`` called, which may look at both, and
        back."""
        there = self.mem[self.kept_at : self.kept_at + gradient.size], self.mem[: self.params.size]
        for device, host in zip(there, (gradient, self.params), strict=True):
            device.copy_to_host(host, stream=self.stream)
        self.stream.synchronize()
        change()
        for device, host in zip(there, (gradient, self.params), strict=True):
            device.copy_to_device(host, stream=self.stream)
        self.stream.synchronize()

    def layer_rows(self, layer, rows):
        """(outputs, deltas) of a layer, each (rows, width), as the last step left them."""
        row = layer_rows(self.plan)[layer]
        width, ld = int(row[codes.L_FAN_OUT]), int(row[codes.L_LDA])
        found = []
        for place in (codes.L_A, codes.L_DELTA):
            start = self.work + int(row[place])
            block = self.mem[start : start + rows * ld].copy_to_host(stream=self.stream)
            self.stream.synchronize()
            found.append(block.reshape(rows, ld)[:, :width])
        return tuple(found)

    def input_rows(self, rows):
        """The gradient of the inputs, (rows, their number), as the last step left it."""
        start, ld = self.work + int(self.plan[codes.P_DX]), int(self.plan[codes.P_LDDX])
        block = self.mem[start : start + rows * ld].copy_to_host(stream=self.stream)
        self.stream.synchronize()
        return block.reshape(rows, ld)[:, : self.layers[0][0] - int(self.plan[codes.P_SOUGHT])]

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
        """(steps done, loss sum, weight sum, right answers) since the pass began; waits for the GPU.

        A step that has met or made numbers that are not finite is not counted.
        """
        self.table[:DEVICE].copy_to_host(self.state, stream=self.stream)
        self.numbers[: codes.NUMBERS].copy_to_host(self.sums, stream=self.stream)
        self.stream.synchronize()
        state, sums = self.state, self.sums
        steps = int(state[codes.G_STEP] - state[codes.G_BROKEN])
        return steps, sums[codes.U_LOSS], sums[codes.U_WEIGHT], int(state[codes.G_HITS])

    def first(self):
        """[Launch] of a step, up to the gradients or the update from them."""
        mode, mem, table, numbers, feed = self.options.mode, self.mem, self.table, self.numbers, self.feed
        tiles, outputs = dense.TILES[self.params.dtype.itemsize], self.layers[-1][1]
        batch = min(self.batch, feed.samples)
        inputs = over(self.layers[0][0], GATHER_THREADS)
        found = []

        def add(name, grid, threads, *arguments, layer=None, products=()):
            found.append(Launch(name, grid, threads, arguments, layer, products))

        def product(kind, shape, columns, number):
            one = tiles[shape]
            grid = over(batch, one.rows), over(columns, one.columns)  # y ends at 65,535, x does not
            layer = 0 if number == self.layout.inputs else number
            add(f"{kind}_{shape}", grid, one.threads, mem, table, number, layer=layer,
                products=((self.batch, columns),))  # fmt: skip

        def by_rows(name, number):
            grid = over(batch, folds.ROW_THREADS // folds.lanes(self.layers[number][1]))
            add(name, grid, folds.ROW_THREADS, mem, table, number, layer=number)

        def by_columns(name, number):
            grid = over(self.layers[number][1], folds.PATCH_COLUMNS)
            add(name, grid, folds.PATCH, mem, table, number, layer=number)

        given = feed.x, mem, table, feed.order, feed.y, feed.weight
        if self.embedded:
            add("gather_mixed", batch, embeddings.NUMBER_THREADS, *given)
        else:
            width = max(self.layers[0][0], int(self.state[codes.G_TARGETED]))
            add("gather", (batch, over(width, GATHER_THREADS)), GATHER_THREADS, *given)
        drops = self.options.drops and self.plan[codes.P_DROPOUT] > 0
        if drops:
            add("drop_inputs", (batch, inputs), GATHER_THREADS, mem, table)
        for i, (_, o) in enumerate(self.layers):
            product("dense_forward", self.forward[i], o, i)
            if self.normed[i] == codes.BATCH_NORM:
                by_columns("batch_statistics", i)
            if self.layout.late[i]:
                by_rows(self._named("finish_layer", self.late_codes[i]), i)
        if self.plan[codes.P_OFFSETS]:
            add("add_offsets", (batch, over(outputs, GATHER_THREADS)), GATHER_THREADS, mem, table)
        rows = over(batch, folds.ROW_THREADS // folds.lanes(outputs))
        if mode in (codes.PREDICT, codes.FORWARD):
            add("link", rows, folds.ROW_THREADS, feed.out, mem, table)
            add("next_step", 1, 1, table)
        else:
            add(self._named("loss", self.plan[codes.P_LOSS]), rows, folds.ROW_THREADS, mem, table)
            add("close_loss", 1, folds.ROW_THREADS, mem, table, numbers)
        if self.options.per_layer:
            add(
                "layer_constants",
                over(2 * len(self.layers), LAYER_THREADS),
                LAYER_THREADS,
                mem,
                table,
                numbers,
            )
        if mode not in (codes.TRAIN, codes.GRADIENTS):
            return found
        for i in range(len(self.layers) - 1, self.lowest, -1):
            product("dense_backward", self.backward[i], self.layers[i][0], i)
            if self.layout.late[i - 1]:
                by_rows("finish_delta", i - 1)
            if self.normed[i - 1] == codes.BATCH_NORM:
                by_columns("batch_norm_backward", i - 1)
        width = self.layers[0][0] - int(self.plan[codes.P_SOUGHT])
        if width:  # before the update changes W
            shape = shape_for(self.params.dtype.itemsize, [(self.batch, width)])
            product("dense_backward", shape, width, self.layout.inputs)
            if drops or layer_rows(self.plan)[0, codes.L_SKIP]:
                add("finish_inputs", (batch, over(width, GATHER_THREADS)), GATHER_THREADS, mem, table)
        if self.tiles:  # none where all layers are frozen: no grid is empty
            grid, threads = (self.tiles, self.parts), tiles[self.update].threads
            add(f"dense_update_{self.update}", grid, threads, mem, table, products=tuple(self.trained))
        for i, norm in enumerate(self.normed):
            if self.trains[i] and (norm or self.late_codes[i] == codes.PRELU):
                by_columns("vector_update", i)
        if self.embedded and self.trains[0]:
            most = max(c * w for c, w in self.embedded)
            grid = over(most, embeddings.NUMBER_THREADS), len(self.embedded)
            add("embedding_update", grid, embeddings.NUMBER_THREADS, mem, table)
        if self.parts > 1:
            add(
                "apply",
                *passes(self.params.size),
                mem,
                table,
                numbers,
                self.spare,
                self.parts,
                self.kept_at,
            )
        return found

    @staticmethod
    def _named(name, code):
        """The kernel of this name, or the user's."""
        return name if code < codes.USER else f"user_{code}"

    def second(self):
        """[Launch] of the rest: clip and update, from the gradients, where they are kept; what follows an
        update."""
        mem, table, numbers, found = self.mem, self.table, self.numbers, []

        def add(name, grid, threads, *arguments):
            found.append(Launch(name, grid, threads, arguments))

        if self.options.mode != codes.TRAIN:
            return found
        if self.options.clips:
            add("square_norm", self.layout.blocks, updates.PASS_THREADS, mem, table)
            add("clip", 1, updates.PASS_THREADS, mem, table, numbers)
        if self.kept_at:
            add("apply", *passes(self.params.size), mem, table, numbers, self.kept_at, 1, 0)
        widest = max(o for _, o in self.layers)
        grid = over(widest, folds.PATCH_COLUMNS), len(self.layers)
        if self.options.limits:
            add("constrain", grid, folds.PATCH, mem, table, numbers)
        if self.options.averages:
            add("average", *passes(self.params.size), mem, table)
        if self.plan[codes.P_MEETS]:
            add("track_running", (over(widest, LAYER_THREADS), len(self.layers)), LAYER_THREADS, mem, table)
        return found

    FIRST, SECOND = 1, 2  # up to the gradients, and from them on

    def launch(self, first, count, path=FIRST + SECOND):
        """Launch steps [first, first + count), or one half of each; returns before they are done."""
        with quiet():  # a grid of few blocks is what a small network takes
            if path == self.SECOND:
                self._launch(count, path)
                return
            for piece in self.feed.pieces(first, count, self):
                self._launch(piece, path)

    def _launch(self, count, path):
        with whole_steps():
            self._launch_whole(count, path)

    def _launch_whole(self, count, path):
        launches = (self.first() if path & self.FIRST else []) + (self.second() if path & self.SECOND else [])

        def step(stream):
            for one in launches:
                self.kernels[one.name][one.grid, one.threads, stream](*one.arguments)

        key = self.options, self.kept_at, path, self.feed.key
        if key not in self.graphs:  # the first step compiles what is new, which no graph may
            step(self.stream)
            self.stream.synchronize()
            count -= 1
            self.graphs[key] = {}
        graphs = self.graphs[key]
        for size, fewest in ((REPLAYED, REPLAYED), (1, FEWEST_RECORDED)):
            if count >= fewest and size not in graphs:  # one that nobody replays would not pay
                graphs[size] = record(lambda s, size=size: [step(s) for _ in range(size)])
            replay = graphs.get(size)
            while replay is not None and count >= size:
                replay(self.stream)
                count -= size
        for _ in range(count):
            step(self.stream)

    def pace(self, steps):
        """Seconds of a step, launched as ever, in graphs where they pay; from step 0 on."""
        start = measure.mark(self.stream)
        self.launch(0, steps)
        end = measure.mark(self.stream)
        self.stream.synchronize()
        return measure.between(start, end) / steps

    def timed(self, steps):
        """[(Launch, seconds of each step)]: steps from 0 on, launch by launch, a mark after each.

        A step waits behind ``hold`` until all of it is launched: a kernel of some microseconds would
        otherwise be timed with the host's time to launch it.
        """
        held, spans, launches = data.allocate(1, np.float64, "a number"), [], []
        with quiet():
            for step in range(steps):
                for _ in self.feed.pieces(step, 1, self):
                    launches = self.first() + self.second()
                    self.kernels["hold"][1, 1, self.stream](held, measure.TURNS * len(launches))
                    marks = [measure.mark(self.stream)]
                    for one in launches:
                        self.kernels[one.name][one.grid, one.threads, self.stream](*one.arguments)
                        marks.append(measure.mark(self.stream))
                    self.stream.synchronize()
                    spans.append(list(map(measure.between, marks[:-1], marks[1:])))
        return list(zip(launches, zip(*spans, strict=True), strict=True))
