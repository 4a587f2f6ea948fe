"""Optuna's pruning of trials that do not look well. Extra: [search]."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from .callbacks import Callback, monitored
from .errors import EndOfFit, whole

if TYPE_CHECKING:
    from .types import Logs

__all__ = ["PruningCallback"]


class PruningCallback(Callback):
    """Tell an Optuna trial a number of each epoch, and end the fit where the trial is to be pruned.

    trial : the optuna.trial.Trial that the fit belongs to. monitor : the number, as EarlyStopping takes it.
    interval : epochs between two questions whether to prune. As optuna-integration's KerasPruningCallback.

    ``fit`` raises optuna.TrialPruned after that epoch; the trainer keeps the weights that it has. In
    ``fit_many`` it ends this network alone, and is its ``history.error``. Raises ImportError without optuna,
    ValueError for a monitor that the fit does not measure.

    >>> import optuna
    >>> study = optuna.create_study(storage=None)
    >>> from fastbp.optuna import PruningCallback
    >>> watching = [PruningCallback(study.ask(), "loss")]
    >>> trainer.fit(X, y, epochs=3, callbacks=watching).epochs, len(study.trials[0].intermediate_values)
    (3, 3)
    """

    def __init__(self, trial: Any, monitor: str = "val_loss", interval: int = 1) -> None:
        _pruned()
        self.trial, self.monitor = trial, monitor
        self.interval = whole("PruningCallback interval", interval)

    def on_epoch_end(self, epoch: int, logs: Logs | Any = None) -> None:
        self.trial.report(monitored("PruningCallback", self.monitor, logs), step=epoch)
        if (epoch + 1) % self.interval == 0 and self.trial.should_prune():
            raise _pruned()(f"Trial was pruned at epoch {epoch}.")


@functools.cache
def _pruned():
    """optuna.TrialPruned that ends one fit of many."""
    import optuna

    return type("TrialPruned", (optuna.TrialPruned, EndOfFit), {"__module__": __name__})
