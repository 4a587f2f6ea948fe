"""The epochs of Trainer.fit: windows of steps, validation, metrics, callbacks, time budget, Ctrl-C."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import metrics
from ..callbacks import Callback, EarlyStopping, ModelCheckpoint, TerminateOnNaN
from ..data import checks
from ..engine import sessions
from ..engine.history import History
from ..engine.options import Options
from ..engine.rates import Rates
from ..engine.samples import Samples, samples
from ..engine.turns import Ended
from ..errors import ABOVE_0, BETWEEN_0_AND_1, flag, number, whole
from ..optimizers import LBFGS
from . import lbfgs

if TYPE_CHECKING:
    from ..engine.anytrainer import AnyTrainer
    from ..types import Batch, Logs, MetricsLike, Offset, SampleWeight, Verbose

PATIENCE = 10  # epochs, of early_stopping=True: scikit-learn's n_iter_no_change
TWICE = 1.0  # seconds within which a second Ctrl-C is meant for what calls fit, too

_last_interrupt = [-np.inf]


def again() -> bool:
    """Whether a Ctrl-C, which has just come, came soon after another."""
    before, _last_interrupt[0] = _last_interrupt[0], time.monotonic()
    return _last_interrupt[0] - before < TWICE


def interrupted(history: History, steps: int, write: Callable[[str], object]) -> None:
    """A Ctrl-C ends a fit, says so, and the program goes on; called while KeyboardInterrupt is handled.

    A KeyboardInterrupt("SIGTERM") is said by that name. One that comes soon after another is raised: who
    stands in a loop of fits wants to leave the loop. Ended is said by who raises it.
    """
    if isinstance(sys.exc_info()[1], Ended):
        history.stopped = "Ctrl-C"
        return
    history.stopped = "Ctrl-C"
    if again():
        raise
    name = str(sys.exc_info()[1]) or "Ctrl-C"
    write(f"fit: stopped by {name} after {steps:,} steps in all; the model keeps what it has learned")


@dataclass
class Fit:
    """One call of Trainer.fit, checked; ``run`` does it."""

    trainer: AnyTrainer
    samples: Samples
    batch: int
    epochs: int | None  # as many as the budget allows
    seconds: float | None
    validation: Samples | None
    metrics: dict[str, Callable[..., Any]]
    callbacks: list[Callback]
    shuffle: bool
    drop_last: bool
    verbose: Verbose
    # (Samples, metrics) -> the scores of validation samples; those of the training, without the loss
    evaluate: Any = None
    measure: Any = None

    def __post_init__(self):
        self.quiet = any(isinstance(c, TerminateOnNaN) for c in self.callbacks)
        trainer, rows = self.trainer, self.samples.rows
        self.rows = rows // self.batch * self.batch if self.drop_last else rows  # of an epoch
        self.steps, self.epoch, self.history = -(-self.rows // self.batch), 0, History()
        self.options = Options.of(trainer)
        self.updates = self.options.updates(self.steps, self.steps)
        if isinstance(trainer.optimizer, LBFGS):
            self.way = lbfgs.prepare(self)
        else:
            self.way = self._epochs
            self.rates = Rates(trainer, self.epochs, self.updates, self.rows, self.seconds)

    @property
    def joins(self) -> bool:
        """Whether it can be trained among many, by one thread, Python not between its steps."""
        trainer = self.trainer
        alone = isinstance(trainer.optimizer, LBFGS) or trainer.gradient_hook is not None
        behind = any(given is not None and any(given.behind) for given in (self.samples, self.validation))
        alone = alone or behind or self.drop_last
        return trainer.device == "cpu" and not alone

    def run(self, session: Any, last: bool = True) -> History:
        """Train on ``session``. last : no step follows that would notice what the last one did. Returns
        History."""
        trainer = self.trainer
        with Progress(self.epochs, self.rows, self.seconds, self.verbose) as self.progress:
            try:
                self.share = self.history.counted = sessions.bind(trainer, session, self.samples)
                self.begin()
                self.way(session)
            except KeyboardInterrupt:
                interrupted(self.history, trainer.steps, self.progress.write)
            finally:
                session.release()
            if last:
                check_weights(trainer, self.quiet)
            self.tell("on_train_end")
        return self.history

    def begin(self) -> None:
        """The history, the clocks and the callbacks at their start."""
        trainer = self.trainer
        trainer.history, trainer.stop_training = self.history, False
        for callback in self.callbacks:
            callback.trainer = trainer
        self.began, self.reserve, self.first = time.perf_counter(), 0.0, trainer.steps
        self.plan(trainer.steps)
        self.tell("on_train_begin")

    def finish(self, logs: Logs) -> None:
        """An epoch is over, of which ``logs`` is the record."""
        if any(isinstance(c, ModelCheckpoint) for c in self.callbacks):
            check_weights(self.trainer, self.quiet)  # before what is written replaces what was good
        self.rates.after_epoch(logs)
        try:
            self.tell("on_epoch_end", self.epoch, logs)
        finally:  # what a callback raises ends the fit after this epoch
            self.history.append(**logs)
            self.epoch += 1

    def _epochs(self, session):
        trainer = self.trainer
        while self.epoch != self.epochs and not trainer.stop_training:
            began = time.perf_counter()
            self.tell("on_epoch_begin", self.epoch, {})
            with trainer.turns.state:
                logs = self._train(session, self.epoch)
            self.finish(self.measured(logs, began))
            if self.seconds is not None and self.left() <= 0:
                self.history.stopped = "seconds"
                return
        if trainer.stop_training:
            self.history.stopped = self.history.stopped or "callback"

    def measured(self, logs: Logs, began: float) -> Logs:
        """The record of an epoch: what validation and metrics find, and its seconds, added to logs."""
        with self.trainer.turns.calling("a metric"):
            if self.validation is not None:
                start = time.perf_counter()
                measured = self.evaluate(self.validation, self.metrics)
                logs |= {f"val_{name}": value for name, value in measured.items()}
                self.reserve = time.perf_counter() - start
            elif self.metrics:
                logs |= self.measure(self.samples, self.metrics)
        logs["seconds"] = time.perf_counter() - began
        return logs

    def _train(self, session, epoch):
        """One epoch, or what the budget leaves of it; returns {"loss": ..., "accuracy": ...}."""
        trainer, rows, options = self.trainer, self.rows, Options.of(self.trainer)
        if self.shuffle:
            session.shuffle(trainer.seed, trainer.epochs)
        session.limit(rows)
        if self.drop_last:
            self.share = self.history.counted = self._share(session)
        trainer.epochs += 1
        self._set_rates(session)
        before, session.done, scores = trainer.steps, 0, self.samples.scored
        done = hits = 0
        loss = mass = 0.0
        try:
            for done, loss, mass, hits in sessions.training_windows(trainer, session, self.steps, before):
                seen = min(done * self.batch, rows)
                # before an epoch's end a guess where samples of weight 0 do not count
                answers = self.samples.answers(self.share * seen, trainer.net.sizes[-1])
                right = hits / max(1, answers) if scores and seen else None
                self.progress.update(epoch, seen, loss / mass if mass else 0.0, right)
                if self.seconds is not None and np.isfinite(loss):
                    self.plan(before + options.updates(done, self.steps))
                    self._set_rates(session)
                    if self.left() <= 0:
                        break
            else:
                if done < self.steps:
                    where = f"step {done + 1} of epoch {epoch + 1} of this fit"
                    return self.diverged(sessions.divergence(trainer, session.lost, loss, where))
        finally:
            trainer.steps = before + options.updates(session.done, self.steps)
        logs = {"loss": float(loss / mass) if mass else 0.0}
        if scores:
            logs["accuracy"] = right
        return logs

    def _share(self, session):
        """Of the samples of this epoch, the share whose weight is not 0."""
        given = self.samples
        made = self.trainer.loss.weights(given.weight, given.y, given.code)
        if made is None:
            return 1.0
        made = made[session.order[: self.rows] if self.shuffle else slice(self.rows)]
        return np.count_nonzero(made) / made.size

    def _set_rates(self, session: Any) -> None:
        """The optimizer's numbers as they are now: callbacks, and what is planned, may change them."""
        session.hyper[:] = sessions.hyper(self.trainer)
        session.updates = self.rates.epoch()

    def left(self) -> float:
        """Seconds that are left for steps: a validation as long as the last one is to come."""
        most = np.inf if self.seconds is None else self.seconds
        return most - self.reserve - (time.perf_counter() - self.began)

    def plan(self, done: int) -> None:
        """Set ``planned_steps``: of the whole fit, by the rate so far, validation and all included."""
        most = None if self.epochs is None else self.epochs * self.updates
        if self.seconds is not None:
            made, spent = done - self.first, time.perf_counter() - self.began
            rate = made / spent if made else np.inf
            likely = max(made, int(min(rate * self.seconds, 2.0**62)))
            most = likely if most is None else min(most, likely)
        self.trainer.first_step, self.trainer.planned_steps = self.first, most

    def diverged(self, error: FloatingPointError) -> Logs:
        if self.quiet:
            return {"loss": float("nan")}
        raise error

    def tell(self, what: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            with self.trainer.turns.calling(f"{what} of {type(callback).__name__}"):
                getattr(callback, what)(*arguments)


def check_weights(trainer: AnyTrainer, quiet: bool = False) -> None:
    """Raises FloatingPointError where the last step of a fit has left weights that are NaN or inf, which the
    step after it would have noticed; quiet: says so on stderr."""
    params = trainer.net.params
    with np.errstate(all="ignore"):
        if np.isfinite(params.sum()) or np.isfinite(params).all():  # the sum is fast, and rarely overflows
            return
    said = f"net: has weights that are NaN or inf after step {trainer.steps:,}, the last of this fit"
    if not quiet:
        raise FloatingPointError(f"{said}; {_remedies(trainer)}")
    print(f"fit: {said}", file=sys.stderr)


def _remedies(trainer):
    return f"try a lower lr (now {trainer.optimizer.lr}), standardised inputs, or clip_norm"


def prepare(
    trainer: AnyTrainer,
    X: Any,
    y: Any,
    epochs: int | None,
    seconds: float | None,
    validation_data: Batch | None,
    validation_split: float | None,
    metric_names: MetricsLike | None,
    callbacks: Callback | Iterable[Callback] | None,
    early_stopping: int | EarlyStopping | None,
    shuffle: bool,
    drop_last: bool,
    sample_weight: SampleWeight,
    offset: Offset,
    verbose: Verbose,
) -> Fit:
    """The arguments of Trainer.fit, checked: a Fit. Nothing has changed when this raises."""
    if seconds is not None:
        number("seconds", seconds, ABOVE_0[0], "a number above 0, or None")
    if epochs is None:
        epochs = 1 if seconds is None else None
    else:
        epochs = whole("epochs", epochs, 0)
    given = samples(trainer, X, y, sample_weight, offset)
    validation = None
    if validation_split is not None:
        if validation_data is not None:
            raise ValueError("validation_split: got it and validation_data, takes one of them")
        start = split(validation_split, given.rows)
        given, validation = given.part(slice(start)), given.part(slice(start, None))
    elif validation_data is not None:
        validation = samples(trainer, *parts_of("validation_data", validation_data))
    check_verbose(verbose)
    functions = metrics.table(metric_names, getattr(trainer.loss, "quantiles", None))
    told = callbacks_of(callbacks, early_stopping, validation)
    batch = min(whole("batch_size", trainer.batch_size), given.rows)
    used = given.rows // batch * batch if flag("drop_last", drop_last) else given.rows
    checks.check_batches(trainer.net.norms, batch, used)
    shuffle = flag("shuffle", shuffle)
    return Fit(
        trainer, given, batch, epochs, seconds, validation, functions, told, shuffle, drop_last, verbose
    )


def check_verbose(verbose: Any) -> None:
    """Raises ValueError for what is no choice of a bar."""
    if verbose not in (0, 1, True, False, "auto"):
        raise ValueError(f"verbose: got {verbose!r}, takes 0, 1 or 'auto'")


def check_counted(fit: Fit, weighed: bool) -> None:
    """Raises ValueError where no sample of a fit counts, or none of its validation; weighed : whether there
    were weights of samples."""
    _check_counted(fit.trainer.loss, fit.samples, weighed)
    if fit.validation is not None:
        _check_counted(fit.trainer.loss, fit.validation, True, "validation_data: ")


def _check_counted(loss, given, weighed, where=""):
    at = slice(None) if given.places is None else given.places
    if given.weight is not None and not given.weight[at].any():
        if not loss.ignore_nan:
            raise ValueError(f"{where}sample_weight: got only zeros, takes at least one above 0")
        if weighed:
            raise ValueError(f"{where}sample_weight: got 0 for every known target of y, takes one above 0")
        raise ValueError(f"{where}y: got NaN alone, takes one or more known targets")
    made = None if given.by_output else loss.weights(given.weight, given.y, given.code)
    if made is not None and not np.any(made[at]):
        raise ValueError(f"{where}y: got only labels that count for nothing, takes some that have a weight")


def split(share: float, rows: int) -> int:
    """Where the last ``share`` of the rows begins."""
    number("validation_split", share, *BETWEEN_0_AND_1)
    start = int(rows * (1.0 - share))
    if not 0 < start < rows:
        raise ValueError(
            f"validation_split: got {share} of {rows} rows, takes a share that leaves both parts some"
        )
    return start


def parts_of(name: str, item: Any, what: str = "", kind: type[Exception] = ValueError) -> tuple[Any, ...]:
    """(X, y, sample_weight, offset) of (X, y[, sample_weight[, offset]]); raises a ``kind`` for all else."""
    if not isinstance(item, (tuple, list)) or not 2 <= len(item) <= 4:
        got = type(item).__name__ + (f" of {len(item)}" if isinstance(item, (tuple, list)) else "")
        raise kind(
            f"{name}: got {what}{got}, takes (X, y), (X, y, sample_weight) or (X, y, sample_weight, offset)"
        )
    return (*item, None, None)[:4]


def callbacks_of(callbacks: Any, early_stopping: Any, validation: Samples | None) -> list[Callback]:
    """The callbacks of a fit, with that of ``early_stopping``, checked."""
    found: list[Any] = [callbacks] if isinstance(callbacks, Callback) else list(callbacks or ())
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
    """A tqdm bar over all samples of a fit, or over its seconds; or nothing. In a notebook a widget."""

    def __init__(self, epochs: int | None, rows: int, seconds: float | None, verbose: Verbose) -> None:
        show = sys.stderr.isatty() or _notebook() if verbose == "auto" else bool(verbose)
        self.epochs, self.rows, self.next = epochs, rows, 0.0
        self.bar: Any = None
        self.last: Any = None  # what is known of the fit, drawn or not
        self.timed = time.monotonic() if epochs is None else None
        if show and epochs != 0:
            with warnings.catch_warnings():  # in a notebook without ipywidgets the bar is text
                warnings.simplefilter("ignore")
                from tqdm.auto import tqdm

            if epochs is None:
                form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
                self.bar = tqdm(total=seconds, mininterval=0.1, bar_format=form)
            else:
                self.bar = tqdm(total=epochs * rows, unit=" samples", unit_scale=True, mininterval=0.1)

    def __enter__(self):
        return self

    def update(self, epoch: int, rows: int, loss: float, accuracy: float | None) -> None:
        """``rows`` of this epoch are done; draws at most ten times a second, and at the end."""
        self.last = epoch, rows, loss, accuracy
        if self.bar is not None and time.monotonic() >= self.next:
            self._draw()

    def _draw(self):
        epoch, rows, loss, accuracy = self.last
        now = time.monotonic()
        done = epoch * self.rows + rows if self.timed is None else min(now - self.timed, self.bar.total)
        self.next = now + 0.1
        text = f"epoch {epoch + 1}" + (f"/{self.epochs}" if self.epochs else "")
        values = f"loss {loss:.4f}" + ("" if accuracy is None else f", accuracy {accuracy:.4f}")
        self.bar.set_description_str(text, refresh=False)
        self.bar.set_postfix_str(values, refresh=False)
        self.bar.update(done - self.bar.n)

    def write(self, text: str) -> None:
        """A line on stderr, the bar left whole."""
        if self.bar is not None:
            self.bar.clear()
        print(text, file=sys.stderr)

    def __exit__(self, *error):
        if self.bar is not None:
            if self.last is not None:
                self._draw()
            if hasattr(self.bar, "container") and not any(error):
                self.bar.total = self.bar.n  # or a widget turns red where a fit ended early, as it should
            self.bar.close()


def _notebook() -> bool:
    """Whether a notebook's kernel runs this: what is written is seen, though stderr is no terminal."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return "IPKernelApp" in getattr(shell, "config", ())
