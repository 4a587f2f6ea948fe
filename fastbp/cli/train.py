"""`fastbp train`: read, hold out, prepare, train, test, write, report."""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import datasets, files, losses
from ..data.frames import Frame
from ..engine.options import Options
from ..errors import unknown
from ..optimizers import OPTIMIZERS
from ..preparation import Preparation
from ..prepare import stratified_split
from ..printing import print_rows
from ..schedules import SCHEDULES, schedule
from ..training.many import fit_many
from .models import model_of, threads_of
from .reading import dialect, remembered
from .running import Checkpoint, Patience, Saver, digest
from .scoring import score, score_rows
from .task import LOSSES, Task, outcome, task_of

if TYPE_CHECKING:
    from argparse import Namespace

    from ..engine.history import History
    from ..training.trainer import Trainer
    from ..types import Array

_OPTIMIZERS = [name for name in OPTIMIZERS if name != "lbfgs"]  # whose steps are epochs
_NEEDS = {"step": "step_size", "multistep": "milestones"}  # schedules that no name alone gives
_SCHEDULES = [name for name in SCHEDULES if name not in _NEEDS]
_WATCHED = 0.1  # the share of the samples that is held out for the validation loss
_FEW = 400  # samples to train on; a tenth of fewer is too few to stop by
# Defaults, in epochs, but at least so many steps: of a small table an epoch is a step or two.
_EPOCHS, _STEPS = 100, 3000
_PATIENCE, _PATIENT_STEPS = 10, 200
_TO_THE_END = 20  # epochs where nothing is held out to stop by
_SPLIT_SEED = 0  # not --seed: runs with other seeds are then tested on the same samples
# What a run that goes on has in common with the one that began it; the data has a digest.
_SAME = ("hidden", "activation", "dropout", "norm", "residual", "loss", "optimizer", "lr", "batch_size",
         "schedule", "weight_decay", "clip_norm", "class_weight", "seed", "keep")  # fmt: skip


@dataclass
class Run:
    """What is trained on what: parts (X, y) of the raw samples, y as the task has it; None: no such part."""

    task: Task
    train: tuple[Any, Any]
    watched: tuple[Any, Any] | None
    test: tuple[Any, Any] | None
    batch: int
    patience: int  # 0: to the end
    epochs: int | None  # as many as the seconds allow

    def raw(self, part: tuple[Any, Any] | None) -> tuple[Any, Any] | None:
        """A part as the trained model takes it."""
        return None if part is None else (part[0], self.task.raw(part[1]))


