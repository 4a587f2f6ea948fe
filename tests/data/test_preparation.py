"""Preparation of columns: in the file and in use, missing values, names of classes, hostile files."""

import datetime
import decimal
import json

import numpy as np
import pytest
from libraries import frames_of

import fastbp as fb
from fastbp.data import columns
from fastbp.data.frames import Frame
from fastbp.data.written import Written
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
    preparation = Preparation.fit(X, classes=["n", "p"], keep=["n"])
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
    empty = Frame(["a", "b"], [np.full(3, np.nan), np.arange(3.0)])
    with pytest.warns(UserWarning, match="left out column 'a' .has no value in 3 rows"):
        preparation = Preparation.fit(empty)
    assert preparation.inputs == 1 and preparation.needed == ["b"]
    assert np.array_equal(
        preparation.transform(Frame(["b"], empty.columns[1:])), preparation.transform(empty)
    )
    preparation = Preparation.fit(Frame(["k", "x"], [np.array(["u", "v", "u"]), np.arange(3.0)]))
    gap = Frame(["k", "x"], [np.array(["u", ""]), np.arange(2.0)])
    with pytest.warns(UserWarning, match="column 'k' in 1 of 2 rows, where a value is missing"):
        assert (preparation.transform(gap)[1, :2] == 0).all()
    preparation.unknown = "error"
    with pytest.raises(ValueError, match="column 'k' has a missing value in row 1, takes 'u', 'v'"):
        preparation.transform(gap)
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
        {"classes": ["n"]}, {"classes": [[], []]}, {"target": 3}, {"categories": 3}, {"names": ["a", "a"]},
        {"dates": {"0": [["age"], float("nan")]}}, {"dates": {"0": [["hour"], 1.0]}}, {"dates": {"0": []}},
        {"dates": {"1": [["age"], 1.0]}}, {"dates": {"0": [["year", "age"], 1.0]}}, {"dates": 3},
        {"written": {"0": {"order": "ymd"}}}, {"written": {"0": {"decimal": ";"}}},
        {"written": {"0": {"x": 1}}},
        {"written": {"1": {}}}, {"left_out": {"0": "row"}}, {"left_out": {"5": "row"}},
        {"left_out": {"1": "x"}},
        {"unknown": "ones"}, {"target_written": {"decimal": []}}, {"rare": {"7": 3}},
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


def test_labels_that_are_missing(rng):
    X, labels = rng.standard_normal((6, 2)), np.array(["None", "NA", "nan"] * 2)
    trainer = fb.Trainer(fb.MLP([2, 3], seed=0))
    trainer.preparation = Preparation.fit(X, classes=["NA", "None", "nan"])
    trainer.fit(X, labels)  # which are texts as others
    gaps = np.array(["NA", None, "nan", "NA", np.nan, "None"], object)
    with pytest.raises(ValueError, match="y: has no label in row 1; .*fb.data.present"):
        trainer.fit(X, gaps)
    there = fb.data.present(gaps)
    trainer.fit(X[there], gaps[there])
    y = np.array([1.0, np.nan, 3.0, 5.0, np.nan, 7.0])
    preparation = Preparation.fit(X, y[:, None])
    assert preparation.y_mean.tolist() == [4.0] and preparation.y_scale.tolist() == [5**0.5]


def test_names_are_no_categories(rng):
    names = np.array([f"name {i}" for i in range(100)])
    with pytest.raises(ValueError, match="no column is left: column 'who' .100 different texts in 100 rows"):
        Preparation.fit(Frame(["who"], [names]))


# --- columns by their values


def moments(rng, rows=300):
    return np.datetime64("2019-01-01T00:00", "s") + rng.integers(0, 3 * 365 * 86400, rows)


def as_every_type(numbers):
    """(name, column of pandas, polars or Arrow) for the same numbers with one decimal, one missing."""
    pandas, polars, pyarrow = map(pytest.importorskip, ("pandas", "polars", "pyarrow"))
    values = [None, *numbers.round(1).tolist()[1:]]
    decimals = [None if v is None else decimal.Decimal(str(v)) for v in values]
    texts = [None if v is None else f"{v:,}" for v in values]
    yield "pandas", pandas.Series(values, dtype=float)
    yield "pandas nullable", pandas.Series(values, dtype="Float64")
    yield "pandas Arrow", pandas.Series(values, dtype="double[pyarrow]")
    yield "objects", pandas.Series(values, dtype=object)
    yield "Decimal", pandas.Series(decimals, dtype=object)
    yield "text", pandas.Series(texts, dtype=object)
    yield "dollars", pandas.Series([None if t is None else f"${t}" for t in texts])
    yield "seconds", pandas.Series(pandas.to_timedelta(pandas.Series(values, dtype=float), "s"))
    yield "polars", polars.Series(values)
    yield "polars Decimal", polars.Series(decimals)
    yield "polars text", polars.Series(texts)
    yield (
        "polars Duration",
        polars.Series([None if v is None else datetime.timedelta(seconds=v) for v in values]),
    )
    yield "Arrow", pyarrow.array(values)
    yield "Arrow Decimal", pyarrow.array(decimals)


