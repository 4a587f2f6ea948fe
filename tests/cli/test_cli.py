"""The command line as a user meets it: runs on every kind of data, files, messages, exit codes."""

import csv
import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastbp as fb
from fastbp import datasets, metrics
from fastbp.callbacks import LambdaCallback
from fastbp.engine import backend
from fastbp.kernels.cpu import program
from fastbp.prepare import stratified_split

ROOT = fb.__file__.rsplit("fastbp", 1)[0]  # a plain checkout is found from there
SMALL = ["--epochs", "3", "--hidden", "16", "--quiet", "--overwrite"]


def row(out, label):
    (line,) = [line for line in out.splitlines() if line.startswith(label)]
    return line.removeprefix(label).strip()


def write_csv(path, header, columns):
    lines = [header] + [",".join(map(str, row)) for row in zip(*columns, strict=True)]
    Path(path).write_text("\n".join(lines) + "\n")


def test_digits_train_well_and_the_files_are_there(run, tmp_path):
    code, out, _ = run("train", "digits", "--quiet")
    assert code == 0
    assert float(row(out, "test accuracy").split()[0]) >= 0.97
    assert "samples/s" in row(out, "training") and " s" in row(out, "compiling")
    assert "takes raw features" in row(out, "model") and "one common scale" in row(out, "features")
    assert (tmp_path / "fastbp-digits.safetensors").stat().st_size > 64 * 256 * 4
    picture = tmp_path / "fastbp-digits.png"
    assert picture.exists() or "pip install 'fastbp[plot]'" in row(out, "picture")


def test_the_saved_model_takes_raw_features(run):
    code, out, _ = run("train", "digits", *SMALL)
    accuracy = float(row(out, "test accuracy").split()[0])
    X, y = datasets.load("digits")
    _, test = stratified_split(y, 0.2, seed=0)
    model = fb.load("fastbp-digits.safetensors")
    assert code == 0
    assert np.mean(model.predict(X[test]).argmax(axis=1) == y[test]) == pytest.approx(accuracy, abs=1e-4)


def test_a_first_run_says_that_it_compiles(run, monkeypatch):
    assert run("train", "digits", *SMALL)[2] == ""
    monkeypatch.setattr(program, "compiled", lambda dtype: False)
    for options, says in (([*SMALL[:-2], "--overwrite"], 1), (SMALL, 0), ((*SMALL, "--json"), 0)):
        monkeypatch.setattr(backend, "_seconds", {})  # as in a new process
        code, out, err = run("train", "digits", *options)
        assert code == 0 and err.count("fastbp: compiling for this machine, once") == says


def test_the_seed_decides_the_result(run):
    def scores(seed):
        code, out, _ = run("train", "digits", *SMALL, "--seed", seed, "--threads", 1)
        assert code == 0
        return row(out, "test accuracy"), row(out, "test loss")

    assert scores(5) == scores(5) != scores(6)


def test_regression_from_csv_in_raw_units(run, rng, tmp_path):
    a, b = rng.uniform(1900, 2020, 600), rng.standard_normal(600) * 1e-3
    price = 250_000 + 3000 * (a - 1960) + 5e7 * b
    write_csv(tmp_path / "houses.csv", "year,size,price", [a, b, price])
    argv = ["--epochs", 40, "--hidden", "32", "--lr", 0.01, "--quiet"]
    code, out, _ = run("train", "houses.csv", *argv)
    assert code == 0 and row(out, "loss").startswith("mse") and "--loss cross_entropy" in out
    assert float(row(out, "test R2")) > 0.97
    assert float(row(out, "test RMSE").split()[0]) < 0.25 * price.std()
    model = fb.load("fastbp-houses.safetensors")
    X = np.column_stack([a, b])
    assert np.corrcoef(model.predict(X)[:, 0], price)[0, 1] > 0.99


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_no_hidden_layer_is_linear_regression(run, rng, loss):
    X = rng.standard_normal((400, 3)).astype(np.float32)
    np.savez("line.npz", X=X, y=X @ rng.standard_normal((3, 2)) + 7)
    argv = ["--hidden", "none", "--loss", loss, "--optimizer", "sgd", "--lr", 0.05]
    code, out, _ = run("train", "line.npz", *argv, "--epochs", 20, "--quiet", "--overwrite")
    assert code == 0 and float(row(out, "test R2")) > 0.99
    assert "2 targets" in out


