"""Initial weights: by name, by an object, or from arrays; biases begin at 0.

An initializer is a function (rng, (fan_in, fan_out)) -> weights of that shape; rng: numpy.random.Generator.
Constructors raise ValueError for numbers out of range.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from .errors import ABOVE_0, check_field, named

if TYPE_CHECKING:
    from collections.abc import Callable

    from .types import Activation, Doubles, InitializerFunction, InitializerLike

    Draw: TypeAlias = Callable[[np.random.Generator, tuple[int, int]], Doubles]

__all__ = [
    "he_uniform", "he_normal", "xavier_uniform", "xavier_normal", "lecun_uniform", "lecun_normal",
    "Orthogonal", "Uniform", "Normal", "zeros", "by_activation",
]  # fmt: skip


def _bounded(variance: float, normal: bool) -> Draw:
    """Draws of this variance: normal, or uniform in +-sqrt(3 variance)."""
    deviation = sqrt(variance)

    def draw(rng: np.random.Generator, shape: tuple[int, int]) -> Doubles:
        if normal:
            return deviation * rng.standard_normal(shape)
        bound = sqrt(3.0) * deviation
        return rng.uniform(-bound, bound, shape)

    return draw


def _scaled(words: str, source: str, variance: Callable[[int, int], float]) -> tuple[Draw, Draw]:
    """(uniform, normal): weights (fan_in, fan_out) drawn with variance(fan_in, fan_out)."""

    def made(normal: bool) -> Draw:
        def initializer(rng: np.random.Generator, shape: tuple[int, int]) -> Doubles:
            return _bounded(variance(*shape), normal)(rng, shape)

        initializer.__doc__ = (
            f"Weights (fan_in, fan_out), {'normal' if normal else 'uniform'}, mean 0, variance {words} "
            f"({source})."
        )
        return initializer

    return made(False), made(True)


he_uniform, he_normal = _scaled("2 / fan_in", "He et al., ICCV 2015", lambda fan_in, fan_out: 2 / fan_in)
xavier_uniform, xavier_normal = _scaled(
    "2 / (fan_in + fan_out)",
    "Glorot and Bengio, AISTATS 2010",
    lambda fan_in, fan_out: 2 / (fan_in + fan_out),
)
lecun_uniform, lecun_normal = _scaled(
    "1 / fan_in", "LeCun et al., Efficient BackProp, 1998", lambda fan_in, fan_out: 1 / fan_in
)


@dataclass
class Uniform:
    """Uniform in [-bound, bound].

    >>> bool(abs(fb.MLP([9, 9], initializer=fb.initializers.Uniform(0.1), seed=0).weights[0]).max() <= 0.1)
    True
    """

    bound: float = 0.05

    def __post_init__(self) -> None:
        check_field(self, "bound", *ABOVE_0)

    def __call__(self, rng: np.random.Generator, shape: tuple[int, int]) -> Doubles:
        return rng.uniform(-self.bound, self.bound, shape)


@dataclass
class Normal:
    """Normal with mean 0 and standard deviation ``std``.

    >>> fb.initializers.Normal(0.01)(np.random.default_rng(0), (3, 2)).shape
    (3, 2)
    """

    std: float = 0.05

    def __post_init__(self) -> None:
        check_field(self, "std", *ABOVE_0)

    def __call__(self, rng: np.random.Generator, shape: tuple[int, int]) -> Doubles:
        return self.std * rng.standard_normal(shape)


@dataclass
class Orthogonal:
    """gain times a random matrix with orthonormal rows, or columns, whichever are fewer.

    The QR factor of a normal matrix, signs by R's diagonal, so that it is uniform (Saxe et al., ICLR 2014).

    >>> W = fb.MLP([9, 4], initializer=fb.initializers.Orthogonal(), seed=0).weights[0]
    >>> bool(np.allclose(W.T @ W, np.eye(4), atol=1e-6))
    True
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        check_field(self, "gain", *ABOVE_0)

    def __call__(self, rng: np.random.Generator, shape: tuple[int, int]) -> Doubles:
        long, short = max(shape), min(shape)
        q, r = np.linalg.qr(rng.standard_normal((long, short)))
        q *= np.where(np.diag(r) < 0, -1.0, 1.0)
        return self.gain * (q if shape[0] >= shape[1] else q.T)


