"""Functions for activations and losses of your own (fb.activation, fb.loss): of traced numbers or floats.

exp, expm1, log, log1p, sqrt, tanh, sigmoid, softplus, sinh, cosh, sin, cos, erf, absolute, sign, square,
power, maximum, minimum, where; numpy's and math's functions of these names do the same there.
"""

from __future__ import annotations

import math as _math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "exp", "expm1", "log", "log1p", "sqrt", "tanh", "sigmoid", "softplus", "sinh", "cosh", "sin", "cos",
    "erf", "absolute", "sign", "square", "power", "maximum", "minimum", "where",
]  # fmt: skip

_NUMPY: dict[str, Callable[..., Any]] = {
    "sigmoid": lambda x: np.exp(-np.logaddexp(0, -np.asarray(x))),
    "softplus": lambda x: np.logaddexp(0, x),
    "erf": np.vectorize(_math.erf, otypes=[float]),
    "and": np.logical_and,
    "or": np.logical_or,
    "not": np.logical_not,
}


_WORDS = {
    "sigmoid": "1 / (1 + exp(-x)).",
    "softplus": "log(1 + exp(x)).",
    "erf": "The error function, math.erf.",
}


def numpy_function(name: str) -> Callable[..., Any]:
    """What an operation of kernels/custom.py means, in NumPy."""
    return _NUMPY.get(name) or getattr(np, name)


def _apply(name: str, *args: Any) -> Any:
    for a in args:
        if hasattr(a, "graph"):  # a traced number or condition: custom/tracing.py
            return a.graph.apply(name, *args)
    return numpy_function(name)(*args)


def _function(name: str) -> Callable[[Any], Any]:
    def function(x: Any) -> Any:
        return _apply(name, x)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"numpy.{name}." if hasattr(np, name) else _WORDS[name]
    return function


exp, expm1, log, log1p, sqrt, tanh, sigmoid, softplus, sinh, cosh, sin, cos, erf, absolute, negative = map(
    _function,
    ("exp", "expm1", "log", "log1p", "sqrt", "tanh", "sigmoid", "softplus", "sinh", "cosh", "sin", "cos",
     "erf", "absolute", "negative"),
)  # fmt: skip
fabs = absolute


def add(x: Any, y: Any) -> Any:
    """x + y"""
    return x + y


def subtract(x: Any, y: Any) -> Any:
    """x - y"""
    return x - y


def multiply(x: Any, y: Any) -> Any:
    """x * y"""
    return x * y


def divide(x: Any, y: Any) -> Any:
    """x / y"""
    return x / y


def less(x: Any, y: Any) -> Any:
    """x < y"""
    return _apply("less", x, y)


def greater(x: Any, y: Any) -> Any:
    """x > y"""
    return _apply("greater", x, y)


def equal(x: Any, y: Any) -> Any:
    """x == y"""
    return _apply("equal", x, y)


def square(x: Any) -> Any:
    """x * x"""
    return x * x


def power(x: Any, n: float) -> Any:
    """x ** n"""
    return x**n


pow = power


def where(condition: Any, x: Any, y: Any) -> Any:
    """x where the condition holds, else y."""
    return _apply("where", condition, x, y)


def maximum(x: Any, y: Any) -> Any:
    """The larger of x and y; NaN in x is kept."""
    return where(less(x, y), y, x)


def minimum(x: Any, y: Any) -> Any:
    """The smaller of x and y; NaN in x is kept."""
    return where(greater(x, y), y, x)


def sign(x: Any) -> Any:
    """-1, 0 or 1."""
    return where(greater(x, 0.0), 1.0, where(less(x, 0.0), -1.0, x * 0.0))
