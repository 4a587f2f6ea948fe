"""Splits: stratified, repeatable, complete. Scaling: right moments, and folded back exactly."""

import numpy as np
import pytest

import fastbp as fb
from fastbp.preparation import Preparation
from fastbp.prepare import Standardizer, stratified_split


def rng():
    return np.random.default_rng()


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5, 0.9])
def test_split_cuts_every_sample_once_and_every_class_alike(fraction):
    y = rng().choice([3, 7, 11], size=500, p=[0.6, 0.3, 0.1])
    train, test = stratified_split(y, fraction, seed=1)
    assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(500))
    assert len(test) == round(500 * fraction)
    for label in np.unique(y):
        share = (y[test] == label).sum() / (y == label).sum()
        assert abs(share - fraction) <= 1 / (y == label).sum()


def test_split_depends_on_the_seed_alone():
    y = rng().integers(0, 5, 300)
    first, again, other = (stratified_split(y, 0.2, seed)[1] for seed in (4, 4, 5))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_split_is_the_same_on_every_numpy():
    """Recorded: should a NumPy release move it, test scores would no longer compare."""
    _, test = stratified_split(np.arange(40) % 4, 0.2, seed=0)
    assert test.tolist() == [0, 6, 10, 15, 17, 31, 32, 37]


def test_split_keeps_rare_classes_on_both_sides_when_it_can():
    y = np.array(["common"] * 50 + ["rare"] * 2 + ["single"])
    train, test = stratified_split(y, 0.2, seed=0)
    assert set(y[train]) == {"common", "rare", "single"}
    assert set(y[test]) == {"common", "rare"}


def test_split_of_singletons_still_has_two_parts():
    train, test = stratified_split(np.arange(5), 0.2, seed=3)
    assert len(train) == 4 and len(test) == 1


@pytest.mark.parametrize("shape", [(101,), (101, 3)])
def test_split_of_a_regression_target_is_plain(shape):
    train, test = stratified_split(rng().standard_normal(shape), 0.3, seed=2)
    assert len(test) == 30 and np.array_equal(np.sort(np.r_[train, test]), np.arange(101))


@pytest.mark.parametrize("fraction", [0, 1, -0.2, 1.5, float("nan")])
def test_split_refuses_fractions_that_are_none(fraction):
    with pytest.raises(ValueError, match="fraction: got"):
        stratified_split([0, 1, 0, 1], fraction)


def test_split_needs_two_samples():
    with pytest.raises(ValueError, match="at least 2 samples"):
        stratified_split([1], 0.5)


def test_standardizer_gives_mean_0_and_deviation_1():
    X = rng().standard_normal((777, 5)) * [1, 10, 1e-3, 1e4, 1] + [0, 5, 1, 2e6, -3]
    out = Standardizer(X).transform(X)
    assert out.dtype == np.float32
    assert np.allclose(out.mean(axis=0, dtype=np.float64), 0, atol=1e-6)
    assert np.allclose(out.std(axis=0, dtype=np.float64), 1, atol=1e-6)


def test_standardizer_leaves_constant_columns_finite():
    X = np.column_stack([np.full(9, 0.1), np.arange(9.0)])
    scaler = Standardizer(X)
    assert scaler.scale[0] == 1 and (scaler.transform(X)[:, 0] == 0).all()


@pytest.mark.parametrize("size", [1e-308, 1e-200, 1e-160, 1e154, 1e200, 1.7e308 / 2])
@pytest.mark.parametrize("common", [False, True])
def test_standardizer_of_numbers_of_any_size(size, common):
    """Squares overflow from 1e154 on and vanish below 1e-162; the scale is still that of smaller numbers."""
    X = np.array([[0.5, 0.25], [1.0, -0.5], [-0.75, 1.0], [0.125, 0.125]])
    small, found = Standardizer(X, common), Standardizer(X * size, common)
    assert np.allclose(found.mean / size, small.mean, rtol=1e-7)
    assert np.allclose(found.scale / size, small.scale, rtol=1e-7)
    assert np.allclose(found.transform(X * size), small.transform(X), rtol=1e-6)


