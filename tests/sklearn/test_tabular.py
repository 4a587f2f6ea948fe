"""preset="tabular": any columns in, sensible scores out."""

import decimal

import numpy as np
import pytest

pytest.importorskip("sklearn")
pandas = pytest.importorskip("pandas")
from sklearn.base import clone  # noqa: E402
from sklearn.datasets import load_breast_cancer, load_diabetes  # noqa: E402
from sklearn.model_selection import train_test_split  # noqa: E402
from sklearn.utils.estimator_checks import check_estimator  # noqa: E402

from fastbp.sklearn import MLPClassifier, MLPRegressor  # noqa: E402
from fastbp.sklearn.tabular import TabularPreprocessor, coslog4, smooth_clip  # noqa: E402


def people(rows=120, seed=0):
    """A frame of every kind of column, with gaps."""
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 90, rows).astype(float)
    age[::7] = np.nan
    town = rng.choice(["Rome", "Oslo", "Bonn"], rows).astype(object)
    town[3] = None
    return pandas.DataFrame({
        "age": age,
        "town": pandas.Categorical(town),
        "member": rng.random(rows) < 0.5,
        "children": pandas.array(rng.integers(0, 4, rows), dtype="Int64"),
        "constant": np.ones(rows),
    })  # fmt: skip


def test_columns_become_numbers():
    frame = people()
    with pytest.warns(UserWarning, match="left out 'constant' .one value, 1.; TabularPreprocessor.keep="):
        prepared = TabularPreprocessor().fit(frame)
    names = [
        "age",
        "age_missing",
        "town_Bonn",
        "town_Oslo",
        "town_Rome",
        "member",
        "children",
    ]
    assert list(prepared.get_feature_names_out()) == names
    out = prepared.transform(frame)
    assert out.dtype == np.float32 and out.shape == (120, 7) and np.abs(out).max() < 3
    age = frame["age"].to_numpy()
    known = ~np.isnan(age)
    low, middle, high = np.quantile(age[known], (0.25, 0.5, 0.75))
    scaled = (age[known] - middle) / (high - low)
    np.testing.assert_allclose(out[known, 0], scaled / np.sqrt(1 + (scaled / 3) ** 2), rtol=1e-5, atol=1e-6)
    assert (out[~known, 0] == 0).all()  # the median
    assert len(np.unique(out[known, 1])) == 1 and (out[~known, 1] > out[known, 1][0]).all()
    assert (out[3, 2:5] == out[:, 2:5].min(axis=0)).all()  # no town: no column is on
    assert set(np.sign(out[:, 5])) <= {-1.0, 0.0, 1.0} and len(np.unique(out[:, 5])) == 2
    assert prepared.left_out_ == {"constant": "one value, 1"}
    kept = TabularPreprocessor(keep=["constant"]).fit(frame)
    assert list(kept.get_feature_names_out()) == [*names, "constant"]
    assert (kept.transform(frame)[:, 7] == 0).all()


def test_what_is_new_and_what_is_wrong():
    frame = people()
    prepared = TabularPreprocessor().fit(frame)
    new = frame.iloc[:2].copy()
    new["town"] = "Paris"
    assert (prepared.transform(new)[:, 2:5] == prepared.transform(frame)[3, 2:5]).all()
    with pytest.raises(ValueError, match="feature names should match"):
        prepared.transform(frame.drop(columns="town"))
    with pytest.raises(ValueError, match="column 'age' has 'old' in row 0, takes numbers"):
        prepared.transform(frame.assign(age="old"))
    with pytest.raises(ValueError, match="infinity"):
        prepared.transform(frame.assign(age=np.inf))


def test_polars_and_arrays_of_objects_are_the_same_columns():
    polars = pytest.importorskip("polars")
    frame = people()[["age", "town", "children"]].astype({"town": object})
    town = [None if v is None or v != v else v for v in frame["town"]]
    other = polars.DataFrame({
        "age": polars.Series(frame["age"].to_numpy()).fill_nan(None),
        "town": town,
        "children": frame["children"].to_numpy(np.int64),
    })  # fmt: skip
    expected = TabularPreprocessor().fit_transform(frame)
    assert np.array_equal(TabularPreprocessor().fit_transform(other), expected)
    objects = np.column_stack(
        [frame["age"].to_numpy(object), np.array(town, object), frame["children"].to_numpy(object)]
    )
    assert np.array_equal(TabularPreprocessor().fit_transform(objects), expected)


