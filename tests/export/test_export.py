"""Exports: the same predictions in torch, onnxruntime and C; and weights from torch."""

import ctypes
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

import fastbp as fb
from fastbp.data.frames import Frame
from fastbp.export import cfile
from fastbp.kernels import codes, formulas
from fastbp.network import activations
from fastbp.preparation import Preparation

LIMIT = {"float32": 1e-6, "float64": 1e-13}
ACTIVATIONS = list(activations.NAMES)
CC = shutil.which("cc")
needs_cc = pytest.mark.skipif(CC is None, reason="needs a C compiler")


def trainer(rng, sizes, activation="relu", loss="cross_entropy", dtype="float32", **net):
    net = fb.MLP(sizes, activation, seed=int(rng.integers(1 << 30)), dtype=dtype, **net)
    for name, view in net.named_views(net.params).items():
        if not name.startswith(("weights", "embeddings")):
            view[:] = rng.standard_normal(view.shape)
        if name.startswith("running_vars"):
            view[:] = rng.uniform(0.2, 3, view.shape)
    return fb.Trainer(net, loss)


def error(got, exact):
    """The largest difference, of the largest output."""
    got, exact = np.asarray(got, float), np.asarray(exact, float)
    assert got.shape == exact.shape and np.isfinite(exact).all()
    return np.abs(got - exact).max() / np.abs(exact).max()


def exact(t, X, link=True):
    """The same weights in float64."""
    net = fb.MLP(**{**t.net.config(), "dtype": "float64"}, seed=0)
    theirs = t.net.named_views(t.net.params)
    for name, mine in net.named_views(net.params).items():
        mine[:] = theirs[name]
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
        kinds = re.search(rf"^void {name}\(const (\w+) \*x, (\w+) \*y\);", source.read_text(), re.M).groups()
        function = getattr(ctypes.CDLL(str(library)), name)
        function.restype = None
        taken, given = ({"float": "f4", "double": "f8"}[kind] for kind in kinds)
        X, out = np.ascontiguousarray(X, taken), np.full((len(X), t.net.sizes[-1]), np.nan, given)
        for row, y in zip(X, out, strict=True):
            function(row.ctypes.data_as(ctypes.c_void_p), y.ctypes.data_as(ctypes.c_void_p))
        return out

    return run


@needs_cc
@pytest.mark.parametrize("dtype", LIMIT)
def test_c_of_every_activation_at_once(rng, compiled, dtype):
    """Every activation in one network a dtype, nineteen layers whose rounding adds up in any program."""
    t = trainer(rng, [11, *rng.integers(1, 40, len(ACTIVATIONS)), 7], ACTIVATIONS, dtype=dtype)
    X = (rng.standard_normal((50, 11)) * rng.choice([0.01, 1, 30], (50, 1))).astype(dtype)
    for link, name, own in ((True, "predict", t.predict(X)), (False, "outputs", t.forward(X))):
        wanted = exact(t, X, link)
        assert error(compiled(t, X, name, link=link), wanted) < max(LIMIT[dtype], 3 * error(own, wanted))


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
    types = {d: {**fields, "p": ""} for d, fields in types.items()}
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
    for name in ("int", "for", "double", "_Bool", "inline", "class", "new", "main", "exp", "sqrtf", "printf",
                 "int32_t", "uint_fast8_t", "INT64_C", "_Model", "a__b", "NULL"):  # fmt: skip
        with pytest.raises(ValueError, match="which C or C[+][+] has for itself"):
            t.to_c(tmp_path / "x.c", name)
    assert not (tmp_path / "x.c").exists()


