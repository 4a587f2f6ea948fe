"""Training from batches that somebody makes: read ahead by a thread while the last one trains."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ..data import read_ahead
from ..engine import backend
from ..engine.history import History
from ..errors import whole
from .fitting import check_weights, interrupted, parts_of

if TYPE_CHECKING:
    from ..engine.anytrainer import AnyTrainer
    from ..types import Verbose


def is_stream(X: object) -> bool:
    """Whether X makes batches: an iterator, or a function or iterable that gives one anew each epoch."""
    if callable(X) and not hasattr(X, "__array__"):
        return True
    arrays = ("__array__", "__dlpack__", "tocsr", "column_names", "__len__")
    return isinstance(X, Iterator) or (
        isinstance(X, Iterable) and not any(hasattr(X, name) for name in arrays)
    )


def fit(
    trainer: AnyTrainer,
    batches: Any,
    epochs: int | None,
    validation_data: Any,
    verbose: Verbose,
    others: dict[str, Any],
    ahead: int = 2,
) -> History:
    """``Trainer.fit`` for a stream: each item, (X, y[, sample_weight[, offset]]), is trained on as it comes.

    Steps are of ``batch_size`` rows; the last of an item may be smaller. Returns History, a line for
    each epoch. others : fit's other arguments, None where not given. Raises ValueError for one that
    is, and for an iterator that ends before ``epochs`` epochs.
    """
    history = History()
    try:
        _epochs(trainer, batches, epochs, validation_data, verbose, others, ahead, history)
    except KeyboardInterrupt:  # while a batch was made; fit sees those that come while it trains
        interrupted(history, trainer.steps, lambda text: print(text, file=sys.stderr))
    trainer.history = history
    return history


def _epochs(trainer, batches, epochs, validation_data, verbose, others, ahead, history):
    for name, value in others.items():
        if value is not None:
            raise ValueError(f"{name}: got {value!r} with a stream of batches, takes None there")
    if trainer.accumulate != 1:  # each item would begin to count anew
        raise ValueError(
            f"accumulate: got {trainer.accumulate} with a stream of batches, takes 1 there: items and "
            "batch_size as many times larger do the same"
        )
    epochs = 1 if epochs is None else whole("epochs", epochs, 0)
    if isinstance(batches, Iterator) and epochs > 1:
        raise ValueError(
            f"epochs: got {epochs} for an iterator, which ends once; takes 1, or a function that returns one"
        )
    backend.ready(trainer.device, trainer.net.dtype, tell=bool(verbose))
    first = trainer.epochs
    for epoch in range(epochs):
        began, rows, counted = time.perf_counter(), 0, 0.0
        sums = {"loss": 0.0}
        made: Any = batches() if callable(batches) else batches
        for item in read_ahead(_fed(trainer, made), ahead):
            X, y, weight, offset = parts_of("X", item, "a stream of ", TypeError)
            done = trainer.fit(X, y, shuffle=False, sample_weight=weight, offset=offset, verbose=False)
            if done.stopped:
                history.stopped = done.stopped
                break
            record = done.history
            count = len(y) * done.counted
            rows, counted = rows + len(y), counted + count
            for name in ("loss", "accuracy"):
                if name in record:
                    sums[name] = sums.get(name, 0.0) + count * record[name][0]
            trainer.epochs = first + epoch + 1  # however many items it has
        if history.stopped:
            break
        if not rows:
            raise ValueError("X: got a stream without batches, takes one or more")
        check_weights(trainer)
        record = {name: value / counted if counted else 0.0 for name, value in sums.items()}
        if validation_data is not None:
            X, y, weight, offset = parts_of("validation_data", validation_data)
            found = trainer.evaluate(X, y, weight, offset=offset)
            record |= {f"val_{k}": v for k, v in found.items()}
        history.append(**record, seconds=time.perf_counter() - began)
        if verbose is True or verbose == 1:
            print(f"epoch {epoch + 1}/{epochs}: {rows:,} samples, loss {record['loss']:.4f}")


def _fed(trainer, made):
    """The items, made by a thread that must not wait for the training that waits for it."""
    trainer.turns.maker = threading.get_ident()
    yield from made
