"""The peers, each behind one class: same data, same initial weights, same batches, same mathematics.

A peer is made for a case. reset() puts it back to the initial weights and a fresh optimizer; epoch()
trains on the batches that an order names; run() does several epochs. Where a peer has several ways
to do the same, the one that measured fastest is here. torch and JAX are in peers_compiled.
"""

import importlib
import importlib.util
import warnings

import numpy as np

SEED = 0  # of fastbp's shuffling, whose orders every peer follows

# name -> module of this folder, class, what has to be installed
PEERS = {
    "fastbp": ("peers", "Fastbp", "numba"),
    "numpy": ("peers", "Numpy", "numpy"),
    "torch": ("peers_compiled", "Torch", "torch"),
    "torch.compile": ("peers_compiled", "TorchCompile", "torch"),
    "jax": ("peers_compiled", "Jax", "jax"),
    "sklearn": ("peers", "Sklearn", "sklearn"),
}


def installed():
    """Names of the peers that are installed here, fastbp first."""
    return [name for name, (_, _, needs) in PEERS.items() if importlib.util.find_spec(needs)]


def chosen(args):
    """Names of the peers to run, fastbp first: --peers, NumPy alone for --quick, or all installed ones."""
    here = installed()
    names = args.peers.split(",") if args.peers else ["numpy"] if args.quick else here
    for name in names:
        if name not in PEERS:
            raise ValueError(f"peers: got {name!r}, takes {', '.join(PEERS)}")
        if name not in here:
            raise ValueError(f"peers: {name} is not installed: pip install '.[compare]' brings them all")
    return ["fastbp"] + [name for name in PEERS if name in names and name != "fastbp"]


def load(name):
    """The class of a peer. Raises ImportError where it is not installed."""
    module, kind, _ = PEERS[name]
    return getattr(importlib.import_module(f".{module}", __package__), kind)


class Unsupported(Exception):
    """A peer cannot do what a case asks for."""


class Peer:
    """What all peers share. X, y: the case's data; threads: how many it may use."""

    note = ""  # how it is used, and where its mathematics differ

    def __init__(self, case, X, y, threads):
        self.case, self.X, self.y, self.threads = case, X, y, threads
        self.build()

    def build(self):
        """Make the network; called once."""
        raise NotImplementedError

    def reset(self):
        """The case's initial weights, a fresh optimizer."""
        raise NotImplementedError

    def epoch(self, order):
        """Train on case.batch samples after the other in this order; the epoch's mean loss."""
        raise NotImplementedError

    def run(self, orders):
        """Several epochs; their mean losses."""
        return [self.epoch(order) for order in orders]


class Fastbp(Peer):
    """fastbp.Trainer, called once for all epochs of a run, as its users do."""

    note = "Trainer.fit; draws its order inside the timed part, the others get it"

    def build(self):
        import fastbp as fb

        case = self.case
        kind = {"adam": fb.Adam, "sgd": fb.SGD}[case.optimizer]
        self.net = fb.MLP(case.sizes, case.activation, seed=0)
        self.trainer = fb.Trainer(self.net, case.loss, kind(case.lr), case.batch, seed=SEED)

    def reset(self):
        for W, b, (W0, b0) in zip(self.net.weights, self.net.biases, self.case.weights(), strict=True):
            W[:], b[:] = W0, b0
        self.trainer.slots[:] = 0
        self.trainer.steps = self.trainer.epochs = 0  # of epochs: the same orders again

    def epoch(self, order):
        return self.run([order])[0]

    def run(self, orders):
        return self.trainer.fit(self.X, self.y, epochs=len(orders), verbose=0).history["loss"]

    @staticmethod
    def orders(count, epochs):
        """The orders in which a fresh Trainer visits ``count`` samples, epoch by epoch.

        They depend on its seed, the epoch and the count alone, so a small network tells them.
        """
        import fastbp as fb

        trainer = fb.Trainer(fb.MLP([1, 1], seed=0), "mse", "sgd", count, seed=SEED)
        X = np.zeros((count, 1), np.float32)
        found = []
        for _ in range(epochs):
            trainer.fit(X, X, verbose=0)
            found.append(trainer._sessions["train"].order.astype(np.int64))
        return found


class Numpy(Peer):
    """NumPy, as fast as it allows: see numpy_baseline."""

    note = "preallocated, out= everywhere, the optimizer in cache-sized blocks"

    def build(self):
        from . import numpy_baseline

        case = self.case
        if case.activation not in ("relu", "tanh"):
            raise Unsupported(f"NumPy has no {case.activation}")
        self.net = numpy_baseline.NumpyMLP(
            case.sizes, case.activation, case.loss, {"adam": "Adam", "sgd": "SGD"}[case.optimizer], case.lr
        )

    def reset(self):
        self.net.reset(self.case.weights())

    def epoch(self, order):
        return self.net.epoch(self.X, self.y, order, self.case.batch)


class Sklearn(Peer):
    """scikit-learn's MLPClassifier: an epoch is one partial_fit of the data in the epoch's order."""

    note = "one partial_fit an epoch; its Adam puts eps before the bias correction"

    def build(self):
        from sklearn.neural_network import MLPClassifier

        case = self.case
        if case.loss != "cross_entropy" or case.activation not in ("relu", "tanh"):
            raise Unsupported(f"scikit-learn has no {case.activation} with {case.loss}")
        options = {"momentum": 0.0, "nesterovs_momentum": False} if case.optimizer == "sgd" else {}
        self.net = MLPClassifier(
            case.sizes[1:-1],
            activation=case.activation,
            solver=case.optimizer,
            alpha=0.0,
            batch_size=case.batch,
            learning_rate_init=case.lr,
            shuffle=False,
            **options,
        )
        # One-hot targets: two classes would have a network of one output. They make the output
        # logistic, which is set back to softmax, and the loss follows.
        self.y = np.eye(case.sizes[-1], dtype=np.int64)[self.y]
        self.net.partial_fit(self.X[: case.batch], self.y[: case.batch], classes=np.arange(case.sizes[-1]))
        self.net.out_activation_ = "softmax"

    def reset(self):
        for W, b, (W0, b0) in zip(self.net.coefs_, self.net.intercepts_, self.case.weights(), strict=True):
            W[:], b[:] = W0, b0
        if hasattr(self.net, "_optimizer"):
            del self.net._optimizer  # the next partial_fit makes a fresh one

    def epoch(self, order):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.net.partial_fit(self.X[order], self.y[order])
        return self.net.loss_
