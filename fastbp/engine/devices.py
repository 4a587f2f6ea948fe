"""Which device a name stands for: "cpu", "cuda", or "auto", a GPU where there is one that can be used."""

from __future__ import annotations

import functools
import os
import warnings

from ..errors import named

DEVICES = ("auto", "cpu", "cuda")


def device(name: str) -> str:
    """The device that ``name`` stands for: "cpu" or "cuda".

    Raises ValueError for another name, RuntimeError for "cuda" where it cannot be had. "auto" takes a GPU
    if there is one; where there is but it cannot be used, it warns and takes the CPU.
    """
    name = named("device", name, DEVICES)
    if name == "cpu" or (name == "auto" and not _gpu_in_sight()):
        return "cpu"
    reason = no_gpu()
    if reason is None:
        return "cuda"
    if name == "cuda":
        raise RuntimeError(f'device: got "cuda", but {reason}')
    _warn_once(f'device: "auto" takes the CPU: {reason}')
    return "cpu"


INSTALL = "pip install 'fastbp[cuda12]', or 'fastbp[cuda13]' for a driver of CUDA 13"


def _gpu_in_sight():
    """Whether the system shows an NVIDIA driver: a look at its files, not the second that asking it takes."""
    return any(os.path.exists(path) for path in ("/dev/nvidiactl", "/dev/dxg"))


@functools.cache
def no_gpu() -> str | None:
    """Why no GPU can be used, and what to do about it; None where one can."""
    try:
        import numba_cuda  # noqa: F401
        from numba import cuda
    except ImportError:
        return f"numba-cuda is not installed: takes {INSTALL}"
    try:
        if cuda.is_available():
            return None
        error = cuda.cuda_error() if hasattr(cuda, "cuda_error") else None
    except Exception as failure:  # a driver that is broken tells so in many ways
        error = failure
    told = f" ({' '.join(str(error).split())})" if error else ""
    return f"no NVIDIA GPU with a driver was found{told}: takes both, and {INSTALL}"


@functools.cache
def _warn_once(text):
    warnings.warn(text, RuntimeWarning, stacklevel=4)
