"""What an export says of a network: plain arrays, without the trainer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.samples import own_scale
from ..errors import distinct, flag
from ..kernels import codes
from ..network.activations import NAMES as ACTIVATIONS

if TYPE_CHECKING:
    from ..engine.anytrainer import AnyTrainer
    from ..network.mlp import MLP
    from ..types import Array, Doubles

# what predictions are of the outputs, by the code of the loss that has the link
_LINKS = {
    "softmax": (codes.CROSS_ENTROPY, codes.SOFT_CROSS_ENTROPY, codes.LABEL_FOCAL),
    "sigmoid": (codes.BCE_WITH_LOGITS, codes.WEIGHTED_BCE, codes.FOCAL),
    "exp": (codes.POISSON_NLL, codes.GAMMA_NLL),
    "gaussian": (codes.GAUSSIAN_NLL,),
    "ordered": (codes.ORDERED_QUANTILE,),
    None: (codes.MSE, codes.MAE, codes.HUBER, codes.LOG_COSH, codes.QUANTILE, codes.HINGE,
           codes.LABEL_HINGE, codes.COSINE),
}  # fmt: skip
NORMS = {  # the arrays of each; a row's mean and deviation are taken, where there are no running ones
    "layer": ("gains", "shifts"),
    "batch": ("gains", "shifts", "running_means", "running_vars"),
}
LINKS = {code: link for link, group in _LINKS.items() for code in group}


@dataclass
class Model:
    """A trained network without its trainer: copies, so that later training leaves them alone.

    layers : [(W (fan_in, fan_out), b (fan_out,)), ...]. Of each hidden layer, or None: activations : its
    name; norms : the arrays of its norm (gain, shift, and for batch norm mean and variance); skips : whether
    its input is added; slopes : prelu's. tables : {column of X: (categories, width)} of embedded columns.
    link : "softmax", "sigmoid", "exp", "gaussian" (means, then variances from ``floor``, their logarithm,
    on), "ordered" (see ``rises``) or None. rises : of quantiles that do not cross how many a target has, how
    far the lowest is above its output, and what the softplus of the others is multiplied by. fill, mean,
    scale : (inputs,) float64, what raw inputs go through, or None; clip : the limit of a smooth clip behind
    that, or None. y_mean, y_scale : (outputs,), likewise for outputs, and y_low, y_high, between which they
    stay. inputs : a name for each input, or None; classes : labels, or None.
    """

    layers: list[Any]
    activations: list[str]
    norms: list[Any]
    skips: list[bool]
    slopes: list[Any]
    tables: dict[int, Array] = field(default_factory=dict)
    link: str | None = None
    floor: float = 0.0
    rises: tuple[int, float, float] = (0, 0.0, 0.0)
    fill: Doubles | None = None
    mean: Doubles | None = None
    scale: Doubles | Any = None  # None where mean is
    clip: float | None = None
    y_mean: Doubles | None = None
    y_scale: Doubles | None = None
    y_low: Doubles | None = None
    y_high: Doubles | None = None
    inputs: list[str] | None = None
    classes: list[Any] | None = None

    @property
    def sizes(self) -> list[int]:
        """Columns of X, then widths, then outputs."""
        inputs = len(self.layers[0][0]) - sum(table.shape[1] - 1 for table in self.tables.values())
        return [inputs, *(len(b) for _, b in self.layers)]

    @property
    def numeric(self) -> list[int]:
        """The columns of X that are not embedded."""
        return [c for c in range(self.sizes[0]) if c not in self.tables]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.layers[0][0].dtype

    @property
    def takes_raw(self) -> bool:
        """Whether inputs are filled or scaled here: they may be far from 0, and come as double."""
        return self.mean is not None or self.fill is not None

    @property
    def gives_raw(self) -> bool:
        """Whether outputs are brought back to the target's unit here, as double."""
        return self.y_mean is not None

    def without_batch_norm(self) -> Model:
        """The same predictions with every batch norm folded into its layer, in float64."""
        layers, norms = list(self.layers), list(self.norms)
        for k, norm in enumerate(norms):
            if norm is not None and len(norm) == 4:
                gain, shift, mean, variance = (a.astype(np.float64) for a in norm)
                factor, (w, b) = gain / np.sqrt(variance + codes.NORM_EPS), layers[k]
                folded = w * factor, (b - mean) * factor + shift
                layers[k], norms[k] = tuple(a.astype(self.dtype) for a in folded), None
        return replace(self, layers=layers, norms=norms)


def described(trainer: AnyTrainer, link: bool = True) -> Model:
    """The Model of a trainer. Raises ValueError for what no export can say."""
    flag("link", link)
    net = trainer.net if trainer.ema is None else trainer.averaged_net()  # what predict takes
    for name, view in net.named_views(net.params).items():
        if not np.isfinite(view).all():
            raise ValueError(f"net: got NaN or inf in {name}, an export takes finite numbers")
    for name in net.activations:
        if name not in ACTIVATIONS:
            raise ValueError(f"activation: got {name!r}, an export takes {', '.join(ACTIVATIONS)}")
    layers = [(np.array(w), np.array(b)) for w, b in zip(net.weights, net.biases, strict=True)]
    norms = [_norm(net, k) for k in range(len(net.norms))]
    slopes = [None if s is None else np.array(s) for s in net.slopes]
    model = Model(layers, list(net.activations), norms, list(net.skips), slopes)
    model.tables = {c: np.array(t) for (c, _, _), t in zip(net.embedded, net.embeddings, strict=True)}
    if link:
        model.link = LINKS[trainer.loss.link_code(net.sizes[-1])]
        first, second, *_ = map(float, trainer.loss.numbers(net.sizes[-1]))
        model.floor = first if model.link == "gaussian" else 0.0
        if model.link == "ordered":
            model.rises = net.sizes[-1] // trainer.loss.width(net.sizes[-1]), second, first
    preparation = trainer.preparation
    if preparation is not None:
        model.mean, model.scale = preparation.mean, preparation.scale
        model.y_mean, model.y_scale = own_scale(trainer, net.sizes[-1], link) or (None, None)
        model.inputs, model.classes = preparation.input_names, preparation.classes
        model.fill = preparation.fill_of_inputs
    elif trainer.columns is not None:
        model.inputs = trainer.columns
    distinct("X", model.inputs or (), "inputs whose names differ: what reads the export looks them up")
    return model


def _norm(net: MLP, k: int) -> tuple[Array, ...] | None:
    """The arrays of hidden layer k's norm, or None."""
    norm = net.norms[k]
    return None if norm is None else tuple(np.array(getattr(net, name)[k]) for name in NORMS[norm])


def folded(model: Model) -> list[tuple[Array, Array]]:
    """The layers with the scaling of inputs and outputs folded into the first and last, which makes all of
    them float64: of columns far from 0 the products are large and cancel."""
    layers = [(w.astype(np.float64), b.astype(np.float64)) for w, b in model.layers]
    if model.mean is not None:
        w, b = layers[0]
        w = w / model.scale[:, None]
        layers[0] = w, b - model.mean @ w
    if model.y_mean is not None:
        w, b = layers[-1]
        layers[-1] = w * model.y_scale, b * model.y_scale + model.y_mean
    dtype = np.float64 if model.takes_raw or model.gives_raw else model.dtype
    return [(w.astype(dtype), b.astype(dtype)) for w, b in layers]
