"""Learning rates over time: torch.optim.lr_scheduler's formulas, one number for every update.

A schedule is evaluated for a whole epoch at once, before it; the compiled program reads a rate per
update. ``Trainer(schedule=...)`` takes one of these, its name in lower case, or a function of the
number of the update (from 0) that returns the learning rate. The optimizer's lr is the base that
they scale.

``by`` says what time t counts: "step", updates made by the trainer, or "epoch", its epochs: then the
rate stays the same within an epoch, as where torch's scheduler steps once an epoch. ``total`` is the
time at which a schedule ends, counted from the trainer's first update (over all fits); None: the
schedule spans one fit, from its beginning to its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import flag, named, unknown
from ..metrics import direction
from .base import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..types import Array, By, Doubles, Floats, Logs, ScheduleFunction
    from .base import ScheduleLike

__all__ = [
    "Constant", "Step", "MultiStep", "Exponential", "Cosine", "Polynomial", "OneCycle", "InverseScaling",
    "Plateau", "Adaptive",
]  # fmt: skip


def _warm(rates: Array, t: Array, lr: float, warmup: int) -> Floats:
    """Rates behind a linear way up to lr: lr (t + 1) / warmup while t < warmup."""
    return np.where(t < warmup, lr * (t + 1) / warmup, rates) if warmup else rates


@dataclass
class Constant(Schedule):
    """lr, after ``warmup`` updates (or epochs) of lr (t + 1) / warmup (Goyal et al., arXiv 1706.02677).

    >>> fb.schedules.Constant(warmup=4).rates(np.arange(5), 1.0, None).tolist()
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """

    warmup: int = 0
    by: By = "step"

    def rates(self, t: Array, lr: float, total: int | Any) -> Floats:
        return _warm(np.full(len(t), float(lr)), t, lr, self.warmup)


@dataclass
class Step(Schedule):
    """lr gamma ** floor(t / step_size): torch's StepLR.

    >>> fb.schedules.Step(2, gamma=0.5).rates(np.arange(5), 1.0, None).tolist()
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    step_size: int
    gamma: float = 0.1
    by: By = "epoch"

    def rates(self, t: Array, lr: float, total: int | Any) -> Floats:
        return lr * self.gamma ** np.floor(t / self.step_size)


@dataclass
class MultiStep(Schedule):
    """lr gamma ** (number of milestones that t has reached): torch's MultiStepLR.

    >>> fb.schedules.MultiStep([1, 4], gamma=0.5).rates(np.arange(5), 1.0, None).tolist()
    [1.0, 0.5, 0.5, 0.5, 0.25]
    """

    milestones: Sequence[int] | Array
    gamma: float = 0.1
    by: By = "epoch"

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            self.milestones = tuple(sorted(int(m) for m in self.milestones))
        except (TypeError, ValueError):
            self.milestones = (-1,)
        if min(self.milestones, default=0) < 0:
            raise ValueError("MultiStep milestones: takes whole numbers from 0 on, such as [30, 80]")

    def rates(self, t: Array, lr: float, total: int | Any) -> Floats:
        return lr * self.gamma ** np.searchsorted(self.milestones, t, "right")


@dataclass
class Exponential(Schedule):
    """lr gamma ** t: torch's ExponentialLR.

    >>> fb.schedules.Exponential(gamma=0.5).rates(np.arange(5), 1.0, None).tolist()
    [1.0, 0.5, 0.25, 0.125, 0.0625]
    """

    gamma: float = 0.95
    by: By = "epoch"

    def rates(self, t: Array, lr: float, total: int | Any) -> Floats:
        return lr * self.gamma**t


