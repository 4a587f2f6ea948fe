"""The command line after training: predict, evaluate, export, info, cache, bench; --json; frames of text."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastbp as fb
from fastbp.cli import info
from fastbp.engine import backend

ROOT = Path(fb.__file__).resolve().parents[1]


def write_csv(path, **columns):
    with open(path, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def read_csv(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def houses(rng, n=400):
    """Columns of numbers and text, far from 0; the price depends on all of them."""
    town = rng.choice(["Bergen", "Oslo", "Tromsø"], n)
    year, size = rng.integers(1900, 2020, n), rng.uniform(20, 200, n).round(1)
    price = (
        1e5 + 2000 * size + 1000 * (year - 1900) + np.select([town == "Oslo", town == "Bergen"], [2e5, 1e5])
    )
    return {"year": year, "town": town, "size": size, "id": np.arange(n), "price": price.round(2)}


LONG = ["--hidden", "32", "--epochs", "60", "--lr", "0.01", "--quiet", "--threads", "1", "--overwrite"]


@pytest.fixture
def model(run, rng):
    """A trained regression with a text column: (its file, the columns of its data)."""
    columns = houses(rng)
    write_csv("houses.csv", **columns)
    code, out, _ = run("train", "houses.csv", "--target", "price", "--drop", "id", *LONG)
    assert code == 0 and "town: 3 categories, one-hot" in out
    return "fastbp-houses.safetensors", columns


def test_predict_by_column_names_in_any_order(run, rng, model):
    path, _ = model
    new = houses(rng, 50)
    write_csv(
        "new.csv", note=["?"] * 50, town=new["town"], size=new["size"], price=[""] * 50, year=new["year"]
    )
    code, out, _ = run("predict", path, "new.csv", "--out", "predictions.csv")
    assert code == 0 and "50 rows" in out
    got = np.array([float(row["price"]) for row in read_csv("predictions.csv")])
    assert np.abs(got - new["price"]).max() < 0.15 * new["price"].std()
    code, out, _ = run("predict", path, "new.csv")
    assert code == 0 and out.splitlines()[0] == "price" and len(out.splitlines()) == 51
    code, out, _ = run("predict", path, "new.csv", "--out", "p.npy", "--json")
    assert json.loads(out) == {"command": "predict", "rows": 50, "columns": ["price"], "out": "p.npy"}
    assert np.allclose(np.load("p.npy")[:, 0], got, rtol=1e-6)
    code, out, _ = run("predict", path, "new.csv", "--json")
    result = json.loads(out)
    assert code == 0 and result["columns"] == ["price"] and np.allclose(result["predictions"], got[:, None])


def test_a_reader_that_goes_away_is_no_error(model):
    path, _ = model
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "fastbp", "predict", path, "houses.csv"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == "" and process.wait() == 141


@pytest.mark.parametrize(
    "redirection, code", [(">&-", 0), (">/dev/full", 2), (">&- 2>&-", 0), ("2>&-", 0)], ids=str
)
def test_closed_or_full_outputs(model, redirection, code):
    if not Path("/dev/full").exists():
        pytest.skip("takes Linux' /dev/full")
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    command = f"{sys.executable} -m fastbp predict {model[0]} houses.csv {redirection}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, env=variables)
    assert done.returncode == code and "Traceback" not in done.stderr and "Exception" not in done.stderr
    assert done.stderr.count("\n") == (code == 2)


def test_what_nobody_foresaw_is_one_line_and_1(run, model, monkeypatch):
    """Whatever is raised, a reader's panic too, which is no Exception."""

    class Panic(BaseException):
        pass

    for error, code, says in [
        (KeyError("size"), 1, "error: KeyError: 'size' (FASTBP_TRACEBACK=1"),
        (Panic("range end\nindex"), 1, "error: Panic: range end index (FASTBP"),
        (MemoryError(), 2, "error: not enough memory"),
        (RecursionError("too deep"), 2, "error: too deep"),
    ]:
        monkeypatch.setattr(fb.Trainer, "predict", lambda *_, error=error: (_ for _ in ()).throw(error))
        got, _, err = run("predict", model[0], "houses.csv")
        assert got == code and err.startswith(f"fastbp: {says}") and err.count("\n") == 1
    monkeypatch.setenv("FASTBP_TRACEBACK", "1")
    with pytest.raises(RecursionError):
        run("predict", model[0], "houses.csv")


