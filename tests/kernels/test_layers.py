"""Norms, skips and embeddings against the reference and central differences; bits, files, words, errors."""

import pickle

import harness as h
import numpy as np
import pytest
from oracle import EVERYTHING, MIXED, SMOOTH, Oracle, mixed, numeric_gradient, ours, shaken

import fastbp as fb
from fastbp.engine.backend import Session
from fastbp.engine.options import Options
from fastbp.engine.plan import Plan
from fastbp.engine.rates import Updates
from fastbp.kernels import codes
from fastbp.kernels import reference as ref
from fastbp.network import activations
from fastbp.network.layout import arena


@pytest.mark.parametrize("norm", [None, *codes.NORMS])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_the_reference_by_central_differences(rng, norm, loss):
    """Norm, skips, embeddings, with the masks of a step held fixed; all activations at once."""
    names = list(rng.permutation(SMOOTH))
    net = fb.MLP(
        [5, 6, 6, 6, 6, 6, 3], names, dropout=0.3, input_dropout=0.2, norm=norm, residual=True,
        embeddings={2: (3, 2)}, seed=1, dtype="float64",
    )  # fmt: skip
    oracle = Oracle(shaken(net, rng))
    X = mixed(rng, 9, 5, net.embedded, float)
    y = rng.integers(0, 3, 9) if loss == "cross_entropy" else rng.standard_normal((9, 3))
    weight = rng.uniform(0.1, 1, 9)
    _, exact = oracle.gradients(X, y, loss, 5, 3, weight)
    found = numeric_gradient(oracle.arrays(), lambda: oracle.gradients(X, y, loss, 5, 3, weight)[0])
    assert h.relative(found, exact) < 1e-7


@pytest.mark.parametrize("dtype", h.DTYPES)
@pytest.mark.parametrize("activation", activations.NAMES)
@pytest.mark.parametrize("norm", [None, *codes.NORMS])
def test_gradients(rng, norm, activation, dtype):
    """Nothing dropped: trainer.gradients, at ragged widths.

    Norms of a few numbers divide by small deviations, which magnifies rounding: such only in float64. Of
    250 problems each, the largest errors were 0.3, 0.14 and 2.2 (batch) times TOLERANCE in float32, 8 in
    float64.
    """
    few, size = (1, 1000) if dtype == "float64" else (8, 8 if norm == "batch" else 2)
    width, inputs = int(rng.integers(few, 70)), int(rng.integers(3, 9))
    embeddings = {1: (4, int(rng.integers(1, 40))), inputs - 1: (6, 2)}
    net = fb.MLP([inputs, 11, width, width, 4], activation, norm=norm, residual=True, embeddings=embeddings,
                 dropout=0.5, input_dropout=0.5, seed=1, dtype=dtype)  # fmt: skip
    oracle, rows = Oracle(shaken(net, rng)), int(rng.integers(3 * few - 1, 60))
    X, y = mixed(rng, rows, inputs, net.embedded, dtype), rng.integers(0, 4, rows)
    weight = rng.uniform(0.1, 2, rows)
    value, grads = fb.Trainer(net).gradients(X, y, weight)
    exact_value, exact = oracle.gradients(X, y, "cross_entropy", weight=weight)
    assert value == pytest.approx(exact_value, rel=size * h.TOLERANCE[dtype])
    assert h.relative(ours(net, grads), exact) < size * h.TOLERANCE[dtype]


def test_users_activation(rng):
    """One of the user's own behind a norm, with a skip, beside embeddings: as its twin among ours."""
    mine = fb.activation(lambda z: z / (1 + abs(z)), name="mine")
    found = []
    for activation in (mine, "softsign"):
        net = fb.MLP([6, 20, 20, 20, 3], activation, **EVERYTHING, seed=1, dtype="float64")
        X, y = mixed(np.random.default_rng(5), 40, 6, net.embedded, float), np.arange(40) % 3
        fb.Trainer(net, batch_size=20, seed=0).fit(X, y, epochs=2)
        found.append(net.params)
    assert h.relative(found[0], found[1]) < 1e-10


# --- the same bits


