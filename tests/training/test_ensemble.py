"""Ensemble: the mean and the spread of its members' own predictions, in Python, in files, in exports."""

import copy
import ctypes
import json
import os
import pickle
import re
import shutil
import subprocess

import damage
import numpy as np
import pytest

import fastbp as fb
from fastbp.preparation import Preparation

CC = shutil.which("cc")
LOSSES = {  # name: (loss, outputs, draws targets)
    "cross_entropy": (fb.losses.CrossEntropy(label_smoothing=0.1), 3, lambda r, n: r.integers(0, 3, n)),
    "label_focal": ("focal", 3, lambda r, n: r.integers(0, 3, n)),
    "bce_with_logits": ("bce_with_logits", 2, lambda r, n: r.integers(0, 2, (n, 2))),
    "one_output": ("bce_with_logits", 1, lambda r, n: r.integers(0, 2, n)),
    "hinge": ("hinge", 3, lambda r, n: r.integers(0, 3, n)),
    "mse": ("mse", 2, lambda r, n: r.standard_normal((n, 2))),
    "mae": ("mae", 1, lambda r, n: r.standard_normal(n)),
    "poisson_nll": ("poisson_nll", 1, lambda r, n: r.poisson(2.0, n)),
    "quantile": (fb.losses.Quantile((0.1, 0.5, 0.9)), 3, lambda r, n: r.standard_normal(n)),
    "ordered": (fb.losses.Quantile((0.1, 0.5, 0.9), ordered=True), 6, lambda r, n: r.normal(size=(n, 2))),
    "gaussian_nll": ("gaussian_nll", 4, lambda r, n: r.standard_normal((n, 2))),
    "cosine": ("cosine", 3, lambda r, n: r.standard_normal((n, 3))),
}
OF_CLASSES = ("cross_entropy", "label_focal", "bce_with_logits", "one_output")


def members(loss, outputs, inputs=5, dtype="float32", **options):
    """Networks of several widths, depths and kinds."""
    nets = [
        fb.MLP([inputs, 8, outputs], seed=1, dtype=dtype),
        fb.MLP(
            [inputs, 17, 17, outputs], ["tanh", "prelu"], norm="layer", residual=True, seed=2, dtype=dtype
        ),
        fb.MLP([inputs, 12, outputs], "gelu", norm="batch", dropout=0.1, seed=3, dtype=dtype),
    ]
    return [fb.Trainer(net, loss, seed=i, **options) for i, net in enumerate(nets)]


def fitted(name, rng, dtype="float32", prepared=False, **options):
    """(Ensemble, X, y) after two epochs."""
    loss, outputs, targets = LOSSES[name]
    X, y = rng.standard_normal((90, 5)).astype("f4"), targets(rng, 90)
    trainers = members(loss, outputs, dtype=dtype, **options)
    if prepared:
        X = 30 * X + 2000
        y = 100 * y + 7 if y.dtype.kind == "f" else y
        preparation = Preparation.fit(X, y if y.dtype.kind == "f" else None)
        for trainer in trainers:
            trainer.preparation = copy.deepcopy(preparation)
    ensemble = fb.Ensemble(trainers)
    ensemble.fit(X, y, epochs=2, verbose=0)
    return ensemble, X, y


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_it_predicts_the_mean_of_its_members(rng, name, prepared, dtype):
    ensemble, X, _ = fitted(name, rng, dtype, prepared)
    each = np.stack([trainer.predict(X) for trainer in ensemble.trainers]).astype("f8")
    got = ensemble.predict(X)
    assert got.dtype == ensemble.trainers[0].predict(X).dtype
    tight = {
        "rtol": 1e-6 if got.dtype == "f4" else 1e-12,
        "atol": 1e-6 * np.abs(each).max() * (got.dtype == "f4"),
    }
    if name == "gaussian_nll":
        means, variances = each[..., :2], each[..., 2:]
        variance = variances.mean(axis=0) + means.var(axis=0)
        np.testing.assert_allclose(got, np.hstack([means.mean(axis=0), variance]), **tight)
        mean, deviation = ensemble.predict(X, return_std=True)
        np.testing.assert_allclose(deviation, np.sqrt(variance), **tight)
        np.testing.assert_array_equal(mean, got[:, :2])
        return
    np.testing.assert_allclose(got, each.mean(axis=0), **tight)
    if name in OF_CLASSES:
        with pytest.raises(ValueError, match="return_std: got True with .*, a loss of classes, takes False"):
            ensemble.predict(X, return_std=True)
        return
    mean, deviation = ensemble.predict(X, return_std=True)
    np.testing.assert_allclose(mean, got, **tight)
    np.testing.assert_allclose(deviation, each.std(axis=0), rtol=1e-5, atol=tight["atol"] or 1e-12)
    assert mean.dtype == deviation.dtype == got.dtype


