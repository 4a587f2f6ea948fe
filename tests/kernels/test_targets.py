"""One generator for AVX-512, AVX2, SSE and NEON: run where this machine can, else compiled to assembly."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
from llvmlite import binding, ir

from fastbp.kernels.cpu import program  # noqa: F401  (registers all of LEAVES)
from fastbp.kernels.cpu.simd import LEAVES, Emitter, Target, leaf_arguments, leaf_type, target_of

ROOT = Path(__file__).resolve().parents[2]

TRAIN = """
import sys; sys.path.insert(0, "tests/support")
import harness, numpy as np, fastbp as fb
from fastbp.kernels import reference as ref
from fastbp.kernels.cpu.simd import host_target
rng = np.random.default_rng()
for dtype in sys.argv[1:]:
    net = fb.MLP([9, 37, 21, 5], ["gelu", "tanh"], seed=0, dtype=dtype)
    X, y = rng.standard_normal((50, 9)).astype(dtype), rng.integers(0, 5, 50)
    params = [(w.astype(float), b.astype(float)) for w, b in zip(net.weights, net.biases)]
    fb.Trainer(net, optimizer=fb.AdamW(0.01, eps=1e-3), batch_size=16).fit(X, y, epochs=2, shuffle=False)
    batches = [np.arange(s, min(s + 16, 50)) for s in range(0, 50, 16)] * 2
    # eps: with 1e-8 a gradient near 0 moves a weight by its sign alone, which is rounding
    options = {"lr": 0.01, "eps": 1e-3}
    ref.train(params, X.astype(float), y, ["gelu", "tanh"], "cross_entropy", "AdamW", options, batches)
    flat = lambda pairs: np.concatenate([np.ravel(a) for p in pairs for a in p]).astype(float)
    error = harness.relative(flat(zip(net.weights, net.biases)), flat(params))
    assert error < harness.TOLERANCE[dtype], error
    print(host_target().bytes, error)
"""
X86 = {
    "avx2": ("haswell", "+sse,+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+fma,+bmi,+bmi2", 32),
    "sse": ("x86-64", "+sse,+sse2", 16),
}


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="x86 only")
@pytest.mark.parametrize("name,dtype", [("avx2", "float32"), ("sse", "float64")])
def test_narrower_x86_targets_train_right(name, dtype, tmp_path):
    """One precision each: all is compiled anew."""
    cpu, features, width = X86[name]
    if not all(binding.get_host_cpu_features().get(f[1:], False) for f in features.split(",")):
        pytest.skip(f"this machine has no {name}")
    result = subprocess.run(
        [sys.executable, "-c", TRAIN, dtype], cwd=ROOT, capture_output=True, text=True, timeout=280,
        env={**os.environ, "NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features,
             "NUMBA_CACHE_DIR": str(tmp_path)},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert {line.split()[0] for line in result.stdout.splitlines()} == {str(width)}


def assembly(triple, cpu, features, real):
    """All of LEAVES for a target, as its assembly."""
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    module = ir.Module("leaves")
    module.triple = triple
    for name, (write, kinds, returns) in LEAVES.items():
        function = ir.Function(module, leaf_type(kinds, returns, real), name)
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        result = write(
            Emitter(module, builder, real, target_of(triple, features)), *leaf_arguments(kinds, function.args)
        )
        builder.ret(result) if returns else builder.ret_void()
    machine = binding.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features, opt=3)
    parsed = binding.parse_assembly(str(module))
    parsed.verify()
    options = binding.create_pipeline_tuning_options(3)
    builder = binding.create_pass_builder(machine, options)
    builder.getModulePassManager().run(parsed, builder)
    return machine.emit_assembly(parsed)


FLOAT, DOUBLE = ir.FloatType(), ir.DoubleType()


@pytest.mark.parametrize(
    "real,triple,cpu,features,product,scalar",
    [
        (FLOAT, "aarch64-unknown-linux-gnu", "neoverse-n1", "+neon", r"fmla\s+v\d+\.4s", r"bl\s+fma"),
        (DOUBLE, "aarch64-unknown-linux-gnu", "neoverse-n1", "+neon", r"fmla\s+v\d+\.2d", r"bl\s+fma"),
        (FLOAT, "x86_64-unknown-linux-gnu", "skylake-avx512", "+avx512f,+avx512vl,+avx512dq,+fma,+avx2",
         r"vfmadd\d+p[sd]\s.*zmm", r"call\w*\s+fma"),
        (FLOAT, "x86_64-unknown-linux-gnu", "haswell", "+avx2,+fma",
         r"vfmadd\d+p[sd]\s.*ymm", r"call\w*\s+fma"),
        (FLOAT, "x86_64-unknown-linux-gnu", "x86-64", "+sse2", r"mulp[sd]\s.*xmm", r"call\w*\s+fma"),
    ],
    ids=["neon-float", "neon-double", "avx512", "avx2", "sse"],
)  # fmt: skip
def test_tiles_compile_to_vector_products(real, triple, cpu, features, product, scalar):
    """Hundreds of vector multiply-adds, none of them a library call. Doubles of x86 are run elsewhere."""
    text = assembly(triple, cpu, features, real)
    assert len(re.findall(product, text)) > 300
    assert not re.search(scalar, text)


def test_target_of():
    assert target_of("x86_64-linux", "+avx512f,+fma,+avx2") == Target(64, 32, True)
    assert target_of("x86_64-linux", "+fma,+avx2") == Target(32, 16, True)
    assert target_of("x86_64-linux", "") == Target(16, 16, False)
    assert target_of("arm64-apple-darwin", "+neon") == Target(16, 32, True)
