"""What every device must do, held to the float64 oracle: short, since it also runs in the GPU's simulator.

On the CPU in the ordinary run; on the GPU where there is one; and, in a run of its own, in the simulator:
    NUMBA_ENABLE_CUDASIM=1 pytest tests/cuda
"""

import copy
import dataclasses

import draw
import harness as h
import numpy as np
import pytest
from draw import problem
from ways import OPTIMIZERS, flat, hyper, params64

import fastbp as fb
from fastbp.kernels import codes
from fastbp.kernels import reference as ref


@pytest.mark.parametrize("activation", codes.ACTIVATIONS)
def test_gradients_of_every_activation(rng, device, activation):
    net = fb.MLP([5, 9, 6, 3], activation, seed=1, dtype="float64")
    for b in net.biases:
        b[:] = rng.standard_normal(b.shape)
    X, y = problem(rng, "cross_entropy", 11, 5, 3)
    weight = rng.uniform(0, 2, 11)
    loss, got = fb.Trainer(net, device=device).gradients(X, y, weight)
    exact_loss, exact = ref.gradients(params64(net), X, y, [activation] * 2, "cross_entropy", weight)
    assert loss == pytest.approx(exact_loss, rel=1e-11)
    assert h.relative(flat(got), flat(exact)) < 1e-11


OUTPUTS = 6  # rows of more than one thread, and even


@pytest.mark.parametrize("variant", [*draw.VARIANTS, *draw.weighted(OUTPUTS)])
def test_every_loss(rng, device, variant):
    """Gradients, evaluate, predict, forward."""
    loss, name = draw.VARIANTS.get(variant) or draw.weighted(OUTPUTS)[variant], variant.partition("/")[0]
    net = fb.MLP([3, 4, OUTPUTS], "tanh", seed=0, dtype="float64")
    X, y = rng.standard_normal((6, 3)), draw.targets(rng, variant, 6, OUTPUTS)
    trainer = fb.Trainer(net, loss, device=device)
    value, got = trainer.gradients(X, y)
    constants = draw.constants(loss)
    exact_value, exact = ref.gradients(params64(net), X, y, ["tanh"], name, **constants)
    assert value == pytest.approx(exact_value, rel=1e-10)
    assert h.relative(flat(got), flat(exact)) < 1e-10
    z = ref.forward(params64(net), X, ["tanh"])[-1][0]
    result = trainer.evaluate(X, y)
    assert result["loss"] == pytest.approx(exact_value, rel=1e-10)
    assert h.relative(trainer.forward(X), z) < 1e-12
    assert h.relative(trainer.predict(X), draw.exact_link(variant, loss, z)) < 1e-10
    if name == "cross_entropy":
        classes = y.argmax(1) if y.ndim == 2 else y
        assert result["accuracy"] == (z.argmax(1) == classes).mean()
    elif variant == "bce_with_logits":
        assert result["accuracy"] == ((z > 0) == (y > 0.5)).mean()


@pytest.mark.parametrize("variant", [v for v in draw.VARIANTS if draw.by_output(v, OUTPUTS)])
def test_weights_of_targets(rng, device, variant):
    """NaN among them; on the GPU they lie behind the targets, as on the CPU."""
    loss = dataclasses.replace(draw.VARIANTS[variant], ignore_nan=True)
    net = fb.MLP([3, 4, OUTPUTS], "tanh", seed=0, dtype="float64")
    X, y = rng.standard_normal((7, 3)), draw.targets(rng, variant, 7, OUTPUTS)
    weight = rng.uniform(0, 2, y.shape) * (rng.uniform(size=y.shape) > 0.4)
    weight[0], weight[1] = 1, 0
    y[weight == 0] = np.nan
    trainer = fb.Trainer(net, loss, fb.SGD(0.1), 4, device=device)
    z = ref.forward(params64(net), X, ["tanh"])[-1][0]
    exact, _ = draw.exact(variant, loss, z, y, weight)
    _, gradients = ref.gradients(params64(net), X, y, ["tanh"], loss.name, weight, **draw.constants(loss))
    value, got = trainer.gradients(X, y, weight)
    assert value == pytest.approx(exact, rel=1e-10)
    assert h.relative(flat(got), flat(gradients)) < 1e-10
    result = trainer.evaluate(X, y, weight)
    assert result["loss"] == pytest.approx(exact, rel=1e-10)
    if variant == "bce_with_logits":
        assert result["accuracy"] == ((z > 0) == (y > 0.5))[weight > 0].mean()
    trainer.fit(X, y, sample_weight=weight)
    assert np.isfinite(net.params).all()


