"""Estimators as files, exports, and networks with more than dense layers."""

import ctypes
import pickle
import re
import shutil
import subprocess

import numpy as np
import pytest

sklearn = pytest.importorskip("sklearn")
from sklearn.base import clone  # noqa: E402
from sklearn.exceptions import ConvergenceWarning, NotFittedError  # noqa: E402
from sklearn.utils.estimator_checks import estimator_checks_generator  # noqa: E402

import fastbp as fb  # noqa: E402
from fastbp.sklearn import MLPAutoencoder, MLPClassifier, MLPRegressor, tabular  # noqa: E402

pytestmark = pytest.mark.filterwarnings(f"ignore::{ConvergenceWarning.__module__}.ConvergenceWarning")
SMALL = {"hidden_layer_sizes": (7, 7), "max_iter": 4, "random_state": 0, "batch_size": 16}
RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 5))
CODES = np.column_stack([X, RNG.integers(0, 6, 60), RNG.integers(0, 3, 60)])
NUMBERS = X[:, 0] - X[:, 1] ** 2
THREE = np.array(["ace", "king", "Königin"])[np.digitize(X[:, 0], [-0.5, 0.5])]
RICH = {
    "norm": ["layer", "batch"],
    "residual": [False, True],
    "embeddings": {5: (6, 3), 6: (3, 1)},
    "ema": 0.9,
}


def frame():
    pandas = pytest.importorskip("pandas")
    town = np.where(X[:, 1] > 0, "Oslo", np.where(X[:, 2] > 0, "Bergen", None))
    table = pandas.DataFrame({"year": 2010 + X[:, 4], "size": X[:, 0], "town": town, "one": X[:, 3] > 0})
    table.loc[::7, "size"] = np.nan
    table["day"] = pandas.Timestamp("2020-02-03") + pandas.to_timedelta(np.arange(60) ** 2, "h")
    table["cost"] = [f"${1000 + 7 * i * i:,}" for i in range(60)]
    return table


# name: (what makes it, X, y)
MODELS = {
    "labels of text": (lambda: MLPClassifier(**SMALL), X, THREE),
    "labels of objects": (lambda: MLPClassifier(**SMALL), X, THREE.astype(object)),
    "two labels": (lambda: MLPClassifier(**SMALL), X, np.where(X[:, 0] > 0, 7, -3)),
    "bool": (lambda: MLPClassifier(**SMALL, class_weight={True: 2.0, False: 1}), X, X[:, 0] > 0),
    "several labels": (lambda: MLPClassifier(**SMALL), X, (X[:, :3] > 0).astype(int)),
    "one against the rest": (lambda: MLPClassifier(**SMALL, loss=fb.losses.Focal(gamma=1.5)), X, THREE),
    "hinge": (lambda: MLPClassifier(**SMALL, loss="hinge", optimizer=fb.AdamW(0.01)), X, THREE),
    "early stopping": (lambda: MLPClassifier(**SMALL, early_stopping=True), X, THREE),
    "lbfgs": (lambda: MLPClassifier(**SMALL, solver="lbfgs", norm="layer"), X, THREE),
    "numbers": (lambda: MLPRegressor(**SMALL), X, NUMBERS),
    "two numbers": (lambda: MLPRegressor(**SMALL, solver="sgd"), X, X[:, :2]),
    "poisson": (lambda: MLPRegressor("poisson", **SMALL), X, np.abs(NUMBERS)),
    "deviations": (lambda: MLPRegressor("gaussian_nll", **SMALL, dtype="float32"), X, NUMBERS),
    "rich": (lambda: MLPClassifier(**SMALL, **RICH), CODES, THREE),
    "rich numbers": (lambda: MLPRegressor(**SMALL, **RICH, dtype="float32"), CODES, NUMBERS),
    "preset": (lambda: MLPClassifier(max_iter=3, preset="tabular", random_state=0), frame, THREE),
    "preset of numbers": (lambda: MLPRegressor(max_iter=3, preset="tabular", random_state=0), frame, NUMBERS),
    "names": (lambda: MLPRegressor(**SMALL, embeddings={"one": (2, 2)}),
              lambda: frame()[["year", "one"]].astype(float) - [2010, 0], NUMBERS),
    "autoencoder": (
        lambda: MLPAutoencoder((7, 3), norm="batch", ema=0.5, random_state=0, max_iter=4), X, None,
    ),
}  # fmt: skip


