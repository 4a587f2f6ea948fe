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

    Arrays: TypeAlias = dict[str, Array]

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
    """The network as a torch.nn.Sequential of Linear layers, norms and activations, on the CPU.

    Names and shapes as torch has them: "0.weight" (fan_out, fan_in), "0.bias", "2.weight", ...; in eval()
    mode, without Dropout. It gives ``trainer.forward``'s outputs; link : end with Softmax or Sigmoid, as
    ``trainer.predict``. It has the network's dtype. A stored scaling is folded into the first layer (and a
    target's into the last), which makes the module float64.
    Raises ValueError for what no Sequential has: skips, embeddings, other links, the activation sin.
    """
    import torch

    model = described(trainer, link)
    if model.link in ("exp", "gaussian", "ordered"):
        raise ValueError(f"link: got True, but torch.nn has no module for {model.link}; takes False")
    modules = [getattr(torch.nn, kind)(**given) for kind, given, _ in _modules(model)]
    if model.link:
        modules.append(torch.nn.Softmax(dim=-1) if model.link == "softmax" else torch.nn.Sigmoid())
    state = state_dict(model)
    module = torch.nn.Sequential(*modules).to(getattr(torch, state["0.weight"].dtype.name))
    module.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
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
    PReLU has one slope a unit, or one for all, which becomes one a unit. Dropout at the start becomes
    ``input_dropout``, other Dropout that of its hidden layer, behind the activation. Flatten at the start
    is passed over. A module that stands at several places is read at each; in the MLP these have weights
    of their own.
    dtype : of the MLP; default: the weights'. No torch is needed for a state_dict of arrays.

    Raises ValueError for whatever an MLP does not have, naming it: other modules, subclasses with a
    forward of their own, hooks (of pruning and weight norm, for two), shapes, dtypes.

    >>> net = fb.from_torch({"0.weight": np.ones((8, 4)), "0.bias": np.zeros(8), "2.weight": np.ones((3, 8))})
    >>> net.sizes, net.dtype.name
    ([4, 8, 3], 'float64')
    """
    found = _Layers()
    if hasattr(module, "state_dict"):
        for child in _children(module):
            found.add_module(child)
        activation = found.names
    else:
        found.add_state(module)
    found.check_end()
    weights = found.weights
    sizes = [weights[0][0].shape[1], *(w.shape[0] for w, _ in weights)]
    if dtype is None:
        dtype = "float64" if weights[0][0].dtype == np.float64 else "float32"
    kinds: list[Norm | None] = [_kind_of(found.norms.get(k)) for k in range(len(weights) - 1)]
    dropped = [found.dropped.get(k, 0.0) for k in range(len(weights))]
    net = MLP(
        sizes, activation, dropout=dropped[1:], input_dropout=dropped[0], norm=kinds, seed=0, dtype=dtype
    )
    for (w, b), own_w, own_b in zip(weights, net.weights, net.biases, strict=True):
        own_w[:], own_b[:] = w.T, 0 if b is None else b
    for k, arrays in found.norms.items():
        views: Any = {"weight": net.gains, "bias": net.shifts, "running_mean": net.running_means,
                 "running_var": net.running_vars}  # fmt: skip
        for name, array in arrays.items():
            views[name][k][:] = array
    _set_slopes(net, found.slopes)
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


def _array(name: str, tensor: Any) -> Array:
    """A tensor's numbers. Raises ValueError for what is no array of floats, as of a quantised layer."""
    try:
        if hasattr(tensor, "detach"):
            tensor = tensor.detach().cpu()
            small = tensor.is_floating_point() and tensor.element_size() < 4
            tensor = tensor.float() if small else tensor  # NumPy has no bfloat16
        array = np.asarray(tensor)
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"{name}: got {type(tensor).__name__} ({error}), takes an array of floats") from None
    if array.dtype.kind != "f":
        raise ValueError(f"{name}: got dtype {array.dtype}, takes floats")
    return array


