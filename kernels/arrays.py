"""The maths ``m`` of formulas.py over NumPy arrays: formulas run without a compiler, to be looked at.

    m = Maths("float32")
    formulas.ACTIVATION[codes.TANH](m, m.constant([0.5, 1.0]))
    rows = Rows(m, z, t, numbers)
    loss_formulas.LOSS[codes.MSE](m, rows)  # then rows.loss, rows.delta

Also with NUMBA_DISABLE_JIT=1. No kernel calls this, and it is no oracle: that is reference/.
"""

import numpy as np

from . import operators
from .codes import LOSS_SCALARS


class Maths(operators.Maths):
    """Operators are NumPy's own; every constant and result has this dtype."""

    def __init__(self, dtype):
        self.dtype = np.dtype(dtype)
        self.is64 = self.dtype == np.float64
        self.integers = np.dtype(np.int64 if self.is64 else np.int32)
        self.mantissa = 52 if self.is64 else 23

    def constant(self, x):
        return np.asarray(x, self.dtype)

    lift = constant

    def fma(self, x, y, z):
        """x y + z with the product exact, as a fused multiply-add has it."""
        x, y, z = self.constant(x), self.constant(y), self.constant(z)
        with np.errstate(all="ignore"):
            if not self.is64:
                return self.constant(x.astype(np.float64) * y + z)
            product, lost = _two_product(x, y)
            total, rest = _two_sum(product, z)
            exact = total + (lost + rest)
            return np.where(np.isfinite(exact), exact, product + z)

    def select(self, mask, x, y):
        return np.where(mask, self.constant(x), self.constant(y))

    def abs(self, x):
        return np.abs(x)

    def sqrt(self, x):
        return np.sqrt(x)

    def round(self, x):
        return np.rint(x)

    def copysign(self, x, sign):
        return np.copysign(self.constant(x), sign)

    def pow2(self, n):
        return np.ldexp(self.constant(1), n.astype(np.int32))

    def split(self, x):
        """x = mantissa * 2**exponent, mantissa in [sqrt(1/2), sqrt(2))."""
        mantissa, exponent = np.frexp(x)
        low = mantissa < np.sqrt(0.5)
        return np.where(low, mantissa * 2, mantissa), self.constant(exponent - low)

    def bits(self, x):
        return np.atleast_1d(x).view(self.integers)

    def from_bits(self, n):
        return n.view(self.dtype)

    def shift_right(self, n, by):
        return n >> by


class Rows:
    """The view ``v`` of loss_formulas.py: all rows and columns at once, each row of weight 1.

    z (R, C); t (R, T), T = 1 for labels; numbers: the loss's hyperparameters, then one for each output.
    A loss leaves loss (R,), delta (R, C) and hits, the right answers; a link in delta what outputs stand for.
    """

    def __init__(self, m, z, t, numbers):
        self.m, self._z, self._t, self._numbers = m, m.constant(z), m.constant(t), m.constant(numbers)
        self.outputs, self.label = m.constant(self._z.shape[1]), self._t
        self.delta, self.loss, self.hits = np.zeros_like(self._z), None, 0

    def each(self, body):
        body(slice(None))

    def columns(self, c):
        return self.m.constant(np.arange(self._z.shape[1])[c])

    def z(self, c):
        return self._z[:, c]

    def t(self, c):
        """Where outputs are more than targets, the target that an output is for."""
        return np.repeat(self._t, self._z.shape[1] // self._t.shape[1], axis=1)[:, c]

    def keep(self, c, x):
        self.delta[:, c] = x

    put = set = keep

    def cumulate(self, backwards=False):
        begins, total = self._numbers[LOSS_SCALARS:] < 0, 0
        for c in reversed(range(len(begins))) if backwards else range(len(begins)):
            total = self.delta[:, c] + (0 if begins[c] and not backwards else total)
            self.delta[:, c] = total
            total = 0 if begins[c] and backwards else total

    def kept(self, c):
        return self.delta[:, c].copy()

    def sums(self, count, body):
        found = body(slice(None))
        return [np.broadcast_to(x, self._z.shape).sum(axis=1, keepdims=True) for x in found]

    def top(self, values):
        x = values(slice(None))
        return x.max(axis=1, keepdims=True), self.m.constant(x.argmax(axis=1)[:, None])

    def z_at(self, n):
        return np.take_along_axis(self._z, n.astype(np.int64), axis=1)

    def number(self, i):
        return self._numbers[i]

    def vector(self, c):
        return self._numbers[LOSS_SCALARS:][c]

    def vector_at(self, n):
        return self._numbers[LOSS_SCALARS:][n.astype(np.int64)]

    def halves(self, body, *more):
        first, second = np.split(self._z, 2, axis=1)
        value, *slopes = body(first, second, self._t, *(f(slice(None)) for f in more))
        self.delta[:] = np.hstack(slopes)
        return value.sum(axis=1, keepdims=True)

    def finish(self, loss):
        self.loss = loss[:, 0]

    def right(self, mask):
        self.hits += int(mask.sum())

    def right_each(self, c, mask):
        self.right(mask)


def _two_sum(x, y):
    """The rounded sum and what the rounding lost (Knuth)."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


def _two_product(x, y):
    """The rounded product and what the rounding lost (Dekker)."""

    def halves(a):
        high = a * 134217729.0  # 2**27 + 1
        high = high - (high - a)
        return high, a - high

    product = x * y
    (xh, xl), (yh, yl) = halves(x), halves(y)
    return product, ((xh * yh - product) + xh * yl + xl * yh) + xl * yl
