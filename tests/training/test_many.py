"""fit_many: every network ends with the bits of the same Trainer fitted alone."""

import copy

import numpy as np
import pytest

import fastbp as fb

ROWS, CLASSES = 230, 3


@pytest.fixture
def data(rng):
    X = rng.standard_normal((ROWS, 5)).astype(np.float32)
    return X, (np.abs(X[:, 0] * 2).astype(int) + (X[:, 1] > 0)).clip(0, CLASSES - 1)


def mixture():
    """Trainers of many kinds for the same classes."""
    nets = [
        fb.MLP([5, 7, 3], seed=1),
        fb.MLP([5, 20, 20, 3], ["tanh", "gelu"], dropout=0.2, seed=2),
        fb.MLP([5, 33, 3], norm="batch", seed=3),
        fb.MLP([5, 16, 16, 3], norm="layer", residual=True, seed=4),
        fb.MLP([5, 9, 3], "prelu", seed=5),
        fb.MLP([5, 1, 3], seed=6, input_dropout=0.1),
        fb.MLP([5, 12, 3], seed=7, dtype="float64"),
        fb.MLP([5, 3], seed=8),
    ]
    options = [
        {}, {"optimizer": fb.SGD(0.1, momentum=0.9)}, {"optimizer": "adamw", "batch_size": 16},
        {"optimizer": "nadam", "schedule": "cosine"}, {"clip_norm": 1.0, "ema": 0.9},
        {"accumulate": 3, "batch_size": 7}, {"optimizer": "lion", "schedule": "plateau"},
        {"loss": fb.losses.CrossEntropy(label_smoothing=0.1), "batch_size": 500},
    ]  # fmt: skip
    return [fb.Trainer(n, seed=i, **o) for i, (n, o) in enumerate(zip(nets, options, strict=True))]


def state(trainer):
    return (
        trainer.net.params.tobytes(),
        trainer.slots.tobytes(),
        trainer.steps,
        trainer.epochs,
        trainer.lr_scale,
    )


def alike(many, histories, alone, others):
    for i, (a, h, b, g) in enumerate(zip(many, histories, alone, others, strict=True)):
        assert state(a) == state(b), f"network {i}"
        assert {k: v for k, v in h.history.items() if k != "seconds"} == {
            k: v for k, v in g.history.items() if k != "seconds"
        }, f"network {i}"
        assert h.stopped == g.stopped and a.history is h


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_bits_of_a_mixture(data, threads, monkeypatch):
    from fastbp.engine import parallel

    monkeypatch.setattr(parallel, "usable_cores", lambda: threads)
    many, alone = mixture(), mixture()
    histories = fb.fit_many(many, *data, epochs=5)
    alike(many, histories, alone, [t.fit(*data, epochs=5, verbose=0) for t in alone])
    histories = fb.fit_many(many[::-1], *data, epochs=2)[::-1]  # goes on, in another order
    alike(many, histories, alone, [t.fit(*data, epochs=2, verbose=0) for t in alone])


def test_rows_weights_and_validation(data, rng):
    X, y = data
    weight = rng.random(ROWS).astype(np.float32)
    many, alone = mixture(), mixture()
    rows = [rng.permutation(ROWS)[: 60 + i] for i in range(len(many) - 2)]
    rows += [slice(3, 200, 2), np.arange(ROWS) % 3 > 0]
    held = [rng.permutation(ROWS)[:50] for _ in many]
    histories = fb.fit_many(
        many, X, y, rows=rows, validation_rows=held, epochs=4, sample_weight=weight, early_stopping=2
    )
    others = [
        t.fit(X[r], y[r], 4, sample_weight=weight[r], validation_data=(X[v], y[v], weight[v]),
              early_stopping=2, verbose=0)
        for t, r, v in zip(alone, rows, held, strict=True)
    ]  # fmt: skip
    alike(many, histories, alone, others)


