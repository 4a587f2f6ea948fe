"""Gradients of outputs: of the inputs, and of parameters from a gradient that is given; torch's autograd."""

import harness as h
import numpy as np
import pytest
from oracle import EVERYTHING, MIXED, mixed, ours, shaken
from scipy import sparse

import fastbp as fb
from fastbp import preparation
from fastbp.data import frames

LOSSES = ["mse", "cross_entropy", "bce_with_logits", "poisson_nll", "gaussian_nll"]  # a link each
CASES = {
    "plain": {},
    "layer": {"norm": "layer"},
    "batch": {"norm": "batch"},
    "residual": {"residual": True},
    "embeddings": {"embeddings": {1: (5, 3), 4: (9, 4)}},
    "from the inputs": {"embeddings": {0: (3, 15)}, "residual": True, "norm": "layer"},
    "everything": EVERYTHING,
}


def network(rng, case, outputs=4, activation=MIXED, dtype="float64"):
    net = shaken(fb.MLP([6, 20, 20, 20, outputs], activation, **CASES[case], seed=1, dtype=dtype), rng)
    for means, variances in zip(net.running_means, net.running_vars, strict=True):
        if means is not None:
            means[:], variances[:] = rng.standard_normal(20), rng.uniform(0.5, 2, 20)
    for w in net.weights:  # predictions that are neither 0 nor 1
        w *= 0.5
    return net


class Twin:
    """A network in torch, float64: its parameters as leaves, in the order of oracle.ours."""

    def __init__(self, torch, net):
        self.torch, self.net = torch, net
        views = {k: v.astype(float) for k, v in net.named_views(net.params).items()}
        self.at = {k: torch.from_numpy(v.copy()).requires_grad_() for k, v in views.items()}

    def outputs(self, x, link, loss, live):
        """x (N, inputs) a tensor; live: batch norm by the statistics of x."""
        torch, net, F = self.torch, self.net, self.torch.nn.functional
        embedded = {column: k for k, (column, _, _) in enumerate(net.embedded)}
        numeric = [c for c in range(x.shape[1]) if c not in embedded]
        tables = [self.at[f"embeddings.{k}"][x[:, c].detach().long()] for c, k in embedded.items()]
        a = torch.cat([x[:, numeric], *tables], dim=1)
        for k in range(len(net.layers)):
            z = a @ self.at[f"weights.{k}"] + self.at[f"biases.{k}"]
            if k == len(net.layers) - 1:
                return self.linked(z, loss) if link else z
            if net.norms[k]:
                gain, shift = self.at[f"gains.{k}"], self.at[f"shifts.{k}"]
            if net.norms[k] == "layer":
                z = F.layer_norm(z, z.shape[1:], gain, shift)
            elif net.norms[k] == "batch":
                running = (self.at[f"running_{n}.{k}"].detach().clone() for n in ("means", "vars"))
                z = F.batch_norm(z, *running, gain, shift, training=live)
            y = F.prelu(z, self.at[f"slopes.{k}"]) if net.activations[k] == "prelu" else self.active(k, z)
            a = y + a if net.skips[k] else y

    def active(self, k, z):
        return {"silu": self.torch.nn.functional.silu, "tanh": self.torch.tanh}[self.net.activations[k]](z)

    def linked(self, z, loss):
        torch = self.torch
        if loss == "gaussian_nll":
            mean, log_variance = z.chunk(2, dim=1)
            return torch.cat([mean, torch.clamp(log_variance, min=float(np.log(1e-6))).exp()], dim=1)
        links = {"cross_entropy": lambda z: z.softmax(1), "bce_with_logits": torch.sigmoid}
        return links.get(loss, torch.exp if loss == "poisson_nll" else lambda z: z)(z)

    def gradients(self):
        """Of the trained parameters, one after the other."""
        net, names = self.net, []
        for k in range(len(net.layers)):
            names += [f"{name}.{k}" for name in ("weights", "biases", "gains", "shifts", "slopes")]
        names += [f"embeddings.{k}" for k in range(len(net.embedded))]
        return np.concatenate([self.at[n].grad.numpy().ravel() for n in names if n in self.at])


