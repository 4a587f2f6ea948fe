"""Dropout, norms, skips, embeddings and options of the training on every device, held to the float64 oracle.

As test_devices.py: also run in the GPU's simulator, so short.
"""

import harness as h
import numpy as np
import pytest
from oracle import Oracle, mixed, ours, shaken, trained
from ways import OPTIONS, WITH, batches_of, flat, hyper, params64, way

import fastbp as fb
from fastbp.kernels import reference as ref

EMBEDDINGS = {1: (4, 3), 4: (6, 5)}
MORE = {  # what a network [6, 5, 5, 5, 3] may have
    "dropout": {"dropout": [0.3, 0.6, 0.1]},
    "inputs": {"input_dropout": 0.3},
    "layer": {"norm": "layer", "dropout": 0.2},
    "batch": {"norm": "batch", "dropout": 0.2},
    "residual": {"residual": True},
    "skips": {"residual": [False, True, True], "dropout": [0.0, 0.3, 0.0]},
    "embeddings": {"embeddings": EMBEDDINGS, "input_dropout": 0.2},
    "from the inputs": {"embeddings": {0: (3, 2)}, "residual": True, "sizes": [4, 5, 5, 3]},
    "everything": {
        "dropout": [0.2, 0.0, 0.5],
        "input_dropout": 0.1,
        "norm": ["layer", None, "batch"],
        "residual": [False, True, True],
        "embeddings": EMBEDDINGS,
    },
}


def network(rng, activation="tanh", sizes=(6, 5, 5, 5, 3), dtype="float64", **more):
    names = activation if isinstance(activation, str) else list(activation)[: len(sizes) - 2]
    return shaken(fb.MLP(list(sizes), names, **more, seed=1, dtype=dtype), rng)


# slopes from the output, kept ones, and learned ones
@pytest.mark.parametrize("activation", [("relu", "gelu", "prelu"), ("prelu", "tanh", "silu")])
@pytest.mark.parametrize("case", MORE)
def test_gradients(rng, device, case, activation):
    """Nothing is dropped; wider than a group of threads and than a block of columns."""
    more = {"sizes": [6, 9, 9, 9, 3]} | MORE[case]
    net = network(rng, activation, **more)
    X, y = mixed(rng, 7, net.sizes[0], net.embedded, float), rng.integers(0, 3, 7)
    weight = rng.uniform(0.1, 2, 7)
    value, grads = fb.Trainer(net, device=device).gradients(X, y, weight)
    exact_value, exact = Oracle(net).gradients(X, y, "cross_entropy", weight=weight)
    assert value == pytest.approx(exact_value, rel=1e-11)
    assert h.relative(ours(net, grads), exact) < 1e-10


@pytest.mark.parametrize("clip_norm", [None, 1e9])
@pytest.mark.parametrize("case", MORE)
def test_a_step_of_training(rng, device, case, clip_norm):
    """Loss and gradient with the reference's masks, for seeds and steps of more than 32 bits."""
    for activation in (("relu", "prelu", "silu"), ("prelu", "silu", "prelu")):
        net = network(rng, activation, **MORE[case])
        X, y = mixed(rng, 11, net.sizes[0], net.embedded, float), rng.integers(0, 3, 11)
        seed, before = int(rng.integers(2**62)), int(rng.integers(2**40))
        exact_value, exact = Oracle(net).gradients(X, y, "cross_entropy", seed, before + 1)
        trainer = fb.Trainer(net, optimizer=fb.SGD(1.0), batch_size=11, seed=seed, clip_norm=clip_norm,
                             device=device)  # fmt: skip
        trainer.steps, start = before, trained(net)
        history = trainer.fit(X, y, shuffle=False).history
        assert history["loss"] == [pytest.approx(exact_value, rel=1e-11)]
        assert h.relative(start - trained(net), exact) < 1e-10


