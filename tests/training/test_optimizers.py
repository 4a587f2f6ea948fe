"""Optimizers against torch and the reference for 100 steps; options of the training; L-BFGS; resuming."""

import copy
import pickle

import harness as h
import numpy as np
import pytest
from ways import OPTIMIZERS, OPTIONS, WITH, batches_of, flat, hyper, network, params64, problem, way

import fastbp as fb
from fastbp.engine.options import Options
from fastbp.engine.rates import Updates
from fastbp.kernels import codes
from fastbp.kernels import reference as ref
from fastbp.optimizers import POWERS, SQUARED

# Errors of the way gone in 100 steps: about ten times the largest seen, 6e-6 and 2e-13 (RAdam, whose
# rho_t cancels).
STEPS = {"float32": 3e-5, "float64": 2e-12}


@pytest.mark.parametrize("dtype", h.DTYPES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_100_steps_against_the_reference(rng, dtype, name):
    """The last batch of each epoch smaller."""
    optimizer, net = OPTIMIZERS[name], network(dtype)
    X, y = problem(rng)
    X = X.astype(dtype)
    start, exact = params64(net), params64(net)
    trainer = fb.Trainer(net, optimizer=optimizer, batch_size=15)
    trainer.fit(X, y, epochs=20, shuffle=False)
    assert trainer.steps == 100
    ref.train(exact, X.astype(float), y, ["tanh"] * 2, "cross_entropy", *hyper(optimizer),
              batches_of(72, 15, 20))  # fmt: skip
    if dtype == "float64" or not name.startswith("lion"):
        assert way(params64(net), exact, start) < STEPS[dtype]
        return
    # all steps have one size: where a sign hangs on rounding, one is wrong, most often of all weights of a
    # unit (in 450 runs: once at most, of 39 weights in 998 at most)
    wrong = np.abs(flat(params64(net)) - flat(exact)) / (2 * optimizer.lr)
    assert wrong.max() < 2.1 and (wrong > 0.1).mean() < 0.1


IN_TORCH = {name: o for name, o in OPTIMIZERS.items() if not name.startswith("lion")} | {
    "amsgrad_w": fb.AdamW(0.003, eps=1e-3, amsgrad=True, weight_decay=0.3),
    "adam_eps": fb.Adam(0.003),
    "nadam_eps": fb.NAdam(0.003),
    "radam_eps": fb.RAdam(0.003),
    "adamax_eps": fb.Adamax(0.003),
    "rmsprop_eps": fb.RMSprop(0.001),
    "adagrad_eps": fb.Adagrad(0.01),
    "adadelta_eps": fb.Adadelta(),
}  # with torch's eps, too: in float64 only, where no sign of a step hangs on rounding


@pytest.fixture
def torch():
    """torch, whose own scalars (NAdam's product of momenta) are float64 as well."""
    torch = pytest.importorskip("torch", reason="torch comes with the extra: pip install '.[compare]'")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(before)


class Twin:
    """A network in torch, float64, with the same numbers, trained by the same batches."""

    def __init__(self, torch, net, X, y):
        self.torch, self.X, self.y = torch, torch.from_numpy(X.astype(float)), torch.from_numpy(y)
        self.leaves = [torch.tensor(a, requires_grad=True) for pair in params64(net) for a in pair]

    def loss(self, rows):
        z = self.X[rows]
        for k in range(0, len(self.leaves), 2):
            z = z @ self.leaves[k] + self.leaves[k + 1]
            z = z if k + 2 == len(self.leaves) else z.tanh()
        return self.torch.nn.functional.cross_entropy(z, self.y[rows])

    def params(self):
        flat = [leaf.detach().numpy().copy() for leaf in self.leaves]
        return list(zip(flat[::2], flat[1::2], strict=True))


def torchs(torch, optimizer, leaves):
    """torch's optimizer of the same name and numbers."""
    config = optimizer.config()
    del config["name"]
    return getattr(torch.optim, type(optimizer).__name__)(leaves, **config)


@pytest.mark.parametrize("dtype", h.DTYPES)
@pytest.mark.parametrize("name", IN_TORCH)
def test_100_steps_against_torch(rng, torch, dtype, name):
    if dtype == "float32" and name.endswith("_eps"):
        dtype = "float64"
    net, (X, y) = network(dtype), problem(rng)
    X = X.astype(dtype)
    start, twin = params64(net), Twin(torch, net, X, y)
    theirs = torchs(torch, IN_TORCH[name], twin.leaves)
    for rows in batches_of(72, 15, 20):
        theirs.zero_grad()
        twin.loss(rows).backward()
        theirs.step()
    fb.Trainer(net, optimizer=IN_TORCH[name], batch_size=15).fit(X, y, epochs=20, shuffle=False)
    bound = 1e-9 if name.endswith("_eps") else STEPS[dtype]
    assert way(params64(net), twin.params(), start) < bound


OF_MEANS = {
    "adam": lambda b: fb.Adam(1e-3, betas=(b, b)),
    "amsgrad": lambda b: fb.Adam(1e-3, betas=(b, b), amsgrad=True),
    "adamw": lambda b: fb.AdamW(1e-3, betas=(b, b)),
    "nadam": lambda b: fb.NAdam(1e-3, betas=(b, b)),
    "radam": lambda b: fb.RAdam(1e-3, betas=(b, b)),
    "adamax": lambda b: fb.Adamax(1e-3, betas=(b, b)),
    "rmsprop": lambda b: fb.RMSprop(1e-3, alpha=b),
    "rmsprop_momentum": lambda b: fb.RMSprop(1e-3, alpha=b, momentum=0.5),
    "adadelta": lambda b: fb.Adadelta(1e-3, rho=b),
    "lion": lambda b: fb.Lion(1e-3, betas=(b, b)),
}


def one_weight(optimizer, gradients, dtype, **options):
    """The weight, 0 at first, after each step with one of these gradients."""
    line = fb.loss(lambda z, t: z * t, name="a line")  # whose slope is the target
    net = fb.MLP([1, 1], initializer="zeros", dtype=dtype)
    trainer, seen = fb.Trainer(net, line, optimizer, **options), []
    for g in gradients:
        trainer.train_on_batch(np.ones((1, 1)), np.array([g]))
        seen.append(float(net.weights[0][0, 0]))
    return np.array(seen)


@pytest.mark.parametrize("dtype", h.DTYPES)
@pytest.mark.parametrize("decay", [0.0, 1e-6, 0.1, 0.49, 0.51, 0.9999999])
@pytest.mark.parametrize("name", OF_MEANS)
def test_running_means_of_any_decay(torch, name, decay, dtype):
    """A gradient that is far smaller than the last one counts as it should, and so does a larger one."""
    if name == "radam":  # whose rho_5 is 5, to rounding, where the decay is nearer to 1
        decay = min(decay, 0.999)
    optimizer, gradients = OF_MEANS[name](decay), [1.0, 1e-3, -1e-6, 1e-6, 0.5, 1e-4]
    if name == "lion":
        exact, pair = [], (np.zeros(1), np.zeros(1))
        for t, g in enumerate(gradients, 1):
            ref.OPTIMIZERS["Lion"][0](pair[0], np.array([g]), pair[1], t, **hyper(optimizer)[1])
            exact.append(pair[0][0])
    else:
        leaf, exact = torch.zeros(1, requires_grad=True), []
        theirs = torchs(torch, optimizer, [leaf])
        for g in gradients:
            leaf.grad = torch.tensor([g])
            theirs.step()
            exact.append(leaf.item())
    # torch's own product of NAdam's momenta is a float32, whatever the default
    bound = {"float32": 3e-6, "float64": 1e-8 if name == "nadam" else 1e-9}[dtype]
    assert h.relative(np.diff(one_weight(optimizer, gradients, dtype)), np.diff(exact)) < bound
    if decay < 0.5:  # beside what else the update may be told
        plain, limited = (one_weight(optimizer, gradients, dtype, **o) for o in ({}, {"clip_value": 2.0}))
        assert np.array_equal(plain, limited)


@pytest.mark.parametrize("dtype", h.DTYPES)
@pytest.mark.parametrize("name", [*OF_MEANS, "adagrad"])
def test_gradients_whose_squares_are_not_finite(name, dtype):
    """The step is that of a gradient of usual size, and the state stays finite."""
    optimizer = fb.Adagrad(1e-3) if name == "adagrad" else OF_MEANS[name](0.9)
    top = float(np.finfo(dtype).max)
    usual = one_weight(optimizer, [1e3] * 6, dtype)
    sizes = (top**0.5 * 1.001, top**0.6, top / 4)
    for size in sizes[:1] if name == "radam" else sizes:  # whose first steps are as large as the gradient
        large = one_weight(optimizer, [size] * 6, dtype)
        if name == "radam":  # which is not over the root at first
            assert np.isfinite(large).all() and (np.diff(large) <= 0).all()
        elif name == "adagrad":  # whose sum ends at the largest number
            assert (np.abs(np.diff(large, prepend=0)) < 1.001e-3).all()
        elif name == "adadelta":  # whose first steps are as large as eps
            assert h.relative(large, usual) < 1e-3
        else:
            assert h.relative(large, usual) < 1e-5
    if name == "radam":
        return
    mixed = one_weight(optimizer, [top / 4, 1.0, -top / 4, 0.0, 1e-3, top**0.6], dtype)
    assert np.isfinite(mixed).all()


@pytest.mark.parametrize("number", [0, POWERS - 5, SQUARED - 5, 10**6])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_constants_of_a_window_are_those_of_its_updates(name, number):
    """One by one or all at once, with rates of their own or without."""
    optimizer = OPTIMIZERS[name]
    for options in (Options(), Options(ema=0.9, l1=0.1, clip_value=1.0, accumulate=3)):
        lr = np.geomspace(0.1, 0.01, 12)
        for updates in (Updates(optimizer, options), Updates(optimizer, options, lr)):
            first, table = updates.window(number, 7, 12)
            rows = [updates.window(number, k, k + 1) for k in range(7, 12)]
            assert first == rows[0][0] == 7 // options.accumulate
            assert np.isfinite(np.delete(table, codes.C_CLIP, 1)).all() and table.shape[1] == codes.CONSTANTS
            assert [row for row, _ in rows] == [k // options.accumulate for k in range(7, 12)]
            assert all(np.array_equal(row, table[at - first : at - first + 1]) for at, row in rows)


@pytest.mark.parametrize("number", [0, 6, 5000])
def test_constants_by_hand(number):
    """The corrections of Adam and Adagrad, a first beta that changes, the average's share, both decays."""
    betas = np.linspace(0.95, 0.85, 4)
    table = Updates(fb.AdamW(0.1, weight_decay=0.5), Options(ema=0.75), 0.2, betas).window(number, 0, 4)[1]
    t = number + np.arange(1, 5)
    np.testing.assert_allclose(table[:, codes.C_LR], 0.2 / (1 - betas**t), rtol=1e-13)
    np.testing.assert_allclose(table[:, codes.C_ROOT], (1 - 0.999**t) ** -0.5, rtol=1e-12)
    assert np.array_equal(table[:, codes.C_BETA1], 1 - betas) and (table[:, codes.C_DECAY] == 0.1).all()
    assert (
        np.array_equal(table[:, codes.C_EMA], np.where(t == 1, 1.0, 0.25)) and not table[:, codes.C_L2].any()
    )
    table = Updates(fb.Adagrad(0.1, 0.5, 0.3), Options(ema=0.5, max_norm=1.0)).window(number, 0, 4)[1]
    np.testing.assert_allclose(table[:, codes.C_LR], 0.1 / (1 + (t - 1) * 0.5), rtol=1e-15)
    assert (table[:, codes.C_L2] == 0.3).all() and not table[:, codes.C_EMA].any()
    assert np.array_equal(table[:, codes.C_AVERAGE], np.where(t == 1, 1.0, 0.5))


# --- options of the training


@pytest.mark.parametrize("dtype", h.DTYPES)
@pytest.mark.parametrize("optimizer", WITH)
@pytest.mark.parametrize("name", OPTIONS)
def test_options_against_the_reference(rng, dtype, optimizer, name):
    """25 batches of one epoch, the last one smaller, the last group of accumulated ones too."""
    net, optimizer, options = network(dtype), WITH[optimizer], OPTIONS[name]
    X, y = problem(rng, 15 * 24 + 7)
    X = X.astype(dtype)
    start, exact = params64(net), params64(net)
    trainer = fb.Trainer(net, optimizer=optimizer, batch_size=15, **options)
    trainer.fit(X, y, shuffle=False)
    state = ref.init_state(type(optimizer).__name__, exact)
    clip = {k: v for k, v in options.items() if k.startswith("clip")}
    rest = {k: v for k, v in options.items() if not k.startswith("clip")}
    ref.train(exact, X.astype(float), y, ["tanh"] * 2, "cross_entropy", *hyper(optimizer),
              batches_of(len(X), 15, 1), state=state, clip=clip, **rest)  # fmt: skip
    assert trainer.steps == state["step"] == -(-25 // options.get("accumulate", 1))
    assert way(params64(net), exact, start) < STEPS[dtype]
    if "ema" in options:
        mean = trainer.averaged_net()
        assert way(params64(mean), state["average"], start) < STEPS[dtype]
        z = ref.forward(state["average"], X.astype(float), ["tanh"] * 2)[-1][0]
        assert h.relative(trainer.forward(X), z) < STEPS[dtype]
        z = ref.forward(exact, X.astype(float), ["tanh"] * 2)[-1][0]
        assert h.relative(trainer.forward(X, ema=False), z) < STEPS[dtype]
        assert trainer.evaluate(X, y) != trainer.evaluate(X, y, ema=False)
    plain = network(dtype)  # the option did something
    fb.Trainer(plain, optimizer=optimizer, batch_size=15).fit(X, y, shuffle=False)
    changed = not np.array_equal(plain.params, net.params)
    assert changed == (name != "ema")


@pytest.mark.parametrize("name", ["fused", "stored", "ema_max_norm"])
def test_options_give_the_same_bits_for_any_number_of_threads(rng, name):
    X, y = rng.standard_normal((333, 37)), rng.integers(0, 7, 333)
    results = []
    plain = {"optimizer": fb.NAdam(weight_decay=0.1), "batch_size": 50, "seed": 4, "schedule": "cosine"}
    for threads in (1, 2, 4):
        net = fb.MLP([37, 113, 61, 7], seed=3)
        trainer = fb.Trainer(net, threads=threads, **plain, **OPTIONS[name])
        trainer.fit(X, y, epochs=3)
        results.append((net.params.copy(), trainer.slots.copy(), trainer.predict(X)))
    for other in results[1:]:
        for mine, theirs in zip(results[0], other, strict=True):
            assert np.array_equal(mine, theirs)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_give_the_same_bits_and_keep_padding_zero(rng, name):
    X, y = rng.standard_normal((130, 12)), rng.integers(0, 3, 130)
    results = []
    for threads in (1, 2, 4):
        net = fb.MLP([12, 37, 21, 3], seed=3)
        trainer = fb.Trainer(net, optimizer=OPTIMIZERS[name], batch_size=25, threads=threads, seed=4, ema=0.9)
        trainer.fit(X, y, epochs=3)
        results.append((net.params.copy(), trainer.slots.copy()))
    for other in results[1:]:
        assert np.array_equal(results[0][0], other[0]) and np.array_equal(results[0][1], other[1])
    for numbers in (net.params, *trainer.slots.reshape(-1, net.params.size)):
        assert numbers.any()
        for k in range(3):
            w, b = net.views(numbers, k)
            w[:], b[:] = 0, 0
        assert not numbers.any()


def test_a_max_norm_holds_for_every_unit(rng):
    X, y = problem(rng)
    net = network()
    trainer = fb.Trainer(net, optimizer=fb.SGD(1.0), batch_size=15, max_norm=0.5)
    trainer.fit(X, y, epochs=5)
    norms = np.concatenate([np.linalg.norm(w, axis=0) for w in net.weights])
    assert norms.max() < 0.5 * (1 + 1e-6) and (norms > 0.499).any()


def test_a_factor_of_0_freezes_a_layer(rng):
    X, y = problem(rng)
    net = network()
    before = [w.copy() for w in net.weights + net.biases]
    fb.Trainer(net, optimizer=fb.AdamW(0.01), lr_factors=[0, 1, 0]).fit(X, y, epochs=3)
    same = [np.array_equal(a, b) for a, b in zip(before, net.weights + net.biases, strict=True)]
    assert same == [True, False, True] * 2


@pytest.mark.parametrize("options", [{}, {"max_norm": 0.1}, {"clip_norm": 0.1, "ema": 0.9}])
def test_a_factor_of_0_is_what_freeze_does(rng, options):
    """Also of limits on the weights and of batch norm's statistics, gain and shift, and prelu's slopes."""
    X, y = problem(rng)
    nets = [fb.MLP([9, 8, 8, 5], "prelu", norm="batch", seed=0) for _ in "12"]
    before = nets[0].params.copy()
    rest = {"optimizer": fb.AdamW(0.05), "batch_size": 15, "seed": 3, **options}
    fb.Trainer(nets[0], lr_factors=[0, 1, 2], **rest).fit(X, y, epochs=3)
    fb.Trainer(nets[1].freeze(0), lr_factors=[0.5, 1, 2], **rest).fit(X, y, epochs=3)
    assert np.array_equal(nets[0].params, nets[1].params)
    kept = nets[0].named_views(before)
    for name, view in nets[0].named_views(nets[0].params).items():
        assert np.array_equal(view, kept[name]) == name.endswith(".0"), name
    stuck = fb.Trainer(nets[0], lr_factors=[0, 0, 0])
    with pytest.raises(ValueError, match="all layers frozen, .* lr_factors above 0"):
        stuck.fit(X, y)


@pytest.mark.parametrize(
    "options", [{"clip_layer_norm": 0.05}, OPTIONS["fused"], {"ema": 0.9, "max_norm": 0.8}]
)
def test_a_gradient_hook_changes_nothing_by_itself(rng, options):
    X, y = problem(rng)
    plain, hooked = (fb.Trainer(network(), optimizer="nadam", batch_size=15, seed=1, **options) for _ in "12")
    hooked.gradient_hook = lambda pairs: None
    plain.fit(X, y, epochs=2), hooked.fit(X, y, epochs=2)
    assert np.array_equal(plain.net.params, hooked.net.params) and np.array_equal(plain.slots, hooked.slots)
    hooked.accumulate = 2
    with pytest.raises(ValueError, match="accumulate: got 2 beside a gradient_hook, takes 1"):
        hooked.fit(X, y)


@pytest.mark.parametrize("max_norm", [None, 0.8])
def test_frozen_layers_are_in_the_average_too(rng, max_norm):
    X, y = problem(rng)
    trainer = fb.Trainer(network(), batch_size=15, ema=0.9, max_norm=max_norm)
    trainer.net.freeze(0)
    before = trainer.net.weights[0].copy()
    trainer.fit(X, y)
    mean = trainer.averaged_net()
    assert np.array_equal(mean.weights[0], before) and np.array_equal(trainer.net.weights[0], before)
    assert not np.array_equal(mean.weights[1], trainer.net.weights[1])


def test_best_weights_come_back_with_their_average(rng):
    X, y = problem(rng)
    trainer = fb.Trainer(network(), optimizer=fb.Adam(0.05), batch_size=15, ema=0.5)
    stop = fb.EarlyStopping(patience=3, restore_best_weights=True)
    losses = trainer.fit(X[:40], y[:40], 60, validation_data=(X[40:], y[40:]), callbacks=stop).history[
        "val_loss"
    ]
    assert trainer.evaluate(X[40:], y[40:])["loss"] == min(losses)


# --- save and resume


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_save_and_resume_are_exact(rng, tmp_path, name):
    """With everything that has a state: the average, a schedule over both fits."""
    X, y = problem(rng)
    options = {"ema": 0.9, "l1": 0.001, "accumulate": 2, "lr_factors": [1, 0.5, 2], "decay_bias": False}
    schedule = fb.schedules.Cosine(total=12, warmup=3)
    whole, part = (
        fb.Trainer(network(), optimizer=OPTIMIZERS[name], batch_size=15, seed=9, schedule=schedule, **options)
        for _ in range(2)
    )
    whole.fit(X, y, epochs=4)
    part.fit(X, y, epochs=2)
    part.lr_scale = 1.0
    part.save(tmp_path / "m.safetensors")
    resumed = fb.load(tmp_path / "m.safetensors")
    assert resumed.optimizer == part.optimizer and resumed.schedule == schedule
    resumed.fit(X, y, epochs=2)
    assert np.array_equal(whole.net.params, resumed.net.params)
    assert np.array_equal(whole.slots, resumed.slots)
    assert np.array_equal(whole.predict(X), resumed.predict(X))


# --- L-BFGS


def test_lbfgs_finds_the_minimum_that_scipy_finds(rng):
    """Logistic regression with weight decay has one minimum; here of half of the samples, by weights."""
    minimize = pytest.importorskip("scipy.optimize").minimize
    X, y = problem(rng)
    weight = np.repeat([1.0, 0.0], 36)

    def objective(flat):
        pair = [(flat[: 9 * 5].reshape(9, 5), flat[9 * 5 :])]
        loss, [(dW, db)] = ref.gradients(pair, X, y, [], "cross_entropy", weight)
        grad = np.concatenate([(dW + 0.1 * pair[0][0]).ravel(), db])
        return loss + 0.05 * (pair[0][0] ** 2).sum(), grad

    exact = minimize(objective, np.zeros(50), jac=True, method="BFGS", options={"gtol": 1e-9}).x
    net = fb.MLP([9, 5], seed=0, dtype="float64")
    optimizer = fb.LBFGS(weight_decay=0.1, tolerance_grad=1e-10, tolerance_change=0)
    trainer = fb.Trainer(net, optimizer=optimizer, decay_bias=False)
    history = trainer.fit(X, y, epochs=500, sample_weight=weight).history
    # cross_entropy does not change when all biases do
    got = flat([(net.weights[0], net.biases[0] - net.biases[0].mean())])
    exact[-5:] -= exact[-5:].mean()
    assert h.relative(got, exact) < 1e-6
    assert trainer.steps == trainer.epochs == len(history["loss"]) < 500
    assert history["loss"][-1] == trainer.evaluate(X, y, weight)["loss"]
    assert history["accuracy"][-1] == trainer.evaluate(X, y, weight)["accuracy"]


def test_lbfgs_trains_a_network_and_is_saved(rng, tmp_path):
    pytest.importorskip("scipy.optimize")
    X, y = problem(rng)
    trainer = fb.Trainer(network(), optimizer="lbfgs")
    history = trainer.fit(X, y, epochs=60, validation_data=(X, y)).history
    assert history["accuracy"][-1] == history["val_accuracy"][-1] == 1.0
    assert all(a >= b for a, b in zip(history["loss"], history["loss"][1:], strict=False))
    trainer.save(tmp_path / "m.safetensors")
    resumed = fb.load(tmp_path / "m.safetensors")
    assert resumed.optimizer == trainer.optimizer
    trainer.fit(X, y, epochs=5), resumed.fit(X, y, epochs=5)
    assert np.array_equal(trainer.net.params, resumed.net.params)


def test_lbfgs_and_callbacks(rng):
    pytest.importorskip("scipy.optimize")
    X, y = problem(rng)
    seen = []

    class Third(fb.Callback):
        def on_epoch_end(self, epoch, logs):
            seen.append(logs["loss"])
            self.trainer.stop_training = epoch == 2

    trainer = fb.Trainer(network(), optimizer="lbfgs")
    history = trainer.fit(X, y, epochs=50, callbacks=[Third()], metrics="f1")
    assert len(seen) == history.epochs == trainer.epochs == 3 and history.stopped == "callback"
    assert history.history["loss"] == seen and "f1" in history.history
    assert trainer.evaluate(X, y)["loss"] == pytest.approx(seen[-1])
    for call in (trainer.train_on_batch, trainer.partial_fit):
        with pytest.raises(ValueError, match="optimizer: got LBFGS, which only fit takes"):
            call(X, y)


def test_lbfgs_takes_no_options_and_stops_where_nothing_is_finite(rng):
    pytest.importorskip("scipy.optimize")
    X, y = problem(rng)
    with pytest.raises(ValueError, match="clip_value: got 1.0 with LBFGS"):
        fb.Trainer(network(), optimizer="lbfgs", clip_value=1.0).fit(X, y)
    with pytest.raises(ValueError, match="schedule: got Cosine.* with LBFGS"):
        fb.Trainer(network(), optimizer="lbfgs", schedule="cosine").fit(X, y)
    for options in ({"clip_value": 1.0}, {"l1": 0.1}, {"ema": 0.9}):
        trainer = fb.Trainer(network(), optimizer="lbfgs", **options)
        with pytest.raises(ValueError, match="optimizer: got LBFGS, which only fit takes"):
            trainer.train_on_batch(X, y)
        assert np.isfinite(trainer.gradients(X, y)[0])
    trainer = fb.Trainer(network(), optimizer="lbfgs")
    trainer.net.weights[0][0, 0] = np.nan
    with pytest.raises(FloatingPointError, match="became nan"):
        trainer.fit(X, y)


def test_options_are_checked_as_they_are_now():
    """They are kept from step to step: whatever is set anew, or changes inside, counts all the same."""
    trainer = fb.Trainer(fb.MLP([4, 8, 3], seed=0), lr_factors=[1.0, 0.5], l1=0.0)
    assert Options.of(trainer).lr_factors == (1.0, 0.5)
    trainer.lr_factors[1] = 0.25
    assert Options.of(trainer).lr_factors == (1.0, 0.25)
    trainer.lr_factors = None
    kept = Options.of(trainer)
    assert Options.of(trainer) is kept and kept.lr_factors is None
    trainer.clip_norm = 2.0
    assert Options.of(trainer).clip_norm == 2.0
    trainer.accumulate = True  # equal to 1, but no number
    with pytest.raises(ValueError, match="accumulate: got True"):
        Options.of(trainer)
    trainer.accumulate, trainer.lr_factors = 1, (1.0, 1.0)
    assert Options.of(trainer).lr_factors == (1.0, 1.0)
    trainer.net = fb.MLP([4, 8, 8, 3], seed=0)
    with pytest.raises(ValueError, match="lr_factors: got 2 numbers, takes 3"):
        Options.of(trainer)
    trainer.lr_factors = None
    assert Options.of(copy.deepcopy(trainer)) == Options.of(pickle.loads(pickle.dumps(trainer)))
