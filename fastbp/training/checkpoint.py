"""One safe file format: safetensors with a JSON config; save and resume are exact.

Tensors, K being the layer (of embeddings the embedded column):

    weights.K (fan_in, fan_out), biases.K (fan_out,)
    gains.K, shifts.K                    of layers with a norm
    running_means.K, running_vars.K      of layers with batch norm
    slopes.K                             of layers with prelu
    embeddings.K
    slotS.weights.K, ...                 the optimizer's slots
    average.weights.K, ...               where the trainer keeps an average
    preparation.NAME                     the numbers of a preparation, float64

A file of an ensemble has "members", the configurations of its trainers. Before the names of member I's arrays
stands memberI., but not before the preparation's, which they share.

Metadata: {"fastbp": JSON of the configuration}, whose first key, "sha256", is a digest of the rest of it and
of all arrays. There is no code in it. What is promised: docs/policies.md.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..engine.options import Options
from ..errors import number, whole
from ..losses import loss as make_loss
from ..network.mlp import MLP
from ..optimizers import OPTIMIZERS
from ..preparation import Preparation
from ..schedules import schedule
from ..writing import written

if TYPE_CHECKING:
    from ..engine.anytrainer import AnyTrainer
    from ..types import Array, FilePath

    Made = TypeVar("Made", bound=AnyTrainer)

FORMAT = 1
_PREPARATION = "preparation."


def _arenas(trainer):
    size = trainer.net.params.size
    for s, prefix in enumerate(_prefixes(trainer.optimizer, Options.of(trainer))):
        yield prefix, trainer.slots[(s - 1) * size : s * size] if s else trainer.net.params


def _prefixes(optimizer, options):
    slots = [f"slot{s}." for s in range(optimizer.slots)]
    return ["", *slots, *(["average."] if options.ema is not None else [])]


def _views(trainer):
    """name -> view, for every array of a checkpoint."""
    views = {}
    for prefix, flat in _arenas(trainer):
        for name, view in trainer.net.named_views(flat, state=not prefix).items():
            views[prefix + name] = view
    return views


class _Digest:
    """Of a file's configuration and its arrays, in whatever order these come: of each bit."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines: list[str] = []

    def add(self, name: str, array: Array) -> None:
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        content = hashlib.sha256(array.data.cast("B") if array.size else b"").hexdigest()
        self.lines.append(f"{name} {array.dtype.name} {array.shape} {content}")

    def hexdigest(self) -> str:
        return hashlib.sha256("\n".join([self.text, *sorted(self.lines)]).encode()).hexdigest()


def save(trainer: AnyTrainer, path: FilePath, more: dict[str, Any] | None = None) -> None:
    """Write a trainer to ``path``, whole or not at all; ValueError for what ``load`` would refuse.

    more : further keys of the configuration, such as an estimator's.
    """
    _write([trainer], _config(trainer) | (more or {}), path)


def save_members(trainers: Sequence[AnyTrainer], path: FilePath, more: dict[str, Any] | None = None) -> None:
    """The same for trainers with one preparation, as one file."""
    members = [_config(trainer) for trainer in trainers]
    _write(trainers, {"format": FORMAT, "members": members} | (more or {}), path)


def _config(trainer):
    return {
        "format": FORMAT,
        "net": trainer.net.config(),
        "loss": trainer.loss.config(),
        "optimizer": trainer.optimizer.config(),
        "batch_size": trainer.batch_size,
        "seed": trainer.seed,
        "options": Options.of(trainer).config(),
        "schedule": trainer.schedule and trainer.schedule.config(),
        "schedule_state": trainer.schedule_state,
        "lr_scale": trainer.lr_scale,
        "frozen": list(trainer.net.frozen),
        "steps": trainer.steps,
        "epochs": trainer.epochs,
        "columns": trainer.columns,
    }


def _write(trainers, config, path):
    from safetensors.numpy import save as to_bytes

    marks = _marks(config)
    tensors = {
        mark + name: view
        for mark, trainer in zip(marks, trainers, strict=True)
        for name, view in _views(trainer).items()
    }
    preparation = trainers[0].preparation
    if preparation is not None:
        config["preparation"] = preparation.config()
        tensors |= {f"{_PREPARATION}{name}": a for name, a in preparation.tensors().items()}
    # safetensors 0.8 takes an array's memory as it lies, whatever its strides
    tensors = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    try:
        text = json.dumps(config)
        _preparation(tensors, _parts(json.loads(text))[0])
        for name, array in tensors.items():
            _check_finite(name, array)
    except _UNUSABLE as e:
        raise ValueError(f"save: {e}; load would refuse that, so nothing was written") from None
    digest = _Digest(text)
    for name, array in tensors.items():
        digest.add(name, array)
    # one key: safetensors 0.8 writes several in any order, and the same trainer would give other bytes
    content = to_bytes(tensors, {"fastbp": f'{{"sha256": "{digest.hexdigest()}", {text[1:]}'})
    with written(path) as file:
        file.write(content)


