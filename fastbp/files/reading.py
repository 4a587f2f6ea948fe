"""Reading tables from files: .csv, .parquet, .npz, .npy, .svmlight, idx-ubyte; checked, never unpickled."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data import frames
from ..errors import unknown
from . import idxfile
from .csvfile import Wanted, column_index, in_range, line_of, missing, read_csv
from .damaged import speaking
from .numpyfile import features_npz, load_npy, read_npy, read_npz, target_file
from .textfile import Dialect, Source

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..types import Array, FilePath

__all__ = ["Dialect", "Table", "Wanted", "features", "read"]

_TAKES = ".csv, .tsv, .parquet, .npz, .npy, .svmlight, or idx-ubyte (csv, tsv, svmlight and idx also as .gz)"
_NAMED = ("csv", "parquet")  # kinds of file whose columns have names, and whose features may be missing


@dataclass(frozen=True)
class Table:
    """Features and a target read from a file.

    X: (N, n_features), numeric, as stored (float64 from text), writable, C-contiguous; a Frame where
    columns are text; a SciPy CSR matrix from .svmlight. Values missing in .csv and .parquet are
    NaN, and "" in columns of text: a Preparation fills them.
    y: (N,) or (N, n_out): int64 for integers, bools and labels, otherwise floating point.
    classes: the original labels, sorted, where the target was text: y then holds indices into it.
    X_test, y_test: the test part, where the file brings one of its own, else None.
    ids: a Frame of the columns that go along as they are, or None.
    decimal: "," where a file of text writes decimal commas.
    source: one line saying what was read.
    place: where a row is, for messages.
    """

    X: Any
    y: Any = None
    feature_names: list[str] | None = None
    target_name: str | None = None
    classes: list[str] | None = None
    source: str = ""
    X_test: Any = None
    y_test: Array | None = None
    ids: frames.Frame | None = None
    decimal: str | None = None
    place: Callable[[int], str] = "row {} (counted from 0)".format


def read(path: FilePath, wanted: Wanted | None = None, dialect: Dialect | None = None) -> Table:
    """Read the table at `path`; the file's name says the format, "-" is a .csv on standard input.

    .csv, .tsv (.gz), .parquet: ``wanted.target`` is a column's name or index (negative counts from the
    end); default: the last column. A csv is cut by comma, semicolon, tab or |; a header line is recognised.
    Features are numbers, or text: categories; some may be missing, the target only where ``wanted``
    drops such rows. ``dialect`` says of a file of text what it does not show by itself.
    .npz: arrays X and y, or x_train, y_train and optionally x_test, y_test, or any two; the target is an
    array's name.
    .npy: the target is another .npy file, or the index of a column.
    .svmlight, .libsvm (.gz): takes scikit-learn; X is sparse.
    idx-ubyte (.gz): the labels lie beside the images under the usual name, or the target is their
    file. Images are flattened to (N, rows * columns).

    Raises ValueError (FileNotFoundError for a file that is not there) that says where and what,
    ImportError where .parquet or .svmlight need a library that is missing.
    """
    path, kind = _kind(path)
    wanted = wanted or Wanted()
    target = wanted.target
    _check_named(path, kind, wanted)
    if kind == "npz":
        arrays, keys = read_npz(path, target)
        found: Any = (*arrays, None, None)
        X, y, X_test, y_test = found[:4]
        source = f"{path.name}: arrays {', '.join(keys)}"
        table = Table(X, y, target_name=keys[1], source=source, X_test=X_test, y_test=y_test)
    elif kind == "npy":
        X, y, name, source = read_npy(path, target)
        table = Table(X, y, target_name=name, source=source)
    elif kind == "csv":
        table = _read_csv(path, wanted, dialect or Dialect())
    elif kind == "parquet":
        table = _read_parquet(path, wanted)
    elif kind == "svmlight":
        X, y = _read_svmlight(path, target)
        table = Table(X, y, source=f"{path.name}: sparse, {X.nnz:,} numbers stored")
    else:
        table = _read_idx(path, target)
    return _checked(path, table, kind in _NAMED)


def features(
    path: FilePath, wanted: Wanted | None = None, columns: int | None = None, dialect: Dialect | None = None
) -> Table:
    """X alone, for a model that exists: the columns that ``wanted.only`` names, where the file has names.

    columns: how many they are, where the file does not say (.svmlight). What the file holds besides
    (the target, other columns) is passed over, not checked. Raises as ``read`` does.
    """
    path, kind = _kind(path)
    wanted = replace(wanted or Wanted(), target=False)
    _check_named(path, kind, replace(wanted, text=()))  # which the model knows
    if kind == "csv":
        table = _read_csv(path, wanted, dialect or Dialect())
    elif kind == "parquet":
        table = _read_parquet(path, wanted)
    elif kind == "svmlight":
        table = Table(_read_svmlight(path, None, columns)[0])
    elif kind == "idx":
        table = Table(_load_idx(path))
    else:
        table = Table(features_npz(path) if kind == "npz" else load_npy(path))
    return replace(table, X=_features(path, table.X, kind in _NAMED))


def _check_named(path: Path, kind: str, wanted: Wanted) -> None:
    """Columns that are asked for by name are of a file that has names."""
    text = () if wanted.of_a_model else wanted.text
    for option, given in (("--drop", wanted.drop), ("--id", wanted.ids_of(())), ("--text", text)):
        if given and kind not in _NAMED:
            takes = "columns of .csv, .tsv or .parquet"
            raise ValueError(f"{path}: {option}: got {', '.join(given)}; takes {takes}")


def _kind(path: FilePath) -> tuple[Path, str]:
    """(path, one of csv, parquet, npz, npy, svmlight, idx) of a file that is there."""
    path = Path(path)
    if str(path) == "-":
        return path, "csv"
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; takes a file: {_TAKES}")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    name = path.name.lower().removesuffix(".gz")
    kinds = {"csv": "csv", "tsv": "csv", "npz": "npz", "npy": "npy", "parquet": "parquet", "pq": "parquet"}
    kinds |= {"svmlight": "svmlight", "libsvm": "svmlight", "svm": "svmlight"}
    kind = kinds.get(name.rpartition(".")[2], "idx" if re.search(r"idx\d.?ubyte$", name) else None)
    if kind is None or (path.suffix.lower() == ".gz" and kind in ("npz", "npy", "parquet")):
        raise ValueError(f"{path}: unknown kind of file; takes {_TAKES}")
    return path, kind


def _checked(path: Path, table: Table, gaps: bool) -> Table:
    """The table with X (N, n), y (N,) or (N, k), and the test part likewise; or a clear error."""
    X, y, classes = _features(path, table.X, gaps), table.y, table.classes
    if classes is None:
        y, classes = _target(path, y)
    _same_length(path, X, y)
    X_test, y_test = table.X_test, table.y_test
    if X_test is not None:
        X_test = _features(path, X_test)
        y_test, found = _target(path, y_test, classes)
        if (classes is None) != (found is None):
            raise ValueError(f"{path}: the target is text in one part, numbers in the other")
        _same_length(path, X_test, y_test, " test")
        if X_test.shape[1] != X.shape[1] or y_test.shape[1:] != y.shape[1:]:
            raise ValueError(
                f"{path}: the training part is X {X.shape}, y {y.shape}, the test part is "
                f"X {X_test.shape}, y {y_test.shape}; takes the same columns in both"
            )
    return replace(table, X=X, y=y, classes=classes, X_test=X_test, y_test=y_test)


def _features(path: Path, X: Any, gaps: bool = False) -> Any:
    if isinstance(X, frames.Frame):
        for name, column in zip(X.names, X.columns, strict=True):
            _finite(f"{path}: column {name!r}", "X", column, gaps)
        return X if any(column.dtype.kind not in "fiub" for column in X.columns) else _native(X.numbers())
    if hasattr(X, "tocsr"):
        _finite(path, "X", X.data)
        return X
    if X.dtype.kind not in "biuf":
        raise ValueError(f"{path}: X has dtype {X.dtype}; takes numbers")
    if X.ndim == 0 or not X.size:
        raise ValueError(f"{path}: X has shape {X.shape}; takes (samples, features), none of them 0")
    X = _native(X.reshape(len(X), -1))
    _finite(path, "X", X, gaps)
    return X


def _target(path: Path, y: Any, classes: list[str] | None = None) -> tuple[Array, list[str] | None]:
    """(y, classes): text becomes indices into its sorted labels, or into `classes` if given."""
    if y.dtype.kind in "US":
        text = y.reshape(len(y)) if y.ndim and y.size == len(y) else None
        if text is None:
            raise ValueError(f"{path}: text labels of shape {y.shape}; takes one label per sample")
        labels, index = np.unique(text.astype(str), return_inverse=True)
        if classes is not None:
            place = {label: i for i, label in enumerate(classes)}
            for label in labels:
                if label not in place:
                    raise unknown(f"{path}: label of the test part", str(label), classes)
            index = np.array([place[label] for label in labels])[index]
            return index.astype(np.int64), classes
        return index.astype(np.int64), [str(label) for label in labels]
    if y.dtype.kind not in "biuf" or not 1 <= y.ndim <= 2:
        raise ValueError(
            f"{path}: y has dtype {y.dtype}, shape {y.shape}; takes numbers or labels, one row per sample"
        )
    if y.dtype.kind in "biu":
        if y.dtype == np.uint64 and y.size and y.max() > np.iinfo(np.int64).max:
            raise ValueError(f"{path}: y holds {y.max()}; takes integers that fit int64")
        y = y.astype(np.int64)
    y = _native(y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y)
    _finite(path, "y", y)
    return y, None


def _native(a: Array) -> Array:
    """Contiguous, writable, in the machine's byte order and a usual width."""
    usual = {"b1": np.uint8, "f2": np.float32, "f16": np.float64, "f12": np.float64}
    dtype = usual.get(a.dtype.str[1:], a.dtype.newbyteorder("="))
    return np.require(a, dtype, ["C", "W"])