@pytest.mark.parametrize("dtype", h.DTYPES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_of_every_optimizer(rng, device, name, dtype):
    """The last batch of an epoch is smaller: the weights follow the float64 oracle."""
    optimizer = OPTIMIZERS[name]
    epochs = 2 if name.startswith("radam") else 1  # RAdam's rho passes 5 in step 6
    net = fb.MLP([3, 6, 2], "tanh", seed=2, dtype=dtype)
    X, y = problem(rng, "cross_entropy", 14, 3, 2)
    X = X.astype(dtype)
    start = params64(net)
    trainer = fb.Trainer(net, optimizer=optimizer, batch_size=4, seed=0, device=device)
    history = trainer.fit(X, y, epochs=epochs, shuffle=False)
    batches = [np.arange(s, min(s + 4, 14)) for s in range(0, 14, 4)] * epochs
    losses = ref.train(start, X.astype(float), y, ["tanh"], "cross_entropy", *hyper(optimizer), batches)
    assert trainer.steps == 4 * epochs
    assert h.relative(flat(params64(net)), flat(start)) < {"float32": 1e-5, "float64": 1e-12}[dtype]
    mean = np.dot(losses[-4:], [4, 4, 4, 2]) / 14
    assert history.history["loss"][-1] == pytest.approx(mean, rel=2e-5)


@pytest.mark.parametrize("name", ["adamw", "nadam", "momentum"])
def test_a_rate_for_every_update(rng, device, name):
    """Two epochs of a schedule: the same as single steps at each one's learning rate."""
    optimizer, single = copy.copy(OPTIMIZERS[name]), copy.copy(OPTIMIZERS[name])
    X, y = problem(rng, "mse", 11, 3, 2)
    net = fb.MLP([3, 4, 2], "tanh", seed=2, dtype="float64")
    other = fb.MLP([3, 4, 2], "tanh", seed=2, dtype="float64")
    rates = [0.01 / (1 + k) for k in range(6)]
    trainer = fb.Trainer(net, "mse", optimizer, 4, device=device, schedule=lambda k: 0.01 / (1 + k))
    trainer.fit(X, y, epochs=2, shuffle=False)
    one = fb.Trainer(other, "mse", single, 4, device=device)
    for k, lr in enumerate(rates):
        single.lr = lr
        rows = slice(4 * (k % 3), 4 * (k % 3) + 4)
        one.train_on_batch(X[rows], y[rows])
    assert trainer.steps == one.steps == 6
    assert h.relative(net.params, other.params) < 1e-12


def test_limits_of_every_number(rng, device):
    """clip_value and l1, with and without weight decay."""
    X, y = problem(rng, "mse", 8, 3, 2)
    for decay in (0.0, 0.1):
        net = fb.MLP([3, 4, 2], "tanh", seed=2, dtype="float64")
        before = flat(params64(net))
        _, grads = ref.gradients(params64(net), X, y, ["tanh"], "mse")
        optimizer = fb.SGD(0.5, weight_decay=decay)
        trainer = fb.Trainer(net, "mse", optimizer, 8, clip_value=0.05, l1=0.01, device=device)
        trainer.fit(X, y, shuffle=False)
        g = np.clip(flat(grads), -0.05, 0.05) + 0.01 * np.sign(before) + decay * before
        assert h.relative(flat(params64(net)), before - 0.5 * g) < 1e-12


def test_orders_are_the_same_everywhere(device):
    """Drawn here in plain integers: who trains on one device goes on on another."""
    mask = (1 << 64) - 1

    def mix(x):
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & mask
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB & mask
        return x ^ (x >> 31)

    golden, seed, epoch, count = 0x9E3779B97F4A7C15, 7, 1, 10
    key = mix((seed * golden + mix((epoch + golden) & mask)) & mask)
    order = list(range(count))
    for i in range(count - 1, 0, -1):
        j = (mix((key + (i + 1) * golden) & mask) >> 32) * (i + 1) >> 32
        order[i], order[j] = order[j], order[i]
    trainer = fb.Trainer(fb.MLP([2, 2], seed=0), batch_size=10, seed=seed, device=device)
    trainer.fit(np.ones((10, 2), "f4"), np.arange(10) % 2, epochs=2)
    assert trainer._sessions["train"].order.tolist() == order


@pytest.mark.parametrize("batch", [6, 20])
def test_clip_norm(rng, device, batch):
    """The second path, with one part of the batch and with several."""
    net = fb.MLP([3, 5, 2], "tanh", seed=2, dtype="float64")
    X, y = problem(rng, "mse", batch, 3, 2)
    before = flat(params64(net))
    _, grads = ref.gradients(params64(net), X, y, ["tanh"], "mse")
    norm = np.linalg.norm(flat(grads))
    trainer = fb.Trainer(net, "mse", fb.SGD(0.5), batch_size=batch, clip_norm=norm / 3, device=device)
    trainer.fit(X, y, shuffle=False)
    assert h.relative(flat(params64(net)), before - 0.5 * flat(grads) / 3) < 1e-5


@pytest.mark.parametrize("sizes,batch", [([3, 5, 2], 33), ([17, 20, 18], 24), ([2, 9, 1], 70), ([9, 3], 5)])
def test_shapes(rng, device, sizes, batch):
    """Blocks of every size, parts of a batch, ragged everywhere: one step of plain descent."""
    net = fb.MLP(sizes, "elu", seed=3, dtype="float64")
    X, y = problem(rng, "mse", batch, sizes[0], sizes[-1])
    before = flat(params64(net))
    _, grads = ref.gradients(params64(net), X, y, ["elu"] * (len(sizes) - 2), "mse")
    fb.Trainer(net, "mse", fb.SGD(0.5), batch_size=batch, device=device).fit(X, y, shuffle=False)
    assert h.relative(flat(params64(net)), before - 0.5 * flat(grads)) < 1e-12


@pytest.mark.parametrize("kind", ["f2", "f8", "u1", "i4", "?"])
def test_dtypes_and_layouts(rng, device, kind):
    values = rng.integers(0, 2 if kind == "?" else 100, (9, 3))
    y = rng.integers(0, 2, 9)
    wide = np.zeros((18, 6), kind)
    wide[::2, ::2] = values
    results = []
    typed = values.astype(kind)
    for X in (values.astype("f4"), typed, np.asfortranarray(typed), wide[::2, ::2]):
        net = fb.MLP([3, 4, 2], seed=0)
        fb.Trainer(net, batch_size=5, seed=0, device=device).fit(X, y)
        results.append(net.params)
    for params in results[1:]:
        assert np.array_equal(params, results[0])


def test_a_step_that_is_not_finite_changes_nothing(rng, device):
    X, y = problem(rng, "mse", 12, 3, 1)
    net = fb.MLP([3, 4, 1], seed=0)
    trainer = fb.Trainer(net, "mse", fb.SGD(1e30), batch_size=4, seed=0, device=device)
    with pytest.raises(FloatingPointError, match="weights are as before that step"):
        trainer.fit(X.astype("f4"), y, epochs=3)
    assert 1 <= trainer.steps < 9
    other = fb.MLP([3, 4, 1], seed=0)
    again = fb.Trainer(other, "mse", fb.SGD(1e30), batch_size=4, seed=0, device=device)
    with pytest.raises(FloatingPointError):
        again.fit(X.astype("f4"), y, epochs=3)
    assert np.array_equal(net.params, other.params) and trainer.steps == again.steps


def test_written_weights_train_and_fit_goes_on(rng, device):
    X, y = problem(rng, "cross_entropy", 10, 3, 2)
    nets = [fb.MLP([3, 4, 2], seed=0) for _ in range(2)]
    once, twice = (fb.Trainer(n, optimizer=fb.Adam(0.1), batch_size=4, seed=5, device=device) for n in nets)
    once.fit(X, y, epochs=2)
    twice.fit(X, y)
    kept = twice.net.params.copy(), twice.slots.copy()
    twice.net.params[:] = 0
    twice.predict(X)  # another session, which reads what stands in the host's arrays now
    twice.net.params[:], twice.slots[:] = kept
    twice.fit(X, y)
    assert np.array_equal(nets[0].params, nets[1].params)
    assert (once.steps, once.epochs) == (twice.steps, twice.epochs) == (6, 2)


def test_frozen_layers_stay(rng, device):
    X, y = problem(rng, "mse", 8, 3, 2)
    for clip_norm in (None, 1e-3):
        net, other = (fb.MLP([3, 6, 5, 2], seed=0, dtype="float64") for _ in range(2))
        net.freeze(1)
        trainer = fb.Trainer(net, "mse", fb.SGD(0.5, weight_decay=0.1), batch_size=8, clip_norm=clip_norm,
                             device=device)  # fmt: skip
        _, grads = ref.gradients(params64(net), X, y, ["relu"] * 2, "mse")
        trainer.fit(X, y, shuffle=False)
        assert np.array_equal(net.weights[1], other.weights[1])
        assert np.array_equal(net.biases[1], other.biases[1])
        norm = np.sqrt(sum((g**2).sum() for k in (0, 2) for g in grads[k]))
        factor = 1.0 if clip_norm is None else clip_norm / (norm + 1e-6)
        for k in (0, 2):
            exact = other.weights[k] - 0.5 * (factor * grads[k][0] + 0.1 * other.weights[k])
            assert h.relative(net.weights[k], exact) < 1e-12


def test_gradient_hook_and_activations(rng, device):
    X, y = problem(rng, "mse", 10, 3, 2)
    net = fb.MLP([3, 6, 2], "tanh", seed=0, dtype="float64")
    before = params64(net)
    trainer = fb.Trainer(net, "mse", fb.SGD(0.5), batch_size=10, device=device)

    def halve(pairs):
        for pair in pairs:
            for g in pair:
                g *= 0.5

    trainer.gradient_hook = halve
    trainer.fit(X, y, epochs=2, shuffle=False)
    assert trainer.steps == 2
    exact = [(w.copy(), b.copy()) for w, b in before]
    for _ in range(2):
        _, grads = ref.gradients(exact, X, y, ["tanh"], "mse")
        exact = [(w - 0.25 * gw, b - 0.25 * gb) for (w, b), (gw, gb) in zip(exact, grads, strict=True)]
    assert h.relative(flat(params64(net)), flat(exact)) < 1e-12
    hidden = ref.forward(params64(net), X, ["tanh"])[0][1]
    assert h.relative(trainer.activations(X), hidden) < 1e-12
    seen = []

    def decay(pairs):  # by the weights of this step, not those of the epoch's beginning
        seen.append(trainer.predict(X))
        for (gw, gb), w, b in zip(pairs, net.weights, net.biases, strict=True):
            gw += 0.1 * w
            gb += 0.1 * b

    trainer = fb.Trainer(net, "mse", fb.SGD(0.5), batch_size=5, device=device)
    trainer.gradient_hook, start = decay, params64(net)
    trainer.fit(X, y, shuffle=False)
    for step, rows in enumerate((slice(5), slice(5, 10))):
        assert h.relative(seen[step], ref.forward(start, X, ["tanh"])[-1][0]) < 1e-12
        _, grads = ref.gradients(start, X[rows], y[rows], ["tanh"], "mse")
        start = [(w - 0.5 * (gw + 0.1 * w), b - 0.5 * (gb + 0.1 * b))
                 for (w, b), (gw, gb) in zip(start, grads, strict=True)]  # fmt: skip
    assert h.relative(flat(params64(net)), flat(start)) < 1e-12
