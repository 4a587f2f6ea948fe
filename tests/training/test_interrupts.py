"""Ctrl-C: one ends a fit, two soon after another end the loop around it, and so does one in a search."""

import os
import signal
import time
from contextlib import contextmanager

import numpy as np
import pytest

import fastbp as fb

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs timers of POSIX")
X = np.random.default_rng(0).standard_normal((2000, 10)).astype("f4")
y = np.arange(2000) % 3


@pytest.fixture(autouse=True)
def own_handler():
    old = signal.signal(signal.SIGALRM, signal.default_int_handler)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, old)


@pytest.fixture
def trainer():
    trainer = fb.Trainer(fb.MLP([10, 32, 3], seed=0), seed=0)
    trainer.fit(X, y, epochs=1)  # compiled
    return trainer


def test_one_ends_a_fit_and_the_program_goes_on(trainer):
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    assert trainer.fit(X, y, epochs=10**6).stopped == "Ctrl-C"
    assert trainer.fit(X, y, epochs=1).stopped == ""


def test_a_second_one_within_a_second_ends_the_loop(trainer):
    signal.setitimer(signal.ITIMER_REAL, 0.1, 0.3)
    fits, before = [], trainer.steps
    with pytest.raises(KeyboardInterrupt):
        for _ in range(100):
            fits.append(trainer.fit(X, y, epochs=10**6))
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert [fit.stopped for fit in fits] == ["Ctrl-C"] and trainer.history.stopped == "Ctrl-C"
    assert trainer.steps > before and np.isfinite(trainer.net.params).all()
    trainer.fit(X, y, epochs=1)


def test_one_every_two_seconds_ends_fit_by_fit(trainer):
    for _ in range(2):
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert trainer.fit(X, y, epochs=10**6).stopped == "Ctrl-C"
        time.sleep(fb.training.fitting.TWICE)


def test_one_while_a_batch_is_made_ends_a_stream(trainer, capsys):
    def batches():
        yield X[:64], y[:64]
        time.sleep(60)
        yield X[:64], y[:64]

    signal.setitimer(signal.ITIMER_REAL, 0.3)
    history = trainer.fit(batches, epochs=3, verbose=0)
    assert history.stopped == "Ctrl-C" and trainer.history is history
    assert "stopped by Ctrl-C" in capsys.readouterr().err


def test_one_ends_self_training(trainer):
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    labels, histories = fb.self_training(trainer, X[:90], y[:90], X, threshold=0.5, epochs=10**6)
    assert [history.stopped for history in histories] == ["Ctrl-C"] and len(labels) == len(X)


# --- estimators


@contextmanager
def ended():
    with pytest.raises(KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        yield


def test_one_ends_a_search_and_folds_but_keeps_a_model(trainer):
    pytest.importorskip("sklearn")
    from sklearn.ensemble import BaggingClassifier
    from sklearn.feature_selection import RFE
    from sklearn.model_selection import GridSearchCV, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from fastbp.sklearn import MLPClassifier

    long = MLPClassifier((8,), max_iter=10**6, n_iter_no_change=10**6, random_state=0, dtype="float32")
    for made in (
        lambda: cross_val_score(long, X, y, cv=3),
        lambda: GridSearchCV(make_pipeline(StandardScaler(), long), {}, cv=2).fit(X, y),
        lambda: BaggingClassifier(long, 3).fit(X, y),
        lambda: RFE(long, importance_getter=lambda model: np.ones(10)).fit(X, y),
    ):
        time.sleep(fb.training.fitting.TWICE)
        with ended():
            made()
    for model in (long, make_pipeline(StandardScaler(), long)):
        time.sleep(fb.training.fitting.TWICE)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        assert np.isfinite(model.fit(X, y).predict_proba(X)).all()
