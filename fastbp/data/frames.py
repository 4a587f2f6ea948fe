"""Tables with named columns, of whatever library: pandas, polars, Arrow; read by what they share."""

from __future__ import annotations

import datetime
import numbers
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import distinct
from .written import written

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import DTypeLike

    from ..types import Array

MISSING = ""  # a missing value in a column of text: a category of its own


@dataclass
class Frame:
    """Named columns of one length: names, list of str; columns, list of (N,) arrays of numbers, text or
    datetime64[us]; declared, the names of those that their library calls categories, whatever they hold.
    """

    names: list[str]
    columns: list[Array]
    declared: Collection[str] = ()

    def __len__(self) -> int:
        return len(self.columns[0]) if self.columns else 0

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), len(self.columns)

    def rows(self, index: Any) -> Frame:
        """The rows that an index array names."""
        return Frame(self.names, [column[index] for column in self.columns], self.declared)

    def select(self, names: Sequence[str]) -> Frame:
        """The columns of these names, in their order. Raises ValueError for those that are not there."""
        place = dict(zip(self.names, self.columns, strict=True))
        absent = [name for name in names if name not in place]
        if absent:
            raise ValueError(
                f"X: has no column {', '.join(map(repr, absent[:5]))}; takes the columns of the training: "
                f"{', '.join(map(repr, names[:20]))}"
            )
        return Frame(list(names), [place[name] for name in names], self.declared)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        return np.asarray(self.numbers(), dtype)

    def numbers(self) -> Array:
        """(N, n) array of the common numeric dtype. Raises TypeError naming a column that is none."""
        for name, column in zip(self.names, self.columns, strict=True):
            if column.dtype.kind not in "fiub":
                raise TypeError(
                    f"X: column {name!r} has dtype {column.dtype} (such as {_sample(column)}), takes "
                    "numbers; fastbp.preparation.Preparation makes them of text and dates"
                )
        return np.stack(self.columns, axis=1)


def _sample(column: Array) -> str:
    return repr(str(column[0])) if len(column) else "nothing"


def names_of(X: Any) -> list[str] | None:
    """The column names of a frame of any library as a list of str; None for what has none.

    Raises ValueError for two columns of one name: nobody could say which is meant.
    """
    if isinstance(X, Frame):
        names: Any = X.names
    else:
        names = getattr(X, "column_names", None)  # Arrow
        if names is None:
            names = getattr(X, "columns", None)  # pandas, polars
        if names is None or not hasattr(X, "__getitem__") or callable(names):
            return None
    names = list(names)
    if not all(isinstance(name, str) for name in names):
        return None
    distinct("X", names, "columns whose names differ")
    return names


def frame(X: Any, mixed: bool = False, only: Collection[str] | None = None) -> Frame | Any:
    """X as a Frame, its columns not copied where the library allows it; None if X is no frame.

    mixed: a column of texts and numbers is text. only: names of columns; others are not looked at.

    Raises ValueError for two columns of one name, TypeError for
    a column that is no array of numbers, dates or text (lists, structs).
    """
    names = names_of(X)
    if names is None or isinstance(X, Frame):
        return X if isinstance(X, Frame) else None
    if only is not None:
        names = [name for name in names if name in only]
    declared = [name for name in names if is_declared(X[name])]
    return Frame(names, [column_array(X[name], name, mixed) for name in names], declared)


def is_declared(column: Any) -> bool:
    """Whether a column's library says that it holds categories: pandas, polars, Arrow."""
    kind = getattr(column, "dtype", None)
    kind = str(getattr(column, "type", None) if kind is None else kind)
    return kind.partition("(")[0] in ("category", "Categorical", "Enum") or kind.startswith("dictionary<")


def column_array(column: Any, name: str = "y", mixed: bool = False) -> Array:
    """A column of any library as an (N,) array, read by its values: numbers, datetime64[us] or text.

    Numbers stay of their dtype; Decimal becomes float64, a span of time its seconds. Dates and times are
    those of the clock, in whatever zone; a time of day is that of 1970-01-01. Missing values become NaN, NaT,
    or MISSING among texts, for whoever takes the array to refuse or to fill. Texts and numbers together
    are text where all of them are numbers as they are written, or where ``mixed``. Raises TypeError for any
    other mixture, and for anything else.
    """
    array = _of_its_library(column)
    if array.dtype.kind == "O":
        array = _of_objects(array, name, mixed or is_declared(column))
    if array.dtype.kind in "SUT":
        return array.astype(str)
    if array.dtype.kind == "M":
        return array.astype("M8[us]")
    if array.dtype.kind == "m":
        return np.where(np.isnat(array), np.nan, array / np.timedelta64(1, "s"))
    if array.dtype.kind not in "fiub":
        raise TypeError(f"column {name!r}: got dtype {array.dtype}, takes numbers, dates or text")
    return array


