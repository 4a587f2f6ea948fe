"""Trainer: a network, a loss and an optimizer, run by the compiled program."""

import operator
import os
import sys
import time

from . import backend, checkpoint, data
from .history import History
from .kernels import codes
from .layout import arena
from .mlp import MLP
from .optimizers import optimizer as make_optimizer
from .plan import Plan

INFERENCE_BATCH = 256  # rows at once in evaluate and predict; the results do not depend on it


def _whole(name, value, least=1, most=2**63 - 1):
    takes = f"takes a whole number from {least}" + (" on" if most >= 2**62 else f" to {most}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: got {value!r}, {takes}") from None
    if not least <= number <= most:
        raise ValueError(f"{name}: got {number}, {takes}")
    return number


class Trainer:
    """Train an MLP: every step runs in one compiled program, the same for all networks.

    Parameters
    ----------
    net : MLP
        Its parameters are trained in place.
    loss : str
        "cross_entropy" (labels or probabilities), "bce_with_logits", "mse", "mae", "huber":
        torch.nn's formulas, means over samples and, but for cross_entropy, outputs.
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
        self.loss = loss
        self._loss_code = data.loss_code(loss)
        if self._loss_code == codes.CROSS_ENTROPY:
            data.check_classes(net.sizes[-1])
        self.optimizer = make_optimizer(optimizer)
        self.batch_size = _whole("batch_size", batch_size)
        self.device = backend.device(device)
        limit = backend.max_threads()
        if threads is not None and _whole("threads", threads) > limit:
            raise ValueError(
                f"threads: got {threads}, takes 1 to {limit} (cores of this process, or NUMBA_NUM_THREADS)"
            )
        self.threads = threads
        self.seed = int.from_bytes(os.urandom(4), "little") if seed is None else _whole("seed", seed, 0)
        if clip_norm is not None and not (
            isinstance(clip_norm, (int, float)) and 0 < clip_norm < float("inf")
        ):
            raise ValueError(f"clip_norm: got {clip_norm!r}, takes a number above 0, or None")
        self.clip_norm = clip_norm
        self.slots = arena(net.params.size * self.optimizer.slots, net.dtype)
        self.steps = 0  # updates made so far
        self.epochs = 0  # epochs begun so far: each has its own shuffled order
        self.history = History()  # of the last fit, also of one that was interrupted
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
        epochs=1,
        *,
        validation_data=None,
        shuffle=True,
        sample_weight=None,
        verbose="auto",
    ):
        """Train for some epochs more; a second call goes on where the first stopped.

        X : (N, inputs), any numeric dtype and layout, read in place. y : (N,) integer labels,
        (N, outputs) one-hot, probabilities or numbers, (N,) numbers for one output.
        validation_data : (X, y) to evaluate after each epoch. sample_weight : (N,) weights >= 0, or
        None; a batch's loss is their weighted mean. verbose : 0 quiet, 1 progress bar, "auto" a bar
        where stderr is a terminal.

        Returns History. Raises ValueError or TypeError before anything changes if the data does not
        fit; FloatingPointError, with the weights as they were before that step, when the loss is no
        longer finite.
        """
        epochs = _whole("epochs", epochs, 0)
        X, code, y = self._checked(X, y)
        weight = data.weights(sample_weight, len(X), self.net.dtype)
        if validation_data is not None:
            validation_data = self._checked_pair(validation_data)
        if verbose not in (0, 1, True, False, "auto"):
            raise ValueError(f"verbose: got {verbose!r}, takes 0, 1 or 'auto'")
        batch = min(_whole("batch_size", self.batch_size), len(X))
        session = self._session("train", batch)
        steps = -(-len(X) // batch)
        self.history = history = History()
        scores = code in (codes.CROSS_ENTROPY, codes.SOFT_CROSS_ENTROPY, codes.BCE_WITH_LOGITS)
        with session.lock, _Progress(epochs, len(X), verbose) as progress:
            session.set_loss(code)
            session.hyper[:] = self._hyper()
            session.bind(X, y, weight)
            for epoch in range(epochs):
                began = time.perf_counter()
                if shuffle:
                    session.shuffle(self.seed, self.epochs)
                self.epochs += 1
                before, session.done = self.steps, 0
                try:
                    for done, loss, mass, hits in session.windows(codes.TRAIN, steps, before):
                        seen = min(done * batch, len(X))
                        right = hits / self._answers(seen, code) if scores and seen else None
                        progress.update(epoch, seen, loss / mass if mass else 0.0, right)
                finally:
                    self.steps = before + session.done
                if done < steps:
                    self._diverged(loss, epoch, done)
                record = {"loss": float(loss / mass) if mass else 0.0}
                if scores:
                    record["accuracy"] = right
                if validation_data is not None:
                    record |= {f"val_{k}": v for k, v in self._evaluate(*validation_data, None).items()}
                record["seconds"] = time.perf_counter() - began
                history.append(**record)
            session.release()
        return history

    def _diverged(self, loss, epoch, step):
        raise FloatingPointError(
            f"loss: became {loss} (it or its gradient's norm) in step {step + 1} of epoch {epoch + 1} of "
            f"this fit; the weights are as before that step. Takes a finite loss: try a lower lr (now "
            f"{self.optimizer.lr}), standardised inputs, or clip_norm"
        )

    def _answers(self, rows, code):
        return rows * (self.net.sizes[-1] if code == codes.BCE_WITH_LOGITS else 1)

    # --- using

    def evaluate(self, X, y, sample_weight=None):
        """{"loss": mean loss, "accuracy": share of right answers (classes only)} on X, y as in fit."""
        X, code, y = self._checked_pair((X, y))
        return self._evaluate(X, code, y, data.weights(sample_weight, len(X), self.net.dtype))

    def _checked_pair(self, pair):
        try:
            X, y = pair
        except (TypeError, ValueError):
            raise ValueError(f"validation_data: got {type(pair).__name__}, takes (X, y)") from None
        return self._checked(X, y)

    def _checked(self, X, y):
        """(X, loss code, y) as the program reads them; see data.py for what is raised."""
        X = data.features(X, self.net.sizes[0], self.net.dtype)
        return X, *data.targets(y, self.loss, len(X), self.net.sizes[-1], self.net.dtype)

    def _evaluate(self, X, code, y, weight):
        session = self._session("infer", INFERENCE_BATCH)
        with session.lock:
            session.set_loss(code)
            session.bind(X, y, weight)
            steps = -(-len(X) // INFERENCE_BATCH)
            *_, (_, loss, mass, hits) = session.windows(codes.EVALUATE, steps)
            session.release()
        result = {"loss": float(loss / mass) if mass else 0.0}
        if code in (codes.CROSS_ENTROPY, codes.SOFT_CROSS_ENTROPY, codes.BCE_WITH_LOGITS):
            result["accuracy"] = hits / self._answers(len(X), code)
        return result

    def predict(self, X):
        """(N, outputs) after the loss's link: softmax, sigmoid, or the outputs themselves."""
        return self._outputs(X, codes.PREDICT)

    def forward(self, X):
        """(N, outputs) of the last layer, before the link: logits."""
        return self._outputs(X, codes.FORWARD)

    def _outputs(self, X, mode):
        X = data.features(X, self.net.sizes[0], self.net.dtype, finite=False)
        session = self._session("infer", INFERENCE_BATCH)
        with session.lock:
            out, bad = session.infer(mode, X)
        if bad:  # the kernel has seen it; here it is said where
            data.check_finite("X", X, self.net.dtype)
        return out

    def gradients(self, X, y, sample_weight=None):
        """(loss, [(dW, db), ...]): the mean loss over all of X and its exact gradients.

        dW (fan_in, fan_out) and db (fan_out,), one pair a layer, in the network's dtype.
        """
        X, code, y = self._checked_pair((X, y))
        weight = data.weights(sample_weight, len(X), self.net.dtype)
        grads = arena(self.net.params.size, self.net.dtype)
        session = self._open(len(X), code, grads)
        session.bind(X, y, weight)
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

    # --- files

    def save(self, path):
        """Write network, optimizer state, counters and seed to one .safetensors file, atomically."""
        checkpoint.save(self, path)

    # --- inside

    def _session(self, use, batch):
        """The session of a use, kept from call to call while nothing that shaped it has changed."""
        shape = (batch, self.optimizer.code, bool(self.clip_norm))
        session = self._sessions.get(use)
        if session is None or session.shape != shape:
            if self.slots.size != self.optimizer.slots * self.net.params.size:
                raise ValueError(
                    f"optimizer: {self.optimizer} keeps {self.optimizer.slots} numbers per parameter, "
                    "not what this trainer began with; takes a new Trainer"
                )
            session = self._sessions[use] = self._open(batch, self._loss_code, self.slots)
            session.shape = shape
        return session

    def _open(self, batch, code, slots):
        threads = backend.most_threads(self.net, batch, self.threads)
        plan = Plan(self.net, code, self.optimizer.code, batch, threads, gradient=bool(self.clip_norm))
        return backend.Session(
            self.net.params, slots, plan, self._hyper(), threads,
            fixed=self.threads is not None, work=backend.step_work(self.net, batch),
        )  # fmt: skip

    def __getstate__(self):
        """For copy and pickle: sessions are opened anew."""
        return {**self.__dict__, "_sessions": {}}

    def __setstate__(self, state):
        self.__dict__.update(state)
        slots, self.slots = self.slots, arena(self.slots.size, self.net.dtype)
        self.slots[:] = slots

    def _hyper(self):
        table = self.optimizer.hyper()
        table[codes.H_CLIP_NORM] = self.clip_norm or 0.0
        return table


class _Progress:
    """A tqdm bar over all samples of a fit, or nothing."""

    def __init__(self, epochs, rows, verbose):
        show = sys.stderr.isatty() if verbose == "auto" else bool(verbose)
        self.epochs, self.rows, self.bar, self.next = epochs, rows, None, 0.0
        if show and epochs:
            from tqdm import tqdm

            self.bar = tqdm(total=epochs * rows, unit=" samples", unit_scale=True, mininterval=0.1)

    def __enter__(self):
        return self

    def update(self, epoch, rows, loss, accuracy):
        """``rows`` of this epoch are done; draws at most ten times a second, and at the end."""
        if self.bar is None:
            return
        done = epoch * self.rows + rows
        now = time.monotonic()
        if now < self.next and done < self.epochs * self.rows:
            return
        self.next = now + 0.1
        text = f"epoch {epoch + 1}/{self.epochs}"
        values = f"loss {loss:.4f}" + ("" if accuracy is None else f", accuracy {accuracy:.4f}")
        self.bar.set_description_str(text, refresh=False)
        self.bar.set_postfix_str(values, refresh=False)
        self.bar.update(done - self.bar.n)

    def __exit__(self, *error):
        if self.bar is not None:
            self.bar.close()
