"""Extreme learning machines: a random hidden layer, and an output layer in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data import checks
from ..errors import ABOVE_0, number
from ..kernels import codes
from ..losses import MSE, CrossEntropy
from ..network.mlp import MLP
from ..training.trainer import Trainer

if TYPE_CHECKING:
    from typing import Literal

    from ..types import Activation, Array, Dtype, Features, Seed, Targets

BLOCK_ROWS = 1 << 14  # whose hidden outputs are held at a time


class ELM:
    """A network with one random hidden layer whose output layer is ridge regression's solution.

    beta = (H'H + alpha I)^-1 H'T on the hidden outputs H and the targets T, both centred: the bias is
    not penalised (Huang, Zhu and Siew 2006; Hoerl and Kennard 1970). A baseline: it learns no features.

    sizes : [inputs, hidden, outputs]. task : "classification" of integer labels, one output per class,
    least squares on +-1, or "regression". alpha : penalty, above 0. Attributes: ``net``; ``trainer``
    can go on from the solution. Raises ValueError naming the argument.

    >>> elm = fb.ELM([4, 50, 4], seed=0).fit(X, y)
    >>> elm.predict(X).tolist()
    [0, 1, 2, 3]
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        task: Literal["classification", "regression"] = "classification",
        alpha: float = 1e-3,
        activation: Activation = "tanh",
        seed: Seed = None,
        dtype: Dtype = "float32",
    ) -> None:
        if task not in ("classification", "regression"):
            raise ValueError(f"task: got {task!r}, takes 'classification' or 'regression'")
        penalty = number("alpha", alpha, *ABOVE_0)
        sizes = list(sizes)
        if len(sizes) != 3:
            raise ValueError(f"sizes: got {sizes}, takes [inputs, hidden, outputs]")
        self.task, self.alpha = task, penalty
        self.net = MLP(sizes, activation, seed=seed, dtype=dtype)
        rng = np.random.Generator(np.random.PCG64(seed))
        width = np.sqrt(3 / sizes[0])  # standardised inputs reach the units with variance 1, as they are
        self.net.weights[0][:] = rng.uniform(-width, width, sizes[:2])
        self.net.biases[0][:] = rng.uniform(-1, 1, sizes[1])  # without them all units meet in 0
        self.trainer = Trainer(self.net, "mse", seed=seed)

    def fit(self, X: Features, y: Targets) -> ELM:
        """Solve for the output layer: X (N, inputs), y (N,) labels or (N,), (N, outputs) numbers.

        Exact in float64, in one pass over the data. Returns self. Raises as Trainer.fit does.
        """
        if self.trainer.preparation is not None:
            raise ValueError("trainer: has a preparation, with which ELM has no solution; takes none")
        inputs, _, outputs = self.net.sizes
        rows = checks.features(X, inputs, self.net.dtype)
        classes = self.task == "classification"
        loss = CrossEntropy() if classes else MSE()
        code, targets = checks.targets(y, loss, len(rows), outputs, self.net.dtype)
        hidden = self.net.sizes[1]
        products, cross = np.zeros((hidden, hidden)), np.zeros((hidden, outputs))
        # centred on the first block's means: close enough that nothing cancels
        origin: Any = None
        target_origin: Any = None
        sums, target_sums = np.zeros(hidden), np.zeros(outputs)
        for start in range(0, len(rows), BLOCK_ROWS):
            H = self.trainer.activations(rows[start : start + BLOCK_ROWS], 0).astype(np.float64)
            T = self._targets(targets[start : start + BLOCK_ROWS], code, outputs)
            if origin is None:
                origin, target_origin = H.mean(0), T.mean(0)
            H -= origin
            T -= target_origin
            products += H.T @ H
            cross += H.T @ T
            sums += H.sum(0)
            target_sums += T.sum(0)
        products -= np.outer(sums, sums) / len(rows)
        cross -= np.outer(sums, target_sums) / len(rows)
        products[np.diag_indices(hidden)] += self.alpha
        beta = np.linalg.solve(products, cross)
        self.net.weights[1][:] = beta
        mean, target_mean = origin + sums / len(rows), target_origin + target_sums / len(rows)
        self.net.biases[1][:] = target_mean - mean @ beta
        return self

    @staticmethod
    def _targets(y, code, outputs):
        if code == codes.CROSS_ENTROPY:
            return np.where(y == np.arange(outputs), 1.0, -1.0)
        return y.astype(np.float64) if code == codes.MSE else 2.0 * y - 1

    def predict(self, X: Features) -> Array:
        """(N,) labels, or (N, outputs) numbers."""
        values = self.trainer.predict(X)
        return values.argmax(1) if self.task == "classification" else values
