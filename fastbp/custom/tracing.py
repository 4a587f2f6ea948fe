"""The user's scalar Python functions as lists of nodes (kernels/custom.py), and their derivatives.

The function is called with a Number that writes down what is done to it. A condition that depends on it
(``if z > 0``, ``max(z, 0)``, ``and``) is answered both ways, in runs of their own, and the results are
joined by ``where``. Derivatives are exact: one pass over the nodes with the rules of calculus.
"""

from __future__ import annotations

import json
import math as _math
import types
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import math
from ..kernels.operators import Operators

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PATHS = 256  # most ways through a function's conditions
CONDITIONS = ("less", "greater", "equal", "and", "or", "not")
UFUNCS = {
    "true_divide": "divide",
    "fabs": "absolute",
    "logical_not": "not",
}  # numpy's names for ours


class Graph:
    """Nodes, each once; which way conditions go in the present run."""

    nodes: list[Any]
    known: dict[Any, int]
    taken: list[int]
    decided: dict[int, bool]

    def __init__(self, arguments: int) -> None:
        self.nodes, self.known = [], {}
        self.inputs = [Number(self, self.add("input", i)) for i in range(arguments)]
        self.begin(())

    def add(self, *node: Any) -> int:
        if node not in self.known:
            self.known[node] = len(self.nodes)
            self.nodes.append(node)
        return self.known[node]

    def begin(self, decisions: Sequence[bool]) -> None:
        self.decisions, self.taken, self.decided = decisions, [], {}

    def decide(self, mask: int) -> bool:
        if mask not in self.decided:
            place = len(self.taken)
            if place >= PATHS:  # a loop that the numbers would have to end
                raise ValueError(f"got a function with more than {PATHS} conditions on one way through it")
            self.decided[mask] = self.decisions[place] if place < len(self.decisions) else True
            self.taken.append(mask)
        return self.decided[mask]

    def apply(self, name: str, *args: Any) -> Any:
        kind = Mask if name in CONDITIONS else Number
        return kind(self, self.add(name, *(self.lift(a).index for a in args)))

    def lift(self, x: Any) -> Any:
        if isinstance(x, (Number, Mask)):
            return x
        if isinstance(x, (int, float, np.number, bool, np.bool_)):
            return Number(self, self.add("constant", float(x)))
        if isinstance(x, np.ndarray) and x.ndim == 0:
            return self.lift(x.item())
        raise TypeError(f"got {type(x).__name__} in a traced function, takes numbers")


class _Value(Operators):
    __slots__ = ("graph", "index")
    operations: tuple[str, ...] = ()

    def __init__(self, graph: Graph, index: int) -> None:
        self.graph, self.index = graph, index

    def apply(self, name: str, *values: Any) -> Any:
        if name in self.operations:
            return self.graph.apply(name, *values)
        if len(values) > 1:  # then Python asks the other one, or raises its TypeError
            return NotImplemented
        raise TypeError(f"got {name} of a traced {type(self).__name__.lower()}, takes {self.operations}")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, **options: Any) -> Any:
        name = UFUNCS[ufunc.__name__] if ufunc.__name__ in UFUNCS else ufunc.__name__
        if method != "__call__" or options or not hasattr(math, name):
            raise TypeError(f"np.{ufunc.__name__} in a traced function; takes what fastbp.math has")
        return getattr(math, name)(*args)

    def __array_function__(self, function: Any, kinds: Any, args: Any, options: Any) -> Any:
        if options or not hasattr(math, function.__name__):
            raise TypeError(f"np.{function.__name__} in a traced function; takes what fastbp.math has")
        return getattr(math, function.__name__)(*args)