def test_standardizer_beside_columns_of_usual_size():
    """And the usual ones keep their bits."""
    X = rng().standard_normal((200, 3)) * 7 + 3
    wide = np.c_[X, X[:, 0] * 1e200, np.full(200, 1e300)]
    usual, found = Standardizer(X), Standardizer(wide)
    assert np.array_equal(found.mean[:3], usual.mean) and np.array_equal(found.scale[:3], usual.scale)
    assert found.scale[3] == pytest.approx(usual.scale[0] * 1e200) and found.scale[4] == 1
    assert np.isfinite(found.transform(wide)).all() and (found.transform(wide)[:, 4] == 0).all()
    singles = np.array([[3e38], [-3e38], [1e38]], np.float32)
    assert Standardizer(singles).scale[0] == pytest.approx(2.494438e38)


@pytest.mark.parametrize("bad", [[1.7e308, -1.7e308], [np.inf, 1.0], [np.nan, 1.0]])
def test_standardizer_refuses_what_no_scale_fits(bad):
    with pytest.raises(ValueError, match="X: column 1 reaches from .* takes finite numbers"):
        Standardizer(np.c_[[1.0, 2.0], bad])
    with pytest.raises(ValueError, match="speed reaches from"):
        Standardizer(np.c_[[1.0, 2.0], bad], labels=["mass", "speed"])


def test_common_scale_keeps_rare_pixels_small():
    X = rng().integers(0, 200, (400, 6)).astype(np.uint8)
    X[:, 0] = 0
    X[0, 0] = 16
    assert np.abs(Standardizer(X).transform(X)[:, 0]).max() > 19
    assert np.abs(Standardizer(X, common=True).transform(X)[:, 0]).max() < 1


def test_large_arrays_go_through_in_chunks(monkeypatch):
    X = rng().standard_normal((1000, 7)) + 50
    whole = Standardizer(X)
    monkeypatch.setattr("fastbp.prepare._CHUNK", 64)
    chunked = Standardizer(X)
    assert np.allclose(whole.mean, chunked.mean, rtol=1e-13)
    assert np.allclose(whole.scale, chunked.scale, rtol=1e-13)
    assert np.allclose(whole.transform(X), chunked.transform(X), rtol=1e-5, atol=1e-6)


def test_folded_layers_take_raw_features_and_give_raw_targets():
    X, y = rng().standard_normal((50, 4)) * 7 + 3, rng().standard_normal((50, 2)) * 100 - 40
    xs, ys = Standardizer(X), Standardizer(y)
    W0, b0, W1, b1 = (rng().standard_normal(s) for s in [(4, 8), (8,), (8, 2), (2,)])
    scaled = (X - xs.mean) / xs.scale
    expected = (np.tanh(scaled @ W0 + b0) @ W1 + b1) * ys.scale + ys.mean
    xs.fold_into_input(W0, b0)
    ys.fold_into_output(W1, b1)
    assert np.allclose(np.tanh(X @ W0 + b0) @ W1 + b1, expected, rtol=1e-10)


def test_both_foldings_meet_in_a_network_of_one_layer():
    X, y = rng().standard_normal((50, 3)) + 9, rng().standard_normal((50, 1)) * 5
    xs, ys = Standardizer(X), Standardizer(y)
    W, b = rng().standard_normal((3, 1)), rng().standard_normal(1)
    expected = ((X - xs.mean) / xs.scale @ W + b) * ys.scale + ys.mean
    xs.fold_into_input(W, b)
    ys.fold_into_output(W, b)
    assert np.allclose(X @ W + b, expected, rtol=1e-10)


def test_the_split_is_independent_of_data_made_from_the_same_seed():
    """Seed 0 makes many data sets: their first column must not decide who is tested."""
    for seed in range(3):
        x = np.random.default_rng(seed).random(2000)
        _, held = stratified_split(np.zeros(2000, int), 0.2, seed)
        assert abs(x[held].mean() - 0.5) < 0.06  # 4 sigma
        _, held = stratified_split(x, 0.2, seed)
        assert abs(x[held].mean() - 0.5) < 0.06


def test_columns_of_a_table_survive_a_file(tmp_path):
    """safetensors 0.8 writes memory as it lies, whatever an array's strides."""
    moments = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).T
    trainer = fb.Trainer(fb.MLP([3, 2], seed=0), "mse")
    trainer.preparation = Preparation(3, mean=moments[:, 0], scale=moments[:, 1][::-1])
    X = rng().standard_normal((5, 3))
    trainer.save(tmp_path / "model.safetensors")
    again = fb.load(tmp_path / "model.safetensors")
    assert again.preparation.mean.tolist() == [1, 2, 3] and again.preparation.scale.tolist() == [6, 5, 4]
    assert np.array_equal(again.predict(X), trainer.predict(X))
