"""What losses are to the estimators: which they take, how many outputs they have, what predictions are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..custom.functions import UserLoss
from ..errors import named
from ..export import LINKS
from ..kernels import codes
from ..losses import LOSSES, Loss
from ..losses import loss as make_loss

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..losses.base import LossLike
    from ..types import Array

_ACTIVATION = {
    "softmax": "softmax",
    "sigmoid": "logistic",
    "exp": "exp",
    "gaussian": "identity",
    None: "identity",
}
_OF_CLASSES = ("cross_entropy", "bce_with_logits", "focal", "hinge")
_THEIRS: dict[str, Any] = {
    "squared_error": "mse",
    "poisson": "poisson_nll",
    "log_loss": None,
}  # scikit-learn's names


@dataclass
class ChosenLoss:
    """One estimator's loss: loss, the Trainer's; link of its outputs, as fastbp.export has it; columns, the
    network's outputs; one_hot, whether classes are targets as rows; theirs, whether scikit-learn has it.
    """

    loss: Loss
    link: str | None
    columns: int
    one_hot: bool = False
    theirs: bool = False

    @property
    def out_activation(self) -> str:
        return _ACTIVATION[self.link]

    @property
    def half(self) -> float:
        """Where an output says yes."""
        return 0.5 if self.link in ("sigmoid", "softmax") else 0.0


def for_numbers(given: LossLike, outputs: int) -> ChosenLoss:
    """The ChosenLoss of a regression by ``given``, a name or a Loss, for so many targets."""
    known = [name for name in LOSSES if name not in _OF_CLASSES]
    made = _made(given, ["squared_error", "poisson", *known])
    if made.name in _OF_CLASSES:
        raise ValueError(f"loss: got {made}, which is of classes, takes one of numbers: {', '.join(known)}")
    if len(getattr(made, "quantiles", ())) > 1:
        raise ValueError(f"loss: got {made}, takes one quantile: predict gives one number for each target")
    columns = 2 * outputs if made.name == "gaussian_nll" else outputs
    return ChosenLoss(made, _link(made, columns), columns, theirs=given in ("squared_error", "poisson"))


def for_classes(given: LossLike, labels: int, multi: bool) -> ChosenLoss:
    """The ChosenLoss of a classification; labels : classes, or with ``multi`` answers each sample has."""
    theirs = isinstance(given, str) and given == "log_loss"
    if theirs:
        given = "bce_with_logits" if multi or labels < 3 else "cross_entropy"
    made = _made(given, ["log_loss", *_OF_CLASSES])
    if made.name not in _OF_CLASSES and not isinstance(made, UserLoss):
        raise ValueError(
            f"loss: got {made}, which is of numbers, takes one of classes: {', '.join(_OF_CLASSES)}"
        )
    if multi:
        if made.name == "cross_entropy":
            raise ValueError(
                f"loss: got {made} for several answers a sample, takes bce_with_logits, focal or hinge"
            )
        if not isinstance(made, UserLoss) and hasattr(made, "multi_label"):
            made = replace(made, multi_label=True)
        columns, one_hot = labels, False
    else:
        columns = labels if labels > 2 or made.name == "cross_entropy" else 1
        columns = max(columns, 2) if made.name == "cross_entropy" else columns
        one_hot = columns > 1 and made.code(columns) not in codes.LABELS
    return ChosenLoss(made, _link(made, columns), columns, one_hot, theirs)


def has_probabilities(given: LossLike) -> bool:
    """Whether a classifier by this ``loss`` has probabilities: not hinge, nor a user's without a link."""
    if isinstance(given, UserLoss):
        return given.link in ("sigmoid", "softmax")
    return getattr(given, "name", given) != "hinge"


def _made(given: Any, known: Iterable[str]) -> Any:
    if isinstance(given, str):
        given = named("loss", given, known)
        return make_loss(_THEIRS.get(given, given))
    if not isinstance(given, Loss):
        raise TypeError(f"loss: got {given!r}, takes a name or one of fb.losses")
    return given


def _link(loss, columns):
    return LINKS[loss.link_code(columns)]


def rows_of_classes(codes_of: Array, columns: int) -> Array:
    """(N, columns) 0 or 1 from codes (N,)."""
    rows = np.zeros((len(codes_of), columns), np.uint8)
    rows[np.arange(len(codes_of)), codes_of] = 1
    return rows
