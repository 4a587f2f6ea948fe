"""One safe file format: safetensors with a JSON config; save and resume are exact.

Tensors: weights.K (fan_in, fan_out), biases.K (fan_out,), and the optimizer's slots as
slotS.weights.K, slotS.biases.K. Metadata: {"fastbp": JSON of the configuration}. No code in it.
"""

import json
import os
import tempfile

import numpy as np

from .mlp import MLP
from .optimizers import OPTIMIZERS

FORMAT = 1


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
        "loss": trainer.loss,
        "optimizer": trainer.optimizer.config(),
        "batch_size": trainer.batch_size,
        "seed": trainer.seed,
        "clip_norm": trainer.clip_norm,
        "steps": trainer.steps,
        "epochs": trainer.epochs,
    }
    tensors = {name: np.ascontiguousarray(view) for name, view in _views(trainer).items()}
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
            optimizer = dict(config["optimizer"])
            name = optimizer.pop("name")
            trainer = Trainer(
                MLP(**config["net"], seed=0),
                loss=config["loss"],
                optimizer=OPTIMIZERS[name](**optimizer),
                batch_size=config["batch_size"],
                seed=config["seed"],
                clip_norm=config["clip_norm"],
                device=device,
                threads=threads,
            )
            trainer.steps, trainer.epochs = int(config["steps"]), int(config["epochs"])
            known = config["format"]
        except (KeyError, TypeError, ValueError) as e:
            raise ValueError(f"{path}: has no usable fastbp configuration ({e!r})") from None
        if known != FORMAT:
            raise ValueError(f"{path}: has format {known}, this version reads {FORMAT}")
        views = _views(trainer)
        names = set(file.keys())
        if names != set(views):
            odd = ", ".join(sorted(names ^ set(views))[:3])
            raise ValueError(f"{path}: its arrays are not those of its configuration ({odd})")
        for name, view in views.items():
            tensor = file.get_tensor(name)
            if tensor.shape != view.shape or tensor.dtype != view.dtype:
                raise ValueError(
                    f"{path}: {name} is {tensor.dtype} {tensor.shape}, takes {view.dtype} {view.shape}"
                )
            if not np.isfinite(tensor).all():
                raise ValueError(f"{path}: {name} has NaN or inf")
            view[:] = tensor
    return trainer
