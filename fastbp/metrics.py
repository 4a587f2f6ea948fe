"""Metrics beside the loss: scikit-learn's names, definitions and weighted means, in NumPy alone.

A metric is a function (y_true, prediction, sample_weight=None) -> float. The shapes say the task:
    y_true (N,) integer labels, prediction (N, C) probabilities: one class of C for each sample;
    y_true and prediction (N,) or (N, C), C outputs: one number, or one yes or no, for each output.
A yes is a prediction above 0.5. ``prediction`` is what Trainer.predict gives; Trainer hands (N,) to
metrics where a network has one output, so that scikit-learn's functions fit, and makes labels of
one-hot targets. A quotient 0 / 0 is 0, as in scikit-learn. sample_weight (N,) >= 0 or None; for outputs also
(N, C), 0 where a target is not known. Means over samples and outputs are then by these weights; what is taken
output by output is so by the output's weights, and an output whose weights are all 0 is left out. All return
a float and raise ValueError for shapes that do not fit each other. Formulas: docs/maths.md.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from .types import Array, Doubles, MetricFunction, MetricsLike

__all__ = ["accuracy", "top_k", "auc", "precision", "recall", "f1", "log_loss", "r2", "mae", "mse", "rmse"]


def _pair(
    y_true: ArrayLike, prediction: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[Any, Any, Doubles, Doubles]:
    """(labels or None, y (N, C) or None, prediction (N, C), weights (N,) or (N, C)), the last two float64."""
    y, p = np.asarray(y_true), np.asarray(prediction, np.float64)
    weight = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    if p.ndim == 2 and p.shape[1] > 1 and (y.ndim == 1 or y.shape[1:] == (1,)):
        labels = y.reshape(-1)
        if labels.dtype.kind in "iub" and len(labels) == len(p):
            return labels.astype(np.int64), None, p, weight
    columns = [a.reshape(len(a), -1) if a.ndim else a for a in (y, p)]
    if columns[0].shape != columns[1].shape:
        raise ValueError(
            f"y_true: got shape {y.shape} for a prediction {p.shape}, takes integer labels ({len(p)},) or "
            "the prediction's shape"
        )
    y, p = columns[0].astype(np.float64), columns[1]
    if weight.ndim == 2:
        if weight.shape != y.shape:
            raise ValueError(
                f"sample_weight: got shape {weight.shape}, takes ({len(y)},), or {y.shape} for each target"
            )
        known = weight.any(axis=0)
        y, p, weight = y[:, known], p[:, known], weight[:, known]
        y = np.where(weight > 0, y, p)
    return None, y, p, weight


def _mean(values: Array, weight: Doubles) -> float:
    """The mean of values (N,) or (N, C); weight: (N,), or (N, C)."""
    if values.ndim > weight.ndim:
        values = values.mean(1)
    return float(np.vdot(weight, values) / weight.sum()) if weight.sum() else 0.0


def _totals(weight: Doubles, values: Array) -> Doubles:
    """Sums over the samples of weight times values (N, C): (C,)."""
    return weight @ values if weight.ndim == 1 else (weight * values).sum(0)


def accuracy(y_true: ArrayLike, prediction: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Share of right answers; of all answers of all outputs where there are several yes or no.

    >>> metrics.accuracy([0, 1], [[0.8, 0.2], [0.6, 0.4]]), metrics.accuracy([1.0, 0.0], [0.7, 0.2])
    (0.5, 1.0)
    """
    labels, y, p, weight = _pair(y_true, prediction, sample_weight)
    right = p.argmax(1) == labels if y is None else (p > 0.5) == (y > 0.5)
    return _mean(right, weight)


def top_k(
    y_true: ArrayLike, prediction: ArrayLike, sample_weight: ArrayLike | None = None, k: int = 5
) -> float:
    """Share of samples whose class is among the k most probable; ties count against it.

    >>> metrics.top_k([0, 1], [[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]], k=2)
    1.0
    """
    labels, y, p, weight = _pair(y_true, prediction, sample_weight)
    if y is not None:
        raise ValueError(f"top_k: got y_true of shape {np.shape(y_true)}, takes integer labels of classes")
    own = p[np.arange(len(p)), labels][:, None]
    return _mean((p >= own).sum(1) <= k, weight)


def _binary_auc(positive: Array, score: Doubles, weight: Doubles) -> float:
    """P(score of a yes > score of a no) + P(equal) / 2 (Mann and Whitney 1947); nan without either."""
    _, place = np.unique(score, return_inverse=True)
    yes, no = (np.bincount(place, weight * side) for side in (positive, ~positive))
    total = yes.sum() * no.sum()
    return float(np.dot(yes, np.cumsum(no) - 0.5 * no) / total) if total else float("nan")


