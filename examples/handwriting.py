"""Handwriting: which digit is it, seen on 8 x 8 pixels?

Data: 1,797 digits, Optical Recognition of Handwritten Digits, UCI
Licence: CC BY 4.0
Get: comes with fastbp
Shows: MLP and Trainer, dropout, a one-cycle schedule
"""

from side_by_side import compare, quick
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

import fastbp as fb
from fastbp import datasets, schedules

X, y = datasets.load("digits")
X = (X / 16).astype("float32")
X, Xt, y, yt = X[360:], X[:360], y[360:], y[:360]  # as they lie: a random split would mix the writers
epochs = 10 if quick else 50


def fastbp(seed):
    net = fb.MLP([64, 128, 128, 10], dropout=0.2, seed=seed)
    trainer = fb.Trainer(net, optimizer=fb.Adam(3e-3), schedule=schedules.OneCycle(), seed=seed)
    trainer.fit(X, y, epochs=epochs)
    return trainer.evaluate(Xt, yt)["accuracy"]


def sklearn(seed):
    model = MLPClassifier(
        (128, 128), batch_size=32, max_iter=epochs, n_iter_no_change=epochs, random_state=seed
    )
    return model.fit(X, y).score(Xt, yt)


def logistic(seed):
    return LogisticRegression(max_iter=1000).fit(X, y).score(Xt, yt)


comparison = compare(
    __doc__,
    "accuracy on 360 held-out digits",
    {"fastbp": fastbp, "scikit-learn's MLPClassifier": sklearn, "logistic regression": logistic},
)
