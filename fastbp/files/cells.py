"""Cells of text as columns: plain numbers at once; the rest is text, which a Preparation reads by its values.

What looks like a slip is said with its line: a word among numbers, a number among dates.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..data.frames import MISSING
from ..data.written import Written, doubtful, written
from ..data.written import is_missing as is_no_value

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from ..types import Array

    Lines: TypeAlias = Any  # lines[row] is its line in the file

ABSENT = ("na", "n/a", "n.a.", "#n/a", "nan", "null", "none", "?")  # beside empty cells; --na says otherwise
CODE = r"[+-]?0\d+"  # 00501 is a name, as in data/written.py
_CODE, _CODES = re.compile(CODE), re.compile(rf"(?m)^\s*{CODE}\s*$")
_LOOKED_AT = 1000  # of a column's different texts, to see what most of them are


def is_missing(cell: str, absent: Collection[str] = ABSENT) -> bool:
    cell = cell.strip()
    return not cell or cell.casefold() in absent


def number(cell: str) -> float | None:
    """A cell as a float, or None. Python takes 1_000 for a number; in data it is a name."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def texts(cells: Iterable[str], absent: Collection[str]) -> Array:
    """The cells as text without surrounding blanks, MISSING for those that are."""
    return np.array([MISSING if is_missing(cell, absent) else cell.strip() for cell in cells])


def numbers(
    where: str, cells: Sequence[str], lines: Lines, absent: Collection[str], commas: bool = False
) -> Array | None:
    """The cells as float64, NaN where missing; None where one is no plain number.

    commas: in this file points part thousands, so that a number with one is not plain. Raises ValueError for
    an infinite one, with its line."""
    fast = _floats(cells, commas)
    if fast is not None:
        return fast
    found = np.full(len(cells), np.nan)
    for i, cell in enumerate(cells):
        if is_missing(cell, absent):
            continue
        value = number(cell)
        if value is None or (commas and "." in cell) or _CODE.fullmatch(cell.strip()):
            return None
        if not math.isfinite(value):
            raise ValueError(f"{where}, line {lines[i]}: {_short(cell)}; takes finite numbers")
        found[i] = value
    return found


def _floats(cells: Sequence[str], commas: bool) -> Array | None:
    """The cells where all are plain finite numbers, at once; else None."""
    text = "\n".join(cells)
    if "_" in text or (commas and "." in text) or _CODES.search(text):
        return None
    try:
        found = np.array(list(map(float, cells)))
    except ValueError:
        return None
    return found if np.isfinite(found).all() else None


# --- columns of text


def has_commas(columns: Sequence[Sequence[str]], absent: Collection[str]) -> bool:
    """Whether a file writes decimal commas: in one column or more points would not do, in none commas.

    Then a point parts thousands, in columns too that do not show it."""
    shown = any(_needs_commas(column, absent) for column in columns if any("," in cell for cell in column))
    points = (cell for column in columns for cell in column if "." in cell and number(cell) is not None)
    return shown and all(written([cell], ",") is not None for cell in points)


def _needs_commas(column: Sequence[str], absent: Collection[str]) -> bool:
    way = written({cell.strip() for cell in column if not is_missing(cell, absent)})
    return way is not None and not way.order and way.decimal == ","


def read_as_told(column: Array, commas: bool, dates: str | None) -> Array:
    """A column of text, rewritten for who knows no more of the file: decimal commas where that is how it
    writes numbers, dates in the order that the user says."""
    values = [value for value in np.unique(column).tolist() if value != MISSING]
    ways = ([written(values, ",")] if commas else []) + ([Written(dates)] if dates else [])
    for way in ways:
        if values and way is not None and (way.order == (dates or "")) and all(map(way.knows, values)):
            made: dict[str, str] = {value: _said(way, value) for value in values}
            return np.array([made.get(text, MISSING) for text in column.tolist()])
    return column


def _said(way: Written, value: str) -> str:
    found = way.value(value)
    assert found is not None
    if way.order:
        return str(np.datetime64("1970-01-01T00:00:00") + np.timedelta64(round(found), "s"))
    return repr(found).removesuffix(".0") + way.sign


def check_text(where: str, column: Array, lines: Lines) -> None:
    """Raises ValueError for dates of which nobody can say what is the day, and for a column of which most is
    numbers, or dates, but not all."""
    values = [value for value in np.unique(column).tolist() if value != MISSING]
    if not values or written(values) is not None or any(map(_CODE.fullmatch, values)):
        return
    if doubtful(values):
        raise ValueError(
            f"{where}: {values[0]!r} may begin with the day or the month; takes --dates dmy or mdy, or --text"
        )
    some = values[:: -(-len(values) // _LOOKED_AT)]
    ways = Counter(way for value in some if (way := _way(value)) is not None)
    for dates in (False, True):
        alike = Counter({way: n for way, n in ways.items() if bool(way.order) == dates})
        if 2 * alike.total() >= len(some):
            (way, _), *_ = alike.most_common(1)
            row = next(i for i, v in enumerate(column.tolist()) if v != MISSING and not way.knows(v))
            raise ValueError(
                f"{where}, line {lines[row]}: {_short(column[row].item())} among {way}; takes them written "
                "alike throughout (--na: what means missing; --text: categories)"
            )


def _way(value: str) -> Written | None:
    """How one value is written, where it is a number or a date; the day first where nobody knows."""
    return Written("dmy") if doubtful([value]) else written([value])


# --- the target


def lost(cells: Sequence[str], absent: Collection[str]) -> Array:
    """(N,) bool: the rows without a target. Among numbers a - or . is none; among labels it may be one."""
    different = set(cells)
    if absent == ABSENT:  # none of these words, nor of those below, ends with a digit
        different = {cell for cell in different if not cell[-1:].isdigit()}
    none = {cell for cell in different if is_missing(cell, absent)}
    more = {cell for cell in different - none if is_no_value(cell)} if absent == ABSENT else set()
    if more and written(cell for cell in set(cells) - none) is not None:
        none |= more
    return np.array([cell in none for cell in cells]) if none else np.zeros(len(cells), bool)


def target(where: str, cells: Sequence[str], lines: Lines, commas: bool) -> Array:
    """The target's cells, none of them missing: int64 if every one is written as an integer, else float64,
    else text, which may be numbers written otherwise."""
    found = _floats(cells, commas)
    if found is not None:
        whole = all(cell.strip().lstrip("+-").isdigit() for cell in cells)
        return found.astype(np.int64) if whole and np.abs(found).max() < 2**53 else found
    column, where = texts(cells, ()), f"{where} (the target)"
    read = [number(cell) for cell in cells]
    for i, value in enumerate(read):
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{where}, line {lines[i]}: {_short(cells[i])}; takes finite numbers")
    # Labels may look like whole numbers (1, 2, 3a); a fraction among text is a slip of the pen.
    fractions = any(value is not None and not value.is_integer() for value in read)
    if None in read and fractions and written(np.unique(column).tolist()) is None:
        bad = read.index(None)
        raise ValueError(
            f"{where}, line {lines[bad]}: {_short(cells[bad])} among numbers; takes numbers or labels "
            "throughout (--na: what means missing; --text: labels)"
        )
    return read_as_told(column, commas, None)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
