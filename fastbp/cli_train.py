"""`fastbp train`: read, hold out, scale, train, fold the scaling back, test, write, report."""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import datasets, files
from .errors import unknown
from .prepare import Standardizer, stratified_split

_LOSSES = ("cross_entropy", "bce_with_logits", "mse", "mae", "huber")
_OPTIMIZERS = ("adam", "adamw", "sgd")
_SPLIT_SEED = 0  # not --seed: runs with other seeds are then tested on the same samples
_FOLD_TOLERANCE = 1e-3  # of the largest output; usually float32 agrees to 1e-6


@dataclass(frozen=True)
class _Task:
    """What the target asks for: the loss and why, outputs, the target as the loss takes it."""

    loss: str
    why: str
    y: np.ndarray
    n_out: int
    classes: list | None = None

    @property
    def regression(self):
        return self.loss in ("mse", "mae", "huber")


def train(args):
    """Carry out the parsed command line `args`; returns the exit code, 0 or 130 (interrupted)."""
    _known("--optimizer", args.optimizer, _OPTIMIZERS)
    _known("--loss", args.loss or "mse", _LOSSES)
    name, table = _read(args.data, args.target)
    model_path, picture_path = _outputs(args.out, name)

    y = table.y if table.y_test is None else np.concatenate([table.y, table.y_test])
    task = _task(y, table.classes, args.loss)
    X_train, y_train, X_test, y_test = _parts(table, task, args.test_fraction)
    x_scaler = Standardizer(X_train, common=X_train.dtype == np.uint8)
    y_scaler = Standardizer(y_train) if task.regression else None
    X_fit, X_check = x_scaler.transform(X_train), x_scaler.transform(X_test)
    y_fit, y_check = y_train, y_test
    if y_scaler:
        y_fit, y_check = y_scaler.transform(y_train), y_scaler.transform(y_test)

    batch_size = args.batch_size or _batch_size(len(X_fit))
    trainer = _trainer(args, X_fit.shape[1], task, batch_size)
    sizes = "-".join(str(n) for n in trainer.net.sizes)
    print(f"{name}: {table.source}")
    print(
        f"{len(X_fit):,} samples to train on, {len(X_check):,} held out; "
        f"{X_fit.shape[1]} features, {_outcome(task)}"
    )
    print(f"loss {task.loss} ({task.why}), {args.optimizer}, batches of {batch_size}, {sizes}")
    sys.stdout.flush()

    start = time.perf_counter()
    history = trainer.fit(
        X_fit,
        y_fit,
        epochs=args.epochs,
        validation_data=(X_check, y_check),
        verbose=False if args.quiet else "auto",
    )
    seconds = time.perf_counter() - start - trainer.compile_seconds

    folded = _fold(trainer, x_scaler, y_scaler, X_test, X_check)
    trainer.save(model_path)
    rows = _test_rows(trainer, task, X_test, y_test) if folded else []
    rows += _time_rows(trainer, seconds, len(X_fit))
    rows += _model_rows(model_path, folded, x_scaler, y_scaler)
    rows += _picture_row(trainer.history.history, picture_path, f"{name}: {sizes}, {args.activation}")
    print()
    for label, value in rows:
        print(f"{label:<15} {value}")
    if history.stopped == "Ctrl-C":
        print(
            f"fastbp: interrupted in epoch {trainer.epochs} of {args.epochs}, after "
            f"{trainer.steps:,} steps; the model as trained so far is in {model_path}",
            file=sys.stderr,
        )
        return 130
    return 0


def _known(what, name, known):
    if name not in known:
        raise unknown(what, name, known)


# --- before training ---


def _read(data, target):
    """(a short name, Table) of a shipped data set or a file."""
    path = Path(data)
    if data in datasets.names():
        if target is not None:
            raise ValueError(f"--target: {data} has its own; takes a target for files only")
        X, y = datasets.load(data)
        return data, files.Table(X, y, source="shipped with fastbp")
    if not path.suffix and not path.exists():
        raise ValueError(f"{unknown('DATA', data, datasets.names())}, or a file's name")
    table = files.read(path, target)
    return path.name.removesuffix(".gz").removesuffix(path.suffix), table


