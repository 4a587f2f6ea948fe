"""Raw columns and prepared ones under one name: every public method of a trainer that has a preparation.

Beside each prepared trainer, which gets raw rows and targets, stands a plain one of the same weights, which
gets what the preparation makes of them: they do the same, and numbers come out in the target's own units.
"""

import ctypes
import inspect
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest

import fastbp as fb
from fastbp import metrics
from fastbp.data.frames import Frame
from fastbp.preparation import Preparation


def pair(rng, loss="mse", outputs=1, targets=1, **options):
    """raw, plain: trainers; X, y: raw; Z, t: prepared; unit: from prepared targets to raw ones."""
    X = rng.normal(50, 10, (60, 3))
    y = X @ rng.normal(size=(3, targets)) + 1000
    preparation = Preparation.fit(X, y)
    net = lambda: fb.MLP([3, 8, outputs], "tanh", seed=1, dtype="float64")  # noqa: E731
    made = [fb.Trainer(net(), loss, fb.Adam(0.01), batch_size=16, seed=2, **options) for _ in range(2)]
    made[0].preparation = preparation
    scale, mean = preparation.y_scale, preparation.y_mean
    return SimpleNamespace(
        raw=made[0], plain=made[1], X=X, y=y, Z=preparation.transform(X, np.float64), t=(y - mean) / scale,
        scale=scale, mean=mean,
    )  # fmt: skip


def close(a, b):
    assert np.allclose(a, b, rtol=1e-12, atol=1e-12)


def same_weights(p):
    assert np.array_equal(p.raw.net.params, p.plain.net.params) and p.raw.steps == p.plain.steps > 0


def own(p):
    """What the raw trainer's metrics are to be."""
    predicted = p.raw.predict(p.X)
    return {name: metrics.METRICS[name](p.y, predicted) for name in ("mae", "rmse", "r2")}


def fit(p, tmp_path):
    names = ["mae", "rmse", "r2"]
    history = p.raw.fit(p.X, p.y, 3, metrics=names).history
    assert history["loss"] == p.plain.fit(p.Z, p.t, 3).history["loss"]
    same_weights(p)
    for name, value in own(p).items():
        close(history[name][-1], value)
    history = p.raw.fit(p.X, p.y, 2, metrics=names, validation_data=(p.X, p.y)).history
    for name, value in own(p).items():
        close(history[f"val_{name}"][-1], value)
    p.plain.fit(p.Z, p.t, 2)
    streamed = p.raw.fit(iter([(p.X, p.y)])).history["loss"]
    assert streamed == p.plain.fit(p.Z, p.t, shuffle=False).history["loss"]


def train_on_batch(p, tmp_path):
    assert p.raw.train_on_batch(p.X, p.y) == p.plain.train_on_batch(p.Z, p.t)
    same_weights(p)


def partial_fit(p, tmp_path):
    assert p.raw.partial_fit(p.X, p.y) == p.plain.partial_fit(p.Z, p.t)
    same_weights(p)


def evaluate(p, tmp_path):
    found = p.raw.evaluate(p.X, p.y, metrics=["mae", "rmse", "r2"])
    assert found["loss"] == p.plain.evaluate(p.Z, p.t)["loss"]
    for name, value in own(p).items():
        close(found[name], value)
    close(found["mae"], p.scale * p.plain.evaluate(p.Z, p.t, metrics="mae")["mae"])


def averaged_net(p, tmp_path):
    for t, X, y in ((p.raw, p.X, p.y), (p.plain, p.Z, p.t)):
        t.ema, t.slots = 0.5, fb.Trainer(t.net, "mse", t.optimizer, ema=0.5).slots
        t.fit(X, y, 2)
    assert np.array_equal(p.raw.averaged_net().params, p.plain.averaged_net().params)


def predict(p, tmp_path):
    close(p.raw.predict(p.X), p.plain.predict(p.Z) * p.scale + p.mean)
    close(p.raw.predict(p.X[:1]), p.raw.predict(p.X)[:1])


def forward(p, tmp_path):
    """Its link is predict's: of mse there is none."""
    assert np.array_equal(p.raw.forward(p.X), p.raw.predict(p.X))


def activations(p, tmp_path):
    assert np.array_equal(p.raw.activations(p.X), p.plain.activations(p.Z))


def gradients(p, tmp_path):
    (mine, grads), (theirs, others) = p.raw.gradients(p.X, p.y), p.plain.gradients(p.Z, p.t)
    assert mine == theirs
    for (dw, db), (other_dw, other_db) in zip(grads, others, strict=True):
        assert np.array_equal(dw, other_dw) and np.array_equal(db, other_db)