def auc(y_true: ArrayLike, prediction: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Area under the receiver operating characteristic; the mean over the classes, each against the
    rest, or over the outputs. nan where a class has no sample, or all.

    >>> metrics.auc([0.0, 0.0, 1.0, 1.0], [0.1, 0.6, 0.4, 0.9])
    0.75
    """
    labels, y, p, weight = _pair(y_true, prediction, sample_weight)
    positive = labels[:, None] == np.arange(p.shape[1]) if y is None else y > 0.5
    if y is None and p.shape[1] == 2:
        positive, p = positive[:, 1:], p[:, 1:]
    weight = np.broadcast_to(weight.reshape(len(weight), -1), positive.shape)
    return float(np.mean([_binary_auc(*c) for c in zip(positive.T, p.T, weight.T, strict=True)]))


def _counts(y_true: ArrayLike, prediction: ArrayLike, sample_weight: ArrayLike | None) -> tuple[Array, ...]:
    """(hits, said, true) weights for each class or output; of the class 1 alone where there are two."""
    labels, y, p, weight = _pair(y_true, prediction, sample_weight)
    if y is not None:
        said, true = p > 0.5, y > 0.5
        return _totals(weight, said & true), _totals(weight, said), _totals(weight, true)
    said, classes = p.argmax(1), p.shape[1]
    counts = (
        np.bincount(labels[said == labels], weight[said == labels], classes),
        np.bincount(said, weight, classes),
        np.bincount(labels, weight, classes),
    )
    if classes == 2:
        return tuple(c[1:] for c in counts)
    present = (counts[1] > 0) | (counts[2] > 0)  # as scikit-learn: a class nobody names is none
    return tuple(c[present] for c in counts)


def _ratio(over: Doubles, under: Doubles) -> float:
    return float(np.mean(np.divide(over, under, out=np.zeros(len(over)), where=under > 0)))


def precision(y_true: ArrayLike, prediction: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Share of the yes that were right; macro mean over 3 or more classes, or the outputs.

    >>> metrics.precision([1.0, 0.0, 0.0, 1.0], [0.9, 0.8, 0.1, 0.2])
    0.5
    """
    hits, said, _ = _counts(y_true, prediction, sample_weight)
    return _ratio(hits, said)


def recall(y_true: ArrayLike, prediction: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Share of the true ones that were found; macro mean over 3 or more classes, or the outputs.

    >>> metrics.recall([1.0, 0.0, 0.0, 1.0], [0.9, 0.2, 0.1, 0.2])
    0.5
    """
    hits, _, true = _counts(y_true, prediction, sample_weight)
    return _ratio(hits, true)


def f1(y_true: ArrayLike, prediction: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """2 precision recall / (precision + recall); macro mean over 3 or more classes, or the outputs.

    >>> metrics.f1([1.0, 0.0, 0.0, 1.0], [0.9, 0.8, 0.1, 0.2])
    0.5
    """
    hits, said, true = _counts(y_true, prediction, sample_weight)
    return _ratio(2 * hits, said + true)


def log_loss(y_true: ArrayLike, prediction: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """-log of the probability given to what is true, in nats, mean over samples (and outputs).

    >>> round(metrics.log_loss([0, 1], [[0.5, 0.5], [0.75, 0.25]]), 4)
    1.0397
    """
    labels, y, p, weight = _pair(y_true, prediction, sample_weight)
    tiny = np.finfo(np.asarray(prediction).dtype if np.asarray(prediction).dtype.kind == "f" else float).eps
    if y is None:
        p = np.clip(p, tiny, 1 - tiny)
        return _mean(-np.log(p[np.arange(len(p)), labels]), weight)
    p = np.clip(p, tiny, 1 - tiny)
    return _mean(-(y * np.log(p) + (1 - y) * np.log1p(-p)), weight)


def _numbers(
    name: str, y_true: ArrayLike, prediction: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[Doubles, Doubles, Doubles]:
    labels, y, p, weight = _pair(y_true, prediction, sample_weight)
    if y is None:
        raise ValueError(f"{name}: got class labels and {p.shape[1]} probabilities, takes numbers to predict")
    return y, p, weight


def r2(y_true: ArrayLike, prediction: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """1 - residual / total sum of squares, mean over the outputs; a constant output: 1 if met, else 0.

    >>> metrics.r2([1.0, 2.0, 3.0], [1.0, 2.0, 4.0])
    0.5
    """
    y, p, weight = _numbers("r2", y_true, prediction, sample_weight)
    residual = _totals(weight, (y - p) ** 2)
    total = _totals(weight, (y - np.average(y, axis=0, weights=weight)) ** 2)
    constant = np.where(residual > 0, 0.0, 1.0)
    return float(np.mean(np.where(total > 0, 1 - residual / np.where(total > 0, total, 1), constant)))


def mae(y_true: ArrayLike, prediction: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Mean absolute error, over samples and outputs.

    >>> metrics.mae([1.0, 2.0], [1.0, 4.0])
    1.0
    """
    y, p, weight = _numbers("mae", y_true, prediction, sample_weight)
    return _mean(np.abs(y - p), weight)


def mse(y_true: ArrayLike, prediction: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Mean squared error, over samples and outputs.

    >>> metrics.mse([1.0, 2.0], [1.0, 4.0])
    2.0
    """
    y, p, weight = _numbers("mse", y_true, prediction, sample_weight)
    return _mean((y - p) ** 2, weight)


def rmse(y_true: ArrayLike, prediction: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Root of each output's mean squared error, mean over the outputs.

    >>> metrics.rmse([1.0, 2.0], [3.0, 4.0])
    2.0
    """
    y, p, weight = _numbers("rmse", y_true, prediction, sample_weight)
    return float(np.mean(np.sqrt(_totals(weight, (y - p) ** 2) / weight.sum(0))))


METRICS = {f.__name__: f for f in (accuracy, top_k, auc, f1, precision, recall, r2, mae, mse, rmse, log_loss)}
LARGER = ("accuracy", "acc", "top_", "auc", "f1", "precision", "recall", "r2", "score")  # is better


def larger_is_better(name: str) -> bool:
    """Whether a larger value of what History calls ``name`` is better: by its name, as Keras does."""
    return name.removeprefix("val_").startswith(LARGER) or name.endswith("acc")


def _top(k: int) -> MetricFunction:
    def metric(y_true: ArrayLike, prediction: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        return top_k(y_true, prediction, sample_weight, k)

    return metric


def table(metrics: MetricsLike | None) -> dict[str, MetricFunction]:
    """{name: function} from None, one metric or several: names ("auc", "top_3") and functions.

    Raises ValueError for an unknown name, suggesting the nearest, TypeError for what is neither.
    """
    if metrics is None:
        return {}
    result = {}
    for metric in [metrics] if isinstance(metrics, str) or callable(metrics) else metrics:
        if callable(metric):
            result[getattr(metric, "__name__", type(metric).__name__)] = metric
        elif not isinstance(metric, str):
            raise TypeError(f"metrics: got {metric!r}, takes names or functions (y_true, prediction)")
        elif match := re.fullmatch(r"top_([1-9]\d*)", metric):
            result[metric] = _top(int(match[1]))
        elif metric in METRICS:
            result[metric] = METRICS[metric]
        else:
            raise unknown("metrics", metric, METRICS)
    return result


def _by_target(function: MetricFunction, y_true: Array, prediction: Array, weight: Array) -> Any:
    """The mean of a function's values for each target (N, targets), by its known samples."""
    rows, targets = y_true.shape
    parts, values = prediction.reshape(rows, -1, targets), []
    for k in range(targets):
        known = weight[:, k] > 0
        if known.any():
            w, p = weight[known, k], parts[known, :, k]
            more = {} if (w == w[0]).all() else {"sample_weight": w}
            values.append(function(y_true[known, k], p[:, 0] if p.shape[1] == 1 else p, **more))
    return np.mean(values)


def measure(
    functions: Mapping[str, MetricFunction],
    y_true: Array,
    prediction: Array,
    sample_weight: Array | None = None,
) -> dict[str, float]:
    """{name: value} of a ``table``. One column becomes (N,); a function gets weights if there are any.

    With weights of targets, (N, targets), a function that is none of METRICS is called for each target, by
    the samples where its weight is not 0: the mean counts.
    """
    y, p = (a[:, 0] if a.ndim == 2 and a.shape[1] == 1 else a for a in (y_true, prediction))
    weight = {} if sample_weight is None else {"sample_weight": sample_weight}
    result = {}
    for name, function in functions.items():
        if sample_weight is not None and sample_weight.ndim == 2 and function not in METRICS.values():
            value = _by_target(function, y_true, prediction, sample_weight)
        else:
            value = function(y, p, **weight)
        try:
            result[name] = float(value)
        except (TypeError, ValueError):
            raise TypeError(
                f"metrics: {name} returned {value!r}, takes a function that returns a number"
            ) from None
    return result
