"""What holds for any network, data and options: hypothesis draws them, float64 NumPy says what is right.

The long form: pytest tests/training/test_properties.py --hypothesis-profile=long

Right is what is as near to float64 as rounding allows; see Exact in cases.py.
"""

import copy
import tempfile

import numpy as np
import pytest
from cases import FRAMES, LAYOUTS, case, exact, exact_gradients, known, laid_out, near_a_kink
from draw import constants, exact_link
from follow import Follower
from oracle import Oracle, flat, ours, trained

import fastbp as fb
from fastbp.kernels import reference as ref

hypothesis = pytest.importorskip(
    "hypothesis", reason="hypothesis comes with the extra: pip install '.[test]'"
)
given, assume = hypothesis.given, hypothesis.assume
st = hypothesis.strategies
chances = st.randoms(use_true_random=False)


def drawn(chance, **limits):
    """A Case, which is shown where a test fails."""
    c = case(chance, **limits)
    hypothesis.note(repr(c))
    return c


def away_from_kinks(c):
    """Where rounding takes no number over a kink, from one slope to another."""
    oracle = Oracle(c.net())
    for layers in (oracle.layers(c.X, 0, 0), oracle.inferred(c.X)):
        assume(not near_a_kink(c, layers))


# --- right values


@given(chances)
def test_predictions_are_the_float64_ones(chance):
    c = drawn(chance)
    t = c.trainer(threads=chance.choice([1, 2, 3]))

    def outputs(oracle, X):
        z = oracle.outputs(X)
        return z, exact_link(c.variant, c.loss, z)

    found = t.forward(c.X), t.predict(c.X)
    assert found[0].dtype == found[1].dtype == c.options["dtype"]
    exact(t.net, c.X, outputs).check(*found)


@given(chances)
def test_evaluations_are_the_float64_ones(chance):
    c = drawn(chance)
    t = c.trainer(threads=chance.choice([1, 2, 3]))
    y, weight = known(c)

    def loss(oracle, X):
        return ref.loss_and_delta(c.loss.name, oracle.outputs(X), y, weight, **constants(c.loss))[:1]

    found = t.evaluate(c.X, c.y, c.weight)
    exact(t.net, c.X, loss).check(found["loss"])
    if "accuracy" in found and y.ndim == 1:
        right = np.argmax(t.forward(c.X), axis=1) == y
        assert found["accuracy"] == pytest.approx(right.mean())


@given(chances)
def test_gradients_are_the_float64_ones(chance):
    c = drawn(chance)
    t = c.trainer(threads=chance.choice([1, 2, 3]))
    away_from_kinks(c)
    value, found = t.gradients(c.X, c.y, c.weight)
    wanted = exact(t.net, c.X, lambda oracle, X: _gradients(oracle, c, X))
    wanted.check(value, ours(t.net, found))


def _gradients(oracle, c, X):
    value, gradients = exact_gradients(oracle, c, X)
    return value, flat(gradients)


@given(chances)
def test_backwards_from_a_gradient_at_the_outputs(chance):
    """Of parameters, and of inputs: the reference's squared loss has any gradient that one wants."""
    c = drawn(chance)
    t = c.trainer()
    away_from_kinks(c)
    g = np.random.default_rng(c.seed).standard_normal((len(c.X), c.sizes[-1]))
    numeric = [k for k in range(c.sizes[0]) if k not in c.options.get("embeddings", {})]

    def backwards(oracle, X, live):
        statistics = None if live else oracle.statistics
        z = (oracle.layers(X, 0, 0) if live else oracle.inferred(X))[-1]["a"]
        first = ref.embed(X, oracle.tables) if oracle.tables else X
        _, grads, dx = ref.layers_gradients(
            oracle.params, first, z.astype(float) - g * z.size / 2, oracle.activations, "mse", oracle.norms,
            oracle.skips, [1] * len(oracle.widths), statistics=statistics,
        )  # fmt: skip
        tables = ref.embed_gradients(X, oracle.tables, dx) if oracle.tables else {}
        return flat([*(a for k in grads for a in k), *(tables[k] for k in sorted(tables))]), dx

    wanted = exact(t.net, c.X, lambda oracle, X: backwards(oracle, X, True)[:1])
    wanted.check(ours(t.net, t.gradients_from(c.X, g, link=False)))
    found = t.input_gradients(c.X, g, link=False)
    wanted = exact(t.net, c.X, lambda oracle, X: [backwards(oracle, X, False)[1][:, : len(numeric)]])
    wanted.check(found[:, numeric])
    assert np.isnan(np.delete(found, numeric, axis=1)).all()


