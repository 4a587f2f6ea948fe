"""Reading tables from files: .npz, .npy, .csv and idx-ubyte, checked, never unpickled."""

import csv
import gzip
import re
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from . import idxfile
from .csvfile import column_index, in_range, read_csv
from .errors import unknown

__all__ = ["Table", "read"]

_TAKES = ".npz, .npy, .csv, .tsv, or idx-ubyte (csv, tsv and idx also as .gz)"


@dataclass(frozen=True)
class Table:
    """Features and a target read from a file.

    X: (N, n_features), numeric, as stored (float64 from text); writable, C-contiguous.
    y: (N,) or (N, n_out): int64 for integers, bools and labels, otherwise floating point.
    classes: the original labels, sorted, where the target was text: y then holds indices into it.
    X_test, y_test: the test part, where the file brings one of its own, else None.
    source: one line saying what was read.
    """

    X: np.ndarray
    y: np.ndarray
    feature_names: list[str] | None = None
    target_name: str | None = None
    classes: list[str] | None = None
    source: str = ""
    X_test: np.ndarray | None = None
    y_test: np.ndarray | None = None


def read(path, target=None):
    """Read the table at `path`; the file's name says the format.

    .csv, .tsv (.gz): `target` is a column's name or index (negative counts from the end); default:
    the last column. Comma, semicolon or tab; a header line is recognised. Features are numbers.
    .npz: arrays X and y, or x_train, y_train and optionally x_test, y_test, or any two; `target`
    names the target's array.
    .npy: `target` is another .npy file, or the index of a column.
    idx-ubyte (.gz): the labels lie beside the images under the usual name, or `target` is their
    file. Images are flattened to (N, rows * columns).

    Raises ValueError (FileNotFoundError for a file that is not there) that says where and what.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; takes a file: {_TAKES}")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(".npz"):
        table = _read_npz(path, target)
    elif name.endswith(".npy"):
        table = _read_npy(path, target)
    elif name.endswith((".csv", ".tsv")):
        table = _read_csv(path, target)
    elif re.search(r"idx\d.?ubyte$", name):
        table = _read_idx(path, target)
    else:
        raise ValueError(f"{path}: unknown kind of file; takes {_TAKES}")
    return _checked(path, table)


def _checked(path, table):
    """The table with X (N, n), y (N,) or (N, k), and the test part likewise; or a clear error."""
    X, y, classes = _features(path, table.X), table.y, table.classes
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


def _features(path, X):
    if X.dtype.kind not in "biuf":
        raise ValueError(f"{path}: X has dtype {X.dtype}; takes numbers")
    if X.ndim == 0 or not X.size:
        raise ValueError(f"{path}: X has shape {X.shape}; takes (samples, features), none of them 0")
    X = _native(X.reshape(len(X), -1))
    _finite(path, "X", X)
    return X


def _target(path, y, classes=None):
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


def _native(a):
    """Contiguous, writable, in the machine's byte order and a usual width."""
    usual = {"b1": np.uint8, "f2": np.float32, "f16": np.float64, "f12": np.float64}
    dtype = usual.get(a.dtype.str[1:], a.dtype.newbyteorder("="))
    return np.require(a, dtype, ["C", "W"])


