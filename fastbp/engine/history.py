"""History: what fit measured, epoch by epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..metrics import direction
from ..printing import html_table

if TYPE_CHECKING:
    from ..drawing.picture import Picture
    from ..types import FilePath


class History:
    """The record of one fit.

    history : dict of lists, one number per epoch: "loss" (mean over the epoch's samples, while the
    weights change), "accuracy" (for classes), "val_loss", "val_accuracy" (with validation_data,
    after the epoch), metrics by their names, "seconds".
    stopped : what ended the fit before its epochs were over: "Ctrl-C", "seconds", "callback"; or "".
    counted : share of the samples of the last epoch whose weight is not 0.
    kept : the epoch, the first being 1, whose weights early stopping took back in the end; or None.
    error : of fit_many's networks, what fit alone would have raised: FloatingPointError where it diverged,
    optuna.TrialPruned; or None.

    >>> history = trainer.fit(X, y, epochs=3)
    >>> history.epochs, len(history.history["loss"]), history.stopped
    (3, 3, '')
    """

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.stopped = ""
        self.error: Exception | None = None
        self.kept: int | None = None
        self.counted = 1.0

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

    def plot(self, path: FilePath | None = None, title: str | None = None) -> Picture:
        """The learning curves, as a notebook shows them; written to an image file where there is a path.

        Raises ImportError without matplotlib, ValueError where no epoch was finished.

        >>> trainer.fit(X, y, epochs=3).plot("curves.png").path.name
        'curves.png'
        """
        from ..drawing.plots import learning_curves

        return learning_curves(self.history, path, title)

    def table(self) -> list[list[str]]:
        """A row of text for each number, under a head: the first one, the last, the best and its epoch."""
        rows = [["", "first", "last", "best", "in epoch"]]
        for name, values in self.history.items():
            row = [name, f"{values[0]:.4g}", f"{values[-1]:.4g}", "", ""]
            there = [value for value in values if value == value]
            if there and direction(name):
                best = (max if direction(name) > 0 else min)(there)
                row[3:] = f"{best:.4g}", f"{values.index(best) + 1}"
            rows.append(row)
        return rows

    def _words(self) -> str:
        words = [f"{self.epochs} epoch{'s'[: self.epochs != 1]}"]
        words += [f"the weights of epoch {self.kept}"] if self.kept not in (None, self.epochs) else []
        return ", ".join([*words, *([f"stopped by {self.stopped}"] if self.stopped else [])])

    def __repr__(self) -> str:
        last = ", ".join(f"{k} {v[-1]:.4g}" for k, v in self.history.items())
        return f"History({self._words()}{'; last: ' + last if last else ''})"

    def _repr_html_(self) -> str:
        return html_table(self.table(), caption=f"History: {self._words()}")
