"""Callbacks: Keras' meanings, one by one, and in a fit."""

import csv
import math
import signal
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import fastbp as fb
from fastbp import callbacks as cb
from fastbp.drawing import tensorboard
from fastbp.engine.turns import Turns


@pytest.fixture
def data(rng):
    X = rng.standard_normal((120, 6)).astype("f4")
    return X, (X[:, 0] > 0).astype(int)


def trainer(lr=0.01, **options):
    return fb.Trainer(fb.MLP([6, 12, 2], seed=0), optimizer=fb.Adam(lr), batch_size=20, seed=0, **options)


def stopped_after(values, **options):
    """Epochs until an EarlyStopping ends a fit whose val_loss takes these values; the callback."""
    params = np.zeros(1)
    net, history = SimpleNamespace(params=params), fb.History()
    fake = SimpleNamespace(stop_training=False, net=net, history=history, ema=None, turns=Turns())
    stopping = cb.EarlyStopping(**options)
    stopping.trainer = fake
    stopping.on_train_begin()
    for epoch, value in enumerate(values):
        params[:] = epoch
        stopping.on_epoch_end(epoch, {stopping.monitor: value})
        if fake.stop_training:
            break
    stopping.on_train_end()
    return epoch + 1, params[0], stopping


def test_early_stopping_patience():
    falling = [5.0, 4, 3, 3.5, 2, 2.5, 2.5, 2.5, 1]
    assert stopped_after(falling, patience=3)[0] == 8
    assert stopped_after(falling)[0] == 4  # patience 0: the first epoch that is no better
    assert stopped_after(falling, patience=9)[0] == 9
    assert stopped_after([5.0, 5.0])[0] == 2


def test_early_stopping_options():
    nan = math.nan
    assert stopped_after([5, 4.95, 4.9, 4.85], min_delta=0.5, patience=2)[0] == 3
    assert stopped_after([0.1, 0.2, 0.1, 0.1], monitor="val_auc", patience=2)[0] == 4
    assert stopped_after([1.0, 2, 3, 2, 2], mode="max", patience=2)[0] == 5
    assert stopped_after([3.0, 2, 1, 0.9], baseline=0.5, patience=3)[0] == 4  # Keras: what improves goes on
    assert stopped_after([3.0, 2, 1, 1, 0.9], baseline=0.5, patience=3)[0] == 4
    assert stopped_after([1, 0.9, 0.8, 0.7, 0.6, 0.05, 0.04], baseline=0.1, patience=2)[0] == 7
    assert stopped_after([3.0, 0.4, 0.3, 0.5, 0.5, 0.5], baseline=0.5, patience=3)[0] == 6
    assert stopped_after([1.0, 9, 9, 9, 9, 9], start_from_epoch=2, patience=2)[0] == 5
    with pytest.warns(RuntimeWarning, match="val_loss was NaN in each of 3 epochs, so none is the best"):
        assert stopped_after([nan, nan, nan, nan], patience=3)[0] == 3
    assert stopped_after([nan, nan, 3.0, 2, 2, 2, 2], patience=3)[0] == 7
    epochs, weights, stopping = stopped_after([3.0, 1, 2, 2], patience=2, restore_best_weights=True)
    assert (epochs, weights, stopping.best, stopping.best_epoch, stopping.stopped_epoch) == (4, 1, 1, 1, 3)
    epochs, weights, stopping = stopped_after([3.0, 1, 2], patience=9, restore_best_weights=True)
    assert (epochs, weights, stopping.stopped_epoch) == (3, 1, 0)  # also when it did not stop the fit
    assert stopped_after([3.0, 1, 2, 2], patience=2)[1] == 3


def test_early_stopping_in_a_fit_ends_with_the_best_weights(data, rng):
    X, _ = data
    y = rng.integers(0, 2, 120)  # noise: the validation loss soon rises
    t = trainer(0.05)
    history = t.fit(X[:80], y[:80], 300, validation_data=(X[80:], y[80:]), early_stopping=4)
    losses = history.history["val_loss"]
    assert history.stopped == "callback" and len(losses) < 300
    assert len(losses) == int(np.argmin(losses)) + 5
    assert t.evaluate(X[80:], y[80:])["loss"] == min(losses)
    more = t.fit(X, y, 2)
    assert more.epochs == 2 and more.stopped == ""  # the next fit starts anew


