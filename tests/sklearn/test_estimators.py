"""fastbp.sklearn: scikit-learn's interface, its rules, its numbers."""

import functools
import inspect
import subprocess
import sys
import tracemalloc
import warnings

import numpy as np
import pytest

sklearn = pytest.importorskip("sklearn")
from scipy import sparse  # noqa: E402
from sklearn import datasets, neural_network  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.calibration import CalibratedClassifierCV  # noqa: E402
from sklearn.exceptions import ConvergenceWarning  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_predict  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import check_estimator  # noqa: E402

import fastbp as fb  # noqa: E402
from fastbp.engine import parallel  # noqa: E402
from fastbp.sklearn import MLPAutoencoder, MLPClassifier, MLPRegressor  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
OURS = [MLPClassifier, MLPRegressor]
DIGITS = datasets.load_digits(return_X_y=True)
DIGITS = StandardScaler().fit_transform(DIGITS[0][:, DIGITS[0][:200].std(axis=0) > 0.3]), DIGITS[1]
NOT_OURS = {  # they ask for a method, or a mode of SciPy, that is not there
    "check_array_api_input",
    "check_classifiers_multilabel_output_format_decision_function",
}


def theirs(kind):
    return getattr(neural_network, kind.__name__)


# --- the interface


@pytest.mark.parametrize("kind", OURS)
def test_parameters_are_scikit_learns_in_order_with_their_defaults(kind):
    mine, known = (
        [p.replace(annotation=p.empty) for p in inspect.signature(k).parameters.values()]
        for k in (kind, theirs(kind))
    )
    assert len(known) >= 23 and mine[: len(known)] == known
    assert all(p.kind == p.KEYWORD_ONLY for p in mine[len(known) :])


@pytest.mark.parametrize("kind", OURS)
def test_methods_and_fitted_attributes_are_scikit_learns(kind):
    X, y = DIGITS[0][:60], DIGITS[1][:60] % 2
    for options in ({"max_iter": 2}, {"max_iter": 2, "early_stopping": True}, {"solver": "lbfgs"}):
        mine, known = kind(**options).fit(X, y), theirs(kind)(**options).fit(X, y)
        fitted = {name for name in dir(known) if not name.startswith("_")}
        if options == {"solver": "lbfgs"}:
            fitted.discard("partial_fit")  # their regressor has it there too, and raises when it is called
        assert fitted <= set(dir(mine)), fitted - set(dir(mine))
        for name in (n for n in fitted if n.endswith("_")):
            assert isinstance(getattr(known, name), type(getattr(mine, name))), name
    assert [w.shape for w in mine.coefs_] == [w.shape for w in known.coefs_]
    assert mine.out_activation_ == known.out_activation_ and mine.n_layers_ == known.n_layers_


CHECKS = [
    (MLPClassifier(max_iter=100), 68),
    (MLPRegressor(max_iter=100), 60),
    (MLPClassifier(max_iter=30, class_weight="balanced"), 68),
    (MLPClassifier(max_iter=50, optimizer="adamw", activation=["gelu"]), 68),
    (MLPRegressor(solver="lbfgs"), 60),
    (MLPRegressor(max_iter=50, loss="huber"), 60),
    (MLPClassifier(n_ensemble=2, max_iter=100), 68),
    (MLPRegressor(n_ensemble=2, max_iter=50), 60),
    (MLPAutoencoder(5, max_iter=50), 55),
]


