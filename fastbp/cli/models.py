"""A model of the command line: one network, or an ensemble."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ..engine import parallel
from ..training import ensemble
from ..training.ensemble import Ensemble
from ..training.trainer import Trainer

if TYPE_CHECKING:
    from argparse import Namespace

Model: TypeAlias = Trainer | Ensemble


def trainers_of(model: Model) -> list[Trainer]:
    """Those of its networks; what they share, such as the preparation, the first one has."""
    return model.trainers if isinstance(model, Ensemble) else [model]


def model_of(trainers: list[Trainer]) -> Model:
    """The model of so many networks."""
    return trainers[0] if len(trainers) == 1 else Ensemble(trainers)


def threads_of(trainers: list[Trainer]) -> int:
    """That trained them: of several each by one."""
    if len(trainers) == 1:
        return trainers[0].num_threads
    return min(parallel.usable_cores(), parallel.max_threads(), len(trainers))


def load(args: Namespace) -> Model:
    """The model that a command names."""
    path = Path(args.model)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; takes a model that fastbp train wrote")
    model = ensemble.load(path, args.device, args.threads)
    preparation = trainers_of(model)[0].preparation
    if preparation is not None and getattr(args, "unknown", None):
        preparation.unknown = args.unknown
    return model