def test_predictions_are_written_whole_or_not_at_all(run, fails, model, monkeypatch, tmp_path):
    """What was there stays where writing fails, and nothing is left over."""
    Path("p.csv").write_text("kept")
    full = OSError(28, "No space left on device")
    with monkeypatch.context() as patch:
        patch.setattr("fastbp.cli.use._write_csv", lambda *_: (_ for _ in ()).throw(full))
        fails("predict", model[0], "houses.csv", "--out", "p.csv", says=["No space left"])
    assert Path("p.csv").read_text() == "kept" and not list(tmp_path.glob(".*"))
    Path("p.csv").chmod(0o600)
    Path("link.csv").symlink_to("p.csv")
    assert run("predict", model[0], "houses.csv", "--out", "link.csv")[0] == 0
    assert Path("link.csv").is_symlink() and len(read_csv("p.csv")) == 400
    assert Path("p.csv").stat().st_mode & 0o777 == 0o600


def test_ids_go_along_as_they_are(run, fails, rng, model):
    path, columns = model
    codes = [f"{i:05}" for i in range(50)]
    new = {name: column[:50] for name, column in columns.items()}
    write_csv("new.csv", **{**new, "id": codes, "amount": ["123456789.25"] * 50})
    code, out, _ = run("predict", path, "new.csv", "--id", "id,amount", "--out", "p.csv")
    rows = read_csv("p.csv")
    assert code == 0 and list(rows[0]) == ["id", "amount", "price"]
    assert [row["id"] for row in rows] == codes and rows[7]["amount"] == "123456789.25"
    fails("predict", path, "new.csv", "--id", "price", says=["--id", "'price'", "predictions have too"])
    fails("predict", path, "new.csv", "--id", "idd", says=["got 'idd'; did you mean 'id'?"])
    np.save("t.npy", np.zeros((3, 3)))
    fails("predict", path, "t.npy", "--id", "id", says=["--id", ".csv"])
    write_csv("ids.csv", **columns)
    code, out, _ = run("train", "ids.csv", "--id", "id", *LONG, "--epochs", 1)
    assert code == 0 and fb.load("fastbp-ids.safetensors").preparation.names == ["year", "town", "size"]


