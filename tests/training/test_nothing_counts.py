"""Rows that count for nothing: all weights 0, all labels ignored. They are stepped over, in whatever way."""

import numpy as np
import pytest

import fastbp as fb

rng = np.random.default_rng(0)
X, Y = rng.standard_normal((8, 4)).astype("f4"), np.array([0, 1, 2, 0, 1, 2, 0, 1])
IGNORED = np.full(8, 9)
WAYS = {
    "weights": (lambda y: y, np.zeros(8)),
    "labels": (lambda y: IGNORED, None),
}
NUMBERS = rng.standard_normal((8, 3))
UNKNOWN = {
    "NaN": (np.full((8, 3), np.nan), None),
    "weights of targets": (NUMBERS, np.zeros((8, 3))),
    "both": (np.where(np.eye(8, 3), NUMBERS, np.nan), 1 - np.eye(8, 3)),
}


def trainer(**options):
    loss = fb.losses.CrossEntropy(ignore_index=9)
    return fb.Trainer(fb.MLP([4, 3], seed=0), loss, fb.SGD(0.1), seed=0, **options)


def of_numbers(loss="mse"):
    loss = fb.losses.loss(loss, ignore_nan=True)
    return fb.Trainer(fb.MLP([4, 3], seed=0), loss, fb.SGD(0.1), seed=0, batch_size=8)


@pytest.mark.parametrize("way", UNKNOWN)
def test_targets_that_are_not_known(way):
    """Alone, in a stream, and as a fit, which is refused."""
    y, weight = UNKNOWN[way]
    t, other = of_numbers(), of_numbers()
    before = t.net.params.copy()
    assert t.train_on_batch(X, y, weight) == t.partial_fit(X, y, weight) == 0.0
    assert t.evaluate(X, y, weight) == {"loss": 0.0}
    found = t.evaluate(X, y, weight, metrics=["r2", "mae", lambda t, p: 1.0])
    assert np.isnan([found["r2"], found["mae"], found["<lambda>"]]).all()
    assert t.gradients(X, y, weight)[0] == 0.0 and np.array_equal(t.net.params, before)
    t, other = of_numbers(), of_numbers()
    found = t.fit(iter([(X, NUMBERS), (X, y, weight), (X, NUMBERS)])).history
    wanted = other.fit(iter([(X, NUMBERS), (X, NUMBERS)])).history
    assert found["loss"] == wanted["loss"] and np.array_equal(t.net.params, other.net.params)
    with pytest.raises(ValueError, match="got NaN alone|got 0 for every known target"):
        t.fit(X, y, sample_weight=weight)


@pytest.mark.parametrize("loss", [k for k in fb.losses.LOSSES if k not in ("cross_entropy", "cosine")])
def test_every_loss_takes_targets_that_are_nan_alone(loss):
    t = fb.Trainer(fb.MLP([4, 2], seed=0), loss)
    if "#" in loss or t.loss.code(2) in fb.kernels.codes.TOGETHER:
        t.loss = fb.losses.loss(loss, ignore_nan=True, **({} if "#" in loss else {"multi_label": True}))
    else:
        t.loss = fb.losses.loss(loss, ignore_nan=True)
    assert t.evaluate(X, np.full((8, t.loss.width(2)), np.nan))["loss"] == 0.0


@pytest.mark.parametrize("metric", ["r2", "rmse", "accuracy", "auc", "f1", "log_loss"])
def test_metrics_of_nothing_are_nan(metric):
    if metric in ("r2", "rmse"):
        t = of_numbers()
        assert np.isnan(t.evaluate(X, NUMBERS, np.zeros(8), metrics=[metric])[metric])
        return
    for y, weight in ((Y, np.zeros(8)), (IGNORED, None)):
        found = trainer().evaluate(X, y, weight, metrics=[metric])
        assert metric == "accuracy" or np.isnan(found[metric])


@pytest.mark.parametrize("way", WAYS)
def test_one_by_one(way):
    y, weight = WAYS[way][0](Y), WAYS[way][1]
    t = trainer()
    before = t.net.params.copy()
    assert t.train_on_batch(X, y, weight) == t.partial_fit(X, y, weight) == 0.0
    assert t.evaluate(X, y, weight) == {"loss": 0.0, "accuracy": 0.0}
    loss, gradients = t.gradients(X, y, weight)
    assert loss == 0.0 and not any(np.any(a) for pair in gradients for a in pair)
    assert np.array_equal(t.net.params, before)


@pytest.mark.parametrize("way", WAYS)
def test_streams_go_on(way):
    """As if they were not there, in the epoch's loss too."""
    y, weight = WAYS[way][0](Y), WAYS[way][1]
    t, other = trainer(), trainer()
    found = t.fit(iter([(X, y, weight), (X, Y, None)])).history
    wanted = other.fit(iter([(X, Y)])).history
    assert found["loss"] == wanted["loss"] and found["accuracy"] == wanted["accuracy"]
    assert np.array_equal(t.net.params, other.net.params)


