"""What surrounds the steps of a fit: splits, time budget, single steps, frozen layers, gradient hooks."""

import copy
import itertools
import time

import numpy as np
import pytest

import fastbp as fb
from fastbp.engine import sessions
from fastbp.kernels import codes
from fastbp.network.layout import arena


def trainer(sizes=(6, 12, 7, 3), activation="tanh", dtype="float32", **options):
    options = {"batch_size": 16, "seed": 1, **options}
    return fb.Trainer(fb.MLP(sizes, activation, seed=0, dtype=dtype), **options)


@pytest.fixture
def data(rng):
    return rng.standard_normal((50, 6)), rng.integers(0, 3, 50)


# --- validation


@pytest.mark.parametrize("share,start", [(0.2, 40), (0.5, 25), (0.33, 33), (0.99, 0)])
def test_validation_split_holds_out_the_last_share(data, rng, share, start):
    """start: Keras' floor(N * (1 - share))."""
    X, y = data
    weight, t, other = rng.uniform(0.5, 2, 50), trainer(), trainer()
    if not start:
        with pytest.raises(ValueError, match="validation_split: got 0.99 of 50 rows"):
            t.fit(X, y, validation_split=share)
        return
    got = t.fit(X, y, 2, validation_split=share, sample_weight=weight).history
    held_out = X[start:], y[start:], weight[start:]
    expected = other.fit(
        X[:start], y[:start], 2, validation_data=held_out, sample_weight=weight[:start]
    ).history
    assert np.array_equal(t.net.params, other.net.params)
    assert all(got[k] == expected[k] for k in ("loss", "accuracy", "val_loss", "val_accuracy"))


# --- the last batch


def test_a_stream_does_not_accumulate(data):
    """Its items are trained on one by one: an update of two of them is none."""
    t = fb.Trainer(fb.MLP([6, 3], seed=0), batch_size=16, accumulate=2)
    before = t.net.params.copy()
    with pytest.raises(ValueError, match="accumulate: got 2 with a stream of batches, takes 1 there"):
        t.fit(lambda: iter([data, data]))
    assert np.array_equal(t.net.params, before) and t.steps == 0


@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"clip_norm": 0.1}, {"norm": "batch"}], ids=str)
def test_a_dropped_last_batch_is_not_trained_on(data, rng, options):
    """Epochs of the whole batches alone: of the same order, the rows behind them are as if not there."""
    X, y = data
    weight = rng.uniform(0, 2, 50) * (rng.uniform(size=50) < 0.8)
    net = {"norm": options["norm"]} if "norm" in options else {}
    made = [fb.Trainer(fb.MLP([6, 12, 3], seed=0, **net), batch_size=16, seed=1,
                       **({} if net else options)) for _ in range(2)]  # fmt: skip
    for epoch in range(3):
        whole = fb.Trainer(fb.MLP([6, 3]), seed=1)
        whole.fit(X, y, 0)
        session = whole._sessions["train"]
        session.bind(X)
        session.shuffle(1, epoch)
        order = session.order[:48].copy()
        got = made[0].fit(X, y, sample_weight=weight, drop_last=True).history
        expected = made[1].fit(X[order], y[order], sample_weight=weight[order], shuffle=False).history
        made[1].epochs = epoch + 1
        assert got["loss"] == expected["loss"] and got["accuracy"] == expected["accuracy"]
        assert np.array_equal(made[0].net.params, made[1].net.params)
    assert made[0].steps == made[1].steps
    t = trainer()
    t.fit(X, y, 2, shuffle=False, drop_last=True)
    assert t.steps == 6
    t.fit(X, y)
    assert t.steps == 10  # the next fit has them again


def test_what_a_dropped_last_batch_allows_and_where_it_means_nothing(data):
    X, y = data[0][:33], data[1][:33]
    t = fb.Trainer(fb.MLP([6, 8, 3], norm="batch", seed=0), batch_size=16)
    with pytest.raises(ValueError, match="batch_size: got 16 for 33 rows, which leaves a batch of 1"):
        t.fit(X, y)
    t.fit(X, y, drop_last=True)
    assert t.steps == 2
    assert trainer(batch_size=64).fit(X, y, drop_last=True).epochs == 1  # one batch of all rows is whole
    with pytest.raises(ValueError, match="drop_last: got True with a stream"):
        trainer().fit(iter([(X, y)]), drop_last=True)
    pytest.importorskip("scipy")
    with pytest.raises(ValueError, match="drop_last: got True with LBFGS"):
        trainer(optimizer="lbfgs").fit(X, y, drop_last=True)