@pytest.mark.parametrize("frozen", [(0,), (2,), (1, 2)])
@pytest.mark.parametrize("path", ["fused", "clip_norm", "hook"])
def test_frozen_layers(rng, device, path, frozen):
    """They stay, embeddings and running statistics too; the others learn as the reference."""
    net = network(rng, **MORE["everything"])
    net.running_means[2][:], net.running_vars[2][:] = rng.standard_normal(5), rng.uniform(0.5, 2, 5)
    X, y = mixed(rng, 11, 6, net.embedded, float), rng.integers(0, 3, 11)
    before = {name: view.copy() for name, view in net.named_views(net.params).items()}
    exact_value, exact = Oracle(net.freeze(*frozen)).gradients(X, y, "cross_entropy", 3, 1, frozen=frozen)
    trainer = fb.Trainer(net, optimizer=fb.SGD(1.0), batch_size=11, seed=3, device=device,
                         clip_norm=1e9 if path == "clip_norm" else None)  # fmt: skip
    seen, start = [], trained(net)
    trainer.gradient_hook = seen.append if path == "hook" else None
    assert trainer.fit(X, y, shuffle=False).history["loss"] == [pytest.approx(exact_value, rel=1e-11)]
    assert h.relative(start - trained(net), exact) < 1e-10
    assert len(seen) == (path == "hook")
    for name, view in net.named_views(net.params).items():
        stays = 0 in frozen if name.startswith("embeddings") else int(name[-1]) in frozen
        if stays or name != "biases.2":  # which batch norm takes out again: its gradient is rounding
            assert np.array_equal(view, before[name]) == stays, name


@pytest.mark.parametrize("dtype", h.DTYPES)
def test_running_statistics_and_predictions(rng, device, dtype):
    """Three batches of plain descent, the last one smaller: weights, running statistics, outputs."""
    net = network(rng, dtype=dtype, **MORE["everything"])
    X, y = mixed(rng, 22, 6, net.embedded, dtype), rng.integers(0, 3, 22)
    oracle = Oracle(net)
    mean, variance = (a.copy() for a in oracle.statistics[2])
    for step, rows in enumerate(batches_of(22, 9, 1), 1):
        x = ref.embed(X[rows].astype(float), oracle.tables)
        first, masks = oracle.masks(len(rows), 5, step)
        z = ref.layers_forward(oracle.params, x * first, net.activations, net.norms, net.skips, masks)[2]["z"]
        mean += 0.1 * (z.mean(axis=0) - mean)
        variance += 0.1 * (z.var(axis=0, ddof=1) - variance)
        _, exact = oracle.gradients(X[rows], y[rows], "cross_entropy", 5, step)
        place = 0
        for array in oracle.arrays():
            array -= 0.1 * exact[place : place + array.size].reshape(array.shape)
            place += array.size
    trainer = fb.Trainer(net, optimizer=fb.SGD(0.1), batch_size=9, seed=5, device=device)
    trainer.fit(X, y, shuffle=False)
    bound = {"float32": 2e-5, "float64": 1e-10}[dtype]
    assert h.relative(trained(net), flat([oracle.arrays()])) < bound
    assert h.relative(net.running_means[2], mean) < bound
    assert h.relative(net.running_vars[2], variance) < bound
    before = net.params.copy()
    z = trainer.forward(X)
    assert h.relative(z, Oracle(net).outputs(X)) < bound
    assert trainer.evaluate(X, y)["accuracy"] == (z.argmax(axis=1) == y).mean()
    trainer.gradients(X, y)
    assert np.array_equal(net.params, before)


