"""MLP: sizes, activations and one flat array of parameters with a view per layer."""

import operator

import numpy as np

from .activations import check as check_activation
from .initializers import fill
from .layout import arena, leading_dimension


def _sizes(sizes):
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


def _activations(activation, hidden):
    names = [activation] * hidden if isinstance(activation, str) else list(activation)
    checked = [check_activation(n) for n in ([activation] if isinstance(activation, str) else names)]
    if len(names) != hidden:
        raise ValueError(
            f"activation: got {len(names)} names, takes one for all or {hidden}, one per hidden layer"
        )
    return checked * hidden if isinstance(activation, str) else checked


class MLP:
    """A multi-layer perceptron: a = f(a @ W + b) per hidden layer, a linear output layer.

    Parameters
    ----------
    sizes : sequence of int
        Inputs, then hidden widths (none or more), then outputs: [784, 512, 512, 10].
    activation : str or sequence of str
        One name for all hidden layers or one each: identity, relu, leaky_relu (slope 0.01),
        sigmoid, tanh, elu and celu (alpha 1), selu, gelu (exact), gelu_tanh, silu, mish, softplus,
        softsign, hardtanh, hardswish, sin; torch.nn.functional's formulas. Or fb.activation's.
    seed : int or None
        Seed of the initial weights; None draws one.
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
    params : ndarray, (P,)
        All parameters in one aligned buffer: per layer the rows of W, then b; rows are padded with
        zeros to whole cache lines.
    frozen : tuple of int
        The layers that training leaves as they are; see ``freeze``.

    Raises ValueError or TypeError for sizes, activation or dtype that do not fit.

    >>> net = MLP([4, 8, 3], activation="tanh", seed=0)
    >>> net.weights[0].shape, net.num_parameters
    ((4, 8), 67)
    """

    def __init__(self, sizes, activation="relu", *, seed=None, dtype="float32", initializer=None):
        self.sizes = _sizes(sizes)
        self.activations = _activations(activation, len(self.sizes) - 2)
        try:
            self.dtype = np.dtype(dtype)
        except TypeError:
            raise ValueError(f"dtype: got {dtype!r}, takes float32 or float64") from None
        if self.dtype not in (np.float32, np.float64):
            raise ValueError(f"dtype: got {self.dtype}, takes float32 or float64")
        self.frozen = ()
        self._allocate()
        self.initializer = initializer
        self.initialize(seed)

    def _allocate(self):
        self.layers = []  # (fan_in, fan_out, offset of W in params, leading dimension)
        size = 0
        for fan_in, fan_out in zip(self.sizes[:-1], self.sizes[1:], strict=True):
            ld = leading_dimension(fan_out, self.dtype.itemsize)
            self.layers.append((fan_in, fan_out, size, ld))
            size += (fan_in + 1) * ld
        self.params = arena(size, self.dtype)
        views = [self.views(self.params, i) for i in range(len(self.layers))]
        self.weights, self.biases = tuple(w for w, _ in views), tuple(b for _, b in views)

    def __getstate__(self):
        """For copy and pickle: views must not become arrays of their own."""
        return self.sizes, self.activations, self.dtype, self.params, self.frozen, self.initializer

    def __setstate__(self, state):
        self.sizes, self.activations, self.dtype, params, self.frozen, self.initializer = state
        self._allocate()
        self.params[:] = params

    def initialize(self, seed=None):
        """Draw the weights anew (see the class); biases to 0."""
        fill(self, self.initializer, seed)

    def views(self, flat, index):
        """(W, b) of layer ``index`` in an array that is laid out as ``params``."""
        fan_in, fan_out, start, ld = self.layers[index]
        block = flat[start : start + (fan_in + 1) * ld].reshape(fan_in + 1, ld)
        return block[:fan_in, :fan_out], block[fan_in, :fan_out]

    def freeze(self, *layers):
        """Leave these layers (0 is the first; -1 the last) as they are, bit for bit, while others train.

        No gradient of theirs is computed, nor a delta below the lowest layer that trains. Returns
        self. Raises ValueError or TypeError for what is no layer.
        """
        self.frozen = tuple(sorted({*self.frozen, *map(self._layer, layers)}))
        return self

    def unfreeze(self, *layers):
        """Let these layers train again; all of them where none is named. Returns self.

        Their optimizer state is as it was when they were frozen, while Adam's count of steps went on.
        """
        named = set(map(self._layer, layers)) or set(self.frozen)
        self.frozen = tuple(k for k in self.frozen if k not in named)
        return self

    def _layer(self, index):
        count = len(self.layers)
        try:
            number = operator.index(index)
        except TypeError:
            raise TypeError(f"layer: got {index!r}, takes whole numbers") from None
        if not -count <= number < count:
            raise ValueError(f"layer: got {number}, takes 0 to {count - 1} (or -{count} to -1)")
        return number % count

    @property
    def num_parameters(self):
        """Weights and biases, without padding."""
        return sum((i + 1) * o for i, o, _, _ in self.layers)

    def config(self):
        """What MLP(**config) builds again, parameters apart."""
        return {
            "sizes": list(self.sizes),
            "activation": list(self.activations),
            "dtype": self.dtype.name,
        }

    def summary(self):
        """A table of the layers as text."""
        names = [*self.activations, "linear"]
        rows = [("layer", "shape", "activation", "parameters")]
        rows += [
            (str(k), f"{i} -> {o}", names[k], f"{(i + 1) * o:,}" + " frozen" * (k in self.frozen))
            for k, (i, o, _, _) in enumerate(self.layers)
        ]
        rows.append(("total", "", self.dtype.name, f"{self.num_parameters:,}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip() for row in rows
        )

    def __repr__(self):
        names = sorted(set(self.activations)) or ["linear"]
        activation = names[0] if len(names) == 1 else self.activations
        return f"MLP({self.sizes}, activation={activation!r}, dtype={self.dtype.name!r})"
