"""Tables as networks like them, and parameters that suit most: after RealMLP-TD-S.

D. Holzmüller, L. Grinsztajn and I. Steinwart, Better by Default: Strong Pre-Tuned MLPs and Boosted Trees on
Tabular Data, NeurIPS 2024. Imports scikit-learn, so only the estimators import it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import _check_feature_names, _check_n_features, check_array, check_is_fitted

if TYPE_CHECKING:
    from ..types import Array, Features

__all__ = ["TabularPreprocessor"]

LIMIT = 3.0  # of what a column becomes
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

    Columns of a frame whose dtype is text, category or bool become one-hot columns (missing, unknown and
    rare values: zeros; of two categories, one column of -1 and 1); a missing number takes the column's
    median, and an indicator column says so. Then every column loses its median and is divided by the
    distance of its quartiles (by half its range where that is 0) and clipped smoothly to +-3.

    X : pandas or polars frame, or array of numbers or objects. Raises ValueError or TypeError as
    scikit-learn does. get_feature_names_out() names the columns.

    >>> import pandas
    >>> from fastbp.sklearn import TabularPreprocessor
    >>> frame = pandas.DataFrame({"size": [1.0, 2.0, None], "kind": ["a", "b", "c"]})
    >>> made = TabularPreprocessor().fit(frame)
    >>> made.get_feature_names_out().tolist(), made.transform(frame).shape
    (['size', 'size_missing', 'kind_a', 'kind_b', 'kind_c'], (3, 5))
    """

    def fit(self, X: Features, y: object = None) -> TabularPreprocessor:
        """Learn categories, medians and quartiles. Returns self."""
        _check_feature_names(self, X, reset=True)
        columns = _columns(X)
        self.n_features_in_ = len(columns)
        self.categories_ = [_categories(c) if c.dtype.kind == "O" else None for c in columns]
        self.missing_ = [
            k is None and bool(np.isnan(c).any()) for c, k in zip(columns, self.categories_, strict=True)
        ]
        encoded = self._encode(columns)
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
        columns = _columns(X)
        if len(columns) != self.n_features_in_:
            _check_n_features(self, np.empty((1, len(columns))), reset=False)
        scaled = (self._encode(columns) - self.center_) * self.factor_
        return smooth_clip(np.nan_to_num(scaled)).astype(np.float32)

    def _encode(self, columns):
        """(N, inputs) float64: numbers (NaN where missing), then an indicator; or one-hot columns."""
        parts = []
        for column, known, missing in zip(columns, self.categories_, self.missing_, strict=True):
            if known is not None:
                parts.append(_one_hot(column, known))
                continue
            number = _numbers(column)
            parts.append(number)
            if missing:
                parts.append(np.isnan(number).astype(float))
        return np.column_stack(parts)

    def get_feature_names_out(self, input_features: object = None) -> Array:
        """name, name_missing, or name_category, in the order of the columns."""
        check_is_fitted(self)
        names = getattr(self, "feature_names_in_", None)
        names = [f"x{i}" for i in range(self.n_features_in_)] if names is None else names
        found = []
        for name, known, missing in zip(names, self.categories_, self.missing_, strict=True):
            if known is None:
                found += [name, f"{name}_missing"] if missing else [name]
            else:
                found += [f"{name}_{k}" for k in (known[1:] if len(known) == 2 else known)]
        return np.array(found, dtype=object)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags


def _columns(X):
    """The columns of a frame or array: float64, or object (text or None) where they are categories."""
    if hasattr(X, "columns") and hasattr(X, "__getitem__"):
        columns = [_frame_column(X[name]) for name in X.columns]
        if not columns or not len(columns[0]):
            raise ValueError(
                f"Found array with 0 sample(s) (shape={X.shape}) while a minimum of 1 is required."
            )
    else:
        X = check_array(X, dtype=None, ensure_all_finite=False)
        columns = [_array_column(X[:, j]) for j in range(X.shape[1])]
    for column in columns:
        if column.dtype.kind == "f" and np.isinf(column).any():
            raise ValueError("Input X contains infinity; takes finite numbers, or NaN where one is missing")
    return columns


def _frame_column(column):
    """One column of a pandas or polars frame."""
    numeric = column.dtype.is_numeric() if hasattr(column.dtype, "is_numeric") else _pandas_numeric(column)
    if not numeric:
        return _text(column.to_list())
    if hasattr(column, "to_frame") and hasattr(column, "iloc"):  # pandas
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    return column.cast(float).to_numpy().astype(np.float64)  # polars: null is NaN


def _pandas_numeric(column):
    kind = getattr(column.dtype, "kind", "O")
    return kind in "iuf" and type(column.dtype).__name__ != "CategoricalDtype"


def _array_column(column):
    if column.dtype.kind in "fiu":
        return column.astype(np.float64)
    try:
        return column.astype(np.float64) if column.dtype.kind == "O" else _text(column.tolist())
    except (TypeError, ValueError):
        return _text(column.tolist())


def _text(values):
    """Categories as text, None where missing: for None, NaN, pandas.NA."""
    found = np.empty(len(values), dtype=object)
    found[:] = [None if v is None or not _equals_itself(v) else str(v) for v in values]
    return found


def _equals_itself(value):
    try:
        return bool(value == value)
    except TypeError:  # pandas.NA
        return False


def _numbers(column):
    """A column that was numeric in fit."""
    if column.dtype.kind == "f":
        return column
    try:
        return np.array([np.nan if v is None else float(v) for v in column])
    except ValueError as error:
        raise ValueError(f"X: a column of numbers in fit now has text ({error}), takes numbers") from None


def _categories(column):
    """Its values, sorted; of too many the most frequent ones."""
    values, counts = np.unique([v for v in column if v is not None], return_counts=True)
    if len(values) > MAX_CATEGORIES:
        values = np.sort(values[np.argsort(-counts, kind="stable")[:MAX_CATEGORIES]])
    return [str(v) for v in values]


def _one_hot(column, known):
    """(N, k) 0 or 1; for two categories (N, 1) -1 or 1; zeros where the value is none of them."""
    place = {value: i for i, value in enumerate(known)}
    index = np.array([place.get(v if v is None or isinstance(v, str) else _label(v), -1) for v in column])
    hot = np.zeros((len(column), len(known)))
    rows = np.flatnonzero(index >= 0)
    hot[rows, index[rows]] = 1.0
    return hot[:, 1:] - hot[:, :1] if len(known) == 2 else hot


def _label(number):
    """The category that a number in a text column stands for; None for NaN."""
    if np.isnan(number):
        return None
    return str(int(number)) if number == int(number) else str(number)