def _finite(path, what, a):
    """Say where the first NaN or infinity is; in chunks of rows, to keep the mask small."""
    if a.dtype.kind != "f":
        return
    rows = max(1, (1 << 20) // max(1, a[:1].size))
    for start in range(0, len(a), rows):
        bad = np.argwhere(~np.isfinite(a[start : start + rows]))
        if len(bad):
            row, *column = bad[0].tolist()
            at = f", column {column[0]}" if column else ""
            value = a[(start + row, *column)]
            raise ValueError(
                f"{path}: {what} is {value} at row {start + row}{at} (counted from 0); takes "
                "finite numbers: fill or drop such rows first"
            )


def _same_length(path, X, y, part=""):
    if len(X) != len(y):
        raise ValueError(f"{path}:{part} X has {len(X)} samples, y has {len(y)}; takes as many of both")


@contextmanager
def _speaking(path, kind):
    """Turn what a damaged file makes the parsers raise into one line that names the file."""
    try:
        yield
    except MemoryError as error:
        raise ValueError(f"{path}: does not fit in memory, or its header is damaged") from error
    except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: damaged or truncated {kind} file ({error})") from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error
    except csv.Error as error:
        raise ValueError(f"{path}: not readable as {kind}: {error}") from error


# --- NumPy's formats ---

_PAIRS = [("x", "y"), ("data", "target"), ("data", "labels"), ("images", "labels")]
_PAIRS += [("features", "target"), ("features", "labels"), ("features", "targets")]


def _numpy(path, load):
    """Call `load`, which reads from a NumPy file; whatever it raises names the file and why.

    Everything is caught: a damaged archive makes zipfile and NumPy raise a dozen kinds of errors,
    NotImplementedError and TokenError among them.
    """
    try:
        with _speaking(path, "NumPy"):
            return load()
    except Exception as error:
        message = " ".join(str(error).split())
        if "allow_pickle" in message:
            message = (
                "not NumPy's format, or Python objects in it, which only pickle reads (fastbp "
                "never does); store plain numbers or text"
            )
        elif message.startswith(str(path)):
            raise
        elif not isinstance(error, ValueError):
            message = f"damaged NumPy file ({message})"
        raise ValueError(f"{path}: {message}") from error


def _read_npz(path, target):
    with open(path, "rb") as stream:
        archive = _numpy(path, lambda: np.load(stream, allow_pickle=False))
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError(f"{path}: not an .npz archive but a single array: name it .npy")
        keys = _npz_keys(path, archive, target)
        X, y, *test = [_numpy(path, lambda key=key: archive[key]) for key in keys]
    X_test, y_test = test or (None, None)
    source = f"{path.name}: arrays {', '.join(keys)}"
    return Table(X, y, target_name=keys[1], source=source, X_test=X_test, y_test=y_test)


def _npz_keys(path, archive, target):
    """The keys of X, y and, if there is a test part, X_test, y_test: by name, else the only two."""
    names = archive.files
    found = f"{path}: found {', '.join(names) or 'no arrays'}"
    lower = {}
    for name in names:
        if lower.setdefault(name.lower(), name) != name:
            lower[name.lower()] = None  # "x" and "X" in one file: neither is the usual name
    if target is not None:
        if target not in names:
            raise unknown(f"target of {path}", target, names)
        others = [name for name in names if name != target]
        usual = [lower[k] for k in ("x", "x_train", "data", "images", "features") if lower.get(k)]
        chosen = others if len(others) == 1 else [name for name in usual if name != target]
        if len(chosen) != 1:
            raise ValueError(f"{found}; cannot tell which is X besides target {target!r}: name it X")
        return [chosen[0], target]
    if lower.get("x_train") and lower.get("y_train"):
        has_test = lower.get("x_test") and lower.get("y_test")
        test = [lower["x_test"], lower["y_test"]] if has_test else []
        return [lower["x_train"], lower["y_train"], *test]
    for x, y in _PAIRS:
        if lower.get(x) and lower.get(y):
            return [lower[x], lower[y]]
    if len(names) == 2:
        shapes = [_numpy(path, lambda k=k: archive[k]).shape for k in names]
        wide = [i for i in (0, 1) if len(shapes[i]) >= 2 and len(shapes[1 - i]) == 1]
        if len(wide) == 1:
            return [names[wide[0]], names[1 - wide[0]]]
    raise ValueError(
        f"{found}; cannot tell X from y: name them X and y (or x_train, y_train, x_test, y_test), "
        "or give the target's name"
    )


def _read_npy(path, target):
    X = _load_npy(path)
    if target is None:
        raise ValueError(f"{path}: takes a target: another .npy file, or the index of a column")
    if str(target).lower().endswith(".npy"):
        other = _target_file(path, target)
        return Table(X, _load_npy(other), target_name=other.stem, source=f"{path.name}, {target}")
    index = column_index(target)
    if index is None:
        raise ValueError(f"{path}: target: got {target!r}; takes an .npy file or a column's index")
    if X.ndim != 2 or X.shape[1] < 2:
        raise ValueError(f"{path}: shape {X.shape}; a target column takes (samples, columns), columns >= 2")
    index = in_range(path, index, X.shape[1])
    source = f"{path.name}: column {index} is the target"
    return Table(np.delete(X, index, axis=1), X[:, index].copy(), source=source)


def _load_npy(path):
    with open(path, "rb") as stream:
        array = _numpy(path, lambda: np.load(stream, allow_pickle=False))
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path}: an .npz archive of several arrays: name it .npz")
    return array


def _target_file(path, target):
    """The target's own file: as given, or beside the features' file."""
    for file in (Path(target), path.parent / target):
        if file.is_file():
            return file
    raise FileNotFoundError(f"{target}: no such file (target of {path})")


# --- the others ---


def _open(path, mode, **how):
    return (gzip.open if path.name.lower().endswith(".gz") else open)(path, mode, **how)


def _read_csv(path, target):
    with _speaking(path, "csv"), _open(path, "rt", encoding="utf-8-sig", newline="") as stream:
        X, y, feature_names, target_name, source = read_csv(path, stream, target)
    return Table(X, y, feature_names, target_name, source=source)


def _read_idx(path, target):
    X = _load_idx(path)
    if X.ndim == 1:
        raise ValueError(f"{path}: one number per sample, so labels; takes the images' file")
    if target is not None:
        labels = _target_file(path, target)
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


def _load_idx(path):
    with _speaking(path, "idx"), _open(path, "rb") as stream:
        return idxfile.parse(path, stream.read())
