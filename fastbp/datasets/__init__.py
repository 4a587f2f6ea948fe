"""Data sets shipped inside the package: small, real, with source and licence in README.md here."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

from ..errors import unknown

if TYPE_CHECKING:
    from ..types import Array, Ints

__all__ = ["load", "load_digits", "names"]


def load_digits() -> tuple[Array, Ints]:
    """Handwritten digits: X uint8 (1797, 64), y int64 (1797,).

    A row of X is an 8x8 image, row by row, values 0 (paper) to 16 (ink); y is the digit, 0 to 9.
    Fresh arrays at every call. Source: the test part of UCI Optical Recognition of Handwritten
    Digits (Alpaydin and Kaynak 1998, CC BY 4.0, https://doi.org/10.24432/C50P49).
    """
    file = resources.files(__name__).joinpath("digits.npz")
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    return images.reshape(len(images), -1), labels.astype(np.int64)


_LOADERS = {"digits": load_digits}


def names() -> list[str]:
    """The names `load` takes, in alphabetical order.

    >>> datasets.names()
    ['digits']
    """
    return sorted(_LOADERS)


def load(name: str) -> tuple[Array, Ints]:
    """The data set of this name as (X, y); raises ValueError with the nearest name for another.

    >>> X, y = datasets.load("digits")
    >>> X.shape, X.dtype.name, y.shape
    ((1797, 64), 'uint8', (1797,))
    """
    if name not in _LOADERS:
        raise unknown("data set", name, names())
    return _LOADERS[name]()
