"""Initial weights: their spread, orthogonality, what fits an activation, what is refused."""

import copy

import numpy as np
import pytest

import fastbp as fb

SHAPE = (300, 500)


def weights(initializer, activation="relu", seed=0):
    return fb.MLP([*SHAPE, 2], activation, seed=seed, dtype="float64", initializer=initializer).weights[0]


@pytest.mark.parametrize(
    "name,variance",
    [("he", 2 / 300), ("xavier", 2 / 800), ("lecun", 1 / 300)],
)
def test_variances(name, variance):
    """150,000 draws: the variance within 2 %, the bound of the uniform ones, the normal ones' tails."""
    uniform, normal = weights(name + "_uniform"), weights(name + "_normal")
    for w in (uniform, normal):
        assert w.var() == pytest.approx(variance, rel=0.02) and abs(w.mean()) < 0.02 * variance**0.5
    bound = np.sqrt(3 * variance)
    assert 0.999 * bound < np.abs(uniform).max() <= bound
    share = (np.abs(normal) > 2 * variance**0.5).mean()
    assert share == pytest.approx(0.0455, abs=0.004)


def test_plain_ones():
    assert 0.0499 < np.abs(weights("uniform")).max() <= 0.05
    assert weights("normal").std() == pytest.approx(0.05, rel=0.02)
    assert weights(fb.initializers.Normal(0.3)).std() == pytest.approx(0.3, rel=0.02)
    assert not weights("zeros").any()


def test_orthogonal():
    w = weights(fb.initializers.Orthogonal(2.0))  # 300 rows
    assert np.allclose(w @ w.T, 4 * np.eye(300), atol=1e-12)
    net = fb.MLP([50, 20, 3], seed=0, dtype="float64", initializer="orthogonal")
    assert np.allclose(net.weights[0].T @ net.weights[0], np.eye(20), atol=1e-13)
    assert net.weights[0][0, 0] != abs(net.weights[0]).min()


@pytest.mark.parametrize(
    "activation,variance",
    [("relu", 2 / 300), ("mish", 2 / 300), ("sin", 2 / 300), ("selu", 1 / 300), ("tanh", 2 / 800),
     ("softsign", 2 / 800)],
)  # fmt: skip
def test_defaults_fit_the_activation(activation, variance):
    assert weights(None, activation).var() == pytest.approx(variance, rel=0.02)


def test_arrays_and_functions():
    pairs = [(np.full((2, 3), 0.5), [1, 2, 3]), (np.ones((3, 1)), np.zeros(1))]
    net = fb.MLP([2, 3, 1], initializer=pairs)
    assert (net.weights[0] == 0.5).all() and net.biases[0].tolist() == [1, 2, 3]
    drawn = fb.MLP([2, 3, 1], seed=0, initializer=lambda rng, shape: np.full(shape, shape[0]))
    assert (drawn.weights[0] == 2).all() and (drawn.weights[1] == 3).all()


def test_seeds_repeat_and_copies_keep_the_initializer():
    net = fb.MLP([4, 5, 2], seed=1, initializer="orthogonal")
    assert np.array_equal(net.params, fb.MLP([4, 5, 2], seed=1, initializer="orthogonal").params)
    twin = copy.deepcopy(net)
    twin.initialize(7)
    net.initialize(7)
    assert np.array_equal(net.params, twin.params)


@pytest.mark.parametrize(
    "spec,error,match",
    [
        ("he_unifrom", ValueError, "initializer: got 'he_unifrom'; did you mean 'he_uniform'"),
        (3, TypeError, "initializer: got 3, takes None, a name"),
        ([(np.ones((2, 3)), np.ones(3))], ValueError, r"got 1 layers, takes 2 pairs"),
        ([(np.ones((3, 2)), np.ones(3)), (np.ones((3, 1)), np.ones(1))], ValueError, r"got shapes \(3, 2\)"),
        ([1, 2], TypeError, "got int for layer 0"),
        ([(np.full((2, 3), np.nan), np.ones(3)), (np.ones((3, 1)), np.ones(1))], ValueError, "NaN or inf"),
        (lambda rng, shape: np.ones(3), ValueError, r"got shape \(3,\) for layer 0, takes \(2, 3\)"),
    ],
)
def test_what_is_refused(spec, error, match):
    with pytest.raises(error, match=match):
        fb.MLP([2, 3, 1], initializer=spec)


def test_bad_numbers():
    for make in (fb.initializers.Normal, fb.initializers.Uniform, fb.initializers.Orthogonal):
        with pytest.raises(ValueError, match="got -1, takes a number above 0"):
            make(-1)
