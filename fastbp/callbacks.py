"""Callbacks: what is done between epochs. Keras' names, arguments, defaults and meanings.

There is no hook between batches: an epoch runs inside the compiled program, which Python sees again
about every 50 ms only. Constructors raise ValueError for numbers out of range; fit does for a ``monitor``
that it does not measure.
"""

from __future__ import annotations

import csv
import io
import math
import os
import sys
import warnings
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .engine import averages
from .errors import BETWEEN_0_AND_1, flag, number, stands_for, unknown
from .metrics import direction
from .printing import Called
from .writing import append

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .drawing.tensorboard import EventFile
    from .engine.anytrainer import AnyTrainer
    from .types import FilePath, Logs

    Mode: TypeAlias = Literal["auto", "min", "max"]

__all__ = [
    "Callback", "EarlyStopping", "ModelCheckpoint", "ReduceLROnPlateau", "CSVLogger", "TensorBoard",
    "TerminateOnNaN", "LambdaCallback",
]  # fmt: skip

MODES = ("auto", "min", "max")


def epochs_ahead(callbacks: Iterable[Any]) -> float:
    """The least that they say of themselves; what a class says holds for itself, not for those made of it."""
    return min((c.ahead() if "ahead" in vars(type(c)) else 1 for c in callbacks), default=math.inf)


_FROM_0 = (lambda v: v >= 0, "a number from 0 on")  # inf too: never


class Callback(Called):
    """Subclass it and override what is needed; ``trainer`` is the one that trains.

    on_train_begin() and on_train_end() frame a fit, also one that Ctrl-C or a time budget ends, not
    one that an error ends. on_epoch_begin(epoch), on_epoch_end(epoch, logs): epoch counts from 0 within
    this fit; logs is the dict of numbers that History is about to take, and may be added to.
    Set ``self.trainer.stop_training = True`` to end the fit after this epoch.

    >>> class Enough(fb.Callback):
    ...     def on_epoch_end(self, epoch, logs=None):
    ...         self.trainer.stop_training = epoch == 2
    >>> history = trainer.fit(X, y, epochs=100, callbacks=[Enough()])
    >>> history.epochs, history.stopped
    (3, 'callback')
    """

    trainer: AnyTrainer = None  # type: ignore[assignment]  # fit sets it before the first call

    def ahead(self) -> float:
        """Epochs that ``fit_many`` may run before it tells of them: 1, or more where none but the last can
        change anything. Each is then told of with the weights that it ended with."""
        return 1

    def on_train_begin(self, logs: Logs | Any = None) -> None:
        """Before the first epoch."""

    def on_train_end(self, logs: Logs | Any = None) -> None:
        """After the last epoch, whatever ended the fit but an error."""

    def on_epoch_begin(self, epoch: int, logs: Logs | Any = None) -> None:
        """Before an epoch."""

    def on_epoch_end(self, epoch: int, logs: Logs | Any = None) -> None:
        """After an epoch: its numbers are in logs."""


def monitored(owner: str, monitor: str, logs: Logs) -> float:
    """The number of this name. Raises ValueError, for the callback ``owner``, where none is measured."""
    of, hint = monitor, ""
    if of.startswith("val_"):
        of, hint = of.removeprefix("val_"), "; val_... comes with validation_data"
    for name in (monitor, monitor.removesuffix(of) + stands_for(of)):
        if name in logs:
            return logs[name]
    raise ValueError(f"{owner} monitor: got {monitor!r}, this fit measures {', '.join(logs)}{hint}")