@dataclass
class Cosine(Schedule):
    """eta_min + (lr - eta_min) (1 + cos(pi t / total)) / 2: torch's CosineAnnealingLR.

    warmup: first lr (t + 1) / warmup, then the cosine over what is left. period: starts anew after
    ``period``, then after ``multiply`` times as long, and so on (torch's CosineAnnealingWarmRestarts,
    Loshchilov and Hutter, ICLR 2017); total is then not used.

    >>> fb.schedules.Cosine().rates(np.arange(5), 1.0, total=4).round(4).tolist()
    [1.0, 0.8536, 0.5, 0.1464, 0.0]
    >>> fb.schedules.Cosine(period=2).rates(np.arange(5), 1.0, None).round(4).tolist()
    [1.0, 0.5, 1.0, 0.5, 1.0]
    """

    total: int | None = None
    eta_min: float = 0.0
    warmup: int = 0
    period: int | None = None
    multiply: int = 1
    by: By = "step"

    @property
    def ends(self) -> bool:  # type: ignore[override]  # read as the attribute of the others is
        return self.period is None

    def rates(self, t: Array, lr: float, total: int | Any) -> Floats:
        after = np.maximum(t - self.warmup, 0.0)
        if self.period is None:
            share = np.minimum(after / max(total - self.warmup, 1), 1)
        elif self.multiply == 1:
            share = after % self.period / self.period
        else:
            ratio = after / self.period * (self.multiply - 1) + 1
            turn = np.floor(np.log(ratio) / np.log(self.multiply) + 1e-12)
            length = self.period * float(self.multiply) ** turn
            share = (after - (length - self.period) / (self.multiply - 1)) / length
        cosine = self.eta_min + (lr - self.eta_min) * (1 + np.cos(np.pi * share)) / 2
        return _warm(cosine, t, lr, self.warmup)


@dataclass
class Polynomial(Schedule):
    """end_lr + (lr - end_lr) (1 - t / total) ** power: torch's PolynomialLR, Keras's end_lr and warmup.

    >>> fb.schedules.Polynomial(power=1.0).rates(np.arange(5), 1.0, total=4).tolist()
    [1.0, 0.75, 0.5, 0.25, 0.0]
    """

    total: int | None = None
    power: float = 1.0
    end_lr: float = 0.0
    warmup: int = 0
    by: By = "step"

    ends = True

    def rates(self, t: Array, lr: float, total: int | Any) -> Floats:
        left = 1 - np.clip((t - self.warmup) / max(total - self.warmup, 1), 0, 1)
        return _warm(self.end_lr + (lr - self.end_lr) * left**self.power, t, lr, self.warmup)


@dataclass
class OneCycle(Schedule):
    """Up to max_lr and down far below by half cosines, the momentum the other way: torch's OneCycleLR.

    max_lr: None takes the optimizer's lr. It begins at max_lr / div_factor, is at its top after
    pct_start of the time and ends at max_lr / div_factor / final_div_factor. cycle_momentum: SGD's or
    RMSprop's momentum, Adam's first beta, goes from max_momentum to base_momentum and back, also where the
    optimizer has a momentum of 0 (Smith and Topin, arXiv 1708.07120).

    >>> cycle = fb.schedules.OneCycle(max_lr=1.0, pct_start=0.6, div_factor=2.0, final_div_factor=1.0)
    >>> cycle.rates(np.arange(5), 0.1, total=5).round(4).tolist()
    [0.5, 0.75, 1.0, 0.75, 0.5]
    >>> cycle.momenta(np.arange(5), total=5).round(4).tolist()
    [0.95, 0.9, 0.85, 0.9, 0.95]
    """

    total: int | None = None
    max_lr: float | None = None
    pct_start: float = 0.3
    cycle_momentum: bool = True
    base_momentum: float = 0.85
    max_momentum: float = 0.95
    div_factor: float = 25.0
    final_div_factor: float = 1e4

    ends = True

    def __post_init__(self) -> None:
        super().__post_init__()
        flag("OneCycle cycle_momentum", self.cycle_momentum)

    @property
    def cycles_momentum(self) -> bool:  # type: ignore[override]  # read as the attribute of the others is
        return self.cycle_momentum

    @property
    def least_momentum(self) -> float:  # type: ignore[override]  # read as the attribute of the others is
        return min(self.base_momentum, self.max_momentum) if self.cycle_momentum else 1.0

    def _way(self, t: Array, total: int, low: float, top: float, end: float) -> Doubles:
        peak, last = self.pct_start * total - 1, total - 1  # the peak of a short one is before it begins
        up = np.clip(t / peak, 0, 1) if peak > 0 else np.ones(len(t))
        down = np.clip((t - peak) / (last - peak), 0, 1)
        rising, falling = (1 + np.cos(np.pi * up)) / 2, (1 + np.cos(np.pi * down)) / 2
        return np.where(t <= peak, top + (low - top) * rising, end + (top - end) * falling)

    def rates(self, t: Array, lr: float, total: int | Any) -> Floats:
        top = self.max_lr or lr
        low = top / self.div_factor
        return self._way(t, total, low, top, low / self.final_div_factor)

    def momenta(self, t: Array, total: int | Any) -> Doubles:
        """The momentum at times t."""
        return self._way(t, total, self.max_momentum, self.base_momentum, self.max_momentum)


