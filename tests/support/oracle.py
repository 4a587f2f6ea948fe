"""Networks with everything that they may have, as kernels/reference.py takes them: for tests."""

import itertools

import numpy as np

import fastbp as fb
from fastbp.kernels import reference as ref

EVERYTHING = {  # for [6, 20, 20, 20, 3]
    "dropout": [0.2, 0.0, 0.5],
    "input_dropout": 0.1,
    "norm": ["layer", None, "batch"],
    "residual": [False, True, True],
    "embeddings": {1: (5, 3), 4: (9, 17)},
}
MIXED = ["silu", "prelu", "prelu"]  # its three activations
SMOOTH = ["tanh", "gelu", "silu", "sigmoid", "identity"]


def mixed(rng, rows, inputs, embedded, dtype):
    """X with whole numbers in the embedded columns."""
    X = rng.standard_normal((rows, inputs)).astype(dtype)
    for column, categories, _ in embedded:
        X[:, column] = rng.integers(0, categories, rows)
    return X


def shaken(net, rng):
    """The network with biases, gains, shifts and slopes that are not 0, 1 and 0.25."""
    for name in ("biases", "gains", "shifts", "slopes"):
        for view in getattr(net, name):
            if view is not None:
                view[:] = rng.standard_normal(view.shape) + (name == "gains")
    return net


class Oracle:
    """A network's parameters as the reference takes them, in float64.

    dtype : float32 shows what rounding does to the reference itself.
    """

    def __init__(self, net, dtype=np.float64):
        self.dtype = dtype
        self.activations, self.norms, self.skips = net.activations, net.norms, net.skips
        views = {k: v.astype(dtype) for k, v in net.named_views(net.params).items()}
        names = ("weights", "biases", "gains", "shifts", "slopes")
        count = len(net.layers)
        self.params = [tuple(views[f"{n}.{k}"] for n in names if f"{n}.{k}" in views) for k in range(count)]
        self.tables = {c: views[f"embeddings.{j}"] for j, (c, _, _) in enumerate(net.embedded)}
        self.rates, self.input_rate = net.dropouts, net.input_dropout
        self.widths = [w.shape[1] for w in net.weights[:-1]]
        self.statistics = [
            (views[f"running_means.{k}"], views[f"running_vars.{k}"]) if n == "batch" else None
            for k, n in enumerate(self.norms)
        ]

    def masks(self, rows, seed, step):
        """(of the inputs, of each hidden layer) in a training step; step 0: none."""
        if step == 0:
            return 1, [1] * len(self.widths)
        width = len(self.params[0][0])
        hidden = enumerate(zip(self.rates, self.widths, strict=True), 1)
        return ref.dropout_mask(self.input_rate, seed, step, 0, rows, width).astype(self.dtype), [
            ref.dropout_mask(rate, seed, step, place, rows, columns).astype(self.dtype)
            for place, (rate, columns) in hidden
        ]

    def gradients(self, X, y, loss, seed=0, step=0, weight=None, frozen=(), **constants):
        """(loss, all gradients as one array): layer by layer, then the tables; 0 for frozen layers."""
        value, grads = self.gradient_arrays(X, y, loss, seed, step, weight, frozen, **constants)
        return value, flat(grads)

    def gradient_arrays(self, X, y, loss, seed=0, step=0, weight=None, frozen=(), **constants):
        """The same, the gradients as a list in the order of ``arrays``. constants: the loss's."""
        X = X.astype(self.dtype)
        first, masks = self.masks(len(X), seed, step)
        x = (ref.embed(X, self.tables) if self.tables else X) * first
        value, grads, dx = ref.layers_gradients(
            self.params, x, y, self.activations, loss, self.norms, self.skips, masks, sample_weight=weight,
            statistics=self._fixed(frozen), **constants,
        )  # fmt: skip
        for k in frozen:
            grads[k] = tuple(np.zeros_like(g) for g in grads[k])
        dx = 0 * dx if 0 in frozen else dx
        tables = ref.embed_gradients(X, self.tables, dx * first) if self.tables else {}
        return value, [*itertools.chain(*grads), *(tables[c] for c in sorted(tables))]

    def move(self, direction, step):
        """All parameters += step * direction, an array for each."""
        for p, d in zip(self.arrays(), direction, strict=True):
            p += step * d

    def arrays(self):
        return [*itertools.chain(*self.params), *(self.tables[c] for c in sorted(self.tables))]

    def _fixed(self, frozen):
        """The running statistics, of frozen layers alone."""
        return [s if k in frozen else None for k, s in enumerate(self.statistics)]

    def layers(self, X, seed, step, frozen=()):
        """Forward in a training step: what ref.layers_forward gives."""
        X = X.astype(self.dtype)
        first, masks = self.masks(len(X), seed, step)
        x = (ref.embed(X, self.tables) if self.tables else X) * first
        fixed = self._fixed(frozen)
        return ref.layers_forward(self.params, x, self.activations, self.norms, self.skips, masks, fixed)

    def outputs(self, X, seed=0, step=0):
        """Outputs as evaluate and predict make them: running statistics; what a step drops, of 0 nothing."""
        return self.inferred(X, seed, step)[-1]["a"]

    def inferred(self, X, seed=0, step=0):
        """Every layer of that: what ref.layers_forward gives."""
        X = X.astype(self.dtype)
        first, masks = self.masks(len(X), seed, step)
        x = (ref.embed(X, self.tables) if self.tables else X) * first
        return ref.layers_forward(
            self.params, x, self.activations, self.norms, self.skips, masks, self.statistics
        )


def flat(arrays):
    return np.concatenate([np.ravel(a) for a in arrays]).astype(float)


def trained(net):
    """All that is trained, in the oracle's order."""
    return flat(Oracle(net).arrays())


def ours(net, grads):
    """The trainer's gradients in the oracle's order."""
    result = []
    for k, pair in enumerate(grads):
        result += pair
        if k < len(grads.gains):
            more = (grads.gains[k], grads.shifts[k], grads.slopes[k])
            result += [g for g in more if g is not None]
    return flat([*result, *grads.embeddings])


def numeric_gradient(params, f, eps=1e-6):
    result = []
    for p in params:
        g = np.zeros_like(p)
        for i in np.ndindex(p.shape):
            kept = p[i]
            p[i] = kept + eps
            up = f()
            p[i] = kept - eps
            g[i] = (up - f()) / (2 * eps)
            p[i] = kept
        result.append(g)
    return flat(result)


def one_step(net, X, y, loss, clip_norm, seed, before, hook=None, weight=None):
    """The gradient that a training step number before + 1 used: SGD with lr 1."""
    trainer = fb.Trainer(net, loss, fb.SGD(1.0), len(X), seed=seed, clip_norm=clip_norm)
    trainer.gradient_hook = hook
    trainer.steps = before
    start = trained(net)
    value = trainer.fit(X, y, shuffle=False, sample_weight=weight).history["loss"][0]
    return value, start - trained(net)
