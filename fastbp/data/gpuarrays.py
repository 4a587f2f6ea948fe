"""Arrays that lie on a GPU: anything with __cuda_array_interface__ (CuPy, torch, numba), not copied."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from ..kernels import codes

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import DTypeLike

    from ..types import Array, Shape


def lies_on_gpu(data: Any) -> bool:
    """Whether data lies on a GPU and says where."""
    if getattr(data, "requires_grad", False):
        data = data.detach()  # torch gives no address of what has a gradient
    return hasattr(data, "__cuda_array_interface__")


def _library(data: Any) -> str:
    return type(data).__module__.partition(".")[0]


class OnDevice:
    """An array on a GPU: its address, shape, strides in bytes and dtype, and who owns the memory.

    Slices of rows and single columns are made in place; ``np.asarray`` copies to the host. Raises TypeError
    for a dtype that is not numeric, ValueError for an array that lies backwards.
    """

    def __init__(
        self,
        pointer: int,
        shape: Shape,
        strides: Shape,
        dtype: np.dtype[Any],
        owner: Any,
        stream: int | None = None,
    ) -> None:
        self.pointer, self.shape, self.strides, self.dtype = pointer, shape, strides, dtype
        self.owner, self.stream = owner, stream
        if (dtype.kind, dtype.itemsize) not in codes.DTYPES or not dtype.isnative:
            raise TypeError(f"X: got dtype {dtype} on the GPU, takes numbers (float, int, uint or bool)")
        if any(s < 0 or s % dtype.itemsize for s in strides):
            raise ValueError(f"X: got strides {strides} on the GPU, takes rows and columns that lie forward")

    @classmethod
    def of(cls, data: Any) -> OnDevice:
        """data, which ``lies_on_gpu``."""
        if isinstance(data, cls):
            return data
        data = data.detach() if hasattr(data, "detach") else data
        found = data.__cuda_array_interface__
        if found.get("mask") is not None:
            raise TypeError("X: got a masked array on the GPU, takes plain numbers")
        dtype, shape = np.dtype(found["typestr"]), tuple(found["shape"])
        strides = found.get("strides")
        if strides is None:
            strides = np.cumprod([dtype.itemsize, *shape[:0:-1]], dtype=np.int64)[::-1]
        strides = tuple(int(s) for s in strides)
        stream = found.get("stream")
        if _library(data) == "torch":  # whose arrays do not say: what makes them may be on its way
            stream = sys.modules["torch"].cuda.current_stream(data.device).cuda_stream or None
        return cls(found["data"][0], shape, strides, dtype, data, stream)

    @classmethod
    def copy_of(cls, x: Any) -> Any:
        """A plain array (N, n) copied to the GPU, for many to read; x itself where there is no room, or it is
        no such array."""
        from ..kernels.cuda.data import keep

        kept = keep(x) if isinstance(x, np.ndarray) else None
        return x if kept is None else cls.of(kept)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def span(self) -> int:
        """Elements from the first to behind the last."""
        steps = sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        return 1 + steps // self.dtype.itemsize if all(self.shape) else 0

    def __getitem__(self, place: Any) -> Any:
        """Rows of a slice, in place; a column of them, a number, or rows by an index array, on the host."""
        rows, *column = place if isinstance(place, tuple) else (place,)
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            count, (row, *rest) = len(range(start, stop, step)), self.strides
            part = OnDevice(self.pointer + start * row, (count, *self.shape[1:]), (row * step, *rest),
                            self.dtype, self.owner, self.stream)  # fmt: skip
            if not column:
                return part
            start = part.pointer + column[0] * rest[0]
            return np.asarray(OnDevice(start, (count,), (row * step,), self.dtype, self.owner, self.stream))
        if np.ndim(rows) == 0:
            return np.asarray(self[int(rows) : int(rows) + 1])[(0, *column)]
        return np.asarray(self)[place]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        from ..kernels.cuda.data import view

        numbers = view(self).numbers.copy_to_host().view(self.dtype)
        array = np.lib.stride_tricks.as_strided(numbers, self.shape, self.strides)
        return np.array(array, dtype or self.dtype)

    def first_bad(self, dtype: DTypeLike, look: Callable[..., Any]) -> Shape | None:
        """(row, column) of the first number that is not finite in dtype, or None; looked for on the GPU."""
        from ..kernels.cuda.program import first_bad

        if self.dtype.kind != "f":
            return None
        at = first_bad(self, dtype)
        return None if at is None else divmod(at, self.shape[1])

    def like(self, result: Any) -> Any:
        """A device array (N, O) as the library that X came from has it, in place: torch, CuPy, else numba."""
        name = _library(self.owner)
        if name == "torch":  # which is there: X is one of its tensors
            return sys.modules[name].as_tensor(result, device=self.owner.device)
        return sys.modules[name].asarray(result) if name == "cupy" else result
