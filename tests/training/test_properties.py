"""What holds for any network, data and options: hypothesis draws them, float64 NumPy says what is right.

The long form: pytest tests/training/test_properties.py --hypothesis-profile=long

Bounds: the exact result is worked out again with all parameters and inputs changed by one rounding error. How
far that moves it is how well the problem is posed; ours may be TIMES as far away.
"""

import copy
import functools
import tempfile

import numpy as np
import pytest
from cases import LAYOUTS, case, exact_gradients, known, laid_out, near_a_kink, nudged
from draw import constants, exact_link
from follow import Follower
from oracle import Oracle, flat, ours, trained

import fastbp as fb
from fastbp.kernels import reference as ref

hypothesis = pytest.importorskip("hypothesis", reason="hypothesis comes with the extra: pip install '.[test]'")
given, assume, event = hypothesis.given, hypothesis.assume, hypothesis.event
st = hypothesis.strategies
EPS = {"float32": 2.0**-23, "float64": 2.0**-52}
TIMES = 200
chances = st.randoms(use_true_random=False)


def close(got, exact, moved, dtype, terms=1.0):
    """got is the exact result, to TIMES what moves it when its parameters and inputs are rounded."""
    got, exact = np.asarray(got, float), np.asarray(exact, float)
    assert got.shape == exact.shape
    spread = max(np.linalg.norm(np.asarray(m, float) - exact) for m in moved)
    bound = TIMES * (spread + EPS[dtype] * (np.linalg.norm(exact) + terms))
    error = np.linalg.norm(got - exact)
    assert error <= bound, f"off by {error:.3g}, of {np.linalg.norm(exact):.3g}; bound {bound:.3g}"


def rounded(net, X, seed=0):
    """Three (oracle, X) with one rounding error in every number."""
    rng = np.random.default_rng(seed)
    return [nudged(net, X, EPS[net.dtype.name], rng) for _ in range(3)]


def drawn(chance, **limits):
    """A Case, which is shown where a test fails."""
    c = case(chance, **limits)
    hypothesis.note(repr(c))
    return c


def reach(c):
    return 3e-5 if c.options["dtype"] == "float32" else 1e-9


# --- right values


@given(chances)
def test_predictions_are_the_float64_ones(chance):
    c = drawn(chance)
    net, t, X = c.net(), c.trainer(threads=chance.choice([1, 2, 3])), c.X.astype(float)
    link = functools.partial(exact_link, c.variant, c.loss)
    around = rounded(net, X)
    z, exact = t.forward(c.X), Oracle(net).outputs(X)
    assert z.dtype == net.dtype
    close(z, exact, [o.outputs(x) for o, x in around], net.dtype.name)
    close(t.predict(c.X), link(exact), [link(o.outputs(x)) for o, x in around], net.dtype.name)


@given(chances)
def test_evaluations_are_the_float64_ones(chance):
    c = drawn(chance)
    net, t, X = c.net(), c.trainer(threads=chance.choice([1, 2, 3])), c.X.astype(float)
    y, weight = known(c)

    def loss(oracle, x):
        return ref.loss_and_delta(c.loss.name, oracle.outputs(x), y, weight, **constants(c.loss))[0]

    found = t.evaluate(c.X, c.y, c.weight)
    close(found["loss"], loss(Oracle(net), X), [loss(*pair) for pair in rounded(net, X)], net.dtype.name)
    if "accuracy" in found and y.ndim == 1:
        right = np.argmax(t.forward(c.X), axis=1) == y
        assert found["accuracy"] == pytest.approx(right.mean())


@given(chances)
def test_gradients_are_the_float64_ones(chance):
    c = drawn(chance)
    net, t = c.net(), c.trainer(threads=chance.choice([1, 2, 3]))
    assume("batch" not in net.norms or len(c.X) > 1)
    assume(not near_a_kink(net, c, reach(c)))
    value, found = t.gradients(c.X, c.y, c.weight)
    exact_value, exact = exact_gradients(Oracle(net), c, c.X.astype(float))
    around = [exact_gradients(o, c, x) for o, x in rounded(net, c.X.astype(float))]
    close(value, exact_value, [v for v, _ in around], net.dtype.name)
    close(ours(net, found), flat(exact), [flat(g) for _, g in around], net.dtype.name)


