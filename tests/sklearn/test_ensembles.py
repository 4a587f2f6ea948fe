"""n_ensemble: several networks behind one estimator, which are those that it has alone."""

import copy
import ctypes
import json
import pickle
import shutil
import subprocess
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import BaggingClassifier, BaggingRegressor, VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV

import fastbp as fb
from fastbp.sklearn import MLPClassifier, MLPRegressor, base, together
from fastbp.training import many

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
CC = shutil.which("cc")


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(X))
    return (X[rows] - X.mean(axis=0)) / X.std(axis=0), np.array(["ace", "king", "queen"])[y[rows]]


@pytest.fixture(scope="module")
def diabetes():
    X, y = load_diabetes(return_X_y=True)
    return X[:200] / X.std(axis=0), (y[:200] - y.mean()) / y.std()


def regressor(**options):
    given = {"hidden_layer_sizes": (8,), "max_iter": 4, "random_state": 0, "n_ensemble": 3}
    return MLPRegressor(**{**given, **options})


def classifier(**options):
    given = {"hidden_layer_sizes": (8,), "max_iter": 4, "random_state": 0, "n_ensemble": 3}
    return MLPClassifier(**{**given, **options})


def alone(member):
    """The estimator that makes a member by itself, not fitted."""
    return clone(member)


def params(model):
    return model._trainers()[0].net.params.tobytes()


OPTIONS = {
    "plain": {},
    "bootstrap": {"bootstrap": True},
    "early_stopping": {"early_stopping": True, "max_iter": 12, "n_iter_no_change": 2},
    "both": {"early_stopping": True, "bootstrap": True, "max_iter": 12, "n_iter_no_change": 2},
    "sgd": {"solver": "sgd", "learning_rate": "adaptive"},
    "lbfgs": {"solver": "lbfgs"},
    "lbfgs of drawn rows": {"solver": "lbfgs", "bootstrap": True},
    "preset": {"preset": "tabular", "bootstrap": True, "max_iter": 6},
    "ema": {"ema": 0.9, "dropout": 0.2, "norm": "layer"},
    "own optimizer": {"optimizer": fb.AdamW(0.01), "dtype": "float32"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_each_member_is_what_its_random_state_gives_alone(diabetes, iris, calls, name):
    for make, (X, y) in ((regressor, diabetes), (classifier, iris)):
        model = make(**OPTIONS[name]).fit(X, y)
        assert calls == ([] if "lbfgs" in name else [3])  # one compiled call
        calls.clear()
        assert len({member.random_state for member in model.estimators_}) == 3
        for member in model.estimators_:
            assert member.n_ensemble == 1 and type(member) is type(model)
            other = alone(member).fit(X, y)
            assert params(other) == params(member)
            assert other.n_iter_ == member.n_iter_ and other.loss_ == member.loss_
            np.testing.assert_array_equal(other.predict(X), member.predict(X))
        assert model.n_iter_ == max(member.n_iter_ for member in model.estimators_)


def test_one_network_is_what_it_was(diabetes):
    """No draw of random_state has moved."""
    X, y = diabetes
    one = regressor(n_ensemble=1).fit(X, y)
    assert "estimators_" not in vars(one) and one._trainer.net.weights[0].shape == (10, 8)
    random = np.random.RandomState(0)
    bound = np.sqrt(6 / 18)
    drawn = random.uniform(-bound, bound, (10, 8))
    fresh = regressor(n_ensemble=1, max_iter=1, learning_rate_init=1e-300).fit(X, y)
    np.testing.assert_array_equal(fresh.coefs_[0], drawn)


@pytest.mark.parametrize("make,kind", [(regressor, BaggingRegressor), (classifier, BaggingClassifier)])
def test_seeds_and_means_are_those_of_scikit_learns_bagging(diabetes, iris, make, kind):
    """Without bootstrap it trains the same networks; ours get no weights of ones."""
    X, y = diabetes if make is regressor else iris
    ours = make(random_state=5).fit(X, y)
    theirs = kind(make(n_ensemble=1, random_state=None), 3, bootstrap=False, random_state=5).fit(X, y)
    assert [m.random_state for m in ours.estimators_] == [m.random_state for m in theirs.estimators_]
    if make is regressor:
        np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-6)
    else:
        np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-6)
        np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))


