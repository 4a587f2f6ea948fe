"""The learning-rate range test of Smith (WACV 2017): losses while the rate grows from step to step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .engine.options import Options
from .engine.rates import Updates
from .engine.samples import samples
from .engine.sessions import bind, frozen, open_session
from .errors import ABOVE_0, number
from .kernels import codes
from .network.layout import arena
from .optimizers import LBFGS

if TYPE_CHECKING:
    from .drawing.picture import Picture
    from .engine.anytrainer import AnyTrainer
    from .types import Doubles, Features, FilePath, Offset, SampleWeight, Targets

__all__ = ["RangeTest"]

SMOOTHING = 0.9  # share of the past in the smoothed loss
HOPELESS = 4.0  # it stops where the smoothed loss is that many times the best one


@dataclass
class RangeTest:
    """lr, losses, smoothed : (K,) float64, one number an update, K at most the steps asked for.

    suggestion : the rate at which the smoothed loss fell fastest for a given growth of the rate: a
    good lr, or max_lr of a OneCycle a few times larger.

    >>> found = trainer.lr_find(X, y, steps=20)
    >>> len(found.lr) == len(found.losses) == len(found.smoothed)
    True
    """

    lr: Doubles
    losses: Doubles
    smoothed: Doubles
    suggestion: float

    def plot(self, path: FilePath | None = None, title: str | None = None) -> Picture:
        """Losses against rates, as a notebook shows them; written to an image file where there is a path.

        Raises ImportError without matplotlib.
        """
        from .drawing.plots import range_test

        return range_test(self, path, title)

    def __repr__(self) -> str:
        span = f"lr {self.lr[0]:.2g} to {self.lr[-1]:.2g}"
        return f"RangeTest({len(self.lr)} steps, {span}; suggestion {self.suggestion:.2g})"


def lr_find(
    trainer: AnyTrainer,
    X: Features,
    y: Targets,
    *,
    start: float = 1e-7,
    end: float = 10.0,
    steps: int = 100,
    sample_weight: SampleWeight = None,
    offset: Offset = None,
) -> RangeTest:
    """Train ``steps`` updates on a copy of the weights, the rate growing from start to end; a RangeTest.

    The trainer is not changed. X, y, sample_weight, offset as in fit; more than an epoch goes through the
    samples again. It ends early where the loss explodes. Raises ValueError for start, end or steps that
    do not fit, and where already the first updates lead nowhere.
    """
    number("start", start, *ABOVE_0)
    number("end", end, lambda v: start < v < float("inf"), f"a number above start, {start}")
    number("steps", steps, lambda v: 3 <= v < 1e9 and v == int(v), "a whole number from 3 on")
    if isinstance(trainer.optimizer, LBFGS):
        raise ValueError("optimizer: got LBFGS, which has no learning rate")
    given = samples(trainer, X, y, sample_weight, offset)
    rates = np.geomspace(start, end, int(steps))
    losses = np.array(_losses(trainer, given, rates))
    gaps, places = np.isnan(losses), np.arange(len(losses))  # batches in which no sample counts
    if gaps.all() and len(gaps):
        raise ValueError("sample_weight: got no sample that counts, takes one or more")
    if gaps.any():
        losses[gaps] = np.interp(places[gaps], places[~gaps], losses[~gaps])
    smoothed = _smooth(losses)
    hopeless = np.flatnonzero(smoothed > HOPELESS * np.minimum.accumulate(smoothed))
    count = hopeless[0] + 1 if len(hopeless) else len(losses)
    if count < 3:
        raise ValueError(f"start: got {start}, at which the loss explodes at once; takes a smaller one")
    lr, losses, smoothed = rates[:count].copy(), losses[:count], smoothed[:count]
    return RangeTest(lr, losses, smoothed, _steepest(lr, smoothed))


def _losses(trainer, given, rates):
    """The mean loss of each update's batches, as it was before the update; ends where it is not finite."""
    batch, every = min(trainer.batch_size, given.rows), Options.of(trainer).accumulate
    params, slots = (arena(a.size, a.dtype) for a in (trainer.net.params, trainer.slots))
    params[:], slots[:] = trainer.net.params, trainer.slots
    second, still = Options.of(trainer).stores, frozen(trainer)
    code, threads = given.code, trainer.num_threads
    session = open_session(trainer, batch, code, slots, second, still, params, threads, behind=given.behind)
    bind(trainer, session, given)
    whole, losses, epoch = -(-given.rows // batch), [], 0
    while len(losses) < len(rates):
        session.shuffle(trainer.seed, trainer.epochs + epoch)
        first = len(losses)
        session.updates = Updates.of(trainer, lr=rates[first:])
        steps, before, sums = min(whole, every * (len(rates) - first)), 0, np.zeros(2)
        session.window = every
        for done, loss, mass, _ in session.windows(codes.TRAIN, steps, trainer.steps + first):
            session.window = every
            if done < min(before + every, steps):
                return losses
            now = np.array([loss, mass])
            gained, weighed = now - sums
            losses.append(gained / weighed if weighed else np.nan)
            before, sums = done, now
        epoch += 1
    return losses


def _smooth(losses):
    """Exponential mean, its beginning corrected as Adam's."""
    mean, result = 0.0, []
    for k, loss in enumerate(losses):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        result.append(mean / (1 - SMOOTHING ** (k + 1)))
    return np.array(result)


def _steepest(lr, smoothed):
    """The rate where the smoothed loss falls fastest, but for the first tenth: single batches' noise."""
    slope = np.gradient(smoothed, np.log(lr))
    first = len(lr) // 10
    return float(lr[first + int(np.argmin(slope[first:]))])
