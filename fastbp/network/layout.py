"""Aligned arenas: where each array of a network lies in one flat buffer."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from ..types import Array

LINE = 64  # bytes of a cache line, and of the widest vector
HUGE = 1 << 21  # bytes of a huge page


def align(count: int, itemsize: int) -> int:
    """count elements, up to a whole number of cache lines."""
    step = LINE // itemsize
    return -(-count // step) * step


def leading_dimension(columns: int, itemsize: int) -> int:
    """Elements from one row to the next: whole cache lines, never a multiple of 2 KiB.

    Rows a large power of two apart fall into the same cache sets: one line more costs 3 % of memory.
    """
    elements = align(columns, itemsize)
    return elements + LINE // itemsize if elements * itemsize % 2048 == 0 else elements


def arena(size: int, dtype: DTypeLike) -> Array:
    """Flat zeroed array of ``size`` elements whose first one starts a cache line, or a huge page.

    A weight tile touches 18 rows kilobytes apart: with small pages each is a miss in the first
    level of the address cache, so large arenas ask the system for huge ones. Raises MemoryError.
    """
    dtype = np.dtype(dtype)
    needed = size * dtype.itemsize
    if needed >= HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # a forked child gets its own
        try:
            space = mmap.mmap(-1, needed + HUGE, flags)  # zeroed, and not there until it is touched
        except (OSError, OverflowError) as error:
            raise MemoryError(
                f"memory: {needed / 1e9:,.1f} GB are wanted, more than there is; takes fewer rows at once, a "
                "smaller batch_size or a smaller network"
            ) from error
        space.madvise(mmap.MADV_HUGEPAGE)
        raw, step = np.frombuffer(space, np.uint8), HUGE
    else:
        raw, step = np.zeros(needed + LINE, np.uint8), LINE
    skip = -raw.ctypes.data % step
    return raw[skip : skip + needed].view(dtype)


class Cursor:
    """Hands out aligned places one after the other; ``size`` is what they need together."""

    def __init__(self, itemsize: int) -> None:
        self.itemsize, self.size = itemsize, 0

    def take(self, count: int) -> int:
        """Offset of a new place of ``count`` elements."""
        place, self.size = self.size, self.size + align(int(count), self.itemsize)  # an int: it never wraps
        return place