def test_standard_input(run, model, monkeypatch):
    path, _ = model
    expected = run("predict", path, "houses.csv")[1]
    command = [sys.executable, "-m", "fastbp", "predict", path, "-"]
    done = subprocess.run(
        command, input=Path("houses.csv").read_bytes(), capture_output=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout.decode() == expected


def test_evaluate_takes_the_target_of_the_training(run, rng, model):
    path, _ = model
    new = houses(rng, 80)
    order = ["price", "town", "year", "size"]
    write_csv("test.csv", **{name: new[name] for name in order})
    code, out, _ = run("evaluate", path, "test.csv", "--json")
    scores = json.loads(out)
    assert code == 0 and scores["samples"] == 80 and scores["r2"] > 0.99
    predicted = fb.load(path).predict(fb.data.frames.Frame(order[1:], [new[n] for n in order[1:]]))[:, 0]
    rmse = np.sqrt(np.square(predicted - new["price"]).mean())
    assert scores["rmse"] == pytest.approx(rmse, rel=1e-5)
    code, out, _ = run("evaluate", path, "test.csv")
    assert code == 0 and "R2" in out and "RMSE" in out


def test_what_does_not_fit_the_model_is_said(run, fails, rng, model):
    path, columns = model
    new = {name: column[:5] for name, column in columns.items()}
    write_csv("absent.csv", town=new["town"], year=new["year"])
    fails("predict", path, "absent.csv", says=["absent.csv: has no column 'size'"])
    write_csv("unknown.csv", **{**new, "town": ["Oslo", "Oslo", "Paris", "Oslo", "Oslo"]})
    code, out, err = run("predict", path, "unknown.csv")
    assert code == 0 and len(out.splitlines()) == 6
    assert err.startswith("fastbp: warning: ") and "column 'town' in 1 of 5 rows, such as 'Paris'" in err
    write_csv("number.csv", **{**new, "size": ["big"] * 5})
    fails("predict", path, "number.csv", says=["column 'size'", "takes numbers"])
    np.save("wide.npy", np.zeros((3, 9)))
    fails("predict", path, "wide.npy", says=["(3, 9)", "(N, 3)"])
    fails("predict", "gone.safetensors", "absent.csv", says=["gone.safetensors: no such file"])
    fails("predict", path, "gone.csv", says=["gone.csv: no such file"])
    fails("predict", "houses.csv", "houses.csv", says=["no safetensors file"])
    fails("predict", path, "houses.csv", "--out", "x.xlsx", says=["--out", ".csv, .tsv, .parquet, .npy"])
    fails("evaluate", path, "absent.csv", says=["price"])


def test_missing_values_and_rare_categories(run, fails, rng):
    """Filled and said, in every command; a category that only the held-out part has is as an unknown one."""
    columns = {name: column.astype(object) for name, column in houses(rng).items()}
    columns["size"][::6], columns["town"][::9] = "NA", ""
    columns["town"][1], columns["town"][7] = "Hammerfest", "Vardø"
    write_csv("gaps.csv", **columns)
    code, out, _ = run("train", "gaps.csv", "--drop", "id", *LONG)
    assert code == 0 and "112 values missing" in out and "the median" in out
    assert re.search(r"town: [456] categories, one-hot, missing \(", out)
    code, out, _ = run("evaluate", "fastbp-gaps.safetensors", "gaps.csv", "--json")
    assert code == 0 and json.loads(out)["r2"] > 0.5
    code, out, _ = run("predict", "fastbp-gaps.safetensors", "gaps.csv")
    assert code == 0 and len(out.splitlines()) == 401 and "nan" not in out
    columns["price"][3] = ""
    write_csv("bad.csv", **columns)
    fails("train", "bad.csv", says=["'price' (the target)", "line 5", "missing value"])
    columns = {"name": [f"name {i}" for i in range(12)], "y": range(12)}
    write_csv("names.csv", **columns)
    assert run("train", "names.csv", *LONG)[0] == 0
    columns = {"name": [f"name {i}" for i in range(40)], "y": rng.integers(0, 2, 40)}
    write_csv("names.csv", **columns)
    fails(
        "train",
        "names.csv",
        *LONG,
        says=["column 'name' (32 different texts in 32 rows", "no column is left"],
    )


def test_labels_of_any_type_come_back(run, rng):
    for name, labels in (("text", ["no", "yes, sir"]), ("ints", [-1, 7]), ("many", ["a", "b", "c"])):
        kind = rng.integers(0, len(labels), 200)
        x = {f"x{i}": kind + rng.normal(size=200) * 0.05 for i in range(2)}
        write_csv(f"{name}.csv", **x, y=np.array(labels)[kind])
        for loss in ["cross_entropy"] + ["bce_with_logits"] * (len(labels) == 2):
            assert run("train", f"{name}.csv", "--loss", loss, *LONG)[0] == 0
            code, out, _ = run(
                "predict", f"fastbp-{name}.safetensors", f"{name}.csv", "--out", "p.csv", "--json"
            )
            rows = read_csv("p.csv")
            shown = labels if loss == "cross_entropy" else labels[1:]
            assert json.loads(out)["columns"] == ["y", *(f"probability {label}" for label in shown)]
            assert np.mean([row["y"] == str(labels[k]) for row, k in zip(rows, kind, strict=True)]) > 0.98
            code, out, _ = run("evaluate", f"fastbp-{name}.safetensors", f"{name}.csv", "--json")
            assert code == 0 and json.loads(out)["accuracy"] > 0.98
            assert fb.load(f"fastbp-{name}.safetensors").preparation.classes == sorted(labels)


def test_training_goes_on_from_raw_data(run, rng):
    """A model of the command line and its optimizer's state: raw data again, and the same bits."""
    kind = rng.integers(0, 2, 150)
    x = {"a": 1e6 + kind + rng.normal(size=150), "b": rng.choice(["u", "v"], 150)}
    write_csv("t.csv", **x, y=np.array(["n", "p"])[kind])
    argv = ["train", "t.csv", "--hidden", "8", "--quiet", "--threads", "1", "--patience", 0, "--epochs"]
    assert run(*argv, 2, "--out", "half")[0] == 0 and run(*argv, 4, "--out", "whole")[0] == 0
    from fastbp.files import read
    from fastbp.prepare import stratified_split

    table, half, whole = read("t.csv"), fb.load("half.safetensors"), fb.load("whole.safetensors")
    kept, _ = stratified_split(table.y, 0.2, 0)
    half.fit(table.X.rows(kept), np.array(table.classes)[table.y[kept]], epochs=2)
    assert np.array_equal(half.net.params, whole.net.params) and half.steps == whole.steps
    assert np.array_equal(half.slots, whole.slots)


def test_json_of_training_is_one_object(run):
    code, out, err = run("train", "digits", "--epochs", 2, "--hidden", 16, "--json")
    result = json.loads(out)
    assert code == 0 and out.count("\n") == 1 and not err
    assert result["test"]["accuracy"] > 0.3 and result["epochs"] == 2 and len(result["history"]["loss"]) == 2
    assert Path(result["model"]).exists() and result["interrupted"] is False


def test_parquet(run, rng):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table(houses(rng, 100)), "h.parquet")
    code, out, _ = run("train", "h.parquet", "--drop", "id", *LONG, "--json")
    assert code == 0 and "town: 3 categories" in json.loads(out)["features"]
    code, out, _ = run("evaluate", "fastbp-h.safetensors", "h.parquet", "--json")
    assert code == 0 and json.loads(out)["r2"] > 0.9
    code, out, _ = run("predict", "fastbp-h.safetensors", "h.parquet")
    assert code == 0 and len(out.splitlines()) == 101
    code, _, _ = run("predict", "fastbp-h.safetensors", "h.parquet", "--id", "id,town", "--out", "p.parquet")
    table = parquet.read_table("p.parquet")
    assert code == 0 and table.column_names == ["id", "town", "price"]
    assert table["id"].to_pylist() == list(range(100))
    assert np.allclose(table["price"].to_numpy(), [float(v) for v in out.splitlines()[1:]], rtol=1e-6)