def frame_with(column, **more):
    library = type(column).__module__.partition(".")[0]
    module = pytest.importorskip(library)
    return (module.table if library == "pyarrow" else module.DataFrame)({"x": column, **more})


def test_numbers_are_numbers_in_whatever_type(rng):
    numbers = rng.normal(2000, 700, 90)
    first = None
    for name, column in as_every_type(numbers):
        table = frame_with(column)
        preparation = Preparation.fit(table)
        assert preparation.input_names == ["x"] and preparation.gaps == {0: 1}, name
        found = preparation.transform(table, np.float64)
        first = found if first is None else first
        assert np.allclose(found, first, atol=1e-6), name


def test_dates_in_whatever_type_become_year_season_weekday_hour_and_age(rng):
    pandas, polars, pyarrow = map(pytest.importorskip, ("pandas", "polars", "pyarrow"))
    days = moments(rng)
    stamps = days.tolist()
    column = np.array(["2020-07-01T18:00", "2021-01-01T00:00"], "M8[s]")
    zone = pandas.Series(days).dt.tz_localize("Europe/Oslo", ambiguous=True, nonexistent="shift_forward")
    shifted = zone.dt.tz_localize(None).to_numpy().astype("M8[s]")
    kinds = {
        "numpy": Frame(["d"], [days]),
        "pandas": pandas.DataFrame({"d": days}),
        "objects": pandas.DataFrame({"d": pandas.Series(stamps, dtype=object)}),
        "text": pandas.DataFrame({"d": days.astype(str)}),
        "polars": polars.DataFrame({"d": stamps}),
        "Arrow": pyarrow.table({"d": stamps}),
    }
    names = [f"d ({part})" for part in columns.PARTS]
    for name, table in kinds.items():
        preparation = Preparation.fit(table)
        assert preparation.input_names == names, name
        encoded = preparation.encode(Frame(["d"], [column]))
        assert np.allclose(encoded, preparation.encode(pandas.DataFrame({"d": column.astype(str)})))
        latest = days.max()
        ages = [(latest - moment) / np.timedelta64(1, "D") for moment in column]
        season = 2 * np.pi * (31 + 29 + 31 + 30 + 31 + 30) / 366
        wednesday, friday = 2 * np.pi * 2 / 7, 2 * np.pi * 4 / 7
        expected = [
            [2020, np.sin(season), np.cos(season), np.sin(wednesday), np.cos(wednesday), -1, 0, ages[0]],
            [2021, 0, 1, np.sin(friday), np.cos(friday), 0, 1, ages[1]],
        ]
        assert np.allclose(encoded, expected, atol=1e-9), name
        gap = preparation.transform(pandas.DataFrame({"d": [None, *days[1:]]}))
        assert np.isfinite(gap).all(), name
    if not (shifted == days).all():  # an hour that the clock passed over
        days = shifted
    for table in (
        pandas.DataFrame({"d": zone}),
        polars.DataFrame({"d": zone.dt.tz_convert(None).to_numpy().astype("M8[us]")}).select(
            polars.col("d").dt.replace_time_zone("UTC").dt.convert_time_zone("Europe/Oslo")
        ),
        pyarrow.Table.from_pandas(pandas.DataFrame({"d": zone})),
    ):
        clock = Preparation.fit(Frame(["d"], [days])).encode(Frame(["d"], [days]))
        assert np.allclose(Preparation.fit(table).encode(table), clock, atol=1e-6)


def test_parts_of_dates_that_never_change_are_none(rng):
    days = np.datetime64("2020-01-01") + np.arange(200) % 180
    assert Preparation.fit(Frame(["d"], [days])).dates[0].parts == columns.PARTS[1:5] + columns.PARTS[-1:]
    times = pytest.importorskip("pandas").DataFrame({"t": [datetime.time(h) for h in range(24)] * 2})
    assert Preparation.fit(times).dates[0].parts == ("hour sine", "hour cosine", "age")
    monthly = np.array([f"20{y}-{m:02}-01" for y in range(10, 20) for m in range(1, 13)])
    assert Preparation.fit(Frame(["d"], [monthly])).written[0] == Written("ymd")


