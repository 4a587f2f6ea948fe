"""Steps one at a time: the short way of train_on_batch leaves the bits of the long one, whatever changes."""

import copy
import pickle

import numpy as np
import pytest
import ways

import fastbp as fb
from fastbp.training.single import Step


def pair(sizes=(9, 20, 5), loss="cross_entropy", optimizer="adam", **options):
    """Two trainers alike: the first may take the short way."""
    options = {"batch_size": 16, "seed": 1, "threads": 1} | options
    make = lambda: fb.Trainer(fb.MLP(list(sizes), "gelu", seed=0), loss, copy.copy(optimizer), **options)  # noqa: E731
    return make(), make()


def step(trainers, X, y, *weights):
    """A step of both, the second by the long way; their bits are the same."""
    short, long = trainers
    long._step = None
    losses = [trainer.train_on_batch(X, y, *weights) for trainer in trainers]
    assert losses[0] == losses[1] and short.steps == long.steps
    assert np.array_equal(short.net.params, long.net.params) and np.array_equal(short.slots, long.slots)
    return losses[0]


def targets(rng, loss, rows, outputs):
    if loss in ("cross_entropy", "hinge"):
        return rng.integers(0, outputs, rows)
    return rng.uniform(0.1, 1, (rows, outputs)).astype("f4")


@pytest.fixture
def short_ways(monkeypatch):
    """How many steps were made by the short way."""
    made, make = [], Step.make

    def counted(self, *given):
        made.append(make(self, *given))
        return made[-1]

    monkeypatch.setattr(Step, "make", counted)
    return made


@pytest.mark.parametrize("loss", ["cross_entropy", "hinge", "mse", "bce_with_logits", "poisson", "cosine"])
@pytest.mark.parametrize("threads", [1, 2])
def test_losses(rng, short_ways, loss, threads):
    both = pair(loss={"poisson": fb.losses.PoissonNLL()}.get(loss, loss), threads=threads)
    for _ in range(5):
        step(both, rng.standard_normal((16, 9)).astype("f4"), targets(rng, loss, 16, 5))
    assert len(short_ways) == 4 and None not in short_ways


@pytest.mark.parametrize("name", ways.OPTIMIZERS)
def test_optimizers_over_the_constants_made_ahead(rng, short_ways, name):
    both = pair(loss="mse", optimizer=ways.OPTIMIZERS[name])
    for _ in range(70):
        step(both, rng.standard_normal((8, 9)), rng.standard_normal((8, 5)))
    assert len(short_ways) == 69 and None not in short_ways


@pytest.mark.parametrize(
    "options",
    [
        {"clip_norm": 0.1}, {"accumulate": 3}, {"ema": 0.9}, {"l1": 0.01, "max_norm": 0.5},
        {"lr_factors": (0.0, 2.0)}, {"lr_factors": [0.5, 2.0]}, {"schedule": "cosine"},
        {"schedule": fb.schedules.OneCycle(total=40)},
    ],
    ids=str,
)  # fmt: skip
def test_options(rng, options):
    if options.get("schedule") == "cosine":
        options = {"schedule": fb.schedules.Cosine(total=30)}
    both = pair(**options)
    for _ in range(12):
        step(both, rng.standard_normal((16, 9)).astype("f4"), rng.integers(0, 5, 16))