def train(args: Namespace) -> int:
    """Carry out the parsed command line `args`; returns the exit code, 0 or that of a signal."""
    _known("--optimizer", args.optimizer, _OPTIMIZERS)
    _known("--loss", args.loss or "mse", LOSSES)
    _known("--schedule", args.schedule or "cosine", _SCHEDULES)
    if args.seconds and (args.checkpoint_every or args.resume):
        raise ValueError("--seconds: got it with --checkpoint-every or --resume; takes --epochs beside them")
    if args.ensemble > 1 and (args.checkpoint_every or args.resume):
        raise ValueError(
            f"--ensemble: got {args.ensemble} with --checkpoint-every or --resume; takes 1 there"
        )
    name, table = _read(args)
    model_path, picture_path, checkpoint_path = _outputs(args, name)
    if args.report:
        _check_report(args.report)
    run, split = _run(args, table)
    preparation = _preparation(args, run, table)
    trainers = [_trainer(args, preparation.inputs, run, i) for i in range(args.ensemble)]
    for trainer in trainers:
        trainer.preparation = preparation
    model, trainer = model_of(trainers), trainers[0]
    sizes = "-".join(str(n) for n in trainer.net.sizes)
    rows, held = len(run.train[1]), 0 if run.test is None else len(run.test[1])
    tested = f", {held:,} to test on: {split}" if run.test is not None else f": {split}"
    several = f"{args.ensemble} of " if args.ensemble > 1 else ""
    chosen = {
        "task": run.task.kind,
        "data": table.source,
        "samples": f"{rows:,} to train on{tested}",
        "features": preparation.summary(),
        **(
            {"left out": f"{preparation.reasons()}; --keep takes one all the same"}
            if preparation.left_out
            else {}
        ),
        "target": outcome(run.task),
        "loss": run.task.loss,
        "network": f"{several}{sizes}, {_words(trainer.net)}, {args.optimizer}, batches of {run.batch}",
        "stopping": _stopping(args, run),
    }
    if not args.json:
        print_rows(chosen.items())
        sys.stdout.flush()

    start, before = time.perf_counter(), trainer.compile_seconds
    if args.ensemble > 1:
        histories, earlier = _fit_all(args, run, trainers), 0
    else:
        model, history, earlier = _fit(args, run, trainer, checkpoint_path)
        trainer, trainers, histories = model, [model], [history]
    interrupted = any(history.stopped == "Ctrl-C" for history in histories)
    seconds = time.perf_counter() - start - (trainer.compile_seconds - before)
    with args.signals.held():
        model.save(model_path)
        if not interrupted:
            checkpoint_path.unlink(missing_ok=True)
            args.signals.said = f"interrupted; the training was over, the model is in {model_path}"

    scores = None if run.test is None else score(model, *run.raw(run.test))  # type: ignore[misc]
    scored = [] if scores is None else score_rows(scores, "test ")
    if args.report:
        from .report import write

        parts = run.raw(run.train), run.raw(run.test)
        write(args.report, model, Path(args.data).name, chosen, dict(scored), *parts, seconds)
    mean = ", mean of the networks" if args.ensemble > 1 else ""
    title = f"{name}: {sizes}, {args.activation}{mean}"
    picture = _picture(_mean_of([history.history for history in histories]), picture_path, title)
    epochs, steps = max(t.epochs for t in trainers), sum(t.steps for t in trainers)
    if args.json:
        result = {
            "command": "train",
            **chosen,
            "test": scores,
            "epochs": epochs,
            "steps": steps,
            "seconds": seconds,
            "compile_seconds": trainer.compile_seconds,
            "threads": threads_of(trainers),
            "model": str(model_path),
            "picture": picture[0],
            "report": args.report,
            "history": [h.history for h in histories] if args.ensemble > 1 else histories[0].history,
        }
        print(json.dumps({**result, "interrupted": interrupted}))
    else:
        print()
        print_rows(
            [
                *(scored or [("test", "none: all samples were trained on")]),
                *_time_rows(trainers, seconds, rows, earlier),
                ("model", f"{model_path}  (takes raw features: what prepares them is in the file)"),
                ("picture", picture[0] or f"none: {picture[1]}"),
                *([("report", args.report)] if args.report else []),
            ]
        )
    if interrupted:
        most = "" if run.epochs is None else f" of {run.epochs}"
        again = f"; --resume goes on from {checkpoint_path}" if checkpoint_path.exists() else ""
        print(
            f"fastbp: interrupted in epoch {epochs}{most}, after {steps:,} steps; the "
            f"model as trained so far is in {model_path}{again}",
            file=sys.stderr,
        )
        return args.signals.code
    return 0


def _fit(args: Namespace, run: Run, trainer: Trainer, path: Path) -> tuple[Trainer, History, int]:
    """(the trainer, its whole history, the steps that a checkpoint had made): train, or go on with it.

    Raises KeyboardInterrupt where nothing was learned."""
    patience = Patience(run.patience) if run.patience else None
    callbacks: list[Any] = [] if patience is None else [patience]
    checkpoint = Checkpoint(path, _identity(args, run))
    if args.resume and path.exists():
        made = trainer
        trainer = checkpoint.restore(patience, args.device, args.threads)
        trainer.preparation = made.preparation
        if patience is not None:
            patience.first = trainer.epochs
    elif args.resume:
        print(f"fastbp: no checkpoint {path}: beginning with the first epoch", file=sys.stderr)
    elif args.checkpoint_every:
        path.unlink(missing_ok=True)  # of another run
    if args.checkpoint_every:
        callbacks.append(Saver(checkpoint, patience, args.checkpoint_every))
    before, earlier = trainer.steps, {name: list(values) for name, values in checkpoint.history.items()}
    epochs = run.epochs and max(0, run.epochs - trainer.epochs)
    if patience is not None and patience.done:
        epochs = 0
    trainer.schedule = _schedule(args, trainer, run)
    try:
        trainer.fit(
            *run.raw(run.train),  # type: ignore[misc]  # there is one
            epochs=epochs,
            seconds=args.seconds,
            callbacks=callbacks,
            validation_data=run.raw(run.watched),
            verbose=False if args.quiet or args.json else "auto",
        )
    except KeyboardInterrupt:  # between two lines of fit; within it, fit says so itself
        trainer.history.stopped = "Ctrl-C"
    if trainer.history.stopped == "Ctrl-C" and not trainer.steps:
        raise KeyboardInterrupt
    trainer.schedule = schedule(args.schedule)
    history = trainer.history
    for name, values in earlier.items():
        history.history[name] = values + history.history.get(name, [])
    return trainer, history, before