@pytest.mark.parametrize("compiler", [("cc", "-std=c99"), ("c++", "-x", "c++")])
def test_two_models_go_into_one_file(rng, tmp_path, compiler):
    """As an Arduino sketch includes them; every helper, constant and macro has its model's name."""
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"needs {compiler[0]}")
    t = trainer(rng, [11, *rng.integers(1, 9, len(ACTIVATIONS)), 7], ACTIVATIONS)
    other, _ = rich(rng, loss="gaussian_nll")
    for name, model in {"p": t, "q": t, "x": other, "i": other}.items():
        model.to_c(tmp_path / f"{name}.c", name)
    both = tmp_path / "all.c"
    both.write_text("".join(f'#include "{name}.c"\n' for name in "pqxi"))
    flags = ["-Wall", "-Wextra", "-Werror", "-c", "-o", tmp_path / "all.o"]
    done = subprocess.run([*compiler, *flags, both], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@needs_cc
def test_c_of_a_prepared_model_takes_raw_inputs_and_names_things(rng, compiled, tmp_path):
    t, X = prepared(rng)
    encoded = X.copy()
    assert error(compiled(t, encoded), t.predict(X)) < 1e-6
    text = (tmp_path / "predict.c").read_text()
    assert "x[0] size * / evil" in text


@needs_cc
def test_c_labels_hold_any_character(rng, compiled, tmp_path):
    """Read back from the compiled file. Names of columns stand in a comment, and stay in it."""
    t, X = trainer(rng, [2, 7]), rng.standard_normal((1, 2))
    labels = ['a"b', "c\\d\n", "%d ?" + "?/ ??=", "\a\x7f1", "é中", "\U0001f600f", ""]
    names = ["*\\ void evil(", "/" + "*\r\n\0??/ \ud800é*" + "/"]
    t.preparation = Preparation(2, names, classes=labels)
    compiled(t, X, "classes")
    table = (ctypes.c_char_p * 7).in_dll(ctypes.CDLL(str(tmp_path / "classes.so")), "classes_classes")
    assert [text.decode() for text in table] == labels


@pytest.fixture(params=[(2010, 1), (1e6, 1), (1e9, 0.5), (-3e4, 1e-3), (1e-3, 1e-9)], ids=str)
def far(request, rng):
    """(a trained regression of columns far from 0 in their own deviations, X, what it should predict)."""
    mean, deviation = request.param
    X = mean + deviation * rng.standard_normal((200, 3))
    X[::9, 1] = np.nan
    y = (np.nan_to_num(X, nan=mean) - mean) @ rng.standard_normal((3, 2))
    t = fb.Trainer(fb.MLP([3, 16, 2], "tanh", seed=0), "mse", fb.Adam(0.01), seed=0)
    t.preparation = Preparation.fit(X, 1e6 + y / deviation)
    t.fit(X, 1e6 + y / deviation, epochs=20)
    X = X[np.isfinite(X).all(axis=1)]
    p = t.preparation
    net = t.net
    hidden = np.tanh((X - p.mean) / p.scale @ net.weights[0].astype(float) + net.biases[0])
    return t, X, (hidden @ net.weights[1].astype(float) + net.biases[1]) * p.y_scale + p.y_mean


def near(got, wanted):
    """The largest difference, of the wanted values' deviation: of values far from 0 the size hides it."""
    assert got.shape == wanted.shape
    return (np.abs(got - wanted) / wanted.std(axis=0)).max()


def test_columns_far_from_0_are_predicted_right(far):
    t, X, wanted = far
    assert t.predict(X).dtype == np.float64 and near(t.predict(X), wanted) < 2e-6


@needs_cc
def test_columns_far_from_0_in_c(far, compiled):
    t, X, wanted = far
    assert near(compiled(t, X), wanted) < 2e-6


def test_columns_far_from_0_in_onnx(far, tmp_path):
    pytest.importorskip("onnx")
    t, X, wanted = far
    t.to_onnx(tmp_path / "m.onnx")
    assert near(onnx_run(tmp_path / "m.onnx", X), wanted) < 2e-6


def test_columns_far_from_0_in_torch(far):
    torch = pytest.importorskip("torch")
    t, X, wanted = far
    module = t.to_torch()
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float64}
    assert near(module(torch.from_numpy(X)).detach().numpy(), wanted) < 2e-6
    assert near(fb.Trainer(fb.from_torch(module), "mse").predict(X), wanted) < 2e-6