def test_parquet_without_a_library_or_damaged(fails, monkeypatch):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    Path("t.parquet").write_bytes(b"PAR1 no PAR1")
    fails("train", "t.parquet", says=["t.parquet: Parquet file size is 12 bytes"])
    columns = [pyarrow.array([1.0, 2.0])] * 3
    parquet.write_table(pyarrow.Table.from_arrays(columns, names=["a", "a", "y"]), "twice.parquet")
    fails("train", "twice.parquet", says=["twice.parquet", "two named 'a'"])
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    fails("train", "t.parquet", says=["pip install 'fastbp[parquet]'"])


def test_any_damage_to_a_parquet_file_is_one_line(run, rng):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table(houses(rng, 50)), "t.parquet")
    whole, refused = np.frombuffer(Path("t.parquet").read_bytes(), np.uint8), 0
    for _ in range(150):
        data = whole.copy()
        data[rng.integers(0, len(data), 3)] = rng.integers(0, 256, 3)
        Path("d.parquet").write_bytes(data.tobytes())
        code, _, err = run("train", "d.parquet", "--target", "price", "--epochs", "1", "--hidden", "none",
                           "--overwrite", "--json", "--out", "d")  # fmt: skip
        assert code in (0, 2) and (code == 0 or (err.count("\n") == 1 and err.startswith("fastbp: error: ")))
        refused += code == 2
    assert refused > 75


def test_svmlight(run, fails, rng):
    pytest.importorskip("sklearn")
    lines = []
    for _ in range(200):
        label = rng.choice([-1, 1])
        places = sorted(rng.choice(np.arange(2, 30), 4, replace=False))
        lines.append(
            f"{label} 1:{label + rng.normal() * 0.1:.4f} "
            + " ".join(f"{p}:{rng.random():.3f}" for p in places)
        )
    Path("t.svmlight").write_text("\n".join(lines) + "\n")
    code, out, _ = run("train", "t.svmlight", *LONG, "--json")
    result = json.loads(out)
    assert code == 0 and "sparse" in result["data"] and result["test"]["accuracy"] > 0.9
    Path("few.svmlight").write_text("1 1:1\n-1 1:-1\n")  # columns at the end that no row has
    code, out, _ = run("predict", "fastbp-t.safetensors", "few.svmlight")
    assert code == 0 and [line.split(",")[0] for line in out.splitlines()[1:]] == ["1", "-1"]
    Path("bad.svmlight").write_text("1 1:x\n")
    fails("train", "bad.svmlight", says=["bad.svmlight: not readable as svmlight"])


