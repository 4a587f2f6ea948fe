"""Few labels: which digit is it, when a hundred pictures have a label and 1,337 have none?

Data: 1,797 digits, Optical Recognition of Handwritten Digits, UCI
Licence: CC BY 4.0
Get: comes with fastbp
Shows: self_training: the network labels what it is sure of
"""

import numpy as np
from side_by_side import compare, quick
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.semi_supervised import SelfTrainingClassifier

import fastbp as fb
from fastbp import datasets
from fastbp.prepare import stratified_split

X, y = datasets.load("digits")
X = (X / 16).astype("float32")
X, Xt, y, yt = X[360:], X[:360], y[360:], y[:360]
epochs, rounds, sure = 20, 3 if quick else 10, 0.95


def drawn(seed):
    """Places of the rows without and with a label."""
    return stratified_split(y, 100 / len(y), seed)


def trainer(seed):
    net = fb.MLP([64, 128, 128, 10], dropout=0.2, seed=seed)
    return fb.Trainer(net, optimizer=fb.Adam(3e-3), seed=seed)


def fastbp(seed):
    (unknown, known), student = drawn(seed), trainer(seed)
    fb.self_training(student, X[known], y[known], X[unknown], threshold=sure, rounds=rounds, epochs=epochs)
    return student.evaluate(Xt, yt)["accuracy"]


def sklearn(seed):
    unknown, known = drawn(seed)
    labels = np.where(np.isin(np.arange(len(y)), known), y, -1)
    model = MLPClassifier(
        (128, 128), batch_size=32, learning_rate_init=3e-3, max_iter=epochs, random_state=seed
    )
    model = SelfTrainingClassifier(model, threshold=sure, max_iter=rounds)
    return model.fit(X, labels).score(Xt, yt)


def labelled_only(seed):
    (_, known), student = drawn(seed), trainer(seed)
    student.fit(X[known], y[known], epochs=5 * epochs)
    return student.evaluate(Xt, yt)["accuracy"]


def logistic(seed):
    _, known = drawn(seed)
    return LogisticRegression(max_iter=1000).fit(X[known], y[known]).score(Xt, yt)


comparison = compare(
    __doc__,
    "accuracy on 360 other digits",
    {
        "fastbp": fastbp,
        "scikit-learn's MLPClassifier, self-trained": sklearn,
        "fastbp on the 100 labels alone": labelled_only,
        "logistic regression on the 100 labels alone": logistic,
    },
)
