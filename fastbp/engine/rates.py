"""A schedule at work: the learning rate (and momentum) of every update of one fit, epoch by epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..kernels import codes
from ..schedules import schedule
from .options import Options

if TYPE_CHECKING:
    from ..optimizers import Optimizer
    from ..types import Doubles, Logs, PerUpdate
    from .anytrainer import AnyTrainer


class Updates:
    """What a device is told about the updates of a pass, a window at a time: the optimizer's constants.

    options : an Options. lr, momentum : of each update of the pass, or one number for all; None: the
    optimizer's.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        options: Options,
        lr: PerUpdate | None = None,
        momentum: PerUpdate | None = None,
    ) -> None:
        self.optimizer, self.options = optimizer, options
        self.lr = optimizer.lr if lr is None else lr
        self.momentum = optimizer.inertia if momentum is None else momentum

    @classmethod
    def of(
        cls, trainer: AnyTrainer, lr: PerUpdate | None = None, momentum: PerUpdate | None = None
    ) -> Updates:
        """A trainer's; without lr its optimizer's, scaled as its schedule has it."""
        lr = trainer.optimizer.lr * trainer.lr_scale if lr is None else lr
        return cls(trainer.optimizer, Options.of(trainer), lr, momentum)

    def window(self, number: int, begin: int, end: int) -> tuple[int, Doubles]:
        """(first update, (updates, codes.CONSTANTS) float64) of steps [begin, end), of a pass before which
        ``number`` updates were made. An update that these steps only begin counts, too."""
        first, last = begin // self.options.accumulate, (end - 1) // self.options.accumulate
        lr, momentum, t = self.lr, self.momentum, number + first + 1
        if first < last or isinstance(momentum, np.ndarray):
            t, at = np.arange(t, number + last + 2), slice(first, last + 1)
            lr = lr[at] if isinstance(lr, np.ndarray) else lr
            momentum = momentum[at] if isinstance(momentum, np.ndarray) else momentum
            table = np.zeros((len(t), codes.CONSTANTS))
            for place, value in self._constants(t, lr, momentum).items():
                table[:, place] = value
            return first, table
        row = [0.0] * codes.CONSTANTS  # of one update: numbers, which are faster than arrays of one
        lr = float(lr[first]) if isinstance(lr, np.ndarray) else lr
        for place, value in self._constants(t, lr, momentum).items():
            row[place] = float(value)
        return first, np.array([row])

    def _constants(self, t, lr, momentum):
        return self.optimizer.constants(t, lr, momentum) | self.options.constants(t)


class Rates:
    """The rates of one fit of a trainer, epoch by epoch.

    epochs : of the fit; None where ``seconds`` end it (then trainer.planned_steps says how long it
    will be) or, without these, for single passes over some rows. updates : in each epoch; rows : of an
    epoch. Raises ValueError, before anything is trained, for a schedule that ends before the fit or does
    not fit the optimizer.
    """

    def __init__(
        self, trainer: AnyTrainer, epochs: int | None, updates: int, rows: int, seconds: float | None = None
    ) -> None:
        self.trainer, self.updates, self.rows, self.epochs = trainer, updates, rows, epochs
        plan = trainer.schedule = schedule(trainer.schedule)
        self.schedule: Any = plan  # or None
        self.counted = epochs is not None or seconds is not None  # whether these passes are epochs
        self.timed = seconds is not None
        self.begin = trainer.steps, trainer.epochs
        if plan is not None:
            self._check(plan, trainer)

    def _check(self, plan, trainer):
        name = type(plan).__name__
        if plan.ends and plan.total is None and not self.counted:
            raise ValueError(f"schedule: {name} spans a fit, this is none; takes total=, the updates of all")
        if plan.ends and plan.total is not None:
            many = 1 if self.timed or self.epochs is None else self.epochs
            end = many + self.begin[1] if plan.by == "epoch" else many * self.updates + self.begin[0]
            if end > plan.total and many:
                raise ValueError(
                    f"schedule: {name} ends after {plan.total} {plan.by}s, this fit after {end}; "
                    f"takes total={end} or more, or None for the length of a fit"
                )
        fixed = hasattr(trainer.optimizer, "momentum_decay")
        if plan.cycles_momentum and (not trainer.optimizer.inertia or fixed):
            raise ValueError(
                f"OneCycle cycle_momentum: got True with {trainer.optimizer}, which has no momentum that "
                "can be changed; takes False"
            )

    def epoch(self, ahead: int = 0) -> Updates:
        """The Updates of the epoch that has begun; ahead : of a later one, after so many."""
        trainer, plan = self.trainer, self.schedule
        if plan is None:
            return Updates.of(trainer)
        t, total = self._times(ahead)
        with trainer.turns.calling("the schedule"):
            rates = plan.rates(t, trainer.optimizer.lr, total)
        lr = self._checked(rates) * trainer.lr_scale
        return Updates.of(trainer, lr, plan.momenta(t, total) if plan.cycles_momentum else None)

    def constants(self, epochs: int, steps: int, shared: dict[Any, Doubles]) -> Doubles:
        """(updates, codes.CONSTANTS): of the updates of so many epochs, of ``steps`` batches each.

        shared : keeps what other networks' are, too: without a schedule they depend on few numbers.
        """
        number = self.trainer.steps
        if self.schedule is not None:
            parts = [
                self.epoch(k).window(number + k * self.updates, 0, steps)[1][: self.updates]
                for k in range(epochs)
            ]
            return np.concatenate(parts)
        made = self.epoch()
        rule = type(made.optimizer), *vars(made.optimizer).items()
        key = (rule, repr(made.options), made.lr, epochs, self.updates, number)
        if key not in shared:
            rows = epochs * self.updates * made.options.accumulate
            shared[key] = made.window(number, 0, rows)[1]
        return shared[key]

    def _times(self, ahead):
        """(the times of the epoch's updates, when the schedule ends), both since it began."""
        plan, trainer, total = self.schedule, self.trainer, self.schedule.total
        steps, epochs = trainer.steps + ahead * self.updates, trainer.epochs - self.counted + ahead
        if plan.ends and total is None:
            steps, epochs = steps - self.begin[0], epochs - self.begin[1]
            total = trainer.planned_steps if self.timed else self.epochs * self.updates
            total = -(-total // self.updates) if plan.by == "epoch" else total
        if plan.by == "step":
            return steps + np.arange(self.updates, dtype=float), total
        return np.full(self.updates, float(epochs * (self.rows if plan.by == "sample" else 1))), total

    def _checked(self, rates):
        good = np.isfinite(rates) & (rates >= 0)
        if not good.all():
            at = int(np.argmin(good))
            raise ValueError(
                f"schedule: gave {rates[at]} for update {self.trainer.steps + at}, takes numbers from 0 on"
            )
        return rates

    def after_epoch(self, record: Logs) -> None:
        """Tell the schedule what an epoch measured; it may change trainer.lr_scale."""
        if self.schedule is not None:
            trainer = self.trainer
            now = trainer.optimizer.lr * trainer.lr_scale
            new = self.schedule.after_epoch(trainer.schedule_state, record, now)
            if new != now:
                trainer.lr_scale = new / trainer.optimizer.lr