@pytest.fixture(params=MODELS)
def fitted(request):
    made, data, y = MODELS[request.param]
    data = data() if callable(data) else data
    return made().fit(data, y), data, y


def outputs(model, data):
    """What it says of data, as one array of numbers."""
    if isinstance(model, MLPAutoencoder):
        return model.reconstruct(data)
    return model.predict_proba(data) if hasattr(model, "predict_proba") else np.asarray(model.predict(data))


def same(one, other):
    if isinstance(one, np.ndarray):
        return type(one) is type(other) and one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, (list, tuple)):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return one == other or (one != one and other != other)


def test_save_and_load(fitted, tmp_path):
    """All parameters and fitted attributes, predictions to the bit; and no code."""
    model, data, _ = fitted
    model.save(tmp_path / "m.safetensors")
    again = type(model).load(tmp_path / "m.safetensors")
    assert np.array_equal(outputs(again, data), outputs(model, data))
    mine, theirs = model.get_params(), again.get_params()
    assert mine.keys() == theirs.keys() and all(same(v, theirs[k]) for k, v in mine.items())
    public = {k: v for k, v in vars(model).items() if not k.startswith("_") and k not in mine}
    assert public and all(same(v, getattr(again, k)) for k, v in public.items())
    assert vars(model).keys() == vars(again).keys()
    again.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "m.safetensors").read_bytes()
    trainer = fb.load(tmp_path / "m.safetensors")
    assert np.array_equal(trainer.net.params, model._trainer.net.params)


def test_what_was_loaded_goes_on_to_the_bit(tmp_path):
    for way in ("partial_fit", "warm_start"):
        for kind, y in ((MLPClassifier, THREE), (MLPRegressor, NUMBERS)):
            model = kind(**SMALL, **RICH, warm_start=way == "warm_start")
            model.fit(CODES, y)
            model.save(tmp_path / "m.safetensors")
            again = kind.load(tmp_path / "m.safetensors", threads=1)
            for one in (model, again):
                (one.partial_fit if way == "partial_fit" else one.fit)(CODES, y)
            assert np.array_equal(outputs(model, CODES), outputs(again, CODES)) and again.threads == 1
            assert model.loss_curve_ == again.loss_curve_ and model.t_ == again.t_


def test_what_no_file_holds_is_refused_by_name(tmp_path):
    path = tmp_path / "m.safetensors"
    for options, says in [
        ({"callbacks": [fb.TerminateOnNaN()]}, "callbacks: got .*, which a file does not hold"),
        ({"random_state": np.random.RandomState(0)}, "random_state: got RandomState"),
    ]:
        model = MLPRegressor(**{**SMALL, **options}).fit(X, NUMBERS)
        with pytest.raises(TypeError, match=says):
            model.save(path)
        assert not path.exists()
        model.set_params(**dict.fromkeys(options)).save(path)
        assert np.array_equal(MLPRegressor.load(path).predict(X), model.predict(X))
        path.unlink()
    for write in (lambda m: m.save(path), lambda m: m.to_c(path), lambda m: m.to_onnx(path)):
        with pytest.raises(NotFittedError):
            write(MLPRegressor())
    assert not path.exists()