def test_exports_refuse_weights_that_are_not_finite(rng, tmp_path):
    t = trainer(rng, [3, 4, 2])
    t.net.biases[1][0] = np.inf
    for export in (t.to_torch, lambda: t.to_onnx(tmp_path / "m"), lambda: t.to_c(tmp_path / "m")):
        with pytest.raises(ValueError, match="net: got NaN or inf in biases.1, an export takes finite"):
            export()
    assert not list(tmp_path.iterdir())


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
    kind = {"tensor(float)": "f4", "tensor(double)": "f8"}[session.get_inputs()[0].type]
    return session.run(["Y"], {"X": np.asarray(X, kind)})[0]


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
def test_every_loss_and_any_number_of_rows(rng, tmp_path, loss, request):
    """Every loss's link in ONNX and C."""
    pytest.importorskip("onnx")
    t = trainer(rng, [4, 6, 4], "silu", loss, "float64")
    if loss == "gaussian_nll":  # one variance at its floor
        t.loss, t.net.biases[1][2] = fb.losses.GaussianNLL(eps=0.5), -100
    t.to_onnx(tmp_path / "m.onnx")
    if CC:
        run = request.getfixturevalue("compiled")
        X = rng.standard_normal((5, 4))
        assert error(run(t, X, loss), t.predict(X)) < LIMIT["float64"]
    for rows in (1, 7):
        X = rng.standard_normal((rows, 4)).astype("f4")
        assert error(onnx_run(tmp_path / "m.onnx", X), t.predict(X)) < 1e-6


@pytest.mark.parametrize("raw", [False, True])
def test_ordered_quantiles(rng, tmp_path, raw, request):
    """Two targets, in their own units with a preparation: they do not cross in ONNX and C either."""
    pytest.importorskip("onnx")
    loss = fb.losses.Quantile((0.05, 0.3, 0.5, 0.8), ordered=True)
    t, X = trainer(rng, [3, 7, 8], "softplus", loss), rng.standard_normal((50, 3)).astype("f4")
    t.net.weights[1][:] *= 4
    if raw:
        y = 100 + 30 * rng.standard_normal((50, 2))
        t.preparation = Preparation.fit(X, y)
    expected = t.predict(X)
    t.to_onnx(tmp_path / "m.onnx")
    runs = [onnx_run(tmp_path / "m.onnx", X)]
    if CC:
        runs.append(request.getfixturevalue("compiled")(t, X))
    for found in runs:
        assert error(found, expected) < 1e-6
        assert (np.diff(found.reshape(50, 2, 4), axis=2) >= 0).all()
    with pytest.raises(ValueError, match="torch.nn has no module for ordered"):
        t.to_torch(link=True)


def test_onnx_of_a_prepared_model(rng, tmp_path):
    onnx = pytest.importorskip("onnx")
    t, X = prepared(rng)
    t.to_onnx(tmp_path / "m.onnx")
    assert error(onnx_run(tmp_path / "m.onnx", X), t.predict(X)) < 1e-6
    facts = {p.key: json.loads(p.value) for p in onnx.load(tmp_path / "m.onnx").metadata_props}
    assert facts == {"inputs": ["size */ evil", "b"]}


# --- more than dense layers

HIDDEN = [20, 20, 13, 13, 8]


def rich(rng, dtype="float32", loss="cross_entropy", **given):
    """Norms of both kinds, skips around and without them, dropout, and embedded columns."""
    given = {
        "norm": ["batch", "layer", None, "layer", "batch"], "residual": [False, True, False, True, False],
        "dropout": 0.3, "input_dropout": 0.1, "embeddings": {1: (7, 3), 4: (5, 1), 2: (2, 6)}, **given,
    }  # fmt: skip
    t = trainer(rng, [6, *HIDDEN, 4], ["relu", "silu", "tanh", "gelu", "identity"], loss, dtype, **given)
    X = rng.standard_normal((40, 6)).astype(dtype)
    for column, (categories, _) in given["embeddings"].items():
        X[:, column] = rng.integers(0, categories, 40)
    return t, X


