"""Exports: the same predictions in torch, onnxruntime and C; and weights from torch."""

import ctypes
import json
import shutil
import subprocess

import numpy as np
import pytest

import fastbp as fb
from fastbp import cfile
from fastbp.kernels import codes, formulas
from fastbp.preparation import Preparation

LIMIT = {"float32": 1e-6, "float64": 1e-13}
ACTIVATIONS = list(codes.ACTIVATIONS)
CC = shutil.which("cc")
needs_cc = pytest.mark.skipif(CC is None, reason="needs a C compiler")


def trainer(rng, sizes, activation="relu", loss="cross_entropy", dtype="float32"):
    net = fb.MLP(sizes, activation, seed=int(rng.integers(1 << 30)), dtype=dtype)
    for b in net.biases:
        b[:] = rng.standard_normal(b.shape)
    return fb.Trainer(net, loss)


def error(got, exact):
    """The largest difference, of the largest output."""
    got, exact = np.asarray(got, float), np.asarray(exact, float)
    assert got.shape == exact.shape and np.isfinite(exact).all()
    return np.abs(got - exact).max() / np.abs(exact).max()


def exact(t, X, link=True):
    """The same weights in float64."""
    net = fb.MLP(t.net.sizes, t.net.activations, seed=0, dtype="float64")
    for mine, theirs in zip(net.weights + net.biases, t.net.weights + t.net.biases, strict=True):
        mine[:] = theirs
    other = fb.Trainer(net, t.loss)
    other.preparation = t.preparation
    return other.predict(X) if link else other.forward(X)