def test_what_was_learned_of_columns_is_in_the_file(rng, tmp_path):
    """A single row, in use, is read as the training was: decimal comma, day first, the currency."""
    days = moments(rng)
    table = {
        "when": np.array([f"{d.day}/{d.month}/{d.year}" for d in days.tolist()]),
        "price": np.array([f"{v:.2f} \u20ac".replace(".", ",") for v in rng.normal(50, 10, 300)]),
        "kind": rng.choice(["u", "v"], 300),
        "id": rng.permutation(1000)[:300],
        "same": np.ones(300),
    }
    y = np.array([f"${v:,.0f}" for v in rng.normal(5000, 1000, 300)])
    X = Frame(list(table), list(table.values()))
    with pytest.warns(UserWarning, match="column 'id' .numbers the rows.*column 'same' .one value, 1"):
        preparation = Preparation.fit(
            X, y, target="pay", target_written=Written("", ".", "$"), unknown="error"
        )
    trainer = fb.Trainer(fb.MLP([preparation.inputs, 8, 1], seed=0), "mse", seed=0)
    trainer.preparation = preparation
    trainer.fit(X, y, epochs=3)
    trainer.save(tmp_path / "m.safetensors")
    again = fb.load(tmp_path / "m.safetensors")
    for name in ("names", "categories", "dates", "written", "left_out", "target_written", "unknown"):
        assert getattr(again.preparation, name) == getattr(preparation, name), name
    one = {"price": ["1.013,50 \u20ac"], "kind": ["u"], "when": ["3/4/2020"]}
    row = Frame(list(one), [np.array(v) for v in one.values()])
    assert np.array_equal(again.predict(row), trainer.predict(row))
    raw = again.preparation.encode(row)[0]
    assert raw[again.preparation.input_names.index("price")] == 1013.5
    age = (days.astype("M8[D]").max() - np.datetime64("2020-04-03")).astype(int)
    assert raw[again.preparation.input_names.index("when (age)")] == age
    assert abs(trainer.predict(X).mean() - 5000) < 3000  # in dollars
    with pytest.raises(ValueError, match="column 'kind' has 'w' in row 0, takes 'u', 'v'"):
        again.predict(Frame(row.names, [row.columns[0], np.array(["w"]), row.columns[2]]))
    with pytest.raises(
        ValueError, match="column 'price' has '\\$5' in row 0, takes numbers with \u20ac and a"
    ):
        again.predict(Frame(row.names, [np.array(["$5"]), *row.columns[1:]]))
    with pytest.raises(TypeError, match="column 'when' has dtype float64, takes dates"):
        again.predict(Frame(row.names, [*row.columns[:2], np.array([5.0])]))


def test_declared_categories_stay_what_they_are(rng):
    """The way to say that numbers are names: pandas' category, polars' Categorical, Arrow's dictionary."""
    pandas, polars, pyarrow = map(pytest.importorskip, ("pandas", "polars", "pyarrow"))
    codes = [5, 7, None, 7, 5] * 5
    texts = [None if v is None else str(v) for v in codes]
    for table in (
        pandas.DataFrame({"k": pandas.Categorical(codes)}),
        pandas.DataFrame({"k": pandas.Categorical(texts)}),
        polars.DataFrame({"k": texts}, schema={"k": polars.Categorical}),
        pyarrow.table({"k": pyarrow.array(codes).dictionary_encode()}),
        pyarrow.table({"k": pyarrow.array(texts).dictionary_encode()}),
    ):
        preparation = Preparation.fit(table)
        assert preparation.input_names == ["k=(missing)", "k=5", "k=7"]
        assert preparation.transform(table)[2].tolist() == [1, 0, 0]
    cut = pandas.DataFrame({"k": pandas.cut(rng.random(40), [0, 0.5, 1])})
    assert Preparation.fit(cut).input_names == ["k=(0.0, 0.5]", "k=(0.5, 1.0]"]