def test_one_that_diverges_does_not_stop_the_others(data):
    X, y = data
    wild = lambda: fb.Trainer(fb.MLP([5, 8, 3], seed=3), "mse", fb.SGD(1e30), seed=1)  # noqa: E731
    many, alone = [mixture()[0], wild(), mixture()[1]], [mixture()[0], wild(), mixture()[1]]
    target = np.eye(3, dtype=np.float32)[y]
    histories = fb.fit_many(many, X, target, epochs=3)
    with pytest.raises(FloatingPointError) as error:
        alone[1].fit(X, target, 3, verbose=0)
    assert str(histories[1].error) == str(error.value) and histories[0].error is histories[2].error is None
    others = [t.fit(X, target, 3, verbose=0) for t in alone[::2]]
    alike(many[::2], histories[::2], alone[::2], others)
    assert state(many[1]) == state(alone[1])


def test_what_is_trained_alone(data):
    """LBFGS and a gradient_hook need Python in between: they come after the others."""
    X, y = data

    def make():
        trainers = [
            mixture()[0],
            fb.Trainer(fb.MLP([5, 8, 3], seed=3), optimizer="lbfgs", seed=1),
            mixture()[2],
        ]
        trainers[2].gradient_hook = lambda gradients: gradients[0][0].fill(0)
        return trainers

    many, alone, rows = make(), make(), [slice(0, 90), slice(20, 200), np.arange(40)]
    histories = fb.fit_many(many, X, y, rows=rows, epochs=3)
    others = [t.fit(X[r], y[r], 3, verbose=0) for t, r in zip(alone, rows, strict=True)]
    alike(many, histories, alone, others)


def test_callbacks_metrics_and_epochs_of_each(data, rng):
    X, y = data
    seen = []

    class Note(fb.Callback):
        def __init__(self, i):
            self.i = i

        def on_epoch_end(self, epoch, logs=None):
            seen.append((self.i, epoch, self.trainer.steps))
            if self.i == 1 and epoch == 1:
                self.trainer.optimizer.lr *= 0.5

    many, alone = mixture()[:3], mixture()[:3]
    held = rng.permutation(ROWS)[:40]
    histories = fb.fit_many(
        many, X, y, epochs=[2, 4, 3], callbacks=lambda i: [Note(i), fb.ReduceLROnPlateau("loss", patience=0)],
        metrics=["f1"], validation_rows=[held] * 3,
    )  # fmt: skip
    many_seen, seen[:] = sorted(seen), []
    others = [
        t.fit(X, y, n, callbacks=[Note(i), fb.ReduceLROnPlateau("loss", patience=0)], metrics=["f1"],
              validation_data=(X[held], y[held]), verbose=0)
        for i, (t, n) in enumerate(zip(alone, (2, 4, 3), strict=True))
    ]  # fmt: skip
    alike(many, histories, alone, others)
    assert many_seen == sorted(seen)


def test_sparse_rows_and_other_dtypes(data, rng):
    sparse = pytest.importorskip("scipy.sparse")
    X, y = data
    X = np.where(X > 0.3, np.round(X * 8), 0).astype(np.int8)
    many, alone = mixture()[:4], mixture()[:4]
    rows = [rng.permutation(ROWS)[:70] for _ in many]
    histories = fb.fit_many(many, sparse.csr_matrix(X), y.astype(np.uint8), rows=rows, epochs=2)
    others = [t.fit(X[r], y[r], 2, verbose=0) for t, r in zip(alone, rows, strict=True)]
    alike(many, histories, alone, others)


def test_ctrl_c_keeps_what_there_is(data, monkeypatch, capsys):
    """The interrupted networks go on where they were, to the bits of those that never were."""
    from fastbp.engine import many as engine

    X, y = data
    turns = []

    def turn(self, seconds, left, inner=engine.Many.turn):
        inner(self, 2e-4, left)
        turns.append(1)
        if len(turns) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(engine.Many, "turn", turn)
    many, others = mixture(), mixture()
    for trainer in many + others:
        trainer.schedule = None  # a cosine's rates depend on where it ends
    histories = fb.fit_many(many, X, y, epochs=1000)
    assert "Ctrl-C" in capsys.readouterr().err
    assert all(h.stopped == "Ctrl-C" for h in histories) and len(turns) == 3
    for trainer, history, fresh in zip(many, histories, others, strict=True):
        whole = history.epochs
        assert trainer.epochs in (whole, whole + 1)
        if trainer.epochs == whole:
            other = fresh.fit(X, y, whole, verbose=0)
            other.stopped = "Ctrl-C"
            alike([trainer], [history], [fresh], [other])
        assert np.isfinite(trainer.net.params).all()


