"""Optimizers: torch.optim's names, formulas and defaults, as numbers for the compiled program.

In the formulas p is a parameter, g the gradient of the batch's mean loss, t the number of the update, from 1.

What is done to gradients and weights whatever the optimizer (clipping, L1, averages, ...) is in
options.py; how the learning rate changes in schedules.py; L-BFGS in lbfgs.py.
"""

from __future__ import annotations

import functools
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from .errors import ABOVE_0, FROM_0, WORDS, check_field, flag, named, number
from .kernels import codes
from .printing import Called

if TYPE_CHECKING:
    from .types import Array, Doubles, Ints, OptimizerName

__all__ = [
    "SGD", "Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "Adagrad", "Adadelta", "Lion", "LBFGS",
]  # fmt: skip

_BETA = (lambda v: 0 <= v < 1, "a number in [0, 1)")
SQUARED = 1 << 16  # powers up to this one are products; larger ones are the C library's
POWERS = 1 << 12  # powers that are made at a time
LOST = 2.0**-100  # a power below this is lost in whatever it is added to
HALF = 0.5  # running means that keep less than this have an update of their own, which loses nothing


class Optimizer(Called):
    """What every optimizer shares: its code, its slots, its numbers, its JSON form."""

    SHOWN = ("lr",)
    lr: float
    betas: tuple[float, float]  # of Adam and its kin
    eps: float  # of those that divide by a root
    weight_decay: float = 0.0
    decoupled = False  # weight decay on the parameters, not in the gradient
    rule: int  # the code of its update without the variants of codes.DECAY and FULL

    def __new__(cls, *numbers: Any, **given: Any) -> Any:
        for word in given.keys() & WORDS.keys():
            raise TypeError(f"{cls.__name__}: got {word}, takes {WORDS[word]}")
        return super().__new__(cls)

    def code(self, full: bool = False, momentum: float = 1.0) -> int:
        """The code of its update: a rule, or its variant with weight decay, or the one with all terms.

        full : whether any of these is wanted. momentum : the least that a schedule sets, if one does.
        """
        if self.rule == codes.STORE:
            return self.rule
        kept = [getattr(self, name) for name in ("alpha", "rho") if hasattr(self, name)]
        if hasattr(self, "betas"):
            kept += [momentum, *self.betas]
        if full or min(kept, default=1.0) < HALF:
            return self.rule + codes.FULL
        decay = codes.DECAY if self.rule in codes.COMMON else codes.FULL
        return self.rule + (decay if self.weight_decay else 0)

    @property
    def slots(self) -> int:
        """Arrays kept beside the parameters, each of their size."""
        return codes.SLOTS[self.rule]

    @property
    def inertia(self) -> float:
        """The number that a schedule of the momentum sets: SGD's and RMSprop's momentum, the first beta."""
        return self.betas[0] if hasattr(self, "betas") else getattr(self, "momentum", 0.0)

    def config(self) -> dict[str, Any]:
        """{"name": ..., hyperparameters}: what ``optimizer(**config)`` takes back."""
        return {"name": type(self).__name__.lower(), **asdict(cast(Any, self))}

    def __post_init__(self) -> None:
        """Every number that is there, against what it may be."""
        check_field(self, "lr", *ABOVE_0)
        for name in ("weight_decay", "eps", "lr_decay", "initial_accumulator_value", "momentum_decay"):
            if hasattr(self, name):
                check_field(self, name, *FROM_0)
        for name in ("momentum", "dampening"):
            if hasattr(self, name):
                check_field(self, name, lambda v: 0 <= v <= 1, "a number from 0 to 1")
        for name in ("alpha", "rho"):
            if hasattr(self, name):
                check_field(self, name, *_BETA)
        for name in ("amsgrad", "nesterov", "centered", "decoupled_weight_decay"):
            if hasattr(self, name):
                flag(f"{type(self).__name__} {name}", getattr(self, name))
        if hasattr(self, "betas"):
            self._check_betas()

    def _check_betas(self) -> None:
        what, takes = f"{type(self).__name__} betas", "two numbers in [0, 1)"
        try:
            first, second = self.betas
        except (TypeError, ValueError):
            raise ValueError(f"{what}: got {self.betas!r}, takes {takes}") from None
        self.betas = number(what, first, _BETA[0], takes), number(what, second, _BETA[0], takes)

    def constants(self, t: Any, lr: Any, momentum: Any) -> dict[int, Any]:
        """{codes.C_...: value}: what the vectors of updates t are told.

        t : the number of an update, from 1, or an int64 array of updates that follow each other. lr, momentum
        (of Adam and its kin the first beta) : a number, or an array of one for each; momentum only where t is
        one. So is a value. Both devices read what is made here; no kernel knows an optimizer's numbers.
        """
        decay = self.weight_decay
        if self.decoupled:
            return {codes.C_LR: lr, codes.C_DECAY: lr * decay}
        return {codes.C_LR: lr, codes.C_L2: decay}

    def _mean_constants(self, beta1: Any, beta2: float, eps: float) -> dict[int, Any]:
        """Of rules that divide by a mean."""
        # never 0 / 0, in padding above all
        return {codes.C_BETA1: _share(beta1), codes.C_BETA2: _share(beta2), codes.C_EPS: max(eps, 1e-37)}


