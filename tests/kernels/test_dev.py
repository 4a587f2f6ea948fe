"""``python -m fastbp.dev`` and what stands behind it: listings, formulas in NumPy, NUMBA_DISABLE_JIT=1."""

import os
import re
import subprocess
import sys
from pathlib import Path

import draw
import harness as h
import numpy as np
import pytest

from fastbp import dev
from fastbp.engine import backend
from fastbp.kernels import arrays, codes, formulas
from fastbp.kernels import reference as ref

ROOT = Path(dev.__file__).resolve().parents[1]


def run(*command, **variables):
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280
    )


@pytest.mark.parametrize("name", codes.ACTIVATIONS)
@pytest.mark.parametrize("dtype", h.DTYPES)
def test_activations_in_numpy(rng, dtype, name):
    m = arrays.Maths(dtype)
    z = m.constant([*rng.uniform(-12, 12, 200), *rng.normal(0, 1e-3, 9), 90, -90, 0])
    with np.errstate(all="ignore"):
        value, slope = dev.value_and_slope(m, codes.ACTIVATIONS[name], z)
        assert np.isnan(dev.value_and_slope(m, codes.ACTIVATIONS[name], m.constant([np.nan]))[0]).all()
    assert value.dtype == slope.dtype == np.dtype(dtype)
    tolerance = 2e-6 if dtype == "float32" else 1e-14
    assert h.relative(value, ref.activation(name, z.astype(float))) < tolerance
    away = z != 0  # at a kink the slope is a matter of convention
    assert h.relative(slope[away], ref.activation_derivative(name, z.astype(float))[away]) < tolerance


@pytest.mark.parametrize("dtype", h.DTYPES)
@pytest.mark.parametrize("variant", [*draw.VARIANTS, *draw.weighted(6)])
def test_losses_in_numpy(rng, dtype, variant):
    loss = draw.VARIANTS.get(variant) or draw.weighted(6)[variant]
    t = draw.targets(rng, variant, 9, 6)
    z = draw.outputs_off_kinks(rng, loss.name, t, 6, 1e-4, **draw.constants(loss)).astype(dtype)
    rows = dev.loss_of(arrays.Maths(dtype), loss, z, t)
    code, targets = loss.targets(t, 6)
    weight = loss.weights(np.ones(9), targets, code)
    weight = weight / weight.sum()
    value, delta = draw.exact(variant, loss, z.astype(float), t)
    assert rows.delta.dtype == np.dtype(dtype)
    assert weight @ rows.loss == pytest.approx(value, rel=10 * h.TOLERANCE[dtype])
    assert h.relative(weight[:, None] * rows.delta, delta) < 10 * h.TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", h.DTYPES)
def test_multiply_add_in_numpy_keeps_what_a_rounded_product_loses(rng, dtype):
    m = arrays.Maths(dtype)
    x = m.constant(rng.uniform(1, 2, 100))
    lost = m.fma(x, x, -(x * x))
    assert np.any(lost) and np.all(np.abs(lost) <= np.finfo(dtype).eps * 2)
    assert (
        m.fma(m.constant([np.inf, 1e30, 2]), m.constant(1), m.constant([1, 1, np.nan])).tolist()[0] == np.inf
    )


@pytest.mark.parametrize("dtype", h.DTYPES)
def test_an_update_in_numpy(rng, dtype):
    m, c = arrays.Maths(dtype), np.zeros(codes.CONSTANTS, dtype)
    c[codes.C_LR], c[codes.C_BETA1], c[codes.C_BETA2], c[codes.C_ROOT], c[codes.C_EPS] = (
        0.1,
        0.1,
        0.01,
        3,
        1e-3,
    )
    g, p, first, second = rng.uniform(0.1, 1, (4, 50)).astype(dtype)
    new, (mean, square) = formulas.UPDATE[codes.ADAM](m, g, p, [first, second], c)
    exact = (a.astype(float) for a in (g, p, first, second))
    g, p, first, second = exact
    first, second = first + c[codes.C_BETA1] * (g - first), second + c[codes.C_BETA2] * (g * g - second)
    assert h.relative(mean, first) < h.TOLERANCE[dtype] and h.relative(square, second) < h.TOLERANCE[dtype]
    p = p - c[codes.C_LR] * first / (np.sqrt(second) * c[codes.C_ROOT] + float(c[codes.C_EPS]))
    assert new.dtype == np.dtype(dtype) and h.relative(new, p) < h.TOLERANCE[dtype]


