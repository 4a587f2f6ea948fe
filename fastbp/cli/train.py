"""`fastbp train`: read, hold out, prepare, train, test, write, report."""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import datasets, files, losses
from ..data.frames import Frame
from ..engine import backend
from ..errors import unknown
from ..optimizers import OPTIMIZERS
from ..preparation import Preparation
from ..prepare import stratified_split
from ..printing import print_rows
from ..schedules import SCHEDULES
from .task import LOSSES, NUMBER_LOSSES, outcome, task_of

if TYPE_CHECKING:
    from argparse import Namespace

    from ..training.trainer import Trainer
    from ..types import Array

_OPTIMIZERS = [name for name in OPTIMIZERS if name != "lbfgs"]  # whose steps are epochs
_NEEDS = {"step": "step_size", "multistep": "milestones"}  # schedules that no name alone gives
_SCHEDULES = [name for name in SCHEDULES if name not in _NEEDS]
_EPOCHS, _WATCHED = 20, 0.1  # defaults: of --epochs, and of --validation-fraction beside --patience
_SPLIT_SEED = 0  # not --seed: runs with other seeds are then tested on the same samples


def train(args: Namespace) -> int:
    """Carry out the parsed command line `args`; returns the exit code, 0 or 130 (interrupted)."""
    _known("--optimizer", args.optimizer, _OPTIMIZERS)
    _known("--loss", args.loss or "mse", LOSSES)
    _known("--schedule", args.schedule or "cosine", _SCHEDULES)
    name, table = _read(args.data, args.target, args.drop)
    model_path, picture_path = _outputs(args.out, name)
    if args.report:
        _check_report(args.report)

    y = table.y if table.y_test is None else np.concatenate([table.y, table.y_test])
    task = task_of(y, table.classes, args.loss)
    X_train, y_train, X_test, y_test, split = _parts(table, task, args.test_fraction)
    watched, fraction = (X_test, y_test), args.validation_fraction or (args.patience and _WATCHED)
    if fraction:
        X_train, y_train, *watched = _cut(X_train, y_train, fraction)
        split += f"; {len(watched[1]):,} more for validation"
    rows, held = X_train.shape[0], X_test.shape[0]
    preparation = _preparation(X_train, y_train, task, table, args.keep)
    batch_size = args.batch_size or _batch_size(rows)
    trainer = _trainer(args, preparation.inputs, task, y_train, batch_size)
    trainer.preparation = preparation
    sizes = "-".join(str(n) for n in trainer.net.sizes)
    chosen = {
        "task": task.kind,
        "data": table.source,
        "samples": f"{rows:,} to train on, {held:,} to test on: {split}",
        "features": preparation.summary(),
        **(
            {"left out": f"{preparation.reasons()}; --keep takes one all the same"}
            if preparation.left_out
            else {}
        ),
        "target": outcome(task),
        "loss": task.loss,
        "network": f"{sizes}, {_words(trainer.net)}, {args.optimizer}, batches of {batch_size}",
    }
    if not args.json:
        print_rows(chosen.items())
        sys.stdout.flush()
        if not backend.compiled():
            print("fastbp: compiling for this machine, once: some 20 s ...", file=sys.stderr)

    epochs = args.epochs or (None if args.seconds else _EPOCHS)
    start = time.perf_counter()
    history = trainer.fit(
        X_train,
        task.raw(y_train),
        epochs=epochs,
        seconds=args.seconds,
        early_stopping=args.patience,
        validation_data=(watched[0], task.raw(watched[1])),
        verbose=False if args.quiet or args.json else "auto",
    )
    interrupted = history.stopped == "Ctrl-C"
    seconds = time.perf_counter() - start - trainer.compile_seconds

    trainer.save(model_path)
    scores = score(trainer, X_test, task.raw(y_test))
    if args.report:
        from .report import write

        parts = (X_train, task.raw(y_train)), (X_test, task.raw(y_test))
        write(
            args.report,
            trainer,
            f"fastbp train {name}",
            chosen,
            dict(score_rows(scores, "test ")),
            *parts,
            seconds,
        )
    picture = _picture(history.history, picture_path, f"{name}: {sizes}, {args.activation}")
    if args.json:
        result = {
            "command": "train",
            **chosen,
            "test": scores,
            "epochs": trainer.epochs,
            "steps": trainer.steps,
        }
        result |= {
            "seconds": seconds,
            "compile_seconds": trainer.compile_seconds,
            "threads": trainer.num_threads,
        }
        result |= {
            "model": str(model_path),
            "picture": picture[0],
            "report": args.report,
            "history": history.history,
        }
        print(json.dumps({**result, "interrupted": interrupted}))
    else:
        print()
        print_rows(
            [
                *score_rows(scores, "test "),
                *_time_rows(trainer, seconds, rows),
                ("model", f"{model_path}  (takes raw features: what prepares them is in the file)"),
                ("picture", picture[0] or f"none: {picture[1]}"),
                *([("report", args.report)] if args.report else []),
            ]
        )
    if interrupted:
        print(
            f"fastbp: interrupted in epoch {trainer.epochs}{f' of {epochs}' if epochs else ''}, after "
            f"{trainer.steps:,} steps; the model as trained so far is in {model_path}",
            file=sys.stderr,
        )
        return 130
    return 0


def _known(what, name, known):
    if name not in known:
        raise unknown(what, name, known)


# --- before training ---


def _read(data, target, drop):
    """(a short name, Table) of a shipped data set or a file."""
    path = Path(data)
    if data in datasets.names():
        if target is not None:
            raise ValueError(f"--target: {data} has its own; takes a target for files only")
        if drop:
            raise ValueError(f"--drop: {data} has no named columns; takes them for files only")
        X, y = datasets.load(data)
        return data, files.Table(X, y, source=f"{data}: shipped with fastbp")
    if not path.suffix and not path.exists():
        raise ValueError(f"{unknown('DATA', data, datasets.names())}, or a file's name")
    table = files.read(path, target, drop)
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