@pytest.fixture
def compiled(tmp_path):
    """compiled(trainer, X, ...) -> predictions of the C file, row by row."""

    def run(t, X, name="predict", **options):
        source, library = tmp_path / f"{name}.c", tmp_path / f"{name}.so"
        t.to_c(source, name, **options)
        flags = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", "-O1", "-shared", "-fPIC"]
        done = subprocess.run([CC, *flags, source, "-o", library], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        kind = ctypes.c_double if t.net.dtype == np.float64 else ctypes.c_float
        function = getattr(ctypes.CDLL(str(library)), name)
        function.restype = None
        X, out = np.ascontiguousarray(X, t.net.dtype), np.full((len(X), t.net.sizes[-1]), np.nan, t.net.dtype)
        for row, y in zip(X, out, strict=True):
            function(row.ctypes.data_as(ctypes.POINTER(kind)), y.ctypes.data_as(ctypes.POINTER(kind)))
        return out

    return run


@needs_cc
@pytest.mark.parametrize("dtype", LIMIT)
def test_c_of_every_activation_at_once(rng, compiled, dtype):
    """Every activation in one network a dtype; then ragged ones."""
    t = trainer(rng, [11, *rng.integers(1, 40, len(ACTIVATIONS)), 7], ACTIVATIONS, dtype=dtype)
    X = (rng.standard_normal((50, 11)) * rng.choice([0.01, 1, 30], (50, 1))).astype(dtype)
    assert error(compiled(t, X), exact(t, X)) < LIMIT[dtype]
    assert error(compiled(t, X, "outputs", link=False), exact(t, X, False)) < LIMIT[dtype]


@needs_cc
@pytest.mark.parametrize("dtype", LIMIT)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_c_formula_of_an_activation(compiled, dtype, activation):
    """One unit with weight 1: the activation itself, from far left to far right, and at 0."""
    t = fb.Trainer(fb.MLP([1, 1, 1], activation, dtype=dtype), "mse")
    for w in t.net.weights:
        w[:] = 1
    X = np.r_[0, np.geomspace(1e-6, 90, 60), -np.geomspace(1e-6, 90, 60)].astype(dtype)[:, None]
    wanted = exact(t, X)
    got = compiled(t, X, f"f_{activation}")
    assert (np.abs(got - wanted) <= LIMIT[dtype] * np.maximum(np.abs(wanted), 1e-2)).all()


@needs_cc
@pytest.mark.parametrize("sizes", [[1, 1], [5, 3], [33, 1, 9], [7, 100, 31, 2], [64, 300, 10]])
@pytest.mark.parametrize("loss", ["cross_entropy", "bce_with_logits", "mse"])
def test_c_of_ragged_networks(rng, compiled, sizes, loss):
    sizes = [*sizes[:-1], max(2, sizes[-1])] if loss == "cross_entropy" else sizes
    t = trainer(rng, sizes, "tanh", loss)
    X = rng.standard_normal((20, sizes[0])).astype("f4")
    assert error(compiled(t, X), exact(t, X)) < LIMIT["float32"]


@needs_cc
@pytest.mark.parametrize("dtype", LIMIT)
def test_c_has_all_of_the_formulas_maths(tmp_path, rng, dtype):
    """Functions that no activation of today needs, too: a new formula may."""
    formula = {
        "log_of": (formulas.log_, np.log, np.geomspace(1e-30, 1e30, 500)),
        "log1p_of": (formulas.log1p_unit, np.log1p, rng.uniform(0, 1, 500)),
        "root": (lambda m, x: m.sqrt(x), np.sqrt, np.r_[0, np.geomspace(1e-20, 1e20, 300)]),
        "clipped": (lambda m, x: m.copysign(m.clip(m.abs(x), 1.0, 2.0), x), None, rng.normal(size=500) * 3),
    }
    parts, types = (
        ["#include <stdint.h>\nstatic const float zero = 0;\n#define INFINITE (1 / zero)"],
        cfile._TYPES,
    )
    built = {name: cfile._function(name, dtype, f) for name, (f, _, _) in formula.items()}
    helpers = sorted(set().union(*(needs for _, needs in built.values())))
    real = types[np.dtype(dtype)]["r"]
    parts += [cfile._HELPERS[name].format(**types[np.dtype(dtype)]) for name in helpers]
    parts += [text.replace("static ", "", 1).replace("\n", "\n", 1) for text, _ in built.values()]
    source, library = tmp_path / "maths.c", tmp_path / "maths.so"
    source.write_text("\n".join(parts) + "\n")
    flags = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", "-O1", "-shared", "-fPIC"]
    done = subprocess.run([CC, *flags, source, "-o", library], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded, kind = ctypes.CDLL(str(library)), ctypes.c_double if real == "double" else ctypes.c_float
    for name, (_, exactly, values) in formula.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = kind, [kind]
        x = values.astype(dtype)
        got = np.array([function(v) for v in x.tolist()])
        wanted = (exactly or (lambda v: np.copysign(np.clip(np.abs(v), 1, 2), v)))(x.astype(float))
        assert (np.abs(got - wanted) <= LIMIT[dtype] * np.maximum(np.abs(wanted), 1e-3)).all(), name


@needs_cc
def test_c_keeps_extremes_finite_and_nan_nan(rng, compiled):
    t = trainer(rng, [3, 8, 4], "silu")
    X = np.float32([[1e30, 0, 0], [np.nan, 0, 0]])
    got = compiled(t, X)
    assert np.isnan(got[1]).all()
    t = trainer(rng, [1, 2])
    t.net.weights[0][:] = 1e4, -1e4
    assert compiled(t, np.float32([[1.0]]), "far").tolist() == [[1.0, 0.0]]


def test_c_names(rng, tmp_path):
    t = trainer(rng, [3, 2])
    for name in ("2x", "a b", "", None, "x;", "f(x)"):
        with pytest.raises(ValueError, match="takes a C identifier"):
            t.to_c(tmp_path / "x.c", name)
    assert not (tmp_path / "x.c").exists()


@needs_cc
def test_c_of_a_prepared_model_takes_raw_inputs_and_names_things(rng, compiled, tmp_path):
    t, X = prepared(rng)
    encoded = X.copy()
    assert error(compiled(t, encoded), t.predict(X)) < 1e-6
    text = (tmp_path / "predict.c").read_text()
    assert "x[0] size * / evil" in text
    t.preparation = Preparation(2, classes=['a"b', "c\\d\n"])
    t.loss = fb.losses.CrossEntropy()
    compiled(t, X, "classes")
    assert '"a\\"b"' in (tmp_path / "classes.c").read_text()


def prepared(rng):
    """(a regression trained on raw columns far from 0, X)."""
    X = rng.standard_normal((60, 2)) * [3, 1e-3] + [2000, 0]
    y = 1e5 + 1e4 * X[:, :1] + X[:, 1:] * [1, 2]
    t = fb.Trainer(fb.MLP([2, 9, 2], "tanh", seed=0), "mse", seed=0)
    t.preparation = Preparation.fit(X, np.hstack([y[:, :1], y[:, 1:]]), names=["size */ evil", "b"])
    t.fit(X, y)
    return t, X.astype("f4")


# --- ONNX


def onnx_run(path, X):
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["Y"], {"X": np.asarray(X, "f4")})[0]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_onnx_of_every_activation(rng, tmp_path, activation):
    pytest.importorskip("onnx")
    t = trainer(rng, [9, 31, 17, 5], activation)
    X = rng.standard_normal((33, 9)).astype("f4")
    t.to_onnx(tmp_path / "m.onnx")
    assert error(onnx_run(tmp_path / "m.onnx", X), exact(t, X)) < 1e-6
    t.to_onnx(tmp_path / "z.onnx", link=False)
    assert error(onnx_run(tmp_path / "z.onnx", X), exact(t, X, False)) < 1e-6


@pytest.mark.parametrize("loss", codes.LOSSES)
def test_onnx_of_every_loss_and_any_number_of_rows(rng, tmp_path, loss, request):
    pytest.importorskip("onnx")
    t = trainer(rng, [4, 6, 4], "silu", loss, "float64")
    if loss == "gaussian_nll":  # means and variances
        with pytest.raises(ValueError, match="no export can make; link=False"):
            t.to_onnx(tmp_path / "m.onnx")
        return
    t.to_onnx(tmp_path / "m.onnx")
    if CC:
        run = request.getfixturevalue("compiled")
        X = rng.standard_normal((5, 4))
        assert error(run(t, X, loss), t.predict(X)) < LIMIT["float64"]
    for rows in (1, 7):
        X = rng.standard_normal((rows, 4)).astype("f4")
        assert error(onnx_run(tmp_path / "m.onnx", X), t.predict(X)) < 1e-6


def test_onnx_of_a_prepared_model(rng, tmp_path):
    onnx = pytest.importorskip("onnx")
    t, X = prepared(rng)
    t.to_onnx(tmp_path / "m.onnx")
    assert error(onnx_run(tmp_path / "m.onnx", X), t.predict(X)) < 1e-6
    facts = {p.key: json.loads(p.value) for p in onnx.load(tmp_path / "m.onnx").metadata_props}
    assert facts == {"inputs": ["size */ evil", "b"]}


# --- torch


@pytest.mark.parametrize("dtype", LIMIT)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_to_torch_and_back(rng, activation, dtype):
    torch = pytest.importorskip("torch")
    t = trainer(rng, [9, 31, 17, 5], activation, dtype=dtype)
    if activation == "sin":
        with pytest.raises(ValueError, match="'sin' has no module of torch.nn"):
            t.to_torch()
        return
    X = rng.standard_normal((20, 9)).astype(dtype)
    module = t.to_torch()
    state = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    assert state == {
        "0.weight": (31, 9), "0.bias": (31,), "2.weight": (17, 31), "2.bias": (17,),
        "4.weight": (5, 17), "4.bias": (5,),
    }  # fmt: skip
    with torch.no_grad():
        assert error(module(torch.from_numpy(X)), t.forward(X)) < LIMIT[dtype]
        assert error(t.to_torch(link=True)(torch.from_numpy(X)), t.predict(X)) < LIMIT[dtype]
        module[0].weight.zero_()  # a copy: nothing of the trainer's
    assert t.net.weights[0].any()
    for other in (fb.from_torch(t.to_torch()), fb.from_torch(t.to_torch().state_dict(), activation)):
        assert other.dtype == dtype and np.array_equal(other.params, t.net.params)
        assert activation == "identity" or other.activations == t.net.activations


def test_to_torch_folds_a_preparation(rng):
    torch = pytest.importorskip("torch")
    t, X = prepared(rng)
    t.net.weights[1][:] = rng.standard_normal(t.net.weights[1].shape)
    assert error(t.to_torch()(torch.from_numpy(X)).detach(), t.predict(X)) < 1e-5  # x ~ 700 deviations from 0


def test_from_torch_modules():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    inner = nn.Sequential(nn.Linear(8, 6, bias=False), nn.Dropout(0.5), nn.GELU())
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.Tanh(), inner, nn.Linear(6, 3)).double()
    net = fb.from_torch(module)
    assert net.sizes == [4, 8, 6, 3] and net.activations == ["tanh", "gelu"] and net.dtype == np.float64
    X = np.random.default_rng().standard_normal((10, 4))
    expected = module.eval()(torch.from_numpy(X)).detach()
    assert error(fb.Trainer(net).forward(X), expected) < 1e-12
    assert fb.from_torch(nn.Linear(3, 2)).sizes == [3, 2]
    assert fb.from_torch(module.to(torch.bfloat16)).dtype == np.float32


