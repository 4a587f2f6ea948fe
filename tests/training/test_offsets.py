"""Offsets: exposures of count models, and what else is added to the outputs before the link."""

import harness as h
import numpy as np
import pytest
from oracle import Oracle, mixed, shaken

import fastbp as fb
from fastbp import preparation
from fastbp.kernels import reference as ref

# ship damage of McCullagh and Nelder, Generalized Linear Models (1989), table 6.2: type, year built, period
# of operation, months of service, incidents
SHIPS = """
A 60 60 127 0; A 60 75 63 0; A 65 60 1095 3; A 65 75 1095 4; A 70 60 1512 6; A 70 75 3353 18; A 75 75 2244 11
B 60 60 44882 39; B 60 75 17176 29; B 65 60 28609 58; B 65 75 20370 53; B 70 60 7064 12; B 70 75 13099 44
B 75 75 7117 18; C 60 60 1179 1; C 60 75 552 1; C 65 60 781 0; C 65 75 676 1; C 70 60 783 6; C 70 75 1948 2
C 75 75 274 1; D 60 60 251 0; D 60 75 105 0; D 65 60 288 0; D 65 75 192 0; D 70 60 349 2; D 70 75 1208 11
D 75 75 2051 4; E 60 60 45 0; E 65 60 789 7; E 65 75 437 7; E 70 60 1157 5; E 70 75 2161 12; E 75 75 542 1
"""


def ships():
    """(X of dummies, incidents, months of service); the base is a ship A of 60, in 60."""
    rows = [line.split() for line in SHIPS.replace(";", "\n").strip().splitlines()]
    kinds, years, periods, service, incidents = zip(*rows, strict=True)
    columns = [np.array(kinds) == k for k in "BCDE"] + [np.array(years) == y for y in ("65", "70", "75")]
    X = np.array([*columns, np.array(periods) == "75"], float).T
    return X, np.array(incidents, float), np.array(service, float)


def glm(X, loss):
    """A network without hidden layers, which L-BFGS brings to its optimum."""
    net = fb.MLP([X.shape[1], 1], initializer="zeros", dtype="float64")
    return fb.Trainer(net, loss, fb.LBFGS(tolerance_grad=1e-12, tolerance_change=0.0))


def coefficients(trainer):
    return np.concatenate([trainer.net.biases[0], trainer.net.weights[0][:, 0]])


def test_a_poisson_glm_is_rs(rng):
    """glm(incidents ~ type + year + period, poisson, offset = log(service)): coefficients as published."""
    X, y, service = ships()
    trainer = glm(X, "poisson_nll")
    trainer.fit(X, y, epochs=500, offset=np.log(service))
    published = [-6.4059, -0.5433, -0.6874, -0.0760, 0.3256, 0.6971, 0.8184, 0.4534, 0.3845]
    np.testing.assert_allclose(coefficients(trainer), published, atol=6e-5)
    mean = trainer.predict(X, offset=np.log(service))[:, 0]
    deviance = 2 * np.sum(np.where(y > 0, y * np.log(np.maximum(y, 1) / mean), 0) - (y - mean))
    assert deviance == pytest.approx(38.695, abs=1e-3)


@pytest.mark.parametrize("family", ["Poisson", "Gamma", "Gaussian"])
@pytest.mark.parametrize("weighted", [False, True])
def test_generalised_linear_models_are_statsmodels(rng, family, weighted):
    sm = pytest.importorskip("statsmodels.api")
    X, offset = rng.standard_normal((300, 3)), rng.uniform(-1, 2, 300)
    mean = X @ [0.3, -0.2, 0.5] + 0.7 + offset
    weight = rng.uniform(0.5, 2, 300) if weighted else None
    if family == "Poisson":
        y, loss, kind = rng.poisson(np.exp(mean)).astype(float), "poisson_nll", sm.families.Poisson()
    elif family == "Gamma":
        y, loss = rng.gamma(3, np.exp(mean) / 3), "gamma_nll"
        kind = sm.families.Gamma(sm.families.links.Log())
    else:
        y, loss, kind = mean + rng.standard_normal(300), "mse", sm.families.Gaussian()
    exact = sm.GLM(y, sm.add_constant(X), kind, offset=offset, freq_weights=weight).fit(tol=1e-12)
    trainer = glm(X, loss)
    trainer.fit(X, y, epochs=500, sample_weight=weight, offset=offset)
    np.testing.assert_allclose(coefficients(trainer), exact.params, atol=1e-6)
    found = trainer.predict(X, offset=offset)[:, 0]
    np.testing.assert_allclose(found, exact.predict(sm.add_constant(X), offset=offset), rtol=1e-5)