@pytest.mark.parametrize("options", [{}, {"loss": "focal"}, {"loss": fb.losses.Focal(multi_label=True)}])
@pytest.mark.parametrize("labels", [2, 3])
def test_probabilities_are_those_of_a_soft_vote(iris, options, labels):
    X, y = iris
    X, y = (X, y) if labels == 3 else (X[y != "queen"], y[y != "queen"])
    model = classifier(**options).fit(X, y)
    each = [member.predict_proba(X) for member in model.estimators_]
    vote = VotingClassifier([(str(i), m) for i, m in enumerate(model.estimators_)], voting="soft")
    vote.estimators_, vote.classes_ = model.estimators_, model.classes_
    vote.le_ = type("", (), {"inverse_transform": lambda self, places: model.classes_[places]})()
    np.testing.assert_allclose(model.predict_proba(X), np.mean(each, axis=0), rtol=1e-12)
    np.testing.assert_allclose(model.predict_proba(X), vote.predict_proba(X), rtol=1e-12)
    np.testing.assert_array_equal(model.predict(X), vote.predict(X))
    mean = np.mean(each, axis=0)
    wanted = np.mean([(p * np.log(p / mean)).sum(axis=1) for p in each], axis=0)
    np.testing.assert_allclose(model.disagreement(X), wanted, atol=1e-12)


def test_several_answers_and_margins(iris, rng):
    X, _ = iris
    y = rng.integers(0, 2, (len(X), 3))
    model = classifier().fit(X, y)
    each = np.mean([member.predict_proba(X) for member in model.estimators_], axis=0)
    np.testing.assert_allclose(model.predict_proba(X), each)
    np.testing.assert_array_equal(model.predict(X), (each > 0.5).astype(int))
    assert model.disagreement(X).shape == (len(X), 3)
    model = classifier(loss="hinge").fit(*iris)
    each = [member.decision_function(X) for member in model.estimators_]
    np.testing.assert_allclose(model.decision_function(X), np.mean(each, axis=0))
    assert not hasattr(model, "disagreement") and not hasattr(model, "predict_proba")