def test_model_checkpoint(data, tmp_path):
    X, y = data
    t = trainer(0.3)
    best = cb.ModelCheckpoint(tmp_path / "best.safetensors", save_best_only=True)
    each = cb.ModelCheckpoint(tmp_path / "{epoch:02d}-{val_loss:.2f}.safetensors")
    history = t.fit(X, y, 6, validation_split=0.5, callbacks=[best, each]).history["val_loss"]
    assert fb.load(tmp_path / "best.safetensors").evaluate(X[60:], y[60:])["loss"] == min(history)
    with pytest.raises(ValueError, match="ModelCheckpoint filepath: got '{val_lss}.*takes {epoch} and what"):
        t.fit(X, y, callbacks=[cb.ModelCheckpoint("{val_lss}")])
    names = {f"{k + 1:02d}-{v:.2f}.safetensors" for k, v in enumerate(history)}
    assert {p.name for p in tmp_path.iterdir()} == names | {"best.safetensors"}


@pytest.mark.parametrize("patience,cooldown", [(1, 0), (2, 0), (2, 3), (3, 1), (1, 2)])
def test_reduce_lr_on_plateau_against_torch(rng, patience, cooldown):
    """Keras counts the epoch that ends a patience and the last of a cooldown; torch does not."""
    torch = pytest.importorskip("torch")
    values = rng.integers(0, 12, 60) / 10 + np.linspace(1, 0, 60)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.5)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=patience - 1, threshold=0.1, threshold_mode="abs",
        cooldown=max(cooldown - 1, 0), min_lr=1e-3, eps=0,
    )  # fmt: skip
    ours = cb.ReduceLROnPlateau(factor=0.5, patience=patience, min_delta=0.1, cooldown=cooldown, min_lr=1e-3)
    ours.trainer = SimpleNamespace(optimizer=SimpleNamespace(lr=0.5), lr_scale=1.0)
    ours.on_train_begin()
    for epoch, value in enumerate(values):
        theirs.step(value)
        logs = {"val_loss": value}
        before = 0.5 * ours.trainer.lr_scale
        ours.on_epoch_end(epoch, logs)
        assert logs["lr"] == before
        assert 0.5 * ours.trainer.lr_scale == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
    assert optimizer.param_groups[0]["lr"] < 0.5  # it was reduced at all


def test_a_reduced_learning_rate_is_heeded(data):
    X, y = data
    moved = []
    for scale in (1.0, 0.25):
        t = fb.Trainer(fb.MLP([6, 2], seed=0, dtype="float64"), optimizer="sgd", batch_size=120, seed=0)
        t.lr_scale = scale
        start = t.net.params.copy()
        t.fit(X, y)
        moved.append(t.net.params - start)
    assert np.allclose(moved[1], 0.25 * moved[0], rtol=1e-12)
    reduce = cb.ReduceLROnPlateau("loss", factor=0.1, patience=1, min_delta=1e9)
    t = trainer()
    history = t.fit(X, y, 4, callbacks=[reduce]).history
    assert history["lr"] == pytest.approx([0.01, 0.01, 0.001, 0.0001]) and t.optimizer.lr == 0.01


def test_lr_scale_and_frozen_layers_are_saved(data, tmp_path):
    X, y = data
    whole, part = trainer(), trainer()
    for t in (whole, part):
        t.lr_scale = 0.3
        t.net.freeze(0)
    whole.fit(X, y, 4)
    part.fit(X, y, 2)
    part.save(tmp_path / "m.safetensors")
    again = fb.load(tmp_path / "m.safetensors")
    assert again.lr_scale == 0.3 and again.net.frozen == (0,)
    again.fit(X, y, 2)
    assert np.array_equal(again.net.params, whole.net.params)