def test_export(run, fails, model):
    path, columns = model
    code, out, _ = run("export", path, "--c", "--torch", "state.safetensors", "--json")
    assert code == 0 and json.loads(out)["c"] == "fastbp-houses.c"
    text = Path("fastbp-houses.c").read_text()
    assert "x[1] town=Bergen" in text and "#define PREDICT_INPUTS 5" in text
    from safetensors.numpy import load_file

    state = load_file("state.safetensors")
    assert {n: a.shape for n, a in state.items()} == {
        "0.weight": (32, 5), "0.bias": (32,), "2.weight": (1, 32), "2.bias": (1,)
    }  # fmt: skip
    net, trainer = fb.from_torch(state, "relu"), fb.load(path)
    names = ["year", "town", "size"]
    frame = fb.data.frames.Frame(names, [columns[n] for n in names])
    encoded = trainer.preparation.encode(frame)
    expected = trainer.predict(frame)
    assert np.abs(fb.Trainer(net, "mse").predict(encoded) - expected).max() < 1e-4 * expected.max()
    fails("export", path, says=["--onnx, --c or --torch"])


def test_export_onnx(run, model):
    pytest.importorskip("onnx")
    code, out, _ = run("export", model[0], "--onnx", "deep/model.onnx")
    assert code == 0 and Path("deep/model.onnx").stat().st_size > 500


# --- the machine


def test_info_names_the_machine(run):
    code, out, _ = run("info")
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert code == 0 and len(out.splitlines()) < 16
    for label in (
        "fastbp",
        "python",
        "numpy",
        "numba",
        "cpu",
        "features",
        "threads",
        "cuda",
        "cached",
        "loading",
    ):
        assert lines[label]
    code, out, _ = run("info", "--json")
    result = json.loads(out)
    assert code == 0 and result["fastbp"] == fb.__version__ and "GFLOP/s" in result["peak"]
    assert float(result["peak"].split()[0]) > 1
    assert result["cache"] == str(backend.cache_place()) and list(Path(result["cache"]).glob("*.nbc"))


def test_the_cache_is_where_the_machine_code_is(tmp_path):
    code = "from fastbp.engine import backend; print(backend.cache_place())"
    variables = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "here"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True)
    assert Path(done.stdout.strip()).parent == tmp_path / "here", done.stderr


def test_cache_clear_removes_machine_code_alone(run, tmp_path, monkeypatch):
    for name in ("program.run-1.py311.nbi", "program.run-1.py311.1.nbc", "program.cpython-311.pyc"):
        (tmp_path / name).write_bytes(b"x" * 1000)
    monkeypatch.setattr(backend, "cache_place", lambda: str(tmp_path))
    code, out, _ = run("cache", "clear", "--json")
    assert code == 0 and json.loads(out)["removed"] == "0.0 MB in 2 files"
    assert [f.name for f in tmp_path.iterdir()] == ["program.cpython-311.pyc"]
    monkeypatch.setattr(backend, "cache_place", lambda: None)
    code, out, _ = run("cache", "clear")
    assert code == 0 and "no writable place" in out


def test_cache_warm_loads_every_precision(run, monkeypatch):
    loaded = []
    monkeypatch.setattr(backend, "load", lambda dtype: loaded.append(dtype.name))
    code, out, _ = run("cache", "warm")
    assert code == 0 and loaded == list(info.PRECISIONS) == ["float32", "float64"]
    assert "float32, float64" in out


def test_bench_passes_its_arguments_on():
    """From any folder, to the bench of the clone that fastbp lies in."""
    if not (ROOT / "bench" / "__main__.py").exists():
        pytest.skip("takes a clone of the repository")
    command = [sys.executable, "-m", "fastbp", "bench", "--kernels", "--rounds", "0"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 2 and "python -m bench: error: --rounds: got 0, takes 1 or more" in done.stderr


def test_bench_where_it_is_not_installed(fails, monkeypatch):
    monkeypatch.setattr(info, "__file__", "/nowhere/fastbp/cli/info.py")
    fails("bench", "--quick", says=["not installed", "python -m bench in a clone"])


@pytest.mark.parametrize(
    "argv, says",
    [
        (["cache"], ["action", "fastbp cache --help"]),
        (["cache", "burn"], ["'burn'"]),
        (["predict", "m.safetensors"], ["DATA"]),
        (["export", "gone.safetensors", "--c"], ["gone.safetensors: no such file"]),
        (["info", "--threads"], ["--threads"]),
    ],
)
def test_bad_command_lines(fails, argv, says):
    fails(*argv, says=says)