@given(chances)
def test_a_fit_goes_the_float64_way(chance):
    """Some epochs: weights, average, running statistics, the history's loss."""
    c = drawn(chance, rows=40)
    t, epochs = c.trainer(threads=chance.choice([1, 2, 3])), chance.choice([1, 2])

    def way(oracle, X):
        follower = Follower(c, oracle)
        losses = [follower.epoch(X) for _ in range(epochs)]
        assume(not follower.near)
        running = flat([a for pair in oracle.statistics if pair for a in pair] or [np.zeros(1)])
        return flat(oracle.arrays()), flat(follower.average), running, losses

    wanted = exact(t.net, c.X, way)
    history = t.fit(c.X, c.y, epochs, sample_weight=c.weight, shuffle=False, verbose=0).history
    average = t.averaged_net() if t.ema else None
    views = t.net.named_views(t.net.params)
    running = [views[f"running_{n}.{k}"] for k, norm in enumerate(t.net.norms) if norm == "batch"
               for n in ("means", "vars")]  # fmt: skip
    wanted.check(
        trained(t.net), trained(average) if average else wanted.results[1], flat(running or [np.zeros(1)]),
        history["loss"], terms=t.steps * np.linalg.norm(wanted.results[0]),
    )  # fmt: skip


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
        found[-1] += (ours(t.net, t.gradients(c.X, c.y, c.weight)[1]).tobytes(),)
    assert found[0] == found[1] == found[2]


@given(chances, st.sampled_from(LAYOUTS), st.sampled_from(LAYOUTS))
def test_layouts_change_no_bit(chance, layout, other):
    """Of X, y and weights: orders, strides, lists, files, frames."""
    c, found = drawn(chance), []
    assume(c.X.dtype != np.float16 or layout != "polars")  # which has no such numbers
    flat_other = "C" if other in FRAMES else other
    with tempfile.TemporaryDirectory() as folder:
        for of_X, of_y, of_weight in (("C", "C", "C"), (layout, other, flat_other)):
            t, X = c.trainer(), laid_out(c.X, of_X, folder)
            y = laid_out(c.y, of_y if c.y.ndim == 2 else of_weight, folder)
            weight = None if c.weight is None else laid_out(c.weight, of_weight, folder)
            history = t.fit(X, y, 2, sample_weight=weight, verbose=0)
            values = [v.tobytes() for v in (t.predict(X), t.forward(X), t.input_gradients(X, 0))]
            found.append((state(t), numbers(history), values, t.evaluate(X, y, weight)))
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
    away_from_kinks(c)
    extra = rng.integers(0, len(c.X), 9)
    weight = np.ones(len(c.X)) if c.weight is None else c.weight
    order = rng.permutation(len(c.X) + 9)
    X, y = np.concatenate([c.X, c.X[extra]])[order], np.concatenate([c.y, c.y[extra]])[order]
    more = np.concatenate([weight, np.zeros((9, *weight.shape[1:]))])[order]
    value, gradients = t.gradients(X, y, more)
    wanted = exact(t.net, c.X, lambda oracle, X: _gradients(oracle, c, X))
    wanted.check(value, ours(t.net, gradients))
    wanted.check(t.evaluate(X, y, more)["loss"], wanted.results[1])