def test_from_torch_refuses_what_is_no_mlp():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    for module, says in [
        (nn.Sequential(nn.Conv2d(1, 1, 3)), "Conv2d"),
        (nn.Sequential(nn.Linear(2, 2), nn.Softmax(-1)), "Softmax"),
        (nn.Sequential(nn.Linear(2, 2), nn.Sigmoid()), "belong to the loss"),
        (nn.Sequential(nn.Linear(2, 2), nn.LeakyReLU(0.2), nn.Linear(2, 2)), "negative_slope=0.01"),
        (nn.Sequential(nn.ReLU(), nn.Linear(2, 2)), "Linear layer is due"),
        (nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(2, 2)), "3 outputs"),
        (nn.Sequential(), "no Linear"),
    ]:
        with pytest.raises(ValueError, match=says):
            fb.from_torch(module)


def test_from_a_state_dict_of_arrays(rng):
    w = [rng.standard_normal(shape).astype("f4") for shape in [(5, 3), (5,), (2, 5)]]
    net = fb.from_torch({"a.0.weight": w[0], "a.0.bias": w[1], "a.2.weight": w[2]}, "elu")
    assert np.array_equal(net.weights[0], w[0].T) and np.array_equal(net.biases[0], w[1])
    assert not net.biases[1].any() and net.activations == ["elu"]
    for state, says in [
        ({"x.weight": np.zeros((1, 1, 3, 3))}, "x.weight"),
        ({"x.running_mean": w[1]}, "running_mean"),
    ]:
        with pytest.raises(ValueError, match=says):
            fb.from_torch(state)


# --- what cannot be exported is refused


def test_what_no_export_can_say_is_refused(rng, tmp_path, monkeypatch):
    t = trainer(rng, [3, 4, 2])
    config = t.net.config()
    monkeypatch.setattr(
        t.net, "config", lambda: {**config, "norm": ["batch"], "tied": False, "skips": [None]}
    )
    for export in (t.to_torch, lambda: t.to_onnx(tmp_path / "m"), lambda: t.to_c(tmp_path / "m")):
        with pytest.raises(ValueError, match=r"net: got norm=\['batch'\]; an export takes dense layers"):
            export()
    monkeypatch.undo()
    t.loss = fb.losses.loss("gaussian_nll")
    with pytest.raises(ValueError, match="link=False"):
        t.to_c(tmp_path / "m")
    t.to_c(tmp_path / "m", link=False)
    assert list(tmp_path.iterdir()) == [tmp_path / "m"]