@needs_cc
@pytest.mark.parametrize("dtype", LIMIT)
def test_c_of_norms_skips_and_embeddings(rng, compiled, dtype):
    t, X = rich(rng, dtype)
    assert error(compiled(t, X), exact(t, X)) < LIMIT[dtype]
    assert error(compiled(t, X, "outputs", link=False), exact(t, X, False)) < LIMIT[dtype]
    assert error(compiled(t, X, "same"), t.predict(X)) < 2 * LIMIT[dtype]
    for bad in (-1, 7, 2.5, np.nan):  # what the package refuses
        X[0, 1] = bad
        assert np.isnan(compiled(t, X[:1], f"bad{int(bad == bad)}{len(str(bad))}")).all()
    only = trainer(rng, [2, 5, 3], dtype=dtype, embeddings={0: (3, 2), 1: (4, 3)})  # no numeric column
    X = np.stack([rng.integers(0, 3, 9), rng.integers(0, 4, 9)], axis=1).astype(dtype)
    assert error(compiled(only, X, "only"), exact(only, X)) < LIMIT[dtype]


def test_onnx_of_norms_skips_and_embeddings(rng, tmp_path):
    pytest.importorskip("onnx")
    t, X = rich(rng)
    for link in (True, False):
        t.to_onnx(tmp_path / "m.onnx", link=link)
        assert error(onnx_run(tmp_path / "m.onnx", X), exact(t, X, link)) < 1e-6
    only = trainer(rng, [2, 5, 3], embeddings={0: (3, 2), 1: (4, 3)})
    X = np.stack([rng.integers(0, 3, 9), rng.integers(0, 4, 9)], axis=1)
    only.to_onnx(tmp_path / "m.onnx")
    assert error(onnx_run(tmp_path / "m.onnx", X), exact(only, X)) < 1e-6


@pytest.mark.parametrize("dtype", LIMIT)
def test_torch_of_norms_and_back(rng, dtype):
    torch = pytest.importorskip("torch")
    t, X = rich(rng, dtype, residual=False, embeddings={})
    module = t.to_torch()
    kinds = [type(m).__name__ for m in module]
    assert kinds[:7] == ["Linear", "BatchNorm1d", "ReLU", "Linear", "LayerNorm", "SiLU", "Linear"]
    assert error(module(torch.from_numpy(X)).detach(), t.forward(X)) < LIMIT[dtype]
    state = module.state_dict()
    assert state["1.running_var"].shape == (20,) and state["4.bias"].shape == (20,)
    back = fb.from_torch(module), fb.from_torch(state, t.net.activations)
    for net in back:
        assert net.norms == t.net.norms and np.array_equal(net.params, t.net.params)
    for option, says in (
        ({"residual": True}, "residual"),
        ({}, "embeddings"),
        ({"loss": "poisson_nll"}, "exp"),
    ):
        other = rich(
            rng, **{"residual": False, "embeddings": {3: (2, 2)} if says == "embeddings" else {}, **option}
        )
        with pytest.raises(ValueError, match=f"got {says}, which no|got True, but torch.nn .* {says}"):
            other[0].to_torch(link=True)


def test_exports_take_the_weights_that_predict_takes(rng, tmp_path):
    """With a moving average of the weights, that one; and the running statistics of today."""
    pytest.importorskip("onnx")
    net = fb.MLP([5, 9, 3], norm="batch", seed=0)
    t, X = fb.Trainer(net, ema=0.9, seed=0), rng.standard_normal((60, 5)).astype("f4")
    t.fit(X, rng.integers(0, 3, 60), epochs=3)
    t.to_onnx(tmp_path / "m.onnx")
    assert error(onnx_run(tmp_path / "m.onnx", X), t.predict(X)) < 1e-6
    assert error(t.predict(X, ema=False), t.predict(X)) > 1e-4