def test_seconds(data):
    many = mixture()[:3]
    histories = fb.fit_many(many, *data, seconds=0.3)
    assert all(h.stopped == "seconds" and h.epochs > 3 for h in histories)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"rows": [[0, 1], [2, ROWS], None]}, r"rows\[1\]: got 230, takes numbers from 0 to 229"),
        ({"rows": [[0], [1]]}, "rows: got 2, takes one for each of 3 trainers"),
        ({"rows": [[0], [1], []]}, r"rows\[2\]: got"),
        ({"rows": [[0.5], [1], [0]]}, r"rows\[0\]: got float64"),
        ({"epochs": [1, 2]}, "epochs: got 2, takes one for each of 3"),
        ({"validation_rows": [[0]] * 3, "validation_data": (0, 0)}, "validation_rows: got it and"),
        ({"early_stopping": 3}, "early_stopping: got it without"),
        ({"callbacks": [[1], [], []]}, "callbacks: got 1"),
    ],
)  # fmt: skip
def test_errors_change_nothing(data, wrong, message):
    many = mixture()[:3]
    before = [state(t) for t in many]
    with pytest.raises((ValueError, TypeError), match=message):
        fb.fit_many(many, *data, **wrong)
    assert [state(t) for t in many] == before


def test_one_trainer_twice(data):
    trainer = mixture()[0]
    with pytest.raises(ValueError, match="trainers: got one Trainer twice"):
        fb.fit_many([trainer, copy.copy(trainer), trainer], *data)
    with pytest.raises(ValueError, match="trainers: got one network twice"):
        fb.fit_many([trainer, fb.Trainer(trainer.net)], *data)
    with pytest.raises(ValueError, match="trainers: got none"):
        fb.fit_many([], *data)
    with pytest.raises(TypeError, match="trainers: got MLP at place 1"):
        fb.fit_many([trainer, trainer.net], *data)


class Watched(fb.EarlyStopping):
    """Says how many epochs may run ahead, and keeps what it sees."""

    def __init__(self, **options):
        super().__init__(**options)
        self.seen = []

    def ahead(self):
        return super().ahead()

    def on_epoch_begin(self, epoch, logs=None):
        self.seen.append(("begin", epoch, self.trainer.epochs))

    def on_epoch_end(self, epoch, logs=None):
        loss = self.trainer.evaluate(*self.rows)["loss"]
        self.seen.append((epoch, self.trainer.epochs, self.trainer.steps, logs["val_loss"], loss))
        super().on_epoch_end(epoch, logs)


class AskedEachTime(Watched):
    """What a class says of itself is not said of those made of it."""


