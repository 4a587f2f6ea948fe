"""Autoencoders: networks that give back their input through a narrow layer, the code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..callbacks import Callback
from ..data import checks
from ..engine.samples import in_own_units
from ..errors import BELOW_1, FROM_0, flag, number
from ..network.mlp import MLP
from ..training.fitting import split
from ..training.trainer import Trainer

if TYPE_CHECKING:
    from ..engine.history import History
    from ..losses.base import LossLike
    from ..types import Activation, Dtype, Features, Floats, Seed


class Autoencoder:
    """An MLP sizes[0] - ... - sizes[-1] - ... - sizes[0], trained to give back its input.

    Parameters
    ----------
    sizes : sequence of int
        Inputs, hidden widths, width of the code: [784, 256, 32]. The decoder mirrors them.
    tied : bool
        The decoder's weights are the encoder's, transposed (Vincent et al. 2010). Each step's
        gradient is that of the shared weights, exactly: both uses' sum. It leaves the compiled epoch
        once a step, so small networks pay for it; docs/fitting.md has the figure.
    noise : float
        Standard deviation of normal noise on the inputs of training, drawn anew for every epoch.
    mask : float
        Share of the inputs that is set to 0 instead (Vincent et al. 2008). Both make the denoising
        autoencoder: noisy in, clean out. The same seed draws the same noise.
    activation, code_activation : str
        Of the hidden layers, and of the code.
    loss, seed, dtype, and **options : as Trainer and MLP take them.

    Attributes: ``net``, ``trainer``: all of Trainer works on them. Raises ValueError or TypeError, naming
    the argument; with tied=True also for options that treat the layers one by one.

    >>> coder = fb.Autoencoder([4, 3, 2], tied=True, noise=0.1, seed=0, batch_size=2)
    >>> history = coder.fit(X, epochs=5)
    >>> coder.encode(X).shape, coder.reconstruct(X).shape, coder.decode(coder.encode(X)).shape
    ((4, 2), (4, 4), (4, 4))
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        tied: bool = False,
        noise: float = 0.0,
        mask: float = 0.0,
        activation: Activation = "relu",
        code_activation: Activation = "identity",
        loss: LossLike = "mse",
        seed: Seed = None,
        dtype: Dtype = "float32",
        **options: Any,
    ) -> None:
        number("noise", noise, FROM_0[0], "a number from 0 to below inf")
        number("mask", mask, *BELOW_1)
        tied = flag("tied", tied)
        for name in ("clip_norm", "clip_layer_norm", "lr_factors", "max_norm", "accumulate") if tied else ():
            if options.get(name) is not None:
                raise ValueError(f"{name}: got it with tied=True, where two layers share their weights")
        sizes = list(sizes)
        self.half = len(sizes) - 1  # layers of the encoder
        names = [activation] * (self.half - 1)
        self.net = MLP(
            [*sizes, *sizes[-2::-1]], [*names, code_activation, *names], seed=seed, dtype=dtype
        )  # fmt: skip
        self.trainer = Trainer(self.net, loss, seed=seed, **options)
        self.tied, self.noise, self.mask = tied, float(noise), float(mask)
        if tied:
            self.trainer.gradient_hook = self._tie
            for encoder, decoder in self._shared(self.net.weights):
                decoder[:] = encoder.T

    def _shared(self, weights):
        return [(weights[k], weights[-1 - k]) for k in range(self.half)]

    def _tie(self, gradients):
        for encoder, decoder in self._shared([dw for dw, _ in gradients]):
            encoder += decoder.T
            decoder[:] = encoder.T

    def fit(
        self,
        X: Any,
        epochs: int | None = None,
        *,
        validation_data: Any = None,
        callbacks: Callback | Iterable[Callback] | None = None,
        **options: Any,
    ) -> History:
        """Train for some epochs more; returns History.

        X : (N, inputs). validation_data : (M, inputs), evaluated without noise. The rest as in
        Trainer.fit.
        """
        if options.get("validation_split") is not None and validation_data is None:
            start = split(options.pop("validation_split"), len(X))
            X, validation_data = X[:start], X[start:]
        if validation_data is not None:
            validation_data = validation_data, validation_data
        noisy = X
        callbacks = [callbacks] if isinstance(callbacks, Callback) else list(callbacks or ())
        if self.noise or self.mask:
            X = checks.features(X, self.net.sizes[0], self.net.dtype)
            noise = _Noise(self, X)
            noisy, callbacks = noise.noisy, [noise, *callbacks]
        return self.trainer.fit(
            noisy, X, epochs, validation_data=validation_data, callbacks=callbacks, **options
        )

    def encode(self, X: Features) -> Floats:
        """(N, code) codes of X (N, inputs), in the network's dtype."""
        return self.trainer.activations(X, self.half - 1)

    def decode(self, code: Features) -> Floats:
        """(N, inputs) what the decoder makes of codes (N, code), after the loss's link."""
        if not hasattr(self, "_decoder"):
            names = self.net.activations[self.half :]
            net = MLP(self.net.sizes[self.half :], names, seed=0, dtype=self.net.dtype)
            self._decoder = Trainer(net, self.trainer.loss, threads=self.trainer.threads)
        views = self.net.named_views(self.net.params)
        for full, view in self._decoder.net.named_views(self._decoder.net.params).items():
            name, k = full.split(".")
            view[:] = views[f"{name}.{self.half + int(k)}"]
        return in_own_units(self.trainer, self._decoder.predict(code))

    def reconstruct(self, X: Features) -> Floats:
        """(N, inputs): decode(encode(X)) of X (N, inputs)."""
        return self.trainer.predict(X)


class _Noise(Callback):
    """Keeps the array that training reads, and draws its noise: a function of the seed and the epoch."""

    def __init__(self, owner, X):
        self.owner, self.X = owner, X
        self.noisy = np.array(X, owner.net.dtype)

    def on_epoch_begin(self, epoch, logs=None):
        trainer, owner, noisy = self.trainer, self.owner, self.noisy
        rng = np.random.Generator(np.random.Philox(key=[trainer.seed, trainer.epochs]))
        noisy[:] = self.X
        if owner.noise:
            noisy += owner.noise * rng.standard_normal(noisy.shape, noisy.dtype)
        if owner.mask:
            noisy[rng.random(noisy.shape, np.float32) < owner.mask] = 0
