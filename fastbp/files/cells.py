"""Cells of text as values: numbers as Python writes them, text, what is missing; the target."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..data.frames import MISSING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from ..types import Array

    Lines: TypeAlias = Any  # lines[row] is its line in the file

ABSENT = ("na", "n/a", "n.a.", "#n/a", "nan", "null", "none", "?")  # beside empty cells; --na says otherwise
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+\s*")


def is_missing(cell: str, absent: Collection[str] = ABSENT) -> bool:
    cell = cell.strip()
    return not cell or cell.casefold() in absent


def number(cell: str) -> float | None:
    """A cell as a float, or None. Python takes 1_000 for a number; in data it is a name."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def is_text(cells: Iterable[str], absent: Collection[str]) -> bool:
    """Whether a column holds categories, by its first cell that is there; a decimal comma is a slip."""
    cell = next((cell for cell in cells if not is_missing(cell, absent)), "0")
    return number(cell) is None and not _DECIMAL_COMMA.fullmatch(cell)


def texts(cells: Iterable[str], absent: Collection[str]) -> Array:
    """The cells as text without surrounding blanks, MISSING for those that are."""
    return np.array([MISSING if is_missing(cell, absent) else cell.strip() for cell in cells])


def numbers(where: str, cells: Sequence[str], lines: Lines, absent: Collection[str]) -> Array:
    """The cells as float64, NaN where missing; names the line and value of the first that is no number."""
    try:
        found = np.array(list(map(float, cells)))
        if np.isfinite(found).all() and "_" not in "".join(cells):
            return found
    except ValueError:
        pass
    found = np.full(len(cells), np.nan)
    for i, cell in enumerate(cells):
        if is_missing(cell, absent):
            continue
        value = number(cell)
        if value is None:
            comma = "; write decimals with a point" if _DECIMAL_COMMA.fullmatch(cell) else ""
            raise ValueError(
                f"{where}, line {lines[i]}: {_short(cell)} is not a number, as the column's first is; takes "
                f"numbers throughout or text throughout{comma}"
            )
        if not math.isfinite(value):
            raise ValueError(f"{where}, line {lines[i]}: {_short(cell)}; takes finite numbers")
        found[i] = value
    return found


def target(where: str, cells: Sequence[str], lines: Lines) -> Array:
    """The target's cells, none of them missing: int64 if every one is written as an integer, else float64,
    else text labels."""
    where = f"{where} (the target)"
    read = [number(cell) for cell in cells]
    if None not in read:
        y = numbers(where, cells, lines, ())
        whole = all(cell.strip().lstrip("+-").isdigit() for cell in cells)
        return y.astype(np.int64) if whole and np.abs(y).max() < 2**53 else y
    # Labels may look like whole numbers (1, 2, 3a); a fraction among text is a slip of the pen.
    if any(value is not None and not value.is_integer() for value in read):
        bad = read.index(None)
        raise ValueError(
            f"{where}, line {lines[bad]}: {_short(cells[bad])} among numbers; takes numbers or labels "
            "throughout"
        )
    return texts(cells, ())


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
