"""Tables as people have them: Excel's in two languages, with ids, dates, new categories; the whole way."""

import csv
import datetime
import gzip
import io
import json

import numpy as np
import pytest

import fastbp as fb

LONG = ["--hidden", "32", "--epochs", "150", "--patience", "0", "--lr", "0.01", "--threads", "1"]
LONG.append("--overwrite")


@pytest.fixture
def table(rng):
    """(columns as Python values, the target): size, price, when and share decide about it."""
    n = 600
    size, price = rng.normal(size=n) * 3000, rng.normal(size=n)
    days = [datetime.date(2020, 1, 1) + datetime.timedelta(int(i)) for i in rng.integers(0, 900, n)]
    season = np.array([np.sin(2 * np.pi * d.timetuple().tm_yday / 365) for d in days])
    share = rng.uniform(20, 90, n)
    y = 2 * size - 900 * price + 5000 * season + 50 * share
    return {"size": size, "price": price, "when": days, "share": share}, y


def german(value, digits=2):
    return f"{value:,.{digits}f}".replace(",", " ").replace(".", ",").replace(" ", ".")


def write(name, header, rows, delimiter, encoding):
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([header, *rows])
    data = text.getvalue().encode(encoding)
    with open(name, "wb") as file:
        file.write(gzip.compress(data) if name.endswith(".gz") else data)


def written(name, columns, y, way):
    """The table as Excel has it in German, English, or as no Excel has it."""
    if way == "German":
        form = [lambda v: german(v) + " €", german, lambda d: f"{d:%d.%m.%Y}", lambda v: german(v, 1) + " %"]
        last, how = (lambda v: german(v, 0)), (";", "cp1252")
    elif way == "English":
        form = [
            lambda v: f"${v:,.2f}",
            lambda v: f"{v:.3f}",
            lambda d: f"{d:%m/%d/%Y}",
            lambda v: f"{v:.1f}%",
        ]
        last, how = (lambda v: f"${v:,.0f}"), (",", "utf-16")
    else:
        form = [lambda v: f"{v!r}", lambda v: f"{v!r}", lambda d: f"{d} 00:00:00", lambda v: f"{v!r}"]
        last, how = (lambda v: f"{v!r}"), ("|", "utf-8")
    rows = zip(*(list(map(f, c if isinstance(c, list) else c.tolist()))
                 for f, c in zip(form, columns.values(), strict=True)), strict=True)  # fmt: skip
    rows = [[f"N{i:03}", *row] for i, row in enumerate(rows)]
    if y is not None:
        rows = [[*row, last(v)] for row, v in zip(rows, y.tolist(), strict=True)]
    write(name, ["Größe Nr", *columns, *(["target"] if y is not None else [])], rows, *how)


def part(columns, k):
    return {name: column[:k] for name, column in columns.items()}


