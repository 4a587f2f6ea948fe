"""What the maths of all devices share: Python's operators on their values, and the functions that follow.

A maths ``m`` carries out the formulas of formulas.py, loss_formulas.py and custom.py: as LLVM vectors
(cpu/simd.py), as scalar source for the GPU (cuda/scalar.py), as C (fastbp/export/cfile.py), over NumPy arrays
(arrays.py); a traced function's (fastbp/custom/tracing.py) notes the operations. It has

    is64                        whether its floats are float64
    constant(x), lift(x)        a number as a value; the same for what may be a value already
    apply(name, *values)        an operation of OPERATIONS; a value's operators call it
    select(mask, x, y)          x where the mask holds, else y
    fma(x, y, z)                x y + z, rounded once where the machine can
    abs, sqrt, round(x)         round: to the nearest whole number, ties to even
    copysign(x, sign), pow2(n)  2**n for a whole number n in the exponent's range
    split(x)                    (mantissa, exponent), the mantissa in [sqrt(1/2), sqrt(2))
    bits, from_bits(x)          a float's bits as an integer, and back; shift_right(n, by) of such bits

Numbers in place of values are lifted. What a formula does not use may be absent: C has no bits.
"""

OPERATIONS = ("add", "subtract", "multiply", "divide", "negative", "less", "greater", "equal", "and", "or",
              "xor", "not", "shift")  # fmt: skip
# as Python and C write them
SIGNS = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/", "less": "<", "greater": ">",
         "equal": "==", "xor": "^", "shift": ">>"}  # fmt: skip


class Operators:
    """A value whose operators are ``self.apply(name, x, y)``, with self as one of x and y."""

    __slots__ = ()

    def __add__(self, other):
        return self.apply("add", self, other)

    def __sub__(self, other):
        return self.apply("subtract", self, other)

    def __rsub__(self, other):
        return self.apply("subtract", other, self)

    def __mul__(self, other):
        return self.apply("multiply", self, other)

    def __truediv__(self, other):
        return self.apply("divide", self, other)

    def __rtruediv__(self, other):
        return self.apply("divide", other, self)

    def __neg__(self):
        return self.apply("negative", self)

    def __lt__(self, other):
        return self.apply("less", self, other)

    def __gt__(self, other):
        return self.apply("greater", self, other)

    def __eq__(self, other):
        return self.apply("equal", self, other)

    def __and__(self, other):
        return self.apply("and", self, other)

    def __or__(self, other):
        return self.apply("or", self, other)

    def __xor__(self, other):
        return self.apply("xor", self, other)

    def __invert__(self):
        return self.apply("not", self)

    def __rshift__(self, by):
        return self.apply("shift", self, by)

    __radd__, __rmul__, __rand__, __ror__, __hash__ = __add__, __mul__, __and__, __or__, None


class Maths:
    """The functions of a maths that follow from its others."""

    def maximum(self, x, low):
        """x, or low where x is below it; NaN in x is kept."""
        return self.select(self.lift(x) < low, low, x)

    def minimum(self, x, high):
        return self.select(self.lift(x) > high, high, x)

    def clip(self, x, low, high):
        return self.minimum(self.maximum(x, low), high)
