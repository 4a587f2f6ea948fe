"""Gradients of a network, named as its arrays are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..types import Floats
    from .mlp import MLP


class Gradients(list["tuple[Floats, Floats]"]):
    """[(dW, db), ...] of a network, with gains, shifts, slopes, embeddings: views of one flat array."""

    gains: tuple[Any, ...]  # an array for each hidden layer, or None
    shifts: tuple[Any, ...]
    slopes: tuple[Any, ...]
    embeddings: tuple[Floats, ...]

    def __init__(self, net: MLP, flat: Floats) -> None:
        views = net.named_views(flat, state=False)
        count = len(net.layers)
        super().__init__((views[f"weights.{k}"], views[f"biases.{k}"]) for k in range(count))
        for name in ("gains", "shifts", "slopes"):
            setattr(self, name, tuple(views.get(f"{name}.{k}") for k in range(count - 1)))
        self.embeddings = tuple(views[f"embeddings.{k}"] for k in range(len(net.embeddings)))
