"""fit_many: many networks trained in one compiled call, each by one thread, on rows of the same arrays."""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import metrics as measures
from ..callbacks import EarlyStopping, epochs_ahead
from ..data import checks
from ..data.gpuarrays import OnDevice
from ..engine import averages, backend, parallel, sessions
from ..engine.many import Job, Many, Pass
from ..engine.samples import Samples, columns_of, in_own_units, samples
from ..engine.turns import Ended
from ..errors import ABOVE_0, EndOfFit, flag, number, whole
from ..kernels import codes
from ..schedules.base import Schedule
from .fitting import Fit, Progress, again, callbacks_of, check_counted, check_verbose, check_weights, parts_of
from .gathering import interleave
from .trainer import INFERENCE_BATCH, Trainer

if TYPE_CHECKING:
    from ..engine.history import History
    from ..engine.plan import Plan
    from ..types import Array, Batch, Features, MetricsLike, Offset, SampleWeight, Targets, Verbose

ROUND = 0.1  # seconds between two looks at Ctrl-C and the bar
AHEAD = 1 << 12  # updates whose constants are made at once, of one network; at most EPOCHS
EPOCHS = 64
ALL_AHEAD = 1 << 20  # and of all networks together
SNAPSHOTS = 1 << 18  # numbers of one network's weights that are kept of epochs that callbacks look at


def fit_many(
    trainers: Iterable[Trainer],
    X: Features,
    y: Targets,
    *,
    rows: Sequence[Any] | None = None,
    epochs: int | Sequence[int] | None = None,
    seconds: float | None = None,
    validation_data: Batch | None = None,
    validation_rows: Sequence[Any] | None = None,
    metrics: MetricsLike | None = None,
    callbacks: Sequence[Any] | Callable[[int], Any] | None = None,
    early_stopping: int | EarlyStopping | None = None,
    shuffle: bool = True,
    sample_weight: SampleWeight = None,
    offset: Offset = None,
    verbose: Verbose = "auto",
) -> list[History]:
    """Train many networks on the same data: each by one thread, all cores busy, Python not between them.

    trainers : Trainers of any mixture of networks, losses, optimizers, schedules, batch sizes and options;
    each ends with the bits of ``trainer.fit`` alone, on any number of threads. X, y, sample_weight, offset :
    as in fit, for all; they are read in place. rows : for each trainer the rows that it trains on: numbers
    (a row may come twice), a slice or a mask (N,); None: all rows. epochs : one number, or one for each.
    seconds : stop all after these. validation_data : (X, y[, sample_weight[, offset]]), for all;
    validation_rows : instead rows of X for each, as ``rows``. metrics, early_stopping, shuffle, verbose : as
    in fit; each network has its own count and best weights. callbacks : a list for each trainer, or a
    function of its number that returns one.

    Returns a list of History, in the order given. A network whose loss is no longer finite is left where it
    was and does not stop the others: its ``history.error`` is the FloatingPointError that fit would raise.
    Ctrl-C keeps what there is. Networks with LBFGS, a gradient_hook, an offset or weights of targets are
    trained one after another by all threads; all are, where one alone can keep twice as many threads busy
    as there are networks. Networks on a GPU launch in turns, each on a stream of its own. Raises ValueError
    or TypeError, before anything changes, as fit does.

    >>> trainers = [fb.Trainer(fb.MLP([4, width, 4], seed=0), seed=0) for width in (4, 8, 16)]
    >>> histories = fb.fit_many(trainers, X, y, epochs=3)
    >>> [history.epochs for history in histories]
    [3, 3, 3]
    """
    trainers = checked(trainers)
    check_verbose(verbose)
    if seconds is not None:
        number("seconds", seconds, ABOVE_0[0], "a number above 0, or None")
    with _columns_of(trainers, X):
        data, count = _Data(X, y, sample_weight, offset), len(trainers)
        most = _epochs(epochs, seconds, count)
        taken = _rows("rows", rows, data, trainers)
        held_out = _held_out(data, trainers, validation_data, validation_rows)
        own = _each("callbacks", callbacks, count)
        networks, shuffle = [], flag("shuffle", shuffle)
        for i, trainer in enumerate(trainers):
            given = data.of(trainer)._replace(places=taken[i])
            told = callbacks_of(own[i], copy.deepcopy(early_stopping), held_out[i])
            batch = min(whole("batch_size", trainer.batch_size), given.rows)
            checks.check_batches(trainer.net.norms, batch, given.rows)
            functions = measures.table(metrics, getattr(trainer.loss, "quantiles", None))
            fit = Fit(
                trainer, given, batch, most[i], seconds, held_out[i], functions, told, shuffle, False, 0
            )
            check_counted(fit, sample_weight is not None)
            networks.append(_Network(fit, metrics))
    for network in networks:  # few and wide
        trainer = network.trainer
        threads = parallel.most_threads(trainer.net, network.fit.batch, trainer.threads)
        network.alone = network.alone or threads >= 2 * count
    _Run(networks, seconds, verbose).run()
    return [network.fit.history for network in networks]


