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

import functools
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import distinct, named, stands_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike

    from .types import Array, Doubles, MetricFunction, MetricsLike

__all__ = [
    "accuracy", "top_k", "auc", "precision", "recall", "f1", "log_loss", "r2", "mae", "mse", "rmse",
    "pinball",
]  # fmt: skip


def _pair(
    y_true: ArrayLike, prediction: ArrayLike, sample_weight: ArrayLike | None
) -> tuple[Any, Any, Doubles, Doubles]:
    """(labels or None, y (N, C) or None, prediction (N, C), weights (N,) or (N, C)), the last two float64."""
    y, p = np.asarray(y_true), np.asarray(prediction, np.float64)
    weight = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    if p.ndim == 2 and p.shape[1] > 1 and (y.ndim == 1 or y.shape[1:] == (1,)):
        labels = y.reshape(-1)
        if labels.dtype.kind in "iub" and len(labels) == len(p):
            low, high = (int(labels.min()), int(labels.max())) if len(labels) else (0, 0)
            if low < 0 or high >= p.shape[1]:
                got, most = low if low < 0 else high, p.shape[1] - 1
                raise ValueError(f"y_true: got label {got}, takes 0 to {most}, columns of the prediction")
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
    present = np.zeros(classes, bool)  # as scikit-learn: a class nobody names is none, whatever its weight
    present[said] = present[labels] = True
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


