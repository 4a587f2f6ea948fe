"""MLPSearchCV and MLPHalvingSearchCV find what scikit-learn's searches find, to the bit, with less work."""

import numpy as np
import pytest

pytest.importorskip("sklearn")
from scipy.stats import loguniform
from sklearn import model_selection
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.exceptions import FitFailedWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, GroupKFold, HalvingRandomSearchCV, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastbp.sklearn import (
    MLPClassifier,
    MLPHalvingSearchCV,
    MLPRegressor,
    MLPSearchCV,
    TabularPreprocessor,
    cross_validate,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


class Scaler(StandardScaler):
    """One that counts its fits, and scales in place."""

    fits = 0

    def fit(self, X, y=None, sample_weight=None):
        Scaler.fits += 1
        return super().fit(X, y, sample_weight)


def pipeline(**options):
    network = MLPClassifier((8,), max_iter=4, random_state=0, **options)
    return make_pipeline(StandardScaler(), Scaler(copy=False), network)


GRID = {
    "mlpclassifier__hidden_layer_sizes": [(4,), (9, 5)],
    "mlpclassifier__alpha": [0.0, 0.01],
    "mlpclassifier__early_stopping": [False, True],
}
DRAWN = {"mlpclassifier__alpha": loguniform(1e-5, 1), "mlpclassifier__hidden_layer_sizes": [(4,), (9, 5)]}


@pytest.fixture(scope="module")
def data():
    X, y = load_breast_cancer(return_X_y=True)
    return X[::3], y[::3]


def same(ours, theirs):
    assert set(ours.cv_results_) == set(theirs.cv_results_)
    for name, column in ours.cv_results_.items():
        if "time" not in name:
            np.testing.assert_array_equal(column, theirs.cv_results_[name], err_msg=name)
    for name in ("best_params_", "best_index_", "best_score_", "n_splits_", "multimetric_"):
        assert getattr(ours, name) == getattr(theirs, name), name


MORE = {"scoring": ["accuracy", "neg_log_loss"], "refit": "accuracy", "return_train_score": True}


@pytest.mark.parametrize(
    "ours, theirs, options",
    [
        (MLPSearchCV(pipeline(), GRID), GridSearchCV(pipeline(), GRID), {"cv": 3, **MORE}),
        (MLPSearchCV(pipeline(), DRAWN, n_iter=4), RandomizedSearchCV(pipeline(), DRAWN, n_iter=4),
         {"cv": GroupKFold(3), "random_state": 1}),
    ],
    ids=["grid", "random"],
)  # fmt: skip
def test_results_are_scikit_learns(data, ours, theirs, options):
    X, y = data
    groups = {"groups": np.arange(len(y)) % 7}
    ours.set_params(**options).fit(X, y, **groups)
    theirs.set_params(**options).fit(X, y, **groups)
    same(ours, theirs)
    np.testing.assert_array_equal(ours.predict_proba(X), theirs.predict_proba(X))
    assert ours.score(X, y) == theirs.score(X, y) and ours.refit_time_ > 0
    assert ours.best_estimator_.memory is None and ours.estimator.memory is None


def test_weights_and_failures():
    """sample_weight goes along, and a candidate that diverges scores error_score."""
    X, y = load_diabetes(return_X_y=True)
    grid = {"learning_rate_init": [0.001, 1e30], "solver": ["sgd"]}
    network = MLPRegressor(hidden_layer_sizes=(4,), max_iter=3, random_state=0)
    weight = np.linspace(0, 1, len(y))
    found = []
    for kind in (MLPSearchCV, GridSearchCV):
        with pytest.warns(FitFailedWarning, match="2 fits failed"):
            found.append(kind(network, grid, cv=2, error_score=np.nan).fit(X, y, sample_weight=weight))
    same(*found)


def test_what_stands_before_is_fitted_once_a_fold(data):
    Scaler.fits = 0
    MLPSearchCV(pipeline(), GRID, cv=3).fit(*data)
    assert Scaler.fits == 3 + 1  # folds, and the refit; not 8 candidates x 3
    Scaler.fits = 0
    both = {"standardscaler__with_mean": [True, False], "mlpclassifier__alpha": [0.0, 0.1, 1.0]}
    ours = MLPSearchCV(pipeline(), both, cv=3).fit(*data)
    assert Scaler.fits == 2 * 3 + 1
    same(ours, GridSearchCV(pipeline(), both, cv=3).fit(*data))


def test_a_preset_prepares_once_a_fold(monkeypatch):
    pandas = pytest.importorskip("pandas")
    random = np.random.default_rng(0)
    frame = pandas.DataFrame({"size": random.normal(size=90), "town": random.choice(["Bonn", "Kiel"], 90)})
    y = (frame["size"] > 0).to_numpy() ^ (frame["town"] == "Bonn").to_numpy()
    fits, inner = [], TabularPreprocessor.fit
    network = MLPClassifier((8,), preset="tabular", max_iter=3, random_state=0)
    grid = {"dropout": [0.0, 0.1, 0.2]}
    theirs = GridSearchCV(network, grid, cv=3).fit(frame, y)
    monkeypatch.setattr(TabularPreprocessor, "fit", lambda *a: fits.append(1) or inner(*a))
    ours = MLPSearchCV(network, grid, cv=3).fit(frame, y)
    same(ours, theirs)
    assert len(fits) == 3 + 1


@pytest.fixture
def epochs(monkeypatch):
    """The epochs of each fit of a Trainer."""
    from fastbp.training.trainer import Trainer

    found, inner = [], Trainer.fit

    def fit(self, X, y, epochs=None, **options):
        found.append(epochs)
        return inner(self, X, y, epochs, **options)

    monkeypatch.setattr(Trainer, "fit", fit)
    return found


@pytest.mark.parametrize("aggressive", [False, True])
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_survivors_go_on(data, epochs, solver, aggressive):
    """Halving finds what scikit-learn's finds, which begins anew in every round, in fewer epochs."""
    network = pipeline(solver=solver, learning_rate="adaptive", ema=None if solver == "lbfgs" else 0.9)
    options = dict(n_candidates=8, max_resources=9, random_state=1, cv=3, factor=2.5)
    options |= {"aggressive_elimination": aggressive, "min_resources": 3 if aggressive else "smallest"}
    ours = MLPHalvingSearchCV(network, GRID, **options).fit(*data)
    made = list(epochs)
    theirs = HalvingRandomSearchCV(network, GRID, resource="mlpclassifier__max_iter", **options).fit(*data)
    same(ours, theirs)
    np.testing.assert_array_equal(ours.predict_proba(data[0]), theirs.predict_proba(data[0]))
    found = "n_resources n_candidates n_remaining_candidates n_iterations n_possible_iterations"
    for name in f"{found} n_required_iterations min_resources max_resources".split():
        assert getattr(ours, f"{name}_") == getattr(theirs, f"{name}_"), name
    if solver != "lbfgs":
        wanted = ours.best_params_["mlpclassifier__max_iter"]  # of the refit
        for more, candidates in zip(np.diff([0, *ours.n_resources_]), ours.n_candidates_, strict=True):
            wanted += 3 * more * candidates
        assert sum(made) <= wanted < sum(epochs) - sum(made)


def test_a_preset_is_planned_for_the_last_round():
    X, y = load_iris(return_X_y=True)
    network = MLPClassifier(preset="tabular", max_iter=8, random_state=0)
    space = {"hidden_layer_sizes": [(4,), (8,), (8, 8), (16,)]}
    options = dict(n_candidates=None, factor=2, min_resources="exhaust", cv=3)
    ours = MLPHalvingSearchCV(network, space, **options).fit(X, y)
    assert ours.max_resources_ == 8 and ours.n_resources_ == [2, 4, 8]
    last = ours.cv_results_["iter"] == 2
    for params, score in zip(
        np.array(ours.cv_results_["params"])[last], ours.cv_results_["mean_test_score"][last], strict=True
    ):
        alone = cross_validate(clone(network).set_params(**params), X, y, cv=3)["test_score"]
        assert alone.mean() == score


def test_halving_takes_one_network(data):
    from sklearn.ensemble import VotingClassifier

    two = VotingClassifier([("a", MLPClassifier()), ("b", MLPClassifier())])
    with pytest.raises(ValueError, match="2 networks of fastbp, takes one"):
        MLPHalvingSearchCV(two, {"a__alpha": [0.0, 0.1]}).fit(*data)
    with pytest.raises(ValueError, match="consistent folds"):
        MLPHalvingSearchCV(pipeline(), GRID, cv=model_selection.ShuffleSplit(3)).fit(*data)


def test_cross_validate(data):
    options = dict(cv=4, scoring=["accuracy", "f1"], return_train_score=True)
    ours = cross_validate(pipeline(), *data, **options)
    theirs = model_selection.cross_validate(pipeline(), *data, **options)
    assert set(ours) == set(theirs)
    for name in theirs:
        if "time" not in name:
            np.testing.assert_array_equal(ours[name], theirs[name])
