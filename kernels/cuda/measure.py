"""What a card can do at most: a loop of nothing but multiply-adds, a copy; marks in a stream to time by."""

import math
import time

import numpy as np

from .device import SIMULATED, cuda, kernel

CHAINS = 4  # sums of a thread: with the warps of a processor more than its units have in flight
PASSES, LOOP_BLOCKS, LOOP_THREADS = (2, 1, 4) if SIMULATED else (4096, 4096, 256)
BYTES = 1 << 8 if SIMULATED else 1 << 27  # of each of the copy's arrays: more than the caches
TURNS = 1 if SIMULATED else 1000  # of ``hold`` for each launch behind it: 50 us or more, the host takes 15


def build(names):
    """{name: kernel} for a namespace of scalar.functions."""
    real, fma = names["real"], names["fma"]

    @kernel
    def multiply_adds(out, numbers, passes):
        """CHAINS sums a thread, each a = a * numbers[0] + numbers[1], ``passes`` times; their sum to out."""
        at = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        x, y = numbers[0], numbers[1]
        a = b = c = d = real(cuda.threadIdx.x)
        for _ in range(passes):
            a, b, c, d = fma(a, x, y), fma(b, x, y), fma(c, x, y), fma(d, x, y)
        out[at] = a + b + c + d

    @kernel
    def copy(out, source):
        """out = source."""
        at = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        while at < source.size:
            out[at] = source[at]
            at += cuda.gridDim.x * cuda.blockDim.x

    @kernel
    def hold(numbers, turns):
        """Keeps the card busy while launches queue up behind: none of them will have to wait for the host."""
        x = numbers[0]
        for _ in range(turns):
            x = math.sqrt(x + 1.0)
        numbers[0] = x

    return {"multiply_adds": multiply_adds, "copy": copy, "hold": hold}


def mark(stream):
    """The point that a stream has come to; in the simulator, which has no other, the time."""
    if SIMULATED:
        return time.perf_counter()
    event = cuda.event()
    event.record(stream)
    return event


def between(start, end):
    """Seconds from a mark to another; the stream has passed both."""
    return end - start if SIMULATED else 1e-3 * cuda.event_elapsed_time(start, end)


def seconds(launch, tries=7):
    """The median of what launch(stream) takes, after a first time that compiles."""
    stream, spans = cuda.stream(), []
    for _ in range(tries + 1):
        start = mark(stream)
        launch(stream)
        end = mark(stream)
        stream.synchronize()
        spans.append(between(start, end))
    return float(np.median(spans[1:]))


def ceilings(kernels, dtype, allocate):
    """(GFLOP/s of multiply-adds, GB/s of a copy, read and written bytes together).

    kernels: program.load(dtype); allocate: data.allocate.
    """
    size = BYTES // dtype.itemsize
    out, source = (allocate(size, dtype, "measuring the memory") for _ in range(2))
    numbers = allocate(2, dtype, "two numbers")
    numbers.copy_to_device(np.array([0.999, 0.001], dtype))  # towards 1: neither denormals nor infinities
    some = np.random.default_rng(0).standard_normal(min(size, 1 << 20)).astype(dtype)
    source.copy_to_device(np.tile(some, size // some.size))  # no zeros, for which clocks would rise
    work = 2 * CHAINS * PASSES * LOOP_BLOCKS * LOOP_THREADS
    adds = seconds(lambda s: kernels["multiply_adds"][LOOP_BLOCKS, LOOP_THREADS, s](out, numbers, PASSES))
    copied = seconds(lambda s: kernels["copy"][min(LOOP_BLOCKS, 1024), LOOP_THREADS, s](out, source))
    return 1e-9 * work / adds, 1e-9 * 2 * BYTES / copied