@pytest.mark.parametrize("estimator,count", CHECKS, ids=lambda v: str(v).replace("\n", ""))
def test_every_check_of_scikit_learn(estimator, count):
    """No expected failure; what does not apply is known by name; as many ran as this version has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = check_estimator(estimator, on_fail=None)
    failed = {r["check_name"]: r["exception"] for r in done if r["status"] not in ("passed", "skipped")}
    assert failed == {}
    assert {r["check_name"] for r in done if r["status"] == "skipped"} <= NOT_OURS
    if sklearn.__version__.startswith("1.9."):
        assert len(done) == count


def test_import_fastbp_needs_no_scikit_learn():
    code = "import sys, fastbp; sys.exit('sklearn' in sys.modules or 'scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# --- the numbers: scikit-learn's own, epoch by epoch, where it does not shuffle

RUNS = {
    "adam": {},
    "alpha": {"alpha": 1.0, "activation": "tanh"},
    "sgd": {"solver": "sgd", "learning_rate_init": 0.01, "alpha": 0.1},
    "no momentum": {"solver": "sgd", "momentum": 0.0},
    "plain momentum": {"solver": "sgd", "nesterovs_momentum": False, "activation": "logistic"},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.2},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.05, "n_iter_no_change": 1},
    "lbfgs": {"solver": "lbfgs", "alpha": 0.1},
    "two layers": {"hidden_layer_sizes": (20, 10), "activation": "tanh", "beta_1": 0.8, "beta_2": 0.99},
}


def binary():
    return DIGITS[0][:200], DIGITS[1][:200] % 2


def several():
    return DIGITS[0][:200], np.array(list("abcdefghij"))[DIGITS[1][:200]]


def multilabel():
    return DIGITS[0][:200], (DIGITS[1][:200, None] % [2, 3, 5] == 0).astype(int)


def numbers():
    return DIGITS[0][:200], DIGITS[1][:200] * 0.3


def several_numbers():
    return DIGITS[0][:200], np.c_[DIGITS[1][:200], -0.1 * DIGITS[1][:200], np.sin(DIGITS[1][:200])]


def counts():
    return 0.3 * DIGITS[0][:200], np.random.default_rng(0).poisson(DIGITS[1][:200])


TASKS = [
    (MLPClassifier, binary),
    (MLPClassifier, several),
    (MLPClassifier, multilabel),
    (MLPRegressor, numbers),
    (MLPRegressor, several_numbers),
    (functools.partial(MLPRegressor, loss="poisson"), counts),
]


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("kind,task", TASKS, ids=[task.__name__ for _, task in TASKS])
def test_the_same_losses_and_weights_as_scikit_learn(kind, task, run):
    X, y = task()
    options = {"max_iter": 12, "batch_size": 100, "shuffle": False, "random_state": 3, **RUNS[run]}
    options["epsilon"] = 1e-14  # where it counts, they differ: before or after the bias correction
    known = neural_network.MLPClassifier if kind is MLPClassifier else neural_network.MLPRegressor
    if task is counts:
        known = functools.partial(known, loss="poisson")
    mine, known = kind(**options).fit(X, y), known(**options).fit(X, y)
    assert mine.n_iter_ == known.n_iter_ and mine.t_ == known.t_
    # the penalty is that of the epoch's ends, scikit-learn's the mean over its steps
    np.testing.assert_allclose(mine.loss_, known.loss_, rtol=1e-4)
    if run != "lbfgs":
        np.testing.assert_allclose(mine.loss_curve_, known.loss_curve_, rtol=1e-4)
        np.testing.assert_allclose(mine.best_loss_, known.best_loss_, rtol=1e-4)
    for a, b in zip(mine.coefs_ + mine.intercepts_, known.coefs_ + known.intercepts_, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-7 * np.abs(b).max())
    if kind is MLPClassifier:
        assert np.array_equal(mine.predict(X), known.predict(X))
        np.testing.assert_allclose(mine.predict_proba(X), known.predict_proba(X), atol=1e-6)
    else:
        np.testing.assert_allclose(mine.predict(X), known.predict(X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_sample_weights_count_as_scikit_learns(solver):
    X, y = several()
    weight = np.random.default_rng(0).integers(0, 4, len(y)) + 0.5
    options = {"solver": solver, "shuffle": False, "random_state": 0, "max_iter": 10, "batch_size": 200}
    mine = MLPClassifier(**options, alpha=1.0).fit(X, y, weight)
    known = neural_network.MLPClassifier(**options, alpha=1.0).fit(X, y, weight)
    for a, b in zip(mine.coefs_, known.coefs_, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_the_same_split_for_early_stopping_and_the_same_scores():
    X, y = binary()
    options = {"early_stopping": True, "shuffle": False, "random_state": 0, "max_iter": 40}
    options |= {"n_iter_no_change": 3, "batch_size": 60, "solver": "sgd", "learning_rate_init": 0.05}
    mine = MLPClassifier(**options).fit(X, y)
    known = neural_network.MLPClassifier(**options).fit(X, y)
    assert mine.validation_scores_ == known.validation_scores_ and 3 < mine.n_iter_ < 40
    assert mine.best_validation_score_ == known.best_validation_score_ and mine.best_loss_ is None
    assert mine.t_ == known.t_  # without those held out: the rate of invscaling
    options |= {"learning_rate": "invscaling", "max_iter": 5}
    mine, known = MLPClassifier(**options).fit(X, y), neural_network.MLPClassifier(**options).fit(X, y)
    assert mine.t_ == known.t_
    np.testing.assert_allclose(mine.coefs_[0], known.coefs_[0], atol=1e-4)  # the best epoch's


# --- what it adds


def test_class_weights():
    X, y = several()
    model = MLPClassifier(solver="lbfgs", random_state=0, max_iter=15)
    weight = np.where(y == "a", 3.0, 1.0)
    first = clone(model).set_params(class_weight={"a": 3.0}).fit(X, y)
    second = clone(model).fit(X, y, weight)
    assert np.array_equal(first.predict_proba(X), second.predict_proba(X))
    assert not np.array_equal(first.predict_proba(X), clone(model).fit(X, y).predict_proba(X))
    labels = multilabel()[1]
    assert clone(model).set_params(class_weight="balanced").fit(X, labels).predict(X).shape == labels.shape


def test_any_optimizer_and_activation():
    X, y = several()
    own = fb.AdamW(0.01, weight_decay=0.1)
    model = MLPClassifier((16, 8), ["gelu", "silu"], optimizer=own, random_state=0, max_iter=30)
    assert model.fit(X, y).score(X, y) > 0.9
    assert own == fb.AdamW(0.01, weight_decay=0.1)  # what the user gave is not changed
    again = MLPClassifier((16, 8), ["gelu", "silu"], optimizer=own, random_state=0, max_iter=30).fit(X, y)
    assert np.array_equal(again.predict_proba(X), model.predict_proba(X))


def test_activations_of_ones_own():
    X, y = several()
    own = fb.activation(lambda z: z / (1 + abs(z)), name="squashed")
    mine = MLPClassifier(activation=own, random_state=0, max_iter=5).fit(X, y)
    known = MLPClassifier(activation="softsign", random_state=0, max_iter=5).fit(X, y)
    np.testing.assert_allclose(mine.predict_proba(X), known.predict_proba(X), atol=1e-9)


@pytest.mark.parametrize("task", [binary, several, multilabel])
@pytest.mark.parametrize(
    "loss", ["focal", "hinge", "bce_with_logits", "cross_entropy", fb.losses.Focal(0.5),
             fb.losses.CrossEntropy(label_smoothing=0.1), fb.losses.BCEWithLogits()], ids=str,
)  # fmt: skip
def test_any_loss_of_classes(loss, task):
    X, y = task()
    model = MLPClassifier(loss=loss, random_state=0, max_iter=60, learning_rate_init=0.01)
    if task is multilabel and "ross" in str(loss):
        with pytest.raises(ValueError, match="several answers a sample, takes bce_with_logits, focal or"):
            model.fit(X, y)
        return
    model.set_params(class_weight=None if task is multilabel else "balanced", early_stopping=task is binary)
    assert model.fit(X, y).score(X, y) > 0.8
    assert hasattr(model, "predict_proba") == (loss != "hinge")
    if loss != "hinge":
        probabilities = model.predict_proba(X)
        assert (probabilities >= 0).all() and (probabilities <= 1).all()
        if task is not multilabel:
            np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-9)
            assert np.array_equal(model.classes_[probabilities.argmax(axis=1)], model.predict(X))


@pytest.mark.parametrize("task", [binary, several, multilabel])
def test_the_decision_function_of_a_loss_without_probabilities(task):
    """Its signs, or its largest column, are what predict says; scikit-learn's scorers take it."""
    from sklearn.metrics import get_scorer

    X, y = task()
    model = MLPClassifier(loss="hinge", random_state=0, max_iter=60, learning_rate_init=0.01).fit(X, y)
    found = model.decision_function(X)
    if task is several:
        assert np.array_equal(model.classes_[found.argmax(axis=1)], model.predict(X))
    else:
        said = model.predict(X)
        assert found.shape == said.shape and np.array_equal(found > 0, said == said.max())
        assert get_scorer("roc_auc")(model, X, y) > 0.9
    assert not hasattr(MLPClassifier(), "decision_function")


