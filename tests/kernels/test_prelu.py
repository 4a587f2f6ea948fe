"""prelu: learned slopes by central differences; their update, options, files, words. Also in test_layers.py,
test_layers_torch.py, test_dropout.py and test_export.py."""

import harness as h
import numpy as np
import pytest
from oracle import Oracle, flat, numeric_gradient, ours, shaken

import fastbp as fb
from fastbp.kernels import codes
from fastbp.kernels import reference as ref
from fastbp.network.gradients import Gradients


def away_from_kinks(rng, net, rows):
    """X (rows, inputs) with which no prelu has an input within 1e-3 of 0; masks: those of seed 5, step 3.

    Nor does a norm divide by less than 0.2. So a step of 1e-5 in a parameter crosses no kink, and what
    central differences leave out, the third derivative, stays small.
    """
    while True:
        oracle, X = Oracle(net), rng.standard_normal((rows, net.sizes[0]))
        first, masks = oracle.masks(rows, 5, 3)
        layers = ref.layers_forward(oracle.params, X * first, net.activations, net.norms, net.skips, masks)
        far = min(np.abs(at["y"]).min() for at in layers[:-1]) > 1e-3
        if far and max(np.max(at.get("inverse", 1)) for at in layers[:-1]) < 5:
            return X


@pytest.mark.parametrize("norm", [None, *codes.NORMS])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_the_reference_by_central_differences(rng, norm, loss):
    """With the masks of a step held fixed, a skip, sample weights: all parameters, slopes among them."""
    net = fb.MLP([3, 4, 4, 3], "prelu", dropout=0.3, input_dropout=0.2, norm=norm, residual=[False, True],
                 seed=1, dtype="float64")  # fmt: skip
    oracle = Oracle(shaken(net, rng))
    X = away_from_kinks(rng, net, 7)
    y = rng.integers(0, 3, 7) if loss == "cross_entropy" else rng.standard_normal((7, 3))
    weight = rng.uniform(0.1, 1, 7)
    _, exact = oracle.gradients(X, y, loss, 5, 3, weight)
    found = numeric_gradient(oracle.arrays(), lambda: oracle.gradients(X, y, loss, 5, 3, weight)[0], 1e-5)
    assert h.relative(found, exact) < 1e-7
    assert all(slope.any() for slope in fb.Trainer(net, loss).gradients(X, y)[1].slopes)


@pytest.mark.parametrize("dtype", h.DTYPES)
@pytest.mark.parametrize("slope", [0.0, -0.5, 3.0])
def test_any_slope(rng, slope, dtype):
    """0, where nothing can be divided by it, below 0 and above 1; inputs that are exactly 0."""
    net = fb.MLP([3, 9, 33, 2], "prelu", seed=1, dtype=dtype)
    for own in net.slopes:
        own[:] = slope
    X, y = rng.standard_normal((20, 3)).astype(dtype), rng.standard_normal((20, 2))
    X[0] = 0
    value, grads = fb.Trainer(net, "mse").gradients(X, y)
    exact_value, exact = Oracle(net).gradients(X, y, "mse")
    assert value == pytest.approx(exact_value, rel=h.TOLERANCE[dtype])
    assert h.relative(ours(net, grads), exact) < 3 * h.TOLERANCE[dtype]


