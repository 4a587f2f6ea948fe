"""Rows of the data into the batch's floats."""

from types import SimpleNamespace

import numpy as np

from .. import codes
from ..codes import DEVICE
from .device import SIMULATED, at_address, cuda, device, kernel


@device
def begin_step(table, order, row, tid):
    """(rows of step G_STEP, the sample of this row); the first thread of all writes the step's numbers."""
    step = table[codes.G_STEP]
    start = step * table[DEVICE + codes.P_BATCH]
    rows = min(table[DEVICE + codes.P_BATCH], table[codes.G_SAMPLES] - start)
    if row == 0 and tid == 0:
        every = table[codes.G_EVERY]
        table[codes.G_ROWS] = rows
        number, drops = table[codes.G_NUMBER], 0
        if table[codes.G_MODE] == codes.TRAIN:
            drops = number * every + step % every + 1
        elif table[codes.G_MODE] >= codes.PREDICT and number > 0:
            drops = number + step
        table[codes.G_DROPS] = drops
    sample = start + row - table[codes.G_FIRST]
    if row < rows and table[codes.G_ORDERED] != 0:
        sample = np.int64(order[sample])
    return rows, sample


@device
def fetch_target(mem, table, y, weight, sample, row, column):
    """A row's target number ``column``, and, with the first one, its weight."""
    if column < table[codes.G_TARGETED]:
        place = table[DEVICE + codes.P_TARGET] + row * table[DEVICE + codes.P_LDT] + column
        mem[place] = y[sample * table[codes.G_TARGETED] + column]
    if column == 0 and table[codes.G_WEIGHTED] != 0:
        mem[table[DEVICE + codes.P_ROWSCALE] + row] = weight[sample]