@pytest.mark.parametrize("kind", [Watched, AskedEachTime])
def test_epochs_that_run_ahead_of_early_stopping(data, kind, monkeypatch):
    """Callbacks hear of each epoch with its own weights, and Python looks only as often as it must."""
    from fastbp.engine.many import Job

    begun, begin = [], Job.begin
    monkeypatch.setattr(
        Job, "begin", lambda job, epochs, *rest: (begun.append(epochs), begin(job, epochs, *rest))
    )
    X, y = data
    held = X[:80], np.where(np.arange(80) % 2, y[:80], (y[:80] + 1) % 3)  # of half of which it is too sure
    make = lambda: [  # noqa: E731
        fb.Trainer(fb.MLP([5, width, 3], norm="batch", seed=width), optimizer=fb.Adam(0.05), seed=1)
        for width in (4, 9, 30)
    ]
    found = []
    for many in (True, False):
        trainers, told = make(), []
        for _ in trainers:
            told.append(kind(patience=6, min_delta=0.001, restore_best_weights=True))
            told[-1].rows = held
        options = {"epochs": 40, "validation_data": held, "metrics": ["f1"], "verbose": 0}
        if many:
            histories = fb.fit_many(trainers, X, y, callbacks=[[c] for c in told], **options)
        else:
            histories = [t.fit(X, y, callbacks=[c], **options) for t, c in zip(trainers, told, strict=True)]
        records = [
            {k: v for k, v in h.history.items() if k != "seconds"} | {"kept": h.kept, "why": h.stopped}
            for h in histories
        ]
        found.append(([state(t) for t in trainers], [c.seen for c in told], records))
    assert found[0] == found[1]
    assert any(record["why"] == "callback" for record in found[0][2])
    epochs = sum(len(record["loss"]) for record in found[0][2])
    assert sum(begun) == epochs and (set(begun) == {1} if kind is AskedEachTime else max(begun) == 6)


def test_few_wide_networks_have_all_threads(data, monkeypatch):
    from fastbp.engine import parallel
    from fastbp.training import many

    alone = []
    train = many._Network.train
    monkeypatch.setattr(
        many._Network, "train", lambda network, began: (alone.append(1), train(network, began))
    )
    monkeypatch.setattr(parallel, "usable_cores", lambda: 4)
    for count, expected in ((1, 1), (2, 2), (3, 0)):
        alone.clear()
        trainers = [fb.Trainer(fb.MLP([5, 300, 300, 3], seed=k), batch_size=64, seed=k) for k in range(count)]
        others = [fb.Trainer(fb.MLP([5, 300, 300, 3], seed=k), batch_size=64, seed=k) for k in range(count)]
        fb.fit_many(trainers, *data, epochs=1)
        for trainer, other in zip(trainers, others, strict=True):
            other.fit(*data, verbose=0)
            assert state(trainer) == state(other)
        assert len(alone) == expected