# --- a budget of seconds


def test_a_fit_ends_with_its_seconds(rng):
    X, y = rng.standard_normal((3000, 16)).astype("f4"), rng.integers(0, 3, 3000)
    t = trainer((16, 64, 3), threads=1)
    t.fit(X, y)
    before, start = t.steps, time.perf_counter()
    history = t.fit(X, y, seconds=0.5, validation_data=(X, y))
    spent = time.perf_counter() - start
    assert history.stopped == "seconds" and 0.45 < spent < 1.5
    made = t.steps - before
    assert t.first_step == before and made > 100
    assert 0.7 * made <= t.planned_steps <= 1.3 * made  # the plan came true: a schedule ends with it
    assert history.epochs == len(history.history["val_loss"])
    history = t.fit(X, y, 2, seconds=100)
    assert history.epochs == 2 and history.stopped == "" and t.planned_steps == 2 * 188
    t.fit(X, y, 3)
    assert t.planned_steps == 3 * 188


def test_the_plan_is_made_as_the_time_goes(rng, monkeypatch):
    """At each look the steps made are that share of the planned ones which the time is of its budget."""
    X, y = rng.standard_normal((3000, 16)).astype("f4"), rng.integers(0, 3, 3000)
    t, seen = trainer((16, 64, 3), threads=1), []
    t.fit(X, y, 0)
    begin = []
    whole = sessions.hyper

    def looked(trainer):
        if t.planned_steps is not None and begin:
            done = t._sessions["train"].done + t.steps - t.first_step
            seen.append((done / t.planned_steps, (time.perf_counter() - begin[0]) / 0.4))
        begin.append(time.perf_counter())
        return whole(trainer)

    monkeypatch.setattr(sessions, "hyper", looked)
    t.fit(X, y, seconds=0.4)
    within = [(a, b) for a, b in seen if b > 0.2]
    assert len(within) >= 3
    assert np.mean([abs(a - b) for a, b in within]) < 0.15


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "5"])
def test_bad_seconds(data, seconds):
    with pytest.raises(ValueError, match="seconds: got"):
        trainer().fit(*data, seconds=seconds)


def test_the_bar_of_a_budget(data, capsys):
    trainer().fit(*data, seconds=0.2, verbose=1)
    shown = capsys.readouterr().err
    assert "%|" in shown and "loss" in shown and "epoch" in shown


# --- single steps


@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.1}])
def test_partial_fit_is_an_epoch_without_shuffling(data, options):
    X, y = data
    whole, parts = trainer(**options), trainer(**options)
    history = whole.fit(X, y, shuffle=False)
    loss = parts.partial_fit(X, y)
    assert np.array_equal(whole.net.params, parts.net.params) and np.array_equal(whole.slots, parts.slots)
    assert loss == history.history["loss"][0] and parts.steps == 4 and parts.epochs == 0
    pieces = trainer(**options)
    for start in range(0, 50, 16):
        pieces.train_on_batch(X[start : start + 16], y[start : start + 16])
    assert np.array_equal(whole.net.params, pieces.net.params)


def test_train_on_batch_is_one_step_whatever_its_size(data, rng):
    X, y = data
    weight = rng.uniform(0.5, 2, 50)
    t = trainer(batch_size=8)
    for rows in (3, 50, 1, 17):
        other = trainer(batch_size=rows)
        other.net.params[:], other.slots[:], other.steps = t.net.params, t.slots, t.steps
        loss = t.train_on_batch(X[:rows], y[:rows], weight[:rows])
        history = other.fit(X[:rows], y[:rows], shuffle=False, sample_weight=weight[:rows])
        assert loss == history.history["loss"][0]
        assert np.array_equal(t.net.params, other.net.params)
    assert t.steps == 4


def test_single_steps_refuse_what_fit_refuses(data):
    X, y = data
    t = trainer()
    before = t.net.params.copy()
    for call in (t.train_on_batch, t.partial_fit):
        with pytest.raises(ValueError, match="y: got label 3"):
            call(X, y + 1)
        with pytest.raises(ValueError, match="X: got 5 columns"):
            call(X[:, :5], y)
    assert np.array_equal(t.net.params, before) and t.steps == 0
    t.net.weights[0][0, 0] = np.nan
    with pytest.raises(FloatingPointError, match=r"became nan .* in step 1 of these rows"):
        t.train_on_batch(X, y)
    assert t.steps == 0


