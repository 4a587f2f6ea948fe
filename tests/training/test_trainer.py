"""Trainer against the reference: gradients, trajectories, losses, predictions; and the same bits."""

import itertools

import harness as h
import numpy as np
import pytest
from draw import problem
from ways import flat, hyper, params64

import fastbp as fb
from fastbp.kernels import codes
from fastbp.kernels import reference as ref

ACTIVATIONS = list(codes.ACTIVATIONS)
LOSSES = ["cross_entropy", "bce_with_logits", "mse", "mae", "huber"]  # all of them: test_losses.py


@pytest.mark.parametrize("dtype", h.DTYPES)
@pytest.mark.parametrize("activation,loss", list(itertools.product(ACTIVATIONS, LOSSES)))
def test_gradients(rng, dtype, activation, loss):
    sizes = [rng.integers(1, 20) for _ in range(rng.integers(2, 5))] + [rng.integers(2, 9)]
    net = fb.MLP(sizes, activation, seed=1, dtype=dtype)
    for b in net.biases:
        b[:] = rng.standard_normal(b.shape)
    X, y = problem(rng, loss, 37, sizes[0], sizes[-1], soft=bool(rng.integers(2)))
    weight = rng.uniform(0, 2, 37)
    X = X.astype(dtype)
    got_loss, got = fb.Trainer(net, loss).gradients(X, y, weight)
    activations = [activation] * (len(sizes) - 2)
    exact_loss, exact = ref.gradients(params64(net), X.astype(float), y, activations, loss, weight)
    assert got_loss == pytest.approx(exact_loss, rel=4 * h.TOLERANCE[dtype])
    assert h.relative(flat(got), flat(exact)) < 2 * h.TOLERANCE[dtype]


OPTIMIZERS = {
    "sgd": fb.SGD(0.05),
    "sgd_decay": fb.SGD(0.05, weight_decay=0.1),
    "momentum": fb.SGD(0.05, momentum=0.9),
    "dampening": fb.SGD(0.05, momentum=0.9, dampening=0.3, weight_decay=0.01),
    "nesterov": fb.SGD(0.05, momentum=0.9, nesterov=True),
    "adam": fb.Adam(0.01),
    "adam_decay": fb.Adam(0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1),
    "adamw": fb.AdamW(0.01, weight_decay=0.1),
}


