"""Tables as networks like them, and parameters that suit most: after RealMLP-TD-S.

D. Holzmüller, L. Grinsztajn and I. Steinwart, Better by Default: Strong Pre-Tuned MLPs and Boosted Trees on
Tabular Data, NeurIPS 2024. Imports scikit-learn, so only the estimators import it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import _check_feature_names, _check_n_features, check_array, check_is_fitted

from ..data import columns, frames
from ..data.columns import Dates
from ..data.frames import Frame
from ..errors import unknown

if TYPE_CHECKING:
    from collections.abc import Collection

    from ..data.written import Written
    from ..types import Array, Doubles, Features

__all__ = ["TabularPreprocessor"]

LIMIT = 3.0  # of what a column becomes
_KEEP = "TabularPreprocessor(keep=...) takes a column all the same, as a preset too"
MAX_CATEGORIES = 64  # of one column; the rarer ones together are a row of zeros, as are unknown ones


def preset(given: dict[str, Any], defaults: dict[str, Any], classifies: bool) -> dict[str, Any]:
    """The parameters ``given`` with the preset's where the user left the default."""
    values = TABULAR | (CLASSIFIER if classifies else REGRESSOR)
    return given | {k: v for k, v in values.items() if k in given and given[k] == defaults[k]}


TABULAR = {
    "hidden_layer_sizes": (256, 256, 256),
    "batch_size": 256,
    "alpha": 0.0,
    "beta_2": 0.95,
    "max_iter": 256,
    "early_stopping": True,
    "n_iter_no_change": np.inf,
    "dtype": "float32",
}
LABEL_SMOOTHING = 0.1  # of labels, towards all classes alike (Szegedy et al., CVPR 2016)
CLASSIFIER = {"activation": "silu", "learning_rate_init": 0.003}
REGRESSOR = {"learning_rate_init": 0.003}


def coslog4(done: float) -> float:
    """The learning rate's factor after the share ``done`` of the epochs: (1 - cos 2 pi log2(1 + 15 t)) / 2.

    Four cosine cycles, each twice as long as the one before (Holzmüller et al., section 3).
    """
    return 0.5 * (1 - np.cos(2 * np.pi * np.log2(1 + 15 * done)))


def smooth_clip(x: Array) -> Array:
    """x / sqrt(1 + (x / 3)**2): near x for small x, never beyond +-3."""
    return x / np.sqrt(1 + (x / LIMIT) ** 2)


class TabularPreprocessor(TransformerMixin, BaseEstimator):
    """Columns of any kind -> (N, inputs) float32: what preset="tabular" puts before the network.

    Columns are what their values are, as in fastbp.preparation.Preparation: numbers in whatever type, as text
    too ("$1,013"); dates, which become year, season, weekday, hour (sines and cosines) and age; other text
    and declared categories, which become one-hot columns (missing, unknown and rare values: zeros; of two
    categories, one column of -1 and 1). A missing number or date takes the column's median, and an indicator
    column says so. Then every column loses its median and is divided by the distance of its quartiles (by
    half its range where that is 0) and clipped smoothly to +-3.

    keep : list of str or int
        Columns, by name or place, to take although they say nothing of other rows: those that number them,
        or hold one value or names. Else they are left out, with a warning; left_out_ says why.

    X : frame of pandas, polars or Arrow, or array of numbers or objects. Raises ValueError or TypeError as
    scikit-learn does. get_feature_names_out() names the columns.

    >>> import pandas
    >>> from fastbp.sklearn import TabularPreprocessor
    >>> frame = pandas.DataFrame({"size": [1.0, 2.0, None], "kind": ["a", "b", "c"]})
    >>> made = TabularPreprocessor().fit(frame)
    >>> made.get_feature_names_out().tolist(), made.transform(frame).shape
    (['size', 'size_missing', 'kind_a', 'kind_b', 'kind_c'], (3, 5))
    """

    def __init__(self, keep: Collection[str | int] = ()) -> None:
        self.keep = keep

    def _kept(self, names):
        """The places of the columns that ``keep`` names. Raises ValueError for those that are not there."""
        if isinstance(self.keep, str):
            raise ValueError(f"keep: got {self.keep!r}, takes a list of names or places")
        known = [*range(len(names)), *names]
        for column in self.keep:
            if column not in known:
                raise unknown("keep", column, names)
        return {known.index(column) % len(names) for column in self.keep}

    def fit(self, X: Features, y: object = None) -> TabularPreprocessor:
        """Learn categories, medians and quartiles. Returns self."""
        table, named = _table(X)
        _check_feature_names(self, X, reset=True)
        self.n_features_in_ = len(table.names)
        keep = self._kept(table.names)
        self.left_out_: dict[str, str] = {}
        self.columns_: list[Column] = []
        for place, (name, raw) in enumerate(zip(table.names, table.columns, strict=True)):
            column, way, dates = columns.learn(raw, name in table.declared)
            _check_finite(name, column)
            why = columns.says_nothing(name if named else None, column, len(table.names) == 1)
            if why and not (columns.values_of(column).size and place in keep):
                self.left_out_[name] = why
            else:
                self.columns_.append(Column.learn(place, name, column, way, dates))
        said = "; ".join(f"{name!r} ({why})" for name, why in self.left_out_.items())
        if not self.columns_:
            raise ValueError(f"X: no column is left: {said}; {_KEEP}")
        if said:
            warnings.warn(f"X: left out {said}; {_KEEP}", stacklevel=2)
        encoded = self._encode(table)
        self.center_ = np.zeros(encoded.shape[1])
        self.factor_ = np.zeros(encoded.shape[1])
        for j, column in enumerate(encoded.T):
            column = column[~np.isnan(column)]
            if not len(column):
                continue
            low, self.center_[j], high = np.quantile(column, (0.25, 0.5, 0.75))
            span = high - low or (column.max() - column.min()) / 2
            self.factor_[j] = 1 / span if span > 0 else 0.0
        return self

    def transform(self, X: Features) -> Array:
        """(N, inputs) float32, from -3 to 3."""
        check_is_fitted(self)
        _check_feature_names(self, X, reset=False)
        table, _ = _table(X)
        if len(table.names) != self.n_features_in_:
            _check_n_features(self, np.empty((1, len(table.names))), reset=False)
        scaled = (self._encode(table) - self.center_) * self.factor_
        return smooth_clip(np.nan_to_num(scaled)).astype(np.float32)

    def _encode(self, table: Frame) -> Doubles:
        """(N, inputs) float64: numbers (NaN where missing), then an indicator; or one-hot columns."""
        return np.column_stack([column.encode(table.columns[column.place]) for column in self.columns_])

    def get_feature_names_out(self, input_features: object = None) -> Array:
        """name, name_part of a date, name_missing, or name_category, in the order of the columns."""
        check_is_fitted(self)
        return np.array([name for column in self.columns_ for name in column.outputs()], dtype=object)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags


