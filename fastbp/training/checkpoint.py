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

Metadata: {"fastbp": JSON of the configuration}. There is no code in it. What is promised: docs/policies.md.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ..engine.options import Options
from ..errors import number
from ..losses import loss as make_loss
from ..network.mlp import MLP
from ..optimizers import OPTIMIZERS
from ..preparation import Preparation
from ..schedules import schedule

if TYPE_CHECKING:
    from ..engine.anytrainer import AnyTrainer
    from ..types import FilePath

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


def save(trainer: AnyTrainer, path: FilePath) -> None:
    """Write a trainer to ``path``: a temporary file beside it, flushed to disk, then renamed."""
    from safetensors.numpy import save as to_bytes

    config = {
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
    tensors = _views(trainer)
    if trainer.preparation is not None:
        config["preparation"] = trainer.preparation.config()
        tensors |= {f"{_PREPARATION}{name}": a for name, a in trainer.preparation.tensors().items()}
    # safetensors 0.8 takes an array's memory as it lies, whatever its strides
    tensors = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    content = to_bytes(tensors, {"fastbp": json.dumps(config)})
    path = os.fspath(path)
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path) or ".", prefix=".fastbp-")
    try:
        with os.fdopen(handle, "wb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # mkstemp leaves 0600: others may read a model
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def load(make: Callable[..., Made], path: FilePath, device: str, threads: int | None) -> Made:
    """make(net, loss=..., ...), a Trainer, as ``save`` wrote it; see trainer.load."""
    from safetensors import SafetensorError, safe_open

    try:
        file = safe_open(os.fspath(path), "numpy")
    except SafetensorError as e:
        raise ValueError(f"{path}: is no safetensors file ({e})") from None
    with file:
        try:
            config = json.loads((file.metadata() or {})["fastbp"])
            if config["format"] != FORMAT:
                raise ValueError(f"format {config['format']}, this version reads {FORMAT}")
            optimizer = dict(config["optimizer"])
            optimizer = OPTIMIZERS[optimizer.pop("name")](**optimizer)
            options = Options(**config["options"])
            options.check(len(config["net"]["sizes"]) - 1)
            _check_shapes(file, config["net"], _prefixes(optimizer, options))
            trainer = make(
                MLP(**config["net"], seed=0),
                loss=make_loss(config["loss"].pop("name"), **config["loss"]),
                optimizer=optimizer,
                batch_size=config["batch_size"],
                seed=config["seed"],
                schedule=config["schedule"]
                and schedule(config["schedule"].pop("name"), **config["schedule"]),
                **config["options"],
                device=device,
                threads=threads,
            )
            trainer.net.freeze(*config.get("frozen", ()))
            trainer.lr_scale = _factor(config.get("lr_scale", 1.0))
            trainer.schedule_state = _state(config["schedule_state"])
            trainer.steps, trainer.epochs = (_count(config[name]) for name in ("steps", "epochs"))
            trainer.columns = _names(config.get("columns"))
            trainer.preparation = _preparation(file, config.get("preparation"), trainer)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as e:
            raise ValueError(f"{path}: has no usable fastbp configuration ({e})") from None
        for name, view in _views(trainer).items():
            tensor = file.get_tensor(name)
            if tensor.dtype != view.dtype:
                raise ValueError(f"{path}: {name} is {tensor.dtype}, takes {view.dtype}")
            if not np.isfinite(tensor).all():
                raise ValueError(f"{path}: {name} has NaN or inf")
            view[:] = tensor
    return trainer


def _names(names):
    if names is not None and not (isinstance(names, list) and all(isinstance(n, str) for n in names)):
        raise ValueError(f"got {names!r} for the names of columns")
    return names


def _preparation(file, config, trainer):
    if config is None:
        return None
    tensors = {
        name.removeprefix(_PREPARATION): file.get_tensor(name)
        for name in file.keys()
        if name.startswith(_PREPARATION)
    }
    sizes = trainer.net.sizes
    return Preparation.restore(config, tensors, sizes[0], trainer.loss.width(sizes[-1]))


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


def _check_shapes(file, net, prefixes):
    """The arrays in the file are those of the configuration: before anything of their size is made."""
    trained, state = MLP.shapes(**net)
    shapes = {prefix + name: shape for prefix in prefixes for name, shape in trained.items()} | state
    known = [_PREPARATION + name for name in Preparation.TENSORS]  # checked when it is restored
    found = {name: list(file.get_slice(name).get_shape()) for name in file.keys() if name not in known}
    if found != shapes:
        odd = sorted(n for n in found.keys() | shapes.keys() if found.get(n) != shapes.get(n))[:3]
        raise ValueError(f"its arrays are not those of its sizes: {', '.join(odd)}")
