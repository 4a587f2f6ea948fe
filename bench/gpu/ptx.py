"""python -m bench.ptx: every GPU kernel compiled to PTX and machine code, without a GPU.

Prints registers, spills and shared memory of each. Needs the wheels of fastbp[cuda12] or [cuda13], no
driver; tests/support/registers.json is what --write leaves, and tests/cuda/test_cuda_compile.py holds new
code to it.
"""

import argparse
import json
import re
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

TABLE = Path(__file__).resolve().parents[2] / "tests" / "support" / "registers.json"
DTYPES = ("float32", "float64")
CAPABILITIES = ((7, 5), (8, 0), (9, 0))
FIELDS = ("registers", "spilled", "shared")


def signatures(real):
    """{kernel: argument types} as the program launches them; real: numba's type of the arena."""
    from numba import float64, int32, int64, uint8

    from fastbp.kernels.cuda import dense

    mem, table, numbers = real[::1], int64[::1], float64[::1]
    found = {
        "clear": (mem,),
        "gather": (uint8[::1], mem, table, int32[::1], mem, mem),
        "loss": (mem, table),
        "link": (mem, mem, table),
        "next_step": (table,),
        "close_loss": (mem, table, numbers),
        "layer_constants": (mem, table, numbers),
        "apply": (mem, table, numbers, int64, int64, int64),
        "square_norm": (mem, table),
        "clip": (mem, table, numbers),
        "constrain": (mem, table, numbers),
        "average": (mem, table),
        "drop_inputs": (mem, table),
        "finish_layer": (mem, table, int64),
        "finish_delta": (mem, table, int64),
        "finish_inputs": (mem, table),
        "batch_statistics": (mem, table, int64),
        "batch_norm_backward": (mem, table, int64),
        "vector_update": (mem, table, int64),
        "track_running": (mem, table),
        "gather_mixed": (uint8[::1], mem, table, int32[::1], mem, mem),
        "embedding_update": (mem, table),
        "find_bad": (uint8[::1], table, int64, int64, int64, int64),
        "multiply_adds": (mem, mem, int64),
        "copy": (mem, mem),
        "hold": (numbers, int64),
    }
    for shape in dense.TILES[real.bitwidth // 8]:
        found[f"dense_forward_{shape}"] = found[f"dense_backward_{shape}"] = (mem, table, int64)
        found[f"dense_update_{shape}"] = (mem, table)
    return found


def ptx(dtype, capabilities=CAPABILITIES, only="", users=()):
    """Yield (kernel, capability, PTX) of the kernels of a dtype with ``only`` in their names.

    users: definitions of a user's functions, whose kernels are compiled instead. Numba's part is done once a
    kernel; what it hands over holds nothing of one capability.
    """
    from numba import cuda, from_dtype, types
    from numba.cuda import compiler, dispatcher

    from fastbp.kernels.cuda import custom, program

    kept = dispatcher.get_current_device  # device functions ask it for the capability
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capabilities[0])
    try:
        kernels, real = program.load(np.dtype(dtype)), from_dtype(np.dtype(dtype))
        wanted = {name: arguments for name, arguments in signatures(real).items() if only in name}
        if users:
            made = [custom.kernel_of(text, np.dtype(dtype), program.namespace) for text in users]
            kernels = {kernel.py_func.__name__: kernel for kernel in made}
            wanted = {name: signatures(real)[name] for name in kernels}
        for name, arguments in wanted.items():
            options = kernels[name].targetoptions
            library, _ = compiler._compile_pyfunc_with_fixup(
                kernels[name].py_func, types.void(*arguments), device=False, abi="numba",
                cc=capabilities[0], launch_bounds=options.get("launch_bounds"),
            )  # fmt: skip
            for capability in capabilities:
                yield name, capability, library.get_asm_str(cc=capability)
    finally:
        dispatcher.get_current_device = kept
    assert cuda  # the package that redirects numba.cuda


def resources(text, capability):
    """{registers, spilled (bytes stored), shared (bytes)} of a kernel's PTX, as ptxas tells them."""
    from cuda.core import Linker, LinkerOptions, ObjectCode

    options = LinkerOptions(arch="sm_{}{}".format(*capability), ptxas_options=["-v"])
    linker = Linker(ObjectCode.from_ptx(text.encode()), options=options)
    linker.link("cubin")
    log = linker.get_info_log()
    log = log[log.index("Compiling entry function") :]
    return {
        "registers": int(re.search(r"Used (\d+) registers", log)[1]),
        "spilled": int(re.search(r"(\d+) bytes spill stores", log)[1]),
        "shared": sum(map(int, re.findall(r"\.shared [^;]*\[(\d+)\];", text))),
    }


def measure(dtypes=DTYPES, capabilities=CAPABILITIES, only=""):
    """{"float32 sm_90 dense_forward_wide": [registers, spilled, shared], ...}"""
    found = {}
    for dtype in dtypes:
        for name, capability, text in ptx(dtype, capabilities, only):
            one = resources(text, capability)
            found["{} sm_{}{} {}".format(dtype, *capability, name)] = [one[f] for f in FIELDS]
    return found


def main():
    parser = argparse.ArgumentParser(prog="python -m bench.ptx", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="TEXT", help="kernels with TEXT in their names")
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.name}")
    args = parser.parse_args()
    start = time.perf_counter()
    found = measure(only=args.only)
    for key, values in found.items():
        print(f"{key:45} {values[0]:4} registers {values[1]:4} bytes spilled {values[2]:6} bytes shared")
    print(f"{len(found)} kernels in {time.perf_counter() - start:.0f} s")
    if args.write:
        lines = ",\n".join(f" {json.dumps(k)}: {json.dumps(v)}" for k, v in found.items())
        TABLE.write_text("{\n" + lines + "\n}\n")