@dataclass
class InverseScaling(Schedule):
    """lr / (t + 1) ** power_t: scikit-learn's learning_rate="invscaling".

    by="sample", as there: t counts the samples of all epochs before the present one.

    >>> fb.schedules.InverseScaling().rates(np.arange(5), 1.0, None).round(4).tolist()
    [1.0, 0.7071, 0.5774, 0.5, 0.4472]
    """

    power_t: float = 0.5
    by: By = "sample"

    def rates(self, t: Array, lr: float, total: int | Any) -> Floats:
        return lr / (t + 1) ** self.power_t


@dataclass
class Plateau(Schedule):
    """lr, times ``factor`` when ``monitor`` has not become better for more than ``patience`` epochs.

    Better: below best - threshold abs(best), or, threshold_mode "abs", best - threshold; with mode "max"
    above best + as much. Then it waits ``cooldown`` epochs, and never goes below min_lr. monitor: a column
    of the History; None takes val_loss where there is one, else loss. mode "auto": by the monitor's name, as
    for callbacks. NaN is never better. torch's ReduceLROnPlateau, except where best is below 0: there torch's
    threshold makes the same value, and worse ones, better.

    >>> plateau = fb.schedules.Plateau(factor=0.5, patience=1, threshold=1.0)  # nothing is better enough
    >>> trainer = fb.Trainer(fb.MLP([4, 16, 4], seed=0), schedule=plateau, seed=0)
    >>> history = trainer.fit(X, y, epochs=5)
    >>> trainer.lr_scale
    0.25
    """

    monitor: str | None = None
    mode: Literal["auto", "min", "max"] = "auto"
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    threshold_mode: Literal["rel", "abs"] = "rel"
    cooldown: int = 0
    min_lr: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in (("mode", ("auto", "min", "max")), ("threshold_mode", ("rel", "abs"))):
            if getattr(self, name) not in known:
                raise unknown(f"{type(self).__name__} {name}", getattr(self, name), known)
        self._sign()

    def rates(self, t: Array, lr: float, total: int | Any) -> Floats:
        return np.full(len(t), float(lr))

    def _sign(self):
        """1 where more is better, else -1."""
        if self.mode != "auto":
            return 1 if self.mode == "max" else -1
        return _direction(self, self.monitor or "loss", "mode 'min' or 'max'")

    def _better(self, value: float, best: float | None) -> bool:
        sign, step = self._sign(), self.threshold
        if best is None:
            return sign * value > -np.inf
        share = sign * step * (1 if best > 0 else -1)  # of a value below 0, too, better is further on
        bar = best * (1 + share) if self.threshold_mode == "rel" else best + sign * step
        return sign * value > sign * bar

    def _value(self, record: Logs) -> float:
        monitor = self.monitor or ("val_loss" if "val_loss" in record else "loss")
        if monitor not in record:
            raise unknown("Plateau monitor", monitor, record)
        return record[monitor]

    def after_epoch(self, state: dict[str, Any], record: Logs, lr: float) -> float:
        value, cooling = self._value(record), state.get("cooling", 0)
        better = self._better(value, state.get("best"))
        bad = 0 if better or cooling else state.get("bad", 0) + 1
        if better:
            state["best"] = value
        state["cooling"], state["bad"] = max(cooling - 1, 0), bad
        if bad > self.patience:
            state["cooling"], state["bad"] = self.cooldown, 0
            return min(lr, max(lr * self.factor, self.min_lr))
        return lr


