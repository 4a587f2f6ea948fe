"""NumPy's .npz and .npy: which array is which, and every damage as one line that names the file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ..errors import unknown
from .csvfile import column_index, in_range
from .damaged import speaking

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..types import Array

_PAIRS = [("x", "y"), ("data", "target"), ("data", "labels"), ("images", "labels")]
_PAIRS += [("features", "target"), ("features", "labels"), ("features", "targets")]


def _numpy(path: Path, load: Callable[..., Any]) -> Any:
    """Call `load`, which reads from a NumPy file; whatever it raises names the file and why.

    Everything is caught: a damaged archive makes zipfile and NumPy raise a dozen kinds of errors,
    NotImplementedError and TokenError among them.
    """
    try:
        with speaking(path, "NumPy"):
            loaded = load()
            if isinstance(loaded, bytes):  # what np.load makes of a member of an archive that is no array
                raise ValueError("holds a file that is no array; takes what np.savez writes")
            return loaded
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


def read_npz(path: Path, target: Any) -> tuple[list[Any], list[str]]:
    """([X, y] or [X, y, X_test, y_test], their keys)."""
    with open(path, "rb") as stream:
        archive = _archive(path, stream)
        keys = _npz_keys(path, archive, target)
        return [_numpy(path, lambda key=key: archive[key]) for key in keys], keys


def features_npz(path: Path) -> Array:
    """X alone: by its usual names, x_test before x_train, or the only array."""
    with open(path, "rb") as stream:
        archive = _archive(path, stream)
        lower = {name.lower(): name for name in archive.files}
        usual = [lower[k] for k in ("x", "x_test", "x_train", "data", "images", "features") if k in lower]
        if not usual and len(archive.files) != 1:
            raise ValueError(f"{path}: found {', '.join(archive.files) or 'no arrays'}; name the features X")
        return _numpy(path, lambda: archive[(usual or archive.files)[0]])


def _archive(path: Path, stream: BinaryIO) -> Any:
    archive = _numpy(path, lambda: np.load(stream, allow_pickle=False))
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise ValueError(f"{path}: not an .npz archive but a single array: name it .npy")
    twice = [name for name, n in Counter(archive.files).items() if n > 1]
    if twice:
        raise ValueError(f"{path}: holds {twice[0]!r} more than once; takes names that differ")
    return archive


def _npz_keys(path: Path, archive: Any, target: Any) -> list[str]:
    """The keys of X, y and, if there is a test part, X_test, y_test: by name, else the only two."""
    names = archive.files
    found = f"{path}: found {', '.join(names) or 'no arrays'}"
    lower: dict[str, Any] = {}
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


def read_npy(path: Path, target: Any) -> tuple[Array, Array, str | None, str]:
    """(X, y, the target's name or None, what was read) of a features' file and another one or a column."""
    X = load_npy(path)
    if target is None:
        raise ValueError(f"{path}: takes a target: another .npy file, or the index of a column")
    if str(target).lower().endswith(".npy"):
        other = target_file(path, target)
        return X, load_npy(other), other.stem, f"{path.name}, {target}"
    index = column_index(target)
    if index is None:
        raise ValueError(f"{path}: target: got {target!r}; takes an .npy file or a column's index")
    if X.ndim != 2 or X.shape[1] < 2:
        raise ValueError(f"{path}: shape {X.shape}; a target column takes (samples, columns), columns >= 2")
    index = in_range(path, index, X.shape[1])
    source = f"{path.name}: column {index} is the target"
    return np.delete(X, index, axis=1), X[:, index].copy(), None, source


def load_npy(path: Path) -> Array:
    with open(path, "rb") as stream:
        array = _numpy(path, lambda: np.load(stream, allow_pickle=False))
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path}: an .npz archive of several arrays: name it .npz")
    return array


def target_file(path: Path, target: str | Path) -> Path:
    """The target's own file: as given, or beside the features' file."""
    for file in (Path(target), path.parent / target):
        if file.is_file():
            return file
    raise FileNotFoundError(f"{target}: no such file (target of {path})")
