"""What numba's GPU simulator needs to run tests: quick turns of its threads, one shared array a block; and an
eye on what it lets pass and a card would not.

Always: sizes of grids and arguments of kernels as cuda.core takes them, numba's advice on small grids,
barriers that all threads of a block meet at, races in shared memory. With ``racecheck``, races in global
memory too.
"""

import sys
import threading
import warnings
from contextlib import contextmanager
from math import prod

import numpy as np
from numba.core.errors import NumbaPerformanceWarning
from numba.cuda.simulator import kernel, kernelapi
from numba.np import numpy_support

sys.setswitchinterval(1e-4)  # its threads hand over all the time: four times faster

LIMITS = {"grid": (2**31 - 1, 65535, 65535), "block": (1024, 1024, 64)}
SMALL_GRID = 128  # blocks of a grid that numba-cuda thinks small


class Race(AssertionError):
    """Two threads met at one number without a barrier between them, and one of them wrote it."""


def _array(self, shape, dtype):
    """The block's array of this line; the simulator's own method gives two threads that ask at once two."""
    frame = sys._getframe(1)
    place = frame.f_code.co_filename, frame.f_lineno
    kind = dtype if isinstance(dtype, np.dtype) else numpy_support.as_dtype(dtype)
    known = self._allocations.get(place)
    return known or self._allocations.setdefault(place, Shared(np.empty(shape, kind)))


class Shared:
    """An array of a block that remembers who touched which number between two barriers."""

    def __init__(self, numbers):
        self.numbers, self.size = numbers, len(numbers)
        self.begin()

    def begin(self):
        """For another block: nothing is known of its numbers."""
        self.numbers[:], self.readers, self.writers = np.nan, {}, {}

    def _check(self, others, me, key):
        if not 0 <= key[1] < self.size:
            raise IndexError(f"shared memory: got {key[1]} of {self.size} numbers")
        if others.get(key, me) is not me:
            raise Race(f"shared memory: number {key[1]}, behind barrier {key[0]}")

    def __getitem__(self, i):
        me = threading.current_thread()
        key = len(me.sites), i
        if self.readers.setdefault(key, me) is not me:
            self.readers[key] = None  # several
        self._check(self.writers, me, key)
        return self.numbers[i]

    def __setitem__(self, i, value):
        me = threading.current_thread()
        key = len(me.sites), i
        self.writers.setdefault(key, me)
        self._check(self.writers, me, key)
        self._check(self.readers, me, key)
        self.numbers[i] = value


class Global(kernel.FakeWithinKernelCUDAArray):
    """An argument that remembers who touched what during one launch; atomic operations do not count."""

    launch = []  # those of the launch that is under way

    def __init__(self, item):
        super().__init__(item)
        self.__dict__.update(readers={}, writers={})
        self.launch.append(self)

    def _note(self, seen, i):
        me = threading.current_thread()
        if not 0 <= i < self._item._ary.size:
            raise IndexError(f"memory: got {i} of {self._item._ary.size} numbers")
        seen.setdefault(int(i), set()).add((tuple(me.blockIdx), len(me.sites), me.thread_id))

    def __getitem__(self, i):
        self._note(self.readers, i)
        return self._item._ary[i]

    def __setitem__(self, i, value):
        self._note(self.writers, i)
        self._item._ary[i] = value

    def races(self):
        """Places that two threads touched with no barrier between them, one of them writing."""
        for i, writers in self.writers.items():
            for one in writers:
                for other in writers | self.readers.get(i, set()):
                    if one != other and (one[0] != other[0] or one[1] == other[1]):
                        yield i


@contextmanager
def racecheck():
    """Every launch inside is looked through for races in global memory; yields names of the kernels."""
    plain, seen = kernel.FakeWithinKernelCUDAArray, []

    def call(self, *args):
        if self._device:
            return _called(self, *args)
        Global.launch = []
        result = _called(self, *args)
        seen.append(self.fn.__name__)
        for number, array in enumerate(Global.launch):
            for i in array.races():
                raise Race(f"{self.fn.__name__}: argument {number}, number {i}")
        return result

    kernel.FakeWithinKernelCUDAArray, kernel.FakeCUDAKernel.__call__ = Global, call
    try:
        yield seen
    finally:
        kernel.FakeWithinKernelCUDAArray, kernel.FakeCUDAKernel.__call__ = plain, _called


_configure, _call = kernel.FakeCUDAKernel.__getitem__, kernel.FakeCUDAKernel.__call__
_wait, _start, _run = kernel.BlockThread.syncthreads, kernel.BlockThread.__init__, kernel.BlockManager.run


def _configured(self, configuration):
    """kernel[grid, block, stream]: cuda.core takes Python's whole numbers from 1 on, numpy's not."""
    for (name, limits), sizes in zip(LIMITS.items(), configuration, strict=False):
        sizes = sizes if isinstance(sizes, tuple) else (sizes,)
        if not all(type(n) is int and 1 <= n <= most for n, most in zip(sizes, limits, strict=False)):
            raise ValueError(f"{self.fn.__name__}: got {name} {sizes!r}, takes int from 1 to {limits}")
        if name == "grid" and prod(sizes) < SMALL_GRID:
            text = f"Grid size {prod(sizes)} will likely result in GPU under-utilization"
            warnings.warn(NumbaPerformanceWarning(text), stacklevel=2)
    return _configure(self, configuration)


def _called(self, *args):
    if not self._device and any(isinstance(a, np.generic) for a in args):
        raise TypeError(f"{self.fn.__name__}: got {args}, takes arrays and Python's numbers")
    return _call(self, *args)


def _started(self, f, manager, *args):
    _start(self, f, manager, *args)
    self.sites = []  # of the barriers it has come to
    manager.crew.append(self)


def _synchronized(self):
    frame, site = sys._getframe(2), []
    while frame is not None and frame.f_code.co_name != "target":  # which calls the kernel
        site.append((frame.f_code.co_name, frame.f_lineno))
        frame = frame.f_back
    _wait(self)
    self.sites.append(site)


def _ran(self, grid_point, *args):
    self.crew = []
    for array in kernel._get_kernel_context().shared._allocations.values():
        array.begin()
    _run(self, grid_point, *args)
    first, *others = self.crew
    if any(other.sites != first.sites for other in others):
        raise AssertionError(f"{self._f.__name__}: threads of a block meet at different barriers")


def _atomic(name, plain):
    def operation(self, array, *args):
        return plain(self, getattr(array, "_item", array), *args)

    setattr(kernelapi.FakeCUDAAtomic, name, operation)


for _name in ("add", "min", "max"):
    _atomic(_name, getattr(kernelapi.FakeCUDAAtomic, _name))
kernelapi.FakeCUDAShared.array = _array
kernel.FakeCUDAKernel.__getitem__, kernel.FakeCUDAKernel.__call__ = _configured, _called
kernel.BlockThread.__init__, kernel.BlockThread.syncthreads = _started, _synchronized
kernel.BlockManager.run = _ran