@needs_cc
def test_exports_fill_what_is_missing(rng, tmp_path, compiled):
    pytest.importorskip("onnx")
    X, k = rng.normal(size=(50, 2)) * [5, 0.1] + [100, 0], rng.choice(["u", "v"], 50)
    X[::4, 0] = np.nan
    t = fb.Trainer(fb.MLP([4, 8, 1], "tanh", seed=0), "mse")
    frame = Frame(["a", "k", "b"], [X[:, 0].astype("f4"), k, X[:, 1].astype("f4")])
    t.preparation = Preparation.fit(frame, k[:, None] == "u")
    encoded = np.column_stack([frame.columns[0], k == "u", k == "v", frame.columns[2]])
    t.to_onnx(tmp_path / "m.onnx")
    assert error(onnx_run(tmp_path / "m.onnx", encoded), t.predict(frame)) < 1e-6
    assert error(compiled(t, encoded), t.predict(frame)) < 1e-6


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
    } | ({"1.weight": (31,), "3.weight": (17,)} if activation == "prelu" else {})  # fmt: skip
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
    assert error(t.to_torch()(torch.from_numpy(X.astype(float))).detach(), t.predict(X)) < 1e-6


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
    one = nn.Sequential(nn.Linear(4, 8), nn.PReLU(init=0.3), nn.Linear(8, 3))  # one slope for all
    assert (fb.from_torch(one).slopes[0] == np.float32(0.3)).all()
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
        (
            nn.Sequential(nn.Linear(2, 3), nn.PReLU(2), nn.Linear(3, 2)),
            "2 slopes behind layer 0, takes 1 or 3",
        ),
        (nn.Sequential(), "no Linear"),
        (nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.BatchNorm1d(2), nn.Linear(2, 2)), "BatchNorm1d"),
        (nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)), "behind the last"),
        (nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2, eps=1e-3), nn.Linear(2, 2)), "eps 1e-05"),
        (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False), nn.Linear(2, 2)), "takes one with"),
        (nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(3), nn.Linear(2, 2)), r"takes \(2,\)"),
    ]:
        with pytest.raises(ValueError, match=says):
            fb.from_torch(module)


@pytest.mark.parametrize(
    "shared", ["activation", "norm", "dropout", "linear", "block", "block in a block", "prelu"]
)
def test_from_torch_reads_a_module_as_often_as_it_stands_there(rng, shared):
    """Module.children() names a module once, however often it is run."""
    torch = pytest.importorskip("torch")
    nn = torch.nn
    torch.manual_seed(0)
    first, last, more = nn.Linear(5, 8), nn.Linear(8, 3), [nn.Linear(8, 8) for _ in range(2)]
    act, norm, drop = nn.Tanh(), nn.LayerNorm(8), nn.Dropout(0.25)
    block = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU())
    slope = nn.PReLU(8)
    with torch.no_grad():
        for array in (norm.weight, norm.bias, block[1].weight, block[1].running_mean, slope.weight):
            array.normal_()
    steps = {
        "activation": [first, act, more[0], act, more[1], act, last],
        "norm": [first, norm, act, more[0], norm, nn.ReLU(), last],
        "dropout": [drop, first, act, drop, more[0], nn.ReLU(), drop, last],
        "linear": [first, act, more[0], act, more[0], nn.ReLU(), last],
        "block": [first, nn.ReLU(), block, block, last],
        "block in a block": [first, nn.ReLU(), nn.Sequential(block, nn.Sequential(block), block), last],
        "prelu": [first, slope, more[0], slope, last],
    }[shared]  # fmt: skip
    module = nn.Sequential(*steps).double().eval()
    net = fb.from_torch(module)
    X = rng.standard_normal((20, 5))
    assert error(fb.Trainer(net, "mse").predict(X), module(torch.from_numpy(X)).detach()) < 1e-12
    if shared == "dropout":
        assert net.input_dropout == 0.25 and net.dropouts == [0.25, 0.25]


def test_from_torch_reads_a_subclass_that_runs_as_a_sequential_does(rng):
    torch = pytest.importorskip("torch")

    class Named(torch.nn.Sequential):
        pass

    class Other(torch.nn.Sequential):
        def forward(self, x):
            return super().forward(x) + x

    layers = torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3)
    assert fb.from_torch(Named(*layers)).activations == ["tanh"]
    with pytest.raises(ValueError, match="module: got 'Other'"):
        fb.from_torch(Other(*layers))