class Number(_Value):
    """A number that remembers how it came about."""

    __slots__ = ()
    operations = ("add", "subtract", "multiply", "divide", "negative", "less", "greater", "equal")

    def __pos__(self) -> Number:
        return self

    def __abs__(self) -> Any:
        return self.graph.apply("absolute", self)

    def __le__(self, other: Any) -> Any:
        return (self < other) | (self == other)

    def __ge__(self, other: Any) -> Any:
        return (self > other) | (self == other)

    def __ne__(self, other: Any) -> Any:
        return ~(self == other)

    def __pow__(self, power: Any) -> Any:
        if isinstance(power, Number):
            return math.exp(power * math.log(self))
        if float(power) == 0.5:
            return math.sqrt(self)
        if float(power) != int(power) or abs(power) > 64:
            return self.graph.apply("power", self, float(power))
        result, square, n = self.graph.lift(1.0), self, abs(int(power))
        while n:
            result = result * square if n & 1 else result
            square, n = square * square if n > 1 else square, n >> 1
        return 1.0 / result if power < 0 else result

    def __rpow__(self, base: float) -> Any:
        return math.exp(self * _math.log(base))

    def __bool__(self) -> bool:
        return bool(self != 0.0)

    def __float__(self) -> float:
        raise TypeError("a traced number is no float: use fastbp.math, numpy's or math's own functions")


class Mask(_Value):
    """A condition on traced numbers."""

    __slots__ = ()
    operations = ("and", "or", "not")

    def __bool__(self) -> bool:
        return self.graph.decide(self.index)


# --- the rules of calculus: (x, dx, y = the node) or (x, y, dx, dy, the node); no slope is None


def _rules() -> dict[str, Callable[[Any, Any], Any]]:
    root = 2 / _math.sqrt(_math.pi)
    return {
        "negative": lambda x, y: -1.0,
        "absolute": lambda x, y: math.where(x > 0.0, 1.0, math.where(x < 0.0, -1.0, x * 0.0)),
        "sqrt": lambda x, y: 0.5 / y,
        "exp": lambda x, y: y,
        "expm1": lambda x, y: math.exp(x),
        "log": lambda x, y: 1.0 / x,
        "log1p": lambda x, y: 1.0 / (x + 1.0),
        "tanh": lambda x, y: 1.0 - y * y,
        "sigmoid": lambda x, y: y * (1.0 - y),
        "softplus": lambda x, y: math.sigmoid(x),
        "sinh": lambda x, y: math.cosh(x),
        "cosh": lambda x, y: math.sinh(x),
        "sin": lambda x, y: math.cos(x),
        "cos": lambda x, y: -math.sin(x),
        "erf": lambda x, y: root * math.exp(-x * x),
    }


def differentiate(graph: Graph, node: Any, by: int) -> Any:
    """The Number d node / d input ``by``."""
    rules, slopes = _rules(), {}
    count = node.index + 1

    def plus(a: Any, b: Any) -> Any:
        return b if a is None else a if b is None else a + b

    for index, (name, *operands) in enumerate(graph.nodes[:count]):
        if name in ("input", "constant"):
            slopes[index] = graph.lift(1.0) if (name, operands) == ("input", [by]) else None
            continue
        values = [Number(graph, i) for i in operands]
        inner = [slopes.get(i) for i in operands]
        if name in CONDITIONS or all(d is None for d in inner):
            slopes[index] = None
        elif name in rules:
            slopes[index] = inner[0] * rules[name](values[0], Number(graph, index))
        elif name == "power":
            exponent = graph.nodes[operands[1]][1]
            slopes[index] = inner[0] * (exponent * values[0] ** (exponent - 1))
        elif name == "where":
            first, second = (graph.lift(0.0) if d is None else d for d in inner[1:])
            slopes[index] = graph.apply("where", Mask(graph, operands[0]), first, second)
        elif name == "multiply":
            (x, y), (dx, dy) = values, inner
            slopes[index] = plus(None if dx is None else dx * y, None if dy is None else x * dy)
        elif name == "divide":
            (_, y), (dx, dy) = values, inner
            change = None if dy is None else -(Number(graph, index) * dy)
            slopes[index] = plus(dx, change) / y
        else:  # add, subtract
            dx, dy = inner
            slopes[index] = plus(dx, dy if dy is None or name == "add" else -dy)
    result = slopes[node.index]
    return graph.lift(0.0) if result is None else result


