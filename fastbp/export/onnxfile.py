"""Models as ONNX: standard operators of opset 13, float32, checked by onnx's own checker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from ..kernels import codes
from ..writing import written

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..types import FilePath
    from .model import Model

_FLOAT, _INT64, _DOUBLE = 1, 7, 11  # onnx.TensorProto's
OPSET, IR = 13, 8  # of 2020: what runtimes of the last years read
SQRT_HALF = 0.7071067811865476


class _Graph:
    """Nodes and constants in the order in which they are made; each call returns its output's name."""

    def __init__(self, helper: Any, numpy_helper: Any) -> None:
        self.helper, self.numpy_helper = helper, numpy_helper
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        array = np.asarray(value, dtype, order="C")
        self.constants.append(self.numpy_helper.from_array(array, name))
        return name

    def op(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        name = name or f"n{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(kind, list(inputs), [name], **attributes))
        return name


def _gelu(g: _Graph, z: str) -> str:
    cdf = g.op("Add", g.op("Erf", g.op("Mul", z, g.constant(SQRT_HALF))), g.constant(1.0))
    return g.op("Mul", g.op("Mul", z, g.constant(0.5)), cdf)


def _gelu_tanh(g: _Graph, z: str) -> str:
    """z sigmoid(2 sqrt(2 / pi) (z + 0.044715 z^3))"""
    scale = 2 * 0.7978845608028654
    inner = g.op("Add", g.op("Mul", g.op("Mul", z, z), g.constant(0.044715 * scale)), g.constant(scale))
    return g.op("Mul", z, g.op("Sigmoid", g.op("Mul", z, inner)))


ACTIVATIONS = {
    "identity": lambda g, z: z,
    "relu": lambda g, z: g.op("Relu", z),
    "leaky_relu": lambda g, z: g.op("LeakyRelu", z, alpha=0.01),
    "sigmoid": lambda g, z: g.op("Sigmoid", z),
    "tanh": lambda g, z: g.op("Tanh", z),
    "elu": lambda g, z: g.op("Elu", z, alpha=1.0),
    "gelu": _gelu,
    "silu": lambda g, z: g.op("Mul", z, g.op("Sigmoid", z)),
    "celu": lambda g, z: g.op("Celu", z, alpha=1.0),
    "selu": lambda g, z: g.op("Selu", z),
    "gelu_tanh": _gelu_tanh,
    "mish": lambda g, z: g.op("Mul", z, g.op("Tanh", g.op("Softplus", z))),
    "softplus": lambda g, z: g.op("Softplus", z),
    "softsign": lambda g, z: g.op("Softsign", z),
    "hardtanh": lambda g, z: g.op("Clip", z, g.constant(-1.0), g.constant(1.0)),
    "hardswish": lambda g, z: g.op("Mul", z, g.op("HardSigmoid", z, alpha=1 / 6, beta=0.5)),
    "sin": lambda g, z: g.op("Sin", z),
}


def _inputs(g: _Graph, model: Model) -> str:
    """X scaled, with gaps filled."""
    x, fill = "X", model.fill
    if model.mean is not None:
        x = g.op("Sub", x, g.constant(model.mean, np.float64))
        x = g.op("Div", x, g.constant(model.scale, np.float64))
        fill = None if fill is None else (fill - model.mean) / model.scale
    if model.takes_raw:
        x = g.op("Cast", x, to=_FLOAT)
    if fill is not None:  # as floats: not every runtime chooses between doubles
        x = g.op("Where", g.op("IsNaN", x), g.constant(fill), x)
    if model.clip is not None:
        part = g.op("Div", x, g.constant(model.clip))
        x = g.op("Div", x, g.op("Sqrt", g.op("Add", g.op("Mul", part, part), g.constant(1.0))))
    return x


def _embedded(g: _Graph, model: Model, x: str) -> str:
    """The columns with embedded ones replaced: what the first layer takes."""
    if not model.tables:
        return x
    places = [g.constant(c, np.int64) for c in model.tables]
    columns = [g.op("Cast", g.op("Gather", x, c, axis=1), to=_INT64) for c in places]
    rows = [g.op("Gather", g.constant(t), c) for t, c in zip(model.tables.values(), columns, strict=True)]
    if model.numeric:
        rows.insert(0, g.op("Gather", x, g.constant(model.numeric, np.int64), axis=1))
    return g.op("Concat", *rows, axis=1)


def _layer_norm(g: _Graph, z: str, gain: Any, shift: Any) -> str:
    """LayerNormalization is of opset 17."""
    d = g.op("Sub", z, g.op("ReduceMean", z, axes=[-1]))
    variance = g.op("ReduceMean", g.op("Mul", d, d), axes=[-1])
    unit = g.op("Div", d, g.op("Sqrt", g.op("Add", variance, g.constant(codes.NORM_EPS))))
    return g.op("Add", g.op("Mul", unit, g.constant(gain)), g.constant(shift))


def _gaussian(g: _Graph, z: str, model: Model) -> str:
    half = model.sizes[-1] // 2
    parts = [g.constant(range(a, a + half), np.int64) for a in (0, half)]
    means, logs = (g.op("Gather", z, part, axis=1) for part in parts)
    return g.op("Concat", means, g.op("Exp", g.op("Max", logs, g.constant(model.floor))), axis=1)


def _ordered(g: _Graph, z: str, model: Model) -> str:
    """By CumSum, one after the other: a product with a matrix of ones might round them into another order."""
    outputs, (count, low, step) = model.sizes[-1], model.rises
    lowest = g.constant(np.arange(outputs) % count == 0, np.bool_)
    rise = g.op("Mul", g.op("Softplus", z), g.constant(step))
    rise = g.op("Where", lowest, g.op("Add", z, g.constant(low)), rise)
    rise = g.op("Reshape", rise, g.constant([0, outputs // count, count], np.int64))
    return g.op("Reshape", g.op("CumSum", rise, g.constant(2, np.int64)), g.constant([0, outputs], np.int64))


_LINKS = {
    "softmax": lambda g, z, model: g.op("Softmax", z, axis=-1),
    "sigmoid": lambda g, z, model: g.op("Sigmoid", z),
    "exp": lambda g, z, model: g.op("Exp", z),
    "gaussian": _gaussian,
    "ordered": _ordered,
}


def write(models: Sequence[Model], path: FilePath) -> None:
    """Write an export.Model as ONNX: input X (N, inputs), output Y (N, outputs), float32; double for raw
    numbers that the model scales itself. Of several, whose inputs are prepared alike, Y is the mean.

    Raises ImportError without onnx, ValueError for an activation that has no operators here.
    """
    try:
        from onnx import checker, helper, numpy_helper
    except ImportError as error:
        raise ImportError("onnx is needed to write ONNX: pip install 'fastbp[onnx]'") from error
    g, models = _Graph(helper, numpy_helper), [model.without_batch_norm() for model in models]
    model, x = models[0], _inputs(g, models[0])
    outputs = [_network(g, each, x) for each in models]
    g.op("Identity", outputs[0] if len(outputs) == 1 else _mean_of(g, model, outputs), name="Y")
    ends = [
        helper.make_tensor_value_info(name, _DOUBLE if raw else _FLOAT, ["N", size])
        for name, size, raw in (
            ("X", model.sizes[0], model.takes_raw),
            ("Y", model.sizes[-1], model.gives_raw),
        )
    ]
    graph = helper.make_graph(g.nodes, "fastbp", ends[:1], ends[1:], g.constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR,
                              producer_name="fastbp")  # fmt: skip
    facts = {"inputs": model.inputs, "classes": model.classes}
    helper.set_model_props(proto, {k: json.dumps(v) for k, v in facts.items() if v is not None})
    checker.check_model(proto)
    with written(path) as file:
        file.write(proto.SerializeToString())


def _network(g: _Graph, model: Model, x: str) -> str:
    """What a network gives for prepared columns."""
    x = _embedded(g, model, x)
    for k, (w, b) in enumerate(model.layers):
        z = g.op("Gemm", x, g.constant(w), g.constant(b))
        if k < len(model.activations):
            z = z if model.norms[k] is None else _layer_norm(g, z, *model.norms[k])
            name = model.activations[k]
            if name not in [*ACTIVATIONS, "prelu"]:
                raise ValueError(f"activation: {name!r} has no ONNX here; takes {', '.join(ACTIVATIONS)}")
            learned = model.slopes[k] is not None
            z = g.op("PRelu", z, g.constant(model.slopes[k])) if learned else ACTIVATIONS[name](g, z)
            z = g.op("Add", x, z) if model.skips[k] else z
        x = z
    if model.link:
        x = _LINKS[model.link](g, x, model)
    if model.y_mean is not None:
        x = g.op("Mul", g.op("Cast", x, to=_DOUBLE), g.constant(model.y_scale, np.float64))
        x = g.op("Add", x, g.constant(model.y_mean, np.float64))
        for kind, limit in (("Max", model.y_low), ("Min", model.y_high)):
            x = x if limit is None else g.op(kind, x, g.constant(limit, np.float64))
    return x


def _mean_of(g: _Graph, model: Model, outputs: list[str]) -> str:
    """The mean of networks' outputs; of Gaussians the mean and variance of their mixture."""
    share = g.constant(1 / len(outputs), np.float64 if model.gives_raw else np.float32)
    mean = g.op("Mul", g.op("Sum", *outputs), share)
    if model.link != "gaussian":
        return mean
    half = model.sizes[-1] // 2
    first, last = (g.constant(range(a, a + half), np.int64) for a in (0, half))
    center, apart = g.op("Gather", mean, first, axis=1), []
    for out in outputs:
        d = g.op("Sub", g.op("Gather", out, first, axis=1), center)
        apart.append(g.op("Mul", d, d))
    between = g.op("Mul", g.op("Sum", *apart), share)
    return g.op("Concat", center, g.op("Add", g.op("Gather", mean, last, axis=1), between), axis=1)
