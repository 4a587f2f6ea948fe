"""One safe file format: safetensors with a JSON config; save and resume are exact.

Tensors: weights.K (fan_in, fan_out), biases.K (fan_out,), and the optimizer's slots as
slotS.weights.K, slotS.biases.K; with a preparation its numbers, float64, as preparation.NAME. Metadata:
{"fastbp": JSON of the configuration}. No code in it.
"""

import json
import os
import tempfile

import numpy as np

from .losses import loss as make_loss
from .mlp import MLP
from .optimizers import OPTIMIZERS
from .preparation import Preparation

FORMAT = 1
_PREPARATION = "preparation."


def _arenas(trainer):
    size = trainer.net.params.size
    yield "", trainer.net.params
    for s in range(trainer.optimizer.slots):
        yield f"slot{s}.", trainer.slots[s * size : (s + 1) * size]


def _views(trainer):
    """name -> view, for every array of a checkpoint."""
    views = {}
    for prefix, flat in _arenas(trainer):
        for k in range(len(trainer.net.layers)):
            views[f"{prefix}weights.{k}"], views[f"{prefix}biases.{k}"] = trainer.net.views(flat, k)
    return views


def save(trainer, path):
    """Write a trainer to ``path``: a temporary file beside it, flushed to disk, then renamed."""
    from safetensors.numpy import save as to_bytes

    config = {
        "format": FORMAT,
        "net": trainer.net.config(),
        "loss": trainer.loss.config(),
        "optimizer": trainer.optimizer.config(),
        "batch_size": trainer.batch_size,
        "seed": trainer.seed,
        "clip_norm": trainer.clip_norm,
        "lr_scale": trainer.lr_scale,
        "frozen": list(trainer.net.frozen),
        "steps": trainer.steps,
        "epochs": trainer.epochs,
        "columns": trainer.columns,
    }
    tensors = {name: np.ascontiguousarray(view) for name, view in _views(trainer).items()}
    if trainer.preparation is not None:
        config["preparation"] = trainer.preparation.config()
        tensors |= {f"{_PREPARATION}{name}": a for name, a in trainer.preparation.tensors().items()}
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


def load(path, *, device="auto", threads=None):
    """The Trainer that ``Trainer.save`` wrote; training goes on exactly where it stopped.

    Raises ValueError for a file that is not such a checkpoint, or whose arrays do not fit.
    """
    from safetensors import SafetensorError, safe_open

    from .trainer import Trainer

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
            _check_shapes(file, config["net"]["sizes"], optimizer.slots)
            trainer = Trainer(
                MLP(**config["net"], seed=0),
                loss=make_loss(config["loss"].pop("name"), **config["loss"]),
                optimizer=optimizer,
                batch_size=config["batch_size"],
                seed=config["seed"],
                clip_norm=config["clip_norm"],
                device=device,
                threads=threads,
            )
            trainer.net.freeze(*config.get("frozen", ()))
            trainer.lr_scale = _factor(config.get("lr_scale", 1.0))
            trainer.steps, trainer.epochs = (_count(config[name]) for name in ("steps", "epochs"))
            trainer.columns = _names(config.get("columns"))
            trainer.preparation = _preparation(file, config.get("preparation"), trainer.net.sizes)
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


def _preparation(file, config, sizes):
    if config is None:
        return None
    tensors = {
        name.removeprefix(_PREPARATION): file.get_tensor(name)
        for name in file.keys()
        if name.startswith(_PREPARATION)
    }
    return Preparation.restore(config, tensors, sizes[0], sizes[-1])


def _count(number):
    if type(number) is not int or not 0 <= number < 2**62:
        raise ValueError(f"got {number!r} for a number of steps or epochs")
    return number


def _factor(number):
    if type(number) not in (int, float) or not 0 <= number < float("inf"):
        raise ValueError(f"got {number!r} for a factor on the learning rate")
    return float(number)


def _check_shapes(file, sizes, slots):
    """The arrays in the file are those of the configuration: before anything of their size is made."""
    shapes = {}
    for prefix in ("", *(f"slot{s}." for s in range(slots))):
        for k, (fan_in, fan_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
            shapes[f"{prefix}weights.{k}"] = [fan_in, fan_out]
            shapes[f"{prefix}biases.{k}"] = [fan_out]
    known = [_PREPARATION + name for name in Preparation.TENSORS]  # checked when it is restored
    found = {name: list(file.get_slice(name).get_shape()) for name in file.keys() if name not in known}
    if found != shapes:
        odd = sorted(n for n in found.keys() | shapes.keys() if found.get(n) != shapes.get(n))[:3]
        raise ValueError(f"its arrays are not those of its sizes: {', '.join(odd)}")