def test_rare_categories_are_as_unknown_ones():
    values = [f"v{i}" for i in range(70) for _ in range(1 + (i < 64))]
    prepared = TabularPreprocessor().fit(pandas.DataFrame({"v": values}))
    out = prepared.transform(pandas.DataFrame({"v": ["v0", "v69", "new"]}))
    assert out.shape == (3, 64) and (out[1] == out[2]).all() and (out[0] != out[1]).any()


def test_preprocessor_passes_the_checks():
    done = check_estimator(TabularPreprocessor(), on_fail=None)
    assert [r["check_name"] for r in done if r["status"] not in ("passed", "skipped")] == []
    assert len(done) >= 40


def test_schedule():
    """Four cycles: 1 in the middle of each, 0 at its ends (2**k - 1) / 15."""
    ends = (2.0 ** np.arange(5) - 1) / 15
    np.testing.assert_allclose(coslog4(ends), 0, atol=1e-12)
    np.testing.assert_allclose(coslog4((2.0 ** (np.arange(4) + 0.5) - 1) / 15), 1)
    assert smooth_clip(1e9) == pytest.approx(3) and smooth_clip(0.01) == pytest.approx(0.01, rel=1e-4)


def test_it_learns_from_a_frame_with_gaps():
    frame = people(600)
    y = np.where((frame["town"] == "Oslo") ^ frame["member"], "yes", "no")
    X, Xt, y, yt = train_test_split(frame, y, random_state=0)
    model = MLPClassifier(preset="tabular", max_iter=30, random_state=0).fit(X, y)
    assert model.score(Xt, yt) > 0.95
    assert model.n_features_in_ == 5 and list(model.feature_names_in_) == list(frame.columns)
    assert model.coefs_[0].shape[1] == model.coefs_[1].shape[1] == 256 and model.coefs_[0].dtype == np.float32
    assert max(model.validation_scores_) == model.best_validation_score_ and model.n_iter_ == 30
    again = clone(model).fit(X, y)
    assert np.array_equal(again.predict_proba(Xt), model.predict_proba(Xt))


def test_what_the_user_says_stands_over_the_preset():
    X, y = load_breast_cancer(return_X_y=True)
    model = MLPClassifier((7,), preset="tabular", max_iter=3, dtype="float64", random_state=0).fit(X, y)
    assert [w.shape for w in model.coefs_] == [(30, 7), (7, 1)] and model.coefs_[0].dtype == np.float64
    assert model.get_params()["batch_size"] == "auto"  # parameters stay as they were given


def test_regression_in_the_targets_own_units():
    X, y = load_diabetes(return_X_y=True)
    X, Xt, y, yt = train_test_split(X, 1e4 + 100 * y, random_state=0)
    model = MLPRegressor(preset="tabular", max_iter=60, random_state=0).fit(X, y)
    assert model.score(Xt, yt) > 0.2
    assert model.predict(Xt).min() >= y.min() and model.predict(Xt).max() <= y.max()
    both = MLPRegressor(preset="tabular", max_iter=60, random_state=0).fit(X, np.c_[y, -y])
    assert both.predict(Xt).shape == (len(Xt), 2) and both.score(Xt, np.c_[yt, -yt]) > 0.2