@pytest.mark.parametrize("preset", [None, "tabular"])
@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("loss", ["squared_error", "gaussian_nll", fb.losses.Quantile(0.9)])
def test_numbers_and_their_deviations(diabetes, loss, outputs, preset):
    X, y = diabetes
    y = 100 * y if outputs == 1 else np.stack([y, 50 - y], axis=1)
    model = regressor(loss=loss, preset=preset).fit(X, y)
    each = np.array([member.predict(X) for member in model.estimators_])
    mean, deviation = model.predict(X, return_std=True)
    np.testing.assert_allclose(mean, each.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(model.predict(X), mean, rtol=1e-12)
    variance = each.var(axis=0)
    if loss == "gaussian_nll":
        own = np.array([member.predict(X, return_std=True)[1] for member in model.estimators_])
        variance += (own**2).mean(axis=0)
    np.testing.assert_allclose(deviation, np.sqrt(variance), rtol=1e-6)
    assert mean.shape == deviation.shape == y.shape


def test_deviation_and_disagreement_of_one_network(diabetes, iris):
    X, y = diabetes
    with pytest.raises(
        ValueError,
        match="return_std: got True with the loss squared_error, takes .gaussian_nll. or n_ensemble",
    ):
        regressor(n_ensemble=1).fit(X, y).predict(X, return_std=True)
    one = regressor(n_ensemble=1, loss="gaussian_nll").fit(X, y)
    outputs = one._trainer.predict(X)
    mean, deviation = one.predict(X, return_std=True)
    np.testing.assert_array_equal(mean, outputs[:, 0])
    np.testing.assert_array_equal(deviation, np.sqrt(outputs[:, 1]))
    with pytest.raises(ValueError, match="disagreement: got one network, takes n_ensemble of 2 or more"):
        classifier(n_ensemble=1).fit(*iris).disagreement(iris[0])


def test_x_is_prepared_once(diabetes, monkeypatch):
    from fastbp.sklearn import TabularPreprocessor

    calls = []

    def transform(self, X, inner=TabularPreprocessor.transform):
        calls.append(self)
        return inner(self, X)

    monkeypatch.setattr(TabularPreprocessor, "transform", transform)
    X, y = diabetes
    model = regressor(preset="tabular").fit(X, y)
    assert len(calls) == 1
    model.predict(X, return_std=True)
    assert len(calls) == 2 and len({id(m._table) for m in model.estimators_}) == 1


def test_weights_and_validation_data_are_for_all(iris):
    X, y = iris
    weight = np.linspace(0, 2, len(X))
    model = classifier(class_weight="balanced", bootstrap=True)
    model.fit(X, y, weight, validation_data=(X[:20], y[:20]))
    for member in model.estimators_:
        other = alone(member).fit(X, y, weight, validation_data=(X[:20], y[:20]))
        assert params(other) == params(member)
        assert len(member.validation_scores_) == len(member.validation_loss_curve_) == 4
        assert member.validation_loss_curve_ == other.validation_loss_curve_


@pytest.mark.parametrize("early_stopping", [False, True])
def test_sparse_rows_are_drawn_in_place(iris, early_stopping):
    """The same as of a dense X, whatever the format."""
    X, y = iris
    X = np.where(np.abs(X) > 0.5, X, 0.0)
    options = {"bootstrap": True, "early_stopping": early_stopping}
    dense = classifier(**options).fit(X, y)
    for make in (sparse.csr_matrix, sparse.csc_array):
        model = classifier(**options).fit(make(X), y)
        one = classifier(**options | {"n_ensemble": 1}).fit(make(X), y)
        np.testing.assert_array_equal(model.predict_proba(make(X)), dense.predict_proba(X))
        other = classifier(**options | {"n_ensemble": 1}).fit(X, y)
        assert params(one) == params(other)


def test_partial_fit_and_warm_start_go_on_with_all(iris):
    X, y = iris
    model, classes = classifier(), np.unique(y)
    others = None
    for _ in range(3):
        model.partial_fit(X, y, classes=classes)
        others = others or [alone(m) for m in model.estimators_]
        for member, other in zip(model.estimators_, others, strict=True):
            assert params(other.partial_fit(X, y, classes=classes)) == params(member)
    assert [m.t_ for m in model.estimators_] == [450] * 3
    model = classifier(warm_start=True).fit(X, y)
    members = list(model.estimators_)
    others = [alone(m).fit(X, y) for m in members]
    model.set_params(max_iter=2, learning_rate_init=0.01).fit(X, y)
    assert all(a is b for a, b in zip(members, model.estimators_, strict=True))
    for member, other in zip(members, others, strict=True):
        assert params(other.set_params(max_iter=2, learning_rate_init=0.01).fit(X, y)) == params(member)
        assert member.n_iter_ == 2 and len(member.loss_curve_) == 6
    with pytest.raises(ValueError, match="n_ensemble: got 5 to go on with the fit of 3, takes 3"):
        model.set_params(n_ensemble=5).fit(X, y)
    with pytest.raises(ValueError, match="n_ensemble: got 1 to go on with the fit of 3, takes 3"):
        model.set_params(n_ensemble=1).fit(X, y)


def test_a_new_fit_forgets_the_other_kind(iris):
    X, y = iris
    model = classifier(n_ensemble=1).fit(X, y)
    model.set_params(n_ensemble=2).fit(X, y)
    assert "_trainer" not in vars(model) and "loss_curve_" not in vars(model)
    with pytest.raises(
        AttributeError, match="MLPClassifier has no coefs_ of its own: see those of estimators_"
    ):
        _ = model.coefs_
    assert model.estimators_[0].coefs_[0].shape == (4, 8)
    model.set_params(n_ensemble=1).fit(X, y)
    assert "estimators_" not in vars(model) and len(model.coefs_) == 2
    fresh = classifier(n_ensemble=1).fit(X, y)
    assert params(fresh) == params(model)


def test_copies_keep_the_bits(iris):
    X, y = iris
    model = classifier().fit(X, y)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other.predict_proba(X), model.predict_proba(X))
    fresh = clone(model)
    assert fresh.n_ensemble == 3 and not hasattr(fresh, "estimators_")
    with pytest.raises(NotFittedError):
        fresh.predict(X)
    with pytest.raises(NotFittedError):
        fresh.save("no")


