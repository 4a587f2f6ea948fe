"""What the target of `fastbp train` asks for: labels or numbers, and the loss that fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.targets import target_kind
from ..data.written import Written, written

if TYPE_CHECKING:
    from ..types import Array

NUMBER_LOSSES = ("mse", "mae", "huber", "log_cosh")  # losses of numbers
LOSSES = ("cross_entropy", "bce_with_logits", *NUMBER_LOSSES)


@dataclass(frozen=True)
class Task:
    """What the target asks for: the loss and why, outputs, the target as places of classes or numbers.

    classes: the labels as they stand in the data (text, int, float), or None. written: how the numbers are
    written, where they are text.
    """

    loss: str
    why: str
    y: np.ndarray
    n_out: int
    classes: list[Any] | None = None
    written: Written | None = None

    @property
    def regression(self) -> bool:
        return self.loss in NUMBER_LOSSES

    @property
    def kind(self) -> str:
        """Which of the two it is, why, and how to say otherwise."""
        if self.regression:
            return f"regression: {self.why}; for labels: --loss cross_entropy"
        return f"classification: {self.why}; for numbers: --loss mse"

    def raw(self, y: Array) -> Array:
        """The target as the data has it: what the trained model takes."""
        if self.classes is None:
            return y
        return np.array(self.classes)[y]


def task_of(y: Array, classes: list[Any] | None, loss: str | None) -> Task:
    """The loss that fits the target, or the one asked for if it fits; else ValueError."""
    why, way = "as asked", None
    if loss is None:
        loss, why, way = _fitting_loss(y if classes is None else np.array(classes)[y])
    elif loss in NUMBER_LOSSES and classes is not None:
        way = written(classes)
        if way is None or way.order:
            raise ValueError(f"--loss: {loss} takes numbers, the target is text; use cross_entropy")
    if way is not None:
        y, classes = way.read(np.array(classes), "target")[y], None
    if loss in NUMBER_LOSSES:
        y = y.reshape(len(y), -1).astype(np.float64)
        return Task(loss, why, y, y.shape[1], written=way)
    if y.dtype.kind == "f" and y.ndim == 1:
        if (y != np.round(y)).any():
            raise ValueError(
                f"--loss: {loss} takes labels, the target holds fractions such as "
                f"{y[y != np.round(y)][0]:g}; use mse, mae or huber"
            )
        y = y.astype(np.int64)  # 0.0 and 1.0
    if loss == "bce_with_logits":
        return _binary_task(y, classes, why)
    if y.ndim == 2:
        if not _one_hot(y):
            raise ValueError(
                f"--loss: cross_entropy takes one label per sample or one-hot rows; the target has "
                f"shape {y.shape} and rows that are neither"
            )
        return Task(loss, why, y.argmax(axis=1), y.shape[1])
    if classes is None:
        values, y = np.unique(y, return_inverse=True)
        classes = list(values.tolist())
    if len(classes) < 2:
        raise ValueError(f"target: one class only, {str(classes[0])!r}; takes at least 2 to tell apart")
    return Task(loss, why, y.astype(np.int64), len(classes), classes)


def _fitting_loss(y: Array) -> tuple[str, str, Written | None]:
    """(loss, why, how text is written that is numbers) for a target when none was asked for."""
    if y.ndim == 1:
        labels, why, way = target_kind(y)
        return "cross_entropy" if labels else "mse", f"the target is {why}", way
    if _one_hot(y):
        return "cross_entropy", "the target is one-hot", None
    if np.isin(y, (0, 1)).all():
        return "bce_with_logits", "the target is several yes-or-no columns", None
    return "mse", "the target is several columns of numbers", None


def _one_hot(y: Array) -> bool:
    return bool(y.shape[1] > 1 and np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all())


def _binary_task(y, classes, why):
    """Two values become 0 and 1 in their sorted order; several columns must be 0 and 1 already."""
    takes = "bce_with_logits takes two different values, or columns of 0 and 1"
    if y.ndim == 2:
        if not np.isin(y, (0, 1)).all():
            raise ValueError(f"--loss: {takes}; the target's columns hold others")
        return Task("bce_with_logits", why, y.astype(np.float32), y.shape[1])
    values, index = np.unique(y, return_inverse=True)
    if len(values) != 2:
        raise ValueError(f"--loss: {takes}; the target holds {len(values)}")
    return Task("bce_with_logits", why, index.astype(np.int64), 1, classes or values.tolist())


def outcome(task: Task) -> str:
    if task.regression and task.n_out == 1:
        return f"a number, {task.y.min():.6g} to {task.y.max():.6g}"
    if task.classes is None:
        return f"{task.n_out} {'target' if task.regression else 'output'}{'s'[: task.n_out > 1]}"
    shown = ", ".join(f"{i}={name}" for i, name in enumerate(task.classes[:10]))
    plain = task.classes == list(range(len(task.classes)))
    more = ", ..." if len(task.classes) > 10 else ""
    return f"{len(task.classes)} classes" + ("" if plain else f" ({shown}{more})")