def _marks(config):
    """What stands before the names of each trainer's arrays."""
    return [f"member{i}." for i in range(len(config["members"]))] if "members" in config else [""]


def _parts(config):
    """The _Parts of each trainer; the first one's has the preparation."""
    if "members" not in config:
        return [_Parts(config)]
    if config["format"] != FORMAT:
        raise ValueError(_other_format(config))
    parts = [_Parts(member) for member in config["members"]]
    if not parts:
        raise ValueError("got no members")
    parts[0].preparation = config.get("preparation")
    return parts


def _other_format(config):
    return f"format {config['format']}, this version reads {FORMAT}"


_UNUSABLE = (KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError)


class _Parts:
    """The objects of a configuration, all checked; nothing of the network's size is made.

    Raises one of _UNUSABLE for a configuration that is none.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        if config["format"] != FORMAT:
            raise ValueError(_other_format(config))
        self.net, self.shapes = config["net"], MLP.shapes(**config["net"])
        optimizer, loss = dict(config["optimizer"]), dict(config["loss"])
        self.optimizer = OPTIMIZERS[optimizer.pop("name")](**optimizer)
        self.loss = make_loss(loss.pop("name"), **loss)
        options = Options(**config["options"])
        options.check(len(self.net["sizes"]) - 1)
        self.options, self.prefixes = config["options"], _prefixes(self.optimizer, options)
        self.schedule = config["schedule"]
        if self.schedule is not None:
            given = dict(self.schedule)
            self.schedule = schedule(given.pop("name"), **given)
        self.batch_size, self.seed = (
            whole("batch_size", config["batch_size"]),
            whole("seed", config["seed"], 0),
        )
        self.frozen = config.get("frozen", ())
        self.lr_scale = _factor(config.get("lr_scale", 1.0))
        self.schedule_state = _state(config["schedule_state"])
        self.steps, self.epochs = (_count(config[name]) for name in ("steps", "epochs"))
        self.columns = _names(config.get("columns"))
        self.preparation = config.get("preparation")

    def trainer(self, make: Callable[..., Made], device: str, threads: int | None) -> Made:
        trainer = make(
            MLP(**self.net, seed=0), loss=self.loss, optimizer=self.optimizer, batch_size=self.batch_size,
            seed=self.seed, schedule=self.schedule, **self.options, device=device, threads=threads,
        )  # fmt: skip
        trainer.net.freeze(*self.frozen)
        for name in ("lr_scale", "schedule_state", "steps", "epochs", "columns"):
            setattr(trainer, name, getattr(self, name))
        return trainer


def load(make: Callable[..., Made], path: FilePath, device: str, threads: int | None) -> Made:
    """make(net, loss=..., ...), a Trainer, as ``save`` wrote it; see trainer.load."""
    return load_all(make, path, device, threads)[0]


def load_all(
    make: Callable[..., Made], path: FilePath, device: str, threads: int | None
) -> tuple[Made, dict[str, Any]]:
    """(the Trainer, the whole configuration) of a file of one."""
    trainers, config = load_members(make, path, device, threads, False)
    return trainers[0], config


def load_members(
    make: Callable[..., Made], path: FilePath, device: str, threads: int | None, several: bool | None
) -> tuple[list[Made], dict[str, Any]]:
    """(the Trainers, the whole configuration) of a file. several : whether it is to hold an ensemble; None:
    either."""
    from safetensors import SafetensorError, safe_open

    path = os.fsdecode(path)
    open(path, "rb").close()  # raises what Python does where there is none, or a folder
    try:
        file = safe_open(path, "numpy")
    except SafetensorError as e:
        raise ValueError(f"{path}: is no safetensors file ({e})") from None
    with file:
        try:
            text, written_digest = _metadata(file.metadata())
            config = json.loads(text)
            parts, marks = _parts(config), _marks(config)
            if several is not None and several != ("members" in config):
                holds = "one network, takes an ensemble: fb.load reads it"
                if not several:
                    holds = f"an ensemble of {len(parts)}, takes one network: fb.Ensemble.load reads it"
                raise ValueError(f"holds {holds}")
            _check_arrays(file, parts, marks)
            digest = _Digest(text)
            found = {n: file.get_tensor(n) for n in file.keys() if n.startswith(_PREPARATION)}
            preparation = _preparation(found, parts[0])
            trainers = [part.trainer(make, device, threads) for part in parts]
        except _UNUSABLE as e:
            raise ValueError(f"{path}: has no usable fastbp configuration ({e})") from None
        for name, array in found.items():
            digest.add(name, array)
        views: dict[str, Array] = {}
        for mark, trainer in zip(marks, trainers, strict=True):
            trainer.preparation = preparation
            views |= {mark + name: view for name, view in _views(trainer).items()}
        for name, view in views.items():
            tensor = file.get_tensor(name)
            digest.add(name, tensor)
            view[:] = tensor
    if written_digest is not None and digest.hexdigest() != written_digest:
        raise ValueError(f"{path}: is damaged: its checksum is not that of what it holds")
    for name, view in views.items():
        _check_finite(f"{path}: {name}", view)
    return trainers, config


def _metadata(metadata: dict[str, str] | None) -> tuple[str, str | None]:
    """(configuration, digest or None: files of before there was one)."""
    metadata = metadata or {}
    text, odd = metadata["fastbp"], metadata.keys() - {"fastbp"}
    found = re.match(r'{"sha256": "(.{64})", ', text)
    text, digest = ("{" + text[found.end() :], found[1]) if found else (text, None)
    if odd or not text.startswith('{"format": '):  # damaged, or of a newer version
        raise ValueError(f"got {text[:20]!r}{''.join(f' and {n!r}' for n in sorted(odd))}")
    return text, digest


def _check_finite(name: str, array: Array) -> None:
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has NaN or inf")


def _names(names):
    if names is not None and not (isinstance(names, list) and all(isinstance(n, str) for n in names)):
        raise ValueError(f"got {names!r} for the names of columns")
    return names


def _preparation(tensors, parts):
    config, sizes = parts.preparation, parts.net["sizes"]
    if config is None:
        return None
    outputs = sizes[-1] if config["classes"] is not None else parts.loss.width(sizes[-1])
    found = {
        name.removeprefix(_PREPARATION): array
        for name, array in tensors.items()
        if name.startswith(_PREPARATION)
    }
    return Preparation.restore(config, found, sizes[0], outputs)


def _count(number):
    if type(number) is not int or not 0 <= number < 2**62:
        raise ValueError(f"got {number!r} for a number of steps or epochs")
    return number


def _factor(number):
    if type(number) not in (int, float) or not 0 <= number < float("inf"):
        raise ValueError(f"got {number!r} for a factor on the learning rate")
    return float(number)


def _state(values):
    """What a schedule remembers: a few numbers by name."""
    if not isinstance(values, dict) or len(values) > 8:
        raise ValueError(f"schedule_state: got {values!r}")
    return {str(k): v if type(v) is int else number(k, v, np.isfinite, "a number") for k, v in values.items()}


_CODES = {"F32": "float32", "F64": "float64", "F16": "float16", "BF16": "bfloat16"}


def _check_arrays(file, parts, marks):
    """The arrays in the file are those of the configuration: before anything of their size is made."""
    shapes, dtypes = {}, {}
    for mark, part in zip(marks, parts, strict=True):
        trained, state = part.shapes
        mine = {prefix + name: shape for prefix in part.prefixes for name, shape in trained.items()} | state
        shapes |= {mark + name: shape for name, shape in mine.items()}
        dtypes |= dict.fromkeys((mark + name for name in mine), part.net["dtype"])
    known = [_PREPARATION + name for name in Preparation.TENSORS]  # their shapes: when it is restored
    found = {name: file.get_slice(name) for name in file.keys()}
    odd = {n for n in found.keys() - known | shapes.keys()
           if n not in found or n not in shapes or list(found[n].get_shape()) != shapes[n]}  # fmt: skip
    if odd:
        raise ValueError(f"its arrays are not those of its sizes: {', '.join(sorted(odd)[:3])}")
    for name, array in found.items():
        got, takes = array.get_dtype(), "float64" if name in known else dtypes[name]
        if _CODES.get(got) != takes:
            raise ValueError(f"{name} is {_CODES.get(got, got)}, takes {takes}")