def test_formula(capsys):
    assert dev.main(["formula", "gelu", "0.5", "-1", "--dtype", "float64"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["z", "value", "slope"]
    assert float(rows[1][1]) == pytest.approx(ref.activation("gelu", np.array([0.5]))[0], rel=1e-15)
    for name in dev.FUNCTIONS:
        assert dev.main(["formula", name, "0.5"]) == 0
    capsys.readouterr()
    assert dev.main(["formula", "cross_entropy", "0", "0", "--target", "1"]) == 0
    assert "loss 0.693147" in capsys.readouterr().out
    assert dev.main(["formula", "huber", "0.5", "3", "--target", "0", "1"]) == 0
    assert "loss 0.8125" in capsys.readouterr().out
    assert dev.main(["formula", "mse", "1"]) == 2
    assert "--target: got nothing" in capsys.readouterr().err
    assert dev.main(["formula", "gleu", "1"]) == 2
    assert "did you mean 'gelu'" in capsys.readouterr().err


def test_machine_code_and_ir_of_one_function(capsys):
    """Of the size of a machine's vectors; alone it is the same as among all."""
    assert dev.main(["asm", "add_row"]) == 0
    text = capsys.readouterr().out
    assert re.match(r"# \d+ instructions, 0 fused multiply-adds, 0 vectors put on the stack\n", text)
    assert "fastbp.add_row.float32.code:" in text and len(re.findall(r"^\S+code:", text, re.M)) == 1
    assert dev.main(["ir", "add_row", "--dtype", "float64", "--grep", "fadd"]) == 0
    lanes = int(re.search(r"fadd contract <(\d+) x double>", capsys.readouterr().out)[1])
    assert lanes in (2, 4, 8)
    assert dev.main(["asm", "multiply_adds"]) == 0
    assert int(re.search(r"(\d+) fused", capsys.readouterr().out)[1]) >= 12 * (lanes > 2)


def test_what_there_is_to_show(capsys):
    assert dev.main(["asm"]) == 0
    names = capsys.readouterr().out.split()
    assert names == sorted(names) and {"worker", "tile", "update", "dense_update"} <= set(names)
    assert dev.main(["asm", "dense_updat"]) == 2
    assert "did you mean 'dense_update'" in capsys.readouterr().err


def test_ir_of_what_is_linked_into_the_worker():
    """Compiled once for two of them: some 7 s."""
    text = backend.listing("dense_update", "float32", assembly=False)
    assert text.startswith("define") and "dense_update" in text and text.rstrip().endswith("}")


def test_profile(capsys):
    assert dev.main(["profile", "5-8-3", "--batch", "4", "--seconds", "0.05", "--optimizer", "lion"]) == 0
    assert "5-8-3, batch 4" in capsys.readouterr().out
    assert dev.main(["profile", "5x3"]) == 2
    assert "SIZES: got '5x3'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "holds", "lacks"),
    [
        ("dense_update", "test_dense_update[float32-adam]", "test_dense_backward"),
        ("gelu", "test_dense_forward[float64-gelu]", "gelu_tanh"),
        ("cosine", "cosine", "hinge"),
        ("lion", "test_dense_update[float32-lion]", "radam"),
        ("finish_layer", "test_layers.py", "test_dense_update"),
    ],
)
def test_the_tests_of_one_thing(name, holds, lacks):
    """Listed, not run: what they do is their own business."""
    done = run("-m", "fastbp.dev", "test", name, "--list")
    assert done.returncode == 0 and holds in done.stdout and lacks not in done.stdout, done.stdout


def test_no_such_test():
    done = run("-m", "fastbp.dev", "test", "nothing_of_this_name")
    assert done.returncode == 2 and "got 'nothing_of_this_name'" in done.stderr


def test_one_test_in_the_simulator():
    pytest.importorskip("numba_cuda")
    done = run("-m", "fastbp.dev", "sim", "test_everything_in_the_formulas_is_here")
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout


def test_without_compiling():
    """NUMBA_DISABLE_JIT=1: the first use of the program names it; formulas go on."""
    fit = "import fastbp as fb; fb.Trainer(fb.MLP([2, 2], seed=0)).fit([[0.0, 1.0]] * 4, [0, 1, 0, 1])"
    done = run("-c", fit, NUMBA_DISABLE_JIT="1")
    assert done.returncode and done.stderr.splitlines()[-1].startswith(
        "RuntimeError: NUMBA_DISABLE_JIT: got 1"
    )
    done = run("-m", "fastbp.dev", "asm", "tile", NUMBA_DISABLE_JIT="1")
    assert done.returncode == 2 and "NUMBA_DISABLE_JIT: got 1" in done.stderr
    done = run("-m", "fastbp.dev", "formula", "tanh", "0.5", NUMBA_DISABLE_JIT="1")
    assert done.returncode == 0 and "0.462117" in done.stdout


def test_every_file_that_dev_runs_is_there():
    there = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert set(dev.OF_KERNELS) <= there