@pytest.mark.parametrize("clip_norm", [None, 0.1])
@pytest.mark.parametrize("dtype", h.DTYPES)
def test_same_bits_for_any_number_of_threads(rng, dtype, clip_norm):
    results = []
    seed = int(rng.integers(2**40))
    X = mixed(
        np.random.default_rng(seed),
        150,
        6,
        fb.MLP([6, 3], embeddings={1: (5, 3), 4: (9, 17)}).embedded,
        dtype,
    )
    y = rng.integers(0, 3, 150)
    for threads in (1, 2, 4, 1):
        net = fb.MLP([6, 20, 20, 20, 3], MIXED, **EVERYTHING, seed=3, dtype=dtype)
        trainer = fb.Trainer(net, batch_size=37, threads=threads, seed=seed, clip_norm=clip_norm)
        trainer.fit(X, y, epochs=3)
        loss, grads = trainer.gradients(X, y)
        results.append((net.params, trainer.slots, trainer.predict(X), ours(net, grads), loss,
                        trainer.evaluate(X, y)["loss"]))  # fmt: skip
    for other in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("threads", [2, 4])
def test_column_groups_give_the_same_bits(rng, threads):
    results = []
    for count, groups in ((1, 1), (threads, 2), (threads, threads)):
        net = fb.MLP([6, 40, 40, 40, 3], MIXED, **EVERYTHING, seed=3)
        if not results:
            X = mixed(rng, 130, 6, net.embedded, "float32")
            y = rng.integers(0, 3, (130, 1)).astype(np.int32)
        optimizer = fb.Adam()
        plan = Plan(net, codes.CROSS_ENTROPY, optimizer.code(), 50, count)
        slots = arena(net.params.size * 2, "float32")
        session = Session(net.params, slots, plan, Options().hyper(4), count, groups=groups)
        session.updates = Updates(optimizer, Options())
        session.bind(X, y)
        session.seed(8)
        *_, (_, loss, _, _) = session.windows(codes.TRAIN, 3)
        assert session.results[codes.RESULT_THREADS] in (count, 1)
        results.append((net.params, loss))
    for params, loss in results[1:]:
        assert np.array_equal(params, results[0][0]) and loss == results[0][1]


@pytest.mark.parametrize("dtype", h.DTYPES)
def test_evaluate_and_predict(rng, dtype):
    """After training: the reference's outputs from running statistics, one row or many, nothing dropped."""
    net = fb.MLP([6, 20, 20, 20, 3], MIXED, **EVERYTHING, seed=3, dtype=dtype)
    X, y = mixed(rng, 300, 6, net.embedded, dtype), rng.integers(0, 3, 300)
    trainer = fb.Trainer(net, batch_size=32, seed=1)
    trainer.fit(X, y, epochs=3)
    before = net.params.copy()
    z = trainer.forward(X)
    assert h.relative(z, Oracle(net).outputs(X)) < 10 * h.TOLERANCE[dtype]
    rows = np.vstack([trainer.forward(X[k : k + 1]) for k in range(20)])
    assert np.array_equal(rows, z[:20])
    values, _ = ref.cross_entropy(z.astype(float), y)
    assert trainer.evaluate(X, y)["loss"] == pytest.approx(values.mean(), rel=1e-5)
    assert trainer.evaluate(X, y)["accuracy"] == (z.argmax(axis=1) == y).mean()
    trainer.gradients(X, y)
    assert np.array_equal(net.params, before)  # running statistics too


def test_decay_leaves_running_statistics_alone(rng):
    """On both paths: they lie in params, but no optimizer may touch them."""
    X, y, found = rng.standard_normal((64, 4)), rng.integers(0, 2, 64), []
    for clip_norm in (None, 1e9):
        net = fb.MLP([4, 9, 2], norm="batch", seed=0, dtype="float64")
        optimizer = fb.AdamW(0.1, weight_decay=0.9)
        fb.Trainer(net, optimizer=optimizer, batch_size=16, seed=0, clip_norm=clip_norm).fit(X, y, epochs=3)
        found.append(net.params)
    assert h.relative(found[0], found[1]) < 1e-12
    assert np.all(net.running_vars[0] > 0.1)


def test_padding_stays_zero(rng):
    net = fb.MLP([6, 20, 20, 20, 3], ["sigmoid", "prelu", "prelu"], **EVERYTHING, seed=3)
    X, y = mixed(rng, 90, 6, net.embedded, "float32"), rng.integers(0, 3, 90)
    for clip_norm in (None, 0.1):
        trainer = fb.Trainer(net, optimizer=fb.AdamW(0.1), batch_size=32, clip_norm=clip_norm)
        trainer.fit(X, y, epochs=3)
    assert all(np.isfinite(v).all() for v in net.named_views(net.params).values())
    for view in net.named_views(net.params).values():
        view[:] = 0
    assert not net.params.any()


