"""Several quantiles at once: ordered ones do not cross, whatever the network; metrics, units, files."""

import harness as h
import numpy as np
import pytest

import fastbp as fb
from fastbp import metrics, preparation
from fastbp.kernels import reference as ref

sk = pytest.importorskip("sklearn.metrics")
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
MANY = tuple(np.arange(1, 100) / 100)


def problem(rng, rows=2000):
    """A spread that grows with x: (X, y, its true quantiles at LEVELS)."""
    from statistics import NormalDist

    X = rng.uniform(-1, 1, (rows, 1))
    spread = 0.2 + 0.8 * (X[:, 0] + 1) / 2
    normal = np.array([NormalDist().inv_cdf(q) for q in LEVELS])
    y = np.sin(3 * X[:, 0]) + spread * rng.standard_normal(rows)
    return X, y, np.sin(3 * X) + spread[:, None] * normal


@pytest.mark.parametrize("dtype", h.DTYPES)
@pytest.mark.parametrize("levels,targets", [(LEVELS, 1), (LEVELS, 3), ((0.1, 0.9), 16), (MANY, 1), (MANY, 2)])
def test_they_never_cross(rng, dtype, levels, targets):
    """Of networks with any weights, also huge ones, in narrow and in wide rows; they are the reference's."""
    loss = fb.losses.Quantile(levels, ordered=True)
    for size in (0.1, 1.0, 30.0):
        net = fb.MLP([4, 8, targets * len(levels)], "tanh", seed=0, dtype=dtype)
        net.params[:] *= size
        trainer, X = fb.Trainer(net, loss), rng.standard_normal((50, 4)).astype(dtype)
        found = trainer.predict(X).reshape(50, targets, -1)
        assert (np.diff(found, axis=2) >= 0).all()
        exact = ref.link("quantile", trainer.forward(X).astype(float), quantiles=levels, ordered=True)
        assert h.relative(found.reshape(50, -1), exact) < {"float32": 2e-6, "float64": 1e-13}[dtype]


def test_outputs_of_zero_are_a_normal_distribution():
    from statistics import NormalDist

    net = fb.MLP([1, 3], initializer="zeros", dtype="float64")
    for levels in ((0.1, 0.5, 0.9), (0.05, 0.5, 0.95)):
        found = fb.Trainer(net, fb.losses.Quantile(levels, ordered=True)).predict([[1.0]])[0]
        np.testing.assert_allclose(found, [NormalDist().inv_cdf(q) for q in levels], atol=1e-15)


def test_a_fit_finds_the_quantiles(rng):
    X, y, true = problem(rng)
    net, loss = fb.MLP([1, 32, 32, 5], "tanh", seed=0), fb.losses.Quantile(LEVELS, ordered=True)
    trainer = fb.Trainer(net, loss, fb.Adam(0.01), 64, seed=0, schedule="cosine")
    history = trainer.fit(X, y, epochs=40, metrics=["pinball"]).history
    found = trainer.predict(X)
    assert (np.diff(found, axis=1) >= 0).all()
    exact, of_true = (
        np.mean([sk.mean_pinball_loss(y, each[:, k], alpha=q) for k, q in enumerate(LEVELS)])
        for each in (found, true)
    )
    assert exact < 1.05 * of_true  # seen: 1.02
    assert np.abs(found - true).mean() < 0.2  # of a deviation of 1
    assert history["pinball"][-1] == pytest.approx(exact, rel=1e-6)
    assert trainer.evaluate(X, y)["loss"] == pytest.approx(exact, rel=1e-5)
    inside = ((y > found[:, 0]) & (y < found[:, -1])).mean()
    assert abs(inside - 0.9) < 0.05