@given(chances)
def test_backwards_from_a_gradient_at_the_outputs(chance):
    """Of parameters, and of inputs: the reference's squared loss has any gradient that one wants."""
    c = drawn(chance)
    net, t, X = c.net(), c.trainer(), c.X.astype(float)
    assume(not near_a_kink(net, c, reach(c)))
    g = np.random.default_rng(c.seed).standard_normal((len(X), c.sizes[-1]))

    def backwards(oracle, x, live):
        statistics = None if live else oracle.statistics
        z = (oracle.layers(x, 0, 0) if live else oracle.inferred(x))[-1]["a"]
        first = ref.embed(x, oracle.tables) if oracle.tables else x
        _, grads, dx = ref.layers_gradients(
            oracle.params, first, z - g * z.size / 2, oracle.activations, "mse", oracle.norms, oracle.skips,
            [1] * len(oracle.widths), statistics=statistics,
        )  # fmt: skip
        tables = ref.embed_gradients(x, oracle.tables, dx) if oracle.tables else {}
        return flat([*(a for k in grads for a in k), *(tables[k] for k in sorted(tables))]), dx

    oracles = [(Oracle(net), X), *rounded(net, X)]
    if "batch" not in net.norms or len(X) > 1:
        exact, *around = [backwards(o, x, True)[0] for o, x in oracles]
        found = ours(net, t.gradients_from(c.X, g, link=False))
        close(found, exact, around, net.dtype.name)
    numeric = [k for k in range(c.sizes[0]) if k not in c.options.get("embeddings", {})]
    exact, *around = [backwards(o, x, False)[1][:, : len(numeric)] for o, x in oracles]
    found = t.input_gradients(c.X, g, link=False)
    close(found[:, numeric], exact, around, net.dtype.name)
    assert np.isnan(np.delete(found, numeric, axis=1)).all()


@given(chances)
def test_a_fit_goes_the_float64_way(chance):
    """Some epochs: weights, running statistics, average, the history's loss, what evaluate says then."""
    c = drawn(chance, rows=40)
    t, epochs = c.trainer(threads=chance.choice([1, 2, 3])), chance.choice([1, 2])
    net, X = t.net, c.X.astype(float)
    start = copy.deepcopy(net)
    ways = [Follower(c, oracle) for oracle, _ in [(Oracle(start), X), *rounded(start, X)]]
    for _ in range(epochs):
        assume(not near_a_kink(start, c, reach(c)))
    losses = [[way.epoch(X) for _ in range(epochs)] for way in ways]
    assume(all(np.isfinite(losses[0])))
    found = t.fit(c.X, c.y, epochs, sample_weight=c.weight, shuffle=False, verbose=0).history["loss"]
    exact, *around = [flat(way.oracle.arrays()) for way in ways]
    roundings = t.steps * np.linalg.norm(exact)
    close(trained(net), exact, around, net.dtype.name, roundings)
    close(found, losses[0], losses[1:], net.dtype.name)
    for k, pair in enumerate(ways[0].oracle.statistics):
        if pair is not None:
            got = np.array([net.running_means[k], net.running_vars[k]])
            close(got, pair, [way.oracle.statistics[k] for way in ways[1:]], net.dtype.name)
    if c.training.get("ema"):
        exact, *around = [flat(way.average) for way in ways]
        close(trained(t.averaged_net()), exact, around, net.dtype.name, roundings)


# --- the same bits


def state(t):
    """All that a fit changes."""
    if t.ema is not None:
        t.averaged_net()  # the average has the running statistics from here on
    return [t.net.params.tobytes(), t.slots.tobytes(), t.steps, t.epochs, t.lr_scale]


def numbers(history):
    return {name: values for name, values in history.history.items() if name != "seconds"}


SCHEDULES = [None, fb.schedules.Step(1), fb.schedules.Exponential(), fb.schedules.InverseScaling(), "plateau"]


@given(chances)
def test_two_epochs_are_one_and_one(chance):
    """And a model that was saved and loaded in between goes on alike."""
    c = drawn(chance)
    schedule = chance.choice(SCHEDULES)
    whole, parts = c.trainer(schedule=schedule), c.trainer(schedule=schedule)
    fit = dict(sample_weight=c.weight, verbose=0)
    whole_history = numbers(whole.fit(c.X, c.y, 3, **fit))
    first = numbers(parts.fit(c.X, c.y, 1, **fit))
    with tempfile.TemporaryDirectory() as folder:
        parts.save(f"{folder}/m.safetensors")
        loaded = fb.load(f"{folder}/m.safetensors", threads=chance.choice([1, 2, 3]))
    assert np.array_equal(loaded.predict(c.X), parts.predict(c.X))
    for t in (parts, copy.deepcopy(parts), loaded):
        more = numbers(t.fit(c.X, c.y, 2, **fit))
        assert {name: first[name] + more[name] for name in first} == whole_history
        assert state(t) == state(whole)


@given(chances)
def test_threads_change_no_bit(chance):
    c, found = drawn(chance, rows=150), []
    for threads in (1, 2, 3):
        t = c.trainer(threads=threads)
        history = t.fit(c.X, c.y, 2, sample_weight=c.weight, validation_data=(c.X, c.y, c.weight), verbose=0)
        found.append((state(t), numbers(history), t.predict(c.X).tobytes(), t.evaluate(c.X, c.y, c.weight)))
        if "batch" not in t.net.norms or len(c.X) > 1:
            found[-1] += (ours(t.net, t.gradients(c.X, c.y, c.weight)[1]).tobytes(),)
    assert found[0] == found[1] == found[2]