@pytest.mark.parametrize("name", LOSSES)
def test_disagreement_is_the_mean_divergence_from_the_mean(rng, name):
    ensemble, X, _ = fitted(name, rng)
    if name not in OF_CLASSES:
        with pytest.raises(ValueError, match="disagreement: got the loss"):
            ensemble.disagreement(X)
        return
    p = np.stack([trainer.predict(X) for trainer in ensemble.trainers]).astype("f8")
    p = p if name in ("cross_entropy", "label_focal") else np.stack([p, 1 - p], axis=-1)
    wanted = (p * np.log(p / p.mean(axis=0))).sum(axis=-1).mean(axis=0)  # KL(member || mean)
    got = ensemble.disagreement(X)
    assert got.dtype == "f8" and got.shape == ((90, 2) if name == "bce_with_logits" else (90,))
    np.testing.assert_allclose(got, wanted.reshape(got.shape), atol=1e-6)
    assert (got >= 0).all() and got.max() < np.log(3) and got.max() > 1e-3


def test_members_that_say_the_same_do_not_disagree(rng):
    trainers = [fb.Trainer(fb.MLP([4, 3], seed=0), seed=0) for _ in range(3)]
    X = rng.standard_normal((20, 4))
    assert fb.Ensemble(trainers).disagreement(X).max() < 1e-12
    for trainer, label in zip(trainers, range(3), strict=True):  # each is sure of another class
        trainer.net.params[:] = 0
        trainer.net.biases[0][label] = 60
    np.testing.assert_allclose(fb.Ensemble(trainers).disagreement(X), np.log(3), rtol=1e-9)


def losses_of(name, predicted, y):
    """The mean loss of predictions, where it is quickly said."""
    rows, y = np.arange(len(y)), np.asarray(y)
    p = predicted.astype("f8")
    if name == "cross_entropy":
        target = 0.9 * np.eye(3)[y] + 0.1 / 3
        return -(target * np.log(p)).sum(axis=1).mean()
    if name == "label_focal":
        return (-((1 - p[rows, y]) ** 2) * np.log(p[rows, y])).mean()
    y = y.reshape(len(y), -1)
    if name in ("bce_with_logits", "one_output"):
        return -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
    if name in ("mse", "mae"):
        return (np.abs(p - y) ** (2 if name == "mse" else 1)).mean()
    if name == "poisson_nll":
        return (p - y * np.log(p)).mean()
    if name in ("quantile", "ordered"):
        q, p = np.array([0.1, 0.5, 0.9]), p.reshape(len(y), -1, 3)
        apart = y[:, :, None] - p
        return np.maximum(q * apart, (q - 1) * apart).mean()
    if name == "gaussian_nll":
        return (0.5 * (np.log(p[:, 2:]) + (y - p[:, :2]) ** 2 / p[:, 2:])).mean()
    return None


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_evaluate_has_the_loss_of_the_mean_prediction(rng, name, prepared):
    ensemble, X, y = fitted(name, rng, prepared=prepared)
    scores = ensemble.evaluate(X, y, metrics=["mae"] if name == "mse" else None)
    predicted, first = ensemble.predict(X), ensemble.trainers[0]
    targets = y
    if prepared and y.dtype.kind == "f":  # the loss is of the standardised target
        preparation = first.preparation
        targets = preparation.targets(y)
        shift, scale = preparation.y_mean, preparation.y_scale
        each = predicted.shape[1] // len(shift)
        if name == "gaussian_nll":
            predicted = np.hstack([(predicted[:, :2] - shift) / scale, predicted[:, 2:] / scale**2])
        else:
            predicted = (predicted - np.repeat(shift, each)) / np.repeat(scale, each)
    wanted = losses_of(name, predicted, targets)
    if wanted is not None:
        assert scores["loss"] == pytest.approx(wanted, rel=2e-5)
    if name == "mse":
        assert scores["mae"] == pytest.approx(np.abs(ensemble.predict(X) - y).mean(), rel=1e-5)
    if name in ("cross_entropy", "label_focal", "hinge"):
        assert scores["accuracy"] == (ensemble.predict(X).argmax(axis=1) == y).mean()
    if name in ("bce_with_logits", "one_output"):
        assert scores["accuracy"] == ((ensemble.predict(X) > 0.5) == y.reshape(len(y), -1)).mean()
    weight = rng.uniform(0, 2, len(y))
    one = fb.Ensemble([first])
    alone, together = first.evaluate(X, y, weight), one.evaluate(X, y, weight)
    assert together == pytest.approx(alone, rel=2e-5, abs=1e-6)