def test_csv_logger(data, tmp_path):
    X, y = data
    path, t = tmp_path / "log.csv", trainer()
    history = t.fit(X, y, 3, callbacks=cb.CSVLogger(path)).history
    with open(path) as file:
        rows = list(csv.DictReader(file))
    assert [int(r["epoch"]) for r in rows] == [0, 1, 2]
    assert [float(r["loss"]) for r in rows] == history["loss"]
    t.fit(X, y, 2, callbacks=[cb.CSVLogger(path, append=True)])
    with open(path) as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5 and set(rows[4]) == {"epoch", "loss", "accuracy", "seconds"}
    t.fit(X, y, 1, callbacks=[cb.CSVLogger(path, separator=";")])
    assert path.read_text().startswith("epoch;loss;accuracy;seconds\n0;")
    with pytest.raises(FileNotFoundError):
        t.fit(X, y, callbacks=[cb.CSVLogger(tmp_path / "absent" / "log.csv")])


def test_where_to_write_is_looked_at_before_the_first_epoch(data, tmp_path):
    t = trainer()
    with pytest.raises(FileNotFoundError, match="ModelCheckpoint filepath: got .*whose folder is not there"):
        t.fit(*data, callbacks=[cb.ModelCheckpoint(tmp_path / "no" / "{epoch}.safetensors")])
    assert t.epochs == 0


def test_crc32c():
    """The values of RFC 3720, appendix B.4, and the usual check value."""
    assert tensorboard.crc32c(b"123456789") == 0xE3069283
    assert tensorboard.crc32c(bytes(32)) == 0x8A9136AA
    assert tensorboard.crc32c(bytes([255] * 32)) == 0x62A8AB43
    assert tensorboard.crc32c(bytes(range(32))) == 0x46DD794E


def read_events(path):
    """[(step, tag, value)] of an event file, read field by field."""
    content, found = Path(path).read_bytes(), []

    def fields(data):
        def varint():
            nonlocal at
            number = shift = 0
            while True:
                byte, at = data[at], at + 1
                number |= (byte & 127) << shift
                shift += 7
                if byte < 128:
                    return number

        at, result = 0, {}
        while at < len(data):
            key = varint()
            if key & 7 == 0:
                result[key >> 3] = varint()
            else:
                size = {1: 8, 5: 4}.get(key & 7) or varint()
                result[key >> 3], at = data[at : at + size], at + size
        return result

    while content:
        (length,) = struct.unpack("<Q", content[:8])
        event, content = fields(content[12 : 12 + length]), content[16 + length :]
        if 5 in event:
            value = fields(fields(event[5])[1])
            found.append((event[2], value[1].decode(), struct.unpack("<f", value[2])[0]))
        else:
            assert event[3] == b"brain.Event:2"
    return found


def test_tensorboard(data, tmp_path):
    X, y = data
    t = trainer()
    history = t.fit(X, y, 200, validation_split=0.5, callbacks=[cb.TensorBoard(tmp_path)]).history
    for run, prefix in (("train", ""), ("validation", "val_")):
        (path,) = (tmp_path / run).iterdir()
        events = read_events(path)
        assert [e[0] for e in events if e[1] == "epoch_loss"] == list(range(200))
        got = [e[2] for e in events if e[1] == "epoch_accuracy"]
        assert got == [np.float32(v) for v in history[f"{prefix}accuracy"]]


def test_numbers_that_float32_does_not_hold(tmp_path):
    writer = tensorboard.EventFile(tmp_path)
    for value in (1e300, -1e300, math.inf, math.nan, 3.4e38):
        writer.scalar("x", value, 0)
    got = [e[2] for e in read_events(writer.path)]
    assert got[:3] == [math.inf, -math.inf, math.inf] and math.isnan(got[3]) and got[4] == np.float32(3.4e38)