_OF_NORMS = {"weight", "bias", "running_mean", "running_var"}


def _checked_norm(where: str, arrays: Arrays, width: int) -> Arrays:
    if len(arrays) == 3 or any(array.shape != (width,) for array in arrays.values()):
        got = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"{where}: got a norm with {got}, takes ({width},) of weight and bias, and of both "
                         "running_mean and running_var for batch norm")  # fmt: skip
    return arrays


class _Layers:
    """What was read so far, in the order of computing.

    weights : [(weight (out, in), bias or None), ...]; names : of activations; norms, slopes : {hidden layer:
    its arrays}; dropped : {number of Linear layers before it: share}; waiting : the activation since the last
    Linear layer.
    """

    def __init__(self) -> None:
        self.weights: list[tuple[Array, Array | None]] = []
        self.names: list[str] = []
        self.norms: dict[int, Arrays] = {}
        self.slopes: dict[int, Array] = {}
        self.dropped: dict[int, float] = {}
        self.waiting: str | None = None

    def linear(self, where: str, weight: Array, bias: Array | None) -> None:
        if bias is not None and bias.shape != weight.shape[:1]:
            raise ValueError(
                f"{where}: got bias {bias.shape}, takes {weight.shape[:1]} for weight {weight.shape}"
            )
        if self.weights and self.weights[-1][0].shape[0] != weight.shape[1]:
            k = len(self.weights)
            raise ValueError(
                f"module: layer {k - 1} has {self.weights[-1][0].shape[0]} outputs, layer {k} takes "
                f"{weight.shape[1]} inputs"
            )
        self.weights.append((weight, bias))

    def check_end(self) -> None:
        """Nothing but a Linear layer is last."""
        last = len(self.weights) - 1
        if last < 0:
            raise ValueError("module: got no Linear layer, takes one or more")
        if self.waiting:
            raise ValueError(
                f"module: ends with {self.waiting}, takes a Linear layer last: softmax and sigmoid belong to "
                "the loss"
            )
        for what, there in (("a norm", self.norms), ("Dropout", {k - 1 for k in self.dropped})):
            if last in there:
                raise ValueError(f"module: has {what} behind the last Linear layer, takes none there")

    def add_state(self, state: Mapping[str, Any]) -> None:
        """All of a state_dict; it does not say where activations and dropout are."""
        modules: dict[str, Arrays] = {}
        for name, tensor in state.items():
            stem, _, kind = name.rpartition(".")
            if kind != "num_batches_tracked":
                modules.setdefault(stem, {})[kind] = _array(f"state_dict: {name}", tensor)
        for stem, arrays in modules.items():
            shapes, layer = {kind: array.shape for kind, array in arrays.items()}, len(self.weights) - 1
            kinds, behind = arrays.keys(), layer >= 0
            if kinds <= {"weight", "bias"} and "weight" in kinds and len(shapes["weight"]) == 2:
                self.linear(f"state_dict: {stem}", arrays["weight"], arrays.get("bias"))
            elif behind and layer not in self.norms and {"weight", "bias"} <= kinds <= _OF_NORMS:
                self.norms[layer] = _checked_norm(stem, arrays, len(self.weights[-1][0]))
            elif behind and layer not in self.slopes and kinds == {"weight"} and arrays["weight"].ndim == 1:
                self.slopes[layer] = arrays["weight"]
            else:
                got = ", ".join(f"{stem}.{kind} {shape}" for kind, shape in shapes.items())
                raise ValueError(
                    f"state_dict: got {got}, takes weight and bias of Linear layers, and of norms behind them"
                )

    def add_module(self, child: Any) -> None:
        """One module that is no Sequential."""
        kind, layer = _kind_in_torch(child), len(self.weights) - 1
        if kind == "Linear":
            if self.weights:
                self.names.append(self.waiting or "identity")
            bias = None if child.bias is None else _array(f"module: {child}", child.bias)
            self.linear(f"module: {child}", _array(f"module: {child}", child.weight), bias)
            self.waiting = None
        elif kind == "Dropout":
            before = self.dropped.get(layer + 1)
            self.dropped[layer + 1] = child.p if before is None else 1 - (1 - before) * (1 - child.p)
        elif kind == "Flatten" and layer < 0:
            if (child.start_dim, child.end_dim) != (1, -1):
                raise ValueError(f"module: got {child}, takes start_dim=1, end_dim=-1")
        elif kind in _NORMS.values() and layer >= 0 and not self.waiting and layer not in self.norms:
            if layer + 1 in self.dropped:
                raise ValueError(f"module: got {child} behind Dropout, takes it right behind Linear")
            self.norms[layer] = _norm_of(child, kind, len(self.weights[-1][0]))
        elif kind != "Identity":
            if layer < 0 or self.waiting:
                raise ValueError(f"module: got {child} where a Linear layer is due")
            self.waiting = _activation_of(child, kind)
            if self.waiting == "prelu":
                self.slopes[layer] = _array(f"module: {child}", child.weight)


