"""Activations and losses of the user's own: what is read off the function, compiled, cached, refused."""

import json
import math
import subprocess
import sys

import draw
import harness as h
import numpy as np
import pytest
from numba import njit
from numba.core import event

import fastbp as fb
from fastbp.custom import functions
from fastbp.kernels import codes
from fastbp.network import activations

m = fb.math


@njit
def _helper(z):
    return 1 / (1 + math.exp(-z))


@njit
def jitted_silu(z):
    return z * _helper(z)


def branches(z):
    if z > 2:
        return 2 + 0.1 * z
    if -1 < z <= 0.5:
        return z * z
    return max(z, -3.0) * 0.5


def loop(z):
    total, power = 0.0, 1.0
    for k in range(1, 8):
        power = power * z / k
        total += power
    return total


def scale_of(factor):
    return lambda z: np.tanh(factor * z) / factor


# scalar functions that Python itself can evaluate too
PLAIN = {
    "jitted": jitted_silu,
    "branches": branches,
    "loop": loop,
    "closure": scale_of(0.7),
    "powers": lambda z: z**3 - (z * z + 1) ** -2 + abs(z) ** 1.5 + 2**z + (z * z + 1) ** 0.5,
    "exp": lambda z: math.exp(-z * z) + np.expm1(z),
    "logs": lambda z: math.log(z * z + 0.5) + np.log1p(z * z),
    "hyperbolic": lambda z: math.sinh(z) / math.cosh(z) + math.tanh(z),
    "circles": lambda z: math.sin(2 * z) * math.cos(z) + math.pi,
    "erf": lambda z: 0.5 * z * (1 + math.erf(z / math.sqrt(2))),
    "ours": lambda z: m.softplus(z) - m.sigmoid(z) + m.sign(z) * m.square(z),
    "where": lambda z: np.where(z > 0, z, 0.1 * np.sin(z)) + np.maximum(z, 1.0) - np.minimum(z, -1.0),
    "and or": lambda z: z if (z > 1 or z < -1) and z != 3 else -z,
    "constant": lambda z: 1.5,
}


@pytest.mark.parametrize("name", PLAIN)
def test_value_and_slope(rng, name):
    """Of the traced function against Python's own evaluation and its central differences."""
    f = PLAIN[name]
    text = functions.definition(functions._register("activation", f, None, "f", 1, True)[1])
    z = rng.uniform(-4, 4, 200)
    corners = [-3, -1, 0, 0.5, 1, 2, 3]
    z = z[np.abs(z[:, None] - corners).min(axis=1) > 1e-3]
    value, slope = functions.evaluate(text, z)
    exact = np.array([float(f(x)) for x in z])
    np.testing.assert_allclose(value, exact, rtol=1e-12, atol=1e-13)
    differences = np.array([(float(f(x + 1e-6)) - float(f(x - 1e-6))) / 2e-6 for x in z])
    np.testing.assert_allclose(slope, differences, rtol=2e-5, atol=2e-7)


@pytest.mark.parametrize("dtype", h.DTYPES)
@pytest.mark.parametrize("name", PLAIN)
def test_compiled_against_numpy(rng, name, dtype):
    """Values and slopes as the program computes them, through a network of one layer of each."""
    full = fb.activation(PLAIN[name], name=name.replace(" ", "_"))
    text = functions.definition(activations.USERS[full])
    net = fb.MLP([1, 1, 1], full, seed=0, dtype=dtype)
    net.weights[0][:], net.biases[0][:], net.weights[1][:], net.biases[1][:] = 1, 0, 1, 0
    X = rng.uniform(-4, 4, (500, 1)).astype(dtype)
    X = X[np.abs(X - [-3, -1, 0, 0.5, 1, 2, 3]).min(axis=1) > 1e-3]
    value, slope = functions.evaluate(text, X.astype(float))
    trainer = fb.Trainer(net, "mse")
    assert h.relative(trainer.forward(X), value) < 4 * h.TOLERANCE[dtype]
    y = trainer.forward(X) - rng.standard_normal(X.shape)
    weight = 2 * (trainer.forward(X).astype(float) - y) / len(X)
    _, [(dw, db), _] = trainer.gradients(X, y)
    terms = weight * slope
    assert abs(db[0] - terms.sum()) <= 4 * h.TOLERANCE[dtype] * np.abs(terms).sum()
    assert abs(dw[0, 0] - (X * terms).sum()) <= 4 * h.TOLERANCE[dtype] * np.abs(X * terms).sum()