def test_text_labels_from_csv(run, rng, tmp_path):
    kind = rng.integers(0, 3, 300)
    x = [kind * 2 + rng.standard_normal(300) * 0.2 for _ in range(2)]
    write_csv(tmp_path / "iris.csv", "species,a,b", [np.array(["x", "y", "z"])[kind], *x])
    code, out, _ = run("train", "iris.csv", "--target", "species", "--epochs", 30, "--quiet")
    assert code == 0 and "3 classes (0=x, 1=y, 2=z)" in out
    assert float(row(out, "test accuracy").split()[0]) > 0.95


def test_labels_that_are_not_0_to_c(run, rng):
    y = rng.choice([-1, 1], 200)
    np.savez("t.npz", X=y[:, None] + rng.standard_normal((200, 3)) * 0.1, y=y)
    code, out, _ = run("train", "t.npz", *SMALL, "--lr", 0.01)
    assert code == 0 and "2 classes (0=-1, 1=1)" in out
    code, out, _ = run("train", "t.npz", *SMALL, "--lr", 0.01, "--loss", "bce_with_logits")
    assert code == 0 and float(row(out, "test accuracy").split()[0]) > 0.9


def test_a_file_with_a_test_part_is_tested_on_it(run, rng):
    X, y = rng.standard_normal((90, 4)), rng.integers(0, 3, 90)
    np.savez("t.npz", x_train=X[:60], y_train=y[:60], x_test=X[60:], y_test=y[60:])
    code, out, _ = run("train", "t.npz", *SMALL, "--test-fraction", 0.9)
    assert code == 0 and "60 to train on, 30 to test on: the file's own" in row(out, "samples")


def test_idx_and_npy(run, rng, tmp_path):
    X, y = rng.integers(0, 256, (120, 3, 3)).astype(np.uint8), rng.integers(0, 4, 120)
    images = bytes([0, 0, 8, 3, 0, 0, 0, 120, 0, 0, 0, 3, 0, 0, 0, 3]) + X.tobytes()
    labels = bytes([0, 0, 8, 1, 0, 0, 0, 120]) + y.astype(np.uint8).tobytes()
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    code, out, _ = run("train", "train-images-idx3-ubyte.gz", *SMALL)
    assert code == 0 and "9 numbers" in row(out, "features") and row(out, "target") == "4 classes"
    assert (tmp_path / "fastbp-train-images-idx3-ubyte.safetensors").exists()
    np.save("X.npy", X.reshape(120, 9).astype(np.float64))
    np.save("y.npy", y)
    code, out, _ = run("train", "X.npy", "--target", "y.npy", *SMALL)
    assert code == 0 and "9 numbers" in row(out, "features") and row(out, "target") == "4 classes"


def test_which_loss_is_chosen(rng):
    from fastbp.cli.task import task_of

    def chosen(y, classes=None):
        return task_of(np.asarray(y), classes, None).loss

    assert chosen(rng.integers(0, 3, 50)) == "cross_entropy"
    assert chosen(rng.integers(0, 100, 5000)) == "cross_entropy"
    assert chosen(rng.integers(10_000, 900_000, 500)) == "mse"  # prices
    assert chosen(rng.standard_normal(50)) == "mse"
    assert chosen([0, 1, 0], ["no", "yes"]) == "cross_entropy"
    assert chosen(np.eye(4)[rng.integers(0, 4, 50)]) == "cross_entropy"
    assert chosen([[0, 1, 1], [1, 0, 1], [0, 0, 0]]) == "bce_with_logits"
    assert chosen(rng.standard_normal((50, 2))) == "mse"
    assert chosen(np.arange(90) % 43 + 18) == "mse"  # ages
    assert chosen(np.arange(90) % 2 / 1.0) == "cross_entropy"
    assert chosen(np.arange(90) % 3, ["$1,013", "$5", "$950"]) == "mse"


