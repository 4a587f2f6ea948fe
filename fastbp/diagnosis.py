"""How well signals flow through a network: activations forwards, gradients backwards, updates."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .data import checks
from .engine.options import Options
from .engine.samples import samples
from .engine.sessions import bind, frozen, open_session, training_windows
from .errors import whole
from .kernels import codes
from .network.layout import arena
from .printing import html_table, text_table

if TYPE_CHECKING:
    from .drawing.picture import Picture
    from .engine.anytrainer import AnyTrainer
    from .types import Features, FilePath, Offset, SampleWeight, Targets

__all__ = ["Diagnosis", "LayerReport"]

ENDS = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}  # what they saturate at
NEAR = 0.02  # of the range between the ends: the derivative is at most 8 % of its largest there
CONSTANT = 1e-6  # of the layer's largest output: a unit that moves less says the same to every row
DEAD, SATURATED = 0.4, 0.5  # shares from which a layer is warned of
FLOW = 1e-3  # the first layer's deltas over the last's: below vanishing, above its inverse exploding
FAST, SLOW = 0.1, 1e-6  # update over weight; about 1e-3 is usual (Karpathy, CS231n notes)


@dataclass
class LayerReport:
    """One layer on one batch.

    mean, std : of its outputs, after the activation. dead : share of hidden units whose output is the
    same for all rows. saturated : share of outputs within 2 % of what sigmoid or tanh ends at.
    delta : root mean square of the loss's gradient to what goes into the activation, times the rows.
    gradient, gradient_mean, gradient_std : norm, mean and standard deviation of dW. weight : norm of W.
    update : norm of the change that the next step would make to W, over ``weight``; 0 where frozen.
    """

    name: str
    activation: str
    mean: float
    std: float
    dead: float
    saturated: float
    delta: float
    gradient: float
    gradient_mean: float
    gradient_std: float
    weight: float
    update: float


@dataclass
class Diagnosis:
    """loss, rows; layers : a LayerReport each; warnings : what looks wrong and what to try.

    >>> diagnosis = trainer.diagnose(X, y)
    >>> diagnosis.rows, [layer.activation for layer in diagnosis.layers]
    (4, ['relu', 'linear'])
    """

    loss: float
    rows: int
    layers: list[LayerReport]
    warnings: list[str]

    def table(self) -> list[list[str]]:
        """A row of text for each layer, under a head."""
        heads = "layer activation mean std dead sat. delta |dW| dW_mean dW_std |W| update".split()
        rows = [[head.replace("_", " ") for head in heads]]
        for r in self.layers:
            numbers = (r.delta, r.gradient, r.gradient_mean, r.gradient_std, r.weight, r.update)
            rows.append([r.name, r.activation, f"{r.mean:.3g}", f"{r.std:.3g}", f"{r.dead:.0%}",
                         f"{r.saturated:.0%}", *(f"{number:.3g}" for number in numbers)])  # fmt: skip
        return rows

    def _head(self) -> str:
        return f"loss {self.loss:.6g} on {self.rows} rows"

    def __repr__(self) -> str:
        return "\n".join([self._head(), text_table(self.table(), left=2), *(f"! {w}" for w in self.warnings)])

    def _repr_html_(self) -> str:
        warnings = "".join(f"<li>{html.escape(w)}</li>" for w in self.warnings)
        return html_table(self.table(), 2, self._head()) + (f"<ul>{warnings}</ul>" if warnings else "")

    def plot(self, path: FilePath | None = None) -> Picture:
        """It as a picture, which a notebook shows; written to an image file where there is a path.

        Raises ImportError without matplotlib.
        """
        from .drawing.plots import layer_bars

        return layer_bars(self, path)


def diagnose(
    trainer: AnyTrainer,
    X: Features,
    y: Targets,
    sample_weight: SampleWeight = None,
    rows: int = 1024,
    offset: Offset = None,
) -> Diagnosis:
    """A Diagnosis of a trainer on at most ``rows`` rows, evenly spaced; see Trainer.diagnose."""
    rows, net = whole("rows", rows, 2), trainer.net
    given = samples(trainer, X, y, sample_weight, offset)
    if given.rows < 2:
        raise ValueError("X: got 1 row, takes two or more: a unit that never changes is dead")
    if given.rows > rows:
        given = given.part(np.linspace(0, given.rows - 1, rows).astype(np.int64))
        weight = checks.weights(given.weight, rows, net.dtype, given.y.shape[1])
        given = given._replace(weight=weight)
    rows = given.rows
    grads = arena(net.params.size, net.dtype)
    session = open_session(trainer, rows, given.code, grads, behind=given.behind)
    bind(trainer, session, given)
    with np.errstate(all="ignore"):  # a broken network is what this is for
        [(_, loss, mass, _)] = session.windows(codes.GRADIENTS, 1)
        updates = _updates(trainer, given)
        reports = []
        for k in range(len(net.layers)):
            outputs, deltas = (a.astype(np.float64) for a in session.layer_rows(k, rows))
            dw = net.views(grads, k)[0].astype(np.float64)
            reports.append(_report(trainer, k, outputs, deltas, dw, updates[k]))
        loss = float(loss / mass) if mass else 0.0
        return Diagnosis(loss, rows, reports, _warnings(trainer, loss, reports))


def _updates(trainer, given):
    """For each layer the norm of the next step's change of W, made on copies."""
    net = trainer.net
    params, slots = (arena(a.size, net.dtype) for a in (net.params, trainer.slots))
    params[:], slots[:] = net.params, trainer.slots
    second = Options.of(trainer).stores or trainer.gradient_hook is not None
    session = open_session(
        trainer, given.rows, given.code, slots, second, frozen(trainer), params, behind=given.behind
    )
    bind(trainer, session, given)
    [(done, *_)] = training_windows(trainer, session, 1, trainer.steps)
    if not done:
        return [np.nan] * len(net.layers)
    count = range(len(net.layers))
    moved = ((net.views(a, k)[0].astype(np.float64) for a in (params, net.params)) for k in count)
    return [float(np.linalg.norm(new - old)) for new, old in moved]


