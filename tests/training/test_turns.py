"""One trainer in several threads, and called from within: nothing is lost, and nothing waits for itself."""

import threading
import time

import numpy as np
import pytest

import fastbp as fb


def trainer(**options):
    return fb.Trainer(fb.MLP([6, 16, 3], seed=0), batch_size=16, seed=1, threads=1, **options)


@pytest.fixture
def data(rng):
    return rng.standard_normal((64, 6)).astype("f4"), rng.integers(0, 3, 64)


def at_once(*calls):
    """Run functions in threads of their own; returns what they returned, or raises what one raised."""
    found, errors = [None] * len(calls), []

    def run(k, call):
        try:
            found[k] = call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=pair, daemon=True) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "it waits for ever"
    if errors:
        raise errors[0]
    return found


# --- several threads


def test_two_fits_at_once_are_one_after_the_other(data):
    t, other = trainer(), trainer()
    at_once(*[lambda: t.fit(*data, epochs=40)] * 3)
    other.fit(*data, epochs=120)
    assert (t.steps, t.epochs) == (other.steps, other.epochs) == (480, 120)
    assert np.array_equal(t.net.params, other.net.params)


@pytest.mark.parametrize("method,steps", [("train_on_batch", 1), ("partial_fit", 4)])
def test_no_step_of_several_threads_is_lost(data, method, steps):
    t, other = trainer(), trainer()

    def many():
        for _ in range(60):
            getattr(t, method)(*data)

    at_once(many, many, many, many)
    for _ in range(240):
        getattr(other, method)(*data)
    assert t.steps == other.steps == 240 * steps
    assert np.array_equal(t.net.params, other.net.params)


def test_reading_beside_a_fit_sees_whole_epochs_and_disturbs_nothing(data, tmp_path):
    """What another thread predicts or saves meanwhile are the weights of one epoch's end."""
    X, y = data
    t, other, states = trainer(), trainer(), set()
    other.fit(X, y, 60, callbacks=fb.LambdaCallback(
        on_epoch_end=lambda epoch, logs: states.add(other.predict(X).tobytes())))  # fmt: skip
    states.add(trainer().predict(X).tobytes())
    ended, seen = threading.Event(), []

    def read():
        while not ended.is_set():
            seen.append(t.predict(X).tobytes())
            t.save(tmp_path / f"{threading.get_ident()}.safetensors")
            again = fb.load(tmp_path / f"{threading.get_ident()}.safetensors")
            assert again.steps == 4 * again.epochs and again.predict(X).tobytes() in states
            t.evaluate(X, y), t.gradients(X, y), t.forward(X), t.activations(X)

    def fit():
        t.fit(X, y, 60, callbacks=fb.LambdaCallback(on_epoch_end=lambda epoch, logs: time.sleep(0.005)))
        ended.set()

    at_once(read, read, fit)
    assert len(seen) > 1 and set(seen) <= states
    assert np.array_equal(t.net.params, other.net.params)


def test_a_callback_and_a_hook_may_ask_another_thread(data):
    """They hold no lock that a prediction needs: a thread that is waited for would never end."""
    t, found = trainer(), []

    def ask(*arguments):
        found.append(at_once(lambda: t.predict(data[0]))[0])

    t.fit(*data, epochs=2, callbacks=fb.LambdaCallback(on_epoch_begin=ask, on_epoch_end=ask))
    t.gradient_hook = ask
    t.train_on_batch(*data), t.fit(*data), t.diagnose(*data)
    assert len(found) == 4 + 1 + 4 + 1


def test_the_maker_of_a_stream_may_predict(data):
    t = trainer()

    def hard():
        for _ in range(3):
            doubt = t.predict(data[0]).max(axis=1)
            yield data[0][doubt < 0.9], data[1][doubt < 0.9]

    assert t.fit(hard, epochs=2).epochs == 2


# --- from within


def refused(data, method, place, inside, call, t):
    with pytest.raises(RuntimeError, match=f"^{method}: called from {place} inside {inside}, which has not"):
        at_once(call)
    t.gradient_hook, t.schedule = None, None
    assert np.isfinite(t.fit(*data).history["loss"][0])  # it is as good as before


@pytest.mark.parametrize("event", ["on_train_begin", "on_epoch_begin", "on_epoch_end", "on_train_end"])
def test_a_callback_that_calls_fit(data, event):
    t = trainer()
    nested = fb.LambdaCallback(**{event: lambda *arguments: t.fit(*data)})
    refused(data, "fit", f"{event} of LambdaCallback", "fit", lambda: t.fit(*data, callbacks=nested), t)


@pytest.mark.parametrize("inner", ["fit", "train_on_batch", "partial_fit"])
@pytest.mark.parametrize("outer", ["fit", "train_on_batch", "partial_fit"])
def test_a_hook_that_trains(data, outer, inner):
    t = trainer()
    t.gradient_hook = lambda gradients: getattr(t, inner)(*data)
    refused(data, inner, "the gradient_hook", outer, lambda: getattr(t, outer)(*data), t)


def test_a_metric_a_schedule_and_a_stream_that_train(data):
    def odd(y_true, prediction):
        return t.train_on_batch(*data)

    t = trainer()
    refused(data, "train_on_batch", "a metric", "fit", lambda: t.fit(*data, metrics=[odd]), t)
    t.schedule = odd_rate = lambda step: t.train_on_batch(*data)
    assert callable(odd_rate)
    refused(data, "train_on_batch", "the schedule", "partial_fit", lambda: t.partial_fit(*data), t)

    def batches():
        t.fit(*data)
        yield data

    refused(data, "fit", "a stream of batches", "fit", lambda: t.fit(batches), t)


def test_a_callback_of_lbfgs_that_calls_fit(data):
    pytest.importorskip("scipy")
    t = trainer(optimizer=fb.LBFGS())
    nested = fb.LambdaCallback(on_epoch_end=lambda epoch, logs: t.fit(*data))
    call = lambda: t.fit(*data, epochs=3, callbacks=nested)  # noqa: E731
    refused(data, "fit", "on_epoch_end of LambdaCallback", "fit", call, t)


def test_what_a_callback_may_call(data, tmp_path):
    X, y = data
    t = trainer()

    def everything(epoch, logs):
        t.partial_fit(X, y), t.train_on_batch(X, y), t.evaluate(X, y), t.predict(X), t.gradients(X, y)
        t.save(tmp_path / "m.safetensors"), t.lr_find(X, y, steps=5), t.diagnose(X, y), t.explain(0.01)

    t.fit(X, y, epochs=2, callbacks=fb.LambdaCallback(on_epoch_end=everything))
    assert t.steps == 2 * (4 + 4 + 1) and t.epochs == 2
    t.gradient_hook = lambda gradients: (t.predict(X), t.evaluate(X, y), t.forward(X))
    t.fit(X, y)
    assert t.epochs == 3
