"""Preparation of columns: in the file and in use, missing values, names of classes, hostile files."""

import json

import numpy as np
import pytest
from libraries import frames_of

import fastbp as fb
from fastbp.data.frames import Frame
from fastbp.preparation import Preparation


def test_preparation_is_in_the_file_and_applied_in_use(rng, tmp_path):
    kind = rng.choice(["u", "v", "w"], 80)
    X = Frame(["t", "k", "n"], [rng.normal(size=80) * 5 + 1e6, kind, rng.integers(0, 9, 80)])
    y = 1e4 + X.columns[0] * 3 + np.select([kind == "u", kind == "v"], [5.0, -5.0])
    preparation = Preparation.fit(X, y[:, None], target="y")
    assert preparation.inputs == 5 and preparation.input_names == ["t", "k=u", "k=v", "k=w", "n"]
    encoded = preparation.transform(X, np.float64)
    assert encoded[:, [0, 4]].mean(axis=0) == pytest.approx(0, abs=1e-9)
    assert encoded[:, [0, 4]].std(axis=0) == pytest.approx(1)
    assert np.array_equal(encoded[:, 1:4], np.array(["u", "v", "w"]) == kind[:, None])
    trainer = fb.Trainer(fb.MLP([5, 9, 1], "tanh", seed=0), "mse", fb.Adam(0.01), seed=0)
    trainer.preparation = preparation
    trainer.fit(X, y, epochs=60)
    assert np.corrcoef(trainer.predict(X)[:, 0], y)[0, 1] > 0.9
    trainer.save(tmp_path / "m.safetensors")
    again = fb.load(tmp_path / "m.safetensors")
    shuffled = Frame(["n", "t", "k"], [X.columns[2], X.columns[0], kind])
    assert np.array_equal(again.predict(shuffled), trainer.predict(X))
    trainer.fit(X, y), again.fit(shuffled, y)
    assert np.array_equal(again.net.params, trainer.net.params)


def test_missing_values_are_filled_as_in_training(rng, tmp_path):
    """Numbers by the median of the training, texts as a category; in use too, and after loading."""
    x, kind = rng.normal(size=60), rng.choice(["u", "v"], 60)
    x[::5], kind[::7] = np.nan, ""
    X, y = Frame(["x", "k", "n"], [x, kind, np.arange(60)]), rng.choice(["n", "p"], 60)
    preparation = Preparation.fit(X, classes=["n", "p"])
    middle = np.median(x[~np.isnan(x)])
    assert preparation.fill.tolist() == [middle, 0, 29.5]
    assert preparation.input_names == ["x", "k=(missing)", "k=u", "k=v", "n"]
    said = preparation.summary()
    assert f"'x': 12 missing, the median {middle:.4g} instead" in said and "missing (9) is one" in said
    filled = Frame(X.names, [np.where(np.isnan(x), middle, x), *X.columns[1:]])
    assert np.array_equal(preparation.transform(X), preparation.transform(filled))
    trainer = fb.Trainer(fb.MLP([5, 4, 2], seed=0), seed=0)
    trainer.preparation = preparation
    trainer.fit(X, y)
    trainer.save(tmp_path / "m.safetensors")
    for name, table in frames_of({"x": x, "k": np.where(kind == "", None, kind), "n": [None, *range(1, 60)]}):
        if name == "Frame":
            continue
        other = Frame(X.names, [filled.columns[0], kind, np.r_[29.5, 1:60]])
        expected = trainer.predict(other)
        assert np.array_equal(trainer.predict(table), expected), name
        assert np.array_equal(fb.load(tmp_path / "m.safetensors").predict(table), expected), name


def test_a_column_without_a_value_and_a_gap_that_is_new(rng):
    with pytest.raises(ValueError, match="column 'a' has no value in 3 rows; .*drop it"):
        Preparation.fit(Frame(["a", "b"], [np.full(3, np.nan), np.arange(3.0)]))
    preparation = Preparation.fit(Frame(["k", "x"], [np.array(["u", "v", "u"]), np.arange(3.0)]))
    with pytest.raises(ValueError, match="column 'k' has a missing value in row 1, takes 'u', 'v'"):
        preparation.transform(Frame(["k", "x"], [np.array(["u", ""]), np.arange(2.0)]))
    whole = preparation.transform(Frame(["k", "x"], [np.array(["u"]), np.array([1.0])]))
    assert np.array_equal(
        preparation.transform(Frame(["k", "x"], [np.array(["u"]), np.array([np.nan])])), whole
    )