def test_a_single_step_is_cheap(data):
    """Python's part of a step on a network of nothing: measured 25 us; a session anew costs far more."""
    X, y = data[0].astype("f4")[:8], data[1][:8]
    t = trainer((6, 3), threads=1)
    t.train_on_batch(X, y)

    def once():
        start = time.perf_counter()
        for _ in range(50):
            t.train_on_batch(X, y)
        return (time.perf_counter() - start) / 50

    assert min(once() for _ in range(10)) < 300e-6


# --- frozen layers


@pytest.mark.parametrize("clip_norm", [None, 0.05])
@pytest.mark.parametrize("frozen", [c for n in (1, 2) for c in itertools.combinations(range(3), n)], ids=str)
def test_frozen_layers_against_torch(rng, frozen, clip_norm):
    """The others train as torch's do where the frozen ones have requires_grad False; AdamW decays none."""
    torch = pytest.importorskip("torch")
    X, y = rng.standard_normal((40, 6)), rng.integers(0, 3, 40)
    t = trainer(dtype="float64", optimizer=fb.AdamW(0.01, weight_decay=0.1), clip_norm=clip_norm)
    t.net.freeze(*frozen)
    net = torch.nn.Sequential(
        *(
            m
            for k, (i, o) in enumerate(itertools.pairwise(t.net.sizes))
            for m in (torch.nn.Linear(i, o), torch.nn.Tanh())
        )
    )[:-1].double()
    linears = net[::2]
    with torch.no_grad():
        for k, linear in enumerate(linears):
            linear.weight[:] = torch.from_numpy(t.net.weights[k].T.copy())
            linear.bias[:] = torch.from_numpy(t.net.biases[k].copy())
            linear.requires_grad_(k not in frozen)
    free = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(free, lr=0.01, weight_decay=0.1)
    before = t.net.params.copy()
    t.fit(X, y, 3, shuffle=False)
    for _ in range(3):
        for start in range(0, 40, 16):
            optimizer.zero_grad()
            rows = slice(start, start + 16)
            torch.nn.functional.cross_entropy(
                net(torch.from_numpy(X[rows])), torch.from_numpy(y[rows])
            ).backward()
            if clip_norm:
                torch.nn.utils.clip_grad_norm_(free, clip_norm)
            optimizer.step()
    for k, linear in enumerate(linears):
        if k in frozen:
            for now, then in zip(t.net.views(t.net.params, k), t.net.views(before, k), strict=True):
                assert np.array_equal(now, then)
        assert np.allclose(t.net.weights[k], linear.weight.detach().numpy().T, rtol=1e-9, atol=1e-11)
        assert np.allclose(t.net.biases[k], linear.bias.detach().numpy(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("clip_norm", [None, 0.05])
def test_frozen_layers_have_the_same_bits_for_any_number_of_threads(rng, clip_norm):
    X, y = rng.standard_normal((100, 37)), rng.integers(0, 7, 100)
    results = []
    for threads in (1, 2, 4):
        t = trainer((37, 113, 61, 50, 7), "gelu", threads=threads, batch_size=33, clip_norm=clip_norm)
        t.net.freeze(0, 2)
        t.fit(X, y, 2)
        results.append(t.net.params.copy())
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])


def test_nothing_is_computed_for_frozen_layers(data):
    """Neither their gradients nor deltas below the lowest that trains: what is not written stays NaN."""
    X, y = data
    t = trainer((6, 9, 8, 7, 3), clip_norm=1e-3)
    t.net.freeze(0, 1, 3)
    t.fit(X, y, 0)
    session = t._sessions["train"]
    rows = len(session.layer_rows(0, 1)[0])
    for k in range(4):
        session.layer_rows(k, rows)[1][:] = np.nan
    gradient = session.gradient
    for k in (0, 1, 3):
        for view in t.net.views(gradient, k):
            view[:] = 0.5  # finite, or the norm would tell
    t.train_on_batch(X, y)  # another session: this one is looked at by hand
    session.bind(X, y.astype("i4").reshape(-1, 1))
    for _ in session.windows(codes.TRAIN, 1):
        pass
    assert np.isnan(session.layer_rows(0, rows)[1]).all() and np.isnan(session.layer_rows(1, rows)[1]).all()
    assert np.isfinite(session.layer_rows(2, rows)[1]).all()
    for k in (0, 1, 3):
        assert all((view == 0.5).all() for view in t.net.views(gradient, k))
    assert np.isfinite(t.net.params).all()


