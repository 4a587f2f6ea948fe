"""X, y and sample weights, checked: what came, what is taken, said before anything trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .. import metrics
from ..kernels import codes
from . import frames
from .gpuarrays import OnDevice
from .sources import Shards, Sparse, plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import DTypeLike

    from ..types import Array, Doubles, Features, Floats, MetricFunction, SampleWeight, Shape, Targets

    class TakesTargets(Protocol):
        """A loss, of which checks ask no more."""

        def targets(self, array: Array, outputs: int) -> tuple[int, Array]: ...


_PIECE = 1 << 20  # elements looked at at once
_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def _array(name: str, data: Any) -> Array:
    """data as a native numeric ndarray, not copied unless its dtype has no native form."""
    if type(data) is np.ndarray and data.dtype in _FLOATS:  # what most calls bring, some of them row by row
        return data
    if np.ma.is_masked(data):
        raise TypeError(f"{name}: got a masked array with masked values, takes plain numbers")
    try:
        array = plain(data)
    except ValueError as e:  # rows of unequal length
        raise ValueError(f"{name}: got what is no array ({e}), takes rows of numbers") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: got dtype {array.dtype}, takes numbers (float, int, uint or bool)")
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        return array.astype(np.float64)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _first_bad(array: Array, dtype: DTypeLike) -> Shape | None:
    """Index tuple of the first number that is not finite in dtype, or None; read in pieces."""
    if array.dtype.kind != "f":
        return None
    rows = max(1, _PIECE // max(1, array[0].size if array.ndim > 1 else 1))
    for start in range(0, len(array), rows):
        block = array[start : start + rows]
        with np.errstate(over="ignore"):
            finite = np.isfinite(block.astype(dtype, copy=False))
        if not finite.all():
            place = np.unravel_index(np.argmin(finite), block.shape)
            return (start + int(place[0]), *map(int, place[1:]))
    return None


NAN_TARGETS = "; a loss with ignore_nan=True, such as fb.losses.MSE, leaves those that are NaN out"


def check_finite(
    name: str, array: Array | Shards | Sparse | OnDevice, dtype: DTypeLike, for_nan: str = ""
) -> None:
    """Raises ValueError for the first number that is not finite in dtype; for_nan: what to say of NaN."""
    bad = (
        array.first_bad(dtype, _first_bad)
        if isinstance(array, (Shards, Sparse, OnDevice))
        else _first_bad(array, dtype)
    )
    if bad is not None:
        where = f"row {bad[0]}" + (f", column {bad[1]}" if len(bad) > 1 else "")
        hint = for_nan if np.isnan(array[bad]) else ""
        raise ValueError(f"{name}: got {array[bad]} at {where}, takes finite {np.dtype(dtype)} numbers{hint}")


def features(
    X: Features, inputs: int, dtype: DTypeLike, finite: bool = True, columns: list[str] | None = None
) -> Any:
    """X as rows of ``inputs`` numbers that the program reads in place; dtype: the network's.

    An (N, inputs) array of any numeric dtype and layout, Shards, OnDevice, or Sparse from a SciPy matrix;
    tensors, frames and whatever has __array__ or __dlpack__ become arrays. columns: names that a frame's
    columns must have, in any order. finite=False leaves it to the kernel to notice what is not.

    Raises ValueError for another shape, no rows, NaN, inf or absent columns; TypeError for what is not
    numeric.
    """
    if columns is not None:
        X = by_name(X, columns)
    array: Any
    if isinstance(X, np.ndarray):
        array = _array("X", X)
    elif isinstance(X, (Shards, Sparse, OnDevice)):
        array = X
    else:
        array = Sparse(X) if hasattr(X, "tocsr") else _array("X", X)
    if len(array.shape) != 2:
        raise ValueError(f"X: got shape {array.shape}, takes (N, {inputs}): rows of {inputs} features")
    if array.shape[1] != inputs:
        raise ValueError(f"X: got {array.shape[1]} columns, takes {inputs}, the network's inputs")
    if not len(array):
        raise ValueError(f"X: got no rows (shape {array.shape}), takes at least one")
    if len(array) >= 2**31:
        raise ValueError(f"X: got {len(array)} rows, takes fewer than 2**31")
    if finite:
        check_finite("X", array, dtype)
    return array


def check_categories(X: Any, embedded: Sequence[tuple[int, ...]]) -> None:
    """Raises ValueError where an embedded column of X has anything but its categories.

    embedded: (column, categories, width) for each. Raises TypeError for rows that are no plain array.
    """
    if embedded and not isinstance(X, (np.ndarray, OnDevice)):
        raise TypeError(f"X: got {type(X).__name__}, a network with embeddings takes an array or a frame")
    for column, categories, _ in embedded:
        values = X[:, column]
        wrong = (values < 0) | (values > categories - 1)
        if values.dtype.kind == "f":
            wrong |= values != np.floor(values)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(
                f"X: got {values[row]} at row {row}, column {column}, takes whole numbers from 0 to "
                f"{categories - 1}: the column is embedded"
            )


def check_batches(norms: Sequence[str | None], batch: int, rows: int) -> None:
    """Raises ValueError where batch norm would get a batch of one row, the last one too, as torch does."""
    if "batch" in norms and (rows % batch == 1 or batch == 1):
        raise ValueError(
            f"batch_size: got {batch} for {rows} rows, which leaves a batch of 1; norm='batch' takes "
            "batches of 2 or more"
        )


def by_name(X: Any, columns: list[str]) -> Any:
    """A frame with its columns in the order of ``columns``; what has no names as it is."""
    names = frames.names_of(X)
    if names is None or names == columns:
        return X
    return frames.frame(X, only=columns).select(columns)


def targets(y: Targets, loss: TakesTargets, rows: int, outputs: int, dtype: DTypeLike) -> tuple[int, Array]:
    """(code, y as (N, targets)): the targets as the program reads them, and the loss code they need.

    loss: a fastbp.losses.Loss, which says what it takes. Raises ValueError or TypeError, naming what came
    and what it takes.
    """
    array = _array("y", y)
    if array.ndim == 0 or len(array) != rows:
        got = "a single number" if array.ndim == 0 else f"{len(array)} rows"
        raise ValueError(f"y: got {got}, takes {rows}, one for each row of X")
    check_finite("y", array, dtype, NAN_TARGETS)
    return loss.targets(array, outputs)


def known_targets(y: Targets) -> tuple[Array, Array]:
    """(y with 1, which every loss takes, in the place of each NaN; mask of the known ones)."""
    array = _array("y", y)
    known = ~np.isnan(array) if array.dtype.kind == "f" else np.ones(array.shape, bool)
    return array if known.all() else np.where(known, array, array.dtype.type(1)), known


def known_weights(weight: Floats | None, known: Array, dtype: DTypeLike) -> Floats:
    """(N, targets) weights: 0 where a target is not known. weight: (N,), (N, targets) or None."""
    known = known.reshape(len(known), -1)
    if weight is None:
        return known.astype(dtype)
    return np.where(known, weight.reshape(len(weight), -1), weight.dtype.type(0))


def rows_of_targets(array: Array, loss: str, width: int) -> Array:
    """array as (N, width); (N,) will do for width 1. loss: its name, for errors."""
    if array.ndim == 1 and width == 1:
        array = array.reshape(-1, 1)
    if array.ndim != 2 or array.shape[1] != width:
        rows = len(array)
        takes = f"({rows},) or ({rows}, 1)" if width == 1 else f"({rows}, {width})"
        hint = "; integer labels go with loss='cross_entropy'" if array.dtype.kind in "iu" else ""
        raise ValueError(f"y: got shape {array.shape}, loss {loss!r} takes {takes}{hint}")
    return array


def check_range(array: Array, loss: str, low: float, high: float | None, takes: str) -> None:
    """Raises ValueError for a number below low, or above high unless that is None."""
    if array.min() < low or (high is not None and array.max() > high):
        bad = array.min() if array.min() < low else array.max()
        raise ValueError(f"y: got {bad}, loss {loss!r} takes {takes}")


def check_classes(outputs: int) -> None:
    """Raises ValueError for cross_entropy on one output."""
    if outputs < 2:
        raise ValueError(
            "loss: got 'cross_entropy' for a network with 1 output, takes 2 or more, one per class; "
            "for yes or no use 'bce_with_logits'"
        )


def class_targets(
    array: Array, outputs: int, ignored: int | None = None, loss: str = "cross_entropy", hot: bool = True
) -> tuple[bool, Array]:
    """(True, labels (N, 1)) or (False, probabilities (N, outputs)); the label ``ignored`` becomes -1.

    hot : whether one-hot rows are labels too.
    """
    check_classes(outputs)
    if array.ndim == 2 and array.shape[1] == 1 and array.dtype.kind != "f":
        array = array[:, 0]
    if array.ndim == 1:
        if array.dtype.kind == "f":
            raise TypeError(
                f"y: got {array.dtype} labels, loss {loss!r} takes integer labels (or "
                f"({len(array)}, {outputs}) one-hot rows or probabilities); for numbers use 'mse'"
            )
        no_answer = None if ignored is None else array == ignored
        known = array if no_answer is None else array[~no_answer]  # large uint64 would be negative int64
        low, high = (int(known.min()), int(known.max())) if known.size else (0, 0)
        if low < 0 or high >= outputs:
            bad = low if low < 0 else high
            raise ValueError(
                f"y: got label {bad}, takes 0 to {outputs - 1}: the network has {outputs} outputs"
            )
        # a copy: the kernel uses labels as places, so nobody may change them meanwhile
        labels = array.astype(np.int32)
        if no_answer is not None:
            labels[no_answer] = -1
        return True, labels.reshape(-1, 1)
    if array.shape[1:] != (outputs,):
        raise ValueError(
            f"y: got shape {array.shape}, loss {loss!r} takes integer labels ({len(array)},) or "
            f"rows of {outputs}: one-hot or probabilities"
        )
    sums = array.sum(axis=1, dtype=np.float64)
    wrong = (array < 0).any(axis=1) | (np.abs(sums - 1) > 1e-3)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"y: got {array[row].tolist()} in row {row}, loss {loss!r} takes rows of "
            "probabilities: 0 or more, with sum 1"
        )
    if (
        hot and (array.max(axis=1) == 1).all() and np.count_nonzero(array) == len(array)
    ):  # one-hot: the same loss from one label a row
        return True, np.ascontiguousarray(array.argmax(axis=1).astype(np.int32)).reshape(-1, 1)
    return False, array


def offsets(offset: Any, rows: int, targets: int, dtype: DTypeLike) -> Doubles:
    """offset as (rows, targets) float64; (rows,) is the same for all targets.

    Raises ValueError for another shape, and for numbers that are not finite in dtype.
    """
    array = _array("offset", offset)
    if array.shape not in ((rows,), (rows, 1), (rows, targets)):
        more = "" if targets == 1 else f", or ({rows}, {targets}), one for each target"
        raise ValueError(f"offset: got shape {array.shape}, takes ({rows},), one for each row of X{more}")
    check_finite("offset", array, dtype)
    return np.broadcast_to(array.reshape(rows, -1), (rows, targets)).astype(np.float64)


def output_gradients(
    name: str, given: Any, rows: int, outputs: int, dtype: DTypeLike, takes: str = "takes"
) -> Array:
    """(rows, outputs) finite numbers of dtype; (rows,) will do for one output. takes: how errors say so."""
    array = _array(name, given)
    if array.ndim == 1 and outputs == 1:
        array = array[:, None]
    if array.shape != (rows, outputs):
        raise ValueError(f"{name}: got shape {array.shape}, {takes} ({rows}, {outputs})")
    check_finite(name, array, dtype)
    return np.ascontiguousarray(array, dtype)


def weights(
    sample_weight: SampleWeight, rows: int, dtype: DTypeLike, targets: int | None = None
) -> Floats | None:
    """sample_weight as a contiguous array of dtype, (N,) or, with ``targets``, (N, targets); or None.

    Raises ValueError for another shape, NaN, inf or a negative weight.
    """
    if sample_weight is None:
        return None
    array = _array("sample_weight", sample_weight)
    if array.shape != (rows,) and (targets is None or array.shape != (rows, targets)):
        more = "" if targets is None else f", or ({rows}, {targets}), one for each target"
        raise ValueError(
            f"sample_weight: got shape {array.shape}, takes ({rows},), one for each row of X{more}"
        )
    check_finite("sample_weight", array, np.float64)
    if array.min() < 0:
        raise ValueError(f"sample_weight: got {array.min()}, takes numbers from 0 on")
    top = array.max()
    if top and not 1e-18 < top < 1e18:  # only their ratios count; float32 must hold them
        array = array / top
    return np.ascontiguousarray(array, dtype)


def measure(
    functions: Mapping[str, MetricFunction], code: int, y: Array, prediction: Any, weight: Array | None = None
) -> dict[str, float]:
    """{name: value} of metrics.table's functions for targets as ``targets`` gives them."""
    prediction = plain(prediction)
    if code in (codes.SOFT_CROSS_ENTROPY, codes.SMOOTH_SOFT_CROSS_ENTROPY):
        y = y.argmax(axis=1)
    elif code in codes.LABELS and (y < 0).any():  # labels to be ignored
        known = y[:, 0] >= 0
        y, prediction, weight = y[known], prediction[known], None if weight is None else weight[known]
    return metrics.measure(functions, y, prediction, weight)
