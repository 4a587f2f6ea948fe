"""Metrics against scikit-learn, and how fit and evaluate report them."""

import numpy as np
import pytest

import fastbp as fb
from fastbp import metrics

sk = pytest.importorskip("sklearn.metrics")


def soft(rng, rows, classes):
    return rng.dirichlet(np.full(classes, 0.7), rows)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_classes(rng, classes, weighted):
    y, p = rng.integers(0, classes, 300), soft(rng, 300, classes)
    y[:classes] = np.arange(classes)
    p[:150] = np.round(p[:150], 1)  # ties
    p /= p.sum(1, keepdims=True)
    w = rng.uniform(0.1, 2, 300) if weighted else None
    said, average = p.argmax(1), "binary" if classes == 2 else "macro"
    score = p[:, 1] if classes == 2 else p
    expected = {
        "accuracy": sk.accuracy_score(y, said, sample_weight=w),
        "auc": np.mean(
            [sk.roc_auc_score(y == c, p[:, c], sample_weight=w) for c in range(classes)]
            if classes > 2
            else sk.roc_auc_score(y, score, sample_weight=w)
        ),
        "f1": sk.f1_score(y, said, average=average, sample_weight=w),
        "precision": sk.precision_score(y, said, average=average, sample_weight=w, zero_division=0),
        "recall": sk.recall_score(y, said, average=average, sample_weight=w),
        "log_loss": sk.log_loss(y, p, sample_weight=w, labels=range(classes)),
    }
    if classes > 2 and not weighted:
        assert expected["auc"] == pytest.approx(sk.roc_auc_score(y, p, multi_class="ovr"), rel=1e-12)
    for name, value in expected.items():
        assert metrics.METRICS[name](y, p, w) == pytest.approx(value, rel=1e-12), name


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k(rng, k):
    y, p, w = rng.integers(0, 8, 200), soft(rng, 200, 8), rng.uniform(0, 2, 200)
    expected = sk.top_k_accuracy_score(y, p, k=k, sample_weight=w, labels=range(8))
    assert metrics.top_k(y, p, w, k) == pytest.approx(expected, rel=1e-12)
    assert metrics.table([f"top_{k}"])[f"top_{k}"](y, p, w) == metrics.top_k(y, p, w, k)
    assert metrics.top_k([0], [[0.5, 0.5]], k=1) == 0  # a tie is no answer


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("outputs", [1, 4])
def test_yes_or_no(rng, outputs, weighted):
    y, p = rng.integers(0, 2, (200, outputs)), rng.uniform(size=(200, outputs)).round(2)
    w = rng.uniform(0.1, 2, 200) if weighted else None
    said, average = p > 0.5, "binary" if outputs == 1 else "macro"
    ys, ps, saids = (a[:, 0] if outputs == 1 else a for a in (y, p, said))
    expected = {
        "auc": sk.roc_auc_score(ys, ps, sample_weight=w),
        "f1": sk.f1_score(ys, saids, average=average, sample_weight=w),
        "precision": sk.precision_score(ys, saids, average=average, sample_weight=w),
        "recall": sk.recall_score(ys, saids, average=average, sample_weight=w),
        "accuracy": np.average((y == said).mean(1), weights=w),
        "log_loss": np.mean([sk.log_loss(*c, sample_weight=w) for c in zip(y.T, p.T, strict=True)]),
    }
    for name, value in expected.items():
        assert metrics.METRICS[name](y, p, w) == pytest.approx(value, rel=1e-12), name
        assert metrics.METRICS[name](ys, ps, w) == metrics.METRICS[name](y, p, w)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("outputs", [1, 3])
def test_numbers(rng, outputs, weighted):
    y, p = rng.standard_normal((2, 100, outputs))
    p += y
    w = rng.uniform(0, 2, 100) if weighted else None
    expected = {
        "r2": sk.r2_score(y, p, sample_weight=w),
        "mae": sk.mean_absolute_error(y, p, sample_weight=w),
        "mse": sk.mean_squared_error(y, p, sample_weight=w),
        "rmse": sk.root_mean_squared_error(y, p, sample_weight=w),
    }
    for name, value in expected.items():
        assert metrics.METRICS[name](y, p, w) == pytest.approx(value, rel=1e-12), name


def test_where_a_quotient_is_0_over_0():
    y, p = np.array([0, 0]), np.array([[0.9, 0.1], [0.8, 0.2]])
    assert metrics.precision(y, p) == metrics.recall(y, p) == metrics.f1(y, p) == 0
    assert np.isnan(metrics.auc(y, p))
    assert metrics.r2([1.0, 1.0], [1.0, 1.0]) == 1 and metrics.r2([1.0, 1.0], [1.0, 2.0]) == 0