def train(fits: Sequence[Fit]) -> None:
    """Run fits, each with data of its own, together; what one raises is its ``history.error``. Ctrl-C, which
    ends them all, is raised on."""
    _Run([_Network(fit) for fit in fits], None, 0, locked=True).run()
    if any(fit.history.stopped == "Ctrl-C" for fit in fits):
        raise KeyboardInterrupt


# --- arguments


def checked(trainers: Iterable[Trainer]) -> list[Trainer]:
    """The list of them. Raises ValueError where it is empty or has one twice, TypeError for what is none."""
    found = list(trainers)
    if not found:
        raise ValueError("trainers: got none, takes one or more")
    for i, trainer in enumerate(found):
        if not isinstance(trainer, Trainer):
            raise TypeError(f"trainers: got {type(trainer).__name__} at place {i}, takes a Trainer")
    for what, things in (("Trainer", found), ("network", [t.net for t in found])):
        if len({id(thing) for thing in things}) < len(things):
            raise ValueError(f"trainers: got one {what} twice, takes one for each place")
    return found


@contextmanager
def _columns_of(trainers, X):
    """The names of X's columns are the trainers', as in fit; not where an error shows that X does not do."""
    before = [trainer.columns for trainer in trainers]
    try:
        for trainer in trainers:
            trainer.columns = columns_of(trainer, X)
        yield
    except BaseException:
        for trainer, columns in zip(trainers, before, strict=True):
            trainer.columns = columns
        raise


def _epochs(epochs, seconds, count):
    """The epochs of each network; None: as many as the seconds allow."""
    if epochs is None:
        return [1 if seconds is None else None] * count
    return [
        whole("epochs", n, 0) for n in _each("epochs", epochs if np.ndim(epochs) else [epochs] * count, count)
    ]


def _each(name, given, count):
    """One thing for each trainer, of a list or a function of its number."""
    if given is None:
        return [None] * count
    if callable(given):
        return [given(i) for i in range(count)]
    found = list(given)
    if len(found) != count:
        raise ValueError(f"{name}: got {len(found)}, takes one for each of {count} trainers")
    return found


def _rows(name, given, data, trainers):
    """For each trainer the numbers of its rows (n,) int32, or None for all."""
    return [
        None if rows is None else places(f"{name}[{i}]", rows, data.of(trainer).rows)
        for i, (rows, trainer) in enumerate(zip(_each(name, given, len(trainers)), trainers, strict=True))
    ]


def places(name: str, rows: Any, count: int) -> Array:
    """(n,) int32: the numbers of ``rows``, which are numbers, a slice or a mask of ``count`` rows.

    Raises ValueError for what is none of these, or none of the rows.
    """
    takes = f"takes numbers from 0 to {count - 1}, a slice, or a mask ({count},), with one row or more"
    array = np.arange(count)[rows] if isinstance(rows, slice) else np.asarray(rows)
    if array.dtype == bool and array.shape == (count,):
        array = np.flatnonzero(array)
    if array.ndim != 1 or array.dtype.kind not in "iu" or not len(array):
        raise ValueError(f"{name}: got {array.dtype} of shape {array.shape}, {takes}")
    if array.min() < 0 or array.max() >= count:
        bad = array.min() if array.min() < 0 else array.max()
        raise ValueError(f"{name}: got {bad}, {takes}")
    return np.ascontiguousarray(array, np.int32)


