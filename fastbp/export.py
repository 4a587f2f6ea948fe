"""Models for others: what an export says of a network, and torch's nn.Sequential, out and in."""

from dataclasses import dataclass, field, replace

import numpy as np

from .activations import NAMES as ACTIVATIONS
from .errors import unknown
from .kernels import codes
from .mlp import MLP

# what predictions are of the outputs, by the code of the loss that has the link
_LINKS = {
    "softmax": (codes.CROSS_ENTROPY, codes.SOFT_CROSS_ENTROPY, codes.LABEL_FOCAL),
    "sigmoid": (codes.BCE_WITH_LOGITS, codes.WEIGHTED_BCE, codes.FOCAL),
    "exp": (codes.POISSON_NLL, codes.GAMMA_NLL),
    "gaussian": (codes.GAUSSIAN_NLL,),
    None: (codes.MSE, codes.MAE, codes.HUBER, codes.LOG_COSH, codes.QUANTILE, codes.HINGE,
           codes.LABEL_HINGE, codes.COSINE),
}  # fmt: skip
LINKS = {code: link for link, group in _LINKS.items() for code in group}
_NORMS = {"layer": "LayerNorm", "batch": "BatchNorm1d"}


@dataclass
class Model:
    """A trained network without its trainer: copies, so that later training leaves them alone.

    layers : [(W (fan_in, fan_out), b (fan_out,)), ...]. Of each hidden layer, or None: activations : its
    name; norms : the arrays of its norm (gain, shift, and for batch norm mean and variance); skips : whether
    its input is added; slopes : prelu's. tables : {column of X: (categories, width)} of embedded columns.
    link : "softmax", "sigmoid", "exp", "gaussian" (means, then variances from ``floor``, their logarithm, on)
    or None. fill, mean, scale : (inputs,) float64, what raw inputs go through, or None; y_mean, y_scale :
    (outputs,), likewise for outputs; inputs : a name for each input, or None; classes : labels, or None.
    """

    layers: list
    activations: list
    norms: list
    skips: list
    slopes: list
    tables: dict = field(default_factory=dict)
    link: str | None = None
    floor: float = 0.0
    fill: np.ndarray | None = None
    mean: np.ndarray | None = None
    scale: np.ndarray | None = None
    y_mean: np.ndarray | None = None
    y_scale: np.ndarray | None = None
    inputs: list | None = None
    classes: list | None = None

    @property
    def sizes(self):
        """Columns of X, then widths, then outputs."""
        inputs = len(self.layers[0][0]) - sum(table.shape[1] - 1 for table in self.tables.values())
        return [inputs, *(len(b) for _, b in self.layers)]

    @property
    def numeric(self):
        """The columns of X that are not embedded."""
        return [c for c in range(self.sizes[0]) if c not in self.tables]

    @property
    def dtype(self):
        return self.layers[0][0].dtype

    def without_batch_norm(self):
        """The same predictions with every batch norm folded into its layer, in float64."""
        layers, norms = list(self.layers), list(self.norms)
        for k, norm in enumerate(norms):
            if norm is not None and len(norm) == 4:
                gain, shift, mean, variance = (a.astype(np.float64) for a in norm)
                factor, (w, b) = gain / np.sqrt(variance + codes.NORM_EPS), layers[k]
                folded = w * factor, (b - mean) * factor + shift
                layers[k], norms[k] = tuple(a.astype(self.dtype) for a in folded), None
        return replace(self, layers=layers, norms=norms)


def described(trainer, link=True):
    """The Model of a trainer. Raises ValueError for what no export can say."""
    net = trainer.net if trainer.ema is None else trainer.averaged_net()  # what predict takes
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
        model.floor = float(trainer.loss.numbers(net.sizes[-1])[0]) if model.link == "gaussian" else 0.0
    preparation = trainer.preparation
    if preparation is not None:
        model.mean, model.scale = preparation.mean, preparation.scale
        model.y_mean, model.y_scale = preparation.y_mean, preparation.y_scale
        model.inputs, model.classes = preparation.input_names, preparation.classes
        model.fill = preparation.fill_of_inputs
    elif trainer.columns is not None:
        model.inputs = trainer.columns
    return model


