"""What a network may have beside weights, biases and activations: the arguments, checked."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import flag, named
from ..kernels import codes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    T = TypeVar("T")


def per_layer(name: str, value: Any, hidden: int, check: Callable[[Any], T]) -> list[T]:
    """One checked value for each hidden layer: ``value`` is one for all, or one for each."""
    single = isinstance(value, str) or not isinstance(value, Iterable)
    values = [value] * hidden if single else list(value)
    if single:
        check(value)
    elif len(values) != hidden:
        raise ValueError(
            f"{name}: got {len(values)} values, takes one for all or {hidden}, one per hidden layer"
        )
    return [check(v) for v in values]


def rate(name: str) -> Callable[[Any], float]:
    """The check of a dropout rate; None stands for 0."""

    def check(value: Any) -> float:
        value = 0.0 if value is None else value
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"{name}: got {value!r}, takes a share from 0 to below 1")
        if not 0 <= float(value) < 1 or threshold(float(value)) == codes.DROPOUT_RANGE:
            raise ValueError(f"{name}: got {value}, takes a share from 0 to below 1")
        return float(value)

    return check


def threshold(value: float) -> int:
    """A rate as the program takes it: in 1 / DROPOUT_RANGE."""
    return math.floor(value * codes.DROPOUT_RANGE + 0.5) if math.isfinite(value) else codes.DROPOUT_RANGE


def norm(value: Any) -> Any:
    """None, "layer" or "batch"."""
    return None if value is None else named("norm", value, codes.NORMS)


def skips(residual: bool | Sequence[bool], widths: Sequence[int]) -> list[bool]:
    """Which hidden layers add their input: widths are those of the layers' inputs, then the last one's.

    True takes every layer whose input is as wide as its output; one value each: just these.
    """

    agree = [a == b for a, b in zip(widths[:-1], widths[1:], strict=True)]
    wanted = per_layer("residual", residual, len(agree), lambda value: flag("residual", value))
    if not isinstance(residual, Iterable):
        if residual and not any(agree):
            raise ValueError(
                f"residual: got True, but no hidden layer's output is as wide as its input (widths {widths})"
            )
        return [w and a for w, a in zip(wanted, agree, strict=True)]
    for k, (w, a) in enumerate(zip(wanted, agree, strict=True)):
        if w and not a:
            raise ValueError(
                f"residual: got True for hidden layer {k}, which has {widths[k]} inputs and {widths[k + 1]} "
                "outputs; takes layers where these agree"
            )
    return wanted


def embeddings(value: Mapping[int, Sequence[int]] | None, columns: int, exact: int) -> list[tuple[int, ...]]:
    """[(column, categories, width), ...] by column; exact: the largest whole number that floats hold."""
    takes = "takes {column of X: (categories, numbers a category)}"
    try:
        table = {operator.index(c): tuple(map(operator.index, pair)) for c, pair in dict(value or {}).items()}
    except (TypeError, ValueError):
        raise TypeError(f"embeddings: got {value!r}, {takes}") from None
    for column, pair in table.items():
        if len(pair) != 2 or min(pair) < 1:
            raise ValueError(f"embeddings: got {pair} for column {column}, {takes}, both 1 or more")
        if not 0 <= column < columns:
            raise ValueError(f"embeddings: got column {column}, takes 0 to {columns - 1}")
        if pair[0] > exact:
            raise ValueError(f"embeddings: got {pair[0]} categories, takes at most {exact}")
    return [(c, *table[c]) for c in sorted(table)]


def runs(columns: int, taken: Iterable[int]) -> list[tuple[int, ...]]:
    """[(first column, how many, place), ...]: the columns that are not taken, side by side."""
    result: list[list[int]] = []
    place = 0
    for column in (c for c in range(columns) if c not in taken):
        if result and sum(result[-1][:2]) == column:
            result[-1][1] += 1
        else:
            result.append([column, 1, place])
        place += 1
    return [tuple(run) for run in result]