OPTIONS = {
    "plain": {},
    "adam": {"optimizer": fb.AdamW(0.01, eps=1e-3, weight_decay=0.1)},
    "accumulate": {"accumulate": 3},
    "clip_layer_norm": {"clip_layer_norm": 0.05},
    "clip_value": {"clip_value": 0.01},
    "l1": {"l1": 0.01},
    "bare": {"l1": 0.01, "decay_bias": False, "optimizer": fb.SGD(0.1, weight_decay=0.1)},
    "factors": {"lr_factors": (0.5, 0.0, 2.0), "optimizer": fb.SGD(0.1, momentum=0.9)},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_updates_as_the_reference(rng, name):
    """Eleven batches with each option: the reference's rule on the oracle's gradients, vectors as biases."""
    options = {"optimizer": fb.SGD(0.1)} | OPTIONS[name]
    net = shaken(fb.MLP([4, 9, 9, 3], "prelu", norm=["layer", None], seed=2, dtype="float64"), rng)
    X, y = rng.standard_normal((44, 4)), rng.integers(0, 3, 44)
    oracle = Oracle(net)
    trainer = fb.Trainer(net, batch_size=4, seed=0, **options)
    trainer.fit(X, y, shuffle=False)
    optimizer = options.pop("optimizer").config()
    optimizer.pop("amsgrad", None)
    rule = {"sgd": ref.sgd, "adamw": ref.adamw}[optimizer.pop("name")]
    state = [[[np.zeros_like(p) for _ in range(rule.__code__.co_argcount)] for p in k] for k in oracle.params]
    slots = 2 if rule is ref.adamw else 1
    every, sums, step = options.get("accumulate", 1), [], 0
    for n in range(11):
        rows = slice(4 * n, 4 * n + 4)
        sums.append(oracle.gradients(X[rows], y[rows], "cross_entropy")[1])
        if len(sums) < every and n < 10:
            continue
        step, grads, sums = step + 1, iter(np.split(sum(sums) / len(sums), ends(oracle))), []
        for k, params in enumerate(oracle.params):
            mine = [next(grads).reshape(p.shape) for p in params]
            if "clip_layer_norm" in options:
                factor = min(1, options["clip_layer_norm"] / (np.linalg.norm(flat(mine)) + 1e-6))
                mine = [factor * g for g in mine]
            for i, (p, g) in enumerate(zip(params, mine, strict=True)):
                own = dict(optimizer, lr=optimizer["lr"] * options.get("lr_factors", (1, 1, 1))[k])
                g = np.clip(g, *(s * options.get("clip_value", np.inf) for s in (-1, 1)))
                if i == 0 or options.get("decay_bias", True):
                    g = g + options.get("l1", 0) * np.sign(p)
                else:
                    own["weight_decay"] = 0.0
                rule(p, g, *state[k][i][:slots], step=step, **own)
    assert trainer.steps == step
    assert h.relative(flat(Oracle(net).arrays()), flat(oracle.arrays())) < 1e-10


def ends(oracle):
    """Where the arrays end in the oracle's flat gradient."""
    return np.cumsum([p.size for p in oracle.arrays()])[:-1]


@pytest.mark.parametrize("max_norm", [None, 0.5])
def test_slopes_are_in_the_average_and_no_column_of_w(rng, max_norm):
    net = fb.MLP([4, 9, 3], "prelu", seed=2)
    trainer = fb.Trainer(net, batch_size=10, ema=0.9, max_norm=max_norm, optimizer=fb.Adam(0.05), seed=0)
    X, y = rng.standard_normal((10, 4)), rng.integers(0, 3, 10)
    mean = None
    for _ in range(5):
        trainer.fit(X, y)
        mean = net.slopes[0].copy() if mean is None else mean + 0.1 * (net.slopes[0] - mean)
    assert np.allclose(trainer.averaged_net().slopes[0], mean, rtol=1e-6)
    assert not np.array_equal(mean, net.slopes[0])
    if max_norm:
        assert np.linalg.norm(net.weights[0], axis=0).max() < max_norm * (1 + 1e-6)
        assert np.linalg.norm(net.slopes[0]) > max_norm  # nine of about 0.25: 0.75


def test_lbfgs_decays_slopes_and_gains_as_biases(rng):
    """weight_decay / 2 times the sum of squares of all that is trained, or of W and the tables alone."""
    from fastbp.engine.samples import samples
    from fastbp.training.lbfgs import Penalised

    X, y = np.hstack([rng.standard_normal((60, 3)), rng.integers(0, 4, (60, 1))]), rng.integers(0, 2, 60)
    for bare in (False, True):
        net = fb.MLP([4, 5, 2], "prelu", norm="batch", embeddings={3: (4, 2)}, seed=1, dtype="float64")
        optimizer = fb.LBFGS(weight_decay=0.05)
        trainer = fb.Trainer(shaken(net, rng), optimizer=optimizer, decay_bias=not bare)
        loss, grads = trainer.gradients(X, y)
        value, gradient = Penalised(trainer, samples(trainer, X, y))(net.params.copy())
        arrays = [*net.weights, *net.embeddings] if bare else Oracle(net).arrays()
        assert value == pytest.approx(loss + 0.025 * sum((a**2).sum() for a in arrays), rel=1e-12)
        found = Gradients(net, gradient)
        assert np.allclose(found.slopes[0], grads.slopes[0] + 0.05 * (not bare) * net.slopes[0], rtol=1e-12)
        assert np.allclose(found.embeddings[0], grads.embeddings[0] + 0.05 * net.embeddings[0], rtol=1e-12)


def test_an_autoencoder_decodes_by_its_slopes(rng):
    X = rng.standard_normal((30, 6))
    coder = fb.Autoencoder([6, 5, 2], activation="prelu", seed=0)
    coder.fit(X, 3)
    assert not np.allclose(coder.net.slopes[2], 0.25)
    assert np.allclose(coder.decode(coder.encode(X)), coder.reconstruct(X), rtol=1e-5, atol=1e-6)


def test_estimators_take_it(rng):
    pytest.importorskip("sklearn")
    from fastbp.sklearn import MLPClassifier

    X, y = rng.standard_normal((40, 3)), rng.integers(0, 2, 40)
    model = MLPClassifier((8,), activation="prelu", max_iter=3, random_state=0)
    with pytest.warns(UserWarning, match="iterations"):
        model.fit(X, y)
    assert model.predict_proba(X).shape == (40, 2)
