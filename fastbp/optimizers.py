"""Optimizers: torch.optim's names, formulas and defaults, as numbers for the compiled program."""

from dataclasses import asdict, dataclass

import numpy as np

from .errors import unknown
from .kernels import codes


def _require(owner, name, value, good, takes):
    if not isinstance(value, (int, float, np.number)) or isinstance(value, bool) or not good(value):
        raise ValueError(f"{owner} {name}: got {value!r}, takes {takes}")
    return float(value)


class Optimizer:
    """What every optimizer shares: its code, its slots, its numbers, its JSON form."""

    @property
    def slots(self):
        """Arrays kept beside the parameters, each of their size."""
        return codes.SLOTS[self.code]

    def config(self):
        """{"name": ..., hyperparameters}: what ``optimizer(**config)`` takes back."""
        return {"name": type(self).__name__.lower(), **asdict(self)}

    def _check(self, name, good, takes):
        setattr(self, name, _require(type(self).__name__, name, getattr(self, name), good, takes))

    def _check_common(self):
        self._check("lr", lambda v: 0 < v < float("inf"), "a number above 0")
        self._check("weight_decay", lambda v: 0 <= v < float("inf"), "a number from 0 on")

    def hyper(self):
        """The program's table of numbers (codes.H_...), float64."""
        table = np.zeros(codes.HYPER)
        table[codes.H_LR], table[codes.H_WEIGHT_DECAY] = self.lr, self.weight_decay
        return table


@dataclass
class SGD(Optimizer):
    """Stochastic gradient descent: p -= lr * d, d the gradient, its momentum buffer, or Nesterov's mix.

    buf = momentum * buf + (1 - dampening) * g (the first step sets buf = g); d = buf, or, with
    nesterov, g + momentum * buf. weight_decay * p is added to g. As torch.optim.SGD
    (Sutskever et al., ICML 2013, in torch's form).

    Raises ValueError for lr <= 0, momentum or dampening outside [0, 1], weight_decay < 0, and for
    nesterov without momentum or with dampening.
    """

    lr: float = 0.01
    momentum: float = 0.0
    dampening: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False

    def __post_init__(self):
        self._check_common()
        self._check("momentum", lambda v: 0 <= v <= 1, "a number from 0 to 1")
        self._check("dampening", lambda v: 0 <= v <= 1, "a number from 0 to 1")
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError(
                f"SGD nesterov: got True with momentum {self.momentum} and dampening "
                f"{self.dampening}, takes a momentum above 0 and dampening 0"
            )

    @property
    def code(self):
        return codes.SGD_MOMENTUM if self.momentum else codes.SGD

    def hyper(self):
        table = super().hyper()
        table[codes.H_MOMENTUM], table[codes.H_DAMPENING] = self.momentum, self.dampening
        table[codes.H_NESTEROV] = self.nesterov
        return table


@dataclass
class Adam(Optimizer):
    """Adam: p -= lr * mhat / (sqrt(vhat) + eps), with bias-corrected running means of g and g * g.

    weight_decay * p is added to g. As torch.optim.Adam (Kingma and Ba, ICLR 2015, algorithm 1).

    Raises ValueError for lr <= 0, eps < 0, betas outside [0, 1), weight_decay < 0.
    """

    lr: float = 1e-3
    betas: tuple = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    decoupled = False

    @property
    def code(self):
        return codes.ADAM_DECAY if self.weight_decay else codes.ADAM

    def __post_init__(self):
        self._check_common()
        self._check("eps", lambda v: 0 <= v < float("inf"), "a number from 0 on")
        try:
            first, second = self.betas
        except (TypeError, ValueError):
            raise ValueError(
                f"{type(self).__name__} betas: got {self.betas!r}, takes two numbers in [0, 1)"
            ) from None
        self.betas = tuple(
            _require(type(self).__name__, "betas", b, lambda v: 0 <= v < 1, "two numbers in [0, 1)")
            for b in (first, second)
        )

    def hyper(self):
        table = super().hyper()
        table[codes.H_BETA1], table[codes.H_BETA2] = self.betas
        table[codes.H_EPS], table[codes.H_DECOUPLED] = self.eps, self.decoupled
        return table


@dataclass
class AdamW(Adam):
    """Adam with decoupled weight decay: p *= 1 - lr * weight_decay before Adam's step.

    As torch.optim.AdamW (Loshchilov and Hutter, ICLR 2019, algorithm 2). Raises as Adam does.
    """

    weight_decay: float = 0.01

    decoupled = True


OPTIMIZERS = {"sgd": SGD, "adam": Adam, "adamw": AdamW}


def optimizer(spec, **hyperparameters):
    """An Optimizer from itself, or from a name ("sgd", "adam", "adamw") and its hyperparameters.

    Raises ValueError for an unknown name (the nearest known one suggested), TypeError otherwise.
    """
    if isinstance(spec, Optimizer):
        return spec
    if not isinstance(spec, str):
        raise TypeError(
            f"optimizer: got {spec!r}, takes an optimizer such as Adam(1e-3) or a name "
            f"({', '.join(OPTIMIZERS)})"
        )
    if spec.lower() not in OPTIMIZERS:
        raise unknown("optimizer", spec, OPTIMIZERS)
    return OPTIMIZERS[spec.lower()](**hyperparameters)
