"""Samples as the program reads them: a trainer's rows, targets and weights, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..data import checks
from ..data.frames import names_of
from ..kernels import codes
from . import backend

if TYPE_CHECKING:
    from ..types import Array, Doubles, Features, Floats, Offset, SampleWeight
    from .anytrainer import AnyTrainer


class Behind(NamedTuple):
    """What stands behind the targets of a row: weights for them, offsets of the outputs."""

    weights: bool = False
    offsets: bool = False


NOTHING = Behind()


class Samples(NamedTuple):
    """X as ``features`` gives it; the loss's code for y; y (N, targets); weight (N,), one for each target
    (N, targets), or None; offset (N, outputs), which is added to the outputs, or None; places (n,) int32, the
    rows that are meant, or None for all."""

    X: Any
    code: int
    y: Array
    weight: Floats | None = None
    offset: Floats | None = None
    places: Array | None = None

    @property
    def rows(self) -> int:
        return len(self.X if self.places is None else self.places)

    def packed(self) -> Samples:
        """The same with all rows meant: a copy of those that are."""
        return self if self.places is None else self._replace(places=None).part(self.places)

    @property
    def scored(self) -> bool:
        """Whether the loss counts right answers."""
        return self.code in codes.RIGHT_BY_SAMPLE or self.code in codes.RIGHT_BY_OUTPUT

    @property
    def by_output(self) -> bool:
        """Whether targets have weights of their own."""
        return self.weight is not None and self.weight.ndim == 2

    @property
    def behind(self) -> Behind:
        return Behind(self.by_output, self.offset is not None)

    def weighed(self, outputs: int, dtype: Any) -> tuple[Array, Floats]:
        """(y, weight (N,)) of weights by target, as the program takes them, see loss_formulas.py.

        A row's weight is the mean of its targets'. y: ``outputs`` numbers, the row's targets in front, then
        the weight of each over the row's.
        """
        weight: Any = self.weight
        rows, targets = self.y.shape
        of_row = weight.mean(axis=1, dtype=np.float64)
        both = np.zeros((rows, outputs + targets), dtype)
        both[:, :targets] = self.y
        both[:, outputs:] = weight / np.where(of_row > 0, of_row, 1.0)[:, None]
        return both, of_row.astype(dtype)

    def answers(self, rows: float, outputs: int) -> int:
        """Answers that a network with so many outputs gives to ``rows`` samples, or parts of samples."""
        return round(rows * (outputs if self.code in codes.RIGHT_BY_OUTPUT else 1))

    def part(self, rows: Any) -> Samples:
        """The samples of a slice or of some places."""
        weight, offset = (None if a is None else a[rows] for a in (self.weight, self.offset))
        return Samples(self.X[rows], self.code, self.y[rows], weight, offset)


def own_scale(trainer: AnyTrainer, width: int, linked: bool) -> tuple[Doubles, Doubles] | None:
    """(offset, factor), float64 (width,), from what the network learns to the target's own units, or None.

    width : targets, or outputs, of which a target has several: quantiles, or of gaussian_nll a mean and a
    variance, or, where not ``linked``, its logarithm.
    """
    preparation = trainer.preparation
    if preparation is None or preparation.y_mean is None:
        return None
    if not linked and trainer.loss.link_code(width) == codes.ORDERED_QUANTILE:  # its link knows no unit
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
    """Targets or outputs (..., width), predictions or, not ``linked``, what is before the link, in the
    target's own units, float64, where a preparation has standardised it: these may be far from 0, as years
    are, where float32 has no room for their differences. Others as they are."""
    *_, width = z.shape  # which an array on a device lets nobody count from behind, in the simulator
    scale = own_scale(trainer, width, linked)
    return z if scale is None else z * scale[1] + scale[0]


def features(trainer: AnyTrainer, X: Features, finite: bool = True) -> Any:
    """X as the program reads it: prepared, and by name where the trainer was fitted on names. X may be
    Samples, which are."""
    if isinstance(X, Samples):
        return X.X
    if trainer.preparation is not None:
        if trainer.columns is not None and trainer.preparation.names is None:  # who has them takes by name
            X = checks.by_name(X, trainer.columns)
        X = trainer.preparation.transform(X, trainer.net.dtype)
    X = backend.adopt(trainer.device, X)
    X = checks.features(X, trainer.net.sizes[0], trainer.net.dtype, finite, trainer.columns)
    checks.check_categories(X, trainer.net.embedded)
    return X


def columns_of(trainer: AnyTrainer, X: Any) -> list[str] | None:
    """The names of the columns that it is trained on: those of the first rows, where these have names."""
    if isinstance(X, (np.ndarray, Samples)) or (trainer.columns is not None and trainer.steps):
        return trainer.columns
    return names_of(X)


def offsets(trainer: AnyTrainer, offset: Offset, rows: int) -> Floats | None:
    """The offset of ``rows`` rows as the program adds it to the outputs, (N, outputs), or None.

    offset : (N,) or (N, targets), in the target's own units: of quantiles it is each one's, of ordered ones
    the lowest's, on which the others stand; of gaussian_nll the mean's.
    """
    if offset is None:
        return None
    loss, outputs, preparation = trainer.loss, trainer.net.sizes[-1], trainer.preparation
    array = checks.offsets(offset, rows, loss.width(outputs), trainer.net.dtype)
    if preparation is not None and preparation.y_scale is not None:
        array = array / preparation.y_scale
    each, targets = outputs // array.shape[1], array.shape[1]
    if each > 1 and loss.name == "gaussian_nll":
        array = np.hstack([array, np.zeros_like(array)])
    elif each > 1:
        array = np.repeat(array, each, axis=1)
        if loss.link_code(outputs) == codes.ORDERED_QUANTILE:
            array.reshape(rows, targets, each)[:, :, 1:] = 0.0
    return np.ascontiguousarray(array, trainer.net.dtype)


def samples(
    trainer: AnyTrainer, X: Features, y: Any, sample_weight: SampleWeight = None, offset: Offset = None
) -> Samples:
    """The Samples of a trainer's arguments; see data/checks.py for what is raised."""
    if isinstance(X, Samples):
        return X
    rows, loss, outputs, dtype = features(trainer, X), trainer.loss, trainer.net.sizes[-1], trainer.net.dtype
    if trainer.preparation is not None:
        y = trainer.preparation.targets(y)
    known = None
    if loss.ignore_nan:
        y, known = checks.known_targets(y)
    code, y = checks.targets(y, loss, len(rows), outputs, dtype)
    targets = None if code in codes.TOGETHER else loss.width(outputs)
    weight = checks.weights(sample_weight, len(rows), dtype, targets)
    if known is not None:
        weight = checks.known_weights(weight, known, dtype)
    if weight is not None and weight.ndim == 2 and weight.shape != y.shape:  # a target has several outputs
        weight = np.repeat(weight, y.shape[1] // weight.shape[1], axis=1)
    return Samples(rows, code, y, weight, offsets(trainer, offset, len(rows)))
