"""Diagnosis: is a breast tumour malignant, from 30 measures of its cells' nuclei?

Data: 569 patients, Breast Cancer Wisconsin (Diagnostic), UCI
Licence: CC BY 4.0
Get: comes with scikit-learn
Shows: fastbp.sklearn in a pipeline, cross-validated: only the import changes
"""

from side_by_side import compare, quick
from sklearn import neural_network
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastbp.sklearn

X, y = load_breast_cancer(return_X_y=True)
X = X.astype("float32")


def accuracy(model, seed):
    folds = StratifiedKFold(3 if quick else 10, shuffle=True, random_state=seed)
    return cross_val_score(make_pipeline(StandardScaler(), model), X, y, cv=folds).mean()


def network(kind):
    return lambda seed: accuracy(kind((64, 32), alpha=1, max_iter=50, random_state=seed), seed)


comparison = compare(
    __doc__,
    f"accuracy, {3 if quick else 10}-fold",
    {
        "fastbp": network(fastbp.sklearn.MLPClassifier),
        "scikit-learn's MLPClassifier": network(neural_network.MLPClassifier),
        "logistic regression": lambda seed: accuracy(LogisticRegression(), seed),
        "naive Bayes": lambda seed: accuracy(GaussianNB(), seed),
    },
)
