"""Schedules against torch's; what the program makes of them; adaptive ones; the range test."""

import harness as h
import numpy as np
import pytest
from ways import batches_of, network, params64, problem, way

import fastbp as fb
from fastbp import schedules as sc
from fastbp.engine import rates
from fastbp.kernels import reference as ref

LR = 0.03


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="torch comes with the extra: pip install '.[compare]'")


def theirs(torch, make, count):
    """The rate and momentum of ``count`` steps of a torch scheduler."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR, momentum=0.9)
    scheduler, found = make(torch.optim.lr_scheduler, optimizer), []
    for _ in range(count):
        found.append([optimizer.param_groups[0][name] for name in ("lr", "momentum")])
        optimizer.step()
        scheduler.step()
    return np.array(found).T


PAIRS = {
    "step": (sc.Step(7, 0.5), lambda s, o: s.StepLR(o, 7, 0.5)),
    "multistep": (sc.MultiStep([30, 5, 11], 0.3), lambda s, o: s.MultiStepLR(o, [5, 11, 30], 0.3)),
    "exponential": (sc.Exponential(0.9), lambda s, o: s.ExponentialLR(o, 0.9)),
    "cosine": (sc.Cosine(60, eta_min=0.001), lambda s, o: s.CosineAnnealingLR(o, 60, 0.001)),
    "restarts": (sc.Cosine(period=7), lambda s, o: s.CosineAnnealingWarmRestarts(o, 7)),
    "longer": (
        sc.Cosine(period=3, multiply=2, eta_min=0.01),
        lambda s, o: s.CosineAnnealingWarmRestarts(o, 3, 2, 0.01),
    ),
    "thrice": (sc.Cosine(period=5, multiply=3), lambda s, o: s.CosineAnnealingWarmRestarts(o, 5, 3)),
    "polynomial": (sc.Polynomial(60, power=2), lambda s, o: s.PolynomialLR(o, 60, 2)),
    "linear": (sc.Polynomial(60), lambda s, o: s.PolynomialLR(o, 60)),
    "onecycle": (
        sc.OneCycle(60, max_lr=0.3, pct_start=0.4, div_factor=10, final_div_factor=100),
        lambda s, o: s.OneCycleLR(o, 0.3, 60, pct_start=0.4, div_factor=10, final_div_factor=100),
    ),
    "onecycle_defaults": (sc.OneCycle(60), lambda s, o: s.OneCycleLR(o, LR, 60)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_rates_against_torch(torch, name):
    schedule, make = PAIRS[name]
    t = np.arange(60.0)
    lr, momentum = theirs(torch, make, 60)
    np.testing.assert_allclose(schedule.rates(t, LR, schedule.total), lr, rtol=1e-9, atol=1e-16)
    if schedule.cycles_momentum:
        np.testing.assert_allclose(schedule.momenta(t, schedule.total), momentum, rtol=1e-12)


def test_rates_by_hand():
    t = np.arange(8.0)
    warm = sc.Cosine(total=8, warmup=4).rates(t, 1.0, 8)
    assert np.allclose(warm, [0.25, 0.5, 0.75, 1, 1, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4])
    assert np.allclose(sc.Constant(warmup=2).rates(t, 0.1, None), [0.05] + [0.1] * 7)
    assert np.allclose(sc.InverseScaling().rates(t, 1.0, None), 1 / np.sqrt(t + 1))
    assert np.allclose(sc.Polynomial(8, warmup=4, end_lr=0.2).rates(t, 1.0, 8)[4:], [1, 0.8, 0.6, 0.4])
    for total in range(1, 6):  # too short for a way up
        cycle = sc.OneCycle()
        for way_ in (cycle.rates(np.arange(total), 1.0, total), cycle.momenta(np.arange(total), total)):
            assert np.isfinite(way_).all() and way_.min() >= 0


@pytest.mark.parametrize("share", [0.1, 0.3, 0.7])
@pytest.mark.parametrize("total", range(1, 8))
def test_short_cycles_against_torch(torch, total, share):
    """Where the peak would be before the first update, too."""
    cycle, t = sc.OneCycle(total, pct_start=share), np.arange(float(total))
    lr, momentum = theirs(torch, lambda s, o: s.OneCycleLR(o, LR, total, pct_start=share), total)
    np.testing.assert_allclose(cycle.rates(t, LR, total), lr, rtol=1e-9)
    np.testing.assert_allclose(cycle.momenta(t, total), momentum, rtol=1e-12)


SCHEDULED = {
    "function": (lambda step: 0.01 * (1 + step % 3), fb.Adam(eps=1e-3), lambda e, s: 0.01 * (1 + s % 3)),
    "step": (sc.Step(2, 0.5), fb.Adam(0.01, eps=1e-3), lambda e, s: 0.01 * 0.5 ** (e // 2)),
    "exponential": (sc.Exponential(0.95, by="step"), fb.SGD(0.3), lambda e, s: 0.3 * 0.95**s),
    "sample": (sc.InverseScaling(), fb.SGD(0.3), lambda e, s: 0.3 / (72 * e + 1) ** 0.5),
    "adamw": (
        sc.Polynomial(total=20, warmup=2),
        fb.AdamW(0.01, eps=1e-3, weight_decay=0.5),
        lambda e, s: 0.01 * min((s + 1) / 2, 1 - (s - 2) / 18),
    ),
    "nadam": (sc.Exponential(0.9, by="step"), fb.NAdam(0.01, eps=1e-3), lambda e, s: 0.01 * 0.9**s),
}


@pytest.mark.parametrize("dtype", h.DTYPES)
@pytest.mark.parametrize("name", SCHEDULED)
def test_the_program_follows(rng, dtype, name):
    """Four epochs of five updates, over two fits."""
    schedule, optimizer, lr = SCHEDULED[name]
    net, (X, y) = network(dtype), problem(rng)
    X = X.astype(dtype)
    start, exact = params64(net), params64(net)
    trainer = fb.Trainer(net, optimizer=optimizer, batch_size=15, schedule=schedule)
    trainer.fit(X, y, shuffle=False), trainer.fit(X, y, epochs=3, shuffle=False)
    config = optimizer.config()
    rates = [{"lr": lr(s // 5, s)} for s in range(20)]
    hyper = {k: v for k, v in config.items() if k not in ("name", "amsgrad")}
    ref.train(exact, X.astype(float), y, ["tanh"] * 2, "cross_entropy", type(optimizer).__name__, hyper,
              batches_of(72, 15, 4), rates=rates)  # fmt: skip
    assert way(params64(net), exact, start) < {"float32": 1e-5, "float64": 1e-12}[dtype]


@pytest.mark.parametrize(
    "optimizer", [fb.SGD(0.1, momentum=0.9), fb.Adam(0.01, eps=1e-3), fb.RMSprop(momentum=0.9, eps=1e-3)]
)
def test_one_cycle_moves_the_momentum_too(rng, optimizer):
    net, (X, y) = network("float64"), problem(rng)
    start, exact = params64(net), params64(net)
    schedule = sc.OneCycle(max_lr=0.05)
    fb.Trainer(net, optimizer=optimizer, batch_size=15, schedule=schedule, accumulate=2).fit(
        X, y, epochs=4, shuffle=False
    )
    t = np.arange(12.0)  # 3 updates an epoch
    rates = []
    for lr, momentum in zip(schedule.rates(t, None, 12), schedule.momenta(t, 12), strict=True):
        moved = {"betas": (momentum, 0.999)} if isinstance(optimizer, fb.Adam) else {"momentum": momentum}
        rates.append({"lr": lr, **moved})
    hyper = {k: v for k, v in optimizer.config().items() if k not in ("name", "amsgrad")}
    kind, state = type(optimizer).__name__, ref.init_state(type(optimizer).__name__, exact)
    for _ in range(4):
        ref.train(exact, X, y, ["tanh"] * 2, "cross_entropy", kind, hyper, batches_of(72, 15, 1), state=state,
                  rates=rates, accumulate=2)  # fmt: skip
    assert way(params64(net), exact, start) < 1e-12


CYCLED = {
    "nadam": fb.NAdam(eps=1e-3, weight_decay=0.1),
    "nadam_decoupled": fb.NAdam(betas=(0.0, 0.9), eps=1e-3, momentum_decay=0.2, decoupled_weight_decay=True),
    "adam": fb.Adam(betas=(0.0, 0.999), eps=1e-3),
    "sgd": fb.SGD(),
    "rmsprop": fb.RMSprop(eps=1e-3),
}


@pytest.mark.parametrize("low", [0.85, 0.1])
@pytest.mark.parametrize("way_", ["fit", "fits", "steps"])
@pytest.mark.parametrize("name", CYCLED)
def test_one_cycle_against_torch_where_the_momentum_is_0_or_in_products(torch, rng, name, way_, low):
    """torch sets the momentum whatever it was; NAdam's products are of those that were."""
    optimizer, g = CYCLED[name], rng.standard_normal(12)
    config = {k: v for k, v in optimizer.config().items() if k != "name"}
    leaf = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    other = getattr(torch.optim, type(optimizer).__name__)([leaf], **config)
    cycle = torch.optim.lr_scheduler.OneCycleLR(other, 0.05, 12, base_momentum=low)
    exact = []
    for number in g:
        leaf.grad = torch.tensor([number])
        other.step()
        cycle.step()
        exact.append(leaf.item())
    net, X = fb.MLP([1, 1], initializer="zeros", dtype="float64"), np.ones((12, 1))
    schedule = sc.OneCycle(None if way_ == "fit" else 12, max_lr=0.05, base_momentum=low)
    trainer = fb.Trainer(net, fb.loss(lambda z, t: z * t, name="line"), optimizer, 1, schedule=schedule)
    seen = []
    if way_ == "steps":
        for number in g:
            trainer.train_on_batch(X[:1], [number])
            seen.append(float(net.weights[0][0, 0]))
    elif way_ == "fit":
        trainer.fit(X, g, shuffle=False)
    else:
        trainer.fit(X[:5], g[:5], shuffle=False), trainer.fit(X[5:], g[5:], shuffle=False)
    bound = 1e-6 if name.startswith("nadam") else 1e-12  # torch keeps their product in float32
    assert h.relative(net.weights[0].ravel(), exact[-1:]) < bound
    assert not seen or h.relative(seen, exact) < bound