def _report(trainer, k, a, delta, dw, update):
    net = trainer.net
    last = k == len(net.layers) - 1
    activation = "linear" if last else net.activations[k]
    dead = saturated = 0.0
    if not last:
        dead = float(np.mean(np.ptp(a, axis=0) <= CONSTANT * np.abs(a).max()))
    if not last and activation in ENDS:
        low, high = ENDS[activation]
        near = NEAR * (high - low)
        saturated = float(np.mean((a < low + near) | (a > high - near)))
    weight = float(np.linalg.norm(net.weights[k].astype(np.float64)))
    return LayerReport(
        f"{k}: {net.sizes[k]} -> {net.sizes[k + 1]}" + " frozen" * (k in frozen(trainer)), activation,
        float(a.mean()), float(a.std()), dead, saturated, float(len(a) * np.sqrt(np.mean(delta**2))),
        float(np.linalg.norm(dw)), float(dw.mean()), float(dw.std()), weight,
        float(np.divide(update, weight)),
    )  # fmt: skip


def _warnings(trainer, loss, reports):
    if not np.isfinite([loss, *(r.gradient for r in reports)]).all():
        return ["not finite: the loss or a gradient; try new weights, standardised inputs, a lower lr"]
    found = []
    flow = reports[0].delta / reports[-1].delta if reports[-1].delta else 1.0
    if flow < FLOW:
        found.append(
            f"vanishing gradients: the first layer's deltas are {flow:.1g} of the last's; try relu or gelu "
            "instead of sigmoid or tanh, fewer layers, larger initial weights"
        )
    elif flow > 1 / FLOW:
        found.append(
            f"exploding gradients: the first layer's deltas are {flow:.1g} times the last's; try "
            "clip_norm=1, smaller initial weights, fewer layers"
        )
    for k, r in enumerate(reports):
        if r.dead >= DEAD:
            found.append(
                f"layer {r.name}: {100 * r.dead:.0f} % of its units say the same to every row; try a "
                "lower lr, leaky_relu or elu, standardised inputs"
            )
        if r.saturated >= SATURATED:
            found.append(
                f"layer {r.name}: {100 * r.saturated:.0f} % of its outputs are saturated; try standardised "
                "inputs, smaller weights, relu"
            )
        change = f"layer {r.name}: the next step changes its weights by {r.update:.1g} of their norm"
        if r.update > FAST:
            found.append(f"{change}; try a lower lr")
        elif r.update < SLOW and k not in frozen(trainer):
            found.append(f"{change}; try a higher lr")
    return found