def zeros(rng: np.random.Generator, shape: tuple[int, int]) -> Doubles:
    """Zeros: all units of a hidden layer stay alike; for comparisons and output layers.

    >>> fb.MLP([2, 2], initializer="zeros").weights[0].tolist()
    [[0.0, 0.0], [0.0, 0.0]]
    """
    return np.zeros(shape)


INITIALIZERS: dict[str, InitializerFunction] = {
    "he_uniform": he_uniform,
    "he_normal": he_normal,
    "xavier_uniform": xavier_uniform,
    "xavier_normal": xavier_normal,
    "lecun_uniform": lecun_uniform,
    "lecun_normal": lecun_normal,
    "orthogonal": Orthogonal(),
    "uniform": Uniform(),
    "normal": Normal(),
    "zeros": zeros,
}
_HE = ("relu", "leaky_relu", "prelu", "elu", "celu", "gelu", "gelu_tanh", "silu", "mish", "softplus",
       "hardswish")  # fmt: skip


def by_activation(name: Activation) -> InitializerFunction:
    """What fits an activation: He et al. (ICCV 2015) for relu and its kin, LeCun's for selu (Klambauer et
    al., NIPS 2017), uniform of variance 2 / fan_in for sin (Sitzmann et al., NeurIPS 2020), else Glorot and
    Bengio (AISTATS 2010).

    >>> fb.initializers.by_activation("selu") is fb.initializers.lecun_normal
    True
    """
    if name in _HE or name == "sin":
        return he_uniform
    return lecun_normal if name == "selu" else xavier_uniform


def initializer(spec: InitializerLike | None) -> InitializerFunction | None:
    """A function (rng, (fan_in, fan_out)) -> weights for a name or such a function; None for None.

    Raises ValueError for an unknown name, TypeError otherwise.
    """
    if isinstance(spec, str):
        return INITIALIZERS[named("initializer", spec, INITIALIZERS)]
    if spec is None or callable(spec):
        return spec
    raise TypeError(
        f"initializer: got {spec!r}, takes None, a name, a function (rng, shape) -> weights, or arrays "
        "[(W, b), ...], one pair a layer"
    )


def fill(net: Any, spec: InitializerLike | None, rng: np.random.Generator) -> None:
    """Give an MLP its initial weights; see there. Raises ValueError or TypeError, naming the argument."""
    if isinstance(spec, (list, tuple)):
        _copy(net, spec)
        return
    drawn = initializer(spec)
    for i, (w, b) in enumerate(zip(net.weights, net.biases, strict=True)):
        name = net.activations[i] if i < len(net.activations) else "identity"
        values = np.asarray((drawn or by_activation(name))(rng, w.shape))
        if values.shape != w.shape:
            raise ValueError(f"initializer: got shape {values.shape} for layer {i}, takes {w.shape}")
        w[:], b[:] = values, 0


def _copy(net: Any, pairs: Any) -> None:
    if len(pairs) != len(net.weights):
        raise ValueError(f"initializer: got {len(pairs)} layers, takes {len(net.weights)} pairs (W, b)")
    for i, pair in enumerate(pairs):
        try:
            w, b = (np.asarray(a, np.float64) for a in pair)
        except (TypeError, ValueError):
            raise TypeError(f"initializer: got {type(pair).__name__} for layer {i}, takes (W, b)") from None
        if w.shape != net.weights[i].shape or b.shape != net.biases[i].shape:
            raise ValueError(
                f"initializer: got shapes {w.shape}, {b.shape} for layer {i}, takes {net.weights[i].shape}, "
                f"{net.biases[i].shape}"
            )
        if not (np.isfinite(w).all() and np.isfinite(b).all()):
            raise ValueError(f"initializer: got NaN or inf for layer {i}, takes finite numbers")
        net.weights[i][:], net.biases[i][:] = w, b