def test_embeddings_without_numeric_columns_and_of_any_dtype(rng):
    """Whole numbers as uint8, int64 or floats give the same; categories that no row has still step."""
    embeddings = {0: (300, 4), 1: (5, 1)}
    outcomes = []
    X, y = np.column_stack([rng.integers(0, 200, 60), rng.integers(0, 5, 60)]), rng.integers(0, 2, 60)
    for dtype in ("uint8", "int64", "float64"):
        net = fb.MLP([2, 8, 2], embeddings=embeddings, seed=0)
        start = net.embeddings[0].copy()
        fb.Trainer(net, optimizer=fb.AdamW(0.1, weight_decay=0.1), batch_size=20, seed=0).fit(
            X.astype(dtype), y
        )
        outcomes.append(net.params)
        assert np.allclose(net.embeddings[0][250:], start[250:] * (1 - 0.1 * 0.1) ** 3, rtol=1e-6)
    assert np.array_equal(outcomes[0], outcomes[1]) and np.array_equal(outcomes[0], outcomes[2])


# --- files, words


def test_save_and_resume_are_exact(rng, tmp_path):
    def make():
        net = fb.MLP([6, 20, 20, 20, 3], MIXED, **EVERYTHING, seed=3)
        return fb.Trainer(net, optimizer=fb.Adam(0.01), batch_size=16, seed=9)

    whole, part = make(), make()
    X, y = mixed(rng, 50, 6, whole.net.embedded, "float32"), rng.integers(0, 3, 50)
    whole.fit(X, y, epochs=4)
    part.fit(X, y, epochs=2)
    part.save(tmp_path / "m.safetensors")
    resumed = fb.load(tmp_path / "m.safetensors")
    assert resumed.net.config() == part.net.config()
    copied = pickle.loads(pickle.dumps(part))
    for trainer in (resumed, copied):
        trainer.fit(X, y, epochs=2)
        assert np.array_equal(whole.net.params, trainer.net.params)
        assert np.array_equal(whole.slots, trainer.slots)
        assert np.array_equal(whole.predict(X), trainer.predict(X))


def test_what_the_network_says():
    net = fb.MLP([6, 20, 20, 20, 3], MIXED, **EVERYTHING, seed=3)
    text = net.summary()
    for words in ("layer norm, silu, dropout 0.2", "prelu, + input",
                  "batch norm, prelu, dropout 0.5, + input", "x[4]", "9 -> 17", "dropout 0.1"):  # fmt: skip
        assert words in text
    width = 4 + 3 + 17
    count = 5 * 3 + 9 * 17 + (width + 3) * 20 + 22 * 20 + 24 * 20 + 21 * 3
    assert net.num_parameters == count and f"{count:,}" in text
    assert eval(repr(net), {"MLP": fb.MLP}).config() == net.config()
    assert fb.MLP(**net.config()).config() == net.config()
    assert [g is not None for g in net.gains] == [True, False, True]
    assert [r is not None for r in net.running_means] == [False, False, True]
    assert [s is not None for s in net.slopes] == [False, True, True]
    assert np.all(net.gains[0] == 1) and np.all(net.running_vars[2] == 1) and np.all(net.slopes[1] == 0.25)


def test_explain(rng):
    net = fb.MLP([6, 20, 20, 20, 3], **EVERYTHING, seed=3)
    before = net.params.copy()
    report = fb.Trainer(net, batch_size=16).explain(seconds=0.05)
    assert np.array_equal(net.params, before)
    names = [row.name for row in report.rows]
    assert {"embeddings", "layer 0 forward", "layer 0 dX", "layer 2 dW + update"} <= set(names)
    assert sum(row.seconds for row in report.rows) == pytest.approx(report.seconds)
    width = 24 * 20
    assert report.flops == 2 * 16 * (3 * (width + 400 + 400 + 60) - 4 * 20)


# --- errors


