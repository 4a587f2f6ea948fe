"""Models for others: model.py says what there is to write; the other files write it, each for one reader."""

from .model import LINKS, Model, described
from .torchmodule import from_torch, state_dict, to_torch

__all__ = ["LINKS", "Model", "described", "from_torch", "state_dict", "to_torch"]