def test_the_task_is_said_first_and_how_to_say_otherwise(run, fails, rng):
    ages, x = rng.integers(18, 61, 200), rng.random(200)
    write_csv("ages.csv", "x,age", [x, ages])
    code, out, _ = run("train", "ages.csv", *SMALL)
    assert code == 0 and out.splitlines()[0].startswith("task ")
    assert row(out, "task").startswith("regression: the target is ") and "for labels: --loss cross_e" in out
    assert row(out, "loss") == "mse"
    code, out, _ = run("train", "ages.csv", *SMALL, "--loss", "cross_entropy")
    assert code == 0 and row(out, "task") == "classification: as asked; for numbers: --loss mse"
    code, out, _ = run("train", "ages.csv", *SMALL, "--json")
    assert json.loads(out)["task"].startswith("regression: ")
    np.savez("flags.npz", X=x[:, None], y=(x > 0.5).astype(float))
    code, out, _ = run("train", "flags.npz", *SMALL)
    assert code == 0 and "2 classes" in row(out, "target")
    assert fb.load("fastbp-flags.safetensors").preparation.classes == [0, 1]
    assert set(fb.load("fastbp-flags.safetensors").evaluate(x[:, None], x > 0.5)) == {"loss", "accuracy"}
    write_csv("names.csv", "x,who", [x, [f"name {i}" for i in range(200)]])
    fails("train", "names.csv", says=["target: got 200 different texts", "labels that come again"])


def test_a_target_of_money_is_a_number(run, rng):
    """As a text it was 463 classes. In use it is read as it was in training."""
    x = rng.uniform(0, 1, 400)
    pay = [f"${1000 + 3000 * v:,.0f}" for v in x]
    with open("pay.csv", "w", newline="") as stream:
        csv.writer(stream).writerows([["x", "pay"], *zip(x, pay, strict=True)])
    code, out, _ = run("train", "pay.csv", "--hidden", 16, "--lr", 0.01, "--epochs", 60, "--quiet")
    assert code == 0 and row(out, "task").startswith("regression: the target is numbers with $")
    assert float(row(out, "test R2")) > 0.95
    code, out, _ = run("evaluate", "fastbp-pay.safetensors", "pay.csv", "--json")
    assert code == 0 and json.loads(out)["r2"] > 0.95 and json.loads(out)["rmse"] < 200


def test_columns_that_say_nothing_are_left_out_and_said(run, fails, rng):
    """Row numbers of a table that is sorted by its target told it: diamonds' RMSE was 190 for 571."""
    y = np.sort(rng.normal(50, 10, 300))
    write_csv("t.csv", "rownames,x,same,y", [np.arange(1, 301), y + rng.normal(0, 8, 300), np.ones(300), y])
    code, out, _ = run("train", "t.csv", *SMALL)
    assert code == 0 and row(out, "features") == "1 number standardised"
    left = row(out, "left out")
    assert "'rownames' (numbers the rows, " in left and "'same' (one value, 1)" in left and "--keep" in left
    write_csv("new.csv", "x", [y])
    assert run("predict", "fastbp-t.safetensors", "new.csv")[0] == 0
    code, out, err = run("train", "t.csv", *SMALL, "--keep", "rownames,same")
    assert code == 0 and row(out, "features").startswith("3 numbers") and "left out" not in out and not err
    fails(
        "train", "t.csv", *SMALL, "--keep", "rowname", says=["keep: got 'rowname'; did you mean 'rownames'"]
    )


@pytest.mark.parametrize(
    "out, stem",
    [
        ("models/", "models/fastbp-digits"),
        ("here", "here"),
        ("a/b/net", "a/b/net"),
        ("net.v2.safetensors", "net.v2"),
        ("net.v2", "net.v2"),
    ],
)
def test_out_says_where(run, tmp_path, out, stem):
    code, printed, _ = run("train", "digits", *SMALL, "--out", out)
    assert code == 0 and (tmp_path / f"{stem}.safetensors").exists()
    assert f"{stem}.safetensors" in row(printed, "model")


