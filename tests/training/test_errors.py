"""Every mistake is named: the argument, what came, what it takes, before anything is changed."""

import numpy as np
import pytest

import fastbp as fb
from fastbp import errors, initializers, losses, metrics, schedules
from fastbp.engine import devices
from fastbp.kernels import codes
from fastbp.network import activations
from fastbp.optimizers import OPTIMIZERS

X = np.random.default_rng(0).standard_normal((20, 4))
Y = np.arange(20) % 3


def trainer(**options):
    return fb.Trainer(fb.MLP([4, 8, 3], seed=0), **{"batch_size": 8, **options})


def changed(array, place, value):
    result = np.array(array, float)
    result[place] = value
    return result


FIT = {
    "nan": (changed(X, (7, 2), np.nan), Y, ValueError, "X: got nan at row 7, column 2"),
    "inf": (changed(X, (19, 0), -np.inf), Y, ValueError, "X: got -inf at row 19, column 0"),
    "columns": (X[:, :3], Y, ValueError, "X: got 3 columns, takes 4"),
    "one row": (X[0], Y, ValueError, r"X: got shape \(4,\), takes \(N, 4\)"),
    "empty": (X[:0], Y[:0], ValueError, "X: got no rows"),
    "text": ([["a"] * 4] * 20, Y, TypeError, "X: got dtype <U1, takes numbers"),
    "objects": (X.astype(object), Y, TypeError, "X: got dtype object"),
    "complex": (X * 1j, Y, TypeError, "X: got dtype complex128"),
    "lengths": (X, Y[:-1], ValueError, "y: got 19 rows, takes 20"),
    "number": (X, 3, ValueError, "y: got a single number"),
    "high": (X, np.where(Y == 2, 3, Y), ValueError, "y: got label 3, takes 0 to 2"),
    "uint64": (X, np.where(Y == 2, 2**64 - 1, Y).astype("u8"), ValueError, "got label 18446744073709551615"),
    "low": (X, Y - 1, ValueError, "y: got label -1, takes 0 to 2"),
    "float": (X, Y.astype(float), TypeError, "y: got float64 labels, loss 'cross_entropy' takes integer"),
    "rows": (X, np.ones((20, 3)), ValueError, "takes rows of probabilities"),
    "wide": (X, np.eye(4)[Y], ValueError, r"y: got shape \(20, 4\)"),
    "too large": (
        changed(X, (3, 1), 1e300),
        Y,
        ValueError,
        "X: got 1e.300 at row 3, column 1, takes finite float32",
    ),
    "ragged": ([[1.0], [2.0, 3.0]], [0, 1], ValueError, "X: got what is no array"),
    "masked": (np.ma.masked_greater(X, 0), Y, TypeError, "X: got a masked array"),
    "nearly one-hot": (X, np.tile([1.0, 0.5, 0.0], (20, 1)), ValueError, "takes rows of probabilities"),
    "strings": (X, Y.astype(str), TypeError, "y: got dtype <U"),
}


@pytest.mark.parametrize("case", FIT)
def test_fit_says_what_is_wrong_and_changes_nothing(case):
    features, targets, kind, text = FIT[case]
    t = trainer()
    before = t.net.params.copy()
    for call in (t.fit, t.evaluate, t.gradients):
        with pytest.raises(kind, match=text):
            call(features, targets)
    with pytest.raises(kind, match=text):
        t.fit(X, Y, validation_data=(features, targets))
    assert np.array_equal(t.net.params, before) and t.steps == 0 and t.epochs == 0


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0), (299, 16), (150, 36)])  # whole vectors and the rest of a row
def test_predict_sees_what_is_not_finite(dtype, bad, place):
    trainer = fb.Trainer(fb.MLP([37, 5, 3], seed=0), batch_size=8)
    for rows in (300, 20):  # of 300 rows, and of 20 or fewer that hold the bad one
        X = changed(np.zeros((300, 37)), place, bad).astype(dtype)
        start = min(place[0], 300 - rows)
        with pytest.raises(ValueError, match=f"X: got {bad} at row {place[0] - start}, column {place[1]}"):
            trainer.predict(X[start : start + rows])
    assert np.isfinite(trainer.predict(np.zeros((5, 37)))).all()