BAD = {
    "rate 1": ({"dropout": 1.0}, ValueError, "dropout: got 1.0, takes a share from 0 to below 1"),
    "rate -1": ({"dropout": [0.1, -0.1]}, ValueError, "dropout: got -0.1"),
    "rate nan": ({"dropout": float("nan")}, ValueError, "dropout: got nan"),
    "rate text": ({"dropout": "half"}, TypeError, "dropout: got 'half'"),
    "rate bool": ({"dropout": True}, TypeError, "dropout: got True"),
    "rates": ({"dropout": [0.1]}, ValueError, "dropout: got 1 values, takes one for all or 2"),
    "inputs": ({"input_dropout": 1.5}, ValueError, "input_dropout: got 1.5"),
    "norm": ({"norm": "layre"}, ValueError, "norm: got 'layre'; did you mean 'layer'"),
    "norm number": ({"norm": 1}, ValueError, "norm: got 1"),
    "norms": ({"norm": ["layer"] * 3}, ValueError, "norm: got 3 values"),
    "residual": ({"residual": "yes"}, TypeError, "residual: got 'yes'"),
    "widths": ({"residual": [True, False]}, ValueError, "residual: got True for hidden layer 0, which has 4"),
    "categories": ({"embeddings": {1: (0, 2)}}, ValueError, r"embeddings: got \(0, 2\) for column 1"),
    "column": ({"embeddings": {4: (3, 2)}}, ValueError, "embeddings: got column 4, takes 0 to 3"),
    "form": ({"embeddings": {1: 3}}, TypeError, "embeddings: got {1: 3}, takes {column of X"),
    "too many": ({"embeddings": {1: (2**24 + 1, 2)}}, ValueError, "embeddings: got 16777217 categories"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_networks(case):
    options, kind, text = BAD[case]
    with pytest.raises(kind, match=text):
        fb.MLP([4, 8, 8, 3], **options)


def test_no_widths_agree():
    with pytest.raises(ValueError, match="residual: got True, but no hidden layer"):
        fb.MLP([4, 8, 9, 3], residual=True)


def test_bad_categories_change_nothing(rng):
    net = fb.MLP([3, 8, 2], embeddings={1: (4, 2)}, seed=0)
    trainer, before, y = fb.Trainer(net), net.params.copy(), np.zeros(5, int)
    for bad in (4, -1, 1.5):
        X = np.ones((5, 3))
        X[3, 1] = bad
        for call in (trainer.fit, trainer.evaluate, trainer.gradients):
            with pytest.raises(
                ValueError, match=rf"X: got {bad:g}.* at row 3, column 1, takes whole .* to 3"
            ):
                call(X, y)
        with pytest.raises(ValueError, match="at row 3, column 1"):
            trainer.predict(X)
    assert np.array_equal(net.params, before) and trainer.steps == 0


def test_batch_norm_needs_two_rows(rng):
    """As torch: no batch of 1, the last one of an epoch included; a single row is evaluated all the same."""
    net = fb.MLP([3, 8, 2], norm="batch", seed=0)
    X, y = rng.standard_normal((9, 3)), np.zeros(9, int)
    for batch, rows in ((1, 9), (4, 9), (8, 9), (4, 1)):
        with pytest.raises(ValueError, match=f"batch_size: got {min(batch, rows)} for {rows} rows"):
            fb.Trainer(net, batch_size=batch).fit(X[:rows], y[:rows])
    trainer = fb.Trainer(net, batch_size=3)
    with pytest.raises(ValueError, match="which leaves a batch of 1"):
        trainer.gradients(X[:1], y[:1])
    trainer.fit(X, y)
    assert np.isfinite(trainer.evaluate(X[:1], y[:1])["loss"])


def test_single_rows_train_with_everything_else(rng):
    net = fb.MLP([3, 8, 8, 2], dropout=0.5, norm="layer", residual=True, seed=0)
    fb.Trainer(net, batch_size=1, seed=0).fit(rng.standard_normal((5, 3)), np.zeros(5, int))
    assert np.isfinite(net.params).all()


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_a_diverged_step_changes_nothing(rng, norm):
    net = fb.MLP([3, 8, 1], norm=norm, seed=0)
    X, y = rng.standard_normal((8, 3)).astype("float32"), np.zeros((8, 1), "float32")
    net.weights[1][:] = 3e38
    before = net.params.copy()
    with pytest.raises(FloatingPointError, match="step 1 of epoch 1"):
        fb.Trainer(net, "mse", batch_size=8).fit(X, y)
    assert np.array_equal(net.params, before)