def test_the_curve_of_the_validation_loss():
    from sklearn.metrics import log_loss

    X, y = several()
    part = X[::2], y[::2]
    model = MLPClassifier(random_state=0, max_iter=7, alpha=0).fit(X, y)
    assert model.validation_loss_curve_ is None
    for kind, target, kept in (
        (MLPClassifier, y, lambda m: log_loss(part[1], m.predict_proba(part[0]))),
        (MLPRegressor, X[:, 0], lambda m: 0.5 * np.mean((m.predict(part[0]) - X[::2, 0]) ** 2)),
    ):
        for options in ({}, {"early_stopping": True}):
            model = kind(random_state=0, max_iter=7, warm_start=True, **options)
            for epochs in (7, 14):
                model.fit(X, target, validation_data=(part[0], target[::2]))
                if not options:
                    assert len(model.validation_loss_curve_) == epochs
                    assert model.validation_loss_curve_[-1] == pytest.approx(kept(model), rel=1e-6)
            assert len(model.validation_loss_curve_) == len(model.validation_scores_)
    counts = np.round(np.abs(X[:, 0]))
    model = MLPRegressor("poisson", random_state=0, max_iter=3).fit(X, counts, validation_data=(X, counts))
    from sklearn.metrics import mean_poisson_deviance

    deviance = mean_poisson_deviance(counts, model.predict(X))
    assert model.validation_loss_curve_[-1] == pytest.approx(deviance / 2, rel=1e-6)


