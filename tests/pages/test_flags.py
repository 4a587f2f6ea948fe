"""Arguments that are true or false refuse anything else, everywhere: the text "False" would count as true."""

import inspect
import re

import numpy as np
import pytest

pytest.importorskip("sklearn")
import importlib.util  # noqa: E402
from pathlib import Path  # noqa: E402

import fastbp as fb  # noqa: E402
from fastbp import callbacks, losses, optimizers, preparation, prepare, schedules  # noqa: E402
from fastbp import sklearn as estimators  # noqa: E402

SPEC = importlib.util.spec_from_file_location("docs_api", Path(__file__).parents[2] / "docs" / "api.py")
api = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(api)
X, Y = np.random.default_rng(0).standard_normal((20, 3)), np.arange(20) % 2


def trainer():
    return fb.Trainer(fb.MLP([3, 2], seed=0))


def classifier():
    return estimators.MLPClassifier(max_iter=2)


def search(kind, **options):
    return kind(classifier(), {"alpha": [0.1, 0.2]}, cv=2, **options).fit(X, Y)


def regressor(**options):
    return estimators.MLPRegressor(max_iter=2, **options).fit(X, X[:, 0])


HOW = {  # of what takes more than its flag: how it is called with one
    "fastbp.MLP": lambda **flag: fb.MLP([3, 3, 3], **flag),
    "fastbp.Trainer": lambda **flag: fb.Trainer(fb.MLP([3, 2]), **flag),
    "fastbp.Trainer.fit": lambda **flag: trainer().fit(X, Y, **flag),
    "fastbp.Trainer.evaluate": lambda **flag: trainer().evaluate(X, Y, **flag),
    "fastbp.Trainer.predict": lambda **flag: trainer().predict(X, **flag),
    "fastbp.Trainer.forward": lambda **flag: trainer().forward(X, **flag),
    "fastbp.Trainer.gradients_from": lambda **flag: trainer().gradients_from(X, np.ones((len(X), 2)), **flag),
    "fastbp.Trainer.input_gradients": lambda **flag: trainer().input_gradients(X, **flag),
    "fastbp.Trainer.to_torch": lambda **flag: trainer().to_torch(**flag),
    "fastbp.Trainer.to_onnx": lambda **flag: trainer().to_onnx("no", **flag),
    "fastbp.Trainer.to_c": lambda **flag: trainer().to_c("no", **flag),
    "fastbp.Ensemble.fit": lambda **flag: fb.Ensemble([trainer()]).fit(X, Y, **flag),
    "fastbp.Ensemble.predict": lambda **flag: fb.Ensemble([trainer()]).predict(X, **flag),
    "fastbp.Autoencoder": lambda **flag: fb.Autoencoder([3, 2], **flag),
    "fastbp.fit_many": lambda **flag: fb.fit_many([trainer()], X, Y, **flag),
    "fastbp.activation": lambda **flag: fb.activation(lambda z: z, **flag),
    "fastbp.loss": lambda **flag: fb.loss(lambda z, t: z - t, **flag),
    "callbacks.CSVLogger": lambda **flag: callbacks.CSVLogger("no", **flag),
    "callbacks.EarlyStopping": callbacks.EarlyStopping,
    "callbacks.ModelCheckpoint": lambda **flag: callbacks.ModelCheckpoint("no", **flag),
    "callbacks.ReduceLROnPlateau": callbacks.ReduceLROnPlateau,
    "prepare.Standardizer": lambda **flag: prepare.Standardizer(X, **flag),
    "preparation.Preparation.fit": lambda **flag: preparation.Preparation.fit(X, **flag),
    "sklearn.MLPAutoencoder": lambda **flag: estimators.MLPAutoencoder((2,), max_iter=2, **flag).fit(X),
    "sklearn.MLPClassifier": lambda **flag: estimators.MLPClassifier(max_iter=2, **flag).fit(X, Y),
    "sklearn.MLPRegressor": regressor,
    "sklearn.MLPSearchCV": lambda **flag: search(estimators.MLPSearchCV, **flag),
    "sklearn.MLPHalvingSearchCV": lambda **flag: search(estimators.MLPHalvingSearchCV, **flag),
    "sklearn.cross_validate": lambda **flag: estimators.cross_validate(classifier(), X, Y, cv=2, **flag),
    "sklearn.MLPRegressor.predict": lambda **flag: regressor().predict(X, **flag),
}
PARTS = {"optimizers": optimizers, "losses": losses, "schedules": schedules}
NO_FLAG = {"fastbp.MLP.named_views"}  # for those who write kernels


def found():
    """(where, argument) of every public argument whose type names bool."""
    for module in api.MODULES:
        for name, thing in api.public(module)[1]:
            members = [(f"{module}.{name}", thing)]
            if inspect.isclass(thing):
                members += [(f"{module}.{name}.{part}", member) for part, member in api.methods(thing)]
            for where, member in members:
                if callable(member) and where not in NO_FLAG:
                    for p in inspect.signature(member).parameters.values():
                        if re.search(r"\bbool\b|Verbose", str(p.annotation)) or p.name == "verbose":
                            yield where, p.name


FOUND = sorted(set(found()))


def test_the_finder():
    assert len(FOUND) > 40
    assert {("fastbp.Trainer.fit", "shuffle"), ("optimizers.SGD", "nesterov")} <= set(FOUND)


@pytest.mark.parametrize("where,name", FOUND, ids=[".".join(pair) for pair in FOUND])
@pytest.mark.parametrize("text", ["False", "no"])
def test_text_is_refused_by_the_arguments_name(where, name, text, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    module, _, kind = where.partition(".")
    call = HOW[where] if where in HOW else getattr(PARTS[module], kind)
    required = {"Step": {"step_size": 2}, "MultiStep": {"milestones": [1]}}.get(kind, {})
    with pytest.raises((TypeError, ValueError), match=rf"{name}: got '{text}', takes"):
        call(**required, **{name: text})
    assert not list(tmp_path.iterdir())