def _norm_of(child: Any, kind: str, width: int) -> Arrays:
    """{name: array} of a LayerNorm or BatchNorm1d as fastbp has them."""
    if child.eps != codes.NORM_EPS or getattr(child, "momentum", codes.MOMENTUM) != codes.MOMENTUM:
        raise ValueError(f"module: got {child}, takes eps {codes.NORM_EPS} and momentum {codes.MOMENTUM}")
    names = ["weight", "bias"] + ["running_mean", "running_var"] * (kind == _NORMS["batch"])
    if any(getattr(child, name) is None for name in names):
        raise ValueError(f"module: got {child}, takes one with {', '.join(names)}")
    where = f"module: {child}"
    return _checked_norm(where, {name: _array(where, getattr(child, name)) for name in names}, width)


def _children(module: Any) -> Iterator[Any]:
    """What a Sequential runs, one after the other, each as often as it stands there; or the module alone."""
    from torch.nn import Sequential

    if not (isinstance(module, Sequential) and type(module).forward is Sequential.forward):
        yield module
        return
    _check_plain(module)
    for child in module:  # .children() would leave out what it has named before
        yield from _children(child)


def _check_plain(module: Any) -> None:
    """Raise ValueError for a module that need not compute what its class says: torch names no such thing."""
    own = vars(module)
    changed = [name for name in ("_forward_pre_hooks", "_forward_hooks") if own.get(name)]
    if changed or "forward" in own:
        what = "hooks (of pruning, weight norm or your own)" if changed else "a forward of its own"
        raise ValueError(f"module: got {module} with {what}, takes modules as torch.nn has them")


def _kind_in_torch(child: Any) -> str:
    """The name of a module's class where it is torch.nn's own: another class may compute another thing."""
    from torch import nn

    kind = type(child)
    if getattr(nn, kind.__name__, None) is not kind:
        takes = [*_NORMS.values(), *_TAKEN, *(name for name, _ in _TORCH.values())]
        got = kind.__name__ if kind.__name__ not in takes else f"{kind.__module__}.{kind.__qualname__}"
        raise unknown("module", got, takes)
    _check_plain(child)
    return kind.__name__


_TAKEN = ("Linear", "Sequential", "Dropout", "Flatten")


def _activation_of(child: Any, kind: str) -> str:
    taken = []
    for name, (known, arguments) in _TORCH.items():
        if kind == known:
            if all(getattr(child, key) == value for key, value in arguments.items()):
                return name
            taken.append(", ".join(f"{key}={value}" for key, value in arguments.items()))
    if taken:
        raise ValueError(f"module: got {child}, takes {' or '.join(taken)}")
    raise unknown("module", kind, [*_TAKEN, *(name for name, _ in _TORCH.values())])
