"""Curves and bars of a training, by matplotlib (the extra `plot`), without pyplot or a display."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from ..metrics import direction
from .picture import EDGE, GRID, GROUND, INK, TRAIN, VALIDATION, Picture, finished

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..types import FilePath

_NO_PANEL = ("seconds", "lr")
DPI = 144


def learning_curves(
    history: Mapping[str, Sequence[Any]],
    path: FilePath | None = None,
    title: str | None = None,
    headed: bool = True,
) -> Picture:
    """Draw loss, accuracy and metrics, where there are any, against epochs.

    history: a dict of lists, one value per epoch: "loss", "val_loss", "accuracy", "val_accuracy",
    metrics with and without val_; what is missing or empty is left out. A dot marks the best validation
    value. headed: whether the title is drawn.

    Raises ImportError where matplotlib is missing, ValueError for a history without numbers or a
    suffix matplotlib does not know.
    """
    found = panels(history)
    if not found:
        raise ValueError("history: holds no 'loss'; takes the history of a fit of 1 epoch or more")
    columns = min(len(found), 3)
    figure, panes = _figure(-(-len(found) // columns), columns, title if headed else None)
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    for axes in panes[len(found) :]:
        axes.set_visible(False)
    said = [_panel(axes, history, key) for axes, key in zip(panes, found, strict=False)]
    for axes, key in zip(panes, found, strict=False):
        axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True, min_n_ticks=1))
        if key == "accuracy":
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
        elif axes.get_yscale() == "log":
            _log(axes)
    keys = [key for name in found for key in (name, f"val_{name}") if has(history, key)]
    epochs = max(len(history[key]) for key in keys)
    rows = [["epoch", *(key.replace("val_", "validation ") for key in keys)]]
    for epoch in range(epochs):
        values = (history[key][epoch] if epoch < len(history[key]) else None for key in keys)
        rows.append([f"{epoch + 1}", *(f"{v:.4g}" if finite(v) else "" for v in values)])
    words = f"Over {epochs} epoch{'s'[: epochs > 1]}: {'; '.join(said)}."
    return finished(figure, path, title or "Learning curves", words, rows)


def panels(history: Mapping[str, Sequence[Any]]) -> list[str]:
    """The quantities of a history that have a panel each."""
    names = dict.fromkeys(["loss", "accuracy", *(key.removeprefix("val_") for key in history)])
    return [k for k in names if k not in _NO_PANEL and (has(history, k) or has(history, f"val_{k}"))]


def new_figure(width: float, height: float, title: str | None = None) -> Any:
    """A figure of so many inches that needs no display. Raises ImportError without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("matplotlib is needed for pictures: pip install 'fastbp[plot]'") from error
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, color=INK, fontsize=12, x=0.012, ha="left")
    return figure


def _figure(rows: int, columns: int, title: str | None = None) -> tuple[Any, list[Any]]:
    """(figure, its axes in one list). Raises ImportError where matplotlib is missing."""
    figure = new_figure(4.6 * columns + 0.4, 3.9 * rows, title)
    return figure, list(figure.subplots(rows, columns, squeeze=False).ravel())


def _log(axes: Any) -> None:
    """A logarithmic axis with ticks at 1 and 3 times the powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def layer_bars(diagnosis: Any, path: FilePath | None = None) -> Picture:
    """Draw a fastbp.diagnosis.Diagnosis, layer by layer."""
    figure, (outputs, gradients, shares, updates) = _figure(2, 2)
    layers = diagnosis.layers
    place = list(range(len(layers)))
    outputs.errorbar(
        place, [r.mean for r in layers], [r.std for r in layers], fmt="o", color=TRAIN, capsize=3
    )
    for axes, name, color in ((gradients, "gradient", TRAIN), (gradients, "delta", VALIDATION)):
        axes.plot(place, [getattr(r, name) for r in layers], "o-", color=color, label=name)
    shares.bar([p - 0.2 for p in place], [r.dead for r in layers], 0.4, color=TRAIN, label="dead units")
    saturated = [r.saturated for r in layers]
    shares.bar([p + 0.2 for p in place], saturated, 0.4, color=VALIDATION, label="saturated outputs")
    updates.plot(place, [r.update for r in layers], "o-", color=TRAIN)
    updates.axhline(1e-3, color=VALIDATION, linewidth=1, linestyle="--", label="usual")
    shares.set_ylim(0, 1)
    titles = "outputs: mean and deviation", "gradient norm, delta", "share", "update / weight"
    for axes, text in zip((outputs, gradients, shares, updates), titles, strict=True):
        axes.set_xticks(place, [r.name.split(":")[0] for r in layers])
        _dress(axes, text, "layer")
        if axes in (gradients, updates) and any(v > 0 for line in axes.lines for v in line.get_ydata()):
            _log(axes)
        if axes is not outputs:
            axes.legend(frameon=False, fontsize=9, labelcolor=INK)
    warnings = "; ".join(diagnosis.warnings) or "no warning"
    words = f"{len(layers)} layers on {diagnosis.rows} rows: {warnings}."
    return finished(figure, path, "Signals, gradients and updates by layer", words, diagnosis.table())


def _dress(axes: Any, title: str, across: str) -> None:
    axes.set_title(title, loc="left", color=INK, fontsize=11)
    axes.set_xlabel(across, color=INK)
    quiet_axes(axes)
    axes.margins(x=0.03, y=0.08)


def quiet_axes(axes: Any, grid: Literal["x", "y", "both"] | None = "y") -> None:
    """Axes without a box: a faint grid, the bottom line, small labels."""
    axes.set_axisbelow(True)
    if grid:
        axes.grid(axis=grid, color=GRID, linewidth=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(EDGE)
    axes.tick_params(colors=INK, length=0, labelsize=9)


def plain_numbers(axis: Any) -> None:
    """Tick labels as people write numbers, without a power of ten in the corner."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda v, _: plain(v, "g")))