@pytest.mark.parametrize("dtype", h.DTYPES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_ten_steps_against_reference(rng, dtype, name):
    """Ten steps, the last batch of each epoch smaller: the weights follow the float64 oracle."""
    optimizer = OPTIMIZERS[name]
    net = fb.MLP([9, 33, 17, 5], "tanh", seed=2, dtype=dtype)
    X, y = problem(rng, "cross_entropy", 36, 9, 5)
    X = X.astype(dtype)
    start = params64(net)
    trainer = fb.Trainer(net, optimizer=optimizer, batch_size=8, seed=0)
    history = trainer.fit(X, y, epochs=2, shuffle=False)
    batches = [np.arange(s, min(s + 8, 36)) for s in range(0, 36, 8)] * 2
    losses = ref.train(start, X.astype(float), y, ["tanh"] * 2, "cross_entropy", *hyper(optimizer), batches)
    assert trainer.steps == 10
    assert h.relative(flat(params64(net)), flat(start)) < 10 * h.TOLERANCE[dtype]
    sizes = np.array([len(b) for b in batches[:5]])
    for epoch in range(2):
        mean = np.dot(losses[5 * epoch : 5 * epoch + 5], sizes) / 36
        assert history.history["loss"][epoch] == pytest.approx(mean, rel=10 * h.TOLERANCE[dtype])


def test_clip_norm_scales_the_gradient(rng):
    net = fb.MLP([9, 33, 5], "tanh", seed=2, dtype="float64")
    X, y = problem(rng, "mse", 20, 9, 5)
    before = flat(params64(net))
    _, grads = fb.Trainer(net, "mse").gradients(X, y)
    norm = np.linalg.norm(flat(grads))
    trainer = fb.Trainer(net, "mse", fb.SGD(0.5), batch_size=20, clip_norm=norm / 3)
    trainer.fit(X, y, shuffle=False)
    exact = before - 0.5 * flat(grads) / 3
    assert h.relative(flat(params64(net)), exact) < 1e-6 * 10  # torch's 1e-6 beside the norm
    loose = fb.MLP([9, 33, 5], "tanh", seed=2, dtype="float64")
    fb.Trainer(loose, "mse", fb.SGD(0.5), batch_size=20, clip_norm=10 * norm).fit(X, y, shuffle=False)
    assert h.relative(flat(params64(loose)), before - 0.5 * flat(grads)) < 1e-12


@pytest.mark.parametrize("clip_norm", [None, 0.5])
@pytest.mark.parametrize(
    "sizes,batch,activation",
    [
        ([4, 64, 64, 2], 64, "relu"),
        ([64, 100, 10], 32, "gelu"),
        ([37, 113, 61, 7], 100, "tanh"),
        ([10, 3], 8, "relu"),
        ([300, 520, 310, 10], 128, "silu"),
        ([30, 270, 130, 5], 700, "gelu"),
    ],
)
def test_same_bits_for_any_number_of_threads(rng, sizes, batch, activation, clip_norm):
    X, y = problem(rng, "cross_entropy", 3 * batch + 5, sizes[0], sizes[-1])
    X = X.astype("float32")
    weights = []
    for threads in (1, 2, 4, 1):
        net = fb.MLP(sizes, activation, seed=3)
        trainer = fb.Trainer(net, batch_size=batch, threads=threads, seed=4, clip_norm=clip_norm)
        trainer.fit(X, y, epochs=3)
        weights.append((net.params.copy(), trainer.slots.copy(), trainer.predict(X), trainer.evaluate(X, y)))
    for other in weights[1:]:
        assert np.array_equal(weights[0][0], other[0])
        assert np.array_equal(weights[0][1], other[1])
        assert np.array_equal(weights[0][2], other[2])
        assert weights[0][3] == other[3]


@pytest.mark.parametrize("dtype", h.DTYPES)
@pytest.mark.parametrize("batch", [257, 700, 1025])
def test_long_batches_against_reference(rng, dtype, batch):
    """Rows pass the layers in parts, wide layers' gradients are summed in pieces: three steps."""
    net = fb.MLP([30, 270, 130, 5], "tanh", seed=2, dtype=dtype)
    X, y = problem(rng, "mse", 2 * batch + 40, 30, 5)
    start, X = params64(net), X.astype(dtype)
    fb.Trainer(net, "mse", fb.SGD(0.1, momentum=0.9), batch).fit(X, y, shuffle=False)
    batches = [np.arange(s, min(s + batch, len(X))) for s in range(0, len(X), batch)]
    ref.train(start, X.astype(float), y, ["tanh"] * 2, "mse", *hyper(fb.SGD(0.1, momentum=0.9)), batches)
    assert h.relative(flat(params64(net)), flat(start)) < h.TOLERANCE[dtype]


def test_long_batches_of_layers_with_everything_give_the_same_bits(rng):
    X, y = problem(rng, "cross_entropy", 1300, 20, 5)
    for options in ({"norm": "layer", "residual": True}, {"norm": "batch"}, {"activation": "prelu"}):
        params = []
        for threads in (1, 2, 4):
            net = fb.MLP([20, 300, 300, 5], dropout=0.3, input_dropout=0.1, seed=3, **options)
            fb.Trainer(net, batch_size=600, threads=threads, seed=4, accumulate=2).fit(X, y, epochs=2)
            params.append(net.params.copy())
        assert np.array_equal(params[0], params[1]) and np.array_equal(params[0], params[2])


@pytest.mark.parametrize("threads", [2, 4])
def test_column_groups_give_the_same_bits(rng, threads):
    """A team split over columns, too, and the team really had all its threads."""
    from fastbp.engine.backend import Session
    from fastbp.engine.options import Options
    from fastbp.engine.plan import Plan
    from fastbp.engine.rates import Updates
    from fastbp.network.layout import arena

    X, y = problem(rng, "cross_entropy", 130, 70, 10)
    X, y = X.astype("float32"), y.reshape(-1, 1)
    results = []
    for count, groups in ((1, 1), (threads, 2), (threads, threads)):
        net = fb.MLP([70, 130, 90, 10], seed=3)
        optimizer = fb.Adam()
        plan = Plan(net, codes.CROSS_ENTROPY, optimizer.code(), 50, count)
        slots = arena(net.params.size * 2, "float32")
        session = Session(net.params, slots, plan, Options().hyper(3), count, groups=groups)
        session.updates = Updates(optimizer, Options())
        session.bind(X, y)
        session.shuffle(1, 2)
        *_, (_, loss, _, _) = session.windows(codes.TRAIN, 3)
        assert session.results[codes.RESULT_THREADS] in (count, 1)
        results.append((net.params.copy(), loss))
    for params, loss in results[1:]:
        assert np.array_equal(params, results[0][0]) and loss == results[0][1]


def test_padding_stays_zero(rng):
    """What the views do not show must not drift: it would reach norms, decay and files."""
    net = fb.MLP([5, 37, 3], "sigmoid", seed=0)
    X, y = problem(rng, "cross_entropy", 50, 5, 3)
    fb.Trainer(net, optimizer=fb.AdamW(0.1), batch_size=16).fit(X, y, epochs=3)
    for w, b in zip(net.weights, net.biases, strict=True):
        w[:], b[:] = 0, 0
    assert not net.params.any()


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "?"])
def test_input_dtypes_and_layouts(rng, kind):
    values = rng.integers(0, 2 if kind == "?" else 100, (40, 6))
    y = rng.integers(0, 3, 40)
    results = []
    wide = np.zeros((80, 12), kind)
    wide[::2, ::2] = values
    typed = values.astype(kind)
    layouts = [typed, np.asfortranarray(typed), wide[::2, ::2], typed[::-1].copy()[::-1], typed.tolist()]
    for X in (values.astype("f4"), *layouts):
        net = fb.MLP([6, 8, 3], seed=0)
        fb.Trainer(net, batch_size=16, seed=0).fit(X, y, epochs=2)
        results.append(net.params)
    for params in results[1:]:
        assert np.array_equal(params, results[0])


