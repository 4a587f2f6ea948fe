"""A run as one HTML page that needs nothing else: scores, curves, pictures, configuration, machine."""

from __future__ import annotations

import html
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__, pictures
from ..drawing.plots import learning_curves, panels
from ..engine.options import Options
from ..printing import html_table
from ..writing import written
from .info import machine_rows
from .models import threads_of, trainers_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..drawing.picture import Picture
    from ..training.trainer import Trainer
    from ..types import FilePath
    from .models import Model

_GRADIENT_ROWS = 1024  # of the training data, for the histogram of gradients
_ROWS = 60  # of a picture's table that the page shows

# Colors in pairs, for light and dark pages; those of text have a contrast of 4.5 or more with the ground.
_STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #333; --faint: #666; --head: #3f6f9f; --line: #ddd }
@media (prefers-color-scheme: dark) {
  :root { --ground: #16181c; --ink: #dadada; --faint: #a0a0a0; --head: #7fb0e0; --line: #3a3d42 } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground);
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: 0; overflow-wrap: anywhere }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; color: var(--head) }
p, figcaption, summary { color: var(--faint); font-size: .9rem } p { margin: .2rem 0; max-width: 45rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .15rem 1.2rem .15rem 0; vertical-align: top } tr > :last-child { padding-right: 0 }
th { font-weight: normal; color: var(--faint) } thead th { border-bottom: 1px solid var(--line) }
dl { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; gap: .3rem 1.2rem; margin: .5rem 0 }
dt { color: var(--faint) } dd { margin: 0; overflow-wrap: anywhere }
figure { margin: 0 0 1rem } pre, .wide { overflow-x: auto }
.pictures { display: flex; flex-wrap: wrap } .pictures div { flex: 1 1 20rem }
svg { width: 100%; height: auto }
@media (max-width: 30rem) { th, td { padding-right: .7rem } }
"""


def write(
    path: FilePath,
    model: Model,
    data: str,
    chosen: dict[str, str],
    scores: dict[str, str],
    train: tuple[Any, Any],
    test: tuple[Any, Any] | None,
    seconds: float,
) -> Path:
    """Write the report of a run of ``fastbp train``.

    data : the file's name. chosen, scores : what was chosen and how well it does on the test samples,
    {label: text}. train, test : (X, y) raw, as the trainer takes them; test None: there are none. seconds :
    of training. Returns the Path; raises ImportError without matplotlib, OSError where none can be written.

    But for the section "This run", with date and time, the same run gives the same page.
    """
    trainers = trainers_of(model)
    trainer = trainers[0]
    target = trainer.preparation.target if trainer.preparation else None
    name = f"{data}: {target}" if target else data
    now = _now()
    parts = [
        _list("Test", scores, _tested(trainer, test) + _first_of(trainers)),
        *_curves(trainer),
        *(_on_test(model, *test) if test else ()),
        *_inside(trainer, *train),
        _list("What was chosen", chosen),
        _list("Configuration", _configuration(trainer)),
        f"<h2>Network</h2>\n<pre>{html.escape(trainer.net.summary())}</pre>",
        _list("Machine", machine_rows()),
        _list("This run", {"date": now, **_run(trainers, seconds)}),
    ]
    title = html.escape(f"{name}, {now[:10]}")
    page = (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title>\n<style>{_STYLE}</style></head>\n<body>\n<main>\n"
        f"<h1>{html.escape(name)}</h1>\n<p>{now}, fastbp {__version__}</p>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )
    with written(path, "w", encoding="utf-8") as file:
        file.write(page)
    return Path(path)


def _now():
    """The date and time, or those of SOURCE_DATE_EPOCH, by which builds are repeated."""
    fixed = os.environ.get("SOURCE_DATE_EPOCH")
    at = datetime.fromtimestamp(int(fixed), timezone.utc) if fixed else datetime.now().astimezone()
    return at.strftime("%Y-%m-%d %H:%M %Z").strip()


def _run(trainers, seconds):
    steps = sum(trainer.steps for trainer in trainers)
    done = f"{_count(max(trainer.epochs for trainer in trainers), 'epoch')}, {_count(steps, 'step')}"
    return {"training": f"{seconds:.2f} s, {done}, {_count(threads_of(trainers), 'thread')}"}


def _first_of(trainers):
    if len(trainers) == 1:
        return ""
    return f" Scores are of all {len(trainers)} networks; curves, weights and configuration of the first."


def _tested(trainer, test):
    """What the test samples had to do with the training, in words."""
    history, said = trainer.history, "No samples were held out to test on. "
    if test:
        samples = _count(len(test[1]), "test sample")
        said = f"The {samples} took no part in training, and nothing was chosen by them. "
    if not any(key.startswith("val_") for key in history.history):
        return said + "No samples were held out for validation: the model is that of the last step."
    said += f"Other samples, held out for validation, were scored after each of {history.epochs} epochs: "
    if history.kept is None:
        return said + "the model is that of the last step."
    return said + f"the model is that of epoch {history.kept}, whose validation loss was the lowest."


# --- pictures ---


def _curves(trainer: Trainer) -> Iterator[str]:
    history = trainer.history.history
    if not history.get("loss"):
        return
    drawn = []
    for key in panels(history):  # a picture each, which a narrow page puts one under the other
        one = {name: history[name] for name in (key, f"val_{key}") if name in history}
        drawn.append(learning_curves(one, title=f"Learning curve: {key}", headed=False))
    caption = "Training while the weights change, validation after each epoch."
    yield _figure("Learning curves", caption, drawn, learning_curves(history).rows)


def _on_test(model: Model, X: Any, y: Any) -> Iterator[str]:
    """Sections of what the model says of the test samples."""
    preparation: Any = trainers_of(model)[0].preparation
    outputs = model.predict(X)
    classes = preparation.classes
    if classes is not None:
        yield from _of_classes(model, X, preparation.targets(y), outputs)
    elif preparation.y_mean is not None:
        picture = pictures.predicted_against_true(y, outputs, name=preparation.target or "target")
        yield _figure(picture.title, f"Test samples; on the line they are equal. {picture.words}", [picture])
    else:  # several yes or no
        y = np.asarray(y).reshape(outputs.shape)
        counts = [pictures.confusion(t, p, "01") for t, p in zip(y.T > 0.5, outputs.T > 0.5, strict=True)]
        scores = [[column[1] for column in pictures.per_class(count)] for count in counts]
        yield _scores([f"output {k}" for k in range(len(scores))], scores)
        yield _reliability(y.ravel(), outputs.ravel(), "of a yes, all outputs together")


def _of_classes(model, X, places, outputs):
    preparation = trainers_of(model)[0].preparation
    classes, answers = preparation.classes, _answers(outputs)
    scores = pictures.per_class(pictures.confusion(places, answers, classes))
    yield _scores(classes, list(zip(*scores, strict=True)))
    if len(classes) <= pictures.MOST:
        picture = pictures.confusion_matrix(places, answers, classes)
        caption = f"Counts of the test samples; shades are shares of the true class. {picture.words}"
        yield _figure(picture.title, caption, [picture])
    of = f"of {classes[1]}" if len(classes) == 2 else "of the class that is predicted"
    yield _reliability(places, outputs, of)
    if preparation.columns == 2 and not preparation.categories and isinstance(X, np.ndarray):
        names = preparation.names or ("column 0", "column 1")
        picture = pictures.decision_boundary(
            lambda plane: _answers(model.predict(plane)), X, places, classes, names=names
        )
        yield _figure(picture.title, f"What is predicted, and the test samples. {picture.words}", [picture])


def _scores(labels: Sequence[Any], scores: Sequence[Sequence[Any]]) -> str:
    """The section of precision, recall, F1 and support, a line each, and their means."""
    rows = [["class", "precision", "recall", "F1", "samples"]]
    lines = [(str(label), *line) for label, line in zip(labels, scores, strict=True)]
    table, support = np.array([line[1:4] for line in lines]), np.array([line[4] for line in lines])
    weights = support / max(1, support.sum())
    lines += [("macro mean", *table.mean(axis=0), support.sum())]
    lines += [("weighted mean", *(weights @ table), support.sum())]
    rows += [[label, *(f"{v:.3f}" for v in shares), f"{count:,}"] for label, *shares, count in lines]
    said = "Precision: the share of those predicted to be of a class that are. Recall: the share of a class "
    said += "that is found. F1: their harmonic mean."
    return f'<h2>Test, class by class</h2>\n<p>{said}</p>\n<div class="wide">{html_table(rows)}</div>'


def _reliability(true, probabilities, of):
    picture = pictures.reliability(true, probabilities)
    return _figure(picture.title, f"Test samples; the probability {of}. {picture.words}", [picture])


def _inside(trainer: Trainer, X: Any, y: Any) -> Iterator[str]:
    """Sections of weights and gradients."""
    rows = slice(0, _GRADIENT_ROWS)
    some = X.rows(rows) if hasattr(X, "rows") else X[rows]
    _, gradients = trainer.gradients(some, y[rows])
    picture = pictures.histograms(trainer.net.weights, [dW for dW, _ in gradients])
    caption = f"After training; gradients of the first {_count(len(y[rows]), 'sample')}."
    yield _figure("Weights and gradients", caption, [picture])
    inputs = trainer.net.sizes[0]
    if getattr(X, "dtype", None) == np.uint8 and inputs >= 16 and round(inputs**0.5) ** 2 == inputs:
        picture = pictures.filters(trainer.net.weights[0])
        yield _figure(picture.title, f"{picture.words} Red is positive, blue negative.", [picture])


def _answers(outputs):
    """Places of the likeliest classes."""
    return (outputs[:, 0] > 0.5).astype(int) if outputs.shape[1] == 1 else outputs.argmax(axis=1)


# --- HTML ---


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s'[: number != 1]}"


def _list(heading: str, rows: dict[str, Any], said: str = "") -> str:
    lines = [
        f"<dt>{html.escape(str(label))}</dt><dd>{html.escape(str(value))}</dd>"
        for label, value in rows.items()
    ]
    said = f"<p>{html.escape(said)}</p>\n" if said else ""
    return f"<h2>{html.escape(heading)}</h2>\n{said}<dl>\n" + "\n".join(lines) + "\n</dl>"


def _figure(
    heading: str, caption: str, drawn: Sequence[Picture], rows: Sequence[Sequence[str]] | None = None
) -> str:
    """A section of pictures, and their numbers as a table that opens."""
    head, *body = rows or drawn[0].rows
    step = -(-len(body) // _ROWS)
    shown = [head, *body[::-step][::-1]] if step > 1 else [head, *body]  # the last one is among them
    rest = f", every {step} lines" if step > 1 else ""
    pictured = "".join(map(_svg, drawn))
    return (
        f'<h2>{html.escape(heading)}</h2>\n<figure><div class="wide pictures">{pictured}</div>\n'
        f"<figcaption>{html.escape(caption)}</figcaption>\n"
        f'<details><summary>As a table{rest}</summary><div class="wide">{html_table(shown)}</div></details>'
        "</figure>"
    )


def _svg(picture):
    """A picture as wide as it was drawn, on a narrow page down to two thirds of that."""
    text = picture.svg()
    width = float(text.split(' width="')[1].split("pt")[0]) * 4 / 3
    return f'<div style="min-width: {0.65 * width:.0f}px; max-width: {width:.0f}px">{text}</div>'


def _configuration(trainer):
    rows = {"loss": _said(trainer.loss.config()), "optimizer": _said(trainer.optimizer.config())}
    rows |= {"batch size": trainer.batch_size, "seed": trainer.seed, "dtype": trainer.net.dtype}
    rows |= {name.replace("_", " "): value for name, value in Options.of(trainer).config().items()}
    return rows | ({"schedule": trainer.schedule} if trainer.schedule is not None else {})


def _said(config):
    """A name and its hyperparameters; those that are off are left out."""
    rest = [f"{k} {v}" for k, v in config.items() if k != "name" and v not in (None, False, 0)]
    return ", ".join([config["name"], *rest])
