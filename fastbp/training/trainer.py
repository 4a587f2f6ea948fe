"""Trainer: a network, a loss and an optimizer, run by the compiled program."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import metrics as measures
from ..data import checks
from ..engine import averages, backend, devices, parallel, sessions
from ..engine.history import History
from ..engine.options import Options
from ..engine.rates import Rates, with_momentum
from ..engine.samples import NOTHING, Behind, columns_of, features, in_own_units, offsets, samples
from ..engine.turns import Turns
from ..errors import whole
from ..kernels import codes
from ..losses import loss as make_loss
from ..network.gradients import Gradients
from ..network.layout import arena
from ..network.mlp import MLP
from ..optimizers import optimizer as make_optimizer
from ..printing import call, html_table
from ..schedules import schedule as make_schedule
from ..writing import written
from . import backwards, checkpoint, fitting, gathering, single, stream

if TYPE_CHECKING:
    import torch

    from ..callbacks import Callback, EarlyStopping
    from ..diagnosis import Diagnosis
    from ..explain import Explanation
    from ..losses.base import LossLike
    from ..lrfind import RangeTest
    from ..optimizers import OptimizerLike
    from ..preparation import Preparation
    from ..schedules.base import ScheduleLike
    from ..types import (
        Batch,
        Batches,
        Device,
        Features,
        FilePath,
        Floats,
        MetricsLike,
        Offset,
        SampleWeight,
        Seed,
        Targets,
        Verbose,
    )

ROOM = 4096  # rows that a session has room for, where batches are so large, before so many come
INFERENCE_BATCH = 256  # rows at once in evaluate and predict; the results do not depend on it


class Trainer:
    """Train an MLP: every step runs in one compiled program, the same for all networks.

    Parameters
    ----------
    net : MLP
        Its parameters are trained in place.
    loss : Loss or str
        A fb.losses object such as fb.losses.CrossEntropy(label_smoothing=0.1), or a name: cross_entropy
        (labels or probabilities), bce_with_logits, mse, mae, huber, log_cosh, quantile, poisson_nll,
        gamma_nll, gaussian_nll, focal, hinge, cosine. Means over samples and, but for cross_entropy,
        labels and cosine, outputs.
    optimizer : Optimizer or str
        SGD, Adam, AdamW, NAdam, RAdam, Adamax, RMSprop, Adagrad, Adadelta, Lion, LBFGS, or their names
        in lower case with default hyperparameters.
    batch_size : int
        Samples a step; the last batch of an epoch may be smaller and is trained on too.
    device : "auto", "cpu" or "cuda"
    threads : int or None
        Threads of a step; None measures, while it trains, whether all cores or one are faster. The
        result has the same bits for any.
    seed : int or None
        Seed of the shuffling; None draws one.
    schedule : Schedule, str, function or None
        The learning rate over time (fastbp.schedules), of which the optimizer's lr is the base.
    clip_norm, clip_layer_norm : float or None
        Scale the gradient, or each layer's (W and b together), to this norm where it is larger (Pascanu
        et al. 2013). As ``accumulate`` it takes the second path, which keeps all gradients in memory.
    clip_value : float or None
        Limit each number of the gradient to -clip_value ... clip_value.
    l1 : float
        l1 * sign(p) is added to the gradient, beside the optimizer's weight_decay (L2).
    decay_bias : bool
        False: no l1 and no weight decay on biases, nor on gains, shifts and slopes.
    lr_factors : sequence of float, or None
        A factor of the learning rate for each layer, the first layer first; 0 freezes a layer, as
        net.freeze does.
    max_norm : float or None
        After each update the weights into each unit (a column of W) are scaled to this norm where it
        is larger (Srebro and Shraibman 2005; Keras's MaxNorm on kernels).
    accumulate : int
        Update after so many batches, by the mean of their gradients; at the end of an epoch after
        those that are left. train_on_batch's one batch is always followed by its update; a stream takes 1.
    ema : float or None
        Keep a moving average of the weights, ema * average + (1 - ema) * weights after each update, and
        evaluate and predict by it. ``averaged_net`` returns it as a network.

    Raises ValueError, TypeError or RuntimeError for what does not fit, naming the argument.

    >>> net = fb.MLP([4, 16, 4], seed=0)
    >>> trainer = fb.Trainer(net, "cross_entropy", fb.AdamW(0.01), batch_size=4, schedule="cosine", seed=0)
    >>> history = trainer.fit(X, y, epochs=300)
    >>> trainer.steps, trainer.evaluate(X, y)["accuracy"], trainer.predict(X).shape
    (300, 1.0, (4, 4))
    """

    def __init__(
        self,
        net: MLP,
        loss: LossLike = "cross_entropy",
        optimizer: OptimizerLike = "adam",
        batch_size: int = 32,
        *,
        device: Device = "auto",
        threads: int | None = None,
        seed: Seed = None,
        schedule: ScheduleLike | None = None,
        clip_norm: float | None = None,
        clip_layer_norm: float | None = None,
        clip_value: float | None = None,
        l1: float = 0.0,
        decay_bias: bool = True,
        lr_factors: Sequence[float] | None = None,
        max_norm: float | None = None,
        accumulate: int = 1,
        ema: float | None = None,
    ) -> None:
        if not isinstance(net, MLP):
            raise TypeError(f"net: got {type(net).__name__}, takes an MLP")
        self.net = net
        self.loss = make_loss(loss)
        self.loss.check(net.sizes[-1])
        self.optimizer = make_optimizer(optimizer)
        self.batch_size = whole("batch_size", batch_size)
        self.device = devices.device(device)
        limit = parallel.max_threads()
        if threads is not None and whole("threads", threads) > limit:
            raise ValueError(
                f"threads: got {threads}, takes 1 to {limit} (cores of this process, or NUMBA_NUM_THREADS)"
            )
        self.threads = threads
        self.seed = int.from_bytes(os.urandom(4), "little") if seed is None else whole("seed", seed, 0)
        self.schedule = make_schedule(schedule)
        self.optimizer = with_momentum(self.optimizer, self.schedule)
        self.clip_norm, self.clip_layer_norm, self.clip_value = clip_norm, clip_layer_norm, clip_value
        self.l1, self.decay_bias, self.lr_factors = l1, decay_bias, lr_factors
        self.max_norm, self.accumulate, self.ema = max_norm, accumulate, ema
        self.slots = arena(net.params.size * Options.of(self).slots(self.optimizer), net.dtype)
        self.schedule_state: dict[str, Any] = {}  # what Plateau and Adaptive remember
        self.lr_scale = 1.0  # a factor on the learning rate, whatever gives it: ReduceLROnPlateau's
        # f([(dW, db), ...]) between the gradients and the update of each step
        self.gradient_hook: Callable[[Gradients], object] | None = None
        self.steps = 0  # updates made so far
        self.epochs = 0  # epochs begun so far: each has its own shuffled order
        self.history = History()  # of the last fit, also of one that was interrupted
        # names of the columns that it was fitted on, where X had names
        self.columns: list[str] | None = None
        self.preparation: Preparation | None = None  # X and y are raw, it makes them ready
        self.first_step = 0  # of the last fit: ``steps`` before it
        self.planned_steps: int | None = None  # and its steps
        self.stop_training = False  # callbacks set it: the fit ends after this epoch
        self.turns = Turns()  # who may use it now: one thread at a time
        self._sessions: dict[str, Any] = {}
        self._step: single.Step | None = None  # the last train_on_batch, to be made again

    @property
    def num_threads(self) -> int:
        """Threads that training steps use: fixed by ``threads``, else what was last found fastest."""
        if "train" in self._sessions:
            return self._sessions["train"].team.threads
        return parallel.most_threads(self.net, self.batch_size, self.threads)

    @property
    def compile_seconds(self) -> float:
        """Seconds spent so far, in this process, on compiling the program or loading it from disk."""
        return backend.compile_seconds()

    # --- training

    def fit(
        self,
        X: Features | Batches,
        y: Targets | None = None,
        epochs: int | None = None,
        *,
        seconds: float | None = None,
        validation_data: Batch | None = None,
        validation_split: float | None = None,
        metrics: MetricsLike | None = None,
        callbacks: Callback | Iterable[Callback] | None = None,
        early_stopping: int | EarlyStopping | None = None,
        shuffle: bool = True,
        drop_last: bool = False,
        sample_weight: SampleWeight = None,
        offset: Offset = None,
        verbose: Verbose = "auto",
    ) -> History:
        """Train for some epochs more; a second call goes on where the first stopped.

        X : (N, inputs), any numeric dtype and layout, read in place. y : (N,) integer labels,
        (N, outputs) one-hot, probabilities or numbers, (N,) numbers for one output. Both may be frames,
        tensors or sparse matrices; X also fb.data.shards(...). X alone: an iterator of (X, y[,
        sample_weight[, offset]]), or a function that returns one for each epoch, read ahead by a thread.
        epochs : None is 1, or with ``seconds`` as many as they allow. seconds : stop after these, in the
        middle of an epoch if need be; they count from the first step, once the program is there.
        validation_data : (X, y[, sample_weight[, offset]]) to evaluate after each epoch.
        validation_split : hold the last share of the rows out instead, as they lie, as Keras does; for
        shuffled or stratified ones see fastbp.prepare.stratified_split. metrics : names (see
        fastbp.metrics) or functions (y_true, prediction), of the validation data, else of X, after each
        epoch. callbacks : see fastbp.callbacks. early_stopping : end when val_loss has not improved for
        so many epochs (True: 10), with the best weights; or an EarlyStopping. sample_weight : weights >= 0
        of samples (N,) or of their targets (N, targets), or None; a batch's loss is the weighted mean.
        Targets that are NaN are refused, or left out by a loss with ignore_nan=True. offset : (N,) or (N,
        targets) numbers that are added to the outputs before the link, the logarithm of an exposure for
        instance, in the target's own units; or None. verbose : 0 quiet, 1 progress bar, "auto" a bar in a
        notebook and where stderr is a terminal.

        Returns History. Ctrl-C ends the fit, says so and returns what there is: weights, counters and
        history belong together (``history.stopped``); a second one within a second is raised. Raises
        ValueError or TypeError before anything changes if the data does not fit; FloatingPointError, with
        the weights as they were before that step, when the loss is no longer finite.

        >>> history = trainer.fit(X, y, epochs=3, validation_data=(X, y), metrics=["f1"])
        >>> list(history.history)
        ['loss', 'accuracy', 'val_loss', 'val_accuracy', 'val_f1', 'seconds']
        """
        turns = self.turns
        with turns.to_train("fit"):
            outer = turns.begin("fit")
            try:
                if y is None and stream.is_stream(X):
                    others = {
                        "seconds": seconds, "validation_split": validation_split, "metrics": metrics,
                        "callbacks": callbacks, "early_stopping": early_stopping,
                        "sample_weight": sample_weight, "offset": offset, "drop_last": drop_last or None,
                    }  # fmt: skip
                    return stream.fit(self, X, epochs, validation_data, verbose, others)
                before, self.columns = self.columns, columns_of(self, X)
                try:
                    fit = fitting.prepare(
                        self, X, y, epochs, seconds, validation_data, validation_split, metrics, callbacks,
                        early_stopping, shuffle, drop_last, sample_weight, offset, verbose,
                    )  # fmt: skip
                    if not outer[1]:  # an item of a stream may count for nothing
                        fitting.check_counted(fit, sample_weight is not None)
                except BaseException:
                    self.columns = before
                    raise
                backend.ready(self.device, self.net.dtype, tell=bool(verbose))
                fit.evaluate, fit.measure, task = self._evaluate, self._measured, gathering.present()
                if task is not None and fit.joins:
                    return task.wait_for(fit)
                fit.samples = fit.samples.packed()
                with turns.state:
                    session = self._session("train", fit.batch, fit.samples.behind)
                return fit.run(session, not outer[1])
            finally:
                turns.owner, turns.method, turns.place = outer
                if not outer[1]:
                    turns.maker = 0  # of a stream

    def train_on_batch(
        self, X: Features, y: Targets, sample_weight: SampleWeight = None, *, offset: Offset = None
    ) -> float:
        """One step on these rows, all of them as one batch; returns their loss before it (float).

        X, y, sample_weight, offset as in fit; raises as fit does.

        >>> losses = [trainer.train_on_batch(X, y) for _ in range(100)]
        >>> losses[-1] < losses[0], trainer.steps
        (True, 100)
        """
        return self._pass("train_on_batch", X, y, sample_weight, offset)

    def partial_fit(
        self, X: Features, y: Targets, sample_weight: SampleWeight = None, *, offset: Offset = None
    ) -> float:
        """One pass over these rows as they lie, in steps of ``batch_size``; returns their mean loss.

        For data that comes in pieces; epochs are not counted. X, y, sample_weight, offset as in fit.

        >>> loss = trainer.partial_fit(X, y)  # two steps of batch_size 2
        >>> trainer.steps, trainer.epochs
        (2, 0)
        """
        return self._pass("partial_fit", X, y, sample_weight, offset)

    def _pass(self, method, X, y, sample_weight, offset):
        """One pass over rows as they lie, by the public method that is named; their mean loss."""
        turns = self.turns
        with turns.to_train(method), turns.state:
            outer = turns.begin(method)
            try:
                plain = method == "train_on_batch" and sample_weight is None and offset is None
                if plain and self._step is not None and self._step.takes(self, X, y):
                    loss = self._step.make(self, X, y)
                    if loss is not None:
                        return loss
                before, self.columns = self.columns, columns_of(self, X)
                try:
                    given = samples(self, X, y, sample_weight, offset)
                    # a session with room for all that came so far, however large a batch may be
                    kept = self._sessions.get(method)
                    room = max(given.rows, min(self.batch_size, ROOM), kept.shape[0] if kept else 0)
                    batch = room if method == "train_on_batch" else min(self.batch_size, room)
                    checks.check_batches(self.net.norms, batch, given.rows)
                except BaseException:
                    self.columns = before
                    raise
                session = self._session(method, batch, given.behind)
                loss = self._run(session, given, batch)
                if method == "train_on_batch":  # whose session has forgotten the step before
                    self._step = single.Step.after(self, session, given, X, y)
                return loss
            finally:
                turns.owner, turns.method, turns.place = outer

    def _run(self, session, given, batch):
        """Train on Samples as they lie; their mean loss."""
        session.hyper[:] = sessions.hyper(self)
        sessions.bind(self, session, given)
        steps, before, updates = -(-given.rows // batch), self.steps, Options.of(self).updates
        session.updates = Rates(self, None, updates(steps, steps), given.rows).epoch()
        session.done = 0
        try:
            for done, loss, mass, _ in sessions.training_windows(self, session, steps, before):  # noqa: B007
                pass
        finally:
            self.steps = before + updates(session.done, steps)
            session.release()
        if done < steps:
            raise sessions.divergence(self, session.lost, loss, f"step {done + 1} of these rows")
        return float(loss / mass) if mass else 0.0

    # --- using

    def evaluate(
        self,
        X: Features,
        y: Targets,
        sample_weight: SampleWeight = None,
        metrics: MetricsLike | None = None,
        *,
        offset: Offset = None,
        ema: bool | None = None,
    ) -> dict[str, float]:
        """{"loss": mean loss, "accuracy": share of right answers (classes only)}, floats, on X, y as in fit.

        sample_weight, offset : as in fit. metrics : names or functions as in fit, whose values are added, in
        the target's own units. The loss is what is trained, of the standardised target where a preparation
        has one. "accuracy" as a metric takes the sample weights; without, samples count alike. ema : False
        takes the weights as they are, None the average of Trainer(ema=...) if one is kept; also in predict
        and forward. Raises as fit does, and ValueError for ema=True without an average.

        >>> sorted(trainer.evaluate(X, y, metrics=["auc"]))
        ['accuracy', 'auc', 'loss']
        """
        given = samples(self, X, y, sample_weight, offset)
        return self._evaluate(given, measures.table(metrics, getattr(self.loss, "quantiles", None)), ema)

    def averaged_net(self) -> MLP:
        """A copy of the network with the average of the weights that Trainer(ema=...) keeps.

        Raises ValueError for a trainer without one.

        >>> trainer = fb.Trainer(fb.MLP([4, 16, 4], seed=0), ema=0.99, seed=0)
        >>> history = trainer.fit(X, y, epochs=2)
        >>> fb.Trainer(trainer.averaged_net()).evaluate(X, y) == trainer.evaluate(X, y)
        True
        """
        with self.turns.state:
            net = copy.deepcopy(self.net)
            net.params[:] = averages.weights(self, True)
        return net

    def _evaluate(self, given, functions, ema=None):
        """evaluate for Samples and metrics.table's functions."""
        with self.turns.state:
            session = self._session("infer", INFERENCE_BATCH, given.behind)
            session.params = averages.weights(self, ema)
            share = sessions.bind(self, session, given)
            steps = -(-given.rows // INFERENCE_BATCH)
            *_, (_, loss, mass, hits) = session.windows(codes.EVALUATE, steps)
            session.release()
        result = {"loss": float(loss / mass) if mass else 0.0}
        if given.scored:
            result["accuracy"] = hits / max(1, given.answers(share * given.rows, self.net.sizes[-1]))
        return result | self._measured(given, functions, ema) if functions else result

    def _measured(self, given, functions, ema=None):
        """{name: value} of metrics.table's functions for Samples, in the target's own units."""
        prediction = in_own_units(self, self._infer(given.X, codes.PREDICT, ema, offset=given.offset))
        return checks.measure(functions, given.code, in_own_units(self, given.y), prediction, given.weight)

    def predict(
        self, X: Features, *, offset: Offset = None, samples: int | None = None, ema: bool | None = None
    ) -> Floats:
        """(N, outputs) after the loss's link: softmax for cross_entropy (and focal with labels), sigmoid for
        bce_with_logits and focal, exp for poisson_nll and gamma_nll, means and variances for gaussian_nll,
        else the outputs themselves; in the network's dtype, a prepared target's own unit in float64. X as in
        fit; raises as it does. X that lies on the GPU gives an array there, of X's library. offset : as in
        fit, of these rows; None: 0.

        samples : so many predictions with dropout left on, (samples, N, outputs), each row of each with masks
        of its own: Monte Carlo dropout (Gal and Ghahramani, ICML 2016). Their mean over axis 0 is the
        prediction, their deviation says how sure it is. What is dropped is a function of ``seed``, of the
        sample's number and the row's place in X; batch norm takes its running statistics. Raises ValueError
        for a network without dropout.

        >>> trainer.predict(X).sum(axis=1).round(5).tolist()
        [1.0, 1.0, 1.0, 1.0]
        """
        rows = features(self, X, finite=False)
        if samples is not None:
            whole("samples", samples)
            if not (self.net.input_dropout or any(self.net.dropouts)):
                raise ValueError(f"samples: got {samples} for a network without dropout, takes None")
        out = self._infer(rows, codes.PREDICT, ema, samples, offsets(self, offset, len(rows)))
        return out if self.preparation is None else in_own_units(self, out)

    def forward(self, X: Features, *, offset: Offset = None, ema: bool | None = None) -> Floats:
        """(N, outputs) of the last layer, before the link: logits. Their link is what predict gives, with a
        preparation too: in the target's own units. X, offset as in predict; raises as it does."""
        rows = features(self, X, finite=False)
        out = self._infer(rows, codes.FORWARD, ema, offset=offsets(self, offset, len(rows)))
        return out if self.preparation is None else in_own_units(self, out, linked=False)

    def _infer(self, X, mode, ema=None, samples=None, offset=None):
        """Outputs for X as ``features`` gives it, offset as ``offsets`` does: (N, outputs) or (samples, N,
        outputs)."""
        with self.turns.state:
            behind = Behind(offsets=True) if offset is not None else NOTHING
            session = self._session("infer", INFERENCE_BATCH, behind)
            session.params = averages.weights(self, ema)
            session.set_loss(self.loss.link_code(self.net.sizes[-1]))
            if samples is None:
                out, bad = session.infer(mode, X, offset)
            else:
                session.seed(self.seed)
                out, bad = session.infer_samples(mode, X, samples, offset)
        if bad:  # the kernel has seen it; here it is said where
            checks.check_finite("X", X, self.net.dtype)
        return out

    def activations(self, X: Features, layer: int = -1) -> Floats:
        """(N, width) outputs of a hidden layer, after its activation; 0 is the first, -1 the last.

        Raises IndexError for a layer that is not there.

        >>> trainer.activations(X).shape
        (4, 16)
        """
        rows = features(self, X)
        layer = range(len(self.net.layers) - 1)[layer]
        out = np.empty((len(rows), self.net.sizes[-1]), self.net.dtype)
        hidden = np.empty((len(rows), self.net.sizes[layer + 1]), self.net.dtype)
        with self.turns.state:
            session = self._session("infer", INFERENCE_BATCH)
            session.params = averages.weights(self)
            session.bind(rows, out=out)
            for step in session.each(codes.FORWARD, -(-len(rows) // INFERENCE_BATCH)):
                place = hidden[step * INFERENCE_BATCH :][:INFERENCE_BATCH]
                place[:] = session.layer_rows(layer, len(place))[0]
            session.release()
        return hidden

    def gradients(
        self, X: Features, y: Targets, sample_weight: SampleWeight = None, *, offset: Offset = None
    ) -> tuple[float, Gradients]:
        """(loss, [(dW, db), ...]): the mean loss over all of X and its exact gradients.

        dW (fan_in, fan_out) and db (fan_out,), one pair a layer, in the network's dtype. The list has
        attributes gains, shifts, slopes and embeddings, tuples as the network's. Nothing is dropped;
        batch norm takes the statistics of X. X, y, sample_weight, offset as in fit; raises as it does. With a
        preparation it is the loss that is trained, of prepared inputs and targets.

        >>> loss, gradients = trainer.gradients(X, y)
        >>> [(dW.shape, db.shape) for dW, db in gradients]
        [((4, 16), (16,)), ((16, 4), (4,))]
        """
        given = samples(self, X, y, sample_weight, offset)
        checks.check_batches(self.net.norms, given.rows, given.rows)
        grads = arena(self.net.params.size, self.net.dtype)
        with self.turns.state:
            session = sessions.open_session(self, given.rows, given.code, grads, behind=given.behind)
            sessions.bind(self, session, given)
            [(_, loss, mass, _)] = session.windows(codes.GRADIENTS, 1)
        return float(loss / mass) if mass else 0.0, Gradients(self.net, grads)

    def gradients_from(
        self, X: Features, output_gradient: Targets, *, link: bool = True, offset: Offset = None
    ) -> Gradients:
        """[(dW, db), ...] of a loss of your own, of which you have the gradient at the outputs.

        output_gradient : (N, outputs), d loss / d predict(X), or, without link, d loss / d forward(X); (N,)
        for one output. Sums over the samples, as torch's ``outputs.backward(output_gradient)`` leaves them.
        The list is that of ``gradients``, and as there nothing is dropped, and batch norm takes the
        statistics of X. offset : as in predict. Raises as ``fit`` does.

        >>> [(dW.shape, db.shape) for dW, db in trainer.gradients_from(X, np.ones((4, 4)))]
        [((4, 16), (16,)), ((16, 4), (4,))]
        """
        with self.turns.state:
            return backwards.gradients_from(self, X, output_gradient, link, offset)

    def input_gradients(
        self,
        X: Features,
        output: int | Targets | None = None,
        *,
        link: bool = True,
        offset: Offset = None,
        ema: bool | None = None,
    ) -> Floats:
        """How outputs change with the inputs: derivatives of ``predict``, or, without link, of ``forward``.

        output : the number of an output, whose derivatives are returned, (N, inputs); None for those of all,
        (N, outputs, inputs); or (N, outputs) gradients g, for those of sum_k g_k output_k, (N, inputs). As
        predict does, it drops nothing, takes batch norm's running statistics, ``offset`` and ``ema``. With a
        preparation they are those of raw columns, in the target's own units. Columns of categories, texts,
        and numbers that are missing have none: NaN. Raises as ``fit`` does, IndexError for an output that is
        not there.

        >>> trainer.input_gradients(X).shape, trainer.input_gradients(X, 2).shape
        ((4, 4, 4), (4, 4))
        """
        code = backwards.loss_code(self, link)
        use = f"inputs {code}"
        with self.turns.state:
            if use not in self._sessions:
                self._sessions[use] = backwards.open_session(self, INFERENCE_BATCH, code)
            session = self._sessions[use]
            session.params = averages.weights(self, ema)
            return backwards.input_gradients(self, session, X, output, link, offset)

    def lr_find(self, X: Features, y: Targets, **options: Any) -> RangeTest:
        """Try growing learning rates on a copy of the weights: a RangeTest, with a ``suggestion`` and a plot.

        options : start=1e-7, end=10.0, the rates; steps=100, the updates between them; sample_weight,
        offset. The loss's range test of Smith (WACV 2017). Raises ValueError for numbers that do not fit,
        and where the loss explodes at once.

        >>> 0 < trainer.lr_find(X, y, steps=20).suggestion < 10
        True
        """
        from ..lrfind import lr_find

        with self.turns.state:
            return lr_find(self, X, y, **options)

    def explain(self, seconds: float = 0.5) -> Explanation:
        """Where a training step's time goes: per layer and phase the time, GFLOP/s, share of the peak
        measured on this machine, bytes moved; the tile and the number of threads, and why. On a GPU each
        launch between two events: its kernel, blocks, threads of a block, and why its tile was taken.

        Runs for about ``seconds`` on random data and a copy of the weights. Returns an Explanation;
        print it.

        >>> [row.name for row in trainer.explain(seconds=0.01).rows[:3]]
        ['gather', 'layer 0 forward', 'layer 0 dW + update']
        """
        from ..explain import explain

        with self.turns.state:
            return explain(self, seconds)

    def diagnose(
        self,
        X: Features,
        y: Targets,
        sample_weight: SampleWeight = None,
        rows: int = 1024,
        *,
        offset: Offset = None,
    ) -> Diagnosis:
        """How well gradients and activations flow: per layer, and what to try where they do not.

        X, y, sample_weight, offset as in fit; at most ``rows`` of them, evenly spaced, are looked at as one
        batch. Nothing is changed. Returns a Diagnosis: print it, look at ``layers`` and ``warnings``,
        or ``plot(path)`` it.

        >>> [layer.name for layer in trainer.diagnose(X, y).layers]
        ['0: 4 -> 16', '1: 16 -> 4']
        """
        from ..diagnosis import diagnose

        with self.turns.state:
            return diagnose(self, X, y, sample_weight, rows, offset)

    # --- files

    def save(self, path: FilePath) -> None:
        """Write network, optimizer state, counters and seed to one .safetensors file: whole or not at all.

        Arrays, a JSON configuration and a checksum of both, no code; ``load`` goes on bit for bit. Raises
        OSError, naming ``path``, and ValueError for what ``load`` would refuse, such as weights that are not
        finite: a good file that is there stays.

        >>> trainer.save("model.safetensors")
        >>> again = fb.load("model.safetensors")
        >>> bool((again.predict(X) == trainer.predict(X)).all())
        True
        """
        with self.turns.state:
            checkpoint.save(self, path)

    def to_torch(self, link: bool = False) -> torch.nn.Sequential:
        """The network as a torch.nn.Sequential of its dtype: forward's outputs, or, with link, predict's.

        "0.weight" (fan_out, fan_in), "0.bias", "2.weight", ...; in eval() mode, without Dropout. A stored
        scaling is folded in, and makes it float64. Raises ImportError without torch, ValueError for what
        torch.nn has no module for and for weights that are not finite.
        """
        from ..export import to_torch

        with self.turns.state:
            return to_torch(self, link)

    def to_onnx(self, path: FilePath, link: bool = True) -> None:
        """Write the network as ONNX, opset 13, float32: X (N, inputs) to Y (N, outputs).

        link : Y is what ``predict`` gives, else ``forward``. A stored preparation's scaling is part of
        it; its one-hot columns are inputs of their own. Raw X and Y are double then: numbers far from 0
        have their differences in digits that float32 does not hold. Raises ImportError without onnx,
        ValueError for what has no export, OSError.
        """
        from ..export import described, onnxfile

        with self.turns.state:
            model = described(self, link)
        onnxfile.write([model], path)

    def to_c(self, path: FilePath, name: str = "predict", link: bool = True) -> None:
        """Write the network as one C99 file without dependencies: ``void name(const float *x, float *y)``.

        x : one row of inputs, y : what ``predict`` gives for it, or, without link, ``forward``; double
        for a float64 network, and where a stored preparation scales raw x and y, as in ``to_onnx``. The
        same to about 1e-6 (1e-14) of the largest output. All names begin with ``name``: files of several
        models go into one program. Raises ValueError for what has no export and for a name that C or C++
        does not take, OSError.

        >>> trainer.to_c("model.c", name="digits")
        >>> "void digits(const float *x, float *y)" in open("model.c").read()
        True
        """
        from ..export import cfile, described

        with self.turns.state:
            model = described(self, link)
        text = cfile.source([model], name)
        with written(path, "w", encoding="utf-8") as file:
            file.write(text)

    # --- inside

    def _session(self, use, batch, behind=NOTHING):
        """The session of a use, kept from call to call while nothing that shaped it has changed.

        behind: what stands behind its targets.
        """
        infers = use == "infer"
        if infers and behind is not NOTHING and any(behind):
            use = f"infer, {behind}"
        if infers and use in self._sessions:  # no option changes it, and a row is predicted in 5 us
            return self._sessions[use]
        frozen = () if infers else sessions.check(self)
        options = Options.of(self)
        slots, hook = options.slots(self.optimizer), self.gradient_hook is not None
        second = not infers and (options.stores or hook)
        shape = (batch, sessions.update_code(self), second, frozen, slots, behind)
        session = self._sessions.get(use)
        if session is None or session.shape != shape:
            sessions.check_slots(self)
            session = self._sessions[use] = sessions.open_session(
                self, batch, self.loss.code(self.net.sizes[-1]), self.slots, second, frozen, behind=behind,
            )  # fmt: skip
            session.shape = shape
        session.seed(self.seed)
        if not infers:
            averages.begin(self, frozen)
        return session

    def _trained(self) -> str:
        return f"{self.steps:,} steps, {self.epochs:,} epochs"

    def __repr__(self) -> str:
        return call(self, "batch_size") + (f" after {self._trained()}" if self.steps else "")

    def _repr_html_(self) -> str:
        shown = {"loss": self.loss, "optimizer": self.optimizer, "batch size": self.batch_size}
        shown |= {} if self.schedule is None else {"schedule": self.schedule}
        shown |= {name.replace("_", " "): value for name, value in Options.of(self).config().items()}
        shown |= {} if self.preparation is None else {"preparation": self.preparation}
        shown |= {"device": self.device, "trained": self._trained() if self.steps else "not yet"}
        rows = [("Trainer", ""), *shown.items()]
        return html_table(rows, left=2) + self.net._repr_html_()

    def __getstate__(self):
        """For copy and pickle: sessions are opened anew."""
        return {**self.__dict__, "_sessions": {}, "_step": None, "turns": None}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.turns = Turns()
        slots, self.slots = self.slots, arena(self.slots.size, self.net.dtype)
        self.slots[:] = slots


def load(path: FilePath, *, device: Device = "auto", threads: int | None = None) -> Trainer:
    """The Trainer that ``Trainer.save`` wrote; training goes on exactly where it stopped.

    Raises ValueError for a file that is not such a checkpoint, whose arrays do not fit, or whose checksum
    says that it is not as it was written; OSError for one that cannot be read.

    >>> trainer.save("model.safetensors")
    >>> trainer = fb.load("model.safetensors")  # in any other process
    >>> history = trainer.fit(X, y, epochs=1)
    """
    return checkpoint.load(Trainer, path, device, threads)