def test_labels_of_any_integer_type_one_hot_and_bool(rng):
    X, y = problem(rng, "cross_entropy", 40, 6, 3)
    results = []
    for labels in (y, y.astype("u1"), y.tolist(), y.reshape(-1, 1), np.eye(3)[y], np.eye(3, dtype=int)[y]):
        net = fb.MLP([6, 8, 3], seed=0)
        fb.Trainer(net, batch_size=16, seed=0).fit(X, labels)
        results.append(net.params)
    for params in results[1:]:
        assert np.array_equal(params, results[0])


@pytest.mark.parametrize("loss", LOSSES)
def test_evaluate_predict_forward(rng, loss):
    net = fb.MLP([9, 21, 4], "elu", seed=0, dtype="float64")
    X, y = problem(rng, loss, 600, 9, 4)
    trainer = fb.Trainer(net, loss)
    z = ref.forward(params64(net), X, ["elu"])[-1][0]
    exact, _ = ref.loss_and_delta(loss, z, y)
    result = trainer.evaluate(X, y)
    assert result["loss"] == pytest.approx(exact, rel=1e-12)
    assert h.relative(trainer.forward(X), z) < 1e-12
    assert h.relative(trainer.predict(X), ref.link(loss, z)) < 1e-12
    if loss == "cross_entropy":
        assert result["accuracy"] == (z.argmax(1) == y).mean()
    elif loss == "bce_with_logits":
        assert result["accuracy"] == ((z > 0) == (y > 0.5)).mean()
    else:
        assert "accuracy" not in result


def test_a_rows_prediction_does_not_depend_on_its_batch(rng):
    net = fb.MLP([30, 70, 70, 9], "gelu", seed=0)
    X = rng.standard_normal((1000, 30)).astype("float32")
    trainer = fb.Trainer(net, threads=2)
    whole = trainer.predict(X)
    for rows in (1, 2, 7, 255, 256, 257):
        assert np.array_equal(trainer.predict(X[:rows]), whole[:rows])
    assert np.array_equal(trainer.predict(X[500:501])[0], whole[500])


@pytest.mark.parametrize("options", [{}, {"norm": "layer"}, {"norm": "batch", "residual": True}])
def test_few_rows_by_several_threads_give_the_same_bits(rng, options):
    """Wide layers, whose columns are shared out: the weights are what takes long."""
    net = fb.MLP([300, 700, 700, 3], seed=0, **options)
    X = rng.standard_normal((40, 300)).astype("float32")
    trainers = [fb.Trainer(net, threads=threads) for threads in (1, 2, 4, None)]
    for rows in (1, 2, 31, 32, 33, 40):
        expected = trainers[0].predict(X[:rows])
        for trainer in trainers[1:]:
            for _ in range(8):  # threads=None tries both
                assert np.array_equal(trainer.predict(X[:rows]), expected)
    X[3] = np.nan
    for trainer in trainers:
        with pytest.raises(ValueError, match="X: got nan at row 3"):
            trainer.predict(X[:8])