def _norm(net, k):
    """The arrays of hidden layer k's norm, or None."""
    if net.norms[k] is None:
        return None
    arrays = [net.gains[k], net.shifts[k]]
    if net.norms[k] == "batch":
        arrays += [net.running_means[k], net.running_vars[k]]
    return tuple(np.array(a) for a in arrays)


# --- torch

_TORCH = {  # name -> torch.nn's module and its arguments
    "identity": ("Identity", {}),
    "relu": ("ReLU", {}),
    "leaky_relu": ("LeakyReLU", {"negative_slope": 0.01}),
    "sigmoid": ("Sigmoid", {}),
    "tanh": ("Tanh", {}),
    "elu": ("ELU", {"alpha": 1.0}),
    "celu": ("CELU", {"alpha": 1.0}),
    "gelu": ("GELU", {"approximate": "none"}),
    "silu": ("SiLU", {}),
    "selu": ("SELU", {}),
    "gelu_tanh": ("GELU", {"approximate": "tanh"}),
    "mish": ("Mish", {}),
    "softplus": ("Softplus", {"beta": 1.0, "threshold": 20.0}),
    "softsign": ("Softsign", {}),
    "hardtanh": ("Hardtanh", {"min_val": -1.0, "max_val": 1.0}),
    "hardswish": ("Hardswish", {}),
    "prelu": ("PReLU", {}),
}


def to_torch(trainer, link=False):
    """The network as a torch.nn.Sequential of Linear layers, norms and activations, in its dtype, on the CPU.

    Names and shapes as torch has them: "0.weight" (fan_out, fan_in), "0.bias", "2.weight", ...; in eval()
    mode, for batch norm. It gives ``trainer.forward``'s outputs; link : end with Softmax or Sigmoid, as
    ``trainer.predict``. A stored scaling is folded into the first layer (and a target's into the last).
    Raises ValueError for what no Sequential has: skips, embeddings, other links, the activation sin.
    """
    import torch

    model = described(trainer, link)
    if model.link in ("exp", "gaussian"):
        raise ValueError(f"link: got True, but torch.nn has no module for {model.link}; takes False")
    modules = [getattr(torch.nn, kind)(**given) for kind, given, _ in _modules(model)]
    if model.link:
        modules.append(torch.nn.Softmax(dim=-1) if model.link == "softmax" else torch.nn.Sigmoid())
    module = torch.nn.Sequential(*modules).to(getattr(torch, model.dtype.name))
    module.load_state_dict({name: torch.from_numpy(array) for name, array in state_dict(model).items()})
    return module.eval()


def state_dict(model):
    """{"0.weight": (fan_out, fan_in), "0.bias": (fan_out,), "2.weight": ...}, scalings folded in: arrays.

    Of a norm behind the first layer "1.weight", "1.bias", and of batch norm "1.running_mean",
    "1.running_var", "1.num_batches_tracked"; of prelu "1.weight", its slopes. Raises ValueError as
    ``to_torch`` does.
    """
    modules = enumerate(_modules(model))
    return {f"{i}.{name}": array for i, (_, _, arrays) in modules for name, array in arrays.items()}


def _modules(model):
    """[(class of torch.nn, its arguments, {name: array}), ...] of the network."""
    for name, there in (("residual", any(model.skips)), ("embeddings", model.tables)):
        if there:
            raise ValueError(f"net: got {name}, which no torch.nn.Sequential has; to_onnx and to_c take them")
    found = []
    for k, (w, b) in enumerate(folded(model)):
        sizes = {"in_features": len(w), "out_features": len(b)}
        found.append(("Linear", sizes, {"weight": np.ascontiguousarray(w.T), "bias": b}))
        if k == len(model.activations):
            break
        if model.norms[k] is not None:
            found.append(_norm_module(model.norms[k]))
        name = model.activations[k]
        if name not in _TORCH:
            raise ValueError(
                f"activation: {name!r} has no module of torch.nn here; takes {', '.join(_TORCH)}"
            )
        kind, arguments, arrays = *_TORCH[name], {}
        if model.slopes[k] is not None:
            arguments, arrays = {"num_parameters": len(b)}, {"weight": model.slopes[k]}
        found.append((kind, arguments, arrays))
    return found