def test_a_rate_is_a_count_weighed_by_its_exposure(rng):
    """The way of scikit-learn's PoissonRegressor, for estimators: y / exposure, sample_weight=exposure."""
    X, y, service = ships()
    trainer, other = glm(X, "poisson_nll"), glm(X, "poisson_nll")
    trainer.fit(X, y, epochs=500, offset=np.log(service))
    other.fit(X, y / service, epochs=500, sample_weight=service)
    np.testing.assert_allclose(coefficients(other), coefficients(trainer), atol=1e-4)


NETS = {
    "plain": ({}, [6, 20, 3], "tanh"),
    "wide": ({}, [6, 20, 40], "tanh"),
    "rich": (
        {"norm": ["layer", "batch"], "residual": [False, True], "embeddings": {1: (5, 3)}, "dropout": 0.3},
        [6, 20, 20, 3],
        ["silu", "prelu"],
    ),
}
LOSSES = ["mse", "cross_entropy", "bce_with_logits", "poisson_nll", "focal"]


def network(rng, case, dtype="float64"):
    more, sizes, activation = NETS[case]
    return shaken(fb.MLP(sizes, activation, **more, seed=1, dtype=dtype), rng)


def targets(rng, loss, rows, outputs):
    if loss in ("cross_entropy", "focal"):
        return rng.integers(0, outputs, rows)
    return (
        rng.poisson(2, (rows, outputs)).astype(float)
        if loss == "poisson_nll"
        else (rng.uniform(size=(rows, outputs)))
    )


@pytest.mark.parametrize("dtype", h.DTYPES)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("case", NETS)
def test_everything_that_takes_one(rng, case, loss, dtype):
    """As if the outputs were others: forward, predict, evaluate, gradients, by the reference."""
    net, limit = network(rng, case, dtype), {"float32": 2e-5, "float64": 1e-11}[dtype]
    outputs = net.sizes[-1]
    X, y = mixed(rng, 300, 6, net.embedded, dtype), targets(rng, loss, 300, outputs)
    trainer, weight = fb.Trainer(net, loss), rng.uniform(0, 2, 300)
    for offset in (rng.standard_normal((300, outputs)), rng.standard_normal(300)):
        z = Oracle(net).outputs(X) + offset.reshape(300, -1)
        exact, _ = ref.loss_and_delta(loss, z, y, weight)
        assert h.relative(trainer.forward(X, offset=offset), z) < limit
        link = "focal/labels" if loss == "focal" else loss
        assert h.relative(trainer.predict(X, offset=offset), ref.link(link, z)) < 3 * limit
        assert trainer.evaluate(X, y, weight, offset=offset)["loss"] == pytest.approx(exact, rel=10 * limit)
    if case != "rich":  # whose batch norm takes the statistics of X in gradients
        value, grads = trainer.gradients(X, y, weight, offset=offset)
        _, delta = ref.loss_and_delta(loss, z, y, weight)
        hidden = trainer.activations(X).astype(float)
        assert value == pytest.approx(exact, rel=10 * limit)
        assert h.relative(grads[-1][0], hidden.T @ delta) < 10 * limit


@pytest.mark.parametrize("loss", ["poisson_nll", "cross_entropy", "mse"])
def test_derivatives_see_it(rng, loss):
    net = network(rng, "plain")
    X, offset, g = rng.standard_normal((20, 6)), rng.standard_normal((20, 3)), rng.standard_normal((20, 3))
    trainer, step = fb.Trainer(net, loss), 1e-5
    found = trainer.input_gradients(X, g, offset=offset)
    for column in range(6):
        up, down = X.copy(), X.copy()
        up[:, column] += step
        down[:, column] -= step
        exact = (trainer.predict(up, offset=offset) - trainer.predict(down, offset=offset)) / (2 * step)
        assert h.relative(found[:, column], (g * exact).sum(axis=1)) < 1e-7
    grads, w = trainer.gradients_from(X, g, offset=offset), net.weights[1]
    kept = w[2, 1]
    sums = []
    for d in (step, -step):
        w[2, 1] = kept + d
        sums.append((g * trainer.predict(X, offset=offset)).sum())
    assert grads[1][0][2, 1] == pytest.approx((sums[0] - sums[1]) / (2 * step), rel=1e-6)


