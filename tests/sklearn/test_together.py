"""together(): scikit-learn's loops give what they give without it, to the bit, and train in few calls."""

import numpy as np
import pytest

pytest.importorskip("sklearn")
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import BaggingRegressor, VotingClassifier
from sklearn.exceptions import FitFailedWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingRandomSearchCV,
    RandomizedSearchCV,
    cross_val_predict,
    cross_validate,
)
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastbp.sklearn import MLPClassifier, MLPRegressor, together

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def classifier(**options):
    return make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=4, random_state=0, **options))


def same_results(ours, theirs):
    assert set(ours) == set(theirs)
    for name in ours:
        if "time" not in name:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


GRID = {
    "mlpclassifier__hidden_layer_sizes": [(4,), (9, 5)],
    "mlpclassifier__alpha": [0.0, 0.01],
    "mlpclassifier__early_stopping": [False, True],
}


@pytest.mark.parametrize(
    "search",
    [
        lambda: GridSearchCV(classifier(), GRID, cv=3, return_train_score=True, refit="accuracy",
                             scoring=["accuracy", "neg_log_loss"]),
        lambda: RandomizedSearchCV(classifier(), GRID, n_iter=3, cv=GroupKFold(3), random_state=1, n_jobs=2),
        lambda: HalvingRandomSearchCV(classifier(), GRID, resource="mlpclassifier__max_iter", max_resources=6,
                                      min_resources=2, random_state=0, cv=2),
    ],
    ids=["grid", "random", "halving"],
)  # fmt: skip
def test_searches(search, calls):
    X, y = load_breast_cancer(return_X_y=True)
    X, y = X[::3], y[::3]
    groups = {"groups": np.arange(len(y)) % 7} if isinstance(search().cv, GroupKFold) else {}
    with together():
        ours = search().fit(X, y, **groups)
    assert max(calls) >= 6
    theirs = search().fit(X, y, **groups)
    same_results(ours.cv_results_, theirs.cv_results_)
    assert ours.best_params_ == theirs.best_params_
    np.testing.assert_array_equal(ours.predict_proba(X), theirs.predict_proba(X))


def test_folds_and_ensembles(calls):
    X, y = load_diabetes(return_X_y=True)
    network = MLPRegressor(hidden_layer_sizes=(6,), max_iter=3, random_state=2)
    two = np.stack([y, -y], axis=1)
    loops = {
        "cross_validate": lambda: cross_validate(network, X, y, cv=4)["test_score"],
        "cross_val_predict": lambda: cross_val_predict(network, X, y, cv=4),
        "bagging": lambda: [
            member.predict(X) for member in BaggingRegressor(network, 5, random_state=0).fit(X, y).estimators_
        ],
        "outputs": lambda: MultiOutputRegressor(network, n_jobs=2).fit(X, two).predict(X),
    }
    for name, loop in loops.items():
        calls.clear()
        with together():
            ours = loop()
        assert sum(calls) > 1, name
        np.testing.assert_array_equal(ours, loop(), err_msg=name)


def test_voting(calls):
    X, y = load_iris(return_X_y=True)
    members = [(str(n), MLPClassifier((n,), max_iter=3, random_state=n)) for n in (3, 5, 7)]
    vote = lambda: VotingClassifier(members, voting="soft", n_jobs=2)  # noqa: E731
    with together():
        ours = vote().fit(X, y)
    assert calls == [3]
    np.testing.assert_array_equal(ours.predict_proba(X), vote().fit(X, y).predict_proba(X))


def test_what_fails_alone_fails_alone(calls):
    """A network that diverges scores error_score; the others train."""
    X, y = load_diabetes(return_X_y=True)
    grid = {"learning_rate_init": [0.001, 1e30], "solver": ["sgd"]}
    network = MLPRegressor(hidden_layer_sizes=(4,), max_iter=3, random_state=0)
    search = lambda: GridSearchCV(network, grid, cv=2, error_score=-9.0)  # noqa: E731
    with together(), pytest.warns(FitFailedWarning, match="2 fits failed"):
        ours = search().fit(X, y)
    with pytest.warns(FitFailedWarning, match="2 fits failed"):
        theirs = search().fit(X, y)
    same_results(ours.cv_results_, theirs.cv_results_)
    assert (ours.cv_results_["mean_test_score"] == -9.0).sum() == 1


def test_ctrl_c_ends_the_loop(monkeypatch):
    from fastbp.engine import many as engine

    def turn(self, seconds, left):
        raise KeyboardInterrupt

    X, y = load_iris(return_X_y=True)
    monkeypatch.setattr(engine.Many, "turn", turn)
    with together(), pytest.raises(KeyboardInterrupt):
        cross_validate(classifier(), X, y, cv=5)