def test_a_schedule_of_a_fit_spans_each_fit(rng):
    """Without total it begins and ends with the fit; with one it goes on."""
    X, y = problem(rng)
    nets = [network() for _ in range(3)]
    plain = {"optimizer": fb.Adam(0.01), "batch_size": 15, "seed": 1}
    twice = fb.Trainer(nets[0], schedule=sc.Cosine(), **plain)
    twice.fit(X, y, epochs=2), twice.fit(X, y, epochs=2)
    rates = sc.Cosine(10).rates(np.arange(10.0), 0.01, 10)
    fb.Trainer(nets[1], schedule=lambda step: rates[step % 10], **plain).fit(X, y, epochs=4)
    assert np.array_equal(nets[0].params, nets[1].params)
    once = fb.Trainer(nets[2], schedule=sc.Cosine(20), **plain)
    once.fit(X, y, epochs=4)
    assert not np.array_equal(nets[2].params, nets[0].params)
    with pytest.raises(
        ValueError, match=r"schedule: Cosine ends after 20 steps, this fit after 25; takes total=25"
    ):
        once.fit(X, y)
    assert once.steps == 20 and once.epochs == 4


def test_lr_scale_multiplies_and_is_saved(rng, tmp_path):
    X, y = problem(rng)
    plain = {"batch_size": 15, "seed": 1, "schedule": sc.Step(1, 0.5)}
    scaled, other = (fb.Trainer(network(), optimizer=fb.SGD(0.5), **plain) for _ in range(2))
    scaled.fit(X, y), other.fit(X, y)
    scaled.lr_scale, other.optimizer = 0.5, fb.SGD(0.25)
    scaled.save(tmp_path / "m.safetensors")
    scaled = fb.load(tmp_path / "m.safetensors")
    scaled.fit(X, y), other.fit(X, y)
    assert np.array_equal(scaled.net.params, other.net.params)
    scaled.schedule = other.schedule = None
    scaled.fit(X, y), other.fit(X, y)
    assert np.array_equal(scaled.net.params, other.net.params)