def types_of(x):
    """(name, X) with the same column of numbers, or of days in their order, in every type."""
    polars, pyarrow = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    days = pandas.Timestamp("2020-06-01") + pandas.to_timedelta(np.round(x * 100), "D")
    values = [None, *np.round(x, 3).tolist()[1:]]
    exact = [None if v is None else decimal.Decimal(str(v)) for v in values]
    frame = {
        "float64": x,
        "objects": pandas.Series(x, dtype=object),
        "objects, one None": pandas.Series(values, dtype=object),
        "Decimal": exact,
        "text": [None if v is None else f"{v:.3f}%" for v in values],
        "nullable": pandas.array(values, dtype="Float64"),
        "Arrow": pandas.array(values, dtype="double[pyarrow]"),
        "days": days,
        "days, one missing": [None, *days[1:]],
        "days with a zone": days.tz_localize("Europe/Oslo"),
        "days as text": days.astype(str),
        "spans": days - days[0],
    }
    yield from ((name, pandas.DataFrame({"x": column})) for name, column in frame.items())
    yield "numpy objects", x[:, None].astype(object)
    yield "numpy days", days.to_numpy()[:, None]
    yield "names that are no text", pandas.DataFrame({0: pandas.Series(x, dtype=object)})
    yield "polars Decimal", polars.DataFrame({"x": exact})
    yield "polars days", polars.DataFrame({"x": days.to_pydatetime().tolist()})
    yield "Arrow table", pyarrow.table({"x": exact})


def test_numbers_and_dates_of_every_type_teach_alike(rng):
    """Objects and dates were one-hot, so that nothing was learned: 0.4 for 0.98."""
    x = rng.normal(size=200)
    y = (x > 0).astype(int)
    for name, X in types_of(x):
        prepared = TabularPreprocessor().fit(X)
        assert len(prepared.get_feature_names_out()) <= 9, name
        rows = prepared.transform(X)
        kept, held = np.arange(200) < 150, np.arange(200) >= 150
        model = MLPClassifier(preset="tabular", max_iter=20, random_state=0)
        cut = (lambda index: X.iloc[index]) if hasattr(X, "iloc") else lambda index: X.filter(index)  # noqa: B023
        if isinstance(X, np.ndarray):
            cut = lambda index: X[index]  # noqa: B023, E731
        assert model.fit(cut(kept), y[kept]).score(cut(held), y[held]) > 0.9, name
        assert np.array_equal(prepared.transform(cut(held)), rows[held]), name


def test_names_of_what_a_date_becomes(rng):
    days = pandas.Timestamp("2020-06-01") + pandas.to_timedelta(rng.integers(0, 900, 60), "D")
    frame = pandas.DataFrame({"d": [None, *days[1:]], "x": rng.random(60)})
    assert TabularPreprocessor().fit(frame).get_feature_names_out().tolist() == [
        "d_year", "d_season_sine", "d_season_cosine", "d_weekday_sine", "d_weekday_cosine", "d_age",
        "d_missing", "x",
    ]  # fmt: skip


def test_columns_that_say_nothing_are_left_out_unless_they_are_to_be_kept(rng):
    frame = pandas.DataFrame({"row": range(80), "x": rng.random(80), "who": [f"name {i}" for i in range(80)]})
    y = (frame.x > 0.5).astype(int)
    with pytest.warns(UserWarning, match="left out 'row' .numbers the rows, 0 to 79.; 'who' .80 different"):
        model = MLPClassifier(preset="tabular", max_iter=2).fit(frame, y)
    assert model.coefs_[0].shape[0] == 1 and model.n_features_in_ == 3
    with pytest.warns(UserWarning, match="left out 'who'"):
        model = clone(MLPClassifier(preset=TabularPreprocessor(keep=["row"]), max_iter=2)).fit(frame, y)
    assert model.coefs_[0].shape[0] == 2 and model.predict(frame).shape == (80,)
    with pytest.raises(ValueError, match="no column is left: 'who' .*keep"):
        TabularPreprocessor().fit(frame[["who"]])
    with pytest.raises(ValueError, match="preset: got 'table', takes None, 'tabular' or a TabularPreproc"):
        MLPClassifier(preset="table").fit(frame, y)
    with pytest.raises(ValueError, match="got two named 'x'"):
        TabularPreprocessor().fit(frame.set_axis(["x", "y", "x"], axis=1))


@pytest.mark.parametrize(
    "keep,message", [(["idd"], "keep: got 'idd'"), ("id", "keep: got 'id'"), ([-2], "keep: got -2")]
)
def test_columns_to_keep_that_are_not_there(keep, message):
    X = pandas.DataFrame({"id": np.arange(30), "x": np.linspace(0, 1, 30) ** 2})
    with pytest.raises(ValueError, match=message):
        TabularPreprocessor(keep=keep).fit(X)
    assert TabularPreprocessor(keep=["id"]).fit(X).transform(X).shape == (30, 2)