@given(chances, st.sampled_from(LAYOUTS), st.sampled_from(LAYOUTS))
def test_layouts_change_no_bit(chance, layout, other):
    """Of X, y and weights: orders, strides, lists, files, frames."""
    c, found = drawn(chance), []
    assume(c.X.dtype != np.float16 or layout not in ("polars",))  # it has no such numbers
    with tempfile.TemporaryDirectory() as folder:
        for kind, kind_of_y in (("C", "C"), (layout, other)):
            t, X = c.trainer(), laid_out(c.X, kind, folder)
            y = laid_out(c.y, kind_of_y if c.y.ndim == 2 or kind_of_y not in ("pandas", "polars") else "C", folder)
            weight = c.weight
            if weight is not None:
                weight = laid_out(weight, other if other not in ("pandas", "polars") and kind != "C" else "C", folder)
            history = t.fit(X, y, 2, sample_weight=weight, verbose=0)
            values = [t.predict(X), t.forward(X), t.input_gradients(X, 0)]
            found.append((state(t), numbers(history), [v.tobytes() for v in values], t.evaluate(X, y, weight)))
            del X, y, weight
    assert found[0] == found[1]


@given(chances)
def test_a_row_is_predicted_as_it_is_alone(chance):
    c = drawn(chance)
    t = c.trainer(threads=chance.choice([1, 2, 3]))
    whole = t.predict(c.X), t.forward(c.X), t.input_gradients(c.X, 0)
    rows = np.random.default_rng(c.seed).integers(0, len(c.X), chance.choice([1, 2, 5, 17, 300]))
    some = t.predict(c.X[rows]), t.forward(c.X[rows]), t.input_gradients(c.X[rows], 0)
    for all_of_them, few in zip(whole, some, strict=True):
        assert np.array_equal(all_of_them[rows], few, equal_nan=True)


@given(chances)
def test_all_ways_to_train_are_one(chance):
    """fit, a stream, partial_fit, train_on_batch and fit_many: the same steps, the same bits."""
    c = drawn(chance)
    ways = [c.trainer() for _ in range(5)]
    starts = range(0, len(c.X), c.batch)

    def batches():
        for k in starts:
            weight = None if c.weight is None else c.weight[k : k + c.batch]
            yield c.X[k : k + c.batch], c.y[k : k + c.batch], weight

    fit = dict(shuffle=False, sample_weight=c.weight, verbose=0)
    ways[0].fit(c.X, c.y, 2, **fit)
    fb.fit_many([ways[1]], c.X, c.y, epochs=2, **fit)
    assert state(ways[0])[:3] == state(ways[1])[:3]
    if c.training.get("accumulate", 1) == 1:  # else an update is of more than one item
        ways[2].fit(batches, epochs=2, verbose=0)
        assert state(ways[0])[:3] == state(ways[2])[:3]
        for _ in range(2):
            ways[3].partial_fit(c.X, c.y, c.weight)
            for batch in batches():
                ways[4].train_on_batch(*batch)
        assert state(ways[0])[:3] == state(ways[3])[:3] == state(ways[4])[:3]


@given(chances)
def test_fit_many_is_fit(chance):
    """Of several networks, on rows of their own."""
    first = drawn(chance, rows=100)
    rng = np.random.default_rng(first.seed)
    X, y = first.X, first.y
    many, alone, rows = [], [], []
    for k in range(chance.choice([1, 2, 4])):
        c = copy.copy(first)
        c.seed, c.batch = first.seed + k, first.batch + k * ("batch" not in str(first.options.get("norm")))
        many.append(c.trainer(threads=None)), alone.append(c.trainer())
        rows.append(rng.permutation(len(X)) if k else np.arange(len(X)))
    fit = dict(epochs=2, verbose=0)
    histories = fb.fit_many(many, X, y, rows=rows, sample_weight=first.weight, **fit)
    for a, b, taken, history in zip(many, alone, rows, histories, strict=True):
        weight = None if first.weight is None else first.weight[taken]
        wanted = b.fit(X[taken], y[taken], sample_weight=weight, **fit)
        assert state(a) == state(b) and numbers(history) == numbers(wanted)


# --- rows that count for nothing


@given(chances)
def test_a_weight_of_0_leaves_a_row_out(chance):
    """Of the loss and its gradients; batch norm's statistics see the row."""
    c = drawn(chance)
    assume("batch" not in str(c.options.get("norm")) and not c.loss.ignore_nan)
    t, rng = c.trainer(), np.random.default_rng(c.seed)
    assume(not near_a_kink(t.net, c, reach(c)))
    extra = rng.integers(0, len(c.X), 9)
    weight = np.ones(len(c.X)) if c.weight is None else c.weight
    order = rng.permutation(len(c.X) + 9)
    X, y = np.concatenate([c.X, c.X[extra]])[order], np.concatenate([c.y, c.y[extra]])[order]
    more = np.concatenate([weight, np.zeros((9, *weight.shape[1:]))])[order]
    dtype, X0 = c.options["dtype"], c.X.astype(float)
    value, exact = exact_gradients(Oracle(t.net), c, X0)
    around = [exact_gradients(o, c, x) for o, x in rounded(t.net, X0)]
    found, gradients = t.gradients(X, y, more)
    close(found, value, [v for v, _ in around], dtype)
    close(ours(t.net, gradients), flat(exact), [flat(g) for _, g in around], dtype)
    close(t.evaluate(X, y, more)["loss"], value, [v for v, _ in around], dtype)