@pytest.mark.parametrize("link", [True, False])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("case", CASES)
def test_input_gradients_are_torchs(rng, case, loss, link):
    torch = pytest.importorskip("torch")
    net = network(rng, case)
    X, g = mixed(rng, 300, 6, net.embedded, float), rng.standard_normal((300, 4))
    trainer, leaf = fb.Trainer(net, loss), torch.from_numpy(X.copy()).requires_grad_()
    outputs = Twin(torch, net).outputs(leaf, link, loss, live=False)
    found = trainer.input_gradients(X, link=link)
    numeric = [c for c in range(6) if c not in {column for column, _, _ in net.embedded}]
    assert found.shape == (300, 4, 6) and found.dtype == np.float64
    assert np.isnan(np.delete(found, numeric, axis=2)).all()
    for k in range(4):
        (exact,) = torch.autograd.grad(outputs[:, k].sum(), leaf, retain_graph=True)
        assert h.relative(found[:, k, numeric], exact.numpy()[:, numeric]) < 1e-11
        for number in (k, k - 4):
            one = trainer.input_gradients(X, number, link=link)
            assert np.array_equal(one, found[:, k], equal_nan=True)
    (exact,) = torch.autograd.grad(outputs, leaf, torch.from_numpy(g))
    assert h.relative(trainer.input_gradients(X, g, link=link)[:, numeric], exact.numpy()[:, numeric]) < 1e-11


@pytest.mark.parametrize("link", [True, False])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("case", CASES)
def test_gradients_from_are_torchs(rng, case, loss, link):
    """Of parameters: batch norm by the statistics of X, as in ``gradients``."""
    torch = pytest.importorskip("torch")
    net = network(rng, case)
    X, g = mixed(rng, 50, 6, net.embedded, float), rng.standard_normal((50, 4))
    twin = Twin(torch, net)
    twin.outputs(torch.from_numpy(X), link, loss, live=True).backward(torch.from_numpy(g))
    found = fb.Trainer(net, loss).gradients_from(X, g, link=link)
    assert h.relative(ours(net, found), twin.gradients()) < 1e-11


@pytest.mark.parametrize("seed", range(8))
def test_random_networks(rng, seed):
    """Any depth and width, narrow and wide outputs."""
    torch = pytest.importorskip("torch")
    draw = np.random.default_rng(seed)
    sizes = [int(n) for n in draw.integers(1, 70, draw.integers(2, 6))]
    net = fb.MLP(sizes, "tanh", seed=seed, dtype="float64")
    X, g = draw.standard_normal((19, sizes[0])), draw.standard_normal((19, sizes[-1]))
    trainer, twin = fb.Trainer(net, "bce_with_logits"), Twin(torch, net)
    leaf = torch.from_numpy(X).requires_grad_()
    twin.outputs(leaf, True, "bce_with_logits", live=True).backward(torch.from_numpy(g))
    assert h.relative(trainer.input_gradients(X, g), leaf.grad.numpy()) < 1e-11
    assert h.relative(ours(net, trainer.gradients_from(X, g)), twin.gradients()) < 1e-11


@pytest.mark.parametrize("loss", LOSSES)
def test_single_precision(rng, loss):
    net = network(rng, "everything", dtype="float32")
    double = fb.MLP(**{**net.config(), "dtype": "float64"}, seed=0)
    double.params[:] = 0
    for name, view in double.named_views(double.params).items():
        view[:] = net.named_views(net.params)[name]
    X, g = mixed(rng, 300, 6, net.embedded, "float32"), rng.standard_normal((300, 4)).astype("f4")
    numeric = [0, 2, 3, 5]
    exact = fb.Trainer(double, loss).input_gradients(X, g)[:, numeric]
    found = fb.Trainer(net, loss).input_gradients(X, g)
    assert found.dtype == np.float32
    assert h.relative(found[:, numeric], exact) < 1e-5


