"""Getting data ready to train on: hold out a part, bring features to one scale, fold it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .errors import flag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from .types import Array, Doubles, Ints

__all__ = ["stratified_split", "Standardizer"]

_SPLIT = 0x53504C49  # any number that nobody seeds with
_TINY = 1e-280  # variances below it have lost bits
_CHUNK = 1 << 20  # values converted to float64 at a time (8 MB), whatever the array's size


def stratified_split(y: ArrayLike, fraction: float, seed: int = 0) -> tuple[Ints, Ints]:
    """Split samples into a training and a test part: (train_idx, test_idx), both sorted int64.

    y: (N,) or (N, n_out). Integer, bool and string labels (N,) are split class by class: each
    class gives its share of the test part (largest remainders, at least one sample of every class
    on either side where it has two; a class of one sample trains). Others, regression targets for
    instance, are split at random. The same y, fraction and seed give the same parts on every
    machine and NumPy version.

    fraction: the test part's share, 0 < fraction < 1; seed: an int >= 0.
    Raises ValueError for another fraction or fewer than 2 samples.

    >>> train, test = prepare.stratified_split(np.repeat([0, 1], 10), 0.2)
    >>> len(train), np.repeat([0, 1], 10)[test].tolist()
    (16, [0, 0, 1, 1])
    """
    y = np.asarray(y)
    if not 0 < fraction < 1:
        raise ValueError(f"fraction: got {fraction}; takes a number between 0 and 1")
    if y.ndim == 0 or len(y) < 2:
        raise ValueError(f"y: got shape {y.shape}; a split takes at least 2 samples")
    n = len(y)
    # Sorting a bit generator's raw output keeps its stream; Generator's methods may change theirs.
    # A stream of its own: data made by default_rng(seed) would else be sorted by its first numbers.
    rank = np.argsort(np.random.PCG64((seed, n, _SPLIT)).random_raw(n), kind="stable")
    if y.ndim > 1 or y.dtype.kind not in "iubUSO":
        n_test = min(max(round(fraction * n), 1), n - 1)
        return np.sort(rank[n_test:]), np.sort(rank[:n_test])

    _, label, count = np.unique(y, return_inverse=True, return_counts=True)
    exact = count * fraction
    quota = np.floor(exact).astype(np.int64)
    short = round(fraction * n) - quota.sum()
    quota[np.argsort(quota - exact, kind="stable")[:short]] += 1
    quota = np.where(count > 1, np.clip(quota, 1, np.maximum(count - 1, 1)), 0)
    if not quota.any():  # every class has one sample only
        quota[label[rank[0]]] = 1
    # Put the shuffled samples class by class; the first `quota` of each class are the test part.
    by_class = rank[np.argsort(label[rank], kind="stable")]
    place = np.arange(n) - np.repeat(np.cumsum(count) - count, count)
    is_test = place < np.repeat(quota, count)
    return np.sort(by_class[~is_test]), np.sort(by_class[is_test])


def _check_range(low: Array, high: Array, labels: Sequence[str] | None) -> None:
    """Raises ValueError naming a column that is not finite, or whose ends float64 cannot subtract."""
    with np.errstate(over="ignore", invalid="ignore"):
        bad = ~np.isfinite(np.subtract(high, low, dtype=np.float64))
    if bad.any():
        j = int(np.argmax(bad))
        raise ValueError(
            f"{labels[j] if labels else f'X: column {j}'} reaches from {low[j]} to {high[j]}, takes "
            "finite numbers, no farther apart than float64 reaches"
        )


def _moments(column: Array) -> tuple[float, float]:
    """(mean, standard deviation) of (N,) numbers of any size: scaled by powers of two, which is exact."""
    values = np.asarray(column, np.float64)
    up = int(np.frexp(np.abs(values).max())[1])
    values = np.ldexp(values, -up)
    mean = values.mean()
    values = values - mean
    more = int(np.frexp(np.abs(values).max())[1])
    deviation = np.sqrt(np.square(np.ldexp(values, -more)).mean())
    return float(np.ldexp(mean, up)), float(np.ldexp(deviation, up + more))


class Standardizer:
    """Scales columns to mean 0 and standard deviation 1, and folds that into a trained layer.

    mean, scale: float64 (n_features,), fitted on X (N, n_features). A constant column keeps its
    scale, 1. Numbers may be of any size, as long as they are finite and no farther apart than float64
    reaches, 1.8e308; else ValueError names the column. With `common=True` one scale, the root of the
    columns' mean variance, serves all columns: right for pixels and other features of one unit, where a
    pixel that hardly ever changes must not be blown up to the size of the others. labels: what messages call
    the columns.

    >>> scaler = prepare.Standardizer([[1.0, 5.0], [3.0, 5.0]])
    >>> scaler.transform([[3.0, 6.0]]).tolist()
    [[1.0, 1.0]]
    """

    def __init__(self, X: ArrayLike, common: bool = False, labels: Sequence[str] | None = None) -> None:
        X, common = np.asarray(X), flag("common", common)
        if X.ndim != 2 or not len(X):
            raise ValueError(f"X: got shape {X.shape}; takes (samples, features), samples >= 1")
        rows = max(1, _CHUNK // max(1, X.shape[1]))
        parts = [slice(i, i + rows) for i in range(0, len(X), rows)]
        low, high = X.min(axis=0), X.max(axis=0)
        _check_range(low, high, labels)
        constant = low == high
        # Two passes: E[x^2] - E[x]^2 would cancel for columns far from zero, such as years.
        with np.errstate(over="ignore", invalid="ignore"):
            mean = sum(X[p].sum(axis=0, dtype=np.float64) for p in parts) / len(X)
            variance = sum(np.square(X[p] - mean).sum(axis=0) for p in parts) / len(X)
        # The mean of equal values may be off by a rounding: then say so exactly.
        self.mean: Doubles = np.where(constant, X[0], mean)
        variance = np.where(constant, 0.0, variance)
        scale = np.sqrt(variance)
        odd = ~constant & ~((_TINY < variance) & (variance < np.inf) & np.isfinite(mean))
        for j in np.flatnonzero(odd):  # whose squares overflow, or come to nothing
            self.mean[j], scale[j] = _moments(X[:, j])
        if common and odd.any():
            top = scale.max()
            scale[:] = np.sqrt(np.square(scale / top).mean()) * top if top else 0.0
        elif common and scale.size:
            scale[:] = np.sqrt(variance.mean())
        self.scale: Doubles = np.where(scale > 0, scale, 1.0)

    def transform(self, X: ArrayLike) -> NDArray[np.float32]:
        """(X - mean) / scale as float32, a new array."""
        X = np.asarray(X)
        out = np.empty(X.shape, np.float32)
        rows = max(1, _CHUNK // max(1, X[:1].size))
        for i in range(0, len(X), rows):
            out[i : i + rows] = (X[i : i + rows] - self.mean) / self.scale
        return out

    def fold_into_input(self, W: Array, b: Array) -> None:
        """Make a first layer trained on scaled features take raw ones; overwrites W and b.

        ((x - mean) / scale) @ W + b = x @ (W / scale) + (b - (mean / scale) @ W).
        W: (fan_in, fan_out), b: (fan_out,), the network's own arrays or views. Products of columns far from
        0 are large and cancel: in float32 some 1e-7 |mean| / scale of each is lost, so ``transform`` these.
        """
        W64 = np.asarray(W, np.float64) / self.scale[:, None]
        b[...] = b - self.mean @ W64
        W[...] = W64

    def fold_into_output(self, W: Array, b: Array) -> None:
        """Make a last, linear layer trained on scaled targets give raw ones; overwrites W and b.

        (a @ W + b) * scale + mean = a @ (W * scale) + (b * scale + mean).
        """
        W[...] = W * self.scale
        b[...] = b * self.scale + self.mean
