"""Sums over the rows of long batches: as exact as those of short ones, and the same bits for all threads."""

import harness as h
import numpy as np
import pytest

import fastbp as fb
from fastbp.kernels import codes

# one piece and a row; several; more than a chunk of LONG pieces, the last one begins a third chunk
ROWS = [codes.LONG + 1, 1000, codes.LONGER + 3, 2 * codes.LONGER + 1]
WIDTHS = [1, 9, 40, 100, 300]  # narrow, one panel, several, packed


def bound(dtype):
    return {"float32": 4e-6, "float64": 4e-14}[dtype]


@pytest.mark.parametrize("dtype", h.DTYPES)
@pytest.mark.parametrize("outputs", WIDTHS)
@pytest.mark.parametrize("rows", ROWS)
def test_gradients_and_loss(rng, rows, outputs, dtype):
    """Of terms that are all alike but for noise, where each rounding goes the same way."""
    X = (0.7 + 0.1 * rng.uniform(size=(rows, 3))).astype(dtype)
    y = (0.1 + 0.1 * rng.uniform(size=(rows, 1))).astype(dtype)
    line = fb.loss(lambda z, t: (z + 1) * t, name="line")
    net = fb.MLP([3, outputs], initializer="zeros", dtype=dtype)
    found = []
    for threads in (1, 2, 4):
        loss, [(dW, db)] = fb.Trainer(net, line, threads=threads).gradients(X, np.repeat(y, outputs, axis=1))
        found.append([loss, *dW.ravel(), *db])
    assert found[0] == found[1] == found[2]
    X, y = X.astype(float), y.astype(float)
    exact_W, exact_b = (X * y).mean(axis=0)[:, None] / outputs, y.mean() / outputs
    assert loss == pytest.approx(y.mean(), rel=bound(dtype))
    assert np.abs(dW / exact_W - 1).max() < bound(dtype) and np.abs(db / exact_b - 1).max() < bound(dtype)


@pytest.mark.parametrize("second", [{}, {"accumulate": 2}])
def test_a_step_on_a_long_batch(second):
    """The fused update and the one from gradients that are kept."""
    rows = codes.LONGER + 3
    X, y = np.full((rows, 2), 0.7, "f4"), np.full((rows, 1), 0.1, "f4")
    line = fb.loss(lambda z, t: z * t, name="line")
    for outputs in (1, 300):
        net = fb.MLP([2, outputs], initializer="zeros")
        fb.Trainer(net, line, fb.SGD(1.0), rows, **second).train_on_batch(X, np.repeat(y, outputs, axis=1))
        assert np.abs(-net.weights[0] * outputs / 0.07 - 1).max() < 4e-6
        assert np.abs(-net.biases[0] * outputs / 0.1 - 1).max() < 4e-6


def test_statistics_and_vectors(rng):
    """Batch norm's mean and variance, the gradients of gains, shifts and slopes of prelu."""
    rows = 3 * 65536 + 7
    x = (5 + 0.1 * rng.standard_normal((rows, 1))).astype("f4")
    net = fb.MLP([1, 20, 1], "prelu", norm="batch", seed=0)
    net.weights[0][:] = np.linspace(0.5, 2, 20)
    net.shifts[0][:] = -4.0  # below 0: all rows count for the slopes
    net.weights[1][:] = 0.1
    line = fb.loss(lambda z, t: z * t, name="line")
    y = np.full((rows, 1), 0.1, "f4")
    found = []
    for threads in (1, 2):
        _, grads = fb.Trainer(net, line, threads=threads).gradients(x, y)
        found.append([grads.gains[0], grads.shifts[0], grads.slopes[0]])
    assert all(map(np.array_equal, *found))
    gains, shifts, slopes = found[0]
    z = x.astype(float) * net.weights[0].astype(float)
    hat = (z - z.mean(axis=0)) / np.sqrt(z.var(axis=0) + 1e-5)
    assert (hat - 4).max() < 0 or (hat < 4).mean() > 0.99
    out = net.gains[0] * hat - 4
    slope = np.where(out > 0, 1.0, 0.25)
    exact = (
        0.01 * (hat * slope).mean(axis=0),
        0.01 * slope.mean(axis=0),
        0.01 * np.minimum(out, 0).mean(axis=0),
    )
    assert np.abs(shifts / exact[1] - 1).max() < 1e-5 and np.abs(slopes / exact[2] - 1).max() < 1e-5
    assert np.abs(gains - exact[0]).max() < 1e-5 * 0.01
    trainer = fb.Trainer(net, line, fb.SGD(1e-9), rows)
    net.running_vars[0][:] = 0  # beside 0.9, float32 has no room for the digits of the share that is new
    trainer.train_on_batch(x, y)
    mean, var = (view[0].astype(float) for view in (net.running_means, net.running_vars))
    assert np.abs(mean / (0.1 * z.mean(axis=0)) - 1).max() < 2e-6
    assert np.abs(var / (0.1 * z.var(axis=0, ddof=1)) - 1).max() < 2e-6


def test_embeddings(rng):
    """A category that nearly all rows have; those in none stay 0."""
    rows = 4 * codes.EMBEDDED_ROWS + 5
    X = np.zeros((rows, 2), "f4")
    X[:, 1] = rng.uniform(size=rows) < 0.01
    line = fb.loss(lambda z, t: z * t, name="line")
    found = []
    for threads, options in ((1, {}), (2, {}), (1, {"accumulate": 2})):
        net = fb.MLP([2, 1], embeddings={1: (3, 2)}, initializer="zeros")
        net.embeddings[0][:], net.weights[0][:] = 0, 1.0
        trainer = fb.Trainer(net, line, fb.SGD(1.0), rows, threads=threads, **options)
        _, grads = trainer.gradients(X, np.full(rows, 0.1, "f4"))
        trainer.train_on_batch(X, np.full(rows, 0.1, "f4"))
        found.append([grads.embeddings[0], -net.embeddings[0]])
    share = 0.1 * np.bincount(X[:, 1].astype(int), minlength=3) / rows
    for gradient, step in found:
        assert np.allclose(gradient, share[:, None], rtol=2e-5, atol=0) and np.array_equal(gradient, step)
    assert np.array_equal(found[0][0], found[1][0]) and not found[0][0][2].any()


def test_max_norm_of_many_inputs(rng):
    net = fb.MLP([50_000, 2], initializer="zeros")
    net.weights[0][:] = 0.1
    line = fb.loss(lambda z, t: z * t, name="line")
    fb.Trainer(net, line, fb.SGD(1e-9), 1, max_norm=1.0).train_on_batch(
        np.zeros((1, 50_000), "f4"), [[1.0, 1.0]]
    )
    assert np.abs(np.linalg.norm(net.weights[0].astype(float), axis=0) - 1).max() < 1e-5