def test_bits_are_those_of_a_row(rng):
    """Whatever the number of threads, the rows around it, and what was done before."""
    net = network(rng, "everything", dtype="float32")
    X = mixed(rng, 700, 6, net.embedded, "float32")
    trainer = fb.Trainer(net, threads=1)
    found = trainer.input_gradients(X)
    trainer.evaluate(X, np.zeros(700, int)), trainer.predict(X, samples=2)
    assert np.array_equal(trainer.input_gradients(X), found, equal_nan=True)
    for threads, rows in ((2, 700), (4, 300), (2, 1)):
        again = fb.Trainer(net, threads=threads).input_gradients(X[:rows])
        assert np.array_equal(again, found[:rows], equal_nan=True)


def test_nothing_changes(rng):
    net = network(rng, "everything")
    X, before = mixed(rng, 30, 6, net.embedded, float), net.params.copy()
    trainer = fb.Trainer(net, fb.losses.CrossEntropy(), fb.SGD(0.1))
    trainer.input_gradients(X), trainer.gradients_from(X, np.ones((30, 4)))
    assert np.array_equal(net.params, before) and trainer.steps == 0
    trainer.fit(X, np.zeros(30, int))
    assert not np.array_equal(net.params, before)


def central(f, X, column, step):
    up, down = X.copy(), X.copy()
    up[:, column] += step
    down[:, column] -= step
    return (f(up) - f(down)) / (2 * step)


@pytest.mark.parametrize("loss", ["mse", "cross_entropy"])
def test_with_a_preparation_they_are_of_raw_columns_in_the_targets_unit(rng, loss):
    X = np.array([1000.0, -3.0, 1e-3]) + np.array([50.0, 2.0, 1e-4]) * rng.standard_normal((40, 3))
    y = 7e4 + 1e4 * rng.standard_normal((40, 2))
    trainer = fb.Trainer(fb.MLP([3, 9, 2], "tanh", seed=0, dtype="float64"), loss)
    trainer.preparation = preparation.Preparation.fit(X, y if loss == "mse" else None)
    found = trainer.input_gradients(X)
    for column, size in enumerate([50.0, 2.0, 1e-4]):
        exact = central(trainer.predict, X, column, 1e-5 * size)
        assert h.relative(found[:, :, column], exact) < 1e-7
    assert np.array_equal(trainer.input_gradients(X, 1), found[:, 1])
    g = rng.standard_normal((40, 2))
    np.testing.assert_allclose(trainer.input_gradients(X, g), np.einsum("nk,nki->ni", g, found), rtol=1e-9)


def test_texts_and_missing_numbers_have_none(rng):
    table = frames.Frame(
        ["size", "town", "age"],
        [rng.standard_normal(30), np.array(["a", "b", "c"] * 10), 9 + rng.standard_normal(30)],
    )
    table.columns[2][4] = np.nan
    prepared = preparation.Preparation.fit(table, rng.standard_normal((30, 1)))
    trainer = fb.Trainer(fb.MLP([prepared.inputs, 8, 1], "tanh", seed=0, dtype="float64"), "mse")
    trainer.preparation = prepared
    found = trainer.input_gradients(table, 0)
    assert found.shape == (30, 3) and np.isnan(found[:, 1]).all() and np.isfinite(found[:, 0]).all()
    assert np.isnan(found[4, 2]) and np.isfinite(np.delete(found[:, 2], 4)).all()

    def at(shift):
        columns = [table.columns[0] + shift, *table.columns[1:]]
        return trainer.predict(frames.Frame(table.names, columns))[:, 0]

    assert h.relative(found[:, 0], (at(1e-5) - at(-1e-5)) / 2e-5) < 1e-7


def test_dates_have_none_and_what_is_left_out_counts_for_nothing(rng):
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame(
        {
            "when": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, 40), unit="D"),
            "same": np.ones(40),
            "size": rng.standard_normal(40),
        }
    )
    with pytest.warns(UserWarning, match="left out"):
        prepared = preparation.Preparation.fit(table, rng.standard_normal((40, 1)))
    trainer = fb.Trainer(fb.MLP([prepared.inputs, 8, 1], "tanh", seed=0, dtype="float64"), "mse")
    trainer.preparation = prepared
    found = trainer.input_gradients(table, 0)
    assert np.isnan(found[:, 0]).all() and (found[:, 1] == 0).all()
    parts = [trainer.predict(table.assign(size=table["size"] + d))[:, 0] for d in (1e-5, -1e-5)]
    assert h.relative(found[:, 2], (parts[0] - parts[1]) / 2e-5) < 1e-6


