"""preset="tabular": any columns in, sensible scores out."""

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
    prepared = TabularPreprocessor().fit(frame)
    names = [
        "age",
        "age_missing",
        "town_Bonn",
        "town_Oslo",
        "town_Rome",
        "member_True",
        "children",
        "constant",
    ]
    assert list(prepared.get_feature_names_out()) == names
    out = prepared.transform(frame)
    assert out.dtype == np.float32 and out.shape == (120, 8) and np.abs(out).max() < 3
    age = frame["age"].to_numpy()
    known = ~np.isnan(age)
    low, middle, high = np.quantile(age[known], (0.25, 0.5, 0.75))
    scaled = (age[known] - middle) / (high - low)
    np.testing.assert_allclose(out[known, 0], scaled / np.sqrt(1 + (scaled / 3) ** 2), rtol=1e-5, atol=1e-6)
    assert (out[~known, 0] == 0).all()  # the median
    assert len(np.unique(out[known, 1])) == 1 and (out[~known, 1] > out[known, 1][0]).all()
    assert (out[3, 2:5] == out[:, 2:5].min(axis=0)).all()  # no town: no column is on
    assert set(np.sign(out[:, 5])) <= {-1.0, 0.0, 1.0} and len(np.unique(out[:, 5])) == 2
    assert (out[:, 7] == 0).all()


def test_what_is_new_and_what_is_wrong():
    frame = people()
    prepared = TabularPreprocessor().fit(frame)
    new = frame.iloc[:2].copy()
    new["town"] = "Paris"
    assert (prepared.transform(new)[:, 2:5] == prepared.transform(frame)[3, 2:5]).all()
    with pytest.raises(ValueError, match="feature names should match"):
        prepared.transform(frame.drop(columns="town"))
    with pytest.raises(ValueError, match="a column of numbers in fit now has text"):
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