def test_files_that_are_no_estimator(tmp_path):
    import json

    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    path = tmp_path / "m.safetensors"
    fb.Trainer(fb.MLP([3, 2], seed=0)).save(path)
    with pytest.raises(ValueError, match="holds no MLPClassifier .'estimator'"):
        MLPClassifier.load(path)
    MLPRegressor(**SMALL).fit(X, NUMBERS).save(path)
    with pytest.raises(ValueError, match="holds a MLPRegressor, takes a MLPClassifier"):
        MLPClassifier.load(path)
    with safe_open(path, "numpy") as file:
        good = json.loads(file.metadata()["fastbp"])
    del good["sha256"]
    tensors = load_file(path)
    for part, name, value, says in [
        ("fitted", "predict", 1, "got 'predict' for a fitted attribute"),
        ("fitted", "alpha", 1, "got 'alpha' for a fitted"), ("fitted", "__class__", 1, "got '__class__'"),
        ("fitted", "n_iter_", {"os": []}, "'os'"), ("fitted", "n_iter_", {"array": ["V8", [], [0]]}, "V8"),
        ("parameters", "evil", 1, "unexpected keyword"), ("parameters", "alpha", -1, "alpha: got -1"),
        ("parameters", "optimizer", {"optimizer": {"name": "os.system"}}, "os.system"),
    ]:  # fmt: skip
        bad = {**good["estimator"], part: {**good["estimator"][part], name: value}}
        save_file(tensors, path, {"fastbp": json.dumps({**good, "estimator": bad})})
        with pytest.raises(ValueError, match=f"holds no MLPRegressor .*{says}"):
            MLPRegressor.load(path)
    for name in ("_unit", "best_loss_", "n_outputs_"):
        for value in ([], ["?"]):  # gone, or of another type
            fitted = {k: v for k, v in good["estimator"]["fitted"].items() if k != name}
            fitted |= dict.fromkeys([name] * len(value), "?")
            bad = {**good["estimator"], "fitted": fitted}
            save_file(tensors, path, {"fastbp": json.dumps({**good, "estimator": bad})})
            with pytest.raises(ValueError, match=f"holds no MLPRegressor .{name}: got '"):
                MLPRegressor.load(path)
    save_file(tensors, path, {"fastbp": json.dumps(good)})
    assert MLPRegressor.load(path).predict(X).shape == (60,)


# --- exports


def exported_inputs(model, data):
    """What an export takes: X, or with a preset the encoded columns."""
    if vars(model).get("_table") is None:
        return np.asarray(data, float)
    return model._table._encode(tabular._table(data)[0])


def network_outputs(model, data):
    made = model._trainer.predict(model._features(data, reset=False))
    if vars(model).get("_unit") is not None:
        mean, scale, low, high = model._unit
        return np.clip(made * scale + mean, low, high)
    return made


def test_exports_give_what_the_estimator_predicts(fitted, tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    model, data, _ = fitted
    given, wanted = exported_inputs(model, data), network_outputs(model, data)
    model.to_onnx(tmp_path / "m.onnx")
    session = runtime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    kind = {"tensor(float)": "f4", "tensor(double)": "f8"}[session.get_inputs()[0].type]
    [got] = session.run(["Y"], {"X": given.astype(kind)})
    size = np.abs(wanted).max()
    assert np.abs(got - wanted).max() < 3e-6 * size
    if shutil.which("cc") is None:
        return
    model.to_c(tmp_path / "m.c", "model")
    done = subprocess.run(["cc", "-std=c99", "-Wall", "-Werror", "-shared", "-fPIC", "-O1", tmp_path / "m.c",
                           "-o", tmp_path / "m.so"], capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    kinds = re.search(r"^void model\(const (\w+) \*x, (\w+) \*y\);", (tmp_path / "m.c").read_text(), re.M)
    taken, gives = ({"float": "f4", "double": "f8"}[k] for k in kinds.groups())
    function, out = ctypes.CDLL(str(tmp_path / "m.so")).model, np.empty(wanted.shape, gives)
    for row, y in zip(np.ascontiguousarray(given, taken), out, strict=True):
        function(row.ctypes.data_as(ctypes.c_void_p), y.ctypes.data_as(ctypes.c_void_p))
    assert np.abs(out - wanted).max() < 3e-6 * size


def test_exports_know_names_and_labels(tmp_path):
    onnx = pytest.importorskip("onnx")
    model = MLPClassifier(max_iter=3, preset="tabular", random_state=0).fit(frame(), THREE)
    model.to_onnx(tmp_path / "m.onnx")
    facts = {p.key: p.value for p in onnx.load(tmp_path / "m.onnx").metadata_props}
    assert facts["classes"] == '["K\\u00f6nigin", "ace", "king"]' and '"town_Oslo"' in facts["inputs"]
    model.to_c(tmp_path / "m.c")
    text = (tmp_path / "m.c").read_text()
    assert '"ace"' in text and "x[0] year" in text


# --- norm, residual, embeddings, ema


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor, MLPAutoencoder])
def test_new_parameters_follow_scikit_learns_conventions(kind):
    given = {"norm": ["layer", None], "residual": [False, True], "ema": 0.9}
    if kind is not MLPAutoencoder:
        given["embeddings"] = {5: (6, 3), 6: (3, 1)}
    model = kind(**given)
    assert {name: model.get_params()[name] for name in given} == given
    assert clone(model).get_params() == model.get_params() and repr(model)
    if kind is MLPAutoencoder:
        return
    model.set_params(**SMALL).fit(CODES, THREE if kind is MLPClassifier else NUMBERS)
    y = THREE if kind is MLPClassifier else NUMBERS
    for other in (pickle.loads(pickle.dumps(model)), clone(model).fit(CODES, y)):
        assert np.array_equal(other.predict(CODES), model.predict(CODES))
    net = model._trainer.net
    assert net.norms == ["layer", None] and net.skips == [False, True] and len(net.embeddings) == 2
    assert model._trainer.ema == 0.9
    assert not np.array_equal(model._trainer.predict(CODES), model._trainer.predict(CODES, ema=False))


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_scikit_learns_checks_pass_with_them(kind):
    model = kind(hidden_layer_sizes=(8, 8), norm="layer", residual=[False, True], ema=0.5, max_iter=20)
    names = "pickle idempotent dict_unchanged fit2d_1feature n_features_in sample_weight_equivalence_on_dense"
    found = [(made, check) for made, check in estimator_checks_generator(model)
             if any(name in str(check) for name in names.split())]  # fmt: skip
    assert len(found) >= 6
    for made, check in found:
        check(made)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_they_help_as_they_should():
    """Against the same network by a Trainer: embeddings learn what numbers of categories do not say."""
    wanted = np.array([3.0, -2, 5, 0, 1, -4])[CODES[:, 5].astype(int)]
    model = MLPRegressor(hidden_layer_sizes=(8,), embeddings={5: (6, 4)}, max_iter=2000, tol=0, ema=0.9,
                         learning_rate_init=0.01, n_iter_no_change=2000, random_state=0)  # fmt: skip
    assert model.fit(CODES, wanted).score(CODES, wanted) > 0.98


