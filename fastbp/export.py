"""Models for others: what an export says of a network, and torch's nn.Sequential, out and in."""

from dataclasses import dataclass

import numpy as np

from .errors import unknown
from .kernels import codes
from .mlp import MLP

# what predictions are of the outputs, by the code of the loss that has the link; others have no export
_LINKS = {
    "softmax": (codes.CROSS_ENTROPY, codes.SOFT_CROSS_ENTROPY, codes.LABEL_FOCAL),
    "sigmoid": (codes.BCE_WITH_LOGITS, codes.WEIGHTED_BCE, codes.FOCAL),
    "exp": (codes.POISSON_NLL, codes.GAMMA_NLL),
    None: (codes.MSE, codes.MAE, codes.HUBER, codes.LOG_COSH, codes.QUANTILE, codes.HINGE,
           codes.LABEL_HINGE, codes.COSINE),
}  # fmt: skip
LINKS = {code: link for link, group in _LINKS.items() for code in group}
_KNOWN = {"sizes", "activation", "dtype", "dropout", "input_dropout"}  # dropout does nothing to predictions


@dataclass
class Model:
    """A trained network without its trainer: copies, so that later training leaves them alone.

    layers : [(W (fan_in, fan_out), b (fan_out,)), ...]; activations : a name per hidden layer;
    link : "softmax", "sigmoid", "exp" or None; mean, scale : (inputs,) float64, what raw inputs go through,
    or None; y_mean, y_scale : (outputs,), likewise for outputs; inputs : a name for each input, or
    None; classes : labels, or None.
    """

    layers: list
    activations: list
    link: str | None = None
    mean: np.ndarray | None = None
    scale: np.ndarray | None = None
    y_mean: np.ndarray | None = None
    y_scale: np.ndarray | None = None
    inputs: list | None = None
    classes: list | None = None

    @property
    def sizes(self):
        return [len(self.layers[0][0]), *(len(b) for _, b in self.layers)]

    @property
    def dtype(self):
        return self.layers[0][0].dtype


def described(trainer, link=True):
    """The Model of a trainer. Raises ValueError for what predictions need and no export can say yet."""
    config = trainer.net.config()
    odd = sorted(name for name, value in config.items() if name not in _KNOWN and _says_something(value))
    if odd:
        values = ", ".join(f"{name}={config[name]!r}" for name in odd)
        raise ValueError(f"net: got {values}; an export takes dense layers with activations only")
    for name in trainer.net.activations:
        if name not in codes.ACTIVATIONS:
            raise ValueError(f"activation: got {name!r}, an export takes {', '.join(codes.ACTIVATIONS)}")
    code = trainer.loss.link_code(trainer.net.sizes[-1])
    if link and code not in LINKS:
        raise ValueError(
            f"loss: {trainer.loss} has predictions that no export can make; link=False exports the outputs"
        )
    layers = [
        (np.array(w), np.array(b)) for w, b in zip(trainer.net.weights, trainer.net.biases, strict=True)
    ]
    model = Model(layers, list(trainer.net.activations), LINKS[code] if link else None)
    preparation = trainer.preparation
    if preparation is not None:
        model.mean, model.scale = preparation.mean, preparation.scale
        model.y_mean, model.y_scale = preparation.y_mean, preparation.y_scale
        model.inputs, model.classes = preparation.input_names, preparation.classes
    elif trainer.columns is not None:
        model.inputs = trainer.columns
    return model


def _says_something(value):
    return (
        any(map(_says_something, value))
        if isinstance(value, (list, tuple))
        else value not in (None, 0, False)
    )


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
}