def gradients_from(p, tmp_path):
    """Of a loss of the raw predictions: of the prepared ones it has scale times the gradient."""
    g = np.cos(p.X[:, :1])
    for (a, c), (b, d) in zip(
        p.raw.gradients_from(p.X, g), p.plain.gradients_from(p.Z, g * p.scale), strict=True
    ):
        close(a, b), close(c, d)


def input_gradients(p, tmp_path):
    """How raw predictions change with raw columns."""
    close(p.raw.input_gradients(p.X), p.plain.input_gradients(p.Z) * p.scale / p.raw.preparation.scale)


def lr_find(p, tmp_path):
    found, other = p.raw.lr_find(p.X, p.y, steps=9), p.plain.lr_find(p.Z, p.t, steps=9)
    assert np.array_equal(found.losses, other.losses)


def explain(p, tmp_path):
    """Of the network alone, on random numbers: no column is looked at."""
    assert p.raw.explain(0.01).net == p.plain.explain(0.01).net


def diagnose(p, tmp_path):
    assert str(p.raw.diagnose(p.X, p.y)) == str(p.plain.diagnose(p.Z, p.t))


def save(p, tmp_path):
    p.raw.save(tmp_path / "m.safetensors")
    again = fb.load(tmp_path / "m.safetensors")
    assert np.array_equal(again.predict(p.X), p.raw.predict(p.X))
    assert again.evaluate(p.X, p.y) == p.raw.evaluate(p.X, p.y)


def to_torch(p, tmp_path):
    torch = pytest.importorskip("torch")
    assert np.allclose(p.raw.to_torch()(torch.from_numpy(p.X)).detach(), p.raw.forward(p.X), rtol=1e-9)


def to_onnx(p, tmp_path):
    reference = pytest.importorskip("onnx.reference")
    for link in (True, False):
        p.raw.to_onnx(tmp_path / "m.onnx", link=link)
        [out] = reference.ReferenceEvaluator(str(tmp_path / "m.onnx")).run(None, {"X": p.X.astype("f8")})
        assert np.allclose(out, (p.raw.predict if link else p.raw.forward)(p.X), rtol=1e-4)


def to_c(p, tmp_path):
    cc = shutil.which("cc") or pytest.skip("needs a C compiler")
    for link in (True, False):
        source, library = tmp_path / f"m{link}.c", tmp_path / f"m{link}.so"
        p.raw.to_c(source, link=link)
        subprocess.run([cc, "-std=c99", "-shared", "-fPIC", source, "-o", library], check=True)
        predict, out = ctypes.CDLL(str(library)).predict, np.empty((len(p.X), p.raw.net.sizes[-1]))
        for row, y in zip(np.ascontiguousarray(p.X), out, strict=True):
            predict(ctypes.c_void_p(row.ctypes.data), ctypes.c_void_p(y.ctypes.data))
        assert np.allclose(out, (p.raw.predict if link else p.raw.forward)(p.X), rtol=1e-9)


CASES = {case.__name__: case for case in (
    fit, train_on_batch, partial_fit, evaluate, averaged_net, predict, forward, activations, gradients,
    lr_find, explain, diagnose, save, to_torch, to_onnx, to_c, gradients_from, input_gradients)}  # fmt: skip


@pytest.mark.parametrize("method", [n for n, _ in inspect.getmembers(fb.Trainer, callable) if n[0] != "_"])
def test_every_method_of_a_trainer_with_a_preparation(rng, tmp_path, method):
    """A new method has no case, and fails."""
    CASES[method](pair(rng), tmp_path)


SEVERAL = [(fb.losses.Quantile((0.1, 0.5, 0.9)), 6, 2), (fb.losses.GaussianNLL(), 4, 2)]