def test_an_offset_of_zero_changes_no_bit(rng):
    X, y = rng.standard_normal((100, 6)).astype("f4"), rng.poisson(2, (100, 3))
    found = []
    for threads in (1, 2):
        for offset in (None, np.zeros(100), np.zeros((100, 3))):
            trainer = fb.Trainer(network(np.random.default_rng(0), "plain", "float32"), "poisson_nll",
                                 batch_size=16, seed=0, threads=threads)  # fmt: skip
            trainer.fit(X, y, epochs=2, offset=offset)
            found.append(trainer.net.params.tobytes() + trainer.predict(X, offset=offset).tobytes())
    assert len(set(found)) == 1


def test_shuffled_fits_streams_and_steps_agree(rng):
    """Each sample keeps its own; one step by train_on_batch, partial_fit, a stream, a fit and L-BFGS."""
    X, y, offset = rng.standard_normal((40, 6)), rng.poisson(2, (40, 3)), rng.standard_normal((40, 3))
    weight = rng.uniform(0.1, 2, 40)
    ways = {
        "fit": lambda t: t.fit(X, y, shuffle=False, sample_weight=weight, offset=offset),
        "stream": lambda t: t.fit(iter([(X, y, weight, offset)]), validation_data=(X, y, weight, offset)),
        "train_on_batch": lambda t: t.train_on_batch(X, y, weight, offset=offset),
        "partial_fit": lambda t: t.partial_fit(X, y, weight, offset=offset),
    }
    params = []
    for way in ways.values():
        trainer = fb.Trainer(network(np.random.default_rng(1), "plain"), "poisson_nll", batch_size=40, seed=0)
        way(trainer)
        params.append(trainer.net.params.copy())
    assert all(np.array_equal(p, params[0]) for p in params)
    order = rng.permutation(40)
    nets = [network(np.random.default_rng(1), "plain") for _ in range(2)]
    for net, at in zip(nets, (slice(None), order), strict=True):
        trainer = fb.Trainer(net, "poisson_nll", fb.SGD(0.01), batch_size=40)
        trainer.fit(X[at], y[at], offset=offset[at])
    assert h.relative(nets[0].params, nets[1].params) < 1e-13


@pytest.mark.parametrize("where", ["training", "validation"])
def test_many_networks(rng, where):
    """Each as fit trains it alone: with an offset for all, or with offset and weights of validation rows."""
    X, y, offset = (
        rng.standard_normal((40, 6)),
        rng.poisson(2, (40, 3)).astype(float),
        rng.normal(size=(40, 3)),
    )
    weight, common = rng.uniform(0.1, 2, (40, 3)), {"epochs": 2, "metrics": ["mae"]}
    if where == "training":
        common |= {"offset": offset, "validation_data": (X, y, None, offset)}
    else:
        common |= {"validation_data": (X, y, weight, offset)}

    def made():
        nets = [fb.MLP([6, width, 3], seed=0) for width in (4, 9)]
        return [fb.Trainer(net, "poisson_nll", batch_size=16, seed=0) for net in nets]

    together, apart = made(), made()
    histories = fb.fit_many(together, X, y, verbose=0, **common)
    for trainer, other, history in zip(together, apart, histories, strict=True):
        exact = other.fit(X, y, **common).history
        for name in ("loss", "val_loss", "val_mae"):
            assert history.history[name] == exact[name]
        assert np.array_equal(trainer.net.params, other.net.params)


def test_parts_metrics_and_helpers(rng):
    X, y, offset = rng.standard_normal((60, 6)), rng.poisson(2, (60, 3)).astype(float), rng.normal(size=60)
    trainer = fb.Trainer(network(rng, "plain"), "poisson_nll", batch_size=20, seed=0)
    history = trainer.fit(X, y, 2, validation_split=0.25, metrics=["mae"], offset=offset).history
    held_out = slice(45, None)
    found = trainer.evaluate(X[held_out], y[held_out], metrics=["mae"], offset=offset[held_out])
    assert found["loss"] == history["val_loss"][-1] and found["mae"] == history["val_mae"][-1]
    exact = np.abs(trainer.predict(X, offset=offset) - y).mean()
    assert trainer.evaluate(X, y, metrics=["mae"], offset=offset)["mae"] == pytest.approx(exact)
    assert (
        trainer.fit(X, y, validation_data=(X, y, None, offset)).history["val_loss"][0]
        == (trainer.evaluate(X, y, offset=offset)["loss"])
    )
    assert np.isfinite(trainer.lr_find(X, y, steps=5, offset=offset).losses).all()
    every = trainer.diagnose(X, y, offset=offset)
    assert every.loss == pytest.approx(trainer.evaluate(X, y, offset=offset)["loss"])
    assert trainer.diagnose(X, y, rows=20, offset=offset).rows == 20


