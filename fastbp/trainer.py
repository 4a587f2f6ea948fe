"""Trainer: a network, a loss and an optimizer, run by the compiled program."""

import os

import numpy as np

from . import backend, checkpoint, data, fitting
from . import metrics as measures
from .errors import whole
from .history import History
from .kernels import codes
from .layout import arena
from .losses import loss as make_loss
from .mlp import MLP
from .optimizers import optimizer as make_optimizer
from .plan import Plan

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
        SGD, Adam or AdamW, or their names in lower case with default hyperparameters.
    batch_size : int
        Samples a step; the last batch of an epoch may be smaller and is trained on too.
    device : "auto", "cpu" or "cuda"
    threads : int or None
        Threads of a step; None measures, while it trains, whether all cores or one are faster. The
        result has the same bits for any.
    seed : int or None
        Seed of the shuffling; None draws one.
    clip_norm : float or None
        Scale the gradient to this global norm where it is larger (Pascanu et al. 2013). It takes the
        second path, which keeps all gradients in memory before the update.

    Raises ValueError, TypeError or RuntimeError for what does not fit, naming the argument.

    >>> import numpy as np
    >>> X, y = np.eye(4, dtype="float32"), [0, 1, 2, 3]
    >>> trainer = Trainer(MLP([4, 16, 4], seed=0), optimizer="adam", batch_size=4, seed=0)
    >>> trainer.fit(X, y, epochs=300, verbose=0).epochs, trainer.evaluate(X, y)["accuracy"]
    (300, 1.0)
    """

    def __init__(
        self,
        net,
        loss="cross_entropy",
        optimizer="adam",
        batch_size=32,
        *,
        device="auto",
        threads=None,
        seed=None,
        clip_norm=None,
    ):
        if not isinstance(net, MLP):
            raise TypeError(f"net: got {type(net).__name__}, takes an MLP")
        self.net = net
        self.loss = make_loss(loss)
        self.loss.check(net.sizes[-1])
        self.optimizer = make_optimizer(optimizer)
        self.batch_size = whole("batch_size", batch_size)
        self.device = backend.device(device)
        limit = backend.max_threads()
        if threads is not None and whole("threads", threads) > limit:
            raise ValueError(
                f"threads: got {threads}, takes 1 to {limit} (cores of this process, or NUMBA_NUM_THREADS)"
            )
        self.threads = threads
        self.seed = int.from_bytes(os.urandom(4), "little") if seed is None else whole("seed", seed, 0)
        if clip_norm is not None and not (
            isinstance(clip_norm, (int, float)) and 0 < clip_norm < float("inf")
        ):
            raise ValueError(f"clip_norm: got {clip_norm!r}, takes a number above 0, or None")
        self.clip_norm = clip_norm
        self.slots = arena(net.params.size * self.optimizer.slots, net.dtype)
        self.lr_scale = 1.0  # a factor on the learning rate, whatever gives it: ReduceLROnPlateau's
        self.gradient_hook = None  # f([(dW, db), ...]) between the gradients and the update of each step
        self.steps = 0  # updates made so far
        self.epochs = 0  # epochs begun so far: each has its own shuffled order
        self.history = History()  # of the last fit, also of one that was interrupted
        self.first_step, self.planned_steps = 0, None  # of the last fit: ``steps`` before it, its steps
        self.stop_training = False  # callbacks set it: the fit ends after this epoch
        self._sessions = {}

    @property
    def num_threads(self):
        """Threads that training steps use: fixed by ``threads``, else what was last found fastest."""
        if "train" in self._sessions:
            return self._sessions["train"].team.threads
        return backend.most_threads(self.net, self.batch_size, self.threads)

    @property
    def compile_seconds(self):
        """Seconds spent so far, in this process, on compiling the program or loading it from disk."""
        return backend.compile_seconds()

    # --- training

    def fit(
        self,
        X,
        y,
        epochs=None,
        *,
        seconds=None,
        validation_data=None,
        validation_split=None,
        metrics=None,
        callbacks=None,
        early_stopping=None,
        shuffle=True,
        sample_weight=None,
        verbose="auto",
    ):
        """Train for some epochs more; a second call goes on where the first stopped.

        X : (N, inputs), any numeric dtype and layout, read in place. y : (N,) integer labels,
        (N, outputs) one-hot, probabilities or numbers, (N,) numbers for one output.
        epochs : None is 1, or with ``seconds`` as many as they allow. seconds : stop after these, in the
        middle of an epoch if need be; they count from the first step, once the program is there.
        validation_data : (X, y) or (X, y, sample_weight) to evaluate after each epoch.
        validation_split : hold the last share of the rows out instead, as they lie, as Keras does; for
        shuffled or stratified ones see fastbp.prepare.stratified_split. metrics : names (see
        fastbp.metrics) or functions (y_true, prediction), of the validation data, else of X, after each
        epoch. callbacks : see fastbp.callbacks. early_stopping : end when val_loss has not improved for
        so many epochs (True: 10), with the best weights; or an EarlyStopping. sample_weight : (N,)
        weights >= 0, or None; a batch's loss is their weighted mean. verbose : 0 quiet, 1 progress
        bar, "auto" a bar where stderr is a terminal.

        Returns History. Ctrl-C ends the fit, says so and returns what there is: weights, counters and
        history belong together (``history.stopped``). Raises ValueError or TypeError before anything
        changes if the data does not fit; FloatingPointError, with the weights as they were before that
        step, when the loss is no longer finite.
        """
        return fitting.prepare(
            self, X, y, epochs, seconds, validation_data, validation_split, metrics, callbacks,
            early_stopping, shuffle, sample_weight, verbose,
        ).run()  # fmt: skip

    def train_on_batch(self, X, y, sample_weight=None):
        """One step on these rows, all of them as one batch; returns their loss before it (float).

        X, y, sample_weight as in fit; raises as fit does.
        """
        X, code, y = self._checked(X, y)
        kept = self._sessions.get("step")
        room = max(len(X), self.batch_size, kept.shape[0] if kept else 0)
        return self._stream("step", room, X, code, y, sample_weight)

    def partial_fit(self, X, y, sample_weight=None):
        """One pass over these rows as they lie, in steps of ``batch_size``; returns their mean loss.

        For data that comes in pieces; epochs are not counted. X, y, sample_weight as in fit.
        """
        X, code, y = self._checked(X, y)
        return self._stream("stream", self.batch_size, X, code, y, sample_weight)

    def _stream(self, use, batch, X, code, y, sample_weight):
        weight = data.weights(sample_weight, len(X), self.net.dtype)
        session = self._session(use, batch)
        with session.lock:
            session.hyper[:] = self._hyper()
            self._bind(session, X, code, y, weight)
            steps, before = -(-len(X) // batch), self.steps
            session.done = 0
            try:
                for done, loss, mass, _ in self._windows(session, steps, before):  # noqa: B007
                    pass
            finally:
                self.steps = before + session.done
                session.release()
        if done < steps:
            raise FloatingPointError(
                f"loss: became {loss} in step {done + 1} of these rows; the weights are as before that step"
            )
        return float(loss / mass) if mass else 0.0

    def _windows(self, session, steps, before):
        if self.gradient_hook is None:
            return session.windows(codes.TRAIN, steps, before)
        pairs = [self.net.views(session.gradient, k) for k in range(len(self.net.layers))]
        return session.combined(steps, before, lambda: self.gradient_hook(pairs))

    @staticmethod
    def _scores(code):
        """Whether the loss counts right answers."""
        return code in codes.RIGHT_BY_SAMPLE or code in codes.RIGHT_BY_OUTPUT

    def _answers(self, rows, code):
        return rows * (self.net.sizes[-1] if code in codes.RIGHT_BY_OUTPUT else 1)

    def _bind(self, session, X, code, y, weight):
        """Bind data, weights as the loss has them; returns the share of samples whose weight is not 0."""
        session.set_loss(code)
        made = self.loss.weights(weight, y, code)
        made = made if made is weight else data.weights(made, len(y), self.net.dtype)
        session.bind(X, y, made)
        return 1.0 if made is None else np.count_nonzero(made) / len(y)

    # --- using

    def evaluate(self, X, y, sample_weight=None, metrics=None):
        """{"loss": mean loss, "accuracy": share of right answers (classes only)} on X, y as in fit.

        metrics : names or functions as in fit, whose values are added.
        """
        X, code, y = self._checked(X, y)
        functions = measures.table(metrics)
        return self._evaluate(X, code, y, data.weights(sample_weight, len(X), self.net.dtype), functions)

    def _checked(self, X, y):
        """(X, loss code, y) as the program reads them; see data.py for what is raised."""
        X = data.features(X, self.net.sizes[0], self.net.dtype)
        return X, *data.targets(y, self.loss, len(X), self.net.sizes[-1], self.net.dtype)

    def _evaluate(self, X, code, y, weight, functions):
        session = self._session("infer", INFERENCE_BATCH)
        with session.lock:
            share = self._bind(session, X, code, y, weight)
            steps = -(-len(X) // INFERENCE_BATCH)
            *_, (_, loss, mass, hits) = session.windows(codes.EVALUATE, steps)
            session.release()
        result = {"loss": float(loss / mass) if mass else 0.0}
        if self._scores(code):
            result["accuracy"] = hits / self._answers(round(share * len(X)), code)
        if functions:
            measured = data.measure(functions, code, y, self.predict(X), weight)
            result |= {name: value for name, value in measured.items() if name not in result}
        return result

    def predict(self, X):
        """(N, outputs) after the loss's link: softmax for cross_entropy (and focal with labels), sigmoid for
        bce_with_logits and focal, exp for poisson_nll and gamma_nll, means and variances for gaussian_nll,
        else the outputs themselves.
        """
        return self._outputs(X, codes.PREDICT)

    def forward(self, X):
        """(N, outputs) of the last layer, before the link: logits."""
        return self._outputs(X, codes.FORWARD)

    def _outputs(self, X, mode):
        X = data.features(X, self.net.sizes[0], self.net.dtype, finite=False)
        session = self._session("infer", INFERENCE_BATCH)
        with session.lock:
            session.set_loss(self.loss.link_code(self.net.sizes[-1]))
            out, bad = session.infer(mode, X)
        if bad:  # the kernel has seen it; here it is said where
            data.check_finite("X", X, self.net.dtype)
        return out

    def activations(self, X, layer=-1):
        """(N, width) outputs of a hidden layer, after its activation; 0 is the first, -1 the last.

        Raises IndexError for a layer that is not there.
        """
        X = data.features(X, self.net.sizes[0], self.net.dtype)
        layer = range(len(self.net.layers) - 1)[layer]
        session = self._session("infer", INFERENCE_BATCH)
        out = np.empty((len(X), self.net.sizes[-1]), self.net.dtype)
        hidden = np.empty((len(X), self.net.sizes[layer + 1]), self.net.dtype)
        with session.lock:
            session.bind(X, out=out)
            for step in session.each(codes.FORWARD, -(-len(X) // INFERENCE_BATCH)):
                place = hidden[step * INFERENCE_BATCH :][:INFERENCE_BATCH]
                place[:] = session.layer_rows(layer, len(place))[0]
            session.release()
        return hidden

    def gradients(self, X, y, sample_weight=None):
        """(loss, [(dW, db), ...]): the mean loss over all of X and its exact gradients.

        dW (fan_in, fan_out) and db (fan_out,), one pair a layer, in the network's dtype.
        """
        X, code, y = self._checked(X, y)
        weight = data.weights(sample_weight, len(X), self.net.dtype)
        grads = arena(self.net.params.size, self.net.dtype)
        session = self._open(len(X), code, grads)
        self._bind(session, X, code, y, weight)
        [(_, loss, mass, _)] = session.windows(codes.GRADIENTS, 1)
        pairs = [self.net.views(grads, i) for i in range(len(self.net.layers))]
        return float(loss / mass), pairs

    def explain(self, seconds=0.5):
        """Where a training step's time goes: per layer and phase the time, GFLOP/s, share of the peak
        measured on this machine, bytes moved; the tile and the number of threads, and why.

        Runs for about ``seconds`` on random data and a copy of the weights. Returns an Explanation;
        print it.
        """
        from .explain import explain

        return explain(self, seconds)

    def diagnose(self, X, y, sample_weight=None, rows=1024):
        """How well gradients and activations flow: per layer, and what to try where they do not.

        X, y, sample_weight as in fit; at most ``rows`` of them, evenly spaced, are looked at as one
        batch. Nothing is changed. Returns a Diagnosis: print it, look at ``layers`` and ``warnings``,
        or ``plot(path)`` it.
        """
        from .diagnosis import diagnose

        return diagnose(self, X, y, sample_weight, rows)

    # --- files

    def save(self, path):
        """Write network, optimizer state, counters and seed to one .safetensors file, atomically."""
        checkpoint.save(self, path)

    # --- inside

    def _session(self, use, batch):
        """The session of a use, kept from call to call while nothing that shaped it has changed."""
        if use != "infer" and len(self.net.frozen) == len(self.net.layers):
            raise ValueError("net: got all layers frozen, takes one or more that train: net.unfreeze()")
        second = use != "infer" and (bool(self.clip_norm) or self.gradient_hook is not None)
        shape = (batch, self.optimizer.code, second, self.net.frozen)
        session = self._sessions.get(use)
        if session is None or session.shape != shape:
            if self.slots.size != self.optimizer.slots * self.net.params.size:
                raise ValueError(
                    f"optimizer: {self.optimizer} keeps {self.optimizer.slots} numbers per parameter, "
                    "not what this trainer began with; takes a new Trainer"
                )
            session = self._sessions[use] = self._open(
                batch, self.loss.code(self.net.sizes[-1]), self.slots, second, self.net.frozen
            )
            session.shape = shape
        return session

    def _open(self, batch, code, slots, second=False, frozen=(), params=None):
        threads = backend.most_threads(self.net, batch, self.threads)
        numbers = self.loss.numbers(self.net.sizes[-1])
        plan = Plan(self.net, code, self.optimizer.code, batch, threads, second, frozen, numbers)
        return backend.open_session(
            self.device, self.net.params if params is None else params, slots, plan, self._hyper(), threads,
            fixed=self.threads is not None, work=backend.step_work(self.net, batch),
        )  # fmt: skip

    def _snapshot(self):
        """What ``_restore`` takes to predict as now."""
        return self.net.params.copy()

    def _restore(self, state):
        self.net.params[:] = state

    def __getstate__(self):
        """For copy and pickle: sessions are opened anew."""
        return {**self.__dict__, "_sessions": {}}

    def __setstate__(self, state):
        self.__dict__.update(state)
        slots, self.slots = self.slots, arena(self.slots.size, self.net.dtype)
        self.slots[:] = slots

    def _hyper(self):
        table = self.optimizer.hyper()
        table[codes.H_LR] *= self.lr_scale
        table[codes.H_CLIP_NORM] = self.clip_norm or 0.0
        return table