def test_from_torch_refuses_what_it_would_read_half():
    """A class of torch's name with another forward, hooks, what training alone does, wrong arrays."""
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Linear(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    def patched(change):
        layer = nn.Linear(4, 4)
        return nn.Sequential(nn.Linear(4, 4), nn.ReLU(), change(layer) or layer)

    def own_forward(layer):
        layer.forward = lambda x: x

    norms, prune = torch.nn.utils, pytest.importorskip("torch.nn.utils.prune")
    for module, says in [
        (nn.Sequential(Linear(4, 4)), r"got '.*test_export.*Linear'"),
        (patched(lambda layer: prune.l1_unstructured(layer, "weight", 0.5)), "with hooks"),
        (patched(lambda layer: norms.spectral_norm(layer)), "with hooks"),
        (patched(lambda layer: norms.parametrizations.weight_norm(layer)), "got 'ParametrizedLinear'"),
        (patched(lambda layer: layer.register_forward_hook(lambda m, x, y: y + 1) and None), "with hooks"),
        (patched(own_forward), "with a forward of its own"),
        (nn.Sequential(nn.Flatten(0), nn.Linear(4, 4)), "takes start_dim=1"),
        (nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)), "Dropout behind the last"),
        (nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.LayerNorm(4), nn.Linear(4, 4)), "behind Dropout"),
        (nn.ModuleList([nn.Linear(4, 4)]), "ModuleList"),
        (nn.Linear(4, 4, device="meta"), "meta"),
        (nn.Linear(4, 4, dtype=torch.complex64), "complex64, takes floats"),
        ({"0.weight": np.zeros((5, 3)), "0.bias": np.zeros(1)}, r"got bias \(1,\), takes \(5,\)"),
        ({"0.weight": np.zeros((5, 3), np.int8)}, "got dtype int8"),
        ({"0.weight": [["a"]]}, "dtype <U1"),
        ({"e.weight": np.zeros(3), "0.weight": np.zeros((5, 3))}, "e.weight"),
        ({"0.weight": np.zeros((5, 3)), "0.scale": np.zeros(5)}, "0.scale"),
    ]:
        with pytest.raises(ValueError, match=says):
            fb.from_torch(module)
    eight = {"0.weight": torch.ones(5, 3, dtype=torch.float8_e4m3fn)}
    assert fb.from_torch(eight).weights[0].tolist() == [[1.0] * 5] * 3


def test_from_a_state_dict_of_arrays(rng):
    w = [rng.standard_normal(shape).astype("f4") for shape in [(5, 3), (5,), (2, 5)]]
    net = fb.from_torch({"a.0.weight": w[0], "a.0.bias": w[1], "a.2.weight": w[2]}, "elu")
    assert np.array_equal(net.weights[0], w[0].T) and np.array_equal(net.biases[0], w[1])
    assert not net.biases[1].any() and net.activations == ["elu"]
    for state, says in [
        ({"x.weight": np.zeros((1, 1, 3, 3))}, "x.weight"),
        ({"x.running_mean": w[1]}, "running_mean"),
        ({"0.weight": w[0], "1.weight": w[1], "2.weight": w[2]}, r"slopes behind layers \[0\], .* of \[\]"),
    ]:
        with pytest.raises(ValueError, match=says):
            fb.from_torch(state)


# --- what cannot be exported is refused


def test_what_no_export_can_say_is_refused(rng, tmp_path):
    own = fb.activation(lambda z: z / (1 + z * z), name="its_own")
    t = trainer(rng, [3, 4, 2], own)
    for export in (t.to_torch, lambda: t.to_onnx(tmp_path / "m"), lambda: t.to_c(tmp_path / "m")):
        with pytest.raises(ValueError, match="activation: got .*its_own.*, an export takes identity, relu"):
            export()
    assert not list(tmp_path.iterdir())
