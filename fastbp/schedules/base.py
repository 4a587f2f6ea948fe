"""What schedules share, and what their numbers may be; the schedules themselves are in __init__.py."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from ..errors import ABOVE_0, BETWEEN_0_AND_1, FROM_0, number
from ..printing import Called

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..types import Array, By, Doubles, Floats, Logs, ScheduleFunction, ScheduleName

_WHOLE = (lambda v: 1 <= v < 2**62 and v == int(v), "a whole number from 1 on")
_CHECKS = {
    "step_size": _WHOLE,
    "period": _WHOLE,
    "multiply": _WHOLE,
    "total": _WHOLE,
    "warmup": (lambda v: 0 <= v < 2**62 and v == int(v), "a whole number from 0 on"),
    "gamma": ABOVE_0,
    "eta_min": FROM_0,
    "end_lr": FROM_0,
    "power": ABOVE_0,
    "power_t": FROM_0,
    "max_lr": ABOVE_0,
    "pct_start": BETWEEN_0_AND_1,
    "base_momentum": (lambda v: 0 <= v < 1, "a number in [0, 1)"),
    "max_momentum": (lambda v: 0 <= v < 1, "a number in [0, 1)"),
    "div_factor": ABOVE_0,
    "final_div_factor": ABOVE_0,
    "factor": BETWEEN_0_AND_1,
    "patience": FROM_0,
    "cooldown": FROM_0,
    "threshold": FROM_0,
    "min_lr": FROM_0,
    "tol": FROM_0,
}
_OPTIONAL = ("total", "period", "max_lr")


class Schedule(Called):
    """What all schedules share. Raises ValueError for numbers out of range, naming them."""

    by: By = "step"
    total: int | None = None
    ends = False  # whether it is made for a stretch of time: total, or one fit
    cycles_momentum = False
    least_momentum = 1.0  # that it sets
    if TYPE_CHECKING:
        momenta: Callable[[Array, Any], Doubles]  # of those that do, which say what it is

    def __post_init__(self) -> None:
        for field in fields(cast(Any, self)):
            name, value = field.name, getattr(self, field.name)
            if name in _CHECKS and not (value is None and name in _OPTIONAL):
                number(f"{type(self).__name__} {name}", value, *_CHECKS[name])
        if self.by not in ("step", "epoch", "sample"):
            raise ValueError(f"{type(self).__name__} by: got {self.by!r}, takes 'step' or 'epoch'")

    def config(self) -> dict[str, Any]:
        """{"name": ..., its numbers}: what ``schedule(**config)`` takes back."""
        return {"name": type(self).__name__.lower(), **asdict(cast(Any, self))}

    def rates(self, t: Array, lr: float, total: int | Any) -> Floats:
        """The learning rate at times t (array) for the base lr; total: where it ends, if it does."""
        raise NotImplementedError

    def after_epoch(self, state: dict[str, Any], record: Logs, lr: float) -> float:
        """The base lr from the next epoch on; state: a dict that is kept between calls, empty at first."""
        return lr


ScheduleLike: TypeAlias = "ScheduleName | str | Schedule | ScheduleFunction"