@pytest.mark.parametrize("preset", [None, "tabular"])
def test_a_fit_that_diverges_under_early_stopping_says_so(preset):
    """It keeps the best epoch's weights; where no epoch was scored, it raises as without."""
    r = np.random.default_rng(0)
    X, y = r.normal(size=(60, 3)).astype("f4") * 100, r.normal(size=60)

    def model(lr):
        solver = {"solver": "sgd", "learning_rate_init": lr, "early_stopping": True}
        solver = {"optimizer": fb.SGD(lr)} if preset else solver
        return MLPRegressor(preset=preset, max_iter=30, random_state=0, **solver)

    with pytest.warns(ConvergenceWarning, match=r"the fit diverged in epoch \d+; the weights are those"):
        best = model(1e4 if preset else 1.0).fit(X, y)
    assert np.isfinite(best.predict(X)).all() and np.isnan(best.validation_scores_[-1])
    assert best.best_validation_score_ == np.nanmax(best.validation_scores_)
    with pytest.raises(ValueError, match="Solver produced non-finite parameter weights"):
        model(1e30).fit(X, y)


@pytest.mark.parametrize(
    "loss", ["mse", "mae", "huber", "log_cosh", fb.losses.Huber(0.3), fb.losses.Quantile(0.5), "gaussian_nll",
             fb.loss(lambda z, t: 3 * (z - t) ** 2, name="threefold")], ids=str,
)  # fmt: skip
def test_any_loss_of_numbers(loss):
    X, y = several_numbers()
    y = y / y.std(axis=0)
    for target in (y, y[:, 0]):
        model = MLPRegressor(loss, random_state=0, max_iter=150, learning_rate_init=0.005).fit(X, target)
        assert model.score(X, target) > 0.9 and model.predict(X).shape == target.shape
    assert str(clone(model).get_params()["loss"]) == str(loss)


def test_standard_deviations_and_quantiles_and_counts():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (2000, 1))
    y = 5 + X[:, 0] + np.exp(X[:, 0]) * rng.standard_normal(2000)
    options = {"random_state": 0, "max_iter": 60, "learning_rate_init": 0.01}
    for preset in (None, "tabular"):
        model = MLPRegressor("gaussian_nll", preset=preset, **options).fit(X, y)
        mean, deviation = model.predict(X, return_std=True)
        assert mean.shape == deviation.shape == (2000,) and np.array_equal(mean, model.predict(X))
        assert np.corrcoef(deviation, np.exp(X[:, 0]))[0, 1] > 0.9 and 0.8 < np.median(deviation) < 1.25
    below = y < MLPRegressor(fb.losses.Quantile(0.9), **options).fit(X, y).predict(X)
    assert 0.86 < below.mean() < 0.94
    positive = rng.gamma(2.0, np.exp(X[:, 0]) / 2)
    model = MLPRegressor("gamma_nll", **options).fit(X, positive)
    assert model.out_activation_ == "exp" and model.predict(X).min() > 0
    with pytest.raises(
        ValueError, match="return_std: got True with the loss gamma_nll, takes 'gaussian_nll'"
    ):
        model.predict(X, return_std=True)


