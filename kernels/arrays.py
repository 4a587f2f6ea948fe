"""The maths ``m`` of formulas.py over NumPy arrays: formulas run without a compiler, to be looked at.

    m = Maths("float32")
    formulas.ACTIVATION[codes.TANH](m, m.constant([0.5, 1.0]))

Also with NUMBA_DISABLE_JIT=1. No kernel calls this, and it is no oracle: that is reference/.
"""

import numpy as np

from . import operators


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