def test_predict_checks_its_rows():
    for bad in ("nan", "columns", "empty"):
        with pytest.raises(FIT[bad][2], match=FIT[bad][3]):
            trainer().predict(FIT[bad][0])


REGRESSION = {
    "nan": (changed(np.zeros((20, 3)), (4, 1), np.nan), "y: got nan at row 4, column 1"),
    "vector": (np.zeros(20), r"y: got shape \(20,\), loss 'mse' takes \(20, 3\)"),
    "labels": (Y, "integer labels go with loss='cross_entropy'"),
}


@pytest.mark.parametrize("case", REGRESSION)
def test_regression_targets(case):
    targets, text = REGRESSION[case]
    with pytest.raises(ValueError, match=text):
        trainer(loss="mse").fit(X, targets)


def test_binary_targets():
    t = fb.Trainer(fb.MLP([4, 1], seed=0), "bce_with_logits")
    with pytest.raises(ValueError, match="y: got 2, loss 'bce_with_logits' takes numbers from 0 to 1"):
        t.fit(X, Y)
    with pytest.raises(ValueError, match="y: got -0.5"):
        t.fit(X, Y - 0.5)


SETUP = {
    "batch 0": (dict(batch_size=0), ValueError, "batch_size: got 0"),
    "batch -1": (dict(batch_size=-1), ValueError, "batch_size: got -1"),
    "batch 2.5": (dict(batch_size=2.5), TypeError, "batch_size: got 2.5"),
    "loss": (dict(loss="crossentropy"), ValueError, "loss: got 'crossentropy'; did you mean 'cross_entropy'"),
    "optimizer": (dict(optimizer="adamm"), ValueError, "optimizer: got 'adamm'; did you mean 'adam"),
    "optimizer type": (dict(optimizer=0.1), TypeError, "optimizer: got 0.1"),
    "device": (dict(device="gpu0"), ValueError, "device: got 'gpu0'"),
    "cuda": (dict(device="cuda"), RuntimeError, 'device: got "cuda"'),
    "threads": (dict(threads=0), ValueError, "threads: got 0"),
    "many threads": (dict(threads=10_000), ValueError, "threads: got 10000, takes 1 to"),
    "seed": (dict(seed=-1), ValueError, "seed: got -1"),
    "large seed": (dict(seed=2**63), ValueError, "seed: got 9223372036854775808"),
    "clip text": (dict(clip_norm="1"), ValueError, "clip_norm: got '1'"),
    "loss list": (dict(loss=["mse"]), ValueError, "loss: got"),
    "clip": (dict(clip_norm=0), ValueError, "clip_norm: got 0"),
    "clip twice": (dict(clip_norm=1, clip_layer_norm=2), ValueError, "clip_layer_norm: got 2.0 beside"),
    "clip value": (dict(clip_value=-1), ValueError, "clip_value: got -1"),
    "max_norm": (dict(max_norm=float("nan")), ValueError, "max_norm: got nan"),
    "l1": (dict(l1=-1e-3), ValueError, "l1: got -0.001"),
    "decay_bias": (dict(decay_bias="no"), TypeError, "decay_bias: got 'no'"),
    "factors": (dict(lr_factors=[1, 2, 3]), ValueError, "lr_factors: got 3 numbers, takes 2"),
    "factor": (dict(lr_factors=[1, -2]), ValueError, "lr_factors: got -2, takes 2 numbers"),
    "one factor": (dict(lr_factors=0.5), TypeError, "lr_factors: got 0.5"),
    "accumulate": (dict(accumulate=0), ValueError, "accumulate: got 0"),
    "accumulate 1.5": (dict(accumulate=1.5), ValueError, "accumulate: got 1.5"),
    "ema": (dict(ema=1), ValueError, "ema: got 1"),
    "schedule": (dict(schedule="cosin"), ValueError, "schedule: got 'cosin'; did you mean 'cosine'"),
    "schedule type": (dict(schedule=0.1), TypeError, "schedule: got 0.1"),
}