def _outputs(out, name):
    """The paths of the model and the picture; makes their folder, and fails before training."""
    base = Path(out or f"fastbp-{name}")
    if out and (out.endswith(("/", os.sep)) or base.is_dir()):
        base = base / f"fastbp-{name}"
    if base.suffix in (".safetensors", ".png"):
        base = base.with_suffix("")
    base.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(base.parent, os.W_OK):
        raise ValueError(f"--out: cannot write in the folder {base.parent}")
    return base.with_name(base.name + ".safetensors"), base.with_name(base.name + ".png")


def _task(y, classes, loss):
    """The loss that fits the target, or the one asked for if it fits; else ValueError."""
    why = "as asked"
    if loss is None:
        loss, why = _fitting_loss(y, classes)
    if loss in ("mse", "mae", "huber"):
        if classes is not None:
            raise ValueError(f"--loss: {loss} takes numbers, the target is text; use cross_entropy")
        y = y.reshape(len(y), -1).astype(np.float64)
        return _Task(loss, why, y, y.shape[1])
    if loss == "bce_with_logits":
        return _binary_task(y, classes, why)
    if y.ndim == 2:
        if not _one_hot(y):
            raise ValueError(
                f"--loss: cross_entropy takes one label per sample or one-hot rows; the target has "
                f"shape {y.shape} and rows that are neither"
            )
        return _Task(loss, why, y.argmax(axis=1), y.shape[1])
    if y.dtype.kind == "f" and (y != np.round(y)).any():
        raise ValueError(
            f"--loss: cross_entropy takes labels, the target holds fractions such as "
            f"{y[y != np.round(y)][0]:g}; use mse, mae or huber"
        )
    if classes is None:
        values, y = np.unique(y, return_inverse=True)
        classes = [f"{value:g}" for value in values.tolist()]
    if len(classes) < 2:
        raise ValueError(f"target: one class only, {classes[0]!r}; takes at least 2 to tell apart")
    return _Task(loss, why, y.astype(np.int64), len(classes), classes)