@dataclass(frozen=True)
class Column:
    """How one column becomes numbers: as ``columns.read`` needs it, categories or dates, else as it is."""

    place: int
    name: str
    written: Written | None
    known: list[str] | None
    dates: Dates | None
    missing: bool

    @classmethod
    def learn(cls, place: int, name: str, column: Array, way: Written | None, dates: bool) -> Column:
        there = columns.values_of(column)
        if column.dtype.kind == "U":
            return cls(place, name, way, columns.categories(there, MAX_CATEGORIES)[0], None, False)
        parts = Dates.learn(column) if dates else None
        return cls(place, name, way, None, parts, len(there) < len(column))

    def encode(self, raw: Array) -> Doubles:
        """(N, k) of the raw column: NaN where a number is missing."""
        text, dates = self.known is not None, self.dates is not None
        column = columns.read(raw, f"X: column {self.name!r}", text, dates, self.written)
        _check_finite(self.name, column)
        if self.known is not None:
            return _one_hot(column, self.known)
        number = column.astype(np.float64)
        found = number[:, None] if self.dates is None else self.dates.encode(number)
        return np.column_stack([found, np.isnan(number)]) if self.missing else found

    def outputs(self) -> list[str]:
        """The names of what ``encode`` gives."""
        if self.known is not None:
            return [f"{self.name}_{k}" for k in (self.known[1:] if len(self.known) == 2 else self.known)]
        parts = [f"_{part.replace(' ', '_')}" for part in self.dates.parts] if self.dates else [""]
        return [self.name + part for part in [*parts, *(["_missing"] if self.missing else [])]]


def _table(X):
    """(a Frame, whether its columns have names of their own) of a frame or array."""
    table = frames.frame(X, mixed=True)
    named = table is not None
    if table is None and hasattr(X, "iloc"):  # pandas, whose names are no text
        series = [X.iloc[:, j] for j in range(X.shape[1])]
        names = [f"x{j}" for j in range(len(series))]
        declared = [n for n, c in zip(names, series, strict=True) if frames.is_declared(c)]
        table = Frame(
            names, [frames.column_array(c, n, True) for n, c in zip(names, series, strict=True)], declared
        )
    if table is None:
        X = check_array(X, dtype=None, ensure_all_finite=False)
        names = [f"x{j}" for j in range(X.shape[1])]
        table = Frame(names, [frames.column_array(X[:, j], n, True) for j, n in enumerate(names)])
    if not table.columns or not len(table):
        raise ValueError(f"Found array with 0 sample(s) (shape={X.shape}) while a minimum of 1 is required.")
    return table, named


def _check_finite(name, column):
    if column.dtype.kind == "f" and np.isinf(column).any():
        raise ValueError(
            f"Input X contains infinity in column {name!r}; takes finite numbers, or NaN where one is missing"
        )


def _one_hot(column, known):
    """(N, k) 0 or 1; for two categories (N, 1) -1 or 1; zeros where the value is none of them."""
    index = columns.places(column, known)
    hot = np.zeros((len(column), len(known)))
    rows = np.flatnonzero(index >= 0)
    hot[rows, index[rows]] = 1.0
    return hot[:, 1:] - hot[:, :1] if len(known) == 2 else hot