def test_tensorboard_reads_it(data, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    X, y = data
    history = trainer().fit(X, y, 3, callbacks=[cb.TensorBoard(tmp_path)]).history
    events = accumulator.EventAccumulator(str(tmp_path / "train")).Reload()
    assert [e.value for e in events.Scalars("epoch_loss")] == pytest.approx(history["loss"], rel=1e-6)


def test_terminate_on_nan(data, capsys):
    X, y = data
    t = fb.Trainer(fb.MLP([6, 8, 1], seed=0), "mse", fb.SGD(1e12), batch_size=20, seed=0)
    with pytest.raises(FloatingPointError):
        t.fit(X, y, 9)
    t = fb.Trainer(fb.MLP([6, 8, 1], seed=0), "mse", fb.SGD(1e12), batch_size=20, seed=0)
    history = t.fit(X, y, 9, callbacks=[cb.TerminateOnNaN()])
    assert history.stopped == "callback" and math.isnan(history.history["loss"][-1])
    assert np.isfinite(t.net.params).all()
    assert "loss is nan, terminating training" in capsys.readouterr().err


@pytest.mark.parametrize("way", ["checkpoints", "fit", "stream"])
def test_weights_that_the_last_step_breaks(data, tmp_path, way):
    """No step follows that would notice: the fit raises, and the good file stays."""
    X, y = data
    t = fb.Trainer(fb.MLP([6, 8, 1], seed=0), "mse", fb.SGD(0.01), batch_size=120, seed=0)
    path = tmp_path / "last.safetensors"
    kept = [cb.ModelCheckpoint(path)] if way == "checkpoints" else []
    t.fit(X, y, 3, callbacks=kept)
    t.optimizer.lr = 3e38
    for _ in range(2):  # the next fit sees it at once
        with pytest.raises(FloatingPointError, match="made numbers that are not finite|became"):
            t.fit(iter([(100 * X, y)])) if way == "stream" else t.fit(100 * X, y, 1, callbacks=kept)
    assert not kept or fb.load(path).epochs == 3


def test_weights_that_a_callback_breaks(data, capsys):
    X, y = data
    t = trainer()
    spoil = cb.LambdaCallback(on_epoch_end=lambda epoch, logs: t.net.params.fill(np.nan))
    with pytest.raises(
        FloatingPointError, match="net: has weights that are NaN or inf after step 6, the last"
    ):
        t.fit(X, y, callbacks=[spoil])
    t.net.initialize(0)
    t.fit(X, y, callbacks=[spoil, cb.TerminateOnNaN()])  # asked to be quiet
    assert "fit: net: has weights that are NaN or inf" in capsys.readouterr().err


def test_lambda_callback_and_the_order_of_things(data):
    X, y = data
    seen, t = [], trainer()

    def end(epoch, logs):
        seen.append((epoch, sorted(logs), t.history.epochs))
        logs["mine"] = 7
        if epoch == 1:
            t.stop_training = True

    hooks = cb.LambdaCallback(
        on_train_begin=lambda logs=None: seen.append("begin"),
        on_train_end=lambda logs=None: seen.append("end"),
        on_epoch_begin=lambda epoch, logs: seen.append(epoch),
        on_epoch_end=end,
    )
    history = t.fit(X, y, 5, callbacks=[hooks])
    names = ["accuracy", "loss", "seconds"]
    assert seen == ["begin", 0, (0, names, 0), 1, (1, names, 1), "end"]
    assert history.history["mine"] == [7, 7] and history.stopped == "callback"


def test_ctrl_c_still_ends_the_training(data):
    """Best weights are restored, and the callbacks hear of the end."""
    X, y = data
    t, ended = trainer(), []

    def interrupt(epoch, logs):
        if epoch == 3:
            signal.raise_signal(signal.SIGINT)

    calls = [
        cb.EarlyStopping(patience=99, restore_best_weights=True, mode="max"),
        cb.LambdaCallback(on_epoch_end=interrupt, on_train_end=lambda logs=None: ended.append(1)),
    ]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's "&" has it ignored
    try:
        history = t.fit(X, y, 50, validation_split=0.5, callbacks=calls)
    finally:
        signal.signal(signal.SIGINT, before)
    assert history.stopped == "Ctrl-C" and history.epochs == t.epochs == 4 and ended == [1]
    assert t.evaluate(X[60:], y[60:])["loss"] == max(history.history["val_loss"])


@pytest.mark.parametrize(
    "make,kind,text",
    [
        (
            lambda: cb.EarlyStopping(mode="mni"),
            ValueError,
            "EarlyStopping mode: got 'mni'; did you mean 'min'",
        ),
        (lambda: cb.EarlyStopping(patience=-1), ValueError, "EarlyStopping patience: got -1"),
        (lambda: cb.EarlyStopping(min_delta="a"), ValueError, "EarlyStopping min_delta: got 'a'"),
        (lambda: cb.ReduceLROnPlateau(factor=1.0), ValueError, "ReduceLROnPlateau factor: got 1.0"),
        (lambda: cb.ReduceLROnPlateau(min_lr=-1), ValueError, "ReduceLROnPlateau min_lr: got -1"),
        (
            lambda: cb.EarlyStopping("val_mine"),
            ValueError,
            "EarlyStopping mode: got 'auto' for 'val_mine', of which nobody knows .* takes 'min' or 'max'",
        ),
        (lambda: cb.ModelCheckpoint("m", "gain"), ValueError, "ModelCheckpoint mode: got 'auto' for 'gain'"),
        (lambda: cb.ReduceLROnPlateau("neg_gain"), ValueError, "ReduceLROnPlateau mode: got 'auto'"),
        (lambda: cb.EarlyStopping(3), TypeError, "EarlyStopping monitor: got 3"),
        (lambda: cb.EarlyStopping(baseline="a"), ValueError, "EarlyStopping baseline: got 'a'"),
        (lambda: cb.LambdaCallback(on_epoch_end=3), TypeError, "LambdaCallback on_epoch_end: got 3"),
    ],
)
def test_bad_arguments(make, kind, text):
    with pytest.raises(kind, match=text):
        make()


def test_the_best_epoch_of_scikit_learns_scores_is_that_of_the_largest(data):
    metrics = pytest.importorskip("sklearn.metrics")
    X, y = data
    scores = [metrics.roc_auc_score, metrics.matthews_corrcoef]
    t = fb.Trainer(fb.MLP([6, 32, 1], seed=0), "bce_with_logits", fb.Adam(0.05), seed=0)
    said = cb.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(
        val_matthews_corrcoef=logs["val_f1"]))  # fmt: skip
    best = [cb.EarlyStopping("val_roc_auc_score", patience=99, restore_best_weights=True),
            cb.EarlyStopping("val_matthews_corrcoef", patience=99),
            cb.EarlyStopping("val_roc_auc", patience=99)]  # fmt: skip
    history = t.fit(X, y, 30, validation_split=0.5, metrics=[scores[0], "f1", "auc"], callbacks=[said, *best])
    values = history.history["val_roc_auc_score"]
    assert best[0].best == max(values) and best[0].best_epoch == values.index(max(values))
    assert best[1].best == max(history.history["val_f1"])
    assert best[2].best == max(
        history.history["val_auc"]
    )  # where the fit has no such name, what it stands for
    assert scores[0](y[60:], t.predict(X[60:])) == pytest.approx(max(values))