def _fitting_loss(y, classes):
    """(loss, why) for a target when none was asked for."""
    if classes is not None:
        return "cross_entropy", "the target is text"
    if y.ndim == 2:
        if _one_hot(y):
            return "cross_entropy", "the target is one-hot"
        if np.isin(y, (0, 1)).all():
            return "bce_with_logits", "the target is several yes-or-no columns"
        return "mse", "the target is several columns of numbers"
    if y.dtype.kind == "f":
        return "mse", "the target is floating point; for labels: --loss cross_entropy"
    # Prices and counts are integers too: labels come few, or at least often.
    distinct = len(np.unique(y))
    if distinct <= 20 or distinct <= min(1000, len(y) // 10):
        return "cross_entropy", "the target is integers; for numbers: --loss mse"
    return "mse", f"{distinct} different integers; for labels: --loss cross_entropy"


def _one_hot(y):
    return y.shape[1] > 1 and np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all()


def _binary_task(y, classes, why):
    """Two values become 0 and 1 in their sorted order; several columns must be 0 and 1 already."""
    takes = "bce_with_logits takes two different values, or columns of 0 and 1"
    if y.ndim == 2:
        if not np.isin(y, (0, 1)).all():
            raise ValueError(f"--loss: {takes}; the target's columns hold others")
        return _Task("bce_with_logits", why, y.astype(np.float32), y.shape[1])
    values, index = np.unique(y, return_inverse=True)
    if len(values) != 2:
        raise ValueError(f"--loss: {takes}; the target holds {len(values)}")
    classes = classes or [f"{value:g}" for value in values.tolist()]
    return _Task("bce_with_logits", why, index.astype(np.float32)[:, None], 1, classes)


def _outcome(task):
    if task.classes is None:
        return f"{task.n_out} {'target' if task.regression else 'output'}{'s'[: task.n_out > 1]}"
    shown = ", ".join(f"{i}={name}" for i, name in enumerate(task.classes[:10]))
    plain = task.classes == [str(i) for i in range(len(task.classes))]
    more = ", ..." if len(task.classes) > 10 else ""
    return f"{len(task.classes)} classes" + ("" if plain else f" ({shown}{more})")


def _parts(table, task, fraction):
    """(X_train, y_train, X_test, y_test): the file's own parts, or a part held out."""
    y = task.y
    if table.X_test is not None:
        n = len(table.y)
        return table.X, y[:n], table.X_test, y[n:]
    by = y[:, 0].astype(np.int64) if task.loss == "bce_with_logits" and y.shape[1] == 1 else y
    kept, held = stratified_split(by, fraction, _SPLIT_SEED)
    return table.X[kept], y[kept], table.X[held], y[held]


def _batch_size(n):
    """About fifty steps an epoch, between 32 (many steps for few samples) and 256."""
    return min(256, max(32, 1 << (n // 50).bit_length()))


def _trainer(args, n_in, task, batch_size):
    import fastbp as fb

    lr = args.lr or (0.01 if args.optimizer == "sgd" else 1e-3)
    if args.optimizer == "sgd":
        optimizer = fb.SGD(lr, momentum=0.9)
    else:
        optimizer = {"adam": fb.Adam, "adamw": fb.AdamW}[args.optimizer](lr)
    net = fb.MLP([n_in, *args.hidden, task.n_out], activation=args.activation, seed=args.seed)
    return fb.Trainer(
        net,
        loss=task.loss,
        optimizer=optimizer,
        batch_size=batch_size,
        device=args.device,
        threads=args.threads,
        seed=args.seed,
    )


# --- after training ---


def _fold(trainer, x_scaler, y_scaler, X_raw, X_scaled):
    """Fold the scaling into the first and last layer; True if the outputs then agree.

    They do not where float32 cannot carry raw features (a timestamp in nanoseconds, say): then
    the weights are put back, and the scaling must be kept beside the model.
    """
    net = trainer.net
    before = [a.copy() for a in (*net.weights, *net.biases)]
    expected = trainer.forward(X_scaled)
    x_scaler.fold_into_input(net.weights[0], net.biases[0])
    if y_scaler:
        y_scaler.fold_into_output(net.weights[-1], net.biases[-1])
    got = trainer.forward(X_raw)
    if y_scaler:
        got = (got - y_scaler.mean) / y_scaler.scale
    if np.abs(got - expected).max() <= _FOLD_TOLERANCE * max(1, np.abs(expected).max()):
        return True
    for a, old in zip((*net.weights, *net.biases), before, strict=True):
        a[...] = old
    return False


def _test_rows(trainer, task, X, y):
    """How the model as saved does on the raw samples held out."""
    if task.regression:
        error = trainer.predict(X).astype(np.float64) - y
        spread = np.square(y - y.mean(axis=0)).sum(axis=0)
        rmse = f"{np.sqrt(np.square(error).mean()):.5g}"
        if not spread.all():
            return [("test RMSE", rmse), ("test R2", "undefined: a constant target")]
        r2 = (1 - np.square(error).sum(axis=0) / spread).mean()
        return [("test RMSE", rmse), ("test R2", f"{r2:.4f}")]
    scores = trainer.evaluate(X, y)
    of = f"  ({round(scores['accuracy'] * len(y)):,} of {len(y):,})" if task.classes else ""
    return [
        ("test accuracy", f"{scores['accuracy']:.4f}{of}"),
        ("test loss", f"{scores['loss']:.4g}"),
    ]


def _time_rows(trainer, seconds, n):
    """Compiling and training apart; training counts the evaluations after each epoch too."""
    threads = trainer.num_threads
    epochs, more = divmod(trainer.steps, -(-n // trainer.batch_size))
    rate = (epochs * n + more * trainer.batch_size) / max(seconds, 1e-9)
    return [
        ("compiling", f"{trainer.compile_seconds:.2f} s  (or loading from the cache)"),
        (
            "training",
            f"{seconds:.2f} s  ({rate:,.0f} samples/s, {threads} thread{'s'[: threads > 1]})",
        ),
    ]


def _model_rows(path, folded, x_scaler, y_scaler):
    if folded:
        last = " and last" if y_scaler else ""
        note = f"scaling folded into the first{last} layer: takes raw features"
        return [("model", f"{path}  ({note})")]
    scaling = {"x_mean": x_scaler.mean, "x_scale": x_scaler.scale}
    if y_scaler:
        scaling.update(y_mean=y_scaler.mean, y_scale=y_scaler.scale)
    beside = path.with_suffix(".scaling.npz")
    np.savez(beside, **scaling)
    return [
        ("model", f"{path}  (takes scaled features: float32 cannot carry the raw ones)"),
        ("scaling", f"{beside}  (x_mean, x_scale: give the model (x - x_mean) / x_scale)"),
    ]


def _picture_row(history, path, title):
    if not history.get("loss"):
        return []
    from .plots import learning_curves

    try:
        return [("picture", str(learning_curves(history, path, title)))]
    except ImportError as error:
        return [("picture", f"none: {error}")]