def test_n_jobs_is_threads_by_another_name():
    X, y = binary()
    most = parallel.max_threads()
    for given, threads in ((None, None), (1, 1), (2, 2), (-1, most), (-2, max(1, most - 1)), (10**6, most)):
        model = MLPClassifier(max_iter=1, n_jobs=given, random_state=0).fit(X, y)
        assert model._trainer.threads == threads


@pytest.mark.parametrize("stop", [False, True])
def test_validation_data_of_ones_own(stop):
    X, y = several()
    model = MLPClassifier(random_state=0, max_iter=8, early_stopping=stop, tol=0)
    model.fit(X[:150], y[:150], validation_data=(X[150:], y[150:]))
    assert len(model.validation_scores_) == model.n_iter_
    if stop:
        assert model.score(X[150:], y[150:]) == model.best_validation_score_ == max(model.validation_scores_)
    else:
        assert model.score(X[150:], y[150:]) == model.validation_scores_[-1]


def test_dtypes():
    X, y = binary()
    for options, data, dtype in (
        ({}, X, np.float64), ({}, X.astype(np.float32), np.float32),
        ({}, (X > 0).astype(np.uint8), np.float64), ({"dtype": "float32"}, X, np.float32),
    ):  # fmt: skip
        model = MLPClassifier(max_iter=2, **options).fit(data, y)
        assert model.coefs_[0].dtype == model.predict_proba(data).dtype == dtype


def test_same_bits_for_any_number_of_threads():
    X, y = DIGITS
    one, two = (MLPClassifier(max_iter=2, random_state=0, threads=t).fit(X, y) for t in (1, 2))
    assert np.array_equal(one.predict_proba(X), two.predict_proba(X))


BAD = [
    ({"alpha": -1}, "alpha: got -1, takes a number from 0 on"),
    ({"solver": "adm"}, "solver: got 'adm', takes 'lbfgs' or 'sgd' or 'adam'"),
    ({"max_iter": 2.5}, "max_iter: got 2.5, takes a whole number from 1 on"),
    ({"beta_1": 1.0}, r"beta_1: got 1.0, takes a number in \[0, 1\)"),
    ({"hidden_layer_sizes": (5, 0)}, "hidden_layer_sizes must be > 0"),
    ({"activation": "rleu"}, "activation: got 'rleu'; did you mean 'relu'"),
    ({"preset": "table"}, "preset: got 'table', takes None, 'tabular' or a TabularPreprocessor"),
    ({"optimizer": "adam", "solver": "lbfgs"}, "optimizer: got one with solver='lbfgs'"),
    ({"dtype": "float16"}, "dtype: got 'float16'"),
    ({"dropout": 1.0}, "dropout: got 1.0"),
    ({"dropout": 0.5, "solver": "lbfgs"}, "dropout: got 0.5 with solver='lbfgs'"),
    ({"device": "tpu"}, "device: got 'tpu'"),
    ({"n_jobs": 0}, "n_jobs: got 0, takes a whole number but 0, or None"),
    ({"n_jobs": 1, "threads": 1}, "n_jobs: got 1 beside threads=1"),
    ({"loss": "log_los"}, "loss: got 'log_los'; did you mean 'log_loss'"),
]


@pytest.mark.parametrize("options,text", BAD, ids=[text[:20] for _, text in BAD])
def test_bad_values_are_named(options, text):
    with pytest.raises(ValueError, match=text):
        MLPClassifier(**options).fit(*binary())