MEANT = {  # of Keras, scikit-learn and torch: what is taken in the place of which name
    "categorical_crossentropy": lambda: trainer(loss="categorical_crossentropy").loss.name == "cross_entropy",
    "sparse": lambda: trainer(loss="sparse_categorical_crossentropy").loss.name == "cross_entropy",
    "CrossEntropyLoss": lambda: trainer(loss="CrossEntropyLoss").loss.name == "cross_entropy",
    "binary_crossentropy": lambda: trainer(loss="binary_crossentropy").loss.name == "bce_with_logits",
    "mean_squared_error": lambda: trainer(loss="mean_squared_error").loss.name == "mse",
    "MSE": lambda: trainer(loss="MSE").loss.name == "mse",
    "acc": lambda: "accuracy" in trainer().evaluate(X, Y, metrics=["acc"]),
    "swish": lambda: fb.MLP([4, 8, 3], "swish").activations == ["silu"],
    "logistic": lambda: fb.MLP([4, 8, 3], ["logistic"]).activations == ["sigmoid"],
    "linear": lambda: fb.MLP([4, 8, 3], "linear").activations == ["identity"],
    "ReLU": lambda: fb.MLP([4, 8, 3], "ReLU").activations == ["relu"],
    "batch_norm": lambda: fb.MLP([4, 8, 3], norm="batch_norm").norms == ["batch"],
    "glorot": lambda: (fb.MLP([4, 3], initializer="glorot_normal", seed=0).params
                       == fb.MLP([4, 3], initializer="xavier_normal", seed=0).params).all(),
    "Adam": lambda: trainer(optimizer="Adam").optimizer == fb.Adam(),
    "ReduceLROnPlateau": lambda: trainer(schedule="ReduceLROnPlateau").schedule == fb.schedules.Plateau(),
    "invscaling": lambda: trainer(schedule="invscaling").schedule == fb.schedules.InverseScaling(),
}  # fmt: skip


@pytest.mark.parametrize("word", MEANT)
def test_words_of_others_for_the_same_thing(word):
    assert MEANT[word]()


NEAR = {  # what is near and not the same: the error says which, nobody guesses
    "learning_rate": (lambda: fb.Adam(learning_rate=0.1), TypeError, "Adam: got learning_rate, takes lr"),
    "beta_1": (lambda: fb.NAdam(beta_1=0.9), TypeError, "NAdam: got beta_1, takes betas, a pair"),
    "epsilon": (lambda: fb.RMSprop(1e-3, epsilon=0), TypeError, "RMSprop: got epsilon, takes eps"),
    "bce": (lambda: trainer(loss="bce"), ValueError, "got 'bce'; did you mean 'bce_with_logits'"),
    "log_loss": (lambda: trainer(loss="log_loss"), ValueError, "did you mean 'cross_entropy'"),
    "cosine_similarity": (lambda: trainer(loss="cosine_similarity"), ValueError, "did you mean 'cosine'"),
    "linear": (lambda: trainer(schedule="linear"), ValueError, "did you mean 'polynomial'"),
    "gpu": (lambda: trainer(device="GPU"), RuntimeError, 'device: got "cuda", but'),
}


@pytest.mark.parametrize("word", NEAR)
def test_words_of_others_for_something_near(word):
    call, kind, text = NEAR[word]
    if word == "gpu" and devices.no_gpu() is None:
        assert call().device == "cuda"
        return
    with pytest.raises(kind, match=text):
        call()


def test_the_table_of_words_leads_somewhere():
    """And a word that is ours is never taken for another of ours."""
    names = [*losses.LOSSES, *metrics.METRICS, *activations.NAMES, *codes.NORMS, *initializers.INITIALIZERS,
             *schedules.SCHEDULES, *OPTIMIZERS, *devices.DEVICES]  # fmt: skip
    words = [word for group in errors.SAME.values() for word in group.split()]
    assert set(errors.SAME) <= set(names) and len(words) == len(set(words))
    assert {name for group in errors.NEAR.values() for name in group} <= set(names)
    for kind in (losses.LOSSES, metrics.METRICS, activations.NAMES, schedules.SCHEDULES):
        assert not set(words) & set(kind)
    for name in names:
        assert errors.named("x", name, names) == name
    with pytest.raises(ValueError, match=r"x: got 'swish'; did you mean 'silu'\?"):
        raise errors.unknown("x", "swish", ["swift", "silu"])  # before what is spelled alike