def test_zero_weight_samples_count_for_nothing(rng):
    X, y = problem(rng, "mse", 24, 5, 2)
    odd = np.vstack([X, 100 * X[:4]]), np.vstack([y, y[:4] - 50])
    weight = np.r_[np.ones(24), np.zeros(4)]
    for trainer in (fb.Trainer(fb.MLP([5, 7, 2], seed=0), "mse", batch_size=28, seed=0),):
        plain = trainer.evaluate(X, y)
        weighted = trainer.evaluate(*odd, sample_weight=weight)
        assert weighted["loss"] == pytest.approx(plain["loss"], rel=1e-6)
        assert h.relative(
            flat(trainer.gradients(*odd, weight)[1]), flat(trainer.gradients(X, y)[1])
        ) < 2e-6  # fmt: skip


def test_fit_goes_on_where_it_stopped(rng):
    X, y = problem(rng, "cross_entropy", 50, 6, 3)
    nets = [fb.MLP([6, 12, 3], seed=0) for _ in range(2)]
    once, twice = (fb.Trainer(n, optimizer=fb.Adam(0.01), batch_size=16, seed=5) for n in nets)
    once.fit(X, y, epochs=4)
    twice.fit(X, y, epochs=1)
    twice.fit(X, y, epochs=3)
    assert np.array_equal(nets[0].params, nets[1].params)
    assert (once.steps, once.epochs) == (twice.steps, twice.epochs) == (16, 4)


def test_written_weights_train(rng):
    """The views are the parameters: what is written there is what the next step starts from."""
    X, y = problem(rng, "mse", 16, 5, 2)
    a, b = fb.MLP([5, 7, 2], seed=0), fb.MLP([5, 7, 2], seed=1)
    ta, tb = fb.Trainer(a, "mse", batch_size=16, seed=0), fb.Trainer(b, "mse", batch_size=16, seed=0)
    tb.predict(X)
    for mine, theirs in zip(b.weights + b.biases, a.weights + a.biases, strict=True):
        mine[:] = theirs
    ta.fit(X, y), tb.fit(X, y)
    assert np.array_equal(a.params, b.params)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_save_and_resume_are_exact(rng, tmp_path, name):
    X, y = problem(rng, "cross_entropy", 50, 6, 3)
    whole, part = (
        fb.Trainer(fb.MLP([6, 12, 3], "silu", seed=0), optimizer=OPTIMIZERS[name], batch_size=16, seed=9)
        for _ in range(2)
    )
    whole.fit(X, y, epochs=4)
    part.fit(X, y, epochs=2)
    part.save(tmp_path / "m.safetensors")
    resumed = fb.load(tmp_path / "m.safetensors")
    assert resumed.optimizer == part.optimizer and resumed.net.activations == ["silu"]
    resumed.fit(X, y, epochs=2)
    assert np.array_equal(whole.net.params, resumed.net.params)
    assert np.array_equal(whole.slots, resumed.slots)
    assert np.array_equal(whole.predict(X), resumed.predict(X))


def test_copies_and_pickles_train_on_their_own(rng):
    import copy
    import pickle

    X, y = problem(rng, "cross_entropy", 50, 6, 3)
    trainer = fb.Trainer(fb.MLP([6, 12, 3], seed=0), batch_size=16, seed=1)
    trainer.fit(X, y)
    for other in (copy.deepcopy(trainer), pickle.loads(pickle.dumps(trainer))):
        before = trainer.net.params.copy()
        assert np.shares_memory(other.net.weights[0], other.net.params)
        assert not np.shares_memory(other.net.params, trainer.net.params)
        other.fit(X, y)
        assert np.array_equal(trainer.net.params, before)
        again = copy.deepcopy(trainer)
        again.fit(X, y)
        assert np.array_equal(again.net.params, other.net.params)


def test_changed_settings_are_heeded(rng):
    """Attributes that shape the buffers: a change opens new ones, or is refused."""
    X, y = problem(rng, "cross_entropy", 50, 6, 3)

    def fitted(**late):
        early = {"batch_size": 16, "seed": 1, "optimizer": fb.Adam(0.01), "clip_norm": None}
        made = {**early, **late}
        result = []
        for first in (made, early):
            trainer = fb.Trainer(fb.MLP([6, 12, 3], seed=0), **first)
            trainer.fit(X, y, epochs=0)
            for name, value in made.items():
                setattr(trainer, name, value)
            trainer.fit(X, y, epochs=2)
            result.append(trainer.net.params)
        return result

    for late in ({"batch_size": 7}, {"clip_norm": 0.1}, {"optimizer": fb.AdamW(0.02, weight_decay=0.5)}):
        at_once, changed = fitted(**late)
        assert np.array_equal(at_once, changed)
    trainer = fb.Trainer(fb.MLP([6, 12, 3], seed=0), optimizer=fb.SGD(0.1))
    trainer.optimizer = fb.Adam()
    with pytest.raises(ValueError, match="takes a new Trainer"):
        trainer.fit(X, y)


