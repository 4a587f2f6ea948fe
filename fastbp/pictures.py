"""Pictures of a trained model: what it confuses, how sure it may be, how far it is off, weights, borders.

Each takes plain arrays and returns a Picture, which a notebook shows; given a path, whose suffix says the
format (.png, .svg, .pdf), it is written there too. All raise ImportError where matplotlib is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .drawing.picture import GROUND, INK, SHADE, TRAIN, VALIDATION, Picture, finished
from .drawing.plots import new_figure, plain, plain_numbers, quiet_axes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike

    from .types import Array, Doubles, FilePath, Ints

__all__ = [
    "Picture", "confusion", "per_class", "calibration", "Calibration", "confusion_matrix", "reliability",
    "predicted_against_true", "histograms", "filters", "decision_boundary",
]  # fmt: skip

MOST = 30  # classes that are shown one by one
_POINTS = 2000  # dots that a picture can take
_GROUPS = 10  # of samples, of which a table tells
_SHADED = 0.65  # of a color: what is written on it in INK can be read
_NEGATIVE, _POSITIVE = (0.28, 0.47, 0.66), (0.82, 0.38, 0.17)  # seen on white and on black


def confusion(true: ArrayLike, predicted: ArrayLike, classes: Sequence[Any]) -> Ints:
    """(C, C) counts: row the true class, column the predicted one; both as places in classes.

    >>> pictures.confusion([0, 1, 1], [0, 1, 0], ["cat", "dog"]).tolist()
    [[1, 0], [1, 1]]
    """
    counts = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(counts, (np.asarray(true, np.int64), np.asarray(predicted, np.int64)), 1)
    return counts


def per_class(counts: Ints) -> tuple[Doubles, Doubles, Doubles, Ints]:
    """(precision, recall, F1, support) of each class, (C,) each, from ``confusion``'s counts; 0 / 0 is 0.

    As scikit-learn's precision_recall_fscore_support. support : how many samples are of the class.

    >>> precision, recall, f1, support = pictures.per_class(np.array([[1, 0], [1, 1]]))
    >>> precision.tolist(), recall.tolist(), support.tolist()
    ([0.5, 1.0], [1.0, 0.5], [1, 2])
    """
    hits, said, true = np.diag(counts), counts.sum(axis=0), counts.sum(axis=1)
    over = [(hits, said), (hits, true), (2 * hits, said + true)]
    shares = [np.divide(a, b, out=np.zeros(len(hits)), where=b > 0) for a, b in over]
    return shares[0], shares[1], shares[2], true


@dataclass(frozen=True)
class Calibration:
    """How far probabilities can be believed. low, high : (bins,) where each bin of probabilities begins and
    ends; count : samples in it; said, right : their mean probability and the share that came true, NaN in an
    empty bin. error : the expected calibration error, the mean of abs(said - right) over the samples (Guo et
    al. 2017).

    >>> pictures.calibration([0, 1, 1, 1], [0.2, 0.9, 0.9, 0.9]).count.tolist()
    [0, 1, 0, 0, 0, 0, 0, 0, 3, 0]
    """

    low: Doubles
    high: Doubles
    count: Ints
    said: Doubles
    right: Doubles
    error: float


def calibration(true: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> Calibration:
    """Compare probabilities with what came true, in ``bins`` of equal width from 0 to 1.

    probabilities : (N,) or (N, 1) of a yes, true (N,) being 0 or 1; (N, 2): that of the second class; (N, C)
    for more classes: that of the class which is predicted, true (N,) being places. Two classes: as
    scikit-learn's calibration_curve.

    >>> pictures.calibration([0, 1, 1, 1], [0.25, 0.75, 0.75, 0.75]).error
    0.25
    """
    y, p = np.asarray(true), np.asarray(probabilities, np.float64)
    p = p.reshape(len(p), -1)
    if p.shape[1] > 2:
        y, p = p.argmax(axis=1) == y.ravel(), p.max(axis=1)
    else:
        y, p = y.ravel() > 0.5, p[:, -1]
    edges = np.linspace(0, 1, bins + 1)
    place = np.searchsorted(edges[1:-1], p)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        said, right = (np.bincount(place, v, bins) / count for v in (p, y))
    there = count > 0
    error = float(count[there] @ np.abs(said - right)[there] / max(1, len(p)))
    return Calibration(edges[:-1], edges[1:], count, said, right, error)


def confusion_matrix(
    true: ArrayLike, predicted: ArrayLike, classes: Sequence[Any], path: FilePath | None = None
) -> Picture:
    """Counts of true against predicted classes; shades are shares of a true class. At most 30 classes.

    true, predicted : (N,) places in ``classes``. Raises ValueError for more classes than can be read.

    >>> pictures.confusion_matrix([0, 1, 1], [0, 1, 0], ["cat", "dog"], "confusion.png")
    Picture(Confusion matrix, in confusion.png: 2 of 3 are right.)
    """
    if len(classes) > MOST:
        raise ValueError(f"classes: got {len(classes)}, takes up to {MOST} to be read")
    from matplotlib.patches import Rectangle

    counts = confusion(true, predicted, classes)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 2.2 + 0.42 * len(classes)
    figure = new_figure(size + 0.6, size)
    axes = figure.subplots()
    for (row, column), count in np.ndenumerate(counts):
        if count:
            corner, shade = (column - 0.5, row - 0.5), _SHADED * shares[row, column]
            axes.add_patch(Rectangle(corner, 1, 1, facecolor=SHADE, alpha=shade, linewidth=0))
            axes.text(column, row, f"{count:,}", ha="center", va="center", fontsize=8, color=INK)
    names = [str(label) for label in classes]
    short, places = [name[:14] for name in names], range(len(classes))
    axes.set_xticks(places, short, rotation=90 if max(map(len, short)) > 3 else 0)
    axes.set_yticks(places, short)
    axes.set(xlim=(-0.5, len(classes) - 0.5), ylim=(len(classes) - 0.5, -0.5), aspect="equal")
    axes.set_xlabel("predicted", color=INK)
    axes.set_ylabel("true", color=INK)
    axes.spines[:].set_visible(False)
    axes.tick_params(colors=INK, length=0, labelsize=9)
    rows = [["true, predicted", *names]]
    rows += [[name, *map(str, line.tolist())] for name, line in zip(names, counts, strict=True)]
    words = f"{np.trace(counts):,} of {counts.sum():,} are right."
    return finished(figure, path, "Confusion matrix", words, rows)


def reliability(
    true: ArrayLike, probabilities: ArrayLike, path: FilePath | None = None, bins: int = 10
) -> Picture:
    """What came true against the probability that was given, and how many samples got it; see calibration.

    >>> pictures.reliability([0, 1, 1, 1], [0.25, 0.75, 0.75, 0.75]).words.split(":")[0]
    'Expected calibration error 0.2500'
    """
    found = calibration(true, probabilities, bins)
    figure = new_figure(4.6, 5.0)
    curve, counts = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    there = found.count > 0
    curve.plot([0, 1], [0, 1], color=VALIDATION, linewidth=1.2, linestyle="--", label="as it should be")
    curve.plot(found.said[there], found.right[there], "o-", color=TRAIN, markersize=5, label="as it is")
    counts.bar(found.low, found.count, found.high - found.low, align="edge", color=TRAIN, edgecolor=GROUND)
    curve.set_ylabel("share that came true", color=INK)
    curve.legend(loc="upper left", frameon=False, fontsize=9, labelcolor=INK)
    counts.set_ylabel("samples", color=INK)
    counts.set_xlabel("probability that was given", color=INK)
    for axes, grid in ((curve, "both"), (counts, "y")):
        quiet_axes(axes, grid)  # type: ignore[arg-type]
    counts.set_xlim(-0.02, 1.02)
    counts.locator_params(axis="y", nbins=3)
    plain_numbers(counts.yaxis)
    rows = [["probability", "samples", "mean probability", "share that came true"]]
    for low, high, count, said, right in zip(
        found.low, found.high, found.count, found.said, found.right, strict=True
    ):
        told = [f"{said:.4f}", f"{right:.4f}"] if count else ["", ""]
        rows.append([f"{low:.2g} to {high:.2g}", f"{count:,}", *told])
    most = int(found.count.argmax())
    words = (
        f"Expected calibration error {found.error:.4f}: of the {found.count[most]:,} samples whose "
        f"probability is about {found.said[most]:.1%}, {found.right[most]:.1%} came true."
    )
    return finished(figure, path, "Calibration", words, rows)


def predicted_against_true(
    true: ArrayLike, predicted: ArrayLike, path: FilePath | None = None, name: str = "target"
) -> Picture:
    """A dot for each sample (at most 2000, evenly taken), and the line where they are equal.

    >>> pictures.predicted_against_true([1.0, 2.0], [1.1, 1.9], "prices.png", "price")
    Picture(Predicted against true, in prices.png: 2 values of price: R2 0.9600, mean absolute error 0.1.)
    """
    true, predicted = (np.ravel(np.asarray(a, np.float64)) for a in (true, predicted))
    error, spread = predicted - true, np.square(true - true.mean()).sum()
    r2 = f"R2 {1 - np.square(error).sum() / spread:.4f}, " if spread else ""
    words = f"{len(true):,} values of {name}: {r2}mean absolute error {plain(np.abs(error).mean())}."
    rows = [[f"true {name}", "samples", "mean, true", "mean, predicted", "mean absolute error"]]
    for group in np.array_split(np.argsort(true, kind="stable"), min(_GROUPS, len(true))):
        ends = f"{plain(float(true[group[0]]))} to {plain(float(true[group[-1]]))}"
        means = (a[group].mean() for a in (true, predicted, np.abs(error)))
        rows.append([ends, f"{len(group):,}", *map(plain, means)])
    step = -(-len(true) // _POINTS)
    true, predicted = true[::step], predicted[::step]
    figure = new_figure(4.6, 4.4)
    axes = figure.subplots()
    ends = [min(true.min(), predicted.min()), max(true.max(), predicted.max())]
    axes.plot(ends, ends, color=VALIDATION, linewidth=1.2)
    axes.plot(true, predicted, ".", color=TRAIN, markersize=4, alpha=0.5, markeredgewidth=0)
    axes.set_xlabel(f"true {name}", color=INK)
    axes.set_ylabel(f"predicted {name}", color=INK)
    quiet_axes(axes, "both")
    for axis, most in ((axes.xaxis, 4), (axes.yaxis, 6)):
        axis.get_major_locator().set_params(nbins=most)
        plain_numbers(axis)
    return finished(figure, path, "Predicted against true", words, rows)


def histograms(
    weights: Sequence[ArrayLike], gradients: Sequence[ArrayLike] | None, path: FilePath | None = None
) -> Picture:
    """How weights and gradients are spread, layer by layer.

    weights : W (fan_in, fan_out) of each layer; gradients : dW likewise, or None.

    >>> dW = [dW for dW, _ in trainer.gradients(X, y)[1]]
    >>> pictures.histograms(trainer.net.weights, dW, "h.png").rows[0]
    ['layer', 'of', 'numbers', 'mean', 'deviation', 'smallest', 'median', 'largest']
    """
    lines = [("weights", weights, TRAIN)]
    if gradients is not None:
        lines.append(("gradients", gradients, VALIDATION))
    rows, spread = [["layer", "of", "numbers", "mean", "deviation", "smallest", "median", "largest"]], []
    figure = new_figure(max(3.2, 2.3 * len(weights)), 1.9 * len(lines) + 0.4)
    grid = figure.subplots(len(lines), len(weights), squeeze=False)
    for panes, (name, arrays, color) in zip(grid, lines, strict=True):
        for k, (axes, array) in enumerate(zip(panes, arrays, strict=True)):
            flat = np.ravel(array)
            axes.hist(flat, bins=60, color=color, histtype="stepfilled")
            axes.set_title(f"{name}, layer {k}", loc="left", fontsize=9, color=INK)
            quiet_axes(axes)
            axes.set_yticks([])
            axes.locator_params(axis="x", nbins=3, prune="both" if len(arrays) > 1 else None)
            plain_numbers(axes.xaxis)
            told = [f(flat) for f in (np.mean, np.std, np.min, np.median, np.max)]
            rows.append([f"{k}", name, f"{flat.size:,}", *(f"{number:.3g}" for number in told)])
            spread.append(f"{name} of layer {k} {told[1]:.2g}")
    words = f"Standard deviations: {', '.join(spread)}."
    return finished(figure, path, "How numbers are spread, layer by layer", words, rows)


def filters(
    W: Array, path: FilePath | None = None, shape: tuple[int, int] | None = None, most: int = 40
) -> Picture:
    """The first layer's weights as images: of the units with the largest ones, at most ``most``.

    W : (fan_in, units); shape : (rows, columns) of an image, default square. Blue is negative, red
    positive. Raises ValueError where fan_in is no such image.

    >>> pictures.filters(trainer.net.weights[0], "filters.png").words
    'The 16 units with the largest weights, of 16.'
    """
    side = int(round(len(W) ** 0.5))
    down, across = shape or (side, side)
    if down * across != len(W):
        raise ValueError(f"shape: got {len(W)} inputs, takes rows * columns of an image")
    norms = np.linalg.norm(W, axis=0)
    order = np.argsort(-norms, kind="stable")[:most]
    columns = min(10, len(order))
    lines = -(-len(order) // columns)
    figure = new_figure(0.75 * columns + 0.3, 0.75 * lines + 0.3)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    rows = [["unit", "norm", "smallest", "largest"]]
    for axes, unit in zip(grid, order, strict=False):
        image = W[:, unit].reshape(down, across)
        strength = np.abs(image) / (np.abs(image).max() or 1.0)  # 0 is the ground, light or dark
        color = np.where(image[..., None] > 0, _POSITIVE, _NEGATIVE)
        axes.imshow(np.concatenate([color, strength[..., None]], axis=2), interpolation="nearest")
        rows.append([f"{unit}", *(f"{v:.3g}" for v in (norms[unit], image.min(), image.max()))])
    words = f"The {len(order)} units with the largest weights, of {W.shape[1]}."
    return finished(figure, path, "Filters of the first layer", words, rows)


def decision_boundary(
    predict: Callable[[Array], Array],
    X: Array,
    labels: ArrayLike,
    classes: Sequence[Any],
    path: FilePath | None = None,
    names: Sequence[str] = ("x 0", "x 1"),
    points: int = 200,
) -> Picture:
    """What is predicted over the plane of two features, and the samples on it.

    predict : (M, 2) -> (M,) places in classes; X : (N, 2), labels : (N,) places in classes.

    >>> points = np.array([[0.0, 0.0], [1.0, 1.0]])
    >>> above = lambda plane: (plane.sum(axis=1) > 1).astype(int)
    >>> pictures.decision_boundary(above, points, [0, 1], ["low", "high"], "border.png").rows[1]
    ['low', '49.8 %', '1']
    """
    from matplotlib import colormaps

    low, high = X.min(axis=0), X.max(axis=0)
    margin = 0.08 * np.where(high > low, high - low, 1.0)
    axis = [np.linspace(a - m, b + m, points) for a, b, m in zip(low, high, margin, strict=True)]
    plane = np.stack(np.meshgrid(*axis), axis=-1).reshape(-1, 2)
    answers, labels = np.asarray(predict(plane)).reshape(points, points), np.asarray(labels)
    colors = colormaps["tab10"](np.arange(len(classes)) % 10)
    figure = new_figure(5.2, 4.4)
    axes = figure.subplots()
    extent = (axis[0][0], axis[0][-1], axis[1][0], axis[1][-1])
    shades = colors * [1, 1, 1, 0.25]
    axes.imshow(shades[answers], extent=extent, origin="lower", aspect="auto", interpolation="nearest")
    step, rows = -(-len(X) // _POINTS), [["class", "share of the plane", "samples"]]
    for k, label in enumerate(classes):
        mine = X[::step][labels[::step] == k]
        axes.plot(*mine.T, ".", color=colors[k], markersize=5, label=str(label)[:14])
        rows.append([str(label), f"{100 * (answers == k).mean():.1f} %", f"{(labels == k).sum():,}"])
    axes.set_xlabel(names[0], color=INK)
    axes.set_ylabel(names[1], color=INK)
    quiet_axes(axes, None)
    axes.legend(frameon=True, fontsize=8, labelcolor=INK)
    words = f"The plane of {names[0]} and {names[1]}: "
    words += ", ".join(f"{label} {share}" for label, share, _ in rows[1:]) + "."
    return finished(figure, path, "Decision boundary", words, rows)
