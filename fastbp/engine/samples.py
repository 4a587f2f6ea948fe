"""Samples as the program reads them: a trainer's rows, targets and weights, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..data import checks
from ..kernels import codes
from . import backend

if TYPE_CHECKING:
    from ..types import Array, Doubles, Features, Floats, SampleWeight
    from .anytrainer import AnyTrainer


class Samples(NamedTuple):
    """X as ``features`` gives it; the loss's code for y; y (N, targets); weight (N,) or None."""

    X: Any
    code: int
    y: Array
    weight: Floats | None = None

    @property
    def rows(self) -> int:
        return len(self.X)

    @property
    def scored(self) -> bool:
        """Whether the loss counts right answers."""
        return self.code in codes.RIGHT_BY_SAMPLE or self.code in codes.RIGHT_BY_OUTPUT

    def answers(self, rows: int, outputs: int) -> int:
        """Answers that a network with so many outputs gives to ``rows`` samples."""
        return rows * (outputs if self.code in codes.RIGHT_BY_OUTPUT else 1)

    def part(self, rows: Any) -> Samples:
        """The samples of a slice or of some places."""
        weight = None if self.weight is None else self.weight[rows]
        return Samples(self.X[rows], self.code, self.y[rows], weight)


def own_scale(trainer: AnyTrainer, width: int, linked: bool) -> tuple[Doubles, Doubles] | None:
    """(offset, factor), float64 (width,), from what the network learns to the target's own units, or None.

    width : targets, or outputs, of which a target has several: quantiles, or of gaussian_nll a mean and a
    variance, or, where not ``linked``, its logarithm.
    """
    preparation = trainer.preparation
    if preparation is None or preparation.y_mean is None:
        return None
    offset, factor = preparation.y_mean, preparation.y_scale
    each = width // len(offset)
    if each == 1:
        return offset, factor
    if trainer.loss.name != "gaussian_nll":
        return np.repeat(offset, each), np.repeat(factor, each)
    square = factor * factor
    more = (np.zeros_like(square), square) if linked else (np.log(square), np.ones_like(square))
    return np.concatenate([offset, more[0]]), np.concatenate([factor, more[1]])


def in_own_units(trainer: AnyTrainer, z: Any, linked: bool = True) -> Any:
    """Targets or outputs (N, width), predictions or, not ``linked``, what is before the link, in the target's
    own units, float64, where a preparation has standardised it: these may be far from 0, as years are, where
    float32 has no room for their differences. Others as they are."""
    scale = own_scale(trainer, z.shape[1], linked)
    return z if scale is None else z * scale[1] + scale[0]


def features(trainer: AnyTrainer, X: Features, finite: bool = True) -> Any:
    """X as the program reads it: prepared, and by name where the trainer was fitted on names."""
    if trainer.preparation is not None:
        if trainer.columns is not None and trainer.preparation.names is None:  # who has them takes by name
            X = checks.by_name(X, trainer.columns)
        X = trainer.preparation.transform(X, trainer.net.dtype)
    X = backend.adopt(trainer.device, X)
    X = checks.features(X, trainer.net.sizes[0], trainer.net.dtype, finite, trainer.columns)
    checks.check_categories(X, trainer.net.embedded)
    return X


def samples(trainer: AnyTrainer, X: Features, y: Any, sample_weight: SampleWeight = None) -> Samples:
    """The Samples of a trainer's arguments; see data/checks.py for what is raised."""
    rows = features(trainer, X)
    if trainer.preparation is not None:
        y = trainer.preparation.targets(y)
    code, y = checks.targets(y, trainer.loss, len(rows), trainer.net.sizes[-1], trainer.net.dtype)
    return Samples(rows, code, y, checks.weights(sample_weight, len(rows), trainer.net.dtype))