def test_bad_callbacks_in_fit(data):
    X, y = data
    with pytest.raises(TypeError, match="callbacks: got 'stop'"):
        trainer().fit(X, y, callbacks=["stop"])
    with pytest.raises(ValueError, match="early_stopping: got it without validation_data"):
        trainer().fit(X, y, early_stopping=3)
    with pytest.raises(ValueError, match="early_stopping: got 0"):
        trainer().fit(X, y, early_stopping=0, validation_split=0.5)
    with pytest.raises(
        ValueError, match="monitor: got 'val_loss', this fit measures loss, accuracy, seconds"
    ):
        trainer().fit(X, y, callbacks=[cb.EarlyStopping()])


def test_functions_as_a_callback_are_told_what_keras_tells_them():
    seen = []
    callback = fb.LambdaCallback(
        on_train_begin=lambda logs: seen.append(("begin", logs)),
        on_train_end=lambda logs: seen.append(("end", logs)),
        on_epoch_begin=lambda epoch, logs: seen.append(epoch),
        on_epoch_end=lambda epoch, logs: seen.append(sorted(logs)),
    )
    X, y = np.eye(4, dtype="f4"), np.arange(4)
    fb.Trainer(fb.MLP([4, 4], seed=0), seed=0).fit(X, y, callbacks=[callback], verbose=0)
    assert seen == [("begin", {}), 0, ["accuracy", "loss", "seconds"], ("end", {})]
