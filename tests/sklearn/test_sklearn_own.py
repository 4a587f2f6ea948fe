"""scikit-learn's own tests of its multi-layer perceptrons, run on fastbp's estimators."""

import importlib.util

import pytest

pytest.importorskip("sklearn")
spec = importlib.util.find_spec("sklearn.neural_network.tests.test_mlp")
if spec is None:
    pytest.skip("scikit-learn came without its tests", allow_module_level=True)

from fastbp.sklearn import MLPClassifier, MLPRegressor  # noqa: E402

INSIDE = {  # they look at attributes that are not public: nothing that a user sees
    "test_fit": "_label_binarizer, _coef_grads",
    "test_gradient": "_loss_grad_lbfgs",
    "test_learning_rate_warmstart": "_optimizer",
    "test_adaptive_learning_rate": "_optimizer",
    "test_early_stopping_stratified": "the error's text names the label as the internal bool",
}

own = importlib.util.module_from_spec(spec)
spec.loader.exec_module(own)
own.MLPClassifier, own.MLPRegressor = MLPClassifier, MLPRegressor
FOUND = {name: value for name, value in vars(own).items() if name.startswith("test_")}
globals().update({name: value for name, value in FOUND.items() if name not in INSIDE})


@pytest.fixture
def global_random_seed():
    return 0


def test_all_of_them_were_found():
    assert set(INSIDE) < set(FOUND) and len(FOUND) >= 35
