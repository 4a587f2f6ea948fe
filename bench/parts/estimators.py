"""Estimators side by side on real data: accuracy by cross-validation, and the time that fit takes.

Two tables: fastbp's estimators against scikit-learn's own with the same settings, on every data set that
scikit-learn ships; and preset="tabular" against plain defaults, scikit-learn's MLP and gradient-boosted trees
on real tables with categories and missing values.
"""

import sys
import time
import warnings

import numpy as np
from sklearn import neural_network
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor, make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from fastbp import sklearn as ours

from ..steps import report
from . import tables

FOLDS = 5


def main(args):
    """Measure and print both tables; --rounds: fits of each fold, the fastest counts; --quick: 2 folds."""
    folds, rounds = (2, 1) if args.quick else (FOLDS, args.rounds or 3)
    warnings.simplefilter("ignore", ConvergenceWarning)
    same = [_same(*table, folds, rounds) for table in tables.shipped()]
    print(f"\n{folds}-fold scores (accuracy or R2), seconds a fit (the fastest of {rounds}): same settings")
    print(report.table(same_rows(same), args.markdown, left=2))
    found = []
    for name, classifies, X, y in tables.real():
        print(f"{name}: {X.shape[0]} x {X.shape[1]} ...", file=sys.stderr, flush=True)
        found.append(compare(name, classifies, X, y, rivals(classifies), folds, 1))
    print(f'\npreset="tabular" and others, {folds}-fold scores (accuracy or R2) and seconds a fit')
    print(report.table(preset_rows(found), args.markdown, left=2))
    content = {"folds": folds, "same": same, "preset": found}
    print(f"\nwritten: {report.write_json(args.json or f'{args.out}/estimators.json', content)}")
    return 0


def compare(name, classifies, X, y, models, folds, rounds):
    """{"score": {model: [per fold]}, "seconds": ...}; the models take turns, fold by fold."""
    cut = StratifiedKFold if classifies else KFold
    scores, seconds = ({key: [] for key in models} for _ in range(2))
    take = lambda rows: X.iloc[rows] if hasattr(X, "iloc") else X[rows]  # noqa: E731
    for train, test in cut(folds, shuffle=True, random_state=0).split(X, y):
        for key, model in models.items():
            times = []
            for _ in range(rounds):
                fitted = clone(model)
                start = time.perf_counter()
                fitted.fit(take(train), y[train])
                times.append(time.perf_counter() - start)
            seconds[key].append(min(times))
            scores[key].append(float(fitted.score(take(test), y[test])))
    shape = [len(X), X.shape[1]]
    return {"name": name, "classes": classifies, "shape": shape, "score": scores, "seconds": seconds}


def _same(name, classifies, X, y, folds, rounds):
    """fastbp's estimator in float64 and float32, and scikit-learn's, with the same settings."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    kind = "MLPClassifier" if classifies else "MLPRegressor"
    models = {
        "fastbp": getattr(ours, kind)(random_state=0),
        "float32": getattr(ours, kind)(random_state=0, dtype="float32"),
        "scikit-learn": getattr(neural_network, kind)(random_state=0),
    }
    models = {key: _scaled(model, classifies) for key, model in models.items()}
    models["fastbp"].fit(X, y), models["float32"].fit(X, y)  # the program is compiled, or loaded
    return compare(name, classifies, X, y, models, folds, rounds)


def _scaled(model, classifies, prepare=None):
    pipe = make_pipeline(prepare or StandardScaler(), model)
    return pipe if classifies else TransformedTargetRegressor(pipe, transformer=StandardScaler())


def rivals(classifies):
    """What preset="tabular" is compared with; the plain networks get scaled and one-hot columns."""
    kind = "MLPClassifier" if classifies else "MLPRegressor"
    trees = HistGradientBoostingClassifier if classifies else HistGradientBoostingRegressor
    prepare = make_column_transformer(
        (
            make_pipeline(SimpleImputer(strategy="median"), StandardScaler()),
            make_column_selector(dtype_include="number"),
        ),
        (
            OneHotEncoder(handle_unknown="ignore", sparse_output=False),
            make_column_selector(dtype_include="category"),
        ),
    )
    return {
        "preset": getattr(ours, kind)(preset="tabular", random_state=0),
        "plain": _scaled(getattr(ours, kind)(random_state=0), classifies, prepare),
        "scikit-learn": _scaled(getattr(neural_network, kind)(random_state=0), classifies, prepare),
        "boosted trees": trees(categorical_features="from_dtype", random_state=0),
    }


def same_rows(results):
    """The first table's rows."""
    head = [
        "data",
        "rows x columns",
        "fastbp",
        "float32",
        "scikit-learn",
        "fastbp",
        "float32",
        "scikit-learn",
    ]
    rows = [[*head, "faster"]]
    for r in results:
        row = [r["name"], "{} x {}".format(*r["shape"])]
        row += [f"{np.mean(r['score'][key]):.3f}" for key in r["score"]]
        row += [report.duration(1e6 * np.mean(r["seconds"][key])) for key in r["seconds"]]
        ratio = np.sum(r["seconds"]["scikit-learn"]) / np.sum(r["seconds"]["fastbp"])
        rows.append([*row, report.times(ratio)])
    return rows


def preset_rows(results):
    """The second table's rows."""
    names = list(results[0]["score"])
    rows = [["data", "rows x columns", *names, *(f"{name}, time" for name in names)]]
    for r in results:
        row = [r["name"], "{} x {}".format(*r["shape"])]
        row += [f"{np.mean(r['score'][key]):.3f}" for key in names]
        rows.append(row + [report.duration(1e6 * np.mean(r["seconds"][key])) for key in names])
    return rows
