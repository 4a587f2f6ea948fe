"""MLPAutoencoder: a network that learns to give back its input through a narrow layer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted

from ..network.mlp import MLP
from ..training.trainer import Trainer
from .base import Estimator
from .losses import for_numbers
from .parameters import store

if TYPE_CHECKING:
    from typing import Literal

    from ..callbacks import Callback
    from ..optimizers import OptimizerLike
    from ..types import Activation, Array, Device, Features, Norm, SampleWeight


class MLPAutoencoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Estimator):
    """Learn a code of few numbers from which X can be rebuilt (Hinton and Salakhutdinov, Science 313, 2006).

    hidden_layer_sizes : the encoder's widths, the last one is the code's; the decoder mirrors them. The
    code's layer is linear, the others have ``activation``. The other parameters: as MLPRegressor's. It
    minimises the squared error between X and its reconstruction.

    transform(X) gives the code (N, code), inverse_transform rebuilds (N, features) from it;
    score(X) is minus the mean squared error. Attributes: as MLPRegressor's.

    >>> from fastbp.sklearn import MLPAutoencoder
    >>> X = np.outer(np.linspace(-1, 1, 40), [1.0, 2.0, -1.0])
    >>> model = MLPAutoencoder(1, activation="identity", solver="lbfgs", random_state=0).fit(X)
    >>> model.transform(X).shape, bool(model.score(X) > -1e-3)
    ((40, 1), True)
    """

    preset, embeddings, out_activation_ = None, None, "identity"

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100, 10),
        activation: Activation | Sequence[Activation] = "relu",
        *,
        solver: Literal["adam", "sgd", "lbfgs"] = "adam",
        alpha: float = 0.0001,
        batch_size: int | Literal["auto"] = "auto",
        learning_rate: Literal["constant", "invscaling", "adaptive"] = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: float | Sequence[float] = 0.0,
        norm: Norm | Sequence[Norm | None] | None = None,
        residual: bool | Sequence[bool] = False,
        ema: float | None = None,
        optimizer: OptimizerLike | None = None,
        callbacks: Iterable[Callback] | None = None,
        dtype: Literal["auto", "float32", "float64"] = "auto",
        device: Device = "auto",
        threads: int | None = None,
        n_jobs: int | None = None,
    ) -> None:
        store(locals())

    def fit(self, X: Features, y: object = None, sample_weight: SampleWeight = None) -> MLPAutoencoder:
        """Train on X (N, features); y is ignored. Returns self."""
        return self._fit(X, None, sample_weight)

    def _targets(self, X, y, incremental, reset):
        X = self._features(X, reset=reset)
        X = X.toarray() if sparse.issparse(X) else X
        self.n_outputs_ = X.shape[1]
        self._chosen_loss = for_numbers("squared_error", self.n_outputs_)
        return X, X

    def _sizes(self, inputs):
        widths = self._hidden()
        if not widths:
            raise ValueError("hidden_layer_sizes: got none, takes at least the code's width")
        return [inputs, *widths, *widths[-2::-1], inputs]

    def _activations(self):
        name, outer = self._names()[0], len(self._hidden()) - 1
        return [name] * outer + ["identity"] + [name] * outer

    def _score_of(self, outputs, y, sample_weight):
        return -float(np.average(np.square(outputs - y).mean(axis=1), weights=sample_weight))

    def _decoder(self):
        """The second half as a Trainer of its own, with today's weights."""
        net = self._trainer.net if self._p.ema is None else self._trainer.averaged_net()
        first = len(net.layers) // 2
        half = MLP(net.sizes[first:], net.activations[first:], norm=net.norms[first:],
                   residual=net.skips[first:], seed=0, dtype=net.dtype)  # fmt: skip
        whole = net.named_views(net.params)
        for full, mine in half.named_views(half.params).items():
            name, k = full.split(".")
            mine[...] = whole[f"{name}.{first + int(k)}"]
        return Trainer(half, "mse", device=self.device, threads=self._threads())

    @property
    def _n_features_out(self):
        return self._trainer.net.sizes[len(self._trainer.net.layers) // 2]

    def transform(self, X: Features) -> Array:
        """The code (N, code) of X (N, features)."""
        check_is_fitted(self)
        X = self._features(X, reset=False)
        return self._trainer.activations(X, len(self._trainer.net.layers) // 2 - 1)

    def inverse_transform(self, X: Features) -> Array:
        """(N, features) rebuilt from codes X (N, code)."""
        check_is_fitted(self)
        return self._decoder().forward(check_array(X))

    def reconstruct(self, X: Features) -> Array:
        """X (N, features) through both halves."""
        check_is_fitted(self)
        return self._outputs(self._features(X, reset=False))

    def score(self, X: Features, y: object = None, sample_weight: SampleWeight = None) -> float:
        """Minus the mean squared error of the reconstruction; y is ignored."""
        outputs, given = self.reconstruct(X), self._dense(X)
        return self._score_of(outputs, given, sample_weight)

    @staticmethod
    def _dense(X):
        return X.toarray() if sparse.issparse(X) else np.asarray(X)