def test_metrics_of_a_prepared_model_are_of_what_it_trains_on(rng):
    X, labels = rng.normal(size=(90, 2)) * 1e3, rng.choice(["n", "p"], 90)
    trainer = fb.Trainer(fb.MLP([2, 8, 2], seed=0), seed=0)
    trainer.preparation = Preparation.fit(X, classes=["n", "p"])
    history = trainer.fit(X, labels, epochs=3, metrics=["f1"], validation_data=(X, labels)).history
    right = np.array(trainer.preparation.labels(trainer.predict(X))) == labels
    assert history["val_accuracy"][-1] == pytest.approx(right.mean()) and 0 <= history["val_f1"][-1] <= 1
    assert trainer.evaluate(X, labels, metrics=["f1"])["f1"] == history["val_f1"][-1]


def test_a_hostile_preparation_is_refused(rng, tmp_path):
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    X = Frame(["a", "k"], [rng.standard_normal(20), rng.choice(["u", "v"], 20)])
    trainer = fb.Trainer(fb.MLP([3, 2], seed=0), seed=0)
    trainer.preparation = Preparation.fit(X, classes=["n", "p"])
    path = tmp_path / "m.safetensors"
    trainer.save(path)
    tensors = load_file(path)
    with safe_open(path, "numpy") as f:
        config = json.loads(f.metadata()["fastbp"])
    good = config["preparation"]
    for change in [
        {"columns": 10**12}, {"columns": 0}, {"names": ["a"]}, {"names": [1, 2]},
        {"categories": {"5": ["u", "v"]}},
        {"categories": {"1": ["v", "u"]}}, {"categories": {"1": []}}, {"categories": {"1": [1, 2]}},
        {"classes": ["n"]}, {"classes": [[], []]}, {"target": 3}, {"categories": 3},
    ]:  # fmt: skip
        save_file(tensors, path, {"fastbp": json.dumps({**config, "preparation": {**good, **change}})})
        with pytest.raises(ValueError, match="no usable fastbp configuration"):
            fb.load(path)
    for name, bad in [("mean", np.zeros(2)), ("scale", np.zeros(3)), ("fill", np.zeros(3)),
                      ("mean", np.full(3, np.nan)), ("scale", np.ones(3, "f4"))]:  # fmt: skip
        save_file({**tensors, f"preparation.{name}": bad}, path, {"fastbp": json.dumps(config)})
        with pytest.raises(ValueError, match="no usable fastbp configuration"):
            fb.load(path)
    one = {name: t for name, t in tensors.items() if name != "preparation.scale"}
    save_file(one, path, {"fastbp": json.dumps(config)})
    with pytest.raises(ValueError, match="no usable fastbp configuration"):
        fb.load(path)
    save_file(tensors, path, {"fastbp": json.dumps(config)})
    assert fb.load(path).preparation.classes == ["n", "p"]


def test_labels_that_a_model_does_not_know(rng):
    trainer = fb.Trainer(fb.MLP([2, 2], seed=0))
    X = rng.standard_normal((4, 2))
    trainer.preparation = Preparation.fit(X, classes=["n", "p"])
    with pytest.raises(ValueError, match="y: got label 'q', takes 'n', 'p'"):
        trainer.fit(X, ["n", "p", "q", "n"])
    trainer.fit(X, np.array(["n", "p", "n", "n"]))
    assert set(trainer.preparation.labels(trainer.predict(X))) <= {"n", "p"}


def test_names_are_no_categories(rng):
    names = np.array([f"name {i}" for i in range(100)])
    with pytest.raises(ValueError, match="column 'who': 100 different texts in 100 rows"):
        Preparation.fit(Frame(["who"], [names]))