def _of_its_library(column: Any) -> Array:
    """What NumPy makes of a column, but for what gets lost on the way."""
    kind = str(getattr(column, "type", ""))
    if kind.startswith("dictionary<"):  # Arrow's to_numpy has a category where one is missing
        column = column.cast(column.type.value_type)
    elif kind.startswith("timestamp[") and "tz=" in kind:  # in Arrow and polars NumPy gets UTC
        from pyarrow.compute import call_function

        column = call_function("local_timestamp", [column])
    elif getattr(getattr(column, "dtype", None), "time_zone", None):
        column = column.dt.replace_time_zone(None)
    elif getattr(getattr(column, "dtype", None), "tz", None):  # pandas' to_numpy makes objects of it
        column = column.dt.tz_localize(None)
    if hasattr(column, "to_numpy"):
        return column.to_numpy(zero_copy_only=False) if kind else column.to_numpy()
    return np.asarray(column)


def present(y: Any) -> Array:
    """(N,) bool: the rows of a target that have a value, all of them where it is (N, outputs).

    None, NaN, NaT, pandas' NA and empty text are none. So ``y[present(y)]`` drops what is missing.

    >>> fb.data.present([1.5, None, 2.0]).tolist()
    [True, False, True]
    """
    array = column_array(y) if np.ndim(y) < 2 else np.asarray(y)
    if array.dtype.kind == "U":
        return array != MISSING
    if array.dtype.kind not in "fM":
        return np.ones(len(array), bool)
    there: Any = ~(np.isnan(array) if array.dtype.kind == "f" else np.isnat(array))
    return there if there.ndim == 1 else there.all(axis=1)


def texts(array: Array) -> Array:
    """A column as text: whole numbers without a fraction, MISSING for NaN and NaT."""
    if array.dtype.kind == "f":
        return np.array([MISSING if v != v else repr(v).removesuffix(".0") for v in array.tolist()], str)
    if array.dtype.kind in "mM":
        return np.where(np.isnat(array), MISSING, array.astype(str))
    return array.astype(str)


def is_missing(value: Any) -> bool:
    """None, NaN, NaT, pandas' NA: no value, in a column of objects."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, _MAY_BE_NAN) and bool(value != value)


def _on_the_clock(value: Any) -> np.datetime64:
    if isinstance(value, datetime.time):
        value = datetime.datetime.combine(datetime.date(1970, 1, 1), value)
    return np.datetime64(value.replace(tzinfo=None) if isinstance(value, datetime.datetime) else value)


_MAY_BE_NAN = (float, Decimal, np.floating, np.datetime64, np.timedelta64)
_WRITTEN = (str, numbers.Real, Decimal)  # what text may be that is numbers
# What the values of a column may be; where one is missing; what each becomes, if not itself
_KINDS: tuple[tuple[Any, Any, Any], ...] = (
    (str, MISSING, None),
    ((int, float, np.number, np.bool_), np.nan, None),
    ((numbers.Real, Decimal), np.nan, float),
    ((datetime.timedelta, np.timedelta64), np.timedelta64("NaT"), np.timedelta64),
    ((datetime.date, np.datetime64), np.datetime64("NaT"), _on_the_clock),
    (datetime.time, np.datetime64("NaT"), _on_the_clock),
)


def _of_objects(array: Array, name: str, mixed: bool) -> Array:
    """A column of Python's objects as an array of what they all are."""
    values = [v.to_timestamp() if hasattr(v, "to_timestamp") else v for v in array.tolist()]
    lost = [is_missing(value) for value in values]
    there = [value for value, no in zip(values, lost, strict=True) if not no]
    for kind, none, made in _KINDS if there else _KINDS[1:]:
        if all(isinstance(value, kind) for value in there):
            return np.array(
                [none if no else made(v) if made else v for v, no in zip(values, lost, strict=True)]
            )
    if mixed or (all(isinstance(value, _WRITTEN) for value in there) and written(map(str, there))):
        return np.array([MISSING if no else str(v) for v, no in zip(values, lost, strict=True)])
    odd = next((value for value in there if type(value) is not type(there[0])), there[0])
    raise TypeError(
        f"column {name!r}: got {odd!r}, takes numbers throughout, dates throughout or text throughout"
    )