def test_features_that_float32_cannot_hold_raw(run, rng):
    """Timestamps: prepared in float64, in use as in training."""
    X = rng.standard_normal((200, 2)) + [1e12, 0]
    y = (X[:, 0] > 1e12).astype(int)
    np.savez("t.npz", X=X, y=y)
    code, out, _ = run("train", "t.npz", "--hidden", 16, "--quiet", "--epochs", 30, "--lr", 0.01)
    assert code == 0
    assert fb.load("fastbp-t.safetensors").evaluate(X, y)["accuracy"] > 0.95


def test_ctrl_c_keeps_what_was_trained(run, monkeypatch, tmp_path):
    whole = fb.Trainer.fit

    def stop(epoch, logs):
        if epoch == 1:
            raise KeyboardInterrupt

    def interrupted(self, *args, callbacks, **rest):
        return whole(self, *args, callbacks=[*callbacks, LambdaCallback(on_epoch_end=stop)], **rest)

    monkeypatch.setattr(fb.Trainer, "fit", interrupted)
    code, out, err = run("train", "digits", *SMALL)
    assert code == 130
    assert "interrupted in epoch 2 of 3, after 82 steps" in err and "fastbp-digits.safetensors" in err
    assert float(row(out, "test accuracy").split()[0]) > 0.3
    assert (tmp_path / "fastbp-digits.safetensors").exists()


