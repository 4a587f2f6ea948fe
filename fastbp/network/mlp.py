"""MLP: sizes, activations and one flat array of parameters with a view per layer."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..initializers import fill
from ..kernels import codes
from ..printing import html_table, text_table
from . import layers
from .activations import check as check_activation
from .layout import Cursor, arena, leading_dimension

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ..types import Activation, Dtype, Floats, InitializerLike, Norm, Seed


def _sizes(sizes: Iterable[int]) -> list[int]:
    try:
        result = [operator.index(n) for n in sizes]
    except TypeError:
        raise TypeError(
            f"sizes: got {sizes!r}, takes whole numbers such as [784, 512, 10]: inputs, hidden "
            "layers, outputs"
        ) from None
    if len(result) < 2 or min(result) < 1:
        raise ValueError(f"sizes: got {result}, takes at least two widths, each 1 or more")
    return result


def _activations(activation: Activation | Iterable[Activation], hidden: int) -> list[str]:
    names = [activation] * hidden if isinstance(activation, str) else list(activation)
    checked = [check_activation(n) for n in ([activation] if isinstance(activation, str) else names)]
    if len(names) != hidden:
        raise ValueError(
            f"activation: got {len(names)} names, takes one for all or {hidden}, one per hidden layer"
        )
    return checked * hidden if isinstance(activation, str) else checked


def _short(values: list[Any]) -> Any:
    """One value for all, where they are all the same."""
    return values[0] if len(set(values)) == 1 else values


class MLP:
    """A multi-layer perceptron: a = f(a @ W + b) per hidden layer, a linear output layer.

    Parameters
    ----------
    sizes : sequence of int
        Inputs, then hidden widths (none or more), then outputs: [784, 512, 512, 10].
    activation : str or sequence of str
        One name for all hidden layers or one each: identity, relu, leaky_relu (slope 0.01),
        prelu (one learned slope a unit, torch.nn.PReLU(width); He et al., ICCV 2015), sigmoid, tanh,
        elu and celu (alpha 1), selu, gelu (exact), gelu_tanh, silu, mish, softplus, softsign, hardtanh,
        hardswish, sin; torch.nn.functional's formulas. Or fb.activation's.
    dropout : float or sequence of float
        Share of each hidden layer's outputs that a training step sets to 0 at random, the others being
        multiplied by 1 / (1 - share) (Srivastava et al. 2014): from 0 to below 1. evaluate, predict
        and gradients drop nothing.
    input_dropout : float
        The same for the inputs.
    norm : None, "layer" or "batch", or a sequence of these
        What stands between a hidden layer's a @ W + b and its activation: torch.nn.LayerNorm (Ba, Kiros
        and Hinton 2016) or torch.nn.BatchNorm1d (Ioffe and Szegedy 2015; momentum 0.1), eps 1e-5, with
        learned gains and shifts.
    residual : bool or sequence of bool
        Add a hidden layer's input to its output (He et al. 2016), after activation and dropout. True:
        wherever the widths agree. One per layer: just these; their widths must agree.
    embeddings : dict or None
        {column of X: (categories, width)}: that column holds whole numbers from 0 to categories - 1;
        each stands for a learned row of ``width`` numbers. The first layer sees the other columns,
        then these rows in the order of their columns.
    seed : int or None
        Seed of the initial weights; None draws one. Gains begin at 1, shifts at 0, prelu's slopes at
        0.25, embeddings are drawn from a standard normal.
    dtype : "float32" or "float64"
    initializer : str, function, list or None
        None fits each layer's activation (initializers.by_activation). A name: he_, xavier_ or
        lecun_uniform or _normal, orthogonal, uniform, normal, zeros. A function (rng, (fan_in,
        fan_out)) -> weights, such as fb.initializers.Normal(0.01). Or arrays [(W, b), ...].
        Biases begin at 0.

    Attributes
    ----------
    weights, biases : tuple of ndarray
        (fan_in, fan_out) and (fan_out,) for each layer: writable views of ``params``; what is
        written there is what trains.
    gains, shifts : tuple of (ndarray or None)
        (fan_out,) of each hidden layer with a norm.
    slopes : tuple of (ndarray or None)
        (fan_out,) of each hidden layer with the activation prelu.
    running_means, running_vars : tuple of (ndarray or None)
        (fan_out,) of each hidden layer with batch norm: what evaluate and predict normalise with.
    embeddings : tuple of ndarray
        (categories, width) for each embedded column.
    params : ndarray, (P,)
        All parameters in one aligned buffer: per layer the rows of W, then b, gains, shifts, slopes;
        the embeddings; last what no gradient changes, the running statistics. Rows are padded with
        zeros to whole cache lines.
    frozen : tuple of int
        The layers that training leaves as they are; see ``freeze``.

    Raises ValueError or TypeError for arguments that do not fit.

    >>> net = fb.MLP([4, 8, 8, 3], "tanh", norm="layer", dropout=0.1, residual=[False, True], seed=0)
    >>> net.weights[0].shape, net.biases[0].shape, net.gains[0].shape, net.num_parameters
    ((4, 8), (8,), (8,), 171)
    """

    sizes: list[int]
    activations: list[str]
    norms: list[Norm | None]
    dtype: np.dtype[Any]
    layers: list[tuple[int, int, int, int]]
    tables: list[tuple[int, int]]
    running: dict[int, int]
    frozen: tuple[int, ...]
    params: Floats
    weights: tuple[Floats, ...]
    biases: tuple[Floats, ...]
    embeddings: tuple[Floats, ...]
    gains: tuple[Floats | None, ...]
    shifts: tuple[Floats | None, ...]
    slopes: tuple[Floats | None, ...]
    running_means: tuple[Floats | None, ...]
    running_vars: tuple[Floats | None, ...]

    def __init__(
        self,
        sizes: Iterable[int],
        activation: Activation | Sequence[Activation] = "relu",
        *,
        dropout: float | Sequence[float] = 0.0,
        input_dropout: float = 0.0,
        norm: Norm | Sequence[Norm | None] | None = None,
        residual: bool | Sequence[bool] = False,
        embeddings: Mapping[int, Sequence[int]] | None = None,
        seed: Seed = None,
        dtype: Dtype = "float32",
        initializer: InitializerLike | None = None,
    ) -> None:
        self._configure(sizes, activation, dtype, dropout, input_dropout, norm, residual, embeddings)
        self.frozen = ()
        self._allocate()
        self.initializer = initializer
        self.initialize(seed)

    def _configure(self, sizes: Any, activation: Any, dtype: Any, dropout: Any = 0.0,
                   input_dropout: Any = 0.0, norm: Any = None, residual: Any = False,
                   embeddings: Any = None) -> None:  # fmt: skip
        self.sizes = _sizes(sizes)
        hidden = len(self.sizes) - 2
        self.activations = _activations(activation, hidden)
        try:
            self.dtype = np.dtype(dtype)
        except TypeError:
            raise ValueError(f"dtype: got {dtype!r}, takes float32 or float64") from None
        if self.dtype not in (np.float32, np.float64):
            raise ValueError(f"dtype: got {self.dtype}, takes float32 or float64")
        self.dropouts = layers.per_layer("dropout", dropout, hidden, layers.rate("dropout"))
        self.input_dropout = layers.rate("input_dropout")(input_dropout)
        self.norms = layers.per_layer("norm", norm, hidden, layers.norm)
        exact = 1 << (24 if self.dtype == np.float32 else 53)
        self.embedded = layers.embeddings(embeddings, self.sizes[0], exact)
        self.skips = layers.skips(residual, [self.row_width, *self.sizes[1:-1]])

    @classmethod
    def shapes(cls, **config: Any) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
        """Of a network's ``config``, before anything is allocated: {name: shape as a list} of what is
        trained, and of the running statistics."""
        net = object.__new__(cls)
        net._configure(**config)
        widths = [net.row_width, *net.sizes[1:]]
        trained, state = {}, {}
        for k, (fan_in, fan_out) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            trained[f"weights.{k}"] = [fan_in, fan_out]
            trained |= {f"{name}.{k}": [fan_out] for name in net._vectors(k)}
            if net._norm(k) == "batch":
                state[f"running_means.{k}"] = state[f"running_vars.{k}"] = [fan_out]
        for k, (_, categories, width) in enumerate(net.embedded):
            trained[f"embeddings.{k}"] = [categories, width]
        return trained, state

    @property
    def row_width(self) -> int:
        """Inputs of the first layer: numeric columns and embedded numbers."""
        return self.sizes[0] + sum(width - 1 for _, _, width in self.embedded)

    def _allocate(self) -> None:
        item = self.dtype.itemsize
        self.layers = []  # (fan_in, fan_out, offset of W in params, leading dimension)
        self.tables = []  # (offset in params, leading dimension) of each embedding
        self.running = {}  # layer with batch norm -> offset of its running mean; the variance follows
        place = Cursor(item)
        widths = [self.row_width, *self.sizes[1:]]
        for k, (fan_in, fan_out) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
            ld = leading_dimension(fan_out, item)
            rows = fan_in + len(self._vectors(k))
            self.layers.append((fan_in, fan_out, place.take(rows * ld), ld))
        for _, categories, width in self.embedded:
            ld = leading_dimension(width, item)
            self.tables.append((place.take(categories * ld), ld))
        for k, (_, _, _, ld) in enumerate(self.layers):
            self.running[k] = place.take(2 * ld) if self._norm(k) == "batch" else 0
        self.params = arena(place.size, self.dtype)
        views = self.named_views(self.params)
        count, hidden = len(self.layers), len(self.layers) - 1
        self.weights = tuple(views[f"weights.{k}"] for k in range(count))
        self.biases = tuple(views[f"biases.{k}"] for k in range(count))
        for name in ("gains", "shifts", "slopes", "running_means", "running_vars"):
            setattr(self, name, tuple(views.get(f"{name}.{k}") for k in range(hidden)))
        self.embeddings = tuple(views[f"embeddings.{k}"] for k in range(len(self.embedded)))

    def _norm(self, index: int) -> Norm | None:
        return self.norms[index] if index < len(self.norms) else None

    def _vectors(self, index: int) -> list[str]:
        """Names of the rows behind the weights of layer ``index``."""
        norm = ["gains", "shifts"] if self._norm(index) else []
        learned = index < len(self.activations) and self.activations[index] in codes.LEARNED
        return ["biases", *norm, *(["slopes"] if learned else [])]

    def __getstate__(self) -> tuple[Any, ...]:
        """For copy and pickle: views must not become arrays of their own."""
        return self.config(), self.params, self.frozen, self.initializer

    def __setstate__(self, state):
        config, params, frozen, initializer = state
        self.__init__(**config, seed=0)
        self.frozen, self.initializer = frozen, initializer
        self.params[:] = params

    def initialize(self, seed: Seed = None) -> None:
        """Draw the weights anew (see the class); biases to 0."""
        rng = np.random.Generator(np.random.PCG64(seed))
        fill(self, self.initializer, rng)
        start = {"gains": 1, "shifts": 0, "slopes": codes.PRELU_SLOPE, "running_means": 0, "running_vars": 1}
        for name, value in start.items():
            for view in getattr(self, name):
                if view is not None:
                    view[:] = value
        for table in self.embeddings:
            table[:] = rng.standard_normal(table.shape)

    def views(self, flat: Floats, index: int) -> tuple[Floats, Floats]:
        """(W, b) of layer ``index`` in an array that is laid out as ``params``."""
        views = self.named_views(flat)
        return views[f"weights.{index}"], views[f"biases.{index}"]

    def named_views(self, flat: Floats, state: bool = True) -> dict[str, Floats]:
        """{name: view} of all that lies in an array that is laid out as ``params``.

        weights.K, biases.K, gains.K, shifts.K, slopes.K, embeddings.K, and, with ``state``, what no gradient
        changes: running_means.K, running_vars.K.
        """
        found = {}
        for k, (fan_in, fan_out, start, ld) in enumerate(self.layers):
            vectors = self._vectors(k)
            rows = fan_in + len(vectors)
            block = flat[start : start + rows * ld].reshape(rows, ld)[:, :fan_out]
            found[f"weights.{k}"] = block[:fan_in]
            for name, row in zip(vectors, block[fan_in:], strict=True):
                found[f"{name}.{k}"] = row
            if state and self._norm(k) == "batch":
                start = self.running[k]
                found[f"running_means.{k}"] = flat[start : start + fan_out]
                found[f"running_vars.{k}"] = flat[start + ld : start + ld + fan_out]
        for k, (_, categories, width) in enumerate(self.embedded):
            start, ld = self.tables[k]
            found[f"embeddings.{k}"] = flat[start : start + categories * ld].reshape(-1, ld)[:, :width]
        return found

    def freeze(self, *layers: int) -> MLP:
        """Leave these layers (0 is the first; -1 the last) as they are, bit for bit, while others train.

        With layer 0 go the embeddings; a layer with batch norm keeps its running statistics, and
        normalises with them in training too (as Keras does). No gradient of theirs is computed, nor a
        delta below the lowest layer that trains. Returns self. Raises ValueError or TypeError for what
        is no layer.

        >>> net = fb.MLP([4, 16, 16, 4], seed=0).freeze(0, 1)
        >>> net.frozen, net.unfreeze().frozen
        ((0, 1), ())
        """
        self.frozen = tuple(sorted({*self.frozen, *map(self._layer, layers)}))
        return self

    def unfreeze(self, *layers: int) -> MLP:
        """Let these layers train again; all of them where none is named. Returns self.

        Their optimizer state is as it was when they were frozen, while Adam's count of steps went on.
        """
        named = set(map(self._layer, layers)) or set(self.frozen)
        self.frozen = tuple(k for k in self.frozen if k not in named)
        return self

    def _layer(self, index: int) -> int:
        count = len(self.layers)
        try:
            number = operator.index(index)
        except TypeError:
            raise TypeError(f"layer: got {index!r}, takes whole numbers") from None
        if not -count <= number < count:
            raise ValueError(f"layer: got {number}, takes 0 to {count - 1} (or -{count} to -1)")
        return number % count

    @property
    def num_parameters(self) -> int:
        """All numbers that are trained, without padding."""
        return sum(view.size for view in self.named_views(self.params, state=False).values())

    def config(self) -> dict[str, Any]:
        """What MLP(**config) builds again, parameters apart."""
        return {
            "sizes": list(self.sizes),
            "activation": list(self.activations),
            "dropout": list(self.dropouts),
            "input_dropout": self.input_dropout,
            "norm": list(self.norms),
            "residual": list(self.skips),
            "embeddings": [[column, [categories, width]] for column, categories, width in self.embedded],
            "dtype": self.dtype.name,
        }

    def _words(self, index: int) -> str:
        """What hidden layer ``index`` is, in words, in the order of computing."""
        words: list[Any] = [self.norms[index] and f"{self.norms[index]} norm", self.activations[index]]
        words += [self.dropouts[index] and f"dropout {self.dropouts[index]:g}"]
        return ", ".join(w for w in [*words, self.skips[index] and "+ input"] if w)

    def summary(self) -> str:
        """A table of the layers as text.

        >>> print(fb.MLP([4, 8, 3], "gelu").summary())
        layer  shape   activation  parameters
        0      4 -> 8  gelu        40
        1      8 -> 3  linear      27
        total          float32     67
        """
        return text_table(self._rows(), left=4)

    def _rows(self) -> list[tuple[str, str, str, str]]:
        rows = [("layer", "shape", "activation", "parameters")]
        for column, categories, width in self.embedded:
            rows.append((f"x[{column}]", f"{categories} -> {width}", "embedding", f"{categories * width:,}"))
        if self.input_dropout:
            rows.append(("x", f"{self.row_width}", f"dropout {self.input_dropout:g}", "0"))
        for k, (i, o, _, _) in enumerate(self.layers):
            words = self._words(k) if k < len(self.norms) else "linear"
            count = f"{(i + len(self._vectors(k))) * o:,}" + " frozen" * (k in self.frozen)
            rows.append((str(k), f"{i} -> {o}", words, count))
        rows.append(("total", "", self.dtype.name, f"{self.num_parameters:,}"))
        return rows

    def extras(self) -> dict[str, Any]:
        """{argument: value} of what the network has beside dense layers: dropout, norm, ..., if any."""
        values: dict[str, list[Any]] = {"dropout": self.dropouts, "norm": self.norms, "residual": self.skips}
        found = {name: _short(v) for name, v in values.items() if any(v)}
        if self.input_dropout:
            found["input_dropout"] = self.input_dropout
        if self.embedded:
            found["embeddings"] = {c: (n, w) for c, n, w in self.embedded}
        return found

    def __repr__(self) -> str:
        given = {"activation": _short(self.activations)} if self.activations else {}
        given |= {**self.extras(), "dtype": self.dtype.name}
        return f"MLP({self.sizes}, {', '.join(f'{name}={value!r}' for name, value in given.items())})"

    def _repr_html_(self) -> str:
        return html_table(self._rows(), left=3, caption="MLP")