def plain(value: float, form: str = ".4g") -> str:
    """A number as people write it: 12,345 and 1.234."""
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:{form}}"


def has(history: Mapping[str, Sequence[Any]], key: str) -> bool:
    """A list with at least one finite value (or a None where a validation was not made)."""
    return any(finite(value) for value in history.get(key) or ())


def finite(value: Any) -> bool:
    return value is not None and math.isfinite(value)


def _panel(axes: Any, history: Mapping[str, Sequence[Any]], key: str) -> str:
    """One quantity: the training curve, that of validation and its best epoch; what it shows, in words."""
    said, shown = [], []
    for label, name, color in (("training", key, TRAIN), ("validation", f"val_{key}", VALIDATION)):
        if not has(history, name):
            continue
        values = [value if finite(value) else math.nan for value in history[name]]
        there = [value for value in values if finite(value)]
        epochs = range(1, len(values) + 1)
        dots = "o" if len(values) < 3 else None
        axes.plot(epochs, values, color=color, linewidth=1.8, marker=dots, markersize=4, label=label)
        said.append(f"{label} {there[0]:.3g} to {there[-1]:.3g}")
        shown += there
        if name.startswith("val_") and len(values) > 2 and direction(key):
            best = (max if direction(key) > 0 else min)(there)
            epoch = values.index(best) + 1
            shown_best = f"{100 * best:.2f} %" if key == "accuracy" else f"{best:.3g}"
            note = f"best validation {shown_best}, epoch {epoch}"
            axes.set_title(note, loc="right", color=color, fontsize=9)
            axes.plot(epoch, best, "o", color=color, markersize=6, markeredgecolor=GROUND)
            said.append(note)

    # Losses fall by powers of ten: on a linear axis all but the first epochs lie on the floor.
    if key == "loss" and min(shown) > 0 and max(shown) > 20 * min(shown):
        axes.set_yscale("log")
    _dress(axes, key, "epoch")
    corner = "lower right" if direction(key) > 0 else "upper right"
    axes.legend(loc=corner, frameon=False, fontsize=9, labelcolor=INK)
    return f"{key} {', '.join(said)}"


def range_test(found: Any, path: FilePath | None = None, title: str | None = None) -> Picture:
    """Draw losses against learning rates (a fastbp.lrfind.RangeTest).

    Raises ImportError where matplotlib is missing, ValueError for a suffix matplotlib does not know.
    """
    figure, (axes,) = _figure(1, 1, title)
    axes.plot(found.lr, found.losses, color=TRAIN, linewidth=0.8, alpha=0.5, label="loss")
    axes.plot(found.lr, found.smoothed, color=TRAIN, linewidth=1.8, label="smoothed")
    axes.axvline(found.suggestion, color=VALIDATION, linewidth=1.2)
    axes.set_title(f"suggestion {found.suggestion:.2g}", loc="right", color=VALIDATION, fontsize=9)
    axes.set_xscale("log")
    axes.set_ylim(top=2 * found.losses[0] - found.smoothed.min())  # the explosion would hide the rest
    _dress(axes, "loss", "learning rate")
    axes.legend(loc="lower left", frameon=False, fontsize=9, labelcolor=INK)
    words = (
        f"Rates from {found.lr[0]:.2g} to {found.lr[-1]:.2g}: the smoothed loss begins at "
        f"{found.smoothed[0]:.3g}, is {found.smoothed.min():.3g} at best; suggestion {found.suggestion:.2g}."
    )
    rows = [["lr", "loss", "smoothed"]]
    numbers = zip(found.lr, found.losses, found.smoothed, strict=True)
    rows += [[f"{number:.4g}" for number in line] for line in numbers]
    return finished(figure, path, title or "Loss against learning rate", words, rows)
