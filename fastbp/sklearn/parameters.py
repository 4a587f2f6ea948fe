"""The estimators' constructor parameters: their ranges, which are scikit-learn's, and how they are kept."""

from __future__ import annotations

import functools
from inspect import signature
from numbers import Integral, Real
from typing import Any

import numpy as np

from .tabular import TabularPreprocessor


def _number(low, high=np.inf, kind=Real, open_low=False, open_high=False):
    """(test, words) for a number in a range; bool is none."""
    kinds = "a whole number" if kind is Integral else "a number"
    if np.isinf(high):
        words = f"{kinds} above {low}" if open_low else f"{kinds} from {low} on"
    else:
        words = f"{kinds} in [{low}, {high}{')' if open_high else ']'}"

    def good(v):
        if not isinstance(v, kind) or isinstance(v, (bool, np.bool_)):
            return False
        return (v > low if open_low else v >= low) and (v < high if open_high else v <= high)

    return good, words


def _one_of(*names):
    return (lambda v: (v is None or isinstance(v, str)) and v in names), " or ".join(map(repr, names))


_FLAG = (lambda v: isinstance(v, (bool, np.bool_))), "True or False"
_COUNT = _number(1, kind=Integral)

_NATURAL = _number(0, kind=Integral)
is_count = _COUNT[0]
_WHOLE = _number(-np.inf, kind=Integral)[0]

# name: (test, what it takes), scikit-learn's own ranges
TAKES = {
    "preset": (
        lambda v: v is None or (isinstance(v, str) and v == "tabular") or isinstance(v, TabularPreprocessor),
        "None, 'tabular' or a TabularPreprocessor",
    ),
    "solver": _one_of("lbfgs", "sgd", "adam"),
    "alpha": _number(0),
    "batch_size": (lambda v: (isinstance(v, str) and v == "auto") or _COUNT[0](v), f"'auto' or {_COUNT[1]}"),
    "learning_rate": _one_of("constant", "invscaling", "adaptive"),
    "learning_rate_init": _number(0, open_low=True),
    "power_t": _number(0),
    "max_iter": _COUNT,
    "shuffle": _FLAG,
    "tol": _number(0),
    "warm_start": _FLAG,
    "verbose": (
        lambda v: isinstance(v, (bool, np.bool_)) or _NATURAL[0](v),
        "True, False or a number from 0 on",
    ),
    "momentum": _number(0, 1),
    "nesterovs_momentum": _FLAG,
    "early_stopping": _FLAG,
    "validation_fraction": _number(0, 1, open_high=True),
    "beta_1": _number(0, 1, open_high=True),
    "beta_2": _number(0, 1, open_high=True),
    "epsilon": _number(0, open_low=True),
    "n_iter_no_change": (lambda v: v == np.inf or _COUNT[0](v), f"{_COUNT[1]} or inf"),
    "max_fun": _COUNT,
    "n_ensemble": _COUNT,
    "bootstrap": _FLAG,
    "n_jobs": (lambda v: v is None or (_WHOLE(v) and v != 0), "a whole number but 0, or None"),
    "dtype": _one_of("auto", "float32", "float64"),
}


@functools.cache
def defaults(kind: Any) -> dict[str, Any]:
    """{parameter: default} of an estimator's class."""
    return {name: p.default for name, p in signature(kind.__init__).parameters.items() if name != "self"}


def store(values: dict[str, Any]) -> None:
    """Set what __init__ was given, as it came: ``values`` is its locals()."""
    vars(values["self"]).update({k: v for k, v in values.items() if k not in ("self", "__class__")})


def check(given: dict[str, Any]) -> None:
    """Raise ValueError for the first of {parameter: value} that is out of its range."""
    for name, (good, takes) in TAKES.items():
        if name in given and not good(given[name]):
            raise ValueError(f"{name}: got {given[name]!r}, takes {takes}")