def test_bad_data_is_named():
    X, y = binary()
    with pytest.raises(ValueError, match=r"validation_data: got list, takes \(X, y\)"):
        MLPClassifier().fit(X, y, validation_data=[X])
    with pytest.raises(ValueError, match="Sample weights must contain at least one non-zero"):
        MLPClassifier().fit(X, y, np.zeros(len(y)))
    with pytest.raises(ValueError, match="several columns of classes"):
        MLPClassifier().fit(X, np.c_[y, y + 1, y])
    with pytest.raises(ValueError, match="loss: got 'mea'; did you mean 'mae'"):
        MLPRegressor("mea").fit(X, y)
    for loss, text in (
        (fb.losses.Hinge(), "which is of classes"),
        (fb.losses.Quantile([0.1, 0.9]), "one quantile"),
    ):
        with pytest.raises(ValueError, match=text):
            MLPRegressor(loss).fit(X, y)
    with pytest.raises(ValueError, match="which is of numbers, takes one of classes"):
        MLPClassifier(loss=fb.losses.MSE()).fit(X, y)
    with pytest.raises(TypeError, match="loss: got 3, takes a name or one of fb.losses"):
        MLPClassifier(loss=3).fit(X, y)
    with pytest.raises(AttributeError, match="coefs_: it is not fitted yet"):
        MLPClassifier().coefs_  # noqa: B018
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        MLPRegressor(solver="sgd", learning_rate_init=1e6).fit(X, 1e3 * y)


# --- in the ecosystem


def test_pipeline_search_clone_and_calibration():
    X, y = several()
    pipe = make_pipeline(StandardScaler(), MLPClassifier(max_iter=20, random_state=0))
    found = GridSearchCV(pipe, {"mlpclassifier__alpha": [1e-4, 10.0]}, cv=2, n_jobs=2).fit(X, y)
    alone = GridSearchCV(pipe, {"mlpclassifier__alpha": [1e-4, 10.0]}, cv=2).fit(X, y)
    assert np.array_equal(found.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])
    assert found.best_score_ > 0.6
    assert np.array_equal(clone(pipe).fit(X, y).predict(X), found.best_estimator_.predict(X))
    assert (cross_val_predict(pipe, X, y, cv=3) == y).mean() > 0.6
    calibrated = CalibratedClassifierCV(MLPClassifier(max_iter=20, random_state=0), cv=2).fit(X, y)
    assert np.allclose(calibrated.predict_proba(X).sum(axis=1), 1)


@pytest.mark.parametrize("way", ["pickle", "joblib", "deepcopy"])
def test_a_copy_predicts_the_same_and_goes_on_the_same(way, tmp_path):
    X, y = several()
    model = MLPClassifier(random_state=0)
    for _ in range(3):
        model.partial_fit(X, y, classes=np.unique(y))
    if way == "pickle":
        import pickle

        other = pickle.loads(pickle.dumps(model))
    elif way == "joblib":
        import joblib

        joblib.dump(model, tmp_path / "m")
        other = joblib.load(tmp_path / "m")
    else:
        import copy

        other = copy.deepcopy(model)
    assert np.array_equal(other.predict_proba(X), model.predict_proba(X))
    other.coefs_[0][:] += 0.0  # views of its own network
    for one in (model, other):
        one.partial_fit(X, y)
    assert np.array_equal(other.predict_proba(X), model.predict_proba(X))
    other.coefs_ = [w * 0 for w in other.coefs_]
    assert not np.array_equal(other.predict_proba(X), model.predict_proba(X))


def test_partial_fit_is_fit_in_pieces():
    X, y = several()
    whole = MLPClassifier(random_state=0, max_iter=5, tol=0).fit(X, y)
    pieces = MLPClassifier(random_state=0)
    for _ in range(5):
        pieces.partial_fit(X, y, classes=np.unique(y))
    assert np.array_equal(whole.predict_proba(X), pieces.predict_proba(X))
    assert pieces.loss_curve_ == whole.loss_curve_ and pieces.t_ == whole.t_


