"""Preparation: what raw columns go through before the network, and outputs after; saved with it."""

from __future__ import annotations

import warnings
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from .data import columns, frames
from .data.columns import Dates
from .data.sources import plain
from .data.written import Written
from .errors import distinct, flag
from .errors import unknown as unknown_name
from .prepare import Standardizer
from .printing import html_table

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import DTypeLike

    from .types import Array, Doubles, Features, Targets

    Label: TypeAlias = str | int | float
    Unknown: TypeAlias = Literal["zeros", "error"]

__all__ = ["Preparation"]

_CHUNK = 1 << 18  # numbers prepared at a time
_CATEGORIES = 1000  # of one column; the rarer ones are as unknown ones
_UNKNOWN = ("zeros", "error")
_ALWAYS = ("columns", "names", "categories", "classes", "target")  # keys of files of every version
_OBJECTS = "OUSTMm"  # kinds of arrays whose columns are read by their values
_KEEP = "keep=... keeps a column all the same"


def _fill(numbers: Array, value: Any) -> Array:
    """(N,) or (N, n) with value, one or n, where a number is NaN."""
    if numbers.dtype.kind != "f" or not np.isnan(numbers).any():
        return numbers
    return np.where(np.isnan(numbers), value, numbers)


def _dates(saved: Sequence[Any]) -> Dates:
    parts, latest = saved
    return Dates(tuple(parts), float(latest))


def _frame_of(X: Array) -> frames.Frame:
    """An array of objects or text as a Frame, by the columns' places."""
    names = [str(i) for i in range(X.shape[1])]
    return frames.Frame(names, [frames.column_array(X[:, i], name) for i, name in enumerate(names)])