def test_early_stopping_keeps_the_best_average():
    model = MLPClassifier(
        **{**SMALL, "max_iter": 30, "learning_rate_init": 0.1}, ema=0.8, early_stopping=True
    )
    seen = []
    model.set_params(callbacks=[fb.LambdaCallback(on_epoch_end=lambda e, logs: seen.append(
        model._trainer.predict(X)))])  # fmt: skip
    model.fit(X, THREE)
    best = int(np.argmax(model.validation_scores_))
    assert np.array_equal(model.predict_proba(X), seen[best])


def test_what_does_not_fit_is_said():
    for options, says in [
        ({"norm": "batches"}, "norm: got 'batches'"), ({"residual": "yes"}, "residual"),
        ({"ema": 2}, "ema: got 2"), ({"embeddings": {9: (2, 2)}}, "got column 9"),
        ({"embeddings": {"town": (2, 2)}}, "embeddings: got 'town'"),
        ({"solver": "lbfgs", "ema": 0.9}, "ema: got 0.9 with solver='lbfgs'"),
        ({"solver": "lbfgs", "norm": ["batch", None]}, "norm: got .* with solver='lbfgs'"),
        ({"preset": "tabular", "embeddings": {1: (2, 2)}}, "with a preset, takes None there"),
    ]:  # fmt: skip
        with pytest.raises((ValueError, TypeError), match=says):
            MLPRegressor(**{**SMALL, **options}).fit(X, NUMBERS)
    model = MLPRegressor(**SMALL, warm_start=True).fit(X, NUMBERS)
    with pytest.raises(ValueError, match="warm_start: the network was made with .*'norm': None"):
        model.set_params(norm="layer").fit(X, NUMBERS)


def test_lbfgs_refuses_batch_norm():
    """Its steps leave the running statistics as they were, and predict takes these."""
    trainer = fb.Trainer(fb.MLP([5, 4, 1], norm="batch", seed=0), "mse", fb.LBFGS())
    with pytest.raises(ValueError, match="norm: got 'batch' with LBFGS, takes None or 'layer'"):
        trainer.fit(X, NUMBERS)
