"""Targets that are known for some samples only, and a weight for each target."""

import dataclasses

import draw
import harness as h
import numpy as np
import pytest
from sklearn import metrics as sk

import fastbp as fb
from fastbp import metrics
from fastbp.custom.functions import weighed
from fastbp.kernels import codes, loss_formulas

FORMULA = fb.loss(lambda z, t: (z - t) ** 4, name="fourth")


def by_output(outputs):
    """Every loss whose outputs are treated alone, as draw.py names its variants."""
    every = draw.VARIANTS | draw.weighted(outputs)
    return {name: loss for name, loss in every.items() if draw.by_output(name, outputs)}


VARIANTS = by_output(6)


def ignoring(loss):
    return dataclasses.replace(loss, ignore_nan=True)


def problem(rng, variant, outputs, rows=37):
    """(X, y with NaN, mask of what is known, weights of targets); of row 3 nothing is known."""
    y = draw.targets(rng, variant, rows, outputs)
    known = rng.uniform(size=y.shape) > 0.3
    known[3], known[0] = False, True
    weight = rng.uniform(0.1, 2, y.shape) * (rng.uniform(size=y.shape) > 0.1)
    weight[0] = 1.0
    return rng.standard_normal((rows, 5)), np.where(known, y, np.nan), known, weight


def network(outputs, dtype="float64", hidden=9):
    return fb.MLP([5, hidden, outputs], "tanh", seed=1, dtype=dtype)


def forward64(net, X):
    (w, b), (v, c) = (
        (w.astype(float), b.astype(float)) for w, b in zip(net.weights, net.biases, strict=True)
    )
    hidden = np.tanh(X @ w + b)
    return hidden, hidden @ v + c


def torch_mean(torch, variant, loss, z, y, weight):
    """sum of weight times loss over sum of weights: what a masked loss in torch is, target by target."""
    total, each = 0.0, z.shape[1] // y.shape[1]
    for i, k in zip(*np.nonzero(~np.isnan(y) & (weight > 0)), strict=True):
        columns, own = slice(k * each, (k + 1) * each), loss
        if loss.name == "gaussian_nll":
            columns = [k, y.shape[1] + k]
        if getattr(loss, "pos_weight", None) is not None:
            own = dataclasses.replace(loss, pos_weight=loss.pos_weight[k])
        t = torch.tensor([[y[i, k]]])
        total = total + weight[i, k] * draw.torch_loss(torch, variant, own, z[i : i + 1, columns], t)
    return total / weight[~np.isnan(y)].sum()


def weights_of(kind, rng, weight):
    """None, (N,) or (N, targets); and what it is for each target."""
    if kind == "none":
        return None, np.ones_like(weight)
    if kind == "samples":
        given = rng.uniform(0.1, 2, len(weight))
        return given, np.broadcast_to(given[:, None], weight.shape)
    return weight, weight