@pytest.mark.parametrize(
    "call,kind,text",
    [
        (lambda: metrics.table(["auk"]), ValueError, "metrics: got 'auk'; did you mean 'auc'"),
        (lambda: metrics.table([3]), TypeError, "metrics: got 3, takes names or functions"),
        (lambda: metrics.table("top_0"), ValueError, "metrics: got 'top_0'"),
        (lambda: metrics.r2([0, 1], np.eye(2)), ValueError, "r2: got class labels and 2 probabilities"),
        (lambda: metrics.top_k([0.5], [0.5]), ValueError, "top_k: got y_true of shape"),
        (lambda: metrics.mae(np.zeros(3), np.zeros(4)), ValueError, r"y_true: got shape \(3,\)"),
        (
            lambda: metrics.measure({"odd": lambda y, p: "x"}, *np.zeros((2, 3))),
            TypeError,
            "odd returned 'x'",
        ),
    ],
)
def test_errors(call, kind, text):
    with pytest.raises(kind, match=text):
        call()


def test_fit_and_evaluate(rng):
    X, y = rng.standard_normal((90, 5)).astype("f4"), np.arange(90) % 3
    t = fb.Trainer(fb.MLP([5, 8, 3], seed=0), seed=0)

    def own(y_true, prediction):
        assert y_true.shape == (30,) and prediction.shape == (30, 3)
        return sk.roc_auc_score(y_true, prediction, multi_class="ovo")

    names = ["auc", "top_2", own, "accuracy"]
    history = t.fit(X[:60], y[:60], epochs=2, validation_data=(X[60:], y[60:]), metrics=names)
    assert list(history.history) == [
        "loss", "accuracy", "val_loss", "val_accuracy", "val_auc", "val_top_2", "val_own", "seconds",
    ]  # fmt: skip
    p = t.predict(X[60:])
    assert history.history["val_auc"][1] == metrics.auc(y[60:], p)
    assert history.history["val_own"][1] == own(y[60:], p)
    assert t.evaluate(X[60:], y[60:], metrics="top_2")["top_2"] == metrics.top_k(y[60:], p, k=2)
    for targets in (np.eye(3)[y], np.eye(3)[y] * 0.8 + 0.2 / 3):  # one-hot, soft
        assert t.evaluate(X, targets, metrics=["f1"])["f1"] == metrics.f1(y, t.predict(X))
    # without validation data: of the training data, after the epoch
    history = t.fit(X, y, metrics=["auc", "accuracy"])
    assert history.history["auc"] == [metrics.auc(y, t.predict(X))]
    assert history.history["accuracy"][0] == history.history["accuracy"][-1]


def test_one_output_is_one_column_and_weights_count(rng):
    X, y, w = rng.standard_normal((40, 5)), rng.integers(0, 2, 40), rng.uniform(0.5, 2, 40)
    t = fb.Trainer(fb.MLP([5, 8, 1], seed=0), "bce_with_logits", seed=0)
    result = t.evaluate(X, y, sample_weight=w, metrics=[sk.roc_auc_score, "log_loss"])
    assert result["roc_auc_score"] == pytest.approx(sk.roc_auc_score(y, t.predict(X)[:, 0], sample_weight=w))
    assert result["log_loss"] == pytest.approx(result["loss"], rel=1e-5)
    history = t.fit(X, y, validation_data=(X, y, w), metrics="log_loss").history
    assert history["val_log_loss"][0] == pytest.approx(history["val_loss"][0], rel=1e-5)


def test_the_better_direction():
    larger = ("val_accuracy", "auc", "val_top_3", "f1", "val_r2", "precision", "val_recall", "val_acc")
    assert {metrics.direction(name) for name in larger} == {1}
    assert {metrics.direction(name) for name in ("loss", "val_loss", "rmse", "val_mae", "log_loss")} == {-1}
    assert not any(map(metrics.direction, ("my_score", "val_gain", "seconds", "lr", "top_", "neg_gain", "")))