def test_texts_and_numbers_together(rng):
    pandas = pytest.importorskip("pandas")
    mixed = pandas.DataFrame({"x": pandas.Series([1, "1,013", 2.5, None, "7"] * 5, dtype=object)})
    assert Preparation.fit(mixed).encode(mixed)[:3, 0].tolist() == [1, 1013, 2.5]
    with pytest.raises(TypeError, match="column 'x': got 'a', takes numbers throughout, dates throughout or"):
        Preparation.fit(pandas.DataFrame({"x": pandas.Series([1, "a"], dtype=object)}))


# --- columns that say nothing


def rising(rng, rows, most):
    return np.sort(rng.permutation(most)[:rows])


ROWS = ["", "Unnamed: 0", "__index_level_0__", "rownames", "index", "Id", "ID", "row_id", "customer_id",
        "PassengerId", "level_0", "row nr"]  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_numbers_of_rows_by_their_name(rng, name):
    column, x = rng.permutation(10**6)[:50], rng.random(50)
    with pytest.warns(UserWarning, match="numbers the rows.*keep=... keeps a column all the same"):
        preparation = Preparation.fit(Frame([name, "x"], [column, x]))
    assert preparation.left_out.keys() == {0} and preparation.needed == ["x"] and preparation.inputs == 1
    assert preparation.transform(Frame(["x"], [x])).shape == (50, 1)  # it may be absent
    for keep in ([name], [0]):
        assert Preparation.fit(Frame([name, "x"], [column, x]), keep=keep).inputs == 2


def test_numbers_of_rows_by_how_they_rise(rng):
    """All of them, or the part that is trained on; downwards too; as text and as floats; without a name."""
    for column in (  # "t" would be a time
        np.arange(60), np.arange(1, 61), np.arange(60.0), np.arange(60)[::-1], rising(rng, 60, 100),
        np.arange(60).astype(str),
    ):  # fmt: skip
        with pytest.warns(UserWarning, match="numbers the rows"):
            assert Preparation.fit(Frame(["n", "x"], [column, rng.random(60)])).left_out.keys() == {0}
    with pytest.warns(UserWarning, match="column 0 .numbers the rows, 0 to 59"):
        preparation = Preparation.fit(np.c_[np.arange(60), rng.random((60, 2))])
    assert preparation.transform(np.c_[np.arange(5), rng.random((5, 2))]).shape == (5, 2)
    assert preparation.transform(rng.random((5, 2))).shape == (5, 2)
    with pytest.raises(ValueError, match=r"got shape \(5, 4\), takes \(N, 3\) or \(N, 2\), without those"):
        preparation.transform(rng.random((5, 4)))


def test_numbers_that_count_nothing(rng, recwarn):
    years = np.arange(1960, 2020)
    several = {"index": np.arange(60) // 2, "id": rng.integers(0, 30, 60), "year": years,
               "shuffled": rng.permutation(60), "away": np.arange(10, 70),
               "price": np.cumsum(rng.integers(100, 900, 60)),
               "humid": rng.permutation(1000)[:60], "few": np.arange(60) % 2,
               "x": np.sort(rng.random(60))}  # fmt: skip
    assert Preparation.fit(Frame(list(several), list(several.values()))).left_out == {}
    for name in ("t", "age", "day_of_year", "Year.2", "time"):
        assert Preparation.fit(Frame([name, "x"], [np.arange(60), rng.random(60)])).left_out == {}
    assert Preparation.fit(np.arange(60)[:, None]).left_out == {}  # all that there is
    assert Preparation.fit(np.arange(10.0)[:, None] * [1, 2]).left_out == {}  # too few to tell
    assert not recwarn.list


def test_constants_names_and_nothing(rng):
    table = {
        "one": np.full(60, 7),
        "text": np.full(60, "u"),
        "none": np.full(60, np.nan),
        "blank": np.full(60, ""),
        "who": np.array([f"name {i}" for i in range(60)]),
        "x": rng.random(60),
    }
    X = Frame(list(table), list(table.values()))
    with pytest.warns(UserWarning, match="left out"):
        preparation = Preparation.fit(X)
    assert preparation.left_out == {
        0: "one value, 7", 1: "one value, u", 2: "has no value in 60 rows", 3: "has no value in 60 rows",
        4: "60 different texts in 60 rows, such as 'name 0'",
    }  # fmt: skip
    with pytest.warns(UserWarning, match="left out"):  # what has no value cannot be kept
        kept = Preparation.fit(X, keep=list(table))
    assert kept.left_out.keys() == {2, 3} and kept.inputs == 1 + 1 + 60 + 1
    with pytest.raises(ValueError, match="keep: got 'y'.*Known: one, text"):
        Preparation.fit(X, keep=["y"])
    pixels = np.zeros((30, 4), np.uint8)
    assert Preparation.fit(pixels).left_out == {} and Preparation.fit(pixels.astype(float)).left_out == {}