@pytest.mark.parametrize(
    "name,batch",  # one part of the batch, and several
    [("clip_layer_norm", 5), ("accumulate", 5), ("ema_max_norm", 5), ("fused", 5), ("stored", 5),
     ("stored_norm", 5), ("fused", 18), ("stored", 18)],
)  # fmt: skip
def test_options_against_the_reference(rng, device, name, batch):
    """Five batches of one epoch, the last one smaller, the last group of accumulated ones too."""
    optimizer, options = WITH["adamw"], dict(OPTIONS[name])
    if "lr_factors" in options:
        options["lr_factors"] = [0.5, 2, 1.5]
    net = fb.MLP([4, 6, 5, 3], "tanh", seed=2, dtype="float64")
    for b in net.biases:
        b[:] = rng.uniform(-0.3, 0.3, b.shape)
    rows = 4 * batch + 3
    X, y = rng.standard_normal((rows, 4)), rng.integers(0, 3, rows)
    start, exact = params64(net), params64(net)
    trainer = fb.Trainer(net, optimizer=optimizer, batch_size=batch, device=device, **options)
    trainer.fit(X, y, shuffle=False)
    state = ref.init_state("AdamW", exact)
    clip = {k: v for k, v in options.items() if k.startswith("clip")}
    rest = {k: v for k, v in options.items() if not k.startswith("clip")}
    ref.train(exact, X, y, ["tanh"] * 2, "cross_entropy", *hyper(optimizer), batches_of(rows, batch, 1),
              state=state, clip=clip, **rest)  # fmt: skip
    assert trainer.steps == state["step"] == -(-5 // options.get("accumulate", 1))
    assert way(params64(net), exact, start) < 1e-10
    if "ema" in options:
        assert way(params64(trainer.averaged_net()), state["average"], start) < 1e-10
        z = ref.forward(state["average"], X, ["tanh"] * 2)[-1][0]
        assert h.relative(trainer.forward(X), z) < 1e-10


@pytest.mark.parametrize("decay", [True, False])
def test_penalties_of_biases_gains_and_tables(rng, device, decay):
    """decay_bias, lr_factors and clip_layer_norm know every kind of parameter."""
    net = network(rng, ("prelu", "prelu", "tanh"), **MORE["everything"])
    X, y = mixed(rng, 11, 6, net.embedded, float), rng.integers(0, 3, 11)
    oracle, factors, most = Oracle(net), [0.5, 2.0, 1.5, 1.0], 0.05
    before = {name: view.copy() for name, view in net.named_views(net.params, state=False).items()}
    _, exact = oracle.gradients(X, y, "cross_entropy", 5, 1)
    gradients = {}
    for array, name in zip(oracle.arrays(), _names(net), strict=True):
        gradients[name] = exact[: array.size].reshape(array.shape)
        exact = exact[array.size :]
    trainer = fb.Trainer(net, optimizer=fb.SGD(0.5, weight_decay=0.1), batch_size=11, seed=5, device=device,
                         lr_factors=factors, decay_bias=decay, clip_layer_norm=most)  # fmt: skip
    trainer.fit(X, y, shuffle=False)
    for name, view in net.named_views(net.params, state=False).items():
        kind, k = name.split(".")
        group = [g for n, g in gradients.items() if n == name or (kind != "embeddings" != n.split(".")[0] and
                                                                  n.split(".")[1] == k)]  # fmt: skip
        norm = np.sqrt(sum((g**2).sum() for g in group))
        g = gradients[name] * min(1, most / (norm + 1e-6))
        if decay or kind in ("weights", "embeddings"):
            g = g + 0.1 * before[name]
        lr = 0.5 * factors[0 if kind == "embeddings" else int(k)]
        assert h.relative(view, before[name] - lr * g) < 1e-9, name


KINDS = "weights", "biases", "gains", "shifts", "slopes"


def _names(net):
    """Names of the oracle's arrays, in its order."""
    count = len(net.layers)
    views = net.named_views(net.params, state=False)
    names = [f"{n}.{k}" for k in range(count) for n in KINDS]
    return [*(n for n in names if n in views), *(n for n in views if n.startswith("embeddings"))]


def test_embedded_columns_of_any_dtype(rng, device):
    """Whole numbers as uint8, int64 or floats give the same; categories that no row has still step."""
    X, y = np.column_stack([rng.integers(0, 5, 12), rng.integers(0, 3, 12)]), rng.integers(0, 2, 12)
    outcomes = []
    for kind in ("uint8", "int64", "float64"):
        net = fb.MLP([2, 4, 2], embeddings={0: (8, 4), 1: (3, 1)}, seed=0)
        start = net.embeddings[0].copy()
        optimizer = fb.AdamW(0.1, weight_decay=0.1)
        fb.Trainer(net, optimizer=optimizer, batch_size=6, seed=0, device=device).fit(X.astype(kind), y)
        outcomes.append(net.params)
        assert np.allclose(net.embeddings[0][5:], start[5:] * (1 - 0.1 * 0.1) ** 2, rtol=1e-6)
    assert np.array_equal(outcomes[0], outcomes[1]) and np.array_equal(outcomes[0], outcomes[2])


def test_a_gradient_whose_norm_is_not_finite_changes_nothing(rng, device):
    """The loss is: weights, running statistics and steps are as before the step."""
    net = fb.MLP([3, 4, 1], norm="batch", seed=0)
    net.weights[1][:] = 2.5e37
    before = net.params.copy()
    trainer = fb.Trainer(net, "mae", batch_size=8, clip_norm=1.0, device=device)
    X, y = (
        1e-6 * rng.standard_normal((8, 3)).astype("f4"),
        np.zeros((8, 1), "f4"),
    )  # which the norm divides by
    assert np.isfinite(trainer.evaluate(X, y)["loss"])
    with pytest.raises(FloatingPointError, match="step 1 of epoch 1"):
        trainer.fit(X, y, shuffle=False)
    assert np.array_equal(net.params, before) and trainer.steps == 0


@pytest.mark.parametrize("clip", ["clip_norm", "clip_layer_norm"])
def test_a_norm_whose_square_is_not_finite_is_clipped(device, clip):
    net = fb.MLP([3, 2], initializer="zeros")
    trainer = fb.Trainer(net, "mae", fb.SGD(1.0), batch_size=4, device=device, **{clip: 1.0})
    X = np.eye(4, 3, dtype="f4") * np.array([[1e30], [-2e30], [2e25], [1e38]], "f4")
    trainer.fit(X, np.full((4, 2), -1.0, "f4"), shuffle=False)
    exact = -np.repeat(X.astype(float).sum(axis=0)[:, None] / 8, 2, axis=1)
    exact /= np.sqrt((exact**2).sum() + 2 * 0.5**2)
    assert h.relative(net.weights[0], exact) < 1e-6


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("way", ["fit", "train_on_batch", "second path"])
def test_an_update_that_overflows_is_noticed(device, threads, way):
    """The loss was finite, and so it would be with such weights: tanh hides them."""
    net = fb.MLP([1, 2, 1], "tanh", seed=0)
    options = {"threads": threads} if device == "cpu" else {}
    options |= {"clip_norm": 1e30} if way == "second path" else {}
    trainer = fb.Trainer(net, "mse", fb.SGD(1e30), batch_size=2, device=device, **options)
    X, y = np.full((4, 1), 1e-8, "f4"), np.full((4, 1), 1e15, "f4")
    step = r"weights: became NaN or inf .* in step 1 of .*; what they were before is lost: .* lower lr"
    with pytest.raises(FloatingPointError, match=step):
        trainer.train_on_batch(X, y) if way == "train_on_batch" else trainer.fit(X, y)
    assert not np.isfinite(net.params).all() and trainer.steps == 0


def test_users_activation(rng, device):
    """Plain, behind a norm, below a skip, beside dropout: as its twin among ours."""
    mine = fb.activation(lambda z: z / (1 + abs(z)), name="mine")
    X, y = rng.standard_normal((9, 5)), rng.integers(0, 3, 9)
    for more in ({}, {"norm": "layer", "dropout": 0.2}, {"residual": [False, True, False]}):
        found = []
        for activation in ([mine, "gelu", mine], ["softsign", "gelu", "softsign"]):
            net = fb.MLP([5, 4, 4, 4, 3], activation, **more, seed=1, dtype="float64")
            trainer = fb.Trainer(net, batch_size=6, seed=0, device=device)
            trainer.fit(X, y)
            found.append(np.concatenate([net.params, trainer.predict(X).ravel()]))
        assert h.relative(*found) < 1e-12


def test_users_loss(rng, device):
    """As ours; two of them, and another link, beside each other."""
    square = fb.loss(lambda z, t: (z - t) ** 2, name="square", link="sigmoid")
    bent = fb.loss(lambda z, t: 0.5 * (z - t) ** 2 if abs(z - t) < 1 else abs(z - t) - 0.5, name="bent")
    X, y = rng.standard_normal((11, 3)), 2 * rng.standard_normal((11, 2))
    for mine, theirs in ((square, "mse"), (bent, "huber")):
        found = []
        for loss in (mine, theirs):
            net = fb.MLP([3, 4, 2], "tanh", seed=1, dtype="float64")
            trainer = fb.Trainer(net, loss, batch_size=4, seed=0, device=device)
            history = trainer.fit(X, y, sample_weight=np.arange(11.0)).history
            found.append([*net.params, *history["loss"], trainer.evaluate(X, y)["loss"]])
            out = trainer.predict(X)
        assert h.relative(*found) < 1e-12
        trainer = fb.Trainer(net, mine, device=device)
        assert h.relative(trainer.predict(X), 1 / (1 + np.exp(-out)) if mine is square else out) < 1e-12


@pytest.mark.parametrize("case", [case for case in MORE if "dropout" in str(MORE[case])])
def test_predictions_with_dropout(rng, device, case):
    """The reference's masks, a number for each sample; and nothing stays dropped."""
    net = network(rng, ("relu", "prelu", "silu"), **MORE[case])
    X, seed = mixed(rng, 5, net.sizes[0], net.embedded, float), int(rng.integers(2**62))
    trainer = fb.Trainer(net, "mse", seed=seed, device=device)
    plain, found = trainer.predict(X), trainer.predict(X, samples=2)
    exact = np.array([Oracle(net).outputs(X, seed, k + 1 << 32) for k in range(2)])
    assert h.relative(found, exact) < 1e-11
    assert np.array_equal(trainer.predict(X), plain)


@pytest.mark.parametrize("loss", ["mse", "cross_entropy", "bce_with_logits", "poisson_nll", "gaussian_nll"])
def test_gradients_through_links(rng, device, loss):
    """Of the inputs, and of parameters: central differences along a direction."""
    net = fb.MLP([3, 5, 4], "tanh", seed=1, dtype="float64")
    X, g = rng.standard_normal((5, 3)), rng.standard_normal((5, 4))
    trainer, step = fb.Trainer(net, loss, device=device), 1e-5
    along = rng.standard_normal(X.shape)
    found = trainer.input_gradients(X, g)
    up, down = ((g * trainer.predict(X + d * along)).sum() for d in (step, -step))
    assert (found * along).sum() == pytest.approx((up - down) / (2 * step), rel=1e-6)
    grads, start = trainer.gradients_from(X, g), net.weights[0].copy()
    along, sums = rng.standard_normal(start.shape), []
    for d in (step, -step):
        net.weights[0][:] = start + d * along
        sums.append((g * trainer.predict(X)).sum())
    assert (grads[0][0] * along).sum() == pytest.approx((sums[0] - sums[1]) / (2 * step), rel=1e-6)


@pytest.mark.parametrize("case", MORE)
def test_input_gradients(rng, device, case):
    """With everything that layers have, by running statistics; NaN where columns are embedded."""
    net = network(rng, ("gelu", "prelu", "silu"), **MORE[case])
    X = mixed(rng, 5, net.sizes[0], net.embedded, float)
    trainer, embedded = fb.Trainer(net, "mse", device=device), [c for c, _, _ in net.embedded]
    found, step = trainer.input_gradients(X), 1e-5
    assert np.isnan(found[:, :, embedded]).all()
    for column in set(range(net.sizes[0])) - set(embedded):
        up, down = X.copy(), X.copy()
        up[:, column] += step
        down[:, column] -= step
        exact = (Oracle(net).outputs(up) - Oracle(net).outputs(down)) / (2 * step)
        assert h.relative(found[:, :, column], exact) < 1e-6


@pytest.mark.parametrize("of", [np.asarray, "sparse"], ids=["array", "sparse"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_dropped_last_batch_is_not_trained_on(rng, device, of, accumulate):
    """An epoch of the whole batches, in its order: as if the rows behind them were not there."""
    of = pytest.importorskip("scipy.sparse").csr_array if of == "sparse" else of
    X, y = rng.standard_normal((11, 3)).astype("f4"), rng.integers(0, 2, 11)
    options = {"batch_size": 3, "seed": 1, "device": device, "accumulate": accumulate}
    whole, part = (fb.Trainer(fb.MLP([3, 4, 2], "tanh", seed=0), **options) for _ in range(2))
    for _ in range(2):  # the second session is the first one's
        loss = whole.fit(of(X), y, drop_last=True).history["loss"]
        rows = whole._sessions["train"].order[:9]
        assert loss == part.fit(of(X[rows]), y[rows], shuffle=False).history["loss"]
        assert np.array_equal(whole.net.params, part.net.params) and whole.steps == part.steps


@pytest.mark.parametrize("case", ["embeddings", "dropout", "layer"])
def test_offsets(rng, device, case):
    """Behind targets, behind weights of targets, and alone in predictions; in any order of the samples."""
    net = network(rng, ("gelu", "prelu", "silu"), **MORE[case])
    X, offset = mixed(rng, 7, net.sizes[0], net.embedded, float), rng.standard_normal((7, 3))
    trainer = fb.Trainer(net, fb.losses.MSE(ignore_nan=True), fb.SGD(0.1), 4, seed=0, device=device)
    z, y, weight = Oracle(net).outputs(X) + offset, rng.standard_normal((7, 3)), rng.uniform(0.1, 1, (7, 3))
    assert h.relative(trainer.predict(X, offset=offset), z) < 1e-11
    assert h.relative(trainer.forward(X), z - offset) < 1e-11
    exact = (weight * (z - y) ** 2).sum() / weight.sum()
    assert trainer.evaluate(X, y, weight, offset=offset)["loss"] == pytest.approx(exact, rel=1e-10)
    labels = rng.integers(0, 3, 7)
    classes = fb.Trainer(net, device=device)
    exact, _ = ref.loss_and_delta("cross_entropy", z, labels)
    assert classes.evaluate(X, labels, offset=offset)["loss"] == pytest.approx(exact, rel=1e-10)
    copies = [fb.MLP([6, 3], seed=0, dtype="float64") for _ in range(2)]
    X = rng.standard_normal((7, 6))
    for one, at in zip(copies, (slice(None), rng.permutation(7)), strict=True):
        fb.Trainer(one, "mse", fb.SGD(0.1), 7, device=device).fit(X[at], y[at], offset=offset[at])
    assert h.relative(copies[0].params, copies[1].params) < 1e-12


def test_offsets_of_rows_that_come_in_pieces(rng, device):
    """Sparse rows, which a GPU gets piece by piece."""
    sparse = pytest.importorskip("scipy.sparse")
    X, y, offset = rng.standard_normal((11, 3)), rng.poisson(2, (11, 2)), rng.standard_normal((11, 2))
    nets = [fb.MLP([3, 2], seed=0, dtype="float64") for _ in range(2)]
    for net, of in zip(nets, (np.asarray, sparse.csr_matrix), strict=True):
        trainer = fb.Trainer(net, "poisson_nll", fb.SGD(0.1), 4, seed=0, device=device)
        trainer.fit(of(X), y, epochs=2, offset=offset)
        found = trainer.predict(of(X), offset=offset)
        assert h.relative(found, np.exp(X @ net.weights[0] + net.biases[0] + offset)) < 1e-11
    assert np.array_equal(nets[0].params, nets[1].params)