def test_without_matplotlib_a_line_says_how_to_get_it(run, monkeypatch, tmp_path):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, out, _ = run("train", "digits", *SMALL)
    assert code == 0 and "pip install 'fastbp[plot]'" in row(out, "picture")
    assert not list(tmp_path.glob("*.png")) and list(tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize(
    "argv, says",
    [
        ([], ["COMMAND", "--help"]),
        (["trian"], ["trian"]),
        (["train"], ["DATA", "fastbp train --help"]),
        (["train", "digts"], ["got 'digts'; did you mean 'digits'?"]),
        (["train", "gone.csv"], ["gone.csv: no such file"]),
        (["train", "digits", "--target", "3"], ["--target", "digits"]),
        (["train", "digits", "--hidden", "8,x"], ["--hidden", "'x'", "256,128"]),
        (["train", "digits", "--hidden", "0"], ["--hidden", "'0'"]),
        (["train", "digits", "--lr", "-1"], ["--lr", "'-1'", "> 0"]),
        (["train", "digits", "--lr", "nan"], ["--lr", "'nan'"]),
        (["train", "digits", "--epochs", "0"], ["--epochs", "'0'", ">= 1"]),
        (["train", "digits", "--batch-size", "1.5"], ["--batch-size", "'1.5'"]),
        (["train", "digits", "--seed", "-1"], ["--seed", "'-1'"]),
        (["train", "digits", "--test-fraction", "1"], ["--test-fraction", "'1'"]),
        (["train", "digits", "--optimizer", "adma"], ["got 'adma'; did you mean 'adam'?"]),
        (["train", "digits", "--loss", "msee"], ["got 'msee'; did you mean 'mse'?"]),
        (["train", "digits", "--activation", "rleu"], ["got 'rleu'; did you mean 'relu'?"]),
        (["train", "digits", "--loss", "bce_with_logits"], ["two different values", "10"]),
        (["train", "digits", "--dropout", "1"], ["--dropout", "'1'", "from 0 to below 1"]),
        (["train", "digits", "--norm", "bacth"], ["got 'bacth'; did you mean 'batch'?"]),
        (["train", "digits", "--residual"], ["residual: got True, but no hidden layer"]),
        (["train", "digits", "--schedule", "cosin"], ["got 'cosin'; did you mean 'cosine'?"]),
        (["train", "digits", "--schedule", "step"], ["--schedule", "got 'step'"]),
        (["train", "digits", "--weight-decay", "-1"], ["--weight-decay", "'-1'", ">= 0"]),
        (["train", "digits", "--clip-norm", "0"], ["--clip-norm", "'0'"]),
        (["train", "digits", "--seconds", "0"], ["--seconds", "'0'"]),
        (["train", "digits", "--patience", "-1"], ["--patience", "'-1'", ">= 0"]),
        (["train", "digits", "--id", "a"], ["--id", "no named columns"]),
        (["train", "digits", "--seconds", "1", "--resume"], ["--seconds", "--resume"]),
        (["train", "digits", "--validation-fraction", "0"], ["--validation-fraction", "'0'"]),
        (["train", "digits", "--class-weight", "balance"], ["--class-weight", "balanced"]),
        (["train", "digits", "--class-weight", "balanced", "--loss", "mse"], ["--class-weight", "mse"]),
    ],
    ids=lambda value: " ".join(value[-2:]) if value and value[0] == "train" else None,
)
def test_bad_command_lines(fails, argv, says, tmp_path):
    fails(*argv, says=says)
    assert not list(tmp_path.iterdir())  # nothing is written


def test_targets_that_do_not_fit_the_loss(fails, rng):
    X = rng.standard_normal((30, 2))
    np.savez("fractions.npz", X=X, y=rng.standard_normal(30) + 0.5)
    np.savez("text.npz", X=X, y=np.array(["a", "b"])[rng.integers(0, 2, 30)])
    np.savez("one.npz", X=X, y=np.ones(30, int))
    fails("train", "fractions.npz", "--loss", "cross_entropy", says=["takes labels", "fractions"])
    fails("train", "text.npz", "--loss", "mse", says=["mse takes numbers", "cross_entropy"])
    fails("train", "one.npz", says=["one class only", "'1'"])


def test_what_the_network_and_the_optimizer_may_have(run):
    """Each option arrives where it belongs, and in the file."""
    argv = ["--hidden", "16,16", "--activation", "prelu", "--dropout", 0.1, "--norm", "layer", "--residual"]
    argv += ["--optimizer", "adamw", "--weight-decay", 0.3, "--schedule", "onecycle", "--clip-norm", 2]
    code, out, _ = run("train", "digits", *argv, "--epochs", 2, "--quiet")
    assert code == 0
    assert row(out, "network").startswith("64-16-16-10, prelu, dropout 0.1, norm layer, residual ")
    trainer = fb.load("fastbp-digits.safetensors")
    assert trainer.net.activations == ["prelu", "prelu"] and trainer.net.skips == [False, True]
    assert trainer.net.norms == ["layer", "layer"] and trainer.net.dropouts == [0.1, 0.1]
    assert trainer.optimizer == fb.AdamW(weight_decay=0.3) and trainer.clip_norm == 2
    assert trainer.schedule == fb.schedules.OneCycle()


def test_each_score_stands_beside_who_knows_shares_or_mean_alone(run, rng):
    y = np.r_[np.zeros(60, int), np.ones(40, int)]
    np.savez("t.npz", X=rng.standard_normal((100, 2)) + y[:, None], y=y)
    code, out, _ = run("train", "t.npz", *SMALL)
    assert code == 0 and "(the classes' shares: 0.673)" in row(out, "test loss")
    assert row(out, "test accuracy").endswith("of 20; the commonest class: 0.6000)")
    y = np.array([1.5, 3.5, 5.5, 7.5] * 25)
    np.savez("n.npz", X=rng.standard_normal((100, 2)), y=y)
    assert run("train", "n.npz", *SMALL)[0] == 0
    code, out, _ = run("evaluate", "fastbp-n.safetensors", "n.npz")
    assert row(out, "RMSE").endswith("(the mean: 2.2361)") and row(out, "MAE").endswith("(the mean: 2)")
    code, out, _ = run("evaluate", "fastbp-n.safetensors", "n.npz", "--json")
    assert json.loads(out)["baseline"] == {"rmse": 5**0.5, "mae": 2.0, "r2": 0.0}


@pytest.mark.parametrize("loss", ["cross_entropy", "bce_with_logits"])
def test_the_baseline_is_what_a_constant_answer_scores(run, rng, loss):
    y = rng.choice([0, 1], 200, p=[0.3, 0.7])
    np.savez("t.npz", X=rng.standard_normal((200, 2)), y=y)
    assert run("train", "t.npz", *SMALL, "--hidden", "none", "--loss", loss)[0] == 0
    trainer, share = fb.load("fastbp-t.safetensors"), y.mean()
    trainer.net.weights[0][:] = 0
    odds = np.log(share / (1 - share))
    trainer.net.biases[0][:] = [0, odds] if loss == "cross_entropy" else odds
    trainer.save("constant.safetensors")
    code, out, _ = run("evaluate", "constant.safetensors", "t.npz", "--json")
    found = json.loads(out)
    for name in ("accuracy", "loss"):
        assert found["baseline"][name] == pytest.approx(found[name], rel=1e-6)


def test_by_default_it_stops_by_samples_held_out(run, rng):
    X = rng.standard_normal((500, 3))
    np.savez("t.npz", X=X, y=X[:, 0] + rng.standard_normal(500))
    code, out, _ = run("train", "t.npz", "--lr", 0.01, "--json")
    result = json.loads(out)
    assert code == 0 and "360 to train on, 100 to test on" in result["samples"]
    assert "40 more for validation" in result["samples"] and "better validation loss" in result["stopping"]
    assert result["epochs"] < 250 and len(result["history"]["val_loss"]) == result["epochs"]
    code, out, _ = run("train", "t.npz", "--patience", 0, "--overwrite", "--json")
    result = json.loads(out)
    assert code == 0 and "400 to train on, 100 to test on: 20% held out, at random" == result["samples"]
    assert "val_loss" not in result["history"] and result["stopping"] == f"after {result['epochs']} epochs"
    assert result["epochs"] == 20
    code, out, _ = run("train", "t.npz", "--schedule", "cosine", "--overwrite", "--json")
    assert "for validation" not in json.loads(out)["samples"]


def test_a_few_samples_are_all_trained_on(run, rng):
    np.savez("t.npz", X=rng.standard_normal((60, 3)), y=rng.standard_normal(60))
    code, out, _ = run("train", "t.npz", "--test-fraction", 0, "--json")
    result = json.loads(out)
    assert code == 0 and result["samples"] == "60 to train on: none held out to test on"
    assert result["test"] is None and result["stopping"] == "after 20 epochs"
    code, out, _ = run("train", "t.npz", "--test-fraction", 0, *SMALL, "--report", "r.html")
    assert code == 0 and row(out, "test").startswith("none")


@pytest.mark.parametrize("rows", [34, 66, 98])
def test_batch_norm_never_gets_a_batch_of_one(run, rng, rows):
    np.savez("t.npz", X=rng.standard_normal((rows, 2)), y=rng.standard_normal(rows))
    for left_out in (0, 1):
        X, y = (np.load("t.npz")[k][left_out:] for k in "Xy")
        np.savez("u.npz", X=X, y=y)
        assert run("train", "u.npz", "--norm", "batch", "--test-fraction", 0, *SMALL)[0] == 0


def test_a_model_that_is_there_is_not_replaced_unasked(run, fails, tmp_path):
    argv = ["train", "digits", "--epochs", 1, "--hidden", 8, "--quiet"]
    assert run(*argv)[0] == 0
    before = (tmp_path / "fastbp-digits.safetensors").read_bytes()
    fails(*argv, "--seed", 1, says=["fastbp-digits.safetensors is there already", "--overwrite"])
    assert (tmp_path / "fastbp-digits.safetensors").read_bytes() == before
    assert run(*argv, "--seed", 1, "--overwrite")[0] == 0
    assert (tmp_path / "fastbp-digits.safetensors").read_bytes() != before


def test_options_say_how_a_file_is_written(run, rng, tmp_path):
    """--delimiter, --encoding, --comment, --no-header, --na, --text, --drop-missing: for every command."""
    lines = ["# größe, plz, art"]
    for i in range(60):
        kind = ["None", "Köln", ""][0 if i % 3 else 1 if i else 2]
        lines.append(f"{'-' if i % 7 == 3 else i % 3 + rng.random():}~0{i % 4}~{kind}")
    (tmp_path / "t.csv").write_bytes("\n".join(lines).encode("cp1252"))
    how = ["--delimiter", "~", "--encoding", "cp1252", "--comment", "#", "--no-header", "--na", "-"]
    code, out, err = run("train", "t.csv", *how, "--text", "column 1", "--drop-missing", *SMALL, "--json")
    result = json.loads(out)
    assert code == 0, err
    assert "1 row without a target left out" in result["data"] and "(0=Köln, 1=None)" in result["target"]
    assert "4 categories" in result["features"] and "missing" in result["features"]
    code, out, _ = run("evaluate", "fastbp-t.safetensors", "t.csv", *how, "--drop-missing", "--json")
    assert code == 0 and json.loads(out)["samples"] == 59
    code, out, _ = run("predict", "fastbp-t.safetensors", "t.csv", *how)
    assert code == 0 and len(out.splitlines()) == 61


def test_options_say_what_a_file_does_not_show(run, tmp_path):
    """--decimal, --dates: what 01/02/2020 begins with; kept in the model, which is used without them."""
    rows = [f"0{1 + i % 9}/0{1 + i % 7}/20{10 + i % 10};{i % 10},{i}5;{i % 3},5" for i in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["day;a;y", *rows, ""]))
    code, _, err = run("train", "t.csv", "--target", "y", *SMALL)
    assert code == 2 and "takes --dates dmy or mdy, or --text" in err
    code, out, err = run(
        "train", "t.csv", "--target", "y", "--decimal", ",", "--dates", "dmy", *SMALL, "--json"
    )
    assert code == 0, err
    assert "'day': dates" in json.loads(out)["features"] and "0.5 to 2.5" in json.loads(out)["target"]
    assert run("evaluate", "fastbp-t.safetensors", "t.csv")[0] == 0