def test_of_many_categories_the_commonest(rng, recwarn):
    column = np.array([f"c{i:04}" for i in range(1500) for _ in range(2 + (i < 900))])
    preparation = Preparation.fit(Frame(["k", "x"], [column, rng.random(len(column))]))
    assert len(preparation.categories[0]) == 1000 and "1000 of 1,500 categories" in preparation.summary()
    assert set(column[: 900 * 3]) <= set(preparation.categories[0])
    assert (preparation.transform(Frame(["k", "x"], [column[-1:], np.ones(1)]))[0, :1000] == 0).all()
    assert not recwarn.list  # the rare ones are no news


# --- names


def test_names_that_stand_twice_are_refused_by_name(rng):
    pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    values, y = rng.standard_normal((20, 3)), rng.integers(0, 2, 20)
    twice = [
        pandas.DataFrame(values, columns=["a", "b", "a"]),
        pyarrow.Table.from_arrays([pyarrow.array(c) for c in values.T], ["a", "b", "a"]),
        Frame(["a", "b", "a"], list(values.T)),
    ]
    other = Frame(["a", "b", "c"], list(values.T))
    trainer = fb.Trainer(fb.MLP([3, 2], seed=0))
    trainer.fit(other, y)
    uses = [
        lambda t: fb.Trainer(fb.MLP([3, 2], seed=0)).fit(t, y),
        lambda t: trainer.predict(t),
        lambda t: Preparation.fit(t),
        lambda t: Preparation.fit(other).transform(t),
    ]
    for table in twice:
        for use in uses:
            with pytest.raises(ValueError, match="X: got two named 'a', takes columns whose names differ"):
                use(table)
    with pytest.raises(ValueError, match="got two named 'a'"):
        Preparation.fit(values, names=["a", "b", "a"])


def test_a_frame_of_another_library_is_prepared_as_ours(rng):
    """It went by unprepared."""
    pandas = pytest.importorskip("pandas")
    columns = {"x": rng.normal(50, 10, 40), "k": rng.choice(["u", "v"], 40)}
    table, ours = pandas.DataFrame(columns), Frame(list(columns), list(columns.values()))
    assert np.array_equal(Preparation.fit(table).transform(table), Preparation.fit(ours).transform(ours))
    rows = [[1.0, 2.0], [3.0, 5.0]]
    assert Preparation.fit(rows).transform(rows).tolist() == [[-1, -1], [1, 1]]
    objects = np.array([[1.5, "u"], [2.5, "v"]] * 5, object)
    assert Preparation.fit(objects).transform(objects)[:2].tolist() == [[-1, 1, 0], [1, 0, 1]]
    with pytest.raises(ValueError, match=r"X: got shape \(3,\), takes \(N, n\)"):
        Preparation.fit([1.0, 2.0, 3.0])


def test_numbers_of_any_size_are_saved_and_loaded(rng, tmp_path):
    """An infinite scale was written, and refused when it was read."""
    for size in (1e-300, 1e160, 1e300):
        X, y = rng.standard_normal((40, 2)) * size, rng.standard_normal((40, 1)) * size
        trainer = fb.Trainer(fb.MLP([2, 1], seed=0), "mse", seed=0)
        trainer.preparation = Preparation.fit(X, y)
        trainer.fit(X, y)
        trainer.save(tmp_path / "m.safetensors")
        again = fb.load(tmp_path / "m.safetensors").predict(X)
        assert np.array_equal(again, trainer.predict(X)) and np.isfinite(again).all()
        assert np.abs(again).max() > size / 1e3
    for table in (Frame(["a", "b"], [rng.random(2), np.array([1.7e308, -1.7e308])]),
                  Frame(["k", "b"], [np.array(["u", "v"]), np.array([1.7e308, -1.7e308])])):  # fmt: skip
        with pytest.raises(ValueError, match="X: column 'b' reaches from .* takes finite numbers"):
            Preparation.fit(table)
    with pytest.raises(ValueError, match="^y reaches from"):
        Preparation.fit(X, [[1.7e308], [-1.7e308]])
    gaps = np.array([[1.6e308], [1.7e308], [np.nan]])
    assert Preparation.fit(gaps).fill.tolist() == [1.6e308]  # the sum of both would be infinite