def test_plateau_against_torch(torch, rng):
    """Random losses: every change of the rate, with all switches."""
    for _ in range(40):
        numbers = {
            "mode": str(rng.choice(["min", "max"])), "factor": float(rng.uniform(0.1, 0.9)),
            "patience": int(rng.integers(0, 4)), "threshold": float(rng.uniform(0, 0.2)),
            "threshold_mode": str(rng.choice(["rel", "abs"])), "cooldown": int(rng.integers(0, 4)),
            "min_lr": float(rng.uniform(0, 0.01)),
        }  # fmt: skip
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=LR)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, eps=0, **numbers)
        mine, state, lr = sc.Plateau(**numbers), {}, LR
        odd = {0: rng.choice([np.nan, np.inf, 0.5]), 7: np.nan, 11: np.inf}  # torch waits for the next number
        losses = (
            rng.uniform(*sorted(rng.uniform(-1, 1, 2)), 50) if rng.integers(2) else rng.uniform(0.1, 1, 50)
        )
        for epoch, loss in enumerate(losses):
            loss = float(odd.get(epoch, loss))
            scheduler.step(loss)
            lr = mine.after_epoch(state, {"loss": loss}, lr)
            assert lr == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)


def test_a_first_value_that_is_nan_does_not_cut_the_rate_for_ever(rng, tmp_path):
    for plan, name in ((sc.Plateau(patience=1, factor=0.5), "val_loss"), (sc.Adaptive(0.0, 1), "loss")):
        state, lr = {}, 1.0
        for value in [np.nan, *np.linspace(5, 1, 20)]:
            lr = plan.after_epoch(state, {name: value, "loss": value}, lr)
        assert lr == 1.0 and state["best"] == 1.0
    X, y = problem(rng)

    def first_nan(y_true, prediction):
        return float("nan")

    plan = sc.Plateau("first_nan", "max", patience=9)
    t = fb.Trainer(network(), schedule=plan, seed=0)
    t.fit(X, y, metrics=[first_nan])
    t.save(tmp_path / "m.safetensors")
    assert fb.load(tmp_path / "m.safetensors").schedule == plan  # NaN in its state would be refused


