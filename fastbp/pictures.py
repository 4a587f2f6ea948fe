"""Pictures of a trained model: what it confuses, how far it is off, its weights, filters and borders.

Each takes plain arrays and a path, whose suffix says the format (.png, .svg, .pdf), and returns the Path;
all raise ImportError where matplotlib is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .drawing.plots import INK, TRAIN, VALIDATION, new_figure, plain_numbers, quiet_axes, save

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike

    from .types import Array, FilePath, Ints

__all__ = [
    "confusion", "confusion_matrix", "predicted_against_true", "histograms", "filters",
    "decision_boundary",
]  # fmt: skip

_MOST = 30  # classes that are shown one by one
_POINTS = 4000  # dots that a picture can take


def confusion(true: ArrayLike, predicted: ArrayLike, classes: Sequence[Any]) -> Ints:
    """(C, C) counts: row the true class, column the predicted one; both as places in classes.

    >>> pictures.confusion([0, 1, 1], [0, 1, 0], ["cat", "dog"]).tolist()
    [[1, 0], [1, 1]]
    """
    counts = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(counts, (np.asarray(true, np.int64), np.asarray(predicted, np.int64)), 1)
    return counts


def confusion_matrix(true: ArrayLike, predicted: ArrayLike, classes: Sequence[Any], path: FilePath) -> Path:
    """Counts of true against predicted classes; shades are shares of a true class. At most 30 classes.

    true, predicted : (N,) places in ``classes``. Raises ValueError for more classes than can be read.

    >>> pictures.confusion_matrix([0, 1, 1], [0, 1, 0], ["cat", "dog"], "confusion.png").name
    'confusion.png'
    """
    if len(classes) > _MOST:
        raise ValueError(f"classes: got {len(classes)}, takes up to {_MOST} to be read")
    counts = confusion(true, predicted, classes)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 2.2 + 0.42 * len(classes)
    figure = new_figure(size + 0.6, size)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            shade = "white" if shares[row, column] > 0.55 else INK
            axes.text(column, row, f"{count:,}", ha="center", va="center", fontsize=8, color=shade)
    names = [str(label)[:14] for label in classes]
    places = range(len(classes))
    axes.set_xticks(places, names, rotation=90 if max(map(len, names)) > 3 else 0)
    axes.set_yticks(places, names)
    axes.set_xlabel("predicted", color=INK)
    axes.set_ylabel("true", color=INK)
    axes.spines[:].set_visible(False)
    axes.tick_params(colors=INK, length=0, labelsize=9)
    return save(figure, path)


def predicted_against_true(
    true: ArrayLike, predicted: ArrayLike, path: FilePath, name: str = "target"
) -> Path:
    """A dot for each sample (at most 4000, evenly taken), and the line where they are equal.

    >>> pictures.predicted_against_true([1.0, 2.0], [1.1, 1.9], "prices.png", "price").name
    'prices.png'
    """
    true, predicted = np.ravel(true), np.ravel(predicted)
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
    return save(figure, path)


def histograms(weights: Sequence[ArrayLike], gradients: Sequence[ArrayLike] | None, path: FilePath) -> Path:
    """How weights and gradients are spread, layer by layer.

    weights : W (fan_in, fan_out) of each layer; gradients : dW likewise, or None.

    >>> pictures.histograms(trainer.net.weights, [dW for dW, _ in trainer.gradients(X, y)[1]], "h.png").name
    'h.png'
    """
    rows = [("weights", weights, TRAIN)]
    if gradients is not None:
        rows.append(("gradients", gradients, VALIDATION))
    figure = new_figure(max(3.2, 2.3 * len(weights)), 1.9 * len(rows) + 0.4)
    grid = figure.subplots(len(rows), len(weights), squeeze=False)
    for line, (name, arrays, color) in zip(grid, rows, strict=True):
        for k, (axes, array) in enumerate(zip(line, arrays, strict=True)):
            axes.hist(np.ravel(array), bins=60, color=color)
            axes.set_title(f"{name}, layer {k}", loc="left", fontsize=9, color=INK)
            quiet_axes(axes)
            axes.set_yticks([])
            axes.locator_params(axis="x", nbins=3, prune="both" if len(arrays) > 1 else None)
            plain_numbers(axes.xaxis)
    return save(figure, path)


def filters(W: Array, path: FilePath, shape: tuple[int, int] | None = None, most: int = 40) -> Path:
    """The first layer's weights as images: of the units with the largest ones, at most ``most``.

    W : (fan_in, units); shape : (rows, columns) of an image, default square. Blue is negative, red
    positive. Raises ValueError where fan_in is no such image.

    >>> pictures.filters(trainer.net.weights[0], "filters.png").name
    'filters.png'
    """
    side = int(round(len(W) ** 0.5))
    rows, columns = shape or (side, side)
    if rows * columns != len(W):
        raise ValueError(f"shape: got {len(W)} inputs, takes rows * columns of an image")
    order = np.argsort(-np.linalg.norm(W, axis=0), kind="stable")[:most]
    across = min(10, len(order))
    down = -(-len(order) // across)
    figure = new_figure(0.75 * across + 0.3, 0.75 * down + 0.3)
    grid = figure.subplots(down, across, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, unit in zip(grid, order, strict=False):
        image = W[:, unit].reshape(rows, columns)
        top = np.abs(image).max() or 1.0
        axes.imshow(image, cmap="RdBu_r", vmin=-top, vmax=top)
    return save(figure, path)


def decision_boundary(
    predict: Callable[[Array], Array],
    X: Array,
    labels: ArrayLike,
    classes: Sequence[Any],
    path: FilePath,
    names: Sequence[str] = ("x 0", "x 1"),
    points: int = 200,
) -> Path:
    """What is predicted over the plane of two features, and the samples on it.

    predict : (M, 2) -> (M,) places in classes; X : (N, 2), labels : (N,) places in classes.

    >>> points = np.array([[0.0, 0.0], [1.0, 1.0]])
    >>> above = lambda plane: (plane.sum(axis=1) > 1).astype(int)
    >>> pictures.decision_boundary(above, points, [0, 1], ["low", "high"], "border.png").name
    'border.png'
    """
    from matplotlib import colormaps

    low, high = X.min(axis=0), X.max(axis=0)
    margin = 0.08 * np.where(high > low, high - low, 1.0)
    axis = [np.linspace(a - m, b + m, points) for a, b, m in zip(low, high, margin, strict=True)]
    plane = np.stack(np.meshgrid(*axis), axis=-1).reshape(-1, 2)
    answers = predict(plane).reshape(points, points)
    colors = colormaps["tab10"](np.arange(len(classes)) % 10)
    figure = new_figure(5.2, 4.4)
    axes = figure.subplots()
    extent = (axis[0][0], axis[0][-1], axis[1][0], axis[1][-1])
    shades = 1 - 0.25 * (1 - colors[..., :3])
    axes.imshow(shades[answers], extent=extent, origin="lower", aspect="auto")
    step = -(-len(X) // _POINTS)
    for k, label in enumerate(classes):
        mine = X[::step][np.asarray(labels)[::step] == k]
        axes.plot(*mine.T, ".", color=colors[k], markersize=5, label=str(label)[:14])
    axes.set_xlabel(names[0], color=INK)
    axes.set_ylabel(names[1], color=INK)
    quiet_axes(axes, None)
    axes.legend(frameon=True, fontsize=8, labelcolor=INK)
    return save(figure, path)