def test_what_members_warn_of_is_said_once(diabetes):
    X, y = diabetes
    for options, count in (({}, 1), ({"solver": "lbfgs", "max_iter": 2}, 1), ({"batch_size": 900}, 2)):
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            model = regressor(**options).fit(X, y)
        assert len(found) == count and found[-1].filename == __file__
        assert "_said" not in vars(model.estimators_[0])


def test_callbacks_are_each_members_own(iris):
    X, y = iris
    seen = []

    class Seen(fb.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append((id(self), id(self.trainer)))

        def __deepcopy__(self, memo):
            return type(self)()

    given = Seen()
    classifier(callbacks=[given]).fit(X, y)
    assert len(seen) == 12 and len(set(seen)) == 3 and id(given) not in dict(seen)


@pytest.mark.parametrize(
    "options,says",
    [
        ({"n_ensemble": 0}, "n_ensemble: got 0, takes a whole number from 1 on"),
        ({"n_ensemble": 2.5}, "n_ensemble: got 2.5"),
        ({"n_ensemble": None}, "n_ensemble: got None"),
        ({"n_ensemble": True}, "n_ensemble: got True"),
        ({"bootstrap": "yes"}, "bootstrap: got 'yes', takes True or False"),
    ],
)
def test_wrong_parameters(iris, options, says):
    with pytest.raises(ValueError, match=says):
        classifier(**options).fit(*iris)


@pytest.mark.filterwarnings("ignore:overflow")
def test_one_that_diverges_ends_the_fit(diabetes):
    X, y = diabetes
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        regressor(solver="sgd", learning_rate_init=1e200).fit(X * 1e100, y)


# --- among others


def test_searches_gather_all_members(iris, calls):
    X, y = iris
    grid = {"n_ensemble": [1, 3], "alpha": [0.0, 0.1]}
    search = lambda: GridSearchCV(classifier(), grid, cv=2, refit=False)  # noqa: E731
    apart = search().fit(X, y)
    calls.clear()
    with together():
        ours = search().fit(X, y)
    assert calls == [2 * 2 * (1 + 3)]  # folds, alphas: one compiled call
    for name in ours.cv_results_:
        if "time" not in name:
            np.testing.assert_array_equal(ours.cv_results_[name], apart.cv_results_[name], err_msg=name)


def test_an_error_of_a_member_is_raised(iris):
    X, y = iris

    class Bad(fb.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise RuntimeError("bad")

    with pytest.raises(RuntimeError, match="bad"):
        classifier(callbacks=[Bad()]).fit(X, y)


def test_ctrl_c_keeps_what_there_is_but_ends_a_loop(iris, monkeypatch):
    X, y = iris

    def train(fits, inner=many.train):
        inner(fits)
        raise KeyboardInterrupt

    monkeypatch.setattr(many, "train", train)
    model = classifier().fit(X, y)
    assert model.predict(X).shape == y.shape
    monkeypatch.setattr(base, "_in_a_loop", lambda: True)
    with pytest.raises(KeyboardInterrupt):
        classifier().fit(X, y)


# --- files


@pytest.mark.parametrize("make", [regressor, classifier])
@pytest.mark.parametrize("name", ["plain", "both", "preset", "lbfgs"])
def test_files_have_all_bits_and_training_goes_on(diabetes, iris, tmp_path, make, name):
    X, y = diabetes if make is regressor else iris
    model = make(**OPTIONS[name]).fit(X, y)
    model.save(tmp_path / "m")
    again = type(model).load(tmp_path / "m")
    assert again.get_params().keys() == model.get_params().keys() and again.n_ensemble == 3
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert again.n_iter_ == model.n_iter_
    for mine, other in zip(model.estimators_, again.estimators_, strict=True):
        assert other.random_state == mine.random_state and params(other) == params(mine)
        assert vars(other).keys() >= vars(mine).keys() - {"_first_lr", "_penalty"}
        assert other.loss_ == mine.loss_
    if name == "plain":
        for _ in range(2):
            model.partial_fit(X, y), again.partial_fit(X, y)
        np.testing.assert_array_equal(again.predict(X), model.predict(X))
    again.save(tmp_path / "n")
    model.save(tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == (tmp_path / "n").read_bytes()
    assert len(fb.Ensemble.load(tmp_path / "m")) == 3
    with pytest.raises(ValueError, match="fb.Ensemble.load reads it"):
        fb.load(tmp_path / "m")


def test_odd_files_are_refused(iris, tmp_path):
    from safetensors.numpy import load_file, save_file

    X, y = iris
    classifier().fit(X, y).save(tmp_path / "m")
    from safetensors import safe_open

    with safe_open(tmp_path / "m", "numpy") as file:
        good = json.loads(file.metadata()["fastbp"])
    del good["sha256"]
    tensors, estimator = load_file(tmp_path / "m"), good["estimator"]
    members = estimator["members"]
    for odd in (
        {"members": members[:2]}, {"members": None}, {"members": [{}] * 3}, {"members": [5, *members[1:]]},
        {"members": [members[0] | {"random_state": "x"}, *members[1:]]},
        {"members": [members[0] | {"random_state": -1}, *members[1:]]},
        {"members": [members[0] | {"fitted": {}}, *members[1:]]},
        {"members": [members[0] | {"fitted": {"predict": 1}}, *members[1:]]},
        {"members": [members[0] | {"fitted": {"estimators_": 1}}, *members[1:]]},
        {"parameters": estimator["parameters"] | {"n_ensemble": 2}},
        {"parameters": estimator["parameters"] | {"n_ensemble": "x"}},
    ):  # fmt: skip
        save_file(tensors, tmp_path / "m", {"fastbp": json.dumps(good | {"estimator": estimator | odd})})
        with pytest.raises(ValueError, match="holds no MLPClassifier"):
            MLPClassifier.load(tmp_path / "m")
    fb.Ensemble.load(tmp_path / "m").save(tmp_path / "m")
    with pytest.raises(ValueError, match="holds no MLPClassifier"):
        MLPClassifier.load(tmp_path / "m")


@pytest.mark.parametrize("preset", [None, "tabular"])
@pytest.mark.parametrize("make", [regressor, classifier])
def test_exports(diabetes, iris, tmp_path, make, preset):
    X, y = diabetes if make is regressor else iris
    X = X.astype("f4")
    model = make(preset=preset).fit(X, y)
    wanted = model._outputs(model._features(X, reset=False))
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    model.to_onnx(tmp_path / "m.onnx")
    session = runtime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    kind = {"tensor(float)": "f4", "tensor(double)": "f8"}[session.get_inputs()[0].type]
    [got] = session.run(["Y"], {"X": X.astype(kind)})
    np.testing.assert_allclose(got, wanted, atol=3e-6 * np.abs(wanted).max())
    if CC is None:
        return
    model.to_c(tmp_path / "m.c", "model")
    flags = ["-std=c99", "-Wall", "-Werror", "-shared", "-fPIC", "-O1"]
    done = subprocess.run(["cc", *flags, tmp_path / "m.c", "-o", tmp_path / "m.so"], capture_output=True)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "m.c").read_text()
    X = np.ascontiguousarray(X, "f8" if "void model(const double" in text else "f4")
    out = np.empty(wanted.shape, "f8" if "double *y)" in text.split("void model(")[1][:40] else "f4")
    function = ctypes.CDLL(str(tmp_path / "m.so")).model
    function.restype = None
    for row, into in zip(X, out, strict=True):
        function(row.ctypes.data_as(ctypes.c_void_p), into.ctypes.data_as(ctypes.c_void_p))
    np.testing.assert_allclose(out, wanted, atol=3e-6 * np.abs(wanted).max())
    if make is classifier:
        assert '"ace"' in text