@pytest.mark.parametrize("way", ["German", "English", "plain"])
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_the_whole_way(run, fails, table, way, packed):
    columns, y = table
    name = f"t.csv{packed}"
    written(name, columns, y, way)
    how = ["--encoding", "cp1252"] if way == "German" else []
    code, out, err = run("train", name, *how, *LONG, "--id", "Größe Nr", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert result["test"]["r2"] > 0.99 and result["task"].startswith("regression")
    assert ("decimal commas" in result["data"]) == (way == "German")
    assert "season" in result["features"]
    code, out, _ = run("evaluate", "fastbp-t.safetensors", name, *how, "--json")
    assert code == 0 and json.loads(out)["rmse"] < 0.2 * np.std(y)
    # three rows show little of how the file is written: the model knows it
    written(f"new.csv{packed}", part(columns, 3), None, way)
    code, out, _ = run("predict", "fastbp-t.safetensors", f"new.csv{packed}", *how)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0 and [row["Größe Nr"] for row in rows] == ["N000", "N001", "N002"]
    assert np.abs([float(row["target"]) for row in rows] - y[:3]).max() < 0.5 * np.std(y)
    if way != "plain":  # 55 for 55 %
        text = {
            "German": "Größe Nr;size;price;when;share\nN1;1.000,00 €;1,5;01.02.2020;55\n",
            "English": 'Größe Nr,size,price,when,share\nN1,"$1,000",1.5,02/13/2020,55\n',
        }[way]
        with open("unit.csv", "w", encoding="utf-8") as file:
            file.write(text)
        fails("predict", "fastbp-t.safetensors", "unit.csv",
              says=["unit.csv: column 'share' has '55' in line 2, takes numbers with %"])  # fmt: skip


def test_parquet_of_every_type(run, table):
    """Decimal, dates, categories, what is missing; rows without a target."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    from decimal import Decimal

    columns, y = table
    sizes = [None if i % 20 == 3 else Decimal(f"{v:.2f}") for i, v in enumerate(columns["size"])]
    targets = [None if i % 30 == 7 else float(v) for i, v in enumerate(y)]
    kinds = pyarrow.array([f"k{i % 3}" for i in range(600)]).dictionary_encode()
    made = {"nr": range(600), "size": sizes, "price": columns["price"], "when": columns["when"],
            "kind": kinds, "share": columns["share"], "target": targets}  # fmt: skip
    parquet.write_table(pyarrow.table(made), "t.parquet")
    code, out, err = run("train", "t.parquet", *LONG, "--id", "nr", "--drop-missing", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert "20 rows without a target left out" in result["data"] and "season" in result["features"]
    assert "kind: 3 categories" in result["features"] and "missing, the median" in result["features"]
    assert result["test"]["r2"] > 0.7
    code, out, _ = run("predict", "fastbp-t.safetensors", "t.parquet")
    assert code == 0 and out.splitlines()[0] == "nr,target" and len(out.splitlines()) == 601


def test_new_categories_and_missing_text(run, fails, rng):
    """Zeros and a count; --unknown error says the line, blank lines and comments counted."""
    kind = rng.integers(0, 3, 200)
    rows = [[f"u{k}", f"{k + rng.normal() * 0.1:.3f}", f"{k * 2.5 + 0.25}"] for k in kind]
    write("t.csv", ["c", "x", "y"], rows, ",", "utf-8")
    assert run("train", "t.csv", *LONG)[0] == 0
    with open("n.csv", "w") as file:
        file.write("# new\nc,x\n\nu1,1.0\nu9,1.0\n,1.0\n\nu2,2.0\nu9,0\n")
    argv = ["fastbp-t.safetensors", "n.csv", "--comment", "#"]
    code, out, err = run("predict", *argv)
    assert code == 0 and len(out.splitlines()) == 6 and err.count("\n") == 1
    assert "zeros for what the training never saw: column 'c' in 3 of 5 rows, such as 'u9'" in err
    assert abs(float(out.splitlines()[1]) - 2.75) < 0.5
    says = ["n.csv: column 'c' has 'u9' in line 5, takes 'u0', 'u1', 'u2'"]
    fails("predict", *argv, "--unknown", "error", says=says)
    with open("y.csv", "w") as file:
        file.write("c,x,y\nu1,1.0,2.75\nu9,1,2\n")
    assert run("evaluate", "fastbp-t.safetensors", "y.csv")[0] == 0
    fails("evaluate", "fastbp-t.safetensors", "y.csv", "--unknown", "error", says=["'u9' in line 3"])


def test_a_label_that_a_model_does_not_know(run, fails, rng):
    kind = rng.integers(0, 2, 200)
    write("t.csv", ["x", "y"], [[k + rng.normal() * 0.1, ["no", "yes"][k]] for k in kind], ",", "utf-8")
    assert run("train", "t.csv", *LONG)[0] == 0
    write("n.csv", ["x", "y"], [[1.0, "yes"], [0.0, "perhaps"]], ",", "utf-8")
    fails("evaluate", "fastbp-t.safetensors", "n.csv", says=["n.csv: got label 'perhaps' in line 3"])


def test_columns_without_names(run, fails, rng):
    """By their places, with text and per cents among them."""
    kind = rng.integers(0, 3, 200)
    rows = [[f"{k * 10 + 5}%", f"u{k}", rng.normal(), k * 2.5 + 0.25] for k in kind]
    write("t.csv", rows[0], rows[1:], ",", "utf-8")
    code, out, _ = run("train", "t.csv", *LONG, "--json")
    assert code == 0 and "no header line" in json.loads(out)["data"] and json.loads(out)["test"]["r2"] > 0.9
    write("n.csv", ["5%", "u0", 0.5], [["25%", "u2", 0.5]], ",", "utf-8")
    code, out, _ = run("predict", "fastbp-t.safetensors", "n.csv")
    assert code == 0
    assert np.allclose([float(v) for v in out.splitlines()[1:]], [0.25, 5.25], atol=0.7)
    write("n.csv", [5, "u0", 0.5], [[25, "u2", 0.5]], ",", "utf-8")
    fails("predict", "fastbp-t.safetensors", "n.csv", says=["takes numbers with %"])


def test_what_a_model_remembers_is_held_to_sense(run, fails, rng):
    write("t.csv", ["x", "y"], [[v, 2 * v] for v in rng.normal(size=100)], ",", "utf-8")
    assert run("train", "t.csv", *LONG, "--na", "none,-")[0] == 0
    trainer = fb.load("fastbp-t.safetensors")
    assert trainer.preparation.reading == {"absent": ["none", "-"]}
    for nonsense in ({"absent": 3}, {"decimal": ";"}, {"dates": "ymd"}, {"ids": [1]}, {"else": ""}):
        trainer.preparation.reading = nonsense
        trainer.save("bad.safetensors")
        fails("predict", "bad.safetensors", "t.csv", says=["bad.safetensors: does not say how its tables"])


def test_ids_that_are_absent_later_on(run, rng):
    rows = [[f"n{i}", v, 2 * v] for i, v in enumerate(rng.normal(size=100))]
    write("t.csv", ["id", "x", "y"], rows, ",", "utf-8")
    assert run("train", "t.csv", *LONG, "--id", "id")[0] == 0
    write("n.csv", ["x"], [[1.0], [2.0]], ",", "utf-8")
    code, out, _ = run("predict", "fastbp-t.safetensors", "n.csv")
    assert code == 0 and out.splitlines()[0] == "y"
    np.save("n.npy", np.array([[1.0], [2.0]]))
    assert run("predict", "fastbp-t.safetensors", "n.npy")[1] == out


def test_labels_of_arrays(run, rng):
    """Text in a file whose columns have no names."""
    kind = rng.integers(0, 2, 200)
    np.savez("t.npz", X=kind[:, None] + rng.normal(size=(200, 2)) * 0.1, y=np.array(["no", "yes"])[kind])
    assert run("train", "t.npz", *LONG)[0] == 0
    code, out, err = run("evaluate", "fastbp-t.safetensors", "t.npz", "--json")
    assert code == 0 and json.loads(out)["accuracy"] > 0.95, err