def _fit_all(args: Namespace, run: Run, trainers: list[Trainer]) -> list[History]:
    """The histories of an ensemble's networks. Raises KeyboardInterrupt where nothing was learned, and
    FloatingPointError where one of them diverged."""
    histories = fit_many(
        trainers,
        *run.raw(run.train),  # type: ignore[misc]  # there is one
        epochs=run.epochs,
        seconds=args.seconds,
        validation_data=run.raw(run.watched),
        early_stopping=run.patience or None,
        verbose=False if args.quiet or args.json else "auto",
    )
    for history in histories:
        if history.error is not None:
            raise history.error
    if any(history.stopped == "Ctrl-C" for history in histories) and not any(t.steps for t in trainers):
        raise KeyboardInterrupt
    return histories


def _mean_of(histories):
    """{name: numbers by epoch}: of one history its own, of several the means, as far as all of them got."""
    if len(histories) == 1:
        return histories[0]
    names = [name for name in histories[0] if all(name in history for history in histories)]
    return {n: np.mean(list(zip(*(h[n] for h in histories), strict=False)), axis=1).tolist() for n in names}


def _identity(args, run):
    """{name: value} of what a run must have in common with the one that it goes on with."""
    names = {name: getattr(args, name) for name in _SAME}
    names |= {"patience": run.patience, "batch_size": run.batch}
    parts = [array for part in (run.train, run.watched, run.test) for array in part or (None, None)]
    options = {f"--{name.replace('_', '-')}": value for name, value in names.items()}
    return json.loads(json.dumps({**options, "data": digest(*parts)}))