OptimizerLike: TypeAlias = "OptimizerName | str | Optimizer"


def _share(decay: Any) -> Any:
    """How a running mean moves, see formulas.AnyDecay: by 1 - decay; -decay where that is below HALF."""
    if isinstance(decay, np.ndarray):
        return np.where(decay < HALF, -decay, 1.0 - decay)
    return -decay if decay < HALF else 1.0 - decay


def _power(base: Any, t: Any) -> Any:
    """base**t, t whole from 0 on. By squaring: products have the same bits on every machine."""
    if not isinstance(t, np.ndarray):
        return _power_block(base, t // POWERS).item(t % POWERS)
    if isinstance(base, np.ndarray):
        return _powers(base, t)
    first, begin = divmod(int(t[0]), POWERS)
    last = (first * POWERS + begin + len(t) - 1) // POWERS
    blocks = [_power_block(base, number) for number in range(first, last + 1)]
    powers = blocks[0] if first == last else np.concatenate(blocks)
    return powers[begin : begin + len(t)]


def _powers(base: Any, t: Ints) -> Doubles:
    """_power of an array t, for one base or one for each."""
    result, square, bits = np.ones(len(t)), base, np.minimum(t, SQUARED)
    while bits.any():
        result = np.where(bits & 1, result * square, result)
        bits, square = bits >> 1, square * square
    large = t > SQUARED
    if large.any():
        bases = np.broadcast_to(base, t.shape)[large].tolist()
        result[large] = list(map(math.pow, bases, t[large].tolist()))
    return result


@functools.lru_cache(maxsize=64)
def _power_block(base: float, number: int) -> Doubles:
    """base**t for POWERS numbers t from number * POWERS on; kept, because windows of updates share them."""
    t = np.arange(number * POWERS, (number + 1) * POWERS)
    if math.pow(base, t[0]) < LOST:
        return np.zeros(POWERS)
    if number == 0 or t[-1] > SQUARED:
        return _powers(base, t)
    result, square = _power_block(base, 0), float(_powers(base, np.array([POWERS]))[0])
    while number:  # the products of t's low bits are the same in all blocks
        result = result * square if number & 1 else result
        number, square = number >> 1, square * square
    return result


def _root(x: Any) -> Any:
    return np.sqrt(x) if isinstance(x, np.ndarray) else math.sqrt(x)


@dataclass
class SGD(Optimizer):
    """Stochastic gradient descent: p -= lr * d, d the gradient, its momentum buffer, or Nesterov's mix.

    buf = momentum * buf + (1 - dampening) * g (the first step sets buf = g); d = buf, or, with
    nesterov, g + momentum * buf. weight_decay * p is added to g. As torch.optim.SGD
    (Sutskever et al., ICML 2013, in torch's form).

    Raises ValueError for lr <= 0, momentum or dampening outside [0, 1], weight_decay < 0, and for
    nesterov without momentum or with dampening.

    >>> step(fb.SGD(0.1), steps=2), step(fb.SGD(0.1, momentum=0.5), steps=2)
    (0.6, 0.5)
    """

    lr: float = 0.01
    momentum: float = 0.0
    dampening: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError(
                f"SGD nesterov: got True with momentum {self.momentum} and dampening "
                f"{self.dampening}, takes a momentum above 0 and dampening 0"
            )

    @property
    def rule(self) -> int:  # type: ignore[override]  # read as the attribute of the others is
        return codes.SGD_MOMENTUM if self.momentum else codes.SGD

    def constants(self, t: Any, lr: Any, momentum: Any) -> dict[int, Any]:
        found = super().constants(t, lr, momentum)
        if self.rule == codes.SGD_MOMENTUM:
            fresh = 1.0 - self.dampening
            found[codes.C_FRESH] = np.where(t == 1, 1.0, fresh) if self.dampening else fresh
            found[codes.C_MOMENTUM], found[codes.C_GRADIENT] = momentum, self.nesterov
            found[codes.C_BUFFER] = momentum if self.nesterov else 1.0
        return found


@dataclass
class Adam(Optimizer):
    """Adam: p -= lr * mhat / (sqrt(vhat) + eps), with bias-corrected running means of g and g * g.

    weight_decay * p is added to g. amsgrad: the largest v so far in the place of v (Reddi, Kale and
    Kumar, ICLR 2018). As torch.optim.Adam (Kingma and Ba, ICLR 2015, algorithm 1).

    Raises ValueError for lr <= 0, eps < 0, betas outside [0, 1), weight_decay < 0.

    >>> step(fb.Adam(0.1), steps=2)
    0.8
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    amsgrad: bool = False

    @property
    def rule(self) -> int:  # type: ignore[override]  # read as the attribute of the others is
        return codes.AMSGRAD if self.amsgrad else codes.ADAM

    def constants(self, t: Any, lr: Any, momentum: Any) -> dict[int, Any]:
        return super().constants(t, lr, momentum) | {
            **self._mean_constants(momentum, self.betas[1], self.eps),
            codes.C_LR: lr / (1.0 - _power(momentum, t)),
            codes.C_ROOT: 1.0 / _root(1.0 - _power(self.betas[1], t)),
        }


@dataclass
class AdamW(Adam):
    """Adam with decoupled weight decay: p *= 1 - lr * weight_decay before Adam's step.

    As torch.optim.AdamW (Loshchilov and Hutter, ICLR 2019, algorithm 2). Raises as Adam does.

    >>> step(fb.AdamW(0.1, weight_decay=0.1))
    0.89
    """

    weight_decay: float = 0.01

    decoupled = True


@dataclass
class NAdam(Optimizer):
    """Adam with Nesterov momentum: p -= lr * (a g + b m) / (sqrt(vhat) + eps).

    With mu_t = beta1 (1 - 0.96**(t momentum_decay) / 2): a = (1 - mu_t) / (1 - mu_1 ... mu_t), b =
    mu_{t+1} / (1 - mu_1 ... mu_{t+1}). weight_decay * p is added to g, or, with
    decoupled_weight_decay, p *= 1 - lr * weight_decay. As torch.optim.NAdam (Dozat, ICLR 2016
    workshop). Raises ValueError as Adam does, and for momentum_decay < 0.

    >>> step(fb.NAdam(0.1))
    0.8944
    """

    lr: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum_decay: float = 4e-3
    decoupled_weight_decay: bool = False

    rule = codes.NADAM

    @property
    def decoupled(self) -> bool:  # type: ignore[override]  # read as the attribute of the others is
        return self.decoupled_weight_decay

    def constants(self, t: Any, lr: Any, momentum: Any, products: Any = None) -> dict[int, Any]:
        decay, many = self.momentum_decay, isinstance(t, np.ndarray)
        first, last = (int(t[0]), int(t[-1])) if many else (t, t)
        shares = [1.0 - 0.5 * 0.96 ** (k * decay) for k in range(first, last + 2)]
        now, after = (np.array(shares[:-1]), np.array(shares[1:])) if many else shares
        now, after, product = momentum * now, momentum * after, products
        if products is None:
            product = self._products(first, last)
            product = product if many else float(product[0])
        return super().constants(t, lr, momentum) | {
            **self._mean_constants(momentum, self.betas[1], self.eps),
            codes.C_ROOT: 1.0 / _root(1.0 - _power(self.betas[1], t)),
            codes.C_SLOPE: (1.0 - now) / (1.0 - product),
            codes.C_MEAN: after / (1.0 - product * after),
        }

    def products(self, momenta: Doubles) -> Doubles:
        """mu_1 ... mu_t for t from 1 on, where beta1 is momenta[t - 1]: what ``constants`` is given then."""
        t = np.arange(1, len(momenta) + 1, dtype=float)
        return np.cumprod(momenta * (1 - 0.5 * 0.96 ** (t * self.momentum_decay)), dtype=float)

    def _products(self, first: int, last: int) -> Array:
        """mu_1 ... mu_t for t = first, ..., last."""
        beta = self.betas[0]
        nothing = 1 if beta == 0 else int(-745 / np.log(beta)) + 1  # from here on it is 0: e**-745
        enough = min(nothing, max(POWERS, 1 << last.bit_length()))
        result = _momentum_products(beta, self.momentum_decay, enough)[first - 1 : last]
        return np.concatenate([result, np.zeros(last - first + 1 - len(result))])


@functools.lru_cache(maxsize=4)
def _momentum_products(beta: float, decay: float, count: int) -> Array:
    """NAdam's mu_1 ... mu_t for t = 1, ..., count."""
    t = np.arange(1, count + 1, dtype=float)
    return np.cumprod(beta * (1 - 0.5 * 0.96 ** (t * decay)))


@dataclass
class RAdam(Optimizer):
    """Rectified Adam: Adam's step times r_t, or, while r_t does not exist (rho_t <= 5), p -= lr * mhat.

    rho_t = rho - 2 t beta2**t / (1 - beta2**t), rho = 2 / (1 - beta2) - 1; r_t = sqrt((rho_t - 4)
    (rho_t - 2) rho / ((rho - 4) (rho - 2) rho_t)). Weight decay as in NAdam. As torch.optim.RAdam
    (Liu et al., ICLR 2020). Raises as Adam does.

    >>> step(fb.RAdam(0.1))
    0.8
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    decoupled_weight_decay: bool = False

    rule = codes.RADAM

    @property
    def decoupled(self) -> bool:  # type: ignore[override]  # read as the attribute of the others is
        return self.decoupled_weight_decay

    def constants(self, t: Any, lr: Any, momentum: Any) -> dict[int, Any]:
        power = _power(self.betas[1], t)
        end = 2.0 / (1.0 - self.betas[1]) - 1.0
        rho = end - 2.0 * t * power / (1.0 - power)
        sized, size = rho > 5.0, np.maximum(rho, 5.0) if isinstance(t, np.ndarray) else max(rho, 5.0)
        rectified = 0.0
        if end > 5.0:  # else no rho is
            rectified = _root((size - 4.0) * (size - 2.0) * end / ((end - 4.0) * (end - 2.0) * size))
        return super().constants(t, lr, momentum) | {
            **self._mean_constants(momentum, self.betas[1], self.eps),
            codes.C_LR: lr / (1.0 - _power(momentum, t)),
            codes.C_SIZED: sized * (rectified * _root(1.0 - power)),
            codes.C_PLAIN: 1.0 - sized,
        }


@dataclass
class Adamax(Optimizer):
    """Adam over the largest gradient: u = max(beta2 u, |g| + eps); p -= lr / (1 - beta1**t) * m / u.

    weight_decay * p is added to g. As torch.optim.Adamax (Kingma and Ba, ICLR 2015, algorithm 2).
    Raises as Adam does.

    >>> step(fb.Adamax(0.1), steps=2)
    0.8
    """

    lr: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    rule = codes.ADAMAX

    def constants(self, t: Any, lr: Any, momentum: Any) -> dict[int, Any]:
        return super().constants(t, lr, momentum) | {
            **self._mean_constants(momentum, self.betas[1], self.eps),
            codes.C_LR: lr / (1.0 - _power(momentum, t)),
            codes.C_KEEP: self.betas[1],
        }


@dataclass
class RMSprop(Optimizer):
    """p -= lr * g / (sqrt(v) + eps), v = alpha v + (1 - alpha) g * g.

    centered: v less the square of the running mean of g (Graves, arXiv 1308.0850); momentum: buf =
    momentum * buf + g / (sqrt(v) + eps), p -= lr * buf. weight_decay * p is added to g. As
    torch.optim.RMSprop (Hinton's lecture 6e, 2012). Raises ValueError for lr <= 0, eps < 0, alpha
    outside [0, 1), momentum outside [0, 1], weight_decay < 0.

    >>> step(fb.RMSprop(0.1, alpha=0.75))
    0.8
    """

    lr: float = 0.01
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    centered: bool = False

    @property
    def rule(self) -> int:  # type: ignore[override]  # read as the attribute of the others is
        if self.centered:
            return codes.RMSPROP_CENTERED_MOMENTUM if self.momentum else codes.RMSPROP_CENTERED
        return codes.RMSPROP_MOMENTUM if self.momentum else codes.RMSPROP

    def constants(self, t: Any, lr: Any, momentum: Any) -> dict[int, Any]:
        return super().constants(t, lr, momentum) | {
            **self._mean_constants(momentum, self.alpha, self.eps),
            codes.C_INERTIA: momentum,
        }


@dataclass
class Adagrad(Optimizer):
    """p -= lr / (1 + (t - 1) lr_decay) * g / (sqrt(s) + eps), s = initial_accumulator_value + sum of g * g.

    weight_decay * p is added to g. As torch.optim.Adagrad (Duchi, Hazan and Singer, JMLR 12, 2011).
    Raises ValueError for lr <= 0 and for any other number < 0.

    >>> step(fb.Adagrad(0.1))
    0.9
    """

    lr: float = 0.01
    lr_decay: float = 0.0
    weight_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    eps: float = 1e-10

    rule = codes.ADAGRAD

    def constants(self, t: Any, lr: Any, momentum: Any) -> dict[int, Any]:
        return super().constants(t, lr, momentum) | {
            **self._mean_constants(momentum, 0.0, self.eps),
            codes.C_LR: lr / (1.0 + (t - 1) * self.lr_decay),
            codes.C_START: self.initial_accumulator_value,
        }


@dataclass
class Adadelta(Optimizer):
    """p -= lr * d, d = sqrt(a + eps) / sqrt(v + eps) * g, v and a the running means of g * g and d * d.

    weight_decay * p is added to g. As torch.optim.Adadelta (Zeiler, arXiv 1212.5701). Raises
    ValueError for lr <= 0, eps < 0, rho outside [0, 1), weight_decay < 0.

    >>> step(fb.Adadelta(1.0, rho=0.75, eps=0.0004))
    0.96
    """

    lr: float = 1.0
    rho: float = 0.9
    eps: float = 1e-6
    weight_decay: float = 0.0

    rule = codes.ADADELTA

    def constants(self, t: Any, lr: Any, momentum: Any) -> dict[int, Any]:
        return super().constants(t, lr, momentum) | self._mean_constants(momentum, self.rho, self.eps)


@dataclass
class Lion(Optimizer):
    """p -= lr * sign(beta1 m + (1 - beta1) g), then m = beta2 m + (1 - beta2) g; before, p *= 1 - lr * decay.

    The steps are all of one size: a lr 3 to 10 times smaller, and a weight_decay as much larger, than
    AdamW's. As Chen et al., NeurIPS 2023, algorithm 2. Raises as Adam does.

    >>> step(fb.Lion(0.1), steps=2)
    0.8
    """

    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0

    rule = codes.LION
    decoupled = True

    def constants(self, t: Any, lr: Any, momentum: Any) -> dict[int, Any]:
        return super().constants(t, lr, momentum) | self._mean_constants(momentum, self.betas[1], 0.0)


@dataclass
class LBFGS(Optimizer):
    """L-BFGS-B over SciPy, for small data: all samples at once, one iteration an epoch of fit.

    For smooth losses; the objective is the mean loss + weight_decay / 2 * the sum of squares. It stops
    before ``epochs`` where no gradient is above tolerance_grad or the objective changes by less than
    tolerance_change of itself. history_size: pairs of differences kept (SciPy's maxcor); they are not kept
    between two fits. (Liu and Nocedal, Math. Programming 45, 1989.) Names are torch.optim.LBFGS's.

    Raises ValueError for numbers out of range; fit raises ImportError without SciPy, ValueError with
    options that mean nothing here.

    >>> net = fb.MLP([4, 16, 4], "tanh", seed=0)
    >>> history = fb.Trainer(net, optimizer=fb.LBFGS()).fit(X, y, epochs=100)
    >>> history.history["loss"][-1] < 1e-4
    True
    """

    history_size: int = 10
    tolerance_grad: float = 1e-7
    tolerance_change: float = 1e-9
    weight_decay: float = 0.0

    rule = codes.STORE  # the objective has the weight decay
    lr = 1.0
    slots = 0  # type: ignore[assignment]  # SciPy keeps what it needs

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("tolerance_grad", "tolerance_change"):
            check_field(self, name, *FROM_0)
        check_field(self, "history_size", lambda v: 1 <= v < 1e6 and v == int(v), "a whole number from 1 on")
        self.history_size = int(self.history_size)


OPTIMIZERS = {
    kind.__name__.lower(): kind
    for kind in (SGD, Adam, AdamW, NAdam, RAdam, Adamax, RMSprop, Adagrad, Adadelta, Lion, LBFGS)
}


def optimizer(spec: OptimizerLike, **hyperparameters: Any) -> Optimizer:
    """An Optimizer from itself, or from a name ("sgd", "adam", ...) and its hyperparameters.

    Raises ValueError for an unknown name (the nearest known one suggested), TypeError otherwise.
    """
    if isinstance(spec, Optimizer):
        return spec
    if not isinstance(spec, str):
        raise TypeError(
            f"optimizer: got {spec!r}, takes an optimizer such as Adam(1e-3) or a name "
            f"({', '.join(OPTIMIZERS)})"
        )
    return OPTIMIZERS[named("optimizer", spec, OPTIMIZERS)](**hyperparameters)