class _Monitor(Callback):
    """One that watches a number and knows which direction is better.

    mode "auto" knows which is better for the losses, the metrics of fastbp and all of scikit-learn's names;
    for any other name say "min" or "max".
    """

    def __init__(self, monitor: str, mode: Mode, min_delta: float = 0.0, verbose: int = 0) -> None:
        owner = type(self).__name__
        if not isinstance(monitor, str):
            raise TypeError(f"{owner} monitor: got {monitor!r}, takes a name such as 'val_loss'")
        if verbose not in (0, 1):
            raise ValueError(f"{owner} verbose: got {verbose!r}, takes 0 or 1")
        if mode not in MODES:
            raise unknown(f"{owner} mode", mode, MODES)
        number(f"{owner} min_delta", min_delta, *_FROM_0)
        self.monitor, self.mode, self.min_delta, self.verbose = monitor, mode, abs(min_delta), verbose
        self.sign = direction(monitor) if mode == "auto" else 1 if mode == "max" else -1
        if not self.sign:
            raise ValueError(
                f"{owner} mode: got 'auto' for {monitor!r}, of which nobody knows whether more is better; "
                "takes 'min' or 'max'"
            )

    def value(self, logs: Logs) -> float:
        """The monitored number. Raises ValueError where this fit does not measure it."""
        return monitored(type(self).__name__, self.monitor, logs)

    def better(self, value: float, best: float | None) -> bool:
        """Better than best by more than min_delta; anything but NaN is better than None."""
        if best is None:
            return not math.isnan(value)
        return self.sign * (value - best) > self.min_delta


class EarlyStopping(_Monitor):
    """End the fit when ``monitor`` has not improved for ``patience`` epochs.

    min_delta : what counts as an improvement. baseline : until it is beaten no improvement resets the
    count. restore_best_weights : end with the weights of the best epoch (the optimizer's state stays
    that of the last), whatever ended the fit but an error. start_from_epoch : epochs that are not looked
    at. After the fit: ``best``, ``best_epoch``, ``stopped_epoch`` (0: it did not stop it), from 0 on. Warns
    RuntimeWarning where ``monitor`` was NaN in every epoch.

    >>> stopping = fb.EarlyStopping("loss", patience=3, min_delta=10.0, restore_best_weights=True)
    >>> trainer.fit(X, y, epochs=100, callbacks=[stopping]).epochs, stopping.best_epoch
    (4, 0)
    """

    best: float | None
    best_weights: Any

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        verbose: int = 0,
        mode: Mode = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta, verbose)
        number("EarlyStopping patience", patience, *_FROM_0)
        if baseline is not None:
            number("EarlyStopping baseline", baseline, lambda v: not math.isnan(v), "a number, or None")
        number("EarlyStopping start_from_epoch", start_from_epoch, *_FROM_0)
        self.patience, self.start_from_epoch, self.baseline = patience, start_from_epoch, baseline
        self.restore_best_weights = flag("EarlyStopping restore_best_weights", restore_best_weights)
        self.on_train_begin()

    def on_train_begin(self, logs: Logs | Any = None) -> None:
        self.best = self.best_weights = None
        self.wait = self.stopped_epoch = self.best_epoch = 0

    def on_epoch_end(self, epoch: int, logs: Logs | Any = None) -> None:
        if epoch < self.start_from_epoch:
            return
        value = self.value(logs)
        self.wait += 1
        if self.better(value, self.best):
            self.best, self.best_epoch = value, epoch
            if self.restore_best_weights:
                self.best_weights = averages.snapshot(self.trainer)
            if self.baseline is None or self.better(value, self.baseline):
                self.wait = 0
            return
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch, self.trainer.stop_training = epoch, True

    def ahead(self) -> float:
        return self.patience - self.wait

    def on_train_end(self, logs: Logs | Any = None) -> None:
        if self.verbose and self.stopped_epoch:
            print(f"epoch {self.stopped_epoch + 1}: early stopping", file=sys.stderr)
        if self.best is None and self.wait:
            warnings.warn(
                f"EarlyStopping: {self.monitor} was NaN in each of {self.wait} epochs, so none is the best; "
                "the weights are those of the last",
                RuntimeWarning,
                stacklevel=2,
            )
        if self.best_weights is not None:
            averages.restore(self.trainer, self.best_weights)
            self.best_weights, self.trainer.history.kept = None, self.best_epoch + 1


