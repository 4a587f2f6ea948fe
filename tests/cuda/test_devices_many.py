"""fit_many on every device: the bits of each network alone. As test_devices.py, also run in the simulator."""

import numpy as np
import pytest

import fastbp as fb


def mixture(device):
    """Few and small: a simulated thread takes 150 us."""
    nets = [
        fb.MLP([3, 4, 2], seed=1),
        fb.MLP([3, 5, 2], "tanh", dropout=0.3, seed=2),
        fb.MLP([3, 2], seed=3, dtype="float64"),
    ]
    options = [{}, {"optimizer": "sgd", "clip_norm": 0.1}, {"optimizer": fb.Adam(0.1), "batch_size": 5}]
    return [
        fb.Trainer(net, seed=k, device=device, **{"batch_size": 4, **o})
        for k, (net, o) in enumerate(zip(nets, options, strict=True))
    ]


@pytest.fixture
def data(rng):
    X = rng.standard_normal((11, 3)).astype("f4")
    return X, (X[:, 0] > 0).astype(int)


def alike(many, alone):
    for i, (a, b) in enumerate(zip(many, alone, strict=True)):
        assert np.array_equal(a.net.params, b.net.params) and np.array_equal(a.slots, b.slots), i
        assert (a.steps, a.epochs) == (b.steps, b.epochs)
        parts = [{k: v for k, v in t.history.history.items() if k != "seconds"} for t in (a, b)]
        assert parts[0] == parts[1] and a.history.stopped == b.history.stopped


@pytest.mark.parametrize("rows", [None, [slice(0, 8), np.arange(11) % 2 == 0, [3, 3, 9, 1, 0]]])
def test_bits_of_a_mixture(data, device, rows):
    X, y = data
    many, alone = mixture(device), mixture(device)
    held = {"validation_data": (X, y), "metrics": ["f1"], "early_stopping": 1}
    histories = fb.fit_many(many, X, y, rows=rows, epochs=2, **held)
    for k, trainer in enumerate(alone):
        part = slice(None) if rows is None else rows[k]
        trainer.fit(X[part], y[part], 2, verbose=0, **held)
    assert [h.epochs for h in histories] == [2, 2, 2]
    alike(many, alone)


def test_a_network_that_diverges_does_not_stop_the_others(data, device):
    X, y = data
    many, alone = mixture(device), mixture(device)
    many[0].net.weights[0][:] = np.float32(3e38)
    histories = fb.fit_many(many, X, y, epochs=1)
    assert isinstance(histories[0].error, FloatingPointError)
    for trainer in alone[1:]:
        trainer.fit(X, y, verbose=0)
    alike(many[1:], alone[1:])