class Preparation:
    """Raw columns -> the network's inputs, labels or raw targets -> its targets; and back.

    Columns are what their values are. Numbers are numbers in whatever type they come, as text too:
    "$1,013", "12%", "1.013,5". Dates become year, season, weekday, hour (as sines and cosines) and age.
    Other text, and what its library calls categories, is one-hot.

    names : list of str or None
        The columns, in order; frames are read by these names.
    left_out : dict of int to str
        Columns that say nothing of other rows, and why: row numbers and ids, one value only, texts of which
        hardly any comes twice, no value at all. They may be absent from frames later on.
    categories : dict of int to list of str
        For each text column its values: one input each, 1 where the row has it (one-hot).
    dates : dict of int to Dates
        For each column of dates the parts of it that are inputs, and the latest of the training.
    written : dict of int to Written
        How text that is numbers or dates is written: decimal sign, currency; the order of day, month, year.
    fill : (columns,) float64 or None
        What a missing number or date (NaN) becomes: the column's median. A missing text is a category of
        its own.
    mean, scale : (inputs,) float64 or None
        Inputs are (encoded - mean) / scale; None: as they are.
    y_mean, y_scale : (outputs,) float64 or None
        The same for the targets of a regression; predictions come back in the target's own units.
    classes : list or None
        Labels (str, int, float or bool), in the order of the outputs.
    target : str or None
        The target's name, where it has one.
    target_written : Written or None
        How the target of a regression is written, where it is text.
    unknown : "zeros" or "error"
        What a category becomes in use that the training had not, or a text that is missing now and never
        was: zeros in all of the column's inputs, with a warning that counts them; or a ValueError.

    transform raises ValueError for absent columns, TypeError for what is no number.

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
    rare: dict[int, int]

    def __init__(
        self,
        columns: int,
        names: Sequence[str] | None = None,
        categories: Mapping[int, list[str]] | None = None,
        *,
        dates: Mapping[int, Dates] | None = None,
        written: Mapping[int, Written] | None = None,
        left_out: Mapping[int, str] | None = None,
        fill: Doubles | None = None,
        mean: Doubles | None = None,
        scale: Doubles | None = None,
        y_mean: Doubles | None = None,
        y_scale: Doubles | None = None,
        classes: Sequence[Label] | None = None,
        target: str | None = None,
        target_written: Written | None = None,
        unknown: Unknown = "zeros",
    ) -> None:
        self.columns, self.names, self.categories = columns, names, dict(categories or {})
        self.dates, self.written, self.left_out = dict(dates or {}), dict(written or {}), dict(left_out or {})
        # of the training: column -> how many were missing; how many categories, if not all are kept
        self.fill, self.gaps, self.rare = fill, {}, {}
        self.mean, self.scale, self.y_mean, self.y_scale = mean, scale, y_mean, y_scale
        self.classes, self.target, self.target_written = classes, target, target_written
        self.unknown: Unknown = unknown
        self._made: tuple[list[int], list[slice]] | None = None  # see _layout
        self._learning = False
        self.reading: dict[str, Any] = {}  # how its files were read, where the command line says it: JSON
        if unknown not in _UNKNOWN:
            raise unknown_name("unknown", unknown, _UNKNOWN)
        distinct("X", names or (), "columns whose names differ")

    @classmethod
    def fit(
        cls,
        X: Any,
        y: Any = None,
        *,
        names: Sequence[str] | None = None,
        classes: Sequence[Label] | None = None,
        target: str | None = None,
        target_written: Written | None = None,
        common: bool | None = None,
        keep: Collection[str | int] = (),
        unknown: Unknown = "zeros",
    ) -> Preparation:
        """Learn it from training data: X a frame of any library, (N, n) numbers or objects, or a sparse
        matrix (not scaled).

        y : (N, outputs) targets of a regression to be standardised, or None. common : one scale for
        all columns, right for pixels; None: for uint8. keep : columns, by name or place, to take as they
        are, whatever they hold. A warning names those that are left out; ``left_out`` says why.

        Raises ValueError for two columns of one name, numbers that are not finite or farther apart than
        float64 reaches, and where no column is left; TypeError for columns that are no numbers, dates or
        text.
        """
        common = None if common is None else flag("common", common)
        table = frames.frame(X)
        if table is None and not hasattr(X, "tocsr") and not hasattr(X, "first_bad"):
            X = plain(X)
        if table is None and getattr(X, "ndim", 2) != 2:
            raise ValueError(f"X: got shape {X.shape}, takes (N, n)")
        if table is not None:
            names = table.names
        self = cls(
            X.shape[1], names, classes=classes, target=target, target_written=target_written, unknown=unknown
        )
        if table is None and isinstance(X, np.ndarray) and X.dtype.kind in _OBJECTS:
            table = _frame_of(X)
        if table is not None or isinstance(X, np.ndarray):  # sparse: centring would fill it
            common = getattr(X, "dtype", None) == np.uint8 if common is None else common
            self._learning = True
            self._learn(X if table is None else table, bool(common), keep)
            self._learning = False
        if y is not None:
            self._learn_targets(self.own_unit(y))
        if self.left_out:
            warnings.warn(f"X: left out {self.reasons()}; {_KEEP}", stacklevel=2)
        return self

    def _learn(self, X: Any, common: bool, keep: Collection[str | int]) -> None:
        """What the columns of a Frame or an array are, which are left out, gaps and scaling."""
        kept = self._wanted(keep)
        if isinstance(X, frames.Frame) and all(c.dtype.kind in "fiub" for c in X.columns) and not X.declared:
            X = X.numbers()
        if isinstance(X, frames.Frame):
            found = [self._learn_column(i, c, n in X.declared, i in kept)
                     for i, (n, c) in enumerate(zip(X.names, X.columns, strict=True))]  # fmt: skip
            X = frames.Frame([X.names[i] for i in self.kept], [found[i] for i in self.kept])
        elif not common:  # pixels may well be constant
            for i in range(self.columns):
                self._leave_out(i, np.ascontiguousarray(X[:, i]), i in kept)  # read several times
            X = X[:, self.kept] if self.left_out else X
        if not self.kept:
            raise ValueError(f"X: no column is left: {self.reasons()}; {_KEEP}")
        self._learn_gaps(X)
        X = self._filled(X)
        if not isinstance(X, frames.Frame):
            scaler = Standardizer(X, common, [f"X: {self._label(i)}" for i in self.kept])
            self.mean, self.scale = scaler.mean, scaler.scale
            return
        self.mean, self.scale = np.zeros(self.inputs), np.ones(self.inputs)
        places = self._layout()[1]
        for i, column in zip(self.kept, X.columns, strict=True):
            if i not in self.categories:  # which are 0 or 1 already
                encoded, place = self._numbers(i, column), places[i]
                scaler = Standardizer(encoded, labels=[f"X: {self._label(i)}"] * encoded.shape[1])
                self.mean[place], self.scale[place] = scaler.mean, scaler.scale

    def _learn_targets(self, y: Doubles) -> None:
        """Set ``y_mean`` and ``y_scale``, of the targets that are there: some may be masked by NaN."""
        labels = ["y"] if y.shape[1] == 1 else [f"y: column {k}" for k in range(y.shape[1])]
        if not np.isnan(y).any():
            found = [Standardizer(y, labels=labels)]
        else:
            known = [column[~np.isnan(column)][:, None] for column in y.T]
            found = [Standardizer(c, labels=[name]) for c, name in zip(known, labels, strict=True)]
        self.y_mean = np.concatenate([scaler.mean for scaler in found])
        self.y_scale = np.concatenate([scaler.scale for scaler in found])

    def _wanted(self, keep: Collection[str | int]) -> set[int]:
        """The places of the columns that are to be kept. Raises ValueError for those that are not there."""
        known = [*range(self.columns), *(self.names or [])]
        for column in keep:
            if column not in known:
                raise unknown_name("keep", column, self.names or known)
        return {known.index(column) % self.columns for column in keep}

    def _leave_out(self, i: int, column: Array, keep: bool) -> bool:
        """Whether column i, as it is read, says nothing and is not to be kept; then ``left_out`` has it."""
        why = columns.says_nothing(self.names[i] if self.names else None, column, self.columns == 1)
        if not why or (keep and len(columns.values_of(column))):
            return False
        self.left_out[i] = why
        return True

    def _learn_column(self, i: int, raw: Array, declared: bool, keep: bool) -> Array:
        """The column as it is read, once it is known what it is."""
        column, way, dates = columns.learn(raw, declared)
        if self._leave_out(i, column, keep):
            return column
        if way:
            self.written[i] = way
        if dates:
            self.dates[i] = Dates.learn(column)
        elif column.dtype.kind == "U":
            self.categories[i], count = columns.categories(column, _CATEGORIES)
            if count > _CATEGORIES:
                self.rare[i] = count
        return column

    def _learn_gaps(self, X: Any) -> None:
        """Set ``fill`` and ``gaps``."""
        if not isinstance(X, frames.Frame) and X.dtype.kind != "f":
            return
        self.fill = np.zeros(self.columns)
        for place, i in enumerate(self.kept):
            column = X.columns[place] if isinstance(X, frames.Frame) else X[:, place]
            if column.dtype.kind == "U":
                missing = int(np.count_nonzero(column == frames.MISSING))
            else:
                there = columns.values_of(column)
                self.fill[i], missing = columns.middle(there), len(column) - len(there)
            if missing:
                self.gaps[i] = missing

    def _filled(self, X: Any) -> Any:
        """X with the median where a number is missing; a copy where there are any."""
        if self.fill is None:
            return X
        values = self.fill[self.kept]
        if isinstance(X, frames.Frame):
            filled = [_fill(column, value) for column, value in zip(X.columns, values, strict=True)]
            return frames.Frame(X.names, filled)
        return _fill(X, values)

    @property
    def kept(self) -> list[int]:
        """The places of the columns that are not left out."""
        return self._layout()[0]

    def _layout(self) -> tuple[list[int], list[slice]]:
        """(``kept``, for each column the slice of the network's inputs that it becomes); made once, when all
        is learned: predictions of single rows ask often."""
        if self._made is None:
            kept, at, places = [i for i in range(self.columns) if i not in self.left_out], 0, []
            for i in range(self.columns):
                width = 0 if i in self.left_out else len(self._parts(i))
                places.append(slice(at, at + width))
                at += width
            if self._learning:
                return kept, places
            self._made = kept, places
        return self._made

    @property
    def needed(self) -> list[str] | Any:
        """The names of the columns that it reads; None without names."""
        return [self.names[i] for i in self.kept] if self.names else None

    @property
    def needed_text(self) -> list[str]:
        """Of ``needed`` those that were text in training; () without names."""
        return [
            self.names[i] for i in self.kept if self.names and (i in self.categories or i in self.written)
        ]

    def reasons(self) -> str:
        """What is left out and why, in words."""
        return "; ".join(f"{self._label(i)} ({why})" for i, why in sorted(self.left_out.items()))

    def _parts(self, i: int) -> Sequence[str | None]:
        """What follows column i's name in those of its inputs: =category, (part of a date) or nothing."""
        if i in self.categories:
            return [f"={value or '(missing)'}" for value in self.categories[i]]
        return [f" ({part})" for part in self.dates[i].parts] if i in self.dates else [""]

    @property
    def inputs(self) -> int:
        """The network's inputs."""
        return self._layout()[1][-1].stop

    @property
    def input_names(self) -> list[str]:
        """A name for each input: the column's, column=category or column (part of a date)."""
        names = self.names or [f"column {i}" for i in range(self.columns)]
        return [f"{names[i]}{part}" for i in self.kept for part in self._parts(i)]

    @property
    def fill_of_inputs(self) -> Doubles | None:
        """(inputs,) float64: ``fill`` for each input of the network; None where nothing is filled."""
        if self.fill is None:
            return None
        parts = [
            self.dates[i].encode(self.fill[i : i + 1])[0]
            if i in self.dates
            else np.full(len(self._parts(i)), self.fill[i])
            for i in self.kept
        ]
        return np.concatenate(parts)

    def summary(self) -> str:
        """What it does to the columns, in words."""
        numbers = len(self.kept) - len(self.categories) - len(self.dates)
        scaled = "as they are" if self.mean is None else "standardised"
        if (
            self.mean is not None
            and numbers > 1
            and not self.categories
            and len(set(self.scale.tolist())) == 1
        ):
            scaled = "standardised, by one common scale"
        parts = [f"{numbers} number{'s'[: numbers > 1]} {scaled}"] if numbers else []
        for i, way in self.written.items():
            if i not in self.dates:
                parts.append(f"{self._label(i)}: text, read as {way}")
        for i, dates in self.dates.items():
            parts.append(f"{self._label(i)}: {self.written.get(i, 'dates')}, as {dates}")
        for i, values in self.categories.items():
            own = f", missing ({self.gaps[i]:,}) is one" if i in self.gaps else ""
            of = f" of {self.rare[i]:,}" if i in self.rare else ""
            parts.append(f"{self.names[i]}: {len(values)}{of} categories, one-hot{own}")
        for i, count in self.gaps.items():
            if i in self.dates:
                parts.append(f"{self._label(i)}: {count:,} missing, the middle date instead")
            elif i not in self.categories:
                parts.append(f"{self._label(i)}: {count:,} missing, the median {self.fill[i]:.4g} instead")
        return "; ".join(parts)

    # --- inputs

    def _label(self, column: int) -> str:
        return f"column {self.names[column]!r}" if self.names else f"column {column}"

    def _table(self, X: Any) -> Any:
        """X as a Frame or an array or sparse matrix of the columns that are kept, as they are read."""
        table = frames.frame(X, only=self.needed)
        numbers = not (self.categories or self.dates or self.written)
        if table is not None and self.names:
            return self._read(table.select(self.needed))
        if table is None and not hasattr(X, "tocsr"):
            X = plain(X)
        shape = X.shape if table is None else table.shape
        if len(shape) != 2 or shape[1] not in (self.columns, len(self.kept)):
            less = f" or (N, {len(self.kept)}), without those left out" if self.left_out else ""
            raise ValueError(
                f"X: got shape {shape}, takes (N, {self.columns}){less}: the columns of the training"
            )
        kept = self.kept if shape[1] == self.columns else list(range(len(self.kept)))
        if table is None and (numbers or hasattr(X, "tocsr")) and X.dtype.kind not in _OBJECTS:
            return X[:, kept] if self.left_out else X
        if table is None:
            if X.dtype.kind not in _OBJECTS:
                column = min({**self.categories, **self.dates, **self.written})
                raise TypeError(
                    f"X: {self._label(column)} is text or a date, got dtype {X.dtype}; takes a frame or an "
                    "object array"
                )
            table = _frame_of(X)
        return self._read(table.select([table.names[i] for i in kept]))

    def _read(self, table: frames.Frame) -> frames.Frame:
        """A Frame of the kept columns, read as in training."""
        found = [
            columns.read(
                column, f"X: {self._label(i)}", i in self.categories, i in self.dates, self.written.get(i)
            )
            for i, column in zip(self.kept, table.columns, strict=True)
        ]
        return frames.Frame(table.names, found)

    def _numbers(self, i: int, column: Array) -> Doubles:
        """(N, 1) numbers of column i as it is read, (N, parts) of dates."""
        return self.dates[i].encode(column) if i in self.dates else column.astype(np.float64)[:, None]

    def _encoded(self, X: Any, first: int, new: dict[int, list[str]]) -> Any:
        """One-hot where there is text: (N, inputs) numbers.

        first: the number of the first row; new: takes, by column, the texts that the training never saw.
        """
        if not isinstance(X, frames.Frame):
            return X
        out = np.zeros((len(X), self.inputs))
        places = self._layout()[1]
        for i, column in zip(self.kept, X.columns, strict=True):
            if i not in self.categories:
                out[:, places[i]] = self._numbers(i, column)
                continue
            found = columns.places(column, self.categories[i])
            there = np.flatnonzero(found >= 0)
            out[there, places[i].start + found[there]] = 1.0
            if len(there) < len(column) and i not in self.rare:
                rows = np.flatnonzero(found < 0)
                if self.unknown == "error":
                    raise self._unseen(i, str(column[rows[0]]), first + int(rows[0]))
                new.setdefault(i, []).extend(column[rows].tolist())
        return out

    def _unseen(self, i: int, text: str, row: int) -> ValueError:
        values = self.categories[i]
        known = ", ".join(map(repr, values[:8])) + (", ..." if len(values) > 8 else "")
        got = repr(text) if text else "a missing value"
        return ValueError(f"X: {self._label(i)} has {got} in row {row}, takes {known}")

    def transform(self, X: Features, dtype: DTypeLike = np.float32) -> Any:
        """The network's inputs, (N, inputs) of dtype, from raw columns: a new array, made in pieces.

        Missing numbers become the median, unknown categories zeros with a warning that counts them, or a
        ValueError (``unknown``). Raises ValueError for missing columns, TypeError for what is no number.
        """
        table = self._table(X)
        if self.mean is None:
            return table.numbers() if isinstance(table, frames.Frame) else table
        if not isinstance(table, frames.Frame) and table.dtype.kind not in "fiub":
            raise TypeError(f"X: got dtype {table.dtype}, takes numbers (float, int, uint or bool)")
        rows = len(table) if isinstance(table, frames.Frame) else table.shape[0]
        out = np.empty((rows, self.inputs), dtype)
        new: dict[int, list[str]] = {}
        step = max(1, _CHUNK // max(1, self.inputs))
        for at in range(0, rows, step):
            part = slice(at, at + step)
            piece = self._filled(table.rows(part) if isinstance(table, frames.Frame) else table[part])
            out[part] = (self._encoded(piece, at, new) - self.mean) / self.scale
        self._warn(new, rows)
        return out

    def input_gradients(self, gradient: Array, X: Features) -> Array:
        """Derivatives by raw columns, (N, ..., columns), from those by the network's inputs.

        Columns in the order of the training. Text and dates have none, nor has a number that is missing:
        NaN. By those that are left out it is 0.
        """
        table, places = self._table(X), self._layout()[1]
        found = np.zeros((*gradient.shape[:-1], self.columns))
        for k, i in enumerate(self.kept):
            if i in self.categories or i in self.dates:
                found[..., i] = np.nan
                continue
            found[..., i] = gradient[..., places[i].start] / (
                1.0 if self.scale is None else self.scale[places[i]]
            )
            if not hasattr(table, "tocsr"):  # of sparse rows nothing is missing
                column = np.asarray(
                    table.columns[k] if isinstance(table, frames.Frame) else table[:, k], float
                )
                found[np.isnan(column), ..., i] = np.nan
        return found.astype(gradient.dtype)

    def encode(self, X: Features) -> Doubles:
        """(N, inputs) float64 before the scaling, what exports to ONNX and C take: one-hot categories, parts
        of dates, NaN where a number is missing. Warns and raises as ``transform`` does."""
        new: dict[int, list[str]] = {}
        out = self._encoded(self._table(X), 0, new)
        self._warn(new, len(out))
        return np.asarray(out, np.float64)

    def _warn(self, new: Mapping[int, Sequence[str]], rows: int) -> None:
        """Say how often the columns had texts that the training never saw."""
        if not new:
            return
        counts = "; ".join(
            f"{self._label(i)} in {len(texts):,} of {rows:,} rows, "
            + (f"such as {texts[0]!r}" if texts[0] else "where a value is missing")
            for i, texts in new.items()
        )
        warnings.warn(
            f"X: zeros for what the training never saw: {counts}; unknown='error' refuses it", stacklevel=3
        )

    # --- targets and outputs

    def targets(self, y: Targets) -> Any:
        """Labels as places among the classes; a regression's targets standardised; others as they are."""
        if self.classes is not None:
            return self._places_of(y)
        if self.y_mean is None:
            return y
        return (self.own_unit(y) - self.y_mean) / self.y_scale

    def own_unit(self, y: Any) -> Doubles:
        """(N, outputs) float64: the targets of a regression as numbers; text is read as in training."""
        array = frames.column_array(y) if np.ndim(y) == 1 else np.asarray(y, np.float64)
        if array.dtype.kind == "M":
            raise TypeError(f"y: got dtype {array.dtype}, takes numbers")
        if array.dtype.kind == "U":
            array = (self.target_written or Written()).read(array, "y")
        return array.astype(np.float64).reshape(len(array), -1)

    def _places_of(self, y: Any) -> Any:
        labels = frames.column_array(y).tolist() if np.ndim(y) < 2 else None
        if labels is None:  # one-hot or probabilities
            return y
        place = {label: i for i, label in enumerate(self.classes)}
        try:
            return np.array([place[label] for label in labels])
        except KeyError as error:
            there = frames.present(y)
            if not there.all():
                raise ValueError(
                    f"y: has no label in row {int(np.argmin(there))}; takes one in every row: "
                    "fb.data.present(y) says which have one"
                ) from None
            known = ", ".join(map(repr, self.classes[:8])) + (", ..." if len(self.classes) > 8 else "")
            row = labels.index(error.args[0])
            raise ValueError(f"y: got label {error.args[0]!r} in row {row}, takes {known}") from None

    def labels(self, probabilities: Array) -> list[Label]:
        """The likeliest class of each row, as a list of labels; one output is that of the second class."""
        if self.classes is None:
            raise ValueError("labels: this model has no classes, it predicts numbers")
        if probabilities.shape[1] == 1:
            return [self.classes[int(p > 0.5)] for p in probabilities[:, 0]]
        return [self.classes[i] for i in probabilities.argmax(axis=1)]

    # --- shown

    def _facts(self) -> dict[str, str]:
        facts = {"columns": f"{self.columns}, as {self.inputs} inputs", "prepared": self.summary()}
        if self.target:
            facts["target"] = self.target
        if self.classes:
            shown = ", ".join(map(str, self.classes[:10])) + ", ..." * (len(self.classes) > 10)
            facts["classes"] = f"{len(self.classes)}: {shown}"
        return facts

    def __repr__(self) -> str:
        return f"Preparation({'; '.join(f'{name} {fact}' for name, fact in self._facts().items())})"

    def _repr_html_(self) -> str:
        return html_table([("Preparation", ""), *self._facts().items()], left=2)

    # --- files

    def config(self) -> dict[str, Any]:
        """What JSON holds of it; the numbers are tensors beside the weights."""
        config = {
            "columns": self.columns,
            "names": self.names,
            "categories": {str(i): values for i, values in self.categories.items()},
            "classes": self.classes,
            "target": self.target,
            "dates": {str(i): [list(d.parts), d.latest] for i, d in self.dates.items()},
            "written": {str(i): asdict(way) for i, way in self.written.items()},
            "left_out": {str(i): why for i, why in self.left_out.items()},
            "rare": {str(i): count for i, count in self.rare.items()},
            "target_written": self.target_written and asdict(self.target_written),
            "unknown": self.unknown,
            "reading": self.reading,
        }
        plain: dict[str, Any] = {"target_written": None, "unknown": "zeros"}
        return {k: v for k, v in config.items() if k in _ALWAYS or v != plain.get(k, {})}

    def tensors(self) -> dict[str, Doubles]:
        """{name: array} of the numbers that there are."""
        return {name: getattr(self, name) for name in self.TENSORS if getattr(self, name) is not None}

    @classmethod
    def restore(
        cls, config: Mapping[str, Any], tensors: Mapping[str, Doubles], inputs: int, outputs: int
    ) -> Preparation:
        """From ``config`` and ``tensors``; raises ValueError where they do not fit the network."""

        def by_column(name: str, made: Any) -> dict[int, Any]:
            return {int(i): made(value) for i, value in config.get(name, {}).items()}

        way = config.get("target_written")
        self = cls(
            int(config["columns"]),
            config["names"],
            by_column("categories", list),
            dates=by_column("dates", _dates),
            written=by_column("written", lambda w: Written(**w)),
            left_out=by_column("left_out", str),
            classes=config["classes"],
            target=config["target"],
            target_written=way and Written(**way),
            unknown=config.get("unknown", "zeros"),
            **tensors,
        )
        self.rare = by_column("rare", int)
        self.reading = dict(config.get("reading", {}))
        self.check(inputs, outputs)
        return self

    def check(self, inputs: int, outputs: int) -> None:
        """Raises ValueError where it does not fit a network of so many inputs and outputs: what is written
        is held to what is read."""
        names, classes, categories = self.names, self.classes, self.categories
        known: list[Mapping[int, Any]] = [categories, self.dates, self.written, self.left_out, self.rare]
        good: Any = (
            0 < self.columns <= inputs + len(self.left_out)
            and all(0 <= i < self.columns for part in known for i in part)
            and all(isinstance(t, str) for values in categories.values() for t in values)
            and all(values and values == sorted(set(values)) for values in categories.values())
            and not (categories.keys() & (self.dates.keys() | self.written.keys()))
            and not (self.left_out.keys() & (categories.keys() | self.dates.keys() | self.written.keys()))
            and all(bool(way.order) == (i in self.dates) for i, way in self.written.items())
            and self.inputs == inputs
            and (names is None or (len(names) == self.columns and all(isinstance(n, str) for n in names)))
            and (classes is None or len(classes) == (outputs if outputs > 1 else 2))
            and all(isinstance(label, (str, int, float)) for label in classes or [])
            and (self.target is None or isinstance(self.target, str))
            and (self.mean is None) == (self.scale is None)
            and (self.y_mean is None) == (self.y_scale is None)
        )  # fmt: skip
        for name, array in self.tensors().items():
            shape = (outputs,) if name.startswith("y_") else (self.columns if name == "fill" else inputs,)
            good = good and array.shape == shape and array.dtype == np.float64 and np.isfinite(array).all()
            good = good and (not name.endswith("scale") or (array != 0).all())
        if not good:
            raise ValueError("its preparation does not fit the network")
