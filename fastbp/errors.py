"""What errors have in common: the argument, what came, what it takes; names that stand for others."""

from __future__ import annotations

import difflib
import numbers
import operator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class EndOfFit(Exception):
    """A callback raises it to end its fit: of fit_many's networks no other one ends."""


# One table for all arguments that take a name. A word of Keras, scikit-learn or torch that means what one of
# ours means is taken in its place. Words are looked up without case, spaces, hyphens and underscores.
SAME = {
    "mse": "mean_squared_error MSELoss",
    "mae": "mean_absolute_error L1Loss",
    "rmse": "root_mean_squared_error",
    "huber": "HuberLoss",
    "cross_entropy": "categorical_crossentropy sparse_categorical_crossentropy CrossEntropyLoss",
    "bce_with_logits": "binary_crossentropy BCEWithLogitsLoss",
    "poisson_nll": "poisson PoissonNLLLoss",
    "gaussian_nll": "GaussianNLLLoss",
    "accuracy": "acc accuracy_score binary_accuracy categorical_accuracy sparse_categorical_accuracy",
    "auc": "roc_auc roc_auc_score",
    "f1": "f1_score",
    "precision": "precision_score",
    "recall": "recall_score",
    "r2": "r2_score",
    "identity": "linear",
    "sigmoid": "logistic",
    "silu": "swish",
    "hardswish": "hard_swish hard_silu",
    "layer": "layer_norm layer_normalization",
    "batch": "batch_norm batch_normalization BatchNorm1d",
    "xavier_uniform": "glorot_uniform",
    "xavier_normal": "glorot_normal",
    "he_uniform": "kaiming_uniform",
    "he_normal": "kaiming_normal",
    "cosine": "CosineAnnealingLR",
    "polynomial": "PolynomialLR",
    "onecycle": "OneCycleLR",
    "inversescaling": "invscaling",
    "plateau": "ReduceLROnPlateau",
    "cuda": "gpu",
}
# Words that are near one of ours and not the same: the error says which, and nobody guesses.
NEAR = {
    "squared_error": ("mse",),
    "absolute_error": ("mae",),
    "l1": ("mae",),
    "l2": ("mse",),
    "log_loss": ("cross_entropy",),
    "nll": ("cross_entropy",),
    "NLLLoss": ("cross_entropy",),
    "softmax": ("cross_entropy",),
    "bce": ("bce_with_logits",),
    "BCELoss": ("bce_with_logits",),
    "SmoothL1Loss": ("huber",),
    "pinball": ("quantile",),
    "cosine_similarity": ("cosine",),
    "categorical_hinge": ("hinge",),
    "gamma": ("gamma_nll",),
    "top_k_accuracy": ("top_k",),
    "top_k_categorical_accuracy": ("top_k",),
    "hard_tanh": ("hardtanh",),
    "gelu_new": ("gelu_tanh",),
    "none": ("identity",),
    "momentum": ("sgd",),
    "amsgrad": ("adam",),
    "random_uniform": ("uniform",),
    "random_normal": ("normal",),
    "linear": ("polynomial",),
}
# The same for hyperparameters of optimizers, where an argument has one spelling.
WORDS = {
    "learning_rate": "lr",
    "learning_rate_init": "lr",
    "beta_1": "betas, a pair",
    "beta_2": "betas, a pair",
    "epsilon": "eps",
    "decay": "weight_decay, or a schedule",
    "l2": "weight_decay",
    "nesterovs_momentum": "nesterov",
    "clipnorm": "clip_norm of Trainer",
    "clipvalue": "clip_value of Trainer",
    "use_ema": "ema of Trainer",
}


def _plain(word: str) -> str:
    return "".join(c for c in word.casefold() if c not in " -_")


_SAME = {_plain(word): name for name, words in SAME.items() for word in words.split()}
_NEAR = {_plain(word): names for word, names in NEAR.items()}


def stands_for(word: str) -> str:
    """What a word stands for by SAME; where it is none of these, the word."""
    return _SAME.get(_plain(word), word)