CHANGES = {
    "lr": lambda t: setattr(t.optimizer, "lr", 0.2),
    "betas": lambda t: setattr(t.optimizer, "betas", (0.5, 0.6)),
    "optimizer": lambda t: setattr(t, "optimizer", fb.Adam(0.03)),
    "clip": lambda t: setattr(t, "clip_norm", 0.01),
    "scale": lambda t: setattr(t, "lr_scale", 0.1),
    "schedule": lambda t: setattr(t, "schedule", fb.schedules.Step(2)),
    "frozen": lambda t: t.net.freeze(0),
    "hook": lambda t: setattr(t, "gradient_hook", lambda pairs: [dW.fill(1) for dW, _ in pairs]),
    "weights": lambda t: t.net.weights[0].fill(0.1),
    "steps": lambda t: setattr(t, "steps", 1000),
    "back": lambda t: setattr(t, "steps", 1),
    "fit": lambda t: t.fit(np.ones((40, 9)), np.zeros(40, int), 2, verbose=0),
    "partial": lambda t: t.partial_fit(np.ones((40, 9)), np.zeros(40, int)),
    "other rows": lambda t: t.train_on_batch(np.ones((40, 9)), np.zeros(40, int)),
    "soft": lambda t: t.train_on_batch(np.ones((16, 9)), np.full((16, 5), 0.2)),
    "weighted": lambda t: t.train_on_batch(np.ones((16, 9)), np.zeros(16, int), np.arange(16.0)),
    "evaluated": lambda t: t.evaluate(np.ones((50, 9)), np.zeros(50, int)),
    "seed": lambda t: setattr(t, "seed", 5),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_between(rng, change):
    sizes = (9, 20, 5)
    both = [
        fb.Trainer(fb.MLP(list(sizes), dropout=0.3, seed=0), "cross_entropy", fb.Adam(0.01), 16, seed=1)
        for _ in range(2)
    ]
    for k in range(6):
        step(both, rng.standard_normal((16, 9)).astype("f4"), rng.integers(0, 5, 16))
        if k == 2:
            for trainer in both:
                CHANGES[change](trainer)


def test_all_kinds_of_arrays(rng, short_ways):
    both = pair()
    X = rng.standard_normal((32, 18)).astype("f4")
    y = rng.integers(0, 5, 32)
    for rows in (X[:16, :9], X[::2, ::2], np.asfortranarray(X[:16, :9]), X[:16, :9][::-1], X[:16, :9]):
        for kind in ("f4", "f8", "f2", ">f4", ">f8", "g", "?", "u1", "f4"):
            for labels in (y[:16], y[::2].astype("u1"), y[:16].astype(">i8"), y[:16] > 2):
                step(both, rows.astype(kind, order="K"), labels)
                step(both, rows.astype(kind, order="K"), labels)
    assert len(short_ways) >= 60
    step(both, X[:16, :9].tolist(), y[:16].tolist())
    for k in range(3):
        step(both, X[k : k + 1, :9], y[k : k + 1])
    assert len(short_ways) >= 62 and None not in short_ways


BAD = {
    "X NaN": (lambda X, y: X.__setitem__((3, 2), np.nan), ValueError, "X: got nan at row 3, column 2"),
    "X inf": (lambda X, y: X.__setitem__((15, 8), -np.inf), ValueError, "X: got -inf at row 15, column 8"),
    "label": (lambda X, y: y.__setitem__(4, 5), ValueError, "y: got label 5, takes 0 to 4"),
    "below 0": (lambda X, y: y.__setitem__(4, -1), ValueError, "y: got label -1, takes 0 to 4"),
    "wraps": (lambda X, y: y.__setitem__(4, 2**32 + 1), ValueError, "y: got label 4294967297, takes 0 to 4"),
    "too large": (lambda X, y: X.fill(1e38), FloatingPointError, "loss: became"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("threads", [1, 2])
def test_bad_input_is_refused_and_changes_nothing(rng, name, threads):
    make, error, message = BAD[name]
    trainer, _ = pair(threads=threads)
    trainer.net.weights[0][:] = 1e5 if name == "too large" else trainer.net.weights[0]
    good = rng.standard_normal((16, 9)).astype("f4"), rng.integers(0, 5, 16)
    for _ in range(2):
        trainer.train_on_batch(*good)
    before = trainer.net.params.copy(), trainer.slots.copy(), trainer.steps
    bad = [part.copy() for part in good]
    make(*bad)
    for _ in range(2):
        with pytest.raises(error, match=message):
            trainer.train_on_batch(*bad)
    assert np.array_equal(trainer.net.params, before[0]) and np.array_equal(trainer.slots, before[1])
    assert trainer.steps == before[2] and np.isfinite(trainer.train_on_batch(*good))


@pytest.mark.parametrize("activation", ["relu", "hardtanh", "sigmoid"])
def test_what_an_activation_hides_is_seen(rng, activation):
    """max(NaN, 0) may be 0: the rows are looked at where they are read."""
    trainer = fb.Trainer(fb.MLP([9, 20, 2], activation, seed=0), "hinge", batch_size=16, threads=1)
    X, y = rng.standard_normal((16, 9)).astype("f4"), rng.integers(0, 2, 16)
    for _ in range(2):
        trainer.train_on_batch(X, y)
    X[7, 7] = np.inf
    with pytest.raises(ValueError, match="X: got inf at row 7, column 7"):
        trainer.train_on_batch(X, y)


@pytest.mark.parametrize("value,message", [(np.nan, "y: got nan at row 2"), (-0.5, "y: got -0.5, loss")])
def test_bad_numbers_of_targets(rng, value, message):
    trainer, _ = pair(loss="bce_with_logits")
    X, y = rng.standard_normal((16, 9)).astype("f4"), rng.uniform(size=(16, 5)).astype("f4")
    for _ in range(2):
        trainer.train_on_batch(X, y)
    y[2, 1] = value
    with pytest.raises(ValueError, match=message):
        trainer.train_on_batch(X, y)


def test_copies_go_on_by_themselves(rng):
    trainer, _ = pair()
    X, y = rng.standard_normal((16, 9)).astype("f4"), rng.integers(0, 5, 16)
    for _ in range(3):
        trainer.train_on_batch(X, y)
    others = copy.deepcopy(trainer), pickle.loads(pickle.dumps(trainer))
    trainer.train_on_batch(X, y)
    for other in others:
        assert other.steps == 3
        other.train_on_batch(X, y)
        other.train_on_batch(X, y)
    trainer.train_on_batch(X, y)
    assert all(np.array_equal(trainer.net.params, other.net.params) for other in others)


def test_a_loss_that_is_edited_counts_at_once(rng):
    both = pair(loss=fb.losses.CrossEntropy())
    X, y = rng.standard_normal((16, 9)).astype("f4"), rng.integers(0, 5, 16)
    for k in range(5):
        step(both, X, y)
        if k == 2:
            for trainer in both:
                trainer.loss.class_weight = (1.0, 5.0, 1.0, 2.0, 0.5)