def _held_out(data, trainers, given, rows):
    """The validation Samples of each trainer, or None."""
    if given is not None and rows is not None:
        raise ValueError("validation_rows: got it and validation_data, takes one of them")
    if rows is not None:
        taken = _rows("validation_rows", rows, data, trainers)
        return [
            None if at is None else data.of(trainer)._replace(places=at)
            for at, trainer in zip(taken, trainers, strict=True)
        ]
    if given is None:
        return [None] * len(trainers)
    other = _Data(*parts_of("validation_data", given))
    return [other.of(trainer) for trainer in trainers]


class _Data:
    """X, y and weights, checked once for all trainers that read them alike."""

    def __init__(self, X: Any, y: Any, weight: Any = None, offset: Any = None) -> None:
        self._given = X, y, weight, offset
        self._known: dict[Any, Samples] = {}

    def of(self, trainer: Trainer) -> Samples:
        """The Samples of a trainer."""
        net, loss = trainer.net, trainer.loss
        key = (
            id(trainer.preparation), repr(trainer.columns), net.dtype, net.sizes[0], net.sizes[-1],
            repr(net.embedded), type(loss), repr(loss.config()),
        )  # fmt: skip
        if key not in self._known:
            self._known[key] = samples(trainer, *self._given)
        return self._known[key]


# --- at work


