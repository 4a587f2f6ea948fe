"""What X and y may be besides NumPy arrays: sparse matrices, shards on disk, tensors, frames."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..kernels import codes
from . import frames
from .gpuarrays import OnDevice, lies_on_gpu

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import DTypeLike

    from ..types import Array, Shape


def plain(data: Any) -> Array:
    """data as an ndarray, not copied where its library allows: anything with __array__ or __dlpack__.

    Tensors leave their graph and device; sparse targets are filled; a frame gives its columns side by
    side. Raises ValueError or TypeError for what is no array.
    """
    if isinstance(data, np.ndarray):
        return data
    if hasattr(data, "detach"):  # torch; NumPy has no bfloat16
        data = data.detach().cpu()
        data = data.float() if str(data.dtype).endswith("bfloat16") else data
    elif lies_on_gpu(data):
        data = data.get() if hasattr(data, "get") else OnDevice.of(data)
    elif hasattr(data, "toarray"):
        data = data.toarray()
    elif hasattr(data, "__dlpack__") and not hasattr(data, "__array__"):
        return np.from_dlpack(data)
    array = np.asarray(data)
    if array.dtype.kind == "O" and hasattr(data, "__array__"):  # columns of different dtypes, or with NA
        table = frames.frame(data)
        if table is not None:
            return table.numbers()
        return frames.column_array(data) if array.ndim == 1 else array
    return array


class Sparse:
    """A SciPy matrix of any format as the gather reads it: CSR, zeros filled in row by row, in the batch.

    Values stay where they are and of their dtype; int64 column numbers become int32. The result is that
    of the same matrix filled, bit for bit; entries that stand twice are added, as SciPy adds them.
    """

    def __init__(self, matrix: Any) -> None:
        self._matrix = matrix = matrix.tocsr()
        self.shape, self.dtype = tuple(matrix.shape), matrix.dtype
        values = np.ascontiguousarray(matrix.data)
        if (values.dtype.kind, values.dtype.itemsize) not in codes.DTYPES or not values.dtype.isnative:
            if values.dtype.kind not in "fiub":
                raise TypeError(f"X: got dtype {values.dtype}, takes numbers (float, int, uint or bool)")
            values = values.astype(np.float64)
        self.values = values
        self.starts = matrix.indptr.astype(np.int64)
        places = matrix.indices
        if len(places) and not 0 <= places.min() <= places.max() < self.shape[1]:
            raise ValueError(
                f"X: got columns {places.min()} to {places.max()}, takes 0 to {self.shape[1] - 1}"
            )
        self.places = np.ascontiguousarray(places, np.int32)
        starts = self.starts
        if (
            len(starts) != self.shape[0] + 1 or starts[0] != 0 or (np.diff(starts) < 0).any()
            or starts[-1] > min(len(self.places), len(values))
        ):  # fmt: skip
            raise ValueError(
                "X: got row starts (indptr) that do not fit its entries, takes a valid CSR matrix"
            )
        self._table = np.zeros(codes.SPARSE_TABLE, np.int64)
        self._table[codes.A_INDICES] = self.places.ctypes.data
        self._table[codes.A_VALUES] = values.ctypes.data
        self._table[codes.A_ITEM] = values.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        return self._matrix.toarray().astype(dtype or self.dtype, copy=False)

    def __getitem__(self, place: Any) -> Any:
        """A number at (row, column), or the rows of a slice or an index array."""
        if not isinstance(place, tuple):
            return Sparse(self._matrix[place])
        row, column = place
        entries = slice(self.starts[row], self.starts[row + 1])
        return self.values[entries][self.places[entries] == column].sum()

    def first_bad(self, dtype: DTypeLike, look: Callable[..., Any]) -> Shape | None:
        bad = look(self.values[: self.starts[-1]], dtype)
        if bad is None:
            return None
        return int(np.searchsorted(self.starts, bad[0], "right")) - 1, int(self.places[bad[0]])

    def place(self) -> tuple[int, int, int, int]:
        """(address, dtype code, strides) for the gather."""
        code = codes.SPARSE + codes.DTYPES[self.values.dtype.kind, self.values.dtype.itemsize]
        return self.starts.ctypes.data, code, 0, self._table.ctypes.data


class Shards:
    """Several arrays of one dtype, one below the other without being copied: (N, n) together.

    arrays : list of (n_i, n) or (n_i,) of one native dtype; ``shards`` opens files. As X they are read in
    place, in the same order and to the same bits as one array; memory maps may so exceed the memory. As
    y they are put together. Raises ValueError or TypeError, naming the array, where shapes or dtypes differ.

    >>> rows = fb.data.Shards([X, X])
    >>> len(rows), trainer.evaluate(rows, fb.data.Shards([y, y])) == trainer.evaluate(X, y)
    (8, True)
    """

    def __init__(self, arrays: Sequence[Array], names: Sequence[str] | None = None) -> None:
        names = names or [f"shard {i}" for i in range(len(arrays))]
        if not arrays:
            raise ValueError("shards: got none, takes one array or file at least")
        self.arrays, self.dtype = list(arrays), arrays[0].dtype
        for name, array in zip(names, arrays, strict=True):
            good = (array.dtype.kind, array.dtype.itemsize) in codes.DTYPES and array.dtype.isnative
            if not good or array.dtype != self.dtype:
                takes = f"{self.dtype} as {names[0]}" if array.dtype != self.dtype else "native numbers"
                raise TypeError(f"shards: {name} has dtype {array.dtype}, takes {takes}")
            if array.ndim not in (1, 2) or array.shape[1:] != arrays[0].shape[1:]:
                raise ValueError(f"shards: {name} has shape {array.shape}, {names[0]} {arrays[0].shape}")
        self.starts = np.cumsum([0, *map(len, self.arrays)])
        self.shape = (int(self.starts[-1]), *arrays[0].shape[1:])
        filled = [(start, a) for start, a in zip(self.starts, self.arrays, strict=False) if len(a)]
        self._table = np.zeros(1 + codes.SHARD_COLUMNS * len(filled), np.int64)
        self._table[0] = len(filled)
        rows = self._table[1:].reshape(-1, codes.SHARD_COLUMNS)
        for row, (start, array) in zip(rows, filled, strict=True):
            row[codes.D_FIRST], row[codes.D_ADDRESS] = start, array.__array_interface__["data"][0]
            row[codes.D_ROW : codes.D_COL + 1] = (*array.strides, 0)[:2]

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        return np.concatenate(self.arrays).astype(dtype or self.dtype, copy=False)

    def __getitem__(self, place: Any) -> Any:
        """A number at (row, column), or the rows of a slice (in place, without a step) or an index array."""
        if not isinstance(place, tuple):
            if not isinstance(place, slice) or place.step not in (None, 1):
                return np.stack([self[(row,)] for row in np.arange(len(self))[place]])
            start, stop, _ = place.indices(len(self))
            bounds = zip(self.starts, self.arrays, strict=False)
            return Shards([a[max(0, start - s) : max(0, stop - s)] for s, a in bounds])
        row, *column = place
        shard = int(np.searchsorted(self.starts, row, "right")) - 1
        return self.arrays[shard][(row - self.starts[shard], *column)]

    def first_bad(self, dtype: DTypeLike, look: Callable[..., Any]) -> Shape | None:
        """(row, column) of the first number that look(array, dtype) finds, or None."""
        for start, array in zip(self.starts, self.arrays, strict=False):
            bad = look(array, dtype) if len(array) else None
            if bad is not None:
                return int(start) + bad[0], *bad[1:]
        return None

    def place(self) -> tuple[int, int, int, int]:
        """(address, dtype code, strides) for the gather."""
        return (
            0,
            codes.SHARDED + codes.DTYPES[self.dtype.kind, self.dtype.itemsize],
            0,
            self._table.ctypes.data,
        )


def shards(files: str | Path | Iterable[str | Path | Array]) -> Shards:
    """Shards of a folder's .npy files, sorted by name, or of a list of files or arrays; memory-mapped.

    Raises FileNotFoundError for a folder without .npy files, ValueError or TypeError where shapes or
    dtypes differ or a file holds Python objects.

    >>> np.save("000.npy", X), np.save("001.npy", X)
    (None, None)
    >>> rows = fb.data.shards(".")
    >>> rows.shape, trainer.predict(rows).shape
    ((8, 4), (8, 4))
    """
    if isinstance(files, (str, Path)):
        folder = Path(files)
        files = sorted(folder.glob("*.npy"))
        if not files:
            raise FileNotFoundError(f"{folder}: has no .npy files")
    arrays = [
        np.load(f, mmap_mode="r", allow_pickle=False) if isinstance(f, (str, Path)) else np.asarray(f)
        for f in files
    ]
    return Shards(
        arrays, [str(f) if isinstance(f, (str, Path)) else f"shard {i}" for i, f in enumerate(files)]
    )