@pytest.mark.parametrize("case", SETUP)
def test_trainer_arguments(case):
    options, kind, text = SETUP[case]
    with pytest.raises(kind, match=text):
        trainer(**options)


NETWORK = {
    "no sizes": (([4],), {}, ValueError, r"sizes: got \[4\]"),
    "zero": (([4, 0, 2],), {}, ValueError, "sizes: got"),
    "float": (([4, 2.5],), {}, TypeError, "sizes: got"),
    "number": ((4,), {}, TypeError, "sizes: got 4"),
    "activation": (([4, 5, 2], "rleu"), {}, ValueError, "activation: got 'rleu'; did you mean 'relu'"),
    "count": (([4, 5, 2], ["relu", "tanh"]), {}, ValueError, "activation: got 2 names"),
    "no dtype": (([4, 2],), {"dtype": "banana"}, ValueError, "dtype: got 'banana'"),
    "dtype": (([4, 2],), {"dtype": "int32"}, ValueError, "dtype: got int32"),
}


@pytest.mark.parametrize("case", NETWORK)
def test_network_arguments(case):
    args, options, kind, text = NETWORK[case]
    with pytest.raises(kind, match=text):
        fb.MLP(*args, **options)


HYPER = [
    (lambda: fb.SGD(0), "SGD lr: got 0"),
    (lambda: fb.SGD("fast"), "SGD lr: got 'fast'"),
    (lambda: fb.Adam(float("nan")), "Adam lr: got nan"),
    (lambda: fb.Adam(betas=(0.9, 1.0)), "Adam betas: got 1.0"),
    (lambda: fb.Adam(betas=0.9), "Adam betas: got 0.9"),
    (lambda: fb.AdamW(eps=-1), "AdamW eps: got -1"),
    (lambda: fb.SGD(momentum=1.5), "SGD momentum: got 1.5"),
    (lambda: fb.SGD(nesterov=True), "SGD nesterov: got True"),
    (lambda: fb.SGD(weight_decay=-0.1), "SGD weight_decay: got -0.1"),
    (lambda: fb.NAdam(momentum_decay=-1), "NAdam momentum_decay: got -1"),
    (lambda: fb.RAdam(0), "RAdam lr: got 0"),
    (lambda: fb.Adamax(betas=(1, 0.9)), "Adamax betas: got 1"),
    (lambda: fb.RMSprop(alpha=1), "RMSprop alpha: got 1"),
    (lambda: fb.RMSprop(momentum=2), "RMSprop momentum: got 2"),
    (lambda: fb.Adagrad(lr_decay=-1), "Adagrad lr_decay: got -1"),
    (lambda: fb.Adagrad(initial_accumulator_value=-1), "Adagrad initial_accumulator_value: got -1"),
    (lambda: fb.Adadelta(rho=1.5), "Adadelta rho: got 1.5"),
    (lambda: fb.Lion(float("inf")), "Lion lr: got inf"),
    (lambda: fb.LBFGS(history_size=0), "LBFGS history_size: got 0"),
    (lambda: fb.LBFGS(tolerance_grad=-1), "LBFGS tolerance_grad: got -1"),
    (lambda: fb.schedules.Step(0), "Step step_size: got 0"),
    (lambda: fb.schedules.MultiStep([3, -1]), "MultiStep milestones"),
    (lambda: fb.schedules.Exponential(-0.1), "Exponential gamma: got -0.1"),
    (lambda: fb.schedules.Cosine(total=2.5), "Cosine total: got 2.5"),
    (lambda: fb.schedules.Cosine(warmup=-1), "Cosine warmup: got -1"),
    (lambda: fb.schedules.Cosine(by="batch"), "Cosine by: got 'batch'"),
    (lambda: fb.schedules.OneCycle(pct_start=1.0), "OneCycle pct_start: got 1.0"),
    (lambda: fb.schedules.Polynomial(power=0), "Polynomial power: got 0"),
    (lambda: fb.schedules.Plateau(factor=1), "Plateau factor: got 1"),
    (lambda: fb.schedules.Plateau(mode="least"), "Plateau mode: got 'least'"),
    (lambda: fb.schedules.Adaptive(tol=-1), "Adaptive tol: got -1"),
]