def test_the_direction_is_that_of_the_monitor():
    for kind in (
        lambda name: sc.Plateau(name, patience=0, factor=0.2),
        lambda name: sc.Adaptive(0.0, 0, name),
    ):
        for name, values in (("val_accuracy", [0.1, 0.2, 0.3]), ("val_roc_auc_score", [0.1, 0.2, 0.3]),
                             ("val_loss", [3, 2, 1]), ("rmse", [3, 2, 1])):  # fmt: skip
            for series, cuts in ((values, False), (values[::-1], True)):
                plan, state, lr = kind(name), {}, 1.0
                for value in series:
                    lr = plan.after_epoch(state, {name: value}, lr)
                assert lr == pytest.approx(0.04 if cuts else 1.0), (plan, series)
        with pytest.raises(ValueError, match="monitor: got 'val_mine', of which nobody knows whether more"):
            kind("val_mine")
    assert sc.Plateau("val_mine", "max").mode == "max"


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_adaptive_against_scikit_learn(monkeypatch):
    """The rates that MLPClassifier goes through on data that cannot be learned."""
    neural = pytest.importorskip("sklearn.neural_network")
    from sklearn.neural_network._stochastic_optimizers import SGDOptimizer

    used, before = [], SGDOptimizer.iteration_ends
    monkeypatch.setattr(
        SGDOptimizer, "iteration_ends", lambda o, t: (before(o, t), used.append(o.learning_rate))[0]
    )
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((64, 4)), rng.integers(0, 2, 64)
    net = neural.MLPClassifier((8,), solver="sgd", learning_rate="adaptive", learning_rate_init=0.5, tol=0.01,
                               n_iter_no_change=2, batch_size=64, max_iter=60, random_state=0)  # fmt: skip
    net.fit(X, y)
    schedule, state, rates = sc.Adaptive(0.01, 2), {}, [0.5]
    for loss in net.loss_curve_[:-1]:
        rates.append(schedule.after_epoch(state, {"loss": loss}, rates[-1]))
    assert rates == pytest.approx(used) and len(set(used)) > 3


def test_plateau_acts_in_fit_and_resumes(rng, tmp_path):
    X, y = problem(rng)
    plain = {"optimizer": fb.SGD(1.0), "batch_size": 15, "seed": 1}
    whole, part = (
        fb.Trainer(network(), schedule=sc.Plateau(patience=1, threshold=0.5), **plain) for _ in range(2)
    )
    whole.fit(X, y, epochs=8)
    assert whole.lr_scale < 0.05
    part.fit(X, y, epochs=3)
    part.save(tmp_path / "m.safetensors")
    part = fb.load(tmp_path / "m.safetensors")
    part.fit(X, y, epochs=5)
    assert part.lr_scale == whole.lr_scale and np.array_equal(part.net.params, whole.net.params)


def test_a_function_is_not_saved_and_missed(rng, tmp_path):
    X, y = problem(rng)
    trainer = fb.Trainer(network(), schedule=lambda step: 0.01)
    trainer.fit(X, y)
    trainer.save(tmp_path / "m.safetensors")
    loaded = fb.load(tmp_path / "m.safetensors")
    assert np.array_equal(loaded.predict(X), trainer.predict(X))
    with pytest.raises(ValueError, match="schedule: was the function .*lambda.*set trainer.schedule again"):
        loaded.fit(X, y)
    loaded.schedule = lambda step: 0.01
    loaded.fit(X, y)


