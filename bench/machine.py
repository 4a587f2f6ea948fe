"""The machine: what it is, and what it can do at most, measured in the same run as everything else."""

import importlib.metadata
import os
import platform
import threading
import time
from pathlib import Path

import numpy as np
from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from fastbp.kernels.cpu.simd import target_of

CHAINS = 12  # sums at once: two FMA units of latency 4 need 8; 12 and two operands fit 16 registers
PASSES = 500_000  # of all chains: 3 to 4 ms
COPY_BYTES = 1 << 26  # more than the caches that a process gets for itself

LIBRARIES = ("numpy", "numba", "llvmlite", "torch", "jax", "jaxlib", "scikit-learn", "onnxruntime")


def _target(context):
    codegen = context.codegen()
    return target_of(codegen._llvm_module.triple, codegen._tm_features)


@intrinsic
def _multiply_adds(typingctx, passes, numbers):
    """CHAINS vectors, each a = a * numbers[0] + numbers[1], passes times; their sum to numbers[2]."""

    def codegen(context, builder, sig, args):
        target, real = _target(context), ir.FloatType()
        lanes = target.bytes // 4
        vector = ir.VectorType(real, lanes)
        i64, i32 = ir.IntType(64), ir.IntType(32)
        data = context.make_array(sig.args[1])(context, builder, args[1]).data

        def splat(index):
            number = builder.load(builder.gep(data, [ir.Constant(i64, index)]))
            value = ir.Constant(vector, ir.Undefined)
            for lane in range(lanes):
                value = builder.insert_element(value, number, ir.Constant(i32, lane))
            return value

        factor, term = splat(0), splat(1)
        fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{lanes}f32"
        )
        before = builder.block
        loop, after = builder.append_basic_block("loop"), builder.append_basic_block("after")
        builder.branch(loop)
        builder.position_at_end(loop)
        count = builder.phi(i64)
        sums = [builder.phi(vector) for _ in range(CHAINS)]
        count.add_incoming(ir.Constant(i64, 0), before)
        results = []
        for k, chain in enumerate(sums):
            if target.fma:
                results.append(builder.call(fma, [chain, factor, term]))
            else:
                results.append(builder.fadd(builder.fmul(chain, factor), term))
            chain.add_incoming(ir.Constant(vector, [float(k)] * lanes), before)
            chain.add_incoming(results[-1], loop)
        following = builder.add(count, ir.Constant(i64, 1))
        count.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, args[0]), loop, after)
        builder.position_at_end(after)
        total = results[0]
        for result in results[1:]:
            total = builder.fadd(total, result)
        total = builder.extract_element(total, ir.Constant(i32, 0))
        builder.store(total, builder.gep(data, [ir.Constant(i64, 2)]))
        return ir.Constant(i64, lanes)

    return types.int64(types.int64, numbers), codegen


@njit(nogil=True)
def _run(passes, numbers):
    return _multiply_adds(passes, numbers)


def _together(threads, work):
    """Seconds from the first start to the last end of work(k) on ``threads`` threads at once."""
    barrier, spans = threading.Barrier(threads), [None] * threads

    def call(k):
        barrier.wait()
        start = time.perf_counter()
        work(k)
        spans[k] = start, time.perf_counter()

    others = [threading.Thread(target=call, args=(k,)) for k in range(1, threads)]
    for thread in others:
        thread.start()
    call(0)
    for thread in others:
        thread.join()
    return max(end for _, end in spans) - min(start for start, _ in spans)


class Peak:
    """The FMA peak in float32: a loop of nothing but fused multiply-adds, on 1 and on all threads."""

    def __init__(self, threads):
        self.threads = threads
        # towards 1, so that neither denormals nor infinities come up
        self._numbers = [np.array([0.999, 0.001, 0], np.float32) for _ in range(threads)]
        self.lanes = _run(1, self._numbers[0])

    def gflops(self, threads=None, tries=3):
        """The best of a few tries, GFLOP/s of all threads together (default: all)."""
        threads = threads or self.threads
        seconds = min(_together(threads, lambda k: _run(PASSES, self._numbers[k])) for _ in range(tries))
        return 2e-9 * threads * self.lanes * CHAINS * PASSES / seconds


def copy_bandwidth(threads, tries=5):
    """GB/s of copying, read and written bytes together, the best of a few tries."""
    size = COPY_BYTES // threads // 4
    sources = [np.ones(size, np.float32) for _ in range(threads)]
    targets = [np.empty(size, np.float32) for _ in range(threads)]
    seconds = [_together(threads, lambda k: np.copyto(targets[k], sources[k])) for _ in range(tries + 1)]
    return 2e-9 * 4 * size * threads / min(seconds[1:])  # the first touches the pages


def usable_cores():
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe(threads):
    """The machine and the software as a dict for JSON."""
    return {
        "cpu": _model(),
        "target": binding.get_host_cpu_name(),
        "cores_usable": usable_cores(),
        "cores": os.cpu_count(),
        "threads": threads,
        "caches": _caches(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: found for name in LIBRARIES if (found := _version(name))},
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def _model():
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _caches():
    """{"L1d": "32K", ...} of the first core, as Linux tells it; empty elsewhere."""
    found = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind, level, size = ((index / name).read_text().strip() for name in ("type", "level", "size"))
        except OSError:
            continue
        if kind != "Instruction":
            found[f"L{level}{'d' * (kind == 'Data')}"] = size
    return found


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
