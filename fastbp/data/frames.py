"""Tables with named columns, of whatever library: pandas, polars, Arrow; read by what they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike

    from ..types import Array

MISSING = ""  # a missing value in a column of text: a category of its own


@dataclass
class Frame:
    """Named columns of one length: names, list of str; columns, list of (N,) arrays, numbers or text."""

    names: list[str]
    columns: list[Array]

    def __len__(self) -> int:
        return len(self.columns[0]) if self.columns else 0

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), len(self.columns)

    def rows(self, index: Any) -> Frame:
        """The rows that an index array names."""
        return Frame(self.names, [column[index] for column in self.columns])

    def select(self, names: Sequence[str]) -> Frame:
        """The columns of these names, in their order."""
        place = dict(zip(self.names, self.columns, strict=True))
        return Frame(list(names), [place[name] for name in names])

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        return np.asarray(self.numbers(), dtype)

    def numbers(self) -> Array:
        """(N, n) array of the common numeric dtype. Raises TypeError naming a column that is text."""
        for name, column in zip(self.names, self.columns, strict=True):
            if column.dtype.kind not in "fiub":
                raise TypeError(
                    f"X: column {name!r} has dtype {column.dtype} (such as {_sample(column)}), takes numbers"
                )
        return np.stack(self.columns, axis=1)


def _sample(column: Array) -> str:
    return repr(column[0].item() if hasattr(column[0], "item") else column[0]) if len(column) else "nothing"


def names_of(X: Any) -> list[str] | None:
    """The column names of a frame of any library as a list of str; None for what has none."""
    if isinstance(X, Frame):
        return list(X.names)
    names = getattr(X, "column_names", None)  # Arrow
    if names is None:
        names = getattr(X, "columns", None)  # pandas, polars
    if names is None or not hasattr(X, "__getitem__") or callable(names):
        return None
    names = list(names)
    return names if all(isinstance(name, str) for name in names) else None


def frame(X: Any) -> Frame | Any:
    """X as a Frame, its columns not copied where the library allows it; None if X is no frame.

    Raises ValueError for two columns of one name, TypeError for a column that is no array of numbers
    or text (lists, structs).
    """
    if isinstance(X, Frame):
        return X
    names = names_of(X)
    if names is None:
        return None
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"X: got {names.count(twice)} columns named {twice!r}, takes names that differ")
    return Frame(names, [column_array(X[name], name) for name in names])


def column_array(column: Any, name: str = "y") -> Array:
    """A column of any library as an (N,) array: numbers as they are, anything else as text.

    Missing values become NaN, and MISSING among texts, for whoever takes the array to refuse or to fill.
    """
    array = column.to_numpy() if hasattr(column, "to_numpy") else np.asarray(column)
    if array.dtype.kind in "fiub":
        return array
    if array.dtype.kind in "US":
        return array.astype(str)
    if array.dtype.kind != "O":
        raise TypeError(f"column {name!r}: got dtype {array.dtype}, takes numbers or text")
    values = array.tolist()
    lost = [_missing(value) for value in values]
    there = [value for value, no in zip(values, lost, strict=True) if not no]
    if there and all(isinstance(value, str) for value in there):
        return np.array([MISSING if no else value for value, no in zip(values, lost, strict=True)], str)
    if not all(isinstance(value, (int, float, np.number)) for value in there):
        odd = next(value for value in there if not isinstance(value, (int, float, np.number)))
        raise TypeError(f"column {name!r}: got {odd!r}, takes numbers throughout or text throughout")
    return np.array([np.nan if no else value for value, no in zip(values, lost, strict=True)])


def _missing(value: Any) -> bool:
    """None, NaN, pandas' NA and NaT."""
    return value is None or type(value).__name__ in ("NAType", "NaTType") or value != value
