"""fastbp train --ensemble: one model of several networks; what predict, evaluate and export do with it."""

import csv
import json
import signal
from pathlib import Path

import numpy as np
import pytest

import fastbp as fb
from fastbp.training import many

SHORT = ["--hidden", "8", "--epochs", "4", "--quiet", "--overwrite"]


def write_csv(path, **columns):
    with open(path, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def read_csv(text):
    head, *rows = csv.reader(text.splitlines())
    return head, rows


@pytest.fixture
def flats(rng):
    n = 300
    size, rooms = rng.uniform(20, 200, n).round(1), rng.integers(1, 7, n)
    price = (1000 * size + 5000 * rooms + rng.normal(0, 5000, n)).round()
    kind = np.where(price > np.median(price), "dear", "cheap")
    write_csv("flats.csv", size=size, rooms=rooms, price=price, kind=kind)
    return np.stack([size, rooms], axis=1)


@pytest.fixture
def prices(run, flats):
    """A regression of three networks."""
    code, out, err = run(
        "train", "flats.csv", "--target", "price", "--drop", "kind", "--ensemble", 3, *SHORT, "--out", "p"
    )
    assert code == 0 and err == ""
    assert "3 of 2-8-1" in out
    return "p.safetensors"


def test_each_network_is_that_of_its_seed(run, flats):
    given = ["flats.csv", "--target", "kind", *SHORT, "--dropout", 0.1, "--patience", 2, "--epochs", 9]
    code, out, _ = run("train", *given, "--ensemble", 2, "--seed", 5, "--out", "both", "--json")
    said = json.loads(out)
    model = fb.Ensemble.load("both.safetensors")
    assert code == 0 and len(said["history"]) == len(model) == 2
    for seed, trainer, history in zip((5, 6), model.trainers, said["history"], strict=True):
        code, out, _ = run("train", *given, "--seed", seed, "--out", "one", "--json")
        alone, other = json.loads(out), fb.load("one.safetensors")
        assert code == 0 and other.net.params.tobytes() == trainer.net.params.tobytes()
        assert alone["history"]["val_loss"] == history["val_loss"] and alone["steps"] == trainer.steps
    assert said["steps"] == sum(trainer.steps for trainer in model.trainers)
    assert said["epochs"] == max(trainer.epochs for trainer in model.trainers)
    assert 0 < said["test"]["accuracy"] <= 1 and said["picture"] == "both.png"


def test_predict_and_spread_of_numbers(run, prices, flats):
    model = fb.Ensemble.load(prices)
    mean, deviation = model.predict(flats, return_std=True)
    code, out, _ = run("predict", prices, "flats.csv", "--std")
    head, rows = read_csv(out)
    assert code == 0 and head == ["price", "price std"]
    np.testing.assert_allclose(np.array(rows, float), np.hstack([mean, deviation]), rtol=1e-9)
    code, out, _ = run("predict", prices, "flats.csv")
    assert read_csv(out)[0] == ["price"]
    code, _, _ = run("predict", prices, "flats.csv", "--std", "--out", "p.npy")
    np.testing.assert_array_equal(np.load("p.npy"), np.hstack([mean, deviation]))
    code, out, _ = run("predict", prices, "flats.csv", "--std", "--json", "--id", "kind")
    assert json.loads(out)["columns"] == ["kind", "price", "price std"]


def test_predict_and_disagreement_of_labels(run, fails, flats):
    code, _, _ = run("train", "flats.csv", "--target", "kind", "--ensemble", 2, *SHORT, "--out", "k")
    model = fb.Ensemble.load("k.safetensors")
    code, out, _ = run("predict", "k.safetensors", "flats.csv", "--std")
    head, rows = read_csv(out)
    assert code == 0 and head == ["kind", "probability cheap", "probability dear", "disagreement"]
    frame = [row[1:] for row in rows]
    columns = np.genfromtxt("flats.csv", delimiter=",", skip_header=1, usecols=(0, 1, 2))
    wanted = model.predict(columns)
    np.testing.assert_allclose(np.array(frame, float)[:, :2], wanted, rtol=1e-6)
    np.testing.assert_allclose(
        np.array(frame, float)[:, 2], model.disagreement(columns), rtol=1e-9, atol=1e-12
    )
    assert [row[0] for row in rows] == [["cheap", "dear"][k] for k in wanted.argmax(axis=1)]
    code, out, _ = run("evaluate", "k.safetensors", "flats.csv", "--json")
    scores = json.loads(out)
    right = np.mean([row[0] for row in rows] == np.loadtxt("flats.csv", str, delimiter=",", skiprows=1)[:, 3])
    assert code == 0 and scores["accuracy"] == pytest.approx(right)
    run("train", "flats.csv", "--target", "kind", *SHORT, "--out", "one")
    fails(
        "predict",
        "one.safetensors",
        "flats.csv",
        "--std",
        says=["--std: got a model of one network", "--ensemble"],
    )


def test_evaluate_and_export(run, fails, prices, flats):
    code, out, _ = run("evaluate", prices, "flats.csv", "--json")
    scores, price = json.loads(out), np.genfromtxt("flats.csv", delimiter=",", skip_header=1, usecols=2)
    apart = fb.Ensemble.load(prices).predict(flats)[:, 0] - price
    assert code == 0 and scores["rmse"] == pytest.approx(np.sqrt(np.mean(apart**2)))
    code, out, _ = run("export", prices, "--c", "--onnx", "--json")
    assert code == 0 and "the mean of 3 networks" in open("p.c").read()
    assert json.loads(out) == {"command": "export", "model": prices, "onnx": "p.onnx", "c": "p.c"}
    fails("export", prices, "--torch", says=["--torch: got an ensemble of 3, takes a model of one network"])


def test_a_report(run, flats):
    pytest.importorskip("matplotlib")
    code, out, _ = run(
        "train", "flats.csv", "--target", "kind", "--ensemble", 2, *SHORT, "--report", "r.html"
    )
    page = open("r.html").read()
    assert (
        code == 0 and "Scores are of all 2 networks; curves, weights and configuration of the first." in page
    )
    assert "2 of 3-8-2" in page


def test_what_does_not_go_with_it(fails, flats):
    for option in (["--resume"], ["--checkpoint-every", 1]):
        fails(
            "train",
            "flats.csv",
            "--ensemble",
            2,
            *option,
            *SHORT,
            says=["--ensemble: got 2 with --checkpoint-every"],
        )
    fails("train", "flats.csv", "--ensemble", 0, says=["--ensemble", "takes a whole number >= 1"])


def test_one_that_diverges_is_an_error(fails, flats):
    given = ["flats.csv", "--target", "price", "--ensemble", 2, "--optimizer", "sgd", "--lr", 1e30, *SHORT]
    fails("train", *given, says=["loss"])
    assert not list(Path().glob("*.safetensors"))


def test_seconds_and_ctrl_c(run, flats, monkeypatch):
    given = [
        "train",
        "flats.csv",
        "--target",
        "price",
        "--ensemble",
        2,
        "--hidden",
        8,
        "--quiet",
        "--overwrite",
    ]
    code, out, _ = run(*given, "--seconds", 0.3, "--out", "s", "--json")
    assert code == 0 and all(history["loss"] for history in json.loads(out)["history"])
    turns = []

    def turn(self, *args, inner=many.Many.turn):
        inner(self, *args)
        turns.append(1)
        if len(turns) == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(many.Many, "turn", turn)
    code, out, err = run(*given, "--epochs", 100000, "--out", "c")
    assert code == 130 and "interrupted in epoch" in err and len(fb.Ensemble.load("c.safetensors")) == 2