def test_freezing_may_change_between_fits(data):
    X, y = data
    t, other = trainer(), trainer()
    t.net.freeze(0)
    t.fit(X, y)
    first = t.net.weights[0].copy()
    t.net.unfreeze()
    assert t.net.frozen == ()
    t.fit(X, y)
    assert not np.array_equal(first, t.net.weights[0])
    assert other.net.freeze(-1, 0).frozen == (0, 2) and other.net.unfreeze(0).frozen == (2,)
    assert copy.deepcopy(other).net.frozen == (2,)
    assert "frozen" in other.net.summary()
    full = [g.any() for pair in other.gradients(X, y)[1] for g in pair]
    assert all(full)  # gradients() gives those of frozen layers too
    other.explain(0.05)
    other.net.freeze(0, 1, 2)
    for call in (other.fit, other.train_on_batch, other.partial_fit):
        with pytest.raises(ValueError, match="net: got all layers frozen"):
            call(X, y)
    for bad, kind in ((3, ValueError), (-4, ValueError), ("a", TypeError), (0.5, TypeError)):
        with pytest.raises(kind, match="layer: got"):
            other.net.freeze(bad)


# --- a hook between the gradients and the update


@pytest.mark.parametrize("clip_norm", [None, 0.1])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_hook_that_does_nothing_changes_nothing(data, optimizer, clip_norm):
    X, y = data
    plain = trainer(optimizer=optimizer, dtype="float64", clip_norm=clip_norm)
    plain_history = plain.fit(X, y, 3).history
    for threads in (1, 2, 4):
        hooked = trainer(optimizer=optimizer, dtype="float64", clip_norm=clip_norm, threads=threads)
        calls = []
        hooked.gradient_hook = calls.append
        history = hooked.fit(X, y, 3).history
        assert len(calls) == hooked.steps == plain.steps == 12
        assert np.allclose(hooked.net.params, plain.net.params, rtol=1e-12, atol=1e-14)
        assert history["loss"] == plain_history["loss"] and history["accuracy"] == plain_history["accuracy"]


def test_a_hook_sees_the_gradients_and_changes_the_update(data):
    X, y = data
    t = trainer(optimizer=fb.SGD(0.1), dtype="float64", batch_size=50)
    _, exact = t.gradients(X, y)
    before = [w.copy() for w in t.net.weights]

    def hook(pairs):
        for (dw, db), (w, b) in zip(pairs, exact, strict=True):
            assert np.allclose(dw, w, rtol=1e-12, atol=1e-15) and np.allclose(db, b, rtol=1e-12, atol=1e-15)
            dw *= 2
        pairs[1][0][:] = 0

    t.gradient_hook = hook
    t.train_on_batch(X, y)
    for k, scale in enumerate((2, 0, 2)):
        assert np.allclose(t.net.weights[k], before[k] - 0.1 * scale * exact[k][0], rtol=1e-12, atol=1e-15)
    t.gradient_hook = None
    t.train_on_batch(X, y)
    assert not np.array_equal(t.net.weights[1], before[1])


def test_a_loss_that_breaks_under_a_hook(data):
    X, y = data
    t = trainer()
    t.gradient_hook = lambda pairs: None
    t.fit(X, y)
    t.net.weights[0][:] = np.nan
    with pytest.raises(FloatingPointError, match="became nan .* in step 1 of epoch 1"):
        t.fit(X, y)
    t = trainer(clip_norm=1.0)

    def spoil(pairs):
        pairs[0][0][:] = np.inf

    t.gradient_hook = spoil
    before = t.net.params.copy()
    with pytest.raises(FloatingPointError):
        t.fit(X, y)
    assert np.array_equal(t.net.params, before) and t.steps == 0


def test_activations_are_those_of_the_hidden_layers(rng):
    from fastbp.kernels import reference as ref

    t = trainer((6, 12, 7, 3), ["gelu", "tanh"], dtype="float64")
    X = rng.standard_normal((600, 6))
    a = X
    for k, name in enumerate(["gelu", "tanh"]):
        a = ref.activation(name, a @ t.net.weights[k] + t.net.biases[k])
        assert np.allclose(t.activations(X, k), a, rtol=1e-12, atol=1e-14)
    assert np.array_equal(t.activations(X), t.activations(X, 1))
    with pytest.raises(IndexError):
        t.activations(X, 2)


def test_the_arena_is_laid_out_as_the_parameters(data):
    t = trainer(clip_norm=1.0)
    t.fit(*data, 0)
    gradient = t._sessions["train"].gradient
    assert gradient.size == t.net.params.size and gradient.dtype == t.net.dtype
    assert gradient.ctypes.data % 64 == arena(1, "f4").ctypes.data % 64 == 0
