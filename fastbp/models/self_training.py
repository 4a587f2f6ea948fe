"""Self-training: a classifier teaches itself on rows without labels (Yarowsky 1995; Lee 2013)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..data import frames
from ..data.sources import plain
from ..engine.samples import features
from ..errors import number, whole

if TYPE_CHECKING:
    from ..engine.history import History
    from ..training.trainer import Trainer
    from ..types import Features, Ints, Targets

UNLABELLED = -1


def self_training(
    trainer: Trainer,
    X: Features,
    y: Targets,
    X_unlabelled: Features,
    *,
    threshold: float = 0.75,
    rounds: int = 10,
    epochs: int = 10,
    **options: Any,
) -> tuple[Ints, list[History]]:
    """Train; label the rows that the network is sure of with what it says; again, until none is new.

    trainer : with loss cross_entropy. X (N, inputs), y (N,) labels, as fit takes them; X_unlabelled
    (M, inputs). threshold : probability from which a row is sure, 0.5 to below 1. rounds : at most so
    many times; epochs : of each fit. options : as Trainer.fit takes them. threshold, rounds and what is
    done: scikit-learn's SelfTrainingClassifier with criterion "threshold"; the network is trained on, not
    anew, between rounds.

    Returns (labels (M,), from 0 on, -1 where it never was sure; a History for each fit). Ctrl-C ends it
    after that fit.
    Raises ValueError or TypeError for what does not fit.

    >>> labels, histories = fb.self_training(trainer, X, y, 0.9 * X, threshold=0.75, epochs=1000)
    >>> labels.tolist(), len(histories)
    ([0, 1, 2, 3], 2)
    """
    if trainer.loss.name != "cross_entropy":
        raise ValueError(f"trainer: got loss {trainer.loss.name!r}, takes one with 'cross_entropy'")
    number("threshold", threshold, lambda v: 0.5 <= v < 1, "a probability from 0.5 to below 1")
    rounds, preparation = whole("rounds", rounds), trainer.preparation
    if "sample_weight" in options:
        raise TypeError("sample_weight: got it, but rows that get labels have none")
    given, count = np.asarray(y).reshape(-1), len(features(trainer, X))
    labels = np.full(len(features(trainer, X_unlabelled)), UNLABELLED)
    both = _stacked(X, X_unlabelled)
    classes = np.arange(trainer.net.sizes[-1])
    if preparation is not None and preparation.classes is not None:  # y has these, not their places
        classes = np.array(preparation.classes)
    histories = [trainer.fit(X, given, epochs, **options)]
    for _ in range(rounds):
        waiting = np.flatnonzero(labels == UNLABELLED)
        if not len(waiting) or histories[-1].stopped == "Ctrl-C":
            break
        probability = trainer.predict(_rows(both, count + waiting))
        sure = probability.max(axis=1) >= threshold
        if not sure.any():
            break
        labels[waiting[sure]] = probability[sure].argmax(axis=1)
        known = np.flatnonzero(labels != UNLABELLED)
        rows = _rows(both, np.concatenate([np.arange(count), count + known]))
        histories.append(
            trainer.fit(rows, np.concatenate([given, classes[labels[known]]]), epochs, **options)
        )
    return labels, histories


def _stacked(X, more):
    """The rows of both, one below the other: a Frame where they have names, else an array."""
    first = frames.frame(X)
    if first is None:
        return np.concatenate([plain(X), plain(more)])
    second = frames.frame(more).select(first.names)
    pairs = zip(first.columns, second.columns, strict=True)
    return frames.Frame(first.names, [np.concatenate(pair) for pair in pairs])


def _rows(X, index):
    return X.rows(index) if isinstance(X, frames.Frame) else X[index]
