"""The epochs of Trainer.fit: windows of steps, validation, metrics, callbacks, time budget, Ctrl-C."""

import sys
import time
from dataclasses import dataclass

import numpy as np

from .. import metrics
from ..callbacks import Callback, EarlyStopping, TerminateOnNaN
from ..data import checks
from ..engine.pace import Pace
from ..errors import whole
from ..optimizers import LBFGS
from . import lbfgs
from .history import History

PATIENCE = 10  # epochs, of early_stopping=True: scikit-learn's n_iter_no_change


@dataclass
class Fit:
    """One call of Trainer.fit, checked; ``run`` does it."""

    trainer: object
    X: np.ndarray
    code: int
    y: np.ndarray
    weight: object
    epochs: object  # int, or None for as many as the budget allows
    seconds: object
    validation: object  # (X, code, y, weight) or None
    metrics: dict
    callbacks: list
    shuffle: bool
    verbose: object

    def run(self):
        trainer, rows = self.trainer, len(self.X)
        self.batch = min(whole("batch_size", trainer.batch_size), rows)
        trainer._check_batches(self.batch, rows)
        self.steps = -(-rows // self.batch)
        self.updates = trainer._updates(self.steps, self.steps)
        if isinstance(trainer.optimizer, LBFGS):
            run = lbfgs.prepare(self)
        else:
            run, self.pace = self._epochs, Pace(trainer, self.epochs, self.updates, rows, self.seconds)
        session = trainer._session("train", self.batch)
        trainer.history = self.history = History()
        trainer.stop_training = False
        for callback in self.callbacks:
            callback.trainer = trainer
        with session.lock, Progress(self.epochs, rows, self.seconds, self.verbose) as self.progress:
            try:
                self.share = trainer._bind(session, self.X, self.code, self.y, self.weight)
                self.began, self.reserve, self.first = time.perf_counter(), 0.0, trainer.steps
                self._plan(trainer.steps)
                self._each("on_train_begin")
                run(session)
            except KeyboardInterrupt:
                self.history.stopped = "Ctrl-C"
                where = f"after {trainer.steps:,} steps in all"
                self.progress.write(f"fit: stopped by Ctrl-C {where}; the model keeps what it has learned")
            finally:
                session.release()
            self._each("on_train_end")
        return self.history

    def _epochs(self, session):
        trainer, epoch = self.trainer, 0
        while epoch != self.epochs and not trainer.stop_training:
            began = time.perf_counter()
            self._each("on_epoch_begin", epoch, {})
            logs = self.measured(self._train(session, epoch), began)
            self.pace.after_epoch(logs)
            self._each("on_epoch_end", epoch, logs)
            self.history.append(**logs)
            epoch += 1
            if self.seconds is not None and self._left() <= 0:
                self.history.stopped = "seconds"
                return
        if trainer.stop_training:
            self.history.stopped = self.history.stopped or "callback"

    def measured(self, logs, began):
        """The record of an epoch: what validation and metrics find, and its seconds, added to logs."""
        trainer = self.trainer
        if self.validation is not None:
            start = time.perf_counter()
            measured = trainer._evaluate(*self.validation, self.metrics)
            logs |= {f"val_{name}": value for name, value in measured.items()}
            self.reserve = time.perf_counter() - start
        elif self.metrics:
            measured = checks.measure(self.metrics, self.code, self.y, trainer.predict(self.X), self.weight)
            logs |= {name: value for name, value in measured.items() if name not in logs}
        logs["seconds"] = time.perf_counter() - began
        return logs

    def _train(self, session, epoch):
        """One epoch, or what the budget leaves of it; returns {"loss": ..., "accuracy": ...}."""
        trainer, rows = self.trainer, len(self.X)
        if self.shuffle:
            session.shuffle(trainer.seed, trainer.epochs)
        trainer.epochs += 1
        self._rates(session)
        before, session.done, scores = trainer.steps, 0, trainer._scores(self.code)
        done = hits = 0
        loss = mass = 0.0
        try:
            for done, loss, mass, hits in trainer._windows(session, self.steps, before):
                seen = min(done * self.batch, rows)
                # before an epoch's end a guess where samples of weight 0 do not count
                answers = trainer._answers(round(self.share * seen), self.code)
                right = hits / max(1, answers) if scores and seen else None
                self.progress.update(epoch, seen, loss / mass if mass else 0.0, right)
                if self.seconds is not None and np.isfinite(loss):
                    self._plan(before + trainer._updates(done, self.steps))
                    self._rates(session)
                    if self._left() <= 0:
                        break
            else:
                if done < self.steps:
                    return self._diverged(loss, epoch, done)
        finally:
            trainer.steps = before + trainer._updates(session.done, self.steps)
        logs = {"loss": float(loss / mass) if mass else 0.0}
        if scores:
            logs["accuracy"] = right
        return logs

    def _rates(self, session):
        """The optimizer's numbers as they are now: callbacks, and what is planned, may change them."""
        session.hyper[:] = self.trainer._hyper()
        session.set_rates(self.pace.table())

    def _left(self):
        """Seconds that are left for steps: a validation as long as the last one is to come."""
        return self.seconds - self.reserve - (time.perf_counter() - self.began)

    def _plan(self, done):
        """Set ``planned_steps``: of the whole fit, by the rate so far, validation and all included."""
        most = None if self.epochs is None else self.epochs * self.updates
        if self.seconds is not None:
            made, spent = done - self.first, time.perf_counter() - self.began
            rate = made / spent if made else np.inf
            likely = max(made, int(min(rate * self.seconds, 2.0**62)))
            most = likely if most is None else min(most, likely)
        self.trainer.first_step, self.trainer.planned_steps = self.first, most

    def _diverged(self, loss, epoch, step):
        if any(isinstance(c, TerminateOnNaN) for c in self.callbacks):
            return {"loss": float("nan")}
        raise FloatingPointError(
            f"loss: became {loss} (it or its gradient's norm) in step {step + 1} of epoch {epoch + 1} of "
            f"this fit; the weights are as before that step. Takes a finite loss: try a lower lr (now "
            f"{self.trainer.optimizer.lr}), standardised inputs, or clip_norm"
        )

    def _each(self, what, *arguments):
        for callback in self.callbacks:
            getattr(callback, what)(*arguments)


def prepare(
    trainer, X, y, epochs, seconds, validation_data, validation_split, metric_names, callbacks,
    early_stopping, shuffle, sample_weight, verbose,
):  # fmt: skip
    """The arguments of Trainer.fit, checked: a Fit. Nothing has changed when this raises."""
    if seconds is not None and not (isinstance(seconds, (int, float)) and 0 < seconds < float("inf")):
        raise ValueError(f"seconds: got {seconds!r}, takes a number above 0, or None")
    if epochs is None:
        epochs = 1 if seconds is None else None
    else:
        epochs = whole("epochs", epochs, 0)
    X, code, y = trainer._checked(X, y)
    weight = checks.weights(sample_weight, len(X), trainer.net.dtype)
    validation = None
    if validation_split is not None:
        if validation_data is not None:
            raise ValueError("validation_split: got it and validation_data, takes one of them")
        start = split(validation_split, len(X))
        validation = X[start:], code, y[start:], None if weight is None else weight[start:]
        X, y, weight = X[:start], y[:start], None if weight is None else weight[:start]
    elif validation_data is not None:
        validation = _validation(trainer, validation_data)
    if verbose not in (0, 1, True, False, "auto"):
        raise ValueError(f"verbose: got {verbose!r}, takes 0, 1 or 'auto'")
    functions = metrics.table(metric_names)
    callbacks = _callbacks(callbacks, early_stopping, validation)
    return Fit(
        trainer, X, code, y, weight, epochs, seconds, validation, functions, callbacks, shuffle, verbose
    )


def split(share, rows):
    """Where the last ``share`` of the rows begins."""
    if not (isinstance(share, (int, float)) and 0 < share < 1):
        raise ValueError(f"validation_split: got {share!r}, takes a number between 0 and 1")
    start = int(rows * (1.0 - share))
    if not 0 < start < rows:
        raise ValueError(
            f"validation_split: got {share} of {rows} rows, takes a share that leaves both parts some"
        )
    return start


def _validation(trainer, given):
    try:
        X, y, *weight = given
        weight = weight[0] if weight else None
    except (TypeError, ValueError):
        got = type(given).__name__
        raise ValueError(f"validation_data: got {got}, takes (X, y) or (X, y, sample_weight)") from None
    X, code, y = trainer._checked(X, y)
    return X, code, y, checks.weights(weight, len(X), trainer.net.dtype)


def _callbacks(callbacks, early_stopping, validation):
    found = [callbacks] if isinstance(callbacks, Callback) else list(callbacks or ())
    for callback in found:
        if not isinstance(callback, Callback):
            raise TypeError(f"callbacks: got {callback!r}, takes instances of fastbp.callbacks.Callback")
    if isinstance(early_stopping, EarlyStopping):
        found.append(early_stopping)
    elif early_stopping is not None and early_stopping is not False:
        if validation is None:
            raise ValueError("early_stopping: got it without validation_data or validation_split, takes one")
        patience = PATIENCE if early_stopping is True else whole("early_stopping", early_stopping)
        found.append(EarlyStopping(patience=patience, restore_best_weights=True))
    return found


class Progress:
    """A tqdm bar over all samples of a fit, or over its seconds; or nothing."""

    def __init__(self, epochs, rows, seconds, verbose):
        show = sys.stderr.isatty() if verbose == "auto" else bool(verbose)
        self.epochs, self.rows, self.bar, self.next = epochs, rows, None, 0.0
        self.timed = time.monotonic() if epochs is None else None
        if show and epochs != 0:
            from tqdm import tqdm

            if epochs is None:
                form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
                self.bar = tqdm(total=seconds, mininterval=0.1, bar_format=form)
            else:
                self.bar = tqdm(total=epochs * rows, unit=" samples", unit_scale=True, mininterval=0.1)

    def __enter__(self):
        return self

    def update(self, epoch, rows, loss, accuracy):
        """``rows`` of this epoch are done; draws at most ten times a second, and at the end."""
        if self.bar is None:
            return
        now = time.monotonic()
        done = epoch * self.rows + rows if self.timed is None else min(now - self.timed, self.bar.total)
        if now < self.next and done < self.bar.total:
            return
        self.next = now + 0.1
        text = f"epoch {epoch + 1}" + (f"/{self.epochs}" if self.epochs else "")
        values = f"loss {loss:.4f}" + ("" if accuracy is None else f", accuracy {accuracy:.4f}")
        self.bar.set_description_str(text, refresh=False)
        self.bar.set_postfix_str(values, refresh=False)
        self.bar.update(done - self.bar.n)

    def write(self, text):
        """A line on stderr, the bar left whole."""
        if self.bar is not None:
            self.bar.clear()
        print(text, file=sys.stderr)

    def __exit__(self, *error):
        if self.bar is not None:
            self.bar.close()
