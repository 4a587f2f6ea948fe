"""torch's nn.Sequential, out and in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..errors import unknown
from ..kernels import codes
from ..network.mlp import MLP
from .model import described, folded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ..engine.anytrainer import AnyTrainer
    from ..types import Activation, Array, Dtype, Norm
    from .model import Model

    Weights: TypeAlias = list[tuple[Array, Array | None]]  # of each layer (weight, bias)
    Norms: TypeAlias = dict[int, dict[str, Array]]
    Slopes: TypeAlias = dict[int, Array]

_TORCH: dict[str, tuple[str, dict[str, Any]]] = {  # name -> torch.nn's module and its arguments
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
_NORMS = {"layer": "LayerNorm", "batch": "BatchNorm1d"}


def to_torch(trainer: AnyTrainer, link: bool = False) -> Any:
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


def state_dict(model: Model) -> dict[str, Array]:
    """{"0.weight": (fan_out, fan_in), "0.bias": (fan_out,), "2.weight": ...}, scalings folded in: arrays.

    Of a norm behind the first layer "1.weight", "1.bias", and of batch norm "1.running_mean",
    "1.running_var", "1.num_batches_tracked"; of prelu "1.weight", its slopes. Raises ValueError as
    ``to_torch`` does.
    """
    modules = enumerate(_modules(model))
    return {f"{i}.{name}": array for i, (_, _, arrays) in modules for name, array in arrays.items()}


def _modules(model: Model) -> list[tuple[str, dict[str, Any], dict[str, Array]]]:
    """[(class of torch.nn, its arguments, {name: array}), ...] of the network."""
    for name, there in (("residual", any(model.skips)), ("embeddings", model.tables)):
        if there:
            raise ValueError(f"net: got {name}, which no torch.nn.Sequential has; to_onnx and to_c take them")
    found: list[tuple[str, dict[str, Any], dict[str, Array]]] = []
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
        kind, arguments = _TORCH[name]
        arrays: dict[str, Array] = {}
        if model.slopes[k] is not None:
            arguments, arrays = {"num_parameters": len(b)}, {"weight": model.slopes[k]}
        found.append((kind, arguments, arrays))
    return found


def _norm_module(norm: tuple[Array, ...]) -> tuple[str, dict[str, Any], dict[str, Array]]:
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


def from_torch(
    module: Any, activation: Activation | Sequence[Activation] = "relu", *, dtype: Dtype | None = None
) -> MLP:
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
    kinds: list[Norm | None] = [_kind_of(norms.get(k)) for k in range(len(weights) - 1)]
    net = MLP(sizes, activation, norm=kinds, seed=0, dtype=dtype)
    for (w, b), own_w, own_b in zip(weights, net.weights, net.biases, strict=True):
        own_w[:], own_b[:] = w.T, 0 if b is None else b
    for k, arrays in norms.items():
        views: Any = {"weight": net.gains, "bias": net.shifts, "running_mean": net.running_means,
                 "running_var": net.running_vars}  # fmt: skip
        for name, array in arrays.items():
            views[name][k][:] = array
    _set_slopes(net, slopes)
    return net


def _set_slopes(net: MLP, slopes: Mapping[int, Array]) -> None:
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


def _kind_of(arrays: Mapping[str, Array] | None) -> Norm | None:
    return None if arrays is None else "batch" if "running_mean" in arrays else "layer"


def _array(tensor: Any) -> Array:
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu()
        tensor = tensor.float() if str(tensor.dtype) in ("torch.bfloat16", "torch.float16") else tensor
    return np.asarray(tensor)


def _of_state(state: Mapping[str, Any]) -> tuple[Weights, Norms, Slopes]:
    """([(weight, bias or None), ...], {hidden layer: {name: array} of its norm}, {hidden layer: slopes})."""
    weights: Weights = []
    norms: Norms = {}
    slopes: Slopes = {}
    modules: dict[str, dict[str, Array]] = {}
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


def _checked_norm(where: str, arrays: dict[str, Array], width: int) -> dict[str, Array]:
    if len(arrays) == 3 or any(array.shape != (width,) for array in arrays.values()):
        got = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"{where}: got a norm with {got}, takes ({width},) of weight and bias, and of both "
                         "running_mean and running_var for batch norm")  # fmt: skip
    return arrays


def _of_module(module: Any) -> tuple[Weights, list[str], Norms, Slopes]:
    """([(weight, bias or None), ...], activation names, norms, slopes) of a Sequential and those in it."""
    weights: Weights = []
    names, norms, slopes, waiting = [], {}, {}, None
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


def _norm_of(child: Any, kind: str, width: int) -> dict[str, Array]:
    """{name: array} of a LayerNorm or BatchNorm1d as fastbp has them."""
    if child.eps != codes.NORM_EPS or getattr(child, "momentum", codes.MOMENTUM) != codes.MOMENTUM:
        raise ValueError(f"module: got {child}, takes eps {codes.NORM_EPS} and momentum {codes.MOMENTUM}")
    names = ["weight", "bias"] + ["running_mean", "running_var"] * (kind == _NORMS["batch"])
    if any(getattr(child, name) is None for name in names):
        raise ValueError(f"module: got {child}, takes one with {', '.join(names)}")
    return _checked_norm(f"module: {child}", {name: _array(getattr(child, name)) for name in names}, width)


def _children(module: Any) -> Iterator[Any]:
    if type(module).__name__ != "Sequential":
        yield module
        return
    for child in module.children():
        yield from _children(child)


def _activation_of(child: Any) -> str:
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