TWINS = {
    "silu": jitted_silu,
    "relu": lambda z: max(z, 0),
    "gelu": PLAIN["erf"],
    "mish": lambda z: z * m.tanh(m.softplus(z)),
    "sin": np.sin,
}


@pytest.mark.parametrize("dtype", h.DTYPES)
@pytest.mark.parametrize("name", TWINS)
def test_twins_of_built_in_activations(rng, name, dtype):
    mine = fb.activation(TWINS[name], name=f"my_{name}")
    X, y = rng.standard_normal((70, 5)).astype(dtype), rng.integers(0, 3, 70)
    both = []
    for activation in (name, mine):
        net = fb.MLP([5, 33, 9, 3], activation, seed=1, dtype=dtype, initializer="he_uniform")
        loss, grads = fb.Trainer(net).gradients(X, y)
        both.append((loss, np.concatenate([a.ravel() for pair in grads for a in pair])))
    assert both[0][0] == pytest.approx(both[1][0], rel=10 * h.TOLERANCE[dtype])
    assert h.relative(both[1][1], both[0][1]) < 10 * h.TOLERANCE[dtype]


LOSS_TWINS = {
    "mse": lambda z, t: (z - t) ** 2,
    "mae": lambda z, t: abs(z - t),
    "huber": lambda z, t: 0.5 * (z - t) ** 2 if abs(z - t) <= 1 else abs(z - t) - 0.5,
    "log_cosh": lambda z, t: math.log(math.cosh(z - t)),
    "poisson_nll": lambda z, t: m.exp(z) - t * z,
    "bce_with_logits": lambda z, t: m.softplus(z) - z * t,
}


@pytest.mark.parametrize("outputs", [3, 50])
@pytest.mark.parametrize("dtype", h.DTYPES)
@pytest.mark.parametrize("name", LOSS_TWINS)
def test_twins_of_built_in_losses(rng, name, dtype, outputs, tmp_path):
    link = {"poisson_nll": "exp", "bce_with_logits": "sigmoid"}.get(name, "identity")
    mine = fb.loss(LOSS_TWINS[name], name=f"my_{name}", link=link)
    X, y = rng.standard_normal((40, 5)).astype(dtype), draw.targets(rng, name, 40, outputs)
    weight, both = rng.uniform(0, 1, 40) * (np.arange(40) % 4 > 0), []
    for loss in (name, mine):
        net = fb.MLP([5, 8, outputs], "tanh", seed=1, dtype=dtype)
        trainer = fb.Trainer(net, loss)
        value, grads = trainer.gradients(X, y, weight)
        both.append((value, np.concatenate([a.ravel() for pair in grads for a in pair]), trainer.predict(X)))
    assert both[0][0] == pytest.approx(both[1][0], rel=10 * h.TOLERANCE[dtype])
    for a, b in zip(both[0][1:], both[1][1:], strict=True):
        assert h.relative(b, a) < 10 * h.TOLERANCE[dtype]
    trainer.fit(X, y, epochs=2)
    trainer.save(tmp_path / "m.safetensors")
    loaded = fb.load(tmp_path / "m.safetensors")
    assert loaded.loss is mine and np.array_equal(loaded.predict(X), trainer.predict(X))


def test_a_given_derivative_is_checked():
    f = lambda z: z * z * z  # noqa: E731
    assert fb.activation(f, lambda z: 3 * z * z, name="cube").startswith("cube#")
    with pytest.raises(
        ValueError, match=r"activation 'cube': got a derivative that is .* takes the function's"
    ):
        fb.activation(f, lambda z: 2 * z * z, name="cube")
    straight = fb.activation(m.sign, lambda z: 1.0, name="straight", check=False)
    net = fb.MLP([3, 4, 1], straight, seed=0, dtype="float64")
    X, y = np.ones((2, 3)), np.array([5.0, 5.0])
    _, [(dw, _), _] = fb.Trainer(net, "mse").gradients(X, y)
    out = fb.Trainer(net, "mse").forward(X)
    assert np.allclose(dw, np.ones((3, 1)) * (2 * (out[0] - 5) * net.weights[1][:, 0]))