def _norm_module(norm):
    gain, shift, *running = norm
    arrays = {"weight": gain, "bias": shift}
    if not running:
        return "LayerNorm", {"normalized_shape": len(gain), "eps": codes.NORM_EPS}, arrays
    arrays |= {"running_mean": running[0], "running_var": running[1], "num_batches_tracked": np.array(0)}
    return (
        "BatchNorm1d",
        {"num_features": len(gain), "eps": codes.NORM_EPS, "momentum": codes.MOMENTUM},
        arrays,
    )


def folded(model):
    """The layers with the scaling of inputs and outputs folded into the first and last, in float64."""
    layers = [(w.astype(np.float64), b.astype(np.float64)) for w, b in model.layers]
    if model.mean is not None:
        w, b = layers[0]
        w = w / model.scale[:, None]
        layers[0] = w, b - model.mean @ w
    if model.y_mean is not None:
        w, b = layers[-1]
        layers[-1] = w * model.y_scale, b * model.y_scale + model.y_mean
    return [(w.astype(model.dtype), b.astype(model.dtype)) for w, b in layers]


def from_torch(module, activation="relu", *, dtype=None):
    """An MLP with the weights of a torch.nn.Sequential or of a state_dict (name -> tensor or array).

    A module says its activations itself; a state_dict's weights are taken in their order, with
    ``activation`` (one, or one per hidden layer). LayerNorm and BatchNorm1d may stand behind Linear.
    PReLU has one slope a unit, or one for all, which becomes one a unit.
    Flatten at the start and Dropout are passed over.
    dtype : of the MLP; default: the weights'. No torch is needed for a state_dict of arrays.

    Raises ValueError for layers, activations or shapes that an MLP does not have, naming them.

    >>> net = fb.from_torch({"0.weight": np.ones((8, 4)), "0.bias": np.zeros(8), "2.weight": np.ones((3, 8))})
    >>> net.sizes, net.dtype.name
    ([4, 8, 3], 'float64')
    """
    if hasattr(module, "state_dict"):
        weights, activation, norms, slopes = _of_module(module)
    else:
        weights, norms, slopes = _of_state(module)
    if not weights:
        raise ValueError("module: got no Linear layer, takes one or more")
    for k in range(len(weights) - 1):
        if weights[k][0].shape[0] != weights[k + 1][0].shape[1]:
            raise ValueError(
                f"module: layer {k} has {weights[k][0].shape[0]} outputs, layer {k + 1} takes "
                f"{weights[k + 1][0].shape[1]} inputs"
            )
    sizes = [weights[0][0].shape[1], *(w.shape[0] for w, _ in weights)]
    if dtype is None:
        dtype = "float64" if weights[0][0].dtype == np.float64 else "float32"
    kinds = [_kind_of(norms.get(k)) for k in range(len(weights) - 1)]
    net = MLP(sizes, activation, norm=kinds, seed=0, dtype=dtype)
    for (w, b), own_w, own_b in zip(weights, net.weights, net.biases, strict=True):
        own_w[:], own_b[:] = w.T, 0 if b is None else b
    for k, arrays in norms.items():
        views = {"weight": net.gains, "bias": net.shifts, "running_mean": net.running_means,
                 "running_var": net.running_vars}  # fmt: skip
        for name, array in arrays.items():
            views[name][k][:] = array
    _set_slopes(net, slopes)
    return net


def _set_slopes(net, slopes):
    """Give the layers with prelu their slopes: {number of the hidden layer: array}."""
    found = {k: own for k, own in enumerate(net.slopes) if own is not None}
    if found.keys() != slopes.keys():
        raise ValueError(
            f"module: has slopes behind layers {sorted(slopes)}, the activation prelu is that of "
            f"{sorted(found)}"
        )
    for k, own in found.items():
        if slopes[k].shape not in ((1,), own.shape):
            raise ValueError(f"module: got {slopes[k].size} slopes behind layer {k}, takes 1 or {own.size}")
        own[:] = slopes[k]


def _kind_of(arrays):
    return arrays if arrays is None else "batch" if "running_mean" in arrays else "layer"


def _array(tensor):
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu()
        tensor = tensor.float() if str(tensor.dtype) in ("torch.bfloat16", "torch.float16") else tensor
    return np.asarray(tensor)