@pytest.mark.parametrize("make,text", HYPER, ids=[text for _, text in HYPER])
def test_hyperparameters(make, text):
    with pytest.raises(ValueError, match=text):
        make()


def test_a_loss_that_does_not_fit_the_network():
    with pytest.raises(ValueError, match="network with 1 output"):
        fb.Trainer(fb.MLP([4, 1], seed=0), "cross_entropy")
    with pytest.raises(TypeError, match="net: got list, takes an MLP"):
        fb.Trainer([4, 2])


@pytest.mark.parametrize(
    "weight,text",
    [
        (np.ones(19), r"sample_weight: got shape \(19,\), takes \(20,\)"),
        (-np.ones(20), "sample_weight: got -1.0"),
        (np.zeros(20), "sample_weight: got only zeros"),
        (changed(np.ones(20), 3, np.nan), "sample_weight: got nan at row 3"),
    ],
)
def test_sample_weights(weight, text):
    with pytest.raises(ValueError, match=text):
        trainer().fit(X, Y, sample_weight=weight)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_loss_that_is_no_longer_finite(threads):
    """Stops at once, says where, and leaves finite weights."""
    t = fb.Trainer(fb.MLP([4, 8, 3], seed=0), "mse", fb.SGD(1e12), batch_size=8, threads=threads)
    with pytest.raises(FloatingPointError, match=r"loss: became .* in step \d+ of epoch \d+.*lower lr"):
        t.fit(X, np.ones((20, 3)), epochs=50)
    assert t.steps > 0


@pytest.mark.parametrize("loss", ["cross_entropy", "bce_with_logits", "mse"])
def test_a_loss_that_is_not_finite_in_the_first_step(loss):
    t = trainer(loss=loss)
    t.net.weights[0][0, 0] = np.nan
    with pytest.raises(FloatingPointError, match=r"became nan .* in step 1 of epoch 1"):
        t.fit(X, Y if loss == "cross_entropy" else np.zeros((20, 3)))
    assert t.steps == 0


def test_epochs_and_verbose():
    with pytest.raises(ValueError, match="epochs: got -1"):
        trainer().fit(X, Y, epochs=-1)
    with pytest.raises(ValueError, match="verbose: got 7"):
        trainer().fit(X, Y, verbose=7)
    with pytest.raises(ValueError, match="validation_data: got int"):
        trainer().fit(X, Y, validation_data=3)


@pytest.mark.parametrize(
    "schedule,optimizer,text",
    [
        (fb.schedules.Cosine(total=2), "adam", "schedule: Cosine ends after 2 steps, this fit after 3"),
        (fb.schedules.Polynomial(total=3, by="epoch"), "adam", None),
        (fb.schedules.OneCycle(), "adagrad", "OneCycle cycle_momentum: got True with Adagrad.*takes False$"),
        (lambda step: -0.1 if step == 1 else 0.1, "adam", "schedule: gave -0.1 for update 1"),
        (lambda step: float("nan"), "adam", "schedule: gave nan for update 0"),
        (fb.schedules.Plateau(monitor="val_auc"), "adam", "Plateau monitor: got 'val_auc'"),
    ],
)
def test_schedules_that_do_not_fit(schedule, optimizer, text):
    """And a cycle of momentum that came after an optimizer without."""
    late = trainer(optimizer="sgd")
    late.schedule = fb.schedules.OneCycle()
    with pytest.raises(ValueError, match="got True with SGD.*takes False, or a Trainer made with this"):
        late.fit(X, Y)
    t = trainer(schedule=schedule, optimizer=optimizer)
    if text is None:
        t.fit(X, Y, epochs=3)
        text = "schedule: Polynomial ends after 3 epochs, this fit after 4"
    with pytest.raises(ValueError, match=text):
        t.fit(X, Y)


def test_an_average_that_is_not_kept():
    for call in (trainer().predict, trainer().forward):
        with pytest.raises(ValueError, match="ema: got True, but no average is kept"):
            call(X, ema=True)
    with pytest.raises(ValueError, match="takes a new Trainer"):
        late = trainer()
        late.ema = 0.9
        late.fit(X, Y)


def test_lbfgs_without_scipy(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ImportError, match="LBFGS: SciPy is needed: pip install"):
        trainer(optimizer="lbfgs").fit(X, Y)
