"""Samples as the program reads them: a trainer's rows, targets and weights, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ..data import checks
from ..kernels import codes
from . import backend

if TYPE_CHECKING:
    from ..types import Array, Features, Floats, SampleWeight
    from .anytrainer import AnyTrainer


class Samples(NamedTuple):
    """X as ``features`` gives it; the loss's code for y; y (N, targets); weight (N,) or None; places (n,)
    int32, the rows that are meant, or None for all."""

    X: Any
    code: int
    y: Array
    weight: Floats | None = None
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

    def answers(self, rows: int, outputs: int) -> int:
        """Answers that a network with so many outputs gives to ``rows`` samples."""
        return rows * (outputs if self.code in codes.RIGHT_BY_OUTPUT else 1)

    def part(self, rows: Any) -> Samples:
        """The samples of a slice or of some places."""
        weight = None if self.weight is None else self.weight[rows]
        return Samples(self.X[rows], self.code, self.y[rows], weight)


def features(trainer: AnyTrainer, X: Features, finite: bool = True) -> Any:
    """X as the program reads it: prepared, and by name where the trainer was fitted on names."""
    if trainer.preparation is not None:
        X = trainer.preparation.transform(X, trainer.net.dtype)
    X = backend.adopt(trainer.device, X)
    X = checks.features(X, trainer.net.sizes[0], trainer.net.dtype, finite, trainer.columns)
    checks.check_categories(X, trainer.net.embedded)
    return X


def samples(trainer: AnyTrainer, X: Features, y: Any, sample_weight: SampleWeight = None) -> Samples:
    """The Samples of a trainer's arguments; see data/checks.py for what is raised."""
    if isinstance(X, Samples):
        return X
    rows = features(trainer, X)
    if trainer.preparation is not None:
        y = trainer.preparation.targets(y)
    code, y = checks.targets(y, trainer.loss, len(rows), trainer.net.sizes[-1], trainer.net.dtype)
    return Samples(rows, code, y, checks.weights(sample_weight, len(rows), trainer.net.dtype))