def _of_state(state):
    """([(weight, bias or None), ...], {hidden layer: {name: array} of its norm}, {hidden layer: slopes})."""
    weights, norms, slopes, modules = [], {}, {}, {}
    for name, tensor in state.items():
        stem, _, kind = name.rpartition(".")
        if kind != "num_batches_tracked":
            modules.setdefault(stem, {})[kind] = _array(tensor)
    for stem, arrays in modules.items():
        shapes, layer = {kind: array.shape for kind, array in arrays.items()}, len(weights) - 1
        if arrays.keys() <= {"weight", "bias"} and "weight" in arrays and len(shapes["weight"]) == 2:
            weights.append((arrays["weight"], arrays.get("bias")))
        elif weights and layer not in norms and {"weight", "bias"} <= arrays.keys() <= _OF_NORMS:
            norms[layer] = _checked_norm(stem, arrays, len(weights[-1][0]))
        elif weights and arrays.keys() == {"weight"} and len(shapes["weight"]) == 1:
            slopes[layer] = arrays["weight"]
        else:
            got = ", ".join(f"{stem}.{kind} {shape}" for kind, shape in shapes.items())
            raise ValueError(
                f"state_dict: got {got}, takes weight and bias of Linear layers, and of norms behind them"
            )
    return weights, norms, slopes


_OF_NORMS = {"weight", "bias", "running_mean", "running_var"}


def _checked_norm(where, arrays, width):
    if len(arrays) == 3 or any(array.shape != (width,) for array in arrays.values()):
        got = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"{where}: got a norm with {got}, takes ({width},) of weight and bias, and of both "
                         "running_mean and running_var for batch norm")  # fmt: skip
    return arrays


def _of_module(module):
    """([(weight, bias or None), ...], activation names, norms, slopes) of a Sequential and those in it."""
    weights, names, norms, slopes, waiting = [], [], {}, {}, None
    for child in _children(module):
        kind = type(child).__name__
        if kind == "Linear":
            if weights:
                names.append(waiting or "identity")
            weights.append((_array(child.weight), None if child.bias is None else _array(child.bias)))
            waiting = None
        elif kind in ("Dropout", "Identity") or (kind == "Flatten" and not weights):
            continue
        elif kind in _NORMS.values() and weights and not waiting and len(weights) - 1 not in norms:
            norms[len(weights) - 1] = _norm_of(child, kind, len(weights[-1][0]))
        else:
            if not weights or waiting:
                raise ValueError(f"module: got {child} where a Linear layer is due")
            waiting = _activation_of(child)
            if waiting == "prelu":
                slopes[len(weights) - 1] = _array(child.weight)
    if waiting:
        raise ValueError(
            f"module: ends with {waiting}, takes a Linear layer last: softmax and sigmoid belong to the loss"
        )
    if len(weights) - 1 in norms:
        raise ValueError("module: has a norm behind the last Linear layer, takes none there")
    return weights, names, norms, slopes


def _norm_of(child, kind, width):
    """{name: array} of a LayerNorm or BatchNorm1d as fastbp has them."""
    if child.eps != codes.NORM_EPS or getattr(child, "momentum", codes.MOMENTUM) != codes.MOMENTUM:
        raise ValueError(f"module: got {child}, takes eps {codes.NORM_EPS} and momentum {codes.MOMENTUM}")
    names = ["weight", "bias"] + ["running_mean", "running_var"] * (kind == _NORMS["batch"])
    if any(getattr(child, name) is None for name in names):
        raise ValueError(f"module: got {child}, takes one with {', '.join(names)}")
    return _checked_norm(f"module: {child}", {name: _array(getattr(child, name)) for name in names}, width)


def _children(module):
    if type(module).__name__ != "Sequential":
        yield module
        return
    for child in module.children():
        yield from _children(child)


def _activation_of(child):
    taken = []
    for name, (kind, arguments) in _TORCH.items():
        if type(child).__name__ == kind:
            if all(getattr(child, key) == value for key, value in arguments.items()):
                return name
            taken.append(", ".join(f"{key}={value}" for key, value in arguments.items()))
    if taken:
        raise ValueError(f"module: got {child}, takes {' or '.join(taken)}")
    raise unknown(
        "module", type(child).__name__, ["Linear", "Dropout", *(kind for kind, _ in _TORCH.values())]
    )