def build(names):
    """{name: kernel} for a namespace of scalar.functions."""
    real, zero = names["real"], names["zero"]

    @kernel
    def gather(x, mem, table, order, y, weight):
        """The rows of step G_STEP, converted: inputs, targets, weights. A block a row and 128 columns.

        x: flat, any dtype, its strides in the table; y (N * targets,), weight (N,): in mem's dtype.
        To predict, what is not finite is counted in G_HITS.
        Compiled for each dtype of x, as gather_mixed: these kernels alone, since addresses have types.
        """
        row, column = cuda.blockIdx.x, cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
        rows, sample = begin_step(table, order, row, column)
        if row >= rows:
            return
        if column < table[DEVICE + codes.P_INPUTS]:
            place = table[DEVICE + codes.P_X] + row * table[DEVICE + codes.P_LDX] + column
            number = real(x[sample * table[codes.G_X_ROW] + column * table[codes.G_X_COL]])
            mem[place] = number
            if number - number != zero and table[codes.G_MODE] >= codes.PREDICT:
                cuda.atomic.add(table, codes.G_HITS, 1)
        fetch_target(mem, table, y, weight, sample, row, column)

    @kernel
    def find_bad(x, found, rows, columns, row_step, column_step):
        """found[0] = place, row by row, of the first number that is not finite in the network's dtype."""
        at = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        while at < rows * columns:
            number = real(x[at // columns * row_step + at % columns * column_step])
            if number - number != zero:
                cuda.atomic.min(found, 0, at)
            at += cuda.gridDim.x * cuda.blockDim.x

    return {"gather": gather, "find_bad": find_bad}


def allocate(size, dtype, what):
    """An array of ``size`` elements on the device. Raises MemoryError that says what did not fit."""
    needed = int(size) * np.dtype(dtype).itemsize
    try:
        return cuda.device_array(int(size), dtype)
    except Exception as error:
        if "OUT_OF_MEMORY" not in str(error).upper().replace(" ", "_"):
            raise
        free, total = cuda.current_context().get_memory_info()
        raise MemoryError(
            f"device memory: {what} takes {needed / 1e6:,.0f} MB, of {total / 1e6:,.0f} MB "
            f"{free / 1e6:,.0f} MB are free: takes a smaller batch_size or network, or data of a smaller "
            "dtype (uint8 stays uint8)"
        ) from error


def keep(x):
    """A copy of an array (N, n) on the device, to be read by many; None where there is no room."""
    x = np.ascontiguousarray(x)
    if SIMULATED:  # whose device is this process's memory
        return SimpleNamespace(array=x, __cuda_array_interface__=x.__array_interface__)
    return cuda.to_device(x) if x.nbytes <= room() else None


class View:
    """An array that lies on the device: (N, n), its memory as one array, its strides in elements."""

    def __init__(self, numbers, shape, strides):
        self.numbers, self.shape, self.strides = numbers, shape, strides

    def __len__(self):
        return self.shape[0]


def view(array):
    """The View of what has pointer, shape, strides in bytes, dtype, span, owner and stream: not a copy."""
    kind = np.dtype(np.uint8) if array.dtype.kind == "b" else array.dtype
    strides = tuple(s // kind.itemsize for s in array.strides)
    return View(at_address(array.pointer, array.span, kind, array.owner, array.stream), array.shape, strides)


def flat(x):
    """(the numbers of a 2-D array one after the other, strides in elements); no copy if contiguous."""
    if isinstance(x, View):
        return x.numbers, x.strides
    if x.dtype.kind == "b":
        x = x.view(np.uint8)
    if x.flags["F_CONTIGUOUS"] and not x.flags["C_CONTIGUOUS"]:
        return x.T.reshape(-1), (1, x.shape[0])
    return np.ascontiguousarray(x).reshape(-1), (x.shape[1], 1)


class Feed:
    """The data of a pass, all of it on the device: moved once, in its own dtype."""

    key = 0

    def __init__(self, x, y, weight, out, dtype, stream):
        self.host = x, y, weight, out
        self.samples = len(x)
        values, self.strides = flat(x)
        self.x = moved(values, stream, "X")
        self.targets = 0 if y is None else y.shape[1]
        nothing = np.zeros(1, dtype)
        self.y = moved(nothing if y is None else np.ascontiguousarray(y, dtype).reshape(-1), stream, "y")
        self.weight = moved(nothing if weight is None else weight, stream, "sample_weight")
        self.weighted = weight is not None
        self.out = allocate(out.size, dtype, "the predictions") if isinstance(out, np.ndarray) else out
        self.order = moved(np.zeros(1, np.int32), stream, "the order")
        self.ordered = 0
        stream.synchronize()

    def shuffled(self, order, stream):
        """Take the samples in this order, (N,) int32."""
        if self.order.size != order.size:
            self.order = allocate(order.size, np.int32, "the order")
            self.key += 1  # a graph holds the old one's address
        self.order.copy_to_device(order, stream=stream)
        stream.synchronize()
        self.ordered = 1

    def describe(self, state):
        """Into the table's state: how the gather finds its numbers."""
        state[codes.G_SAMPLES], state[codes.G_FIRST], state[codes.G_ORDERED] = self.samples, 0, self.ordered
        state[codes.G_X_ROW], state[codes.G_X_COL] = self.strides
        state[codes.G_TARGETED], state[codes.G_WEIGHTED] = self.targets, self.weighted

    def pieces(self, first, count, run):
        """Numbers of steps that can be launched one after the other, ``count`` together."""
        yield count

    def fetch(self, stream):
        """The predictions, into the host's array if they are wanted there."""
        if isinstance(self.host[3], np.ndarray):
            there = self.out.copy_to_host(stream=stream)
            stream.synchronize()
            self.host[3][:] = there.reshape(self.host[3].shape)


def moved(array, stream, what):
    """A host array on the device; one that is there already as it is."""
    if not isinstance(array, np.ndarray):
        return array
    there = allocate(array.size, array.dtype, what)
    there.copy_to_device(array, stream=stream)
    return there


class Streamed:
    """The data of a pass that does not fit, or is no array (sparse rows, shards): pieces of it, gathered by
    the host, on two buffers in turn.

    While the steps of one piece run, the next is gathered into memory that the driver has pinned and
    copied on a stream of its own. A piece comes in the order of the epoch already.
    """

    out, ordered = None, 0

    def __init__(self, x, y, weight, dtype, batch, stream):
        self.host = x, y, weight
        kind = np.dtype(np.uint8) if x.dtype.kind == "b" else x.dtype
        kind = kind if (kind.kind, kind.itemsize) in codes.DTYPES else np.dtype(np.float64)
        self.samples, self.batch = len(x), batch
        self.targets, self.weighted = 0 if y is None else y.shape[1], weight is not None
        bytes_a_row = x.shape[1] * kind.itemsize
        self.steps = max(1, PIECE // (batch * bytes_a_row))  # of a piece
        rows = min(len(x), self.steps * batch)
        self.order = allocate(1, np.int32, "the order")  # which is the pieces' own
        self.rows, self.key = None, 0
        shapes = [((rows, x.shape[1]), kind), ((rows, max(1, self.targets)), dtype),
                  ((rows,), dtype), ((1,), np.int64)]  # fmt: skip
        self.pinned = [[cuda.pinned_array(shape, kind) for shape, kind in shapes] for _ in range(2)]
        self.there = [[allocate(np.prod(shape), kind, "two pieces of the data") for shape, kind in shapes[:3]]
                      for _ in range(2)]  # fmt: skip
        self.copies, self.done = cuda.stream(), [cuda.event(), cuda.event()]
        self.x, self.y, self.weight = self.there[0]
        for event in self.done:
            event.record(stream)

    def shuffled(self, order, stream):
        """Take the samples in this order, (N,) int32."""
        self.rows = order

    def describe(self, state):
        """Into the table's state: how the gather finds its numbers."""
        state[codes.G_SAMPLES], state[codes.G_FIRST], state[codes.G_ORDERED] = self.samples, 0, 0
        state[codes.G_X_ROW], state[codes.G_X_COL] = self.host[0].shape[1], 1
        state[codes.G_TARGETED], state[codes.G_WEIGHTED] = self.targets, self.weighted

    def pieces(self, first, count, run):
        """Numbers of steps that can be launched one after the other, ``count`` together."""
        while count:
            steps = min(count, self.steps)
            start, last = first * self.batch, min(self.samples, (first + steps) * self.batch)
            self._bring(start, last, run)
            yield steps
            self.done[self.key].record(run.stream)
            self.key = 1 - self.key
            first, count = first + steps, count - steps

    def _bring(self, start, last, run):
        slot, count = self.key, last - start
        self.done[slot].synchronize()  # the steps that read this buffer are done
        rows = np.arange(start, last) if self.rows is None else self.rows[start:last]
        x, y, weight, first = self.pinned[slot]
        for values, buffer in zip(self.host, (x, y, weight), strict=True):
            if values is not None:
                buffer[:count] = np.asarray(values[rows])
        first[0] = start
        for buffer, there in zip((x, y, weight), self.there[slot], strict=True):
            there.copy_to_device(buffer.reshape(-1), stream=self.copies)
        copied = cuda.event()
        copied.record(self.copies)
        copied.wait(run.stream)
        run.table[codes.G_FIRST : codes.G_FIRST + 1].copy_to_device(first, stream=run.stream)
        self.x, self.y, self.weight = self.there[slot]

    def fetch(self, stream):
        """Nothing: predictions are not streamed."""


PIECE = 1 << 26  # bytes of a piece: 3 ms on a PCIe 4 bus
ROOM = 0.8  # of the free memory, that data may take


def room():
    """Bytes of data that fit. What numba has yet to give back counts as free: it is given back first."""
    if SIMULATED:
        return np.inf
    context = cuda.current_context()
    context.memory_manager.deallocations.clear()
    return ROOM * context.get_memory_info()[0]


def rows_that_fit(x, more, batch):
    """Rows of x, in whole batches, that fit with ``more`` bytes a row beside them; of no array a piece."""
    each = x.shape[1] * x.dtype.itemsize + more
    most = room() if isinstance(x, np.ndarray) else min(room(), PIECE)
    return len(x) if each * len(x) <= most else max(1, int(most / each) // batch) * batch


def feed(x, y, weight, out, dtype, batch, stream):
    """The feed that fits: all data on the device where there is room, else piece by piece."""
    if not isinstance(x, View) and (not isinstance(x, np.ndarray) or (out is None and x.nbytes > room())):
        return Streamed(x, y, weight, dtype, batch, stream)
    return Feed(x, y, weight, out, dtype, stream)
