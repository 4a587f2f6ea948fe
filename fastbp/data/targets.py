"""What a target asks for, labels or numbers: the one rule, for whoever is not told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import frames
from .columns import are_names
from .written import Written, written

if TYPE_CHECKING:
    from ..types import Array

_CLOSE, _CODES = 10, 1000  # most labels that are any whole numbers close together; that are 0, 1, 2, ...
_TIMES = 3  # that a label comes, at least, in the mean
_RARE = 0.1  # least share of the mean that a label among many comes


class TargetKind(NamedTuple):
    """labels: whether it is labels, else numbers; why, in words; written: how, where numbers are text."""

    labels: bool
    why: str
    written: Written | None = None


def target_kind(y: Any) -> TargetKind:
    """Whether (N,) values of any type or library are labels, to be told apart, or numbers.

    Numbers are judged by their values, not by their type; text that is numbers likewise, and with a currency
    or % ("$1,013") it is numbers. Labels are text, bools, two whole numbers (or one), and whole numbers that
    come three times each in the mean: up to ten that lie close together, within three times their count, or
    up to 1000 that are 0, 1, 2, ... or 1, 2, 3, ... without a gap, none rarer than a tenth of the mean. All
    else is numbers: prices, ages, delays, counts.

    Raises TypeError for dates, ValueError where no value is there and for texts that are names, most of
    which come once.

    >>> fb.data.target_kind([0.0, 1.0, 1.0, 0.0, 1.0, 0.0])
    TargetKind(labels=True, why='2 different whole numbers', written=None)
    >>> fb.data.target_kind(["$950", "$1,013", "$700"]).labels
    False
    """
    array = frames.column_array(y)
    array = array[frames.present(array)]
    if array.dtype.kind == "M":
        raise TypeError("target: got dates, takes numbers or labels")
    if not len(array):
        raise ValueError("target: has no value, takes one in every row")
    if array.dtype.kind == "f" and np.isinf(array).any():
        raise ValueError("target: got infinity, takes finite numbers or labels")
    if array.dtype.kind == "b":
        return TargetKind(True, "true or false")
    way = None
    if array.dtype.kind == "U":
        values = np.unique(array)
        way = written(values.tolist())
        if way is None or way.order:
            if way is not None and are_names(array):
                raise TypeError(f"target: got {way}, takes numbers or labels")
            if are_names(array):
                raise ValueError(
                    f"target: got {len(values)} different texts in {len(array)} rows, such as "
                    f"{str(values[0])!r}; takes labels that come again, or numbers"
                )
            return TargetKind(True, "text")
        array = way.read(array, "target")
        if way.sign:
            return TargetKind(False, f"{way}", way)
    labels, why = _numbers(array)
    return TargetKind(labels, why, None if labels else way)


def _numbers(y: Array) -> tuple[bool, str]:
    values, counts = np.unique(y, return_counts=True)
    if y.dtype.kind == "f" and (values != np.floor(values)).any():
        return False, "numbers with fractions"
    count, mean = len(values), len(y) / len(values)
    low, high = int(values[0]), int(values[-1])
    labels = count <= 2 or (
        mean >= _TIMES
        and (
            (count <= _CLOSE and high - low < 3 * count)
            or (
                count <= _CODES and low in (0, 1) and high - low == count - 1 and counts.min() >= _RARE * mean
            )
        )
    )
    many = f"{count:,} different whole numbers" if count > 1 else "one whole number"
    return labels, many if count <= 2 else f"{many}, {low} to {high}"
