"""A run that goes on: its checkpoints."""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..callbacks import Callback, EarlyStopping
from ..data.frames import Frame
from ..training.trainer import load
from ..writing import written

if TYPE_CHECKING:
    from ..training.trainer import Trainer
    from ..types import Logs

_KEY = "fastbp checkpoint"  # of the metadata


class Patience(EarlyStopping):
    """Ends a fit as ``fit(early_stopping=patience)`` does, and goes on where ``state`` was taken.

    first: the epoch, from 0 on, at which this fit begins.
    """

    def __init__(self, patience: int) -> None:
        self.first = 0
        self.begun: Any = None
        super().__init__(patience=patience, restore_best_weights=True)

    def on_train_begin(self, logs: Logs | Any = None) -> None:
        super().on_train_begin()
        if self.begun is not None:
            self.best, self.best_epoch, self.wait = self.begun[0]
            self.best_weights = self.begun[1]

    def on_epoch_end(self, epoch: int, logs: Logs | Any = None) -> None:
        super().on_epoch_end(self.first + epoch, logs)

    @property
    def numbers(self) -> list[Any]:
        return [self.best, self.best_epoch, self.wait]

    @property
    def done(self) -> bool:
        """Whether the epochs so far ended the fit."""
        return self.begun is not None and self.begun[0][2] >= self.patience


@dataclass
class Checkpoint:
    """A run between two of its epochs, in one file: to go on from to the same bits.

    run: what was asked for and a digest of the data, {name: value}; history: the epochs so far.
    """

    path: Path
    run: dict[str, Any]
    history: dict[str, list[float]] = field(default_factory=dict)

    def save(self, trainer: Trainer, patience: Patience | None) -> None:
        from safetensors.numpy import save

        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "trainer.safetensors"
            trainer.save(file)
            tensors = {"trainer": np.frombuffer(file.read_bytes(), np.uint8)}
        state: dict[str, Any] = {"run": self.run, "history": self.history, "patience": None}
        if patience is not None:
            state["patience"] = patience.numbers
            best = zip(("best.weights", "best.average"), patience.best_weights or (), strict=False)
            tensors |= {name: array for name, array in best if array is not None}
        with written(self.path) as file:
            file.write(save(tensors, {_KEY: json.dumps(state)}))

    def restore(self, patience: Patience | None, device: Any, threads: int | None) -> Trainer:
        """The file's Trainer; sets ``history`` and patience. Raises ValueError for one of another run."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, "numpy") as file:
                state = json.loads((file.metadata() or {})[_KEY])
                arrays = {name: file.get_tensor(name) for name in file.keys()}
            run, self.history, numbers = state["run"], state["history"], state["patience"]
            trainer = arrays["trainer"].tobytes()
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{self.path}: is no checkpoint of fastbp train ({error})") from None
        for name in run.keys() | self.run.keys():
            if run.get(name) != self.run.get(name):
                raise ValueError(
                    f"--resume: {self.path} is of a run with {name} {run.get(name)}, this one has "
                    f"{self.run.get(name)}; takes the same but for --epochs (or --overwrite: begin anew)"
                )
        if patience is not None and numbers is not None:
            best = (arrays["best.weights"], arrays.get("best.average")) if "best.weights" in arrays else None
            patience.begun = numbers, best
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "trainer.safetensors"
            place.write_bytes(trainer)
            try:
                return load(place, device=device, threads=threads)
            except ValueError as error:
                raise ValueError(f"{self.path}: {str(error).removeprefix(f'{place}: ')}") from None


class Saver(Callback):
    """Saves a Checkpoint every so many epochs."""

    def __init__(self, checkpoint: Checkpoint, patience: Patience | None, every: int) -> None:
        self.checkpoint, self.patience, self.every = checkpoint, patience, every

    def on_epoch_end(self, epoch: int, logs: Logs | Any = None) -> None:
        for name, value in logs.items():
            self.checkpoint.history.setdefault(name, []).append(float(value))
        if self.trainer.epochs % self.every == 0:
            self.checkpoint.save(self.trainer, self.patience)  # type: ignore[arg-type]  # it is one


def digest(*tables: Any) -> str:
    """A few letters that are others for other data: arrays, Frames, sparse matrices or None."""
    found = hashlib.blake2b(digest_size=12)
    for table in tables:
        if isinstance(table, Frame):
            parts = [np.array(table.names), *table.columns]
        elif hasattr(table, "tocsr"):
            parts = [table.data, table.indices, table.indptr]
        else:
            parts = [] if table is None else [table]
        for part in parts:
            found.update(f"{part.dtype.str}{part.shape}".encode())
            found.update(np.ascontiguousarray(part).view(np.uint8).data)
    return found.hexdigest()