@pytest.mark.parametrize("optimizer", [fb.AdamW(0.1), fb.SGD(0.1, momentum=0.9)])
def test_in_a_fit_it_is_a_step_of_gradient_0(optimizer):
    """Means decay, rates and corrections go on: the same as the step by itself, in every way of training."""
    y = np.array([0, 1, 9, 9, 1, 0, 2, 0])
    parts = [(X[k : k + 2], y[k : k + 2]) for k in (0, 2, 4, 6)]
    loss = fb.losses.CrossEntropy(ignore_index=9)
    found = [fb.Trainer(fb.MLP([4, 3], seed=0), loss, optimizer, 2, seed=0) for _ in range(4)]
    history = found[0].fit(X, y, shuffle=False).history
    streamed = found[1].fit(lambda: iter(parts)).history
    for part in parts:
        found[2].train_on_batch(*part), found[3].partial_fit(*part)
    assert all(np.array_equal(t.net.params, found[0].net.params) and t.steps == 4 for t in found)
    assert streamed["loss"] == pytest.approx(history["loss"])
    assert streamed["accuracy"] == pytest.approx(history["accuracy"])


def test_targets_that_are_all_nan():
    t = fb.Trainer(fb.MLP([4, 3], seed=0), fb.losses.GammaNLL(ignore_nan=True), fb.SGD(0.1), seed=0)
    before, nothing = t.net.params.copy(), np.full((8, 3), np.nan)
    assert t.train_on_batch(X, nothing) == t.evaluate(X, nothing)["loss"] == t.gradients(X, nothing)[0] == 0.0
    assert np.array_equal(t.net.params, before)
    t.fit(iter([(X, nothing), (X, np.ones((8, 3)))]))
    with pytest.raises(ValueError, match="y: got NaN alone, takes one"):
        t.fit(X, nothing)


def test_the_range_test_steps_over_such_batches():
    y = np.where(np.arange(40) < 32, 9, np.arange(40) % 3)
    rows = np.random.default_rng(0).standard_normal((40, 4))
    losses = trainer(batch_size=4).lr_find(rows, y, steps=30, end=0.1).losses
    assert len(losses) == 30 and (losses > 0.1).all()
    with pytest.raises(ValueError, match="sample_weight: got no sample that counts"):
        trainer().lr_find(X, IGNORED)


def test_a_fit_of_nothing_is_refused():
    t = trainer()
    with pytest.raises(ValueError, match="validation_data: y: got only labels that count for nothing"):
        t.fit(X, Y, validation_data=(X, IGNORED))
    with pytest.raises(ValueError, match="sample_weight: got only zeros"):
        t.fit(X, Y, sample_weight=np.zeros(8))
    with pytest.raises(ValueError, match="y: got only labels that count for nothing"):
        t.fit(X, IGNORED)


def test_the_kind_of_target_decides_and_not_its_values():
    """With class weights rows of probabilities are divided by their number, one-hot or not, as in torch."""
    torch = pytest.importorskip("torch")
    weight = [1.0, 2.0, 4.0]
    t = fb.Trainer(fb.MLP([4, 3], seed=0), fb.losses.CrossEntropy(class_weight=weight))
    z = torch.from_numpy(t.forward(X))
    hot = np.eye(3, dtype="f4")[Y]
    for target in (Y, hot, 0.9 * hot + 0.1 / 3):
        exact = torch.nn.functional.cross_entropy(z, torch.from_numpy(target), torch.tensor(weight))
        assert t.evaluate(X, target)["loss"] == pytest.approx(float(exact), rel=1e-6)
        assert t.gradients(X, target)[0] == pytest.approx(float(exact), rel=1e-6)


@pytest.mark.parametrize("size", [2**31, 2**60, 2**63 - 1])
def test_batches_larger_than_all_rows(size):
    """A step of all rows; no size of memory follows from the number."""
    big, all_rows = trainer(batch_size=size), trainer(batch_size=8)
    for t in (big, all_rows):
        t.fit(X, Y, 2, shuffle=False), t.train_on_batch(X, Y), t.partial_fit(X, Y)
    assert np.array_equal(big.net.params, all_rows.net.params) and big.steps == all_rows.steps


@pytest.mark.parametrize("norm", ["batch", "layer", None])
def test_a_factor_of_0_freezes(norm):
    """Whatever else would move a layer: limits on its weights, running statistics, decay."""
    net = fb.MLP([4, 6, 3], norm=norm, seed=0)
    rule = fb.AdamW(0.1, weight_decay=0.1)
    t = fb.Trainer(net, optimizer=rule, lr_factors=[0, 1], max_norm=0.1, ema=0.5, seed=0)
    before = {name: view.copy() for name, view in net.named_views(net.params).items()}
    t.fit(X, Y, 3)
    for name, view in net.named_views(net.params).items():
        assert np.array_equal(view, before[name]) == name.endswith(".0"), name
    averaged = t.averaged_net()
    assert np.array_equal(averaged.weights[0], net.weights[0])
