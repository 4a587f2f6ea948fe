"""The idx format of MNIST: images and labels as big-endian arrays after a short header.

Format: http://yann.lecun.com/exdb/mnist (two zero bytes, a type code, the number of axes, their
sizes as big-endian 32-bit integers, the data).
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from ..types import Array

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def labels_beside(path: Path) -> list[Path]:
    """Where the labels of these images usually lie: train-images-idx3 -> train-labels-idx1."""
    name = re.sub(r"idx\d", "idx1", path.name.replace("images", "labels"))
    plain = name.removesuffix(".gz")
    return [path.with_name(n) for n in (name, plain, plain + ".gz") if n != path.name]


def parse(path: Path, data: bytes) -> Array:
    """The array in the bytes of an idx file, read-only; `path` names the file in messages."""
    code, axes = (data[2], data[3]) if len(data) >= 4 else (0, 0)
    if data[:2] != b"\0\0" or code not in _TYPES or not 1 <= axes <= 4:
        begins = data[:4].hex(" ") or "nothing"
        raise ValueError(f"{path}: not an idx file: it begins with {begins}")
    start = 4 + 4 * axes
    if len(data) < start:
        raise ValueError(f"{path}: truncated idx file: ends within its header")
    shape = tuple(int.from_bytes(data[i : i + 4], "big") for i in range(4, start, 4))
    dtype = np.dtype(_TYPES[code])
    expected = start + math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        what = "truncated idx file" if len(data) < expected else "bytes left over in idx file"
        raise ValueError(f"{path}: {what}: shape {shape} takes {expected} bytes, got {len(data)}")
    return np.frombuffer(data, dtype, offset=start).reshape(shape)