def test_with_unknown_targets_and_weights_of_targets(rng):
    X, y, offset = rng.standard_normal((50, 6)), rng.standard_normal((50, 3)), rng.standard_normal((50, 3))
    weight = rng.uniform(0.1, 2, y.shape)
    y[rng.uniform(size=y.shape) < 0.3] = np.nan
    net = network(rng, "plain")
    trainer = fb.Trainer(net, fb.losses.MSE(ignore_nan=True))
    z, known = trainer.forward(X) + offset, ~np.isnan(y)
    exact = np.sum((weight * (z - np.where(known, y, 0)) ** 2)[known]) / weight[known].sum()
    assert trainer.evaluate(X, y, weight, offset=offset)["loss"] == pytest.approx(exact, rel=1e-12)


def test_with_dropout_on(rng):
    net = network(rng, "rich")
    X, offset = mixed(rng, 300, 6, net.embedded, float), rng.standard_normal((300, 3))
    trainer = fb.Trainer(net, "mse", seed=3)
    found, plain = trainer.predict(X, samples=2, offset=offset), trainer.predict(X, samples=2)
    np.testing.assert_allclose(found, plain + offset, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("loss", ["mse", "gaussian_nll", fb.losses.Quantile((0.1, 0.9)),
                                  fb.losses.Quantile((0.1, 0.9), ordered=True)])  # fmt: skip
def test_in_the_targets_own_unit(rng, loss):
    """With a prepared target: predictions move by the offset, of gaussian_nll their mean."""
    X, y = rng.standard_normal((80, 4)), 100 + 20 * rng.standard_normal((80, 2))
    outputs = 2 if loss == "mse" else 4
    trainer = fb.Trainer(fb.MLP([4, 8, outputs], seed=0, dtype="float64"), loss)
    trainer.preparation = preparation.Preparation.fit(X, y)
    offset = 10 * rng.standard_normal((80, 2))
    moved = trainer.predict(X, offset=offset) - trainer.predict(X)
    each = {"gaussian_nll": np.hstack([offset, 0 * offset]), "mse": offset}
    expected = each.get(loss if isinstance(loss, str) else "", np.repeat(offset, outputs // 2, axis=1))
    np.testing.assert_allclose(moved, expected, atol=1e-10)
    same = trainer.evaluate(X, y + offset, offset=offset)["loss"]
    assert same == pytest.approx(trainer.evaluate(X, y)["loss"], rel=1e-9)


@pytest.mark.parametrize(
    "offset,match",
    [
        (np.zeros(4), r"offset: got shape \(4,\), takes \(5,\), one for each row of X, or \(5, 3\)"),
        (np.zeros((5, 2)), r"offset: got shape \(5, 2\)"),
        (np.full(5, np.nan), "offset: got nan at row 0"),
        (np.full(5, -np.inf), "offset: got -inf at row 0"),
        (["a"] * 5, "offset: got dtype"),
        (1.0, r"offset: got shape \(\)"),
    ],
)
def test_what_is_refused(offset, match):
    trainer = fb.Trainer(fb.MLP([2, 3], seed=0), "poisson_nll")
    X, y = np.ones((5, 2)), np.ones((5, 3))
    for call in (trainer.fit, trainer.evaluate, trainer.gradients):
        with pytest.raises((ValueError, TypeError), match=match):
            call(X, y, offset=offset)
    with pytest.raises((ValueError, TypeError), match=match):
        trainer.predict(X, offset=offset)


def test_data_of_five_parts_is_refused():
    """What follows the offset would be lost."""
    trainer = fb.Trainer(fb.MLP([2, 3], seed=0), "poisson_nll")
    X, y = np.ones((5, 2)), np.ones((5, 3))
    with pytest.raises(ValueError, match=r"validation_data: got tuple of 5, takes \(X, y\)"):
        trainer.fit(X, y, validation_data=(X, y, None, None, None))
    with pytest.raises(TypeError, match="X: got a stream of tuple of 5, takes"):
        trainer.fit(iter([(X, y, None, None, None)]))
