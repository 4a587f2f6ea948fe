"""The NumPy baseline of the benchmarks trains exactly as the reference does."""

import numpy as np
import pytest

from bench.steps import numpy_baseline
from bench.steps.numpy_baseline import NumpyMLP
from fastbp.kernels import reference as ref

SIZES = [9, 16, 11, 5]
BATCH = 8
SAMPLES = 36  # four batches of 8 and one of 4

OPTIMIZERS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-3}),
]
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}


def draw_data(rng, loss, dtype, outputs):
    X = rng.standard_normal((SAMPLES, SIZES[0])).astype(dtype)
    if loss == "cross_entropy":
        return X, rng.integers(0, outputs, SAMPLES)
    return X, rng.standard_normal((SAMPLES, outputs)).astype(dtype)


def check_two_epochs(rng, net, X, y, activations, loss, optimizer, hyper, tolerance):
    """Ten steps: the loss of each, then the parameters, against the reference in float64."""
    for _, b in net.params:
        b[...] = 0.5 * rng.standard_normal(b.shape)  # they start at zero, which would hide much
    params = [(W.astype(np.float64), b.astype(np.float64)) for W, b in net.params]
    batches = [
        rows
        for order in (rng.permutation(SAMPLES), rng.permutation(SAMPLES))
        for rows in np.split(order, range(BATCH, SAMPLES, BATCH))
    ]
    assert [len(rows) for rows in batches] == [8, 8, 8, 8, 4] * 2
    losses = [net.epoch(X, y, rows, BATCH) for rows in batches]
    start = [W.copy() for W, _ in params]
    expected = ref.train(params, X, y, activations, loss, optimizer, hyper, batches)
    np.testing.assert_allclose(losses, expected, rtol=tolerance)
    for (W, b), (W_ref, b_ref), W_start in zip(net.params, params, start, strict=True):
        assert W.dtype == b.dtype == X.dtype
        moved = np.linalg.norm(W_ref - W_start)
        assert moved > 1e-2
        assert np.linalg.norm(W - W_ref) < 10 * tolerance * np.linalg.norm(W_ref)
        assert np.linalg.norm(b - b_ref) < 10 * tolerance * np.linalg.norm(b_ref)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize(("optimizer", "hyper"), OPTIMIZERS, ids=str)
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_ten_steps_are_the_reference(rng, activation, loss, optimizer, hyper, dtype):
    X, y = draw_data(rng, loss, dtype, SIZES[-1])
    net = NumpyMLP(SIZES, activation, loss, optimizer, dtype=dtype, **hyper)
    hidden = [activation] * (len(SIZES) - 2)
    check_two_epochs(rng, net, X, y, hidden, loss, optimizer, hyper, TOLERANCE[dtype])


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_no_hidden_layer(rng, loss):
    X, y = draw_data(rng, loss, np.float64, 5)
    net = NumpyMLP([9, 5], loss=loss, lr=0.01, dtype=np.float64)
    check_two_epochs(rng, net, X, y, [], loss, "Adam", {"lr": 0.01}, 1e-12)


def test_targets_of_one_output_may_be_flat(rng):
    X, y = draw_data(rng, "mse", np.float64, 1)
    net = NumpyMLP([9, 6, 1], loss="mse", lr=0.01, dtype=np.float64)
    check_two_epochs(rng, net, X, y[:, 0], ["relu"], "mse", "Adam", {"lr": 0.01}, 1e-12)


@pytest.mark.parametrize(("optimizer", "hyper"), OPTIMIZERS, ids=str)
def test_blocks_of_the_optimizer(rng, monkeypatch, optimizer, hyper):
    monkeypatch.setattr(numpy_baseline, "BLOCK", 37)  # 407 parameters: eleven blocks exactly
    X, y = draw_data(rng, "mse", np.float64, SIZES[-1])
    net = NumpyMLP(SIZES, "relu", "mse", optimizer, dtype=np.float64, **hyper)
    assert len(net._blocks) == 11
    check_two_epochs(rng, net, X, y, ["relu", "relu"], "mse", optimizer, hyper, 1e-12)


def test_epoch_is_the_mean_over_samples_of_its_batches(rng):
    X, y = draw_data(rng, "cross_entropy", np.float64, SIZES[-1])
    whole = NumpyMLP(SIZES, dtype=np.float64)
    split = NumpyMLP(SIZES, dtype=np.float64)
    order = rng.permutation(SAMPLES)
    batches = np.split(order, range(BATCH, SAMPLES, BATCH))
    losses = [split.epoch(X, y, rows, BATCH) for rows in batches]
    expected = np.average(losses, weights=[len(rows) for rows in batches])
    assert whole.epoch(X, y, order, BATCH) == pytest.approx(expected, rel=1e-14)
    assert whole.steps == split.steps == 5


def test_forward_is_the_reference(rng):
    X, _ = draw_data(rng, "mse", np.float64, SIZES[-1])
    net = NumpyMLP(SIZES, "tanh", dtype=np.float64)
    before = X.copy()
    z = ref.forward(net.params, X, ["tanh", "tanh"])[-1][0]
    np.testing.assert_allclose(net.forward(X), z, rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(X, before)


def test_large_logits_do_not_overflow(rng):
    X, y = draw_data(rng, "cross_entropy", np.float32, SIZES[-1])
    net = NumpyMLP([SIZES[0], SIZES[-1]], optimizer="SGD", lr=0.0)
    X *= 1000
    expected = ref.loss_and_delta("cross_entropy", ref.forward(net.params, X, [])[-1][0], y)[0]
    assert expected > 100  # exp overflows above 88
    assert net.epoch(X, y, np.arange(SAMPLES), SAMPLES) == pytest.approx(expected, rel=1e-5)