def named(what: str, got: Any, known: Iterable[Any]) -> str:
    """The name among the known ones that ``got`` is, in any case, or stands for; unknown's error otherwise.

    >>> from fastbp.errors import named
    >>> named("activation", "swish", ["relu", "silu"]), named("activation", "ReLU", ["relu", "silu"])
    ('silu', 'relu')
    """
    known = list(known)
    if isinstance(got, str):
        if got in known:
            return got
        meant = got.casefold(), stands_for(got)
        for name in known:
            if name.casefold() in meant:
                return name
    raise unknown(what, got, known)


def unknown(what: str, got: object, known: Iterable[Any]) -> ValueError:
    """A ValueError for a name that is not among the known ones, suggesting the nearest.

    what: the argument's name; got: what came, of any type; known: the names it takes.

    >>> from fastbp.errors import unknown
    >>> raise unknown("activation", "rleu", ["relu", "tanh"])
    Traceback (most recent call last):
    ValueError: activation: got 'rleu'; did you mean 'relu'? Known: relu, tanh
    """
    known = [str(name) for name in known]
    folded = {name.casefold(): name for name in reversed(known)}
    near = difflib.get_close_matches(str(got).casefold(), folded)
    near.sort(key=lambda name: sorted(name) != sorted(str(got).casefold()))  # swapped letters come first
    meant = [stands_for(str(got)), *_NEAR.get(_plain(str(got)), ())]
    meant = [name for name in meant if name in known]
    meant += [folded[name] for name in near]
    hint = f"; did you mean {meant[0]!r}?" if meant else "."
    return ValueError(f"{what}: got {got!r}{hint} Known: {', '.join(known) or '(none)'}")


def whole(name: str, value: Any, least: int = 1, most: int = 2**63 - 1) -> int:
    """``value`` as an int from ``least`` to ``most``; raises TypeError or ValueError naming ``name``."""
    takes = f"takes a whole number from {least}" + (" on" if most >= 2**62 else f" to {most}")
    try:
        number = operator.index(value)
        if isinstance(value, bool):
            raise TypeError
    except TypeError:
        raise TypeError(f"{name}: got {value!r}, {takes}") from None
    if not least <= number <= most:
        raise ValueError(f"{name}: got {number}, {takes}")
    return number


def number(what: str, got: Any, good: Callable[[Any], Any], takes: str) -> float:
    """``got`` as a float where it is a number that good(number) likes; a ValueError otherwise.

    >>> from fastbp.errors import number
    >>> number("lr", -1, lambda v: v > 0, "a number above 0")
    Traceback (most recent call last):
    ValueError: lr: got -1, takes a number above 0
    """
    if not isinstance(got, numbers.Real) or isinstance(got, bool) or not good(got):
        raise ValueError(f"{what}: got {got!r}, takes {takes}")
    return float(got)


def flag(name: str, value: Any) -> bool:
    """``value`` as a bool; a TypeError for anything else: the text "False" would count as true.

    >>> from fastbp.errors import flag
    >>> flag("shuffle", "False")
    Traceback (most recent call last):
    TypeError: shuffle: got 'False', takes True or False
    """
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise TypeError(f"{name}: got {value!r}, takes True or False")


def distinct(what: str, names: Iterable[str], takes: str) -> None:
    """Raises ValueError for the first of the names that is there twice.

    >>> from fastbp.errors import distinct
    >>> distinct("metrics", ["f1", "auc", "f1"], "each once")
    Traceback (most recent call last):
    ValueError: metrics: got two named 'f1', takes each once
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{what}: got two named {name!r}, takes {takes}")
        seen.add(name)


def check_field(owner: Any, name: str, good: Callable[[Any], Any], takes: str) -> None:
    """Make a dataclass's field the float that it is; a ValueError naming class and field otherwise."""
    setattr(owner, name, number(f"{type(owner).__name__} {name}", getattr(owner, name), good, takes))


# What ``number`` and ``check_field`` take last: the test, and its words.
ABOVE_0 = (lambda v: 0 < v < float("inf"), "a number above 0")
FROM_0 = (lambda v: 0 <= v < float("inf"), "a number from 0 on")
BETWEEN_0_AND_1 = (lambda v: 0 < v < 1, "a number between 0 and 1")
BELOW_1 = (lambda v: 0 <= v < 1, "a number from 0 to below 1")