@pytest.mark.parametrize("kind", ["none", "samples", "targets"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_reference_is_a_masked_loss_of_torch(rng, variant, kind):
    torch = pytest.importorskip("torch")
    loss, (_, y, known, weight) = VARIANTS[variant], problem(rng, variant, 6)
    weight = weights_of(kind, rng, weight)[1]
    z = draw.outputs_off_kinks(
        rng, loss.name, np.where(known, y, y[known][0]), 6, 1e-6, **draw.constants(loss)
    )
    value, delta = draw.exact(variant, loss, z, y, weight * known)
    leaf = torch.from_numpy(z).requires_grad_()
    theirs = torch_mean(torch, variant, loss, leaf, y, weight)
    theirs.backward()
    assert value == pytest.approx(theirs.item(), rel=1e-12)
    np.testing.assert_allclose(delta, leaf.grad.numpy(), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v != "gaussian_nll/eps"])  # torch's rule there
def test_reference_gradient_is_central_differences(rng, variant):
    loss, step, (_, y, known, weight) = VARIANTS[variant], 1e-5, problem(rng, variant, 6, 7)
    z = draw.outputs_off_kinks(
        rng, loss.name, np.where(known, y, y[known][0]), 6, 100 * step, **draw.constants(loss)
    )
    delta, differences = draw.exact(variant, loss, z, y, weight * known)[1], np.zeros_like(z)
    for i in np.ndindex(z.shape):
        up, down = z.copy(), z.copy()
        up[i], down[i] = z[i] + step, z[i] - step
        up, down = (draw.exact(variant, loss, x, y, weight * known)[0] for x in (up, down))
        differences[i] = (up - down) / (2 * step)
    np.testing.assert_allclose(delta, differences, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("dtype", h.DTYPES)
@pytest.mark.parametrize("kind", ["none", "samples", "targets"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_trainer(rng, variant, kind, dtype):
    """Loss, accuracy and gradients of narrow and of wide rows; a weight for each target without NaN too."""
    for outputs in (1, 6, 40):
        if not draw.fits(variant, outputs):
            continue
        net, (X, y, known, weight) = network(outputs, dtype), problem(rng, variant, outputs)
        given, weight = weights_of(kind, rng, weight)
        X, y = X.astype(dtype), y.astype(dtype)
        hidden, z = forward64(net, X.astype(float))
        whole = np.where(known, y, y[known][0])
        cases = [(ignoring(by_output(outputs)[variant]), y, weight * known)]
        if kind == "targets":
            cases.append((by_output(outputs)[variant], whole, weight))
        for loss, t, w in cases:
            exact, delta = draw.exact(variant, loss, z, t.astype(float), w)
            trainer = fb.Trainer(net, loss)
            limit = {"float64": 1e-11, "float32": 2e-5}[dtype]
            value, grads = trainer.gradients(X, t, given)
            assert value == pytest.approx(exact, rel=limit, abs=limit)
            assert h.relative(grads[1][0], hidden.T @ delta) < limit
            result = trainer.evaluate(X, t, given)
            assert result["loss"] == pytest.approx(exact, rel=limit, abs=limit)
            if loss.code(outputs) in codes.RIGHT_BY_OUTPUT:
                right = (z > 0) == (whole > (0 if loss.name == "hinge" else 0.5))
                assert result["accuracy"] == pytest.approx(right[w > 0].mean())


@pytest.mark.parametrize("kind", ["none", "targets"])
def test_a_loss_of_the_users_own(rng, kind):
    X, y, known, weight = problem(rng, "mse", 4)
    loss = fb.loss(lambda z, t: (z - t) ** 4, ignore_nan=True)
    net = network(4)
    trainer = fb.Trainer(net, loss)
    given, weight = weights_of(kind, rng, weight)
    z, w = forward64(net, X)[1], weight * known
    exact = np.sum(w * (z - np.where(known, y, 0)) ** 4) / w.sum()
    assert trainer.evaluate(X, y, given)["loss"] == pytest.approx(exact, rel=1e-11)
    with pytest.raises(ValueError, match="ignore_nan=True"):
        fb.Trainer(net, FORMULA).evaluate(X, y, given)


def test_a_fit_is_torchs_batch_by_batch(rng):
    """Each batch's loss is over its own known targets, as loss[known].mean() is."""
    torch = pytest.importorskip("torch")
    X, y, _, weight = problem(rng, "mse", 6, 50)
    net = network(6)
    layers = [torch.from_numpy(a.copy()).requires_grad_() for p in zip(net.weights, net.biases, strict=True)
              for a in p]  # fmt: skip
    step = torch.optim.SGD(layers, lr=0.1)
    trainer = fb.Trainer(net, fb.losses.MSE(ignore_nan=True), fb.SGD(0.1), batch_size=16)
    trainer.fit(X, y, epochs=3, shuffle=False, sample_weight=weight)
    for _ in range(3):
        for start in range(0, 50, 16):
            rows, (w, b, v, c) = slice(start, start + 16), layers
            step.zero_grad()
            z = torch.tanh(torch.from_numpy(X[rows]) @ w + b) @ v + c
            torch_mean(torch, "mse", trainer.loss, z, y[rows], weight[rows]).backward()
            step.step()
    for ours, theirs in zip(net.weights, layers[::2], strict=True):
        assert h.relative(ours, theirs.detach().numpy()) < 1e-12


@pytest.mark.parametrize("threads", [1, 2])
def test_what_is_not_known_might_be_anything(rng, threads):
    """With weights of 0 in the place of NaN the same bits, whatever stands there."""
    X, y, known, _ = problem(rng, "mse", 40, 300)
    found = []
    for t, weight, loss in (
        (y, None, fb.losses.Huber(ignore_nan=True)),
        (np.where(known, y, 1e30), known.astype(float), fb.losses.Huber()),
        (np.where(known, y, -3), known.astype(float), fb.losses.Huber()),
    ):
        trainer = fb.Trainer(network(40, "float32"), loss, batch_size=64, seed=0, threads=threads)
        trainer.fit(X, t, epochs=2, sample_weight=weight)
        found.append(trainer.net.params.tobytes())
    assert found[0] == found[1] == found[2]


def test_equal_weights_of_targets_are_weights_of_samples(rng):
    X, y = rng.standard_normal((40, 5)), rng.standard_normal((40, 6))
    weight = rng.uniform(0, 2, 40)
    trainer = fb.Trainer(network(6), "mse")
    one, two = (trainer.gradients(X, y, w) for w in (weight, np.repeat(weight[:, None], 6, axis=1)))
    assert one[0] == pytest.approx(two[0], rel=1e-13)
    assert h.relative(one[1][0][0], two[1][0][0]) < 1e-13


def test_everything_that_takes_targets(rng, tmp_path):
    """fit with its options, streams, single steps, L-BFGS, files, diagnosis, the range test."""
    X, y, known, weight = problem(rng, "mse", 3, 64)
    loss = fb.losses.MSE(ignore_nan=True)
    trainer = fb.Trainer(network(3), loss, batch_size=16, seed=0)
    history = trainer.fit(X, y, 2, validation_data=(X, y, weight), metrics=["r2", "mae"]).history
    exact = np.abs(trainer.predict(X) - np.where(known, y, 0))
    weight_of_known = weight * known
    assert history["val_mae"][-1] == pytest.approx((weight_of_known * exact).sum() / weight_of_known.sum())
    trainer.fit(X, y, 1, validation_split=0.25, early_stopping=2)
    trainer.fit(iter([(X, y), (X, y, weight), (X, y, weight[:, 0] + 1)]))
    assert np.isfinite([trainer.train_on_batch(X, y, weight), trainer.partial_fit(X, y)]).all()
    assert np.isfinite(trainer.lr_find(X, y, sample_weight=weight, steps=10).losses).all()
    assert np.isfinite(trainer.diagnose(X, y, weight, rows=20).loss)
    before = trainer.evaluate(X, y)["loss"]
    trainer.save(tmp_path / "model.safetensors")
    again = fb.load(tmp_path / "model.safetensors")
    assert again.loss == loss and again.evaluate(X, y)["loss"] == before
    small = fb.Trainer(network(3), loss, fb.LBFGS())
    small.fit(X, y, epochs=30, sample_weight=weight)
    assert small.evaluate(X, y, weight)["loss"] < before


# ------------------------------------------------------------------------------------------------- metrics


def test_metrics_count_what_is_known(rng):
    y, p = rng.standard_normal((60, 4)), rng.standard_normal((60, 4))
    weight = rng.uniform(0.1, 2, y.shape) * (rng.uniform(size=y.shape) > 0.3)
    weight[:, 2] = 0.0  # of which nothing is known
    columns = [0, 1, 3]

    def each(function):
        return np.mean([function(y[:, c], p[:, c], sample_weight=weight[:, c]) for c in columns])

    flat = {"sample_weight": weight.ravel()}
    expected = {
        "mae": sk.mean_absolute_error(y.ravel(), p.ravel(), **flat),
        "mse": sk.mean_squared_error(y.ravel(), p.ravel(), **flat),
        "rmse": each(sk.root_mean_squared_error),
        "r2": each(sk.r2_score),
    }
    hidden = np.where(weight > 0, y, np.nan)
    for name, value in expected.items():
        assert metrics.METRICS[name](y, p, weight) == pytest.approx(value, rel=1e-12), name
        assert metrics.METRICS[name](hidden, p, weight) == pytest.approx(value, rel=1e-12), name
    yes, chance = (y > 0).astype(float), rng.uniform(size=y.shape)
    columns_of = [(yes[:, c], chance[:, c], weight[:, c]) for c in columns]
    said = chance > 0.5
    expected = {
        "accuracy": sk.accuracy_score(yes.ravel(), said.ravel(), **flat),
        "log_loss": sk.log_loss(yes.ravel(), chance.ravel(), **flat),
        "auc": np.mean([sk.roc_auc_score(a, b, sample_weight=w) for a, b, w in columns_of]),
        "f1": np.mean([sk.f1_score(a, b > 0.5, sample_weight=w) for a, b, w in columns_of]),
        "precision": np.mean([sk.precision_score(a, b > 0.5, sample_weight=w) for a, b, w in columns_of]),
        "recall": np.mean([sk.recall_score(a, b > 0.5, sample_weight=w) for a, b, w in columns_of]),
    }
    for name, value in expected.items():
        assert metrics.METRICS[name](yes, chance, weight) == pytest.approx(value, rel=1e-12), name
    with pytest.raises(ValueError, match=r"sample_weight: got shape \(60, 3\), takes \(60,\), or \(60, 4\)"):
        metrics.mae(y, p, weight[:, :3])


@pytest.mark.parametrize("variant,outputs", [("mse", 3), ("mse", 1), ("gaussian_nll", 4)])
def test_functions_of_the_users_own_see_what_is_known(rng, variant, outputs):
    """Target by target, without what is not known; sample_weight only where weights differ."""
    X, y, known, _ = problem(rng, variant, outputs)
    trainer = fb.Trainer(network(outputs), ignoring(VARIANTS[variant]))
    seen = []

    def largest(t, prediction, **more):
        assert not more and np.isfinite(t).all() and len(prediction) == len(t)
        seen.append(len(t))
        prediction = prediction if prediction.ndim == 1 else prediction[:, 0]
        return np.abs(t - prediction).max()

    found = trainer.evaluate(X, y, metrics=[largest])["largest"]
    p = trainer.predict(X)
    parts = [np.abs(y[known[:, k], k] - p[known[:, k], k]).max() for k in range(y.shape[1])]
    assert found == pytest.approx(np.mean(parts))
    assert seen == known.sum(axis=0).tolist()


# ------------------------------------------------------------------------------------------------- refused


def test_every_loss_is_in_one_of_two_kinds():
    assert set(loss_formulas.WEIGHED) == set(loss_formulas.LOSS) - set(codes.TOGETHER)


def test_the_same_definition_has_one_code():
    assert weighed(codes.MSE) == weighed(codes.MSE) != weighed(codes.MAE)


@pytest.mark.parametrize(
    "make,match",
    [
        (lambda X, y: run("mse", X, y), r"y: got nan at row 1, column 1, .* a loss with ignore_nan"),
        (lambda X, y: run(fb.losses.MSE(ignore_nan=True), X, y + np.inf), "y: got inf at row 0"),
        (lambda X, y: run(fb.losses.MSE(ignore_nan=True), X, y * np.nan), "y: got NaN alone"),
        (lambda X, y: run(fb.losses.MSE(ignore_nan=True), X, y, np.isnan(y)), "sample_weight: got 0 for"),
        (lambda X, y: run("mse", X, np.zeros_like(y), np.ones((5, 2))), r"\(5,\), .*, or \(5, 3\), one"),
        (lambda X, y: run("mse", X, np.zeros_like(y), np.ones((4, 3))), r"got shape \(4, 3\), takes \(5,\)"),
        (lambda X, y: run("mse", X, np.zeros_like(y), -np.ones((5, 3))), "sample_weight: got -1.0, takes"),
        (lambda X, y: run("mse", X, np.zeros_like(y), np.full((5, 3), np.nan)), "sample_weight: got nan at"),
        (lambda X, y: run("cosine", X, np.ones_like(y), np.ones((5, 3))), r"takes \(5,\), one for .* X$"),
        (lambda X, y: run("cross_entropy", X, np.zeros(5, int), np.ones((5, 3))), r"takes \(5,\), one for"),
        (lambda X, y: run(fb.losses.Focal(ignore_nan=True), X, y), "Focal ignore_nan: got True for 3"),
        (lambda X, y: fb.losses.MSE(ignore_nan="no"), "MSE ignore_nan: got 'no', takes True or False"),
        (lambda X, y: fb.losses.Quantile(0.5, ignore_nan=1), "Quantile ignore_nan: got 1, takes True"),
    ],
)  # fmt: skip
def test_what_is_refused(make, match):
    X, y = np.ones((5, 5)), np.zeros((5, 3))
    y[1, 1] = np.nan
    with pytest.raises((ValueError, TypeError), match=match):
        make(X, y)


def run(loss, X, y, weight=None):
    fb.Trainer(network(3), loss).fit(X, y, sample_weight=weight)