def test_warm_start_goes_on():
    X, y = several()
    model = MLPClassifier(random_state=0, max_iter=3, warm_start=True).fit(X, y)
    before = [w.copy() for w in model.coefs_]
    model.fit(X, y)
    assert len(model.loss_curve_) == 6 and model.loss_curve_[3] < model.loss_curve_[0]
    cold = MLPClassifier(random_state=0, max_iter=3).fit(X, y)
    assert np.array_equal(cold.coefs_[0], before[0])
    with pytest.raises(ValueError, match="same classes"):
        model.fit(X, np.where(y == "a", "b", y))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames(library):
    frames = pytest.importorskip(library)
    X, y = several()
    names = [f"pixel {i}" for i in range(X.shape[1])]
    frame = frames.DataFrame(dict(zip(names, X.T, strict=True)))
    model = MLPClassifier(random_state=0, max_iter=3).fit(frame, frames.Series(y))
    assert list(model.feature_names_in_) == names
    plain = MLPClassifier(random_state=0, max_iter=3).fit(X, y)
    assert np.array_equal(model.predict_proba(frame), plain.predict_proba(X))
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[names[::-1]])


@pytest.mark.parametrize("form", ["csr_matrix", "csc_matrix", "csr_array"])
def test_sparse_matrices(form):
    X, y = several()
    X = np.where(X > 0, X, 0)
    rows = getattr(sparse, form)(X)
    for options in (
        {"max_iter": 3},
        {"max_iter": 3, "early_stopping": True},
        {"solver": "lbfgs", "max_iter": 5},
    ):
        model = MLPClassifier(random_state=0, **options).fit(rows, y)
        plain = MLPClassifier(random_state=0, **options).fit(X, y)
        assert np.array_equal(model.predict_proba(rows), plain.predict_proba(X))
    labels = sparse.csr_array(multilabel()[1])
    assert sparse.issparse(MLPClassifier(max_iter=2).fit(rows, labels).predict(rows))


@pytest.mark.parametrize("options", [{}, {"early_stopping": True}], ids=["plain", "held out"])
def test_sparse_matrices_are_never_filled(options):
    """2000 x 50,000, which filled takes 800 MB."""
    rng = np.random.default_rng(0)
    X = sparse.random_array((2000, 50_000), density=1e-3, format="csr", rng=rng)
    y = rng.integers(0, 3, 2000)
    model = MLPClassifier((4,), max_iter=2, random_state=0, **options)
    tracemalloc.start()
    model.fit(X, y).predict(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert model.coefs_[0].nbytes < peak < 60e6


def test_autoencoder():
    pandas = pytest.importorskip("pandas")
    X = DIGITS[0][:300]
    model = MLPAutoencoder((32, 8), random_state=0, max_iter=150, learning_rate_init=0.005).fit(X)
    code = model.transform(X)
    assert code.shape == (300, 8) and model._trainer.net.sizes == [X.shape[1], 32, 8, 32, X.shape[1]]
    np.testing.assert_allclose(model.inverse_transform(code), model.reconstruct(X), atol=1e-9)
    assert model.score(X) > -0.35 * np.square(X).mean()
    named = model.set_output(transform="pandas").transform(X)
    assert isinstance(named, pandas.DataFrame) and named.columns[0] == "mlpautoencoder0"


def test_dropout():
    X, y = several()
    model = MLPClassifier((50, 20), dropout=(0.5, 0.0), max_iter=60, random_state=0, learning_rate_init=0.01)
    assert model.fit(X, y).score(X, y) > 0.9  # predicts with all units
    plain = clone(model).set_params(dropout=0.0).fit(X, y)
    assert plain.loss_curve_[-1] < model.loss_curve_[-1]
    assert np.array_equal(clone(model).fit(X, y).predict_proba(X), model.predict_proba(X))


def test_callbacks():
    X, y = several()
    seen = []
    watch = fb.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append((epoch, logs["loss"])))
    model = MLPClassifier(max_iter=4, callbacks=[watch], alpha=0.0).fit(X, y)
    assert seen == list(enumerate(model.loss_curve_))


def test_verbose_and_convergence(capsys):
    X, y = binary()
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(2\) reached"):
        MLPClassifier(max_iter=2, verbose=True).fit(X, y)
    assert "Iteration 2, loss = " in capsys.readouterr().out
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = MLPClassifier(tol=1.0, n_iter_no_change=2, verbose=True).fit(X, y)
    assert model.n_iter_ == 4
    assert "Training loss did not improve more than tol=1.000000 for 2 consecutive" in capsys.readouterr().out