def test_ctrl_c_in_one_that_is_trained_alone_ends_the_rest(data, capsys):
    class Pressed(fb.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    trainers = [
        fb.Trainer(fb.MLP([5, 4, 3], seed=k), optimizer=fb.SGD(0.1), seed=k, threads=1) for k in range(3)
    ]
    for trainer in trainers:
        trainer.gradient_hook = lambda pairs: None
    histories = fb.fit_many(trainers, *data, epochs=5, callbacks=lambda i: [Pressed()])
    assert [h.stopped for h in histories] == ["Ctrl-C"] * 3
    assert [t.epochs for t in trainers] == [2, 0, 0]
    assert "fit_many: stopped by Ctrl-C" in capsys.readouterr().err


def test_seconds_plan_a_schedule_that_ends(data):
    """The rate moves as in fit: through all of its plan, as far as the clock tells."""
    for schedule in (fb.schedules.OneCycle(max_lr=0.01), fb.schedules.Cosine()):
        many = [
            fb.Trainer(fb.MLP([5, 8, 3], seed=k), batch_size=8, schedule=schedule, seed=k) for k in range(3)
        ]
        fb.fit_many(many, *data, seconds=0.4)
        for trainer in many:
            assert 0.3 * trainer.steps < trainer.planned_steps < 3 * trainer.steps


def test_seconds_end_in_the_middle_of_an_epoch(rng):
    X, y = rng.standard_normal((2_000_000, 5), np.float32), rng.integers(0, 3, 2_000_000)
    many = [fb.Trainer(fb.MLP([5, 64, 64, 3], seed=k), batch_size=8, seed=k) for k in range(3)]
    histories = fb.fit_many(many, X, y, seconds=0.3, validation_data=(X[:50], y[:50]))
    for trainer, history in zip(many, histories, strict=True):
        assert history.stopped == "seconds" and 0 < trainer.steps < 250_000
        assert history.epochs == trainer.epochs == 1 and 0 < history.history["loss"][0] < 2
        assert set(history.history) == {"loss", "accuracy", "val_loss", "val_accuracy", "seconds"}
        assert trainer.evaluate(X[:50], y[:50])["loss"] == history.history["val_loss"][0]


def test_names_of_columns_are_those_of_fit(data):
    pandas = pytest.importorskip("pandas")
    X, y = data
    frame = pandas.DataFrame(X, columns=list("abcde"))
    other = frame[list("edcba")]
    for hook in (None, lambda pairs: None):
        trainers = [fb.Trainer(fb.MLP([5, 4, 3], seed=k), seed=k) for k in range(3)]
        for trainer in trainers:
            trainer.gradient_hook = hook
        trainers[0].train_on_batch(frame, y)
        fb.fit_many(trainers, other, y)
        assert [t.columns for t in trainers] == [list("abcde"), list("edcba"), list("edcba")]
        for trainer in trainers:
            assert np.array_equal(trainer.predict(frame), trainer.predict(other))
    new = fb.Trainer(fb.MLP([5, 4, 3], seed=0))
    with pytest.raises(ValueError, match="epochs"):
        fb.fit_many([new], frame, y, epochs=-1)
    assert new.columns is None


@pytest.mark.parametrize("hook", [None, lambda pairs: None])
def test_what_counts_for_nothing_is_refused_before_anything_changes(data, hook):
    X, y = data
    weight = np.ones(ROWS)
    weight[:50] = 0
    trainers = [fb.Trainer(fb.MLP([5, 4, 3], seed=k), seed=k) for k in range(2)]
    trainers[1].gradient_hook = hook
    rows = [slice(None), slice(0, 50)]
    with pytest.raises(ValueError, match="sample_weight: got only zeros"):
        fb.fit_many(trainers, X, y, rows=rows, sample_weight=weight)
    trainers[1].net.freeze(0, 1)
    with pytest.raises(ValueError, match="net: got all layers frozen"):
        fb.fit_many(trainers, X, y, rows=rows)
    assert [t.steps for t in trainers] == [0, 0] and trainers[0].history.epochs == 0


def test_an_average_of_batch_norm_is_validated(data):
    make = lambda: fb.Trainer(fb.MLP([5, 8, 3], norm="batch", seed=1), ema=0.9, seed=1)  # noqa: E731
    many, alone = [make(), make()], make()
    histories = fb.fit_many(many, *data, epochs=3, validation_data=data)
    history = alone.fit(*data, epochs=3, validation_data=data, verbose=0)
    for found in histories:
        assert found.history["val_loss"] == history.history["val_loss"]


def test_rows_with_weights_of_the_loss(data):
    X, y = data
    loss = fb.losses.CrossEntropy(class_weight=(1.0, 3.0, 0.5), ignore_index=1)
    make = lambda: [  # noqa: E731
        fb.Trainer(fb.MLP([5, 6, 3], seed=k), loss, optimizer=fb.SGD(0.1), seed=k) for k in range(3)
    ]
    rows, held = [np.arange(ROWS) % 3 != k for k in range(3)], [np.arange(ROWS) % 3 == k for k in range(3)]
    many, alone = make(), make()
    histories = fb.fit_many(many, X, y, rows=rows, validation_rows=held, epochs=2)
    others = [
        t.fit(X[r], y[r], 2, validation_data=(X[h], y[h]), verbose=0)
        for t, r, h in zip(alone, rows, held, strict=True)
    ]
    alike(many, histories, alone, others)


def test_two_ctrl_c_leave_a_loop(data):
    class Pressed(fb.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    done = []
    with pytest.raises(KeyboardInterrupt):
        for k in range(5):
            trainer = fb.Trainer(fb.MLP([5, 4, 3], seed=k), seed=k)
            other = fb.Trainer(fb.MLP([5, 4, 3], seed=k), seed=k)
            fb.fit_many([trainer, other], *data, epochs=3, callbacks=lambda i: [Pressed()], verbose=0)
            done.append(k)
    assert len(done) <= 1
