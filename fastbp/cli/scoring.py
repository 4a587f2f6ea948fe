"""How well a model does, beside what it would score who knew the answers' shares or mean alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..metrics import METRICS
from .models import trainers_of
from .task import NUMBER_LOSSES

if TYPE_CHECKING:
    from ..training.trainer import Trainer
    from ..types import Array, Doubles
    from .models import Model


def score(model: Model, X: Any, y: Any) -> dict[str, Any]:
    """How a model does on raw samples: accuracy and loss, or RMSE, MAE and R2 in the target's units.

    baseline: the same of who answers the commonest class, or the mean, for every sample: of these samples,
    which is the hardest such rival.
    """
    scores: dict[str, Any] = {"samples": len(y)}
    trainer = trainers_of(model)[0]
    if trainer.loss.name in NUMBER_LOSSES:
        y = trainer.preparation.own_unit(y) if trainer.preparation else np.asarray(y, np.float64)
        y = y.reshape(len(y), -1)
        mean = np.broadcast_to(y.mean(axis=0), y.shape)
        return scores | _errors(y, model.predict(X)) | {"baseline": _errors(y, mean)}
    result = model.evaluate(X, y)
    scores |= {name: float(result[name]) for name in ("accuracy", "loss") if name in result}
    places = y if trainer.preparation is None else trainer.preparation.targets(y)
    return scores | {"baseline": _of_the_shares(np.asarray(places), trainer)}


def _errors(y: Doubles, predicted: Array) -> dict[str, float]:
    """What fit(metrics=...) and evaluate call by these names."""
    return {name: METRICS[name](y, predicted) for name in ("rmse", "mae", "r2")}


def _of_the_shares(places: Array, trainer: Trainer) -> dict[str, float]:
    """Of the commonest class the accuracy; of all classes' shares, as probabilities, the loss.

    Yes-or-no columns are taken each by itself. {} for losses that are not of classes."""
    name, outputs = trainer.loss.name, trainer.net.sizes[-1]
    if name not in ("cross_entropy", "bce_with_logits") or (places < 0).any():
        return {}
    if name == "cross_entropy":
        share = (
            places.mean(axis=0) if places.ndim > 1 else np.bincount(places, minlength=outputs) / len(places)
        )
        accuracy, one = share.max(), share
    else:
        yes = places.reshape(len(places), -1).mean(axis=0)
        one = np.stack([yes, 1 - yes])
        accuracy = one.max(axis=0).mean()
    entropy = -(one * np.log(np.where(one > 0, one, 1.0))).sum(axis=0).mean()
    return {"accuracy": float(accuracy)} | ({"loss": float(entropy)} if _plain(trainer.loss) else {})


def _plain(loss: Any) -> bool:
    return all(value in (None, False, 0) for name, value in loss.config().items() if name != "name")


def score_rows(scores: dict[str, Any], part: str = "") -> list[tuple[str, str]]:
    """``score``'s numbers as lines of a table, each beside its baseline."""
    base, rows = scores["baseline"], []
    if "rmse" in scores:
        for name, form in (("rmse", ".5g"), ("mae", ".5g")):
            beside = f"  (the mean: {base[name]:{form}})"
            rows.append((f"{part}{name.upper()}", f"{scores[name]:{form}}{beside}"))
        constant = "  (a constant target: 1 where it is met, else 0)" if base["r2"] == 1 else ""
        return [*rows, (f"{part}R2", f"{scores['r2']:.4f}{constant}")]
    n = scores["samples"]
    if "accuracy" in scores:
        beside = f"; the commonest class: {base['accuracy']:.4f}" if base else ""
        right = f"{round(scores['accuracy'] * n):,} of {n:,}"
        rows.append((f"{part}accuracy", f"{scores['accuracy']:.4f}  ({right}{beside})"))
    beside = f"  (the classes' shares: {base['loss']:.4g})" if "loss" in base else ""
    return [*rows, (f"{part}loss", f"{scores['loss']:.4g}{beside}")]