def test_single_passes_follow_the_schedule(rng):
    """partial_fit and train_on_batch: the same updates as fit, NAdam's product of momenta included."""
    X, y = problem(rng)
    plain = {"optimizer": fb.NAdam(0.01), "batch_size": 24, "schedule": sc.Polynomial(total=6)}
    whole, parts, single = (fb.Trainer(network(), **plain) for _ in range(3))
    whole.fit(X, y, epochs=2, shuffle=False)
    for _ in range(2):
        parts.partial_fit(X[:48], y[:48]), parts.partial_fit(X[48:], y[48:])
        for k in (0, 24, 48):
            single.train_on_batch(X[k : k + 24], y[k : k + 24])
    assert whole.steps == parts.steps == single.steps == 6
    assert np.array_equal(whole.net.params, parts.net.params)
    assert np.array_equal(whole.net.params, single.net.params)
    with pytest.raises(ValueError, match="schedule: Polynomial ends after 6 steps, this fit after 7"):
        single.train_on_batch(X[:24], y[:24])
    single.schedule = sc.Cosine()
    with pytest.raises(ValueError, match="schedule: Cosine spans a fit, this is none; takes total="):
        single.train_on_batch(X[:24], y[:24])


def test_a_schedule_ends_on_the_budget(rng):
    """fit(seconds=...): the rate at the end is that of the schedule's end, wherever that came to lie."""
    X, y = problem(rng, 3000)
    trainer = fb.Trainer(network(), optimizer=fb.SGD(0.1), batch_size=15, schedule=sc.Polynomial(), threads=1)
    seen = []
    epoch = rates.Rates.epoch
    try:
        rates.Rates.epoch = lambda self: (seen.append(epoch(self)), seen[-1])[1]
        trainer.fit(X, y, seconds=0.6)
    finally:
        rates.Rates.epoch = epoch
    last = (trainer.steps - 1) % 200
    assert trainer.steps > 1000 and len(seen) > 5
    assert seen[0].lr[0] == pytest.approx(0.1) and seen[-1].lr[last] < 0.03


# --- the range test


def test_lr_find(rng, tmp_path):
    X, _ = problem(rng, 300)
    y = X[:, :5].argmax(axis=1)
    trainer = fb.Trainer(network(), optimizer=fb.SGD(), batch_size=15, accumulate=2, ema=0.9, seed=3)
    trainer.fit(X, y)
    before = trainer.net.params.copy(), trainer.slots.copy(), trainer.steps, trainer.epochs
    found = trainer.lr_find(X, y, start=1e-3, end=1e4, steps=60)
    assert np.array_equal(before[0], trainer.net.params) and np.array_equal(before[1], trainer.slots)
    assert before[2:] == (trainer.steps, trainer.epochs)
    assert 10 < len(found.lr) <= 60 and len(found.losses) == len(found.smoothed) == len(found.lr)
    assert np.allclose(found.lr, np.geomspace(1e-3, 1e4, 60)[: len(found.lr)])
    assert 1e-3 < found.suggestion < 30
    assert found.plot(tmp_path / "range.png").path.stat().st_size > 5_000
    # its losses are those of training with these rates
    rates = np.geomspace(1e-3, 1e4, 60)
    trainer.schedule = lambda step: rates[step - 10]
    trainer.fit(X, y)
    mean = np.mean(found.losses[:10])
    assert trainer.history.history["loss"][0] == pytest.approx(mean, rel=1e-6)


def test_lr_find_says_what_is_wrong(rng):
    X, y = problem(rng)
    trainer = fb.Trainer(network(), optimizer=fb.SGD())
    with pytest.raises(ValueError, match="start: got 0"):
        trainer.lr_find(X, y, start=0)
    with pytest.raises(ValueError, match="end: got 1e-09, takes a number above start"):
        trainer.lr_find(X, y, end=1e-9)
    with pytest.raises(ValueError, match="steps: got 2"):
        trainer.lr_find(X, y, steps=2)
    with pytest.raises(ValueError, match="start: got 1e.20, at which the loss explodes"):
        fb.Trainer(network(), "mse", fb.SGD()).lr_find(X, np.ones((72, 5)), start=1e20, end=1e30)
    with pytest.raises(ValueError, match="LBFGS, which has no learning rate"):
        fb.Trainer(network(), optimizer="lbfgs").lr_find(X, y)