def test_evaluate_of_sure_members_is_finite(rng):
    """Their probabilities round to 0 and 1."""
    trainers = [
        fb.Trainer(fb.MLP([1, 1], initializer=[([[w]], [0.0])]), "bce_with_logits") for w in (90, 200)
    ]
    X, y = np.array([[1.0], [-1.0]]), np.array([0, 1])
    exact = -np.mean(np.log((np.exp(-90.0) + np.exp(-200.0)) / 2))
    assert fb.Ensemble(trainers).evaluate(X, y)["loss"] == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("name", ["poisson_nll", "mse", "cross_entropy", "ordered"])
def test_offsets_are_those_of_each_member(rng, name):
    loss, outputs, targets = LOSSES[name]
    X, y = rng.standard_normal((60, 5)), targets(rng, 60)
    ensemble = fb.Ensemble(members(loss, outputs))
    offset = (
        rng.standard_normal(60)
        if outputs == 1
        else rng.standard_normal((60, 2 if name == "ordered" else outputs))
    )
    ensemble.fit(X, y, epochs=1, offset=offset, verbose=0)
    each = [trainer.predict(X, offset=offset) for trainer in ensemble.trainers]
    np.testing.assert_allclose(
        ensemble.predict(X, offset=offset), np.mean(each, axis=0), rtol=1e-5, atol=1e-6
    )
    one = fb.Ensemble(ensemble.trainers[:1])
    alone = ensemble.trainers[0].evaluate(X, y, offset=offset)
    assert one.evaluate(X, y, offset=offset) == pytest.approx(alone, rel=2e-5)


def test_fit_is_fit_many_and_bootstrap_draws_by_seed_and_place(rng):
    X, y = rng.standard_normal((80, 5)), rng.integers(0, 3, 80)
    make = lambda: members("cross_entropy", 3)  # noqa: E731
    one, other = fb.Ensemble(make()), make()
    histories = one.fit(X, y, [3, 1, 2], verbose=0)
    fb.fit_many(other, X, y, epochs=[3, 1, 2], verbose=0)
    assert [h.epochs for h in histories] == [3, 1, 2]
    drawn, again, rows = fb.Ensemble(make()), fb.Ensemble(make()), []
    drawn.fit(X, y, 2, bootstrap=True, verbose=0)
    again.fit(X, y, 2, bootstrap=True, verbose=0)
    for i, trainer in enumerate(others := make()):
        rows.append(np.random.default_rng((trainer.seed, i)).integers(0, 80, 80))
        assert 30 < len(set(rows[-1])) < 70
        trainer.fit(X[rows[-1]], y[rows[-1]], 2, verbose=0)
    params = lambda trainers: [t.net.params.tobytes() for t in trainers]  # noqa: E731
    assert params(one.trainers) == params(other)
    assert params(drawn.trainers) == params(again.trainers) == params(others)
    with pytest.raises(ValueError, match="bootstrap: got it and rows, takes one of them"):
        drawn.fit(X, y, bootstrap=True, rows=rows)
    with pytest.raises(TypeError, match="bootstrap: got 'yes', takes True or False"):
        drawn.fit(X, y, bootstrap="yes")


def test_one_that_diverges_does_not_stop_the_others(rng):
    X, y = rng.standard_normal((64, 5)), rng.standard_normal((64, 1))
    trainers = members("mse", 1)
    trainers[0] = fb.Trainer(trainers[0].net, "mse", fb.SGD(1e30), seed=0)
    ensemble = fb.Ensemble(trainers)
    with pytest.warns(RuntimeWarning, match=r"fit: the network at place 0 diverged \(loss"):
        histories = ensemble.fit(X, y, 2, verbose=0)
    assert [h.error is None for h in histories] == [False, True, True]
    left = fb.Ensemble([t for t, h in zip(trainers, histories, strict=True) if h.error is None])
    assert np.isfinite(left.predict(X)).all()