# --- from Python functions


class _Math:
    """Stands in for the module math."""

    def __getattr__(self, name: str) -> Any:
        if hasattr(math, name):
            return getattr(math, name)
        if callable(getattr(_math, name)):
            raise TypeError(f"math.{name} in a traced function; takes what fastbp.math has")
        return getattr(_math, name)


_ALIASES = {"fabs": "absolute", "pow": "power"}


def _stand_in(value: Any, done: dict[Any, Any]) -> Any:
    if value is _math:
        return _Math()
    if isinstance(value, types.BuiltinFunctionType) and value.__module__ == "math":
        return getattr(_Math(), _ALIASES.get(value.__name__, value.__name__))
    if hasattr(value, "py_func") or isinstance(value, types.FunctionType):
        return plain(value, done)
    return value


def plain(function: Any, done: dict[Any, Any] | None = None) -> Any:
    """A Python function as it can be traced: numba's dispatchers opened, math replaced, in helpers too."""
    done = {} if done is None else done
    function = getattr(function, "py_func", function)
    if not isinstance(function, types.FunctionType) or (function.__module__ or "").startswith("fastbp."):
        return function
    if function not in done:
        names, cells = set(function.__code__.co_names), function.__closure__ or ()
        space = dict(function.__globals__)
        copy = types.FunctionType(
            function.__code__, space, function.__name__, function.__defaults__,
            tuple(types.CellType() for _ in cells),
        )  # fmt: skip
        copy.__kwdefaults__ = function.__kwdefaults__
        done[function] = copy
        for name in names & space.keys():
            space[name] = _stand_in(space[name], done)
        for cell, source in zip(copy.__closure__ or (), cells, strict=True):
            cell.cell_contents = _stand_in(source.cell_contents, done)
    return done[function]


def trace(graph: Graph, function: Any) -> Any:
    """The Number that function(*graph.inputs) is, all ways through its conditions joined."""
    function, runs = plain(function), 0

    def explore(prefix: tuple[bool, ...]) -> Any:
        nonlocal runs
        runs += 1
        if runs > PATHS:
            raise ValueError(f"got a function with more than {PATHS} ways through its conditions")
        graph.begin(prefix)
        result = graph.lift(function(*graph.inputs))
        if isinstance(result, Mask):
            result = graph.apply("where", result, 1.0, 0.0)
        taken = list(graph.taken)
        for k in reversed(range(len(prefix), len(taken))):
            other = explore((*prefix, *[True] * (k - len(prefix)), False))
            result = graph.apply("where", Mask(graph, taken[k]), result, other)
        return result

    return explore(())


def needed(graph: Graph, wanted: Sequence[Number]) -> tuple[list[Any], list[int]]:
    """(nodes, wanted) with only what is needed for the Numbers ``wanted``, in order."""
    keep, stack = set(), [n.index for n in wanted]
    while stack:
        index = stack.pop()
        if index not in keep:
            keep.add(index)
            name, *operands = graph.nodes[index]
            stack += [] if name in ("input", "constant") else operands
    order = {old: new for new, old in enumerate(sorted(keep))}
    nodes = []
    for old in order:
        name, *operands = graph.nodes[old]
        nodes.append([name, *(operands if name in ("input", "constant") else [order[i] for i in operands])])
    return nodes, [order[n.index] for n in wanted]


def text(kind: str, graph: Graph, wanted: Sequence[Number]) -> str:
    """The definition as JSON: what the kernels compile, and by whose digest they find it again."""
    nodes, places = needed(graph, wanted)
    return json.dumps({"kind": kind, "nodes": nodes, "wanted": places}, separators=(",", ":"))