def test_gradients_from_a_gradient_in_the_targets_unit(rng):
    """The gradient of a loss of raw predictions, by central differences in a weight."""
    X, y = 5 + rng.standard_normal((20, 3)), 100 + 30 * rng.standard_normal((20, 2))
    trainer = fb.Trainer(fb.MLP([3, 5, 2], "tanh", seed=0, dtype="float64"), "mse")
    trainer.preparation = preparation.Preparation.fit(X, y)

    def loss():
        return float((trainer.predict(X) ** 3).sum())

    found = trainer.gradients_from(X, 3 * trainer.predict(X) ** 2)
    weight = trainer.net.weights[0]
    for place in ((0, 0), (2, 4)):
        kept = weight[place]
        weight[place] = kept + 1e-6
        up = loss()
        weight[place] = kept - 1e-6
        assert found[0][0][place] == pytest.approx((up - loss()) / 2e-6, rel=1e-6)
        weight[place] = kept


def test_the_average_of_the_weights(rng):
    X, y = rng.standard_normal((40, 3)), rng.integers(0, 2, 40)
    trainer = fb.Trainer(fb.MLP([3, 8, 2], seed=0, dtype="float64"), ema=0.9)
    trainer.fit(X, y, epochs=3)
    average, last = fb.Trainer(trainer.averaged_net()), fb.Trainer(trainer.net)
    assert np.array_equal(trainer.input_gradients(X), average.input_gradients(X))
    assert np.array_equal(trainer.input_gradients(X, ema=False), last.input_gradients(X))


def test_sparse_rows_and_integers(rng):
    X = rng.integers(0, 3, (50, 7))
    trainer = fb.Trainer(fb.MLP([7, 9, 2], "tanh", seed=0))
    found = trainer.input_gradients(X)
    assert np.array_equal(trainer.input_gradients(sparse.csr_matrix(X.astype("f4"))), found)
    assert np.array_equal(trainer.input_gradients(X.astype("f8")), found)


def test_a_step_of_policy_gradients(rng):
    """A loss of z * t takes gradients as targets: a step of training by a gradient that is given."""
    given = fb.loss(lambda z, t: z * t, name="given")
    net = fb.MLP([4, 8, 3], "tanh", seed=0, dtype="float64")
    X, g = rng.standard_normal((16, 4)), rng.standard_normal((16, 3))
    before, trainer = net.weights[0].copy(), fb.Trainer(net, given, fb.SGD(0.5))
    exact = trainer.gradients_from(X, g)[0][0] / (16 * 3)  # a mean over samples and outputs
    trainer.train_on_batch(X, g)
    assert h.relative(before - net.weights[0], 0.5 * exact) < 1e-12


@pytest.mark.parametrize(
    "call,kind,match",
    [
        (lambda t, X: t.input_gradients(X, 3), IndexError, "output: got 3, takes the number .* 0 to 2"),
        (lambda t, X: t.input_gradients(X, np.ones((5, 2))), ValueError, r"output: got shape \(5, 2\),"),
        (lambda t, X: t.input_gradients(X, np.full((5, 3), np.nan)), ValueError, "output: got nan at row 0"),
        (lambda t, X: t.input_gradients(X, 0.5), ValueError, "output: got shape"),
        (lambda t, X: t.input_gradients(X, "first"), TypeError, "output: got dtype"),
        (lambda t, X: t.input_gradients(X[:, :3]), ValueError, "X: got 3 columns, takes 4"),
        (lambda t, X: t.input_gradients(X * np.nan), ValueError, "X: got nan at row 0"),
        (lambda t, X: t.gradients_from(X, np.ones((5, 2))), ValueError, r"takes \(5, 3\)"),
        (lambda t, X: t.gradients_from(X, np.ones(5)), ValueError, r"output_gradient: got shape \(5,\)"),
        (lambda t, X: t.input_gradients(X, ema=True), ValueError, "ema"),
    ],
)  # fmt: skip
def test_what_is_refused(call, kind, match):
    with pytest.raises(kind, match=match):
        call(fb.Trainer(fb.MLP([4, 5, 3], seed=0)), np.ones((5, 4)))