def test_on_any_device(rng, device):
    X, y = rng.standard_normal((12, 5)).astype("f4"), rng.integers(0, 3, 12)
    found = []
    for where in ("cpu", device):
        nets = [fb.MLP([5, width, 3], seed=width) for width in (3, 4)]
        ensemble = fb.Ensemble([fb.Trainer(net, batch_size=8, device=where, seed=0) for net in nets])
        ensemble.fit(X, y, epochs=1, verbose=0)
        found.append((ensemble.predict(X), ensemble.disagreement(X), ensemble.evaluate(X, y)["loss"]))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_x_is_prepared_once(rng, monkeypatch):
    ensemble, X, y = fitted("mse", rng, prepared=True)
    assert len({id(trainer.preparation) for trainer in ensemble.trainers}) == 1
    calls = []

    def transform(self, *args, inner=Preparation.transform):
        calls.append(self)
        return inner(self, *args)

    monkeypatch.setattr(Preparation, "transform", transform)
    ensemble.predict(X)
    ensemble.predict(X, return_std=True)
    assert len(calls) == 2
    ensemble.fit(X, y, verbose=0)
    ensemble.evaluate(X, y, metrics=["rmse"])
    assert len(calls) == 4


def test_names_of_columns(rng):
    pandas = pytest.importorskip("pandas")
    ensemble, X, y = fb.Ensemble(members("mse", 1)), rng.standard_normal((40, 5)), rng.standard_normal(40)
    frame = pandas.DataFrame(X, columns=list("abcde"))
    ensemble.fit(frame, y, verbose=0)
    np.testing.assert_array_equal(ensemble.predict(frame), ensemble.predict(frame[list("edcba")]))
    with pytest.raises(ValueError, match="columns"):
        fb.Ensemble([*ensemble.trainers, *members("mse", 1)])


