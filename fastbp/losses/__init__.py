"""Losses: names, hyperparameters and what targets they take, as codes and numbers for the program.

Constructors raise ValueError for numbers out of range; Trainer does for a network whose outputs do not fit,
fit for targets that do not. In the formulas z is an output, t its target. Gradients, sources: docs/maths.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data import checks
from ..errors import ABOVE_0, BELOW_1, BETWEEN_0_AND_1, FROM_0, check_field, flag, named
from ..kernels import codes
from .base import ByOutput, Loss

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..types import Array, Floats
    from .base import LossLike

__all__ = [
    "CrossEntropy", "BCEWithLogits", "MSE", "MAE", "Huber", "LogCosh", "Quantile", "PoissonNLL",
    "GammaNLL", "GaussianNLL", "Focal", "Hinge", "Cosine",
]  # fmt: skip


@dataclass
class CrossEntropy(Loss):
    """log sum exp(z) - z_y: softmax and negative log-likelihood, the outputs being one answer.

    Targets: integer labels (N,), one-hot rows, or rows of probabilities (N, C). label_smoothing in
    [0, 1) mixes the target with the uniform distribution (Szegedy et al., CVPR 2016). class_weight: C
    numbers >= 0; with labels the batch's loss is divided by its samples' class weights, as
    torch.nn.CrossEntropyLoss does; samples of a class of weight 0 count for nothing. Samples whose label
    is ignore_index count for nothing either.

    >>> z = [[0.0, np.log(3.0)]]  # probabilities 1/4 and 3/4
    >>> loss_of(fb.losses.CrossEntropy(), z, [1]), loss_of(fb.losses.CrossEntropy(), z, [[0.5, 0.5]])
    (0.2877, 0.837)
    >>> weighed = fb.losses.CrossEntropy(label_smoothing=0.1, class_weight=(1.0, 3.0), ignore_index=-1)
    >>> loss_of(weighed, z * 2, [1, -1])
    0.2964
    """

    label_smoothing: float = 0.0
    class_weight: Sequence[float] | Array | None = None
    ignore_index: int | None = None

    name = "cross_entropy"

    def __post_init__(self) -> None:
        check_field(self, "label_smoothing", *BELOW_1)
        self._vector("class_weight", lambda a: a >= 0, "numbers from 0 on, one for each class, not all 0")
        if self.class_weight is not None and not any(self.class_weight):
            raise ValueError("CrossEntropy class_weight: got only zeros, takes at least one above 0")
        if self.ignore_index is not None and type(self.ignore_index) is not int:
            raise ValueError(f"CrossEntropy ignore_index: got {self.ignore_index!r}, takes a label or None")

    def check(self, outputs: int) -> None:
        checks.check_classes(outputs)
        self._check_length("class_weight", outputs)

    def _numbers(self, outputs: int) -> tuple[tuple[float, ...], Any]:
        smooth = self.label_smoothing
        weights = 1.0 if self.class_weight is None else self.class_weight
        return (1.0 - smooth, smooth / outputs), weights

    def targets(self, array: Array, outputs: int) -> tuple[int, Array]:
        # with class weights labels are divided by the sum of theirs, rows of probabilities by their number,
        # as in torch: what a batch happens to hold must not decide
        hot = self.class_weight is None
        labels, array = checks.class_targets(array, outputs, self.ignore_index, hot=hot)
        if labels:
            return codes.SMOOTH_CROSS_ENTROPY if self.label_smoothing else codes.CROSS_ENTROPY, array
        plain = not self.label_smoothing and self.class_weight is None
        return codes.SOFT_CROSS_ENTROPY if plain else codes.SMOOTH_SOFT_CROSS_ENTROPY, array

    def weights(self, weight: Floats | None, y: Array, code: int) -> Floats | None:
        if code not in codes.LABELS or (self.class_weight is None and not (y < 0).any()):
            return weight
        factor = np.ones(len(y)) if self.class_weight is None else np.asarray(self.class_weight)[y[:, 0]]
        factor = np.where(y[:, 0] < 0, 0.0, factor)
        return factor if weight is None else factor * weight


@dataclass
class BCEWithLogits(ByOutput):
    """max(z, 0) - z t + log(1 + exp(-|z|)): sigmoid and cross-entropy, each output a yes or no.

    Targets: (N, C) in [0, 1], (N,) for one output. pos_weight: C numbers > 0 by which the positive side
    of each output counts. As torch.nn.BCEWithLogitsLoss.

    >>> loss_of(fb.losses.BCEWithLogits(), [[0.0, 0.0]], [[1.0, 0.0]])
    0.6931
    >>> loss_of(fb.losses.BCEWithLogits(pos_weight=(3.0, 3.0)), [[0.0, 0.0]], [[1.0, 0.0]])
    1.3863
    """

    pos_weight: float | Sequence[float] | Array | None = None

    name = "bce_with_logits"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.pos_weight, (int, float)):
            self.pos_weight = (self.pos_weight,)
        self._vector("pos_weight", lambda a: a > 0, "numbers above 0, one for each output")

    def code(self, outputs: int) -> int:
        return codes.BCE_WITH_LOGITS if self.pos_weight is None else codes.WEIGHTED_BCE

    def check(self, outputs: int) -> None:
        super().check(outputs)
        self._check_length("pos_weight", outputs)

    def _numbers(self, outputs: int) -> tuple[tuple[float, ...], Any]:
        return (), 1.0 if self.pos_weight is None else self.pos_weight

    def _check_targets(self, array: Array) -> None:
        checks.check_range(array, self.name, 0, 1, "numbers from 0 to 1")


class _Labels(ByOutput):
    """A loss for one class a sample or, with one output or ``multi_label``, a yes or no at each output."""

    label_code: int
    multi_label: bool

    def code(self, outputs: int) -> int:
        return codes.LOSSES[self.name] if outputs == 1 or self.multi_label else self.label_code

    def targets(self, array: Array, outputs: int) -> tuple[int, Array]:
        code = self.code(outputs)
        if code not in codes.LABELS:
            return super().targets(array, outputs)
        labels, array = checks.class_targets(array, outputs, loss=self.name)
        if not labels:
            raise ValueError(
                f"y: got rows of probabilities, loss {self.name!r} takes labels or one-hot rows; for several "
                "answers a sample use multi_label=True"
            )
        return code, array


@dataclass
class Focal(_Labels):
    """-(1 - p)^gamma log p, p the probability given to the truth (Lin et al., ICCV 2017).

    Targets: integer labels (N,) or one-hot rows, p from softmax; for one output, or with multi_label,
    (N, C) of 0 and 1, p from a sigmoid for each output, the yes counting alpha times and the no
    1 - alpha times, both once if alpha is None (the default; the paper's and torchvision's is 0.25).

    >>> loss_of(fb.losses.Focal(gamma=2.0), [[0.0, 0.0]], [1])  # (1 - 1/2)^2 log 2
    0.1733
    """

    gamma: float = 2.0
    alpha: float | None = None
    multi_label: bool = False

    name = "focal"
    label_code = codes.LABEL_FOCAL

    def __post_init__(self) -> None:
        super().__post_init__()
        check_field(self, "gamma", *FROM_0)
        flag("Focal multi_label", self.multi_label)
        if self.alpha is not None:
            check_field(self, "alpha", BETWEEN_0_AND_1[0], "a number between 0 and 1, or None")

    def check(self, outputs: int) -> None:
        super().check(outputs)
        if self.alpha is not None and self.code(outputs) in codes.LABELS:
            raise ValueError(
                f"Focal alpha: got {self.alpha} for {outputs} classes, takes None; alpha weighs yes and no, "
                "for one output or with multi_label=True"
            )

    def _numbers(self, outputs: int) -> tuple[tuple[float, ...], Any]:
        yes, no = (1.0, 1.0) if self.alpha is None else (self.alpha, 1 - self.alpha)
        return (self.gamma, yes, no), 0.0

    def _check_targets(self, array: Array) -> None:
        checks.check_range(array, self.name, 0, 1, "0 and 1")
        if not np.isin(array, (0, 1)).all():
            raise ValueError("y: got numbers between 0 and 1, loss 'focal' takes 0 and 1")


@dataclass
class Hinge(_Labels):
    """max(0, margin - z) for a yes, max(0, margin + z) for a no: a linear support vector machine's.

    Targets: for one output, or with multi_label, (N, C) of 1 for yes and -1 or 0 for no; otherwise integer
    labels (N,) or one-hot rows, and the mean over all C of max(0, margin - z_y + z_c), c not y, as
    torch.nn.MultiMarginLoss (Weston and Watkins 1999).

    >>> loss_of(fb.losses.Hinge(), [[0.5]], [[1.0]]), loss_of(fb.losses.Hinge(), [[0.5, 0.0]], [0])
    (0.5, 0.25)
    """

    margin: float = 1.0
    multi_label: bool = False

    name = "hinge"
    label_code = codes.LABEL_HINGE

    def __post_init__(self) -> None:
        super().__post_init__()
        check_field(self, "margin", *ABOVE_0)
        flag("Hinge multi_label", self.multi_label)

    def _numbers(self, outputs: int) -> tuple[tuple[float, ...], Any]:
        return (self.margin,), 0.0

    def _check_targets(self, array: Array) -> None:
        if not np.isin(array, (-1, 0, 1)).all():
            raise ValueError("y: got other numbers, loss 'hinge' takes 1 for yes, -1 or 0 for no")


@dataclass
class MSE(ByOutput):
    """(z - t)^2, as torch.nn.MSELoss.

    >>> loss_of(fb.losses.MSE(), [[3.0, 0.0]], [[1.0, 0.0]])
    2.0
    """

    name = "mse"


@dataclass
class MAE(ByOutput):
    """|z - t|, as torch.nn.L1Loss; slope 0 at 0.

    >>> loss_of(fb.losses.MAE(), [[3.0, 0.0]], [[1.0, 0.0]])
    1.0
    """

    name = "mae"


@dataclass
class Huber(ByOutput):
    """d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2), d = z - t: torch.nn.HuberLoss.

    >>> loss_of(fb.losses.Huber(delta=1.0), [[3.0, 0.0]], [[0.0, 0.5]])
    1.3125
    """

    delta: float = 1.0

    name = "huber"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_field(self, "delta", *ABOVE_0)

    def _numbers(self, outputs: int) -> tuple[tuple[float, ...], Any]:
        return (self.delta,), 0.0


@dataclass
class LogCosh(ByOutput):
    """log(cosh(z - t)): half the square near 0, |d| - log 2 far off, as Keras's LogCosh.

    >>> loss_of(fb.losses.LogCosh(), [[1.0]], [[0.0]])
    0.4338
    """

    name = "log_cosh"


@dataclass
class Quantile(ByOutput):
    """q (t - z) where t > z, else (1 - q) (z - t): z becomes the q-quantile (Koenker and Bassett 1978).

    quantiles: numbers between 0 and 1. For K targets the network has K * len(quantiles) outputs,
    all quantiles of the first target first. Targets: (N,) or (N, K). ordered: quantiles, which must rise, do
    not cross: the lowest is z + n, each next one s softplus(z) higher. predict gives them; n and s are such
    that outputs of 0 stand for about a standard normal distribution.

    >>> loss_of(fb.losses.Quantile((0.1, 0.9)), [[0.0, 0.0]], [1.0])  # two quantiles of one target
    0.5
    >>> loss_of(fb.losses.Quantile((0.1, 0.9), ordered=True), [[0.0, 0.0]], [0.0])  # at -1.28 and 1.28
    0.1282
    """

    quantiles: float | Sequence[float] | Array = (0.5,)
    ordered: bool = False

    name = "quantile"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.quantiles, float):
            self.quantiles = (self.quantiles,)
        if self.quantiles is None:
            self.quantiles = ()
        self._vector("quantiles", lambda a: (a > 0) & (a < 1), "numbers between 0 and 1")
        self.ordered = flag("Quantile ordered", self.ordered)
        if self.ordered and (np.diff(self.quantiles) <= 0).any():
            raise ValueError(f"Quantile quantiles: got {self.quantiles}, takes rising numbers to be ordered")

    def config(self) -> dict[str, Any]:
        config = super().config()
        return config if self.ordered else {k: v for k, v in config.items() if k != "ordered"}

    def code(self, outputs: int) -> int:
        return codes.ORDERED_QUANTILE if self._rises else codes.QUANTILE

    @property
    def _rises(self):
        return self.ordered and len(self.quantiles) > 1

    def check(self, outputs: int) -> None:
        super().check(outputs)
        count = np.size(self.quantiles)
        if outputs % count:
            raise ValueError(
                f"Quantile quantiles: got {count} for a network with {outputs} outputs, takes "
                "as many, or a divisor: outputs are targets x quantiles"
            )

    def _numbers(self, outputs: int) -> tuple[tuple[float, ...], Any]:
        q = np.asarray(self.quantiles, np.float64)
        if not self._rises:
            return (), np.tile(q, self.width(outputs))
        low, high = (NormalDist().inv_cdf(level) for level in (q[0], q[-1]))
        q[0] = -q[0]  # where a target begins, see loss_formulas.py
        return ((high - low) / ((q.size - 1) * np.log(2)), low), np.tile(q, self.width(outputs))

    def width(self, outputs: int) -> int:
        return outputs // np.size(self.quantiles)

    def targets(self, array: Array, outputs: int) -> tuple[int, Array]:
        count = np.size(self.quantiles)
        array = checks.rows_of_targets(array, self.name, self.width(outputs))
        if array.shape[1] == 1:  # one number is read for every quantile
            return self.code(outputs), np.broadcast_to(array, (len(array), outputs))
        return self.code(outputs), array if count == 1 else np.repeat(array, count, axis=1)


@dataclass
class PoissonNLL(ByOutput):
    """exp(z) - t z: counts t >= 0 whose mean is exp(z), as torch.nn.PoissonNLLLoss. predict: exp(z).

    >>> loss_of(fb.losses.PoissonNLL(), [[0.0]], [[2.0]]), loss_of(fb.losses.PoissonNLL(), [[1.0]], [[2.0]])
    (1.0, 0.7183)
    """

    name = "poisson_nll"

    def _check_targets(self, array: Array) -> None:
        checks.check_range(array, self.name, 0, None, "numbers from 0 on")


@dataclass
class GammaNLL(ByOutput):
    """z + t exp(-z): positive t, gamma distributed with mean exp(z) and any constant shape, which only
    scales the loss (half the gamma deviance, up to terms without z; McCullagh and Nelder 1989). predict:
    exp(z).

    >>> loss_of(fb.losses.GammaNLL(), [[0.0]], [[2.0]])
    2.0
    """

    name = "gamma_nll"

    def _check_targets(self, array: Array) -> None:
        if array.min() <= 0:
            raise ValueError(f"y: got {array.min()}, loss 'gamma_nll' takes numbers above 0")


@dataclass
class GaussianNLL(ByOutput):
    """(log v + (mean - t)^2 / v) / 2: a mean and a variance for each target (Nix and Weigend 1994).

    For K targets the network has 2 K outputs: K means, then K logarithms of variances, as in Kendall and
    Gal (NIPS 2017); predict gives K means and K variances. Variances below eps count as eps, also in
    the gradient, which goes on. torch.nn.GaussianNLLLoss with var = exp of the second half. Targets:
    (N,) or (N, K).

    >>> loss_of(fb.losses.GaussianNLL(), [[1.0, 0.0]], [3.0])  # mean 1, variance exp(0)
    2.0
    """

    eps: float = 1e-6

    name = "gaussian_nll"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_field(self, "eps", *ABOVE_0)

    def check(self, outputs: int) -> None:
        super().check(outputs)
        if outputs % 2:
            raise ValueError(
                f"loss: got 'gaussian_nll' for a network with {outputs} outputs, takes an even number: "
                "means, then logarithms of variances"
            )

    def _numbers(self, outputs: int) -> tuple[tuple[float, ...], Any]:
        return (np.log(self.eps),), 0.0

    def width(self, outputs: int) -> int:
        return outputs // 2


@dataclass
class Cosine(Loss):
    """1 - cos(z, t), the outputs being one answer: torch.nn.CosineEmbeddingLoss for pairs that belong
    together.

    >>> loss_of(fb.losses.Cosine(), [[1.0, 0.0]], [[2.0, 2.0]])
    0.2929
    """

    name = "cosine"


LOSSES: dict[str, Callable[..., Loss]] = {
    kind.name: kind
    for kind in (CrossEntropy, BCEWithLogits, MSE, MAE, Huber, LogCosh, Quantile, PoissonNLL, GammaNLL,
                 GaussianNLL, Focal, Hinge, Cosine)
}  # fmt: skip


def loss(spec: LossLike, **hyperparameters: Any) -> Loss:
    """A Loss from itself, or from a name and its hyperparameters.

    Raises ValueError for an unknown name (the nearest known one suggested).
    """
    return spec if isinstance(spec, Loss) else LOSSES[named("loss", spec, LOSSES)](**hyperparameters)