def test_the_names_of_what_is_written(run, rng, tmp_path):
    columns = [rng.standard_normal(30).round(3).tolist() for _ in range(3)]
    for name in ("t.csv", "t.v2.csv", "t.csv.gz"):
        text = "a,b,y\n" + "".join(f"{a},{b},{y}\n" for a, b, y in zip(*columns, strict=True))
        data = text.encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        assert run("train", name, *SMALL)[0] == 0
    assert {path.name for path in tmp_path.glob("*.safetensors")} == {
        "fastbp-t.safetensors", "fastbp-t.v2.safetensors"
    }  # fmt: skip


def test_patience_watches_samples_of_its_own(run):
    """Neither trained nor tested on; the fit ends early and keeps the best epoch's weights."""
    argv = ["--hidden", 32, "--lr", 0.03, "--patience", 2, "--epochs", 200, "--quiet", "--json"]
    code, out, _ = run("train", "digits", *argv)
    result = json.loads(out)
    assert code == 0 and result["epochs"] < 100
    assert "1,294 to train on, 359 to test on" in result["samples"] and "144 more" in result["samples"]
    assert np.argmin(result["history"]["val_loss"]) == result["epochs"] - 3
    X, y = datasets.load("digits")
    kept, test = stratified_split(y, 0.2, seed=0)
    _, held = stratified_split(y[kept], 0.1, seed=0)
    found = fb.load("fastbp-digits.safetensors").evaluate(X[kept][held], y[kept][held])["loss"]
    assert found == pytest.approx(min(result["history"]["val_loss"]), rel=1e-4)