class _Network:
    """One network at work: its Fit, and its Job where one thread trains it."""

    def __init__(self, fit: Fit, metrics: MetricsLike | None = None) -> None:
        self.fit, self.metrics, self.trainer = fit, metrics, fit.trainer
        trainer, schedule = fit.trainer, fit.rates.schedule if hasattr(fit, "rates") else None
        sessions.check(trainer)
        sessions.check_slots(trainer)
        self.alone = not fit.joins
        # whether Python must look after each epoch; whether it does so at all
        self.held = fit.seconds is not None or (
            schedule is not None and type(schedule).after_epoch is not Schedule.after_epoch
        )
        # the compiled call evaluates the validation rows, too, or Python does
        running = trainer.ema is not None and "batch" in trainer.net.norms
        self.judged = fit.validation is not None and not fit.metrics and not running
        judges = fit.validation is not None and not self.judged
        self.watched = self.held or judges or bool(fit.callbacks or fit.metrics)
        self.room = max(1, SNAPSHOTS // trainer.net.params.size)  # epochs whose weights may be kept
        self.done = self.running = False  # over; on its way through epochs that collect has not seen

    def open(self, known: dict[Any, Plan]) -> None:
        """Make the Job."""
        fit, trainer = self.fit, self.trainer
        averages.begin(trainer, sessions.frozen(trainer))
        training = Pass(trainer, fit.samples, fit.samples.places, fit.batch, codes.TRAIN, known)
        validation = None
        if self.judged:
            held: Any = fit.validation
            validation = Pass(trainer, held, held.places, INFERENCE_BATCH, codes.EVALUATE, known)
        fit.share = training.share
        if fit.evaluate is None:
            fit.evaluate, fit.measure = self._evaluate, self._measure
        self.job = Job(trainer, training, validation, fit.shuffle)
        fit.begin()

    def _evaluate(self, given, functions):
        """The scores of validation samples."""
        return self.trainer.evaluate(given.packed(), None) | self._measure(given, functions)

    def _measure(self, given, functions):
        """Those without the loss."""
        if not functions:
            return {}
        given, trainer = given.packed(), self.trainer
        y = in_own_units(trainer, given.y)
        return checks.measure(functions, given.code, y, trainer.predict(given), given.weight)

    def next(self, ahead: int, shared: dict[Any, Any]) -> None:
        """Begin the next epochs, with the constants of at most about ``ahead`` updates; or be done."""
        fit, trainer = self.fit, self.trainer
        over = fit.seconds is not None and fit.left() <= 0
        self.done = fit.epoch == fit.epochs or trainer.stop_training or over
        if self.done:
            if trainer.stop_training:
                fit.history.stopped = fit.history.stopped or "callback"
            elif over:
                fit.history.stopped = "seconds"
            return
        epochs = 1
        if not self.held:
            most: Any = fit.epochs  # a number: who is not held has no time limit
            epochs = max(1, min(EPOCHS, ahead // fit.updates, most - fit.epoch))
        if self.watched and epochs > 1:  # the average of the weights is not kept
            sure = 1 if trainer.ema is not None else epochs_ahead(fit.callbacks)
            epochs = int(max(1, min(epochs, self.room, sure)))
        fit.tell("on_epoch_begin", fit.epoch, {})
        trainer.epochs += 1
        if fit.seconds is not None:
            fit.plan(trainer.steps)
        constants = fit.rates.constants(epochs, fit.steps, shared)
        self.job.begin(epochs, constants, self.watched and epochs > 1)
        self.running = True

    def collect(self, rate: float, told: bool = True) -> None:
        """Into counters and history what the epochs that were done have found. rate : ticks a second; told :
        whether callbacks hear of it."""
        if not self.running:
            return
        self.running = False
        fit, trainer, row = self.fit, self.trainer, self.job.row
        state, done, step = (int(row[at]) for at in (codes.M_STATE, codes.M_EPOCH, codes.M_STEP))
        record, begun = self.job.record, step > 0 or state == codes.STOPPED
        if not self.watched or not told:
            trainer.epochs += done - 1 + begun
            trainer.steps += done * fit.updates
            fit.history.extend(self._columns(record[:done], rate))
            fit.epoch += done
        else:
            self._tell(record, done, rate)
            trainer.epochs += begun - (done == 0)
        trainer.steps += fit.options.updates(step, fit.steps)
        if state == codes.STOPPED:
            self._diverged(record[done], step)

    def _tell(self, record, done, rate):
        """Callbacks, metrics and schedule hear of epochs that are done, each with its weights."""
        fit, trainer, kept = self.fit, self.trainer, self.job.snapshots
        last = None if kept is None else trainer.net.params.copy()
        columns = self._columns(record[:done], rate)
        for e in range(done):
            if e:
                fit.tell("on_epoch_begin", fit.epoch, {})
                trainer.epochs += 1
            if kept is not None:
                trainer.net.params[:] = kept[e]
            trainer.steps += fit.updates
            logs = {name: values[e] for name, values in columns.items()}
            if fit.metrics or fit.validation is not None and not self.judged:
                logs = fit.measured(logs, time.perf_counter() - logs.pop("seconds"))
            try:
                fit.finish(logs)
            except (FloatingPointError, EndOfFit) as error:  # weights of which no checkpoint is to be made
                fit.history.error, self.done = error, True
                break
        if last is not None:
            trainer.net.params[:] = last

    def end_now(self, rate: float) -> None:
        """Its time is over: end in the middle of an epoch if need be, as fit does."""
        row, job, fit = self.job.row, self.job, self.fit
        done, step = int(row[codes.M_EPOCH]), int(row[codes.M_STEP])
        if int(row[codes.M_STATE]) != codes.WAITING or not step:
            return
        self.collect(rate)
        row[codes.M_STATE], self.done = codes.DONE, True
        loss, mass, hits, *_ = job.record[done, codes.RECORD_LOSS :]
        logs = {"loss": float(loss / mass) if mass else 0.0}
        if fit.samples.scored:
            seen = min(step * fit.batch, fit.samples.rows)
            answers = fit.samples.answers(fit.share * seen, self.trainer.net.sizes[-1])
            logs["accuracy"] = float(hits / max(1, answers))
        began = time.perf_counter() - job.record[done, codes.RECORD_TICKS] / rate
        try:
            fit.finish(fit.measured(logs, began))
        except (FloatingPointError, EndOfFit) as error:
            fit.history.error = error
        fit.history.stopped = fit.history.stopped or "seconds"

    def _columns(self, record, rate):
        """{name: a number an epoch} as fit has them in History."""
        fit, job = self.fit, self.job
        found = _scores(fit.samples, record[:, codes.RECORD_LOSS :], job.training, self.trainer)
        if self.judged:
            measured = _scores(
                fit.validation, record[:, codes.RECORD_VAL_LOSS :], job.validation, self.trainer
            )
            found |= {f"val_{name}": values for name, values in measured.items()}
        found["seconds"] = (record[:, codes.RECORD_TICKS] / rate).tolist()
        return found

    def _diverged(self, record, step):
        lost, loss = bool(record[codes.RECORD_LOST]), record[codes.RECORD_LOSS]
        where = f"step {step + 1} of epoch {self.fit.epoch + 1} of this fit"
        try:
            logs = self.fit.diverged(sessions.divergence(self.trainer, lost, loss, where))
            self.fit.finish(self.fit.measured(logs, time.perf_counter()))
        except (FloatingPointError, EndOfFit) as error:
            self.fit.history.error, self.done = error, True

    def train(self, began: float) -> None:
        """Train it by itself, on all threads. began : when the time began that all have."""
        fit = self.fit
        seconds = fit.seconds
        if seconds is not None:
            seconds = max(seconds - (time.perf_counter() - began), 1e-3)
        trainer: Any = self.trainer  # fit takes Samples, too
        held_out = None if fit.validation is None else (fit.validation.packed(), None)
        try:
            trainer.fit(
                fit.samples.packed(), None, fit.epochs, seconds=seconds, validation_data=held_out,
                metrics=self.metrics, callbacks=fit.callbacks, shuffle=fit.shuffle, verbose=0,
            )  # fmt: skip
        except (FloatingPointError, EndOfFit) as error:
            trainer.history.error = error
        fit.history, self.done = trainer.history, True

    def close(self, rate: float, failed: bool) -> None:
        """End where it is, in the middle of an epoch if need be. failed : by an error of any network."""
        if not self.done:
            self.collect(rate, not failed)
            self.fit.history.stopped = "" if failed else "Ctrl-C"
        if self.fit.history.error is None and not failed:
            try:
                check_weights(self.trainer, self.fit.quiet)
            except FloatingPointError as error:
                self.fit.history.error = error
            else:
                self.fit.tell("on_train_end")

    def samples_done(self) -> int:
        """Of this fit, so far."""
        fit, row = self.fit, self.job.row
        rows = fit.epoch * fit.samples.rows
        if self.running:
            rows += int(row[codes.M_EPOCH]) * fit.samples.rows + int(row[codes.M_STEP]) * fit.batch
        return rows

    def left(self) -> float:
        """Seconds of work that it has still to do, about."""
        fit, row = self.fit, self.job.row
        epochs = (fit.epochs or fit.epoch + 1) - fit.epoch
        return max(epochs - row[codes.M_EPOCH], 1) * fit.steps * self.job.step_seconds


def _scores(samples, record, passed, trainer):
    """{"loss": ..., "accuracy": ...} of records' sums, as fit and evaluate have them."""
    loss, mass, hits = record[:, 0], record[:, 1], record[:, 2]
    found = {"loss": np.where(mass > 0, loss / np.where(mass > 0, mass, 1.0), 0.0).tolist()}
    if samples.scored:
        answers = samples.answers(passed.share * passed.count, trainer.net.sizes[-1])
        found["accuracy"] = (hits / max(1, answers)).tolist()
    return found


class _Run:
    """All networks of one call of fit_many. locked : whether who asked for their fits has their turns."""

    def __init__(
        self, networks: list[_Network], seconds: float | None, verbose: Verbose, locked: bool = False
    ) -> None:
        self.locked = locked
        self.networks, self.seconds, self.rate = networks, seconds, 1e9
        self.verbose: Verbose = verbose
        self.together = [n for n in networks if not n.alone]

    def run(self) -> None:
        epochs = None if self.seconds is not None else 1
        rows = sum((n.fit.epochs or 0) * n.fit.samples.rows for n in self.together)
        with ExitStack() as stack, Progress(epochs, rows, self.seconds, self.verbose) as self.progress:
            for network in self.together:
                stack.enter_context(self._turn(network.trainer.turns))
            self._run()

    @contextmanager
    def _turn(self, turns):
        """This thread trains, whatever thread the turn belongs to."""
        with nullcontext() if self.locked else turns.to_train("fit_many"):
            outer = turns.begin("fit_many")
            try:
                yield
            finally:
                turns.owner, turns.method, turns.place = outer

    def _run(self):
        known: dict[Any, Any] = {}
        kinds = sorted({n.trainer.net.dtype for n in self.together}, key=str)
        for kind in kinds:  # seconds count from the first step, once the program is there
            backend.load_many(kind)
        for network in self.together:
            network.open(known)
        failed, began = True, time.perf_counter()
        try:
            for kind in kinds:
                self._train([n for n in self.together if n.trainer.net.dtype == kind])
            alone = [network for network in self.networks if network.alone]
            on_gpu = [network for network in alone if network.trainer.device == "cuda"]
            for network in alone:
                if network not in on_gpu:
                    network.train(began)
                    if network.fit.history.stopped == "Ctrl-C":  # that fit has heard it
                        raise Ended
            if on_gpu:
                self._train_on_gpu(on_gpu, began)
            failed = False
        except KeyboardInterrupt as error:
            failed = False
            for network in self.networks:
                if network.alone and not network.done:
                    network.fit.history.stopped = "Ctrl-C"
            if not isinstance(error, Ended) and again():
                raise
            name = str(error) or "Ctrl-C"
            self.progress.write(f"fit_many: stopped by {name}; the models keep what they have learned")
        finally:
            for network in self.together:
                network.close(self.rate, failed)

    def _train(self, group):
        """Train networks of one dtype."""
        most = min(parallel.usable_cores(), parallel.max_threads(), len(group))
        many, shared = Many([n.job for n in group], most), {}
        ahead = min(AHEAD, ALL_AHEAD // len(group))
        for network in group:
            network.next(ahead, shared)
        while not all(network.done for network in group):
            shared.clear()
            left = np.array([0.0 if n.done else n.left() for n in group])
            held: list[Any] = []
            try:
                for network in group:
                    network.trainer.turns.state.acquire()
                    held.append(network.trainer.turns.state)
                many.turn(ROUND, left)
            finally:
                for lock in held:
                    lock.release()
            self.rate = many.rate
            for network in group:
                if network.running and network.fit.seconds is not None and network.fit.left() <= 0:
                    network.end_now(many.rate)
            for place in np.flatnonzero(many.table[:, codes.M_STATE] >= codes.DONE):
                network = group[place]
                if not network.done:
                    network.collect(many.rate)
                    if not network.done:
                        network.next(ahead, shared)
            self._show()

    def _train_on_gpu(self, networks, began):
        """Networks that share a GPU: each has a stream of its own, and launches while others are at work."""
        known: dict[int, Any] = {}
        for network in networks:
            given = network.fit.samples
            if given.places is None:
                if id(given.X) not in known:
                    known[id(given.X)] = OnDevice.copy_of(given.X)
                network.fit.samples = given._replace(X=known[id(given.X)])
        interleave(functools.partial(network.train, began) for network in networks)

    def _show(self):
        """The bar, where there is one: samples of all networks, or seconds."""
        if self.progress.bar is None:
            return
        done = sum(n.samples_done() for n in self.together)
        losses = [n.fit.history.history["loss"][-1] for n in self.together if n.fit.history.epochs]
        self.progress.update(0, done, float(np.median(losses)) if losses else 0.0, None)