def test_names_and_files(rng, tmp_path):
    first = fb.activation(lambda z: z / (1 + abs(z)), name="rational")
    net = fb.MLP([3, 4, 2], "rational", seed=0)
    assert net.activations == [first]
    trainer = fb.Trainer(net)
    trainer.save(tmp_path / "m.safetensors")
    second = fb.activation(lambda z: z / (2 + abs(z)), name="rational")  # the old networks keep theirs
    assert second != first and fb.MLP([3, 4, 2], "rational").activations == [second]
    X = rng.standard_normal((5, 3))
    assert np.array_equal(fb.load(tmp_path / "m.safetensors").predict(X), trainer.predict(X))
    activations.USERS.pop(first)
    with pytest.raises(ValueError, match="an activation of your own that is not here"):
        fb.load(tmp_path / "m.safetensors")


def data_dependent(z):
    while z > 0:
        z = z - 1
    return z


@pytest.mark.parametrize(
    "make,error,match",
    [
        (lambda: fb.activation(3), TypeError, "activation: got 3, takes a function of 1 scalar"),
        (lambda: fb.activation(math.gamma), TypeError, "activation 'gamma': a traced number is no float"),
        (lambda: fb.activation(lambda z: math.gamma(z)), TypeError, r"math.gamma in a traced function"),
        (lambda: fb.activation(lambda z: np.arctan(z)), TypeError, r"np.arctan in a traced function"),
        (lambda: fb.activation(lambda z: float(z)), TypeError, "a traced number is no float"),
        (lambda: fb.activation(data_dependent), ValueError, "more than 256 conditions"),
        (lambda: fb.activation(lambda z: math.log(z), name="l"), ValueError, "activation 'l': is -inf with"),
        (lambda: fb.activation(lambda z: "x"), TypeError, "got str in a traced function"),
        (lambda: fb.loss(lambda z: z), TypeError, "Takes a function of 2 scalar"),
        (lambda: fb.loss(lambda z, t: z - t, link="logit"), ValueError, "loss link: got 'logit'"),
        (lambda: fb.MLP([1, 2, 1], "rationale"), ValueError, "activation: got 'rationale'"),
    ],
)
def test_what_is_refused(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_only_the_function_itself_compiles(rng):
    names = []

    class Listener(event.Listener):
        def on_start(self, event):
            names.append(event.data["dispatcher"].py_func.__name__)

        def on_end(self, event):
            pass

    X, y = rng.standard_normal((20, 4)).astype("float32"), rng.integers(0, 2, 20)
    fb.Trainer(fb.MLP([4, 6, 2], seed=0)).fit(X, y)
    listener = Listener()
    event.register("numba:compile", listener)
    try:
        shift = float(rng.uniform())  # a new function in every run
        mine = fb.activation(lambda z: z * m.exp(-z * z - shift), name="fresh")
        fb.Trainer(fb.MLP([4, 6, 2], mine, seed=0)).fit(X, y)
        fb.Trainer(fb.MLP([4, 7, 5, 2], mine, seed=0), threads=2).fit(X, y)
    finally:
        event.unregister("numba:compile", listener)
    assert len(names) == 1 and names[0].startswith("user_")


PROBE = """
import json, sys
from numba.core import event
names, shift = [], float(sys.argv[1])

class Listener(event.Listener):
    def on_start(self, event): names.append(event.data["dispatcher"].py_func.__name__)
    def on_end(self, event): pass
event.register("numba:compile", Listener())
import numpy as np, fastbp as fb
mine = fb.activation(lambda z: z / (1 + z * z + shift), name="witch")
loss = fb.loss(lambda z, t: (z - t) ** 4 * shift)
net = fb.MLP([3, 4, 2], mine, seed=0)
X = np.random.default_rng(0).standard_normal((20, 3))
fb.Trainer(net, loss, seed=0).fit(X, X[:, :2], epochs=2)
print(json.dumps([names, net.params.tolist()]))
"""


def test_the_next_process_takes_it_from_the_disk(rng):
    results, shift = [], str(rng.uniform())  # new functions in every run of the tests
    h.load("float32")
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", PROBE, shift], capture_output=True, text=True, timeout=280
        )
        assert done.returncode == 0, done.stderr
        results.append(json.loads(done.stdout))
    (first, bits), (second, same) = results
    assert len(first) == 2 and all(n.startswith("user_") for n in first)
    assert second == [] and bits == same


def test_codes_leave_room():
    """Built-in codes stay below the user's, addresses above them."""
    assert max(*codes.ACTIVATIONS.values(), *codes.LOSSES.values()) < codes.USER