def _check_report(report):
    """Fails before training where the report could not be drawn or written."""
    from ..drawing.plots import new_figure

    new_figure(1, 1)
    folder = Path(report).parent
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK) or Path(report).is_dir():
        raise ValueError(f"--report: cannot write {report}")


def _parts(table, task, fraction):
    """(X_train, y_train, X_test, y_test, how it was cut): the file's own parts, or a part held out."""
    y = task.y
    if table.X_test is not None:
        n = len(table.y)
        return table.X, y[:n], table.X_test, y[n:], "the file's own test part"
    labels = y.ndim == 1 and y.dtype.kind == "i"
    parts = _cut(table.X, y, fraction)
    return *parts, f"{fraction:.0%} held out{', class by class' if labels else ', at random'}"


def _cut(X, y, fraction):
    """(X, y) without a share of the samples, then these: class by class where y holds labels."""
    kept, held = stratified_split(y, fraction, _SPLIT_SEED)
    return rows_of(X, kept), y[kept], rows_of(X, held), y[held]


def _preparation(X, y, task, table, keep):
    """What prepares the columns; which are left out stands in the table of what was chosen."""
    names = table.feature_names
    if names is None:  # --keep has their places
        keep = [int(name) if name.isdigit() else name for name in keep]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return Preparation.fit(
            X,
            y if task.regression else None,
            names=names,
            classes=task.classes,
            target=table.target_name,
            target_written=task.written,
            keep=keep,
        )


def rows_of(X: Any, index: Array) -> Any:
    """Rows of an array, a Frame or a sparse matrix."""
    return X.rows(index) if isinstance(X, Frame) else X[index]


def _batch_size(n):
    """About fifty steps an epoch, between 32 (many steps for few samples) and 256."""
    return min(256, max(32, 1 << (n // 50).bit_length()))


def _words(net):
    """The activation, and what else the hidden layers have."""
    rest = (f"{name} {value}" for name, value in net.extras().items())
    return ", ".join([*dict.fromkeys(net.activations), *rest]) or "linear"


def _loss(task, y, balanced):
    """The loss; balanced: n / (classes * samples of the class), the class weight of scikit-learn's name."""
    if not balanced:
        return task.loss
    if task.loss != "cross_entropy" or y.ndim > 1:
        raise ValueError(f"--class-weight: got balanced with {task.loss}; takes cross_entropy and labels")
    count = np.bincount(y, minlength=task.n_out)
    return losses.CrossEntropy(class_weight=len(y) / (task.n_out * np.maximum(count, 1)))


def _trainer(args, n_in, task, y, batch_size):
    import fastbp as fb

    given = {"lr": args.lr, "weight_decay": args.weight_decay}
    given = {name: value for name, value in given.items() if value is not None}
    if args.optimizer == "sgd":
        given["momentum"] = 0.9
    net = fb.MLP([n_in, *args.hidden, task.n_out], args.activation, dropout=args.dropout, norm=args.norm,
                 residual=args.residual, seed=args.seed)  # fmt: skip
    return fb.Trainer(
        net,
        loss=_loss(task, y, args.class_weight),
        optimizer=OPTIMIZERS[args.optimizer](**given),
        batch_size=batch_size,
        schedule=args.schedule,
        clip_norm=args.clip_norm,
        device=args.device,
        threads=args.threads,
        seed=args.seed,
    )


# --- after training ---


def score(trainer: Trainer, X: Any, y: Any) -> dict[str, Any]:
    """How a model does on raw samples: accuracy and loss, or RMSE, MAE and R2 in the target's units."""
    scores = {"samples": len(y)}
    if trainer.loss.name not in NUMBER_LOSSES:
        result = trainer.evaluate(X, y)
        return scores | {name: float(result[name]) for name in ("accuracy", "loss") if name in result}
    y = trainer.preparation.own_unit(y) if trainer.preparation else np.asarray(y, np.float64)
    y = y.reshape(len(y), -1)
    error = trainer.predict(X).astype(np.float64) - y
    spread = np.square(y - y.mean(axis=0)).sum(axis=0)
    r2 = float((1 - np.square(error).sum(axis=0) / spread).mean()) if spread.all() else None
    return scores | {
        "rmse": float(np.sqrt(np.square(error).mean())), "mae": float(np.abs(error).mean()), "r2": r2
    }  # fmt: skip


def score_rows(scores: dict[str, Any], part: str = "") -> list[tuple[str, str]]:
    """``score``'s numbers as lines of a table."""
    if "rmse" in scores:
        r2 = "undefined: a constant target" if scores["r2"] is None else f"{scores['r2']:.4f}"
        return [
            (f"{part}RMSE", f"{scores['rmse']:.5g}"),
            (f"{part}MAE", f"{scores['mae']:.5g}"),
            (f"{part}R2", r2),
        ]
    n = scores["samples"]
    if "accuracy" not in scores:
        return [(f"{part}loss", f"{scores['loss']:.4g}")]
    right = f"{scores['accuracy']:.4f}  ({round(scores['accuracy'] * n):,} of {n:,})"
    return [(f"{part}accuracy", right), (f"{part}loss", f"{scores['loss']:.4g}")]


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


def _picture(history, path, title):
    """(where the picture is, or None; why there is none)."""
    if not history.get("loss"):
        return (None, "no epoch was finished")
    from ..drawing.plots import learning_curves

    try:
        return (str(learning_curves(history, path, title)), None)
    except ImportError as error:
        return (None, str(error))
