"""A run as one HTML page that needs nothing else: scores, curves, pictures, configuration, machine."""

from __future__ import annotations

import base64
import html
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__, pictures
from ..drawing.plots import DPI, learning_curves
from ..engine.options import Options
from .info import machine_rows

if TYPE_CHECKING:
    from ..training.trainer import Trainer
    from ..types import FilePath

_GRADIENT_ROWS = 1024  # of the training data, for the histogram of gradients

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #333; background: #fff;
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: 0 } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; color: #4878a8 }
table { border-collapse: collapse } td { padding: .15rem 1.2rem .15rem 0; vertical-align: top;
  overflow-wrap: anywhere }
td:first-child { color: #777; white-space: nowrap; overflow-wrap: normal }
figure { margin: 0 0 1rem; overflow-x: auto } img { max-width: max(100%, 30rem); height: auto }
figcaption, p { color: #777; font-size: .9rem } p { margin-top: .2rem } pre { overflow-x: auto }
"""


def write(
    path: FilePath,
    trainer: Trainer,
    title: str,
    chosen: dict[str, str],
    scores: dict[str, str],
    train: tuple[Any, Any],
    test: tuple[Any, Any] | None,
    seconds: float,
) -> Path:
    """Write the report of a run of ``fastbp train``.

    chosen, scores : what was chosen and how well it does, {label: text}. train, test : (X, y) raw, as
    the trainer takes them; test None: there are none. seconds : of training. Returns the Path; raises
    ImportError without matplotlib, OSError where nothing can be written.
    """
    net, threads = trainer.net, trainer.num_threads
    took = f"{seconds:.2f} s, {_count(trainer.epochs, 'epoch')}, {_count(trainer.steps, 'step')}"
    parts = [_table("Result", {**scores, "training": f"{took}, {_count(threads, 'thread')}"})]
    with tempfile.TemporaryDirectory() as folder:
        for heading, caption, draw in _drawings(trainer, train, test):
            file = draw(Path(folder) / "picture.png")
            parts.append(
                f"<h2>{html.escape(heading)}</h2>\n<figure>{_image(file, heading)}"
                f"<figcaption>{html.escape(caption)}</figcaption></figure>"
            )
    parts.append(_table("What was chosen", chosen))
    parts.append(_table("Configuration", _configuration(trainer)))
    parts.append(f"<h2>Network</h2>\n<pre>{html.escape(net.summary())}</pre>")
    parts.append(_table("Machine", machine_rows()))
    page = (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style></head>\n<body>\n"
        f"<h1>{html.escape(title)}</h1>\n<p>fastbp {__version__}</p>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )
    path = Path(path)
    path.write_text(page, encoding="utf-8")
    return path


def _count(number, what):
    return f"{number:,} {what}{'s'[: number != 1]}"


def _image(file, heading):
    """A .png of plots.DPI as an element of the page, as wide as it was drawn."""
    data = file.read_bytes()
    width = int.from_bytes(data[16:20], "big") * 96 // DPI  # of its header
    image = base64.b64encode(data).decode()
    return f'<img alt="{html.escape(heading)}" width="{width}" src="data:image/png;base64,{image}">'


def _table(heading, rows):
    lines = [
        f"<tr><td>{html.escape(str(label))}</td><td>{html.escape(str(value))}</td></tr>"
        for label, value in rows.items()
    ]
    return f"<h2>{html.escape(heading)}</h2>\n<table>\n" + "\n".join(lines) + "\n</table>"


def _configuration(trainer):
    rows = {"loss": _said(trainer.loss.config()), "optimizer": _said(trainer.optimizer.config())}
    rows |= {"batch size": trainer.batch_size, "seed": trainer.seed, "dtype": trainer.net.dtype}
    rows |= {name.replace("_", " "): value for name, value in Options.of(trainer).config().items()}
    return rows | ({"schedule": trainer.schedule} if trainer.schedule is not None else {})


def _said(config):
    """A name and its hyperparameters; those that are off are left out."""
    rest = [f"{k} {v}" for k, v in config.items() if k != "name" and v not in (None, False, 0)]
    return ", ".join([config["name"], *rest])


def _drawings(trainer, train, test):
    """(heading, caption, path -> picture) of all that this model has."""
    history = trainer.history.history
    preparation = trainer.preparation
    X, y = test or (None, None)
    if history.get("loss"):
        yield (
            "Learning curves",
            "Training while the weights change, validation after each epoch.",
            (lambda path: learning_curves(history, path)),
        )
    classes = preparation.classes
    if test is not None and classes is not None:
        places = preparation.targets(y)
        outputs = trainer.predict(X)
        if len(classes) <= 30:
            yield (
                "Confusion matrix",
                "Counts on the test samples; shades are shares of the true class.",
                (lambda path: pictures.confusion_matrix(places, _answers(outputs), classes, path)),
            )
        if preparation.columns == 2 and not preparation.categories and isinstance(X, np.ndarray):
            names = preparation.names or ("column 0", "column 1")
            yield (
                "Decision boundary",
                "What is predicted over the plane, and the test samples.",
                (
                    lambda path: pictures.decision_boundary(
                        lambda plane: _answers(trainer.predict(plane)), X, places, classes, path, names
                    )
                ),
            )
    elif test is not None and preparation.y_mean is not None:
        yield (
            "Predicted against true",
            "Test samples; on the line they are equal.",
            (
                lambda path: pictures.predicted_against_true(
                    y, trainer.predict(X), path, preparation.target or "target"
                )
            ),
        )
    rows = slice(0, _GRADIENT_ROWS)
    some = train[0].rows(rows) if hasattr(train[0], "rows") else train[0][rows]
    _, gradients = trainer.gradients(some, train[1][rows])
    yield (
        "Weights and gradients",
        f"After training; gradients of the first {len(train[1][rows]):,} samples.",
        (lambda path: pictures.histograms(trainer.net.weights, [dW for dW, _ in gradients], path)),
    )
    inputs = trainer.net.sizes[0]
    if getattr(train[0], "dtype", None) == np.uint8 and inputs >= 16 and round(inputs**0.5) ** 2 == inputs:
        yield (
            "Filters of the first layer",
            "Units with the largest weights; red positive, blue negative.",
            (lambda path: pictures.filters(trainer.net.weights[0], path)),
        )


def _answers(outputs):
    """Places of the likeliest classes."""
    return (outputs[:, 0] > 0.5).astype(int) if outputs.shape[1] == 1 else outputs.argmax(axis=1)
