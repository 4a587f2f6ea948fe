"""What errors have in common: the argument, what came, what it takes."""

from __future__ import annotations

import difflib
import numbers
import operator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def unknown(what: str, got: object, known: Iterable[Any]) -> ValueError:
    """A ValueError for a name that is not among the known ones, suggesting the nearest.

    what: the argument's name; got: what came, of any type; known: the names it takes.

    >>> from fastbp.errors import unknown
    >>> raise unknown("activation", "rleu", ["relu", "tanh"])
    Traceback (most recent call last):
    ValueError: activation: got 'rleu'; did you mean 'relu'? Known: relu, tanh
    """
    known = [str(name) for name in known]
    folded = {name.casefold(): name for name in reversed(known)}
    near = difflib.get_close_matches(str(got).casefold(), folded)
    near.sort(key=lambda name: sorted(name) != sorted(str(got).casefold()))  # swapped letters come first
    hint = f"; did you mean {folded[near[0]]!r}?" if near else "."
    return ValueError(f"{what}: got {got!r}{hint} Known: {', '.join(known) or '(none)'}")


def whole(name: str, value: Any, least: int = 1, most: int = 2**63 - 1) -> int:
    """``value`` as an int from ``least`` to ``most``; raises TypeError or ValueError naming ``name``."""
    takes = f"takes a whole number from {least}" + (" on" if most >= 2**62 else f" to {most}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: got {value!r}, {takes}") from None
    if not least <= number <= most:
        raise ValueError(f"{name}: got {number}, {takes}")
    return number


def number(what: str, got: Any, good: Callable[[Any], Any], takes: str) -> float:
    """``got`` as a float where it is a number that good(number) likes; a ValueError otherwise.

    >>> from fastbp.errors import number
    >>> number("lr", -1, lambda v: v > 0, "a number above 0")
    Traceback (most recent call last):
    ValueError: lr: got -1, takes a number above 0
    """
    if not isinstance(got, numbers.Real) or isinstance(got, bool) or not good(got):
        raise ValueError(f"{what}: got {got!r}, takes {takes}")
    return float(got)


def check_field(owner: Any, name: str, good: Callable[[Any], Any], takes: str) -> None:
    """Make a dataclass's field the float that it is; a ValueError naming class and field otherwise."""
    setattr(owner, name, number(f"{type(owner).__name__} {name}", getattr(owner, name), good, takes))


# What ``number`` and ``check_field`` take last: the test, and its words.
ABOVE_0 = (lambda v: 0 < v < float("inf"), "a number above 0")
FROM_0 = (lambda v: 0 <= v < float("inf"), "a number from 0 on")
BETWEEN_0_AND_1 = (lambda v: 0 < v < 1, "a number between 0 and 1")
BELOW_1 = (lambda v: 0 <= v < 1, "a number from 0 to below 1")
