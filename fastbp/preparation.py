"""Preparation: what raw columns go through before the network, and outputs after; saved with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .data import frames
from .errors import flag
from .prepare import Standardizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import DTypeLike

    from .types import Array, Doubles, Features, Targets

    Label: TypeAlias = str | int | float

__all__ = ["Preparation"]

_CHUNK = 1 << 18  # numbers prepared at a time


def _fill(numbers: Array, value: Any) -> Array:
    """(N,) or (N, n) with value, one or n, where a number is NaN."""
    if numbers.dtype.kind != "f" or not np.isnan(numbers).any():
        return numbers
    return np.where(np.isnan(numbers), value, numbers)


def _texts(column: Array) -> Array:
    """A column as text: what a file's column of whole numbers was before, MISSING for NaN."""
    if column.dtype.kind != "f":
        return column.astype(str)
    return np.array([frames.MISSING if v != v else repr(v).removesuffix(".0") for v in column.tolist()])


def _categories(name: str, column: Array) -> list[str]:
    """The sorted values of a text column. Raises ValueError where they are names, not categories."""
    values = np.unique(column).tolist()
    if len(values) > max(20, min(1000, len(column) // 2)):
        raise ValueError(
            f"column {name!r}: {len(values)} different texts in {len(column)} rows, such as {values[0]!r}; "
            "takes categories, up to 1000 and half the rows: drop the column, or encode it as numbers"
        )
    return values


class Preparation:
    """Raw columns -> the network's inputs, labels or raw targets -> its targets; and back.

    names : list of str or None
        The columns, in order; frames are read by these names.
    categories : dict of int to list of str
        For each text column its values: one input each, 1 where the row has it (one-hot).
    fill : (columns,) float64 or None
        What a missing number (NaN) becomes: the column's median. A missing text is a category of its own.
    mean, scale : (inputs,) float64 or None
        Inputs are (encoded - mean) / scale; None: as they are.
    y_mean, y_scale : (outputs,) float64 or None
        The same for the targets of a regression; predictions come back in the target's own units.
    classes : list or None
        Labels (str, int, float or bool), in the order of the outputs.
    target : str or None
        The target's name, where it has one.

    transform raises ValueError for absent columns and unknown categories, TypeError for what is no number.

    >>> trainer = fb.Trainer(fb.MLP([1, 1], initializer=[([[1.0]], [0.0])]), "mse")
    >>> X, y = np.array([[10.0], [30.0]]), np.array([[1.0], [5.0]])
    >>> trainer.preparation = preparation.Preparation.fit(X, y)
    >>> trainer.predict(X).tolist()  # raw in, in the target's unit out
    [[1.0], [5.0]]
    """

    TENSORS = ("fill", "mean", "scale", "y_mean", "y_scale")

    names: list[str] | Any  # or None, as the next ones
    classes: list[Label] | Any
    fill: Doubles | Any
    mean: Doubles | Any
    scale: Doubles | Any
    y_mean: Doubles | Any
    y_scale: Doubles | Any
    gaps: dict[int, int]

    def __init__(
        self,
        columns: int,
        names: Sequence[str] | None = None,
        categories: Mapping[int, list[str]] | None = None,
        *,
        fill: Doubles | None = None,
        mean: Doubles | None = None,
        scale: Doubles | None = None,
        y_mean: Doubles | None = None,
        y_scale: Doubles | None = None,
        classes: Sequence[Label] | None = None,
        target: str | None = None,
    ) -> None:
        self.columns, self.names, self.categories = columns, names, dict(categories or {})
        self.fill, self.gaps = fill, {}  # gaps: of the training, column -> how many were missing
        self.mean, self.scale, self.y_mean, self.y_scale = mean, scale, y_mean, y_scale
        self.classes, self.target = classes, target

    @classmethod
    def fit(
        cls,
        X: Any,
        y: Any = None,
        *,
        names: Sequence[str] | None = None,
        classes: Sequence[Label] | None = None,
        target: str | None = None,
        common: bool | None = None,
    ) -> Preparation:
        """Learn it from training data: X a Frame, (N, n) numbers, or a sparse matrix (not scaled).

        y : (N, outputs) targets of a regression to be standardised, or None. common : one scale for
        all columns, right for pixels; None: for uint8.
        """
        common = None if common is None else flag("common", common)
        if not isinstance(X, (np.ndarray, frames.Frame)):  # sparse: centring would fill it
            self = cls(X.shape[1], names, classes=classes, target=target)
        else:
            self = cls(X.shape[1], names, classes=classes, target=target)
            if isinstance(X, frames.Frame):
                self.names = X.names
                self.categories = {
                    i: _categories(name, column)
                    for i, (name, column) in enumerate(zip(X.names, X.columns, strict=True))
                    if column.dtype.kind == "U"
                }
            common = getattr(X, "dtype", None) == np.uint8 if common is None else common
            self._learn_gaps(X)
            scaler = Standardizer(self._encoded(self._filled(X)), common=common)
            for place, column in zip(self._places(), range(self.columns), strict=True):
                if column in self.categories:  # 0 or 1 already
                    scaler.mean[place], scaler.scale[place] = 0.0, 1.0
            self.mean, self.scale = scaler.mean, scaler.scale
        if y is not None:
            scaler = Standardizer(y)
            self.y_mean, self.y_scale = scaler.mean, scaler.scale
        return self

    def _learn_gaps(self, X: Any) -> None:
        """Set ``fill`` and ``gaps``. Raises ValueError for a column without a single value."""
        if not isinstance(X, frames.Frame) and X.dtype.kind != "f":
            return
        self.fill = np.zeros(self.columns)
        for i in range(self.columns):
            column = X.columns[i] if isinstance(X, frames.Frame) else X[:, i]
            if column.dtype.kind == "U":
                missing = int(np.count_nonzero(column == frames.MISSING))
            else:
                there = column[~np.isnan(column)] if column.dtype.kind == "f" else column
                if not len(there):
                    raise ValueError(
                        f"X: {self._label(i)} has no value in {len(column)} rows; takes one or more: drop it"
                    )
                self.fill[i], missing = np.median(there), len(column) - len(there)
            if missing:
                self.gaps[i] = missing

    def _filled(self, X: Any) -> Any:
        """X with the median where a number is missing; a copy where there are any."""
        if self.fill is None:
            return X
        if isinstance(X, frames.Frame):
            columns = zip(X.columns, self.fill, strict=True)
            return frames.Frame(X.names, [_fill(column, value) for column, value in columns])
        return _fill(X, self.fill)

    def _places(self) -> list[slice]:
        """For each column the slice of the network's inputs that it becomes."""
        at, places = 0, []
        for column in range(self.columns):
            width = len(self.categories.get(column, "x"))
            places.append(slice(at, at + width))
            at += width
        return places

    @property
    def inputs(self) -> int:
        """The network's inputs."""
        return self._places()[-1].stop

    @property
    def input_names(self) -> list[str]:
        """A name for each input: the column's, or column=category; None without names."""
        names = self.names or [f"column {i}" for i in range(self.columns)]
        return [
            name if value is None else f"{name}={value or '(missing)'}"
            for i, name in enumerate(names)
            for value in self.categories.get(i, [None])
        ]

    @property
    def fill_of_inputs(self) -> Doubles | None:
        """(inputs,) float64: ``fill`` for each input of the network; None where nothing is filled."""
        if self.fill is None:
            return None
        return np.concatenate(
            [np.full(p.stop - p.start, v) for p, v in zip(self._places(), self.fill, strict=True)]
        )

    def summary(self) -> str:
        """What it does to the columns, in words."""
        numbers = self.columns - len(self.categories)
        scaled = "as they are" if self.mean is None else "standardised"
        if (
            self.mean is not None
            and numbers > 1
            and not self.categories
            and len(set(self.scale.tolist())) == 1
        ):
            scaled = "standardised, by one common scale"
        parts = [f"{numbers} number{'s'[: numbers > 1]} {scaled}"] if numbers else []
        for i, values in self.categories.items():
            own = f", missing ({self.gaps[i]:,}) is one" if i in self.gaps else ""
            parts.append(f"{self.names[i]}: {len(values)} categories, one-hot{own}")
        for i, count in self.gaps.items():
            if i not in self.categories:
                parts.append(f"{self._label(i)}: {count:,} missing, the median {self.fill[i]:.4g} instead")
        return "; ".join(parts)

    # --- inputs

    def _label(self, column: int) -> str:
        return f"column {self.names[column]!r}" if self.names else f"column {column}"

    def _table(self, X: Any) -> Any:
        """X as a Frame or an (N, columns) array or sparse matrix, its columns those of the training."""
        table = frames.frame(X)
        if table is not None and self.names:
            return table.select(self.names)
        if table is not None:
            X = table.numbers()
        if not hasattr(X, "tocsr"):
            X = np.asarray(X)
        if X.ndim != 2 or X.shape[1] != self.columns:
            raise ValueError(
                f"X: got shape {X.shape}, takes (N, {self.columns}): the columns of the training"
            )
        if self.categories:
            if X.dtype.kind not in "OUS":
                column = min(self.categories)
                raise TypeError(
                    f"X: {self._label(column)} is text, got dtype {X.dtype}; takes a frame or an object array"
                )
            names = self.names or [str(i) for i in range(self.columns)]
            return frames.Frame(names, [frames.column_array(X[:, i], n) for i, n in enumerate(names)])
        return X

    def _encoded(self, X: Any, first: int = 0) -> Any:
        """One-hot where there is text: (N, inputs) numbers. first: the number of the first row."""
        if not isinstance(X, frames.Frame):
            return X
        out = np.zeros((len(X), self.inputs))
        for i, (place, column) in enumerate(zip(self._places(), X.columns, strict=True)):
            if i not in self.categories:
                if column.dtype.kind not in "fiub":
                    raise TypeError(f"X: {self._label(i)} has dtype {column.dtype}, takes numbers")
                out[:, place.start] = column
                continue
            values = np.asarray(self.categories[i])
            column = _texts(column)
            found = np.minimum(np.searchsorted(values, column), len(values) - 1)
            wrong = values[found] != column
            if wrong.any():
                row = int(np.argmax(wrong))
                got = repr(column[row].item()) if column[row] else "a missing value"
                got = f"{got} in row {first + row}"
                known = ", ".join(map(repr, values[:8].tolist())) + (", ..." if len(values) > 8 else "")
                raise ValueError(f"X: {self._label(i)} has {got}, takes {known}")
            out[np.arange(len(X)), place.start + found] = 1.0
        return out

    def transform(self, X: Features, dtype: DTypeLike = np.float32) -> Any:
        """The network's inputs, (N, inputs) of dtype, from raw columns: a new array, made in pieces.

        Missing numbers become the median. Raises ValueError for missing columns or unknown categories,
        TypeError for what is no number.
        """
        table = self._table(X)
        if self.mean is None:
            return table.numbers() if isinstance(table, frames.Frame) else table
        if not isinstance(table, frames.Frame) and table.dtype.kind not in "fiub":
            raise TypeError(f"X: got dtype {table.dtype}, takes numbers (float, int, uint or bool)")
        out = np.empty((len(table), self.inputs), dtype)
        rows = max(1, _CHUNK // max(1, self.inputs))
        for at in range(0, len(table), rows):
            part = slice(at, at + rows)
            piece = self._filled(table.rows(part) if isinstance(table, frames.Frame) else table[part])
            out[part] = (self._encoded(piece, at) - self.mean) / self.scale
        return out

    def input_gradients(self, gradient: Array, X: Features) -> Array:
        """Derivatives by raw columns, (N, ..., columns), from those by the network's inputs.

        Columns of text have none, nor has a number that is missing: NaN.
        """
        table = self._table(X)
        found = np.full((*gradient.shape[:-1], self.columns), np.nan, gradient.dtype)
        for i, place in enumerate(self._places()):
            if i not in self.categories:
                scale = 1.0 if self.scale is None else self.scale[place.start]
                found[..., i] = gradient[..., place.start] / scale
                column = table.columns[i] if isinstance(table, frames.Frame) else table[:, i]
                if getattr(column, "dtype", np.dtype(int)).kind == "f" and not hasattr(column, "tocsr"):
                    found[np.isnan(column), ..., i] = np.nan
        return found

    # --- targets and outputs

    def targets(self, y: Targets) -> Any:
        """Labels as places among the classes; a regression's targets standardised; others as they are."""
        if self.classes is not None:
            return self._places_of(y)
        if self.y_mean is None:
            return y
        y = np.asarray(y, np.float64)
        return (y.reshape(len(y), -1) - self.y_mean) / self.y_scale

    def _places_of(self, y: Any) -> Any:
        labels = frames.column_array(y).tolist() if np.ndim(y) < 2 else None
        if labels is None:  # one-hot or probabilities
            return y
        place = {label: i for i, label in enumerate(self.classes)}
        try:
            return np.array([place[label] for label in labels])
        except KeyError as error:
            known = ", ".join(map(repr, self.classes[:8])) + (", ..." if len(self.classes) > 8 else "")
            raise ValueError(f"y: got label {error.args[0]!r}, takes {known}") from None

    def outputs(self, z: Array) -> Array:
        """A regression's outputs in the target's own units; others as they are."""
        if self.y_mean is None:
            return z
        return (z * self.y_scale + self.y_mean).astype(z.dtype)

    def labels(self, probabilities: Array) -> list[Label]:
        """The likeliest class of each row, as a list of labels; one output is that of the second class."""
        if self.classes is None:
            raise ValueError("labels: this model has no classes, it predicts numbers")
        if probabilities.shape[1] == 1:
            return [self.classes[int(p > 0.5)] for p in probabilities[:, 0]]
        return [self.classes[i] for i in probabilities.argmax(axis=1)]

    # --- files

    def config(self) -> dict[str, Any]:
        """What JSON holds of it; the numbers are tensors beside the weights."""
        return {
            "columns": self.columns,
            "names": self.names,
            "categories": {str(i): values for i, values in self.categories.items()},
            "classes": self.classes,
            "target": self.target,
        }

    def tensors(self) -> dict[str, Doubles]:
        """{name: array} of the numbers that there are."""
        return {name: getattr(self, name) for name in self.TENSORS if getattr(self, name) is not None}

    @classmethod
    def restore(
        cls, config: Mapping[str, Any], tensors: Mapping[str, Doubles], inputs: int, outputs: int
    ) -> Preparation:
        """From ``config`` and ``tensors``; raises ValueError where they do not fit the network.

        outputs : those of a class each, or the targets.
        """
        names, classes = config["names"], config["classes"]
        categories = {int(i): list(values) for i, values in config["categories"].items()}
        self = cls(
            int(config["columns"]), names, categories, classes=classes, target=config["target"], **tensors
        )
        texts = all(isinstance(t, str) for values in categories.values() for t in values)
        good: Any = (
            0 < self.columns <= inputs and all(0 <= i < self.columns for i in categories) and texts
            and all(values and values == sorted(set(values)) for values in categories.values())
            and self.inputs == inputs
            and (names is None or (len(names) == self.columns and all(isinstance(n, str) for n in names)))
            and (classes is None or len(classes) == (outputs if outputs > 1 else 2))
            and all(isinstance(label, (str, int, float)) for label in classes or [])
            and (config["target"] is None or isinstance(config["target"], str))
            and (self.mean is None) == (self.scale is None)
            and (self.y_mean is None) == (self.y_scale is None)
        )  # fmt: skip
        for name, array in tensors.items():
            shape = (outputs,) if name.startswith("y_") else (self.columns if name == "fill" else inputs,)
            good = good and array.shape == shape and array.dtype == np.float64 and np.isfinite(array).all()
            good = good and (not name.endswith("scale") or (array != 0).all())
        if not good:
            raise ValueError("its preparation does not fit the network")
        return self