def test_the_direction_of_all_of_scikit_learns_names():
    """By its own scorers: larger is better of each, and of a function where it does not turn the sign."""
    known = {}
    for name in sk.get_scorer_names():
        scorer = sk.get_scorer(name)
        known[name], known[scorer._score_func.__name__] = 1, scorer._sign
    assert len(known) > 70
    known |= dict.fromkeys(["calinski_harabasz_score", "cohen_kappa_score", "consensus_score", "dcg_score",
        "d2_pinball_score", "d2_tweedie_score", "fbeta_score", "label_ranking_average_precision_score",
        "ndcg_score", "silhouette_score"], 1)  # fmt: skip
    known |= dict.fromkeys(
        [
            "brier_score_loss",
            "coverage_error",
            "davies_bouldin_score",
            "hamming_loss",
            "hinge_loss",
            "label_ranking_loss",
            "mean_pinball_loss",
            "mean_tweedie_deviance",
            "zero_one_loss",
        ],
        -1,
    )
    odd = {"positive_likelihood_ratio", "negative_likelihood_ratio", "average_precision"}
    wrong = {name for name, sign in known.items() if metrics.direction(f"val_{name}") != sign}
    assert {name for name in wrong if name not in odd and not name.startswith("_")} == set()
    ends = ("_score", "_loss", "_error", "_deviance", "_corrcoef")
    left = [name for name in sk.__all__ if name.endswith(ends) and not metrics.direction(name)]
    assert left == []  # what a later scikit-learn adds is noticed here


def test_names_that_a_fit_has_already_and_names_that_come_twice():
    def named(name):
        def f(y_true, prediction):
            return 0.0

        f.__name__ = name
        return f

    for name in ("loss", "accuracy", "seconds", "lr", "epoch", "val_mine", "val_loss"):
        with pytest.raises(
            ValueError, match=f"metrics: got a function named '{name}', under which a fit has"
        ):
            metrics.table([named(name)])
    for twice in (["f1", named("f1")], [named("a"), named("a")], ["auc", "f1", "auc"], ["acc", "accuracy"]):
        with pytest.raises(ValueError, match="metrics: got two named '.*', takes names that differ"):
            metrics.table(twice)
    lambdas = [lambda y, p: 0.0, lambda y, p: 1.0]
    with pytest.raises(ValueError, match="two named '<lambda>'"):
        metrics.table(lambdas)
    assert list(metrics.table([named("mine"), "mean_squared_error", "roc_auc", metrics.accuracy])) == [
        "mine", "mse", "auc", "accuracy"]  # fmt: skip


def test_accuracy_as_a_metric_takes_the_weights(rng):
    X, y = rng.standard_normal((50, 3)), rng.integers(0, 2, 50)
    w, t = np.where(y == 1, 9.0, 1.0), fb.Trainer(fb.MLP([3, 8, 2], seed=0), seed=0)
    expected = sk.accuracy_score(y, t.predict(X).argmax(1), sample_weight=w)
    assert t.evaluate(X, y, w, metrics=["accuracy"])["accuracy"] == pytest.approx(expected)
    history = t.fit(X, y, metrics="accuracy", sample_weight=w, validation_data=(X, y, w)).history
    expected = sk.accuracy_score(y, t.predict(X).argmax(1), sample_weight=w)
    assert history["val_accuracy"] == [pytest.approx(expected)]
    history = t.fit(X, y, metrics=["acc"], sample_weight=w).history
    expected = sk.accuracy_score(y, t.predict(X).argmax(1), sample_weight=w)
    assert history["accuracy"] == [pytest.approx(expected)]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
@pytest.mark.parametrize("present", [True, False])
def test_a_class_of_weight_0_is_a_class(rng, present):
    """Macro means are over the classes that anybody names, whatever they weigh."""
    y, p = rng.integers(0, 3 + present, 200), soft(rng, 200, 5)
    p[:, 4] = 0
    w = np.where(np.isin(y, [0, 3]), 0.0, rng.uniform(0.1, 2, 200))
    said = p.argmax(1)
    for name in ("f1", "precision", "recall"):
        theirs = getattr(sk, f"{name}_score")(y, said, average="macro", sample_weight=w, zero_division=0)
        assert metrics.METRICS[name](y, p, w) == pytest.approx(theirs, rel=1e-12), name
    assert metrics.accuracy(y, p, w) == pytest.approx(sk.accuracy_score(y, said, sample_weight=w))


@pytest.mark.parametrize("bad", [-1, 3, 2**64 - 1])
def test_labels_that_are_no_column(bad):
    y = np.array([0, bad], np.uint64 if bad > 3 else np.int64)
    for name in ("accuracy", "top_k", "auc", "f1", "log_loss"):
        with pytest.raises(ValueError, match=f"y_true: got label {bad}, takes 0 to 2"):
            metrics.METRICS[name](y, np.eye(3)[:2])