class ModelCheckpoint(_Monitor):
    """Save the trainer after each epoch, or after each that improved ``monitor``.

    filepath : may hold {epoch} (from 1) and the names in logs, formatted: "m-{epoch:02d}.safetensors".

    >>> history = trainer.fit(X, y, epochs=2, callbacks=[fb.ModelCheckpoint("model-{epoch:02d}.safetensors")])
    >>> fb.load("model-01.safetensors").epochs
    1
    """

    best: float | None

    def __init__(
        self,
        filepath: FilePath,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        mode: Mode = "auto",
    ) -> None:
        super().__init__(monitor, mode, verbose=verbose)
        self.filepath = os.fspath(filepath)
        self.save_best_only = flag("ModelCheckpoint save_best_only", save_best_only)
        self.best = None

    def on_train_begin(self, logs: Logs | Any = None) -> None:
        folder = os.path.dirname(self.filepath)
        if folder and "{" not in folder and not os.path.isdir(folder):  # said now, not after an epoch
            raise FileNotFoundError(
                f"ModelCheckpoint filepath: got {self.filepath!r}, whose folder is not there"
            )

    def on_epoch_end(self, epoch: int, logs: Logs | Any = None) -> None:
        if self.save_best_only:
            value = self.value(logs)
            if not self.better(value, self.best):
                return
            self.best = value
        try:
            path = self.filepath.format(**{**logs, "epoch": epoch + 1})
        except (KeyError, IndexError, ValueError) as e:
            raise ValueError(
                f"ModelCheckpoint filepath: got {self.filepath!r} ({e}), takes {{epoch}} and what this fit "
                f"measures: {', '.join(logs)}"
            ) from None
        self.trainer.save(path)
        if self.verbose:
            print(f"epoch {epoch + 1}: saved {path}", file=sys.stderr)


class ReduceLROnPlateau(_Monitor):
    """Multiply the learning rate by ``factor`` when ``monitor`` has not improved for ``patience`` epochs.

    It acts on ``trainer.lr_scale``, the factor on whatever the optimizer or a schedule gives, and stops
    at ``min_lr``. cooldown : epochs after a reduction that are not counted.

    >>> halving = fb.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=10.0)
    >>> trainer.fit(X, y, epochs=4, callbacks=[halving]).history["lr"]
    [0.001, 0.001, 0.0005, 0.00025]
    """

    best: float | None

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: Mode = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta, verbose)
        number("ReduceLROnPlateau factor", factor, *BETWEEN_0_AND_1)
        self.factor, self.patience, self.cooldown, self.min_lr = factor, patience, cooldown, min_lr
        number("ReduceLROnPlateau patience", patience, *_FROM_0)
        number("ReduceLROnPlateau cooldown", cooldown, *_FROM_0)
        number("ReduceLROnPlateau min_lr", min_lr, *_FROM_0)
        self.on_train_begin()

    def on_train_begin(self, logs: Logs | Any = None) -> None:
        self.best, self.wait, self.cooling = None, 0, 0

    def on_epoch_end(self, epoch: int, logs: Logs | Any = None) -> None:
        value, trainer = self.value(logs), self.trainer
        logs["lr"] = old = trainer.optimizer.lr * trainer.lr_scale
        if self.cooling:
            self.cooling -= 1
            self.wait = 0
        if self.better(value, self.best):
            self.best, self.wait = value, 0
        elif not self.cooling:
            self.wait += 1
            if self.wait >= self.patience and old > self.min_lr:
                new = max(old * self.factor, self.min_lr)
                trainer.lr_scale = new / trainer.optimizer.lr
                self.cooling, self.wait = self.cooldown, 0
                if self.verbose:
                    print(f"epoch {epoch + 1}: learning rate reduced to {new:g}", file=sys.stderr)