def pinball(
    y_true: ArrayLike,
    prediction: ArrayLike,
    sample_weight: ArrayLike | None = None,
    quantiles: Sequence[float] = (0.5,),
) -> float:
    """Mean over samples, targets and quantiles of q (y - p) where y > p, else (1 - q) (p - y): scikit-learn's
    mean_pinball_loss. prediction: (N, targets * quantiles), all quantiles of the first target first; y_true:
    (N,), (N, targets), or as the prediction. By name it takes the quantiles of the loss.

    >>> metrics.pinball([1.0, 2.0], [[0.0, 2.0], [2.0, 2.0]], quantiles=(0.25, 0.75))
    0.125
    """
    p = np.asarray(prediction, np.float64)
    p = p.reshape(len(p), -1)
    y, weight = _for_each(y_true, p), None if sample_weight is None else np.asarray(sample_weight, np.float64)
    if p.shape[1] % len(quantiles) or y.shape != p.shape:
        raise ValueError(
            f"pinball: got y_true {np.shape(y_true)}, prediction {np.shape(prediction)} and {len(quantiles)} "
            "quantiles, takes a prediction for each target and quantile"
        )
    q, d = np.tile(quantiles, p.shape[1] // len(quantiles)), y - p
    values = np.where(d > 0, q * d, (q - 1) * d)
    if weight is None:
        return float(values.mean())
    if weight.ndim == 2:
        weight = _for_each(weight, p)
        values = np.where(weight > 0, values, 0.0)
    return _mean(values, weight)


def _for_each(numbers: ArrayLike, prediction: Doubles) -> Doubles:
    """Numbers (N,) or (N, targets) for each of a prediction's columns, of which a target has several."""
    found = np.asarray(numbers, np.float64)
    found = found.reshape(len(found), -1)
    each = max(1, prediction.shape[1] // max(1, found.shape[1]))
    return np.repeat(found, each, axis=1)


METRICS = {
    f.__name__: f
    for f in (accuracy, top_k, auc, f1, precision, recall, r2, mae, mse, rmse, log_loss, pinball)
}
OWN = ("loss", "accuracy", "seconds", "lr", "epoch")  # what a fit writes into History and logs by itself
# What is better, by name: ours, and those of scikit-learn's scorers and metrics.
_LARGER = """accuracy top_k auc f1 precision recall r2 accuracy_score adjusted_mutual_info_score
adjusted_rand_score average_precision average_precision_score balanced_accuracy balanced_accuracy_score
calinski_harabasz_score cohen_kappa_score completeness_score consensus_score d2_absolute_error_score
d2_brier_score d2_log_loss_score d2_pinball_score d2_tweedie_score dcg_score explained_variance
explained_variance_score f1_score fbeta_score fowlkes_mallows_score homogeneity_score jaccard jaccard_score
label_ranking_average_precision_score matthews_corrcoef mutual_info_score ndcg_score
normalized_mutual_info_score positive_likelihood_ratio precision_score r2_score rand_score recall_score
roc_auc roc_auc_ovo roc_auc_ovr roc_auc_score silhouette_score top_k_accuracy top_k_accuracy_score
v_measure_score""".split()
_SMALLER = """pinball loss log_loss mae mse rmse brier_score_loss brier_score coverage_error
davies_bouldin_score hamming_loss hinge_loss label_ranking_loss max_error mean_absolute_error
mean_absolute_percentage_error mean_gamma_deviance mean_pinball_loss mean_poisson_deviance
mean_squared_error mean_squared_log_error mean_tweedie_deviance median_absolute_error
negative_likelihood_ratio root_mean_squared_error root_mean_squared_log_error zero_one_loss""".split()
_BETTER = {**dict.fromkeys(_LARGER, 1), **dict.fromkeys(_SMALLER, -1)}


def direction(name: str) -> int:
    """1 where a larger value of what History calls ``name`` is better, -1 where a smaller one is; 0: unknown.

    Known are the losses, the metrics of this module and all of scikit-learn, its scorers' names too.

    >>> metrics.direction("val_roc_auc_score"), metrics.direction("rmse"), metrics.direction("my_own")
    (1, -1, 0)
    """
    plain = name.removeprefix("val_")
    plain = re.sub(r"_(macro|micro|samples|weighted)$", "", plain)
    if plain.startswith("neg_"):
        return -_BETTER.get(plain.removeprefix("neg_"), 0)
    if re.fullmatch(r"top_\d+", plain):
        return 1
    return _BETTER.get(plain) or _BETTER.get(stands_for(plain), 0)


def _top(k: int) -> MetricFunction:
    def metric(y_true: ArrayLike, prediction: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        return top_k(y_true, prediction, sample_weight, k)

    return metric


def table(metrics: MetricsLike | None, quantiles: Sequence[float] | None = None) -> dict[str, MetricFunction]:
    """{name: function} from None, one metric or several: names ("auc", "top_3") and functions.

    quantiles: those of the loss, for the name "pinball".
    Raises ValueError for an unknown name, suggesting the nearest, for two of one name, and for a function
    that is called as what a fit measures itself; TypeError for what is neither.
    """
    if metrics is None:
        return {}
    found: list[tuple[str, MetricFunction]] = []
    for metric in [metrics] if isinstance(metrics, str) or callable(metrics) else metrics:
        if callable(metric):
            found.append((_own_name(metric), metric))
        elif not isinstance(metric, str):
            raise TypeError(f"metrics: got {metric!r}, takes names or functions (y_true, prediction)")
        elif match := re.fullmatch(r"top_([1-9]\d*)", metric):
            found.append((metric, _top(int(match[1]))))
        else:
            name = named("metrics", metric, METRICS)
            function: MetricFunction = METRICS[name]
            if name == "pinball":
                if quantiles is None:
                    raise ValueError(
                        "metrics: got 'pinball', takes it with the loss 'quantile', whose quantiles it has"
                    )
                function = functools.partial(pinball, quantiles=quantiles)
            found.append((name, function))
    distinct("metrics", (name for name, _ in found), "names that differ: set the __name__ of a function")
    return dict(found)


def _own_name(function: Any) -> str:
    """The name under which the values of a user's function stand in History."""
    name = getattr(function, "__name__", type(function).__name__)
    if (name in OWN or name.startswith("val_")) and METRICS.get(name) is not function:
        raise ValueError(
            f"metrics: got a function named {name!r}, under which a fit has numbers of its own; takes "
            "another __name__"
        )
    return name


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

    Where no sample counts they are NaN. With weights of targets, (N, targets), a function that is none of
    METRICS is called for each target, by the samples where its weight is not 0: the mean counts.
    """
    if not len(y_true) or (sample_weight is not None and not sample_weight.any()):
        return dict.fromkeys(functions, float("nan"))
    y, p = (a[:, 0] if a.ndim == 2 and a.shape[1] == 1 else a for a in (y_true, prediction))
    weight = {} if sample_weight is None else {"sample_weight": sample_weight}
    result = {}
    for name, function in functions.items():
        ours = getattr(function, "func", function) in METRICS.values()
        if sample_weight is not None and sample_weight.ndim == 2 and not ours:
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