def to_torch(trainer, link=False):
    """The network as a torch.nn.Sequential of Linear layers and activations, in its dtype, on the CPU.

    Names and shapes as torch has them: "0.weight" (fan_out, fan_in), "0.bias", "2.weight", ... It
    gives ``trainer.forward``'s outputs; link : end with Softmax or Sigmoid, as ``trainer.predict``. A
    stored scaling is folded into the first layer (and a target's into the last).
    """
    import torch

    model, modules = described(trainer, link), []
    for k, (w, _) in enumerate(model.layers):
        modules.append(torch.nn.Linear(*w.shape, dtype=getattr(torch, w.dtype.name)))
        if k < len(model.activations):
            modules.append(_torch_module(torch, model.activations[k]))
    if model.link == "exp":
        raise ValueError("link: got True, but torch.nn has no module for exp; takes False")
    if model.link:
        modules.append(torch.nn.Softmax(dim=-1) if model.link == "softmax" else torch.nn.Sigmoid())
    module = torch.nn.Sequential(*modules)
    module.load_state_dict({name: torch.from_numpy(array) for name, array in state_dict(model).items()})
    return module


def state_dict(model):
    """{"0.weight": (fan_out, fan_in), "0.bias": (fan_out,), "2.weight": ...}, scalings folded in: arrays."""
    state = {}
    for k, (w, b) in enumerate(folded(model)):
        state[f"{2 * k}.weight"], state[f"{2 * k}.bias"] = np.ascontiguousarray(w.T), b
    return state


def _torch_module(torch, name):
    if name not in _TORCH:
        raise ValueError(f"activation: {name!r} has no module of torch.nn here; takes {', '.join(_TORCH)}")
    kind, arguments = _TORCH[name]
    return getattr(torch.nn, kind)(**arguments)


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
    ``activation`` (one, or one per hidden layer). Flatten at the start and Dropout are passed over.
    dtype : of the MLP; default: the weights'. No torch is needed for a state_dict of arrays.

    Raises ValueError for layers, activations or shapes that an MLP does not have, naming them.

    >>> net = fb.from_torch({"0.weight": np.ones((8, 4)), "0.bias": np.zeros(8), "2.weight": np.ones((3, 8))})
    >>> net.sizes, net.dtype.name
    ([4, 8, 3], 'float64')
    """
    if hasattr(module, "state_dict"):
        weights, activation = _of_module(module)
    else:
        weights = _of_state(module)
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
    net = MLP(sizes, activation, seed=0, dtype=dtype)
    for (w, b), own_w, own_b in zip(weights, net.weights, net.biases, strict=True):
        own_w[:], own_b[:] = w.T, 0 if b is None else b
    return net


def _array(tensor):
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu()
        tensor = tensor.float() if str(tensor.dtype) in ("torch.bfloat16", "torch.float16") else tensor
    return np.asarray(tensor)


def _of_state(state):
    """[(weight, bias or None), ...] of a state_dict, in its order."""
    weights = []
    for name, tensor in state.items():
        stem, _, kind = name.rpartition(".")
        array = _array(tensor)
        if kind == "weight" and array.ndim == 2:
            bias = state.get(f"{stem}.bias" if stem else "bias")
            weights.append((array, None if bias is None else _array(bias)))
        elif kind != "bias" or array.ndim != 1:
            raise ValueError(f"state_dict: got {name} {array.shape}, takes Linear layers' weight and bias")
    return weights


def _of_module(module):
    """([(weight, bias or None), ...], activation names) of a Sequential, nested ones opened."""
    weights, names, waiting = [], [], None
    for child in _children(module):
        kind = type(child).__name__
        if kind == "Linear":
            if weights:
                names.append(waiting or "identity")
            weights.append((_array(child.weight), None if child.bias is None else _array(child.bias)))
            waiting = None
        elif kind in ("Dropout", "Identity") or (kind == "Flatten" and not weights):
            continue
        else:
            if not weights or waiting:
                raise ValueError(f"module: got {child} where a Linear layer is due")
            waiting = _activation_of(child)
    if waiting:
        raise ValueError(
            f"module: ends with {waiting}, takes a Linear layer last: softmax and sigmoid belong to the loss"
        )
    return weights, names


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
