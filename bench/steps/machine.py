"""The machine and the software of a run, as a dict for its report; the ceilings are fastbp.machine's."""

import importlib.metadata
import os
import platform

from llvmlite import binding

from fastbp.engine.parallel import usable_cores
from fastbp.machine import Peak, caches, copy_bandwidth, cpu_model

__all__ = ["Peak", "copy_bandwidth", "describe", "usable_cores"]

LIBRARIES = ("numpy", "numba", "llvmlite", "torch", "jax", "jaxlib", "scikit-learn", "onnxruntime")


def describe(threads):
    """The machine and the software as a dict for JSON."""
    return {
        "cpu": cpu_model(),
        "target": binding.get_host_cpu_name(),
        "cores_usable": usable_cores(),
        "cores": os.cpu_count(),
        "threads": threads,
        "caches": caches(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: found for name in LIBRARIES if (found := _version(name))},
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
