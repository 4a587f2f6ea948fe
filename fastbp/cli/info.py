"""`fastbp info`, `cache` and `bench`: the machine, the machine code on disk, the measurements."""

from __future__ import annotations

import importlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..engine import backend, devices, parallel
from ..printing import print_rows

if TYPE_CHECKING:
    from argparse import Namespace

PRECISIONS = ("float32", "float64")


def info(args: Namespace) -> int:
    """A short report: for questions such as why one machine is slower than another."""
    rows = {**machine_rows(), **_speed(), **_cache_rows()}
    if args.json:
        print(json.dumps({"command": "info", **rows}))
    else:
        print_rows(rows.items())
    return 0


def machine_rows() -> dict[str, str]:
    """{label: text}: versions, processor, threads, GPU; measures and compiles nothing."""
    return {**_versions(), **_machine()}


def _versions():
    import numba
    import numpy

    return {
        "fastbp": __version__,
        "python": f"{platform.python_version()}, {platform.system()} {platform.machine()}",
        "numpy": numpy.__version__,
        "numba": numba.__version__,
    }


def _machine():
    from llvmlite import binding

    from ..machine import caches, cpu_model

    features = [name for name, on in binding.get_host_cpu_features().items() if on]
    wide = [name for name in ("avx512f", "avx512_bf16", "avx2", "fma", "neon", "sve") if name in features]
    sizes = ", ".join(f"{name} {size}" for name, size in caches().items())
    return {
        "cpu": f"{cpu_model()}, {binding.get_host_cpu_name()}",
        "features": f"{', '.join(wide)}; {len(features)} in all" + (f"; {sizes}" if sizes else ""),
        "cores usable": f"{parallel.usable_cores()} of {os.cpu_count()}",
        "threads": f"up to {parallel.max_threads()}, layer {_threading_layer()}",
        **_gpu(),
    }


def _speed():
    """The measured peak; compiles the kernels where they are not on disk yet."""
    from ..machine import Peak

    threads = min(parallel.usable_cores(), parallel.max_threads())
    peak = Peak(threads)
    one = f"{peak.gflops(1):.0f} GFLOP/s with one thread"
    every = f", {peak.gflops():.0f} with {threads}" if threads > 1 else ""
    return {
        "peak": f"{one}{every} (float32)",
        "loading": f"{backend.compile_seconds():.2f} s for float32's kernels",
    }


def _gpu():
    reason = devices.no_gpu()
    return {"cuda": f"none: {reason}"} if reason else {"cuda": "yes", **backend.gpu_info()}


def _threading_layer():
    """The layer numba will choose: the first of its order that loads here."""
    import numba

    asked = numba.config.THREADING_LAYER
    if asked in ("tbb", "omp", "workqueue"):
        return asked
    for name in numba.config.THREADING_LAYER_PRIORITY:
        try:
            importlib.import_module(f"numba.np.ufunc.{name}{'pool' * (name != 'workqueue')}")
        except ImportError:
            continue
        return name
    return "unknown"


# --- the cache


def _files():
    """The files of machine code of these kernels, of all their versions."""
    place = backend.cache_place()
    return (
        [] if place is None else [f for kind in ("nbi", "nbc") for f in sorted(Path(place).glob(f"*.{kind}"))]
    )


def _size(files):
    return f"{sum(f.stat().st_size for f in files) / 1e6:.1f} MB in {len(files)} files"


def _cache_rows():
    place = backend.cache_place()
    if place is None:
        return {"cache": "none: no writable place; each process compiles. Set NUMBA_CACHE_DIR"}
    return {"cache": str(place), "cached": _size(_files())}


def cache(args: Namespace) -> int:
    """Remove the machine code on disk, or compile all of it now."""
    files = _files()
    if args.action == "clear":
        rows = {**_cache_rows(), "removed": _size(files)}
        for file in files:
            file.unlink()
        rows.pop("cached", None)
    else:
        for precision in PRECISIONS:
            backend.load(backend.np.dtype(precision))
        rows = {"compiled": f"{', '.join(PRECISIONS)} in {backend.compile_seconds():.1f} s", **_cache_rows()}
    if args.json:
        print(json.dumps({"command": f"cache {args.action}", **rows}))
    else:
        print_rows(rows.items())
    return 0


# --- the benchmark


def bench(args: Namespace) -> int:
    """Run ``python -m bench`` of the clone that this package lies in, with the arguments that follow."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "bench" / "steps" / "cases.py").is_file():
        raise ValueError(
            "bench: the measurements are not installed with the package: run python -m bench in a clone of "
            "the repository (pip install -e '.[compare]')"
        )
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "bench", *args.arguments]
    return subprocess.run(command, env=os.environ | {"PYTHONPATH": path}).returncode
