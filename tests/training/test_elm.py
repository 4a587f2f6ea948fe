"""Extreme learning machines against scikit-learn's ridge, self-training against its own meaning."""

import numpy as np
import pytest

import fastbp as fb
from fastbp.models import elm
from fastbp.models.elm import ELM


@pytest.mark.parametrize("outputs", [1, 3])
def test_regression_is_ridge_on_the_hidden_outputs(rng, monkeypatch, outputs):
    linear = pytest.importorskip("sklearn.linear_model")
    monkeypatch.setattr(elm, "BLOCK_ROWS", 100)  # several blocks
    X, y = rng.standard_normal((330, 5)) + 3, rng.standard_normal((330, outputs)) + 100
    e = ELM([5, 40, outputs], task="regression", alpha=0.7, seed=0, dtype="float64").fit(X, y)
    H = np.tanh(X @ e.net.weights[0] + e.net.biases[0])
    ridge = linear.Ridge(alpha=0.7).fit(H, y)
    assert np.allclose(e.net.weights[1], np.reshape(ridge.coef_, (outputs, 40)).T, rtol=1e-8, atol=1e-10)
    assert np.allclose(e.predict(X), np.reshape(ridge.predict(H), (330, outputs)), rtol=1e-8)


@pytest.mark.parametrize("one_hot", [False, True])
def test_classification(rng, one_hot):
    X = rng.standard_normal((600, 2)).astype("f4")
    y = (X[:, 0] * X[:, 1] > 0).astype(int)  # no line tells them apart
    e = ELM([2, 200, 2], seed=0).fit(X[:400], np.eye(2)[y[:400]] if one_hot else y[:400])
    assert np.mean(e.predict(X[400:]) == y[400:]) > 0.9


@pytest.mark.parametrize(
    "call,text",
    [
        (lambda: ELM([2, 3], seed=0), r"sizes: got \[2, 3\]"),
        (lambda: ELM([2, 3, 2], alpha=0), "alpha: got 0"),
        (lambda: ELM([2, 3, 2], task="both"), "task: got 'both'"),
        (lambda: ELM([2, 3, 2]).fit(np.zeros((3, 2)), [0, 1, 2]), "y: got label 2"),
    ],
)
def test_bad_arguments(call, text):
    with pytest.raises(ValueError, match=text):
        call()


# --- self-training


def blobs(rng, rows):
    y = rng.permutation(np.arange(rows) % 2)
    return (rng.standard_normal((rows, 4)) * 0.6 + 2 * y[:, None] - 1).astype("f4"), y


def trainer(**options):
    return fb.Trainer(fb.MLP([4, 8, 2], seed=0), optimizer=fb.Adam(0.02), seed=0, **options)


def test_rows_it_is_sure_of_get_labels(rng):
    X, y = blobs(rng, 20)
    more, truth = blobs(rng, 400)
    t = trainer()
    labels, histories = fb.self_training(t, X, y, more, threshold=0.9, epochs=30)
    known = labels >= 0
    assert known.mean() > 0.7 and (labels[known] == truth[known]).mean() > 0.95
    assert len(histories) >= 2 and all(h.epochs == 30 for h in histories)
    # what it was never sure of stays without: the last network agrees, or the rounds were over
    if len(histories) < 11 and not known.all():
        assert (t.predict(more[~known]).max(1) < 0.9).all()


def test_the_first_round_is_what_the_threshold_says(rng):
    X, y = blobs(rng, 40)
    more, _ = blobs(rng, 100)
    alone = trainer()
    alone.fit(X, y, 10)
    p = alone.predict(more)
    labels, _ = fb.self_training(trainer(), X, y, more, threshold=0.75, rounds=1)
    assert np.array_equal(labels, np.where(p.max(1) >= 0.75, p.argmax(1), -1))


def test_bad_self_training(rng):
    X, y = blobs(rng, 40)
    with pytest.raises(ValueError, match="threshold: got 1.0"):
        fb.self_training(trainer(), X, y, X, threshold=1.0)
    with pytest.raises(ValueError, match="X: got 3 columns"):
        fb.self_training(trainer(), X, y, X[:, :3])
    with pytest.raises(ValueError, match="trainer: got loss 'mse'"):
        fb.self_training(fb.Trainer(fb.MLP([4, 1]), "mse"), X, y, X)