@dataclass
class Adaptive(Schedule):
    """lr, a fifth of it after more than n_iter_no_change epochs without tol less of training loss.

    scikit-learn's learning_rate="adaptive" (its MLPClassifier stops once lr is 1e-6; here it stays).
    monitor: as Plateau's, "loss" by default; of a score that grows tol more is better.

    >>> adaptive = fb.schedules.Adaptive(tol=10.0, n_iter_no_change=1)  # nothing is better enough
    >>> trainer = fb.Trainer(fb.MLP([4, 16, 4], seed=0), schedule=adaptive, seed=0)
    >>> history = trainer.fit(X, y, epochs=3)
    >>> round(trainer.lr_scale, 4)
    0.2
    """

    tol: float = 1e-4
    n_iter_no_change: int = 10
    monitor: str = "loss"

    def __post_init__(self) -> None:
        super().__post_init__()
        _direction(self, self.monitor, "the name of a loss, or of a metric of fastbp or scikit-learn")

    def rates(self, t: Array, lr: float, total: int | Any) -> Floats:
        return np.full(len(t), float(lr))

    def after_epoch(self, state: dict[str, Any], record: Logs, lr: float) -> float:
        if self.monitor not in record:
            raise unknown("Adaptive monitor", self.monitor, record)
        cost, best = -direction(self.monitor) * record[self.monitor], state.get("best", np.inf)
        worse = not cost <= best - self.tol  # NaN too
        state["bad"] = state.get("bad", 0) + 1 if worse else 0
        if cost < best:
            state["best"] = cost
        if state["bad"] > self.n_iter_no_change and lr > 1e-6:
            state["bad"] = 0
            return lr / 5
        return lr


def _direction(schedule: Schedule, monitor: str, takes: str) -> int:
    """metrics.direction of a monitor; a ValueError where nobody knows it."""
    found = direction(monitor)
    if not found:
        what = f"{type(schedule).__name__} monitor: got {monitor!r}"
        raise ValueError(f"{what}, of which nobody knows whether more is better; takes {takes}")
    return found


class Function(Schedule):
    """The user's own: a function of the number of the update, from 0, to the learning rate."""

    def __init__(self, function: ScheduleFunction | str) -> None:
        self.function = function

    def config(self) -> dict[str, Any]:
        return {"name": "function", "of": getattr(self.function, "__qualname__", repr(self.function))}

    def rates(self, t: Array, lr: float, total: int | Any) -> Floats:
        if isinstance(self.function, str):
            raise ValueError(
                f"schedule: was the function {self.function}, which no file keeps: set trainer.schedule again"
            )
        return np.array([self.function(int(step)) for step in t], dtype=float)


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    kind.__name__.lower(): kind
    for kind in (
        Constant, Step, MultiStep, Exponential, Cosine, Polynomial, OneCycle, InverseScaling, Plateau,
        Adaptive,
    )
}  # fmt: skip


def schedule(spec: ScheduleLike | None, **numbers: Any) -> Schedule | None:
    """A Schedule, or None, from itself, a name or a function.

    Raises ValueError for an unknown name (the nearest known one suggested), TypeError otherwise.
    """
    if spec is None or isinstance(spec, Schedule):
        return spec
    if isinstance(spec, str):
        if spec.lower() == "function":
            return Function(str(numbers["of"]))
        return SCHEDULES[named("schedule", spec, SCHEDULES)](**numbers)
    if callable(spec):
        return Function(spec)
    raise TypeError(
        f"schedule: got {spec!r}, takes a schedule such as schedules.Cosine(), a name "
        f"({', '.join(SCHEDULES)}), a function of the step, or None"
    )