WRONG = {
    "got inputs 4 at place 1 and 5 at place 0": lambda: fb.Trainer(fb.MLP([4, 2]), "mse"),
    "got outputs 3 at place 1 and 2 at place 0": lambda: fb.Trainer(fb.MLP([5, 3]), "mse"),
    "got the loss MAE.* and MSE": lambda: fb.Trainer(fb.MLP([5, 2]), "mae"),
    "got the dtype 'float64' at place 1": lambda: fb.Trainer(fb.MLP([5, 2], dtype="float64"), "mse"),
    "got embedded columns": lambda: fb.Trainer(fb.MLP([5, 2], embeddings={0: (3, 2)}), "mse"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_go_together_is_refused(what):
    with pytest.raises(ValueError, match=f"trainers: {what}.*takes the same for all"):
        fb.Ensemble([fb.Trainer(fb.MLP([5, 2]), "mse"), WRONG[what]()])


def test_other_wrong_arguments(rng):
    trainer = fb.Trainer(fb.MLP([5, 2]), "mse")
    with pytest.raises(ValueError, match="trainers: got none, takes one or more"):
        fb.Ensemble([])
    with pytest.raises(TypeError, match="trainers: got MLP at place 1, takes a Trainer"):
        fb.Ensemble([trainer, trainer.net])
    with pytest.raises(ValueError, match="trainers: got one Trainer twice"):
        fb.Ensemble([trainer, trainer])
    X = rng.standard_normal((9, 5))
    other = fb.Trainer(fb.MLP([5, 2]), "mse")
    other.preparation = Preparation.fit(X)
    with pytest.raises(ValueError, match="got a preparation Preparation at place 1 and None at place 0"):
        fb.Ensemble([trainer, other])
    third = fb.Trainer(fb.MLP([5, 2]), "mse")
    third.preparation = Preparation.fit(X + 1)
    with pytest.raises(ValueError, match="a preparation"):
        fb.Ensemble([other, third])
    one = fb.Ensemble([trainer])
    with pytest.raises(ValueError, match="return_std: got True with one network, takes two or more"):
        one.predict(X, return_std=True)
    with pytest.raises(ValueError, match="disagreement: got one with one network"):
        fb.Ensemble([fb.Trainer(fb.MLP([5, 2]))]).disagreement(X)
    with pytest.raises(TypeError, match="return_std: got 1, takes True or False"):
        one.predict(X, return_std=1)
    with pytest.raises(ValueError, match="X"):
        one.predict(X[:, :3])
    with pytest.raises(ValueError, match="X: got nan at row 0"):
        one.predict(np.full((2, 5), np.nan))


# --- files


@pytest.mark.parametrize("prepared", [False, True])
def test_a_file_has_all_bits_and_training_goes_on(rng, tmp_path, prepared):
    ensemble, X, y = fitted("gaussian_nll", rng, prepared=prepared, ema=0.9, schedule="plateau")
    ensemble.save(tmp_path / "e.safetensors")
    again = fb.Ensemble.load(tmp_path / "e.safetensors")
    assert len(again) == 3 and repr(again) == repr(ensemble)
    assert len({id(t.preparation) for t in again.trainers}) == 1
    np.testing.assert_array_equal(again.predict(X), ensemble.predict(X))
    for one in (ensemble, again):
        one.fit(X, y, epochs=2, verbose=0)
    for mine, other in zip(ensemble.trainers, again.trainers, strict=True):
        assert mine.net.params.tobytes() == other.net.params.tobytes()
        assert mine.slots.tobytes() == other.slots.tobytes()
        assert (mine.steps, mine.epochs, mine.seed) == (other.steps, other.epochs, other.seed)
    again.save(tmp_path / "f.safetensors")
    ensemble.save(tmp_path / "e.safetensors")
    assert (tmp_path / "e.safetensors").read_bytes() == (tmp_path / "f.safetensors").read_bytes()


def test_files_of_one_and_of_several_are_told_apart(tmp_path):
    trainer = fb.Trainer(fb.MLP([3, 2], seed=0))
    trainer.save(tmp_path / "one")
    fb.Ensemble([trainer]).save(tmp_path / "several")
    with pytest.raises(
        ValueError, match=r"holds an ensemble of 1, takes one network: fb\.Ensemble\.load reads it"
    ):
        fb.load(tmp_path / "several")
    with pytest.raises(ValueError, match=r"holds one network, takes an ensemble: fb\.load reads it"):
        fb.Ensemble.load(tmp_path / "one")


def test_what_load_would_refuse_is_not_written(tmp_path, rng):
    ensemble, X, _ = fitted("mse", rng)
    ensemble.save(tmp_path / "e")
    good = (tmp_path / "e").read_bytes()
    ensemble.trainers[1].net.weights[0][0, 0] = np.nan
    with pytest.raises(ValueError, match=r"member1\.weights\.0 has NaN or inf"):
        ensemble.save(tmp_path / "e")
    assert (tmp_path / "e").read_bytes() == good
    for export in (ensemble.to_c, ensemble.to_onnx):
        with pytest.raises(ValueError, match="NaN or inf"):
            export(tmp_path / "x")
    assert os.listdir(tmp_path) == ["e"]


def test_damaged_files_are_refused(tmp_path, rng):
    """Any bit of it; and members that are odd, which no checksum gives away."""
    ensemble, X, _ = fitted("mse", rng, prepared=True)
    path = tmp_path / "e"
    ensemble.save(path)
    content, (config, tensors) = path.read_bytes(), damage.parts(path)
    for place in [*rng.integers(8, len(content), 40), len(content) - 1]:
        bad = bytearray(content)
        bad[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(bad)
        with pytest.raises(ValueError):
            fb.Ensemble.load(path)
    members = config["members"]
    other = copy.deepcopy(members[0]) | {"loss": {"name": "mae"}}
    for odd in ([], None, 3, {}, "x", members[:2], [*members, members[0]], [members[0], 5, members[2]],
                [*members[:2], members[0]], [other, *members[1:]]):  # fmt: skip
        path.write_bytes(damage.whole(config | {"members": odd}, tensors))
        with pytest.raises(ValueError, match="e: "):
            fb.Ensemble.load(path)
    path.write_bytes(damage.whole(config | {"format": 2}, tensors))
    with pytest.raises(ValueError, match="format 2, this version reads 1"):
        fb.Ensemble.load(path)
    del tensors["member1.weights.0"]
    path.write_bytes(damage.whole(config, tensors))
    with pytest.raises(ValueError, match=r"its arrays are not those of its sizes: member1\.weights\.0"):
        fb.Ensemble.load(path)


def test_copies_and_pickles(rng):
    ensemble, X, _ = fitted("cross_entropy", rng)
    for other in (copy.deepcopy(ensemble), pickle.loads(pickle.dumps(ensemble))):
        np.testing.assert_array_equal(other.predict(X), ensemble.predict(X))
        assert other.trainers[0] is not ensemble.trainers[0]


def test_how_it_is_shown():
    trainers = [fb.Trainer(fb.MLP([4, w, 3], seed=0), seed=0) for w in (8, 8, 16)]
    ensemble = fb.Ensemble(trainers)
    assert repr(ensemble) == "Ensemble(2 of 4-8-3, 4-16-3)"
    ensemble.fit(np.eye(4), [0, 1, 2, 0], epochs=2, verbose=0)
    assert repr(ensemble) == "Ensemble(2 of 4-8-3, 4-16-3) after 6 steps"
    shown = ensemble._repr_html_()
    assert shown.count("<tr>") == 4 and "4-16-3" in shown and "3 networks, loss CrossEntropy()" in shown


# --- exports


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_onnx(rng, tmp_path, name, prepared):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    ensemble, X, _ = fitted(name, rng, prepared=prepared)
    ensemble.to_onnx(tmp_path / "e.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "e.onnx"), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    (got,) = session.run(None, {"X": X.astype("f8" if "double" in given.type else "f4")})
    wanted = ensemble.predict(X)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=3e-6 * np.abs(wanted).max())


@pytest.mark.skipif(CC is None, reason="needs a C compiler")
@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_c(rng, tmp_path, name, prepared):
    ensemble, X, _ = fitted(name, rng, prepared=prepared)
    wanted = ensemble.predict(X)
    np.testing.assert_allclose(
        compiled(ensemble, X, tmp_path), wanted, rtol=1e-4, atol=3e-6 * np.abs(wanted).max()
    )


def compiled(ensemble, X, folder):
    """What the C file gives, row by row."""
    source, library = folder / "m.c", folder / "m.so"
    ensemble.to_c(source, "several")
    flags = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", "-O1", "-shared", "-fPIC"]
    done = subprocess.run([CC, *flags, source, "-o", library], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text = source.read_text()
    assert set(re.findall(r"^static .*?(\w+)[\[(]", text, re.M)) == {
        n for n in re.findall(r"^static .*?(\w+)[\[(]", text, re.M) if n.startswith("several_")
    }
    kinds = re.search(r"^void several\(const (\w+) \*x, (\w+) \*y\);", text, re.M).groups()
    taken, given = ({"float": "f4", "double": "f8"}[kind] for kind in kinds)
    X = np.ascontiguousarray(X, taken)
    out = np.full((len(X), ensemble.trainers[0].net.sizes[-1]), np.nan, given)
    function = ctypes.CDLL(str(library)).several
    function.restype = None
    for row, y in zip(X, out, strict=True):
        function(row.ctypes.data_as(ctypes.c_void_p), y.ctypes.data_as(ctypes.c_void_p))
    return out


@pytest.mark.skipif(CC is None, reason="needs a C compiler")
def test_exports_of_embedded_columns(rng, tmp_path):
    """Each member has tables of its own."""
    X = rng.standard_normal((50, 4)).astype("f4")
    X[:, 2] = rng.integers(0, 6, 50)
    nets = [fb.MLP([4, 9, 3], embeddings={2: (6, width)}, seed=width) for width in (2, 5)]
    ensemble = fb.Ensemble([fb.Trainer(net, seed=0) for net in nets])
    ensemble.fit(X, rng.integers(0, 3, 50), verbose=0)
    wanted = ensemble.predict(X)
    np.testing.assert_allclose(compiled(ensemble, X, tmp_path), wanted, atol=1e-6)
    onnxruntime = pytest.importorskip("onnxruntime")
    ensemble.to_onnx(tmp_path / "e.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "e.onnx"), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"X": X})[0], wanted, atol=1e-6)


def test_names_in_the_exports(rng, tmp_path):
    onnx = pytest.importorskip("onnx")
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(rng.standard_normal((40, 3)), columns=["a", "b", "c"])
    ensemble = fb.Ensemble([fb.Trainer(fb.MLP([3, 4, 2], seed=s), seed=s) for s in range(2)])
    ensemble.fit(frame, rng.integers(0, 2, 40), verbose=0)
    ensemble.to_onnx(tmp_path / "e.onnx")
    facts = {p.key: json.loads(p.value) for p in onnx.load(tmp_path / "e.onnx").metadata_props}
    assert facts == {"inputs": ["a", "b", "c"]}
    ensemble.to_c(tmp_path / "e.c", "two")
    assert "x[1] b" in (tmp_path / "e.c").read_text()
    with pytest.raises(ValueError, match="name: got 'int'"):
        ensemble.to_c(tmp_path / "e.c", "int")
