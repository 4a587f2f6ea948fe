"""Pictures: learning curves by matplotlib (the extra `plot`), without pyplot or a display."""

import math
from pathlib import Path

_TRAIN, _VALIDATION, _INK, _GRID = "#4878a8", "#d1622b", "#333333", "#e4e4e4"


def learning_curves(history, path, title=None):
    """Draw loss, and accuracy where there is one, against epochs; returns the Path written.

    history: a dict of lists, one value per epoch: "loss", "val_loss", "accuracy",
    "val_accuracy"; what is missing or empty is left out. A dot marks the best validation value.
    path: the picture's file; its suffix says the format (.png, .svg, .pdf).

    Raises ImportError where matplotlib is missing, ValueError for a history without a loss or a
    suffix matplotlib does not know.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
    except ImportError as error:
        raise ImportError("matplotlib is needed for pictures: pip install 'fastbp[plot]'") from error

    panels = [key for key in ("loss", "accuracy") if _has(history, key)]
    if not _has(history, "loss"):
        raise ValueError("history: holds no 'loss'; takes the history of a fit of 1 epoch or more")

    figure = Figure(figsize=(4.6 * len(panels) + 0.4, 3.9), dpi=144, layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, color=_INK, fontsize=12, x=0.012, ha="left")
    for axes, key in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _panel(axes, history, key)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True, min_n_ticks=1))
        if key == "accuracy":
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
        elif axes.get_yscale() == "log":
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_locator(NullLocator())
    path = Path(path)
    figure.savefig(path, facecolor="white")
    return path


def _has(history, key):
    """A list with at least one finite value (or a None where a validation was not made)."""
    return any(_finite(value) for value in history.get(key) or ())


def _finite(value):
    return value is not None and math.isfinite(value)


def _panel(axes, history, key):
    """One quantity: the training curve, the validation curve and its best epoch."""
    series = [("training", key, _TRAIN), ("validation", f"val_{key}", _VALIDATION)]
    shown = []
    for label, name, color in series:
        if not _has(history, name):
            continue
        values = [value if _finite(value) else math.nan for value in history[name]]
        epochs = range(1, len(values) + 1)
        dots = "o" if len(values) < 3 else None
        axes.plot(epochs, values, color=color, linewidth=1.8, marker=dots, markersize=4, label=label)
        shown += [value for value in values if _finite(value)]
        if name.startswith("val_") and len(values) > 2:
            best = (min if key == "loss" else max)(v for v in values if _finite(v))
            epoch = values.index(best) + 1
            shown_best = f"{best:.3g}" if key == "loss" else f"{100 * best:.2f} %"
            note = f"best validation {shown_best}, epoch {epoch}"
            axes.set_title(note, loc="right", color=color, fontsize=9)
            axes.plot(epoch, best, "o", color=color, markersize=6, markeredgecolor="white")

    # Losses fall by powers of ten: on a linear axis all but the first epochs lie on the floor.
    if key == "loss" and min(shown) > 0 and max(shown) > 20 * min(shown):
        axes.set_yscale("log")
    axes.set_title(key, loc="left", color=_INK, fontsize=11)
    axes.set_xlabel("epoch", color=_INK)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#999999")
    axes.tick_params(colors=_INK, length=0, labelsize=9)
    axes.margins(x=0.03, y=0.08)
    corner = "upper right" if key == "loss" else "lower right"
    axes.legend(loc=corner, frameon=False, fontsize=9, labelcolor=_INK)
