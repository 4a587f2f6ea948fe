"""History: what fit measured, epoch by epoch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..types import FilePath


class History:
    """The record of one fit.

    history : dict of lists, one number per epoch: "loss" (mean over the epoch's samples, while the
    weights change), "accuracy" (for classes), "val_loss", "val_accuracy" (with validation_data,
    after the epoch), metrics by their names, "seconds".
    stopped : what ended the fit before its epochs were over: "Ctrl-C", "seconds", "callback"; or "".
    error : of fit_many's networks, what fit alone would have raised; or None.

    >>> history = trainer.fit(X, y, epochs=3)
    >>> history.epochs, len(history.history["loss"]), history.stopped
    (3, 3, '')
    """

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.stopped = ""
        self.error: FloatingPointError | None = None

    def append(self, **values: float) -> None:
        """Add an epoch: name=number, ..."""
        for name, value in values.items():
            self.history.setdefault(name, []).append(value)

    def extend(self, columns: dict[str, list[float]]) -> None:
        """Add epochs: {name: a number for each}."""
        for name, values in columns.items():
            if values:
                self.history.setdefault(name, []).extend(values)

    @property
    def epochs(self) -> int:
        """Epochs that were finished."""
        return len(self.history.get("loss", ()))

    def plot(self, path: FilePath, title: str | None = None) -> Path:
        """Draw the learning curves into an image file; returns the Path. ImportError without matplotlib."""
        from ..drawing.plots import learning_curves

        return learning_curves(self.history, path, title)

    def __repr__(self) -> str:
        last = ", ".join(f"{k} {v[-1]:.4g}" for k, v in self.history.items())
        return f"History({self.epochs} epochs{'; last: ' + last if last else ''})"