class CSVLogger(Callback):
    """Write epoch (from 0) and logs as one line of a CSV file after each epoch.

    append : go on with a file that is there, under the header it has.

    >>> history = trainer.fit(X, y, epochs=2, callbacks=[fb.CSVLogger("log.csv")])
    >>> open("log.csv").readline().strip()
    'epoch,loss,accuracy,seconds'
    """

    keys: list[str] | None

    def __init__(self, filename: FilePath, separator: str = ",", append: bool = False) -> None:
        self.filename, self.separator = os.fspath(filename), separator
        self.append = flag("CSVLogger append", append)
        self.keys = None

    def ahead(self) -> float:
        return math.inf

    def on_train_begin(self, logs: Logs | Any = None) -> None:
        self.keys = None
        if self.append and os.path.exists(self.filename):
            with open(self.filename, newline="", encoding="utf-8") as file:
                header = next(csv.reader(file, delimiter=self.separator), None)
            self.keys = header[1:] if header else None
        else:
            open(self.filename, "w").close()  # fails now, not after an epoch

    def on_epoch_end(self, epoch: int, logs: Logs | Any = None) -> None:
        text = io.StringIO()
        lines = csv.writer(text, delimiter=self.separator, lineterminator="\n")
        if self.keys is None:
            self.keys = list(logs)
            lines.writerow(["epoch", *self.keys])
        lines.writerow(map(str, [epoch, *(logs.get(key, "NA") for key in self.keys)]))
        append(self.filename, text.getvalue().encode())


class TensorBoard(Callback):
    """Write logs as scalars that TensorBoard reads: epoch_loss in log_dir/train, val_loss as epoch_loss
    in log_dir/validation. It needs no package; to look: tensorboard --logdir LOG_DIR.

    >>> history = trainer.fit(X, y, epochs=2, callbacks=[fb.TensorBoard("logs")])  # logs/train/events.out...
    """

    writers: dict[str, EventFile]

    def __init__(self, log_dir: FilePath = "logs") -> None:
        self.log_dir, self.writers = os.fspath(log_dir), {}

    def on_train_begin(self, logs: Logs | Any = None) -> None:
        self.writers = {}

    def on_epoch_end(self, epoch: int, logs: Logs | Any = None) -> None:
        from .drawing.tensorboard import EventFile

        for name, value in logs.items():
            run = "validation" if name.startswith("val_") else "train"
            if run not in self.writers:
                self.writers[run] = EventFile(os.path.join(self.log_dir, run))
            self.writers[run].scalar(f"epoch_{name.removeprefix('val_')}", value, epoch)


class TerminateOnNaN(Callback):
    """End the fit quietly where a loss is no longer finite, instead of raising FloatingPointError.

    The weights are those before the step that broke; a val_loss that is not finite ends it too.

    >>> trainer = fb.Trainer(fb.MLP([4, 16, 4], seed=0), "mse", fb.SGD(1e30), seed=0)
    >>> history = trainer.fit(X, X, epochs=100, callbacks=[fb.TerminateOnNaN()])
    >>> history.epochs < 5, bool(np.isfinite(trainer.net.weights[0]).all())
    (True, True)
    """

    def on_epoch_end(self, epoch: int, logs: Logs | Any = None) -> None:
        for name in ("loss", "val_loss"):
            if not math.isfinite(logs.get(name, 0.0)):
                print(f"epoch {epoch + 1}: {name} is {logs[name]}, terminating training", file=sys.stderr)
                self.trainer.stop_training = True


class LambdaCallback(Callback):
    """Functions as a callback: on_epoch_begin(epoch, logs), on_epoch_end(epoch, logs),
    on_train_begin(logs), on_train_end(logs).

    >>> seen = []
    >>> counting = fb.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    >>> history = trainer.fit(X, y, epochs=3, callbacks=[counting])
    >>> seen
    [0, 1, 2]
    """

    def __init__(
        self,
        on_epoch_begin: Callable[[int, Logs], object] | None = None,
        on_epoch_end: Callable[[int, Logs], object] | None = None,
        on_train_begin: Callable[[Logs], object] | None = None,
        on_train_end: Callable[[Logs], object] | None = None,
    ) -> None:
        for name, function in list(locals().items()):
            if name != "self" and function is not None:
                if not callable(function):
                    raise TypeError(f"LambdaCallback {name}: got {function!r}, takes a function")
                setattr(self, name, _told(function) if name.startswith("on_train") else function)


def _told(function):
    """A function of logs, which are empty before and after the epochs, as in Keras."""
    return lambda logs=None: function({} if logs is None else logs)
