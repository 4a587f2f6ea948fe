"""The moving average of the weights that Trainer(ema=...) keeps: the last of its slots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..errors import flag

if TYPE_CHECKING:
    from ..types import Floats
    from .anytrainer import AnyTrainer


def average(trainer: AnyTrainer) -> Floats:
    """The average, laid out as net.params: a view."""
    return trainer.slots[-trainer.net.params.size :]


def weights(trainer: AnyTrainer, ema: bool | None = None) -> Floats:
    """The parameters to infer by, laid out as net.params. ema: as Trainer.evaluate takes it."""
    if ema is not None and flag("ema", ema) and trainer.ema is None:
        raise ValueError("ema: got True, but no average is kept; takes a trainer made with ema=0.999")
    if ema is False or trainer.ema is None or trainer.steps == 0:
        return trainer.net.params
    copy_to_average(trainer, lambda name, _: name.startswith("running"))
    return average(trainer)


def begin(trainer: AnyTrainer, frozen: Sequence[int]) -> None:
    """Before the first step: the average, if one is kept, of the layers that are frozen."""
    if trainer.steps == 0 and trainer.ema is not None:
        copy_to_average(trainer, lambda name, k: (0 if name == "embeddings" else k) in frozen)


def copy_to_average(trainer: AnyTrainer, chosen: Callable[[str, int], bool]) -> None:
    """Of what no update writes there: arrays for which chosen(name, number) holds."""
    means = trainer.net.named_views(average(trainer))
    for full, view in trainer.net.named_views(trainer.net.params).items():
        name, k = full.split(".")
        if chosen(name, int(k)):
            means[full][:] = view


def snapshot(trainer: AnyTrainer) -> tuple[Floats, Floats | None]:
    """What ``restore`` takes to predict as now."""
    return trainer.net.params.copy(), None if trainer.ema is None else weights(trainer).copy()


def restore(trainer: AnyTrainer, state: tuple[Floats, Floats | None]) -> None:
    """Set the weights, and the average if there is one, to those of a snapshot."""
    with trainer.turns.state:
        trainer.net.params[:], mean = state
        if mean is not None:
            average(trainer)[:] = mean
