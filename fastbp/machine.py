"""The machine: what it is and what it can do at most, the yardstick of every rate that is shown."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .types import Dtype

__all__ = ["Peak", "copy_bandwidth", "cpu_model", "caches"]

PASSES = 500_000  # of all chains: 3 to 4 ms
COPY_BYTES = 1 << 26  # more than the caches that a process gets for itself


def together(threads: int, work: Callable[[int], object]) -> float:
    """Seconds from the first start to the last end of work(k) on ``threads`` Python threads at once."""
    barrier, spans = threading.Barrier(threads), [(0.0, 0.0)] * threads
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []

    def call(k):
        if len(allowed) >= threads:  # a core each: left alone, they may share one for milliseconds
            os.sched_setaffinity(0, {allowed[k]})
        barrier.wait()
        start = time.perf_counter()
        work(k)
        spans[k] = start, time.perf_counter()
        if allowed:
            os.sched_setaffinity(0, allowed)

    others = [threading.Thread(target=call, args=(k,)) for k in range(1, threads)]
    for thread in others:
        thread.start()
    call(0)
    for thread in others:
        thread.join()
    return max(end for _, end in spans) - min(start for start, _ in spans)


class Peak:
    """The FMA peak: a loop of nothing but fused multiply-adds, on one and on all threads.

    threads : at most so many; dtype : "float32" or "float64". ``lanes`` : numbers in a vector.

    >>> machine.Peak(1).gflops(passes=1000) > 0
    True
    """

    def __init__(self, threads: int, dtype: Dtype = "float32") -> None:
        from .engine.backend import peak_loop

        self.threads = threads
        self._run, chains = peak_loop(np.dtype(dtype))
        # towards 1, so that neither denormals nor infinities come up
        self._numbers = [np.array([0.999, 0.001, 0], dtype) for _ in range(threads)]
        self.lanes = self._run(1, self._numbers[0])
        self._work = 2e-9 * chains * self.lanes

    def gflops(self, threads: int | None = None, tries: int = 3, passes: int = PASSES) -> float:
        """The best of a few tries, GFLOP/s of all threads together (default: all)."""
        threads = threads or self.threads
        seconds = min(together(threads, lambda k: self._run(passes, self._numbers[k])) for _ in range(tries))
        return threads * self._work * passes / seconds


def copy_bandwidth(threads: int, tries: int = 5) -> float:
    """GB/s of copying, read and written bytes together, the best of a few tries.

    >>> machine.copy_bandwidth(1, tries=1) > 0
    True
    """
    size = COPY_BYTES // threads // 4
    sources = [np.ones(size, np.float32) for _ in range(threads)]
    targets = [np.empty(size, np.float32) for _ in range(threads)]
    seconds = [together(threads, lambda k: np.copyto(targets[k], sources[k])) for _ in range(tries + 1)]
    return 2e-9 * 4 * size * threads / min(seconds[1:])  # the first touches the pages


def cpu_model() -> str:
    """The processor's name as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def caches() -> dict[str, str]:
    """{"L1d": "32K", ...} of the first core, as Linux tells it; empty elsewhere."""
    found = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind, level, size = ((index / name).read_text().strip() for name in ("type", "level", "size"))
        except OSError:
            continue
        if kind != "Instruction":
            found[f"L{level}{'d' * (kind == 'Data')}"] = size
    return found