def test_a_budget_of_seconds(run):
    code, out, _ = run("train", "digits", "--hidden", 16, "--seconds", 0.5, "--quiet", "--json")
    assert code == 0 and json.loads(out)["seconds"] < 1.5


def test_balanced_classes(run, rng):
    y = np.r_[np.zeros(190, int), np.ones(10, int)]
    np.savez("t.npz", X=rng.standard_normal((200, 3)) + 0.7 * y[:, None], y=y)
    argv = ["--hidden", "none", "--epochs", 60, "--patience", 0, "--lr", 0.03, "--quiet", "--overwrite"]
    found = []
    for more in ([], ["--class-weight", "balanced"]):
        assert run("train", "t.npz", *argv, *more)[0] == 0
        trainer = fb.load("fastbp-t.safetensors")
        found.append(trainer.predict(np.load("t.npz")["X"])[:, 1].mean())
    assert trainer.loss.class_weight == (160 / (2 * 152), 160 / (2 * 8))
    assert found[1] > 2 * found[0]  # the few are taken for far more likely


def test_out_that_cannot_be_written_fails_before_training(fails, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(fb.Trainer, "fit", None)
    fails("train", "digits", "--out", "file/net", says=["file"])


def test_help_explains_itself_and_imports_no_numba():
    code = (
        "import sys; from fastbp.cli import main; code = main(sys.argv[1:]); "
        "assert code == 0; assert 'numba' not in sys.modules, 'numba was imported'"
    )
    for argv in (["--help"], ["train", "--help"], ["--version"]):
        done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr
    done = subprocess.run(
        [sys.executable, "-m", "fastbp", "train", "--help"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    for (
        option
    ) in "target hidden activation dropout norm loss optimizer lr batch-size epochs patience".split():
        assert f"--{option}" in done.stdout
    for word in ("--threads", "--device", "--out", "--quiet", "examples:", ".npz", "idx-ubyte"):
        assert word in done.stdout


def test_scores_are_those_of_metrics_by_their_names(run, rng):
    """Of several targets the mean over these; of a constant one, 0 or 1."""
    X = rng.standard_normal((80, 3))
    y = np.stack([X[:, 0], 100 * X[:, 1] + 1000, np.full(80, 7.0)], axis=1)
    np.savez("t.npz", x_train=X[:60], y_train=y[:60], x_test=X[60:], y_test=y[60:])
    code, out, _ = run("train", "t.npz", *SMALL, "--json")
    trainer, said = fb.load("fastbp-t.safetensors"), json.loads(out)["test"]
    predicted = trainer.predict(X[60:])
    assert code == 0
    for name in ("rmse", "mae", "r2"):
        assert said[name] == pytest.approx(metrics.METRICS[name](y[60:], predicted), rel=1e-12)
        assert said[name] == pytest.approx(trainer.evaluate(X[60:], y[60:], metrics=[name])[name])


@pytest.mark.parametrize("place", ["0", "-3"])
def test_a_table_without_names_is_scored_on_the_target_of_the_training(run, rng, tmp_path, place):
    x = rng.standard_normal((200, 2))
    table = np.column_stack([x @ [2.0, -1.0], 50 * x]).round(4)
    np.savetxt(tmp_path / "t.csv", table, "%g", ",")
    code, out, err = run("train", "t.csv", "--target", place, "--no-header", *SMALL, "--epochs", 60, "--json")
    assert code == 0, err
    code, out, _ = run("evaluate", "fastbp-t.safetensors", "t.csv", "--no-header", "--json")
    assert code == 0 and json.loads(out)["r2"] > 0.8
    code, out, _ = run("evaluate", "fastbp-t.safetensors", "t.csv", "--no-header", "--target", 2, "--json")
    assert code == 0 and json.loads(out)["r2"] < 0


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_text_of_a_column_that_is_not_there(fails, tmp_path, suffix):
    if suffix == "csv":
        (tmp_path / "t.csv").write_text("town,y\n" + "".join(f"{i % 4},{i % 3}.5\n" for i in range(40)))
    else:
        pandas = pytest.importorskip("pandas")
        pytest.importorskip("pyarrow")
        pandas.DataFrame({"town": np.arange(40) % 4, "y": np.arange(40) % 3}).to_parquet("t.parquet")
    fails(
        "train", f"t.{suffix}", "--target", "y", "--text", "tonw", *SMALL, says=["--text", "'tonw'", "'town'"]
    )


def test_what_comes_when_the_model_is_written_says_that_it_is(run, tmp_path, monkeypatch):
    from fastbp.cli import train

    def pressed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "score", pressed)
    code, _, err = run("train", "digits", *SMALL)
    assert code == 130 and "the training was over, the model is in fastbp-digits.safetensors" in err
    code, _, err = run("train", "digits", "--epochs", 3, "--hidden", 16, "--resume", "--quiet")
    assert (
        code == 2 and "fastbp-digits.safetensors is there already and no checkpoint: that run is over" in err
    )


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_target_tells_no_rows_apart(fails, tmp_path, suffix):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"a": np.arange(40) % 7, "price": np.arange(40) * 1.5})
    if suffix == "csv":
        table.to_csv("t.csv", index=False)
    else:
        pytest.importorskip("pyarrow")
        table.to_parquet("t.parquet")
    fails(
        "train",
        f"t.{suffix}",
        "--target",
        "price",
        "--id",
        "price",
        *SMALL,
        says=["--id: got 'price'", "target"],
    )