def _schedule(args, trainer, run):
    """The schedule; with its end said where a run may go on, for it would else begin anew."""
    plan = schedule(args.schedule)
    if plan is None or not plan.ends or not (args.checkpoint_every or args.resume):
        return plan
    updates = Options.of(trainer).updates(*2 * [-(-len(run.train[1]) // run.batch)])
    return replace(plan, total=run.epochs * (1 if plan.by == "epoch" else updates))


def _known(what, name, known):
    if name not in known:
        raise unknown(what, name, known)


# --- before training ---


def _read(args):
    """(a short name, Table) of a shipped data set or a file."""
    data = args.data
    if data in datasets.names():
        if args.target is not None:
            raise ValueError(f"--target: {data} has its own; takes a target for files only")
        for option, given in (("--drop", args.drop), ("--id", args.id), ("--text", args.text)):
            if given:
                raise ValueError(f"{option}: {data} has no named columns; takes them for files only")
        X, y = datasets.load(data)
        return data, files.Table(X, y, source=f"{data}: shipped with fastbp")
    path = Path(data)
    if data != "-" and not path.suffix and not path.exists():
        raise ValueError(f"{unknown('DATA', data, datasets.names())}, or a file's name")
    wanted = files.Wanted(args.target, args.drop, ids=args.id, text=args.text, drop_missing=args.drop_missing)
    table = files.read(data, wanted, dialect(args))
    name = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return "stdin" if data == "-" else name.stem, table


def _outputs(args, name):
    """The paths of model, picture and checkpoint; makes their folder, and fails before training."""
    out = args.out
    base = Path(out or f"fastbp-{name}")
    if out and (out.endswith(("/", os.sep)) or base.is_dir()):
        base = base / f"fastbp-{name}"
    if base.suffix in (".safetensors", ".png"):
        base = base.with_suffix("")
    base.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(base.parent, os.W_OK):
        raise ValueError(f"--out: cannot write in the folder {base.parent}")
    model, picture, checkpoint = (
        base.with_name(base.name + suffix) for suffix in (".safetensors", ".png", ".checkpoint")
    )
    resumed = args.resume and checkpoint.exists()
    if model.exists() and not args.overwrite and not resumed:
        over = " and no checkpoint: that run is over" if args.resume else ""
        raise ValueError(
            f"--out: {model} is there already{over}; takes another name, or --overwrite to replace it"
        )
    return model, picture, checkpoint


def _check_report(report):
    """Fails before training where the report could not be drawn or written."""
    from ..drawing.plots import new_figure

    new_figure(1, 1)
    folder = Path(report).parent
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK) or Path(report).is_dir():
        raise ValueError(f"--report: cannot write {report}")


def _run(args, table):
    """(the Run, how the samples were cut)."""
    y = table.y if table.y_test is None else np.concatenate([table.y, table.y_test])
    task = task_of(y, table.classes, args.loss)
    train, test, split = _parts(table, task, args.test_fraction)
    watched, patience, plan = None, args.patience, schedule(args.schedule)
    few = len(train[1]) < _FEW and not args.validation_fraction
    if patience is None and (few or (plan is not None and plan.ends)):  # a plan of the rate has its own end
        patience = 0
    fraction = args.validation_fraction or (patience != 0 and _WATCHED)
    if fraction:
        *train, X, y = _cut(*train, fraction)
        watched = X, y
        split += f"; {len(watched[1]):,} more for validation"
    rows = len(train[1])
    batch = args.batch_size or _batch_size(rows, args.norm)
    steps = -(-rows // batch)
    if patience is None:
        patience = max(_PATIENCE, -(-_PATIENT_STEPS // steps))
    most = max(_EPOCHS, -(-_STEPS // steps)) if patience else _TO_THE_END
    epochs = args.epochs or (None if args.seconds else most)
    return Run(task, (train[0], train[1]), watched, test, batch, patience, epochs), split


def _stopping(args, run):
    """What ends the training, in words."""
    ends = {
        "{} epochs": run.epochs,
        "{:g} s": args.seconds,
        "{} epochs without a better validation loss": run.patience,
    }
    return f"after {' or '.join(text.format(number) for text, number in ends.items() if number)}"


def _parts(table, task, fraction):
    """((X, y) to train on, to test on or None, how it was cut): the file's own parts, or a part held out."""
    y = task.y
    if table.X_test is not None:
        n = len(table.y)
        return (table.X, y[:n]), (table.X_test, y[n:]), "the file's own test part"
    if not fraction:
        return (table.X, y), None, "none held out to test on"
    labels = y.ndim == 1 and y.dtype.kind == "i"
    X, y, X_test, y_test = _cut(table.X, y, fraction)
    return (
        (X, y),
        (X_test, y_test),
        f"{fraction:.0%} held out{', class by class' if labels else ', at random'}",
    )


def _cut(X, y, fraction):
    """(X, y) without a share of the samples, then these: class by class where y holds labels."""
    kept, held = stratified_split(y, fraction, _SPLIT_SEED)
    return rows_of(X, kept), y[kept], rows_of(X, held), y[held]


def _preparation(args, run, table):
    """What prepares the columns; which are left out stands in the table of what was chosen."""
    names, keep = table.feature_names, args.keep
    if names is None:  # --keep has their places
        keep = [int(name) if name.isdigit() else name for name in keep]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        preparation = Preparation.fit(
            run.train[0],
            run.train[1] if run.task.regression else None,
            names=names,
            classes=run.task.classes,
            target=table.target_name,
            target_written=run.task.written,
            keep=keep,
        )
    preparation.reading = remembered(args, table)
    return preparation


def rows_of(X: Any, index: Array) -> Any:
    """Rows of an array, a Frame or a sparse matrix."""
    return X.rows(index) if isinstance(X, Frame) else X[index]


def _batch_size(n, norm):
    """About fifty steps an epoch, between 32 (many steps for few samples) and 256; with batch norm, which
    takes no batch of one sample, a size that leaves none."""
    size = min(256, max(32, 1 << (n // 50).bit_length()))
    while norm == "batch" and n % size == 1 and n > 1:
        size += 1
    return size


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


def _trainer(args, n_in, run, place=0):
    """The network at a place of an ensemble."""
    import fastbp as fb

    seed = args.seed + place
    given = {"lr": args.lr, "weight_decay": args.weight_decay}
    given = {name: value for name, value in given.items() if value is not None}
    if args.optimizer == "sgd":
        given["momentum"] = 0.9
    net = fb.MLP([n_in, *args.hidden, run.task.n_out], args.activation, dropout=args.dropout, norm=args.norm,
                 residual=args.residual, seed=seed)  # fmt: skip
    return fb.Trainer(
        net,
        loss=_loss(run.task, run.train[1], args.class_weight),
        optimizer=OPTIMIZERS[args.optimizer](**given),
        batch_size=run.batch,
        schedule=args.schedule,
        clip_norm=args.clip_norm,
        device=args.device,
        threads=args.threads,
        seed=seed,
    )


# --- after training ---


def _time_rows(trainers, seconds, n, earlier):
    """Compiling and training apart; training counts the evaluations after each epoch too. earlier: steps."""
    trainer, threads = trainers[0], threads_of(trainers)
    steps = sum(t.steps for t in trainers) - earlier
    epochs, more = divmod(steps, -(-n // trainer.batch_size))
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
        return (str(learning_curves(history, path, title).path), None)
    except ImportError as error:
        return (None, str(error))