def _finite(path: object, what: str, a: Any, gaps: bool = False) -> None:
    """Say where the first NaN (but with gaps) or infinity is; in chunks of rows, to keep the mask small."""
    if a.dtype.kind != "f":
        return
    rows = max(1, (1 << 20) // max(1, a[:1].size))
    for start in range(0, len(a), rows):
        part = a[start : start + rows]
        bad = np.argwhere(np.isinf(part) if gaps else ~np.isfinite(part))
        if len(bad):
            row, *column = bad[0].tolist()
            at = f", column {column[0]}" if column else ""
            value = a[(start + row, *column)]
            raise ValueError(
                f"{path}: {what} is {value} at row {start + row}{at} (counted from 0); takes "
                "finite numbers: fill or drop such rows first"
            )


def _same_length(path: Path, X: Any, y: Any, part: str = "") -> None:
    rows = X.shape[0]
    if rows != len(y):
        raise ValueError(f"{path}:{part} X has {rows} samples, y has {len(y)}; takes as many of both")


# --- the others ---


def _read_csv(path: Path, wanted: Wanted, dialect: Dialect) -> Table:
    source = Source(path)
    with speaking(source, "csv"):
        found = read_csv(source, wanted, dialect)
    if any(column.dtype.kind == "U" for column in found.columns):
        X: Any = frames.Frame(found.names, found.columns, [n for n in found.names if n in wanted.text])
    else:
        X = np.stack(found.columns, axis=1)
    return Table(
        X,
        found.y,
        found.names if found.header else None,
        found.target,
        source=found.source,
        ids=found.ids,
        decimal="," if found.commas else None,
        place=partial(_line, source, dialect, found.kept),
    )


def _line(source: Source, dialect: Dialect, kept: Array | None, row: int) -> str:
    return f"line {line_of(source, dialect, row if kept is None else int(kept[row]))}"


def _frame(path: Path, wanted: Wanted) -> tuple[list[str], frames.Frame]:
    """The names of a .parquet file's columns, and those that may be wanted, by pyarrow: polars 2.1 aborts on
    damaged files."""
    try:
        from pyarrow import parquet
    except ImportError:
        raise ImportError(f"{path}: pyarrow is needed for .parquet: pip install 'fastbp[parquet]'") from None
    try:
        with open(path, "rb") as file:
            table = parquet.ParquetFile(file).read()
        names: Any = frames.names_of(table)
        asked = [*wanted.only, *wanted.ids] if wanted.only and wanted.target is False else names
        return names, frames.frame(table, only=set(asked).difference(wanted.drop))
    except Exception as error:  # of a damaged file: any of its kinds, OSError without a number among them
        if isinstance(error, OSError) and error.errno:
            raise
        raise ValueError(f"{path}: {' '.join(str(error).split()) or type(error).__name__}") from error


def _read_parquet(path: Path, wanted: Wanted) -> Table:
    names, table = _frame(path, wanted)
    target = wanted.target
    if target is not False:
        if len(names) < 2:
            raise ValueError(f"{path}: {len(names)} column; takes features and a target")
        if target is None or (target not in names and column_index(target) is not None):
            target = names[in_range(path, -1 if target is None else column_index(target), len(names))]
    ids_of = wanted.ids_of(names)
    text = () if wanted.of_a_model else wanted.text
    for what, given in (
        ("--drop", wanted.drop),
        ("--id", ids_of),
        ("--text", text),
        ("column", wanted.only),
    ):
        for name in given:
            if name not in names:
                raise unknown(f"{path}: {what}", name, names)
    if target is not False and target not in names:
        raise unknown(f"target of {path}", target, names)
    if target in ids_of and not wanted.of_a_model:
        raise ValueError(f"{path}: --id: got {target!r}, the target; takes columns that tell rows apart")
    left = (target, *wanted.drop, *ids_of)
    rest = list(wanted.only) or [name for name in names if name not in left]
    if not rest:
        raise ValueError(f"{path}: no column left besides the target; takes one feature or more")
    X, ids = table.select(rest), table.select(ids_of) if ids_of else None
    if not wanted.of_a_model:
        told = [name for name in rest if name in wanted.text]
        columns = [frames.texts(c) if n in told else c for n, c in zip(rest, X.columns, strict=True)]
        X = frames.Frame(rest, columns, [*X.declared, *told])
    if target is False:
        return Table(X, None, rest, ids=ids)
    (y,) = table.select([target]).columns
    if target in wanted.text:
        y = frames.texts(y)
    note, lost = "", missing(y)
    if lost.any():
        if not wanted.drop_missing:
            raise ValueError(
                f"{path}: column {target!r} (the target): missing value at row {int(lost.argmax())} (counted "
                f"from 0), in {int(lost.sum()):,} of {len(y):,} rows; takes one in every row (--drop-missing "
                "leaves such rows out)"
            )
        kept = np.flatnonzero(~lost)
        X, y, ids = X.rows(kept), y[kept], ids and ids.rows(kept)
        note = f", {int(lost.sum()):,} rows without a target left out"
    return Table(X, y, rest, target, source=f"{path.name}: column {target!r} is the target{note}", ids=ids)


def _read_svmlight(path: Path, target: Any, columns: int | None = None) -> tuple[Any, Array]:
    if target is not None:
        raise ValueError(f"{path}: target: got {target!r}; each line begins with its own")
    try:
        from sklearn.datasets import load_svmlight_file
    except ImportError:
        raise ImportError(f"{path}: scikit-learn is needed for .svmlight: pip install scikit-learn") from None
    with speaking(path, "svmlight"):
        try:
            X, y = load_svmlight_file(str(path), n_features=columns)
        except (ValueError, IndexError) as error:
            raise ValueError(f"{path}: not readable as svmlight ({' '.join(str(error).split())})") from error
    whole = len(y) and (y == np.round(y)).all() and np.abs(y).max() < 2**53
    return X, y.astype(np.int64) if whole else y


def _read_idx(path: Path, target: Any) -> Table:
    X = _load_idx(path)
    if X.ndim == 1:
        raise ValueError(f"{path}: one number per sample, so labels; takes the images' file")
    labels: Path | None
    if target is not None:
        labels = target_file(path, target)
    else:
        usual = idxfile.labels_beside(path)
        labels = next((file for file in usual if file.is_file()), None)
        if labels is None:
            names = " or ".join(file.name for file in usual)
            raise FileNotFoundError(f"{path}: no labels beside it ({names}); give them as target")
    y = _load_idx(labels)
    if y.ndim != 1:
        raise ValueError(f"{labels}: shape {y.shape}; takes one label per sample")
    return Table(X, y, source=f"{path.name}, {labels.name}")


def _load_idx(path: Path) -> Array:
    with speaking(path, "idx"), Source(path).open() as stream:
        return idxfile.parse(path, stream.read())