@pytest.mark.parametrize("loss,outputs,targets", SEVERAL, ids=["quantile", "gaussian_nll"])
@pytest.mark.parametrize("case", [forward, save, to_onnx, to_c], ids=lambda case: case.__name__)
def test_losses_with_several_outputs_a_target(rng, tmp_path, loss, outputs, targets, case):
    p = pair(rng, loss, outputs, targets)
    p.raw.fit(p.X, p.y, 2), p.plain.fit(p.Z, p.t, 2)
    same_weights(p)
    plain, found, half = p.plain.predict(p.Z), p.raw.predict(p.X), outputs // 2
    if loss.name == "quantile":
        close(found, plain * np.repeat(p.scale, 3) + np.repeat(p.mean, 3))
        close(p.raw.evaluate(p.X, p.y, metrics="mae")["mae"], metrics.mae(np.repeat(p.y, 3, axis=1), found))
        case(p, tmp_path)
        return
    close(found[:, :half], plain[:, :half] * p.scale + p.mean)
    close(found[:, half:], plain[:, half:] * p.scale**2)
    z = p.raw.forward(p.X)
    close(np.hstack([z[:, :half], np.exp(z[:, half:])]), found)
    if case is not forward:
        case(p, tmp_path)


def test_a_frame_is_read_by_the_names_of_the_fit_where_the_preparation_has_none(rng):
    p = pair(rng)
    names = ["a", "b", "c"]
    p.raw.fit(Frame(names, list(p.X.T)), p.y)
    swapped = Frame(names[::-1], list(p.X.T[::-1]))
    assert np.array_equal(p.raw.predict(swapped), p.raw.predict(p.X))


@pytest.mark.parametrize("method", ["fit", "partial_fit", "train_on_batch"])
def test_columns_have_the_names_of_the_first_rows_however_it_is_trained(rng, method):
    X, y = rng.standard_normal((20, 2)), rng.standard_normal(20)
    t = fb.Trainer(fb.MLP([2, 1], seed=0), "mse", seed=0)
    with pytest.raises(ValueError, match="y: got 19 rows"):
        getattr(t, method)(Frame(["p", "q"], list(X.T)), y[:19])
    assert t.columns is None
    getattr(t, method)(Frame(["a", "b"], list(X.T)), y)
    assert np.array_equal(t.predict(Frame(["b", "a"], list(X.T[::-1]))), t.predict(X))
    getattr(t, method)(X, y)
    assert t.columns == ["a", "b"]
    with pytest.raises(ValueError, match="X: got two named 'a', takes columns whose names differ"):
        getattr(fb.Trainer(fb.MLP([2, 1]), "mse"), method)(Frame(["a", "a"], list(X.T)), y)


def test_exports_take_inputs_whose_names_differ(rng, tmp_path):
    X = Frame(["k", "k=u"], [np.array(["u", "v"] * 9), rng.normal(size=18)])
    t = fb.Trainer(fb.MLP([3, 1], seed=0), "mse")
    t.preparation = Preparation.fit(X, rng.normal(size=(18, 1)))
    for export in (t.to_onnx, t.to_c):
        with pytest.raises(ValueError, match="X: got two named 'k=u', takes inputs whose names differ"):
            export(tmp_path / "m")


def test_self_training_of_labels_and_frames_with_a_preparation(rng):
    """A class is not its place: of the classes 1 and 2 the place 1 is the label 2."""
    X = rng.normal(50, 10, (200, 2))
    y = 1 + (X[:, 0] > 50)
    frame = lambda rows: Frame(["a", "b"], list(X[rows].T))  # noqa: E731
    for of in (frame, lambda rows: X[rows]):
        t = fb.Trainer(fb.MLP([2, 8, 2], seed=0), optimizer=fb.Adam(0.03), seed=0)
        t.preparation = Preparation.fit(X, names=["a", "b"], classes=[1, 2])
        known, more = slice(0, 60), slice(60, None)
        labels, histories = fb.self_training(t, of(known), y[known], of(more), threshold=0.9, epochs=30)
        sure = labels >= 0
        assert len(histories) > 1 and sure.mean() > 0.5
        assert np.mean(np.array([1, 2])[labels[sure]] == y[more][sure]) > 0.9
        assert t.evaluate(of(more), y[more])["accuracy"] > 0.9


def test_what_decodes_gives_the_units_of_what_was_encoded(rng):
    X = rng.normal(50, 10, (40, 4))
    coder = fb.Autoencoder([4, 2], seed=0, dtype="float64")
    coder.trainer.preparation = Preparation.fit(X, X)
    coder.fit(X, 3)
    close(coder.decode(coder.encode(X)), coder.reconstruct(X))


def test_elm_takes_no_preparation(rng):
    X = rng.normal(50, 10, (40, 2))
    elm = fb.ELM([2, 5, 1], task="regression", seed=0)
    elm.trainer.preparation = Preparation.fit(X, X[:, :1])
    with pytest.raises(ValueError, match="trainer: has a preparation"):
        elm.fit(X, X[:, 0])
