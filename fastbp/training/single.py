"""A step like the last one: what train_on_batch need not do again where only the numbers are new."""

from __future__ import annotations

from operator import attrgetter, is_
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine import backend, sessions
from ..engine.options import Options
from ..engine.rates import Rates, Updates
from ..kernels import codes

if TYPE_CHECKING:
    from ..engine.anytrainer import AnyTrainer
    from ..engine.samples import Samples
    from ..types import Array

AHEAD = 64  # updates whose constants are made at once
COPIED = 1 << 15  # numbers of a batch up to which copying them costs less than binding them
_BY_LABEL = ("class_weight", "ignore_index")  # of losses whose samples count by their labels
_SHAPED = attrgetter(
    "net", "net.params", "net.frozen", "loss", "optimizer", "schedule", "batch_size", "device", "threads",
    "seed", "slots", "lr_scale", "gradient_hook", "preparation", "columns", *Options.__dataclass_fields__,
)  # fmt: skip


class Step:
    """A step that may be made again: arrays that stay bound, a call that is filled in, constants to come.

    For small networks the long way, which looks at everything anew, takes longer than the kernels.
    """

    def __init__(self, trainer: AnyTrainer, session: Any, given: Samples, X: Array, y: Array) -> None:
        self.session, self.code = session, given.code
        self.shaped, self.rule = _SHAPED(trainer), dict(vars(trainer.optimizer))
        self.loss = list(vars(trainer.loss).values())
        self.x, self.like = np.empty(X.shape, given.X.dtype), (X.shape, X.dtype, y.shape, y.dtype)
        self.y = np.empty(given.y.shape, given.y.dtype)
        session.bind(self.x, self.y)
        self.call = session.call.copy()
        session.release()
        self.call[codes.K_MODE], self.call[codes.K_FIRST], self.call[codes.K_LAST] = codes.TRAIN, 0, 1
        whole = y.dtype.kind in "iu" and y.dtype.isnative
        self.labels = given.code in codes.LABELS and y.ndim == 1 and whole
        self.unsigned = np.dtype(f"u{y.itemsize}")
        self.first, self.constants = 0, np.empty((0, codes.CONSTANTS))

    @classmethod
    def after(cls, trainer: AnyTrainer, session: Any, given: Samples, X: Any, y: Any) -> Step | None:
        """The step that has just been made with these, where it may be made again."""
        loss, factors = trainer.loss, trainer.lr_factors
        plain = type(X) is np.ndarray and type(y) is np.ndarray and X.size <= COPIED
        asked = trainer.gradient_hook is not None or trainer.preparation is not None
        fixed = factors is None or type(factors) is tuple  # a list changes inside
        odd = loss.ignore_nan or any(getattr(loss, name, None) is not None for name in _BY_LABEL)
        if not plain or asked or odd or not fixed or trainer.net.embedded or trainer.device != "cpu":
            return None
        if given.weight is not None or given.offset is not None:
            return None
        return cls(trainer, session, given, X, y)

    def takes(self, trainer: AnyTrainer, X: Any, y: Any) -> bool:
        """Whether a step with these is one like it."""
        return (
            type(X) is np.ndarray
            and type(y) is np.ndarray
            and (X.shape, X.dtype, y.shape, y.dtype) == self.like
            and all(map(is_, _SHAPED(trainer), self.shaped))
            and vars(trainer.optimizer) == self.rule
            and all(map(is_, vars(trainer.loss).values(), self.loss))
            and trainer.steps > 0
        )

    def make(self, trainer: AnyTrainer, X: Array, y: Array) -> float | None:
        """Make it; the loss, or None where it was not made, for a reason that the long way finds."""
        if not self._fill(trainer, X, y):
            return None
        call, session = self.call, self.session
        place = trainer.steps - self.first
        if trainer.schedule is not None or not 0 <= place < len(self.constants):
            self._look_ahead(trainer)
            place = 0
        call[codes.K_STEP] = trainer.steps
        call[codes.K_CONSTANTS] = self.address + place * self.constants.strides[0]
        results = session.results
        results[codes.RESULT_STEPS] = 0
        try:
            session.again(call)
        finally:  # Ctrl-C shows up here, after a step that was made
            made = int(results[codes.RESULT_STEPS])
            trainer.steps += made
        if not made:
            if session.lost:
                raise sessions.divergence(trainer, True, np.nan, "step 1 of these rows")
            return None
        weight = results[codes.RESULT_WEIGHT]
        return float(results[codes.RESULT_LOSS] / weight) if weight else 0.0

    def _fill(self, trainer, X, y):
        """Copy the numbers to where they are bound; whether the targets are such as the loss takes. The
        kernel looks whether all are finite."""
        self.x[...] = X
        if self.labels:
            if y.view(self.unsigned).max() >= trainer.net.sizes[-1]:  # below 0, too
                return False
            self.y[:, 0] = y
            return True
        try:
            code, targets = trainer.loss.targets(y, trainer.net.sizes[-1])
        except (TypeError, ValueError):
            return False
        if code != self.code or targets.dtype != self.y.dtype:
            return False
        self.y[...] = targets
        return True

    def _look_ahead(self, trainer):
        """Constants of the updates to come; under a schedule, which may look around, of one."""
        if trainer.schedule is None:
            updates, count = Updates.of(trainer), AHEAD * trainer.accumulate
        else:
            updates, count = Rates(trainer, None, 1, len(self.x)).epoch(), 1
        self.first = trainer.steps
        _, self.constants = updates.window(self.first, 0, count)
        self.address = backend.address(self.constants)