def test_eps_zero_keeps_padding_zero(rng):
    X, y = problem(rng, "cross_entropy", 50, 6, 3)
    net = fb.MLP([6, 12, 3], seed=0)
    fb.Trainer(net, optimizer=fb.Adam(eps=0), batch_size=16, clip_norm=0.5).fit(X, y, epochs=3)
    for w, b in zip(net.weights, net.biases, strict=True):
        assert np.isfinite(w).all() and np.isfinite(b).all()
        w[:], b[:] = 0, 0
    assert not net.params.any()


@pytest.mark.parametrize("interrupt_after", [0.02, 0.2])
def test_ctrl_c_counts_the_steps_that_were_made(rng, capsys, interrupt_after):
    """The signal comes while compiled code runs; weights and counters must still belong together."""
    import signal

    X, y = problem(rng, "cross_entropy", 3200, 16, 3)

    def make():
        return fb.Trainer(fb.MLP([16, 64, 3], seed=0), batch_size=32, seed=1, threads=1)

    trainer = make()
    trainer.fit(X, y, epochs=0)
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    signal.setitimer(signal.ITIMER_REAL, interrupt_after)
    history = trainer.fit(X, y, epochs=100_000)
    assert history is trainer.history and history.stopped == "Ctrl-C"
    said = f"stopped by Ctrl-C after {trainer.steps:,} steps in all; the model keeps what it has learned"
    assert said in capsys.readouterr().err
    epochs, rest = divmod(trainer.steps, 100)
    assert history.epochs in (epochs, epochs - 1)  # one may have been over and not yet on record
    other = make()
    other.fit(X, y, epochs=epochs)
    if rest:  # the steps of the epoch that was cut short
        session = other._sessions["train"]
        session.bind(X.astype("f8"), y.astype("i4").reshape(-1, 1))
        session.shuffle(1, epochs)
        for _ in session.windows(codes.TRAIN, rest, other.steps):
            pass
    assert np.array_equal(trainer.net.params, other.net.params)


def test_depth_zero_and_width_one(rng):
    X, y = problem(rng, "mse", 64, 3, 1)
    trainer = fb.Trainer(fb.MLP([3, 1], seed=0), "mse", fb.SGD(0.1), batch_size=64)
    trainer.fit(X, X @ [1.0, -2, 3] + 0.5, epochs=500)
    assert np.allclose(trainer.net.weights[0][:, 0], [1, -2, 3], atol=1e-3)
    assert trainer.net.biases[0][0] == pytest.approx(0.5, abs=1e-3)
    one = fb.Trainer(fb.MLP([1, 1, 1, 1], "tanh", seed=0), "mse", batch_size=1)
    assert one.fit(X[:5, :1], y[:5], epochs=2).epochs == 2


def test_history_and_validation(rng):
    X, y = problem(rng, "cross_entropy", 50, 6, 3)
    trainer = fb.Trainer(fb.MLP([6, 12, 3], seed=0), batch_size=16)
    history = trainer.fit(X, y, epochs=3, validation_data=(X[:10], y[:10]))
    assert set(history.history) == {"loss", "accuracy", "val_loss", "val_accuracy", "seconds"}
    assert all(len(v) == 3 for v in history.history.values())
    assert history.history["val_loss"][-1] == trainer.evaluate(X[:10], y[:10])["loss"]
    assert trainer.fit(X, y, epochs=0).epochs == 0


def test_progress_bar(rng, capsys):
    X, y = problem(rng, "cross_entropy", 50, 6, 3)
    trainer = fb.Trainer(fb.MLP([6, 12, 3], seed=0), batch_size=16)
    trainer.fit(X, y, epochs=2, verbose=1)
    shown = capsys.readouterr().err
    assert "epoch 2/2" in shown and "loss" in shown and "accuracy" in shown and "samples/s" in shown
    trainer.fit(X, y, epochs=2, verbose="auto")  # no terminal here
    assert capsys.readouterr().err == ""
