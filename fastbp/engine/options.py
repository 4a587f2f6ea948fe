"""What is done to gradients and weights whatever the optimizer: clipping, penalties, averages, factors."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, fields
from operator import attrgetter, is_
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ABOVE_0, BETWEEN_0_AND_1, FROM_0, number
from ..kernels import codes

if TYPE_CHECKING:
    from ..optimizers import Optimizer
    from ..schedules.base import Schedule
    from ..types import Doubles, PerUpdate
    from .anytrainer import AnyTrainer

_checked: weakref.WeakKeyDictionary[Any, Any] = (
    weakref.WeakKeyDictionary()
)  # trainer -> its options, what they were made of and its network


@dataclass
class Options:
    """A Trainer's arguments of the same names, checked; how they reach the program's tables.

    In a step, in this order: clip_layer_norm or clip_norm, clip_value, l1 and weight decay, the
    optimizer, max_norm, ema. Raises ValueError or TypeError naming the argument.
    """

    clip_norm: float | None = None
    clip_layer_norm: float | None = None
    clip_value: float | None = None
    l1: float = 0.0
    decay_bias: bool = True
    lr_factors: tuple[float, ...] | None = None
    max_norm: float | None = None
    accumulate: int = 1
    ema: float | None = None

    @classmethod
    def of(cls, trainer: AnyTrainer) -> Options:
        """The options of a trainer, checked as they are now; kept while they are the same objects."""
        now = _ARGUMENTS(trainer)
        known, options = _checked.get(trainer, ([lambda: None], None))
        fixed = trainer.lr_factors is None or type(trainer.lr_factors) is tuple  # a list changes inside
        if not (fixed and known[-1]() is trainer.net and all(map(is_, known, now))):
            options = cls(*now)
            options.check(len(trainer.net.layers))
            _checked[trainer] = [*now, weakref.ref(trainer.net)], options
        return options

    def check(self, layers: int) -> None:
        for name in ("clip_norm", "clip_layer_norm", "clip_value", "max_norm"):
            if getattr(self, name) is not None:
                setattr(
                    self, name, number(name, getattr(self, name), ABOVE_0[0], "a number above 0, or None")
                )
        if self.clip_norm is not None and self.clip_layer_norm is not None:
            raise ValueError(
                f"clip_layer_norm: got {self.clip_layer_norm} beside clip_norm {self.clip_norm}, takes one "
                "of them"
            )
        self.l1 = number("l1", self.l1, *FROM_0)
        if not isinstance(self.decay_bias, (bool, np.bool_)):
            raise TypeError(f"decay_bias: got {self.decay_bias!r}, takes True or False")
        whole = lambda v: isinstance(v, (int, np.integer)) and 1 <= v < 2**31  # noqa: E731
        takes = "a whole number of batches from 1 on"
        self.accumulate = int(number("accumulate", self.accumulate, whole, takes))
        self.decay_bias = bool(self.decay_bias)
        if self.ema is not None:
            self.ema = number("ema", self.ema, BETWEEN_0_AND_1[0], "a number between 0 and 1, or None")
        if self.lr_factors is not None:
            self._check_factors(layers)

    def _check_factors(self, layers):
        takes = f"takes {layers} numbers from 0 (frozen) on, one a layer, or None"
        try:
            factors = list(self.lr_factors)
        except TypeError:
            raise TypeError(f"lr_factors: got {self.lr_factors!r}, {takes}") from None
        if len(factors) != layers:
            raise ValueError(f"lr_factors: got {len(factors)} numbers, {takes}")
        self.lr_factors = tuple(
            number("lr_factors", f, FROM_0[0], takes.removeprefix("takes ")) for f in factors
        )

    @property
    def stores(self) -> bool:
        """Whether gradients are kept in memory before the update: the second path."""
        return self.clip_norm is not None or self.clip_layer_norm is not None or self.accumulate > 1

    def code(self, optimizer: Optimizer, schedule: Schedule | None = None) -> int:
        """The code of the update: the optimizer's, with the terms that are wanted, under a schedule."""
        full = bool(self.l1) or self.clip_value is not None or self.ema is not None
        return optimizer.code(full, 1.0 if schedule is None else schedule.least_momentum)

    def updates(self, done: int, steps: int) -> int:
        """Updates that ``done`` of ``steps`` batches make: the last ones of an epoch make one too."""
        return -(-done // self.accumulate) if done == steps else done // self.accumulate

    def slots(self, optimizer: Optimizer) -> int:
        """Arrays kept beside the parameters; the last one is the average of the weights if there is one."""
        return optimizer.slots + (self.ema is not None)

    def config(self) -> dict[str, Any]:
        """{name: value} of what is not as by default: as JSON takes it."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}

    def constants(self, t: Any) -> dict[int, PerUpdate]:
        """{codes.C_...: value} of updates t, as Optimizer.constants: what all optimizers share."""
        found: dict[int, PerUpdate] = {codes.C_L1: self.l1, codes.C_CLIP: self.clip_value or np.inf}
        if self.ema is not None:
            share = 1.0 - self.ema * (t != 1)  # all of the weights at the first update, as torch's swa_utils
            found[codes.C_AVERAGE] = share
            if self.max_norm is None:  # else the average is of what the limit leaves
                found[codes.C_EMA] = share
        return found

    def hyper(self, layers: int) -> Doubles:
        """The program's table (codes.H_...), and behind it the layers' factors, float64."""
        table = np.zeros(codes.HYPER + layers)
        table[codes.H_CLIP_NORM] = self.clip_norm or 0.0
        table[codes.H_CLIP_LAYER] = self.clip_layer_norm or 0.0
        table[codes.H_MAX_NORM], table[codes.H_ACCUMULATE] = self.max_norm or 0.0, self.accumulate
        table[codes.H_BARE_BIAS] = not self.decay_bias
        table[codes.H_PER_LAYER] = not self.decay_bias or self.lr_factors is not None
        table[codes.HYPER :] = 1.0 if self.lr_factors is None else self.lr_factors
        return table


_ARGUMENTS = attrgetter(*Options.__dataclass_fields__)  # of a trainer, all at once