def test_a_step_is_torchs(rng):
    torch = pytest.importorskip("torch")
    X, y = rng.standard_normal((40, 3)), rng.standard_normal((40, 2))
    loss = fb.losses.Quantile((0.1, 0.5, 0.8), ordered=True)
    net = fb.MLP([3, 7, 6], "tanh", seed=0, dtype="float64")
    pairs = zip(net.weights, net.biases, strict=True)
    leaves = [torch.from_numpy(a.copy()).requires_grad_() for pair in pairs for a in pair]
    w, b, v, c = leaves
    z = (torch.tanh(torch.from_numpy(X) @ w + b) @ v + c).reshape(40, 2, 3)
    low, high = torch.special.ndtri(torch.tensor([0.1, 0.8], dtype=torch.float64))
    rises = torch.nn.functional.softplus(z[:, :, 1:]) * (high - low) / 2 / np.log(2)
    q = torch.cat([z[:, :, :1] + low, rises], dim=2).cumsum(dim=2)
    d = torch.from_numpy(y)[:, :, None] - q
    levels = torch.tensor(loss.quantiles, dtype=torch.float64)
    torch.maximum(levels * d, (levels - 1) * d).mean().backward()
    _, grads = fb.Trainer(net, loss).gradients(X, y)
    for ours, theirs in zip((a for pair in grads for a in pair), leaves, strict=True):
        assert h.relative(ours, theirs.grad.numpy()) < 1e-11


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("targets", [1, 2])
def test_in_the_targets_own_unit(rng, tmp_path, ordered, targets):
    """With a preparation, saved and loaded: predictions, metrics and derivatives by raw columns."""
    X, y = 5 + 3 * rng.standard_normal((300, 4)), 1e4 + 2e3 * rng.standard_normal((300, targets))
    levels, loss = (0.1, 0.5, 0.9), fb.losses.Quantile((0.1, 0.5, 0.9), ordered=ordered)
    trainer = fb.Trainer(
        fb.MLP([4, 16, 3 * targets], "tanh", seed=0, dtype="float64"), loss, fb.Adam(0.01), seed=0
    )
    trainer.preparation = preparation.Preparation.fit(X, y)
    trainer.fit(X, y, epochs=60)
    found = trainer.predict(X)
    middle = found[:, 1::3]
    assert (
        np.abs(middle.mean() - 1e4) < 1e3
        and (np.diff(found.reshape(300, targets, 3), axis=2) >= 0).mean() > 0.9
    )
    exact = np.mean([sk.mean_pinball_loss(y[:, k], found[:, 3 * k + j], alpha=q)
                     for k in range(targets) for j, q in enumerate(levels)])  # fmt: skip
    assert trainer.evaluate(X, y, metrics=["pinball"])["pinball"] == pytest.approx(exact, rel=1e-9)
    step, slopes = 1e-5, trainer.input_gradients(X, 2)
    up, down = X.copy(), X.copy()
    up[:, 0] += step
    down[:, 0] -= step
    differences = (trainer.predict(up) - trainer.predict(down))[:, 2] / (2 * step)
    assert h.relative(slopes[:, 0], differences) < 1e-6
    trainer.save(tmp_path / "model.safetensors")
    again = fb.load(tmp_path / "model.safetensors")
    assert again.loss == loss and np.array_equal(again.predict(X), found)


@pytest.mark.parametrize("weighted", ["no", "samples", "targets"])
def test_pinball_is_scikit_learns(rng, weighted):
    y, p = rng.standard_normal((50, 2)), rng.standard_normal((50, 6))
    w = {"no": None, "samples": rng.uniform(0.1, 2, 50), "targets": rng.uniform(0.1, 2, (50, 2))}[weighted]
    of = np.ones((50, 2)) if w is None else np.broadcast_to(w.reshape(50, -1), (50, 2))
    levels = (0.1, 0.5, 0.7)
    parts = [(sk.mean_pinball_loss(y[:, k], p[:, 3 * k + j], alpha=q, sample_weight=of[:, k]), of[:, k].sum())
             for k in range(2) for j, q in enumerate(levels)]  # fmt: skip
    values, sums = np.array(parts).T
    assert metrics.pinball(y, p, w, levels) == pytest.approx((values * sums).sum() / sums.sum(), rel=1e-12)
    assert metrics.pinball(np.repeat(y, 3, axis=1), p, w, levels) == metrics.pinball(y, p, w, levels)
    with pytest.raises(ValueError, match="pinball: got y_true"):
        metrics.pinball(y, p[:, :5], w, levels)


def test_unknown_targets_and_their_metric(rng):
    X, y = rng.standard_normal((60, 3)), rng.standard_normal((60, 2))
    y[rng.uniform(size=y.shape) < 0.4] = np.nan
    loss = fb.losses.Quantile((0.2, 0.8), ordered=True, ignore_nan=True)
    trainer = fb.Trainer(fb.MLP([3, 6, 4], seed=0, dtype="float64"), loss)
    found, p, known = trainer.evaluate(X, y, metrics=["pinball"]), trainer.predict(X), ~np.isnan(y)
    values = [sk.mean_pinball_loss(y[known[:, k], k], p[known[:, k], 2 * k + j], alpha=q) * known[:, k].sum()
              for k in range(2) for j, q in enumerate((0.2, 0.8))]  # fmt: skip
    assert found["pinball"] == pytest.approx(sum(values) / (2 * known.sum()), rel=1e-12)
    assert found["loss"] == pytest.approx(found["pinball"], rel=1e-12)


def test_one_quantile_is_as_before(rng):
    """There is nothing to order."""
    X, y = rng.standard_normal((50, 3)), rng.standard_normal(50)
    nets = [fb.MLP([3, 5, 1], seed=0) for _ in range(2)]
    for net, ordered in zip(nets, (False, True), strict=True):
        fb.Trainer(net, fb.losses.Quantile(0.3, ordered=ordered), seed=0).fit(X, y, epochs=2)
    assert np.array_equal(nets[0].params, nets[1].params)


@pytest.mark.parametrize(
    "make,match",
    [
        (lambda: fb.losses.Quantile((0.9, 0.1), ordered=True), r"quantiles: got \(0.9, 0.1\), takes rising"),
        (lambda: fb.losses.Quantile((0.5, 0.5), ordered=True), "takes rising numbers to be ordered"),
        (lambda: fb.losses.Quantile((0.1, 0.9), ordered="yes"), "Quantile ordered: got 'yes', takes True"),
        (lambda: metrics.table("pinball"), "metrics: got 'pinball', takes it with the loss 'quantile'"),
        (lambda: fb.Trainer(fb.MLP([2, 1], seed=0), "mse").evaluate([[1.0, 2]], [1.0], metrics="pinball"),
         "metrics: got 'pinball'"),
    ],
)  # fmt: skip
def test_what_is_refused(make, match):
    with pytest.raises((ValueError, TypeError), match=match):
        make()
