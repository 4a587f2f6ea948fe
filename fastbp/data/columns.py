"""What a raw column is to a network: numbers, dates or categories; and which columns say nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from . import frames
from .written import Written, doubtful, is_missing, written

if TYPE_CHECKING:
    from ..types import Array, Doubles, Ints

DAY = 86400.0  # seconds
# What a date becomes; in turns, an angle as sine and cosine, so that December is next to January
PARTS = ("year", "season sine", "season cosine", "weekday sine", "weekday cosine", "hour sine",
         "hour cosine", "age")  # fmt: skip
_FEW = 20  # texts that are always categories; rows from which a count without a name counts
# Names that tools give to the numbers of rows, and people to what identifies them
_ROW_NAMES = re.compile(
    r"|unnamed: ?\d+|__index_level_\d+__|level_0|\.\.\.1|row|index|row[ _.]?(names?|id|nr|num|number|index)"
    r"|(.*[ _.-])?id|.*(?-i:[a-z]I[dD])",
    re.IGNORECASE,
)

_TIMES = set(
    "t time date age second minute hour day week month quarter year period".split()
)  # that rise, too


@dataclass(frozen=True)
class Dates:
    """Dates as numbers: parts, which of PARTS, in their order; latest, seconds since 1970, of the training.

    Season, weekday and hour are turns of a year, a week (from Monday) and a day; age is the days from a
    date to the latest of the training.
    """

    parts: tuple[str, ...]
    latest: float

    def __post_init__(self) -> None:
        if not self.parts or self.parts != tuple(p for p in PARTS if p in self.parts):
            raise ValueError(f"parts of dates: got {self.parts!r}, takes some of {', '.join(PARTS)}")
        if not np.isfinite(self.latest):
            raise ValueError(f"latest date: got {self.latest!r}, takes seconds since 1970")

    @classmethod
    def learn(cls, seconds: Doubles) -> Dates:
        """The parts that are not the same in all of these, (N,) seconds since 1970."""
        there = seconds[~np.isnan(seconds)]
        whole = cls(PARTS, float(there.max()))
        encoded = whole.encode(there)
        parts = tuple(p for p, c in zip(PARTS, encoded.T, strict=True) if c.min() < c.max())
        return cls(parts or PARTS[-1:], whole.latest)

    def encode(self, seconds: Doubles) -> Doubles:
        """(N, parts) of (N,) seconds since 1970; NaN stays NaN."""
        lost = np.isnan(seconds)
        days, second = np.divmod(np.where(lost, 0.0, seconds), DAY)
        date = days.astype(np.int64).astype("M8[D]")
        year = date.astype("M8[Y]")
        start, end = (y.astype("M8[D]").astype(np.int64) for y in (year, year + 1))
        turns = {"season": (days - start) / (end - start), "weekday": (days + 3) % 7 / 7,
                 "hour": second / DAY}  # fmt: skip
        found = {"year": year.astype(np.int64) + 1970.0, "age": (self.latest - seconds) / DAY}
        for name, turn in turns.items():
            found |= {f"{name} sine": np.sin(2 * np.pi * turn), f"{name} cosine": np.cos(2 * np.pi * turn)}
        out = np.stack([found[part] for part in self.parts], axis=1)
        out[lost] = np.nan
        return out

    def __str__(self) -> str:
        return ", ".join(dict.fromkeys(part.split()[0] for part in self.parts))


def learn(column: Array, declared: bool = False) -> tuple[Array, Written | None, bool]:
    """(the column as ``read`` gives it, how its text is written, whether it holds dates) of the training.

    declared: its library calls it categories, so it is text whatever it holds.
    """
    way = None
    if column.dtype.kind == "U" and not declared:
        first = [next((text for text in map(str, column) if not is_missing(text)), "")]
        if written(first) or doubtful(first):  # most text is neither, and seen to be so at once
            way = written(np.unique(column).tolist())
    text = declared or (column.dtype.kind == "U" and way is None)
    dates = not declared and bool(column.dtype.kind == "M" or (way and way.order))
    return read(column, "", text, dates, way), way, dates


def read(
    column: Array, where: str, text: bool = False, dates: bool = False, way: Written | None = None,
    first: int = 0,
) -> Array:  # fmt: skip
    """A column in use as it was in training: text, seconds since 1970 or numbers.

    text, dates, way: what ``learn`` found. where, first: the column and the number of its first row, for
    messages. Raises TypeError or ValueError for a column of another kind.
    """
    kind = column.dtype.kind
    if text:
        return column if kind == "U" else frames.texts(column)
    if kind == "U":
        return (way or Written("ymd" if dates else "")).read(column, where, first)
    if dates and kind == "f" and np.isnan(column).all():  # none is there
        return column.astype(np.float64)
    if (kind == "M") != dates:
        raise TypeError(f"{where} has dtype {column.dtype}, takes {'dates' if dates else 'numbers'}")
    if not dates:
        return column
    return np.where(np.isnat(column), np.nan, column.astype("M8[us]").astype(np.int64) / 1e6)


def values_of(column: Array) -> Array:
    """Those that are there of a column, as ``read`` gives it."""
    if column.dtype.kind not in "fU":
        return column
    lost = np.isnan(column) if column.dtype.kind == "f" else column == frames.MISSING
    return column[~lost] if lost.any() else column


def middle(numbers: Array) -> float:
    """The median of (N,) finite numbers; of two in the middle that are too large to be added the lower."""
    with np.errstate(over="ignore"):
        median = float(np.median(numbers))
    return median if np.isfinite(median) else float(np.quantile(numbers, 0.5, method="lower"))


def says_nothing(name: str | None, column: Array, alone: bool = False) -> str:
    """Why a column, as ``read`` gives it, tells a network nothing about other rows; "" where it may.

    That is a column without a value; with one value only; of texts that are names (``are_names``); of
    numbers that count or identify the rows. A column without a name may be constant: it is a pixel. One
    that is ``alone`` may rise by row: there is nothing else to learn from.
    """
    rows, text, there = len(column), column.dtype.kind == "U", values_of(column)
    if not len(there):
        return f"has no value in {rows} rows"
    if name is not None and len(there) == rows and (column == column[0]).all():
        return f"one value, {frames.texts(column[:1])[0]}"
    if not text:
        return _counts(name, there, alone) if len(there) == rows else ""
    if not are_names(there):
        return ""
    different = np.unique(there)
    note = ", dates of which nobody can say which is the day: write the year first"
    return (
        f"{len(different)} different texts in {rows} rows, such as {str(different[0])!r}"
        f"{note if doubtful(different.tolist()) else ''}"
    )


def are_names(column: Array) -> bool:
    """Whether texts are names or free words, which say nothing of other rows: more than 20, and most rows
    have one of their own."""
    _, counts = np.unique(column, return_counts=True)
    return bool(len(counts) > _FEW and 2 * np.count_nonzero(counts == 1) > len(column))


def _counts(name: str | None, column: Array, alone: bool) -> str:
    """Whether whole numbers are those of the rows: by their name, or because they rise from 0 or 1 on,
    or fall so, unless they are called a time.

    Of a part of the rows some numbers are absent: two in three may be, and as likely the first ones.
    """
    if column.dtype.kind == "b" or (column.dtype.kind == "f" and (column != np.floor(column)).any()):
        return ""
    if name is not None and _ROW_NAMES.fullmatch(name):
        found = len(np.unique(column)) == len(column) > 1
    elif alone or len(column) < _FEW or _TIMES & set(re.split(r"[\W_\d]+", (name or "").casefold())):
        found = False
    else:
        share = len(column) / (float(column.max()) + 1)
        found = 1 / 3 < share and 0 <= column.min() <= 1 + 20 * (1 - share)
        found = found and bool((column[1:] > column[:-1]).all() or (column[1:] < column[:-1]).all())
    return f"numbers the rows, {column[0]:.0f} to {column[-1]:.0f}" if found else ""


def categories(column: Array, most: int) -> tuple[list[str], int]:
    """(the values of a column of text, sorted, how many there are); the commonest ``most`` of them."""
    values, counts = np.unique(column, return_counts=True)
    count = len(values)
    if count > most:
        values = np.sort(values[np.argsort(-counts, kind="stable")[:most]])
    return [str(value) for value in values], count


def places(column: Array, values: list[str]) -> Ints:
    """(N,) the place of each text among the sorted values, -1 for what is none of them."""
    known = np.asarray(values, dtype=str)
    found = np.minimum(np.searchsorted(known, column), len(known) - 1)
    return np.where(known[found] == column, found, -1)
